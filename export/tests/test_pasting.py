"""Labeled defects in other good pictures: what they look like, and what their labels say."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakrest_export import labels, pasting
from weakrest_export.labels import Box, Label, Mask, Rotated

SIZE = (80, 64)


@pytest.fixture
def goods(tmp_path: Path) -> list[Path]:
    """Three even gray pictures of different brightness."""
    paths = []
    for at, level in enumerate((90, 110, 130)):
        paths.append(tmp_path / f"good-{at}.png")
        Image.new("L", SIZE, level).save(paths[-1])
    return paths


def defective(folder: Path, defect: Box | Rotated | None = None) -> Label:
    """A dark spot of 12×10 pixels; its mask if no other defect is given."""
    pixels = np.full(SIZE[::-1], 120, np.uint8)
    pixels[20:30, 30:42] = 30
    Image.fromarray(pixels).save(folder / "bad.png")
    Image.fromarray((pixels < 60).astype(np.uint8) * 255).save(folder / "bad_mask.png")
    shape = defect or Mask(folder / "bad_mask.png")
    return Label(folder / "bad.png", SIZE, "defective", (shape,), "spot")


def test_the_defect_is_where_its_mask_says_and_as_dark_as_it_was(goods: list[Path], tmp_path: Path) -> None:
    made = pasting.paste([defective(tmp_path)], goods, tmp_path / "out", 12, 0)
    assert len(made) == 12
    places = set()
    for label in made:
        (mask,) = label.defects
        assert isinstance(mask, Mask)
        assert label.leave_out is not None
        bits = labels.read_mask(mask, label.size)
        pixels = np.asarray(Image.open(label.image), np.float32)
        below = np.asarray(Image.open(label.leave_out), np.float32)
        rows, cols = np.nonzero(bits)
        places.add((rows.min(), cols.min()))
        # The defect keeps its contrast to what surrounds it.
        assert abs((pixels - below)[bits].mean() + 90) < 15
        far = np.ones(bits.shape, bool)
        far[max(0, rows.min() - 8) : rows.max() + 8, max(0, cols.min() - 8) : cols.max() + 8] = False
        assert (pixels == below)[far].all()
        assert abs(rows.min() - 20) <= 64 * pasting.REACH
        assert abs(cols.min() - 30) <= 80 * pasting.REACH
    assert len(places) > 6
    assert labels.read(tmp_path / "out" / pasting.INDEX) == made


@pytest.mark.parametrize(
    "defect", [Box(28, 18, 44, 32), Rotated(((28.0, 18.0), (44.0, 18.0), (44.0, 32.0), (28.0, 32.0)))]
)
def test_a_box_moves_with_its_content(goods: list[Path], tmp_path: Path, defect: Box | Rotated) -> None:
    for label in pasting.paste([defective(tmp_path, defect)], goods, tmp_path / "out", 6, 1):
        (moved,) = label.defects
        assert type(moved) is type(defect)
        (left, top), (right, bottom) = moved.corners.min(0), moved.corners.max(0)
        assert (right - left, bottom - top) == (16, 14)
        dark = np.asarray(Image.open(label.image)) < 80
        rows, cols = np.nonzero(dark)
        assert top <= rows.min() <= rows.max() < bottom
        assert left <= cols.min() <= cols.max() < right


def test_pictures_of_another_size_are_scaled(goods: list[Path], tmp_path: Path) -> None:
    label = defective(tmp_path, Box(28, 18, 44, 32))
    for path in goods:
        Image.new("L", (160, 128), 100).save(path)
    for pasted in pasting.paste([label], goods, tmp_path / "out", 3, 2):
        (box,) = pasted.defects
        assert isinstance(box, Box)
        assert (box.right - box.left, box.bottom - box.top) == (32, 28)
        assert pasted.size == (160, 128)


def test_the_same_seed_pastes_the_same(goods: list[Path], tmp_path: Path) -> None:
    label = defective(tmp_path)
    first, second = (pasting.paste([label], goods, tmp_path / name, 3, 5) for name in ("a", "b"))
    for one, other in zip(first, second, strict=True):
        assert one.image.read_bytes() == other.image.read_bytes()
    other = pasting.paste([label], goods, tmp_path / "c", 3, 6)
    assert any(a.image.read_bytes() != b.image.read_bytes() for a, b in zip(first, other, strict=True))


def test_each_labeled_picture_takes_its_turn(goods: list[Path], tmp_path: Path) -> None:
    found = [defective(tmp_path), Label(tmp_path / "bad.png", SIZE, "defective", (Box(1, 1, 9, 9),), "box")]
    made = pasting.paste(found, goods, tmp_path / "out", 4, 0)
    assert [label.type for label in made] == ["spot", "box", "spot", "box"]
    assert [pasting.origin(label, found).type for label in made] == ["spot", "box", "spot", "box"]
