//! A Modbus TCP server, which a PLC polls for verdicts. Its registers are those of `docs/modbus.md`.
//!
//! Everything is answered from memory, on a thread of its own. Each request sees one moment: its registers
//! belong together. Nothing that a client does or omits delays the line.
//!
//! A client follows the verdicts without losing one or taking one twice: each has a sequence number, and the
//! oldest that is not acknowledged stays where it is until its number is acknowledged. The numbers begin at 1
//! in each run, and an acknowledgment names the run, so one that is left over from an earlier run is refused.

mod frame;
mod map;
mod server;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;
use serde_json::json;

use super::{Control, Output, choose_recipe};
use crate::access::{Audit, Person, Who};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{self, Server};
use crate::record::{OutputCounts, Record, Status};
use crate::settings::range;
use frame::{Answer, Exception, Request};
use map::{Command, Memory, Moment, Outcome};

const NAME: &str = "modbus";
/// The least time between two messages about refused commands.
const QUIET: Duration = Duration::from_secs(1);

/// The Modbus server's settings: the table `[modbus]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address and port, by default `127.0.0.1:1502`: this machine only. The standard's port is 502. Port 0
    /// takes a free port.
    pub listen: String,
    /// IP addresses that may read. Default all that reach the address.
    pub read_from: Vec<String>,
    /// Whether clients may trigger, halt, resume and acknowledge. Default `false`.
    pub allow_write: bool,
    /// IP addresses that may do so. They may also read. Required unless `listen` is a loopback address.
    pub write_from: Vec<String>,
    /// Connections at once, 1 to 64. Default 8. A further one replaces the one that is silent for longest, if
    /// it is for a second or more. An address that is named above replaces any that is not, and keeps its
    /// place.
    pub connections: usize,
    /// Seconds without a request after which a connection is closed, 1 to 3600. Default 60.
    pub idle_seconds: u64,
    /// Seconds without a poll, 1 to 3600, after which there is a warning. Default never.
    pub require_poll_seconds: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: "127.0.0.1:1502".into(),
            read_from: Vec::new(),
            allow_write: false,
            write_from: Vec::new(),
            connections: 8,
            idle_seconds: 60,
            require_poll_seconds: None,
        }
    }
}

impl Settings {
    /// Checks the values.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        let address = self.listen_address()?;
        for (key, addresses) in
            [("modbus.read_from", &self.read_from), ("modbus.write_from", &self.write_from)]
        {
            if !addresses.iter().all(|text| text.parse::<IpAddr>().is_ok()) {
                let text = "must list IP addresses; set those of the PLCs, such as [\"192.168.0.10\"]";
                return Err(Error::setting(key, text));
            }
        }
        if self.allow_write && self.write_from.is_empty() && !http::is_local(address) {
            let text =
                "is missing, so that everybody in the network could halt the line; list the PLC's address";
            return Err(Error::setting("modbus.write_from", text));
        }
        range("modbus.connections", self.connections, 1..=64)?;
        range("modbus.idle_seconds", self.idle_seconds, 1..=3600)?;
        self.require_poll_seconds.map_or(Ok(()), |s| range("modbus.require_poll_seconds", s, 1..=3600))
    }

    fn listen_address(&self) -> Result<SocketAddr> {
        http::address_from_text(&self.listen).map_err(|e| e.with_key("modbus.listen"))
    }

    fn names(&self, from: IpAddr) -> bool {
        lists(&self.read_from, from) || lists(&self.write_from, from)
    }

    fn may_read(&self, from: IpAddr) -> bool {
        self.read_from.is_empty() || self.names(from)
    }

    fn may_write(&self, from: IpAddr) -> bool {
        self.allow_write && (self.write_from.is_empty() || lists(&self.write_from, from))
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = |from: &[String]| match from.is_empty() {
            true => "everybody who reaches it".to_owned(),
            false => from.join(", "),
        };
        write!(f, "on {}; ", self.listen)?;
        match self.read_from.is_empty() {
            true => write!(f, "read by {}", who(&[]))?,
            false => write!(f, "read by {}", who(&[&self.read_from[..], &self.write_from[..]].concat()))?,
        }
        match self.allow_write {
            true => write!(f, "; written by {}", who(&self.write_from)),
            false => f.write_str("; nobody may write"),
        }
    }
}

