//! Whether heads are better than the package, on pictures that they have not seen.

use super::batches::{Kind, Sample};
use super::blocks::Block;
use super::store::Store;
use crate::anomaly::AnomalyMap;
use crate::enroll::{Unit, threshold_from_scores};
use crate::error::Result;
use crate::evaluate::metrics::average_precision;
use crate::imaging::Placement;
use crate::inspector::{ClassifyStage, Head, Options};
use crate::onnx::Runtime;
use crate::package::{HeadFile, Manifest, Package};

/// Logarithm of a clearly higher score.
const CLEARLY: f64 = 0.05;

/// One judge's results on the same pictures.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Results {
    /// Defective pictures that are rejected.
    pub rejected: usize,
    /// Good pictures that are rejected.
    pub false_rejects: usize,
    /// Mean logarithm of score by threshold of defective pictures.
    pub margin: f64,
    /// Average precision of blocks: how well the map shows the places of defects. None without places.
    pub precision: Option<f64>,
    scores: Vec<f32>,
    truths: Vec<bool>,
}

/// The package, and heads that have not seen the pictures which they judge.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Comparison {
    /// Labeled defective pictures.
    pub defective: usize,
    /// Good pictures, counted for each head that judged them.
    pub good: usize,
    pub package: Results,
    pub head: Results,
}

impl Comparison {
    /// Whether the heads are better: a larger share of defects rejected minus the share of good pictures
    /// rejected; where that is equal, defects clearly further above the threshold.
    pub fn is_better(&self) -> bool {
        let worth = |results: &Results| {
            let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
            share(results.rejected, self.defective) - share(results.false_rejects, self.good)
        };
        let (head, package) = (worth(&self.head), worth(&self.package));
        head > package + 1e-9 || (head > package - 1e-9 && self.head.margin > self.package.margin + CLEARLY)
    }

    pub(super) fn finish(&mut self) -> Result<()> {
        for results in [&mut self.package, &mut self.head] {
            results.margin /= self.defective.max(1) as f64;
            results.precision = average_precision(&results.scores, &results.truths)?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (head, package) = (&self.head, &self.package);
        write!(
            f,
            "cross-validated on {} defective and {} good pictures: with the head {} defects rejected (without {}), {} \
             false rejects ({}), defects at {:.2} times the threshold ({:.2})",
            self.defective,
            self.good,
            head.rejected,
            package.rejected,
            head.false_rejects,
            package.false_rejects,
            head.margin.exp(),
            package.margin.exp()
        )?;
        if let (Some(head), Some(package)) = (head.precision, package.precision) {
            write!(f, ", places found with an average precision of {head:.3} ({package:.3})")?;
        }
        Ok(())
    }
}

/// Runs heads, and the package's own classification.
pub(super) struct Judge {
    manifest: Manifest,
    own: ClassifyStage,
    options: Options,
}

impl Judge {
    /// # Errors
    /// Those of loading the package's head.
    pub fn new(package: Package, options: &Options) -> Result<Self> {
        let Package { manifest, head, .. } = package;
        let own = match (&manifest.head, head) {
            (Some(info), Some(onnx)) => {
                let runtime = Runtime::load(options.onnxruntime.as_deref())?;
                let channels = manifest.backbone.kind.channels();
                Some(Head::new(runtime, &onnx, info, channels, &manifest.scales, &options.execution)?)
            }
            _ => None,
        };
        let own = ClassifyStage::new(own, &manifest.scales, manifest.map, f32::MAX);
        Ok(Judge { manifest, own, options: options.clone() })
    }

    /// Adds the results of a head that has not seen `held`, nor the good pictures `setting`, which set its
    /// threshold. The package's threshold is its own. Each of `setting` is judged by the threshold of the
    /// others, the package's by that of all `goods` but this one.
    ///
    /// # Errors
    /// Those of running the heads.
    pub fn compare(
        &mut self,
        store: &Store,
        head: &HeadFile,
        [goods, setting, held]: [&[&Sample]; 3],
        comparison: &mut Comparison,
    ) -> Result<()> {
        let Judge { manifest, own, options } = self;
        let runtime = Runtime::load(options.onnxruntime.as_deref())?;
        let channels = manifest.backbone.kind.channels();
        let head =
            Head::new(runtime, &head.onnx, &head.info, channels, &manifest.scales, &options.execution)?;
        let mut trained = ClassifyStage::new(Some(head), &manifest.scales, manifest.map, f32::MAX);
        let own_unit = if manifest.scores_are_probabilities() { Unit::Probability } else { Unit::Length };
        let is_good = |sample: &Sample| sample.kind == Kind::Good;
        comparison.good += setting.len() + held.iter().filter(|sample| is_good(sample)).count();
        comparison.defective += held.iter().filter(|sample| !is_good(sample)).count();
        for (stage, unit, results, goods, threshold) in [
            (&mut trained, Unit::Length, &mut comparison.head, setting, None),
            (own, own_unit, &mut comparison.package, goods, Some(manifest.threshold.value)),
        ] {
            let mut map = AnomalyMap::default();
            let mut score = |sample: &Sample, map: &mut AnomalyMap| -> Result<f32> {
                stage.score(&store.residuals(sample.picture)?, map)
            };
            let scores: Vec<f32> =
                goods.iter().map(|sample| score(sample, &mut map)).collect::<Result<_>>()?;
            let rate = manifest.threshold.false_reject_rate;
            let limit = |scores: &[f32]| -> Result<f32> {
                let parts: Vec<usize> = (0..scores.len()).collect();
                Ok(threshold_from_scores(scores, &parts, rate, unit)?.value)
            };
            for (number, sample) in goods.iter().enumerate() {
                if setting.iter().any(|other| other.picture == sample.picture) {
                    let mut others = scores.clone();
                    let own = others.remove(number);
                    results.false_rejects += usize::from(own > limit(&others)?);
                }
            }
            let threshold = threshold.map_or_else(|| limit(&scores), Ok)?;
            for sample in held {
                let own = score(sample, &mut map)?;
                if is_good(sample) {
                    results.false_rejects += usize::from(own > threshold);
                    continue;
                }
                results.rejected += usize::from(own > threshold);
                let ratio = f64::from(own.max(1e-9)) / f64::from(threshold.max(1e-9));
                results.margin += ratio.ln();
                if sample.has_places() {
                    let values = of_blocks(&map, &store.pictures[sample.picture].placement);
                    for (block, value) in sample.blocks.iter().zip(values) {
                        if *block != Block::Mixed {
                            results.scores.push(value / threshold.max(1e-9));
                            results.truths.push(*block != Block::Good);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// The map in the middle of each block.
fn of_blocks(map: &AnomalyMap, placement: &Placement) -> Vec<f32> {
    let (rows, cols) = placement.grid;
    let at = |block: usize, content: u32, count: usize| {
        let pixel = (block as f32 + 0.5) * placement.stride as f32;
        ((pixel / content.max(1) as f32 * count as f32) as usize).min(count.saturating_sub(1))
    };
    let value = |block: usize| {
        let (row, col) = (block / cols, block % cols);
        let place =
            at(row, placement.content.1, map.height) * map.width + at(col, placement.content.0, map.width);
        map.values.get(place).copied().unwrap_or(0.0)
    };
    (0..rows * cols).map(value).collect()
}
