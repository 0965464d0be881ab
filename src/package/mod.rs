//! The package: a folder with everything needed to inspect one kind of part.
//!
//! | file | what |
//! |---|---|
//! | `package.toml` | the manifest: product, settings, threshold, and the SHA-256 of every other file |
//! | `package.sha256` | the SHA-256 of `package.toml`; `sha256sum -c package.sha256` checks it, too |
//! | `backbone.onnx` | the backbone |
//! | `bank-1.safetensors`, … | the tokens of the good parts in each scale: see [`posfar::BankParts`] |
//! | `head.onnx` | the head; optional |
//! | `adclick.onnx`, `adclick.safetensors` | the network for clicks and its prompts; optional |
//! | `pictures.sha256` | the SHA-256 of the pixels and the number of the part of each enrolled picture, in the bank's order |
//! | `golden/*.png` | the golden images: they must get the scores in the manifest |
//! | `backbone-license.txt` | the license of the backbone's weights |
//! | `package.toml.minisig` | the signature of `package.toml`; optional: see [`PublicKeys`] |
//!
//! Each file is read once, verified, and used from the verified bytes. A package is written under another
//! name and renamed when it is complete.

mod bank_file;
mod golden;
pub(crate) mod install;
mod manifest;
mod network;
mod network_file;
mod pictures;
mod prompts;
mod recipes;
mod signature;
mod source;
#[cfg(test)]
mod tests;
mod verified;

pub(crate) use bank_file::{bank_from_bytes, bytes_from_bank};
pub(crate) use golden::{Golden, ORDINARY, PAINTED, STRANGEST, Standard, golden_tolerance, painted};
pub use manifest::Variation;
pub(crate) use manifest::{
    FORMAT, FileInfo, ForecastInfo, FrameSize, GoldenInfo, InputInfo, Manifest, ScaleInfo, Scaling,
    THRESHOLD_RULES, ThresholdInfo, ThresholdRule, geometry, parameters,
};
#[cfg(feature = "workshop")]
pub(crate) use network::Clicks;
#[cfg(test)]
pub(crate) use network::Tap;
pub(crate) use network::{
    Backbone, BlockHead, Head, HeadOutput, NetworkInfo, ReadsResiduals, Scale, SeeingHead,
};
pub use network_file::{BackboneFile, ClickFile, HeadFile, NetworkFile};
pub(crate) use pictures::{Digest, Pictures};
pub(crate) use prompts::Prompts;
pub(crate) use recipes::{NUMBERS, Recipe, RecipeFolder, product_of};
pub use signature::PublicKeys;
pub(crate) use signature::Signed;
pub(crate) use source::Source;

use std::collections::BTreeMap;
use std::path::Path;

use image::ImageEncoder;
use posfar::Bank;

use crate::error::{Error, ErrorKind, Hint, Result};
use crate::files;
use crate::imaging::{Color, Frame};

const MANIFEST: &str = "package.toml";
const MANIFEST_HASH: &str = "package.sha256";
const SIGNATURE: &str = "package.toml.minisig";
const BACKBONE: &str = "backbone.onnx";
const BACKBONE_LICENSE: &str = "backbone-license.txt";
const HEAD: &str = "head.onnx";
const ADCLICK: &str = "adclick.onnx";
const PROMPTS: &str = "adclick.safetensors";
const PICTURES: &str = "pictures.sha256";

/// A verified package in memory.
///
/// ```no_run
/// use weakrest::Package;
/// use weakrest::package::PublicKeys;
///
/// let package = Package::open("bottle.weakrest")?;
/// let keys = PublicKeys::read(&["plant.pub".into()])?;
/// let signed = Package::open_signed("bottle.weakrest", &keys)?;
/// # Ok::<(), weakrest::Error>(())
/// ```
pub struct Package {
    /// `package.toml`.
    pub(crate) manifest: Manifest,
    /// The backbone's ONNX file.
    pub(crate) backbone: Vec<u8>,
    /// The license of the backbone's weights.
    pub(crate) backbone_license: String,
    /// Tokens of the good parts, one bank for each of the backbone's scales.
    pub(crate) banks: Vec<Bank>,
    /// The enrolled pictures, in the banks' order.
    pub(crate) pictures: Pictures,
    /// The head's ONNX file. Present if [`Manifest::head`] is.
    pub(crate) head: Option<Vec<u8>>,
    /// The click network's ONNX file and its prompts. Present if [`Manifest::adclick`] is.
    pub(crate) adclick: Option<(Vec<u8>, Prompts)>,
    /// The golden images.
    pub(crate) golden: Vec<Golden>,
    /// SHA-256 of the manifest, in hexadecimal. It identifies the package, because the manifest holds all
    /// other hashes.
    pub(crate) hash: String,
    /// The signature, if it was verified.
    pub(crate) signed: Option<Signed>,
}

