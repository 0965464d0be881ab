//! What holds for every command.

use crate::common::*;

const COMMANDS: [&str; 7] = ["enroll", "levels", "inspect", "evaluate", "package", "check", "bench"];

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
    for command in ["check", "inspect", "evaluate", "enroll", "levels", "bench"] {
        weakrest!(command, "--frobnicate").exits(2).says(&["'--frobnicate'"]);
    }
    weakrest!("check", "--threads", "0").exits(2).says(&["'--threads <N>'", "must be 1 to 1024"]);
}

#[test]
fn names_of_files_do_nothing_to_a_terminal() {
    let folder = Folder::new();
    let name = "a\u{1b}[2J\n[ERROR] all is well\u{202e}gpj\u{9b}31m\u{7f}.png";
    let picture = folder.picture(name, &part(1));
    let is_plain = |text: &str| {
        let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(acts), "{text:?}");
        assert!(!text.contains("\n[ERROR]"), "{text:?}");
    };
    let ran = weakrest!("inspect", ready_package(), picture).exits(0);
    ran.says(&[]).prints(&["a\\u001b[2J\\n[ERROR] all is well\\u202egpj\\u009b31m\\u007f.png"]);
    // The same name in JSON.
    let ran = weakrest!("inspect", ready_package(), picture, "--json").exits(0);
    is_plain(&ran.out);
    assert_eq!(ran.json()["image"], picture.display().to_string());
    for ran in [
        weakrest!("inspect", ready_package(), folder.path(format!("no{name}"))),
        weakrest!("inspect", ready_package(), folder.file(format!("bad{name}"), b"no picture")),
        weakrest!("enroll", "--images", folder.path(name), "--output", folder.path("x")),
        weakrest!("check", "--config", folder.path(name)),
        weakrest!("label", "--images", folder.path(name), "--labels", "x.jsonl", "--import", "coco:x"),
        weakrest!("inspect", ready_package(), format!("--{name}")),
    ] {
        assert!(ran.code.is_some_and(|code| code > 0), "{ran}");
        is_plain(&ran.out);
        is_plain(&ran.err);
        assert!((ran.out.clone() + &ran.err).contains("\\u001b[2J"), "{ran}");
    }
}

#[test]
fn secrets_are_not_told() {
    let folder = Folder::new();
    let start = format!(
        "[inspection]\npackage = {:?}\n[camera]\nkind = \"folder\"\npath = \"d\"\nrate = 5\n",
        folder.path("none")
    );
    for (wrong, place) in [
        ("[mqtt]\nprefix = \"p\"\npassword = \"HUNTER2\"\n", "9: mqtt.password: "),
        ("[mqtt]\nprefix = \"p\"\npassword_file = \"HUNTER2\n", "9: mqtt.password_file: "),
        ("[mqtt]\nprefix = \"p\"\nport = \"HUNTER2\"\n", "9: mqtt.port: "),
        ("[web]\nlisten = \"HUNTER2\"\n", "8: web.listen: "),
    ] {
        let config = folder.file("weakrest.toml", format!("{start}{wrong}").as_bytes());
        for command in ["check", "run"] {
            let ran =
                weakrest!(command, "--config", config).exits(2).says(&[&format!("weakrest.toml:{place}")]);
            assert!(!ran.err.contains("HUNTER2") && !ran.out.contains("HUNTER2"), "{ran}");
        }
    }
    let source = "https://me:HUNTER2@127.0.0.1:9/disc.weakrest";
    let ran = weakrest!("package", "install", source, folder.path("disc"), "--unsigned");
    assert!(ran.code == Some(2) || ran.code == Some(3), "{ran}");
    assert!(!ran.err.contains("HUNTER2"), "{ran}");
}
