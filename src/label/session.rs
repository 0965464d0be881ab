//! The pictures and their labels.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::order::{Standing, order};
use super::prompts::{self, Prompts, check_type};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::imaging::{Mask, Polygon};
use crate::labels::formats::{self, Format, Import, Summary};
use crate::labels::{
    Box, Drawn, Form, Found, Label, LabelFile, Lock, Rle, Rotated, Shape, Stamp, Tag, clipped_box, find,
    is_number, placed_polygon, placed_rotated, real, rounded,
};

/// A picture.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Its name and path.
    pub found: Found,
    /// Size and time of its file at the last look.
    pub stamp: Option<Stamp>,
    /// SHA-256 of its file at the last read.
    pub hash: Option<String>,
    /// Width and height, if known.
    pub size: Option<(u32, u32)>,
    /// Image score, if known.
    pub score: Option<f32>,
    /// Whether scoring was tried. A picture that the detector cannot judge never gets a score.
    pub scored: bool,
    /// Why it cannot be labeled.
    pub error: Option<String>,
    /// Whether its file is gone.
    pub missing: bool,
    /// Whether its file changed since somebody looked at it.
    pub stale: bool,
}

impl Picture {
    fn new(found: Found) -> Picture {
        Picture {
            found,
            stamp: None,
            hash: None,
            size: None,
            score: None,
            scored: false,
            error: None,
            missing: false,
            stale: false,
        }
    }
}

/// A shape for the page, with one form.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Drawing {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<[f64; 4]>)]
    r#box: Option<Box>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<[[f64; 2]; 4]>)]
    rotated: Option<Rotated>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<[f64; 2]>>)]
    polygon: Option<Polygon>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask: Option<Rle>,
    #[serde(default)]
    r#type: Option<String>,
}

impl Drawing {
    /// The shape in a picture of this size; `None` for a mask without a pixel.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a shape or a type that is not valid.
    fn shape(self, size: (u32, u32)) -> Result<Option<Shape<Mask>>> {
        if let Some(kind) = &self.r#type {
            check_type(kind)?;
        }
        let form = match (self.r#box, self.rotated, self.polygon, self.mask) {
            (Some(shape), None, None, None) => Form::Box(clipped_box(&shape, size)?),
            (None, Some(shape), None, None) => Form::Rotated(placed_rotated(&shape, size)?),
            (None, None, Some(shape), None) => Form::Polygon(placed_polygon(&shape, size)?),
            (None, None, None, Some(mask)) => {
                let mask = mask.mask(size)?;
                if mask.defective_pixels() == 0 {
                    return Ok(None);
                }
                Form::Mask(mask)
            }
            _ => {
                let text = "a shape must have one of box, rotated, polygon or mask";
                return Err(Error::new(ErrorKind::Usage, text));
            }
        };
        Ok(Some(Shape { form, kind: self.r#type }))
    }
}

/// A label for the page.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Told {
    /// Identifies the picture's file and its label. A save must give it.
    pub revision: String,
    tag: Option<Tag>,
    /// The shapes, with one mask at most of each type.
    shapes: Vec<Drawing>,
    /// Type of a defect without a shape.
    r#type: Option<String>,
    seconds: f64,
    /// Why a mask cannot be read. The next save removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<String>,
}

/// A label to save.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// [`Told::revision`] of the label that it replaces.
    pub revision: String,
    tag: Option<Tag>,
    #[serde(default)]
    shapes: Vec<Drawing>,
    #[serde(default)]
    r#type: Option<String>,
    #[serde(default)]
    seconds: Option<f64>,
}

