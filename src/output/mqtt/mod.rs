//! Results for an MQTT broker.
//!
//! - `PREFIX/verdict`: one JSON object per part, in the words of the journal's columns, with `historical`.
//! - `PREFIX/state`, retained: state, problems, and what is inspected with; `{"state":"offline"}` once the
//!   service ended or its connection broke.
//! - `PREFIX/counters`, retained: all counters, every few seconds.
//! - `PREFIX/recipe/set`, only with `select_recipe`: the number of a recipe, from others. A retained one does not
//!   count: the broker repeats it with each connection.
//!
//! Verdicts are sent with quality of service 1, and kept until the broker has acknowledged them. A broker
//! that acknowledges nothing for a while is left, and connected to again. Those that could not be sent when
//! they came, or were not acknowledged, are sent later, in their order, with `"historical": true`. A verdict
//! whose acknowledgment was lost with the connection comes twice; `run` and `part` together are the same
//! then, and name a part for good.

mod tls;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, MqttOptions, MqttState, Outgoing, Packet, QoS,
    SubscribeReasonCode, Transport,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::sleep;
use words::words;

use super::{Control, Output, choose_recipe};
use crate::access::{Audit, Person, Who};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::record::part::Part;
use crate::record::{Problem, Record, Snapshot, State, Status};
use crate::settings::range;

const NAME: &str = "mqtt";
/// Verdicts on their way at once: enough for a slow network, few enough to be doubled when it breaks.
const WINDOW: u16 = 32;
/// Above what any part or counters take; the library's own limit of 10 KiB would refuse many regions.
const LARGEST_MESSAGE: usize = 1 << 20;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const CONNECT_SECONDS: u64 = 5;
/// How often is looked whether an acknowledgment is overdue.
const LOOK: Duration = Duration::from_millis(100);
/// So many connections that broke early are no accident any more.
const TOO_MANY: u32 = 2;
/// How long the end of the service waits for the broker.
const LAST_WAIT: Duration = Duration::from_secs(2);
const OFFLINE: &str = r#"{"state":"offline"}"#;

/// Which broker, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The broker's name or address. Default `localhost`.
    pub host: String,
    /// The broker's port. Default 1883, with `tls` 8883.
    pub port: Option<u16>,
    /// Whether the connection is encrypted, and the broker must prove to be `host`. Default `false`.
    pub tls: bool,
    /// PEM file of the authorities of which one must have signed the broker's certificate. Default those that
    /// the system trusts.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the certificate that this inspector shows to a broker that wants one, with those between
    /// it and its authority.
    pub certificate_file: Option<PathBuf>,
    /// PEM file of its private key.
    pub key_file: Option<PathBuf>,
    /// What the topics begin with, by convention `PLANT/LINE/DEVICE`, such as `plant/line-4/inspector`: then
    /// one subscription to `plant/#` sees the whole plant. Required; of each inspector its own.
    pub prefix: String,
    /// The name for the broker, of which each client needs its own. Default the prefix.
    pub client_id: Option<String>,
    /// The user's name, if the broker wants one.
    pub username: Option<String>,
    /// The file with the user's password; a new line at its end is not part of it.
    pub password_file: Option<PathBuf>,
    /// Verdicts kept while the broker is away, at least 1; then the oldest are dropped. Default 10000, which
    /// take some ten megabytes of memory.
    pub backlog: usize,
    /// Seconds between two `counters`, at least 1. Default 5.
    pub counters_seconds: u64,
    /// Seconds of silence after which the connection is tested, 1 to 3600. Default 10. A dead one is noticed
    /// after twice that time.
    pub keep_alive_seconds: u64,
    /// Seconds without an acknowledgment of any verdict on its way, 1 to 3600, after which the broker is
    /// connected to again and gets them once more. Default 10.
    pub acknowledge_seconds: u64,
    /// The longest pause between two attempts to connect, in milliseconds, at least 1; the first are shorter.
    /// A connection that lives as long as this makes them short again. Default 30000.
    pub reconnect_ms: u64,
    /// Whether messages to `PREFIX/recipe/set` choose the recipe. The broker decides who may send them. Default
    /// `false`.
    pub select_recipe: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            host: "localhost".into(),
            port: None,
            tls: false,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            prefix: String::new(),
            client_id: None,
            username: None,
            password_file: None,
            backlog: 10_000,
            counters_seconds: 5,
            keep_alive_seconds: 10,
            acknowledge_seconds: 10,
            reconnect_ms: 30_000,
            select_recipe: false,
        }
    }
}

