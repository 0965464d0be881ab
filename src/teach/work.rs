//! Enrolling in the background.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime};

use serde::Serialize;
use serde_json::Value;

use super::Place;
use super::store::{Answer, CANDIDATE, Product, ProductFolder, utc};
use super::trial::{self, ACTIVE_FILE, CANDIDATE_FILE, Scored, Trial};
use crate::error::{Error, ErrorKind, Result};
use crate::files::write_file;
use crate::imaging::Polygon;
use crate::program::{Program, Stop};

/// Levels of quality, as the command line names them.
const LEVELS: [&str; 3] = ["fast", "standard", "best"];
/// Steps of enrolling as the program names them, with their usual share of the time.
const STEPS: [(&str, f64); 4] = [
    ("reading pictures", 0.35),
    ("choosing tokens", 0.1),
    ("scoring good parts", 0.2),
    ("painting defects", 0.35),
];
const MOST_AREAS: usize = 50;
const MOST_CORNERS: usize = 200;

/// Checks a product's settings.
///
/// # Errors
/// [`ErrorKind::Usage`] with the wrong value.
pub fn check(product: &Product) -> Result<()> {
    let wrong = |text: String| Err(Error::new(ErrorKind::Usage, text));
    if !LEVELS.contains(&product.quality.as_str()) {
        return wrong(format!("the quality is fast, standard or best, not {:?}", product.quality));
    }
    if !(0.01..=50.0).contains(&product.false_reject_percent) {
        return wrong(format!("false rejects are 0.01 to 50 %, not {}", product.false_reject_percent));
    }
    let inside = |v: &f64| (0.0..=1.0).contains(v);
    let fits = |area: &Polygon| (3..=MOST_CORNERS).contains(&area.len()) && area.iter().flatten().all(inside);
    if product.ignore.len() > MOST_AREAS || !product.ignore.iter().all(fits) {
        return wrong(format!(
            "at most {MOST_AREAS} ignored areas, each of 3 to {MOST_CORNERS} corners in shares of width and height"
        ));
    }
    Ok(())
}

/// Refuses to replace a package by one of far fewer pictures: somebody has answered for a few parts of a product that was
/// enrolled elsewhere.
fn check_count(product: &str, count: usize, active: &Path) -> Result<()> {
    let Ok(active) = crate::Package::open(active) else { return Ok(()) };
    let images = active.manifest.images;
    if active.manifest.product != product || 2 * count >= images {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Usage,
        format!(
            "the package in use was enrolled with {images} good pictures, but only {count} are here; collect more, or give the \
             product another name"
        ),
    ))
}

/// The progress of enrolling, for the page.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Progress {
    pub running: bool,
    pub step: String,
    pub done: u64,
    pub of: u64,
    /// Share of all work, 0 to 1.
    pub share: f64,
    /// Time that is left, in seconds, once it can be told.
    pub left_s: Option<f64>,
    pub error: Option<String>,
}

/// Enrolling on a thread of its own.
pub(crate) struct Job {
    stop: Stop,
    progress: Arc<Mutex<Progress>>,
}

impl Job {
    /// Starts to enroll a product. Its candidate is replaced at the end.
    pub fn start(product: ProductFolder, place: Place, who: &str) -> Result<Job> {
        let settings = product.known()?;
        check(&settings)?;
        let count = product.pictures(Answer::Good)?.len();
        if count < 2 {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("{count} good pictures are too few: collect 20 of different parts, at least 2"),
            ));
        }
        check_count(&settings.name, count, &place.package)?;
        product.note(who, &format!("enrolls {count} good pictures at quality {}", settings.quality))?;
        let progress = Arc::new(Mutex::new(Progress { running: true, ..Progress::default() }));
        let stop = Stop::default();
        let work = Work {
            product,
            settings,
            program: place.program,
            active: place.package,
            stop: stop.clone(),
            progress: Arc::clone(&progress),
            begun: Instant::now(),
        };
        let shared = Arc::clone(&progress);
        std::thread::Builder::new()
            .name("teach".into())
            .spawn(move || {
                let result = work.run();
                let mut progress = lock(&shared);
                progress.running = false;
                progress.error = result.err().map(|e| e.chain());
            })
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))?;
        Ok(Job { stop, progress })
    }

    pub fn is_running(&self) -> bool {
        lock(&self.progress).running
    }

    pub fn progress(&self) -> Progress {
        lock(&self.progress).clone()
    }

    pub fn stop(&self) {
        self.stop.stop();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(|e| e.into_inner())
}

struct Work {
    product: ProductFolder,
    settings: Product,
    program: Program,
    /// The package in use.
    active: PathBuf,
    stop: Stop,
    progress: Arc<Mutex<Progress>>,
    begun: Instant,
}

