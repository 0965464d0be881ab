//! Passes records from the gate to outputs and subscribers. None of them can delay the gate: a full queue
//! drops its oldest record and counts it.

use std::ops::Deref;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::{HEARTBEAT, Shared};
use crate::output::Output;
use crate::record::{OutputCounts, Record, Severity};

/// Records that wait for the publisher, and for each output.
pub(super) const QUEUE: usize = 64;

/// Receives every part's record. Drop it to unsubscribe.
pub struct Subscription {
    records: Receiver<Arc<Record>>,
    _alive: Arc<()>,
}

impl Deref for Subscription {
    type Target = Receiver<Arc<Record>>;

    fn deref(&self) -> &Receiver<Arc<Record>> {
        &self.records
    }
}

struct Subscriber {
    to: Sender<Arc<Record>>,
    /// The receiver, to take the oldest record out.
    from: Receiver<Arc<Record>>,
    /// Shared with the subscription only.
    alive: Arc<()>,
    counts: Option<Arc<OutputCounts>>,
}

/// The subscribers.
#[derive(Default)]
pub(super) struct Publisher(Mutex<Vec<Subscriber>>);

impl Publisher {
    pub(super) fn subscribe(&self, capacity: usize, counts: Option<Arc<OutputCounts>>) -> Subscription {
        let (to, from) = bounded(capacity);
        let alive = Arc::new(());
        let subscription = Subscription { records: from.clone(), _alive: Arc::clone(&alive) };
        self.lock().push(Subscriber { to, from, alive, counts });
        subscription
    }

    fn publish(&self, record: &Arc<Record>) {
        let mut subscribers = self.lock();
        subscribers.retain(|s| Arc::strong_count(&s.alive) > 1);
        for subscriber in subscribers.iter() {
            let mut record = Arc::clone(record);
            while let Err(TrySendError::Full(back)) = subscriber.to.try_send(record) {
                record = back;
                if subscriber.from.try_recv().is_ok()
                    && let Some(counts) = &subscriber.counts
                {
                    counts.dropped.fetch_add(1, Relaxed);
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Subscriber>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Reports losses of outputs. Their own threads cannot: they may wait for the failing disk.
struct Losses {
    next: Instant,
    seen: u64,
    told: Option<Instant>,
}

impl Losses {
    const PROBLEM: &str = "outputs";
    /// How often to check, and how long to report a loss.
    const EACH: Duration = Duration::from_secs(1);
    const TOLD: Duration = Duration::from_secs(86_400);

    fn look(&mut self, shared: &Shared) {
        let now = shared.clock.now();
        if now < self.next {
            return;
        }
        self.next = now + Self::EACH;
        match shared.status.losses() {
            Some((count, text)) if count > self.seen => {
                (self.seen, self.told) = (count, Some(now));
                shared.status.raise(Self::PROBLEM, Severity::Warning, text);
            }
            _ if self.told.is_some_and(|told| now >= told + Self::TOLD) => {
                self.told = None;
                shared.status.clear(Self::PROBLEM);
            }
            _ => {}
        }
    }
}

/// Passes records on until the gate ends, then ends every subscription.
pub(super) fn run(
    shared: Arc<Shared>,
    publisher: Arc<Publisher>,
    records: Receiver<Arc<Record>>,
) -> impl FnOnce() + Send {
    move || {
        let mut losses = Losses { next: shared.clock.now(), seen: 0, told: None };
        loop {
            losses.look(&shared);
            match shared.clock.recv(&records, shared.clock.now() + HEARTBEAT) {
                Ok(record) => {
                    shared.status.settle_halt();
                    publisher.publish(&record);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        publisher.lock().clear();
    }
}

/// Feeds an output until its subscription ends.
pub(super) fn run_output(
    shared: Arc<Shared>,
    mut output: Box<dyn Output>,
    subscription: Subscription,
) -> impl FnOnce() + Send {
    const TICK: Duration = Duration::from_secs(1);
    move || {
        let (name, status) = (output.name(), &shared.status);
        let counts = status.output(name);
        let mut next_tick = shared.clock.now() + TICK;
        let mut failing = false;
        loop {
            let now = shared.clock.now();
            if now >= next_tick {
                next_tick = now + TICK;
                match output.tick(shared.clock.wall(), status) {
                    Ok(()) if failing => {}
                    Ok(()) => status.clear(name),
                    Err(e) => status.raise(name, Severity::Warning, e.chain()),
                }
            }
            match shared.clock.recv(&subscription, next_tick) {
                Ok(record) => {
                    let result = output.publish(&record);
                    failing = result.is_err();
                    if let Err(e) = result {
                        counts.failed.fetch_add(1, Relaxed);
                        status.raise(name, Severity::Warning, e.chain());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Err(e) = output.finish() {
            status.raise(name, Severity::Warning, e.chain());
        }
    }
}
