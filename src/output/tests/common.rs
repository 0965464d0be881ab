//! Made-up parts.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::inspector::AnomalyMap;
use crate::inspector::StageTimes;
use crate::record::{Engine, FaultKind, Record, Status};
use crate::{Color, Frame, Inspection, Region, Verdict};

pub fn engine() -> Arc<Engine> {
    Arc::new(Engine {
        product: "bottle".into(),
        package: "ab".repeat(32),
        provider: "cpu".into(),
        threshold: 1.0,
        recipe: 0,
    })
}

pub fn status() -> Status {
    Status::new(engine())
}

/// 2026-03-04T05:06:07.089Z, and a second more for each part.
pub fn time_of(part: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_772_600_767_089 + 1000 * part)
}

pub fn pass(part: u64) -> Record {
    Record {
        part,
        triggered: time_of(part),
        latency: Duration::from_micros(41_500),
        verdict: Verdict::Pass,
        has_frame: true,
        has_inspection: true,
        frame_buffer: Frame::new(40, 30, Color::Gray, (0..1200).map(|i| (i * part % 251) as u8).collect())
            .unwrap(),
        inspection_buffer: Inspection {
            verdict: Verdict::Pass,
            score: 0.25,
            threshold: 1.0,
            regions: vec![],
            map: AnomalyMap { width: 4, height: 3, values: vec![0.25; 12] },
            times: StageTimes {
                features: Duration::from_millis(20),
                residuals: Duration::from_millis(10),
                classify: Duration::from_millis(5),
            },
        },
        ..Record::empty(engine())
    }
}

pub fn reject(part: u64) -> Record {
    let mut record = pass(part);
    record.verdict = Verdict::Reject;
    record.inspection_buffer.verdict = Verdict::Reject;
    record.inspection_buffer.score = 2.5;
    record.inspection_buffer.regions = vec![Region { x: 3, y: 4, width: 10, height: 8, peak: 3.5, area: 60 }];
    record.inspection_buffer.map.values[5] = 3.5;
    record
}

/// A part of which there is not even a picture.
pub fn fault(part: u64) -> Record {
    Record {
        verdict: Verdict::Fault("no picture in time".into()),
        fault: Some(FaultKind::Camera),
        has_frame: false,
        has_inspection: false,
        ..pass(part)
    }
}

pub fn dropped(status: &Status, output: &'static str) -> u64 {
    status.output(output).dropped.load(Relaxed)
}

/// Says that a test is skipped: on standard error, and in the file that `make test` shows at its end.
pub fn skip(what: &str) {
    use std::io::Write;
    let line = format!("SKIP: {what}");
    eprintln!("{line}");
    let list = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/skipped.txt");
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(list) {
        let _ = writeln!(file, "{line}");
    }
}

/// A file system of one mebibyte, until it is dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it on a folder; says that the test is skipped where that is not possible.
    pub fn mount(folder: &Path) -> Option<Self> {
        let mounted = mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], folder);
        if !mounted {
            skip("no small disk can be mounted (needs root)");
        }
        mounted.then(|| SmallDisk(folder.to_path_buf()))
    }

    /// Gives it more room; answers whether that worked.
    pub fn grow(&self) -> bool {
        mount(&["-o", "remount,size=64m"], &self.0)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], folder: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(arguments).arg(folder).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}
