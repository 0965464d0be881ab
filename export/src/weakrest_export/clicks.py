"""Clicks on a mask: the network's input for them, and the simulated next click."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from weakrest_export.adclick import RADIUS, STRIDE
from weakrest_export.shapes import Bits


@dataclass(frozen=True)
class Click:
    """A place in pixels of the scaled picture, and whether it belongs in the mask."""

    x: float
    y: float
    positive: bool


def disks(clicks: Sequence[Click], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Cells under positive and negative clicks, `[2, *shape]`, 0 or 1: the first maps of guidance."""
    maps = np.zeros((2, *shape), np.float32)
    y, x = np.ogrid[: shape[0], : shape[1]]
    for click in clicks:
        far = (STRIDE * (x + 0.5) - click.x) ** 2 + (STRIDE * (y + 0.5) - click.y) ** 2
        maps[0 if click.positive else 1][far <= RADIUS**2] = 1
    return maps


def next_click(truth: Bits, mask: Bits, known: Bits, rng: np.random.Generator | None = None) -> Click | None:
    """The next click of a person: in the largest wrong area; None if nothing is wrong.

    Args:
        truth: `[h, w]`, which cells are defective.
        mask: `[h, w]`, which cells are in the mask so far.
        known: `[h, w]`, cells with known truth.
        rng: chooses among the cells at least half as deep as the deepest; None: the deepest cell.
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
    # The first of equally deep cells: the same mask gets the same click.
    row, col = deep[0 if rng is None else int(rng.integers(len(deep)))]
    return Click(STRIDE * (float(col) + 0.5), STRIDE * (float(row) + 0.5), positive)
