//! Labels of other tools: import and export of COCO JSON, Label Studio JSON and mask files in MVTec layout;
//! import of CVAT's XML.
//!
//! - Upright and rotated boxes stay boxes. Polygons with four convex corners become rotated boxes.
//! - Other polygons, ellipses and painted masks become one mask.
//! - Label names become the type of the defects, except *good* and *defective*: they are the tag.
//! - Comments, ratings and relations are ignored, with a note.
//! - Invalid entries stop the import, unless the caller skips them.

mod coco;
mod cvat;
mod label_studio;
mod masks;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;
use unicode_normalization_alignments::UnicodeNormalization;

use super::file::{Drawn, Entry, Label, LabelFile, Tag};
use super::lock::Lock;
use super::pictures::{self, Found};
use super::shapes::{
    Box, Point, Rotated, clipped_box, corners, is_convex, is_number, placed_rotated, turned,
};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::files;
use crate::imaging::{Frame, Mask, filled};

/// A format of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A COCO JSON file.
    Coco,
    /// A Label Studio JSON file (not JSON-MIN).
    LabelStudio,
    /// A file of CVAT for images 1.1, import only.
    Cvat,
    /// A folder of masks, `TYPE/NAME_mask.png`.
    Masks,
}

/// Format and place of other labels: `coco:FILE`, `label-studio:FILE`, `cvat:FILE` or `masks:DIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The format.
    pub format: Format,
    /// The file, or the folder of masks.
    pub path: PathBuf,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || "must be coco:FILE, label-studio:FILE, cvat:FILE or masks:DIR".to_owned();
        let (format, path) = text.split_once(':').ok_or_else(wrong)?;
        let format = match format {
            "coco" => Format::Coco,
            "label-studio" => Format::LabelStudio,
            "cvat" => Format::Cvat,
            "masks" => Format::Masks,
            _ => return Err(wrong()),
        };
        if path.is_empty() {
            return Err(wrong());
        }
        Ok(Place { format, path: path.into() })
    }
}

/// The result of an import or export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Number of pictures.
    pub pictures: usize,
    /// Notes for people on what was left out.
    pub notes: Vec<String>,
}

/// Options of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Import {
    /// Take the file's pictures without any mark as good. Otherwise they are left out.
    pub unmarked_good: bool,
    /// Replace existing labels.
    pub overwrite: bool,
    /// Leave out invalid entries. Otherwise they stop the import.
    pub skip_bad: bool,
}

/// Imports another tool's labels of the pictures below `images` into a label file, all or none.
///
/// # Errors
/// [`ErrorKind::Usage`] with file and place for an invalid entry or a missing picture, and for a picture that
/// has a label already, without `overwrite`; as [`LabelFile::save_all`].
pub fn import(from: &Place, images: &Path, labels: &Path, how: Import) -> Result<Summary> {
    let shelf = Shelf::new(images, &LabelFile::open(labels)?)?;
    let mut log = Log::default();
    let text = match from.format {
        Format::Masks => String::new(),
        _ => files::read_text(&from.path)?,
    };
    let json = || json_from_text(&text);
    let read: Vec<Collected> = match from.format {
        Format::Coco => json().and_then(|data| coco::read(&data, &shelf, &mut log)),
        Format::LabelStudio => json().and_then(|data| label_studio::read(&data, &shelf, &mut log)),
        Format::Cvat => cvat::read(&text, &shelf, &mut log),
        Format::Masks => masks::read(&from.path, &shelf, &mut log),
    }
    .map_err(|e| e.within(from.path.display()))?;
    let unclear: Vec<String> =
        read.iter().filter(|c| c.spoiled && !c.is_told()).map(|c| c.found.name.clone()).collect();
    let marked: Vec<Collected> =
        read.into_iter().filter(|c| (c.marked || how.unmarked_good) && (!c.spoiled || c.is_told())).collect();
    let drawn: Vec<(Found, Drawn)> = marked
        .into_iter()
        .filter_map(|c| {
            let found = c.found.clone();
            match c.drawn(&mut log) {
                Ok(drawn) => Some((found, drawn)),
                Err(e) => {
                    log.bad.push(e);
                    None
                }
            }
        })
        .collect();
    let mut notes = log.finish(how.skip_bad).map_err(|e| e.within(from.path.display()))?;
    if !unclear.is_empty() {
        notes.push(format!("left out, because none of their shapes is valid: {}", unclear.join(", ")));
    }
    if drawn.is_empty() {
        let mut text = "has no marked picture; tag pictures or draw defects".to_owned();
        notes.iter().for_each(|note| text.push_str(&format!("\n  {note}")));
        let error = Error::new(ErrorKind::Usage, text).within(from.path.display());
        return Err(error.with_hint(Hint::NothingMarked));
    }
    let _lock = Lock::take(LabelFile::open(labels)?.path())?;
    let mut file = LabelFile::open(labels)?;
    if !how.overwrite
        && let Some((found, _)) = drawn.iter().find(|(found, _)| file.label(&found.real).is_some())
    {
        let error = Error::new(ErrorKind::Usage, format!("{} has a label already", found.name));
        return Err(error.within(labels.display()).with_hint(Hint::Exists));
    }
    let pictures = drawn.len();
    let entries = drawn.iter().map(|(found, drawn)| Entry {
        picture: &found.path,
        real: &found.real,
        name: &found.name,
        label: Some(drawn.clone()),
    });
    file.save_all(entries.collect())?;
    Ok(Summary { pictures, notes })
}

