//! `weakrest inspect`

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use weakrest::enroll::find_pictures;
use weakrest::inspector::{Inspection, Inspector, StageTimes};
use weakrest::report::{Entry, OverlayOptions, Report, ReportWriter, overlay, save_picture};
use weakrest::{Error, Frame, Package, Region, Result, Verdict};

use super::package::facts;
use super::terminal::{ms, reader_is_gone};
use super::{Outcome, RuntimeArguments};

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// The package
    package: PathBuf,
    /// Pictures, or folders of pictures
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Score above which a part is rejected, instead of the package's
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f32>,
    /// Print a JSON object per picture and line
    #[arg(long)]
    json: bool,
    /// Write each picture with its anomaly map over it into this folder
    #[arg(long, value_name = "DIR")]
    overlays: Option<PathBuf>,
    /// Write an HTML report
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// Regions told on a line; a report has them all.
const WORST: usize = 3;

#[derive(Serialize)]
struct Line<'a> {
    image: &'a Path,
    #[serde(flatten)]
    verdict: &'a Verdict,
    #[serde(flatten)]
    result: Option<Judged<'a>>,
}

#[derive(Serialize)]
struct Judged<'a> {
    score: f32,
    threshold: f32,
    regions: &'a [Region],
    milliseconds: Milliseconds,
}

#[derive(Serialize)]
struct Milliseconds {
    features: f64,
    residuals: f64,
    classify: f64,
}

impl From<StageTimes> for Milliseconds {
    fn from(times: StageTimes) -> Self {
        Milliseconds {
            features: ms(times.features),
            residuals: ms(times.residuals),
            classify: ms(times.classify),
        }
    }
}

impl Inspect {
    pub fn run(self) -> Result<Outcome> {
        let mut images = Vec::new();
        for path in &self.images {
            if path.is_dir() {
                images.extend(find_pictures(path)?);
            } else {
                images.push(path.clone());
            }
        }
        let package = Package::open(&self.package)?;
        let facts = facts(&package);
        let title = format!("Inspection of {}", package.manifest.product);
        let options = weakrest::inspector::Options { threshold: self.threshold, ..self.runtime.options() };
        let mut inspector = Inspector::with_options(package, &options)?;
        if let Some(folder) = &self.overlays {
            std::fs::create_dir_all(folder).map_err(|e| Error::io("create the folder", folder, e))?;
        }
        let mut report = self.report.as_ref().map(ReportWriter::create).transpose()?;

        let names = distinct_names(&images);
        let mut outcome = Outcome::Pass;
        let wants_files = self.overlays.is_some() || report.is_some();
        let mut heard = true;
        let mut print = |path: &Path, verdict: &Verdict, inspection: Option<&Inspection>| {
            if !heard {
                return Ok(());
            }
            match self.print(path, verdict, inspection) {
                // Who only looks at the first lines still wants all of the report.
                Err(e) if wants_files && reader_is_gone(&e) => {
                    heard = false;
                    Ok(())
                }
                other => other,
            }
        };
        for (path, name) in images.iter().zip(&names) {
            // One bad file must not keep the others from being judged, so it becomes this part's verdict.
            let judged = Frame::open(path).and_then(|frame| {
                let inspection = inspector.inspect(&frame)?;
                Ok((frame, inspection))
            });
            match judged {
                Ok((frame, inspection)) => {
                    if inspection.verdict == Verdict::Reject && outcome == Outcome::Pass {
                        outcome = Outcome::Reject;
                    }
                    print(path, &inspection.verdict, Some(&inspection))?;
                    let picture =
                        wants_files.then(|| overlay(&frame, &inspection, &OverlayOptions::default()));
                    if let (Some(folder), Some(picture)) = (&self.overlays, &picture) {
                        save_picture(&folder.join(format!("{name}.png")), picture)?;
                    }
                    if let Some(report) = &mut report {
                        report.add(&Entry {
                            original: Some(&frame.to_rgb()),
                            overlay: picture.as_ref(),
                            ..Entry::inspected(name, &inspection)
                        })?;
                    }
                }
                Err(error) => {
                    outcome = Outcome::Fault;
                    let verdict = Verdict::Fault(error.chain());
                    print(path, &verdict, None)?;
                    if let Some(report) = &mut report {
                        report.add(&Entry::not_inspected(name, &verdict))?;
                    }
                }
            }
        }
        if let Some(report) = report {
            report.finish(&Report { title, facts, ..Report::default() })?;
        }
        Ok(outcome)
    }

    fn print(&self, image: &Path, verdict: &Verdict, inspection: Option<&Inspection>) -> Result<()> {
        if self.json {
            let result = inspection.map(|i| Judged {
                score: i.score,
                threshold: i.threshold,
                regions: &i.regions,
                milliseconds: i.times.into(),
            });
            let line = serde_json::to_string(&Line { image, verdict, result });
            return say!(
                "{}",
                line.unwrap_or_else(|e| format!("{{\"verdict\":\"fault\",\"reason\":\"{e}\"}}"))
            );
        }
        let Some(inspection) = inspection else {
            return say!("{:7}{:>29}  {}", "fault", "", verdict_reason(verdict));
        };
        let worst: Vec<String> = inspection
            .regions
            .iter()
            .take(WORST)
            .map(|r| format!("{}×{} at {},{}", r.width, r.height, r.x, r.y))
            .collect();
        let more = match inspection.regions.len().saturating_sub(WORST) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        say!(
            "{:7}{:>8.3} (threshold {:.3})  {}  {}{more}",
            inspection.verdict.to_string(),
            inspection.score,
            inspection.threshold,
            image.display(),
            worst.join(", ")
        )
    }
}

fn verdict_reason(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Fault(reason) => reason,
        _ => "",
    }
}

/// A name for each picture, short and different from all others: its path below the folder that all share, on one
/// level and without its ending.
pub fn distinct_names(images: &[PathBuf]) -> Vec<String> {
    let shared = images
        .iter()
        .filter_map(|p| p.parent())
        .map(Path::to_path_buf)
        .reduce(|a, b| {
            a.components().zip(b.components()).take_while(|(x, y)| x == y).map(|(x, _)| x).collect()
        })
        .unwrap_or_default();
    let mut taken = std::collections::HashSet::new();
    images
        .iter()
        .map(|path| {
            let below = path.strip_prefix(&shared).unwrap_or(path).with_extension("");
            let parts: Vec<_> = below
                .components()
                .filter(|c| matches!(c, std::path::Component::Normal(_)))
                .map(|c| c.as_os_str().to_string_lossy())
                .collect();
            let name = parts.join("-");
            let mut unique = name.clone();
            let mut copy = 1;
            while !taken.insert(unique.clone()) {
                copy += 1;
                unique = format!("{name}-{copy}");
            }
            unique
        })
        .collect()
}
