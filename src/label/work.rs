//! What is computed of pictures, ahead of being asked for where there is time.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::http::StatusCode;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::Settings;
use super::nearest::Nearest;
use super::prompts::{Prompts, check_type};
use super::session::{Change, Picture, Saved, Session, Told};
use crate::error::{Error, ErrorKind, Result};
use crate::files::sha256;
use crate::imaging::{Color, Components, Frame, Mask, heat, ratio};
use crate::inspector::{AnomalyMap, Click, ClickSegmenter, Inspector, Options, Prepared, Verdict};
use crate::labels::{Rle, Stamp, runs};
use crate::onnx::{Runtime, TextEncoder, check_text};
use crate::package::Package;

/// Pictures whose results are kept: those before and after the one that is worked on, in some tabs.
const KEPT: usize = 8;
/// How many of the next pictures are made ready.
const AHEAD: usize = 3;
/// How often the folder is looked at for new pictures.
const RESCAN: Duration = Duration::from_secs(2);
/// A suggestion is sure from this multiple of the threshold on: well beyond what good parts reach.
const SURE: f32 = 1.25;
/// Nobody clicks so often.
const MOST_CLICKS: usize = 1000;

/// A request that cannot be done.
#[derive(Debug)]
pub struct Refusal {
    /// The answer's code.
    pub code: StatusCode,
    /// What to do.
    pub text: String,
    /// What somebody else saved.
    pub label: Option<Box<Told>>,
}

impl Refusal {
    /// A refusal without a label.
    pub fn new(code: StatusCode, text: impl Into<String>) -> Refusal {
        Refusal { code, text: text.into(), label: None }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let (code, more) = match error.kind() {
            ErrorKind::StorageFull => {
                (StatusCode::INSUFFICIENT_STORAGE, "; everything saved before is still there")
            }
            ErrorKind::Usage | ErrorKind::Image => (StatusCode::UNPROCESSABLE_ENTITY, ""),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, ""),
        };
        Refusal::new(code, format!("{}{more}", error.chain()))
    }
}

/// Where a defect may be, before anybody clicked.
#[derive(Debug, Clone, Serialize)]
pub struct Suggestion {
    mask: Rle,
    /// Whether it may be taken as it is.
    sure: bool,
}

/// What was computed of a picture.
pub struct Ready {
    stamp: Option<Stamp>,
    hash: String,
    size: (u32, u32),
    /// Or why the detector cannot judge it.
    prepared: Result<Prepared, String>,
    suggestion: Option<Suggestion>,
    map: OnceLock<Option<Bytes>>,
    nearest: OnceLock<Option<Bytes>>,
}

/// What the page knows of a picture.
#[derive(Serialize)]
pub struct Detail {
    id: usize,
    name: String,
    width: u32,
    height: u32,
    score: Option<f32>,
    label: Told,
    suggestion: Option<Suggestion>,
    /// Why the detector cannot judge it.
    problem: Option<String>,
}

/// Clicks, see [`Work::click`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clicks {
    clicks: Vec<Clicked>,
    #[serde(default)]
    previous: Option<Rle>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    r#type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clicked {
    x: f32,
    y: f32,
    positive: bool,
}

/// A mask from clicks.
#[derive(Serialize)]
pub struct MaskFromClicks {
    mask: Rle,
    milliseconds: f64,
    /// Whether nobody knows the words that came with the clicks.
    unknown_words: bool,
}

/// What networks need.
struct Engine {
    inspector: Inspector,
    clicks: Option<ClickSegmenter>,
}

