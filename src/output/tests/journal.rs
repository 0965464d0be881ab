//! The journal.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use crate::ErrorKind;
use crate::output::journal::{Journal, JournalSummary, Settings, check};
use crate::output::{Output, run_id};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use super::common::*;

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

/// Waits for the thread that writes.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < limit, "{what}");
        sleep(Duration::from_millis(20));
    }
}

fn has(path: &Path, parts: u64) -> bool {
    check(path).is_ok_and(|summary| summary.parts == parts)
}

/// A record whose row takes some kilobytes.
fn large(part: u64) -> crate::record::Record {
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
    until("the rows are written", || has(&path, 4));
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
    until("the file is there", || has(&path, 0));
    let begun = Instant::now();
    journal.publish(&pass(1)).unwrap();
    until("a row alone is written", || has(&path, 1));
    // Some more than half a second, on a machine with nothing else to do.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
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

const MINUTE: Duration = Duration::from_secs(60);
const DAYS: Duration = Duration::from_secs(86_400);

/// Rows of a run of their own, the time between two of them being `step`.
fn write_run(settings: &Settings, parts: std::ops::Range<u64>, from: SystemTime, step: Duration) {
    let mut journal = Journal::new(settings.clone(), &run_id()).unwrap();
    for part in parts.clone() {
        let mut record = large(part);
        record.triggered = from + step * (part - parts.start) as u32;
        journal.publish(&record).unwrap();
    }
    journal.finish().unwrap();
}

/// Opens it, so that what is too old is removed; gives which parts are left.
fn tidied(settings: &Settings) -> String {
    Journal::new(settings.clone(), &run_id()).unwrap().finish().unwrap();
    text(&settings.path, "SELECT MIN(part) || '-' || MAX(part) || ' ' || COUNT(*) FROM parts")
}

#[test]
fn old_rows_are_removed_and_the_file_shrinks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let keep = Settings { keep_days: 2, ..settings(&path) };
    write_run(&keep, 1..865, time_of(0), 5 * MINUTE);
    let before = fs::metadata(&path).unwrap().len();
    assert_eq!(tidied(&keep), "288-864 577", "two days old is not too old");
    let after = fs::metadata(&path).unwrap().len();
    assert!(after < before, "{before} bytes became {after}");
    assert_eq!(check(&path).unwrap().missing, 0, "removed rows are no gap");
    // A night counts, and so does a small step back.
    write_run(&keep, 900..901, time_of(0) + 864 * 5 * MINUTE + 4 * 60 * MINUTE, MINUTE);
    write_run(&keep, 901..902, time_of(0) + 864 * 5 * MINUTE + 3 * 60 * MINUTE, MINUTE);
    assert_eq!(tidied(&keep), "337-901 530");
}

#[test]
fn a_clock_that_jumps_removes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let keep = Settings { keep_days: 30, ..settings(&path) };
    let (today, unset) = (time_of(0), SystemTime::UNIX_EPOCH);
    let ahead = today + 400 * DAYS;
    // Ahead and back, twice with a restart between; without a battery; and away for longer than rows are
    // kept.
    let clocks =
        [today, ahead, ahead + MINUTE, today + MINUTE, unset, today, unset + MINUTE, today + 60 * DAYS];
    for (run, clock) in (0..).zip(clocks) {
        write_run(&keep, 100 * run + 1..100 * run + 101, clock, MINUTE);
        assert!(tidied(&keep).ends_with(&format!(" {}", 100 * (run + 1))), "after {run}: {}", tidied(&keep));
    }
    // Whatever the clock said then: what lies 30 days of the line's work back goes.
    write_run(&keep, 801..1600, today + 60 * DAYS, 60 * MINUTE);
    let left = tidied(&keep);
    assert_eq!(left, "879-1599 721", "{left}");
}

#[test]
fn a_clock_that_jumps_while_parts_come_removes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let mut journal = journal(&path);
    let status = status();
    for part in 1..=400 {
        let mut record = pass(part);
        record.triggered = match part {
            101..=200 => record.triggered + 400 * DAYS,
            301..=400 => SystemTime::UNIX_EPOCH + Duration::from_secs(part),
            _ => record.triggered,
        };
        journal.publish(&record).unwrap();
        journal.tick(record.triggered, &status).unwrap();
    }
    journal.finish().unwrap();
    assert_eq!(tidied(&settings(&path)), "1-400 400");
}

