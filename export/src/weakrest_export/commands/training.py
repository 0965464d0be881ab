"""What the training commands share: products, the work directory, progress."""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from weakrest_export import options
from weakrest_export.commands.common import print_notes
from weakrest_export.errors import ExportError
from weakrest_export.settings import NetworkSettings
from weakrest_export.work import Product, Work


def add_products(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("products", nargs="+", metavar="PACKAGE:GOOD_DIR[:LABELS]", help=help)


def read_products(given: argparse.Namespace) -> list[Product]:
    """Raises ExportError for a text that names no product."""
    products = []
    for text in given.products:
        package, *rest = (Path(part) for part in text.split(":"))
        if len(rest) not in (1, 2) or "" in text.split(":"):
            raise ExportError(f"{text!r}: must be PACKAGE:GOOD_DIR or PACKAGE:GOOD_DIR:LABELS")
        products.append(Product(package, rest[0], tuple(rest[1:])))
    return products


def add_network(parser: argparse.ArgumentParser, name: str) -> None:
    options.add(parser, NetworkSettings, name=name)


def read_network(given: argparse.Namespace) -> NetworkSettings:
    """Raises ExportError for a name that no file can have."""
    return options.read(NetworkSettings, given)


def add_work(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Adds the options of `Work`, with other defaults than it has."""
    options.add(parser, Work, **defaults)
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="keep synthetic pictures, residuals and checkpoints in DIR (default: keep nothing)",
    )


@contextmanager
def open_work(given: argparse.Namespace, beside: Path) -> Iterator[Work]:
    """The directory of `--work`, or a temporary one.

    Raises:
        ExportError: if options do not fit together.
    """
    if given.work is not None:
        work = options.read(Work, given, folder=given.work)
        given.work.mkdir(parents=True, exist_ok=True)
        yield work
    elif given.resume:
        raise ExportError("--resume: name the directory with --work")
    else:
        # Residuals are large. The output directory has more room than the system's temporary one.
        with tempfile.TemporaryDirectory(prefix=".training-", dir=beside) as directory:
            yield options.read(Work, given, folder=Path(directory))


def note_skipped(products: Sequence[Product]) -> None:
    """Prints a note for pictures that are skipped. Folders without any picture are refused elsewhere."""
    from weakrest_export import pictures

    for product in products:
        with suppress(ExportError):
            print_notes(pictures.find(product.goods)[1])


def show_progress(entry: Mapping[str, Any]) -> None:
    """Prints an entry of a training's log to stderr."""
    loss = entry["labeled_loss"] if "labeled_loss" in entry else entry["loss"]
    done = f"step {entry['step']} of {entry['of']}, loss {loss:.4f}"
    if entry.get("guessed_loss") is not None:
        done += f", guessed {entry['guessed_loss']:.4f}"
    if entry.get("validation_ap") is not None:
        done += f", average precision on held-back synthetic defects {entry['validation_ap']:.3f}"
    last = entry["step"] == entry["of"]
    checked = "validation_ap" in entry if "labeled_loss" in entry else entry["step"] % 100 == 0
    if sys.stderr.isatty():
        print(f"\r\033[K{done}", end="\n" if last else "", file=sys.stderr, flush=True)
    elif last or checked:
        print(done, file=sys.stderr, flush=True)
