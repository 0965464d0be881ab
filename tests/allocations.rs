//! The pipeline goes round with the buffers it has: in steady state, nothing around the stages is allocated for a part.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use weakrest::camera::{Framing, HealthSettings, Scene, SimulatedOpener};
use weakrest::clock::Clock;
use weakrest::output::line::{Settings as LineSettings, SimulatedLines};
use weakrest::pipeline::{Pipeline, Settings, Setup, Stages, Trigger};
use weakrest::record::Engine;
use weakrest::{Color, Frame, Verdict};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_allocated_for_a_part() {
    let clock = Clock::system();
    let pixels: Vec<u8> = (0..64 * 48).map(|i| 60 + (i % 7) as u8).collect();
    let scene = Scene::new(Frame::new(64, 48, Color::Gray, pixels).unwrap(), Duration::from_millis(2));
    let engine =
        Engine { product: "disc".into(), package: "hash".into(), provider: "none".into(), threshold: 100.0 };
    let setup = Setup {
        stages: Stages {
            engine: Arc::new(engine),
            color: Color::Gray,
            features: Box::new(|_, _| Ok(())),
            residuals: Box::new(|_, _| Ok(())),
            classify: Box::new(|_, out| {
                out.score = 1.0;
                out.verdict = Verdict::Reject;
                Ok(())
            }),
        },
        camera: Box::new(SimulatedOpener { scene, clock: clock.clone() }),
        framing: Framing { region: Some([0, 0, 40, 30]), rotation: 90 },
        health: HealthSettings::default(),
        trigger: Trigger::Free,
        // Edges are noted in memory, so the level must not change.
        lines: SimulatedLines::new(clock.clone()).handle(),
        line: LineSettings { travel_ms: 50.0, pulse_ms: 20.0, ..LineSettings::default() },
        settings: Settings::default(),
        clock,
    };
    let pipeline = Pipeline::start(setup, |_| {}).unwrap();
    let records = pipeline.subscribe(64);
    let parts = |count: usize| {
        for _ in 0..count {
            let record = records.recv_timeout(Duration::from_secs(10)).unwrap();
            assert_eq!(record.verdict, Verdict::Reject);
        }
    };
    // Buffers reach their size, and every thread has waited for the first time.
    parts(500);
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        let before = ALLOCATIONS.load(Relaxed);
        parts(300);
        let made = ALLOCATIONS.load(Relaxed) - before;
        // The healthy line's edges are noted by the simulated lines, in a list that grows now and then.
        if made <= 2 {
            break;
        }
        assert!(Instant::now() < limit, "{made} allocations for 300 parts");
    }
}
