//! The service's web page: the latest part, counters, states, metrics, and buttons to halt and resume the
//! line.
//!
//! Everything is served from memory, encrypted with [`Settings::certificate`] or [`Settings::tls`]. Anyone who reaches the address may look, unless
//! [`Settings::view`] says otherwise. Changes need an account with a role, or a token: see
//! [`Settings::accounts_file`] and [`Settings::token_file`].
//!
//! `server.rs`, `numbers.rs` and `audit.rs` list the requests with their descriptions.
//!
//! Every failed request is answered with `{"error": "…"}`.

mod audit;
mod metrics;
mod numbers;
pub(crate) mod picture;
mod server;
mod site;
#[cfg(test)]
pub(super) mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::journal::{PastPart, Tally};
use super::pictures::gallery;
use super::{Control, Output};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{self, Api, Gate, Server};
use crate::inspector::{Region, Verdict};
use crate::record::part::unix_ms;
use crate::record::{Engine, FaultKind, Record, Status};
use crate::settings::range;
use picture::Shot;
pub(crate) use site::Site;

/// The request that has a picture as its body, and the picture's most bytes.
pub(crate) const INSPECT: &str = "/api/inspect";
const MOST_PICTURE: u64 = 64 << 20;
/// The most regions reported for a part. A part with defects all over can have thousands; the picture shows
/// them.
const MAX_REGIONS: usize = 16;

/// The web page's settings: the table `[web]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address and port, by default `127.0.0.1:8080`: this machine only. `0.0.0.0:8080` listens on all
    /// networks. Port 0 takes a free port.
    pub listen: String,
    /// File with the token for changes: trigger, halt, resume, reload. It holds one line of at least 16
    /// characters. Whoever sends it is an engineer. Without token and accounts, changes are possible only from
    /// this machine, with a loopback `listen` address.
    pub token_file: Option<PathBuf>,
    /// File with accounts, made by `weakrest account add`. People sign in with them, and each has a role.
    pub accounts_file: Option<PathBuf>,
    /// File with the certificate and its chain (PEM), to encrypt the page. It needs `key`.
    pub certificate: Option<PathBuf>,
    /// File with the certificate's private key (PEM).
    pub key: Option<PathBuf>,
    /// Whether the service makes a certificate itself.
    pub tls: Tls,
    /// Who may look: everyone by default.
    pub view: View,
    /// Minutes after which a session ends in which nobody did anything: 30 by default, 1 to 1440. Sessions that
    /// may only look do not end by it.
    pub session_idle_minutes: u32,
    /// Hours after which any session ends: 12 by default, 1 to 8760.
    pub session_hours: u32,
    /// Number of latest rejects kept with their picture: 12 by default, at most 200.
    pub rejects: usize,
    /// Number of latest parts kept with their score: 500 by default, 10 to 10 000.
    pub history: usize,
    /// When shifts begin, in the device's time zone: `HH:MM`, at a quarter of an hour, 1 to 24 of them.
    pub shifts: Vec<String>,
}

/// Encryption without a certificate from elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// None; `certificate` and `key` still encrypt.
    #[default]
    Off,
    /// With a certificate that the service signs itself, once, in its state folder. Browsers warn of it.
    SelfSigned,
}

/// Who may look at the page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// Everyone who reaches the address.
    #[default]
    Everyone,
    /// Those who are signed in or send the token.
    SignedIn,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: "127.0.0.1:8080".into(),
            token_file: None,
            accounts_file: None,
            certificate: None,
            key: None,
            tls: Tls::Off,
            view: View::Everyone,
            session_idle_minutes: 30,
            session_hours: 12,
            rejects: 12,
            history: 500,
            shifts: ["06:00", "14:00", "22:00"].map(str::to_owned).into(),
        }
    }
}

