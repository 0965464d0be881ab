//! Accuracy on real pictures, through the program. They are named by `WEAKREST_DATA` and never part of the sources.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// A data set's folder, or `None` after saying that the test is skipped: on standard error, and in a file that
/// `make test` shows at its end, since passing tests' output is not.
fn data(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("WEAKREST_DATA")
        .filter(|root| !root.is_empty())
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let folder = root.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    let line = format!("SKIP: no {name} (WEAKREST_DATA names the folder of data sets)");
    eprintln!("{line}");
    let list = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/skipped.txt");
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(list) {
        let _ = writeln!(file, "{line}");
    }
    None
}

fn evaluate(folder: PathBuf, arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_weakrest"))
        .args(["evaluate", "--json", "--dataset"])
        .arg(folder)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    result["categories"][0].clone()
}

#[test]
fn bottle_is_as_good_at_the_fast_level_as_the_readme_says() {
    let Some(folder) = data("mvtec_ad/bottle") else { return };
    let result = evaluate(folder, &["--quality", "fast"]);
    let metric = |value: &Value| value.as_f64().unwrap();
    assert!(metric(&result["image_auroc"]) >= 0.999, "{}", result["image_auroc"]);
    assert!(metric(&result["pixels"]["auroc"]) >= 0.990, "{}", result["pixels"]["auroc"]);
    assert!(
        metric(&result["pixels"]["average_precision"]) >= 0.875,
        "{}",
        result["pixels"]["average_precision"]
    );
    assert_eq!(result["confusion"]["misses"], 0);
    assert_eq!((&result["confusion"]["good"], &result["confusion"]["defective"]), (&20.into(), &63.into()));
}

#[test]
fn hazelnuts_of_two_sizes_are_told_from_stained_ones() {
    let Some(folder) = data("hazelnut_toy/hazelnut") else { return };
    let result = evaluate(folder, &["--any-size"]);
    assert!(result["image_auroc"].as_f64().unwrap() >= 0.99, "{}", result["image_auroc"]);
    assert!(result["pixels"]["average_precision"].as_f64().unwrap() >= 0.75);
}
