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
    ("none", 0, HEADS.glob("unsupervised-?-400"), (4, -12)),
    ("image tag", 0.5, HEADS.glob("image-tags-?-400"), (8, -4)),
    ("box", 5.5, HEADS.glob("upright-boxes-?-400"), (6, -12)),
    ("blocks of a mask", 15, HEADS.glob("blocks-?-400"), (-6, -14)),
)
MASKS = (
    ("none", 0, CLICKS.glob("seg-no-labels-?-400"), (4, 6)),
    ("3 to 5 clicks", 5.5, CLICKS.glob("seg-3-to-5-clicks-?-400"), (6, 4)),
    ("mask", 30, CLICKS.glob("seg-true-masks-?-400"), (-30, 6)),
)


def main(target: str) -> None:
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for title, color, points in (("head on blocks", "tab:blue", BLOCKS), ("ADClick-Seg", "tab:orange", MASKS)):
        seconds, precisions = [], []
        for name, second, folders, offset in points:
            results = [json.loads((folder / "result.json").read_text()) for folder in folders if (folder / "result.json").exists()]
            if not results:
                continue
            precision = statistics.mean(result["pixels"]["average_precision"] for result in results)
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
