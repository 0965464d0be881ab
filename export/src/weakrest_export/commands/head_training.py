"""What `train` and `train-general` share."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from weakrest_export import options
from weakrest_export.commands.training import (
    add_network,
    add_work,
    note_skipped,
    read_network,
    show_progress,
)
from weakrest_export.settings import HeadSettings, LabelSetting, Precision, Reads
from weakrest_export.work import Product, Work


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
    add_work(parser)


def read_settings(given: argparse.Namespace, reads: Reads) -> HeadSettings:
    """Raises ExportError for a value that is out of its range."""
    settings = options.read(HeadSettings, given, seed=given.seed, reads=reads)
    return settings.semirest() if given.setting == "semirest" else settings


def train_head(
    products: Sequence[Product], given: argparse.Namespace, work: Work, out: Path, settings: HeadSettings
) -> Path:
    """Trains a head for the products and writes it to `out`. Returns its path."""
    from weakrest_export import head_export, train, workflow

    network = read_network(given)
    note_skipped(products)
    samples, setting = workflow.prepare_all(products, given.setting, work)
    trained = train.train(samples, settings, work.folder, work.resume, show_progress)
    exported = head_export.export(
        trained.head,
        samples[0].residuals.backbone,
        name=network.name,
        setting=setting,
        source=workflow.describe(products, samples),
        license=network.license,
        window=settings.window,
        step=settings.stride,
        precision=given.precision,
    )
    path = head_export.write(exported, out)
    print(
        f"{path}: {len(exported.model) / 1e6:.1f} MB, {setting}, trained on {exported.manifest.source}, "
        f"differs from PyTorch by {exported.difference:.0e}"
    )
    return path
