//! `weakrest enroll` as a user runs it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use image::{DynamicImage, ImageFormat};

use crate::common::*;

#[test]
fn twelve_good_parts_become_a_package() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 12);
    let package = folder.path("disc.weakrest");
    let ran = enroll(&good, &package, &[]).exits(0).prints(&[
        "disc.weakrest: 12 good pictures enrolled in",
        "bank       1344 of 1344 tokens",
        "threshold",
        "12 good images alone can promise no less than 7.69 %",
        "99 images would promise it",
        "forecast   painted defects that are rejected, by their size in pixels of the camera's picture:",
        "                  6     12     24     48",
        "Check the pictures with the highest scores",
    ]);
    assert_eq!(ran.err, "");
    let strangest: Vec<&str> = ran.out.lines().filter(|l| l.ends_with(".png")).collect();
    assert_eq!(strangest.len(), 3, "{ran}");
    assert!(strangest.is_sorted_by(|a, b| a >= b), "the strangest comes first\n{ran}");
    let names = [
        "backbone-license.txt",
        "backbone.onnx",
        "bank-1.safetensors",
        "golden/ordinary.png",
        "golden/painted.png",
        "golden/strangest.png",
        "package.sha256",
        "package.toml",
        "pictures.sha256",
    ];
    assert_eq!(files(&package), names.map(Path::new));
    let around: Vec<_> = folder.contents().into_keys().filter(|p| p.components().count() == 1).collect();
    assert_eq!(around, ["disc.weakrest", "good"].map(Path::new), "something else was left behind");
    weakrest!("package", "show", package).exits(0).prints(&["product         disc\n"]);
}

#[test]
fn the_summary_is_json_for_machines() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 6);
    folder.file("good/empty.png", b"");
    let package = folder.path("p");
    let ran = enroll(&good, &package, &["--json", "--skip-bad", "--product", "Copper disc"]).exits(0);
    let summary = ran.json();
    let keys: Vec<&str> = summary.as_object().unwrap().keys().map(String::as_str).collect();
    let documented = [
        "advice",
        "bank_tokens",
        "bytes",
        "forecast",
        "hash",
        "images",
        "known_defects",
        "known_defects_rejected",
        "milliseconds",
        "outliers",
        "package",
        "parts",
        "promise",
        "provider",
        "scores",
        "seconds",
        "sees_painted_square",
        "skipped",
        "threshold",
        "tokens",
    ];
    assert_eq!(keys, documented);
    assert_eq!(summary["images"], 6);
    assert_eq!(summary["scores"].as_array().unwrap().len(), 6);
    assert_eq!(summary["sees_painted_square"], true);
    assert_eq!(summary["skipped"][0]["reason"], "the file is empty");
    assert!(summary["skipped"][0]["path"].as_str().unwrap().ends_with("good/empty.png"));
    assert_eq!(summary["threshold"]["false_reject_rate"], 0.01);
    let shown = weakrest!("package", "show", package, "--json").exits(0).json();
    assert_eq!(shown["hash"], summary["hash"]);
    assert_eq!(shown["manifest"]["product"], "Copper disc");
}

#[test]
fn the_same_seed_gives_the_same_bytes_for_any_number_of_threads() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 12);
    // So few tokens would all be kept, and nothing random be left.
    let thin = ["--coreset-floor", "50", "--coreset-share", "0.2", "--product", "disc"];
    let with = |name: &str, more: &[&str]| {
        let package = folder.path(name);
        Ran::of(enroll_command(&good, &package).args(thin).args(more)).exits(0);
        contents(&package)
    };
    let one = with("one", &["--threads", "1"]);
    // There ONNX Runtime splits sums by threads, and features differ in their last bits.
    let [two, seven] = if cfg!(target_arch = "aarch64") { ["1"; 2] } else { ["2", "7"] };
    assert_eq!(one, with("two", &["--threads", two]));
    assert_eq!(one, with("seven", &["--threads", seven, "--seed", "0"]));
    assert_ne!(one, with("other", &["--threads", "2", "--seed", "1"]));
}

#[test]
fn levels_of_quality_choose_network_and_size() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 4);
    let shown = |name: &str, more: &[&str]| {
        let package = folder.path(name);
        let mut command = Command::new(PROGRAM);
        command.args(["enroll", "--variations", "none", "--images"]).arg(&good).arg("--output").arg(&package);
        Ran::of(command.args(more)).exits(0).prints(&["speed      ", " ms a picture on this machine"]);
        let manifest = weakrest!("package", "show", package, "--json").exits(0).json()["manifest"].take();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (text(&manifest["backbone"]["name"]), manifest["scaling"]["longest_side"].as_u64().unwrap())
    };
    let (one, three) = ("efficientnet-lite1".to_owned(), "efficientnet-lite1-scales".to_owned());
    assert_eq!(shown("default", &[]), (three.clone(), 448));
    assert_eq!(shown("fast", &["--quality", "fast"]), (one.clone(), 256));
    assert_eq!(shown("best", &["--quality", "best"]), (three.clone(), 768));
    // What is said wins over the level; the built-in head has its own level.
    assert_eq!(shown("small", &["--size", "64"]), (three, 64));
    assert_eq!(shown("head", &["--head", "general", "--size", "64"]), (one, 64));
    let wrong = ["general-head was trained with another backbone"];
    let mut command = enroll_command(&good, &folder.path("wrong"));
    Ran::of(command.args(["--head", "general", "--quality", "standard"])).exits(2);
    let mut command = Command::new(PROGRAM);
    command.args(["enroll", "--quality", "best", "--head", "general", "--images"]).arg(&good).arg("--output");
    Ran::of(command.arg(folder.path("wrong"))).exits(3).says(&wrong);
    weakrest!("enroll", "--images", good, "--output", folder.path("wrong"), "--quality", "good")
        .exits(2)
        .says(&["--quality", "fast, standard, best"]);
}

