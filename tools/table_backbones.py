#!/usr/bin/env python3
"""Compares backbones: `make table-backbones BACKBONES="defaults dinov2-s mine.onnx"`.

A backbone is a name in table_backbones.toml, a setting of table_products.toml (`defaults`, `fast`), a network
of `weakrest-export backbone` (`timm:NAME`), or the files of an exported one. Each is exported once, to
target/backbones. Accuracy is that of `make table-products`, with the same kept results: means over the
products, the worst in brackets. Times are those of `weakrest bench` with a package of 20 pictures of the
first product, on every provider that can be loaded: median milliseconds of the features, and of all stages.
With --busy it is one thread's processor time per picture instead, which other programs disturb less. With
--random the networks get random weights, without a download, and only times are measured. Prints Markdown.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import experiments
import table_products
import tomllib
from experiments import BINARY

EXPORT = os.environ.get("WEAKREST_EXPORT", "target/venv/bin/weakrest-export")
KEPT = Path("target/backbones")
OWN = Path(__file__).with_suffix(".toml")
EXPORTER = Path(__file__).parents[1] / "export/src/weakrest_export"
PROVIDERS = ("tensorrt", "cuda", "cpu")
TIMED = 20
"""Good pictures of the package whose times are measured."""
ACCURACY = ("image AUROC", "pixel AP", "PRO", "false rejects", "misses", "misses at 1 %")


def exported(name: str, words: list[str], random: bool) -> Path:
    """The ONNX file of a backbone; exports it if it is not there."""
    if random:
        words = [*words, "--weights", "none"]
    parts = [json.dumps(words), *table_products.named_files(words)]
    parts += [path.read_bytes() for path in sorted(EXPORTER.glob("*.py"))]
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", name)
    file = KEPT / f"{slug}-{table_products.digest(parts)}.onnx"
    # The manifest is written last.
    if not file.with_suffix(".toml").exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        command = [EXPORT, "backbone", *words, "--name", file.stem, "--out", str(KEPT)]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
            sys.exit(f"{name} was not exported")
    return file


def found(word: str, random: bool) -> list[str]:
    """The arguments of `weakrest enroll` for a backbone.

    Exits if there is no such backbone.
    """
    own, settings = (tomllib.loads(file.read_text()) for file in (OWN, table_products.SETTINGS))
    if word in own:
        network = exported(word, own[word]["export"], random)
        return ["--backbone", str(network), *own[word].get("enroll", [])]
    if word in settings and "train" not in settings[word]:
        return settings[word]["enroll"]
    if Path(word).suffix in (".onnx", ".toml"):
        if not Path(word).is_file():
            sys.exit(f"there is no file {word}")
        return ["--backbone", word]
    if ":" in word or word.startswith("efficientnet-"):
        return ["--backbone", str(exported(word, [word], random))]
    names = ", ".join([*own, *settings])
    sys.exit(
        f"there is no backbone {word}: give one of {names}, timm:NAME, torchvision:NAME, or an ONNX file"
    )


def providers(wanted: str | None) -> list[str]:
    """What networks can run on: what is asked for, or what the program says."""
    if wanted is not None:
        return wanted.split(",")
    said = experiments.weakrest("check").splitlines()
    lines = [line.split() for line in said if line.endswith("can be loaded")]
    return [provider for provider in PROVIDERS if any(provider in words for words in lines)]


def timed_pictures(product: Path, folder: Path) -> Path:
    """Makes a folder with some good pictures of a product: more than one is compared with at a time."""
    folder.mkdir()
    for picture in sorted((product / "train/good").iterdir())[:TIMED]:
        (folder / picture.name).symlink_to(picture.resolve())
    return folder


def bench(package: Path, good: Path, provider: str, frames: int, *more: object) -> Any:
    """What `weakrest bench` measures; None where the provider does not run it."""
    options = ("--frames", frames, "--provider", provider, "--json", *more)
    command = [str(word) for word in (BINARY, "bench", package, "--images", good, *options)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return None if run.returncode else json.loads(run.stdout)["milliseconds"]


def times(package: Path, good: Path, provider: str, frames: int) -> str:
    """Median milliseconds of the features and of all stages."""
    stages = bench(package, good, provider, frames, "--warmup", max(1, frames // 10))
    return "–" if stages is None else f"{stages['features']['median']:.1f} / {stages['total']['median']:.1f}"


def processor_time(package: Path, good: Path, frames: int) -> str:
    """Milliseconds of one thread per picture: what more pictures cost more."""
    spent = []
    for count in (frames, 2 * frames):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        if bench(package, good, "cpu", count, "--warmup", 0, "--threads", 1) is None:
            return "–"
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return f"{1000 * (spent[1] - spent[0]) / frames:.0f}"


def accuracy(results: list[table_products.Result], names: list[str]) -> list[str]:
    """Mean over the products, and the worst of them."""
    cells = []
    columns = {column.title: column for column in table_products.columns(results)}
    for title in ACCURACY:
        column = columns[title]
        numbers = [
            column.number([result for result in results if result["product"] == name]) for name in names
        ]
        there = [number for number in numbers if number is not None]
        if there:
            cells.append(f"{column.show(statistics.mean(there))} ({column.show(column.worst(there))})")
        else:
            cells.append("–")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("backbones", nargs="+", metavar="BACKBONE", help="see the head of this file")
    parser.add_argument("--only", metavar="NAME,…", help="products (default: all)")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, … (default: 1 seed)")
    parser.add_argument("--frames", type=int, default=50, help="frames to time (default: 50)")
    parser.add_argument("--providers", metavar="NAME,…", help="default: those that can be loaded")
    parser.add_argument("--busy", action="store_true", help="processor time of one thread, on the CPU")
    parser.add_argument("--random", action="store_true", help="random weights: only times are measured")
    options = parser.parse_args()
    folders, names = table_products.need_products(options.only)
    rows = {word: found(word, options.random) for word in dict.fromkeys(options.backbones)}
    settings: dict[str, Any] = {word: {"enroll": arguments} for word, arguments in rows.items()}
    results = [] if options.random else table_products.measure(folders, names, settings, options.seeds)
    on = ["one thread"] if options.busy else providers(options.providers)
    titles = () if options.random else ACCURACY
    columns = [*titles, *[f"ms on {provider}" for provider in on], "network MB", "package MB"]
    experiments.print_header("backbone", *columns)
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT) as temporary:
        package = Path(temporary) / "timed.weakrest"
        good = timed_pictures(folders[names[0]], Path(temporary) / "good")
        for word, arguments in rows.items():
            own = [result for result in results if result["setting"] == word]
            enroll = ["--images", good, "--output", package, "--overwrite", "--any-size", *arguments]
            experiments.weakrest("enroll", *enroll)
            if options.busy:
                spent = [processor_time(package, good, options.frames)]
            else:
                spent = [times(package, good, provider, options.frames) for provider in on]
            files = [file.stat().st_size for file in package.rglob("*") if file.is_file()]
            sizes = [(package / "backbone.onnx").stat().st_size, sum(files)]
            experiments.print_row(
                word, *(accuracy(own, names) if own else []), *spent, *[f"{size / 1e6:.1f}" for size in sizes]
            )


if __name__ == "__main__":
    main()
