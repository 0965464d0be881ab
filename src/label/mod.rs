//! The labeler: a person marks defects in the browser, training reads what they marked.
//!
//! One thread serves the page. Another one owns the label file and the networks, and answers the page's commands; while
//! nobody waits it scores pictures, so that the least certain ones come first, and makes the next ones ready. Every
//! change is on disk before it is answered.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /api/state` | the pictures in the order to be worked on, types, prompts |
//! | `GET /api/pictures/{id}` | label and suggestion |
//! | `GET /api/pictures/{id}/image` | the picture, as a browser can show it |
//! | `GET /api/pictures/{id}/map.png` | the anomaly map, to be laid over the picture |
//! | `GET /api/pictures/{id}/nearest.png` | what the part should look like |
//! | `POST /api/pictures/{id}/click` | a mask from clicks |
//! | `PUT /api/pictures/{id}/label` | saves |
//!
//! Everything that fails is answered with `{"error": "…"}`.

mod assets;
mod nearest;
mod order;
mod prompts;
mod ready;
mod refusal;
mod server;
mod session;
mod work;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::http::{self, Access, Gate, Server};
use crate::inspector::Options;
use crate::package::Package;
use work::Work;
use worker::Worker;

/// What is labeled with what, and where it is served.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The package whose detector helps.
    pub package: PathBuf,
    /// Folder of pictures to label, with those below it.
    pub images: PathBuf,
    /// The label file; made with the first label.
    pub labels: PathBuf,
    /// Folder of the enrolled pictures, to show what parts should look like.
    pub good: Option<PathBuf>,
    /// File of phrases for types of defects.
    pub prompts: Option<PathBuf>,
    /// Folder of the text encoder, for prompts that the network was not trained with.
    pub text_encoder: Option<PathBuf>,
    /// Address and port; port 0 takes a free one.
    pub listen: String,
    /// File with the token that whoever labels from another machine must know.
    pub token_file: Option<PathBuf>,
}

/// The running labeler. Dropping it stops it.
pub struct Labeler {
    // Before the work: no request must wait for a worker that has ended.
    server: Server,
    work: Work,
    worker: Option<std::thread::JoinHandle<()>>,
    counts: (usize, usize),
}

impl Labeler {
    /// Checks everything, loads the package, and serves.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] for a folder without pictures, a label file of another folder or in use by another
    /// process, an address beyond this machine without a token; as [`Package::open`] and
    /// [`crate::Inspector::with_options`]; [`crate::ErrorKind::Io`] when the address cannot be listened on.
    pub fn start(settings: &Settings, options: &Options) -> Result<Labeler> {
        let address = http::address_from_text(&settings.listen).map_err(|e| e.with_key("listen"))?;
        let token = settings.token_file.as_ref().map(|path| http::token_from_file(path)).transpose();
        let token = token.map_err(|e| e.with_key("token_file"))?;
        let access = Access::new(token, address);
        if access == Access::Refused {
            let what = "everybody who reaches this machine could change labels; set a token file, or listen on 127.0.0.1";
            return Err(Error::setting("listen", what));
        }
        let session =
            session::Session::open(&settings.images, &settings.labels, settings.prompts.as_deref())?;
        let package = Package::open(&settings.package)?;
        let counts = session.counts();
        let worker = Worker::new(session, package, settings, options)?;
        let (work, commands) = Work::new();
        let gate = Arc::new(Gate {
            access,
            is_local: http::is_local(address),
            most_body: server::MOST_BODY as u64,
            too_large: "the request is too large, or does not tell its length; no label takes so much",
            token_file: "the token file",
            listen: "the listen address",
        });
        let router = server::router(gate, work.clone());
        let server = Server::start("label", address, router).map_err(|e| e.with_key("listen"))?;
        let worker = Some(work::start(worker, commands)?);
        Ok(Labeler { server, work, worker, counts })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Number of pictures at the start, and of those with a label.
    pub fn counts(&self) -> (usize, usize) {
        self.counts
    }

    /// Whether it still serves.
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
