//! The thread that owns the session and the networks. It serves commands and works ahead between them.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, at, bounded, never, select_biased, tick};
use ndarray::Array2;

use super::Settings;
use super::nearest::{self, Nearest};
use super::prompts::{Prompts, check_type};
use super::ready::Ready;
use super::refusal::Refusal;
use super::session::{Change, Saved, Session};
use super::work::{
    Adclick, Clicks, Detail, Idle, Listed, MaskFromClicks, PictureFile, Png, Reply, State, Urgent,
};
use crate::error::{Error, ErrorKind, Result};
use crate::files::sha256;
use crate::imaging::Frame;
use crate::inspector::{Click, ClickSegmenter, Inspector, Options};
use crate::labels::{Rle, Stamp, runs};
use crate::onnx::{Runtime, TextEncoder, check_text};
use crate::package::Package;

/// Pictures with results in memory: the neighbors of the current picture, in a few tabs.
const KEPT: usize = 8;
/// How many of the next pictures are made ready.
const AHEAD: usize = 3;
/// How often the folder is read again.
const RESCAN: Duration = Duration::from_secs(2);
/// How often it is read again while pages ask for news.
const RESCAN_FOR_PAGES: Duration = Duration::from_secs(1);
/// How long a request for a good part waits until the enrolled pictures are read.
const PATIENCE: Duration = Duration::from_secs(10);
/// A person's next command often follows at once: work ahead begins after this pause.
const PAUSE: Duration = Duration::from_millis(250);
/// More clicks are a mistake.
const MOST_CLICKS: usize = 1000;

/// Why a command cannot be done, or its answer.
type Answer<T> = std::result::Result<T, Refusal>;

/// The enrolled pictures.
enum Good {
    /// Nobody named their folder, or they cannot be read.
    None,
    /// Another thread reads them.
    Reading(Nearest),
    /// They can be shown.
    Read(Nearest),
}

/// The session, the networks and their results.
pub struct Worker {
    session: Session,
    inspector: Inspector,
    clicks: Option<ClickSegmenter>,
    good: Good,
    /// Requests for a good part that wait until the enrolled pictures are read.
    waiting: Vec<(usize, Instant, Reply<Png>)>,
    /// The last used picture is at the end.
    cache: VecDeque<(usize, Ready)>,
    /// The last opened picture.
    current: Option<usize>,
    scanned: Instant,
    /// When work ahead may begin.
    paused_until: Instant,
    /// The last problem with the folder, to log it once.
    told: String,
    idle: (Sender<Idle>, Receiver<Idle>),
    id: String,
    /// Phrases by type: the person's own, and those that the network was trained with.
    prompts: Prompts,
}

impl Worker {
    /// Loads the networks.
    ///
    /// # Errors
    /// As [`Inspector::with_options`]; [`ErrorKind::Usage`] when there is no folder of enrolled pictures.
    pub fn new(session: Session, package: Package, settings: &Settings, options: &Options) -> Result<Worker> {
        let good = match &settings.good {
            Some(folder) if !folder.is_dir() => {
                let text = format!("there is no folder {}", folder.display());
                return Err(Error::new(ErrorKind::Usage, text).with_key("good"));
            }
            Some(folder) => {
                let folder = std::fs::canonicalize(folder).map_err(|e| Error::io("find", folder, e))?;
                let (geometry, digests) = (package.manifest.geometry(), package.pictures.digests().to_vec());
                Good::Reading(Nearest::new(&folder, geometry, digests))
            }
            None => Good::None,
        };
        let encoder = match &settings.text_encoder {
            Some(folder) => {
                let runtime = Runtime::load(options.onnxruntime.as_deref())?;
                Some(TextEncoder::open(runtime, folder, &options.execution)?)
            }
            None => None,
        };
        let clicks = ClickSegmenter::load(&package, options)?.map(|clicks| clicks.with_encoder(encoder));
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
        Ok(Worker {
            session,
            inspector,
            clicks,
            good,
            waiting: Vec::new(),
            cache: VecDeque::new(),
            current: None,
            scanned: Instant::now(),
            paused_until: Instant::now(),
            told: String::new(),
            // One piece of work ahead, and the enrolled pictures.
            idle: bounded(2),
            id: format!("{:x}-{:x}", std::process::id(), started.as_nanos()),
            prompts,
        })
    }

