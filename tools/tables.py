#!/usr/bin/env python3
"""Measures the tables of docs/lab-notebook.md: `make tables`.

Needs WEAKREST_DATA and the Python environment. Prints Markdown. Every row is a run of `weakrest evaluate`.
Results are kept in target/tables: an interrupted run continues. Arguments: names of tables (default: all).
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import experiments
from experiments import BINARY, print_row

EXPORT = Path("target/venv/bin/weakrest-export")
KEPT = Path("target/tables")
SMALL = ("bottle", "hazelnut", "wood")
PRODUCTS = (*SMALL, "MTD")


def network(name: str, *arguments: str) -> str:
    """Path of an exported backbone's manifest; exports it when it is not there."""
    path = KEPT / f"{name}.toml"
    if not path.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        command = [EXPORT, "backbone", *arguments, "--out", KEPT, "--name", name]
        subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr)
    return str(path)


def evaluate(product: str, arguments: list[str]) -> dict[str, Any]:
    """Result of one product."""
    binary = hashlib.sha256(BINARY.read_bytes()).hexdigest()[:12]
    key = hashlib.sha256(" ".join([binary, product, *arguments]).encode()).hexdigest()[:24]
    kept = KEPT / f"{key}.json"
    if not kept.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        dataset = experiments.dataset(product.lower())
        command = [
            BINARY,
            "evaluate",
            "--dataset",
            dataset,
            "--any-size",
            "--quality",
            "fast",
            "--json",
            *arguments,
        ]
        run = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
        kept.write_text(run.stdout)
    return json.loads(kept.read_text())["categories"][0]


def cells(result: dict[str, Any]) -> list[str]:
    pixels, confusion = result["pixels"], result["confusion"]
    return [
        f"{result['image_auroc']:.4f}",
        f"{pixels['auroc']:.4f}",
        f"{pixels['average_precision']:.3f}",
        f"{pixels['pro']:.3f}",
        f"{confusion['false_rejects']}/{confusion['good']}",
        f"{confusion['misses']}/{confusion['defective']}",
        f"{result['enroll_seconds']:.0f}",
    ]


def main_table() -> None:
    """Default settings at two sizes."""
    head = ["image AUROC", "pixel AUROC", "pixel AP", "PRO", "false rejects", "misses", "enroll s"]
    experiments.print_header("product", "longest side", *head)
    for size in ("256", "512"):
        for product in PRODUCTS:
            print_row(product, size, *cells(evaluate(product, ["--size", size])))


def choices(title: str, rows: dict[str, list[str]], products: tuple[str, ...] = SMALL) -> None:
    """Pixel AP (image AUROC) of each choice."""
    print(f"\n### {title}")
    experiments.print_header(title.lower(), *[f"{product} AP (image AUROC)" for product in products])
    for name, arguments in rows.items():
        results = [evaluate(product, arguments) for product in products]
        print_row(
            name, *[f"{r['pixels']['average_precision']:.3f} ({r['image_auroc']:.3f})" for r in results]
        )


def lite(n: int, scales: str, grid: int = 8) -> list[str]:
    name = f"lite{n}-{scales.replace(' ', '-').replace(',', '.').replace(':', 'x')}-g{grid}"
    options = ["--scales", *scales.split(), "--grid", str(grid)]
    return ["--backbone", network(name, f"efficientnet-lite{n}", *options)]


def contrast(mean: str, std: str, name: str) -> list[str]:
    """The default network with another normalization."""
    path = Path(lite(1, "4,8,16:0.5")[1])
    copy = path.with_name(f"{name}.toml")
    lines = [
        f"mean = [{mean}]"
        if line.startswith("mean")
        else f"std = [{std}]"
        if line.startswith("std")
        else line
        for line in path.read_text().splitlines()
    ]
    copy.write_text("\n".join(lines) + "\n")
    copy.with_suffix(".onnx").write_bytes(path.with_suffix(".onnx").read_bytes())
    return ["--backbone", str(copy)]


TABLES = {
    "main": main_table,
    "network": lambda: choices("Network", {f"Lite{n}": lite(n, "4,8,16:0.5") for n in (0, 1, 2)}),
    "taps": lambda: choices(
        "Taps (scales)",
        {
            "4, 8, 16 (1, 1, 0.5)": lite(1, "4,8,16:0.5"),
            "4, 8, 16": lite(1, "4,8,16"),
            "4, 8": lite(1, "4,8"),
            "8, 16": lite(1, "8,16"),
            "8": lite(1, "8"),
            "8, 16, 32": lite(1, "8,16,32"),
        },
        PRODUCTS,
    ),
    "contrast": lambda: choices(
        "Input contrast",
        {
            "ImageNet's (default)": lite(1, "4,8,16:0.5"),
            "(pixel - 127) / 128": contrast("0.498, 0.498, 0.498", "0.502, 0.502, 0.502", "contrast-low"),
            "twice ImageNet's": contrast("0.485, 0.456, 0.406", "0.1145, 0.112, 0.1125", "contrast-high"),
        },
    ),
    "grid": lambda: choices("Grid stride", {str(g): lite(1, "4,8,16:0.5", g) for g in (4, 8, 16)}),
    "position": lambda: choices(
        "Position weight", {w: ["--position-weight", w] for w in ("0", "0.03", "0.1", "0.3", "1", "2")}
    ),
    "matching": lambda: choices(
        "Matching",
        {
            "soft (default)": [],
            "window 0.15": ["--matching", "window"],
            "window 0.3": ["--matching", "window", "--window-reach", "0.3"],
        },
    ),
    "coreset": lambda: choices(
        "Coreset",
        {
            **{
                f"{float(share) * 100:g} % of each image": ["--coreset-share", share, "--coreset-floor", "1"]
                for share in ("0.02", "0.05", "0.1", "0.25")
            },
            "10 % of all, K = 32": ["--coreset", "bank", "--coreset-floor", "1"],
            "3 % of all, all images": [
                *("--coreset", "bank", "--coreset-share", "0.03", "--coreset-floor", "1", "-k", "1000")
            ],
        },
    ),
    "k": lambda: choices("K", {k: ["-k", k] for k in ("8", "16", "32", "64", "1000")}),
    "smoothing": lambda: choices("Sigma", {s: ["--sigma", s] for s in ("0", "4", "8")}, tuple(PRODUCTS)),
    "window": lambda: choices(
        "Score's window", {s: ["--score-window", s] for s in ("8", "16", "32", "64")}, PRODUCTS
    ),
}


def main() -> None:
    experiments.need_data()
    wanted = sys.argv[1:] or list(TABLES)
    for name in wanted:
        if name not in TABLES:
            sys.exit(f"there is no table {name}: the tables are {', '.join(TABLES)}")
        TABLES[name]()


if __name__ == "__main__":
    main()
