"""The products that shipped networks are trained on, none of them with a real defect.

Hazelnuts and wooden boards (CC BY 4.0), and pieces of photographs of brick, grass and gravel (CC0) as they would be taken
on different days.
"""

import os
import random
import subprocess
from pathlib import Path

from PIL import Image, ImageOps

BINARY = Path(os.environ.get("WEAKREST", "target/release/weakrest")).resolve()
PHOTOGRAPHS = Path("target/photographs")
WORK = Path("target/general").resolve()
SIDE = 256
PIECES = 60


def cut(photograph: Path, goods: Path) -> None:
    """Random pieces, some mirrored, each with a light of its own."""
    draw = random.Random(photograph.stem)
    whole = Image.open(photograph).convert("L")
    goods.mkdir(parents=True, exist_ok=True)
    for number in range(PIECES):
        x, y = draw.randrange(whole.width - SIDE + 1), draw.randrange(whole.height - SIDE + 1)
        piece = whole.crop((x, y, x + SIDE, y + SIDE))
        if draw.random() < 0.5:
            piece = ImageOps.mirror(piece)
        gain, offset = draw.gauss(1, 0.03), draw.gauss(0, 2)
        table = [round(min(255, max(0, (value - 127) * gain + 127 + offset))) for value in range(256)]
        piece.point(table).save(goods / f"{number:03}.png")


def enrolled() -> list[str]:
    """Enrolls them; `PACKAGE:GOOD_DIR` of each, as `weakrest-export` takes it."""
    data = Path(os.environ["WEAKREST_DATA"])
    products = {
        "hazelnut": data / "hazelnut_toy/hazelnut/train/good",
        "wood": data / "wood_surface_defects/wood/train/good",
    }
    for photograph in sorted(PHOTOGRAPHS.glob("*.png")):
        products[photograph.stem] = WORK / "goods" / photograph.stem
        cut(photograph, products[photograph.stem])
    arguments = []
    for name, goods in products.items():
        package = WORK / f"{name}.weakrest"
        command = [BINARY, "enroll", "--images", goods, "--output", package, "--any-size", "--overwrite"]
        subprocess.run(command, check=True)
        arguments.append(f"{package}:{goods}")
    return arguments


def train(command: str, *options: str) -> None:
    """Trains one network on all of them, into `models`."""
    trainer = Path("target/venv/bin/weakrest-export")
    common = ["--synthetic", "250", "--license", "MIT OR Apache-2.0", "--out", "models"]
    environment = {**os.environ, "WEAKREST": str(BINARY)}
    subprocess.run([trainer, command, *enrolled(), *common, *options], check=True, env=environment)
