//! Buffers go round: in steady state the pipeline allocates nothing for a part, and the inspector's stages nothing of a
//! picture's size.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use weakrest::camera::{Framing, HealthSettings, Scene, SimulatedOpener};
use weakrest::clock::Clock;
use weakrest::output::line::{Settings as LineSettings, SimulatedLines};
use weakrest::package::BackboneFile;
use weakrest::pipeline::{Pipeline, Settings, Setup, Stages, Trigger};
use weakrest::record::Engine;
use weakrest::{Color, Frame, Verdict};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LARGEST: AtomicU64 = AtomicU64::new(0);

/// Tests that count must not run side by side.
static ONE: Mutex<()> = Mutex::new(());

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        LARGEST.fetch_max(layout.size() as u64, Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        LARGEST.fetch_max(size as u64, Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_allocated_for_a_part() {
    let _one = ONE.lock().unwrap();
    let clock = Clock::system();
    let pixels: Vec<u8> = (0..64 * 48).map(|i| 60 + (i % 7) as u8).collect();
    let scene = Scene::new(Frame::new(64, 48, Color::Gray, pixels).unwrap(), Duration::from_millis(2));
    let engine = Engine {
        product: "disc".into(),
        package: "hash".into(),
        provider: "none".into(),
        threshold: 100.0,
        recipe: 0,
    };
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
        trigger: Trigger::free(),
        // Edges are noted in memory, so the level must not change.
        halts: Default::default(),
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

/// The matrix products pack their operands, the scaler makes its tables, and ONNX Runtime's binding its lists, anew for each frame; the rest
/// stays.
#[test]
fn the_stages_allocate_nothing_of_a_pictures_size() {
    let _one = ONE.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let picture = |seed: usize| {
        image::RgbImage::from_fn(400, 300, |x, y| {
            let wave = ((x as usize * 7 + y as usize * 3 + seed * 5) % 160) as u8;
            image::Rgb([60 + wave / 2, 200 - wave, wave])
        })
    };
    for i in 0..6 {
        picture(i).save(folder.path().join(format!("{i}.png"))).unwrap();
    }
    let pictures = weakrest::enroll::find_pictures(folder.path()).unwrap();
    let scales = concat!(env!("CARGO_MANIFEST_DIR"), "/models/efficientnet-lite1-scales.toml");
    for backbone in [BackboneFile::built_in(), BackboneFile::open(scales)] {
        check_allocations(&pictures, &backbone.unwrap());
    }
}

fn check_allocations(pictures: &[PathBuf], backbone: &BackboneFile) {
    let settings = weakrest::enroll::Settings { longest_side: Some(128), ..Default::default() };
    let options = weakrest::inspector::Options::default();
    let enrolled = weakrest::enroll::enroll(pictures, backbone, &settings, &options, &mut |_, _, _| true);
    let package = enrolled.unwrap().unwrap().package;
    let inspector = weakrest::Inspector::with_options(package, &options).unwrap();
    let (mut features, mut residuals, mut classify) = inspector.into_stages();
    let (mut tokens, mut left, mut judged) = Default::default();
    let frame = Frame::open(&pictures[0]).unwrap();
    let mut inspect = || {
        features.run(&frame, &mut tokens).unwrap();
        residuals.run(&tokens, &mut left).unwrap();
        classify.run(&left, &mut judged).unwrap();
    };
    (0..20).for_each(|_| inspect());
    LARGEST.store(0, Relaxed);
    (0..50).for_each(|_| inspect());
    let largest = LARGEST.load(Relaxed);
    let scaled = 128 * 96 * 3 * size_of::<f32>() as u64;
    assert!(largest < scaled, "{largest} bytes are allocated at once for each frame");
}
