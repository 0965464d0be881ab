"""Files of other labeling tools, written as those tools write them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from weakrest_export import importers, labels
from weakrest_export.cli import main
from weakrest_export.errors import ExportError
from weakrest_export.labels import Box, Label, Mask, Rotated

COCO: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "line 1\\a.png", "width": 200, "height": 100},
        {"id": 8, "file_name": "b.png", "width": 200, "height": 100},
        {"id": 9, "file_name": "c.png", "width": 200, "height": 100},
    ],
    "categories": [{"id": 1, "name": "crack"}, {"id": 2, "name": "Good"}, {"id": 3, "name": "dent"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 40], "segmentation": []},
        {
            "id": 2,
            "image_id": 7,
            "category_id": 3,
            "bbox": [100, 40, 40, 20],
            "attributes": {"rotation": 90.0, "occluded": False},
        },
        {"id": 3, "image_id": 8, "category_id": 2},
    ],
}

LABEL_STUDIO: list[dict[str, Any]] = [
    {
        "id": 1,
        "data": {"image": "/data/upload/3/0a1b2c3d-a.png", "line": "1"},
        "annotations": [
            {"id": 4, "was_cancelled": True, "result": []},
            {
                "id": 5,
                "was_cancelled": False,
                "lead_time": 5.5004,
                "result": [
                    {
                        "id": "r1",
                        "type": "rectanglelabels",
                        "original_width": 200,
                        "original_height": 100,
                        "image_rotation": 0,
                        "value": {"x": 5, "y": 20, "width": 15, "height": 40, "rectanglelabels": ["crack"]},
                    },
                    {
                        "id": "r2",
                        "type": "rectangle",
                        "value": {"x": 65, "y": 30, "width": 20, "height": 20, "rotation": 90},
                    },
                    {
                        "id": "r2",
                        "type": "labels",
                        "value": {"x": 65, "y": 30, "width": 20, "height": 20, "labels": ["dent"]},
                    },
                ],
            },
        ],
    },
    {
        "id": 2,
        "data": {"image": "/data/local-files/?d=line%201/b.png"},
        "annotations": [
            {"id": 6, "result": [{"id": "c", "type": "choices", "value": {"choices": ["good"]}}]},
        ],
    },
    {"id": 3, "data": {"image": "https://example.com/pictures/c.png?size=full"}, "annotations": []},
]

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta/>
  <image id="0" name="line 1/a.png" width="200" height="100">
    <box label="crack" source="manual" occluded="0" xtl="10" ytl="20" xbr="40" ybr="60" z_order="0"/>
    <box label="dent" xtl="100" ytl="40" xbr="140" ybr="60" rotation="90.0"
      ><attribute name="a">b</attribute></box>
  </image>
  <image id="1" name="b.png" width="200" height="100"><tag label="good" source="manual"/></image>
  <image id="2" name="c.png" width="200" height="100"/>
</annotations>"""

FILES = {"coco": COCO, "label-studio": LABEL_STUDIO, "cvat": CVAT}

Import = Callable[..., list[Label]]


@pytest.fixture
def read(tmp_path: Path) -> Import:
    """Imports `content` and returns what then stands in the label file."""
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.new("L", (200, 100)).save(tmp_path / "pictures" / name)

    def run(format: str, content: Any, **options: bool) -> list[Label]:
        file, out = tmp_path / "export", tmp_path / "labels.jsonl"
        file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        made = importers.import_labels(format, file, tmp_path / "pictures", out, **options)
        found = labels.read(out)
        assert [label.image for label in found] == [label.image for label in made]
        return found

    return run


