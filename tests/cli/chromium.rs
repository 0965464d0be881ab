//! Chromium as a person uses it, with mouse, keys and fingers: driven by its DevTools protocol over the pipe that it
//! offers instead of a port.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Far longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A browser of its own, with nothing remembered from before.
pub struct Browser {
    process: Child,
    wire: RefCell<Wire>,
    _profile: TempDir,
}

struct Wire {
    to: ChildStdin,
    from: Receiver<Value>,
    sent: u64,
    troubles: Vec<String>,
    /// What is answered instead of the server, by the end of the address.
    instead: Vec<(String, String)>,
}

impl Browser {
    /// Starts one, or says that the test is skipped.
    pub fn start() -> Option<Browser> {
        let Some(program) = program() else {
            super::common::skip("no Chromium on the path, the labeler's page was not used by a browser");
            return None;
        };
        let profile = TempDir::new().unwrap();
        // The protocol's pipes are the files 3 and 4.
        let mut process = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#])
            .arg(program)
            .args(["--remote-debugging-pipe", "--headless=new", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync", "--disable-default-apps"])
            .args(["--disable-extensions", "--lang=en-US"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, from) = channel();
        let mut messages = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            while messages.read_until(0, &mut bytes).is_ok_and(|n| n > 0) {
                bytes.pop();
                if sender.send(serde_json::from_slice(&bytes).unwrap()).is_err() {
                    break;
                }
                bytes.clear();
            }
        });
        let to = process.stdin.take().unwrap();
        let wire = Wire { to, from, sent: 0, troubles: Vec::new(), instead: Vec::new() };
        Some(Browser { process, wire: wire.into(), _profile: profile })
    }

    /// Opens an address in a new tab of `width` by `height` pixels.
    pub fn open(&self, url: &str, width: u32, height: u32) -> Tab<'_> {
        let target = self.ask(None, "Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session =
            self.ask(None, "Target.attachToTarget", attach)["sessionId"].as_str().unwrap().to_owned();
        let tab = Tab { browser: self, session };
        for domain in ["Page", "Runtime", "Log"] {
            tab.ask(&format!("{domain}.enable"), json!({}));
        }
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        tab.ask("Emulation.setDeviceMetricsOverride", metrics);
        tab.ask("Page.navigate", json!({"url": url}));
        tab
    }

    /// What went wrong in the pages: exceptions, and whatever the browser would not load or run.
    pub fn troubles(&self) -> Vec<String> {
        self.wire.borrow().troubles.clone()
    }

    #[track_caller]
    fn ask(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        self.try_ask(session, method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn try_ask(&self, session: Option<&str>, method: &str, parameters: Value) -> Result<Value, String> {
        let mut wire = self.wire.borrow_mut();
        let id = wire.send(session, method, parameters);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = wire.from.recv_timeout(left).unwrap_or_else(|e| panic!("{method}: {e}"));
            if message["id"] == id {
                return match message.get("error") {
                    Some(error) => Err(error["message"].to_string()),
                    None => Ok(message["result"].clone()),
                };
            }
            wire.heed(&message);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Wire {
    fn send(&mut self, session: Option<&str>, method: &str, parameters: Value) -> u64 {
        self.sent += 1;
        let mut message = json!({"id": self.sent, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        self.sent
    }

    fn heed(&mut self, message: &Value) {
        let what = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.troubles.push(what["exceptionDetails"].to_string()),
            // Refusals of the server are logged as well: those belong to what is tested.
            Some("Log.entryAdded")
                if what["entry"]["level"] == "error" && what["entry"]["source"] != "network" =>
            {
                self.troubles.push(what["entry"].to_string());
            }
            Some("Fetch.requestPaused") => {
                let url = what["request"]["url"].as_str().unwrap();
                let (_, text) = self.instead.iter().rfind(|(end, _)| url.ends_with(end)).unwrap();
                let body = base64::engine::general_purpose::STANDARD.encode(text);
                let headers = json!([{"name": "Content-Type", "value": "text/javascript; charset=utf-8"}]);
                let answer = json!({"requestId": what["requestId"], "responseCode": 200, "responseHeaders": headers, "body": body});
                let session = message["sessionId"].as_str().map(str::to_owned);
                self.send(session.as_deref(), "Fetch.fulfillRequest", answer);
            }
            // "Leave the page?" is answered with yes.
            Some("Page.javascriptDialogOpening") => {
                let session = message["sessionId"].as_str().map(str::to_owned);
                self.send(session.as_deref(), "Page.handleJavaScriptDialog", json!({"accept": true}));
            }
            _ => {}
        }
    }
}

fn program() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file())
}

/// A page, and the hands on it. Places are pixels of its window.
pub struct Tab<'a> {
    browser: &'a Browser,
    session: String,
}

impl Tab<'_> {
    fn ask(&self, method: &str, parameters: Value) -> Value {
        self.browser.ask(Some(&self.session), method, parameters)
    }

    /// What an expression gives in the page.
    #[track_caller]
    pub fn evaluate(&self, expression: &str) -> Value {
        self.try_evaluate(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// The same, unless the page is just being left for another.
    #[track_caller]
    fn try_evaluate(&self, expression: &str) -> Result<Value, String> {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.browser.try_ask(Some(&self.session), "Runtime.evaluate", parameters)?;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        Ok(answer["result"]["value"].clone())
    }

    /// The text of the first element that a selector finds.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        self.evaluate(&format!("document.querySelector({}).textContent", json!(selector)))
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Waits until an expression is true in the page.
    #[track_caller]
    pub fn until(&self, expression: &str) {
        self.until_within(PATIENCE, expression);
    }

    /// The same for what takes longer.
    #[track_caller]
    pub fn until_within(&self, patience: Duration, expression: &str) {
        let deadline = Instant::now() + patience;
        let expected = format!("Boolean({expression})");
        while !self.try_evaluate(&expected).is_ok_and(|found| found == true) {
            let shown = || self.evaluate("document.body.innerText");
            assert!(
                Instant::now() < deadline,
                "never: {expression}\n{:?}\n{}",
                self.browser.troubles(),
                shown()
            );
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Comes to the front, as when its tab is clicked.
    pub fn focus(&self) {
        self.ask("Page.bringToFront", json!({}));
    }

    /// Loads the page again.
    pub fn reload(&self) {
        self.evaluate("window.beforeReload = true");
        self.ask("Page.reload", json!({}));
        self.until("!window.beforeReload && document.readyState === 'complete'");
    }

    /// Says that the person reads these languages, such as `de-DE,en`, from the next load on.
    pub fn prefer_languages(&self, languages: &str) {
        let agent = self.evaluate("navigator.userAgent");
        self.ask("Network.setUserAgentOverride", json!({"userAgent": agent, "acceptLanguage": languages}));
    }

    /// Gives the page another script instead of the server's, from the next load on.
    pub fn replace_script(&self, path: &str, text: &str) {
        self.browser.wire.borrow_mut().instead.push((path.into(), text.into()));
        self.ask("Network.enable", json!({}));
        self.ask("Network.setCacheDisabled", json!({"cacheDisabled": true}));
        self.ask("Fetch.enable", json!({"patterns": [{"urlPattern": format!("*{path}")}]}));
    }

    /// Has fingers instead of a mouse from the next load on.
    pub fn use_fingers(&self) {
        self.ask("Emulation.setTouchEmulationEnabled", json!({"enabled": true, "maxTouchPoints": 5}));
        self.reload();
    }

    pub fn use_dark_colors(&self) {
        let features = json!([{"name": "prefers-color-scheme", "value": "dark"}]);
        self.ask("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Writes a picture of the page for people to look at, below the target folder.
    pub fn picture(&self, name: &str) {
        let answer = self.ask("Page.captureScreenshot", json!({"format": "png"}));
        let data = answer["data"].as_str().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    /// Presses and lets go a key such as `a`, `Enter` or `Control+Shift+z`.
    pub fn key(&self, name: &str) {
        let (mut modifiers, mut key) = (0, name);
        for (prefix, bit) in [("Control+", 2), ("Shift+", 8)] {
            if let Some(rest) = key.strip_prefix(prefix) {
                (modifiers, key) = (modifiers | bit, rest);
            }
        }
        let text = match key {
            "Enter" => "\r",
            "Space" => " ",
            _ if key.chars().count() == 1 && modifiers & 2 == 0 => key,
            _ => "",
        };
        let key = if key == "Space" { " " } else { key };
        let kind = if text.is_empty() { "rawKeyDown" } else { "keyDown" };
        let down = json!({"type": kind, "key": key, "text": text, "modifiers": modifiers});
        self.ask("Input.dispatchKeyEvent", down);
        self.ask("Input.dispatchKeyEvent", json!({"type": "keyUp", "key": key, "modifiers": modifiers}));
    }

    pub fn keys(&self, names: &[&str]) {
        names.iter().for_each(|name| self.key(name));
    }

    /// Writes into the field that has the keyboard.
    pub fn write(&self, text: &str) {
        self.ask("Input.insertText", json!({"text": text}));
    }

    fn mouse(&self, kind: &str, (x, y): (f64, f64), button: &str) {
        let held = if kind == "mouseReleased" {
            0
        } else {
            ["none", "left", "right"].iter().position(|b| *b == button).unwrap()
        };
        self.ask(
            "Input.dispatchMouseEvent",
            json!({"type": kind, "x": x, "y": y, "button": button, "buttons": held, "clickCount": 1}),
        );
    }

    pub fn click(&self, at: (f64, f64)) {
        self.drag(&[at], "left");
    }

    pub fn hover(&self, at: (f64, f64)) {
        self.mouse("mouseMoved", at, "none");
    }

    /// Presses a button at the first place and lets it go at the last.
    pub fn drag(&self, places: &[(f64, f64)], button: &str) {
        self.hover(places[0]);
        self.mouse("mousePressed", places[0], button);
        places[1..].iter().for_each(|&place| self.mouse("mouseMoved", place, button));
        self.mouse("mouseReleased", *places.last().unwrap(), button);
    }

    pub fn wheel(&self, (x, y): (f64, f64), turn: f64) {
        let wheel = json!({"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": turn});
        self.ask("Input.dispatchMouseEvent", wheel);
    }

    /// Puts fingers down, moves them from place to place, and lifts them: a list of places at each moment.
    pub fn fingers(&self, moments: &[Vec<(f64, f64)>]) {
        for (i, places) in moments.iter().enumerate() {
            let kind = if i == 0 { "touchStart" } else { "touchMove" };
            let points: Vec<_> =
                places.iter().enumerate().map(|(id, (x, y))| json!({"x": x, "y": y, "id": id})).collect();
            self.ask("Input.dispatchTouchEvent", json!({"type": kind, "touchPoints": points}));
        }
        self.ask("Input.dispatchTouchEvent", json!({"type": "touchEnd", "touchPoints": []}));
    }
}
