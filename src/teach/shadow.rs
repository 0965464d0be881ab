//! A package in shadow: it judges live parts beside the active one, and acts on nothing.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde::Serialize;

use super::Recent;
use super::trial::Trial;
use crate::error::{Error, ErrorKind, Result};
use crate::files::write_file;
use crate::output::pictures::png_of;
use crate::program::{Program, Stop};

/// A part that both packages judged.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Twice {
    /// The part's id among the latest parts.
    pub id: u64,
    pub part: u64,
    /// The active package's verdict, and the new one's.
    pub active: &'static str,
    pub shadow: &'static str,
    /// The new one's score, as a multiple of its threshold.
    pub ratio: f64,
}

/// The state of a shadow, for the page.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Seen {
    /// Whether it runs, and the package.
    pub running: bool,
    pub package: String,
    /// Parts that both judged.
    pub parts: u64,
    /// Of these, rejected by the active package, and by the new one.
    pub active_rejects: u64,
    pub shadow_rejects: u64,
    /// The latest parts of which the verdicts differ.
    pub differing: VecDeque<Twice>,
    /// Why it ended.
    pub error: Option<String>,
}

/// A running shadow, or none.
#[derive(Default)]
pub(crate) struct Shadow {
    parts: Option<Sender<Recent>>,
    stop: Stop,
    seen: Arc<Mutex<Seen>>,
}

/// Parts that wait for the next start of the program: it takes as many at once.
const BATCH: usize = 16;
/// Differing parts that are kept for the page.
const KEPT: usize = 24;

impl Shadow {
    /// Starts a shadow of the package in `folder`.
    pub fn start(folder: PathBuf, trial: Trial, program: Program) -> Result<Shadow> {
        let (to, parts) = bounded(BATCH);
        let seen = Arc::new(Mutex::new(Seen { running: true, package: trial.package, ..Seen::default() }));
        let stop = Stop::default();
        let judge = Judge { folder, program, parts, stop: stop.clone(), seen: Arc::clone(&seen) };
        std::thread::Builder::new()
            .name("shadow".into())
            .spawn(move || judge.run())
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))?;
        Ok(Shadow { parts: Some(to), stop, seen })
    }

    /// Hands over a part, if there is room for it.
    pub fn see(&mut self, part: &Recent) {
        if let Some(parts) = &self.parts
            && let Err(TrySendError::Disconnected(_)) = parts.try_send(part.clone())
        {
            self.parts = None;
        }
    }

    pub fn stop(&mut self) {
        self.parts = None;
        self.stop.stop();
        lock(&self.seen).running = false;
    }

    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(|e| e.into_inner())
}

struct Judge {
    folder: PathBuf,
    program: Program,
    parts: Receiver<Recent>,
    stop: Stop,
    seen: Arc<Mutex<Seen>>,
}

impl Judge {
    fn run(self) {
        let result = self.judge();
        let mut seen = lock(&self.seen);
        seen.running = false;
        if let (Err(e), false) = (result, self.stop.is_asked()) {
            seen.error = Some(e.chain());
        }
    }

    fn judge(&self) -> Result<()> {
        let place = tempfile::tempdir().map_err(|e| Error::io("write to", &std::env::temp_dir(), e))?;
        while let Ok(first) = self.parts.recv() {
            let batch: Vec<Recent> = std::iter::once(first).chain(self.parts.try_iter()).collect();
            let mut files = Vec::new();
            for part in &batch {
                let file = place.path().join(format!("{}.png", part.id));
                let failed = |e| Error::new(ErrorKind::Image, "cannot encode a picture").with_source(e);
                write_file(&file, &png_of(&part.frame).map_err(failed)?)?;
                files.push(file);
            }
            let paths: Vec<&Path> =
                std::iter::once(self.folder.as_path()).chain(files.iter().map(PathBuf::as_path)).collect();
            self.program.run(&["inspect"], &paths, &self.stop, |line| {
                let file = Path::new(line["image"].as_str().unwrap_or_default());
                let id = file.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
                let part = batch.iter().find(|part| Some(part.id) == id);
                let verdict = match line["verdict"].as_str() {
                    Some("pass") => "pass",
                    Some("reject") => "reject",
                    _ => "fault",
                };
                let (score, threshold) = (line["score"].as_f64(), line["threshold"].as_f64());
                let Some(part) = part else { return };
                let ratio = score.zip(threshold).map_or(f64::NAN, |(s, t)| s / t);
                self.count(Twice {
                    id: part.id,
                    part: part.part,
                    active: part.verdict,
                    shadow: verdict,
                    ratio,
                });
            })?;
            for file in files {
                let _ = std::fs::remove_file(file);
            }
        }
        Ok(())
    }

    fn count(&self, part: Twice) {
        let mut seen = lock(&self.seen);
        seen.parts += 1;
        seen.active_rejects += u64::from(part.active == "reject");
        seen.shadow_rejects += u64::from(part.shadow != "pass");
        if part.active != part.shadow {
            seen.differing.push_back(part);
            if seen.differing.len() > KEPT {
                seen.differing.pop_front();
            }
        }
    }
}
