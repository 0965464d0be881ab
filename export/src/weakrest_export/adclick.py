"""ADClick: a network from residuals, picture, clicks and prompt to a mask (arXiv 2407.03130)."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakrest_export import networks, options
from weakrest_export.head import LIMIT, WindowLayer, initialize
from weakrest_export.options import Range
from weakrest_export.settings import HEAD_WIDTH

STRIDE = 2
"""Side of a mask's cell, in pixels of the scaled picture."""

BLOCK = 8
"""The side of a residual's block, in pixels of the scaled picture, is a multiple of this."""

RADIUS = 5.0
"""Radius of a click's disk, in pixels of the scaled picture. It covers cells with their center inside."""

PROMPT = 384
"""Length of a prompt's vector; all zeros stand for no prompt."""

GUIDES = 3
"""Maps of guidance: disks of positive clicks, of negative ones, and the mask before, each 0 or 1."""

_HALF, _QUARTER = 24, 48


@dataclass(frozen=True)
class Shape:
    """How the network is built.

    Attributes:
        channels: values per block of the residuals.
        block: side of a residual's block, in pixels of the scaled picture.
        backbone: name of a network, see `networks.load`. Its maps of strides 2 and 4 see the picture.
        width: features per block.
        depth: attention layers.
        ratio: width of the hidden layer between two attention layers, in `width`s.

    Raises:
        ExportError: if a value is out of its range.
    """

    channels: Annotated[int, Range(least=1)]
    block: Annotated[int, Range(multiple=BLOCK)] = BLOCK
    backbone: str = "efficientnet-lite1"
    width: Annotated[int, Range(multiple=HEAD_WIDTH)] = 128
    depth: Annotated[int, Range(least=1)] = 3
    ratio: Annotated[float, Range(above=0)] = 2.0

    def __post_init__(self) -> None:
        options.check(self)


