//! Judges one picture: `cargo run --example inspect_one -- PACKAGE PICTURE`.

use std::path::Path;

use weakrest::{Frame, Inspection, Inspector, Region, Result};

/// For many pictures, keep the inspector: opening it checks every file of the package.
pub fn inspect_one(package: &Path, picture: &Path) -> Result<Inspection> {
    Inspector::open(package)?.inspect(&Frame::open(picture)?)
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [package, picture] = arguments.as_slice() else { panic!("usage: inspect_one PACKAGE PICTURE") };
    let inspection = inspect_one(package.as_ref(), picture.as_ref())?;
    println!("{} (score {:.2}, threshold {:.2})", inspection.verdict, inspection.score, inspection.threshold);
    for Region { x, y, width, height, peak, .. } in &inspection.regions {
        println!("  {width}×{height} at {x},{y}, up to {peak:.2}");
    }
    Ok(())
}
