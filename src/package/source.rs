//! The source of a package: a folder, or a web server with the same files.

use std::fs::File;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::manifest::FileInfo;
use super::verified::{self, MAX_MANIFEST};
use super::{SIGNATURE, damaged};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::files::hex;

/// The source of a package, and its time limit.
pub struct Source {
    place: Place,
    patience: Option<Duration>,
    start: Instant,
    end: Instant,
}

enum Place {
    Folder(PathBuf),
    Server { address: String, agent: ureq::Agent },
}

/// Time to reach a server, and for its answer to begin.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest pause within an answer.
const SILENCE: Duration = Duration::from_secs(20);
const REDIRECTS: u32 = 3;
/// Time for manifest and signature, and the least for a package.
const LEAST_PATIENCE: Duration = Duration::from_secs(60);
/// Slowest mean rate of a package: a megabit per second.
const SLOWEST: u64 = 128 << 10;
/// Bytes per read.
const PIECE: usize = 64 << 10;

impl Source {
    /// A folder, or its `https://` address. Plain `http://` is accepted for this machine only, without
    /// redirections. A server needs a certificate by an authority in the file `authorities`, or by one of the
    /// system's.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a wrong address, [`ErrorKind::Io`] if the authorities cannot be read.
    pub fn new(source: &str, authorities: Option<&Path>) -> Result<Self> {
        let usage = |text: &str| Err(Error::new(ErrorKind::Usage, text).within(source));
        let Some((scheme, _)) = source.split_once("://") else {
            return Ok(Self::at(Place::Folder(source.into())));
        };
        let Ok(uri) = source.parse::<Uri>() else { return usage("is not the address of a package") };
        let Some(host) = uri.host() else { return usage("is not the address of a package") };
        if uri.query().is_some() || source.contains('#') {
            return usage("the address of a package cannot have ? or #, because files' names follow it");
        }
        let secure = match scheme {
            "https" => true,
            "http" if is_this_machine(host) => false,
            "http" => return usage("is not encrypted, so anyone could answer; use https://"),
            _ => return usage("a package comes from a folder or an https:// address"),
        };
        let mut config = ureq::Agent::config_builder()
            .https_only(secure)
            .max_redirects(if secure { REDIRECTS } else { 0 })
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(SILENCE));
        config = match secure {
            true => config.tls_config(tls(authorities)?),
            // A proxy would be another machine.
            false => config.proxy(None),
        };
        let address = source.trim_end_matches('/').to_owned();
        Ok(Self::at(Place::Server { address, agent: config.build().new_agent() }))
    }

    /// Sets the time limit for a server. The default is a minute, and the package's time at a megabit per
    /// second.
    pub fn with_patience(mut self, patience: Option<Duration>) -> Self {
        self.patience = patience;
        self
    }

    fn at(place: Place) -> Self {
        let start = Instant::now();
        Source { place, patience: None, start, end: start }
    }

    /// Starts the clock for a package.
    pub(super) fn begin(&mut self) {
        self.start = Instant::now();
        self.allow(0);
    }

    /// Extends the limit for this number of bytes.
    pub(super) fn allow(&mut self, bytes: u64) {
        let enough = LEAST_PATIENCE + Duration::from_secs(bytes / SLOWEST);
        self.end = self.start + self.patience.unwrap_or(enough);
    }

    /// Reads a file that no manifest lists, such as the manifest itself.
    pub(super) fn small_file(&self, name: &str) -> Result<Vec<u8>> {
        match &self.place {
            Place::Folder(folder) => {
                verified::read(folder, name, None).map_err(|e| e.within(folder.display()))
            }
            Place::Server { address, agent } => {
                let url = url(address, name);
                let mut bytes = Vec::new();
                let body = get(agent, &url, name, self.end)?;
                let (length, _) = self
                    .copy(body, MAX_MANIFEST, |piece| {
                        bytes.extend_from_slice(piece);
                        Ok(())
                    })
                    .map_err(|e| e.within(&url))?;
                if length > MAX_MANIFEST {
                    return Err(damaged(format!("has more than {MAX_MANIFEST} bytes")).within(url));
                }
                Ok(bytes)
            }
        }
    }

    /// Copies a file to `path` and checks it against its entry in the manifest.
    pub(super) fn file(&self, name: &str, expected: &FileInfo, out: &mut File, path: &Path) -> Result<()> {
        verified::check_name(name)?;
        let (place, changed, body): (String, Error, Box<dyn Read>) = match &self.place {
            Place::Folder(folder) => {
                let place = folder.display().to_string();
                let file = verified::open(folder, name, Some(expected)).map_err(|e| e.within(&place))?;
                (place, verified::changed(name), Box::new(file))
            }
            Place::Server { address, agent } => {
                let url = url(address, name);
                let body = get(agent, &url, name, self.end)?;
                (url, damaged("is not the file that the manifest lists".into()), Box::new(body))
            }
        };
        let written = self.copy(body, expected.bytes, |piece| {
            out.write_all(piece).map_err(|e| Error::io("write", path, e))
        });
        // An unsigned manifest comes from the same server, so its lengths are bounded, too.
        let (length, sha256) = written.map_err(|e| e.within(&place))?;
        if length != expected.bytes || sha256 != expected.sha256 {
            return Err(changed.within(place));
        }
        Ok(())
    }

    /// Reads to the end, or past `most` bytes, within the time limit. Returns length and SHA-256.
    fn copy(
        &self,
        mut from: impl Read,
        most: u64,
        mut to: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<(u64, String)> {
        let network = |text: String| Error::new(ErrorKind::Network, text);
        let (mut piece, mut hash, mut length) = (vec![0; PIECE], Sha256::new(), 0);
        while length <= most {
            let read = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    let error = match Instant::now() < self.end {
                        true => network(format!("the server broke off after {length} bytes; try again")),
                        false => self.too_slow(),
                    };
                    return Err(error.with_source(e));
                }
            };
            if matches!(self.place, Place::Server { .. }) && Instant::now() >= self.end {
                return Err(self.too_slow());
            }
            length += read as u64;
            hash.update(&piece[..read]);
            to(&piece[..read])?;
        }
        Ok((length, hex(&hash.finalize())))
    }

    fn too_slow(&self) -> Error {
        let seconds = (self.end - self.start).as_secs();
        Error::new(ErrorKind::Network, format!("the package did not come within {seconds} s"))
            .with_hint(Hint::Slow)
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Folder(folder) => folder.display().fmt(f),
            Place::Server { address, .. } => f.write_str(address),
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|a| a.is_loopback())
}

