"""Constant pads do what TensorFlow's 'SAME' padding does, judged by implementations that are not ours."""

from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
from conftest import LITE
from efficientnet_lite_pytorch import EfficientNet
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from weakrest_export import networks
from weakrest_export.efficientnet_lite import VARIANTS, stored_weights
from weakrest_export.errors import ExportError
from weakrest_export.padding import SameConv2d, make_static


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_layer_against_the_definition(kernel: int, stride: int, noise: Callable[..., Tensor]) -> None:
    conv = nn.Conv2d(1, 1, kernel, stride, bias=False)
    image = noise(1, 1, 6, 10)
    got = SameConv2d(conv)(image).detach().numpy()[0, 0]

    weight, pixels = conv.weight.detach().numpy()[0, 0], image.numpy()[0, 0]
    rows, columns = -(-6 // stride), -(-10 // stride)
    top = max((rows - 1) * stride + kernel - 6, 0) // 2
    left = max((columns - 1) * stride + kernel - 10, 0) // 2
    expected = np.zeros((rows, columns))
    for r, c, i, j in np.ndindex(rows, columns, kernel, kernel):
        y, x = r * stride + i - top, c * stride + j - left
        if 0 <= y < 6 and 0 <= x < 10:
            expected[r, c] += weight[i, j] * pixels[y, x]
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"dilation": 2}, {"groups": 4}, {"bias": True}, {"stride": (2, 1)}], ids=str
)
def test_layer_against_timm(options: dict[str, object], noise: Callable[..., Tensor]) -> None:
    conv = Conv2dSame(4, 8, 3, **{"stride": 2, **options})
    image = noise(2, 4, 12, 8)
    torch.testing.assert_close(SameConv2d(conv)(image), conv(image))


@pytest.mark.parametrize("size", [(224, 224), (96, 160), (48, 80)], ids=str)
@pytest.mark.parametrize("name", LITE)
def test_network_against_timm(name: str, size: tuple[int, int], noise: Callable[..., Tensor]) -> None:
    ours = networks.load(name, (2, 4, 8, 16)).tapped.body
    theirs = timm.create_model(
        VARIANTS[name].architecture, features_only=True, out_indices=(0, 1, 2, 3)
    ).eval()
    named = ours.state_dict()
    theirs.load_state_dict(named, strict=False)
    assert set(named) <= set(theirs.state_dict())
    image = noise(1, 3, *size)
    with torch.inference_mode():
        for got, expected in zip(ours(image), theirs(image), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "side"), [(LITE[0], 224), (LITE[1], 240), (LITE[2], 256)])
def test_network_against_the_weights_own_code(name: str, side: int, noise: Callable[..., Tensor]) -> None:
    """At the side for which that code computes its pads; Lite2's own 260 is no multiple of the strides."""
    theirs = EfficientNet.from_name(name, image_size=side).eval()
    theirs.load_state_dict(stored_weights(VARIANTS[name]), strict=True)
    image = noise(1, 3, side, side)
    expected: dict[int, Tensor] = {}
    with torch.inference_mode():
        cells = theirs._swish(theirs._bn0(theirs._conv_stem(image)))
        for block in theirs._blocks:
            cells = block(cells)
            expected[side // cells.shape[2]] = cells
        maps = networks.load(name, (4, 8, 16)).tapped.body(image)
    for stride, got in zip((4, 8, 16), maps, strict=True):
        torch.testing.assert_close(got, expected[stride], rtol=0, atol=1e-4)


def test_layers_that_pad_by_shape_are_refused() -> None:
    class AvgPool2dSame(nn.AvgPool2d):
        pass

    with pytest.raises(ExportError, match=r"layer 1 \(AvgPool2dSame\) pads by the shape"):
        make_static(nn.Sequential(nn.Identity(), AvgPool2dSame(2)))
