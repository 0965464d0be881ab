//! Labeled data sets in their published layouts.
//!
//! [`read`] lists pictures. It opens a mask only where the mask alone says whether a picture is defective.
//! Folders below the layout are not searched, and pictures of unsupported formats are left out: see
//! [`Category::notes`]. Links are followed. A broken link is an error: a smaller data set would silently give
//! different numbers.

mod ksdd2;
mod listing;
mod mtd;
mod trees;
mod visa;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::imaging::{Frame, Seen, check_together};
pub use crate::imaging::{Mask, MaskRule};
use ksdd2::{ksdd2_name, read_ksdd2};
use listing::{folders, pictures};
use mtd::{MTD_GOOD, mtd_class, read_mtd};
use trees::{BTAD, MVTEC, MVTEC3D, Tree, read_tree};
use visa::{VISA_SPLIT, read_visa};

/// The layout of a labeled data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// MVTec-AD, and your own data sets in its layout.
    Mvtec,
    /// MVTec 3D-AD; only its color pictures are read.
    Mvtec3d,
    /// beanTech anomaly detection (BTAD).
    Btad,
    /// Kolektor surface-defect data set 2.
    Ksdd2,
    /// Visual anomaly data set (VisA), as published: with its own split, one class.
    Visa,
    /// Magnetic tile defects (Huang et al. 2018), as published. It has no official split: see [`read`].
    Mtd,
}

/// The pictures of one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Category {
    /// Its name in the data set.
    pub name: String,
    /// Good pictures to enroll.
    pub train: Vec<PathBuf>,
    /// Pictures to inspect.
    pub test: Vec<Sample>,
    /// What was left out or looks odd, as sentences for people.
    pub notes: Vec<String>,
}

/// A picture to inspect, with its label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// The picture.
    pub image: PathBuf,
    /// The data set's name of the defect; `None` for a good part.
    pub defect: Option<String>,
    /// The mask; `None` for a good part, or if the data set has no masks.
    pub mask: Option<MaskSource>,
}

/// A file that marks defective pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MaskSource {
    /// The file.
    pub path: PathBuf,
    /// How to read it.
    pub rule: MaskRule,
}

impl Sample {
    /// The ground truth at the size of `frame`, the opened picture of this sample. `None` for a defective
    /// sample without a mask.
    ///
    /// # Errors
    /// [`ErrorKind::Dataset`] naming both files if mask and picture differ in size; as [`Frame::open`] for
    /// the mask.
    pub fn truth(&self, frame: &Frame) -> Result<Option<Mask>> {
        let Some(source) = &self.mask else {
            let good = self.defect.is_none();
            return Ok(good.then(|| Mask::empty(frame.width(), frame.height())));
        };
        self.mask_of_size(source, (frame.width(), frame.height())).map(Some)
    }

