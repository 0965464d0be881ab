//! Reading pictures, and the way from pixels to model input.

mod by_hand;
mod frame;
mod jpeg;
mod jpeg_by_hand;
mod refused;
