"""The head: a small network from a grid of residuals to two logits per block."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakrest_export import options
from weakrest_export.options import Range
from weakrest_export.settings import HEAD_WIDTH, Body, Reads

WINDOW = 8
"""Side of an attention window, in blocks. The windows of every second layer are shifted by half of it."""

LIMIT = 64.0
"""Residuals are clamped to this: far more than any defect has, and squares still fit half precision."""

_ABSENT = -1e4
"""Added to the scores of blocks outside the grid. It fits half precision."""

_PARTS: dict[Reads, int] = {"signed": 2, "sizes": 2, "squares": 1}


@dataclass(frozen=True)
class Shape:
    """How a head is built.

    Attributes:
        channels: values per block of the residuals.
        width: features per block.
        depth: layers.
        ratio: width of the hidden layer between two layers, in `width`s.
        reads: see `settings.Reads`.
        body: see `settings.Body`.

    Raises:
        ExportError: if a value is out of its range.
    """

    channels: Annotated[int, Range(least=1)]
    width: Annotated[int, Range(multiple=HEAD_WIDTH)] = 128
    depth: Annotated[int, Range(least=1)] = 2
    ratio: Annotated[float, Range(above=0)] = 2.0
    reads: Reads = "signed"
    body: Body = "swin"

    def __post_init__(self) -> None:
        options.check(self)


class Head(nn.Module):
    """Two logits per block of a grid of any size; index 1 stands for defective.

    Padding at the top and left shifts windows, and every grid is padded to whole windows. Padded blocks are
    masked. The graph is the same for all sizes, and blocks at opposite borders never see each other.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Linear(shape.channels * _PARTS[shape.reads], shape.width)
        layers: dict[Body, type[WindowLayer] | type[ConvolutionLayer]]
        layers = {"swin": WindowLayer, "conv": ConvolutionLayer}
        made = layers[shape.body]
        self.layers = nn.ModuleList(made(shape.width, shape.ratio, at) for at in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width)
        self.classify = nn.Linear(shape.width, 2)
        self.apply(initialize)

    def forward(self, residuals: Tensor, present: Tensor | None = None) -> Tensor:
        """Logits `[N, rows, cols, 2]`.

        Args:
            residuals: `[N, rows, cols, channels]`, neighbor minus token, scaled.
            present: `[N, rows, cols]`, 1 for a block and 0 for the padding of a smaller grid; None: blocks
                everywhere.
        """
        if present is None:
            present = torch.ones_like(residuals[:1, :, :, 0])
        tokens = self.embed(self._read(residuals.clamp(-LIMIT, LIMIT)))
        for layer in self.layers:
            tokens = layer(tokens, present)
        logits: Tensor = self.classify(self.norm(tokens))
        return logits

    def _read(self, residuals: Tensor) -> Tensor:
        squares = residuals * residuals
        if self.shape.reads == "squares":
            return squares
        values = residuals.abs() if self.shape.reads == "sizes" else residuals
        return torch.cat((values, (1 + squares).log()), -1)


class WindowLayer(nn.Module):
    """Attention in windows, then a mix of each block's features. Every second layer shifts its windows.

    Args:
        width: features per block.
        ratio: width of the mix's hidden layer, in `width`s.
        at: number of the layer, from 0.
    """

    def __init__(self, width: int, ratio: float, at: int) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.before_attention = nn.LayerNorm(width)
        self.attention = _WindowAttention(width, WINDOW // 2 if at % 2 else 0)
        self.before_mix = nn.LayerNorm(width)
        self.mix = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.before_attention(tokens), present)
        mixed: Tensor = tokens + self.mix(self.before_mix(tokens))
        return mixed


class ConvolutionLayer(nn.Module):
    """A convolution over 5×5 blocks of each feature, then a mix of each block's features.

    Args:
        width: features per block.
        ratio: width of the mix's hidden layer, in `width`s.
        at: number of the layer; all are alike.
    """

    def __init__(self, width: int, ratio: float, at: int) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.around = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        inside = (tokens * present[..., None]).permute(0, 3, 1, 2)
        mixed: Tensor = tokens + self.mix(self.norm(self.around(inside).permute(0, 2, 3, 1)))
        return mixed


class _WindowAttention(nn.Module):
    index: Tensor

    def __init__(self, width: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.heads = width // HEAD_WIDTH
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, self.heads))
        self.register_buffer("index", _relative_positions(), persistent=False)

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        count, rows, cols, width = tokens.shape
        down, across = _windows(rows + self.shift), _windows(cols + self.shift)
        right, bottom = across * WINDOW - cols - self.shift, down * WINDOW - rows - self.shift
        pads = (0, 0, self.shift, right, self.shift, bottom)

        # Projection before padding saves the multiplications of padded blocks.
        projected = F.pad(self.project(tokens), pads)
        projected = projected.reshape(count, down, WINDOW, across, WINDOW, 3, self.heads, HEAD_WIDTH)
        query, key, value = projected.permute(5, 0, 1, 3, 6, 2, 4, 7).unbind()
        area = WINDOW * WINDOW
        per_window = (count, down * across, self.heads, area, HEAD_WIDTH)
        query, key, value = (part.reshape(per_window) for part in (query, key, value))

        mask = F.pad(present, pads[2:]).reshape(-1, down, WINDOW, across, WINDOW)
        mask = (1 - mask.permute(0, 1, 3, 2, 4).reshape(-1, down * across, 1, 1, area)) * _ABSENT
        bias = self.bias[self.index].reshape(area, area, self.heads).permute(2, 0, 1)
        scores = (query * HEAD_WIDTH**-0.5) @ key.transpose(-2, -1) + bias + mask
        seen = scores.softmax(-1) @ value

        seen = seen.reshape(count, down, across, self.heads, WINDOW, WINDOW, HEAD_WIDTH)
        seen = seen.permute(0, 1, 4, 2, 5, 3, 6).reshape(count, down * WINDOW, across * WINDOW, width)
        merged: Tensor = self.merge(seen[:, self.shift : self.shift + rows, self.shift : self.shift + cols])
        return merged


def _windows(side: int) -> int:
    return (side + WINDOW - 1) // WINDOW


def _relative_positions() -> Tensor:
    """Index into the table of biases for each pair of blocks of a window: `[window⁴]`."""
    cells = torch.stack(torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")).flatten(1)
    offsets = cells[:, :, None] - cells[:, None, :] + WINDOW - 1
    return (offsets[0] * (2 * WINDOW - 1) + offsets[1]).flatten()


def initialize(module: nn.Module) -> None:
    """Sets small random weights of linear layers and position biases; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, _WindowAttention):
        nn.init.trunc_normal_(module.bias, std=0.02)
