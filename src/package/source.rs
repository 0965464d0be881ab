//! Where a package to install comes from: a folder, or a web server that holds the same files.

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::manifest::FileInfo;
use super::verified::{self, MAX_BYTES, MAX_MANIFEST};
use super::{SIGNATURE, damaged};
use crate::error::{Error, ErrorKind, Result};
use crate::files::sha256;

/// Where a package comes from.
pub struct Source(Place);

enum Place {
    Folder(PathBuf),
    Server { address: String, agent: ureq::Agent },
}

/// To reach a server, and for it to begin its answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// A server that sends nothing for so long has died.
const SILENCE: Duration = Duration::from_secs(20);
const REDIRECTS: u32 = 3;

impl Source {
    /// A folder, or the `https://` address of one. Plain `http://` is taken from this machine only. Servers are believed
    /// when an authority in the file `authorities` vouches for them; without it, one that the system trusts.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the address is none, [`ErrorKind::Io`] when the authorities cannot be read.
    pub fn new(source: &str, authorities: Option<&Path>) -> Result<Self> {
        let usage = |text: &str| Err(Error::new(ErrorKind::Usage, text).within(source));
        let Some((scheme, _)) = source.split_once("://") else {
            return Ok(Source(Place::Folder(source.into())));
        };
        let Ok(uri) = source.parse::<Uri>() else { return usage("is not the address of a package") };
        let Some(host) = uri.host() else { return usage("is not the address of a package") };
        if uri.query().is_some() || source.contains('#') {
            return usage("the address of a package has no ? or #: files' names are put behind it");
        }
        let secure = match scheme {
            "https" => true,
            "http" if is_this_machine(host) => false,
            "http" => return usage("is not encrypted, so who answers is anyone's guess; use https://"),
            _ => return usage("a package comes from a folder or an https:// address"),
        };
        let mut config = ureq::Agent::config_builder()
            .https_only(secure)
            .max_redirects(REDIRECTS)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(SILENCE));
        if secure {
            config = config.tls_config(tls(authorities)?);
        }
        let address = source.trim_end_matches('/').to_owned();
        Ok(Source(Place::Server { address, agent: config.build().new_agent() }))
    }

    /// A file that nothing is known of yet, such as the manifest.
    pub(super) fn small_file(&self, name: &str) -> Result<Vec<u8>> {
        match &self.0 {
            Place::Folder(folder) => {
                verified::read(folder, name, None).map_err(|e| e.within(folder.display()))
            }
            Place::Server { address, agent } => get(agent, address, name, MAX_MANIFEST)?.ok_or_else(|| {
                damaged(format!("has more than {MAX_MANIFEST} bytes")).within(url(address, name))
            }),
        }
    }

    /// A file of which the manifest says what it must be.
    pub(super) fn file(&self, name: &str, expected: &FileInfo) -> Result<Vec<u8>> {
        match &self.0 {
            Place::Folder(folder) => {
                verified::read(folder, name, Some(expected)).map_err(|e| e.within(folder.display()))
            }
            Place::Server { address, agent } => {
                verified::check_name(name)?;
                // An unsigned manifest is the server's word as well.
                let bytes = get(agent, address, name, expected.bytes.min(MAX_BYTES))?;
                bytes.filter(|bytes| sha256(bytes) == expected.sha256).ok_or_else(|| {
                    damaged("is not the file that the manifest lists".into()).within(url(address, name))
                })
            }
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Place::Folder(folder) => folder.display().fmt(f),
            Place::Server { address, .. } => f.write_str(address),
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|a| a.is_loopback())
}

/// Whom to believe that they are the server.
fn tls(authorities: Option<&Path>) -> Result<TlsConfig> {
    let certificates: Vec<Certificate<'static>> = match authorities {
        Some(file) => {
            let text = std::fs::read(file).map_err(|e| Error::io("read", file, e))?;
            let certificate = |item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            };
            parse_pem(&text).filter_map(certificate).collect()
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
        }
    };
    if certificates.is_empty() {
        return Err(match authorities {
            Some(file) => Error::new(ErrorKind::Usage, "holds no certificate (PEM)").within(file.display()),
            None => Error::new(
                ErrorKind::Usage,
                "this system trusts no authority; install ca-certificates, or name the plant's own with --ca",
            ),
        });
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

/// The address of a file. Whatever a name is made of, it stays one path.
fn url(address: &str, name: &str) -> String {
    name.bytes().fold(format!("{address}/"), |url, byte| match byte {
        b'/' | b'.' | b'-' | b'_' | b'~' => url + char::from(byte).encode_utf8(&mut [0; 4]),
        byte if byte.is_ascii_alphanumeric() => url + char::from(byte).encode_utf8(&mut [0; 4]),
        byte => url + &format!("%{byte:02X}"),
    })
}

/// What a server has under a name, or `None` if that is more than `most` bytes.
fn get(agent: &ureq::Agent, address: &str, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
    let url = url(address, name);
    log::debug!("fetching {url}");
    let response = match agent.get(&url).call() {
        Ok(response) => response,
        Err(ureq::Error::StatusCode(404)) if name == SIGNATURE => {
            return Err(damaged("there is no signature; the package was not signed".into()).within(url));
        }
        Err(ureq::Error::StatusCode(404)) => {
            return Err(Error::new(ErrorKind::Network, "the server has no such file").within(url));
        }
        Err(ureq::Error::StatusCode(code)) => {
            let text = format!("the server refuses, with status {code}");
            return Err(Error::new(ErrorKind::Network, text).within(url));
        }
        Err(e) => {
            return Err(Error::new(ErrorKind::Network, "cannot be fetched").with_source(e).within(url));
        }
    };
    let mut bytes = Vec::new();
    let read = response.into_body().into_reader().take(most.saturating_add(1)).read_to_end(&mut bytes);
    let broken = |e| {
        let text = format!("the server broke off after {} bytes; try again", bytes.len());
        Error::new(ErrorKind::Network, text).with_source(e).within(&url)
    };
    read.map_err(broken)?;
    Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= most))
}
