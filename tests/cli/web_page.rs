//! The service's page as a person uses it: the real program, and a real browser.

use std::path::PathBuf;

use crate::chromium::{Browser, Tab};
use crate::common::*;
use crate::run::{Service, config, http, parts};

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

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// The controls that something covers, and texts that leave their element's parent.
fn out_of_reach(tab: &Tab) -> String {
    tab.evaluate(
        "[...document.querySelectorAll('button, input, select, a, summary')].filter((control) => {
            if (control.disabled || !control.checkVisibility() || control.closest('dialog')) return false;
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
fn is_usable(tab: &Tab, name: &str) {
    let covered = out_of_reach(tab);
    assert!(covered.is_empty(), "{name}: covered:\n{covered}");
    let wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
    assert_eq!(tab.evaluate(wide), false, "{name}: wider than the screen");
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
