"""Paints synthetic defects on good pictures, to train networks.

Picture i depends only on the good pictures, the seed and i: a larger count keeps the first pictures.
"""

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, lru_cache, partial, reduce
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from weakrest_export import pictures, raster
from weakrest_export.defects import paint
from weakrest_export.errors import Exit, ExportError
from weakrest_export.raster import Float, Mask, Rng, f32
from weakrest_export.scene import Scene
from weakrest_export.settings import SynthesisSettings

INDEX = "synthetic.jsonl"
SMALLEST = 16
"""Smallest accepted shorter side of a good picture, in pixels."""
UNCHANGED = 0.3
"""Share of the pictures with unchanged light."""

ATTEMPTS = 20
"""Good pictures to try for one synthetic picture. Few good pictures show no defect."""


def synthesize(
    goods: Sequence[Path], out: Path, settings: SynthesisSettings, overwrite: bool = False
) -> Path:
    """Writes pictures with masks and, last, their index; returns the index's path.

    Files: `NNNN.png`, gray if the good picture is gray; `NNNN_mask.png`, 0 or 255, same size; and
    `synthetic.jsonl`, a label file with the good pictures' absolute paths (`leave_out`).

    Raises:
        ExportError: if there are no good pictures, one cannot be read, or `out` is not empty.
    """
    goods = [path.resolve() for path in goods]
    if not goods:
        raise ExportError("there are no good pictures to paint on: name a folder with good pictures")
    for path in goods:
        # Reads the header: whether a broken file is noticed must not depend on the seed.
        with _opened(path):
            pass
    if out.resolve() in {path.parent for path in goods}:
        raise ExportError(f"{out} has the good pictures: choose another output directory")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not overwrite:
            raise ExportError(f"{out} is not empty: choose another output directory, or use --overwrite")
        index = out / INDEX
        index.unlink(missing_ok=True)
        digits = max(4, len(str(settings.count - 1)))
        paint_one = partial(_write_one, tuple(goods), out, settings.seed, digits)
        with _mapping(settings.workers) as mapped:
            lines = list(mapped(paint_one, range(settings.count)))
        unfinished = index.with_suffix(".partial")
        unfinished.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        unfinished.replace(index)
    except OSError as error:
        raise ExportError(f"cannot write to {out}: {error}", Exit.FAULT) from error
    return index


