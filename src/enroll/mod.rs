//! Good images → package.

mod advice;
mod calibrate;
mod forecast;
mod int8;
mod outliers;
mod parts;
mod pictures;
mod quality;
mod spill;
mod threshold;
mod variations;

pub use crate::package::Variation;
pub(crate) use advice::advice;
pub use int8::{Int8Backbone, int8};
pub use parts::{GroupBy, NamePattern};
pub use pictures::BadPicture;
pub use posfar::{CoresetScope, Matching};
pub use quality::Quality;
pub(crate) use threshold::promise;
#[cfg(feature = "workshop")]
pub(crate) use threshold::{Unit, threshold_from_scores};

pub use crate::imaging::{Point, Polygon, find_pictures, list_pictures};

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use calibrate::{Calibrated, Stages, calibrate, score};
use forecast::forecast;
use ndarray::s;
use pictures::Reading;
use posfar::{Bank, Parameters, TokenStore};
use spill::Spill;

use crate::anomaly::MapParameters;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::files;
use crate::imaging::Frame;
use crate::inspector::{ClassifyStage, FeatureStage, Features, Head, Options, ResidualStage, check_frame};
use crate::onnx::{Network, Provider, Runtime};
use crate::package::{
    Backbone, BackboneFile, FORMAT, FrameSize, Head as HeadKind, HeadFile, InputInfo, Manifest, Package,
    Pictures, Scale, Scaling, ThresholdInfo, geometry, parameters,
};

/// The program's name in a package.
const MADE_BY: &str = concat!("weakrest ", env!("CARGO_PKG_VERSION"));

/// How to enroll. The documentation's tables led to the defaults, which are of [`Quality::Fast`].
///
/// ```
/// use weakrest::enroll::{Settings, Variation};
///
/// let settings = Settings { product: "bottle".into(), variations: vec![Variation::Light], ..Settings::default() };
/// # assert_eq!(settings.images, 16);
/// ```
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the part.
    pub product: String,
    /// Longest side of a picture after scaling, in pixels. `None` does not scale.
    pub longest_side: Option<u32>,
    /// How a token's position limits its neighbors.
    pub matching: Matching,
    /// The tokens that one coreset is chosen from.
    pub coreset: CoresetScope,
    /// Share of the tokens that the package keeps, in (0, 1].
    pub coreset_share: f32,
    /// Number of tokens that the package keeps at least.
    pub coreset_floor: usize,
    /// K: the number of similar good pictures that a picture is compared with.
    pub images: usize,
    /// Standard deviation of the map's smoothing, in pixels at a longest side of 512. It scales with the side; without
    /// scaling, with the good pictures' mean side.
    pub sigma: f32,
    /// Side of the score's window, in pixels at a longest side of 512. It scales like `sigma`.
    pub window: f32,
    /// Highest share of good parts to reject, in (0, 1).
    pub false_reject_rate: f64,
    /// How pictures of the same part are found.
    pub group_by: GroupBy,
    /// Enroll without parts that score far above the others. They can still be good parts, but the promise is then for
    /// parts like the rest.
    pub drop_outliers: bool,
    /// Skip unusable pictures. Otherwise they are an error.
    pub skip_bad: bool,
    /// Accept pictures of different sizes.
    pub any_size: bool,
    /// How a copy of each picture varies, for the bank only: with it, parts in another light or with more noise are not
    /// rejected for that. Without any, there are no copies.
    pub variations: Vec<Variation>,
    /// Pictures of known defects. They lower a threshold that would pass them, as far as the good pictures allow.
    pub defects: Vec<PathBuf>,
    /// Areas that are neither learned nor inspected: corners in shares of a picture's width and height, 0 to 1.
    pub ignore: Vec<Polygon>,
    /// Seed of all random numbers.
    pub seed: u64,
    /// A trained head that computes the scores. Without it, a cell's score is the length of its residuals.
    pub head: Option<HeadFile>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            product: "part".into(),
            longest_side: Some(256),
            matching: Matching::Soft { weight: 0.1 },
            coreset: CoresetScope::Image,
            coreset_share: 0.1,
            coreset_floor: 5_000,
            images: 16,
            sigma: 4.0,
            window: 32.0,
            false_reject_rate: 0.01,
            group_by: GroupBy::default(),
            drop_outliers: false,
            skip_bad: false,
            any_size: false,
            variations: vec![Variation::Light, Variation::Noise],
            defects: Vec::new(),
            ignore: Vec::new(),
            seed: 0,
            head: None,
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
            return Err(Error::new(ErrorKind::Usage, "the score's window must be above 0"));
        }
        Ok(())
    }

    fn map(&self, longest_side: u32) -> MapParameters {
        let scale = longest_side as f32 / 512.0;
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
            retrieval_channels: backbone.scales.first().map_or(0, Scale::early_channels),
            retrieval_components: 16,
            images: self.images,
            seed: self.seed,
        }
    }
}

