"""Exports a network to the files of a backbone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from weakrest_export import onnx_file
from weakrest_export.errors import ExportError
from weakrest_export.files import check_name, write_together
from weakrest_export.graph import FeatureGrid, Scale, check_parity, onnx_bytes
from weakrest_export.manifest import Backbone as Keys
from weakrest_export.manifest import Manifest, Tap
from weakrest_export.manifest import Scale as ScaleKeys
from weakrest_export.networks import Network, load
from weakrest_export.settings import BackboneSettings


@dataclass(frozen=True)
class Backbone:
    """An exported backbone, not yet written.

    Attributes:
        manifest: facts about the graph.
        model: bytes of the ONNX file.
        license_text: content of `manifest.license_file`.
        difference: between graph and network, see `graph.check_parity`.
    """

    manifest: Manifest[Keys]
    model: bytes
    license_text: str | None
    difference: float


def export(settings: BackboneSettings) -> Backbone:
    """Builds a network, exports it and checks the graph against it.

    Raises:
        ExportError: see `networks.load` and `export_loaded`.
    """
    name = settings.name if settings.name is not None else settings.network.replace(":", "-")
    if settings.name is not None:
        check_name(name)
    strides, blocks = (_read_scales(given) for given in (settings.scales, settings.blocks))
    loaded = load(settings.network, _numbers(strides), settings.weights, _numbers(blocks))
    return export_loaded(name, loaded, strides or blocks, settings)


def export_loaded(
    name: str, loaded: Network, scales: Sequence[Scale] | None, settings: BackboneSettings
) -> Backbone:
    """Exports a network that is already built, and checks the graph against it.

    Args:
        name: of the backbone.
        loaded: the network.
        scales: see `graph.FeatureGrid`.
        settings: grid, channels and precision.

    Raises:
        ExportError: see `graph.FeatureGrid` and `graph.check_parity`.
    """
    features = FeatureGrid(loaded, settings.grid, scales, settings.channels).eval()
    model = onnx_bytes(features, name)
    if settings.half:
        model = onnx_file.in_half_precision(model)
    elif settings.precision == "float16":
        model = onnx_file.with_half_weights(model)
    side = features.multiple
    shapes = [(1, 4 * side, 4 * side), (2, 2 * side, 5 * side)]
    difference = check_parity(features, model, shapes, "float16" if settings.half else settings.precision)
    manifest = _manifest(name, loaded, features, model)
    return Backbone(manifest, model, loaded.license.text, difference)


def _read_scales(given: Sequence[str] | None) -> list[Scale] | None:
    return None if given is None else [read_scale(text) for text in given]


def _numbers(scales: Sequence[Scale] | None) -> set[int] | None:
    return None if scales is None else {number for scale in scales for number in scale}


def read_scale(text: str) -> Scale:
    """Reads a scale as on the command line: `4,8,16:0.5`.

    Raises:
        ExportError: if it is not like that, or has a number twice.
    """
    scale: dict[int, float] = {}
    for tap in text.split(","):
        number, _, weight = tap.partition(":")
        try:
            key, value = int(number), float(weight or 1)
        except ValueError:
            key = 0
        if key < 1 or key in scale:
            raise ExportError(f"scale {text!r}: give strides or blocks like 4,8,16:0.5, and each only once")
        scale[key] = value
    return scale


def _manifest(name: str, network: Network, features: FeatureGrid, model: bytes) -> Manifest[Keys]:
    scales = zip(features.channels, features.taps, strict=True)
    keys = Keys(
        color="rgb",
        mean=network.mean,
        std=network.std,
        stride=features.grid,
        multiple=features.multiple,
        scales=[
            ScaleKeys(channels, [Tap(tap.stride, tap.channels, weight) for tap, weight in taps])
            for channels, taps in scales
        ],
    )
    return Manifest(
        name=name,
        source=network.source,
        license=network.license.spdx,
        license_file=network.license.file,
        sha256=hashlib.sha256(model).hexdigest(),
        keys=keys,
    )


def write(backbone: Backbone, directory: Path) -> Path:
    """Writes `NAME.onnx`, `NAME.toml` and the license's text into an existing directory.

    Each file is written atomically, the manifest last. Until then, an older manifest does not match the new
    graph's hash, and a reader refuses the pair instead of mixing them.

    Returns:
        The manifest's path.

    Raises:
        ExportError: if the directory is missing or cannot be written.
    """
    manifest = backbone.manifest
    files = {}
    if manifest.license_file and backbone.license_text:
        files[manifest.license_file] = backbone.license_text.encode()
    files |= {f"{manifest.name}.onnx": backbone.model, f"{manifest.name}.toml": manifest.to_toml().encode()}
    write_together(directory, files)
    return directory / f"{manifest.name}.toml"
