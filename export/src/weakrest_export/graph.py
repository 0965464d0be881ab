"""Feature maps of several strides on one grid, as a graph without shape arithmetic."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakrest_export import onnx_file
from weakrest_export.errors import Exit, ExportError
from weakrest_export.networks import Network

INPUT = "image"
OUTPUT = "features"

TOLERANCE = 1e-4
"""Largest accepted difference between graph and network, relative to the largest feature (or 1)."""


class FeatureGrid(nn.Module):
    """Local means of a network's maps, resized to one grid and concatenated.

    Each map is averaged over 3×3 cells (fewer at the border), resized to the grid and multiplied by the tap's
    scale, its weight in distances. A finer map is resized by the mean of the cells in a grid cell, a coarser
    map bilinearly between cell centers. Optionally, groups of the concatenated channels are averaged.

    Input `[N, 3, H, W]`, normalized RGB, H and W multiples of `multiple`.
    Output `[N, channels, H / grid, W / grid]`.

    Raises:
        ExportError: if the grid is not a power of two, the taps have fewer channels than `channels`, or there
            is not one positive scale per tap.
    """

    def __init__(
        self,
        network: Network,
        grid: int,
        channels: int | None = None,
        scales: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if grid < 1 or grid & (grid - 1):
            raise ExportError(f"grid {grid}: must be a power of two, such as 4, 8 or 16")
        taps = network.tapped.taps
        self.body = network.tapped.body
        self.factors = [_factor(tap.stride, grid) for tap in taps]
        self.scales = [1.0] * len(taps) if scales is None else [float(scale) for scale in scales]
        if len(self.scales) != len(taps) or not all(0 < scale < math.inf for scale in self.scales):
            raise ExportError(f"scales {self.scales}: give one positive number for each of {len(taps)} taps")
        self.multiple = max(grid, *(tap.stride for tap in taps))
        available = sum(tap.channels for tap in taps)
        self.channels = available if channels is None else channels
        if not 1 <= self.channels <= available:
            raise ExportError(f"channels {channels}: must be between 1 and the taps' {available}")
        self.pool: Tensor | None
        pool = None if channels is None else group_means(available, channels)[:, :, None, None]
        self.register_buffer("pool", pool)

    def forward(self, image: Tensor) -> Tensor:
        cells = [
            _scale(_resize(F.avg_pool2d(cells, 3, 1, 1, count_include_pad=False), factor), scale)
            for cells, factor, scale in zip(self.body(image), self.factors, self.scales, strict=True)
        ]
        features = torch.cat(cells, 1)
        return features if self.pool is None else F.conv2d(features, self.pool)


def _factor(stride: int, grid: int) -> float:
    factor = stride / grid
    if factor < 1 and grid % stride:
        raise ExportError(f"tap of stride {stride}: must divide the grid's stride {grid}")
    return factor


def _resize(cells: Tensor, factor: float) -> Tensor:
    if factor < 1:
        return F.avg_pool2d(cells, round(1 / factor))
    if factor > 1:
        return F.interpolate(cells, scale_factor=factor, mode="bilinear", align_corners=False)
    return cells


def _scale(cells: Tensor, scale: float) -> Tensor:
    # Multiplying by one would add a useless node.
    return cells if scale == 1 else cells * scale


def group_means(available: int, channels: int) -> Tensor:
    """Weights `[channels, available]` that average neighboring channels.

    Group `i` spans `floor(i · available / channels)` to `ceil((i + 1) · available / channels)`. Groups are
    equal if the numbers divide, and else overlap by one channel.
    """
    weights = torch.zeros(channels, available)
    for group in range(channels):
        first = group * available // channels
        end = -(-(group + 1) * available // channels)
        weights[group, first:end] = 1 / (end - first)
    return weights


def onnx_bytes(grid: FeatureGrid, name: str) -> bytes:
    """Exports to ONNX, see `onnx_file.onnx_bytes`. Batch, height and width are free.

    Args:
        grid: in evaluation mode.
        name: of the graph in the file.

    Raises:
        ExportError: if the network uses an operator that ONNX lacks.
    """
    return onnx_file.onnx_bytes(
        grid,
        [torch.zeros(1, 3, 2 * grid.multiple, 3 * grid.multiple)],
        name,
        [(INPUT, {0: "batch", 2: "height", 3: "width"})],
        (OUTPUT, {0: "batch", 2: "rows", 3: "columns"}),
    )


def check_parity(grid: FeatureGrid, model: bytes, shapes: Sequence[tuple[int, int, int]]) -> float:
    """Compares the exported graph with the network on noise.

    Args:
        grid: the network.
        model: the exported graph.
        shapes: batch, height and width of the images to compare on.

    Returns:
        The largest difference, relative to the largest feature (or 1).

    Raises:
        ExportError: if that exceeds `TOLERANCE`.
    """
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch, height, width in shapes:
        image = torch.randn(batch, 3, height, width, generator=generator)
        with torch.inference_mode():
            expected = grid(image).numpy()
        got = onnx_file.run(model, image.numpy())
        if got.shape != expected.shape:
            raise ExportError(
                f"the exported graph gives {got.shape} where the network gives {expected.shape}", Exit.FAULT
            )
        scale = max(1.0, float(np.abs(expected).max()))
        worst = max(worst, float(np.abs(got - expected).max()) / scale)
    if not worst <= TOLERANCE:
        raise ExportError(
            f"the exported graph differs from the network by {worst:.1e}: choose another network", Exit.FAULT
        )
    return worst
