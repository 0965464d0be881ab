//! The description of a trained network. It stands in `NAME.toml` beside `NAME.onnx`, and in `package.toml`.

use std::fmt::Display;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind, Result};

/// A network's description. `K` is its kind: [`Backbone`], [`Head`] or [`Clicks`].
///
/// In TOML all keys stand in one table, and `kind` names the kind.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkInfo<K> {
    /// Name of the network.
    pub name: String,
    /// Origin of a backbone's weights; training data of the others.
    pub source: String,
    /// SPDX license of the weights.
    pub license: String,
    /// The keys of its kind.
    pub kind: K,
}

/// The keys of one kind of network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// Picture to features.
    Backbone(Backbone),
    /// Residuals to two logits per block.
    BlockHead(BlockHead),
    /// Residuals and picture to a logit per cell.
    SeeingHead(SeeingHead),
    /// Residuals, picture, clicks and words to a logit per cell.
    Clicks(Clicks),
}

/// Makes a grid of features of a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backbone {
    /// Order of the input's channels.
    pub color: ChannelOrder,
    /// Mean of each channel for pixel values in 0..1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel for pixel values in 0..1.
    pub std: [f32; 3],
    /// Pixels per grid cell.
    pub stride: u32,
    /// Input sides must be multiples of this.
    pub multiple: u32,
    /// Groups of channels, in the order of the output's. Each has a bank of its own.
    pub scales: Vec<Scale>,
}

/// Channels of a backbone's output that are compared together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Its channels: all taps together, or fewer if they were pooled.
    pub channels: usize,
    /// The joined feature maps, in the order of the channels.
    pub taps: Vec<Tap>,
}

/// Order of color channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red first.
    Rgb,
}

/// One feature map of a backbone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tap {
    /// Pixels per cell of the feature map.
    pub stride: u32,
    /// Its channels.
    pub channels: usize,
    /// Factor in the graph: its weight in distances.
    pub weight: f32,
}

/// A network that judges a part by its residuals.
#[derive(Debug, Clone, PartialEq)]
pub enum Head {
    /// It reads residuals and judges blocks.
    Block(BlockHead),
    /// It also reads the picture and judges cells, which are smaller than blocks.
    Seeing(SeeingHead),
}

/// A head that reads residuals and judges blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockHead {
    /// SHA-256 of the backbone's ONNX file. Residuals of another backbone mean nothing to the head.
    pub backbone: String,
    /// Channels of the residuals.
    pub channels: usize,
    /// Labels that it was trained with: `unsupervised`, `tags`, `boxes`, and so on.
    pub setting: String,
    /// Side of its windows in blocks; 0 for the whole grid at once.
    pub window: usize,
    /// Distance from one window to the next, in blocks. At least 1 if there are windows.
    pub step: usize,
    /// Meaning of its output.
    #[serde(default)]
    pub output: HeadOutput,
}

/// Meaning of the two logits of a block, good and defective. d is their difference, defective minus good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadOutput {
    /// The block is defective with the probability 1 / (1 + exp(−d)), which replaces its score.
    #[default]
    Probability,
    /// The block's score, the length of its residual, is multiplied by exp(tanh(d / 2)), 1/e to e. Good blocks keep a
    /// score that their length anchors, and so a threshold that good parts can set.
    Correction,
}

/// A head that reads residuals and the picture and judges cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeeingHead {
    /// As [`BlockHead::backbone`].
    pub backbone: String,
    /// As [`BlockHead::channels`].
    pub channels: usize,
    /// As [`BlockHead::setting`].
    pub setting: String,
    /// Side of a cell, in pixels of the scaled picture.
    pub cell: u32,
}

/// Makes masks of clicks and words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clicks {
    /// As [`BlockHead::backbone`].
    pub backbone: String,
    /// As [`BlockHead::channels`].
    pub channels: usize,
    /// As [`BlockHead::setting`].
    pub setting: String,
    /// As [`SeeingHead::cell`].
    pub cell: u32,
    /// Radius of a click's disk, in pixels of the scaled picture.
    pub radius: f32,
    /// Length of a prompt's vector.
    pub prompt: usize,
}

