"""Synthetic defects: good pictures, painted on, for training a head that judges residuals.

A defect is a shape (where and how strongly it covers), a fill (what shows there) and a blend factor;
`KINDS` says which go together. The mask holds what visibly changed, not what was meant to be painted.
Picture i depends on the good pictures, the seed and i only, so that a count can be raised later.
"""

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, UnidentifiedImageError

from weakrest_export.errors import Exit, ExportError

Float = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Rng = np.random.Generator

INDEX = "synthetic.jsonl"
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
VISIBLE = 4.0
"""Mean absolute difference, in gray levels of 255, below which nobody could be asked to find a defect."""
TRIES = 12


# ---------------------------------------------------------------------------------------- scenes


@dataclass
class Scene:
    """A picture while it is painted on.

    Attributes:
        pixels: `[height, width, 1 or 3]`, 0..255.
        foreground: `[height, width]`, where defects may be.
        background: color `[1 or 3]` around the object; None where the whole picture is foreground.
        others: the good pictures, to take foreign texture from.
    """

    pixels: Float
    foreground: Mask
    background: Float | None
    others: Sequence[Path]

    @property
    def unit(self) -> float:
        """Pixels per "pixel" of lines and spots: they grow with pictures that are larger than 512."""
        return max(1.0, max(self.foreground.shape) / 512)


@dataclass
class Site:
    """The part of a scene that a defect covers, for fills.

    Attributes:
        patch: the scene's pixels there, `[height, width, 1 or 3]`.
        alpha: how much of the fill shows, `[height, width]`, 0..1.
        top: of the patch in the scene.
        left: of the patch in the scene.
    """

    scene: Scene
    patch: Float
    alpha: Float
    top: int
    left: int


@lru_cache(maxsize=48)
def read(path: Path) -> Float:
    """A picture as `[height, width, 1 or 3]`, 0..255; gray pictures have one channel."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):
                pixels = np.asarray(image, np.float32)[..., None] / 257
            else:
                gray = image.mode in ("1", "L", "LA")
                pixels = np.asarray(image.convert("L" if gray else "RGB"), np.float32)
                pixels = pixels[..., None] if gray else pixels
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise ExportError(f"{path}: cannot read this picture ({error}): repair or remove it") from error
    pixels.setflags(write=False)
    return pixels


def find_object(pixels: Float) -> tuple[Mask, Float] | None:
    """The object on a plain background: its mask and the background's color; None where there is none.

    Background is what resembles the picture's border and is connected to it. There is no object when the
    border has no single color or when the object would fill less than 10 % or more than 90 %.
    """
    edge = max(1, min(pixels.shape[:2]) // 64)
    ring = np.ones(pixels.shape[:2], bool)
    ring[edge:-edge, edge:-edge] = False
    color = np.median(pixels[ring], axis=0).astype(np.float32)
    distance = np.abs(pixels - color).max(axis=2)
    spread = float(np.percentile(distance[ring], 95))
    if spread > 48:
        return None
    near = distance < max(_otsu(distance), spread)
    step = max(1, max(near.shape) // 128)
    small = near[::step, ::step]
    frame = np.pad(np.zeros((small.shape[0] - 2, small.shape[1] - 2), bool), 1, constant_values=True)
    outside = _grow(_flood(small, frame & small), 1)
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


def _flood(allowed: Mask, seeds: Mask) -> Mask:
    """What of `allowed` is connected with the seeds."""
    while True:
        grown = _grow(seeds, 1) & allowed
        if (grown == seeds).all():
            return seeds
        seeds = grown


def _grow(mask: Mask, radius: int) -> Mask:
    """Dilation with a square of 2 × radius + 1."""
    for _ in range(2):
        sums = np.pad(mask, ((radius + 1, radius), (0, 0))).cumsum(axis=0, dtype=np.int32)
        mask = (sums[2 * radius + 1 :] > sums[: -2 * radius - 1]).T
    return mask


# ---------------------------------------------------------------------------------------- helpers


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _rotated(height: int, width: int, angle: float) -> tuple[Float, Float]:
    """Coordinates y, x of a window's pixels around its center, turned."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * y - sin * x, sin * y + cos * x


def _sample(pixels: Float, y: Float, x: Float) -> Float:
    """Bilinear values at any coordinates; beyond its edges the picture is mirrored."""
    height, width, channels = pixels.shape

    def split(at: Float, size: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Float]:
        last = max(size - 1, 1)
        at = np.minimum(np.abs((at + last) % (2 * last) - last), size - 1)
        low = at.astype(np.intp)
        return low, np.minimum(low + 1, size - 1), (at - low)[..., None].astype(np.float32)

    (y0, y1, fy), (x0, x1, fx) = split(y, height), split(x, width)
    flat = pixels.reshape(-1, channels)
    upper = flat[y0 * width + x0] * (1 - fx) + flat[y0 * width + x1] * fx
    lower = flat[y1 * width + x0] * (1 - fx) + flat[y1 * width + x1] * fx
    sampled: Float = upper * (1 - fy) + lower * fy
    return sampled


