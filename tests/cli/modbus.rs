//! A PLC polls the real service, with pymodbus.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::*;
use crate::run::{Service, config, http, parts};

/// A package, its parts, and a configuration with a web page and Modbus. The ports are free.
fn scene(more: &str) -> (Folder, PathBuf, String, u16) {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (web, modbus) = (format!("127.0.0.1:{}", free()), free());
    let more = format!("[web]\nlisten = \"{web}\"\n[modbus]\nlisten = \"127.0.0.1:{modbus}\"\n{more}");
    let config = config(&folder, &package, &more);
    (folder, config, web, modbus)
}

/// A command of `tests/modbus/plc.py`. `None`, said aloud, without pymodbus.
fn plc(task: &str, port: u16, more: &[&str]) -> Option<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python =
        std::env::var_os("WEAKREST_PYTHON").map_or(root.join("target/venv/bin/python"), PathBuf::from);
    let mut has_it = Command::new(&python);
    has_it.args(["-c", "import pymodbus"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !has_it.status().is_ok_and(|status| status.success()) {
        skip("no pymodbus (make python): Modbus is not tested with another program");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(root.join("tests/modbus/plc.py")).arg(task).arg(port.to_string()).args(more);
    Some(command)
}

fn attempted(port: u16, requests: &[&str]) -> Option<Value> {
    let mut command = plc("attempt", port, &[&["127.0.0.1"], requests].concat())?;
    Some(Ran::of(&mut command).exits(0).json())
}

/// Registers from address 0, without a library. `None` if the server is away.
fn registers(port: u16, count: u8) -> Option<Vec<u16>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&[0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, count]).ok()?;
    let mut answer = vec![0; 9 + 2 * usize::from(count)];
    stream.read_exact(&mut answer).ok()?;
    Some(answer[9..].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect())
}

/// Waits until something is so.
#[track_caller]
fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < limit, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends with the test.
struct Ended(Child);

