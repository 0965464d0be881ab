//! A folder of pictures: rejects, faults, and a sample of passed parts.
//!
//! Each kept part has up to three files in a folder of its day (UTC),
//! `YYYYMMDD/YYYYMMDD-HHMMSS.mmm-RUN-PART-VERDICT`. `.png` is the frame, `.overlay.jpg` the frame with its
//! anomaly map, `.json` the part's data with the names of the journal's columns. The JSON is written last: if
//! it exists, the others are complete.

pub(crate) mod gallery;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use serde::Deserialize;

use super::{Labeled, Labeling, Output};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{TEMPORARY, new_file, parent, write_file};
use crate::imaging::{Color, Frame};
use crate::inspector::{OverlayOptions, Verdict, overlay};
use crate::record::part::{Part, civil};
use crate::record::{Record, Status};
use crate::settings::range;

const NAME: &str = "pictures";
const SUFFIXES: [&str; 3] = [".png", ".overlay.jpg", ".json"];
const JPEG_QUALITY: u8 = 90;
/// Allocation unit of most file systems.
const BLOCK: u64 = 4096;
/// Number of newest parts that are never removed for other files.
const EVIDENCE: usize = 100;
/// The runs with kept pictures, in the order of their starts. Clocks do not tell which pictures are the
/// oldest.
const RUNS: &str = "runs.txt";

/// Folder and limits: `[pictures]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The folder. Required. Created if missing. Files with other names in it stay.
    pub folder: PathBuf,
    /// Keep every n-th passed part. 0: none. Default 0. Rejects and faults are always kept.
    pub passes: u64,
    /// Size limit of all pictures, in MiB, at least 1. The oldest are removed. Default 10240.
    pub max_megabytes: u64,
    /// Free space to leave on the disk, in MiB. 0: none. The oldest pictures are removed, but not the newest
    /// 100 parts and not the newer half of the size limit. If other files fill the disk, no more pictures are
    /// kept. Default 1024.
    pub min_free_megabytes: u64,
    /// Folder for labeling. With it, the web page has a button that copies the original of a reject to this
    /// folder. Created if missing. Nothing in it is ever overwritten or removed. Default: none.
    pub label_folder: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            folder: PathBuf::new(),
            passes: 0,
            max_megabytes: 10_240,
            min_free_megabytes: 1024,
            label_folder: None,
        }
    }
}

impl Settings {
    /// Checks the values.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        const MOST: u64 = 1 << 40;
        let wrong = |key: &str, what: &str| Err(Error::setting(key, what));
        if self.folder.as_os_str().is_empty() {
            return wrong("pictures.folder", "is missing; name the folder for pictures");
        }
        range("pictures.max_megabytes", self.max_megabytes, 1..=MOST)?;
        range("pictures.min_free_megabytes", self.min_free_megabytes, 0..=MOST)?;
        if let Some(folder) = &self.label_folder {
            if folder.as_os_str().is_empty() {
                return wrong("pictures.label_folder", "is empty; name a folder, or remove the key");
            }
            // Kept pictures are removed in time; pictures for labeling must stay.
            if folder.starts_with(&self.folder) {
                let what = "is inside pictures.folder, where old pictures are removed; name another folder";
                return wrong("pictures.label_folder", what);
            }
        }
        Ok(())
    }
}

/// Keeps pictures. See the [module](self).
///
/// On a full disk publishing fails, and the unfinished files of the part are removed. The next part is tried
/// again.
pub struct Pictures {
    settings: Settings,
    run: String,
    passes: u64,
    kept: Option<Kept>,
    /// Whether [`RUNS`] names this run.
    listed: bool,
}

/// Contents of the folder, oldest first. Listing a large folder for each part would take too long.
#[derive(Default)]
struct Kept {
    parts: VecDeque<(PathBuf, u64)>,
    bytes: u64,
}

impl Pictures {
    /// Pictures of the run `run`, see [`super::run_id`]. The folder is read with the first part or tick.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a setting out of range.
    pub fn new(settings: Settings, run: &str) -> Result<Self> {
        settings.validate()?;
        Ok(Pictures { settings, run: run.to_string(), passes: 0, kept: None, listed: false })
    }

