//! `weakrest enroll`

use std::fmt::{self, Display};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::emulate_default_handler;

use crate::enroll::{
    CoresetScope, Enrollment, GroupBy, Matching, Polygon, Progress, Quality, Settings, Variation, advice,
    enroll, int8, promise,
};
use crate::files::read_text;
use crate::imaging::{DefectKind, Listing};
use crate::package::{BackboneFile, ForecastInfo, FrameSize, HeadFile, Manifest, check_target};
use crate::{Error, ErrorKind, Result};

use super::terminal::EnrollBar;
use super::{Outcome, RuntimeArguments, number, pictures_in};

/// Arguments of `enroll`.
#[derive(Debug, Args)]
pub struct Enroll {
    /// Folder of pictures of good parts, all of one size: PNG, JPEG, BMP or TIFF. With `--group-by folder`, it has a
    /// folder for each part
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Package to write
    #[arg(long, value_name = "PACKAGE")]
    output: PathBuf,
    /// Name of the product [default: the package's name]
    #[arg(long, value_name = "NAME")]
    product: Option<String>,
    /// Replace an existing package
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    known: KnownDefects,
    #[command(flatten)]
    settings: SettingsArguments,
    /// Compute the backbone in 8-bit integers, in ranges measured on these pictures: faster on CPUs
    #[arg(long, conflicts_with = "head")]
    int8: bool,
    #[command(flatten)]
    runtime: RuntimeArguments,
    /// File of notes for the package's history, one per line: what was added, when, by whom
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// Print the progress, too: a JSON object per line
    #[arg(long, requires = "json")]
    progress: bool,
}

/// Known defects, for `enroll` and `package add-head`.
#[derive(Debug, Args)]
pub struct KnownDefects {
    /// Folder of pictures of known defects. They lower a threshold that would pass them, as far as the good parts allow
    #[arg(long, value_name = "DIR")]
    defects: Option<PathBuf>,
}

impl KnownDefects {
    pub fn pictures(&self) -> Result<Vec<PathBuf>> {
        self.defects.as_deref().map_or_else(|| Ok(Vec::new()), pictures_in)
    }
}

/// The name of the built-in head.
const GENERAL: &str = "general";

/// Opens a head: the built-in one by its name, or a file.
pub fn open_head(path: &Path) -> Result<HeadFile> {
    if path == Path::new(GENERAL) { HeadFile::built_in() } else { HeadFile::open(path) }
}

/// The effect of position on distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rule {
    /// PosFAR: distance in space adds to distance in features
    Soft,
    /// SemiREST: only tokens within a window match
    Window,
}

/// The pictures that share a coreset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Each picture by itself
    Image,
    /// All pictures together, for a search of all (with a large K)
    Bank,
}

/// A level of quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// 256 pixels, one scale: for large or plain defects, and for many parts per second
    Fast,
    /// 448 pixels, three scales
    Standard,
    /// 768 pixels, three scales: for fine defects
    Best,
}

impl From<Level> for Quality {
    fn from(level: Level) -> Quality {
        match level {
            Level::Fast => Quality::Fast,
            Level::Standard => Quality::Standard,
            Level::Best => Quality::Best,
        }
    }
}

