//! The product: a directory that holds all it takes to inspect one kind of part.
//!
//! | file | what |
//! |---|---|
//! | `package.toml` | the [`Manifest`]: what was enrolled, how, the threshold, the SHA-256 of every other file |
//! | `package.sha256` | the SHA-256 of `package.toml`; `sha256sum -c package.sha256` checks it too |
//! | `backbone.onnx` | the network that makes features |
//! | `bank.safetensors` | the good parts' tokens: see [`posfar::BankParts`] |
//! | `head.onnx` | the trained head, if there is one |
//! | `adclick.onnx`, `adclick.safetensors` | the network that turns clicks into masks, and its prompts, if there is one |
//! | `pictures.sha256` | the SHA-256 of each enrolled picture's pixels, in the order of their numbers in the bank |
//! | `golden/*.png` | pictures that must get the scores in the manifest; the ordinary one shows whether the threshold can judge |
//! | `backbone-license.txt` | the license of the network's weights |
//! | `package.toml.minisig` | the signature of `package.toml`, if it was signed: see [`PublicKeys`] |
//!
//! Everything is read once, checked, and used from the checked bytes. A package is written beside its place and moved
//! there when it is complete.

mod bank_file;
mod golden;
pub mod install;
mod manifest;
mod network;
mod network_file;
mod prompts;
mod signature;
mod source;
#[cfg(test)]
mod tests;
mod verified;

pub use bank_file::{bank_from_bytes, bytes_from_bank};
pub use golden::Golden;
pub(crate) use golden::{ORDINARY, PAINTED, STRANGEST, Standard, golden_tolerance, painted};
pub(crate) use manifest::geometry;
pub use manifest::{
    FORMAT, FileInfo, FrameSize, GoldenInfo, InputInfo, Manifest, Scaling, THRESHOLD_RULES, ThresholdInfo,
    ThresholdRule,
};
pub use network::{
    Backbone, BlockHead, ChannelOrder, Clicks, Head, Kind, NetworkInfo, ReadsResiduals, SeeingHead, Tap,
};
pub use network_file::{BackboneFile, ClickFile, HeadFile, NetworkFile};
pub use prompts::{Prompt, Prompts};
pub use signature::{PublicKeys, Signed};
pub use source::Source;

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
const BANK: &str = "bank.safetensors";

/// A verified package in memory.
pub struct Package {
    /// What was enrolled, and how.
    pub manifest: Manifest,
    /// Bytes of the ONNX network.
    pub backbone: Vec<u8>,
    /// License text of the network's weights.
    pub backbone_license: String,
    /// Tokens of the good parts.
    pub bank: Bank,
    /// SHA-256 of each enrolled picture's pixels, by its number in the bank.
    pub pictures: Vec<[u8; 32]>,
    /// Bytes of the head's ONNX network, when [`Manifest::head`] is there.
    pub head: Option<Vec<u8>>,
    /// Bytes of ADClick's ONNX network and its prompts, when [`Manifest::adclick`] is there.
    pub adclick: Option<(Vec<u8>, Prompts)>,
    /// Self-test pictures.
    pub golden: Vec<Golden>,
    /// SHA-256 of the manifest, in hexadecimal: names the package, since the manifest holds all other hashes.
    pub hash: String,
    /// What its signature says, where that was verified.
    pub signed: Option<Signed>,
}

