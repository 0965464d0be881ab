//! `package.toml`.

use std::collections::BTreeMap;
use std::fmt;

use posfar::Parameters;
use serde::{Deserialize, Serialize};

use super::damaged;
use super::network::{Backbone, Clicks, Head, NetworkInfo};
use super::verified::MAX_BYTES;
use crate::anomaly::MapParameters;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, Geometry};

/// The format that this version reads and writes.
pub const FORMAT: u32 = 3;

/// What was enrolled, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Name of the part.
    pub product: String,
    /// Program and version that made the package.
    pub made_by: String,
    /// Number of good images enrolled.
    pub images: usize,
    /// What frames must look like.
    pub input: InputInfo,
    /// How frames are scaled.
    pub scaling: Scaling,
    /// The network that makes features.
    pub backbone: NetworkInfo<Backbone>,
    /// How the bank was made and is searched.
    pub posfar: Parameters,
    /// Root mean square of the residuals' values on good pictures, each without itself: the unit in which heads read
    /// residuals, so that one head can serve products of all kinds.
    pub residual_scale: f32,
    /// How the anomaly map is smoothed and read.
    pub map: MapParameters,
    /// The trained head; without it a block is as strange as its residual is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<NetworkInfo<Head>>,
    /// The network that turns clicks into masks, for the labeler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adclick: Option<NetworkInfo<Clicks>>,
    /// When to reject.
    pub threshold: ThresholdInfo,
    /// Self-test pictures.
    #[serde(default)]
    pub golden: Vec<GoldenInfo>,
    /// Every other file, with its hash.
    #[serde(default)]
    pub files: BTreeMap<String, FileInfo>,
}

/// What frames must look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputInfo {
    /// Gray or color.
    pub color: Color,
    /// The one size, or `any`.
    pub size: FrameSize,
}

/// How frames are scaled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// Length of a frame's longest side after scaling, in pixels. For native frames a typical one.
    pub longest_side: u32,
    /// Frames keep their own size.
    #[serde(default)]
    pub native: bool,
}

/// Which sizes of frames are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FrameSize {
    /// Exactly this width and height in pixels: one camera, one crop.
    Fixed(u32, u32),
    /// Every size.
    Any,
}

impl fmt::Display for FrameSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameSize::Fixed(width, height) => write!(f, "{width}x{height}"),
            FrameSize::Any => f.write_str("any"),
        }
    }
}

impl From<FrameSize> for String {
    fn from(size: FrameSize) -> String {
        size.to_string()
    }
}

impl TryFrom<String> for FrameSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "any" {
            return Ok(FrameSize::Any);
        }
        let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
        match sides {
            Some((width, height)) if width > 0 && height > 0 => Ok(FrameSize::Fixed(width, height)),
            _ => Err(format!("a size is \"any\" or WIDTHxHEIGHT, not {text:?}")),
        }
    }
}

/// When to reject, and what that can promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThresholdInfo {
    /// Scores above it are rejected.
    pub value: f32,
    /// The share of good parts that was allowed to be rejected, 0 to 1.
    pub false_reject_rate: f64,
    /// What set the value.
    pub rule: ThresholdRule,
    /// Good images whose leave-one-out scores it was chosen from.
    pub images: usize,
    /// The largest share of good parts that is rejected on average, whatever the distribution of their scores, as far
    /// as so many images can promise it. 0 to 1.
    pub promised_rate: f64,
    /// Lowest, median and highest leave-one-out score.
    pub scores: [f32; 3],
}

impl ThresholdInfo {
    /// Before any score is known.
    pub(crate) fn unset(false_reject_rate: f64) -> Self {
        ThresholdInfo {
            value: f32::MAX,
            false_reject_rate,
            rule: ThresholdRule::Rank,
            images: 0,
            promised_rate: 1.0,
            scores: [0.0; 3],
        }
    }
}

