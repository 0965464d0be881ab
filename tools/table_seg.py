"""ADClick-Seg: what masks of a few clicks are worth beside true ones: `make table-seg` (needs WEAKREST_DATA and the Python environment).

Trains the network without clicks on synthetic defects and ten defective pictures, whose masks are the true ones, or those that
the shipped ADClick makes of 3 to 5 simulated clicks, or of nothing. Judged by `weakrest evaluate` on all other pictures, like the
heads of `make table-bottle`, and with the same ten. Kept in target/clicks. Prints Markdown.
"""

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import table_clicks
import table_heads
from table_heads import chosen, dataset, package, spread, weakrest

SETTINGS = ("no labels", "3 to 5 clicks", "true masks")
# Seconds of labeling a picture, of the papers: a click takes as long as each of the four that make a rotated box.
SECONDS = {"no labels": 0, "3 to 5 clicks": 5.5, "true masks": 30}


def clicked(sample, number: int):  # noqa: ANN001, ANN201
    """The sample with the mask that the shipped network makes of 3 to 5 clicks, without knowing the type of defect."""
    import numpy as np
    from weakrest_export import click_metrics
    from weakrest_export.clicks import next_click

    network = click_metrics.from_graph(Path("models/adclick.onnx").read_bytes())
    segment = click_metrics.with_network(network)
    truth, known = sample.share > 0.5, ~np.isnan(sample.share)
    mask, clicks = np.zeros_like(truth), []
    for _ in range(number):
        click = next_click(truth, mask, known)
        if click is not None:
            clicks.append(click)
        mask = segment(sample, clicks, mask) > 0.5
    return replace(sample, share=np.where(known, mask, np.nan).astype(np.float32))


def measure(product: str, size: str, setting: str, seed: int, steps: int) -> dict:
    folder = table_clicks.KEPT / f"{product}-{size}" / f"seg-{setting.replace(' ', '-')}-{seed}"
    kept = folder / "result.json"
    if kept.exists():
        return json.loads(kept.read_text())
    from weakrest_export import adclick_export, adclick_train, head_export

    folder.mkdir(parents=True, exist_ok=True)
    samples = table_clicks.prepare(product, size)
    ten = {os.path.realpath(sample.image) for sample in chosen(product, seed)}
    left = folder / "trained-on.txt"
    left.write_text("".join(f"{image}\n" for image in sorted(ten)))
    used = [sample for sample in samples if sample.kind != "defective"]
    real = [sample for sample in samples if os.path.realpath(sample.image) in ten]
    if setting == "3 to 5 clicks":
        real = [clicked(sample, 3 + at % 3) for at, sample in enumerate(real)]
    if setting != "no labels":
        used += real
    # A head is asked without clicks or words.
    settings = adclick_train.Settings(seed=seed, steps=steps, untouched=1.0, silent=1.0)
    start = time.monotonic()
    network = adclick_train.train(used, settings)
    minutes = (time.monotonic() - start) / 60
    made = adclick_export.export_head(network, used[0].residuals.backbone, setting=setting, source="table")
    head = head_export.write(made, folder)
    new, goods = folder / "with-head.weakrest", dataset(product) / "train/good"
    bank = package(product, size, "soft")
    weakrest("package", "add-head", bank, "--head", head, "--images", goods, "--output", new, "--overwrite")
    text = weakrest("evaluate", "--dataset", dataset(product), "--package", new, "--leave-out", left, "--json")
    result = json.loads(text)["categories"][0]
    del result["outcomes"]
    result = {"minutes": minutes, **result}
    kept.write_text(json.dumps(result))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("product", choices=table_heads.PRODUCTS)
    parser.add_argument("--size", default="256")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), metavar="SETTING")
    options = parser.parse_args()
    if not os.environ.get("WEAKREST_DATA"):
        sys.exit("table: WEAKREST_DATA names no folder of data sets; see docs/contributing.md")
    print("| ADClick-Seg, trained on | image AUROC | pixel AUROC | PRO | pixel AP | labeling s per picture | minutes |")
    print("|---|---|---|---|---|---|---|")
    for setting in options.settings:
        own = [measure(options.product, options.size, setting, seed, options.steps) for seed in range(options.seeds)]
        cells = [setting, spread([result["image_auroc"] for result in own], 4)]
        for key, digits in (("auroc", 4), ("pro", 3), ("average_precision", 3)):
            cells.append(spread([result["pixels"][key] for result in own], digits))
        cells += [f"{SECONDS[setting]:g}", f"{statistics.mean(result['minutes'] for result in own):.1f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
