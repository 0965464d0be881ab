//! Bad parts under attack: `make wrong-pass MINUTES=3`
//!
//! Three lines run side by side in real time. Two have a hostile camera and a bouncing trigger; one is energized to
//! reject, one to pass. The third is the service, on a folder of made-up parts. Other programs use the processor in turns,
//! and each line is stopped and killed again and again. Every edge of each gate is recorded with the kernel's clock and
//! compared with the parts. Ends with an error if a bad part got the verdict *pass*, or if the gate missed a bad part
//! without an alarm.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weakrest::camera::{Camera, Captured, Framing, HealthSettings, OpenCamera, Timing};
use weakrest::clock::Clock;
use weakrest::output::line::{Energize, Settings as LineSettings};
use weakrest::pipeline::{Pipeline, Settings, Setup, Stages, Trigger};
use weakrest::record::Engine;
use weakrest::{Color, Frame, Verdict};

#[allow(dead_code, unused_macros, reason = "only its parts and its package are of interest")]
#[path = "../tests/cli/common.rs"]
mod common;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TRAVEL_MS: u64 = 300;
const PULSE_MS: u64 = 40;
const PERIOD: Duration = Duration::from_millis(10);
/// The wall clock and the kernel's clock are compared in milliseconds.
const SLACK_MS: u64 = 2;
/// The environment variable with a hostile line's folder and kind.
const LINE: &str = "WEAKREST_HOSTILE_LINE";

fn main() -> Result<()> {
    if let Some(folder) = std::env::var_os(LINE) {
        return hostile_line(Path::new(&folder), std::env::var("ENERGIZE")? == "to-pass");
    }
    let minutes: f64 = std::env::var("MINUTES").map_or(Ok(3.0), |m| m.parse())?;
    let folder = tempfile::tempdir()?;
    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let kinds = [Kind::Hostile { to_pass: false }, Kind::Hostile { to_pass: true }, Kind::Service];
    let tallies = std::thread::scope(|scope| -> Result<Vec<Tally>> {
        let lines: Vec<_> = kinds
            .into_iter()
            .enumerate()
            .map(|(i, kind)| {
                let folder = folder.path().join(i.to_string());
                scope.spawn(move || attack(kind, &folder, until, i as u64 + 1).map_err(|e| e.to_string()))
            })
            .collect();
        scope.spawn(move || busy_in_turns(until));
        lines.into_iter().map(|line| Ok(line.join().map_err(|_| "a thread ended by a bug")??)).collect()
    })?;
    let mut all = Tally::default();
    for (kind, tally) in kinds.iter().zip(&tallies) {
        println!("{kind:?}: {tally}");
        all.add(tally);
    }
    println!("all: {all}");
    println!(
        "{} bad parts passed, {} undetected missed pulses of {}",
        all.wrong_passes, all.undetected, all.to_be_rejected
    );
    if all.wrong_passes > 0 || all.undetected > 0 {
        return Err("a bad part may have passed, and nobody was told".into());
    }
    if all.rejected_in_time < all.to_be_rejected / 2 || all.passes == 0 {
        return Err("the lines did not do their work, so this says nothing".into());
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The library's pipeline with a hostile camera and a bouncing trigger.
    Hostile { to_pass: bool },
    /// `weakrest run`.
    Service,
}

#[derive(Debug, Default)]
struct Tally {
    parts: u64,
    bad: u64,
    passes: u64,
    wrong_passes: u64,
    /// Bad parts, and parts without a verdict, at the gate.
    to_be_rejected: u64,
    rejected_in_time: u64,
    missed: u64,
    told: u64,
    undetected: u64,
    stops: u64,
    kills: u64,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.parts += other.parts;
        self.bad += other.bad;
        self.passes += other.passes;
        self.wrong_passes += other.wrong_passes;
        self.to_be_rejected += other.to_be_rejected;
        self.rejected_in_time += other.rejected_in_time;
        self.missed += other.missed;
        self.told += other.told;
        self.undetected += other.undetected;
        self.stops += other.stops;
        self.kills += other.kills;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} parts, {} of them bad; {} passed, {} bad ones among them; {} of {} rejected in time, {} not, {} told; \
             {} stops, {} kills",
            self.parts,
            self.bad,
            self.passes,
            self.wrong_passes,
            self.rejected_in_time,
            self.to_be_rejected,
            self.missed,
            self.told,
            self.stops,
            self.kills
        )
    }
}