impl Ended {
    fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_taken_port_is_told_with_its_key_and_keeps_no_part_waiting() {
    let (_folder, config, web, port) = scene("");
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let service = Service::start(&config);
    let told = service.wait_for("modbus");
    for text in
        ["weakrest.toml:", ": modbus.listen: cannot listen on 127.0.0.1:", "another program uses that port"]
    {
        assert!(told.contains(text), "{text}: {told}");
    }
    for number in 1..=30 {
        let told = service.part();
        assert_eq!((&told["part"], &told["fault"]), (&number.into(), &Value::Null), "{told}");
    }
    let status: Value = serde_json::from_str(&http(&web, "GET /api/status").1).unwrap();
    assert!(status["problems"]["modbus"]["text"].as_str().unwrap().contains("modbus.listen"), "{status}");
    let metrics = http(&web, "GET /metrics").1;
    assert!(metrics.contains(r#"weakrest_problem{component="modbus",severity="warning"} 1"#), "{metrics}");
    drop(taken);
    service.wait_for("modbus: works again");
    assert_eq!(registers(port, 1), Some(vec![1]));
    weakrest!("check", "--config", &config).exits(0).prints(&[&format!(
        "modbus         on 127.0.0.1:{port}; read by everybody who reaches it; nobody may write"
    )]);
}

#[test]
fn each_run_has_its_own_number_and_refuses_acknowledgments_of_another() {
    let (folder, config, _, port) = scene("allow_write = true\n");
    let Some(mut follower) = plc("follow", port, &["1000000", "3"]) else { return };
    let service = Service::start(&config);
    service.wait_for("ready");
    let follower = follower.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut follower = Ended(follower);
    let lines = BufReader::new(follower.0.stdout.take().unwrap()).lines();
    let mut handled = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let first: Vec<Value> = handled.by_ref().take(15).collect();
    let acknowledge = |run: &Value| {
        let run = run.as_u64().unwrap();
        attempted(port, &[&format!("block,51,{},{},0,1", run >> 16, run & 0xffff)]).unwrap()
    };
    assert_eq!(acknowledge(&first[0]["run"]), json!([0]));
    service.signal("KILL");
    drop(service);
    let service = Service::start(&config);
    service.wait_for("ready");
    // A new configuration of the line is a new run as well.
    let second = handled.find(|verdict| verdict["run"] != first[0]["run"]).unwrap();
    assert_eq!(acknowledge(&first[0]["run"]), json!([3]));
    assert_eq!(acknowledge(&second["run"]), json!([0]));
    let text = std::fs::read_to_string(&config).unwrap();
    folder.file("weakrest.toml", text.replace("rate = 20", "rate = 40").as_bytes());
    service.signal("HUP");
    let third = handled.find(|verdict| verdict["run"] != second["run"]).unwrap();
    assert_ne!(third["run"], first[0]["run"]);
    let mut all = [first.clone(), vec![second, third]].concat();
    all.extend(handled.take(20));
    // Within a run each number follows the one before it, and what it names is that part.
    for pair in all.windows(2).filter(|pair| pair[0]["run"] == pair[1]["run"]) {
        assert_eq!((&pair[1]["missing"], pair[1]["part"].as_u64().is_some()), (&json!(0), true), "{pair:?}");
    }
    for verdict in &all {
        assert_eq!(verdict["part"], verdict["sequence"], "one camera gives parts in their order: {verdict}");
    }
    let verdicts = |value: u64| all.iter().filter(|verdict| verdict["verdict"] == value).count();
    assert!(verdicts(1) > 5 && verdicts(2) > 1, "{all:?}");
}

#[test]
fn a_plc_that_is_stopped_is_told_and_the_line_goes_on() {
    let (_folder, config, web, port) = scene("require_poll_seconds = 1\n");
    let Some(mut poller) = plc("poll", port, &["0.005"]) else { return };
    let service = Service::start(&config);
    service.wait_for("ready");
    let mut poller = Ended(poller.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(poller.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("run"), "{line}");
    let problem = || {
        let status: Value = serde_json::from_str(&http(&web, "GET /api/status").1).unwrap();
        status["problems"].get("modbus").map(|problem| problem["text"].as_str().unwrap().to_owned())
    };
    until("it polls", || problem().is_none().then_some(()));
    poller.signal("STOP");
    // Others, stopped with answers on their way to them.
    let request = [0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 60].repeat(1000);
    let stopped: Vec<TcpStream> = (0..6).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    for mut stream in &stopped {
        stream.set_nonblocking(true).unwrap();
        while stream.write(&request).is_ok() {}
    }
    drop(stopped);
    let told = until("it is told", problem);
    assert_eq!(told, "no PLC has polled for 1 s; check the network and the PLC");
    let first = service.part()["part"].as_u64().unwrap();
    let begun = Instant::now();
    for part in first + 1..=first + 20 {
        let told = service.part();
        assert_eq!((told["part"].as_u64(), &told["fault"]), (Some(part), &Value::Null), "{told}");
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "20 parts in {:?}", begun.elapsed());
    poller.signal("CONT");
    until("it polls again", || problem().is_none().then_some(()));
    drop(poller);
    assert_eq!(service.terminate().0, Some(0));
}

#[test]
fn a_plc_halts_and_resumes_on_record() {
    let (_folder, config, web, port) = scene("allow_write = true\n");
    if plc("attempt", port, &[]).is_none() {
        return;
    }
    let service = Service::start(&config);
    service.wait_for("ready");
    assert_eq!(attempted(port, &["write,50,0", "write,50,2"]).unwrap(), json!([0, 0]));
    let status: Value = serde_json::from_str(&http(&web, "GET /api/status").1).unwrap();
    assert_eq!((&status["state"], &status["halted"]["by"]), (&json!("Halted"), &json!("person")), "{status}");
    assert_eq!(until("halted", || registers(port, 60).filter(|r| r[4] == 2))[55], 1);
    while service.part()["fault"] != "halted" {}
    let halted = until("a verdict", || registers(port, 60).filter(|r| r[15] == 12));
    assert_eq!(halted[14], 4, "a fault");
    // A camera that runs freely cannot be triggered.
    let told = attempted(port, &["write,50,0", "write,50,3", "write,50,0", "write,50,1"]).unwrap();
    assert_eq!(told, json!([0, 0, 0, 4]));
    service.wait_for("a command from 127.0.0.1 failed: ");
    while service.part()["verdict"] != "pass" {}
    let audit = config.with_file_name("weakrest.toml.state").join("audit.jsonl");
    let text = std::fs::read_to_string(&audit).unwrap();
    let changes: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<Value> = changes.iter().skip(1).map(|c| json!([c["who"], c["from"], c["what"]])).collect();
    assert_eq!(told, [json!(["plc", "127.0.0.1", "halt"]), json!(["plc", "127.0.0.1", "resume"])]);
    assert_eq!(service.terminate().0, Some(0));
}
