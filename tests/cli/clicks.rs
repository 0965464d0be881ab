//! Networks that turn clicks into masks, and heads that see the picture.

use std::path::{Path, PathBuf};

use crate::common::*;

/// What the documentation shows of the library.
#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../../examples/mask_from_clicks.rs"]
mod example;

const ADCLICK: &[u8] = include_bytes!("../data/adclick/adclick.onnx");
const SEG: &[u8] = include_bytes!("../data/onnx/seeing-head.onnx");

/// The keys of the networks in `tests/data`.
const CLICKS: &str = "kind = \"clicks\"\nradius = 5.0\nprompt = 384\n";
const SEEING: &str = "kind = \"seeing-head\"\n";

fn manifest(onnx: &[u8], keys: &str) -> String {
    let backbone = std::fs::read(ready_package().join("backbone.onnx")).unwrap();
    format!(
        "format = 3\n{keys}name = \"tiny\"\nchannels = 176\nbackbone = \"{}\"\nsetting = \"clicks\"\n\
         license = \"CC0-1.0\"\nsource = \"none\"\nsha256 = \"{}\"\ncell = 2\n",
        sha256(&backbone),
        sha256(onnx)
    )
}

/// A network with the prompts of the one that ships.
fn adclick(folder: &Folder) -> PathBuf {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/adclick.safetensors");
    folder.file("tiny.toml", manifest(ADCLICK, CLICKS).as_bytes());
    folder.file("tiny.safetensors", &std::fs::read(shipped).unwrap());
    folder.file("tiny.onnx", ADCLICK)
}

fn add(package: &Path, network: &Path, output: &Path) -> Ran {
    weakrest!("package", "add-adclick", package, "--network", network, "--output", output)
}

#[test]
fn a_package_takes_a_network_for_clicks_and_keeps_it_through_a_new_head() {
    let folder = Folder::new();
    let (network, package) = (adclick(&folder), folder.path("with-clicks.weakrest"));
    add(ready_package(), &network, &package).exits(0).prints(&["package with tiny, which knows "]);
    weakrest!("package", "show", package).exits(0).prints(&["clicks", "tiny (none; CC0-1.0)"]);
    weakrest!("package", "verify", package).exits(0).prints(&["golden scores match"]);

    folder.file("seg.toml", manifest(SEG, SEEING).as_bytes());
    let (head, both) = (folder.file("seg.onnx", SEG), folder.path("both.weakrest"));
    let good = ready_package().parent().unwrap().join("good");
    weakrest!("package", "add-head", package, "--head", head, "--images", good, "--output", both).exits(0);
    weakrest!("package", "show", both)
        .exits(0)
        .prints(&["tiny (clicks; none; CC0-1.0)", "tiny (none; CC0-1.0)"]);
    weakrest!("package", "verify", both).exits(0).prints(&["golden scores match"]);
    // Every part gets a score that is a probability.
    let part = folder.picture("new/part.png", &part(100));
    let scores = weakrest!("inspect", both, part, "--json").json_lines();
    assert!((0.0..=1.0).contains(&scores[0]["score"].as_f64().unwrap()), "{scores:?}");
}

#[test]
fn a_head_that_sees_the_picture_is_put_in_after_enrolling() {
    let folder = Folder::new();
    folder.file("seg.toml", manifest(SEG, SEEING).as_bytes());
    let head = folder.file("seg.onnx", SEG);
    let good = ready_package().parent().unwrap().join("good");
    let package = folder.path("new.weakrest");
    enroll(&good, &package, &["--head", head.to_str().unwrap()])
        .exits(2)
        .says(&["weakrest package add-head"]);
    assert!(!package.exists());
}

#[test]
fn what_is_no_network_for_clicks_is_refused_by_file() {
    let folder = Folder::new();
    let network = adclick(&folder);
    let output = folder.path("new.weakrest");
    let prompts = network.with_extension("safetensors");

    std::fs::write(&prompts, b"words").unwrap();
    add(ready_package(), &network, &output).exits(3).says(&["tiny.safetensors", "the prompts are damaged"]);
    std::fs::remove_file(&prompts).unwrap();
    add(ready_package(), &network, &output).exits(3).says(&["tiny.safetensors"]);

    adclick(&folder);
    let text = manifest(ADCLICK, CLICKS).replace("backbone = \"", "backbone = \"00");
    folder.file("tiny.toml", text.as_bytes());
    add(ready_package(), &network, &output).exits(3).says(&["tiny.onnx", "another backbone"]);
    // A network of another kind, and numbers that cannot be.
    for (keys, says) in [
        (SEEING.to_owned(), "this is a head, but a network for clicks is needed"),
        (CLICKS.replace("5.0", "nan"), "radius must be"),
        (CLICKS.replace("384", "383"), "the prompts are damaged"),
        (CLICKS.replace("384", "0"), "prompt must be"),
        (CLICKS.replace("radius", "reach"), "reach"),
    ] {
        folder.file("tiny.toml", manifest(ADCLICK, &keys).as_bytes());
        add(ready_package(), &network, &output).exits(3).says(&["tiny.", says]);
    }
    for (from, to, says) in
        [("cell = 2", "cell = 3", "do not fit into blocks"), ("cell = 2", "cell = 0", "cell must be")]
    {
        folder.file("tiny.toml", manifest(ADCLICK, CLICKS).replace(from, to).as_bytes());
        add(ready_package(), &network, &output).exits(3).says(&["tiny.", says]);
    }
    folder.file("tiny.toml", manifest(ADCLICK, CLICKS).as_bytes());
    folder.file("tiny.onnx", b"not a network");
    add(ready_package(), &network, &output).exits(3).says(&["tiny.toml", "SHA-256 differs"]);
    assert!(!output.exists());
}

#[test]
fn a_program_of_ones_own_makes_masks() {
    let folder = Folder::new();
    let picture = folder.picture("dent.png", &dented_part(7));
    let (x, y) = (0.6 * SIZE.0 as f32, 0.45 * SIZE.1 as f32);
    // Each built-in backbone has its network.
    let (good, standard) = (folder.good_parts("good", 0, 4), folder.path("standard.weakrest"));
    weakrest!("enroll", "--images", good, "--output", standard, "--size", "128").exits(0);
    for package in [ready_package(), &standard] {
        let counts = example::pixels_marked(package, &picture, &[(x, y), (x + 2.0, y)]).unwrap();
        assert!(counts.len() == 2 && counts.iter().all(|count| (1..96 * 80).contains(count)), "{counts:?}");
    }
    let outside = example::pixels_marked(ready_package(), &picture, &[(1000.0, 3.0)]).unwrap_err();
    assert!(outside.to_string().contains("1000"), "{outside}");
}