/// Notes and errors of an import.
#[derive(Debug, Default)]
struct Log {
    notes: Vec<String>,
    /// Invalid entries.
    bad: Vec<Error>,
    /// Counts of entries that are not shapes.
    ignored: BTreeMap<String, usize>,
}

impl Log {
    fn ignore(&mut self, what: &str) {
        *self.ignored.entry(what.to_owned()).or_default() += 1;
    }

    /// The notes.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the invalid entries, unless they are skipped.
    fn finish(mut self, skip_bad: bool) -> Result<Vec<String>> {
        const SHOWN: usize = 20;
        let count = self.bad.len();
        if count > 0 && !skip_bad {
            let text = match count {
                1 => "an entry cannot be imported; correct it:".to_owned(),
                n => format!("{n} entries cannot be imported; correct them:"),
            };
            let lines = self.bad.iter().take(SHOWN).map(|e| format!("\n  {}", e.chain()));
            let more =
                if count > SHOWN { format!("\n  … and {} more", count - SHOWN) } else { String::new() };
            let error = wrong(format!("{text}{}{more}", lines.collect::<String>()));
            return Err(error.with_hint(Hint::BadEntries));
        }
        self.notes.extend(self.bad.iter().map(|e| format!("left out: {}", e.chain())));
        if !self.ignored.is_empty() {
            let kinds: Vec<String> = self.ignored.iter().map(|(what, n)| format!("{n} × {what}")).collect();
            self.notes.push(format!("ignored, because they are not shapes: {}", kinds.join(", ")));
        }
        Ok(self.notes)
    }
}

/// Exports the labels of the pictures below `images` for another tool.
///
/// # Errors
/// [`ErrorKind::Usage`] when there are no labels, or the target exists without `overwrite`; as
/// [`LabelFile::open`], [`Frame::header`] and [`LabelFile::mask`]; when writing fails.
pub fn export(to: &Place, images: &Path, labels: &Path, overwrite: bool) -> Result<Summary> {
    let file = LabelFile::open(labels)?;
    let shelf = Shelf::new(images, &file)?;
    let mut notes = Vec::new();
    let (mut whole, mut elsewhere) = (Vec::new(), 0);
    for (real, image, label) in file.iter() {
        let Some(found) = shelf.by_real(real) else {
            if elsewhere == 0 {
                notes.push(format!("left out: {image} is not below {}", images.display()));
            }
            elsewhere += 1;
            continue;
        };
        let (width, height, _) = Frame::header(&found.path)?;
        let mask = file.mask(label, (width, height))?;
        whole.push(Labeled { name: &found.name, size: (width, height), label, mask });
    }
    if elsewhere > 1 {
        notes.push(format!("left out: {} more for the same reason", elsewhere - 1));
    }
    if whole.is_empty() {
        let text = format!("has no labels of pictures below {}", images.display());
        return Err(Error::new(ErrorKind::Usage, text).within(labels.display()));
    }
    if to.format != Format::Masks && to.path.exists() && !overwrite {
        let error = Error::new(ErrorKind::Usage, "exists");
        return Err(error.within(to.path.display()).with_hint(Hint::Exists));
    }
    match to.format {
        Format::Coco => write_json(&to.path, &coco::write(&whole, &mut notes))?,
        Format::LabelStudio => write_json(&to.path, &label_studio::write(&whole, &mut notes))?,
        Format::Cvat => {
            return Err(wrong("CVAT's XML can only be imported: export to coco:FILE, which CVAT reads"));
        }
        Format::Masks => masks::write(&to.path, &whole, &shelf, overwrite, &mut notes)?,
    }
    Ok(Summary { pictures: whole.len(), notes })
}