impl Settings {
    /// Checks the values.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        let wrong = |key: &str, what: &str| Err(Error::setting(key, what));
        let levels_are_empty = self.prefix.split('/').any(str::is_empty);
        if levels_are_empty || self.prefix.starts_with('$') || self.prefix.contains(['+', '#', '\0']) {
            return wrong(
                "mqtt.prefix",
                "is no topic; set words joined by /, without + and #, such as plant/line-4/inspector",
            );
        }
        if self.prefix.len() > 1000 {
            return wrong("mqtt.prefix", "is too long; set at most 1000 bytes");
        }
        if self.host.is_empty() {
            return wrong("mqtt.host", "is empty; name the broker");
        }
        if let Some(port) = self.port {
            range("mqtt.port", port, 1..=u16::MAX)?;
        }
        for (key, file) in [
            ("mqtt.ca_file", &self.ca_file),
            ("mqtt.certificate_file", &self.certificate_file),
            ("mqtt.key_file", &self.key_file),
        ] {
            if file.is_some() && !self.tls {
                return wrong(key, "is for encrypted connections; set mqtt.tls to true");
            }
        }
        match (&self.certificate_file, &self.key_file) {
            (Some(_), None) => {
                return wrong("mqtt.key_file", "is missing; name the key of mqtt.certificate_file");
            }
            (None, Some(_)) => {
                return wrong("mqtt.certificate_file", "is missing; name the certificate of mqtt.key_file");
            }
            _ => {}
        }
        if let Some(id) = &self.client_id
            && !(1..=1000).contains(&id.len())
        {
            let what = "is empty or too long; set 1 to 1000 bytes, or remove the key to use mqtt.prefix";
            return wrong("mqtt.client_id", what);
        }
        if self.password_file.is_some() && self.username.is_none() {
            return wrong("mqtt.username", "is missing; set the user of mqtt.password_file");
        }
        range("mqtt.backlog", self.backlog, 1..)?;
        range("mqtt.counters_seconds", self.counters_seconds, 1..)?;
        range("mqtt.keep_alive_seconds", self.keep_alive_seconds, 1..=3600)?;
        range("mqtt.acknowledge_seconds", self.acknowledge_seconds, 1..=3600)?;
        range("mqtt.reconnect_ms", self.reconnect_ms, 1..=86_400_000)
    }

    /// The broker's port.
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls { 8883 } else { 1883 })
    }

    /// The name for the broker.
    fn id(&self) -> &str {
        self.client_id.as_ref().unwrap_or(&self.prefix)
    }

    fn options(&self) -> Result<MqttOptions> {
        let mut options = MqttOptions::new(self.id(), &self.host, self.port());
        options.set_keep_alive(Duration::from_secs(self.keep_alive_seconds));
        options.set_inflight(WINDOW);
        options.set_max_packet_size(LARGEST_MESSAGE, LARGEST_MESSAGE);
        let state = format!("{}/state", self.prefix);
        options.set_last_will(LastWill::new(state, OFFLINE, QoS::AtLeastOnce, true));
        if let Some(username) = &self.username {
            let password = match &self.password_file {
                Some(file) => files::read_secret(file).map_err(|e| e.with_key("mqtt.password_file"))?,
                None => String::new(),
            };
            options.set_credentials(username, password.trim_end_matches(['\r', '\n']));
        }
        if self.tls {
            options.set_transport(Transport::tls_with_config(tls::configuration(self)?));
        }
        Ok(options)
    }
}

/// Tells a broker. See the [module](self).
///
/// While the broker is away publishing fails, but the verdicts are kept up to the backlog; those that are
/// lost for good count as dropped. Dropping the output without [`Output::finish`] breaks the connection, as a
/// crash would.
pub struct Mqtt {
    settings: Settings,
    run: String,
    /// Carries out what messages ask for.
    control: Option<Commands>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    told: Option<Instant>,
}

struct Shared {
    queue: Mutex<Queue>,
    stop: Notify,
}

/// Controls of the line, and the record of who used them.
type Commands = (Arc<dyn Control>, Arc<Audit>);

/// What keeps the connection from being trusted.
#[derive(Default)]
struct Distrust {
    /// Connections in a row that broke early, and what the last said.
    broken: u32,
    why: String,
    /// Whether verdicts were not acknowledged in time, and none was since.
    unacknowledged: bool,
}

