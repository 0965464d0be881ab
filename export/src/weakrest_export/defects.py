"""Paints defects on a picture.

A defect is a shape (where and how opaque), a fill (its look) and a blend factor. `KINDS` lists which go
together. The mask is the visible change, not the intended one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from weakrest_export import raster
from weakrest_export.defect_fills import (
    blurred,
    dark,
    dented,
    flat,
    foreign,
    frayed,
    gone,
    own,
    procedural,
    recolor,
    shade,
    shards,
    sharpened,
    stretched,
)
from weakrest_export.defect_shapes import (
    Placed,
    band,
    blob,
    broad,
    chip,
    crack,
    ellipse,
    part,
    polygon,
    scratch,
    spots,
)
from weakrest_export.raster import Float, Mask, Rng
from weakrest_export.scene import Scene, Site

VISIBLE = 6.0
"""Smallest visible mean absolute difference, in gray levels of 255."""
TRIES = 12

Shape = Callable[[Rng, Scene, float], Placed]
Fill = Callable[[Rng, Site], Float]


@dataclass(frozen=True)
class Kind:
    """Shapes and fills that go together. Areas are shares of the picture, blends are opacities."""

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
    """Paints one to three defects on a scene. Returns the mask of all, and their kinds."""
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
    return region & raster.grow((good != scene.pixels).any(axis=2), 2), kinds


def _defect(rng: Rng, scene: Scene) -> tuple[str, Mask] | None:
    """Paints one defect. Returns None and leaves the scene unchanged if the defect is hardly visible."""
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
    """Clips a placed shape to the picture and its foreground."""
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
    """Where a defect is visible; None if it is hardly visible anywhere."""
    change = np.abs(painted - site.patch).mean(axis=2)
    region = site.alpha > 0.1
    if not region.any():
        return None
    # Many pixels of a changed texture keep their value by chance: their surroundings count, too.
    around = np.maximum(change, raster.blur(change / 255, 1.5) * 255)
    level = max(VISIBLE, 0.2 * float(np.percentile(around[region], 90)))
    mask: Mask = raster.close((around > level) & region, 2 + int(0.04 * region.sum() ** 0.5)) & region
    texture = float(np.abs(site.patch - raster.blur(site.patch, 2)).mean())
    if mask.sum() < 6 or change[mask].mean() < max(VISIBLE, 0.6 * texture):
        return None
    return mask
