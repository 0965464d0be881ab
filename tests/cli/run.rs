//! `weakrest run` as systemd and an operator use it: the real binary on a folder of pictures.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::*;

/// A running service and what it prints.
pub struct Service {
    child: Child,
    parts: Receiver<Value>,
    said: Receiver<String>,
}

impl Service {
    pub fn start(config: &Path) -> Service {
        Self::with(config, &[])
    }

    pub fn with(config: &Path, environment: &[(&str, &str)]) -> Service {
        let mut child = Command::new(PROGRAM)
            .args(["run", "--json", "--config"])
            .arg(config)
            .envs(environment.iter().copied())
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (to_parts, parts) = channel();
        let (to_said, said) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = to_parts.send(serde_json::from_str(&line).unwrap());
            }
        });
        let err = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in err.lines().map_while(Result::ok) {
                let _ = to_said.send(line);
            }
        });
        Service { child, parts, said }
    }

    #[track_caller]
    pub fn part(&self) -> Value {
        self.parts.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| {
            panic!("no part; said:\n{}", self.said.try_iter().collect::<Vec<_>>().join("\n"))
        })
    }

    /// The parts that nobody asked for yet.
    pub fn parts_so_far(&self) -> Vec<Value> {
        self.parts.try_iter().collect()
    }

    /// Waits until it says a line with `text`.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        let limit = Instant::now() + Duration::from_secs(20);
        let mut all = Vec::new();
        while let Ok(line) = self.said.recv_timeout(limit.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return line;
            }
            all.push(line);
        }
        panic!("{text:?} is not said in\n{}", all.join("\n"));
    }

    /// Stops it. Returns all that it said and nobody waited for.
    pub fn said_until_end(self) -> Vec<String> {
        self.signal("TERM");
        let said = std::iter::from_fn(|| self.said.recv_timeout(Duration::from_secs(20)).ok());
        said.collect()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.map(|name| name.trim().to_owned()).collect()
    }

    /// Ends it as systemd does; gives the exit code and how long it took.
    pub fn terminate(mut self) -> (Option<i32>, Duration) {
        let start = Instant::now();
        self.signal("TERM");
        let code = self.child.wait().unwrap().code();
        (code, start.elapsed())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn config(folder: &Folder, package: &Path, more: &str) -> PathBuf {
    let text = format!(
        "[inspection]\npackage = {package:?}\nthreads = 1\n\n[camera]\nkind = \"folder\"\npath = {:?}\nrate = 20\n{more}",
        folder.path("parts")
    );
    folder.file("weakrest.toml", text.as_bytes())
}

/// Four good parts, a dented one, and so on.
pub fn parts(folder: &Folder) {
    for i in 0..10u64 {
        let dented = i % 5 == 4;
        let picture = if dented { dented_part(300 + i) } else { part(300 + i) };
        folder.picture(format!("parts/{i:02}.png"), &picture);
    }
}

#[test]
fn a_program_is_a_camera_and_is_started_again_when_it_dies() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    let raw = |name: &str, picture: &image::DynamicImage| folder.file(name, picture.to_rgb8().as_raw());
    let (good, dented) = (raw("good.raw", &part(300)), raw("dented.raw", &dented_part(301)));
    let pid = folder.path("pid");
    let script = format!(
        "echo $$ > {pid:?}; echo hello from the sensor >&2; while cat {good:?} && sleep 0.05 && cat {dented:?}; do sleep 0.05; done"
    );
    let camera = format!(
        "kind = \"command\"\ncommand = [\"sh\", \"-c\", {script:?}]\nformat = \"rgb24\"\nwidth = {}\nheight = {}\n",
        SIZE.0, SIZE.1
    );
    let config = config(&folder, &package, "");
    let text = std::fs::read_to_string(&config).unwrap();
    let from = text.find("kind = \"folder\"").unwrap();
    std::fs::write(&config, format!("{}{camera}", &text[..from])).unwrap();
    weakrest!("check", "--config", config).exits(0).prints(&["camera         gives 96×80, color"]);

    let service = Service::start(&config);
    service.wait_for("sh: hello from the sensor");
    let judged = |service: &Service| {
        let told = service.part();
        assert_eq!(told["fault"], Value::Null, "{told}");
        told["verdict"].as_str().unwrap().to_owned()
    };
    let both: Vec<String> = (0..6).map(|_| judged(&service)).collect();
    for verdict in ["pass", "reject"] {
        assert_eq!(both.iter().filter(|v| *v == verdict).count(), 3, "{both:?}");
    }
    let first = std::fs::read_to_string(&pid).unwrap();
    assert!(Command::new("kill").args(["-KILL", first.trim()]).status().unwrap().success());
    service.wait_for("the program sh ended");
    // The parts before its end are told first.
    for _ in 0..20 {
        judged(&service);
    }
    let second = std::fs::read_to_string(&pid).unwrap();
    assert_ne!(first, second);
    assert_eq!(service.terminate().0, Some(0));
    let left = std::fs::read_to_string(format!("/proc/{}/status", second.trim())).unwrap_or_default();
    assert!(left.is_empty() || left.contains("Z (zombie)"), "{left}");
}