impl Settings {
    /// Checks the settings without opening anything.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        self.listen_address()?;
        if self.view == View::SignedIn && self.accounts_file.is_none() && self.token_file.is_none() {
            let text = "nobody could sign in; set web.accounts_file too";
            return Err(Error::setting("web.view", text));
        }
        match (self.tls, &self.certificate, &self.key) {
            (Tls::Off, None, None) | (Tls::Off, Some(_), Some(_)) | (Tls::SelfSigned, None, None) => {}
            (Tls::Off, Some(_), None) => return Err(Error::setting("web.certificate", "needs web.key")),
            (Tls::Off, None, Some(_)) => return Err(Error::setting("web.key", "needs web.certificate")),
            (Tls::SelfSigned, _, _) => {
                let text = "makes a certificate; remove web.certificate and web.key, or set \"off\"";
                return Err(Error::setting("web.tls", text));
            }
        }
        range("web.session_idle_minutes", self.session_idle_minutes, 1..=1440)?;
        range("web.session_hours", self.session_hours, 1..=8760)?;
        range("web.rejects", self.rejects, 0..=200)?;
        range("web.history", self.history, 10..=10_000)?;
        numbers::Shifts::new(&self.shifts).map(drop)
    }

    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// What is wrong with one, naming the key.
    pub(crate) fn check(&self, state: &Path) -> Result<()> {
        let site = Site { state: Some(state.to_owned()), ..Site::default() };
        site.gate(self, self.listen_address()?).map(drop)
    }

    /// Whether there is a token.
    ///
    /// # Errors
    /// What is wrong with its file, naming the key.
    pub(crate) fn check_token(&self) -> Result<bool> {
        Ok(self.token()?.is_some())
    }

    /// Whether the page is for this machine only.
    pub(crate) fn is_local(&self) -> bool {
        self.listen_address().is_ok_and(http::is_local)
    }

    fn listen_address(&self) -> Result<SocketAddr> {
        http::address_from_text(&self.listen).map_err(|e| e.with_key("web.listen"))
    }

    fn token(&self) -> Result<Option<String>> {
        let read = |path: &PathBuf| http::token_from_file(path).map_err(|e| e.with_key("web.token_file"));
        self.token_file.as_ref().map(read).transpose()
    }
}

/// The running web page. Dropping it stops the server.
pub struct WebPage {
    shared: Arc<Shared>,
    server: Server,
    /// The shot before the latest. The next one reuses its buffers, unless a request still reads them.
    spare: Option<Arc<Shot>>,
}

impl WebPage {
    /// Starts serving on a thread of its own.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a setting out of range, or if the files of token or accounts are wrong;
    /// [`ErrorKind::Io`] if such a file cannot be read or the server cannot listen on the address.
    pub fn start(settings: &Settings, control: Arc<dyn Control>) -> Result<WebPage> {
        Self::within(settings, control, Site::default())
    }

    /// As [`WebPage::start`], with what else the page needs of the service.
    ///
    /// # Errors
    /// As [`WebPage::start`].
    pub(crate) fn within(settings: &Settings, control: Arc<dyn Control>, site: Site) -> Result<WebPage> {
        settings.validate()?;
        let wanted = settings.listen_address()?;
        let gate = Arc::new(site.gate(settings, wanted)?);
        let shared = Arc::new(Shared {
            control,
            site: site.clone(),
            gate: Arc::clone(&gate),
            started: Instant::now(),
            started_at: SystemTime::now(),
            settings: settings.clone(),
            numbers: numbers::Numbers::new(numbers::Shifts::new(&settings.shifts)?),
            memory: Mutex::default(),
        });
        let more = site.additions;
        let router = server::router(Arc::clone(&gate), Arc::clone(&shared), more);
        let certificates = gate.certificates.as_ref();
        let server =
            Server::start("web", wanted, router, certificates).map_err(|e| e.with_key("web.listen"))?;
        match certificates.map(|certificates| certificates.current()) {
            Some(own) => {
                let address = server.address();
                log::info!(
                    "web page on https://{address}/, certificate with SHA-256 fingerprint {}",
                    own.fingerprint
                );
            }
            None => log::info!("web page on http://{}/", server.address()),
        }
        Ok(WebPage { shared, server, spare: None })
    }

    /// The address the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

impl Output for WebPage {
    fn name(&self) -> &'static str {
        "web"
    }

