"""ResMixMatch, step by step."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from weakrest_export.blocks import IGNORED, POSITIVE, UNKNOWN
from weakrest_export.resmixmatch import (
    Mixed,
    augment,
    balanced,
    focal,
    guess,
    larger_share,
    mix_up,
    sharpen,
    squared,
    surely_defective,
)
from weakrest_export.settings import Augmentation

PLAIN = Augmentation(shake=0, dropout=0)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_neighbors_are_drawn_five_three_two() -> None:
    residuals = torch.arange(3.0).half().reshape(1, 3, 1, 1, 1).expand(2, 3, 100, 100, 4)
    copy = augment(residuals, PLAIN, generator())
    shares = copy[..., 0].flatten().long().bincount() / 20_000
    assert shares.tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.02)
    assert (copy == copy[..., :1]).all(), "a token has one neighbor, not one per channel"
    assert augment(residuals[:, :2], PLAIN, generator()).max() == 1


def test_the_shake_stays_within_a_fifth_and_spares_channels() -> None:
    ones = torch.ones(4, 3, 16, 16, 40).half()
    copy = augment(ones, replace(PLAIN, shake=0.5), generator())
    assert copy.min() >= 0.799
    assert copy.max() <= 1.25
    spared = (copy == 1).all(1).all(1)
    assert spared.any()
    assert not spared.all()


def test_dropped_tokens_are_zero_in_all_channels() -> None:
    copy = augment(torch.ones(4, 3, 32, 32, 5).half(), replace(PLAIN, dropout=0.4), generator())
    dropped = (copy == 0).all(-1)
    assert ((copy == 0).any(-1) == dropped).all()
    assert 0.05 < dropped.float().mean() < 0.4


def test_guesses_are_sharpened_means_over_different_copies() -> None:
    copies = iter([torch.full((1, 2, 2, 1), value) for value in (0.0, 2.0)])

    def logits_of(copy: Tensor) -> Tensor:
        return torch.cat((torch.zeros_like(copy), copy), -1)

    mean = (0.5 + 1 / (1 + math.exp(-2))) / 2
    guessed = guess(logits_of, 2, lambda: next(copies), temperature=0.5)
    assert guessed[0, 0, 0].item() == pytest.approx(mean**2 / (mean**2 + (1 - mean) ** 2))


def test_sharpening_keeps_one_half_and_the_order() -> None:
    values = torch.tensor([0.0, 0.2, 0.5, 0.8, 1.0])
    assert sharpen(values, 0.5).tolist() == pytest.approx([0, 1 / 17, 0.5, 16 / 17, 1])
    assert torch.allclose(sharpen(values, 1.0), values)


def test_a_share_of_every_region_is_surely_defective() -> None:
    regions = np.array([[1, 1, 1, 0, 2], [1, 1, 1, 0, 2], [1, 1, 1, 0, 0], [1, 0, 0, 3, 0]], np.int16)
    suspicion = np.arange(20, dtype=np.float32).reshape(4, 5)
    wanted = np.zeros((4, 5), bool)
    # Of ten blocks four are covered, of which three are filled; one of those that are too narrow.
    wanted[3, 0] = wanted[2, 2] = wanted[2, 1] = wanted[1, 4] = wanted[3, 3] = True
    assert np.array_equal(surely_defective(suspicion, regions, 0.75), wanted)
    assert surely_defective(suspicion, regions, 0.0).sum() == 3
    assert not surely_defective(suspicion, np.zeros((4, 5), np.int16), 0.3).any()


def test_small_defects_count_more() -> None:
    labels = np.zeros((20, 20), np.int8)
    labels[0, 0] = labels[0, 19] = POSITIVE
    labels[5, 5:9] = POSITIVE
    labels[10:20, 0:20] = POSITIVE
    labels[19, 19] = IGNORED
    weights = balanced(labels, 0.5)
    assert weights[0, 0] == weights[0, 19] == pytest.approx(8)
    assert weights[5, 5] == pytest.approx(4)
    assert weights[15, 15] == weights[2, 2] == weights[19, 19] == 1
    assert (balanced(labels, 0.0) == 1).all()
    assert (balanced(np.zeros((3, 3), np.int8), 0.5) == 1).all()


def batch(labels: Tensor) -> Mixed:
    """A batch whose residuals say which token they were."""
    numbers = torch.arange(labels.numel(), dtype=torch.float32).reshape(labels.shape)
    residuals = numbers[..., None].expand(*labels.shape, 3).clone()
    return Mixed(residuals, numbers, (numbers % 2), labels >= 0, labels == UNKNOWN)


def test_mixing_takes_residuals_and_labels_of_the_same_tokens() -> None:
    before = batch(torch.zeros(2, 16, 16))
    # Residuals that are their labels must still be after mixing.
    before = replace(before, residuals=before.targets[..., None].expand(-1, -1, -1, 3).clone())
    after = mix_up(before, 0.75, 0.0, generator())
    assert torch.allclose(after.residuals[..., 0], after.targets, atol=1e-6)
    assert (after.targets != before.targets).float().mean() > 0.3
    assert ((after.targets - before.targets).abs() <= 0.5).all(), "each token keeps the larger part"


def test_mixing_leaves_out_blocks_that_nobody_labeled() -> None:
    labels = torch.zeros(2, 8, 8)
    labels[0, :4] = IGNORED
    before = batch(labels)
    before.residuals[0, :4] = 1e6
    after = mix_up(before, 0.75, 0.0, generator())
    assert torch.equal(after.residuals[0, :4], before.residuals[0, :4])
    assert after.residuals[0, 4:].max() < 1e3
    assert after.residuals[1].max() < 1e3


def test_a_share_of_labeled_pictures_stays_unmixed() -> None:
    labels = torch.zeros(40, 4, 4)
    labels[::2, 0, 0] = UNKNOWN
    before = batch(labels)
    after = mix_up(before, 0.75, 0.5, generator())
    same = (after.residuals == before.residuals).flatten(1).all(1)
    assert not same[::2].any(), "pictures with guesses are always mixed"
    assert 4 <= same[1::2].sum() <= 16
    assert torch.equal(after.labeled, before.labeled)
    assert torch.equal(after.guessed, before.guessed)


def test_larger_shares_are_the_larger_ones() -> None:
    shares = larger_share(20_000, 0.75, generator())
    assert shares.min() >= 0.5
    assert shares.max() <= 1
    # The mean of max(β, 1 - β) for Beta(1, 1).
    assert larger_share(20_000, 1.0, generator()).mean().item() == pytest.approx(0.75, abs=0.01)
    assert torch.equal(shares, larger_share(20_000, 0.75, generator()))


def test_focal_loss_is_weighted_cross_entropy_without_focus() -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    targets = torch.tensor([1.0, 0.25])
    log = logits.log_softmax(-1)
    wanted = [-0.3 * log[0, 1].item(), -(0.7 * 0.75 * log[1, 0] + 0.3 * 0.25 * log[1, 1]).item()]
    assert focal(logits, targets, 0.3, 0).tolist() == pytest.approx(wanted)


def test_focal_loss_forgets_blocks_that_are_right() -> None:
    logits = torch.tensor([[-3.0, 3.0], [0.0, 0.0]])
    targets = torch.ones(2)
    plain, focused = focal(logits, targets, 0.5, 0), focal(logits, targets, 0.5, 2)
    assert (focused / plain)[0] < 1e-4
    assert (focused / plain)[1].item() == pytest.approx(0.25)


def test_squared_loss_is_bounded() -> None:
    logits = torch.tensor([[100.0, -100.0], [0.0, 0.0]])
    assert squared(logits, torch.ones(2)).tolist() == pytest.approx([1, 0.25])
