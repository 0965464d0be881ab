"""Weights from files: loaded whole and without running code, or refused with file, key and a way out."""

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from weakrest_export import backbone, networks
from weakrest_export.cli import main
from weakrest_export.errors import ExportError
from weakrest_export.settings import BackboneSettings


def state(entry: str, seed: int = 7) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {key: value.clone() for key, value in timm.create_model(entry).state_dict().items()}


def saved(path: Path, weights: Mapping[str, Any]) -> str:
    if path.suffix == ".safetensors":
        save_file(dict(weights), path)
    else:
        torch.save(weights, path)
    return str(path)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "weights.PT", "pytorch_model.bin"])
def test_weights_of_a_transformer(name: str, tmp_path: Path) -> None:
    weights = state("test_vit")
    network = networks.load("timm:test_vit", weights=saved(tmp_path / name, weights), blocks=(2, 6))
    loaded = network.tapped.body.state_dict()
    torch.testing.assert_close(loaded["network.blocks.5.mlp.fc2.weight"], weights["blocks.5.mlp.fc2.weight"])
    assert network.source.startswith(f"timm:test_vit, weights of {name} (SHA-256 ")
    assert network.source.endswith("), blocks 2, 6")
    assert network.license == networks.OWN_TERMS


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_training_programs_write_around_weights(
    wrapper: str | None, prefix: str, tmp_path: Path
) -> None:
    weights = state("test_vit")
    stored: dict[str, Any] = {f"{prefix}{key}": value for key, value in weights.items()}
    if wrapper is not None:
        stored = {wrapper: stored, "epoch": 3}
    network = networks.load("timm:test_vit", weights=saved(tmp_path / "w.pth", stored))
    loaded = network.tapped.body.state_dict()
    torch.testing.assert_close(loaded["network.norm.weight"], weights["norm.weight"])


def test_weights_of_convolutions_and_another_number_of_classes(tmp_path: Path) -> None:
    weights = state("resnet10t") | {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}
    del weights["bn1.num_batches_tracked"]
    network = networks.load("timm:resnet10t", (4, 16), saved(tmp_path / "w.safetensors", weights))
    loaded = network.tapped.body.state_dict()
    torch.testing.assert_close(loaded["layer1.0.conv1.weight"], weights["layer1.0.conv1.weight"])

    torch.manual_seed(7)
    resnet = torchvision.models.resnet18(num_classes=5).state_dict()
    network = networks.load("torchvision:resnet18", (4,), saved(tmp_path / "r.pth", resnet))
    loaded = network.tapped.body.state_dict()
    torch.testing.assert_close(loaded["maps.layer1.0.conv1.weight"], resnet["layer1.0.conv1.weight"])
    assert network.license == networks.OWN_TERMS
    assert network.source.startswith("torchvision:resnet18, weights of r.pth (")

    lite = state("tf_efficientnet_lite0")
    network = networks.load("efficientnet-lite0", (4,), saved(tmp_path / "l.pth", lite))
    torch.testing.assert_close(network.tapped.body.state_dict()["conv_stem.weight"], lite["conv_stem.weight"])


def test_dinov2_s_own_files_are_converted(tmp_path: Path) -> None:
    """The file of its authors has `register_tokens`, a `mask_token`, and a position for the class token."""
    weights = state("vit_small_patch14_reg4_dinov2")
    theirs = {key: value for key, value in weights.items() if key not in ("reg_token", "pos_embed")}
    theirs["register_tokens"] = weights["reg_token"]
    theirs["mask_token"] = torch.zeros(1, 384)
    theirs["cls_token"] = weights["cls_token"] - 1
    theirs["pos_embed"] = torch.cat([torch.ones(1, 1, 384), weights["pos_embed"]], 1)
    file = saved(tmp_path / "dinov2_vits14_reg4_pretrain.pth", theirs)
    network = networks.load("timm:vit_small_patch14_reg4_dinov2", weights=file)
    own = networks.load("timm:vit_small_patch14_reg4_dinov2", weights=saved(tmp_path / "own.pth", weights))
    image = torch.zeros(1, 3, 28, 42)
    with torch.inference_mode():
        torch.testing.assert_close(network.tapped.body(image), own.tapped.body(image))


