"""Reads and checks label files."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from weakrest_export.errors import ExportError
from weakrest_export.files import read_text
from weakrest_export.json_text import number, numbers, parse_json, shown
from weakrest_export.labels.model import Box, Defect, Label, Mask, Polygon, Rotated, Tag
from weakrest_export.mask_files import Rule
from weakrest_export.pictures import Size, picture_size, pixels
from weakrest_export.shapes import filled, is_convex

KEYS = ("image", "tag", "defects", "type", "seconds", "leave_out")
MOST_CORNERS = 1000
ROUNDING = 1.0
"""A box may extend beyond its picture by less than this, in pixels: labeling tools round. It is clipped."""


def read(path: Path) -> list[Label]:
    """Reads a file with at least one label, all valid.

    Raises:
        ExportError: with the first problem that `check` finds.
    """
    labels, problems = check(path)
    if problems:
        more = f" ({len(problems) - 1} more: see `weakrest-export labels check`)" if problems[1:] else ""
        raise ExportError(f"{problems[0]}{more}", problems[0].exit)
    return labels


def check(path: Path) -> tuple[list[Label], list[ExportError]]:
    """The valid labels of a file, and the problems of the other lines. Pictures are opened, not decoded.

    Raises:
        ExportError: if the file cannot be read, or is not text.
    """
    labels, problems, seen = [], [], dict[str, int]()
    for at, line in enumerate(read_text(path).split("\n"), 1):
        # Concatenated files have the byte order mark of each.
        line = line.lstrip("\ufeff")
        if not line.strip():
            continue
        where = f"{path}:{at}"
        try:
            label = _label(parse_json(line, where), path.parent, where)
            first = seen.setdefault(os.path.realpath(label.image), at)
            if first != at:
                raise ExportError(
                    f"{where}: {label.image} is already in line {first}: merge its defects into one line"
                )
            labels.append(label)
        except ExportError as error:
            problems.append(error)
    if not labels and not problems:
        problems.append(ExportError(f"{path} has no labels: write one JSON object per picture and line"))
    return labels, problems


def make_box(value: object, size: Size, where: str) -> Box:
    """Makes a box of `[left, top, right, bottom]`, clipped to the picture.

    Raises:
        ExportError: starting with `where`, if that is no box, or it extends too far beyond the picture.
    """
    left, top, right, bottom = numbers(value, 4, where)
    if left > right or top > bottom:
        raise ExportError(
            f"{where}: {shown(value)} must be [left, top, right, bottom] with left < right and top < bottom"
        )
    width, height = size
    if min(left, top) <= -ROUNDING or right >= width + ROUNDING or bottom >= height + ROUNDING:
        raise ExportError(
            f"{where}: {shown(value)} reaches outside the picture of {pixels(size)} pixels: "
            "give pixels of this picture"
        )
    box = Box(max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if not (box.left < box.right and box.top < box.bottom):
        raise ExportError(f"{where}: {shown(value)} has no area: remove the box or draw it again")
    return box


def make_rotated(value: object, size: Size, where: str) -> Rotated:
    """Makes a rotated box of four `[x, y]`, in order around it.

    Raises:
        ExportError: starting with `where`, if it is not convex or its center is outside the picture.
    """
    if not isinstance(value, list) or len(value) != 4:
        raise ExportError(f"{where}: must be a list of four corners [x, y], not {shown(value)}")
    points = tuple((x, y) for x, y in (numbers(corner, 2, where) for corner in value))
    if not is_convex(points):
        raise ExportError(f"{where}: {shown(value)} is not convex or has no area: give the corners in order")
    x, y = np.mean(points, axis=0)
    # The smallest box around anything in a picture has its center there, even if corners are outside.
    if not (0 <= x <= size[0] and 0 <= y <= size[1]):
        raise ExportError(
            f"{where}: {shown(value)} is outside the picture of {pixels(size)} pixels: "
            "give pixels of this picture"
        )
    return Rotated(points)


def make_polygon(value: object, size: Size, where: str) -> Polygon:
    """Makes a polygon of at least three `[x, y]`, in order around it, clipped to the picture.

    Raises:
        ExportError: starting with `where`, if it extends too far beyond the picture or covers no pixel.
    """
    if not isinstance(value, list) or not 3 <= len(value) <= MOST_CORNERS:
        raise ExportError(
            f"{where}: must be a list of 3 to {MOST_CORNERS} corners [x, y], not {shown(value)}"
        )
    points = np.array([numbers(corner, 2, where) for corner in value])
    if (points <= -ROUNDING).any() or (points >= np.array(size) + ROUNDING).any():
        raise ExportError(
            f"{where}: {shown(value)} reaches outside of the picture of {pixels(size)} pixels: "
            "give pixels of this picture"
        )
    points = points.clip(0, size)
    if not filled(points, size).any():
        raise ExportError(f"{where}: {shown(value)} covers no pixel: remove it or draw it again")
    return Polygon(tuple((x, y) for x, y in points.tolist()))


def _label(data: object, folder: Path, where: str) -> Label:
    if not isinstance(data, dict):
        raise ExportError(f'{where}: must be a JSON object such as {{"image": "001.png", "tag": "good"}}')
    _known(data, KEYS, where)
    image = folder / _text(data, "image", where)
    size = picture_size(image, where)
    given = data.get("defects", [])
    if not isinstance(given, list):
        raise ExportError(f"{where}: defects must be a list of objects, not {shown(given)}")
    defects = tuple(_defect(item, size, folder, f"{where}: defects[{i}]") for i, item in enumerate(given))
    tag = data.get("tag", "defective" if defects else None)
    if tag not in get_args(Tag):
        found = shown(tag) if "tag" in data else "missing"
        raise ExportError(
            f'{where}: unknown tag {found}: write "tag": "good" or "defective", or list defects'
        )
    if tag == "good" and defects:
        raise ExportError(f"{where}: a good picture has no defects: remove the defects or the tag")
    seconds = data.get("seconds")
    if "seconds" in data and number(seconds, f"{where}: seconds") < 0:
        raise ExportError(f"{where}: seconds {shown(seconds)} must not be negative")
    leave_out = folder / _text(data, "leave_out", where) if "leave_out" in data else None
    if leave_out is not None:
        picture_size(leave_out, f"{where}: leave_out")
    kind = _text(data, "type", where) if "type" in data else None
    return Label(image, size, cast(Tag, tag), defects, kind, seconds, leave_out)


def _defect(data: object, size: Size, folder: Path, where: str) -> Defect:
    forms = ("box", "rotated", "polygon", "mask")
    shapes = [key for key in forms if isinstance(data, dict) and key in data]
    if not isinstance(data, dict) or len(shapes) != 1:
        raise ExportError(
            f"{where}: must be an object with one of box, rotated, polygon or mask, not {shown(data)}"
        )
    shape = shapes[0]
    _known(data, (shape, "type", "rule") if shape == "mask" else (shape, "type"), where)
    kind = _text(data, "type", where) if "type" in data else None
    if shape == "box":
        return replace(make_box(data["box"], size, f"{where}: box"), type=kind)
    if shape == "rotated":
        return replace(make_rotated(data["rotated"], size, f"{where}: rotated box"), type=kind)
    if shape == "polygon":
        return replace(make_polygon(data["polygon"], size, f"{where}: polygon"), type=kind)
    rule = data.get("rule", "above-half")
    if rule not in get_args(Rule):
        raise ExportError(f"{where}: unknown rule {shown(rule)}: write {' or '.join(get_args(Rule))}")
    mask = folder / _text(data, "mask", where)
    found = picture_size(mask, where)
    if found != size:
        raise ExportError(
            f"{where}: mask {mask} has {pixels(found)} pixels, but its picture has {pixels(size)}: "
            "give the mask of this picture"
        )
    return Mask(mask, rule, kind)


def _known(data: dict[str, Any], keys: Sequence[str], where: str) -> None:
    unknown = next((key for key in data if key not in keys), None)
    if unknown is not None:
        raise ExportError(f"{where}: unknown key {unknown!r}: the keys are {', '.join(keys)}")


def _text(data: dict[str, Any], key: str, where: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value or "\0" in value:
        found = shown(value) if key in data else "missing"
        raise ExportError(f"{where}: {key} must be a text, not empty, but is {found}")
    return value
