//! The overhead of the pipeline: `cargo bench --bench pipeline`
//!
//! Measures the throughput against the slowest stage, the latency of an idle line against the sum of the stages, and the
//! accuracy of the reject line's edges. The stages sleep for a known time: only the pipeline is measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weakrest::camera::{Framing, HealthSettings, Scene, SimulatedOpener};
use weakrest::clock::Clock;
use weakrest::output::line::{Line, Settings as LineSettings, SimulatedLines};
use weakrest::pipeline::{Pipeline, Settings, Setup, Stages, Trigger};
use weakrest::record::Engine;
use weakrest::{Color, Frame, Verdict};

/// Length of each stage, as on a small board. They sleep, so two cores are enough for five threads.
const STAGES: [Duration; 3] = [Duration::from_millis(8), Duration::from_millis(12), Duration::from_millis(2)];

fn line(trigger: Trigger, period: Duration) -> (Pipeline, SimulatedLines) {
    let clock = Clock::system();
    let pixels: Vec<u8> = (0..256 * 256).map(|i| 60 + (i % 7) as u8).collect();
    let scene = Scene::new(Frame::new(256, 256, Color::Gray, pixels).unwrap_or_default(), period);
    let engine = Engine {
        product: "bench".into(),
        package: "none".into(),
        provider: "none".into(),
        threshold: 1.0,
        recipe: 0,
    };
    let lines = SimulatedLines::new(clock.clone());
    let setup = Setup {
        stages: Stages {
            engine: Arc::new(engine),
            color: Color::Gray,
            features: Box::new(|_, _| {
                std::thread::sleep(STAGES[0]);
                Ok(())
            }),
            residuals: Box::new(|_, _| {
                std::thread::sleep(STAGES[1]);
                Ok(())
            }),
            classify: Box::new(|_, out| {
                std::thread::sleep(STAGES[2]);
                out.score = 2.0;
                out.verdict = Verdict::Reject;
                Ok(())
            }),
        },
        camera: Box::new(SimulatedOpener { scene, clock: clock.clone() }),
        framing: Framing::default(),
        health: HealthSettings { frozen: 0, ..HealthSettings::default() },
        trigger,
        halts: Default::default(),
        lines: lines.handle(),
        line: LineSettings { travel_ms: 100.0, pulse_ms: 10.0, ..LineSettings::default() },
        settings: Settings::default(),
        clock,
    };
    match Pipeline::start(setup, |_| {}) {
        Ok(pipeline) => (pipeline, lines),
        Err(e) => panic!("{e:?}"),
    }
}

fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() as f64 * share) as usize).min(times.len() - 1)]
}

fn main() {
    // The real length of a 12 ms stage on this machine.
    let alone = Instant::now();
    for _ in 0..100 {
        std::thread::sleep(STAGES[1]);
    }
    let slowest = alone.elapsed() / 100;

    let (pipeline, _) = line(Trigger::free(), Duration::from_millis(5));
    let records = pipeline.subscribe(1000);
    std::thread::sleep(Duration::from_millis(500));
    let before = records.try_iter().count();
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(6));
    let rate = records.try_iter().count() as f64 / start.elapsed().as_secs_f64();
    pipeline.stop();
    let possible = 1.0 / slowest.as_secs_f64();
    println!(
        "throughput   {rate:.1} parts/s, {:.1} % of what the slowest stage allows",
        100.0 * rate / possible
    );
    assert!(before > 0);

    let (pipeline, lines) = line(Trigger::software(), Duration::from_millis(1));
    let records = pipeline.subscribe(1000);
    std::thread::sleep(Duration::from_millis(300));
    let sum: Duration = STAGES.iter().sum();
    let (mut latencies, mut errors) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let at = Instant::now();
        if let Err(e) = pipeline.trigger() {
            panic!("{e:?}");
        }
        let Ok(record) = records.recv_timeout(Duration::from_secs(1)) else { panic!("a part is lost") };
        latencies.push(record.latency);
        std::thread::sleep(Duration::from_millis(130));
        let due = at + Duration::from_millis(100);
        let edges = lines.edges(Line::Reject);
        let Some(edge) = edges.iter().rev().find(|e| e.active) else { panic!("a part was not rejected") };
        errors.push(edge.at.saturating_duration_since(due).max(due.saturating_duration_since(edge.at)));
    }
    pipeline.stop();
    let median = percentile(&mut latencies, 0.5);
    println!(
        "latency      {median:.2?} with the camera's 0-1 ms, {:.2} × the sum of the stages",
        median.as_secs_f64() / sum.as_secs_f64()
    );
    println!(
        "actuation    off by {:.2?} (median), {:.2?} (99 %), {:.2?} (most) of 100",
        percentile(&mut errors, 0.5),
        percentile(&mut errors, 0.99),
        percentile(&mut errors, 1.0)
    );
}