#[test]
fn a_backbone_in_8_bits_judges_as_the_one_in_floats() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 12);
    let (float, int8) = (folder.path("float.weakrest"), folder.path("int8.weakrest"));
    enroll(&good, &float, &[]).exits(0);
    enroll(&good, &int8, &["--int8"])
        .exits(0)
        .prints(&["Features in 8-bit integers are computed", "good pictures differ by"]);
    weakrest!("package", "show", int8)
        .exits(0)
        .prints(&["efficientnet-lite1-int8", "in 8-bit integers for pictures of int8"]);
    let bytes = |package: &Path| std::fs::metadata(package.join("backbone.onnx")).unwrap().len();
    assert!(2 * bytes(&int8) < bytes(&float), "{} and {}", bytes(&int8), bytes(&float));

    (0..4).for_each(|i| drop(folder.picture(format!("bad/{i}.png"), &dented_part(300 + i))));
    let threshold = |package: &Path| {
        let judged = weakrest!("inspect", package, folder.path("bad"), good, "--json").exits(1).json_lines();
        let rejected = |part: &&serde_json::Value| part["verdict"] == "reject";
        assert_eq!((judged.iter().filter(rejected).count(), judged.len()), (4, 16), "{judged:?}");
        judged[0]["threshold"].as_f64().unwrap()
    };
    let (float_threshold, int8_threshold) = (threshold(&float), threshold(&int8));
    assert!((int8_threshold / float_threshold - 1.0).abs() < 0.15, "{int8_threshold} and {float_threshold}");
    // The same pictures give the same bytes.
    let again = folder.path("again/int8.weakrest");
    std::fs::create_dir(folder.path("again")).unwrap();
    enroll(&good, &again, &["--int8", "--threads", "1"]).exits(0);
    assert!(
        std::fs::read(int8.join("backbone.onnx")).unwrap()
            == std::fs::read(again.join("backbone.onnx")).unwrap()
    );
    // A head was trained with floats.
    enroll(&good, &folder.path("head"), &["--int8", "--head", "general"])
        .exits(2)
        .says(&["--int8", "--head"]);
}

#[test]
fn levels_of_quality_are_compared_without_a_package() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 4);
    folder.picture("defects/dent.png", &dented_part(9));
    let before = folder.contents();
    let ran = weakrest!("levels", "--images", good, "--defects", folder.path("defects")).exits(0).prints(&[
        "fast       ",
        "standard   ",
        "best       ",
        "forecast   painted defects that are rejected",
        "defects    1 of 1 known defects score above the threshold",
        "weakrest enroll --quality LEVEL",
    ]);
    assert_eq!(ran.out.matches(" ms a picture on this machine, networks on cpu").count(), 3, "{ran}");
    let levels = weakrest!("levels", "--images", good, "--json").exits(0).json()["levels"].take();
    let [fast, _, best] = levels.as_array().unwrap().as_slice() else { panic!("{levels}") };
    assert_eq!((&fast["quality"], &best["quality"]), (&"fast".into(), &"best".into()));
    assert!(fast["milliseconds"].as_f64() < best["milliseconds"].as_f64(), "{levels}");
    assert_eq!(best["forecast"].as_array().unwrap().len(), 12);
    assert_eq!(folder.contents(), before);
    weakrest!("levels", "--images", folder.path("none")).exits(2).says(&["none"]);
}

#[test]
fn known_defects_lower_a_threshold_that_would_pass_them() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 6);
    let wide = folder.path("wide");
    let threshold = &enroll(&good, &wide, &["--json"]).exits(0).json()["threshold"];
    let (value, highest) = (threshold["value"].as_f64().unwrap(), threshold["scores"][2].as_f64().unwrap());
    assert_eq!(threshold["rule"], "tail");
    // The weakest dent that scores above all good parts, and passes.
    let (clean, dented) = (part(50).into_rgb8(), dented_part(50).into_rgb8());
    let faint = (1..=40).find_map(|strength| {
        let mixed = image::RgbImage::from_fn(clean.width(), clean.height(), |x, y| {
            let mix = |c: usize| {
                let (from, to) = (f32::from(clean.get_pixel(x, y)[c]), f32::from(dented.get_pixel(x, y)[c]));
                (from + (to - from) * strength as f32 / 160.0).round() as u8
            };
            image::Rgb([mix(0), mix(1), mix(2)])
        });
        let picture = folder.picture("defects/faint.png", &DynamicImage::ImageRgb8(mixed));
        let score = weakrest!("inspect", wide, picture, "--json").json()["score"].as_f64().unwrap();
        (highest * 1.01 < score && score < value).then_some(picture)
    });
    let faint = faint.expect("a dent between the good parts and the threshold");
    weakrest!("inspect", wide, faint).exits(0);

    let (defects, lower) = (folder.path("defects"), folder.path("lower"));
    enroll(&good, &lower, &["--defects", defects.to_str().unwrap()]).exits(0).prints(&[
        "1 of 1 known defects score above the threshold",
        "half-way from their highest score to a known defect's",
    ]);
    weakrest!("inspect", lower, faint).exits(1);
    weakrest!("inspect", lower, good.join("03.png")).exits(0);
    weakrest!("package", "show", lower)
        .exits(0)
        .prints(&["half-way from the leave-one-out scores to a known defect"]);

    // No threshold tells a good part from good parts.
    let hidden = folder.picture("defects/hidden.png", &part(3));
    enroll(&good, &lower, &["--overwrite", "--defects", defects.to_str().unwrap()]).exits(0).prints(&[
        "1 of 2 known defects score above the threshold",
        "These pass, because ",
        hidden.to_str().unwrap(),
    ]);
    folder.picture("defects/large.png", &part_of_size(3, 120, 80));
    enroll(&good, &lower, &["--overwrite", "--defects", defects.to_str().unwrap()])
        .exits(3)
        .says(&["large.png: the picture is 120×80 pixels, but the good parts were enrolled at 96×80"]);
}

