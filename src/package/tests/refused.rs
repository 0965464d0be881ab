//! Packages that must not be opened.

use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

use image::ImageEncoder;

use super::support::{Copy, contents, pictures, sha256};
use crate::error::Hint;
use crate::package::FORMAT;
use crate::{ErrorKind, Frame, Package, Verdict};

#[test]
fn an_intact_package_opens_and_passes_what_it_was_made_of() {
    let copy = Copy::new();
    let package = copy.opened().unwrap();
    assert_eq!(package.hash, sha256(&copy.get("package.toml")));
    assert_eq!(package.manifest.format, FORMAT);
    assert_eq!((package.manifest.product.as_str(), package.manifest.images), ("stripes", 8));
    let listed: u64 = package.manifest.files.values().map(|f| f.bytes).sum();
    assert_eq!(package.size(), listed);
    let mut inspector = copy.inspector().unwrap();
    for picture in pictures() {
        let inspection = inspector.inspect(&Frame::open(&picture).unwrap()).unwrap();
        assert_eq!(inspection.verdict, Verdict::Pass, "{}", inspection.score);
    }
}

#[test]
fn a_changed_byte_is_noticed_in_every_file() {
    let copy = Copy::new();
    for (name, whole) in contents(&copy.path()) {
        let last = whole.len() - 1;
        for at in [0, 1, last / 3, last / 2, last - 1, last] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            copy.put(&name, &bytes);
            let error = copy.refusal();
            assert_eq!(error.kind(), ErrorKind::Package, "{name} at {at}: {error}");
            assert!(error.to_string().contains("stripes.weakrest"), "{error}");
            if name != "package.sha256" {
                assert!(error.to_string().contains(&name), "{name}: {error}");
            }
        }
        for bytes in [&whole[..last], &[whole.as_slice(), b" "].concat(), b""] {
            copy.put(&name, bytes);
            assert_eq!(copy.refusal().kind(), ErrorKind::Package, "{name} of {} bytes", bytes.len());
        }
        copy.put(&name, &whole);
    }
    assert!(copy.opened().is_ok());
}

#[test]
fn a_missing_file_is_named() {
    let copy = Copy::new();
    for (name, bytes) in contents(&copy.path()) {
        fs::remove_file(copy.file(&name)).unwrap();
        let error = copy.refusal();
        assert_eq!(error.kind(), ErrorKind::Package);
        assert!(error.to_string().contains(&format!("{name} is missing")), "{error}");
        copy.put(&name, &bytes);
    }
    assert!(copy.opened().is_ok());
}

#[test]
fn files_must_be_listed() {
    let copy = Copy::new();
    let manifest = copy.manifest();
    for name in ["backbone.onnx", "backbone-license.txt", "bank-1.safetensors", "golden/painted.png"] {
        copy.edit(|m| drop(m["files"].as_table_mut().unwrap().remove(name)));
        let error = copy.refusal();
        assert_eq!(error.kind(), ErrorKind::Package);
        assert!(error.to_string().contains(&format!("does not list {name}")), "{error}");
        copy.put_manifest(&manifest);
    }
}

#[test]
fn an_unknown_format_is_told_before_anything_else() {
    let copy = Copy::new();
    let text = copy.manifest();
    let line = format!("format = {FORMAT}\n");
    assert!(text.starts_with(&line));
    for version in ["0", "2", "4294967295"] {
        // Whatever else a later format has, and however it is hashed.
        copy.put(
            "package.toml",
            text.replacen(&line, &format!("format = {version}\nlater = \"key\"\n"), 1).as_bytes(),
        );
        let error = copy.refusal();
        assert_eq!(error.kind(), ErrorKind::Package);
        assert!(error.to_string().contains(&format!("has format {version}")), "{error}");
    }
    for no_version in ["", "format = \"one\"\n", "format = -1\n"] {
        copy.put_manifest(&text.replacen(&line, no_version, 1));
        assert_eq!(copy.refusal().kind(), ErrorKind::Package);
    }
    for no_toml in [b"".as_slice(), b"format", b"\xff\xfe\0", b"{\"format\": 1}"] {
        copy.put("package.toml", no_toml);
        assert_eq!(copy.refusal().kind(), ErrorKind::Package);
    }
}

#[test]
fn paths_that_leave_the_package_are_refused() {
    let secret = b"not the package's";
    for (name, place) in [
        ("../x", "x"),
        ("golden/../../x", "x"),
        ("golden/../painted.png", "stripes.weakrest/painted.png"),
        ("./x", "stripes.weakrest/x"),
        ("", "x"),
        (".", "x"),
        ("/", "x"),
    ] {
        let copy = Copy::new();
        fs::write(copy.outside(place), secret).unwrap();
        copy.edit(|m| list(m, name, secret));
        let error = copy.refusal();
        assert_eq!(error.kind(), ErrorKind::Package, "{name}: {error}");
        assert!(error.to_string().contains("not a file inside the package"), "{name}: {error}");
    }
    let copy = Copy::new();
    let absolute = copy.outside("x");
    fs::write(&absolute, secret).unwrap();
    copy.edit(|m| list(m, absolute.to_str().unwrap(), secret));
    assert!(copy.refusal().to_string().contains("not a file inside the package"));
}

