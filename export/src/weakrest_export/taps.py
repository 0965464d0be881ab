"""Feature maps ("taps") of a network, found and named by their stride; a vision transformer's by their block.

The stride is the input's side divided by the map's side. If a network has several maps of one stride, the tap
is the last: the output of the last block before the next downsampling. All blocks of a vision transformer
have the patch as their stride.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from weakrest_export.errors import ExportError
from weakrest_export.padding import make_static
from weakrest_export.transformers import Tokens, check_blocks, show_every_block
from weakrest_export.weights_file import fitting

SEED = 0
"""Of random weights: tests must repeat."""


@dataclass(frozen=True)
class Tap:
    """One feature map.

    Attributes:
        stride: in pixels.
        channels: number of them.
        block: number of a vision transformer's block, from 1; None in other networks.
    """

    stride: int
    channels: int
    block: int | None = None

    @property
    def number(self) -> int:
        """What names the tap: its block, or its stride."""
        return self.stride if self.block is None else self.block


@dataclass(frozen=True)
class Tapped:
    """A network in evaluation mode, cut after its deepest tap.

    Attributes:
        taps: ascending strides or blocks.
        body: maps an image `[N, 3, H, W]`, with H and W multiples of the largest stride, to one
            `[N, channels, H / stride, W / stride]` per tap, in their order.
    """

    taps: tuple[Tap, ...]
    body: nn.Module


def tapped_timm(
    name: str, entry: str, strides: Sequence[int], pretrained: bool, file: Path | None = None
) -> Tapped:
    """Taps of a convolutional network of timm.

    Args:
        name: of the network, for messages.
        entry: timm's name, with or without a tag.
        strides: ascending.
        pretrained: load timm's weights, by download if necessary.
        file: of the weights, instead of a download.

    Raises:
        ExportError: if timm refuses, the network lacks a stride or cannot have constant padding, or the file
            does not fit.
        OSError: if the weights cannot be downloaded.
    """
    try:
        whole: Any = timm.create_model(entry, features_only=True)
        offered: list[dict[str, Any]] = whole.feature_info.info
        last = {tap["reduction"]: index for index, tap in enumerate(offered)}
        _check_strides(name, strides, last)
        indices = [last[stride] for stride in strides]
        torch.manual_seed(SEED)
        body: Any = _created(name, entry, pretrained, file, features_only=True, out_indices=indices)
    except (RuntimeError, AttributeError) as error:
        # timm has no error class. Its messages name the cause (tag, no feature maps).
        raise ExportError(f"{name}: {error}") from error
    deepest = offered[indices[-1]]
    if "stage" in deepest and hasattr(body, "blocks"):
        # timm's MobileNet and EfficientNet extractors keep the stages beyond the last tap.
        body.blocks = body.blocks[: deepest["stage"]]
    try:
        make_static(body.eval())
    except ExportError as error:
        raise ExportError(f"{name}: {error}") from error
    taps = tuple(Tap(offered[index]["reduction"], offered[index]["num_chs"]) for index in indices)
    return _checked(name, Tapped(taps, body))


def tapped_transformer(
    name: str, entry: str, blocks: Sequence[int] | None, pretrained: bool, file: Path | None = None
) -> Tapped:
    """Patch tokens of a vision transformer of timm.

    Args:
        name: see `tapped_timm`.
        entry: see `tapped_timm`.
        blocks: ascending; None: the last.
        pretrained: see `tapped_timm`.
        file: see `tapped_timm`.

    Raises:
        ExportError: if timm refuses, the network lacks a block, or the file does not fit.
        OSError: if the weights cannot be downloaded.
    """
    options: dict[str, Any] = {"num_classes": 0, "dynamic_img_size": True}
    torch.manual_seed(SEED)
    try:
        whole: Any = timm.create_model(entry, **options)
        chosen = [len(whole.blocks)] if blocks is None else blocks
        # Before a download.
        check_blocks(name, chosen, len(whole.blocks))
        if pretrained or file is not None:
            whole = _created(name, entry, pretrained, file, **options)
        else:
            show_every_block(whole)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ExportError(f"{name}: {error}") from error
    high, wide = whole.patch_embed.patch_size
    if high != wide:
        raise ExportError(f"{name} has patches of {wide}×{high} pixels: choose a network with square ones")
    taps = tuple(Tap(high, whole.embed_dim, block) for block in chosen)
    try:
        body = Tokens(whole, chosen).eval()
    except ExportError as error:
        raise ExportError(f"{name}: {error}") from error
    return _checked(name, Tapped(taps, body))


def _created(name: str, entry: str, pretrained: bool, file: Path | None, **options: Any) -> nn.Module:
    """A network of timm with its weights."""
    if file is None:
        made: nn.Module = timm.create_model(entry, pretrained, **options)
        return made
    whole: Any = timm.create_model(entry, num_classes=0)
    classifier = whole.pretrained_cfg.get("classifier") or ()
    stored = fitting(file, name, whole, (classifier,) if isinstance(classifier, str) else classifier)
    overlay = {"state_dict": stored}
    made = timm.create_model(entry, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    return made


def tapped_chain(name: str, network: nn.Module, strides: Sequence[int]) -> Tapped:
    """Taps of a chain of blocks, such as torchvision's classifiers.

    Blocks are the children of the network and of its sequential containers. Maps inside a block (a
    bottleneck's narrow maps, an expansion's wide maps) are not available.

    Args:
        name: of the network, for messages.
        network: in evaluation mode.
        strides: ascending.

    Raises:
        ExportError: if the network lacks a stride.
    """
    with _free_sides(name):
        found = _block_outputs(network)
    _check_strides(name, strides, found)
    taps, paths = zip(*(found[stride] for stride in strides), strict=True)
    maps = create_feature_extractor(network, return_nodes={path: path for path in paths}).eval()
    return _checked(name, Tapped(taps, _Listed(maps, paths).eval()))


class _Listed(nn.Module):
    """Turns a dictionary of maps into a list."""

    def __init__(self, maps: nn.Module, keys: Sequence[str]) -> None:
        super().__init__()
        self.maps = maps
        self.keys = list(keys)

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = self.maps(image)
        return [maps[key] for key in self.keys]


def _block_outputs(network: nn.Module) -> dict[int, tuple[Tap, str]]:
    """By stride: the last block with such a map, and its path in the network."""
    # A non-square image distinguishes [N, C, H, W] from [N, H, W, C].
    image = torch.zeros(1, 3, 256, 384)
    found: dict[int, tuple[Tap, str]] = {}

    def recorder(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def record(block: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.ndim != 4:
                return
            _, channels, rows, columns = output.shape
            stride = image.shape[2] // rows
            if (rows * stride, columns * stride) == tuple(image.shape[2:]):
                found[stride] = (Tap(stride, channels), path)

        return record

    hooks = [block.register_forward_hook(recorder(path)) for path, block in _blocks(network)]
    with torch.inference_mode():
        network(image)
    for hook in hooks:
        hook.remove()
    return found


def _blocks(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in network.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.Sequential):
            yield from _blocks(child, f"{path}.")
        else:
            yield path, child


@contextmanager
def _free_sides(name: str) -> Iterator[None]:
    """Turns a network's refusal of an image size into an ExportError."""
    try:
        yield
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ExportError(
            f"{name} does not accept images of any size: choose a convolutional network ({error})"
        ) from error


def _check_strides(name: str, wanted: Sequence[int], present: Collection[int]) -> None:
    missing = [str(stride) for stride in wanted if stride not in present]
    if missing:
        has = ", ".join(str(stride) for stride in sorted(present)) or "none"
        raise ExportError(f"{name} has no tap of stride {', '.join(missing)}: it has {has}")


def _checked(name: str, tapped: Tapped) -> Tapped:
    rows, columns = 2 * tapped.taps[-1].stride, 3 * tapped.taps[-1].stride
    with _free_sides(name), torch.inference_mode():
        maps = tapped.body(torch.zeros(1, 3, rows, columns))
    for tap, cells in zip(tapped.taps, maps, strict=True):
        expected = (1, tap.channels, rows // tap.stride, columns // tap.stride)
        if tuple(cells.shape) != expected:
            raise ExportError(
                f"{name}: the map of stride {tap.stride} has shape {list(cells.shape)} where "
                f"{list(expected)} was expected: choose a convolutional network"
            )
    return tapped
