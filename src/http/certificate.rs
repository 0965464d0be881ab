//! The certificate of an encrypted page: read from files, or made once and kept.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64ct::{Base64, Encoding};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use super::der;
use crate::access::Watched;
use crate::clock::civil;
use crate::error::{Error, ErrorKind, Result};
use crate::files;

/// Warned of an end this early.
const EARLY: Duration = Duration::from_secs(30 * 86400);
/// How long a made certificate is valid, in years.
const YEARS: u64 = 10;
/// The earliest year that a clock can be right in. A board without a battery begins in 1970.
const EARLIEST_YEAR: u64 = 2026;
/// A made certificate and its key, in the state folder.
const MADE: [&str; 2] = ["web-certificate.pem", "web-key.pem"];

/// A certificate with its key, ready to prove the service's name.
pub(crate) struct Certificate {
    key: Arc<CertifiedKey>,
    /// SHA-256 of the certificate, as browsers show it.
    pub fingerprint: String,
    /// When it ends, if it says so.
    pub end: Option<SystemTime>,
}

impl Certificate {
    /// Reads a certificate with its chain, and its key, both PEM.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if a file cannot be read; [`ErrorKind::Usage`] if it is not what it should be. The
    /// name of the key's file is not told.
    pub fn read(certificate: &Path, key: &Path) -> Result<Certificate> {
        let wrong = |key: &str, text: &str| Error::setting(key, text);
        let bytes = fs::read(certificate)
            .map_err(|e| Error::io("read", certificate, e).with_key("web.certificate"))?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes).filter_map(|c| c.ok()).collect();
        let Some(own) = chain.first() else {
            let text = format!("{} holds no certificate (PEM)", certificate.display());
            return Err(wrong("web.certificate", &text));
        };
        let (fingerprint, end) = (fingerprint(own), der::end_of(own));
        let text = files::read_secret(key).map_err(|e| e.with_key("web.key"))?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| wrong("web.key", "holds no private key (PEM) without a password"))?;
        let key = any_supported_type(&key)
            .map_err(|_| wrong("web.key", "holds a key of an unknown kind; use ECDSA P-256 or RSA"))?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|_| wrong("web.key", "is not the key of web.certificate"))?;
        Ok(Certificate { key: Arc::new(key), fingerprint, end })
    }

    /// What is wrong with its end, now.
    pub fn problem(&self, now: SystemTime) -> Option<String> {
        let end = self.end?;
        let day = || day_of(end);
        if now >= end {
            return Some(format!("it ended on {}; browsers refuse the page until it is replaced", day()));
        }
        (now + EARLY >= end).then(|| format!("it ends on {}; replace it before", day()))
    }
}

/// A day, such as `2027-03-01`.
pub(crate) fn day_of(time: SystemTime) -> String {
    let [year, month, day, ..] = civil(time);
    format!("{year:04}-{month:02}-{day:02}")
}

fn fingerprint(certificate: &[u8]) -> String {
    let pairs: Vec<String> = Sha256::digest(certificate).iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

/// The certificate of a running page. Its files are read again when they change.
pub(crate) struct Certificates(Watched<Certificate>);

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// As [`Certificate::read`].
    pub fn open(certificate: &Path, key: &Path) -> Result<Arc<Certificates>> {
        let files = vec![certificate.to_owned(), key.to_owned()];
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let read = move || Certificate::read(&certificate, &key);
        Ok(Arc::new(Certificates(Watched::open(files, read)?)))
    }

    /// The certificate in use.
    pub fn current(&self) -> Arc<Certificate> {
        self.0.content()
    }

    /// Looks at the files again. Returns what is wrong with them, or with the certificate's end.
    pub fn look(&self) -> Option<String> {
        if self.0.look().is_some() {
            log::info!("web: the certificate has changed; its fingerprint is {}", self.current().fingerprint);
        }
        let broken = self.0.problem().map(|why| format!("{why}; the certificate of before stays in use"));
        broken.or_else(|| self.current().problem(SystemTime::now()))
    }

    /// What the server needs to encrypt.
    ///
    /// # Errors
    /// [`ErrorKind::Runtime`] if this program cannot encrypt.
    pub fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::new(ErrorKind::Runtime, "cannot encrypt here").with_source(e))?;
        let resolver = Arc::clone(self) as Arc<dyn ResolvesServerCert>;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificates({})", self.current().fingerprint)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current().key))
    }
}

/// The files of a certificate that the service signs itself. They are made if they do not exist.
///
/// # Errors
/// [`ErrorKind::Io`] if they cannot be written.
pub(crate) fn self_signed(folder: &Path, address: IpAddr) -> Result<[PathBuf; 2]> {
    let paths = MADE.map(|name| folder.join(name));
    // The key is written first: a certificate has its key.
    if !paths[0].exists() {
        let random = |_| Error::new(ErrorKind::Io, "the system gives no random numbers");
        let rng = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng).map_err(random)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &rng)
            .map_err(|_| Error::new(ErrorKind::Io, "the new key of the page cannot be used"))?;
        let mut serial = [0; 16];
        rng.fill(&mut serial).map_err(random)?;
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let year = civil(SystemTime::now())[0].max(EARLIEST_YEAR) + YEARS;
        let begun = der::to_be_signed(&serial, &name, &[address], year, pair.public_key().as_ref());
        let signature = pair.sign(&rng, &begun).map_err(random)?;
        fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        write_private(&paths[1], &pem("PRIVATE KEY", key.as_ref()))?;
        files::write_file(
            &paths[0],
            pem("CERTIFICATE", &der::signed(&begun, signature.as_ref())).as_bytes(),
        )?;
    }
    Ok(paths)
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let doing = |e: std::io::Error| Error::io("write", path, e);
    let folder = files::parent(path);
    let mut file = tempfile::Builder::new()
        .prefix(files::TEMPORARY)
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(doing)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(doing)?;
    file.persist(path).map_err(|e| doing(e.error))?;
    Ok(())
}

fn pem(kind: &str, bytes: &[u8]) -> String {
    let text = Base64::encode_string(bytes);
    let mut lines = text.as_str();
    let mut pem = format!("-----BEGIN {kind}-----\n");
    while !lines.is_empty() {
        let (line, rest) = lines.split_at(lines.len().min(64));
        pem.extend([line, "\n"]);
        lines = rest;
    }
    pem + &format!("-----END {kind}-----\n")
}
