//! A trained network outside of packages: `NAME.onnx`, its manifest `NAME.toml` beside it, and for a network
//! for clicks its prompts `NAME.safetensors`. `weakrest-export` writes them.

use std::fmt::Display;
use std::path::Path;

use serde::Deserialize;

use super::manifest::{Scaling, geometry};
use super::network::{Backbone, Clicks, Head, Kind, NetworkInfo};
use super::prompts::Prompts;
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::imaging::Geometry;

/// Version of the manifest's keys.
const FORMAT: u32 = 3;

/// A verified network, ready for a package: a [`BackboneFile`] or a [`HeadFile`].
///
/// ```
/// use std::sync::Arc;
///
/// use weakrest::package::{BackboneFile, HeadFile, NetworkFile};
///
/// fn shared<K>(network: NetworkFile<K>) -> Arc<NetworkFile<K>> {
///     Arc::new(network)
/// }
/// let (backbone, head) = (shared(BackboneFile::built_in()?), shared(HeadFile::built_in()?));
/// # let _ = (backbone, head);
/// # Ok::<(), weakrest::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NetworkFile<K> {
    /// The manifest's description of it.
    pub(crate) info: NetworkInfo<K>,
    /// SHA-256 of the ONNX file, in hexadecimal.
    pub(crate) sha256: String,
    /// The ONNX file.
    pub(crate) onnx: Vec<u8>,
    /// Text of the license of its weights.
    pub(crate) license: String,
}

/// A backbone to enroll with.
pub type BackboneFile = NetworkFile<Backbone>;

/// A head for a package.
pub type HeadFile = NetworkFile<Head>;

/// A network for clicks, for a package.
///
/// ```no_run
/// use weakrest::Package;
/// use weakrest::package::ClickFile;
///
/// let mut package = Package::open("bottle.weakrest")?;
/// package.add_adclick(ClickFile::open("adclick.onnx")?)?;
/// package.write("bottle.weakrest", true)?;
/// # Ok::<(), weakrest::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClickFile {
    /// The network.
    pub(crate) network: NetworkFile<Clicks>,
    /// The prompts that it was trained with.
    pub(crate) prompts: Prompts,
}

/// The manifest beside the ONNX file.
#[derive(Deserialize)]
#[serde(bound(deserialize = "K: TryFrom<Kind, Error: Display>"))]
struct SideCar<K> {
    #[serde(rename = "format")]
    _format: u32,
    sha256: String,
    license_file: Option<String>,
    #[serde(flatten)]
    info: NetworkInfo<K>,
}

impl<K: Clone + Into<Kind> + TryFrom<Kind, Error: Display>> NetworkFile<K> {
    /// Reads `NAME.onnx` and its manifest `NAME.toml`; `path` is either of them.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file cannot be read; [`ErrorKind::Model`] when the manifest has another
    /// format or is of another kind of network, or the ONNX file has another hash.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let (manifest, network) =
            (path.as_ref().with_extension("toml"), path.as_ref().with_extension("onnx"));
        let read = |file: &Path| {
            std::fs::read(file).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => model(format!(
                    "there is no {}; a network is two files, {} and {}",
                    file.display(),
                    network.display(),
                    manifest.display()
                )),
                _ => Error::io("read", file, e),
            })
        };
        let onnx = read(&network)?;
        let text = String::from_utf8_lossy(&read(&manifest)?).into_owned();
        let license = |name: &str| {
            let only_a_name = Path::new(name).file_name() == Some(name.as_ref());
            let text = std::fs::read(files::parent(&manifest).join(name)).ok().filter(|_| only_a_name)?;
            Some(String::from_utf8_lossy(&text).into_owned())
        };
        Self::assemble(&text, onnx, license).map_err(|e| e.within(manifest.display()))
    }

    /// Verifies a network. `license` reads a file beside the manifest.
    fn assemble(text: &str, onnx: Vec<u8>, license: impl Fn(&str) -> Option<String>) -> Result<Self> {
        check_format(text)?;
        let SideCar::<K> { sha256, license_file, info, .. } = toml::from_str(text)
            .map_err(|e| model("not the manifest of such a network".into()).with_source(e))?;
        info.validate()?;
        if let Kind::Backbone(backbone) = info.kind.clone().into() {
            let smallest = Scaling {
                longest_side: backbone.multiple.min(Geometry::MAX_LONGEST_SIDE),
                native: false,
                ignore: Vec::new(),
            };
            geometry(&smallest, &backbone).validate().map_err(|e| model(e.reason()))?;
        }
        if files::sha256(&onnx) != sha256 {
            let wrong = "the ONNX file is not the one the manifest was made for (its SHA-256 differs)";
            return Err(model(wrong.into()));
        }
        let license = match license_file {
            None => format!("{}: {}\n", info.source, info.license),
            Some(name) => license(&name).ok_or_else(|| {
                model(format!("license_file is {name:?}; there is no such file beside the network"))
            })?,
        };
        Ok(NetworkFile { info, sha256, onnx, license })
    }
}

