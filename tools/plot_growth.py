"""Draws target/growth.json of posfar's benchmark as an SVG: `make bench-growth`."""

import json
import sys
from pathlib import Path

import matplotlib
from matplotlib import pyplot as plt

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "weakrest"

PARTS = {
    "whole": ("residuals, all of it", "black"),
    "rest": ("without retrieval", "tab:blue"),
    "retrieval": ("retrieval", "tab:orange"),
}


def main(target: str) -> None:
    growth = json.loads(Path("target/growth.json").read_text())
    banks = growth["banks"]
    images = [bank["images"] for bank in banks]
    figure, (time, memory) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for number, style in enumerate(("--", "-")):
        rows = [bank["milliseconds"][number] for bank in banks]
        threads = f"{rows[0]['threads']} thread{'s' * (rows[0]['threads'] > 1)}"
        for part, (name, color) in PARTS.items():
            times = [row[part] for row in rows]
            time.plot(images, times, style, marker="o", markersize=3, color=color, label=f"{name}, {threads}")
    time.set(xscale="log", ylim=0, xlabel="enrolled pictures", ylabel="ms per frame")
    time.legend(fontsize=7)
    measured = [bank["memory"] / 1e6 for bank in banks]
    memory.plot(images, measured, "-", marker="o", markersize=3, color="black", label="measured")
    computed = [
        (bank["tokens"] * bank["bytes_per_token"] + bank["images"] * bank["bytes_per_descriptor"]) / 1e6
        for bank in banks
    ]
    memory.plot(images, computed, ":", color="tab:blue", label="tokens and descriptors")
    memory.set(xscale="log", yscale="log", xlabel="enrolled pictures", ylabel="memory, MB")
    memory.legend(fontsize=7)
    for axes in (time, memory):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