    fn mask_of_size(&self, source: &MaskSource, (width, height): (u32, u32)) -> Result<Mask> {
        let mask = Mask::open(&source.path, source.rule)?;
        if (mask.width(), mask.height()) != (width, height) {
            return Err(Error::new(
                ErrorKind::Dataset,
                format!(
                    "the mask {} has {}×{} pixels, but its picture {} has {width}×{height}",
                    source.path.display(),
                    mask.width(),
                    mask.height(),
                    self.image.display(),
                ),
            ));
        }
        Ok(mask)
    }
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 6] =
        [Format::Mvtec, Format::Mvtec3d, Format::Btad, Format::Ksdd2, Format::Visa, Format::Mtd];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Mvtec => "mvtec",
            Format::Mvtec3d => "mvtec3d",
            Format::Btad => "btad",
            Format::Ksdd2 => "ksdd2",
            Format::Visa => "visa",
            Format::Mtd => "mtd",
        }
    }

    /// The layout in words, for messages.
    pub fn layout(self) -> &'static str {
        match self {
            Format::Mvtec => {
                "CATEGORY/train/good/NAME.png, CATEGORY/test/TYPE/NAME.png and \
                 CATEGORY/ground_truth/TYPE/NAME_mask.png"
            }
            Format::Mvtec3d => {
                "CATEGORY/train/good/rgb/NAME.png, CATEGORY/test/TYPE/rgb/NAME.png and \
                 CATEGORY/test/TYPE/gt/NAME.png"
            }
            Format::Btad => {
                "CATEGORY/train/ok/NAME.png, CATEGORY/test/ok/NAME.png, CATEGORY/test/ko/NAME.png and \
                 CATEGORY/ground_truth/ko/NAME.png"
            }
            Format::Ksdd2 => "train/12345.png and train/12345_GT.png, and the same in test",
            Format::Visa => {
                "split_csv/1cls.csv, CATEGORY/Data/Images/Normal, CATEGORY/Data/Images/Anomaly and \
                 CATEGORY/Data/Masks/Anomaly"
            }
            Format::Mtd => {
                "MT_Free/Imgs/exp1_num_12345.jpg, and MT_Blowhole/Imgs and its like with NAME.jpg and NAME.png"
            }
        }
    }

    /// Whether `dir` certainly has this layout.
    fn fits(self, dir: &Path) -> bool {
        match self {
            Format::Mvtec => pictures(&dir.join("train/good")).is_ok_and(|p| !p.is_empty()),
            Format::Mvtec3d => dir.join("train/good/rgb").is_dir(),
            Format::Btad => dir.join("train/ok").is_dir(),
            Format::Ksdd2 => pictures(&dir.join("train"))
                .is_ok_and(|all| all.iter().any(|p| ksdd2_name(p).is_some_and(|n| n.1))),
            Format::Visa => dir.join("Data/Images").is_dir() || dir.join(VISA_SPLIT).is_file(),
            Format::Mtd => dir.join(MTD_GOOD).is_dir(),
        }
    }

    /// Whether `dir` looks like a category of this format. It is less strict than [`Format::fits`], so an
    /// error can say what an incomplete category lacks.
    fn attempted(self, dir: &Path) -> bool {
        match self {
            Format::Mvtec | Format::Mvtec3d | Format::Btad | Format::Ksdd2 => {
                dir.join("train").is_dir() || dir.join("test").is_dir()
            }
            Format::Visa => dir.join("Data").is_dir(),
            Format::Mtd => folders(dir).is_ok_and(|all| all.iter().any(|f| mtd_class(f).is_some())),
        }
    }

    /// Another format that fits `dir` or a folder in it, if this one does not.
    fn better(self, dir: &Path) -> Option<Format> {
        let inside = folders(dir).unwrap_or_default();
        let fits = |f: Format| f.fits(dir) || inside.iter().any(|d| f.fits(d));
        if fits(self) { None } else { Format::ALL.into_iter().find(|f| fits(*f)) }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Format::ALL.into_iter().find(|f| f.name() == name).ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                format!(
                    "{name:?} is not a data set format; there are {}",
                    Format::ALL.map(Format::name).join(", ")
                ),
            )
        })
    }
}

