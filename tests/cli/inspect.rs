//! `weakrest inspect` as a user runs it.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use image::{DynamicImage, ImageFormat};
use serde_json::Value;

use crate::common::*;

/// What the documentation shows of the library.
#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../../examples/inspect_one.rs"]
mod example;

/// Three unseen good parts and two dented ones, in one folder.
fn unseen(folder: &Folder) -> std::path::PathBuf {
    for seed in 0..3 {
        folder.picture(format!("unseen/good{seed}.png"), &part(100 + seed));
    }
    for seed in 0..2 {
        folder.picture(format!("unseen/dented{seed}.png"), &dented_part(200 + seed));
    }
    folder.path("unseen")
}

/// Released ONNX Runtimes log their use in the home directory, for their maker, unless they are told not to.
#[test]
fn nothing_is_left_in_the_home_directory() {
    let (folder, home) = (Folder::new(), tempfile::TempDir::new().unwrap());
    let mut command = Command::new(PROGRAM);
    command.arg("inspect").arg(ready_package()).arg(unseen(&folder));
    command.env("HOME", home.path()).env_remove("XDG_CACHE_HOME").env_remove("ORT_DISABLE_TELEMETRY");
    Ran::of(&mut command).exits(1);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn good_parts_pass_and_dented_ones_are_rejected() {
    let folder = Folder::new();
    let images = unseen(&folder);
    let ran = weakrest!("inspect", ready_package(), images).exits(1);
    assert_eq!(ran.err, "");
    let lines: Vec<&str> = ran.out.lines().collect();
    let path = |name: &str| images.join(name).display().to_string();
    for (line, name) in lines.iter().zip(["dented0.png", "dented1.png"]) {
        assert!(line.starts_with("reject "), "{line}");
        let (left, right) = line.split_once(&path(name)).unwrap();
        assert!(left.contains(" (threshold ") && left.ends_with(")  "), "{line}");
        assert!(right.starts_with("  ") && right.contains('×') && right.contains(" at "), "{line}");
    }
    for (line, name) in lines[2..].iter().zip(["good0.png", "good1.png", "good2.png"]) {
        assert!(line.starts_with("pass   ") && line.ends_with(&path(name)), "{line}");
    }
    assert_eq!(lines.len(), 5);
}

#[test]
fn the_exit_code_is_that_of_the_worst_verdict() {
    let folder = Folder::new();
    let images = unseen(&folder);
    let (good, dented) = (images.join("good0.png"), images.join("dented0.png"));
    let missing = images.join("missing.png");
    let package = ready_package();
    weakrest!("inspect", package, good).exits(0);
    weakrest!("inspect", package, good, images.join("good1.png")).exits(0);
    weakrest!("inspect", package, good, dented).exits(1);
    weakrest!("inspect", package, dented, good).exits(1);
    weakrest!("inspect", package, missing).exits(3);
    weakrest!("inspect", package, missing, good).exits(3);
    weakrest!("inspect", package, missing, dented).exits(3);
    weakrest!("inspect", package, dented, missing).exits(3);
}

#[test]
fn pictures_that_cannot_be_read_are_faults_and_the_others_are_judged() {
    let folder = Folder::new();
    let images = unseen(&folder);
    for (name, bytes, _) in bad_pictures() {
        folder.file(format!("unseen/{name}"), &bytes);
    }
    folder.picture("unseen/gray.png", &DynamicImage::ImageLuma8(part(9).into_luma8()));
    folder.picture("unseen/small.png", &part_of_size(9, 48, 40));
    let missing = folder.path("missing.png");
    let ran = weakrest!("inspect", ready_package(), images, missing).exits(3);
    assert_eq!(ran.err, "");
    let mut faults: Vec<(&str, &str)> =
        bad_pictures().into_iter().map(|(name, _, says)| (name, says)).collect();
    faults.push(("gray.png", "the picture is gray, but the good parts were enrolled in color"));
    faults.push(("small.png", "the picture is 48×40 pixels, but the good parts were enrolled at 96×80"));
    faults.push(("missing.png", "cannot be read: No such file"));
    let column = ran.out.find(images.to_str().unwrap()).unwrap();
    for (name, says) in &faults {
        let line =
            ran.out.lines().find(|l| l.contains(&format!("/{name}: "))).unwrap_or_else(|| panic!("{ran}"));
        assert!(line.starts_with("fault  ") && line.contains(says), "{line}");
        assert_eq!(line.matches(name).count(), 1, "{line}");
        assert_eq!(line.find(folder.path("").to_str().unwrap()), Some(column), "names do not line up\n{ran}");
    }
    let count = |verdict| ran.out.lines().filter(|l| l.starts_with(verdict)).count();
    assert_eq!((count("pass "), count("reject "), count("fault ")), (3, 2, faults.len()));
}

#[test]
fn json_has_one_object_per_picture() {
    let folder = Folder::new();
    let images = unseen(&folder);
    folder.file("unseen/zero.png", b"");
    let ran = weakrest!("inspect", ready_package(), images, "--json").exits(3);
    assert_eq!(ran.err, "");
    let lines = ran.json_lines();
    assert_eq!(lines.len(), 6);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let (judged, fault) = lines.split_at(5);
    for line in judged {
        assert_eq!(
            keys(line),
            ["image", "milliseconds", "provider", "regions", "score", "threshold", "verdict"]
        );
        let dented = line["image"].as_str().unwrap().contains("dented");
        assert_eq!(line["verdict"], if dented { "reject" } else { "pass" });
        assert_eq!(line["score"].as_f64() > line["threshold"].as_f64(), dented);
        assert_eq!(keys(&line["milliseconds"]), ["classify", "features", "residuals"]);
        assert!(line["milliseconds"]["features"].as_f64().unwrap() > 0.0);
        let regions = line["regions"].as_array().unwrap();
        assert!(!dented || !regions.is_empty(), "a reject without a region");
        for region in regions {
            assert_eq!(keys(region), ["area", "height", "peak", "width", "x", "y"]);
            let side = |key: &str| region[key].as_u64().unwrap() as u32;
            assert!(side("x") + side("width") <= SIZE.0 && side("y") + side("height") <= SIZE.1);
        }
    }
    assert_eq!(keys(&fault[0]), ["image", "reason", "verdict"]);
    assert_eq!(fault[0]["verdict"], "fault");
    assert_eq!(fault[0]["reason"], "the file is empty");
    assert_eq!(fault[0]["image"], images.join("zero.png").to_str().unwrap());
}

#[test]
fn the_threshold_can_be_overridden() {
    let folder = Folder::new();
    let images = unseen(&folder);
    let (good, dented) = (images.join("good0.png"), images.join("dented0.png"));
    let package = ready_package();
    let score = |image: &Path| {
        weakrest!("inspect", package, image, "--json").json_lines()[0]["score"].as_f64().unwrap()
    };
    // What tells the golden pictures apart is taken: tests/cli/package.rs has what is not.
    let (above, below) = (score(&dented) + 0.5, score(&good) - 0.5);
    weakrest!("inspect", package, dented, "--threshold", above.to_string())
        .exits(0)
        .prints(&["pass", &format!("(threshold {above:.3})")]);
    weakrest!("inspect", package, good, "--threshold", below.to_string())
        .exits(1)
        .prints(&["reject", &format!("(threshold {below:.3})")]);
    for value in ["nan", "inf", "-1", "high", "1e99"] {
        weakrest!("inspect", package, good, "--threshold", value).exits(2).says(&[
            "'--threshold <SCORE>'",
            value,
            "must be at least 0",
        ]);
    }
}

#[test]
fn pictures_with_equal_names_get_overlays_of_their_own() {
    let folder = Folder::new();
    for (line, place) in ["left/a", "left/b", "right/a"].iter().enumerate() {
        folder.picture(format!("{place}/part.png"), &part(line as u64));
    }
    folder.picture("right/a/part.bmp", &dented_part(7));
    let paths = ["left/a", "left/b/part.png", "right/a"].map(|name| folder.path(name));
    let overlays = folder.path("new/overlays");
    weakrest!("inspect", ready_package(), paths[0], paths[1], paths[2], "--overlays", overlays).exits(1);
    let names = ["left-a-part.png", "left-b-part.png", "right-a-part-2.png", "right-a-part.png"];
    assert_eq!(files(&overlays), names.map(Path::new));
    for name in names {
        let overlay = image::open(overlays.join(name)).unwrap();
        assert_eq!((overlay.width(), overlay.height()), SIZE);
    }
    // A dented part's overlay shows heat, a good part's is the picture itself. `.bmp` comes before `.png`.
    let heat = image::open(overlays.join("right-a-part.png")).unwrap().into_rgb8();
    assert_ne!(heat, dented_part(7).into_rgb8());
    let plain = image::open(overlays.join("left-a-part.png")).unwrap().into_rgb8();
    let same = plain.pixels().zip(part(0).into_rgb8().pixels()).filter(|(a, b)| a == b).count();
    assert!(same > plain.pixels().len() / 2, "{same} of {}", plain.pixels().len());

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        let plain = folder.file("plain", b"");
        assert_eq!(mode(&overlays.join(names[0])), mode(&plain), "others cannot read an overlay");
    }
}

