//! Packages: what is shown of them, and what becomes of one that is damaged or forged.

use std::path::Path;

use serde_json::Value;

use crate::common::*;

#[test]
fn a_package_can_be_shown() {
    weakrest!("package", "show", ready_package()).exits(0).prints(&[
        "product         disc\n",
        "enrolled        12 good pictures, color, 96x80, a copy of each in other light and with noise\n",
        "longest side    64 pixels, grid of 8-pixel blocks\n",
        "backbone        efficientnet-lite1 (strides 4, 8, 16;",
        "Apache-2.0",
        "bank            1344 tokens of 176 channels",
        "threshold       ",
        "promise         12 good images alone can promise",
        " MB\n",
    ]);
    let shown = weakrest!("package", "show", ready_package(), "--json").exits(0).json();
    let manifest = std::fs::read(ready_package().join("package.toml")).unwrap();
    assert_eq!(shown["hash"], sha256(&manifest));
    assert_eq!(shown["manifest"]["images"], 12);
    assert_eq!(shown["manifest"]["scaling"]["longest_side"], 64);
    assert_eq!(shown["manifest"]["input"]["size"], "96x80");
    assert_eq!(shown["manifest"]["files"].as_object().unwrap().len(), 7);
}

#[test]
fn a_whole_package_is_verified() {
    let says = "disc.weakrest: 8 files unchanged, 3 golden scores match\n";
    weakrest!("package", "verify", ready_package()).exits(0).prints(&[says]);
    // With another number of threads scores may differ in their last bits, and no more.
    weakrest!("package", "verify", ready_package(), "--threads", "1").exits(0);
    weakrest!("package").exits(2).says(&["show", "verify"]);
    weakrest!("package", "verify").exits(2).says(&["<PACKAGE>"]);
}

#[test]
fn what_is_no_package_is_told() {
    let folder = Folder::new();
    let image = folder.picture("good/00.png", &part(0));
    for (package, says) in [
        ("missing", "missing: there is no such package"),
        ("good", "good: package.toml is missing: this is not a package, or an incomplete one"),
        ("good/00.png", "good/00.png: a package is a folder, not a file"),
    ] {
        let package = folder.path(package);
        for command in ["show", "verify"] {
            weakrest!("package", command, package).exits(3).says(&["error: ", says]);
        }
        weakrest!("inspect", package, image).exits(3).says(&["error: ", says]);
        weakrest!("check", package).exits(3).says(&["error: ", says]);
        weakrest!("bench", package, "--images", folder.path("good")).exits(3).says(&["error: ", says]);
    }
}

/// Checks that no command works with the package, that each says why, and that none touches it.
fn refused(package: &Path, says: &[&str]) {
    let folder = Folder::new();
    let image = folder.picture("good/00.png", &part(0));
    let before = contents(package);
    let mut all = vec![package.to_str().unwrap()];
    all.extend(says);
    let inspected = weakrest!("inspect", package, image).exits(3).says(&all);
    assert_eq!(inspected.out, "", "something was judged\n{inspected}");
    weakrest!("package", "verify", package).exits(3).says(&all);
    weakrest!("check", package).exits(3).says(&all);
    weakrest!("bench", package, "--images", folder.path("good")).exits(3).says(&all);
    assert_eq!(contents(package), before);
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    let folder = Folder::new();
    let package = folder.package("p");
    for file in files(&package) {
        let path = package.join(&file);
        let whole = std::fs::read(&path).unwrap();
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        let name = file.to_str().unwrap();
        let (name, says) = match name {
            "package.toml" | "package.sha256" => ("package.toml", "was changed after the package was made"),
            _ => (name, "was changed or is incomplete; copy the package again, or enroll again"),
        };
        let ran =
            weakrest!("inspect", package, package.join("golden/ordinary.png")).exits(3).says(&[name, says]);
        assert_eq!(ran.out, "");
        weakrest!("package", "show", package).exits(3).says(&[name, says]);
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        weakrest!("package", "show", package).exits(3).says(&[name, says]);
        std::fs::write(&path, &whole).unwrap();
    }
    weakrest!("package", "verify", package).exits(0);
}

#[test]
fn a_missing_file_is_named() {
    let folder = Folder::new();
    let package = folder.package("p");
    for file in files(&package) {
        let path = package.join(&file);
        let whole = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let says = format!("{} is missing", file.display());
        weakrest!("package", "show", package).exits(3).says(&["error: ", &says]);
        std::fs::write(&path, &whole).unwrap();
    }
    std::fs::remove_file(package.join("backbone.onnx")).unwrap();
    refused(&package, &["backbone.onnx is missing; copy the package again, or enroll again"]);
}