/// The session, and what computes.
pub struct Work {
    session: Mutex<Session>,
    engine: Mutex<Engine>,
    nearest: Option<Nearest>,
    /// Whether there are enrolled pictures to show.
    has_nearest: AtomicBool,
    cache: Mutex<VecDeque<(usize, Arc<Ready>)>>,
    /// The picture that was asked for last.
    current: AtomicUsize,
    /// Requests that wait for the engine: who works ahead lets them pass.
    waiting: AtomicUsize,
    scanned: Mutex<Instant>,
    /// The last problem with the folder: it is told once.
    told: Mutex<String>,
    stopped: AtomicBool,
    woken: (Mutex<bool>, Condvar),
    /// Held by whoever reads and judges a picture: others who want the same one wait for it instead.
    turn: Mutex<()>,
    id: String,
    product: String,
    threshold: f32,
    segmenter: Option<String>,
    takes_any_words: bool,
    /// Phrases by type: the person's own, and those that the network was trained with.
    prompts: Prompts,
}

/// Whatever a panic left behind is as good as it was before: everything is replaced as a whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Work {
    /// Loads what computes.
    ///
    /// # Errors
    /// As [`Inspector::with_options`]; [`ErrorKind::Usage`] when there is no folder of enrolled pictures.
    pub fn new(session: Session, package: Package, settings: &Settings, options: &Options) -> Result<Work> {
        let nearest = match &settings.good {
            Some(folder) if !folder.is_dir() => {
                let text = format!("there is no folder {}", folder.display());
                return Err(Error::new(ErrorKind::Usage, text).with_key("good"));
            }
            Some(folder) => {
                let folder = std::fs::canonicalize(folder).map_err(|e| Error::io("find", folder, e))?;
                Some(Nearest::new(&folder, package.manifest.geometry.clone(), package.pictures.clone()))
            }
            None => None,
        };
        let encoder = match &settings.text_encoder {
            Some(folder) => {
                let runtime = Runtime::load(options.onnxruntime.as_deref())?;
                Some(TextEncoder::open(runtime, folder, &options.execution)?)
            }
            None => None,
        };
        let clicks = ClickSegmenter::load(&package, options, encoder)?;
        let mut prompts = session.prompts().clone();
        for prompt in clicks.iter().flat_map(|clicks| &clicks.prompts().0) {
            if !session.prompts().contains_key(&prompt.kind) {
                prompts.entry(prompt.kind.clone()).or_default().push(prompt.text.clone());
            }
        }
        let inspector = Inspector::with_options(package, options).map_err(|e| match e.kind() {
            ErrorKind::Runtime | ErrorKind::Usage => e,
            _ => e.within(settings.package.display()),
        })?;
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Work {
            product: inspector.product().to_owned(),
            threshold: inspector.threshold(),
            segmenter: clicks.as_ref().map(|clicks| clicks.name().to_owned()),
            takes_any_words: clicks.as_ref().is_some_and(ClickSegmenter::takes_any_words),
            prompts,
            session: Mutex::new(session),
            engine: Mutex::new(Engine { inspector, clicks }),
            has_nearest: AtomicBool::new(nearest.is_some()),
            nearest,
            cache: Mutex::default(),
            current: AtomicUsize::new(usize::MAX),
            waiting: AtomicUsize::new(0),
            scanned: Mutex::new(Instant::now()),
            told: Mutex::default(),
            stopped: AtomicBool::new(false),
            woken: Default::default(),
            turn: Mutex::default(),
            id: format!("{:x}-{:x}", std::process::id(), started.as_nanos()),
        })
    }

    /// The session; not held while anything is computed.
    pub fn session(&self) -> MutexGuard<'_, Session> {
        locked(&self.session)
    }

    /// Another one in each run of the program.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Name of the product.
    pub fn product(&self) -> &str {
        &self.product
    }

    /// Scores above it are rejected.
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Name of the network that makes masks from clicks.
    pub fn segmenter(&self) -> Option<&str> {
        self.segmenter.as_deref()
    }

    /// Whether words count that the network was not trained with.
    pub fn takes_any_words(&self) -> bool {
        self.takes_any_words
    }

    /// Phrases by type: the person's own, and those that the network was trained with.
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// Whether what a part should look like can be shown.
    pub fn has_nearest(&self) -> bool {
        self.has_nearest.load(Relaxed)
    }

    /// Ends [`Work::run`].
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
        self.wake();
    }

    fn wake(&self) {
        *locked(&self.woken.0) = true;
        self.woken.1.notify_all();
    }

    /// Works ahead until it is stopped.
    pub fn run(self: Arc<Self>) {
        if self.nearest.is_some() {
            let work = Arc::clone(&self);
            let started = std::thread::Builder::new().name("label-good".into()).spawn(move || work.index());
            if let Err(e) = started {
                log::warn!("what parts should look like cannot be shown: {e}");
                self.has_nearest.store(false, Relaxed);
            }
        }
        while !self.stopped.load(Relaxed) {
            self.rescan(RESCAN);
            match self.next() {
                Some((id, keep)) => {
                    while self.waiting.load(Relaxed) > 0 && !self.stopped.load(Relaxed) {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    let Ok(ready) = self.ready(id, keep) else { continue };
                    if keep {
                        self.map_of(&ready);
                        self.nearest_of(&ready, Duration::ZERO);
                    }
                }
                None => {
                    let woken = locked(&self.woken.0);
                    let waited = self.woken.1.wait_timeout_while(woken, RESCAN, |woken| !*woken);
                    if let Ok((mut woken, _)) = waited {
                        *woken = false;
                    }
                }
            }
        }
    }

    fn index(&self) {
        let Some(nearest) = &self.nearest else { return };
        match nearest.index() {
            Ok((found, count)) if found < count => {
                log::warn!("{found} of {count} enrolled pictures are in the folder of good parts");
            }
            Ok(_) => {}
            Err(e) => {
                log::warn!("good parts cannot be shown: {}", e.chain());
                self.has_nearest.store(false, Relaxed);
            }
        }
    }

    /// What to compute next, and whether it will soon be asked for.
    fn next(&self) -> Option<(usize, bool)> {
        let current = self.current.load(Relaxed);
        let (order, unscored) = {
            let session = self.session();
            let order: Vec<usize> = session
                .order(self.threshold)
                .into_iter()
                .filter(|&id| session.picture(id).is_some_and(|p| !p.missing && p.error.is_none()))
                .collect();
            (order, session.unscored())
        };
        let after = order.iter().position(|&id| id == current).map_or(0, |at| at + 1);
        let following = order.iter().skip(after).take(1);
        let soon = following.chain(order.iter().filter(|&&id| id != current).take(AHEAD - 1));
        let cached: Vec<usize> = locked(&self.cache).iter().map(|(id, _)| *id).collect();
        let stale = |id: &usize| unscored.contains(id) || !cached.contains(id);
        let soon = soon.copied().find(stale).map(|id| (id, true));
        soon.or_else(|| unscored.first().map(|&id| (id, false)))
    }

    /// Looks at the folder again, unless that was done within `interval`.
    pub fn rescan(&self, interval: Duration) {
        {
            let mut scanned = locked(&self.scanned);
            if scanned.elapsed() < interval {
                return;
            }
            *scanned = Instant::now();
        }
        let result = {
            let mut session = self.session();
            let read = session.refresh();
            read.and_then(|()| session.rescan())
        };
        match result {
            Ok(true) => self.wake(),
            Ok(false) => {}
            Err(e) => {
                let text = e.chain();
                let mut told = locked(&self.told);
                if *told != text {
                    log::warn!("{text}");
                    *told = text;
                }
            }
        }
    }

    fn no_picture(id: usize) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, format!("there is no picture {id}"))
    }

    fn gone(&self, id: usize) -> Refusal {
        let mut session = self.session();
        let Some(picture) = session.picture_mut(id) else { return Self::no_picture(id) };
        picture.missing = true;
        let text = format!(
            "{} is not there any more: put it back to label it, or go on with the next",
            picture.found.name
        );
        Refusal::new(StatusCode::GONE, text)
    }

    fn changed(name: &str) -> Refusal {
        let text = format!("{name} was changed on disk since it was opened: look at it again");
        Refusal::new(StatusCode::CONFLICT, text)
    }

    /// The bytes of a picture's file, and what they say of whether it changed.
    fn read(&self, id: usize) -> Result<(Vec<u8>, Option<Stamp>, String), Refusal> {
        let path = match self.session().picture(id) {
            Some(picture) => picture.found.path.clone(),
            None => return Err(Self::no_picture(id)),
        };
        let stamp = Stamp::of(&path);
        let bytes = match Frame::read_file(&path) {
            Ok(bytes) => bytes,
            Err(_) if stamp.is_none() => return Err(self.gone(id)),
            Err(e) => {
                // Tried again when somebody asks for it, not all the time.
                if let Some(picture) = self.session().picture_mut(id) {
                    (picture.stamp, picture.scored) = (stamp, true);
                    picture.error = Some(e.reason());
                }
                return Err(e.within(path.display()).into());
            }
        };
        let hash = sha256(&bytes);
        if let Some(picture) = self.session().picture_mut(id) {
            let changed = picture.hash.as_ref().is_some_and(|old| *old != hash);
            if changed {
                (picture.size, picture.score, picture.error) = (None, None, None);
                (picture.scored, picture.stale) = (false, true);
            }
            (picture.stamp, picture.hash, picture.missing) = (stamp, Some(hash.clone()), false);
        }
        Ok((bytes, stamp, hash))
    }

    fn cached(&self, id: usize) -> Option<Arc<Ready>> {
        let mut cache = locked(&self.cache);
        let at = cache.iter().position(|(known, _)| *known == id)?;
        let hit = cache.remove(at)?;
        let ready = Arc::clone(&hit.1);
        cache.push_back(hit);
        Some(ready)
    }

    /// Everything about a picture, computed now unless it was before. It is kept for later if `keep`.
    fn ready(&self, id: usize, keep: bool) -> Result<Arc<Ready>, Refusal> {
        let path = match self.session().picture(id) {
            Some(picture) => picture.found.path.clone(),
            None => return Err(Self::no_picture(id)),
        };
        let fresh = |ready: &Arc<Ready>| ready.stamp.is_some() && ready.stamp == Stamp::of(&path);
        let known = || self.cached(id).filter(fresh);
        let mut found = known();
        let _turn = found.is_none().then(|| {
            let turn = locked(&self.turn);
            found = known();
            turn
        });
        if let Some(ready) = found {
            self.scored(id, &ready);
            return Ok(ready);
        }
        let (bytes, stamp, hash) = self.read(id)?;
        let ready = self.compute(&bytes, stamp, hash);
        let ready = match ready {
            Ok(ready) => Arc::new(ready),
            Err(e) => {
                let text = e.reason();
                let mut name = String::new();
                if let Some(picture) = self.session().picture_mut(id) {
                    picture.scored = true;
                    picture.error = Some(text.clone());
                    name.clone_from(&picture.found.name);
                }
                return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{name}: {text}")));
            }
        };
        self.scored(id, &ready);
        if keep {
            let mut cache = locked(&self.cache);
            cache.retain(|(known, _)| *known != id);
            cache.push_back((id, Arc::clone(&ready)));
            if cache.len() > KEPT {
                cache.pop_front();
            }
        }
        Ok(ready)
    }

    /// Tells the session what was found out.
    fn scored(&self, id: usize, ready: &Ready) {
        if let Some(picture) = self.session().picture_mut(id) {
            // What was computed of another content tells nothing.
            if picture.hash.as_ref().is_none_or(|hash| *hash == ready.hash) {
                picture.size = Some(ready.size);
                picture.score = ready.prepared.as_ref().ok().map(|p| p.inspection.score);
                picture.scored = true;
                (picture.stamp, picture.hash) = (ready.stamp, Some(ready.hash.clone()));
                picture.error = None;
            }
        }
    }

    fn compute(&self, bytes: &[u8], stamp: Option<Stamp>, hash: String) -> Result<Ready> {
        let frame = Frame::decode(bytes)?;
        let prepared = locked(&self.engine).inspector.prepare(&frame);
        let size = (frame.width(), frame.height());
        let suggestion = prepared.as_ref().ok().and_then(|prepared| suggestion_from_map(prepared, size));
        Ok(Ready {
            stamp,
            hash,
            size,
            prepared: prepared.map_err(|e| e.reason()),
            suggestion,
            map: OnceLock::new(),
            nearest: OnceLock::new(),
        })
    }

    /// As [`Work::ready`], before whoever works ahead.
    fn urgent(&self, id: usize) -> Result<Arc<Ready>, Refusal> {
        self.waiting.fetch_add(1, Relaxed);
        let ready = self.ready(id, true);
        self.waiting.fetch_sub(1, Relaxed);
        ready
    }

    /// A picture's label and suggestion.
    ///
    /// # Errors
    /// 404 for no picture, 410 for one that is gone, 422 for one that cannot be decoded.
    pub fn detail(&self, id: usize) -> Result<Detail, Refusal> {
        self.current.store(id, Relaxed);
        let ready = self.urgent(id)?;
        let mut session = self.session();
        session.refresh()?;
        let label = session.told(id)?;
        let Some(picture) = session.picture_mut(id) else { return Err(Self::no_picture(id)) };
        picture.stale = false;
        let name = picture.found.name.clone();
        drop(session);
        // The next one may be another now.
        self.wake();
        Ok(Detail {
            id,
            name,
            width: ready.size.0,
            height: ready.size.1,
            score: ready.prepared.as_ref().ok().map(|p| p.inspection.score),
            label,
            suggestion: ready.suggestion.clone(),
            problem: ready.prepared.as_ref().err().cloned(),
        })
    }

    /// A picture as a browser can show it: its media type, its bytes, and the SHA-256 of its file.
    ///
    /// # Errors
    /// As [`Work::detail`].
    pub fn image(&self, id: usize) -> Result<(&'static str, Vec<u8>, String), Refusal> {
        let (bytes, _, hash) = self.read(id)?;
        if Frame::is_shown_as_it_is(&bytes) {
            let kind = if bytes.starts_with(&[0xff, 0xd8]) { "image/jpeg" } else { "image/png" };
            return Ok((kind, bytes, hash));
        }
        let frame = Frame::decode(&bytes)?;
        let color = match frame.color() {
            Color::Gray => ExtendedColorType::L8,
            Color::Rgb => ExtendedColorType::Rgb8,
        };
        let png = png(frame.pixels(), frame.width(), frame.height(), color)
            .ok_or_else(|| Error::new(ErrorKind::Image, "the picture cannot be encoded for the browser"))?;
        Ok(("image/png", png, hash))
    }

    /// The anomaly map as PNG, transparent where nothing is strange.
    ///
    /// # Errors
    /// As [`Work::detail`]; 404 where there is no map.
    pub fn map(&self, id: usize) -> Result<Bytes, Refusal> {
        let ready = self.urgent(id)?;
        self.map_of(&ready).ok_or_else(|| {
            let why = ready.prepared.as_ref().err().map_or("it cannot be encoded", String::as_str);
            Refusal::new(StatusCode::NOT_FOUND, format!("there is no anomaly map: {why}"))
        })
    }

    fn map_of(&self, ready: &Ready) -> Option<Bytes> {
        let prepared = ready.prepared.as_ref().ok()?;
        ready.map.get_or_init(|| png_from_map(&prepared.inspection.map, self.threshold)).clone()
    }

    /// What the part should look like, as PNG.
    ///
    /// # Errors
    /// As [`Work::detail`]; 404 where that is not known.
    pub fn nearest(&self, id: usize) -> Result<Bytes, Refusal> {
        let none = |text: &str| Refusal::new(StatusCode::NOT_FOUND, text);
        if !self.has_nearest() {
            return Err(none(
                "the labeler was started without the folder of the enrolled pictures, so it has no good parts to show",
            ));
        }
        let ready = self.urgent(id)?;
        if let Err(why) = &ready.prepared {
            return Err(none(&format!("there is no good part to compare with: {why}")));
        }
        self.nearest_of(&ready, Duration::from_secs(10)).ok_or_else(|| {
            if self.nearest.as_ref().is_some_and(Nearest::is_indexed) {
                return none("what this part should look like cannot be shown; the terminal says why");
            }
            let text = "the enrolled pictures are still being looked through; try again in a moment";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
        })
    }

    /// Waits for so long for the enrolled pictures to be found.
    fn nearest_of(&self, ready: &Ready, patience: Duration) -> Option<Bytes> {
        let nearest = self.nearest.as_ref()?;
        let prepared = ready.prepared.as_ref().ok()?;
        let until = Instant::now() + patience;
        while !nearest.is_indexed() {
            if Instant::now() >= until || self.stopped.load(Relaxed) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let bank = Arc::clone(locked(&self.engine).inspector.bank());
        let compose = || {
            let picture = nearest.compose(prepared, &bank).map_err(|e| log::warn!("{}", e.chain())).ok()?;
            let (width, height) = picture.dimensions();
            png(picture.as_raw(), width, height, ExtendedColorType::Rgba8).map(Bytes::from)
        };
        ready.nearest.get_or_init(compose).clone()
    }

    /// A mask from clicks.
    ///
    /// # Errors
    /// As [`Work::detail`]; 422 for clicks or prompts that cannot be, 409 when the picture was changed since it was
    /// looked at, 501 without a network.
    pub fn click(&self, id: usize, body: Clicks) -> Result<MaskFromClicks, Refusal> {
        let start = Instant::now();
        let bad = |text: String| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, text);
        body.prompt.as_deref().map_or(Ok(()), check_text)?;
        body.r#type.as_deref().map_or(Ok(()), check_type)?;
        if body.clicks.is_empty() || body.clicks.len() > MOST_CLICKS {
            return Err(bad(format!("give 1 to {MOST_CLICKS} clicks, not {}", body.clicks.len())));
        }
        let ready = self.urgent(id)?;
        let (width, height) = ready.size;
        let inside = |v: f32, side: u32| (0.0..=side as f32).contains(&v);
        if let Some(c) = body.clicks.iter().find(|c| !inside(c.x, width) || !inside(c.y, height)) {
            let text = format!(
                "the click at {}, {} is outside of the picture, which is {width}×{height}: click into it",
                c.x, c.y
            );
            return Err(bad(text));
        }
        let previous = body.previous.as_ref().map(|rle| rle.mask(ready.size)).transpose()?;
        let (stale, name) = match self.session().picture(id) {
            Some(Picture { stale, found, .. }) => (*stale, found.name.clone()),
            None => return Err(Self::no_picture(id)),
        };
        if stale {
            return Err(Self::changed(&name));
        }
        let phrase = body.prompt.or_else(|| {
            let kind = body.r#type?;
            let phrase = self.prompts.get(&kind).and_then(|p| p.first().cloned()).unwrap_or(kind);
            // A type may be a mere number; nobody said that as a prompt.
            check_text(&phrase).is_ok().then_some(phrase)
        });
        self.waiting.fetch_add(1, Relaxed);
        let mut engine = locked(&self.engine);
        self.waiting.fetch_sub(1, Relaxed);
        let Some(network) = &mut engine.clicks else {
            let text =
                "this package has no network that makes masks from clicks: use boxes, tags or the brush";
            return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, text));
        };
        let prepared = ready.prepared.as_ref().map_err(|why| bad(format!("no mask can be made: {why}")))?;
        let clicks: Vec<Click> =
            body.clicks.iter().map(|c| Click { x: c.x, y: c.y, positive: c.positive }).collect();
        let previous = previous.and_then(|mask| {
            let values = mask.bits().iter().map(|&bit| if bit { 1.0 } else { 0.0 }).collect();
            Array2::from_shape_vec((height as usize, width as usize), values).ok()
        });
        let prompt = phrase.as_ref().map(|text| network.prompt(text)).transpose()?.flatten();
        let unknown_words = phrase.is_some() && prompt.is_none();
        let previous = previous.as_ref().map(|p| p.view());
        let probability = network.segment(prepared, &clicks, previous, prompt.as_deref())?;
        let mask = Rle { size: [height, width], counts: runs(probability.iter().map(|&p| p > 0.5)) };
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        Ok(MaskFromClicks { mask, milliseconds, unknown_words })
    }

    /// Saves a label; gives its revision once it is on disk.
    ///
    /// # Errors
    /// As [`Work::detail`]; 409 with what is there when somebody else saved in between, and without when the picture was
    /// changed; 422 for a label that cannot be; 507 when the disk is full. Nothing is changed then.
    pub fn save(&self, id: usize, change: Change) -> Result<String, Refusal> {
        let known = match self.session().picture(id) {
            Some(p) => p.size.is_some() && p.stamp.is_some() && p.stamp == Stamp::of(&p.found.path),
            None => return Err(Self::no_picture(id)),
        };
        if !known {
            self.urgent(id)?;
        }
        let mut session = self.session();
        let Some(picture) = session.picture(id) else { return Err(Self::no_picture(id)) };
        let hash = picture.hash.as_ref().and_then(|hash| hash.get(..16));
        let based_on = change.revision.get(..16);
        if based_on.is_some_and(|based_on| hash != Some(based_on)) {
            return Err(Self::changed(&picture.found.name));
        }
        let saved = session.save(id, change)?;
        drop(session);
        match saved {
            Saved::Done(revision) => {
                self.wake();
                Ok(revision)
            }
            Saved::Conflict(label) => Err(Refusal {
                code: StatusCode::CONFLICT,
                text: "this picture was labeled in another tab meanwhile: nothing was overwritten".into(),
                label: Some(Box::new(label)),
            }),
        }
    }

    /// Folder and label file, as people write them.
    pub fn places(&self) -> (String, String) {
        let session = self.session();
        let text = |path: &Path| path.display().to_string();
        (text(session.root()), text(session.file().path()))
    }
}

