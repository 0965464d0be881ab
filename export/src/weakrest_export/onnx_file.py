"""Exports PyTorch modules to ONNX, and runs them in ONNX Runtime."""

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
"""The newest operator set for TensorRT 8.6."""

Axes = Mapping[int, str]
"""Names of the axes of free length."""


def onnx_bytes(
    module: nn.Module,
    example: Sequence[Tensor],
    name: str,
    inputs: Sequence[tuple[str, Axes]],
    output: tuple[str, Axes],
) -> bytes:
    """Exports to ONNX. All axes are constant, except the free ones.

    The bytes depend only on the module and the versions of the libraries. They contain no paths, stack traces
    or times.

    Args:
        module: with one output, in evaluation mode, on the CPU.
        example: inputs.
        name: of the graph in the file.
        inputs: names and free axes of the inputs.
        output: name and free axes of the output.

    Raises:
        ExportError: if the module uses an operator that ONNX lacks.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "exported.onnx"
        try:
            with warnings.catch_warnings(), torch.no_grad():
                # The exporter's warnings concern us, not the user.
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    module,
                    tuple(example),
                    path,
                    # The old exporter, on purpose: it takes uneven pads, folds batch normalization, and its
                    # graphs need no cleaning.
                    dynamo=False,
                    opset_version=OPSET,
                    input_names=[name for name, _ in inputs],
                    output_names=[output[0]],
                    dynamic_axes={axes_of: dict(axes) for axes_of, axes in (*inputs, output)},
                )
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise ExportError(f"ONNX cannot express this network: choose another one ({reason})") from error
        model = onnx.load(path)
    model.graph.name = name
    onnx.checker.check_model(model, full_check=True)
    return stripped(model)


def with_half_weights(model: bytes) -> bytes:
    """The same graph with its weights in half precision, widened when it is loaded: half the size.

    Args:
        model: bytes of an ONNX file.
    """
    loaded = onnx.load_from_string(model)
    casts = []
    for weights in loaded.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        # Vectors, such as a convolution's bias, are short.
        if values.dtype != np.float32 or values.ndim < 2:
            continue
        name = weights.name
        weights.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [weights.name], [name], to=onnx.TensorProto.FLOAT))
    for at, cast in enumerate(casts):
        loaded.graph.node.insert(at, cast)
    onnx.checker.check_model(loaded, full_check=True)
    return stripped(loaded)


def in_half_precision(model: bytes) -> bytes:
    """The same graph with weights and arithmetic in half precision. Inputs and outputs stay f32.

    It is for GPUs. The CPU's operators widen most values and narrow them again, which takes longer.

    Args:
        model: bytes of an ONNX file.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        # It warns of weights that are rounded to the smallest number, which is what rounding is.
        warnings.simplefilter("ignore")
        return stripped(convert_float_to_float16(onnx.load_from_string(model), keep_io_types=True))


def stripped(model: onnx.ModelProto) -> bytes:
    """A file's bytes, without traces of where and how the exporter ran."""
    model.doc_string = ""
    del model.metadata_props[:]
    model.graph.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def run(model: bytes, input: npt.NDArray[np.float32], threads: int = 1) -> npt.NDArray[np.float32]:
    """Runs a graph of one input and one output in ONNX Runtime, on the CPU.

    Args:
        model: bytes of an ONNX file.
        input: value of the input.
        threads: of the operators.
    """
    loaded = session(model, threads)
    (made,) = loaded.run(None, {loaded.get_inputs()[0].name: input})
    return np.asarray(made, dtype=np.float32)


def session(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """Loads a graph in ONNX Runtime, for the CPU.

    Args:
        model: bytes of an ONNX file.
        threads: of the operators.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
