//! Files of other labeling tools, written as those tools write them.

use std::path::Path;
use std::process::Command;

use image::GrayImage;
use serde_json::{Value, json};

use crate::common::{Folder, PROGRAM, Ran};
use crate::label::lines;

const KINDS: [&str; 3] = ["coco", "label-studio", "cvat"];

fn coco() -> Value {
    json!({
        "images": [
            {"id": 7, "file_name": "line 1\\a.png", "width": 200, "height": 100},
            {"id": 8, "file_name": "b.png", "width": 200, "height": 100},
            {"id": 9, "file_name": "c.png", "width": 200, "height": 100},
        ],
        "categories": [{"id": 1, "name": "crack"}, {"id": 2, "name": "Good"}, {"id": 3, "name": "dent"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 40], "segmentation": []},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [100, 40, 40, 20],
             "attributes": {"rotation": 90.0, "occluded": false}},
            {"id": 3, "image_id": 8, "category_id": 2},
        ],
    })
}

fn label_studio() -> Value {
    json!([
        {"id": 1, "data": {"image": "/data/upload/3/0a1b2c3d-a.png", "line": "1"}, "annotations": [
            {"id": 4, "was_cancelled": true, "result": []},
            {"id": 5, "was_cancelled": false, "lead_time": 5.5, "result": [
                {"id": "r1", "type": "rectanglelabels", "original_width": 200, "original_height": 100, "image_rotation": 0,
                 "value": {"x": 5, "y": 20, "width": 15, "height": 40, "rectanglelabels": ["crack"]}},
                {"id": "r2", "type": "rectangle",
                 "value": {"x": 65, "y": 30, "width": 20, "height": 20, "rotation": 90}},
                {"id": "r2", "type": "labels",
                 "value": {"x": 65, "y": 30, "width": 20, "height": 20, "labels": ["dent"]}},
            ]},
        ]},
        {"id": 2, "data": {"image": "/data/local-files/?d=line%201/b.png"}, "annotations": [
            {"id": 6, "result": [{"id": "c", "type": "choices", "value": {"choices": ["good"]}}]},
        ]},
        {"id": 3, "data": {"image": "https://example.com/pictures/c.png?size=full"}, "annotations": []},
    ])
}

const CVAT: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta/>
  <image id="0" name="line 1/a.png" width="200" height="100">
    <box label="crack" source="manual" occluded="0" xtl="10" ytl="20" xbr="40" ybr="60" z_order="0"/>
    <box label="dent" xtl="100" ytl="40" xbr="140" ybr="60" rotation="90.0"
      ><attribute name="a">b</attribute></box>
  </image>
  <image id="1" name="b.png" width="200" height="100"><tag label="good" source="manual"/></image>
  <image id="2" name="c.png" width="200" height="100"/>
</annotations>"#;

fn file_of(kind: &str) -> String {
    match kind {
        "coco" => coco().to_string(),
        "label-studio" => label_studio().to_string(),
        _ => CVAT.to_owned(),
    }
}

fn pictures() -> Folder {
    let folder = Folder::new();
    for name in ["a.png", "b.png", "c.png"] {
        folder.picture(format!("pictures/{name}"), &GrayImage::new(200, 100).into());
    }
    folder
}

fn import(folder: &Folder, kind: &str, content: &str, more: &[&str]) -> Ran {
    folder.file("export", content.as_bytes());
    let mut command = Command::new(PROGRAM);
    command.args(["label", "--images"]).arg(folder.path("pictures"));
    command.arg("--labels").arg(folder.path("labels.jsonl"));
    command.arg("--import").arg(format!("{kind}:{}", folder.path("export").display()));
    Ran::of(command.args(more))
}

fn imported(folder: &Folder, kind: &str, content: &str) -> Vec<Value> {
    import(folder, kind, content, &["--overwrite"]).exits(0);
    lines(&folder.path("labels.jsonl"))
}

/// The types of a label's shapes.
fn types(label: &Value) -> Vec<&str> {
    label["defects"].as_array().unwrap().iter().map(|shape| shape["type"].as_str().unwrap()).collect()
}

