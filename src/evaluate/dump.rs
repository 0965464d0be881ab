//! Arrays inside an inspection, for benchmarks and other programs.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use crate::error::{Error, ErrorKind, Result};
use crate::files::write_file;
use crate::inspector::{Features, ResidualStage};

/// Named `f32` arrays.
#[derive(Debug, Default)]
pub struct Dump {
    arrays: Vec<(String, Vec<usize>, Vec<u8>)>,
}

impl Dump {
    /// Adds frame `number`'s features in a scale, `features.N` `[rows, cols, channels]`.
    pub fn add_features(&mut self, number: usize, features: &Features, scale: usize) {
        let (rows, cols) = features.placement.grid;
        let Some(tokens) = features.tokens.get(scale) else { return };
        self.add(format!("features.{number:03}"), vec![rows, cols, tokens.ncols()], tokens.iter());
    }

    /// Adds frame `number`'s search in a scale, the stage's last one: `queries.N` `[tokens, dims]` and
    /// `candidates.N` `[bank tokens, dims]`.
    pub fn add_search(&mut self, number: usize, stage: &ResidualStage, scale: usize) {
        let Some((queries, candidates)) = stage.searched(scale) else { return };
        self.add(format!("queries.{number:03}"), queries.shape().to_vec(), queries.iter());
        self.add(format!("candidates.{number:03}"), candidates.shape().to_vec(), candidates.iter());
    }

    fn add<'a>(&mut self, name: String, shape: Vec<usize>, values: impl Iterator<Item = &'a f32>) {
        self.arrays.push((name, shape, values.flat_map(|v| v.to_le_bytes()).collect()));
    }

    /// Writes a safetensors file.
    ///
    /// # Errors
    /// [`ErrorKind::Package`] if the arrays cannot be stored, [`ErrorKind::Io`] if the file cannot be
    /// written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |e| Error::new(ErrorKind::Package, "cannot store the arrays").with_source(e);
        let views: Vec<(&str, TensorView)> = self
            .arrays
            .iter()
            .map(|(name, shape, bytes)| {
                Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
            })
            .collect::<std::result::Result<_, safetensors::SafeTensorError>>()
            .map_err(failed)?;
        let file = safetensors::serialize(views, None).map_err(failed)?;
        write_file(path, &file)
    }
}
