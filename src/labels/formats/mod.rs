//! Labels of other tools: import and export of COCO JSON, Label Studio JSON and mask files in MVTec layout;
//! import of CVAT's XML.
//!
//! - Upright and rotated boxes stay boxes. Polygons with four convex corners become rotated boxes; others
//!   stay polygons.
//! - Ellipses and painted masks become one mask of each type.
//! - Label names become the type of their defect, except *good* and *defective*: they are the tag.
//! - Comments, ratings and relations are ignored, with a note.
//! - Invalid entries stop the import, unless the caller skips them.

mod coco;
mod cvat;
mod label_studio;
mod masks;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_normalization_alignments::UnicodeNormalization;
use utoipa::{IntoParams, ToSchema};

use super::file::{Drawn, Entry, Form, LabelFile, Shape, Tag};
use super::lock::Lock;
use super::pictures::{self, Found};
use super::shapes::{
    MOST_CORNERS, Point, Rotated, clipped_box, clipped_polygon, corners, is_convex, is_number,
    placed_rotated, turned,
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

impl Format {
    /// The format of a file's text, by its beginning.
    pub fn of(text: &str) -> Format {
        match text.trim_start().chars().next() {
            Some('<') => Format::Cvat,
            Some('[') => Format::LabelStudio,
            _ => Format::Coco,
        }
    }
}

impl FromStr for Format {
    type Err = ();

    fn from_str(name: &str) -> std::result::Result<Self, ()> {
        match name {
            "coco" => Ok(Format::Coco),
            "label-studio" => Ok(Format::LabelStudio),
            "cvat" => Ok(Format::Cvat),
            "masks" => Ok(Format::Masks),
            _ => Err(()),
        }
    }
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
        let format = format.parse().map_err(|()| wrong())?;
        if path.is_empty() {
            return Err(wrong());
        }
        Ok(Place { format, path: path.into() })
    }
}

/// The result of an import or export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Summary {
    /// Number of pictures.
    pub pictures: usize,
    /// Notes for people on what was left out.
    pub notes: Vec<String>,
}

/// Options of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
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
    let source = match from.format {
        Format::Masks => Source::Masks(&from.path),
        format => Source::Text(format, &files::read_text(&from.path)?),
    };
    let (drawn, notes) = read(source, &shelf, how).map_err(|e| e.within(from.path.display()))?;
    let _lock = Lock::take(LabelFile::open(labels)?.path())?;
    put(&mut LabelFile::open(labels)?, drawn, notes, how)
}

/// Imports another tool's labels of the pictures below `images` from the text of a file into a label file that
/// is locked already. Its beginning says which format it has.
///
/// # Errors
/// As [`import`].
pub(crate) fn import_text(text: &str, images: &Path, file: &mut LabelFile, how: Import) -> Result<Summary> {
    let (drawn, notes) = read(Source::Text(Format::of(text), text), &Shelf::new(images, file)?, how)?;
    put(file, drawn, notes, how)
}