#[test]
fn the_service_judges_as_the_command_does() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let offline: Vec<f64> = weakrest!("inspect", package, folder.path("parts"), "--json")
        .exits(1)
        .json_lines()
        .iter()
        .map(|line| line["score"].as_f64().unwrap())
        .collect();
    // A busy machine is slow.
    let service = Service::start(&config(&folder, &package, "[line]\ntravel_ms = 9000\n"));
    for number in 1..=25 {
        let told = service.part();
        assert_eq!(told["part"], number, "{told}");
        assert_eq!(told["fault"], Value::Null, "{told}");
        let score = told["score"].as_f64().unwrap();
        let at =
            offline.iter().position(|s| (s - score).abs() < 1e-4 * s).unwrap_or_else(|| panic!("{told}"));
        assert_eq!(told["verdict"], if at % 5 == 4 { "reject" } else { "pass" });
        assert_eq!(told["regions"].as_array().unwrap().is_empty(), at % 5 != 4);
    }
    let (code, took) = service.terminate();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_service_that_was_killed_starts_again() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let config = config(&folder, &package, "");
    for _ in 0..2 {
        let service = Service::start(&config);
        assert_eq!(service.part()["part"], 1);
        service.signal("KILL");
    }
}

#[test]
fn what_keeps_the_service_from_starting_is_told() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let good = config(&folder, &package, "");
    weakrest!("run", "--config", folder.path("none.toml")).exits(3).says(&["none.toml"]);
    let bad = folder.file("bad.toml", b"[inspection]\npackage = 3\n");
    weakrest!("run", "--config", bad).exits(2).says(&["bad.toml:2: inspection.package: "]);
    let text = std::fs::read_to_string(&good).unwrap();
    let with = |more: &str| folder.file("with.toml", format!("{text}{more}").as_bytes());
    weakrest!("run", "--config", with("[line]\nchip = \"/dev/none\"\nreject = 5\n"))
        .exits(3)
        .says(&["line 5 of /dev/none", "gpioinfo"]);
    weakrest!("release", "--config", with("[line]\nchip = \"/dev/none\"\nreject = 5\n"))
        .exits(3)
        .says(&["line 5 of /dev/none", "gpioinfo"]);
    weakrest!("release", "--config", &good).exits(0);
    weakrest!("run", "--config", with("[trigger]\nsource = \"gpio\"\nchip = \"/dev/none\"\nline = 5\n"))
        .exits(3)
        .says(&["line 5 of /dev/none"]);
    let cuda = text.replace("threads = 1", "providers = [\"cuda\", \"cpu\"]\nrequire = \"cuda\"");
    weakrest!("run", "--config", folder.file("cuda.toml", cuda.as_bytes())).exits(3).says(&[
        "the provider cuda cannot be used",
        "was built without cuda",
        "inspection.onnxruntime",
    ]);

    let mut bank = std::fs::read(package.join("bank-1.safetensors")).unwrap();
    let middle = bank.len() / 2;
    bank[middle] ^= 1;
    std::fs::write(package.join("bank-1.safetensors"), bank).unwrap();
    weakrest!("run", "--config", good).exits(3).says(&["disc.weakrest", "bank-1.safetensors", "changed"]);
}

#[test]
fn a_provider_that_is_not_required_is_passed_over_and_the_real_one_told() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let config = config(&folder, &package, "");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("threads = 1", "providers = [\"tensorrt\", \"cuda\", \"cpu\"]");
    std::fs::write(&config, text).unwrap();
    weakrest!("check", "--config", config).exits(0).prints(&[
        "providers      tensorrt asked for, but ",
        "was built without cuda; install an ONNX Runtime built for this machine's JetPack or CUDA",
        "network        efficientnet-lite1 runs on cpu\n",
        "all is well, but efficientnet-lite1 runs on cpu only",
    ]);
    let service = Service::start(&config);
    service.wait_for("the provider tensorrt cannot be used");
    service.wait_for("the provider cuda cannot be used");
    service.wait_for("networks run on cpu");
    assert_eq!(service.part()["part"], 1);
}

