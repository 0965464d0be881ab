"""From packages, good pictures and labels to what networks learn from."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from weakrest_export import adclick, adclick_train, blocks, labels, pasting, prompts, synthetic
from weakrest_export.errors import ExportError
from weakrest_export.files import read_text
from weakrest_export.labels import Area, Box, Label, Mask, Polygon, Rotated
from weakrest_export.program import call
from weakrest_export.residuals import INDEX, Residuals
from weakrest_export.samples import KINDS, Kind, Sample
from weakrest_export.settings import LabelSetting, SynthesisSettings
from weakrest_export.work import Product, Work

SEEN = 2.0
"""Least ratio of the lengths of residuals: of a synthetic defect, and of the good picture below it."""

Vectors = npt.NDArray[np.float32]
"""Of texts, `[n, 384]`."""

Encode = Callable[[Sequence[str]], Vectors]

_SHAPES = {Box: "boxes", Rotated: "rotated", Polygon: "blocks", Mask: "blocks"}


def read_labels(product: Product, setting: LabelSetting) -> tuple[list[Label], str]:
    """The labels that a head sees, and the setting's name. `auto` takes the name from the labels.

    Raises:
        ExportError: if a file is invalid, a picture is in two files, or a setting needs other labels.
    """
    found = [label for path in product.labels for label in labels.read(path)]
    labels.check_masks(found)
    seen: set[str] = set()
    for label in found:
        real = os.path.realpath(label.image)
        if real in seen:
            raise ExportError(f"{label.image} is in several label files: put its defects together in one")
        seen.add(real)
    if setting == "unsupervised":
        return [label for label in found if label.tag == "good"], setting

    defective = [label for label in found if label.tag == "defective"]
    kinds = {_SHAPES[type(defect)] for label in defective for defect in label.defects}
    if any(not label.defects for label in defective):
        kinds.add("tags")
    if setting == "auto":
        return found, "unsupervised" if not kinds else kinds.pop() if len(kinds) == 1 else "mixed"
    if not kinds:
        raise ExportError(f"setting {setting}: needs --labels with defective pictures")
    if setting == "tags":
        tagged = [Label(label.image, label.size, label.tag) for label in found]
        return tagged, setting
    if setting != "semirest" and kinds != {setting}:
        raise ExportError(
            f"setting {setting}: the labels are {' and '.join(sorted(kinds))}: use --setting auto, or make "
            "others with `weakrest-export labels`"
        )
    return found, setting


def check(products: Sequence[Product]) -> None:
    """Raises ExportError for what cannot work, before long work."""
    for product in products:
        _hash_of(product.package)
        synthetic.good_pictures(product.goods)


def prepare_all(products: Sequence[Product], setting: LabelSetting, work: Work) -> tuple[list[Sample], str]:
    """`prepare` for each product.

    Returns:
        All samples, and the name of the setting.

    Raises:
        ExportError: see `read_labels` and `prepare`.
    """
    read = [read_labels(product, setting) for product in products]
    check(products)
    samples: list[Sample] = []
    for at, (product, (found, _)) in enumerate(zip(products, read, strict=True)):
        samples += prepare(product, found, work.of(len(products), at, product))
    names = {name for _, name in read}
    return samples, names.pop() if len(names) == 1 else "mixed"


def prepare(product: Product, found: Sequence[Label], work: Work) -> list[Sample]:
    """Block labels and residuals of one product.

    Args and errors: see `_gather`.
    """
    gathered = _gather(product, found, work, see=False)
    read, samples = gathered.residuals, []
    numbers = {path: at for at, path in enumerate(gathered.goods)}
    for at, ((known, kind), picture) in enumerate(zip(gathered.labels, read.pictures, strict=True)):
        cells = blocks.Cells.of(vars(picture), read.stride)
        made = blocks.good(cells) if known is None else blocks.from_label(known, cells)
        if kind == "synthetic" and known is not None and known.leave_out is not None:
            origin = numbers[known.leave_out.resolve()]
            made = hide_unseen(made, read.read(at)[0], read.read(origin)[0])
        source = None
        if kind == "pasted" and known is not None:
            source = str(pasting.origin(known, gathered.placed).image.resolve())
        samples.append(Sample(read, at, made, kind, source))
    return samples


def prepare_clicks(
    product: Product,
    found: Sequence[Label],
    work: Work,
    phrases: prompts.Phrases | None = None,
    encode: Encode | None = None,
) -> list[adclick_train.Sample]:
    """Residuals, pictures and masks of one product, for ADClick.

    Pictures with nothing but boxes or tags are left out: a box does not say where the edge is. A box beside a
    mask makes its content unknown.

    Args:
        product: see `_gather`.
        found: see `_gather`.
        work: see `_gather`.
        phrases: of the product's types of defects. Those of synthetic defects are known.
        encode: gives the vectors of texts, see `text.TextEncoder.encode`; None: no prompts.

    Raises:
        ExportError: see `_gather`; if a mask cannot be read, or the backbone has another grid.
    """
    drawn = [
        label for label in found if label.tag == "good" or any(isinstance(d, Area) for d in label.defects)
    ]
    gathered = _gather(product, drawn, work, see=True)
    read = gathered.residuals
    if read.stride % adclick.BLOCK:
        raise ExportError(
            f"{product.package}: its blocks have {read.stride} pixels a side, but ADClick needs a multiple "
            f"of {adclick.BLOCK}: enroll with a backbone of --grid {adclick.BLOCK}"
        )
    samples = []
    for at, ((known, kind), picture) in enumerate(zip(gathered.labels, read.pictures, strict=True)):
        mask, words, boxes = None, list[str](), []
        if known is not None and known.tag == "defective":
            boxes = [defect.corners for defect in known.defects if not isinstance(defect, Area)]
            masks = [labels.read_mask(d, known.size) for d in known.defects if isinstance(d, Area)]
            mask = np.logical_or.reduce(masks)
            said = prompts.SYNTHETIC if kind == "synthetic" else phrases or {}
            words = prompts.phrases_of(known.kind, said)
        share = adclick_train.share_of(mask, vars(picture), read.stride, boxes)
        vectors = encode(words) if words and encode else np.zeros((0, adclick.PROMPT), np.float32)
        type = None if known is None else known.kind
        samples.append(adclick_train.Sample(read, at, share, kind, vectors, type))
    return samples


@dataclass(frozen=True)
class _Gathered:
    """Residuals of good pictures, of synthetic and pasted defects, and of labeled pictures, in that order.

    Attributes:
        residuals: of all.
        labels: label and kind of each picture.
        goods: paths of the good pictures.
        placed: labels whose defects were pasted.
    """

    residuals: Residuals
    labels: list[tuple[Label | None, Kind]]
    goods: list[Path]
    placed: list[Label]


def _gather(product: Product, found: Sequence[Label], work: Work, see: bool) -> _Gathered:
    """Makes synthetic defects, and residuals of all pictures.

    Args:
        product: to learn from.
        found: its labels, see `read_labels`.
        work: where and how.
        see: also keep what the backbone saw.

    Raises:
        ExportError: if something cannot be made, or `work.folder` holds another run.
    """
    goods = [path.resolve() for path in synthetic.good_pictures(product.goods)]
    held = held_out(goods, work)
    learned = [path for path in goods if path not in held]
    both = set(goods) & {label.image.resolve() for label in found if label.tag == "defective"}
    if both:
        raise ExportError(
            f"{min(both)} is labeled defective, but is one of the good pictures: remove it from "
            f"{product.goods} and enroll again"
        )
    if work.folder.is_dir() and any(work.folder.iterdir()) and not work.resume:
        raise ExportError(f"{work.folder} is not empty: choose another --work, or continue with --resume")
    work.folder.mkdir(parents=True, exist_ok=True)
    painted = _painted(learned, work) if work.synthetics else []
    placed = [label for label in found if label.defects]
    pasted = _pasted(placed, learned, work) if work.pasted and placed else []

    pictures: list[tuple[Label | None, Kind]] = [(None, "good")] * len(learned)
    lines = [{"image": str(path)} for path in learned]
    for label in [*painted, *pasted, *found]:
        line = {"image": str(label.image.resolve())}
        if label.leave_out is not None:
            line["leave_out"] = str(label.leave_out.resolve())
        lines.append(line)
    pictures += [(label, "synthetic") for label in painted]
    pictures += [(label, "pasted") for label in pasted]
    pictures += [(label, "good" if label.tag == "good" else "defective") for label in found]
    return _Gathered(_residuals(product, lines, work, see), pictures, learned, placed)


def _painted(goods: Sequence[Path], work: Work) -> list[Label]:
    """Labels of the synthetic defects; the pictures are made unless `work` has them."""
    index = work.folder / "synthetic" / synthetic.INDEX
    seeded = work.folder / "synthetic-seed"
    if not index.is_file():
        settings = SynthesisSettings(work.synthetics, work.seed)
        synthetic.synthesize(goods, index.parent, settings, overwrite=work.resume)
        seeded.write_text(f"{work.seed}\n", "utf-8")
    elif seeded.is_file() and read_text(seeded).strip() != str(work.seed):
        raise ExportError(
            f"{index.parent}: painted with seed {read_text(seeded).strip()}, not {work.seed}: "
            "train without --resume"
        )
    painted = labels.read(index)
    if len(painted) != work.synthetics:
        raise ExportError(
            f"{index}: has {len(painted)} pictures, not {work.synthetics}: train without --resume"
        )
    return painted


def _pasted(found: Sequence[Label], goods: Sequence[Path], work: Work) -> list[Label]:
    """Labels of the good pictures with labeled defects; the pictures are made unless `work` has them."""
    folder = work.folder / "pasted"
    index = folder / pasting.INDEX
    if index.is_file():
        return labels.read(index)
    return pasting.paste(found, goods, folder, work.pasted, work.seed)


LEARNED = 160
"""Good pictures that a head learns from at most. More teach it little, but make its threshold surer."""

FEWEST_HELD_OUT = 5
"""With fewer, the threshold of so few pictures would miss more than that of all, which training has seen."""


def held_out(goods: Sequence[Path], work: Work) -> set[Path]:
    """The good pictures that training does not see: at least a fifth.

    A head knows the pictures that it has learned from: their scores would promise too much.
    """
    count = max(len(goods) - LEARNED, len(goods) // 5)
    if not work.hold_out or count < FEWEST_HELD_OUT:
        return set()
    order = np.random.default_rng(work.seed).permutation(len(goods))
    return {goods[at] for at in order[:count]}


def calibration(product: Product, work: Work) -> Path:
    """The folder of good pictures that set the threshold: links to those held out, or the product's own."""
    goods = [path.resolve() for path in synthetic.good_pictures(product.goods)]
    held = held_out(goods, work)
    if not held:
        return product.goods
    folder = work.folder / "held-out"
    folder.mkdir(parents=True, exist_ok=True)
    for at, path in enumerate(goods):
        link = folder / f"{at:06}{path.suffix}"
        if path in held and not link.is_symlink():
            link.symlink_to(path)
    return folder


