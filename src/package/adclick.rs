//! ADClick to put into a package: an ONNX file, its manifest, and its prompts beside it, as `weakrest-export` writes them.

use std::path::Path;

use super::head::HeadFile;
use super::prompts::Prompts;
use crate::error::{Error, Result};

/// A verified network that makes masks, ready to be put into a package.
#[derive(Debug, Clone)]
pub struct ClickFile {
    /// The network and its manifest, which has the same keys as a head's.
    pub network: HeadFile,
    /// What it was trained to understand.
    pub prompts: Prompts,
}

impl ClickFile {
    /// The one that this program brings along: for products that have none of their own, with the built-in backbone.
    ///
    /// # Errors
    /// None in a program that was built from an intact source tree, which its tests check.
    #[cfg(feature = "workshop")]
    pub fn built_in() -> Result<Self> {
        let onnx = include_bytes!("../../models/adclick.onnx");
        let network = HeadFile::assemble(include_str!("../../models/adclick.toml"), onnx.to_vec())?;
        let prompts = Prompts::from_bytes(include_bytes!("../../models/adclick.safetensors"))?;
        Ok(ClickFile { network, prompts })
    }

    /// Reads `NAME.onnx`, its manifest `NAME.toml` and its prompts `NAME.safetensors`; `path` is any of them.
    ///
    /// # Errors
    /// As [`HeadFile::open`] and [`Prompts::from_bytes`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let network = HeadFile::open(path.as_ref())?;
        let prompts = path.as_ref().with_extension("safetensors");
        let bytes = std::fs::read(&prompts).map_err(|e| Error::io("read", &prompts, e))?;
        let prompts = Prompts::from_bytes(&bytes).map_err(|e| e.within(prompts.display()))?;
        Ok(ClickFile { network, prompts })
    }
}