#[test]
fn a_reload_swaps_the_package_between_two_parts_and_a_bad_one_changes_nothing() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let config = config(&folder, &package, "");
    let service = Service::start(&config);
    let first = service.part()["package"].clone();

    // Another package in its place.
    let good = folder.good_parts("good", 500, 10);
    enroll(&good, &package, &["--overwrite"]).exits(0);
    service.signal("HUP");
    service.wait_for("is in use");
    let second = loop {
        let told = service.part();
        if told["package"] != first {
            break told["package"].clone();
        }
    };

    // A package whose golden pictures fail, a configuration with a slip, and none at all.
    forge(&package, |text| {
        let at = text.find("score = ").unwrap();
        format!("{}score = 9{}", &text[..at], &text[at + 8..])
    });
    service.signal("HUP");
    let line = service.wait_for("the previous configuration stays in use");
    assert!(line.contains("golden"), "{line}");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("rate", "rote")).unwrap();
    service.signal("HUP");
    let line = service.wait_for("the previous configuration stays in use");
    assert!(line.contains("rote"), "{line}");
    std::fs::remove_file(&config).unwrap();
    service.signal("HUP");
    service.wait_for("the previous configuration stays in use");

    let mut numbers = Vec::new();
    for _ in 0..10 {
        let told = service.part();
        assert_eq!((&told["package"], &told["fault"]), (&second, &Value::Null), "{told}");
        numbers.push(told["part"].as_u64().unwrap());
    }
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "{numbers:?}");

    // And another rate sets the line up anew.
    std::fs::write(&config, text.replace("rate = 20", "rate = 40")).unwrap();
    enroll(&good, &package, &["--overwrite"]).exits(0);
    service.signal("HUP");
    service.wait_for("restarting the line");
    while service.part()["part"] != 1 {}
}

#[test]
fn a_check_tells_what_the_service_would_find() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let journal = folder.path("journal.sqlite");
    let more = format!("[journal]\npath = {journal:?}\n[pictures]\nfolder = {:?}\n", folder.path("kept"));
    let config = config(&folder, &package, &more);
    let service = Service::start(&config);
    let last = (0..12).map(|_| service.part()["part"].as_u64().unwrap()).max().unwrap();
    assert_eq!(service.terminate().0, Some(0));
    let shot = folder.path("shot.png");
    let ran = weakrest!("check", "--config", config, "--picture", shot).exits(0).prints(&[
        "is intact",
        "network        efficientnet-lite1 runs on cpu",
        "96×80, color",
        "reject line    none",
        "in 1 runs, 0 duplicate, 0 missing",
        "all is well\n",
    ]);
    let counted = ran.out.lines().find(|l| l.starts_with("journal")).unwrap();
    let counted: u64 = counted.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(counted >= last, "{counted} {last}");
    assert_eq!(image::image_dimensions(shot).unwrap(), (96, 80));
    // Rejects are kept as pictures.
    let kept = files(&folder.path("kept"));
    assert!(kept.iter().any(|f| f.to_string_lossy().ends_with("reject.overlay.jpg")), "{kept:?}");

    let text = std::fs::read_to_string(&config).unwrap();
    let turned = folder.file("turned.toml", format!("{text}[framing]\nrotation = 90\n").as_bytes());
    weakrest!("check", "--config", turned).exits(3).says(&["96x80", "80x96", "enroll"]);
    let none = folder.file("none.toml", text.replace("parts", "none").as_bytes());
    weakrest!("check", "--config", none).exits(3).says(&["camera.path", "none"]);

    // Without the right to a real-time priority and to locked memory; root's does not depend on limits.
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let mut without = Command::new(if root { "setpriv" } else { "env" });
    without.args(root.then_some("--bounding-set=-sys_nice,-ipc_lock"));
    without.args(["prlimit", "--rtprio=0", "--memlock=65536", PROGRAM, "check", "--config"]).arg(&config);
    Ran::of(&mut without).exits(0).prints(&[
        "no real-time priority",
        "LimitRTPRIO=20",
        "memory is not locked",
        "LimitMEMLOCK=infinity",
        "all is well",
    ]);
}