#[test]
fn a_name_that_is_too_long_for_a_file_is_shortened() {
    let folder = Folder::new();
    let (long, same) = ("ü".repeat(70), "x".repeat(200));
    for place in ["a", "b"] {
        folder.picture(format!("{long}/{place}/{same}/1.png"), &part(1));
        folder.picture(format!("{long}/{place}/{same}2.png"), &part(2));
    }
    folder.picture("z.png", &part(3));
    let pictures: Vec<_> = ["a", "b"]
        .iter()
        .flat_map(|place| [format!("{long}/{place}/{same}/1.png"), format!("{long}/{place}/{same}2.png")])
        .map(|name| folder.path(name))
        .collect();
    let overlays = folder.path("overlays");
    weakrest!(
        "inspect",
        ready_package(),
        pictures[0],
        pictures[1],
        pictures[2],
        pictures[3],
        folder.path("z.png"),
        "--overlays",
        overlays,
        "--report",
        folder.path("report.html")
    )
    .exits(0);
    let names = files(&overlays);
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(names.iter().all(|name| name.as_os_str().len() <= 255));
}

#[test]
fn the_report_is_one_file_that_needs_nothing_else() {
    let folder = Folder::new();
    let images = unseen(&folder);
    folder.file("unseen/zero.png", b"");
    let report = folder.path("reports/monday.html");
    folder.folder("reports");
    weakrest!("inspect", ready_package(), images, "--report", report).exits(3);
    assert_eq!(files(&folder.path("reports")), [Path::new("monday.html")]);
    let text = std::fs::read_to_string(&report).unwrap();
    assert!(text.contains("<title>Inspection of disc</title>"));
    for name in ["good0", "good2", "dented0", "dented1", "zero"] {
        assert!(text.contains(name), "{name} is not in the report");
    }
    assert!(text.contains("the file is empty"));
    // A picture and its overlay for each that could be read, all of them inside.
    assert_eq!(text.matches("<img ").count(), 10);
    assert_eq!(text.matches(r#"src="data:image/jpeg;base64,"#).count(), 10);
    for outside in ["http:", "https:", "<link", "<iframe", "@import", "url("] {
        assert!(!text.contains(outside), "the report reaches for {outside}");
    }
    assert_eq!(text.matches("src=").count(), 10);
}

#[test]
fn overlays_never_take_the_place_of_pictures() {
    let folder = Folder::new();
    let images = unseen(&folder);
    folder.picture("lone.png", &part(0));
    let before = folder.contents();
    let says = ["is the folder of the pictures, which overlays would replace; choose another folder"];
    let package = ready_package();
    weakrest!("inspect", package, images, "--overlays", images).exits(2).says(&says);
    let around = images.join("../unseen");
    weakrest!("inspect", package, images, "--overlays", around).exits(2).says(&says);
    std::os::unix::fs::symlink(&images, folder.path("link")).unwrap();
    weakrest!("inspect", package, images, "--overlays", folder.path("link")).exits(2).says(&says);
    std::fs::remove_file(folder.path("link")).unwrap();
    let mut command = Command::new(PROGRAM);
    command.current_dir(folder.path("")).arg("inspect").arg(package);
    Ran::of(command.args(["lone.png", "--overlays", "."])).exits(2).says(&says);
    assert_eq!(folder.contents(), before);
}

#[test]
fn places_that_cannot_be_written_are_told_before_anything_is_judged() {
    let folder = Folder::new();
    let images = unseen(&folder);
    let taken = folder.file("taken", b"mine");
    folder.folder("folder.html");
    let before = folder.contents();
    let (good, other) = (images.join("good0.png"), images.join("good1.png"));
    let inspect = |option: &str, place: &Path| {
        let ran = weakrest!("inspect", ready_package(), good, option, place);
        assert_eq!(ran.out, "", "something was judged\n{ran}");
        assert_eq!(folder.contents(), before);
        ran
    };
    inspect("--overlays", &taken).exits(2).says(&["taken: is no folder; choose another name"]);
    inspect("--overlays", &taken.join("below")).exits(3).says(&["cannot create the folder", "taken/below"]);
    inspect("--report", &folder.path("no/such.html")).exits(2).says(&["no does not exist; create it first"]);
    inspect("--report", &taken.join("r.html")).exits(2).says(&["taken does not exist; create it first"]);
    inspect("--report", &folder.path("folder.html"))
        .exits(2)
        .says(&["folder.html: ", "is a folder; choose another name"]);
    // A forgotten name takes the next picture for the report.
    inspect("--report", &other).exits(2).says(&["good1.png: the name of a report must end in .html"]);
    // Nobody can write here, root included.
    if Path::new("/proc/self").exists() {
        inspect("--report", Path::new("/proc/r.html")).exits(3).says(&["cannot write /proc/r.html"]);
        inspect("--overlays", Path::new("/proc/overlays"))
            .exits(3)
            .says(&["cannot create the folder /proc/overlays"]);
    }
}

#[test]
fn a_folder_without_pictures_is_a_usage_error() {
    let folder = Folder::new();
    let empty = folder.folder("empty");
    let good = folder.picture("good.png", &part(0));
    weakrest!("inspect", ready_package(), empty).exits(2).says(&["there are no pictures in", "empty"]);
    let ran = weakrest!("inspect", ready_package(), good, empty).exits(2).says(&["there are no pictures in"]);
    assert_eq!(ran.out, "");
    weakrest!("inspect", ready_package()).exits(2).says(&["<IMAGES>..."]);
}

#[test]
fn a_package_of_any_size_takes_other_sizes() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 6);
    folder.picture("good/wide.png", &part_of_size(6, 120, 80));
    enroll(&good, &folder.path("p"), &["--any-size"]).exits(0);
    let (wide, tall) = (part_of_size(31, 110, 80), part_of_size(32, 80, 110));
    let images = [folder.picture("wide.png", &wide), folder.picture("tall.png", &tall)];
    let lines = weakrest!("inspect", folder.path("p"), images[0], images[1], "--json").json_lines();
    assert!(lines.iter().all(|l| l["score"].is_number()), "{lines:?}");
}

