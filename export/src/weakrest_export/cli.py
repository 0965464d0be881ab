"""The command line: `weakrest-export COMMAND`."""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from weakrest_export import __version__
from weakrest_export.errors import Exit, ExportError

if TYPE_CHECKING:
    from weakrest_export.adclick_train import Sample as ClickSample
    from weakrest_export.adclick_train import Settings as ClickSettings
    from weakrest_export.head import Reads
    from weakrest_export.prompts import Phrases
    from weakrest_export.workflow import Encode, Product, Vectors

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code, see `errors.Exit`."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ExportError as error:
        print(f"weakrest-export: {error}", file=sys.stderr)
        return error.exit
    except OSError as error:
        # Such as a disk that is full, or a directory where nothing may be written.
        print(f"weakrest-export: {error}", file=sys.stderr)
        return Exit.FAULT
    return Exit.OK


def add_train_parser(commands: _Commands) -> None:
    one = commands.add_parser(
        "train",
        help="train a head for a package and put it in",
        description="Train a head on good pictures, synthetic defects and labeled pictures, and put it into "
        "a copy of a package.",
    )
    one.set_defaults(run=_train)
    one.add_argument("package", type=Path, metavar="PACKAGE", help="package without a head")
    one.add_argument(
        "--good", type=Path, required=True, metavar="DIR", help="the good pictures that were enrolled"
    )
    one.add_argument(
        "--labels", type=Path, nargs="+", default=[], metavar="FILE", help="label files (default: none)"
    )
    one.add_argument("--out", type=Path, required=True, metavar="NEW", help="package to write")
    one.add_argument("--overwrite", action="store_true", help="replace NEW if it exists")

    several = commands.add_parser(
        "train-general",
        help="train one head for several packages",
        description="Train one head on several products, for packages with the same backbone: NAME.onnx and "
        "NAME.toml, which `weakrest package add-head` puts into any of them.",
    )
    several.set_defaults(run=_train_general)
    several.add_argument(
        "products",
        nargs="+",
        metavar="PACKAGE:GOOD_DIR[:LABELS]",
        help="package without a head, its good pictures, and a label file",
    )
    several.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="existing directory to write to"
    )
    for parser in (one, several):
        _add_training_options(parser)


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--setting",
        choices=["auto", "unsupervised", "tags", "boxes", "rotated", "blocks", "semirest"],
        default="auto",
        help="what of the labels is used: auto takes all, tags takes no places; semirest also builds its "
        "head (default: auto)",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="of training (default: 400)")
    parser.add_argument("--width", type=int, metavar="N", help="of the head (default: 128)")
    parser.add_argument("--depth", type=int, metavar="N", help="of the head, in layers (default: 2)")
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        choices=["guess", "fix", "shake"],
        help="parts of the learning from weak labels to leave out, for comparisons",
    )
    parser.add_argument(
        "--mixup",
        action="store_true",
        help="mix blocks of weakly labeled pictures with others, as the papers do (semirest always does)",
    )
    parser.add_argument(
        "--precision",
        choices=["float32", "float16", "int8"],
        default="float32",
        help="of the head's weights in the package (default: float32)",
    )
    parser.add_argument("--name", default="head", help="of the head (default: head)")
    _add_common_options(parser)


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--synthetic",
        type=int,
        default=400,
        metavar="N",
        help="synthetic defects to make per package (default: 400)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="another one makes another network (default: 0)"
    )
    parser.add_argument(
        "--license", metavar="SPDX", help="of the network's weights (default: LicenseRef-own, your own)"
    )
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="keep synthetic pictures, residuals and what else is made on the way there (default: nowhere)",
    )
    parser.add_argument("--resume", action="store_true", help="continue what was stopped in --work")
    parser.add_argument("--weakrest", type=Path, metavar="PATH", help="default: $WEAKREST, else on the PATH")


