//! The label file: JSON Lines, one picture per line. The labeler writes it and training reads it.
//!
//! ```json
//! {"image": "crack/000.png", "defects": [{"box": [10, 20, 50, 60]}], "type": "crack", "seconds": 5.5}
//! {"image": "crack/001.png", "defects": [{"rotated": [[9, 20], [50, 12], [52, 24], [11, 32]]}]}
//! {"image": "crack/002.png", "defects": [{"mask": "parts.masks/crack/002.png"}]}
//! {"image": "crack/004.png", "defects": [{"polygon": [[9, 20], [50, 12], [30, 32]], "type": "dent"}]}
//! {"image": "crack/003.png", "tag": "defective"}
//! {"image": "ok/001.png", "tag": "good"}
//! ```
//!
//! Paths are relative to the file's folder. Coordinates are pixel edges of the picture as a viewer shows it.
//! Painted masks are in the folder `NAME.masks` beside `NAME.jsonl`. The type of a line is that of its defects
//! without one of their own.
//!
//! A save writes new masks under unused names first, then replaces the whole file. When the process ends
//! during a save, the file is the old one or the new one. Unchanged lines keep their exact text.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tempfile::NamedTempFile;
use utoipa::ToSchema;

use super::shapes::{Box, Rotated, check_box, check_polygon, check_rotated, is_number, rounded};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::imaging::{Mask, MaskRule, Polygon, filled, png_from_mask};

/// Good or defective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tag {
    /// No defect.
    Good,
    /// At least one defect, at a known or unknown place.
    Defective,
}

/// A file that marks the defective pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskFile {
    /// Path of the file, as in the label file.
    pub path: String,
    /// How its values are read.
    pub rule: MaskRule,
}

/// Where a defect is. Coordinates are pixel edges.
#[derive(Debug, Clone, PartialEq)]
pub enum Form<M = MaskFile> {
    /// An upright box.
    Box(Box),
    /// A rotated box.
    Rotated(Rotated),
    /// Corners in their order; pixels with their centers inside are defective (even-odd rule).
    Polygon(Polygon),
    /// Single pixels.
    Mask(M),
}

/// A shape of a defect.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape<M = MaskFile> {
    /// Where it is.
    pub form: Form<M>,
    /// Type of the defect, if known.
    pub kind: Option<String>,
}

impl<M> Shape<M> {
    /// The shape with its mask, if it is one, made into another.
    pub(super) fn with_mask<N, E>(
        self,
        make: impl FnOnce(M) -> std::result::Result<N, E>,
    ) -> std::result::Result<Shape<N>, E> {
        let form = match self.form {
            Form::Box(shape) => Form::Box(shape),
            Form::Rotated(shape) => Form::Rotated(shape),
            Form::Polygon(shape) => Form::Polygon(shape),
            Form::Mask(mask) => Form::Mask(make(mask)?),
        };
        Ok(Shape { form, kind: self.kind })
    }
}

/// The label of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Label<M = MaskFile> {
    /// Good or defective.
    pub tag: Tag,
    /// Where its defects are.
    pub shapes: Vec<Shape<M>>,
    /// Type of a defect without a shape, if known.
    pub kind: Option<String>,
    /// Labeling time in seconds, if known.
    pub seconds: Option<f64>,
    /// The enrolled picture from which this synthetic picture was made.
    pub leave_out: Option<String>,
}

/// A label whose masks are in memory.
pub type Drawn = Label<Mask>;

impl<M> Label<M> {
    /// The types of its defects, in their order.
    pub fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = Vec::new();
        for kind in self.shapes.iter().map(|shape| &shape.kind).chain([&self.kind]).flatten() {
            if !kinds.contains(&kind.as_str()) {
                kinds.push(kind);
            }
        }
        kinds
    }

    /// The types of its defects in one word, if known.
    pub fn kind(&self) -> Option<String> {
        let kinds = self.kinds();
        (!kinds.is_empty()).then(|| kinds.join("+"))
    }
}

