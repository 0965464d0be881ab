//! `package.toml`.

use std::collections::BTreeMap;
use std::fmt;

use posfar::Parameters;
use serde::{Deserialize, Serialize};

use super::damaged;
use super::network::{Backbone, Clicks, Head, HeadOutput, NetworkInfo, Scale};
use super::verified::MAX_BYTES;
use crate::anomaly::MapParameters;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, DefectKind, Geometry, Polygon};

/// The format that this version reads and writes.
pub const FORMAT: u32 = 4;

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
    /// How the copies differ that the bank has beside each image. Without any, it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variations: Vec<Variation>,
    /// Color and size of frames.
    pub input: InputInfo,
    /// How frames are scaled.
    pub scaling: Scaling,
    /// The backbone.
    pub backbone: NetworkInfo<Backbone>,
    /// Parameters of the banks and their search. `retrieval_channels` is the first bank's.
    pub posfar: Parameters,
    /// The backbone's scales, in their order.
    pub scales: Vec<ScaleInfo>,
    /// Parameters of the anomaly map.
    pub map: MapParameters,
    /// The head. Without it, a block's score is the geometric mean of its residuals' lengths in the scales, each
    /// divided by `median`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<NetworkInfo<Head>>,
    /// The labeler's network for clicks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adclick: Option<NetworkInfo<Clicks>>,
    /// The threshold and its origin.
    pub threshold: ThresholdInfo,
    /// What was enrolled or changed, when and by whom: a note each, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<String>,
    /// Synthetic defects that it rejects, kind by kind, small ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forecast: Vec<ForecastInfo>,
    /// The golden images.
    #[serde(default)]
    pub golden: Vec<GoldenInfo>,
    /// Every other file, with its hash.
    #[serde(default)]
    pub files: BTreeMap<String, FileInfo>,
}

/// Synthetic defects of one kind and size on good images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastInfo {
    /// Kind of the defects.
    pub kind: DefectKind,
    /// Their longest side, in pixels of the scaled image.
    pub size: u32,
    /// How many are rejected at the threshold.
    pub rejected: usize,
    /// How many there are.
    pub painted: usize,
}

/// What differs in the copy of a good image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variation {
    /// Brightness: of the whole image, and from one side to the other.
    Light,
    /// The camera's noise.
    Noise,
}

/// The residuals of good pictures in one scale, each picture matched without its part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleInfo {
    /// Root mean square of their values. Heads read residuals in this unit, so one head can serve all kinds of
    /// products.
    pub residual_scale: f32,
    /// Median of their lengths: the unit of the anomaly map.
    pub median: f32,
}

/// Color and size of frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputInfo {
    /// Gray or color.
    pub color: Color,
    /// One size, or `any`.
    pub size: FrameSize,
}

/// How frames are scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// Length of a frame's longest side after scaling, in pixels. For native frames a typical one.
    pub longest_side: u32,
    /// Frames keep their own size.
    #[serde(default)]
    pub native: bool,
    /// Areas that are neither learned nor inspected: corners in shares of a frame's width and height, 0 to 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<Polygon>,
}

/// Accepted sizes of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FrameSize {
    /// This width and height in pixels: one camera, one crop.
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

/// The threshold, its origin and its promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThresholdInfo {
    /// Scores above it are rejected.
    pub value: f32,
    /// Accepted share of false rejects, 0 to 1.
    pub false_reject_rate: f64,
    /// The rule that set the value.
    pub rule: ThresholdRule,
    /// Number of good images with leave-one-out scores.
    pub images: usize,
    /// Number of parts that these images show. The promise depends on it.
    pub parts: usize,
    /// Promised bound on the mean share of false rejects, for any distribution of scores. 0 to 1.
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
            parts: 0,
            promised_rate: 1.0,
            scores: [0.0; 3],
        }
    }
}

/// Rule for a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThresholdRule {
    /// The leave-one-out score of the right rank. It assumes nothing.
    Rank,
    /// A prediction limit for log-normal scores, if there are too few images for a rank.
    Tail,
    /// Half-way to the score of a painted defect, which the other rules would pass.
    Painted,
    /// Half-way to the score of a known defect, which the other rules would pass.
    Known,
    /// A person chose the value.
    Person,
}

