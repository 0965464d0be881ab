//! Principal component analysis.

use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;

use crate::check_finite;
use crate::{Error, Result};

/// Rows per partial sum. Fixed, so sums do not depend on the number of threads.
const CHUNK: usize = 4096;

/// An orthogonal projection onto the directions of largest variance.
///
/// ```
/// use ndarray::array;
/// use posfar::pca::{Keep, Pca};
///
/// let rows = array![[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]];
/// let pca = Pca::fit(rows.view(), Keep::Variance(0.99))?;
/// assert_eq!((pca.dims(), pca.transform(rows.view()).dim()), (1, (3, 1)));
/// # Ok::<(), posfar::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// Mean of the rows, `[channels]`.
    pub mean: Array1<f32>,
    /// One unit vector per column, largest variance first: `[channels, components]`.
    pub components: Array2<f32>,
}

/// Number of components to keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Keep {
    /// The fewest that hold this share of the variance, in (0, 1].
    Variance(f64),
    /// This many, or all, if there are fewer.
    Components(usize),
}

impl Pca {
    /// Fits rows `[rows, channels]`.
    ///
    /// The largest entry of each component is positive, so the result is unique if no two variances are equal. At
    /// least one component is kept.
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`] without rows or without channels.
    /// - [`Error::NotFinite`] for NaN, infinity, and values whose squares overflow.
    pub fn fit(rows: ArrayView2<f32>, keep: Keep) -> Result<Self> {
        let (count, channels) = rows.dim();
        if count == 0 || channels == 0 {
            return Err(Error::InvalidArgument("PCA needs at least one row and one channel".into()));
        }
        let sums: Vec<Array1<f64>> = rows
            .axis_chunks_iter(Axis(0), CHUNK)
            .into_par_iter()
            .map(|chunk| {
                let mut sum = Array1::<f64>::zeros(channels);
                for row in chunk.rows() {
                    sum.zip_mut_with(&row, |s, &v| *s += f64::from(v));
                }
                sum
            })
            .collect();
        let mut mean = Array1::<f64>::zeros(channels);
        for sum in &sums {
            mean += sum;
        }
        mean /= count as f64;
        check_finite("the data for PCA", mean.mapv(|v| v as f32).iter())?;
        let mean = mean.mapv(|v| v as f32);

        let mut covariance = Array2::<f64>::zeros((channels, channels));
        // A few chunks at a time bound the memory of the partial sums.
        for group in rows.axis_chunks_iter(Axis(0), 16 * CHUNK) {
            let parts: Vec<Array2<f32>> = group
                .axis_chunks_iter(Axis(0), CHUNK)
                .into_par_iter()
                .map(|chunk| {
                    let centered = &chunk - &mean;
                    centered.t().dot(&centered)
                })
                .collect();
            for part in &parts {
                covariance.zip_mut_with(part, |c, &p| *c += f64::from(p));
            }
        }
        covariance /= count as f64;
        if covariance.iter().any(|v| !v.is_finite()) {
            return Err(Error::NotFinite("the data for PCA is too large to be squared".into()));
        }

        let eigen = SymmetricEigen::new(DMatrix::from_fn(channels, channels, |i, j| covariance[[i, j]]));
        let mut order: Vec<usize> = (0..channels).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]).then(a.cmp(&b)));
        let kept = match keep {
            Keep::Components(n) => n.clamp(1, channels),
            Keep::Variance(share) => {
                let variance = |&i: &usize| eigen.eigenvalues[i].max(0.0);
                let total: f64 = order.iter().map(variance).sum();
                let mut held = 0.0;
                let enough = order.iter().position(|i| {
                    held += variance(i);
                    held >= share * total
                });
                enough.map_or(channels, |last| last + 1)
            }
        };
        let mut components = Array2::<f32>::zeros((channels, kept));
        for (to, &from) in order[..kept].iter().enumerate() {
            let vector = eigen.eigenvectors.column(from);
            let largest = vector.iter().fold(0.0f64, |m, &v| if v.abs() > m.abs() { v } else { m });
            let sign = if largest < 0.0 { -1.0 } else { 1.0 };
            for (i, v) in vector.iter().enumerate() {
                components[[i, to]] = (v * sign) as f32;
            }
        }
        Ok(Pca { mean, components })
    }

    /// Number of components kept.
    pub fn dims(&self) -> usize {
        self.components.ncols()
    }

    /// Projects rows `[rows, channels]` to `[rows, components]`.
    ///
    /// # Panics
    /// If `rows` has another number of channels than the fitted rows.
    pub fn transform(&self, rows: ArrayView2<f32>) -> Array2<f32> {
        let mut out = Array2::zeros((rows.nrows(), self.dims()));
        out -= &self.mean.dot(&self.components);
        self.add_projection(rows, &mut out);
        out
    }

    /// Adds rows × components, without the mean, to `out`.
    ///
    /// # Panics
    /// If a shape is wrong.
    pub(crate) fn add_projection(&self, rows: ArrayView2<f32>, out: &mut Array2<f32>) {
        assert_eq!(out.dim(), (rows.nrows(), self.dims()), "one row and one column per component");
        let chunks = out.axis_chunks_iter_mut(Axis(0), CHUNK / 16).into_par_iter();
        chunks.zip(rows.axis_chunks_iter(Axis(0), CHUNK / 16)).for_each(|(mut target, chunk)| {
            ndarray::linalg::general_mat_mul(1.0, &chunk, &self.components, 1.0, &mut target);
        });
    }
}
