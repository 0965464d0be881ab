//! A trained head to put into a package: an ONNX file and the manifest beside it, as `weakrest-export` writes them.

use std::path::Path;

use serde::Deserialize;

use super::manifest::HeadInfo;
use super::network_file::{NetworkFile, check_format, check_hash};
use crate::error::{Error, ErrorKind, Result};

/// The manifest beside a head. See `models/README.md` for each key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadManifest {
    /// Version of the manifest's format: 1.
    pub format: u32,
    /// Name of the head.
    pub name: String,
    /// What it was trained on.
    pub source: String,
    /// SPDX license of the weights.
    pub license: String,
    /// SHA-256 of the ONNX file, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of the backbone's ONNX file: residuals of another backbone mean nothing to the head.
    pub backbone: String,
    /// Channels of the residuals.
    pub channels: usize,
    /// Name of the graph's input.
    pub input: String,
    /// Name of the graph's output.
    pub output: String,
    /// What labels it was trained with.
    pub setting: String,
    /// Side of its windows in blocks; 0 for the whole grid at once.
    pub window: usize,
    /// From one window to the next, in blocks.
    pub step: usize,
    /// Whether it reads what the backbone saw, beside residuals, and judges cells of 2 pixels.
    #[serde(default)]
    pub sees_picture: bool,
}

/// A verified head, ready to be put into a package.
#[derive(Debug, Clone)]
pub struct HeadFile {
    /// What is known of it.
    pub manifest: HeadManifest,
    /// The ONNX file.
    pub onnx: Vec<u8>,
}

impl HeadFile {
    /// The head that this program brings along: for products that have none of their own, with the built-in network.
    ///
    /// # Errors
    /// None in a program that was built from an intact source tree, which its tests check.
    pub fn built_in() -> Result<Self> {
        let onnx = include_bytes!("../../models/general-head.onnx");
        Self::assemble(include_str!("../../models/general-head.toml"), onnx.to_vec())
    }

    /// Reads a head `NAME.onnx` and its manifest `NAME.toml`; `path` is either of them.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file cannot be read; [`ErrorKind::Model`] when the manifest is not one, the ONNX file's
    /// hash is not the manifest's, or the format is unknown.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = NetworkFile::read(path.as_ref())?;
        Self::assemble(&file.text, file.onnx).map_err(|e| e.within(file.manifest.display()))
    }

    pub(super) fn assemble(text: &str, onnx: Vec<u8>) -> Result<Self> {
        let model = |m: String| Error::new(ErrorKind::Model, m);
        let manifest: HeadManifest =
            toml::from_str(text).map_err(|e| model("not the manifest of a head".into()).with_source(e))?;
        check_format(manifest.format)?;
        if manifest.window > 0 && manifest.step == 0 {
            return Err(model("step must be at least 1 where there is a window".into()));
        }
        check_hash(&onnx, &manifest.sha256)?;
        Ok(HeadFile { manifest, onnx })
    }

    /// Refuses residuals of another backbone than the head was trained with; `sha256` is the backbone's.
    ///
    /// # Errors
    /// [`ErrorKind::Model`].
    pub fn check_backbone(&self, sha256: &str, channels: usize) -> Result<()> {
        if self.manifest.backbone == sha256 && self.manifest.channels == channels {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Model,
            format!(
                "the head {} was trained with another backbone than the package has: train one with this package",
                self.manifest.name
            ),
        ))
    }

    /// What a package says of it.
    pub fn info(&self) -> HeadInfo {
        let HeadManifest { name, source, license, setting, window, step, sees_picture, .. } =
            self.manifest.clone();
        HeadInfo { name, source, license, setting, window, step, sees_picture }
    }
}
