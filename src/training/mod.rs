//! Training: residuals for `weakrest-export`, and the small trainer of heads, which needs no Python.
//!
//! [`Course`] computes the residuals of good, labeled, pasted and painted pictures once. It then trains heads
//! of a part of the labels to judge the others, and at last one of all. `weakrest-export train` is the larger
//! trainer: synthetic defects, other networks, GPUs. Both have the same block labels, losses and settings.

mod batches;
mod blocks;
mod compare;
mod pasting;
mod residuals;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use compare::{Comparison, Results};
pub(crate) use residuals::write_residuals;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use posfar::random::SplitMix64;
use rayon::prelude::*;
use swinhead::{Anchored, Schedule, Shape, Trainer};

use batches::{Drawer, Kind, Sample};
use blocks::Known;
use compare::Judge;
use store::Store;

use crate::enroll::{Progress, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::imaging::Frame;
use crate::inspector::{Features, FrameResiduals, Inspector, Options};
use crate::labels::{Form, LabelFile, Tag, corners, real};
use crate::onnx::head_with_weights;
use crate::package::{BlockHead, Head, HeadFile, HeadOutput, NetworkInfo, Package};

/// Neighbors per token. Training draws one of them for each token.
const NEIGHBORS: usize = 3;
/// Heads that are trained to judge pictures which they have not seen.
const FOLDS: usize = 3;
/// With fewer labeled defective pictures there is nothing to compare.
const FEWEST: usize = 4;
/// Good pictures that a head learns from at most. More teach it little, but make its threshold surer.
const LEARNED: usize = 160;
/// Good pictures to train and compare with at most.
const GOODS: usize = 400;
/// With fewer held out, the threshold of so few pictures would miss more than that of all, which training has
/// seen.
const FEWEST_HELD_OUT: usize = 5;
/// Good pictures with labeled defects.
const PASTED: usize = 80;
/// Good pictures with painted defects.
const PAINTED: usize = 60;
/// Pictures per step.
const BATCH: usize = 16;
/// How often the surely defective blocks are decided again.
const CHECKS: usize = 5;
/// Side of the window whose mean decides on a picture, in pixels of the scaled picture.
const SPAN: u32 = 16;
/// Size of the built-in head, whose graph all heads have.
const WIDTH: usize = 64;
const DEPTH: usize = 2;
/// Name of the network.
const NAME: &str = "head";

/// How a head is trained.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Of everything random.
    pub seed: u64,
    /// Steps of each training.
    pub steps: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { seed: 0, steps: Schedule::default().steps }
    }
}

/// A picture with a label.
struct Labeled {
    path: PathBuf,
    known: Known,
    /// Type of defect.
    kind: String,
}

/// The pictures that a head learns a product from, with their residuals.
pub(crate) struct Course {
    settings: Settings,
    store: Store,
    samples: Vec<Sample>,
    judge: Judge,
    goods: Vec<PathBuf>,
    labeled: Vec<Labeled>,
    backbone: String,
    stride: u32,
}

/// A head, and the good pictures that set its threshold: it has not seen them, unless there are too few.
pub(crate) struct Trained {
    pub head: HeadFile,
    pub held_out: Vec<PathBuf>,
}

