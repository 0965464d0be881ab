//! `weakrest label`: the labeler.

use std::path::PathBuf;
use std::time::Duration;

use crate::label::{Labeler, Settings};
use crate::labels::formats::{Import, Place, export, import};
use crate::{Error, ErrorKind, Result};
use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::advice::of_option;
use super::{Outcome, RuntimeArguments};

/// Arguments of `label`.
#[derive(Debug, Args)]
#[command(after_help = "\
The page is at the address that is printed; end the program with Ctrl+C. Every action is on disk before the page \
says so. Pictures that come into the folder meanwhile appear by themselves, the least certain first.")]
pub struct Label {
    /// The package, whose detector orders the pictures and suggests
    #[arg(long, value_name = "PACKAGE", required_unless_present_any = ["import", "export"])]
    package: Option<PathBuf>,
    /// Folder of pictures to label, with the folders in it
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// The label file, which training reads; made with the first label. Painted masks lie beside it in FILE.masks
    #[arg(long, value_name = "FILE.jsonl")]
    labels: PathBuf,
    /// Folder of the enrolled pictures: shows what a part should look like, each block as in the good part whose block
    /// is the nearest
    #[arg(long, value_name = "DIR")]
    good: Option<PathBuf>,
    /// Phrases for types of defects, in JSON: {"crack": ["a thin crack"]}
    #[arg(long, value_name = "FILE.json")]
    prompts: Option<PathBuf>,
    /// Folder of the text encoder (`weakrest-export text-encoder`), for prompts in words that nobody trained with
    #[arg(long, value_name = "DIR")]
    text_encoder: Option<PathBuf>,
    /// Where the page is served; beyond this machine it needs --token-file
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8081")]
    listen: String,
    /// File with the token, at least 16 characters on one line, that whoever labels must know then
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Read labels into the label file from coco:FILE, label-studio:FILE, cvat:FILE or masks:DIR
    /// (DIR/TYPE/NAME_mask.png), and exit
    #[arg(long, value_name = "FORMAT:PATH")]
    import: Option<Place>,
    /// Write the labels to coco:FILE, label-studio:FILE or masks:DIR, after --import if both are given, and exit
    #[arg(long, value_name = "FORMAT:PATH")]
    export: Option<Place>,
    /// With --import: pictures of the file without tag and shape are good; they are left out otherwise
    #[arg(long, requires = "import")]
    unmarked_good: bool,
    /// With --import: leave out what cannot be imported, instead of stopping
    #[arg(long, requires = "import")]
    skip_bad: bool,
    /// Let --import replace labels, and --export files
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// How often signals are looked at.
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
        // Without --import and --export it is required.
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
        };
        let labeler = Labeler::start(&settings, &self.runtime.options()).map_err(of_option)?;
        // Not before: while pictures are read, which may hang, a signal ends the process at once.
        let cannot = |e| Error::new(ErrorKind::Io, "cannot receive signals").with_source(e);
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(cannot)?;
        let (pictures, labeled) = labeler.counts();
        say!("{pictures} pictures, {labeled} of them labeled: http://{}/", labeler.address())?;
        while signals.pending().next().is_none() {
            if !labeler.is_alive() {
                return Err(Error::new(ErrorKind::Runtime, "the labeler ended by a bug; labels are saved"));
            }
            std::thread::sleep(POLL);
        }
        Ok(Outcome::Pass)
    }
}
