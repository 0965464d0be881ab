//! The log as it is after changes, cuts and forgeries.

use std::fs;
use std::path::Path;

use super::chain::walk;
use super::*;

fn who() -> Who {
    Who { person: super::super::Person::Account("anna".into()), from: Some([10, 0, 0, 7].into()) }
}

fn change(audit: &Audit, i: u64) -> Result<u64> {
    audit.record(&who(), "threshold", json!({"threshold": i}), json!({"threshold": i + 1}))
}

fn file(folder: &Path) -> std::path::PathBuf {
    folder.join("audit.jsonl")
}

#[test]
fn every_line_is_on_disk_and_proves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let audit = Audit::open(folder.path().join("state")).unwrap();
    for i in 0..5 {
        assert_eq!(change(&audit, i).unwrap(), i + 1);
    }
    drop(audit);
    let audit = Audit::open(folder.path().join("state")).unwrap();
    assert_eq!(change(&audit, 5).unwrap(), 6);
    let bytes = fs::read(file(&folder.path().join("state"))).unwrap();
    let walked = walk(&bytes);
    assert_eq!((walked.count, walked.head.n, walked.fault, walked.torn.len()), (6, 6, None, 0));
    let lines = audit.lines(4, 100).unwrap();
    let first: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((lines.len(), &first["n"], &first["who"]), (2, &json!(5), &json!("account anna")));
    assert_eq!((&first["from"], &first["before"]["threshold"]), (&json!("10.0.0.7"), &json!(4)));
    assert_eq!(audit.lines(0, 3).unwrap().len(), 3);
    assert!(audit.lines(6, 100).unwrap().is_empty() && audit.lines(u64::MAX, 100).unwrap().is_empty());
    assert_eq!(audit.problem(), None);
}

#[test]
fn each_forgery_is_found_at_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let audit = Audit::open(folder.path().into()).unwrap();
    (0..6).for_each(|i| assert!(change(&audit, i).is_ok()));
    let good = fs::read_to_string(file(folder.path())).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let changed = good.replacen("account anna", "account ben!", 3);
    for (text, line) in [
        (changed, 1),
        (joined(&[&lines[..2], &lines[3..]].concat()), 3),
        (joined(&[lines[0], lines[2], lines[1], lines[3]]), 2),
        (joined(&[lines[0], lines[1], "", lines[2]]), 3),
        (joined(&[lines[0], lines[1], lines[1], lines[2]]), 3),
        (good.replace("\"threshold\":3", "\"threshold\":9"), 3),
        (format!("{good}forged\n"), 7),
    ] {
        assert_eq!(walk(text.as_bytes()).fault.map(|fault| fault.line), Some(line), "{text}");
    }
    // A line of the log that is nothing but itself.
    assert_eq!(walk(joined(&lines[4..]).as_bytes()).begins.map(|head| head.n), Some(4));
}

