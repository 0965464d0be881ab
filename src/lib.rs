//! weakrest: an industrial visual inspector that learns from good parts.

pub mod error;
pub mod evaluate;
pub mod imaging;
pub mod inspector;
pub mod posfar;
pub mod report;

pub use error::{Error, ErrorKind, Result};
