"""`tools/table_backbones.py`, with programs in the place of weakrest and of the exporter."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parents[2] / "tools/table_backbones.py"

EXPORTER = f"""#!{sys.executable}
import sys
from pathlib import Path
words = sys.argv[1:]
with Path("exports.txt").open("a") as file:
    print(*words, file=file)
if "timm:unreachable" in words:
    sys.exit(3)
out, name = (Path(words[words.index(option) + 1]) for option in ("--out", "--name"))
(out / f"{{name}}.onnx").write_bytes(b"x" * 1_500_000)
(out / f"{{name}}.toml").write_text("")
print(name, "was exported")
"""

# A worse network scores less. It runs on the CPU, and CUDA can be loaded but runs nothing.
PROGRAM = f"""#!{sys.executable}
import json, sys
from pathlib import Path
words = sys.argv[1:]
with Path("calls.txt").open("a") as file:
    print(*words, file=file)
value = lambda option: words[words.index(option) + 1]
if words[0] == "check":
    print("providers      tensorrt not built in\\n               cuda     can be loaded")
    print("               cpu      can be loaded")
elif words[0] == "enroll":
    package = Path(value("--output"))
    with Path("enrolled.txt").open("a") as file:
        print(len(list(Path(value("--images")).iterdir())), "pictures", file=file)
    (package / "golden").mkdir(parents=True, exist_ok=True)
    network = Path(value("--backbone")).read_bytes() if "--backbone" in words else b"y" * 4_000_000
    (package / "backbone.onnx").write_bytes(network)
    (package / "golden/bank").write_bytes(b"z" * 500_000)
elif words[0] == "bench":
    if value("--provider") != "cpu":
        sys.exit(3)
    median = lambda number: {{"median": number}}
    print(json.dumps({{"milliseconds": {{"features": median(20.04), "total": median(25.06)}}}}))
else:
    folder = Path(value("--dataset"))
    worse = 0.25 if "--backbone" in words else 0
    auroc = json.loads((folder / "told.json").read_text()) - worse
    confusion = {{"good": 10, "false_rejects": 1, "defective": 4, "misses": 2}}
    result = {{
        "image_auroc": auroc,
        "confusion": confusion,
        "allowed": [{{"percent": 1, "confusion": confusion}}],
        "pixels": {{"average_precision": auroc / 2, "pro": 0.5}},
        "widths": [],
        "rejects_per_promise": 2.0,
        "enroll_seconds": 7.0,
        "times": {{"total": {{"median": 3.0}}}},
        "outcomes": [],
    }}
    print(json.dumps({{"categories": [result]}}))
"""


class Bench:
    """A folder with two products and the programs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in (("weakrest", PROGRAM), ("exporter", EXPORTER)):
            (root / name).write_text(text)
            (root / name).chmod(0o755)
        for name, auroc in (("one/nut", 1.0), ("two/bolt", 0.5)):
            for folder in ("train/good", "test"):
                (root / "data" / name / folder).mkdir(parents=True)
            for number in range(30):
                (root / "data" / name / f"train/good/{number:03}.png").write_bytes(b"")
            (root / "data" / name / "told.json").write_text(json.dumps(auroc))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "WEAKREST": str(self.root / "weakrest"),
            "WEAKREST_DATA": str(self.root / "data"),
            "WEAKREST_EXPORT": str(self.root / "exporter"),
        }
        command = [sys.executable, str(TOOL), *arguments]
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)

    def table(self, *arguments: str) -> dict[str, dict[str, str]]:
        """Rows of the printed table by backbone."""
        ran = self.run(*arguments)
        assert ran.returncode == 0, ran.stderr
        head, _, *rows = (
            [cell.strip() for cell in line.split("|")[1:-1]] for line in ran.stdout.splitlines()
        )
        return {row[0]: dict(zip(head, row, strict=True)) for row in rows}

    def lines(self, name: str) -> list[str]:
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_backbones_of_every_kind_are_compared(bench: Bench) -> None:
    (bench.root / "mine.onnx").write_bytes(b"m" * 2_000_000)
    (bench.root / "mine.toml").write_text("")
    words = ("defaults", "dinov2-s", "timm:resnet18", "mine.onnx")
    rows = bench.table(*words)
    assert tuple(rows) == words
    assert rows["defaults"] == {
        "backbone": "defaults",
        "image AUROC": "0.7500 (0.5000)",
        "pixel AP": "0.375 (0.250)",
        "PRO": "0.500 (0.500)",
        "false rejects": "10.0 % (10.0 %)",
        "misses": "50.0 % (50.0 %)",
        "misses at 1 %": "50.0 % (50.0 %)",
        "ms on cuda": "–",
        "ms on cpu": "20.0 / 25.1",
        "network MB": "4.0",
        "package MB": "4.5",
    }
    assert [row["image AUROC"] for row in rows.values()][1:] == ["0.5000 (0.2500)"] * 3
    assert [row["network MB"] for row in rows.values()] == ["4.0", "1.5", "1.5", "2.0"]
    exports = bench.lines("exports.txt")
    assert exports[0].startswith("backbone timm:vit_small_patch14_dinov2.lvd142m --name dinov2-s-")
    assert exports[1].startswith("backbone timm:resnet18 --name timm-resnet18-")
    left = sorted(path.suffix for path in (bench.root / "target/backbones").iterdir())
    assert left == [".onnx", ".onnx", ".toml", ".toml"]

    evaluated = [line for line in bench.lines("calls.txt") if line.startswith("evaluate")]
    assert len(evaluated) == 2 * len(words)
    assert bench.table(*words) == rows
    assert len(bench.lines("exports.txt")) == 2, "an exported network is there"
    assert len([line for line in bench.lines("calls.txt") if line.startswith("evaluate")]) == len(evaluated)


def test_random_weights_are_only_timed(bench: Bench) -> None:
    rows = bench.table("--random", "--providers", "cpu", "dinov2-s", "fast")
    assert list(rows["dinov2-s"]) == ["backbone", "ms on cpu", "network MB", "package MB"]
    assert " --weights none " in bench.lines("exports.txt")[0]
    assert not [line for line in bench.lines("calls.txt") if line.startswith("evaluate")]
    enrolled = next(line for line in bench.lines("calls.txt") if "--quality fast" in line)
    assert enrolled.startswith("enroll --images target/backbones/")
    assert "20 pictures\n" in (bench.root / "enrolled.txt").read_text()


def test_processor_time_is_what_more_pictures_cost_more(bench: Bench) -> None:
    rows = bench.table("--random", "--busy", "--frames", "7", "fast")
    assert list(rows["fast"]) == ["backbone", "ms on one thread", "network MB", "package MB"]
    timed = [line.split() for line in bench.lines("calls.txt") if line.startswith("bench")]
    assert [words[words.index("--frames") + 1] for words in timed] == ["7", "14"]
    assert all(words[words.index("--threads") + 1] == "1" for words in timed)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "dinov4",
            "there is no backbone dinov4: give one of fast-half, standard-half, wide-resnet50, dinov2-s",
        ),
        ("missing.onnx", "there is no file missing.onnx"),
        ("timm:unreachable", "timm:unreachable was not exported"),
    ],
)
def test_what_cannot_be_compared_is_told(bench: Bench, word: str, message: str) -> None:
    ran: Any = bench.run("fast", word)
    assert ran.returncode == 1
    assert message in ran.stderr
    assert ran.stdout == ""
    assert not bench.lines("calls.txt"), "nothing is measured before"
