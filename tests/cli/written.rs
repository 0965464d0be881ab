//! What the command leaves behind, whether it writes a package or fails.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use weakrest::enroll::{Settings, enroll, find_pictures};
use weakrest::inspector::Options;
use weakrest::package::BackboneFile;
use weakrest::{ErrorKind, Package};

use crate::common::{PROGRAM, contents, ready_package};

/// The pictures of [`ready_package`].
fn good() -> PathBuf {
    ready_package().parent().unwrap().join("good")
}

/// What lies directly in a folder, hidden or not.
fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// `weakrest enroll` of the pictures, into `output`.
fn enroll_with(program: &str, output: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(program);
    if program == "sh" {
        // Writing beyond the limit then fails, instead of ending the process.
        command.args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\"", PROGRAM]);
    }
    command.args(["enroll", "--quality", "fast", "--size", "64", "--threads", "1", "--images"]).arg(good());
    command.arg("--output").arg(output).args(more);
    command.output().unwrap()
}

#[test]
fn the_command_writes_a_package_and_refuses_to_replace_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disc.weakrest");
    let done = enroll_with(PROGRAM, &path, &[]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let settings = Settings { product: "disc".into(), longest_side: Some(64), ..Settings::default() };
    let (pictures, backbone) = (find_pictures(&good()).unwrap(), BackboneFile::built_in().unwrap());
    let made = enroll(&pictures, &backbone, &settings, &Options::default(), &mut |_, _, _| true);
    let again = folder.path().join("library.weakrest");
    made.unwrap().unwrap().package.write(&again, false).unwrap();
    assert_eq!(contents(&path), contents(&again), "the command makes what the library makes");
    std::fs::remove_dir_all(&again).unwrap();
    assert_eq!(enroll_with(PROGRAM, &path, &[]).status.code(), Some(2));
    assert_eq!(enroll_with(PROGRAM, &path, &["--overwrite"]).status.code(), Some(0));
    assert_eq!(names(folder.path()), ["disc.weakrest"]);
}

#[test]
fn a_file_that_cannot_be_written_to_its_end_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let failed = enroll_with("sh", &folder.path().join("new.weakrest"), &[]);
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(3), "{told}");
    assert!(told.contains("cannot write") && told.contains("new.weakrest"), "{told}");
    assert_eq!(names(folder.path()), [""; 0]);

    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("disc.weakrest");
    Package::open(ready_package()).unwrap().write(&copy, false).unwrap();
    let before = contents(&copy);
    let failed = enroll_with("sh", &copy, &["--overwrite"]);
    assert_eq!(failed.status.code(), Some(3));
    assert_eq!(contents(&copy), before);
    assert_eq!(names(folder.path()), ["disc.weakrest"]);
}

/// A small disk, which only root can have.
struct Disk(tempfile::TempDir);

impl Disk {
    fn of(size: &str) -> Option<Disk> {
        let place = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "weakrest-test"])
            .arg(place.path())
            .output();
        match mounted {
            Ok(done) if done.status.success() => Some(Disk(place)),
            _ => {
                // Unlike `eprintln!` this is seen when the test passes, too.
                let _ = writeln!(std::io::stderr(), "SKIPPED: a small disk can only be mounted by root");
                None
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left_on_it() {
    let Some(disk) = Disk::of("1m") else { return };
    let failed = enroll_with(PROGRAM, &disk.0.path().join("new.weakrest"), &[]);
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(3), "{told}");
    assert!(told.contains("the disk is full"), "{told}");
    assert_eq!(names(disk.0.path()), [""; 0]);
}

/// Room for one package, but not for two.
#[test]
fn on_a_full_disk_the_package_that_is_there_stays_as_it_was() {
    let Some(disk) = Disk::of("6m") else { return };
    let path = disk.0.path().join("disc.weakrest");
    let mut package = Package::open(ready_package()).unwrap();
    package.write(&path, false).unwrap();
    let before = contents(&path);

    let failed = enroll_with(PROGRAM, &path, &["--overwrite"]);
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(3), "{told}");
    assert!(told.contains("the disk is full"), "{told}");
    assert_eq!(contents(&path), before);
    assert_eq!(names(disk.0.path()), ["disc.weakrest"]);

    let error = package.write(&path, true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(contents(&path), before);
    assert_eq!(names(disk.0.path()), ["disc.weakrest"]);
}
