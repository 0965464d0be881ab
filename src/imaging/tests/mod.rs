//! Pixels, areas and geometry.

mod components;
mod geometry;
