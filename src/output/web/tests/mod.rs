//! The web page, asked over HTTP as browsers and scrapers do, and by a real browser.

mod accounts;
mod audit;
mod browser;
mod client;
mod prometheus;
pub mod scene;
mod tls;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use crate::output::web::{Settings, Site, WebPage};
use crate::output::{Control, Labeled, Labeling, Output};
use crate::record::{FaultKind, Severity};
use crate::{ErrorKind, Frame};
use client::{answer, connect, get, post, request, send};
use scene::{faulty, good, on_free_port, page, publish, scratched, usual, with_token};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn settings_have_the_documented_defaults_and_refuse_the_rest() {
    let settings: Settings = toml::from_str("").unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!((settings.listen.as_str(), settings.rejects, settings.history), ("127.0.0.1:8080", 12, 500));
    settings.validate().unwrap();
    assert!(toml::from_str::<Settings>("port = 80").is_err());
    for (text, key) in [
        ("listen = 'localhost'", "web.listen"),
        ("listen = '127.0.0.1'", "web.listen"),
        ("listen = '127.0.0.1:99999'", "web.listen"),
        ("rejects = 201", "web.rejects"),
        ("history = 9", "web.history"),
        ("view = 'signed-in'", "web.view"),
        ("session_idle_minutes = 0", "web.session_idle_minutes"),
        ("certificate = 'a'", "web.certificate"),
        ("key = 'a'", "web.key"),
        ("tls = 'self-signed'\ncertificate = 'a'\nkey = 'b'", "web.tls"),
        ("session_hours = 9000", "web.session_hours"),
    ] {
        let error = toml::from_str::<Settings>(text).unwrap().validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.chain().starts_with(&format!("{key}: ")), "{}", error.chain());
    }
}

#[test]
fn the_page_and_its_parts_need_nothing_from_elsewhere() {
    let (page, _line) = page(on_free_port());
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/chart.js", "text/javascript; charset=utf-8"),
        ("/elements.js", "text/javascript; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/parts.js", "text/javascript; charset=utf-8"),
        ("/session.js", "text/javascript; charset=utf-8"),
        ("/service.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let answer = get(page.address(), path);
        assert_eq!((answer.code, answer.header("content-type")), (200, Some(kind)));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let elsewhere = answer.text().replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("//") || path.ends_with(".js"), "{path}");
        assert!(!elsewhere.contains("http:") && !elsewhere.contains("https:"), "{path}");
        assert!(!elsewhere.contains("innerHTML") && !elsewhere.contains("onclick="), "{path}");
    }
}

#[test]
fn parts_and_status_are_told() {
    let (mut page, line) = page(on_free_port());
    let address = page.address();
    let before = get(address, "/api/status").json();
    assert_eq!((&before["parts"], &before["picture"]), (&0.into(), &serde_json::Value::Null));
    assert_eq!(get(address, "/api/live.jpg").error(), "no picture yet");

    publish(&mut page, &line, &good(1));
    publish(&mut page, &line, &scratched(2));
    publish(&mut page, &line, &faulty(3, FaultKind::Late, "no verdict within 80 ms <script>"));
    line.status().raise("journal", Severity::Warning, "the disk is full");

    let status = get(address, "/api/status").json();
    assert_eq!(status["state"], "Operational");
    assert_eq!((&status["parts"], &status["passes"], &status["rejects"]), (&3.into(), &1.into(), &1.into()));
    assert_eq!(status["faults"]["late"], 1);
    assert_eq!(status["problems"]["journal"]["text"], "the disk is full");
    assert_eq!((&status["picture"], &status["last_reject"]), (&2.into(), &2.into()));
    assert_eq!(status["changes"], "local");
    assert!(status["uptime_s"].as_f64().unwrap() > 0.0);
    assert_eq!((&status["stages"][3]["name"], &status["stages"][3]["count"]), (&"latency".into(), &3.into()));

    let all = get(address, "/api/parts").json();
    assert_eq!((all["next"].as_u64(), all["parts"].as_array().unwrap().len()), (Some(3), 3));
    let part = &all["parts"][1];
    assert_eq!((&part["part"], &part["verdict"]), (&2.into(), &"reject".into()));
    assert!(part["score"].as_f64().unwrap() > part["threshold"].as_f64().unwrap());
    assert_eq!(part["regions"][0]["width"], 120);
    assert!(part["latency_ms"].as_f64().unwrap() >= 21.0);
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
        - part["time_ms"].as_u64().unwrap();
    assert!(age < 60_000);
    let fault = &all["parts"][2];
    assert_eq!((&fault["fault"], &fault["score"]), (&"late".into(), &serde_json::Value::Null));
    assert_eq!(fault["reason"], "no verdict within 80 ms <script>");

    let count = |after: &str| {
        get(address, &format!("/api/parts?after={after}")).json()["parts"].as_array().unwrap().len()
    };
    assert_eq!(
        [count("0"), count("2"), count("3"), count("99"), count("18446744073709551615")],
        [3, 1, 0, 0, 0]
    );
    assert_eq!(get(address, "/api/parts?after=x").code, 400);
    assert_eq!(get(address, "/api/parts?after=-1").code, 400);
}