#[test]
fn gray_and_color_of_8_and_16_bits_come_in_every_format() {
    let folder = Folder::new();
    type Convert = fn(DynamicImage) -> DynamicImage;
    let kinds: [(&str, &str, Convert); 4] = [
        ("gray8", "gray", |p| DynamicImage::ImageLuma8(p.into_luma8())),
        ("gray16", "gray", |p| DynamicImage::ImageLuma16(p.into_luma16())),
        ("color8", "color", |p| DynamicImage::ImageRgb8(p.into_rgb8())),
        ("color16", "color", |p| DynamicImage::ImageRgb16(p.into_rgb16())),
    ];
    for (kind, color, converted) in kinds {
        let formats: &[&str] =
            if kind.ends_with("16") { &["png", "tiff"] } else { &["png", "tiff", "bmp", "jpg"] };
        for format in formats {
            let name = format!("{kind}-{format}");
            for seed in 0..4 {
                folder.picture(format!("{name}/{seed}.{format}"), &converted(part(seed)));
            }
            let package = folder.path(format!("{name}.weakrest"));
            enroll(&folder.path(&name), &package, &[]).exits(0);
            weakrest!("package", "show", package)
                .exits(0)
                .prints(&[&format!("4 good pictures, {color}, 96x80")]);
            let unseen = folder.picture(format!("unseen/{name}.{format}"), &converted(part(50)));
            let dented = folder.picture(format!("dented/{name}.{format}"), &converted(dented_part(50)));
            weakrest!("inspect", package, unseen).exits(0);
            // Four pictures leave the threshold wide, so the two are only compared.
            let lines = weakrest!("inspect", package, unseen, dented, "--json").json_lines();
            let scores: Vec<f64> = lines.iter().map(|l| l["score"].as_f64().unwrap()).collect();
            assert!(scores[1] > 2.0 * scores[0], "{name}: {scores:?}");
        }
    }
}

#[test]
fn formats_may_be_mixed_and_their_endings_are_not_believed() {
    let folder = Folder::new();
    for (i, format) in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff].into_iter().enumerate() {
        folder.file(format!("good/{i}.JPEG"), &encoded(&part(i as u64), format));
    }
    folder.file("good/notes.txt", b"not counted");
    folder.file("good/.hidden.png", b"not counted either");
    folder.folder("good/folder.png");
    enroll(&folder.path("good"), &folder.path("p"), &[]).exits(0).prints(&["3 good pictures enrolled"]);
}

#[test]
fn file_names_need_not_be_unicode() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    let name = |bytes: &[u8]| Path::new("good parts").join(OsStr::from_bytes(bytes));
    for (seed, bytes) in
        [b"caf\xe9.png".as_slice(), b"caf\xea.png", "Schr\u{e4}g \u{2603}.png".as_bytes()].iter().enumerate()
    {
        folder.file(name(bytes), &encoded(&part(seed as u64), ImageFormat::Png));
    }
    folder.file(name(b"caf\xeb.png"), b"");
    let (images, package) = (folder.path("good parts"), folder.path(OsStr::from_bytes(b"d\xefsc")));
    enroll(&images, &package, &[]).exits(3).says(&["caf\u{fffd}.png: the file is empty"]);
    let ran = enroll(&images, &package, &["--skip-bad", "--json"]).exits(0);
    assert_eq!(ran.json()["images"], 3);
    let lines = weakrest!("inspect", package, images, "--json").exits(3).json_lines();
    let verdicts: Vec<&str> = lines.iter().map(|l| l["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["pass", "pass", "pass", "fault"]);
    let overlays = folder.path("overlays");
    weakrest!("inspect", package, images, "--overlays", overlays, "--report", folder.path("r.html")).exits(3);
    assert_eq!(files(&overlays).len(), 3, "each picture has its own overlay");
}

#[test]
fn a_package_is_replaced_only_when_told_to() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 20, 4);
    let package = folder.package("disc.weakrest");
    let before = folder.contents();
    enroll(&good, &package, &[]).exits(2).says(&["disc.weakrest exists; add --overwrite to replace it"]);
    assert_eq!(folder.contents(), before);
    enroll(&good, &package, &["--overwrite"]).exits(0).prints(&["4 good pictures enrolled"]);
    weakrest!("package", "show", package).exits(0).prints(&["4 good pictures"]);
    let names = |all: &std::collections::BTreeMap<_, _>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&folder.contents()), names(&before), "something of the old package was left");
}

#[test]
fn what_is_no_package_is_never_replaced() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 3);
    folder.file("file", b"mine");
    folder.file("notes/notes.txt", b"mine");
    let before = folder.contents();
    for (output, says) in [
        ("file", "file exists and is not a package; choose another name"),
        ("notes", "notes exists and is not a package; choose another name"),
        ("no/such/disc", "no/such does not exist; create it first"),
        ("file/disc", "file does not exist; create it first"),
        ("..", "cannot be the name of a package"),
    ] {
        for more in [&[][..], &["--overwrite"]] {
            enroll(&good, &folder.path(output), more).exits(2).says(&["error: ", says]);
            assert_eq!(folder.contents(), before, "{output}");
        }
    }
}

#[test]
fn a_folder_without_enough_pictures_is_a_usage_error() {
    let folder = Folder::new();
    folder.folder("empty");
    folder.file("other/readme.txt", b"");
    folder.good_parts("one", 0, 1);
    folder.good_parts("bottle/train/good", 0, 2);
    let before = folder.contents();
    for (images, says) in [
        ("empty", "there are no pictures in"),
        ("other", "there are no pictures in"),
        ("missing", "there is no folder"),
        ("one/00.png", "there is no folder"),
        ("one", "one picture does not show how good parts vary; take at least 2, better 20 or more"),
        ("bottle", "bottle/train/good?"),
    ] {
        let ran =
            enroll(&folder.path(images), &folder.path("package"), &[]).exits(2).says(&["error: ", says]);
        assert!(images == "one" || ran.err.contains(folder.path(images).to_str().unwrap()), "{ran}");
        assert_eq!(ran.out, "");
    }
    assert_eq!(folder.contents(), before);
}

#[test]
fn pictures_are_taken_by_any_name_and_what_is_passed_over_is_told() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 5);
    for (old, new) in [("00", "00.jfif"), ("01", "01.JPE"), ("02", "02"), ("03", "later/03.png")] {
        std::fs::create_dir_all(good.join("later")).unwrap();
        std::fs::rename(good.join(format!("{old}.png")), good.join(new)).unwrap();
    }
    folder.picture("good/backup.png", &part(9));
    std::fs::rename(good.join("backup.png"), good.join("backup.png.old")).unwrap();
    for left in [
        "._04.png",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "@eaDir/04.png",
        "__MACOSX/04.png",
        "notes.txt",
        "notes",
    ] {
        folder.file(format!("good/{left}"), b"BM is not enough for a picture");
    }
    let ran = enroll(&good, &folder.path("package"), &[]).exits(0).prints(&["4 good pictures enrolled"]);
    let ran = ran.says(&[
        "note: not taken: the folder",
        "later with 1 picture",
        "backup.png.old",
        "rename them to .png",
    ]);
    assert_eq!(ran.err.matches("not taken").count(), 2, "{ran}");
    // One that cannot be read is a matter of the pictures themselves.
    folder.file("good/06.webp", b"RIFF");
    enroll(&good, &folder.path("other"), &[]).exits(3).says(&["06.webp", "--skip-bad"]);
    enroll(&folder.folder("bare"), &folder.path("other"), &[]).exits(2);
    folder.picture("bare/monday/1.png", &part(1));
    enroll(&folder.path("bare"), &folder.path("other"), &[])
        .exits(2)
        .says(&["no pictures", "monday with 1 picture"]);
}

