#!/usr/bin/env python3
"""Compares the coreset with anomalib's on the same tokens: `make bench-coreset` (needs WEAKREST_DATA).

`cargo bench --package posfar --bench coreset` leaves tokens, choices and times in target/coreset. Anomalib's
class runs in full on a tenth of the tokens, and for some selections on all of them. Each selection costs the
same, and the total is a multiple. The radius is the largest distance of a token to its nearest kept token.
"""

import importlib
import sys
import time
import types
from pathlib import Path

import torch

FOLDER = Path("target/coreset")
RIVAL = Path("target/rivals-coreset")
SELECTIONS = 200


def k_center_greedy() -> type:
    """Imports the class alone: the packages around it import all of Lightning."""
    for name in ("", ".models", ".models.components", ".models.components.dimensionality_reduction"):
        package = types.ModuleType(f"anomalib{name}")
        package.__path__ = [str(RIVAL / "anomalib" / name.replace(".", "/").lstrip("/"))]
        sys.modules[package.__name__] = package
    reduction = sys.modules["anomalib.models.components.dimensionality_reduction"]
    projection = importlib.import_module(f"{reduction.__name__}.random_projection")
    reduction.SparseRandomProjection = projection.SparseRandomProjection
    return importlib.import_module("anomalib.models.components.sampling.k_center_greedy").KCenterGreedy


KCenterGreedy = k_center_greedy()


def radius(tokens: torch.Tensor, kept: torch.Tensor) -> float:
    return max(torch.cdist(part, tokens[kept]).amin(dim=1).max().item() for part in tokens.split(2000))


def select(tokens: torch.Tensor, count: int) -> tuple[list[int], float]:
    """The tokens that anomalib keeps, and its seconds. Three dimensions make it use the given space."""
    torch.manual_seed(0)
    start = time.perf_counter()
    kept = KCenterGreedy(tokens, (count + 0.5) / len(tokens)).select_coreset_idxs()
    return kept, time.perf_counter() - start


def main() -> None:
    ours = {}
    for name in ("share", "all"):
        (path,) = FOLDER.glob(f"{name}-*.f32")
        width = int(path.stem.split("-")[1])
        tokens = torch.from_file(str(path), size=path.stat().st_size // 4).reshape(-1, width)
        kept = torch.from_file(str(FOLDER / f"{name}.kept"), size=len(tokens) // 10, dtype=torch.int64)
        seconds = {int(p.stem.split("-")[1]): float(p.read_text()) for p in FOLDER.glob(f"{name}-*.seconds")}
        ours[name] = (tokens, kept, seconds)

    tokens, kept, _ = ours["share"]
    print(f"{len(tokens)} tokens of {tokens.shape[1]} dimensions to {len(kept)}, in full")
    theirs, _ = select(tokens[:, :, None], len(kept))
    radii = radius(tokens, kept), radius(tokens, torch.tensor(theirs))
    print(f"  radius: weakrest {radii[0]:.4f}, anomalib {radii[1]:.4f}, ratio {radii[0] / radii[1]:.4f}")

    tokens, kept, seconds = ours["all"]
    print(f"{len(tokens)} tokens to {len(kept)}; anomalib's time is {SELECTIONS} selections', multiplied")
    print(f"  radius: weakrest {radius(tokens, kept):.4f}")
    for threads, own in sorted(seconds.items()):
        torch.set_num_threads(threads)
        for what, data in (("the same space", tokens[:, :, None]), ("its own projection", tokens)):
            few, many = (select(data, count)[1] for count in (2, SELECTIONS + 2))
            whole = (many - few) / SELECTIONS * len(kept)
            print(
                f"  {threads} threads: weakrest {own:.2f} s, anomalib in {what} {whole:.0f} s, "
                f"ratio {whole / own:.0f}"
            )


if __name__ == "__main__":
    main()
