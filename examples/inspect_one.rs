//! The whole of it: `cargo run --release --example inspect_one -- PACKAGE PICTURE`

use weakrest::{Frame, Inspector};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(package), Some(picture)) = (arguments.next(), arguments.next()) else {
        return Err("usage: inspect_one PACKAGE PICTURE".into());
    };
    let inspection = Inspector::open(package)?.inspect(&Frame::open(picture)?)?;
    println!("{}: score {:.3}, threshold {:.3}", inspection.verdict, inspection.score, inspection.threshold);
    for region in &inspection.regions {
        println!("  {}×{} at {},{}", region.width, region.height, region.x, region.y);
    }
    Ok(())
}