#[test]
fn pictures_that_cannot_be_used_are_listed() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 4);
    let bad = bad_pictures();
    let (told_by_header, told_by_decoding) = bad.split_at(bad.len() - 3);
    for pictures in [told_by_header, told_by_decoding] {
        for (name, bytes, _) in pictures {
            folder.file(format!("good/{name}"), bytes);
        }
        let before = folder.contents();
        let ran = enroll(&good, &folder.path("package"), &[]).exits(3).says(&[&format!(
            "error: {} pictures cannot be enrolled; fix or remove them, or add --skip-bad:\n",
            pictures.len()
        )]);
        let lines: Vec<&str> = ran.err.lines().skip(1).collect();
        assert_eq!(lines.len(), pictures.len(), "{ran}");
        for (name, _, says) in pictures {
            let path = folder.path(format!("good/{name}"));
            let line = lines.iter().find(|l| l.starts_with(&format!("  {}: ", path.display()))).unwrap();
            assert!(line.contains(says), "{line}");
            assert_eq!(line.matches(name).count(), 1, "{line}");
        }
        assert_eq!(folder.contents(), before);
        for (name, _, _) in pictures {
            std::fs::remove_file(folder.path(format!("good/{name}"))).unwrap();
        }
    }
}

#[test]
fn pictures_that_cannot_be_used_are_skipped_when_asked_to() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 4);
    for (name, bytes, _) in bad_pictures() {
        folder.file(format!("good/{name}"), &bytes);
    }
    let gray = DynamicImage::ImageLuma8(part(9).into_luma8());
    folder.picture("good/gray.png", &gray);
    folder.picture("good/small.png", &part_of_size(9, 48, 40));
    std::fs::copy(good.join("02.png"), good.join("twice.png")).unwrap();
    let ran =
        enroll(&good, &folder.path("p"), &["--skip-bad"]).exits(0).prints(&["4 good pictures enrolled"]);
    let expected = bad_pictures().into_iter().map(|(name, _, says)| (name, says)).chain([
        ("gray.png", "gray instead of color"),
        ("small.png", "48×40 pixels instead of 96×80"),
        ("twice.png", "the same picture as"),
    ]);
    let mut count = 0;
    for (name, says) in expected {
        let start = format!("left out: {}: ", good.join(name).display());
        let line = ran.err.lines().find(|l| l.starts_with(&start)).unwrap_or_else(|| panic!("{name}\n{ran}"));
        assert!(line.contains(says), "{line}");
        count += 1;
    }
    assert_eq!(ran.err.lines().count(), count, "{ran}");
}

#[test]
fn too_few_usable_pictures_come_with_the_list_of_the_others() {
    let folder = Folder::new();
    folder.file("bad/0.png", b"");
    folder.file("bad/1.png", b"");
    let enrolled = || enroll(&folder.path("bad"), &folder.path("p"), &["--skip-bad"]).exits(3);
    enrolled().says(&["none of 2 pictures can be enrolled", "bad/0.png: the file is empty", "bad/1.png"]);
    folder.picture("bad/2.png", &part(0));
    enrolled()
        .says(&["only one of 3 pictures can be enrolled; take at least 2", "bad/1.png: the file is empty"]);
    assert!(!folder.path("p").exists());
}

#[test]
fn a_long_list_is_cut() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 2);
    for i in 0..14 {
        folder.file(format!("good/bad{i:02}.png"), b"");
    }
    let ran = enroll(&good, &folder.path("p"), &[]).exits(3).says(&[
        "14 pictures cannot be enrolled",
        "bad09.png",
        "… and 4 more",
    ]);
    assert!(!ran.err.contains("bad10.png"), "{ran}");
}

#[test]
fn pictures_must_be_of_one_color_and_size() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 4);
    folder.picture("good/gray.png", &DynamicImage::ImageLuma8(part(9).into_luma8()));
    enroll(&good, &folder.path("p"), &[]).exits(3).says(&[
        "error: a picture cannot be enrolled; fix or remove it, or add --skip-bad:\n",
        "good/gray.png: gray instead of color\n",
    ]);
    // Of any size does not mean of any color.
    let ran = enroll(&good, &folder.path("p"), &["--any-size"]).exits(3).says(&["gray instead of color"]);
    assert!(!ran.err.contains("--any-size"), "{ran}");
    std::fs::remove_file(good.join("gray.png")).unwrap();

    folder.picture("good/wide.png", &part_of_size(9, 120, 80));
    let sizes = [
        "good/wide.png: 120×80 pixels instead of 96×80\n",
        "add --any-size if the sizes differ on purpose:\n",
    ];
    enroll(&good, &folder.path("p"), &[]).exits(3).says(&sizes);
    assert!(!folder.path("p").exists());
    enroll(&good, &folder.path("p"), &["--any-size"]).exits(0).prints(&["5 good pictures enrolled"]);
    weakrest!("package", "show", folder.path("p")).exits(0).prints(&["5 good pictures, color, any"]);
}

#[test]
fn the_same_picture_twice_is_told() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 3);
    // Equal pixels in another format.
    folder.picture("good/copy.bmp", &part(1));
    let first = good.join("01.png");
    enroll(&good, &folder.path("p"), &[]).exits(3).says(&[
        "good/copy.bmp",
        "the same picture as",
        "good/01.png",
        first.to_str().unwrap(),
    ]);
}

