//! What holds for every command.

use crate::common::*;

const COMMANDS: [&str; 6] = ["enroll", "inspect", "evaluate", "package", "check", "bench"];

#[test]
fn help_is_printed() {
    let ran =
        weakrest!("--help").exits(0).prints(&["Exit codes: 0 all pass, 1 rejects found, 2 usage, 3 fault."]);
    for command in COMMANDS {
        assert!(ran.out.contains(&format!("\n  {command} ")), "{ran}");
        let help = weakrest!(command, "--help").exits(0);
        assert!(help.err.is_empty() && help.out.contains("Usage: weakrest "), "{help}");
        // Places on the machine that runs this are nobody's default.
        assert!(!help.out.contains(env!("CARGO_MANIFEST_DIR")), "{help}");
    }
    weakrest!("--version").exits(0).prints(&[concat!("weakrest ", env!("CARGO_PKG_VERSION"), "\n")]);
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let ran = Ran::of(&mut std::process::Command::new(PROGRAM)).exits(2).says(&["Usage: weakrest <COMMAND>"]);
    assert_eq!(ran.out, "");
    weakrest!("enrol").exits(2).says(&["'enrol'", "'enroll'"]);
    weakrest!("inspect").exits(2).says(&["<PACKAGE>", "<IMAGES>..."]);
    weakrest!("check", "--threads").exits(2).says(&["--threads"]);
    for command in ["check", "inspect", "evaluate", "enroll", "bench"] {
        weakrest!(command, "--frobnicate").exits(2).says(&["'--frobnicate'"]);
    }
    weakrest!("check", "--threads", "0").exits(2).says(&["'--threads <N>'", "must be 1 to 1024"]);
}
