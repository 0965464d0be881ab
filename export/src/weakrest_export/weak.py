"""Weak labels from the masks of a data set, as a person would draw them."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np

from weakrest_export.errors import ExportError
from weakrest_export.labels import Area, Box, Defect, Label, Rotated, Size, make_rotated, read_mask
from weakrest_export.mask_files import Bits, refuse_inverted
from weakrest_export.pictures import picture_size
from weakrest_export.shapes import components, is_convex, smallest_box, upright_box
from weakrest_export.splits import Sample

GAP = 0.005
"""Largest gap between two spots in one box, relative to the picture's longer side."""


def weak_labels(samples: Sequence[Sample], kind: str) -> list[Label]:
    """Makes one label for each defective sample.

    Args:
        samples: all with masks, except for tags.
        kind: `masks`; upright `boxes` around each connected component; `rotated` boxes of the least area;
            or `tags`, which only say defective.

    Raises:
        ExportError: if a picture or mask is missing or cannot be read, or every mask looks inverted.
    """
    labels = []
    read: list[tuple[Path, Bits]] = []
    for sample in samples:
        size = picture_size(sample.image, sample.image.name)
        defects: list[Defect] = []
        if kind != "tags":
            if sample.mask is None:
                raise ExportError(f"{sample.image} has no mask, which {kind} need: use --kind tags")
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


def jitter(
    defects: Sequence[Defect], size: Size, share: float = 0.01, *, rng: np.random.Generator
) -> tuple[Defect, ...]:
    """The defects as a hasty person would box them. Masks stay as they are.

    Each corner moves by up to `share` of the picture's width and height, uniformly. Upright boxes stay
    upright, and rotated boxes stay convex. No corner moves further out of the picture. Thin boxes move less.
    """
    return tuple(
        defect if isinstance(defect, Area) else _jitter(defect, size, share, rng) for defect in defects
    )


def _jitter(box: Box | Rotated, size: Size, share: float, rng: np.random.Generator) -> Box | Rotated:
    corners = box.corners[[0, 2]] if isinstance(box, Box) else box.corners
    low, high = np.minimum(corners, 0), np.maximum(corners, size)
    for attempt in count():
        reach = share * np.array(size) * 0.5 ** (attempt // 20)
        moved = np.clip(corners + rng.uniform(-reach, reach, corners.shape), low, high)
        if isinstance(box, Box):
            (left, top), (right, bottom) = moved.tolist()
            if left < right and top < bottom:
                return Box(left, top, right, bottom)
        elif is_convex(moved):
            return Rotated(tuple((x, y) for x, y in moved.tolist()))
    raise AssertionError("unreachable: the reach shrinks until the corners stay where they are")
