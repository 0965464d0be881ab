"""Defects to paint on a picture.

A defect is a shape (where, and how strongly it covers), a fill (what shows there) and a blend factor;
`KINDS` says which go together. The mask holds what visibly changed, not what was meant to be painted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from weakrest_export import raster
from weakrest_export.raster import Float, Mask, Rng, f32

VISIBLE = 6.0
"""Mean absolute difference, in gray levels of 255, below which nobody could be asked to find a defect."""
TRIES = 12


@dataclass
class Scene:
    """A picture while it is painted on.

    Attributes:
        pixels: `[height, width, 1 or 3]`, 0..255.
        foreground: `[height, width]`, where defects may be.
        background: color `[1 or 3]` around the object; None where the whole picture is foreground.
        other: draws another good picture's pixels, to take foreign texture from.
    """

    pixels: Float
    foreground: Mask
    background: Float | None
    other: Callable[[Rng], Float]

    @property
    def unit(self) -> float:
        """Pixels per "pixel" of lines and spots: they grow with pictures that are larger than 512."""
        return float(max(512, *self.foreground.shape) / 512)


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


def _color(rng: Rng, site: Site, spread: float = 110) -> Float:
    """A color that differs from the site's own: any, or its own made brighter, darker or tinted."""
    channels = site.patch.shape[2]
    if rng.random() < 0.25:
        return f32(rng.uniform(0, 255, channels))
    own = np.average(site.patch.reshape(-1, channels), axis=0, weights=site.alpha.ravel() + 1e-6)
    own = own + rng.choice([-1, 1]) * rng.uniform(20, spread) + rng.uniform(-25, 25, channels)
    return f32(own.clip(0, 255))


# ---------------------------------------------------------------------------------------- shapes
# A shape takes the scene and the area to cover in px, and returns alpha with its top and left.

Placed = tuple[Float, int, int]


def _place(rng: Rng, scene: Scene, alpha: Float, among: npt.NDArray[np.intp] | None = None) -> Placed:
    """Puts a window's center on a random pixel of the foreground, or on one of those named."""
    among = np.flatnonzero(scene.foreground) if among is None else among
    y, x = divmod(int(rng.choice(among)), scene.foreground.shape[1])
    return alpha, y - alpha.shape[0] // 2, x - alpha.shape[1] // 2


def _highest(field: Float, area: float) -> Float:
    """1 at the `area` highest pixels of a field, 0 elsewhere."""
    return f32(field > np.quantile(field, 1 - min(area / field.size, 0.95)))


def _feathered(placed: Placed, radius: float) -> Placed:
    """With a soft edge, in a window that is larger by as much."""
    alpha, top, left = placed
    if radius < 0.3:
        return placed
    margin = int(2.5 * radius) + 1
    return raster.blur(np.pad(alpha, margin, mode="edge"), radius), top - margin, left - margin


def _softness(rng: Rng, area: float) -> float:
    return float(rng.choice([0.5, rng.uniform(0.6, 2), rng.uniform(0.02, 0.15) * area**0.5]))


def blob(rng: Rng, scene: Scene, area: float) -> Placed:
    """Thresholded noise: from one lump to scattered islands."""
    side = area**0.5 * rng.uniform(1.4, 2.6)
    aspect = raster.log_uniform(rng, 0.5, 2)
    height, width = int(side * aspect**0.5) + 5, int(side / aspect**0.5) + 5
    y, x = raster.rotated(height, width, 0)
    radius = (2 * y / height) ** 2 + (2 * x / width) ** 2
    cell = side * raster.log_uniform(rng, 0.12, 0.6)
    noise = raster.noise(rng, height, width, cell, int(rng.integers(1, 5)), raster.log_uniform(rng, 1, 4))
    # Outside of the ellipse that fits the window is nothing, lest the window's sides show as edges.
    field = noise - rng.uniform(1.5, 5) * radius - 99 * (radius > 0.95)
    return _feathered(_place(rng, scene, _highest(field, area)), _softness(rng, area))


def ellipse(rng: Rng, scene: Scene, area: float) -> Placed:
    """A disk, an ellipse or a ring, its outline slightly uneven."""
    aspect = raster.log_uniform(rng, 1, 3.5)
    long = (area * aspect / np.pi) ** 0.5
    side = int(2.6 * long) + 7
    y, x = raster.rotated(side, side, rng.uniform(0, np.pi))
    radius = np.hypot(y * aspect, x)
    field = -radius + rng.uniform(0, 0.12) * long * raster.noise(rng, side, side, max(long, 3), 2)
    if rng.random() < 0.15:
        field = -np.abs(radius - 0.85 * long)
    return _feathered(_place(rng, scene, _highest(field, area)), _softness(rng, area))


