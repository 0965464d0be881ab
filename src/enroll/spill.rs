//! Features that the memory has no room for, in a temporary file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use half::f16;
use ndarray::{Array2, CowArray, Ix2};
use posfar::{StorageError, TokenStorage};

use crate::error::Error;

/// Memory that features take by default: 2,900 pictures of 32 × 32 tokens with 176 channels.
const MEMORY: usize = 1 << 30;

/// Keeps features in memory, and those beyond a limit in a file.
///
/// The file is in the system's folder for temporary files (`TMPDIR`). It has no name and is gone with the process.
#[derive(Debug)]
pub(super) struct Spill {
    images: Vec<Features>,
    memory: usize,
    file: Option<(File, u64)>,
}

#[derive(Debug)]
enum Features {
    Memory(Array2<f16>),
    /// Shape, and where they begin in the file.
    File([usize; 2], u64),
}

impl Spill {
    /// One of `count` that share the default's memory.
    pub fn shared(count: usize) -> Self {
        Self::with_memory(MEMORY / count.max(1))
    }

    /// Takes at most `bytes` of memory.
    pub fn with_memory(bytes: usize) -> Self {
        Spill { images: Vec::new(), memory: bytes, file: None }
    }
}

impl TokenStorage for Spill {
    fn push(&mut self, features: Array2<f16>) -> Result<(), StorageError> {
        let size = features.len() * size_of::<f16>();
        if let Some(rest) = self.memory.checked_sub(size) {
            self.memory = rest;
            self.images.push(Features::Memory(features));
            return Ok(());
        }
        let folder = std::env::temp_dir();
        let doing = |e| Error::io("keep the good parts' features in a temporary file in", &folder, e);
        let (file, end) = match &mut self.file {
            Some(file) => file,
            none => none.insert((tempfile::tempfile_in(&folder).map_err(doing)?, 0)),
        };
        let bytes: Vec<u8> = features.iter().flat_map(|v| v.to_le_bytes()).collect();
        file.write_all_at(&bytes, *end).map_err(doing)?;
        self.images.push(Features::File([features.nrows(), features.ncols()], *end));
        *end += bytes.len() as u64;
        Ok(())
    }

    fn get(&self, image: usize) -> Result<CowArray<'_, f16, Ix2>, StorageError> {
        let (shape, first) = match self.images.get(image) {
            Some(Features::Memory(features)) => return Ok(features.view().into()),
            Some(Features::File(shape, first)) => (*shape, *first),
            None => return Err(format!("there is no image {image}").into()),
        };
        let mut bytes = vec![0; shape[0] * shape[1] * size_of::<f16>()];
        if let Some((file, _)) = &self.file {
            file.read_exact_at(&mut bytes, first).map_err(|e| {
                let folder = std::env::temp_dir();
                Error::io("read the good parts' features from a temporary file in", &folder, e)
            })?;
        }
        let values = bytes.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes)).collect();
        Ok(Array2::from_shape_vec(shape, values)?.into())
    }
}

#[cfg(test)]
mod tests {
    use posfar::{CoresetScope, Parameters, TokenStore, fit};

    use super::*;

    /// Images that the memory has no room for come back from a file as they were.
    #[test]
    fn a_store_of_any_memory_gives_the_same_bank() {
        let grids = [(6, 9), (9, 6), (8, 8), (3, 5), (12, 4), (1, 7)];
        let images = grids.map(|(rows, cols)| {
            let value = |(i, j)| ((i * 7 + j * 5 + rows * 3) % 11) as f32;
            (Array2::from_shape_fn((rows * cols, 10), value), (rows, cols))
        });
        let size = |image: usize| images[image].0.len() * 2;
        let mut whole = TokenStore::default();
        for (features, grid) in &images {
            whole.push(features.view(), *grid).unwrap();
        }
        for coreset in [CoresetScope::Bank, CoresetScope::Image] {
            let parameters =
                Parameters { coreset, coreset_share: 0.4, coreset_floor: 1, ..Parameters::default() };
            let expected = fit(&whole, &parameters, &mut |_, _| true).unwrap().unwrap();
            for memory in [0, size(0), size(0) + size(1) + size(2) + 1, usize::MAX] {
                let mut small = TokenStore::new(Spill::with_memory(memory));
                for (features, grid) in &images {
                    small.push(features.view(), *grid).unwrap();
                }
                for image in 0..images.len() {
                    assert_eq!(small.features(image).unwrap(), whole.features(image).unwrap());
                }
                let bank = fit(&small, &parameters, &mut |_, _| true).unwrap().unwrap();
                assert_eq!(bank.parts(), expected.parts(), "{memory} bytes");
            }
        }
    }
}