#[test]
fn pictures_are_scaled_and_only_so_many_kept() {
    let (mut page, line) = page(Settings { rejects: 2, history: 10, ..on_free_port() });
    let address = page.address();
    (1..=30).for_each(|part| publish(&mut page, &line, &usual(part)));

    let size = |path: &str| {
        let answer = get(address, path);
        assert_eq!((answer.code, answer.header("content-type")), (200, Some("image/jpeg")), "{path}");
        let frame = Frame::decode(&answer.body).unwrap();
        (frame.width(), frame.height())
    };
    assert_eq!(size("/api/live.jpg"), (800, 600));
    assert_eq!(size("/api/live.jpg?part=30&plain=1"), (800, 600));
    assert_eq!(size("/api/rejects/28.jpg"), (640, 480));
    assert_eq!(size("/api/rejects/21.jpg"), (640, 480));
    assert!(get(address, "/api/rejects/14.jpg").error().contains("not among the latest rejects"));
    for path in ["/api/rejects/28", "/api/rejects/x.jpg", "/api/rejects/..%2f28.jpg", "/api/rejects/%ff.jpg"]
    {
        assert!(matches!(get(address, path).code, 400 | 404), "{path}");
    }
    assert_eq!(get(address, "/api/live.jpg").header("x-part"), Some("30"));

    let rejects = get(address, "/api/rejects").json();
    let numbers: Vec<_> = rejects["parts"].as_array().unwrap().iter().map(|p| p["part"].as_u64()).collect();
    assert_eq!(numbers, [Some(21), Some(28)]);
    let parts = get(address, "/api/parts?after=3").json();
    assert_eq!(parts["parts"].as_array().unwrap().len(), 10);
    assert_eq!(parts["parts"][0]["part"], 21);

    publish(&mut page, &line, &scratched(31));
    let (painted, plain) = (get(address, "/api/live.jpg").body, get(address, "/api/live.jpg?plain=1").body);
    let gray = |jpeg: &[u8]| Frame::decode(jpeg).unwrap().pixels().chunks(3).all(|p| p[0].abs_diff(p[2]) < 8);
    assert!(gray(&plain) && !gray(&painted));
}

#[test]
fn buttons_reach_the_line() {
    let (page, line) = page(on_free_port());
    let address = page.address();
    assert_eq!(post(address, "/api/trigger").json()["part"], 1);
    assert_eq!(post(address, "/api/halt").json()["state"], "Halted");
    assert_eq!(post(address, "/api/resume").json()["state"], "Operational");
    assert_eq!(post(address, "/api/reload").code, 200);
    assert_eq!(*line.asked.lock().unwrap(), ["trigger", "halt", "resume", "reload"]);
    let refused = get(address, "/api/halt");
    assert_eq!((refused.code, refused.error().as_str()), (405, "/api/halt does not accept GET"));
    assert_eq!(post(address, "/api/status").code, 405);
    assert_eq!(post(address, "/nothing").error(), "no such page: /nothing");

    let without = scene::Line::new(false);
    let page = WebPage::start(&on_free_port(), without).unwrap();
    let refused = post(page.address(), "/api/trigger");
    assert_eq!((refused.code, refused.error().as_str()), (409, "the camera runs freely: it has no trigger"));
}