def polygon(rng: Rng, scene: Scene, area: float) -> Placed:
    """A shard: straight edges and corners, sometimes a strip."""
    corners = int(rng.integers(3, 9))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(0.45, 1, corners)
    points = np.stack(
        [radii * np.cos(angles), radii * np.sin(angles) * raster.log_uniform(rng, 0.15, 1)], axis=1
    )
    turn = rng.uniform(0, np.pi)
    points = points @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    x, y = points[:, 0], points[:, 1]
    covered = abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
    points *= (area / max(covered, 0.1)) ** 0.5
    return _feathered(_place(rng, scene, _drawn([(points, None)])), _softness(rng, area) / 2)


def scratch(rng: Rng, scene: Scene, area: float) -> Placed:
    """One to three thin tapering lines, straight, bent or wandering, in about the same direction."""
    longest = 0.9 * max(scene.foreground.shape)
    thick = scene.unit * raster.log_uniform(rng, 1, 6)
    length = float(np.clip(area / thick, 6 * scene.unit, longest))
    heading, strokes = rng.uniform(0, 2 * np.pi), []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        start = rng.normal(0, 0.15 * length, 2)
        strokes.append(_walk(rng, start, heading + rng.normal(0, 0.15), length, thick, rng.uniform(0, 0.25)))
    return _place(rng, scene, _drawn(strokes))


def crack(rng: Rng, scene: Scene, area: float) -> Placed:
    """A jagged line that branches."""
    thick = scene.unit * raster.log_uniform(rng, 1, 4)
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
    bend = rng.normal(0, 0.8) / steps if rng.random() < 0.6 else 0
    angles = np.full(steps, heading)
    turn = 0.0
    for step in range(steps):
        # Pulled back to its heading, for a line that only wanders curls up.
        turn = 0.85 * turn + rng.normal(0, turning)
        angles[step] += turn + bend * step
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
    return f32(np.asarray(image.reduce(scale)) / 255)


def spots(rng: Rng, scene: Scene, area: float) -> Placed:
    """One hole or drop, or a handful, 3 to 20 px across each."""
    count = int(rng.choice([1, 1, 1, 2, 4, 8]))
    spread = 20 * scene.unit * count**0.5
    strokes: list[Stroke] = []
    for _ in range(count):
        angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        radii = scene.unit * raster.log_uniform(rng, 1.5, 10) * rng.uniform(0.75, 1.1, 16)
        oval = np.stack([np.cos(angles), np.sin(angles) * rng.uniform(0.5, 1)], axis=1) * radii[:, None]
        strokes.append((oval + (rng.normal(0, spread, 2) if count > 1 else 0), None))
    return _feathered(_place(rng, scene, _drawn(strokes)), rng.uniform(0.3, 1.2) * scene.unit)


def chip(rng: Rng, scene: Scene, area: float) -> Placed:
    """A lump on the rim of the object, or of the picture where there is no object."""
    alpha, _, _ = (blob, polygon)[int(rng.integers(2))](rng, scene, 1.6 * area)
    outside = ~np.pad(scene.foreground, 1)
    rim = np.flatnonzero((raster.grow(outside, 1)[1:-1, 1:-1]) & scene.foreground)
    return _place(rng, scene, alpha, rim)


def band(rng: Rng, scene: Scene, area: float) -> Placed:
    """Everything beyond a wavy line: a strip along the object's side."""
    height, width = scene.foreground.shape
    y, _ = raster.rotated(height, width, rng.choice([0, 0.5, 1, 1.5]) * np.pi + rng.normal(0, 0.12))
    wave = (
        0.03
        * max(height, width)
        * rng.random()
        * raster.noise(rng, height, width, 0.4 * max(height, width), 3)
    )
    field = f32(np.where(scene.foreground, y + wave, -1e6))
    return _feathered((_highest(field, area), 0, 0), _softness(rng, area))


