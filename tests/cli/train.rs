//! Heads that the program trains itself.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image::{DynamicImage, Rgb};
use serde_json::{Value, json};

use crate::common::*;

fn good() -> PathBuf {
    ready_package().parent().unwrap().join("good")
}

/// A part with a faint mark somewhere on its disc, and the mark's box.
fn marked_part(seed: u64) -> (DynamicImage, [u32; 4]) {
    let mut picture = part(seed).into_rgb8();
    let (left, top) = (34 + (seed * 7 % 20) as u32, 24 + (seed * 5 % 20) as u32);
    for y in top..top + 10 {
        for x in left..left + 10 {
            let Rgb([red, green, blue]) = *picture.get_pixel(x, y);
            let pixel = [red.saturating_sub(20), green.saturating_add(12), blue.saturating_add(30)];
            picture.put_pixel(x, y, Rgb(pixel));
        }
    }
    (DynamicImage::ImageRgb8(picture), [left, top, left + 10, top + 10])
}

/// Writes marked parts and their label file.
fn labels(folder: &Folder, count: u64, line: impl Fn(&str, [u32; 4]) -> Value) -> PathBuf {
    let lines: Vec<String> = (0..count)
        .map(|i| {
            let (picture, place) = marked_part(300 + i);
            let name = format!("bad/{i:02}.png");
            folder.picture(&name, &picture);
            line(&name, place).to_string()
        })
        .collect();
    folder.file("labels.jsonl", lines.join("\n").as_bytes())
}

fn boxed(name: &str, place: [u32; 4]) -> Value {
    json!({ "image": name, "defects": [{ "box": place }], "type": "mark" })
}

fn train(labels: &Path, output: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("train").arg(ready_package()).arg("--images").arg(good());
    command.arg("--labels").arg(labels).arg("--output").arg(output);
    command
}

#[test]
fn a_head_finds_what_was_labeled_and_only_a_better_one_is_written() {
    let folder = Folder::new();
    let labels = labels(&folder, 8, boxed);
    let package = folder.path("new.weakrest");
    let compared = Ran::of(train(&labels, &package).args(["--steps", "15", "--json"])).exits(0).json();
    assert_eq!((&compared["better"], &compared["written"]), (&json!(true), &json!(true)), "{compared}");
    let number = |judge: &str, key: &str| compared[judge][key].as_f64().unwrap();
    assert!(number("with_head", "margin") > number("without", "margin"), "{compared}");
    assert!(number("with_head", "block_average_precision") > 0.8, "{compared}");
    weakrest!("package", "verify", package).exits(0).prints(&["golden scores match"]);
    weakrest!("package", "show", package)
        .exits(0)
        .prints(&["head (boxes; ", "head trained, cross-validated on 8"]);
    let (unseen, _) = marked_part(350);
    let pictures = [folder.picture("unseen.png", &unseen), folder.picture("good.png", &part(351))];
    let inspected = weakrest!("inspect", package, &pictures[0], &pictures[1], "--json").exits(1).json_lines();
    assert_eq!((&inspected[0]["verdict"], &inspected[1]["verdict"]), (&json!("reject"), &json!("pass")));

    // A head that has hardly learned is no better than the one that the package has.
    let again = folder.path("again.weakrest");
    let over = |more: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.arg("train").arg(&package).arg("--images").arg(good()).arg("--labels").arg(&labels);
        Ran::of(command.arg("--output").arg(&again).args(["--steps", "1"]).args(more))
    };
    let before = folder.contents();
    over(&[])
        .exits(1)
        .prints(&["cross-validated on 8 defective and "])
        .says(&["nothing is written", "--anyway"]);
    assert_eq!(folder.contents(), before);
    over(&["--anyway", " "]).exits(2).says(&["--anyway needs a reason"]);
    over(&["--anyway", "a test of the line"]).exits(0);
    let notes = weakrest!("package", "show", again, "--json").exits(0).json()["manifest"]["history"].take();
    let last = notes.as_array().unwrap().last().unwrap().as_str().unwrap();
    assert!(last.ends_with("; not better, written because: a test of the line"), "{last}");
}

#[test]
fn threads_change_nothing() {
    let folder = Folder::new();
    let labels = labels(&folder, 4, boxed);
    let head = |threads: &str| {
        let package = folder.path(threads);
        let options = ["--steps", "2", "--anyway", "a test", "--threads", threads];
        Ran::of(train(&labels, &package).args(options)).exits(0);
        std::fs::read(package.join("head.onnx")).unwrap()
    };
    assert_eq!(head("1"), head("3"));
}

