//! Marks one defect: `cargo run --example mask_from_clicks -- PACKAGE PICTURE X,Y [X,Y …]`.

use std::path::Path;

use weakrest::inspector::{Click, ClickSegmenter, Options, Prepared};
use weakrest::{Error, ErrorKind, Frame, Inspector, Package, Result};

/// How many pixels the mask has after one click after another, each on the defect.
pub fn pixels_marked(package: &Path, picture: &Path, places: &[(f32, f32)]) -> Result<Vec<usize>> {
    let package = Package::open(package)?;
    let Some(mut segmenter) = ClickSegmenter::load(&package, &Options::default())? else {
        let text = "the package has no network for clicks: weakrest package add-adclick";
        return Err(Error::new(ErrorKind::Usage, text));
    };
    let mut inspector = Inspector::with_options(package, &Options::default())?;
    // Once a picture: each click after that takes the small network alone.
    let prepared: Prepared = inspector.prepare(&Frame::open(picture)?)?;
    let (mut clicks, mut mask, mut counts) = (Vec::new(), None, Vec::new());
    for &(x, y) in places {
        clicks.push(Click { x, y, positive: true });
        let before = mask.as_ref().map(|mask: &ndarray::Array2<f32>| mask.view());
        let made = segmenter.segment(&prepared, &clicks, before, None)?;
        counts.push(made.iter().filter(|p| **p > 0.5).count());
        mask = Some(made);
    }
    Ok(counts)
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [package, picture, places @ ..] = arguments.as_slice() else {
        panic!("usage: mask_from_clicks PACKAGE PICTURE X,Y [X,Y …]")
    };
    let place = |text: &String| {
        let (x, y) = text.split_once(',').expect("X,Y");
        (x.parse().expect("a number"), y.parse().expect("a number"))
    };
    let places: Vec<_> = places.iter().map(place).collect();
    for (count, pixels) in (1..).zip(pixels_marked(package.as_ref(), picture.as_ref(), &places)?) {
        println!("{count} clicks: {pixels} pixels");
    }
    Ok(())
}
