//! A line at the machine's full rate for a while: `make soak MINUTES=10`
//!
//! The real inspector with the demo's package, journal, pictures and web page. The camera is always a little faster than
//! the inspector. Ends with an error if a part is missing, doubled or late, a verdict is wrong, or memory or open files
//! grow.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weakrest::camera::{Camera, Captured, Framing, HealthSettings, OpenCamera};
use weakrest::clock::Clock;
use weakrest::inspector::{Execution, Inspector, Options};

use weakrest::output::journal::{self, Journal};
use weakrest::output::line::{NoLines, Settings as LineSettings};
use weakrest::output::pictures::{self, Pictures};
use weakrest::output::run_id;
use weakrest::output::web::{self, WebPage};
use weakrest::pipeline::{Pipeline, Settings, Setup, Stages, Trigger};
use weakrest::record::Stage;
use weakrest::{Frame, Package, Verdict};

/// A camera that shows pictures at a rate.
#[derive(Clone)]
struct Reel {
    frames: Arc<Vec<Frame>>,
    period: Duration,
    next: usize,
    due: Instant,
}

impl OpenCamera for Reel {
    fn open(&mut self) -> weakrest::Result<Box<dyn Camera>> {
        Ok(Box::new(self.clone()))
    }

    fn describe(&self) -> String {
        "pictures in memory".into()
    }
}

impl Camera for Reel {
    fn wait(&mut self, _: Duration) -> weakrest::Result<Option<Captured>> {
        std::thread::sleep(self.due.saturating_duration_since(Instant::now()));
        self.due = (self.due + self.period).max(Instant::now());
        self.next = (self.next + 1) % self.frames.len();
        Ok(Some(Captured::at(Instant::now())))
    }

    fn read(&mut self, frame: &mut Frame) -> weakrest::Result<()> {
        let from = &self.frames[self.next];
        frame.refill(from.width(), from.height(), from.color(), |pixels| {
            pixels.copy_from_slice(from.pixels());
            Ok(())
        })
    }
}

/// Resident memory in MB and open file descriptors.
fn held() -> Result<(f64, usize), Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with("VmRSS")).ok_or("no VmRSS")?;
    let kb: f64 = line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?;
    Ok((kb / 1024.0, std::fs::read_dir("/proc/self/fd")?.count()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let minutes: f64 = std::env::var("MINUTES").map_or(Ok(1.0), |m| m.parse())?;
    let demo = Path::new("target/demo");
    let (package, pictures) = (demo.join("brick.weakrest"), demo.join("pictures/brick/test"));
    let mut files: Vec<PathBuf> = weakrest::enroll::find_pictures(&pictures.join("good"))?;
    files.truncate(12);
    files.extend(weakrest::enroll::find_pictures(&pictures.join("foreign"))?.into_iter().take(4));
    let frames: Vec<Frame> = files.iter().map(Frame::open).collect::<Result<_, _>>()?;

    let open = || {
        let execution = Execution { spinning: false, ..Execution::default() };
        Inspector::with_options(Package::open(&package)?, &Options { execution, ..Options::default() })
    };
    let mut inspector = open()?;
    let start = Instant::now();
    let mut scores = Vec::new();
    for frame in &frames {
        scores.push(inspector.inspect(frame)?.score);
    }
    let alone = start.elapsed() / frames.len() as u32;
    drop(inspector);

    let inspector = open()?;
    let threshold = inspector.threshold();
    let clock = Clock::system();
    let reel = Reel { frames: Arc::new(frames), period: alone / 3, next: 0, due: Instant::now() };
    let setup = Setup {
        stages: Stages::new(inspector),
        camera: Box::new(reel),
        framing: Framing::default(),
        health: HealthSettings::default(),
        trigger: Trigger::free(),
        halts: Default::default(),
        lines: Box::new(NoLines),
        line: LineSettings { travel_ms: 5_000.0, ..LineSettings::default() },
        settings: Settings::default(),
        clock,
    };
    let mut pipeline = Pipeline::start(setup, |_| {})?;
    let records = pipeline.subscribe(10_000);
    let folder = tempfile::tempdir()?;
    let run = run_id();
    let journal_path = folder.path().join("journal.sqlite");
    let settings = journal::Settings { path: journal_path.clone(), ..Default::default() };
    pipeline.attach(Box::new(Journal::new(settings, &run)?))?;
    let kept = folder.path().join("kept");
    let settings = pictures::Settings { folder: kept, max_megabytes: 64, ..Default::default() };
    pipeline.attach(Box::new(Pictures::new(settings, &run)?))?;
    let page = web::Settings { listen: "127.0.0.1:0".into(), ..Default::default() };
    pipeline.attach(Box::new(WebPage::start(&page, pipeline.control())?))?;

    let warm = Duration::from_secs_f64((minutes * 60.0 / 5.0).clamp(5.0, 60.0));
    let begun = Instant::now();
    let end = begun + warm + Duration::from_secs_f64(minutes * 60.0);
    let (mut parts, mut latencies) = (0u64, Vec::new());
    let mut before = None;
    let mut verdicts = [0u64; 2];
    while Instant::now() < end {
        let record = records.recv_timeout(Duration::from_secs(10))?;
        parts += 1;
        if record.part != parts {
            return Err(format!("part {} came where {parts} was due", record.part).into());
        }
        let Some(inspection) = record.inspection() else {
            return Err(format!("part {parts}: {}", record.verdict).into());
        };
        // Threads can split the work differently: the last digits change.
        let known = scores.iter().any(|s| (s - inspection.score).abs() <= 1e-3 * s);
        let reject = inspection.score > threshold;
        if !known || (record.verdict == Verdict::Reject) != reject {
            return Err(format!("part {parts}: {} with score {}", record.verdict, inspection.score).into());
        }
        verdicts[usize::from(reject)] += 1;
        if begun.elapsed() >= warm {
            latencies.push(record.latency);
            if before.is_none() {
                before = Some((held()?, parts));
            }
        }
    }
    let ((memory, descriptors), first) = before.ok_or("no part after warming up")?;
    let (memory_after, descriptors_after) = held()?;
    let snapshot = pipeline.status().snapshot();
    let classify = pipeline.status().times(Stage::Classify).worst();
    pipeline.stop();
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() as f64 * share) as usize).min(latencies.len() - 1)];
    let rate = (parts - first) as f64 / (minutes * 60.0);
    println!("parts        {parts} ({} passed, {} rejected), {rate:.1} a second", verdicts[0], verdicts[1]);
    println!("alone        {:.1} a second, one after the other", 1.0 / alone.as_secs_f64());
    println!(
        "latency      {:.1?} (median), {:.1?} (99 %), {:.1?} (99.9 %), {:.1?} (longest)",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    println!("frames       {} dropped for newer ones, as the camera is faster", snapshot.dropped_frames);
    println!("memory       {memory:.1} MB, {memory_after:.1} MB at the end; longest classify {classify:.1?}");
    println!("descriptors  {descriptors}, {descriptors_after} at the end");
    println!("outputs      dropped {:?}, failed {:?}", snapshot.outputs_dropped, snapshot.outputs_failed);
    let told = journal::check(&journal_path)?;
    println!("journal      {} parts, {} twice, {} missing", told.parts, told.repeated, told.missing);
    if snapshot.faults.values().any(|n| *n > 0) {
        return Err(format!("faults: {:?}", snapshot.faults).into());
    }
    if memory_after > memory * 1.05 + 8.0 {
        return Err("memory grows".into());
    }
    if descriptors_after > descriptors {
        return Err("file descriptors grow".into());
    }
    Ok(())
}
