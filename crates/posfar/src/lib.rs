#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod bank;
pub mod coreset;
mod error;
mod fit;
pub mod pca;
pub mod position;
pub mod random;
pub mod retrieval;
pub mod search;
mod store;

pub use bank::{Bank, BankParts, Residuals, Scratch, TokenPlace};
pub use error::{Error, Result};
pub use fit::{Progress, fit};
pub use store::{StorageError, TokenStorage, TokenStore};

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

/// Rows and columns of a grid of cells.
pub type Grid = (usize, usize);

/// How a token's position limits its neighbors.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase", tag = "rule", deny_unknown_fields))]
pub enum Matching {
    /// Distance in space costs distance in features: every token has a position embedding added (PosFAR, arXiv
    /// 2306.03492 version 4).
    Soft {
        /// Amplitude of the embedding, in units of [`BankParts::feature_scale`]. 0 switches it off.
        weight: f32,
    },
    /// A neighbor has a maximum distance in rows and in columns (SemiREST, arXiv 2306.03492 version 1).
    Window {
        /// The maximum, as a share of the grid's longer side. Above 0.
        reach: f32,
    },
}

/// The tokens that one coreset is chosen from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum CoresetScope {
    /// One image's. Each image's tokens stand for that image, so the search of a few images loses no accuracy. Time
    /// and memory grow in proportion to the images.
    Image,
    /// All images' together, as in PatchCore. A token stands for similar tokens of *other* images, which are missing
    /// if those images are not retrieved: use it with a search of all images. Above a million tokens it is an
    /// approximation ([`coreset::k_center_in_groups`]).
    Bank,
}

/// How [`fit`] makes a bank.
///
/// ```
/// use posfar::{CoresetScope, Matching, Parameters};
///
/// let parameters = Parameters {
///     matching: Matching::Window { reach: 0.1 },
///     coreset: CoresetScope::Bank,
///     coreset_share: 0.01,
///     ..Parameters::default()
/// };
/// assert!(parameters.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Parameters {
    /// The role of position.
    pub matching: Matching,
    /// The tokens that one coreset is chosen from.
    pub coreset: CoresetScope,
    /// Share of the tokens that the bank keeps, in (0, 1].
    pub coreset_share: f32,
    /// Number of tokens that the bank keeps at least, if there are as many.
    pub coreset_floor: usize,
    /// Dimensions of the random projection in which the coreset measures distances.
    pub projection: usize,
    /// Share of the bank's variance that PCA keeps, in (0, 1].
    pub variance: f64,
    /// Number of leading channels that images are retrieved by. All channels, if there are fewer.
    pub retrieval_channels: usize,
    /// PCA components of these channels.
    pub retrieval_components: usize,
    /// K: how many similar images are searched.
    pub images: usize,
    /// Seed of the random projection and of the coreset's first token.
    pub seed: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            matching: Matching::Soft { weight: 0.1 },
            coreset: CoresetScope::Image,
            coreset_share: 0.1,
            coreset_floor: 5_000,
            projection: 64,
            variance: 0.95,
            retrieval_channels: 64,
            retrieval_components: 16,
            images: 16,
            seed: 0,
        }
    }
}

impl Parameters {
    /// Checks the range of every number.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the name of the first bad one.
    pub fn validate(&self) -> Result<()> {
        let bad = |m: String| Err(Error::InvalidArgument(m));
        match self.matching {
            Matching::Soft { weight } if !(weight.is_finite() && weight >= 0.0) => {
                return bad(format!("the position weight must be 0 or more, not {weight}"));
            }
            Matching::Window { reach } if !(reach.is_finite() && reach > 0.0) => {
                return bad(format!("the matching window must be larger than 0, not {reach}"));
            }
            _ => {}
        }
        if !(self.coreset_share > 0.0 && self.coreset_share <= 1.0) {
            return bad(format!(
                "the coreset share must be above 0 and at most 1, not {}",
                self.coreset_share
            ));
        }
        if !(self.variance > 0.0 && self.variance <= 1.0) {
            return bad(format!("the kept variance must be above 0 and at most 1, not {}", self.variance));
        }
        for (name, value) in [
            ("number of images to search", self.images),
            ("projection", self.projection),
            ("number of retrieval channels", self.retrieval_channels),
            ("number of retrieval components", self.retrieval_components),
        ] {
            if value == 0 {
                return bad(format!("the {name} must be at least 1"));
            }
        }
        Ok(())
    }
}

/// Refuses NaN and infinity; `what` names the array in the message.
fn check_finite<'a>(what: &str, values: impl IntoIterator<Item = &'a f32, IntoIter: Clone>) -> Result<()> {
    let values = values.into_iter();
    // A fold without an early end is vectorized, unlike a search for the first bad number.
    if values.clone().fold(true, |finite, v| finite & v.is_finite()) {
        return Ok(());
    }
    let at = values.take_while(|v| v.is_finite()).count();
    Err(Error::NotFinite(format!("{what} holds a value that is not a finite number (element {at})")))
}
