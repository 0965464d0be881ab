//! What the nearest-neighbor search works on, for measuring it against other programs.

use std::path::Path;

use ndarray::Array2;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::{Error, ErrorKind, Result};
use crate::files::write_file;
use crate::inspector::ResidualStage;

/// Searches of some frames.
#[derive(Debug, Default)]
pub struct SearchDump {
    arrays: Vec<(String, Array2<f32>)>,
}

impl SearchDump {
    /// Adds the search that a stage did last.
    pub fn add(&mut self, stage: &ResidualStage) {
        let number = self.arrays.len() / 2;
        let (queries, candidates) = stage.searched();
        self.arrays.push((format!("queries.{number:03}"), queries.to_owned()));
        self.arrays.push((format!("candidates.{number:03}"), candidates));
    }

    /// Writes a safetensors file of `f32` arrays: `queries.N` `[tokens, dims]` and `candidates.N` `[bank tokens, dims]`
    /// for each frame N.
    ///
    /// # Errors
    /// [`ErrorKind::Package`] when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes: Vec<Vec<u8>> =
            self.arrays.iter().map(|(_, a)| a.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let failed = |e| Error::new(ErrorKind::Package, "cannot store the searches").with_source(e);
        let views: Vec<(&str, TensorView)> = self
            .arrays
            .iter()
            .zip(&bytes)
            .map(|((name, array), bytes)| {
                Ok((name.as_str(), TensorView::new(Dtype::F32, array.shape().to_vec(), bytes)?))
            })
            .collect::<std::result::Result<_, safetensors::SafeTensorError>>()
            .map_err(failed)?;
        let file = safetensors::serialize(views, None)
            .map_err(|e| Error::new(ErrorKind::Package, "cannot store the searches").with_source(e))?;
        write_file(path, &file)
    }
}