def hide_unseen(made: blocks.Labels, painted: Tensor, origin: Tensor) -> blocks.Labels:
    """Block labels without defects that left no trace in the residuals: those blocks are ignored.

    Paint that the backbone hardly sees looks like the variation of good parts. A head that learned to call it
    a defect would find defects in good parts of another day.

    Args:
        made: `[rows, cols]`, block labels.
        painted: residuals `[rows, cols, channels]` of the picture with synthetic defects.
        origin: residuals of the good picture below, which is left out of its own matching.
    """
    before, after = (part.float().square().mean(-1).sqrt().numpy() for part in (origin, painted))
    return np.where((made == blocks.POSITIVE) & (after < SEEN * before), blocks.IGNORED, made).astype(np.int8)


def _residuals(product: Product, lines: Sequence[dict[str, str]], work: Work, see: bool) -> Residuals:
    """Residuals of the listed pictures, in the list's order; computed unless `work` has them."""
    listed, folder = work.folder / "pictures.jsonl", work.folder / "residuals"
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if listed.is_file() and listed.read_text("utf-8") != text:
        raise ExportError(f"{listed}: an earlier run had other pictures: train without --resume")
    listed.write_text(text, "utf-8")
    if not (folder / INDEX).is_file():
        if folder.is_dir():
            # A folder without an index is of a stopped run.
            shutil.rmtree(folder)
        command = ["residuals", str(product.package), "--list", str(listed), "--output", str(folder)]
        call(work.weakrest, command + (["--pictures"] if see else []))
    read = Residuals(folder, _hash_of(product.package))
    if [picture.image for picture in read.pictures] != [line["image"] for line in lines]:
        raise ExportError(f"{folder / INDEX}: not of the pictures in {listed}: train without --resume")
    return read