#[test]
fn the_file_stays_below_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let small = Settings { max_megabytes: 16, ..settings(&path) };
    let mut journal = Journal::new(small, &run_id()).unwrap();
    let status = status();
    let size = || -> u64 {
        let files = fs::read_dir(folder.path()).unwrap();
        files.filter_map(|f| f.unwrap().metadata().ok()).map(|m| m.len()).sum()
    };
    // More than fits, faster than there is a look at the size: it is full for moments, and nothing is lost by
    // that.
    for part in 1..=4000 {
        let _ = journal.publish(&large(part));
        if part % 400 == 0 {
            assert!(size() <= 16 << 20, "{} bytes", size());
        }
    }
    until("the last is written", || text(&path, "SELECT '' || COALESCE(MAX(part), 0) FROM parts") == "4000");
    assert!(size() <= 16 << 20, "{} bytes", size());
    journal.tick(time_of(0), &status).unwrap();
    journal.finish().unwrap();
    let summary = check(&path).unwrap();
    assert_eq!((summary.missing, dropped(&status, "journal")), (0, 0), "nothing was lost while it was full");
    assert!(summary.parts < 3000, "{summary:?}");
}

#[test]
fn a_disk_that_blocks_makes_nobody_wait_and_loses_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let mut journal = journal(&path);
    let status = status();
    journal.publish(&pass(1)).unwrap();
    until("the first is written", || has(&path, 1));
    // Another program holds the file for longer than SQLite waits.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let time = |journal: &mut Journal| {
        let begun = Instant::now();
        for part in 2..=9000 {
            let _ = journal.publish(&pass(part));
        }
        begun.elapsed()
    };
    let blocked = time(&mut journal);
    // What the same rows take on this machine now.
    let free = time(&mut self::journal(&folder.path().join("free.sqlite")));
    assert!(blocked < Duration::from_secs(1) + 3 * free, "8999 rows took {blocked:?}, not {free:?}");
    until("it is told", || journal.tick(time_of(1), &status).is_err_and(|e| e.chain().contains("locked")));
    other.execute_batch("ROLLBACK").unwrap();
    until("all are written", || has(&path, 9000));
    until("it is well again", || journal.tick(time_of(1), &status).is_ok());
    assert_eq!(dropped(&status, "journal"), 0);
}

/// A file system that answers nobody while it is frozen.
struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    fn new(at: &'a Path) -> Option<Self> {
        Command::new("fsfreeze").arg("-f").arg(at).status().is_ok_and(|s| s.success()).then_some(Frozen(at))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(self.0).status();
    }
}

#[test]
fn a_disk_that_answers_nobody_is_told_and_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (image, at) = (folder.path().join("image"), folder.path().join("disk"));
    fs::create_dir(&at).unwrap();
    fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    let ran = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    let mounted = ran(Command::new("mkfs.ext4").arg("-q").arg(&image))
        && ran(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at));
    if !mounted {
        return skip("no file system can be mounted (needs root)");
    }
    let path = at.join("journal.sqlite");
    let mut journal = journal(&path);
    let status = status();
    journal.publish(&pass(1)).unwrap();
    until("the first is written", || has(&path, 1));
    if let Some(frozen) = Frozen::new(&at) {
        for part in 2..=2000 {
            let begun = Instant::now();
            let _ = journal.publish(&pass(part));
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        }
        until("it is told", || {
            journal.tick(time_of(1), &status).is_err_and(|e| e.chain().contains("blocks"))
        });
        // Nor does the end wait for ever.
        let begun = Instant::now();
        let error = journal.finish().unwrap_err();
        assert!(error.chain().contains("parts are not in the journal"), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        drop(frozen);
        until("all are written, later", || has(&path, 2000));
        assert_eq!(dropped(&status, "journal"), 0);
    } else {
        skip("no file system can be frozen (needs root)");
    }
    drop(journal);
    let _ = Command::new("umount").arg("-l").arg(&at).status();
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

/// Every file that was set aside, by why.
fn aside(folder: &Path, why: &str) -> Vec<std::path::PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
    let mut found: Vec<_> =
        paths.filter(|p| p.to_str().unwrap().contains(&format!(".sqlite.{why}-"))).collect();
    found.sort();
    found
}