/// Adds a file to a manifest.
fn list(manifest: &mut toml::Table, name: &str, bytes: &[u8]) {
    let mut info = toml::Table::new();
    info.insert("sha256".into(), sha256(bytes).into());
    info.insert("bytes".into(), (bytes.len() as i64).into());
    manifest["files"].as_table_mut().unwrap().insert(name.into(), info.into());
}

#[test]
fn links_inside_a_package_are_refused_even_when_what_they_show_is_right() {
    for name in [
        "package.toml",
        "package.sha256",
        "bank-1.safetensors",
        "backbone.onnx",
        "golden",
        "golden/painted.png",
    ] {
        let copy = Copy::new();
        let elsewhere = copy.outside("elsewhere");
        fs::rename(copy.file(name), &elsewhere).unwrap();
        symlink(&elsewhere, copy.file(name)).unwrap();
        let error = copy.refusal();
        assert_eq!(error.kind(), ErrorKind::Package);
        assert!(error.to_string().contains("symbolic link"), "{name}: {error}");
    }
}

/// How a device may switch between packages.
#[test]
fn a_link_to_a_package_is_followed() {
    let copy = Copy::new();
    let link = copy.outside("current");
    symlink(copy.path(), &link).unwrap();
    assert!(Package::open(&link).is_ok());
}

#[test]
fn what_is_no_file_is_refused() {
    for name in ["package.toml", "package.sha256", "bank-1.safetensors", "golden/painted.png"] {
        let copy = Copy::new();
        fs::remove_file(copy.file(name)).unwrap();
        fs::create_dir(copy.file(name)).unwrap();
        assert_eq!(copy.refusal().kind(), ErrorKind::Package, "a folder {name}");

        fs::remove_dir(copy.file(name)).unwrap();
        assert!(Command::new("mkfifo").arg(copy.file(name)).status().unwrap().success());
        let path = copy.path();
        let (tell, told) = mpsc::channel();
        // Reading a pipe that nobody writes to never ends.
        thread::spawn(move || tell.send(Package::open(path).err().map(|e| e.kind())));
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(Some(ErrorKind::Package)), "a pipe {name}");
    }
}