def _train(options: argparse.Namespace) -> None:
    if not options.out.parent.is_dir():
        raise ExportError(f"output directory {options.out.parent} does not exist: create it first")
    if options.out.exists() and not options.overwrite:
        raise ExportError(f"{options.out} exists: choose another --out, or replace it with --overwrite")

    from weakrest_export import workflow

    product = workflow.Product(options.package, options.good, tuple(options.labels))
    with _work(options, options.out.parent) as work:
        head = _train_head([product], options, work, work, "signed")
        workflow.add_head(product, head, options.out, options.overwrite, options.weakrest)
    print(f"{options.out}: package with the head {options.name}")


def _train_general(options: argparse.Namespace) -> None:
    if not options.out.is_dir():
        raise ExportError(f"output directory {options.out} does not exist: create it first")

    products = _products(options.products)
    with _work(options, options.out) as work:
        head = _train_head(products, options, work, options.out, "sizes")
    print(f"{head}: put it into each package with `weakrest package add-head`")


def _products(texts: Sequence[str]) -> "list[Product]":
    from weakrest_export import workflow

    products = []
    for text in texts:
        package, *rest = (Path(part) for part in text.split(":"))
        if len(rest) not in (1, 2) or "" in text.split(":"):
            raise ExportError(f"{text!r}: must be PACKAGE:GOOD_DIR or PACKAGE:GOOD_DIR:LABELS")
        products.append(workflow.Product(package, rest[0], tuple(rest[1:])))
    return products


def add_adclick_parser(commands: _Commands) -> None:
    parser = commands.add_parser(
        "train-adclick",
        help="train the network that turns clicks into masks",
        description="Train ADClick on synthetic defects and on masks of real ones: NAME.onnx, NAME.toml and "
        "NAME.safetensors, which `weakrest package add-adclick` puts into a package.",
    )
    parser.set_defaults(run=_train_adclick)
    parser.add_argument(
        "products",
        nargs="+",
        metavar="PACKAGE:GOOD_DIR[:LABELS]",
        help="package, its good pictures, and a label file with masks",
    )
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="phrases for each type of defect (JSON; default: none)"
    )
    parser.add_argument("--name", default="adclick", help="of the network (default: adclick)")
    _add_click_options(parser)


def add_seg_parser(commands: _Commands) -> None:
    parser = commands.add_parser(
        "train-seg",
        help="train a head on masks, as fine as they are",
        description="Train ADClick without clicks on synthetic defects and on masks, such as clicks made: a "
        "head of cells of 2 pixels (ADClick-Seg), NAME.onnx and NAME.toml, which `weakrest package add-head` "
        "puts into a package.",
    )
    parser.set_defaults(run=_train_seg)
    parser.add_argument(
        "products",
        nargs="+",
        metavar="PACKAGE:GOOD_DIR[:LABELS]",
        help="package without a head, its good pictures, and a label file with masks",
    )
    parser.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="phrases for each product, named as its package (JSON): the network is told which product it "
        "sees, and NAME-PRODUCT.onnx is the head of each (default: none)",
    )
    parser.add_argument("--name", default="adclick-seg", help="of the head (default: adclick-seg)")
    _add_click_options(parser)


def _add_click_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, metavar="N", help="of training (default: 600)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="existing directory to write to"
    )
    _add_common_options(parser)


