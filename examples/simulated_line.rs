//! A whole line without hardware, in simulated time: `cargo run --example simulated_line`
//!
//! Of nine parts, every third is bad. Its pulse on the reject line comes when the part is at the gate.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use weakrest::camera::{Framing, HealthSettings, Scene, SimulatedOpener};
use weakrest::clock::Simulation;
use weakrest::output::Control;
use weakrest::output::line::{self, Edge, Energize, Line, Lines, OnFault, SimulatedLines};
use weakrest::pipeline::{Pipeline, Settings, Setup, Stages, Subscription, Trigger, TriggerSource};
use weakrest::record::{Engine, FaultKind, Halt, HaltedBy, Halts, State};
use weakrest::{Color, Frame, Result, Verdict};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A picture with a little texture.
fn picture(brightness: u8) -> Result<Frame> {
    Frame::new(32, 24, Color::Gray, (0..32 * 24).map(|i| brightness + i as u8 % 3).collect())
}

/// Stages that reject bright pictures, in the place of an inspector's.
fn stages() -> Stages {
    let seen = Arc::new(AtomicU8::new(0));
    let brightness = Arc::clone(&seen);
    Stages {
        engine: Arc::new(Engine {
            product: "disc".into(),
            package: "none".into(),
            provider: "none".into(),
            threshold: 100.0,
            recipe: 0,
        }),
        color: Color::Gray,
        features: Box::new(move |frame, _| {
            seen.store(frame.pixels()[0], Relaxed);
            Ok(())
        }),
        residuals: Box::new(|_, _| Ok(())),
        classify: Box::new(move |_, inspection| {
            inspection.score = brightness.load(Relaxed).into();
            inspection.verdict = if inspection.score > 100.0 { Verdict::Reject } else { Verdict::Pass };
            Ok(())
        }),
    }
}

/// The verdicts, and the edges of the reject line.
pub fn run() -> Result<(Vec<Verdict>, Vec<Edge>), Box<dyn Error>> {
    let (clock, simulation) = Simulation::start();
    let scene = Scene::new(picture(60)?, ms(10));
    let camera = SimulatedOpener { scene: scene.clone(), clock: clock.clone() };
    let lines = SimulatedLines::new(clock.clone());
    let gate: Box<dyn Lines> = lines.handle();
    let setup = Setup {
        trigger: Trigger { source: TriggerSource::Software, ..Trigger::default() },
        framing: Framing { rotation: 90, ..Framing::default() },
        health: HealthSettings { frozen: 0, ..HealthSettings::default() },
        // Not halted, and halts are not stored.
        halts: Arc::new(Halts::default()),
        lines: gate,
        line: line::Settings {
            travel_ms: 200.0,
            pulse_ms: 20.0,
            energize: Energize::ToReject,
            on_fault: OnFault::Reject,
            ..line::Settings::default()
        },
        settings: Settings { queue: 8, ..Settings::default() },
        ..Setup::new(clock, stages(), Box::new(camera))
    };
    let pipeline = Pipeline::start(setup, |_| {})?;
    let records: Subscription = pipeline.subscribe(64);
    // The camera takes its first frames.
    simulation.advance(ms(50))?;
    for part in 1..=9 {
        scene.show(picture(if part % 3 == 0 { 160 } else { 60 })?);
        pipeline.trigger()?;
        simulation.advance(ms(100))?;
    }
    simulation.advance(ms(300))?;
    assert_eq!(pipeline.status().state(), State::Operational);

    let mut verdicts = Vec::new();
    for record in records.try_iter() {
        println!("part {}: {}{}", record.part, record.verdict, record.fault.map_or("", FaultKind::name));
        verdicts.push(record.verdict.clone());
    }
    let edges = lines.edges(Line::Reject);
    // What a button of an output does.
    let control: Arc<dyn Control> = pipeline.control();
    control.set_halted(true)?;
    let halted: Option<Halt> = control.status().snapshot().halted;
    assert_eq!(halted.map(|halt| halt.by), Some(HaltedBy::Person));
    // All waits end, so the threads can end, too.
    drop(simulation);
    pipeline.stop();
    Ok((verdicts, edges))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (_, edges) = run()?;
    for pulse in edges.iter().filter(|edge| edge.active) {
        println!("pulse at {:?}", pulse.at);
    }
    Ok(())
}