fn json_from_text(text: &str) -> Result<Value> {
    // Python writes NaN and Infinity, which JSON does not have.
    let read =
        serde_json::from_str(text).or_else(|e| serde_json::from_str(&without_nan(text)).map_err(|_| e));
    read.map_err(|e| Error::new(ErrorKind::Usage, "is not JSON").with_source(e))
}

/// JSON with `null` instead of `NaN`, `Infinity` and `-Infinity`.
fn without_nan(text: &str) -> String {
    let (mut made, mut rest, mut in_text) = (String::with_capacity(text.len()), text, false);
    while let Some(c) = rest.chars().next() {
        let word =
            ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| !in_text && rest.starts_with(word));
        let taken = match (word, c) {
            (Some(word), _) => word.len(),
            // An escaped quote does not end a text.
            (None, '\\') => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => c.len_utf8(),
        };
        in_text ^= c == '"';
        made.push_str(word.map_or(&rest[..taken], |_| "null"));
        rest = &rest[taken..];
    }
    made
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::new(ErrorKind::Usage, "cannot be written as JSON").with_source(e))?;
    bytes.push(b'\n');
    files::write_file(path, &bytes)
}

/// A picture with its label, for the export.
struct Labeled<'a> {
    name: &'a str,
    size: (u32, u32),
    label: &'a Label,
    mask: Option<Mask>,
}

impl Labeled<'_> {
    /// Name of its defects.
    fn kind(&self) -> &str {
        match self.label.tag {
            Tag::Good => "good",
            Tag::Defective if self.is_only_tagged() => "defective",
            Tag::Defective => self.label.kind.as_deref().unwrap_or("defective"),
        }
    }

    fn is_only_tagged(&self) -> bool {
        self.label.boxes.is_empty() && self.label.rotated.is_empty() && self.mask.is_none()
    }
}

/// Notes types of pictures without shapes: the formats cannot hold them.
fn note_types(labeled: &[Labeled], notes: &mut Vec<String>) {
    let count = labeled.iter().filter(|l| l.is_only_tagged() && l.label.kind.is_some()).count();
    if count > 0 {
        notes.push(format!("left out: the type of {count} pictures without shapes; draw their defects"));
    }
}

/// The pictures of a folder.
struct Shelf {
    folder: PathBuf,
    all: Vec<Found>,
    names: HashMap<String, usize>,
    /// By file name.
    files: HashMap<String, Vec<usize>>,
    reals: HashMap<PathBuf, usize>,
}

/// A name with accents composed. macOS decomposes them in file names.
fn composed(name: &str) -> String {
    name.nfc().map(|(c, _)| c).collect()
}

/// The folders of a name, then the file.
fn parts(name: &str) -> Vec<String> {
    composed(name)
        .split(['/', '\\'])
        .filter(|part| !matches!(*part, "" | "." | ".."))
        .map(str::to_owned)
        .collect()
}

impl Shelf {
    fn new(images: &Path, file: &LabelFile) -> Result<Shelf> {
        let folder = std::fs::canonicalize(images).unwrap_or_else(|_| images.to_path_buf());
        let (all, _) = pictures::find(&folder, &file.not_pictures()).map_err(|e| e.with_key("images"))?;
        let names = all.iter().enumerate().map(|(i, f)| (f.name.clone(), i)).collect();
        let reals = all.iter().enumerate().map(|(i, f)| (f.real.clone(), i)).collect();
        let mut files: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, found) in all.iter().enumerate() {
            files.entry(parts(&found.name).pop().unwrap_or_default()).or_default().push(i);
        }
        Ok(Shelf { folder: images.to_path_buf(), all, names, files, reals })
    }

    fn by_real(&self, real: &Path) -> Option<&Found> {
        self.reals.get(real).map(|&i| &self.all[i])
    }

    /// The picture with one of several spellings of a name.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is no such picture, or several.
    fn find(&self, names: &[String]) -> Result<&Found> {
        let mut found: Vec<usize> = names.iter().flat_map(|name| self.named(name)).collect();
        found.sort();
        found.dedup();
        let name = names.first().map_or("", String::as_str);
        match found[..] {
            [] => Err(wrong(format!(
                "there is no picture {name} below {}: correct the folder, or add the picture",
                self.folder.display()
            ))),
            [one] => Ok(&self.all[one]),
            _ => {
                let all: Vec<&str> = found.iter().map(|&i| self.all[i].name.as_str()).collect();
                Err(wrong(format!("{name} may be {}: rename all but one, or move them", all.join(" or "))))
            }
        }
    }

    /// The pictures that share most trailing folders with `name`: other tools start at a higher or lower
    /// folder. A picture with exactly this name is the only one.
    fn named(&self, name: &str) -> Vec<usize> {
        if let Some(&exact) = self.names.get(name) {
            return vec![exact];
        }
        let wanted = parts(name);
        let same_file = wanted.last().and_then(|file| self.files.get(file));
        let fits = |i: usize| {
            let own = parts(&self.all[i].name);
            let shared = own.iter().rev().zip(wanted.iter().rev()).take_while(|(a, b)| a == b).count();
            (shared == own.len().min(wanted.len())).then_some((shared, own.len() == wanted.len(), i))
        };
        let mut fitting: Vec<_> = same_file.into_iter().flatten().filter_map(|&i| fits(i)).collect();
        let best = fitting.iter().map(|&(shared, whole, _)| (shared, whole)).max();
        fitting.retain(|&(shared, whole, _)| Some((shared, whole)) == best);
        fitting.into_iter().map(|(_, _, i)| i).collect()
    }
}