/// Verdicts that the broker has not acknowledged. The library's own lists of them do not survive a broker
/// that has forgotten the session.
struct Queue {
    client: AsyncClient,
    prefix: String,
    /// Whether messages choose recipes.
    listens: bool,
    /// The latest such message that was not heard yet.
    wanted: Option<Vec<u8>>,
    /// Since when.
    connected: Option<Instant>,
    /// Why it is not connected.
    error: String,
    distrust: Distrust,
    /// How long a connection must live to be trusted again.
    probation: Duration,
    /// Within what time one of those sent must be acknowledged.
    patience: Duration,
    /// The time from which on that is awaited.
    awaited: Instant,
    backlog: usize,
    waiting: VecDeque<Message>,
    /// On their way, with their packet number once it is known, in the order in which they were handed over.
    sent: VecDeque<(Option<u16>, Message)>,
    /// The latest of each retained topic.
    retained: BTreeMap<&'static str, String>,
    /// Not counted yet.
    dropped: u64,
    /// All of them.
    lost: u64,
}

#[derive(Serialize)]
struct Message {
    #[serde(flatten)]
    part: Part,
    historical: bool,
}

impl Mqtt {
    /// Connects in the background, for ever, to tell of parts of the run `run`, see [`super::run_id`].
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a setting out of range, or a file with other content than it must have;
    /// [`ErrorKind::Io`] if a file cannot be read or the thread cannot be started.
    pub fn new(settings: Settings, run: &str) -> Result<Self> {
        Self::with_control(settings, run, None)
    }

    /// The same. Messages choose recipes by the control, if the settings let them.
    pub(crate) fn with_control(settings: Settings, run: &str, control: Option<Commands>) -> Result<Self> {
        settings.validate()?;
        // Room for everything on its way, and for retained messages between them.
        let (client, mut events) = AsyncClient::new(settings.options()?, usize::from(WINDOW) + 16);
        let mut network = events.network_options();
        network.set_connection_timeout(CONNECT_SECONDS);
        // Else a verdict would wait for the acknowledgment of the one before it.
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        let queue = Queue {
            client,
            prefix: settings.prefix.clone(),
            listens: control.is_some() && settings.select_recipe,
            wanted: None,
            connected: None,
            error: "not connected yet".into(),
            distrust: Distrust::default(),
            probation: Duration::from_millis(settings.reconnect_ms),
            patience: Duration::from_secs(settings.acknowledge_seconds),
            awaited: Instant::now(),
            backlog: settings.backlog,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            retained: BTreeMap::new(),
            dropped: 0,
            lost: 0,
        };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), stop: Notify::new() });
        let failed =
            |e: std::io::Error| Error::new(ErrorKind::Io, "cannot start the MQTT thread").with_source(e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (theirs, ours) = (Arc::clone(&shared), settings.clone());
        let thread = thread::Builder::new()
            .name(NAME.into())
            .spawn(move || runtime.block_on(serve(events, &theirs, &ours)))
            .map_err(failed)?;
        Ok(Mqtt { settings, run: run.to_string(), control, shared, thread, told: None })
    }

    /// Asks for the recipe that a message named. Once a tick, so that a flood of messages fills no record.
    fn listen(&self) {
        let (message, topic) = {
            let mut queue = self.shared.lock();
            (queue.wanted.take(), queue.recipe_topic())
        };
        let (Some(message), Some((control, audit))) = (message, &self.control) else { return };
        let number = std::str::from_utf8(&message).ok().and_then(|text| text.trim().parse::<u16>().ok());
        let who = Who { person: Person::Broker, from: None };
        let done = match number {
            Some(number) => choose_recipe(&**control, Some(audit), &who, number),
            None => Err(Error::new(ErrorKind::Usage, "no number of a recipe; send 0 to 65534 as text")),
        };
        if let Err(e) = done {
            log::warn!("{NAME}: {topic}: {}", e.chain());
        }
    }

    fn problem(&self, queue: &Queue) -> Result<()> {
        let why = match queue.trouble() {
            _ if self.thread.is_finished() => "its thread ended; restart the service".into(),
            None => return Ok(()),
            Some(why) if queue.lost > 0 => format!("{why}; verdicts are dropped, as the backlog is full"),
            Some(why) => why.to_owned(),
        };
        let broker = format!("broker {}:{}", self.settings.host, self.settings.port());
        Err(Error::new(ErrorKind::Io, why).within(broker))
    }
}

