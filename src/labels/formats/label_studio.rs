//! Label Studio JSON, including its brush masks.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::{Value, json};

use super::{Collected, Labeled, Log, Shelf, UNKNOWN, id, list, note_types, number, side, wrong};
use crate::error::Result;
use crate::labels::file::{Form, Tag};
use crate::labels::shapes::Point;

/// Types of results that are not shapes, even where they repeat a region's coordinates.
const REMARKS: [&str; 8] =
    ["textarea", "rating", "number", "taxonomy", "relation", "datetime", "pairwise", "ranker"];
const LABELS: [&str; 6] =
    ["labels", "rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "keypointlabels"];

/// The labels in a file.
pub fn read(data: &Value, shelf: &Shelf, log: &mut Log) -> Result<Vec<Collected>> {
    let mut pictures: Vec<Collected> = Vec::new();
    for (place, task) in list(data, "", "$")? {
        if task.get("annotations").is_none() {
            return Err(wrong(format!("{place} has no annotations: export as JSON (not JSON-MIN)")));
        }
        let given = task.get("data").and_then(Value::as_object);
        let given = given.ok_or_else(|| wrong(format!("{place} has no valid data: export again")))?;
        let links: Vec<&str> = match given.get("image").and_then(Value::as_str) {
            Some(link) => vec![link],
            None => given.values().filter_map(Value::as_str).collect(),
        };
        let [link] = links[..] else {
            return Err(wrong(format!(
                "{place}.data: it is not clear which entry is the picture: call it image"
            )));
        };
        let picture = found(link, shelf).and_then(|found| Collected::new(found, None));
        let mut picture = match picture {
            Ok(picture) => picture,
            Err(e) => {
                log.bad.push(e.within(&place));
                continue;
            }
        };
        if pictures.iter().any(|p| p.found == picture.found) {
            return Err(wrong(format!("{place}: {} appears twice: remove one", picture.found.name)));
        }
        let done: Vec<_> = list(task, "annotations", &place)?
            .into_iter()
            .filter(|(_, work)| work.get("was_cancelled").and_then(Value::as_bool) != Some(true))
            .collect();
        if done.len() > 1 {
            let text = format!("{place} has {} annotations: keep one of them", done.len());
            log.bad.push(wrong(text));
            continue;
        }
        for (at, work) in done {
            if let Some(time) = work.get("lead_time").filter(|time| !time.is_null()) {
                picture.seconds = Some(number(Some(time), &format!("{at}.lead_time"))?.max(0.0));
            }
            let results = list(work, "result", &at)?;
            picture.marked = results.is_empty();
            let mut seen: HashMap<String, Range<usize>> = HashMap::new();
            for (place, region) in results {
                let kind = region.get("type").and_then(Value::as_str).unwrap_or_default();
                if REMARKS.contains(&kind) {
                    log.ignore(kind);
                    continue;
                }
                picture.marked = true;
                // A shape and its label may be two regions with one id.
                let id = id(region, "id").unwrap_or_else(|| place.clone());
                match result(&mut picture, region, kind, seen.get(&id).cloned()) {
                    Ok(shapes) if kind != "choices" => drop(seen.insert(id, shapes)),
                    Ok(_) => {}
                    Err(e) => {
                        let e = e.within(format!("{place} ({})", picture.found.name));
                        picture.spoil(e, log);
                        seen.insert(id, 0..0);
                    }
                }
            }
            if !picture.marked {
                log.notes.push(format!(
                    "{} has only remarks, which do not say whether it is good",
                    picture.found.name
                ));
            }
        }
        pictures.push(picture);
    }
    Ok(pictures)
}

/// Adds a result, unless its shapes are known already. Returns its shapes.
fn result(
    picture: &mut Collected,
    region: &Value,
    kind: &str,
    known: Option<Range<usize>>,
) -> Result<Range<usize>> {
    let value = region.get("value").filter(|v| v.is_object());
    let value = value.ok_or_else(|| wrong("has no valid value: export again"))?;
    let texts =
        |key: &str| value.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for choice in texts("choices") {
        match choice.trim().to_lowercase().as_str() {
            "good" | "defective" => picture.tags.push(choice.to_owned()),
            _ => picture.choices.push(choice.to_owned()),
        }
    }
    if kind == "choices" {
        return Ok(0..0);
    }
    let shapes = match known {
        Some(known) => known,
        None => {
            let first = picture.shapes.len();
            shape(picture, region, value)?;
            first..picture.shapes.len()
        }
    };
    LABELS.into_iter().flat_map(texts).for_each(|label| picture.name(shapes.clone(), label));
    Ok(shapes)
}

fn shape(picture: &mut Collected, region: &Value, value: &Value) -> Result<()> {
    let (width, height) = picture.size;
    let original = |key: &str, own: u32| region.get(key).map_or(Ok(own), |v| side(Some(v), key));
    let (w, h) = (original("original_width", width)?, original("original_height", height)?);
    if (w, h) != (width, height) {
        return Err(wrong(format!(
            "{} was labeled with {w}×{h} pixels, but has {width}×{height}: use the labeled pictures",
            picture.found.name
        )));
    }
    if region.get("image_rotation").and_then(Value::as_f64).is_some_and(|turn| turn != 0.0) {
        return Err(wrong("was drawn on a rotated picture: rotate the picture's file and draw it again"));
    }
    // Coordinates are percentages of the picture's sides.
    let sides = [f64::from(width), f64::from(height)];
    let read = |keys: [&str; 4]| -> Result<[f64; 4]> {
        let mut found = [0.0; 4];
        for (i, key) in keys.iter().enumerate() {
            found[i] = number(value.get(*key), &format!("value.{key}"))? * sides[i % 2] / 100.0;
        }
        Ok(found)
    };
    let degrees = value.get("rotation").map_or(Ok(0.0), |turn| number(Some(turn), "value.rotation"))?;
    if let Some(rle) = value.get("rle") {
        let bytes: Option<Vec<u8>> = rle
            .as_array()
            .and_then(|list| list.iter().map(|v| v.as_u64().and_then(|v| u8::try_from(v).ok())).collect());
        let count = width as usize * height as usize;
        let bits = bytes.and_then(|bytes| bits_from_brush(&bytes, count));
        let bits = bits.ok_or_else(|| {
            wrong(format!("the brush's runs do not make {width}×{height} pixels: export again"))
        })?;
        return picture.paint(bits);
    }
    if value.get("width").is_some() && value.get("height").is_some() {
        let shape = read(["x", "y", "width", "height"])?;
        // Rotated about its top left corner.
        return picture.boxed(shape, degrees, [shape[0], shape[1]]);
    }
    if value.get("radiusX").is_some() {
        return picture.ellipse(read(["x", "y", "radiusX", "radiusY"])?, degrees);
    }
    if let Some(points) = value.get("points").and_then(Value::as_array) {
        if points.len() < 3 {
            return Err(wrong("value.points must have at least three corners: remove it or draw it again"));
        }
        let scaled = |p: &Value| -> Result<Point> {
            let [x, y] = super::numbers(Some(p), "value.points")?;
            Ok([x * sides[0] / 100.0, y * sides[1] / 100.0])
        };
        let points = points.iter().map(scaled).collect::<Result<Vec<Point>>>()?;
        return picture.polygon(&points);
    }
    let kind = region.get("type").and_then(Value::as_str).unwrap_or("a shape without a type");
    Err(wrong(format!("cannot import {kind}: draw rectangles, polygons or ellipses, or use the brush")))
}

/// The picture of a link, such as `/data/local-files/?d=crack/000.png`.
fn found<'a>(link: &str, shelf: &'a Shelf) -> Result<&'a super::Found> {
    let names = names_of(link);
    let found = shelf.find(&names);
    if found.is_ok() || !link.contains("upload/") {
        return found;
    }
    // An upload gets digits before its name, and folders without meaning.
    let file = |name: &String| without_upload(name).rsplit('/').next().map(str::to_owned);
    shelf.find(&names.iter().filter_map(file).collect::<Vec<_>>())
}

