//! Makes a small labeled data set out of three photographs, so that everything can be tried without one's own parts.
//!
//! ```text
//! cargo run --release --package demo-pictures -- SOURCE_DIR OUTPUT_DIR
//! ```
//!
//! `SOURCE_DIR` holds `brick.png`, `grass.png` and `gravel.png` (`tools/fetch-photographs.sh` puts them there).
//! `OUTPUT_DIR` gets one folder per photograph in MVTec's layout. The defects are painted: see [`defects`].

mod data_set;
mod defects;
mod plane;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [source, output] = arguments.as_slice() else {
        eprintln!("usage: demo-pictures SOURCE_DIR OUTPUT_DIR");
        return ExitCode::from(2);
    };
    match data_set::write(Path::new(source), Path::new(output)) {
        Ok(()) => {
            println!("{}: complete", Path::new(output).display());
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("demo-pictures: {message}");
            ExitCode::from(3)
        }
    }
}
