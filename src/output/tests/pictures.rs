//! The folder of pictures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::output::pictures::{Originals, Pictures, Settings};
use crate::output::{Labeling, Output};
use crate::record::Record;
use crate::{Color, ErrorKind, Frame};

use super::common::*;

const RUN: &str = "0123456789abcdef";

fn settings(folder: &Path) -> Settings {
    Settings { folder: folder.to_path_buf(), min_free_megabytes: 0, ..Settings::default() }
}

fn pictures(settings: Settings) -> Pictures {
    Pictures::new(settings, RUN).unwrap()
}

/// Every file below a folder, relative to it, in order, but for the list of runs.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(folder.join(&at)).unwrap() {
            let entry = entry.unwrap();
            let path = at.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if entry.file_name() != "runs.txt" {
                found.push(path.to_str().unwrap().to_string());
            }
        }
    }
    found.sort();
    found
}

/// A reject whose files take some 200 KiB: noise cannot be compressed.
fn large(part: u64) -> Record {
    let mut seed = part as u32;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    });
    Record {
        frame_buffer: Frame::new(400, 300, Color::Gray, noise.take(120_000).collect()).unwrap(),
        ..reject(part)
    }
}

fn bytes(folder: &Path) -> u64 {
    files(folder).iter().map(|f| fs::metadata(folder.join(f)).unwrap().len()).sum()
}

/// Part numbers in the names, in order.
fn parts(folder: &Path) -> Vec<u64> {
    let names = files(folder);
    let jsons = names.iter().filter(|n| n.ends_with(".json"));
    jsons.map(|n| n.split('-').nth(3).unwrap().parse().unwrap()).collect()
}

#[test]
fn each_kept_part_has_its_files_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut output = pictures(settings(folder.path()));
    for record in [pass(1), reject(2), fault(3)] {
        output.publish(&record).unwrap();
    }
    let mut unjudged = fault(86_400);
    unjudged.has_frame = true;
    output.publish(&unjudged).unwrap();
    assert_eq!(
        files(folder.path()),
        [
            "20260304/20260304-050609.089-0123456789abcdef-000002-reject.json",
            "20260304/20260304-050609.089-0123456789abcdef-000002-reject.overlay.jpg",
            "20260304/20260304-050609.089-0123456789abcdef-000002-reject.png",
            "20260304/20260304-050610.089-0123456789abcdef-000003-fault.json",
            "20260305/20260305-050607.089-0123456789abcdef-086400-fault.json",
            "20260305/20260305-050607.089-0123456789abcdef-086400-fault.png",
        ]
    );
    let file = |suffix: &str| {
        folder.path().join(format!("20260304/20260304-050609.089-0123456789abcdef-000002-reject{suffix}"))
    };
    assert_eq!(Frame::open(file(".png")).unwrap(), reject(2).frame_buffer, "the frame, to the pixel");
    let painted = Frame::open(file(".overlay.jpg")).unwrap();
    assert_eq!((painted.width(), painted.height(), painted.color()), (40, 30, Color::Rgb));
    let json: serde_json::Value = serde_json::from_slice(&fs::read(file(".json")).unwrap()).unwrap();
    let expected = serde_json::json!({
        "run": RUN, "part": 2, "triggered": "2026-03-04T05:06:09.089Z", "latency_ms": 41.5,
        "verdict": "reject", "fault": null, "reason": null,
        "product": "bottle", "package": "ab".repeat(32), "provider": "cpu", "threshold": 1.0, "recipe": 0,
        "score": 2.5, "features_ms": 20.0, "residuals_ms": 10.0, "classify_ms": 5.0,
        "regions": [{ "x": 3, "y": 4, "width": 10, "height": 8, "peak": 3.5, "area": 60 }],
    });
    assert_eq!(json, expected);
}

#[test]
fn every_nth_pass_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut output = pictures(Settings { passes: 3, ..settings(folder.path()) });
    for part in 1..=10 {
        output.publish(&pass(part)).unwrap();
    }
    assert_eq!(parts(folder.path()), [3, 6, 9]);
}

#[test]
fn the_oldest_give_way_also_those_of_earlier_runs() {
    let folder = tempfile::tempdir().unwrap();
    let small = Settings { max_megabytes: 1, ..settings(folder.path()) };
    for run in 0..3 {
        let mut output = pictures(small.clone());
        for part in 1..=20 {
            output.publish(&large(run * 20 + part)).unwrap();
            assert!(bytes(folder.path()) <= 1 << 20);
        }
        let kept = parts(folder.path());
        let newest: Vec<u64> = (0..=run * 20 + 20).rev().take(kept.len()).collect();
        assert_eq!(kept, newest.into_iter().rev().collect::<Vec<_>>(), "the newest, without gaps");
        assert!(kept.len() >= 3, "{kept:?}");
    }
    // Each kept part is complete.
    assert_eq!(files(folder.path()).len(), 3 * parts(folder.path()).len());
}