    fn publish(&mut self, record: &Record) -> Result<()> {
        self.remember();
        let part = Arc::new(Part::new(record));
        let wanted = record.verdict == Verdict::Reject && self.shared.settings.rejects > 0;
        // A part is published even if its picture fails.
        let reject = record
            .frame()
            .filter(|_| wanted)
            .map(|frame| picture::encoded(frame, record.inspection(), picture::REJECT_SIDE))
            .transpose();
        let shot = record.frame().is_some().then(|| Shot::refilled(self.spare.take(), record));

        let mut memory = self.shared.memory();
        memory.sequence += 1;
        memory.count(&part, unix_ms(self.shared.started_at));
        memory.parts.push_back(Arc::clone(&part));
        if memory.parts.len() > self.shared.settings.history {
            memory.parts.pop_front();
        }
        if let Ok(Some(picture)) = &reject {
            memory.reject_changes += 1;
            memory.rejects.push_back((part, Picture::Encoded(picture.clone())));
            if memory.rejects.len() > self.shared.settings.rejects {
                memory.rejects.pop_front();
            }
        }
        if let Some(shot) = shot {
            self.spare = memory.latest.replace(shot);
        }
        drop(memory);
        reject?;
        self.alive()
    }

    fn tick(&mut self, _: SystemTime, status: &Status) -> Result<()> {
        site::look(&self.shared.gate, status);
        self.remember();
        self.alive()
    }

    fn finish(&mut self) -> Result<()> {
        self.server.halt();
        Ok(())
    }
}

impl WebPage {
    /// Takes over what the journal knows of earlier runs.
    fn remember(&self) {
        let Some(news) = self.shared.site.past.as_ref().and_then(|past| past.take()) else { return };
        let settings = &self.shared.settings;
        let folder = self.shared.site.kept.as_ref();
        let rejects: Vec<_> = news
            .rejects
            .into_iter()
            .filter_map(|part| {
                let triggered = std::time::UNIX_EPOCH + std::time::Duration::from_millis(part.triggered_ms);
                let file = gallery::overlay(folder?, &part.run, part.part, triggered)?;
                Some((Arc::new(Part::of_the_past(part)), Picture::Kept(file)))
            })
            .collect();
        let mut memory = self.shared.memory();
        for (engine, tally) in news.tallies {
            memory.tally(&engine.0, &engine.1, u64::MAX).merge(&tally);
        }
        memory.restored = true;
        for part in news.parts.into_iter().rev() {
            if memory.parts.len() >= settings.history {
                break;
            }
            memory.parts.push_front(Arc::new(Part::of_the_past(part)));
            // Whoever has asked before must ask for all of them again.
            memory.sequence += 1;
            memory.generation = 1;
        }
        for reject in rejects.into_iter().rev() {
            if memory.rejects.len() >= settings.rejects {
                break;
            }
            memory.rejects.push_front(reject);
            memory.reject_changes += 1;
        }
    }

    fn alive(&self) -> Result<()> {
        match self.server.is_alive() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Runtime, "the web server has stopped")),
        }
    }
}

/// Routes of another room, with their own state.
#[derive(Clone, Default)]
pub(crate) struct Additions {
    /// Pages and scripts, open to all.
    pub page: Router<Arc<Shared>>,
    /// For those who may look.
    pub looks: Api<Arc<Shared>>,
    /// Changes by those who operate the line.
    pub operate: Api<Arc<Shared>>,
    /// Changes by those who set it up.
    pub engineer: Api<Arc<Shared>>,
}

impl Additions {
    /// Those of both.
    pub fn and(self, other: Additions) -> Additions {
        Additions {
            page: self.page.merge(other.page),
            looks: self.looks.merge(other.looks),
            operate: self.operate.merge(other.operate),
            engineer: self.engineer.merge(other.engineer),
        }
    }
}

/// What the server's thread and the publishing thread share.
pub(crate) struct Shared {
    control: Arc<dyn Control>,
    site: Site,
    numbers: numbers::Numbers,
    gate: Arc<Gate>,
    started: Instant,
    started_at: SystemTime,
    settings: Settings,
    memory: Mutex<Memory>,
}

