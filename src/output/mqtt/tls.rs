//! The encrypted connection to a broker: whom to believe that they are the broker, and who this is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rumqttc::TlsConfiguration;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::files;

/// As the settings say.
///
/// # Errors
/// [`ErrorKind::Io`] when a file cannot be read, [`ErrorKind::Usage`] when it is not what it must be, naming
/// the key.
pub(super) fn configuration(settings: &Settings) -> Result<TlsConfiguration> {
    let usage = |text: &str| Error::new(ErrorKind::Usage, text);
    let mut roots = RootCertStore::empty();
    let (key, authorities) = match &settings.ca_file {
        Some(file) => ("mqtt.ca_file", certificates(file).map_err(|e| e.with_key("mqtt.ca_file"))?),
        None => ("mqtt.tls", rustls_native_certs::load_native_certs().certs),
    };
    let (_, unusable) = roots.add_parsable_certificates(authorities);
    if roots.is_empty() {
        let text = match unusable {
            0 => {
                "this system trusts no authority: install ca-certificates, or set mqtt.ca_file to the plant's own"
            }
            _ => "its certificates cannot be read",
        };
        return Err(usage(text).with_key(key));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| usage("cannot be used here").with_source(e).with_key("mqtt.tls"))?
        .with_root_certificates(roots);
    let config = match own(settings) {
        Some((certificate, key)) => {
            let chain = certificates(certificate).map_err(|e| e.with_key("mqtt.certificate_file"))?;
            let key = private_key(key).map_err(|e| e.with_key("mqtt.key_file"))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| {
                usage("is not the key of mqtt.certificate_file").with_source(e).with_key("mqtt.key_file")
            })?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(TlsConfiguration::Rustls(Arc::new(config)))
}

fn own(settings: &Settings) -> Option<(&PathBuf, &PathBuf)> {
    settings.certificate_file.as_ref().zip(settings.key_file.as_ref())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = fs::read(file).map_err(|e| Error::io("read", file, e))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes).filter_map(|c| c.ok()).collect();
    match found.is_empty() {
        true => Err(Error::new(ErrorKind::Usage, "holds no certificate (PEM)").within(file.display())),
        false => Ok(found),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>> {
    let text = files::read_secret(file)?;
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| {
        let text = "holds no private key (PEM) without a password";
        Error::new(ErrorKind::Usage, text)
    })
}
