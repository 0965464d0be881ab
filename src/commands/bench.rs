//! `weakrest bench`

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::inspector::{Options, Percentiles, Provider, StagePercentiles};
use crate::{Frame, Inspector, Package, Result};

use super::{Outcome, RuntimeArguments, inspector, pictures_in};

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Package to measure
    package: PathBuf,
    /// Folder of pictures to inspect repeatedly
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Number of frames to time
    #[arg(long, value_name = "N", default_value_t = 200, allow_negative_numbers = true,
        value_parser = clap::value_parser!(u32).range(1..=MOST_FRAMES))]
    frames: u32,
    /// Number of frames before timing starts
    #[arg(long, value_name = "N", default_value_t = 20, allow_negative_numbers = true,
        value_parser = clap::value_parser!(u32).range(..=MOST_FRAMES))]
    warmup: u32,
    /// Number of similar good pictures to compare with [default: the package's]
    #[arg(short = 'k', long, value_name = "K")]
    similar: Option<NonZeroUsize>,
    /// Write the input of each nearest-neighbor search to a safetensors file, without timing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["frames", "warmup", "json"])]
    dump: Option<PathBuf>,
    /// Write the network's features of every picture to a safetensors file, and time nothing
    #[arg(long, value_name = "FILE", hide = true, conflicts_with_all = ["frames", "warmup", "json", "dump"])]
    dump_features: Option<PathBuf>,
    /// Print the times as JSON, several providers as a list
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// The times are kept in memory.
const MOST_FRAMES: i64 = 1_000_000;
/// Number of pictures in memory: more than a cache holds, and few enough for a small board.
const IN_MEMORY: usize = 32;

impl Bench {
    pub fn run(self) -> Result<Outcome> {
        let mut pictures = pictures_in(&self.images)?;
        if self.dump_features.is_none() {
            pictures.truncate(IN_MEMORY);
        }
        let package = self.open()?;
        let dims: Vec<String> = package.banks.iter().map(|bank| bank.dims().to_string()).collect();
        let bank = format!("{} tokens, {} dimensions", package.tokens(), dims.join(" + "));
        let fullest = package.manifest.backbone.kind.fullest();
        let (side, similar) = (package.manifest.scaling.longest_side, package.manifest.posfar.images);
        let mut options = self.runtime.options();
        if let Some(file) = self.dump.as_ref().or(self.dump_features.as_ref()) {
            let inspector = self.inspector(package, &options)?;
            return dump(inspector, &pictures, file, self.dump.is_some(), fullest);
        }
        let frames: Vec<Frame> = pictures.iter().map(Frame::open).collect::<Result<_>>()?;
        let (mut runs, mut opened) = (Vec::new(), Some(package));
        for provider in std::mem::take(&mut options.execution.providers) {
            options.execution.providers = vec![provider];
            let package = opened.take().map_or_else(|| self.open(), Ok)?;
            let mut inspector = self.inspector(package, &options)?;
            let (mut times, mut scores) = (Vec::with_capacity(self.frames as usize), vec![0.0; frames.len()]);
            for i in 0..self.warmup + self.frames {
                let picture = i as usize % frames.len();
                let inspected = inspector.inspect(&frames[picture]);
                let inspection = inspected.map_err(|e| e.within(pictures[picture].display()))?;
                scores[picture] = inspection.score;
                if i >= self.warmup {
                    times.push(inspection.times);
                }
            }
            runs.push(Run {
                provider,
                milliseconds: StagePercentiles::of(&times),
                score_difference: None,
                scores,
            });
        }
        let cpu = runs.iter().find(|run| run.provider == Provider::Cpu).map(|run| run.scores.clone());
        for run in runs.iter_mut().filter(|run| run.provider != Provider::Cpu) {
            let apart = |(own, cpu): (&f32, &f32)| (own - cpu).abs() / cpu.abs().max(f32::MIN_POSITIVE);
            run.score_difference =
                cpu.as_ref().map(|cpu| run.scores.iter().zip(cpu).map(apart).fold(0.0, f32::max));
        }
        if self.json {
            let report = match &*runs {
                [Run { provider, milliseconds, .. }] => {
                    json!({ "frames": self.frames, "provider": provider, "milliseconds": milliseconds })
                }
                _ => json!({ "frames": self.frames, "providers": runs }),
            };
            say!("{report}")?;
            return Ok(Outcome::Pass);
        }
        let threads = options.execution.threads.map_or("all".to_owned(), |n| n.to_string());
        say!("{} frames at {side} px, {threads} threads, K = {similar}, bank of {bank}", self.frames)?;
        for run in &runs {
            say!("{:12} {:>10} {:>10}", format!("on {}", run.provider), "median ms", "95 % ms")?;
            let row = |name: &str, p: Percentiles| say!("{name:12} {:>10.2} {:>10.2}", p.median, p.p95);
            let stages = &run.milliseconds;
            row("features", stages.features)?;
            row("residuals", stages.residuals)?;
            row("classify", stages.classify)?;
            row("total", stages.total)?;
            if let Some(difference) = run.score_difference {
                say!("scores differ from the CPU's by {:.2} % at most", 100.0 * difference)?;
            }
        }
        Ok(Outcome::Pass)
    }

    fn open(&self) -> Result<Package> {
        let mut package = Package::open(&self.package)?;
        if let Some(similar) = self.similar {
            package.manifest.posfar.images = similar.get();
            let banks = package.banks.into_iter().map(|bank| bank.with_images(similar.get()));
            package.banks = banks.collect::<std::result::Result<_, _>>()?;
        }
        Ok(package)
    }

    fn inspector(&self, package: Package, options: &Options) -> Result<Inspector> {
        match self.similar {
            // The golden scores are for the package's own number.
            Some(_) => Inspector::unproven(package, options),
            None => inspector(&self.package, package, options),
        }
    }
}

/// The measurement of one provider.
#[derive(Serialize)]
struct Run {
    provider: Provider,
    milliseconds: StagePercentiles,
    /// Largest difference of a picture's score from the CPU's, as a share of it.
    score_difference: Option<f32>,
    #[serde(skip)]
    scores: Vec<f32>,
}

#[cfg(not(feature = "workshop"))]
fn dump(_: Inspector, _: &[PathBuf], _: &Path, _: bool, _: usize) -> Result<Outcome> {
    Err(super::workshop::hand_over("weakrest bench --dump"))
}

#[cfg(feature = "workshop")]
fn dump(
    inspector: Inspector,
    pictures: &[PathBuf],
    file: &Path,
    searches: bool,
    scale: usize,
) -> Result<Outcome> {
    use crate::evaluate::Dump;
    use crate::inspector::{Features, FrameResiduals};

    let (mut features, mut residuals, _) = inspector.into_stages();
    let (mut tokens, mut out, mut dump) = (Features::default(), FrameResiduals::default(), Dump::default());
    for (number, picture) in pictures.iter().enumerate() {
        features.run(&Frame::open(picture)?, &mut tokens)?;
        if searches {
            residuals.run(&tokens, &mut out)?;
            dump.add_search(number, &residuals, scale);
        } else {
            dump.add_features(number, &tokens, scale);
        }
    }
    dump.write(file)?;
    let what = if searches { "searches" } else { "pictures' features" };
    say!("{} {what} written to {}", pictures.len(), file.display())?;
    Ok(Outcome::Pass)
}
