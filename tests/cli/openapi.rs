//! The document of the HTTP interface, against the running programs: its requests are those of the router and of the
//! guide, its roles those that are enforced, its schemas those of real answers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::*;
use crate::run::{Service, config, parts};

/// A running service, and all that it was asked.
pub struct Asked {
    pub address: String,
    cookie: Option<String>,
    answers: Vec<Value>,
}

impl Asked {
    pub fn of(address: &str) -> Asked {
        Asked { address: address.to_owned(), cookie: None, answers: Vec::new() }
    }

    /// Sends a request. `request` has the path of the document, and `place` what stands for its braces and the query.
    pub fn ask(&mut self, request: &str, place: &str, sent: Option<Value>) -> (u16, Value) {
        let body = sent.as_ref().map(Value::to_string).unwrap_or_default();
        let (code, kind, body) = self.send(request, place, body.as_bytes());
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        self.answers
            .push(json!({"request": request, "code": code, "kind": kind, "sent": sent, "body": json}));
        (code, json)
    }

    /// The same with a file as the body.
    pub fn post(&mut self, request: &str, place: &str, file: &[u8]) -> (u16, Value) {
        let (code, kind, body) = self.send(request, place, file);
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        self.answers.push(json!({"request": request, "code": code, "kind": kind, "body": json}));
        (code, json)
    }

    /// The same with any body, unnoted. Gives code, kind and body of the answer.
    pub fn send(&self, request: &str, place: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)))
            .allow_non_standard_methods(true)
            .build()
            .into();
        let (method, path) = request.split_once(' ').unwrap();
        let path = match path.split_once('{') {
            Some((before, rest)) => format!("{before}{place}{}", rest.split_once('}').unwrap().1),
            None => format!("{path}{place}"),
        };
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if method != "GET" {
            request = request.header("X-Weakrest", "1");
        }
        if let Some(cookie) = &self.cookie {
            request = request.header("Cookie", cookie);
        }
        let mut answer = match method {
            "GET" => agent.run(request.body(()).unwrap()),
            _ => agent.run(request.body(body).unwrap()),
        }
        .unwrap_or_else(|e| panic!("{path}: {e}"));
        let kind = answer.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let body = answer.body_mut().with_config().limit(64 << 20).read_to_vec().unwrap();
        (answer.status().as_u16(), kind, body)
    }

    pub fn document(&self) -> Value {
        serde_json::from_slice(&self.send("GET /api/openapi.json", "", &[]).2).unwrap()
    }

    /// Checks the document and everything that was asked with other programs' validators.
    pub fn check(&self) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python =
            std::env::var_os("WEAKREST_PYTHON").map_or(root.join("target/venv/bin/python"), PathBuf::from);
        let has_it = Command::new(&python)
            .args(["-c", "import openapi_spec_validator"])
            .stderr(Stdio::null())
            .status();
        if !has_it.is_ok_and(|status| status.success()) {
            skip("no openapi-spec-validator (make python): answers are not compared with their schemas");
            return;
        }
        let mut child = Command::new(python)
            .arg(root.join("tests/openapi/check.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let all = json!({"document": self.document(), "answers": self.answers}).to_string();
        child.stdin.take().unwrap().write_all(all.as_bytes()).unwrap();
        let wrong = Ran::from(child.wait_with_output().unwrap()).exits(0).json();
        assert_eq!(wrong, json!([]), "{wrong:#}");
    }
}

