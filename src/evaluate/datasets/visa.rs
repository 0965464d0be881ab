//! The visual anomaly data set.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::listing::{DEFECTIVE_TRAINING, UNUSED_MASKS, by_name, folder_name, note, pictures};
use super::{Category, Complain, Format, Sample};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::MaskRule;

pub(super) const VISA_SPLIT: &str = "split_csv/1cls.csv";

#[derive(Deserialize)]
pub(super) struct VisaRow {
    object: String,
    split: String,
    label: String,
    image: String,
    mask: Option<String>,
}

pub(super) fn read_visa(dir: &Path, complain: Complain) -> Result<Vec<Category>> {
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
