//! Pictures, masks and geometry: from files to model input, and from the model's grid back to pixels.

mod components;
mod folder;
mod frame;
mod geometry;
mod jpeg;
mod kinds;
mod mask;
mod overlay;

pub use components::Components;
pub use folder::{Kind, Listing, find_pictures, list_pictures, named};
pub use frame::{Color, Frame};
pub use geometry::{Geometry, Placement, Scaler};
pub(crate) use jpeg::whole_jpeg;
pub use mask::{Mask, MaskRule};
pub(crate) use mask::{Seen, check_together, png_from_mask};
pub(crate) use overlay::{COLDEST, FOUND, HOTTEST, Lines, TRUTH, heat, ratio, tint};

#[cfg(test)]
mod tests;
