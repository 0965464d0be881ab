"""Residuals folders: what is read, and what is refused with a word on how to put it right."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from shards import CHANNELS, PACKAGE, write_shards

from weakrest_export.errors import ExportError
from weakrest_export.residuals import Residuals


def test_reads_what_was_written(tmp_path: Path) -> None:
    tensors = [torch.randn(3, rows, 4, CHANNELS).half() for rows in (5, 6, 7)]
    read = Residuals(write_shards(tmp_path / "r", tensors, ["a.png", "b.png", "c.png"]), PACKAGE)
    assert (len(read), read.channels, read.neighbors, read.stride) == (3, CHANNELS, 3, 8)
    assert [picture.image for picture in read.pictures] == ["a.png", "b.png", "c.png"]
    assert read.pictures[2].grid == (7, 4)
    assert read.pictures[2].leave_out is None
    for at, tensor in enumerate(tensors):
        assert torch.equal(read.read(at), tensor)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_shards(tmp_path / "r", [torch.zeros(3, 2, 2, CHANNELS).half() for _ in range(3)])


def change(folder: Path, **keys: Any) -> None:
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | keys), "utf-8")


def test_refuses_a_folder_that_is_not_finished(folder: Path) -> None:
    (folder / "index.json").unlink()
    with pytest.raises(ExportError, match=r"index\.json: missing: .* has not finished"):
        Residuals(folder)


def test_refuses_a_missing_shard(folder: Path) -> None:
    (folder / "residuals-00001.safetensors").unlink()
    with pytest.raises(ExportError, match=r"residuals-00001\.safetensors: missing"):
        Residuals(folder)


def test_refuses_another_package(folder: Path) -> None:
    with pytest.raises(ExportError, match=r"of package aaaaaaaaaaaa, not of cccccccccccc"):
        Residuals(folder, "c" * 64)


def test_refuses_shards_of_two_packages(folder: Path, tmp_path: Path) -> None:
    other = write_shards(tmp_path / "o", [torch.zeros(3, 2, 2, CHANNELS).half()], package="c" * 64)
    (other / "residuals-00000.safetensors").replace(folder / "residuals-00001.safetensors")
    with pytest.raises(ExportError, match=r"residuals-00001\.safetensors: residuals of package cccc"):
        Residuals(folder)


def test_refuses_a_shard_that_was_cut_off(folder: Path) -> None:
    shard = folder / "residuals-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(ExportError, match=r"residuals-00000\.safetensors: damaged"):
        Residuals(folder)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"format": 1}, "not an index of format 2"),
        ({"scales": ["176"]}, r"'scales' must be positive whole numbers, not \['176'\]"),
        ({"stride": True}, "'stride' must be a whole number, not True"),
        ({"pictures": []}, "no pictures"),
        ({"pictures": [{"image": 1}]}, r"pictures\[0\]: 'image' must be a string"),
        (
            {"pictures": [{"image": "a", "shard": "b", "tensor": "c", "grid": [1]}]},
            r"pictures\[0\]: 'grid' must be two positive whole numbers",
        ),
    ],
)
def test_refuses_an_index_with_wrong_values(folder: Path, keys: dict[str, Any], message: str) -> None:
    change(folder, **keys)
    with pytest.raises(ExportError, match=message):
        Residuals(folder)


def test_refuses_tensors_that_are_not_as_the_index_says(folder: Path) -> None:
    change(folder, scales=[CHANNELS + 1])
    with pytest.raises(ExportError, match=r"'000000' of 0\.png is torch\.float16 \[3, 2, 2, 12\] where"):
        Residuals(folder).read(0)
    index = json.loads((folder / "index.json").read_text("utf-8"))
    index["pictures"][0]["tensor"] = "000009"
    change(folder, pictures=index["pictures"])
    with pytest.raises(ExportError, match=r"tensor '000009' of 0\.png"):
        Residuals(folder).read(0)
