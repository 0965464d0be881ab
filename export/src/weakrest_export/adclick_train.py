"""Trains ADClick on masks, with simulated clicks."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from weakrest_export.adclick import GUIDES, PROMPT, STRIDE, AdClick, Shape
from weakrest_export.blocks import UNKNOWN, Cells, block_share, from_boxes
from weakrest_export.clicks import Click, disks, next_click
from weakrest_export.devices import multiplies_in_bfloat16
from weakrest_export.errors import Exit, ExportError
from weakrest_export.optimizer import Optimizer
from weakrest_export.residuals import Residuals, check_alike
from weakrest_export.resmixmatch import augment
from weakrest_export.samples import KINDS, Kind
from weakrest_export.settings import ClickSettings
from weakrest_export.shapes import Bits


@dataclass(frozen=True)
class Sample:
    """One picture with its mask.

    Attributes:
        residuals: folder with the picture's residuals and pixels.
        index: within `residuals.pictures`.
        share: f32 `[down, across]`, defective share of each cell, 0 to 1; NaN where unknown, and beyond the
            picture. A block has `stride / STRIDE` cells along each side.
        kind: of the picture.
        prompts: `[n, 384]`, vectors of phrases for the defect; n may be 0.
        type: of the defect, if known. Several types are joined by `+`.
    """

    residuals: Residuals
    index: int
    share: npt.NDArray[np.float32]
    kind: Kind
    prompts: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, PROMPT), np.float32))
    type: str | None = None

    @property
    def image(self) -> str:
        return self.residuals.pictures[self.index].image


def of_product(samples: Sequence[Sample], words: npt.NDArray[np.float32] | None) -> list[Sample]:
    """Samples for ADClick-Seg, with prompts for the product instead of the defect.

    Args:
        samples: of one product.
        words: `[n, 384]`, vectors of phrases for the product; None: no prompts.
    """
    prompts = np.zeros((0, PROMPT), np.float32) if words is None else words
    return [replace(sample, prompts=prompts, type=None) for sample in samples]


def share_of(
    mask: Bits | None,
    picture: Mapping[str, Any],
    stride: int,
    boxes: Sequence[npt.ArrayLike] = (),
) -> npt.NDArray[np.float32]:
    """Makes `Sample.share`.

    Args:
        mask: `[height, width]` of the picture; None: a good picture.
        picture: entry in the index of residuals.
        stride: of the residuals.
        boxes: polygons `[n, 2]` around other defects. Inside, the share is unknown.

    Raises:
        ExportError: if the mask has another size than the picture.
    """
    cells = Cells.of(picture, stride)
    width, height = cells.content
    fine = Cells(-(-height // STRIDE), -(-width // STRIDE), STRIDE, cells.content, cells.frame)
    whole = np.full((cells.rows * stride // STRIDE, cells.cols * stride // STRIDE), np.nan, np.float32)
    inside = whole[: fine.rows, : fine.cols]
    inside[:] = 0 if mask is None else block_share(mask, fine)
    inside[(from_boxes(boxes, fine) == UNKNOWN) & (inside == 0)] = np.nan
    return whole


@dataclass(frozen=True)
class _Batch:
    residuals: Tensor
    seen: tuple[Tensor, Tensor]
    share: Tensor
    prompt: Tensor
    present: Tensor
    touched: npt.NDArray[np.bool_]


def train(
    samples: Sequence[Sample],
    settings: ClickSettings,
    report: Callable[[Mapping[str, Any]], None] = lambda entry: None,
) -> AdClick:
    """Trains a network.

    The same samples, settings, seed and number of threads give the same network.

    Args:
        samples: of any number of residuals folders with the same backbone.
        settings: see `ClickSettings`.
        report: called with an entry of the log every ten steps.

    Returns:
        In evaluation mode.

    Raises:
        ExportError: if there is nothing to learn, backbones differ, or the loss is no longer a number.
    """
    check_alike(sample.residuals for sample in samples)
    if not any((sample.share > 0.5).any() for sample in samples):
        raise ExportError("no pixel is labeled defective: add synthetic defects, or pictures with masks")
    torch.manual_seed(settings.seed)
    residuals = samples[0].residuals
    shape = Shape(residuals.channels, residuals.stride, width=settings.width, depth=settings.depth)
    network = AdClick(shape).train()
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = Optimizer(network, average, settings)
    by_kind = {kind: [s for s in samples if s.kind == kind] for kind in KINDS}
    named = [sample for sample in samples if sample.type is not None and len(sample.prompts)]
    odds = np.array([w if by_kind[k] else 0 for k, w in zip(KINDS, settings.composition, strict=True)])
    started, losses = time.monotonic(), []
    for step in range(settings.steps):
        rng = np.random.default_rng([settings.seed, step])
        kinds = rng.choice(len(KINDS), settings.batch, p=odds / odds.sum())
        chosen = [by_kind[KINDS[kind]] for kind in kinds]
        batch = _batch(
            [group[int(rng.integers(len(group)))] for group in chosen], named, settings, rng, network
        )
        guidance = _guidance(average if step > settings.steps // 4 else network, batch, settings, rng)
        network.train()
        with _autocast():
            logits = network.segment(batch.residuals, batch.seen, guidance, batch.prompt, batch.present)
        loss = normalized_focal(logits.float(), batch.share, settings.gamma)
        if not math.isfinite(loss.item()):
            raise ExportError(f"step {step}: the loss is no longer a number: lower the rate", Exit.FAULT)
        optimizer.step(loss, step)
        losses.append(loss.item())
        if (step + 1) % 10 == 0 or step + 1 == settings.steps:
            seconds = round(time.monotonic() - started, 1)
            report(
                {"step": step + 1, "of": settings.steps, "loss": float(np.mean(losses)), "seconds": seconds}
            )
            losses = []
    return average


def normalized_focal(logits: Tensor, share: Tensor, gamma: float) -> Tensor:
    """Focal loss with weights that sum to one in each picture: learning does not fade with the errors.

    Args:
        logits: `[N, h, w]`.
        share: `[N, h, w]`, the truth, 0 to 1; NaN where unknown.
        gamma: how much more large errors count than small ones.
    """
    known = ~share.isnan()
    target = share.nan_to_num()
    with torch.no_grad():
        weights = (logits.sigmoid() - target).abs() ** gamma * known
        weights = weights / weights.sum((1, 2), keepdim=True).clamp_min(1e-6)
    return (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weights).sum((1, 2)).mean()


def _guidance(network: AdClick, batch: _Batch, settings: ClickSettings, rng: np.random.Generator) -> Tensor:
    """Simulated clicks on the network's masks, and the last mask."""
    truth, known = (batch.share > 0.5).numpy(), (~batch.share.isnan()).numpy()
    count = len(truth)
    touched = batch.touched
    rounds = int(rng.integers(1 + settings.rounds)) if touched.any() else 0
    clicks: list[list[Click]] = [[] for _ in range(count)]
    guidance = torch.zeros(count, GUIDES, *truth.shape[1:])
    for at in range(1 + rounds):
        mask = guidance[:, 2].numpy() > 0.5
        for i in np.flatnonzero(touched):
            # The first click is on the picture, not on a suggested mask.
            click = next_click(truth[i], mask[i], known[i], rng)
            if click is not None:
                clicks[i].append(click)
                guidance[i, :2] = torch.from_numpy(disks(clicks[i], truth.shape[1:]))
        if at < rounds:
            network.eval()
            with torch.no_grad(), _autocast():
                logits = network.segment(batch.residuals, batch.seen, guidance, batch.prompt, batch.present)
            guidance[:, 2] = (logits > 0) & torch.from_numpy(touched)[:, None, None]
    return guidance


