"""Compares the nearest-neighbor search with other programs on the same arrays, in one run.

`make bench-search` dumps the arrays that real packages search, then runs this in an environment with the
other programs.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch
import usearch.index
from safetensors.numpy import load_file
from threadpoolctl import threadpool_limits

FOLDER = Path("target/search")
ROUNDS = 9
OTHER_LOOPS = ("matrixmultiply", "plain loop")


def median_ms(work: Callable[[int], object], searches: int) -> float:
    work(0)
    times = []
    for number in range(ROUNDS):
        start = time.perf_counter()
        work(number % searches)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def with_numpy(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """BLAS, some queries at a time: the matrix of distances stays in the cache."""
    norms = (bank * bank).sum(axis=1)
    parts = [
        (norms - 2 * part @ bank.T).argmin(axis=1)
        for part in np.array_split(queries, max(1, len(queries) // 256))
    ]
    return np.concatenate(parts)


def with_torch(queries: torch.Tensor, bank: torch.Tensor) -> np.ndarray:
    return torch.cdist(queries, bank).topk(1, largest=False).indices[:, 0].numpy()


def with_usearch(queries: np.ndarray, bank: np.ndarray, threads: int) -> np.ndarray:
    found = usearch.index.search(bank, queries, 1, usearch.index.MetricKind.L2sq, exact=True, threads=threads)
    return found.keys[:, 0].astype(np.int64)


def check(name: str, queries: np.ndarray, bank: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> int:
    """How many neighbors differ; refuses ours where it is farther than theirs by more than rounding."""
    differ = np.flatnonzero(ours != theirs)
    for query in differ:
        distances = [
            float(((queries[query].astype(float) - bank[row]) ** 2).sum())
            for row in (ours[query], theirs[query])
        ]
        if distances[0] > distances[1] * (1 + 1e-5):
            raise SystemExit(f"{name} found a nearer neighbor of query {query}: {distances}")
    return len(differ)


def ours(threads: int, files: list[Path]) -> list[dict]:
    # The benchmark runs in its package's folder.
    command = ["cargo", "bench", "--quiet", "--locked", "--package", "posfar", "--bench", "search"]
    command += ["--", str(threads)]
    command += [str(file.resolve()) for file in files]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def fastest(own: dict) -> float:
    """Our time with the fastest instructions."""
    return min(ms for name, ms in own["ms"].items() if name not in OTHER_LOOPS)


def compare(file: Path, own: dict, threads: int) -> dict:
    """Times of all programs on one dumped search, and how many neighbors differ."""
    arrays = load_file(file)
    count = len(arrays) // 2
    queries = [np.ascontiguousarray(arrays[f"queries.{i:03}"]) for i in range(count)]
    banks = [np.ascontiguousarray(arrays[f"candidates.{i:03}"]) for i in range(count)]
    found = np.fromfile(f"{file}.found", dtype=np.uint32).astype(np.int64)
    indexes = []
    for bank in banks:
        indexes.append(faiss.IndexFlatL2(bank.shape[1]))
        indexes[-1].add(bank)
    tensors = [(torch.from_numpy(q), torch.from_numpy(b)) for q, b in zip(queries, banks, strict=True)]
    searches = {
        "faiss": lambda i: indexes[i].search(queries[i], 1)[1][:, 0],
        "numpy": lambda i: with_numpy(queries[i], banks[i]),
        "torch": lambda i: with_torch(*tensors[i]),
        "usearch": lambda i: with_usearch(queries[i], banks[i], threads),
    }
    with threadpool_limits(threads):
        ms = {name: median_ms(search, count) for name, search in searches.items()}
        differ = {
            name: check(name, queries[0], banks[0], found, search(0)) for name, search in searches.items()
        }
    ms |= {name: own["ms"][name] for name in OTHER_LOOPS}
    return {"own": own["ms"], "rivals": ms, "ties_that_differ": differ}


def main() -> None:
    files = sorted(FOLDER.glob("*.safetensors"))
    if not files:
        raise SystemExit(f"there are no dumped searches in {FOLDER}")
    results = {}
    smallest = float("inf")
    for threads in (1, 2):
        faiss.omp_set_num_threads(threads)
        torch.set_num_threads(threads)
        *measured, limits = ours(threads, files)
        share = 100 * limits["dense"] / limits["peak"]
        print(
            f"\n{threads} thread{'s' * (threads > 1)}: peak {limits['peak']:.0f} GFLOP/s in f32; where "
            f"nothing can be left out, {limits['dense']:.0f} GFLOP/s = {share:.0f} % of it"
        )
        names = ["faiss", "numpy", "torch", "usearch", *OTHER_LOOPS]
        print("| work | queries × candidates × dims | weakrest ms | " + " | ".join(names) + " |")
        print("|---" * (3 + len(names)) + "|")
        for file, own in zip(files, measured, strict=True):
            result = compare(file, own, threads)
            best, ms = fastest(own), result["rivals"]
            shape = f"{own['queries']} × {own['candidates']} × {own['dims']}"
            ratios = " | ".join(f"{ms[name]:.1f} ms, {ms[name] / best:.1f} ×" for name in names)
            print(f"| {file.stem} | {shape} | {best:.2f} | {ratios} |", flush=True)
            results[f"{file.stem}-{threads}"] = result
            smallest = min(smallest, ms["faiss"] / best)
    (FOLDER / "results.json").write_text(json.dumps(results, indent=1))
    print(
        f"\nsmallest ratio to faiss: {smallest:.1f}; neighbors of all but matrixmultiply were compared: the "
        "same except for ties"
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
