//! Good images → package.

mod pictures;
mod threshold;

pub use pictures::{BadPicture, find_pictures};
pub use threshold::{promise, threshold_from_scores};

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::anomaly::{AnomalyMap, MapParameters};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Frame, Geometry};
use crate::inspector::{ClassifyStage, FeatureStage, Features, FrameResiduals, Options, ResidualStage};
use crate::onnx::{Network, Runtime};
use crate::package::{
    Backbone, BackboneInfo, FORMAT, FrameSize, Golden, GoldenInfo, InputInfo, Manifest, Package, golden_file,
};
use crate::posfar::{self, CoresetScope, Matching, Parameters, TokenStore};

/// Pictures that are scored without themselves at most, as far as the false-reject rate needs no more: each is compared
/// with every picture, so that scoring all of many would take longer than everything else.
const SCORED: usize = 2_000;

/// How to enroll. The defaults are those that the tables in the documentation led to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the part.
    pub product: String,
    /// Length of the longest side after scaling, in pixels.
    pub longest_side: u32,
    /// Role of position in matching.
    pub matching: Matching,
    /// What the tokens are thinned within.
    pub coreset: CoresetScope,
    /// Share of the tokens that is kept.
    pub coreset_share: f32,
    /// Tokens that are kept in any case.
    pub coreset_floor: usize,
    /// K: how many similar images each image is searched in.
    pub images: usize,
    /// Standard deviation of the map's smoothing in pixels at a longest side of 512; it scales with the side.
    pub sigma: f32,
    /// Side of the score's window in pixels at a longest side of 512; it scales with the side.
    pub window: f32,
    /// Share of good parts that may be rejected, in (0, 1).
    pub false_reject_rate: f64,
    /// Leave out pictures that cannot be used instead of failing.
    pub skip_bad: bool,
    /// Take pictures of different sizes.
    pub any_size: bool,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            product: "part".into(),
            longest_side: 256,
            matching: Matching::Soft { weight: 0.1 },
            coreset: CoresetScope::Image,
            coreset_share: 0.1,
            coreset_floor: 5_000,
            images: 16,
            sigma: 4.0,
            window: 32.0,
            false_reject_rate: 0.01,
            skip_bad: false,
            any_size: false,
            seed: 0,
        }
    }
}

impl Settings {
    fn validate(&self) -> Result<()> {
        if !(self.false_reject_rate > 0.0 && self.false_reject_rate < 1.0) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("the false-reject rate must be between 0 and 1, not {}", self.false_reject_rate),
            ));
        }
        if !(self.window.is_finite() && self.window > 0.0) {
            return Err(Error::new(ErrorKind::Usage, "the score's window must be larger than 0"));
        }
        Ok(())
    }

    fn map(&self) -> MapParameters {
        let scale = self.longest_side as f32 / 512.0;
        MapParameters { sigma: self.sigma * scale, window: ((self.window * scale).round() as u32).max(1) }
    }

    fn posfar(&self, backbone: &Backbone) -> Parameters {
        Parameters {
            matching: self.matching,
            coreset: self.coreset,
            coreset_share: self.coreset_share,
            coreset_floor: self.coreset_floor,
            projection: 64,
            variance: 0.95,
            retrieval_channels: backbone.early_channels(),
            retrieval_components: 16,
            images: self.images,
            seed: self.seed,
        }
    }
}

/// What enrolling is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reading pictures and computing their features; counts pictures.
    Features,
    /// Thinning the tokens; counts kept tokens.
    Coreset,
    /// Scoring each picture without itself; counts pictures.
    Scores,
}

/// Told of every step how much of how much is done. Answers `false` to stop.
pub type Progress<'a> = &'a mut dyn FnMut(Step, usize, usize) -> bool;

/// A new package and what happened on the way.
pub struct Enrollment {
    /// The package, not yet written.
    pub package: Package,
    /// Leave-one-out scores of the enrolled pictures in their order: of all, or of a sample spread evenly
    /// when there are more than 2,000.
    pub scores: Vec<(PathBuf, f32)>,
    /// Pictures that were left out.
    pub skipped: Vec<BadPicture>,
    /// Tokens of all pictures; the bank keeps some of them.
    pub tokens: usize,
    /// Whether the self-test picture with a square painted on it is rejected.
    pub sees_painted_square: bool,
}

