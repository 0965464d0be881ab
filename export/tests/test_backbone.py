"""Files: complete, whole or absent, the same every time, and as committed."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import MODELS

from weakrest_export import backbone, onnx_file
from weakrest_export.errors import ExportError
from weakrest_export.manifest import Backbone as Keys
from weakrest_export.manifest import Manifest, Scale, Tap
from weakrest_export.settings import BackboneSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KEYS = [
    "format",
    "kind",
    "name",
    "source",
    "license",
    "license_file",
    "sha256",
    "color",
    "mean",
    "std",
    "stride",
    "multiple",
    "scales",
]


def check_pair(manifest_path: Path) -> dict[str, Any]:
    """A manifest is complete and true of the graph beside it."""
    manifest: dict[str, Any] = tomllib.loads(manifest_path.read_text("utf-8"))
    assert list(manifest) == KEYS
    assert (manifest["format"], manifest["kind"]) == (3, "backbone")
    assert manifest["name"] == manifest_path.stem
    assert manifest["color"] == "rgb"
    content = manifest_path.with_suffix(".onnx").read_bytes()
    assert hashlib.sha256(content).hexdigest() == manifest["sha256"]
    assert (manifest_path.parent / manifest["license_file"]).read_text("utf-8").strip()
    assert len(manifest["mean"]) == len(manifest["std"]) == 3
    taps = [tap for scale in manifest["scales"] for tap in scale["taps"]]
    channels = sum(scale["channels"] for scale in manifest["scales"])
    assert sum(tap["channels"] for tap in taps) == channels
    assert manifest["multiple"] == max(manifest["stride"], *(tap["stride"] for tap in taps))

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (image,), (features,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape[1]) == ("image", "tensor(float)", 3)
    assert (features.name, features.type) == ("features", "tensor(float)")
    assert features.shape[1] == channels
    for shape in image.shape, features.shape:
        assert all(isinstance(shape[axis], str) for axis in (0, 2, 3))
    return manifest


def test_files_are_complete(lite1: backbone.Backbone, tmp_path: Path) -> None:
    path = backbone.write(lite1, tmp_path)
    assert path == tmp_path / "efficientnet-lite1.toml"
    check_pair(path)
    names = {"efficientnet-lite1.onnx", "efficientnet-lite1.toml", "LICENSE-efficientnet-lite"}
    assert {entry.name for entry in tmp_path.iterdir()} == names
    assert all(entry.stat().st_mode & 0o444 == 0o444 for entry in tmp_path.iterdir())


@pytest.mark.parametrize("path", sorted(MODELS.glob("efficientnet-*.toml")), ids=lambda path: path.stem)
def test_committed_pairs_match(path: Path) -> None:
    check_pair(path)


def test_committed_model_is_what_this_code_exports(lite1: backbone.Backbone) -> None:
    committed = (MODELS / "efficientnet-lite1.onnx").read_bytes()
    image = np.random.default_rng(3).standard_normal((2, 3, 96, 160), dtype=np.float32)
    got, expected = (onnx_file.run(model, image) for model in (lite1.model, committed))
    # Folding weights and running them ends in other last bits on other processors.
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
    assert lite1.license_text == (MODELS / "LICENSE-efficientnet-lite").read_text("utf-8")
    ours, theirs = onnx.load_from_string(lite1.model), onnx.load_from_string(committed)
    if theirs.producer_version != torch.__version__.partition("+")[0]:
        return
    assert list(ours.graph.node) == list(theirs.graph.node)
    for our, their in zip(ours.graph.initializer, theirs.graph.initializer, strict=True):
        assert our.name == their.name
        a, b = onnx.numpy_helper.to_array(our), onnx.numpy_helper.to_array(their)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    manifest = tomllib.loads((MODELS / "efficientnet-lite1.toml").read_text("utf-8"))
    assert tomllib.loads(lite1.manifest.to_toml()) | {"sha256": manifest["sha256"]} == manifest


def test_bytes_are_the_same_in_another_process(lite1: backbone.Backbone, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "weakrest_export", "backbone", "efficientnet-lite1"]
    command += ["--scales", "4,8,16:0.5", "--out", "."]
    environment = os.environ | {"PYTHONHASHSEED": "42", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "efficientnet-lite1.onnx").read_bytes() == lite1.model
    assert (tmp_path / "efficientnet-lite1.toml").read_text("utf-8") == lite1.manifest.to_toml()


def test_failed_write_leaves_the_old_files(
    lite1: backbone.Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "efficientnet-lite1.onnx"
    old.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExportError, match="no space left"):
        backbone.write(lite1, tmp_path)
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_bytes() == b"old"


def test_manifest_escapes_strings() -> None:
    name = 'quote " backslash \\ tab \t delete \x7f umlaut ä'
    manifest = Manifest(
        name=name,
        source="test",
        license="MIT",
        sha256="0" * 64,
        keys=Keys(
            color="rgb",
            mean=(0.1, 0.2, 0.3),
            std=(1,) * 3,
            stride=8,
            multiple=8,
            scales=[Scale(1, [Tap(8, 1, 0.5)]), Scale(2, [Tap(4, 2, 1)])],
        ),
    )
    parsed = tomllib.loads(manifest.to_toml())
    assert parsed["name"] == name
    assert "license_file" not in parsed
    assert parsed["std"] == [1.0, 1.0, 1.0]
    assert parsed["scales"] == [
        {"channels": 1, "taps": [{"stride": 8, "channels": 1, "weight": 0.5}]},
        {"channels": 2, "taps": [{"stride": 4, "channels": 2, "weight": 1}]},
    ]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b"])
def test_name_must_be_a_plain_file_name(name: str) -> None:
    with pytest.raises(ExportError, match="letters, digits"):
        backbone.export(BackboneSettings("efficientnet-lite0", name=name))
