#!/usr/bin/env python3
"""Measures every product with every setting: `make table-products`.

Products are all folders SET/PRODUCT below WEAKREST_DATA with train/good and test. Settings are in
table_products.toml. Each cell (product, setting, seed) is a run of `weakrest evaluate` and a file in
target/products: an interrupted run continues. The file's name has a hash of the program, of the arguments
with the files that they name, and of the names and sizes of the product's pictures. The last run's results
are in target/products/table.json and table.md; Markdown is also printed.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import experiments
import tomllib
from experiments import BINARY

KEPT = Path("target/products")
SETTINGS = Path(__file__).with_suffix(".toml")
Result = dict[str, Any]


def products(data: Path) -> dict[str, Path]:
    """Folders of products by their names, SET/PRODUCT."""
    found = sorted(
        path.parents[1] for path in data.glob("*/*/train/good") if (path.parents[1] / "test").is_dir()
    )
    return {f"{path.parent.name}/{path.name}": path for path in found}


def digest(parts: Iterable[str | bytes]) -> str:
    """Hash of the parts, each with its length: no two lists run together."""
    found = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogateescape") if isinstance(part, str) else part
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()[:16]


def named_files(words: Iterable[str]) -> list[bytes]:
    """Contents of the files that words name, with those beside them: NAME.onnx goes with NAME.toml."""
    files = [Path(word) for word in words if Path(word).is_file()]
    return [beside.read_bytes() for file in files for beside in sorted(file.parent.glob(f"{file.stem}.*"))]


def listing(folder: Path) -> list[str]:
    return [
        f"{path.relative_to(folder)} {path.stat().st_size}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


@dataclass(frozen=True)
class Cell:
    product: str
    setting: str
    seed: int

    def measured(self, folders: dict[str, Path], setting: dict[str, Any], binary: str) -> Result:
        """The kept result of this cell; measures it if there is none.

        Raises:
            subprocess.CalledProcessError: if the program fails.
        """
        folder = folders[self.product]
        others = [other for name, other in folders.items() if name != self.product]
        training, enroll = setting.get("train", []), setting["enroll"]
        words = json.dumps([training, enroll])
        parts = [binary, self.product, str(self.seed), words, *named_files([*training, *enroll])]
        parts += listing(folder)
        if training:
            parts += [line for other in others for line in listing(other)]
        name = f"{self.product.replace('/', '-')}-{self.setting}-{self.seed}-{digest(parts)}"
        kept = KEPT / f"{name}.json"
        if kept.exists():
            return json.loads(kept.read_text())

        def filled(words: Sequence[str]) -> list[str]:
            values = {"{out}": str(KEPT / name), "{seed}": str(self.seed)}
            for key, value in values.items():
                words = [word.replace(key, value) for word in words]
            return [new for word in words for new in (map(str, others) if word == "{others}" else [word])]

        start = time.monotonic()
        if training:
            (KEPT / name).mkdir(exist_ok=True)
            subprocess.run(filled(training), check=True, stdout=sys.stderr)
        arguments = ["--any-size", *filled(enroll), "--seed", str(self.seed)]
        command = [str(BINARY), "evaluate", "--dataset", str(folder), "--json", *arguments]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        (result,) = json.loads(run.stdout)["categories"]
        found = {
            "product": self.product,
            "setting": self.setting,
            "seed": self.seed,
            "arguments": arguments,
            **result,
        }
        unfinished = kept.with_suffix(".part")
        unfinished.write_text(json.dumps(found))
        unfinished.replace(kept)
        print(f"{kept}: {time.monotonic() - start:.0f} s", file=sys.stderr)
        return found


@dataclass(frozen=True)
class Column:
    title: str
    # A number of a cell, or None where the product has none. Larger is better if `worst` is `min`.
    value: Callable[[Result], float | None]
    show: Callable[[float], str] = "{:.3f}".format
    worst: Callable[[Iterable[float]], float] = min
    # Parts of a whole, shown instead of the value: their sums over the seeds.
    counts: Callable[[Result], tuple[int, int]] | None = None
    # Behind the value, in brackets.
    remark: Callable[[Result], object] | None = None

    def number(self, results: Sequence[Result]) -> float | None:
        """Mean of one product's seeds."""
        found = [value for result in results if (value := self.value(result)) is not None]
        return statistics.mean(found) if found else None

    def cell(self, results: Sequence[Result]) -> str:
        """A cell of one product's row."""
        number = self.number(results)
        if number is None:
            return "–"
        if self.counts:
            return "/".join(str(sum(counts)) for counts in zip(*map(self.counts, results), strict=True))
        return self.show(number) + (f" ({self.remark(results[0])})" if self.remark else "")


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def counted(title: str, part: str, whole: str, of: Callable[[Result], Result]) -> Column:
    """A column of parts of a whole, whose share is to be small."""

    def counts(result: Result) -> tuple[int, int]:
        return of(result).get(part, 0), of(result).get(whole, 0)

    def share(result: Result) -> float | None:
        some, all_of_them = counts(result)
        return some / all_of_them if all_of_them else None

    return Column(title, share, percent, max, counts)


def allowed(number: int) -> Callable[[Result], Result]:
    def of(result: Result) -> Result:
        return next((a["confusion"] for a in result["allowed"] if a["percent"] == number), {})

    return of


def width(index: int, title: str) -> Column:
    """A column of the image AUROC of a class of widths."""

    def value(result: Result) -> float | None:
        return result["widths"][index]["image_auroc"] if result["widths"] else None

    return Column(title, value, remark=lambda result: result["widths"][index]["defective"])