    /// Serves commands and works ahead until [`Urgent::Stop`].
    pub fn run(mut self, urgent: &Receiver<Urgent>) {
        self.read_good();
        self.plan();
        let (pieces, ticks) = (self.idle.1.clone(), tick(RESCAN));
        loop {
            let (idle, pause) = match Instant::now() < self.paused_until {
                true => (never(), at(self.paused_until)),
                false => (pieces.clone(), never()),
            };
            select_biased! {
                recv(urgent) -> command => match command {
                    Ok(Urgent::Stop) | Err(_) => return,
                    Ok(command) => self.serve(command),
                },
                recv(idle) -> piece => match piece {
                    Ok(Idle::Ahead) => self.work_ahead(urgent),
                    Ok(Idle::Good(read)) => self.good_is_read(read),
                    Err(_) => return,
                },
                recv(pause) -> _ => {}
                recv(ticks) -> _ => {
                    self.answer_waiting();
                    self.plan();
                }
            }
        }
    }

    /// Plans work ahead, unless it is planned already.
    fn plan(&self) {
        let _ = self.idle.0.try_send(Idle::Ahead);
    }

    fn serve(&mut self, command: Urgent) {
        // Pages poll the state.
        let is_person = !matches!(command, Urgent::State(_));
        // A send fails when the person has left.
        match command {
            Urgent::State(reply) => drop(reply.send(Ok(self.state()))),
            Urgent::Detail(id, reply) => drop(reply.send(self.detail(id))),
            Urgent::File(id, reply) => drop(reply.send(self.file(id))),
            Urgent::Map(id, reply) => drop(reply.send(self.map(id))),
            Urgent::Nearest(id, reply) => self.nearest(id, Instant::now() + PATIENCE, reply),
            Urgent::Click(id, clicks, asked, reply) => drop(reply.send(self.click(id, clicks, asked))),
            Urgent::Save(id, change, reply) => drop(reply.send(self.save(id, change))),
            Urgent::Export(format, reply) => {
                let exported = self.session.refresh().and_then(|()| self.session.export(format));
                drop(reply.send(exported.map_err(Refusal::from)));
            }
            Urgent::Import(bytes, how, reply) => {
                let imported = self.session.import(bytes, how).map_err(Refusal::from);
                self.plan();
                drop(reply.send(imported));
            }
            Urgent::Stop => {}
        }
        if is_person {
            self.paused_until = Instant::now() + PAUSE;
        }
    }

    /// Starts a thread that reads the enrolled pictures, which takes long.
    fn read_good(&mut self) {
        let Good::Reading(nearest) = &self.good else { return };
        let (search, found) = (nearest.search(), self.idle.0.clone());
        let started = std::thread::Builder::new()
            .name("label-good".into())
            .spawn(move || drop(found.send(Idle::Good(search()))));
        if let Err(e) = started {
            log::warn!("good parts cannot be shown: {e}");
            self.good = Good::None;
        }
    }

    fn good_is_read(&mut self, read: Result<nearest::Files>) {
        self.good = match (read, std::mem::replace(&mut self.good, Good::None)) {
            (Ok(files), Good::Reading(mut nearest)) => {
                let (found, count) = (files.iter().flatten().count(), files.len());
                if found < count {
                    log::warn!("the folder of good parts has {found} of the {count} enrolled pictures");
                }
                nearest.set(files);
                Good::Read(nearest)
            }
            (Err(e), _) => {
                log::warn!("good parts cannot be shown: {}", e.chain());
                Good::None
            }
            (Ok(_), good) => good,
        };
        self.answer_waiting();
        self.plan();
    }

    fn answer_waiting(&mut self) {
        for (id, until, reply) in std::mem::take(&mut self.waiting) {
            self.nearest(id, until, reply);
        }
    }

