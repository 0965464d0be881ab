//! Teaching on the service's own page: collect good parts, enroll beside the running line, try the new package on live
//! parts, answer for single parts, and activate. [`Teacher`] outlives the line's restarts.
//!
//! What takes long runs as another process at the lowest priority: see [`crate::program`]. Nothing here can
//! delay the line: the [`Pupil`] is an output like every other.

mod pupil;
mod server;
mod shadow;
mod store;
#[cfg(test)]
mod tests;
mod trial;
mod work;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind, Result};
use crate::imaging::Frame;
use crate::output::Control;
use crate::package::install::{Candidate, Rules, previous};
use crate::package::{Package, RecipeFolder, Source, product_of};
pub(crate) use crate::program::Program;
use crate::program::Stop;
use crate::record::Engine;
use crate::state::StateFolder;

pub(crate) use pupil::Pupil;
pub(crate) use server::routes;
pub use store::Settings;
pub(crate) use store::{Answer, Product, ProductFolder};
use store::{CANDIDATE, Store, utc};
use trial::{ACTIVE_FILE, CANDIDATE_FILE, Changes, Trial};
use work::Job;

/// The folder of products, in the state folder.
const FOLDER: &str = "teach";
/// Names the chosen product, in the same folder.
const CHOSEN: &str = "teach-product.json";

/// How good parts are collected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase", tag = "mode")]
pub(crate) enum Collecting {
    /// Not at all.
    #[default]
    Off,
    /// The next parts, this many.
    Next {
        /// Number of parts still to take.
        left: u32,
    },
    /// A part from time to time, until there are enough.
    Timed {
        /// Least time between two, in seconds.
        seconds: f64,
    },
}

/// A part that a person can still answer for.
#[derive(Debug, Clone)]
pub(crate) struct Recent {
    /// Unique until the service stops.
    pub id: u64,
    pub part: u64,
    pub triggered: SystemTime,
    pub verdict: &'static str,
    pub score: Option<f32>,
    pub threshold: Option<f32>,
    pub frame: Arc<Frame>,
    /// The product that inspected it, and what a person said.
    pub product: String,
    pub answer: Option<Answer>,
}

/// What the camera shows, for focus and exposure.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct Aid {
    /// Sharpness, 0 to 255.
    pub sharpness: f32,
    /// Mean brightness, 0 to 255.
    pub brightness: f32,
    /// Share of values of 250 or more, 0 to 1.
    pub clipped: f32,
    /// Width and height of the picture in pixels.
    pub size: (u32, u32),
}

/// Teaching, for all requests and parts.
pub(crate) struct Teacher {
    store: Store,
    state: StateFolder,
    inner: Mutex<Inner>,
    /// Held while a package is put into its place.
    installing: Mutex<()>,
    /// When the page asked last, in milliseconds since `started`.
    looked: AtomicU64,
    started: Instant,
}

/// Where packages go, and what makes them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    /// The package that the service loads.
    pub package: PathBuf,
    /// What it was when it was loaded.
    pub engine: Option<Engine>,
    /// Other packages to choose from, and that of recipe 0.
    pub recipes: Option<(RecipeFolder, PathBuf)>,
    /// Whether packages must be signed.
    pub signed: bool,
    /// A threshold in the configuration, which replaces the package's.
    pub threshold: Option<f32>,
    /// Whether a request can trigger a part.
    pub software_trigger: bool,
    /// What runs in the background.
    pub program: Program,
}

/// Where a product's package goes.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = TeachTarget)]
pub(crate) struct Target {
    #[serde(skip)]
    package: PathBuf,
    /// Number of its recipe.
    pub recipe: u16,
    /// Whether there is no such recipe yet.
    pub is_new: bool,
    /// Another product, whose package it replaces.
    pub replaces: Option<String>,
}