/// Arguments of `enroll` and `evaluate`.
#[derive(Debug, Clone, Args)]
pub struct SettingsArguments {
    /// How much time a picture may take: more of it finds smaller defects [default: standard, or fast with `--head
    /// general`]
    #[arg(long, value_enum)]
    quality: Option<Level>,
    /// Longest side after scaling, or "native" for no scaling [default: the quality's]
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    size: Option<Size>,
    /// Accepted share of false rejects, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 100.0 * Settings::default().false_reject_rate,
        allow_negative_numbers = true, value_parser = number::<f64>(Excluded(0.0), Excluded(100.0)))]
    false_reject_rate: f64,
    /// Which pictures show the same part: `likeness`, `folder`, `none`, or a pattern of file names without ending, in
    /// which (*) stands for the part's name and * for any text, such as "(*)_view*"
    #[arg(long, value_name = "HOW", default_value = "likeness", value_parser = group_by)]
    group_by: GroupBy,
    /// Enroll without the parts that score far above the others
    #[arg(long)]
    drop_outliers: bool,
    /// Leave out pictures that cannot be used
    #[arg(long)]
    skip_bad: bool,
    /// Accept pictures of different sizes
    #[arg(long)]
    any_size: bool,
    /// Backbone: NAME.onnx, with NAME.toml beside it [default: the quality's]
    #[arg(long, value_name = "FILE")]
    backbone: Option<PathBuf>,
    /// Trained head: NAME.onnx, with NAME.toml beside it, or `general`, which is built in
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Effect of the position on the part
    #[arg(long, value_enum, default_value_t = Rule::Soft)]
    matching: Rule,
    /// Weight of the position, for soft matching
    #[arg(long, value_name = "WEIGHT", default_value_t = default_weight(),
        allow_negative_numbers = true, value_parser = number::<f32>(Included(0.0), Included(100.0)))]
    position_weight: f32,
    /// Reach of the window, as a share of the longer side, for window matching
    #[arg(long, value_name = "SHARE", default_value_t = 0.15,
        allow_negative_numbers = true, value_parser = number::<f32>(Excluded(0.0), Included(1.0)))]
    window_reach: f32,
    /// Pictures that share a coreset
    #[arg(long, value_enum, default_value_t = Scope::Image)]
    coreset: Scope,
    /// Share of tokens to keep
    #[arg(long, value_name = "SHARE", default_value_t = Settings::default().coreset_share,
        allow_negative_numbers = true, value_parser = number::<f32>(Excluded(0.0), Included(1.0)))]
    coreset_share: f32,
    /// Least number of tokens to keep
    #[arg(long, value_name = "TOKENS", default_value_t = Settings::default().coreset_floor,
        allow_negative_numbers = true)]
    coreset_floor: usize,
    /// Number of similar good pictures to compare with
    #[arg(long, short = 'k', value_name = "K", default_value_t = Settings::default().images as u32,
        allow_negative_numbers = true, value_parser = number::<u32>(Included(1.0), Unbounded))]
    similar: u32,
    /// Smoothing of the anomaly map, in pixels at size 512
    #[arg(long, value_name = "PIXELS", default_value_t = Settings::default().sigma,
        allow_negative_numbers = true, value_parser = number::<f32>(Included(0.0), Included(256.0)))]
    sigma: f32,
    /// Side of the square whose mean is the score, in pixels at size 512
    #[arg(long, value_name = "PIXELS", default_value_t = Settings::default().window,
        allow_negative_numbers = true, value_parser = number::<f32>(Excluded(0.0), Included(4096.0)))]
    score_window: f32,
    /// What varies in a copy of each good picture, in the bank only: `light`, `noise`, both with a comma, or `none`
    #[arg(long, value_name = "WHAT", default_value_t = Variations(Settings::default().variations))]
    variations: Variations,
    /// Area that is neither learned nor inspected: its corners in shares of width and height, such as "0,0 0.2,0 0.2,1
    /// 0,1" for the left fifth; repeatable
    #[arg(long, value_name = "X,Y X,Y X,Y ...", value_parser = area, allow_hyphen_values = true)]
    ignore: Vec<Area>,
    /// Seed of random numbers
    #[arg(long, default_value_t = Settings::default().seed, allow_negative_numbers = true)]
    seed: u64,
}

/// An ignored area.
#[derive(Debug, Clone)]
struct Area(Polygon);

fn area(text: &str) -> Result<Area, String> {
    let point = |text: &str| {
        let (x, y) = text.split_once(',')?;
        Some([x.parse().ok()?, y.parse().ok()?])
    };
    let corners: Option<Polygon> = text.split_whitespace().map(point).collect();
    let wrong = || format!("must be 3 or more corners, such as \"0,0 0.2,0 0.2,1 0,1\", not {text:?}");
    corners.filter(|corners| corners.len() >= 3).map(Area).ok_or_else(wrong)
}

fn group_by(text: &str) -> Result<GroupBy> {
    Ok(match text {
        "likeness" => GroupBy::Likeness,
        "folder" => GroupBy::Folder,
        "none" => GroupBy::Nothing,
        pattern => GroupBy::Name(pattern.parse()?),
    })
}

/// The variations of the copies; without any, there are no copies.
#[derive(Debug, Clone)]
struct Variations(Vec<Variation>);

const VARIATIONS: [(Variation, &str); 2] = [(Variation::Light, "light"), (Variation::Noise, "noise")];

impl FromStr for Variations {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Variations(Vec::new()));
        }
        let variation = |word| {
            let found = VARIATIONS.iter().find(|(_, name)| *name == word);
            let wrong = || format!("must be light, noise, both with a comma, or none, not {word:?}");
            found.map(|(variation, _)| *variation).ok_or_else(wrong)
        };
        let mut all: Vec<Variation> = text.split(',').map(variation).collect::<Result<_, _>>()?;
        all.sort_unstable();
        all.dedup();
        Ok(Variations(all))
    }
}

