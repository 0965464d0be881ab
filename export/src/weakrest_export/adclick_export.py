"""Exports a trained ADClick to the files for a package: `NAME.onnx`, `NAME.toml`, `NAME.safetensors`."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save
from torch import Tensor, nn

from weakrest_export import head_export, onnx_file
from weakrest_export.adclick import GUIDES, PROMPT, RADIUS, STRIDE, AdClick, Shape
from weakrest_export.errors import Exit, ExportError
from weakrest_export.files import check_name, write_together
from weakrest_export.manifest import Clicks, Manifest, SeeingHead
from weakrest_export.settings import LICENSE

INPUTS = ("residuals", "picture", "guidance", "prompt")
OUTPUT = "logits"

TOLERANCE = 1e-4
"""Largest accepted difference of probabilities between graph and network."""

_GRIDS = ((1, 32, 32), (1, 13, 50), (1, 1, 1), (2, 8, 9))


@dataclass(frozen=True)
class Prompt:
    """A phrase for a kind of defect, and its vector `[384]`."""

    kind: str
    text: str
    vector: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Exported:
    """An exported network, not yet written.

    Attributes:
        manifest: facts about the graph.
        model: bytes of the ONNX file.
        prompts: phrases that the network was trained on.
        difference: from PyTorch, see `TOLERANCE`.
    """

    manifest: Manifest[Clicks]
    model: bytes
    prompts: tuple[Prompt, ...]
    difference: float


def export(
    network: AdClick,
    backbone: str,
    *,
    name: str = "adclick",
    setting: str,
    source: str,
    license: str = LICENSE,
    prompts: Sequence[Prompt] = (),
) -> Exported:
    """Exports a network for the labeler and checks the graph against the network.

    Args:
        network: in evaluation mode, on the CPU.
        backbone: SHA-256 of the ONNX file of the backbone of the training residuals.
        name: of the network, and of its files without extension.
        setting: labels of the training.
        source: training data, in words.
        license: of the weights, as an SPDX expression.
        prompts: see `Exported`.

    Raises:
        ExportError: if no file can have the name, or the graph differs from the network.
    """
    check_name(name)
    module = _Clicked(network).eval()
    model = _onnx_bytes(module, network.shape, name, INPUTS)
    keys = Clicks(backbone, network.shape.channels, setting, cell=STRIDE, radius=RADIUS, prompt=PROMPT)
    manifest = Manifest(name, source, license, hashlib.sha256(model).hexdigest(), keys)
    return Exported(manifest, model, tuple(prompts), _check(module, network.shape, model))


def export_head(
    network: AdClick,
    backbone: str,
    *,
    name: str = "adclick-seg",
    setting: str,
    source: str,
    license: str = LICENSE,
    prompt: npt.NDArray[np.float32] | None = None,
) -> head_export.Exported:
    """Exports the network without clicks as a head: ADClick-Seg.

    Args:
        network: see `export`.
        backbone: see `export`.
        name: see `export`.
        setting: see `export`.
        source: see `export`.
        license: see `export`.
        prompt: `[384]`, vector of the head's product; None: no prompt.

    Raises:
        ExportError: see `export`.
    """
    check_name(name)
    words = torch.zeros(PROMPT) if prompt is None else torch.from_numpy(prompt)
    module = _Unclicked(network, words).eval()
    model = _onnx_bytes(module, network.shape, name, INPUTS[:2])
    keys = SeeingHead(backbone, network.shape.channels, setting, cell=STRIDE)
    manifest = Manifest(name, source, license, hashlib.sha256(model).hexdigest(), keys)
    return head_export.Exported(manifest, model, _check(module, network.shape, model))


def write(exported: Exported, directory: Path) -> Path:
    """Writes the three files into an existing directory, each atomically.

    Returns:
        The graph's path.

    Raises:
        ExportError: if the directory is missing or cannot be written.
    """
    name = exported.manifest.name
    vectors = np.stack([p.vector for p in exported.prompts]) if exported.prompts else np.zeros((0, PROMPT))
    listed = json.dumps([{"type": p.kind, "text": p.text} for p in exported.prompts])
    files = {
        f"{name}.onnx": exported.model,
        f"{name}.safetensors": save({"vectors": vectors.astype(np.float32)}, {"prompts": listed}),
        f"{name}.toml": exported.manifest.to_toml().encode(),
    }
    write_together(directory, files)
    return directory / f"{name}.onnx"


class _Clicked(nn.Module):
    """The network with inputs and outputs of four dimensions, for the `weakrest` program."""

    def __init__(self, network: AdClick) -> None:
        super().__init__()
        self.network = network

    def forward(self, residuals: Tensor, picture: Tensor, guidance: Tensor, prompt: Tensor) -> Tensor:
        logits: Tensor = self.network(residuals, picture, guidance, prompt[:, 0, 0])
        return logits[..., None]


class _Unclicked(nn.Module):
    """The network without clicks."""

    words: Tensor

    def __init__(self, network: AdClick, words: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("words", words[None])

    def forward(self, residuals: Tensor, picture: Tensor) -> Tensor:
        # A size would become a constant in the graph. Zeros made from the input do not.
        guidance = picture[:, :GUIDES, ::STRIDE, ::STRIDE] * 0
        words = self.words + picture[:, :1, 0, 0] * 0
        logits: Tensor = self.network(residuals, picture, guidance, words)
        return logits[..., None]


def example(shape: Shape, count: int, rows: int, cols: int) -> tuple[Tensor, ...]:
    """Noise with a defect in it, for all four inputs of a network of this shape."""
    generator = torch.Generator().manual_seed(rows)
    residuals = torch.randn(count, rows, cols, shape.channels, generator=generator)
    residuals[:, rows // 2 :, cols // 2 :] *= 4
    picture = torch.randn(count, 3, shape.block * rows, shape.block * cols, generator=generator)
    cells = shape.block // STRIDE
    guidance = (torch.rand(count, GUIDES, cells * rows, cells * cols, generator=generator) > 0.9).float()
    prompt = torch.randn(count, 1, 1, PROMPT, generator=generator) / PROMPT**0.5
    return residuals, picture, guidance, prompt


def _onnx_bytes(module: nn.Module, shape: Shape, name: str, inputs: Sequence[str]) -> bytes:
    free = {
        "residuals": {0: "batch", 1: "rows", 2: "columns"},
        "picture": {0: "batch", 2: "height", 3: "width"},
        "guidance": {0: "batch", 2: "down", 3: "across"},
        "prompt": {0: "batch"},
    }
    return onnx_file.onnx_bytes(
        module,
        example(shape, 2, 13, 21)[: len(inputs)],
        name,
        [(name, free[name]) for name in inputs],
        (OUTPUT, {0: "batch", 1: "down", 2: "across"}),
    )


def _check(module: nn.Module, shape: Shape, model: bytes) -> float:
    worst = 0.0
    session = onnx_file.session(model)
    names = [input.name for input in session.get_inputs()]
    for count, rows, cols in _GRIDS:
        inputs = example(shape, count, rows, cols)[: len(names)]
        with torch.inference_mode():
            expected = module(*inputs).sigmoid()
        (made,) = session.run(None, {n: e.numpy() for n, e in zip(names, inputs, strict=True)})
        if made.shape != expected.shape:
            raise ExportError(
                f"the exported graph gives {list(made.shape)} where the network gives {list(expected.shape)}",
                Exit.FAULT,
            )
        worst = max(worst, float((torch.from_numpy(made).sigmoid() - expected).abs().max()))
    if not worst <= TOLERANCE:
        raise ExportError(f"the exported graph differs from the network by {worst:.1e}", Exit.FAULT)
    return worst
