"""`weakrest-export train`."""

import argparse
from pathlib import Path

from weakrest_export.commands import Commands
from weakrest_export.commands.common import check_directory
from weakrest_export.commands.head_training import add_training, read_settings, train_head
from weakrest_export.commands.training import open_work
from weakrest_export.errors import ExportError
from weakrest_export.work import Product


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "train",
        help="train a head for a package",
        description="Train a head on good pictures, synthetic defects and labeled pictures. Write a copy of "
        "the package with the head.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="package without a head")
    parser.add_argument(
        "--good", type=Path, required=True, metavar="DIR", help="the good pictures that were enrolled"
    )
    parser.add_argument(
        "--labels", type=Path, nargs="+", default=[], metavar="FILE", help="label files (default: none)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="NEW", help="package to write")
    parser.add_argument("--overwrite", action="store_true", help="replace NEW if it exists")
    add_training(parser)


def run(given: argparse.Namespace) -> None:
    check_directory(given.out.parent)
    if given.out.exists() and not given.overwrite:
        raise ExportError(f"{given.out} exists: choose another --out, or replace it with --overwrite")
    settings = read_settings(given, "signed")

    from weakrest_export import workflow

    product = Product(given.package, given.good, tuple(given.labels))
    with open_work(given, given.out.parent) as work:
        head = train_head([product], given, work, work.folder, settings)
        workflow.add_head(product, head, given.out, given.overwrite, work.weakrest)
    print(f"{given.out}: package with the head {given.name}")
