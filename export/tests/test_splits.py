"""Data sets as the `weakrest` program lists them, here a stand-in that prints what it is told."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from weakrest_export import labels, splits
from weakrest_export.cli import main
from weakrest_export.errors import ExportError
from weakrest_export.labels import Box, Mask, Rotated
from weakrest_export.program import call
from weakrest_export.settings import ChoiceSettings
from weakrest_export.splits import Category, Sample

Program = Callable[..., Path]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Makes a program that writes down its arguments, prints `out` and ends with `code`."""

    def make(out: str = "", err: str = "", code: int = 0) -> Path:
        path = tmp_path / "stand-in"
        path.write_text(
            f"#!{sys.executable}\nimport sys, pathlib\n"
            f"pathlib.Path({str(tmp_path / 'arguments')!r}).write_text(' '.join(sys.argv[1:]))\n"
            f"print({out!r})\nprint({err!r}, file=sys.stderr)\nsys.exit({code})\n"
        )
        path.chmod(0o755)
        return path

    return make


def listing(tmp_path: Path, **changes: Any) -> str:
    """A category with good pictures and two defects, one long and slanted, one in two parts close by."""
    bits = np.zeros((100, 200), dtype=np.uint8)
    for i in range(40):
        bits[20 + i : 24 + i, 30 + i : 34 + i] = 255
    bits[80:90, 150:160] = bits[80:90, 161:170] = 255
    for name in ("a.png", "b.png", "c.png"):
        Image.new("L", (200, 100)).save(tmp_path / name)
    Image.fromarray(bits).save(tmp_path / "mask.png")
    mask = {"path": str(tmp_path / "mask.png"), "rule": "above-half"}
    category = {
        "name": "tile",
        "train": [str(tmp_path / "c.png")],
        "test": [
            {"image": str(tmp_path / "a.png"), "defect": "crack", "mask": mask},
            {"image": str(tmp_path / "b.png"), "defect": None, "mask": None},
        ],
        "notes": ["one picture was odd"],
    }
    return json.dumps({"categories": [category | changes]})


def test_reads_a_category(tmp_path: Path, program: Program) -> None:
    category = splits.read_dataset(program(listing(tmp_path)), Path("data"), "mvtec", "tile")
    crack = Sample(tmp_path / "a.png", "crack", Mask(tmp_path / "mask.png"))
    good = Sample(tmp_path / "b.png", None, None)
    assert category == Category("tile", (tmp_path / "c.png",), (crack, good), ("one picture was odd",))
    arguments = "evaluate --dataset data --format mvtec --list --category tile"
    assert (tmp_path / "arguments").read_text() == arguments


@pytest.mark.parametrize(
    ("says", "message", "exit"),
    [
        (
            {"err": "weakrest: no such data set\n", "code": 2},
            "failed with exit code 2: weakrest: no such data",
            2,
        ),
        ({"err": "disk on fire", "code": 3}, "failed with exit code 3: disk on fire", 3),
        ({"code": 101}, "exit code 101: no message", 3),
        ({"out": "hello"}, "cannot read the output of", 3),
        ({"out": '{"categories": [{"name": 1}]}'}, "KeyError('train')", 3),
        ({"out": '{"categories": []}'}, "choose a category of data with --category: none", 2),
    ],
)
def test_says_what_the_program_said(program: Program, says: dict[str, Any], message: str, exit: int) -> None:
    with pytest.raises(ExportError) as caught:
        splits.read_dataset(program(**says), Path("data"), "mvtec")
    assert message in str(caught.value)
    assert caught.value.exit == exit


def test_says_that_there_is_no_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"there is no program /nowhere/weakrest: .* --weakrest or \$WEAKR"):
        call(Path("/nowhere/weakrest"), [])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("WEAKREST", "")
    with pytest.raises(ExportError, match="there is no program weakrest"):
        call(None, [])


