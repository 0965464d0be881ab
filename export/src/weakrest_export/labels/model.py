"""Labels of pictures: tags and defects."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from weakrest_export.mask_files import Rule
from weakrest_export.pictures import Size
from weakrest_export.shapes import Points

Tag = Literal["good", "defective"]


@dataclass(frozen=True)
class Box:
    """An upright box inside its picture. `type` is that of its defect, where it has one of its own."""

    left: float
    top: float
    right: float
    bottom: float
    type: str | None = None

    @property
    def corners(self) -> Points:
        """`[4, 2]`, clockwise from the left top."""
        x0, y0, x1, y1 = self.left, self.top, self.right, self.bottom
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


@dataclass(frozen=True)
class Rotated:
    """A convex shape of four corners. Its center is in the picture; corners may be outside, at the rim."""

    points: tuple[tuple[float, float], ...]
    type: str | None = None

    @property
    def corners(self) -> Points:
        """`[4, 2]`, in the order of drawing."""
        return np.array(self.points, dtype=np.float64)


@dataclass(frozen=True)
class Polygon:
    """At least three corners inside the picture. Pixels with their centers inside are defective."""

    points: tuple[tuple[float, float], ...]
    type: str | None = None


@dataclass(frozen=True)
class Mask:
    """A picture of the defective pixels.

    Attributes:
        path: of the file.
        rule: which values are defective, see `mask_files.read`.
        type: of the defect, where it has one of its own.
    """

    path: Path
    rule: Rule = "above-half"
    type: str | None = None


Area = Polygon | Mask
"""What says of each pixel whether it is defective: `read_mask` reads it."""
Defect = Box | Rotated | Area

_NAMES = (
    (Box, "upright boxes"),
    (Rotated, "rotated boxes"),
    (Polygon, "polygons"),
    (Mask, "masks"),
)


@dataclass(frozen=True)
class Label:
    """What is known about a picture.

    Attributes:
        image: path, absolute or relative to the working directory.
        size: of the picture, as viewers show it.
        tag: good or defective.
        defects: where they are; empty for a good picture, and for a defective picture with only a tag.
        type: of the defects without one of their own, where known.
        seconds: time spent on labeling, where known.
        leave_out: the enrolled picture that a synthetic one was made from.
    """

    image: Path
    size: Size
    tag: Tag
    defects: tuple[Defect, ...] = ()
    type: str | None = None
    seconds: float | None = None
    leave_out: Path | None = None

    @property
    def kind(self) -> str | None:
        """The types of its defects in one word, where known."""
        kinds = [defect.type or self.type for defect in self.defects] or [self.type]
        return "+".join(dict.fromkeys(kind for kind in kinds if kind)) or None


def summary(labels: Sequence[Label]) -> str:
    """The number of labels of each kind, for messages."""
    shapes = [defect for label in labels for defect in label.defects]
    tagged = sum(label.tag == "defective" and not label.defects for label in labels)
    counts = {"pictures": len(labels)}
    counts |= {tag: sum(label.tag == tag for label in labels) for tag in get_args(Tag)}
    counts |= {name: sum(isinstance(shape, kind) for shape in shapes) for kind, name in _NAMES}
    counts |= {"only tagged": tagged, "seconds": round(sum(label.seconds or 0 for label in labels))}
    return ", ".join(f"{name} {n}" for name, n in counts.items() if n)