impl Change {
    /// The label for a picture of this size; `None` for an empty label.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a shape, type or time that is not valid.
    fn drawn(self, size: (u32, u32)) -> Result<Option<Drawn>> {
        let wrong = |text: &str| Err(Error::new(ErrorKind::Usage, text));
        let shapes = self.shapes.into_iter().filter_map(|drawing| drawing.shape(size).transpose());
        let shapes = shapes.collect::<Result<Vec<_>>>()?;
        if let Some(kind) = &self.r#type {
            check_type(kind)?;
        }
        if self.seconds.is_some_and(|s| !is_number(s) || s < 0.0) {
            return wrong("seconds must be a number, not negative");
        }
        let tag = match (self.tag, !shapes.is_empty()) {
            (Some(Tag::Good), true) => {
                return wrong("a good picture has no defects: remove them, or tag it defective");
            }
            (None, false) => return Ok(None),
            (Some(tag), _) => tag,
            (None, true) => Tag::Defective,
        };
        let kind = self.r#type.filter(|_| tag == Tag::Defective && shapes.is_empty());
        let seconds = self.seconds.map(rounded);
        Ok(Some(Drawn { tag, shapes, kind, seconds, leave_out: None }))
    }
}

/// The result of a save.
#[derive(Debug)]
pub enum Saved {
    /// The label is on disk; its revision.
    Done(String),
    /// Somebody else saved this picture in between; their label.
    Conflict(Told),
}

/// The pictures below a folder, and the locked label file.
#[derive(Debug)]
pub struct Session {
    root: PathBuf,
    file: LabelFile,
    prompts: Prompts,
    pictures: Vec<Picture>,
    by_real: HashMap<PathBuf, usize>,
    passed_over: Vec<String>,
    _lock: Lock,
}

impl Session {
    /// Opens a folder of pictures and a label file.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is no picture, the label file is about other pictures, or another
    /// process holds it; as [`LabelFile::open`] and [`prompts::read`].
    pub fn open(images: &Path, labels: &Path, prompts: Option<&Path>) -> Result<Session> {
        let prompts = prompts.map(prompts::read).transpose()?.unwrap_or_default();
        let root = match images.is_dir() {
            true => fs::canonicalize(images).map_err(|e| Error::io("find", images, e))?,
            false => {
                let text = format!("there is no folder {}", images.display());
                return Err(Error::new(ErrorKind::Usage, text).with_key("images"));
            }
        };
        // Read once for its real path, and again under the lock.
        let lock = Lock::take(LabelFile::open(labels)?.path())?;
        let file = LabelFile::open(labels)?;
        let (pictures, passed_over) = (Vec::new(), Vec::new());
        let mut session =
            Session { root, file, prompts, pictures, by_real: HashMap::new(), passed_over, _lock: lock };
        session.rescan()?;
        if session.pictures.is_empty() {
            let mut text = format!("there are no pictures (PNG, JPEG, BMP, TIFF) below {}", images.display());
            session.passed_over.iter().for_each(|note| text.push_str(&format!("\n  {note}")));
            return Err(Error::new(ErrorKind::Usage, text).with_key("images"));
        }
        let (ours, all) = (session.ours(), session.file.iter().count());
        if ours == 0
            && let Some((_, first, _)) = session.file.iter().next()
        {
            let text = format!(
                "{} is about pictures of another folder, such as {first}: none of its {all} pictures is below {}; give \
                 their folder, or another label file",
                labels.display(),
                images.display()
            );
            return Err(Error::setting("images", text));
        }
        if ours < all {
            log::warn!(
                "{} of {all} labels are about pictures of other folders and stay unchanged",
                all - ours
            );
        }
        Ok(session)
    }

    /// Number of labels for pictures below the folder.
    fn ours(&self) -> usize {
        let real_root = real(&self.root);
        self.file
            .iter()
            .filter(|(path, _, _)| self.by_real.contains_key(*path) || path.starts_with(&real_root))
            .count()
    }

