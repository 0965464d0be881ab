"""The exported graph computes what the network computes, on every allowed size."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from conftest import LITE, exported
from torch import Tensor, nn

from weakrest_export import graph, networks, onnx_file
from weakrest_export.errors import ExportError
from weakrest_export.networks import License, Network
from weakrest_export.taps import Tap, Tapped

Maps = Sequence[npt.NDArray[np.float64]]

NETWORKS = [
    *((name, "pretrained") for name in LITE),
    ("torchvision:resnet18", "none"),
    ("torchvision:mobilenet_v3_small", "none"),
    ("timm:resnet10t", "none"),
    ("timm:tf_efficientnetv2_b0", "none"),
]


@pytest.mark.parametrize("shape", [(1, 256, 256), (2, 96, 160), (1, 80, 48), (1, 16, 16)], ids=str)
@pytest.mark.parametrize(("name", "weights"), NETWORKS)
def test_graph_equals_network(
    name: str, weights: str, shape: tuple[int, int, int], noise: Callable[..., Tensor]
) -> None:
    features, model = exported(name, weights)
    batch, height, width = shape
    image = noise(batch, 3, height, width)
    with torch.inference_mode():
        expected = features(image).numpy()
    got = onnx_file.run(model, image.numpy())
    assert got.shape == (batch, sum(features.channels), height // 8, width // 8)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("taps", "size"), [((8,), (8, 24)), ((4, 8), (24, 8)), ((8, 16, 32), (64, 96)), ((16,), (48, 16))]
)
@pytest.mark.parametrize("grid", [4, 8, 16])
def test_graph_equals_network_on_other_taps_and_grids(
    taps: tuple[int, ...], size: tuple[int, int], grid: int, noise: Callable[..., Tensor]
) -> None:
    features, model = exported("efficientnet-lite0", "pretrained", taps, grid)
    assert features.multiple == max(*taps, grid)
    height, width = (-(-side // features.multiple) * features.multiple for side in size)
    image = noise(1, 3, height, width)
    with torch.inference_mode():
        expected = features(image).numpy()
    got = onnx_file.run(model, image.numpy())
    assert got.shape[2:] == (height // grid, width // grid)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", LITE)
def test_graph_has_no_shape_arithmetic(name: str) -> None:
    _, content = exported(name, "pretrained")
    model = onnx.load_from_string(content)
    kinds = {node.op_type for node in model.graph.node}
    # Pads and batch normalization must have gone into the convolutions.
    assert kinds == {"Conv", "Clip", "Add", "AveragePool", "Resize", "Concat", "Constant"}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", onnx_file.OPSET)]


def test_half_weights_take_half_the_file_and_compute_in_single_precision(
    noise: Callable[..., Tensor],
) -> None:
    features, model = exported("efficientnet-lite0", "pretrained")
    halved = onnx_file.with_half_weights(model)
    assert len(halved) < 0.55 * len(model)
    assert graph.check_parity(features, halved, [(1, 64, 96)], "float16") > 1e-5
    with pytest.raises(ExportError, match="differs from the network"):
        graph.check_parity(features, halved, [(1, 64, 96)])
    image = noise(1, 3, 32, 32).numpy()
    got = onnx_file.run(halved, image)
    assert not np.array_equal(got, got.astype(np.float16))


def test_graph_is_cut_after_the_deepest_tap() -> None:
    sizes = [
        len(exported("efficientnet-lite0", "pretrained", taps)[1]) for taps in ((4,), (8,), (16,), (32,))
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 50


@pytest.mark.parametrize(("name", "weights"), NETWORKS)
def test_graph_tells_nothing_about_the_exporting_machine(name: str, weights: str) -> None:
    model = onnx.load_from_string(exported(name, weights)[1])
    assert not model.doc_string
    assert not model.metadata_props
    assert not model.graph.doc_string
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    text = model.SerializeToString()
    assert b".py" not in text
    assert b"site-packages" not in text


def test_difference_is_an_error(noise: Callable[..., Tensor]) -> None:
    features, _ = exported("efficientnet-lite0", "pretrained")
    _, other = exported("efficientnet-lite1", "pretrained")
    with pytest.raises(ExportError, match="differs from the network"):
        graph.check_parity(features, other, [(1, 32, 32)])


def test_operator_that_onnx_lacks_is_an_error() -> None:
    features = graph.FeatureGrid(networks.load("timm:test_vit4", weights="none")).eval()
    with pytest.raises(ExportError, match="ONNX cannot express this network") as caught:
        graph.onnx_bytes(features, "test")
    assert "\n" not in str(caught.value)


class Pyramid(nn.Module):
    """Stands in for a network: mixes the colors of the image's pixels at each stride."""

    def __init__(self, taps: Sequence[Tap]) -> None:
        super().__init__()
        self.strides = [tap.stride for tap in taps]
        generator = torch.Generator().manual_seed(2)
        self.mixes = [torch.randn(tap.channels, 3, 1, 1, generator=generator) for tap in taps]

    def forward(self, image: Tensor) -> list[Tensor]:
        return [
            nn.functional.conv2d(image, mix, stride=stride)
            for stride, mix in zip(self.strides, self.mixes, strict=True)
        ]


