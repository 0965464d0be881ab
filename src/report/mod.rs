//! What people look at: the anomaly map over the picture, and a page that shows many of them.

mod chart;
mod html;
mod overlay;

pub use html::{Entry, Order, Report, ReportWriter, Table, Truth};
pub use overlay::{OverlayOptions, overlay, side_by_side};
