"""The label file: which pictures are good, and where on the others the defects are.

JSON Lines, one picture per line; its own path and those of masks are relative to the file's folder:

    {"image": "crack/000.png", "defects": [{"box": [10, 20, 50, 60]}], "type": "crack", "seconds": 5.5}
    {"image": "crack/001.png", "defects": [{"rotated": [[9, 20], [50, 12], [52, 24], [11, 32]]}]}
    {"image": "crack/002.png", "defects": [{"mask": "crack/002_mask.png", "rule": "above-half"}]}
    {"image": "crack/003.png", "tag": "defective"}
    {"image": "ok/001.png", "tag": "good"}

Coordinates are pixel edges of the picture as a viewer shows it, x right and y down: a box over the whole
picture is `[0, 0, width, height]`.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from PIL import Image

from weakrest_export import mask_files
from weakrest_export.errors import Exit, ExportError
from weakrest_export.files import read_text, write_whole
from weakrest_export.mask_files import Bits, Rule
from weakrest_export.shapes import Points, is_convex

Tag = Literal["good", "defective"]
Size = tuple[int, int]
"""Width and height in pixels."""

KEYS = ("image", "tag", "defects", "type", "seconds", "leave_out")
ROUNDING = 1.0
"""Pixels that a box may reach outside of its picture, and is clipped; labeling tools round."""


@dataclass(frozen=True)
class Box:
    """An upright box inside its picture."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def corners(self) -> Points:
        """`[4, 2]`, clockwise from the left top."""
        x0, y0, x1, y1 = self.left, self.top, self.right, self.bottom
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


@dataclass(frozen=True)
class Rotated:
    """A convex shape of four corners, centered in its picture; some corners may lie outside, at the rim."""

    points: tuple[tuple[float, float], ...]

    @property
    def corners(self) -> Points:
        """`[4, 2]`, in the order of drawing."""
        return np.array(self.points, dtype=np.float64)


@dataclass(frozen=True)
class Mask:
    """A picture of the defective pixels.

    Attributes:
        path: of the file.
        rule: which of its values are defective, see `mask_files.read`.
    """

    path: Path
    rule: Rule = "above-half"


Defect = Box | Rotated | Mask

_NAMES = ((Box, "upright boxes"), (Rotated, "rotated boxes"), (Mask, "masks"))


@dataclass(frozen=True)
class Label:
    """What is known about one picture.

    Attributes:
        image: the picture, as an absolute path or relative to the working directory.
        size: of the picture.
        tag: good or defective.
        defects: where; empty for a good picture, and for a defective one that was only tagged.
        type: kind of defect, where known.
        seconds: time spent on labeling, where known.
        leave_out: the enrolled picture that a synthetic one was made from.
    """

    image: Path
    size: Size
    tag: Tag
    defects: tuple[Defect, ...] = ()
    type: str | None = None
    seconds: float | None = None
    leave_out: Path | None = None


def read(path: Path) -> list[Label]:
    """The labels in a file, which are all valid and at least one.

    Raises:
        ExportError: with the first problem that `check` finds.
    """
    labels, problems = check(path)
    if problems:
        more = f" ({len(problems) - 1} more: see `weakrest-export labels check`)" if problems[1:] else ""
        raise ExportError(f"{problems[0]}{more}", problems[0].exit)
    return labels


def check(path: Path) -> tuple[list[Label], list[ExportError]]:
    """The valid labels in a file, and what is wrong with the other lines. Pictures are opened, not decoded.

    Raises:
        ExportError: when the file cannot be read, or is not text.
    """
    labels, problems, seen = [], [], dict[str, int]()
    for number, line in enumerate(read_text(path).split("\n"), 1):
        # Files that were put together have the byte order mark of each.
        line = line.lstrip("\ufeff")
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            label = _label(parse_json(line, where), path.parent, where)
            first = seen.setdefault(os.path.realpath(label.image), number)
            if first != number:
                raise ExportError(
                    f"{where}: {label.image} is in line {first} already: put its defects together in one line"
                )
            labels.append(label)
        except ExportError as error:
            problems.append(error)
    if not labels and not problems:
        problems.append(ExportError(f"{path} has no labels: write one JSON object per picture and line"))
    return labels, problems


