//! The three stages that every frame goes through.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ndarray::{Array2, Array4, ArrayView2, ArrayView4, ArrayViewMut4, s};
use posfar::{Bank, Scratch};

#[cfg(feature = "workshop")]
use super::click::Prepared;
use super::data::{Features, FrameResiduals, Options};
use super::head::Head;
use super::inspection::{Inspection, StageTimes, Verdict};
use crate::anomaly::{
    AnomalyMap, MapParameters, MapScratch, map_from_layers, regions_from_map, score_from_map,
};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, Frame, Geometry, Placement, Scaler};
use crate::onnx::{Network, Provider, Runtime, check_finite};
use crate::package::{
    Backbone, FrameSize, Golden, HeadOutput, NetworkInfo, ORDINARY, Package, ScaleInfo, Standard, damaged,
    golden_tolerance, painted,
};

/// First stage: frame → tokens. It owns the backbone.
pub struct FeatureStage {
    network: Network,
    name: String,
    geometry: Geometry,
    color: Color,
    size: FrameSize,
    channels: Vec<usize>,
    scaler: Scaler,
    keep_picture: bool,
}

impl FeatureStage {
    pub(crate) fn new(
        network: Network,
        geometry: Geometry,
        color: Color,
        size: FrameSize,
        backbone: &NetworkInfo<Backbone>,
    ) -> Self {
        FeatureStage {
            network,
            name: backbone.name.clone(),
            geometry,
            color,
            size,
            channels: backbone.kind.scales.iter().map(|scale| scale.channels).collect(),
            scaler: Scaler::default(),
            keep_picture: false,
        }
    }

    /// The backbone's name and the provider that really ran it last; `None` before the first run.
    pub fn provider(&self) -> Option<(&str, Provider)> {
        Some((&self.name, self.network.provider()?))
    }

    /// Whether to pass on the backbone's input, for networks that see the picture.
    pub fn keep_picture(&mut self, keep: bool) {
        self.keep_picture = keep;
    }

    /// Computes a frame's tokens.
    ///
    /// # Errors
    /// - [`ErrorKind::Image`] if color or size are not as enrolled.
    /// - [`ErrorKind::NotFinite`] if the network's output has NaN or infinity.
    /// - [`ErrorKind::Model`] if the network fails or its output has another shape.
    pub fn run(&mut self, frame: &Frame, features: &mut Features) -> Result<()> {
        let start = Instant::now();
        check_frame(frame, self.color, self.size)?;
        let placement = self.geometry.place(frame.width(), frame.height());
        let content = self.geometry.scale_with(frame, &mut self.scaler)?;
        let Features { tokens, picture, .. } = features;
        let (geometry, channels, keep_picture) = (&self.geometry, &self.channels, self.keep_picture);
        let fill = |[mut input]: [ArrayViewMut4<f32>; 1]| {
            geometry.fill_input(content, &placement, input.view_mut())?;
            if keep_picture {
                let stride = placement.stride as usize;
                let (high, wide) = (placement.grid.0 * stride, placement.grid.1 * stride);
                let seen = input.slice(s![.., .., ..high, ..wide]);
                if picture.dim() != seen.dim() {
                    *picture = Array4::zeros(seen.dim());
                }
                picture.assign(&seen);
            }
            Ok(())
        };
        self.network.run_in_place([placement.input()], fill, |output| {
            tokens_from_output(output, &placement, channels, tokens)
        })?;
        features.placement = placement;
        features.time = start.elapsed();
        Ok(())
    }
}

/// Checks color and size of a frame.
///
/// # Errors
/// [`ErrorKind::Image`] if they are not as enrolled.
pub(crate) fn check_frame(frame: &Frame, color: Color, size: FrameSize) -> Result<()> {
    if frame.color() != color {
        return Err(Error::new(
            ErrorKind::Image,
            format!("the picture is {}, but the good parts were enrolled in {color}", frame.color()),
        ));
    }
    if let FrameSize::Fixed(width, height) = size
        && (frame.width(), frame.height()) != (width, height)
    {
        return Err(Error::new(
            ErrorKind::Image,
            format!(
                "the picture is {}×{} pixels, but the good parts were enrolled at {width}×{height}",
                frame.width(),
                frame.height()
            ),
        ));
    }
    Ok(())
}