fn lists(addresses: &[String], from: IpAddr) -> bool {
    addresses.iter().any(|text| text.parse::<IpAddr>().is_ok_and(|listed| listed.to_canonical() == from))
}

/// The running Modbus server. Dropping it stops the server.
pub struct Modbus {
    shared: Arc<Shared>,
    server: Server,
    counts: Arc<OutputCounts>,
    /// Verdicts that did not reach this output, as far as clients know of them.
    lost: u64,
}

struct Shared {
    settings: Settings,
    control: Arc<dyn Control>,
    audit: Option<Arc<Audit>>,
    memory: Mutex<Memory>,
    /// When a client read last.
    polled: Mutex<Instant>,
    /// When a refused command was told of.
    told: Mutex<Option<Instant>>,
}

impl Modbus {
    /// Starts serving on a thread of its own, verdicts of the run `run`, see [`super::run_id`].
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a setting out of range; [`ErrorKind::Io`] if the server cannot listen on the
    /// address.
    pub fn start(settings: &Settings, run: &str, control: Arc<dyn Control>) -> Result<Modbus> {
        Self::with_audit(settings, run, control, None)
    }

    /// As [`Modbus::start`], with a log of what clients change.
    ///
    /// # Errors
    /// As [`Modbus::start`].
    pub(crate) fn with_audit(
        settings: &Settings,
        run: &str,
        control: Arc<dyn Control>,
        audit: Option<Arc<Audit>>,
    ) -> Result<Modbus> {
        settings.validate()?;
        let wanted = settings.listen_address()?;
        let counts = control.status().output(NAME);
        let lost = counts.dropped.load(Relaxed);
        let shared = Arc::new(Shared {
            settings: settings.clone(),
            control,
            audit,
            memory: Mutex::new(Memory::new(run)),
            polled: Mutex::new(Instant::now()),
            told: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let server = Server::run(NAME, wanted, |listener| server::serve(listener, theirs))
            .map_err(|e| e.with_key("modbus.listen"))?;
        log::info!("modbus on {}", server.address());
        Ok(Modbus { shared, server, counts, lost })
    }

    /// The address the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    fn alive(&self) -> Result<()> {
        match self.server.is_alive() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Runtime, "the server has stopped; restart the service")),
        }
    }

    /// Verdicts that the queue of this output dropped.
    fn newly_lost(&mut self) -> u64 {
        let lost = self.counts.dropped.load(Relaxed);
        lost.saturating_sub(std::mem::replace(&mut self.lost, lost))
    }
}

