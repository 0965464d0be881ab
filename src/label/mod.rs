//! The labeler: a person marks defects in the browser. Training reads the label file.
//!
//! One thread serves the page. Another thread owns the label file and the networks, and answers the page's
//! commands. While nobody waits it scores pictures, to show the least certain ones first, and makes the next
//! pictures ready. Every change is on disk before its answer. `server.rs` lists the requests.

mod assets;
mod nearest;
mod order;
mod prompts;
mod ready;
mod refusal;
mod server;
mod session;
mod train;
mod work;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use crate::access::Limits;
use crate::error::{Error, Hint, Result};
use crate::http::{self, Certificates, Gate, Server};
use crate::inspector::Options;
use crate::package::Package;
use work::Work;
use worker::Worker;

/// Settings of the labeler.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The package: its detector orders the pictures and suggests.
    pub package: PathBuf,
    /// Folder of pictures to label, with its subfolders.
    pub images: PathBuf,
    /// The label file. The first label creates it.
    pub labels: PathBuf,
    /// Folder of the enrolled pictures, to show good parts.
    pub good: Option<PathBuf>,
    /// File of phrases for types of defects.
    pub prompts: Option<PathBuf>,
    /// Folder of the text encoder, for other prompts than those of the training.
    pub text_encoder: Option<PathBuf>,
    /// Address and port. Port 0 takes a free port.
    pub listen: String,
    /// File with the token for labeling from other machines.
    pub token_file: Option<PathBuf>,
    /// Files (PEM) of the certificate that encrypts, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// The running labeler. Dropping it stops it.
pub struct Labeler {
    // Declared first: the server stops before the worker, so no request waits in vain.
    server: Server,
    work: Work,
    worker: Option<std::thread::JoinHandle<()>>,
    certificates: Option<Arc<Certificates>>,
    counts: (usize, usize),
}

impl Labeler {
    /// Checks the settings, loads the package and serves.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] for a folder without pictures, a label file of another folder or another
    /// process, and an address beyond this machine without a token; as [`Package::open`] and
    /// [`crate::Inspector::with_options`]; [`crate::ErrorKind::Io`] when the address is not available.
    pub fn start(settings: &Settings, options: &Options) -> Result<Labeler> {
        let address = http::address_from_text(&settings.listen).map_err(|e| e.with_key("listen"))?;
        let token = settings.token_file.as_ref().map(|path| http::token_from_file(path)).transpose();
        let token = token.map_err(|e| e.with_key("token_file"))?;
        if token.is_none() && !http::is_local(address) {
            let what = "everybody on the network could change labels; listen on 127.0.0.1";
            return Err(Error::setting("listen", what).with_hint(Hint::NoToken));
        }
        let certificates =
            settings.certificate.as_ref().map(|(certificate, key)| Certificates::open(certificate, key));
        let certificates = certificates.transpose().map_err(|e| e.with_key("certificate"))?;
        let session =
            session::Session::open(&settings.images, &settings.labels, settings.prompts.as_deref())?;
        let package = Package::open(&settings.package)?;
        let counts = session.counts();
        let worker = Worker::new(session, package, settings, options)?;
        let (work, commands) = Work::new();
        let gate = Arc::new(Gate {
            token,
            members: None,
            limits: Limits::default(),
            certificates: certificates.clone(),
            audit: None,
            is_private: true,
            is_local: http::is_local(address),
            most_body: server::MOST_BODY as u64,
            too_large: "the request is too large for a label, or has no length",
            larger: None,
            token_file: "the token file",
            listen: "the listen address",
        });
        let trainer = Arc::new(train::Trainer::new(settings, options));
        let router = server::router(gate, work.clone(), trainer);
        let server = Server::start("label", address, router, certificates.as_ref());
        let server = server.map_err(|e| e.with_key("listen"))?;
        let worker = Some(work::start(worker, commands)?);
        Ok(Labeler { server, work, worker, certificates, counts })
    }

    /// The address of the page, as a browser needs it.
    pub fn url(&self) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/", self.server.address())
    }

    /// Number of pictures at the start, and of those with a label.
    pub fn counts(&self) -> (usize, usize) {
        self.counts
    }

    /// Whether both threads run.
    pub fn is_alive(&self) -> bool {
        self.server.is_alive() && self.worker.as_ref().is_some_and(|worker| !worker.is_finished())
    }
}

impl Drop for Labeler {
    fn drop(&mut self) {
        self.server.halt();
        self.work.stop();
        if self.worker.take().is_some_and(|worker| worker.join().is_err()) {
            log::error!("the labeler's thread panicked");
        }
    }
}
