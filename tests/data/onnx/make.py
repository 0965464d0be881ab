"""Writes the small networks beside this file, with which `src/onnx/tests.rs` tries what is taken and what is refused.

python make.py     (needs `onnx`; the exporter's environment has it)
"""

import pathlib

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def value(name, *shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def save(name, nodes, inputs, outputs, weights=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if name != "rank-5-when-run":  # which lacks a shape on purpose
        checker.check_model(model, full_check=True)
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())


def cells(channels, out=4):
    """A network that averages cells of 8 × 8 pixels, in four different mixtures."""
    mixture = np.linspace(0.5, 1.5, out * channels, dtype=np.float32).reshape(out, channels, 1, 1)
    weight = np.broadcast_to(mixture / 64, (out, channels, 8, 8))
    return (
        [helper.make_node("Conv", ["image", "weight"], ["features"], strides=[8, 8])],
        [value("image", "n", channels, "h", "w")],
        [value("features", "n", out, "rows", "cols")],
        [numpy_helper.from_array(np.ascontiguousarray(weight), "weight")],
    )


save("cells", *cells(3))
save("gray-input", *cells(1))
save(
    "double-precision",
    [helper.make_node("Relu", ["image"], ["features"])],
    [value("image", "n", 3, "h", "w", kind=DOUBLE)],
    [value("features", "n", 3, "h", "w", kind=DOUBLE)],
)

nodes, inputs, outputs, weights = cells(3)
save(
    "two-outputs",
    [*nodes, helper.make_node("Relu", ["features"], ["more"])],
    inputs,
    [*outputs, value("more", "n", 4, "rows", "cols")],
    weights,
)
save(
    "two-inputs",
    [*nodes[:1], helper.make_node("Add", ["features", "offset"], ["sum"])],
    [*inputs, value("offset", 1)],
    [value("sum", "n", 4, "rows", "cols")],
    weights,
)
save(
    "rank-3-output",
    [*nodes, helper.make_node("ReduceMean", ["features"], ["mean"], axes=[3], keepdims=0)],
    inputs,
    [value("mean", "n", 4, "rows")],
    weights,
)
save(
    "rank-3-input",
    [helper.make_node("ReduceMean", ["image"], ["mean"], axes=[0], keepdims=1)],
    [value("image", 3, "h", "w")],
    [value("mean", 1, "h", "w")],
)
# Black pixels have a logarithm of minus infinity; minus one's is not a number.
save(
    "not-finite",
    [nodes[0], helper.make_node("Log", ["features"], ["logs"])],
    inputs,
    [value("logs", "n", 4, "rows", "cols")],
    weights,
)
# The shape is unknown until it runs, and then it has five dimensions.
save(
    "rank-5-when-run",
    [
        nodes[0],
        helper.make_node("Shape", ["features"], ["shape"]),
        helper.make_node("Concat", ["one", "shape"], ["longer"], axis=0),
        helper.make_node("Reshape", ["features", "longer"], ["result"]),
    ],
    inputs,
    [helper.make_tensor_value_info("result", FLOAT, None)],
    [*weights, numpy_helper.from_array(np.array([1], np.int64), "one")],
)


def head(channels, out=2):
    """A head that takes a block for defective when the mean of its squared residuals is above 4."""
    return (
        [
            helper.make_node("Mul", ["residuals", "residuals"], ["squares"]),
            helper.make_node("ReduceMean", ["squares"], ["mean"], axes=[3]),
            helper.make_node("Sub", ["mean", "limit"], ["defective"]),
            helper.make_node("Neg", ["defective"], ["good"]),
            helper.make_node("Concat", ["good", *["defective"] * (out - 1)], ["logits"], axis=3),
        ],
        [value("residuals", "n", "rows", "cols", channels)],
        [value("logits", "n", "rows", "cols", out)],
        [numpy_helper.from_array(np.array(4, np.float32), "limit")],
    )


save("head", *head(176))
save("head-of-other-channels", *head(4))
save("head-of-three-classes", *head(176, 3))


def broken_head(*nodes):
    """A head that makes its logits of the good one's, `made`, with these operators."""
    good, inputs, outputs, weights = head(176)
    good[-1].output[0] = "made"
    return [*good, *nodes], inputs, outputs, weights


save("head-constant", *broken_head(helper.make_node("Sub", ["made", "made"], ["logits"])))
# What is below zero has no logarithm.
save(
    "head-not-finite",
    *broken_head(
        helper.make_node("Sigmoid", ["made"], ["share"]),
        helper.make_node("Neg", ["share"], ["negative"]),
        helper.make_node("Log", ["negative"], ["logits"]),
    ),
)


def seeing_head():
    """The same head for cells of 2 pixels, of which a block has 4 × 4. It looks at the picture, and sees nothing in it."""
    nodes, inputs, _, weights = head(176)
    nodes = [
        *nodes[:3],
        helper.make_node("Transpose", ["defective"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Resize", ["planes", "", "larger"], ["cells"], mode="nearest"),
        helper.make_node("ReduceMean", ["picture"], ["gray"], axes=[1, 2, 3]),
        helper.make_node("Mul", ["gray", "nothing"], ["unseen"]),
        helper.make_node("Add", ["cells", "unseen"], ["seen"]),
        helper.make_node("Transpose", ["seen"], ["logits"], perm=[0, 2, 3, 1]),
    ]
    larger = numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "larger")
    nothing = numpy_helper.from_array(np.array(0, np.float32), "nothing")
    return (
        nodes,
        [*inputs, value("picture", "n", 3, "height", "width")],
        [value("logits", "n", "down", "across", 1)],
        [*weights, larger, nothing],
    )


save("seeing-head", *seeing_head())

# The features are of channels that vanish beside the first one in 8 bits.
mixture = np.array([1000, 1, 0.9, 0.8], dtype=np.float32).reshape(4, 1, 1, 1)
weight = np.broadcast_to(mixture / 64, (4, 3, 8, 8))
after = np.eye(4, dtype=np.float32)
after[0, 0] = 0
save(
    "swamped",
    [
        helper.make_node("Conv", ["image", "weight"], ["cells"], strides=[8, 8]),
        helper.make_node("Conv", ["cells", "after"], ["kept"]),
        helper.make_node("Neg", ["kept"], ["features"]),
    ],
    [value("image", "n", 3, "h", "w")],
    [value("features", "n", 4, "rows", "cols")],
    [
        numpy_helper.from_array(np.ascontiguousarray(weight), "weight"),
        numpy_helper.from_array(after.reshape(4, 4, 1, 1), "after"),
    ],
)
