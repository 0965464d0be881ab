//! What the page has of the service around it: who may come in, and where to put things.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Map;

use super::{Additions, INSPECT, MOST_PICTURE, Settings, Tls, View};
use crate::access::accounts::Accounts;
use crate::access::{Audit, Limits, Registry, Who};
use crate::error::{Error, Result};
use crate::http::{self, Certificates, Gate, Larger};
use crate::output::Labeling;
use crate::output::journal::Past;
use crate::package::RecipeFolder;
use crate::record::{Severity, Status};

/// What the page needs of the service. It outlives the page, which is set up again when the configuration
/// changes.
#[derive(Clone, Default)]
pub(crate) struct Site {
    /// Copies rejects to the label folder.
    pub labeling: Option<Arc<dyn Labeling>>,
    /// The people who may sign in.
    pub registry: Arc<Registry>,
    /// Folder for a certificate that the service makes.
    pub state: Option<PathBuf>,
    /// Where changes are recorded.
    pub audit: Option<Arc<Audit>>,
    /// What the journal knows of earlier runs.
    pub past: Option<Arc<Past>>,
    /// The journal's file, and the folder of kept pictures.
    pub journal: Option<PathBuf>,
    pub kept: Option<PathBuf>,
    /// Packages to choose from.
    pub recipes: Option<RecipeFolder>,
    /// Routes of other rooms, and whether teaching is among them.
    pub additions: Additions,
    pub teaches: bool,
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
            certificates: self.certificates(settings, address)?,
            audit: self.audit.clone(),
            is_private: settings.view == View::SignedIn,
            is_local: http::is_local(address),
            // Ignored areas have the most.
            most_body: 256 << 10,
            too_large: "request body too large: at most 256 KiB",
            larger: Some(Larger {
                path: INSPECT,
                most_body: MOST_PICTURE,
                too_large: "request body too large: a picture has at most 64 MiB, and its length is told before",
            }),
            token_file: "web.token_file",
            listen: "web.listen",
        })
    }
}

impl Site {
    /// What connections are encrypted with. A page that should be encrypted is never served plainly instead.
    fn certificates(&self, settings: &Settings, address: SocketAddr) -> Result<Option<Arc<Certificates>>> {
        let made;
        let (certificate, key) = match (settings.tls, &settings.certificate, &settings.key) {
            (Tls::SelfSigned, _, _) => {
                let Some(state) = &self.state else {
                    return Err(Error::setting("web.tls", "the certificate has no folder to be kept in"));
                };
                made = http::self_signed(state, address.ip()).map_err(|e| e.with_key("web.tls"))?;
                (&made[0], &made[1])
            }
            (Tls::Off, Some(certificate), Some(key)) => (certificate, key),
            (Tls::Off, _, _) => return Ok(None),
        };
        Certificates::open(certificate, key).map(Some)
    }
}

/// Looks at the files that may change while the page runs, and tells what is wrong with them.
pub(super) fn look(gate: &Gate, status: &Status) {
    if let Some(members) = &gate.members {
        if let Some((before, after)) = members.look() {
            log::info!("web: the accounts have changed");
            if let Some(audit) = &gate.audit {
                let told = |accounts: &Accounts| {
                    accounts
                        .iter()
                        .map(|a| (a.name.clone(), a.role.name().into()))
                        .collect::<Map<_, _>>()
                        .into()
                };
                // A failure is told below.
                let _ = audit.note(&Who::service(), "accounts", told(&before), told(&after));
            }
        }
        show(status, "accounts", members.problem().map(|text| format!("web.accounts_file: {text}")));
    }
    if let Some(certificates) = &gate.certificates {
        show(status, "certificate", certificates.look());
    }
    show(status, "audit log", gate.audit.as_ref().and_then(|audit| audit.problem()));
}

fn show(status: &Status, component: &'static str, problem: Option<String>) {
    match problem {
        Some(text) => status.raise(component, Severity::Warning, text),
        None => status.clear(component),
    }
}
