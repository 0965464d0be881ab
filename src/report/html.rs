//! A report in one HTML file that needs nothing else: no network, no second file, and complete without its script.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;

use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

use super::chart::{self, Lane};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::imaging::{COLDEST, HOTTEST, heat, ratio};
use crate::inspector::{Inspection, Region, StageTimes, Verdict};

/// Longest side of an embedded picture: two of them fill a wide screen, and a report of a thousand parts still opens.
const LONGEST_SIDE: u32 = 480;
const JPEG_QUALITY: u8 = 82;
/// More boxes in words than this help nobody; the picture shows them all.
const MAX_REGIONS: usize = 6;

const CSS: &str = concat!(include_str!("../colors.css"), include_str!("report.css"));
const JS: &str = include_str!("report.js");

/// What stands above the pictures. All text is plain text: it is escaped when written.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Heading and browser title.
    pub title: String,
    /// A paragraph under the heading; line breaks are kept.
    pub note: Option<String>,
    /// What was used and how: package, product, images enrolled, threshold and where it comes from.
    pub facts: Vec<(String, String)>,
    /// Results in rows and columns.
    pub tables: Vec<Table>,
    /// In which order the pictures stand.
    pub order: Order,
}

/// Rows and columns of plain text. The first column is taken for names, the others for numbers.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// One heading per column.
    pub columns: Vec<String>,
    /// The cells of each row, as many as there are columns.
    pub rows: Vec<Vec<String>>,
}

/// In which order a report shows its pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they were added.
    #[default]
    AsAdded,
    /// What most needs a person's eye: missed defects, those of the lowest score first; false rejects, those of the
    /// highest score first; faults; then the rest from the nearest to the threshold to the farthest.
    WorstFirst,
}

/// What is known of a picture from its label.
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
    /// What happens to the part.
    pub verdict: &'a Verdict,
    /// Image score and the threshold it was held against; `None` for a part that was never scored.
    pub score: Option<(f32, f32)>,
    /// Areas above the threshold, highest peak first.
    pub regions: &'a [Region],
    /// How long each stage took; `None` for a part that was not inspected.
    pub times: Option<StageTimes>,
    /// The picture. `None` shows none, for files that are none or to keep a long report small.
    pub original: Option<&'a RgbImage>,
    /// The picture with its anomaly map, as [`overlay`](crate::inspector::overlay()) paints it.
    pub overlay: Option<&'a RgbImage>,
    /// The label, where there is one.
    pub truth: Option<Truth<'a>>,
}

impl<'a> Entry<'a> {
    /// An inspected part, without pictures and label.
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

    /// A part that could not be inspected at all, such as an unreadable file.
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

    /// The score as a multiple of the threshold, where both make sense.
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

/// What the page says of a verdict that contradicts the label. A fault contradicts nothing: it claims nothing.
fn contradiction(kind: Kind, label: Label) -> Option<&'static str> {
    match (kind, label) {
        (Kind::Pass, Label::Defective) => Some("missed defect"),
        (Kind::Reject, Label::Good) => Some("false reject"),
        _ => None,
    }
}

/// A picture's place in the spool, and what the page's head needs of it.
struct Card {
    start: u64,
    length: u64,
    kind: Kind,
    label: Label,
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

/// Writes a report of any length with the memory of one picture.
///
/// Cards are spooled to an unnamed file beside the report and copied after the head, which needs all their scores.
/// The report appears under its name only when it is complete; until then, or when the writer is dropped, whatever
/// had that name stays.
///
/// ```
/// use weakrest::inspector::Verdict;
/// use weakrest::report::{Entry, Report, ReportWriter};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("report.html");
/// let mut report = ReportWriter::create(&path)?;
/// let verdict = Verdict::Fault("the file is empty".into());
/// report.add(&Entry::not_inspected("part-17.png", &verdict))?;
/// report.finish(&Report { title: "Monday's parts".into(), ..Default::default() })?;
/// assert!(std::fs::read_to_string(&path)?.contains("part-17.png"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ReportWriter {
    path: PathBuf,
    spool: BufWriter<File>,
    end: u64,
    cards: Vec<Card>,
}

