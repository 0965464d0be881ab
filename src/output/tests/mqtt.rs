//! MQTT, with a real broker.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::ErrorKind;
use crate::output::Output;
use crate::output::mqtt::{Mqtt, Settings};
use crate::record::Status;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};

use super::common::*;

const RUN: &str = "0123456789abcdef";

struct Broker {
    port: u16,
    process: Child,
}

impl Broker {
    /// `None`, said aloud, where there is no mosquitto.
    fn start() -> Option<Self> {
        // Free until somebody else asks for a port, which nobody does between here and there.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let Some(process) = Self::run(port) else {
            skip("no mosquitto (Debian: apt install mosquitto): MQTT is not tested");
            return None;
        };
        Some(Broker { port, process })
    }

    fn run(port: u16) -> Option<Child> {
        Self::wait_until_it_listens(port, mosquitto(&["-p", &port.to_string()])?)
    }

    fn wait_until_it_listens(port: u16, mut process: Child) -> Option<Child> {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "mosquitto ended");
            assert!(begun.elapsed() < Duration::from_secs(10), "mosquitto does not listen");
            sleep(Duration::from_millis(10));
        }
        Some(process)
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn restart(&mut self) {
        self.process = Self::run(self.port).unwrap();
    }

    fn settings(&self) -> Settings {
        Settings {
            host: "127.0.0.1".into(),
            port: Some(self.port),
            prefix: "plant/line-4".into(),
            reconnect_ms: 50,
            ..Settings::default()
        }
    }

    fn listen(&self) -> Listener {
        self.listen_as("listener")
    }

    /// Listens for ever, over restarts of the broker, which forgets who listened.
    fn listen_as(&self, id: &str) -> Listener {
        let mut options = MqttOptions::new(id, "127.0.0.1", self.port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = Client::new(options, 10);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (ours, commands) = (Arc::clone(&heard), client.clone());
        thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        commands.try_subscribe("plant/#", QoS::AtLeastOnce).unwrap();
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        ours.lock().unwrap().push(("subscribed".into(), false, Value::Null));
                    }
                    Ok(Event::Incoming(Packet::Publish(p))) => {
                        let value = serde_json::from_slice(&p.payload).unwrap();
                        ours.lock().unwrap().push((p.topic, p.retain, value));
                    }
                    Ok(_) => {}
                    Err(_) => sleep(Duration::from_millis(10)),
                }
            }
        });
        let listener = Listener { heard, _client: client };
        listener.wait_for("a subscription", |heard| heard.iter().any(|h| h.0 == "subscribed"));
        listener
    }
}

/// Debian has it where only root looks.
fn mosquitto(arguments: &[&str]) -> Option<Child> {
    ["mosquitto", "/usr/sbin/mosquitto"].into_iter().find_map(|name| {
        let mut command = Command::new(name);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
    })
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Topic, whether it was retained, and payload.
type Heard = (String, bool, Value);

struct Listener {
    heard: Arc<Mutex<Vec<Heard>>>,
    _client: Client,
}

impl Listener {
    fn wait_for(&self, what: &str, done: impl Fn(&[Heard]) -> bool) {
        let begun = Instant::now();
        while !done(&self.heard.lock().unwrap()) {
            assert!(begun.elapsed() < Duration::from_secs(10), "no {what}: {:?}", self.heard.lock().unwrap());
            sleep(Duration::from_millis(5));
        }
    }

    fn wait_for_state(&self, state: &str) {
        let is = |h: &Heard| h.0 == "plant/line-4/state";
        self.wait_for(state, |heard| heard.iter().rfind(|h| is(h)).is_some_and(|h| h.2["state"] == state));
    }

    /// Part numbers, and whether they are historical, in the order in which they came.
    fn verdicts(&self) -> Vec<(u64, bool)> {
        let heard = self.heard.lock().unwrap();
        let verdicts = heard.iter().filter(|h| h.0 == "plant/line-4/verdict").map(|h| &h.2);
        verdicts.map(|v| (v["part"].as_u64().unwrap(), v["historical"].as_bool().unwrap())).collect()
    }

    fn wait_for_part(&self, part: u64) {
        self.wait_for(&format!("part {part}"), |heard| heard.iter().any(|h| h.2["part"] == part));
    }
}

fn connected(mqtt: &mut Mqtt, status: &Status) {
    let begun = Instant::now();
    while let Err(e) = mqtt.tick(time_of(0), status) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{e:?}");
        sleep(Duration::from_millis(5));
    }
}