/// Where the map is above the threshold, and above half of its area's peak: a strong defect shines beyond its edge. Nothing for
/// a part that passes.
fn suggestion_from_map(prepared: &Prepared, (width, height): (u32, u32)) -> Option<Suggestion> {
    let inspection = &prepared.inspection;
    if inspection.verdict != Verdict::Reject {
        return None;
    }
    let map = inspection.map.resized(width as usize, height as usize).values;
    let mut areas = Components::default();
    areas.label(width as usize, height as usize, |i| map[i] > inspection.threshold);
    let mut peaks = vec![0.0f32; areas.list().len() + 1];
    for (&area, &value) in areas.labels().iter().zip(&map) {
        peaks[area as usize] = peaks[area as usize].max(value);
    }
    let marked = |(&area, &value): (&u32, &f32)| area > 0 && value > 0.5 * peaks[area as usize];
    let bits = areas.labels().iter().zip(&map).map(marked).collect();
    let mask = Mask::new(width, height, bits).ok().filter(|mask| mask.defective_pixels() > 0)?;
    let sure = inspection.score >= SURE * inspection.threshold;
    Some(Suggestion { mask: Rle::from(&mask), sure })
}

fn png_from_map(map: &AnomalyMap, threshold: f32) -> Option<Bytes> {
    let pixels: Vec<u8> = map
        .values
        .iter()
        .flat_map(|&value| {
            let (color, alpha) = heat(ratio(value, threshold));
            [color[0], color[1], color[2], (alpha * 255.0).round() as u8]
        })
        .collect();
    png(&pixels, map.width as u32, map.height as u32, ExtendedColorType::Rgba8).map(Bytes::from)
}

fn png(pixels: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(pixels, width, height, color)
        .map_err(|e| log::warn!("cannot encode a picture: {e}"))
        .ok()?;
    Some(bytes)
}
