"""ONNX files: from a PyTorch module to bytes, and through ONNX Runtime."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from weakrest_export.errors import ExportError

OPSET = 17
"""The newest operator set that TensorRT 8.6 takes."""

Axes = Mapping[int, str]
"""Names of the axes whose length is free."""


def onnx_bytes(
    module: nn.Module,
    example: Sequence[Tensor],
    name: str,
    inputs: Sequence[tuple[str, Axes]],
    output: tuple[str, Axes],
) -> bytes:
    """Exports to ONNX; what is no free axis is constant.

    The bytes depend on the module and the versions of the libraries only. They carry no paths, no stack
    traces and no time.

    Args:
        module: of one output, in evaluation mode, on the CPU.
        example: its inputs.
        name: for the graph inside the file.
        inputs: names and free axes.
        output: name and free axes.

    Raises:
        ExportError: if the module uses an operator that ONNX lacks.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "exported.onnx"
        try:
            with warnings.catch_warnings(), torch.no_grad():
                # Its age and what it does not fold concern us, not the user.
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    module,
                    tuple(example),
                    path,
                    # PyTorch calls this exporter the older one. It is used on purpose: it takes uneven
                    # pads, folds batch normalization, and its graphs need no further cleaning.
                    dynamo=False,
                    opset_version=OPSET,
                    input_names=[name for name, _ in inputs],
                    output_names=[output[0]],
                    dynamic_axes={axes_of: dict(axes) for axes_of, axes in (*inputs, output)},
                )
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise ExportError(f"cannot be expressed in ONNX: choose another network ({reason})") from error
        model = onnx.load(path)
    model.graph.name = name
    onnx.checker.check_model(model, full_check=True)
    return stripped(model)


def stripped(model: onnx.ModelProto) -> bytes:
    """A file's bytes, without what only tells where and how the exporter ran."""
    model.doc_string = ""
    del model.metadata_props[:]
    model.graph.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def run(model: bytes, input: npt.NDArray[np.float32], threads: int = 1) -> npt.NDArray[np.float32]:
    """The one output for the one input of a graph, through ONNX Runtime on the CPU.

    Args:
        model: bytes of an ONNX file.
        input: see the graph's exporter.
        threads: for the operators.
    """
    loaded = session(model, threads)
    (made,) = loaded.run(None, {loaded.get_inputs()[0].name: input})
    return np.asarray(made, dtype=np.float32)


def session(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A graph, loaded by ONNX Runtime for the CPU.

    Args:
        model: bytes of an ONNX file.
        threads: for the operators.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
