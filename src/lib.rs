//! weakrest: an industrial visual inspector that learns from good parts.

pub mod anomaly;
pub mod camera;
pub mod clock;
#[doc(hidden)]
pub mod commands;
pub mod config;
pub mod enroll;
pub mod error;
pub mod evaluate;
mod files;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod http;
pub mod imaging;
pub mod inspector;
pub mod label;
pub mod labels;
pub mod onnx;
pub mod output;
pub mod package;
pub mod pipeline;
pub mod record;
pub mod report;
pub mod state;
pub mod training;

pub use error::{Error, ErrorKind, Result};
pub use imaging::{Color, Frame};
pub use inspector::{Inspection, Inspector, Region, Verdict};
pub use package::Package;
