"""The label file: which pictures are good, and where the others have defects.

JSON Lines with one picture per line. Paths of pictures and masks are relative to the file's folder:

    {"image": "crack/000.png", "defects": [{"box": [10, 20, 50, 60]}], "type": "crack", "seconds": 5.5}
    {"image": "crack/001.png", "defects": [{"rotated": [[9, 20], [50, 12], [52, 24], [11, 32]]}]}
    {"image": "crack/002.png", "defects": [{"mask": "crack/002_mask.png", "rule": "above-half"}]}
    {"image": "crack/004.png", "defects": [{"polygon": [[9, 20], [50, 12], [30, 32]], "type": "dent"}]}
    {"image": "crack/003.png", "tag": "defective"}
    {"image": "ok/001.png", "tag": "good"}

The type of a line is that of its defects without one of their own.

Coordinates are pixel edges of the picture as viewers show it, x right and y down. A box over the whole
picture is `[0, 0, width, height]`.
"""

from weakrest_export.labels.masks import check_masks, is_empty, read_mask
from weakrest_export.labels.model import Area, Box, Defect, Label, Mask, Polygon, Rotated, Tag, summary
from weakrest_export.labels.reading import check, make_rotated, read
from weakrest_export.labels.writing import check_writable, write
from weakrest_export.mask_files import Rule
from weakrest_export.pictures import Size

__all__ = [
    "Area",
    "Box",
    "Defect",
    "Label",
    "Mask",
    "Polygon",
    "Rotated",
    "Rule",
    "Size",
    "Tag",
    "check",
    "check_masks",
    "check_writable",
    "is_empty",
    "make_rotated",
    "read",
    "read_mask",
    "summary",
    "write",
]