#[test]
fn impossible_settings_are_usage_errors_that_name_them() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 3);
    let before = folder.contents();
    let cases: &[(&str, &[&str], &str)] = &[
        (
            "--false-reject-rate",
            &["0", "100", "-1", "500", "nan", "inf", "one"],
            "more than 0 and less than 100",
        ),
        ("--coreset-share", &["0", "2", "-0.1", "nan", "inf"], "more than 0 and at most 1"),
        ("--coreset-floor", &["-1", "0.5", "many"], "invalid value"),
        ("--size", &["1", "15", "4097", "100000"], "must be 16 to 4096 pixels, not"),
        ("--size", &["-1", "big", "99999999999"], "invalid value"),
        ("--similar", &["0", "-1", "nan"], "must be at least 1"),
        ("--threads", &["0", "-1", "1000000", "two"], "must be 1 to 1024"),
        ("--sigma", &["-1", "nan", "inf", "1e9"], "must be 0 to 256"),
        ("--score-window", &["0", "-1", "nan", "inf", "1e30"], "more than 0 and at most 4096"),
        ("--position-weight", &["-1", "nan", "inf", "1e30"], "must be 0 to 100"),
        ("--window-reach", &["0", "-1", "nan", "inf"], "more than 0 and at most 1"),
        ("--seed", &["-1", "x"], "invalid value"),
        ("--group-by", &["part", "*_1", "(*)(*)"], "needs (*) exactly once"),
        ("--variations", &["dark", "light,none", ""], "must be light, noise, both with a comma, or none"),
        ("--matching", &["hard"], "[possible values: soft, window]"),
    ];
    for (option, values, says) in cases {
        for value in *values {
            let mut command = Command::new(PROGRAM);
            let paths = [good.as_os_str(), folder.path("p").as_os_str()].map(ToOwned::to_owned);
            command
                .args(["enroll", "--quality", "fast", "--images"])
                .arg(&paths[0])
                .arg("--output")
                .arg(&paths[1]);
            let ran = Ran::of(command.args([option, value])).exits(2).says(&["error: ", says, value]);
            // The size's limits come from the network, which knows no options.
            assert!(*option == "--size" || ran.err.contains(option), "{ran}");
        }
    }
    weakrest!("enroll", "--images", good).exits(2).says(&["--output <PACKAGE>"]);
    weakrest!("enroll", "--output", folder.path("p")).exits(2).says(&["--images <DIR>"]);
    weakrest!("enroll", "--imagse", good).exits(2).says(&["--imagse", "--images"]);
    assert_eq!(folder.contents(), before);
}

#[test]
fn settings_at_their_limits_work() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 4);
    let cases: [&[&str]; 8] = [
        &["--quality", "fast", "--size", "16"],
        &[
            "--quality",
            "fast",
            "--size",
            "64",
            "-k",
            "4294967295",
            "--coreset-floor",
            "0",
            "--coreset-share",
            "1",
        ],
        &["--quality", "fast", "--size", "64", "--false-reject-rate", "99.9"],
        &["--quality", "fast", "--size", "64", "--false-reject-rate", "0.0001"],
        &["--quality", "fast", "--size", "64", "--sigma", "0", "--score-window", "4096"],
        &["--quality", "fast", "--size", "64", "--sigma", "256", "--score-window", "0.1"],
        &["--quality", "fast", "--size", "64", "--position-weight", "0", "-k", "1"],
        &["--quality", "fast", "--size", "64", "--matching", "window", "--window-reach", "0.001"],
    ];
    for (i, settings) in cases.iter().enumerate() {
        let package = folder.path(format!("p{i}"));
        let mut command = Command::new(PROGRAM);
        command.arg("enroll").arg("--images").arg(&good).arg("--output").arg(&package);
        let ran = Ran::of(command.args(*settings)).exits(0);
        weakrest!("package", "verify", package).exits(0);
        assert!(!ran.out.contains("NaN") && !ran.out.contains("inf"), "{ran}");
    }
    // Hardly any tokens leave nothing to compare a picture with.
    enroll(
        &good,
        &folder.path("p"),
        &["--coreset", "bank", "--coreset-floor", "0", "--coreset-share", "0.000001"],
    )
    .exits(2)
    .says(&["leave no tokens to compare with", "keep more tokens"]);
}

/// Parts with three pictures each, the later ones with a little more noise.
fn three_pictures_each(folder: &Folder, parts: u64, name: impl Fn(u64, u64) -> String) {
    for seed in 0..parts {
        for shot in 0..3 {
            let mut random = Random(1000 * seed + shot);
            let mut picture = part(seed).into_rgb8();
            for value in picture.iter_mut() {
                *value = value.saturating_add_signed((random.next() % (shot + 1)) as i8);
            }
            folder.picture(name(seed, shot), &DynamicImage::ImageRgb8(picture));
        }
    }
}

#[test]
fn pictures_of_the_same_part_are_left_out_together() {
    let folder = Folder::new();
    three_pictures_each(&folder, 12, |part, shot| format!("shots/{part:02}-{shot}.png"));
    three_pictures_each(&folder, 12, |part, shot| format!("folders/{part:02}/{shot}.png"));
    let threshold = |images: &str, how: &str| {
        let package = folder.path(format!("{images}-{how}"));
        let ran = enroll(&folder.path(images), &package, &["--group-by", how, "--json"]).exits(0);
        let threshold = &ran.json()["threshold"];
        assert_eq!(threshold["images"], 36);
        // Scores are in units of the good parts' median, which a comparison with itself makes small, too.
        let shown = weakrest!("package", "show", package, "--json").exits(0).json();
        let median = shown["manifest"]["scales"][0]["median"].as_f64().unwrap();
        (threshold["parts"].as_u64().unwrap(), median * threshold["value"].as_f64().unwrap())
    };
    let (parts, alike) = threshold("shots", "likeness");
    assert_eq!(parts, 12);
    assert_eq!(threshold("shots", "(*)-*"), (12, alike));
    assert_eq!(threshold("folders", "folder"), (12, alike));
    let (parts, fooled) = threshold("shots", "none");
    assert_eq!(parts, 36);
    assert!(fooled < 0.8 * alike, "{fooled} {alike}: a part was compared with itself");

    let package = folder.path("shots.weakrest");
    enroll(&folder.path("shots"), &package, &[]).exits(0).prints(&[
        "shots.weakrest: 36 good pictures enrolled in",
        "parts      12 in 36 pictures; the same part: 00-0.png, 00-1.png, 00-2.png; 01-0.png",
        "12 good parts in 36 images alone can promise no less than 7.69 %",
        "99 parts would promise it",
    ]);
    weakrest!("package", "show", package).exits(0).prints(&["36 good pictures of 12 parts, color, 96x80"]);
}