def _noise(rng: Rng, height: int, width: int, cell: float, octaves: int = 4, stretch: float = 1) -> Float:
    """Noise of several octaves, turned at random, mean about 0 and deviation 1; `cell` px in the first."""
    total = np.zeros((height, width), np.float32)
    angle, reach = rng.uniform(0, 2 * np.pi), float(np.hypot(height, width))
    cos, sin = np.cos(angle), np.sin(angle)
    for octave in range(octaves):
        sy = max(cell / 2**octave, 1.0)
        sx = sy * stretch
        shape = int(reach / sy) + 6, int(reach / sx) + 6
        grid = Image.fromarray(rng.standard_normal(shape, np.float32))
        # Maps a pixel to the grid: turned around the window's center, then scaled.
        cy, cx = shape[0] / 2, shape[1] / 2
        ax, bx = cos / sx, sin / sx
        ay, by = -sin / sy, cos / sy
        matrix = (
            ax,
            bx,
            cx - ax * width / 2 - bx * height / 2,
            ay,
            by,
            cy - ay * width / 2 - by * height / 2,
        )
        layer = grid.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        total += np.asarray(layer, np.float32) / 1.8**octave
        if sy <= 1:
            break
    return total / np.float32(max(float(total.std()), 1e-6))


def _blur(values: Float, radius: float) -> Float:
    """Gaussian blur of `[height, width]` in 0..1 or `[height, width, channels]` in 0..255."""
    if values.ndim == 2:
        return _blur(values[..., None] * 255, radius)[..., 0] / 255
    blurred = _image(values).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, np.float32).reshape(values.shape)


def _image(pixels: Float) -> Image.Image:
    rounded = _rounded(pixels)
    return Image.fromarray(rounded[..., 0] if rounded.shape[2] == 1 else rounded)


def _rounded(pixels: Float) -> npt.NDArray[np.uint8]:
    return (pixels.clip(0, 255) + 0.5).astype(np.uint8)


def _color(rng: Rng, site: Site, spread: float = 110) -> Float:
    """A color that differs from the site's own: any, or its own made brighter, darker or tinted."""
    channels = site.patch.shape[2]
    own = np.average(site.patch.reshape(-1, channels), axis=0, weights=site.alpha.ravel() + 1e-6)
    if rng.random() < 0.35:
        own = rng.uniform(0, 255, channels)
    else:
        own = own + rng.choice([-1, 1]) * rng.uniform(20, spread) + rng.uniform(-25, 25, channels)
    return own.clip(0, 255).astype(np.float32)


# ---------------------------------------------------------------------------------------- shapes
# A shape takes the scene and the area to cover in px, and returns alpha with its top and left.

Placed = tuple[Float, int, int]


def _place(rng: Rng, scene: Scene, alpha: Float) -> Placed:
    """Puts a window's center on a random pixel of the foreground."""
    width = scene.foreground.shape[1]
    inside = np.flatnonzero(scene.foreground)
    y, x = divmod(int(rng.choice(inside)), width)
    return alpha, y - alpha.shape[0] // 2, x - alpha.shape[1] // 2


def _edged(rng: Rng, field: Float, area: float, softness: float) -> Float:
    """The `area` highest pixels of a field, with an edge that is `softness` px wide."""
    share = min(area / field.size, 0.95)
    level = float(np.quantile(field, 1 - share))
    hard = (field > level).astype(np.float32)
    return _blur(hard, softness) if softness > 0.3 else hard


def _softness(rng: Rng, area: float) -> float:
    return float(rng.choice([0.5, rng.uniform(0.6, 2), rng.uniform(0.02, 0.15) * area**0.5]))


def blob(rng: Rng, scene: Scene, area: float) -> Placed:
    """Thresholded noise: from one lump to scattered islands."""
    side = area**0.5 * rng.uniform(1.4, 2.6)
    aspect = _log_uniform(rng, 0.5, 2)
    height, width = int(side * aspect**0.5) + 5, int(side / aspect**0.5) + 5
    y, x = _rotated(height, width, 0)
    radius = (2 * y / height) ** 2 + (2 * x / width) ** 2
    cell = side * _log_uniform(rng, 0.12, 0.6)
    noise = _noise(rng, height, width, cell, int(rng.integers(1, 5)), _log_uniform(rng, 1, 4))
    alpha = _edged(rng, noise - rng.uniform(1.5, 5) * radius, area, _softness(rng, area))
    return _place(rng, scene, alpha)