impl BackboneFile {
    /// The backbone of one scale that this program brings along.
    ///
    /// # Errors
    /// None in a program built from an intact source tree.
    pub fn built_in() -> Result<Self> {
        let onnx = include_bytes!("../../models/efficientnet-lite1.onnx");
        Self::efficientnet_lite(include_str!("../../models/efficientnet-lite1.toml"), onnx)
    }

    /// The backbone of three scales that this program brings along.
    ///
    /// # Errors
    /// None in a program built from an intact source tree.
    pub fn built_in_scales() -> Result<Self> {
        let onnx = include_bytes!("../../models/efficientnet-lite1-scales.onnx");
        Self::efficientnet_lite(include_str!("../../models/efficientnet-lite1-scales.toml"), onnx)
    }

    fn efficientnet_lite(manifest: &str, onnx: &[u8]) -> Result<Self> {
        let license = include_str!("../../models/LICENSE-efficientnet-lite");
        Self::assemble(manifest, onnx.to_vec(), |_| Some(license.to_owned()))
    }
}

impl HeadFile {
    /// The general head, for products without a head of their own. It reads residuals of the built-in
    /// backbone.
    ///
    /// # Errors
    /// None in a program built from an intact source tree.
    pub fn built_in() -> Result<Self> {
        let onnx = include_bytes!("../../models/general-head.onnx");
        Self::assemble(include_str!("../../models/general-head.toml"), onnx.to_vec(), |_| None)
    }
}

impl ClickFile {
    /// The general networks for clicks, one for each built-in backbone, for products without one of their own.
    ///
    /// # Errors
    /// None in a program built from an intact source tree.
    #[cfg(feature = "workshop")]
    pub fn built_in() -> Result<[Self; 2]> {
        macro_rules! network {
            ($name:literal) => {{
                let onnx = include_bytes!(concat!("../../models/", $name, ".onnx"));
                let text = include_str!(concat!("../../models/", $name, ".toml"));
                let network = NetworkFile::<Clicks>::assemble(text, onnx.to_vec(), |_| None)?;
                let prompts = include_bytes!(concat!("../../models/", $name, ".safetensors"));
                let prompts = Prompts::from_bytes(prompts, network.info.kind.prompt)?;
                ClickFile { network, prompts }
            }};
        }
        Ok([network!("adclick"), network!("adclick-scales")])
    }

    /// Reads `NAME.onnx`, its manifest `NAME.toml` and its prompts `NAME.safetensors`; `path` is any of them.
    ///
    /// # Errors
    /// As [`NetworkFile::open`]; [`ErrorKind::Model`](crate::ErrorKind::Model) for damaged prompts.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let network = NetworkFile::<Clicks>::open(path.as_ref())?;
        let prompts = path.as_ref().with_extension("safetensors");
        let bytes = std::fs::read(&prompts).map_err(|e| Error::io("read", &prompts, e))?;
        let prompts =
            Prompts::from_bytes(&bytes, network.info.kind.prompt).map_err(|e| e.within(prompts.display()))?;
        Ok(ClickFile { network, prompts })
    }
}

/// Refuses another format before anything else is read: its keys may differ.
fn check_format(text: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    match toml::from_str::<Version>(text) {
        Ok(Version { format }) if format != FORMAT => Err(model(format!(
            "the manifest has format {format}, and this program reads {FORMAT}; export the network again with the \
             weakrest-export of this version"
        ))),
        _ => Ok(()),
    }
}

fn model(text: String) -> Error {
    Error::new(ErrorKind::Model, text)
}