fn wrong(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, text)
}

/// The collected label of one picture. `marked` means that a person marked or tagged it.
#[derive(Debug, Clone)]
struct Collected {
    found: Found,
    size: (u32, u32),
    names: Vec<String>,
    boxes: Vec<Box>,
    rotated: Vec<Rotated>,
    bits: Option<Vec<bool>>,
    seconds: Option<f64>,
    /// Choices other than good and defective.
    choices: Vec<String>,
    marked: bool,
    /// Whether one of its shapes is invalid.
    spoiled: bool,
}

impl Collected {
    /// An empty label. `size` is the picture's size in the other tool's file, if it is there.
    fn new(found: &Found, size: Option<(u32, u32)>) -> Result<Collected> {
        let (width, height, _) = Frame::header(&found.path)?;
        if let Some((w, h)) = size
            && (w, h) != (width, height)
        {
            return Err(wrong(format!(
                "{} was labeled with {w}×{h} pixels, but has {width}×{height}: use the labeled pictures",
                found.name
            )));
        }
        Ok(Collected {
            found: found.clone(),
            size: (width, height),
            names: Vec::new(),
            boxes: Vec::new(),
            rotated: Vec::new(),
            bits: None,
            seconds: None,
            choices: Vec::new(),
            marked: false,
            spoiled: false,
        })
    }

    fn has_shapes(&self) -> bool {
        !self.boxes.is_empty() || !self.rotated.is_empty() || self.bits.is_some()
    }

    /// Whether it is certainly defective.
    fn is_told(&self) -> bool {
        self.has_shapes() || self.names.iter().any(|name| name.trim().to_lowercase() == "defective")
    }

    /// Notes an invalid shape.
    fn spoil(&mut self, error: Error, log: &mut Log) {
        self.spoiled = true;
        log.bad.push(error);
    }