/// A service with everything that has answers: it waits for triggers.
pub fn service(more: &str) -> (Folder, Service, Asked) {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    folder.package("recipes/1-ring.weakrest");
    parts(&folder);
    let more = format!(
        "[recipes]\nfolder = {:?}\n[trigger]\nsource = \"software\"\n[line]\ntravel_ms = 9000\n[health]\nfrozen = 0\n\
         [pictures]\nfolder = {:?}\nlabel_folder = {:?}\npasses = 1\nmin_free_megabytes = 0\n[journal]\npath = {:?}\n\
         [teach]\nmin_free_megabytes = 0\n[web]\nlisten = \"127.0.0.1:0\"\n{more}",
        folder.path("recipes"),
        folder.path("kept"),
        folder.path("label"),
        folder.path("journal.sqlite"),
    );
    let service = Service::start(&config(&folder, &package, &more));
    let line = service.wait_for("web page on http://");
    let address = line.split("http://").nth(1).unwrap().trim_end_matches('/').to_owned();
    (folder, service, Asked::of(&address))
}

/// Something in the place of a request's braces.
fn place_of(request: &str) -> &'static str {
    if request.contains('{') { "x" } else { "" }
}

/// Each request of the document, with the role that it needs.
fn requests(document: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            found.insert(format!("{} {path}", method.to_uppercase()), operation["x-role"].clone());
        }
    }
    found
}

/// The same of the table in the guide. A cell names `GET`, `POST /api/a?x=`, `/api/b`.
fn guide() -> BTreeMap<String, Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/integrator.md")).unwrap();
    let table = text.split("| request | role | what |").nth(1).unwrap();
    let mut found = BTreeMap::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let role = if cells[1] == "–" { Value::Null } else { cells[1].into() };
        let mut methods: Vec<&str> = Vec::new();
        let mut has_path = false;
        for word in cells[0].split('`').skip(1).step_by(2).flat_map(|words| words.split(' ')) {
            if !word.starts_with('/') {
                if std::mem::take(&mut has_path) {
                    methods.clear();
                }
                methods.push(word);
                continue;
            }
            has_path = true;
            let path = word.split('?').next().unwrap();
            for method in &methods {
                assert!(found.insert(format!("{method} {path}"), role.clone()).is_none(), "{row}");
            }
        }
    }
    found
}

#[test]
fn router_document_and_guide_have_the_same_requests() {
    let (_folder, _service, asked) = service("");
    let document = asked.document();
    let requests = requests(&document);
    assert_eq!(requests, guide());
    for request in requests.keys() {
        let (method, path) = request.split_once(' ').unwrap();
        // Whatever it answers, it is no unknown page. Nothing is changed by a request of another site.
        if method == "GET" {
            let (code, _, body) = asked.send(request, place_of(request), &[]);
            let text = String::from_utf8_lossy(&body);
            assert!(code != 405 && !text.contains("no such page"), "{request}: {code} {text}");
        } else {
            let (code, text) =
                crate::run::http(&asked.address, &format!("PATCH {}", path.replace(['{', '}'], "")));
            assert_eq!(code, 405, "{request}: {text}");
        }
    }
    // Pages are added without a description. None of them may hide a request.
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                assert!(!source.contains(".route(\"/api"), "{}", path.display());
            }
        }
    }
    let names: Vec<&Value> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|m| m.as_object().unwrap().values())
        .collect();
    let names: BTreeSet<&str> = names.iter().map(|o| o["operationId"].as_str().unwrap()).collect();
    assert_eq!(names.len(), requests.len());
}

#[test]
fn the_roles_of_the_document_are_enforced() {
    let accounts = Folder::new();
    let file = accounts.path("accounts");
    for role in ["view", "operate", "engineer"] {
        crate::account::add(role, role, &file, "correct horse\n").exits(0);
    }
    for view in ["everyone", "signed-in"] {
        let (_folder, _service, mut asked) =
            service(&format!("accounts_file = {file:?}\nview = \"{view}\"\n"));
        let document = asked.document();
        for role in [None, Some("view"), Some("operate"), Some("engineer")] {
            asked.cookie = None;
            if let Some(role) = role {
                asked.cookie = Some(signed_in(&asked, role));
            }
            for (request, needed) in requests(&document) {
                if request.ends_with("/api/session") {
                    continue;
                }
                let rank = |role: Option<&str>| match role {
                    None => 0,
                    Some("view") => 1,
                    Some("operate") => 2,
                    _ => 3,
                };
                let mut needed = rank(needed.as_str());
                if view == "everyone" && needed == 1 {
                    needed = 0;
                }
                let (method, path) = request.split_once(' ').unwrap();
                let securities = &document["paths"][path][&method.to_lowercase()]["security"];
                let is_open =
                    securities.as_array().is_none_or(|all| all.is_empty() || all.contains(&json!({})));
                assert_eq!(is_open, needed == 0, "{request}: {securities}");
                let (code, _, body) = asked.send(&request, place_of(&request), &[]);
                let refused = matches!(code, 401 | 403);
                let text = String::from_utf8_lossy(&body);
                assert_eq!(refused, rank(role) < needed, "{request} as {role:?}, {view}: {code} {text}");
            }
        }
    }
}