/// A dented part among the good ones would hide dents, and an odd good one raises the threshold.
#[test]
fn an_odd_picture_is_named_and_left_out_when_asked_to() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 12);
    let clean = folder.path("clean");
    let ran = enroll(&good, &clean, &["--product", "disc"]).exits(0);
    assert!(!ran.out.contains("far above the others"), "{ran}");
    folder.picture("good/odd.png", &dented_part(50));
    let odd = folder.path("odd");
    let ran = enroll(&good, &odd, &["--product", "disc"]).exits(0).prints(&[
        "13 good pictures enrolled",
        "These pictures score far above the others",
        "good/odd.png",
        "--drop-outliers",
    ]);
    assert_eq!(ran.out.matches(".png").count(), 1, "only the odd one is named\n{ran}");
    let dropped = folder.path("dropped");
    enroll(&good, &dropped, &["--product", "disc", "--drop-outliers"])
        .exits(0)
        .prints(&["12 good pictures enrolled"])
        .says(&["left out: ", "odd.png: it scores", "far above the others"]);
    assert_eq!(contents(&dropped), contents(&clean), "as if it had not been there");
}

/// A good part in less light, which has noise.
fn dim_part(seed: u64) -> DynamicImage {
    let mut picture = part(seed).into_rgb8();
    let mut random = Random(seed);
    for value in picture.iter_mut() {
        *value = (f32::from(*value) * 0.82 + 5.0 * random.signed()).clamp(0.0, 255.0) as u8;
    }
    DynamicImage::ImageRgb8(picture)
}

/// Large defects are caught, tiny ones are not, and a head sets a forecast of its own.
#[test]
fn the_forecast_says_which_defects_are_caught() {
    let folder = Folder::new();
    let forecast = |package: &Path| {
        let shown = weakrest!("package", "show", package, "--json").exits(0).json();
        shown["manifest"]["forecast"].as_array().unwrap().clone()
    };
    let found = forecast(ready_package());
    assert_eq!(found.len(), 12);
    assert!(found.iter().all(|info| info["painted"] == 10), "{found:?}");
    let rejected = |kind: &str, size: u32| {
        let info = found.iter().find(|info| info["kind"] == kind && info["size"] == size).unwrap();
        info["rejected"].as_u64().unwrap()
    };
    assert!(rejected("spot", 32) >= 8, "{found:?}");
    assert!(rejected("stain", 4) < rejected("spot", 4), "{found:?}");
    assert!(rejected("stain", 4) < rejected("stain", 32), "{found:?}");
    weakrest!("package", "show", ready_package()).exits(0).prints(&["spot", "scratch", "stain"]);

    // A threshold for fewer false rejects misses more.
    let strict = folder.path("strict.weakrest");
    let good = ready_package().parent().unwrap().join("good");
    enroll(&good, &strict, &["--false-reject-rate", "0.1"]).exits(0);
    let sum =
        |found: &[serde_json::Value]| found.iter().map(|i| i["rejected"].as_u64().unwrap()).sum::<u64>();
    assert!(sum(&forecast(&strict)) <= sum(&found));
}

#[test]
fn varied_copies_bear_with_other_light_and_noise() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 12);
    let dim = folder.picture("dim.png", &dim_part(50));
    let dented = folder.picture("dented.png", &dented_part(51));
    // How many times the threshold a part in less light scores, and a dented one.
    let scores = |variations: &str, tokens: &str| {
        let package = folder.path(variations);
        let ran = enroll(&good, &package, &["--variations", variations]).exits(0);
        ran.prints(&["12 good pictures enrolled", tokens, "12 good images alone can promise"]);
        let lines = weakrest!("inspect", package, &dim, &dented, "--json").json_lines();
        [0, 1].map(|line| lines[line]["score"].as_f64().unwrap() / lines[line]["threshold"].as_f64().unwrap())
    };
    let plain = scores("none", "672 of 672 tokens");
    let varied = scores("light,noise", "1344 of 1344 tokens");
    assert!(varied[0] < 0.9 * plain[0], "{plain:?} {varied:?}");
    assert!(varied[1] > 1.0, "the dent is still found: {varied:?}");
    weakrest!("package", "show", folder.path("light,noise"))
        .exits(0)
        .prints(&["12 good pictures, color, 96x80", "a copy of each in other light and with noise"]);
    weakrest!("package", "verify", folder.path("light,noise")).exits(0);

    let twice = folder.path("twice");
    enroll(&good, &twice, &["--variations", "light,light"]).exits(0);
    let shown = weakrest!("package", "show", twice).exits(0).prints(&["a copy of each in other light"]);
    assert!(!shown.out.contains("noise"), "{shown}");
}

#[test]
fn nothing_in_an_ignored_area_is_learned_or_rejected() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 8);
    let dented = folder.picture("dented.png", &dented_part(50));
    // The same dent elsewhere.
    let mut turned = dented_part(51);
    image::imageops::rotate180_in_place(&mut turned);
    let turned = folder.picture("turned.png", &turned);
    let notes = folder
        .file("notes.txt", "2026-11-28 line: 8 good parts\n\n2026-11-29 A. B.: area ignored\n".as_bytes());

    let (whole, masked) = (folder.path("whole"), folder.path("masked"));
    enroll(&good, &whole, &[]).exits(0);
    let area = "0.45,0.28 0.75,0.28 0.75,0.62 0.45,0.62";
    enroll(&good, &masked, &["--ignore", area, "--history", notes.to_str().unwrap()]).exits(0);
    for picture in [&dented, &turned] {
        weakrest!("inspect", whole, picture).exits(1);
    }
    weakrest!("inspect", masked, dented).exits(0);
    weakrest!("inspect", masked, turned).exits(1);
    let shown = weakrest!("package", "show", masked).exits(0);
    shown.prints(&[
        "ignored         an area",
        "history         2026-11-28 line: 8",
        "                2026-11-29 A. B.: area",
    ]);

    for (area, why) in [
        ("0,0 1,1", "must be 3 or more corners"),
        ("0,0 1,1 x,2", "must be 3 or more corners"),
        ("0,0 1.5,0 0,1", "in shares of width and height, 0 to 1"),
        ("-0.1,0 1,0 0,1", "in shares of width and height, 0 to 1"),
        ("nan,0 1,0 0,1", "in shares of width and height, 0 to 1"),
    ] {
        enroll(&good, &folder.path("bad"), &["--ignore", area]).exits(2).says(&[why]);
    }
    enroll(&good, &folder.path("bad"), &["--history", "missing.txt"]).exits(3).says(&["missing.txt"]);
    assert!(!folder.path("bad").exists());
}

