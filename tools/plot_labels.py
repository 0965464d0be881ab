"""Draws what labels are worth over seconds of labeling: `make plot-labels`.

Reads the results that table_labels.py kept.
"""

import json
import statistics
import sys
from pathlib import Path

import matplotlib
from matplotlib import pyplot as plt

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "weakrest"

KEPT = Path("target/labels")
COUNT = 10
# Name, seconds a picture (from the papers, not measured here), folder of the results, offset of the name.
KINDS = (
    ("none", 0, "no-head", (6, -10)),
    ("tag", 0.5, "tags", (8, -4)),
    ("box", 5.5, "boxes", (-4, -14)),
    ("mask", 30, "masks", (-28, -14)),
)


def results(name: str) -> dict[tuple[str, str], dict]:
    """Results by product and seed."""
    paths = KEPT.glob(f"*/defaults/{name}-{COUNT}-*/result.json")
    return {
        (path.parents[2].name, path.parent.name.rpartition("-")[2]): json.loads(path.read_text())
        for path in paths
    }


def main(target: str) -> None:
    kept = {folder: results(folder) for _, _, folder, _ in KINDS}
    # Only what all kinds have can be compared.
    cells = set.intersection(*[set(found) for found in kept.values()])
    if not cells:
        sys.exit("plot: no results are kept; run make table-labels first")

    def found(result: dict) -> float:
        return 1 - result["confusion"]["misses"] / result["confusion"]["defective"]

    def precision(result: dict) -> float:
        return result["pixels"]["average_precision"]

    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    lines = (("defects rejected", "tab:blue", found), ("pixel AP", "tab:orange", precision))
    for title, color, value in lines:
        points = []
        for name, seconds, folder, offset in KINDS:
            mean = statistics.mean(value(kept[folder][cell]) for cell in cells)
            points.append((seconds, mean))
            place = {"textcoords": "offset points", "xytext": offset}
            axes.annotate(name, (seconds, mean), fontsize=8, color=color, **place)
        axes.plot(*zip(*points, strict=True), "-o", markersize=4, color=color, label=title)
    products = len({product for product, _ in cells})
    axes.set(
        xlabel=f"seconds of labeling a picture, {COUNT} pictures labeled",
        ylabel=f"mean of {products} products",
    )
    axes.set_ylim(0.4, 1)
    axes.legend(fontsize=8, loc="lower right")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
