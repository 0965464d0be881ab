"""Measures what each kind of label is worth: `make table-bottle`, `make table-mtd`.

Needs WEAKREST_DATA and the Python environment. Trains a head for each setting and seed, and judges it on the
pictures that it has not seen. The seed also chooses the defective pictures. Results are kept in
target/heads: an interrupted run continues. Delete them after a change of how heads are trained. Frames are
timed at the end: leave the machine alone then. Prints Markdown.
"""

import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import experiments
from experiments import BINARY, HEADS, SYNTHETIC, accuracy, chosen, goods, package, rounded_mean, weakrest

# Name of a row, matching, kind of labels, seconds of labeling per picture (from the papers), more settings.
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
        return HEADS / f"{self.product}-{self.size}" / f"{name}-{self.seed}-{self.steps}"


def prepare(product: str, size: str, matching: str, seeds: int) -> list[Any]:
    """Samples of good pictures, synthetic defects, and all defective pictures that any seed trains on."""
    from weakrest_export import weak, workflow
    from weakrest_export.work import Product, Work

    union = {sample.image: sample for seed in range(seeds) for sample in chosen(product, seed)}
    labels = weak.weak_labels([union[image] for image in sorted(union)], "masks")
    bank = package(product, size, matching)
    folder = HEADS / f"{product}-{size}" / f"work-{matching}-{seeds}"
    work = Work(folder, synthetics=SYNTHETIC, weakrest=BINARY, resume=True)
    return workflow.prepare(Product(bank, goods(product)), labels, work)


def train(run: Run, seeds: int) -> float:
    """Trains a head into the run's folder. Returns the minutes of training."""
    import numpy as np

    from weakrest_export import blocks, head_export, weak
    from weakrest_export import train as training
    from weakrest_export.settings import HeadSettings

    matching, kind, _, more = ROWS[run.row]
    prepared = prepare(run.product, run.size, matching, seeds)
    samples = [sample for sample in prepared if sample.kind != "defective"]
    if kind is not None:
        by_image = {os.path.realpath(s.image): s for s in prepared if s.kind == "defective"}
        random = np.random.default_rng(run.seed)
        for label in weak.weak_labels(chosen(run.product, run.seed), kind):
            sample = by_image[os.path.realpath(label.image)]
            if more.get("jitter"):
                label = replace(label, defects=weak.jitter(label.defects, label.size, rng=random))
            cells = blocks.Cells.of(vars(sample.residuals.pictures[sample.index]), sample.residuals.stride)
            samples.append(replace(sample, labels=blocks.from_label(label, cells)))
    changes = {key: more[key] for key in ("without", "mixup") if key in more}
    settings = HeadSettings(seed=run.seed, steps=run.steps, **changes)
    if more.get("semirest"):
        settings = settings.semirest()
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


def measure(run: Run, seeds: int, threads: int) -> dict[str, Any]:
    kept = run.folder / "result.json"
    if kept.exists():
        return json.loads(kept.read_text())
    import torch

    torch.set_num_threads(threads)
    bank = package(run.product, run.size, ROWS[run.row][0])
    minutes, head = 0.0, None
    if run.row != "residual norm":
        minutes, head = train(run, seeds), run.folder / "head.onnx"
    result = experiments.judged(run.product, run.seed, run.folder, bank, head, threads)
    kept.write_text(json.dumps({"minutes": minutes, **result}))
    return {"minutes": minutes, **result}


def frame_ms(run: Run, result: dict) -> float:
    """Time of a frame on all cores, measured once per row. Nothing else may use the cores."""
    kept = run.folder / "frame.json"
    if not kept.exists():
        options = ["--images", goods(run.product), "--frames", 100, "--json"]
        kept.write_text(weakrest("bench", result["package"], *options))
    return json.loads(kept.read_text())["milliseconds"]["total"]["median"]


def main() -> None:
    parser = experiments.parser(__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW")
    options = parser.parse_args()
    experiments.need_data()
    # Two runs must not make the same residuals at the same time.
    for matching in {ROWS[row][0] for row in options.rows if ROWS[row][3] is not None}:
        prepare(options.product, options.size, matching, options.seeds)
    runs = [
        Run(options.product, options.size, row, seed, options.steps)
        for seed in range(options.seeds)
        for row in options.rows
    ]
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        waiting = [pool.submit(measure, run, options.seeds, threads) for run in runs]
        results = {run: future.result() for run, future in zip(runs, waiting, strict=True)}
    experiments.print_header(
        "labels",
        "image AUROC",
        "pixel AUROC",
        "PRO",
        "pixel AP",
        "labeling s per picture",
        "training minutes",
        "frame ms",
    )
    for row in options.rows:
        own = {run: result for run, result in results.items() if run.row == row}
        minutes = rounded_mean(result["minutes"] for result in own.values())
        frame = f"{frame_ms(*next(iter(own.items()))):.1f}"
        experiments.print_row(row, *accuracy(list(own.values())), ROWS[row][2], minutes, frame)


if __name__ == "__main__":
    main()
