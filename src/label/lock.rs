//! One process at a time works on a label file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

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
    /// [`ErrorKind::Usage`] when another process has it; [`ErrorKind::Io`] when there can be no lock.
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
                .open(&path)
                .map_err(doing)?;
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

fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(open), Ok(named)) = (file.metadata(), path.metadata()) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}
