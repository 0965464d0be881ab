"""What several commands share."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from weakrest_export.errors import ExportError


def add_out_directory(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    shown = f" (default: {default})" if default else ""
    parser.add_argument(
        "--out",
        type=Path,
        required=default is None,
        default=default,
        metavar="DIR",
        help=f"existing directory to write to{shown}",
    )


def check_directory(out: Path) -> None:
    """Raises ExportError unless the output directory exists."""
    if not out.is_dir():
        raise ExportError(f"output directory {out} does not exist: create it first")


def print_notes(notes: Sequence[str]) -> None:
    """Prints notes to stderr."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
