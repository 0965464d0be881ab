"""Writes label files."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weakrest_export.errors import Exit, ExportError
from weakrest_export.files import write_whole
from weakrest_export.labels.model import Box, Defect, Label, Mask, Polygon


def write(path: Path, labels: Sequence[Label], overwrite: bool = False) -> None:
    """Writes a label file atomically. Paths below its folder become relative, others absolute.

    Raises:
        ExportError: see `check_writable`; if the disk fails.
    """
    check_writable(path, overwrite)
    lines = [json.dumps(_object(label, path.parent), ensure_ascii=False) + "\n" for label in labels]
    try:
        write_whole(path, "".join(lines).encode())
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}", Exit.FAULT) from error


def check_writable(path: Path, overwrite: bool) -> None:
    """Checks before long work what `write` would refuse after it.

    Raises:
        ExportError: if the folder is missing, or the file exists and `overwrite` is false.
    """
    if not path.parent.is_dir():
        raise ExportError(f"output directory {path.parent} does not exist: create it first")
    if path.exists() and not overwrite:
        raise ExportError(f"{path} exists: choose another --out, or replace it with --overwrite")


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
    return _form(defect, folder) | ({} if defect.type is None else {"type": defect.type})


def _form(defect: Defect, folder: Path) -> dict[str, Any]:
    if isinstance(defect, Mask):
        rule = {} if defect.rule == "above-half" else {"rule": defect.rule}
        return {"mask": _relative(defect.path, folder), **rule}
    if isinstance(defect, Box):
        return {"box": [_rounded(v) for v in (defect.left, defect.top, defect.right, defect.bottom)]}
    key = "polygon" if isinstance(defect, Polygon) else "rotated"
    return {key: [[_rounded(x), _rounded(y)] for x, y in defect.points]}


def _rounded(value: float) -> float:
    # Nobody draws finer than a thousandth of a pixel. More digits would be noise in the file.
    near = round(value, 3)
    return int(near) if math.floor(near) == near else near


def _relative(path: Path, folder: Path) -> str:
    # Links are not followed: a data set behind a link in the folder counts as below the folder.
    relative = Path(os.path.relpath(path, folder))
    return (path.absolute() if relative.parts[0] == ".." else relative).as_posix()
