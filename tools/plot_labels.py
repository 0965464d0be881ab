"""Draws what a second of labeling is worth, from the results that table_heads.py and table_seg.py kept: `make plot-labels`."""

import json
import statistics
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "weakrest"
from matplotlib import pyplot as plt

PRODUCT = "bottle-256"
HEADS = Path("target/heads") / PRODUCT
CLICKS = Path("target/clicks") / PRODUCT
# Name, seconds a picture (of the papers, not measured here), folders of the results, where its name stands.
BLOCKS = (
    ("none", 0, (HEADS, "unsupervised"), (6, 4)),
    ("image tag", 0.5, (HEADS, "image-tags"), (8, -4)),
    ("box", 5.5, (HEADS, "upright-boxes"), (6, -12)),
    ("blocks of a mask", 15, (HEADS, "blocks"), (-6, -14)),
)
MASKS = (
    ("none", 0, (CLICKS, "seg-no-labels"), (4, 6)),
    ("3 to 5 clicks", 5.5, (CLICKS, "seg-3-to-5-clicks-0-shot"), (-4, 8)),
    ("mask", 30, (CLICKS, "seg-true-masks"), (-34, -4)),
)


def results(folder: Path, name: str) -> dict[str, float]:
    """Pixel AP by seed."""
    found = {}
    for path in folder.glob(f"{name}-?-400/result.json"):
        found[path.parent.name.split("-")[-2]] = json.loads(path.read_text())["pixels"]["average_precision"]
    return found


def main(target: str) -> None:
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    kept = {pattern: results(*pattern) for points in (BLOCKS, MASKS) for _, _, pattern, _ in points}
    # A seed chooses the pictures, too: only seeds that all have can be compared.
    seeds = set.intersection(*[set(found) for found in kept.values() if found] or [set()])
    for title, color, points in (("head on blocks", "tab:blue", BLOCKS), ("ADClick-Seg", "tab:orange", MASKS)):
        seconds, precisions = [], []
        for name, second, pattern, offset in points:
            if not kept[pattern] or not seeds:
                continue
            precision = statistics.mean(kept[pattern][seed] for seed in seeds)
            seconds.append(second)
            precisions.append(precision)
            axes.annotate(name, (second, precision), textcoords="offset points", xytext=offset, fontsize=8, color=color)
        if seconds:
            axes.plot(seconds, precisions, "-o", markersize=4, color=color, label=title)
    if not axes.lines:
        sys.exit("plot: no results are kept; run make table-bottle and make table-seg ARGS=bottle first")
    axes.set(xlabel="seconds of labeling a picture, ten pictures labeled", ylabel="pixel AP")
    axes.legend(fontsize=8, loc="lower right")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
