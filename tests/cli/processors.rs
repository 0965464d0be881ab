//! The same package and pictures on two kinds of processors. `make cross-test` runs this on an emulated one.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use crate::common::*;

/// Largest share by which scores may differ: networks round differently on other processors.
const TOLERANCE: f64 = 1e-3;

/// Runs the program that was built for another processor.
fn other(program: &OsString, arguments: &[&Path]) -> Ran {
    // Its ONNX Runtime is not ours; it finds its own.
    Ran::of(Command::new(program).args(arguments).env_remove("ORT_DYLIB_PATH"))
}

#[test]
fn scores_on_another_processor_are_the_same() {
    let Some(program) = std::env::var_os("WEAKREST_OTHER_PROCESSOR") else {
        return skip(
            "WEAKREST_OTHER_PROCESSOR names no program for another processor; `make cross-test` does",
        );
    };
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 12);
    let own = folder.path("own.weakrest");
    enroll(&good, &own, &[]).exits(0);
    let theirs = folder.path("theirs.weakrest");
    let [enroll, quality, size, images, output] =
        ["enroll", "--quality=fast", "--size=64", "--images", "--output"].map(Path::new);
    other(&program, &[enroll, quality, size, images, &good, output, &theirs]).exits(0);

    let int8 = folder.path("int8.weakrest");
    crate::common::enroll(&good, &int8, &["--int8"]).exits(0);

    let pictures = [
        folder.picture("good.png", &part(40)),
        folder.picture("dented.png", &dented_part(41)),
        folder.picture("another.png", &part(42)),
    ];
    for package in [&own, &theirs, &int8] {
        // Both get the golden scores that one of them wrote.
        weakrest!("check", package).exits(0).prints(&["golden scores match"]);
        other(&program, &[Path::new("check"), package]).exits(0).prints(&["golden scores match"]);

        let here = weakrest!("inspect", package, pictures[0], pictures[1], pictures[2], "--json").exits(1);
        let [inspect, json] = ["inspect", "--json"].map(Path::new);
        let there =
            other(&program, &[inspect, package, &pictures[0], &pictures[1], &pictures[2], json]).exits(1);
        let (here, there) = (here.json_lines(), there.json_lines());
        assert_eq!((here.len(), there.len()), (3, 3));
        for (a, b) in here.iter().zip(&there) {
            assert_eq!(a["verdict"], b["verdict"]);
            let (a, b) = (a["score"].as_f64().unwrap(), b["score"].as_f64().unwrap());
            assert!(a > 0.0 && (a - b).abs() <= TOLERANCE * a, "{a} here and {b} on the other processor");
        }
    }
}
