"""Exports a trained head to the ONNX file and the manifest for a package."""

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor

from weakrest_export import onnx_file
from weakrest_export.errors import Exit, ExportError
from weakrest_export.files import check_name, write_together
from weakrest_export.head import Head
from weakrest_export.manifest import BlockHead, Manifest, SeeingHead
from weakrest_export.settings import LICENSE, Precision

INPUT = "residuals"
OUTPUT = "logits"

GRIDS = ((1, 32, 32), (2, 13, 50), (1, 1, 1), (3, 8, 9), (1, 20, 7), (1, 40, 64))
"""Batch, rows and columns on which graph and network are compared."""

TOLERANCES: dict[Precision, float] = {"float32": 1e-4, "float16": 0.02, "int8": 0.1}
"""Largest accepted difference. Single precision: of logits, relative to the largest (or 1). Else: of
probabilities."""


@dataclass(frozen=True)
class Exported:
    """An exported head, not yet written.

    Attributes:
        manifest: facts about the graph.
        model: bytes of the ONNX file.
        difference: from PyTorch, see `TOLERANCES`.
    """

    manifest: Manifest[BlockHead] | Manifest[SeeingHead]
    model: bytes
    difference: float


def export(
    head: Head,
    backbone: str,
    *,
    name: str = "head",
    setting: str,
    source: str,
    license: str = LICENSE,
    window: int = 0,
    step: int = 0,
    precision: Precision = "float32",
) -> Exported:
    """Exports a head and checks the graph against it.

    Args:
        head: in evaluation mode, on the CPU.
        backbone: see `manifest.BlockHead`.
        name: see `manifest.Manifest`.
        setting: see `manifest.BlockHead`.
        source: see `manifest.Manifest`.
        license: see `manifest.Manifest`.
        window: see `manifest.BlockHead`.
        step: see `manifest.BlockHead`.
        precision: of the weights. Input and output stay f32. `int8` also rounds activations, by the ranges
            of each picture.

    Raises:
        ExportError: if no file can have the name, or the graph differs from the head.
    """
    check_name(name)
    model = _lowered(onnx_bytes(head, name), precision)
    manifest = Manifest(
        name=name,
        source=source,
        license=license,
        sha256=hashlib.sha256(model).hexdigest(),
        keys=BlockHead(backbone, head.shape.channels, setting, window, step, "correction"),
    )
    return Exported(manifest, model, check_parity(head, model, precision))


def onnx_bytes(head: Head, name: str) -> bytes:
    """Exports to ONNX, see `onnx_file.onnx_bytes`. Batch, rows and columns are free.

    Args:
        head: in evaluation mode, on the CPU.
        name: of the graph in the file.
    """
    return onnx_file.onnx_bytes(
        head,
        [torch.zeros(2, 13, 21, head.shape.channels)],
        name,
        [(INPUT, {0: "batch", 1: "rows", 2: "columns"})],
        (OUTPUT, {0: "batch", 1: "rows", 2: "columns"}),
    )


def _lowered(model: bytes, precision: Precision) -> bytes:
    if precision == "float32":
        return model
    if precision == "float16":
        return onnx_file.in_half_precision(model)

    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as directory:
        path, quantized = Path(directory) / "head.onnx", Path(directory) / "int8.onnx"
        path.write_bytes(model)
        # It recommends a preparation that does not change this graph.
        logging.getLogger().addFilter(_silence)
        try:
            quantize_dynamic(
                path,
                quantized,
                per_channel=True,
                weight_type=QuantType.QInt8,
                # Squares of defects are so large that squares of good blocks would round to one step.
                nodes_to_exclude=[_reader_of_squares(model)],
            )
        finally:
            logging.getLogger().removeFilter(_silence)
        return onnx_file.stripped(onnx.load(quantized))


def _reader_of_squares(model: bytes) -> str:
    first = next(node for node in onnx.load_from_string(model).graph.node if node.op_type == "MatMul")
    return str(first.name)


def _silence(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING


def check_parity(
    head: Head,
    model: bytes,
    precision: Precision = "float32",
    grids: Sequence[tuple[int, int, int]] = GRIDS,
) -> float:
    """Compares an exported graph with the head on noise with defects in it.

    Returns:
        The largest difference, see `TOLERANCES`.

    Raises:
        ExportError: if that exceeds the precision's tolerance.
    """
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch, rows, cols in grids:
        residuals = torch.randn(batch, rows, cols, head.shape.channels, generator=generator)
        residuals[:, rows // 2 :, cols // 2 :] *= 4
        with torch.inference_mode():
            expected = head(residuals)
        got = torch.from_numpy(onnx_file.run(model, residuals.numpy()))
        if got.shape != expected.shape:
            raise ExportError(
                f"the exported graph gives {list(got.shape)} where the head gives {list(expected.shape)}",
                Exit.FAULT,
            )
        if precision == "float32":
            worst = max(worst, _largest(got - expected) / max(1.0, _largest(expected)))
        else:
            worst = max(worst, _largest(got.softmax(-1) - expected.softmax(-1)))
    if not worst <= TOLERANCES[precision]:
        raise ExportError(
            f"the exported graph ({precision}) differs from the head by {worst:.1e}: use float32", Exit.FAULT
        )
    return worst


def _largest(values: Tensor) -> float:
    return float(values.abs().max())


def write(exported: Exported, directory: Path) -> Path:
    """Writes `NAME.onnx`, then `NAME.toml` into an existing directory, each atomically.

    Returns:
        The graph's path.

    Raises:
        ExportError: if the directory is missing or cannot be written.
    """
    name = exported.manifest.name
    manifest = exported.manifest.to_toml().encode()
    write_together(directory, {f"{name}.onnx": exported.model, f"{name}.toml": manifest})
    return directory / f"{name}.onnx"