impl Shared {
    /// Never held while a picture is encoded or sent.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        // The memory is only displayed, so a panic does no harm.
        self.memory.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The latest parts.
#[derive(Default)]
struct Memory {
    /// Parts published so far, and parts of earlier runs.
    sequence: u64,
    /// 1 once there are parts of earlier runs.
    generation: u64,
    parts: VecDeque<Arc<Part>>,
    rejects: VecDeque<(Arc<Part>, Picture)>,
    /// Counts the changes of this list.
    reject_changes: u64,
    latest: Option<Arc<Shot>>,
    /// What was counted of each product with each package.
    tallies: Vec<((String, String), Tally)>,
    /// Whether the tallies go on from the journal's.
    restored: bool,
}

/// Products with packages that are counted; then the first one is forgotten.
const TALLIES: usize = 64;

impl Memory {
    /// The tally of a product with a package, a new one if there is none.
    fn tally(&mut self, product: &str, package: &str, since_ms: u64) -> &mut Tally {
        let known = self.tallies.iter().position(|((p, k), _)| p == product && k == package);
        let at = known.unwrap_or_else(|| {
            if self.tallies.len() >= TALLIES {
                self.tallies.remove(0);
            }
            self.tallies.push(((product.into(), package.into()), Tally { since_ms, ..Tally::default() }));
            self.tallies.len() - 1
        });
        &mut self.tallies[at].1
    }

    fn count(&mut self, part: &Part, since_ms: u64) {
        let tally = self.tally(&part.engine.product, &part.engine.package, since_ms);
        tally.parts += 1;
        match part.verdict {
            "pass" => tally.passes += 1,
            "reject" => tally.rejects += 1,
            _ => tally.faults += 1,
        }
    }
}

/// The picture of a reject.
#[derive(Clone)]
enum Picture {
    Encoded(Bytes),
    /// Of an earlier run: its file.
    Kept(PathBuf),
}

/// A part, as sent to the page.
#[derive(Debug, Serialize, ToSchema)]
struct Part {
    /// The earlier run that it belongs to. `None`: the present one.
    run: Option<String>,
    part: u64,
    #[serde(flatten, serialize_with = "names")]
    #[schema(value_type = Names)]
    engine: Arc<Engine>,
    /// Time of the trigger, in milliseconds since 1970.
    time_ms: u64,
    verdict: &'static str,
    fault: Option<FaultKind>,
    reason: Option<String>,
    score: Option<f32>,
    threshold: Option<f32>,
    latency_ms: f64,
    /// The regions with the highest peaks.
    regions: Vec<Region>,
}

impl Part {
    fn new(record: &Record) -> Part {
        let (verdict, reason) = match &record.verdict {
            Verdict::Pass => ("pass", None),
            Verdict::Reject => ("reject", None),
            Verdict::Fault(reason) => ("fault", Some(reason.clone())),
        };
        let inspection = record.inspection();
        Part {
            run: None,
            engine: Arc::clone(&record.engine),
            part: record.part,
            time_ms: unix_ms(record.triggered),
            verdict,
            fault: record.fault,
            reason,
            score: inspection.map(|i| i.score).filter(|s| s.is_finite()),
            threshold: inspection.map(|i| i.threshold).filter(|t| t.is_finite()),
            latency_ms: record.latency.as_secs_f64() * 1e3,
            regions: inspection
                .map_or_else(Vec::new, |i| i.regions.iter().take(MAX_REGIONS).copied().collect()),
        }
    }

    fn of_the_past(part: PastPart) -> Part {
        Part {
            run: Some(part.run),
            part: part.part,
            time_ms: part.triggered_ms,
            verdict: part.verdict,
            fault: part.fault,
            reason: part.reason,
            score: part.score,
            threshold: Some(part.engine.threshold).filter(|t| t.is_finite()),
            latency_ms: part.latency_ms,
            regions: part.regions.into_iter().take(MAX_REGIONS).collect(),
            engine: part.engine,
        }
    }
}

/// What inspected a part.
#[derive(Serialize, ToSchema)]
struct Names<'a> {
    product: &'a str,
    package: &'a str,
}

fn names<S: serde::Serializer>(engine: &Arc<Engine>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    Names { product: &engine.product, package: &engine.package }.serialize(serializer)
}
