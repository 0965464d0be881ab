//! The camera's thread. It opens the camera, reopens a lost one, and gives each part its frame.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, TrySendError};

use super::pairing::{self, Found, Pairing, Unpaired};
use super::watch::Thread;
use super::{HEARTBEAT, Job, Jobs, Shared, Slot, Trigger, Triggered, late_frames};
use crate::camera::{Camera, Captured, Framing, Health, HealthSettings, OpenCamera, Unhealthy};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::Frame;
use crate::record::{FaultKind, Severity, Status};

/// Pauses between attempts to open a lost camera.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A camera is silent for at least so many of its periods before it is lost.
const PERIODS: u32 = 3;

pub(super) struct Settings {
    /// The camera is lost after this time without a frame.
    pub timeout: Duration,
    /// With a free-running camera: a larger share of uninspected frames is a warning.
    pub unjudged: f64,
    pub trigger: Trigger,
}

pub(super) struct Queues {
    pub free: Receiver<Box<Slot>>,
    /// The sender of `free`, to return an unused slot.
    pub back: Sender<Box<Slot>>,
    pub out: Sender<Job>,
    /// The receiver of `out`, to take the oldest frame back.
    pub waiting: Jobs,
}

pub(super) struct Capture {
    shared: Arc<Shared>,
    opener: Box<dyn OpenCamera>,
    framing: Framing,
    health: Health,
    settings: Settings,
    queues: Queues,
    unjudged: Unjudged,
    raw: Frame,
}

impl Capture {
    pub(super) fn new(
        shared: Arc<Shared>,
        opener: Box<dyn OpenCamera>,
        framing: Framing,
        health: HealthSettings,
        settings: Settings,
        queues: Queues,
    ) -> Self {
        Capture {
            unjudged: Unjudged::new(shared.clock.now()),
            shared,
            opener,
            framing,
            health: Health::new(health),
            settings,
            queues,
            raw: Frame::default(),
        }
    }

    pub(super) fn run(mut self) {
        let mut wait = FIRST_WAIT;
        while !self.shared.stopping() {
            match self.run_once(&mut wait) {
                Ok(()) => break,
                Err(e) => self.lost(&e),
            }
            self.shared.counts_camera_loss();
            let until = self.shared.clock.now() + wait;
            wait = (wait * 2).min(LONGEST_WAIT);
            // Parts triggered meanwhile fail at once; they do not wait for a missing camera.
            while !self.shared.stopping() && self.shared.clock.now() < until {
                self.beat();
                self.fail_waiting(Unpaired::CameraLost);
                self.shared.clock.sleep_until((self.shared.clock.now() + HEARTBEAT / 2).min(until));
            }
        }
        self.fail_waiting(Unpaired::Stopped);
    }

    /// One session of the camera, from opening to losing it. Returns `Ok` only when the service stops.
    fn run_once(&mut self, wait: &mut Duration) -> Result<()> {
        let mut camera = self.opener.open()?;
        let clock = self.shared.clock.clone();
        let trigger = &self.settings.trigger;
        let deadline = self.shared.shift().times().deadline;
        if let Some(mut pairing) = self.shared.pairing() {
            pairing.opened(trigger.window(camera.timing()));
        }
        match camera.timing().period.and_then(|period| Some((period, trigger.longest_wait(period)?))) {
            Some((period, wait)) if wait >= deadline => {
                let text = late_frames(period, wait, deadline);
                self.shared.status.raise(Status::SLOW_CAMERA, Severity::Warning, text);
            }
            _ => self.shared.status.clear(Status::SLOW_CAMERA),
        }
        if trigger.fires_camera {
            // Its first frame needs a part, and a stopped line has none.
            self.shared.status.clear("camera");
        }
        // A slow camera is not a lost one.
        let timeout = self.settings.timeout.max(camera.timing().period.unwrap_or_default() * PERIODS);
        let mut last = clock.now();
        while !self.shared.stopping() {
            self.beat();
            match camera.wait(self.patience())? {
                Some(captured) => {
                    last = clock.now();
                    *wait = FIRST_WAIT;
                    self.shared.status.clear("camera");
                    self.shared.status.counts.lost_frames.fetch_add(captured.lost, Relaxed);
                    self.captured(&mut *camera, captured)?;
                }
                None if self.silent_since(last).is_some_and(|since| clock.now() - since >= timeout) => {
                    return Err(Error::new(
                        ErrorKind::Camera,
                        format!("{} gave no frame for {} ms", self.opener.describe(), timeout.as_millis()),
                    ));
                }
                None => {}
            }
            self.with_pairing(|pairing, faults| pairing.expire(clock.now(), faults));
        }
        Ok(())
    }

