"""What `train` and `train-general` share. PyTorch is imported late: `--help` must not wait."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from weakrest_export import options
from weakrest_export.commands.training import (
    add_network,
    add_work,
    note_skipped,
    read_network,
    show_progress,
)
from weakrest_export.settings import HeadSettings, LabelSetting, NetworkSettings, Precision, Reads
from weakrest_export.work import Product, Work

if TYPE_CHECKING:
    from weakrest_export.samples import Sample

SYNTHETIC = 100
"""Synthetic defects to make per package, unless told otherwise."""

PASTED = 80
"""Good pictures with labeled defects to make per package."""


def add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--setting",
        choices=get_args(LabelSetting),
        default="auto",
        help="labels to use. auto: all. tags: without places. semirest: all, and SemiREST's head "
        "(default: auto)",
    )
    options.add(parser, HeadSettings)
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="float32",
        help="precision of the head's weights in the package (default: float32)",
    )
    add_network(parser, "head")
    add_work(parser, synthetics=SYNTHETIC)


def read_settings(given: argparse.Namespace, reads: Reads) -> HeadSettings:
    """Raises ExportError for a value that is out of its range."""
    settings = options.read(HeadSettings, given, seed=given.seed, reads=reads)
    return settings.semirest() if given.setting == "semirest" else settings


@dataclass(frozen=True)
class HeadTraining:
    """What a command learns from, and how.

    Attributes:
        products: to learn from.
        samples: of them.
        setting: name of the labels' kind.
        settings: see `HeadSettings`.
        network: name and license of the head.
        precision: of its weights.
        resume: continue what is in the folder.
    """

    products: Sequence[Product]
    samples: "Sequence[Sample]"
    setting: str
    settings: HeadSettings
    network: NetworkSettings
    precision: Precision
    resume: bool

    @classmethod
    def prepare(
        cls, products: Sequence[Product], given: argparse.Namespace, work: Work, settings: HeadSettings
    ) -> "HeadTraining":
        """Makes block labels and residuals. Raises ExportError, see `workflow.prepare_all`."""
        from weakrest_export import workflow

        network = read_network(given)
        note_skipped(products)
        samples, setting = workflow.prepare_all(products, given.setting, replace(work, pasted=PASTED))
        return cls(products, samples, setting, settings, network, given.precision, work.resume)

    def train(self, samples: "Sequence[Sample]", folder: Path, out: Path) -> Path:
        """Trains a head on some of the samples.

        Args:
            samples: to learn from.
            folder: for the checkpoint and the log.
            out: for the head.

        Returns:
            The head's path.

        Raises:
            ExportError: see `train.train` and `head_export.export`.
        """
        from weakrest_export import head_export, train, workflow

        trained = train.train(samples, self.settings, folder, self.resume, show_progress)
        exported = head_export.export(
            trained.head,
            samples[0].residuals.backbone,
            name=self.network.name,
            setting=self.setting,
            source=workflow.describe(self.products, samples),
            license=self.network.license,
            window=self.settings.window,
            step=self.settings.stride,
            precision=self.precision,
        )
        return head_export.write(exported, out)

    def describe(self, head: Path) -> str:
        """The head in a line."""
        from weakrest_export import workflow

        source = workflow.describe(self.products, self.samples)
        return f"{self.network.name}: {head.stat().st_size / 1e6:.1f} MB, {self.setting}, trained on {source}"
