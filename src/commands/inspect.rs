//! `weakrest inspect`

use std::collections::BTreeSet;
use std::ops::Bound::{Included, Unbounded};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::inspector::{Inspection, OverlayOptions, Provider, overlay};
use crate::judge::Judged;
use crate::{Error, ErrorKind, Frame, Package, Result, Verdict};

use super::names::distinct_names;
#[cfg(feature = "workshop")]
use super::report::PictureReport;
use super::terminal::reader_is_gone;
#[cfg(not(feature = "workshop"))]
use super::workshop::hand_over;
use super::{Outcome, RuntimeArguments, inspector, number, parent, pictures_in};

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Package of the product
    package: PathBuf,
    /// Pictures or folders of pictures
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Score above which a part is rejected [default: the package's]
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true,
        value_parser = number::<f32>(Included(0.0), Unbounded))]
    threshold: Option<f32>,
    /// Print one JSON object per picture
    #[arg(long)]
    json: bool,
    /// Folder for pictures overlaid with their anomaly map
    #[arg(long, value_name = "DIR")]
    overlays: Option<PathBuf>,
    /// Write an HTML report
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// What became of a picture: frame, inspection and overlay, or the reason why it could not be inspected.
pub type Seen<'a> = std::result::Result<(&'a Frame, &'a Inspection, Option<&'a image::RgbImage>), &'a str>;

impl Inspect {
    pub fn run(self) -> Result<Outcome> {
        #[cfg(not(feature = "workshop"))]
        if self.report.is_some() {
            return Err(hand_over("weakrest inspect --report"));
        }
        let package = Package::open(&self.package)?;
        let images = self.pictures()?;
        self.check_overlays(&images)?;
        #[cfg(feature = "workshop")]
        if let Some(path) = &self.report {
            let mut report = PictureReport::create(path, &package)?;
            let outcome = self.inspect(package, &images, |name, seen| report.add(name, seen))?;
            report.finish()?;
            return Ok(outcome);
        }
        self.inspect(package, &images, |_, _| Ok(()))
    }

    fn inspect(
        &self,
        package: Package,
        images: &[PathBuf],
        mut seen: impl FnMut(&str, Seen) -> Result<()>,
    ) -> Result<Outcome> {
        let options = crate::inspector::Options { threshold: self.threshold, ..self.runtime.options() };
        let mut inspector = inspector(&self.package, package, &options)?;
        if let Some(folder) = &self.overlays {
            std::fs::create_dir_all(folder).map_err(|e| Error::io("create the folder", folder, e))?;
        }
        let wants_files = self.report.is_some() || self.overlays.is_some();
        let mut lines = Lines {
            json: self.json,
            threshold: inspector.threshold(),
            provider: inspector.provider(),
            needed: !wants_files,
            reader_is_gone: false,
        };

        let names = distinct_names(images);
        let mut outcome = Outcome::Pass;
        for (path, name) in images.iter().zip(&names) {
            // One bad file must not stop the others, so the error is this part's verdict.
            let judged = Frame::open(path).and_then(|frame| {
                let inspection = inspector.inspect(&frame)?;
                Ok((frame, inspection))
            });
            match judged {
                Ok((frame, inspection)) => {
                    if inspection.verdict == Verdict::Reject && outcome == Outcome::Pass {
                        outcome = Outcome::Reject;
                    }
                    lines.judged(path, &inspection)?;
                    let picture =
                        wants_files.then(|| overlay(&frame, &inspection, &OverlayOptions::default()));
                    if let (Some(folder), Some(picture)) = (&self.overlays, &picture) {
                        save_picture(&folder.join(format!("{name}.png")), picture)?;
                    }
                    seen(name, Ok((&frame, &inspection, picture.as_ref())))?;
                }
                Err(error) => {
                    outcome = Outcome::Fault;
                    let reason = error.reason();
                    lines.fault(path, &reason)?;
                    seen(name, Err(&reason))?;
                }
            }
        }
        Ok(outcome)
    }

    fn pictures(&self) -> Result<Vec<PathBuf>> {
        let mut pictures = Vec::new();
        for path in &self.images {
            if path.is_dir() {
                pictures.extend(pictures_in(path)?);
            } else {
                pictures.push(path.clone());
            }
        }
        Ok(pictures)
    }

    /// Checks the folder of overlays before anything is written.
    fn check_overlays(&self, images: &[PathBuf]) -> Result<()> {
        let Some(folder) = &self.overlays else { return Ok(()) };
        let usage = |what: &str| Error::new(ErrorKind::Usage, what).within(folder.display());
        if folder.exists() && !folder.is_dir() {
            return Err(usage("is no folder; choose another name"));
        }
        let place = |folder: &Path| folder.canonicalize().ok();
        let parents: BTreeSet<&Path> = images.iter().map(|image| parent(image)).collect();
        if let Some(own) = place(folder)
            && parents.into_iter().any(|other| place(other).as_ref() == Some(&own))
        {
            return Err(usage(
                "is the folder of the pictures, which overlays would replace; choose another folder",
            ));
        }
        Ok(())
    }
}

/// The most regions on a line. A report has all.
const WORST: usize = 3;

#[derive(Serialize)]
struct Line<'a> {
    image: String,
    #[serde(flatten)]
    verdict: &'a Verdict,
    #[serde(flatten)]
    result: Option<Judged<'a>>,
}

/// Prints one line per picture.
struct Lines {
    json: bool,
    threshold: f32,
    provider: Provider,
    /// Whether printing is all there is to do. A report is finished even if nobody reads the lines any more.
    needed: bool,
    reader_is_gone: bool,
}

impl Lines {
    fn judged(&mut self, image: &Path, inspection: &Inspection) -> Result<()> {
        if self.json {
            let result = Judged::new(inspection, self.provider);
            return self.json(image, &inspection.verdict, Some(result));
        }
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
        let (verdict, held_against) = (inspection.verdict.to_string(), self.held_against());
        let line = format!(
            "{verdict:7}{:>8.3}{held_against}  {}  {}{more}",
            inspection.score,
            image.display(),
            worst.join(", ")
        );
        self.print(line.trim_end())
    }

    fn fault(&mut self, image: &Path, reason: &str) -> Result<()> {
        if self.json {
            return self.json(image, &Verdict::Fault(reason.to_owned()), None);
        }
        let blank = 8 + self.held_against().len();
        self.print(&format!("{:7}{:blank$}  {}: {reason}", "fault", "", image.display()))
    }

    fn held_against(&self) -> String {
        format!(" (threshold {:.3})", self.threshold)
    }

    fn json(&mut self, image: &Path, verdict: &Verdict, result: Option<Judged>) -> Result<()> {
        // Not every file name is valid in JSON.
        let line = Line { image: image.display().to_string(), verdict, result };
        let line = serde_json::to_string(&line)
            .map_err(|e| Error::new(ErrorKind::Io, "cannot be written as JSON").with_source(e))
            .map_err(|e| e.within(image.display()))?;
        self.print(&line)
    }

    fn print(&mut self, line: &str) -> Result<()> {
        if self.reader_is_gone {
            return Ok(());
        }
        match say!("{line}") {
            Err(e) if !self.needed && reader_is_gone(&e) => {
                self.reader_is_gone = true;
                Ok(())
            }
            other => other,
        }
    }
}

/// Writes a picture as PNG, whole or not at all.
fn save_picture(path: &Path, picture: &image::RgbImage) -> Result<()> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|e| Error::new(ErrorKind::Image, "cannot encode a picture").with_source(e))?;
    crate::files::write_file(path, bytes.get_ref())
}
