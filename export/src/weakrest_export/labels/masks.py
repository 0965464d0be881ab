"""The masks that label files name."""

from collections.abc import Sequence

from weakrest_export import mask_files
from weakrest_export.errors import ExportError
from weakrest_export.labels.model import Label, Mask
from weakrest_export.mask_files import Bits
from weakrest_export.pictures import Size, pixels


def read_mask(mask: Mask, size: Size) -> Bits:
    """Which pixels are defective, see `mask_files.read`.

    Returns:
        `[height, width]`.

    Raises:
        ExportError: when the file cannot be read or is not clear, has another size than `size`, or no pixel
            is defective.
    """
    bits = mask_files.read(mask.path, mask.rule)
    if bits.shape != size[::-1]:
        found = pixels(bits.shape[::-1])
        raise ExportError(f"mask {mask.path} has {found} pixels, but its picture {pixels(size)}")
    if not bits.any():
        raise ExportError(f"no pixel of mask {mask.path} is defective: it is black")
    return bits


def is_empty(mask: Mask) -> bool:
    """Whether no pixel is defective, as in a few public data sets; raises ExportError if it is unreadable."""
    return not mask_files.read(mask.path, mask.rule).any()


def check_masks(labels: Sequence[Label]) -> None:
    """Reads every mask, before long work.

    Raises:
        ExportError: as `read_mask`; when each mask looks inverted.
    """
    masks = [(mask, label.size) for label in labels for mask in label.defects if isinstance(mask, Mask)]
    mask_files.refuse_inverted([(mask.path, read_mask(mask, size)) for mask, size in masks])
