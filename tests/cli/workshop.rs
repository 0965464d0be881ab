//! A device's program has no workshop: it says which package has it, and hands over to it once that is installed.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const COMMANDS: [&[&str]; 5] = [
    &["label", "--help"],
    &["evaluate", "--dataset", "here"],
    &["residuals"],
    &["train"],
    &["label", "--package", "-x"],
];

#[test]
fn the_workshop_is_named_and_then_called() {
    let folder = tempfile::tempdir().unwrap();
    let (bin, lib) = (folder.path().join("bin"), folder.path().join("lib/weakrest"));
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(&lib).unwrap();
    let program = bin.join("weakrest");
    std::fs::copy(env!("CARGO_BIN_EXE_weakrest"), &program).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(&program).args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    for arguments in COMMANDS {
        let (code, _, told) = run(arguments);
        assert_eq!(code, Some(2), "{told}");
        let wanted = format!("weakrest {} needs the package weakrest-workshop", arguments[0]);
        assert!(told.contains(&wanted), "{told}");
    }
    assert!(run(&["--help"]).1.contains("weakrest-workshop"));

    let workshop = lib.join("weakrest-workshop");
    std::fs::write(&workshop, "#!/bin/sh\necho \"$@\"\nexit 7\n").unwrap();
    std::fs::set_permissions(&workshop, PermissionsExt::from_mode(0o755)).unwrap();
    for arguments in COMMANDS {
        let (code, told, _) = run(arguments);
        assert_eq!((code, told.trim_end()), (Some(7), arguments.join(" ").as_str()));
    }
}
