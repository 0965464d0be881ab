//! The HTML report that `inspect` writes.

use std::path::Path;

use super::inspect::Seen;
use super::package::facts;
use super::parent;
use crate::report::{Entry, Report, ReportWriter};
use crate::{Error, ErrorKind, Package, Result, Verdict};

/// A report that grows picture by picture.
pub struct PictureReport {
    writer: ReportWriter,
    title: String,
    facts: Vec<(String, String)>,
}

impl PictureReport {
    pub fn create(path: &Path, package: &Package) -> Result<Self> {
        check_report(path)?;
        let title = format!("Inspection of {}", package.manifest.product);
        Ok(PictureReport { writer: ReportWriter::create(path)?, title, facts: facts(package) })
    }

    pub fn add(&mut self, name: &str, seen: Seen) -> Result<()> {
        match seen {
            Ok((frame, inspection, overlay)) => {
                let original = frame.to_rgb();
                let entry = Entry::inspected(name, inspection);
                self.writer.add(&Entry { original: Some(&original), overlay, ..entry })
            }
            Err(reason) => self.writer.add(&Entry::not_inspected(name, &Verdict::Fault(reason.to_owned()))),
        }
    }

    pub fn finish(self) -> Result<()> {
        let PictureReport { writer, title, facts } = self;
        writer.finish(&Report { title, facts, ..Report::default() })
    }
}

/// Checks the path of a report before long work. `--report part-1.png part-2.png`, where the report's name is
/// missing, must not overwrite a picture.
pub fn check_report(path: &Path) -> Result<()> {
    let usage = |what: String| Err(Error::new(ErrorKind::Usage, what).within(path.display()));
    if !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("html") || e.eq_ignore_ascii_case("htm")) {
        return usage("the name of a report must end in .html".into());
    }
    if path.is_dir() {
        return usage("is a folder; choose another name".into());
    }
    if !parent(path).is_dir() {
        return usage(format!("the folder {} does not exist; create it first", parent(path).display()));
    }
    Ok(())
}