def ellipse(rng: Rng, scene: Scene, area: float) -> Placed:
    """A disk, an ellipse or a ring, its outline slightly uneven."""
    aspect = _log_uniform(rng, 1, 3.5)
    long = (area * aspect / np.pi) ** 0.5
    side = int(2.6 * long) + 7
    y, x = _rotated(side, side, rng.uniform(0, np.pi))
    radius = np.hypot(y * aspect, x)
    field = -radius + rng.uniform(0, 0.12) * long * _noise(rng, side, side, max(long, 3), 2)
    if rng.random() < 0.15:
        field = -np.abs(radius - 0.85 * long)
    return _place(rng, scene, _edged(rng, field, area, _softness(rng, area)))


def polygon(rng: Rng, scene: Scene, area: float) -> Placed:
    """A shard: straight edges and corners, sometimes a strip."""
    corners = int(rng.integers(3, 9))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(0.45, 1, corners)
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles) * _log_uniform(rng, 0.15, 1)], axis=1)
    turn = rng.uniform(0, np.pi)
    points = points @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    x, y = points[:, 0], points[:, 1]
    covered = abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
    points *= (area / max(covered, 0.1)) ** 0.5
    alpha = _drawn([(points, None)])
    return _place(rng, scene, _blur(alpha, _softness(rng, area) / 2))


def scratch(rng: Rng, scene: Scene, area: float) -> Placed:
    """One to three thin tapering lines, straight, bent or wandering, in about the same direction."""
    longest = 0.9 * max(scene.foreground.shape)
    thick = scene.unit * _log_uniform(rng, 1, 6)
    length = float(np.clip(area / thick, 6 * scene.unit, longest))
    heading, strokes = rng.uniform(0, 2 * np.pi), []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        start = rng.normal(0, 0.15 * length, 2)
        strokes.append(_walk(rng, start, heading + rng.normal(0, 0.15), length, thick, rng.uniform(0, 0.25)))
    return _place(rng, scene, _drawn(strokes))


def crack(rng: Rng, scene: Scene, area: float) -> Placed:
    """A jagged line that branches."""
    thick = scene.unit * _log_uniform(rng, 1, 4)
    length = float(np.clip(area / thick, 10 * scene.unit, 0.9 * max(scene.foreground.shape)))
    heading, jag = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.6)
    strokes = [_walk(rng, np.zeros(2), heading, length, thick, jag)]
    for _ in range(int(rng.integers(0, 5))):
        points, widths = strokes[int(rng.integers(len(strokes)))]
        assert widths is not None
        at = int(rng.integers(1, len(points)))
        turn = heading + rng.choice([-1, 1]) * rng.uniform(0.4, 1.3)
        part = length * rng.uniform(0.15, 0.5)
        strokes.append(_walk(rng, points[at], turn, part, 0.8 * float(widths[at]), jag))
    return _place(rng, scene, _drawn(strokes))


Stroke = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]


def _walk(
    rng: Rng, start: npt.NDArray[np.float64], heading: float, length: float, thick: float, turning: float
) -> Stroke:
    """A line's points `[n, 2]` (x, y) and widths in px: both ends or one taper."""
    steps = int(np.clip(length / 5, 4, 60))
    bend = rng.normal(0, 0.6) / steps if rng.random() < 0.6 else 0
    angles = heading + np.cumsum(rng.normal(bend, turning, steps))
    # Pulled back to its heading, for a line that only wanders curls up.
    angles = heading + 0.7 * (angles - heading)
    moves = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (length / steps)
    points = np.concatenate([start[None], start + np.cumsum(moves, axis=0)])
    along = np.linspace(0, 1, steps + 1)
    taper = np.minimum(1, (1 - along) / rng.uniform(0.1, 1)) * np.minimum(
        1, 0.3 + along / rng.uniform(0.05, 0.5)
    )
    return points, np.maximum(thick * taper * rng.uniform(0.7, 1.2, steps + 1), 0.7)


