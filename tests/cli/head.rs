//! Trained heads, and what their training reads.

use std::path::{Path, PathBuf};

use half::f16;
use image::DynamicImage;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::common::*;

const HEAD: &[u8] = include_bytes!("../data/onnx/head.onnx");
const OTHER_CHANNELS: &[u8] = include_bytes!("../data/onnx/head-of-other-channels.onnx");
const CONSTANT: &[u8] = include_bytes!("../data/onnx/head-constant.onnx");
const NOT_FINITE: &[u8] = include_bytes!("../data/onnx/head-not-finite.onnx");
const THREE_CLASSES: &[u8] = include_bytes!("../data/onnx/head-of-three-classes.onnx");

/// Writes a head for the backbone of [`ready_package`], changed as `change` says.
fn head(folder: &Folder, onnx: &[u8], change: impl Fn(String) -> String) -> PathBuf {
    let backbone = std::fs::read(ready_package().join("backbone.onnx")).unwrap();
    let manifest = format!(
        "format = 3\nkind = \"block-head\"\nname = \"mean\"\nsource = \"none\"\nlicense = \"CC0-1.0\"\nsha256 = \"{}\"\nbackbone = \"{}\"\n\
         channels = 176\nsetting = \"unsupervised\"\nwindow = 0\nstep = 0\n",
        sha256(onnx),
        sha256(&backbone)
    );
    folder.file("mean.toml", change(manifest).as_bytes());
    folder.file("mean.onnx", onnx)
}

fn same(text: String) -> String {
    text
}

fn good() -> PathBuf {
    ready_package().parent().unwrap().join("good")
}

fn add_head(package: &Path, head: &Path, output: &Path) -> Ran {
    weakrest!("package", "add-head", package, "--head", head, "--images", good(), "--output", output)
}

#[test]
fn a_package_with_a_head_judges_by_it() {
    let folder = Folder::new();
    let (head, package) = (head(&folder, HEAD, same), folder.path("with-head.weakrest"));
    add_head(ready_package(), &head, &package).exits(0).prints(&["12 good pictures", "threshold  "]);
    weakrest!("package", "show", package).exits(0).prints(&["mean (unsupervised; none; CC0-1.0)"]);
    weakrest!("package", "show", ready_package()).exits(0).prints(&["none; the score of a block"]);
    weakrest!("package", "verify", package).exits(0).prints(&["golden scores match"]);

    let good = folder.picture("new/good.png", &part(102));
    let bad = folder.picture("new/bad.png", &dented_part(101));
    let inspected = weakrest!("inspect", package, good, bad, "--json").exits(1).json_lines();
    assert_eq!((&inspected[0]["verdict"], &inspected[1]["verdict"]), (&json!("pass"), &json!("reject")));
    for part in &inspected {
        let score = part["score"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&score), "a head's scores are probabilities: {score}");
    }
    let threshold = inspected[0]["threshold"].as_f64().unwrap();
    assert!(threshold > 0.0 && threshold < 1.0, "twelve parts must not put it out of reach: {threshold}");
}

/// A head that says nothing leaves every score; one that knows defects moves good and bad parts apart.
#[test]
fn a_head_can_correct_scores() {
    let folder = Folder::new();
    let correction = |text: String| text + "output = \"correction\"\n";
    let add = |onnx: &[u8], name: &str| {
        let package = folder.path(name);
        add_head(ready_package(), &head(&folder, onnx, correction), &package).exits(0);
        package
    };
    let (silent, knowing) = (add(CONSTANT, "silent.weakrest"), add(HEAD, "knowing.weakrest"));
    let pictures = [folder.picture("good.png", &part(102)), folder.picture("bad.png", &dented_part(101))];
    let scores = |package: &Path| -> Vec<f64> {
        let lines = weakrest!("inspect", package, &pictures[0], &pictures[1], "--json").exits(1).json_lines();
        lines.iter().map(|part| part["score"].as_f64().unwrap()).collect()
    };
    let (plain, same, corrected) = (scores(ready_package()), scores(&silent), scores(&knowing));
    for (before, after) in plain.iter().zip(&same) {
        assert!((before - after).abs() < 1e-5 * before, "{before} {after}");
    }
    let factors: Vec<f64> = plain.iter().zip(&corrected).map(|(before, after)| after / before).collect();
    assert!(factors[1] > 1.2 * factors[0], "{factors:?}");
    let e = std::f64::consts::E;
    assert!(factors.iter().all(|factor| (1.0 / e..=e).contains(factor)), "{factors:?}");
}

