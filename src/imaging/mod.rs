//! Pixels: what a picture is, how it becomes model input, and how positions on the model's grid come back to it.

mod components;
mod folder;
mod frame;
mod geometry;
mod jpeg;
mod kinds;

pub use components::{Component, Components};
pub use folder::{Kind, Listing, named};
pub use frame::{Color, Frame};
pub use geometry::{Geometry, Placement, Scaler};
pub(crate) use jpeg::whole_jpeg;