/// Enrolls good pictures.
///
/// The same pictures in the same order with the same seed give the same package. `None` when `progress` stopped it.
///
/// # Errors
/// [`ErrorKind::Usage`] for impossible settings or fewer than two pictures; [`ErrorKind::Image`] naming the pictures
/// that cannot be used, unless they are to be skipped and two are left; [`ErrorKind::Runtime`] and [`ErrorKind::Model`]
/// when the backbone does not run.
pub fn enroll(
    pictures: &[PathBuf],
    backbone: &Backbone,
    settings: &Settings,
    options: &Options,
    progress: Progress,
) -> Result<Option<Enrollment>> {
    settings.validate()?;
    let geometry = Geometry {
        longest_side: settings.longest_side,
        multiple: backbone.manifest.multiple,
        stride: backbone.manifest.stride,
        mean: backbone.manifest.mean,
        std: backbone.manifest.std,
    };
    geometry.validate()?;
    let parameters = settings.posfar(backbone);
    parameters.validate()?;
    let map = settings.map();
    map.validate()?;
    let runtime = Runtime::load(options.onnxruntime.as_deref())?;
    let name = &backbone.manifest.name;
    let network =
        Network::from_bytes(runtime, &backbone.onnx, &options.execution).map_err(|e| e.within(name))?;

    let survey = pictures::survey(pictures, settings)?;
    let mut stage = FeatureStage::new(
        network,
        geometry.clone(),
        survey.color,
        FrameSize::Any,
        backbone.manifest.channels,
    );
    let mut features = Features::default();
    let mut store = TokenStore::default();
    let mut placements = Vec::new();
    let total = survey.usable.len();
    let Some((used, skipped)) = pictures::read(&survey, &geometry, settings, |content| {
        stage.run(content, &mut features).map_err(|e| e.within(name))?;
        store.push(features.tokens.view(), features.placement.grid).map_err(|e| match e.kind() {
            ErrorKind::Io | ErrorKind::StorageFull => e,
            _ => e.within(name),
        })?;
        placements.push(features.placement);
        Ok(progress(Step::Features, store.len(), total))
    })?
    else {
        return Ok(None);
    };

    let Some(bank) = posfar::fit(&store, &parameters, &mut |done, of| progress(Step::Coreset, done, of))?
    else {
        return Ok(None);
    };
    let mut residual_stage = ResidualStage::new(std::sync::Arc::new(bank));
    let mut classify = ClassifyStage::new(map, f32::MAX);
    let (mut residuals, mut anomalies) = (FrameResiduals::default(), AnomalyMap::default());
    let mut scores = Vec::new();
    let needed = (1.0 / settings.false_reject_rate).ceil();
    let scored = used.len().min(SCORED.max(needed as usize));
    for image in (0..scored).map(|i| i * used.len() / scored) {
        let (tokens, _) = store.features(image)?;
        residual_stage.run_without(tokens.view(), placements[image], Some(image), &mut residuals)?;
        scores.push((used[image].clone(), classify.score(&residuals, &mut anomalies)?));
        if !progress(Step::Scores, scores.len(), scored) {
            return Ok(None);
        }
    }
    let values: Vec<f32> = scores.iter().map(|(_, score)| *score).collect();
    let threshold = threshold_from_scores(&values, settings.false_reject_rate)?;
    let threshold_value = threshold.value;

    let mut golden = Vec::new();
    let mut sees_painted_square = false;
    for (name, frame) in golden_frames(&scores, &geometry)? {
        stage.run(&frame, &mut features)?;
        residual_stage.run(&features, &mut residuals)?;
        let score = classify.score(&residuals, &mut anomalies)?;
        sees_painted_square |= score > threshold_value;
        golden.push(Golden { frame, info: GoldenInfo { file: golden_file(name), score }, tolerance: 0.0 });
    }

    // The stages hold the bank until here.
    drop(stage);
    let bank = std::sync::Arc::clone(residual_stage.bank());
    drop(residual_stage);
    let bank = std::sync::Arc::into_inner(bank)
        .ok_or_else(|| Error::new(ErrorKind::Package, "the bank is still in use"))?;
    let manifest = Manifest {
        format: FORMAT,
        product: settings.product.clone(),
        made_by: format!("weakrest {}", env!("CARGO_PKG_VERSION")),
        images: used.len(),
        input: InputInfo { color: survey.color, size: survey.size },
        geometry,
        backbone: BackboneInfo {
            name: backbone.manifest.name.clone(),
            source: backbone.manifest.source.clone(),
            license: backbone.manifest.license.clone(),
            channels: backbone.manifest.channels,
            taps: backbone.manifest.taps.iter().map(|t| t.stride).collect(),
        },
        posfar: parameters,
        map,
        threshold,
        golden: Vec::new(),
        files: Default::default(),
    };
    let tolerance = manifest.golden_tolerance();
    golden.iter_mut().for_each(|g| g.tolerance = tolerance);
    let package = Package {
        manifest,
        backbone: backbone.onnx.clone(),
        backbone_license: backbone.license.clone(),
        bank,
        golden,
        hash: String::new(),
    };
    Ok(Some(Enrollment { package, scores, skipped, tokens: store.tokens(), sees_painted_square }))
}

/// The most ordinary and the strangest good picture, and the ordinary one with a square painted on it.
fn golden_frames(scores: &[(PathBuf, f32)], geometry: &Geometry) -> Result<Vec<(&'static str, Frame)>> {
    let mut order: Vec<&(PathBuf, f32)> = scores.iter().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let load = |path: &Path| geometry.scale(&Frame::open(path)?);
    let ordinary = load(&order[order.len() / 2].0)?;
    let strangest = load(&order[order.len() - 1].0)?;
    let painted = paint_square(&ordinary)?;
    Ok(vec![("ordinary", ordinary), ("strangest", strangest), ("painted", painted)])
}

/// A square of an eighth of the longest side in the middle, black on a light part and white on a dark one.
fn paint_square(frame: &Frame) -> Result<Frame> {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let channels = frame.color().channels();
    let side = (width.max(height) / 8).max(1);
    let (wide, high) = (side.min(width), side.min(height));
    let (left, top) = ((width - wide) / 2, (height - high) / 2);
    let mut pixels = frame.pixels().to_vec();
    let row = |y: usize| (y * width + left) * channels..(y * width + left + wide) * channels;
    let brightness: u64 = (top..top + high).flat_map(|y| &pixels[row(y)]).map(|&v| u64::from(v)).sum();
    let light = brightness > 127 * (wide * high * channels) as u64;
    for y in top..top + high {
        pixels[row(y)].fill(if light { 0 } else { 255 });
    }
    Frame::new(frame.width(), frame.height(), frame.color(), pixels)
}

/// Number of threads that decode pictures.
fn decoders() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
