"""Training a package's head with one command; a fake stands in for the inspector."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shards import write_shards

from weakrest_export import workflow
from weakrest_export.blocks import IGNORED, NEGATIVE, POSITIVE
from weakrest_export.cli import main


class Inspector:
    """Sees nothing but the brightness of blocks, and remembers what it was called for."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        # Of defects, by packages with a head; the threshold is 1. Without a head they score 0.5.
        self.score_with_head = 2.0

    def __call__(self, weakrest: Path | None, arguments: Sequence[str], accept: Sequence[int] = (0,)) -> str:
        command, *rest = arguments
        self.calls.append(command)
        if command == "inspect":
            package, *images, _ = rest
            score = self.score_with_head if (Path(package) / "head.onnx").exists() else 0.5
            lines = [{"image": image, "score": score, "threshold": 1.0} for image in images]
            return "".join(json.dumps(line) + "\n" for line in lines)
        if command == "residuals":
            package, _, listed, _, folder, *see = rest
            images = [json.loads(line)["image"] for line in Path(listed).read_text("utf-8").splitlines()]
            digest = hashlib.sha256(Path(package, "package.toml").read_bytes()).hexdigest()
            seen = [self.see(image) for image in images] if see else None
            write_shards(Path(folder), [self.look(image) for image in images], images, digest, seen)
        else:
            assert rest[0] == "add-head"
            package, _, head, _, _, _, out, *_ = rest[1:]
            shutil.copytree(package, out, dirs_exist_ok=True)
            shutil.copy(head, Path(out) / "head.onnx")
        return ""

    def look(self, image: str) -> torch.Tensor:
        pixels = np.asarray(Image.open(image).convert("L"), np.float32) - 128
        cells = torch.from_numpy(pixels.reshape(8, 8, 8, 8).mean((1, 3)) / 8)
        return cells[None, :, :, None].repeat(3, 1, 1, 4).half()

    def see(self, image: str) -> torch.Tensor:
        pixels = np.asarray(Image.open(image).convert("L"), np.float32) - 128
        return torch.from_numpy(pixels / 64)[None].repeat(3, 1, 1).half()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package, good pictures and two defective ones, 64×64 pixels each."""
    (tmp_path / "nut.weakrest").mkdir()
    (tmp_path / "nut.weakrest" / "package.toml").write_text("product = 'nut'\n")
    generator = np.random.default_rng(0)
    for name in ("good/0.png", "good/1.png", "good/2.png", "bad/0.png", "bad/1.png", "bad/0_mask.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        pixels = generator.integers(118, 138, (64, 64), np.uint8)
        if "bad" in name:
            pixels[16:32, 24:40] = 255
        if "mask" in name:
            pixels[pixels < 255] = 0
        Image.fromarray(pixels).save(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def inspector(monkeypatch: pytest.MonkeyPatch) -> Inspector:
    made = Inspector()
    monkeypatch.setattr("weakrest_export.workflow.call", made)
    monkeypatch.setattr("weakrest_export.guard.call", made)
    return made


QUICK = ["--steps", "2", "--width", "32", "--synthetic", "6"]


def labels(folder: Path, *defects: object, name: str = "labels.jsonl") -> str:
    lines = [
        {"image": f"bad/{at}.png", "tag": "defective"}
        if defect is None
        else {"image": f"bad/{at}.png", "defects": [defect]}
        for at, defect in enumerate(defects)
    ]
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return name


def run(*arguments: str) -> int:
    return main(["train", "nut.weakrest", "--good", "good", "--out", "new.weakrest", *QUICK, *arguments])


@pytest.mark.usefixtures("inspector")
def test_good_pictures_alone_make_a_package_with_a_head(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(folder.iterdir())
    assert run() == 0
    assert (folder / "new.weakrest" / "head.onnx").stat().st_size > 10_000
    assert set(folder.iterdir()) - before == {folder / "new.weakrest"}
    printed = capsys.readouterr()
    assert "unsupervised, trained on 3 good, 6 synthetic pictures of nut" in printed.out
    assert "step 2 of 2, loss" in printed.err


BOX = {"box": [24, 16, 40, 32]}


@pytest.mark.parametrize(
    ("defects", "setting"),
    [
        ([{"mask": "bad/0_mask.png"}], "blocks"),
        ([BOX, BOX], "boxes"),
        ([{"rotated": [[24, 16], [40, 16], [40, 32], [24, 32]]}], "rotated"),
        ([None, None], "tags"),
        ([BOX, None], "mixed"),
    ],
)
@pytest.mark.usefixtures("inspector")
def test_labels_say_which_setting_it_is(folder: Path, defects: list[object], setting: str) -> None:
    assert run("--labels", labels(folder, *defects), "--work", "work") == 0
    manifest = (folder / "work" / "head.toml").read_text("utf-8")
    assert f'setting = "{setting}"' in manifest
    assert f"6 synthetic, {len(defects)} defective pictures" in manifest


@pytest.mark.usefixtures("inspector")
def test_synthetic_defects_are_not_compared_with_what_they_were_painted_on(folder: Path) -> None:
    assert run("--work", "work") == 0
    lines = [json.loads(line) for line in (folder / "work" / "pictures.jsonl").read_text().splitlines()]
    goods = [str(folder / "good" / f"{at}.png") for at in range(3)]
    assert [line["image"] for line in lines[:3]] == goods
    assert all(line["leave_out"] in goods for line in lines[3:])
    assert len(lines) == 9


def test_a_stopped_run_continues_with_what_is_there(
    folder: Path, inspector: Inspector, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--work", "work") == 0
    capsys.readouterr()
    assert run("--work", "work", "--overwrite") == 2
    assert "work is not empty: choose another --work, or continue with --resume" in capsys.readouterr().err
    shutil.rmtree(folder / "new.weakrest")
    assert run("--work", "work", "--resume") == 0
    assert inspector.calls == ["residuals", "package", "package"]

    (folder / "nut.weakrest" / "package.toml").write_text("product = 'bolt'\n")
    assert run("--work", "work", "--resume", "--overwrite") == 2
    assert "index.json: residuals of package" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--setting", "tags"], "setting tags: needs --labels with defective pictures"),
        (["--labels", "boxes.jsonl", "--setting", "blocks"], "setting blocks: the labels are boxes"),
        (["--labels", "boxes.jsonl", "tags.jsonl"], "is in several label files"),
        (["--resume"], "--resume: name the directory with --work"),
        (["--out", "nowhere/new.weakrest"], "output directory nowhere does not exist"),
        (["--out", "nut.weakrest"], "nut.weakrest exists: choose another --out"),
        (["--width", "100"], "width 100: must be a multiple of 32"),
        (["--weakrest", "absent"], "there is no program absent"),
        (["--name", "my head"], "name 'my head': use only letters"),
        (["--seed", "-1"], "seed -1: must be at least 0"),
        (["--labels", "twice.jsonl"], "0.png is labeled defective, but is one of the good pictures"),
    ],
)
def test_mistakes_are_told_in_one_line(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labels(folder, BOX, name="boxes.jsonl")
    labels(folder, None, name="tags.jsonl")
    (folder / "twice.jsonl").write_text('{"image": "good/0.png", "tag": "defective"}\n')
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "new.weakrest").exists()


def test_what_the_system_refuses_is_told_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "file").write_text("no directory")
    assert run("--work", "file/work") == 3
    error = capsys.readouterr().err
    assert "file/work" in error and error.count("\n") == 1


@pytest.mark.usefixtures("inspector")
def test_kept_work_is_not_mistaken_for_that_of_another_seed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "out").mkdir()
    train = [
        "train-seg",
        "nut.weakrest:good",
        "--out",
        "out",
        "--work",
        "work",
        "--synthetic",
        "4",
        "--steps",
        "1",
    ]
    assert main(train) == 0
    # As a run leaves it that was killed while it wrote.
    (folder / "work" / "residuals" / "index.json").unlink()
    (folder / "work" / "residuals" / ".weakrest-1234").write_text("half")
    assert main([*train, "--resume"]) == 0
    capsys.readouterr()
    assert main([*train, "--resume", "--seed", "1"]) == 2
    assert "painted with seed 0, not 1" in capsys.readouterr().err


@pytest.mark.usefixtures("inspector")
def test_tags_hide_where_defects_are(folder: Path) -> None:
    name = labels(folder, {"mask": "bad/0_mask.png"})
    assert run("--labels", name, "--setting", "tags", "--work", "work") == 0
    log = (folder / "work" / "training.jsonl").read_text("utf-8").splitlines()
    assert json.loads(log[-1])["guessed_loss"] is not None
    assert 'setting = "tags"' in (folder / "work" / "head.toml").read_text("utf-8")


def four_boxes(folder: Path) -> str:
    """Labels of four defective pictures."""
    for at in (2, 3):
        shutil.copy(folder / "bad" / "1.png", folder / "bad" / f"{at}.png")
    return labels(folder, BOX, BOX, BOX, BOX)


def test_a_head_is_written_if_it_rejects_more(
    folder: Path, inspector: Inspector, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--labels", four_boxes(folder)) == 0
    assert "4 labeled pictures: 4 rejected with the head (0 without it)" in capsys.readouterr().out
    assert (folder / "new.weakrest" / "head.onnx").exists()
    assert inspector.calls.count("package") == 4


def test_a_head_that_is_no_better_is_not_written(
    folder: Path, inspector: Inspector, capsys: pytest.CaptureFixture[str]
) -> None:
    inspector.score_with_head = 0.4
    name = four_boxes(folder)
    before = set(folder.iterdir())
    assert run("--labels", name) == 3
    printed = capsys.readouterr()
    assert "0 rejected with the head (0 without it)" in printed.out
    assert "nothing is written" in printed.err
    assert set(folder.iterdir()) == before
    assert run("--labels", name, "--always") == 0
    assert (folder / "new.weakrest" / "head.onnx").exists()


@pytest.mark.usefixtures("inspector")
def test_several_packages_make_one_head(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = labels(folder, BOX)
    (folder / "out").mkdir()
    products = ["nut.weakrest:good", f"nut.weakrest:good:{name}"]
    assert main(["train-general", *products, "--out", "out", "--name", "all", *QUICK]) == 0
    assert "6 good, 12 synthetic, 1 defective pictures of nut, nut" in capsys.readouterr().out
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["all.onnx", "all.toml"]
    assert main(["train-general", "nut.weakrest", "--out", "out", *QUICK]) == 2
    assert "'nut.weakrest': must be PACKAGE:GOOD_DIR" in capsys.readouterr().err


@pytest.mark.usefixtures("inspector")
def test_masks_of_several_products_make_one_network_that_is_told_which_it_sees(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = labels(folder, {"mask": "bad/0_mask.png"})
    (folder / "out").mkdir()
    shutil.copytree("nut.weakrest", "bolt.weakrest")
    train = ["train-seg", f"nut.weakrest:good:{name}", "bolt.weakrest:good", "--out", "out"]
    train += ["--steps", "2", "--synthetic", "4"]
    assert main(train) == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "adclick-seg.onnx",
        "adclick-seg.toml",
    ]

    assert main([*train, "--steps", "-5"]) == 2
    assert "steps -5: must be at least 1" in capsys.readouterr().err
    prompts = folder / "products.json"
    prompts.write_text('{"nut": ["a hexagonal nut"], "bolts": ["a bolt"]}')
    assert main([*train, "--prompts", "products.json"]) == 2
    assert "products.json: has no phrases for bolt" in capsys.readouterr().err
    prompts.write_text('{"nut": ["a hexagonal nut"], "bolt": ["a bolt"]}')
    assert main([*train, "--prompts", "products.json"]) == 0
    nut, bolt = (folder / "out" / f"adclick-seg-{product}.onnx" for product in ("nut", "bolt"))
    assert "6 good, 8 synthetic, 1 defective pictures of nut, bolt" in capsys.readouterr().out
    assert nut.read_bytes() != bolt.read_bytes()
    assert nut.stat().st_size == pytest.approx(bolt.stat().st_size, abs=100)


def test_defects_without_a_trace_in_the_residuals_are_not_taught() -> None:
    labels = np.array([[POSITIVE, POSITIVE, NEGATIVE, IGNORED]], np.int8)
    origin = torch.full((1, 4, 6), 2.0)
    painted = origin.clone()
    painted[0, 1] = 4.0
    assert workflow.hide_unseen(labels, painted, origin).tolist() == [[IGNORED, POSITIVE, NEGATIVE, IGNORED]]