/// Longer vectors of prompts than any text encoder makes.
const MAX_PROMPT: usize = 1 << 16;

/// More scales than a backbone has strides.
const MAX_SCALES: usize = 8;

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Kind::Backbone(_) => "a backbone",
            Kind::BlockHead(_) | Kind::SeeingHead(_) => "a head",
            Kind::Clicks(_) => "a network for clicks",
        }
    }

    fn unlike(&self, wanted: &str) -> String {
        format!("this is {}, but {wanted} is needed", self.name())
    }

    fn validate(&self) -> Result<()> {
        let wrong = |text: String| Err(Error::new(ErrorKind::Model, text));
        match self {
            Kind::Backbone(Backbone { scales, .. }) => {
                if !(1..=MAX_SCALES).contains(&scales.len()) {
                    return wrong(format!("a backbone has 1 to {MAX_SCALES} scales, not {}", scales.len()));
                }
                for Scale { channels, taps } in scales {
                    let joined = taps.iter().fold(0usize, |sum, tap| sum.saturating_add(tap.channels));
                    if *channels == 0 || joined < *channels {
                        let text = format!("taps of {joined} channels cannot make a scale of {channels}");
                        return wrong(text);
                    }
                }
            }
            Kind::BlockHead(head) if head.window > 0 && head.step == 0 => {
                return wrong("step must be at least 1 if there is a window".into());
            }
            Kind::SeeingHead(SeeingHead { cell: 0, .. }) | Kind::Clicks(Clicks { cell: 0, .. }) => {
                return wrong("cell must be at least 1 pixel".into());
            }
            Kind::Clicks(Clicks { radius, .. }) if !(radius.is_finite() && *radius >= 0.0) => {
                return wrong(format!("radius must be a finite number of at least 0, not {radius}"));
            }
            Kind::Clicks(Clicks { prompt, .. }) if !(1..=MAX_PROMPT).contains(prompt) => {
                return wrong(format!("prompt must be 1 to {MAX_PROMPT}, not {prompt}"));
            }
            Kind::BlockHead(_) | Kind::SeeingHead(_) | Kind::Clicks(_) => {}
        }
        Ok(())
    }
}

impl From<Backbone> for Kind {
    fn from(backbone: Backbone) -> Kind {
        Kind::Backbone(backbone)
    }
}

impl From<Head> for Kind {
    fn from(head: Head) -> Kind {
        match head {
            Head::Block(head) => Kind::BlockHead(head),
            Head::Seeing(head) => Kind::SeeingHead(head),
        }
    }
}

impl From<Clicks> for Kind {
    fn from(clicks: Clicks) -> Kind {
        Kind::Clicks(clicks)
    }
}

impl TryFrom<Kind> for Backbone {
    type Error = String;

    fn try_from(kind: Kind) -> Result<Self, String> {
        match kind {
            Kind::Backbone(backbone) => Ok(backbone),
            other => Err(other.unlike("a backbone")),
        }
    }
}

impl TryFrom<Kind> for Head {
    type Error = String;

    fn try_from(kind: Kind) -> Result<Self, String> {
        match kind {
            Kind::BlockHead(head) => Ok(Head::Block(head)),
            Kind::SeeingHead(head) => Ok(Head::Seeing(head)),
            other => Err(other.unlike("a head")),
        }
    }
}

impl TryFrom<Kind> for Clicks {
    type Error = String;

    fn try_from(kind: Kind) -> Result<Self, String> {
        match kind {
            Kind::Clicks(clicks) => Ok(clicks),
            other => Err(other.unlike("a network for clicks")),
        }
    }
}

impl Backbone {
    /// Channels of the output.
    pub fn channels(&self) -> usize {
        self.scales.iter().fold(0, |sum, scale| sum.saturating_add(scale.channels))
    }

    /// Number of the scale that knows most of a part: the first with the most taps.
    pub fn fullest(&self) -> usize {
        let most = self.scales.iter().map(|scale| scale.taps.len()).max();
        self.scales.iter().position(|scale| Some(scale.taps.len()) == most).unwrap_or(0)
    }
}

