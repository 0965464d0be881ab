//! Stands for the sentence encoder in a program built without the feature `words`.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::onnx::{Execution, Runtime};

/// Never exists.
pub enum TextEncoder {}

impl TextEncoder {
    /// # Errors
    /// [`ErrorKind::Usage`] always.
    pub fn open(_: &Runtime, _: &Path, _: &Execution) -> Result<Self> {
        let text = "this program cannot read free words; use one that was built with the feature `words`";
        Err(Error::new(ErrorKind::Usage, text))
    }

    /// Cannot be called.
    pub fn encode(&mut self, _: &str) -> Result<Vec<f32>> {
        match *self {}
    }
}