fn disconnected(mqtt: &mut Mqtt, status: &Status) {
    let begun = Instant::now();
    while mqtt.tick(time_of(0), status).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10), "still connected");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn verdicts_state_and_counters_arrive() {
    let Some(broker) = Broker::start() else { return };
    let listener = broker.listen();
    let status = status();
    let mut mqtt = Mqtt::new(broker.settings(), RUN).unwrap();
    connected(&mut mqtt, &status);
    status.set_loading(false);
    for record in [pass(1), reject(2), fault(3)] {
        status.count(&record);
        mqtt.publish(&record).unwrap();
    }
    mqtt.tick(time_of(3), &status).unwrap();
    listener.wait_for_part(3);
    listener.wait_for_state("Operational");
    assert_eq!(listener.verdicts(), [(1, false), (2, false), (3, false)]);
    let verdict = listener.heard.lock().unwrap().iter().find(|h| h.2["part"] == 2).unwrap().2.clone();
    let expected = json!({
        "run": RUN, "part": 2, "triggered": "2026-03-04T05:06:09.089Z", "latency_ms": 41.5,
        "verdict": "reject", "fault": null, "reason": null,
        "product": "bottle", "package": "ab".repeat(32), "provider": "cpu", "threshold": 1.0, "recipe": 0,
        "score": 2.5, "features_ms": 20.0, "residuals_ms": 10.0, "classify_ms": 5.0,
        "regions": [{ "x": 3, "y": 4, "width": 10, "height": 8, "peak": 3.5, "area": 60 }],
        "historical": false,
    });
    assert_eq!(verdict, expected);

    // Who comes later is told at once, by what the broker retained.
    let late = broker.listen_as("late");
    late.wait_for_state("Operational");
    late.wait_for("counters", |heard| heard.iter().any(|h| h.0 == "plant/line-4/counters"));
    let retained: BTreeMap<String, Value> =
        late.heard.lock().unwrap().iter().filter(|h| h.1).map(|h| (h.0.clone(), h.2.clone())).collect();
    assert_eq!(retained.keys().collect::<Vec<_>>(), ["plant/line-4/counters", "plant/line-4/state"]);
    let state = &retained["plant/line-4/state"];
    assert_eq!(
        (&state["run"], &state["product"], &state["problems"]),
        (&json!(RUN), &json!("bottle"), &json!({}))
    );
    assert_eq!(retained["plant/line-4/counters"]["run"], RUN);

    mqtt.finish().unwrap();
    late.wait_for_state("offline");
    let after = broker.listen_as("after");
    after.wait_for_state("offline");
    assert_eq!(dropped(&status, "mqtt"), 0);
}

#[test]
fn a_service_that_dies_is_offline() {
    let Some(broker) = Broker::start() else { return };
    let listener = broker.listen();
    let status = status();
    let mut mqtt = Mqtt::new(broker.settings(), RUN).unwrap();
    connected(&mut mqtt, &status);
    listener.wait_for_state("Preoperational");
    drop(mqtt);
    listener.wait_for_state("offline");
    let mut mqtt = Mqtt::new(broker.settings(), RUN).unwrap();
    connected(&mut mqtt, &status);
    listener.wait_for_state("Preoperational");
}

/// The network between the inspector and the broker, which a test can cut.
struct Network {
    port: u16,
    open: Arc<Mutex<(bool, Vec<TcpStream>)>>,
}

impl Network {
    fn to(broker: &Broker) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(Mutex::new((true, Vec::new())));
        let (ours, target) = (Arc::clone(&open), broker.port);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let mut open = ours.lock().unwrap();
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                if !open.0 {
                    continue;
                }
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                open.1 = vec![near.try_clone().unwrap(), far.try_clone().unwrap()];
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)]
                {
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                        let _ = from.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Network { port, open }
    }

    fn cut(&self) {
        let mut open = self.open.lock().unwrap();
        open.0 = false;
        for end in open.1.drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.open.lock().unwrap().0 = true;
    }
}