    /// Since when frames are missing, if the latest one came at `last`. A camera that the trigger fires is silent between
    /// the parts.
    fn silent_since(&self, last: Instant) -> Option<Instant> {
        if !self.settings.trigger.fires_camera {
            return Some(last);
        }
        self.shared.pairing()?.unanswered().map(|at| at.max(last))
    }

    /// How long to wait for a frame before other work.
    fn patience(&self) -> Duration {
        let expiry = self.shared.pairing().and_then(|pairing| pairing.next_expiry());
        let expiry = expiry.map(|at| at.saturating_duration_since(self.shared.clock.now()));
        HEARTBEAT.min(self.settings.timeout).min(expiry.unwrap_or(HEARTBEAT))
    }

    /// As [`Shared::ask`], after the triggers that have come. `None` if each frame is a part.
    fn with_pairing<T>(
        &self,
        question: impl FnOnce(&mut Pairing, &mut Vec<pairing::Fault>) -> T,
    ) -> Option<T> {
        let mut pairing = self.shared.pairing()?;
        if let Err(e) = self.shared.take_edges(&mut pairing) {
            self.shared.status.raise("trigger", Severity::Error, e.chain());
        }
        Some(self.shared.ask(&mut pairing, question))
    }

    fn fail_waiting(&self, why: Unpaired) {
        self.with_pairing(|pairing, faults| pairing.fail_all(why, faults));
    }

    fn beat(&self) {
        self.shared.beats.beat(Thread::Camera, self.shared.clock.now());
    }

    fn lost(&self, error: &Error) {
        self.shared.status.raise("camera", Severity::Error, error.chain());
        self.fail_waiting(Unpaired::CameraLost);
    }

    fn captured(&mut self, camera: &mut dyn Camera, captured: Captured) -> Result<()> {
        let found = self.with_pairing(|pairing, faults| {
            let found = pairing.frame(&captured, faults);
            if let Found::Part(_) = &found {
                self.shared.shift().take_in_hand();
            }
            found
        });
        let result = self.found(camera, captured, found);
        self.shared.shift().let_go();
        result
    }

    fn found(&mut self, camera: &mut dyn Camera, captured: Captured, found: Option<Found>) -> Result<()> {
        match found {
            None => self.every_frame_is_a_part(camera, captured),
            Some(Found::Nothing) => Ok(()),
            Some(Found::Stray) => {
                let text = "the camera gave a frame without a trigger: a part may have passed unseen";
                self.shared.status.latch(Status::TRIGGER, text);
                Ok(())
            }
            Some(Found::Part(part)) => match self.queues.free.try_recv() {
                Ok(mut slot) if self.shared.shift().reach(part.at, &self.queues.out) => {
                    slot.certain = self.certain(&part);
                    self.fill(camera, slot, part.part, part.at, part.wall, false)
                }
                unused => {
                    let _ = unused.map(|slot| self.queues.back.try_send(slot));
                    self.shared.fail(part.part, FaultKind::Overflow, pairing::OVERFLOW);
                    Ok(())
                }
            },
        }
    }

    /// Time after which no second frame of this part can come, if the trigger fires the camera.
    fn certain(&self, part: &Triggered) -> Option<Instant> {
        let window = *self.shared.pairing()?.window();
        // At most half of the time to the verdict, or there would be none.
        window.exclusive.then(|| part.at + window.patience(part).min(part.deadline / 2))
    }

    fn every_frame_is_a_part(&mut self, camera: &mut dyn Camera, captured: Captured) -> Result<()> {
        let now = self.shared.clock.now();
        let at = captured.at.unwrap_or(now);
        let wall = self.shared.wall_at(at);
        let dropped = self.shared.status.counts.dropped_frames.load(Relaxed);
        let result = match self.slot_for_newest() {
            Some(mut slot) => {
                slot.certain = None;
                self.fill(camera, slot, 0, at, wall, captured.damaged)
            }
            None => Ok(()),
        };
        let dropped = self.shared.status.counts.dropped_frames.load(Relaxed) - dropped;
        if let Some(share) = self.unjudged.add(now, 1 + captured.lost, captured.lost + dropped) {
            self.shared.status.set_unjudged(share);
            if share > self.settings.unjudged {
                let text = format!(
                    "{:.1} % of the frames are not inspected, so parts may pass unseen: lower camera.rate, or use a trigger",
                    share * 1e2
                );
                self.shared.status.raise("unjudged frames", Severity::Warning, text);
            } else {
                self.shared.status.clear("unjudged frames");
            }
        }
        result
    }

