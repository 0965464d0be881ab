"""Shapes in pictures. Coordinates are pixel edges, x right and y down, from (0, 0) to (width, height)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Points = NDArray[np.float64]
"""`[n, 2]`, x and y."""
Bits = NDArray[np.bool_]
"""`[height, width]`, true for defective."""


def is_convex(polygon: ArrayLike) -> bool:
    """Whether four corners make a convex shape with an area. A self-intersecting shape is not convex."""
    sides = np.roll(polygon, -1, axis=0) - np.asarray(polygon, dtype=np.float64)
    ahead = np.roll(sides, -1, axis=0)
    turns = sides[:, 0] * ahead[:, 1] - sides[:, 1] * ahead[:, 0]
    return bool((turns > 0).all() or (turns < 0).all())


def filled(polygon: ArrayLike, size: tuple[int, int]) -> Bits:
    """The pixels with their centers inside a polygon (even-odd rule), as the program fills it."""
    width, height = size
    corners = np.asarray(polygon, dtype=np.float64)
    middles = np.arange(height)[:, None] + 0.5
    (x0, y0), (x1, y1) = corners.T, np.roll(corners, -1, axis=0).T
    rows, sides = np.nonzero((y0 <= middles) != (y1 <= middles))
    at = x0[sides] + (rows + 0.5 - y0[sides]) * (x1 - x0)[sides] / (y1 - y0)[sides]
    # From the first pixel with its center right of the edge on, inside becomes outside.
    starts = np.clip(np.floor(at - 0.5) + 1, 0, width).astype(np.intp)
    changes = np.zeros((height, width + 1), np.int64)
    np.add.at(changes, (rows, starts), 1)
    bits: Bits = changes.cumsum(axis=1)[:, :width] % 2 == 1
    return bits


def components(bits: Bits, gap: int) -> list[Points]:
    """The connected components, top one first. Components with a gap of at most `gap` pixels count as one.

    Returns:
        For each component the pixel corners that can be on its convex hull.
    """
    # Pixels grown to squares of gap + 1 touch exactly if at most gap pixels were between them.
    grown = ndimage.maximum_filter(np.pad(bits, gap), gap + 1, mode="constant", cval=0)
    regions = ndimage.label(grown, np.ones((3, 3)))[0][gap:, gap:][: bits.shape[0], : bits.shape[1]]
    # Only the ends of a row's runs can be corners of the hull.
    steps = np.diff(bits.astype(np.int8), axis=1, prepend=0, append=0)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    corners = np.stack([(starts, rows), (ends, rows), (starts, rows + 1), (ends, rows + 1)])
    if not rows.size:
        return []
    numbers = regions[rows, starts]
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    return [
        corners[:, :, group].transpose(2, 0, 1).reshape(-1, 2).astype(np.float64)
        for group in sorted(groups, key=lambda group: int(group[0]))
    ]


def upright_box(points: Points) -> tuple[float, float, float, float]:
    """Left, top, right, bottom."""
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right, bottom


def smallest_box(points: Points) -> Points:
    """The corners `[4, 2]` of the smallest rectangle around points that are not on one line."""
    hull = _hull(points)
    # A side of the smallest rectangle is along a side of the hull.
    sides = np.roll(hull, -1, axis=0) - hull
    along = sides / np.hypot(sides[:, 0], sides[:, 1])[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    u, v = hull @ along.T, hull @ across.T
    best = int(np.argmin(np.ptp(u, axis=0) * np.ptp(v, axis=0)))
    (u0, u1), (v0, v1) = ((w[:, best].min(), w[:, best].max()) for w in (u, v))
    axes = np.stack([along[best], across[best]])
    corners: Points = np.array([[u0, v0], [u1, v0], [u1, v1], [u0, v1]]) @ axes
    return corners


def _hull(points: Points) -> Points:
    ordered = [(float(x), float(y)) for x, y in np.unique(points, axis=0)]

    def half(way: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        kept: list[tuple[float, float]] = []
        for x, y in way:
            while len(kept) > 1:
                (x0, y0), (x1, y1) = kept[-2:]
                if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0:
                    break
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))
