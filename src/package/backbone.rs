//! A network to enroll with: an ONNX file and the manifest beside it, as `weakrest-export` writes them.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};
use crate::files;
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
        let path = path.as_ref();
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
        let mut backbone =
            Self::assemble(&text, onnx, String::new()).map_err(|e| e.within(manifest.display()))?;
        backbone.license = match &backbone.manifest.license_file {
            None => format!("{}: {}\n", backbone.manifest.source, backbone.manifest.license),
            Some(name) => {
                let only_a_name = Path::new(name).file_name() == Some(name.as_ref());
                let text = std::fs::read(files::parent(path).join(name)).ok().filter(|_| only_a_name);
                let text = text.ok_or_else(|| {
                    let wrong = format!("license_file is {name:?}; there is no such file beside the network");
                    Error::new(ErrorKind::Model, wrong).within(manifest.display())
                })?;
                String::from_utf8_lossy(&text).into_owned()
            }
        };
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
        if manifest.format != 1 {
            return Err(model(format!(
                "the manifest has format {}, and this program reads 1",
                manifest.format
            )));
        }
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
            multiple: manifest.multiple,
            stride: manifest.stride,
            mean: manifest.mean,
            std: manifest.std,
        };
        geometry.validate().map_err(|e| model(e.reason()))?;
        if files::sha256(&onnx) != manifest.sha256 {
            return Err(model(
                "the ONNX file is not the one the manifest was made for (its SHA-256 differs)".into(),
            ));
        }
        Ok(Backbone { manifest, onnx, license })
    }
}