def write(path: Path, labels: Sequence[Label], overwrite: bool = False) -> None:
    """Writes a label file, whole or not at all. Paths below its folder become relative, others absolute.

    Raises:
        ExportError: as `check_writable`; when the disk fails.
    """
    check_writable(path, overwrite)
    lines = [json.dumps(_object(label, path.parent), ensure_ascii=False) + "\n" for label in labels]
    try:
        write_whole(path, "".join(lines).encode())
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}", Exit.FAULT) from error


def check_writable(path: Path, overwrite: bool) -> None:
    """Says before long work what `write` would say after it.

    Raises:
        ExportError: when the folder is missing, or the file exists and may not be overwritten.
    """
    if not path.parent.is_dir():
        raise ExportError(f"output directory {path.parent} does not exist: create it first")
    if path.exists() and not overwrite:
        raise ExportError(f"{path} exists: choose another --out, or replace it with --overwrite")


def summary(labels: Sequence[Label]) -> str:
    """How many there are of what, for people."""
    shapes = [defect for label in labels for defect in label.defects]
    tagged = sum(label.tag == "defective" and not label.defects for label in labels)
    counts = {"pictures": len(labels)}
    counts |= {tag: sum(label.tag == tag for label in labels) for tag in get_args(Tag)}
    counts |= {name: sum(isinstance(shape, kind) for shape in shapes) for kind, name in _NAMES}
    counts |= {"only tagged": tagged, "seconds": round(sum(label.seconds or 0 for label in labels))}
    return ", ".join(f"{name} {n}" for name, n in counts.items() if n)


def jitter(
    defects: Sequence[Defect], size: Size, share: float = 0.01, *, rng: np.random.Generator
) -> tuple[Defect, ...]:
    """The defects as a hasty person would have boxed them; masks stay as they are.

    Each corner moves by up to `share` of the picture's width and height, evenly distributed. Upright boxes
    stay upright, nothing gets twisted, and no corner leaves the picture that was not outside before. Where a
    box is too thin for that, it moves less.
    """
    return tuple(
        defect if isinstance(defect, Mask) else _jitter(defect, size, share, rng) for defect in defects
    )


