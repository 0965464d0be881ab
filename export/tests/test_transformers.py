"""Vision transformers: tokens as timm computes them, on any grid, in a graph that computes no sizes."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
from conftest import SIZES, optimized
from torch import Tensor, nn

from weakrest_export import backbone, graph, networks, onnx_file
from weakrest_export.errors import ExportError
from weakrest_export.networks import License, Network
from weakrest_export.settings import BackboneSettings
from weakrest_export.taps import Tap, Tapped
from weakrest_export.transformers import Tokens, resized, show_every_block

# Networks of each kind, in small: without class token, with registers, with rotations instead of positions.
SMALL = {
    "vit_small_patch14_dinov2": {"img_size": 70},
    "vit_small_patch14_reg4_dinov2": {"img_size": 84},
    "test_vit2": {},
    "vit_small_patch16_dinov3": {},
}
BLOCKS = (1, 3)


def small(entry: str) -> Any:
    """A network of three blocks with random weights. Positions and tokens are as large as all else."""
    torch.manual_seed(3)
    size = {"embed_dim": 48, "depth": 3, "num_heads": 2, "mlp_ratio": 2}
    network = timm.create_model(entry, num_classes=0, dynamic_img_size=True, **size, **SMALL[entry]).eval()
    show_every_block(network)
    with torch.no_grad():
        for learned in (network.pos_embed, network.cls_token, network.reg_token):
            if learned is not None:
                learned.normal_()
        for name, weights in network.named_parameters():
            if name.endswith("qkv.weight"):
                # Else all tokens see all others alike, and rotations change nothing.
                weights.mul_(10)
    return network


def loaded(entry: str) -> Network:
    network = small(entry)
    patch = network.patch_embed.patch_size[0]
    taps = tuple(Tap(patch, 48, block) for block in BLOCKS)
    tapped = Tapped(taps, Tokens(network, BLOCKS).eval())
    return Network(entry, "test", License("MIT"), (0.5,) * 3, (0.5,) * 3, tapped)


@pytest.fixture(scope="module", params=SMALL)
def made(request: pytest.FixtureRequest) -> tuple[str, graph.FeatureGrid, bytes]:
    features = graph.FeatureGrid(loaded(request.param)).eval()
    return request.param, features, graph.onnx_bytes(features, "test")


@pytest.mark.parametrize("cells", [(1, 5, 5), (1, 1, 1), (2, 3, 8), (1, 12, 7)], ids=str)
def test_tokens_are_timm_s_on_any_grid(
    made: tuple[str, graph.FeatureGrid, bytes], cells: tuple[int, int, int], noise: Callable[..., Tensor]
) -> None:
    entry, features, model = made
    batch, rows, columns = cells
    patch = features.multiple
    image = noise(batch, 3, rows * patch, columns * patch)
    with torch.inference_mode():
        theirs = small(entry).forward_intermediates(
            image, [block - 1 for block in BLOCKS], norm=True, intermediates_only=True
        )
    expected = torch.cat(theirs, 1).numpy()
    got = onnx_file.run(model, image.numpy())
    assert got.shape == (batch, 96, rows, columns)
    # The positions are interpolated in another order of sums.
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_position_matters(made: tuple[str, graph.FeatureGrid, bytes], noise: Callable[..., Tensor]) -> None:
    """Else the comparison with timm would prove nothing about positions."""
    _, features, model = made
    patch = features.multiple
    image = noise(1, 3, 4 * patch, 3 * patch).numpy()
    still = onnx_file.run(model, image)
    moved = np.roll(onnx_file.run(model, np.roll(image, patch, 2)), -1, 2)
    assert np.abs(moved - still).max() > 0.01 * np.abs(still).max()


def test_no_sizes_are_computed_while_the_graph_runs(made: tuple[str, graph.FeatureGrid, bytes]) -> None:
    _, features, model = made
    patch = features.multiple
    for lowered in (model, onnx_file.in_half_precision(model)):
        assert not optimized(lowered, batch=1, height=4 * patch, width=9 * patch) & SIZES
    assert optimized(model) & SIZES, "the sizes would not have mattered"
    assert {(o.domain, o.version) for o in onnx.load_from_string(model).opset_import} == {("", 17)}


@pytest.mark.parametrize(
    ("name", "strides"), [("torchvision:wide_resnet50_2", (8, 16)), ("timm:resnet10t", (4,))]
)
def test_convolutions_compute_no_sizes_either(name: str, strides: tuple[int, ...]) -> None:
    features = graph.FeatureGrid(networks.load(name, strides, "none"), channels=8).eval()
    model = graph.onnx_bytes(features, "test")
    assert not optimized(model, batch=1, height=64, width=96) & SIZES


@pytest.mark.parametrize("count", [1, 3, 16, 19, 37, 55])
def test_positions_are_resized_as_pytorch_does(count: int) -> None:
    values = torch.randn(4, 37, 16, generator=torch.Generator().manual_seed(0))
    expected = nn.functional.interpolate(values[None], size=(count, 20), mode="bicubic", antialias=True)[0]
    torch.testing.assert_close(resized(values, count, 20), expected, rtol=0, atol=1e-4)


def test_half_precision_computes_in_it_and_stays_near(
    made: tuple[str, graph.FeatureGrid, bytes], noise: Callable[..., Tensor]
) -> None:
    _, features, model = made
    halved = onnx_file.in_half_precision(model)
    assert len(halved) < 0.75 * len(model)
    patch = features.multiple
    difference = graph.check_parity(features, halved, [(1, 4 * patch, 5 * patch)], "float16")
    assert difference > 1e-5
    loaded = onnx.load_from_string(halved)
    matrices = {tensor.name: tensor for tensor in loaded.graph.initializer if len(tensor.dims) in (2, 4)}
    layers = [node for node in loaded.graph.node if node.op_type in ("Conv", "MatMul")]
    kinds = [matrices[name].data_type for node in layers for name in node.input if name in matrices]
    assert len(kinds) >= 13
    assert set(kinds) == {onnx.TensorProto.FLOAT16}
    assert onnx_file.run(halved, noise(1, 3, patch, patch).numpy()).dtype == np.float32


def test_blocks_make_scales_with_weights(noise: Callable[..., Tensor]) -> None:
    network = loaded("vit_small_patch14_dinov2")
    scaled = graph.FeatureGrid(network, scales=[{3: 1.0}, {3: 2.0, 1: 0.5}]).eval()
    assert (scaled.grid, scaled.multiple, scaled.channels) == (14, 14, [48, 96])
    image = noise(1, 3, 28, 42)
    with torch.inference_mode():
        first, last = network.tapped.body(image)
        torch.testing.assert_close(scaled(image), torch.cat([last, 0.5 * first, 2 * last], 1))


@pytest.mark.parametrize(
    ("grid", "multiple", "cells"), [(7, 14, (8, 12)), (14, 14, (4, 6)), (28, 28, (2, 3))]
)
def test_other_grids(grid: int, multiple: int, cells: tuple[int, int], noise: Callable[..., Tensor]) -> None:
    features = graph.FeatureGrid(loaded("vit_small_patch14_dinov2"), grid).eval()
    assert features.multiple == multiple
    got = onnx_file.run(graph.onnx_bytes(features, "test"), noise(1, 3, 56, 84).numpy())
    assert got.shape == (1, 96, *cells)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": ("4,8",)}, "timm:test_vit is a vision transformer: give --blocks instead of --scales"),
        ({"blocks": ("7",)}, "timm:test_vit has no block 7: it has blocks 1 to 6"),
        ({"blocks": ("0,3",)}, "give strides or blocks like 4,8,16:0.5"),
        ({"blocks": ("3,3",)}, "each only once"),
        ({"blocks": ("last",)}, "give strides or blocks like"),
        ({"grid": 8, "network": "timm:vit_tiny_patch16_224", "blocks": ("13",)}, "has blocks 1 to 12"),
        ({"grid": 12}, "grid 12: a tap has stride 16, and one of the two must be a multiple of the other"),
        ({"channels": 65}, "channels 65: must be between 1 and the taps' 64"),
        ({"network": "efficientnet-lite0", "blocks": ("3",)}, "is no vision transformer: give --scales"),
        ({"network": "timm:resnet10t", "blocks": ("3",)}, "is no vision transformer: give --scales"),
        (
            {"network": "timm:eva02_tiny_patch14_224"},
            "positions of the kind RotaryEmbeddingCat are not supported",
        ),
        ({"network": "timm:vit_smal_patch14_dinov2"}, "did you mean vit_small_patch14_dinov2"),
        ({"weights": "random"}, "has no weights 'random'"),
    ],
    ids=str,
)
def test_wrong_requests_say_what_to_do(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError) as caught:
        backbone.export(BackboneSettings(**{"network": "timm:test_vit", "weights": "none", **settings}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_picture_that_is_no_multiple_of_the_patch_is_an_error(
    made: tuple[str, graph.FeatureGrid, bytes],
) -> None:
    _, features, model = made
    side = features.multiple
    odd = np.zeros((1, 3, side + 2, 2 * side), np.float32)
    with pytest.raises(AssertionError, match="divisible by patch size"):
        features(torch.from_numpy(odd))
    # The graph sees only whole patches; the inspector never gives it anything else.
    assert onnx_file.run(model, odd).shape == (1, 96, 1, 2)


def test_the_manifest_names_patch_and_blocks() -> None:
    made = backbone.export(BackboneSettings("timm:test_vit", blocks=("2,5:0.5",), weights="none"))
    keys = made.manifest.keys
    assert (keys.stride, keys.multiple) == (16, 16)
    assert [(tap.stride, tap.channels, tap.weight) for tap in keys.scales[0].taps] == [
        (16, 64, 1),
        (16, 64, 0.5),
    ]
    assert made.manifest.source == "timm:test_vit, random weights (for tests), blocks 2, 5"


def test_downloaded_weights_are_loaded_and_licensed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(7)
    trained = timm.create_model("test_vit").state_dict()
    monkeypatch.setattr(
        timm.models._builder, "load_state_dict_from_hf", lambda *_, **__: copy.deepcopy(trained)
    )
    network = networks.load("timm:test_vit.r160_in1k")
    assert network.source == f"timm {timm.__version__} test_vit.r160_in1k, block 6"
    assert (network.license.spdx, network.license.file) == ("Apache-2.0", "LICENSE-timm")
    weights = network.tapped.body.state_dict()
    torch.testing.assert_close(
        weights["network.blocks.0.attn.qkv.weight"], trained["blocks.0.attn.qkv.weight"]
    )


def test_licenses_of_dino() -> None:
    config = timm.get_pretrained_cfg
    assert networks._spdx(config("vit_small_patch14_dinov2.lvd142m").license) == "Apache-2.0"
    dinov3 = networks._spdx(config("vit_small_patch16_dinov3.lvd1689m").license)
    assert dinov3 == "LicenseRef-dinov3-license"
