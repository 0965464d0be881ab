"""Pastes labeled defects into good pictures, to train heads: each defect is seen on many parts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw

from weakrest_export import labels, raster, synthetic
from weakrest_export.errors import ExportError
from weakrest_export.labels import Area, Box, Defect, Label, Mask, Rotated
from weakrest_export.mask_files import Bits
from weakrest_export.raster import Float, Rng, f32

INDEX = "pasted.jsonl"

Values = TypeVar("Values", Float, Bits)

REACH = 0.12
"""Largest shift of a defect, relative to the picture's sides. Many defects belong to a place of the part."""

ATTEMPTS = 20
"""Places to try for one defect. A shift can push it out of the picture."""


@dataclass(frozen=True)
class _Source:
    """A labeled picture, scaled to a good picture's size."""

    pixels: Float
    region: Bits
    defects: tuple[Defect, ...]


def paste(found: Sequence[Label], goods: Sequence[Path], out: Path, count: int, seed: int) -> list[Label]:
    """Writes good pictures with the defects of labeled pictures, and their label file, in a new folder.

    Each labeled picture takes its turn. Masks are pasted as they are; of boxes the whole content is pasted.

    Args:
        found: labels with defects.
        goods: good pictures to paste into.
        out: folder to make.
        count: pictures to make.
        seed: of everything random.

    Returns:
        Their labels.

    Raises:
        ExportError: if a picture or mask cannot be read, or the folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        pasted = _paste_one(found[number % len(found)], goods, out / f"{number:04}", rng)
        if pasted is not None:
            made.append(pasted)
    # An empty label file cannot be read again.
    if made:
        labels.write(out / INDEX, made, overwrite=True)
    return made


def origin(pasted: Label, found: Sequence[Label]) -> Label:
    """The label whose defect a picture of `paste` shows."""
    return found[int(pasted.image.stem) % len(found)]


def _paste_one(label: Label, goods: Sequence[Path], stem: Path, rng: Rng) -> Label | None:
    for _ in range(ATTEMPTS):
        good = goods[int(rng.integers(len(goods)))]
        below = synthetic.read(good)
        source = _source(label, below)
        height, width = below.shape[:2]
        down, across = (
            int(rng.integers(-int(side * REACH), int(side * REACH) + 1)) for side in (height, width)
        )
        region = _shifted(source.region, down, across)
        if region.sum() < min(4, source.region.sum()):
            continue
        pasted = _blend(below, _shifted(source.pixels, down, across), region)
        image, mask = stem.with_suffix(".png"), stem.with_name(f"{stem.name}_mask.png")
        raster.image(pasted).save(image, compress_level=1)
        defects = _moved(source.defects, down, across, (width, height))
        if any(isinstance(defect, Area) for defect in source.defects):
            Image.fromarray(region.astype(np.uint8) * 255).save(mask)
            defects.append(Mask(mask))
        if defects:
            return Label(image, (width, height), "defective", tuple(defects), label.kind, leave_out=good)
    return None


def _source(label: Label, below: Float) -> _Source:
    """The labeled picture at the size and with the channels of the good one."""
    pixels = synthetic.read(label.image)
    height, width, channels = below.shape
    if pixels.shape[2] != channels:
        raise ExportError(
            f"{label.image}: gray and color pictures are mixed: the good pictures are not alike"
        )
    region = np.zeros(pixels.shape[:2], bool)
    polygons = Image.new("1", pixels.shape[1::-1])
    for defect in label.defects:
        if isinstance(defect, Area):
            region |= labels.read_mask(defect, label.size)
        else:
            ImageDraw.Draw(polygons).polygon([tuple(corner) for corner in defect.corners], fill=1)
    region |= np.asarray(polygons)
    x, y = width / pixels.shape[1], height / pixels.shape[0]
    if pixels.shape[:2] != (height, width):
        scaled = raster.image(pixels).resize((width, height), Image.Resampling.BILINEAR)
        pixels = f32(np.asarray(scaled).reshape(height, width, channels))
        share = Image.fromarray(region.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX)
        region = np.asarray(share) > 127
    return _Source(pixels, region, tuple(_scaled(defect, x, y) for defect in label.defects))


def _scaled(defect: Defect, x: float, y: float) -> Defect:
    if isinstance(defect, Box):
        return Box(defect.left * x, defect.top * y, defect.right * x, defect.bottom * y)
    if isinstance(defect, Rotated):
        return Rotated(tuple((px * x, py * y) for px, py in defect.points))
    return defect


def _moved(defects: Sequence[Defect], down: int, across: int, size: tuple[int, int]) -> list[Defect]:
    """The boxes after a shift; those that leave the picture are left out."""
    width, height = size
    moved: list[Defect] = []
    for defect in defects:
        if isinstance(defect, Box):
            left, right = (float(np.clip(v + across, 0, width)) for v in (defect.left, defect.right))
            top, bottom = (float(np.clip(v + down, 0, height)) for v in (defect.top, defect.bottom))
            if right - left >= 1 and bottom - top >= 1:
                moved.append(Box(left, top, right, bottom))
        elif isinstance(defect, Rotated):
            points = tuple((x + across, y + down) for x, y in defect.points)
            x, y = np.mean(points, 0)
            if 0 <= x <= width and 0 <= y <= height:
                moved.append(replace(defect, points=points))
    return moved


def _shifted(values: Values, down: int, across: int) -> Values:
    """Moves content. Pixels repeat at the edges they leave; a mask has nothing there."""
    height, width = values.shape[:2]
    rows, columns = np.arange(height) - down, np.arange(width) - across
    moved: Values = values[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)]
    if moved.dtype == bool:
        inside = np.outer((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
        moved[~inside] = False
    return moved


def _blend(below: Float, pixels: Float, region: Bits) -> Float:
    """The region of one picture in another, with soft edges, at the brightness of its new surroundings."""
    unit = max(1, round(max(region.shape) / 256))
    grown = raster.grow(region, 2 * unit)
    ring = raster.grow(grown, 4 * unit) & ~grown
    if ring.sum() > 20:
        pixels = pixels + (below[ring].mean(0) - pixels[ring].mean(0))
    alpha = raster.blur(f32(grown), unit)[..., None]
    return f32(np.clip(below * (1 - alpha) + pixels * alpha, 0, 255))
