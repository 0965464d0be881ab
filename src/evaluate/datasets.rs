//! Labeled data sets in their published layouts.
//!
//! [`read`] lists pictures. It opens a mask only where the mask alone says whether a picture is defective.
//! Folders below the layout are not searched, and pictures of unsupported formats are left out: see
//! [`Category::notes`]. Links are followed. A broken link is an error: a smaller data set would silently give
//! different numbers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Hint, Result};
use crate::files;
use crate::imaging::{Frame, Listing, Seen, check_together, named};
pub use crate::imaging::{Mask, MaskRule};

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

/// A layout like MVTec's: its files below a category's folder and a type's folder.
struct Tree {
    good: &'static str,
    pictures: &'static str,
    masks: fn(category: &Path, kind: &OsStr) -> PathBuf,
    /// What follows the picture's name in a mask's name, in order of preference.
    suffixes: &'static [&'static str],
}

const MVTEC: Tree = Tree {
    good: "good",
    pictures: "",
    masks: |category, kind| category.join("ground_truth").join(kind),
    suffixes: &["_mask", ""],
};

const MVTEC3D: Tree = Tree {
    good: "good",
    pictures: "rgb",
    masks: |category, kind| category.join("test").join(kind).join("gt"),
    suffixes: &[""],
};

const BTAD: Tree = Tree {
    good: "ok",
    pictures: "",
    masks: |category, kind| category.join("ground_truth").join(kind),
    suffixes: &[""],
};

/// Whether a folder's name says good parts, in factory words: `OK`, `i.O.`, `Good parts`.
fn is_good_name(name: &str) -> bool {
    const WORDS: [&str; 30] = [
        "free",
        "flawless",
        "perfect",
        "golden",
        "undamaged",
        "unbroken",
        "good",
        "ok",
        "okay",
        "normal",
        "pass",
        "passed",
        "accept",
        "accepted",
        "io",
        "gut",
        "clean",
        "healthy",
        "intact",
        "nodefect",
        "nodefects",
        "defectfree",
        "nondefective",
        "noanomaly",
        "normals",
        "goods",
        "bon",
        "bueno",
        "buono",
        "goed",
    ];
    const THINGS: [&str; 8] = ["parts", "part", "teile", "images", "image", "pictures", "samples", "sample"];
    let letters: String = name.to_lowercase().chars().filter(|c| c.is_alphabetic()).collect();
    let short = THINGS.iter().find_map(|thing| letters.strip_suffix(thing)).unwrap_or(&letters);
    WORDS.contains(&letters.as_str()) || WORDS.contains(&short)
}

fn read_tree(dir: &Path, tree: &Tree, good: &[String], complain: Complain) -> Result<Category> {
    let mut category = Category::new(folder_name(dir));
    let is_good = |kind: &OsStr| kind == tree.good || good.iter().any(|name| kind == name.as_str());
    let name = |folder: &Path| folder.file_name().unwrap_or_default().to_os_string();

    let (goods, others): (Vec<_>, Vec<_>) =
        folders(&dir.join("train"))?.into_iter().partition(|folder| is_good(&name(folder)));
    for folder in goods {
        category.train.extend(listed(&folder.join(tree.pictures), &mut category.notes)?);
    }
    let unsure = others.iter().find(|folder| is_good_name(&name(folder).to_string_lossy()));
    if let Some(folder) = unsure.filter(|_| category.train.is_empty()) {
        return Err(complain(format!(
            "category {} in {} has no good training pictures; {} is named as good parts are: rename it to {}",
            category.name,
            dir.display(),
            folder.display(),
            tree.good,
        ))
        .with_hint(Hint::OtherGoodFolder));
    }
    note_loose(&dir.join("train"), others, &mut category.notes)?;

    let (mut unmarked, mut has_masks) = (None, false);
    for folder in folders(&dir.join("test"))? {
        let kind = name(&folder);
        let images = listed(&folder.join(tree.pictures), &mut category.notes)?;
        if is_good(&kind) {
            category.test.extend(images.into_iter().map(Sample::good));
            continue;
        }
        let mask_folder = (tree.masks)(dir, &kind);
        let is_there = mask_folder.is_dir();
        let mut masks = Masks::of(listed(&mask_folder, &mut category.notes)?);
        let kind = kind.to_string_lossy();
        if !images.is_empty() && is_good_name(&kind) && !masks.mark_anything()? {
            return Err(complain(format!(
                "{} is named as good parts are, and no mask marks a defect in it: give it another name if its parts are \
                 defective, else rename it to {}",
                folder.display(),
                tree.good
            ))
            .with_hint(Hint::OtherGoodFolder));
        }
        has_masks |= is_there;
        for image in images {
            let mask = tree.suffixes.iter().find_map(|suffix| masks.take(&image, suffix));
            let mask = mask.map(|path| MaskSource { path, rule: MaskRule::AboveHalf });
            if mask.is_none() && unmarked.is_none() {
                unmarked = Some((image.clone(), mask_folder.clone()));
            }
            category.test.push(Sample { image, defect: Some(kind.to_string()), mask });
        }
        masks.report_rest(&mut category.notes);
    }
    note_loose(&dir.join("test"), Vec::new(), &mut category.notes)?;
    for folder in folders(&dir.join("ground_truth"))? {
        if !dir.join("test").join(name(&folder)).is_dir() {
            Masks::of(listed(&folder, &mut category.notes)?).report_rest(&mut category.notes);
        }
    }
    if let Some((image, folder)) = unmarked {
        // One missing mask would silently change the pixel metrics. No mask at all is fine.
        if has_masks {
            return Err(complain(format!(
                "the defective picture {} has no mask in {}",
                image.display(),
                folder.display()
            )));
        }
        category.notes.push("There are no masks: only whole pictures are measured, not pixels.".to_owned());
    }
    Ok(category.finished())
}

