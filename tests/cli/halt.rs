//! What people and faults decided stays decided; and what cannot be loaded takes nothing away.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::*;
use crate::run::{Service, config, http, parts};

/// A package, its parts, and a configuration with a web page.
fn scene(more: &str) -> (Folder, PathBuf, PathBuf, String) {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = config(&folder, &package, &format!("[web]\nlisten = \"{address}\"\n{more}"));
    (folder, package, config, address)
}

fn status(address: &str) -> Value {
    serde_json::from_str(&http(address, "GET /api/status").1).unwrap()
}

/// Waits until the page's status is as wanted.
#[track_caller]
fn until(address: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let told = std::panic::catch_unwind(|| status(address));
        if let Ok(told) = &told
            && wanted(told)
        {
            return told.clone();
        }
        assert!(Instant::now() < limit, "{what}: {told:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn state_file(config: &Path) -> PathBuf {
    config.with_file_name("weakrest.toml.state").join("halted.json")
}

#[test]
fn a_halt_survives_reload_kill_and_restart_until_a_person_resumes() {
    let (_folder, _, config, address) = scene("");
    let service = Service::start(&config);
    service.wait_for("ready");
    let (code, body) = http(&address, "POST /api/halt");
    service.signal("KILL");
    assert_eq!((code, body.contains("Halted")), (200, true), "{body}");
    assert!(state_file(&config).is_file());
    drop(service);

    let service = Service::start(&config);
    let first = service.part();
    assert_eq!((&first["part"], &first["fault"]), (&1.into(), &"halted".into()), "{first}");
    let told = status(&address);
    assert_eq!((&told["state"], &told["halted"]["by"]), (&"Halted".into(), &"person".into()), "{told}");
    assert!(told["problems"]["halted"]["text"].as_str().unwrap().contains("by a person since 20"), "{told}");

    // Another rate sets the line up anew.
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("rate = 20", "rate = 40")).unwrap();
    service.signal("HUP");
    service.wait_for("restarting the line");
    loop {
        let told = service.part();
        assert_eq!(told["fault"], "halted", "{told}");
        if told["part"] == 1 {
            break;
        }
    }
    assert_eq!(until(&address, "the page is back", |_| true)["state"], "Halted");
    assert_eq!(service.terminate().0, Some(0));

    let service = Service::start(&config);
    assert_eq!(service.part()["fault"], "halted");
    assert_eq!(http(&address, "POST /api/resume").0, 200);
    service.signal("KILL");
    drop(service);
    assert!(!state_file(&config).exists());
    assert_eq!(Service::start(&config).part()["fault"], Value::Null);
}

#[test]
fn a_fault_that_stopped_the_line_is_remembered_with_its_reason() {
    let (folder, _, config, address) = scene("[line]\non_fault = \"stop\"\n");
    let black = image::DynamicImage::new_rgb8(SIZE.0, SIZE.1);
    folder.picture("parts/00.png", &black);
    let service = Service::start(&config);
    while service.part()["fault"] != "black" {}
    // What is told of is remembered by then.
    service.signal("KILL");
    drop(service);
    assert!(state_file(&config).is_file());
    let service = Service::start(&config);
    while service.part()["fault"] != "halted" {}
    let before = until(&address, "the page is there", |told| told["state"] == "Halted");
    service.signal("KILL");
    drop(service);
    folder.picture("parts/00.png", &part(300));
    let service = Service::start(&config);
    assert_eq!(service.part()["fault"], "halted");
    let told = status(&address);
    assert_eq!((&told["halted"], &told["halted"]["by"]), (&before["halted"], &"fault".into()), "{told}");
    assert!(told["halted"]["reason"].as_str().unwrap().contains("black"), "{told}");
}

#[test]
fn a_state_that_cannot_be_read_or_written_is_told_and_the_line_is_halted() {
    let (_folder, _, config, address) = scene("");
    let file = state_file(&config);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "{\"by\": 3").unwrap();
    let service = Service::start(&config);
    assert_eq!(service.part()["fault"], "halted");
    let told = status(&address);
    assert!(
        told["problems"]["halted"]["text"].as_str().unwrap().contains("halted.json is damaged"),
        "{told}"
    );
    assert_eq!(http(&address, "POST /api/resume").0, 200);
    assert_eq!(status(&address)["state"], "Operational");

    // A folder in the file's place can be neither replaced nor removed.
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    let (code, body) = http(&address, "POST /api/halt");
    assert!(
        code == 500 && body.contains("the line is halted, but a restart would not keep it halted"),
        "{body}"
    );
    let told = status(&address);
    assert_eq!(
        (&told["state"], told["problems"]["halt file"].is_object()),
        (&"Halted".into(), true),
        "{told}"
    );
    assert_eq!(http(&address, "POST /api/resume").0, 500);
    assert_eq!(status(&address)["state"], "Halted");
    std::fs::remove_dir_all(&file).unwrap();
    assert_eq!(http(&address, "POST /api/resume").0, 200);
    assert_eq!(status(&address)["state"], "Operational");
}