#[test]
fn what_waited_for_a_killed_broker_comes_later_and_says_so() {
    let Some(mut broker) = Broker::start() else { return };
    let network = Network::to(&broker);
    let status = status();
    let mut mqtt = Mqtt::new(Settings { port: Some(network.port), ..broker.settings() }, RUN).unwrap();
    connected(&mut mqtt, &status);
    let before = broker.listen();
    mqtt.publish(&pass(1)).unwrap();
    before.wait_for_part(1);

    broker.kill();
    disconnected(&mut mqtt, &status);
    for part in 2..=500 {
        let error = mqtt.publish(&pass(part)).unwrap_err();
        assert!(error.chain().contains(&format!("broker 127.0.0.1:{}", network.port)), "{error:?}");
    }
    // A broker keeps nothing for those who do not listen yet.
    network.cut();
    broker.restart();
    let after = broker.listen_as("again");
    network.mend();
    connected(&mut mqtt, &status);
    mqtt.publish(&pass(501)).unwrap();
    after.wait_for_part(501);
    let expected: Vec<_> = (2..=501).map(|part| (part, part != 501)).collect();
    assert_eq!(after.verdicts(), expected, "in order, none lost, none twice");
    assert_eq!(dropped(&status, "mqtt"), 0);
    mqtt.finish().unwrap();
}

#[test]
fn cuts_under_load_lose_nothing_and_double_little() {
    let Some(broker) = Broker::start() else { return };
    let network = Network::to(&broker);
    let listener = broker.listen();
    let status = status();
    let settings = Settings { port: Some(network.port), reconnect_ms: 5, ..broker.settings() };
    let mut mqtt = Mqtt::new(settings, RUN).unwrap();
    connected(&mut mqtt, &status);
    let (parts, cuts) = (6000, 30);
    for part in 1..=parts {
        let _ = mqtt.publish(&pass(part));
        if part % (parts / cuts) == 0 {
            network.cut();
            sleep(Duration::from_millis(part % 7));
            network.mend();
            sleep(Duration::from_millis(10 + part % 11));
        } else if part % 10 == 0 {
            sleep(Duration::from_millis(1));
        }
    }
    connected(&mut mqtt, &status);
    mqtt.finish().unwrap();
    listener.wait_for_part(parts);
    let mut heard: BTreeMap<u64, Vec<bool>> = BTreeMap::new();
    for (part, historical) in listener.verdicts() {
        heard.entry(part).or_default().push(historical);
    }
    let missing: Vec<u64> = (1..=parts).filter(|n| !heard.contains_key(n)).collect();
    assert_eq!((missing, dropped(&status, "mqtt")), (vec![], 0));
    let again: usize = heard.values().map(|h| h.len() - 1).sum();
    assert!(again <= 32 * cuts as usize, "{again} came again, more than were on their way");
    assert!(heard.values().all(|h| h[1..].iter().all(|historical| *historical)), "what comes again says so");
    let late = heard.values().filter(|h| h[0]).count();
    assert!(late > 0, "no cut was felt");
    eprintln!("of {parts} parts {late} came late and {again} again after {cuts} cuts");
}

#[test]
fn the_backlog_is_bounded_and_counts_what_it_drops() {
    let Some(mut broker) = Broker::start() else { return };
    let status = status();
    broker.kill();
    let small = Settings { backlog: 100, ..broker.settings() };
    let mut mqtt = Mqtt::new(small, RUN).unwrap();
    for part in 1..=250 {
        mqtt.publish(&pass(part)).unwrap_err();
    }
    let error = mqtt.tick(time_of(250), &status).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(dropped(&status, "mqtt"), 150);
    let error = mqtt.finish().unwrap_err();
    assert!(error.chain().contains("100 parts"), "{error:?}");
}

