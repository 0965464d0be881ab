//! A line that is none: made-up parts, and a control that notes what it was asked for.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::anomaly::AnomalyMap;
use crate::inspector::{Region, StageTimes};
use crate::output::web::{Settings, WebPage};
use crate::output::{Control, Output};
use crate::record::{Engine, FaultKind, Record, Status};
use crate::{Color, Error, ErrorKind, Frame, Inspection, Result, Verdict};

pub const THRESHOLD: f32 = 2.5;

pub struct Line {
    status: Status,
    pub asked: Mutex<Vec<&'static str>>,
    pub part: AtomicU64,
    pub has_trigger: bool,
}

impl Line {
    pub fn new(has_trigger: bool) -> Arc<Line> {
        let status = Status::new(engine());
        status.set_loading(false);
        Arc::new(Line { status, asked: Mutex::default(), part: AtomicU64::new(0), has_trigger })
    }
}

impl Control for Line {
    fn trigger(&self) -> Result<u64> {
        if !self.has_trigger {
            return Err(Error::new(ErrorKind::Usage, "the camera runs freely: it has no trigger"));
        }
        self.asked.lock().unwrap().push("trigger");
        Ok(self.part.fetch_add(1, Relaxed) + 1)
    }

    fn set_halted(&self, halted: bool) -> Result<()> {
        self.asked.lock().unwrap().push(if halted { "halt" } else { "resume" });
        self.status.set_halted(halted)
    }

    fn reload(&self) {
        self.asked.lock().unwrap().push("reload");
    }

    fn select_recipe(&self, _: u16) {
        self.asked.lock().unwrap().push("recipe");
    }

    fn status(&self) -> &Status {
        &self.status
    }
}

fn engine() -> Arc<Engine> {
    Arc::new(Engine {
        // What a product may be called, and a page must not stumble over.
        product: r#"Cover plate "A7" <b>"#.into(),
        package: "5f1d0c93a8e2b7d4".repeat(4),
        provider: "TensorRT".into(),
        threshold: THRESHOLD,
        recipe: 0,
    })
}

/// A page on a free port, and the line behind it.
pub fn page(settings: Settings) -> (WebPage, Arc<Line>) {
    let line = Line::new(true);
    let page = WebPage::start(&settings, Arc::clone(&line) as Arc<dyn Control>).unwrap();
    (page, line)
}

pub fn on_free_port() -> Settings {
    Settings { listen: "127.0.0.1:0".into(), ..Default::default() }
}

/// Settings with a token, and the folder that its file is in.
pub fn with_token(token: &str) -> (Settings, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("token");
    std::fs::write(&path, format!("{token}\n")).unwrap();
    (Settings { token_file: Some(path), ..on_free_port() }, folder)
}

/// Publishes a part and counts it, as the pipeline does.
pub fn publish(page: &mut WebPage, line: &Line, record: &Record) {
    line.status().count(record);
    page.publish(record).unwrap();
}

/// A part by its number: every seventh is rejected.
pub fn usual(part: u64) -> Record {
    match part % 7 {
        0 => scratched(part),
        _ => good(part),
    }
}

pub fn good(part: u64) -> Record {
    let score = THRESHOLD * (0.45 + 0.3 * noise(part as u32, 1));
    record(part, Verdict::Pass, Some(score), Vec::new())
}

pub fn scratched(part: u64) -> Record {
    let (x, y) = (180 + 300 * noise(part as u32, 2) as u32, 150 + (200.0 * noise(part as u32, 3)) as u32);
    let score = THRESHOLD * (1.4 + 3.0 * noise(part as u32, 4));
    let region = Region { x, y, width: 120, height: 40, peak: score * 1.2, area: 2200 };
    record(part, Verdict::Reject, Some(score), vec![region])
}

pub fn faulty(part: u64, kind: FaultKind, reason: &str) -> Record {
    let mut record = record(part, Verdict::Fault(reason.into()), None, Vec::new());
    record.fault = Some(kind);
    record
}

fn record(part: u64, verdict: Verdict, score: Option<f32>, regions: Vec<Region>) -> Record {
    let mut record = Record::empty(engine());
    record.part = part;
    record.triggered = SystemTime::now();
    record.latency = Duration::from_micros(21_000 + (4000.0 * noise(part as u32, 5)) as u64);
    record.verdict = verdict.clone();
    let Some(score) = score else { return record };
    record.has_frame = true;
    record.frame_buffer = plate(part as u32, regions.first());
    record.has_inspection = true;
    let (width, height) = (200, 150);
    let mut values = vec![0.2 * THRESHOLD; width * height];
    for r in &regions {
        for (i, value) in values.iter_mut().enumerate() {
            let (x, y) = ((i % width) as f32 * 4.0, (i / width) as f32 * 4.0);
            let dx = (x - (r.x + r.width / 2) as f32) / (r.width as f32 / 2.0);
            let dy = (y - (r.y + r.height / 2) as f32) / (r.height as f32 / 2.0);
            *value += r.peak * (-(dx * dx + dy * dy) * 1.3).exp();
        }
    }
    let times = StageTimes {
        features: Duration::from_micros(9_400 + part % 7 * 130),
        residuals: Duration::from_micros(6_100 + part % 5 * 90),
        classify: Duration::from_micros(1_200 + part % 3 * 70),
    };
    let map = AnomalyMap { width, height, values };
    record.inspection_buffer = Inspection { verdict, score, threshold: THRESHOLD, regions, map, times };
    record
}

/// A brushed metal plate with four holes, and a scratch in the region.
fn plate(seed: u32, scratch: Option<&Region>) -> Frame {
    let (width, height) = (800u32, 600u32);
    let mut pixels = Vec::with_capacity((width * height) as usize);
    for y in 0..height {
        let grain = 14.0 * noise(y, seed) - 7.0;
        for x in 0..width {
            let (fx, fy) = (x as f32, y as f32);
            let inside = (60..740).contains(&x) && (50..550).contains(&y);
            let hole = [(130, 120), (670, 120), (130, 480), (670, 480)].iter().any(|(cx, cy)| {
                let (dx, dy) = (fx - *cx as f32, fy - *cy as f32);
                dx * dx + dy * dy < 900.0
            });
            let mut value = if inside && !hole { 148.0 + grain + 30.0 * (fx / 240.0).sin() } else { 34.0 };
            value += 6.0 * noise(x, y ^ seed);
            if let Some(r) = scratch {
                let t = (fx - r.x as f32) / r.width as f32;
                let line = r.y as f32 + r.height as f32 * (0.2 + 0.6 * t);
                if (0.0..1.0).contains(&t) && (fy - line).abs() < 2.5 {
                    value -= 85.0;
                }
            }
            pixels.push(value.clamp(0.0, 255.0) as u8);
        }
    }
    Frame::new(width, height, Color::Gray, pixels).unwrap()
}

/// 0 to 1, the same for the same numbers.
fn noise(a: u32, b: u32) -> f32 {
    let mut v = a.wrapping_mul(0x9E37_79B1) ^ b.wrapping_mul(0x85EB_CA77);
    v = (v ^ (v >> 15)).wrapping_mul(0x2C1B_3C6D);
    v = (v ^ (v >> 12)).wrapping_mul(0x297A_2D39);
    ((v ^ (v >> 15)) >> 8) as f32 / (1 << 24) as f32
}