class AdClick(nn.Module):
    """One logit per cell of a grid of any size. Above 0 is defective.

    The features under the clicks are compared with all others, in the picture's finer maps and among the
    blocks. A click thus also affects places beyond the attention windows. The prompt scales and shifts the
    features before each attention layer.
    """

    def __init__(self, shape: Shape, weights: str = networks.PRETRAINED) -> None:
        super().__init__()
        self.shape = shape
        tapped = networks.load(shape.backbone, (2, 4), weights).tapped
        self.eye = tapped.body.requires_grad_(False)
        fine, coarse = (tap.channels for tap in tapped.taps)
        width = shape.width
        self.even_fine, self.even_coarse = nn.BatchNorm2d(fine), nn.BatchNorm2d(coarse)
        self.enter_half = _Convolution(fine + GUIDES, _HALF)
        self.enter_quarter = _Convolution(_HALF + coarse + 2, _QUARTER)
        self.enter_block = _Convolution(_QUARTER, width, step=2)
        self.embed = nn.Linear(3 * shape.channels, width)
        self.alike = nn.Linear(2, width)
        said, adapt = (
            nn.Linear(PROMPT, width, bias=False),
            nn.Linear(width, 2 * width * shape.depth, bias=False),
        )
        self.prompt = nn.Sequential(said, nn.GELU(), adapt)
        self.layers = nn.ModuleList(WindowLayer(width, shape.ratio, at) for at in range(shape.depth))
        self.norm = nn.LayerNorm(width)
        self.to_quarter = nn.Linear(width, (shape.block // 4) ** 2 * _QUARTER)
        self.at_quarter = _Convolution(_QUARTER, _QUARTER)
        self.to_half = nn.Conv2d(_QUARTER, 4 * _HALF, 1)
        self.at_half = _Convolution(_HALF, _HALF)
        self.classify = nn.Conv2d(_HALF, 1, 1)
        for part in (self.embed, self.alike, self.prompt, self.layers, self.to_quarter):
            part.apply(initialize)
        # Before training, a prompt changes nothing.
        nn.init.zeros_(adapt.weight)

    def train(self, mode: bool = True) -> "AdClick":
        """Sets the mode of all layers but the pretrained ones that see the picture."""
        super().train(mode)
        self.eye.eval()
        return self

    def forward(
        self,
        residuals: Tensor,
        picture: Tensor,
        guidance: Tensor,
        prompt: Tensor,
        present: Tensor | None = None,
    ) -> Tensor:
        """Logits `[N, down, across]`, one per cell: a block has `block / STRIDE` of them along each side.

        Args:
            residuals: `[N, rows, cols, channels]`, neighbor minus token, scaled.
            picture: `[N, 3, block · rows, block · cols]`, normalized as the backbone's input.
            guidance: `[N, 3, down, across]`, see `GUIDES`.
            prompt: `[N, 384]`, see `PROMPT`.
            present: `[N, rows, cols]`, 1 for a block and 0 for the padding of a smaller grid; None: blocks
                everywhere.
        """
        return self.segment(residuals, self.eye(picture), guidance, prompt, present)

    def segment(
        self,
        residuals: Tensor,
        seen: tuple[Tensor, Tensor],
        guidance: Tensor,
        prompt: Tensor,
        present: Tensor | None = None,
    ) -> Tensor:
        """Like `forward`, but with the output of `eye` instead of the picture. More clicks can reuse it."""
        if present is None:
            present = torch.ones_like(residuals[:1, :, :, 0])
        fine, coarse = self.even_fine(seen[0]), self.even_coarse(seen[1])
        clicks = guidance[:, :2]
        half = self.enter_half(torch.cat((fine, guidance), 1))
        alike = _alike(coarse, F.avg_pool2d(clicks, 2))
        quarter = self.enter_quarter(torch.cat((F.avg_pool2d(half, 2), coarse, alike), 1))

        blocks = residuals.clamp(-LIMIT, LIMIT)
        blocks = self.embed(torch.cat((blocks, blocks.abs(), (1 + blocks * blocks).log()), -1))
        alike = _alike(blocks.permute(0, 3, 1, 2), F.avg_pool2d(clicks, self.shape.block // STRIDE))
        seen_in_blocks = _mean(self.enter_block(quarter), self.shape.block // BLOCK)
        tokens = blocks + self.alike(alike.permute(0, 2, 3, 1)) + seen_in_blocks.permute(0, 2, 3, 1)
        words = self.prompt(prompt)[:, None, None].chunk(2 * self.shape.depth, -1)
        for at, layer in enumerate(self.layers):
            tokens = layer(tokens * (1 + words[2 * at]) + words[2 * at + 1], present)

        up = self.to_quarter(self.norm(tokens)).permute(0, 3, 1, 2)
        up = F.pixel_shuffle(up, self.shape.block // 4)
        up = self.at_quarter(up + quarter)
        up = self.at_half(F.pixel_shuffle(self.to_half(up), 2) + half)
        logits: Tensor = self.classify(up)[:, 0]
        return logits


class _Convolution(nn.Sequential):
    def __init__(self, before: int, after: int, step: int = 1) -> None:
        convolution = nn.Conv2d(before, after, 3, step, 1)
        nn.init.kaiming_normal_(convolution.weight)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
        super().__init__(convolution, nn.GELU())


def _mean(cells: Tensor, side: int) -> Tensor:
    # A mean of one would add a useless node.
    return cells if side == 1 else F.avg_pool2d(cells, side)


def _alike(features: Tensor, clicks: Tensor) -> Tensor:
    """Cosine of the angle to the mean feature under the clicks, `[N, 2, h, w]`; 0 without clicks.

    Args:
        features: `[N, channels, h, w]`.
        clicks: `[N, 2, h, w]`, share of each place under the clicks of a kind.
    """
    flat = features.flatten(2)
    sums = torch.einsum("nkp,ncp->nkc", clicks.flatten(2), flat)
    cosine = torch.einsum("nkc,ncp->nkp", _unit(sums, 2), _unit(flat, 1))
    return cosine.reshape(*cosine.shape[:2], *features.shape[2:])


def _unit(vectors: Tensor, dim: int) -> Tensor:
    return vectors / (vectors.square().sum(dim, keepdim=True) + 1e-6).sqrt()