def _drawn(strokes: Sequence[Stroke]) -> Float:
    """Lines, and polygons where there are no widths, with smooth edges in a window that just fits."""
    margin = 3 + max(0 if widths is None else float(widths.max()) for _, widths in strokes)
    every = np.concatenate([points for points, _ in strokes])
    low, size = every.min(axis=0) - margin, np.ptp(every, axis=0) + 2 * margin
    scale = 4 if size.max() < 300 else 2
    image = Image.new("L", (int(size[0] + 1) * scale, int(size[1] + 1) * scale))
    draw = ImageDraw.Draw(image)
    for points, widths in strokes:
        corners = [(float(x), float(y)) for x, y in (points - low) * scale]
        if widths is None:
            draw.polygon(corners, fill=255)
            continue
        for (x0, y0), (x1, y1), width in zip(corners[:-1], corners[1:], widths[1:] * scale, strict=True):
            draw.line((x0, y0, x1, y1), fill=255, width=max(1, round(width)))
            draw.ellipse((x1 - width / 2, y1 - width / 2, x1 + width / 2, y1 + width / 2), fill=255)
    return np.asarray(image.reduce(scale), np.float32) / 255


def spots(rng: Rng, scene: Scene, area: float) -> Placed:
    """One hole or drop, or a handful, 3 to 20 px across each."""
    count = int(rng.choice([1, 1, 1, 2, 4, 8]))
    spread = 20 * scene.unit * count**0.5
    strokes: list[Stroke] = []
    for _ in range(count):
        angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        radii = scene.unit * _log_uniform(rng, 1.5, 10) * rng.uniform(0.75, 1.1, 16)
        oval = np.stack([np.cos(angles), np.sin(angles) * rng.uniform(0.5, 1)], axis=1) * radii[:, None]
        strokes.append((oval + (rng.normal(0, spread, 2) if count > 1 else 0), None))
    return _place(rng, scene, _blur(_drawn(strokes), rng.uniform(0.3, 1.2) * scene.unit))


def chip(rng: Rng, scene: Scene, area: float) -> Placed:
    """A lump on the rim of the object, or of the picture where there is no object."""
    alpha, _, _ = rng.choice([blob, polygon])(rng, scene, 1.6 * area)  # type: ignore[arg-type]
    outside = ~np.pad(scene.foreground, 1)
    rim = np.flatnonzero((_grow(outside, 1)[1:-1, 1:-1]) & scene.foreground)
    y, x = divmod(int(rng.choice(rim)), scene.foreground.shape[1])
    return alpha, y - alpha.shape[0] // 2, x - alpha.shape[1] // 2


def band(rng: Rng, scene: Scene, area: float) -> Placed:
    """Everything beyond a wavy line: a strip along the object's side."""
    height, width = scene.foreground.shape
    y, _ = _rotated(height, width, rng.choice([0, 0.5, 1, 1.5]) * np.pi + rng.normal(0, 0.12))
    wave = 0.03 * max(height, width) * rng.random() * _noise(rng, height, width, 0.4 * max(height, width), 3)
    field = np.where(scene.foreground, y + wave, -1e6).astype(np.float32)
    return _edged(rng, field, area, _softness(rng, area)), 0, 0


