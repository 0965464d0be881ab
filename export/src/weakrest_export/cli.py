"""The command line: `weakrest-export COMMAND`."""

import argparse
import os
import sys
from collections.abc import Sequence

from weakrest_export import __version__
from weakrest_export.commands import (
    backbone,
    labels,
    synthesize,
    text_encoder,
    train,
    train_adclick,
    train_general,
    train_seg,
)
from weakrest_export.errors import Exit, ExportError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code, see `errors.Exit`."""
    # PyTorch's threads wait for each other thousands of times a second. Spinning beside another busy program,
    # they made a training 15 times slower. OpenMP reads this when PyTorch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ExportError as error:
        print(f"weakrest-export: {error}", file=sys.stderr)
        return error.exit
    except OSError as error:
        # Such as a full disk, or a directory without write access.
        print(f"weakrest-export: {error}", file=sys.stderr)
        return Exit.FAULT
    return Exit.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weakrest-export", description="Prepare networks for weakrest, offline."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (
        backbone,
        labels,
        synthesize,
        train,
        train_general,
        train_adclick,
        train_seg,
        text_encoder,
    ):
        command.add(commands)
    return parser
