//! The page as a real browser shows it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::scene::{faulty, on_free_port, page, publish, usual};
use crate::output::Control;
use crate::record::{FaultKind, Severity};

/// A browser's path, or `None` after saying that the test is skipped: on standard error, and in a file that
/// `make test` shows at its end.
pub(super) fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file());
    if found.is_none() {
        let line = "SKIP: no Chromium on the path, the web page was not looked at by a browser";
        eprintln!("{line}");
        let list = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/skipped.txt");
        if let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(list) {
            let _ = writeln!(file, "{line}");
        }
    }
    found
}

/// The page's DOM after three seconds of the browser's own time, and what went wrong.
pub(super) fn dump(browser: &Path, url: &str, folder: &Path) -> Output {
    Command::new(browser)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        // Of a certificate that the page made itself.
        .arg("--ignore-certificate-errors")
        .args(["--disable-default-apps", "--disable-extensions", "--lang=en-US", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("--log-net-log={}", folder.join("net.json").display()))
        .args(["--window-size=1280,1600", "--virtual-time-budget=3000", "--dump-dom", url])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Every address that the page asked for; what the browser asks for on its own behalf has no initiator.
fn asked_for(net_log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(net_log).unwrap();
    let log: serde_json::Value = serde_json::from_str(&text).unwrap();
    let events = log["events"].as_array().unwrap();
    events
        .iter()
        .filter(|e| e["params"]["initiator"].as_str().is_some_and(|i| i.starts_with("http")))
        .filter_map(|e| e["params"]["url"].as_str().map(str::to_owned))
        .collect()
}

/// The text of the element with that `id`, without markup.
pub(super) fn text_of(dom: &str, id: &str) -> String {
    let start = dom.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {dom}"));
    let inside = &dom[start + dom[start..].find('>').unwrap() + 1..];
    inside[..inside.find("</").unwrap()].to_owned()
}

#[test]
fn a_browser_shows_the_line() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (mut page, line) = page(on_free_port());
    (1..=30).for_each(|part| publish(&mut page, &line, &usual(part)));
    let reason = "no verdict within 80 ms <img src=http://evil.example/x onerror=alert(1)>";
    publish(&mut page, &line, &faulty(31, FaultKind::Late, reason));
    line.status().raise("camera", Severity::Error, "unplugged <b>");

    let output = dump(&browser, &format!("http://{}/", page.address()), folder.path());
    let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !dom.is_empty(), "{log}");
    assert!(!log.contains("CONSOLE"), "{log}");

    assert_eq!(text_of(&dom, "word"), "ERROR");
    assert_eq!(text_of(&dom, "reason"), "camera: unplugged &lt;b&gt;");
    assert!(
        text_of(&dom, "before").starts_with("Last part: FAULT, part 31 · "),
        "{}",
        text_of(&dom, "before")
    );
    assert_eq!(text_of(&dom, "state"), "Error");
    assert_eq!(text_of(&dom, "product"), r#"Cover plate "A7" &lt;b&gt;"#);
    assert!(dom.contains("<b>camera </b>unplugged &lt;b&gt;"));
    let counted = ["parts", "passes", "rejected", "faults"].map(|id| text_of(&dom, id));
    assert_eq!(counted, ["31", "26", "4", "1"]);
    assert_eq!(dom.matches("src=\"/api/rejects/").count(), 4);
    assert_eq!(text_of(&dom, "caption"), "part 30");
    assert!(dom.contains("id=\"old\">(last part with a picture)"), "the fault has none of its own");
    assert!(dom.contains("alt=\"Latest picture, part 30, with its anomaly map\""));
    assert!(dom.contains("aria-label=\"Scores of the latest 31 parts, 4 rejected\""));
    assert!(!dom.contains("id=\"halt\" type=\"button\" disabled"));
    assert!(dom.contains("id=\"lost\" class=\"notice error\" role=\"alert\" hidden"));

    // A fault of a part, with text from anywhere.
    line.status().clear("camera");
    let again = tempfile::tempdir().unwrap();
    let output = dump(&browser, &format!("http://{}/", page.address()), again.path());
    let dom = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text_of(&dom, "word"), "FAULT");
    assert!(text_of(&dom, "part").starts_with("part 31 · "), "{}", text_of(&dom, "part"));
    assert!(text_of(&dom, "reason").starts_with("no verdict within 80 ms &lt;img src="));

    let asked = asked_for(&folder.path().join("net.json"));
    let home = format!("http://{}/", page.address());
    let page_itself = |url: &&String| url.starts_with(&home) || url.starts_with("blob:");
    assert!(asked.iter().any(|url| url.ends_with("/api/status")), "{asked:?}");
    assert_eq!(asked.iter().find(|url| !page_itself(url)), None);
}

/// `WEAKREST_LOOK=127.0.0.1:8080 cargo test --lib -- --ignored web::tests::browser::look` serves a made-up
/// line for ten minutes.
#[test]
#[ignore = "for people"]
fn look() {
    let listen = std::env::var("WEAKREST_LOOK").unwrap_or_else(|_| "127.0.0.1:8080".into());
    let (mut page, line) = page(crate::output::web::Settings { listen, ..on_free_port() });
    let engine = crate::record::Engine {
        product: "Cover plate A7".into(),
        ..crate::record::Engine::clone(&line.status().engine())
    };
    line.status().set_engine(engine.into());
    line.status().raise(
        "mqtt",
        Severity::Warning,
        "broker.plant:1883 does not answer; trying again every 5 s",
    );
    let show = |page: &mut _, part| match part % 53 {
        40 => publish(page, &line, &faulty(part, FaultKind::Late, "no verdict within 80 ms of the trigger")),
        _ => publish(page, &line, &usual(part)),
    };
    (1..=313).for_each(|part| show(&mut page, part));
    for part in 314..1200 {
        std::thread::sleep(std::time::Duration::from_millis(500));
        if line.status().state() == crate::record::State::Operational {
            show(&mut page, part);
        } else {
            publish(&mut page, &line, &faulty(part, FaultKind::Halted, "the line is halted"));
        }
    }
}