/// Every [`ThresholdRule`] in words.
pub const THRESHOLD_RULES: [(ThresholdRule, &str); 5] = [
    (ThresholdRule::Rank, "rank of the leave-one-out scores"),
    (ThresholdRule::Tail, "log-normal tail of the leave-one-out scores"),
    (ThresholdRule::Painted, "half-way from the leave-one-out scores to a painted defect"),
    (ThresholdRule::Known, "half-way from the leave-one-out scores to a known defect"),
    (ThresholdRule::Person, "chosen by a person"),
];

/// A golden image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenInfo {
    /// Its file within the package.
    pub file: String,
    /// Its score.
    pub score: f32,
}

/// Hash and length of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileInfo {
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Length in bytes.
    pub bytes: u64,
}

/// Refuses another format. [`Manifest::parse`] refuses text without a format.
pub(super) fn check_format(text: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    match toml::from_str::<Version>(text) {
        Ok(version) if version.format != FORMAT => Err(damaged(format!(
            "the package has format {}, and this program reads format {FORMAT}; enroll again, or use the program's version \
             that made it",
            version.format
        ))),
        _ => Ok(()),
    }
}

impl Manifest {
    /// Reads and checks the text of `package.toml`.
    ///
    /// # Errors
    /// [`ErrorKind::Package`] if a key is missing, unknown or has a wrong value.
    pub fn parse(text: &str) -> Result<Self> {
        check_format(text)?;
        let manifest: Manifest =
            toml::from_str(text).map_err(|e| damaged("package.toml cannot be read".into()).with_source(e))?;
        let wrong = |e: Error| damaged("package.toml has a wrong value".into()).with_source(e);
        manifest.backbone.validate().map_err(wrong)?;
        manifest.head.as_ref().map_or(Ok(()), NetworkInfo::validate).map_err(wrong)?;
        manifest.adclick.as_ref().map_or(Ok(()), NetworkInfo::validate).map_err(wrong)?;
        manifest.geometry().validate().map_err(wrong)?;
        manifest.posfar.validate().map_err(|e| wrong(e.into()))?;
        manifest.map.validate().map_err(wrong)?;
        let scales = manifest.backbone.kind.scales.len();
        if manifest.scales.len() != scales {
            let text = format!("scales must have {scales} entries, as many as the backbone's");
            return Err(wrong(Error::new(ErrorKind::Usage, text)));
        }
        for ScaleInfo { residual_scale, median } in &manifest.scales {
            for (key, value) in [("residual_scale", residual_scale), ("median", median)] {
                if !(value.is_finite() && *value > 0.0) {
                    return Err(wrong(Error::new(ErrorKind::NotFinite, format!("{key} must be above 0"))));
                }
            }
        }
        let threshold = &manifest.threshold;
        let mut scores = threshold.scores.iter().chain(manifest.golden.iter().map(|g| &g.score));
        if !threshold.value.is_finite() || scores.any(|score| !score.is_finite()) {
            return Err(wrong(Error::new(
                ErrorKind::NotFinite,
                "the threshold or a score is not a finite number",
            )));
        }
        if [threshold.false_reject_rate, threshold.promised_rate].iter().any(|r| !(0.0..=1.0).contains(r)) {
            return Err(wrong(Error::new(
                ErrorKind::Usage,
                "false_reject_rate and promised_rate must be 0 to 1",
            )));
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

    /// Whether a head's probabilities replace the scores.
    pub fn scores_are_probabilities(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.kind.output() == HeadOutput::Probability)
    }

    /// How frames become the backbone's input.
    pub fn geometry(&self) -> Geometry {
        geometry(&self.scaling, &self.backbone.kind)
    }

    /// Parameters of each scale's bank.
    pub(super) fn parameters(&self) -> impl Iterator<Item = Parameters> {
        parameters(&self.posfar, &self.backbone.kind)
    }

    pub(super) fn to_text(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| damaged("the manifest cannot be written as TOML".into()).with_source(e))
    }
}

/// Parameters of the bank of each of a backbone's scales. Retrieval reads a scale's finest tap.
pub(crate) fn parameters(posfar: &Parameters, backbone: &Backbone) -> impl Iterator<Item = Parameters> {
    let of = |scale: &Scale| Parameters { retrieval_channels: scale.early_channels(), ..posfar.clone() };
    backbone.scales.iter().map(of)
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
        ignore: scaling.ignore.clone(),
    }
}
