"""Exported heads: that they compute what was trained, and say what they are."""

import hashlib
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import SIZES, optimized

from weakrest_export import head_export, onnx_file
from weakrest_export.errors import ExportError
from weakrest_export.head import Head, Shape
from weakrest_export.head_export import Exported, export, write
from weakrest_export.settings import Precision

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="module")
def head() -> Head:
    torch.manual_seed(0)
    return Head(Shape(20, width=64, depth=3)).eval()


def made(head: Head, precision: Precision = "float32") -> Exported:
    return export(head, "b" * 64, setting="boxes", source='12 "good" pictures', precision=precision)


@pytest.fixture(scope="module")
def exported(head: Head) -> Exported:
    return made(head)


@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 5, 3), (2, 13, 50), (1, 64, 64)])
def test_computes_what_the_head_computes_on_any_grid(
    head: Head, exported: Exported, grid: tuple[int, int, int]
) -> None:
    residuals = torch.randn(*grid, 20)
    with torch.inference_mode():
        expected = head(residuals).numpy()
    assert np.abs(onnx_file.run(exported.model, residuals.numpy()) - expected).max() < 1e-4


def test_uses_plain_operators_only(exported: Exported) -> None:
    model = onnx.load_from_string(exported.model)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    operators = Counter(node.op_type for node in model.graph.node)
    assert not operators.keys() & {"If", "Loop", "Scan", "Einsum", "Mod", "NonZero", "ScatterND"}
    assert operators["Softmax"] == 3
    free = [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert free == ["batch", "rows", "columns", ""]


def test_the_same_head_gives_the_same_bytes_without_traces_of_the_machine(
    head: Head, exported: Exported
) -> None:
    assert made(head).model == exported.model
    assert str(Path.cwd()).encode() not in exported.model


@pytest.mark.parametrize(("precision", "smaller"), [("float16", 0.7), ("int8", 0.7)])
def test_other_precisions_are_smaller_and_nearly_the_same(
    head: Head, exported: Exported, precision: Precision, smaller: float
) -> None:
    lowered = made(head, precision)
    assert len(lowered.model) < smaller * len(exported.model)
    assert 0 < lowered.difference <= head_export.TOLERANCES[precision]
    residuals = np.zeros((1, 9, 9, 20), np.float32)
    assert onnx_file.run(lowered.model, residuals).dtype == np.float32


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_no_sizes_are_computed_while_the_graph_runs(head: Head, precision: Precision) -> None:
    """Half precision included: the CPU, which computes them before, has no operators for it."""
    model = made(head, precision).model
    assert not optimized(model, batch=1, rows=13, columns=20) & SIZES
    assert optimized(model) & SIZES, "the sizes would not have mattered"


def test_a_graph_that_computes_something_else_is_refused(head: Head, exported: Exported) -> None:
    torch.manual_seed(1)
    other = Head(Shape(20, width=64, depth=3)).eval()
    with pytest.raises(ExportError, match="differs from the head by"):
        head_export.check_parity(other, exported.model)


def test_the_manifest_says_what_a_device_must_know(exported: Exported, tmp_path: Path) -> None:
    path = write(exported, tmp_path)
    assert path == tmp_path / "head.onnx"
    assert tomllib.loads((tmp_path / "head.toml").read_text("utf-8")) == {
        "format": 3,
        "kind": "block-head",
        "name": "head",
        "source": '12 "good" pictures',
        "license": "LicenseRef-own",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "backbone": "b" * 64,
        "channels": 20,
        "setting": "boxes",
        "window": 0,
        "step": 0,
        "output": "correction",
    }


def test_refuses_names_that_are_no_files(head: Head, exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="name 'a/b'"):
        export(head, "b" * 64, name="a/b", setting="boxes", source="")
    with pytest.raises(ExportError, match="does not exist: create it first"):
        write(exported, tmp_path / "missing")