def _train_adclick(options: argparse.Namespace) -> None:
    if not options.out.is_dir():
        raise ExportError(f"output directory {options.out} does not exist: create it first")

    from weakrest_export import (
        adclick_export,
        adclick_train,
        click_metrics,
        head_export,
        prompts,
        text,
        workflow,
    )

    _check_options(options, [options.name])
    settings = _click_settings(options)
    own = prompts.read(options.prompts) if options.prompts else {}
    encoder = text.TextEncoder()
    products = _products(options.products)
    with _work(options, options.out) as work:
        parts = _prepare_clicks(products, own, encoder.encode, options, work)
        samples = [sample for part in parts for sample in part]
        network = adclick_train.train(samples, settings, report=_show_steps)
        click_metrics.calibrated(network, samples, options.seed)
    shown = {kind for sample in samples for kind in (sample.type or "").split("+")}
    for kind in own.keys() - shown:
        print(f"note: {options.prompts}: no picture with a mask shows {kind}", file=sys.stderr)
    known = prompts.merged(own, prompts.SYNTHETIC)
    listed = [(kind, phrase) for kind, phrases in known.items() for phrase in phrases]
    vectors = encoder.encode([phrase for _, phrase in listed])
    exported = adclick_export.export(
        network,
        samples[0].residuals.backbone,
        name=options.name,
        prompts=[
            adclick_export.Prompt(*words, vector) for words, vector in zip(listed, vectors, strict=True)
        ],
        setting="clicks",
        source=workflow.describe(products, samples),
        license=options.license or head_export.LICENSE,
    )
    path = adclick_export.write(exported, options.out)
    print(
        f"{path}: {len(exported.model) / 1e6:.1f} MB, {len(listed)} prompts, trained on "
        f"{exported.manifest.source}, differs from PyTorch by {exported.difference:.0e}"
    )


def _train_seg(options: argparse.Namespace) -> None:
    if not options.out.is_dir():
        raise ExportError(f"output directory {options.out} does not exist: create it first")

    from weakrest_export import adclick_export, adclick_train, head_export, prompts, text, workflow

    products = _products(options.products)
    names = [f"{options.name}-{product.name}" for product in products] if options.prompts else [options.name]
    _check_options(options, names)
    settings = adclick_train.unclicked(_click_settings(options))
    words: list[Vectors | None] = [None] * len(products)
    if options.prompts:
        phrases = prompts.of_products(options.prompts, [product.name for product in products])
        encoder = text.TextEncoder()
        words = [encoder.encode(own) for own in phrases]
    with _work(options, options.out) as work:
        parts = _prepare_clicks(products, {}, None, options, work)
        samples = [
            sample
            for part, own in zip(parts, words, strict=True)
            for sample in adclick_train.of_product(part, own)
        ]
        network = adclick_train.train(samples, settings, report=_show_steps)
    # Without words one head is for all of them.
    for name, own in zip(names, words, strict=False):
        exported = adclick_export.export_head(
            network,
            samples[0].residuals.backbone,
            name=name,
            setting="seg",
            source=workflow.describe(products, samples),
            license=options.license or head_export.LICENSE,
            prompt=None if own is None else own[0],
        )
        path = head_export.write(exported, options.out)
        print(
            f"{path}: {len(exported.model) / 1e6:.1f} MB, trained on {exported.manifest.source}, "
            f"differs from PyTorch by {exported.difference:.0e}"
        )


