"""What each kind of label is worth: `make table-bottle`, `make table-mtd` (need WEAKREST_DATA and the Python environment).

Trains a head for each setting and seed and judges it on the pictures that it has not seen. The seed chooses the defective
pictures, too. Results are kept in target/heads, so an interrupted run goes on where it stopped; delete them after a change
of how heads are trained. Frames are timed at the end: leave the machine alone then. Prints Markdown.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

BINARY = Path(os.environ.get("WEAKREST", "target/release/weakrest")).resolve()
KEPT = Path("target/heads").resolve()
PRODUCTS = {
    "bottle": ("mvtec_ad/bottle", 10, False),
    "mtd": ("mtd/magnetic_tile", 10, True),
    "hazelnut": ("hazelnut_toy/hazelnut", 10, False),
    "wood": ("wood_surface_defects/wood", 10, False),
}
SYNTHETIC = 400
# Name of a row, what is enrolled, kind of labels, seconds of labeling per picture (papers), more settings.
ROWS = {
    "residual norm": ("soft", None, "0", None),
    "unsupervised": ("soft", None, "0", {}),
    "image tags": ("soft", "tags", "0.5", {}),
    "upright boxes": ("soft", "boxes", "≤ 5.5", {}),
    "rotated boxes": ("soft", "rotated", "5.5", {}),
    "blocks": ("soft", "masks", "15", {}),
    "SemiREST, unsupervised": ("window", None, "0", {"semirest": True}),
    "SemiREST, boxes": ("window", "boxes", "≤ 5.5", {"semirest": True}),
    "boxes without guess": ("soft", "boxes", "≤ 5.5", {"without": ("guess",)}),
    "boxes without fix": ("soft", "boxes", "≤ 5.5", {"without": ("fix",)}),
    "boxes without shake": ("soft", "boxes", "≤ 5.5", {"without": ("shake",)}),
    "boxes with MixUp": ("soft", "boxes", "≤ 5.5", {"mixup": True}),
    "rotated boxes, corners off by 1 %": ("soft", "rotated", "5.5", {"jitter": True}),
}


@dataclass(frozen=True)
class Run:
    """One cell of the table."""

    product: str
    size: str
    row: str
    seed: int
    steps: int

    @property
    def folder(self) -> Path:
        name = "".join(c if c.isalnum() else "-" for c in self.row)
        return KEPT / f"{self.product}-{self.size}" / f"{name}-{self.seed}-{self.steps}"


def weakrest(*arguments: object) -> str:
    run = subprocess.run([str(a) for a in (BINARY, *arguments)], stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        sys.exit(f"weakrest {arguments[0]} failed")
    return run.stdout


def dataset(product: str) -> Path:
    return Path(os.environ["WEAKREST_DATA"]) / PRODUCTS[product][0]


def package(product: str, size: str, matching: str) -> Path:
    path = KEPT / f"{product}-{size}" / f"{matching}.weakrest"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        goods = dataset(product) / "train/good"
        weakrest("enroll", "--images", goods, "--output", path, "--size", size, "--any-size", "--matching", matching)
    return path


def chosen(product: str, seed: int) -> list:
    """The defective pictures that are trained on with a seed."""
    from weakrest_export import splits

    _, count, per_type = PRODUCTS[product]
    category = splits.read_dataset(BINARY, dataset(product), "mvtec")
    return splits.choose_training_defects(category, count, per_type, seed)


def prepare(product: str, size: str, matching: str, seeds: int) -> dict:
    """Residuals of good pictures, synthetic defects, and all defective pictures that any seed trains on."""
    from weakrest_export import weak, workflow

    union = {sample.image: sample for seed in range(seeds) for sample in chosen(product, seed)}
    labels = weak.weak_labels([union[image] for image in sorted(union)], "masks")
    bank = package(product, size, matching)
    work = KEPT / f"{product}-{size}" / f"work-{matching}-{seeds}"
    items = workflow.Product(bank, dataset(product) / "train/good")
    samples = workflow.prepare(items, labels, work, synthetics=SYNTHETIC, seed=0, weakrest=BINARY, resume=True)
    return {"samples": samples, "package": bank}


def train(run: Run, seeds: int) -> float:
    """Trains a head into the run's folder; minutes that it took."""
    import numpy as np
    from weakrest_export import blocks, head_export, weak
    from weakrest_export import train as training

    matching, kind, _, more = ROWS[run.row]
    prepared = prepare(run.product, run.size, matching, seeds)
    samples = [sample for sample in prepared["samples"] if sample.kind != "defective"]
    if kind is not None:
        by_image = {os.path.realpath(s.image): s for s in prepared["samples"] if s.kind == "defective"}
        random = np.random.default_rng(run.seed)
        for label in weak.weak_labels(chosen(run.product, run.seed), kind):
            sample = by_image[os.path.realpath(label.image)]
            if more.get("jitter"):
                label = replace(label, defects=weak.jitter(label.defects, label.size, rng=random))
            cells = blocks.Cells.of(vars(sample.residuals.pictures[sample.index]), sample.residuals.stride)
            samples.append(replace(sample, labels=blocks.from_label(label, cells)))
    settings = training.Settings(seed=run.seed, steps=run.steps, without=more.get("without", ()), mixup=more.get("mixup", False))
    if more.get("semirest"):
        settings = training.semirest(settings)
    start = time.monotonic()
    trained = training.train(samples, settings)
    minutes = (time.monotonic() - start) / 60
    backbone = samples[0].residuals.backbone
    made = head_export.export(
        trained.head, backbone, setting=run.row, source="table", window=settings.window, step=settings.stride
    )
    run.folder.mkdir(parents=True, exist_ok=True)
    head_export.write(made, run.folder)
    return minutes


