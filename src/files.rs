//! Reads and writes files. A file is written whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

use crate::error::{Error, ErrorKind, Result};

/// The start of the names of unfinished files.
pub(crate) const TEMPORARY: &str = ".weakrest-";

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The folder of `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Reads a text file that people edit: UTF-8, without the byte order mark of some editors.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    text_from_bytes(fs::read(path).map_err(|e| Error::io("read", path, e))?)
        .map_err(|e| e.within(path.display()))
}

/// The same for bytes that were read.
pub(crate) fn text_from_bytes(bytes: Vec<u8>) -> Result<String> {
    const UTF_16: [&[u8]; 2] = [&[0xff, 0xfe], &[0xfe, 0xff]];
    // Without a mark, letters have zeros between them.
    let is_wide = UTF_16.iter().any(|mark| bytes.starts_with(mark)) || bytes.iter().take(64).any(|b| *b == 0);
    match String::from_utf8(bytes) {
        _ if is_wide => Err(Error::new(ErrorKind::Usage, "is UTF-16 text; save it as UTF-8")),
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
        Err(_) => Err(Error::new(ErrorKind::Usage, "is not UTF-8 text; save it as UTF-8")),
    }
}

/// A file name within the limit of file systems, with room for `more` bytes. The end of a longer name is
/// replaced by a hash of the whole, so different names stay different.
pub(crate) fn short_name(name: &str, more: usize) -> String {
    const MOST: usize = 255;
    let most = MOST.saturating_sub(more);
    if name.len() <= most {
        return name.to_owned();
    }
    let hash = &sha256(name.as_bytes())[..16];
    let kept = name.floor_char_boundary(most.saturating_sub(hash.len() + 1));
    format!("{}-{hash}", &name[..kept])
}

/// Reads a file that holds a secret. Errors do not show its name, as people have put the secret itself there.
///
/// # Errors
/// [`ErrorKind::Io`] when it cannot be read.
pub(crate) fn read_secret(path: &Path) -> Result<String> {
    let bytes =
        fs::read(path).map_err(|e| Error::new(ErrorKind::Io, "cannot read the file").with_source(e))?;
    text_from_bytes(bytes)
}

/// Writes files into a new directory beside `path`, and moves it there when all are on disk. Everybody may
/// read them, whatever the umask: the service runs as another user than the person who enrolls.
pub(crate) fn write_directory(path: &Path, contents: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let parent = parent(path);
    sweep(parent);
    // The lock ends with the process. The rest may be swept then.
    let (temporary, _lock) = locked_folder(parent).map_err(|e| Error::io("write to", parent, e))?;
    let fresh = temporary.path().join(FRESH);
    let doing = |e: std::io::Error| Error::io("write", path, e);
    create_folder(&fresh).map_err(doing)?;
    for (name, bytes) in contents {
        write_new(&fresh.join(name), bytes).map_err(doing)?;
    }
    if path.symlink_metadata().is_err() {
        fs::rename(&fresh, path).map_err(doing)?;
    } else if renameat_with(CWD, &fresh, CWD, path, RenameFlags::EXCHANGE).is_err() {
        // Some file systems cannot exchange two folders.
        let old = temporary.path().join(OLD);
        fs::rename(path, &old).map_err(doing)?;
        if let Err(e) = fs::rename(&fresh, path) {
            if let Err(again) = fs::rename(&old, path) {
                // The temporary folder is removed at the end. The old directory must stay.
                let kept = temporary.keep().join(OLD);
                let message = format!(
                    "cannot put {} back in its place; it is kept in {}",
                    path.display(),
                    kept.display()
                );
                return Err(Error::new(ErrorKind::Io, message).with_source(again));
            }
            return Err(doing(e));
        }
    }
    // Some file systems cannot sync a directory; the files themselves are on disk by now.
    if let Ok(folder) = File::open(parent) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// The new directory, within a temporary folder.
const FRESH: &str = "new";
/// The replaced directory, within a temporary folder.
const OLD: &str = "old";

/// A temporary folder that [`sweep`] leaves alone while the lock is held.
fn locked_folder(parent: &Path) -> std::io::Result<(TempDir, File)> {
    loop {
        let folder = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(parent)?;
        // Between creating and locking another process may sweep it.
        let lock = match File::open(folder.path()) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        // Some file systems have no locks. Nothing is swept there.
        let _ = lock.lock();
        if folder.path().is_dir() {
            return Ok((folder, lock));
        }
    }
}

/// Removes the temporary folders of killed processes. A locked folder is in use. A folder with a replaced
/// directory may be its only copy, and stays.
pub(crate) fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let suffix = name.to_str().and_then(|name| name.strip_prefix(TEMPORARY));
        let ours = suffix.is_some_and(|s| s.len() == 6 && s.bytes().all(|b| b.is_ascii_alphanumeric()));
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        let Ok(lock) = File::open(&path) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        if path.join(OLD).exists() {
            log::warn!("{} holds a replaced directory; check it, then remove it", path.display());
        } else if let Err(e) = fs::remove_dir_all(&path) {
            log::warn!("{}", Error::io("remove", &path, e).chain());
        }
    }
}

/// Creates a folder that everybody may read.
pub(crate) fn create_folder(folder: &Path) -> std::io::Result<()> {
    fs::create_dir(folder)?;
    set_mode(folder, 0o755);
    Ok(())
}

/// Creates a file that everybody may read, and its folders. Nobody else uses it yet.
pub(crate) fn create_new(file: &Path) -> std::io::Result<File> {
    create_folders(parent(file))?;
    let created = File::create(file)?;
    set_mode(file, 0o644);
    Ok(created)
}

fn create_folders(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    create_folders(parent(folder))?;
    create_folder(folder)
}

/// Sets the mode, if the file system has modes.
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
}

/// Creates a file like [`create_new`], and writes it.
pub(crate) fn write_new(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut out = create_new(file)?;
    out.write_all(bytes)?;
    out.sync_all()
}

/// Writes one file, whole or not at all.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let doing = |e: std::io::Error| Error::io("write", path, e);
    let mut file = new_file(parent(path)).map_err(doing)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(doing)?;
    file.persist(path).map_err(|e| doing(e.error))?;
    Ok(())
}

/// A temporary file with the usual mode of files. Temporary files are private by default.
pub(crate) fn new_file(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.prefix(TEMPORARY).tempfile_in(folder)
}