#[test]
fn a_flipped_bit_in_the_header_loses_no_row() {
    let whole = tempfile::tempdir().unwrap();
    let original = whole.path().join("journal.sqlite");
    let mut first = journal(&original);
    (1..=20).for_each(|part| first.publish(&pass(part)).unwrap());
    first.finish().unwrap();
    let bytes = fs::read(&original).unwrap();
    // All of the header's bits, spread over as many threads as there are cores.
    let all: Vec<usize> =
        (0..100).map(|byte| 8 * byte + (3 * byte + byte / 8) % 8).chain(16 * 8..20 * 8).collect();
    let chosen = if std::env::var_os("WEAKREST_ALL_BITS").is_some() { (0..800).collect() } else { all };
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(bit) = chosen.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let folder = tempfile::tempdir().unwrap();
                    let path = folder.path().join("journal.sqlite");
                    let mut damaged = bytes.clone();
                    damaged[bit / 8] ^= 1 << (bit % 8);
                    fs::write(&path, &damaged).unwrap();
                    let mut journal = Journal::new(settings(&path), "another").unwrap();
                    for part in 21..=23 {
                        let _ = journal.publish(&pass(part));
                    }
                    journal.finish().unwrap_or_else(|e| panic!("bit {bit}: {e:?}"));
                    let found = check(&path).unwrap_or_else(|e| panic!("bit {bit}: {e:?}"));
                    let kept = [aside(folder.path(), "damaged"), aside(folder.path(), "version")].concat();
                    let old = text(&path, "SELECT '' || COUNT(*) FROM parts WHERE part <= 20");
                    match kept.as_slice() {
                        [] => assert_eq!((found.parts, old.as_str()), (23, "20"), "bit {bit}"),
                        [file] => {
                            assert_eq!((found.parts, old.as_str()), (3, "0"), "bit {bit}");
                            assert!(
                                fs::read(file).unwrap() == damaged,
                                "bit {bit}: it is not kept as it was"
                            );
                        }
                        more => panic!("bit {bit}: {more:?}"),
                    }
                }
            });
        }
    });
}

#[test]
fn a_log_that_cannot_be_read_is_set_aside_with_its_journal() {
    let folder = tempfile::tempdir().unwrap();
    let (path, log) = (folder.path().join("journal.sqlite"), folder.path().join("journal.sqlite-wal"));
    // As a kill leaves it: the rows are in the log.
    let killed = || {
        let mut journal = journal(&path);
        (1..=5).for_each(|part| journal.publish(&pass(part)).unwrap());
        until("the rows are written", || has(&path, 5));
        let (database, rows) = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
        journal.finish().unwrap();
        let _ = fs::remove_file(folder.path().join("journal.sqlite-shm"));
        fs::write(&path, database).unwrap();
        rows
    };
    for bit in [0, 9, 37, 8 * 11, 8 * 17 + 3, 8 * 31] {
        let mut rows = killed();
        rows[bit / 8] ^= 1 << (bit % 8);
        fs::write(&log, &rows).unwrap();
        let mut journal = journal(&path);
        journal.publish(&pass(6)).unwrap();
        journal.finish().unwrap();
        assert_eq!(check(&path).unwrap().parts, 1);
        let kept = aside(folder.path(), "damaged");
        assert!(kept.iter().any(|f| fs::read(f).unwrap() == rows), "bit {bit}: {kept:?}");
        kept.iter().chain([&path]).for_each(|f| fs::remove_file(f).unwrap());
    }
    // An intact one is used, of course.
    fs::write(&log, killed()).unwrap();
    let mut journal = journal(&path);
    journal.publish(&pass(6)).unwrap();
    journal.finish().unwrap();
    assert_eq!((check(&path).unwrap().parts, aside(folder.path(), "damaged").len()), (6, 0));
    // And a folder in the log's place is none.
    fs::create_dir(&log).unwrap();
    let mut journal = self::journal(&path);
    let status = status();
    until("it is told", || {
        journal.tick(time_of(1), &status).unwrap();
        status.problems().get("journal file").is_some_and(|p| p.text.contains("is kept as"))
    });
    journal.finish().unwrap();
    assert!(check(&path).unwrap().parts == 0 && aside(folder.path(), "damaged").len() == 2);
}

#[test]
fn damage_while_running_and_a_removed_file_begin_a_new_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let mut journal = journal(&path);
    let status = status();
    journal.publish(&pass(1)).unwrap();
    until("the first is written", || has(&path, 1));

    fs::remove_file(&path).unwrap();
    journal.publish(&pass(2)).unwrap();
    until("the second is written", || has(&path, 1));
    assert_eq!(text(&path, "SELECT group_concat(part) FROM parts"), "2");
    journal.finish().unwrap();

    // Other people's files are left alone.
    fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    let other = self::journal(&path);
    journal = other;
    let told = |journal: &mut Journal| journal.tick(time_of(3), &status).err().map(|e| e.chain());
    until("it is told", || told(&mut journal).is_some_and(|e| e.contains("is not a journal")));
    assert_eq!(check(&path).unwrap_err().kind(), ErrorKind::Usage);
    assert!(check(folder.path().join("none.sqlite")).unwrap_err().chain().contains("none.sqlite"));
}

