//! Labels of pictures: the label file, its shapes and masks, and the formats of other tools.

mod file;
pub mod formats;
mod lock;
mod pictures;
mod runs;
mod shapes;
#[cfg(test)]
mod tests;

pub use file::{Drawn, Form, Label, LabelFile, Shape, Tag};
pub(crate) use file::{Stamp, real};
pub(crate) use lock::Lock;
pub(crate) use pictures::{Found, find};
pub use runs::Rle;
pub(crate) use runs::runs;
pub(crate) use shapes::{
    Box, Rotated, clipped_box, corners, is_number, placed_polygon, placed_rotated, rounded,
};
