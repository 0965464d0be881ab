"""`weakrest-export labels check`."""

import argparse
import sys
from pathlib import Path

from weakrest_export.commands import Commands


def add(actions: Commands) -> None:
    parser = actions.add_parser(
        "check",
        help="check a label file and count its labels",
        description="Check a label file. Print every problem, or the number of labels of each kind.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("file", type=Path, metavar="FILE", help="label file (JSON Lines)")


def run(given: argparse.Namespace) -> None:
    from weakrest_export import labels

    found, problems = labels.check(given.file)
    for problem in problems[:-1]:
        print(f"weakrest-export: {problem}", file=sys.stderr)
    if problems:
        raise problems[-1]
    labels.check_masks(found)
    print(f"{given.file}: {labels.summary(found)}")
