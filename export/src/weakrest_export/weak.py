"""Weak labels made from the masks of a labeled data set, as a person would have drawn them."""

from collections.abc import Sequence
from pathlib import Path

from weakrest_export.errors import ExportError
from weakrest_export.labels import Box, Defect, Label, make_rotated, picture_size, read_mask
from weakrest_export.mask_files import Bits, refuse_inverted
from weakrest_export.shapes import components, smallest_box, upright_box
from weakrest_export.splits import Sample

GAP = 0.005
"""Share of the picture's longer side that may part two spots in one box: nobody boxes each speck."""


def weak_labels(samples: Sequence[Sample], kind: str) -> list[Label]:
    """One label for each defective sample.

    Args:
        samples: all with masks, except for tags.
        kind: `masks` as they are, upright `boxes` or `rotated` boxes of the least area round each connected
            component, or `tags`: defective and nothing else.

    Raises:
        ExportError: when a picture or mask is missing or cannot be read, or each mask looks inverted.
    """
    labels = []
    read: list[tuple[Path, Bits]] = []
    for sample in samples:
        size = picture_size(sample.image, sample.image.name)
        defects: list[Defect] = []
        if kind != "tags":
            if sample.mask is None:
                raise ExportError(f"{sample.image} has no mask to make {kind} from: use --kind tags")
            bits = read_mask(sample.mask, size)
            read.append((sample.mask.path, bits))
            if kind == "masks":
                defects.append(sample.mask)
            else:
                for points in components(bits, max(2, round(GAP * max(size)))):
                    if kind == "boxes":
                        defects.append(Box(*upright_box(points)))
                    else:
                        defects.append(make_rotated(smallest_box(points).tolist(), size, str(sample.image)))
        labels.append(Label(sample.image, size, "defective", tuple(defects), sample.defect))
    refuse_inverted(read)
    return labels