impl Package {
    /// Reads and verifies a package.
    ///
    /// # Errors
    /// - [`ErrorKind::Io`] if a file cannot be read.
    /// - [`ErrorKind::Package`] if the folder is not a package, has another format, or a file is missing,
    ///   changed or outside the folder.
    /// - [`ErrorKind::NotFinite`] if the bank holds NaN.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_signed(path, &PublicKeys::default())
    }

    /// As [`Package::open`], for a package signed with one of these keys. The signature is verified first.
    /// Without keys, no signature is needed.
    ///
    /// # Errors
    /// As [`Package::open`], and [`ErrorKind::Package`] if none of the keys has signed it.
    pub fn open_signed(path: impl AsRef<Path>, keys: &PublicKeys) -> Result<Self> {
        let root = path.as_ref();
        Self::read(root, keys).map_err(|e| e.within(root.display()))
    }

    /// The hash of the package at a path, unverified.
    pub(crate) fn hash_at(root: &Path) -> Result<String> {
        Ok(files::sha256(&verified::read(root, MANIFEST, None)?))
    }

    fn read(root: &Path, keys: &PublicKeys) -> Result<Self> {
        if !root.is_dir() {
            let what =
                if root.exists() { "a package is a folder, not a file" } else { "there is no such package" };
            return Err(damaged(what.into()));
        }
        if root.join(MANIFEST).symlink_metadata().is_err() {
            return Err(damaged(format!(
                "{MANIFEST} is missing: this is not a package, or an incomplete one"
            )));
        }
        let text = verified::read(root, MANIFEST, None)?;
        let signed = match keys.is_empty() {
            true => None,
            false => Some(keys.verify(&text, &verified::read(root, SIGNATURE, None)?)?),
        };
        let hash = files::sha256(&text);
        let text = String::from_utf8(text).map_err(|_| damaged(format!("{MANIFEST} is not text")))?;
        // The format comes first: another one may hash differently.
        manifest::check_format(&text)?;
        let recorded = verified::read(root, MANIFEST_HASH, None)?;
        if recorded != hash_line(&hash).into_bytes() {
            return Err(damaged(format!("{MANIFEST} was changed after the package was made; enroll again"))
                .with_hint(Hint::Changed));
        }
        let manifest = Manifest::parse(&text)?;
        let mut contents: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for (name, info) in &manifest.files {
            contents.insert(name, verified::read(root, name, Some(info))?);
        }
        let mut take = |name: &str| {
            contents.remove(name).ok_or_else(|| damaged(format!("{MANIFEST} does not list {name}")))
        };
        let backbone = take(BACKBONE)?;
        let backbone_license = String::from_utf8_lossy(&take(BACKBONE_LICENSE)?).into_owned();
        let pictures = Pictures::from_text(&take(PICTURES)?);
        let mut banks = Vec::new();
        for (number, (scale, parameters)) in
            manifest.backbone.kind.scales.iter().zip(manifest.parameters()).enumerate()
        {
            let name = bank_name(number);
            let bank = bank_from_bytes(&take(&name)?, &parameters).map_err(|e| e.within(&name))?;
            if bank.channels() != scale.channels {
                return Err(damaged(format!(
                    "{name} has {} channels, but the backbone's scale {}",
                    bank.channels(),
                    scale.channels
                )));
            }
            if pictures.as_ref().is_none_or(|pictures| pictures.len() != bank.images()) {
                return Err(damaged(format!(
                    "{PICTURES} does not hold one SHA-256 and one part for each of the {} pictures in {name}",
                    bank.images()
                )));
            }
            banks.push(bank);
        }
        let pictures = pictures.unwrap_or_default();
        let head = manifest.head.as_ref().map(|_| take(HEAD)).transpose()?;
        let adclick = match &manifest.adclick {
            Some(info) => Some((take(ADCLICK)?, Prompts::from_bytes(&take(PROMPTS)?, info.kind.prompt)?)),
            None => None,
        };
        let sha256 = manifest.files.get(BACKBONE).map_or("", |file| file.sha256.as_str());
        let unfit = |e: Error| damaged(format!("{MANIFEST} has a network that does not fit")).with_source(e);
        if let Some(info) = &manifest.head {
            info.check_backbone(sha256, &manifest.backbone.kind).map_err(unfit)?;
        }
        if let Some(info) = &manifest.adclick {
            info.check_backbone(sha256, &manifest.backbone.kind).map_err(unfit)?;
        }
        let tolerance = golden_tolerance(manifest.threshold.value, manifest.scores_are_probabilities());
        let golden = manifest
            .golden
            .iter()
            .map(|info| {
                let frame = Frame::decode(&take(&info.file)?).map_err(|e| e.within(&info.file))?;
                Ok(Golden { frame, info: info.clone(), tolerance })
            })
            .collect::<Result<_>>()?;
        Ok(Package {
            manifest,
            backbone,
            backbone_license,
            banks,
            pictures,
            head,
            adclick,
            golden,
            hash,
            signed,
        })
    }

    /// Writes the package to `path`, whole or not at all.
    ///
    /// The manifest's list of files is renewed. An existing package is replaced only with `overwrite`. If
    /// writing fails, it stays unchanged.
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`] if `path` exists and `overwrite` is not set, or is not a package.
    /// - [`ErrorKind::StorageFull`] or [`ErrorKind::Io`] if writing fails.
    pub fn write(&mut self, path: impl AsRef<Path>, overwrite: bool) -> Result<()> {
        let path = path.as_ref();
        check_target(path, overwrite)?;
        let mut contents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        contents.insert(BACKBONE.into(), self.backbone.clone());
        contents.insert(BACKBONE_LICENSE.into(), self.backbone_license.clone().into_bytes());
        for (number, bank) in self.banks.iter().enumerate() {
            contents.insert(bank_name(number), bytes_from_bank(bank)?);
        }
        contents.insert(PICTURES.into(), self.pictures.to_text().into_bytes());
        if let Some(head) = &self.head {
            contents.insert(HEAD.into(), head.clone());
        }
        if let (Some(info), Some((onnx, prompts))) = (&self.manifest.adclick, &self.adclick) {
            contents.insert(ADCLICK.into(), onnx.clone());
            contents.insert(PROMPTS.into(), prompts.to_bytes(info.kind.prompt)?);
        }
        for golden in &self.golden {
            contents.insert(golden.info.file.clone(), png(&golden.frame)?);
        }
        self.manifest.files = contents
            .iter()
            .map(|(name, bytes)| {
                (name.clone(), FileInfo { sha256: files::sha256(bytes), bytes: bytes.len() as u64 })
            })
            .collect();
        self.manifest.golden = self.golden.iter().map(|g| g.info.clone()).collect();
        let text = self.manifest.to_text()?;
        self.hash = files::sha256(text.as_bytes());
        self.signed = None;
        contents.insert(MANIFEST_HASH.into(), hash_line(&self.hash).into_bytes());
        contents.insert(MANIFEST.into(), text.into_bytes());
        files::write_directory(path, &contents)
    }

    /// Adds a network for clicks, or replaces the one in the package.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] if it was trained with another backbone.
    pub fn add_adclick(&mut self, file: ClickFile) -> Result<()> {
        file.network.info.check_backbone(&files::sha256(&self.backbone), &self.manifest.backbone.kind)?;
        self.manifest.adclick = Some(file.network.info);
        self.adclick = Some((file.network.onnx, file.prompts));
        Ok(())
    }

    /// Number of tokens in all banks.
    pub(crate) fn tokens(&self) -> usize {
        self.banks.iter().map(Bank::len).sum()
    }

    /// Bytes on disk, by the manifest.
    pub(crate) fn size(&self) -> u64 {
        self.manifest.files.values().map(|f| f.bytes).sum()
    }
}

/// Checks whether a package may be written to `path`: before long work, and again before writing.
///
/// # Errors
/// [`ErrorKind::Usage`] if `path` exists, or its folder does not.
pub(crate) fn check_target(path: &Path, overwrite: bool) -> Result<()> {
    let usage = |m: String| Err(Error::new(ErrorKind::Usage, m));
    if path.file_name().is_none() {
        return usage(format!("{} cannot be the name of a package", path.display()));
    }
    let parent = files::parent(path);
    if !parent.is_dir() {
        return usage(format!("the folder {} does not exist; create it first", parent.display()));
    }
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    if !path.join(MANIFEST).is_file() {
        return usage(format!("{} exists and is not a package; choose another name", path.display()));
    }
    if !overwrite {
        let text = format!("{} exists", path.display());
        return Err(Error::new(ErrorKind::Usage, text).with_hint(Hint::Exists));
    }
    Ok(())
}

/// The file of a scale's bank.
fn bank_name(scale: usize) -> String {
    format!("bank-{}.safetensors", scale + 1)
}

/// The content of `package.sha256`, as `sha256sum` writes it.
fn hash_line(hash: &str) -> String {
    format!("{hash}  {MANIFEST}\n")
}

fn png(frame: &Frame) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let color = match frame.color() {
        Color::Gray => image::ExtendedColorType::L8,
        Color::Rgb => image::ExtendedColorType::Rgb8,
    };
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(frame.pixels(), frame.width(), frame.height(), color)
        .map_err(|e| Error::new(ErrorKind::Image, "cannot encode a golden image").with_source(e))?;
    Ok(bytes)
}

pub(crate) fn damaged(message: String) -> Error {
    Error::new(ErrorKind::Package, message)
}
