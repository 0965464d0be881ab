//! Types of defects, and phrases for them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::onnx::check_text;

const MOST_TYPE: usize = 100;

/// Phrases by type of defect.
pub type Prompts = BTreeMap<String, Vec<String>>;

/// Reads `{"crack": ["a thin crack", "…"], "print": "a misprint"}`.
///
/// # Errors
/// [`ErrorKind::Usage`] for other content; [`ErrorKind::Io`] when the file cannot be read.
pub fn read(path: &Path) -> Result<Prompts> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Phrases {
        One(String),
        Several(Vec<String>),
    }
    let within = |e: Error| e.within(path.display());
    let text = files::read_text(path)?;
    let given: BTreeMap<String, Phrases> = serde_json::from_str(&text).map_err(|e| {
        let wrong = r#"must be JSON such as {"crack": ["a thin crack"]}"#;
        within(Error::new(ErrorKind::Usage, wrong).with_source(e))
    })?;
    let mut prompts = Prompts::new();
    for (kind, phrases) in given {
        let phrases = match phrases {
            Phrases::One(phrase) => vec![phrase],
            Phrases::Several(phrases) => phrases,
        };
        check_type(&kind).and_then(|()| phrases.iter().try_for_each(|p| check_text(p))).map_err(within)?;
        prompts.insert(kind, phrases);
    }
    Ok(prompts)
}

/// Checks the name of a type of defect.
///
/// # Errors
/// [`ErrorKind::Usage`] when it is empty, too long or not a name.
pub fn check_type(text: &str) -> Result<()> {
    let count = text.chars().count();
    if text.trim() != text || text.is_empty() || count > MOST_TYPE || text.chars().any(char::is_control) {
        let text = format!(
            "the type of a defect must be a name of 1 to {MOST_TYPE} characters, such as crack, without line breaks and \
             without spaces around it"
        );
        return Err(Error::new(ErrorKind::Usage, text));
    }
    if ["good", "defective"].contains(&text.to_lowercase().as_str()) {
        let text = format!("{text} cannot be the type of a defect, because it is a tag");
        return Err(Error::new(ErrorKind::Usage, text));
    }
    Ok(())
}
