#!/usr/bin/env python3
"""Pictures in other light and with noise: `vary_light.py PICTURES OUT`.

OUT gets one folder per change, with a changed copy of each picture of the folder PICTURES. So
`weakrest inspect PACKAGE OUT/gain-1.4` counts the good parts that are rejected in other light.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def slope(share: float) -> Change:
    """From `1 - share` at the left edge to `1 + share` at the right one."""

    def change(picture: np.ndarray, _: np.random.Generator) -> np.ndarray:
        width = picture.shape[1]
        across = 2 * (np.arange(width) + 0.5) / width - 1
        return picture * (1 + share * across).reshape(1, width, *[1] * (picture.ndim - 2))

    return change


def gain(factor: float) -> Change:
    return lambda picture, _: picture * factor


def noise(deviation: float) -> Change:
    return lambda picture, random: picture + random.normal(0, deviation, picture.shape)


CHANGES: dict[str, Change] = {
    "gain-0.8": gain(0.8),
    "gain-1.2": gain(1.2),
    "gain-1.4": gain(1.4),
    "slope+25": slope(0.25),
    "slope-25": slope(-0.25),
    "noise-4": noise(4),
}


def main() -> None:
    pictures, out = Path(sys.argv[1]), Path(sys.argv[2])
    for name, change in CHANGES.items():
        folder = out / name
        folder.mkdir(parents=True)
        for number, path in enumerate(sorted(pictures.iterdir())):
            picture = np.asarray(Image.open(path), np.float64)
            changed = change(picture, np.random.default_rng(number))
            pixels = np.clip(np.round(changed), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{path.stem}.png")


if __name__ == "__main__":
    main()
