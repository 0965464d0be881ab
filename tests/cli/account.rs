//! Accounts of the web page, and what they may do.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::*;
use crate::run::{Service, config, http, parts};

/// Runs `account add` with this text on its standard input.
pub fn add(name: &str, role: &str, file: &Path, input: &str) -> Ran {
    let mut child = Command::new(PROGRAM)
        .args(["account", "add", name, "--role", role, "--file"])
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may refuse the name before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Ran::from(child.wait_with_output().unwrap())
}

#[test]
fn accounts_are_made_listed_and_removed() {
    let folder = Folder::new();
    let file = folder.path("accounts");
    add("anna", "operate", &file, "correct horse\n").exits(0).prints(&["added anna with the role operate"]);
    add("ben", "view", &file, "battery staple").exits(0);
    add("anna", "engineer", &file, "correct horses\n")
        .exits(0)
        .prints(&["changed anna with the role engineer"]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("correct") && text.matches("$argon2id$").count() == 2, "{text}");
    let list = weakrest!("account", "list", "--file", &file).exits(0);
    assert_eq!(list.out, "engineer   anna\nview       ben\n");
    add("eve", "operate", &file, "short\n").exits(2).says(&["a password has at least 10 characters"]);
    add("a b", "operate", &file, "correct horse\n").exits(2).says(&["a name has 1 to 32 letters"]);
    add("eve", "boss", &file, "correct horse\n").exits(2).says(&["must be view, operate, engineer"]);
    weakrest!("account", "add", "eve", "--role", "view", "--file", &file, "--password", "correct horse")
        .exits(2);
    weakrest!("account", "remove", "ben", "--file", &file).exits(0).prints(&["removed ben"]);
    weakrest!("account", "remove", "ben", "--file", &file).exits(2).says(&["no account is called ben"]);
    weakrest!("account", "remove", "anna", "--file", &file).exits(2).says(&["last account"]);
}

#[test]
fn a_reload_that_would_lock_everybody_out_is_refused() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let file = folder.path("accounts");
    add("anna", "engineer", &file, "correct horse\n").exits(0);
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let web = format!("[web]\nlisten = \"{address}\"\naccounts_file = \"{}\"\n", file.display());
    let config = config(&folder, &package, &web);
    let service = Service::start(&config);
    service.wait_for("ready");
    assert_eq!(http(&address, "POST /api/halt").0, 401);
    weakrest!("check", "--config", &config)
        .exits(0)
        .prints(&["changes        by accounts: 0 view, 0 operate, 1 engineer"]);
    // Another file, which everybody may read.
    let open = folder.path("open");
    std::fs::copy(&file, &open).unwrap();
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace(&*file.to_string_lossy(), &open.to_string_lossy())).unwrap();
    service.signal("HUP");
    let told = service.wait_for("everybody on this machine may read it");
    assert!(told.contains("weakrest.toml:") && told.contains("web.accounts_file"), "{told}");
    assert!(told.contains("the previous configuration stays in use"), "{told}");
    assert_eq!(http(&address, "POST /api/halt").0, 401);
    // The same line goes on: its page was not set up again.
    let (code, status) = http(&address, "GET /api/status");
    assert!(code == 200 && status.contains("\"changes\":\"account\""), "{status}");
    assert_eq!(service.terminate().0, Some(0));
}

/// Through the form, as people do.
#[cfg(feature = "workshop")]
#[test]
fn people_sign_in_with_the_form_and_may_what_their_role_may() {
    let Some(browser) = crate::chromium::Browser::start() else { return };
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let file = folder.path("accounts");
    add("anna", "operate", &file, "correct horse\n").exits(0);
    add("wall", "view", &file, "battery staple\n").exits(0);
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let web = format!(
        "[web]\nlisten = \"{address}\"\naccounts_file = \"{}\"\nview = \"signed-in\"\n",
        file.display()
    );
    let config = config(&folder, &package, &web);
    let service = Service::start(&config);
    service.wait_for("ready");
    let tab = browser.open(&format!("http://{address}/"), 1280, 900);
    let sign_in = |name: &str, password: &str| {
        tab.until("document.querySelector('.sign-in')?.open");
        tab.evaluate("document.querySelectorAll('.sign-in input').forEach((i) => (i.value = ''))");
        tab.evaluate("document.querySelector('.sign-in input').focus()");
        tab.write(name);
        tab.key("Tab");
        tab.write(password);
        tab.key("Enter");
    };
    sign_in("wall", "correct horse");
    tab.until("document.querySelector('.sign-in p').textContent === 'wrong name or password'");
    sign_in("wall", "battery staple");
    tab.until("document.querySelector('#session').textContent.startsWith('wall (view)')");
    tab.until("document.querySelector('#state').textContent === 'Operational'");
    assert_eq!(tab.evaluate("document.querySelector('#halt').disabled"), true);
    assert_eq!(tab.text("#may"), "wall may not: this needs the role operate, not view.");
    // A script of the page has no part in the session.
    assert_eq!(tab.evaluate("document.cookie"), "");
    tab.evaluate("document.querySelector('#session button').click()");
    tab.until("document.querySelector('#lost').textContent === 'Sign in to see the line.'");
    sign_in("anna", "correct horse");
    tab.until("document.querySelector('#halt').disabled === false");
    tab.evaluate("window.confirm = () => true; document.querySelector('#halt').click()");
    tab.until("document.querySelector('#state').textContent === 'Halted'");
    tab.reload();
    tab.until("document.querySelector('#session')?.textContent.startsWith('anna (operate)')");
    tab.picture("signed-in");
    let record =
        std::fs::read_to_string(config.with_file_name("weakrest.toml.state").join("audit.jsonl")).unwrap();
    assert!(record.contains("\"who\":\"account anna\",\"from\":\"127.0.0.1\",\"what\":\"halt\""), "{record}");
    assert_eq!(service.terminate().0, Some(0));
}