/// `[1, rows, cols, channels]` → `[rows × cols, channels]` for each scale's channels, without padding.
fn tokens_from_output(
    output: ArrayView4<f32>,
    placement: &Placement,
    channels: &[usize],
    tokens: &mut Vec<Array2<f32>>,
) -> Result<()> {
    let (rows, cols) = placement.grid;
    let stride = placement.stride as usize;
    let (all_rows, all_cols) = (placement.canvas.1 as usize / stride, placement.canvas.0 as usize / stride);
    let (found, expected) = (output.dim(), (1, all_rows, all_cols, channels.iter().sum()));
    let unlike = || {
        let text = format!(
            "the network's output is {found:?} instead of {expected:?}: its manifest does not fit it"
        );
        Error::new(ErrorKind::Model, text)
    };
    if found != expected {
        return Err(unlike());
    }
    tokens.resize_with(channels.len(), Default::default);
    let mut first = 0;
    for (&channels, tokens) in channels.iter().zip(tokens) {
        if tokens.dim() != (rows * cols, channels) {
            *tokens = Array2::zeros((rows * cols, channels));
        }
        let grid = tokens.view_mut().into_shape_with_order((rows, cols, channels));
        grid.map_err(|_| unlike())?.assign(&output.slice(s![0, ..rows, ..cols, first..first + channels]));
        check_finite("the network's output", &*tokens)?;
        first += channels;
    }
    Ok(())
}

/// Second stage: tokens → residuals, one scale after another. It shares the banks.
pub struct ResidualStage {
    banks: Arc<Vec<Bank>>,
    scratch: Vec<Scratch>,
}

impl ResidualStage {
    pub(crate) fn new(banks: Arc<Vec<Bank>>) -> Self {
        ResidualStage { scratch: banks.iter().map(|_| Scratch::default()).collect(), banks }
    }

    /// The banks that are searched, one per scale.
    pub fn banks(&self) -> &Arc<Vec<Bank>> {
        &self.banks
    }

    /// The last frame's tokens of a scale in PCA space, `[tokens, dims]`, and the bank's tokens of that search.
    pub fn searched(&self, scale: usize) -> Option<(ArrayView2<'_, f32>, Array2<f32>)> {
        let (bank, scratch) = (self.banks.get(scale)?, self.scratch.get(scale)?);
        Some((scratch.queries(), bank.index().rows_of(scratch.searched())))
    }

    /// Computes the residuals of a frame's tokens.
    ///
    /// # Errors
    /// As [`Bank::residuals`]; [`ErrorKind::Model`] if the tokens have other scales than the banks.
    pub fn run(&mut self, features: &Features, out: &mut FrameResiduals) -> Result<()> {
        self.run_without(features, &[], 1, out)
    }

    /// As [`ResidualStage::run`], without the tokens of the enrolled images `exclude`, ascending
    /// (leave-one-out), for up to three neighbors.
    ///
    /// # Errors
    /// As [`ResidualStage::run`].
    pub fn run_without(
        &mut self,
        features: &Features,
        exclude: &[usize],
        neighbors: usize,
        out: &mut FrameResiduals,
    ) -> Result<()> {
        let start = Instant::now();
        let placement = features.placement;
        if features.tokens.len() != self.banks.len() {
            return Err(Error::new(ErrorKind::Model, "the tokens have other scales than the banks"));
        }
        out.scales.resize_with(self.banks.len(), Default::default);
        let searches = self.banks.iter().zip(&features.tokens).zip(&mut self.scratch).zip(&mut out.scales);
        for (((bank, tokens), scratch), found) in searches {
            bank.residuals(tokens.view(), placement.grid, exclude, neighbors, scratch, found)?;
        }
        if out.picture.dim() != features.picture.dim() {
            out.picture = Array4::zeros(features.picture.dim());
        }
        out.picture.assign(&features.picture);
        out.placement = placement;
        out.times =
            StageTimes { features: features.time, residuals: start.elapsed(), ..StageTimes::default() };
        Ok(())
    }
}