def test_the_program_named_in_the_environment(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKREST", str(program("hello")))
    assert call(None, []) == "hello\n"


def test_several_categories_must_be_chosen_from(tmp_path: Path, program: Program) -> None:
    two = (
        json.loads(listing(tmp_path))["categories"] + json.loads(listing(tmp_path, name="nut"))["categories"]
    )
    with pytest.raises(ExportError, match="with --category: tile, nut"):
        splits.read_dataset(program(json.dumps({"categories": two})), Path("data"), "mvtec")


def test_a_category_needs_good_pictures(tmp_path: Path, program: Program) -> None:
    with pytest.raises(ExportError, match="category tile of data has no good pictures to enroll"):
        splits.read_dataset(program(listing(tmp_path, train=[])), Path("data"), "mvtec")


def category(root: str = "/data", **kinds: int) -> Category:
    """So many pictures of each kind of defect, and some good ones."""
    test = [
        Sample(Path(root, kind, f"{i:03}.png"), kind, None) for kind, n in kinds.items() for i in range(n)
    ]
    test += [Sample(Path(root, "good", f"{i:03}.png"), None, None) for i in range(50)]
    return Category("tile", (Path(root, "train.png"),), tuple(test), ())


@pytest.mark.parametrize(
    ("kinds", "count", "expected"),
    [
        ({"a": 20, "b": 20}, 10, [5, 5]),
        ({"a": 20, "b": 20, "c": 20}, 10, [3, 3, 4]),
        ({"a": 20, "b": 2, "c": 20}, 10, [2, 4, 4]),
        ({"a": 5, "b": 5}, 10, [5, 5]),
        ({"a": 20, "b": 20, "c": 20, "d": 20}, 2, [1, 1]),
    ],
)
def test_choice_is_even(kinds: dict[str, int], count: int, expected: list[int]) -> None:
    for seed in range(5):
        chosen = splits.choose_training_defects(category(**kinds), ChoiceSettings(count, seed=seed))
        assert sorted(Counter(sample.defect for sample in chosen).values()) == expected
        assert len({sample.image for sample in chosen}) == count


def test_choice_of_each_kind() -> None:
    chosen = splits.choose_training_defects(category(a=20, b=7), ChoiceSettings(7, per_type=True))
    assert Counter(sample.defect for sample in chosen) == {"a": 7, "b": 7}
    with pytest.raises(ExportError, match="has 7 of b, not 8 of each kind of defect: lower --count"):
        splits.choose_training_defects(category(a=20, b=7), ChoiceSettings(8, per_type=True))


def test_choice_depends_on_the_seed_alone() -> None:
    def names(root: str, seed: int) -> list[str]:
        found = category(root, a=20, b=20)
        found = Category(found.name, found.train, found.test[::-1], ())
        chosen = splits.choose_training_defects(found, ChoiceSettings(10, seed=seed))
        return [sample.image.relative_to(root).as_posix() for sample in chosen]

    assert names("/data", 1) == names("/elsewhere", 1) != names("/data", 2)
    # Published numbers depend on it.
    assert names("/data", 0) == [f"a/{n:03}.png" for n in (0, 10, 14, 16, 18)] + [
        f"b/{n:03}.png" for n in (0, 11, 13, 16, 17)
    ]


@pytest.mark.parametrize(
    ("count", "message"), [(8, "has 7 defective pictures, not 8"), (0, "must be at least 1")]
)
def test_choice_needs_enough(count: int, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        splits.choose_training_defects(category(a=3, b=4), ChoiceSettings(count))


def test_choice_passes_over_empty_masks(tmp_path: Path) -> None:
    def sample(name: str, value: int) -> Sample:
        mask = tmp_path / f"{name}_mask.png"
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(mask)
        return Sample(tmp_path / f"{name}.png", "uneven", Mask(mask, "above-half"))

    found = Category(
        "tile", (tmp_path / "train.png",), (sample("a", 255), sample("b", 0), sample("c", 255)), ()
    )
    assert [chosen.image.stem for chosen in splits.choose_training_defects(found, ChoiceSettings(2))] == [
        "a",
        "c",
    ]
    with pytest.raises(ExportError, match="has 2 defective pictures, not 3"):
        splits.choose_training_defects(found, ChoiceSettings(3))


@pytest.mark.parametrize("kind", ["masks", "boxes", "rotated", "tags"])
def test_weak_labels_from_a_data_set(
    tmp_path: Path, program: Program, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "labels.jsonl"
    arguments = ["labels", "from-dataset", "--dataset", "data", "--format", "mvtec", "--kind", kind]
    arguments += ["--count", "1", "--weakrest", str(program(listing(tmp_path))), "--out", str(out)]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith(f"{out}: pictures 1, defective 1, ")
    [label] = labels.read(out)
    assert (label.image, label.type, label.tag) == (tmp_path / "a.png", "crack", "defective")
    if kind == "masks":
        assert label.defects == (Mask(tmp_path / "mask.png"),)
    if kind == "boxes":
        assert label.defects == (Box(30, 20, 73, 63), Box(150, 80, 170, 90))
    if kind == "rotated":
        slanted, level = label.defects
        assert isinstance(slanted, Rotated)
        x, y = slanted.corners.T
        area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
        # 39 steps of √2 and the diagonal of 4 pixels along, that diagonal across.
        assert area == pytest.approx((39 + 4) * np.sqrt(2) * 4 * np.sqrt(2), rel=1e-3)
        assert sorted(level.corners.tolist()) == [[150, 80], [150, 90], [170, 80], [170, 90]]
    if kind == "tags":
        assert label.defects == ()


def test_weak_labels_need_masks(tmp_path: Path, program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    test = [{"image": str(tmp_path / "a.png"), "defect": "crack", "mask": None}]
    arguments = ["labels", "from-dataset", "--dataset", "data", "--format", "mvtec", "--kind", "boxes"]
    arguments += ["--count", "1", "--weakrest", str(program(listing(tmp_path, test=test)))]
    out = tmp_path / "labels.jsonl"
    assert main([*arguments, "--out", str(out)]) == 2
    assert "a.png has no mask, which boxes need: use --kind tags" in capsys.readouterr().err
    assert not out.exists()