@pytest.mark.parametrize("format", FILES)
def test_the_same_labels_from_every_tool(read: Import, tmp_path: Path, format: str) -> None:
    a, b = read(format, FILES[format])
    assert a.image == tmp_path / "pictures" / "a.png"
    assert (a.tag, a.type) == ("defective", "crack+dent")
    assert a.seconds == (5.5 if format == "label-studio" else None)
    upright, turned = a.defects
    assert upright == Box(10, 20, 40, 60)
    # 40 wide and 20 high, a quarter turn about (120, 50); Label Studio turns 40 × 20 about (130, 30).
    assert isinstance(turned, Rotated)
    assert sorted(turned.corners.tolist()) == [[110, 30], [110, 70], [130, 30], [130, 70]]
    assert (b.image, b.tag, b.defects, b.type) == (tmp_path / "pictures" / "b.png", "good", (), None)


@pytest.mark.parametrize("format", FILES)
def test_turns_clockwise(read: Import, format: str) -> None:
    content = json.loads(json.dumps(FILES[format])) if format != "cvat" else CVAT.replace("90.0", "30.0")
    if format == "coco":
        content["annotations"][1]["attributes"]["rotation"] = 30
    if format == "label-studio":
        content[0]["annotations"][1]["result"][1]["value"]["rotation"] = 30
    first, second, *_ = read(format, content)[0].defects[1].corners
    along = second - first
    assert np.degrees(np.arctan2(along[1], along[0])) == pytest.approx(30, abs=0.01)
    assert np.hypot(*along) == pytest.approx(40, abs=0.01)


@pytest.mark.parametrize("format", FILES)
def test_pictures_without_any_mark_are_good_only_when_told(read: Import, format: str) -> None:
    assert [label.image.name for label in read(format, FILES[format])] == ["a.png", "b.png"]
    everything = read(format, FILES[format], unmarked_good=True, overwrite=True)
    assert [(label.image.name, label.tag) for label in everything][2:] == [("c.png", "good")]


def region(**changes: Any) -> list[dict[str, Any]]:
    tasks = copy.deepcopy(LABEL_STUDIO)
    tasks[0]["annotations"][1]["result"] = [{"id": "x", **changes}]
    return tasks


def annotation(**changes: Any) -> dict[str, Any]:
    return COCO | {"annotations": [{"id": 1, "image_id": 7, "category_id": 1, **changes}]}


def shape(xml: str) -> str:
    return f'<annotations><image name="a.png" width="200" height="100">{xml}</image></annotations>'


L_SHAPE = [10, 10, 50, 10, 50, 30, 30, 30, 30, 60, 10, 60]
RUNS = [30, 20, 100 * 200 - 50]


@pytest.mark.parametrize(
    ("format", "content", "pixels"),
    [
        ("coco", annotation(segmentation=[L_SHAPE]), 40 * 20 + 20 * 30),
        ("coco", annotation(segmentation=[L_SHAPE, [100, 10, 110, 10, 110, 20]]), 1400 + 50),
        ("coco", annotation(segmentation={"size": [100, 200], "counts": RUNS}), 20),
        (
            "label-studio",
            region(
                type="polygonlabels",
                value={
                    "points": [[x / 2, y] for x, y in zip(L_SHAPE[::2], L_SHAPE[1::2], strict=True)],
                    "polygonlabels": ["crack"],
                },
            ),
            1400,
        ),
        (
            "label-studio",
            region(
                type="ellipselabels",
                value={
                    "x": 50,
                    "y": 50,
                    "radiusX": 10,
                    "radiusY": 10,
                    "rotation": 0,
                    "ellipselabels": ["crack"],
                },
            ),
            np.pi * 20 * 10,
        ),
        (
            "cvat",
            shape('<polygon label="crack" points="10,10;50,10;50,30;30,30;30,60;10,60"/>'),
            1400,
        ),
        (
            "cvat",
            shape('<ellipse label="crack" cx="100" cy="50" rx="20" ry="10" rotation="45"/>'),
            np.pi * 200,
        ),
        ("cvat", shape('<mask label="crack" rle="1, 3, 1" left="5" top="7" width="5" height="1"/>'), 3),
    ],
)
def test_free_shapes_become_masks(
    read: Import, tmp_path: Path, format: str, content: Any, pixels: float
) -> None:
    label = read(format, content)[0]
    [mask] = label.defects
    assert mask == Mask(tmp_path / "labels-masks" / "00000.png")
    assert label.type == "crack"
    bits = labels.read_mask(mask, (200, 100))
    assert bits.sum() == pytest.approx(pixels, rel=0.03)
    if isinstance(content, str) and "mask" in content:
        assert np.argwhere(bits).tolist() == [[7, 6], [7, 7], [7, 8]]
    if format == "coco" and "counts" in content["annotations"][0]["segmentation"]:
        assert np.argwhere(bits).tolist() == [[y, 0] for y in range(30, 50)]


