//! Pictures beside their overlays, two pairs in a row, in one picture: `make readme-picture`
//!
//! `cargo run --release --example contact_sheet -- OUTPUT PACKAGE PICTURE...`

use image::{Rgb, RgbImage, imageops};
use weakrest::inspector::{OverlayOptions, overlay};
use weakrest::{Frame, Inspector};

const PAIRS_PER_ROW: usize = 2;
const GAP: u32 = 12;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [output, package, pictures @ ..] = arguments.as_slice() else {
        return Err("usage: contact_sheet OUTPUT PACKAGE PICTURE...".into());
    };
    let mut inspector = Inspector::open(package)?;
    let mut pairs = Vec::new();
    for picture in pictures {
        let frame = Frame::open(picture)?;
        let inspection = inspector.inspect(&frame)?;
        pairs.push(side_by_side(&frame.to_rgb(), &overlay(&frame, &inspection, &OverlayOptions::default())));
    }
    let width = pairs.iter().map(RgbImage::width).max().ok_or("there are no pictures")?;
    let height = pairs.iter().map(RgbImage::height).max().unwrap_or(0);
    let rows = pairs.len().div_ceil(PAIRS_PER_ROW) as u32;
    let columns = pairs.len().min(PAIRS_PER_ROW) as u32;
    let mut sheet =
        RgbImage::from_pixel(columns * (width + GAP) - GAP, rows * (height + GAP) - GAP, Rgb([255; 3]));
    for (i, pair) in pairs.iter().enumerate() {
        let (row, column) = ((i / PAIRS_PER_ROW) as u32, (i % PAIRS_PER_ROW) as u32);
        imageops::replace(&mut sheet, pair, (column * (width + GAP)).into(), (row * (height + GAP)).into());
    }
    sheet.save(output)?;
    Ok(())
}

/// Two pictures next to each other with a narrow white gap, aligned at the top.
fn side_by_side(left: &RgbImage, right: &RgbImage) -> RgbImage {
    let height = left.height().max(right.height());
    let gap = (height / 64).max(2);
    let mut both = RgbImage::from_pixel(left.width() + gap + right.width(), height, Rgb([255; 3]));
    imageops::replace(&mut both, left, 0, 0);
    imageops::replace(&mut both, right, i64::from(left.width() + gap), 0);
    both
}
