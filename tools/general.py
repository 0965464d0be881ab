"""Trains a network that ships: `make general-head`, `make general-adclick`, `make general-adclick-scales`.

Needs WEAKREST_DATA and the Python environment. The products are hazelnuts and wooden boards (CC BY 4.0), and
pieces of photographs of brick, grass and gravel (CC0) as they would look on different days. None has a real
defect.
"""

import argparse
import os
import random
import subprocess
from pathlib import Path

from experiments import BINARY, goods
from PIL import Image, ImageOps

PHOTOGRAPHS = Path("target/photographs")
WORK = Path("target/general").resolve()
PIECES = 60
# Level of quality to enroll with, side of the photographs' pieces, command of `weakrest-export`.
COMMANDS = {
    "head": ("fast", 256, ["train-general", "--width", "64", "--name", "general-head"]),
    "adclick": ("fast", 256, ["train-adclick", "--name", "adclick", "--steps", "500"]),
    "adclick-scales": ("standard", 320, ["train-adclick", "--name", "adclick-scales", "--steps", "500"]),
}


def cut(photograph: Path, side: int, folder: Path) -> None:
    """Cuts random pieces, some mirrored, each under another light."""
    draw = random.Random(photograph.stem)
    whole = Image.open(photograph).convert("L")
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(PIECES):
        x, y = draw.randrange(whole.width - side + 1), draw.randrange(whole.height - side + 1)
        piece = whole.crop((x, y, x + side, y + side))
        if draw.random() < 0.5:
            piece = ImageOps.mirror(piece)
        gain, offset = draw.gauss(1, 0.03), draw.gauss(0, 2)
        table = [round(min(255, max(0, (value - 127) * gain + 127 + offset))) for value in range(256)]
        piece.point(table).save(folder / f"{number:03}.png")


def enrolled(quality: str, side: int, work: Path) -> list[str]:
    """Enrolls the products. Returns `PACKAGE:GOOD_DIR` of each, for `weakrest-export`."""
    products = {name: goods(name) for name in ("hazelnut", "wood")}
    for photograph in sorted(PHOTOGRAPHS.glob("*.png")):
        products[photograph.stem] = work / "goods" / photograph.stem
        cut(photograph, side, products[photograph.stem])
    arguments = []
    for name, folder in products.items():
        package = work / f"{name}.weakrest"
        command = [BINARY, "enroll", "--quality", quality, "--images", folder, "--output", package]
        subprocess.run([*command, "--any-size", "--overwrite"], check=True)
        arguments.append(f"{package}:{folder}")
    return arguments


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a network that ships, into models/.")
    parser.add_argument("network", choices=COMMANDS)
    network = parser.parse_args().network
    quality, side, command = COMMANDS[network]
    work = WORK / network
    work.mkdir(parents=True, exist_ok=True)
    if network != "head":
        command += ["--work", str(work / "training"), "--resume"]
    trainer = Path("target/venv/bin/weakrest-export")
    common = ["--synthetic", "250", "--license", "MIT OR Apache-2.0", "--out", "models"]
    environment = {**os.environ, "WEAKREST": str(BINARY)}
    subprocess.run([trainer, *command, *enrolled(quality, side, work), *common], check=True, env=environment)


if __name__ == "__main__":
    main()