/// As the template unit starts them: one configuration and one state folder each.
#[test]
fn four_inspectors_on_one_machine_share_nothing_and_miss_no_part() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let own = |name: &str| {
        let line = folder.path(name);
        let more = format!(
            "[health]\nfrozen = 0\n[line]\ntravel_ms = 9000\nrecord = {:?}\n[journal]\npath = {:?}\n",
            line.with_extension("edges"),
            line.with_extension("sqlite")
        );
        let written = config(&folder, &package, &more);
        std::fs::rename(written, line.with_extension("toml")).unwrap();
        Service::start(&line.with_extension("toml"))
    };
    let mut services: Vec<Service> = ["left", "right", "top", "bottom"].map(own).into();
    for service in &services {
        service.wait_for("ready");
    }
    // One that dies takes no other with it.
    services.remove(2).signal("KILL");
    for service in services {
        for number in 1..=10 {
            let part = service.part();
            assert_eq!((&part["part"], &part["fault"]), (&number.into(), &Value::Null), "{part}");
        }
        assert_eq!(service.terminate().0, Some(0));
    }
}

/// What was between camera and gate was known to the process that died alone.
#[test]
fn after_a_kill_whatever_comes_to_the_gate_is_rejected() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    for i in 0..4u64 {
        folder.picture(format!("parts/{i}.png"), &part(300 + i));
    }
    let edges = folder.path("edges");
    let line = format!("[line]\nrecord = {edges:?}\ntravel_ms = 900\npulse_ms = 100\n");
    let config = config(&folder, &package, &line);
    // How long the gate rejected at the start, in milliseconds.
    let rejected = || {
        std::fs::write(&edges, "").unwrap();
        let service = Service::start(&config);
        service.wait_for("ready");
        std::thread::sleep(Duration::from_millis(1_500));
        let text = std::fs::read_to_string(&edges).unwrap();
        let mut times = text.lines().filter(|l| l.contains(" reject ")).map(|l| {
            let (at, level) = l.split_once(" reject ").unwrap();
            (at.parse::<u64>().unwrap() / 1_000_000, level == "1")
        });
        let (begin, end) = (times.next(), times.next());
        assert_eq!(times.next(), None, "{text}");
        (service, begin.map(|(begin, _)| end.unwrap().0 - begin))
    };
    let (service, time) = rejected();
    assert_eq!(time, None);
    service.signal("KILL");
    drop(service);
    let (service, time) = rejected();
    assert!(time.is_some_and(|time| (950..1_300).contains(&time)), "{time:?}");
    assert_eq!(service.terminate().0, Some(0));
    let (_, time) = rejected();
    assert_eq!(time, None);
}

/// A pulse that was not given before a crash; how it is noticed is seen in simulated time.
#[test]
fn an_alarm_outlives_reloads_and_restarts_until_a_person_resumes() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let more = format!("[trigger]\nsource = \"software\"\n[web]\nlisten = \"{address}\"\n");
    let config = config(&folder, &package, &more);
    let text = "the pulse of part 17 was not given in time";
    let alarm = folder.file("weakrest.toml.state/alarms.json", format!("{{\"gate\": {text:?}}}").as_bytes());
    let told = || {
        let status: Value = serde_json::from_str(&http(&address, "GET /api/status").1).unwrap();
        assert_eq!(status["latched"].as_bool().unwrap(), status["problems"]["gate"].is_object(), "{status}");
        (status["state"].as_str().unwrap().to_owned(), status["problems"]["gate"]["text"] == text)
    };
    for signal in ["KILL", "TERM"] {
        let service = Service::start(&config);
        service.wait_for("ready");
        assert_eq!(told(), ("Error".into(), true));
        service.signal(signal);
    }
    let service = Service::start(&config);
    service.wait_for("ready");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("rate = 20", "rate = 10")).unwrap();
    service.signal("HUP");
    service.wait_for("restarting the line");
    service.wait_for("gate: the pulse of part 17");
    assert!(alarm.exists());
    let limit = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(&address).is_err() || told() != ("Error".into(), true) {
        assert!(Instant::now() < limit);
    }
    assert_eq!(http(&address, "POST /api/resume").0, 200);
    assert_eq!(told(), ("Operational".into(), false));
    assert_eq!(service.terminate().0, Some(0));
    assert!(!alarm.exists());
}

