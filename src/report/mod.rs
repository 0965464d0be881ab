//! What people look at: the anomaly map over the picture, and a page that shows many of them.

mod chart;
mod html;
mod overlay;

pub use html::{Entry, Order, Report, ReportWriter, Table, Truth};
pub use overlay::{OverlayOptions, overlay, side_by_side};
pub(crate) use overlay::{heat, ratio};

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// Writes a picture as PNG, whole or not at all.
///
/// # Errors
/// [`ErrorKind::StorageFull`] or [`ErrorKind::Io`] when the file cannot be written.
pub fn save_picture(path: &Path, picture: &image::RgbImage) -> Result<()> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|e| Error::new(ErrorKind::Image, "cannot encode a picture").with_source(e))?;
    crate::files::write_file(path, bytes.get_ref())
}
