"""Block labels: one label per grid cell ("block") of a picture.

Labels are int8 `[rows, cols]`: `POSITIVE`, `NEGATIVE`, `IGNORED` (too mixed to say) or `UNKNOWN` (weakly
labeled, to be guessed).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from weakrest_export.errors import ExportError
from weakrest_export.labels import Area, Label, read_mask
from weakrest_export.pictures import pixels
from weakrest_export.shapes import Bits

Labels = NDArray[np.int8]

POSITIVE, NEGATIVE, IGNORED, UNKNOWN = 1, 0, -1, -2

SLIVER = 0.01
"""A block may have a defect if a box covers more than this share of it."""


@dataclass(frozen=True)
class Cells:
    """The grid over a picture.

    Attributes:
        rows: number of rows over the scaled picture's height.
        cols: number of columns over its width.
        stride: side of a cell in pixels of the scaled picture.
        content: width and height of the scaled picture. The last row and column may extend beyond it.
        frame: width and height of the original picture. Masks and boxes are in its pixels.
    """

    rows: int
    cols: int
    stride: int
    content: tuple[int, int]
    frame: tuple[int, int]

    @classmethod
    def of(cls, picture: Mapping[str, Any], stride: int) -> "Cells":
        """From a picture's entry in the index of residuals, and their stride.

        Raises:
            ExportError: if the grid does not fit the content.
        """
        (rows, cols), (width, height), frame = picture["grid"], picture["content"], tuple(picture["frame"])
        if (rows, cols) != (-(-height // stride), -(-width // stride)):
            raise ExportError(
                f"{picture.get('image')}: a grid of {rows}×{cols} cells of {stride} pixels does not cover "
                f"{pixels((width, height))} pixels: write the residuals again"
            )
        return cls(rows, cols, stride, (width, height), frame)

    def edges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The edges of cells in pixels of the picture: `[cols + 1]` x and `[rows + 1]` y."""
        x, y = (
            np.minimum(np.arange(n + 1) * self.stride, content) * (frame / content)
            for n, content, frame in zip((self.cols, self.rows), self.content, self.frame, strict=True)
        )
        return x, y


def block_share(mask: Bits, cells: Cells) -> NDArray[np.float32]:
    """Defective share of each block's area inside the picture, 0 to 1, `[rows, cols]`.

    A block's edge may be within a pixel. The pixel counts for each block with the part in it.

    Args:
        mask: `[height, width]` of the picture.
        cells: its grid.

    Raises:
        ExportError: if the mask has another size than the picture.
    """
    if mask.shape != cells.frame[::-1]:
        raise ExportError(
            f"a mask of {pixels(mask.shape[::-1])} pixels is not of a picture of {pixels(cells.frame)}"
        )
    x, y = cells.edges()
    area = np.outer(np.diff(y), np.diff(x))
    share: NDArray[np.float32] = (_sums(_sums(mask, y).T, x).T / area).astype(np.float32)
    return share


def from_mask(mask: Bits, cells: Cells, positive: float = 0.5, negative: float = 0.1) -> Labels:
    """Labels from a mask: POSITIVE from a share of `positive`, NEGATIVE up to a share of `negative`.

    Shares are relative to the fullest block of the same defect. Without that, a defect narrower than a block,
    such as a thin crack, would have no positive block. A speck that fills less than `negative` of every block
    has none.
    """
    share = block_share(mask, cells)
    regions = find_regions(share > 0)
    fullest = np.zeros(int(regions.max()) + 1, np.float32)
    np.maximum.at(fullest, regions, share)
    fullest[0] = 1
    share = share / fullest.clip(negative / positive)[regions]
    labels = np.where(share <= negative, NEGATIVE, IGNORED)
    return np.where(share >= positive, POSITIVE, labels).astype(np.int8)