#[test]
fn the_newest_stay_whatever_the_clock_said() {
    let folder = tempfile::tempdir().unwrap();
    let small = Settings { max_megabytes: 1, ..settings(folder.path()) };
    // Today, without a battery, two years ahead, and today again.
    let clocks =
        [time_of(0), SystemTime::UNIX_EPOCH, time_of(0) + 800 * Duration::from_secs(86_400), time_of(9)];
    for (run, clock) in (0..).zip(clocks) {
        let mut output = Pictures::new(small.clone(), &crate::output::run_id()).unwrap();
        for part in 1..=2 {
            output.publish(&Record { triggered: clock, ..large(10 * run + part) }).unwrap();
        }
    }
    // Each takes some 200 KiB.
    let mut kept = parts(folder.path());
    kept.sort_unstable();
    let newest = [1, 2, 11, 12, 21, 22, 31, 32];
    assert!(kept.len() >= 3 && newest.ends_with(&kept), "{kept:?}");
}

#[test]
fn only_its_own_files_are_counted_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let day = folder.path().join("20250101");
    fs::create_dir_all(&day).unwrap();
    fs::create_dir(folder.path().join("good")).unwrap();
    let others = ["20250101/notes.txt", "good/000.png", "readme.json", "20250101/20250101-1-2-3-pass.png"];
    for name in others {
        fs::write(folder.path().join(name), vec![0; 3 << 20]).unwrap();
    }
    fs::write(day.join(".weakrest-Ab3dE6"), "cut off").unwrap();
    fs::write(day.join("20250101-000000.000-0-000001-pass.png"), vec![0; 1 << 20]).unwrap();
    let mut output = pictures(Settings { max_megabytes: 1, ..settings(folder.path()) });
    for part in 1..=10 {
        output.publish(&large(part)).unwrap();
    }
    let left = files(folder.path());
    for name in others {
        assert!(left.iter().any(|f| f == name), "{name} is gone");
    }
    assert!(!left.iter().any(|f| f.contains(".weakrest-") || f.contains("000001-pass")), "{left:?}");
}

#[test]
fn room_is_left_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut output = pictures(settings(folder.path()));
    for part in 1..=5 {
        output.publish(&reject(part)).unwrap();
    }
    // More than any disk has.
    let greedy = Settings { min_free_megabytes: 1 << 40, ..settings(folder.path()) };
    let mut output = pictures(greedy);
    let told = [output.tick(SystemTime::now(), &status()), output.publish(&reject(6))];
    for error in told.map(Result::unwrap_err) {
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(error.chain().contains("min_free_megabytes"), "{error:?}");
    }
    assert_eq!(parts(folder.path()), [1, 2, 3, 4, 5], "evidence does not give way to others");
    (7..150).for_each(|part| pictures(settings(folder.path())).publish(&reject(part)).unwrap());
    output.tick(SystemTime::now(), &status()).unwrap_err();
    assert_eq!(parts(folder.path()).len(), 148, "it does not look into the folder again");
    let mut output = pictures(Settings { min_free_megabytes: 1 << 40, ..settings(folder.path()) });
    output.tick(SystemTime::now(), &status()).unwrap_err();
    assert_eq!(parts(folder.path()), (50..150).collect::<Vec<_>>(), "but for the newest, the oldest do");
    fs::remove_dir_all(folder.path()).unwrap();

    let mut output = pictures(settings(folder.path()));
    output.publish(&reject(7)).unwrap();
    assert_eq!(parts(folder.path()), [7]);
    // Somebody tidied up while it runs.
    fs::remove_dir_all(folder.path()).unwrap();
    output.publish(&reject(8)).unwrap();
    assert_eq!(parts(folder.path()), [8]);
}

#[test]
fn a_full_disk_leaves_no_half_written_files() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mounted) = SmallDisk::mount(folder.path()) else { return };

    let fill = |name: &str| {
        let disk = rustix::fs::statvfs(folder.path()).unwrap();
        let bytes = (disk.f_bavail * disk.f_frsize) as usize - (16 << 10);
        fs::write(folder.path().join(name), vec![0; bytes]).unwrap();
    };
    let mut output = pictures(settings(folder.path()));
    output.publish(&large(1)).unwrap();
    fill("others");
    output.publish(&large(2)).unwrap();
    assert_eq!(parts(folder.path()), [2], "the oldest gave way");
    let mut larger = large(3);
    let pixels = larger.frame_buffer.pixels().repeat(4);
    larger.frame_buffer = Frame::new(400, 1200, Color::Gray, pixels).unwrap();
    assert_eq!(output.publish(&larger).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(parts(folder.path()), [2], "what does not fit in any case takes nothing's place");

    fs::remove_file(folder.path().join("others")).unwrap();
    output.publish(&large(4)).unwrap();
    assert_eq!(parts(folder.path()), [2, 4]);
    drop(mounted);
}

