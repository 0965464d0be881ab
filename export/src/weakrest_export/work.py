"""How a training prepares what it learns from, and where it keeps that."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from weakrest_export import options
from weakrest_export.options import Option, Range


@dataclass(frozen=True)
class Product:
    """What a network learns one product from.

    Attributes:
        package: directory of the package without a head.
        goods: directory of the good pictures that were enrolled.
        labels: label files.
    """

    package: Path
    goods: Path
    labels: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The name of the package's directory."""
        return self.package.resolve().stem


@dataclass(frozen=True)
class Work:
    """Where a training keeps synthetic pictures, residuals and checkpoints, and how it makes them.

    Attributes:
        folder: for all of these; it may exist, empty.
        synthetics: pictures with synthetic defects to make per package.
        pasted: good pictures with labeled defects to make per package.
        hold_out: keep good pictures from training, to set the threshold.
        seed: of these pictures and of the training.
        weakrest: see `program.call`.
        resume: use what an earlier run left in `folder`, where it is complete.

    Raises:
        ExportError: if a value is out of its range.
    """

    folder: Path
    synthetics: Annotated[
        int, Range(least=0), Option("synthetic defects to make per package", "N", flag="--synthetic")
    ] = 400
    pasted: Annotated[int, Range(least=0)] = 0
    hold_out: bool = False
    seed: Annotated[int, Range(least=0), Option("another seed makes another network", "S")] = 0
    weakrest: Annotated[
        Path | None, Option("the weakrest program", "PATH", unset="$WEAKREST, or weakrest on the PATH")
    ] = None
    resume: Annotated[bool, Option("continue a stopped run in --work")] = False

    def __post_init__(self) -> None:
        options.check(self)

    def of(self, products: int, at: int, product: Product) -> "Work":
        """For one of several products, in a folder of its own; for a single product the same."""
        return self if products == 1 else replace(self, folder=self.folder / f"{at:02}-{product.name}")