/// Where another tool's labels come from.
enum Source<'a> {
    Text(Format, &'a str),
    Masks(&'a Path),
}

/// Pictures with their labels.
type Read = Vec<(Found, Drawn)>;

/// The labels of a source, with notes.
fn read(source: Source, shelf: &Shelf, how: Import) -> Result<(Read, Vec<String>)> {
    let mut log = Log::default();
    let read: Vec<Collected> = match source {
        Source::Masks(folder) => masks::read(folder, shelf, &mut log)?,
        Source::Text(Format::Cvat, text) => cvat::read(text, shelf, &mut log)?,
        Source::Text(Format::LabelStudio, text) => {
            label_studio::read(&json_from_text(text)?, shelf, &mut log)?
        }
        Source::Text(_, text) => coco::read(&json_from_text(text)?, shelf, &mut log)?,
    };
    let unclear: Vec<String> =
        read.iter().filter(|c| c.spoiled && !c.is_told()).map(|c| c.found.name.clone()).collect();
    let marked: Vec<Collected> =
        read.into_iter().filter(|c| (c.marked || how.unmarked_good) && (!c.spoiled || c.is_told())).collect();
    let drawn: Read = marked
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
    let mut notes = log.finish(how.skip_bad)?;
    if !unclear.is_empty() {
        notes.push(format!("left out, because none of their shapes is valid: {}", unclear.join(", ")));
    }
    if drawn.is_empty() {
        let mut text = "has no marked picture; tag pictures or draw defects".to_owned();
        notes.iter().for_each(|note| text.push_str(&format!("\n  {note}")));
        return Err(Error::new(ErrorKind::Usage, text).with_hint(Hint::NothingMarked));
    }
    Ok((drawn, notes))
}

/// Saves what was read.
fn put(file: &mut LabelFile, drawn: Read, notes: Vec<String>, how: Import) -> Result<Summary> {
    if !how.overwrite
        && let Some((found, _)) = drawn.iter().find(|(found, _)| file.label(&found.real).is_some())
    {
        let error = Error::new(ErrorKind::Usage, format!("{} has a label already", found.name));
        return Err(error.within(file.path().display()).with_hint(Hint::Exists));
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
    let (whole, mut notes) = labeled(&file, &shelf)?;
    if to.format != Format::Masks && to.path.exists() && !overwrite {
        let error = Error::new(ErrorKind::Usage, "exists");
        return Err(error.within(to.path.display()).with_hint(Hint::Exists));
    }
    match to.format {
        Format::Masks => masks::write(&to.path, &whole, &shelf, overwrite, &mut notes)?,
        format => files::write_file(&to.path, text_of(format, &whole, &mut notes)?.as_bytes())?,
    }
    Ok(Summary { pictures: whole.len(), notes })
}

/// The text of a file with the labels of the pictures below `images` for another tool. Masks are no text.
///
/// # Errors
/// As [`export`].
pub(crate) fn export_text(format: Format, images: &Path, file: &LabelFile) -> Result<(String, Summary)> {
    let shelf = Shelf::new(images, file)?;
    let (whole, mut notes) = labeled(file, &shelf)?;
    let text = text_of(format, &whole, &mut notes)?;
    Ok((text, Summary { pictures: whole.len(), notes }))
}

/// The labels of a folder's pictures, with notes.
fn labeled<'a>(file: &'a LabelFile, shelf: &'a Shelf) -> Result<(Vec<Labeled<'a>>, Vec<String>)> {
    let mut notes = Vec::new();
    let (mut whole, mut elsewhere) = (Vec::new(), 0);
    for (real, image, label) in file.iter() {
        let Some(found) = shelf.by_real(real) else {
            if elsewhere == 0 {
                notes.push(format!("left out: {image} is not below {}", shelf.folder.display()));
            }
            elsewhere += 1;
            continue;
        };
        let (width, height, _) = Frame::header(&found.path)?;
        let size = (width, height);
        whole.push(Labeled { name: &found.name, size, label: file.load(label, size)? });
    }
    if elsewhere > 1 {
        notes.push(format!("left out: {} more for the same reason", elsewhere - 1));
    }
    if whole.is_empty() {
        let text = format!("has no labels of pictures below {}", shelf.folder.display());
        return Err(Error::new(ErrorKind::Usage, text).within(file.path().display()));
    }
    Ok((whole, notes))
}

fn text_of(format: Format, whole: &[Labeled], notes: &mut Vec<String>) -> Result<String> {
    let value = match format {
        Format::Coco => coco::write(whole, notes),
        Format::LabelStudio => label_studio::write(whole, notes),
        Format::Cvat => {
            return Err(wrong("CVAT's XML can only be imported: export to coco:FILE, which CVAT reads"));
        }
        Format::Masks => return Err(wrong("masks are a folder, not a file: export to masks:DIR")),
    };
    let text = serde_json::to_string_pretty(&value)
        .map_err(|e| Error::new(ErrorKind::Usage, "cannot be written as JSON").with_source(e))?;
    Ok(text + "\n")
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

/// A picture with its label, for the export.
struct Labeled<'a> {
    name: &'a str,
    size: (u32, u32),
    label: Drawn,
}

/// The name of a defect of an unknown type.
const UNKNOWN: &str = "defective";

impl Labeled<'_> {
    fn is_only_tagged(&self) -> bool {
        self.label.shapes.is_empty()
    }
}