impl Label {
    /// The files of its masks.
    fn files(&self) -> impl Iterator<Item = &MaskFile> {
        self.shapes.iter().filter_map(|shape| match &shape.form {
            Form::Mask(file) => Some(file),
            _ => None,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadLine {
    image: String,
    #[serde(default, deserialize_with = "given")]
    tag: Option<Tag>,
    #[serde(default)]
    defects: Vec<ReadShape>,
    #[serde(default, deserialize_with = "given")]
    r#type: Option<String>,
    #[serde(default, deserialize_with = "given")]
    seconds: Option<f64>,
    #[serde(default, deserialize_with = "given")]
    leave_out: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadShape {
    #[serde(default, deserialize_with = "given")]
    r#box: Option<Box>,
    #[serde(default, deserialize_with = "given")]
    rotated: Option<Rotated>,
    #[serde(default, deserialize_with = "given")]
    polygon: Option<Polygon>,
    #[serde(default, deserialize_with = "given")]
    mask: Option<String>,
    #[serde(default, deserialize_with = "given")]
    rule: Option<ReadRule>,
    #[serde(default, deserialize_with = "given")]
    r#type: Option<String>,
}

/// The value of a key that is there: not `null`.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> std::result::Result<Option<T>, D::Error> {
    match Option::deserialize(value)? {
        None => Err(D::Error::custom("null is no value: write one, or remove its key")),
        some => Ok(some),
    }
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum ReadRule {
    AboveHalf,
    NonZero,
}

impl ReadLine {
    fn label(self) -> Result<(String, Label)> {
        let wrong = |text: &str| Err(Error::new(ErrorKind::Usage, text));
        let is_text = |text: &str| !text.is_empty() && !text.contains('\0');
        let types = self.defects.iter().map(|shape| shape.r#type.as_ref());
        let texts = [Some(&self.image), self.r#type.as_ref(), self.leave_out.as_ref()];
        if !texts.into_iter().chain(types).flatten().all(|t| is_text(t)) {
            return wrong("image, type and leave_out must be texts, not empty");
        }
        let mut shapes = Vec::new();
        for ReadShape { r#box, rotated, polygon, mask, rule, r#type } in self.defects {
            let form = match (r#box, rotated, polygon, mask, rule) {
                (Some(shape), None, None, None, None) => {
                    check_box(&shape)?;
                    Form::Box(shape)
                }
                (None, Some(shape), None, None, None) => {
                    check_rotated(&shape)?;
                    Form::Rotated(shape)
                }
                (None, None, Some(shape), None, None) => {
                    check_polygon(&shape)?;
                    Form::Polygon(shape)
                }
                (None, None, None, Some(path), rule) if is_text(&path) => {
                    let rule = match rule {
                        Some(ReadRule::NonZero) => MaskRule::NonZero,
                        _ => MaskRule::AboveHalf,
                    };
                    Form::Mask(MaskFile { path, rule })
                }
                _ => {
                    return wrong(
                        "a defect must be an object with one of box, rotated, polygon or mask; only a mask has a rule",
                    );
                }
            };
            shapes.push(Shape { form, kind: r#type.or_else(|| self.r#type.clone()) });
        }
        let tag = match (self.tag, !shapes.is_empty()) {
            (Some(Tag::Good), true) => {
                return wrong("a good picture has no defects: remove them or the tag");
            }
            (Some(tag), _) => tag,
            (None, true) => Tag::Defective,
            (None, false) => return wrong(r#"write "tag": "good" or "defective", or list defects"#),
        };
        if self.seconds.is_some_and(|s| !is_number(s) || s < 0.0) {
            return wrong("seconds must be a number, not negative");
        }
        let kind = self.r#type.filter(|_| shapes.is_empty());
        let Self { seconds, leave_out, .. } = self;
        Ok((self.image, Label { tag, shapes, kind, seconds, leave_out }))
    }
}

/// A number, written without a fraction if it is whole.
struct Number(f64);

impl Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let near = rounded(self.0);
        match near.fract() == 0.0 && near.abs() < 1e15 {
            true => serializer.serialize_i64(near as i64),
            false => serializer.serialize_f64(near),
        }
    }
}

#[derive(Serialize)]
struct WrittenShape<'a> {
    #[serde(flatten)]
    form: WrittenForm<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WrittenForm<'a> {
    Box {
        r#box: [Number; 4],
    },
    Rotated {
        rotated: [[Number; 2]; 4],
    },
    Polygon {
        polygon: Vec<[Number; 2]>,
    },
    Mask {
        mask: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        rule: Option<ReadRule>,
    },
}

#[derive(Serialize)]
struct WrittenLine<'a> {
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<Tag>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    defects: Vec<WrittenShape<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leave_out: Option<&'a str>,
}

/// Spaces after commas and colons, the style of Python's files.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

fn text_of_line(image: &str, label: &Label) -> Result<String> {
    // One type of all defects is that of the line, as it was before shapes had their own.
    let one = label.shapes.first().and_then(|first| first.kind.as_deref());
    let common = one.filter(|one| label.shapes.iter().all(|shape| shape.kind.as_deref() == Some(one)));
    let written = |shape| {
        let Shape { form, kind }: &Shape = shape;
        let form = match form {
            Form::Box(b) => WrittenForm::Box { r#box: b.map(Number) },
            Form::Rotated(r) => WrittenForm::Rotated { rotated: r.map(|p| p.map(Number)) },
            Form::Polygon(p) => WrittenForm::Polygon { polygon: p.iter().map(|p| p.map(Number)).collect() },
            Form::Mask(m) => WrittenForm::Mask {
                mask: &m.path,
                rule: (m.rule == MaskRule::NonZero).then_some(ReadRule::NonZero),
            },
        };
        WrittenShape { form, r#type: kind.as_deref().filter(|_| common.is_none()) }
    };
    let defects: Vec<WrittenShape> = label.shapes.iter().map(written).collect();
    let line = WrittenLine {
        image,
        tag: defects.is_empty().then_some(label.tag),
        defects,
        r#type: common.or(label.kind.as_deref()),
        seconds: label.seconds.map(Number),
        leave_out: label.leave_out.as_deref(),
    };
    let mut bytes = Vec::new();
    line.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Spaced))
        .map_err(|e| Error::new(ErrorKind::Usage, "a label cannot be written as JSON").with_source(e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// One line of the file.
#[derive(Debug, Clone)]
struct Line {
    /// The line's text.
    text: String,
    /// The picture's path in the line.
    image: String,
    /// The picture's path, links followed.
    real: PathBuf,
    label: Label,
}

/// A label file in memory.
#[derive(Debug)]
pub struct LabelFile {
    path: PathBuf,
    lines: Vec<Line>,
    /// Index of each picture's line.
    of: HashMap<PathBuf, usize>,
    stamp: Option<Stamp>,
}

/// Size and time of a file. They change with its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    /// Stamp of a file; `None` if there is no file.
    pub fn of(path: &Path) -> Option<Stamp> {
        let metadata = fs::metadata(path).ok()?;
        Some(Stamp { bytes: metadata.len(), modified: metadata.modified().ok() })
    }
}

impl LabelFile {
    /// Reads a label file. A missing file has no labels.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with file and line for an invalid label or a picture in two lines;
    /// [`ErrorKind::Io`] when the file cannot be read.
    pub fn open(path: &Path) -> Result<LabelFile> {
        let usage = |text: &str| Error::new(ErrorKind::Usage, text).within(path.display());
        let folder = files::parent(path);
        let (Some(name), true) = (path.file_name(), folder.is_dir()) else {
            return Err(usage("must be a file in an existing folder"));
        };
        if path.is_dir() {
            return Err(usage("is a folder; give a file, such as labels.jsonl"));
        }
        // Saving replaces the link's target, not the link.
        let path = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(_) => fs::canonicalize(folder).map_err(|e| Error::io("find", folder, e))?.join(name),
        };
        let mut file = LabelFile { path, lines: Vec::new(), of: HashMap::new(), stamp: None };
        file.read()?;
        Ok(file)
    }

    fn read(&mut self) -> Result<()> {
        let stamp = Stamp::of(&self.path);
        let text = match fs::read(&self.path) {
            Ok(bytes) => files::text_from_bytes(bytes).map_err(|e| e.within(self.path.display()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Error::io("read", &self.path, e)),
        };
        let (mut lines, mut of) = (Vec::new(), HashMap::new());
        // Concatenated files have several byte order marks.
        for (number, text) in (1..).zip(text.split('\n').map(|line| line.trim_start_matches('\u{feff}'))) {
            if text.trim().is_empty() {
                continue;
            }
            let within = |e: Error| e.within(format!("{}:{number}", self.path.display()));
            let line: ReadLine = serde_json::from_str(text).map_err(|e| {
                let wrong = r#"not a label such as {"image": "001.png", "tag": "good"}"#;
                within(Error::new(ErrorKind::Usage, wrong).with_source(e))
            })?;
            let (image, label) = line.label().map_err(within)?;
            let real = real(&self.folder().join(&image));
            if of.insert(real.clone(), lines.len()).is_some() {
                let text = format!("{image} is in an earlier line already: list all its defects in one line");
                return Err(within(Error::new(ErrorKind::Usage, text)));
            }
            lines.push(Line { text: text.trim_end_matches('\r').to_owned(), image, real, label });
        }
        (self.lines, self.of, self.stamp) = (lines, of, stamp);
        Ok(())
    }

    /// Absolute path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's folder; paths are relative to it.
    pub fn folder(&self) -> &Path {
        files::parent(&self.path)
    }

    /// The folder of painted masks.
    pub fn masks(&self) -> PathBuf {
        self.path.with_extension("masks")
    }

    /// Masks among the pictures: folders and files that are no pictures to label.
    pub fn not_pictures(&self) -> HashSet<PathBuf> {
        let masks = self.lines.iter().flat_map(|line| line.label.files());
        let masks = masks.map(|mask| real(&self.mask_path(mask)));
        [self.masks(), real(&self.masks())].into_iter().chain(masks).collect()
    }

    /// Real path, path in the line and label of every picture, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &str, &Label)> {
        self.lines.iter().map(|line| (line.real.as_path(), line.image.as_str(), &line.label))
    }

    /// Label of a picture by its real path.
    pub fn label(&self, real: &Path) -> Option<&Label> {
        self.of.get(real).map(|&i| &self.lines[i].label)
    }

    /// Text of a picture's line by its real path.
    pub fn text(&self, real: &Path) -> Option<&str> {
        self.of.get(real).map(|&i| self.lines[i].text.as_str())
    }

    /// Path of a mask's file.
    pub fn mask_path(&self, mask: &MaskFile) -> PathBuf {
        self.folder().join(&mask.path)
    }

    /// A mask of a picture of `width` × `height` pixels.
    ///
    /// # Errors
    /// As [`Mask::open`]; [`ErrorKind::Usage`] when the mask's size differs from the picture's.
    pub fn open_mask(&self, file: &MaskFile, (width, height): (u32, u32)) -> Result<Mask> {
        let path = self.mask_path(file);
        let mask = Mask::open(&path, file.rule)?;
        if (mask.width(), mask.height()) != (width, height) {
            let text = format!(
                "has {}×{} pixels, but its picture {width}×{height}: use a mask of this picture",
                mask.width(),
                mask.height()
            );
            return Err(Error::new(ErrorKind::Usage, text).within(path.display()));
        }
        Ok(mask)
    }

    /// The label with its masks in memory, of a picture of `width` × `height` pixels.
    ///
    /// # Errors
    /// As [`LabelFile::open_mask`].
    pub fn load(&self, label: &Label, size: (u32, u32)) -> Result<Drawn> {
        let load = |shape: Shape| shape.with_mask(|file| self.open_mask(&file, size));
        let shapes = label.shapes.iter().cloned().map(load).collect::<Result<Vec<_>>>()?;
        let Label { tag, kind, seconds, leave_out, .. } = label.clone();
        Ok(Label { tag, shapes, kind, seconds, leave_out })
    }

    /// The union of a label's masks and polygons, in a picture of `width` × `height` pixels, if it has any.
    ///
    /// # Errors
    /// As [`LabelFile::open_mask`].
    pub fn mask(&self, label: &Label, size: (u32, u32)) -> Result<Option<Mask>> {
        let mut union: Option<Vec<bool>> = None;
        for shape in &label.shapes {
            let bits = match &shape.form {
                Form::Polygon(corners) => filled(corners, size),
                Form::Mask(file) => self.open_mask(file, size)?.bits().to_vec(),
                Form::Box(_) | Form::Rotated(_) => continue,
            };
            match &mut union {
                Some(union) => union.iter_mut().zip(bits).for_each(|(a, b)| *a |= b),
                None => union = Some(bits),
            }
        }
        union.map(|bits| Mask::new(size.0, size.1, bits)).transpose()
    }

    /// Reads the file again if another program changed it.
    ///
    /// # Errors
    /// As [`LabelFile::open`].
    pub fn refresh(&mut self) -> Result<()> {
        if Stamp::of(&self.path) != self.stamp {
            self.read()?;
        }
        Ok(())
    }

    /// Saves or removes a picture's label. The file is on disk when this returns, and unchanged when it
    /// fails.
    ///
    /// `picture` is the picture's absolute path for the file, `real` the same with links followed. `name` is
    /// its path below the folder of pictures; its mask gets this name.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFull`] or [`ErrorKind::Io`] when writing fails.
    pub fn save(&mut self, picture: &Path, real: &Path, name: &str, label: Option<Drawn>) -> Result<()> {
        self.save_all(vec![Entry { picture, real, name, label }])
    }

    /// Saves several pictures at once, all or none. See [`LabelFile::save`].
    ///
    /// # Errors
    /// As [`LabelFile::save`].
    pub fn save_all(&mut self, entries: Vec<Entry>) -> Result<()> {
        let mut lines = self.lines.clone();
        let mut masks: Vec<NewMask> = Vec::new();
        let mut taken: HashSet<PathBuf> =
            self.lines.iter().flat_map(|line| line.label.files()).map(|m| self.mask_path(m)).collect();
        let mut removed = HashSet::new();
        for Entry { picture, real, name, label } in entries {
            let at = self.of.get(real).copied().or_else(|| lines.iter().position(|l| l.real == real));
            let Some(drawn) = label else {
                removed.extend(at);
                continue;
            };
            let image = match at {
                Some(at) => lines[at].image.clone(),
                None => self.relative(picture)?,
            };
            let Drawn { tag, shapes, kind, seconds, leave_out } = drawn;
            let old = at.map_or_else(Vec::new, |at| lines[at].label.files().cloned().collect());
            let mut old: Vec<PathBuf> = old.iter().map(|file| self.mask_path(file)).collect();
            let mut save = |mask: Mask| {
                let bytes = png_from_mask(&mask)?;
                let same = old.iter().position(|path| fs::read(path).is_ok_and(|old| old == bytes));
                let path = match same {
                    Some(same) => old.swap_remove(same),
                    None => {
                        let path = self.free_mask(name, &bytes, &taken);
                        masks.push(self.new_mask(&path, &bytes)?);
                        path
                    }
                };
                taken.insert(path.clone());
                Ok(MaskFile { path: self.relative(&path)?, rule: MaskRule::AboveHalf })
            };
            let shapes =
                shapes.into_iter().map(|shape| shape.with_mask(&mut save)).collect::<Result<Vec<_>>>()?;
            let label = Label { tag, shapes, kind, seconds, leave_out };
            let line = Line { text: text_of_line(&image, &label)?, image, real: real.to_path_buf(), label };
            match at {
                Some(at) => lines[at] = line,
                None => lines.push(line),
            }
        }
        let lines: Vec<Line> =
            lines.into_iter().enumerate().filter(|(i, _)| !removed.contains(i)).map(|(_, l)| l).collect();
        let text: String = lines.iter().map(|line| format!("{}\n", line.text)).collect();
        // A full disk shows before any file gets its name.
        let fresh = written(&self.path, text.as_bytes())?;

        let mut placed = Vec::new();
        let result = masks.into_iter().try_for_each(|NewMask { file, place, path, folder }| {
            file.persist(&place).map_err(|e| Error::io("write", &path, e.error))?;
            // Not every file system can.
            let _ = rustix::fs::fsync(&folder);
            placed.push(path);
            Ok(())
        });
        let result = result.and_then(|()| {
            fresh.persist(&self.path).map_err(|e| Error::io("write", &self.path, e.error)).map(|_| ())
        });
        if let Err(error) = result {
            // No line names them. Leftovers do no harm.
            placed.iter().for_each(|path| self.remove_mask(path));
            return Err(error);
        }
        sync_folder(&self.path);
        let before = self.lines.iter().flat_map(|l| l.label.files()).map(|m| self.mask_path(m));
        let named: HashSet<PathBuf> =
            lines.iter().flat_map(|l| l.label.files()).map(|m| self.mask_path(m)).collect();
        let old: Vec<PathBuf> = before.filter(|path| !named.contains(path)).collect();
        if !old.is_empty() {
            // Several names may lead to one file.
            let named: HashSet<PathBuf> = named.iter().map(|path| real(path)).collect();
            old.iter().filter(|old| !named.contains(&real(old))).for_each(|old| self.remove_mask(old));
        }
        self.of = lines.iter().enumerate().map(|(i, line)| (line.real.clone(), i)).collect();
        (self.lines, self.stamp) = (lines, Stamp::of(&self.path));
        Ok(())
    }

    /// Opens the folder of a painted mask, and gives the mask's name. A line can name any file, so masks
    /// elsewhere are refused.
    fn own_folder<'a>(&self, mask: &'a Path, make: bool) -> std::io::Result<(OwnedFd, &'a OsStr)> {
        let outside = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
        let own = self.masks();
        let below = mask.strip_prefix(self.folder()).ok().filter(|_| mask.starts_with(own));
        let (Some(folder), Some(name)) = (below.and_then(Path::parent), mask.file_name()) else {
            return Err(outside());
        };
        Ok((open_beneath(self.folder(), folder, make)?, name))
    }

    /// Removes a painted mask. Leftovers do no harm.
    fn remove_mask(&self, path: &Path) {
        if let Ok((folder, name)) = self.own_folder(path, false) {
            let _ = unlinkat(&folder, name, AtFlags::empty());
        }
    }

    /// Writes a mask to disk before it gets its name.
    fn new_mask(&self, path: &Path, bytes: &[u8]) -> Result<NewMask> {
        let doing = |e: std::io::Error| match Errno::from_io_error(&e) {
            Some(Errno::NOTDIR | Errno::LOOP) => {
                let text = "is reached through a link or a file: masks are written only to real folders beside the label file";
                Error::new(ErrorKind::Usage, text).within(path.display())
            }
            _ => Error::io("write", path, e),
        };
        let (folder, name) = self.own_folder(path, true).map_err(doing)?;
        // The opened folder, even if its path changes.
        let opened = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        let mut file = files::new_file(&opened).map_err(doing)?;
        file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(doing)?;
        Ok(NewMask { file, place: opened.join(name), path: path.to_path_buf(), folder })
    }

    /// An unused name for a mask: its picture's name, if it is free.
    fn free_mask(&self, name: &str, bytes: &[u8], taken: &HashSet<PathBuf>) -> PathBuf {
        let plain = self.masks().join(name);
        let file = plain.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let with =
            |more: String| plain.with_file_name(format!("{}{more}", files::short_name(&file, more.len())));
        let simple = with(".png".into());
        let free = |path: &PathBuf| !taken.contains(path) && path.symlink_metadata().is_err();
        if free(&simple) {
            return simple;
        }
        let ending = plain.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
        let hash = &files::sha256(bytes)[..8];
        // a.png and a.jpg differ only in their endings.
        let candidates = (0..).map(|i| match i {
            0 => with(format!("-{hash}.png")),
            1 => with(format!("-{ending}-{hash}.png")),
            i => with(format!("-{ending}-{hash}-{i}.png")),
        });
        candidates.into_iter().find(free).unwrap_or(simple)
    }

    /// A path for the file: relative below the file's folder, absolute elsewhere.
    fn relative(&self, path: &Path) -> Result<String> {
        let below = path.strip_prefix(self.folder()).unwrap_or(path);
        let text = below.to_str().ok_or_else(|| {
            let text = "the name is not valid Unicode, which label files require: rename the file";
            Error::new(ErrorKind::Usage, text).within(path.display())
        })?;
        Ok(text.to_owned())
    }
}

/// A picture and its new label, see [`LabelFile::save`].
pub struct Entry<'a> {
    /// Its absolute path for the file.
    pub picture: &'a Path,
    /// The same with links followed.
    pub real: &'a Path,
    /// Its path below the folder of pictures.
    pub name: &'a str,
    /// `None` removes the label.
    pub label: Option<Drawn>,
}

/// A mask on disk without its name yet. See [`LabelFile::new_mask`].
struct NewMask {
    // Declared first: the file is removed before its folder is closed.
    file: NamedTempFile,
    place: PathBuf,
    path: PathBuf,
    folder: OwnedFd,
}

/// Writes a temporary file beside `path` to disk.
fn written(path: &Path, bytes: &[u8]) -> Result<NamedTempFile> {
    let doing = |e| Error::io("write", path, e);
    let folder = files::parent(path);
    fs::create_dir_all(folder).map_err(doing)?;
    let mut file = files::new_file(folder).map_err(doing)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(doing)?;
    Ok(file)
}

/// Writes a file's name to disk, if the file system can.
fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(files::parent(path)) {
        let _ = folder.sync_all();
    }
}

/// A path with links followed as far as files exist, without `.` and `..`.
pub fn real(path: &Path) -> PathBuf {
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    // The file is gone, but its folder may exist.
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => real(parent).join(name),
        _ => path.components().filter(|c| !matches!(c, Component::CurDir | Component::ParentDir)).collect(),
    }
}

/// Opens a folder below `root`. No link and no `..` leads out of `root`. `make` creates missing folders.
fn open_beneath(root: &Path, below: &Path, make: bool) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = openat(CWD, root, flags, Mode::empty())?;
    for part in below.components() {
        let Component::Normal(name) = part else { return Err(Errno::INVAL.into()) };
        if make {
            match mkdirat(&folder, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
        folder = openat(&folder, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(folder)
}
