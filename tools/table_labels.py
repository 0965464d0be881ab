"""Measures what each kind of label is worth on every product: `make table-labels`.

Needs WEAKREST_DATA and the Python environment. Products are all folders SET/PRODUCT below it in MVTec
layout. For each kind of label and each seed, a head is trained and added as `weakrest-export train` does, and
judged on the pictures that it has not seen. The seed also chooses the labeled pictures. The package without
a head is judged on the same pictures. Results are kept in target/labels: an interrupted run continues. Delete
them after a change of how heads are trained. Prints Markdown.
"""

import argparse
import fcntl
import json
import os
import shutil
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import experiments
from experiments import BINARY, weakrest
from table_products import chosen, products

KEPT = Path("target/labels").resolve()
NORM = "no head"
# Kind of labels of each row; None: no labels. The others are settings that differ from the defaults.
ROWS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "none": (None, {}),
    "tags": ("tags", {}),
    "boxes": ("boxes", {}),
    "rotated": ("rotated", {}),
    "masks": ("masks", {}),
    "SemiREST, boxes": ("boxes", {"semirest": True}),
    "boxes, convolutions": ("boxes", {"body": "conv", "width": 64}),
    "masks, convolutions": ("masks", {"body": "conv", "width": 64}),
    "boxes without guess": ("boxes", {"without": ("guess",)}),
    "boxes without fix": ("boxes", {"without": ("fix",)}),
    "boxes without shake": ("boxes", {"without": ("shake",)}),
    "boxes with MixUp": ("boxes", {"mixup": True}),
}


@dataclass(frozen=True)
class Cell:
    """One product with one kind of labels and one choice of labeled pictures."""

    product: str
    dataset: Path
    row: str
    seed: int
    count: int
    enroll: tuple[str, ...]

    @property
    def home(self) -> Path:
        words = "-".join(Path(word).stem.strip("-") for word in self.enroll) or "defaults"
        return KEPT / self.product.replace("/", "-") / words

    @property
    def folder(self) -> Path:
        name = "".join(c if c.isalnum() else "-" for c in self.row)
        return self.home / f"{name}-{self.count}-{self.seed}"

    @property
    def goods(self) -> Path:
        return self.dataset / "train/good"

    @property
    def bank(self) -> Path:
        return self.home / "bank.weakrest"


def enroll(cell: Cell) -> None:
    if not cell.bank.exists():
        cell.home.mkdir(parents=True, exist_ok=True)
        weakrest("enroll", "--images", cell.goods, "--output", cell.bank, "--any-size", *cell.enroll)


def labeled(cell: Cell) -> list[Any]:
    """The defective pictures that the cell's seed chooses."""
    from weakrest_export import splits
    from weakrest_export.settings import ChoiceSettings

    category = splits.read_dataset(BINARY, cell.dataset, "mvtec")
    return splits.choose_training_defects(category, ChoiceSettings(cell.count, False, cell.seed))


def judged(cell: Cell, package: Path, samples: list[Any]) -> dict[str, Any]:
    left = cell.folder / "labeled.txt"
    left.write_text("".join(f"{os.path.realpath(sample.image)}\n" for sample in samples))
    options = ["--package", package, "--leave-out", left, "--json", "--threads", 1]
    result = json.loads(weakrest("evaluate", "--dataset", cell.dataset, *options))["categories"][0]
    del result["outcomes"]
    return result