impl Output for Mqtt {
    fn name(&self) -> &'static str {
        NAME
    }

    fn publish(&mut self, record: &Record) -> Result<()> {
        let part = Part::new(&self.run, record);
        let mut queue = self.shared.lock();
        let historical = queue.connected.is_none();
        queue.waiting.push_back(Message { part, historical });
        queue.pump();
        queue.bound();
        self.problem(&queue)
    }

    fn tick(&mut self, _: SystemTime, status: &Status) -> Result<()> {
        #[derive(Serialize)]
        struct StateMessage<'a> {
            state: State,
            run: &'a str,
            product: &'a str,
            package: &'a str,
            provider: &'a str,
            recipe: u16,
            problems: &'a BTreeMap<&'static str, Problem>,
        }
        #[derive(Serialize)]
        struct Counters<'a> {
            run: &'a str,
            #[serde(flatten)]
            snapshot: &'a Snapshot,
        }
        self.listen();
        let failed = |e| Error::new(ErrorKind::Io, "cannot write the state as JSON").with_source(e);
        let snapshot = status.snapshot();
        let state = serde_json::to_string(&StateMessage {
            state: snapshot.state,
            run: &self.run,
            product: &snapshot.engine.product,
            package: &snapshot.engine.package,
            provider: &snapshot.engine.provider,
            recipe: snapshot.engine.recipe,
            problems: &snapshot.problems,
        })
        .map_err(failed)?;
        let counters =
            serde_json::to_string(&Counters { run: &self.run, snapshot: &snapshot }).map_err(failed)?;

        // A state that did not change is repeated as well: the broker may notice only now that an earlier
        // connection broke, and say "offline" of it.
        let again =
            self.told.is_none_or(|t| t.elapsed() >= Duration::from_secs(self.settings.counters_seconds));
        let mut queue = self.shared.lock();
        let is_new = queue.retained.get("state") != Some(&state);
        queue.retained.insert("state", state);
        queue.retained.insert("counters", counters);
        if is_new || again {
            queue.send_retained("state");
        }
        if again {
            queue.send_retained("counters");
            self.told = Some(Instant::now());
        }
        queue.pump();
        status.output(NAME).dropped.fetch_add(std::mem::take(&mut queue.dropped), Relaxed);
        self.problem(&queue)?;
        // For good, so it is told for as long as the run lasts.
        match queue.lost {
            0 => Ok(()),
            lost => {
                let text =
                    format!("{lost} verdicts of this run were dropped, as the broker took none for too long");
                Err(Error::new(ErrorKind::Io, text))
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        let end = Instant::now() + LAST_WAIT;
        let wait_until = |done: &dyn Fn() -> bool| {
            while !done() && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            }
        };
        wait_until(&|| {
            let queue = self.shared.lock();
            queue.connected.is_none() || (queue.waiting.is_empty() && queue.sent.is_empty())
        });
        let (says_goodbye, left) = {
            let mut queue = self.shared.lock();
            let left = queue.waiting.len() + queue.sent.len();
            queue.waiting.clear();
            queue.retained.insert("state", OFFLINE.into());
            queue.send_retained("state");
            (queue.connected.is_some() && queue.client.try_disconnect().is_ok(), left)
        };
        if says_goodbye {
            wait_until(&|| self.thread.is_finished());
        }
        self.shared.stop.notify_one();
        match left {
            0 => Ok(()),
            n => Err(Error::new(ErrorKind::Io, format!("the broker was not told of {n} parts"))),
        }
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Queue {
    /// Hands over what waits, as far as the window allows.
    fn pump(&mut self) {
        while self.connected.is_some() && self.sent.len() < usize::from(WINDOW) {
            let Some(message) = self.waiting.pop_front() else { return };
            let topic = format!("{}/verdict", self.prefix);
            let json = serde_json::to_string(&message).unwrap_or_default();
            if self.client.try_publish(topic, QoS::AtLeastOnce, false, json).is_err() {
                return self.waiting.push_front(message);
            }
            if self.sent.is_empty() {
                self.awaited = Instant::now();
            }
            self.sent.push_back((None, message));
        }
    }

    /// Why verdicts do not arrive, or soon will not.
    fn trouble(&self) -> Option<&str> {
        let Some(since) = self.connected else { return Some(&self.error) };
        let is_young = since.elapsed() < self.probation;
        let why = &self.distrust.why;
        (self.distrust.unacknowledged || (is_young && self.distrust.broken >= TOO_MANY)).then_some(why)
    }

    /// Whether the broker takes what is sent without a word.
    fn is_overdue(&self) -> bool {
        self.connected.is_some() && !self.sent.is_empty() && self.awaited.elapsed() >= self.patience
    }

    /// Drops the oldest of what waits beyond the backlog.
    fn bound(&mut self) {
        let surplus = self.waiting.len().saturating_sub(self.backlog);
        self.waiting.drain(..surplus);
        self.dropped += surplus as u64;
        self.lost += surplus as u64;
    }

    /// Without acknowledgment: what a breaking connection loses of it is sent again by the next.
    fn send_retained(&self, topic: &'static str) {
        if let Some(json) = self.retained.get(topic).filter(|_| self.connected.is_some()) {
            // Full only if the broker does not read; then the next one will do.
            let _ = self.client.try_publish(
                format!("{}/{topic}", self.prefix),
                QoS::AtMostOnce,
                true,
                json.as_str(),
            );
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                log::info!("{NAME}: connected; {} verdicts wait", self.waiting.len());
                self.connected = Some(Instant::now());
                if self.listens {
                    // The queue of requests is empty now. A broker that refuses is told of by its answer.
                    let _ = self.client.try_subscribe(self.recipe_topic(), QoS::AtLeastOnce);
                }
                self.send_retained("state");
                self.send_retained("counters");
            }
            // Retained messages have no number. The others are numbered in the order in which they were
            // handed over.
            Event::Outgoing(Outgoing::Publish(number @ 1..)) => {
                if let Some((unknown, _)) = self.sent.iter_mut().find(|(n, _)| n.is_none()) {
                    *unknown = Some(*number);
                }
            }
            Event::Incoming(Packet::SubAck(answer)) => {
                if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
                    let topic = self.recipe_topic();
                    log::warn!("{NAME}: the broker refuses a subscription to {topic}: check its rules");
                }
            }
            Event::Incoming(Packet::Publish(message)) => {
                if self.listens && !message.retain && message.topic == self.recipe_topic() {
                    self.wanted = Some(message.payload.to_vec());
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                if let Some(at) = self.sent.iter().position(|(n, _)| *n == Some(ack.pkid)) {
                    self.sent.remove(at);
                    self.awaited = Instant::now();
                    self.distrust.unacknowledged = false;
                }
            }
            _ => return,
        }
        self.pump();
    }

    fn recipe_topic(&self) -> String {
        format!("{}/recipe/set", self.prefix)
    }

    /// The connection broke, which had been accepted at `since` if it had been.
    fn disconnected(&mut self, why: String, since: Option<Instant>) {
        self.connected = None;
        self.error.clone_from(&why);
        if let Some(since) = since {
            let is_young = since.elapsed() < self.probation;
            self.distrust.broken = if is_young { self.distrust.broken.saturating_add(1) } else { 0 };
            self.distrust.why = why;
        }
        for (_, message) in self.sent.drain(..).rev() {
            self.waiting.push_front(message);
        }
        for message in &mut self.waiting {
            message.historical = true;
        }
        self.bound();
    }
}

