"""What a head learns from: pictures with block labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from weakrest_export.blocks import POSITIVE, UNKNOWN
from weakrest_export.errors import ExportError
from weakrest_export.residuals import Residuals, check_alike
from weakrest_export.settings import HeadSettings

Kind = Literal["good", "synthetic", "defective", "pasted"]
"""`pasted`: a good picture with a labeled defect of another picture."""
KINDS: tuple[Kind, ...] = ("good", "synthetic", "defective", "pasted")


@dataclass(frozen=True)
class Sample:
    """One picture to learn from.

    Attributes:
        residuals: folder with the picture.
        index: within `residuals.pictures`.
        labels: int8 `[rows, cols]`, block labels.
        kind: of the picture.
        origin: the labeled picture whose defect was pasted; None for other kinds.
    """

    residuals: Residuals
    index: int
    labels: npt.NDArray[np.int8]
    kind: Kind
    origin: str | None = None

    @property
    def image(self) -> str:
        return self.residuals.pictures[self.index].image

    @property
    def is_only_tagged(self) -> bool:
        """Whether nothing is known except that something is defective."""
        return bool((self.labels == UNKNOWN).all())


def check(samples: Sequence[Sample]) -> None:
    """Raises ExportError if there is nothing to learn, or the samples do not fit together."""
    if not any((sample.labels == POSITIVE).any() for sample in samples):
        raise ExportError(
            "no block is labeled defective: add synthetic defects, or pictures with masks of defects"
        )
    check_alike(sample.residuals for sample in samples)
    for sample in samples:
        grid = sample.residuals.pictures[sample.index].grid
        if sample.labels.shape != grid or sample.labels.dtype != np.int8:
            raise ExportError(
                f"{sample.image}: labels are {sample.labels.dtype} {list(sample.labels.shape)}, "
                f"its residuals int8 {list(grid)} blocks"
            )


def split(samples: Sequence[Sample], settings: HeadSettings) -> tuple[list[Sample], list[Sample]]:
    """Samples to learn from, and synthetic samples that only choose among checkpoints."""
    synthetic = [at for at, sample in enumerate(samples) if sample.kind == "synthetic"]
    count = round(len(synthetic) * settings.validation)
    order = np.random.default_rng(settings.seed).permutation(synthetic)
    kept = set(order[:count].tolist())
    held = [samples[at] for at in sorted(kept)]
    return [sample for at, sample in enumerate(samples) if at not in kept], held


def by_kind(samples: Sequence[Sample]) -> dict[Kind, list[list[Sample]]]:
    """For each kind the samples of each package."""
    groups: dict[Kind, dict[int, list[Sample]]] = {kind: {} for kind in KINDS}
    for sample in samples:
        groups[sample.kind].setdefault(id(sample.residuals), []).append(sample)
    return {kind: list(packages.values()) for kind, packages in groups.items()}
