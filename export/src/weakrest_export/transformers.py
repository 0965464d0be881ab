"""Patch tokens of a vision transformer's blocks, as feature maps.

Class and register tokens take part in the attention and are in no map. The network's last normalization is
applied to every map, as DINOv2's own `get_intermediate_layers` does.
"""

import math
from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from weakrest_export.errors import ExportError

MODULES = ("timm.models.eva", "timm.models.vision_transformer")
"""Modules of timm whose networks give patch tokens."""


def is_transformer(entry: str) -> bool:
    """Whether timm's network is a vision transformer. `entry` is its name, with or without a tag."""
    return timm.models.model_entrypoint(entry).__module__ in MODULES


class Tokens(nn.Module):
    """Maps of patch tokens after chosen blocks.

    Maps an image `[N, 3, H, W]`, with H and W multiples of the patch, to one `[N, channels, H / patch, W /
    patch]` per block.

    Args:
        network: of timm, made with `dynamic_img_size`; it is changed.
        blocks: numbers from 1, ascending.

    Raises:
        ExportError: if the network's positions cannot be exported.
    """

    def __init__(self, network: Any, blocks: Sequence[int]) -> None:
        super().__init__()
        _place(network)
        for layer in network.modules():
            # The fused operator's export computes its factor while the graph runs.
            if hasattr(layer, "fused_attn"):
                layer.fused_attn = False
        self.network = network
        self.indices = [block - 1 for block in blocks]

    def forward(self, image: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.network.forward_intermediates(
            image, self.indices, norm=True, stop_early=True, intermediates_only=True
        )
        return maps


def check_blocks(name: str, blocks: Sequence[int], depth: int) -> None:
    """Raises ExportError unless a network of so many blocks has all of these."""
    missing = [str(block) for block in blocks if not 1 <= block <= depth]
    if missing:
        raise ExportError(f"{name} has no block {', '.join(missing)}: it has blocks 1 to {depth}")


def show_every_block(network: nn.Module) -> None:
    """Gives each block of an untrained network a say; else its factors hide what a block computes."""
    for path, factor in network.named_parameters():
        if path.rpartition(".")[2] in ("gamma", "gamma_1", "gamma_2"):
            nn.init.ones_(factor)


class _Placed(nn.Module):
    """Patches with their learned positions, on a grid of any size: `[N, rows, columns, channels]`."""

    def __init__(self, patches: Any, positions: Tensor) -> None:
        super().__init__()
        self.patches = patches
        self.register_buffer("positions", positions)

    def forward(self, image: Tensor) -> Tensor:
        cells: Tensor = self.patches(image)
        positions = self.get_buffer("positions")
        return cells + resized(positions, cells.shape[1], cells.shape[2]).permute(1, 2, 0)

    def dynamic_feat_size(self, size: tuple[int, int]) -> Any:
        return self.patches.dynamic_feat_size(size)


class _Turned(nn.Module):
    """DINOv3's rotations by position. timm's own would keep the grid of the exporter's example.

    Args:
        rope: timm's.
    """

    def __init__(self, rope: Any) -> None:
        super().__init__()
        self.register_buffer("periods", rope.periods)

    def get_embed(self, shape: tuple[int, int]) -> Tensor:
        """Sines and cosines, `[rows × columns, 2 × features of a head]`."""
        rows, columns = (2 * (torch.arange(count) + 0.5) / count - 1 for count in shape)
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2, 1)
        angles = (2 * math.pi * places / self.get_buffer("periods")).flatten(1)
        sines, cosines = angles.sin(), angles.cos()
        return torch.cat([sines, sines, cosines, cosines], -1)


def _place(network: Any) -> None:
    """Moves a network's learned positions to its patches, and those of its other tokens into these."""
    rope = getattr(network, "rope", None)
    # By its name: older versions of timm lack the class.
    dinov3 = type(rope).__name__ == "RotaryEmbeddingDinoV3"
    if rope is not None and dinov3 and rope.rotate_half and rope.normalize_coords == "separate":
        network.rope = _Turned(rope)
    elif rope is not None:
        raise ExportError(
            f"positions of the kind {type(rope).__name__} are not supported: choose another network"
        )
    if network.pos_embed is None:
        return
    positions = network.pos_embed.detach()
    if not network.no_embed_class:
        for token in (network.cls_token, network.reg_token):
            if token is not None:
                token.data += positions[:, : token.shape[1]]
                positions = positions[:, token.shape[1] :]
    rows, columns = network.patch_embed.grid_size
    grid = positions[0].T.reshape(-1, rows, columns).contiguous()
    network.patch_embed = _Placed(network.patch_embed, grid)
    network.pos_embed = None


def resized(values: Tensor, rows: int, columns: int) -> Tensor:
    """Values `[channels, known rows, known columns]` on another grid, `[channels, rows, columns]`.

    It gives what PyTorch's bicubic interpolation with antialiasing gives, which ONNX cannot express before
    operator set 18. All that depends on the grid's size can be computed before the graph runs.
    """
    _, known_rows, known_columns = values.shape
    return _shares(rows, known_rows) @ values @ _shares(columns, known_columns).T


def _shares(count: int, known: int) -> Tensor:
    """Share of each known cell in each of `count` cells along a side, `[count, known]`."""
    # While the exporter watches, sizes are tensors.
    scale = torch.as_tensor(known / count)
    center = (torch.arange(count, dtype=torch.float32) + 0.5) * scale
    known_center = torch.arange(known, dtype=torch.float32) + 0.5
    shares = _bicubic((known_center[None] - center[:, None]) / scale.clamp(min=1))
    return shares / shares.sum(1, keepdim=True)


def _bicubic(distance: Tensor) -> Tensor:
    """Weight at a distance in cells: Keys' kernel with a = -0.5."""
    d = distance.abs()
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((2.5 - 0.5 * d) * d - 4) * d + 2
    return torch.where(d < 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
