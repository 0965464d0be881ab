"""Whether a head is better: each labeled picture is judged by heads that have not seen it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from shards import write_shards

from weakrest_export import guard
from weakrest_export.labels import Label
from weakrest_export.residuals import Residuals
from weakrest_export.samples import Sample

SCORES = {"none": {0: 0.5, 1: 2.0, 2: 0.8, 3: 0.9, 4: 1.5}, "head": {0: 1.4, 1: 2.0, 2: 0.7, 3: 1.3, 4: 1.5}}


def compared(folder: Path, monkeypatch: pytest.MonkeyPatch, count: int = 5) -> guard.Comparison | None:
    found = [
        Label(folder / f"{at}.png", (8, 8), "defective", (), f"type {at % 2}") for at in range(count)
    ] + [Label(folder / "good.png", (8, 8), "good")]
    images = [str(label.image.resolve()) for label in found if label.tag == "defective"]
    pasted = [f"pasted-{at}.png" for at in range(count)]
    tensors = [torch.zeros(3, 2, 2, 4).half() for _ in range(2 * count)]
    residuals = Residuals(write_shards(folder / "r", tensors, [*images, *pasted]))
    labels = np.zeros((2, 2), np.int8)
    samples = [Sample(residuals, at, labels, "defective") for at in range(count)]
    samples += [Sample(residuals, count + at, labels, "pasted", images[at]) for at in range(count)]

    learned: list[set[str]] = []

    def make(some: Sequence[Sample], home: Path) -> Path:
        seen = {s.image for s in some if s.kind == "defective"}
        assert seen == {str(s.origin) for s in some if s.kind == "pasted"}
        learned.append(seen)
        return home / "head"

    def call(weakrest: Path | None, arguments: Sequence[str], accept: Sequence[int]) -> str:
        command, package, *pictures, _ = arguments
        assert command == "inspect"
        kind = Path(package).name
        if kind == "head":
            assert not learned[-1] & set(pictures), "it has seen what it judges"
        scores = {image: SCORES[kind][int(Path(image).stem)] for image in pictures}
        return "".join(
            json.dumps({"image": i, "score": s, "threshold": 1.0}) + "\n" for i, s in scores.items()
        )

    monkeypatch.setattr("weakrest_export.guard.call", call)
    return guard.compare(folder / "none", samples, found, make, folder, None)


def test_a_head_that_rejects_more_is_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = compared(tmp_path, monkeypatch)
    assert found is not None
    assert (found.pictures, found.without.found, found.with_head.found) == (5, 2, 4)
    assert found.is_better
    assert "5 labeled pictures: 4 rejected with the head (2 without it)" in str(found)
    assert "still missed: 1 of type 0" in str(found)


def test_a_head_that_rejects_less_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORES, "head", {**SCORES["none"], 1: 0.1})
    found = compared(tmp_path, monkeypatch)
    assert found is not None
    assert not found.is_better


def test_the_margin_decides_between_equals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORES, "head", {**SCORES["none"], 1: 3.0})
    found = compared(tmp_path, monkeypatch)
    assert found is not None
    assert found.is_better
    monkeypatch.setitem(SCORES, "head", dict(SCORES["none"]))
    found = compared(tmp_path / "same", monkeypatch)
    assert found is not None
    assert not found.is_better


def test_few_labels_cannot_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compared(tmp_path, monkeypatch, guard.FEWEST - 1) is None
