"""What `train-adclick` and `train-seg` share."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from weakrest_export import options
from weakrest_export.commands.common import add_out_directory
from weakrest_export.commands.training import add_network, add_work, note_skipped
from weakrest_export.settings import ClickSettings
from weakrest_export.work import Product, Work

if TYPE_CHECKING:
    from weakrest_export.adclick_train import Sample
    from weakrest_export.prompts import Phrases
    from weakrest_export.workflow import Encode


def add_training(parser: argparse.ArgumentParser, name: str) -> None:
    add_network(parser, name)
    options.add(parser, ClickSettings)
    add_out_directory(parser)
    add_work(parser)


def read_settings(given: argparse.Namespace) -> ClickSettings:
    """Raises ExportError for a value that is out of its range."""
    return options.read(ClickSettings, given, seed=given.seed)


def prepare(
    products: Sequence[Product],
    work: Work,
    phrases: "Phrases | None" = None,
    encode: "Encode | None" = None,
) -> "list[list[Sample]]":
    """What `workflow.prepare_clicks` gives for each product."""
    from weakrest_export import workflow

    labels = [workflow.read_labels(product, "auto")[0] for product in products]
    workflow.check(products)
    note_skipped(products)
    return [
        workflow.prepare_clicks(product, found, work.of(len(products), at, product), phrases, encode)
        for at, (product, found) in enumerate(zip(products, labels, strict=True))
    ]