/// Third stage: residuals → map, score, regions, verdict. It owns the head, if the package has one. Without a
/// head, the map is the geometric mean of the scales' maps of the residuals' lengths.
pub struct ClassifyStage {
    head: Option<Head>,
    /// Unit of each scale's lengths.
    units: Vec<f32>,
    parameters: MapParameters,
    threshold: f32,
    scratch: MapScratch,
}

impl ClassifyStage {
    pub(crate) fn new(
        head: Option<Head>,
        scales: &[ScaleInfo],
        parameters: MapParameters,
        threshold: f32,
    ) -> Self {
        let units = scales.iter().map(|scale| scale.median).collect();
        ClassifyStage { head, units, parameters, threshold, scratch: MapScratch::default() }
    }

    /// The head's name and the provider that really ran it last; `None` without a head.
    pub fn provider(&self) -> Option<(&str, Provider)> {
        self.head.as_ref().and_then(Head::provider)
    }

    /// Whether it needs [`FeatureStage::keep_picture`].
    pub fn needs_picture(&self) -> bool {
        self.head.as_ref().is_some_and(Head::needs_picture)
    }

    fn gives_probabilities(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.output() == HeadOutput::Probability)
    }

    /// Scores above it are rejected.
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Judges a frame. After an error `out` is unspecified.
    ///
    /// # Errors
    /// [`ErrorKind::NotFinite`] if the score is not a finite number; the errors of the head.
    pub fn run(&mut self, residuals: &FrameResiduals, out: &mut Inspection) -> Result<()> {
        let start = Instant::now();
        let score = self.score(residuals, &mut out.map)?;
        let reject = score > self.threshold;
        // A pass can have single pixels above the threshold, but no window of them.
        out.regions.clear();
        if reject {
            let frame = residuals.placement.frame;
            regions_from_map(&out.map, frame, self.threshold, &mut self.scratch, &mut out.regions);
        }
        out.verdict = if reject { Verdict::Reject } else { Verdict::Pass };
        (out.score, out.threshold) = (score, self.threshold);
        out.times = StageTimes { classify: start.elapsed(), ..residuals.times };
        Ok(())
    }

    /// The anomaly map and the image's score, without a verdict.
    ///
    /// # Errors
    /// As [`ClassifyStage::run`].
    pub fn score(&mut self, residuals: &FrameResiduals, map: &mut AnomalyMap) -> Result<f32> {
        let probabilities = self.gives_probabilities();
        let (parameters, scratch) = (&self.parameters, &mut self.scratch);
        let judged = self.head.as_mut().map(|head| head.run(residuals)).transpose()?;
        if let (Some((blocks, placement)), true) = (judged, probabilities) {
            map_from_layers([(blocks, 1.0)].into_iter(), None, &placement, parameters, scratch, map);
        } else {
            let lengths = residuals.scales.iter().map(|scale| scale.norms.as_slice());
            let layers = lengths.zip(self.units.iter().copied());
            let factors = judged.map(|(blocks, _)| blocks);
            map_from_layers(layers, factors, &residuals.placement, parameters, scratch, map);
        }
        let window = parameters.window_in(map, residuals.placement.content);
        let score = score_from_map(map, window, &mut self.scratch);
        if !score.is_finite() {
            return Err(Error::new(ErrorKind::NotFinite, "the image's score is not a finite number"));
        }
        Ok(score)
    }
}

