//! The crate's error type.

use std::error::Error as StdError;
use std::fmt;

/// What went wrong. The message names the array or the number.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A number or an index is out of its range.
    InvalidArgument(String),
    /// An array's shape does not fit the grid or the other arrays.
    ShapeMismatch(String),
    /// The parts of a bank contradict each other: see [`Bank::from_parts`](crate::Bank::from_parts).
    InvalidBank(String),
    /// A value is NaN or infinite, or becomes so when it is squared or stored in half precision.
    NotFinite(String),
    /// The caller's [`TokenStorage`](crate::TokenStorage) failed.
    Storage(Box<dyn StdError + Send + Sync>),
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InvalidArgument(message)
            | Error::ShapeMismatch(message)
            | Error::InvalidBank(message)
            | Error::NotFinite(message) => f.write_str(message),
            Error::Storage(_) => f.write_str("the token storage failed"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Storage(cause) => Some(cause.as_ref()),
            _ => None,
        }
    }
}