/// The authorities to trust.
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
            None => Error::new(ErrorKind::Usage, "this system trusts no authority; install ca-certificates")
                .with_hint(Hint::NoAuthority),
        });
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

/// The address of a file. Other characters are escaped, so a name stays a path.
fn url(address: &str, name: &str) -> String {
    name.bytes().fold(format!("{address}/"), |url, byte| match byte {
        b'/' | b'.' | b'-' | b'_' | b'~' => url + char::from(byte).encode_utf8(&mut [0; 4]),
        byte if byte.is_ascii_alphanumeric() => url + char::from(byte).encode_utf8(&mut [0; 4]),
        byte => url + &format!("%{byte:02X}"),
    })
}

/// Requests a file from a server, until `end`.
fn get(agent: &ureq::Agent, url: &str, name: &str, end: Instant) -> Result<impl Read + use<>> {
    log::debug!("fetching {url}");
    let network = |text: String| Error::new(ErrorKind::Network, text);
    // Zero would mean no limit.
    let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let asked = agent.get(url).config().timeout_global(Some(left)).build().call();
    let refused = match asked {
        Ok(response) if response.status() == 200 => return Ok(response.into_body().into_reader()),
        Ok(response) if response.status().is_redirection() => {
            network("the server redirects to another address; without TLS this is not followed".into())
        }
        Ok(response) => network(format!("the server answers with status {}", response.status().as_u16())),
        Err(ureq::Error::StatusCode(404)) if name == SIGNATURE => {
            damaged("there is no signature; the package was not signed".into()).with_hint(Hint::Unsigned)
        }
        Err(ureq::Error::StatusCode(404)) => network("the server has no such file".into()),
        Err(ureq::Error::StatusCode(code)) => network(format!("the server refuses with status {code}")),
        Err(e) => network("cannot be fetched".into()).with_source(e),
    };
    Err(refused.within(url))
}
