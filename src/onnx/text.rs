//! From words to vectors.

#[cfg(feature = "words")]
mod encoder;
#[cfg(not(feature = "words"))]
#[path = "text/no_encoder.rs"]
mod encoder;

pub use encoder::TextEncoder;

use crate::error::{Error, ErrorKind, Result};

/// More is no description of a defect, and would only take time.
const MAX_TEXT: usize = 1000;

/// Refuses what cannot be a description.
///
/// # Errors
/// [`ErrorKind::Usage`] for a text without a letter or with more than 1,000 characters.
pub fn check_text(text: &str) -> Result<()> {
    let wrong = |text: String| Err(Error::new(ErrorKind::Usage, text));
    let length = text.chars().count();
    if length > MAX_TEXT {
        return wrong(format!(
            "the prompt has {length} characters; describe the defect in {MAX_TEXT} at most"
        ));
    }
    if !text.chars().any(char::is_alphabetic) {
        return wrong(
            "the prompt has no letters; describe the defect in words, such as: a thin crack".into(),
        );
    }
    Ok(())
}