#[derive(Default)]
struct Inner {
    place: Place,
    control: Option<Arc<dyn Control>>,
    collecting: Collecting,
    /// When a picture was collected last.
    collected: Option<Instant>,
    /// Why the latest picture could not be collected.
    refused: Option<String>,
    chosen: Option<String>,
    recent: VecDeque<Recent>,
    /// Whether the latest parts stay while a person looks at them.
    held: bool,
    next: u64,
    aid: Aid,
    job: Option<Job>,
    shadow: shadow::Shadow,
}

/// Passed and rejected parts that a person can answer for, and most bytes of their pictures.
const RECENT: [(&str, usize); 2] = [("pass", 12), ("reject", 24)];
const RECENT_BYTES: usize = 96 << 20;
/// The aid is computed while the page has asked within this time.
const LOOKING: Duration = Duration::from_secs(5);

fn starting() -> Error {
    Error::new(ErrorKind::Runtime, "the line is starting; try again")
}

impl Teacher {
    pub fn new(settings: Settings, state: StateFolder) -> Arc<Teacher> {
        let chosen = state.read::<String>(CHOSEN).unwrap_or_else(|e| {
            log::warn!("teach: {}", e.chain());
            None
        });
        Arc::new(Teacher {
            store: Store::new(state.file(FOLDER), settings),
            state,
            inner: Mutex::new(Inner { chosen, ..Inner::default() }),
            installing: Mutex::new(()),
            looked: AtomicU64::new(0),
            started: Instant::now(),
        })
    }

    /// The present line: it changes when the line restarts.
    pub fn attach(&self, control: Arc<dyn Control>) {
        self.inner().control = Some(control);
    }

    /// Sets the present configuration's place.
    pub fn set_place(&self, place: Place) {
        self.inner().place = place;
    }

    fn place(&self) -> Place {
        self.inner().place.clone()
    }

    /// Never held while a disk is read or written: the service's main loop needs it, too.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic leaves nothing half-done that the disk does not know.
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn control(&self) -> Result<Arc<dyn Control>> {
        self.inner().control.clone().ok_or_else(starting)
    }

    /// Notes that a person looks at the page.
    fn look(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.looked.store(now.max(1), Relaxed);
    }

    fn is_looked_at(&self) -> bool {
        let looked = self.looked.load(Relaxed);
        looked > 0 && self.started.elapsed() < Duration::from_millis(looked) + LOOKING
    }

    /// The folder of the chosen product.
    fn chosen(&self) -> Result<ProductFolder> {
        let none = || Error::new(ErrorKind::Usage, "choose a product first, or create one");
        let chosen = self.inner().chosen.clone().ok_or_else(none)?;
        let product = self.store.product(&chosen)?;
        product.known()?;
        Ok(product)
    }

    /// Chooses a product, and creates it if it is new.
    pub fn choose(&self, name: &str, who: &str) -> Result<()> {
        if self.inner().job.as_ref().is_some_and(Job::is_running) {
            return Err(Error::new(ErrorKind::Usage, "a package is being enrolled; wait, or stop it first"));
        }
        let product = self.store.product(name)?;
        let known = product.create(who)?;
        self.state.write(CHOSEN, &known.name)?;
        let mut inner = self.inner();
        inner.collecting = Collecting::Off;
        inner.chosen = Some(known.name);
        inner.shadow.stop();
        Ok(())
    }

    /// Changes how good parts are collected.
    pub fn collect(&self, how: Collecting, who: &str) -> Result<()> {
        let product = self.chosen()?;
        match how {
            Collecting::Timed { seconds } if !(0.2..=3600.0).contains(&seconds) => {
                return Err(Error::new(ErrorKind::Usage, "the time between two pictures is 0.2 to 3600 s"));
            }
            Collecting::Off => {}
            _ => product.note(who, "collects good parts")?,
        }
        let mut inner = self.inner();
        (inner.collecting, inner.refused) = (how, None);
        drop(inner);
        if let (Collecting::Next { .. }, true) = (how, self.place().software_trigger) {
            self.control()?.trigger()?;
        }
        Ok(())
    }

