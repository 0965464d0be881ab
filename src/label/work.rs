//! The commands of the thread that owns the session and the networks.
//!
//! Commands wait in two queues. The urgent one holds what a person waits for. The idle one holds what saves
//! time later, one small piece at a time; the thread looks at it only while the urgent queue is empty. Each
//! urgent command carries the channel for its one answer.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::prompts::Prompts;
use super::refusal::Refusal;
use super::session::{Change, Told};
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Result};
use crate::labels::formats::{Format, Import, Summary};
use crate::labels::{Rle, Tag};

/// Commands that may wait; the web server has no more connections.
const MOST_WAITING: usize = 256;

/// A picture file as PNG.
pub type Png = Arc<[u8]>;
/// Takes the answer to one command.
pub type Reply<T> = Sender<std::result::Result<T, Refusal>>;

/// What a person waits for.
pub enum Urgent {
    /// The pictures, in the order of work.
    State(Reply<State>),
    /// A picture's label and suggestion.
    Detail(usize, Reply<Detail>),
    /// A picture's file.
    File(usize, Reply<PictureFile>),
    /// The anomaly map, transparent where nothing is strange.
    Map(usize, Reply<Png>),
    /// What the part should look like.
    Nearest(usize, Reply<Png>),
    /// A mask from clicks that were made at this time.
    Click(usize, Clicks, Instant, Reply<MaskFromClicks>),
    /// Saves a label; answers with the new revision when the label is on disk.
    Save(usize, Change, Reply<String>),
    /// The labels for another tool: the text of a file, and what was left out.
    Export(Format, Reply<(String, Summary)>),
    /// Takes the labels of a file of another tool.
    Import(Vec<u8>, Import, Reply<Summary>),
    /// Ends the thread.
    Stop,
}

/// What is done while nobody waits.
pub enum Idle {
    /// Makes the next picture ready.
    Ahead,
    /// The enrolled pictures were read: those that were found, by number.
    Good(Result<super::nearest::Files>),
}

/// All pictures.
#[derive(Serialize, ToSchema)]
pub struct State {
    /// Picture numbers are valid in this run of the program only.
    pub session: String,
    /// Name of the product.
    pub product: String,
    /// Folder of the pictures.
    pub folder: String,
    /// The label file.
    pub labels: String,
    /// The network that makes masks from clicks.
    pub adclick: Option<Adclick>,
    /// Whether the network takes words that it was not trained with.
    pub text: bool,
    /// Whether the enrolled pictures can be shown.
    pub nearest: bool,
    /// Types of defects.
    pub types: Vec<String>,
    /// Phrases by type.
    #[schema(value_type = std::collections::BTreeMap<String, Vec<String>>)]
    pub prompts: Prompts,
    /// Scores above it are rejected.
    pub threshold: f32,
    /// Pictures without a score yet.
    pub preparing: usize,
    /// The pictures, in the order of work.
    pub pictures: Vec<Listed>,
}

/// The network that makes masks from clicks.
#[derive(Serialize, ToSchema)]
pub struct Adclick {
    /// Its name.
    pub name: String,
}

/// A picture in the list.
#[derive(Serialize, ToSchema)]
pub struct Listed {
    /// Its number.
    pub id: usize,
    /// Path below the folder.
    pub name: String,
    /// Width in pixels, when known.
    pub width: Option<u32>,
    /// Height in pixels, when known.
    pub height: Option<u32>,
    /// Image score, when known.
    pub score: Option<f32>,
    /// Whether it has a label.
    pub done: bool,
    /// Good or defective.
    pub kind: Option<Tag>,
    /// Type of defect.
    pub r#type: Option<String>,
    /// Revision of its label, when the picture was read.
    pub revision: Option<String>,
    /// Whether its file is gone.
    pub missing: bool,
    /// Why it cannot be labeled.
    pub error: Option<String>,
}

/// Where a defect may be, before the first click.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Suggestion {
    /// The area.
    pub mask: Rle,
    /// Whether a person may accept it without a look.
    pub sure: bool,
}

/// One picture.
#[derive(Serialize, ToSchema)]
pub struct Detail {
    /// Its number.
    pub id: usize,
    /// Path below the folder.
    pub name: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Image score.
    pub score: Option<f32>,
    /// Its label.
    pub label: Told,
    /// Where a defect may be.
    pub suggestion: Option<Suggestion>,
    /// Why the detector cannot judge it.
    pub problem: Option<String>,
}

/// A picture's file.
pub struct PictureFile {
    /// Its content.
    pub bytes: Vec<u8>,
    /// SHA-256 of its content.
    pub hash: String,
}

/// A thin line on one picture.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Points on it, in their order: x and y in pixels.
    pub points: Vec<(f32, f32)>,
}

/// A mask of a thin line.
#[derive(Serialize, ToSchema)]
pub struct MaskOfLine {
    /// The mask.
    pub mask: Rle,
    /// Time from the request to the answer.
    pub milliseconds: f64,
}

/// Clicks on one picture.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Clicks {
    /// The clicks, in their order.
    pub clicks: Vec<Clicked>,
    /// The mask so far.
    #[serde(default)]
    pub previous: Option<Rle>,
    /// Words for the defect.
    #[serde(default)]
    pub prompt: Option<String>,
    /// Type of the defect.
    #[serde(default)]
    pub r#type: Option<String>,
}

/// One click.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Clicked {
    /// Pixels from the left edge.
    pub x: f32,
    /// Pixels from the top edge.
    pub y: f32,
    /// Whether the click is on the defect; otherwise it is on the background.
    pub positive: bool,
}

/// A mask from clicks.
#[derive(Serialize, ToSchema)]
pub struct MaskFromClicks {
    /// The mask.
    pub mask: Rle,
    /// Time from the request to the answer.
    pub milliseconds: f64,
    /// Whether the network does not know the words.
    pub unknown_words: bool,
}

/// Sends commands to the thread.
#[derive(Clone)]
pub struct Work {
    urgent: Sender<Urgent>,
}

impl Work {
    /// The queue, and its other end for [`start`].
    pub fn new() -> (Work, Receiver<Urgent>) {
        let (urgent, commands) = bounded(MOST_WAITING);
        (Work { urgent }, commands)
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// The thread's refusal; [`Refusal::Busy`] when too many commands wait; [`Refusal::Bug`] when the thread
    /// has ended.
    pub fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Urgent) -> std::result::Result<T, Refusal> {
        let (reply, answer) = bounded(1);
        self.urgent.try_send(command(reply)).map_err(|e| match e {
            crossbeam_channel::TrySendError::Full(_) => Refusal::Busy,
            crossbeam_channel::TrySendError::Disconnected(_) => Refusal::Bug,
        })?;
        answer.recv().unwrap_or(Err(Refusal::Bug))
    }

    /// Ends the thread after the commands that wait.
    pub fn stop(&self) {
        // A thread that has ended needs no command.
        let _ = self.urgent.send(Urgent::Stop);
    }
}

/// Starts the thread.
///
/// # Errors
/// [`ErrorKind::Io`] when the system refuses a thread.
pub fn start(worker: Worker, commands: Receiver<Urgent>) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("label-work".into())
        .spawn(move || worker.run(&commands))
        .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))
}
