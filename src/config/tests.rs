//! The example configuration, and what is told of wrong ones.

use std::path::Path;

use toml::{Table, Value};

use super::*;
use crate::error::ErrorKind;

fn parsed(text: &str) -> Result<Config> {
    Config::parse(text, Path::new("weakrest.toml"))
}

fn example() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/weakrest.toml")).unwrap()
}

/// A comment that shows a key or a table has no space after its `#`.
fn shown(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
}

#[test]
fn the_example_is_valid() {
    parsed(&example()).unwrap();
}

#[test]
fn every_key_that_the_example_shows_is_one_and_is_the_default() {
    let all: String = example().lines().map(|l| format!("{}\n", shown(l).unwrap_or(l))).collect();
    // Chip and line of a trigger belong to another source.
    let gpio = all.replace("source = \"free\"", "source = \"gpio\"");
    // Certificates mean something in encrypted connections alone.
    let gpio = gpio.replace("tls = false", "tls = true");
    let full = parsed(&gpio).unwrap();
    let plain = parsed(&example()).unwrap();

    // What the example calls a default is one.
    assert_eq!(full.health, plain.health);
    assert_eq!(full.pipeline, plain.pipeline);
    assert_eq!(full.journal, plain.journal);
    // Without a folder there is nothing to label in, so a default cannot be shown.
    let (mut pictures, default) = (full.pictures.unwrap(), plain.pictures.unwrap());
    assert_eq!(pictures.label_folder.take(), Some("/var/lib/weakrest/label".into()));
    assert_eq!(pictures, default);
    assert_eq!(full.line.travel(), plain.line.travel());
    assert_eq!(full.line.deadline(), plain.line.deadline());
    assert_eq!(full.line.tolerance(), plain.line.tolerance());
    assert_eq!((full.line.pulse(), full.line.energize), (plain.line.pulse(), plain.line.energize));
    let (web, default) = (full.web.unwrap(), plain.web.unwrap());
    assert_eq!((web.listen, web.rejects, web.history), (default.listen, default.rejects, default.history));
    assert_eq!(
        (web.tls, web.view, web.session_idle_minutes, web.session_hours),
        (default.tls, default.view, default.session_idle_minutes, default.session_hours)
    );
    assert_eq!(web.shifts, default.shifts);
    let mut modbus = full.modbus.unwrap();
    assert_eq!(modbus.require_poll_seconds.take(), Some(2), "a default that is none cannot be shown");
    assert_eq!(modbus, crate::output::modbus::Settings::default());
    let (mqtt, default) = (full.mqtt.unwrap(), crate::output::mqtt::Settings::default());
    assert_eq!((mqtt.port(), default.tls), (default.port(), false));
    assert_eq!((mqtt.host, mqtt.backlog), (default.host, default.backlog));
    assert_eq!(
        (mqtt.counters_seconds, mqtt.keep_alive_seconds, mqtt.acknowledge_seconds, mqtt.reconnect_ms),
        (
            default.counters_seconds,
            default.keep_alive_seconds,
            default.acknowledge_seconds,
            default.reconnect_ms
        )
    );
}

const LEAST: &str = "[inspection]\npackage = \"p\"\n[camera]\nkind = \"folder\"\npath = \"d\"\nrate = 5\n";

#[test]
fn the_least_configuration_will_do() {
    let config = parsed(LEAST).unwrap();
    assert_eq!(config.trigger, Trigger::free());
    assert_eq!(config.inspection.providers, [Provider::Cpu]);
}

