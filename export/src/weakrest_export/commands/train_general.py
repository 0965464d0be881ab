"""`weakrest-export train-general`."""

import argparse

from weakrest_export.commands import Commands
from weakrest_export.commands.common import add_out_directory, check_directory
from weakrest_export.commands.head_training import HeadTraining, add_training, read_settings
from weakrest_export.commands.training import add_products, open_work, read_products


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "train-general",
        help="train one head for several packages",
        description="Train one head on several products. Their packages must have the same backbone. Write "
        "NAME.onnx and NAME.toml. `weakrest package add-head` adds the head to a package.",
    )
    parser.set_defaults(run=run)
    add_products(parser, "package without a head, its good pictures, and a label file")
    add_out_directory(parser)
    add_training(parser)


def run(given: argparse.Namespace) -> None:
    check_directory(given.out)
    settings = read_settings(given, "sizes")
    products = read_products(given)
    with open_work(given, given.out) as work:
        training = HeadTraining.prepare(products, given, work, settings)
        head = training.train(training.samples, work.folder, given.out)
    print(training.describe(head))
    print(f"{head}: add it to each package with `weakrest package add-head`")
