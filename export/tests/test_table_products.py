"""`make table-products` with a stand-in for the program."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parents[2] / "tools/table_products.py"
# Answers as `weakrest evaluate --json`, with numbers from a file in the data set, and notes its arguments.
PROGRAM = f"""#!{sys.executable}
import json, pathlib, sys
with open("calls.txt", "a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
folder = pathlib.Path(sys.argv[sys.argv.index("--dataset") + 1])
told = json.loads((folder / "told.json").read_text())
seed = int(sys.argv[sys.argv.index("--seed") + 1])
if "auroc" not in told:
    sys.exit(3)
confusion = {{"good": told["good"], "false_rejects": 1, "defective": 4, "misses": 2}}
masks = told["ap"] is not None
result = {{
    "name": folder.name,
    "image_auroc": told["auroc"] + seed / 10,
    "confusion": confusion,
    "allowed": [{{"percent": p, "confusion": {{**confusion, "misses": p}}}} for p in (1, 3)],
    "pixels": {{"average_precision": told["ap"], "pro": 0.5}} if masks else None,
    "widths": [
        {{"from": 0.0, "below": 4.0, "defective": 4, "image_auroc": 0.25}},
        {{"from": 4.0, "below": None, "defective": 0, "image_auroc": None}},
    ] if masks else None,
    "rejects_per_promise": 2.0,
    "enroll_seconds": 7.0,
    "times": {{"total": {{"median": 3.0}}}},
    "outcomes": [],
}}
print(json.dumps({{"categories": [result]}}))
"""


class Bench:
    """A folder with data sets, a program, and the results."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.program("")
        self.product("one/nut", auroc=0.5, ap=0.25, good=10)
        self.product("two/bolt", auroc=0.75, ap=None, good=2)
        (root / "data/two/no-product/test").mkdir(parents=True)

    def product(self, name: str, **told: Any) -> None:
        for folder in ("train/good", "test"):
            (self.root / "data" / name / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "data" / name / "told.json").write_text(json.dumps(told))

    def program(self, version: str) -> None:
        path = self.root / "program"
        path.write_text(f"{PROGRAM}# {version}\n")
        path.chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"WEAKREST": str(self.root / "program"), "WEAKREST_DATA": str(self.root / "data")}
        command = [sys.executable, str(TOOL), *arguments]
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)

    def table(self, *arguments: str) -> dict[tuple[str, str], dict[str, str]]:
        """Rows of the printed table by product and setting."""
        ran = self.run(*arguments)
        assert ran.returncode == 0, ran.stderr
        head, _, *rows = (
            [cell.strip() for cell in line.split("|")[1:-1]] for line in ran.stdout.splitlines()
        )
        return {(row[0], row[1]): dict(zip(head, row, strict=True)) for row in rows}

    def calls(self) -> int:
        return len((self.root / "calls.txt").read_text().splitlines())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_products_are_found_and_averaged_with_those_that_have_masks(bench: Bench) -> None:
    rows = bench.table()
    assert list(rows) == [(name, "defaults") for name in ("one/nut", "two/bolt", "mean of 2", "worst of 2")]
    nut, bolt, mean, worst = rows.values()
    assert (nut["image AUROC"], nut["pixel AP"], nut["AUROC 0–4 px"], nut["AUROC ≥ 4 px"]) == (
        "0.5000",
        "0.250",
        "0.250 (4)",
        "–",
    )
    assert (nut["false rejects"], nut["misses"], nut["misses at 1 %"], nut["misses at 3 %"]) == (
        "1/10",
        "2/4",
        "1/4",
        "3/4",
    )
    assert (bolt["pixel AP"], bolt["PRO"], bolt["AUROC 0–4 px"]) == ("–", "–", "–")
    # Products weigh the same, however many parts they have.
    assert (mean["image AUROC"], mean["false rejects"], mean["misses"]) == ("0.6250", "30.0 %", "50.0 %")
    assert (mean["pixel AP"], mean["AUROC 0–4 px"], mean["AUROC ≥ 4 px"]) == (
        "0.250 (of 1)",
        "0.250 (of 1)",
        "–",
    )
    assert (worst["image AUROC"], worst["false rejects"], worst["enroll s"]) == ("0.5000", "50.0 %", "7")
    kept = json.loads((bench.root / "target/products/table.json").read_text())
    assert [sums["image AUROC"] for sums in kept["products"]] == [
        {"value": 0.625, "products": 2},
        {"value": 0.5, "products": 2},
    ]
    assert len(kept["cells"]) == 2