/// Possible spellings of a picture's path in a link. Label Studio does not encode the names of local files;
/// programs that make links encode them.
fn names_of(link: &str) -> Vec<String> {
    let local = ["?d=", "&d="].into_iter().find_map(|key| link.split_once(key)).map(|(_, name)| name);
    let whole = local.unwrap_or(link);
    let cut = |ends: &[char]| whole.split(|c| ends.contains(&c)).next().unwrap_or_default();
    let ends = if local.is_some() { ['&', '#'] } else { ['?', '#'] };
    let mut names: Vec<String> = Vec::new();
    for name in [cut(&ends), whole, cut(&ends[1..])] {
        names.extend([name.to_owned(), unquoted(name)]);
        if local.is_some() {
            names.push(unquoted(&name.replace('+', " ")));
        }
    }
    // Messages show the first.
    names.swap(0, 1);
    names
}

/// A link without the eight digits and the dash before an upload's name.
fn without_upload(name: &str) -> String {
    let (folder, file) = match name.rsplit_once('/') {
        Some((folder, file)) => (format!("{folder}/"), file),
        None => (String::new(), name),
    };
    match file.split_once('-') {
        Some((digits, rest)) if digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
            format!("{folder}{rest}")
        }
        _ => name.to_owned(),
    }
}