impl Output for Modbus {
    fn name(&self) -> &'static str {
        NAME
    }

    fn publish(&mut self, record: &Record) -> Result<()> {
        let lost = self.newly_lost();
        let mut memory = self.shared.memory();
        memory.add_lost(lost);
        memory.add(record);
        drop(memory);
        self.alive()
    }

    fn tick(&mut self, _: SystemTime, status: &Status) -> Result<()> {
        let lost = self.newly_lost();
        let has_problem = !status.problems().is_empty();
        let mut memory = self.shared.memory();
        memory.add_lost(lost);
        memory.beat();
        memory.has_problem = has_problem;
        let overruns = memory.is_overrun().then(|| memory.overruns());
        drop(memory);
        self.alive()?;
        let silent = locked(&self.shared.polled).elapsed();
        if let Some(most) = self.shared.settings.require_poll_seconds.filter(|s| silent.as_secs() >= *s) {
            let text = format!("no PLC has polled for {most} s; check the network and the PLC");
            return Err(Error::new(ErrorKind::Io, text));
        }
        if let Some(overruns) = overruns {
            let text = format!(
                "the PLC acknowledges too slowly or not at all: {overruns} verdicts of this run were dropped"
            );
            return Err(Error::new(ErrorKind::Io, text));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.server.halt();
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Shared {
    /// Never held while anything is waited for.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        locked(&self.memory)
    }

    /// The memory, and what the line is like at this moment.
    fn look(&self) -> MutexGuard<'_, Memory> {
        let status = self.control.status();
        let is_latched = Status::LATCHED.iter().any(|component| status.latched(component).is_some());
        let mut memory = self.memory();
        memory.moment =
            Moment { state: status.state(), is_latched, recipe: status.engine().recipe, now: Instant::now() };
        memory
    }

    /// Answers a request from an address.
    async fn answer(self: &Arc<Self>, request: &[u8], from: IpAddr) -> Result<Answer, Exception> {
        match frame::request(request)? {
            Request::ReadBits(range) => {
                let memory = self.look();
                let bits = range.addresses()?.map(|address| memory.bit(address)).collect::<Result<_, _>>()?;
                self.is_polled();
                Ok(Answer::Bits(bits))
            }
            Request::Read(range) => self.read(range),
            Request::Write { from: first, values } => {
                self.write(first, &values, from).await?;
                // The request's first four bytes after the function.
                let told = request.get(1..5).and_then(|told| told.try_into().ok());
                told.map(Answer::Written).ok_or(Exception::IllegalValue)
            }
            Request::Exchange { from: first, values, read } => {
                // What cannot be answered is not carried out.
                self.registers(read)?;
                self.write(first, &values, from).await?;
                self.read(read)
            }
        }
    }

    fn registers(&self, range: frame::Range) -> Result<Vec<u16>, Exception> {
        let memory = self.look();
        range.addresses()?.map(|address| memory.register(address)).collect()
    }

    fn read(&self, range: frame::Range) -> Result<Answer, Exception> {
        let registers = self.registers(range)?;
        self.is_polled();
        Ok(Answer::Registers(registers))
    }

    fn is_polled(&self) {
        *locked(&self.polled) = Instant::now();
    }

    async fn write(self: &Arc<Self>, first: u16, values: &[u16], from: IpAddr) -> Result<(), Exception> {
        if !self.settings.may_write(from) {
            self.tell(|| format!("{from} may not write: see modbus.allow_write and modbus.write_from"));
            return Err(Exception::IllegalFunction);
        }
        let Some(command) = self.memory().write(first, values)? else { return Ok(()) };
        let ours = Arc::clone(self);
        // A crash of it is a failure, too.
        let carried_out = tokio::task::spawn_blocking(move || ours.carry_out(command, from)).await;
        let mut memory = self.memory();
        match carried_out {
            Ok(Ok(part)) => {
                memory.result = Outcome::Done;
                memory.triggered = part.unwrap_or(memory.triggered);
                Ok(())
            }
            failed => {
                memory.result = Outcome::Failed;
                memory.failed(command);
                drop(memory);
                self.tell(|| match failed {
                    Ok(Err(e)) => format!("a command from {from} failed: {}", e.chain()),
                    _ => format!("a command from {from} crashed; this is a bug"),
                });
                Err(Exception::DeviceFailure)
            }
        }
    }

    /// Carries out a command, and records it. Gives the part that was triggered.
    fn carry_out(&self, command: Command, from: IpAddr) -> Result<Option<u64>> {
        let who = Who { person: Person::Plc, from: Some(from) };
        let before = json!({"state": self.control.status().state()});
        match command {
            // The part is in the journal.
            Command::Trigger => self.control.trigger().map(Some),
            // Nothing that happens to the record may keep the line running.
            Command::Halt => {
                let done = self.control.set_halted(true);
                let after = json!({"state": self.control.status().state()});
                // A failure is told by the log's own problem.
                let _ = self.audit.as_ref().map(|audit| audit.note(&who, "halt", before, after));
                done.map(|()| None)
            }
            Command::Recipe(number) => {
                choose_recipe(&*self.control, self.audit.as_deref(), &who, number)?;
                Ok(None)
            }
            Command::Resume => {
                if let Some(audit) = &self.audit {
                    audit.record(&who, "resume", before.clone(), json!({"halted": false}))?;
                }
                let done = self.control.set_halted(false);
                if let (Err(e), Some(audit)) = (&done, &self.audit) {
                    let _ = audit.note(&who, "resume failed", before, json!(e.chain()));
                }
                done.map(|()| None)
            }
        }
    }

    /// Tells of a refusal, not more often than a person can read.
    fn tell(&self, text: impl FnOnce() -> String) {
        let mut told = locked(&self.told);
        if told.is_none_or(|told| told.elapsed() >= QUIET) {
            *told = Some(Instant::now());
            log::warn!("{NAME}: {}", text());
        }
    }
}