/// What set a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThresholdRule {
    /// The leave-one-out score of the right rank: needs no assumption.
    Rank,
    /// A prediction limit for log-normal scores, above every rank that so few images have.
    Tail,
    /// Half-way to what a painted defect scores, which so few images would let pass.
    Painted,
}

/// Every [`ThresholdRule`] in words.
pub const THRESHOLD_RULES: [(ThresholdRule, &str); 3] = [
    (ThresholdRule::Rank, "rank of the leave-one-out scores"),
    (ThresholdRule::Tail, "log-normal tail of the leave-one-out scores"),
    (ThresholdRule::Painted, "half-way from the leave-one-out scores to a painted defect"),
];

/// A self-test picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenInfo {
    /// Its file within the package.
    pub file: String,
    /// The score it must get.
    pub score: f32,
}

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileInfo {
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Length in bytes.
    pub bytes: u64,
}

/// Refuses a format that this version does not know. Text without any format is left to [`Manifest::parse`].
pub(super) fn check_format(text: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    match toml::from_str::<Version>(text) {
        Ok(version) if version.format != FORMAT => Err(damaged(format!(
            "the package has format {}, and this program reads format {FORMAT}; use the program's version that made it, \
             or enroll again",
            version.format
        ))),
        _ => Ok(()),
    }
}

impl Manifest {
    /// Reads and checks the text of `package.toml`.
    ///
    /// # Errors
    /// [`ErrorKind::Package`] with the line when a key is missing, unknown or has a wrong value.
    pub fn parse(text: &str) -> Result<Self> {
        check_format(text)?;
        let manifest: Manifest =
            toml::from_str(text).map_err(|e| damaged("package.toml cannot be read".into()).with_source(e))?;
        let wrong = |e: Error| damaged("package.toml has a value that cannot be".into()).with_source(e);
        manifest.backbone.validate().map_err(wrong)?;
        manifest.head.as_ref().map_or(Ok(()), NetworkInfo::validate).map_err(wrong)?;
        manifest.adclick.as_ref().map_or(Ok(()), NetworkInfo::validate).map_err(wrong)?;
        manifest.geometry().validate().map_err(wrong)?;
        manifest.posfar.validate().map_err(|e| wrong(e.into()))?;
        manifest.map.validate().map_err(wrong)?;
        if !(manifest.residual_scale.is_finite() && manifest.residual_scale > 0.0) {
            return Err(wrong(Error::new(ErrorKind::NotFinite, "residual_scale must be above 0")));
        }
        let threshold = &manifest.threshold;
        let mut scores = threshold.scores.iter().chain(manifest.golden.iter().map(|g| &g.score));
        if !threshold.value.is_finite() || scores.any(|score| !score.is_finite()) {
            return Err(wrong(Error::new(
                ErrorKind::NotFinite,
                "a threshold or score is not a finite number",
            )));
        }
        if [threshold.false_reject_rate, threshold.promised_rate].iter().any(|r| !(0.0..=1.0).contains(r)) {
            return Err(wrong(Error::new(ErrorKind::Usage, "a share of rejected parts must be 0 to 1")));
        }
        let bytes = manifest.files.values().fold(0u64, |sum, file| sum.saturating_add(file.bytes));
        if bytes > MAX_BYTES {
            return Err(wrong(Error::new(
                ErrorKind::Usage,
                format!("its files have {bytes} bytes, more than {MAX_BYTES}"),
            )));
        }
        Ok(manifest)
    }

    /// How frames become the backbone's input.
    pub fn geometry(&self) -> Geometry {
        geometry(&self.scaling, &self.backbone.kind)
    }

    pub(super) fn to_text(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| damaged("the manifest cannot be written as TOML".into()).with_source(e))
    }
}

/// How frames that are scaled like this become a backbone's input.
pub(crate) fn geometry(scaling: &Scaling, backbone: &Backbone) -> Geometry {
    Geometry {
        longest_side: scaling.longest_side,
        native: scaling.native,
        multiple: backbone.multiple,
        stride: backbone.stride,
        mean: backbone.mean,
        std: backbone.std,
    }
}
