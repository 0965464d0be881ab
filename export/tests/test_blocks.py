"""Block labels against slow and obvious versions of themselves."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakrest_export import blocks
from weakrest_export.blocks import IGNORED, NEGATIVE, POSITIVE, UNKNOWN, Cells
from weakrest_export.errors import ExportError
from weakrest_export.labels import Box, Label, Mask

EVEN = Cells(rows=4, cols=6, stride=8, content=(48, 32), frame=(48, 32))


def random_cells(rng: np.random.Generator) -> Cells:
    """Scaled up or down, not alike in both directions, mostly with cells that reach beyond the content."""
    frame = (int(rng.integers(5, 60)), int(rng.integers(5, 60)))
    content = (int(rng.integers(3, 40)), int(rng.integers(3, 40)))
    stride = int(rng.choice([4, 8]))
    picture = {
        "grid": [-(-content[1] // stride), -(-content[0] // stride)],
        "content": content,
        "frame": frame,
    }
    return Cells.of(picture, stride)


def cell_in_frame(cells: Cells, row: int, col: int) -> tuple[float, float, float, float]:
    """Left, top, right, bottom."""
    sx, sy = cells.frame[0] / cells.content[0], cells.frame[1] / cells.content[1]
    right, bottom = (
        min((n + 1) * cells.stride, side) for n, side in zip((col, row), cells.content, strict=True)
    )
    return col * cells.stride * sx, row * cells.stride * sy, right * sx, bottom * sy


@pytest.mark.parametrize("seed", range(20))
def test_share_counts_each_pixel_with_the_part_in_the_block(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = random_cells(rng)
    mask = rng.random(cells.frame[::-1]) < rng.random()
    got = blocks.block_share(mask, cells)
    assert got.dtype == np.float32
    for row, col in np.ndindex(cells.rows, cells.cols):
        left, top, right, bottom = cell_in_frame(cells, row, col)
        defective = 0.0
        for y, x in np.argwhere(mask):
            wide, high = min(x + 1, right) - max(x, left), min(y + 1, bottom) - max(y, top)
            defective += max(wide, 0) * max(high, 0)
        assert got[row, col] == pytest.approx(defective / ((right - left) * (bottom - top)), abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_boxes_cover_what_sampling_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = random_cells(rng)
    angle, (w, h) = rng.uniform(0, np.pi), rng.uniform(2, 30, 2)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]]) @ turn + rng.uniform(0, cells.frame)
    if seed % 2:
        corners = corners[::-1]
    got = blocks.from_boxes([corners], cells)

    shares = np.zeros((cells.rows, cells.cols))
    steps = (np.arange(100) + 0.5) / 100
    for row, col in np.ndindex(cells.rows, cells.cols):
        left, top, right, bottom = cell_in_frame(cells, row, col)
        x, y = np.meshgrid(left + steps * (right - left), top + steps * (bottom - top))
        sides = []
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            sides.append((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0)
        shares[row, col] = np.mean(np.all(sides, axis=0) | ~np.any(sides, axis=0))
    clear = np.abs(shares - blocks.SLIVER) > 0.003
    assert (shares[clear] > blocks.SLIVER).any()
    np.testing.assert_array_equal((got == UNKNOWN)[clear], (shares > blocks.SLIVER)[clear])
    assert set(np.unique(got)) <= {UNKNOWN, NEGATIVE}


def test_thresholds_are_part_of_what_they_name() -> None:
    mask = np.zeros((32, 48), dtype=bool)
    mask[8:16, 0:24] = True  # full blocks, with which all that follow are connected
    mask[4:8, 0:8] = True  # half of block 0, 0
    mask[4:8, 8:16] = True
    mask[7, 8] = False  # a pixel less
    mask[7, 16:22] = True  # a tenth, less a bit
    assert blocks.from_mask(mask, EVEN)[0].tolist() == [POSITIVE, IGNORED, 0, 0, 0, 0]
    assert blocks.from_mask(mask, EVEN, negative=0.05)[0].tolist() == [POSITIVE, IGNORED, IGNORED, 0, 0, 0]
    assert blocks.from_mask(mask, EVEN, positive=0.45)[0].tolist() == [POSITIVE, POSITIVE, 0, 0, 0, 0]


def test_narrow_defects_have_positive_blocks_and_specks_have_none() -> None:
    mask = np.zeros((32, 48), dtype=bool)
    mask[3, 2:48] = True  # an eighth of each block, three quarters of that in the first
    mask[8, 0] = True
    mask[24:26, 46:48] = True
    made = blocks.from_mask(mask, EVEN)
    assert made[0].tolist() == [IGNORED] + 5 * [POSITIVE]
    assert made[1].tolist() == 6 * [NEGATIVE], "the same defect as the line above"
    assert made[3].tolist() == 5 * [NEGATIVE] + [IGNORED]
    assert blocks.from_mask(mask, EVEN, negative=0.02)[3].tolist() == 5 * [NEGATIVE] + [POSITIVE]


def test_the_rim_is_judged_by_what_is_inside_the_picture() -> None:
    cells = Cells(rows=1, cols=2, stride=8, content=(9, 8), frame=(9, 8))
    mask = np.zeros((8, 9), dtype=bool)
    mask[:, 8] = True
    assert blocks.from_mask(mask, cells).tolist() == [[NEGATIVE, POSITIVE]]


def test_boxes_that_share_a_border_or_a_sliver_do_not_touch() -> None:
    exact = Box(8, 8, 16, 16).corners
    a_sliver_more = Box(8 - 0.07, 8, 16, 16).corners
    more = Box(8 - 0.09, 8, 16, 16).corners
    assert np.argwhere(blocks.from_boxes([exact], EVEN) == UNKNOWN).tolist() == [[1, 1]]
    assert np.argwhere(blocks.from_boxes([a_sliver_more], EVEN) == UNKNOWN).tolist() == [[1, 1]]
    assert np.argwhere(blocks.from_boxes([more], EVEN) == UNKNOWN).tolist() == [[1, 0], [1, 1]]


def test_a_speck_is_not_lost() -> None:
    labels = blocks.from_boxes([Box(20, 20, 20.3, 20.3).corners, Box(0, 0, 8, 8).corners], EVEN)
    assert np.argwhere(labels == UNKNOWN).tolist() == [[0, 0], [2, 2]]


def test_each_kind_of_label(tmp_path: Path) -> None:
    mask = np.zeros((32, 48), dtype=np.uint8)
    mask[0:8, 0:8] = 255
    mask[0:2, 8:16] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")

    def made(*defects: Box | Mask, tag: str = "defective") -> list[int]:
        label = Label(tmp_path / "a.png", (48, 32), tag, defects)
        return blocks.from_label(label, EVEN)[0].tolist()

    drawn = Mask(tmp_path / "mask.png")
    assert made(tag="good") == [NEGATIVE] * 6
    assert made() == [UNKNOWN] * 6
    assert made(drawn) == [POSITIVE, IGNORED, NEGATIVE, NEGATIVE, NEGATIVE, NEGATIVE]
    assert made(Box(0, 0, 8, 8)) == [UNKNOWN] + [NEGATIVE] * 5
    assert made(drawn, Box(4, 0, 20, 8)) == [POSITIVE, UNKNOWN, UNKNOWN, NEGATIVE, NEGATIVE, NEGATIVE]


def test_refuses_what_belongs_to_another_picture() -> None:
    with pytest.raises(ExportError, match="mask of 32×48 pixels is not of a picture of 48×32"):
        blocks.block_share(np.zeros((48, 32), dtype=bool), EVEN)
    with pytest.raises(ExportError, match="write the residuals again"):
        blocks.from_label(Label(Path("a.png"), (32, 48), "good"), EVEN)
    with pytest.raises(ExportError, match="a grid of 4×7 cells of 8 pixels does not cover 48×32"):
        Cells.of({"image": "a.png", "grid": [4, 7], "content": [48, 32], "frame": [48, 32]}, 8)