#[test]
fn users_and_passwords_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // Hashed by mosquitto_passwd from "correct horse".
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c", file("users").to_str().unwrap(), "inspector", "correct horse"])
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|s| s.success()) {
        return skip("no mosquitto_passwd: MQTT passwords are not tested");
    }
    let configuration = format!(
        "user root\nlistener {port} 127.0.0.1\nallow_anonymous false\npassword_file {}\n",
        file("users").display()
    );
    fs::write(file("mosquitto.conf"), configuration).unwrap();
    let process = mosquitto(&["-c", file("mosquitto.conf").to_str().unwrap()]);
    let Some(process) = process.and_then(|process| Broker::wait_until_it_listens(port, process)) else {
        return skip("no mosquitto: MQTT passwords are not tested");
    };
    let broker = Broker { port, process };
    fs::write(file("right"), "correct horse\n").unwrap();
    fs::write(file("wrong"), "battery staple\n").unwrap();
    let with = |password: &str| Settings {
        username: Some("inspector".into()),
        password_file: Some(file(password)),
        ..broker.settings()
    };
    let status = status();
    let mut mqtt = Mqtt::new(with("right"), RUN).unwrap();
    connected(&mut mqtt, &status);
    let mut mqtt = Mqtt::new(with("wrong"), RUN).unwrap();
    let begun = Instant::now();
    loop {
        let error = mqtt.tick(time_of(0), &status).unwrap_err();
        if error.chain().contains("password is refused") && error.chain().contains("password_file") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{error:?}");
        sleep(Duration::from_millis(10));
    }
    let error = Mqtt::new(with("none"), RUN).err().unwrap();
    assert!(error.chain().starts_with("mqtt.password_file: cannot read"), "{error:?}");
    assert!(!error.chain().contains("none"), "people write the password itself there: {error:?}");
    let mut mqtt = Mqtt::new(broker.settings(), RUN).unwrap();
    told(&mut mqtt, &status, &["without a password", "username"]);
}

/// Waits until the output says all of this.
fn told(mqtt: &mut Mqtt, status: &Status, words: &[&str]) {
    let begun = Instant::now();
    loop {
        let text = mqtt.tick(time_of(0), status).err().map(|e| e.chain()).unwrap_or_default();
        if words.iter().all(|word| text.contains(word)) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "{words:?}: {text}");
        sleep(Duration::from_millis(2));
    }
}

/// A broker that accepts whoever comes and answers pings, and acknowledges verdicts once it is told to.
fn deaf_broker(acknowledges: Arc<AtomicBool>, verdicts: Arc<Mutex<Vec<Value>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move |mut stream: TcpStream| -> std::io::Result<()> {
        let mut byte = [0];
        loop {
            stream.read_exact(&mut byte)?;
            let (kind, mut length, mut shift) = (byte[0], 0, 0);
            loop {
                stream.read_exact(&mut byte)?;
                length |= usize::from(byte[0] & 0x7f) << shift;
                shift += 7;
                if byte[0] < 0x80 {
                    break;
                }
            }
            let mut packet = vec![0; length];
            stream.read_exact(&mut packet)?;
            match (kind >> 4, kind & 6) {
                (1, _) => stream.write_all(&[0x20, 2, 0, 0])?,
                (12, _) => stream.write_all(&[0xd0, 0])?,
                (3, 2) => {
                    let at = 2 + usize::from(u16::from_be_bytes([packet[0], packet[1]]));
                    verdicts.lock().unwrap().push(serde_json::from_slice(&packet[at + 2..]).unwrap());
                    if acknowledges.load(Relaxed) {
                        stream.write_all(&[0x40, 2, packet[at], packet[at + 1]])?;
                    }
                }
                _ => {}
            }
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn({
                let serve = serve.clone();
                move || serve(stream)
            });
        }
    });
    port
}

