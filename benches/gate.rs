//! Pulses on a busy machine: `make bench-gate`, for about ten minutes (`PULSES=2000`: two).
//!
//! Bad parts every 60 ms in real time, pulses of 20 ms on simulated lines that record their edges, and four programs
//! beside them that only compute (`BUSY=8`: eight). Each pulse is compared with its trigger. Ends with an error if a pulse
//! was missed without an alarm, or if more than one in a thousand was missed.

use std::error::Error;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weakrest::camera::{Framing, HealthSettings, Scene, SimulatedOpener};
use weakrest::clock::Clock;
use weakrest::output::line::{Line, Settings as LineSettings, SimulatedLines, realtime};
use weakrest::pipeline::{Pipeline, Settings, Setup, Stages, Trigger};
use weakrest::record::Engine;
use weakrest::{Color, Frame, Verdict};

const APART: Duration = Duration::from_millis(60);

/// Programs that compute until this is dropped.
struct Busy(Vec<Child>);

impl Busy {
    fn start(count: usize) -> std::io::Result<Busy> {
        let mut busy = Busy(Vec::new());
        for _ in 0..count {
            busy.0.push(Command::new("sh").args(["-c", "while :; do :; done"]).spawn()?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn number(name: &str, default: usize) -> Result<usize, Box<dyn Error>> {
    Ok(std::env::var(name).map_or(Ok(default), |n| n.parse())?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (pulses, busy) = (number("PULSES", 10_000)?, number("BUSY", 4)?);
    for lack in realtime::lacks() {
        println!("{lack}");
    }
    let clock = Clock::system();
    let lines = SimulatedLines::new(clock.clone());
    let engine = Engine {
        product: "disc".into(),
        package: "none".into(),
        provider: "none".into(),
        threshold: 100.0,
        recipe: 0,
    };
    let pixels = (0..64 * 48).map(|i| 60 + (i % 7) as u8).collect();
    let scene = Scene::new(Frame::new(64, 48, Color::Gray, pixels)?, Duration::from_millis(5));
    let line = LineSettings { pulse_ms: 20.0, ..LineSettings::default() };
    let setup = Setup {
        stages: Stages {
            engine: Arc::new(engine),
            color: Color::Gray,
            features: Box::new(|_, _| Ok(())),
            residuals: Box::new(|_, _| Ok(())),
            classify: Box::new(|_, out| {
                (out.score, out.verdict) = (101.0, Verdict::Reject);
                Ok(())
            }),
        },
        camera: Box::new(SimulatedOpener { scene, clock: clock.clone() }),
        framing: Framing::default(),
        health: HealthSettings::default(),
        trigger: Trigger::software(),
        halts: Default::default(),
        lines: lines.handle(),
        line: line.clone(),
        settings: Settings::default(),
        clock,
    };
    let pipeline = Pipeline::start(setup, |_| {})?;
    let busy = Busy::start(busy)?;
    std::thread::sleep(Duration::from_millis(500));

    // The trigger's time is between both.
    let mut triggers = Vec::with_capacity(pulses);
    let start = Instant::now();
    for i in 0..pulses as u32 {
        std::thread::sleep((start + APART * i).saturating_duration_since(Instant::now()));
        let before = Instant::now();
        pipeline.trigger()?;
        triggers.push((before, Instant::now()));
    }
    std::thread::sleep(line.travel() + Duration::from_millis(500));
    drop(busy);
    let told = pipeline.status().snapshot();
    pipeline.stop();

    let edges = lines.edges(Line::Reject);
    let active_throughout = |from: Instant, to: Instant| {
        let last = edges.partition_point(|e| e.at <= from);
        last > 0 && edges[last - 1].active && edges.get(last).is_none_or(|e| e.at >= to)
    };
    let (travel, pulse, late) = (line.travel(), line.pulse(), line.tolerance());
    let surely_missed =
        triggers.iter().filter(|(b, a)| !active_throughout(*a + travel + late, *b + travel + pulse)).count();
    let mut delays: Vec<Duration> = edges
        .iter()
        .filter(|e| e.active)
        .filter_map(|e| {
            let last = triggers.partition_point(|(before, _)| *before + travel <= e.at);
            Some(e.at - (triggers.get(last.checked_sub(1)?)?.0 + travel))
        })
        .collect();
    delays.sort_unstable();
    let at = |share: f64| {
        let place = (delays.len() as f64 * share) as usize;
        delays.get(place.min(delays.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    let undetected = surely_missed.saturating_sub(told.missed_pulses as usize);
    println!("pulses       {pulses} of {pulse:?}, {APART:?} apart; {:?} late is missed", late);
    println!(
        "edges        {:?} after the trigger's travel (median), {:?} (99.9 %), {:?} (longest)",
        at(0.5),
        at(0.999),
        at(1.0)
    );
    println!(
        "missed       {} told, {surely_missed} seen; {undetected} of {pulses} undetected",
        told.missed_pulses
    );
    println!("ended late   {}", told.late_pulses);
    if undetected > 0 {
        return Err("a missed pulse was not told".into());
    }
    if told.missed_pulses as usize * 1_000 > pulses {
        return Err("more than one pulse in a thousand was missed".into());
    }
    Ok(())
}
