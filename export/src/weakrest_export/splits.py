"""Lists labeled data sets with the `weakrest` program, and chooses defects to learn from."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from weakrest_export.errors import Exit, ExportError
from weakrest_export.labels import Mask, is_empty
from weakrest_export.program import call
from weakrest_export.settings import ChoiceSettings


@dataclass(frozen=True)
class Sample:
    """A picture of the test split.

    Attributes:
        image: path of the picture.
        defect: kind of defect; None for a good part.
        mask: of the defect; None for a good part, and if the data set has no masks.
    """

    image: Path
    defect: str | None
    mask: Mask | None


@dataclass(frozen=True)
class Category:
    """The pictures of one product.

    Attributes:
        name: in the data set.
        train: good pictures to enroll, at least one.
        test: good and defective pictures to judge.
        notes: on skipped files and suspicious pictures, for people.
    """

    name: str
    train: tuple[Path, ...]
    test: tuple[Sample, ...]
    notes: tuple[str, ...]


def read_dataset(
    weakrest: Path | None, path: Path, format: str, category: str | None = None, good: Sequence[str] = ()
) -> Category:
    """Lists one category of a data set.

    Args:
        weakrest: see `program.call`.
        path: the data set's folder.
        format: name of its layout, as for `weakrest evaluate --format`.
        category: its name; required if there are several.
        good: more names of folders of good parts.

    Raises:
        ExportError: see `program.call`; if the category is not clear or has no good pictures.
    """
    arguments = ["evaluate", "--dataset", str(path), "--format", format, "--list"]
    arguments += [word for name in good for word in ("--good", name)]
    text = call(weakrest, arguments + (["--category", category] if category else []))
    try:
        categories = [
            Category(
                found["name"],
                tuple(Path(image) for image in found["train"]),
                tuple(
                    Sample(
                        Path(sample["image"]),
                        sample["defect"],
                        sample["mask"] and Mask(Path(sample["mask"]["path"]), sample["mask"]["rule"]),
                    )
                    for sample in found["test"]
                ),
                tuple(found["notes"]),
            )
            for found in json.loads(text)["categories"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"cannot read the output of `weakrest {' '.join(arguments)}` ({error!r}): "
            "use the program and this package in the same version",
            Exit.FAULT,
        ) from error
    if len(categories) != 1:
        names = ", ".join(found.name for found in categories) or "none"
        raise ExportError(f"choose a category of {path} with --category: {names}")
    if not categories[0].train:
        raise ExportError(
            f"category {categories[0].name} of {path} has no good pictures to enroll: "
            "add some, or choose another category"
        )
    return categories[0]


def choose_training_defects(category: Category, choice: ChoiceSettings) -> list[Sample]:
    """Chooses defective pictures to learn from, as evenly from the kinds of defect as their numbers allow.

    The choice depends on the order of the paths and the seed, not on where the data set is. Pictures with an
    empty mask are skipped: they do not say where their defect is.

    Returns:
        Sorted by path.

    Raises:
        ExportError: if there are not enough, or a mask cannot be read.
    """
    count = choice.count
    kinds: dict[str, list[Sample]] = {}
    for sample in sorted(category.test, key=lambda sample: sample.image):
        if sample.defect is not None and not (sample.mask and is_empty(sample.mask)):
            kinds.setdefault(sample.defect, []).append(sample)
    rng = random.Random(choice.seed)
    order = sorted(kinds)
    for kind in order:
        rng.shuffle(kinds[kind])
    rng.shuffle(order)
    if choice.per_type:
        few = min(order, key=lambda kind: len(kinds[kind]), default=None)
        if few is None or len(kinds[few]) < count:
            have = f"{len(kinds[few])} of {few}" if few else "none"
            raise ExportError(
                f"category {category.name} has {have}, not {count} of each kind of defect: lower --count"
            )
        chosen = [sample for kind in order for sample in kinds[kind][:count]]
    else:
        # In rounds: the first of each kind, then the second of each kind, and so on.
        ranked = [(turn, i) for i, kind in enumerate(order) for turn in range(len(kinds[kind]))]
        if len(ranked) < count:
            raise ExportError(
                f"category {category.name} has {len(ranked)} defective pictures, not {count}: lower --count"
            )
        chosen = [kinds[order[i]][turn] for turn, i in sorted(ranked)[:count]]
    return sorted(chosen, key=lambda sample: sample.image)