#[test]
fn what_another_sites_page_can_send_changes_nothing() {
    let (page, line) = page(on_free_port());
    for headers in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=application/json\r\n",
        "Origin: http://evil.example\r\n",
    ] {
        let refused = request(page.address(), "POST", "/api/halt", headers);
        assert_eq!(refused.code, 403);
        let why = if headers.contains("Origin") { "another machine" } else { "X-Weakrest: 1" };
        assert!(refused.error().contains(why), "{}", refused.error());
    }
    // Neither does a browser get leave to send more.
    let asked = "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n\
                 Access-Control-Request-Headers: x-weakrest\r\n";
    let leave = request(page.address(), "OPTIONS", "/api/halt", asked);
    assert_eq!(leave.code, 405);
    assert!(!leave.head.to_lowercase().contains("access-control-"));
    assert!(line.asked.lock().unwrap().is_empty());
    assert_eq!(request(page.address(), "POST", "/api/halt", "Content-Type: application/json\r\n").code, 200);
}

#[test]
fn without_a_token_only_this_machine_may_use_a_local_page() {
    let (page, line) = page(on_free_port());
    let address = page.address();
    let port = address.port();
    let ask = |method: &str, path: &str, host: &str| {
        send(
            address,
            &format!("{method} {path} HTTP/1.1\r\n{host}X-Weakrest: 1\r\nConnection: close\r\n\r\n"),
        )
    };
    for host in ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"] {
        assert_eq!(ask("POST", "/api/resume", &format!("Host: {host}:{port}\r\n")).code, 200, "{host}");
    }
    let before = line.asked.lock().unwrap().len();
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.9", "0.0.0.0"]
    {
        for (method, path) in [("POST", "/api/halt"), ("GET", "/api/live.jpg"), ("GET", "/")] {
            let refused = ask(method, path, &format!("Host: {host}:{port}\r\n"));
            assert_eq!(refused.code, 403, "{host}");
            assert!(refused.error().contains("web.listen"), "{}", refused.error());
        }
    }
    let both = "Host: localhost\r\nHost: evil.example\r\n";
    for bad in [
        "",
        "Host: \r\n",
        "Host: a b\r\n",
        "Host: [::1\r\n",
        "Host: x@localhost\r\n",
        "Host: \u{e4}\r\n",
        both,
    ] {
        assert_eq!(ask("POST", "/api/halt", bad).code, 400, "{bad:?}");
    }
    assert_eq!(ask("POST", "http://evil.example/api/halt", "Host: localhost\r\n").code, 403);
    assert_eq!(line.asked.lock().unwrap().len(), before);
}

#[test]
fn without_a_token_a_page_for_all_is_for_looking_only() {
    let (page, line) = page(Settings { listen: "0.0.0.0:0".into(), ..Default::default() });
    let address = ([127, 0, 0, 1], page.address().port()).into();
    let status = get(address, "/api/status").json();
    assert_eq!(status["changes"], "refused");
    for path in ["/api/trigger", "/api/halt", "/api/resume", "/api/reload"] {
        let refused = post(address, path);
        assert_eq!(refused.code, 403);
        assert!(refused.error().contains("set web.token_file"), "{}", refused.error());
    }
    assert!(line.asked.lock().unwrap().is_empty());
    assert_eq!(send(address, "GET / HTTP/1.1\r\nHost: line7.plant\r\nConnection: close\r\n\r\n").code, 200);
}