def test_four_convex_corners_are_a_rotated_box(read: Import) -> None:
    [defect] = read("coco", annotation(segmentation=[[20, 10, 40, 30, 30, 40, 10, 20]]))[0].defects
    assert defect == Rotated(((20, 10), (40, 30), (30, 40), (10, 20)))


def test_compressed_masks_become_boxes(read: Import) -> None:
    content = annotation(segmentation={"size": [100, 200], "counts": "0a1"}, bbox=[1, 2, 3, 4])
    assert read("coco", content)[0].defects == (Box(1, 2, 4, 6),)


@pytest.mark.parametrize(
    ("format", "content", "message"),
    [
        ("coco", "{", "export: not JSON"),
        ("coco", "[]", "export: $.categories: must be a list: is this file of the format"),
        ("coco", LABEL_STUDIO, "is this file of the format that you named?"),
        ("coco", annotation(image_id=1), "$.annotations[0]: there is no image_id 1 in the file"),
        ("coco", annotation(category_id=9), "$.annotations[0]: there is no category_id 9 in the file"),
        (
            "coco",
            annotation(bbox=[0, 0, 202, 5]),
            "$.annotations[0].bbox: [0.0, 0.0, 202.0, 5.0] reaches outside",
        ),
        ("coco", annotation(bbox=[9, 9, 0, 5]), "has no area"),
        ("coco", annotation(bbox=[9, 9, -3, 5]), "must be [left, top, right, bottom]"),
        ("coco", annotation(bbox=[9, 9, "3", 5]), '$.annotations[0].bbox: must be a number, but is "3"'),
        ("coco", json.dumps(annotation(bbox=[9, 9, 3, float("nan")])), "NaN is not a number"),
        ("coco", annotation(), "$.annotations[0]: has neither bbox nor polygon"),
        (
            "coco",
            annotation(segmentation=[[1, 2, 3, 4]]),
            "segmentation[0]: must be x and y of at least three",
        ),
        (
            "coco",
            annotation(segmentation=[[1, 2, 300, 4, 5, 6]]),
            "reaches outside of the picture, which is 200×100",
        ),
        ("coco", annotation(segmentation=[[1, 1, 1.2, 1, 1, 1.2]]), "covers no pixel"),
        ("coco", annotation(segmentation={"counts": [5, 5]}), "the runs do not make 100×200 pixels"),
        ("coco", annotation(category_id=2, bbox=[1, 2, 3, 4]), "is tagged good and has defects"),
        ("coco", COCO | {"annotations": []}, "marks no picture"),
        ("coco", COCO | {"images": [COCO["images"][0]] * 2}, "$.images[1]: id 7 is there twice"),
        (
            "coco",
            COCO
            | {"images": [*COCO["images"], {"id": 1, "file_name": "x/b.png", "width": 200, "height": 100}]},
            "b.png is there already, as",
        ),
        (
            "coco",
            COCO | {"images": [{"id": 1, "file_name": "z.png", "width": 200, "height": 100}]},
            "$.images[0]: there is no picture z.png in",
        ),
        (
            "coco",
            COCO | {"images": [{"id": 1, "file_name": "z" * 300, "width": 200, "height": 100}]},
            "$.images[0]: there is no picture zzz",
        ),
        (
            "coco",
            COCO | {"images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 50}]},
            "$.images[0]: was labeled on 100×50 pixels, but",
        ),
        ("label-studio", COCO, "$: must be a list: is this file of the format that you named?"),
        (
            "label-studio",
            [{"id": 1, "image": "a.png"}],
            "$[0]: has no annotations: export as JSON (not JSON-MIN)",
        ),
        (
            "label-studio",
            [{"data": {"x": "a.png", "y": "b.png"}, "annotations": []}],
            "$[0].data: it is not clear which entry is the picture",
        ),
        (
            "label-studio",
            [LABEL_STUDIO[0] | {"annotations": LABEL_STUDIO[0]["annotations"][1:] * 2}],
            "$[0]: was annotated 2 times",
        ),
        (
            "label-studio",
            region(type="brushlabels", value={"format": "rle", "rle": [1], "brushlabels": ["crack"]}),
            "$[0].annotations[1].result[0]: cannot import 'brushlabels': draw rectangles",
        ),
        (
            "label-studio",
            region(type="rectangle", original_width=100, original_height=50, value={"x": 1}),
            "was labeled on 100×50 pixels",
        ),
        (
            "label-studio",
            region(type="rectangle", value={"x": 1, "y": 1, "width": 150, "height": 1}),
            "reaches outside of the picture",
        ),
        ("label-studio", region(type="rectangle", image_rotation=90, value={"x": 1}), "picture turned"),
        ("label-studio", region(type="choices", value={"choices": ["NOK"]}), "unknown tag 'NOK'"),
        ("label-studio", region(type="rectangle"), "has no proper value"),
        ("cvat", "<annotations>", "export: not XML: "),
        ("cvat", "<annotations><track/></annotations>", "export the task as 'CVAT for images 1.1'"),
        (
            "cvat",
            shape('<box label="x" xtl="1" ytl="2" xbr="300" ybr="4"/>'),
            "image[1] (a.png), shape 1 <box>: [",
        ),
        (
            "cvat",
            shape('<box label="x" xtl="1" ytl="2" xbr="nan" ybr="4"/>'),
            "<box>: xbr: must be a number",
        ),
        (
            "cvat",
            shape('<box label="x" xtl="1" ytl="2" xbr="three" ybr="4"/>'),
            "xbr: 'three' is not a number",
        ),
        ("cvat", shape('<box label="x" xtl="1" ytl="2" xbr="3"/>'), "ybr must be a text"),
        ("cvat", shape('<polygon label="x" points="1,2;3,4"/>'), "at least three corners"),
        ("cvat", shape('<points label="x" points="1,2"/>'), "shape 1 <points>: cannot import this shape"),
        (
            "cvat",
            shape('<mask label="x" rle="1,1" left="5" top="7" width="5" height="1"/>'),
            "do not make 5×1",
        ),
        ("cvat", shape('<tag label="odd"/>'), "unknown tag 'odd': tag pictures good or defective, or draw"),
        ("cvat", CVAT.replace('width="200"', 'width="400"'), "image[1]: was labeled on 400×100 pixels"),
    ],
)
def test_refuses_with_file_and_place(
    read: Import, tmp_path: Path, format: str, content: Any, message: str
) -> None:
    with pytest.raises(ExportError) as caught:
        read(format, content)
    assert str(caught.value).startswith(str(tmp_path / "export"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "labels.jsonl").exists()


def test_the_command(read: Import, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read("coco", COCO)
    out = tmp_path / "labels.jsonl"
    arguments = ["labels", "import", "coco", str(tmp_path / "export"), "--images", str(tmp_path / "pictures")]
    assert main([*arguments, "--out", str(out)]) == 2
    assert "exists: choose another --out, or replace it with --overwrite" in capsys.readouterr().err
    assert main([*arguments, "--out", str(out), "--overwrite"]) == 0
    summary = "pictures 2, good 1, defective 1, upright boxes 1, rotated boxes 1"
    assert capsys.readouterr().out == f"{out}: {summary}\n"
