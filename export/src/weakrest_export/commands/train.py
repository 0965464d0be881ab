"""`weakrest-export train`."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from weakrest_export.commands import Commands
from weakrest_export.commands.common import check_directory, print_notes
from weakrest_export.commands.head_training import HeadTraining, add_training, read_settings
from weakrest_export.commands.training import open_work
from weakrest_export.errors import Exit, ExportError
from weakrest_export.work import Product, Work

if TYPE_CHECKING:
    from weakrest_export.samples import Sample


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "train",
        help="train a head for a package",
        description="Train a head on good pictures, synthetic defects and labeled pictures. Write a copy of "
        "the package with the head, if it rejects more labeled defects that it has not seen.",
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
    parser.add_argument(
        "--always",
        action="store_true",
        help="write NEW even if the head does not reject more labeled defects",
    )
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
        work = replace(work, hold_out=True)
        training = HeadTraining.prepare([product], given, work, settings)
        goods = workflow.calibration(product, work)
        check_better(training, goods, given, work)
        head = training.train(training.samples, work.folder, work.folder)
        print(training.describe(head))
        workflow.add_head(product, goods, head, given.out, given.overwrite, work.weakrest)
    print(f"{given.out}: package with the head {given.name}")


def check_better(training: HeadTraining, goods: Path, given: argparse.Namespace, work: Work) -> None:
    """Compares heads of a part of the labels with the package without a head, on the other labels.

    Raises:
        ExportError: if the heads are not better, unless `--always` is given.
    """
    from weakrest_export import guard, workflow

    (product,) = training.products
    found, _ = workflow.read_labels(product, given.setting)

    def make(samples: "Sequence[Sample]", folder: Path) -> Path:
        head = training.train(samples, folder, folder)
        package = folder / "package.weakrest"
        workflow.add_head(product, goods, head, package, True, work.weakrest)
        return package

    compared = guard.compare(product.package, training.samples, found, make, work.folder, work.weakrest)
    if compared is None:
        print_notes(
            [f"fewer than {guard.FEWEST} labeled defects: no cross-validation shows whether the head helps"]
        )
        return
    print(compared)
    if not compared.is_better and not given.always:
        raise ExportError(
            "the head is not better than the package without it: nothing is written. Label more pictures of "
            "what is missed, with masks or boxes, or enroll with a larger --size; --always writes it anyway",
            Exit.FAULT,
        )