#[test]
fn what_is_wrong_is_told_with_key_and_line() {
    for (more, line, told) in [
        ("[line]\ntravel_ms = 100\ndeadline_ms = 200\n", 9, "line.deadline_ms: is later than the part"),
        ("[lines]\ntravel_ms = 100\n", 7, "lines: is unknown; the keys are inspection, "),
        ("[line]\ntravel = 100\n", 8, "line.travel: is unknown; the keys are chip, "),
        ("[line]\nreject = 3\n", 8, "line.reject: has no chip; set line.chip"),
        ("[line]\npulse_ms = \"long\"\n", 8, "line.pulse_ms: is no number; "),
        ("[line]\nenergize = \"never\"\n", 8, "line.energize: is unknown; set \"to-reject\" or \"to-pass\""),
        ("[pipeline]\n\n# deep\nqueue = 1000\n", 10, "pipeline.queue: 1000 is out of range; set 1 to 256"),
        ("[pipeline]\nqueue = -1\n", 8, "pipeline.queue: is below 0; "),
        ("[health]\nblack = -1\n", 8, "health.black: -1 is out of range; set 0 to 255"),
        (
            "[journal]\npath = \"j\"\nkeep_days = 0\n",
            9,
            "journal.keep_days: 0 is out of range; set at least 1",
        ),
        ("[framing]\nrotation = 45\n", 8, "framing.rotation: 45 is no quarter turn; "),
        ("[framing]\nregion = [0, 0, 640]\n", 8, "framing.region: has 3 values; set 4"),
        ("[framing]\nregion = [0, 0,\n  640, \"480\"]\n", 9, "framing.region[3]: is no whole number; "),
        (
            "[trigger]\nsource = \"magic\"\n",
            8,
            "trigger.source: is unknown; set \"free\", \"software\" or \"gpio\"",
        ),
        ("[trigger]\nsource = \"gpio\"\n", 7, "trigger.chip: is missing; "),
        ("[mqtt]\n", 7, "mqtt.prefix: is no topic; "),
        ("[mqtt\n", 7, ""),
        ("[modbus]\nlisten = \"plc\"\n", 8, "modbus.listen: must be an IP address and a port, "),
        (
            "[modbus]\nallow_write = true\nlisten = \"0.0.0.0:502\"\n",
            7,
            "modbus.write_from: is missing, so that everybody",
        ),
        ("health = 1\n", 7, "camera.health: is unknown; the keys are path, rate, repeat"),
    ] {
        let error = parsed(&format!("{LEAST}{more}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let text = error.chain();
        assert!(text.starts_with(&format!("weakrest.toml:{line}: {told}")), "{text}");
    }
    for (text, told) in [
        ("", "weakrest.toml:1: inspection: is missing; "),
        ("[inspection]\nthreads = 1\n", "weakrest.toml:1: inspection.package: is missing; "),
        ("inspection.package = \"p\"\n\ncamera.rate = 5\n", "weakrest.toml:3: camera.kind: is missing; "),
        ("inspection.package = \"p\"\ncamera.kind = \"usb\"\n", "weakrest.toml:2: camera.kind: is unknown; "),
        ("inspection.package = \"p\"\ncamera = \"folder\"\n", "weakrest.toml:2: camera: is no table; "),
        (
            "inspection.package = \"p\"\n[[camera]]\nkind = \"v4l2\"\n",
            "weakrest.toml:2: camera: is unknown; ",
        ),
    ] {
        let text = parsed(text).unwrap_err().chain();
        assert!(text.starts_with(told), "{text}");
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_told() {
    for wrong in [
        "[web]\nlisten = \"S3CRET\"\n",
        "[web]\nlisten = \"S3CRET\n",
        "[web]\nlisten = S3CRET\n",
        "[web]\nlisten = 'S3CRET\\'' # \n",
        "[web]\ntoken_file = \"S3\\CRET\"\n",
        "[web]\ntoken = \"S3CRET\"\n",
        "[web]\nrejects = \"S3CRET, expected S3CRET\"\n",
        "[mqtt]\nprefix = \"p\"\npassword = \"S3CRET\"\n",
        "[mqtt]\nprefix = \"p\"\nport = \"S3CRET\"\n",
        "[mqtt]\nprefix = \"p\"\nport = [\n  \"S3CRET\"\n]\n",
        "[mqtt]\nprefix = \"p\"\nclient_id = \"\"\"\nS3CRET==\n",
        "[mqtt]\nS3CRET==\n",
        "[mqtt]\npassword: S3CRET\n",
        "mqtt = \"S3CRET\"\n",
        "[trigger]\nsource = \"S3CRET\"\n",
        "[line]\non_fault = \"S3CRET\"\n",
    ] {
        let text = format!("{LEAST}{wrong}");
        let told = parsed(&text).unwrap_err().chain();
        assert!(!told.contains("S3") && !told.contains("CRET"), "{told}");
        assert!(told.starts_with("weakrest.toml:"), "{told}");
    }
    let told = parsed(&format!("{LEAST}[web]\nlisten = \"oops\n")).unwrap_err().chain();
    assert!(told.starts_with("weakrest.toml:8: web.listen: "), "{told}");
}

#[test]
fn a_rate_that_no_duration_can_hold_is_refused() {
    for rate in ["0", "-1", "1e-300", "nan", "inf", "5000"] {
        let error = parsed(&LEAST.replace("rate = 5", &format!("rate = {rate}"))).unwrap_err();
        assert!(error.chain().contains("camera.rate"), "{rate}: {}", error.chain());
    }
}

#[test]
fn a_camera_that_is_too_slow_for_its_trigger_is_refused() {
    let slow = LEAST.replace("rate = 5", "rate = 2");
    let with = |more: &str| parsed(&format!("{slow}[trigger]\nsource = \"software\"\n{more}"));
    let told = with("[line]\nrecord = \"edges\"\n").unwrap_err().chain();
    assert!(told.contains("line.travel_ms: the camera takes a frame each 500 ms"), "{told}");
    assert!(told.contains("verdict is due after 500 ms: set a higher camera.rate"), "{told}");
    let told = with("[line]\ndeadline_ms = 300\n").unwrap_err().chain();
    assert!(told.starts_with("weakrest.toml:10: line.deadline_ms: the camera"), "{told}");
    for fits in [
        "frame_within_ms = 100\n[line]\nrecord = \"edges\"\n",
        "fires_camera = true\n",
        "[line]\ntravel_ms = 900\n",
    ] {
        with(fits).unwrap();
    }
    // Without lines the verdict may wait for the frame.
    assert_eq!(with("").unwrap().line(0).deadline().as_millis(), 1000);
    parsed(&format!("{slow}[line]\nrecord = \"edges\"\n")).unwrap();
}

/// The example with all keys that it shows, and with those of a folder as a camera.
fn examples() -> [Table; 2] {
    let all: String = example().lines().map(|l| format!("{}\n", shown(l).unwrap_or(l))).collect();
    let all = all.replace("source = \"free\"", "source = \"gpio\"").replace("tls = false", "tls = true");
    let all: Table = all.replace("controls = { ", "controls = { focus_automatic = true, ").parse().unwrap();
    let mut folder = all.clone();
    folder["camera"] =
        Value::Table("kind = \"folder\"\npath = \"d\"\nrate = 5.0\nrepeat = true".parse().unwrap());
    [all, folder]
}

/// The paths of all values, tables within tables included.
fn paths(table: &Table, within: &[String]) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for (key, value) in table {
        let path = [within, std::slice::from_ref(key)].concat();
        match value {
            Value::Table(inner) => all.extend(paths(inner, &path)),
            _ => all.push(path),
        }
    }
    all
}

fn with(table: &Table, path: &[String], value: &Value) -> Table {
    let mut changed = table.clone();
    match path {
        [key] => drop(changed.insert(key.clone(), value.clone())),
        [key, rest @ ..] => {
            let inner = with(changed[key].as_table().unwrap(), rest, value);
            changed.insert(key.clone(), Value::Table(inner));
        }
        [] => {}
    }
    changed
}

/// The ways in which TOML writes the same tables, each with the line of a key.
fn spellings(table: &Table, path: &[String]) -> Vec<(String, usize)> {
    // Like `[camera]` and `[camera.controls]`.
    fn tables(table: &Table, within: &[String], text: &mut String) {
        for (key, value) in table.iter().filter(|(_, value)| !value.is_table()) {
            text.push_str(&format!("{key} = {value}\n"));
        }
        for (key, value) in table {
            if let Value::Table(inner) = value {
                let path = [within, std::slice::from_ref(key)].concat();
                text.push_str(&format!("\n# A comment.\n[{}]\n", path.join(".")));
                tables(inner, &path, text);
            }
        }
    }
    let mut nested = String::new();
    tables(table, &[], &mut nested);
    let header = format!("[{}]", path[..path.len() - 1].join("."));
    let lines: Vec<&str> = nested.lines().collect();
    let start = lines.iter().position(|line| *line == header).unwrap();
    let own = format!("{} = ", path.last().unwrap());
    let nested_line = start + lines[start..].iter().position(|line| line.starts_with(&own)).unwrap() + 1;

    let value = |path: &[String]| {
        path.iter().skip(1).fold(&table[&path[0]], |value, key| value.get(key.as_str()).unwrap()).clone()
    };
    let all = paths(table, &[]);
    let dotted: String = all.iter().map(|path| format!("{} = {}\n", path.join("."), value(path))).collect();
    let dotted_line = all.iter().position(|p| p == path).unwrap() + 1;
    let inline: String = table.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    let inline_line = table.keys().position(|key| *key == path[0]).unwrap() + 1;
    vec![(nested, nested_line), (dotted, dotted_line), (inline, inline_line)]
}

#[test]
fn a_wrong_value_of_any_key_is_told_with_file_line_and_key_however_it_is_written() {
    // Of a type that no key has, and of the right type.
    let wrong = |value: &Value| match value {
        Value::Array(_) => vec![Value::from(1), Value::Array(vec![Value::Boolean(true)])],
        Value::Boolean(_) => vec![Value::from("true")],
        Value::Integer(_) | Value::Float(_) => vec![Value::from("5"), Value::Float(f64::NAN)],
        _ => vec![Value::Boolean(true), Value::Array(Vec::new())],
    };
    let mut checked = 0;
    for table in examples() {
        parsed(&table.to_string()).unwrap();
        for path in paths(&table, &[]) {
            let right =
                path.iter().skip(1).fold(&table[&path[0]], |value, key| value.get(key.as_str()).unwrap());
            for wrong in wrong(right) {
                // A control takes every number and switch.
                if path.len() == 3 && !matches!(wrong, Value::String(_)) {
                    continue;
                }
                for (text, line) in spellings(&with(&table, &path, &wrong), &path) {
                    let told = parsed(&text).expect_err(&text).chain();
                    let expected = format!("weakrest.toml:{line}: {}", path.join("."));
                    let rest =
                        told.strip_prefix(&expected).unwrap_or_else(|| panic!("{expected}: {told}\n{text}"));
                    assert!(rest.starts_with(": ") || rest.starts_with("[0]: "), "{told}");
                    assert!(rest.contains("; "), "{told}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 300, "{checked}");
}

/// A tolerance of exactly half of a pulse stays one, whatever the pulse.
#[test]
fn recipes_do_not_round_a_tolerance() {
    for pulse in 1..500 {
        let pulse = f64::from(pulse) / 3.0;
        let text = format!(
            "[inspection]\npackage = \"p\"\n[recipes]\nfolder = \"r\"\n[camera]\nkind = \"folder\"\npath = \"p\"\nrate = 9\n\
             [line]\npulse_ms = {pulse:?}\ntolerance_ms = {:?}\n",
            pulse / 2.0
        );
        parsed(&text).unwrap();
    }
}
