"""`weakrest-export backbone`."""

import argparse

from weakrest_export import options
from weakrest_export.commands import Commands
from weakrest_export.commands.common import add_out_directory, check_directory
from weakrest_export.settings import BackboneSettings


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "backbone",
        help="export a pretrained network's feature maps to ONNX",
        description="Export a pretrained network's feature maps, on one grid, to NAME.onnx and NAME.toml.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "network",
        metavar="NETWORK",
        help="efficientnet-lite0, efficientnet-lite1, efficientnet-lite2, torchvision:NAME or timm:NAME",
    )
    options.add(parser, BackboneSettings)
    add_out_directory(parser, default=".")


def run(given: argparse.Namespace) -> None:
    check_directory(given.out)

    from weakrest_export import backbone

    made = backbone.export(options.read(BackboneSettings, given, network=given.network))
    path = backbone.write(made, given.out)
    manifest = made.manifest
    channels = " + ".join(str(scale.channels) for scale in manifest.keys.scales)
    print(
        f"{path.with_suffix('.onnx')}: {len(made.model) / 1e6:.1f} MB, {channels} channels at "
        f"stride {manifest.keys.stride}, input sides multiples of {manifest.keys.multiple}, "
        f"differs from PyTorch by {made.difference:.0e}"
    )
    print(f"{path}: {manifest.source}, license {manifest.license}")
