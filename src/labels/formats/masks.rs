//! Mask files in MVTec layout: `TYPE/NAME_mask.png`, defects white.

use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{Collected, Found, Labeled, Log, Shelf, wrong};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::files;
use crate::imaging::{Mask, MaskRule, Seen, check_together, png_from_mask};
use crate::labels::file::Tag;
use crate::labels::pictures;
use crate::labels::shapes::painted;

/// The folder of masks without a type.
const UNTYPED: &str = "defect";
const SUFFIX: &str = "_mask";

/// The labels in a folder of masks.
pub fn read(folder: &Path, shelf: &Shelf, log: &mut Log) -> Result<Vec<Collected>> {
    let root = fs::canonicalize(folder).map_err(|e| Error::io("read", folder, e))?;
    let mut collected: Vec<Collected> = Vec::new();
    let mut marked: Vec<(PathBuf, Seen)> = Vec::new();
    let mut empty = 0;
    let (files, passed_over) = pictures::find(&root, &HashSet::new())?;
    log.notes.extend(passed_over);
    for found in files {
        let (one, mask) = match mask_of(&found, shelf) {
            Ok(read) => read,
            Err(e) => {
                log.bad.push(e.within(&found.name));
                continue;
            }
        };
        match Seen::from(&mask) {
            Seen::Empty => {
                empty += 1;
                continue;
            }
            seen => marked.push((found.path, seen)),
        }
        match collected.iter_mut().find(|c| c.found == one.found) {
            // Defects of two types in one picture.
            Some(old) => {
                old.shapes.extend(one.shapes);
            }
            None => collected.push(one),
        }
    }
    log.notes.extend(check_together(&marked).map_err(|e| wrong(e.to_string()))?);
    if empty > 0 {
        log.notes.push(format!("left out: {empty} masks without a defective pixel"));
    }
    Ok(collected)
}

/// A mask and its picture's label.
fn mask_of(file: &Found, shelf: &Shelf) -> Result<(Collected, Mask)> {
    let stem = stem_of(&file.name);
    let stem = stem.strip_suffix(SUFFIX).unwrap_or(stem);
    let (kind, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    let kind = kind.rsplit('/').next().unwrap_or_default();
    let picture = picture_of(stem, kind, name, shelf)?;
    let mask = Mask::open(&file.path, MaskRule::AboveHalf)?;
    let mut one = Collected::new(picture, Some((mask.width(), mask.height())))?;
    if mask.defective_pixels() > 0 {
        one.marked = true;
        one.paint(mask.bits().to_vec())?;
        if !kind.is_empty() && kind != UNTYPED {
            one.name(0..1, kind);
        }
    }
    Ok((one, mask))
}

fn stem_of(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, ending)) if !ending.contains('/') => stem,
        _ => name,
    }
}

/// The picture of a mask: the one at the same path, in a folder with the type's name, or the only one with
/// that name.
fn picture_of<'a>(stem: &str, kind: &str, name: &str, shelf: &'a Shelf) -> Result<&'a Found> {
    let of = |matches: &dyn Fn(&str) -> bool| -> Vec<&'a Found> {
        shelf.all.iter().filter(|found| matches(stem_of(&found.name))).collect()
    };
    let ends = format!("{kind}/{name}");
    let tries: [&dyn Fn(&str) -> bool; 4] = [
        &|s| s == stem,
        &|s| s == ends || s.ends_with(&format!("/{ends}")),
        &|s| s.rsplit('/').next().is_some_and(|file| mask_name(file) == name),
        &|s| mask_name(&flat(s)) == name,
    ];
    for matches in tries {
        match of(matches)[..] {
            [] => {}
            [found] => return Ok(found),
            _ => {
                return Err(wrong(format!(
                    "several pictures have the name {name}: put the mask into the picture's folder"
                )));
            }
        }
    }
    Err(wrong(format!(
        "there is no picture {stem} for it: name the folder of the pictures, or add the picture"
    )))
}

/// The name of a picture's mask without its suffix: the picture's name, shortened if it is too long for a
/// file.
fn mask_name(name: &str) -> String {
    files::short_name(name, SUFFIX.len() + ".png".len())
}

/// A path as one file name.
fn flat(stem: &str) -> String {
    stem.replace('/', "-")
}

/// Writes a mask for each picture with a shape. Boxes are filled.
pub fn write(
    folder: &Path,
    labeled: &[Labeled],
    shelf: &Shelf,
    overwrite: bool,
    notes: &mut Vec<String>,
) -> Result<()> {
    let (mut files, mut taken) = (Vec::<(PathBuf, Vec<u8>)>::new(), HashSet::new());
    let mut tagged = 0;
    for one in labeled.iter().filter(|one| one.label.tag == Tag::Defective) {
        if one.is_only_tagged() {
            tagged += 1;
            continue;
        }
        // One mask for each type.
        let mut kinds: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
        for shape in &one.label.shapes {
            let bits = painted(&shape.form, one.size);
            match kinds.entry(shape.kind.as_deref().unwrap_or(UNTYPED)) {
                Vacant(new) => drop(new.insert(bits)),
                Occupied(mut old) => old.get_mut().iter_mut().zip(bits).for_each(|(a, b)| *a |= b),
            }
        }
        for (kind, bits) in kinds {
            if kind.contains(['/', '\\']) || kind.starts_with('.') {
                return Err(wrong(format!(
                    "the type {kind:?} of {} cannot name a folder: change it",
                    one.name
                )));
            }
            let stem = stem_of(one.name);
            let short = stem.rsplit('/').next().unwrap_or(stem);
            let is_clear = picture_of(&format!("{kind}/{short}"), kind, short, shelf)
                .is_ok_and(|found| found.name == one.name);
            let path = [is_clear.then(|| short.to_owned()), Some(flat(stem)), Some(flat(one.name))]
                .into_iter()
                .flatten()
                .map(|name| format!("{}{SUFFIX}.png", mask_name(&name)))
                .map(|name| folder.join(kind).join(name))
                .find(|path| !taken.contains(path))
                .ok_or_else(|| {
                    wrong(format!("there is no free name for the mask of {}: rename it", one.name))
                })?;
            if path.exists() && !overwrite {
                let error = Error::new(ErrorKind::Usage, "exists");
                return Err(error.within(path.display()).with_hint(Hint::Exists));
            }
            taken.insert(path.clone());
            files.push((path, png_from_mask(&Mask::new(one.size.0, one.size.1, bits)?)?));
        }
    }
    if tagged > 0 {
        notes.push(format!("left out: {tagged} defective pictures without a shape"));
    }
    for (path, bytes) in files {
        let parent = files::parent(&path);
        fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
        files::write_file(&path, &bytes)?;
    }
    Ok(())
}
