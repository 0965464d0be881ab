"""Labels drawn in other tools: COCO JSON, Label Studio JSON and CVAT XML 1.1 (images) become a label file.

Upright and rotated boxes stay boxes, and polygons with four convex corners become rotated boxes. Polygons
with more corners, ellipses and painted masks of a picture are painted into one mask file. The names of labels
become the type of the defects, save *good* and *defective*, which are the tag.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from weakrest_export.errors import Exit, ExportError
from weakrest_export.files import read_text, write_whole
from weakrest_export.labels import (
    Defect,
    Label,
    Mask,
    Size,
    Tag,
    check_writable,
    make_box,
    make_rotated,
    number,
    numbers,
    parse_json,
    picture_size,
    pixels,
    write,
)
from weakrest_export.shapes import Bits, Points, filled, is_convex, rotated


@dataclass
class _Picture:
    """What was found of one picture; `marked` once a person said anything about it."""

    where: str
    image: Path
    size: Size
    names: dict[str, None] = field(default_factory=dict)
    defects: list[Defect] = field(default_factory=list)
    bits: Bits | None = None
    seconds: float | None = None
    marked: bool = False

    def box(
        self, where: str, left: float, top: float, width: float, height: float, degrees: float = 0
    ) -> None:
        """A box turned about its center."""
        if degrees % 360 == 0:
            self.defects.append(make_box([left, top, left + width, top + height], self.size, where))
        else:
            center = (left + width / 2, top + height / 2)
            corners = rotated(_corners(left, top, width, height), center, degrees)
            self.defects.append(make_rotated(corners.tolist(), self.size, where))

    def polygon(self, where: str, points: Points) -> None:
        if len(points) == 4 and is_convex(points):
            self.defects.append(make_rotated(points.tolist(), self.size, where))
            return
        if (points.max(axis=0) >= np.add(self.size, 1)).any() or (points.min(axis=0) <= -1).any():
            raise ExportError(
                f"{where}: the shape reaches outside of the picture, which is {pixels(self.size)}: "
                "is it of this picture?"
            )
        self.paint(where, filled(points, self.size))

    def paint(self, where: str, bits: Bits) -> None:
        if not bits.any():
            raise ExportError(f"{where}: the shape covers no pixel: remove it or draw it again")
        self.bits = bits if self.bits is None else self.bits | bits

    def label(self, masks: Path, index: int) -> Label:
        names = {name.strip().lower(): name.strip() for name in self.names}
        shapes = bool(self.defects) or self.bits is not None
        if "good" in names and (shapes or len(names) > 1):
            raise ExportError(
                f"{self.where}: {self.image} is tagged good and has defects: correct one of them"
            )
        kind = "+".join(name for key, name in names.items() if key not in ("good", "defective"))
        if kind and not shapes:
            raise ExportError(
                f"{self.where}: unknown tag {kind!r}: tag pictures good or defective, or draw the defects"
            )
        defects = self.defects
        if self.bits is not None:
            defects = [*defects, Mask(_save(self.bits, masks / f"{index:05}.png"))]
        # What was looked at and has neither shape nor tag has no defect.
        tag: Tag = "defective" if shapes or "defective" in names else "good"
        return Label(self.image, self.size, tag, tuple(defects), kind or None, self.seconds)


def import_labels(
    format: str, file: Path, images: Path, out: Path, unmarked_good: bool = False, overwrite: bool = False
) -> list[Label]:
    """Reads another tool's file and writes a label file, with painted masks in `OUT-masks` beside it.

    Args:
        format: one of `FORMATS`.
        file: the other tool's.
        images: the pictures' folder; a picture is found by its path in the file or the end of it.
        out: the label file.
        unmarked_good: pictures about which the file says nothing are good; they are left out otherwise.
        overwrite: replace an existing label file.

    Raises:
        ExportError: with file and place in it, when something cannot be understood; no label file is written.
    """
    check_writable(out, overwrite)
    if not images.is_dir():
        raise ExportError(f"folder of pictures {images} does not exist: name it with --images")
    text = read_text(file)
    pictures: dict[Path, _Picture] = {}
    for picture in FORMATS[format](text, str(file), images):
        if picture.image in pictures:
            raise ExportError(
                f"{picture.where}: {picture.image} is there already, as {pictures[picture.image].where}: "
                "remove one of them"
            )
        pictures[picture.image] = picture
    kept = [picture for picture in pictures.values() if picture.marked or unmarked_good]
    if not kept:
        raise ExportError(
            f"{file} marks no picture: tag pictures, draw defects, or call the rest good with --unmarked-good"
        )
    masks = out.with_name(f"{out.stem}-masks")
    labels = [picture.label(masks, i) for i, picture in enumerate(kept)]
    write(out, labels, overwrite)
    return labels


def _coco(text: str, file: str, images: Path) -> Iterator[_Picture]:
    data = parse_json(text, file)
    root = f"{file}: $"
    categories = _list(data, "categories", root)
    names = {_get(entry, "id", where): _text(entry, "name", where) for where, entry in categories}
    pictures: dict[Any, _Picture] = {}
    for where, entry in _list(data, "images", root):
        size = _get(entry, "width", where), _get(entry, "height", where)
        key = _get(entry, "id", where)
        if key in pictures:
            raise ExportError(f"{where}: id {key!r} is there twice: export again")
        pictures[key] = _picture(images, [_text(entry, "file_name", where)], size, where)
    for where, entry in _list(data, "annotations", root):
        picture = pictures.get(_get(entry, "image_id", where))
        name = names.get(_get(entry, "category_id", where))
        if picture is None or name is None:
            missing = "image_id" if picture is None else "category_id"
            raise ExportError(f"{where}: there is no {missing} {entry[missing]!r} in the file: export again")
        picture.marked = True
        picture.names[name] = None
        attributes = entry.get("attributes")
        turn = attributes.get("rotation", 0) if isinstance(attributes, dict) else 0
        degrees = number(turn, f"{where}.attributes.rotation")
        shape = entry.get("segmentation")
        if degrees == 0 and isinstance(shape, list) and shape:
            for i, flat in enumerate(shape):
                at = f"{where}.segmentation[{i}]"
                n = len(flat) if isinstance(flat, list) else 0
                if n < 6 or n % 2:
                    raise ExportError(f"{at}: must be x and y of at least three corners: export again")
                picture.polygon(at, np.array(numbers(flat, n, at)).reshape(-1, 2))
        elif isinstance(shape, dict) and isinstance(shape.get("counts"), list):
            # Runs go down the columns.
            picture.paint(where, _runs(shape["counts"], picture.size[::-1], f"{where}.segmentation").T)
        elif entry.get("bbox"):
            left, top, width, height = numbers(entry["bbox"], 4, f"{where}.bbox")
            picture.box(f"{where}.bbox", left, top, width, height, degrees)
        elif name.lower() not in ("good", "defective"):
            raise ExportError(f"{where}: has neither bbox nor polygon: draw it again")
    yield from pictures.values()


def _label_studio(text: str, file: str, images: Path) -> Iterator[_Picture]:
    data = parse_json(text, file)
    for where, task in _list({"": data}, "", f"{file}: $"):
        if "annotations" not in task:
            raise ExportError(f"{where}: has no annotations: export as JSON (not JSON-MIN)")
        given = _get(task, "data", where)
        links = [v for k, v in given.items() if isinstance(v, str) and (k == "image" or "image" not in given)]
        if len(links) != 1:
            raise ExportError(f"{where}.data: it is not clear which entry is the picture: call it image")
        try:
            link = urlsplit(links[0])
        except ValueError as error:
            raise ExportError(f"{where}.data: {links[0]!r} is no path to a picture: {error}") from error
        name = parse_qs(link.query).get("d", [unquote(link.path)])[0]
        # An upload gets eight digits before its name.
        names = [name, re.sub(r"(^|/)[0-9a-f]{8}-([^/]*)$", r"\1\2", name)]
        picture = _picture(images, names, None, where)
        done = [(at, work) for at, work in _list(task, "annotations", where) if not work.get("was_cancelled")]
        if len(done) > 1:
            raise ExportError(f"{where}: was annotated {len(done)} times: keep one of the annotations")
        for at, work in done:
            picture.marked = True
            if work.get("lead_time") is not None:
                picture.seconds = round(number(work["lead_time"], f"{at}.lead_time"), 3)
            seen = set()
            for place, region in _list(work, "result", at):
                value = _get(region, "value", place)
                for key in ("choices", "labels", "rectanglelabels", "polygonlabels", "ellipselabels"):
                    tags = value.get(key)
                    picture.names.update(dict.fromkeys(map(str, tags if isinstance(tags, list) else [])))
                # A shape and its label may come as two regions of one id.
                if region.get("type") != "choices" and (part := str(region.get("id", place))) not in seen:
                    seen.add(part)
                    _region(picture, region, value, place)
        yield picture


def _region(picture: _Picture, region: dict[str, Any], value: dict[str, Any], where: str) -> None:
    width, height = picture.size
    original = (region.get("original_width", width), region.get("original_height", height))
    _same_size(picture, original, where)
    if region.get("image_rotation"):
        raise ExportError(
            f"{where}: was drawn on the picture turned: turn the picture's file and draw it again"
        )

    def read(keys: list[str]) -> list[float]:
        # Coordinates are percent of the picture's sides.
        scale = [width, height] * 2
        found = numbers([value.get(key) for key in keys], len(keys), f"{where}.value {', '.join(keys)}")
        return [v * side / 100 for v, side in zip(found, scale, strict=False)]

    degrees = number(value.get("rotation", 0), f"{where}.value.rotation")
    if "width" in value:
        left, top, w, h = read(["x", "y", "width", "height"])
        if degrees % 360 == 0:
            picture.box(where, left, top, w, h)
        else:
            # Turned about its left top corner.
            corners = rotated(_corners(left, top, w, h), (left, top), degrees)
            picture.defects.append(make_rotated(corners.tolist(), picture.size, where))
    elif "radiusX" in value:
        picture.polygon(where, _ellipse(read(["x", "y", "radiusX", "radiusY"]), degrees))
    elif isinstance(value.get("points"), list) and len(value["points"]) > 2:
        points = [numbers(point, 2, f"{where}.value.points") for point in value["points"]]
        picture.polygon(where, np.array(points) * (width / 100, height / 100))
    else:
        raise ExportError(
            f"{where}: cannot import {region.get('type')!r}: draw rectangles, polygons or ellipses, "
            "or export painted masks as PNG and name them in a label file"
        )


def _cvat(text: str, file: str, images: Path) -> Iterator[_Picture]:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ExportError(f"{file}: not XML: {error}") from error
    if root.tag != "annotations" or root.find("track") is not None:
        raise ExportError(f"{file}: is not CVAT for images: export the task as 'CVAT for images 1.1'")
    for i, image in enumerate(root.findall("image"), 1):
        where = f"{file}: image[{i}]"
        name = _text(image.attrib, "name", where)
        picture = _picture(images, [name], [int(v) for v in _floats(image, where, "width", "height")], where)
        for j, shape in enumerate(image, 1):
            at = f"{where} ({name}), shape {j} <{shape.tag}>"
            picture.marked = True
            picture.names[_text(shape.attrib, "label", at)] = None
            degrees = _floats(shape, at, "rotation")[0] if "rotation" in shape.attrib else 0
            if shape.tag == "box":
                left, top, right, bottom = _floats(shape, at, "xtl", "ytl", "xbr", "ybr")
                picture.box(at, left, top, right - left, bottom - top, degrees)
            elif shape.tag == "polygon":
                points = [corner.split(",") for corner in _text(shape.attrib, "points", at).split(";")]
                flat = [_float(v, f"{at}: points") for point in points for v in point]
                if len(points) < 3 or any(len(point) != 2 for point in points):
                    raise ExportError(f"{at}: points must be x,y of at least three corners: export again")
                picture.polygon(at, np.array(flat).reshape(-1, 2))
            elif shape.tag == "ellipse":
                picture.polygon(at, _ellipse(_floats(shape, at, "cx", "cy", "rx", "ry"), degrees))
            elif shape.tag == "mask":
                left, top, width, height = (
                    int(v) for v in _floats(shape, at, "left", "top", "width", "height")
                )
                box = make_box([left, top, left + width, top + height], picture.size, at)
                counts = [_float(v, f"{at}: rle") for v in _text(shape.attrib, "rle", at).split(",")]
                bits = np.zeros(picture.size[::-1], dtype=np.bool_)
                rows, cols = slice(int(box.top), int(box.bottom)), slice(int(box.left), int(box.right))
                bits[rows, cols] = _runs(counts, (width, height), at)
                picture.paint(at, bits)
            elif shape.tag != "tag":
                raise ExportError(f"{at}: cannot import this shape: draw boxes, polygons, ellipses or masks")
        yield picture


FORMATS: dict[str, Callable[[str, str, Path], Iterator[_Picture]]] = {
    "coco": _coco,
    "label-studio": _label_studio,
    "cvat": _cvat,
}


def _picture(images: Path, names: list[str], size: Any, where: str) -> _Picture:
    """Finds a picture by the end of a name, the longest that there is."""
    for name in names:
        parts = [part for part in re.split(r"[/\\]+", name) if part not in ("", ".", "..")]
        for start in range(len(parts)):
            path = images.joinpath(*parts[start:])
            try:
                found = path.is_file()
            except OSError:
                # No file has a name that long.
                found = False
            if found:
                picture = _Picture(where, path, picture_size(path, where))
                _same_size(picture, size or picture.size, where)
                return picture
    raise ExportError(
        f"{where}: there is no picture {names[0]} in {images}: correct --images, or add the picture"
    )


def _same_size(picture: _Picture, size: Any, where: str) -> None:
    if tuple(size) != picture.size:
        raise ExportError(
            f"{where}: was labeled on {pixels(size)} pixels, but {picture.image} has {pixels(picture.size)}: "
            "give the pictures that were labeled"
        )


def _corners(left: float, top: float, width: float, height: float) -> Points:
    right, bottom = left + width, top + height
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _ellipse(measures: list[float], degrees: float) -> Points:
    x, y, rx, ry = measures
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return rotated(np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1), (x, y), degrees)


def _runs(counts: list[Any], size: Size, where: str) -> Bits:
    """Alternating run lengths, background first, of rows of `size` (width and height)."""
    given = np.array(numbers(counts, len(counts), where)).astype(np.int64)
    if (given < 0).any() or given.sum() != size[0] * size[1]:
        raise ExportError(f"{where}: the runs do not make {pixels(size)} pixels: export again")
    bits: Bits = np.repeat(np.arange(len(given)) % 2 == 1, given).reshape(size[1], size[0])
    return bits


def _save(bits: Bits, path: Path) -> Path:
    png = BytesIO()
    Image.fromarray(bits.astype(np.uint8) * 255).save(png, "PNG")
    try:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, png.getvalue())
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}", Exit.FAULT) from error
    return path


def _list(data: Any, key: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects in a list, each with its JSON path."""
    path = f"{where}.{key}" if key else where
    items = data.get(key) if isinstance(data, dict) else None
    if not isinstance(items, list):
        raise ExportError(f"{path}: must be a list: is this file of the format that you named?")
    for i, item in enumerate(items):
        if not isinstance(item, dict):
            raise ExportError(f"{path}[{i}]: must be an object: is this file of the format that you named?")
        yield f"{path}[{i}]", item


def _get(data: dict[str, Any], key: str, where: str) -> Any:
    value = data.get(key)
    wanted = dict if key in ("data", "value") else int | float | str
    if not isinstance(value, wanted):
        raise ExportError(f"{where}: has no proper {key}: export again")
    return value


def _text(data: dict[str, Any], key: str, where: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ExportError(f"{where}: {key} must be a text that is not empty: export again")
    return value


def _floats(element: ElementTree.Element, where: str, *keys: str) -> list[float]:
    return [_float(_text(element.attrib, key, where), f"{where}: {key}") for key in keys]


def _float(text: str, where: str) -> float:
    try:
        return number(float(text), where)
    except ValueError as error:
        raise ExportError(f"{where}: {text!r} is not a number: export again") from error
