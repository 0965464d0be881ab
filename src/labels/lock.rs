//! The lock of a label file: one process at a time works on it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};

/// A lock file holds a process number, and nothing longer.
const LONGEST: u64 = 20;

/// A held lock. Dropping it releases it. The system releases it when the process is killed; the left file
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
    /// [`ErrorKind::Usage`] when another process holds it or its path is another file; [`ErrorKind::Io`] when
    /// the file system refuses.
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
                // A link may lead to somebody else's file.
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
                        "another weakrest label (process {}) uses this label file: use its page, or end it first",
                        owner.trim()
                    );
                    return Err(Error::new(ErrorKind::Usage, text).within(labels.display()));
                }
                Err(TryLockError::Error(e)) => return Err(doing(e)),
            }
            // The last holder may have removed the file after it was opened here. Such a lock holds nothing.
            if !is_same(&file, &path) {
                continue;
            }
            // For the message to the next process.
            let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            return Ok(Lock { file, path });
        }
    }
}

fn is_foreign(path: &Path) -> Error {
    let text = "is in the place of the label file's lock, but is another file: move it away";
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