    /// Removes a picture from the product.
    pub fn remove(&self, answer: Answer, picture: &str, who: &str) -> Result<()> {
        let product = self.chosen()?;
        product.note(who, &format!("{} picture removed: {picture}", answer.name()))?;
        product.remove(answer, picture)
    }

    /// Sets quality, false rejects and ignored areas.
    pub fn set(&self, change: impl FnOnce(&mut Product), who: &str) -> Result<()> {
        let product = self.chosen()?;
        let mut settings = product.known()?;
        let before = settings.clone();
        change(&mut settings);
        settings.name.clone_from(&before.name);
        work::check(&settings)?;
        if settings == before {
            return Ok(());
        }
        product.note(
            who,
            &format!(
                "settings: quality {}, {} % false rejects, {} ignored areas",
                settings.quality,
                settings.false_reject_percent,
                settings.ignore.len()
            ),
        )?;
        product.change(&settings)
    }

    /// Lets the latest parts stay while a person looks at them, or ends that.
    pub fn hold(&self, on: bool) {
        self.inner().held = on;
    }

    /// Keeps a recent part with a person's answer.
    pub fn answer(&self, id: u64, answer: Answer, who: &str) -> Result<()> {
        let gone = || Error::new(ErrorKind::Usage, "this part is not among the latest any more");
        let recent = self.inner().recent.iter().find(|recent| recent.id == id).cloned().ok_or_else(gone)?;
        let product = self.store.product(&recent.product)?;
        product.create(who)?;
        let name = store::picture_name(recent.triggered, recent.part);
        product
            .note(who, &format!("part said to be {} (verdict: {}): {name}", answer.name(), recent.verdict))?;
        product.keep(answer, &name, &recent.frame).map(drop)?;
        if let Some(recent) = self.inner().recent.iter_mut().find(|recent| recent.id == id) {
            recent.answer = Some(answer);
        }
        Ok(())
    }

    /// Keeps a picture of the pictures folder with a person's answer. `stem` is its path without its ending, as the
    /// pictures folder names it.
    pub fn answer_kept(
        &self,
        folder: &Path,
        stem: &str,
        product: &str,
        answer: Answer,
        who: &str,
    ) -> Result<()> {
        let (day, name) = stem.split_once('/').unwrap_or_default();
        let fits = day.len() == 8
            && day.bytes().all(|b| b.is_ascii_digit())
            && name.starts_with(day)
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
            && !name.contains("..");
        if !fits {
            return Err(Error::new(ErrorKind::Usage, format!("{stem:?} is not the name of a kept part")));
        }
        let frame = Frame::open(folder.join(format!("{stem}.png")))?;
        let product = self.store.product(product)?;
        product.create(who)?;
        product.note(who, &format!("kept part said to be {}: {name}", answer.name()))?;
        product.keep(answer, &format!("{name}.png"), &frame).map(drop)
    }

    /// Starts to enroll the chosen product.
    pub fn enroll(self: &Arc<Self>, who: &str) -> Result<()> {
        let product = self.chosen()?;
        if self.inner().job.as_ref().is_some_and(Job::is_running) {
            return Err(Error::new(ErrorKind::Usage, "a package is being enrolled already"));
        }
        let place = self.place();
        let job = Job::start(product, place, who)?;
        let mut inner = self.inner();
        inner.collecting = Collecting::Off;
        inner.shadow.stop();
        inner.job = Some(job);
        Ok(())
    }

    /// Stops enrolling.
    pub fn stop(&self) {
        if let Some(job) = &self.inner().job {
            job.stop();
        }
    }

    /// Lets the candidate judge live parts, without any effect, or ends that.
    pub fn shadow(self: &Arc<Self>, on: bool) -> Result<()> {
        let product = self.chosen()?;
        let Some(trial) = trial::candidate(&product)? else {
            return Err(Error::new(ErrorKind::Usage, "there is no new package; enroll first"));
        };
        let mut inner = self.inner();
        inner.shadow.stop();
        if on {
            inner.shadow =
                shadow::Shadow::start(product.file(CANDIDATE), trial, inner.place.program.clone())?;
        }
        Ok(())
    }

