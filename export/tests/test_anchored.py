"""Heads as corrections of lengths: what a head that says nothing says, and what it cannot do."""

import pytest
import torch

from weakrest_export.anchored import Anchored, log_lengths
from weakrest_export.head import Head, Shape


@pytest.fixture
def model() -> Anchored:
    torch.manual_seed(0)
    return Anchored(Head(Shape(6, width=32)), stride=8).eval()


def test_lengths_of_scales_meet_in_their_geometric_mean() -> None:
    residuals = torch.cat((torch.full((1, 2, 2, 4), 3.0), torch.full((1, 2, 2, 2), 12.0)), -1)
    assert log_lengths(residuals, (4, 2)).exp().flatten().tolist() == pytest.approx([6.0] * 4, rel=0.01)
    assert log_lengths(residuals[..., :4], (4,)).exp().flatten().tolist() == pytest.approx(
        [3.0] * 4, rel=0.01
    )


def test_without_a_correction_the_longer_residual_is_more_likely_a_defect(model: Anchored) -> None:
    torch.nn.init.zeros_(model.head.classify.weight)
    residuals = torch.rand(1, 8, 8, 6) + 0.1
    lengths = log_lengths(residuals, (6,))
    judged = model(residuals, lengths)
    order = lengths.flatten().argsort()
    assert torch.equal(judged.blocks[..., 1].flatten().argsort(), order)
    assert not judged.blocks[..., 0].any()


def test_a_correction_has_a_limit(model: Anchored) -> None:
    residuals = torch.randn(1, 8, 8, 6)
    lengths = log_lengths(residuals, (6,))
    for bias in ((0.0, 1000.0), (1000.0, 0.0)):
        model.head.classify.bias.data = torch.tensor(bias)
        scores = (model(residuals, lengths).blocks[..., 1] - model.shift) / model.scale
        assert ((scores - lengths).abs() <= 2 + 1e-4).all()


def test_a_picture_is_judged_by_its_strangest_part(model: Anchored) -> None:
    torch.nn.init.zeros_(model.head.classify.weight)
    residuals = torch.full((3, 8, 8, 6), 0.5)
    residuals[1, 2:4, 5:7] = 4.0
    residuals[2, 2, 5] = 4.0
    present = torch.ones(3, 8, 8)
    judged = model(residuals, log_lengths(residuals, (6,)), present)
    good, bad, small = judged.pictures.tolist()
    assert bad > small > good
    # What is not there does not count.
    present[1, 2:4, 5:7] = 0
    assert model(residuals, log_lengths(residuals, (6,)), present).pictures[1] <= judged.pictures[0]