/// The kernel's monotonic clock, in nanoseconds.
fn monotonic() -> u64 {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    clock.tv_sec as u64 * 1_000_000_000 + clock.tv_nsec as u64
}

/// A moment of the wall clock on the monotonic one.
fn monotonic_at(wall: SystemTime) -> u64 {
    let (mono, now) = (monotonic(), SystemTime::now());
    let age = now.duration_since(wall).map_or(0, |age| age.as_nanos() as u64);
    mono.saturating_sub(age)
}

/// SplitMix64.
struct Random(common::Random);

impl Random {
    fn new(seed: u64) -> Self {
        Random(common::Random(seed))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0.next() % limit.max(1)
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least))
    }

    fn happens(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// Other programs that use the processor now and then.
fn busy_in_turns(until: Instant) {
    while Instant::now() < until {
        let mut busy: Vec<Child> = (0..4)
            .filter_map(|_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().ok())
            .collect();
        std::thread::sleep(Duration::from_secs(5).min(until.saturating_duration_since(Instant::now())));
        for child in &mut busy {
            let _ = child.kill();
            let _ = child.wait();
        }
        std::thread::sleep(Duration::from_secs(5).min(until.saturating_duration_since(Instant::now())));
    }
}

/// A part in the end.
#[derive(Debug, Clone, Copy, Default)]
struct PartLog {
    bad: Option<bool>,
    /// When it was triggered, and whether it passes.
    verdict: Option<(u64, bool)>,
}

/// One life of a line: from its start to its end.
struct Life {
    child: Child,
    parts: Arc<Mutex<BTreeMap<u64, PartLog>>>,
    /// The last number of missed pulses that the line reported.
    told: Arc<Mutex<u64>>,
    folder: PathBuf,
}

fn attack(kind: Kind, folder: &Path, until: Instant, seed: u64) -> Result<Tally> {
    let mut random = Random::new(seed);
    let mut tally = Tally::default();
    for life in 0.. {
        if Instant::now() + Duration::from_secs(5) > until && life > 0 {
            break;
        }
        let folder = folder.join(life.to_string());
        std::fs::create_dir_all(&folder)?;
        let mut life = match kind {
            Kind::Hostile { to_pass } => start_hostile(&folder, to_pass, seed * 1000 + life)?,
            Kind::Service => start_service(&folder, 8600 + (life % 300) as u16)?,
        };
        let end = until.min(Instant::now() + random.millis(20_000, 60_000));
        while Instant::now() + Duration::from_secs(1) < end {
            std::thread::sleep(random.millis(500, 4_000));
            signal(&life.child, "STOP");
            std::thread::sleep(random.millis(20, 400));
            signal(&life.child, "CONT");
            tally.stops += 1;
        }
        let last = monotonic();
        life.child.kill()?;
        life.child.wait()?;
        tally.kills += 1;
        std::thread::sleep(Duration::from_millis(100));
        let to_pass = matches!(kind, Kind::Hostile { to_pass: true });
        judge(&life, to_pass, last, &mut tally)?;
    }
    Ok(tally)
}

fn signal(child: &Child, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
}

/// Compares one life's edges with its parts. `last` is its end.
fn judge(life: &Life, to_pass: bool, last: u64, tally: &mut Tally) -> Result<()> {
    /// So shortly before the end, an alarm is not possible any more: the line is dead, and its healthy line with it.
    const UNTOLD_MS: u64 = 700;
    let text = std::fs::read_to_string(life.folder.join("edges"))?;
    let mut edges: Vec<(u64, bool)> = Vec::new();
    for line in text.lines() {
        if let [at, "reject", level] = line.split(' ').collect::<Vec<_>>()[..] {
            edges.push((at.parse()?, level == "1"));
        }
    }
    let tolerance = LineSettings { pulse_ms: PULSE_MS as f64, ..LineSettings::default() }.tolerance();
    let level_throughout = |active: bool, from: u64, to: u64| {
        let next = edges.partition_point(|(at, _)| *at <= from);
        let level = next.checked_sub(1).is_some_and(|i| edges[i].1);
        level == active && edges.get(next).is_none_or(|(at, _)| *at >= to)
    };
    let parts = life.parts.lock().map_err(|_| "a thread ended by a bug")?;
    let mut missed = 0;
    for part in parts.values() {
        let (Some(bad), Some((triggered, passes))) = (part.bad, part.verdict) else { continue };
        tally.parts += 1;
        tally.bad += u64::from(bad);
        tally.passes += u64::from(passes);
        tally.wrong_passes += u64::from(bad && passes);
        let slack = Duration::from_millis(SLACK_MS).as_nanos() as u64;
        let arrives = triggered + TRAVEL_MS * 1_000_000;
        let gone = arrives + PULSE_MS * 1_000_000;
        if passes || gone + UNTOLD_MS * 1_000_000 > last {
            continue;
        }
        tally.to_be_rejected += 1;
        if level_throughout(!to_pass, arrives + tolerance.as_nanos() as u64 + slack, gone - slack) {
            tally.rejected_in_time += 1;
        } else {
            missed += 1;
        }
    }
    let told = *life.told.lock().map_err(|_| "a thread ended by a bug")?;
    tally.missed += missed;
    tally.told += told;
    tally.undetected += missed.saturating_sub(told);
    Ok(())
}

// A hostile line: this program again, in its own process.

fn start_hostile(folder: &Path, to_pass: bool, seed: u64) -> Result<Life> {
    let mut child = Command::new(std::env::current_exe()?)
        .env(LINE, folder)
        .env("ENERGIZE", if to_pass { "to-pass" } else { "to-reject" })
        .env("SEED", seed.to_string())
        .env("RUST_LOG", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let (parts, told) = (Arc::<Mutex<BTreeMap<u64, PartLog>>>::default(), Arc::<Mutex<u64>>::default());
    let out = BufReader::new(child.stdout.take().ok_or("no output")?);
    let (to_parts, to_told) = (Arc::clone(&parts), Arc::clone(&told));
    std::thread::spawn(move || {
        for line in out.lines().map_while(std::io::Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |i: usize| words.get(i).and_then(|w| w.parse::<u64>().ok()).unwrap_or_default();
            let Ok(mut parts) = to_parts.lock() else { return };
            match words.first() {
                Some(&"truth") => parts.entry(number(1)).or_default().bad = Some(number(2) == 1),
                Some(&"verdict") => {
                    parts.entry(number(1)).or_default().verdict = Some((number(3), number(2) == 1));
                }
                Some(&"missed") => {
                    if let Ok(mut told) = to_told.lock() {
                        *told = number(1);
                    }
                }
                _ => {}
            }
        }
    });
    Ok(Life { child, parts, told, folder: folder.to_owned() })
}

/// The times of the parts in front of the camera.
type Parts = Arc<Mutex<VecDeque<(Instant, bool)>>>;

fn hostile_line(folder: &Path, to_pass: bool) -> Result<()> {
    let seed: u64 = std::env::var("SEED")?.parse()?;
    let mut random = Random::new(seed);
    let parts = Parts::default();
    let line = LineSettings {
        record: Some(folder.join("edges")),
        energize: if to_pass { Energize::ToPass } else { Energize::ToReject },
        travel_ms: TRAVEL_MS as f64,
        pulse_ms: PULSE_MS as f64,
        ..LineSettings::default()
    };
    let camera = Hostile {
        parts: Arc::clone(&parts),
        random: Random::new(!seed),
        due: Instant::now(),
        shown: Instant::now(),
        taken: 0,
    };
    let setup = Setup {
        clock: Clock::system(),
        stages: stages(),
        camera: Box::new(OpenHostile(Some(camera))),
        framing: Framing::default(),
        health: HealthSettings::default(),
        trigger: Trigger::software(),
        halts: Default::default(),
        lines: line.open()?,
        line,
        settings: Settings { queue: 16, camera_timeout_ms: 3_600_000, ..Settings::default() },
    };
    let pipeline = Pipeline::start(setup, |_| {})?;
    let records = pipeline.subscribe(10_000);
    std::thread::spawn(move || {
        while let Ok(record) = records.recv() {
            let passes = u8::from(record.verdict == Verdict::Pass);
            println!("verdict {} {passes} {}", record.part, monotonic_at(record.triggered));
        }
    });
    let status = Arc::clone(pipeline.status());
    std::thread::spawn(move || {
        loop {
            println!("missed {}", status.snapshot().missed_pulses);
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    loop {
        std::thread::sleep(random.millis(45, 155));
        let bad = random.happens(350);
        parts.lock().map_err(|_| "a thread ended by a bug")?.push_back((Instant::now(), bad));
        println!("truth {} {}", pipeline.trigger()?, u8::from(bad));
        if random.happens(30) {
            std::thread::sleep(random.millis(1, 6));
            println!("truth {} {}", pipeline.trigger()?, u8::from(bad));
        }
    }
}

/// Stages that reject bright pictures.
fn stages() -> Stages {
    Stages {
        engine: Arc::new(Engine {
            product: "disc".into(),
            package: "none".into(),
            provider: "none".into(),
            threshold: 100.0,
            recipe: 0,
        }),
        color: Color::Gray,
        features: Box::new(|frame, out| {
            out.tokens = vec![ndarray::Array2::from_elem((1, 1), f32::from(frame.pixels()[300]))];
            Ok(())
        }),
        residuals: Box::new(|tokens, out| {
            out.scales.resize_with(1, Default::default);
            out.scales[0].norms = vec![tokens.tokens[0][[0, 0]]];
            Ok(())
        }),
        classify: Box::new(|residuals, out| {
            out.score = residuals.scales[0].norms[0];
            out.verdict = if out.score > 100.0 { Verdict::Reject } else { Verdict::Pass };
            Ok(())
        }),
    }
}

/// A free-running camera that stalls, and loses, damages and delays pictures.
struct Hostile {
    parts: Parts,
    random: Random,
    due: Instant,
    shown: Instant,
    taken: u64,
}

impl Camera for Hostile {
    fn wait(&mut self, timeout: Duration) -> weakrest::Result<Option<Captured>> {
        let limit = Instant::now() + timeout;
        let mut lost = 0;
        loop {
            if self.due > limit {
                std::thread::sleep(limit.saturating_duration_since(Instant::now()));
                return Ok(None);
            }
            std::thread::sleep(self.due.saturating_duration_since(Instant::now()));
            self.shown = self.due;
            self.due += PERIOD;
            if self.random.happens(5) {
                self.due += self.random.millis(20, 400);
            }
            if !self.random.happens(20) {
                break;
            }
            // Half of the lost pictures leave no gap in the numbers.
            lost += self.random.below(2);
        }
        if self.random.happens(10) {
            std::thread::sleep(self.random.millis(5, 60));
        }
        self.taken += 1;
        Ok(Some(Captured { at: Some(self.shown), lost, damaged: self.random.happens(10) }))
    }

    fn timing(&self) -> Timing {
        Timing { period: Some(PERIOD), exposure: None }
    }

    fn read(&mut self, frame: &mut Frame) -> weakrest::Result<()> {
        let mut bad = false;
        if let Ok(mut parts) = self.parts.lock() {
            while parts.len() > 1 && parts.get(1).is_some_and(|(at, _)| *at <= self.shown) {
                parts.pop_front();
            }
            bad = parts.front().is_some_and(|(at, bad)| *bad && *at <= self.shown);
        }
        let (brightness, noise) = (if bad { 160 } else { 60 }, self.taken * 13);
        let pixels = (0..32 * 24u64).map(|i| brightness + ((i * 7 + noise) % 5) as u8).collect();
        *frame = Frame::new(32, 24, Color::Gray, pixels)?;
        Ok(())
    }
}

struct OpenHostile(Option<Hostile>);

impl OpenCamera for OpenHostile {
    fn open(&mut self) -> weakrest::Result<Box<dyn Camera>> {
        let gone = || weakrest::Error::new(weakrest::ErrorKind::Camera, "the camera is opened once");
        self.0.take().map(|camera| Box::new(camera) as Box<dyn Camera>).ok_or_else(gone)
    }

    fn describe(&self) -> String {
        "a hostile camera".into()
    }
}

// The service.

/// Pictures in the service's folder; every third shows a dented part.
const PICTURES: u64 = 12;

fn start_service(folder: &Path, port: u16) -> Result<Life> {
    let pictures = folder.join("parts");
    std::fs::create_dir_all(&pictures)?;
    let dented = |i: u64| i % 3 == 2;
    for i in 0..PICTURES {
        let picture = if dented(i) { common::dented_part(300 + i) } else { common::part(i) };
        picture.save(pictures.join(format!("{i:02}.png")))?;
    }
    let config = folder.join("weakrest.toml");
    let text = format!(
        "[inspection]\npackage = {:?}\nthreads = 1\n[camera]\nkind = \"folder\"\npath = {pictures:?}\nrate = 10\n\
         [pipeline]\nqueue = 64\n[line]\nrecord = {:?}\ntravel_ms = {TRAVEL_MS}\npulse_ms = {PULSE_MS}\n\
         [web]\nlisten = \"127.0.0.1:{port}\"\n",
        common::ready_package(),
        folder.join("edges")
    );
    std::fs::write(&config, text)?;
    let said = OpenOptions::new().create(true).append(true).open(folder.join("said"))?;
    let mut child = Command::new(common::PROGRAM)
        .args(["run", "--json", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(said)
        .spawn()?;
    let (parts, told) = (Arc::<Mutex<BTreeMap<u64, PartLog>>>::default(), Arc::<Mutex<u64>>::default());
    let out = BufReader::new(child.stdout.take().ok_or("no output")?);
    let to_parts = Arc::clone(&parts);
    std::thread::spawn(move || {
        for line in out.lines().map_while(std::io::Result::ok) {
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
            let Some(part) = value["part"].as_u64() else { continue };
            let (Some(at), Ok(mut parts)) = (value["triggered"].as_str().and_then(moment), to_parts.lock())
            else {
                continue;
            };
            let verdict = Some((monotonic_at(at), value["verdict"] == "pass"));
            // Every picture is a part.
            parts.insert(part, PartLog { bad: Some(dented((part - 1) % PICTURES)), verdict });
        }
    });
    let to_told = Arc::clone(&told);
    std::thread::spawn(move || {
        // Until there is no answer for long.
        let mut silent = 0;
        while silent < 100 {
            match missed_pulses(port) {
                Some(missed) => {
                    silent = 0;
                    if let Ok(mut told) = to_told.lock() {
                        *told = missed;
                    }
                }
                None => silent += 1,
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    Ok(Life { child, parts, told, folder: folder.to_owned() })
}

/// The service's counter of missed pulses.
fn missed_pulses(port: u16) -> Option<u64> {
    let limit = Duration::from_millis(500);
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("weakrest_missed_pulses_total ")?.parse().ok())
}

/// A moment of today in JSON, such as `2026-01-31T12:34:56.789Z`. Only the time of day is read.
fn moment(text: &str) -> Option<SystemTime> {
    let time = text.split_once('T')?.1.trim_end_matches('Z');
    let mut seconds = 0.0;
    for word in time.split(':') {
        seconds = seconds * 60.0 + word.parse::<f64>().ok()?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    const DAY: u64 = 86_400;
    let midnight = now.as_secs() / DAY * DAY;
    let at = UNIX_EPOCH + Duration::from_secs(midnight) + Duration::from_secs_f64(seconds);
    // Written before midnight, read after it.
    Some(if at > SystemTime::now() + Duration::from_secs(3600) { at - Duration::from_secs(DAY) } else { at })
}
