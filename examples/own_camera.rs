//! A camera that weakrest does not know: `cargo run --release --example own_camera -- PACKAGE PICTURES`
//!
//! `Sdk` stands in for the library of your camera. It shows the pictures of a folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use weakrest::camera::{Camera, Captured, OpenCamera, Timing};
use weakrest::clock::Clock;
use weakrest::enroll::find_pictures;
use weakrest::pipeline::{Pipeline, Setup, Stages};
use weakrest::{Frame, Inspector, Result, Verdict};

struct Sdk {
    pictures: Vec<PathBuf>,
    next: Instant,
}

impl Sdk {
    const PERIOD: Duration = Duration::from_millis(200);

    /// The next picture, and when it was taken.
    fn grab(&mut self, timeout: Duration) -> Option<(PathBuf, Instant)> {
        let wait = self.next.saturating_duration_since(Instant::now());
        std::thread::sleep(wait.min(timeout));
        if wait > timeout || self.pictures.is_empty() {
            return None;
        }
        let at = std::mem::replace(&mut self.next, Instant::now() + Self::PERIOD);
        Some((self.pictures.remove(0), at))
    }
}

struct MyCamera {
    sdk: Sdk,
    picture: PathBuf,
}

impl Camera for MyCamera {
    fn wait(&mut self, timeout: Duration) -> Result<Option<Captured>> {
        let Some((picture, at)) = self.sdk.grab(timeout) else { return Ok(None) };
        self.picture = picture;
        // The time on the monotonic clock: it alone pairs a frame with a trigger.
        Ok(Some(Captured::at(at)))
    }

    /// Helps to pair frames with triggers.
    fn timing(&self) -> Timing {
        Timing { period: Some(Sdk::PERIOD), exposure: None }
    }

    fn read(&mut self, frame: &mut Frame) -> Result<()> {
        let picture = Frame::open(&self.picture)?;
        // `refill` keeps the frame's memory: no allocation per part.
        frame.refill(picture.width(), picture.height(), picture.color(), |pixels| {
            pixels.copy_from_slice(picture.pixels());
            Ok(())
        })
    }
}

struct MyOpener(PathBuf);

impl OpenCamera for MyOpener {
    /// Called again whenever the camera was lost.
    fn open(&mut self) -> Result<Box<dyn Camera>> {
        let sdk = Sdk { pictures: find_pictures(&self.0)?, next: Instant::now() };
        Ok(Box::new(MyCamera { sdk, picture: PathBuf::new() }))
    }

    fn describe(&self) -> String {
        format!("my camera, which looks at {}", self.0.display())
    }
}

/// The verdicts of the first parts.
pub fn inspect(package: &Path, pictures: &Path, parts: usize) -> Result<Vec<Verdict>> {
    let stages = Stages::new(Inspector::open(package)?);
    let setup = Setup::new(Clock::system(), stages, Box::new(MyOpener(pictures.into())));
    let pipeline = Pipeline::start(setup, |_| {})?;
    let records = pipeline.subscribe(parts);
    let verdicts = records.iter().take(parts).map(|record| record.verdict.clone()).collect();
    pipeline.stop();
    Ok(verdicts)
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [package, pictures] = arguments.as_slice() else { panic!("usage: own_camera PACKAGE PICTURES") };
    let parts = find_pictures(pictures.as_ref())?.len();
    for verdict in inspect(package.as_ref(), pictures.as_ref(), parts)? {
        println!("{verdict}");
    }
    Ok(())
}
