"""`weakrest-export train-adclick`."""

import argparse
import sys
from pathlib import Path

from weakrest_export.commands import Commands
from weakrest_export.commands.click_training import add_training, prepare, read_settings
from weakrest_export.commands.common import check_directory
from weakrest_export.commands.training import (
    add_products,
    open_work,
    read_network,
    read_products,
    show_progress,
)


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "train-adclick",
        help="train the network that turns clicks into masks",
        description="Train ADClick on synthetic defects and on masks of real ones. Write NAME.onnx, "
        "NAME.toml and NAME.safetensors. `weakrest package add-adclick` adds them to a package.",
    )
    parser.set_defaults(run=run)
    add_products(parser, "package, its good pictures, and a label file with masks")
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="phrases for each type of defect (JSON; default: none)"
    )
    add_training(parser, "adclick")


def run(given: argparse.Namespace) -> None:
    check_directory(given.out)
    named = read_network(given)
    settings = read_settings(given)

    from weakrest_export import adclick_export, adclick_train, click_metrics, prompts, text, workflow

    own = prompts.read(given.prompts) if given.prompts else {}
    encoder = text.TextEncoder()
    products = read_products(given)
    with open_work(given, given.out) as work:
        parts = prepare(products, work, own, encoder.encode)
        samples = [sample for part in parts for sample in part]
        network = adclick_train.train(samples, settings, report=show_progress)
        click_metrics.calibrated(network, samples, settings.seed)
    shown = {kind for sample in samples for kind in (sample.type or "").split("+")}
    for kind in own.keys() - shown:
        print(f"note: {given.prompts}: no picture with a mask shows {kind}", file=sys.stderr)
    known = prompts.merged(own, prompts.SYNTHETIC)
    listed = [(kind, phrase) for kind, phrases in known.items() for phrase in phrases]
    vectors = encoder.encode([phrase for _, phrase in listed])
    exported = adclick_export.export(
        network,
        samples[0].residuals.backbone,
        name=named.name,
        prompts=[
            adclick_export.Prompt(*words, vector) for words, vector in zip(listed, vectors, strict=True)
        ],
        setting="clicks",
        source=workflow.describe(products, samples),
        license=named.license,
    )
    path = adclick_export.write(exported, given.out)
    print(
        f"{path}: {len(exported.model) / 1e6:.1f} MB, {len(listed)} prompts, trained on "
        f"{exported.manifest.source}, differs from PyTorch by {exported.difference:.0e}"
    )