#[test]
fn enrolling_with_a_head_is_the_same_as_adding_it() {
    let folder = Folder::new();
    let head = head(&folder, HEAD, same);
    let (added, enrolled) = (folder.path("added.weakrest"), folder.path("disc.weakrest"));
    add_head(ready_package(), &head, &added).exits(0);
    enroll(&good(), &enrolled, &["--head", head.to_str().unwrap()]).exits(0);
    let manifest =
        |package| weakrest!("package", "show", package, "--json").exits(0).json()["manifest"].take();
    let (left, right) = (manifest(&added), manifest(&enrolled));
    assert_eq!(left["head"], right["head"]);
    assert_eq!(left["scales"], right["scales"]);
    // Enrolling keeps features in half precision until it is done.
    let value = |manifest: &Value| manifest["threshold"]["value"].as_f64().unwrap();
    assert!((value(&left) - value(&right)).abs() < 1e-3, "{left} {right}");
    // A head in the place of another one.
    let again = folder.path("again.weakrest");
    add_head(&added, &head, &again).exits(0);
    assert_eq!(manifest(&again), left);
}

#[test]
fn the_general_head_needs_no_training() {
    let folder = Folder::new();
    let package = folder.path("disc.weakrest");
    enroll(&good(), &package, &["--head", "general"]).exits(0);
    weakrest!("package", "show", package).exits(0).prints(&["general-head (unsupervised;"]);
    let unseen = folder.picture("good.png", &part(100));
    let bad = folder.picture("bad.png", &dented_part(101));
    let inspected = weakrest!("inspect", package, unseen, bad, "--json").exits(1).json_lines();
    assert_eq!((&inspected[0]["verdict"], &inspected[1]["verdict"]), (&json!("pass"), &json!("reject")));
}

#[test]
fn a_head_that_judges_nothing_is_refused() {
    let folder = Folder::new();
    for (onnx, says) in [
        (
            CONSTANT,
            ["an ordinary good picture scores 0.5000", "painted defect 0.5000: no threshold can judge"],
        ),
        (NOT_FINITE, ["the head's output", "not a finite number"]),
    ] {
        let (head, package) = (head(&folder, onnx, same), folder.path("with-head.weakrest"));
        add_head(ready_package(), &head, &package).exits(3).says(&says);
        enroll(&good(), &package, &["--head", head.to_str().unwrap()]).exits(3).says(&says);
        assert!(!package.exists());
    }
}

/// The made-up head looks at each block alone, so that windows must not change anything.
#[test]
fn windows_are_averaged() {
    let folder = Folder::new();
    let whole = folder.path("whole.weakrest");
    add_head(ready_package(), &head(&folder, HEAD, same), &whole).exits(0);
    let windows = |text: String| text.replace("window = 0\nstep = 0", "window = 3\nstep = 2");
    let sliding = folder.path("sliding.weakrest");
    add_head(ready_package(), &head(&folder, HEAD, windows), &sliding).exits(0);
    let bad = folder.picture("bad.png", &dented_part(101));
    let score =
        |package| weakrest!("inspect", package, bad, "--json").json_lines()[0]["score"].as_f64().unwrap();
    assert!((score(&whole) - score(&sliding)).abs() < 1e-5, "{} {}", score(&whole), score(&sliding));
}

#[test]
fn heads_that_do_not_fit_are_refused_with_advice() {
    let folder = Folder::new();
    let output = folder.path("new.weakrest");
    type Change = fn(String) -> String;
    let cases: [(&[u8], Change, &str); 7] = [
        (HEAD, |t| t.replace("format = 3", "format = 2"), "this program reads 3; export the network again"),
        (HEAD, |t| t.replace("sha256 = \"", "sha256 = \"0"), "its SHA-256 differs"),
        (HEAD, |t| t.replace("backbone = \"", "backbone = \"0"), "another backbone than the package has"),
        (HEAD, |t| t.replace("window = 0", "window = 8"), "step must be at least 1"),
        (HEAD, |t| t + "unknown = 1\n", "unknown"),
        (OTHER_CHANNELS, same, "[N, rows, cols, 176]"),
        (THREE_CLASSES, same, "[N, rows, cols, 2]"),
    ];
    for (onnx, change, says) in cases {
        let head = head(&folder, onnx, change);
        add_head(ready_package(), &head, &output).exits(3).says(&["error: ", says]);
        enroll(&good(), &output, &["--head", head.to_str().unwrap()]).exits(3).says(&["error: ", says]);
        assert!(!output.exists());
    }
    add_head(ready_package(), &folder.path("none.onnx"), &output)
        .exits(3)
        .says(&["there is no", "none.onnx"]);
}

#[test]
fn a_package_whose_head_was_exchanged_is_refused() {
    let folder = Folder::new();
    let package = folder.path("with-head.weakrest");
    add_head(ready_package(), &head(&folder, HEAD, same), &package).exits(0);
    std::fs::write(package.join("head.onnx"), OTHER_CHANNELS).unwrap();
    weakrest!("package", "show", package).exits(3).says(&["head.onnx"]);
    std::fs::remove_file(package.join("head.onnx")).unwrap();
    weakrest!("package", "show", package).exits(3).says(&["head.onnx is missing"]);
}