/// The steps of [`int8()`] and [`enroll`], and of training a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Measures the ranges of a network's values. Counts pictures.
    Ranges,
    /// Reads the pictures and computes their features. Counts pictures.
    Features,
    /// Thins the tokens. Counts kept tokens.
    Coreset,
    /// Scores each picture without those of its part. Counts pictures.
    Scores,
    /// Paints defects on good pictures and scores them. Counts pictures.
    Forecast,
    /// Trains a head, after others that only judge whether it helps. Counts steps of all.
    Training,
}

/// Called with (step, done, total). Returns `false` to stop the work.
pub type Progress<'a> = &'a mut dyn FnMut(Step, usize, usize) -> bool;

/// A new package, and how it was made.
pub struct Enrollment {
    /// The package. [`Package::write`] stores it.
    pub package: Package,
    /// Scores of the enrolled pictures without the pictures of their part, in their order. Above 2,000 pictures, of an
    /// evenly spread sample.
    pub scores: Vec<(PathBuf, f32)>,
    /// The enrolled pictures of each part.
    pub parts: Vec<Vec<PathBuf>>,
    /// Enrolled pictures that score far above the others, highest first: by a generalized extreme Studentized deviate
    /// test of the logarithms, for at most a twentieth of the pictures.
    pub outliers: Vec<(PathBuf, f32)>,
    /// Scores of the known defects.
    pub defects: Vec<(PathBuf, f32)>,
    /// Median time from a scaled picture to its score.
    pub time: Duration,
    /// The slowest provider that ran a network.
    pub provider: Provider,
    /// Skipped pictures, and those of dropped parts.
    pub skipped: Vec<BadPicture>,
    /// Number of all pictures' tokens in all scales. The package keeps some of them.
    pub tokens: usize,
}

/// Makes a package of good pictures.
///
/// The same pictures in the same order with the same seed make the same package. The result is `None` if `progress`
/// returned `false`.
///
/// ```no_run
/// use weakrest::enroll::{BadPicture, Enrollment, Settings, Step, enroll, find_pictures};
/// use weakrest::inspector::Options;
/// use weakrest::package::BackboneFile;
///
/// let pictures = find_pictures("bottle/train/good".as_ref())?;
/// let (backbone, settings, options) = (BackboneFile::built_in()?, Settings::default(), Options::default());
/// let mut progress = |step: Step, done: usize, total: usize| {
///     println!("{step:?}: {done} of {total}");
///     true
/// };
/// let done = enroll(&pictures, &backbone, &settings, &options, &mut progress)?;
/// if let Some(Enrollment { mut package, skipped, .. }) = done {
///     for BadPicture { path, reason } in skipped {
///         println!("{}: {reason}", path.display());
///     }
///     package.write("bottle.weakrest", false)?;
/// }
/// # Ok::<(), weakrest::Error>(())
/// ```
///
/// # Errors
/// - [`ErrorKind::Usage`] for settings out of range, fewer than two pictures or parts, or a name that does not fit
///   [`GroupBy::Name`].
/// - [`ErrorKind::Image`] with the unusable pictures, unless they are skipped and two are left; or if the threshold
///   would pass a painted defect.
/// - [`ErrorKind::Runtime`] and [`ErrorKind::Model`] if the backbone does not run.
pub fn enroll(
    pictures: &[PathBuf],
    backbone: &BackboneFile,
    settings: &Settings,
    options: &Options,
    progress: Progress,
) -> Result<Option<Enrollment>> {
    settings.validate()?;
    let mut left_out = match attempt(pictures, backbone, settings, options, progress)? {
        None => return Ok(None),
        Some(Attempt::Done(done)) => return Ok(Some(*done)),
        Some(Attempt::Drop(left_out)) => left_out,
    };
    let gone: HashSet<&Path> = left_out.iter().map(|bad| bad.path.as_path()).collect();
    let rest: Vec<PathBuf> = pictures.iter().filter(|p| !gone.contains(p.as_path())).cloned().collect();
    let settings = Settings { drop_outliers: false, ..settings.clone() };
    Ok(match attempt(&rest, backbone, &settings, options, progress)? {
        Some(Attempt::Done(mut done)) => {
            left_out.append(&mut done.skipped);
            done.skipped = left_out;
            Some(*done)
        }
        _ => None,
    })
}