#[test]
fn a_path_out_of_the_package_is_refused() {
    let folder = Folder::new();
    let secret = folder.file("secret.onnx", &std::fs::read(ready_package().join("backbone.onnx")).unwrap());
    for (i, path) in
        ["../secret.onnx", secret.to_str().unwrap(), "golden/../../secret.onnx"].iter().enumerate()
    {
        let package = folder.package(&format!("p{i}"));
        forge(&package, |text| text.replace("[files.\"backbone.onnx\"]", &format!("[files.{path:?}]")));
        refused(&package, &["the manifest names", path, "which is not a file inside the package"]);
    }
    let package = folder.package("linked");
    std::fs::remove_file(package.join("backbone.onnx")).unwrap();
    std::os::unix::fs::symlink(&secret, package.join("backbone.onnx")).unwrap();
    refused(&package, &["backbone.onnx is a symbolic link; copy the file itself into the package"]);
}

#[test]
fn an_unknown_format_is_told() {
    let folder = Folder::new();
    let package = folder.package("p");
    forge(&package, |text| text.replacen("format = 4", "format = 99", 1));
    refused(&package, &["the package has format 99, and this program reads format 4; enroll again"]);
}

#[test]
fn impossible_values_in_a_manifest_are_named() {
    let folder = Folder::new();
    for (i, (from, to, says)) in [
        ("longest_side = 64", "longest_side = 1", "the longest side must be 16 to 4096 pixels, not 1"),
        (
            "longest_side = 64",
            "longest_side = 640000",
            "the longest side must be 16 to 4096 pixels, not 640000",
        ),
        (
            "coreset_share = 0.1",
            "coreset_share = nan",
            "the coreset share must be above 0 and at most 1, not NaN",
        ),
        ("color = \"rgb\"", "color = \"pink\"", "unknown variant `pink`"),
        ("size = \"96x80\"", "size = \"96x0\"", "a size is \"any\" or WIDTHxHEIGHT, not \"96x0\""),
        ("made_by = ", "maid_by = ", "unknown field `maid_by`"),
        ("stride = 8", "stride = 0", "must be a multiple of the grid stride (0)"),
    ]
    .into_iter()
    .enumerate()
    {
        let package = folder.package(&format!("p{i}"));
        forge(&package, |text| text.replacen(from, to, 1));
        weakrest!("package", "show", package).exits(3).says(&["error: ", "package.toml", says]);
    }
}

#[test]
fn a_network_that_reaches_outside_or_does_not_fit_is_refused() {
    let folder = Folder::new();
    for (i, (onnx, says)) in [
        (external_data(), "the network keeps its weights in another file"),
        (context_node(), "the network has a node EPContext, which runs code from another file"),
        (vector_network(), "the network must have one input of 32-bit floats [N, 3, height, width], but has"),
        (b"not a network".to_vec(), "not an ONNX file, or a damaged one"),
    ]
    .into_iter()
    .enumerate()
    {
        let package = folder.package(&format!("p{i}"));
        forge_file(&package, "backbone.onnx", &onnx);
        refused(&package, &[says]);
        // Showing runs no network.
        weakrest!("package", "show", package).exits(0);
    }
}

/// A safetensors file with the first number of one of its arrays changed.
fn with_number(file: &[u8], array: &str, number: &[u8]) -> Vec<u8> {
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let header = u64::from_le_bytes(*length) as usize;
    let json: Value = serde_json::from_slice(&rest[..header]).unwrap();
    let start = json[array]["data_offsets"][0].as_u64().unwrap() as usize + 8 + header;
    let mut changed = file.to_vec();
    changed[start..start + number.len()].copy_from_slice(number);
    changed
}

#[test]
fn a_bank_that_holds_no_numbers_is_refused() {
    let folder = Folder::new();
    let bank = std::fs::read(ready_package().join("bank-1.safetensors")).unwrap();
    for (array, number) in [
        ("tokens", 0x7e00u16.to_le_bytes().as_slice()),
        ("tokens", &0x7c00u16.to_le_bytes()),
        ("descriptors", &0x7e00u16.to_le_bytes()),
        ("pca.mean", &f32::NAN.to_le_bytes()),
        ("pca.components", &f32::INFINITY.to_le_bytes()),
        ("feature_scale", &f32::NAN.to_le_bytes()),
    ] {
        let package = folder.package(&format!("{array}-{}", number.len()));
        forge_file(&package, "bank-1.safetensors", &with_number(&bank, array, number));
        refused(&package, &["bank-1.safetensors", "not a finite number"]);
        std::fs::remove_dir_all(&package).unwrap();
    }
    let package = folder.package("cut");
    forge_file(&package, "bank-1.safetensors", &bank[..bank.len() / 2]);
    refused(&package, &["bank-1.safetensors", "not a safetensors file, or a damaged one"]);
}

#[test]
fn golden_images_must_get_their_scores() {
    let folder = Folder::new();
    let package = folder.package("p");
    let manifest = std::fs::read_to_string(package.join("package.toml")).unwrap();
    let score = manifest.lines().find(|l| l.starts_with("score = ")).unwrap().to_owned();
    forge(&package, |text| text.replacen(&score, "score = 3.25", 1));
    refused(
        &package,
        &[
            "golden image golden/ordinary.png scores",
            "but must score 3.2500",
            "this machine computes something else than the one that made the package; enroll on this machine",
        ],
    );
}

