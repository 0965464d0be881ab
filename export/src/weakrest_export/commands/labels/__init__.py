"""`weakrest-export labels ACTION`."""

from weakrest_export.commands import Commands
from weakrest_export.commands.labels import check, from_dataset


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "labels", help="check or make label files", description="Check or make label files."
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    check.add(actions)
    from_dataset.add(actions)