/// What came of pictures.
enum Attempt {
    Done(Box<Enrollment>),
    /// They must be enrolled again without these.
    Drop(Vec<BadPicture>),
}

fn attempt(
    pictures: &[PathBuf],
    backbone: &BackboneFile,
    settings: &Settings,
    options: &Options,
    progress: Progress,
) -> Result<Option<Attempt>> {
    let survey = pictures::survey(pictures, settings)?;
    let longest_side = settings.longest_side.unwrap_or(survey.longest_side);
    let native = settings.longest_side.is_none();
    let scaling = Scaling { longest_side, native, ignore: settings.ignore.clone() };
    let geometry = geometry(&scaling, &backbone.info.kind);
    geometry.validate()?;
    let posfar = settings.posfar(&backbone.info.kind);
    posfar.validate()?;
    let map = settings.map(longest_side);
    map.validate()?;
    let runtime = Runtime::load(options.onnxruntime.as_deref())?;
    let name = &backbone.info.name;
    let network =
        Network::backbone(runtime, &backbone.onnx, &options.execution).map_err(|e| e.within(name))?;

    if let Some(head) = &settings.head {
        head.info.check_backbone(&backbone.sha256, &backbone.info.kind)?;
        if let HeadKind::Seeing(_) = head.info.kind {
            // Enrolling keeps the features only.
            let text = "needs the enrolled pictures; add it to the enrolled package";
            return Err(Error::new(ErrorKind::Usage, text)
                .within(&head.info.name)
                .with_hint(Hint::LaterHead));
        }
    }

    let mut stage =
        FeatureStage::new(network, geometry.clone(), survey.color, FrameSize::Any, &backbone.info);
    let mut features = Features::default();
    let count = backbone.info.kind.scales.len();
    let mut stores: Vec<_> = (0..count).map(|_| TokenStore::new(Spill::shared(count))).collect();
    let mut placements = Vec::new();
    let total = survey.usable.len();
    let Some(Reading { used, digests, bad: mut skipped }) =
        pictures::read(&survey, &geometry, settings, |frames| {
            for content in frames {
                stage.run(content, &mut features).map_err(|e| e.within(name))?;
                for (store, tokens) in stores.iter_mut().zip(&features.tokens) {
                    store.push(tokens.view(), features.placement.grid).map_err(|e| match e {
                        posfar::Error::Storage(_) => Error::from(e),
                        _ => Error::from(e).within(name),
                    })?;
                }
                placements.push(features.placement);
            }
            Ok(progress(Step::Features, placements.len() / frames.len(), total))
        })?
    else {
        return Ok(None);
    };

    let mut banks: Vec<Bank> = Vec::new();
    for (store, parameters) in stores.iter().zip(parameters(&posfar, &backbone.info.kind)) {
        // All scales have the same tokens, so the same number of them is kept.
        let before = banks.len();
        let mut thinned = |done: usize, of: usize| progress(Step::Coreset, before * of + done, count * of);
        let Some(bank) = posfar::fit(store, &parameters, &mut thinned)? else { return Ok(None) };
        banks.push(bank);
    }
    // A picture's number in the bank, where its copy follows it.
    let each = if settings.variations.is_empty() { 1 } else { 2 };
    let alike = banks.first().map(|bank| bank.parts().descriptors.slice(s![..;each, .., ..]).to_owned());
    let parts = parts::parts(&settings.group_by, &used, &alike.unwrap_or_default())?;
    let shown = digests.into_iter().zip(parts);
    let enrolled = Pictures::new(shown.flat_map(|picture| std::iter::repeat_n(picture, each)));
    let mut residuals = ResidualStage::new(Arc::new(banks));
    let load = |picture: usize, features: &mut Features| {
        features.tokens.clear();
        for store in &stores {
            features.tokens.push(store.features(picture * each)?.0);
        }
        features.placement = placements[picture * each];
        Ok(())
    };
    let same_part = |picture: usize| enrolled.of_same_part(Some(picture * each));
    let scales = calibrate::measure_scales(&mut residuals, used.len(), same_part, load)?;
    let head = settings.head.as_ref();
    let manifest = Manifest {
        format: FORMAT,
        product: settings.product.clone(),
        made_by: MADE_BY.into(),
        images: used.len(),
        variations: settings.variations.clone(),
        input: InputInfo { color: survey.color, size: survey.size },
        scaling,
        backbone: backbone.info.clone(),
        posfar,
        scales,
        map,
        head: head.map(|head| head.info.clone()),
        adclick: None,
        threshold: ThresholdInfo::unset(settings.false_reject_rate),
        history: Vec::new(),
        forecast: Vec::new(),
        golden: Vec::new(),
        files: Default::default(),
    };
    let classify =
        ClassifyStage::new(load_head(head, &manifest, runtime, options)?, &manifest.scales, map, f32::MAX);
    let mut stages = Stages { features: stage, residuals, classify };
    let scored: Vec<usize> = calibrate::scored(used.len(), settings.false_reject_rate).collect();
    let paths: Vec<PathBuf> = scored.iter().map(|&i| used[i].clone()).collect();
    let scores = score(
        &mut stages,
        &paths,
        &enrolled,
        &manifest,
        |_, picture, features| load(scored[picture], features).map(|()| Some(scored[picture] * each)),
        progress,
    )?;
    let Some(scores) = scores else { return Ok(None) };
    if settings.drop_outliers && !scores.outliers.is_empty() {
        let odd: Vec<usize> = scores.outliers.iter().map(|&number| scored[number]).collect();
        skipped.extend(dropped(&used, &enrolled, each, &odd, &scores.odd()));
        return Ok(Some(Attempt::Drop(skipped)));
    }
    let Calibrated { threshold, golden, defects, time, provider } =
        calibrate(&mut stages, &scores, &settings.defects, &manifest)?;
    let found = forecast(&mut stages, &paths, &enrolled, &manifest, threshold.value, progress)?;
    let Some(forecast) = found else { return Ok(None) };
    let package = Package {
        manifest: Manifest { threshold, forecast, ..manifest },
        backbone: backbone.onnx.clone(),
        backbone_license: backbone.license.clone(),
        banks: take_banks(stages)?,
        pictures: enrolled,
        head: head.map(|head| head.onnx.clone()),
        adclick: None,
        golden,
        hash: String::new(),
        signed: None,
    };
    let files =
        |images: &Vec<usize>| images.iter().step_by(each).map(|image| used[image / each].clone()).collect();
    let parts = package.pictures.parts().iter().map(files).collect();
    let (outliers, scores) = (scores.odd(), scores.pictures);
    let done = Enrollment {
        package,
        scores,
        parts,
        outliers,
        defects,
        time,
        provider,
        skipped,
        tokens: stores.iter().map(TokenStore::tokens).sum(),
    };
    Ok(Some(Attempt::Done(Box::new(done))))
}

