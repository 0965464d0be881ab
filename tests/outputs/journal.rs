//! The journal.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use weakrest::ErrorKind;
use weakrest::output::journal::{Journal, JournalSummary, Settings, check};
use weakrest::output::{Output, run_id};

use crate::common::*;

fn settings(path: &Path) -> Settings {
    Settings { path: path.to_path_buf(), ..Settings::default() }
}

fn journal(path: &Path) -> Journal {
    Journal::new(settings(path), "0123456789abcdef").unwrap()
}

fn text(path: &Path, sql: &str) -> String {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A record whose row takes some kilobytes.
fn large(part: u64) -> weakrest::record::Record {
    let mut record = reject(part);
    record.inspection_buffer.regions = vec![record.inspection_buffer.regions[0]; 2000];
    record
}

#[test]
fn rows_say_what_is_known_of_a_part() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/journal.sqlite");
    let mut journal = journal(&path);
    for record in [pass(1), reject(2), fault(3)] {
        journal.publish(&record).unwrap();
    }
    let mut strange = pass(4);
    strange.inspection_buffer.score = f32::NAN;
    journal.publish(&strange).unwrap();
    journal.tick(time_of(4), &status()).unwrap();
    // Others read while the journal is open.
    assert_eq!(check(&path).unwrap(), JournalSummary { parts: 4, runs: 1, repeated: 0, missing: 0 });

    let row = |part: u64| {
        let columns =
            "run, part, triggered, latency_ms, verdict, fault, reason, product, package, provider, score,
            threshold, features_ms, residuals_ms, classify_ms, regions";
        let array = text(&path, &format!("SELECT json_array({columns}) FROM parts WHERE part = {part}"));
        serde_json::from_str::<serde_json::Value>(&array).unwrap()
    };
    let package = "ab".repeat(32);
    let rejected = json!([
        "0123456789abcdef",
        2,
        1_772_600_769_089_u64,
        41.5,
        "reject",
        null,
        null,
        "bottle",
        package,
        "cpu",
        2.5,
        1.0,
        20.0,
        10.0,
        5.0,
        r#"[{"x":3,"y":4,"width":10,"height":8,"peak":3.5,"area":60}]"#
    ]);
    assert_eq!(row(2), rejected);
    let faulty = json!([
        "0123456789abcdef",
        3,
        1_772_600_770_089_u64,
        41.5,
        "fault",
        "camera",
        "no picture in time",
        "bottle",
        package,
        "cpu",
        null,
        1.0,
        null,
        null,
        null,
        "[]"
    ]);
    assert_eq!(row(3), faulty);
    assert!(row(4)[10].is_null(), "not a number is no score: {}", row(4));
    journal.finish().unwrap();

    let files: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(files.len(), 1, "a journal that was closed is one file");
}

#[test]
fn a_row_waits_no_longer_than_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let mut journal = journal(&path);
    journal.publish(&pass(1)).unwrap();
    sleep(Duration::from_millis(600));
    journal.publish(&pass(2)).unwrap();
    assert_eq!(check(&path).unwrap().parts, 2, "without any tick");
    for part in 3..300 {
        journal.publish(&pass(part)).unwrap();
    }
    assert!(check(&path).unwrap().parts >= 258, "a full batch does not wait at all");
}

#[test]
fn the_same_part_is_written_once_and_gaps_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let mut journal = journal(&path);
    for part in [1, 2, 2, 5] {
        journal.publish(&pass(part)).unwrap();
    }
    journal.finish().unwrap();
    let mut other = Journal::new(settings(&path), &run_id()).unwrap();
    other.publish(&pass(1)).unwrap();
    other.finish().unwrap();
    assert_eq!(check(&path).unwrap(), JournalSummary { parts: 4, runs: 2, repeated: 0, missing: 2 });
}