fn unquoted(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                quoted.push(byte.into());
            }
            _ => quoted.push_str(&format!("%{byte:02X}")),
        }
    }
    quoted
}

/// A file with the labels, as far as Label Studio can show them.
pub fn write(labeled: &[Labeled], notes: &mut Vec<String>) -> Value {
    note_types(labeled, notes);
    let tasks = (1..).zip(labeled).map(|(id, one)| {
        let (width, height) = one.size;
        let mut result: Vec<Value> = Vec::new();
        let mut add = |kind: &str, shape: &str, labels: &str, mut value: Value| {
            value[labels] = json!([kind]);
            result.push(json!({
                "id": format!("{id}-{}", result.len() + 1), "type": labels, "from_name": shape,
                "to_name": "image", "original_width": width, "original_height": height,
                "image_rotation": 0, "value": value,
            }));
        };
        let percent = |p: Point| [p[0] * 100.0 / f64::from(width), p[1] * 100.0 / f64::from(height)];
        match one.label.tag {
            Tag::Good => add("good", "tag", "choices", json!({})),
            Tag::Defective if one.is_only_tagged() => add(UNKNOWN, "tag", "choices", json!({})),
            Tag::Defective => {}
        }
        for shape in &one.label.shapes {
            let kind = shape.kind.as_deref().unwrap_or(UNKNOWN);
            let mut polygon = |corners: &[Point]| {
                let points: Vec<Point> = corners.iter().map(|p| percent(*p)).collect();
                add(kind, "polygon", "polygonlabels", json!({"points": points, "closed": true}));
            };
            match &shape.form {
                &Form::Box([left, top, right, bottom]) => {
                    let ([x, y], [w, h]) = (percent([left, top]), percent([right - left, bottom - top]));
                    let value = json!({"x": x, "y": y, "width": w, "height": h, "rotation": 0});
                    add(kind, "box", "rectanglelabels", value);
                }
                Form::Rotated(corners) => polygon(corners),
                Form::Polygon(corners) => polygon(corners),
                Form::Mask(mask) => {
                    let value = json!({"format": "rle", "rle": brush_from_bits(mask.bits())});
                    add(kind, "brush", "brushlabels", value);
                }
            }
        }
        let mut annotation = json!({"id": id, "was_cancelled": false, "result": result});
        if let Some(seconds) = one.label.seconds {
            annotation["lead_time"] = json!(seconds);
        }
        let link = format!("/data/local-files/?d={}", quoted(one.name));
        json!({"id": id, "data": {"image": link}, "annotations": [annotation]})
    });
    Value::Array(tasks.collect())
}

/// Bytes per pixel of a brush: red, green, blue and opacity. Painted pixels are opaque.
const CHANNELS: usize = 4;

/// Reads single bits, the highest bit of each byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<usize> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | usize::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }
}

