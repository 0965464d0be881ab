"""Exports a network to the files of a backbone."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from weakrest_export.files import check_name, write_together
from weakrest_export.graph import FeatureGrid, check_parity, onnx_bytes
from weakrest_export.manifest import Backbone as Keys
from weakrest_export.manifest import Manifest, Tap
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
        ExportError: see `networks.load`, `graph.FeatureGrid` and `graph.check_parity`.
    """
    name = settings.name if settings.name is not None else settings.network.replace(":", "-")
    if settings.name is not None:
        check_name(name)
    loaded = load(settings.network, settings.taps, settings.weights)
    features = FeatureGrid(loaded, settings.grid, settings.channels, settings.scales).eval()
    model = onnx_bytes(features, name)
    side = features.multiple
    difference = check_parity(features, model, [(1, 4 * side, 4 * side), (2, 2 * side, 5 * side)])
    manifest = _manifest(name, loaded, features, settings.grid, model)
    return Backbone(manifest, model, loaded.license.text, difference)


def _manifest(name: str, network: Network, features: FeatureGrid, grid: int, model: bytes) -> Manifest[Keys]:
    taps = zip(network.tapped.taps, features.scales, strict=True)
    keys = Keys(
        color="rgb",
        mean=network.mean,
        std=network.std,
        stride=grid,
        multiple=features.multiple,
        channels=features.channels,
        taps=[Tap(tap.stride, tap.channels, float(scale)) for tap, scale in taps],
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