def part(rng: Rng, scene: Scene, area: float) -> Placed:
    """A region that the picture itself shows: what has a pixel's brightness and is connected with it."""
    height, width = scene.foreground.shape
    step = max(1, max(height, width) // 128)
    small = raster.blur(scene.pixels, step)[::step, ::step].mean(axis=2)
    _, top, left = _place(rng, scene, np.zeros((1, 1), np.float32))
    seed = np.zeros(small.shape, bool)
    seed[min(top // step, small.shape[0] - 1), min(left // step, small.shape[1] - 1)] = True
    alike = np.abs(small - small[seed]) < rng.uniform(8, 30)
    y, x = np.mgrid[: small.shape[0], : small.shape[1]]
    alike &= np.hypot(y - top / step, x - left / step) < 1.5 * area**0.5 / step
    region = Image.fromarray(raster.flood(alike, seed & alike).astype(np.float32))
    smooth = np.asarray(region.resize((width, height), Image.Resampling.BILINEAR))
    return f32(raster.blur(smooth, step) > 0.5), 0, 0


def broad(rng: Rng, scene: Scene, area: float) -> Placed:
    """Noise of very low frequency with a very soft edge."""
    shape = (blob, ellipse, band)[int(rng.integers(3))]
    return _feathered(shape(rng, scene, area), area**0.5 * rng.uniform(0.05, 0.25))


# ---------------------------------------------------------------------------------------- fills
# A fill returns the site's patch as it looks where the defect is opaque.


def _turned(rng: Rng, site: Site, source: Float, zoom: tuple[float, float]) -> Float:
    """A piece of a picture, from anywhere, turned, mirrored and scaled, as large as the site."""
    height, width = site.alpha.shape
    y, x = raster.rotated(height, width, rng.uniform(0.4, 2 * np.pi - 0.4))
    scale = raster.log_uniform(rng, *zoom)
    y = y / scale + rng.uniform(0, source.shape[0])
    x = x / scale * rng.choice([-1, 1]) + rng.uniform(0, source.shape[1])
    return raster.sample(source, y, x)


def foreign(rng: Rng, site: Site) -> Float:
    """Another good picture's texture in other colors."""
    patch = _turned(rng, site, site.scene.other(rng), (0.4, 3))
    channels = site.patch.shape[2]
    patch = patch[..., rng.permutation(channels)] if patch.shape[2] == channels else patch[..., :1]
    patch = 255 * (patch / 255) ** np.float32(raster.log_uniform(rng, 0.5, 2))
    patch = 255 - patch if rng.random() < 0.3 else patch
    contrast = raster.log_uniform(rng, 0.4, 2)
    center = patch.mean(axis=(0, 1))
    goal = _color(rng, site) if rng.random() < 0.7 else center
    return f32((patch - center) * contrast + goal + np.zeros(channels))


def procedural(rng: Rng, site: Site) -> Float:
    """Noise, stripes, marble, weave or a gradient between two or three colors."""
    height, width = site.alpha.shape
    cell = raster.log_uniform(rng, 2 * site.scene.unit, max(4 * site.scene.unit, height, width))
    y, x = raster.rotated(height, width, rng.uniform(0, np.pi))
    rough = raster.noise(rng, height, width, cell, int(rng.integers(1, 6)), raster.log_uniform(rng, 1, 6))
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
    return f32(patch + rng.standard_normal((*patch.shape[:2], 1), np.float32) * deviation)


def flat(rng: Rng, site: Site) -> Float:
    """One color, almost."""
    color = np.broadcast_to(_color(rng, site, 140), site.patch.shape)
    return grainy(rng, color + 0.15 * (site.patch - site.patch.mean(axis=(0, 1))), rng.uniform(0, 5))


def own(rng: Rng, site: Site) -> Float:
    """The picture's own texture from elsewhere, turned, brighter or darker."""
    patch = _turned(rng, site, site.scene.pixels, (0.6, 1.6))
    # A uniform texture that is only turned looks as good as before, so most get another brightness.
    gain = rng.choice(
        [1, raster.log_uniform(rng, 0.5, 0.8), raster.log_uniform(rng, 1.25, 2)], p=[0.2, 0.4, 0.4]
    )
    return f32(patch * gain)


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
    lit = (
        raster.sample(site.scene.pixels, y.astype(np.float32), x.astype(np.float32))
        * gains[nearest][..., None]
    )
    return f32(lit + slopes[..., None].clip(-80, 80))


def recolor(rng: Rng, site: Site) -> Float:
    """The same structure in another color or contrast."""
    mean = site.patch.mean(axis=(0, 1))
    light = site.patch.mean(axis=2, keepdims=True)
    texture = (light - light.mean()) * np.float32(rng.uniform(-1, 1.5))
    return f32(_color(rng, site) * 0.7 + mean * 0.3 + texture)


def shade(rng: Rng, site: Site, low: float = 0.15, high: float = 0.75) -> Float:
    """Darker or brighter by a share: darkness multiplies, brightness adds, so that black can shine."""
    strength = rng.uniform(low, high)
    tint = 1 + rng.uniform(-0.15, 0.15, site.patch.shape[2])
    if rng.random() < 0.5:
        return f32(site.patch * (1 - strength) * tint)
    return f32(site.patch + (255 - 0.6 * site.patch) * strength * 0.8 * tint)


def dark(rng: Rng, site: Site) -> Float:
    """Much darker, as a gap is; bright where the picture is dark already."""
    mean = float(np.average(site.patch.mean(axis=2), weights=site.alpha + 1e-6))
    if mean < 40 or rng.random() < 0.1:
        return f32(site.patch + rng.uniform(40, 140))
    return f32(site.patch * rng.uniform(0, 0.55))


def blurred(rng: Rng, site: Site) -> Float:
    """Out of focus or polished."""
    return raster.blur(site.patch, rng.uniform(1.5, 8) * site.scene.unit)


def sharpened(rng: Rng, site: Site) -> Float:
    """Rougher than it was."""
    soft = raster.blur(site.patch, rng.uniform(1, 4) * site.scene.unit)
    return f32(soft + (site.patch - soft) * rng.uniform(2.5, 6))


def frayed(rng: Rng, site: Site) -> Float:
    """Noise in streaks or grains, stronger than the texture."""
    height, width = site.alpha.shape
    noise = raster.noise(
        rng, height, width, site.scene.unit * raster.log_uniform(rng, 1, 8), 3, raster.log_uniform(rng, 1, 10)
    )
    return f32(site.patch + noise[..., None] * raster.log_uniform(rng, 8, 45))


def stretched(rng: Rng, site: Site) -> Float:
    """Squeezed or drawn out along one direction, around the site's center."""
    height, width = site.alpha.shape
    angle = rng.uniform(0, np.pi)
    y, x = raster.rotated(height, width, angle)
    y = y * np.float32(rng.choice([raster.log_uniform(rng, 0.05, 0.5), raster.log_uniform(rng, 2, 4)]))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    y, x = cos * y + sin * x, -sin * y + cos * x
    return raster.sample(site.scene.pixels, y + (site.top + height / 2), x + (site.left + width / 2))


def dented(rng: Rng, site: Site) -> Float:
    """Pushed in or out: pixels move along the slope of the alpha, which is lit from one side."""
    smooth = raster.smooth(site.alpha, max(1, max(site.alpha.shape) // 10))
    slope_y, slope_x = (f32(slope) for slope in np.gradient(smooth))
    steepest = max(float(np.hypot(slope_y, slope_x).max()), 1e-6)
    push = rng.choice([-1, 1]) * rng.uniform(0.1, 0.3) * min(site.alpha.shape) / steepest * 0.5
    height, width = site.alpha.shape
    y, x = np.mgrid[site.top : site.top + height, site.left : site.left + width].astype(np.float32)
    moved = raster.sample(site.scene.pixels, y + push * slope_y, x + push * slope_x)
    light = rng.uniform(0, 2 * np.pi)
    lit = (np.cos(light) * slope_y + np.sin(light) * slope_x) / steepest * rng.uniform(15, 90)
    return f32(moved + lit[..., None])


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
    "shading": Kind(2, (broad,), (FAINT_SHADE,), (0.03, 0.4), (0.3, 1)),
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
    # A later defect may have undone an earlier one.
    return region & raster.grow((good != scene.pixels).any(axis=2), 2), kinds


def _defect(rng: Rng, scene: Scene) -> tuple[str, Mask] | None:
    """Paints one defect; None, and the scene as it was, when too little of it can be seen."""
    weights = np.array([kind.weight for kind in KINDS.values()])
    name = str(rng.choice(list(KINDS), p=weights / weights.sum()))
    kind = KINDS[name]
    area = max(raster.log_uniform(rng, *kind.area) * scene.foreground.size, 9.0)
    shape = kind.shapes[int(rng.integers(len(kind.shapes)))]
    fill = kind.fills[int(rng.integers(len(kind.fills)))]
    site = _site(scene, *shape(rng, scene, area))
    if site is None:
        return None
    alpha = (site.alpha * np.float32(rng.uniform(*kind.blend)))[..., None]
    painted = raster.rounded(site.patch * (1 - alpha) + fill(rng, site) * alpha).astype(np.float32)
    mask = visible(site, painted)
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


def visible(site: Site, painted: Float) -> Mask | None:
    """Where a defect can be seen; None if it can hardly be anywhere."""
    change = np.abs(painted - site.patch).mean(axis=2)
    region = site.alpha > 0.1
    if not region.any():
        return None
    # Many pixels of a changed texture happen to stay as they were: their surroundings count too.
    around = np.maximum(change, raster.blur(change / 255, 1.5) * 255)
    level = max(VISIBLE, 0.2 * float(np.percentile(around[region], 90)))
    mask: Mask = raster.close((around > level) & region, 2 + int(0.04 * region.sum() ** 0.5)) & region
    texture = float(np.abs(site.patch - raster.blur(site.patch, 2)).mean())
    if mask.sum() < 6 or change[mask].mean() < max(VISIBLE, 0.6 * texture):
        return None
    return mask