#[test]
fn only_a_folder_is_a_package() {
    let copy = Copy::new();
    for (path, what) in [
        ("missing", "there is no such package"),
        ("file", "not a file"),
        ("empty", "package.toml is missing"),
    ] {
        let path = copy.outside(path);
        match what {
            "not a file" => fs::write(&path, "x").unwrap(),
            "package.toml is missing" => fs::create_dir(&path).unwrap(),
            _ => {}
        }
        let error = Package::open(&path).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Package);
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn a_manifest_edited_by_hand_is_refused_with_advice() {
    let copy = Copy::new();
    let text = copy.manifest().replace("product = \"stripes\"", "product = \"strips\"");
    assert_ne!(text, copy.manifest());
    copy.put("package.toml", text.as_bytes());
    let error = copy.refusal();
    assert_eq!(error.kind(), ErrorKind::Package);
    assert_eq!(error.hints(), [Hint::Changed], "{error}");
}

#[test]
fn the_manifests_hash_must_be_exactly_that() {
    let copy = Copy::new();
    let hash = sha256(copy.manifest().as_bytes());
    for recorded in [
        String::new(),
        "\n".into(),
        hash[..63].to_owned(),
        format!("x{hash}  package.toml\n"),
        format!("{hash}0  package.toml\n"),
        format!("{hash}  other.toml\n"),
        format!("{}  package.toml\n", sha256(b"")),
    ] {
        copy.put("package.sha256", recorded.as_bytes());
        assert_eq!(copy.refusal().kind(), ErrorKind::Package, "{recorded:?}");
    }
    copy.put("package.sha256", format!("{hash}  package.toml\n").as_bytes());
    assert!(copy.opened().is_ok());
    let checked = Command::new("sha256sum")
        .args(["--check", "--quiet", "package.sha256"])
        .current_dir(copy.path())
        .status();
    assert!(checked.unwrap().success());
}

#[test]
fn unknown_keys_are_refused_in_every_table() {
    let copy = Copy::new();
    let text = copy.manifest();
    let mut tables = 0;
    for (at, _) in text.match_indices("\n[") {
        let end = at + 1 + text[at + 1..].find('\n').unwrap() + 1;
        // What follows a table's header is in that table.
        let (before, after) = text.split_at(end);
        if before.trim_end().ends_with("[files]") {
            continue;
        }
        tables += 1;
        copy.put_manifest(&format!("{before}surprise = 1\n{after}"));
        let error = copy.refusal();
        assert_eq!(error.kind(), ErrorKind::Package, "{before}");
        assert!(error.chain().contains("surprise"), "{}", error.chain());
    }
    assert!(tables >= 8, "{text}");
    copy.put_manifest(&format!("surprise = 1\n{text}"));
    assert!(copy.refusal().chain().contains("surprise"));
}

/// The first of a table's scales.
fn first(table: &mut toml::Table) -> &mut toml::Table {
    table["scales"].as_array_mut().unwrap()[0].as_table_mut().unwrap()
}

#[test]
fn values_that_cannot_be_are_refused() {
    type Change = fn(&mut toml::Table);
    let changes: [(&str, Change); 24] = [
        ("a threshold of NaN", |m| set(m, "threshold", "value", f64::NAN)),
        ("an infinite threshold", |m| set(m, "threshold", "value", f64::INFINITY)),
        ("a threshold beyond single precision", |m| set(m, "threshold", "value", 1e300)),
        ("a rate of NaN", |m| set(m, "threshold", "false_reject_rate", f64::NAN)),
        ("a rate of more than everything", |m| set(m, "threshold", "promised_rate", 1.5)),
        ("scores of NaN", |m| set(m, "threshold", "scores", vec![1.0, f64::NAN, 2.0])),
        ("a sigma of NaN", |m| set(m, "map", "sigma", f64::NAN)),
        ("a window of nothing", |m| set(m, "map", "window", 0)),
        ("no images to search", |m| set(m, "posfar", "images", 0)),
        ("a coreset of nothing", |m| set(m, "posfar", "coreset_share", 0.0)),
        ("no stride", |m| set(m, "backbone", "stride", 0)),
        ("a huge side", |m| set(m, "scaling", "longest_side", 1_000_000)),
        ("a negative side", |m| set(m, "scaling", "longest_side", -64)),
        ("another color", |m| set(m, "input", "color", "infrared")),
        ("no size", |m| set(m, "input", "size", "0x5")),
        ("text for a number", |m| set(m, "map", "window", "2")),
        ("a golden score of NaN", |m| {
            m["golden"].as_array_mut().unwrap()[0]
                .as_table_mut()
                .unwrap()
                .insert("score".into(), f64::NAN.into());
        }),
        ("other channels", |m| {
            first(m["backbone"].as_table_mut().unwrap()).insert("channels".into(), 175.into());
        }),
        ("channels of nothing", |m| {
            first(m["backbone"].as_table_mut().unwrap()).insert("channels".into(), 0.into());
        }),
        ("no scale in the backbone", |m| set(m, "backbone", "scales", toml::Value::Array(Vec::new()))),
        ("no scale", |m| m["scales"].as_array_mut().unwrap().clear()),
        ("more scales than the backbone has", |m| {
            let scales = m["scales"].as_array_mut().unwrap();
            scales.push(scales[0].clone());
        }),
        ("residuals of no size", |m| {
            first(m).insert("residual_scale".into(), 0.0.into());
        }),
        ("a median of infinity", |m| {
            first(m).insert("median".into(), f64::INFINITY.into());
        }),
    ];
    for (what, change) in changes {
        let copy = Copy::new();
        copy.edit(change);
        let error = copy.opened().err().expect(what);
        assert_eq!(error.kind(), ErrorKind::Package, "{what}: {}", error.chain());
    }
}

fn set(manifest: &mut toml::Table, table: &str, key: &str, value: impl Into<toml::Value>) {
    let table = manifest[table].as_table_mut().unwrap();
    assert!(table.insert(key.into(), value.into()).is_some(), "{key} is a key");
}

#[test]
fn a_golden_image_that_gets_another_score_stops_the_inspector() {
    let copy = Copy::new();
    let wrong = |score: f64| {
        let copy = Copy::new();
        copy.edit(|m| {
            let golden = m["golden"].as_array_mut().unwrap()[0].as_table_mut().unwrap();
            let old = golden["score"].as_float().unwrap();
            golden.insert("score".into(), (old + score).into());
        });
        copy
    };
    let threshold = f64::from(copy.opened().unwrap().manifest.threshold.value);
    // Within the tolerance for other processors, and outside it on either side.
    assert!(wrong(0.01 * threshold).inspector().is_ok());
    for off in [0.2, -0.2] {
        let error = wrong(off * threshold).inspector().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Package);
        assert!(error.to_string().contains("golden image golden/ordinary.png scores"), "{error}");
    }
}

