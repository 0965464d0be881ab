//! One process at a time works on a label file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};

/// What a lock's file holds at most: the number of a process.
const LONGEST: u64 = 20;

/// Held as long as it lives. The system lets go of it when the process ends, however it ends: what is left of the file
/// `NAME.lock` then locks nothing.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of a label file.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when another process has it, or its file is something else; [`ErrorKind::Io`] when there can be
    /// no lock.
    pub fn take(labels: &Path) -> Result<Lock> {
        let mut name = labels.as_os_str().to_os_string();
        name.push(".lock");
        let path = PathBuf::from(name);
        let doing = |e| Error::io("lock", &path, e);
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                // Behind a link lies a file of somebody else's.
                .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
                .open(&path)
                .map_err(|e| match Errno::from_io_error(&e) {
                    Some(Errno::LOOP) => is_foreign(&path),
                    _ => doing(e),
                })?;
            let metadata = file.metadata().map_err(doing)?;
            if !metadata.is_file() || metadata.nlink() > 1 || metadata.len() > LONGEST {
                return Err(is_foreign(&path));
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut owner = String::new();
                    let _ = file.read_to_string(&mut owner);
                    let text = format!(
                        "another weakrest label (process {}) works on this label file: use its page, or end it first",
                        owner.trim()
                    );
                    return Err(Error::new(ErrorKind::Usage, text).within(labels.display()));
                }
                Err(TryLockError::Error(e)) => return Err(doing(e)),
            }
            // Whoever had it before may have removed the file between opening and locking: then this locks nothing.
            if !is_same(&file, &path) {
                continue;
            }
            // Only told to people.
            let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            return Ok(Lock { file, path });
        }
    }
}

fn is_foreign(path: &Path) -> Error {
    let text = "is not the lock of a label file, but in its place: move it away";
    Error::new(ErrorKind::Usage, text).within(path.display())
}

fn is_same(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

impl Drop for Lock {
    fn drop(&mut self) {
        if is_same(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
        let _ = self.file.unlock();
    }
}
