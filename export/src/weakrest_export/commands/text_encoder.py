"""`weakrest-export text-encoder`."""

import argparse

from weakrest_export.commands import Commands
from weakrest_export.commands.common import add_out_directory, check_directory


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "text-encoder",
        help="export the text encoder, for prompts in free words",
        description="Export all-MiniLM-L6-v2 to text-encoder.onnx and tokenizer.json, for `weakrest label "
        "--text-encoder DIR`.",
    )
    parser.set_defaults(run=run)
    add_out_directory(parser)


def run(given: argparse.Namespace) -> None:
    check_directory(given.out)

    from weakrest_export import text

    path, difference = text.export(given.out)
    print(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, {text.source()}, "
        f"differs from PyTorch by {difference:.0e}"
    )
