//! Finding ONNX Runtime, and saying what is wrong with what was found instead.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::*;

/// The library that the tests run with.
fn library() -> PathBuf {
    let path = std::env::var_os("ORT_DYLIB_PATH").expect("cargo sets ORT_DYLIB_PATH; see .cargo/config.toml");
    assert!(Path::new(&path).exists(), "ONNX Runtime is not there; run `make runtime`");
    PathBuf::from(path)
}

#[test]
fn a_machine_that_works_is_checked() {
    let ran = weakrest!("check").exits(0).prints(&[
        &format!("weakrest       {}", env!("CARGO_PKG_VERSION")),
        "threads        ",
        "ONNX Runtime   ",
        "(1.20 or newer needed)",
        "               version 1.",
        "providers      tensorrt not built in\n               cuda     not built in\n               \
         webgpu   not built in\n               cpu      can be loaded\n",
        "backbone       efficientnet-lite1 runs (176 channels)\n",
        "all is well\n",
    ]);
    assert!(!ran.out.contains("package"), "{ran}");
    weakrest!("check", ready_package(), "--threads", "1").exits(0).prints(&[
        "threads        1 of ",
        "disc.weakrest (disc) is intact; golden scores match\n",
        "all is well\n",
    ]);
}

/// Runs every command that needs ONNX Runtime with this library, and checks that each says what is wrong.
fn refused(library: &Path, says: &[&str]) {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 2);
    let before = folder.contents();
    let mut all = vec!["error: ", "run `make runtime`, or give its path with --onnxruntime FILE"];
    all.extend(says);
    weakrest!("check", "--onnxruntime", library).exits(3).says(&all);
    let ran = weakrest!("inspect", ready_package(), good, "--onnxruntime", library).exits(3).says(&all);
    assert_eq!(ran.out, "", "something was judged\n{ran}");
    weakrest!("enroll", "--images", good, "--output", folder.path("p"), "--onnxruntime", library)
        .exits(3)
        .says(&all);
    weakrest!("package", "verify", ready_package(), "--onnxruntime", library).exits(3).says(&all);
    assert_eq!(folder.contents(), before);
}

#[test]
fn a_missing_library_is_told() {
    refused(Path::new("/nowhere"), &["ONNX Runtime cannot be loaded: there is no file /nowhere"]);
}

#[test]
fn another_file_than_a_library_is_told() {
    let folder = Folder::new();
    let text = folder.file("libonnxruntime.so", b"not a library");
    refused(&text, &["ONNX Runtime cannot be loaded: ", "libonnxruntime.so: "]);
    refused(&folder.path(""), &["ONNX Runtime cannot be loaded: ", "Is a directory"]);
}

#[test]
fn a_library_that_was_not_copied_to_its_end_is_told() {
    let folder = Folder::new();
    let whole = std::fs::read(library()).unwrap();
    for (name, length) in [("half.so", whole.len() / 2), ("start.so", 5000), ("nearly.so", whole.len() - 100)]
    {
        let cut = folder.file(name, &whole[..length]);
        weakrest!("check", "--onnxruntime", cut).exits(3).says(&["error: ", name, "is cut short"]);
    }
}

#[test]
fn another_library_is_told() {
    // Every program is linked with one: this one with the C library, wherever that is here.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let Some(libc) =
        maps.lines().find_map(|l| l.split_whitespace().last().filter(|p| p.ends_with("/libc.so.6")))
    else {
        return skip("this program's C library is not known");
    };
    refused(Path::new(libc), &[libc, "is a library, but not ONNX Runtime"]);
}

#[test]
fn an_old_version_is_told() {
    let folder = Folder::new();
    let source = folder.file(
        "old.c",
        br#"
        struct base { const void *(*api)(unsigned); const char *(*version)(void); };
        static const void *api(unsigned version) { (void)version; return 0; }
        static const char *version(void) { return "1.17.0"; }
        static const struct base base = { api, version };
        const struct base *OrtGetApiBase(void) { return &base; }
        "#,
    );
    let library = folder.path("libonnxruntime.so");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).output();
    if !compiled.is_ok_and(|output| output.status.success()) {
        return skip("there is no C compiler to make an old library with");
    }
    refused(&library, &["libonnxruntime.so is ONNX Runtime 1.17.0, but 1.20 or newer is needed"]);
}