def with_head(cell: Cell, samples: list[Any]) -> tuple[Path, float]:
    """The package with a head, and the minutes of training."""
    import torch

    from weakrest_export import head_export, weak, workflow
    from weakrest_export import train as training
    from weakrest_export.commands.head_training import PASTED, SYNTHETIC
    from weakrest_export.settings import HeadSettings
    from weakrest_export.work import Product, Work

    torch.set_num_threads(1)
    kind, changes = ROWS[cell.row]
    labels = weak.weak_labels(samples, kind) if kind else []
    # Rows of the same labels share what they learn from.
    folder = cell.home / f"work-{kind}-{cell.count}-{cell.seed}"
    product = Product(cell.bank, cell.goods)
    work = Work(folder, SYNTHETIC, PASTED, hold_out=True, seed=cell.seed, weakrest=BINARY, resume=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepared = workflow.prepare(product, labels, work)
    changes = dict(changes)
    semirest = changes.pop("semirest", False)
    settings = HeadSettings(seed=cell.seed, **changes)
    settings = settings.semirest() if semirest else settings
    start = time.monotonic()
    trained = training.train(prepared, settings)
    minutes = (time.monotonic() - start) / 60
    made = head_export.export(
        trained.head,
        prepared[0].residuals.backbone,
        setting=cell.row,
        source="table",
        window=settings.window,
        step=settings.stride,
    )
    head = head_export.write(made, cell.folder)
    package = cell.folder / "with-head.weakrest"
    workflow.add_head(product, workflow.calibration(product, work), head, package, True, BINARY)
    return package, minutes


def measure(cell: Cell) -> dict[str, Any]:
    kept = cell.folder / "result.json"
    if kept.exists():
        return json.loads(kept.read_text())
    cell.folder.mkdir(parents=True, exist_ok=True)
    samples = labeled(cell)
    package, minutes = (cell.bank, 0.0) if cell.row == NORM else with_head(cell, samples)
    result = {"minutes": minutes, **judged(cell, package, samples)}
    if cell.row != NORM:
        shutil.rmtree(package)
    kept.write_text(json.dumps(result))
    print(f"{kept}: {minutes:.1f} minutes of training", flush=True)
    return result


def figures(result: dict[str, Any]) -> dict[str, float]:
    counts = result["confusion"]
    pixels = result["pixels"] or {}
    return {
        "image AUROC": result["image_auroc"],
        "pixel AP": pixels.get("average_precision", float("nan")),
        "found": 1 - counts["misses"] / counts["defective"],
        "false rejects": counts["false_rejects"] / max(1, counts["good"]),
    }


def mean(results: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.mean(result[key] for result in results) for key in results[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="NAME,…", help="products (default: all)")
    parser.add_argument("--rows", metavar="NAME;…", default="none;tags;boxes;masks", help="see ROWS, or all")
    parser.add_argument("--extra", type=json.loads, default={}, help="more rows, as JSON")
    parser.add_argument("--count", type=int, default=10, help="labeled pictures (default: 10)")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, … (default: 1 seed)")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--enroll", default="", help="options of weakrest enroll")
    options = parser.parse_args()
    ROWS.update({name: (kind, changes) for name, (kind, changes) in options.extra.items()})
    folders = products(experiments.need_data())
    names = chosen(options.only, list(folders), "product")
    rows = [NORM, *(ROWS if options.rows == "all" else options.rows.split(";"))]
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    cells = [
        Cell(name, folders[name], row, seed, options.count, tuple(options.enroll.split()))
        for row in rows
        for name in names
        for seed in seeds
    ]
    for cell in {cell.product: cell for cell in cells}.values():
        enroll(cell)
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        waiting = [pool.submit(measure_row, cell, ROWS) for cell in cells]
        found = {cell: future.result() for cell, future in zip(cells, waiting, strict=True)}
    titles = list(figures(next(iter(found.values()))))
    experiments.print_header("product", "labels", *titles, "minutes")

    def numbers(row: str, name: str) -> dict[str, float]:
        own = [found[cell] for cell in cells if (cell.row, cell.product) == (row, name)]
        return mean([{**figures(result), "minutes": result["minutes"]} for result in own])

    for name in names:
        for row in rows:
            own = numbers(row, name)
            shown = [f"{own[title]:.3f}" for title in titles]
            experiments.print_row(name, row, *shown, f"{own['minutes']:.1f}")
    for row in rows:
        total = mean([numbers(row, name) for name in names])
        changes = [{t: numbers(row, name)[t] - numbers(NORM, name)[t] for t in titles} for name in names]
        shown = []
        for title in titles:
            worst = max if title == "false rejects" else min
            shown.append(f"{total[title]:.3f} (worst {worst(change[title] for change in changes):+.3f})")
        experiments.print_row("mean", row, *shown, f"{total['minutes']:.1f}")


def measure_row(cell: Cell, rows: dict[str, tuple[str | None, dict[str, Any]]]) -> dict[str, Any]:
    """`measure` in another process."""
    ROWS.update(rows)
    return measure(cell)


if __name__ == "__main__":
    main()