/// The engine: a package, loaded and ready.
///
/// ```no_run
/// # fn main() -> weakrest::Result<()> {
/// use weakrest::{Frame, Inspector};
///
/// let mut inspector = Inspector::open("bottle.weakrest")?;
/// let inspection = inspector.inspect(&Frame::open("part.png")?)?;
/// println!("{} (score {:.2}, threshold {:.2})", inspection.verdict, inspection.score, inspection.threshold);
/// for region in &inspection.regions {
///     println!("  {}×{} at {},{}", region.width, region.height, region.x, region.y);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Inspector {
    features: FeatureStage,
    residuals: ResidualStage,
    classify: ClassifyStage,
    buffers: (Features, FrameResiduals),
    #[cfg(feature = "workshop")]
    fullest: usize,
    product: String,
    package: String,
}

/// The slowest provider of networks; the CPU without any.
pub(crate) fn slowest<'a>(networks: impl Iterator<Item = (&'a str, Provider)>) -> Provider {
    networks.map(|(_, provider)| provider).max().unwrap_or(Provider::Cpu)
}

impl Inspector {
    /// Opens and verifies a package, and checks the scores of its golden images.
    ///
    /// # Errors
    /// As [`Package::open`] and [`Inspector::with_options`].
    pub fn open(package: impl AsRef<Path>) -> Result<Self> {
        Self::with_options(Package::open(package)?, &Options::default())
    }

    /// As [`Inspector::open`], for an open package and with the device's options.
    ///
    /// # Errors
    /// - [`ErrorKind::Runtime`] without a usable ONNX Runtime.
    /// - [`ErrorKind::Model`] if the backbone cannot run.
    /// - [`ErrorKind::Package`] if a golden image gets another score, or the package's threshold rejects the
    ///   ordinary one or passes it with a painted defect.
    /// - [`ErrorKind::Usage`] if the threshold in the options does.
    pub fn with_options(mut package: Package, options: &Options) -> Result<Self> {
        let golden = std::mem::take(&mut package.golden);
        let mut inspector = Self::unproven(package, options)?;
        inspector.check_golden(golden, options.threshold.is_some())?;
        Ok(inspector)
    }

    /// As [`Inspector::with_options`], without the golden images. For measurements of changed packages: the
    /// verdicts mean nothing.
    ///
    /// # Errors
    /// As [`Inspector::with_options`].
    pub(crate) fn unproven(package: Package, options: &Options) -> Result<Self> {
        let runtime = Runtime::load(options.onnxruntime.as_deref())?;
        let threshold = options.threshold.unwrap_or(package.manifest.threshold.value);
        if !threshold.is_finite() {
            return Err(Error::new(ErrorKind::Usage, "the threshold must be a finite number"));
        }
        let Package { manifest, backbone, banks, head, hash, .. } = package;
        let network = Network::backbone(runtime, &backbone, &options.execution)?;
        let head = match (&manifest.head, head) {
            (Some(info), Some(onnx)) => {
                let channels = manifest.backbone.kind.channels();
                Some(Head::new(runtime, &onnx, info, channels, &manifest.scales, &options.execution)?)
            }
            _ => None,
        };
        let mut inspector = Inspector {
            features: FeatureStage::new(
                network,
                manifest.geometry(),
                manifest.input.color,
                manifest.input.size,
                &manifest.backbone,
            ),
            residuals: ResidualStage::new(Arc::new(banks)),
            classify: ClassifyStage::new(head, &manifest.scales, manifest.map, threshold),
            #[cfg(feature = "workshop")]
            fullest: manifest.backbone.kind.fullest(),
            buffers: Default::default(),
            product: manifest.product,
            package: hash,
        };
        inspector.features.keep_picture(inspector.classify.needs_picture());
        Ok(inspector)
    }

    /// Frame → inspection: the three stages in a row.
    ///
    /// # Errors
    /// As [`FeatureStage::run`], [`ResidualStage::run`] and [`ClassifyStage::run`].
    pub fn inspect(&mut self, frame: &Frame) -> Result<Inspection> {
        let (features, residuals) = &mut self.buffers;
        self.features.run(frame, features)?;
        self.residuals.run(features, residuals)?;
        let mut inspection = Inspection::default();
        self.classify.run(residuals, &mut inspection)?;
        Ok(inspection)
    }

