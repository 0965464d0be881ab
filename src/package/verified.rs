//! Reads exactly the files that a manifest lists.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path};

use super::manifest::FileInfo;
use super::{SIGNATURE, damaged};
use crate::error::{Error, Hint, Result};
use crate::files::sha256;

/// Limit for a package's files together, far above any real one.
pub(super) const MAX_BYTES: u64 = 4 << 30;

/// Limit for a file that the manifest does not list, such as itself.
pub(super) const MAX_MANIFEST: u64 = 1 << 20;

/// Refuses a name outside the package.
pub(super) fn check_name(name: &str) -> Result<()> {
    let inside = Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
    if inside && !name.is_empty() {
        return Ok(());
    }
    Err(damaged(format!("the manifest names {name:?}, which is not a file inside the package")))
}

/// The error for a file that differs from the manifest's entry.
pub(super) fn changed(name: &str) -> Error {
    damaged(format!("{name} was changed or is incomplete; copy the package again, or enroll again"))
}

/// Reads a file of the package and checks it against its entry, if it has one.
pub(crate) fn read(root: &Path, name: &str, expected: Option<&FileInfo>) -> Result<Vec<u8>> {
    let file = open(root, name, expected)?;
    let most = expected.map_or(MAX_MANIFEST, |e| e.bytes);
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io("read", &root.join(name), e))?;
    let as_expected = expected.is_none_or(|e| e.sha256 == sha256(&bytes));
    if bytes.len() as u64 > most || !as_expected {
        return Err(changed(name));
    }
    Ok(bytes)
}

/// Opens a file of the package and checks its length against its entry, if it has one.
pub(super) fn open(root: &Path, name: &str, expected: Option<&FileInfo>) -> Result<File> {
    check_name(name)?;
    let relative = Path::new(name);
    // A link anywhere below the root could lead outside, so each step is checked.
    let mut path = root.to_path_buf();
    for component in relative.components() {
        path.push(component);
        let meta = match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && name == SIGNATURE => {
                return Err(damaged("there is no signature; the package was not signed".into())
                    .with_hint(Hint::Unsigned));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(damaged(format!("{name} is missing; copy the package again, or enroll again")));
            }
            other => other.map_err(|e| Error::io("read", &path, e))?,
        };
        if meta.file_type().is_symlink() {
            return Err(damaged(format!("{name} is a symbolic link; copy the file itself into the package")));
        }
    }
    let meta = fs::metadata(&path).map_err(|e| Error::io("read", &path, e))?;
    if !meta.is_file() {
        // Reading a pipe or a device could take forever.
        return Err(damaged(format!("{name} is not a file; copy the package again, or enroll again")));
    }
    let most = if expected.is_some() { MAX_BYTES } else { MAX_MANIFEST };
    if meta.len() > most || expected.is_some_and(|e| e.bytes != meta.len()) {
        return Err(changed(name));
    }
    File::open(&path).map_err(|e| Error::io("read", &path, e))
}
