"""Draws accuracy over seconds of labeling: `make plot-labels`.

Reads the results that table_heads.py and table_seg.py kept.
"""

import json
import statistics
import sys
from pathlib import Path

import matplotlib
from matplotlib import pyplot as plt

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "weakrest"

PRODUCT = "bottle-256"
HEADS = Path("target/heads") / PRODUCT
CLICKS = Path("target/clicks") / PRODUCT
# Name, seconds a picture (from the papers, not measured here), folders of the results, offset of the name.
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
    # A seed also chooses the pictures: only seeds that all rows have can be compared.
    seeds = set.intersection(*[set(found) for found in kept.values() if found] or [set()])
    lines = (("head on blocks", "tab:blue", BLOCKS), ("ADClick-Seg", "tab:orange", MASKS))
    for title, color, points in lines:
        seconds, precisions = [], []
        for name, second, pattern, offset in points:
            if not kept[pattern] or not seeds:
                continue
            precision = statistics.mean(kept[pattern][seed] for seed in seeds)
            seconds.append(second)
            precisions.append(precision)
            place = {"textcoords": "offset points", "xytext": offset}
            axes.annotate(name, (second, precision), fontsize=8, color=color, **place)
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
