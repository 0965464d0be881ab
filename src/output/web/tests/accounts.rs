//! Who may do what on the page: roles, signing in, sessions.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::client::{Answer, get, post, request, send};
use super::scene::{self, Line, on_free_port};
use crate::ErrorKind;
use crate::access::Role;
use crate::access::accounts::{add, remove};
use crate::output::web::{Settings, View, WebPage};
use crate::output::{Control, Output};

const PASSWORD: &str = "correct horse";

/// A page with an account per role, each called as its role; and its file.
fn page(more: impl FnOnce(&mut Settings)) -> (WebPage, Arc<Line>, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts");
    for role in Role::ALL {
        add(&path, role.name(), role, PASSWORD).unwrap();
    }
    let mut settings = Settings { accounts_file: Some(path.clone()), ..on_free_port() };
    more(&mut settings);
    let (page, line) = scene::page(settings);
    (page, line, path, folder)
}

pub(super) fn sign_in_with(address: SocketAddr, name: &str, password: &str, headers: &str) -> Answer {
    send(address, &sign_in_text(address, name, password, headers))
}

fn sign_in_text(address: SocketAddr, name: &str, password: &str, headers: &str) -> String {
    let body = serde_json::json!({"name": name, "password": password}).to_string();
    let length = body.len();
    format!(
        "POST /api/session HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
}

/// The header with the session of an account.
fn sign_in(address: SocketAddr, name: &str) -> String {
    let answer = sign_in_with(address, name, PASSWORD, "");
    assert_eq!(answer.code, 200, "{}", answer.text());
    let cookie = answer.header("set-cookie").unwrap();
    format!("Cookie: other=1; {}\r\n", cookie.split(';').next().unwrap())
}

fn change(address: SocketAddr, path: &str, headers: &str) -> Answer {
    request(address, "POST", path, &format!("X-Weakrest: 1\r\nContent-Length: 0\r\n{headers}"))
}

fn look_at(page: &mut WebPage, line: &Line) {
    // A change counts once the file is at rest from one look to the next.
    (0..2).for_each(|_| page.tick(SystemTime::now(), line.status()).unwrap());
}

#[test]
fn each_role_may_do_what_it_should_and_no_more() {
    let (page, line, _, _folder) = page(|_| {});
    let address = page.address();
    let all = ["/api/trigger", "/api/halt", "/api/resume", "/api/reload", "/api/rejects/1/label"];
    for (role, codes) in [
        (None, [401; 5]),
        (Some("view"), [403; 5]),
        (Some("operate"), [200, 200, 200, 403, 403]),
        (Some("engineer"), [200, 200, 200, 200, 404]),
    ] {
        let cookie = role.map_or_else(String::new, |role| sign_in(address, role));
        assert_eq!(all.map(|path| change(address, path, &cookie).code), codes, "{role:?}");
        let you = request(address, "GET", "/api/session", &cookie).json();
        assert_eq!((you["changes"].as_str(), you["role"].as_str()), (Some("account"), role));
        assert_eq!(request(address, "GET", "/api/status", &cookie).json()["you"], you);
    }
    assert_eq!(line.asked.lock().unwrap().len(), 7);
    let told = change(address, "/api/reload", &sign_in(address, "operate")).error();
    assert_eq!(told, "operate has the role operate; this needs the role engineer");
    // To be on this machine is no role, where there are accounts.
    let refused = post(address, "/api/halt");
    assert_eq!((refused.code, refused.error().as_str()), (401, "sign in first"));
}

#[test]
fn a_session_is_a_secret_that_scripts_and_other_sites_do_not_get() {
    let (page, line, _, _folder) = page(|_| {});
    let address = page.address();
    let answer = sign_in_with(address, "operate", PASSWORD, "");
    let cookie = answer.header("set-cookie").unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Strict");
    assert_eq!(pair.len(), "weakrest-session=".len() + 64);
    assert_eq!(
        answer.json(),
        serde_json::json!({"changes": "account", "name": "operate", "role": "operate"})
    );
    assert!(!answer.text().contains(&pair[20..]));
    // A proxy that encrypts gets a cookie for encrypted connections.
    let behind = sign_in_with(address, "operate", PASSWORD, "X-Forwarded-Proto: https\r\n");
    assert!(behind.header("set-cookie").unwrap().ends_with("; SameSite=Strict; Secure"));

    let session = format!("Cookie: {pair}\r\n");
    for foreign in ["", "Content-Type: text/plain\r\n"] {
        let refused = request(address, "POST", "/api/halt", &format!("{session}{foreign}"));
        assert_eq!(refused.code, 403, "{foreign}");
        assert!(refused.error().contains("X-Weakrest: 1"));
        let refused = request(address, "DELETE", "/api/session", &format!("{session}{foreign}"));
        assert_eq!(refused.code, 403, "{foreign}");
        let refused = request(address, "POST", "/api/session", &format!("Content-Length: 2\r\n{foreign}"));
        assert_eq!(refused.code, 403, "{foreign}");
    }
    for wrong in [
        format!("Cookie: {pair}0\r\n"),
        format!("Cookie: x{pair}\r\n"),
        format!("Cookie: weakrest-session={}\r\n", "0".repeat(64)),
        "Cookie: weakrest-session=\r\n".to_owned(),
        format!("Authorization: Bearer {}\r\n", &pair[17..]),
    ] {
        assert_eq!(change(address, "/api/halt", &wrong).code, 401, "{wrong}");
    }
    assert!(line.asked.lock().unwrap().is_empty());
    // A new session ends the one before in this browser; signing out ends it for good.
    let next = sign_in_with(address, "operate", PASSWORD, &session);
    assert_eq!(change(address, "/api/halt", &session).code, 401);
    let next = format!("Cookie: {}\r\n", next.header("set-cookie").unwrap().split(';').next().unwrap());
    assert_eq!(change(address, "/api/halt", &next).code, 200);
    let out = request(address, "DELETE", "/api/session", &format!("X-Weakrest: 1\r\n{next}"));
    assert_eq!(out.header("set-cookie").unwrap().split(';').next(), Some("weakrest-session="));
    assert!(out.header("set-cookie").unwrap().ends_with("Max-Age=0"));
    assert_eq!(change(address, "/api/halt", &next).code, 401);
}

#[test]
fn what_is_no_name_and_password_is_refused_without_effort() {
    let (page, _line, _, _folder) = page(|_| {});
    let address = page.address();
    for (name, password, code) in
        [("operate", "wrong horse", 401), ("nobody", PASSWORD, 401), ("operate", "", 401), ("", "", 401)]
    {
        let refused = sign_in_with(address, name, password, "");
        assert_eq!((refused.code, refused.error().as_str()), (code, "wrong name or password"), "{name}");
        assert_eq!(refused.header("set-cookie"), None);
    }
    assert_eq!(sign_in_with(address, "operate", &"x".repeat(300), "").code, 422);
    assert_eq!(sign_in_with(address, "operate", &"x".repeat(5000), "").code, 413);
    let json = "Content-Type: application/json\r\nContent-Length: 0\r\n";
    assert_eq!(request(address, "POST", "/api/session", json).code, 422);
    let (without, _line) = scene::page(on_free_port());
    assert!(sign_in_with(without.address(), "a", "b", "").error().contains("no accounts are set"));
    assert_eq!(get(without.address(), "/api/session").json()["role"], "engineer");
}

/// A name that does not exist takes as long as one that does.
#[test]
fn the_time_does_not_tell_which_names_exist() {
    let (_page, _line, path, _folder) = page(|_| {});
    let accounts = crate::access::accounts::Accounts::read(&path).unwrap();
    let fastest = |name: &str| {
        let once = |_| {
            let start = Instant::now();
            assert!(accounts.signed_in(name, "wrong horse").is_none());
            start.elapsed()
        };
        (0..5).map(once).min().unwrap().as_secs_f64()
    };
    let (known, unknown) = (fastest("operate"), fastest("nobody"));
    assert!((0.5..2.0).contains(&(known / unknown)), "{known} s, {unknown} s");
}

#[test]
fn guessing_is_slow_per_address_and_per_name_and_keeps_no_owner_out() {
    let (page, _line, _, _folder) = page(|_| {});
    let address = page.address();
    let from = |by: &str| format!("X-Forwarded-For: {by}\r\n");
    assert_eq!(sign_in_with(address, "operate", PASSWORD, &from("10.0.0.1")).code, 200);
    let start = Instant::now();
    // Each from another address, so that only the name counts.
    for i in 0..8 {
        let guess = sign_in_with(address, "operate", "wrong horse", &from(&format!("10.0.1.{i}")));
        assert_eq!(guess.code, 401);
    }
    assert!(start.elapsed() > Duration::from_millis(700), "{:?}", start.elapsed());
    // More at once than the queue of this name takes; those that wait for their turn are not read.
    let guesses: Vec<_> = (0..12)
        .map(|i| {
            let mut stream = super::client::connect(address);
            let guess = sign_in_text(address, "operate", "wrong horse", &from(&format!("10.0.2.{i}")));
            std::io::Write::write_all(&mut stream, guess.as_bytes()).unwrap();
            stream
        })
        .collect();
    let full = guesses.into_iter().next_back().map(|mut last| super::client::answer(&mut last).code);
    assert_eq!(full, Some(429));
    for (by, name) in [("10.0.0.1", "operate"), ("10.0.2.99", "engineer")] {
        let start = Instant::now();
        assert_eq!(sign_in_with(address, name, PASSWORD, &from(by)).code, 200);
        assert!(start.elapsed() < Duration::from_secs(5), "{name} waits {:?}", start.elapsed());
    }
    // One address, other names.
    let start = Instant::now();
    for i in 0..8 {
        assert_eq!(sign_in_with(address, &format!("name-{i}"), "wrong horse", &from("10.0.3.1")).code, 401);
    }
    assert!(start.elapsed() > Duration::from_millis(700), "{:?}", start.elapsed());
}

#[test]
fn the_token_stays_an_engineer_beside_accounts() {
    let (settings, folder) = scene::with_token(super::TOKEN);
    let (page, _line, _, _accounts) = page(|with| with.token_file = settings.token_file);
    let address = page.address();
    let token = format!("Authorization: Bearer {}\r\n", super::TOKEN);
    assert_eq!(change(address, "/api/reload", &token).code, 200);
    assert_eq!(change(address, "/api/reload", "Authorization: Bearer wrong\r\n").code, 401);
    assert!(post(address, "/api/halt").error().contains("sign in first, or send the token"));
    drop(folder);
}

#[test]
fn looking_can_need_a_session_too() {
    let (page, line, _, _folder) = page(|settings| settings.view = View::SignedIn);
    let address = page.address();
    line.status().raise("camera", crate::record::Severity::Error, "unplugged");
    let shown = ["/", "/app.js", "/session.js", "/style.css", "/api/session"];
    assert!(shown.iter().all(|path| get(address, path).code == 200));
    for path in
        ["/api/status", "/api/parts", "/api/rejects", "/api/rejects/1.jpg", "/api/live.jpg", "/metrics"]
    {
        let refused = get(address, path);
        assert_eq!((refused.code, refused.error().as_str()), (401, "sign in first"), "{path}");
    }
    let health = get(address, "/healthz");
    assert_eq!((health.code, &health.json()["problems"]), (503, &serde_json::json!({})));
    let cookie = sign_in(address, "view");
    assert_eq!(request(address, "GET", "/api/status", &cookie).code, 200);
    assert_eq!(
        request(address, "GET", "/healthz", &cookie).json()["problems"]["camera"]["text"],
        "unplugged"
    );
    let settings = Settings { view: View::SignedIn, ..on_free_port() };
    let error = WebPage::start(&settings, Line::new(true)).err().unwrap();
    assert!(error.chain().starts_with("web.view: nobody could sign in"), "{}", error.chain());
}

#[test]
fn accounts_that_change_count_at_once_and_a_broken_file_locks_nobody_out() {
    let (mut page, line, path, _folder) = page(|_| {});
    let address = page.address();
    let (operate, engineer) = (sign_in(address, "operate"), sign_in(address, "engineer"));
    remove(&path, "operate").unwrap();
    add(&path, "new", Role::Operate, PASSWORD).unwrap();
    look_at(&mut page, &line);
    assert_eq!(change(address, "/api/halt", &operate).code, 401);
    assert_eq!(change(address, "/api/halt", &engineer).code, 200);
    assert_eq!(change(address, "/api/halt", &sign_in(address, "new")).code, 200);

    let good = std::fs::read(&path).unwrap();
    for (text, told) in [
        (Some("anna boss x\n"), "accounts:1: anna has no role"),
        (Some(""), "holds no account"),
        (None, "cannot read"),
    ] {
        match text {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        look_at(&mut page, &line);
        let problem = line.status().problems()["accounts"].text.clone();
        assert!(problem.starts_with("web.accounts_file: ") && problem.contains(told), "{problem}");
        assert!(problem.ends_with("the accounts of before stay in use"), "{problem}");
        assert_eq!(change(address, "/api/halt", &engineer).code, 200);
        sign_in(address, "new");
    }
    std::fs::write(&path, good).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    look_at(&mut page, &line);
    assert!(!line.status().problems().contains_key("accounts"));
}

#[test]
fn a_page_that_is_set_up_again_keeps_sessions_and_accounts() {
    let (first, line, path, folder) = page(|_| {});
    drop(first);
    let site = crate::output::web::Site::default();
    let settings = Settings { accounts_file: Some(path.clone()), ..on_free_port() };
    let start =
        |settings: &Settings| WebPage::within(settings, Arc::clone(&line) as Arc<dyn Control>, site.clone());
    let page = start(&settings).unwrap();
    let engineer = sign_in(page.address(), "engineer");
    drop(page);
    std::fs::write(&path, "half a li").unwrap();
    let page = start(&Settings { history: 99, ..settings.clone() }).unwrap();
    assert_eq!(change(page.address(), "/api/halt", &engineer).code, 200);
    drop(page);
    // A configuration that names a file which cannot be used is refused before anything stops.
    let error = settings.check(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.chain().starts_with("web.accounts_file: "), "{}", error.chain());
}

#[test]
fn a_browser_says_who_may_do_what() {
    use super::browser::{browser, dump, text_of};
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (page, _line, _, _accounts) = page(|_| {});
    let output = dump(&browser, &format!("http://{}/", page.address()), folder.path());
    let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!dom.is_empty() && !log.contains("CONSOLE"), "{log}");
    assert_eq!(text_of(&dom, "may"), "Sign in: this needs the role operate.");
    assert!(
        dom.contains("id=\"halt\" type=\"button\" disabled=\"\" title=\"Sign in: this needs the role"),
        "{dom}"
    );
    assert!(dom.contains("<span>not signed in</span><button type=\"button\">Sign in</button>"), "{dom}");
    assert_eq!(text_of(&dom, "state"), "Operational");

    let (private, _line, _, _accounts) = self::page(|settings| settings.view = View::SignedIn);
    let output = dump(&browser, &format!("http://{}/", private.address()), folder.path());
    let dom = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text_of(&dom, "lost"), "Sign in to see the line.");
    assert!(dom.contains("<dialog aria-label=\"Sign in\" class=\"sign-in\" open=\"\">"), "{dom}");
    assert!(dom.contains("autocomplete=\"current-password\""), "{dom}");
}
