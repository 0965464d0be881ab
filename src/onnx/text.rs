//! Words → vectors.

#[cfg(feature = "words")]
mod encoder;
#[cfg(not(feature = "words"))]
#[path = "text/no_encoder.rs"]
mod encoder;

pub use encoder::TextEncoder;

use crate::error::{Error, ErrorKind, Result};

/// Longest description of a defect, in characters.
const MAX_TEXT: usize = 1000;

/// Refuses a text that cannot be a description.
///
/// # Errors
/// [`ErrorKind::Usage`] for a text without a letter or with more than `MAX_TEXT` characters.
pub fn check_text(text: &str) -> Result<()> {
    let wrong = |text: String| Err(Error::new(ErrorKind::Usage, text));
    let length = text.chars().count();
    if length > MAX_TEXT {
        return wrong(format!("the prompt has {length} characters; use at most {MAX_TEXT}"));
    }
    if !text.chars().any(char::is_alphabetic) {
        return wrong(
            "the prompt has no letters; describe the defect in words, such as \"a thin crack\"".into(),
        );
    }
    Ok(())
}
