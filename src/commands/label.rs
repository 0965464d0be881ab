//! `weakrest label`: the labeler.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::label::{Labeler, Settings};
use crate::labels::formats::{Import, Place, export, import};
use crate::{Error, ErrorKind, Result};

use super::{Outcome, RuntimeArguments};

/// Arguments of `label`.
#[derive(Debug, Args)]
#[command(after_help = "\
The command prints the address of its page. Ctrl+C ends it. Every action is saved at once.
New pictures in the folder appear on the page, least certain first.")]
pub struct Label {
    /// Package that orders the pictures and suggests defects
    #[arg(long, value_name = "PACKAGE", required_unless_present_any = ["import", "export"])]
    package: Option<PathBuf>,
    /// Folder of pictures to label, including its subfolders
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Label file, created if missing. Masks are beside it, in FILE.masks
    #[arg(long, value_name = "FILE.jsonl")]
    labels: PathBuf,
    /// Folder of the enrolled pictures, to show good parts beside each defect
    #[arg(long, value_name = "DIR")]
    good: Option<PathBuf>,
    /// Phrases per type of defect, in JSON: {"crack": ["a thin crack"]}
    #[arg(long, value_name = "FILE.json")]
    prompts: Option<PathBuf>,
    /// Folder of the text encoder, for new phrases (from `weakrest-export text-encoder`)
    #[arg(long, value_name = "DIR")]
    text_encoder: Option<PathBuf>,
    /// Address of the page; beyond this machine it needs --token-file
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8081")]
    listen: String,
    /// File with the token for the page, one line of at least 16 characters
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificate (PEM) that encrypts the page; with --key
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Key (PEM) of the certificate
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Import coco:FILE, label-studio:FILE, cvat:FILE or masks:DIR, and exit
    #[arg(long, value_name = "FORMAT:PATH")]
    import: Option<Place>,
    /// Export to coco:FILE, label-studio:FILE or masks:DIR, after any --import, and exit
    #[arg(long, value_name = "FORMAT:PATH")]
    export: Option<Place>,
    /// Import pictures without tag and shape as good, instead of leaving them out
    #[arg(long, requires = "import")]
    unmarked_good: bool,
    /// Leave out entries that cannot be imported
    #[arg(long, requires = "import")]
    skip_bad: bool,
    /// Replace existing labels or exported files
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// The interval between checks for signals.
const POLL: Duration = Duration::from_millis(50);

impl Label {
    pub fn run(self) -> Result<Outcome> {
        if let Some(from) = &self.import {
            let Label { unmarked_good, overwrite, skip_bad, .. } = self;
            let how = Import { unmarked_good, overwrite, skip_bad };
            let summary = import(from, &self.images, &self.labels, how).map_err(of_option)?;
            summary.notes.iter().for_each(|note| remark!("{note}"));
            say!("{} pictures read", summary.pictures)?;
        }
        if let Some(to) = &self.export {
            let summary = export(to, &self.images, &self.labels, self.overwrite).map_err(of_option)?;
            summary.notes.iter().for_each(|note| remark!("{note}"));
            say!("{} pictures written", summary.pictures)?;
        }
        // The package is required without --import and --export.
        let Some(package) = self.package.filter(|_| self.import.is_none() && self.export.is_none()) else {
            return Ok(Outcome::Pass);
        };
        let settings = Settings {
            package,
            images: self.images,
            labels: self.labels,
            good: self.good,
            prompts: self.prompts,
            text_encoder: self.text_encoder,
            listen: self.listen,
            token_file: self.token_file,
            certificate: self.certificate.zip(self.key),
        };
        let labeler = Labeler::start(&settings, &self.runtime.options()).map_err(of_option)?;
        // Not earlier: reading pictures may hang, and a signal must end the process then.
        let cannot = |e| Error::new(ErrorKind::Io, "cannot receive signals").with_source(e);
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(cannot)?;
        let (pictures, labeled) = labeler.counts();
        say!("{pictures} pictures, {labeled} of them labeled: {}", labeler.url())?;
        while signals.pending().next().is_none() {
            if !labeler.is_alive() {
                return Err(Error::new(ErrorKind::Runtime, "the labeler crashed; all labels are saved"));
            }
            std::thread::sleep(POLL);
        }
        Ok(Outcome::Pass)
    }
}

/// An error about an argument, whose option it names.
fn of_option(error: Error) -> Error {
    match error.key().map(|key| format!("--{}", key.replace('_', "-"))) {
        Some(option) => error.with_key(option),
        None => error,
    }
}
