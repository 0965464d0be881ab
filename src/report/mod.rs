//! Reports for people: one page with pictures, anomaly maps and figures.

mod chart;
mod html;

pub use html::{Entry, Order, Report, ReportWriter, Table, Truth};
