//! The features of the good images.

use half::f16;
use half::slice::HalfFloatSliceExt;
use ndarray::{Array1, Array2, ArrayView2, CowArray, Ix2, s};

use crate::bank::{scale_of, to_f32};
use crate::{Error, Grid, Result, check_finite};

/// The cause of a failed read or write of a [`TokenStorage`].
pub type StorageError = Box<dyn std::error::Error + Send + Sync>;

/// Memory for a [`TokenStore`].
///
/// `Vec<Array2<f16>>` is plain memory. Implement this trait to keep the features elsewhere, such as in a file.
///
/// ```
/// use half::f16;
/// use ndarray::{Array2, CowArray, Ix2};
/// use posfar::{StorageError, TokenStorage, TokenStore};
///
/// /// At most so many images.
/// struct Limited(Vec<Array2<f16>>, usize);
///
/// impl TokenStorage for Limited {
///     fn push(&mut self, features: Array2<f16>) -> Result<(), StorageError> {
///         if self.0.len() == self.1 {
///             return Err("too many images".into());
///         }
///         TokenStorage::push(&mut self.0, features)
///     }
///
///     fn get(&self, image: usize) -> Result<CowArray<'_, f16, Ix2>, StorageError> {
///         TokenStorage::get(&self.0, image)
///     }
/// }
///
/// let mut store = TokenStore::new(Limited(Vec::new(), 1));
/// assert!(store.push(Array2::ones((6, 4)).view(), (2, 3)).is_ok());
/// assert!(store.push(Array2::ones((6, 4)).view(), (2, 3)).is_err());
/// ```
pub trait TokenStorage: Sync {
    /// Appends an image's features `[tokens, channels]`. The first image has the number 0.
    ///
    /// # Errors
    /// Any. [`TokenStore::push`] returns it as [`Error::Storage`].
    fn push(&mut self, features: Array2<f16>) -> Result<(), StorageError>;

    /// Returns an image's features as they were pushed. Several threads read at a time.
    ///
    /// # Errors
    /// Any. It is returned as [`Error::Storage`].
    fn get(&self, image: usize) -> Result<CowArray<'_, f16, Ix2>, StorageError>;
}

impl TokenStorage for Vec<Array2<f16>> {
    fn push(&mut self, features: Array2<f16>) -> Result<(), StorageError> {
        Vec::push(self, features);
        Ok(())
    }

    fn get(&self, image: usize) -> Result<CowArray<'_, f16, Ix2>, StorageError> {
        match self.as_slice().get(image) {
            Some(features) => Ok(features.view().into()),
            None => Err(format!("there is no image {image}").into()),
        }
    }
}

/// The features of the good images, in half precision. [`fit`](crate::fit) makes a bank of them.
///
/// ```
/// use ndarray::Array2;
/// use posfar::TokenStore;
///
/// let mut store = TokenStore::default();
/// store.push(Array2::ones((6, 4)).view(), (2, 3))?;
/// assert_eq!((store.len(), store.tokens()), (1, 6));
/// # Ok::<(), posfar::Error>(())
/// ```
#[derive(Debug)]
pub struct TokenStore<S = Vec<Array2<f16>>> {
    storage: S,
    grids: Vec<Grid>,
    channels: usize,
    tokens: usize,
    sum: Array1<f64>,
    squares: Array1<f64>,
}

impl Default for TokenStore {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl<S: TokenStorage> TokenStore<S> {
    /// An empty store in an empty `storage`. [`TokenStore::default`] keeps everything in memory.
    pub fn new(storage: S) -> Self {
        TokenStore {
            storage,
            grids: Vec::new(),
            channels: 0,
            tokens: 0,
            sum: Array1::default(0),
            squares: Array1::default(0),
        }
    }

    /// Adds an image's features `[rows × cols, channels]`, without position. Images are numbered from 0.
    ///
    /// # Errors
    /// - [`Error::ShapeMismatch`] if the shape does not fit the grid or the images before.
    /// - [`Error::NotFinite`] if a value is NaN, infinite or too large for half precision (65,504).
    /// - [`Error::Storage`] if the storage fails.
    pub fn push(&mut self, features: ArrayView2<f32>, grid: Grid) -> Result<()> {
        let (count, channels) = features.dim();
        if count == 0 || channels == 0 || count != grid.0 * grid.1 {
            return Err(Error::ShapeMismatch(format!(
                "features of shape {:?} do not fit a grid of {}×{}",
                features.dim(),
                grid.0,
                grid.1
            )));
        }
        if !self.is_empty() && channels != self.channels {
            return Err(Error::ShapeMismatch(format!(
                "features of {channels} channels among features of {}",
                self.channels
            )));
        }
        if grid.0 > usize::from(u16::MAX) || grid.1 > usize::from(u16::MAX) {
            return Err(Error::ShapeMismatch("the grid has more than 65,535 rows or columns".into()));
        }
        check_finite("the image's features", features)?;
        let mut narrow = Array2::<f16>::from_elem((count, channels), f16::ZERO);
        for (mut to, from) in narrow.rows_mut().into_iter().zip(features.rows()) {
            match (to.as_slice_mut(), from.as_slice()) {
                (Some(to), Some(from)) => to.convert_from_f32_slice(from),
                _ => to.zip_mut_with(&from, |t, &f| *t = f16::from_f32(f)),
            }
        }
        if narrow.iter().any(|v| !v.is_finite()) {
            return Err(Error::NotFinite("the image's features are too large for half precision".into()));
        }
        self.storage.push(narrow).map_err(Error::Storage)?;
        if self.is_empty() {
            self.channels = channels;
            self.sum = Array1::zeros(channels);
            self.squares = Array1::zeros(channels);
        }
        for row in features.rows() {
            ndarray::Zip::from(&mut self.sum).and(&mut self.squares).and(row).for_each(|s, q, &v| {
                let v = f64::from(v);
                *s += v;
                *q += v * v;
            });
        }
        self.tokens += count;
        self.grids.push(grid);
        Ok(())
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.grids.len()
    }

    /// Whether there is no image yet.
    pub fn is_empty(&self) -> bool {
        self.grids.is_empty()
    }

    /// Number of all images' tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns an image's features `[rows × cols, channels]` and its grid.
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`] for an image that is not there.
    /// - [`Error::Storage`] if the storage fails, [`Error::ShapeMismatch`] if it returns another shape.
    pub fn features(&self, image: usize) -> Result<(Array2<f32>, Grid)> {
        match self.grids.get(image) {
            Some(grid) => Ok((self.wide(image, self.channels)?, *grid)),
            None => Err(Error::InvalidArgument(format!("there is no image {image} in the store"))),
        }
    }

    /// The leading channels of an image's features.
    pub(crate) fn wide(&self, image: usize, channels: usize) -> Result<Array2<f32>> {
        let features = self.storage.get(image).map_err(Error::Storage)?;
        let expected = (self.grids[image].0 * self.grids[image].1, self.channels);
        if features.dim() != expected {
            return Err(Error::ShapeMismatch(format!(
                "the token storage gave image {image} with shape {:?} instead of {expected:?}",
                features.dim()
            )));
        }
        Ok(to_f32(features.slice(s![.., ..channels])))
    }

    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    pub(crate) fn grids(&self) -> &[Grid] {
        &self.grids
    }

    /// Root mean square of the channels' standard deviations.
    pub(crate) fn feature_scale(&self) -> f32 {
        scale_of(&self.sum, &self.squares, self.tokens as f64)
    }
}
