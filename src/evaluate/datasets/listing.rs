//! Folders, pictures and masks of all layouts.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Listing, Mask, MaskRule, named};

pub(super) const UNUSED_MASKS: &str = "Masks without a picture, not used";
pub(super) const DEFECTIVE_TRAINING: &str = "Defective training pictures, left out";

/// The mask files of a folder, by name without extension.
pub(super) struct Masks {
    files: BTreeMap<OsString, (PathBuf, bool)>,
}

impl Masks {
    pub(super) fn of(paths: Vec<PathBuf>) -> Self {
        let named = |p: PathBuf| p.file_stem().map(OsStr::to_os_string).map(|stem| (stem, (p, false)));
        Masks { files: paths.into_iter().filter_map(named).collect() }
    }

    /// Whether any of them has a defective pixel.
    pub(super) fn mark_anything(&self) -> Result<bool> {
        for (path, _) in self.files.values() {
            if Mask::open(path, MaskRule::AboveHalf)?.defective_pixels() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the mask named like `image` with `suffix`.
    pub(super) fn take(&mut self, image: &Path, suffix: &str) -> Option<PathBuf> {
        let mut name = image.file_stem()?.to_os_string();
        name.push(suffix);
        let (path, used) = self.files.get_mut(&name)?;
        *used = true;
        Some(path.clone())
    }

    pub(super) fn report_rest(self, notes: &mut Vec<String>) {
        let rest: Vec<_> = self.files.into_values().filter(|(_, used)| !used).map(|(path, _)| path).collect();
        note(notes, UNUSED_MASKS, &rest);
    }
}

/// Notes the number of files, and names the first ones.
pub(super) fn note(notes: &mut Vec<String>, what: &str, files: &[PathBuf]) {
    if !files.is_empty() {
        notes.push(format!("{what}: {} ({}).", files.len(), named(files)));
    }
}

/// Notes pictures and folders outside of the layout.
pub(super) fn note_loose(dir: &Path, folders: Vec<PathBuf>, notes: &mut Vec<String>) -> Result<()> {
    let listing = listing(dir)?;
    note(notes, "Pictures outside of the layout's folders, not used", &listing.taken);
    notes.extend(Listing { taken: Vec::new(), folders, ..listing }.passed_over());
    Ok(())
}

/// The folder as a path that ends in its name, unlike "." and "..".
pub(super) fn by_name(dir: &Path) -> PathBuf {
    match dir.file_name() {
        Some(_) => dir.to_path_buf(),
        None => dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf()),
    }
}

pub(super) fn folder_name(dir: &Path) -> String {
    by_name(dir).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The pictures directly in a folder, sorted; none if the folder is missing.
pub(super) fn pictures(dir: &Path) -> Result<Vec<PathBuf>> {
    listed(dir, &mut Vec::new())
}

/// The same, with a note about other files.
pub(super) fn listed(dir: &Path, notes: &mut Vec<String>) -> Result<Vec<PathBuf>> {
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

pub(super) fn listing(dir: &Path) -> Result<Listing> {
    if dir.is_dir() { Listing::of(dir) } else { Ok(Listing::default()) }
}

/// The folders directly in a folder, sorted; none if the folder is missing. A broken link without a file's
/// ending may have been a folder: it is an error.
pub(super) fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
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