    fn is_kept(&mut self, verdict: &Verdict) -> bool {
        if *verdict != Verdict::Pass {
            return true;
        }
        self.passes += 1;
        self.settings.passes > 0 && self.passes.is_multiple_of(self.settings.passes)
    }

    /// Removes the oldest pictures until `bytes` more fit. Removes nothing if they cannot fit.
    fn make_room(&mut self, bytes: u64) -> Result<()> {
        let folder = &self.settings.folder;
        if !folder.is_dir() {
            (self.kept, self.listed) = (None, false);
            fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        }
        let kept = match &mut self.kept {
            Some(kept) => kept,
            none => none.insert(scan(folder)?),
        };
        let full = |why: &str| Err(Error::new(ErrorKind::StorageFull, why).within(folder.display()));
        let (most, least_free) = (self.settings.max_megabytes << 20, self.settings.min_free_megabytes << 20);
        if bytes > most {
            return full("one part takes more than max_megabytes");
        }
        while kept.bytes + bytes > most && kept.remove_oldest()? {}
        let wanted = least_free.saturating_add(bytes);
        let floor = most.min(Room::of(folder)?.whole.saturating_sub(least_free)) / 2;
        let is_full = || Ok::<_, Error>(Room::of(folder)?.free < wanted);
        while is_full()? && kept.parts.len() > EVIDENCE && kept.bytes > floor && kept.remove_oldest()? {}
        // A new picture can replace older ones, unless other files need the space.
        let free = Room::of(folder)?.free;
        if free >= least_free && free + kept.bytes >= wanted {
            while is_full()? && kept.remove_oldest()? {}
        }
        if is_full()? {
            return full(
                "the disk is full, so no more pictures are kept; free some space, or lower min_free_megabytes",
            );
        }
        Ok(())
    }

    /// Adds this run to [`RUNS`], after the earlier runs that still have pictures.
    fn list_run(&mut self) -> Result<()> {
        if self.listed {
            return Ok(());
        }
        let file = self.settings.folder.join(RUNS);
        let parts = self.kept.iter().flat_map(|kept| &kept.parts);
        let kept: HashSet<&str> =
            parts.filter_map(|(stem, _)| Some(run_and_part(stem.file_name()?.to_str()?)?.0)).collect();
        let mut runs = runs(&file);
        runs.retain(|run| kept.contains(run.as_str()) && *run != self.run);
        runs.push(self.run.clone());
        write_file(&file, (runs.join("\n") + "\n").as_bytes())?;
        self.listed = true;
        Ok(())
    }
}

impl Kept {
    /// Returns whether there was one to remove.
    fn remove_oldest(&mut self) -> Result<bool> {
        let Some((stem, size)) = self.parts.front() else { return Ok(false) };
        remove(stem)?;
        self.bytes = self.bytes.saturating_sub(*size);
        self.parts.pop_front();
        Ok(true)
    }
}

impl Output for Pictures {
    fn name(&self) -> &'static str {
        NAME
    }

    fn publish(&mut self, record: &Record) -> Result<()> {
        if !self.is_kept(&record.verdict) {
            return Ok(());
        }
        let part = Part::new(&self.run, record);
        let stem = stem(&self.settings.folder, &self.run, part.part, part.triggered, part.verdict);
        let folder = parent(&stem).to_path_buf();
        let files = encode(&part, record)?;
        let size = files.iter().map(|(_, bytes)| on_disk(bytes.len() as u64)).sum();
        self.make_room(size)?;

        let written =
            fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e)).and_then(|()| {
                self.list_run()?;
                files.iter().try_for_each(|(suffix, bytes)| write_file(&with(&stem, suffix), bytes))
            });
        if let Err(e) = written {
            // Unfinished files must not pass for the part. The first error already reports the disk.
            let _ = remove(&stem);
            // The folder instead of the file: one text for all parts is logged only once.
            let cause = std::error::Error::source(&e).map_or_else(|| e.reason(), ToString::to_string);
            return Err(Error::new(e.kind(), format!("cannot write pictures: {cause}"))
                .within(self.settings.folder.display()));
        }
        if let Some(kept) = &mut self.kept {
            kept.parts.push_back((stem, size));
            kept.bytes += size;
        }
        Ok(())
    }

    fn tick(&mut self, _: SystemTime, _: &Status) -> Result<()> {
        self.make_room(0)
    }
}