    fn name(&mut self, name: &str) {
        if !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_owned());
        }
    }

    /// Adds a box, rotated about a point.
    fn boxed(&mut self, [left, top, width, height]: [f64; 4], degrees: f64, about: Point) -> Result<()> {
        let shape = [left, top, left + width, top + height];
        if degrees % 360.0 == 0.0 {
            self.boxes.push(clipped_box(&shape, self.size)?);
            return Ok(());
        }
        let points = turned(&corners(shape), about, degrees);
        let points: Rotated = std::array::from_fn(|i| points[i]);
        self.rotated.push(placed_rotated(&points, self.size)?);
        Ok(())
    }

    fn polygon(&mut self, points: &[Point]) -> Result<()> {
        if let Ok(four) = Rotated::try_from(points)
            && is_convex(&four)
        {
            self.rotated.push(placed_rotated(&four, self.size)?);
            return Ok(());
        }
        let out = |v: f64, side: u32| v <= -1.0 || v >= f64::from(side) + 1.0;
        if points.iter().any(|p| out(p[0], self.size.0) || out(p[1], self.size.1)) {
            return Err(wrong(format!(
                "the shape reaches outside of the picture, which is {}×{}: does it belong to this picture?",
                self.size.0, self.size.1
            )));
        }
        self.paint(filled(points, self.size))
    }

    /// Adds an ellipse (center and radii), rotated about its center.
    fn ellipse(&mut self, [x, y, rx, ry]: [f64; 4], degrees: f64) -> Result<()> {
        let points: Vec<Point> = (0..64)
            .map(|i| f64::from(i) * std::f64::consts::TAU / 64.0)
            .map(|angle| [x + rx * angle.cos(), y + ry * angle.sin()])
            .collect();
        self.polygon(&turned(&points, [x, y], degrees))
    }

    fn paint(&mut self, bits: Vec<bool>) -> Result<()> {
        if !bits.contains(&true) {
            return Err(wrong("the shape covers no pixel: remove it or draw it again"));
        }
        match &mut self.bits {
            Some(old) => old.iter_mut().zip(bits).for_each(|(old, new)| *old |= new),
            none => *none = Some(bits),
        }
        Ok(())
    }

    fn drawn(self, log: &mut Log) -> Result<Drawn> {
        let shapes = self.has_shapes();
        let mut names: Vec<String> = Vec::new();
        for name in self.names.iter().map(|name| name.trim()) {
            if !names.iter().any(|known| known.to_lowercase() == name.to_lowercase()) {
                names.push(name.to_owned());
            }
        }
        let is = |name: &str, wanted: &str| name.to_lowercase() == wanted;
        let good = names.iter().any(|name| is(name, "good"));
        let defective = names.iter().any(|name| is(name, "defective"));
        if good && (shapes || names.len() > 1) {
            return Err(wrong(format!(
                "{} is tagged good but has defects: remove the tag or the defects",
                self.found.name
            )));
        }
        let mut kinds: Vec<String> =
            names.into_iter().filter(|name| !is(name, "good") && !is(name, "defective")).collect();
        if kinds.is_empty() && (shapes || !(good || defective)) {
            kinds = self.choices;
        } else {
            self.choices.iter().for_each(|choice| log.ignore(&format!("choice {choice:?}")));
        }
        let kind = (!kinds.is_empty()).then(|| kinds.join("+"));
        if let Some(kind) = kind.as_deref().filter(|_| !shapes) {
            return Err(wrong(format!(
                "{}: unknown tag {kind:?}: tag pictures good or defective, or draw the defects",
                self.found.name
            )));
        }
        let mask = self.bits.map(|bits| Mask::new(self.size.0, self.size.1, bits)).transpose()?;
        // A marked picture without shape and tag has no defect.
        let tag = if shapes || defective { Tag::Defective } else { Tag::Good };
        let Collected { boxes, rotated, seconds, .. } = self;
        Ok(Drawn { tag, boxes, rotated, mask, kind, seconds, leave_out: None })
    }
}

/// The list at a key, each entry with its place.
fn list<'a>(data: &'a Value, key: &str, place: &str) -> Result<Vec<(String, &'a Value)>> {
    let list = if key.is_empty() { data.as_array() } else { data.get(key).and_then(Value::as_array) };
    let path = if key.is_empty() { place.to_owned() } else { format!("{place}.{key}") };
    let list =
        list.ok_or_else(|| wrong(format!("{path} must be a list: is the file in the given format?")))?;
    Ok(list.iter().enumerate().map(|(i, value)| (format!("{path}[{i}]"), value)).collect())
}

fn text<'a>(data: &'a Value, key: &str, place: &str) -> Result<&'a str> {
    data.get(key)
        .and_then(Value::as_str)
        .filter(|text| !text.trim().is_empty())
        .ok_or_else(|| wrong(format!("{place}.{key} must be a text, not empty: export again")))
}

fn number(value: Option<&Value>, place: &str) -> Result<f64> {
    let number = value.and_then(Value::as_f64).filter(|v| is_number(*v));
    number.ok_or_else(|| wrong(format!("{place} must be a number: export again")))
}

fn numbers<const N: usize>(value: Option<&Value>, place: &str) -> Result<[f64; N]> {
    let list = value.and_then(Value::as_array).filter(|list| list.len() == N);
    let list = list.ok_or_else(|| wrong(format!("{place} must be {N} numbers in a list: export again")))?;
    let mut found = [0.0; N];
    for (found, value) in found.iter_mut().zip(list) {
        *found = number(Some(value), place)?;
    }
    Ok(found)
}

/// An id, a number or a text: 1, 1.0 and "1" are the same.
fn id(entry: &Value, key: &str) -> Option<String> {
    let text = match entry.get(key)? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    let is_whole =
        !whole.is_empty() && whole.bytes().all(|b| b.is_ascii_digit()) && rest.bytes().all(|b| b == b'0');
    match is_whole {
        true => Some(format!("{sign}{:0>1}", whole.trim_start_matches('0'))),
        false => Some(text),
    }
}

fn side(value: Option<&Value>, place: &str) -> Result<u32> {
    // Some tools write every number with a fraction.
    let side = value.and_then(Value::as_f64).filter(|v| v.fract() == 0.0 && (0.0..1e9).contains(v));
    side.map(|v| v as u32).ok_or_else(|| wrong(format!("{place} must be a number of pixels: export again")))
}