impl Work {
    fn run(&self) -> Result<()> {
        let product = &self.product;
        // A picture that is in both folders is bad.
        for name in product.pictures(Answer::Bad)? {
            let twin = product.file(Answer::Good.name()).join(name);
            if twin.exists() {
                std::fs::remove_file(&twin).map_err(|e| Error::io("remove", &twin, e))?;
            }
        }
        let notes = product.file("notes.txt");
        write_file(&notes, trial::notes(&product.events()?).join("\n").as_bytes())?;
        let (images, output) = (product.file(Answer::Good.name()), product.file(CANDIDATE));
        let text = |path: &Path| path.display().to_string();
        let mut arguments: Vec<String> = ["enroll", "--overwrite", "--progress"].map(str::to_owned).into();
        let rate = self.settings.false_reject_percent.to_string();
        for (name, value) in [
            ("--images", text(&images)),
            ("--output", text(&output)),
            ("--history", text(&notes)),
            ("--product", self.settings.name.clone()),
            ("--quality", self.settings.quality.clone()),
            ("--false-reject-rate", rate),
        ] {
            arguments.push(format!("{name}={value}"));
        }
        let defects = trial::defects(product)?;
        if !defects.is_empty() {
            arguments.push(format!("--defects={}", product.file(Answer::Bad.name()).display()));
        }
        for area in &self.settings.ignore {
            let corners: Vec<String> = area.iter().map(|[x, y]| format!("{x},{y}")).collect();
            arguments.push(format!("--ignore={}", corners.join(" ")));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut summary = None;
        self.program.run(&arguments, &[], &self.stop, |line| match line["step"].as_str() {
            Some(step) => self.show(step, &line),
            None => summary = Some(line),
        })?;
        let at = utc(SystemTime::now());
        let trial = summary.as_ref().and_then(|s| Trial::from_summary(s, at, &self.settings.quality));
        let unread =
            || Error::new(ErrorKind::Runtime, "the summary of enrolling cannot be read; this is a bug");
        let mut trial = trial.ok_or_else(unread)?;
        self.step("inspecting known defects", 0, defects.len() as u64, 0.97);
        trial.bad = scores(&self.program, &output, &defects, &self.stop)?;
        if let Some(active) = self.active_again(&trial, &defects)? {
            product.write(ACTIVE_FILE, &active)?;
        }
        product.write(CANDIDATE_FILE, &trial)
    }

    /// What was measured of the active package, with scores of all judged pictures: some were judged since. `None` if it
    /// is of another product.
    fn active_again(&self, trial: &Trial, defects: &[PathBuf]) -> Result<Option<Trial>> {
        let Ok(package) = crate::Package::open(&self.active) else { return Ok(None) };
        if package.manifest.product != self.settings.name {
            return Ok(None);
        }
        let measured: Option<Trial> = self.product.read(ACTIVE_FILE)?;
        let promise = crate::enroll::promise(&package.manifest.threshold);
        let mut active = match measured.filter(|measured| measured.package == package.hash) {
            Some(measured) => measured,
            None => Trial::unmeasured(&package, utc(SystemTime::now()), promise),
        };
        active.bad = scores(&self.program, &self.active, defects, &self.stop)?;
        // Pictures that it has not learned. It has learned the others, so their scores would mean nothing.
        let known: Vec<&str> = active.good.iter().map(|s| s.picture.as_str()).collect();
        let folder = self.product.file(Answer::Good.name());
        let new = trial.good.iter().filter(|s| !known.contains(&s.picture.as_str()));
        let new: Vec<PathBuf> = new.map(|s| folder.join(&s.picture)).collect();
        active.good.extend(scores(&self.program, &self.active, &new, &self.stop)?);
        Ok(Some(active))
    }

    fn show(&self, step: &str, line: &Value) {
        let (done, of) = (line["done"].as_u64().unwrap_or(0), line["of"].as_u64().unwrap_or(0));
        let before: f64 = STEPS.iter().take_while(|(name, _)| *name != step).map(|(_, share)| share).sum();
        let share = STEPS.iter().find(|(name, _)| *name == step).map_or(0.0, |(_, share)| *share);
        self.step(step, done, of, 0.97 * (before + share * done as f64 / of.max(1) as f64));
    }

    fn step(&self, step: &str, done: u64, of: u64, share: f64) {
        let spent = self.begun.elapsed().as_secs_f64();
        let left_s = (share > 0.02).then(|| spent * (1.0 - share) / share);
        *lock(&self.progress) =
            Progress { running: true, step: step.to_owned(), done, of, share, left_s, error: None };
    }
}

/// A package's scores of pictures. A picture that cannot be inspected has none.
pub fn scores(program: &Program, package: &Path, pictures: &[PathBuf], stop: &Stop) -> Result<Vec<Scored>> {
    if pictures.is_empty() {
        return Ok(Vec::new());
    }
    let mut scores = Vec::new();
    let paths: Vec<&Path> = std::iter::once(package).chain(pictures.iter().map(PathBuf::as_path)).collect();
    program.run(&["inspect"], &paths, stop, |line| {
        let name = Path::new(line["image"].as_str().unwrap_or_default()).file_name();
        if let (Some(name), Some(score)) = (name.and_then(|n| n.to_str()), line["score"].as_f64()) {
            scores.push(Scored { picture: name.to_owned(), score: score as f32 });
        }
    })?;
    Ok(scores)
}