def _batch(
    samples: Sequence[Sample],
    named: Sequence[Sample],
    settings: ClickSettings,
    rng: np.random.Generator,
    network: AdClick,
) -> _Batch:
    side = settings.crop
    touched = rng.random(len(samples)) >= settings.untouched
    made = []
    for sample, clicked in zip(samples, touched, strict=True):
        residuals = sample.residuals.read(sample.index)
        picture = sample.residuals.read_picture(sample.index).float()
        share = torch.from_numpy(sample.share)
        rows, cols = residuals.shape[1:3]
        block, cells = sample.residuals.stride, sample.residuals.stride // STRIDE
        top, left = _corner(sample.share, (rows, cols), side, cells, rng)
        residuals = residuals[:, top : top + side, left : left + side]
        rows, cols = residuals.shape[1:3]
        picture = picture[:, block * top :, block * left :][:, : block * rows, : block * cols]
        share = share[cells * top :, cells * left :][: cells * rows, : cells * cols]
        present = torch.ones(rows, cols)
        down, right = side - rows, side - cols
        residuals = F.pad(residuals, (0, 0, 0, right, 0, down))
        picture = F.pad(picture, (0, block * right, 0, block * down))
        share = F.pad(share, (0, cells * right, 0, cells * down), value=math.nan)
        present = F.pad(present, (0, right, 0, down))
        # One of the eight orientations of a part.
        if rng.random() < 0.5:
            residuals, picture = residuals.transpose(1, 2), picture.transpose(1, 2)
            share, present = share.T, present.T
        flips = [axis for axis in (0, 1) if rng.random() < 0.5]
        prompt = torch.zeros(PROMPT)
        if len(sample.prompts) and rng.random() >= settings.silent:
            said = sample
            if not clicked and sample.type is not None and rng.random() < settings.contrary:
                other = named[int(rng.integers(len(named)))]
                if not set(sample.type.split("+")) & set((other.type or "").split("+")):
                    said, share = other, torch.where(share.isnan(), share, 0.0)
            prompt = torch.from_numpy(said.prompts[int(rng.integers(len(said.prompts)))])
        made.append(
            (
                residuals.flip([1 + axis for axis in flips]),
                picture.flip([1 + axis for axis in flips]),
                share.flip(flips),
                prompt,
                present.flip(flips),
            )
        )
    residuals, picture, share, prompt, present = (torch.stack(part) for part in zip(*made, strict=True))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    residuals = augment(residuals, settings.augmentation, generator)
    with torch.no_grad(), _autocast():
        seen = network.eye(picture)
    return _Batch(residuals, seen, share, prompt, present, touched)


def _corner(
    share: npt.NDArray[np.float32], grid: tuple[int, int], side: int, cells: int, rng: np.random.Generator
) -> tuple[int, int]:
    """First row and column of blocks of a crop. The crop has a defective cell, if there is one.

    Args:
        share: of each cell.
        grid: rows and columns of blocks.
        side: of the crop, in blocks.
        cells: per block and side.
        rng: for the place.
    """
    places = np.argwhere(share > 0.5) // cells
    center = places[int(rng.integers(len(places)))] if len(places) else None
    corner = []
    for axis, length in enumerate(grid):
        last = max(0, length - side)
        start = int(rng.integers(last + 1)) if center is None else int(center[axis] - rng.integers(side))
        corner.append(min(max(start, 0), last))
    return corner[0], corner[1]


def _autocast() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=multiplies_in_bfloat16(torch.device("cpu")))