def _hash_of(package: Path) -> str:
    manifest = package / "package.toml"
    try:
        return hashlib.sha256(manifest.read_bytes()).hexdigest()
    except OSError as error:
        raise ExportError(f"{package} is not a package: cannot read {manifest.name}: {error}") from error


def add_head(
    product: Product, goods: Path, head: Path, out: Path, overwrite: bool, weakrest: Path | None
) -> None:
    """Writes a copy of the product's package with a head. The pictures in `goods` set its threshold.

    Raises:
        ExportError: see `program.call`.
    """
    arguments = ["package", "add-head", str(product.package), "--head", str(head)]
    arguments += ["--images", str(goods), "--output", str(out)]
    call(weakrest, arguments + (["--overwrite"] if overwrite else []))


def describe(products: Sequence[Product], samples: Sequence[Sample] | Sequence[adclick_train.Sample]) -> str:
    """What a network was trained on, for its manifest: counts, and the packages' names.

    Pasted defects are those of the labeled pictures, and are not counted.
    """
    counts = [
        f"{sum(sample.kind == kind for sample in samples)} {kind}"
        for kind in KINDS
        if kind != "pasted" and any(sample.kind == kind for sample in samples)
    ]
    names = ", ".join(product.name for product in products)
    return f"{', '.join(counts)} pictures of {names}"
