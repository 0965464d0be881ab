//! The machine's time, or a simulated one for tests.
//!
//! All waiting goes through a [`Clock`]. Simulated time stands still until [`Simulation::advance`] moves it. It moves only
//! while every participating thread waits, so the order of events does not depend on the machine's speed.
//!
//! ```
//! use std::time::Duration;
//! use weakrest::clock::{Clock, Participant, Simulation};
//!
//! let (clock, simulation) = Simulation::start();
//! let start = clock.now();
//! simulation.advance(Duration::from_secs(3600))?;
//! assert_eq!(clock.now() - start, Duration::from_secs(3600));
//!
//! // A thread of your own, for which time waits.
//! let (own, participant): (Clock, Participant) = (clock.clone(), clock.participant());
//! let thread = std::thread::spawn(move || {
//!     let _participant = participant;
//!     own.sleep_until(own.now() + Duration::from_secs(5));
//! });
//! simulation.advance(Duration::from_secs(6))?;
//! thread.join().ok();
//! # Ok::<(), String>(())
//! ```

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError};
use rustix::thread::futex;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// A source of time: [`Clock::system`] or [`Simulation::start`]. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Option<Arc<Simulated>>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Clock(simulated)" } else { "Clock(system)" })
    }
}

impl Clock {
    /// The machine's time.
    pub fn system() -> Self {
        Clock(None)
    }

    /// Monotonic time. It never steps.
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(simulated) => simulated.origin + simulated.lock().now,
        }
    }

    /// Time of day, for records. It can step: do not schedule by it.
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

    /// Waits until `when`, or until the bell rings. In real time, a kernel timer is set to the moment itself: a delay of
    /// the caller before does not delay the end.
    pub(crate) fn wait(&self, bell: &Bell, when: Instant) {
        let Some(simulated) = &self.0 else { return bell.wait(when) };
        simulated.wait(Some(when), || bell.answer());
    }

    /// Whether this is the machine's time.
    pub(crate) fn is_system(&self) -> bool {
        self.0.is_none()
    }

    /// Waits for a message until `deadline`.
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

    /// Sends a message, and waits until there is room for it.
    ///
    /// # Errors
    /// The message, if the receiver is gone.
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

    /// Registers a thread: until the guard is dropped, simulated time moves only while that thread waits. Call it before
    /// the thread starts, or time can run ahead of it.
    pub fn participant(&self) -> Participant {
        if let Some(simulated) = &self.0 {
            simulated.lock().threads += 1;
        }
        Participant(self.clone())
    }
}

/// The moment of a stamp of the kernel's monotonic clock, such as a camera's or a line's. `None` for a stamp from the
/// future, which is another clock's. USB cameras estimate: a stamp that is a little ahead means now.
pub(crate) fn at_monotonic(stamp: Duration) -> Option<Instant> {
    const AHEAD: Duration = Duration::from_millis(20);
    // `Instant` is the same clock, but hides its number. The closest two readings of 32 pair them: a thread that is
    // interrupted in between does no harm.
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

/// Wakes the thread in [`Clock::wait`], now or the next time. Ringing never blocks.
#[derive(Debug, Default)]
pub(crate) struct Bell(AtomicU32);

impl Bell {
    /// Rings it.
    pub(crate) fn ring(&self) {
        self.0.store(1, Release);
        // Fails only for an invalid address.
        let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
    }

    /// Whether it has rung since the last call.
    fn answer(&self) -> bool {
        self.0.swap(0, AcqRel) == 1
    }

    fn wait(&self, when: Instant) {
        while !self.answer() {
            // An `Instant` hides its number. In this order the timer can only be early, and is then set again.
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
            // Woken, timed out, interrupted or already rung: the loop sees which.
            let _ = futex::wait_bitset(&self.0, futex::Flags::PRIVATE, 0, Some(&until), NonZeroU32::MAX);
        }
    }
}

/// A registered thread: see [`Clock::participant`].
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

/// Moves simulated time. After its drop all waits end at once, so threads can end.
#[derive(Debug)]
pub struct Simulation(Arc<Simulated>);

/// Longest time in which a simulation's threads compute without a wait. Beyond it, they hang.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Interval at which conditions without notification are checked, such as a message in a channel.
const POLL: Duration = Duration::from_micros(100);

impl Simulation {
    /// A simulated clock, which begins in 2026, and its control.
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

    /// Moves time forward by `by`. It stops at every moment that a thread waits for, until all threads wait again.
    ///
    /// # Errors
    /// A message, if a thread neither waits nor ends for a minute of real time.
    pub fn advance(&self, by: Duration) -> Result<(), String> {
        let target = {
            let mut state = self.0.lock();
            // The caller can have changed something.
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
                        // The thread has seen what was due, or the state would not be settled.
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

    /// Lets time pass while no thread runs, as in a stopped process. The threads see it when time moves next.
    ///
    /// # Errors
    /// As [`Simulation::advance`].
    pub fn stall(&self, by: Duration) -> Result<(), String> {
        self.advance(Duration::ZERO)?;
        self.0.lock().now += by;
        self.0.changed.notify_all();
        Ok(())
    }

    /// Steps the time of day, like an operator or a time server. Monotonic time does not change.
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
    /// The [`Simulation`] is dropped: all waits end.
    ended: bool,
    /// Counts the begins and ends of waits. After each, every thread has to check its condition again.
    moves: u64,
}

struct Waiting {
    id: u64,
    until: Option<Duration>,
    /// [`SimulatedState::moves`] when this thread last found nothing to do.
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

/// Milliseconds since 1970, UTC; 0 for a clock that was never set.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX))
}

/// Year, month, day, hour, minute, second, millisecond, UTC.
pub(crate) fn civil(time: SystemTime) -> [u64; 7] {
    let ms = unix_ms(time);
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    // Years begin in March, so that a leap day is the last of its year (Howard Hinnant, "chrono-compatible
    // low-level date algorithms").
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    [year, month, day, of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60, of_day % 1000]
}

/// A time as text, UTC, such as `2026-03-01T14:05:09.250Z`.
pub(crate) fn utc(time: SystemTime) -> String {
    let [year, month, day, hour, minute, second, millis] = civil(time);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}