def test_another_file_makes_another_network(tmp_path: Path) -> None:
    made = [
        backbone.export(
            BackboneSettings(
                "timm:test_vit", weights=saved(tmp_path / f"{seed}.pth", state("test_vit", seed))
            )
        )
        for seed in (1, 2)
    ]
    assert made[0].model != made[1].model
    assert made[0].manifest.sha256 != made[1].manifest.sha256
    assert all(one.difference < 1e-4 for one in made)


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("code-has-run",)


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        weights: dict[str, Any] = dict(state("test_vit"))
        replaced = change(weights)
        saved(path, weights if replaced is None else replaced)

    return write


def put(key: str, value: Any) -> Callable[[Path], None]:
    return changed(lambda weights: weights.update({key: value}))


CASES: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing.pth", lambda path: None, "cannot read weights missing.pth: No such file or directory"),
    ("folder.pth", lambda path: path.mkdir(), "cannot read weights folder.pth: Is a directory"),
    ("empty.pth", lambda path: path.touch(), "weights empty.pth: "),
    (
        "text.pth",
        lambda path: path.write_text("hello"),
        "weights text.pth: it is no state dictionary of PyTorch, or is damaged, or would run code",
    ),
    ("text.safetensors", lambda path: path.write_text("hello, world"), "weights text.safetensors: "),
    ("empty.safetensors", lambda path: path.touch(), "weights empty.safetensors: "),
    (
        "code.pth",
        lambda path: torch.save({"w": Evil()}, path),
        "weights code.pth: it is no state dictionary of PyTorch, or is damaged, or would run code",
    ),
    ("pickle.pt", lambda path: path.write_bytes(pickle.dumps(Evil())), "would run code when it is loaded"),
    (
        "list.pth",
        lambda path: torch.save([torch.zeros(1)], path),
        "weights list.pth: it holds no tensors with names",
    ),
    ("none.pth", lambda path: torch.save({}, path), "weights none.pth: it holds no tensors with names"),
    ("number.pth", lambda path: torch.save({"epoch": 3}, path), "weights number.pth: 'epoch' is no tensor"),
    (
        "lacks.pth",
        changed(lambda weights: weights.__delitem__("blocks.3.norm1.weight")),
        "weights lacks.pth do not fit timm:test_vit: it has no 'blocks.3.norm1.weight'; name the network",
    ),
    (
        "half.pth",
        changed(lambda weights: {key: value for key, value in weights.items() if "blocks" not in key}),
        "it has no 'blocks.0.norm1.weight' and 71 more; name the network that the file was made for",
    ),
    (
        "extra.pth",
        put("blocks.6.norm1.weight", torch.zeros(64)),
        "extra.pth do not fit timm:test_vit: the network has no 'blocks.6.norm1.weight'; name the network",
    ),
    (
        "registers.safetensors",
        put("reg_token", torch.zeros(1, 4, 64)),
        "do not fit timm:test_vit: the network has no 'reg_token'",
    ),
    (
        "shape.pth",
        put("blocks.2.attn.qkv.weight", torch.zeros(192, 65)),
        "'blocks.2.attn.qkv.weight' has the shape [192, 65] instead of [192, 64]; name the network",
    ),
    (
        "nan.pth",
        put("norm.bias", torch.full((64,), torch.nan)),
        "weights nan.pth: 'norm.bias' holds a value that is no finite number",
    ),
]


@pytest.mark.parametrize(("name", "write", "message"), CASES, ids=[case[0] for case in CASES])
def test_bad_files_are_refused_in_one_line(
    name: str,
    write: Callable[[Path], object],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path(name))
    before = sorted(tmp_path.iterdir())
    assert main(["backbone", "timm:test_vit", "--weights", name]) == 2
    error = capsys.readouterr().err
    assert error.startswith("weakrest-export: ")
    assert message in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_weights_of_another_network(tmp_path: Path) -> None:
    vit = saved(tmp_path / "vit.pth", state("test_vit"))
    with pytest.raises(ExportError, match=r"vit.pth do not fit timm:resnet10t: it has no 'conv1"):
        networks.load("timm:resnet10t", (4,), vit)
    with pytest.raises(ExportError, match=r"vit.pth do not fit torchvision:resnet18: it has no 'conv1"):
        networks.load("torchvision:resnet18", (4,), vit)
    with pytest.raises(ExportError, match=r"vit.pth do not fit timm:test_vit2: "):
        networks.load("timm:test_vit2", weights=vit)
    resnet = saved(tmp_path / "resnet.pth", state("resnet10t"))
    with pytest.raises(ExportError, match=r"resnet.pth do not fit timm:test_vit: "):
        networks.load("timm:test_vit", weights=resnet)
