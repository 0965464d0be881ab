//! `weakrest release` after a crash: the lines that were held, whatever has become of the configuration. What the lines do is
//! seen by `make board-test`; here is seen which ones it tries.

use crate::common::*;

/// Lines 5 and 6 of a chip that this machine does not have, held by a service that died.
const HELD: &str = r#"{ "chip": "/dev/gpio-held", "label": "pinctrl", "lines": [5, 6], "active_low": true }"#;

const OTHER: &str = "[line]\nchip = \"/dev/gpio-other\"\nreject = 7\n";

#[test]
fn the_lines_that_were_held_are_released_whatever_the_configuration_says() {
    let folder = Folder::new();
    let config = folder.path("weakrest.toml");
    let written = folder.file("weakrest.toml.state/lines.json", HELD.as_bytes());
    for (what, text) in [
        ("changed", Some(OTHER)),
        ("without lines", Some("[camera]\nkind = \"folder\"\n")),
        ("broken", Some("[line\nchip = ")),
        ("empty", Some("")),
        ("gone", None),
    ] {
        match text {
            Some(text) => std::fs::write(&config, text).unwrap(),
            None => std::fs::remove_file(&config).unwrap(),
        }
        let ran = weakrest!("release", "--config", config).exits(3).says(&["of /dev/gpio-held", "gpioinfo"]);
        assert!(ran.err.contains('5') && ran.err.contains('6'), "{what}: {ran}");
        assert!(!ran.err.contains("gpio-other"), "{what}: {ran}");
        assert_eq!(std::fs::read_to_string(&written).unwrap(), HELD, "they may be held still");
    }
    // Where systemd, or somebody else, says where it is.
    let state = folder.file("var/lines.json", HELD.replace("gpio-held", "gpio-systemd").as_bytes());
    let state = state.parent().unwrap();
    weakrest!("release", "--config", config, "--state", state).exits(3).says(&["/dev/gpio-systemd"]);
    let mut systemd = std::process::Command::new(PROGRAM);
    systemd.args(["release", "--config"]).arg(&config).env("STATE_DIRECTORY", state);
    Ran::of(&mut systemd).exits(3).says(&["/dev/gpio-systemd"]);
}

#[test]
fn without_a_note_the_lines_of_the_configuration_are_released() {
    let folder = Folder::new();
    // A slip elsewhere does not matter, and neither does one in what releasing does not need.
    let slips =
        format!("[inspection]\nthreshold = -1\n[pipeline]\nqueue = 1000\n{OTHER}pulse_ms = \"long\"\n");
    let config = folder.file("weakrest.toml", slips.as_bytes());
    weakrest!("release", "--config", config).exits(3).says(&["line 7 of /dev/gpio-other", "gpioinfo"]);
    let damaged = folder.file("weakrest.toml.state/lines.json", b"{ \"chip\": \"/dev/gp");
    weakrest!("release", "--config", config)
        .exits(3)
        .says(&["lines.json is damaged", "line 7 of /dev/gpio-other"]);
    std::fs::write(&config, "[line\n").unwrap();
    weakrest!("release", "--config", config)
        .exits(2)
        .says(&["weakrest.toml", "the lines to release are unknown"]);
    // Without lines there is nothing to do, and what was noted of old ones is over.
    std::fs::write(&config, "[camera]\n").unwrap();
    weakrest!("release", "--config", config).exits(0);
    assert!(!damaged.exists());
}
