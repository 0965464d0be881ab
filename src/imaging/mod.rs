//! Pictures, masks and geometry: from files to model input, and from the model's grid back to pixels.

mod components;
mod defect;
mod folder;
mod frame;
mod geometry;
mod jpeg;
mod kinds;
mod light;
#[cfg(feature = "workshop")]
mod mask;
mod measures;
mod overlay;
mod polygon;
#[cfg(feature = "workshop")]
mod trace;

pub use components::Components;
pub(crate) use defect::{Defect, DefectKind};
#[cfg(feature = "workshop")]
pub use folder::{Kind, named};
pub use folder::{Listing, find_pictures, list_pictures};
pub use frame::{Color, Frame};
pub use geometry::{Geometry, Placement, Scaler};
pub(crate) use jpeg::whole_jpeg;
pub(crate) use light::Light;
#[cfg(feature = "workshop")]
pub use mask::{Mask, MaskRule};
#[cfg(feature = "workshop")]
pub(crate) use mask::{Seen, check_together, png_from_mask};
pub(crate) use measures::{Measures, exposure, sharpness};
#[cfg(feature = "workshop")]
pub(crate) use overlay::{COLDEST, HOTTEST, heat, ratio};
pub(crate) use overlay::{FOUND, Lines, TRUTH, tint};
#[cfg(feature = "workshop")]
pub(crate) use polygon::filled;
pub use polygon::{Point, Polygon};
#[cfg(feature = "workshop")]
pub(crate) use trace::trace;

#[cfg(test)]
mod tests;
