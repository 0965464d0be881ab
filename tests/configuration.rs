//! The example configuration: valid as it is, and with every key that it shows.

use std::path::Path;

use weakrest::config::Config;

fn example() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/weakrest.toml")).unwrap()
}

/// A comment that shows a key or a table has no space after its `#`.
fn shown(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
}

#[test]
fn the_example_is_valid() {
    Config::parse(&example()).unwrap();
}

#[test]
fn every_key_that_the_example_shows_is_one_and_is_the_default() {
    let all: String = example().lines().map(|l| format!("{}\n", shown(l).unwrap_or(l))).collect();
    // Chip and line of a trigger belong to another source.
    let gpio = all.replace("source = \"free\"", "source = \"gpio\"");
    // Certificates mean something in encrypted connections alone.
    let gpio = gpio.replace("tls = false", "tls = true");
    let full = Config::parse(&gpio).unwrap();
    let plain = Config::parse(&example()).unwrap();

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
    let (mqtt, default) = (full.mqtt.unwrap(), weakrest::output::mqtt::Settings::default());
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
