//! The people who may sign in, and where they did.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Watched;
use super::accounts::Accounts;
use super::sessions::Sessions;
use crate::error::Result;

/// Remembered places.
const MOST_PLACES: usize = 256;
/// Who signs in again and again from the same place is told once per this time, so that nobody can push older
/// lines out of the audit log.
const AGAIN: Duration = Duration::from_secs(3600);

/// Accounts and their sessions.
pub(crate) struct Members {
    accounts: Watched<Accounts>,
    /// The sessions.
    pub sessions: Sessions,
    /// Who has signed in from where, and when that was told.
    places: Mutex<VecDeque<(String, IpAddr, Instant)>>,
}

impl Members {
    /// Reads the file of accounts.
    ///
    /// # Errors
    /// As [`Accounts::read`].
    pub fn open(path: &Path) -> Result<Members> {
        let of = path.to_owned();
        let accounts = Watched::open(vec![path.to_owned()], move || Accounts::read(&of))?;
        Ok(Members { accounts, sessions: Sessions::default(), places: Mutex::default() })
    }

    /// The accounts: those of the file's last good state.
    pub fn accounts(&self) -> Arc<Accounts> {
        self.accounts.content()
    }

    /// Reads the file again if it has changed. Returns the accounts before and after that.
    pub fn look(&self) -> Option<(Arc<Accounts>, Arc<Accounts>)> {
        self.accounts.look()
    }

    /// Why the file as it is now is not in use.
    pub fn problem(&self) -> Option<String> {
        self.accounts.problem().map(|why| format!("{why}; the accounts of before stay in use"))
    }

    /// Whether this account has signed in from here before. Whoever guesses its password from elsewhere cannot
    /// keep its owner out.
    pub fn knows(&self, name: &str, from: IpAddr) -> bool {
        let places = self.places.lock().unwrap_or_else(|e| e.into_inner());
        places.iter().any(|place| (place.0.as_str(), place.1) == (name, from))
    }

    /// Remembers where an account has signed in. Returns whether it is to be told.
    pub fn remember(&self, name: &str, from: IpAddr, now: Instant) -> bool {
        let mut places = self.places.lock().unwrap_or_else(|e| e.into_inner());
        let known = places.iter().position(|place| (place.0.as_str(), place.1) == (name, from));
        let told = known.and_then(|i| places.remove(i)).map(|place| place.2);
        let told = told.filter(|told| now.saturating_duration_since(*told) < AGAIN);
        if places.len() >= MOST_PLACES {
            places.pop_front();
        }
        places.push_back((name.to_owned(), from, told.unwrap_or(now)));
        told.is_none()
    }
}

/// Keeps members while the page is set up again, as on a reload: nobody has to sign in again, and a file that
/// is broken at that moment locks nobody out.
#[derive(Default)]
pub(crate) struct Registry(Mutex<Option<Arc<Members>>>);

impl Registry {
    /// The members of a file.
    ///
    /// # Errors
    /// As [`Members::open`], for another file than before.
    pub fn members(&self, path: &Path) -> Result<Arc<Members>> {
        let mut known = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(members) = known.as_ref().filter(|members| members.accounts.files() == [path]) {
            return Ok(Arc::clone(members));
        }
        Ok(Arc::clone(known.insert(Arc::new(Members::open(path)?))))
    }
}
