//! Time, handed in: the machine's own, or a simulated one in which tests run a whole line faster than real.
//!
//! Whatever waits, waits through a [`Clock`]. Simulated time stands still until [`Simulation::advance`] moves it, and
//! moves only while every thread that takes part waits for something that has not happened: the order of events does not
//! depend on how fast the machine is.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError};
use rustix::thread::futex;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Where time comes from. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Option<Arc<Simulated>>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Clock(simulated)" } else { "Clock(system)" })
    }
}

impl Clock {
    /// The machine's own time.
    pub fn system() -> Self {
        Clock(None)
    }

    /// Monotonic time: never steps, whatever happens to the wall clock.
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(simulated) => simulated.origin + simulated.lock().now,
        }
    }

    /// Time of day, for records. It may step, so nothing is scheduled by it.
    pub fn wall(&self) -> SystemTime {
        match &self.0 {
            None => SystemTime::now(),
            Some(simulated) => {
                let state = simulated.lock();
                let since = state.wall + state.now;
                SystemTime::UNIX_EPOCH + since
            }
        }
    }

    /// Waits until `when`.
    pub fn sleep_until(&self, when: Instant) {
        match &self.0 {
            None => std::thread::sleep(when.saturating_duration_since(Instant::now())),
            Some(simulated) => simulated.wait(Some(when), || false),
        }
    }

    /// Waits until `when`, or until the bell rings. Real time is counted by a timer of the kernel that is set to the
    /// moment itself: whatever delays the caller beforehand does not delay the end.
    pub fn wait(&self, bell: &Bell, when: Instant) {
        let Some(simulated) = &self.0 else { return bell.wait(when) };
        simulated.wait(Some(when), || bell.answer());
    }

    /// Whether this is the machine's own time.
    pub fn is_system(&self) -> bool {
        self.0.is_none()
    }

    /// The next message, if one comes before `deadline`.
    ///
    /// # Errors
    /// As [`Receiver::recv_deadline`].
    pub fn recv<T: 'static>(&self, from: &Receiver<T>, deadline: Instant) -> Result<T, RecvTimeoutError> {
        let Some(simulated) = &self.0 else { return from.recv_deadline(deadline) };
        let mut result = Err(RecvTimeoutError::Timeout);
        simulated.wait(Some(deadline), || {
            match from.try_recv() {
                Ok(message) => result = Ok(message),
                Err(TryRecvError::Disconnected) => result = Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => return false,
            }
            true
        });
        result
    }

    /// Sends a message as soon as there is room for it. Gives it back when nobody is left to receive it.
    ///
    /// # Errors
    /// The message.
    pub fn send<T: 'static>(&self, to: &Sender<T>, message: T) -> Result<(), T> {
        let Some(simulated) = &self.0 else { return to.send(message).map_err(|e| e.0) };
        let mut waiting = Some(message);
        let mut result = Ok(());
        simulated.wait(None, || {
            let Some(message) = waiting.take() else { return true };
            match to.try_send(message) {
                Ok(()) => return true,
                Err(TrySendError::Disconnected(back)) => result = Err(back),
                Err(TrySendError::Full(back)) => {
                    waiting = Some(back);
                    return false;
                }
            }
            true
        });
        result
    }

    /// Registers a thread: until the guard is dropped, simulated time moves only while that thread waits. Called
    /// before the thread is started, so that time cannot run ahead of it.
    pub fn participant(&self) -> Participant {
        if let Some(simulated) = &self.0 {
            simulated.lock().threads += 1;
        }
        Participant(self.clone())
    }
}

/// The moment that the kernel's monotonic clock tells as `stamp`: cameras and edges of lines are stamped so. `None` for a
/// stamp from the future, which is of another clock; the estimates of USB cameras may be a little ahead, and mean now.
pub(crate) fn at_monotonic(stamp: Duration) -> Option<Instant> {
    const AHEAD: Duration = Duration::from_millis(20);
    // `Instant` counts on the same clock, but does not tell it. The two readings that lie closest together pair them, so
    // that a thread that is held up in between does no harm.
    static PAIR: OnceLock<(Instant, Duration)> = OnceLock::new();
    let now = || {
        let clock = clock_gettime(ClockId::Monotonic);
        Duration::new(clock.tv_sec.try_into().unwrap_or(0), clock.tv_nsec.try_into().unwrap_or(0))
    };
    let (instant, monotonic) = *PAIR.get_or_init(|| {
        let reading = || {
            let (instant, clock) = (Instant::now(), now());
            (instant.elapsed(), (instant, clock))
        };
        let best = (0..32).map(|_| reading()).min_by_key(|(apart, _)| *apart);
        best.unwrap_or_else(reading).1
    });
    let latest = now();
    if stamp > latest + AHEAD {
        return None;
    }
    let stamp = stamp.min(latest);
    if stamp >= monotonic {
        instant.checked_add(stamp - monotonic)
    } else {
        instant.checked_sub(monotonic - stamp)
    }
}

/// Wakes the thread that waits for it by [`Clock::wait`], now or the next time. Who rings never waits.
#[derive(Debug, Default)]
pub struct Bell(AtomicU32);

impl Bell {
    /// Rings it.
    pub fn ring(&self) {
        self.0.store(1, Release);
        // Fails only for an invalid address.
        let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
    }

    /// Whether it has rung since this was asked last.
    fn answer(&self) -> bool {
        self.0.swap(0, AcqRel) == 1
    }