impl Display for Variations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen = VARIATIONS.iter().filter(|(variation, _)| self.0.contains(variation));
        let names: Vec<&str> = chosen.map(|(_, name)| *name).collect();
        f.write_str(&if names.is_empty() { "none".into() } else { names.join(",") })
    }
}

/// A longest side, or none without scaling.
#[derive(Debug, Clone, Copy)]
struct Size(Option<u32>);

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "native" {
            return Ok(Size(None));
        }
        text.parse().map(|side| Size(Some(side))).map_err(|_| "must be a number of pixels, or \"native\"")
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(side) => side.fmt(f),
            None => f.write_str("native"),
        }
    }
}

fn default_weight() -> f32 {
    match Settings::default().matching {
        Matching::Soft { weight } => weight,
        Matching::Window { .. } => 0.0,
    }
}

impl SettingsArguments {
    fn quality(&self) -> Quality {
        match (self.quality, self.head.as_deref()) {
            (Some(level), _) => level.into(),
            // That head was trained with this level's backbone.
            (None, Some(head)) if head == Path::new(GENERAL) => Quality::Fast,
            (None, _) => Quality::default(),
        }
    }

    /// The library's settings for a product.
    pub fn settings(&self, product: String) -> Result<Settings> {
        Ok(Settings {
            product,
            longest_side: self.size.map_or(self.quality().settings().longest_side, |size| size.0),
            matching: match self.matching {
                Rule::Soft => Matching::Soft { weight: self.position_weight },
                Rule::Window => Matching::Window { reach: self.window_reach },
            },
            coreset: match self.coreset {
                Scope::Image => CoresetScope::Image,
                Scope::Bank => CoresetScope::Bank,
            },
            coreset_share: self.coreset_share,
            coreset_floor: self.coreset_floor,
            images: self.similar as usize,
            sigma: self.sigma,
            window: self.score_window,
            false_reject_rate: self.false_reject_rate / 100.0,
            group_by: self.group_by.clone(),
            drop_outliers: self.drop_outliers,
            skip_bad: self.skip_bad,
            any_size: self.any_size,
            variations: self.variations.0.clone(),
            defects: Vec::new(),
            ignore: self.ignore.iter().map(|area| area.0.clone()).collect(),
            seed: self.seed,
            head: self.head.as_deref().map(open_head).transpose()?,
        })
    }

    /// The network to enroll with.
    pub fn backbone(&self) -> Result<BackboneFile> {
        match &self.backbone {
            Some(path) => BackboneFile::open(path),
            None => self.quality().backbone(),
        }
    }
}

impl Enroll {
    pub fn run(self) -> Result<Outcome> {
        let start = Instant::now();
        check_target(&self.output, self.overwrite)?;
        let history = self.history.as_deref().map_or_else(|| Ok(Vec::new()), notes)?;
        let pictures = match self.settings.group_by {
            GroupBy::Folder => pictures_of_parts(&self.images)?,
            _ => pictures_in(&self.images)?,
        };
        let product = self.product.clone().unwrap_or_else(|| {
            self.output.file_stem().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
        });
        let settings = Settings { defects: self.known.pictures()?, ..self.settings.settings(product)? };
        let backbone = self.settings.backbone()?;
        let options = self.runtime.options();
        let bar = if self.progress { EnrollBar::lines() } else { EnrollBar::new() };
        let mut compared = None;
        let mut done = unless_stopped(bar, |progress| {
            let mut backbone = backbone;
            if self.int8 {
                let Some(made) = int8(&pictures, &backbone, &settings, &options, progress)? else {
                    return Ok(None);
                };
                compared = Some((made.speedup, made.difference));
                backbone = made.backbone;
            }
            enroll(&pictures, &backbone, &settings, &options, progress)
        })?;
        done.package.manifest.history = history;
        done.package.write(&self.output, self.overwrite)?;
        for picture in &done.skipped {
            remark!("left out: {picture}");
        }
        if self.json {
            let mut summary =
                summary(&done, &self.output.display().to_string(), start.elapsed().as_secs_f64());
            if let Some((speedup, difference)) = compared {
                summary["int8"] = serde_json::json!({ "speedup": speedup, "difference": difference });
            }
            say!("{summary}")?;
        } else {
            summarize(&done, &self.output.display().to_string(), start.elapsed().as_secs_f64())?;
            if let Some((speedup, difference)) = compared {
                let percent = 100.0 * difference;
                say!(
                    "  Features in 8-bit integers are computed {speedup:.1} times as fast on this machine. Distances"
                )?;
                say!("  between good pictures differ by {percent:.0} % from those in floats.")?;
            }
        }
        Ok(Outcome::Pass)
    }
}