#[test]
fn a_write_that_fails_midway_is_undone() {
    let folder = tempfile::tempdir().unwrap();
    let mut output = pictures(settings(folder.path()));
    // The last of the three files has no place: a folder has its name.
    let stem = "20260304/20260304-050608.089-0123456789abcdef-000001-reject";
    let blocked = folder.path().join(format!("{stem}.json"));
    fs::create_dir_all(blocked.join("something")).unwrap();
    let error = output.publish(&reject(1)).unwrap_err();
    assert!(error.chain().contains("cannot write pictures"), "{error:?}");
    let left = files(folder.path());
    assert!(left.iter().all(|f| !f.ends_with(".weakrest")), "{left:?}");
    output.publish(&reject(2)).unwrap();
    fs::remove_dir_all(&blocked).unwrap();
    assert_eq!(parts(folder.path()), [2]);
    assert_eq!(files(folder.path()).len(), 3, "nothing is left of the first");
}

const VICTIM: &str = "WEAKREST_TEST_PICTURES";

/// Not a test of its own, but the process that the next one kills.
#[test]
fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(VICTIM) else { return };
    let mut output = Pictures::new(settings(Path::new(&folder)), &crate::output::run_id()).unwrap();
    for part in 1.. {
        output.publish(&large(part)).unwrap();
    }
}

#[test]
fn what_a_kill_leaves_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    for kill in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "output::tests::pictures::writes_until_it_is_killed", "--nocapture"])
            .env(VICTIM, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // On a busy machine it takes a while until it writes at all.
        let (before, begun) = (files(folder.path()).len(), std::time::Instant::now());
        while files(folder.path()).len() == before && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(kill * 7));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut output = pictures(settings(folder.path()));
    output.tick(SystemTime::now(), &status()).unwrap();
    let left = files(folder.path());
    assert!(parts(folder.path()).len() >= 10, "{left:?}");
    for name in &left {
        let path = folder.path().join(name);
        match name.rsplit_once('.').unwrap().1 {
            "json" => drop(serde_json::from_slice::<serde_json::Value>(&fs::read(&path).unwrap()).unwrap()),
            "png" | "jpg" => drop(Frame::open(&path).unwrap()),
            _ => panic!("{name} is nobody's"),
        }
        if let Some(stem) = name.strip_suffix(".json") {
            for suffix in [".png", ".overlay.jpg"] {
                assert!(left.contains(&format!("{stem}{suffix}")), "{name} lacks its {suffix}");
            }
        }
    }
}

#[test]
fn settings_are_checked() {
    let parse = |text: &str| toml::from_str::<Settings>(text);
    let full = "folder = '/a'\npasses = 50\nmax_megabytes = 100\nmin_free_megabytes = 7";
    let expected = Settings {
        folder: "/a".into(),
        passes: 50,
        max_megabytes: 100,
        min_free_megabytes: 7,
        label_folder: None,
    };
    assert_eq!(parse(full).unwrap(), expected);
    expected.validate().unwrap();
    assert!(parse("folder = '/a'\nsize = 3").unwrap_err().to_string().contains("size"));
    for (wrong, key) in [
        ("", "folder"),
        ("folder = 'a'\nmax_megabytes = 0", "max_megabytes"),
        ("folder = 'a'\nmin_free_megabytes = 9000000000000", "min_free_megabytes"),
    ] {
        let error = parse(wrong).unwrap().validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.chain().starts_with(&format!("pictures.{key}: ")), "{error:?}");
    }
}

#[test]
fn a_kept_reject_is_copied_to_be_labeled_once_and_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let (kept, label) = (folder.path().join("kept"), folder.path().join("to/label"));
    let settings = Settings { label_folder: Some(label.clone()), ..settings(&kept) };
    let originals = Originals::new(&settings, RUN).unwrap();
    let mut output = pictures(settings.clone());
    let record = reject(2);
    output.publish(&record).unwrap();

    let copied = originals.label(None, 2, record.triggered).unwrap();
    assert!(copied.copied && copied.file.starts_with(&label));
    let original = files(&kept).into_iter().find(|f| f.ends_with("-reject.png")).unwrap();
    assert_eq!(fs::read(&copied.file).unwrap(), fs::read(kept.join(original)).unwrap());
    fs::write(&copied.file, "somebody worked on it").unwrap();
    let again = originals.label(None, 2, record.triggered).unwrap();
    assert_eq!((again.copied, &again.file), (false, &copied.file));
    assert_eq!(fs::read(&copied.file).unwrap(), b"somebody worked on it");
    assert_eq!(files(&label).len(), 1);

    let error = originals.label(None, 3, record.triggered).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.chain().contains("not kept"), "{}", error.chain());
    assert!(Originals::new(&Settings { label_folder: None, ..settings }, RUN).is_none());
}

#[test]
fn the_folder_to_label_must_not_be_emptied_with_the_kept_pictures() {
    for bad in ["", "kept", "kept/label"] {
        let settings = Settings { label_folder: Some(bad.into()), ..settings(Path::new("kept")) };
        let error = settings.validate().unwrap_err();
        assert!(error.chain().starts_with("pictures.label_folder"), "{}", error.chain());
    }
}