/// The painted pixels of a brush's packed runs, `count` bits.
fn bits_from_brush(bytes: &[u8], count: usize) -> Option<Vec<bool>> {
    let mut input = Bits { bytes, at: 0 };
    let values = input.take(32)?;
    if values != count * CHANNELS {
        return None;
    }
    let word = input.take(5)? + 1;
    let mut sizes = [0; 4];
    for size in &mut sizes {
        *size = input.take(4)? + 1;
    }
    let (mut painted, mut i) = (vec![false; count], 0);
    while i < values {
        let repeated = input.take(1)? == 1;
        let size = sizes[input.take(2)?];
        let end = i + 1 + input.take(size)?;
        if end > values {
            return None;
        }
        let mut value = if repeated { input.take(word)? } else { 0 };
        while i < end {
            if !repeated {
                value = input.take(word)?;
            }
            if i % CHANNELS == CHANNELS - 1 && value > 0 {
                painted[i / CHANNELS] = true;
            }
            i += 1;
        }
    }
    Some(painted)
}

/// The packed runs of a brush.
fn brush_from_bits(painted: &[bool]) -> Vec<u8> {
    const SIZES: [usize; 4] = [3, 4, 8, 16];
    let (mut bytes, mut used) = (Vec::new(), 0usize);
    let mut put = |value: usize, count: usize| {
        for bit in (0..count).rev() {
            if used.is_multiple_of(8) {
                bytes.push(0u8);
            }
            if let Some(last) = bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << (7 - used % 8);
            }
            used += 1;
        }
    };
    put(painted.len() * CHANNELS, 32);
    put(8 - 1, 5);
    for size in SIZES {
        put(size - 1, 4);
    }
    for run in painted.chunk_by(|a, b| a == b) {
        let mut left = run.len() * CHANNELS;
        while left > 0 {
            let length = left.min(1 << SIZES[3]);
            let selected = SIZES.iter().position(|&size| length <= 1 << size).unwrap_or(3);
            put(1, 1);
            put(selected, 2);
            put(length - 1, SIZES[selected]);
            put(if run[0] { 255 } else { 0 }, 8);
            left -= length;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn links_name_pictures() {
        for (link, name) in [
            ("/data/local-files/?d=a%20b/c.png", "a b/c.png"),
            ("/data/upload/1/0a1b2c3d-c.png", "/data/upload/1/0a1b2c3d-c.png"),
            ("s3://bucket/a/c.png?x=1#y", "s3://bucket/a/c.png"),
            ("100%.png", "100%.png"),
        ] {
            assert_eq!(names_of(link)[0], name);
        }
        for (link, name) in [
            ("/data/local-files/?d=a+b.png", "a+b.png"),
            ("/data/local-files/?d=a+b.png", "a b.png"),
            ("/data/local-files/?d=a%2Bb.png", "a+b.png"),
            ("/data/local-files/?d=100%25.png", "100%25.png"),
            ("/data/local-files/?d=a&b#1.png", "a&b#1.png"),
            ("/data/local-files/?d=a#1.png", "a#1.png"),
            ("/data/local-files/?x=1&d=a.png", "a.png"),
            ("https://x/a b?.png", "https://x/a b?.png"),
        ] {
            assert!(names_of(link).iter().any(|n| n == name), "{link}: {:?}", names_of(link));
        }
        assert_eq!(without_upload("/data/upload/1/0a1b2c3d-c-d.png"), "/data/upload/1/c-d.png");
        assert_eq!(without_upload("a-b.png"), "a-b.png");
        assert_eq!(unquoted(&quoted("ä ?#%&+/é.png")), "ä ?#%&+/é.png");
    }

    #[test]
    fn a_cut_brush_is_refused() {
        let packed = brush_from_bits(&[true, false, true]);
        assert_eq!(bits_from_brush(&packed, 3), Some(vec![true, false, true]));
        assert_eq!(bits_from_brush(&packed, 4), None);
        assert_eq!(bits_from_brush(&packed[..packed.len() - 1], 3), None);
        assert_eq!(bits_from_brush(&[], 3), None);
    }

    proptest! {
        #[test]
        fn brushes_survive(runs in prop::collection::vec((any::<bool>(), 1usize..40_000), 1..6)) {
            let bits: Vec<bool> = runs.into_iter().flat_map(|(bit, n)| std::iter::repeat_n(bit, n)).collect();
            prop_assert_eq!(bits_from_brush(&brush_from_bits(&bits), bits.len()), Some(bits));
        }

        #[test]
        fn whatever_is_called_a_brush_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = bits_from_brush(&bytes, 1 << 20);
        }
    }
}
