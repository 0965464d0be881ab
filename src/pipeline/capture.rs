//! The camera's thread: opens it, again and again if need be, and gives each part its frame.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, TrySendError};

use super::watch::Thread;
use super::{HEARTBEAT, Job, Jobs, Shared, Slot, Triggered};
use crate::camera::{Camera, Captured, Framing, Health, HealthSettings, OpenCamera, Unhealthy};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::Frame;
use crate::record::{FaultKind, Severity};

/// Waits between attempts to open a lost camera.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

pub(super) struct Queues {
    pub free: Receiver<Box<Slot>>,
    /// The other end of `free`, for a slot that is not used after all.
    pub back: Sender<Box<Slot>>,
    pub out: Sender<Job>,
    /// The other end of `out`, to take the oldest frame back.
    pub waiting: Jobs,
    /// Parts that wait for their frame. `None` when every frame is a part.
    pub triggers: Option<Receiver<Triggered>>,
}

pub(super) struct Capture {
    shared: Arc<Shared>,
    opener: Box<dyn OpenCamera>,
    framing: Framing,
    health: Health,
    timeout: Duration,
    queues: Queues,
    pending: VecDeque<Triggered>,
    most_pending: usize,
    raw: Frame,
}

impl Capture {
    pub(super) fn new(
        shared: Arc<Shared>,
        opener: Box<dyn OpenCamera>,
        framing: Framing,
        health: HealthSettings,
        timeout: Duration,
        queues: Queues,
    ) -> Self {
        let most_pending = queues.out.capacity().unwrap_or(1);
        let pending = VecDeque::with_capacity(most_pending);
        let health = Health::new(health);
        let raw = Frame::default();
        Capture { shared, opener, framing, health, timeout, queues, pending, most_pending, raw }
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
            // Whoever is triggered meanwhile is told at once, and does not wait for a camera that is not there.
            while !self.shared.stopping() && self.shared.clock.now() < until {
                self.beat();
                self.fail_pending();
                self.shared.clock.sleep_until((self.shared.clock.now() + HEARTBEAT / 2).min(until));
            }
        }
        self.take_triggers();
        for part in std::mem::take(&mut self.pending) {
            self.shared.fail(part.part, FaultKind::Stopped, "the service is stopping");
        }
    }

    /// One life of the camera, from opening it to losing it. Ends well only when the service stops.
    fn run_once(&mut self, wait: &mut Duration) -> Result<()> {
        let mut camera = self.opener.open()?;
        let clock = self.shared.clock.clone();
        let mut last = clock.now();
        while !self.shared.stopping() {
            self.beat();
            self.take_triggers();
            match camera.wait(self.patience())? {
                Some(captured) => {
                    last = clock.now();
                    *wait = FIRST_WAIT;
                    self.shared.status.clear("camera");
                    self.shared.status.counts.lost_frames.fetch_add(captured.lost, Relaxed);
                    self.take_triggers();
                    self.captured(&mut *camera, captured)?;
                }
                None if clock.now() - last >= self.timeout => {
                    return Err(Error::new(
                        ErrorKind::Camera,
                        format!(
                            "{} gave no frame for {} ms",
                            self.opener.describe(),
                            self.timeout.as_millis()
                        ),
                    ));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn patience(&self) -> Duration {
        HEARTBEAT.min(self.timeout)
    }

    fn beat(&self) {
        self.shared.beats.beat(Thread::Camera, self.shared.clock.now());
    }

    fn lost(&mut self, error: &Error) {
        self.shared.status.raise("camera", Severity::Error, error.chain());
        self.fail_pending();
    }

    fn fail_pending(&mut self) {
        self.take_triggers();
        while let Some(part) = self.pending.pop_front() {
            self.shared.fail(part.part, FaultKind::Camera, "the camera is lost");
        }
    }

    fn take_triggers(&mut self) {
        if let Some(triggers) = &self.queues.triggers {
            // What does not fit here waits in the channel, and what does not fit there is an overflow.
            while self.pending.len() < self.most_pending
                && let Ok(triggered) = triggers.try_recv()
            {
                self.pending.push_back(triggered);
            }
        }
    }

    fn captured(&mut self, camera: &mut dyn Camera, captured: Captured) -> Result<()> {
        if self.queues.triggers.is_none() {
            // The moment of the frame, told by the wall clock.
            let age = self.shared.clock.now().saturating_duration_since(captured.at);
            let wall = self.shared.clock.wall().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
            let Some(slot) = self.slot_for_newest() else { return Ok(()) };
            return self.fill(camera, slot, 0, captured.at, wall);
        }
        // A frame that was taken before the trigger shows the part too early.
        if self.pending.front().is_none_or(|part| part.at > captured.at) {
            return Ok(());
        }
        let Some(part) = self.pending.pop_front() else { return Ok(()) };
        match self.queues.free.try_recv() {
            Ok(slot) => self.fill(camera, slot, part.part, part.at, part.wall),
            Err(_) => {
                self.shared.fail(
                    part.part,
                    FaultKind::Overflow,
                    "parts come faster than they can be inspected",
                );
                Ok(())
            }
        }
    }

    /// A slot for a free-running camera's frame, if need be that of the oldest frame that nobody has begun with.
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
                // New stages are never dropped; this frame is, instead of the oldest one.
                let _ = self.shared.clock.send(&self.queues.out, swap);
                None
            }
            Err(_) => None,
        }
    }

    /// Reads the frame into the slot and sends it on its way.
    fn fill(
        &mut self,
        camera: &mut dyn Camera,
        mut slot: Box<Slot>,
        part: u64,
        triggered: Instant,
        wall: SystemTime,
    ) -> Result<()> {
        (slot.part, slot.triggered, slot.wall, slot.failed) = (part, triggered, wall, None);
        let record = Arc::make_mut(&mut slot.record);
        (record.has_frame, record.has_inspection) = (false, false);
        let frame = &mut record.frame_buffer;
        let read = if self.framing.is_identity() {
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
            self.shared.fail(part, FaultKind::Overflow, "parts come faster than they can be inspected");
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

impl Shared {
    fn counts_camera_loss(&self) {
        if !self.stopping() {
            self.status.counts.camera_losses.fetch_add(1, Relaxed);
        }
    }
}
