//! The pipeline in your own program, with a reaction to each part:
//! `cargo run --release --example embed_pipeline -- bottle.weakrest PICTURES`

use std::time::Duration;

use weakrest::camera::{FolderSettings, Source};
use weakrest::clock::Clock;
use weakrest::output::line;
use weakrest::pipeline::{Pipeline, Setup, Stages};
use weakrest::{Inspector, Verdict};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [package, pictures] = arguments.as_slice() else {
        return Err("usage: embed_pipeline PACKAGE FOLDER".into());
    };
    let inspector = Inspector::open(package)?;

    let clock = Clock::system();
    let camera = Source::Folder(FolderSettings { path: pictures.into(), rate: 10.0, repeat: false });
    let setup = Setup {
        // A GPIO chip's lines: `settings.open()?`.
        lines: Box::new(line::NoLines),
        // The gate is 800 ms behind the camera.
        line: line::Settings { travel_ms: 800.0, ..line::Settings::default() },
        ..Setup::new(clock.clone(), Stages::new(inspector), camera.opener(&clock))
    };
    let pipeline = Pipeline::start(setup, |_| {})?;
    let records = pipeline.subscribe(64);
    while let Ok(record) = records.recv_timeout(Duration::from_secs(1)) {
        println!("part {}: {} after {:.1?}", record.part, record.verdict, record.latency);
        if let (Verdict::Reject, Some(inspection)) = (&record.verdict, record.inspection()) {
            for region in &inspection.regions {
                println!("  {}×{} at {},{}", region.width, region.height, region.x, region.y);
            }
        }
    }
    pipeline.stop();
    Ok(())
}