impl Scale {
    /// Channels, from the first, that come from the tap of the finest stride.
    pub fn early_channels(&self) -> usize {
        let joined: usize = self.taps.iter().map(|tap| tap.channels).sum();
        let first = self.taps.first().map_or(0, |tap| tap.channels);
        (first * self.channels).div_ceil(joined.max(1))
    }
}

/// A network that reads residuals, and so needs the backbone that it was trained with.
pub trait ReadsResiduals {
    /// SHA-256 of that backbone's ONNX file, and the channels of the residuals.
    fn trained_with(&self) -> (&str, usize);
    /// Side of the cells that it judges, if these are not blocks.
    fn cell(&self) -> Option<u32>;
    /// Labels that it was trained with.
    fn setting(&self) -> &str;
}

impl Head {
    /// Meaning of its output.
    pub fn output(&self) -> HeadOutput {
        match self {
            Head::Block(head) => head.output,
            Head::Seeing(_) => HeadOutput::Probability,
        }
    }
}

impl ReadsResiduals for Head {
    fn trained_with(&self) -> (&str, usize) {
        match self {
            Head::Block(BlockHead { backbone, channels, .. })
            | Head::Seeing(SeeingHead { backbone, channels, .. }) => (backbone, *channels),
        }
    }

    fn cell(&self) -> Option<u32> {
        match self {
            Head::Block(_) => None,
            Head::Seeing(head) => Some(head.cell),
        }
    }

    fn setting(&self) -> &str {
        match self {
            Head::Block(BlockHead { setting, .. }) | Head::Seeing(SeeingHead { setting, .. }) => setting,
        }
    }
}

impl ReadsResiduals for Clicks {
    fn trained_with(&self) -> (&str, usize) {
        (&self.backbone, self.channels)
    }

    fn cell(&self) -> Option<u32> {
        Some(self.cell)
    }

    fn setting(&self) -> &str {
        &self.setting
    }
}

impl<K: ReadsResiduals> NetworkInfo<K> {
    /// Refuses a backbone other than the one the network was trained with. `sha256` is of the backbone's ONNX
    /// file.
    ///
    /// # Errors
    /// [`ErrorKind::Model`].
    pub fn check_backbone(&self, sha256: &str, backbone: &Backbone) -> Result<()> {
        let wrong = |text: String| Err(Error::new(ErrorKind::Model, text));
        let name = &self.name;
        if self.kind.trained_with() != (sha256, backbone.channels()) {
            return wrong(format!(
                "{name} was trained with another backbone than the package has: train one with this package"
            ));
        }
        match self.kind.cell() {
            Some(cell) if !backbone.stride.is_multiple_of(cell) => wrong(format!(
                "{name} has cells of {cell} pixels, which do not fit into blocks of {} pixels: train one with this \
                 package",
                backbone.stride
            )),
            _ => Ok(()),
        }
    }
}

impl<K: Clone + Into<Kind>> NetworkInfo<K> {
    /// Checks that every number makes sense.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] with the key.
    pub(super) fn validate(&self) -> Result<()> {
        self.kind.clone().into().validate().map_err(|e| e.within(&self.name))
    }
}

/// The table in TOML. `serde` cannot refuse unknown keys beside a flattened field; the kind's struct does.
#[derive(Serialize, Deserialize)]
struct Table {
    name: String,
    source: String,
    license: String,
    #[serde(flatten)]
    kind: Kind,
}

impl<K: Clone + Into<Kind>> Serialize for NetworkInfo<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let NetworkInfo { name, source, license, kind } = self.clone();
        Table { name, source, license, kind: kind.into() }.serialize(serializer)
    }
}

impl<'de, K: TryFrom<Kind, Error: Display>> Deserialize<'de> for NetworkInfo<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Table { name, source, license, kind } = Table::deserialize(deserializer)?;
        let kind = K::try_from(kind).map_err(serde::de::Error::custom)?;
        Ok(NetworkInfo { name, source, license, kind })
    }
}