def pyramid() -> Network:
    taps = (Tap(2, 3), Tap(4, 1), Tap(8, 5), Tap(16, 2), Tap(32, 2))
    tapped = Tapped(taps, Pyramid(taps))
    return Network("pyramid", "none", License("MIT"), (0.0,) * 3, (1.0,) * 3, tapped)


def local_mean(cells: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """3×3 mean; beyond the border, cells count as zero."""
    _, _, rows, columns = cells.shape
    out = np.empty_like(cells)
    for r in range(rows):
        for c in range(columns):
            out[:, :, r, c] = cells[:, :, max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].sum((2, 3)) / 9
    return out


def finer_mean(cells: npt.NDArray[np.float64], factor: int) -> npt.NDArray[np.float64]:
    """Mean of the `factor` × `factor` cells in each grid cell."""
    count, channels, rows, columns = cells.shape
    out = np.empty((count, channels, rows // factor, columns // factor))
    for r in range(rows // factor):
        for c in range(columns // factor):
            block = cells[:, :, r * factor : (r + 1) * factor, c * factor : (c + 1) * factor]
            out[:, :, r, c] = block.mean((2, 3))
    return out


def bilinear(cells: npt.NDArray[np.float64], factor: int) -> npt.NDArray[np.float64]:
    """Interpolates between cell centers; beyond the outermost centers the border cell continues."""
    count, channels, rows, columns = cells.shape
    out = np.zeros((count, channels, rows * factor, columns * factor))
    for r in range(rows * factor):
        for c in range(columns * factor):
            y = min(max((r + 0.5) / factor - 0.5, 0), rows - 1)
            x = min(max((c + 0.5) / factor - 0.5, 0), columns - 1)
            for row, column in [(row, column) for row in range(rows) for column in range(columns)]:
                weight = max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column))
                out[:, :, r, c] += weight * cells[:, :, row, column]
    return out


@pytest.mark.parametrize("grid", [4, 8, 16])
def test_local_mean_resize_and_concatenation(grid: int, noise: Callable[..., Tensor]) -> None:
    network = pyramid()
    features = graph.FeatureGrid(network, grid).eval()
    image = noise(2, 3, 64, 96)
    parts = []
    for tap, cells in zip(network.tapped.taps, network.tapped.body(image), strict=True):
        means = local_mean(cells.numpy().astype(np.float64))
        if tap.stride < grid:
            parts.append(finer_mean(means, grid // tap.stride))
        else:
            parts.append(bilinear(means, tap.stride // grid))
    expected = np.concatenate(parts, 1)
    got = onnx_file.run(graph.onnx_bytes(features, "pyramid"), image.numpy())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_each_scale_has_its_taps_with_its_weights(noise: Callable[..., Tensor]) -> None:
    network = pyramid()
    scales = [{4: 1.0}, {8: 0.5, 2: 3.0, 4: 1.0}, {32: 1.0, 16: 0.25}]
    scaled = graph.FeatureGrid(network, 8, scales).eval()
    image = noise(1, 3, 64, 96)
    plain = graph.FeatureGrid(network, 8).eval()(image).numpy()
    strides = np.repeat(
        [tap.stride for tap in network.tapped.taps], [t.channels for t in network.tapped.taps]
    )
    parts = [plain[:, strides == stride] * scale[stride] for scale in scales for stride in sorted(scale)]
    got = onnx_file.run(graph.onnx_bytes(scaled, "pyramid"), image.numpy())
    np.testing.assert_allclose(got, np.concatenate(parts, 1), rtol=0, atol=1e-5)
    assert scaled.channels == [1, 9, 4]


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_weights_that_cannot_be(weight: float) -> None:
    with pytest.raises(ExportError, match="must be a positive number"):
        graph.FeatureGrid(pyramid(), 8, [{4: 1.0}, {8: weight}])


def test_group_means() -> None:
    np.testing.assert_allclose(graph.group_means(4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    third = 1 / 3
    np.testing.assert_allclose(
        graph.group_means(5, 2), [[third, third, third, 0, 0], [0, 0, third, third, third]]
    )
    adaptive = nn.functional.adaptive_avg_pool1d(torch.eye(176), 50).T
    np.testing.assert_allclose(graph.group_means(176, 50), adaptive, atol=1e-7)


@pytest.mark.parametrize("channels", [13, 6, 1])
def test_channel_pooling(channels: int, noise: Callable[..., Tensor]) -> None:
    network = pyramid()
    features = graph.FeatureGrid(network, 8, channels=channels).eval()
    image = noise(1, 3, 64, 64)
    whole = graph.FeatureGrid(network, 8).eval()(image)
    expected = np.einsum("kc,nchw->nkhw", graph.group_means(13, channels), whole)
    got = onnx_file.run(graph.onnx_bytes(features, "pyramid"), image.numpy())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", [0, -8, 3, 12])
def test_grid_must_fit_the_strides(grid: int) -> None:
    with pytest.raises(ExportError, match=f"grid {grid}: a tap has stride .* must be a multiple"):
        graph.FeatureGrid(pyramid(), grid)


@pytest.mark.parametrize("channels", [0, -1, 14])
def test_channels_must_fit(channels: int) -> None:
    with pytest.raises(ExportError, match="between 1 and the taps' 13"):
        graph.FeatureGrid(pyramid(), 8, channels=channels)
