"""The command line: `weakrest-export COMMAND`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from weakrest_export import __version__
from weakrest_export.errors import Exit, ExportError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code, see `errors.Exit`."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ExportError as error:
        print(f"weakrest-export: {error}", file=sys.stderr)
        return error.exit
    return Exit.OK


def _backbone(options: argparse.Namespace) -> None:
    if not options.out.is_dir():
        raise ExportError(f"output directory {options.out} does not exist: create it first")

    # PyTorch takes seconds to import, which --help and usage errors need not wait for.
    from weakrest_export import backbone

    made = backbone.export(
        options.network,
        taps=options.taps,
        grid=options.grid,
        channels=options.channels,
        scales=options.scales,
        weights=options.weights,
        name=options.name,
    )
    path = backbone.write(made, options.out)
    manifest = made.manifest
    print(
        f"{path.with_suffix('.onnx')}: {len(made.model) / 1e6:.1f} MB, {manifest.channels} channels at "
        f"stride {manifest.stride}, input sides multiples of {manifest.multiple}, "
        f"differs from PyTorch by {made.difference:.0e}"
    )
    print(f"{path}: {manifest.source}, license {manifest.license}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weakrest-export", description="Prepare networks for weakrest, offline."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    backbone = commands.add_parser(
        "backbone",
        help="export a pretrained network's feature maps to ONNX",
        description="Export a pretrained network's feature maps, on one grid, to NAME.onnx and NAME.toml.",
    )
    backbone.add_argument(
        "network",
        metavar="NETWORK",
        help="efficientnet-lite0, efficientnet-lite1, efficientnet-lite2, torchvision:NAME or timm:NAME",
    )
    backbone.add_argument(
        "--taps",
        type=int,
        nargs="+",
        default=[4, 8, 16],
        metavar="STRIDE",
        help="strides of the feature maps to use (default: 4 8 16)",
    )
    backbone.add_argument(
        "--grid", type=int, default=8, metavar="STRIDE", help="stride of the output grid (default: 8)"
    )
    backbone.add_argument(
        "--channels",
        type=int,
        metavar="N",
        help="average neighboring channels down to N (default: keep all)",
    )
    backbone.add_argument(
        "--scales",
        type=float,
        nargs="+",
        metavar="SCALE",
        help="factor of each tap, by ascending stride: how much it counts in distances (default: 1 each)",
    )
    backbone.add_argument(
        "--weights",
        default="pretrained",
        metavar="WEIGHTS",
        help="pretrained (default), a torchvision tag such as IMAGENET1K_V1, or none (random, for tests)",
    )
    backbone.add_argument(
        "--out",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="existing directory to write to (default: .)",
    )
    backbone.add_argument("--name", metavar="NAME", help="of the files (default: the network's name)")
    backbone.set_defaults(run=_backbone)
    add_synthesize_parser(commands)
    return parser


def _synthesize(options: argparse.Namespace) -> None:
    from weakrest_export import synthetic

    sheet = options.contact_sheet
    if sheet is not None and sheet.suffix.lower() not in synthetic.SUFFIXES:
        raise ExportError(f"contact sheet {sheet}: its name must end in .jpg or .png")
    goods = synthetic.good_pictures(options.goods)
    index = synthetic.synthesize(
        goods,
        options.out,
        options.count,
        options.seed,
        workers=options.workers,
        overwrite=options.overwrite,
    )
    if sheet is not None:
        synthetic.contact_sheet(index, sheet)
    print(f"{index}: {options.count} pictures with synthetic defects, from {len(goods)} good ones")


def add_synthesize_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "synthesize",
        help="paint synthetic defects on good pictures",
        description="Paint synthetic defects on good pictures: NNNN.png, NNNN_mask.png and synthetic.jsonl.",
    )
    parser.add_argument("goods", type=Path, metavar="GOOD_DIR", help="directory with the good pictures")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to write to")
    parser.add_argument("--count", type=int, required=True, metavar="N", help="how many pictures to make")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="the same seed makes the same pictures (default: 0)"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes to share the work (default: 1)"
    )
    parser.add_argument(
        "--contact-sheet",
        type=Path,
        metavar="FILE",
        help="also draw the first pictures and masks to a JPEG or PNG",
    )
    parser.add_argument("--overwrite", action="store_true", help="write to a directory that is not empty")
    parser.set_defaults(run=_synthesize)
