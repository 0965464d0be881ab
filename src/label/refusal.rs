//! Why a command cannot be done.

use std::fmt;

use super::session::Told;
use crate::error::Error;

/// Why a command cannot be done. Displays as a sentence for the person who asked.
#[derive(Debug)]
pub enum Refusal {
    /// No picture has this number.
    NoPicture(String),
    /// The file of the picture with this name is gone.
    Gone(String),
    /// The file of the picture with this name changed since somebody looked at it.
    Changed(String),
    /// Somebody else saved this label in between.
    Conflict(Box<Told>),
    /// There is no such view of the picture.
    NoView(String),
    /// The enrolled pictures are not all read yet.
    NotYet,
    /// The package has no click network.
    NoClicks,
    /// The request is wrong, or its picture cannot be used.
    Wrong(String),
    /// The work failed.
    Failed(Error),
    /// Too many requests wait.
    Busy,
    /// The thread ended before it answered.
    Bug,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoPicture(id) => write!(f, "there is no picture {id}"),
            Refusal::Gone(name) => {
                write!(
                    f,
                    "{name} is not there any more: put it back to label it, or go on with the next picture"
                )
            }
            Refusal::Changed(name) => {
                write!(f, "{name} was changed on disk after it was opened: look at it again")
            }
            Refusal::Conflict(_) => f.write_str(
                "this picture was labeled in another tab in the meantime: nothing was overwritten",
            ),
            Refusal::NotYet => {
                f.write_str("the enrolled pictures are still being read: try again in a moment")
            }
            Refusal::NoClicks => {
                f.write_str("this package has no click network: use boxes, tags or the brush")
            }
            Refusal::NoView(text) | Refusal::Wrong(text) => f.write_str(text),
            Refusal::Failed(error) => f.write_str(&error.chain()),
            Refusal::Busy => f.write_str("too many requests wait: try again in a moment"),
            Refusal::Bug => f.write_str("the labeler failed because of a bug: see the terminal"),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Failed(error)
    }
}
