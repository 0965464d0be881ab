"""Synthetic defects: that they can be seen, lie where the masks say, and differ in every way they should."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakrest_export import defects, raster, synthetic
from weakrest_export.cli import main
from weakrest_export.errors import ExportError
from weakrest_export.raster import Float, Mask
from weakrest_export.scene import Scene, Site
from weakrest_export.settings import SynthesisSettings

RNG = np.random.default_rng


def board(width: int, height: int, seed: int) -> Image.Image:
    """A gray texture that fills the picture."""
    return Image.fromarray(RNG(seed).normal(120, 8, (height, width)).clip(0, 255).astype(np.uint8))


def ring(size: int, seed: int) -> Image.Image:
    """A colored ring on white; inside the ring it is white, too."""
    y, x = np.mgrid[:size, :size] - size / 2
    radius = np.hypot(y, x)[..., None]
    pixels = np.where((radius < 0.4 * size) & (radius > 0.15 * size), (150, 90, 60), 250)
    return Image.fromarray((pixels + RNG(seed).normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8))


@pytest.fixture
def boards(tmp_path: Path) -> list[Path]:
    """Three gray pictures, one long and narrow."""
    return saved(tmp_path / "boards", board(403, 103, 0), board(150, 130, 1), board(128, 128, 2))


@pytest.fixture
def rings(tmp_path: Path) -> list[Path]:
    return saved(tmp_path / "rings", *(ring(160, seed) for seed in range(3)))


def saved(folder: Path, *images: Image.Image) -> list[Path]:
    folder.mkdir()
    for number, image in enumerate(images):
        image.save(folder / f"{number}.png")
    return synthetic.good_pictures(folder)


Sample = tuple[Float, Float, Mask, str]


def samples(goods: list[Path], out: Path, count: int, seed: int = 0) -> list[Sample]:
    """Good pixels, painted pixels, mask and type of each."""
    index = synthetic.synthesize(goods, out, SynthesisSettings(count, seed))
    read = []
    for line in map(json.loads, index.read_text("utf-8").splitlines()):
        with Image.open(out / line["defects"][0]["mask"]) as mask:
            inside = np.asarray(mask) > 127
        good, painted = synthetic.read(Path(line["leave_out"])), synthetic.read(out / line["image"])
        read.append((good, painted, inside, line["type"]))
    return read


def test_the_mask_is_what_visibly_changed(boards: list[Path], rings: list[Path], tmp_path: Path) -> None:
    for good, painted, mask, kind in samples(boards + rings, tmp_path / "out", 60):
        change = np.abs(painted - good).mean(axis=2)
        assert change[mask].mean() >= 3, kind
        assert (raster.grow(change > 0, 2) | ~mask).all(), kind
        # What is left out of the mask is faint beside what is in it.
        outside = change[~raster.grow(mask, 4)]
        assert outside.size == 0 or (outside > 60).mean() < 1e-3, kind


def test_only_what_can_be_seen_is_a_defect() -> None:
    def visible(change: float, texture: float = 0) -> Mask | None:
        """The mask of a change of the left half, where a defect was meant to cover all."""
        pixels = (120 + RNG(0).normal(0, 1, (60, 60, 1)) * texture).astype(np.float32)
        everywhere = np.ones((60, 60), bool)
        scene = Scene(pixels, everywhere, None, lambda _: pixels)
        painted = pixels.copy()
        painted[:, :30] += change
        return defects.visible(Site(scene, pixels, everywhere.astype(np.float32), 0, 0), painted)

    mask = visible(20)
    assert mask is not None
    assert mask[:, :30].all()
    assert not mask[:, 34:].any()
    assert visible(3) is None
    assert visible(10) is not None
    assert visible(10, texture=30) is None


def test_sizes_go_from_specks_to_a_large_part(boards: list[Path], tmp_path: Path) -> None:
    shares = [mask.mean() for _, _, mask, _ in samples(boards, tmp_path / "out", 150)]
    assert min(shares) < 2e-3
    assert max(shares) > 0.1
    assert 2e-3 < np.median(shares) < 0.06


def test_defects_are_of_many_kinds_and_sometimes_several(boards: list[Path], tmp_path: Path) -> None:
    kinds = [kind for _, _, _, kind in samples(boards, tmp_path / "out", 150)]
    assert {one for kind in kinds for one in kind.split("+")} == set(defects.KINDS)
    assert 0.15 < np.mean(["+" in kind for kind in kinds]) < 0.6


@pytest.mark.parametrize("name", defects.KINDS)
def test_every_kind_shows_on_every_good(
    name: str, boards: list[Path], rings: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defects, "KINDS", {name: defects.KINDS[name]})
    for goods, folder in ((boards, "gray"), (rings, "color")):
        found = samples(goods, tmp_path / folder, 6)
        assert {kind for _, _, _, kind in found} == {name}
        assert all(mask.any() for _, _, mask, _ in found)


def test_pictures_keep_their_size_and_stay_gray(boards: list[Path], tmp_path: Path) -> None:
    index = synthetic.synthesize(boards, tmp_path / "out", SynthesisSettings(12, 1))
    for line in map(json.loads, index.read_text("utf-8").splitlines()):
        with (
            Image.open(line["leave_out"]) as good,
            Image.open(index.parent / line["image"]) as painted,
            Image.open(index.parent / line["defects"][0]["mask"]) as mask,
        ):
            assert good.size == painted.size == mask.size
            assert painted.mode == mask.mode == "L"
            assert set(np.unique(np.asarray(mask))) <= {0, 255}


def test_some_pictures_are_a_bit_lighter_or_darker_all_over(rings: list[Path], tmp_path: Path) -> None:
    shifts = []
    for good, painted, mask, _ in samples(rings, tmp_path / "out", 40):
        shifts.append(float((painted.astype(float) - good)[~mask].mean()))
    assert 0.1 < np.mean([abs(shift) < 0.5 for shift in shifts]) < 0.7
    assert 0.5 < np.std(shifts) < 10


def test_defects_stay_on_the_object(
    rings: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "UNCHANGED", 1.0)
    touched = np.zeros((160, 160), bool)
    for good, painted, _, _ in samples(rings, tmp_path / "out", 40):
        touched |= (good != painted).any(axis=2)
    y, x = np.mgrid[:160, :160] - 80
    object_ = np.hypot(y, x) < 0.4 * 160 + 2
    assert not (touched & ~object_).any()
    assert touched[object_].mean() > 0.5


def test_the_object_is_what_the_border_is_not(rings: list[Path], boards: list[Path]) -> None:
    found = synthetic.find_object(synthetic.read(rings[0]))
    assert found is not None
    mask, color = found
    assert np.abs(color - 250).max() < 3
    # The hole is the background's color, but it is not connected with the border.
    assert mask[80, 80]
    assert abs(mask.mean() - np.pi * 0.4**2) < 0.02
    assert synthetic.find_object(synthetic.read(boards[0])) is None


def test_a_picture_depends_on_seed_and_number_only(rings: list[Path], tmp_path: Path) -> None:
    def made(name: str, count: int, seed: int, workers: int = 1) -> list[bytes]:
        synthetic.synthesize(rings, tmp_path / name, SynthesisSettings(count, seed, workers))
        return [path.read_bytes() for path in sorted((tmp_path / name).glob("*.png"))]

    three, other = made("three", 3, 7), made("other", 3, 8)
    assert made("five", 5, 7, workers=2)[:6] == three
    assert all(one != another for one, another in zip(three, other, strict=True))


def test_sixteen_bits_are_read_over_their_full_range(tmp_path: Path) -> None:
    pixels = np.full((40, 40), 128 * 257, np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    assert (synthetic.read(tmp_path / "deep.png") == 128).all()


Arrange = Callable[[Path], None]


def _broken(folder: Path) -> None:
    board(64, 64, 0).save(folder / "good" / "ok.png")
    (folder / "good" / "broken.png").write_bytes(b"no picture")


def _cut(folder: Path) -> None:
    board(64, 64, 0).save(folder / "whole.png")
    (folder / "good" / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:900])


def _tiny(folder: Path) -> None:
    board(64, 8, 0).save(folder / "good" / "tiny.png")


def _fine(folder: Path) -> None:
    board(64, 64, 0).save(folder / "good" / "ok.png")


def _used(folder: Path) -> None:
    _fine(folder)
    (folder / "out").mkdir()
    (folder / "out" / "notes.txt").touch()


@pytest.mark.parametrize(
    ("arrange", "arguments", "message"),
    [
        (lambda _: None, [], "good has no pictures (bmp, dib"),
        (_broken, [], "broken.png: cannot read this picture"),
        (_cut, [], "cut.png: cannot read this picture"),
        (_tiny, [], "tiny.png: too small to paint on"),
        (_used, [], "out is not empty: choose another output directory, or use --overwrite"),
        (_fine, ["--count", "0"], "count 0: must be at least 1"),
        (_fine, ["--seed", "-1"], "seed -1: must be at least 0"),
        (_fine, ["--workers", "0"], "workers 0: must be at least 1"),
        (_fine, ["--out", "good"], "good has the good pictures"),
        (
            _fine,
            ["--contact-sheet", "sheet.xyz"],
            "contact sheet sheet.xyz: its name must end in .jpg or .png",
        ),
    ],
)
def test_errors_say_what_to_do_and_leave_no_index(
    arrange: Arrange,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good").mkdir()
    arrange(tmp_path)
    assert main(["synthesize", "good", "--out", "out", "--count", "2", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("out", synthetic.INDEX).exists()


def test_an_interrupted_overwrite_leaves_no_index(boards: list[Path], tmp_path: Path) -> None:
    index = synthetic.synthesize(boards, tmp_path / "out", SynthesisSettings(2))
    with Image.open(boards[0]) as image:
        image.save(boards[0].with_name("cut.png"))
    cut = boards[0].with_name("cut.png")
    cut.write_bytes(cut.read_bytes()[:900])
    with pytest.raises(ExportError, match=r"cut\.png"):
        synthetic.synthesize([cut], index.parent, SynthesisSettings(2), overwrite=True)
    assert not index.exists()


def test_the_contact_sheet_shows_picture_and_outline(
    rings: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = ["--out", str(tmp_path / "out"), "--count", "7", "--contact-sheet", str(sheet)]
    assert main(["synthesize", str(rings[0].parent), *arguments]) == 0
    assert "7 pictures with synthetic defects, from 3 good ones" in capsys.readouterr().out
    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("RGB"))
    outline = (pixels == (255, 0, 255)).all(axis=2)
    # Two rows, each picture's outline in the right half of its place.
    assert outline[: outline.shape[0] // 2].any()
    assert outline[outline.shape[0] // 2 :].any()
    assert not outline[:, :160].any()
    assert outline[:, 180:340].any()
