//! The service's page as a person uses it: the real program, and a real browser.

use std::path::PathBuf;

use serde_json::Value;

use crate::chromium::{Browser, Tab};
use crate::common::*;
use crate::run::{Service, config, http, parts};
use crate::texts::{LANGUAGES, Language, Pages, everything_is_translated, nothing_is_cut_off, speak};

/// Widths of a desktop and of a phone, with their heights.
const SCREENS: [(u32, u32); 2] = [(1280, 900), (390, 844)];

/// A running service with a page, kept pictures and a journal.
struct Site {
    folder: Folder,
    config: PathBuf,
    address: String,
    service: Option<Service>,
}

impl Site {
    fn start(trigger: &str, more: &str) -> Site {
        let folder = Folder::new();
        let package = folder.package("disc.weakrest");
        parts(&folder);
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let more = format!(
            "[trigger]\nsource = \"{trigger}\"\n[line]\ntravel_ms = 9000\n[health]\nfrozen = 0\n[web]\nlisten = \"{address}\"\n[pictures]\nfolder = {:?}\n\
             label_folder = {:?}\npasses = 2\nmin_free_megabytes = 0\n[journal]\npath = {:?}\n{more}",
            folder.path("kept"),
            folder.path("label"),
            folder.path("journal.sqlite")
        );
        let config = config(&folder, &package, &more);
        let mut site = Site { folder, config, address, service: None };
        site.run();
        site
    }

    /// Starts the service, for the first time or again.
    fn run(&mut self) {
        if let Some(old) = self.service.take() {
            assert_eq!(old.terminate().0, Some(0));
        }
        let service = Service::start(&self.config);
        service.wait_for("ready");
        self.service = Some(service);
    }

    /// Triggers so many parts, one after the other.
    fn trigger(&self, count: usize) {
        for _ in 0..count {
            assert_eq!(http(&self.address, "POST /api/trigger").0, 200);
            self.service.as_ref().unwrap().part();
        }
    }

