"""Reads the masks of label files."""

from collections.abc import Sequence

from weakrest_export import mask_files, shapes
from weakrest_export.errors import ExportError
from weakrest_export.labels.model import Area, Label, Mask, Polygon
from weakrest_export.mask_files import Bits
from weakrest_export.pictures import Size, pixels


def read_mask(mask: Area, size: Size) -> Bits:
    """Reads which pixels are defective: those inside a polygon, and of a mask see `mask_files.read`.

    Returns:
        `[height, width]`.

    Raises:
        ExportError: if the file cannot be read or is ambiguous, does not have the size, or marks no pixel.
    """
    if isinstance(mask, Polygon):
        return shapes.filled(mask.points, size)
    bits = mask_files.read(mask.path, mask.rule)
    if bits.shape != size[::-1]:
        found = pixels(bits.shape[::-1])
        raise ExportError(f"mask {mask.path} has {found} pixels, but its picture has {pixels(size)}")
    if not bits.any():
        raise ExportError(f"mask {mask.path} marks no pixel: remove the defect, or draw the mask again")
    return bits


def is_empty(mask: Mask) -> bool:
    """Whether a mask marks no pixel, as in a few public data sets. Raises ExportError if it is unreadable."""
    return not mask_files.read(mask.path, mask.rule).any()


def check_masks(labels: Sequence[Label]) -> None:
    """Checks every mask before long work.

    Raises:
        ExportError: see `read_mask`; if every mask looks inverted.
    """
    masks = [(mask, label.size) for label in labels for mask in label.defects if isinstance(mask, Mask)]
    mask_files.refuse_inverted([(mask.path, read_mask(mask, size)) for mask, size in masks])
