"""Clicks on a mask's cells: how a network sees them, and how a person would set the next one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from weakrest_export.adclick import RADIUS, STRIDE
from weakrest_export.shapes import Bits


@dataclass(frozen=True)
class Click:
    """A place on the scaled picture, in its pixels, and whether it is to be in the mask."""

    x: float
    y: float
    positive: bool


def disks(clicks: Sequence[Click], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Cells that positive and negative clicks cover, `[2, *shape]`, 0 or 1; the first maps of guidance."""
    maps = np.zeros((2, *shape), np.float32)
    y, x = np.ogrid[: shape[0], : shape[1]]
    for click in clicks:
        far = (STRIDE * (x + 0.5) - click.x) ** 2 + (STRIDE * (y + 0.5) - click.y) ** 2
        maps[0 if click.positive else 1][far <= RADIUS**2] = 1
    return maps


def next_click(truth: Bits, mask: Bits, known: Bits, rng: np.random.Generator | None = None) -> Click | None:
    """Where a person would click next: in the largest area that is wrong, or nowhere if there is none.

    Args:
        truth: `[h, w]`, which cells are defective.
        mask: `[h, w]`, which cells are in the mask so far.
        known: `[h, w]`, where there is a picture.
        rng: chooses among the half of the area that lies deepest inside; None: the deepest cell.
    """
    largest, positive = None, False
    for wrong, inside in ((truth & ~mask & known, True), (mask & ~truth & known, False)):
        regions, count = ndimage.label(wrong, np.ones((3, 3)))
        if not count:
            continue
        sizes = np.bincount(regions.ravel())[1:]
        if largest is None or sizes.max() > largest.sum():
            largest, positive = regions == 1 + int(sizes.argmax()), inside
    if largest is None:
        return None
    depth = ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]
    deep = np.argwhere(depth >= (depth.max() if rng is None else depth.max() / 2))
    # Of equally deep cells the first: the same mask gets the same click.
    row, col = deep[0 if rng is None else int(rng.integers(len(deep)))]
    return Click(STRIDE * (float(col) + 0.5), STRIDE * (float(row) + 0.5), positive)