    fn wait(&self, when: Instant) {
        while !self.answer() {
            // An `Instant` does not tell its number. Read in this order, the timer is early at most, and set again.
            let clock = clock_gettime(ClockId::Monotonic);
            let left = when.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let nanos = clock.tv_nsec + i64::from(left.subsec_nanos());
            let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
            let until = Timespec {
                tv_sec: clock.tv_sec.saturating_add(seconds).saturating_add(nanos / 1_000_000_000),
                tv_nsec: nanos % 1_000_000_000,
            };
            // Woken, out of time, interrupted or rung already: all is seen above.
            let _ = futex::wait_bitset(&self.0, futex::Flags::PRIVATE, 0, Some(&until), NonZeroU32::MAX);
        }
    }
}

/// A thread that simulated time waits for. See [`Clock::participant`].
#[derive(Debug)]
pub struct Participant(Clock);

impl Drop for Participant {
    fn drop(&mut self) {
        if let Some(simulated) = &self.0.0 {
            simulated.lock().threads -= 1;
            simulated.changed.notify_all();
        }
    }
}

/// Moves simulated time. When it is dropped, whatever is waited for happens at once, so that threads can end.
#[derive(Debug)]
pub struct Simulation(Arc<Simulated>);

/// How long the threads of a simulation may compute before it is taken to hang.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// How often conditions are looked at that nobody announces, such as a message in a channel.
const POLL: Duration = Duration::from_micros(100);

impl Simulation {
    /// A simulated clock, at the start of 2026, and what moves it.
    pub fn start() -> (Clock, Simulation) {
        let simulated = Arc::new(Simulated {
            origin: Instant::now(),
            state: Mutex::new(SimulatedState {
                now: Duration::ZERO,
                wall: Duration::from_secs(1_767_225_600),
                threads: 0,
                waiting: Vec::new(),
                ended: false,
                moves: 0,
            }),
            changed: Condvar::new(),
            ids: AtomicU64::new(0),
        });
        (Clock(Some(Arc::clone(&simulated))), Simulation(simulated))
    }

    /// Moves time on by `by`, stopping at every moment that a thread waits for, and waits until all have done what
    /// there was to do.
    ///
    /// # Errors
    /// A message when a thread neither waits nor ends for a minute of real time.
    pub fn advance(&self, by: Duration) -> Result<(), String> {
        let target = {
            let mut state = self.0.lock();
            // The caller may have done something, too.
            state.moves += 1;
            state.now + by
        };
        let mut since = Instant::now();
        loop {
            {
                let mut state = self.0.lock();
                if state.settled() {
                    let next = state.waiting.iter().filter_map(|w| w.until).min();
                    match next.filter(|next| *next <= target) {
                        // What was due has been seen by its thread, or it would not have settled.
                        Some(next) if next > state.now => {
                            state.now = next;
                            since = Instant::now();
                        }
                        Some(_) => {}
                        None => {
                            state.now = target;
                            return Ok(());
                        }
                    }
                    self.0.changed.notify_all();
                }
                if since.elapsed() > HANGS_AFTER {
                    return Err(format!(
                        "{} of {} threads wait, the others hang",
                        state.waiting.len(),
                        state.threads
                    ));
                }
            }
            std::thread::sleep(POLL);
        }
    }

    /// Lets time pass while no thread runs, as when the process is stopped. What was due meanwhile is seen when time is
    /// moved the next time.
    ///
    /// # Errors
    /// As [`Simulation::advance`].
    pub fn stall(&self, by: Duration) -> Result<(), String> {
        self.advance(Duration::ZERO)?;
        self.0.lock().now += by;
        self.0.changed.notify_all();
        Ok(())
    }

    /// Steps the wall clock, as an operator or a time server does. Monotonic time does not notice.
    pub fn step_wall(&self, forward: bool, by: Duration) {
        let mut state = self.0.lock();
        state.wall = if forward { state.wall + by } else { state.wall.saturating_sub(by) };
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

struct Simulated {
    origin: Instant,
    state: Mutex<SimulatedState>,
    changed: Condvar,
    ids: AtomicU64,
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Simulated")
    }
}

struct SimulatedState {
    now: Duration,
    wall: Duration,
    threads: usize,
    waiting: Vec<Waiting>,
    /// Nobody moves time any more: whoever waits for it has it.
    ended: bool,
    /// Counts threads' beginning and ending to wait. What one of them did may be news to another, which therefore has
    /// to look again.
    moves: u64,
}

struct Waiting {
    id: u64,
    until: Option<Duration>,
    /// [`SimulatedState::moves`] when this thread last looked and found nothing to do.
    looked: Option<u64>,
}

impl SimulatedState {
    fn settled(&self) -> bool {
        self.waiting.len() == self.threads
            && self
                .waiting
                .iter()
                .all(|w| w.looked == Some(self.moves) && w.until.is_none_or(|until| until > self.now))
    }
}

impl Simulated {
    fn lock(&self) -> MutexGuard<'_, SimulatedState> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits until `until`, or until `ready`.
    fn wait(&self, until: Option<Instant>, mut ready: impl FnMut() -> bool) {
        let until = until.map(|u| u.saturating_duration_since(self.origin));
        let id = self.ids.fetch_add(1, Relaxed);
        let mut state = self.lock();
        state.waiting.push(Waiting { id, until, looked: None });
        state.moves += 1;
        loop {
            if state.ended {
                state.now = state.now.max(until.unwrap_or_default());
            }
            if ready() || until.is_some_and(|until| state.now >= until) {
                state.waiting.retain(|w| w.id != id);
                state.moves += 1;
                return;
            }
            let moves = state.moves;
            if let Some(own) = state.waiting.iter_mut().find(|w| w.id == id) {
                own.looked = Some(moves);
            }
            state = self.changed.wait_timeout(state, POLL).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }
}