    fn json(&self, path: &str) -> Value {
        let (code, body) = http(&self.address, &format!("GET {path}"));
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until the status is as wanted: a verdict may be printed before the page's thread counts it.
    #[track_caller]
    fn until(&self, holds: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..200 {
            let status = self.json("/api/status");
            if holds(&status) {
                return status;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{}", self.json("/api/status"));
    }

    /// Waits until the journal has so many parts.
    fn wait_for_rows(&self, parts: u64) {
        for _ in 0..200 {
            let (code, body) = http(&self.address, "GET /api/numbers");
            if code == 200 && serde_json::from_str::<Value>(&body).unwrap()["total"]["parts"] == parts {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{}", self.json("/api/numbers"));
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// The controls that something covers, and texts that leave their element's parent.
fn out_of_reach(tab: &Tab) -> String {
    tab.evaluate(
        "[...document.querySelectorAll('button, input, select, a, summary')].filter((control) => {
            if (control.disabled || !control.checkVisibility({ visibilityProperty: true }) || control.closest('dialog')) return false;
            control.scrollIntoView({ block: 'center' });
            const box = control.getBoundingClientRect();
            const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
            const name = control.closest('label');
            return !(hit && (control.contains(hit) || hit === name));
        }).map((control) => control.outerHTML.slice(0, 90)).join('\\n')",
    )
    .as_str()
    .unwrap()
    .to_owned()
}

/// Checks that every control can be used and that nothing is wider than the screen.
#[track_caller]
pub fn is_usable(tab: &Tab, name: &str) {
    let covered = out_of_reach(tab);
    assert!(covered.is_empty(), "{name}: covered:\n{covered}");
    let wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth ? '' : [...document.querySelectorAll('body *')]
        .filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth).map((e) => `${e.tagName} #${e.id}`).join()";
    assert_eq!(tab.evaluate(wide), "", "{name}: wider than the screen");
}

/// What comes from the service itself on its pages: names, reasons and messages.
const NAMES: &str = "#product, #problems, #remarks, #answer, #reason, #footer, #since, #entries, #recipe, #trouble, \
                     #parts-kept span:last-child, #period";

/// Looks at a page in each language on each screen, once `ready` returns.
#[track_caller]
fn in_all_languages(browser: &Browser, site: &Site, path: &str, name: &str, ready: impl Fn(&Tab)) {
    for (width, height) in SCREENS {
        let tab = browser.open(&site.url(path), width, height);
        for language in LANGUAGES {
            let what = format!("{name}-{width}-{language:?}").to_lowercase();
            speak(&tab, Pages::Service, language);
            ready(&tab);
            is_usable(&tab, &what);
            nothing_is_cut_off(&tab, &what, "#footer");
            if language == Language::Long {
                everything_is_translated(&tab, NAMES);
            }
            let height = tab.evaluate("document.documentElement.scrollHeight").as_f64().unwrap();
            for (i, top) in [0.0, 0.5, 1.0].into_iter().enumerate() {
                tab.evaluate(&format!("window.scrollTo(0, {})", top * height));
                tab.picture(&format!("{what}-{}", i + 1));
            }
        }
        tab.evaluate("localStorage.removeItem('language')");
    }
}

#[test]
fn every_control_of_the_page_can_be_reached() {
    let Some(browser) = Browser::start() else { return };
    let site = Site::start("software", "");
    site.trigger(30);
    for (width, height) in SCREENS {
        let tab = browser.open(&site.url("/"), width, height);
        tab.until("document.querySelectorAll('#rejects .label').length >= 4");
        tab.until("[...document.querySelectorAll('#rejects img')].every((i) => i.complete)");
        is_usable(&tab, &format!("page at {width}"));
        // No text of the list lies over what follows it.
        let below = "document.querySelector('#rejects').getBoundingClientRect().bottom >= Math.max(
            ...[...document.querySelectorAll('#rejects *')].map((e) => e.getBoundingClientRect().bottom)) - 1";
        assert_eq!(tab.evaluate(below), true, "at {width}");
        tab.evaluate("window.scrollTo(0, 0)");
        tab.picture(&format!("service-{width}"));
        tab.evaluate("document.querySelector('#rejects').scrollIntoView()");
        tab.picture(&format!("service-{width}-rejects"));
    }
    in_all_languages(&browser, &site, "/", "line", |tab| {
        tab.until("document.querySelectorAll('#rejects .label').length >= 4");
        tab.until("[...document.querySelectorAll('#rejects img')].every((i) => i.complete)");
    });
    // What holds while the line is halted, and the forms.
    assert_eq!(http(&site.address, "POST /api/halt").0, 200);
    in_all_languages(&browser, &site, "/", "halted", |tab| {
        tab.until("document.querySelector('#before')?.hidden === false");
        for (dialog, open) in [
            (".sign-in", "import('/session.js').then((module) => module.openForm())"),
            ("#ask", "document.querySelector('#ask').showModal()"),
        ] {
            tab.evaluate(open);
            nothing_is_cut_off(tab, dialog, "#footer");
            let (width, language) =
                (tab.evaluate("innerWidth"), tab.evaluate("document.documentElement.lang"));
            tab.picture(&format!("dialog-{width}-{}-{}", language.as_str().unwrap(), &dialog[1..]));
            tab.evaluate(&format!("document.querySelector('{dialog}').close()"));
        }
    });
    in_all_languages(&browser, &site, "/audit", "audit", |tab| {
        tab.until("document.querySelectorAll('#entries tr').length > 0");
    });
    assert_eq!(browser.troubles(), Vec::<String>::new());
}

#[test]
fn a_page_speaks_the_language_of_the_browser_until_another_is_chosen() {
    let Some(browser) = Browser::start() else { return };
    let site = Site::start("software", "");
    site.trigger(1);
    let tab = browser.open(&site.url("/"), 1280, 900);
    let speaks = |language: &str, trigger: &str| {
        tab.until(&format!(
            "document.documentElement?.lang === '{language}' && document.querySelector('#trigger')?.textContent === '{trigger}'"
        ));
    };
    speaks("en", "Trigger");
    // The first one that the pages know.
    tab.prefer_languages("fr-FR,de-DE,en-US");
    tab.reload();
    speaks("de", "Auslösen");
    tab.until("document.title === 'In Betrieb – disc'");
    tab.until("document.querySelector('#footer').textContent.includes('Schwelle')");
    let footer = tab.text("#footer");
    assert!(footer.contains("Schwelle ") && footer.contains(','), "{footer}");
    tab.evaluate("document.querySelector('#language').click()");
    speaks("en", "Trigger");
    tab.reload();
    speaks("en", "Trigger");
    tab.evaluate("document.querySelector('#language').click()");
    speaks("de", "Auslösen");
    // What one page was told holds on the others.
    tab.evaluate("location.href = '/numbers'");
    tab.until("document.title === 'Zahlen – weakrest'");
    tab.prefer_languages("fr-FR");
    tab.evaluate("localStorage.setItem('language', 'xx')");
    tab.reload();
    tab.until("document.documentElement?.lang === 'en' && document.title === 'Numbers – weakrest'");
    assert_eq!(browser.troubles(), Vec::<String>::new());
}

#[test]
fn the_big_word_says_what_holds_now() {
    let Some(browser) = Browser::start() else { return };
    let site = Site::start("software", "");
    site.trigger(1);
    let tab = browser.open(&site.url("/"), 1280, 900);
    tab.until("['PASS', 'REJECT'].includes(document.querySelector('#word')?.textContent)");
    let verdict = tab.text("#word");
    assert_eq!(http(&site.address, "POST /api/halt").0, 200);
    tab.until("document.querySelector('#word').textContent === 'HALTED'");
    assert!(tab.text("#reason").contains("halted"), "{}", tab.text("#reason"));
    let before = tab.text("#before");
    assert!(before.starts_with(&format!("Last part: {verdict}, part 1 · ")), "{before}");
    assert_eq!(tab.evaluate("document.querySelector('#verdict').className"), "verdict stopped Halted");
    tab.picture("service-halted");
    assert_eq!(http(&site.address, "POST /api/resume").0, 200);
    tab.until(&format!("document.querySelector('#word').textContent === '{verdict}'"));
    assert_eq!(tab.evaluate("document.querySelector('#before').hidden"), true);

    // A camera that ends, and is not there any more.
    let text = std::fs::read_to_string(&site.config).unwrap();
    std::fs::write(&site.config, text.replace("rate = 20", "rate = 20\nrepeat = false")).unwrap();
    assert_eq!(http(&site.address, "POST /api/reload").0, 200);
    site.service.as_ref().unwrap().wait_for("restarting the line");
    std::fs::rename(site.folder.path("parts"), site.folder.path("elsewhere")).unwrap();
    tab.until("document.querySelector('#word').textContent === 'ERROR'");
    assert!(tab.text("#reason").starts_with("camera: "), "{}", tab.text("#reason"));
    tab.picture("service-error");
}

#[test]
fn a_reload_is_asked_for_with_a_button_that_says_how_it_ended() {
    let Some(browser) = Browser::start() else { return };
    let site = Site::start("software", "");
    let tab = browser.open(&site.url("/"), 390, 844);
    let reload = || {
        tab.until("document.querySelector('#reload')?.disabled === false");
        tab.evaluate("document.querySelector('#reload').click()");
    };
    let text = std::fs::read_to_string(&site.config).unwrap();
    std::fs::write(&site.config, text.replace("[pictures]", "[pictures]\nwrong = 1")).unwrap();
    reload();
    tab.until("document.querySelector('#answer').textContent.includes('stays in use')");
    assert!(tab.text("#answer").contains("pictures.wrong"), "{}", tab.text("#answer"));
    assert_eq!(tab.evaluate("document.querySelector('#answer').className"), "notice error");
    tab.picture("service-reload-refused");

    std::fs::write(&site.config, &text).unwrap();
    reload();
    tab.until("document.querySelector('#answer').textContent === 'The new configuration is in use.'");
    // The whole line starts again, and the page with it.
    std::fs::write(&site.config, text.replace("rate = 20", "rate = 25")).unwrap();
    reload();
    tab.until("document.querySelector('#answer').textContent !== 'The new configuration is in use.'");
    tab.until("document.querySelector('#answer').textContent === 'The new configuration is in use.'");
    assert_eq!(tab.evaluate("document.querySelector('#problems').hidden"), true);
}

#[test]
fn a_restart_forgets_nothing_and_another_package_counts_for_itself() {
    let mut site = Site::start("software", "");
    site.trigger(12);
    let before = site.until(|status| status["counted"]["parts"] == 12);
    assert_eq!(before["counted"]["journal"], true);
    let rejects = site.json("/api/rejects")["parts"].as_array().unwrap().len();
    assert!(rejects >= 2);
    site.wait_for_rows(12);
    site.run();
    let after = site.until(|status| status["counted"]["parts"] == 12);
    for key in ["passes", "rejects", "faults"] {
        assert_eq!(after["counted"][key], before["counted"][key], "{key}");
    }
    assert!(after["counted"]["since_ms"].as_u64() <= before["started_ms"].as_u64());
    // Metrics count since the start of the service, as a scraper expects.
    assert_eq!(after["parts"], 0);
    let known = site.json("/api/parts")["parts"].as_array().unwrap().clone();
    assert_eq!(known.len(), 12);
    assert!(known.iter().all(|part| part["run"].is_string()));
    let kept = site.json("/api/rejects")["parts"].as_array().unwrap().clone();
    assert_eq!(kept.len(), rejects);
    let key = format!("{}-{}", kept[0]["run"].as_str().unwrap(), kept[0]["part"]);
    let label = || http(&site.address, &format!("POST /api/rejects/{key}/label"));
    assert_eq!(label().0, 200);
    assert_eq!(std::fs::read_dir(site.folder.path("label")).unwrap().count(), 1);
    if let Some(browser) = Browser::start() {
        let tab = browser.open(&site.url("/"), 1280, 900);
        tab.until("document.querySelector('#parts')?.textContent === '12'");
        tab.until("document.querySelector('#since').textContent.startsWith('disc with this package, since')");
        tab.until(&format!("document.querySelectorAll('#rejects img').length === {rejects}"));
        tab.until(
            "[...document.querySelectorAll('#rejects img')].every((i) => i.complete && i.naturalWidth)",
        );
        tab.picture("service-restarted");
    }
    site.trigger(1);
    site.until(|status| status["counted"]["parts"] == 13);

    // Another package of the same product begins at 0.
    let other = site.folder.path("other.weakrest");
    let good = site.folder.good_parts("good", 900, 12);
    weakrest!("enroll", "--images", good, "--output", other, "--product", "ring", "--size", "64").exits(0);
    let text = std::fs::read_to_string(&site.config).unwrap();
    std::fs::write(&site.config, text.replace("disc.weakrest", "other.weakrest")).unwrap();
    assert_eq!(http(&site.address, "POST /api/reload").0, 200);
    let status = site.until(|status| status["engine"]["product"] == "ring");
    assert_eq!((&status["counted"]["parts"], &status["parts"]), (&0.into(), &1.into()));
}

#[test]
fn the_numbers_are_those_of_the_journal() {
    let site = Site::start("software", "");
    site.trigger(25);
    site.wait_for_rows(25);
    let numbers = site.json("/api/numbers?by=product");
    let group = &numbers["groups"][0];
    assert_eq!((&group["name"], &group["parts"], &group["faults"]), (&"disc".into(), &25.into(), &0.into()));
    let rejects = group["rejects"].as_u64().unwrap();
    assert!((3..=7).contains(&rejects), "{group}");
    assert!(group["brightness"].as_f64().is_some_and(|b| (20.0..200.0).contains(&b)), "{group}");
    let heat = site.json("/api/numbers/heat");
    assert_eq!(heat["parts"], rejects);
    assert!(heat["cells"].as_array().unwrap().iter().any(|n| *n == rejects));

    let table = http(&site.address, "GET /api/numbers.csv").1;
    assert_eq!(table.matches("disc").count(), 25, "{table}");
    let kept = site.json("/api/kept?verdict=reject&product=disc&least=1");
    assert_eq!(kept["parts"].as_array().unwrap().len() as u64, rejects, "{kept}");
    assert!(site.json("/api/kept?least=1000")["parts"].as_array().unwrap().is_empty());
    let name = kept["parts"][0]["name"].as_str().unwrap();
    let get = |path: &str| {
        // A picture is no text.
        let mut stream = std::net::TcpStream::connect(&site.address).unwrap();
        use std::io::{Read, Write};
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", site.address).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[9..12]).into_owned()
    };
    assert_eq!(get(&format!("/api/kept/{name}.overlay.jpg")), "200");
    for elsewhere in ["..%2F..%2Fjournal.sqlite", "runs.txt", "%2Fetc%2Fpasswd"] {
        assert_eq!(get(&format!("/api/kept/{elsewhere}")), "404", "{elsewhere}");
    }
    for (wrong, code) in [("from=5&to=3", 400), ("from=x", 400), ("by=moon", 400)] {
        assert_eq!(http(&site.address, &format!("GET /api/numbers?{wrong}")).0, code);
    }

    let Some(browser) = Browser::start() else { return };
    for (width, height) in SCREENS {
        let tab = browser.open(&site.url("/numbers"), width, height);
        tab.until("document.querySelector('#parts')?.textContent === '25'");
        tab.until(&format!("document.querySelectorAll('#parts-kept li').length > {rejects}"));
        tab.until("document.querySelectorAll('#heat rect').length === 576");
        is_usable(&tab, &format!("numbers at {width}"));
        assert_eq!(tab.evaluate("document.querySelector('#trouble').hidden"), true);
        for (name, place) in
            [("top", "header"), ("middle", "#groupsof"), ("heat", ".spots"), ("kept", "#kept")]
        {
            tab.evaluate(&format!("document.querySelector('{place}').scrollIntoView()"));
            tab.picture(&format!("numbers-{width}-{name}"));
        }
    }
    in_all_languages(&browser, &site, "/numbers", "numbers", |tab| {
        tab.until("document.querySelector('#parts')?.textContent === '25'");
        tab.until(&format!("document.querySelectorAll('#parts-kept li').length > {rejects}"));
        tab.until("document.querySelectorAll('#heat rect').length === 576");
    });
    // By keyboard alone.
    let tab = browser.open(&site.url("/numbers"), 1280, 900);
    tab.until("document.querySelector('#parts')?.textContent === '25'");
    tab.evaluate("document.querySelector('#number').focus()");
    tab.write("999");
    tab.key("Enter");
    tab.until("document.querySelector('#keptof').textContent.startsWith('No part found')");
    tab.use_dark_colors();
    tab.evaluate("window.scrollTo(0, 0)");
    tab.picture("numbers-dark");
    assert_eq!(browser.troubles(), Vec::<String>::new());
}

#[test]
fn numbers_that_cannot_be_told_are_no_crash() {
    let mut site = Site::start("software", "");
    // An empty journal, once its thread has made it.
    site.wait_for_rows(0);
    let told = site.json("/api/numbers");
    assert_eq!(
        (&told["total"]["parts"], told["remarks"][0].as_str()),
        (&0.into(), Some("The journal has no parts yet."))
    );
    site.trigger(3);
    site.wait_for_rows(3);
    let journal = site.folder.path("journal.sqlite");
    std::fs::remove_dir_all(site.folder.path("kept")).unwrap();
    let (code, text) = http(&site.address, "GET /api/kept");
    assert!(code == 503 && text.contains("cannot read") || text.contains("\"parts\":[]"), "{code} {text}");
    std::fs::write(
        &journal,
        "no database at all, but some text that is longer than a header of SQLite".repeat(9),
    )
    .unwrap();
    let (code, text) = http(&site.address, "GET /api/numbers");
    assert!(code == 503 && text.contains("journal.sqlite"), "{code} {text}");
    let (code, text) = http(&site.address, "GET /api/numbers.csv");
    assert_eq!(code, 503, "{text}");
    // The line goes on. With the next start there is a new journal.
    site.trigger(2);
    site.run();
    site.trigger(2);
    site.wait_for_rows(2);
}
