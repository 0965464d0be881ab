//! A plant of three inspectors on this machine, with a real broker and a real Prometheus, set up by the files of
//! `examples/fleet`.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

use crate::common::*;
use crate::install::{Certificate, Server, Signer};
use crate::run::{Service, http, parts};

/// Line and name of each inspector, and the parts that each gets to see.
const INSPECTORS: [(&str, &str, u64); 3] =
    [("line-1", "inspector-1", 4), ("line-1", "inspector-2", 7), ("line-2", "inspector-3", 5)];

fn example(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fleet").join(name)).unwrap()
}

/// Debian has some programs where only root looks.
pub fn program(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&folders).chain(["/usr/sbin".into()]);
    all.map(|folder| folder.join(name)).find(|path| path.is_file())
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program that runs until it is dropped, and listens on a port.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(program: &Path, arguments: &[&str], port: u16) -> Daemon {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut daemon = Daemon(command.spawn().unwrap());
        wait_for(&format!("{}", program.display()), || {
            assert!(daemon.0.try_wait().unwrap().is_none(), "{} ended", program.display());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(result) = done() {
            return result;
        }
        assert!(Instant::now() < limit, "{what}: waited in vain");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The broker of the example, on a free port.
fn broker(folder: &Folder) -> Option<(Daemon, u16)> {
    let (Some(mosquitto), Some(passwords)) = (program("mosquitto"), program("mosquitto_passwd")) else {
        skip("no mosquitto (Debian: apt install mosquitto): the fleet is not tested");
        return None;
    };
    let file = folder.path("weakrest.passwords");
    for (i, user) in INSPECTORS.iter().map(|i| i.1).chain(["dashboard"]).enumerate() {
        let create: &[&str] = if i == 0 { &["-c"] } else { &[] };
        let secret = format!("secret of {user}");
        let made = Command::new(&passwords)
            .args(create)
            .arg("-b")
            .arg(&file)
            .args([user, &secret])
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        folder.file(format!("{user}.password"), format!("{secret}\n").as_bytes());
    }
    folder.file("weakrest.acl", example("weakrest.acl").as_bytes());
    let port = free_port();
    let mut text = example("mosquitto.conf");
    for (from, to) in [
        ("listener 1883\n", format!("listener {port} 127.0.0.1\n")),
        ("/etc/mosquitto/", format!("{}/", folder.path("").display())),
    ] {
        assert!(text.contains(from));
        text = text.replace(from, &to);
    }
    // The files are of whoever runs the test.
    let conf = folder.file("mosquitto.conf", format!("user root\n{text}").as_bytes());
    Some((Daemon::start(&mosquitto, &["-c", conf.to_str().unwrap()], port), port))
}

/// Everything that a user hears of the plant through one subscription: the last JSON per topic, and all verdicts.
#[derive(Default)]
struct Heard {
    last: BTreeMap<String, Value>,
    verdicts: BTreeMap<String, Vec<Value>>,
}

fn listen(port: u16, user: &str, topic: &'static str) -> Arc<Mutex<Heard>> {
    let mut options = MqttOptions::new(format!("{user} listens"), "127.0.0.1", port);
    options.set_credentials(user, format!("secret of {user}"));
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut connection) = Client::new(options, 10);
    let heard = Arc::new(Mutex::new(Heard::default()));
    let ours = Arc::clone(&heard);
    let (tell, subscribed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        client.subscribe(topic, QoS::AtLeastOnce).unwrap();
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::SubAck(_))) => tell.send(()).unwrap(),
                Ok(Event::Incoming(Packet::Publish(p))) => {
                    let value: Value = serde_json::from_slice(&p.payload).unwrap();
                    let mut heard = ours.lock().unwrap();
                    if p.topic.ends_with("/verdict") {
                        heard.verdicts.entry(p.topic.clone()).or_default().push(value.clone());
                    }
                    heard.last.insert(p.topic, value);
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    subscribed.recv_timeout(Duration::from_secs(20)).unwrap();
    heard
}

/// What Prometheus answers to a query: the value by device, or by the label that is named.
fn ask(prometheus: &str, query: &str, label: &str) -> BTreeMap<String, (String, f64)> {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let (status, body) = http(prometheus, &format!("GET /api/v1/query?query={encoded}"));
    assert_eq!(status, 200, "{body}");
    let json = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
    let answer: Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {body}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let results = answer["data"]["result"].as_array().unwrap().clone();
    results
        .iter()
        .map(|r| {
            let device = text(&r["metric"]["device"]);
            (device, (text(&r["metric"][label]), text(&r["value"][1]).parse().unwrap()))
        })
        .collect()
}

/// How many parts of each verdict a journal holds.
fn journal(path: &Path) -> BTreeMap<String, f64> {
    let database = rusqlite::Connection::open(path).unwrap();
    let mut select = database.prepare("SELECT verdict, count(*) FROM parts GROUP BY verdict").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_plant_is_seen_through_one_broker_and_one_prometheus_and_updated_one_by_one() {
    let folder = Folder::new();
    let Some((_broker, port)) = broker(&folder) else { return };
    let Some(prometheus) = program("prometheus") else {
        return skip("no prometheus (Debian: apt install prometheus): the fleet is not tested");
    };
    let signer = Signer::new();
    parts(&folder);
    let package = folder.signed_package("released/disc", &signer, 1000);
    let dashboard = listen(port, "dashboard", "plant/#");
    // One inspector's user does not hear what another says.
    let nosy = listen(port, "inspector-1", "plant/#");

    let mut services = Vec::new();
    let mut targets = String::new();
    for (line, device, _) in INSPECTORS {
        let web = format!("127.0.0.1:{}", free_port());
        let at = |what: &str| folder.path(format!("{device}/{what}"));
        folder.folder(device);
        weakrest!("package", "install", package, at("product.weakrest"), "--key", signer.key()).exits(0);
        let text = format!(
            "[inspection]\npackage = {:?}\npublic_keys = [{:?}]\nthreads = 1\n\
             [camera]\nkind = \"folder\"\npath = {:?}\nrate = 20\n[trigger]\nsource = \"software\"\n\
             [line]\ntravel_ms = 10000\ndeadline_ms = 10000\n\
             [journal]\npath = {:?}\n[web]\nlisten = {web:?}\n\
             [mqtt]\nhost = \"127.0.0.1\"\nport = {port}\nprefix = \"plant/{line}/{device}\"\n\
             username = {device:?}\npassword_file = {:?}\ncounters_seconds = 1\n",
            at("product.weakrest"),
            signer.key(),
            folder.path("parts"),
            at("journal.sqlite"),
            folder.path(format!("{device}.password")),
        );
        let config = folder.file(format!("{device}/weakrest.toml"), text.as_bytes());
        targets +=
            &format!("- targets: [{web:?}]\n  labels: {{plant: plant, line: {line}, device: {device}}}\n");
        services.push((Service::start(&config), config, web));
    }
    for name in ["prometheus.yml", "alerts.yml"] {
        folder.file(format!("prometheus/{name}"), example(name).as_bytes());
    }
    folder.file("prometheus/inspectors.yml", targets.as_bytes());
    let address = format!("127.0.0.1:{}", free_port());
    let _prometheus = Daemon::start(
        &prometheus,
        &[
            &format!("--config.file={}", folder.path("prometheus/prometheus.yml").display()),
            &format!("--storage.tsdb.path={}", folder.path("prometheus/data").display()),
            &format!("--web.listen-address={address}"),
        ],
        address.rsplit(':').next().unwrap().parse().unwrap(),
    );

    for ((service, _, web), (_, _, count)) in services.iter().zip(INSPECTORS) {
        service.wait_for("ready");
        for part in 1..=count {
            assert_eq!(http(web, "POST /api/trigger").0, 200);
            assert_eq!(service.part()["part"], part);
        }
    }

    // Everybody is up, and what Prometheus counts is what the journals hold.
    let up = wait_for("three inspectors are up", || {
        let up = ask(&address, "up", "line");
        (up.len() == 3 && up.values().all(|(_, value)| *value == 1.0)).then_some(up)
    });
    assert_eq!(
        up.iter().map(|(d, (l, _))| (l.as_str(), d.as_str())).collect::<Vec<_>>(),
        INSPECTORS.map(|(line, device, _)| (line, device))
    );
    wait_for("all parts are counted", || {
        let counted = ask(&address, "weakrest_parts_total", "line");
        INSPECTORS
            .iter()
            .all(|(_, device, count)| counted.get(*device).is_some_and(|c| c.1 == *count as f64))
            .then_some(())
    });
    let mut seen = 0.0;
    for (_, device, count) in INSPECTORS {
        let kept = wait_for("the journal is written", || {
            let kept = journal(&folder.path(format!("{device}/journal.sqlite")));
            (kept.values().sum::<f64>() == count as f64).then_some(kept)
        });
        for (verdict, metric) in [("pass", "weakrest_passes_total"), ("reject", "weakrest_rejects_total")] {
            let counted = ask(&address, metric, "line")[device].1;
            assert_eq!(counted, kept.get(verdict).copied().unwrap_or_default(), "{device} {verdict}");
            seen += counted;
        }
    }
    assert_eq!(seen, 16.0, "no part is a fault");

    // One subscription heard every verdict, each below its line's and device's topic.
    let topic = |line: &str, device: &str, what: &str| format!("plant/{line}/{device}/{what}");
    wait_for("all verdicts are heard", || {
        let heard = dashboard.lock().unwrap();
        let told = |(line, device, count): &(&str, &str, u64)| {
            heard.verdicts.get(&topic(line, device, "verdict")).is_some_and(|v| v.len() == *count as usize)
        };
        INSPECTORS.iter().all(told).then_some(())
    });
    assert_eq!(dashboard.lock().unwrap().verdicts.len(), 3);
    assert!(nosy.lock().unwrap().last.is_empty(), "{:?}", nosy.lock().unwrap().last.keys());

    // A signed package reaches the second inspector, and nobody else.
    let certificate = Certificate::new(&folder, "localhost");
    let server = Server::start(&folder.path("released"), &certificate);
    let new = folder.signed_package("released/disc-2", &signer, 2000);
    let url = format!("https://localhost:{}/disc-2", server.port);
    let (service, config, _) = &services[1];
    weakrest!("package", "install", url, "--config", config, "--ca", certificate.authority)
        .exits(0)
        .prints(&["is installed", "timestamp:2000"]);
    service.signal("HUP");
    service.wait_for("is in use");
    let hash = |package: &Path| sha256(&fs::read(package.join("package.toml")).unwrap());
    let expected: BTreeMap<String, (String, f64)> = INSPECTORS
        .iter()
        .map(|(_, device, _)| {
            let used = if *device == "inspector-2" { &new } else { &package };
            (device.to_string(), (hash(used), 1.0))
        })
        .collect();
    wait_for("Prometheus sees the new package", || {
        (ask(&address, "weakrest_info", "package") == expected).then_some(())
    });
    wait_for("the broker is told of the new package", || {
        let heard = dashboard.lock().unwrap();
        (heard.last[&topic("line-1", "inspector-2", "state")]["package"] == hash(&new)).then_some(())
    });

    // And one that somebody put there without the key does not get into use, not even after a restart.
    forge(&folder.path("inspector-2/product.weakrest"), |t| t.replacen("made_by = \"", "made_by = \"me ", 1));
    service.signal("HUP");
    let line = service.wait_for("the previous configuration stays in use");
    assert!(line.contains("the signature is not of this package"), "{line}");
    weakrest!("run", "--config", config, "--seconds", "1")
        .exits(3)
        .says(&["the signature is not of this package"]);
    weakrest!("check", "--config", config).exits(3).says(&["the signature is not of this package"]);
    weakrest!("package", "rollback", "--config", config).exits(0).prints(&[&hash(&package)]);
    service.signal("HUP");
    service.wait_for("is in use");
    weakrest!("check", "--config", config).exits(0).prints(&["signature      timestamp:1000"]);

    // Who dies is seen by both.
    services.remove(2).0.signal("KILL");
    wait_for("the broker tells who is gone", || {
        let heard = dashboard.lock().unwrap();
        (heard.last[&topic("line-2", "inspector-3", "state")]["state"] == "offline").then_some(())
    });
    wait_for("Prometheus sees who is gone", || {
        (ask(&address, "up", "line")["inspector-3"].1 == 0.0).then_some(())
    });
    wait_for("Prometheus raises the alarm", || {
        let alarms = ask(&address, "ALERTS{alertname=\"InspectorDown\", alertstate=\"firing\"}", "alertname");
        alarms.keys().eq(["inspector-3"]).then_some(())
    });
}

#[test]
fn the_alerts_are_raised_when_they_should_be() {
    let Some(promtool) = program("promtool") else {
        return skip("no promtool (Debian: apt install prometheus): the alerts are not tested");
    };
    let folder = Folder::new();
    for name in ["prometheus.yml", "alerts.yml", "inspectors.yml"] {
        folder.file(name, example(name).as_bytes());
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fleet/alerts_test.yml");
    folder.file("alerts_test.yml", &fs::read(tests).unwrap());
    for arguments in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
    ] {
        let mut command = Command::new(&promtool);
        Ran::of(command.args(arguments).current_dir(folder.path(""))).exits(0);
    }
}