/// How many pixels a mask of a label marks.
fn marked(folder: &Folder, label: &Value) -> Vec<(u32, u32)> {
    if label["defects"][0]["polygon"].is_array() {
        // As a mask of the same pixels.
        let labels = folder.path("labels.jsonl");
        let mut command = Command::new(PROGRAM);
        command.args(["label", "--images"]).arg(folder.path("pictures")).arg("--labels").arg(labels);
        let truth = format!("masks:{}", folder.path("truth").display());
        Ran::of(command.args(["--export", &truth, "--overwrite"])).exits(0);
        let mask = image::open(folder.path("truth/crack/a_mask.png")).unwrap().into_luma8();
        return mask.enumerate_pixels().filter(|(_, _, p)| p.0 == [255]).map(|(x, y, _)| (x, y)).collect();
    }
    let name = label["defects"][0]["mask"].as_str().unwrap();
    let mask = image::open(folder.path(name)).unwrap().into_luma8();
    assert_eq!(mask.dimensions(), (200, 100));
    mask.enumerate_pixels().filter(|(_, _, p)| p.0 == [255]).map(|(x, y, _)| (x, y)).collect()
}

#[test]
fn every_tool_gives_the_same_labels() {
    for kind in KINDS {
        let folder = pictures();
        import(&folder, kind, &file_of(kind), &[]).exits(0).prints(&["2 pictures read"]);
        let mut found = lines(&folder.path("labels.jsonl"));
        // Label Studio alone says how long it took.
        assert_eq!(found[0].as_object_mut().unwrap().remove("seconds").is_some(), kind == "label-studio");
        // 40 wide and 20 high, a quarter turn about (120, 50); Label Studio turns 40 × 20 about (130, 30).
        let mut corners: Vec<Value> =
            found[0]["defects"][1]["rotated"].as_array_mut().unwrap().drain(..).collect();
        corners.sort_by_key(Value::to_string);
        assert_eq!(json!(corners), json!([[110, 30], [110, 70], [130, 30], [130, 70]]), "{kind}");
        let expected = [
            json!({"image": "pictures/a.png", "defects": [{"box": [10, 20, 40, 60], "type": "crack"}, {"rotated": [], "type": "dent"}]}),
            json!({"image": "pictures/b.png", "tag": "good"}),
        ];
        assert_eq!(found, expected, "{kind}");
        import(&folder, kind, &file_of(kind), &[]).exits(2).says(&["has a label already", "--overwrite"]);
    }
}

#[test]
fn shapes_turn_clockwise() {
    let folder = pictures();
    for kind in KINDS {
        let content = match kind {
            "coco" => {
                let mut content = coco();
                content["annotations"][1]["attributes"]["rotation"] = 30.into();
                content.to_string()
            }
            "label-studio" => {
                let mut content = label_studio();
                content[0]["annotations"][1]["result"][1]["value"]["rotation"] = 30.into();
                content.to_string()
            }
            _ => CVAT.replace("90.0", "30.0"),
        };
        let found = imported(&folder, kind, &content);
        let corner = |i: usize, axis: usize| found[0]["defects"][1]["rotated"][i][axis].as_f64().unwrap();
        let along = [corner(1, 0) - corner(0, 0), corner(1, 1) - corner(0, 1)];
        assert!((along[1].atan2(along[0]).to_degrees() - 30.0).abs() < 0.01, "{kind}");
        assert!((along[0].hypot(along[1]) - 40.0).abs() < 0.01, "{kind}");
    }
}

#[test]
fn pictures_without_any_mark_are_good_only_when_told() {
    for kind in KINDS {
        let folder = pictures();
        import(&folder, kind, &file_of(kind), &["--unmarked-good"]).exits(0).prints(&["3 pictures read"]);
        let found = lines(&folder.path("labels.jsonl"));
        assert_eq!(found[2], json!({"image": "pictures/c.png", "tag": "good"}));
    }
}

fn annotation(changes: Value) -> String {
    let mut content = coco();
    let mut one = json!({"id": 1, "image_id": 7, "category_id": 1});
    one.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    content["annotations"] = json!([one]);
    content.to_string()
}