/// The number in a KSDD2 file name, and whether the file is a mask. `None` for other files.
fn ksdd2_name(path: &Path) -> Option<(&str, bool)> {
    let stem = path.file_stem()?.to_str()?;
    let (number, mask) = match stem.strip_suffix("_GT") {
        Some(number) => (number, true),
        None => (stem, false),
    };
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some((number, mask))
}

fn read_ksdd2(dir: &Path, complain: Complain) -> Result<Category> {
    let mut category = Category::new(Format::Ksdd2.name());
    let mut split = |name: &str| -> Result<Vec<(PathBuf, PathBuf, bool)>> {
        let folder = dir.join(name);
        let (named, stray): (Vec<_>, Vec<_>) =
            listed(&folder, &mut category.notes)?.into_iter().partition(|p| ksdd2_name(p).is_some());
        note(&mut category.notes, "Left out, because they are not named by a number", &stray);
        let (masks, images): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|p| ksdd2_name(p).is_some_and(|n| n.1));
        let mut masks = Masks::of(masks);
        let mut pairs = Vec::with_capacity(images.len());
        for image in images {
            let Some(mask) = masks.take(&image, "_GT") else {
                return Err(complain(format!(
                    "the picture {} has no mask, so it is unknown whether it is good",
                    image.display()
                )));
            };
            pairs.push((image, mask));
        }
        masks.report_rest(&mut category.notes);
        pairs
            .into_par_iter()
            .map(|(image, mask)| {
                let defective = Mask::open(&mask, MaskRule::AboveHalf)?.defective_pixels() > 0;
                Ok((image, mask, defective))
            })
            .collect()
    };
    let (train, test) = (split("train")?, split("test")?);

    let (defective, good): (Vec<_>, Vec<_>) = train.into_iter().partition(|t| t.2);
    category.train = good.into_iter().map(|t| t.0).collect();
    let defective: Vec<_> = defective.into_iter().map(|t| t.0).collect();
    note(&mut category.notes, DEFECTIVE_TRAINING, &defective);
    category.test = test
        .into_iter()
        .map(|(image, mask, defective)| match defective {
            true => Sample::defective(image, "defect", mask, MaskRule::AboveHalf),
            false => Sample::good(image),
        })
        .collect();
    Ok(category.finished())
}

const MTD_GOOD: &str = "MT_Free";

/// The largest step between the capture numbers of one tile: six exposures, seconds apart. The step between
/// tiles is larger. In the published set no step lies between 149 and 166.
const MTD_TILE_STEP: u64 = 150;

/// One of this many tiles is for testing.
const MTD_TEST_SHARE: usize = 5;

/// The kind of picture that a folder of MTD holds: `MT_Crack` → `crack`.
fn mtd_class(folder: &Path) -> Option<String> {
    Some(folder.file_name()?.to_str()?.strip_prefix("MT_")?.to_lowercase())
}