impl Package {
    /// Reads and verifies a package.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file cannot be read; [`ErrorKind::Package`] when the directory is no package, its
    /// format is unknown, or a file is missing, changed, or outside the directory; [`ErrorKind::NotFinite`] when the
    /// bank holds NaN. Messages name the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_signed(path, &PublicKeys::default())
    }

    /// The same for a package that must be signed with one of some keys. Its signature is verified before anything
    /// else is looked at. Without keys it need not be signed.
    ///
    /// # Errors
    /// As [`Package::open`], and [`ErrorKind::Package`] when it is not signed, or not with one of the keys.
    pub fn open_signed(path: impl AsRef<Path>, keys: &PublicKeys) -> Result<Self> {
        let root = path.as_ref();
        Self::read(root, keys).map_err(|e| e.within(root.display()))
    }

    fn read(root: &Path, keys: &PublicKeys) -> Result<Self> {
        if !root.is_dir() {
            let what =
                if root.exists() { "a package is a folder, not a file" } else { "there is no such package" };
            return Err(damaged(what.into()));
        }
        if root.join(MANIFEST).symlink_metadata().is_err() {
            return Err(damaged(format!("{MANIFEST} is missing, so this is no package, or not all of it")));
        }
        let text = verified::read(root, MANIFEST, None)?;
        let signed = match keys.is_empty() {
            true => None,
            false => Some(keys.verify(&text, &verified::read(root, SIGNATURE, None)?)?),
        };
        let hash = files::sha256(&text);
        let text = String::from_utf8(text).map_err(|_| damaged(format!("{MANIFEST} is not text")))?;
        // The version comes first: a newer format may well have another way of hashing.
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
        let bank = bank_from_bytes(&take(BANK)?, &manifest.posfar).map_err(|e| e.within(BANK))?;
        if bank.channels() != manifest.backbone.kind.channels {
            return Err(damaged(format!(
                "the bank has {} channels, but the backbone {}",
                bank.channels(),
                manifest.backbone.kind.channels
            )));
        }
        let pictures = digests_from_text(&take(PICTURES)?).filter(|p| p.len() == bank.images());
        let pictures = pictures.ok_or_else(|| {
            damaged(format!("{PICTURES} does not hold a SHA-256 for each of {} pictures", bank.images()))
        })?;
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
        let tolerance = golden_tolerance(manifest.threshold.value, head.is_some());
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
            bank,
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
    /// The manifest's list of files and their hashes is made anew. An existing package is replaced only with
    /// `overwrite`, and stays as it was when writing fails.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when `path` exists and must not be replaced, or is something else than a package;
    /// [`ErrorKind::StorageFull`] or [`ErrorKind::Io`] when writing fails.
    pub fn write(&mut self, path: impl AsRef<Path>, overwrite: bool) -> Result<()> {
        let path = path.as_ref();
        check_target(path, overwrite)?;
        let mut contents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        contents.insert(BACKBONE.into(), self.backbone.clone());
        contents.insert(BACKBONE_LICENSE.into(), self.backbone_license.clone().into_bytes());
        contents.insert(BANK.into(), bytes_from_bank(&self.bank)?);
        contents.insert(PICTURES.into(), text_from_digests(&self.pictures).into_bytes());
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

    /// Puts the network that turns clicks into masks into the package. One that is there already is replaced.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when it was trained with another backbone.
    pub fn add_adclick(&mut self, file: ClickFile) -> Result<()> {
        file.network.info.check_backbone(&files::sha256(&self.backbone), &self.manifest.backbone.kind)?;
        self.manifest.adclick = Some(file.network.info);
        self.adclick = Some((file.network.onnx, file.prompts));
        Ok(())
    }

    /// Bytes that the package takes on disk, as its manifest tells.
    pub fn size(&self) -> u64 {
        self.manifest.files.values().map(|f| f.bytes).sum()
    }
}

/// Whether a package may be written to `path`: checked before long work, and again when it is written.
///
/// # Errors
/// [`ErrorKind::Usage`] when `path` is taken, or the folder that it is to lie in does not exist.
pub fn check_target(path: &Path, overwrite: bool) -> Result<()> {
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

/// One digest per line, in hexadecimal.
fn text_from_digests(digests: &[[u8; 32]]) -> String {
    digests.iter().map(|digest| files::hex(digest) + "\n").collect()
}

fn digests_from_text(bytes: &[u8]) -> Option<Vec<[u8; 32]>> {
    let digest = |line: &str| -> Option<[u8; 32]> {
        let pairs = line.as_bytes().chunks(2).map(|p| std::str::from_utf8(p).ok());
        let bytes: Option<Vec<u8>> = pairs.map(|p| u8::from_str_radix(p?, 16).ok()).collect();
        bytes?.try_into().ok()
    };
    std::str::from_utf8(bytes).ok()?.lines().map(digest).collect()
}

/// Content of the file with the manifest's hash, as `sha256sum` writes it.
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
