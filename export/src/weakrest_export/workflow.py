"""From packages, good pictures and labels to trained heads: what `weakrest-export train` runs."""

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

from weakrest_export import adclick, adclick_train, blocks, labels, prompts, synthetic, train
from weakrest_export.errors import ExportError
from weakrest_export.files import read_text
from weakrest_export.labels import Box, Label, Mask, Rotated
from weakrest_export.residuals import INDEX, Residuals
from weakrest_export.splits import call
from weakrest_export.train import Kind, Sample

SETTINGS = ("auto", "unsupervised", "tags", "boxes", "rotated", "blocks", "semirest")

SEEN = 2.0
"""Residuals of a synthetic defect must be so many times as long as those of the good picture beneath."""

Vectors = npt.NDArray[np.float32]
"""Of texts, `[n, 384]`."""

Encode = Callable[[Sequence[str]], Vectors]

_SHAPES = {Box: "boxes", Rotated: "rotated", Mask: "blocks"}


@dataclass(frozen=True)
class Product:
    """What a head learns one product from.

    Attributes:
        package: directory of the package without a head.
        goods: directory of the good pictures that were enrolled.
        labels: label files.
    """

    package: Path
    goods: Path
    labels: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The package's, as its directory is called."""
        return self.package.resolve().stem


def read_labels(product: Product, setting: str) -> tuple[list[Label], str]:
    """The labels that a setting lets a head see, and the setting's name, which `auto` takes from them.

    Raises:
        ExportError: if a file is invalid, a picture is in two of them, or a setting needs other labels.
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
    """Raises ExportError for what cannot work, before anybody waits for synthetic pictures."""
    for product in products:
        _hash_of(product.package)
        synthetic.good_pictures(product.goods)


def prepare_all(
    products: Sequence[Product],
    setting: str,
    work: Path,
    *,
    synthetics: int,
    seed: int,
    weakrest: Path | None,
    resume: bool = False,
) -> tuple[list[Sample], str]:
    """`prepare` for each product, in `work` itself or, if there are several, in directories there.

    Returns:
        All samples, and the name of the setting.

    Raises:
        ExportError: see `read_labels` and `prepare`.
    """
    read = [read_labels(product, setting) for product in products]
    check(products)
    samples: list[Sample] = []
    for at, (product, (found, _)) in enumerate(zip(products, read, strict=True)):
        samples += prepare(
            product,
            found,
            work if len(products) == 1 else work / f"{at:02}-{product.name}",
            synthetics=synthetics,
            seed=seed,
            weakrest=weakrest,
            resume=resume,
        )
    names = {name for _, name in read}
    return samples, names.pop() if len(names) == 1 else "mixed"


def prepare(
    product: Product,
    found: Sequence[Label],
    work: Path,
    *,
    synthetics: int,
    seed: int,
    weakrest: Path | None,
    resume: bool = False,
) -> list[Sample]:
    """Synthetic defects, residuals and block labels of one product, in that order.

    Args and errors: see `_gather`.
    """
    read, pictures, goods = _gather(product, found, work, synthetics, seed, weakrest, resume, see=False)
    samples = []
    numbers = {path: at for at, path in enumerate(goods)}
    for at, ((known, kind), picture) in enumerate(zip(pictures, read.pictures, strict=True)):
        cells = blocks.Cells.of(vars(picture), read.stride)
        made = blocks.good(cells) if known is None else blocks.from_label(known, cells)
        if kind == "synthetic" and known is not None and known.leave_out is not None:
            origin = numbers[known.leave_out.resolve()]
            made = hide_unseen(made, read.read(at)[0], read.read(origin)[0])
        samples.append(Sample(read, at, made, kind))
    return samples


def prepare_clicks(
    product: Product,
    found: Sequence[Label],
    phrases: prompts.Phrases,
    encode: Encode | None,
    work: Path,
    *,
    synthetics: int,
    seed: int,
    weakrest: Path | None,
    resume: bool = False,
) -> list[adclick_train.Sample]:
    """Synthetic defects, residuals, pictures and masks of one product, for ADClick.

    Pictures whose defects are only boxed or tagged are left out: a box does not say where the edge is. Boxes
    beside a mask hide what is in them.

    Args:
        product: see `_gather`.
        found: see `_gather`.
        phrases: of its types of defects; those of synthetic ones are known.
        encode: gives the vectors of texts, see `text.TextEncoder.encode`; None: nothing is said.
        work: see `_gather`.
        synthetics: see `_gather`.
        seed: see `_gather`.
        weakrest: see `_gather`.
        resume: see `_gather`.

    Raises:
        ExportError: see `_gather`, or when a mask cannot be read, or the backbone has another grid.
    """
    drawn = [
        label for label in found if label.tag == "good" or any(isinstance(d, Mask) for d in label.defects)
    ]
    read, pictures, _ = _gather(product, drawn, work, synthetics, seed, weakrest, resume, see=True)
    if read.stride != adclick.BLOCK:
        raise ExportError(
            f"{product.package}: its blocks have {read.stride} pixels a side, but ADClick needs "
            f"{adclick.BLOCK}: enroll with a backbone of --grid {adclick.BLOCK}"
        )
    samples = []
    for at, ((known, kind), picture) in enumerate(zip(pictures, read.pictures, strict=True)):
        mask, words, boxes = None, list[str](), []
        if known is not None and known.tag == "defective":
            boxes = [defect.corners for defect in known.defects if not isinstance(defect, Mask)]
            masks = [labels.read_mask(d, known.size) for d in known.defects if isinstance(d, Mask)]
            mask = np.logical_or.reduce(masks)
            words = prompts.phrases_of(known.type, prompts.SYNTHETIC if kind == "synthetic" else phrases)
        share = adclick_train.share_of(mask, vars(picture), read.stride, boxes)
        vectors = encode(words) if words and encode else np.zeros((0, adclick.PROMPT), np.float32)
        type = None if known is None else known.type
        samples.append(adclick_train.Sample(read, at, share, kind, vectors, type))
    return samples


def _gather(
    product: Product,
    found: Sequence[Label],
    work: Path,
    synthetics: int,
    seed: int,
    weakrest: Path | None,
    resume: bool,
    see: bool,
) -> tuple[Residuals, list[tuple[Label | None, Kind]], list[Path]]:
    """Residuals of good pictures, of synthetic defects, and of labeled pictures, in that order.

    Args:
        product: to learn from.
        found: its labels, see `read_labels`.
        work: directory for all that is made on the way; it may exist, empty.
        synthetics: pictures with synthetic defects to make.
        seed: of these.
        weakrest: see `splits.call`.
        resume: use what an earlier run left in `work`, where it is complete.
        see: whether what the backbone saw is wanted, too.

    Returns:
        The residuals, for each of their pictures its label and kind, and the good pictures' paths.

    Raises:
        ExportError: if something cannot be made, or `work` holds what is not to be continued.
    """
    goods = [path.resolve() for path in synthetic.good_pictures(product.goods)]
    both = set(goods) & {label.image.resolve() for label in found if label.tag == "defective"}
    if both:
        raise ExportError(
            f"{min(both)} is labeled defective, but lies among the good pictures: take it out of "
            f"{product.goods} and enroll again"
        )
    if work.is_dir() and any(work.iterdir()) and not resume:
        raise ExportError(f"{work} is not empty: choose another --work, or continue with --resume")
    work.mkdir(parents=True, exist_ok=True)

    painted: list[Label] = []
    if synthetics:
        index = work / "synthetic" / synthetic.INDEX
        seeded = work / "synthetic-seed"
        if not index.is_file():
            synthetic.synthesize(goods, index.parent, synthetics, seed, overwrite=resume)
            seeded.write_text(f"{seed}\n", "utf-8")
        elif seeded.is_file() and read_text(seeded).strip() != str(seed):
            raise ExportError(
                f"{index.parent}: painted with seed {read_text(seeded).strip()}, not {seed}: "
                "train without resuming"
            )
        painted = labels.read(index)
        if len(painted) != synthetics:
            raise ExportError(
                f"{index}: has {len(painted)} pictures, not {synthetics}: train without resuming"
            )

    pictures: list[tuple[Label | None, Kind]] = [(None, "good")] * len(goods)
    lines = [{"image": str(path)} for path in goods]
    for label in [*painted, *found]:
        line = {"image": str(label.image.resolve())}
        if label.leave_out is not None:
            line["leave_out"] = str(label.leave_out.resolve())
        lines.append(line)
    pictures += [(label, "synthetic") for label in painted]
    pictures += [(label, "good" if label.tag == "good" else "defective") for label in found]
    return _residuals(product, lines, work, weakrest, see), pictures, goods


def hide_unseen(made: blocks.Labels, painted: Tensor, origin: Tensor) -> blocks.Labels:
    """Block labels without defects that left no trace in the residuals: those blocks are ignored.

    Paint that the backbone hardly sees looks like the variation of good parts. A head that had to call it a
    defect would find defects in good parts of another day.

    Args:
        made: `[rows, cols]`, block labels.
        painted: residuals `[rows, cols, channels]` of the picture with synthetic defects.
        origin: residuals of the good picture that it was painted on, which is left out of its own matching.
    """
    before, after = (part.float().square().mean(-1).sqrt().numpy() for part in (origin, painted))
    return np.where((made == blocks.POSITIVE) & (after < SEEN * before), blocks.IGNORED, made).astype(np.int8)


def _residuals(
    product: Product, lines: Sequence[dict[str, str]], work: Path, weakrest: Path | None, see: bool
) -> Residuals:
    """Residuals of the listed pictures, in the list's order; computed unless `work` has them."""
    listed, folder = work / "pictures.jsonl", work / "residuals"
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if listed.is_file() and listed.read_text("utf-8") != text:
        raise ExportError(f"{listed}: an earlier run had other pictures: train without resuming")
    listed.write_text(text, "utf-8")
    if not (folder / INDEX).is_file():
        if folder.is_dir():
            # Without an index: of a run that was stopped.
            shutil.rmtree(folder)
        command = ["residuals", str(product.package), "--list", str(listed), "--output", str(folder)]
        call(weakrest, command + (["--pictures"] if see else []))
    read = Residuals(folder, _hash_of(product.package))
    if [picture.image for picture in read.pictures] != [line["image"] for line in lines]:
        raise ExportError(f"{folder / INDEX}: not of the pictures in {listed}: train without resuming")
    return read


def _hash_of(package: Path) -> str:
    manifest = package / "package.toml"
    try:
        return hashlib.sha256(manifest.read_bytes()).hexdigest()
    except OSError as error:
        raise ExportError(f"{package} is not a package: cannot read {manifest.name}: {error}") from error


def add_head(product: Product, head: Path, out: Path, overwrite: bool, weakrest: Path | None) -> None:
    """Writes a copy of the product's package with a head, whose threshold its good pictures set.

    Raises:
        ExportError: see `splits.call`.
    """
    arguments = ["package", "add-head", str(product.package), "--head", str(head)]
    arguments += ["--images", str(product.goods), "--output", str(out)]
    call(weakrest, arguments + (["--overwrite"] if overwrite else []))


def describe(products: Sequence[Product], samples: Sequence[Sample] | Sequence[adclick_train.Sample]) -> str:
    """What a network was trained on, for its manifest: counts, and the packages' names."""
    counts = [
        f"{sum(sample.kind == kind for sample in samples)} {kind}"
        for kind in train.KINDS
        if any(sample.kind == kind for sample in samples)
    ]
    names = ", ".join(product.name for product in products)
    return f"{', '.join(counts)} pictures of {names}"
