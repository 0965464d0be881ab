//! The service's web page: the latest part, counters, states, metrics, and buttons to halt and resume the
//! line.
//!
//! Everything is served from memory over plain HTTP. Anyone who reaches the address may look. Changes need
//! access: see [`Settings::token_file`].
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /api/status` | state, problems, counters, times |
//! | `GET /api/parts?after=N` | the latest parts; `after` is `next` of the previous answer |
//! | `GET /api/rejects` | the rejected parts with a picture |
//! | `GET /api/rejects/{part}.jpg` | one of these pictures, at most 640 pixels long |
//! | `GET /api/live.jpg`, `?plain=1` | the latest picture, with or without anomaly map; `X-Part` is its part |
//! | `GET /metrics` | for Prometheus |
//! | `GET /healthz` | 200 while parts are inspected, otherwise 503 with the problems |
//! | `POST /api/rejects/{part}/label` | copies the part's original to the label folder; needs the header below |
//! | `POST /api/trigger`, `halt`, `resume`, `reload` | control the line; need the header `X-Weakrest: 1` |
//!
//! Every failed request is answered with `{"error": "…"}`.

mod metrics;
pub(crate) mod picture;
mod server;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::body::Bytes;
use serde::{Deserialize, Serialize};

use super::{Control, Labeling, Output};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{self, Access, Gate, Server};
use crate::inspector::{Region, Verdict};
use crate::record::part::unix_ms;
use crate::record::{FaultKind, Record, Status};
use crate::settings::range;
use picture::Shot;

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
    /// characters. Without a token, changes are possible only from this machine, with a loopback `listen`
    /// address.
    pub token_file: Option<PathBuf>,
    /// Number of latest rejects kept with their picture: 12 by default, at most 200.
    pub rejects: usize,
    /// Number of latest parts kept with their score: 500 by default, 10 to 10 000.
    pub history: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { listen: "127.0.0.1:8080".into(), token_file: None, rejects: 12, history: 500 }
    }
}

impl Settings {
    /// Checks the settings without opening anything.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        self.listen_address()?;
        range("web.rejects", self.rejects, 0..=200)?;
        range("web.history", self.history, 10..=10_000)
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
    /// [`ErrorKind::Usage`] for a setting out of range, or if the token file holds no token; [`ErrorKind::Io`]
    /// if that file cannot be read or the server cannot listen on the address.
    pub fn start(settings: &Settings, control: Arc<dyn Control>) -> Result<WebPage> {
        Self::with_more(settings, control, None, None)
    }

    /// As [`WebPage::start`], with a button at each reject that copies it to the label folder, and with more routes.
    ///
    /// # Errors
    /// As [`WebPage::start`].
    pub(crate) fn with_more(
        settings: &Settings,
        control: Arc<dyn Control>,
        labeling: Option<Arc<dyn Labeling>>,
        more: Option<Extension>,
    ) -> Result<WebPage> {
        settings.validate()?;
        let token = settings.token()?;
        let wanted = settings.listen_address()?;
        let gate = Arc::new(Gate {
            access: Access::new(token, wanted),
            is_local: http::is_local(wanted),
            // Ignored areas have the most.
            most_body: 256 << 10,
            too_large: "request body too large: at most 256 KiB",
            token_file: "web.token_file",
            listen: "web.listen",
        });
        let shared = Arc::new(Shared {
            control,
            labeling,
            gate: Arc::clone(&gate),
            started: Instant::now(),
            started_at: SystemTime::now(),
            settings: settings.clone(),
            teaches: more.is_some(),
            memory: Mutex::default(),
        });
        let router = server::router(gate, Arc::clone(&shared), more.unwrap_or_default());
        let server = Server::start("web", wanted, router).map_err(|e| e.with_key("web.listen"))?;
        log::info!("web page on http://{}/", server.address());
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
        memory.parts.push_back(Arc::clone(&part));
        if memory.parts.len() > self.shared.settings.history {
            memory.parts.pop_front();
        }
        if let Ok(Some(picture)) = &reject {
            memory.rejects.push_back((part, picture.clone()));
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

    fn tick(&mut self, _: SystemTime, _: &Status) -> Result<()> {
        self.alive()
    }

    fn finish(&mut self) -> Result<()> {
        self.server.halt();
        Ok(())
    }
}

impl WebPage {
    fn alive(&self) -> Result<()> {
        match self.server.is_alive() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Runtime, "the web server has stopped")),
        }
    }
}

/// Routes of another room, with their state.
#[derive(Default)]
pub(crate) struct Extension {
    /// Open to all who may look.
    pub looks: Router<Arc<Shared>>,
    /// Changes by those who operate the line.
    pub operate: Router<Arc<Shared>>,
    /// Changes by those who set it up.
    pub engineer: Router<Arc<Shared>>,
}

/// What the server's thread and the publishing thread share.
pub(crate) struct Shared {
    control: Arc<dyn Control>,
    labeling: Option<Arc<dyn Labeling>>,
    gate: Arc<Gate>,
    started: Instant,
    started_at: SystemTime,
    settings: Settings,
    /// Whether there is a page for teaching.
    teaches: bool,
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
    /// Parts published so far.
    sequence: u64,
    parts: VecDeque<Arc<Part>>,
    rejects: VecDeque<(Arc<Part>, Bytes)>,
    latest: Option<Arc<Shot>>,
}

/// A part, as sent to the page.
#[derive(Debug, Serialize)]
struct Part {
    part: u64,
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
}
