"""Label files: what is read, what is refused and how, and boxes drawn in haste."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakrest_export import labels, weak
from weakrest_export.cli import main
from weakrest_export.errors import ExportError
from weakrest_export.labels import Area, Box, Label, Mask, Polygon, Rotated
from weakrest_export.pictures import picture_size
from weakrest_export.shapes import is_convex


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of 64 × 48 pixels, a mask of that size, and one of another size."""
    for name in ("a.png", "b.png", "c.png", "mask.png", "black.png"):
        Image.new("L", (64, 48), 200 if name == "mask.png" else 0).save(tmp_path / name)
    Image.new("L", (48, 64), 255).save(tmp_path / "lying.png")
    return tmp_path


def lines(folder: Path, *objects: object) -> Path:
    path = folder / "labels.jsonl"
    path.write_text("\n".join(o if isinstance(o, str) else json.dumps(o) for o in objects) + "\n", "utf-8")
    return path


def test_reads_what_the_guide_shows(folder: Path) -> None:
    path = lines(
        folder,
        {"image": "a.png", "defects": [{"box": [1, 2, 30, 40]}, {"mask": "mask.png"}], "type": "crack"},
        "",
        {"image": "b.png", "defects": [{"rotated": [[9, 20], [50, 12], [52, 24], [11, 32]]}], "seconds": 5.5},
        {"image": "c.png", "tag": "good"},
    )
    a, b, c = labels.read(path)
    assert a == Label(
        folder / "a.png",
        (64, 48),
        "defective",
        (Box(1, 2, 30, 40), Mask(folder / "mask.png")),
        "crack",
    )
    assert b.seconds == 5.5
    assert b.defects[0] == Rotated(((9, 20), (50, 12), (52, 24), (11, 32)))
    assert (c.tag, c.defects) == ("good", ())


def test_clips_what_rounding_put_outside(folder: Path) -> None:
    path = lines(folder, {"image": "a.png", "defects": [{"box": [-0.6, 0, 64.9, 48]}]})
    assert labels.read(path)[0].defects == (Box(0, 0, 64, 48),)


def test_a_rotated_box_at_the_rim_may_have_corners_outside(folder: Path) -> None:
    points = [[-5, 10], [10, -5], [15, 0], [0, 15]]
    path = lines(folder, {"image": "a.png", "defects": [{"rotated": points}]})
    assert labels.read(path)[0].defects[0].corners.tolist() == points


SHARED = Path(__file__).parents[2] / "tests" / "data" / "labels"
INDEX = json.loads((SHARED / "index.json").read_text("utf-8"))


def test_every_shared_file_is_in_the_index() -> None:
    for kind in ("good", "bad"):
        assert sorted(path.name for path in (SHARED / kind).iterdir()) == sorted(INDEX[kind])


@pytest.mark.parametrize("name", INDEX["good"])
def test_reads_what_the_program_reads(name: str) -> None:
    found = [
        {
            "image": label.image.name,
            "tag": label.tag,
            "boxes": [[d.left, d.top, d.right, d.bottom] for d in label.defects if isinstance(d, Box)],
            "rotated": [d.corners.tolist() for d in label.defects if isinstance(d, Rotated)],
            "polygons": [[list(p) for p in d.points] for d in label.defects if isinstance(d, Polygon)],
            "masked": sum(
                int(labels.read_mask(d, label.size).sum()) for d in label.defects if isinstance(d, Area)
            ),
            "type": label.kind,
            "types": [d.type or label.type for d in label.defects],
            "seconds": label.seconds,
        }
        for label in labels.read(SHARED / "good" / name)
    ]
    assert found == INDEX["good"][name]


@pytest.mark.parametrize("name", INDEX["bad"])
def test_refuses_what_the_program_refuses(name: str) -> None:
    path, expected = SHARED / "bad" / name, INDEX["bad"][name]
    with pytest.raises(ExportError) as caught:
        labels.read(path)
    assert str(caught.value).startswith(f"{path}:{expected['line']}: ")
    assert expected["says"] in str(caught.value).removeprefix(str(path))


