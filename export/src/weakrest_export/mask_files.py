"""Reads mask files of any tool.

The rules are the same as in the `weakrest` program (`src/imaging/mask.rs`), and the tests of both read the
same files. A clear mask is read. An ambiguous mask is refused by name: a wrong reading would call every part
good, or none.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from scipy import ndimage

from weakrest_export.errors import ExportError

Bits = npt.NDArray[np.bool_]
Rule = Literal["above-half", "non-zero"]
Integers = npt.NDArray[np.uint32]

FAINT = 31
"""Values up to this are noise of smoothing, or class numbers."""
SIDE = 5
"""Smallest side of an area, in pixels. What smoothing leaves at edges is thinner."""


@dataclass(frozen=True)
class _Values:
    shown: Integers
    """`[height, width, 3]`, transparency applied."""
    white: int
    exact: bool
    """Whether the format keeps values exactly."""

    @property
    def gray(self) -> Integers:
        brightest: Integers = self.shown.max(axis=2)
        return brightest


def read(path: Path, rule: Rule = "above-half") -> Bits:
    """Reads which pixels are defective, `[height, width]`.

    `above-half` takes white: values above the middle, or the only value beside black. `non-zero` takes every
    value above 0. In a color file the brightest channel counts. If only the transparency varies, it is the
    mask.

    Raises:
        ExportError: if the file cannot be read, or is ambiguous: class numbers or colors, only dark grays.
    """
    values = _values(path)
    if rule == "non-zero":
        return values.gray > 0
    why = _unclear(values)
    if why:
        raise ExportError(
            f'mask {path}: {why}: save it black with white defects; in a label file, "rule": "non-zero" '
            "takes every value above 0"
        )
    return values.gray > (0 if _is_uniform(values) else values.white // 2)


def looks_inverted(bits: Bits) -> bool:
    """Whether more than half of the picture and of its rim is marked, as if defects were black."""
    inner = np.zeros(bits.shape, np.bool_)
    inner[1:-1, 1:-1] = True
    return bool(2 * bits.sum() > bits.size and 2 * bits[~inner].sum() > (~inner).sum())


def refuse_inverted(masks: Iterable[tuple[Path, Bits]]) -> None:
    """Raises ExportError if every mask that marks anything looks inverted."""
    first = None
    for path, bits in masks:
        if bits.any():
            if not looks_inverted(bits):
                return
            first = first or path
    if first:
        raise ExportError(
            f"mask {first}: every mask marks more than half of its picture and of its rim: they look "
            "inverted; save them black with white defects"
        )


def _values(path: Path) -> _Values:
    try:
        with Image.open(path) as file:
            exact = file.format != "JPEG"
            # Pillow keeps eight bits: 1 of 65535 would be black.
            if not file.mode.startswith("I") and any(";16" in str(tile[3]) for tile in file.tile):
                raise ExportError(f"mask {path}: 16 bits per color: save it with 8 bits per value")
            picture = ImageOps.exif_transpose(file)
            if picture.mode == "F":
                raise ExportError(f"mask {path}: its values are floats: save it with 8 bits per value")
            if picture.mode.startswith("I"):
                gray = np.asarray(picture)
                return _Values(np.stack([gray.astype(np.uint32)] * 3, axis=2), 65535, exact)
            clear = picture.mode.endswith(("A", "a")) or "transparency" in picture.info
            colors = np.asarray(picture.convert("RGBA" if clear else "RGB")).astype(np.uint32)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ExportError(f"cannot read mask {path}: {error}") from error
    shown, alpha = colors[..., :3], colors[..., 3:]
    if alpha.size and (alpha < 255).any():
        # If the color is the same everywhere, the transparency is the mask, unless it is the same, too.
        if (shown == shown[0, 0]).all():
            shown = np.repeat(alpha, 3, axis=2)
        elif (alpha != alpha[0, 0]).any():
            shown = shown * alpha // 255
    return _Values(shown, 255, exact)


def _is_uniform(values: _Values) -> bool:
    """Whether all pixels are black or of one other value."""
    marked = values.shown[values.gray > 0]
    return values.exact and (not len(marked) or bool((marked == marked[0]).all()))


def _unclear(values: _Values) -> str | None:
    gray, white = values.gray, values.white
    half, unit = white // 2, white // 255
    if _is_uniform(values):
        return None
    found = np.unique(gray)
    some = ", ".join(str(v) for v in found[:6]) + (", …" if len(found) > 6 else "")
    if gray.max() <= half:
        if not gray.any():
            return None
        return f"its values are {some}, none above {half} of {white}: class numbers, or drawn too dark"
    numbers = (found > 0) & (found <= FAINT)
    if values.exact and numbers.any() and (numbers | (found == 0) | (found == white)).all():
        return f"its values are {some}: class numbers beside white"
    parts = (values.shown > gray[..., None] // 2).astype(np.uint32)
    hue = (parts * np.array([1, 2, 4], np.uint32)).sum(axis=2, dtype=np.uint32)
    areas = _areas(gray * np.uint32(8) + hue, gray >= (FAINT + 1) * unit)
    levels, hues = areas >> 3, set((areas & 7).tolist())
    if not values.exact:
        # In such a file, no area has a single value.
        bright = np.bincount(hue[gray > half], minlength=8)
        hues |= set(np.flatnonzero(bright > bright.sum() // 8).tolist())
    spread = bool(len(levels)) and (levels.min() <= half or levels.max() - levels.min() > FAINT * unit)
    if spread or len(hues) > 1:
        return "it has areas of several grays or colors: it does not say which are defective"
    return None


def _areas(values: Integers, wanted: Bits) -> Integers:
    """The values of areas of at least `SIDE` × `SIDE` pixels."""
    low, high = (extreme(values, SIDE) for extreme in (ndimage.minimum_filter, ndimage.maximum_filter))
    rim = SIDE // 2
    inside = np.s_[rim : len(values) - rim, rim : values.shape[1] - rim]
    found: Integers = np.unique(values[inside][(low == high)[inside] & wanted[inside]])
    return found