/// Lists a data set. `dir` is a folder of categories or one category. Categories, pictures and samples are
/// sorted by name. `good` are more names for folders of good parts (*mvtec*, *mvtec3d*, *btad*).
///
/// By format:
/// - *mvtec*: a mask may also be named `NAME.png`.
/// - *mvtec*, *mvtec3d*, *btad*: a category may have no masks at all. Then there are no pixel metrics.
/// - *mvtec3d*: the validation pictures are ignored.
/// - *ksdd2*: a picture is defective if its mask has a pixel above 127. Defective training pictures are left
///   out. Files not named by a number are left out: the archive holds two stray copies, one of them a mask.
/// - *visa*: split by `split_csv/1cls.csv`. Listed categories without a folder are skipped.
/// - *mtd*: good pictures are split by whole tiles, so no tile is in training and in testing. Pictures are
///   sorted by the capture number in their names; a step of more than 150 starts a new tile; every fifth tile
///   is for testing. Pictures labeled defective with an empty mask (four in the published set) are left out.
///
/// # Errors
/// [`ErrorKind::Dataset`] for a missing folder, no category, a category without training pictures, a
/// defective picture without a mask, a listed picture that is missing, or a folder without masks whose name
/// says good parts but is not the layout's. The message names the place, the expected layout and a better
/// format if there is one. [`ErrorKind::Io`] if a folder cannot be listed; [`ErrorKind::Image`] if a mask is
/// damaged.
pub fn read(dir: impl AsRef<Path>, format: Format, good: &[String]) -> Result<Vec<Category>> {
    let dir = dir.as_ref();
    let complain = |what: String| {
        let hint = match format.better(dir) {
            Some(other) => format!("; it looks like {other}: use that format"),
            None => String::new(),
        };
        Error::new(ErrorKind::Dataset, format!("{what}; {format} expects {}{hint}", format.layout()))
    };
    if !dir.is_dir() {
        let what = if dir.exists() { "is not a folder" } else { "does not exist" };
        return Err(complain(format!("the data set {} {what}", dir.display())));
    }
    let places = || -> Result<Vec<PathBuf>> {
        if format.attempted(dir) {
            return Ok(vec![dir.to_path_buf()]);
        }
        Ok(folders(dir)?.into_iter().filter(|d| format.attempted(d)).collect())
    };
    let each = |tree: &Tree| -> Result<Vec<Category>> {
        places()?.iter().map(|place| read_tree(place, tree, good, &complain)).collect()
    };
    let single = |read_one: fn(&Path, Complain) -> Result<Category>| match places()?.as_slice() {
        [] => Ok(Vec::new()),
        [place] => Ok(vec![read_one(place, &complain)?]),
        _ => Err(complain(format!("{} holds several such data sets: name one of them", dir.display()))),
    };

    let categories = match format {
        Format::Mvtec => each(&MVTEC)?,
        Format::Mvtec3d => each(&MVTEC3D)?,
        Format::Btad => each(&BTAD)?,
        Format::Ksdd2 => single(read_ksdd2)?,
        Format::Mtd => single(read_mtd)?,
        Format::Visa => read_visa(dir, &complain)?,
    };
    if categories.is_empty() {
        return Err(complain(format!("{} holds no category", dir.display())));
    }
    for category in &categories {
        if category.train.is_empty() {
            let mut text =
                format!("category {} in {} has no good training pictures", category.name, dir.display());
            category.notes.iter().for_each(|note| text.push_str(&format!("; {note}")));
            return Err(complain(text));
        }
    }
    Ok(categories)
}

/// Removes the test pictures that a file lists, one per line.
///
/// # Errors
/// [`ErrorKind::Usage`] for a line that names no test picture, or if the file cannot be read.
pub fn leave_out(categories: &mut [Category], file: &Path) -> Result<()> {
    let text = files::read_text(file)?;
    let same = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let mut left: HashMap<PathBuf, usize> = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| (same(&files::parent(file).join(line.trim())), number))
        .collect();
    for category in categories {
        category.test.retain(|sample| left.remove(&same(&sample.image)).is_none());
    }
    if let Some((path, line)) = left.iter().min_by_key(|(_, line)| **line) {
        let wrong = format!("{} is not one of the test pictures", path.display());
        return Err(Error::new(ErrorKind::Usage, wrong).within(format!("{}:{line}", file.display())));
    }
    Ok(())
}

/// Completes an error with the expected layout, and a better format if there is one.
type Complain<'a> = &'a dyn Fn(String) -> Error;

impl Category {
    /// Opens every mask before long work. Returns what looks odd, as sentences for people.
    ///
    /// # Errors
    /// [`ErrorKind::Dataset`] if a mask and its picture differ in size, if all masks are empty, or if all
    /// look inverted; as [`Mask::open`].
    pub fn check_masks(&self) -> Result<Vec<String>> {
        let seen = |(sample, source): (&Sample, &MaskSource)| {
            let (width, height, _) = Frame::header(&sample.image)?;
            Ok((source.path.clone(), Seen::from(&sample.mask_of_size(source, (width, height))?)))
        };
        let sources: Vec<_> = self.test.iter().filter_map(|s| Some((s, s.mask.as_ref()?))).collect();
        check_together(&sources.into_par_iter().map(seen).collect::<Result<Vec<_>>>()?)
    }

    fn new(name: impl Into<String>) -> Self {
        Category { name: name.into(), train: Vec::new(), test: Vec::new(), notes: Vec::new() }
    }

    fn finished(mut self) -> Self {
        self.train.sort();
        self.test.sort_by(|a, b| a.image.cmp(&b.image));
        if self.test.is_empty() {
            self.notes.push("There are no test pictures.".into());
        }
        self
    }
}

impl Sample {
    fn good(image: PathBuf) -> Self {
        Sample { image, defect: None, mask: None }
    }

    fn defective(image: PathBuf, kind: impl Into<String>, path: PathBuf, rule: MaskRule) -> Self {
        Sample { image, defect: Some(kind.into()), mask: Some(MaskSource { path, rule }) }
    }
}
