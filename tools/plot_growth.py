"""Draws target/growth.json, which `cargo bench --bench growth` wrote, as an SVG."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "weakrest"
from matplotlib import pyplot as plt


def main(target: str) -> None:
    growth = json.loads(Path("target/growth.json").read_text())
    banks = growth["banks"]
    images = [bank["images"] for bank in banks]
    figure, (time, memory) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for number, style in enumerate(("--", "-")):
        rows = [bank["milliseconds"][number] for bank in banks]
        threads = f"{rows[0]['threads']} thread{'s' * (rows[0]['threads'] > 1)}"
        for part, color in (("whole", "black"), ("rest", "tab:blue"), ("retrieval", "tab:orange")):
            label = {"whole": "residuals, all of it", "rest": "without retrieval", "retrieval": "retrieval"}[part]
            time.plot(images, [row[part] for row in rows], style, marker="o", markersize=3, color=color, label=f"{label}, {threads}")
    time.set(xscale="log", ylim=0, xlabel="enrolled pictures", ylabel="ms per frame")
    time.legend(fontsize=7)
    memory.plot(images, [bank["memory"] / 1e6 for bank in banks], "-", marker="o", markersize=3, color="black", label="measured")
    computed = [
        (bank["tokens"] * bank["bytes_per_token"] + bank["images"] * bank["bytes_per_descriptor"]) / 1e6 for bank in banks
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