#[test]
fn old_rows_are_removed_and_the_file_shrinks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let keep = Settings { keep_days: 2, ..settings(&path) };
    let mut journal = Journal::new(keep, &run_id()).unwrap();
    let status = status();
    let days = |n: u64| Duration::from_secs(n * 86_400);
    for part in 1..=1500 {
        let mut record = large(part);
        record.triggered = time_of(0) + if part <= 1400 { days(0) } else { days(2) };
        journal.publish(&record).unwrap();
    }
    journal.tick(time_of(0) + days(2), &status).unwrap();
    assert_eq!(check(&path).unwrap().parts, 1500, "two days old is not too old");
    let before = fs::metadata(&path).unwrap().len();

    let now = time_of(0) + days(2) + Duration::from_secs(1);
    for _ in 0..20 {
        journal.tick(now, &status).unwrap();
    }
    assert_eq!(text(&path, "SELECT MIN(part) || '-' || MAX(part) FROM parts"), "1401-1500");
    journal.finish().unwrap();
    let after = fs::metadata(&path).unwrap().len();
    assert!(after < before / 4, "{before} bytes became {after}");
    assert_eq!(check(&path).unwrap().missing, 0, "removed rows are no gap");
}

#[test]
fn the_file_stays_below_its_size_and_recovers_from_being_full() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let small = Settings { max_megabytes: 16, ..settings(&path) };
    let mut journal = Journal::new(small, &run_id()).unwrap();
    let status = status();
    let size = || -> u64 {
        fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum()
    };

    // Nobody ticks, so nobody makes room.
    let mut part = 0;
    let error = loop {
        part += 1;
        assert!(part < 10_000, "never full");
        if let Err(e) = journal.publish(&large(part)) {
            break e;
        }
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}");
    assert!(error.chain().contains("journal.sqlite"), "{error:?}");
    journal.publish(&large(part + 1)).unwrap_err();

    for more in 2..3000 {
        if more % 80 == 2 {
            journal.tick(SystemTime::UNIX_EPOCH, &status).unwrap();
        }
        journal.publish(&large(part + more)).unwrap();
        assert!(size() <= 16 << 20, "{} bytes", size());
    }
    journal.finish().unwrap();
    let summary = check(&path).unwrap();
    assert_eq!((summary.missing, dropped(&status, "journal")), (0, 0), "nothing was lost while it was full");
    assert_eq!(text(&path, "SELECT '' || MAX(part) FROM parts"), (part + 2999).to_string());
}

#[test]
fn a_damaged_file_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let write = |parts: std::ops::Range<u64>| {
        let mut journal = journal(&path);
        for part in parts {
            journal.publish(&pass(part)).unwrap();
        }
        journal.finish().unwrap();
    };
    let aside = || {
        let names =
            fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.starts_with("journal.sqlite.damaged-")).count()
    };
    type Damage = (&'static str, fn(&mut Vec<u8>));
    let damages: [Damage; 4] = [
        ("no database at all", |bytes| {
            *bytes = b"not a database, but rather longer than the header of one".repeat(9)
        }),
        ("cut short", |bytes| bytes.truncate(bytes.len() / 2)),
        ("a page in the middle", |bytes| bytes[3 * 4096..4 * 4096].fill(0xA5)),
        ("the header", |bytes| bytes[..200].fill(0)),
    ];
    for (i, (what, damage)) in damages.into_iter().enumerate() {
        write(1..500);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        check(&path).unwrap_err();

        write(1..4);
        assert_eq!(check(&path).unwrap().parts, 3, "{what}");
        assert_eq!(aside(), i + 1, "{what}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn damage_while_running_and_a_removed_file_begin_a_new_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let mut journal = journal(&path);
    let status = status();
    journal.publish(&pass(1)).unwrap();
    journal.tick(time_of(1), &status).unwrap();

    fs::remove_file(&path).unwrap();
    journal.publish(&pass(2)).unwrap();
    journal.tick(time_of(2), &status).unwrap();
    assert_eq!(text(&path, "SELECT group_concat(part) FROM parts"), "2");
    journal.finish().unwrap();

    // Other people's files are left alone.
    fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    let error = journal.tick(time_of(3), &status).unwrap_err();
    assert!(error.chain().contains("is not a journal"), "{error:?}");
    assert_eq!(check(&path).unwrap_err().kind(), ErrorKind::Usage);

    fs::remove_file(&path).unwrap();
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE parts (n); PRAGMA user_version = 2")
        .unwrap();
    assert!(journal.tick(time_of(3), &status).unwrap_err().chain().contains("has version 2"));
    assert!(check(folder.path().join("none.sqlite")).unwrap_err().chain().contains("none.sqlite"));
}

#[test]
fn rows_wait_for_a_disk_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    // A file where the folder is to be cannot be written even by root.
    let blocked = folder.path().join("disk");
    fs::write(&blocked, "").unwrap();
    let path = blocked.join("journal.sqlite");
    let mut journal = journal(&path);
    let status = status();
    journal.publish(&pass(1)).unwrap();
    assert!(journal.tick(time_of(1), &status).unwrap_err().chain().contains("disk"));
    for part in 2..=10_010 {
        journal.publish(&pass(part)).unwrap_err();
    }
    journal.tick(time_of(1), &status).unwrap_err();
    assert_eq!(dropped(&status, "journal"), 10, "the backlog is bounded, and says so");

    fs::remove_file(&blocked).unwrap();
    sleep(Duration::from_millis(1100));
    journal.publish(&pass(10_011)).unwrap();
    journal.tick(time_of(1), &status).unwrap();
    assert_eq!(
        text(&path, "SELECT MIN(part) || '-' || MAX(part) || ' ' || COUNT(*) FROM parts"),
        "12-10011 10000"
    );
    assert_eq!(dropped(&status, "journal"), 11);
}

#[test]
fn a_disk_without_room_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mounted) = SmallDisk::mount(folder.path()) else { return };
    let path = folder.path().join("journal.sqlite");
    let mut journal = journal(&path);
    let status = status();
    let mut part = 0;
    let error = loop {
        part += 1;
        assert!(part < 10_000, "never full");
        if let Err(e) = journal.publish(&large(part)) {
            break e;
        }
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}");
    assert!(mounted.grow());
    sleep(Duration::from_millis(1100));
    journal.publish(&large(part + 1)).unwrap();
    journal.finish().unwrap();
    let summary = check(&path).unwrap();
    assert_eq!((summary.parts, summary.missing), (part + 1, 0));
    assert_eq!(dropped(&status, "journal"), 0);
    drop(mounted);
}