impl Course {
    /// Reads labels and pictures, and computes their residuals. `goods` are the enrolled pictures. The result
    /// is `None` if `progress` returned `false`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for labels that cannot be used, with file and picture; [`ErrorKind::Image`] for a
    /// picture that cannot; as [`Inspector::with_options`] for the package.
    pub fn prepare(
        package: &Path,
        goods: &[PathBuf],
        labels: &Path,
        settings: Settings,
        options: &Options,
        progress: Progress,
    ) -> Result<Option<Course>> {
        let labeled = read_labels(labels, goods)?;
        let judge = Judge::new(Package::open(package)?, options)?;
        let package = Package::open(package)?;
        let all = goods;
        let step = goods.len().div_ceil(GOODS).max(1);
        let goods: Vec<&PathBuf> = goods.iter().step_by(step).collect();
        let backbone = files::sha256(&package.backbone);
        let scales = package.manifest.backbone.kind.scales.iter().map(|scale| scale.channels).collect();
        let units = package.manifest.scales.iter().map(|scale| scale.residual_scale).collect();
        let stride = package.manifest.geometry().stride;
        let enrolled = package.pictures.clone();
        let numbers = enrolled.numbers();
        let (mut features, mut residuals, _) = Inspector::with_options(package, options)?.into_stages();
        let mut store = Store::new(&std::env::temp_dir(), scales, units)?;
        let mut samples = Vec::new();
        let (mut tokens, mut found) = (Features::default(), FrameResiduals::default());
        let mut add = |store: &mut Store, frame: &Frame, without: &Frame| -> Result<usize> {
            features.run(frame, &mut tokens)?;
            let number = numbers.get(&without.digest()).copied();
            residuals.run_without(&tokens, enrolled.of_same_part(number), NEIGHBORS, &mut found)?;
            store.add(&found)?;
            Ok(store.pictures.len() - 1)
        };
        let placed: Vec<usize> = (0..labeled.len())
            .filter(|&number| matches!(labeled[number].known, Known::Placed { .. }))
            .collect();
        let pasted = if placed.is_empty() { 0 } else { PASTED };
        let total = goods.len() + labeled.len() + pasted + PAINTED;
        for (number, path) in goods.iter().enumerate() {
            let frame = Frame::open(path)?;
            let picture = add(&mut store, &frame, &frame).map_err(|e| e.within(path.display()))?;
            samples.push(Sample::new(&store, picture, Kind::Good, &Known::Good, None, Some(number)));
            if !progress(Step::Features, samples.len(), total) {
                return Ok(None);
            }
        }
        for (number, label) in labeled.iter().enumerate() {
            let frame = Frame::open(&label.path)?;
            let picture = add(&mut store, &frame, &frame).map_err(|e| e.within(label.path.display()))?;
            let kind = if matches!(label.known, Known::Good) { Kind::Good } else { Kind::Defective };
            samples.push(Sample::new(&store, picture, kind, &label.known, Some(number), None));
            if !progress(Step::Features, samples.len(), total) {
                return Ok(None);
            }
        }
        for turn in 0..pasted {
            let (number, mut random) = (placed[turn % placed.len()], mixed(settings.seed, turn as u64));
            let (label, good) = (&labeled[number], random.below(goods.len()));
            let (frame, below) = (Frame::open(&label.path)?, Frame::open(goods[good])?);
            if let Some((made, known)) = pasting::paste(&frame, &label.known, &below, &mut random)? {
                let picture = add(&mut store, &made, &below).map_err(|e| e.within(label.path.display()))?;
                samples.push(Sample::new(&store, picture, Kind::Pasted, &known, Some(number), Some(good)));
            }
            if !progress(Step::Features, goods.len() + labeled.len() + turn + 1, total) {
                return Ok(None);
            }
        }
        for turn in 0..PAINTED {
            let mut random = mixed(settings.seed, u64::from(u32::MAX) + turn as u64);
            let good = random.below(goods.len());
            let below = Frame::open(goods[good])?;
            let (made, mask) = pasting::paint(&below, &mut random)?;
            let known = Known::Placed { boxes: Vec::new(), mask: Some(mask) };
            let picture = add(&mut store, &made, &below).map_err(|e| e.within(goods[good].display()))?;
            let mut sample = Sample::new(&store, picture, Kind::Painted, &known, None, Some(good));
            sample.hide_unseen(&store, &store.pictures[good].suspicion);
            samples.push(sample);
            if !progress(Step::Features, goods.len() + labeled.len() + pasted + turn + 1, total) {
                return Ok(None);
            }
        }
        let goods = all.to_vec();
        Ok(Some(Course { settings, store, samples, judge, goods, labeled, backbone, stride }))
    }

    /// Numbers of the good pictures of which a head of this turn learns nothing.
    fn held_out(&self, turn: usize) -> HashSet<usize> {
        let numbers = self.samples.iter().filter(|s| s.kind == Kind::Good).filter_map(|s| s.good);
        let mut order: Vec<usize> = numbers.collect();
        let mut random = mixed(self.settings.seed, u64::MAX);
        for at in (1..order.len()).rev() {
            order.swap(at, random.below(at + 1));
        }
        let count = order.len().saturating_sub(LEARNED).max(order.len() / 5);
        if count < FEWEST_HELD_OUT {
            return HashSet::new();
        }
        (0..count).map(|at| order[(turn * count + at) % order.len()]).collect()
    }

