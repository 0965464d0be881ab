//! A network to enroll with: an ONNX file and the manifest beside it, as `weakrest-export` writes them.

use std::path::Path;

use serde::Deserialize;

use super::network_file::{NetworkFile, check_format, check_hash};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::Geometry;

/// The manifest beside a network. See `models/README.md` for each key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneManifest {
    /// Version of the manifest's format: 1.
    pub format: u32,
    /// Name of the network.
    pub name: String,
    /// Where its weights come from.
    pub source: String,
    /// SPDX license of the weights.
    pub license: String,
    /// File beside the manifest with the license's text, if the source has one.
    pub license_file: Option<String>,
    /// SHA-256 of the ONNX file, in hexadecimal.
    pub sha256: String,
    /// Name of the graph's input.
    pub input: String,
    /// Name of the graph's output.
    pub output: String,
    /// Order of the input's channels: `rgb`.
    pub color: String,
    /// Mean of each channel for pixel values in 0..1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel for pixel values in 0..1.
    pub std: [f32; 3],
    /// Pixels per grid cell.
    pub stride: u32,
    /// Input sides must be multiples of this.
    pub multiple: u32,
    /// Channels of the output: the taps' together, or fewer when they were pooled.
    pub channels: usize,
    /// The joined feature maps, in the order of the output's channels.
    pub taps: Vec<Tap>,
}

/// One feature map of a network.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tap {
    /// Pixels per cell of the feature map.
    pub stride: u32,
    /// Its channels.
    pub channels: usize,
    /// What it is multiplied with in the graph: how much it counts in distances.
    pub scale: f32,
}

/// A verified network, ready to be put into a package.
#[derive(Debug, Clone)]
pub struct Backbone {
    /// What is known of it.
    pub manifest: BackboneManifest,
    /// The ONNX file.
    pub onnx: Vec<u8>,
    /// Text of the license.
    pub license: String,
}

impl Backbone {
    /// The network that this program brings along.
    ///
    /// # Errors
    /// None in a program that was built from an intact source tree, which its tests check.
    pub fn built_in() -> Result<Self> {
        Self::assemble(
            include_str!("../../models/efficientnet-lite1.toml"),
            include_bytes!("../../models/efficientnet-lite1.onnx").to_vec(),
            include_str!("../../models/LICENSE-efficientnet-lite").to_owned(),
        )
    }

    /// Reads a network `NAME.onnx` and its manifest `NAME.toml`; `path` is either of them.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file cannot be read; [`ErrorKind::Model`] when the manifest is not one, the ONNX file's
    /// hash is not the manifest's, or the format is unknown.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = NetworkFile::read(path.as_ref())?;
        let mut backbone = Self::assemble(&file.text, file.onnx.clone(), String::new())
            .map_err(|e| e.within(file.manifest.display()))?;
        let BackboneManifest { license_file, source, license, .. } = &backbone.manifest;
        backbone.license = file.license(license_file.as_deref(), source, license)?;
        Ok(backbone)
    }

    /// Channels, from the first, of the output that come from the tap of the finest stride.
    pub fn early_channels(&self) -> usize {
        let taps = &self.manifest.taps;
        let joined: usize = taps.iter().map(|t| t.channels).sum();
        (taps[0].channels * self.manifest.channels).div_ceil(joined.max(1))
    }

    fn assemble(text: &str, onnx: Vec<u8>, license: String) -> Result<Self> {
        let model = |m: String| Error::new(ErrorKind::Model, m);
        let manifest: BackboneManifest =
            toml::from_str(text).map_err(|e| model("not the manifest of a network".into()).with_source(e))?;
        check_format(manifest.format)?;
        if manifest.color != "rgb" {
            return Err(model(format!("color must be \"rgb\", not {:?}", manifest.color)));
        }
        let joined: usize = manifest.taps.iter().map(|t| t.channels).sum();
        if manifest.channels == 0 || joined < manifest.channels {
            return Err(model(format!(
                "taps of {joined} channels cannot make an output of {}",
                manifest.channels
            )));
        }
        let geometry = Geometry {
            longest_side: manifest.multiple.min(Geometry::MAX_LONGEST_SIDE),
            native: false,
            multiple: manifest.multiple,
            stride: manifest.stride,
            mean: manifest.mean,
            std: manifest.std,
        };
        geometry.validate().map_err(|e| model(e.reason()))?;
        check_hash(&onnx, &manifest.sha256)?;
        Ok(Backbone { manifest, onnx, license })
    }
}
