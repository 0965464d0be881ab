//! What of changes stays on record, and what happens when it cannot.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::client::{Answer, get, post, request};
use super::scene::{Line, on_free_port, publish, scratched};
use super::{Even, TOKEN, scene};
use crate::access::audit::chain::walk;
use crate::access::{Audit, Role, accounts};
use crate::output::web::{Settings, Site, WebPage};
use crate::output::{Control, Output};

/// A page with an audit log in a folder.
fn page(settings: &Settings, state: &Path) -> (WebPage, Arc<Line>) {
    let line = Line::new(true);
    let site = Site {
        labeling: Some(Arc::new(Even)),
        audit: Some(Audit::open(state.to_owned()).unwrap()),
        ..Site::default()
    };
    let page = WebPage::within(settings, Arc::clone(&line) as Arc<dyn Control>, site).unwrap();
    (page, line)
}

fn entries(address: SocketAddr, headers: &str, after: u64) -> Vec<Value> {
    let answer = request(address, "GET", &format!("/api/audit?after={after}"), headers);
    answer.json()["entries"].as_array().unwrap().clone()
}

fn file(state: &Path) -> PathBuf {
    state.join("audit.jsonl")
}

#[test]
fn every_change_is_on_record_with_who_and_what() {
    let (settings, folder) = scene::with_token(TOKEN);
    let path = folder.path().join("accounts");
    accounts::add(&path, "anna", Role::Operate, "correct horse").unwrap();
    let settings = Settings { accounts_file: Some(path.clone()), ..settings };
    let state = folder.path().join("state");
    let (mut page, line) = page(&settings, &state);
    let address = page.address();
    publish(&mut page, &line, &scratched(2));
    let token = format!("Authorization: Bearer {TOKEN}\r\nX-Forwarded-For: 10.1.2.3\r\n");
    let own = format!("X-Weakrest: 1\r\nContent-Length: 0\r\n{token}");
    let change = |path: &str| -> Answer { request(address, "POST", path, &own) };
    assert_eq!(change("/api/halt").json(), json!({"state": "Halted"}));
    assert_eq!(change("/api/resume").code, 200);
    assert_eq!(change("/api/reload").code, 200);
    assert_eq!(change("/api/rejects/2/label").code, 200);
    // What changes nothing is none: looks, refusals, and triggers, which the journal has.
    assert_eq!(change("/api/trigger").code, 200);
    assert_eq!(post(address, "/api/halt").code, 401);
    assert_eq!(get(address, "/api/audit").code, 401);
    accounts::add(&path, "ben", Role::View, "correct horse").unwrap();
    (0..2).for_each(|_| page.tick(SystemTime::now(), line.status()).unwrap());

    let all = entries(address, &token, 0);
    let what: Vec<_> = all.iter().map(|e| e["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["halt", "resume", "reload", "label", "accounts"]);
    for entry in &all[..4] {
        assert_eq!((&entry["who"], &entry["from"]), (&json!("token"), &json!("10.1.2.3")), "{entry}");
    }
    assert_eq!(all[0]["before"], json!({"state": "Operational"}));
    assert_eq!(all[0]["after"], json!({"state": "Halted"}));
    assert_eq!(all[2]["before"]["package"].as_str(), Some("5f1d0c93a8e2b7d4".repeat(4).as_str()));
    assert_eq!(all[3]["after"], json!({"part": 2}));
    assert_eq!((&all[4]["who"], &all[4]["after"]["ben"]), (&json!("service"), &json!("view")));
    assert_eq!(entries(address, &token, 4).len(), 1);
    assert_eq!(request(address, "GET", "/api/audit?after=x", &token).code, 400);

    let lines = request(address, "GET", "/api/audit.jsonl", &token);
    assert_eq!(lines.header("content-disposition"), Some("attachment; filename=\"audit.jsonl\""));
    assert_eq!(lines.body, std::fs::read(file(&state)).unwrap());
    assert_eq!((walk(&lines.body).count, walk(&lines.body).fault), (5, None));
    let table = request(address, "GET", "/api/audit.csv", &token);
    assert!(table.text().starts_with("n,at,who,from,what,before,after,previous,hash\r\n1,\""));
    assert_eq!(table.text().matches("\r\n").count(), 6);
    for path in ["/audit", "/audit.js"] {
        assert_eq!(get(address, path).code, 200);
    }
}

#[test]
fn signing_in_is_on_record_but_cannot_fill_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts");
    accounts::add(&path, "anna", Role::Engineer, "correct horse").unwrap();
    let settings = Settings { accounts_file: Some(path), ..on_free_port() };
    let (page, _line) = page(&settings, &folder.path().join("state"));
    let sign_in = |from: &str| {
        let from = format!("X-Forwarded-For: {from}\r\n");
        super::accounts::sign_in_with(page.address(), "anna", "correct horse", &from)
    };
    for from in ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.1"] {
        assert_eq!(sign_in(from).code, 200);
    }
    let cookie = sign_in("10.0.0.1").header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let all = entries(page.address(), &format!("Cookie: {cookie}\r\n"), 0);
    let told: Vec<_> = all.iter().map(|e| [&e["who"], &e["what"], &e["from"]]).collect();
    let of = |from: &str| [json!("account anna"), json!("signed in"), json!(from)];
    assert_eq!(told, [of("10.0.0.1").each_ref(), of("10.0.0.2").each_ref()]);
}

#[test]
fn what_cannot_be_recorded_is_not_done_except_to_halt() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    // A folder in the file's place takes no line, like a full disk.
    std::fs::create_dir_all(file(&state)).unwrap();
    let (mut page, line) = page(&on_free_port(), &state);
    publish(&mut page, &line, &scratched(2));
    let address = page.address();
    let halted = post(address, "/api/halt");
    assert_eq!((halted.code, &halted.json()["state"]), (200, &json!("Halted")));
    assert!(halted.json()["warning"].as_str().unwrap().starts_with("not in the audit log: "));
    for path in ["/api/resume", "/api/reload", "/api/rejects/2/label"] {
        let refused = post(address, path);
        assert_eq!(refused.code, 500, "{path}");
        let told = refused.error();
        assert!(
            told.starts_with("the change is refused, because the audit log cannot be written: "),
            "{told}"
        );
    }
    assert_eq!(*line.asked.lock().unwrap(), ["halt"]);
    page.tick(SystemTime::now(), line.status()).unwrap();
    let problem = line.status().problems()["audit log"].text.clone();
    assert!(problem.starts_with("changes other than halt are refused: "), "{problem}");
    std::fs::remove_dir(file(&state)).unwrap();
    assert_eq!(post(address, "/api/resume").code, 200);
    page.tick(SystemTime::now(), line.status()).unwrap();
    assert!(!line.status().problems().contains_key("audit log"));
}

#[test]
fn a_browser_shows_who_changed_what() {
    use super::browser::{browser, dump};
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (page, _line) = page(&on_free_port(), &folder.path().join("state"));
    assert_eq!(post(page.address(), "/api/halt").code, 200);
    assert_eq!(post(page.address(), "/api/resume").code, 200);
    let output = dump(&browser, &format!("http://{}/audit", page.address()), folder.path());
    let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!log.contains("CONSOLE"), "{log}");
    let (resume, halt) = (dom.find("<td>resume</td>"), dom.find("<td>halt</td>"));
    assert!(resume.is_some() && resume < halt, "{dom}");
    assert!(
        dom.contains("<td>local</td><td>127.0.0.1</td><td>halt</td><td>{\"state\":\"Operational\"}</td>")
    );
}
