//! One error type for the whole crate.
//!
//! People read the message and its chain of causes; callers branch on the [`ErrorKind`], which alone decides the
//! exit code.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// What went wrong, as far as a caller may want to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller asked for something that cannot be: a wrong argument, an empty folder, a bad configuration.
    Usage,
    /// A picture cannot be read, or it is not the kind of picture the package was enrolled with.
    Image,
    /// A package is damaged, incomplete, unsafe, or of an unknown version.
    Package,
    /// A network is not one that this program can run.
    Model,
    /// ONNX Runtime is missing, too old, or failed.
    Runtime,
    /// A number that must be finite is not.
    NotFinite,
    /// A file could not be read or written.
    Io,
    /// The disk is full.
    StorageFull,
    /// A server does not answer, or not with what it was asked for.
    Network,
    /// A camera is missing, does not answer, or gives what cannot be used.
    Camera,
    /// A digital line or another device does not work.
    Device,
    /// A labeled data set does not have the layout it was said to have.
    Dataset,
}

impl ErrorKind {
    /// The process exit code: 2 for usage, 3 for every other fault.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Usage => 2,
            _ => 3,
        }
    }
}

/// A failure: a kind, where it happened if that is known, a message that says what to do, and the cause if there is
/// one.
pub struct Error {
    kind: ErrorKind,
    place: Option<String>,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without an underlying cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, place: None, message: message.into(), source: None }
    }

    /// The same error with what caused it.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A failed file operation on `path`; `doing` completes "cannot … PATH". A full disk gets its own kind.
    pub fn io(doing: &str, path: &Path, source: std::io::Error) -> Self {
        let full =
            matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let (kind, advice) = if full {
            (ErrorKind::StorageFull, ": the disk is full; free some space and try again")
        } else {
            (ErrorKind::Io, "")
        };
        Error::new(kind, format!("cannot {doing} {}{advice}", path.display())).with_source(source)
    }

    /// The same error with `place` (a file, a key) in front of its message, and of the place that it has already.
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.place = Some(match self.place {
            Some(inner) => format!("{place}: {inner}"),
            None => place.to_string(),
        });
        self
    }

    /// The kind, for callers to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The place, the message and every cause, joined by `: `; without the passwords of addresses.
    pub fn chain(&self) -> String {
        match &self.place {
            Some(place) => format!("{}: {}", without_passwords(place), self.reason()),
            None => self.reason(),
        }
    }

    /// As [`Error::chain`] without the place, for those who have named it.
    pub fn reason(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(c) = cause {
            text.push_str(": ");
            // Those of TOML end with a new line.
            text.push_str(c.to_string().trim_end());
            cause = c.source();
        }
        without_passwords(&text).into_owned()
    }
}

/// Maps each kind; the error of a token storage comes back as it was.
impl From<posfar::Error> for Error {
    fn from(error: posfar::Error) -> Self {
        let kind = match error {
            posfar::Error::Storage(cause) => {
                return match cause.downcast::<Error>() {
                    Ok(own) => *own,
                    Err(cause) => Error::new(ErrorKind::Io, "the token storage failed").with_source(cause),
                };
            }
            posfar::Error::ShapeMismatch(_) => ErrorKind::Model,
            posfar::Error::InvalidBank(_) => ErrorKind::Package,
            posfar::Error::NotFinite(_) => ErrorKind::NotFinite,
            _ => ErrorKind::Usage,
        };
        Error::new(kind, error.to_string())
    }
}

/// A text in which `https://USER:PASSWORD@HOST` is `https://…@HOST`.
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed("");
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        shown += before;
        let end = after.find(|c: char| c.is_whitespace() || ['/', '"', '?', '#'].contains(&c));
        rest = match after[..end.unwrap_or(after.len())].rfind('@') {
            Some(at) => {
                shown += "…";
                &after[at..]
            }
            None => after,
        };
    }
    match shown.is_empty() {
        true => rest.into(),
        false => shown + rest,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}: ", without_passwords(place))?;
        }
        f.write_str(&without_passwords(&self.message))
    }
}

/// As a `main` that returns an error shows it, and `unwrap`: for people, too.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.chain(), self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_not_told() {
        for (text, told) in [
            ("https://me:hunter2@host/a@b: no", "https://…@host/a@b: no"),
            ("https://hunter2@host", "https://…@host"),
            ("a https://me:hunt@er2@[::1]:8/x and http://b:c@d", "a https://…@[::1]:8/x and http://…@d"),
            ("https://host/me@x and none", "https://host/me@x and none"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_passwords(text), told);
            let error = Error::new(ErrorKind::Network, text).within(text);
            assert_eq!(error.chain(), format!("{told}: {told}"));
        }
    }
}
