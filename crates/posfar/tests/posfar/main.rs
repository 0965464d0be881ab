//! PosFAR against slow implementations that are too simple to be wrong.

mod bank;
mod coreset;
mod pca;
mod position;
mod retrieval;
mod search;
mod support;