    /// Makes the next picture ready. Stops early when somebody waits.
    fn work_ahead(&mut self, urgent: &Receiver<Urgent>) {
        self.rescan(RESCAN);
        let Some((id, keep)) = self.next() else { return };
        self.plan();
        let keep = keep || self.cache.iter().any(|(known, _)| *known == id);
        let Ok(mut ready) = self.take(id) else { return };
        if !keep {
            return;
        }
        if urgent.is_empty() {
            ready.map(self.inspector.threshold());
        }
        if urgent.is_empty()
            && let Good::Read(nearest) = &mut self.good
        {
            ready.nearest(nearest, &self.inspector);
        }
        self.keep(id, ready);
    }

    /// The picture to make ready next, and whether somebody will soon ask for it.
    fn next(&self) -> Option<(usize, bool)> {
        let session = &self.session;
        let order: Vec<usize> = session
            .order(self.inspector.threshold())
            .into_iter()
            .filter(|&id| session.picture(id).is_some_and(|p| !p.missing && p.error.is_none()))
            .collect();
        let unscored = session.unscored();
        let after = order.iter().position(|&id| Some(id) == self.current).map_or(0, |at| at + 1);
        let following = order.iter().skip(after).take(1);
        let soon = following.chain(order.iter().filter(|&&id| Some(id) != self.current).take(AHEAD - 1));
        let stale = |id: &usize| unscored.contains(id) || !self.cache.iter().any(|(known, _)| known == id);
        let soon = soon.copied().find(stale).map(|id| (id, true));
        soon.or_else(|| unscored.first().map(|&id| (id, false)))
    }

    /// Reads the folder again, unless that was done within `interval`.
    fn rescan(&mut self, interval: Duration) {
        if self.scanned.elapsed() < interval {
            return;
        }
        self.scanned = Instant::now();
        match self.session.refresh().and_then(|()| self.session.rescan()) {
            Ok(true) => self.plan(),
            Ok(false) => {}
            Err(e) => {
                let text = e.chain();
                if self.told != text {
                    log::warn!("{text}");
                    self.told = text;
                }
            }
        }
    }

    fn gone(&mut self, id: usize) -> Refusal {
        let Some(picture) = self.session.picture_mut(id) else { return no_picture(id) };
        picture.missing = true;
        Refusal::Gone(picture.found.name.clone())
    }

    /// A picture's file. Notes in the session whether it changed.
    fn read(&mut self, id: usize) -> Answer<(PictureFile, Option<Stamp>)> {
        let Some(picture) = self.session.picture(id) else { return Err(no_picture(id)) };
        let path = picture.found.path.clone();
        let stamp = Stamp::of(&path);
        let bytes = match Frame::read_file(&path) {
            Ok(bytes) => bytes,
            Err(_) if stamp.is_none() => return Err(self.gone(id)),
            Err(e) => {
                // Tried again only when somebody asks for it.
                if let Some(picture) = self.session.picture_mut(id) {
                    (picture.stamp, picture.scored) = (stamp, true);
                    picture.error = Some(e.reason());
                }
                return Err(e.within(path.display()).into());
            }
        };
        let hash = sha256(&bytes);
        if let Some(picture) = self.session.picture_mut(id) {
            let changed = picture.hash.as_ref().is_some_and(|old| *old != hash);
            if changed {
                (picture.size, picture.score, picture.error) = (None, None, None);
                (picture.scored, picture.stale) = (false, true);
            }
            (picture.stamp, picture.hash, picture.missing) = (stamp, Some(hash.clone()), false);
        }
        Ok((PictureFile { bytes, hash }, stamp))
    }

    /// Takes the results for a picture out of the cache, or computes them.
    fn take(&mut self, id: usize) -> Answer<Ready> {
        let Some(picture) = self.session.picture(id) else { return Err(no_picture(id)) };
        let stamp = Stamp::of(&picture.found.path);
        let fresh = |ready: &Ready| {
            ready.stamp.is_some() && ready.stamp == stamp && picture.hash.as_ref() == Some(&ready.hash)
        };
        let at = self.cache.iter().position(|(known, _)| *known == id);
        let cached = at.and_then(|at| self.cache.remove(at)).map(|(_, ready)| ready);
        let ready = match cached.filter(fresh) {
            Some(ready) => ready,
            None => {
                let (PictureFile { bytes, hash }, stamp) = self.read(id)?;
                match Ready::new(&mut self.inspector, &bytes, stamp, hash) {
                    Ok(ready) => ready,
                    Err(e) => {
                        let text = e.reason();
                        let Some(picture) = self.session.picture_mut(id) else { return Err(no_picture(id)) };
                        (picture.scored, picture.error) = (true, Some(text.clone()));
                        return Err(Refusal::Wrong(format!("{}: {text}", picture.found.name)));
                    }
                }
            }
        };
        if let Some(picture) = self.session.picture_mut(id) {
            // Results of older content do not count.
            if picture.hash.as_ref().is_none_or(|hash| *hash == ready.hash) {
                (picture.size, picture.score) = (Some(ready.size), ready.score());
                (picture.stamp, picture.hash) = (ready.stamp, Some(ready.hash.clone()));
                (picture.scored, picture.error) = (true, None);
            }
        }
        Ok(ready)
    }

