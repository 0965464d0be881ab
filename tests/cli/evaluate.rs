//! `weakrest evaluate` as a user runs it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::*;

/// A tiny data set in MVTec's layout: one category, eight good parts to enroll, three good ones and three dented ones
/// to judge.
fn data_set(folder: &Folder) -> PathBuf {
    folder.good_parts("data/disc/train/good", 0, 8);
    folder.good_parts("data/disc/test/good", 100, 3);
    for i in 0..3 {
        folder.picture(format!("data/disc/test/dent/{i:02}.png"), &dented_part(200 + i));
        folder.picture(format!("data/disc/ground_truth/dent/{i:02}_mask.png"), &dent_mask());
    }
    folder.path("data")
}

#[test]
fn a_data_set_is_measured() {
    let folder = Folder::new();
    let data = data_set(&folder);
    let before = folder.contents();
    let ran = weakrest!("evaluate", "--dataset", data, "--quality", "fast", "--size", "64").exits(0);
    assert_eq!(ran.err, "");
    let lines: Vec<&str> = ran.out.lines().collect();
    for column in
        ["category", "image AUROC", "pixel AUROC", "pixel AP", "PRO", "best F1", "false rejects", "misses"]
    {
        assert!(lines[0].contains(column), "{column}\n{ran}");
    }
    let cells: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(cells[..2], ["disc", "1.0000"], "{ran}");
    assert!(cells.contains(&"0/3"), "no false reject of three and no miss of three\n{ran}");
    assert!(lines[0].contains("misses at 1 %") && lines[0].contains("misses at 5 %"), "{ran}");
    assert!(ran.out.contains("defect's width"), "{ran}");
    assert_eq!(folder.contents(), before);
    // The folder of one category will do as well.
    weakrest!("evaluate", "--dataset", data.join("disc"), "--quality", "fast", "--size", "64")
        .exits(0)
        .prints(&["disc", "1.0000"]);
}