    /// Compares heads of a part of the labels with the package, on the other labels. The result is `None` if
    /// `progress` returned `false`.
    ///
    /// # Errors
    /// Those of training and of running the heads.
    pub fn compare(&mut self, progress: Progress) -> Result<Option<Comparison>> {
        // Alike types go to different folds.
        let mut order: Vec<usize> = (0..self.labeled.len()).collect();
        order.sort_by(|&a, &b| {
            let key = |number: usize| (&self.labeled[number].kind, &self.labeled[number].path);
            key(a).cmp(&key(b))
        });
        let mut comparison = Comparison::default();
        for fold in 0..FOLDS {
            let goods = self.held_out(fold);
            let labels: HashSet<usize> = order.iter().copied().skip(fold).step_by(FOLDS).collect();
            let Some(head) = self.learn(fold, &goods, &labels, progress)? else { return Ok(None) };
            let is_held = |s: &&Sample| {
                s.kind != Kind::Pasted && s.labeled.is_some_and(|number| labels.contains(&number))
            };
            let held: Vec<&Sample> = self.samples.iter().filter(is_held).collect();
            let is_enrolled = |s: &&Sample| s.kind == Kind::Good && s.good.is_some();
            let enrolled: Vec<&Sample> = self.samples.iter().filter(is_enrolled).collect();
            // Without any held out, all set the threshold.
            let sets =
                |s: &&&Sample| goods.is_empty() || s.good.is_some_and(|number| goods.contains(&number));
            let setting: Vec<&Sample> = enrolled.iter().filter(sets).copied().collect();
            let judged: [&[&Sample]; 3] = [&enrolled, &setting, &held];
            self.judge.compare(&self.store, &head, judged, &mut comparison)?;
        }
        comparison.finish()?;
        Ok(Some(comparison))
    }

    /// Trains a head of all labels. The result is `None` if `progress` returned `false`.
    ///
    /// # Errors
    /// Those of training.
    pub fn train(&self, progress: Progress) -> Result<Option<Trained>> {
        let held = self.held_out(FOLDS);
        let Some(head) = self.learn(FOLDS, &held, &HashSet::new(), progress)? else { return Ok(None) };
        let step = self.goods.len().div_ceil(GOODS).max(1);
        let learned = |at: usize| at.is_multiple_of(step) && !held.contains(&(at / step));
        let goods = self.goods.iter().enumerate();
        let held_out = goods.filter(|(at, _)| held.is_empty() || !learned(*at)).map(|(_, path)| path.clone());
        Ok(Some(Trained { head, held_out: held_out.collect() }))
    }

    /// Trains a head without some good and some labeled pictures.
    fn learn(
        &self,
        turn: usize,
        goods: &HashSet<usize>,
        labels: &HashSet<usize>,
        progress: Progress,
    ) -> Result<Option<HeadFile>> {
        let seen = |sample: &&Sample| {
            let held = |number: Option<usize>, of: &HashSet<usize>| number.is_some_and(|n| of.contains(&n));
            !held(sample.good, goods) && !held(sample.labeled, labels)
        };
        let samples: Vec<&Sample> = self.samples.iter().filter(seen).collect();
        let steps = self.settings.steps;
        let head = Anchored::new(
            Shape { channels: self.store.channels(), width: WIDTH, depth: DEPTH },
            (SPAN / self.stride.max(1)) as usize,
        );
        let schedule = Schedule { steps, ..Schedule::default() };
        let mut trainer = Trainer::new(head, schedule, self.settings.seed);
        let mut drawer = Drawer::new(&self.store, &samples);
        let apart = steps.div_ceil(CHECKS);
        while trainer.done() < steps {
            let step = trainer.done();
            let draw = |slot: usize| {
                let mut random = mixed(self.settings.seed, (step * BATCH + slot) as u64);
                drawer.draw(&trainer.head, trainer.average(), &mut random)
            };
            let batch = (0..BATCH).into_par_iter().map(draw).collect::<Result<Vec<_>>>()?;
            let losses = trainer.step(&batch);
            if !losses.sum().is_finite() {
                let text = "the loss of the training is no longer a number: train with another --seed";
                return Err(Error::new(ErrorKind::NotFinite, text));
            }
            if trainer.done().is_multiple_of(apart) && drawer.has_unknown() {
                let average = trainer.average().to_vec();
                drawer.suspect(&trainer.head, &average)?;
            }
            if !progress(Step::Training, turn * steps + trainer.done(), (FOLDS + 1) * steps) {
                return Ok(None);
            }
        }
        self.file(&trainer, samples.len()).map(Some)
    }

