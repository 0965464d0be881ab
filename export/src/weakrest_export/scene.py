"""A picture to paint defects on, and the part under one defect."""

from collections.abc import Callable
from dataclasses import dataclass

from weakrest_export.raster import Float, Mask, Rng


@dataclass
class Scene:
    """A picture to paint on.

    Attributes:
        pixels: `[height, width, 1 or 3]`, 0..255.
        foreground: `[height, width]`, where defects are allowed.
        background: color `[1 or 3]` around the object; None if the whole picture is foreground.
        other: pixels of a random good picture, for foreign texture.
    """

    pixels: Float
    foreground: Mask
    background: Float | None
    other: Callable[[Rng], Float]

    @property
    def unit(self) -> float:
        """Scale of lines and spots: they grow with pictures larger than 512."""
        return float(max(512, *self.foreground.shape) / 512)


@dataclass
class Site:
    """The part of a scene under a defect, for fills.

    Attributes:
        patch: pixels of the scene there, `[height, width, 1 or 3]`.
        alpha: opacity of the fill, `[height, width]`, 0..1.
        top: row of the patch in the scene.
        left: column of the patch in the scene.
    """

    scene: Scene
    patch: Float
    alpha: Float
    top: int
    left: int
