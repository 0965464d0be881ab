//! Residuals of the pictures that a head learns from, in a file without a name.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use ndarray::{Array3, Array4};
use posfar::Residuals;
use swinhead::log_lengths;

use super::NEIGHBORS;
use crate::error::{Error, Result};
use crate::imaging::Placement;
use crate::inspector::{FrameResiduals, join};

/// A picture in the store.
pub(super) struct Stored {
    at: u64,
    pub placement: Placement,
    /// Of each block's nearest residual.
    pub lengths: Vec<f32>,
    /// Mean square of each block's nearest residual: larger for stranger blocks.
    pub suspicion: Vec<f32>,
}

/// Residuals in half precision. The system keeps of the file in memory what fits.
pub(super) struct Store {
    file: File,
    end: u64,
    /// Channels of each scale.
    scales: Vec<usize>,
    /// Unit of each scale's residuals.
    units: Vec<f32>,
    pub pictures: Vec<Stored>,
}

impl Store {
    /// An empty store in a folder.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] if the folder takes no file.
    pub fn new(folder: &Path, scales: Vec<usize>, units: Vec<f32>) -> Result<Self> {
        let file = tempfile::tempfile_in(folder)
            .map_err(|e| Error::io("keep residuals in a temporary file in", folder, e))?;
        Ok(Store { file, end: 0, scales, units, pictures: Vec::new() })
    }

    /// Values per block.
    pub fn channels(&self) -> usize {
        self.scales.iter().sum()
    }

    /// Adds a picture's residuals of [`NEIGHBORS`] neighbors.
    ///
    /// # Errors
    /// [`crate::ErrorKind::StorageFull`] or [`crate::ErrorKind::Io`] when writing fails.
    pub fn add(&mut self, found: &FrameResiduals) -> Result<()> {
        let (channels, grid) = (self.channels(), found.placement.grid);
        let mut stored =
            Stored { at: self.end, placement: found.placement, lengths: Vec::new(), suspicion: Vec::new() };
        let mut joined = Array4::zeros((1, grid.0, grid.1, channels));
        for neighbor in 0..NEIGHBORS {
            join(&found.scales, &self.units, neighbor, (0, 0), grid, channels, joined.view_mut())?;
            let values = joined.as_slice().unwrap_or_default();
            if neighbor == 0 {
                for block in values.chunks_exact(channels.max(1)) {
                    stored.lengths.push(log_lengths(block, &self.scales));
                    stored.suspicion.push(block.iter().map(|v| v * v).sum::<f32>() / channels as f32);
                }
            }
            let bytes = super::residuals::in_half_precision(values);
            self.file
                .write_all_at(&bytes, self.end)
                .map_err(|e| Error::io("keep residuals in a temporary file in", &std::env::temp_dir(), e))?;
            self.end += bytes.len() as u64;
        }
        self.pictures.push(stored);
        Ok(())
    }

    /// The residuals of one neighbor, `[blocks, channels]`, scaled.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when reading fails.
    pub fn read(&self, picture: usize, neighbor: usize) -> Result<Vec<f32>> {
        let stored = &self.pictures[picture];
        let count = stored.lengths.len() * self.channels();
        let mut bytes = vec![0; count * size_of::<f16>()];
        let at = stored.at + (neighbor * bytes.len()) as u64;
        self.file
            .read_exact_at(&mut bytes, at)
            .map_err(|e| Error::io("read residuals from a temporary file in", &std::env::temp_dir(), e))?;
        let half: Vec<f16> = bytes.as_chunks::<2>().0.iter().map(|pair| f16::from_le_bytes(*pair)).collect();
        let mut values = vec![0.0; count];
        half.convert_to_f32_slice(&mut values);
        Ok(values)
    }

    /// The nearest residuals as the inspector has them.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn residuals(&self, picture: usize) -> Result<FrameResiduals> {
        let (placement, values) = (self.pictures[picture].placement, self.read(picture, 0)?);
        let blocks = self.pictures[picture].lengths.len();
        let mut first = 0;
        let scales = self.scales.iter().zip(&self.units).map(|(&channels, unit)| {
            let own = values.chunks_exact(self.channels()).flat_map(|block| &block[first..first + channels]);
            let own: Vec<f32> = own.map(|value| value * unit).collect();
            first += channels;
            let norms =
                own.chunks_exact(channels).map(|b| b.iter().map(|v| v * v).sum::<f32>().sqrt()).collect();
            let values = Array3::from_shape_vec((1, blocks, channels), own).unwrap_or_default();
            Residuals { grid: placement.grid, values, norms, ..Residuals::default() }
        });
        Ok(FrameResiduals { scales: scales.collect(), placement, ..FrameResiduals::default() })
    }
}
