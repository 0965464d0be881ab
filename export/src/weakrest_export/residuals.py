"""Reads the output of `weakrest residuals`: an index, and shards of half-precision tensors."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from weakrest_export.errors import ExportError

FORMAT = 2
"""Version of the index. Others are refused."""

INDEX = "index.json"

_NUMBERS = {int: "a whole number", str: "a string", list: "a list"}


@dataclass(frozen=True)
class Picture:
    """One picture of a residuals folder.

    Attributes:
        image: path, as in the list for `weakrest residuals`.
        leave_out: enrolled picture that was not matched, as in that list.
        shard: name of the file.
        tensor: name of the residuals in the shard.
        picture: name of the backbone's input in the shard, if it was written.
        grid: rows and columns of blocks.
        content: width and height of the scaled picture, in pixels.
        frame: width and height of the original picture, in pixels.
    """

    image: str
    leave_out: str | None
    shard: str
    tensor: str
    picture: str | None
    grid: tuple[int, int]
    content: tuple[int, int]
    frame: tuple[int, int]


class Residuals:
    """An open folder of residuals.

    Tensors are read on demand, through memory maps. The system's page cache keeps what fits in memory.

    Attributes:
        folder: path of the folder.
        package: SHA-256 of the package's manifest.
        backbone: SHA-256 of the backbone's ONNX file.
        scales: values per block of each of the backbone's scales.
        neighbors: number of neighbors of each token, nearest first.
        stride: pixels of the scaled picture per block and side.
        pictures: entries in the order of the list.

    Raises:
        ExportError: if the folder is unfinished or damaged, or of a package other than `package`.
    """

    def __init__(self, folder: Path, package: str | None = None) -> None:
        self.folder = folder
        path = folder / INDEX
        index = _read_index(path)
        self.package: str = _get(index, "package", str, path)
        self.backbone: str = _get(index, "backbone", str, path)
        self.scales = _scales(index, path)
        self.neighbors: int = _get(index, "neighbors", int, path)
        self.stride: int = _get(index, "stride", int, path)
        if package is not None and package != self.package:
            raise ExportError(
                f"{path}: residuals of package {self.package[:12]}, not of {package[:12]}: "
                "compute them again with `weakrest residuals`"
            )
        entries = _get(index, "pictures", list, path)
        if not entries:
            raise ExportError(f"{path}: no pictures: run `weakrest residuals` with pictures in the list")
        self.pictures = [_picture(entry, f"{path}: pictures[{at}]") for at, entry in enumerate(entries)]
        self._shards = {name: self._open(name) for name in sorted({p.shard for p in self.pictures})}

    @property
    def channels(self) -> int:
        """Values per block."""
        return sum(self.scales)

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, index: int) -> Tensor:
        """Reads a picture's residuals: f16 `[neighbors, rows, cols, channels]`, neighbor minus token, scaled.

        Raises:
            ExportError: if the shard lacks the tensor, or it has another shape than the index says.
        """
        picture = self.pictures[index]
        return self._read(picture, picture.tensor, (self.neighbors, *picture.grid, self.channels))

    def read_picture(self, index: int) -> Tensor:
        """Reads the backbone's input: f16 `[3, stride * rows, stride * cols]`, normalized.

        Raises:
            ExportError: see `read`; if it was not written.
        """
        picture = self.pictures[index]
        if picture.picture is None:
            raise ExportError(f"{self.folder / INDEX}: has no pictures: use `weakrest residuals --pictures`")
        rows, cols = picture.grid
        return self._read(picture, picture.picture, (3, self.stride * rows, self.stride * cols))

    def _read(self, picture: Picture, name: str, shape: tuple[int, ...]) -> Tensor:
        path = self.folder / picture.shard
        try:
            tensor: Tensor = self._shards[picture.shard].get_tensor(name)
        except safetensors.SafetensorError as error:
            raise ExportError(f"{path}: tensor {name!r} of {picture.image}: {error}") from error
        if tuple(tensor.shape) != shape or tensor.dtype != torch.float16:
            raise ExportError(
                f"{path}: tensor {name!r} of {picture.image} is {tensor.dtype} "
                f"{list(tensor.shape)} where the index says float16 {list(shape)}"
            )
        return tensor

    def _open(self, name: str) -> Any:
        path = self.folder / name
        if not path.is_file():
            raise ExportError(f"{path}: missing: compute the residuals again with `weakrest residuals`")
        try:
            shard: Any = safetensors.safe_open(str(path), framework="pt")
        except (OSError, safetensors.SafetensorError) as error:
            raise ExportError(f"{path}: damaged ({error}): compute the residuals again") from error
        metadata: Mapping[str, str] = shard.metadata() or {}
        package = metadata.get("package")
        if package != self.package:
            raise ExportError(
                f"{path}: residuals of package {str(package)[:12]}, where {INDEX} says {self.package[:12]}: "
                "compute them again into an empty folder"
            )
        return shard


def _read_index(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ExportError(
            f"{path}: missing: `weakrest residuals` did not make this folder, or has not finished"
        )
    try:
        index = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: cannot be read: {error}") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ExportError(f"{path}: not an index of format {FORMAT}: use weakrest of this release")
    return index


def _picture(entry: Any, where: str) -> Picture:
    if not isinstance(entry, dict):
        raise ExportError(f"{where}: must be an object")
    leave_out = entry.get("leave_out")
    return Picture(
        image=_get(entry, "image", str, where),
        leave_out=None if leave_out is None else _get(entry, "leave_out", str, where),
        shard=_get(entry, "shard", str, where),
        tensor=_get(entry, "tensor", str, where),
        picture=None if entry.get("picture") is None else _get(entry, "picture", str, where),
        grid=_pair(entry, "grid", where),
        content=_pair(entry, "content", where),
        frame=_pair(entry, "frame", where),
    )


def _get(entry: Mapping[str, Any], key: str, kind: type, where: object) -> Any:
    value: Any = entry.get(key)
    fits = isinstance(value, kind) and not isinstance(value, bool)
    if not fits or (kind is int and not value > 0):
        raise ExportError(f"{where}: {key!r} must be {_NUMBERS[kind]}, not {value!r}")
    return value


def _scales(index: Mapping[str, Any], path: Path) -> tuple[int, ...]:
    value = _get(index, "scales", list, path)
    if not value or not all(type(channels) is int and channels > 0 for channels in value):
        raise ExportError(f"{path}: 'scales' must be positive whole numbers, not {value!r}")
    return tuple(value)


def _pair(entry: Mapping[str, Any], key: str, where: str) -> tuple[int, int]:
    value = _get(entry, key, list, where)
    if len(value) != 2 or not all(type(side) is int and side > 0 for side in value):
        raise ExportError(f"{where}: {key!r} must be two positive whole numbers, not {value!r}")
    return value[0], value[1]


def check_alike(folders: Iterable[Residuals]) -> None:
    """Raises ExportError unless all folders were made with one backbone."""
    first: Residuals | None = None
    for residuals in folders:
        first = first or residuals
        if (residuals.backbone, residuals.scales) != (first.backbone, first.scales):
            raise ExportError(
                f"{residuals.folder}: made with another backbone than {first.folder}: "
                "enroll all packages with the same backbone"
            )
