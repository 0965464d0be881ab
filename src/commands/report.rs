//! The HTML report that `inspect` writes.

use std::path::Path;

use super::check_report;
use crate::inspector::Inspection;
use crate::report::{Entry, Report, ReportWriter};
use crate::{Frame, Result, Verdict};

/// A report that grows picture by picture.
pub struct PictureReport(ReportWriter);

impl PictureReport {
    /// Whether it can be written to `path`.
    pub fn check(path: &Path) -> Result<()> {
        check_report(path)
    }

    pub fn create(path: &Path) -> Result<Self> {
        ReportWriter::create(path).map(PictureReport)
    }

    pub fn judged(
        &mut self,
        name: &str,
        frame: &Frame,
        inspection: &Inspection,
        overlay: Option<&image::RgbImage>,
    ) -> Result<()> {
        let original = frame.to_rgb();
        self.0.add(&Entry { original: Some(&original), overlay, ..Entry::inspected(name, inspection) })
    }

    pub fn fault(&mut self, name: &str, reason: String) -> Result<()> {
        self.0.add(&Entry::not_inspected(name, &Verdict::Fault(reason)))
    }

    pub fn finish(self, title: String, facts: Vec<(String, String)>) -> Result<()> {
        self.0.finish(&Report { title, facts, ..Report::default() })
    }
}
