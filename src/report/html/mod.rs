//! A report in one HTML file. It needs no network and no second file, and is complete without its script.

mod card;
mod sections;
#[cfg(test)]
mod tests;
mod text;

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use image::RgbImage;

use crate::error::{Error, Result};
use crate::files;
use crate::imaging::ratio;
use crate::inspector::{Inspection, Region, StageTimes, Verdict};
use card::{embedded, write_card};
use sections::write_page;

/// The report's texts and tables. All text is plain text and is escaped.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The heading and the browser's title.
    pub title: String,
    /// A paragraph under the heading; line breaks are kept.
    pub note: Option<String>,
    /// Package and settings, folded at the end of the page.
    pub facts: Vec<(String, String)>,
    /// Results in rows and columns.
    pub tables: Vec<Table>,
    /// The order of the pictures.
    pub order: Order,
}

/// Rows and columns of plain text. The first column holds names, the others numbers.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// A heading for each column.
    pub columns: Vec<String>,
    /// The cells of each row, one for each column.
    pub rows: Vec<Vec<String>>,
}

/// The order of the pictures in a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they were added.
    #[default]
    AsAdded,
    /// Missed defects, lowest score first; false rejects, highest score first; both before the figures. Then
    /// faults; then all others by distance from the threshold, nearest first.
    WorstFirst,
}

/// A picture's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth<'a> {
    /// Labeled good.
    Good,
    /// Labeled defective, with the defect's name.
    Defective(&'a str),
}

/// One picture of a report.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// File name or part number.
    pub name: &'a str,
    /// The part's verdict.
    pub verdict: &'a Verdict,
    /// Image score and threshold; `None` for a part without a score.
    pub score: Option<(f32, f32)>,
    /// Areas above the threshold, highest peak first.
    pub regions: &'a [Region],
    /// The time of each stage; `None` for a part that was not inspected.
    pub times: Option<StageTimes>,
    /// The picture. `None` shows none: for unreadable files, or to keep a long report small.
    pub original: Option<&'a RgbImage>,
    /// The picture with its anomaly map, as [`overlay`](crate::inspector::overlay()) paints it.
    pub overlay: Option<&'a RgbImage>,
    /// The label, if there is one.
    pub truth: Option<Truth<'a>>,
}

impl<'a> Entry<'a> {
    /// An inspected part without pictures or label.
    pub fn inspected(name: &'a str, inspection: &'a Inspection) -> Self {
        Entry {
            name,
            verdict: &inspection.verdict,
            score: Some((inspection.score, inspection.threshold)),
            regions: &inspection.regions,
            times: Some(inspection.times),
            original: None,
            overlay: None,
            truth: None,
        }
    }

    /// A part without an inspection, such as an unreadable file.
    pub fn not_inspected(name: &'a str, verdict: &'a Verdict) -> Self {
        Entry {
            name,
            verdict,
            score: None,
            regions: &[],
            times: None,
            original: None,
            overlay: None,
            truth: None,
        }
    }

    /// The score as a multiple of the threshold, if both are numbers.
    fn ratio(&self) -> Option<f32> {
        self.score.map(|(score, threshold)| ratio(score, threshold)).filter(|r| !r.is_nan())
    }

    fn kind(&self) -> Kind {
        match self.verdict {
            Verdict::Pass => Kind::Pass,
            Verdict::Reject => Kind::Reject,
            Verdict::Fault(_) => Kind::Fault,
        }
    }

    fn label(&self) -> Label {
        match self.truth {
            None => Label::Unknown,
            Some(Truth::Good) => Label::Good,
            Some(Truth::Defective(_)) => Label::Defective,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pass,
    Reject,
    Fault,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Pass => "pass",
            Kind::Reject => "reject",
            Kind::Fault => "fault",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Unknown,
    Good,
    Defective,
}

/// The name of a wrong verdict. A fault makes no claim, so it is never wrong.
fn contradiction(kind: Kind, label: Label) -> Option<&'static str> {
    match (kind, label) {
        (Kind::Pass, Label::Defective) => Some("missed defect"),
        (Kind::Reject, Label::Good) => Some("false reject"),
        _ => None,
    }
}

/// A picture's card in the spool, and the facts the page needs besides it.
struct Card {
    start: u64,
    length: u64,
    /// The card's id in the page.
    anchor: String,
    name: String,
    kind: Kind,
    label: Label,
    defect: Option<String>,
    ratio: Option<f32>,
    pictured: bool,
}

impl Card {
    fn contradiction(&self) -> Option<&'static str> {
        contradiction(self.kind, self.label)
    }