def _jitter(box: Box | Rotated, size: Size, share: float, rng: np.random.Generator) -> Box | Rotated:
    corners = box.corners[[0, 2]] if isinstance(box, Box) else box.corners
    low, high = np.minimum(corners, 0), np.maximum(corners, size)
    for attempt in count():
        reach = share * np.array(size) * 0.5 ** (attempt // 20)
        moved = np.clip(corners + rng.uniform(-reach, reach, corners.shape), low, high)
        if isinstance(box, Box):
            (left, top), (right, bottom) = moved.tolist()
            if left < right and top < bottom:
                return Box(left, top, right, bottom)
        elif is_convex(moved):
            return Rotated(tuple((x, y) for x, y in moved.tolist()))
    raise AssertionError("unreachable: halved often enough, the corners stay where they are")


def picture_size(path: Path, where: str) -> Size:
    """Width and height as a viewer shows the picture, without decoding it.

    Raises:
        ExportError: starting with `where`, when the file is missing or no picture.
    """
    try:
        with Image.open(path) as picture:
            # PNG's own getexif decodes the pixels, to find what stands behind them.
            exif = Image.Image.getexif(picture)
            # Orientations 5 to 8 lie on their side.
            turned = exif.get(0x0112, 1) in (5, 6, 7, 8)
            return (picture.height, picture.width) if turned else picture.size
    except FileNotFoundError:
        raise ExportError(f"{where}: there is no picture {path}: correct or remove it") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ExportError(f"{where}: cannot open {path} as a picture: {error}") from error


def read_mask(mask: Mask, size: Size) -> Bits:
    """Which pixels are defective, see `mask_files.read`.

    Returns:
        `[height, width]`.

    Raises:
        ExportError: when the file cannot be read or is not clear, has another size than `size`, or no pixel
            is defective.
    """
    bits = mask_files.read(mask.path, mask.rule)
    if bits.shape != size[::-1]:
        found = pixels(bits.shape[::-1])
        raise ExportError(f"mask {mask.path} has {found} pixels, but its picture {pixels(size)}")
    if not bits.any():
        raise ExportError(f"no pixel of mask {mask.path} is defective: it is black")
    return bits


def is_empty(mask: Mask) -> bool:
    """Whether no pixel is defective, as in a few public data sets; raises ExportError if it is unreadable."""
    return not mask_files.read(mask.path, mask.rule).any()


def check_masks(labels: Sequence[Label]) -> None:
    """Reads every mask, before long work.

    Raises:
        ExportError: as `read_mask`; when each mask looks inverted.
    """
    masks = [(mask, label.size) for label in labels for mask in label.defects if isinstance(mask, Mask)]
    mask_files.refuse_inverted([(mask.path, read_mask(mask, size)) for mask, size in masks])


def pixels(size: Sequence[int]) -> str:
    """A width and height for people."""
    return "×".join(str(side) for side in size)


def parse_json(text: str, where: str) -> Any:
    """JSON as the standard has it: no NaN, no key twice.

    Raises:
        ExportError: starting with `where`.
    """

    def constant(name: str) -> None:
        raise ExportError(f"{where}: {name} is not a number that JSON knows: correct or remove it")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) < len(items):
            twice = next(key for i, (key, _) in enumerate(items) if key in dict(items[:i]))
            raise ExportError(f"{where}: key {twice!r} is there twice: remove one")
        return made

    try:
        return json.loads(text, parse_constant=constant, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise ExportError(f"{where}: not JSON: {error.msg} at {at}") from error
    except ValueError:
        raise ExportError(f"{where}: not JSON: a number has too many digits") from None
    except RecursionError:
        raise ExportError(f"{where}: not a label: nested too deeply") from None


def numbers(value: object, n: int, where: str) -> list[float]:
    """A JSON list of `n` finite numbers.

    Raises:
        ExportError: starting with `where`.
    """
    if not isinstance(value, list) or len(value) != n:
        raise ExportError(f"{where}: must be {n} numbers in a list, but is {_shown(value)}")
    return [number(item, where) for item in value]


def number(value: object, where: str) -> float:
    """A JSON number that is finite.

    Raises:
        ExportError: starting with `where`.
    """
    # Booleans are integers to Python, and integers may be too long for a float.
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9:
        return float(value)
    raise ExportError(f"{where}: must be a number, but is {_shown(value)}")


def make_box(value: object, size: Size, where: str) -> Box:
    """A box from `[left, top, right, bottom]`, clipped to the picture.

    Raises:
        ExportError: starting with `where`, when that is no box, or it reaches out further than `ROUNDING`.
    """
    left, top, right, bottom = numbers(value, 4, where)
    if left > right or top > bottom:
        raise ExportError(
            f"{where}: {_shown(value)} must be [left, top, right, bottom], left < right and top < bottom"
        )
    width, height = size
    if min(left, top) <= -ROUNDING or right >= width + ROUNDING or bottom >= height + ROUNDING:
        raise ExportError(
            f"{where}: {_shown(value)} reaches outside of the picture, which is {pixels(size)}: "
            "is it in pixels of this picture?"
        )
    box = Box(max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if not (box.left < box.right and box.top < box.bottom):
        raise ExportError(f"{where}: {_shown(value)} has no area: remove it or draw it again")
    return box


def make_rotated(value: object, size: Size, where: str) -> Rotated:
    """A rotated box from four `[x, y]`, in order round it.

    Raises:
        ExportError: starting with `where`, when it is not convex or its center is outside of the picture.
    """
    if not isinstance(value, list) or len(value) != 4:
        raise ExportError(f"{where}: must be four corners [x, y] in a list, but is {_shown(value)}")
    points = tuple((x, y) for x, y in (numbers(corner, 2, where) for corner in value))
    if not is_convex(points):
        raise ExportError(
            f"{where}: {_shown(value)} is twisted, dented or has no area: give the corners in order"
        )
    x, y = np.mean(points, axis=0)
    # The smallest box round anything in a picture is centered in the picture, also where its corners are not.
    if not (0 <= x <= size[0] and 0 <= y <= size[1]):
        raise ExportError(
            f"{where}: {_shown(value)} lies outside of the picture, which is {pixels(size)}: "
            "is it in pixels of this picture?"
        )
    return Rotated(points)


def _label(data: object, folder: Path, where: str) -> Label:
    if not isinstance(data, dict):
        raise ExportError(f'{where}: must be a JSON object such as {{"image": "001.png", "tag": "good"}}')
    _known(data, KEYS, where)
    image = folder / _text(data, "image", where)
    size = picture_size(image, where)
    given = data.get("defects", [])
    if not isinstance(given, list):
        raise ExportError(f"{where}: defects must be a list of objects, but is {_shown(given)}")
    defects = tuple(_defect(item, size, folder, f"{where}: defects[{i}]") for i, item in enumerate(given))
    tag = data.get("tag", "defective" if defects else None)
    if tag not in get_args(Tag):
        raise ExportError(
            f'{where}: unknown tag {_shown(tag)}: write "tag": "good" or "defective", or list defects'
        )
    if tag == "good" and defects:
        raise ExportError(f"{where}: a good picture has no defects: remove them or the tag")
    seconds = data.get("seconds")
    if seconds is not None and number(seconds, f"{where}: seconds") < 0:
        raise ExportError(f"{where}: seconds {_shown(seconds)} must not be negative")
    leave_out = folder / _text(data, "leave_out", where) if "leave_out" in data else None
    if leave_out is not None:
        picture_size(leave_out, f"{where}: leave_out")
    kind = _text(data, "type", where) if "type" in data else None
    return Label(image, size, cast(Tag, tag), defects, kind, seconds, leave_out)


def _defect(data: object, size: Size, folder: Path, where: str) -> Defect:
    shapes = [key for key in ("box", "rotated", "mask") if isinstance(data, dict) and key in data]
    if not isinstance(data, dict) or len(shapes) != 1:
        raise ExportError(
            f"{where}: must be an object with one of box, rotated or mask, but is {_shown(data)}"
        )
    shape = shapes[0]
    _known(data, (shape, "rule") if shape == "mask" else (shape,), where)
    if shape == "box":
        return make_box(data["box"], size, f"{where}: box")
    if shape == "rotated":
        return make_rotated(data["rotated"], size, f"{where}: rotated box")
    rule = data.get("rule", "above-half")
    if rule not in get_args(Rule):
        raise ExportError(f"{where}: unknown rule {_shown(rule)}: write {' or '.join(get_args(Rule))}")
    mask = folder / _text(data, "mask", where)
    found = picture_size(mask, where)
    if found != size:
        raise ExportError(
            f"{where}: mask {mask} has {pixels(found)} pixels, but its picture {pixels(size)}: "
            "give the mask that was drawn on this picture"
        )
    return Mask(mask, rule)


def _known(data: dict[str, Any], keys: Sequence[str], where: str) -> None:
    unknown = next((key for key in data if key not in keys), None)
    if unknown is not None:
        raise ExportError(f"{where}: unknown key {unknown!r}: the keys are {', '.join(keys)}")


def _text(data: dict[str, Any], key: str, where: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ExportError(f"{where}: {key} must be a text that is not empty, but is {_shown(value)}")
    return value


def _shown(value: object) -> str:
    text = "missing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _object(label: Label, folder: Path) -> dict[str, Any]:
    made: dict[str, Any] = {"image": _relative(label.image, folder)}
    if label.defects:
        made["defects"] = [_shape(defect, folder) for defect in label.defects]
    else:
        made["tag"] = label.tag
    if label.type is not None:
        made["type"] = label.type
    if label.seconds is not None:
        made["seconds"] = label.seconds
    if label.leave_out is not None:
        made["leave_out"] = _relative(label.leave_out, folder)
    return made


def _shape(defect: Defect, folder: Path) -> dict[str, Any]:
    if isinstance(defect, Mask):
        rule = {} if defect.rule == "above-half" else {"rule": defect.rule}
        return {"mask": _relative(defect.path, folder), **rule}
    if isinstance(defect, Box):
        return {"box": [_rounded(v) for v in (defect.left, defect.top, defect.right, defect.bottom)]}
    return {"rotated": [[_rounded(x), _rounded(y)] for x, y in defect.points]}


def _rounded(value: float) -> float:
    # A thousandth of a pixel is finer than any hand; more digits would only be noise in the file.
    near = round(value, 3)
    return int(near) if math.floor(near) == near else near


def _relative(path: Path, folder: Path) -> str:
    # Links are not followed: a data set behind a link below the folder is below it.
    relative = Path(os.path.relpath(path, folder))
    return (path.absolute() if relative.parts[0] == ".." else relative).as_posix()