    /// Makes the candidate the active package. It must be the one that the page showed. A known defect that the active
    /// package rejects and this one does not needs a reason.
    pub fn activate(&self, package: &str, reason: Option<&str>, who: &str) -> Result<()> {
        let product = self.chosen()?;
        if self.inner().job.as_ref().is_some_and(Job::is_running) {
            return Err(Error::new(ErrorKind::Usage, "a package is being enrolled; wait, or stop it first"));
        }
        let trial =
            trial::candidate(&product)?.filter(|trial| trial.package == package).ok_or_else(|| {
                Error::new(ErrorKind::Usage, "the package has changed meanwhile; look at the new one first")
            })?;
        let mut unseen = product.pictures(Answer::Bad)?;
        unseen.retain(|name| !trial.bad.iter().any(|scored| scored.picture == *name));
        if !unseen.is_empty() {
            let text = format!(
                "{} known defects were not inspected with this package ({}); enroll again, or remove them",
                unseen.len(),
                unseen.join(", ")
            );
            return Err(Error::new(ErrorKind::Usage, text));
        }
        let changes = self.changes(&product, &trial)?;
        let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
        let lost = &changes.newly_missed;
        if let (false, None) = (lost.is_empty(), reason) {
            let text = format!(
                "this package misses {} known defects that the active one rejects ({}); enroll again, or give a reason",
                lost.len(),
                lost.join(", ")
            );
            return Err(Error::new(ErrorKind::Usage, text));
        }
        let because = reason.map_or_else(String::new, |reason| format!(", because: {reason}"));
        // Two new products must not get one number.
        let _installing = self.installing()?;
        let target = self.target(&product.known()?.name)?;
        let control = self.control()?;
        let is_present = target.package == self.place().package;
        let recipe = if is_present { String::new() } else { format!(" as recipe {}", target.recipe) };
        product.note(
            who,
            &format!("package {} activated{recipe}{because}", &trial.package[..12.min(trial.package.len())]),
        )?;
        if let (true, Some(folder)) = (target.is_new, target.package.parent()) {
            fs::create_dir_all(folder)
                .map_err(|e| Error::io("create", folder, e).with_key("recipes.folder"))?;
        }
        self.install(&target.package, Some((&product.file(CANDIDATE), &trial.package)))?;
        product.write(ACTIVE_FILE, &trial)?;
        self.inner().shadow.stop();
        if !is_present {
            control.select_recipe(target.recipe);
        }
        // The recipe can be loading already, from the package before.
        control.reload();
        Ok(())
    }

    /// Where a product's package goes: to the recipe that the product has, else to a new one. Without recipes, and on a
    /// board without a package, it goes to the package in use.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if every number is taken; as [`RecipeFolder::list`].
    pub(crate) fn target(&self, product: &str) -> Result<Target> {
        let place = self.place();
        // Not that of the line: parts of the recipe before can still be on their way.
        let engine = place.engine.ok_or_else(starting)?;
        let is_other = !engine.package.is_empty() && engine.product != product;
        let in_use = Target {
            package: place.package,
            recipe: engine.recipe,
            is_new: false,
            replaces: is_other.then_some(engine.product),
        };
        let Some((folder, first)) = place.recipes.filter(|_| is_other) else { return Ok(in_use) };
        let known = |recipe, package| Target { package, recipe, is_new: false, replaces: None };
        if product_of(&first).as_deref() == Some(product) {
            return Ok(known(0, first));
        }
        let recipes = folder.list()?;
        if let Some(recipe) = recipes.iter().find(|recipe| recipe.product().as_deref() == Some(product)) {
            return Ok(known(recipe.number, recipe.path.clone()));
        }
        let full = || Error::new(ErrorKind::Usage, "every number is taken").within(folder.0.display());
        let (recipe, package) = folder.free(&recipes, product).ok_or_else(full)?;
        Ok(Target { is_new: true, ..known(recipe, package) })
    }

