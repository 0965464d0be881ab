//! Magnetic tile defects.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::listing::{Masks, folders, listed, note};
use super::{Category, Complain, Format, Sample};
use crate::error::Result;
use crate::imaging::{Mask, MaskRule};

pub(super) const MTD_GOOD: &str = "MT_Free";

/// The largest step between the capture numbers of one tile: six exposures, seconds apart. The step between
/// tiles is larger. In the published set no step lies between 149 and 166.
pub(super) const MTD_TILE_STEP: u64 = 150;

/// One of this many tiles is for testing.
pub(super) const MTD_TEST_SHARE: usize = 5;

/// The kind of picture that a folder of MTD holds: `MT_Crack` → `crack`.
pub(super) fn mtd_class(folder: &Path) -> Option<String> {
    Some(folder.file_name()?.to_str()?.strip_prefix("MT_")?.to_lowercase())
}

pub(super) fn read_mtd(dir: &Path, complain: Complain) -> Result<Category> {
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
