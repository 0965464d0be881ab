//! What people look at: the anomaly map over the picture, and a page that shows many of them.

mod chart;
mod html;

pub use html::{Entry, Order, Report, ReportWriter, Table, Truth};
