"""The manifest: what a device must know about an ONNX backbone, in TOML beside it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from weakrest_export.taps import Tap

FORMAT = 1
"""Version of the manifest's keys; a reader refuses others."""


@dataclass(frozen=True)
class Manifest:
    """Facts about one backbone; `to_toml` writes them in this order.

    Attributes:
        name: of the backbone, and of its files without extension.
        source: where the weights come from.
        license: of the weights, as an SPDX expression.
        license_file: file beside the manifest with the license's text; None where there is none.
        sha256: of the ONNX file, 64 lower-case hexadecimal digits.
        input: name of the graph's input, `[N, 3, H, W]` f32.
        output: name of the graph's output, `[N, channels, H / stride, W / stride]` f32.
        color: order of the input's channels.
        mean: per channel, for pixels in 0..1.
        std: per channel, for pixels in 0..1.
        stride: pixels per grid cell.
        multiple: the input's sides must be multiples of this.
        channels: features per grid cell.
        taps: in the order of concatenation.
        scales: what each tap is multiplied with in the graph.
    """

    name: str
    source: str
    license: str
    license_file: str | None
    sha256: str
    input: str
    output: str
    color: str
    mean: Sequence[float]
    std: Sequence[float]
    stride: int
    multiple: int
    channels: int
    taps: Sequence[Tap]
    scales: Sequence[float]

    def to_toml(self) -> str:
        """The manifest as TOML, ending in a newline."""
        lines = [f"format = {FORMAT}"]
        for key in ("name", "source", "license", "license_file", "sha256", "input", "output", "color"):
            value = getattr(self, key)
            if value is not None:
                lines.append(f"{key} = {toml_string(value)}")
        lines += [f"{key} = {_floats(getattr(self, key))}" for key in ("mean", "std")]
        lines += [f"{key} = {getattr(self, key)}" for key in ("stride", "multiple", "channels")]
        for tap, scale in zip(self.taps, self.scales, strict=True):
            lines += ["", "[[taps]]", f"stride = {tap.stride}", f"channels = {tap.channels}"]
            lines.append(f"scale = {float(scale)!r}")
        return "\n".join(lines) + "\n"


def toml_string(value: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(value).replace("\x7f", "\\u007f")


def _floats(values: Sequence[float]) -> str:
    return f"[{', '.join(repr(float(value)) for value in values)}]"