#[test]
fn systemd_hears_when_it_is_ready_alive_and_stopping() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let path = folder.path("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hears = |wanted: &str| {
        let mut buffer = [0; 4096];
        let limit = Instant::now() + Duration::from_secs(20);
        while Instant::now() < limit {
            let length = socket.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains(wanted) {
                return text;
            }
        }
        panic!("{wanted} is not heard");
    };
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "1000000")];
    let service = Service::with(&config(&folder, &package, ""), &environment);
    hears("READY=1");
    assert!(hears("WATCHDOG=1").contains("STATUS="));
    service.part();
    // Two pings within the interval that systemd grants.
    let start = Instant::now();
    hears("WATCHDOG=1");
    hears("WATCHDOG=1");
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    assert_eq!(service.terminate().0, Some(0));
    hears("STOPPING=1");
}

#[test]
fn outputs_that_cannot_be_opened_keep_no_part_waiting() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let more = format!(
        "[journal]\npath = \"/proc/none/journal.sqlite\"\n[pictures]\nfolder = \"/proc/none\"\n\
         [mqtt]\nprefix = \"disc\"\nport = 9\n[web]\nlisten = \"{address}\"\n"
    );
    let service = Service::start(&config(&folder, &package, &more));
    for number in 1..=40 {
        let told = service.part();
        assert_eq!((&told["part"], &told["fault"]), (&number.into(), &Value::Null), "{told}");
    }
    service.wait_for("/proc/none");
    drop(taken);
    service.wait_for("web: works again");
    assert_eq!(service.terminate().0, Some(0));
}

/// A request to the service's page, once it is open; gives the status and the body.
pub fn http(address: &str, request: &str) -> (u16, String) {
    use std::io::{Read, Write};
    let limit = Instant::now() + Duration::from_secs(20);
    let mut stream = loop {
        match std::net::TcpStream::connect(address) {
            Ok(stream) => break stream,
            // The first part can come before the page.
            Err(e) => assert!(Instant::now() < limit, "{e}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    write!(stream, "{request} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn a_slow_camera_with_a_software_trigger_is_waited_for() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let more = format!("[trigger]\nsource = \"software\"\n[web]\nlisten = \"{address}\"\n");
    let config = config(&folder, &package, &more);
    let text = std::fs::read_to_string(&config).unwrap().replace("rate = 20", "rate = 1.5");
    std::fs::write(&config, &text).unwrap();
    let service = Service::start(&config);
    service.wait_for("ready");
    for number in 1..=4 {
        // Just after a frame: the next one is a period away, which is more than the default travel time.
        assert_eq!(http(&address, "POST /api/trigger").0, 200);
        let told = service.part();
        assert_eq!((&told["part"], &told["fault"]), (&number.into(), &Value::Null), "{told}");
    }
    drop(service);

    // A gate does not wait.
    let gate = folder.file("gate.toml", format!("{text}[line]\nrecord = \"edges\"\n").as_bytes());
    weakrest!("check", "--config", gate).exits(2).says(&[
        "gate.toml:",
        "line.travel_ms: the camera takes a frame each 666 ms",
        "set a higher camera.rate",
    ]);
}

#[test]
fn the_page_of_the_service_triggers_halts_and_tells() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let more = format!("[trigger]\nsource = \"software\"\n[web]\nlisten = \"{address}\"\n");
    let service = Service::start(&config(&folder, &package, &more));
    service.wait_for("ready");
    assert_eq!(http(&address, "GET /healthz").0, 200);
    let (status, body) = http(&address, "POST /api/trigger");
    assert_eq!(status, 200, "{body}");
    let told = service.part();
    assert_eq!((&told["part"], &told["fault"]), (&1.into(), &Value::Null), "{told}");

    assert_eq!(http(&address, "POST /api/halt").0, 200);
    assert_eq!(http(&address, "GET /healthz").0, 503);
    http(&address, "POST /api/trigger");
    assert_eq!(service.part()["fault"], "halted");
    assert_eq!(http(&address, "POST /api/resume").0, 200);
    http(&address, "POST /api/trigger");
    assert_eq!(service.part()["fault"], Value::Null);

    let metrics = http(&address, "GET /metrics").1;
    assert!(metrics.contains("kind=\"halted\"} 1"), "{metrics}");
    std::fs::write(folder.path("weakrest.toml"), "nonsense").unwrap();
    assert_eq!(http(&address, "POST /api/reload").0, 200);
    service.wait_for("the previous configuration stays in use");
    assert!(http(&address, "GET /api/status").1.contains("stays in use"));
}