fn region(changes: Value) -> String {
    let mut content = label_studio();
    let mut one = json!({"id": "x"});
    one.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    content[0]["annotations"][1]["result"] = json!([one]);
    content.to_string()
}

fn shape(xml: &str) -> String {
    format!(r#"<annotations><image name="a.png" width="200" height="100">{xml}</image></annotations>"#)
}

#[test]
fn free_shapes_keep_their_pixels() {
    let l = json!([10, 10, 50, 10, 50, 30, 30, 30, 30, 60, 10, 60]);
    let studio_l = json!([[5, 10], [25, 10], [25, 30], [15, 30], [15, 60], [5, 60]]);
    let ellipse = std::f64::consts::PI * 200.0;
    let cases = [
        ("coco", annotation(json!({"segmentation": [l]})), 1400.0),
        ("coco", annotation(json!({"segmentation": [l, [100, 10, 110, 10, 110, 20]]})), 1450.0),
        ("coco", annotation(json!({"segmentation": {"size": [100, 200], "counts": [30, 20, 19950]}})), 20.0),
        (
            "label-studio",
            region(
                json!({"type": "polygonlabels", "value": {"points": studio_l, "polygonlabels": ["crack"]}}),
            ),
            1400.0,
        ),
        (
            "label-studio",
            region(json!({"type": "ellipselabels", "value": {
                "x": 50, "y": 50, "radiusX": 10, "radiusY": 10, "rotation": 0, "ellipselabels": ["crack"],
            }})),
            ellipse,
        ),
        ("cvat", shape(r#"<polygon label="crack" points="10,10;50,10;50,30;30,30;30,60;10,60"/>"#), 1400.0),
        (
            "cvat",
            shape(r#"<ellipse label="crack" cx="100" cy="50" rx="20" ry="10" rotation="45"/>"#),
            ellipse,
        ),
        ("cvat", shape(r#"<mask label="crack" rle="1, 3, 1" left="5" top="7" width="5" height="1"/>"#), 3.0),
    ];
    let folder = pictures();
    for (kind, content, pixels) in cases {
        let found = imported(&folder, kind, &content);
        assert_eq!(found[0]["type"], "crack");
        let bits = marked(&folder, &found[0]);
        assert!((bits.len() as f64 - pixels).abs() <= 0.03 * pixels, "{kind} {content}: {}", bits.len());
        if pixels == 3.0 {
            assert_eq!(bits, [(6, 7), (7, 7), (8, 7)]);
        }
        if pixels == 20.0 {
            assert!(bits.iter().zip(30..).all(|(&(x, y), row)| x == 0 && y == row), "{bits:?}");
        }
    }
    let four = annotation(json!({"segmentation": [[20, 10, 40, 30, 30, 40, 10, 20]]}));
    let found = imported(&folder, "coco", &four);
    assert_eq!(found[0]["defects"], json!([{"rotated": [[20, 10], [40, 30], [30, 40], [10, 20]]}]));
}

#[test]
fn what_cannot_be_understood_is_refused_with_file_and_place() {
    let with = |key: &str, value: Value| {
        let mut content = coco();
        content[key] = value;
        content.to_string()
    };
    let image = |name: &str, w: u32, h: u32| json!([{"id": 1, "file_name": name, "width": w, "height": h}]);
    let twice = json!([coco()["images"][0], coco()["images"][0]]);
    let annotated_twice = {
        let mut content = label_studio();
        content[0]["annotations"][0]["was_cancelled"] = false.into();
        content.to_string()
    };
    let long = "z".repeat(300);
    let cases = [
        ("coco", "{".to_owned(), "is not JSON"),
        ("coco", "[]".to_owned(), "$.categories must be a list: is the file in the given format"),
        ("coco", label_studio().to_string(), "is the file in the given format?"),
        (
            "coco",
            annotation(json!({"image_id": 1})),
            "$.annotations[0]: its image_id or category_id is not in the file",
        ),
        ("coco", annotation(json!({"category_id": 9})), "image_id or category_id is not in the file"),
        ("coco", annotation(json!({"bbox": [0, 0, 202, 5]})), "reaches outside"),
        ("coco", annotation(json!({"bbox": [9, 9, 0, 5]})), "left < right"),
        ("coco", annotation(json!({"bbox": [9, 9, "3", 5]})), "bbox must be a number"),
        ("coco", annotation(json!({})), "$.annotations[0] has neither bbox nor polygon"),
        (
            "coco",
            annotation(json!({"segmentation": [[1, 2, 3, 4]]})),
            "segmentation[0] must be the x and y of at least three",
        ),
        (
            "coco",
            annotation(json!({"segmentation": [[1, 2, 300, 4, 5, 6]]})),
            "reaches outside of the picture, which is 200×100",
        ),
        ("coco", annotation(json!({"segmentation": [[1, 1, 1.2, 1, 1, 1.2]]})), "covers no pixel"),
        (
            "coco",
            annotation(json!({"segmentation": {"size": [100, 200], "counts": [5, 5]}})),
            "the runs do not make 200×100 pixels",
        ),
        (
            "coco",
            annotation(json!({"segmentation": {"size": [200, 100], "counts": [30, 20, 19950]}})),
            "the runs have 100×200 pixels, but the picture 200×100",
        ),
        (
            "coco",
            annotation(json!({"segmentation": {"counts": [30, 20, 19950]}})),
            "segmentation.size must be 2 numbers",
        ),
        (
            "coco",
            annotation(json!({"category_id": 2, "bbox": [1, 2, 3, 4]})),
            "is tagged good but has defects",
        ),
        ("coco", with("annotations", json!([])), "has no marked picture"),
        ("coco", with("images", twice), "$.images[1]: a.png appears twice"),
        ("coco", with("images", image("z.png", 200, 100)), "there is no picture z.png below"),
        ("coco", with("images", image(&long, 200, 100)), "there is no picture zzz"),
        (
            "coco",
            with("images", image("a.png", 100, 50)),
            "$.images[0]: a.png was labeled with 100×50 pixels",
        ),
        ("label-studio", coco().to_string(), "$ must be a list: is the file in the given format?"),
        (
            "label-studio",
            json!([{"id": 1, "image": "a.png"}]).to_string(),
            "$[0] has no annotations: export as JSON (not JSON-MIN)",
        ),
        (
            "label-studio",
            json!([{"data": {"x": "a.png", "y": "b.png"}, "annotations": []}]).to_string(),
            "$[0].data: it is not clear which entry is the picture",
        ),
        ("label-studio", annotated_twice, "$[0] has 2 annotations: keep one of them"),
        (
            "label-studio",
            region(
                json!({"type": "brushlabels", "value": {"format": "rle", "rle": [1], "brushlabels": ["crack"]}}),
            ),
            "$[0].annotations[1].result[0] (a.png): the brush's runs do not make",
        ),
        (
            "label-studio",
            region(
                json!({"type": "rectangle", "original_width": 100, "original_height": 50, "value": {"x": 1}}),
            ),
            "was labeled with 100×50 pixels",
        ),
        (
            "label-studio",
            region(json!({"type": "rectangle", "value": {"x": 1, "y": 1, "width": 150, "height": 1}})),
            "reaches outside of the picture",
        ),
        (
            "label-studio",
            region(json!({"type": "rectangle", "image_rotation": 90, "value": {"x": 1}})),
            "was drawn on a rotated picture",
        ),
        (
            "label-studio",
            region(json!({"type": "keypoint", "value": {"x": 1}})),
            "cannot import keypoint: draw rectangles",
        ),
        (
            "label-studio",
            region(json!({"type": "choices", "value": {"choices": ["NOK"]}})),
            "unknown tag \"NOK\"",
        ),
        ("label-studio", region(json!({"type": "rectangle"})), "has no valid value"),
        ("cvat", "<annotations>".to_owned(), "is not XML: "),
        (
            "cvat",
            "<annotations><track/></annotations>".to_owned(),
            "export the task as 'CVAT for images 1.1'",
        ),
        (
            "cvat",
            shape(r#"<box label="x" xtl="1" ytl="2" xbr="300" ybr="4"/>"#),
            "image[1] (a.png), shape 1 <box>: the box [1.0, 2.0, 300.0, 4.0] reaches outside",
        ),
        (
            "cvat",
            shape(r#"<box label="x" xtl="1" ytl="2" xbr="nan" ybr="4"/>"#),
            "<box>: xbr must be a number, not \"nan\"",
        ),
        ("cvat", shape(r#"<box label="x" xtl="1" ytl="2" xbr="3"/>"#), "ybr must be a text"),
        ("cvat", shape(r#"<polygon label="x" points="1,2;3,4"/>"#), "at least three corners"),
        ("cvat", shape(r#"<points label="x" points="1,2"/>"#), "shape 1 <points>: cannot import this shape"),
        (
            "cvat",
            shape(r#"<mask label="x" rle="1,1" left="5" top="7" width="5" height="1"/>"#),
            "the runs do not make 5×1 pixels",
        ),
        (
            "cvat",
            shape(r#"<mask label="x" rle="1,4" left="198" top="7" width="5" height="1"/>"#),
            "reaches outside of the picture",
        ),
        (
            "cvat",
            shape(r#"<tag label="odd"/>"#),
            "unknown tag \"odd\": tag pictures good or defective, or draw",
        ),
        (
            "cvat",
            CVAT.replace(r#"width="200""#, r#"width="400""#),
            "image[1]: a.png was labeled with 400×100 pixels",
        ),
        ("cvat", CVAT.replace("b.png", "a.png"), "image[2]: a.png appears twice"),
    ];
    let folder = pictures();
    let file = folder.path("export").display().to_string();
    for (kind, content, told) in cases {
        import(&folder, kind, &content, &[]).exits(2).says(&[&file, told]);
        assert!(!folder.path("labels.jsonl").exists(), "{content}");
    }
    let mut command = Command::new(PROGRAM);
    command
        .args(["label", "--images"])
        .arg(folder.path("pictures"))
        .arg("--labels")
        .arg(folder.path("labels.jsonl"));
    import(&folder, "coco", &file_of("coco"), &[]).exits(0);
    Ran::of(command.args(["--export", "cvat:x.xml"])).exits(2).says(&["coco:FILE"]);
    assert!(!Path::new("x.xml").exists());
}

#[test]
fn what_is_no_shape_is_ignored_and_told() {
    let folder = pictures();
    let shape = json!({"id": "r", "type": "rectanglelabels",
        "value": {"x": 5, "y": 20, "width": 15, "height": 40, "rectanglelabels": ["crack"]}});
    let region =
        |kind: &str, value: Value| json!({"id": "e", "type": kind, "from_name": "f", "value": value});
    for remark in [
        region("textarea", json!({"text": ["see line 4"]})),
        region("textarea", json!({"text": ["here"], "x": 50, "y": 50, "width": 1, "height": 1})),
        region("rating", json!({"rating": 4})),
        region("number", json!({"number": 0.5})),
        region("taxonomy", json!({"taxonomy": [["line", "4"]]})),
        region("datetime", json!({"datetime": "2026-01-01"})),
        json!({"type": "relation", "from_id": "r", "to_id": "s", "direction": "right"}),
    ] {
        let kind = remark["type"].as_str().unwrap().to_owned();
        let mut content = label_studio();
        content[0]["annotations"][1]["result"] = json!([remark, shape]);
        import(&folder, "label-studio", &content.to_string(), &["--overwrite"])
            .exits(0)
            .says(&["ignored, because they are not shapes", &format!("1 × {kind}")]);
        let found = lines(&folder.path("labels.jsonl"));
        assert_eq!(found[0]["defects"], json!([{"box": [10, 20, 40, 60]}]));
        assert_eq!(found[0]["type"], "crack");
        // A remark alone does not say that a part is good.
        content[0]["annotations"][1]["result"] = json!([content[0]["annotations"][1]["result"][0]]);
        std::fs::remove_file(folder.path("labels.jsonl")).unwrap();
        import(&folder, "label-studio", &content.to_string(), &[])
            .exits(0)
            .prints(&["1 pictures read"])
            .says(&["a.png has only remarks"]);
        std::fs::remove_file(folder.path("labels.jsonl")).unwrap();
    }
    let mut content = label_studio();
    let light = region("choices", json!({"choices": ["dark"]}));
    content[0]["annotations"][1]["result"] = json!([light, shape]);
    content[1]["annotations"][0]["result"].as_array_mut().unwrap().push(light);
    import(&folder, "label-studio", &content.to_string(), &["--overwrite"])
        .exits(0)
        .says(&["2 × choice \"dark\""]);
    let found = lines(&folder.path("labels.jsonl"));
    assert_eq!((&found[0]["type"], &found[1]["tag"]), (&json!("crack"), &json!("good")));

    let mut content = coco();
    content["annotations"].as_array_mut().unwrap().push(json!({"id": 9, "image_id": 7, "caption": "a part"}));
    import(&folder, "coco", &content.to_string(), &["--overwrite"]).exits(0).says(&["1 × caption"]);
    let content = CVAT.replace("<tag", "<issue><comment>look</comment></issue><tag");
    import(&folder, "cvat", &content, &["--overwrite"]).exits(0).says(&["1 × <issue>"]);
}

#[test]
fn what_cannot_be_imported_is_listed_and_left_out_when_asked_to() {
    let folder = pictures();
    let mut coco = coco();
    let more = [
        json!({"image_id": 7, "category_id": 1, "bbox": [9, 9, 0, 5]}),
        json!({"image_id": 7, "category_id": 1, "segmentation": [[1, 2, 3, 4]]}),
        json!({"image_id": 7, "category_id": 1, "bbox": [190, 9, 90, 5]}),
        json!({"image_id": 7, "category_id": 1, "segmentation": [[5, 5, 9, 9, 12, 12]]}),
        json!({"image_id": 9, "category_id": 1, "bbox": [9, 9, "not a number", 5]}),
        json!({"image_id": 10, "category_id": 1, "bbox": [1, 1, 5, 5]}),
    ];
    coco["annotations"].as_array_mut().unwrap().extend(more);
    coco["images"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": 10, "file_name": "z.png", "width": 2, "height": 2}));
    // As Python writes what is no number.
    let coco = coco.to_string().replace("\"not a number\"", "NaN");
    let mut studio = label_studio();
    let regions = studio[0]["annotations"][1]["result"].as_array_mut().unwrap();
    for value in [
        json!({"x": 5, "y": 20, "width": 0, "height": 40}),
        json!({"points": [[1, 1], [2, 2]]}),
        json!({"x": 95, "y": 20, "width": 50, "height": 4}),
        json!({"points": [[1, 1], [2, 2], [3, 3]]}),
        json!({"x": null, "y": 20, "width": 5, "height": 4}),
    ] {
        regions.push(json!({"type": "rectangle", "value": value}));
    }
    studio.as_array_mut().unwrap().push(json!({"data": {"image": "z.png"}, "annotations": []}));
    let cvat = CVAT.replace("<tag", "<points label=\"x\" points=\"1,2\"/><tag").replace(
        "<box label=\"dent\"",
        "<box label=\"x\" xtl=\"1\" ytl=\"1\" xbr=\"1\" ybr=\"9\"/><polygon label=\"x\" points=\"1,1;2,2\"/>\
         <box label=\"x\" xtl=\"1\" ytl=\"1\" xbr=\"900\" ybr=\"9\"/><polygon label=\"x\" points=\"1,1;2,2;3,3\"/><box label=\"dent\"",
    );
    for (kind, content, count) in
        [("coco", coco, 6), ("label-studio", studio.to_string(), 6), ("cvat", cvat, 5)]
    {
        let ran = import(&folder, kind, &content, &[]).exits(2);
        let ran = ran.says(&[&format!("{count} entries cannot be imported"), "--skip-bad", "a.png"]);
        assert_eq!(ran.err.lines().count(), 1 + count, "{ran}");
        assert!(!folder.path("labels.jsonl").exists());
        let ran = import(&folder, kind, &content, &["--skip-bad"]).exits(0);
        assert_eq!(ran.err.matches("left out: ").count(), count, "{ran}");
        let found = lines(&folder.path("labels.jsonl"));
        let of = |name: &str| found.iter().find(|l| l["image"].as_str().unwrap().ends_with(name));
        assert_eq!(types(of("a.png").unwrap()), ["crack", "dent"], "{ran}");
        assert_eq!(of("a.png").unwrap()["defects"].as_array().unwrap().len(), 2, "{ran}");
        // A defect that cannot be drawn does not make a part good.
        assert!(of("c.png").is_none(), "{kind}");
        assert_eq!(of("b.png").is_none(), kind == "cvat", "{kind}");
        std::fs::remove_file(folder.path("labels.jsonl")).unwrap();
    }
}

#[test]
fn ids_are_compared_as_numbers() {
    let folder = pictures();
    let mut content = coco();
    content["images"][0]["id"] = json!(7.0);
    content["annotations"][0]["image_id"] = json!("7");
    content["categories"][0]["id"] = json!("1");
    content["annotations"][0]["category_id"] = json!(1.0);
    content["images"][1]["width"] = json!(200.0);
    let found = imported(&folder, "coco", &content.to_string());
    assert_eq!(types(&found[0]), ["crack", "dent"]);
    content["images"][1]["id"] = json!("7.0");
    import(&folder, "coco", &content.to_string(), &["--overwrite"])
        .exits(2)
        .says(&["$.images[1]", "appears twice"]);
}

#[test]
fn names_are_found_as_tools_spell_them_or_told() {
    let names = [
        "a+b.png",
        "c d.png",
        "e%20f.png",
        "g&h#1.png",
        "u\u{308}.png",
        "day/i.png",
        "day/j+k.png",
        "day/j k.png",
    ];
    let folder = Folder::new();
    for name in names {
        folder.picture(format!("pictures/{name}"), &GrayImage::new(200, 100).into());
    }
    let studio = |link: &str| json!([{"data": {"image": link}, "annotations": [{"result": []}]}]).to_string();
    for (link, name) in [
        ("/data/local-files/?d=a+b.png", "a+b.png"),
        ("/data/local-files/?d=a%2Bb.png", "a+b.png"),
        ("/data/local-files/?d=c+d.png", "c d.png"),
        ("/data/local-files/?d=c d.png", "c d.png"),
        ("/data/local-files/?d=e%20f.png", "e%20f.png"),
        ("/data/local-files/?d=g&h#1.png", "g&h#1.png"),
        ("/data/local-files/?d=%C3%BC.png", "u\u{308}.png"),
        ("/data/local-files/?d=i.png", "day/i.png"),
        ("/data/upload/1/0a1b2c3d-i.png", "day/i.png"),
        ("s3://bucket/somewhere/day/i.png", "day/i.png"),
    ] {
        let found = imported(&folder, "label-studio", &studio(link));
        assert!(found.iter().any(|l| l["image"] == format!("pictures/{name}")), "{link}: {found:?}");
        std::fs::remove_file(folder.path("labels.jsonl")).unwrap();
    }
    for (link, told) in [
        ("/data/local-files/?d=j+k.png", "may be day/j k.png or day/j+k.png"),
        ("/data/local-files/?d=night/i.png", "there is no picture night/i.png"),
        ("s3://bucket/12345678-i.png", "there is no picture"),
    ] {
        import(&folder, "label-studio", &studio(link), &[]).exits(2).says(&[told]);
    }
}

#[test]
fn files_of_windows_editors_are_read() {
    let folder = pictures();
    let (mark, lines_of) = ("\u{feff}", |text: &str| text.replace('\n', "\r\n"));
    for kind in KINDS {
        import(&folder, kind, &lines_of(&format!("{mark}{}", file_of(kind))), &["--overwrite"]).exits(0);
        let wide: Vec<u8> =
            format!("{mark}{}", file_of(kind)).encode_utf16().flat_map(u16::to_le_bytes).collect();
        let path = folder.file("wide", &wide);
        let mut command = Command::new(PROGRAM);
        command.args(["label", "--images"]).arg(folder.path("pictures"));
        command.arg("--labels").arg(folder.path("labels.jsonl"));
        command.arg("--import").arg(format!("{kind}:{}", path.display()));
        Ran::of(&mut command).exits(2).says(&["is UTF-16 text; save it as UTF-8"]);
    }
    // Label files as well, and several that were put together.
    let label = |name: &str| format!("{mark}{{\"image\": \"pictures/{name}\", \"tag\": \"good\"}}\r\n");
    folder.file("labels.jsonl", (label("a.png") + &label("b.png")).as_bytes());
    let mut command = Command::new(PROGRAM);
    command.args(["label", "--images"]).arg(folder.path("pictures"));
    command.arg("--labels").arg(folder.path("labels.jsonl"));
    Ran::of(command.arg("--export").arg(format!("coco:{}", folder.path("out.json").display())))
        .exits(0)
        .prints(&["2 pictures written"]);
}

#[test]
fn masks_are_read_however_they_were_saved_or_refused() {
    let folder = pictures();
    let square = |on: u8, off: u8| {
        GrayImage::from_fn(200, 100, |x, y| {
            image::Luma([if (20..30).contains(&x) && y < 10 { on } else { off }])
        })
    };
    let import = |more: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(["label", "--overwrite", "--images"]).arg(folder.path("pictures"));
        command.arg("--labels").arg(folder.path("labels.jsonl"));
        Ran::of(command.arg("--import").arg(format!("masks:{}", folder.path("masks").display())).args(more))
    };
    folder.picture("masks/crack/a_mask.png", &square(1, 0).into());
    import(&[]).exits(0).prints(&["1 pictures read"]);
    assert_eq!(marked(&folder, &lines(&folder.path("labels.jsonl"))[0]).len(), 100);

    folder.picture("masks/crack/a_mask.png", &square(0, 255).into());
    import(&[]).exits(2).says(&["look inverted"]);
    folder.picture("masks/crack/b_mask.png", &square(255, 0).into());
    import(&[]).exits(0).says(&["1 mask marks more than half", "crack/a_mask.png", "inverted?"]);

    let mut classes = square(1, 0);
    classes.put_pixel(0, 0, image::Luma([2]));
    folder.picture("masks/crack/a_mask.png", &classes.into());
    folder.picture("masks/crack/c_mask.png", &GrayImage::new(100, 200).into());
    import(&[]).exits(2).says(&[
        "2 entries cannot be imported",
        "crack/a_mask.png",
        "class numbers",
        "100×200 pixels",
    ]);
    import(&["--skip-bad"]).exits(0).prints(&["1 pictures read"]).says(&["left out: ", "class numbers"]);
}

#[test]
fn long_names_of_pictures_make_short_names_of_masks() {
    let folder = Folder::new();
    let long = "n".repeat(248);
    for place in ["x", "y"] {
        folder.picture(format!("pictures/{place}/{long}.png"), &GrayImage::new(200, 100).into());
    }
    let runs = json!({"size": [100, 200], "counts": [30, 20, 19950]});
    let content = json!({
        "images": [
            {"id": 1, "file_name": format!("x/{long}.png"), "width": 200, "height": 100},
            {"id": 2, "file_name": format!("y/{long}.png"), "width": 200, "height": 100},
        ],
        "categories": [{"id": 1, "name": "crack"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "segmentation": runs},
            {"image_id": 2, "category_id": 1, "segmentation": runs},
        ],
    });
    for shift in 0..2 {
        let content = content.to_string().replace("[30,20,19950", &format!("[3{shift},20,199{}", 50 - shift));
        let found = imported(&folder, "coco", &content);
        assert_ne!(found[0]["defects"][0]["mask"], found[1]["defects"][0]["mask"]);
        assert_eq!(marked(&folder, &found[0]).len(), 20);
    }
    let run = |labels: &str, what: &str, more: &str| {
        let mut command = Command::new(PROGRAM);
        command.args(["label", "--images"]).arg(folder.path("pictures"));
        command.arg("--labels").arg(folder.path(labels)).args([what, more]);
        Ran::of(&mut command)
    };
    let masks = format!("masks:{}", folder.path("masks").display());
    run("labels.jsonl", "--export", &masks).exits(0).prints(&["2 pictures written"]);
    run("again.jsonl", "--import", &masks).exits(0).prints(&["2 pictures read"]);
}