def pixels(key: str) -> Callable[[Result], float | None]:
    return lambda result: result["pixels"][key] if result["pixels"] else None


def columns(results: Sequence[Result]) -> list[Column]:
    """The table's columns. Classes of widths and allowed shares are the program's."""
    classes = next((result["widths"] for result in results if result["widths"]), [])
    ranges = [f"{c['from']:g}–{c['below']:g}" if c["below"] else f"≥ {c['from']:g}" for c in classes]
    shares = sorted({a["percent"] for result in results for a in result["allowed"]})
    shipped = itemgetter("confusion")
    return [
        Column("image AUROC", itemgetter("image_auroc"), "{:.4f}".format),
        Column("pixel AP", pixels("average_precision")),
        Column("PRO", pixels("pro")),
        counted("false rejects", "false_rejects", "good", shipped),
        counted("misses", "misses", "defective", shipped),
        *[counted(f"misses at {share} %", "misses", "defective", allowed(share)) for share in shares],
        Column("rejects / promise", itemgetter("rejects_per_promise"), "{:.1f}".format, max),
        *[width(index, f"AUROC {title} px") for index, title in enumerate(ranges)],
        Column("enroll s", itemgetter("enroll_seconds"), "{:.0f}".format, max),
        Column("ms/frame", lambda result: result["times"]["total"]["median"], "{:.0f}".format, max),
    ]


def table(results: Sequence[Result]) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """Rows of text with their head, and each setting's mean and worst of the products as numbers."""
    shown = columns(results)
    rows = [["product", "setting", *(column.title for column in shown)]]
    names = list(dict.fromkeys(result["product"] for result in results))
    settings = list(dict.fromkeys(result["setting"] for result in results))
    cells = {
        (name, setting): [r for r in results if (r["product"], r["setting"]) == (name, setting)]
        for name in names
        for setting in settings
    }
    rows += [[*key, *(column.cell(found) for column in shown)] for key, found in cells.items()]
    sums = []
    for kind in ("mean", "worst"):
        for setting in settings:
            texts, numbers = [], {}
            for column in shown:
                found = [n for name in names if (n := column.number(cells[name, setting])) is not None]
                of = f" (of {len(found)})" if len(found) < len(names) else ""
                number = (statistics.mean if kind == "mean" else column.worst)(found) if found else None
                texts.append("–" if number is None else column.show(number) + of)
                numbers[column.title] = {"value": number, "products": len(found)}
            rows.append([f"{kind} of {len(names)}", setting, *texts])
            sums.append({"kind": kind, "setting": setting, "products": len(names), **numbers})
    return rows, sums


def chosen(wanted: str | None, there: Sequence[str], kind: str) -> list[str]:
    """The names that a list with commas chooses; a product's may lack its data set's."""
    if wanted is None:
        return list(there)
    found = []
    for word in wanted.split(","):
        matching = [name for name in there if word in (name, name.rpartition("/")[2])]
        if not matching:
            sys.exit(f"there is no {kind} {word}: there are {', '.join(there)}")
        found += matching
    return list(dict.fromkeys(found))


def measure(
    folders: dict[str, Path], names: Sequence[str], settings: dict[str, Any], seeds: int
) -> list[Result]:
    """Results of every product with every setting and seed; exits if one of them fails."""
    KEPT.mkdir(parents=True, exist_ok=True)
    binary = hashlib.sha256(BINARY.read_bytes()).hexdigest()
    results, failed = [], []
    for cell in (
        Cell(*key, seed) for seed in range(seeds) for key in ((n, s) for s in settings for n in names)
    ):
        try:
            results.append(cell.measured(folders, settings[cell.setting], binary))
        except subprocess.CalledProcessError:
            failed.append(f"{cell.product} {cell.setting} {cell.seed}")
    if failed:
        # A mean without them would compare different products.
        sys.exit(f"failed, so there is no table: {', '.join(failed)}")
    return results


def need_products(only: str | None) -> tuple[dict[str, Path], list[str]]:
    """All products, and the names of those that a list with commas chooses; exits if there are none."""
    folders = products(experiments.need_data())
    if not folders:
        sys.exit(f"{experiments.need_data()}: no SET/PRODUCT with train/good and test")
    return folders, chosen(only, list(folders), "product")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="NAME,…", help="products (default: all)")
    parser.add_argument("--settings", metavar="NAME,…", default="defaults", help="or all (default: defaults)")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, … (default: 1 seed)")
    parser.add_argument("--file", type=Path, default=SETTINGS, help="settings (default: beside this tool)")
    options = parser.parse_args()
    folders, names = need_products(options.only)
    settings = tomllib.loads(options.file.read_text())
    rows = chosen(None if options.settings == "all" else options.settings, list(settings), "setting")
    results = measure(folders, names, {row: settings[row] for row in rows}, options.seeds)
    texts, sums = table(results)
    for result in results:
        del result["outcomes"]
    lines = [f"| {' | '.join(row)} |" for row in texts]
    lines.insert(1, f"|{'---|' * len(texts[0])}")
    (KEPT / "table.md").write_text("\n".join(lines) + "\n")
    binary = hashlib.sha256(BINARY.read_bytes()).hexdigest()
    report = {"binary": binary, "seeds": options.seeds, "products": sums, "cells": results}
    (KEPT / "table.json").write_text(json.dumps(report, indent=1) + "\n")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
