"""`weakrest-export train-seg`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from weakrest_export.commands import Commands
from weakrest_export.commands.click_training import add_training, prepare, read_settings
from weakrest_export.commands.common import check_directory
from weakrest_export.commands.training import (
    add_products,
    open_work,
    read_network,
    read_products,
    show_progress,
)
from weakrest_export.files import check_name

if TYPE_CHECKING:
    from weakrest_export.workflow import Vectors


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "train-seg",
        help="train a head on masks, at their resolution",
        description="Train ADClick without clicks (ADClick-Seg) on synthetic defects and on masks, such as "
        "masks from clicks. The head has cells of 2 pixels. Write NAME.onnx and NAME.toml. `weakrest package "
        "add-head` adds the head to a package.",
    )
    parser.set_defaults(run=run)
    add_products(parser, "package without a head, its good pictures, and a label file with masks")
    parser.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="phrases for each product, by the name of its package (JSON): the network is told the product, "
        "and NAME-PRODUCT.onnx is the head of each (default: none)",
    )
    add_training(parser, "adclick-seg")


def run(given: argparse.Namespace) -> None:
    check_directory(given.out)
    products = read_products(given)
    named = read_network(given)
    names = [f"{named.name}-{product.name}" for product in products] if given.prompts else [named.name]
    for name in names:
        check_name(name)
    settings = read_settings(given).unclicked()

    from weakrest_export import adclick_export, adclick_train, head_export, prompts, text, workflow

    words: list[Vectors | None] = [None] * len(products)
    if given.prompts:
        phrases = prompts.of_products(given.prompts, [product.name for product in products])
        encoder = text.TextEncoder()
        words = [encoder.encode(own) for own in phrases]
    with open_work(given, given.out) as work:
        parts = prepare(products, work)
        samples = [
            sample
            for part, own in zip(parts, words, strict=True)
            for sample in adclick_train.of_product(part, own)
        ]
        network = adclick_train.train(samples, settings, report=show_progress)
    # Without words, one head serves all products.
    for name, own in zip(names, words, strict=False):
        exported = adclick_export.export_head(
            network,
            samples[0].residuals.backbone,
            name=name,
            setting="seg",
            source=workflow.describe(products, samples),
            license=named.license,
            prompt=None if own is None else own[0],
        )
        path = head_export.write(exported, given.out)
        print(
            f"{path}: {len(exported.model) / 1e6:.1f} MB, trained on {exported.manifest.source}, "
            f"differs from PyTorch by {exported.difference:.0e}"
        )
