"""`weakrest-export synthesize`."""

import argparse
from pathlib import Path

from weakrest_export import options
from weakrest_export.commands import Commands
from weakrest_export.commands.common import print_notes
from weakrest_export.errors import ExportError
from weakrest_export.settings import SynthesisSettings


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "synthesize",
        help="paint synthetic defects on good pictures",
        description="Paint synthetic defects on good pictures: NNNN.png, NNNN_mask.png and synthetic.jsonl.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("goods", type=Path, metavar="GOOD_DIR", help="directory with the good pictures")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to write to")
    options.add(parser, SynthesisSettings)
    parser.add_argument(
        "--contact-sheet", type=Path, metavar="FILE", help="also draw pictures and masks to a JPEG or PNG"
    )
    parser.add_argument("--overwrite", action="store_true", help="write to a directory that is not empty")


def run(given: argparse.Namespace) -> None:
    settings = options.read(SynthesisSettings, given)
    sheet = given.contact_sheet
    if sheet is not None and sheet.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise ExportError(f"contact sheet {sheet}: its name must end in .jpg or .png")

    from weakrest_export import pictures, synthetic

    goods, notes = pictures.find(given.goods)
    print_notes(notes)
    index = synthetic.synthesize(goods, given.out, settings, given.overwrite)
    if sheet is not None:
        synthetic.contact_sheet(index, sheet)
    print(f"{index}: {settings.count} pictures with synthetic defects, from {len(goods)} good ones")