/// A tensor's values and shape.
fn tensor(folder: &Path, picture: &Value) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(folder.join(picture["shard"].as_str().unwrap())).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor(picture["tensor"].as_str().unwrap()).unwrap();
    let (values, _) = tensor.data().as_chunks::<2>();
    (tensor.shape().to_vec(), values.iter().map(|v| f16::from_le_bytes(*v).to_f32()).collect())
}

#[test]
fn residuals_are_written_as_a_head_reads_them() {
    let folder = Folder::new();
    let synthetic = {
        let mut picture = part(3).into_rgb8();
        for (x, y) in (20..30).flat_map(|x| (20..30).map(move |y| (x, y))) {
            picture.put_pixel(x, y, image::Rgb([255, 0, 255]));
        }
        folder.picture("synthetic/0.png", &DynamicImage::ImageRgb8(picture))
    };
    let origin = good().join("03.png");
    let lines = [
        json!({ "image": origin }),
        json!({ "image": "synthetic/0.png", "leave_out": origin }),
        json!({ "image": synthetic }),
    ];
    let list = folder.file("list.jsonl", lines.map(|l| format!("{l}\n")).concat().as_bytes());
    let output = folder.path("residuals");
    weakrest!("residuals", ready_package(), "--list", list, "--output", output).exits(0);
    let index: Value = serde_json::from_slice(&std::fs::read(output.join("index.json")).unwrap()).unwrap();
    let shown = weakrest!("package", "show", ready_package(), "--json").json();
    assert_eq!(index["package"], shown["hash"]);
    assert_eq!(index["scales"], json!([176]));
    let pictures = index["pictures"].as_array().unwrap();
    assert_eq!(pictures[1]["image"], "synthetic/0.png");
    assert_eq!(pictures[1]["grid"], json!([7, 8]));
    assert_eq!(pictures[1]["frame"], json!([96, 80]));

    let (shape, itself) = tensor(&output, &pictures[0]);
    assert_eq!(shape, [3, 7, 8, 176]);
    // The scale is such that good residuals, each without itself, have a mean square of about one.
    let nearest = &itself[..7 * 8 * 176];
    let square = nearest.iter().map(|v| v * v).sum::<f32>() / nearest.len() as f32;
    assert!((0.5..2.0).contains(&square), "a good part that was left out: {square}");
    let length = |values: &[f32]| values.iter().map(|v| v * v).sum::<f32>();
    let third = &itself[2 * 7 * 8 * 176..];
    assert!(length(third) > length(nearest), "the third neighbor is farther than the first");

    // Where nothing was painted, only leaving out its origin keeps a picture from finding itself.
    let corner = |picture: &Value| length(&tensor(&output, picture).1[7 * 8 * 176 - 176..7 * 8 * 176]);
    assert!(
        corner(&pictures[1]) > 2.0 * corner(&pictures[2]),
        "{} {}",
        corner(&pictures[1]),
        corner(&pictures[2])
    );
}

#[test]
fn lists_of_pictures_that_cannot_be_used_are_refused_by_line() {
    let folder = Folder::new();
    let image = folder.picture("new.png", &part(50));
    let gray = folder.picture("gray.png", &DynamicImage::ImageLuma8(part(50).into_luma8()));
    let output = folder.path("residuals");
    for (text, code, says) in [
        (String::new(), 2, "the list has no picture"),
        ("new.png\n".into(), 2, "list.jsonl:1"),
        (format!("{}\n{{\"picture\": \"a\"}}\n", json!({ "image": image })), 2, "list.jsonl:2"),
        (json!({ "image": "missing.png" }).to_string(), 3, "missing.png"),
        (json!({ "image": gray }).to_string(), 3, "list.jsonl:1"),
        (json!({ "image": image, "leave_out": image }).to_string(), 2, "is not one of the enrolled pictures"),
    ] {
        let list = folder.file("list.jsonl", text.as_bytes());
        let _ = std::fs::remove_dir_all(&output);
        let ran = weakrest!("residuals", ready_package(), "--list", list, "--output", output);
        ran.exits(code).says(&["error: ", says]);
        assert!(!output.join("index.json").exists(), "an unfinished folder looks finished");
    }
    let list = folder.file("list.jsonl", json!({ "image": image }).to_string().as_bytes());
    folder.file("residuals/left.txt", b"over");
    let ran = weakrest!("residuals", ready_package(), "--list", list, "--output", output);
    ran.exits(2).says(&["the folder is not empty"]);
}
