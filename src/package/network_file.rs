//! Networks outside of packages: `NAME.onnx` and its manifest `NAME.toml` beside it.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::files;

/// The two files of a network.
pub(super) struct NetworkFile {
    /// The ONNX file.
    pub onnx: Vec<u8>,
    /// Text of the manifest.
    pub text: String,
    /// Where the manifest is.
    pub manifest: PathBuf,
}

impl NetworkFile {
    /// Reads both; `path` is either of them.
    pub fn read(path: &Path) -> Result<Self> {
        let (manifest, network) = (path.with_extension("toml"), path.with_extension("onnx"));
        let read = |file: &Path| {
            std::fs::read(file).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => Error::new(
                    ErrorKind::Model,
                    format!(
                        "there is no {}; a network is two files, {} and {}",
                        file.display(),
                        network.display(),
                        manifest.display()
                    ),
                ),
                _ => Error::io("read", file, e),
            })
        };
        let onnx = read(&network)?;
        let text = String::from_utf8_lossy(&read(&manifest)?).into_owned();
        Ok(NetworkFile { onnx, text, manifest })
    }

    /// Text of the license file beside the manifest, or a line when there is none.
    pub fn license(&self, file: Option<&str>, source: &str, license: &str) -> Result<String> {
        let Some(name) = file else { return Ok(format!("{source}: {license}\n")) };
        let only_a_name = Path::new(name).file_name() == Some(name.as_ref());
        let text = std::fs::read(files::parent(&self.manifest).join(name)).ok().filter(|_| only_a_name);
        let text = text.ok_or_else(|| {
            let wrong = format!("license_file is {name:?}; there is no such file beside the network");
            Error::new(ErrorKind::Model, wrong).within(self.manifest.display())
        })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Refuses a manifest of another format.
pub(super) fn check_format(format: u32) -> Result<()> {
    if format == 1 {
        return Ok(());
    }
    let wrong = format!("the manifest has format {format}, and this program reads 1");
    Err(Error::new(ErrorKind::Model, wrong))
}

/// Refuses a network whose hash is not its manifest's.
pub(super) fn check_hash(onnx: &[u8], sha256: &str) -> Result<()> {
    if files::sha256(onnx) == sha256 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Model,
        "the ONNX file is not the one the manifest was made for (its SHA-256 differs)",
    ))
}