#[test]
fn with_a_token_whoever_knows_it_may_change_something() {
    let (settings, _folder) = with_token(TOKEN);
    let (page, line) = page(settings);
    let address = page.address();
    assert_eq!(get(address, "/api/status").json()["changes"], "token");
    let refused = post(address, "/api/halt");
    assert_eq!((refused.code, refused.header("www-authenticate")), (401, Some("Bearer")));
    let with = |authorization: &str, more: &str| {
        request(address, "POST", "/api/halt", &format!("Authorization: {authorization}\r\n{more}"))
    };
    let own = "X-Weakrest: 1\r\n";
    for wrong in [
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        TOKEN.to_owned(),
        format!("Basic {TOKEN}"),
        format!("Bearer {TOKEN}0"),
        format!("Bearer {}", &TOKEN[1..]),
        format!("Bearer {}", TOKEN.to_uppercase()),
    ] {
        assert_eq!(with(&wrong, own).code, 401, "{wrong}");
    }
    assert_eq!(with(&format!("Bearer {TOKEN}"), "").code, 403);
    assert!(line.asked.lock().unwrap().is_empty());
    assert_eq!(with(&format!("Bearer {TOKEN}"), own).code, 200);
    assert_eq!(with(&format!("bearer {TOKEN}"), own).code, 200);
    // A site somewhere can give its own name this machine's address, and would see the pictures at least.
    for (name, code) in [("localhost", 200), ("evil.example", 403), ("line7.plant", 403)] {
        let named = format!(
            "POST /api/resume HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\
             Authorization: Bearer {TOKEN}\r\n{own}\r\n"
        );
        assert_eq!(send(address, &named).code, code, "{name}");
        let look = format!("GET /api/status HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        assert_eq!(send(address, &look).code, code, "{name}");
    }
}

#[test]
fn what_came_through_a_proxy_is_not_from_this_machine() {
    let (page, line) = page(on_free_port());
    let address = page.address();
    for header in [
        "Forwarded: for=10.1.2.3",
        "X-Forwarded-For: 10.1.2.3",
        "x-forwarded-for: 127.0.0.1",
        "X-Forwarded-Host: line7.plant",
        "X-Real-IP: 10.1.2.3",
        "Via: 1.1 proxy",
        "CF-Connecting-IP: 10.1.2.3",
        "True-Client-IP: 10.1.2.3",
        "X-Cluster-Client-Ip: 10.1.2.3",
        "Origin: http://line7.plant",
    ] {
        let headers = format!("X-Weakrest: 1\r\n{header}\r\n");
        let refused = request(address, "POST", "/api/halt", &headers);
        assert_eq!(refused.code, 403, "{header}");
        assert!(refused.error().contains("web.token_file"), "{}", refused.error());
        let status = request(address, "GET", "/api/status", &format!("{header}\r\n")).json();
        assert_eq!(status["changes"], "refused", "{header}");
    }
    // As proxies that say nothing still speak.
    let old = format!("POST /api/halt HTTP/1.0\r\nHost: {address}\r\nX-Weakrest: 1\r\n\r\n");
    assert_eq!(send(address, &old).code, 403);
    assert!(line.asked.lock().unwrap().is_empty());
    let own = format!("X-Weakrest: 1\r\nOrigin: http://{address}\r\n");
    assert_eq!(request(address, "POST", "/api/halt", &own).code, 200);

    let (settings, _folder) = with_token(TOKEN);
    let (page, _line) = scene::page(settings);
    let headers = format!("X-Weakrest: 1\r\nX-Forwarded-For: 10.1.2.3\r\nAuthorization: Bearer {TOKEN}\r\n");
    assert_eq!(request(page.address(), "POST", "/api/halt", &headers).code, 200);
}

#[test]
fn wrong_tokens_cost_time_but_nobody_elses() {
    let (settings, _folder) = with_token(TOKEN);
    let (page, _line) = page(settings);
    let address = page.address();
    // A proxy on this machine says for whom it asks.
    let ask = |from: &str, token: &str| {
        let headers =
            format!("X-Weakrest: 1\r\nX-Forwarded-For: 1.2.3.4, {from}\r\nAuthorization: Bearer {token}\r\n");
        let start = Instant::now();
        (request(address, "POST", "/api/halt", &headers).code, start.elapsed())
    };
    let start = Instant::now();
    for guess in 0..8 {
        assert_eq!(ask("10.0.0.1", &format!("guess-{guess}")).0, 401);
    }
    assert!(start.elapsed() > Duration::from_millis(700), "{:?}", start.elapsed());
    let (code, took) = ask("10.0.0.2", TOKEN);
    assert!(code == 200 && took < Duration::from_millis(1500), "{code} after {took:?}");
    // Who shares the address waits, but gets in.
    let (code, took) = ask("10.0.0.1", TOKEN);
    assert!(code == 200 && took < Duration::from_secs(5), "{code} after {took:?}");
    // At once, they stand in a queue that has an end.
    let codes: Vec<u16> = std::thread::scope(|scope| {
        let guesses: Vec<_> = (0..60).map(|_| scope.spawn(|| ask("10.0.0.1", "guess").0)).collect();
        guesses.into_iter().map(|guess| guess.join().unwrap()).collect()
    });
    assert!(codes.contains(&429) && codes.iter().all(|code| [401, 429].contains(code)), "{codes:?}");
}

#[test]
fn whoever_trickles_blocks_nobody_and_is_cut_off() {
    let (page, line) = page(on_free_port());
    let address = page.address();
    let trickle: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = connect(address);
            // Those before may have been shown out already.
            let _ = stream.write_all(b"POST /api/halt HTTP/1.1\r\nX-Trick");
            stream
        })
        .collect();
    let mut worst = Duration::ZERO;
    let (mut open, start) = (trickle, Instant::now());
    // Whatever is trickled does not count.
    while !open.is_empty() {
        let asked = Instant::now();
        assert_eq!(post(address, "/api/halt").code, 200);
        worst = worst.max(asked.elapsed());
        open.retain_mut(|stream| {
            stream.set_read_timeout(Some(Duration::from_micros(100))).unwrap();
            let is_open = !matches!(stream.read(&mut [0]), Ok(0)) && stream.write_all(b"e").is_ok();
            is_open && stream.take_error().is_ok_and(|e| e.is_none())
        });
        assert!(start.elapsed() < Duration::from_secs(30), "{} are open yet", open.len());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(worst < Duration::from_secs(4), "{worst:?}");
    assert!(!line.asked.lock().unwrap().is_empty());
}