/// What a package says of golden pictures: file and score of each, without its manifest's last parts.
fn golden_scores(package: &Path) -> Vec<f64> {
    let shown = weakrest!("package", "show", package, "--json").exits(0).json();
    let golden = shown["manifest"]["golden"].as_array().unwrap();
    golden.iter().map(|golden| golden["score"].as_f64().unwrap()).collect()
}

/// Changes a package's threshold as somebody would who knows how hashes are made.
fn set_threshold(package: &Path, value: &str) {
    forge(package, |text| {
        let (before, after) = text.split_once("\n[threshold]\nvalue = ").unwrap();
        let (_, after) = after.split_once('\n').unwrap();
        format!("{before}\n[threshold]\nvalue = {value}\n{after}")
    });
}

#[test]
fn a_threshold_that_cannot_judge_is_refused_wherever_it_comes_from() {
    let folder = Folder::new();
    let package = folder.package("p");
    let image = folder.picture("parts/00.png", &part(100));
    let &[ordinary, _, painted] = golden_scores(&package).as_slice() else { panic!() };
    let config = |threshold: &str| {
        let text = format!(
            "[inspection]\npackage = {package:?}\nthreshold = {threshold}\n\
             [camera]\nkind = \"folder\"\npath = {:?}\nrate = 20\n",
            folder.path("parts")
        );
        folder.file("weakrest.toml", text.as_bytes())
    };
    let (passes, rejects) = ("this passes defects", "this rejects good parts");
    let beyond = (painted + 0.1).to_string();
    let below = (ordinary / 2.0).to_string();
    for (value, says) in
        [("3e38", passes), (&beyond, passes), (&below, rejects), ("1e-30", rejects), ("0.0", rejects)]
    {
        let says = ["the threshold is ", "an ordinary good picture scores ", "a painted defect ", says];
        let mut over = says.to_vec();
        over.push("choose one between the two scores, or remove it to use the package's");
        weakrest!("inspect", package, image, "--threshold", value).exits(2).says(&over);
        weakrest!("run", "--config", config(value), "--seconds", "1").exits(2).says(&over);
        weakrest!("check", "--config", config(value)).exits(2).says(&over);

        let forged = folder.package("forged");
        set_threshold(&forged, value);
        let mut says = says.to_vec();
        says.push("enroll again");
        refused(&forged, &says);
        std::fs::remove_dir_all(forged).unwrap();
    }
    for value in ["-1.0", "nan", "inf", "1e39"] {
        let forged = folder.package("forged");
        set_threshold(&forged, value);
        refused(&forged, &[]);
        std::fs::remove_dir_all(forged).unwrap();
        let ran = weakrest!("run", "--config", config(value), "--seconds", "1").exits(2);
        assert!(ran.err.contains("threshold"), "{ran}");
    }
    // Between the two there is room for the person at the line.
    let between = ((ordinary + painted) / 2.0).to_string();
    weakrest!("inspect", package, image, "--threshold", between).exits(0);
    weakrest!("check", "--config", config(&between)).exits(0);
}

#[test]
fn a_package_whose_golden_pictures_prove_nothing_is_refused() {
    let folder = Folder::new();
    // Without any.
    let package = folder.package("none");
    forge(&package, |text| {
        let (before, rest) = text.split_once("\n[[golden]]").unwrap();
        format!("{before}\n{}", &rest[rest.find("[files.").unwrap()..])
    });
    refused(&package, &["the golden image golden/ordinary.png is missing; enroll again"]);

    // Without the painted one, which is painted anew.
    let without_painted = |text: String| {
        let at = text.find("[[golden]]\nfile = \"golden/painted.png\"").unwrap();
        format!("{}{}", &text[..at], &text[at + text[at..].find("[files.").unwrap()..])
    };
    let package = folder.package("not-painted");
    forge(&package, without_painted);
    weakrest!("package", "verify", package).exits(0).prints(&["2 golden scores"]);
    set_threshold(&package, "3e38");
    refused(&package, &["the threshold is 3e38", "this passes defects; enroll again"]);

    // With any scores, as a boundless threshold allows, and a threshold of the device that is sound.
    let package = folder.package("scores");
    let between = golden_scores(&package);
    let between = ((between[0] + between[2]) / 2.0).to_string();
    set_threshold(&package, "3e38");
    forge(&package, |text| {
        let scored = |line: &str| match line.starts_with("score = ") {
            true => "score = 12345.0".to_owned(),
            false => line.to_owned(),
        };
        text.lines().map(scored).collect::<Vec<_>>().join("\n")
    });
    refused(&package, &["golden image golden/ordinary.png scores", "must score 12345"]);
    weakrest!("inspect", package, package.join("golden/ordinary.png"), "--threshold", between)
        .exits(3)
        .says(&["must score 12345"]);
}

#[test]
fn a_package_of_endless_files_is_refused_before_they_are_read() {
    let folder = Folder::new();
    let package = folder.package("p");
    let at = std::fs::read(package.join("bank-1.safetensors")).unwrap().len();
    forge(&package, |text| text.replace(&format!("bytes = {at}\n"), "bytes = 9000000000\n"));
    refused(&package, &["package.toml", "more than 4294967296"]);
}
