//! COCO JSON.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{
    Collected, Labeled, Log, Shelf, UNKNOWN, id, list, note_types, number, numbers, side, text, wrong,
};
use crate::error::Result;
use crate::labels::file::{Form, Tag};
use crate::labels::runs::{bits_from_runs, runs};
use crate::labels::shapes::Point;

/// The labels in a file.
pub fn read(data: &Value, shelf: &Shelf, log: &mut Log) -> Result<Vec<Collected>> {
    let id = |entry: &Value, key: &str, place: &str| {
        id(entry, key).ok_or_else(|| wrong(format!("{place} has no {key}: export again")))
    };
    let mut names = HashMap::new();
    for (place, entry) in list(data, "categories", "$")? {
        names.insert(id(entry, "id", &place)?, text(entry, "name", &place)?.to_owned());
    }
    let mut pictures: Vec<Collected> = Vec::new();
    // `None` for a picture that cannot be used.
    let mut of: HashMap<String, Option<usize>> = HashMap::new();
    for (place, entry) in list(data, "images", "$")? {
        let number = id(entry, "id", &place)?;
        let mut used = None;
        match picture(entry, shelf, &place) {
            Ok(picture) if pictures.iter().any(|p| p.found == picture.found) => {
                return Err(wrong(format!("{place}: {} appears twice: remove one", picture.found.name)));
            }
            Ok(picture) => {
                used = Some(pictures.len());
                pictures.push(picture);
            }
            Err(e) => log.bad.push(e.within(&place)),
        }
        if of.insert(number, used).is_some() {
            return Err(wrong(format!("{place}: its id appears twice: export again")));
        }
    }
    for (place, entry) in list(data, "annotations", "$")? {
        let has_shape = ["bbox", "segmentation"].into_iter().any(|key| entry.get(key).is_some());
        if !has_shape && entry.get("category_id").is_none() {
            log.ignore(if entry.get("caption").is_some() {
                "caption"
            } else {
                "annotation without a category"
            });
            continue;
        }
        let image = id(entry, "image_id", &place).map(|id| of.get(&id));
        let name = id(entry, "category_id", &place).map(|id| names.get(&id));
        let (Some(&image), Some(name)) = (image?, name?) else {
            log.bad
                .push(wrong("its image_id or category_id is not in the file: export again").within(&place));
            continue;
        };
        let Some(image) = image else { continue };
        let picture = &mut pictures[image];
        picture.marked = true;
        let first = picture.shapes.len();
        match annotation(entry, name, picture, &place) {
            Ok(()) => picture.name(first..picture.shapes.len(), name),
            Err(e) => {
                let e = e.within(format!("{place} ({})", picture.found.name));
                picture.spoil(e, log);
            }
        }
    }
    Ok(pictures)
}

fn picture(entry: &Value, shelf: &Shelf, place: &str) -> Result<Collected> {
    let size = (
        side(entry.get("width"), &format!("{place}.width"))?,
        side(entry.get("height"), &format!("{place}.height"))?,
    );
    let found = shelf.find(&[text(entry, "file_name", place)?.to_owned()])?;
    let mut collected = Collected::new(found, Some(size))?;
    // Only weakrest's own files have it.
    collected.seconds = entry.get("seconds").and_then(Value::as_f64).filter(|s| *s >= 0.0);
    Ok(collected)
}

fn annotation(entry: &Value, name: &str, picture: &mut Collected, place: &str) -> Result<()> {
    let turn = entry.get("attributes").and_then(|a| a.get("rotation"));
    let degrees = turn.map_or(Ok(0.0), |turn| number(Some(turn), "attributes.rotation"))?;
    let shape = entry.get("segmentation");
    let bbox = entry.get("bbox").filter(|b| b.as_array().is_none_or(|b| !b.is_empty()) && !b.is_null());
    match shape {
        Some(Value::Array(polygons)) if degrees == 0.0 && !polygons.is_empty() => {
            for (i, flat) in polygons.iter().enumerate() {
                let at = format!("segmentation[{i}]");
                let flat = flat.as_array().filter(|f| f.len() >= 6 && f.len() % 2 == 0);
                let flat = flat.ok_or_else(|| {
                    wrong(format!("{at} must be the x and y of at least three corners: export again"))
                })?;
                let values = flat.iter().map(|v| number(Some(v), &at)).collect::<Result<Vec<f64>>>()?;
                let points: Vec<Point> = values.chunks_exact(2).map(|p| [p[0], p[1]]).collect();
                picture.polygon(&points)?;
            }
            Ok(())
        }
        Some(Value::Object(rle)) if rle.contains_key("counts") => {
            let counts = match &rle["counts"] {
                Value::String(text) => counts_from_text(text),
                Value::Array(counts) => counts.iter().map(Value::as_u64).collect(),
                _ => None,
            };
            let size = (picture.size.1, picture.size.0);
            let [h, w]: [f64; 2] = numbers(rle.get("size"), "segmentation.size")?;
            if (h, w) != (size.0.into(), size.1.into()) {
                return Err(wrong(format!(
                    "the runs have {w}×{h} pixels, but the picture {}×{}: use the labeled pictures",
                    size.1, size.0
                )));
            }
            let (width, height) = (picture.size.0 as usize, picture.size.1 as usize);
            let columns = counts.and_then(|counts| bits_from_runs(&counts, width * height));
            let columns = columns.ok_or_else(|| {
                wrong(format!("the runs do not make {width}×{height} pixels: export again"))
            })?;
            // Runs go down the columns.
            picture.paint((0..width * height).map(|i| columns[(i % width) * height + i / width]).collect())
        }
        _ => match bbox {
            Some(bbox) => {
                let shape: [f64; 4] = numbers(Some(bbox), "bbox")?;
                picture.boxed(shape, degrees, [shape[0] + shape[2] / 2.0, shape[1] + shape[3] / 2.0])
            }
            None if ["good", "defective"].contains(&name.to_lowercase().as_str()) => Ok(()),
            None => Err(wrong(format!("{place} has neither bbox nor polygon: draw it again"))),
        },
    }
}

