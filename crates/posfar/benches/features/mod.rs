//! Reading of what `weakrest bench --dump-features` writes.

use std::error::Error;
use std::path::Path;

use ndarray::Array2;
use posfar::Grid;
use safetensors::SafeTensors;

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// Channels of a picture's cells, `[rows × cols, channels]`.
pub type Features = (Array2<f32>, Grid);

/// The arrays `features.000`, `features.001` … of `[rows, cols, channels]`, one for each picture.
pub fn read(file: &Path) -> Outcome<Vec<Features>> {
    let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    (0..tensors.len())
        .map(|number| {
            let tensor = tensors.tensor(&format!("features.{number:03}"))?;
            let values = tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let &[rows, cols, channels] = tensor.shape() else {
                return Err("three dimensions expected".into());
            };
            Ok((Array2::from_shape_vec((rows * cols, channels), values)?, (rows, cols)))
        })
        .collect()
}