/// The files of a part, without their suffixes.
fn stem(folder: &Path, run: &str, part: u64, triggered: SystemTime, verdict: &str) -> PathBuf {
    let [year, month, day, hour, minute, second, millis] = civil(triggered);
    let date = format!("{year:04}{month:02}{day:02}");
    let name = format!("{date}-{hour:02}{minute:02}{second:02}.{millis:03}-{run}-{part:06}-{verdict}");
    folder.join(date).join(name)
}

/// The originals of one run's rejects, for labeling.
pub(crate) struct Originals {
    settings: Settings,
    run: String,
}

impl Originals {
    /// The originals that [`Pictures::new`] keeps with the same arguments. `None` without `label_folder`.
    pub fn new(settings: &Settings, run: &str) -> Option<Self> {
        settings.label_folder.is_some().then(|| Originals { settings: settings.clone(), run: run.to_owned() })
    }
}

impl Labeling for Originals {
    fn label(&self, run: Option<&str>, part: u64, triggered: SystemTime) -> Result<Labeled> {
        let unset = || Error::setting("pictures.label_folder", "is missing; name the folder");
        let folder = self.settings.label_folder.as_ref().ok_or_else(unset)?;
        let stem = stem(&self.settings.folder, run.unwrap_or(&self.run), part, triggered, "reject");
        let from = with(&stem, SUFFIXES[0]);
        let bytes = fs::read(&from).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::new(
                ErrorKind::Usage,
                format!(
                    "the picture of part {part} is not kept any more, or not yet: there is no {}",
                    from.display()
                ),
            ),
            _ => Error::io("read", &from, e),
        })?;
        fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        let file = folder.join(from.file_name().unwrap_or_default());
        let doing = |e| Error::io("write", &file, e);
        let mut fresh = new_file(folder).map_err(doing)?;
        fresh.write_all(&bytes).and_then(|()| fresh.as_file().sync_all()).map_err(doing)?;
        match fresh.persist_noclobber(&file) {
            Ok(_) => Ok(Labeled { file, copied: true }),
            Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => {
                Ok(Labeled { file, copied: false })
            }
            Err(e) => Err(doing(e.error)),
        }
    }
}

/// The part's files: suffix and content, in the order of writing.
fn encode(part: &Part, record: &Record) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let failed =
        |e: image::ImageError| Error::new(ErrorKind::Image, "cannot encode a picture").with_source(e);
    let [png, jpg, json] = SUFFIXES;
    let mut files = Vec::new();
    if let Some(frame) = record.frame() {
        files.push((png, png_of(frame).map_err(failed)?));
        if let Some(inspection) = record.inspection() {
            let mut bytes = Vec::new();
            let picture = overlay(frame, inspection, &OverlayOptions::default());
            JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode_image(&picture).map_err(failed)?;
            files.push((jpg, bytes));
        }
    }
    let text = serde_json::to_vec_pretty(part)
        .map_err(|e| Error::new(ErrorKind::Io, "cannot write a part as JSON").with_source(e))?;
    files.push((json, text));
    Ok(files)
}

/// A frame as PNG.
pub(crate) fn png_of(frame: &Frame) -> image::ImageResult<Vec<u8>> {
    let color = match frame.color() {
        Color::Gray => ExtendedColorType::L8,
        Color::Rgb => ExtendedColorType::Rgb8,
    };
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive).write_image(
        frame.pixels(),
        frame.width(),
        frame.height(),
        color,
    )?;
    Ok(bytes)
}