#[test]
fn another_golden_picture_stops_the_inspector() {
    let copy = Copy::new();
    let black = image::RgbImage::new(64, 43);
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(black.as_raw(), 64, 43, image::ExtendedColorType::Rgb8)
        .unwrap();
    copy.put_signed("golden/strangest.png", &bytes);
    assert_eq!(copy.inspector().err().unwrap().kind(), ErrorKind::Package);
    copy.put_signed("golden/strangest.png", b"no picture");
    let error = copy.refusal();
    assert_eq!(error.kind(), ErrorKind::Image);
    assert!(error.to_string().contains("golden/strangest.png"), "{error}");
}

#[test]
fn a_backbone_that_is_no_network_stops_the_inspector() {
    let copy = Copy::new();
    let network = copy.get("backbone.onnx");
    for bytes in [b"".as_slice(), b"no network", &network[..network.len() / 2]] {
        copy.put_signed("backbone.onnx", bytes);
        assert_eq!(copy.inspector().err().unwrap().kind(), ErrorKind::Model);
    }
}

/// Whatever a package says of itself, consistently: what would pass or reject everything is noticed by the
/// golden pictures.
#[test]
fn a_package_that_judges_nothing_stops_the_inspector() {
    type Change = fn(&mut toml::Table);
    let changes: [(&str, Change); 9] = [
        ("a threshold beyond all scores", |m| set(m, "threshold", "value", 3e38)),
        ("a threshold of nothing", |m| set(m, "threshold", "value", 0.0)),
        ("a threshold below nothing", |m| set(m, "threshold", "value", -3e38)),
        ("no golden pictures", |m| m["golden"].as_array_mut().unwrap().clear()),
        ("no ordinary golden picture", |m| drop(m["golden"].as_array_mut().unwrap().remove(0))),
        ("a window larger than any picture", |m| set(m, "map", "window", 4_000_000_000i64)),
        ("a map smoothed away", |m| set(m, "map", "sigma", 256.0)),
        ("position instead of looks", |m| {
            let soft = m["posfar"].as_table_mut().unwrap()["matching"].as_table_mut().unwrap();
            soft.insert("weight".into(), 1e30.into());
        }),
        ("another unit of brightness", |m| {
            let huge: Vec<toml::Value> = [1e30, 1e30, 1e30].map(toml::Value::from).into();
            m["backbone"].as_table_mut().unwrap().insert("std".into(), huge.into());
        }),
    ];
    for (what, change) in changes {
        let copy = Copy::new();
        copy.edit(change);
        let error = copy.inspector().err().expect(what);
        let kinds = [ErrorKind::Package, ErrorKind::NotFinite];
        assert!(kinds.contains(&error.kind()), "{what}: {}", error.chain());
    }
}

/// The bank with its tokens, or the scale of its features, changed.
#[test]
fn a_bank_that_knows_nothing_stops_the_inspector() {
    let copy = Copy::new();
    let bank = copy.get("bank-1.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&bank).unwrap();
    let alike = |name: &str, width: usize| {
        let data = tensors.tensor(name).unwrap().data().to_vec();
        data[..width].repeat(data.len() / width)
    };
    for (name, bytes) in [
        ("tokens", alike("tokens", 2 * 176)),
        ("tokens", vec![0; tensors.tensor("tokens").unwrap().data().len()]),
        ("feature_scale", 1e30f32.to_le_bytes().to_vec()),
        ("pca.components", vec![0; tensors.tensor("pca.components").unwrap().data().len()]),
    ] {
        let place = tensors.tensor(name).unwrap().data().as_ptr() as usize - bank.as_ptr() as usize;
        let mut changed = bank.clone();
        changed[place..place + bytes.len()].copy_from_slice(&bytes);
        copy.put_signed("bank-1.safetensors", &changed);
        let error = copy.inspector().err().unwrap_or_else(|| panic!("{name} makes no difference"));
        assert!(
            matches!(error.kind(), ErrorKind::Package | ErrorKind::NotFinite),
            "{name}: {}",
            error.chain()
        );
    }
}

#[test]
fn a_threshold_of_the_device_must_tell_the_golden_pictures_apart() {
    use crate::Inspector;
    use crate::inspector::Options;
    let package = || Copy::new().opened().unwrap();
    let with = |threshold| Options { threshold: Some(threshold), ..Options::default() };
    for threshold in [f32::MAX, 3e38, 0.0, -1.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE] {
        let error = Inspector::with_options(package(), &with(threshold)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage, "{threshold}: {error}");
        assert!(error.to_string().contains("the threshold"), "{error}");
    }
    let scores: Vec<f32> = package().golden.iter().map(|golden| golden.info.score).collect();
    let between = (scores[0] + scores[2]) / 2.0;
    assert_eq!(Inspector::with_options(package(), &with(between)).unwrap().threshold(), between);
}
