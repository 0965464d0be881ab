//! TensorRT's engines on disk: whole, of this machine, and built by one process at a time.
//!
//! TensorRT writes an engine in place. After a lost power, a full disk or an update the file stays as it is, and every
//! session that finds it fails.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file whose lock says that a process reads or builds the engines beside it.
const LOCK: &str = "lock";

/// A folder of engines, locked until it is dropped.
pub(super) struct Engines {
    folder: PathBuf,
    _lock: Option<File>,
}

impl Engines {
    /// Opens a folder, and waits while another process builds its engines. `None` if it cannot be made.
    ///
    /// Engines that cannot be kept are a warning: without them the network runs as well, only later.
    pub fn open(folder: PathBuf) -> Option<Engines> {
        let lock = match create(&folder) {
            Ok(lock) => lock,
            Err(e) => {
                log::warn!(
                    "TensorRT's engines cannot be kept, so every start builds them for minutes: {}; let this user write \
                     to inspection.cache",
                    e.chain()
                );
                // Another user may have filled it.
                return folder.is_dir().then_some(Engines { folder, _lock: None });
            }
        };
        let locked = match lock.try_lock() {
            Err(TryLockError::WouldBlock) => {
                log::info!(
                    "waiting for another process that builds TensorRT's engines in {}",
                    folder.display()
                );
                lock.lock()
            }
            Err(TryLockError::Error(e)) => Err(e),
            Ok(()) => Ok(()),
        };
        if let Err(e) = locked {
            // Some file systems have no locks.
            log::debug!("{} cannot be locked: {e}", folder.display());
        }
        Some(Engines { folder, _lock: Some(lock) })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes what the folder holds. Whether it held something, and is now empty.
    pub fn discard(&self) -> bool {
        let remove = || -> std::io::Result<usize> {
            let mut removed = 0;
            for entry in std::fs::read_dir(&self.folder)? {
                let entry = entry?;
                if entry.file_name() != LOCK {
                    std::fs::remove_file(entry.path())?;
                    removed += 1;
                }
            }
            Ok(removed)
        };
        remove().unwrap_or_else(|e| {
            log::warn!("{} cannot be emptied: {e}; delete it", self.folder.display());
            0
        }) > 0
    }
}

/// The folder's lock. Whoever can create that file can keep engines, too.
fn create(folder: &Path) -> Result<File> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io("create the folder", folder, e))?;
    let path = folder.join(LOCK);
    File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| Error::io("write", &path, e))
}