    /// Reads the folder again for new, changed and missing pictures. Returns whether anything is new.
    ///
    /// # Errors
    /// As [`find`].
    pub fn rescan(&mut self) -> Result<bool> {
        let (found, passed_over) = find(&self.root, &self.file.not_pictures())?;
        passed_over.iter().filter(|n| !self.passed_over.contains(n)).for_each(|note| log::warn!("{note}"));
        self.passed_over = passed_over;
        let mut there = HashSet::new();
        let mut news = false;
        for found in found {
            let real = found.real.clone();
            let id = *self.by_real.entry(real).or_insert_with(|| {
                news = true;
                self.pictures.push(Picture::new(found));
                self.pictures.len() - 1
            });
            there.insert(id);
        }
        for (id, picture) in self.pictures.iter_mut().enumerate() {
            let missing = !there.contains(&id);
            news |= missing != picture.missing;
            picture.missing = missing;
            if missing {
                continue;
            }
            let stamp = Stamp::of(&picture.found.path);
            if picture.stamp.is_some() && stamp != picture.stamp {
                // Scored again if its content changed as well.
                picture.scored = false;
                news = true;
            }
        }
        // Labels of missing pictures are shown, too.
        let known: Vec<(PathBuf, String)> = self
            .file
            .iter()
            .filter(|(path, _, _)| !self.by_real.contains_key(*path))
            .filter_map(|(path, _, _)| {
                let below = path.strip_prefix(&self.root).ok()?;
                Some((path.to_path_buf(), below.to_str()?.to_owned()))
            })
            .collect();
        for (path, name) in known {
            self.by_real.insert(path.clone(), self.pictures.len());
            let found = Found { name, path: path.clone(), real: path };
            self.pictures.push(Picture { missing: true, ..Picture::new(found) });
        }
        Ok(news)
    }