    fn keep(&mut self, id: usize, ready: Ready) {
        self.cache.push_back((id, ready));
        if self.cache.len() > KEPT {
            self.cache.pop_front();
        }
    }

    /// Calls `job` with the results for a picture, and keeps them.
    fn with<T>(&mut self, id: usize, job: impl FnOnce(&mut Self, &mut Ready) -> Answer<T>) -> Answer<T> {
        let mut ready = self.take(id)?;
        let answer = job(self, &mut ready);
        self.keep(id, ready);
        answer
    }

    fn state(&mut self) -> State {
        self.rescan(RESCAN_FOR_PAGES);
        let (session, threshold) = (&self.session, self.inspector.threshold());
        let listed = |id: usize| {
            let picture = session.picture(id)?;
            let label = session.label(picture);
            Some(Listed {
                id,
                name: picture.found.name.clone(),
                width: picture.size.map(|s| s.0),
                height: picture.size.map(|s| s.1),
                score: picture.score,
                done: label.is_some(),
                kind: label.map(|l| l.tag),
                r#type: label.and_then(|l| l.kind()),
                revision: picture.hash.is_some().then(|| session.revision(picture)),
                missing: picture.missing,
                error: picture.error.clone(),
            })
        };
        State {
            session: self.id.clone(),
            product: self.inspector.product().to_owned(),
            folder: session.root().display().to_string(),
            labels: session.file().path().display().to_string(),
            adclick: self.clicks.as_ref().map(|clicks| Adclick { name: clicks.name().to_owned() }),
            text: self.clicks.as_ref().is_some_and(ClickSegmenter::takes_any_words),
            nearest: !matches!(self.good, Good::None),
            types: session.types().into_iter().map(str::to_owned).collect(),
            prompts: self.prompts.clone(),
            threshold,
            preparing: session.unscored().len(),
            pictures: session.order(threshold).into_iter().filter_map(listed).collect(),
        }
    }

    fn detail(&mut self, id: usize) -> Answer<Detail> {
        self.current = Some(id);
        let detail = self.with(id, |worker, ready| {
            worker.session.refresh()?;
            let label = worker.session.told(id)?;
            let Some(picture) = worker.session.picture_mut(id) else { return Err(no_picture(id)) };
            picture.stale = false;
            Ok(Detail {
                id,
                name: picture.found.name.clone(),
                width: ready.size.0,
                height: ready.size.1,
                score: ready.score(),
                label,
                suggestion: ready.suggestion.clone(),
                problem: ready.prepared.as_ref().err().cloned(),
            })
        });
        // Another picture may be the next one now.
        self.plan();
        detail
    }

    fn file(&mut self, id: usize) -> Answer<PictureFile> {
        self.read(id).map(|(file, _)| file)
    }

    fn map(&mut self, id: usize) -> Answer<Png> {
        self.with(id, |worker, ready| {
            let map = ready.map(worker.inspector.threshold());
            map.ok_or_else(|| {
                let why = ready.prepared.as_ref().err().map_or("it cannot be encoded", String::as_str);
                Refusal::NoView(format!("there is no anomaly map: {why}"))
            })
        })
    }

    /// Answers with a good part, or later when the enrolled pictures are still being read.
    fn nearest(&mut self, id: usize, until: Instant, reply: Reply<Png>) {
        match self.good_part(id) {
            Err(Refusal::NotYet) if Instant::now() < until => self.waiting.push((id, until, reply)),
            answer => drop(reply.send(answer)),
        }
    }

