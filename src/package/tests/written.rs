//! What writing a package leaves behind, whether it works or not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::ErrorKind;
use crate::error::Hint;
use crate::package::check_target;

use super::support::{Copy, contents, draw_pictures, enrolled, names, pictures, settings};

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
    assert_eq!(error.hints(), [Hint::Exists], "{error}");
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

#[test]
fn enrolling_stops_when_it_is_told_to() {
    use crate::enroll::{Step, enroll};
    let folder = tempfile::tempdir().unwrap();
    let pictures = draw_pictures(folder.path(), 3);
    let backbone = crate::package::BackboneFile::built_in().unwrap();
    for stop in [Step::Features, Step::Scores] {
        let options = crate::inspector::Options::default();
        let done =
            enroll(&pictures, &backbone, &settings(), &options, &mut |step, _, _| step != stop).unwrap();
        assert!(done.is_none());
    }
}
