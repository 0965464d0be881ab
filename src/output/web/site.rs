//! What the page has of the service around it: who may come in, and where to put things.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Settings, View};
use crate::access::{Limits, Registry};
use crate::error::Result;
use crate::http::{self, Gate};
use crate::output::Labeling;
use crate::record::{Severity, Status};

/// What the page needs of the service. It outlives the page, which is set up again when the configuration
/// changes.
#[derive(Clone, Default)]
pub(crate) struct Site {
    /// Copies rejects to the label folder.
    pub labeling: Option<Arc<dyn Labeling>>,
    /// The people who may sign in.
    pub registry: Arc<Registry>,
}

impl Site {
    /// What requests to the page must satisfy.
    ///
    /// # Errors
    /// Those of the files that the settings name.
    pub(super) fn gate(&self, settings: &Settings, address: SocketAddr) -> Result<Gate> {
        let members = settings.accounts_file.as_deref().map(|path| self.registry.members(path)).transpose();
        Ok(Gate {
            token: settings.token()?,
            members: members.map_err(|e| e.with_key("web.accounts_file"))?,
            limits: Limits {
                idle: Duration::from_secs(60 * u64::from(settings.session_idle_minutes)),
                absolute: Duration::from_secs(3600 * u64::from(settings.session_hours)),
            },
            is_private: settings.view == View::SignedIn,
            is_local: http::is_local(address),
            // Requests have no body; this is more than enough.
            most_body: 1024,
            too_large: "request body too large: requests need no body",
            token_file: "web.token_file",
            listen: "web.listen",
        })
    }
}

/// Looks at the files that may change while the page runs, and tells what is wrong with them.
pub(super) fn look(gate: &Gate, status: &Status) {
    if let Some(members) = &gate.members {
        if members.look().is_some() {
            log::info!("web: the accounts have changed");
        }
        match members.problem() {
            Some(text) => status.raise("accounts", Severity::Warning, format!("web.accounts_file: {text}")),
            None => status.clear("accounts"),
        }
    }
}
