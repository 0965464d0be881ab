"""Fills of synthetic defects.

A fill returns the site's patch as it looks where the defect is opaque.
"""

import numpy as np

from weakrest_export import raster
from weakrest_export.raster import Float, Rng, f32
from weakrest_export.scene import Site


def _color(rng: Rng, site: Site, spread: float = 110) -> Float:
    """A color that differs from the site: any color, or the site's color made brighter, darker or tinted."""
    channels = site.patch.shape[2]
    if rng.random() < 0.25:
        return f32(rng.uniform(0, 255, channels))
    own = np.average(site.patch.reshape(-1, channels), axis=0, weights=site.alpha.ravel() + 1e-6)
    own = own + rng.choice([-1, 1]) * rng.uniform(20, spread) + rng.uniform(-25, 25, channels)
    return f32(own.clip(0, 255))


def _turned(rng: Rng, site: Site, source: Float, zoom: tuple[float, float]) -> Float:
    """A random piece of a picture, rotated, mirrored and scaled, in the size of the site."""
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
    """Adds the grain of a camera or of a rough surface."""
    return f32(patch + rng.standard_normal((*patch.shape[:2], 1), np.float32) * deviation)


def flat(rng: Rng, site: Site) -> Float:
    """Almost one color."""
    color = np.broadcast_to(_color(rng, site, 140), site.patch.shape)
    return grainy(rng, color + 0.15 * (site.patch - site.patch.mean(axis=(0, 1))), rng.uniform(0, 5))


def own(rng: Rng, site: Site) -> Float:
    """The picture's texture from elsewhere, rotated, brighter or darker."""
    patch = _turned(rng, site, site.scene.pixels, (0.6, 1.6))
    # A uniform texture looks the same when rotated. So most get another brightness.
    gain = rng.choice(
        [1, raster.log_uniform(rng, 0.5, 0.8), raster.log_uniform(rng, 1.25, 2)], p=[0.2, 0.4, 0.4]
    )
    return f32(patch * gain)


def shards(rng: Rng, site: Site) -> Float:
    """Broken pieces: cells with the picture's texture, each from elsewhere and in other light."""
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
    """Darker or brighter: darkness multiplies, brightness adds, because black must be able to shine."""
    strength = rng.uniform(low, high)
    tint = 1 + rng.uniform(-0.15, 0.15, site.patch.shape[2])
    if rng.random() < 0.5:
        return f32(site.patch * (1 - strength) * tint)
    return f32(site.patch + (255 - 0.6 * site.patch) * strength * 0.8 * tint)


def dark(rng: Rng, site: Site) -> Float:
    """Much darker, like a gap. Bright where the picture is already dark."""
    mean = float(np.average(site.patch.mean(axis=2), weights=site.alpha + 1e-6))
    if mean < 40 or rng.random() < 0.1:
        return f32(site.patch + rng.uniform(40, 140))
    return f32(site.patch * rng.uniform(0, 0.55))


def blurred(rng: Rng, site: Site) -> Float:
    """Out of focus or polished."""
    return raster.blur(site.patch, rng.uniform(1.5, 8) * site.scene.unit)


def sharpened(rng: Rng, site: Site) -> Float:
    """Rougher than before."""
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
    """Squeezed or stretched along one direction, around the site's center."""
    height, width = site.alpha.shape
    angle = rng.uniform(0, np.pi)
    y, x = raster.rotated(height, width, angle)
    y = y * np.float32(rng.choice([raster.log_uniform(rng, 0.05, 0.5), raster.log_uniform(rng, 2, 4)]))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    y, x = cos * y + sin * x, -sin * y + cos * x
    return raster.sample(site.scene.pixels, y + (site.top + height / 2), x + (site.left + width / 2))


def dented(rng: Rng, site: Site) -> Float:
    """Pushed in or out: pixels move along the slope of the alpha, with light from one side."""
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
    """A missing piece: the background, or something dark if there is no background."""
    if site.scene.background is None:
        return dark(rng, site) if rng.random() < 0.5 else flat(rng, site)
    color = site.scene.background * np.float32(rng.uniform(0.85, 1.05))
    return grainy(rng, np.broadcast_to(color, site.patch.shape), rng.uniform(0, 3))
