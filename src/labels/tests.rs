//! The label files that both languages read: see `tests/data/labels/README.md`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::shapes::{clipped_box, placed_polygon, placed_rotated};
use super::*;
use crate::error::Result;
use crate::imaging::{Frame, Mask};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/labels")
}

/// The files of one kind, with what the index says of each. Every file must be in the index.
fn shared(kind: &str) -> Vec<(PathBuf, Value)> {
    let index = std::fs::read_to_string(folder().join("index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let expected = index[kind].as_object().unwrap();
    let files = std::fs::read_dir(folder().join(kind)).unwrap().count();
    assert_eq!(files, expected.len(), "files in {kind} and in the index");
    expected.iter().map(|(name, told)| (folder().join(kind).join(name), told.clone())).collect()
}

/// What a label file says, held against its pictures as import, export and the labeler do.
fn read(path: &Path) -> Result<Value> {
    let file = LabelFile::open(path)?;
    let mut found = Vec::new();
    for (number, (real, image, label)) in (1..).zip(file.iter()) {
        let check = || {
            let (width, height, _) = Frame::header(real)?;
            let size = (width, height);
            let (mut boxes, mut rotated, mut polygons) = (Vec::new(), Vec::new(), Vec::new());
            for shape in &label.shapes {
                match &shape.form {
                    Form::Box(shape) => boxes.push(clipped_box(shape, size)?),
                    Form::Rotated(shape) => rotated.push(placed_rotated(shape, size)?),
                    Form::Polygon(shape) => polygons.push(placed_polygon(shape, size)?),
                    Form::Mask(_) => {}
                }
            }
            let masked = file.mask(label, size)?.map_or(0, |mask: Mask| mask.defective_pixels());
            Ok(json!({
                "image": Path::new(image).file_name().unwrap().to_str().unwrap(),
                "tag": label.tag,
                "boxes": boxes,
                "rotated": rotated,
                "polygons": polygons,
                "masked": masked,
                "type": label.kind(),
                "types": label.shapes.iter().map(|shape| &shape.kind).collect::<Vec<_>>(),
                "seconds": label.seconds,
            }))
        };
        found.push(check().map_err(|e: crate::Error| e.within(format!("{}:{number}", path.display())))?);
    }
    Ok(Value::Array(found))
}

/// 1 and 1.0 are the same number in JSON.
fn as_floats(value: &Value) -> Value {
    match value {
        Value::Number(n) => json!(n.as_f64().unwrap()),
        Value::Array(all) => all.iter().map(as_floats).collect(),
        Value::Object(all) => all.iter().map(|(k, v)| (k.clone(), as_floats(v))).collect(),
        other => other.clone(),
    }
}

#[test]
fn reads_what_python_reads() {
    for (path, expected) in shared("good") {
        let found = read(&path).unwrap_or_else(|e| panic!("{}", e.chain()));
        assert_eq!(as_floats(&found), as_floats(&expected), "{}", path.display());
    }
}

#[test]
fn refuses_what_python_refuses() {
    let mut wrong = Vec::new();
    for (path, expected) in shared("bad") {
        let text = read(&path).map_or_else(|e| e.chain(), |_| format!("{} is read", path.display()));
        let path = path.display().to_string();
        let said = text.strip_prefix(&format!("{path}:{}: ", expected["line"]));
        if !said.is_some_and(|said| said.contains(expected["says"].as_str().unwrap())) {
            wrong.push(format!("{text}\n  instead of {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
