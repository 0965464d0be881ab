//! What `weakrest check` says of the web page: who may do what, its certificate, and its audit log.

use std::path::Path;
use std::time::SystemTime;

use crate::access::Role;
use crate::access::accounts::Accounts;
use crate::access::audit::chain::walk;
use crate::http::{Certificate, day_of};
use crate::output::web::{Settings, Tls, View};
use crate::state::StateFolder;
use crate::{Error, ErrorKind, Result};

/// Prints the page's state. Writes nothing: what the service makes at its start may not be there yet.
///
/// # Errors
/// What keeps the page from being served, naming the key.
pub fn say_page(settings: &Settings, state: &StateFolder) -> Result<()> {
    let files = state.file("web-certificate.pem");
    let certificate = match (settings.tls, &settings.certificate, &settings.key) {
        (Tls::SelfSigned, ..) if !files.exists() => None,
        (Tls::SelfSigned, ..) => Some(Certificate::read(&files, &state.file("web-key.pem"))?),
        (Tls::Off, Some(certificate), Some(key)) => Some(Certificate::read(certificate, key)?),
        (Tls::Off, ..) => None,
    };
    let is_encrypted = settings.tls == Tls::SelfSigned || settings.certificate.is_some();
    let looks = match settings.view {
        View::Everyone => "everyone may look",
        View::SignedIn => "only who is signed in may look",
    };
    let way = if is_encrypted { "https" } else { "http" };
    say!("web page       {way}://{}/, {looks}", settings.listen)?;
    match &certificate {
        Some(certificate) => {
            let end = certificate.end.map_or_else(|| "at a time that cannot be read".into(), day_of);
            say!("certificate    ends {end}; SHA-256 {}", certificate.fingerprint)?;
            if let Some(problem) = certificate.problem(SystemTime::now()) {
                say!("               {problem}")?;
            }
        }
        None if is_encrypted => say!("certificate    the service makes it at its start")?,
        None => say!("certificate    none: passwords and pictures can be read on the way")?,
    }
    let has_token = settings.check_token()?;
    if let Some(path) = &settings.accounts_file {
        let accounts = Accounts::read(path).map_err(|e| e.with_key("web.accounts_file"))?;
        let with = |role| accounts.iter().filter(|account| account.role == role).count();
        let roles = Role::ALL.map(|role| format!("{} {role}", with(role)));
        say!("changes        by accounts: {}", roles.join(", "))?;
        if with(Role::Engineer) == 0 && !has_token {
            say!("               nobody may do what needs the role engineer")?;
        }
    }
    if has_token {
        say!("changes        by whoever has the token, as an engineer")?;
    } else if settings.accounts_file.is_none() {
        match settings.is_local() {
            true => say!("changes        by everybody on this machine")?,
            false => say!("changes        by nobody; set web.accounts_file or web.token_file")?,
        }
    }
    say_audit(&state.file("audit.jsonl"))
}

fn say_audit(path: &Path) -> Result<()> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return say!("audit log      none yet"),
        Err(e) => return Err(Error::io("read", path, e)),
    };
    let walked = walk(&bytes);
    match walked.fault {
        Some(fault) => Err(Error::new(ErrorKind::Io, fault.to_string()).within(path.display())),
        None => say!("audit log      {} lines are as they were written", walked.count),
    }
}
