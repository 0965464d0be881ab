//! PosFAR: positional fast anomaly residuals (arXiv 2306.03492, "WeakREST"). Pure maths on arrays: no files, no
//! networks.
//!
//! Good images are cut into *tokens* (one feature vector per grid cell). A fixed position embedding is added
//! ([`position`]), the tokens are thinned to a *bank* ([`coreset`]), and PCA makes a smaller space in which distances
//! are measured ([`pca`]). For a new image the most similar good images are retrieved ([`retrieval`]), each of its
//! tokens finds its exact nearest neighbor among theirs ([`search`]), and what is left over is the *residual*
//! ([`Bank::residuals`]).
//!
//! The same seed gives the same result for every number of threads. Equal distances are resolved by the lowest index.

mod bank;
pub mod coreset;
mod error;
mod fit;
pub mod pca;
pub mod position;
mod random;
pub mod retrieval;
pub mod search;
mod store;

pub use bank::{Bank, BankParts, Residuals, Scratch, TokenPlace};
pub use error::{Error, Result};
pub use fit::{Progress, fit};
pub use store::{StorageError, TokenStorage, TokenStore};

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

/// Rows and columns of a grid of tokens.
pub type Grid = (usize, usize);

/// How a token's position limits which bank tokens it may match.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase", tag = "rule", deny_unknown_fields))]
pub enum Matching {
    /// PosFAR: a sin-cos embedding of the position is added to every token, so that distance in space costs distance
    /// in features (arXiv 2306.03492 v4, PosFAR).
    Soft {
        /// Amplitude of the embedding in units of the features' standard deviation ([`BankParts::feature_scale`]).
        weight: f32,
    },
    /// SemiREST: no embedding; a neighbor may be at most this far away in row and in column (arXiv 2306.03492 v1).
    Window {
        /// Share of the grid's longer side.
        reach: f32,
    },
}

/// What a coreset is taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum CoresetScope {
    /// Of each image's tokens by themselves. Whatever images are retrieved, their own tokens stand for all of them, so
    /// that searching K images costs no accuracy; and it takes time and memory in proportion to the images.
    Image,
    /// Of all images' tokens together, as in PatchCore. A token stands for similar ones of *other* images, which are
    /// not searched when those are not retrieved: meant for searching all images. Of more than a million tokens an
    /// approximation ([`coreset::k_center_in_groups`]).
    Bank,
}

/// What a bank is made with.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Parameters {
    /// The role of position.
    pub matching: Matching,
    /// What a coreset is taken of.
    pub coreset: CoresetScope,
    /// Share of the tokens that the coreset keeps, in (0, 1].
    pub coreset_share: f32,
    /// The coreset keeps at least this many tokens of all images together (as far as there are so many).
    pub coreset_floor: usize,
    /// Dimensions of the random projection in which the coreset measures distances.
    pub projection: usize,
    /// Share of the bank's variance that PCA keeps for measuring distances, in (0, 1].
    pub variance: f64,
    /// Channels, from the first, that make up the early feature map which images are retrieved by.
    pub retrieval_channels: usize,
    /// PCA components kept of the early feature map.
    pub retrieval_components: usize,
    /// K: how many similar images are searched.
    pub images: usize,
    /// Seed of the random projection and of the coreset's first token.
    pub seed: u64,
}

impl Parameters {
    /// Checks that every number makes sense.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the value that does not.
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

/// Refuses arrays with a value that is not finite; `what` names the array in the message.
fn check_finite<'a>(what: &str, values: impl IntoIterator<Item = &'a f32, IntoIter: Clone>) -> Result<()> {
    let values = values.into_iter();
    // Folding without an early end is many times as fast as looking for the first one.
    if values.clone().fold(true, |finite, v| finite & v.is_finite()) {
        return Ok(());
    }
    let at = values.take_while(|v| v.is_finite()).count();
    Err(Error::NotFinite(format!("{what} holds a value that is not a finite number (element {at})")))
}