#[test]
fn a_journal_of_another_version_or_with_another_table_is_set_aside() {
    for (sql, why, told) in [
        ("PRAGMA user_version = 3", "version-3", "has version 3"),
        ("PRAGMA user_version = 0", "version-0", "has version 0"),
        ("ALTER TABLE parts ADD COLUMN more", "damaged", "another"),
        ("ALTER TABLE parts RENAME COLUMN run TO walk", "damaged", "another"),
        ("DROP TABLE parts; CREATE TABLE parts (n)", "damaged", "another"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.sqlite");
        let mut first = journal(&path);
        first.publish(&pass(1)).unwrap();
        first.finish().unwrap();
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let (mut journal, status) = (journal(&path), status());
        journal.publish(&pass(2)).unwrap();
        until(sql, || {
            journal.tick(time_of(1), &status).unwrap();
            status.problems().get("journal file").is_some_and(|p| p.text.contains(told))
        });
        journal.finish().unwrap();
        assert_eq!(text(&path, "SELECT group_concat(part) FROM parts"), "2", "{sql}");
        assert_eq!(aside(folder.path(), why).len(), 1, "{sql}");
    }
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
    until("it is told", || journal.tick(time_of(1), &status).is_err_and(|e| e.chain().contains("disk")));
    for part in 1..=10_010 {
        journal.publish(&pass(part)).unwrap_err();
    }
    journal.tick(time_of(1), &status).unwrap_err();
    assert_eq!(dropped(&status, "journal"), 10, "the backlog is bounded, and says so");

    fs::remove_file(&blocked).unwrap();
    let last = "SELECT MIN(part) || '-' || MAX(part) || ' ' || COUNT(*) FROM parts";
    until("all are written", || path.exists() && has(&path, 10_000));
    assert_eq!(text(&path, last), "11-10010 10000");
    until("it is well again", || journal.tick(time_of(1), &status).is_ok());
    assert_eq!(dropped(&status, "journal"), 10);
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
        assert!(part < 9_000, "never full");
        sleep(Duration::from_millis(1));
        if let Err(e) = journal.publish(&large(part)) {
            break e;
        }
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}");
    assert!(mounted.grow());
    until("all are written", || has(&path, part));
    journal.tick(time_of(1), &status).unwrap();
    journal.finish().unwrap();
    let summary = check(&path).unwrap();
    assert_eq!((summary.parts, summary.missing), (part, 0));
    assert_eq!(dropped(&status, "journal"), 0);
    drop(mounted);
}

const VICTIM: &str = "WEAKREST_TEST_JOURNAL";

/// Not a test of its own, but the process that the next one kills.
#[test]
fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let mut journal = Journal::new(settings(Path::new(&path)), &run_id()).unwrap();
    let mut record = reject(1);
    for part in 1.. {
        record.part = part;
        journal.publish(&record).unwrap();
        // A transaction each time, so that the kill meets one.
        if part % 256 == 0 {
            sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn two_hundred_kills_leave_it_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let begun = Instant::now();
    // What a busy machine needs to start a process.
    let mut start = 15;
    let written =
        || ["", "-wal"].map(|end| fs::metadata(format!("{}{end}", path.display())).map_or(0, |m| m.len()));
    for kill in 0..200u64 {
        let before = written();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "output::tests::journal::writes_until_it_is_killed", "--nocapture"])
            .env(VICTIM, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Spread evenly, but in no order.
        let late = kill * 37 % 65;
        sleep(Duration::from_millis(start + late));
        child.kill().unwrap();
        child.wait().unwrap();
        if late > 32 && written() == before {
            start += 10;
        }
        if kill % 20 == 0 && path.exists() {
            assert_eq!(check(&path).unwrap().repeated, 0);
        }
    }
    let summary = check(&path).unwrap();
    assert!(summary.runs > 20, "only {} of 200 wrote anything", summary.runs);
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
        assert!(error.chain().starts_with(&format!("journal.{key}: ")), "{error:?}");
    }
}