    /// The three stages, to run on three threads.
    #[doc(hidden)]
    pub fn into_stages(self) -> (FeatureStage, ResidualStage, ClassifyStage) {
        (self.features, self.residuals, self.classify)
    }

    /// Scores above it are rejected.
    pub fn threshold(&self) -> f32 {
        self.classify.threshold()
    }

    /// The product's name.
    pub fn product(&self) -> &str {
        &self.product
    }

    /// SHA-256 of the package's manifest, in hexadecimal. It identifies the package.
    pub fn package(&self) -> &str {
        &self.package
    }

    /// Names of the networks, each with the provider that really ran it on the golden images.
    pub fn providers(&self) -> impl Iterator<Item = (&str, Provider)> {
        self.features.provider().into_iter().chain(self.classify.provider())
    }

    /// The slowest of [`Inspector::providers`].
    pub fn provider(&self) -> Provider {
        slowest(self.providers())
    }

    /// The color that frames must have.
    pub fn color(&self) -> Color {
        self.features.color
    }

    /// Checks that this machine computes the golden scores, and that the threshold can judge.
    fn check_golden(&mut self, golden: Vec<Golden>, overridden: bool) -> Result<()> {
        let ordinary = golden
            .iter()
            .find(|image| image.info.file == ORDINARY)
            .ok_or_else(|| damaged(format!("the golden image {ORDINARY} is missing; enroll again")))?;
        // Painted anew, because a package could bring a defect of its own.
        let standard = Standard {
            ordinary: self.golden_score(&ordinary.frame)?,
            painted: self.golden_score(&painted(&ordinary.frame)?)?,
        };
        // A huge threshold must not widen the tolerance.
        let most = golden_tolerance(standard.painted, self.classify.gives_probabilities());
        for mut image in golden {
            let score = self.golden_score(&image.frame)?;
            image.tolerance = image.tolerance.min(most);
            image.check(score)?;
        }
        let (kind, advice) = match overridden {
            true => {
                (ErrorKind::Usage, "choose one between the two scores, or remove it to use the package's")
            }
            false => (ErrorKind::Package, "enroll again"),
        };
        standard.check(self.threshold(), kind, advice)
    }

    fn golden_score(&mut self, frame: &Frame) -> Result<f32> {
        let (features, residuals) = &mut self.buffers;
        // Golden images have the scaled size, which the check for camera frames would refuse.
        let size = std::mem::replace(&mut self.features.size, FrameSize::Any);
        let ran = self.features.run(frame, features);
        self.features.size = size;
        ran?;
        self.residuals.run(features, residuals)?;
        self.classify.score(residuals, &mut AnomalyMap::default())
    }
}

#[cfg(feature = "workshop")]
impl Inspector {
    /// As [`Inspector::inspect`], with the data that clicks need.
    ///
    /// # Errors
    /// As [`Inspector::inspect`].
    pub fn prepare(&mut self, frame: &Frame) -> Result<Prepared> {
        self.features.keep_picture(true);
        let inspected = self.inspect(frame);
        self.features.keep_picture(self.classify.needs_picture());
        Ok(Prepared { inspection: inspected?, residuals: self.buffers.1.clone() })
    }

    /// Pixels of the scaled picture per pixel of the frame.
    pub(crate) fn scale_of(&self, frame: &Frame) -> f64 {
        let (width, height) = self.features.geometry.place(frame.width(), frame.height()).content;
        f64::from(width.max(height)) / f64::from(frame.width().max(frame.height()).max(1))
    }

    /// The bank of the scale that knows most of a part, and the scale's number.
    pub(crate) fn fullest_bank(&self) -> Option<(&Bank, usize)> {
        Some((self.residuals.banks().get(self.fullest)?, self.fullest))
    }
}
