//! Delays after wrong tokens and passwords, per address or name.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Wrong tokens without a delay: typing errors.
const FREE: u32 = 5;
/// The first delay. It doubles with each further wrong token.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A person who knows the token and shares the address waits as long. It is short for a person, and too long
/// for guessing 16 characters.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// An address with a longer queue is refused.
const LONGEST_QUEUE: Duration = Duration::from_secs(8);
/// One wrong token per this time is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// Remembered origins.
const MOST: usize = 1024;

/// Wrong tokens or passwords by their origin: an address, or a name.
#[derive(Debug)]
pub(super) struct Attempts<K>(Mutex<HashMap<K, Known>>);

impl<K> Default for Attempts<K> {
    fn default() -> Self {
        Attempts(Mutex::default())
    }
}

#[derive(Debug)]
struct Known {
    wrong: u32,
    last: Instant,
    /// When the next token of this address is checked.
    next: Instant,
}

impl Known {
    fn wrong(&self, now: Instant) -> u32 {
        let forgotten = now.saturating_duration_since(self.last).as_secs() / FORGOTTEN.as_secs();
        self.wrong.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }

    fn pause(&self, now: Instant) -> Duration {
        match self.wrong(now).checked_sub(FREE) {
            Some(above) => FIRST_PAUSE.saturating_mul(1 << above.min(16)).min(LONGEST_PAUSE),
            None => Duration::ZERO,
        }
    }
}

impl<K: Clone + Eq + Hash> Attempts<K> {
    /// The wait until a token of an address is checked, right or wrong. Tokens are checked one after the
    /// other.
    ///
    /// # Errors
    /// The wait of a full queue.
    pub fn turn(&self, from: K, now: Instant) -> Result<Duration, Duration> {
        let mut all = self.lock();
        let Some(known) = all.get_mut(&from) else { return Ok(Duration::ZERO) };
        let wait = known.next.saturating_duration_since(now);
        if wait > LONGEST_QUEUE {
            return Err(wait);
        }
        known.next = now + wait + known.pause(now);
        Ok(wait)
    }

    /// Counts a wrong token.
    pub fn is_wrong(&self, from: K, now: Instant) {
        let mut all = self.lock();
        if all.len() >= MOST && !all.contains_key(&from) {
            let oldest = all.iter().min_by_key(|(_, known)| known.last).map(|(from, _)| from.clone());
            oldest.and_then(|oldest| all.remove(&oldest));
        }
        let known = all.entry(from).or_insert(Known { wrong: 0, last: now, next: now });
        (known.wrong, known.last) = (known.wrong(now).saturating_add(1), now);
        known.next = known.next.max(now + known.pause(now));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Known>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const GUESSER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    /// How many tokens of a thousand a second are looked at in so many seconds.
    fn guesses(attempts: &Attempts<IpAddr>, begun: Instant, seconds: u64) -> usize {
        let all = (0..seconds * 1000).map(|ms| begun + Duration::from_millis(ms));
        let mut due: Vec<Instant> = Vec::new();
        let mut count = 0;
        for now in all {
            due.extend(attempts.turn(GUESSER, now).ok().map(|wait| now + wait));
            let (ready, later) = due.into_iter().partition(|at| *at <= now);
            due = later;
            let ready: Vec<Instant> = ready;
            count += ready.len();
            ready.iter().for_each(|_| attempts.is_wrong(GUESSER, now));
        }
        count
    }

    #[test]
    fn guessing_is_slow_however_it_is_done_and_costs_nobody_else_anything() {
        let (attempts, begun) = (Attempts::default(), Instant::now());
        let count = guesses(&attempts, begun, 60);
        assert!((FREE as usize..100).contains(&count), "{count} guesses in a minute");
        let now = begun + Duration::from_secs(60);
        assert!(attempts.turn(GUESSER, now).is_err_and(|wait| wait < Duration::from_secs(20)));
        assert_eq!(attempts.turn(OTHER, now), Ok(Duration::ZERO));
        // The queue is short, so that whoever shares the address gets in soon after.
        assert!(
            attempts.turn(GUESSER, now + LONGEST_QUEUE + LONGEST_PAUSE).is_ok_and(|w| w <= LONGEST_PAUSE)
        );
    }

    #[test]
    fn slips_cost_nothing_and_are_forgotten() {
        let (attempts, begun) = (Attempts::default(), Instant::now());
        for _ in 0..FREE - 1 {
            assert_eq!(attempts.turn(GUESSER, begun), Ok(Duration::ZERO));
            attempts.is_wrong(GUESSER, begun);
        }
        assert_eq!(attempts.turn(GUESSER, begun), Ok(Duration::ZERO));
        (0..20).for_each(|_| attempts.is_wrong(GUESSER, begun));
        assert!(attempts.turn(GUESSER, begun).unwrap() > Duration::ZERO);
        let later = begun + 30 * FORGOTTEN;
        assert_eq!(attempts.turn(GUESSER, later), Ok(Duration::ZERO));
        assert_eq!(attempts.turn(GUESSER, later), Ok(Duration::ZERO));
    }

    #[test]
    fn addresses_are_not_remembered_without_bound() {
        let (attempts, begun) = (Attempts::default(), Instant::now());
        for i in 0..10 * MOST as u32 {
            attempts.is_wrong(IpAddr::V4(i.into()), begun + Duration::from_micros(i.into()));
        }
        assert_eq!(attempts.lock().len(), MOST);
    }
}