impl ReportWriter {
    /// Starts a report. It fails now, not after a thousand inspections, when the folder cannot be written to.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when `path` is a folder, or its folder is missing or read-only.
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
    /// [`ErrorKind::Io`] or [`ErrorKind::StorageFull`] when the spool cannot be written, [`ErrorKind::Image`] when a
    /// picture cannot be encoded.
    pub fn add(&mut self, entry: &Entry) -> Result<()> {
        let original = entry.original.map(embedded).transpose()?.flatten();
        let overlay = entry.overlay.map(embedded).transpose()?.flatten();
        let mut card = Vec::new();
        write_card(&mut card, entry, original.as_ref(), overlay.as_ref())
            .and_then(|()| self.spool.write_all(&card))
            .map_err(|e| Error::io("write", &self.path, e))?;
        let length = card.len() as u64;
        self.cards.push(Card {
            start: self.end,
            length,
            kind: entry.kind(),
            label: entry.label(),
            ratio: entry.ratio(),
            pictured: overlay.is_some(),
        });
        self.end += length;
        Ok(())
    }

    /// Writes the report and gives it its name.
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
            write_head(&mut out, report, &cards)?;
            for card in &cards {
                spool.seek(SeekFrom::Start(card.start))?;
                io::copy(&mut Read::by_ref(&mut spool).take(card.length), &mut out)?;
            }
            write_tail(&mut out)?;
            let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|e| e.error)?;
            Ok(())
        };
        write().map_err(|e| Error::io("write", &path, e))
    }
}

/// Text that can stand anywhere in the page, attribute values included.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // HTML has no way to write these.
                c if c.is_control() && c != '\n' && c != '\t' => f.write_char(char::REPLACEMENT_CHARACTER)?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A JPEG and its size in pixels.
struct Embedded {
    width: u32,
    height: u32,
    jpeg: Vec<u8>,
}

/// Scales and encodes a picture; `None` for one without pixels.
fn embedded(picture: &RgbImage) -> Result<Option<Embedded>> {
    let (width, height) = picture.dimensions();
    if width == 0 || height == 0 {
        return Ok(None);
    }
    let longest = width.max(height);
    let scaled =
        |side: u32| (u64::from(side) * u64::from(LONGEST_SIDE)).div_ceil(u64::from(longest)).max(1) as u32;
    let smaller =
        (longest > LONGEST_SIDE).then(|| image::imageops::thumbnail(picture, scaled(width), scaled(height)));
    let picture = smaller.as_ref().unwrap_or(picture);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY)
        .encode_image(picture)
        .map_err(|e| Error::new(ErrorKind::Image, "cannot encode a picture for the report").with_source(e))?;
    Ok(Some(Embedded { width: picture.width(), height: picture.height(), jpeg }))
}

