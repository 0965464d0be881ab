"""Shapes of synthetic defects.

A shape takes the scene and the area to cover, in pixels. It returns the alpha with its top and left.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from weakrest_export import raster
from weakrest_export.raster import Float, Rng, f32
from weakrest_export.scene import Scene

Placed = tuple[Float, int, int]


def _place(rng: Rng, scene: Scene, alpha: Float, among: npt.NDArray[np.intp] | None = None) -> Placed:
    """Puts a window's center on a random pixel of the foreground, or of `among`."""
    among = np.flatnonzero(scene.foreground) if among is None else among
    y, x = divmod(int(rng.choice(among)), scene.foreground.shape[1])
    return alpha, y - alpha.shape[0] // 2, x - alpha.shape[1] // 2


def _highest(field: Float, area: float) -> Float:
    """1 at the highest pixels of a field, `area` of them, 0 elsewhere."""
    return f32(field > np.quantile(field, 1 - min(area / field.size, 0.95)))


def _feathered(placed: Placed, radius: float) -> Placed:
    """Softens the edge, in a window that grows by as much."""
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
    # Nothing is outside the window's ellipse: the window's sides must not show as edges.
    field = noise - rng.uniform(1.5, 5) * radius - 99 * (radius > 0.95)
    return _feathered(_place(rng, scene, _highest(field, area)), _softness(rng, area))


def ellipse(rng: Rng, scene: Scene, area: float) -> Placed:
    """A disk, an ellipse or a ring with a slightly uneven outline."""
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
    """Points `[n, 2]` (x, y) of a line and its widths in pixels. One or both ends taper."""
    steps = int(np.clip(length / 5, 4, 60))
    bend = rng.normal(0, 0.8) / steps if rng.random() < 0.6 else 0
    angles = np.full(steps, heading)
    turn = 0.0
    for step in range(steps):
        # The heading pulls the line back: without that, it would curl up.
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
    """Draws lines, and polygons where there are no widths, with smooth edges in the smallest window."""
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
    """One or several holes or drops, 3 to 20 pixels across."""
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
    """A lump on the rim of the object, or of the picture if there is no object."""
    alpha, _, _ = (blob, polygon)[int(rng.integers(2))](rng, scene, 1.6 * area)
    outside = ~np.pad(scene.foreground, 1)
    rim = np.flatnonzero((raster.grow(outside, 1)[1:-1, 1:-1]) & scene.foreground)
    return _place(rng, scene, alpha, rim)


def band(rng: Rng, scene: Scene, area: float) -> Placed:
    """A strip along a side of the object, with a wavy edge."""
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
    """A region of the picture: pixels of similar brightness that are connected."""
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