#[test]
fn a_body_that_nobody_may_send_is_not_waited_for() {
    let (settings, _folder) = with_token(TOKEN);
    let (page, line) = page(settings);
    let address = page.address();
    let headers = "X-Weakrest: 1\r\nContent-Length: 1000\r\n";
    assert_eq!(request(address, "POST", "/api/halt", headers).code, 401);
    let start = Instant::now();
    let known = format!("{headers}Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(request(address, "POST", "/api/halt", &known).code, 408);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert!(line.asked.lock().unwrap().is_empty());
}

#[test]
fn a_token_file_without_a_token_is_an_error() {
    for text in ["", "\n", "short", "two words but long enough", "sechzehn-Zeichen-\u{fc}"] {
        let (settings, _folder) = with_token(text);
        let error = WebPage::start(&settings, scene::Line::new(true)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.chain().starts_with("web.token_file: "), "{}", error.chain());
        assert!(text.trim().is_empty() || !error.chain().contains(text.trim()), "tokens are not told");
    }
    // Not even where the token itself was written in the place of its file's name.
    let settings = Settings { token_file: Some(TOKEN.into()), ..on_free_port() };
    let error = WebPage::start(&settings, scene::Line::new(true)).err().unwrap();
    assert!(error.chain().starts_with("web.token_file: cannot read the file"), "{}", error.chain());
    assert!(!error.chain().contains(TOKEN), "{}", error.chain());
}

#[test]
fn a_taken_port_is_a_clear_error() {
    let (page, _line) = page(on_free_port());
    let settings = Settings { listen: page.address().to_string(), ..Default::default() };
    let error = WebPage::start(&settings, scene::Line::new(true)).err().unwrap();
    let expected = format!(
        "web.listen: cannot listen on {}; another program uses that port, choose another one",
        page.address()
    );
    assert!(error.chain().starts_with(&expected), "{}", error.chain());
    let settings = Settings { listen: "192.0.2.1:8080".into(), ..Default::default() };
    let error = WebPage::start(&settings, scene::Line::new(true)).err().unwrap();
    assert!(error.chain().contains("not an address of this machine"), "{}", error.chain());
}

#[test]
fn health_is_good_only_while_parts_are_inspected() {
    let (page, line) = page(on_free_port());
    let health = || get(page.address(), "/healthz");
    assert_eq!((health().code, health().json()["state"].as_str()), (200, Some("Operational")));
    line.status().raise("mqtt", Severity::Warning, "no broker");
    assert_eq!(health().code, 200);
    line.status().raise("camera", Severity::Error, "unplugged");
    let ill = health();
    assert_eq!((ill.code, ill.json()["state"].as_str()), (503, Some("Error")));
    assert_eq!(ill.json()["problems"]["camera"]["text"], "unplugged");
    line.status().clear("camera");
    line.set_halted(true).unwrap();
    assert_eq!((health().code, health().json()["state"].as_str()), (503, Some("Halted")));
    line.status().set_loading(true);
    assert_eq!((health().code, health().json()["state"].as_str()), (503, Some("Preoperational")));
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let (mut page, line) = page(on_free_port());
    (1..=20).for_each(|part| publish(&mut page, &line, &usual(part)));
    publish(&mut page, &line, &faulty(21, FaultKind::OverExposed, "too bright"));
    line.status().output("journal").dropped.fetch_add(4, std::sync::atomic::Ordering::Relaxed);
    line.status().raise("camera", Severity::Error, "unplugged");

    let answer = get(page.address(), "/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let metrics = prometheus::parse(answer.text());
    let value = |name: &str, sample: &str, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let found = metrics[name].samples.iter().find(|s| s.0 == sample && s.1 == labels);
        found.unwrap_or_else(|| panic!("no {sample} {labels:?}")).2
    };
    let plain = |name: &str, labels: &[(&str, &str)]| value(name, name, labels);
    assert_eq!(plain("weakrest_parts_total", &[]), 21.0);
    assert_eq!(plain("weakrest_rejects_total", &[]), 2.0);
    assert_eq!(plain("weakrest_faults_total", &[("kind", "over-exposed")]), 1.0);
    assert_eq!(metrics["weakrest_faults_total"].samples.len(), FaultKind::ALL.len());
    assert_eq!(plain("weakrest_output_dropped_total", &[("output", "journal")]), 4.0);
    assert_eq!(plain("weakrest_state", &[("state", "Error")]), 1.0);
    assert_eq!(plain("weakrest_state", &[("state", "Operational")]), 0.0);
    assert_eq!(plain("weakrest_problem", &[("component", "camera"), ("severity", "error")]), 1.0);
    assert_eq!(plain("weakrest_threshold", &[]), f64::from(scene::THRESHOLD));
    assert_eq!(metrics["weakrest_info"].samples[0].1["product"], r#"Cover plate "A7" <b>"#);

    let bucket = |le: &str| {
        value("weakrest_stage_seconds", "weakrest_stage_seconds_bucket", &[("stage", "latency"), ("le", le)])
    };
    assert_eq!((bucket("0.016"), bucket("0.032"), bucket("+Inf")), (0.0, 21.0, 21.0));
    let sum = value("weakrest_stage_seconds", "weakrest_stage_seconds_sum", &[("stage", "latency")]);
    assert!((0.4..0.6).contains(&sum), "{sum}");
}

#[test]
fn huge_and_broken_requests_are_refused() {
    let (page, line) = page(on_free_port());
    let address = page.address();
    for body in
        ["Content-Length: 1099511627776\r\n", "Content-Length: 300000\r\n", "Transfer-Encoding: chunked\r\n"]
    {
        let headers = format!("X-Weakrest: 1\r\n{body}");
        assert_eq!(request(address, "POST", "/api/halt", &headers).code, 413, "{body}");
    }
    // Somebody who does not stop sending is cut off.
    let mut stream = connect(address);
    let head = format!("POST /api/halt HTTP/1.1\r\nHost: {address}\r\nContent-Length: 1099511627776\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let block = vec![0; 1 << 20];
    assert!((0..200).any(|_| stream.write_all(&block).is_err()), "200 MiB were read");

    let mut stream = connect(address);
    // Refused while it is being sent, or after.
    let _ = stream.write_all(
        format!("GET / HTTP/1.1\r\nHost: {address}\r\nX: {}\r\n\r\n", "x".repeat(4 << 20)).as_bytes(),
    );
    let mut told = Vec::new();
    let _ = stream.read_to_end(&mut told);
    assert!(!String::from_utf8_lossy(&told).starts_with("HTTP/1.1 200"));

    let mut stream = connect(address);
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").unwrap();
    let mut told = String::new();
    let _ = stream.read_to_string(&mut told);
    assert!(told.is_empty() || told.starts_with("HTTP/1.1 400"), "{told}");
    assert!(line.asked.lock().unwrap().is_empty());
    assert_eq!(get(address, "/healthz").code, 200);
}

#[test]
fn idle_connections_do_not_stop_it() {
    let (page, _line) = page(on_free_port());
    let address = page.address();
    let idle: Vec<TcpStream> = (0..100)
        .map(|i| {
            let mut stream = connect(address);
            if i % 2 == 0 {
                stream.write_all(b"GET /api/sta").unwrap();
            }
            stream
        })
        .collect();
    let start = Instant::now();
    assert_eq!(get(address, "/healthz").code, 200);
    assert!(start.elapsed() < Duration::from_secs(2));

    // Above the limit they are closed at once instead of taking all file handles; room is made by those that
    // go.
    let more: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(address).ok()).collect();
    let closed = || {
        more.iter().any(|mut s| {
            s.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            s.read(&mut [0]).is_ok_and(|n| n == 0)
        })
    };
    assert!((0..50).any(|_| closed()));
    drop(idle);
    drop(more);
    let served = || {
        std::thread::sleep(Duration::from_millis(50));
        let mut stream = connect(address);
        let asked = stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes());
        asked.is_ok() && stream.read(&mut [0]).is_ok_and(|n| n == 1)
    };
    assert!((0..100).any(|_| served()));
}

/// Nor for the encoder: the latest picture takes forever to encode here, and answers are never read.
#[test]
fn publishing_never_waits_for_readers() {
    // Only whoever waits for somebody takes as long. The server gives up a reader that takes nothing after 60 s.
    const FOREVER: Duration = Duration::from_secs(30);
    let (mut page, line) = page(on_free_port());
    let address = page.address();
    publish(&mut page, &line, &scratched(1));
    let ask = |path: &str, times: usize| {
        let mut stream = connect(address);
        let asked = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").repeat(times);
        stream.write_all(asked.as_bytes()).unwrap();
        stream.set_read_timeout(Some(FOREVER)).unwrap();
        stream
    };
    let shot = page.shared.memory().latest.clone().unwrap();
    std::thread::scope(|scope| {
        let (encode, encoding) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let shot = &shot;
        scope.spawn(move || {
            shot.painted.get_or_init(|| {
                encode.send(()).unwrap();
                let _ = wait.recv();
                None
            });
        });
        encoding.recv().unwrap();
        // The server encodes on a few threads, and some are left for the other readers.
        let painted: Vec<TcpStream> = (0..4).map(|_| ask("/api/live.jpg", 1)).collect();
        // Many answers asked for and none read: the server cannot send on.
        let plain: Vec<TcpStream> = (0..40).map(|_| ask("/api/live.jpg?plain=1", 100)).collect();
        assert_eq!(plain[0].peek(&mut [0]).unwrap(), 1);
        let asked = Instant::now();
        while Arc::strong_count(shot) < 3 {
            assert!(asked.elapsed() < FOREVER, "nobody asked for the picture that is being encoded");
            std::thread::sleep(Duration::from_millis(1));
        }

        let (tell, published) = mpsc::channel();
        let page = &mut page;
        scope.spawn(move || {
            let records = [good(2), good(3), scratched(4), faulty(5, FaultKind::Camera, "unplugged")];
            for i in 0..200 {
                page.publish(&records[i % 4]).unwrap();
                tell.send(()).unwrap();
            }
        });
        for i in 0..200 {
            assert!(published.recv_timeout(FOREVER).is_ok(), "publishing waits after {i} parts");
        }
        assert_eq!(get(address, "/api/parts?after=200").json()["next"], 201);
        go_on.send(()).unwrap();
        drop((painted, plain));
    });
}

#[test]
fn connections_are_kept_for_the_next_request() {
    let (page, _line) = page(on_free_port());
    let mut stream = connect(page.address());
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(answer(&mut stream).code, 200);
    }
}