fn read_mtd(dir: &Path, complain: Complain) -> Result<Category> {
    let mut category = Category::new(Format::Mtd.name());
    let mut notes = Vec::new();
    let mut images_of = |folder: &Path| -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        let is_mask = |p: &PathBuf| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
        Ok(listed(&folder.join("Imgs"), &mut notes)?.into_iter().partition(|p| !is_mask(p)))
    };

    let mut numbered = Vec::new();
    for image in images_of(&dir.join(MTD_GOOD))?.0 {
        let number = image.file_stem().and_then(OsStr::to_str).and_then(|s| s.rsplit_once("_num_"));
        let Some(number) = number.and_then(|(_, digits)| digits.parse::<u64>().ok()) else {
            return Err(complain(format!(
                "the name of {} has no capture number, by which the good pictures are split",
                image.display()
            )));
        };
        numbered.push((number, image));
    }
    numbered.sort();
    let (mut tile, mut last) = (0, None);
    for (number, image) in numbered {
        if last.is_some_and(|last| number - last > MTD_TILE_STEP) {
            tile += 1;
        }
        last = Some(number);
        if tile % MTD_TEST_SHARE == MTD_TEST_SHARE - 1 {
            category.test.push(Sample::good(image));
        } else {
            category.train.push(image);
        }
    }

    let mut samples = Vec::new();
    for folder in folders(dir)? {
        let Some(class) = mtd_class(&folder).filter(|_| folder.file_name() != Some(OsStr::new(MTD_GOOD)))
        else {
            continue;
        };
        let (images, masks) = images_of(&folder)?;
        let mut masks = Masks::of(masks);
        for image in images {
            let Some(mask) = masks.take(&image, "") else {
                return Err(complain(format!(
                    "the defective picture {} has no mask beside it",
                    image.display()
                )));
            };
            samples.push(Sample::defective(image, &class, mask, MaskRule::AboveHalf));
        }
        masks.report_rest(&mut category.notes);
    }
    let marked = samples
        .into_par_iter()
        .map(|sample| {
            let marked = match &sample.mask {
                Some(source) => Mask::open(&source.path, source.rule)?.defective_pixels() > 0,
                None => false,
            };
            Ok((sample, marked))
        })
        .collect::<Result<Vec<_>>>()?;
    let (marked, empty): (Vec<_>, Vec<_>) = marked.into_iter().partition(|(_, marked)| *marked);
    category.test.extend(marked.into_iter().map(|(sample, _)| sample));
    let empty: Vec<_> = empty.into_iter().map(|(sample, _)| sample.image).collect();
    category.notes.extend(notes);
    note(
        &mut category.notes,
        "Left out, because they are labeled defective and their masks are empty",
        &empty,
    );
    Ok(category.finished())
}

const VISA_SPLIT: &str = "split_csv/1cls.csv";

#[derive(Deserialize)]
struct VisaRow {
    object: String,
    split: String,
    label: String,
    image: String,
    mask: Option<String>,
}

fn read_visa(dir: &Path, complain: Complain) -> Result<Vec<Category>> {
    // A single category lies beside the folder of the split.
    let (root, only) = if Format::Visa.attempted(dir) {
        let dir = by_name(dir);
        (dir.parent().unwrap_or(&dir).to_path_buf(), Some(folder_name(&dir)))
    } else {
        (dir.to_path_buf(), None)
    };
    let table = root.join(VISA_SPLIT);
    if !table.is_file() {
        return Err(complain(format!(
            "{} is missing: VisA is split by that table, which comes with its archive",
            table.display()
        )));
    }
    let unreadable = |e: csv::Error| {
        let message =
            format!("{} is not VisA's table of object, split, label, image and mask", table.display());
        Error::new(ErrorKind::Dataset, message).with_source(e)
    };

    // A foreign table must not lead out of the data set.
    let inside = |file: &str| {
        !file.is_empty() && Path::new(file).components().all(|c| matches!(c, Component::Normal(_)))
    };
    let listed = |file: &str| -> Result<PathBuf> {
        let path = root.join(file);
        if inside(file) && path.is_file() {
            return Ok(path);
        }
        Err(complain(format!("{} lists {file:?}, which is not there", table.display())))
    };

    let mut categories: BTreeMap<String, (Category, BTreeSet<PathBuf>, Vec<PathBuf>)> = BTreeMap::new();
    for row in csv::Reader::from_path(&table).map_err(unreadable)?.into_deserialize() {
        let row: VisaRow = row.map_err(unreadable)?;
        let wanted = only.as_ref().is_none_or(|only| *only == row.object);
        if !wanted || !inside(&row.object) || !root.join(&row.object).is_dir() {
            continue;
        }
        let (category, masks, defective_training) = categories
            .entry(row.object)
            .or_insert_with_key(|name| (Category::new(name.as_str()), BTreeSet::new(), Vec::new()));
        let image = listed(&row.image)?;
        match (row.split.as_str(), row.label.as_str()) {
            ("train", "normal") => category.train.push(image),
            ("train", "anomaly") => defective_training.push(image),
            ("test", "normal") => category.test.push(Sample::good(image)),
            ("test", "anomaly") => {
                let Some(mask) = row.mask.filter(|m| !m.is_empty()) else {
                    return Err(complain(format!(
                        "{} lists no mask for the defective picture {}",
                        table.display(),
                        image.display()
                    )));
                };
                let mask = listed(&mask)?;
                masks.insert(mask.clone());
                category.test.push(Sample::defective(image, "anomaly", mask, MaskRule::NonZero));
            }
            (split, label) => {
                return Err(complain(format!(
                    "{} lists {} with split {split:?} and label {label:?}, \
                     not train or test and normal or anomaly",
                    table.display(),
                    image.display()
                )));
            }
        }
    }
    let mut finished = Vec::with_capacity(categories.len());
    for (name, (mut category, used, defective_training)) in categories {
        let mut rest = pictures(&root.join(name).join("Data/Masks/Anomaly"))?;
        rest.retain(|p| !used.contains(p));
        note(&mut category.notes, UNUSED_MASKS, &rest);
        note(&mut category.notes, DEFECTIVE_TRAINING, &defective_training);
        finished.push(category.finished());
    }
    Ok(finished)
}

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

