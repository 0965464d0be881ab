"""A picture that defects are painted on, and the part of it that one defect covers."""

from collections.abc import Callable
from dataclasses import dataclass

from weakrest_export.raster import Float, Mask, Rng


@dataclass
class Scene:
    """A picture while it is painted on.

    Attributes:
        pixels: `[height, width, 1 or 3]`, 0..255.
        foreground: `[height, width]`, where defects may be.
        background: color `[1 or 3]` around the object; None where the whole picture is foreground.
        other: draws another good picture's pixels, to take foreign texture from.
    """

    pixels: Float
    foreground: Mask
    background: Float | None
    other: Callable[[Rng], Float]

    @property
    def unit(self) -> float:
        """Pixels per "pixel" of lines and spots: they grow with pictures that are larger than 512."""
        return float(max(512, *self.foreground.shape) / 512)


@dataclass
class Site:
    """The part of a scene that a defect covers, for fills.

    Attributes:
        patch: the scene's pixels there, `[height, width, 1 or 3]`.
        alpha: how much of the fill shows, `[height, width]`, 0..1.
        top: of the patch in the scene.
        left: of the patch in the scene.
    """

    scene: Scene
    patch: Float
    alpha: Float
    top: int
    left: int