#[test]
fn it_stops_at_once_and_gives_the_port_back() {
    let stop = |finish: bool| {
        let (mut page, line) = page(on_free_port());
        let address = page.address();
        publish(&mut page, &line, &usual(7));
        let mut open: Vec<TcpStream> = (0..10).map(|_| connect(address)).collect();
        open[0].write_all(b"GET /api/live.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(get(address, "/healthz").code, 200);
        let start = Instant::now();
        if finish {
            page.finish().unwrap();
        }
        let stopped = page.tick(SystemTime::now(), line.status());
        assert_eq!(stopped.is_err(), finish);
        drop(page);
        let took = start.elapsed();
        let (again, _) = scene::page(Settings { listen: address.to_string(), ..Default::default() });
        assert_eq!(get(again.address(), "/healthz").code, 200);
        assert_eq!(Arc::strong_count(&line), 1, "nothing of it is left");
        took
    };
    for finish in [false, true] {
        // The machine may be busy with other tests; once is enough to show that nothing waits.
        let fastest = (0..3).map(|_| stop(finish)).min().unwrap();
        assert!(fastest < Duration::from_millis(200), "{fastest:?}");
    }
}

/// Keeps the even parts only.
struct Even;

impl Labeling for Even {
    fn label(&self, _: Option<&str>, part: u64, triggered: SystemTime) -> crate::Result<Labeled> {
        assert!(triggered.elapsed().unwrap() < Duration::from_secs(60));
        match part % 2 {
            0 => Ok(Labeled { file: format!("/label/{part}.png").into(), copied: true }),
            _ => Err(crate::Error::new(ErrorKind::Usage, "the picture is not kept any more")),
        }
    }
}

#[test]
fn a_reject_is_put_where_it_is_labeled_by_whom_may_change_something() {
    let (settings, _folder) = with_token(TOKEN);
    let line = scene::Line::new(true);
    let control = Arc::clone(&line) as Arc<dyn Control>;
    let mut page =
        WebPage::within(&settings, control, Site { labeling: Some(Arc::new(Even)), ..Site::default() })
            .unwrap();
    for part in 1..=3 {
        publish(&mut page, &line, &scratched(part));
    }
    publish(&mut page, &line, &good(4));
    let address = page.address();
    assert_eq!(get(address, "/api/status").json()["labels"], true);
    let path = "/api/rejects/2/label";
    assert_eq!(post(address, path).code, 401);
    let headers = format!("X-Weakrest: 1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n");
    let post = |part: &str| request(address, "POST", &format!("/api/rejects/{part}/label"), &headers);
    assert_eq!(post("2").json(), serde_json::json!({"file": "/label/2.png", "copied": true}));
    assert!(post("3").error().contains("not kept"));
    for part in ["4", "x", "99"] {
        assert!(post(part).error().contains("not among the latest rejects"), "{part}");
    }
    assert_eq!(get(address, path).code, 405);

    let (mut page, line) = self::page(on_free_port());
    publish(&mut page, &line, &scratched(2));
    assert_eq!(get(page.address(), "/api/status").json()["labels"], false);
    assert!(client::post(page.address(), path).error().contains("label_folder"));
}