    /// The head as `weakrest-export` would write it.
    fn file(&self, trainer: &Trainer, samples: usize) -> Result<HeadFile> {
        let weights = trainer.average();
        let template = HeadFile::built_in()?.onnx;
        let channels = self.store.channels();
        let onnx = head_with_weights(&template, NAME, channels, |name| named(&trainer.head, weights, name))?;
        let source = format!("{samples} pictures, {} of them labeled", self.labeled.len());
        let license = "LicenseRef-own".to_owned();
        let kind = Head::Block(BlockHead {
            backbone: self.backbone.clone(),
            channels,
            setting: self.setting().into(),
            window: 0,
            step: 0,
            output: HeadOutput::Correction,
        });
        let info = NetworkInfo { name: NAME.into(), source, license, kind };
        let license = format!("{}: {}\n", info.source, info.license);
        Ok(HeadFile { info, sha256: files::sha256(&onnx), onnx, license })
    }

    /// The kinds of labels, in a word.
    fn setting(&self) -> &'static str {
        let has = |what: fn(&Known) -> bool| self.labeled.iter().any(|label| what(&label.known));
        let boxes = has(|known| matches!(known, Known::Placed { boxes, .. } if !boxes.is_empty()));
        let masks = has(|known| matches!(known, Known::Placed { mask: Some(_), .. }));
        match (has(|known| matches!(known, Known::Tagged)), boxes, masks) {
            (true, false, false) => "tags",
            (false, true, false) => "boxes",
            (false, false, true) => "blocks",
            _ => "mixed",
        }
    }
}

/// The weights with a name, as the graph reads them.
fn named(head: &Anchored, weights: &[f32], name: &str) -> Option<Vec<f32>> {
    let layer = name.strip_prefix("layers.").and_then(|rest| rest.strip_suffix(".attention.bias"));
    if let Some(layer) = layer {
        return Some(head.layout.position_biases(weights, layer.parse().ok()?));
    }
    head.layout.parts().find(|(part, _)| *part == name).map(|(_, part)| weights[part.range()].to_vec())
}

/// A generator for one of several numbers of a seed.
fn mixed(seed: u64, number: u64) -> SplitMix64 {
    let seed = SplitMix64::new(seed).next_u64().wrapping_add(number);
    SplitMix64::new(SplitMix64::new(seed).next_u64())
}

fn read_labels(path: &Path, goods: &[PathBuf]) -> Result<Vec<Labeled>> {
    let wrong = |text: String| Err(Error::new(ErrorKind::Usage, text).within(path.display()));
    let file = LabelFile::open(path)?;
    let goods: HashSet<PathBuf> = goods.iter().map(|path| real(path)).collect();
    let mut labeled = Vec::new();
    for (picture, name, label) in file.iter() {
        let known = match label.tag {
            Tag::Good => Known::Good,
            Tag::Defective if goods.contains(picture) => {
                return wrong(format!(
                    "{name} is labeled defective, but is one of the good pictures: remove it there and enroll again"
                ));
            }
            Tag::Defective if label.shapes.is_empty() => Known::Tagged,
            Tag::Defective => {
                let (width, height, _) = Frame::header(picture)?;
                let boxes = label.shapes.iter().filter_map(|shape| match &shape.form {
                    Form::Box(shape) => Some(corners(*shape).to_vec()),
                    Form::Rotated(shape) => Some(shape.to_vec()),
                    Form::Polygon(_) | Form::Mask(_) => None,
                });
                Known::Placed { boxes: boxes.collect(), mask: file.mask(label, (width, height))? }
            }
        };
        // A good picture that is enrolled, too, is there already.
        if !goods.contains(picture) {
            let kind = label.kind().unwrap_or_default();
            labeled.push(Labeled { path: picture.to_path_buf(), known, kind });
        }
    }
    let defective = labeled.iter().filter(|label| !matches!(label.known, Known::Good)).count();
    if defective < FEWEST {
        return wrong(format!(
            "{defective} defective pictures are labeled, and a head needs {FEWEST}: label more with `weakrest label`"
        ));
    }
    Ok(labeled)
}
