//! State that outlives the process: small JSON files in the state folder.
//!
//! The folder does not depend on the contents of the configuration, so it is found even if those are broken.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::files;

/// The state folder of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFolder(PathBuf);

impl StateFolder {
    /// `folder` if it is given (systemd sets `STATE_DIRECTORY` to `/var/lib/weakrest`), or `CONFIG.state`
    /// beside the configuration.
    pub fn locate(folder: Option<PathBuf>, config: &Path) -> Self {
        StateFolder(folder.unwrap_or_else(|| {
            let mut name = OsString::from(config);
            name.push(".state");
            PathBuf::from(name)
        }))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Reads a file in the folder. `None` if it does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read, or is damaged.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.file(name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        let damaged = |e| {
            let message = format!("{} is damaged; check it, then remove it", path.display());
            Error::new(ErrorKind::Io, message).with_source(e)
        };
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// Writes a file in the folder, whole or not at all. Creates the folder if it is missing.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::StorageFull`].
    pub fn write(&self, name: &str, content: &impl Serialize) -> Result<()> {
        let path = self.file(name);
        std::fs::create_dir_all(&self.0).map_err(|e| Error::io("create", &self.0, e))?;
        let mut bytes =
            serde_json::to_vec_pretty(content).map_err(|e| Error::io("write", &path, e.into()))?;
        bytes.push(b'\n');
        files::write_file(&path, &bytes)?;
        // The new name is on disk only after its folder is.
        if let Ok(folder) = std::fs::File::open(&self.0) {
            let _ = folder.sync_all();
        }
        Ok(())
    }

    /// Removes a file in the folder, if it exists.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path, e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_damaged_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::locate(None, &folder.path().join("weakrest.toml"));
        assert_eq!(state.read::<u32>("n.json").unwrap(), None);
        state.write("n.json", &7).unwrap();
        assert_eq!(state.read("n.json").unwrap(), Some(7));
        assert!(folder.path().join("weakrest.toml.state/n.json").is_file());
        std::fs::write(state.file("n.json"), "{").unwrap();
        assert!(state.read::<u32>("n.json").unwrap_err().chain().contains("is damaged"));
        state.remove("n.json").unwrap();
        state.remove("n.json").unwrap();
        assert_eq!(state.read::<u32>("n.json").unwrap(), None);
    }
}