def measure(run: Run, seeds: int, threads: int) -> dict:
    kept = run.folder / "result.json"
    if kept.exists():
        return json.loads(kept.read_text())
    import torch

    torch.set_num_threads(threads)
    run.folder.mkdir(parents=True, exist_ok=True)
    left = run.folder / "trained-on.txt"
    left.write_text("".join(f"{os.path.realpath(sample.image)}\n" for sample in chosen(run.product, run.seed)))
    bank = package(run.product, run.size, ROWS[run.row][0])
    minutes = 0.0
    if run.row != "residual norm":
        minutes = train(run, seeds)
        head = run.folder / "head.onnx"
        new = run.folder / "with-head.weakrest"
        goods = dataset(run.product) / "train/good"
        weakrest(
            "package", "add-head", bank, "--head", head, "--images", goods, "--output", new, "--overwrite", "--threads", threads
        )
        bank = new
    text = weakrest(
        "evaluate", "--dataset", dataset(run.product), "--package", bank, "--leave-out", left, "--json", "--threads", threads
    )
    result = json.loads(text)["categories"][0]
    del result["outcomes"]
    result = {"minutes": minutes, "package": str(bank), **result}
    kept.write_text(json.dumps(result))
    return result


def frame_ms(run: Run, result: dict) -> float:
    """Time of a frame on all cores, which nothing else may use meanwhile; measured once per row."""
    kept = run.folder / "frame.json"
    if not kept.exists():
        goods = dataset(run.product) / "train/good"
        kept.write_text(weakrest("bench", result["package"], "--images", goods, "--frames", 100, "--json"))
    return json.loads(kept.read_text())["milliseconds"]["total"]["median"]


def spread(values: list[float], digits: int) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("product", choices=PRODUCTS)
    parser.add_argument("--size", default="256")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW")
    options = parser.parse_args()
    if not os.environ.get("WEAKREST_DATA"):
        sys.exit("table: WEAKREST_DATA names no folder of data sets; see docs/contributing.md")
    # Two runs must not make the same residuals at the same time.
    for matching in {ROWS[row][0] for row in options.rows if ROWS[row][3] is not None}:
        prepare(options.product, options.size, matching, options.seeds)
    runs = [
        Run(options.product, options.size, row, seed, options.steps) for seed in range(options.seeds) for row in options.rows
    ]
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        waiting = [pool.submit(measure, run, options.seeds, threads) for run in runs]
        results = {run: future.result() for run, future in zip(runs, waiting, strict=True)}
    print("| labels | image AUROC | pixel AUROC | PRO | pixel AP | labeling s per picture | training minutes | frame ms |")
    print("|---|---|---|---|---|---|---|---|")
    for row in options.rows:
        own = [(run, result) for run, result in results.items() if run.row == row]
        pixels = [result["pixels"] for _, result in own]
        cells = [
            row,
            spread([result["image_auroc"] for _, result in own], 4),
            spread([p["auroc"] for p in pixels], 4),
            spread([p["pro"] for p in pixels], 3),
            spread([p["average_precision"] for p in pixels], 3),
            ROWS[row][2],
            f"{statistics.mean(result['minutes'] for _, result in own):.1f}",
            f"{frame_ms(*own[0]):.1f}",
        ]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