def _check_options(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Raises ExportError for what would otherwise be found only after the work."""
    from weakrest_export import onnx_file

    for name in names:
        onnx_file.check_name(name)
    if options.seed < 0:
        raise ExportError(f"--seed {options.seed}: must not be negative")


def _click_settings(options: argparse.Namespace) -> "ClickSettings":
    from weakrest_export import adclick_train

    given = {} if options.steps is None else {"steps": options.steps}
    return adclick_train.Settings(seed=options.seed, **given)


def _prepare_clicks(
    products: "Sequence[Product]",
    phrases: "Phrases",
    encode: "Encode | None",
    options: argparse.Namespace,
    work: Path,
) -> "list[list[ClickSample]]":
    """What `workflow.prepare_clicks` gives for each product."""
    from weakrest_export import workflow

    labels = [workflow.read_labels(product, "auto")[0] for product in products]
    workflow.check(products)
    _note_passed_over(products)
    return [
        workflow.prepare_clicks(
            product,
            found,
            phrases,
            encode,
            work if len(products) == 1 else work / f"{at:02}-{product.name}",
            synthetics=options.synthetic,
            seed=options.seed,
            weakrest=options.weakrest,
            resume=options.resume,
        )
        for at, (product, found) in enumerate(zip(products, labels, strict=True))
    ]


def _show_steps(entry: Mapping[str, Any]) -> None:
    last = entry["step"] == entry["of"]
    if sys.stderr.isatty():
        line = f"step {entry['step']} of {entry['of']}, loss {entry['loss']:.4f}"
        print(f"\r\033[K{line}", end="\n" if last else "", file=sys.stderr, flush=True)
    elif last or entry["step"] % 100 == 0:
        print(f"step {entry['step']} of {entry['of']}, loss {entry['loss']:.4f}", file=sys.stderr, flush=True)


def _text_encoder(options: argparse.Namespace) -> None:
    from weakrest_export import text

    if not options.out.is_dir():
        raise ExportError(f"output directory {options.out} does not exist: create it first")
    path, difference = text.export(options.out)
    print(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, {text.source()}, "
        f"differs from PyTorch by {difference:.0e}"
    )


def add_text_encoder_parser(commands: _Commands) -> None:
    parser = commands.add_parser(
        "text-encoder",
        help="export the text encoder, for prompts in free words",
        description="Export all-MiniLM-L6-v2 to text-encoder.onnx and tokenizer.json, which `weakrest label "
        "--text-encoder DIR` reads.",
    )
    parser.set_defaults(run=_text_encoder)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="existing directory to write to"
    )


def _train_head(
    products: "list[Product]", options: argparse.Namespace, work: Path, out: Path, reads: "Reads"
) -> Path:
    """Trains a head for products with the options of the command line, and writes it to `out`."""
    # PyTorch takes seconds to import, which --help and usage errors need not wait for.
    from weakrest_export import head_export, train, workflow

    _check_options(options, [options.name])
    given = {key: getattr(options, key) for key in ("steps", "width", "depth")}
    settings = train.Settings(
        seed=options.seed,
        without=tuple(options.without),
        mixup=options.mixup,
        reads=reads,
        **{key: value for key, value in given.items() if value is not None},
    )
    if options.setting == "semirest":
        settings = train.semirest(settings)
    _note_passed_over(products)
    samples, setting = workflow.prepare_all(
        products,
        options.setting,
        work,
        synthetics=options.synthetic,
        seed=options.seed,
        weakrest=options.weakrest,
        resume=options.resume,
    )
    trained = train.train(samples, settings, work, options.resume, _show_progress)
    exported = head_export.export(
        trained.head,
        samples[0].residuals.backbone,
        name=options.name,
        setting=setting,
        source=workflow.describe(products, samples),
        license=options.license or head_export.LICENSE,
        window=settings.window,
        step=settings.stride,
        precision=options.precision,
    )
    path = head_export.write(exported, out)
    print(
        f"{path}: {len(exported.model) / 1e6:.1f} MB, {setting}, trained on {exported.manifest.source}, "
        f"differs from PyTorch by {exported.difference:.0e}"
    )
    return path


@contextmanager
def _work(options: argparse.Namespace, beside: Path) -> Iterator[Path]:
    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
        yield options.work
    elif options.resume:
        raise ExportError("--resume: name the directory with --work")
    else:
        # Residuals are large: where the package will be there is more room than where systems keep their
        # temporary files.
        with tempfile.TemporaryDirectory(prefix=".training-", dir=beside) as directory:
            yield Path(directory)


def _show_progress(entry: Mapping[str, Any]) -> None:
    done = f"step {entry['step']} of {entry['of']}, loss {entry['labeled_loss']:.4f}"
    if entry["guessed_loss"] is not None:
        done += f", guessed {entry['guessed_loss']:.4f}"
    checked = entry.get("validation_ap")
    if checked is not None:
        done += f", average precision on held-back synthetic defects {checked:.3f}"
    last = entry["step"] == entry["of"]
    if sys.stderr.isatty():
        print(f"\r\033[K{done}", end="\n" if last else "", file=sys.stderr, flush=True)
    elif last or "validation_ap" in entry:
        print(done, file=sys.stderr, flush=True)


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
    add_backbone_parser(commands)
    add_labels_parser(commands)
    add_synthesize_parser(commands)
    add_train_parser(commands)
    add_adclick_parser(commands)
    add_seg_parser(commands)
    add_text_encoder_parser(commands)
    return parser


def add_backbone_parser(commands: _Commands) -> None:
    backbone = commands.add_parser(
        "backbone",
        help="export a pretrained network's feature maps to ONNX",
        description="Export a pretrained network's feature maps, on one grid, to NAME.onnx and NAME.toml.",
    )
    backbone.set_defaults(run=_backbone)
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


def add_labels_parser(commands: _Commands) -> None:
    labels = commands.add_parser("labels", help="check or make label files")
    actions = labels.add_subparsers(required=True, metavar="ACTION")

    check = actions.add_parser("check", help="say what is wrong with a label file, or what it holds")
    check.set_defaults(run=_labels_check)
    check.add_argument("file", type=Path, metavar="FILE", help="label file (JSON Lines)")

    made = actions.add_parser(
        "from-dataset", help="make weak labels out of the masks of a labeled data set, for comparisons"
    )
    made.set_defaults(run=_labels_from_dataset)
    made.add_argument("--dataset", type=Path, required=True, metavar="DIR")
    made.add_argument("--format", required=True, metavar="F", help="as for `weakrest evaluate`")
    made.add_argument("--category", metavar="C", help="needed where the data set has several")
    made.add_argument(
        "--good", action="append", default=[], metavar="NAME", help="another name for folders of good parts"
    )
    made.add_argument("--kind", required=True, choices=["masks", "boxes", "rotated", "tags"])
    made.add_argument("--count", type=int, default=10, metavar="N", help="defective pictures (default: 10)")
    made.add_argument("--per-type", action="store_true", help="N of each kind of defect")
    made.add_argument("--seed", type=int, default=0, help="another one chooses other pictures (default: 0)")
    made.add_argument("--weakrest", type=Path, metavar="PATH", help="default: $WEAKREST, else on the PATH")

    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="label file to write")
    made.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")


def _note(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _note_passed_over(products: "Sequence[Product]") -> None:
    """Tells which pictures are not taken; folders without any are refused elsewhere."""
    from weakrest_export import pictures

    for product in products:
        with suppress(ExportError):
            _note(pictures.find(product.goods)[1])


def _labels_check(options: argparse.Namespace) -> None:
    from weakrest_export import labels

    found, problems = labels.check(options.file)
    for problem in problems[:-1]:
        print(f"weakrest-export: {problem}", file=sys.stderr)
    if problems:
        raise problems[-1]
    labels.check_masks(found)
    print(f"{options.file}: {labels.summary(found)}")


def _labels_from_dataset(options: argparse.Namespace) -> None:
    from weakrest_export import labels, splits, weak

    labels.check_writable(options.out, options.overwrite)
    category = splits.read_dataset(
        options.weakrest, options.dataset, options.format, options.category, options.good
    )
    _note(category.notes)
    samples = splits.choose_training_defects(category, options.count, options.per_type, options.seed)
    made = weak.weak_labels(samples, options.kind)
    labels.write(options.out, made, options.overwrite)
    print(f"{options.out}: {labels.summary(made)}")


def _synthesize(options: argparse.Namespace) -> None:
    from weakrest_export import pictures, synthetic

    sheet = options.contact_sheet
    if sheet is not None and sheet.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise ExportError(f"contact sheet {sheet}: its name must end in .jpg or .png")
    goods, notes = pictures.find(options.goods)
    _note(notes)
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


def add_synthesize_parser(commands: _Commands) -> None:
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