#[test]
fn what_is_wrong_with_the_parts_is_told() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 4);
    let package = folder.path("p");
    let by = |images: &Path, how: &str| enroll(images, &package, &["--group-by", how]);
    by(&good, "(*)_*").exits(2).says(&["00.png", "does not fit the pattern \"(*)_*\""]);
    by(&good, "0(*)*").exits(2).says(&["all pictures show the same part", "at least 2 parts"]);
    by(&good, "folder").exits(2).says(&["00.png", "lies beside the folders of the parts"]);
    by(&folder.folder("empty"), "folder").exits(2).says(&["there are no pictures"]);
}

/// The built-in network as two files and a license, with a changed manifest.
fn network(folder: &Folder, change: impl Fn(String) -> String) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for (from, to) in [
        ("efficientnet-lite1.onnx", "nets/net.onnx"),
        ("LICENSE-efficientnet-lite", "nets/LICENSE-efficientnet-lite"),
    ] {
        folder.file(to, &std::fs::read(models.join(from)).unwrap());
    }
    let manifest = std::fs::read_to_string(models.join("efficientnet-lite1.toml")).unwrap();
    folder.file("nets/net.toml", change(manifest).as_bytes());
}

#[test]
fn another_network_can_be_enrolled_with() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 4);
    network(&folder, |manifest| manifest.replace("name = \"efficientnet-lite1\"", "name = \"mine\""));
    for (name, file) in [("by-network", "nets/net.onnx"), ("by-manifest", "nets/net.toml")] {
        let package = folder.path(name);
        enroll(&good, &package, &["--backbone", folder.path(file).to_str().unwrap()]).exits(0);
        weakrest!("package", "show", package).exits(0).prints(&["backbone        mine ("]);
    }
}

/// Its grid has cells of 14 pixels, which divide few sides of pictures: see `tests/data/vit/make.py`.
#[test]
fn a_vision_transformer_can_be_enrolled_with() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 8);
    let (clean, dent) =
        (folder.picture("clean.png", &part(60)), folder.picture("dent.png", &dented_part(50)));
    let network = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vit/vit.toml");
    for size in ["112", "96"] {
        let package = folder.path(size);
        weakrest!("enroll", "--images", &good, "--output", &package, "--backbone", &network, "--size", size)
            .exits(0);
        let shown = format!("longest side    {size} pixels, grid of 14-pixel blocks");
        weakrest!("package", "show", &package)
            .exits(0)
            .prints(&["backbone        vit (strides 14, 14", &shown]);
        weakrest!("check", &package).exits(0).prints(&["network        vit runs on cpu"]);
        // Random weights see little, but a defect more than none.
        let score = |picture: &Path| {
            weakrest!("inspect", &package, picture, "--json").json()["score"].as_f64().unwrap()
        };
        assert!(score(&dent) > 1.5 * score(&clean), "{} {}", score(&dent), score(&clean));
    }
}

#[test]
fn what_is_wrong_with_a_network_is_told() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 2);
    let path = folder.path("nets/net.onnx");
    let refused = |says: &[&str]| {
        enroll(&good, &folder.path("p"), &["--backbone", path.to_str().unwrap()]).exits(3).says(says);
        assert!(!folder.path("p").exists());
    };
    refused(&["there is no ", "nets/net.onnx; a network is two files", "nets/net.toml"]);
    network(&folder, |manifest| manifest);
    std::fs::remove_file(folder.path("nets/net.toml")).unwrap();
    refused(&["there is no ", "nets/net.toml; a network is two files"]);

    let cases: [(&str, &str, &[&str]); 9] = [
        ("sha256 = \"", "sha256 = \"0", &["net.toml: ", "its SHA-256 differs"]),
        ("channels = 176", "channels = 170", &["efficientnet-lite1: ", "its manifest does not fit it"]),
        (
            "\nstride = 8\nmultiple",
            "\nstride = 4\nmultiple",
            &["efficientnet-lite1: ", "its manifest does not fit it"],
        ),
        ("multiple = 16", "multiple = 0", &["net.toml: ", "must be a multiple of"]),
        ("std = [0.2", "std = [0.0, 0.5, 0.5]\nnot = [0.2", &["net.toml: ", "unknown field `not`"]),
        ("std = [0.2", "std = [-0.2", &["net.toml: ", "standard deviation positive"]),
        ("format = 3", "format = 2", &["net.toml: ", "the manifest has format 2, and this program reads 3"]),
        (
            "LICENSE-efficientnet-lite",
            "missing",
            &["net.toml: ", "license_file is \"missing\"; there is no such file"],
        ),
        (
            "LICENSE-efficientnet-lite",
            "../good/00.png",
            &["net.toml: ", "there is no such file beside the network"],
        ),
    ];
    for (from, to, says) in cases {
        network(&folder, |manifest| {
            let changed = manifest.replacen(from, to, 1);
            assert_ne!(changed, manifest, "{from}");
            changed
        });
        refused(says);
    }

    for (onnx, says) in [
        (external_data(), "keeps its weights in another file; save it as a single ONNX file"),
        (vector_network(), "the network must have one input of 32-bit floats [N, 3, height, width], but has"),
        (b"not a network".to_vec(), "not an ONNX file, or a damaged one"),
        (Vec::new(), "not an ONNX file, or a damaged one"),
    ] {
        network(&folder, |manifest| {
            let line = manifest.lines().find(|l| l.starts_with("sha256")).unwrap();
            manifest.replace(line, &format!("sha256 = \"{}\"", sha256(&onnx)))
        });
        folder.file("nets/net.onnx", &onnx);
        refused(&["efficientnet-lite1: ", says]);
    }
}

