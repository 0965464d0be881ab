//! One error type for the whole crate.
//!
//! People read the message and its causes. Callers branch on the [`ErrorKind`], which alone decides the exit
//! code.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// The kind of a failure, for callers to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A wrong argument, an empty folder or a bad configuration.
    Usage,
    /// A picture cannot be read, or differs in kind from the enrolled pictures.
    Image,
    /// A package is damaged, incomplete, unsafe or of an unknown version.
    Package,
    /// A network cannot be run by this program.
    Model,
    /// ONNX Runtime is missing, too old or failed.
    Runtime,
    /// A number is infinite or NaN.
    NotFinite,
    /// A file cannot be read or written.
    Io,
    /// The disk is full.
    StorageFull,
    /// A server does not answer, or gives a wrong answer.
    Network,
    /// A camera is missing, does not answer or gives bad frames.
    Camera,
    /// A digital line or another device does not work.
    Device,
    /// A labeled data set has another layout.
    Dataset,
}

impl ErrorKind {
    /// The process exit code: 2 for usage, 3 for every other fault.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Usage => 2,
            _ => 3,
        }
    }
}

/// A condition that the caller may have a remedy for: an option, or another command.
///
/// ```
/// use weakrest::{Hint, Package};
///
/// if let Err(error) = Package::open("bottle.weakrest") {
///     let remedy = if error.hints().contains(&Hint::Unsigned) { "; ask for a signed one" } else { "" };
///     println!("{}{remedy}", error.chain());
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hint {
    /// The output exists already.
    Exists,
    /// Some entries of the input are bad. The others could be used without them.
    BadEntries,
    /// Good pictures differ in size.
    OtherSizes,
    /// An import calls no picture good and marks no defect.
    NothingMarked,
    /// A folder has the name that good parts usually have, but not the one that was asked for.
    OtherGoodFolder,
    /// The package is for another product than the one in its place.
    OtherProduct,
    /// The package was signed before the one in its place.
    Older,
    /// The package must be signed, and is not.
    Unsigned,
    /// The package's description was changed after it was made.
    Changed,
    /// The head belongs into a package that is enrolled already.
    LaterHead,
    /// The transfer took too long.
    Slow,
    /// An address beyond this machine needs a token.
    NoToken,
    /// The system trusts no certificate authority.
    NoAuthority,
    /// ONNX Runtime is missing or cannot be used.
    NoRuntime,
}

/// A failure: a kind, a message that says what to do, and place, setting and cause if they are known.
pub struct Error {
    kind: ErrorKind,
    place: Option<String>,
    key: Option<String>,
    message: String,
    hints: Vec<Hint>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without an underlying cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, place: None, key: None, message: message.into(), hints: Vec::new(), source: None }
    }

    /// A setting that is wrong. `key` is its full name, such as `pipeline.queue`.
    pub(crate) fn setting(key: impl Into<String>, message: impl Into<String>) -> Self {
        Error { key: Some(key.into()), ..Error::new(ErrorKind::Usage, message) }
    }

    /// The same error, caused by the value of a setting.
    pub(crate) fn with_key(mut self, key: impl Into<String>) -> Self {
        // The place is within what the setting names.
        if let Some(place) = self.place.take() {
            self.message = format!("{place}: {}", self.message);
        }
        self.key = Some(key.into());
        self
    }

    /// The same error with a condition that the caller may have a remedy for.
    pub(crate) fn with_hint(mut self, hint: Hint) -> Self {
        self.hints.push(hint);
        self
    }

    /// The same error with its cause.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A failed file operation on `path`. `doing` completes "cannot … PATH". A full disk has its own kind.
    pub(crate) fn io(doing: &str, path: &Path, source: std::io::Error) -> Self {
        let full =
            matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let (kind, advice) = if full {
            (ErrorKind::StorageFull, ": the disk is full; free some space and try again")
        } else {
            (ErrorKind::Io, "")
        };
        Error::new(kind, format!("cannot {doing} {}{advice}", path.display())).with_source(source)
    }

    /// The same error with `place`, such as a file, in front of its message and its present place.
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.place = Some(match self.place {
            Some(inner) => format!("{place}: {inner}"),
            None => place.to_string(),
        });
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The wrong setting, such as `pipeline.queue`.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Conditions that the caller may have a remedy for.
    pub fn hints(&self) -> &[Hint] {
        &self.hints
    }

    /// Place, key, message and every cause, joined by `: `. Passwords of addresses are left out.
    pub fn chain(&self) -> String {
        self.chain_with(|_| "")
    }

    /// [`Error::chain`] with a remedy behind the message, such as `; use another name`, for each hint.
    pub(crate) fn chain_with(&self, remedy: impl Fn(Hint) -> &'static str) -> String {
        let text = format!("{}{}", self.places(), self.message_with(&remedy));
        without_passwords(&(text + &self.causes(&remedy))).into_owned()
    }

    /// [`Error::chain`] without place and key.
    pub(crate) fn reason(&self) -> String {
        without_passwords(&(self.message.clone() + &self.causes(&|_| ""))).into_owned()
    }

    fn places(&self) -> String {
        self.place.iter().chain(&self.key).map(|place| format!("{place}: ")).collect()
    }

    fn message_with(&self, remedy: &dyn Fn(Hint) -> &'static str) -> String {
        let mut message = self.message.clone();
        // A list may follow on lines of its own.
        let first = message.find('\n').unwrap_or(message.len());
        let end = message[..first].trim_end_matches(':').len();
        let remedies: String = self.hints.iter().map(|hint| remedy(*hint)).collect();
        message.insert_str(end, &remedies);
        message
    }

    fn causes(&self, remedy: &dyn Fn(Hint) -> &'static str) -> String {
        let mut text = String::new();
        let mut cause = std::error::Error::source(self);
        while let Some(c) = cause {
            text.push_str(": ");
            match c.downcast_ref::<Error>() {
                Some(e) => text.push_str(&(e.places() + &e.message_with(remedy))),
                // Errors of TOML end with a line break.
                None => text.push_str(c.to_string().trim_end()),
            }
            cause = c.source();
        }
        text
    }
}

/// The text with `https://…@HOST` instead of `https://USER:PASSWORD@HOST`.
pub(crate) fn without_passwords(text: &str) -> Cow<'_, str> {
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
        for place in self.place.iter().chain(&self.key) {
            write!(f, "{}: ", without_passwords(place))?;
        }
        f.write_str(&without_passwords(&self.message))
    }
}

/// Readable, as `unwrap` and a `main` that returns an error show it.
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