    /// A slot for a free-running camera's frame. If none is free, the slot of the oldest waiting frame.
    fn slot_for_newest(&mut self) -> Option<Box<Slot>> {
        if !self.queues.out.is_full()
            && let Ok(slot) = self.queues.free.try_recv()
        {
            return Some(slot);
        }
        self.shared.status.counts.dropped_frames.fetch_add(1, Relaxed);
        match self.queues.waiting.try_recv() {
            Ok(Job::Part(slot)) => Some(slot),
            Ok(swap @ Job::Swap(_)) => {
                // New stages must not be dropped. They stay the first, or they could wait for ever.
                let mut oldest = None;
                while let Ok(Job::Part(slot)) = self.queues.waiting.try_recv() {
                    if let Some(slot) = oldest.replace(slot) {
                        self.shared.status.counts.dropped_frames.fetch_add(1, Relaxed);
                        let _ = self.queues.back.try_send(slot);
                    }
                }
                let _ = self.shared.clock.send(&self.queues.out, swap);
                oldest
            }
            Err(_) => None,
        }
    }

    /// Reads the frame into the slot and sends it to the stages.
    fn fill(
        &mut self,
        camera: &mut dyn Camera,
        mut slot: Box<Slot>,
        part: u64,
        triggered: Instant,
        wall: SystemTime,
        damaged: bool,
    ) -> Result<()> {
        (slot.part, slot.triggered, slot.wall, slot.failed) = (part, triggered, wall, None);
        let record = Arc::make_mut(&mut slot.record);
        (record.has_frame, record.has_inspection) = (false, false);
        let frame = &mut record.frame_buffer;
        let read = if damaged {
            Err(Error::new(ErrorKind::Image, "the camera marks the frame as damaged"))
        } else if self.framing.is_identity() {
            camera.read(frame)
        } else {
            camera.read(&mut self.raw).and_then(|()| self.framing.apply(&self.raw, frame))
        };
        let mut gone = None;
        match read {
            Ok(()) => {
                record.has_frame = true;
                if let Some(unhealthy) = self.health.check(&record.frame_buffer) {
                    slot.failed = Some((kind_of(unhealthy), unhealthy.to_string()));
                }
            }
            Err(e) => {
                let lost = e.kind() == ErrorKind::Camera;
                let kind = if lost { FaultKind::Camera } else { FaultKind::WrongFormat };
                slot.failed = Some((kind, e.chain()));
                gone = lost.then_some(e);
            }
        }
        let part = slot.part;
        if let Err(TrySendError::Full(Job::Part(slot))) = self.queues.out.try_send(Job::Part(slot)) {
            self.shared.fail(part, FaultKind::Overflow, pairing::OVERFLOW);
            let _ = self.queues.back.try_send(slot);
        }
        gone.map_or(Ok(()), Err)
    }
}

fn kind_of(unhealthy: Unhealthy) -> FaultKind {
    match unhealthy {
        Unhealthy::Frozen => FaultKind::Frozen,
        Unhealthy::Black => FaultKind::Black,
        Unhealthy::OverExposed => FaultKind::OverExposed,
        Unhealthy::Defocused => FaultKind::Defocused,
    }
}

/// Share of uninspected frames over the last seconds.
struct Unjudged {
    start: Instant,
    /// Frames and uninspected frames of each second.
    seconds: [(u64, u64); Unjudged::SECONDS],
    current: u64,
}

impl Unjudged {
    const SECONDS: usize = 10;
    /// With fewer frames there is no share.
    const LEAST: u64 = 20;

    fn new(now: Instant) -> Self {
        Unjudged { start: now, seconds: [(0, 0); Self::SECONDS], current: 0 }
    }

    /// Adds frames. Returns the share once a second.
    fn add(&mut self, now: Instant, frames: u64, unjudged: u64) -> Option<f64> {
        let second = now.saturating_duration_since(self.start).as_secs();
        let mut share = None;
        if second > self.current {
            let (all, missing) = self.seconds.iter().fold((0, 0), |sum, s| (sum.0 + s.0, sum.1 + s.1));
            share = (all >= Self::LEAST).then(|| missing as f64 / all as f64);
            for passed in self.current + 1..=second.min(self.current + Self::SECONDS as u64) {
                self.seconds[passed as usize % Self::SECONDS] = (0, 0);
            }
            self.current = second;
        }
        let bucket = &mut self.seconds[second as usize % Self::SECONDS];
        *bucket = (bucket.0 + frames, bucket.1 + unjudged);
        share
    }
}

impl Shared {
    fn counts_camera_loss(&self) {
        if !self.stopping() {
            self.status.counts.camera_losses.fetch_add(1, Relaxed);
        }
    }
}