def part(rng: Rng, scene: Scene, area: float) -> Placed:
    """A region that the picture itself shows: what has a pixel's brightness and is connected with it."""
    height, width = scene.foreground.shape
    step = max(1, max(height, width) // 128)
    small = _blur(scene.pixels, step)[::step, ::step].mean(axis=2)
    _, top, left = _place(rng, scene, np.zeros((1, 1), np.float32))
    seed = np.zeros(small.shape, bool)
    seed[min(top // step, small.shape[0] - 1), min(left // step, small.shape[1] - 1)] = True
    alike = np.abs(small - small[seed]) < rng.uniform(8, 30)
    y, x = np.mgrid[: small.shape[0], : small.shape[1]]
    alike &= np.hypot(y - top / step, x - left / step) < 1.5 * area**0.5 / step
    region = Image.fromarray(_flood(alike, seed & alike).astype(np.float32))
    smooth = np.asarray(region.resize((width, height), Image.Resampling.BILINEAR))
    return (_blur(smooth, step) > 0.5).astype(np.float32), 0, 0


def broad(rng: Rng, scene: Scene, area: float) -> Placed:
    """Noise of very low frequency with a very soft edge."""
    alpha, top, left = rng.choice([blob, ellipse, band])(rng, scene, area)  # type: ignore[arg-type]
    return _blur(alpha, area**0.5 * rng.uniform(0.05, 0.25)), top, left


# ---------------------------------------------------------------------------------------- fills
# A fill returns the site's patch as it looks where the defect is opaque.


def _turned(rng: Rng, site: Site, source: Float, zoom: tuple[float, float]) -> Float:
    """A piece of a picture, from anywhere, turned, mirrored and scaled, as large as the site."""
    y, x = _rotated(*site.alpha.shape[:2], rng.uniform(0.4, 2 * np.pi - 0.4))
    scale = _log_uniform(rng, *zoom)
    y = y / scale + rng.uniform(0, source.shape[0])
    x = x / scale * rng.choice([-1, 1]) + rng.uniform(0, source.shape[1])
    return _sample(source, y, x)


def foreign(rng: Rng, site: Site) -> Float:
    """Another good picture's texture in other colors."""
    source = read(site.scene.others[int(rng.integers(len(site.scene.others)))])
    patch = _turned(rng, site, source, (0.4, 3))
    channels = site.patch.shape[2]
    patch = patch[..., rng.permutation(channels)] if patch.shape[2] == channels else patch[..., :1]
    patch = 255 * (patch / 255) ** np.float32(_log_uniform(rng, 0.5, 2))
    patch = 255 - patch if rng.random() < 0.3 else patch
    contrast = _log_uniform(rng, 0.4, 2)
    center = patch.mean(axis=(0, 1))
    goal = _color(rng, site) if rng.random() < 0.7 else center
    return ((patch - center) * contrast + goal + np.zeros(channels)).astype(np.float32)


def procedural(rng: Rng, site: Site) -> Float:
    """Noise, stripes, marble, weave or a gradient between two or three colors."""
    height, width = site.alpha.shape
    cell = _log_uniform(rng, 2, max(4, max(height, width)))
    y, x = _rotated(height, width, rng.uniform(0, np.pi))
    rough = _noise(rng, height, width, cell, int(rng.integers(1, 6)), _log_uniform(rng, 1, 6))
    wave = 2 * np.pi * y / cell
    kind = int(rng.integers(5))
    field: Float = (
        rough,
        np.sin(wave + rng.uniform(0, 1.5) * rough),
        1 - 2 * np.abs(np.sin(wave / 2 + 1.5 * rough)),
        np.sin(wave) * np.sin(2 * np.pi * x / cell),
        2 * y / max(height, width) + 0.2 * rough,
    )[kind]
    share = (0.5 + 0.4 * field).clip(0, 1)[..., None].astype(np.float32)
    filled: Float = _color(rng, site) * (1 - share) + _color(rng, site) * share
    return grainy(rng, filled, rng.uniform(0, 6))


def grainy(rng: Rng, patch: Float, deviation: float) -> Float:
    """With the grain of a camera or of a rough surface."""
    return patch + rng.standard_normal((*patch.shape[:2], 1), np.float32) * np.float32(deviation)


def flat(rng: Rng, site: Site) -> Float:
    """One color, almost."""
    color = np.broadcast_to(_color(rng, site, 140), site.patch.shape)
    return grainy(rng, color + 0.15 * (site.patch - site.patch.mean(axis=(0, 1))), rng.uniform(0, 5))


def own(rng: Rng, site: Site) -> Float:
    """The picture's own texture from elsewhere, turned, brighter or darker."""
    patch = _turned(rng, site, site.scene.pixels, (0.6, 1.6))
    return patch * np.float32(rng.choice([1, _log_uniform(rng, 0.5, 1.8)]))


def shards(rng: Rng, site: Site) -> Float:
    """Broken pieces: cells with the picture's own texture, each from elsewhere and lit otherwise."""
    height, width = site.alpha.shape
    count = int(rng.integers(3, 12))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    seeds = rng.uniform(0, 1, (count, 2)) * (height, width)
    nearest = np.argmin([np.hypot(y - sy, x - sx) for sy, sx in seeds], axis=0)
    shifts = rng.uniform(0, 1, (count, 2)) * site.scene.pixels.shape[:2]
    turns = rng.uniform(0.5, 2, (2, count)) * rng.choice([-1, 1], (2, count))
    y = y * turns[0][nearest] + shifts[nearest, 0]
    x = x * turns[1][nearest] + shifts[nearest, 1]
    gains = np.exp(rng.normal(0, 0.5, count)).astype(np.float32)
    slopes = rng.normal(0, 60, count).astype(np.float32)[nearest] * (y - y.mean()) / max(height, 8)
    lit = _sample(site.scene.pixels, y.astype(np.float32), x.astype(np.float32)) * gains[nearest][..., None]
    return (lit + slopes[..., None].clip(-80, 80)).astype(np.float32)


def recolor(rng: Rng, site: Site) -> Float:
    """The same structure in another color or contrast."""
    mean = site.patch.mean(axis=(0, 1))
    light = site.patch.mean(axis=2, keepdims=True)
    texture = (light - light.mean()) * np.float32(rng.uniform(-1, 1.5))
    return (_color(rng, site) * 0.7 + mean * 0.3 + texture).astype(np.float32)


def shade(rng: Rng, site: Site, low: float = 0.15, high: float = 0.75) -> Float:
    """Darker or brighter by a share: darkness multiplies, brightness adds, so that black can shine."""
    strength = np.float32(rng.uniform(low, high))
    tint = 1 + rng.uniform(-0.15, 0.15, site.patch.shape[2]).astype(np.float32)
    if rng.random() < 0.5:
        return site.patch * (1 - strength) * tint
    return site.patch + (255 - 0.6 * site.patch) * strength * 0.8 * tint


def dark(rng: Rng, site: Site) -> Float:
    """Much darker, as a gap is; bright where the picture is dark already."""
    mean = float(np.average(site.patch.mean(axis=2), weights=site.alpha + 1e-6))
    if mean < 40 or rng.random() < 0.1:
        return site.patch + np.float32(rng.uniform(40, 140))
    return site.patch * np.float32(rng.uniform(0, 0.55))


def blurred(rng: Rng, site: Site) -> Float:
    """Out of focus or polished."""
    return _blur(site.patch, rng.uniform(1.5, 8) * site.scene.unit)


def sharpened(rng: Rng, site: Site) -> Float:
    """Rougher than it was."""
    soft = _blur(site.patch, rng.uniform(1, 4))
    return soft + (site.patch - soft) * np.float32(rng.uniform(2.5, 6))


def frayed(rng: Rng, site: Site) -> Float:
    """Noise in streaks or grains, stronger than the texture."""
    height, width = site.alpha.shape
    noise = _noise(rng, height, width, _log_uniform(rng, 1, 8), 3, _log_uniform(rng, 1, 10))
    return site.patch + noise[..., None] * np.float32(_log_uniform(rng, 8, 45))


def stretched(rng: Rng, site: Site) -> Float:
    """Squeezed or drawn out along one direction, around the site's center."""
    height, width = site.alpha.shape
    angle = rng.uniform(0, np.pi)
    y, x = _rotated(height, width, angle)
    y = y * np.float32(rng.choice([_log_uniform(rng, 0.05, 0.5), _log_uniform(rng, 2, 4)]))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    y, x = cos * y + sin * x, -sin * y + cos * x
    return _sample(site.scene.pixels, y + (site.top + height / 2), x + (site.left + width / 2))


def dented(rng: Rng, site: Site) -> Float:
    """Pushed in or out: pixels move along the slope of the alpha, which is lit from one side."""
    smooth = _blur(site.alpha, max(1.5, 0.08 * max(site.alpha.shape)))
    smooth = smooth / max(float(smooth.max()), 1e-6)
    slope_y, slope_x = (np.asarray(slope, np.float32) for slope in np.gradient(smooth))
    steepest = max(float(np.hypot(slope_y, slope_x).max()), 1e-6)
    push = rng.choice([-1, 1]) * rng.uniform(0.1, 0.3) * min(site.alpha.shape) / steepest * 0.5
    height, width = site.alpha.shape
    y, x = np.mgrid[site.top : site.top + height, site.left : site.left + width].astype(np.float32)
    moved = _sample(site.scene.pixels, y + push * slope_y, x + push * slope_x)
    light = rng.uniform(0, 2 * np.pi)
    lit = (np.cos(light) * slope_y + np.sin(light) * slope_x) / steepest * rng.uniform(15, 90)
    return (moved + lit[..., None]).astype(np.float32)


def gone(rng: Rng, site: Site) -> Float:
    """The background where there is one, else something dark: a piece is missing."""
    if site.scene.background is None:
        return dark(rng, site) if rng.random() < 0.5 else flat(rng, site)
    color = site.scene.background * np.float32(rng.uniform(0.85, 1.05))
    return grainy(rng, np.broadcast_to(color, site.patch.shape), rng.uniform(0, 3))


# ---------------------------------------------------------------------------------------- painting

Shape = Callable[[Rng, Scene, float], Placed]
Fill = Callable[[Rng, Site], Float]


@dataclass(frozen=True)
class Kind:
    """What goes together; areas are shares of the picture, blends how opaque the fill is."""

    weight: float
    shapes: Sequence[Shape]
    fills: Sequence[Fill]
    area: tuple[float, float] = (2e-4, 0.15)
    blend: tuple[float, float] = (0.15, 1)


MATTER = (foreign, foreign, procedural, procedural, flat, own, shards, recolor)
FAINT_SHADE = partial(shade, low=0.08, high=0.4)
KINDS = {
    "blob": Kind(5, (blob,), MATTER),
    "stain": Kind(2.5, (ellipse, ellipse, part), (recolor, shade, flat, procedural, blurred)),
    "object": Kind(2, (polygon, ellipse), (foreign, procedural, flat), blend=(0.5, 1)),
    "scratch": Kind(2, (scratch,), (shade, shade, flat, dark), (2e-4, 0.02), (0.35, 1)),
    "crack": Kind(2, (crack,), (dark, dark, dark, shade), (2e-4, 0.02), (0.5, 1)),
    "spots": Kind(2.5, (spots,), (shade, flat, dark), (2e-4, 2e-4), (0.4, 1)),
    "chip": Kind(2, (chip,), (gone, gone, gone, shards, foreign), (2e-4, 0.08), (0.8, 1)),
    "break": Kind(1.5, (polygon, blob, chip), (shards, own, foreign), (0.003, 0.25), (0.6, 1)),
    "dent": Kind(1.5, (ellipse, blob), (dented,), (1e-3, 0.1), (1, 1)),
    "fray": Kind(2, (blob, band, ellipse), (blurred, sharpened, frayed, stretched), (1e-3, 0.25), (0.5, 1)),
    "part": Kind(1, (part,), (recolor, flat, procedural, foreign, shade), (0.005, 0.2), (0.4, 1)),
    "band": Kind(0.7, (band,), (foreign, procedural, own, shade, recolor), (0.01, 0.25), (0.3, 1)),
    "shading": Kind(2, (broad,), (FAINT_SHADE, FAINT_SHADE, recolor), (0.03, 0.4), (0.3, 1)),
}


def paint(rng: Rng, scene: Scene) -> tuple[Mask, list[str]]:
    """Paints one to three defects on a scene; returns the mask of all and the kinds."""
    good = scene.pixels
    region = np.zeros(scene.foreground.shape, bool)
    kinds = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        for _ in range(TRIES):
            painted = _defect(rng, scene)
            if painted is not None:
                kind, mask = painted
                region |= mask
                kinds.append(kind)
                break
    # A later defect may undo an earlier one.
    region &= (good != scene.pixels).any(axis=2) | _close(region, 3)
    return region, kinds


def _defect(rng: Rng, scene: Scene) -> tuple[str, Mask] | None:
    """Paints one defect; None, and the scene as it was, when too little of it can be seen."""
    weights = np.array([kind.weight for kind in KINDS.values()])
    name = str(rng.choice(list(KINDS), p=weights / weights.sum()))
    kind = KINDS[name]
    area = max(_log_uniform(rng, *kind.area) * scene.foreground.size, 9.0)
    shape = kind.shapes[int(rng.integers(len(kind.shapes)))]
    fill = kind.fills[int(rng.integers(len(kind.fills)))]
    site = _site(scene, *shape(rng, scene, area))
    if site is None:
        return None
    alpha = (site.alpha * np.float32(rng.uniform(*kind.blend)))[..., None]
    painted = _rounded(site.patch * (1 - alpha) + fill(rng, site) * alpha).astype(np.float32)
    mask = _visible(site, painted)
    if mask is None:
        return None
    height, width = mask.shape
    inside = slice(site.top, site.top + height), slice(site.left, site.left + width)
    scene.pixels = scene.pixels.copy()
    scene.pixels[inside] = painted
    whole = np.zeros(scene.foreground.shape, bool)
    whole[inside] = mask
    return name, whole


def _site(scene: Scene, alpha: Float, top: int, left: int) -> Site | None:
    """Cuts a placed shape to the picture and its foreground."""
    height, width = scene.foreground.shape
    alpha = alpha[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    top, left = max(0, top), max(0, left)
    alpha = alpha * scene.foreground[top : top + alpha.shape[0], left : left + alpha.shape[1]]
    rows, columns = (np.flatnonzero((alpha > 0.02).any(axis=axis)) for axis in (1, 0))
    if len(rows) < 2 or len(columns) < 2:
        return None
    alpha = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = top + int(rows[0]), left + int(columns[0])
    patch = scene.pixels[top : top + alpha.shape[0], left : left + alpha.shape[1]]
    return Site(scene, patch, alpha, top, left)


def _visible(site: Site, painted: Float) -> Mask | None:
    """Where a defect can be seen; None if it can hardly be anywhere."""
    change = np.abs(painted - site.patch).mean(axis=2)
    region = site.alpha > 0.1
    if not region.any():
        return None
    # Many pixels of a changed texture happen to stay as they were: their surroundings count too.
    around = np.maximum(change, _blur(change / 255, 1.5) * 255)
    level = max(VISIBLE, 0.2 * float(np.percentile(around[region], 90)))
    mask: Mask = _close((around > level) & region, 2 + int(0.02 * region.sum() ** 0.5)) & region
    texture = float(np.abs(site.patch - _blur(site.patch, 2)).mean())
    if mask.sum() < 6 or change[mask].mean() < max(VISIBLE, 0.6 * texture):
        return None
    return mask


def _close(mask: Mask, radius: int) -> Mask:
    return ~_grow(~_grow(mask, radius), radius)


# ---------------------------------------------------------------------------------------- files


def synthesize(
    goods: Sequence[Path], out: Path, count: int, seed: int, *, workers: int = 1, overwrite: bool = False
) -> Path:
    """Writes `count` pictures with masks and, last, their index; returns the index's path.

    Files: `NNNN.png`, gray where the good picture is gray, `NNNN_mask.png` (0 or 255, same size) and
    `synthetic.jsonl`, a label file whose lines also name the good picture (`leave_out`, absolute).

    Raises:
        ExportError: no good pictures, one that cannot be read, `out` not empty, `count` below 1.
    """
    if count < 1:
        raise ExportError(f"count {count}: must be at least 1")
    if workers < 1:
        raise ExportError(f"workers {workers}: must be at least 1")
    goods = [path.resolve() for path in goods]
    if not goods:
        raise ExportError("no good pictures to paint defects on: name a folder that has some")
    if out.resolve() in {path.parent for path in goods}:
        raise ExportError(f"{out} holds the good pictures: choose another output directory")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not overwrite:
            raise ExportError(f"{out} is not empty: choose another output directory or --overwrite")
        index = out / INDEX
        index.unlink(missing_ok=True)
        paint_one = partial(_write_one, tuple(goods), out, seed, max(4, len(str(count - 1))))
        with _mapping(workers) as mapped:
            lines = list(mapped(paint_one, range(count)))
        unfinished = index.with_suffix(".partial")
        unfinished.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        unfinished.replace(index)
    except OSError as error:
        raise ExportError(f"cannot write to {out}: {error}", Exit.FAULT) from error
    return index


def good_pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, by name; raises ExportError when there are none."""
    if not folder.is_dir():
        raise ExportError(f"{folder} is not a directory: name the directory with the good pictures")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ExportError(f"{folder} has no pictures ({', '.join(sorted(SUFFIXES))})")
    return paths


Mapped = Callable[[Callable[[int], dict[str, object]], Sequence[int]], Iterator[dict[str, object]]]


@contextmanager
def _mapping(workers: int) -> Iterator[Mapped]:
    if workers == 1:
        yield map
        return
    # Forking a process that has threads, as PyTorch's, may hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield partial(pool.map, chunksize=4)


def _write_one(goods: tuple[Path, ...], out: Path, seed: int, digits: int, number: int) -> dict[str, object]:
    rng = np.random.default_rng([seed, number])
    while True:
        path = goods[int(rng.integers(len(goods)))]
        scene = _scene(goods, path)
        mask, kinds = paint(rng, scene)
        if mask.any():
            break
    name, mask_name = f"{number:0{digits}}.png", f"{number:0{digits}}_mask.png"
    _image(scene.pixels).save(out / name, compress_level=1)
    Image.fromarray(mask.astype(np.uint8) * 255).save(out / mask_name)
    return {
        "image": name,
        "defects": [{"mask": mask_name}],
        "type": "+".join(sorted(set(kinds))),
        "leave_out": str(path),
    }


def _scene(goods: tuple[Path, ...], path: Path) -> Scene:
    pixels = read(path)
    found = find_object(pixels) if _shows_object(goods) else None
    if found is None:
        return Scene(pixels, np.ones(pixels.shape[:2], bool), None, goods)
    return Scene(pixels, found[0], found[1], goods)


@cache
def _shows_object(goods: tuple[Path, ...]) -> bool:
    """Whether most good pictures, of nine, show an object on a plain background."""
    some = goods[:: max(1, len(goods) // 9)][:9]
    return 2 * sum(find_object(read(path)) is not None for path in some) > len(some)


def contact_sheet(index: Path, sheet: Path, *, pictures: int = 60, columns: int = 6, side: int = 180) -> None:
    """Draws the first pictures of an index as a grid, beside each the mask's outline on it.

    Raises:
        ExportError: the sheet's extension is no picture format, or it cannot be written.
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
        outlined[_grow(inside, 1) & ~inside] = 255, 0, 255
        grid.paste(picture, (left, top))
        grid.paste(Image.fromarray(outlined), (left + side, top))
        draw.text((left + 2, top + side), f"{line['image']} {line['type']}", fill="black")
    try:
        grid.save(sheet, quality=92)
    except (OSError, ValueError) as error:
        raise ExportError(f"cannot write the contact sheet {sheet}: {error}") from error
