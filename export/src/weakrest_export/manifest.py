"""The description of a trained network, in TOML beside its ONNX file. A package keeps it, too."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

FORMAT = 3
"""Version of the keys. weakrest refuses others."""


@dataclass(frozen=True)
class Tap:
    """One feature map of a backbone.

    Attributes:
        stride: pixels per cell of the map.
        channels: values per cell.
        weight: factor in the graph.
    """

    stride: int
    channels: int
    weight: float


@dataclass(frozen=True)
class Scale:
    """Channels that are compared together.

    Attributes:
        channels: features per grid cell.
        taps: in the order of concatenation.
    """

    channels: int
    taps: Sequence[Tap]


@dataclass(frozen=True)
class Backbone:
    """Keys of a backbone: picture `[N, 3, H, W]` to features `[N, channels, H / stride, W / stride]`.

    Attributes:
        color: order of the input's channels.
        mean: per channel, for pixels in 0..1.
        std: per channel, for pixels in 0..1.
        stride: pixels per grid cell.
        multiple: the input's sides must be multiples of this.
        scales: in the order of the output's channels.
    """

    kind: ClassVar = "backbone"
    color: str
    mean: Sequence[float]
    std: Sequence[float]
    stride: int
    multiple: int
    scales: Sequence[Scale]


@dataclass(frozen=True)
class BlockHead:
    """Keys of a head that judges blocks: residuals `[N, rows, cols, channels]` to `[N, rows, cols, 2]`.

    Attributes:
        backbone: SHA-256 of the backbone of the training residuals.
        channels: values per block of the residuals.
        setting: labels it was trained with: unsupervised, blocks, boxes, …
        window: side of the windows in which it runs, in blocks, overlaps averaged; 0: whole grids.
        step: from one window to the next.
        output: meaning of the two numbers per block. `correction`: the block's score is multiplied by
            exp(tanh(d / 2)), where d is the second number minus the first.
    """

    kind: ClassVar = "block-head"
    backbone: str
    channels: int
    setting: str
    window: int
    step: int
    output: str


@dataclass(frozen=True)
class SeeingHead:
    """Keys of a head that also reads the backbone's input and gives one logit per cell.

    Attributes:
        backbone: see `BlockHead`.
        channels: see `BlockHead`.
        setting: see `BlockHead`.
        cell: side of a cell, in pixels of the scaled picture.
    """

    kind: ClassVar = "seeing-head"
    backbone: str
    channels: int
    setting: str
    cell: int


@dataclass(frozen=True)
class Clicks:
    """Keys of a network that makes masks of clicks and prompts.

    Attributes:
        backbone: see `BlockHead`.
        channels: see `BlockHead`.
        setting: see `BlockHead`.
        cell: see `SeeingHead`.
        radius: of a click's disk, in pixels of the scaled picture.
        prompt: length of a prompt's vector.
    """

    kind: ClassVar = "clicks"
    backbone: str
    channels: int
    setting: str
    cell: int
    radius: float
    prompt: int


Keys = TypeVar("Keys", Backbone, BlockHead, SeeingHead, Clicks, covariant=True)


@dataclass(frozen=True)
class Manifest(Generic[Keys]):
    """A network's description; `to_toml` writes it.

    Attributes:
        name: of the network, and of its files without extension.
        source: origin of a backbone's weights; training data of the others, in words.
        license: of the weights, as an SPDX expression.
        sha256: of the ONNX file, 64 lower-case hexadecimal digits.
        keys: of the kind.
        license_file: file beside the manifest with the license's text; None without one.
    """

    name: str
    source: str
    license: str
    sha256: str
    keys: Keys
    license_file: str | None = None

    def to_toml(self) -> str:
        """The manifest as TOML, ending in a newline."""
        lines = [f"format = {FORMAT}", f"kind = {_toml(self.keys.kind)}"]
        for key in ("name", "source", "license", "license_file", "sha256"):
            value = getattr(self, key)
            if value is not None:
                lines.append(f"{key} = {_toml(value)}")
        values = {field.name: getattr(self.keys, field.name) for field in dataclasses.fields(self.keys)}
        scales: Sequence[Scale] = values.pop("scales", ())
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
        for scale in scales:
            lines += ["", "[[scales]]", f"channels = {scale.channels}"]
            for tap in scale.taps:
                lines += ["", "[[scales.taps]]", f"stride = {tap.stride}", f"channels = {tap.channels}"]
                lines.append(f"weight = {_toml(tap.weight)}")
        return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, str):
        # A JSON string is a TOML basic string, except for DEL, which TOML escapes.
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return f"[{', '.join(repr(float(number)) for number in value)}]"
    return repr(value)
