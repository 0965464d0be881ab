"""Training: that heads learn, the same way each time, and that what cannot be learned is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shards import BACKBONE, make_samples

from weakrest_export.anchored import Anchored
from weakrest_export.batches import crop
from weakrest_export.blocks import IGNORED, POSITIVE, UNKNOWN
from weakrest_export.checkpoint import FILE as CHECKPOINT
from weakrest_export.errors import ExportError
from weakrest_export.head import Head
from weakrest_export.samples import Sample
from weakrest_export.scores import average_precision, evaluate
from weakrest_export.settings import HeadSettings, Part
from weakrest_export.train import LOG, Trained, train

QUICK = HeadSettings(width=32, steps=60, batch=4, rate=3e-3, average=0.9, validation=0, precision="float32")


def weights(trained: Trained) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in trained.head.parameters()])


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return make_samples(tmp_path_factory.mktemp("shared") / "r", [(10, 9)] * 16)


def test_finds_defects_that_it_has_not_seen(samples: list[Sample], tmp_path: Path) -> None:
    trained = train(samples, replace(QUICK, validation=0.25), tmp_path)
    assert trained.precision is not None
    assert trained.precision > 0.9
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text("utf-8").splitlines()]
    assert lines == trained.log
    assert lines[-1]["step"] == 60
    assert lines[-1]["labeled_loss"] < lines[0]["labeled_loss"] / 2


def test_the_same_seed_gives_the_same_head(samples: list[Sample]) -> None:
    settings = replace(QUICK, steps=3)
    first = weights(train(samples, settings))
    assert torch.equal(first, weights(train(samples, settings)))
    assert not torch.equal(first, weights(train(samples, replace(settings, seed=1))))


def tagged(samples: list[Sample], count: int = 4) -> list[Sample]:
    """The same samples, but of the first synthetic ones only a tag is known."""
    known = [sample for sample in samples if sample.kind == "synthetic"]
    weak = [replace(s, kind="defective", labels=np.full_like(s.labels, UNKNOWN)) for s in known[:count]]
    return [s for s in samples if s.kind == "good"] + known[count:] + weak


def boxed(samples: list[Sample], count: int = 4) -> list[Sample]:
    """The same samples, but of the first synthetic ones only a box round each defect is known."""
    known = [sample for sample in samples if sample.kind == "synthetic"]
    weak = []
    for sample in known[:count]:
        rows, cols = np.nonzero(sample.labels == POSITIVE)
        box = np.zeros_like(sample.labels)
        box[max(0, rows.min() - 1) : rows.max() + 2, max(0, cols.min() - 1) : cols.max() + 2] = UNKNOWN
        weak.append(replace(sample, kind="defective", labels=box))
    return [s for s in samples if s.kind == "good"] + known[count:] + weak


class StoppedError(Exception):
    pass


def test_a_training_that_was_stopped_continues_to_the_same_head(
    samples: list[Sample], tmp_path: Path
) -> None:
    settings = replace(QUICK, steps=12, checks=4)
    whole = train(boxed(samples), settings)

    def stop(entry: Any) -> None:
        if entry["step"] == 9:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(boxed(samples), settings, tmp_path, report=stop)
    resumed = train(boxed(samples), settings, tmp_path, resume=True)
    assert torch.equal(weights(whole), weights(resumed))
    steps = [json.loads(line)["step"] for line in (tmp_path / LOG).read_text("utf-8").splitlines()]
    assert steps == [entry["step"] for entry in whole.log] == [3, 6, 9, 10, 12]


def test_refuses_to_continue_another_training(samples: list[Sample], tmp_path: Path) -> None:
    settings = replace(QUICK, steps=2)
    train(samples, settings, tmp_path)
    for other, key in ((replace(settings, width=64), "width"), (replace(settings, steps=4), "steps")):
        with pytest.raises(ExportError, match=rf"{CHECKPOINT}: of a training with another {key}"):
            train(samples, other, tmp_path, resume=True)
    with pytest.raises(ExportError, match="another samples"):
        train(samples[2:], settings, tmp_path, resume=True)
    stranger = make_samples(tmp_path / "r", [(10, 9)] * 16, package="c" * 64)
    with pytest.raises(ExportError, match="another packages"):
        train(stranger, settings, tmp_path, resume=True)
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(ExportError, match=f"{CHECKPOINT}: damaged"):
        train(samples, settings, tmp_path, resume=True)


def test_learns_from_tags_where_the_defect_is(samples: list[Sample], tmp_path: Path) -> None:
    """One synthetic picture shows what a defect looks like; tags add nothing that contradicts it."""
    weak = tagged(samples, 7)
    trained = train(weak, replace(QUICK, steps=100))
    truth = [sample for sample in samples if sample.kind == "synthetic"]
    assert evaluate(Anchored(trained.head, 8), truth) > 0.9
    assert not any(entry["guessed_loss"] for entry in trained.log), "whole pictures are not guessed"


@pytest.mark.parametrize("part", ["guess", "fix", "shake"])
def test_each_part_can_be_left_out(samples: list[Sample], part: Part) -> None:
    settings = replace(QUICK, steps=3)
    full = train(boxed(samples), settings)
    less = train(boxed(samples), replace(settings, without=(part,)))
    assert not torch.equal(weights(full), weights(less))
    assert any(entry["guessed_loss"] for entry in less.log) == (part != "guess")


def test_blocks_of_weakly_labeled_pictures_can_be_mixed(samples: list[Sample]) -> None:
    settings = replace(QUICK, steps=3)
    plain, mixed = (train(boxed(samples), replace(settings, mixup=mixup)) for mixup in (False, True))
    assert not torch.equal(weights(plain), weights(mixed))
    plain, mixed = (train(samples, replace(settings, mixup=mixup)) for mixup in (False, True))
    assert torch.equal(weights(plain), weights(mixed)), "nothing is unknown"


def test_ignored_blocks_teach_nothing(samples: list[Sample]) -> None:
    settings = replace(QUICK, steps=3)
    rows = np.s_[:4]
    blank = []
    for value in (0, 1, IGNORED):
        changed = []
        for sample in samples:
            labels = sample.labels.copy()
            labels[rows] = value
            changed.append(replace(sample, labels=labels))
        changed.append(samples[1])
        blank.append(weights(train(changed, settings)))
    assert not torch.equal(blank[0], blank[1])
    assert not torch.equal(blank[0], blank[2])


def test_grids_of_all_sizes_fit_one_batch_and_large_ones_are_cut(tmp_path: Path) -> None:
    mixed = make_samples(tmp_path / "r", [(3, 3), (20, 7), (5, 30), (12, 12), (8, 8), (9, 17)])
    settings = replace(QUICK, steps=4, crop=8)
    assert train(mixed, settings).step == 4
    assert train(tagged(mixed, 2), settings).log[-1]["labeled_loss"] > 0


def test_padding_is_told_from_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = make_samples(tmp_path / "r", [(3, 3), (4, 9), (3, 3), (9, 4)])
    seen: list[torch.Tensor] = []
    forward = Head.forward

    def spy(self: Head, residuals: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        seen.extend(present)
        assert not residuals[present == 0].any()
        return forward(self, residuals, present)

    monkeypatch.setattr(Head, "forward", spy)
    train(mixed, replace(QUICK, steps=8))
    assert {9.0, 36.0} == {present.sum().item() for present in seen}
    assert any(present.numel() > present.sum() for present in seen)


def test_most_crops_hold_defects() -> None:
    labels = torch.zeros(40, 30, dtype=torch.int8)
    labels[10:12, 10:12] = UNKNOWN
    suspicion = torch.zeros(40, 30)
    generator = torch.Generator().manual_seed(0)
    sizes = []
    for _ in range(100):
        part = labels[crop(labels, suspicion, 8, generator)]
        assert part.shape == (8, 8)
        sizes.append(int((part == UNKNOWN).sum()))
    assert 60 <= sum(size > 0 for size in sizes) <= 95
    assert sum(0 < size < 4 for size in sizes) >= 5, "some are at the crop's border"
    assert labels[crop(labels, suspicion, 30, generator)].shape == (30, 30)
    assert labels[crop(labels, suspicion, 40, generator)].shape == (40, 30)


def test_one_head_learns_from_several_packages(samples: list[Sample], tmp_path: Path) -> None:
    other = make_samples(tmp_path / "r", [(6, 6)] * 4, package="c" * 64)
    assert train([*samples, *other], replace(QUICK, steps=2)).step == 2
    stranger = make_samples(tmp_path / "s", [(6, 6)] * 4, backbone=BACKBONE[::-1].replace("b", "c"))
    with pytest.raises(ExportError, match="made with another backbone than"):
        train([*samples, *stranger], QUICK)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 0}, {"width": 100}, {"depth": 0}])
def test_refuses_settings_that_cannot_work(wrong: dict[str, int]) -> None:
    with pytest.raises(ExportError, match="must be"):
        HeadSettings(**wrong)


def test_semirest_reads_squares_in_windows(samples: list[Sample]) -> None:
    settings = replace(QUICK, steps=1).semirest()
    assert (settings.window, settings.stride, settings.crop) == (32, 8, 32)
    assert train(samples, settings).head.shape.reads == "squares"


def test_refuses_samples_without_a_defect(samples: list[Sample]) -> None:
    with pytest.raises(ExportError, match="no block is labeled defective: add synthetic defects"):
        train(samples[::2], QUICK)


def test_refuses_labels_of_another_grid(samples: list[Sample]) -> None:
    wrong = replace(samples[0], labels=np.zeros((3, 3), np.int8))
    with pytest.raises(ExportError, match=r"0\.png: labels are int8 \[3, 3\], its residuals int8 \[10, 9\]"):
        train([*samples, wrong], QUICK)


def test_says_when_the_loss_is_no_longer_a_number(samples: list[Sample], monkeypatch: Any) -> None:
    monkeypatch.setattr("weakrest_export.train.focal", lambda logits, *_: logits[..., 0] * float("nan"))
    with pytest.raises(ExportError, match="step 0: the loss is no longer a number"):
        train(samples, QUICK)


def test_average_precision_is_stepwise_and_takes_ties_together() -> None:
    def of(scores: list[float], truths: list[int]) -> float:
        return average_precision(np.array(scores, np.float32), np.array(truths, bool))

    assert of([0.9, 0.8, 0.2], [1, 1, 0]) == 1
    assert of([0.9, 0.8, 0.7], [0, 1, 1]) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert of([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0]) == 0.25
    assert of([0.5, 0.1], [0, 0]) == 0