#[test]
fn a_polygon_is_the_mask_of_the_pixels_inside() {
    let head = |line: &dyn Fn(&Folder, &str, [u32; 4]) -> Value| {
        let folder = Folder::new();
        let labels = labels(&folder, 4, |name, place| line(&folder, name, place));
        let package = folder.path("new.weakrest");
        Ran::of(train(&labels, &package).args(["--steps", "2", "--anyway", "a test"])).exits(0);
        std::fs::read(package.join("head.onnx")).unwrap()
    };
    let polygon = head(&|_, name, [left, top, right, bottom]| {
        let corners = [[left, top], [right, top], [right, bottom], [left + 3, bottom], [left, top + 5]];
        json!({ "image": name, "defects": [{ "polygon": corners }] })
    });
    let mask = head(&|folder, name, [left, top, right, bottom]| {
        let mut mask = image::GrayImage::new(SIZE.0, SIZE.1);
        for (x, y, pixel) in mask.enumerate_pixels_mut() {
            // The corner at the left bottom is cut off between (left, top + 5) and (left + 3, bottom).
            let (dx, dy) = (f64::from(x) + 0.5 - f64::from(left), f64::from(y) + 0.5 - f64::from(top));
            let is_inside = (left..right).contains(&x) && (top..bottom).contains(&y);
            *pixel = image::Luma([if is_inside && dx * 5.0 > (dy - 5.0) * 3.0 { 255 } else { 0 }]);
        }
        folder.picture(format!("masks/{}.png", name.replace('/', "-")), &mask.into());
        json!({ "image": name, "defects": [{ "mask": format!("masks/{}.png", name.replace('/', "-")) }] })
    });
    assert!(polygon == mask, "the heads differ");
}

#[test]
fn labels_that_cannot_be_used_are_named() {
    let folder = Folder::new();
    let package = folder.path("new.weakrest");
    let refused = |labels: &Path, texts: &[&str]| {
        let before = folder.contents();
        let ran = Ran::of(train(labels, &package).args(["--steps", "1"]));
        assert!(ran.code == Some(2) || ran.code == Some(3), "{ran}");
        ran.says(texts);
        assert_eq!(folder.contents(), before);
    };
    refused(
        &labels(&folder, 3, boxed),
        &["labels.jsonl", "3 defective pictures are labeled, and a head needs 4"],
    );
    refused(&folder.path("none.jsonl"), &["none.jsonl", "0 defective pictures are labeled"]);
    let image = good().join("03.png");
    let both = json!({ "image": image, "tag": "defective" }).to_string();
    refused(
        &folder.file("both.jsonl", both.as_bytes()),
        &["both.jsonl", "03.png", "one of the good pictures"],
    );
    let gone = labels(&folder, 5, boxed);
    std::fs::remove_file(folder.path("bad/02.png")).unwrap();
    refused(&gone, &["bad/02.png"]);
    folder.picture("bad/02.png", &part_of_size(5, 40, 40));
    refused(&gone, &["bad/02.png", "40×40 pixels"]);
    let small = folder.picture("small.png", &DynamicImage::new_luma8(40, 40));
    let masked = labels(&folder, 5, |name, _| json!({ "image": name, "defects": [{ "mask": small }] }));
    refused(&masked, &["small.png", "40×40"]);
    let good = labels(&folder, 5, boxed);
    let there = folder.package("there.weakrest");
    Ran::of(&mut train(&good, &there)).exits(2).says(&["--overwrite"]);
    let missing = folder.path("none.weakrest");
    weakrest!("train", missing, "--images", self::good(), "--labels", good, "--output", package)
        .says(&["none.weakrest"]);
}

#[test]
fn an_interrupted_training_leaves_nothing() {
    let folder = Folder::new();
    let (labels, package) = (labels(&folder, 6, boxed), folder.path("new.weakrest"));
    let before = folder.contents();
    let mut command = train(&labels, &package);
    command.args(["--json", "--progress", "--steps", "100000"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let trains = |line: std::io::Result<String>| line.unwrap().contains(r#""step":"training a head""#);
    assert!(lines.by_ref().any(trains), "it ended before it trained");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(folder.contents(), before);
}
