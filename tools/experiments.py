"""What the measurements of docs/lab-notebook.md share: products, packages, judging, Markdown."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

BINARY = Path(os.environ.get("WEAKREST", "target/release/weakrest")).resolve()
HEADS = Path("target/heads").resolve()
CLICKS = Path("target/clicks").resolve()
SYNTHETIC = 400
# Folder below WEAKREST_DATA, defective pictures to train on, and whether that is the number of each kind.
PRODUCTS = {
    "bottle": ("mvtec_ad/bottle", 10, False),
    "mtd": ("mtd/magnetic_tile", 10, True),
    "hazelnut": ("hazelnut_toy/hazelnut", 10, False),
    "wood": ("wood_surface_defects/wood", 10, False),
}


def parser(text: str | None, **product: Any) -> argparse.ArgumentParser:
    """A parser with the options of all measurements.

    Args:
        text: documentation of the script; its first line is the description.
        product: how many products there are, as for `add_argument`.
    """
    made = argparse.ArgumentParser(description=(text or "").splitlines()[0])
    made.add_argument("products" if product else "product", choices=PRODUCTS, **product)
    made.add_argument("--size", default="256", help="longest side of pictures (default: 256)")
    made.add_argument("--seeds", type=int, default=3, help="repetitions (default: 3)")
    return made


def need_data() -> Path:
    """The folder of the data sets; exits without one."""
    data = os.environ.get("WEAKREST_DATA")
    if not data:
        sys.exit("WEAKREST_DATA names no folder of data sets: see docs/contributing.md")
    return Path(data)


def dataset(product: str) -> Path:
    return need_data() / PRODUCTS[product][0]


def goods(product: str) -> Path:
    return dataset(product) / "train/good"


def weakrest(*arguments: object) -> str:
    """What the program prints; exits if it fails."""
    command = [str(word) for word in (BINARY, *arguments)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        sys.exit(f"weakrest {arguments[0]} failed")
    return run.stdout


def package(product: str, size: str, matching: str = "soft") -> Path:
    """A package of a product; enrolls it if it does not exist."""
    path = HEADS / f"{product}-{size}" / f"{matching}.weakrest"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        options = ["--quality", "fast", "--size", size, "--any-size", "--matching", matching]
        weakrest("enroll", "--images", goods(product), "--output", path, *options)
    return path


def chosen(product: str, seed: int) -> list[Any]:
    """The defective pictures that a seed trains on."""
    from weakrest_export import splits
    from weakrest_export.settings import ChoiceSettings

    _, count, per_type = PRODUCTS[product]
    category = splits.read_dataset(BINARY, dataset(product), "mvtec")
    return splits.choose_training_defects(category, ChoiceSettings(count, per_type, seed))


def judged(
    product: str, seed: int, folder: Path, bank: Path, head: Path | None = None, threads: int | None = None
) -> dict[str, Any]:
    """Result of `weakrest evaluate` on all pictures that the seed did not train on.

    Args:
        product: see `PRODUCTS`.
        seed: see `chosen`.
        folder: for files on the way there.
        bank: package without a head.
        head: to add to it.
        threads: of the program; None: its default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    more = [] if threads is None else ["--threads", threads]
    left = folder / "trained-on.txt"
    trained_on = sorted(os.path.realpath(sample.image) for sample in chosen(product, seed))
    left.write_text("".join(f"{image}\n" for image in trained_on))
    if head is not None:
        new = folder / "with-head.weakrest"
        options = ["--head", head, "--images", goods(product), "--output", new, "--overwrite", *more]
        weakrest("package", "add-head", bank, *options)
        bank = new
    options = ["--package", bank, "--leave-out", left, "--json", *more]
    result = json.loads(weakrest("evaluate", "--dataset", dataset(product), *options))["categories"][0]
    del result["outcomes"]
    return {"package": str(bank), **result}


def untrained(samples: Sequence[Any], settings: Any) -> Any:
    """An untrained ADClick of a settings' size."""
    from weakrest_export.adclick import AdClick, Shape

    shape = Shape(samples[0].residuals.channels, width=settings.width, depth=settings.depth)
    return AdClick(shape).eval()


def spread(values: Sequence[float], digits: int = 3) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def accuracy(results: Sequence[dict[str, Any]]) -> list[str]:
    """Image AUROC, pixel AUROC, PRO and pixel AP."""
    keys = (("auroc", 4), ("pro", 3), ("average_precision", 3))
    pixels = [spread([result["pixels"][key] for result in results], digits) for key, digits in keys]
    return [spread([result["image_auroc"] for result in results], 4), *pixels]


def print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def print_header(*cells: str) -> None:
    print_row(*cells)
    print(f"|{'---|' * len(cells)}", flush=True)


def slug(name: str) -> str:
    """A name of a file for the name of a row."""
    return name.replace(",", "").replace(" ", "-")


def rounded_mean(values: Iterable[float]) -> str:
    return f"{statistics.mean(values):.1f}"