const UNUSED_MASKS: &str = "Masks without a picture, not used";
const DEFECTIVE_TRAINING: &str = "Defective training pictures, left out";

/// The mask files of a folder, by name without extension.
struct Masks {
    files: BTreeMap<OsString, (PathBuf, bool)>,
}

impl Masks {
    fn of(paths: Vec<PathBuf>) -> Self {
        let named = |p: PathBuf| p.file_stem().map(OsStr::to_os_string).map(|stem| (stem, (p, false)));
        Masks { files: paths.into_iter().filter_map(named).collect() }
    }

    /// Whether any of them has a defective pixel.
    fn mark_anything(&self) -> Result<bool> {
        for (path, _) in self.files.values() {
            if Mask::open(path, MaskRule::AboveHalf)?.defective_pixels() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the mask named like `image` with `suffix`.
    fn take(&mut self, image: &Path, suffix: &str) -> Option<PathBuf> {
        let mut name = image.file_stem()?.to_os_string();
        name.push(suffix);
        let (path, used) = self.files.get_mut(&name)?;
        *used = true;
        Some(path.clone())
    }

    fn report_rest(self, notes: &mut Vec<String>) {
        let rest: Vec<_> = self.files.into_values().filter(|(_, used)| !used).map(|(path, _)| path).collect();
        note(notes, UNUSED_MASKS, &rest);
    }
}

/// Notes the number of files, and names the first ones.
fn note(notes: &mut Vec<String>, what: &str, files: &[PathBuf]) {
    if !files.is_empty() {
        notes.push(format!("{what}: {} ({}).", files.len(), named(files)));
    }
}

/// Notes pictures and folders outside of the layout.
fn note_loose(dir: &Path, folders: Vec<PathBuf>, notes: &mut Vec<String>) -> Result<()> {
    let listing = listing(dir)?;
    note(notes, "Pictures outside of the layout's folders, not used", &listing.taken);
    notes.extend(Listing { taken: Vec::new(), folders, ..listing }.passed_over());
    Ok(())
}

/// The folder as a path that ends in its name, unlike "." and "..".
fn by_name(dir: &Path) -> PathBuf {
    match dir.file_name() {
        Some(_) => dir.to_path_buf(),
        None => dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf()),
    }
}

fn folder_name(dir: &Path) -> String {
    by_name(dir).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The pictures directly in a folder, sorted; none if the folder is missing.
fn pictures(dir: &Path) -> Result<Vec<PathBuf>> {
    listed(dir, &mut Vec::new())
}

/// The same, with a note about other files.
fn listed(dir: &Path, notes: &mut Vec<String>) -> Result<Vec<PathBuf>> {
    let listing = listing(dir)?;
    notes.extend(listing.passed_over());
    let mut found = listing.taken;
    let mut lost = Vec::new();
    for path in &found {
        let target = path.metadata().map_err(|e| {
            let linked = path.is_symlink();
            let what = if linked { "is a link to a file that is not there" } else { "cannot be read" };
            Error::new(ErrorKind::Dataset, format!("the picture {} {what}", path.display())).with_source(e)
        })?;
        if !target.is_file() {
            lost.push(path.clone());
        }
    }
    note(notes, "Not used, because they are no files", &lost);
    found.retain(|path| !lost.contains(path));
    Ok(found)
}

fn listing(dir: &Path) -> Result<Listing> {
    if dir.is_dir() { Listing::of(dir) } else { Ok(Listing::default()) }
}

/// The folders directly in a folder, sorted; none if the folder is missing. A broken link without a file's
/// ending may have been a folder: it is an error.
fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let is_lost = |p: &PathBuf| {
        let hidden = p.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        !hidden && p.extension().is_none() && p.is_symlink() && !p.exists()
    };
    let entries = std::fs::read_dir(dir).and_then(|all| all.map(|e| e.map(|e| e.path())).collect());
    let entries: Vec<PathBuf> = entries.map_err(|e: std::io::Error| Error::io("list", dir, e))?;
    if let Some(lost) = entries.iter().filter(|p| is_lost(p)).min() {
        return Err(Error::new(
            ErrorKind::Dataset,
            format!("{} is a link to a folder or file that is not there", lost.display()),
        ));
    }
    Ok(listing(dir)?.folders)
}