const VICTIM: &str = "WEAKREST_TEST_JOURNAL";

/// Not a test of its own, but the process that the next one kills.
#[test]
fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let mut journal = Journal::new(settings(Path::new(&path)), &run_id()).unwrap();
    let status = status();
    for part in 1.. {
        journal.publish(&reject(part)).unwrap();
        // As often as a commit may come, so that the kill meets one.
        if part % 3 == 0 {
            journal.tick(SystemTime::UNIX_EPOCH, &status).unwrap();
        }
    }
}

#[test]
fn two_hundred_kills_leave_it_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let begun = Instant::now();
    for kill in 0..200u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "journal::writes_until_it_is_killed", "--nocapture"])
            .env(VICTIM, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Spread evenly, but in no order.
        sleep(Duration::from_millis(15 + kill * 37 % 45));
        child.kill().unwrap();
        child.wait().unwrap();
        if kill % 20 == 0 && path.exists() {
            assert_eq!(check(&path).unwrap().repeated, 0);
        }
    }
    let summary = check(&path).unwrap();
    assert!(summary.runs > 100, "only {} of 200 wrote anything", summary.runs);
    assert_eq!((summary.repeated, summary.missing), (0, 0), "{summary:?}");
    let names = fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|n| n.contains("damaged")).count(), 0);
    eprintln!("{summary:?} after 200 kills in {:.1} s", begun.elapsed().as_secs_f32());
}

#[test]
fn settings_are_checked() {
    let parse = |text: &str| toml::from_str::<Settings>(text);
    let full = parse("path = '/a/b'\nkeep_days = 7\nmax_megabytes = 100").unwrap();
    assert_eq!(full, Settings { path: "/a/b".into(), keep_days: 7, max_megabytes: 100 });
    full.validate().unwrap();
    assert!(parse("path = '/a'\nsize = 3").unwrap_err().to_string().contains("size"));
    for (wrong, key) in [
        ("", "path"),
        ("path = 'a'\nkeep_days = 0", "keep_days"),
        ("path = 'a'\nmax_megabytes = 15", "max_megabytes"),
    ] {
        let error = parse(wrong).unwrap().validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.chain().starts_with(key), "{error:?}");
    }
}
