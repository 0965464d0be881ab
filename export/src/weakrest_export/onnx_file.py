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

LARGEST_HALF = (-65504.0, 65504.0)
"""Smallest and largest number of half precision."""

SINGLE_INPUTS = {"Resize": (1, 2)}
"""Places of the inputs that are f32 for values of any precision."""

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

    It is for GPUs. The CPU's operators widen most values and narrow them again, which takes longer. What
    depends on the inputs' sizes alone, such as positions, stays f32 and is narrowed once: ONNX Runtime
    computes it before the graph runs, and half precision cannot count far.

    Args:
        model: bytes of an ONNX file.
    """
    loaded = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
    graph = loaded.graph
    declared = (*graph.input, *graph.output, *graph.value_info)
    single = {value.name for value in declared if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    single.update(name for name, tensor in weights.items() if tensor.data_type == onnx.TensorProto.FLOAT)
    outputs = {output.name for output in graph.output}
    # Values that depend on those of an input. They get half precision under their own names.
    lowered = {input.name for input in graph.input}
    half: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []

    def cast(name: str, to: str, kind: int) -> None:
        nodes.append(onnx.helper.make_node("Cast", [name], [to], name=f"cast.{to}", to=kind))

    def narrowed(name: str) -> str:
        """The name of a value in half precision."""
        if name in half:
            return half[name]
        if name in lowered or name not in single:
            return name
        half[name] = f"{name}.half"
        if name in weights:
            values = onnx.numpy_helper.to_array(weights[name])
            kept = np.clip(values, *LARGEST_HALF).astype(np.float16)
            graph.initializer.append(onnx.numpy_helper.from_array(kept, half[name]))
        else:
            cast(name, half[name], onnx.TensorProto.FLOAT16)
        return half[name]

    for input in graph.input:
        if input.name in single:
            half[input.name] = f"{input.name}.half"
            cast(input.name, half[input.name], onnx.TensorProto.FLOAT16)
    for node in graph.node:
        if node.op_type == "Shape" or not lowered.intersection(node.input):
            nodes.append(node)
            continue
        lowered.update(node.output)
        fixed = SINGLE_INPUTS.get(node.op_type, ())
        node.input[:] = [name if at in fixed else narrowed(name) for at, name in enumerate(node.input)]
        nodes.append(node)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.FLOAT16
        for at, name in enumerate(node.output):
            if name in outputs and name in single:
                half[name] = node.output[at] = f"{name}.half"
                cast(half[name], name, onnx.TensorProto.FLOAT)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept_weights = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept_weights)
    onnx.checker.check_model(loaded, full_check=True)
    return stripped(loaded)


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
