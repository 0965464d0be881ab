//! An output of your own: `cargo run --release --example own_output -- PACKAGE PICTURE RESULTS.csv`
//!
//! A simulated camera shows the picture ten times a second. Each part becomes a line of the table.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use weakrest::camera::{Scene, SimulatedOpener};
use weakrest::clock::Clock;
use weakrest::output::Output;
use weakrest::pipeline::{Pipeline, Setup, Stages};
use weakrest::record::{
    Drift, Histogram, Problem, Quantity, Record, Reloads, Severity, Snapshot, Stage, Status,
};
use weakrest::{Error, ErrorKind, Frame, Inspector, Result, Verdict};

struct Table(File);

impl Table {
    /// An error is counted and shown on the web page. The next part is written anyway.
    fn write(&mut self, line: &str) -> Result<()> {
        let failed = |e| Error::new(ErrorKind::Io, "cannot write the table").with_source(e);
        writeln!(self.0, "{line}").map_err(failed)
    }
}

impl Output for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    /// Runs on the output's own thread: a slow disk does not delay the line.
    fn publish(&mut self, record: &Record) -> Result<()> {
        let verdict = match &record.verdict {
            Verdict::Pass => "pass",
            Verdict::Reject => "reject",
            Verdict::Fault(_) => "fault",
        };
        let score = record.inspection().map_or(f32::NAN, |inspection| inspection.score);
        self.write(&format!("{},{verdict},{score}", record.part))
    }

    /// Called about once a second, also without parts.
    fn tick(&mut self, _: SystemTime, status: &Status) -> Result<()> {
        for (component, Problem { severity, text }) in status.problems() {
            if severity == Severity::Error {
                self.write(&format!("# {component}: {text}"))?;
            }
        }
        let times: &Histogram = status.times(Stage::Latency);
        let Snapshot { parts, rejects, reloads, drift, .. } = status.snapshot();
        for Drift { quantity, now, .. } in drift {
            if quantity == Quantity::Light {
                self.write(&format!("# brightness {now}"))?;
            }
        }
        if let Reloads { refused: Some(why), .. } = reloads {
            self.write(&format!("# {why}"))?;
        }
        self.write(&format!("# {rejects} of {parts} rejected, the last after {:?}", times.last()))
    }
}

/// Inspects a number of parts and writes the table.
pub fn record(package: &Path, picture: &Path, table: &Path, parts: usize) -> Result<()> {
    let failed = |e| Error::new(ErrorKind::Io, "cannot make the table").with_source(e);
    let table = Table(File::create(table).map_err(failed)?);
    let clock = Clock::system();
    let scene = Scene::new(Frame::open(picture)?, Duration::from_millis(100));
    let camera = SimulatedOpener { scene, clock: clock.clone() };
    let setup = Setup::new(clock, Stages::new(Inspector::open(package)?), Box::new(camera));
    let mut pipeline = Pipeline::start(setup, |_| {})?;
    pipeline.attach(Box::new(table))?;
    let records = pipeline.subscribe(parts);
    records.iter().take(parts).for_each(drop);
    // The table gets the last parts, too.
    pipeline.stop();
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [package, picture, table] = arguments.as_slice() else {
        panic!("usage: own_output PACKAGE PICTURE RESULTS.csv")
    };
    record(package.as_ref(), picture.as_ref(), table.as_ref(), 20)
}
