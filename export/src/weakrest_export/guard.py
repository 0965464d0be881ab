"""Decides by cross-validation whether a head is better than the package without it."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from statistics import mean

import numpy as np

from weakrest_export.errors import Exit
from weakrest_export.labels import Label
from weakrest_export.program import call
from weakrest_export.samples import Sample

FOLDS = 3
"""Heads that are trained to judge labeled pictures which they have not seen."""

FEWEST = 4
"""With fewer labeled defective pictures there is nothing to compare."""

MakePackage = Callable[[Sequence[Sample], Path], Path]
"""Trains a head on samples. Returns a package with it, in the given folder. Its threshold is set."""


@dataclass(frozen=True)
class Judged:
    """How a package judges defective pictures.

    Attributes:
        found: how many it rejects.
        margin: mean logarithm of score by threshold; above 0 where defects are rejected.
        missed: how many it passes, by the labels' types.
    """

    found: int
    margin: float
    missed: Counter[str]


@dataclass(frozen=True)
class Comparison:
    """Two packages, with and without a head, on labeled defective pictures that the head has not seen."""

    pictures: int
    without: Judged
    with_head: Judged

    @property
    def is_better(self) -> bool:
        """Whether the head rejects more defects, or as many by a larger margin."""
        ours = (self.with_head.found, self.with_head.margin)
        return ours > (self.without.found, self.without.margin)

    def __str__(self) -> str:
        with_head, without = self.with_head, self.without
        text = (
            f"cross-validated on {self.pictures} labeled pictures: {with_head.found} rejected with the head "
            f"({without.found} without it), score {np.exp(with_head.margin):.2f} times the threshold "
            f"({np.exp(without.margin):.2f})"
        )
        missed = ", ".join(f"{count} of {type}" for type, count in with_head.missed.most_common())
        return f"{text}; still missed: {missed}" if missed else text


def compare(
    package: Path,
    samples: Sequence[Sample],
    labels: Sequence[Label],
    make: MakePackage,
    folder: Path,
    weakrest: Path | None,
) -> Comparison | None:
    """Compares a package with itself and a head. None if there are too few labeled defects.

    Args:
        package: without a head.
        samples: of training.
        labels: of the pictures in `samples`.
        make: see `MakePackage`.
        folder: for the heads of the folds.
        weakrest: see `program.call`.

    Raises:
        ExportError: if a head cannot be trained or added.
    """
    types = {
        str(label.image.resolve()): label.kind or "no type" for label in labels if label.tag == "defective"
    }
    # Alike types go to different folds.
    pictures = sorted(types, key=lambda image: (types[image], image))
    if len(pictures) < FEWEST:
        return None
    scores: dict[str, tuple[float, float]] = {}
    for at in range(FOLDS):
        held = set(pictures[at::FOLDS])
        learned = [s for s in samples if s.image not in held and s.origin not in held]
        home = folder / f"fold-{at}"
        home.mkdir(parents=True, exist_ok=True)
        scores |= _scores(make(learned, home), sorted(held), weakrest)
    return Comparison(
        len(pictures), _judged(_scores(package, pictures, weakrest), types), _judged(scores, types)
    )


def _scores(package: Path, pictures: Sequence[str], weakrest: Path | None) -> dict[str, tuple[float, float]]:
    """Score and threshold of each picture."""
    lines = call(weakrest, ["inspect", str(package), *pictures, "--json"], accept=(Exit.OK, Exit.REJECT))
    found = [json.loads(line) for line in lines.splitlines()]
    return {line["image"]: (line["score"], line["threshold"]) for line in found}


def _judged(scores: dict[str, tuple[float, float]], types: dict[str, str]) -> Judged:
    passed = [image for image, (score, threshold) in scores.items() if score <= threshold]
    margin = mean(log(max(score, 1e-9) / max(threshold, 1e-9)) for score, threshold in scores.values())
    return Judged(len(scores) - len(passed), margin, Counter(types[image] for image in passed))