def test_seeds_are_averaged_and_counts_added(bench: Bench) -> None:
    rows = bench.table("--seeds", "2", "--only", "nut")
    assert list(rows) == [(name, "defaults") for name in ("one/nut", "mean of 1", "worst of 1")]
    assert rows["one/nut", "defaults"]["image AUROC"] == "0.5500"
    assert rows["one/nut", "defaults"]["false rejects"] == "2/20"


def test_an_interrupted_run_continues(bench: Bench) -> None:
    bench.product("two/bolt")
    failed = bench.run()
    assert failed.returncode == 1
    assert "failed, so there is no table: two/bolt defaults 0" in failed.stderr
    assert failed.stdout == ""
    assert bench.calls() == 2
    bench.product("two/bolt", auroc=0.75, ap=None, good=2)
    first = bench.table()
    assert bench.calls() == 3, "the finished cell is not measured again"
    assert bench.table() == first
    assert bench.calls() == 3
    bench.table("--settings", "defaults,k64")
    assert bench.calls() == 5, "another setting is"
    arguments = json.loads((bench.root / "calls.txt").read_text().splitlines()[-1])
    assert arguments[-5:] == ["--any-size", "-k", "64", "--seed", "0"]


def test_results_of_other_programs_and_pictures_are_not_mixed_in(bench: Bench) -> None:
    bench.table()
    bench.program("new")
    bench.table()
    assert bench.calls() == 4
    (bench.root / "data/one/nut/test/new.png").write_bytes(b"picture")
    bench.table()
    assert bench.calls() == 5, "only the product that has changed"
    bench.program("")
    bench.table("--only", "bolt")
    assert bench.calls() == 5, "the first program's result is still there"


def test_a_file_of_a_setting_counts_by_its_contents(bench: Bench) -> None:
    (bench.root / "own.toml").write_text('[network]\nenroll = ["--backbone", "net.onnx"]\n')
    arguments = ("--file", "own.toml", "--settings", "network", "--only", "nut")
    for name in ("net.onnx", "net.toml"):
        (bench.root / name).write_text("first")
    bench.table(*arguments)
    bench.table(*arguments)
    assert bench.calls() == 1
    (bench.root / "net.toml").write_text("second")
    bench.table(*arguments)
    assert bench.calls() == 2


def test_training_gets_the_other_products(bench: Bench) -> None:
    (bench.root / "train.sh").write_text('echo "$@" > "$1/told.txt"\n')
    (bench.root / "own.toml").write_text(
        '[head]\ntrain = ["/bin/sh", "train.sh", "{out}", "{seed}", "{others}"]\n'
        'enroll = ["--head", "{out}/head.onnx"]\n'
    )
    bench.table("--file", "own.toml", "--settings", "head", "--only", "nut")
    (told,) = bench.root.glob("target/products/one-nut-head-0-*/told.txt")
    out = told.parent.relative_to(bench.root)
    assert told.read_text().split() == [str(out), "0", str(bench.root / "data/two/bolt")]
    arguments = json.loads((bench.root / "calls.txt").read_text())
    assert arguments[arguments.index("--head") + 1] == f"{out}/head.onnx"


def test_unknown_names_are_told(bench: Bench) -> None:
    assert "there is no product screw: there are one/nut, two/bolt" in bench.run("--only", "nut,screw").stderr
    unknown = bench.run("--settings", "k65").stderr
    assert "there is no setting k65: there are defaults, fast, best, k64" in unknown
