//! `weakrest bench`

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::inspector::{Percentiles, StagePercentiles};
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
    /// Print the times as JSON
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
        let mut package = Package::open(&self.package)?;
        if let Some(similar) = self.similar {
            package.manifest.posfar.images = similar.get();
            let banks = package.banks.into_iter().map(|bank| bank.with_images(similar.get()));
            package.banks = banks.collect::<std::result::Result<_, _>>()?;
        }
        let dims: Vec<String> = package.banks.iter().map(|bank| bank.dims().to_string()).collect();
        let bank = format!("{} tokens, {} dimensions", package.tokens(), dims.join(" + "));
        let fullest = package.manifest.backbone.kind.fullest();
        let (side, similar) = (package.manifest.scaling.longest_side, package.manifest.posfar.images);
        let options = self.runtime.options();
        // The golden scores are for the package's own number.
        let mut inspector = match self.similar {
            Some(_) => Inspector::unproven(package, &options)?,
            None => inspector(&self.package, package, &options)?,
        };
        if let Some(file) = self.dump.as_ref().or(self.dump_features.as_ref()) {
            return dump(inspector, &pictures, file, self.dump.is_some(), fullest);
        }
        let frames: Vec<Frame> = pictures.iter().map(Frame::open).collect::<Result<_>>()?;
        let mut times = Vec::with_capacity(self.frames as usize);
        for i in 0..self.warmup + self.frames {
            let picture = i as usize % frames.len();
            let inspected = inspector.inspect(&frames[picture]);
            let inspection = inspected.map_err(|e| e.within(pictures[picture].display()))?;
            if i >= self.warmup {
                times.push(inspection.times);
            }
        }
        let stages = StagePercentiles::of(&times);
        if self.json {
            say!("{}", serde_json::json!({ "frames": self.frames, "milliseconds": stages }))?;
            return Ok(Outcome::Pass);
        }
        let threads = options.execution.threads.map_or("all".to_owned(), |n| n.to_string());
        say!("{} frames at {side} px, {threads} threads, K = {similar}, bank of {bank}", self.frames)?;
        say!("{:12} {:>10} {:>10}", "stage", "median ms", "95 % ms")?;
        let row = |name: &str, p: Percentiles| say!("{name:12} {:>10.2} {:>10.2}", p.median, p.p95);
        row("features", stages.features)?;
        row("residuals", stages.residuals)?;
        row("classify", stages.classify)?;
        row("total", stages.total)?;
        Ok(Outcome::Pass)
    }
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