def good_pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, sorted by name. Raises ExportError if there are none."""
    return pictures.find(folder)[0]


Mapped = Callable[[Callable[[int], dict[str, object]], Sequence[int]], Iterator[dict[str, object]]]


@contextmanager
def _mapping(workers: int) -> Iterator[Mapped]:
    if workers == 1:
        yield map
        return
    # A fork of a process with threads, such as PyTorch's, may hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield partial(pool.map, chunksize=4)


def _write_one(goods: tuple[Path, ...], out: Path, seed: int, digits: int, number: int) -> dict[str, object]:
    rng = np.random.default_rng([seed, number])
    for _ in range(ATTEMPTS):
        path = goods[int(rng.integers(len(goods)))]
        scene = _scene(goods, path)
        scene = replace(scene, pixels=_another_shot(rng, scene.pixels))
        mask, kinds = paint(rng, scene)
        if mask.any():
            break
    else:
        raise ExportError(f"{path}: no defect on it would be visible: remove it")
    name, mask_name = f"{number:0{digits}}.png", f"{number:0{digits}}_mask.png"
    raster.image(scene.pixels).save(out / name, compress_level=1)
    Image.fromarray(mask.astype(np.uint8) * 255).save(out / mask_name)
    return {
        "image": name,
        "defects": [{"mask": mask_name}],
        "type": "+".join(sorted(set(kinds))),
        "leave_out": str(path),
    }


def _another_shot(rng: Rng, pixels: Float) -> Float:
    """The same part on another day: slightly other brightness, contrast, light and noise.

    Good pictures of one afternoon do not show this variation, and it is no defect.
    """
    if rng.random() < UNCHANGED:
        return pixels
    height, width, _ = pixels.shape
    gain, offset = np.exp(rng.normal(0, 0.03)), rng.normal(0, 2)
    # The direction of the light changes, too.
    down, across = rng.normal(0, 0.05, 2)
    falling = 1 + down * np.linspace(-0.5, 0.5, height)[:, None] + across * np.linspace(-0.5, 0.5, width)
    changed = ((pixels - 127.5) * gain + 127.5 + offset) * falling[..., None]
    if rng.random() < 0.3:
        changed = raster.blur(changed, rng.uniform(0.2, 0.6))
    changed = changed + rng.normal(0, rng.uniform(0, 2), pixels.shape)
    return f32(np.clip(changed, 0, 255))


def _scene(goods: tuple[Path, ...], path: Path) -> Scene:
    pixels = read(path)
    found = find_object(pixels) if _shows_object(goods) else None
    mask, background = found or (np.ones(pixels.shape[:2], bool), None)
    return Scene(pixels, mask, background, lambda rng: read(goods[int(rng.integers(len(goods)))]))


@cache
def _shows_object(goods: tuple[Path, ...]) -> bool:
    """Whether most of nine good pictures show an object on a plain background."""
    some = goods[:: max(1, len(goods) // 9)][:9]
    return 2 * sum(find_object(read(path)) is not None for path in some) > len(some)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise ExportError(f"{path}: cannot read this picture ({error}): repair or remove it") from error


def read(path: Path) -> Float:
    """Reads a picture: `[height, width, 1 or 3]`, 0..255. Gray pictures have one channel.

    Raises:
        ExportError: if it cannot be read or is too small.
    """
    return f32(_decoded(path))


# A small cache, in 8 bits: pictures may be large.
@lru_cache(maxsize=16)
def _decoded(path: Path) -> npt.NDArray[np.uint8]:
    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            pixels = (np.asarray(upright) / 257 + 0.5).astype(np.uint8)
        else:
            gray = upright.mode in ("1", "L", "LA")
            pixels = np.asarray(upright.convert("L" if gray else "RGB"))
    if min(pixels.shape[:2]) < SMALLEST:
        raise ExportError(f"{path}: too small to paint on: each side needs {SMALLEST} pixels")
    return pixels.reshape(*pixels.shape[:2], -1)


def find_object(pixels: Float) -> tuple[Mask, Float] | None:
    """Finds the object on a plain background: its mask, and the background's color; None without an object.

    The background resembles the picture's border and is connected with it. There is no object if the border
    has several colors, or if the object would fill less than 10 % or more than 90 %.
    """
    edge = max(1, min(pixels.shape[:2]) // 64)
    ring = np.ones(pixels.shape[:2], bool)
    ring[edge:-edge, edge:-edge] = False
    color = f32(np.median(pixels[ring], axis=0))
    # NumPy is slow to reduce a short last axis.
    distance = reduce(np.maximum, np.moveaxis(np.abs(pixels - color), 2, 0))
    spread = float(np.percentile(distance[ring], 95))
    if spread > 48:
        return None
    near = distance < max(_otsu(distance), spread)
    step = max(1, max(near.shape) // 128)
    small = near[::step, ::step]
    frame = np.pad(np.zeros((small.shape[0] - 2, small.shape[1] - 2), bool), 1, constant_values=True)
    outside = raster.grow(raster.flood(small, frame & small), 1)
    outside = np.kron(outside, np.ones((step, step), bool))[: near.shape[0], : near.shape[1]]
    mask = ~(near & outside)
    return (mask, color) if 0.1 <= mask.mean() <= 0.9 else None


def _otsu(values: Float) -> float:
    counts = np.histogram(values, bins=256, range=(0, 256))[0].astype(float)
    below = counts.cumsum()
    sums = (counts * np.arange(256)).cumsum()
    above = np.maximum(below[-1] - below, 1)
    between = (sums[-1] * below / below[-1] - sums) ** 2 / (np.maximum(below, 1) * above)
    return float(between.argmax() + 1)


def contact_sheet(index: Path, sheet: Path, *, pictures: int = 60, columns: int = 6, side: int = 180) -> None:
    """Draws the first pictures of an index as a grid, each beside a copy with the mask's outline.

    Raises:
        ExportError: if the sheet's ending is of no picture format, or it cannot be written.
    """
    lines = [json.loads(line) for line in index.read_text("utf-8").splitlines()[:pictures]]
    rows = -(-len(lines) // columns)
    grid = Image.new("RGB", (columns * (2 * side + 6), rows * (side + 14)), "white")
    draw = ImageDraw.Draw(grid)
    for at, line in enumerate(lines):
        left, top = at % columns * (2 * side + 6), at // columns * (side + 14)
        with Image.open(index.parent / line["image"]) as image:
            picture = image.convert("RGB")
        with Image.open(index.parent / line["defects"][0]["mask"]) as image:
            mask = image.convert("L")
        picture.thumbnail((side, side))
        inside = np.asarray(mask.resize(picture.size, Image.Resampling.BOX)) > 0
        outlined = np.asarray(picture).copy()
        outlined[raster.grow(inside, 1) & ~inside] = 255, 0, 255
        grid.paste(picture, (left, top))
        grid.paste(Image.fromarray(outlined), (left + side, top))
        draw.text((left + 2, top + side), f"{line['image']} {line['type']}", fill="black")
    try:
        grid.save(sheet, quality=92)
    except (OSError, ValueError) as error:
        raise ExportError(f"cannot write the contact sheet {sheet}: {error}") from error
