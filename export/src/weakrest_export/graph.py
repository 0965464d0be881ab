"""Feature maps of several strides on one grid, as a graph without shape arithmetic."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakrest_export import onnx_file
from weakrest_export.errors import Exit, ExportError
from weakrest_export.networks import Network
from weakrest_export.settings import BackbonePrecision

INPUT = "image"
OUTPUT = "features"

GRID = 8
"""Stride of a convolutional network's grid where none is chosen."""

TOLERANCES: dict[BackbonePrecision, float] = {"float32": 1e-4, "float16": 1e-2}
"""Largest accepted difference between graph and network, relative to the largest feature (or 1)."""


Scale = Mapping[int, float]
"""Strides (or blocks) of the taps that are compared together, each with its weight in distances."""


class FeatureGrid(nn.Module):
    """Local means of a network's maps, resized to one grid and concatenated scale by scale.

    Each map is averaged over 3×3 cells, with zeros beyond the border, resized to the grid and multiplied by
    the tap's weight in distances. A mean of the existing cells only would be noisier at the border, and the
    border would decide the scores of good pictures. Patch tokens of a transformer are not averaged: attention
    has shown each of them its surroundings. A finer map is resized by the mean of the cells in a grid cell, a
    coarser map bilinearly between cell centers. A scale has its taps by ascending stride or block;
    optionally, groups of its channels are averaged.

    Input `[N, 3, H, W]`, normalized RGB, H and W multiples of `multiple`.
    Output `[N, channels, H / grid, W / grid]`.

    Args:
        network: with all taps of the scales.
        grid: stride of the output, in pixels; None: `GRID`, or a transformer's patch.
        scales: None: one of all taps, with weights of 1.
        channels: scales of more channels are averaged down to this many.

    Raises:
        ExportError: if the grid does not fit a tap's stride, no scale has as many channels as `channels`, or
            a weight is not positive.
    """

    def __init__(
        self,
        network: Network,
        grid: int | None = None,
        scales: Sequence[Scale] | None = None,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        taps = network.tapped.taps
        if grid is None:
            grid = GRID if taps[0].block is None else taps[0].stride
        self.grid = grid
        self.body = network.tapped.body
        self.factors = [_factor(tap.stride, grid) for tap in taps]
        self.means = [tap.block is None for tap in taps]
        self.multiple = math.lcm(grid, *(tap.stride for tap in taps))
        index = {tap.number: at for at, tap in enumerate(taps)}
        given = [dict.fromkeys(index, 1.0)] if scales is None else scales
        self.scales = [[(index[number], float(scale[number])) for number in sorted(scale)] for scale in given]
        for scale in given:
            for weight in scale.values():
                if not 0 < weight < math.inf:
                    raise ExportError(f"weight {weight:g} of a tap: must be a positive number")
        self.taps = [[(taps[at], weight) for at, weight in scale] for scale in self.scales]
        available = [sum(tap.channels for tap, _ in scale) for scale in self.taps]
        if channels is not None and not 1 <= channels <= max(available):
            raise ExportError(f"channels {channels}: must be between 1 and the taps' {max(available)}")
        self.channels = [count if channels is None else min(count, channels) for count in available]
        self.pools = [f"pool{number}" for number in range(len(available))]
        for name, count, kept in zip(self.pools, available, self.channels, strict=True):
            means = None if kept == count else group_means(count, kept)[:, :, None, None]
            self.register_buffer(name, means)

    def forward(self, image: Tensor) -> Tensor:
        cells = [
            _resize(F.avg_pool2d(cells, 3, 1, 1) if mean else cells, factor)
            for cells, mean, factor in zip(self.body(image), self.means, self.factors, strict=True)
        ]
        joined = [_joined([_weighted(cells[at], weight) for at, weight in scale]) for scale in self.scales]
        pools: list[Tensor | None] = [getattr(self, name) for name in self.pools]
        pooled = zip(joined, pools, strict=True)
        return _joined([part if pool is None else F.conv2d(part, pool) for part, pool in pooled])


def _factor(stride: int, grid: int) -> float:
    if grid < 1 or (stride % grid and grid % stride):
        raise ExportError(
            f"grid {grid}: a tap has stride {stride}, and one of the two must be a multiple of the other"
        )
    return stride / grid


def _resize(cells: Tensor, factor: float) -> Tensor:
    if factor < 1:
        return F.avg_pool2d(cells, round(1 / factor))
    if factor > 1:
        return F.interpolate(cells, scale_factor=factor, mode="bilinear", align_corners=False)
    return cells


def _weighted(cells: Tensor, weight: float) -> Tensor:
    # Multiplying by one would add a useless node.
    return cells if weight == 1 else cells * weight


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), 1)


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


def check_parity(
    grid: FeatureGrid,
    model: bytes,
    shapes: Sequence[tuple[int, int, int]],
    precision: BackbonePrecision = "float32",
) -> float:
    """Compares the exported graph with the network on noise.

    Args:
        grid: the network.
        model: the exported graph.
        shapes: batch, height and width of the images to compare on.
        precision: of the graph's weights.

    Returns:
        The largest difference, relative to the largest feature (or 1).

    Raises:
        ExportError: if that exceeds its tolerance.
    """
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch, height, width in shapes:
        image = torch.randn(batch, 3, height, width, generator=generator)
        with torch.inference_mode():
            expected = grid(image).numpy()
        try:
            got = onnx_file.run(model, image.numpy())
        except Exception as error:
            # ONNX Runtime's errors have no class in common.
            reason = str(error).partition("\n")[0]
            raise ExportError(
                f"ONNX Runtime cannot run the exported graph: choose another network ({reason})", Exit.FAULT
            ) from error
        if got.shape != expected.shape:
            raise ExportError(
                f"the exported graph gives {got.shape} where the network gives {expected.shape}", Exit.FAULT
            )
        scale = max(1.0, float(np.abs(expected).max()))
        worst = max(worst, float(np.abs(got - expected).max()) / scale)
    if not worst <= TOLERANCES[precision]:
        raise ExportError(
            f"the exported graph differs from the network by {worst:.1e}: choose another network", Exit.FAULT
        )
    return worst
