"""ResMixMatch: augmentation of residuals, and learning from unlabeled blocks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from weakrest_export.blocks import POSITIVE, find_regions
from weakrest_export.settings import Augmentation

_SHAKE_LIMIT = 0.223
"""Limit of the shake's logarithm: factors are between 0.8 and 1.25."""


def augment(residuals: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """A random copy f32 `[N, rows, cols, channels]` of residuals `[N, neighbors, rows, cols, channels]`."""
    count, neighbors, rows, cols, channels = residuals.shape
    device = residuals.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    weights = torch.tensor(how.neighbors[:neighbors], device=device, dtype=torch.float32)
    steps = (weights.cumsum(0) / weights.sum())[:-1]
    chosen = torch.bucketize(uniform(count, 1, rows, cols, 1), steps, right=True)
    copy = residuals.gather(1, chosen.expand(-1, -1, -1, -1, channels)).squeeze(1).float()
    if how.shake > 0:
        shaken = uniform(count, 1, 1, channels) < how.shaken * uniform(count, 1, 1, 1)
        noise = torch.randn(copy.shape, generator=generator, device=device).mul_(how.shake)
        copy = copy * noise.clamp_(-_SHAKE_LIMIT, _SHAKE_LIMIT).mul_(shaken).exp_()
    if how.dropout > 0:
        copy = copy * (uniform(count, rows, cols, 1) >= how.dropout * uniform(count, 1, 1, 1))
    return copy


@torch.no_grad()
def guess(
    logits_of: Callable[[Tensor], Tensor],
    copies: int,
    copy: Callable[[], Tensor],
    temperature: float,
) -> Tensor:
    """Sharpened mean probability of being defective, `[N, rows, cols]`, over augmented copies."""
    mean = torch.stack([logits_of(copy()).float().softmax(-1) for _ in range(copies)]).mean(0)
    return sharpen(mean[..., 1], temperature)


def sharpen(probability: Tensor, temperature: float) -> Tensor:
    """Pushes probabilities away from one half: more for a `temperature` closer to zero."""
    defective = probability ** (1 / temperature)
    return defective / (defective + (1 - probability) ** (1 / temperature))


def surely_defective(
    suspicion: npt.NDArray[np.float32], regions: npt.NDArray[np.int16], share: float
) -> npt.NDArray[np.bool_]:
    """Unknown blocks that must be defective: each box and each tag stands for a defect.

    This extends the papers' step "fix": the blocks count as labeled. Without it, the guesses of an untrained
    head would soon agree that everything is good.

    Args:
        suspicion: `[rows, cols]`, larger for blocks that are more likely defective.
        regions: `[rows, cols]`, see `blocks.find_regions`.
        share: smallest share of a box that its defect fills; at least one block.
    """
    surely = np.zeros(regions.shape, bool)
    for number in range(1, int(regions.max()) + 1):
        inside = np.flatnonzero(regions == number)
        rows, cols = np.unravel_index(inside, regions.shape)
        # At its border, a box covers half of a block on average.
        covered = len(inside) - np.ptp(rows) - np.ptp(cols) - 1
        order = np.argsort(-suspicion.flat[inside], kind="stable")
        surely.flat[inside[order[: max(1, int(share * covered))]]] = True
    return surely


def balanced(labels: npt.NDArray[np.int8], power: float) -> npt.NDArray[np.float32]:
    """Weights of blocks in the loss, `[rows, cols]`: small defects count beside large ones.

    Args:
        labels: `[rows, cols]`, block labels.
        power: each block of a defect of `n` < 64 positive blocks has the weight (64 / n)^power. All other
            blocks have the weight 1.
    """
    regions = find_regions(labels == POSITIVE)
    sizes = np.bincount(regions.ravel()).astype(np.float32)
    weights = np.maximum(64 / sizes.clip(1), 1) ** power
    weights[0] = 1
    chosen: npt.NDArray[np.float32] = weights[regions].astype(np.float32)
    return chosen


@dataclass(frozen=True)
class Mixed:
    """Tokens with soft labels. All tensors but the first are `[N, rows, cols]`.

    Attributes:
        residuals: `[N, rows, cols, channels]`.
        lengths: see `anchored.log_lengths`.
        targets: probability of being defective.
        labeled: tokens with the loss of labels.
        guessed: tokens with the loss of guesses.
    """

    residuals: Tensor
    lengths: Tensor
    targets: Tensor
    labeled: Tensor
    guessed: Tensor


def mix_up(batch: Mixed, alpha: float, unmixed: float, generator: torch.Generator) -> Mixed:
    """Mixes every token and its label with another token of the batch.

    Each token keeps the larger part λ = max(β, 1 - β), β ~ Beta(alpha, alpha), and its loss. A share of the
    pictures without guesses stays unmixed: the head must also see whole grids as it will judge them. Tokens
    without label or guess are not mixed.

    Args:
        batch: tokens to mix.
        alpha: of the beta distribution.
        unmixed: share of the pictures without guesses that stay unmixed.
        generator: of random numbers, on the batch's device.
    """
    device = batch.residuals.device
    count = len(batch.residuals)
    used = batch.labeled | batch.guessed
    whole = ~batch.guessed.flatten(1).any(1)
    kept = whole & (torch.rand(count, generator=generator, device=device) < unmixed)
    mixing = (used & ~kept[:, None, None]).flatten()

    sources = used.flatten().nonzero().squeeze(1)
    order = torch.randperm(len(sources), generator=generator, device=device)
    partner = torch.arange(used.numel(), device=device)
    partner[sources] = sources[order]
    share = torch.where(mixing, larger_share(used.numel(), alpha, generator), 1.0)

    tokens, targets = batch.residuals.flatten(0, 2), batch.targets.flatten()
    mixed = torch.lerp(tokens[partner], tokens, share[:, None])
    soft, lengths = (
        torch.lerp(flat[partner], flat, share).view_as(batch.targets)
        for flat in (targets, batch.lengths.flatten())
    )
    return Mixed(mixed.view_as(batch.residuals), lengths, soft, batch.labeled, batch.guessed)


def larger_share(count: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Draws `count` values of max(β, 1 - β), β ~ Beta(alpha, alpha)."""
    device = generator.device
    concentration = torch.full((count, 2), alpha, device=device)
    # PyTorch's distributions accept no generator. A Dirichlet distribution of two is a beta distribution.
    draws = torch._standard_gamma(concentration, generator=generator)
    beta = draws[:, 0] / draws.sum(1).clamp_min(1e-30)
    return torch.maximum(beta, 1 - beta)


def focal(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss per block for soft labels.

    Args:
        logits: `[..., 2]`.
        targets: `[...]`, probability of being defective.
        alpha: weight of the defective class; the good one's is `1 - alpha`.
        gamma: how much less correct blocks count; 0 is cross entropy.
    """
    log = F.log_softmax(logits.float(), -1)
    weight = (1 - log.exp()) ** gamma
    good, defective = (-weight * log).unbind(-1)
    return (1 - alpha) * (1 - targets) * good + alpha * targets * defective


def squared(logits: Tensor, targets: Tensor) -> Tensor:
    """Squared difference between probability and guess per block. It is bounded, against wrong guesses."""
    difference: Tensor = (logits.float().softmax(-1)[..., 1] - targets) ** 2
    return difference