/// All pictures of the parts that have an outlier, with reasons. `odd` has the outliers' numbers.
fn dropped(
    used: &[PathBuf],
    enrolled: &Pictures,
    each: usize,
    odd: &[usize],
    outliers: &[(PathBuf, f32)],
) -> Vec<BadPicture> {
    let mut reasons: BTreeMap<usize, String> = BTreeMap::new();
    for (number, (_, score)) in odd.iter().zip(outliers) {
        reasons.insert(*number, format!("it scores {score:.3}, far above the others"));
    }
    for (number, (path, _)) in odd.iter().zip(outliers) {
        for sibling in enrolled.of_same_part(Some(number * each)) {
            let reason = || format!("it shows the same part as {}", path.display());
            reasons.entry(sibling / each).or_insert_with(reason);
        }
    }
    let bad = |(number, reason): (usize, String)| BadPicture { path: used[number].clone(), reason };
    reasons.into_iter().map(bad).collect()
}

/// Puts a trained head into a package and sets a new threshold from the good `pictures`. It replaces the head that the
/// package has. The result is `None` if `progress` returned `false`.
///
/// Enrolled pictures are recognized by their pixels and scored without the pictures of their part. Of `defects`, see
/// [`Settings::defects`].
///
/// # Errors
/// [`ErrorKind::Model`] if the head was trained with another backbone or does not run; otherwise as [`enroll`].
pub fn add_head(
    package: Package,
    head: &HeadFile,
    pictures: &[PathBuf],
    defects: &[PathBuf],
    options: &Options,
    progress: Progress,
) -> Result<Option<Enrollment>> {
    let runtime = Runtime::load(options.onnxruntime.as_deref())?;
    head.info.check_backbone(&files::sha256(&package.backbone), &package.manifest.backbone.kind)?;
    let Package { mut manifest, backbone, backbone_license, banks, pictures: enrolled, adclick, .. } =
        package;
    manifest.head = Some(head.info.clone());
    manifest.made_by = MADE_BY.into();
    let network = Network::backbone(runtime, &backbone, &options.execution)?;
    let (geometry, color, size) = (manifest.geometry(), manifest.input.color, manifest.input.size);
    let tokens = banks.iter().map(Bank::len).sum();
    let mut stages = Stages {
        features: FeatureStage::new(network, geometry.clone(), color, FrameSize::Any, &manifest.backbone),
        residuals: ResidualStage::new(Arc::new(banks)),
        classify: ClassifyStage::new(
            load_head(Some(head), &manifest, runtime, options)?,
            &manifest.scales,
            manifest.map,
            f32::MAX,
        ),
    };
    let numbers = enrolled.numbers();
    let rate = manifest.threshold.false_reject_rate;
    let scored: Vec<PathBuf> = calibrate::scored(pictures.len(), rate).map(|i| pictures[i].clone()).collect();
    let load = |stage: &mut FeatureStage, picture: usize, features: &mut Features| {
        let within = |e: Error| e.within(scored[picture].display());
        let frame = Frame::open(&scored[picture])?;
        check_frame(&frame, color, size).map_err(within)?;
        stage.run(&geometry.scale(&frame)?, features).map_err(within)?;
        Ok(numbers.get(&frame.digest()).copied())
    };
    let Some(scores) = score(&mut stages, &scored, &enrolled, &manifest, load, progress)? else {
        return Ok(None);
    };
    let Calibrated { threshold, golden, defects, time, provider } =
        calibrate(&mut stages, &scores, defects, &manifest)?;
    let found = forecast(&mut stages, &scored, &enrolled, &manifest, threshold.value, progress)?;
    let Some(forecast) = found else { return Ok(None) };
    let package = Package {
        manifest: Manifest { threshold, forecast, ..manifest },
        backbone,
        backbone_license,
        banks: take_banks(stages)?,
        pictures: enrolled,
        head: Some(head.onnx.clone()),
        adclick,
        golden,
        hash: String::new(),
        signed: None,
    };
    let (outliers, scores) = (scores.odd(), scores.pictures);
    let (parts, skipped) = (Vec::new(), Vec::new());
    Ok(Some(Enrollment { package, scores, parts, outliers, defects, time, provider, skipped, tokens }))
}

/// The head, loaded for the new package.
fn load_head(
    head: Option<&HeadFile>,
    manifest: &Manifest,
    runtime: &'static Runtime,
    options: &Options,
) -> Result<Option<Head>> {
    let load = |head: &HeadFile| {
        let channels = manifest.backbone.kind.channels();
        Head::new(runtime, &head.onnx, &head.info, channels, &manifest.scales, &options.execution)
    };
    head.map(load).transpose()
}

/// Takes the banks back from the stages.
fn take_banks(stages: Stages) -> Result<Vec<Bank>> {
    let banks = Arc::clone(stages.residuals.banks());
    drop(stages);
    Arc::into_inner(banks).ok_or_else(|| Error::new(ErrorKind::Package, "the banks are still in use"))
}

/// Number of threads that decode pictures.
fn decoders() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