#[test]
fn what_is_never_acknowledged_is_told_and_sent_again() {
    let (acknowledges, verdicts) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let port = deaf_broker(Arc::clone(&acknowledges), Arc::clone(&verdicts));
    let settings = Settings {
        host: "127.0.0.1".into(),
        port: Some(port),
        prefix: "plant/line-4".into(),
        acknowledge_seconds: 1,
        reconnect_ms: 50,
        backlog: 40,
        ..Settings::default()
    };
    let status = status();
    let mut mqtt = Mqtt::new(settings, RUN).unwrap();
    connected(&mut mqtt, &status);
    for part in 1..=100 {
        let _ = mqtt.publish(&pass(part));
    }
    told(&mut mqtt, &status, &["acknowledges nothing within 1 s", "verdicts are dropped"]);
    // It stays a problem while the next connection is no better.
    for _ in 0..50 {
        let error = mqtt.tick(time_of(0), &status).unwrap_err().chain();
        assert!(error.contains("acknowledges nothing"), "{error}");
        sleep(Duration::from_millis(10));
    }
    acknowledges.store(true, Relaxed);
    // What was dropped is told for good.
    told(&mut mqtt, &status, &["60 verdicts of this run were dropped"]);
    assert_eq!(dropped(&status, "mqtt"), 60);
    mqtt.finish().unwrap();
    let heard = verdicts.lock().unwrap();
    let again: Vec<_> =
        heard.iter().filter(|v| v["historical"] == true).map(|v| v["part"].as_u64()).collect();
    let expected: Vec<_> = (61..=100).map(Some).collect();
    assert!(again.ends_with(&expected), "{again:?}");
}

#[test]
fn another_client_of_the_same_name_is_told_and_not_fought() {
    let Some(broker) = Broker::start() else { return };
    let settings = Settings { reconnect_ms: 30_000, ..broker.settings() };
    let status = status();
    let mut first = Mqtt::new(settings.clone(), RUN).unwrap();
    connected(&mut first, &status);
    let _second = Mqtt::new(settings, RUN).unwrap();
    told(&mut first, &status, &["another client", "client_id", "\"plant/line-4\""]);
    // Connections that are taken over again and again are no sign that all is well.
    let (begun, mut in_a_row) = (Instant::now(), 0);
    while in_a_row < 100 {
        let error = first.tick(time_of(0), &status).err().map(|e| e.chain()).unwrap_or_default();
        in_a_row = if error.contains("another client") { in_a_row + 1 } else { 0 };
        assert!(begun.elapsed() < Duration::from_secs(20), "{error}");
        sleep(Duration::from_millis(10));
    }
}

/// A broker that speaks TLS and wants a certificate, and the folder of everybody's files.
fn tls_broker() -> Option<(Broker, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    for plant in ["plant", "other"] {
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, plant);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(parameters, key).unwrap();
        fs::write(file(&format!("{plant}-ca.pem")), authority.pem()).unwrap();
        for name in ["127.0.0.1", "elsewhere"] {
            let key = KeyPair::generate().unwrap();
            let parameters = CertificateParams::new(vec![name.into()]).unwrap();
            let certificate = parameters.signed_by(&key, &authority).unwrap();
            fs::write(file(&format!("{plant}-{name}.pem")), certificate.pem()).unwrap();
            fs::write(file(&format!("{plant}-{name}.key")), key.serialize_pem()).unwrap();
        }
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let configuration = format!(
        "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nrequire_certificate true\n\
         cafile {0}/plant-ca.pem\ncertfile {0}/plant-127.0.0.1.pem\nkeyfile {0}/plant-127.0.0.1.key\n",
        folder.path().display()
    );
    fs::write(file("mosquitto.conf"), configuration).unwrap();
    let process = mosquitto(&["-c", file("mosquitto.conf").to_str().unwrap()]);
    let Some(process) = process.and_then(|process| Broker::wait_until_it_listens(port, process)) else {
        skip("no mosquitto: MQTT over TLS is not tested");
        return None;
    };
    Some((Broker { port, process }, folder))
}

