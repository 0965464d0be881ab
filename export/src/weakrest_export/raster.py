"""Arithmetic on pictures and masks."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from scipy import ndimage

Float = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Rng = np.random.Generator


def f32(values: npt.ArrayLike) -> Float:
    """Converts to 32-bit floats."""
    return np.asarray(values, np.float32)


def flood(allowed: Mask, seeds: Mask) -> Mask:
    """The pixels of `allowed` that are connected with the seeds by their sides."""
    flooded: Mask = ndimage.binary_propagation(seeds, mask=allowed)
    return flooded


def grow(mask: Mask, radius: int) -> Mask:
    """Dilation with a square of 2 × radius + 1."""
    # Unlike a binary dilation, the filter does not cost more for a larger radius.
    grown: Mask = ndimage.maximum_filter(mask, 2 * radius + 1, mode="constant", cval=0)
    return grown


def close(mask: Mask, radius: int) -> Mask:
    return ~grow(~grow(mask, radius), radius)


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def rotated(height: int, width: int, angle: float) -> tuple[Float, Float]:
    """Coordinates y, x of a window's pixels relative to its center, rotated."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * y - sin * x, sin * y + cos * x


def sample(pixels: Float, y: Float, x: Float) -> Float:
    """Bilinear samples at any coordinates. The picture is mirrored at its edges."""
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


def noise(rng: Rng, height: int, width: int, cell: float, octaves: int = 4, stretch: float = 1) -> Float:
    """Noise of several octaves, mean about 0, deviation 1. Cells of the first octave have `cell` pixels."""
    total = np.zeros((height, width), np.float32)
    angle, reach = rng.uniform(0, 2 * np.pi), float(np.hypot(height, width))
    cos, sin = np.cos(angle), np.sin(angle)
    for octave in range(octaves):
        sy = max(cell / 2**octave, 1.0)
        sx = sy * stretch
        shape = int(reach / sy) + 6, int(reach / sx) + 6
        grid = Image.fromarray(rng.standard_normal(shape, np.float32))
        # Maps a pixel to the grid: rotated around the window's center, then scaled.
        ax, bx, ay, by = cos / sx, sin / sx, -sin / sy, cos / sy
        cx = shape[1] / 2 - (ax * width + bx * height) / 2
        cy = shape[0] / 2 - (ay * width + by * height) / 2
        matrix = (ax, bx, cx, ay, by, cy)
        layer = grid.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        total += np.asarray(layer, np.float32) / 1.8**octave
        if sy <= 1:
            break
    return f32(total / max(float(total.std()), 1e-6))


def blur(values: Float, radius: float) -> Float:
    """Gaussian blur of `[height, width]` in 0..1 or `[height, width, channels]` in 0..255."""
    if values.ndim == 2:
        return f32(blur(f32(values[..., None] * 255), radius)[..., 0] / 255)
    blurred = image(values).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, np.float32).reshape(values.shape)


def smooth(values: Float, radius: int) -> Float:
    """Blur of `[height, width]` with a bell-shaped kernel of 6 × radius + 1, without rounding to 8 bits."""
    total = values.astype(np.float64)
    for _ in range(6):
        sums = np.pad(total, ((radius + 1, radius), (0, 0)), mode="edge").cumsum(axis=0)
        total = ((sums[2 * radius + 1 :] - sums[: -2 * radius - 1]) / (2 * radius + 1)).T
    return f32(total)


def image(pixels: Float) -> Image.Image:
    values = rounded(pixels)
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)


def rounded(pixels: Float) -> npt.NDArray[np.uint8]:
    return (pixels.clip(0, 255) + 0.5).astype(np.uint8)
