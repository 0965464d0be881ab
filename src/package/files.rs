//! Reading what was promised, and writing all or nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path};

use sha2::{Digest, Sha256};

use super::damaged;
use super::manifest::FileInfo;
use crate::error::{Error, ErrorKind, Result};

/// Larger files are not read: no part of a package comes near it.
const MAX_BYTES: u64 = 4 << 30;

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The folder that `path` lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Reads a file of the package, checked against the manifest where it says what to expect.
pub(crate) fn read(root: &Path, name: &str, expected: Option<&FileInfo>) -> Result<Vec<u8>> {
    let relative = Path::new(name);
    if name.is_empty() || !relative.components().all(|c| matches!(c, Component::Normal(_))) {
        return Err(damaged(format!("the manifest names {name:?}, which is not a file inside the package")));
    }
    // A link anywhere below the root could lead outside, so every step is looked at.
    let mut path = root.to_path_buf();
    for component in relative.components() {
        path.push(component);
        let meta = match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(damaged(format!("{name} is missing; copy the package again, or enroll again")));
            }
            other => other.map_err(|e| Error::io("read", &path, e))?,
        };
        if meta.file_type().is_symlink() {
            return Err(damaged(format!("{name} is a symbolic link; a package must hold its own files")));
        }
    }
    let length = fs::metadata(&path).map_err(|e| Error::io("read", &path, e))?.len();
    let changed = || damaged(format!("{name} was changed or is incomplete; copy the package again, or enroll again"));
    if length > MAX_BYTES || expected.is_some_and(|e| e.bytes != length) {
        return Err(changed());
    }
    let bytes = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
    if expected.is_some_and(|e| e.sha256 != sha256(&bytes)) {
        return Err(changed());
    }
    Ok(bytes)
}

/// Writes files into a new directory beside `path` and moves it there when all are safely on disk.
pub(crate) fn write_directory(path: &Path, contents: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let parent = parent(path);
    let temporary = tempfile::Builder::new()
        .prefix(".weakrest-")
        .tempdir_in(parent)
        .map_err(|e| Error::io("write to", parent, e))?;
    let fresh = temporary.path().join("new");
    let doing = |e: std::io::Error| Error::io("write", path, e);
    fs::create_dir(&fresh).map_err(doing)?;
    for (name, bytes) in contents {
        let file = fresh.join(name);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(doing)?;
        }
        let mut out = File::create(&file).map_err(doing)?;
        out.write_all(bytes).and_then(|()| out.sync_all()).map_err(doing)?;
    }
    if path.symlink_metadata().is_ok() {
        let old = temporary.path().join("old");
        fs::rename(path, &old).map_err(doing)?;
        if let Err(e) = fs::rename(&fresh, path) {
            fs::rename(&old, path).map_err(|again| {
                Error::new(ErrorKind::Io, format!("cannot put {} back in its place", path.display()))
                    .with_source(again)
            })?;
            return Err(doing(e));
        }
    } else {
        fs::rename(&fresh, path).map_err(doing)?;
    }
    // Some file systems cannot sync a directory; the files themselves are on disk by now.
    if let Ok(folder) = File::open(parent) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Writes one file, whole or not at all.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let doing = |e: std::io::Error| Error::io("write", path, e);
    let mut file =
        tempfile::Builder::new().prefix(".weakrest-").tempfile_in(parent(path)).map_err(doing)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(doing)?;
    file.persist(path).map_err(|e| doing(e.error))?;
    Ok(())
}
