//! Kolektor surface-defect data set 2.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::listing::{DEFECTIVE_TRAINING, Masks, listed, note};
use super::{Category, Complain, Format, Sample};
use crate::error::Result;
use crate::imaging::{Mask, MaskRule};

/// The number in a KSDD2 file name, and whether the file is a mask. `None` for other files.
pub(super) fn ksdd2_name(path: &Path) -> Option<(&str, bool)> {
    let stem = path.file_stem()?.to_str()?;
    let (number, mask) = match stem.strip_suffix("_GT") {
        Some(number) => (number, true),
        None => (stem, false),
    };
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some((number, mask))
}

pub(super) fn read_ksdd2(dir: &Path, complain: Complain) -> Result<Category> {
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