/// Run lengths in pycocotools' packing: base 32 in printable letters. From the third run on, each is the
/// difference to the run before the last.
fn counts_from_text(text: &str) -> Option<Vec<u64>> {
    let mut counts: Vec<i64> = Vec::new();
    let mut bytes = text.bytes();
    while bytes.len() > 0 {
        let (mut value, mut shift) = (0i64, 0u32);
        loop {
            let c = i64::from(bytes.next()?.checked_sub(48)?);
            value |= (c & 0x1f).checked_shl(shift)?;
            shift += 5;
            if shift > 55 {
                return None;
            }
            if c & 0x20 == 0 {
                if c & 0x10 != 0 {
                    value |= -1i64 << shift;
                }
                break;
            }
        }
        if counts.len() > 2 {
            value = value.checked_add(counts[counts.len() - 2])?;
        }
        counts.push(value);
    }
    counts.into_iter().map(|count| u64::try_from(count).ok()).collect()
}

/// A file with the labels, as far as COCO can hold them.
pub fn write<'a>(labeled: &'a [Labeled], notes: &mut Vec<String>) -> Value {
    note_types(labeled, notes);
    let mut names: Vec<&str> = Vec::new();
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for (image, one) in (1..).zip(labeled) {
        let (width, height) = one.size;
        let mut entry = json!({"id": image, "file_name": one.name, "width": width, "height": height});
        if let Some(seconds) = one.label.seconds {
            entry["seconds"] = json!(seconds);
        }
        images.push(entry);
        let mut add = |kind: &'a str, shape: Value, bbox: Value, area: f64, crowd: u8| {
            let category = 1 + names.iter().position(|name| *name == kind).unwrap_or_else(|| {
                names.push(kind);
                names.len() - 1
            });
            annotations.push(json!({
                "id": annotations.len() + 1, "image_id": image, "category_id": category,
                "segmentation": shape, "bbox": bbox, "area": area, "iscrowd": crowd,
            }));
        };
        match one.label.tag {
            Tag::Good => add("good", json!([]), json!([]), 0.0, 0),
            Tag::Defective if one.is_only_tagged() => add(UNKNOWN, json!([]), json!([]), 0.0, 0),
            Tag::Defective => {}
        }
        for shape in &one.label.shapes {
            let kind = shape.kind.as_deref().unwrap_or(UNKNOWN);
            let corners = match &shape.form {
                &Form::Box([left, top, right, bottom]) => {
                    let (w, h) = (right - left, bottom - top);
                    add(kind, json!([]), json!([left, top, w, h]), w * h, 0);
                    continue;
                }
                Form::Mask(mask) => {
                    let (w, h) = (width as usize, height as usize);
                    let columns = (0..w * h).map(|i| mask.bits()[(i % h) * w + i / h]);
                    let rle = json!({"size": [height, width], "counts": runs(columns)});
                    add(kind, rle, json!(bounds(mask.bits(), w)), mask.defective_pixels() as f64, 1);
                    continue;
                }
                Form::Rotated(corners) => corners.as_slice(),
                Form::Polygon(corners) => corners.as_slice(),
            };
            let flat: Vec<f64> = corners.iter().flatten().copied().collect();
            let along = |axis: usize| {
                let values = corners.iter().map(|p| p[axis]);
                let (low, high) =
                    values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
                (low, high - low)
            };
            let ((x, w), (y, h)) = (along(0), along(1));
            let area = (0..corners.len())
                .map(|i| {
                    let (a, b) = (corners[i], corners[(i + 1) % corners.len()]);
                    a[0] * b[1] - a[1] * b[0]
                })
                .sum::<f64>();
            add(kind, json!([flat]), json!([x, y, w, h]), area.abs() / 2.0, 0);
        }
    }
    let categories: Vec<Value> =
        (1..).zip(&names).map(|(id, name)| json!({"id": id, "name": name})).collect();
    json!({"images": images, "annotations": annotations, "categories": categories})
}

/// Left, top, width and height of what is set.
fn bounds(bits: &[bool], width: usize) -> [usize; 4] {
    let set = || (0..bits.len()).filter(|&i| bits[i]);
    let (left, right) = (set().map(|i| i % width).min(), set().map(|i| i % width).max());
    let (top, bottom) = (set().map(|i| i / width).min(), set().map(|i| i / width).max());
    match (left, right, top, bottom) {
        (Some(l), Some(r), Some(t), Some(b)) => [l, t, r + 1 - l, b + 1 - t],
        _ => [0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_runs_are_unpacked_as_pycocotools_does() {
        assert_eq!(counts_from_text("023"), Some(vec![0, 2, 3]));
        assert_eq!(counts_from_text("0231"), Some(vec![0, 2, 3, 3]));
        assert_eq!(counts_from_text("P"), None);
        assert_eq!(counts_from_text("0P1"), Some(vec![0, 32]));
        assert_eq!(counts_from_text("!"), None);
    }
}