/// Notes types of pictures without shapes: the formats cannot hold them.
fn note_types(labeled: &[Labeled], notes: &mut Vec<String>) {
    let count = labeled.iter().filter(|l| l.label.kind.is_some()).count();
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
    /// Tags of the picture.
    tags: Vec<String>,
    shapes: Vec<Shape<Vec<bool>>>,
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
            tags: Vec::new(),
            shapes: Vec::new(),
            seconds: None,
            choices: Vec::new(),
            marked: false,
            spoiled: false,
        })
    }

    /// Whether it is certainly defective.
    fn is_told(&self) -> bool {
        !self.shapes.is_empty() || self.tags.iter().any(|tag| is_word(tag, "defective"))
    }

    /// Notes an invalid shape.
    fn spoil(&mut self, error: Error, log: &mut Log) {
        self.spoiled = true;
        log.bad.push(error);
    }

    /// Names these shapes, or tags the picture if there are none.
    fn name(&mut self, shapes: Range<usize>, name: &str) {
        if shapes.is_empty() {
            self.tags.push(name.to_owned());
        }
        for shape in &mut self.shapes[shapes] {
            shape.kind = Some(match &shape.kind {
                Some(known) => format!("{known}+{name}"),
                None => name.to_owned(),
            });
        }
    }

    fn add(&mut self, form: Form<Vec<bool>>) {
        self.shapes.push(Shape { form, kind: None });
    }

    /// Adds a box, rotated about a point.
    fn boxed(&mut self, [left, top, width, height]: [f64; 4], degrees: f64, about: Point) -> Result<()> {
        let shape = [left, top, left + width, top + height];
        if degrees % 360.0 == 0.0 {
            self.add(Form::Box(clipped_box(&shape, self.size)?));
            return Ok(());
        }
        let points = turned(&corners(shape), about, degrees);
        let points: Rotated = std::array::from_fn(|i| points[i]);
        self.add(Form::Rotated(placed_rotated(&points, self.size)?));
        Ok(())
    }

    fn polygon(&mut self, points: &[Point]) -> Result<()> {
        if let Ok(four) = Rotated::try_from(points)
            && is_convex(&four)
        {
            self.add(Form::Rotated(placed_rotated(&four, self.size)?));
            return Ok(());
        }
        let placed = clipped_polygon(points, self.size)?;
        self.add(match placed.len() <= MOST_CORNERS {
            true => Form::Polygon(placed),
            false => Form::Mask(filled(&placed, self.size)),
        });
        Ok(())
    }

    /// Adds an ellipse (center and radii), rotated about its center.
    fn ellipse(&mut self, [x, y, rx, ry]: [f64; 4], degrees: f64) -> Result<()> {
        let points: Vec<Point> = (0..64)
            .map(|i| f64::from(i) * std::f64::consts::TAU / 64.0)
            .map(|angle| [x + rx * angle.cos(), y + ry * angle.sin()])
            .collect();
        let placed = clipped_polygon(&turned(&points, [x, y], degrees), self.size)?;
        self.paint(filled(&placed, self.size))
    }

    fn paint(&mut self, bits: Vec<bool>) -> Result<()> {
        if !bits.contains(&true) {
            return Err(wrong("the shape covers no pixel: remove it or draw it again"));
        }
        self.add(Form::Mask(bits));
        Ok(())
    }

    fn drawn(self, log: &mut Log) -> Result<Drawn> {
        // Names that differ only in case are one.
        let mut known: Vec<String> = Vec::new();
        let mut spelled = |name: &str| {
            let name = name.trim();
            let old = known.iter().find(|old| old.to_lowercase() == name.to_lowercase()).cloned();
            old.unwrap_or_else(|| {
                known.push(name.to_owned());
                name.to_owned()
            })
        };
        let mut shapes: Vec<Shape<Vec<bool>>> = Vec::new();
        for Shape { form, kind } in self.shapes {
            let kind = kind.map(|kind| spelled(&kind));
            // One mask of each type.
            let same = |old: &&mut Shape<Vec<bool>>| old.kind == kind && matches!(old.form, Form::Mask(_));
            match (form, shapes.iter_mut().find(same).map(|old| &mut old.form)) {
                (Form::Mask(bits), Some(Form::Mask(old))) => {
                    old.iter_mut().zip(bits).for_each(|(old, new)| *old |= new);
                }
                (form, _) => shapes.push(Shape { form, kind }),
            }
        }
        let tags: Vec<String> = self.tags.iter().map(|tag| spelled(tag)).collect();
        let is = |wanted: &str| known.iter().any(|name| is_word(name, wanted));
        let (good, defective) = (is("good"), is("defective"));
        if good && (!shapes.is_empty() || known.len() > 1) {
            return Err(wrong(format!(
                "{} is tagged good but has defects: remove the tag or the defects",
                self.found.name
            )));
        }
        let mut kinds: Vec<String> =
            tags.into_iter().filter(|tag| !is_word(tag, "good") && !is_word(tag, "defective")).collect();
        for shape in &mut shapes {
            shape.kind = shape.kind.take().filter(|kind| !is_word(kind, "defective"));
        }
        // A choice is the type of shapes without one.
        let typed = shapes.iter().any(|shape| shape.kind.is_some());
        if kinds.is_empty() && !typed && (!shapes.is_empty() || !(good || defective)) {
            kinds = self.choices;
        } else {
            self.choices.iter().for_each(|choice| log.ignore(&format!("choice {choice:?}")));
        }
        let kind = (!kinds.is_empty()).then(|| kinds.join("+"));
        if let Some(kind) = kind.as_deref().filter(|_| shapes.is_empty()) {
            return Err(wrong(format!(
                "{}: unknown tag {kind:?}: tag pictures good or defective, or draw the defects",
                self.found.name
            )));
        }
        // A marked picture without shape and tag has no defect.
        let tag = if !shapes.is_empty() || defective { Tag::Defective } else { Tag::Good };
        let shapes = shapes.into_iter().map(|shape| {
            let shape = shape.with_mask(|bits| Mask::new(self.size.0, self.size.1, bits))?;
            Ok(Shape { kind: shape.kind.or_else(|| kind.clone()), ..shape })
        });
        let shapes = shapes.collect::<Result<Vec<_>>>()?;
        Ok(Drawn { tag, shapes, kind: None, seconds: self.seconds, leave_out: None })
    }
}

fn is_word(name: &str, wanted: &str) -> bool {
    name.trim().to_lowercase() == wanted
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
