"""TensorFlow's 'SAME' padding as a constant of the layer.

TensorFlow pads a strided convolution to an output of `ceil(side / stride)` cells, with the odd row or column
at the bottom and right. In general, the padding depends on the input's side. For multiples of the layer's
stride it is always `kernel - stride`. If the input's sides are multiples of the deepest tapped stride, that
holds at every layer, and the graph needs no shape arithmetic.
"""

from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from weakrest_export.errors import ExportError


class _PaddedConv(torch.autograd.Function):
    """Zero-pads unevenly and convolves. ONNX has one node for both, PyTorch has not."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        pads: tuple[int, int, int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Tensor:
        top, left, bottom, right = pads
        padded = F.pad(image, (left, right, top, bottom))
        return F.conv2d(padded, weight, bias, stride, 0, dilation, groups)

    @staticmethod
    def symbolic(
        g: Any,
        image: Any,
        weight: Any,
        bias: Any,
        pads: tuple[int, int, int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Any:
        inputs = [image, weight] if bias is None or bias.node().mustBeNone() else [image, weight, bias]
        kernel = weight.type().sizes()[2:]
        result = g.op(
            "Conv",
            *inputs,
            kernel_shape_i=list(kernel),
            pads_i=list(pads),
            strides_i=list(stride),
            dilations_i=list(dilation),
            group_i=groups,
        )
        # Without a rank, the exporter does not fold the next batch normalization.
        channels = weight.type().sizes()[0]
        result.setType(image.type().with_sizes([None, channels, None, None]))
        return result


class SameConv2d(nn.Module):
    """A convolution with 'SAME' padding. The input's sides must be multiples of its stride.

    Input `[N, C, H, W]`, output `[N, C', H / stride, W / stride]`.
    """

    pads: tuple[int, int, int, int]

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.bias = conv.bias
        self.stride = (conv.stride[0], conv.stride[1])
        self.dilation = (conv.dilation[0], conv.dilation[1])
        self.groups = conv.groups
        (top, bottom), (left, right) = (
            _same_pads(k, s, d) for k, s, d in zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)
        )
        self.pads = (top, left, bottom, right)

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = _PaddedConv.apply(
            image, self.weight, self.bias, self.pads, self.stride, self.dilation, self.groups
        )
        return result


def _same_pads(kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((kernel - 1) * dilation + 1 - stride, 0)
    return total // 2, total - total // 2


def make_static(network: nn.Module) -> nn.Module:
    """Replaces timm's 'SAME' convolutions by convolutions with constant padding, in place.

    Raises:
        ExportError: if a layer that is no plain convolution pads by shape.
    """
    for path, layer in list(network.named_modules()):
        kind = type(layer)
        if kind is Conv2dSame:
            parent, _, child = path.rpartition(".")
            setattr(network.get_submodule(parent), child, SameConv2d(layer))
        elif kind.__name__.endswith("Same"):
            raise ExportError(
                f"layer {path} ({kind.__name__}) pads by the shape of its input, and is "
                "no plain convolution: choose another network"
            )
    return network
