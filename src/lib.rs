//! weakrest: an industrial visual inspector that learns from good parts.

mod access;
mod anomaly;
pub mod camera;
pub mod clock;
#[doc(hidden)]
pub mod commands;
mod config;
pub mod enroll;
mod error;
#[cfg(feature = "workshop")]
mod evaluate;
mod files;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod imaging;
pub mod inspector;
#[cfg(feature = "workshop")]
mod label;
#[cfg(feature = "workshop")]
mod labels;
mod onnx;
pub mod output;
pub mod package;
pub mod pipeline;
mod program;
pub mod record;
#[cfg(feature = "workshop")]
mod report;
mod settings;
mod state;
mod teach;
#[cfg(feature = "workshop")]
mod training;

pub use error::{Error, ErrorKind, Hint, Result};
pub use imaging::{Color, Frame};
pub use inspector::{Inspection, Inspector, Region, Verdict};
pub use package::Package;