#[test]
fn nothing_is_left_behind_when_a_file_cannot_be_written() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 3);
    folder.package("old");
    let before = folder.contents();
    // Larger files cannot be written: one that is full, as far as the program can tell. Without the trap the system
    // would end the program instead of refusing the write.
    let limited = "trap '' XFSZ; ulimit -f 2000; exec \"$@\"";
    for (output, more) in [("new", None), ("old", Some("--overwrite"))] {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            limited,
            "sh",
            PROGRAM,
            "enroll",
            "--quality",
            "fast",
            "--size",
            "64",
            "--images",
        ]);
        command.arg(&good).arg("--output").arg(folder.path(output)).args(more);
        Ran::of(&mut command).exits(3).says(&["error: cannot write ", output]);
        assert_eq!(folder.contents(), before, "{output}");
    }
}

#[test]
fn nothing_is_left_behind_when_the_disk_is_full() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 3);
    let (package, disk) = (folder.package("old"), folder.folder("disk"));
    // A disk of its own, seen by nobody else, with room for one package and no second one.
    let script = r#"
        program=$1 good=$2 package=$3 disk=$4
        mount -t tmpfs -o size=6m none "$disk" || exit 77
        cp -r "$package" "$disk/old"
        sums() { find "$disk" | sort; find "$disk" -type f -exec sha256sum {} + | sort; }
        before=$(sums)
        for arguments in "--output $disk/old --overwrite" "--output $disk/new"; do
            "$program" enroll --size 64 --images "$good" $arguments
            echo "exit code $?"
            [ "$(sums)" = "$before" ] && echo unchanged || sums
        done
    "#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", PROGRAM]);
    let ran = command.args([&good, &package, &disk]).stdin(Stdio::null()).output().map(Ran::from);
    match ran {
        Ok(ran) if ran.code == Some(0) => {
            assert_eq!(ran.out, "exit code 3\nunchanged\nexit code 3\nunchanged\n", "{ran}");
            ran.says(&["disk/old: the disk is full; free some space and try again: No space left on device"]);
        }
        _ => skip("a small disk cannot be mounted here"),
    }
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 40);
    folder.package("old");
    let before = folder.contents();
    for (output, more) in [("new", None), ("old", Some("--overwrite"))] {
        // Large enough to take many times as long as it is let run.
        let mut command = Command::new(PROGRAM);
        command
            .args(["enroll", "--quality", "fast", "--size", "1024", "--threads", "1", "--images"])
            .arg(&good);
        command.arg("--output").arg(folder.path(output)).args(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(700));
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be interrupted");
        // Not SIGINT: what a shell starts in the background ignores it, and so would this test's child.
        let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        use std::os::unix::process::ExitStatusExt;
        let ended = child.wait_with_output().unwrap();
        const SIGTERM: i32 = 15;
        assert_eq!(ended.status.signal(), Some(SIGTERM));
        assert_eq!(folder.contents(), before, "{output}");
    }
}

/// A program that opens a file takes the writer's lease, and waits until it gives it back: as from a share on a network
/// that no longer answers.
#[test]
fn a_picture_that_cannot_be_opened_does_not_keep_the_program_from_ending() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 3);
    let script = "$SIG{IO} = 'IGNORE'; open(F, '+<', $ARGV[0]) or die; fcntl(F, 1024, 1) or die; $| = 1; print 'held'; sleep 60";
    let mut holder = Command::new("perl");
    holder.args(["-e", script]).arg(good.join("01.png")).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut holder) = holder.spawn() else { return skip("there is no perl") };
    let mut held = [0; 4];
    use std::io::Read;
    if holder.stdout.take().unwrap().read_exact(&mut held).is_err() {
        let _ = holder.wait();
        return skip("this file system has no leases");
    }
    let mut enroll = Command::new(PROGRAM);
    enroll.args(["enroll", "--quality", "fast", "--images"]).arg(&good).arg("--output").arg(folder.path("p"));
    let mut inspect = Command::new(PROGRAM);
    inspect.arg("inspect").arg(ready_package()).arg(good.join("01.png"));
    for command in [&mut enroll, &mut inspect] {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        assert!(child.try_wait().unwrap().is_none(), "it does not wait for the file");
        let start = std::time::Instant::now();
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().unwrap().signal(), Some(15));
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(!folder.path("p").exists());
}

/// Opening one would wait until somebody writes into it.
#[test]
fn a_pipe_is_no_picture() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 3);
    let pipe = good.join("pipe.png");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    enroll(&good, &folder.path("p"), &[])
        .exits(3)
        .says(&["good/pipe.png: not a file, but a folder, a pipe or"]);
    enroll(&good, &folder.path("p"), &["--skip-bad"]).exits(0).says(&["left out", "pipe.png: not a file"]);
    weakrest!("inspect", ready_package(), pipe).exits(3).prints(&["fault ", "pipe.png: not a file"]);
}

#[test]
fn progress_is_shown_on_terminals_only() {
    // That no other test of the command line sees any is checked where they run it.
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 12);
    let quoted = |path: &Path| format!("'{}'", path.display());
    let (images, package) = (quoted(&good), quoted(&folder.path("p")));
    let line =
        format!("{} enroll --images {images} --output {package} > /dev/null", quoted(Path::new(PROGRAM)));
    let shown = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output();
    match shown {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            // What takes less than the twentieth of a second between two pictures of the bar is not seen.
            assert!(text.contains("reading pictures") && text.contains("12"), "{text:?}");
            assert!(folder.path("p").exists());
        }
        _ => skip("there is no `script` that plays a terminal"),
    }
}

#[test]
fn pictures_that_set_no_threshold_that_can_judge_are_refused() {
    let folder = Folder::new();
    let mut random = Random(5);
    // Noise at every contrast: a painted chessboard is nothing special.
    for i in 0..4u32 {
        let noise = image::GrayImage::from_fn(96, 80, |x, y| {
            let cell = (x / (1 + 3 * i) + y / (1 + 3 * i)) % 2 * 255;
            image::Luma([if i == 3 { (random.next() % 256) as u8 } else { cell as u8 }])
        });
        folder.picture(format!("good/{i}.png"), &DynamicImage::ImageLuma8(noise));
    }
    let package = folder.path("p");
    enroll(&folder.path("good"), &package, &[]).exits(3).says(&[
        "the threshold is ",
        "this passes defects",
        "the good pictures vary too much, or there are too few",
    ]);
    assert!(!package.exists());
    // Two of a kind are few, but do.
    let good = folder.good_parts("two", 0, 2);
    enroll(&good, &package, &[]).exits(0).prints(&["2 good images"]);
    let dented = folder.picture("dented.png", &dented_part(50));
    weakrest!("inspect", package, dented).exits(1);
}