/// The cookie of a session.
fn signed_in(asked: &Asked, name: &str) -> String {
    let agent: ureq::Agent = ureq::Agent::new_with_defaults();
    let answer = agent
        .post(format!("http://{}/api/session", asked.address))
        .header("X-Weakrest", "1")
        .send(json!({"name": name, "password": "correct horse"}).to_string())
        .unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[test]
fn real_answers_fit_the_document() {
    let (_folder, service, mut asked) = service("");
    let mut count = 0;
    let mut has_reject = false;
    while count < 3 || !has_reject {
        let (code, answer) = asked.ask("POST /api/trigger", "", Some(Value::Null));
        assert_eq!(code, 200, "{answer}");
        has_reject |= service.part()["verdict"] == "reject";
        count += 1;
    }
    // The page's thread counts a part a moment after its verdict, and the journal writes each second.
    let counted = |asked: &Asked| {
        let (_, _, body) = asked.send("GET /api/numbers", "", &[]);
        serde_json::from_slice::<Value>(&body).unwrap()["total"]["parts"] == count
    };
    for _ in 0..400 {
        if counted(&asked) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(counted(&asked));
    let mut fits = |request: &str, place: &str, code: u16| {
        let (answered, body) = asked.ask(request, place, None);
        assert_eq!(answered, code, "{request}{place}: {body}");
        body
    };
    let rejects = fits("GET /api/rejects", "", 200);
    let reject = rejects["parts"][0]["part"].as_u64().unwrap().to_string();
    let kept = fits("GET /api/kept", "", 200);
    let name = kept["parts"][0]["name"].as_str().unwrap().to_owned();
    for (request, place, code) in [
        ("GET /healthz", "", 200),
        ("GET /metrics", "", 200),
        ("GET /api/session", "", 200),
        ("GET /api/openapi.json", "", 200),
        ("GET /api/status", "", 200),
        ("GET /api/parts", "", 200),
        ("GET /api/parts", "?after=x", 400),
        ("GET /api/recipes", "", 200),
        ("GET /api/rejects/{part}", &format!("{reject}.jpg"), 200),
        ("GET /api/rejects/{part}", "99.jpg", 404),
        ("GET /api/live.jpg", "", 200),
        ("GET /api/numbers", "?by=day", 200),
        ("GET /api/numbers", "?by=year", 400),
        ("GET /api/numbers/heat", "", 200),
        ("GET /api/numbers.csv", "", 200),
        ("GET /api/kept", "?day=x", 400),
        ("GET /api/kept/{file}", &format!("{name}.json"), 200),
        ("GET /api/kept/{file}", "none.png", 404),
        ("GET /api/audit", "", 200),
        ("GET /api/audit.csv", "", 200),
        ("GET /api/audit.jsonl", "", 200),
        ("GET /api/teach", "", 200),
        ("GET /api/teach/threshold", "?value=1.5", 200),
        ("GET /api/teach/threshold", "", 400),
        ("GET /api/teach/good/{picture}", "none.png", 409),
    ] {
        fits(request, place, code);
    }
    let recent = asked.ask("GET /api/teach", "", None).1["recent"][0].clone();
    let (id, day) = (&recent["id"], &name[..8]);
    for (action, sent, code) in [
        ("teach/product", json!({"name": "disc"}), 200),
        ("teach/settings", json!({"quality": "fast", "ignore": [[[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]]]}), 200),
        ("teach/collect", json!({"mode": "timed", "seconds": 5.0}), 200),
        ("teach/collect", json!({"mode": "off"}), 200),
        ("teach/answer", json!({"id": id, "answer": "bad"}), 200),
        ("teach/answer", json!({"id": 99, "answer": "bad"}), 409),
        ("teach/answer", json!({"id": id, "answer": "fair"}), 400),
        (
            "teach/answer-kept",
            json!({"kept": format!("{day}/{name}"), "product": "disc", "answer": "good"}),
            200,
        ),
        ("teach/hold", json!({"on": true}), 200),
        ("teach/threshold", json!({"value": 3.0}), 200),
        ("teach/shadow", json!({"on": true}), 200),
        ("teach/shadow", json!({"on": false}), 200),
        ("teach/stop", Value::Null, 200),
        ("teach/enroll", Value::Null, 409),
        ("recipe", json!({"recipe": 7}), 409),
        ("recipe", json!({"recipe": "x"}), 400),
        ("halt", Value::Null, 200),
        ("resume", Value::Null, 200),
        ("reload", Value::Null, 200),
        ("session", json!({"name": "anna", "password": "correct horse"}), 404),
    ] {
        let sent = Some(sent).filter(|sent| !sent.is_null());
        let (answered, body) = asked.ask(&format!("POST /api/{action}"), "", sent);
        assert_eq!(answered, code, "{action}: {body}");
    }
    let label = asked.ask("POST /api/rejects/{part}/label", &reject, None);
    assert_eq!(label.0, 200, "{}", label.1);
    asked.check();
}

#[cfg(feature = "workshop")]
#[test]
fn the_labelers_answers_fit_its_document() {
    let work = crate::label_page::Work::start();
    let mut asked = Asked::of(&work.address);
    let (_, state) = asked.ask("GET /api/state", "", None);
    let id = state["pictures"][0]["id"].to_string();
    let (_, detail) = asked.ask("GET /api/pictures/{id}", &id, None);
    asked.ask("GET /api/pictures/{id}", "99", None);
    let mask = json!({"size": [detail["height"], detail["width"]], "counts": [5, 7]});
    let label = json!({
        "revision": detail["label"]["revision"], "seconds": 2.5, "shapes": [
            {"box": [1.0, 2.0, 3.0, 4.0], "type": "dent"},
            {"rotated": [[1.0, 1.0], [5.0, 1.0], [5.0, 5.0], [1.0, 5.0]]},
            {"polygon": [[1.0, 1.0], [5.0, 1.0], [5.0, 5.0]], "type": "crack"},
        ],
    });
    let (code, saved) = asked.ask("PUT /api/pictures/{id}/label", &id, Some(label.clone()));
    assert_eq!(code, 200, "{saved}");
    assert_eq!(asked.ask("PUT /api/pictures/{id}/label", &id, Some(label)).0, 409);
    let clicks = json!({"clicks": [{"x": 60.0, "y": 40.0, "positive": true}], "previous": mask});
    asked.ask("POST /api/pictures/{id}/click", &id, Some(clicks));
    let line = json!({"points": [[10.0, 10.0], [60.0, 40.0]]});
    assert_eq!(asked.ask("POST /api/pictures/{id}/line", &id, Some(line)).0, 200);
    asked.ask("POST /api/pictures/{id}/line", &id, Some(json!({"points": [[10.0, 10.0]]})));
    asked.ask("GET /api/state", "", None);
    for path in ["image", "map.png", "nearest.png"] {
        asked.ask(&format!("GET /api/pictures/{{id}}/{path}"), &id, None);
    }
    assert!(requests(&asked.document()).values().all(|role| role == "engineer" || role.is_null()));
    asked.check();
}
