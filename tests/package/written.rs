//! What writing a package leaves behind, whether it works or not.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use weakrest::ErrorKind;
use weakrest::package::check_target;

use crate::support::{Copy, contents, draw_pictures, enrolled, names, pictures, settings};

#[test]
fn a_package_is_there_whole_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.weakrest");
    let mut package = Copy::new().opened().unwrap();
    let hash = package.hash.clone();
    package.write(&path, false).unwrap();
    assert_eq!(names(folder.path()), ["new.weakrest"]);
    // Writing what was opened gives the same files again.
    assert_eq!(contents(&path), contents(&Copy::new().path()));
    assert_eq!(package.hash, hash);
}

#[test]
fn the_same_pictures_make_the_same_package() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again.weakrest");
    enrolled(&pictures(), &settings()).package.write(&path, false).unwrap();
    assert_eq!(contents(&path), contents(&Copy::new().path()));
}

#[test]
fn an_existing_package_is_replaced_only_on_demand() {
    let copy = Copy::new();
    copy.put("notes.txt", b"mine");
    let before = contents(&copy.path());
    let mut package = Copy::new().opened().unwrap();
    package.manifest.product = "other".into();

    let error = package.write(copy.path(), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("--overwrite"), "{error}");
    assert_eq!(contents(&copy.path()), before);

    package.write(copy.path(), true).unwrap();
    assert_eq!(copy.opened().unwrap().manifest.product, "other");
    assert!(!contents(&copy.path()).contains_key("notes.txt"), "the old package went as a whole");
    assert_eq!(names(copy.path().parent().unwrap()), ["stripes.weakrest"]);
}

#[test]
fn a_package_has_the_permissions_of_other_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.weakrest");
    fs::create_dir(folder.path().join("other")).unwrap();
    Copy::new().opened().unwrap().write(&path, false).unwrap();
    let mode = |p: PathBuf| fs::metadata(p).unwrap().permissions().mode();
    assert_eq!(mode(path), mode(folder.path().join("other")));
}

#[test]
fn targets_that_are_taken_or_lie_nowhere_are_refused() {
    let copy = Copy::new();
    let folder = copy.outside("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("thesis.txt"), "ten years of work").unwrap();
    let file = copy.outside("file");
    fs::write(&file, "x").unwrap();
    let dangling = copy.outside("dangling");
    symlink("nowhere", &dangling).unwrap();

    for overwrite in [false, true] {
        let refused = |path: &Path, what: &str| {
            let error = check_target(path, overwrite).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains(what), "{error}");
        };
        // Only a package is ever replaced.
        refused(&folder, "is not a package");
        refused(&file, "is not a package");
        refused(&dangling, "is not a package");
        refused(&copy.outside("no/such/folder/new"), "does not exist");
        refused(&file.join("new"), "does not exist");
        for name in ["/", "..", "a/..", ""] {
            refused(Path::new(name), "cannot be the name");
        }
        assert!(check_target(&copy.outside("new"), overwrite).is_ok());
        assert!(check_target(Path::new("new"), overwrite).is_ok());
        assert_eq!(check_target(&copy.path(), overwrite).is_ok(), overwrite);
    }
    let error = Copy::new().opened().unwrap().write(&folder, true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(names(&folder), ["thesis.txt"]);
}

/// `weakrest enroll` of the pictures, into `output`.
fn enroll_command(program: &str, output: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(program);
    if program == "sh" {
        // Writing beyond the limit then fails, instead of ending the process.
        command.args([
            "-c",
            "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_weakrest"),
        ]);
    }
    command.args(["enroll", "--size", "64", "--coreset-floor", "100", "--threads", "1"]);
    command.arg("--images").arg(pictures()[0].parent().unwrap()).arg("--output").arg(output).args(more);
    command.output().unwrap()
}

const WEAKREST: &str = env!("CARGO_BIN_EXE_weakrest");

#[test]
fn the_command_writes_a_package_and_refuses_to_replace_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stripes.weakrest");
    let done = enroll_command(WEAKREST, &path, &[]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(contents(&path), contents(&Copy::new().path()), "the command makes what the library makes");
    assert_eq!(enroll_command(WEAKREST, &path, &[]).status.code(), Some(2));
    assert_eq!(enroll_command(WEAKREST, &path, &["--overwrite"]).status.code(), Some(0));
    assert_eq!(names(folder.path()), ["stripes.weakrest"]);
}

#[test]
fn a_file_that_cannot_be_written_to_its_end_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let failed = enroll_command("sh", &folder.path().join("new.weakrest"), &[]);
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(3), "{told}");
    assert!(told.contains("cannot write") && told.contains("new.weakrest"), "{told}");
    assert_eq!(names(folder.path()), [""; 0]);

    let copy = Copy::new();
    let before = contents(&copy.path());
    let failed = enroll_command("sh", &copy.path(), &["--overwrite"]);
    assert_eq!(failed.status.code(), Some(3));
    assert_eq!(contents(&copy.path()), before);
    assert_eq!(names(copy.path().parent().unwrap()), ["stripes.weakrest"]);
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
    let failed = enroll_command(WEAKREST, &disk.0.path().join("new.weakrest"), &[]);
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(3), "{told}");
    assert!(told.contains("the disk is full"), "{told}");
    assert_eq!(names(disk.0.path()), [""; 0]);
}

/// Room for one package, but not for two.
#[test]
fn on_a_full_disk_the_package_that_is_there_stays_as_it_was() {
    let Some(disk) = Disk::of("6m") else { return };
    let path = disk.0.path().join("stripes.weakrest");
    let mut package = Copy::new().opened().unwrap();
    package.write(&path, false).unwrap();
    let before = contents(&path);

    let failed = enroll_command(WEAKREST, &path, &["--overwrite"]);
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(3), "{told}");
    assert!(told.contains("the disk is full"), "{told}");
    assert_eq!(contents(&path), before);
    assert_eq!(names(disk.0.path()), ["stripes.weakrest"]);

    let error = package.write(&path, true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(contents(&path), before);
    assert_eq!(names(disk.0.path()), ["stripes.weakrest"]);
}

#[test]
fn enrolling_stops_when_it_is_told_to() {
    use weakrest::enroll::{Step, enroll};
    let folder = tempfile::tempdir().unwrap();
    let pictures = draw_pictures(folder.path(), 3);
    let backbone = weakrest::package::BackboneFile::built_in().unwrap();
    for stop in [Step::Features, Step::Scores] {
        let options = weakrest::inspector::Options::default();
        let done =
            enroll(&pictures, &backbone, &settings(), &options, &mut |step, _, _| step != stop).unwrap();
        assert!(done.is_none());
    }
}