    /// Sorts [`Order::WorstFirst`]: a group, and a rank within it.
    fn urgency(&self) -> (u8, f32) {
        let ratio = self.ratio.unwrap_or(1.0);
        match (self.contradiction(), self.kind) {
            (Some(_), Kind::Pass) => (0, ratio),
            (Some(_), _) => (1, -ratio),
            (None, Kind::Fault) => (2, 0.0),
            (None, _) => (3, (ratio - 1.0).abs()),
        }
    }
}

/// Writes a report of any length, with the memory of one picture.
///
/// Cards are spooled to an unnamed file beside the report and copied into the page at the end: their order
/// and the figures need all scores. The report gets its name when it is complete. Until then an older file of
/// that name stays.
pub struct ReportWriter {
    path: PathBuf,
    spool: BufWriter<File>,
    end: u64,
    cards: Vec<Card>,
}

impl ReportWriter {
    /// Starts a report. It fails now, not after a thousand inspections, if the folder is not writable.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if `path` is a folder, or its folder is missing or read-only.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if path.is_dir() {
            return Err(Error::io("write", &path, io::ErrorKind::IsADirectory.into()));
        }
        let spool = tempfile::tempfile_in(files::parent(&path)).map_err(|e| Error::io("write", &path, e))?;
        Ok(ReportWriter { path, spool: BufWriter::new(spool), end: 0, cards: Vec::new() })
    }

    /// Adds a picture.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::StorageFull`] if the spool cannot be written; [`ErrorKind::Image`]
    /// if a picture cannot be encoded.
    pub fn add(&mut self, entry: &Entry) -> Result<()> {
        let original = entry.original.map(embedded).transpose()?.flatten();
        let overlay = entry.overlay.map(embedded).transpose()?.flatten();
        let anchor = format!("picture-{}", self.cards.len() + 1);
        let mut card = Vec::new();
        write_card(&mut card, entry, &anchor, original.as_ref(), overlay.as_ref())
            .and_then(|()| self.spool.write_all(&card))
            .map_err(|e| Error::io("write", &self.path, e))?;
        let length = card.len() as u64;
        self.cards.push(Card {
            start: self.end,
            length,
            anchor,
            name: entry.name.to_owned(),
            kind: entry.kind(),
            label: entry.label(),
            defect: match entry.truth {
                Some(Truth::Defective(defect)) => Some(defect.to_owned()),
                _ => None,
            },
            ratio: entry.ratio(),
            pictured: overlay.is_some(),
        });
        self.end += length;
        Ok(())
    }

    /// Completes the report and gives it its name.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::StorageFull`].
    pub fn finish(self, report: &Report) -> Result<()> {
        let ReportWriter { path, spool, mut cards, .. } = self;
        if report.order == Order::WorstFirst {
            cards.sort_by(|a, b| {
                let ((group_a, rank_a), (group_b, rank_b)) = (a.urgency(), b.urgency());
                group_a.cmp(&group_b).then(rank_a.total_cmp(&rank_b))
            });
        }
        let write = || -> io::Result<()> {
            let mut spool = spool.into_inner().map_err(io::IntoInnerError::into_error)?;
            let mut out = BufWriter::new(files::new_file(files::parent(&path))?);
            write_page(&mut out, report, &cards, |out, card| {
                spool.seek(SeekFrom::Start(card.start))?;
                io::copy(&mut Read::by_ref(&mut spool).take(card.length), out)?;
                Ok(())
            })?;
            let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|e| e.error)?;
            Ok(())
        };
        write().map_err(|e| Error::io("write", &path, e))
    }
}