/// Lists the pictures of earlier runs, and removes their unfinished files.
fn scan(folder: &Path) -> Result<Kept> {
    let doing = |e: std::io::Error| Error::io("read", folder, e);
    let unfinished =
        |file: &fs::DirEntry| file.file_name().to_str().is_some_and(|n| n.starts_with(TEMPORARY));
    let sweep =
        |file: &fs::DirEntry| fs::remove_file(file.path()).map_err(|e| Error::io("remove", &file.path(), e));
    let mut sizes: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for day in fs::read_dir(folder).map_err(doing)? {
        let day = day.map_err(doing)?;
        let is_day = day.file_name().to_str().is_some_and(|n| n.len() == 8 && is_number(n));
        if unfinished(&day) && day.file_type().is_ok_and(|t| t.is_file()) {
            sweep(&day)?;
            continue;
        }
        // A link can lead to files that are not ours to remove.
        if !is_day || !day.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        for file in fs::read_dir(day.path()).map_err(doing)? {
            let file = file.map_err(doing)?;
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            if unfinished(&file) {
                sweep(&file)?;
            } else if let Some(stem) = stem_of(name) {
                let size = file.metadata().map_or(0, |m| on_disk(m.len()));
                *sizes.entry(day.path().join(stem)).or_default() += size;
            }
        }
    }
    let bytes = sizes.values().sum();
    let runs = runs(&folder.join(RUNS));
    let order: HashMap<&str, usize> = runs.iter().enumerate().map(|(at, run)| (run.as_str(), at)).collect();
    let mut parts: Vec<(PathBuf, u64)> = sizes.into_iter().collect();
    // In the order of writing. For unlisted runs only the times in the names tell it.
    parts.sort_by_cached_key(|(stem, _)| {
        let name = stem.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (run, part) = run_and_part(name).unwrap_or_default();
        match order.get(run) {
            Some(at) => (1 + at, part, name.to_owned()),
            None => (0, 0, name.to_owned()),
        }
    });
    Ok(Kept { parts: parts.into(), bytes })
}

/// The runs listed in a file, the oldest first. Empty without the file.
fn runs(file: &Path) -> Vec<String> {
    let text = fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

/// Run and part in the name of a picture.
fn run_and_part(stem: &str) -> Option<(&str, u64)> {
    let mut fields = stem.split('-').skip(2);
    Some((fields.next()?, fields.next()?.parse().ok()?))
}

/// The name without its suffix, if the file is one of ours.
fn stem_of(name: &str) -> Option<&str> {
    let stem = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix))?;
    let parts: Vec<&str> = stem.split('-').collect();
    let [date, time, _, part, "pass" | "reject" | "fault"] = parts[..] else { return None };
    let (seconds, millis) = time.split_once('.')?;
    let ours =
        [(date, 8), (seconds, 6), (millis, 3)].iter().all(|(n, digits)| n.len() == *digits && is_number(n));
    (ours && is_number(part)).then_some(stem)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Removes the existing files of a part, and the folder of its day if it is then empty.
fn remove(stem: &Path) -> Result<()> {
    let mut result = Ok(());
    // The JSON goes first, because it vouches for the others. A failure keeps none of the other files.
    for suffix in SUFFIXES.iter().rev() {
        let file = with(stem, suffix);
        match fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                result = result.and(Err(Error::io("remove", &file, e)));
            }
            _ => {}
        }
    }
    if let Some(day) = stem.parent() {
        // Fails while there are other pictures, as intended.
        let _ = fs::remove_dir(day);
    }
    result
}

fn with(stem: &Path, suffix: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_os_string();
    name.push(suffix);
    name.into()
}

fn on_disk(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK)
}

/// Space on the disk, in bytes.
/// Space on a disk, in bytes.
pub(crate) struct Room {
    pub whole: u64,
    pub free: u64,
}

impl Room {
    pub fn of(folder: &Path) -> Result<Self> {
        let disk =
            rustix::fs::statvfs(folder).map_err(|e| Error::io("measure the disk of", folder, e.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(Room { whole: bytes(disk.f_blocks), free: bytes(disk.f_bavail) })
    }
}