    /// Goes back to the package that was active before.
    pub fn back(&self, who: &str) -> Result<()> {
        if let Ok(product) = self.chosen() {
            product.note(who, "previous package activated")?;
        }
        let _installing = self.installing()?;
        self.install(&self.place().package, None)?;
        self.control()?.reload();
        Ok(())
    }

    fn installing(&self) -> Result<MutexGuard<'_, ()>> {
        match self.installing.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(Error::new(ErrorKind::Usage, "another package is being activated; try again later"))
            }
        }
    }

    /// Replaces a package by the one in a folder that has this hash, or by the one before.
    fn install(&self, package: &Path, from: Option<(&Path, &str)>) -> Result<()> {
        let Place { signed, program, .. } = &self.place();
        if *signed {
            return Err(Error::new(
                ErrorKind::Usage,
                "inspection.public_keys is set, so the service loads signed packages only: sign the package, then use \
                 weakrest package install",
            ));
        }
        let rules = Rules { other_product: true, older: true, ..Rules::default() };
        // A service that starts again must be able to load it: so the golden scores are checked before.
        let loads = |folder: &Path| program.run(&["package", "verify"], &[folder], &Stop::default(), |_| {});
        match from {
            Some((folder, hash)) => {
                let source = Source::new(&folder.display().to_string(), None)?;
                match Candidate::fetch(source, package, &rules)? {
                    // Another person may have made a new one since.
                    Some((fetched, _)) if fetched.hash != hash => Err(Error::new(
                        ErrorKind::Usage,
                        "the package has changed meanwhile; look at the new one first",
                    )),
                    Some((_, candidate)) => {
                        loads(folder)?;
                        candidate.install()
                    }
                    None => Ok(()),
                }
            }
            None => {
                let candidate = Candidate::previous(package, &rules.keys)?.1;
                loads(&previous(package))?;
                candidate.install()
            }
        }
    }

    /// What the candidate changes.
    fn changes(&self, product: &ProductFolder, trial: &Trial) -> Result<Changes> {
        let active: Option<Trial> = product.read(ACTIVE_FILE)?;
        Ok(Changes::of(trial, active.as_ref()))
    }

    /// Makes a candidate of the active package with another threshold.
    pub fn set_threshold(&self, threshold: f32, who: &str) -> Result<()> {
        let active = self.control()?.status().engine();
        if active.package.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "there is no active package yet"));
        }
        let product = self.store.product(&active.product)?;
        product.create(who)?;
        let note = format!("threshold {} instead of {}", threshold, active.threshold);
        let package = Package::open(&self.place().package)?;
        let before = package.hash.clone();
        if before != active.package {
            return Err(Error::new(
                ErrorKind::Usage,
                "the package on the disk is not the one in use; reload the configuration first",
            ));
        }
        let mut package =
            trial::with_threshold(package, threshold, format!("{} {who}: {note}", utc(SystemTime::now())))?;
        trial::check_threshold(&package)?;
        product.note(who, &note)?;
        package.write(product.file(CANDIDATE), true)?;
        let measured: Option<Trial> = product.read(ACTIVE_FILE)?;
        let promise = crate::enroll::promise(&package.manifest.threshold);
        let mut trial = match measured.filter(|trial| trial.package == before) {
            Some(trial) => Trial {
                package: package.hash.clone(),
                threshold,
                promise,
                at: utc(SystemTime::now()),
                ..trial
            },
            None => Trial::unmeasured(&package, utc(SystemTime::now()), promise),
        };
        let program = self.place().program;
        trial.bad =
            work::scores(&program, &product.file(CANDIDATE), &trial::defects(&product)?, &Stop::default())?;
        product.write(CANDIDATE_FILE, &trial)?;
        self.state.write(CHOSEN, &active.product)?;
        self.inner().chosen = Some(active.product.clone());
        Ok(())
    }

    /// Whether there is a package to go back to.
    fn has_previous(&self) -> bool {
        previous(&self.place().package).exists()
    }
}