fn write_picture(out: &mut impl Write, picture: &Embedded, what: &str, name: &str) -> io::Result<()> {
    let Embedded { width, height, jpeg } = picture;
    write!(out, r#"<img width="{width}" height="{height}" decoding="async" alt="{what} {}" "#, Text(name))?;
    write!(out, r#"src="data:image/jpeg;base64,"#)?;
    let mut encoder = base64::write::EncoderWriter::new(&mut *out, &STANDARD);
    encoder.write_all(jpeg)?;
    encoder.finish()?;
    drop(encoder);
    writeln!(out, r#"" />"#)
}

fn write_card(
    out: &mut impl Write,
    entry: &Entry,
    original: Option<&Embedded>,
    overlay: Option<&Embedded>,
) -> io::Result<()> {
    let kind = entry.kind().word();
    let wrong = contradiction(entry.kind(), entry.label());
    let bare = original.is_none() && overlay.is_none();
    write!(out, r#"<article class="card {kind}"#)?;
    write!(out, "{}{}", if wrong.is_some() { " wrong" } else { "" }, if bare { " bare" } else { "" })?;
    writeln!(out, r#"">"#)?;
    if !bare {
        // Side by side, long flat parts such as boards would be strips, and tall ones would fill a screen each.
        let shape = match original.or(overlay) {
            Some(p) if p.width > p.height * 2 => " wide",
            Some(p) if p.height * 4 > p.width * 5 => " tall",
            _ => "",
        };
        writeln!(out, r#"<div class="pictures{shape}">"#)?;
        if let Some(picture) = original {
            write_picture(out, picture, "Picture", entry.name)?;
        }
        if let Some(picture) = overlay {
            write_picture(out, picture, "Anomaly map over", entry.name)?;
        }
        writeln!(out, "</div>")?;
    }
    writeln!(out, r#"<div class="words">"#)?;
    writeln!(out, "<h3><bdi>{}</bdi></h3>", Text(entry.name))?;
    write!(out, r#"<p class="badges"><span class="badge {kind}">{kind}</span>"#)?;
    if let Some(wrong) = wrong {
        write!(out, r#"<span class="badge wrong">{wrong}</span>"#)?;
    }
    match entry.truth {
        None => {}
        Some(Truth::Good) => write!(out, r#"<span class="truth">labeled good</span>"#)?,
        Some(Truth::Defective(defect)) => {
            write!(out, r#"<span class="truth">labeled defective: <bdi>{}</bdi></span>"#, Text(defect))?;
        }
    }
    writeln!(out, "</p>")?;
    if let Verdict::Fault(reason) = entry.verdict {
        writeln!(out, r#"<p class="reason">{}</p>"#, Text(reason))?;
    }
    write_score(out, entry)?;
    write_regions(out, entry.regions, entry.score.map(|(_, threshold)| threshold))?;
    if let Some(times) = entry.times {
        writeln!(
            out,
            r#"<p class="small">features {} · residuals {} · classify {} ms</p>"#,
            milliseconds(times.features),
            milliseconds(times.residuals),
            milliseconds(times.classify)
        )?;
    }
    writeln!(out, "</div>\n</article>")
}

fn write_score(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let (Some((score, threshold)), Some(ratio)) = (entry.score, entry.ratio()) else {
        return Ok(());
    };
    // The threshold stands in the middle of the bar: left of it is a pass, right of it a reject.
    let filled = (ratio * 50.0).clamp(0.0, 100.0);
    let multiple = if ratio.is_finite() { format!("{}×", number(ratio)) } else { "∞".into() };
    writeln!(
        out,
        r#"<div class="ratio"><b>{multiple}</b><div class="meter" role="img" aria-label="{multiple} the threshold"><i style="width:{filled:.1}%"></i></div></div>"#
    )?;
    let (score, threshold) = (number(score), number(threshold));
    writeln!(out, r#"<p class="small">score {score} · threshold {threshold}</p>"#)
}

fn write_regions(out: &mut impl Write, regions: &[Region], threshold: Option<f32>) -> io::Result<()> {
    if regions.is_empty() {
        return Ok(());
    }
    writeln!(out, r#"<ul class="regions">"#)?;
    for Region { x, y, width, height, peak, .. } in regions.iter().take(MAX_REGIONS) {
        write!(out, "<li>{width} × {height} px at x {x}, y {y}")?;
        let peak = threshold.map(|t| ratio(*peak, t)).filter(|r| r.is_finite());
        if let Some(peak) = peak {
            write!(out, ", peak {}×", number(peak))?;
        }
        writeln!(out, "</li>")?;
    }
    if regions.len() > MAX_REGIONS {
        writeln!(out, "<li>and {} more</li>", regions.len() - MAX_REGIONS)?;
    }
    writeln!(out, "</ul>")
}

fn write_head(out: &mut impl Write, report: &Report, cards: &[Card]) -> io::Result<()> {
    let title = Text(&report.title);
    // The policy makes the promise of the module's first line one that the browser keeps.
    write!(
        out,
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="color-scheme" content="light dark" />
<title>{title}</title>
<style>
{CSS}</style>
</head>
<body>
<header>
<h1>{title}</h1>
"#
    )?;
    if let Some(note) = &report.note {
        writeln!(out, r#"<p class="note">{}</p>"#, Text(note))?;
    }
    write_counts(out, cards)?;
    if !report.facts.is_empty() {
        writeln!(out, r#"<dl class="facts">"#)?;
        for (label, value) in &report.facts {
            writeln!(out, "<dt>{}</dt><dd>{}</dd>", Text(label), Text(value))?;
        }
        writeln!(out, "</dl>")?;
    }
    writeln!(out, "</header>")?;
    for table in &report.tables {
        write_table(out, table)?;
    }
    let lane = |label, class, wanted: Label| Lane {
        label,
        class,
        ratios: cards.iter().filter(|c| c.label == wanted).filter_map(|c| c.ratio).collect(),
    };
    let labeled = cards.iter().any(|c| c.label != Label::Unknown);
    let unlabeled = if labeled { ("not labeled", Some("unknown")) } else { ("pictures", None) };
    chart::write(
        out,
        &[
            lane("labeled good", Some("good"), Label::Good),
            lane("labeled defective", Some("defective"), Label::Defective),
            lane(unlabeled.0, unlabeled.1, Label::Unknown),
        ],
    )?;

    writeln!(out, r#"<section>"#)?;
    writeln!(out, r#"<div class="bar"><h2>Pictures</h2>"#)?;
    write_filters(out, cards)?;
    writeln!(out, "</div>")?;
    if cards.iter().any(|c| c.pictured) {
        write_legend(out, cards.iter().any(|c| c.label == Label::Defective))?;
    }
    writeln!(out, r#"<div class="cards">"#)
}

fn write_tail(out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "</div>\n</section>\n<footer>weakrest {}</footer>\n<script>\n{JS}</script>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn write_counts(out: &mut impl Write, cards: &[Card]) -> io::Result<()> {
    let of = |kind| cards.iter().filter(|c| c.kind == kind).count();
    writeln!(out, r#"<ul class="counts">"#)?;
    let noun = if cards.len() == 1 { "picture" } else { "pictures" };
    writeln!(out, "<li><b>{}</b><span>{noun}</span></li>", cards.len())?;
    for kind in [Kind::Pass, Kind::Reject, Kind::Fault] {
        let count = of(kind);
        let zero = if count == 0 { " zero" } else { "" };
        writeln!(out, r#"<li class="{0}{zero}"><b>{count}</b><span>{0}</span></li>"#, kind.word())?;
    }
    for (kind, label, all) in
        [(Kind::Pass, Label::Defective, "defective"), (Kind::Reject, Label::Good, "good")]
    {
        let labeled = cards.iter().filter(|c| c.label == label).count();
        let Some(name) = contradiction(kind, label).filter(|_| labeled > 0) else { continue };
        let wrong = cards.iter().filter(|c| c.label == label && c.kind == kind).count();
        let zero = if wrong == 0 { r#" class="zero""# } else { "" };
        let plural = if wrong == 1 { "" } else { "s" };
        writeln!(out, "<li{zero}><b>{wrong}</b><span>{name}{plural}, of {labeled} {all}</span></li>")?;
    }
    writeln!(out, "</ul>")
}

fn write_table(out: &mut impl Write, table: &Table) -> io::Result<()> {
    writeln!(out, "<section>\n<h2>{}</h2>\n<div class=\"scroll\"><table>", Text(&table.title))?;
    write!(out, "<thead><tr>")?;
    for column in &table.columns {
        write!(out, r#"<th scope="col">{}</th>"#, Text(column))?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for row in &table.rows {
        write!(out, "<tr>")?;
        for cell in row {
            write!(out, "<td>{}</td>", Text(cell))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody>\n</table></div>\n</section>")
}

/// Buttons that the script shows; without it they would do nothing, and stay hidden. One kind needs no filter.
fn write_filters(out: &mut impl Write, cards: &[Card]) -> io::Result<()> {
    let of = |kind| cards.iter().filter(|c| c.kind == kind).count();
    let wrong = cards.iter().filter(|c| c.contradiction().is_some()).count();
    let kinds = [
        ("reject", of(Kind::Reject)),
        ("pass", of(Kind::Pass)),
        ("fault", of(Kind::Fault)),
        ("wrong", wrong),
    ];
    if kinds.iter().filter(|k| k.1 > 0).count() < 2 {
        return Ok(());
    }
    writeln!(out, r#"<div class="filters" role="group" aria-label="Show" hidden="">"#)?;
    writeln!(out, r#"<button type="button" value="" aria-pressed="true">all {}</button>"#, cards.len())?;
    for (name, count) in kinds.iter().filter(|k| k.1 > 0) {
        writeln!(
            out,
            r#"<button type="button" value="{name}" aria-pressed="false">{name} {count}</button>"#
        )?;
    }
    writeln!(out, "</div>")
}

fn write_legend(out: &mut impl Write, truth: bool) -> io::Result<()> {
    const STOPS: u8 = 10;
    write!(
        out,
        r#"<p class="legend"><span>{COLDEST}× <i class="ramp" style="background:linear-gradient(to right"#
    )?;
    for stop in 0..=STOPS {
        let ratio = COLDEST + (HOTTEST - COLDEST) * f32::from(stop) / f32::from(STOPS);
        let (Rgb([r, g, b]), alpha) = heat(ratio);
        write!(out, ",rgba({r},{g},{b},{:.2})", alpha * 1.6)?;
    }
    writeln!(out, r#"),#77797c"></i> {HOTTEST}× the threshold</span>"#)?;
    writeln!(out, r#"<span><i class="key"><i></i></i> above the threshold</span>"#)?;
    if truth {
        writeln!(out, r#"<span><i class="key truth"><i></i></i> labeled defect</span>"#)?;
    }
    writeln!(out, "</p>")
}

/// Three significant digits, and never an exponent for numbers of a usual size.
fn number(value: f32) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "–".into()
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.1 || size == 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.2e}")
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inspector::AnomalyMap;

    fn inspection(score: f32, threshold: f32) -> Inspection {
        let regions = match score > threshold {
            true => vec![Region { x: 12, y: 40, width: 33, height: 20, peak: 2.0 * threshold, area: 500 }],
            false => vec![],
        };
        Inspection {
            verdict: if score > threshold { Verdict::Reject } else { Verdict::Pass },
            score,
            threshold,
            regions,
            map: AnomalyMap::default(),
            times: StageTimes {
                features: Duration::from_micros(12_340),
                residuals: Duration::from_micros(4_560),
                classify: Duration::from_micros(780),
            },
        }
    }

    fn labeled<'a>(entry: Entry<'a>, truth: Truth<'a>) -> Entry<'a> {
        Entry { truth: Some(truth), ..entry }
    }

    /// A page of the given entries.
    fn page(report: &Report, entries: &[Entry]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        let mut writer = ReportWriter::create(&path).unwrap();
        for entry in entries {
            writer.add(entry).unwrap();
        }
        writer.finish(report).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");
        std::fs::read_to_string(&path).unwrap()
    }

    /// Checks that every tag is closed in order and every attribute is quoted; script and style are opaque.
    fn assert_well_formed(page: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
        while let Some(at) = rest.find('<') {
            assert!(!rest[..at].contains('>'), "stray > in {:?}", &rest[..at]);
            let end = at + rest[at..].find('>').expect("an unclosed tag");
            let tag = &rest[at + 1..end];
            assert!(!tag.contains('<'), "a tag within a tag: {tag}");
            assert_eq!(tag.matches('"').count() % 2, 0, "an unclosed quote: {tag}");
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                let name = tag.split_whitespace().next().unwrap();
                if name == "script" || name == "style" {
                    let close = format!("</{name}>");
                    rest = &rest[rest.find(&close).unwrap() + close.len()..];
                } else {
                    open.push(name);
                }
            }
        }
        assert!(open.is_empty(), "left open: {open:?}");
    }

    const HOSTILE: &str = "<script>alert('1')</script>\"&\u{1b}.png";

    #[test]
    fn a_full_page_is_well_formed_and_needs_nothing_else() {
        let picture = RgbImage::from_fn(900, 300, |x, y| Rgb([x as u8, y as u8, 90]));
        let (pass, reject) = (inspection(0.5, 2.0), inspection(5.0, 2.0));
        let fault = Verdict::Fault("the file is <empty>".into());
        let mut entries = vec![
            Entry::inspected("good/a.png", &pass),
            Entry::inspected("crack/b.png", &reject),
            Entry::not_inspected("c.png", &fault),
        ];
        entries[1].original = Some(&picture);
        entries[1].overlay = Some(&picture);
        entries[1].truth = Some(Truth::Defective("crack"));
        let page = page(
            &Report {
                title: "Tiles & more".into(),
                note: Some("first\nsecond".into()),
                facts: vec![("Package".into(), "tiles-3".into())],
                tables: vec![Table {
                    title: "Metrics".into(),
                    columns: vec!["Defect".into(), "AUROC".into()],
                    rows: vec![vec!["crack".into(), "0.98".into()]],
                }],
                order: Order::AsAdded,
            },
            &entries,
        );
        assert_well_formed(&page);
        for text in [
            "Tiles &amp; more",
            "first\nsecond",
            "tiles-3",
            "Metrics",
            "AUROC",
            "0.98",
            "good/a.png",
            "crack/b.png",
            "c.png",
            "the file is &lt;empty&gt;",
            "labeled defective: <bdi>crack</bdi>",
            "33 × 20 px at x 12, y 40, peak 2.00×",
            "score 5.00 · threshold 2.00",
            "features 12.3 · residuals 4.6 · classify 0.8 ms",
            r#"width="480" height="160""#,
        ] {
            assert!(page.contains(text), "{text:?} is missing");
        }
        assert_eq!(page.matches("src=\"data:image/jpeg;base64,").count(), 2);
        for foreign in ["http:", "https:", "://", "src=\"/", "<link", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign:?} in the page");
        }
    }

    #[test]
    fn embedded_pictures_are_the_pictures() {
        let picture = RgbImage::from_fn(40, 30, |x, _| if x < 20 { Rgb([250; 3]) } else { Rgb([5; 3]) });
        let inspected = inspection(1.0, 2.0);
        let mut entry = Entry::inspected("a", &inspected);
        entry.original = Some(&picture);
        let empty = RgbImage::new(0, 0);
        entry.overlay = Some(&empty);
        let page = page(&Report::default(), &[entry]);
        let (_, data) = page.split_once("base64,").unwrap();
        let (data, _) = data.split_once('"').unwrap();
        let jpeg = base64::Engine::decode(&STANDARD, data).unwrap();
        let back = image::load_from_memory_with_format(&jpeg, image::ImageFormat::Jpeg).unwrap().into_rgb8();
        assert_eq!(back.dimensions(), (40, 30));
        assert!(back.get_pixel(5, 5)[0] > 240 && back.get_pixel(35, 25)[0] < 15);
        assert_eq!(page.matches("<img").count(), 1, "a picture without pixels is not shown");
    }

    #[test]
    fn text_is_escaped_wherever_it_stands() {
        let picture = RgbImage::new(4, 4);
        let fault = Verdict::Fault(HOSTILE.into());
        let mut entry = Entry::not_inspected(HOSTILE, &fault);
        entry.original = Some(&picture);
        entry.truth = Some(Truth::Defective(HOSTILE));
        let text = || HOSTILE.to_string();
        let page = page(
            &Report {
                title: text(),
                note: Some(text()),
                facts: vec![(text(), text())],
                tables: vec![Table { title: text(), columns: vec![text()], rows: vec![vec![text()]] }],
                order: Order::AsAdded,
            },
            &[entry],
        );
        assert_well_formed(&page);
        assert_eq!(page.matches("<script>").count(), 1, "the page's own");
        assert!(!page.contains("alert('1')") && !page.contains('\u{1b}'));
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;\u{fffd}.png"));
    }

    #[test]
    fn every_entry_is_there_in_the_order_asked_for() {
        let scores = [0.4, 3.0, 0.9, 8.0, 1.2, 0.2];
        let inspections: Vec<_> = scores.iter().map(|&s| inspection(s, 1.0)).collect();
        let fault = Verdict::Fault("no picture".into());
        let names: Vec<String> = (0..7).map(|i| format!("part-{i}.")).collect();
        let mut entries: Vec<Entry> =
            inspections.iter().zip(&names).map(|(i, name)| Entry::inspected(name, i)).collect();
        entries.push(Entry::not_inspected(&names[6], &fault));
        for i in [0, 2, 3] {
            entries[i].truth = Some(Truth::Defective("crack"));
        }
        for i in [1, 4, 5, 6] {
            entries[i].truth = Some(Truth::Good);
        }
        let order = |order| -> Vec<usize> {
            let page = page(&Report { order, ..Default::default() }, &entries);
            assert_well_formed(&page);
            let mut found: Vec<(usize, usize)> =
                names.iter().enumerate().map(|(i, n)| (page.find(n.as_str()).unwrap(), i)).collect();
            found.sort();
            found.into_iter().map(|(_, i)| i).collect()
        };
        assert_eq!(order(Order::AsAdded), [0, 1, 2, 3, 4, 5, 6]);
        // Missed 0.4 and 0.9; false rejects 3.0 and 1.2; the fault; right: 0.2 is nearer to 1 than 8.0.
        assert_eq!(order(Order::WorstFirst), [0, 2, 1, 4, 6, 5, 3]);
    }

    #[test]
    fn counts_and_contradictions_are_spelled_out() {
        let (low, high) = (inspection(0.5, 1.0), inspection(2.0, 1.0));
        let fault = Verdict::Fault("late".into());
        let page = page(
            &Report::default(),
            &[
                labeled(Entry::inspected("a", &low), Truth::Defective("dent")),
                labeled(Entry::inspected("b", &high), Truth::Defective("dent")),
                labeled(Entry::inspected("c", &high), Truth::Good),
                labeled(Entry::not_inspected("d", &fault), Truth::Good),
            ],
        );
        for text in [
            "<b>4</b><span>pictures</span>",
            "<b>1</b><span>pass</span>",
            "<b>2</b><span>reject</span>",
            "<b>1</b><span>fault</span>",
            "<b>1</b><span>missed defect, of 2 defective</span>",
            "<b>1</b><span>false reject, of 2 good</span>",
            r#"<span class="badge wrong">missed defect</span>"#,
            r#"<span class="badge wrong">false reject</span>"#,
            ">wrong 2</button>",
        ] {
            assert!(page.contains(text), "{text:?} is missing");
        }
        assert_eq!(page.matches("badge wrong\"").count(), 2, "a fault claims nothing and is not wrong");
    }

    #[test]
    fn numbers_that_are_none_do_not_reach_the_page() {
        for (score, threshold) in
            [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::INFINITY, 1.0), (1.0, 0.0), (0.0, 0.0)]
        {
            let inspected = inspection(score, threshold);
            let page = page(&Report::default(), &[Entry::inspected("a", &inspected)]);
            assert_well_formed(&page);
            assert!(!page.contains("NaN") && !page.contains("inf"), "{score} / {threshold}");
        }
    }

    #[test]
    fn a_report_without_entries_is_a_page_too() {
        assert_well_formed(&page(&Report { title: "Nothing".into(), ..Default::default() }, &[]));
    }

    #[test]
    fn an_unfinished_report_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        std::fs::write(&path, "the last one").unwrap();
        let mut writer = ReportWriter::create(&path).unwrap();
        writer.add(&Entry::inspected("a", &inspection(1.0, 2.0))).unwrap();
        drop(writer);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "the last one");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

        ReportWriter::create(&path).unwrap().finish(&Report::default()).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("<!DOCTYPE html>"));
    }

    #[test]
    fn a_report_that_cannot_be_written_fails_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("nowhere").join("report.html");
        for path in [folder.path().to_path_buf(), missing] {
            let error = ReportWriter::create(&path).err().expect("an error");
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_report_may_be_read_as_any_other_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (report, plain) = (folder.path().join("report.html"), folder.path().join("plain"));
        ReportWriter::create(&report).unwrap().finish(&Report::default()).unwrap();
        std::fs::write(&plain, "").unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&report), mode(&plain));
    }
}