#[test]
fn what_cannot_start_leaves_the_old_line_running_without_its_package() {
    let (_folder, package, config, address) = scene("");
    let text = std::fs::read_to_string(&config).unwrap();
    let service = Service::start(&config);
    let uses = service.part()["package"].clone();
    // The new package is the old one's place, as `package install` leaves it; then neither is there any more.
    let other = package.with_file_name("other.weakrest");
    std::fs::rename(&package, &other).unwrap();
    let moved = text.replace("disc.weakrest", "other.weakrest");

    // Lines that the old line does not hold are tried before it stops: no part is lost.
    std::fs::write(&config, format!("{moved}[line]\nchip = \"/dev/none\"\nreject = 5\n")).unwrap();
    let before = service.part()["part"].as_u64().unwrap();
    service.signal("HUP");
    let line = service.wait_for("the previous configuration stays in use");
    assert!(line.contains("line 5 of /dev/none"), "{line}");
    for number in before + 1..before + 10 {
        let told = service.part();
        assert_eq!((&told["part"], &told["package"], &told["fault"]), (&number.into(), &uses, &Value::Null));
    }

    // What shows only when the old line has stopped: that one comes back, out of the memory.
    let bad = "[trigger]\nsource = \"gpio\"\nchip = \"/dev/none\"\nline = 5\n";
    std::fs::write(&config, format!("{moved}{bad}")).unwrap();
    assert_eq!(http(&address, "POST /api/halt").0, 200);
    service.signal("HUP");
    service.wait_for("the previous configuration stays in use");
    while service.part()["part"] != 1 {}
    let told = until(&address, "the page is back", |told| told["problems"]["configuration"].is_object());
    assert_eq!((&told["state"], &told["engine"]["package"]), (&"Halted".into(), &uses), "{told}");
    assert_eq!(http(&address, "POST /api/resume").0, 200);
    while service.part()["fault"] != Value::Null {}

    std::fs::write(&config, moved).unwrap();
    service.signal("HUP");
    until(&address, "a good one is taken", |told| told["problems"]["configuration"].is_null());
}

#[test]
fn a_load_that_never_ends_is_given_up_and_told_and_later_ones_work() {
    let (folder, package, config, address) = scene("[pipeline]\nload_timeout_ms = 3000\n");
    let intact = folder.package("intact.weakrest");
    let service = Service::start(&config);
    let uses = service.part()["package"].clone();
    // Threads of ONNX Runtime have the name of the one that they come from.
    let loading = || service.threads().iter().filter(|name| *name == "load").count();
    let usual = loading();
    forge_file(&package, "backbone.onnx", &endless_network());
    service.signal("HUP");
    let line = service.wait_for("the previous configuration stays in use");
    assert!(line.contains("did not finish within 3 s") && line.contains("load_timeout_ms"), "{line}");
    assert_eq!(service.part()["package"], uses);
    // What was given up computes no more.
    let limit = Instant::now() + Duration::from_secs(10);
    while loading() > usual {
        assert!(Instant::now() < limit, "{:?}", service.threads());
        std::thread::sleep(Duration::from_millis(50));
    }

    std::fs::remove_dir_all(&package).unwrap();
    std::fs::rename(&intact, &package).unwrap();
    service.signal("HUP");
    service.wait_for("is in use");
    // The stages tell of the swap before the service withdraws its complaint.
    until(&address, "a good one is taken", |told| told["problems"]["configuration"].is_null());
    let (code, took) = service.terminate();
    assert!(code == Some(0) && took < Duration::from_secs(2), "{code:?} {took:?}");

    // Nor does the start wait for ever, or the end for the start.
    forge_file(&package, "backbone.onnx", &endless_network());
    weakrest!("run", "--config", config).exits(3).says(&["did not finish within 3 s"]);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("3000", "60000")).unwrap();
    let service = Service::start(&config);
    std::thread::sleep(Duration::from_millis(500));
    let (code, took) = service.terminate();
    assert!(code == Some(0) && took < Duration::from_secs(2), "{code:?} {took:?}");
}

#[test]
fn a_clock_that_jumps_between_two_starts_costs_the_journal_nothing() {
    let folder = Folder::new();
    let journal = folder.path("journal.sqlite");
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let config = config(&folder, &package, &format!("[journal]\npath = {journal:?}\nkeep_days = 30\n"));
    let mut before = 0;
    for jump in ["+0d", "+800d", "+801d", "-20000d", "+0d"] {
        let run = std::process::Command::new("faketime")
            .args(["-f", jump, PROGRAM, "run", "--seconds", "2", "--config"])
            .arg(&config)
            .output();
        let Ok(run) = run else { return skip("it needs faketime") };
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let rows = rusqlite::Connection::open(&journal).unwrap();
        let parts: i64 = rows.query_row("SELECT count(*) FROM parts", [], |row| row.get(0)).unwrap();
        assert!(parts > before, "{parts} rows after {jump}, {before} before");
        before = parts;
    }
}