A = '"image": "a.png"'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            f'{{{A}, "defects": [{{"box": [0, 0, 65, 48]}}]}}',
            "reaches outside the picture of 64×48 pixels",
        ),
        (f'{{{A}, "defects": [{{"box": [-1, 0, 9, 9]}}]}}', "defects[0]: box: [-1, 0, 9, 9] reaches outside"),
        (f'{{{A}, "defects": [{{"box": [5, 5, 5, 9]}}]}}', "has no area: remove the box"),
        (f'{{{A}, "defects": [{{"box": [64.2, 5, 64.8, 9]}}]}}', "has no area"),
        (f'{{{A}, "defects": [{{"box": [9, 5, 5, 9]}}]}}', "must be [left, top, right, bottom]"),
        (f'{{{A}, "defects": [{{"box": [1, 2, 3]}}]}}', "must be a list of 4 numbers"),
        (f'{{{A}, "defects": [{{"box": [1, 2, 3, true]}}]}}', "box: must be a number, not true"),
        (f'{{{A}, "defects": [{{"box": [1, 2, 3, NaN]}}]}}', "NaN is not a JSON number"),
        (f'{{{A}, "defects": [{{"box": [1, 2, 3, 1e999]}}]}}', "must be a number, not Infinity"),
        (f'{{{A}, "defects": [{{"rotated": [[0,0],[9,9],[9,0],[0,9]]}}]}}', "is not convex or has no"),
        (f'{{{A}, "defects": [{{"rotated": [[0,0],[9,0],[2,2],[0,9]]}}]}}', "is not convex"),
        (f'{{{A}, "defects": [{{"rotated": [[1,1],[1,1],[1,1],[1,1]]}}]}}', "has no area"),
        (f'{{{A}, "defects": [{{"rotated": [[99,0],[109,0],[109,9],[99,9]]}}]}}', "is outside the picture"),
        (f'{{{A}, "defects": [{{"rotated": [[0,0],[9,0],[9,9]]}}]}}', "must be a list of four corners"),
        (f'{{{A}, "defects": [{{"mask": "lying.png"}}]}}', "has 48×64 pixels, but its picture has 64×48"),
        (f'{{{A}, "defects": [{{"mask": "nowhere.png"}}]}}', "there is no picture"),
        (f'{{{A}, "defects": [{{"mask": "mask.png", "rule": "white"}}]}}', 'unknown rule "white"'),
        (f'{{{A}, "defects": [{{"box": [1,2,3,4], "rule": "non-zero"}}]}}', "unknown key 'rule'"),
        (f'{{{A}, "defects": [{{"circle": [1, 2, 3]}}]}}', "one of box, rotated, polygon or mask"),
        (f'{{{A}, "defects": {{"box": [1, 2, 3, 4]}}}}', "defects must be a list"),
        (f'{{{A}, "tag": "ok"}}', 'unknown tag "ok": write "tag": "good" or "defective"'),
        (f"{{{A}}}", "unknown tag missing"),
        (f'{{{A}, "tag": "good", "defects": [{{"box": [1, 2, 3, 4]}}]}}', "a good picture has no defects"),
        (f'{{{A}, "tag": "good", "color": 1}}', "unknown key 'color': the keys are image, tag"),
        (f'{{{A}, "tag": "good", "tag": "defective"}}', "duplicate key 'tag'"),
        (f'{{{A}, "tag": "good", "seconds": -1}}', "must not be negative"),
        (f'{{{A}, "tag": "good", "leave_out": "no.png"}}', "leave_out: there is no picture"),
        ('{"tag": "good"}', "image must be a text, not empty, but is missing"),
        ('{"image": "nowhere.png", "tag": "good"}', "nowhere.png: correct the path or"),
        ('{"image": "labels.jsonl", "tag": "good"}', "cannot open"),
        ('{"image": "./b.png", "tag": "good"}', "b.png is already in line 1"),
        ("a.png good", "not JSON: "),
        ("[1]", "must be a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"seconds": ' + "1" * 5000 + "}", "too many digits"),
    ],
)
def test_refuses_with_file_and_line(
    folder: Path, line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lines(folder, {"image": "b.png", "tag": "good"}, line)
    assert main(["labels", "check", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"weakrest-export: {path}:2: ")
    assert message in error
    assert error.count("\n") == 1


def test_check_tells_every_problem_and_reading_the_first(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lines(folder, "x", {"image": "a.png", "tag": "good"}, "y")
    assert main(["labels", "check", str(path)]) == 2
    assert [line.split(": ")[1][-2:] for line in capsys.readouterr().err.splitlines()] == [":1", ":3"]
    with pytest.raises(ExportError, match=r":1: not JSON.*\(1 more"):
        labels.read(path)


@pytest.mark.parametrize(("content", "message"), [(b"\n", "has no labels"), (b"\xff\xfe{", "not UTF-8")])
def test_files_without_labels(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "labels.jsonl"
    with pytest.raises(ExportError, match="cannot read"):
        labels.read(path)
    path.write_bytes(content)
    with pytest.raises(ExportError, match=message):
        labels.read(path)


def test_check_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines(
        folder,
        {"image": "a.png", "defects": [{"box": [1, 2, 3, 4]}, {"box": [5, 5, 6, 6]}], "seconds": 4},
        {"image": "b.png", "tag": "defective", "seconds": 1.2},
        {"image": "c.png", "tag": "good"},
    )
    assert main(["labels", "check", str(path)]) == 0
    summary = "pictures 3, good 1, defective 2, upright boxes 2, only tagged 1, seconds 5"
    assert capsys.readouterr().out == f"{path}: {summary}\n"


def test_what_is_written_reads_the_same_from_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = folder / "sub" / "labels.jsonl", folder / "other" / "labels.jsonl"
    for path in (inside, outside):
        path.parent.mkdir()
    Image.new("L", (64, 48)).save(folder / "sub" / "d.png")
    made = [
        Label(folder / "sub" / "d.png", (64, 48), "defective", (Box(1, 2, 3.25, 4),), "dent", 2.0),
        Label(folder / "a.png", (64, 48), "defective", (Mask(folder / "mask.png", "non-zero"),)),
        Label(folder / "b.png", (64, 48), "good", leave_out=folder / "c.png"),
        Label(folder / "c.png", (64, 48), "defective", (Rotated(((0, 5), (5, 0), (9, 4), (4, 9))),)),
    ]
    for path in (inside, outside):
        labels.write(path, made)
        assert labels.read(path) == made
    written = [json.loads(line) for line in inside.read_text("utf-8").splitlines()]
    assert written[0] == {
        "image": "d.png",
        "defects": [{"box": [1, 2, 3.25, 4]}],
        "type": "dent",
        "seconds": 2,
    }
    assert written[1]["image"] == str(folder / "a.png")
    # Also when written from within, by a path that does not name the folder.
    monkeypatch.chdir(inside.parent)
    labels.write(Path("labels.jsonl"), [Label(Path("d.png"), (64, 48), "good")], overwrite=True)
    assert json.loads(inside.read_text("utf-8"))["image"] == "d.png"


def test_does_not_overwrite_labels_unasked(folder: Path) -> None:
    path = lines(folder, {"image": "a.png", "tag": "good"})
    before = path.read_bytes()
    with pytest.raises(ExportError, match="exists: choose another --out, or replace it with --overwrite"):
        labels.write(path, [])
    assert path.read_bytes() == before
    with pytest.raises(ExportError, match="does not exist: create it first"):
        labels.write(folder / "missing" / "labels.jsonl", [])


def test_size_is_that_of_the_picture_as_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert picture_size(tmp_path / "turned.jpg", "x") == (20, 30)


def test_pictures_are_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.effect_noise((64, 48), 50).save(path)
    path.write_bytes(path.read_bytes()[:100])
    assert picture_size(path, "x") == (64, 48)


@pytest.mark.parametrize(
    ("values", "mode", "rule", "defective"),
    [
        ([0, 127, 128, 255], "L", "above-half", [0, 0, 1, 1]),
        ([0, 1, 2, 9], "L", "non-zero", [0, 1, 1, 1]),
        ([0, 32767, 32768, 65535], "I;16", "above-half", [0, 0, 1, 1]),
        ([(0, 0, 0), (127, 0, 127), (0, 0, 200), (9, 128, 9)], "RGB", "above-half", [0, 0, 1, 1]),
        (
            [(0, 0, 0, 255), (9, 9, 9, 255), (200, 0, 0, 255), (0, 0, 255, 255)],
            "RGBA",
            "above-half",
            [0, 0, 1, 1],
        ),
    ],
)
def test_mask_values(
    tmp_path: Path, values: list[object], mode: str, rule: labels.Rule, defective: list[int]
) -> None:
    array = np.array([values], dtype=np.uint16 if mode == "I;16" else np.uint8)
    Image.fromarray(array).save(tmp_path / "mask.png")
    assert Image.open(tmp_path / "mask.png").mode == mode
    assert labels.read_mask(Mask(tmp_path / "mask.png", rule), (4, 1)).astype(int).tolist() == [defective]


def test_a_mask_without_defect_is_refused(folder: Path) -> None:
    classes = Image.new("L", (64, 48))
    classes.paste(3, (0, 0, 9, 9))
    classes.paste(4, (9, 9, 20, 20))
    classes.save(folder / "classes.png")
    with pytest.raises(ExportError, match=r'class numbers.*"rule": "non-zero"'):
        labels.read_mask(Mask(folder / "classes.png"), (64, 48))
    with pytest.raises(ExportError, match="marks no pixel"):
        labels.read_mask(Mask(folder / "black.png", "non-zero"), (64, 48))


def test_jitter_moves_every_corner_a_little_and_keeps_the_form() -> None:
    rng = np.random.default_rng(1)
    size = (400, 200)
    drawn = (
        Box(0, 0, 400, 200),
        Box(100, 50, 101, 51),
        Box(399, 0, 400, 200),
        Rotated(((50, 20), (80, 50), (70, 60), (40, 30))),
        Rotated(((10, 10), (300, 12), (300, 13), (10, 11))),
        Rotated(((-5, 10), (10, -5), (15, 0), (0, 15))),
        Mask(Path("mask.png")),
    )
    moves = []
    for _ in range(200):
        jittered = weak.jitter(drawn, size, rng=rng)
        assert [type(defect) for defect in jittered] == [type(defect) for defect in drawn]
        assert jittered[-1] == drawn[-1]
        for before, after in zip(drawn[:-1], jittered[:-1], strict=True):
            assert (np.abs(after.corners - before.corners) <= (4, 2)).all()
            assert is_convex(after.corners)
            assert (after.corners >= np.minimum(before.corners, 0)).all()
            assert (after.corners <= np.maximum(before.corners, size)).all()
        moves.append(jittered[3].corners - drawn[3].corners)
    assert np.abs(moves).max(axis=(0, 1)) == pytest.approx((4, 2), rel=0.05)
    assert np.abs(np.mean(moves, axis=(0, 1))).max() < 0.2


def test_jitter_follows_the_generator() -> None:
    def once(seed: int) -> object:
        return weak.jitter([Box(5, 5, 20, 20)], (64, 48), 0.05, rng=np.random.default_rng(seed))

    assert once(1) == once(1) != once(2)