/// Something to do, or why there is no connection any more.
enum News {
    Event(Event),
    Broken(ConnectionError),
    /// Nothing is acknowledged.
    Overdue,
    Stop,
}

async fn news(events: &mut EventLoop, shared: &Shared) -> News {
    let mut event = pin!(events.poll());
    loop {
        tokio::select! {
            event = &mut event => return event.map_or_else(News::Broken, News::Event),
            () = shared.stop.notified() => return News::Stop,
            () = sleep(LOOK) => if shared.lock().is_overdue() {
                return News::Overdue;
            },
        }
    }
}

async fn serve(mut events: EventLoop, shared: &Shared, settings: &Settings) {
    let longest = Duration::from_millis(settings.reconnect_ms);
    let mut pause = FIRST_PAUSE.min(longest);
    loop {
        let error = match news(&mut events, shared).await {
            News::Event(Event::Outgoing(Outgoing::Disconnect)) | News::Stop => return,
            News::Event(event) => {
                shared.lock().note(&event);
                continue;
            }
            News::Broken(error) => Some(error),
            News::Overdue => None,
        };
        {
            let mut queue = shared.lock();
            // From here on nothing is handed over, so that nothing is left behind in the library.
            let since = queue.connected.take();
            for event in std::mem::take(&mut events.state.events) {
                queue.note(&event);
            }
            events.clean();
            events.pending.clear();
            events.state = MqttState::new(WINDOW, false);
            let lived = since.map(|since| since.elapsed());
            let is_young = lived.is_some_and(|lived| lived < longest);
            let why = match &error {
                Some(error) => words(error, settings, lived, is_young),
                None => format!("acknowledges nothing within {} s", settings.acknowledge_seconds),
            };
            queue.disconnected(why, since);
            queue.distrust.unacknowledged |= error.is_none();
            // Only what lived makes the pauses short again: some brokers accept everybody, and close.
            if lived.is_some() && !is_young {
                pause = FIRST_PAUSE.min(longest);
            }
        }
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(longest),
            () = shared.stop.notified() => return,
        }
        // Passwords and certificates are renewed.
        match settings.options() {
            Ok(options) => events.mqtt_options = options,
            Err(e) => log::warn!("{NAME}: {}; the ones before are used", e.chain()),
        }
    }
}
