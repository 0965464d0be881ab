//! `weakrest train`

use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use clap::Args;

use crate::clock::civil;
use crate::enroll::{Enrollment, Progress, add_head};
use crate::package::check_target;
use crate::training::{Comparison, Course, Settings};
use crate::{Error, ErrorKind, Package, Result};

use super::enroll::{summarize, unless_stopped};
use super::terminal::EnrollBar;
use super::{Outcome, RuntimeArguments, pictures_in};

/// Arguments of `train`.
#[derive(Debug, Args)]
#[command(after_help = "\
Heads of two thirds of the labels judge the others first. Without a better head nothing is written, and the exit
code is 1.")]
pub struct Train {
    /// Package of the product. A head that it has is replaced
    package: PathBuf,
    /// Folder of the enrolled pictures of good parts
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Label file, as `weakrest label` writes it
    #[arg(long, value_name = "FILE.jsonl")]
    labels: PathBuf,
    /// Package to write
    #[arg(long, value_name = "PACKAGE")]
    output: PathBuf,
    /// Replace an existing package
    #[arg(long)]
    overwrite: bool,
    /// Write the package even if the head is no better; the package keeps the reason
    #[arg(long, value_name = "REASON")]
    anyway: Option<String>,
    /// Seed of random numbers
    #[arg(long, default_value_t = Settings::default().seed, allow_negative_numbers = true)]
    seed: u64,
    /// Steps of each of the four trainings
    #[arg(long, default_value_t = Settings::default().steps as u32, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    #[command(flatten)]
    runtime: RuntimeArguments,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
    /// Print the progress, too: a JSON object per line
    #[arg(long, requires = "json")]
    progress: bool,
}

/// What came of a training.
struct Done {
    comparison: Comparison,
    /// None if the head is not better.
    enrollment: Option<Enrollment>,
}

impl Train {
    pub fn run(self) -> Result<Outcome> {
        let start = Instant::now();
        check_target(&self.output, self.overwrite)?;
        if self.anyway.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
            return Err(Error::new(ErrorKind::Usage, "--anyway needs a reason in words"));
        }
        let pictures = pictures_in(&self.images)?;
        let bar = if self.progress { EnrollBar::lines() } else { EnrollBar::new() };
        let Done { comparison, enrollment } = unless_stopped(bar, |progress| self.work(&pictures, progress))?;
        let seconds = start.elapsed().as_secs_f64();
        let better = comparison.is_better();
        if self.json {
            let judged = |results: &crate::training::Results| {
                serde_json::json!({
                    "rejected": results.rejected,
                    "false_rejects": results.false_rejects,
                    "margin": results.margin.exp(),
                    "block_average_precision": results.precision,
                })
            };
            let Comparison { defective, good, package, head } = &comparison;
            say!(
                "{}",
                serde_json::json!({
                    "better": better, "written": enrollment.is_some(), "defective": defective, "good": good,
                    "with_head": judged(head), "without": judged(package), "seconds": seconds,
                })
            )?;
        } else {
            say!("{comparison}")?;
        }
        let Some(mut done) = enrollment else {
            remark!(
                "the head is not better than the package: nothing is written. Label more pictures of what is missed,"
            );
            remark!(
                "with masks or boxes, or enroll with a higher --quality; --anyway REASON writes it all the same"
            );
            return Ok(Outcome::Reject);
        };
        done.package.write(&self.output, self.overwrite)?;
        if !self.json {
            summarize(&done, &self.output.display().to_string(), seconds)?;
        }
        Ok(Outcome::Pass)
    }

    fn work(&self, pictures: &[PathBuf], progress: Progress) -> Result<Option<Done>> {
        let options = self.runtime.options();
        let settings = Settings { seed: self.seed, steps: self.steps as usize };
        let course = Course::prepare(&self.package, pictures, &self.labels, settings, &options, progress)?;
        let Some(mut course) = course else { return Ok(None) };
        let Some(comparison) = course.compare(progress)? else { return Ok(None) };
        if !comparison.is_better() && self.anyway.is_none() {
            return Ok(Some(Done { comparison, enrollment: None }));
        }
        let Some(trained) = course.train(progress)? else { return Ok(None) };
        let contents = Package::open(&self.package)?;
        let added = add_head(contents, &trained.head, &trained.held_out, &[], &options, progress)?;
        let Some(mut enrollment) = added else { return Ok(None) };
        enrollment.package.manifest.history.push(self.note(&comparison));
        Ok(Some(Done { comparison, enrollment: Some(enrollment) }))
    }

    /// The note in the package's history.
    fn note(&self, comparison: &Comparison) -> String {
        let [year, month, day, ..] = civil(SystemTime::now());
        let reason = match &self.anyway {
            Some(reason) if !comparison.is_better() => {
                format!("; not better, written because: {}", reason.trim())
            }
            _ => String::new(),
        };
        format!("{year:04}-{month:02}-{day:02} head trained, {comparison}{reason}")
    }
}