/// A file from which any byte is missing, or in which one is another, proves itself no more.
#[test]
fn no_byte_of_it_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let audit = Audit::open(folder.path().into()).unwrap();
    (0..3).for_each(|i| assert!(change(&audit, i).is_ok()));
    let good = fs::read(file(folder.path())).unwrap();
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        let mut shorter = good.clone();
        shorter.remove(at);
        for bytes in [changed, shorter] {
            let walked = walk(&bytes);
            // Without its last line break it is a line that is not whole.
            let is_whole = walked.fault.is_none() && walked.rest.is_empty() && walked.count == 3;
            assert!(!is_whole, "byte {at}: {}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn a_line_that_was_torn_anywhere_is_told_and_the_chain_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let audit = Audit::open(folder.path().into()).unwrap();
    (0..2).for_each(|i| assert!(change(&audit, i).is_ok()));
    drop(audit);
    let good = fs::read(file(folder.path())).unwrap();
    let last = good[..good.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    let step = (good.len() - last) / 7;
    let cuts = (last..good.len()).step_by(step).chain([good.len() - 1]);
    for torn in cuts.map(|cut| good[..cut].to_vec()).chain([[&good[..last], &[0; 100]].concat()]) {
        fs::write(file(folder.path()), &torn).unwrap();
        let audit = Audit::open(folder.path().into()).unwrap();
        let n = change(&audit, 7).unwrap();
        let after = walk(&fs::read(file(folder.path())).unwrap());
        let is_whole = torn.len() == good.len() - 1;
        let (expected, told) = match torn.len() - last {
            0 => (2, "threshold"),
            _ if is_whole => (4, "last line completed"),
            _ => (3, "torn line"),
        };
        assert_eq!((after.fault, after.head.n, n), (None, expected, expected));
        assert_eq!(after.torn, if told == "torn line" { vec![2] } else { vec![] });
        let lines = audit.lines(if is_whole { 2 } else { 1 }, 1).unwrap().concat();
        assert!(lines.contains(&format!("\"what\":\"{told}\"")), "{lines}");
        assert_eq!(audit.problem(), None);
    }
}

#[test]
fn a_changed_log_is_told_goes_on_and_stays_bad() {
    let folder = tempfile::tempdir().unwrap();
    let audit = Audit::open(folder.path().into()).unwrap();
    (0..4).for_each(|i| assert!(change(&audit, i).is_ok()));
    drop(audit);
    let text =
        fs::read_to_string(file(folder.path())).unwrap().replace("\"threshold\":1}", "\"threshold\":9}");
    fs::write(file(folder.path()), text).unwrap();
    for (time, n) in [(0, 6), (1, 7)] {
        let audit = Audit::open(folder.path().into()).unwrap();
        assert_eq!(change(&audit, 9).unwrap(), n, "{time}: told once");
        let problem = audit.problem().unwrap();
        assert!(problem.ends_with("audit.jsonl: line 1 was changed: its hash is wrong"), "{problem}");
        assert_eq!(walk(&fs::read(file(folder.path())).unwrap()).fault.unwrap().line, 1);
    }
    fs::write(file(folder.path()), "nothing of it\n").unwrap();
    let audit = Audit::open(folder.path().into()).unwrap();
    change(&audit, 1).unwrap();
    assert!(audit.problem().unwrap().contains("line 1"));
}

#[test]
fn full_files_are_kept_and_the_chain_goes_through_all() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { file: 1500, files: 3 };
    let audit = Audit::with_limits(folder.path().into(), limits).unwrap();
    (0..40).for_each(|i| assert!(change(&audit, i).is_ok()));
    drop(audit);
    let mut all: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(all[3].ends_with("audit.jsonl"));
    let mut head: Option<chain::Head> = None;
    for path in &all {
        let walked = walk(&fs::read(path).unwrap());
        assert_eq!(walked.fault, None);
        assert!(head.is_none_or(|head| Some(head) == walked.begins));
        head = Some(walked.head);
    }
    let audit = Audit::with_limits(folder.path().into(), limits).unwrap();
    let lines = audit.lines(0, 1000).unwrap();
    let n = |line: &String| serde_json::from_str::<Value>(line).unwrap()["n"].as_u64().unwrap();
    let numbers: Vec<u64> = lines.iter().map(n).collect();
    assert!(numbers.windows(2).all(|two| two[0] + 1 == two[1]), "{numbers:?}");
    assert!(numbers[0] > 1 && lines.iter().any(|line| line.contains("oldest file removed")));
    let middle = numbers[numbers.len() / 2];
    assert_eq!(n(&audit.lines(middle, 1000).unwrap()[0]), middle + 1);
    // A cut right after the full file was put aside.
    fs::rename(file(folder.path()), folder.path().join("audit-000000009999.jsonl")).unwrap();
    let next = change(&audit, 1);
    drop(next);
    drop(audit);
    let again = Audit::with_limits(folder.path().into(), limits).unwrap();
    assert!(change(&again, 2).unwrap() > *numbers.last().unwrap());
}

#[test]
fn what_cannot_be_written_is_refused_and_told_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    // A folder in the file's place, and then in its folder's.
    let state = folder.path().join("state");
    fs::create_dir_all(file(&state)).unwrap();
    let audit = Audit::open(state.clone()).unwrap();
    let error = change(&audit, 1).unwrap_err().chain();
    assert!(error.contains("audit.jsonl"), "{error}");
    assert!(audit.problem().unwrap().starts_with("changes other than halt are refused: "));
    assert!(audit.note(&who(), "halt", Value::Null, Value::Null).is_err());
    fs::remove_dir(file(&state)).unwrap();
    assert_eq!(change(&audit, 1).unwrap(), 2);
    assert_eq!(audit.problem(), None);
    // What happened meanwhile is not lost; what was refused is not there.
    let lines = audit.lines(0, 9).unwrap();
    assert!(lines.len() == 2 && lines[0].contains("\"what\":\"halt\""), "{lines:?}");
}

/// A pipe that nobody reads takes no line, as a disk that does not answer.
#[test]
fn a_disk_that_does_not_answer_holds_nobody_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("mkfifo").arg(file(folder.path())).status();
    assert!(made.unwrap().success());
    let audit = Audit::open(folder.path().into()).unwrap();
    let start = Instant::now();
    assert!(change(&audit, 1).unwrap_err().chain().contains("does not answer"));
    assert!(start.elapsed() < PATIENCE + Duration::from_secs(2));
    let start = Instant::now();
    assert!(change(&audit, 2).is_err() && start.elapsed() < Duration::from_secs(1));
    assert!(audit.problem().unwrap().contains("does not answer"));
    // It answers, so that the thread ends.
    fs::write(file(folder.path()), "x").unwrap();
}

#[test]
fn a_full_disk_leaves_no_half_line_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = crate::output::tests::common::SmallDisk::mount(folder.path()) else { return };
    let audit = Audit::open(folder.path().join("state")).unwrap();
    assert_eq!(change(&audit, 1).unwrap(), 1);
    let filler = folder.path().join("filler");
    let mut fill = fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut fill, &[1; 4096]).is_ok() {}
    // The file's last page has some room.
    let failed = (2..100).find_map(|i| change(&audit, i).err()).unwrap();
    assert_eq!(failed.kind(), ErrorKind::StorageFull, "{}", failed.chain());
    let walked = walk(&fs::read(file(&folder.path().join("state"))).unwrap());
    assert!(walked.fault.is_none() && walked.rest.is_empty() && walked.count > 1);
    assert!(disk.grow());
    let limit = Instant::now() + 3 * RETRY;
    while audit.problem().is_some() {
        assert!(Instant::now() < limit);
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = audit.lines(walked.head.n, 9).unwrap().concat();
    assert!(told.contains("recorded again") && told.contains("disk is full"), "{told}");
}
