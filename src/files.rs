//! Writing files, whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::error::{Error, ErrorKind, Result};

/// How the names of files begin that are not finished.
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

/// The folder that `path` lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The text of a file that people edit: UTF-8, without the byte order mark that some editors put before it.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    text_from_bytes(fs::read(path).map_err(|e| Error::io("read", path, e))?)
        .map_err(|e| e.within(path.display()))
}

/// The same of bytes that were read.
pub(crate) fn text_from_bytes(bytes: Vec<u8>) -> Result<String> {
    const UTF_16: [&[u8]; 2] = [&[0xff, 0xfe], &[0xfe, 0xff]];
    // The mark may be missing; then letters come with zeros between them.
    let is_wide = UTF_16.iter().any(|mark| bytes.starts_with(mark)) || bytes.iter().take(64).any(|b| *b == 0);
    match String::from_utf8(bytes) {
        _ if is_wide => Err(Error::new(ErrorKind::Usage, "is UTF-16 text: save it as UTF-8")),
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
        Err(_) => Err(Error::new(ErrorKind::Usage, "is not UTF-8 text: save it as UTF-8")),
    }
}

/// A name of a file that is not longer than file systems take, with room for `more` bytes behind it. The end of one that is
/// too long gives way to the sum of it all: two names stay two.
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

/// The text of a file that holds a secret. Messages do not name it: people have put the secret itself where its file's
/// name belongs.
///
/// # Errors
/// [`ErrorKind::Io`] when it cannot be read.
pub(crate) fn read_secret(path: &Path) -> Result<String> {
    let bytes = fs::read(path)
        .map_err(|e| Error::new(ErrorKind::Io, "cannot read the file that it names").with_source(e))?;
    text_from_bytes(bytes)
}

/// Opens a folder below another, which no link and no `..` leads out of; `make` makes what is missing.
pub(crate) fn open_beneath(root: &Path, below: &Path, make: bool) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = openat(CWD, root, flags, Mode::empty())?;
    for part in below.components() {
        let Component::Normal(name) = part else { return Err(Errno::INVAL.into()) };
        if make {
            match mkdirat(&folder, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
        folder = openat(&folder, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(folder)
}

/// Writes files into a new directory beside `path` and moves it there when all are safely on disk.
pub(crate) fn write_directory(path: &Path, contents: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let parent = parent(path);
    let temporary = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempdir_in(parent)
        .map_err(|e| Error::io("write to", parent, e))?;
    let fresh = temporary.path().join("new");
    let doing = |e: std::io::Error| Error::io("write", path, e);
    fs::create_dir(&fresh).map_err(doing)?;
    for (name, bytes) in contents {
        write_new(&fresh.join(name), bytes).map_err(doing)?;
    }
    if path.symlink_metadata().is_ok() {
        let old = temporary.path().join("old");
        fs::rename(path, &old).map_err(doing)?;
        if let Err(e) = fs::rename(&fresh, path) {
            if let Err(again) = fs::rename(&old, path) {
                // What is temporary is removed in the end, and the old directory must not be.
                let kept = temporary.keep().join("old");
                let message = format!(
                    "cannot put {} back in its place; it is kept in {}",
                    path.display(),
                    kept.display()
                );
                return Err(Error::new(ErrorKind::Io, message).with_source(again));
            }
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

/// Writes a file that nobody looks at yet, and the folders that it lies in.
pub(crate) fn write_new(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(parent(file))?;
    let mut out = File::create(file)?;
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

/// A temporary file that, once it has its name, others may read as they may any other file: temporary files are
/// private by default.
pub(crate) fn new_file(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.prefix(TEMPORARY).tempfile_in(folder)
}
