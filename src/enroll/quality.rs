//! Levels of quality: how much time a picture may take.

use crate::error::Result;
use crate::package::BackboneFile;

use super::Settings;

/// What a picture's inspection may cost. Each level is a backbone, a resolution and a number of similar pictures;
/// docs/lab-notebook.md has what they see and how long they take.
///
/// ```
/// use weakrest::enroll::Quality;
///
/// let (fast, best) = (Quality::Fast.settings(), Quality::Best.settings());
/// assert!(fast.longest_side < best.longest_side);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quality {
    /// One scale at 256 pixels: for large or plain defects, and for many parts per second.
    Fast,
    /// Three scales at 448 pixels.
    #[default]
    Standard,
    /// Three scales at 768 pixels: for fine defects.
    Best,
}

impl Quality {
    /// All levels, the fastest first.
    pub const ALL: [Quality; 3] = [Quality::Fast, Quality::Standard, Quality::Best];

    /// The built-in backbone of this level.
    ///
    /// # Errors
    /// None in a program built from an intact source tree.
    pub fn backbone(self) -> Result<BackboneFile> {
        match self {
            Quality::Fast => BackboneFile::built_in(),
            Quality::Standard | Quality::Best => BackboneFile::built_in_scales(),
        }
    }

    /// The settings of this level; the others are the defaults.
    pub fn settings(self) -> Settings {
        let longest_side = match self {
            Quality::Fast => 256,
            Quality::Standard => 448,
            Quality::Best => 768,
        };
        Settings { longest_side: Some(longest_side), ..Settings::default() }
    }
}