#[test]
fn tls_proves_both_ends_and_what_is_wrong_is_told_in_words() {
    let Some((broker, folder)) = tls_broker() else { return };
    let file = |name: &str| Some(folder.path().join(name));
    let right = Settings {
        tls: true,
        ca_file: file("plant-ca.pem"),
        certificate_file: file("plant-elsewhere.pem"),
        key_file: file("plant-elsewhere.key"),
        ..broker.settings()
    };
    assert_eq!((right.port(), Settings { port: None, ..right.clone() }.port()), (broker.port, 8883));
    let status = status();
    let mut mqtt = Mqtt::new(right.clone(), RUN).unwrap();
    connected(&mut mqtt, &status);
    (1..=100).for_each(|part| mqtt.publish(&pass(part)).unwrap());
    mqtt.finish().unwrap();

    let wrong = |settings: Settings, words: &[&str]| {
        told(&mut Mqtt::new(settings, RUN).unwrap(), &status, words);
    };
    wrong(broker.settings(), &["the port wants TLS", "tls = true"]);
    wrong(Settings { ca_file: file("other-ca.pem"), ..right.clone() }, &["no authority of ca_file"]);
    match Mqtt::new(Settings { ca_file: None, ..right.clone() }, RUN) {
        Ok(mut mqtt) => told(&mut mqtt, &status, &["set ca_file"]),
        Err(e) => assert!(e.chain().contains("set mqtt.ca_file"), "a system without authorities: {e:?}"),
    }
    wrong(Settings { host: "localhost".into(), ..right.clone() }, &["is not for \"localhost\"", "set host"]);
    let none = Settings { certificate_file: None, key_file: None, ..right.clone() };
    wrong(none, &["certificate_file"]);
    let other = (file("other-elsewhere.pem"), file("other-elsewhere.key"));
    let foreign = Settings { certificate_file: other.0, key_file: other.1.clone(), ..right.clone() };
    wrong(foreign, &["certificate_file"]);

    let Some(plain) = Broker::start() else { return };
    wrong(Settings { port: Some(plain.port), ..right.clone() }, &["does not speak TLS", "8883"]);

    for (settings, words) in [
        (
            Settings { key_file: other.1, ..right.clone() },
            ["mqtt.key_file", "not the key of mqtt.certificate_file"],
        ),
        (Settings { key_file: file("plant-ca.pem"), ..right.clone() }, ["mqtt.key_file", "private key"]),
        (
            Settings { ca_file: file("plant-elsewhere.key"), ..right.clone() },
            ["mqtt.ca_file", "holds no certificate"],
        ),
        (Settings { ca_file: file("none"), ..right }, ["mqtt.ca_file", "cannot read"]),
    ] {
        let error = Mqtt::new(settings, RUN).err().unwrap().chain();
        assert!(error.starts_with(words[0]) && error.contains(words[1]), "{error}");
    }
}

#[test]
fn a_broker_that_never_answers_blocks_nobody() {
    // It accepts connections, in its queue, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let settings = Settings {
        host: "127.0.0.1".into(),
        port: Some(port),
        prefix: "plant/line-4".into(),
        ..Settings::default()
    };
    let mut mqtt = Mqtt::new(settings, RUN).unwrap();
    let begun = Instant::now();
    for part in 1..=1000 {
        mqtt.publish(&pass(part)).unwrap_err();
    }
    mqtt.finish().unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn settings_are_checked() {
    let parse = |text: &str| toml::from_str::<Settings>(text);
    parse("prefix = 'plant/line-4'").unwrap().validate().unwrap();
    for (wrong, key) in [
        ("", "prefix"),
        ("prefix = '/a'", "prefix"),
        ("prefix = 'a/'", "prefix"),
        ("prefix = 'a/+/b'", "prefix"),
        ("prefix = '$SYS'", "prefix"),
        ("prefix = 'a'\nhost = ''", "host"),
        ("prefix = 'a'\nport = 0", "port"),
        ("prefix = 'a'\nclient_id = ''", "client_id"),
        ("prefix = 'a'\npassword_file = '/a'", "username"),
        ("prefix = 'a'\nbacklog = 0", "backlog"),
        ("prefix = 'a'\ncounters_seconds = 0", "counters_seconds"),
        ("prefix = 'a'\nca_file = '/a'", "ca_file"),
        ("prefix = 'a'\ntls = true\ncertificate_file = '/a'", "key_file"),
        ("prefix = 'a'\ntls = true\nkey_file = '/a'", "certificate_file"),
        ("prefix = 'a'\nacknowledge_seconds = 0", "acknowledge_seconds"),
        ("prefix = 'a'\nkeep_alive_seconds = 0", "keep_alive_seconds"),
        ("prefix = 'a'\nreconnect_ms = 0", "reconnect_ms"),
    ] {
        let error = parse(wrong).unwrap().validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.chain().starts_with(&format!("mqtt.{key}: ")), "{error:?}");
    }
}
