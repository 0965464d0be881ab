#![doc = include_str!("../README.md")]

mod network;
mod optimizer;
#[cfg(test)]
mod tests;
mod trained;

pub use network::{HEAD_WIDTH, Layout, Part, Real, Shape, WINDOW};
pub use optimizer::{Schedule, Trainer};
pub use trained::{Anchored, Losses, Picture, Share, Targets, log_lengths};