def from_boxes(polygons: Sequence[ArrayLike], cells: Cells) -> Labels:
    """Labels from boxes: UNKNOWN where a box covers more than a sliver of the block, NEGATIVE elsewhere.

    If a box is too small for that, the blocks that it covers most are unknown.

    Args:
        polygons: convex, `[n, 2]` in pixels of the picture.
        cells: the picture's grid.
    """
    labels = good(cells)
    x, y = cells.edges()
    area = np.outer(np.diff(y), np.diff(x))
    for polygon in polygons:
        share = _covered(np.asarray(polygon, dtype=np.float64), x, y) / area
        labels[share > min(SLIVER, share.max() / 2)] = UNKNOWN
    return labels


def from_tag(cells: Cells) -> Labels:
    """Labels of a picture with only a defective tag: all UNKNOWN."""
    return np.full((cells.rows, cells.cols), UNKNOWN, dtype=np.int8)


def good(cells: Cells) -> Labels:
    """Labels of a good picture: all NEGATIVE."""
    return np.full((cells.rows, cells.cols), NEGATIVE, dtype=np.int8)


def from_label(label: Label, cells: Cells, positive: float = 0.5, negative: float = 0.1) -> Labels:
    """Labels from a line of the label file. A block that a mask makes positive stays positive in a box.

    Raises:
        ExportError: if the residuals are of another picture, or a mask cannot be read.
    """
    if label.size != cells.frame:
        raise ExportError(
            f"{label.image} has {pixels(label.size)} pixels, but its residuals are of a picture of "
            f"{pixels(cells.frame)}: write the residuals again"
        )
    if label.tag == "good":
        return good(cells)
    if not label.defects:
        return from_tag(cells)
    masks = [defect for defect in label.defects if isinstance(defect, Area)]
    boxes = [defect.corners for defect in label.defects if not isinstance(defect, Area)]
    made = from_boxes(boxes, cells)
    if masks:
        bits = np.logical_or.reduce([read_mask(mask, label.size) for mask in masks])
        exact = from_mask(bits, cells, positive, negative)
        made = np.where((made == UNKNOWN) & (exact != POSITIVE), UNKNOWN, exact).astype(np.int8)
    return made


def find_regions(blocks: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Numbers the connected areas of true blocks from 1, `[rows, cols]`; 0 elsewhere. Corners connect."""
    regions: NDArray[np.int16] = np.zeros(blocks.shape, np.int16)
    ndimage.label(blocks, np.ones((3, 3)), output=regions)
    return regions


def _sums(values: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of rows between fractional edges: `[n, m]` to `[len(edges) - 1, m]`."""
    sums = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=sums[1:])
    whole = np.minimum(edges.astype(int), len(values) - 1)
    part = (edges - whole)[:, None]
    return np.diff(sums[whole] * (1 - part) + sums[whole + 1] * part, axis=0)


def _covered(
    polygon: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The area of a convex polygon in each cell, `[rows, cols]`."""
    areas = np.zeros((len(y) - 1, len(x) - 1))
    for row, (top, bottom) in enumerate(pairwise(y)):
        band = _clip(_clip(polygon, 1, top, 1), 1, bottom, -1)
        if len(band) < 3:
            continue
        first, last = np.searchsorted(x, [band[:, 0].min(), band[:, 0].max()])
        for col in range(max(first - 1, 0), min(last, len(x) - 1)):
            areas[row, col] = _area(_clip(_clip(band, 0, x[col], 1), 0, x[col + 1], -1))
    return areas


def _clip(polygon: NDArray[np.float64], axis: int, bound: float, side: int) -> NDArray[np.float64]:
    """The part of a convex polygon above `bound` on `axis` (`side` 1) or below it (`side` -1)."""
    inside = side * (polygon[:, axis] - bound)
    kept = []
    for i, (point, depth) in enumerate(zip(polygon, inside, strict=True)):
        before = inside[i - 1]
        if before * depth < 0:
            kept.append(polygon[i - 1] + (point - polygon[i - 1]) * (before / (before - depth)))
        if depth >= 0:
            kept.append(point)
    return np.array(kept).reshape(-1, 2)


def _area(polygon: NDArray[np.float64]) -> float:
    x, y = polygon.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