/// The notes in a file, one per line.
fn notes(file: &Path) -> Result<Vec<String>> {
    Ok(read_text(file)?.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// The pictures in the folders of `folder`.
fn pictures_of_parts(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = Listing::of(folder)?;
    if let Some(beside) = listing.taken.first() {
        let wrong = "lies beside the folders of the parts; move it into the folder of its part";
        return Err(Error::new(ErrorKind::Usage, wrong).within(beside.display()));
    }
    let mut pictures = Vec::new();
    for part in &listing.folders {
        pictures.extend(pictures_in(part)?);
    }
    Ok(pictures)
}

/// Shows the progress of work on a package until it is done, or a signal stops it.
pub fn unless_stopped<T>(mut bar: EnrollBar, work: impl FnOnce(Progress) -> Result<Option<T>>) -> Result<T> {
    let signal = signals()?;
    let (working, done_working) = mpsc::channel();
    let asked = Arc::clone(&signal);
    std::thread::spawn(move || end_what_hangs(&asked, &done_working));
    let done = work(&mut |step, n, of| bar.show(step, n, of) && signal.load(Ordering::Relaxed) == 0)?;
    drop(working);
    bar.finish();
    if done.is_none() {
        // A shell then stops the rest of its script, too.
        let _ = emulate_default_handler(signal.load(Ordering::Relaxed) as i32);
    }
    done.ok_or_else(|| Error::new(ErrorKind::Usage, "the work was interrupted"))
}

/// Ends the process a second after a signal, unless the work ends before. It may hang in a network file. It
/// has no files open for writing then.
fn end_what_hangs(signal: &AtomicUsize, done: &Receiver<()>) {
    const POLL: Duration = Duration::from_millis(50);
    const GRACE: Duration = Duration::from_secs(1);
    while signal.load(Ordering::Relaxed) == 0 {
        if done.recv_timeout(POLL) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
    if done.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
        let _ = emulate_default_handler(signal.load(Ordering::Relaxed) as i32);
    }
}

/// Holds the number of the first SIGINT or SIGTERM, or 0. The work then ends without leaving a part of a
/// package behind. The second signal ends the process at once.
fn signals() -> Result<Arc<AtomicUsize>> {
    let (number, second) = (Arc::default(), Arc::default());
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&second))
            .and_then(|_| flag::register(signal, Arc::clone(&second)))
            .and_then(|_| flag::register_usize(signal, Arc::clone(&number), signal as usize))
            .map_err(|e| Error::new(ErrorKind::Io, "cannot receive signals").with_source(e))?;
    }
    Ok(number)
}

/// The forecast as a table: a kind of defect in each line, a size in each column.
pub(super) fn forecast(manifest: &Manifest) -> Vec<String> {
    let found = &manifest.forecast;
    let Some(first) = found.first() else { return Vec::new() };
    let of = |kind| found.iter().filter(move |info| info.kind == kind);
    // People know sizes in their camera's picture.
    let (factor, unit) = match manifest.input.size {
        FrameSize::Fixed(width, height) => {
            let placed = manifest.geometry().place(width, height).content;
            (f64::from(width.max(height)) / f64::from(placed.0.max(placed.1)), "the camera's picture")
        }
        FrameSize::Any => (1.0, "the scaled picture"),
    };
    let mut lines =
        vec![format!("forecast   painted defects that are rejected, by their size in pixels of {unit}:")];
    let header: String =
        of(first.kind).map(|info| format!("{:>7.0}", f64::from(info.size) * factor)).collect();
    lines.push(format!("           {:8}{header}", ""));
    for kind in DefectKind::ALL {
        let share = |info: &ForecastInfo| 100.0 * info.rejected as f64 / info.painted.max(1) as f64;
        let shares: String = of(kind).map(|info| format!("{:>5.0} %", share(info))).collect();
        lines.push(format!("           {:8}{shares}", kind.name()));
    }
    lines
}

