"""`weakrest-export labels from-dataset`."""

import argparse
from pathlib import Path

from weakrest_export import options
from weakrest_export.commands import Commands
from weakrest_export.commands.common import print_notes
from weakrest_export.settings import ChoiceSettings


def add(actions: Commands) -> None:
    parser = actions.add_parser(
        "from-dataset",
        help="make weak labels from the masks of a data set, for comparisons",
        description="Make weak labels from the masks of a labeled data set, to compare kinds of labels.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="the data set")
    parser.add_argument("--format", required=True, metavar="F", help="as for `weakrest evaluate`")
    parser.add_argument("--category", metavar="C", help="required if the data set has several")
    parser.add_argument(
        "--good", action="append", default=[], metavar="NAME", help="another name for folders of good parts"
    )
    parser.add_argument(
        "--kind", required=True, choices=["masks", "boxes", "rotated", "tags"], help="labels to make"
    )
    options.add(parser, ChoiceSettings)
    parser.add_argument(
        "--weakrest",
        type=Path,
        metavar="PATH",
        help="the weakrest program (default: $WEAKREST, or weakrest on the PATH)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="label file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")


def run(given: argparse.Namespace) -> None:
    from weakrest_export import labels, splits, weak

    labels.check_writable(given.out, given.overwrite)
    choice = options.read(ChoiceSettings, given)
    category = splits.read_dataset(given.weakrest, given.dataset, given.format, given.category, given.good)
    print_notes(category.notes)
    made = weak.weak_labels(splits.choose_training_defects(category, choice), given.kind)
    labels.write(given.out, made, given.overwrite)
    print(f"{given.out}: {labels.summary(made)}")