#[test]
fn everything_measured_is_json_for_machines() {
    let folder = Folder::new();
    let data = data_set(&folder);
    let result = weakrest!("evaluate", "--dataset", data, "--quality", "fast", "--size", "64", "--json")
        .exits(0)
        .json();
    let disc = &result["categories"][0];
    assert_eq!(disc["name"], "disc");
    assert_eq!(disc["enrolled"], 8);
    assert_eq!(disc["provider"], "cpu");
    assert_eq!(disc["image_auroc"], 1.0);
    assert!(disc["pixels"]["auroc"].as_f64().unwrap() > 0.9, "{disc}");
    assert!(disc["pixels"]["average_precision"].as_f64().unwrap() > 0.3, "{disc}");
    assert_eq!(disc["confusion"]["good"], 3);
    assert_eq!(disc["confusion"]["defective"], 3);
    assert_eq!(disc["confusion"]["misses"], 0);
    for (allowed, percent) in disc["allowed"].as_array().unwrap().iter().zip([1, 5]) {
        assert_eq!(allowed["percent"], percent);
        assert_eq!(allowed["confusion"]["false_rejects"], 0, "not even one of three may fall");
        assert_eq!(allowed["confusion"]["misses"], 0);
        assert!(allowed["threshold"].as_f64() <= disc["threshold"].as_f64(), "{disc}");
    }
    // Of eight parts the promise is one of nine.
    assert_eq!(disc["promised_rate"], 1.0 / 9.0);
    assert_eq!(disc["rejects_per_promise"], 0.0);
    // A dent has 18 of the 96 pixels that are scaled to 64.
    let widths = disc["widths"].as_array().unwrap();
    assert_eq!(widths.iter().map(|w| w["defective"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 0, 3, 0]);
    assert_eq!((&widths[2]["image_auroc"], &widths[1]["image_auroc"]), (&Value::from(1.0), &Value::Null));
    assert!(disc["enroll_seconds"].as_f64().unwrap() > 0.0);
    assert!(disc["times"]["total"]["median"].as_f64().unwrap() > 0.0);
    let outcomes = disc["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), 6);
    let dented: Vec<&Value> = outcomes.iter().filter(|o| o["defect"] == "dent").collect();
    assert_eq!(dented.len(), 3);
    for outcome in outcomes {
        let width = outcome["width"].as_f64();
        assert_eq!(width.map(f64::round), (outcome["defect"] == "dent").then_some(12.0), "{outcome}");
        let rejected = outcome["score"].as_f64() > disc["threshold"].as_f64();
        assert_eq!(rejected, outcome["defect"] == "dent", "{outcome}");
        assert!(Path::new(outcome["image"].as_str().unwrap()).exists());
    }
}

#[test]
fn the_report_shows_every_picture() {
    let folder = Folder::new();
    let data = data_set(&folder);
    let report = folder.path("report.html");
    weakrest!("evaluate", "--dataset", data, "--quality", "fast", "--size", "64", "--report", report)
        .exits(0);
    let text = std::fs::read_to_string(&report).unwrap();
    assert!(text.contains("<title>Evaluation of disc</title>"));
    assert!(text.contains("labeled good") && text.contains("labeled defective: <bdi>dent</bdi>"));
    assert_eq!(text.matches(r#"src="data:image/jpeg;base64,"#).count(), 12);
    assert!(!text.contains("http:") && !text.contains("https:"));
    let written: Vec<_> = folder.contents().into_keys().filter(|p| p.components().count() == 1).collect();
    assert_eq!(written, ["data", "report.html"].map(Path::new));
}

#[test]
fn a_package_can_be_measured() {
    let folder = Folder::new();
    let data = data_set(&folder);
    let run = |package: &Path| weakrest!("evaluate", "--dataset", data, "--package", package, "--json");
    let result = run(ready_package()).exits(0).json();
    let disc = &result["categories"][0];
    assert_eq!(disc["enrolled"], 12, "the package's pictures count, not the data set's");
    assert_eq!(disc["enroll_seconds"], Value::Null);
    assert_eq!(disc["bank_tokens"], 1344);
    run(&folder.path("missing")).exits(3).says(&["missing: there is no such package"]);
    // The package brings its settings; others would be ignored.
    for setting in
        [&["--quality", "fast", "--size", "64"][..], &["--any-size"], &["-k", "3"], &["--seed", "1"]]
    {
        let mut command = std::process::Command::new(PROGRAM);
        command
            .arg("evaluate")
            .arg("--dataset")
            .arg(&data)
            .arg("--package")
            .arg(ready_package())
            .args(setting);
        Ran::of(&mut command).exits(2).says(&["'--package <PACKAGE>' cannot be used with"]);
    }
}

#[test]
fn categories_can_be_chosen() {
    let folder = Folder::new();
    let data = data_set(&folder);
    let disc = folder.path("data/disc");
    for file in files(&disc) {
        folder.file(Path::new("data/ring").join(&file), &std::fs::read(disc.join(&file)).unwrap());
    }
    let names = |ran: Ran| -> Vec<String> {
        let result = ran.exits(0).json();
        result["categories"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().into()).collect()
    };
    let all = weakrest!("evaluate", "--dataset", data, "--package", ready_package(), "--json");
    assert_eq!(names(all), ["disc", "ring"]);
    let one = weakrest!(
        "evaluate",
        "--dataset",
        data,
        "--package",
        ready_package(),
        "--json",
        "--category",
        "ring"
    );
    assert_eq!(names(one), ["ring"]);
    weakrest!("evaluate", "--dataset", data, "--category", "rign")
        .exits(2)
        .says(&["there is no category rign; there are disc, ring"]);
}

#[test]
fn what_is_wrong_with_a_data_set_is_told() {
    let folder = Folder::new();
    let data = data_set(&folder);
    folder.folder("empty");
    let evaluate = |more: &[&str]| {
        let mut command = std::process::Command::new(PROGRAM);
        command
            .current_dir(folder.path(""))
            .args(["evaluate", "--quality", "fast", "--size", "64", "--dataset"])
            .args(more);
        Ran::of(&mut command)
    };
    evaluate(&["missing"]).exits(3).says(&[
        "error: ",
        "missing does not exist",
        "mvtec expects CATEGORY/train/good",
    ]);
    evaluate(&["empty"])
        .exits(3)
        .says(&["error: empty holds no category", "mvtec expects CATEGORY/train/good"]);
    evaluate(&["data", "--format", "btad"]).exits(3).says(&["it looks like mvtec: use that format"]);
    evaluate(&["data", "--format", "mvtek"]).exits(2).says(&[
        "--format",
        "mvtek",
        "mvtec, mvtec3d, btad, ksdd2, visa",
    ]);
    evaluate(&["data", "--report", "no/r.html"]).exits(2).says(&["no does not exist; create it first"]);
    evaluate(&["data", "--report", "data"]).exits(2).says(&["must end in .html"]);
    evaluate(&["data", "--size", "64"]).exits(2).says(&["'--size <PIXELS>' cannot be used multiple times"]);

    folder.file("data/disc/test/good/00.png", b"");
    evaluate(&["data"]).exits(3).says(&["data/disc/test/good/00.png: the file is empty"]);
    folder.picture("data/disc/test/good/00.png", &part(100));
    folder.picture("data/disc/ground_truth/dent/01_mask.png", &part_of_size(0, 10, 10));
    evaluate(&["data"]).exits(3).says(&["01_mask.png has 10×10 pixels, but its picture", "has 96×80"]);
    std::fs::remove_file(data.join("disc/ground_truth/dent/01_mask.png")).unwrap();
    evaluate(&["data"]).exits(3).says(&["01.png", "mask"]);
    // Without any, pictures can still be judged.
    std::fs::remove_dir_all(data.join("disc/ground_truth")).unwrap();
    let ran = evaluate(&["data"]).exits(0).says(&["no masks"]).prints(&["1.0000", "–"]);
    assert!(!ran.out.contains("defect's width"), "{ran}");
    assert_eq!(evaluate(&["data", "--json"]).exits(0).json()["categories"][0]["widths"], Value::Null);
}

#[test]
fn training_pictures_that_were_left_out_are_told() {
    let folder = Folder::new();
    let data = data_set(&folder);
    folder.file("data/disc/train/good/empty.png", b"");
    weakrest!("evaluate", "--dataset", data, "--quality", "fast", "--size", "64").exits(3).says(&[
        "a picture cannot be enrolled; fix or remove it, or add --skip-bad:",
        "train/good/empty.png: the file is empty",
    ]);
    let ran =
        weakrest!("evaluate", "--dataset", data, "--quality", "fast", "--size", "64", "--skip-bad", "--json")
            .exits(0);
    assert_eq!(ran.json()["categories"][0]["enrolled"], 8);
    ran.says(&["note: disc: left out: ", "train/good/empty.png: the file is empty\n"]);
}

#[test]
fn a_data_set_can_be_listed_and_pictures_left_out() {
    let folder = Folder::new();
    let data = data_set(&folder);
    let list = weakrest!("evaluate", "--dataset", data, "--list").exits(0).json();
    let disc = &list["categories"][0];
    assert_eq!(disc["train"].as_array().unwrap().len(), 8);
    let dents: Vec<&Value> =
        disc["test"].as_array().unwrap().iter().filter(|s| s["defect"] == "dent").collect();
    assert_eq!(dents.len(), 3);
    assert_eq!(dents[0]["mask"]["rule"], "above-half");
    assert!(Path::new(dents[0]["mask"]["path"].as_str().unwrap()).is_file());

    // Relative to the file that names it, or as it was listed.
    let trained = format!("{}\ndata/disc/test/dent/02.png\n\n", dents[0]["image"].as_str().unwrap());
    let trained = folder.file("trained.txt", trained.as_bytes());
    let result = weakrest!(
        "evaluate",
        "--dataset",
        data,
        "--quality",
        "fast",
        "--size",
        "64",
        "--leave-out",
        trained,
        "--json"
    )
    .json();
    assert_eq!(result["categories"][0]["confusion"]["defective"], 1);
    let wrong = folder.file("wrong.txt", b"data/disc/test/dent/00.png\ndata/disc/test/dent/09.png\n");
    weakrest!("evaluate", "--dataset", data, "--leave-out", wrong)
        .exits(2)
        .says(&["wrong.txt:2", "09.png is not one of the test pictures"]);
}