pub fn summarize(done: &Enrollment, output: &str, seconds: f64) -> Result<()> {
    let manifest = &done.package.manifest;
    let threshold = &manifest.threshold;
    say!("{output}: {} good pictures enrolled in {seconds:.1} s", manifest.images)?;
    say!(
        "  bank       {} of {} tokens, {:.1} MB in all",
        done.package.tokens(),
        done.tokens,
        done.package.size() as f64 / 1e6
    )?;
    let repeated: Vec<String> = done.parts.iter().filter(|p| p.len() > 1).map(|p| names(p)).collect();
    if !repeated.is_empty() {
        let more = if repeated.len() > SHOWN { "; …" } else { "" };
        let shown = repeated[..repeated.len().min(SHOWN)].join("; ");
        say!(
            "  parts      {} in {} pictures; the same part: {shown}{more}",
            done.parts.len(),
            manifest.images
        )?;
    }
    say!(
        "  threshold  {:.3} (good pictures score {:.3} to {:.3}, median {:.3})",
        threshold.value,
        threshold.scores[0],
        threshold.scores[2],
        threshold.scores[1]
    )?;
    say!("  {}", promise(threshold))?;
    let milliseconds = done.time.as_secs_f64() * 1e3;
    say!("  speed      {milliseconds:.1} ms a picture on this machine, networks on {}", done.provider)?;
    for line in forecast(manifest) {
        say!("  {line}")?;
    }
    let missed: Vec<_> = done.defects.iter().filter(|(_, score)| *score <= threshold.value).collect();
    if !done.defects.is_empty() {
        let (known, found) = (done.defects.len(), done.defects.len() - missed.len());
        say!("  defects    {found} of {known} known defects score above the threshold")?;
    }
    if !missed.is_empty() {
        let lowest = missed.iter().map(|(_, score)| *score).fold(f32::INFINITY, f32::min);
        let as_high = done.scores.iter().filter(|(_, score)| *score >= lowest).count();
        say!(
            "  These pass, because {as_high} of {} good pictures score as high. Look at",
            done.scores.len()
        )?;
        say!("  those, enroll with a higher --quality, or label: weakrest label, weakrest train.")?;
        for (path, score) in missed.iter().take(SHOWN) {
            say!("    {score:.3}  {}", path.display())?;
        }
    }
    for sentences in advice(done) {
        say!("  {sentences}")?;
    }
    if !done.outliers.is_empty() {
        say!("  These pictures score far above the others, and raise the threshold. Look at them:")?;
        for (path, score) in &done.outliers {
            say!("    {score:.3}  {}", path.display())?;
        }
        say!("  Remove bad parts. Without good but odd ones the threshold is lower, and finds more:")?;
        say!("  enroll with --drop-outliers, and parts like them may be rejected.")?;
        return Ok(());
    }
    let mut highest: Vec<_> = done.scores.iter().collect();
    highest.sort_by(|a, b| b.1.total_cmp(&a.1));
    say!("  Check the pictures with the highest scores. A bad part among the good hides its defect:")?;
    for (path, score) in highest.iter().take(3) {
        say!("    {score:.3}  {}", path.display())?;
    }
    Ok(())
}

/// Most parts, and pictures of a part, that the summary names.
const SHOWN: usize = 3;

/// The names of a part's pictures, the first ones.
fn names(pictures: &[PathBuf]) -> String {
    let name =
        |path: &PathBuf| path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let more = if pictures.len() > SHOWN { ", …" } else { "" };
    pictures.iter().take(SHOWN).map(name).collect::<Vec<_>>().join(", ") + more
}

/// The summary as JSON. Paths are lossy text, as not every file name is valid in JSON.
fn summary(done: &Enrollment, output: &str, seconds: f64) -> serde_json::Value {
    let manifest = &done.package.manifest;
    serde_json::json!({
        "package": output,
        "hash": done.package.hash,
        "images": manifest.images,
        "skipped": done.skipped.iter().map(|b| serde_json::json!({ "path": b.path.display().to_string(), "reason": b.reason })).collect::<Vec<_>>(),
        "outliers": done.outliers.iter().map(|(p, s)| serde_json::json!({ "path": p.display().to_string(), "score": s })).collect::<Vec<_>>(),
        "parts": done.parts.iter().map(|p| p.iter().map(|p| p.display().to_string()).collect()).collect::<Vec<Vec<_>>>(),
        "tokens": done.tokens,
        "bank_tokens": done.package.tokens(),
        "bytes": done.package.size(),
        "threshold": manifest.threshold,
        "promise": promise(&manifest.threshold),
        "advice": advice(done),
        "forecast": manifest.forecast,
        "known_defects": done.defects.len(),
        "known_defects_rejected": done.defects.iter().filter(|(_, score)| *score > manifest.threshold.value).count(),
        "milliseconds": done.time.as_secs_f64() * 1e3,
        "provider": done.provider,
        // For older scripts. A package that does not see it is an error.
        "sees_painted_square": true,
        "scores": done.scores.iter().map(|(p, s)| serde_json::json!({ "path": p.display().to_string(), "score": s })).collect::<Vec<_>>(),
        "seconds": seconds,
    })
}