#[test]
fn pictures_may_keep_their_size() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 6);
    folder.picture("good/wide.png", &part_of_size(6, 120, 80));
    let output = folder.path("p");
    weakrest!(
        "enroll",
        "--quality",
        "fast",
        "--images",
        good,
        "--output",
        output,
        "--any-size",
        "--size",
        "native"
    )
    .exits(0);
    // Six of 96 pixels and one of 120.
    weakrest!("package", "show", folder.path("p"))
        .exits(0)
        .prints(&["longest side    99 pixels on average, not scaled, grid of 8-pixel blocks"]);
    let wide = folder.picture("wide.png", &part_of_size(31, 110, 80));
    let list = folder.path("list.jsonl");
    std::fs::write(&list, format!("{}\n", serde_json::json!({"image": wide}))).unwrap();
    weakrest!("residuals", folder.path("p"), "--list", list, "--output", folder.path("r")).exits(0);
    let index = std::fs::read(folder.path("r/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["pictures"][0]["grid"], serde_json::json!([10, 14]));
    weakrest!("enroll", "--images", folder.path("good"), "--output", folder.path("q"), "--size", "whole")
        .exits(2)
        .says(&["\"native\""]);
}

#[test]
fn gray_parts_are_inspected_gray() {
    let folder = Folder::new();
    let gray = |picture: DynamicImage| DynamicImage::ImageLuma8(picture.into_luma8());
    for seed in 0..8 {
        folder.picture(format!("good/{seed}.png"), &gray(part(seed)));
    }
    enroll(&folder.path("good"), &folder.path("p"), &[]).exits(0);
    let good = folder.picture("good.bmp", &gray(part(50)));
    let dented = folder.picture("dented.tiff", &gray(dented_part(50)));
    let color = folder.picture("color.png", &part(50));
    weakrest!("inspect", folder.path("p"), good).exits(0);
    weakrest!("inspect", folder.path("p"), dented).exits(1);
    weakrest!("inspect", folder.path("p"), color)
        .exits(3)
        .prints(&["color.png: the picture is color, but the good parts were enrolled in gray"]);
}

/// Runs with a standard output whose reader is gone from the start.
fn unread(command: &mut Command) -> Ran {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    Ran::from(output.wait_with_output().unwrap())
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_work_quietly() {
    let folder = Folder::new();
    let images = unseen(&folder);
    let package = ready_package();
    let commands: [&[&str]; 5] =
        [&["inspect"], &["inspect", "--json"], &["package", "show"], &["package", "verify"], &["check"]];
    for command in commands {
        let mut program = Command::new(PROGRAM);
        program.args(command).arg(package);
        if command[0] == "inspect" {
            program.arg(&images);
        }
        let ran = unread(&mut program).exits(3);
        assert_eq!(ran.err, "", "{command:?}");
    }
    let mut help = Command::new(PROGRAM);
    assert_eq!(unread(help.arg("--help")).err, "");
}

#[test]
fn a_report_is_finished_without_a_reader() {
    let folder = Folder::new();
    let images = unseen(&folder);
    let (report, overlays) = (folder.path("r.html"), folder.path("overlays"));
    let mut command = Command::new(PROGRAM);
    command.arg("inspect").arg(ready_package()).arg(&images);
    command.arg("--report").arg(&report).arg("--overlays").arg(&overlays);
    let ran = unread(&mut command).exits(1);
    assert_eq!(ran.err, "");
    assert!(std::fs::read_to_string(&report).unwrap().ends_with("</html>\n"));
    assert_eq!(files(&overlays).len(), 5);
}

#[test]
fn a_full_disk_behind_the_output_is_told() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        return skip("there is no /dev/full");
    };
    let folder = Folder::new();
    let images = unseen(&folder);
    let mut command = Command::new(PROGRAM);
    command.arg("inspect").arg(ready_package()).arg(&images);
    let child = command.stdout(full.try_clone().unwrap()).stderr(Stdio::piped()).spawn().unwrap();
    Ran::from(child.wait_with_output().unwrap())
        .exits(3)
        .says(&["error: cannot write to standard output: the disk is full; free some space and try again"]);
    // With nobody to be told, the exit code still tells.
    let child = Command::new(PROGRAM).args(["inspect", "no", "no"]).stderr(full).spawn().unwrap();
    Ran::from(child.wait_with_output().unwrap()).exits(3);
}

#[test]
fn the_library_gives_the_verdict_that_the_program_gives() {
    let folder = Folder::new();
    for (name, picture, verdict) in
        [("good.png", part(77), "pass"), ("dented.png", dented_part(77), "reject")]
    {
        let image = folder.file(name, &encoded(&picture, ImageFormat::Png));
        let inspection = example::inspect_one(ready_package(), &image).unwrap();
        let line = weakrest!("inspect", ready_package(), image, "--json").json();
        assert_eq!(
            (line["verdict"].as_str(), inspection.verdict.to_string().as_str()),
            (Some(verdict), verdict)
        );
        assert_eq!(line["score"].as_f64().unwrap() as f32, inspection.score);
        assert_eq!(line["regions"].as_array().unwrap().len(), inspection.regions.len());
    }
}