/// The program in a folder of its own, without the environment variable.
fn alone(folder: &Folder) -> Command {
    let program = folder.folder("bin").join("weakrest");
    if !program.exists() {
        std::fs::copy(PROGRAM, &program).unwrap();
    }
    let mut command = Command::new(program);
    command.env_remove("ORT_DYLIB_PATH").env_remove("LD_LIBRARY_PATH").current_dir(folder.path(""));
    command
}

#[test]
fn a_program_without_a_library_anywhere_says_where_to_get_it() {
    let folder = Folder::new();
    let ran = Ran::of(alone(&folder).arg("check"));
    if ran.code == Some(0) {
        return skip("the system has an ONNX Runtime of its own");
    }
    ran.exits(3).says(&[
        "error: ONNX Runtime cannot be loaded: libonnxruntime.so: ",
        "run `make runtime`, or give its path with --onnxruntime FILE or in ORT_DYLIB_PATH",
    ]);
    // What needs no network works all the same.
    Ran::of(alone(&folder).args(["package", "show"]).arg(ready_package())).exits(0);
}

#[test]
fn the_library_is_found_beside_the_program_and_by_a_relative_path() {
    let folder = Folder::new();
    folder.folder("bin");
    let links = ["bin/libonnxruntime.so", "lib/libonnxruntime.so", "lib/weakrest/libonnxruntime.so"];
    for link in links {
        let link = folder.path(link);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(library(), &link).unwrap();
        let ran = Ran::of(alone(&folder).arg("check")).exits(0);
        assert!(ran.out.contains("all is well"));
        std::fs::remove_file(link).unwrap();
    }
    // A bare name is a file in the current folder, as for every other option.
    std::os::unix::fs::symlink(library(), folder.path("mine.so")).unwrap();
    Ran::of(alone(&folder).args(["check", "--onnxruntime", "mine.so"])).exits(0);
    Ran::of(alone(&folder).args(["check", "--onnxruntime", "./mine.so"])).exits(0);
    Ran::of(alone(&folder).arg("check").env("ORT_DYLIB_PATH", "mine.so")).exits(0).prints(&["/mine.so ("]);
}

#[test]
fn the_option_wins_over_the_environment_and_an_empty_variable_is_none() {
    let folder = Folder::new();
    Ran::of(alone(&folder).arg("check").env("ORT_DYLIB_PATH", "/nowhere"))
        .exits(3)
        .says(&["there is no file /nowhere"]);
    let mut command = alone(&folder);
    command.arg("check").arg("--onnxruntime").arg(library()).env("ORT_DYLIB_PATH", "/nowhere");
    Ran::of(&mut command).exits(0);
    std::os::unix::fs::symlink(library(), folder.path("bin/libonnxruntime.so")).unwrap();
    Ran::of(alone(&folder).arg("check").env("ORT_DYLIB_PATH", "")).exits(0);
}

#[test]
fn every_command_that_runs_a_network_takes_a_provider() {
    let folder = Folder::new();
    let good = folder.good_parts("good", 0, 6);
    let (package, part) = (ready_package(), good.join("01.png"));
    let missing = ["the provider cuda cannot be used", "was built without cuda"];
    let cuda = |command: &mut Command| Ran::of(command.args(["--provider", "cuda"])).exits(3).says(&missing);
    let command = |name: &str| {
        let mut command = Command::new(PROGRAM);
        command.arg(name);
        command
    };
    cuda(command("inspect").arg(package).arg(&part));
    cuda(command("bench").arg(package).arg("--images").arg(&good));
    cuda(command("check").arg(package));
    cuda(command("package").arg("verify").arg(package));
    cuda(enroll_command(&good, &folder.path("p")).args(["--threads", "1"]));
    assert!(!folder.path("p").exists());

    // What may fall back does, and tells.
    weakrest!("inspect", package, part, "--provider", "cuda,cpu").exits(0).says(&["WARN", missing[0]]);
    weakrest!("check", package, "--provider", "tensorrt,cpu").exits(0).prints(&[
        "network        efficientnet-lite1 runs on cpu",
        "all is well, but efficientnet-lite1 runs on cpu only",
    ]);
    weakrest!("inspect", package, part, "--provider", "gpu")
        .exits(2)
        .says(&["--provider <PROVIDER,...>", "must be tensorrt, cuda, webgpu, cpu"]);
    let timed = weakrest!("bench", package, "--images", good, "--frames", "3", "--json", "--provider", "cpu");
    assert_eq!(timed.exits(0).json()["provider"], "cpu");
}