    /// Number of pictures, and of those with a label.
    pub fn counts(&self) -> (usize, usize) {
        let there = self.pictures.iter().filter(|p| !p.missing);
        (there.clone().count(), there.filter(|p| self.file.label(&p.found.real).is_some()).count())
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The label file.
    pub fn file(&self) -> &LabelFile {
        &self.file
    }

    /// Phrases by type.
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// Types of labels, and types with prompts.
    pub fn types(&self) -> BTreeSet<&str> {
        let used = self.file.iter().flat_map(|(_, _, label)| label.kinds());
        used.chain(self.prompts.keys().map(String::as_str)).collect()
    }

    /// A picture by its number.
    pub fn picture(&self, id: usize) -> Option<&Picture> {
        self.pictures.get(id)
    }

    /// A picture by its number, to change it.
    pub fn picture_mut(&mut self, id: usize) -> Option<&mut Picture> {
        self.pictures.get_mut(id)
    }

    /// Label of a picture.
    pub fn label(&self, picture: &Picture) -> Option<&Label> {
        self.file.label(&picture.found.real)
    }

    /// Numbers of the pictures in the order of work.
    pub fn order(&self, threshold: f32) -> Vec<usize> {
        let standing: Vec<Standing> = self
            .pictures
            .iter()
            .map(|picture| Standing {
                name: &picture.found.name,
                score: picture.score,
                done: self.label(picture).is_some(),
                usable: !picture.missing && picture.error.is_none(),
            })
            .collect();
        order(&standing, threshold)
    }

    /// Numbers of pictures without a score yet.
    pub fn unscored(&self) -> Vec<usize> {
        let todo = |(id, picture): (usize, &Picture)| (!picture.missing && !picture.scored).then_some(id);
        self.pictures.iter().enumerate().filter_map(todo).collect()
    }

    /// Reads the label file again if another program changed it.
    ///
    /// # Errors
    /// As [`LabelFile::refresh`].
    pub fn refresh(&mut self) -> Result<()> {
        self.file.refresh()
    }

    /// See [`Told::revision`].
    pub fn revision(&self, picture: &Picture) -> String {
        let content = picture.hash.as_deref().unwrap_or_default();
        let text = self.file.text(&picture.found.real).unwrap_or_default();
        format!("{}{}", &content[..content.len().min(16)], &files::sha256(text.as_bytes())[..16])
    }

    /// The label of a picture that was decoded before.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is no such picture.
    pub fn told(&self, id: usize) -> Result<Told> {
        let (picture, size) = self.sized(id)?;
        let revision = self.revision(picture);
        let Some(label) = self.label(picture) else {
            return Ok(Told {
                revision,
                tag: None,
                shapes: Vec::new(),
                r#type: None,
                seconds: 0.0,
                lost: None,
            });
        };
        // With an unreadable mask the rest of the label can still be shown, changed or removed.
        let (mut shapes, mut lost): (Vec<Drawing>, _) = (Vec::new(), None);
        let mut masks: Vec<(usize, Vec<bool>)> = Vec::new();
        for shape in &label.shapes {
            let mut drawing = Drawing { r#type: shape.kind.clone(), ..Drawing::default() };
            match &shape.form {
                Form::Box(shape) => drawing.r#box = Some(*shape),
                Form::Rotated(shape) => drawing.rotated = Some(*shape),
                Form::Polygon(shape) => drawing.polygon = Some(shape.clone()),
                Form::Mask(file) => {
                    let bits = match self.file.open_mask(file, size) {
                        Ok(mask) => mask.bits().to_vec(),
                        Err(e) => {
                            lost = lost.or_else(|| Some(e.chain()));
                            continue;
                        }
                    };
                    if let Some((_, old)) = masks.iter_mut().find(|(at, _)| shapes[*at].r#type == shape.kind)
                    {
                        old.iter_mut().zip(bits).for_each(|(a, b)| *a |= b);
                        continue;
                    }
                    masks.push((shapes.len(), bits));
                }
            }
            shapes.push(drawing);
        }
        for (at, bits) in masks {
            shapes[at].mask = Some(Rle::from(&Mask::new(size.0, size.1, bits)?));
        }
        Ok(Told {
            revision,
            tag: Some(label.tag),
            shapes,
            r#type: label.kind.clone(),
            seconds: label.seconds.unwrap_or(0.0),
            lost,
        })
    }

    /// The labels as the text of a file for another tool.
    ///
    /// # Errors
    /// As [`formats::export`].
    pub fn export(&self, format: Format) -> Result<(String, Summary)> {
        formats::export_text(format, &self.root, &self.file)
    }

    /// Takes the labels of a file of another tool, all or none.
    ///
    /// # Errors
    /// As [`formats::import`].
    pub fn import(&mut self, bytes: Vec<u8>, how: Import) -> Result<Summary> {
        self.file.refresh()?;
        formats::import_text(&files::text_from_bytes(bytes)?, &self.root, &mut self.file, how)
    }

    fn sized(&self, id: usize) -> Result<(&Picture, (u32, u32))> {
        let picture = self.pictures.get(id);
        let sized = picture.and_then(|picture| Some((picture, picture.size?)));
        sized.ok_or_else(|| Error::new(ErrorKind::Usage, format!("there is no picture {id}")))
    }

    /// Saves the label of a picture that was decoded before. It is on disk when this returns.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a label that is not valid; as [`LabelFile::save`].
    pub fn save(&mut self, id: usize, change: Change) -> Result<Saved> {
        self.file.refresh()?;
        let (picture, size) = self.sized(id)?;
        if change.revision != self.revision(picture) {
            return Ok(Saved::Conflict(self.told(id)?));
        }
        let found = picture.found.clone();
        let mut drawn = change.drawn(size)?;
        if let (Some(drawn), Some(old)) = (&mut drawn, self.file.label(&found.real)) {
            drawn.leave_out.clone_from(&old.leave_out);
        }
        self.file.save(&found.path, &found.real, &found.name, drawn)?;
        let picture = self.sized(id)?.0;
        Ok(Saved::Done(self.revision(picture)))
    }
}
