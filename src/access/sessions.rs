//! Sessions of signed-in people. They are in memory only, as hashes, and end with the process. All times are
//! monotonic: a clock that is set ends nothing and prolongs nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use super::Role;
use super::accounts::{Account, Accounts};
use crate::error::{Error, ErrorKind, Result};
use crate::files::hex;

/// Sessions of one account at the same time. A further one ends the oldest.
const MOST_OF_ACCOUNT: usize = 8;

/// How long a session lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Without anything that a person did. It does not end sessions of the role *view*.
    pub idle: Duration,
    /// In any case.
    pub absolute: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { idle: Duration::from_secs(30 * 60), absolute: Duration::from_secs(12 * 3600) }
    }
}

/// All sessions, by the hash of their secret.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

struct Session {
    name: String,
    /// The account's password when it was opened.
    credential: [u8; 32],
    begun: Instant,
    active: Instant,
}

impl Sessions {
    /// Opens a session, and returns its secret: 256 random bits in hexadecimal.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] without a source of randomness.
    pub fn open(&self, account: &Account, now: Instant) -> Result<String> {
        let mut secret = [0; 32];
        SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| Error::new(ErrorKind::Io, "the system gives no random numbers"))?;
        let secret = hex(&secret);
        let mut all = self.lock();
        let of_account = || all.iter().filter(|(_, session)| session.name == account.name);
        if of_account().count() >= MOST_OF_ACCOUNT {
            let oldest = of_account().min_by_key(|(_, session)| session.active).map(|(key, _)| *key);
            oldest.and_then(|oldest| all.remove(&oldest));
        }
        let (name, credential) = (account.name.clone(), account.credential());
        all.insert(key(&secret), Session { name, credential, begun: now, active: now });
        Ok(secret)
    }

    /// The account of a session, and its role now. `is_active` prolongs the session: a person did something.
    pub fn of(
        &self,
        secret: &str,
        accounts: &Accounts,
        limits: Limits,
        is_active: bool,
        now: Instant,
    ) -> Option<(String, Role)> {
        let mut all = self.lock();
        let key = key(secret);
        let session = all.get_mut(&key)?;
        let account = accounts.named(&session.name).filter(|a| a.credential() == session.credential);
        let since = |then: Instant| now.saturating_duration_since(then);
        let lives = |account: &&Account| {
            since(session.begun) < limits.absolute
                && (account.role == Role::View || since(session.active) < limits.idle)
        };
        let Some(account) = account.filter(lives) else {
            all.remove(&key);
            return None;
        };
        if is_active {
            session.active = now;
        }
        Some((account.name.clone(), account.role))
    }

    /// Ends a session.
    pub fn close(&self, secret: &str) {
        self.lock().remove(&key(secret));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn key(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests {
    use super::super::accounts;
    use super::*;

    #[test]
    fn sessions_end_when_they_should_and_not_before() {
        const LIMITS: Limits = Limits { idle: Duration::from_secs(60), absolute: Duration::from_secs(1000) };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts");
        let read = || Accounts::read(&path).unwrap();
        accounts::add(&path, "anna", Role::Operate, "correct horse").unwrap();
        accounts::add(&path, "wall", Role::View, "battery staple").unwrap();
        let (all, sessions, begun) = (read(), Sessions::default(), Instant::now());
        let after = |seconds: u64| begun + Duration::from_secs(seconds);
        let open = |name: &str| sessions.open(all.named(name).unwrap(), begun).unwrap();
        let role = |secret: &str, all: &Accounts, active: bool, seconds: u64| {
            sessions.of(secret, all, LIMITS, active, after(seconds)).map(|(_, role)| role)
        };
        let (anna, wall) = (open("anna"), open("wall"));
        assert!(anna.len() == 64 && anna != wall);
        assert!(!sessions.lock().keys().any(|key| hex(key) == anna), "only a hash is kept");
        // Looking alone does not prolong it.
        assert_eq!(role(&anna, &all, false, 59), Some(Role::Operate));
        assert_eq!(role(&anna, &all, false, 60), None);
        assert_eq!(role(&anna, &all, true, 1), None, "what has ended stays ended");
        assert_eq!(role(&wall, &all, false, 999), Some(Role::View));
        assert_eq!(role(&wall, &all, true, 1000), None);
        let anna = open("anna");
        assert!((1..20).all(|i| role(&anna, &all, true, 50 * i).is_some()));
        assert_eq!(role(&anna, &all, true, 1000), None);
        // A new role counts at once; a new password, or none, ends the session.
        let anna = open("anna");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("anna operate", "anna engineer")).unwrap();
        assert_eq!(role(&anna, &read(), true, 1), Some(Role::Engineer));
        accounts::add(&path, "anna", Role::Engineer, "correct horse").unwrap();
        assert_eq!(role(&anna, &read(), true, 1), None);
        let wall = open("wall");
        accounts::remove(&path, "wall").unwrap();
        assert_eq!(role(&wall, &read(), true, 1), None);
        for _ in 0..100 {
            open("anna");
        }
        assert!(sessions.lock().len() <= MOST_OF_ACCOUNT);
        let anna = open("anna");
        sessions.close(&anna);
        assert_eq!(role(&anna, &all, true, 1), None);
    }
}
