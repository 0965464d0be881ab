//! MVTec-AD, and layouts like it: a folder of pictures for each kind of part, masks beside them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::listing::{Masks, folder_name, folders, listed, note_loose};
use super::{Category, Complain, MaskSource, Sample};
use crate::error::{Hint, Result};
use crate::imaging::MaskRule;

/// A layout like MVTec's: its files below a category's folder and a type's folder.
pub(super) struct Tree {
    good: &'static str,
    pictures: &'static str,
    masks: fn(category: &Path, kind: &OsStr) -> PathBuf,
    /// What follows the picture's name in a mask's name, in order of preference.
    suffixes: &'static [&'static str],
}

pub(super) const MVTEC: Tree = Tree {
    good: "good",
    pictures: "",
    masks: |category, kind| category.join("ground_truth").join(kind),
    suffixes: &["_mask", ""],
};

pub(super) const MVTEC3D: Tree = Tree {
    good: "good",
    pictures: "rgb",
    masks: |category, kind| category.join("test").join(kind).join("gt"),
    suffixes: &[""],
};

pub(super) const BTAD: Tree = Tree {
    good: "ok",
    pictures: "",
    masks: |category, kind| category.join("ground_truth").join(kind),
    suffixes: &[""],
};

/// Whether a folder's name says good parts, in factory words: `OK`, `i.O.`, `Good parts`.
pub(super) fn is_good_name(name: &str) -> bool {
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

pub(super) fn read_tree(dir: &Path, tree: &Tree, good: &[String], complain: Complain) -> Result<Category> {
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