    fn good_part(&mut self, id: usize) -> Answer<Png> {
        let none = |text: &str| Refusal::NoView(text.to_owned());
        if matches!(self.good, Good::None) {
            return Err(none(
                "there are no good parts to show: start the labeler with the folder of the enrolled pictures",
            ));
        }
        self.with(id, |worker, ready| {
            if let Err(why) = &ready.prepared {
                return Err(none(&format!("there is no good part to compare with: {why}")));
            }
            let Good::Read(nearest) = &mut worker.good else { return Err(Refusal::NotYet) };
            let picture = ready.nearest(nearest, &worker.inspector);
            picture.ok_or_else(|| none("the good part cannot be shown: see the terminal"))
        })
    }

    fn click(&mut self, id: usize, body: Clicks, asked: Instant) -> Answer<MaskFromClicks> {
        body.prompt.as_deref().map_or(Ok(()), check_text)?;
        body.r#type.as_deref().map_or(Ok(()), check_type)?;
        if body.clicks.is_empty() || body.clicks.len() > MOST_CLICKS {
            let text = format!("give 1 to {MOST_CLICKS} clicks, not {}", body.clicks.len());
            return Err(Refusal::Wrong(text));
        }
        self.with(id, |worker, ready| worker.mask_from_clicks(id, ready, body, asked))
    }

    fn mask_from_clicks(
        &mut self,
        id: usize,
        ready: &Ready,
        body: Clicks,
        asked: Instant,
    ) -> Answer<MaskFromClicks> {
        let (width, height) = ready.size;
        let inside = |v: f32, side: u32| (0.0..=side as f32).contains(&v);
        if let Some(c) = body.clicks.iter().find(|c| !inside(c.x, width) || !inside(c.y, height)) {
            let text = format!(
                "the click at {}, {} is outside of the picture, which is {width}×{height}: click inside it",
                c.x, c.y
            );
            return Err(Refusal::Wrong(text));
        }
        let previous = body.previous.as_ref().map(|rle| rle.mask(ready.size)).transpose()?;
        match self.session.picture(id) {
            Some(picture) if picture.stale => return Err(Refusal::Changed(picture.found.name.clone())),
            Some(_) => {}
            None => return Err(no_picture(id)),
        }
        let phrase = body.prompt.or_else(|| {
            let kind = body.r#type?;
            let phrase = self.prompts.get(&kind).and_then(|p| p.first().cloned()).unwrap_or(kind);
            // A type may be a mere number, which is no prompt.
            check_text(&phrase).is_ok().then_some(phrase)
        });
        let Some(network) = &mut self.clicks else { return Err(Refusal::NoClicks) };
        let prepared = ready.prepared.as_ref();
        let prepared = prepared.map_err(|why| Refusal::Wrong(format!("no mask can be made: {why}")))?;
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
        Ok(MaskFromClicks { mask, milliseconds: asked.elapsed().as_secs_f64() * 1e3, unknown_words })
    }

    /// Saves a label. Nothing changes when that is refused.
    fn save(&mut self, id: usize, change: Change) -> Answer<String> {
        let Some(picture) = self.session.picture(id) else { return Err(no_picture(id)) };
        let stamp = picture.stamp;
        let known = picture.size.is_some() && stamp.is_some() && stamp == Stamp::of(&picture.found.path);
        if !known {
            self.with(id, |_, _| Ok(()))?;
        }
        let Some(picture) = self.session.picture(id) else { return Err(no_picture(id)) };
        let hash = picture.hash.as_ref().and_then(|hash| hash.get(..16));
        let based_on = change.revision.get(..16);
        if based_on.is_some_and(|based_on| hash != Some(based_on)) {
            return Err(Refusal::Changed(picture.found.name.clone()));
        }
        match self.session.save(id, change)? {
            Saved::Done(revision) => {
                self.plan();
                Ok(revision)
            }
            Saved::Conflict(label) => Err(Refusal::Conflict(Box::new(label))),
        }
    }
}

fn no_picture(id: usize) -> Refusal {
    Refusal::NoPicture(id.to_string())
}
