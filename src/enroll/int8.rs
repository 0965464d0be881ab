//! A backbone in 8-bit integers, measured on a product's good pictures.

use std::path::PathBuf;
use std::time::Duration;

use ndarray::Array4;

use super::{Progress, Settings, Step, pictures};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::imaging::{Frame, Geometry};
use crate::inspector::{FeatureStage, Features, Options};
use crate::onnx::{Int8, Network, Runtime};
use crate::package::{BackboneFile, FrameSize, NetworkInfo, Scaling, geometry};

/// Most pictures that the ranges are measured on.
const SEEN: usize = 32;
/// Most pictures that both networks are compared on.
const COMPARED: usize = 8;
/// Most that distances between good pictures' features may differ, as a share of their mean.
const LIMIT: f32 = 0.1;

/// A backbone in 8-bit integers, and how it compares with the one that it was made of: [`int8()`].
pub struct Int8Backbone {
    /// The network. It fits the pictures that it was made with.
    pub backbone: BackboneFile,
    /// Mean difference of distances between good pictures' features, as a share of the mean distance.
    pub difference: f32,
    /// Time of the other one, by time of this one, on this machine.
    pub speedup: f64,
}

/// Makes a backbone in 8-bit integers: faster on CPUs. The ranges of its values are those on the good pictures.
///
/// ```no_run
/// use weakrest::enroll::{Int8Backbone, Settings, Step, enroll, find_pictures, int8};
/// use weakrest::inspector::Options;
/// use weakrest::package::BackboneFile;
///
/// let pictures = find_pictures("bottle/train/good".as_ref())?;
/// let (settings, options) = (Settings::default(), Options::default());
/// let mut progress = |_: Step, _: usize, _: usize| true;
/// let made = int8(&pictures, &BackboneFile::built_in()?, &settings, &options, &mut progress)?;
/// if let Some(Int8Backbone { backbone, speedup, .. }) = made {
///     println!("{speedup:.1} times as fast");
///     enroll(&pictures, &backbone, &settings, &options, &mut progress)?;
/// }
/// # Ok::<(), weakrest::Error>(())
/// ```
///
/// # Errors
/// - [`ErrorKind::Image`] and [`ErrorKind::Usage`] as [`enroll`](super::enroll).
/// - [`ErrorKind::Model`] if the backbone has no convolutions, or distances between good pictures change too much.
pub fn int8(
    pictures: &[PathBuf],
    backbone: &BackboneFile,
    settings: &Settings,
    options: &Options,
    progress: Progress,
) -> Result<Option<Int8Backbone>> {
    settings.validate()?;
    let survey = pictures::survey(pictures, settings)?;
    let longest_side = settings.longest_side.unwrap_or(survey.longest_side);
    let native = settings.longest_side.is_none();
    let scaling = Scaling { longest_side, native, ignore: settings.ignore.clone() };
    let geometry = geometry(&scaling, &backbone.info.kind);
    geometry.validate()?;
    let name = &backbone.info.name;
    let runtime = Runtime::load(options.onnxruntime.as_deref())?;
    let mut made = Int8::new(runtime, &backbone.onnx).map_err(|e| e.within(name))?;

    let usable = &survey.usable;
    let each = usable.len().div_ceil(SEEN).max(1);
    let chosen: Vec<&PathBuf> = usable.iter().step_by(each).collect();
    for (done, path) in chosen.iter().enumerate() {
        // Enrolling tells which pictures cannot be read.
        if let Ok(content) = Frame::open(path).and_then(|frame| geometry.scale(&frame)) {
            let placement = geometry.place(content.width(), content.height());
            let mut input = Array4::zeros(placement.input());
            geometry.fill_input(&content, &placement, input.view_mut())?;
            made.see(&input).map_err(|e| e.within(path.display()))?;
        }
        if !progress(Step::Ranges, done + 1, chosen.len()) {
            return Ok(None);
        }
    }
    let onnx = made.write().map_err(|e| e.within(name))?;
    let info = NetworkInfo {
        name: format!("{name}-int8"),
        source: format!("{}, in 8-bit integers for pictures of {}", backbone.info.source, settings.product),
        ..backbone.info.clone()
    };
    let sha256 = files::sha256(&onnx);
    let license = backbone.license.clone();
    let new = BackboneFile { info, sha256, onnx, license };

    // Where there are enough, other pictures than those of the ranges.
    let others: Vec<&PathBuf> = usable.iter().skip(each / 2).step_by(each).take(COMPARED).collect();
    let both = [backbone, &new];
    let [float, int8] = both.map(|backbone| -> Result<Measured> {
        let network = Network::backbone(runtime, &backbone.onnx, &options.execution)?;
        let mut stage =
            FeatureStage::new(network, geometry.clone(), survey.color, FrameSize::Any, &backbone.info);
        measure(&mut stage, &geometry, &others).map_err(|e| e.within(&backbone.info.name))
    });
    let (float, int8) = (float?, int8?);
    let difference = difference(&float.distances, &int8.distances);
    let speedup = float.time.as_secs_f64() / int8.time.as_secs_f64().max(1e-9);
    if difference > LIMIT {
        let text = format!(
            "in 8-bit integers, distances between good pictures differ by {:.0} %, more than {:.0} %: enroll without \
             --int8",
            100.0 * difference,
            100.0 * LIMIT
        );
        return Err(Error::new(ErrorKind::Model, text).within(name));
    }
    Ok(Some(Int8Backbone { backbone: new, difference, speedup }))
}

/// What a network makes of pictures.
struct Measured {
    /// From each picture's tokens to those of the next at the same place.
    distances: Vec<f32>,
    /// The shortest of a picture.
    time: Duration,
}

fn measure(stage: &mut FeatureStage, geometry: &Geometry, pictures: &[&PathBuf]) -> Result<Measured> {
    let mut measured = Measured { distances: Vec::new(), time: Duration::MAX };
    let (mut last, mut features) = (Features::default(), Features::default());
    for frame in pictures.iter().filter_map(|path| Frame::open(path).ok()) {
        let content = geometry.scale(&frame)?;
        for _ in 0..3 {
            stage.run(&content, &mut features)?;
            measured.time = measured.time.min(features.time);
        }
        for (tokens, before) in features.tokens.iter().zip(&last.tokens) {
            for (token, before) in tokens.rows().into_iter().zip(before.rows()) {
                let square: f32 = token.iter().zip(before).map(|(a, b)| (a - b) * (a - b)).sum();
                measured.distances.push(square.sqrt());
            }
        }
        std::mem::swap(&mut last, &mut features);
    }
    Ok(measured)
}

fn difference(float: &[f32], int8: &[f32]) -> f32 {
    let sum: f32 = float.iter().sum();
    let apart: f32 = float.iter().zip(int8).map(|(a, b)| (a - b).abs()).sum();
    if sum > 0.0 { apart / sum } else { 0.0 }
}
