//! Teaching on the service's page, through its HTTP interface and in a browser: from a bare board to a product, judging,
//! and what a kill at any moment leaves.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[cfg(feature = "workshop")]
use super::chromium::{Browser, Tab};
use super::common::*;
use super::run::{Service, parts};
#[cfg(feature = "workshop")]
use super::texts::{LANGUAGES, Language, Pages, everything_is_translated, nothing_is_cut_off, speak};

/// Far longer than enrolling takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running service without a package, and its page.
struct Board {
    folder: Folder,
    service: Service,
    address: String,
}

impl Board {
    /// Good and dented parts in turn, on a free port.
    fn bare(more: &str) -> Board {
        let folder = Folder::new();
        parts(&folder);
        Self::on(folder, more)
    }

    fn on(folder: Folder, more: &str) -> Board {
        // Slow enough for a program that is not optimized.
        let text = format!(
            "[inspection]\npackage = {:?}\nthreads = 1\n[camera]\nkind = \"folder\"\npath = {:?}\nrate = 3\n\
             [health]\nfrozen = 0\n[line]\ntravel_ms = 5000\n[web]\nlisten = \"127.0.0.1:0\"\n{more}",
            folder.path("product.weakrest"),
            folder.path("parts")
        );
        let config = folder.file("weakrest.toml", text.as_bytes());
        let (service, address) = Self::start(&config);
        Board { folder, service, address }
    }

    fn start(config: &Path) -> (Service, String) {
        let service = Service::start(config);
        let line = service.wait_for("web page on http://");
        let address = line.split("http://").nth(1).unwrap().trim_end_matches('/').to_owned();
        (service, address)
    }

    /// As a power cut does, and the next start.
    fn kill(&mut self) {
        self.service.signal("KILL");
        (self.service, self.address) = Self::start(&self.folder.path("weakrest.toml"));
    }

    fn agent() -> ureq::Agent {
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .build()
            .into()
    }

    /// What the service answers, with the status code.
    fn try_ask(&self, action: &str, question: &Value) -> Result<(u16, Value), ureq::Error> {
        let request = Self::agent()
            .post(format!("http://{}/api/teach/{action}", self.address))
            .header("X-Weakrest", "1")
            .header("Content-Type", "application/json");
        let mut answer = request.send(question.to_string())?;
        let text = answer.body_mut().read_to_string()?;
        Ok((answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    #[track_caller]
    fn ask(&self, action: &str, question: Value) -> Value {
        let (code, answer) = self.try_ask(action, &question).unwrap();
        assert_eq!(code, 200, "{action} {question}: {answer}");
        answer
    }

    #[track_caller]
    fn refuses(&self, action: &str, question: Value, code: u16, why: &str) {
        let (answered, answer) = self.try_ask(action, &question).unwrap();
        let text = answer["error"].as_str().unwrap_or_default();
        assert!(answered == code && text.contains(why), "{action} {question}: {answered} {answer}");
    }

    fn get(&self, path: &str) -> Value {
        let mut answer = Self::agent().get(format!("http://{}{path}", self.address)).call().unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap_or(Value::Null)
    }

    fn code(&self, path: &str) -> u16 {
        Self::agent().get(format!("http://{}{path}", self.address)).call().unwrap().status().as_u16()
    }

    fn state(&self) -> Value {
        self.get("/api/teach")
    }

    /// Waits until the state fits.
    #[track_caller]
    fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let limit = Instant::now() + PATIENCE;
        loop {
            let state = self.state();
            if fits(&state) {
                return state;
            }
            assert!(Instant::now() < limit, "never {what}: {state:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Collects good parts: what the folder's dented ones make bad is removed again.
    fn collect(&self, count: usize) {
        self.ask("collect", json!({"mode": "timed", "seconds": 0.2}));
        self.until("enough", |state| state["product"]["good"].as_array().unwrap().len() >= count);
        self.ask("collect", json!({"mode": "off"}));
    }

    /// Enrolls, and waits for the new package.
    #[track_caller]
    fn enroll(&self) -> Value {
        self.ask("enroll", Value::Null);
        let state = self.until("enrolled", |state| state["job"]["running"] == false);
        assert_eq!(state["job"]["error"], Value::Null);
        state["product"]["candidate"].clone()
    }

    /// Activates the new package, and waits until it judges.
    #[track_caller]
    fn activate(&self, reason: Option<&str>) -> String {
        let package = self.state()["product"]["candidate"]["package"].as_str().unwrap().to_owned();
        self.ask("activate", json!({"package": package, "reason": reason}));
        self.until_active(&package);
        package
    }

    #[track_caller]
    fn until_active(&self, package: &str) {
        let limit = Instant::now() + PATIENCE;
        while self.get("/api/status")["engine"]["package"] != package {
            assert!(Instant::now() < limit, "never active: {:#}", self.get("/api/status"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The id of a latest part with this verdict.
    fn latest(&self, verdict: &str) -> u64 {
        let is_one = |part: &&Value| part["verdict"] == verdict && part["answer"] == Value::Null;
        let state =
            self.until(verdict, |state| state["recent"].as_array().unwrap().iter().any(|p| is_one(&p)));
        state["recent"].as_array().unwrap().iter().find(is_one).unwrap()["id"].as_u64().unwrap()
    }
}

/// Only good parts in front of the camera.
fn good_parts() -> Folder {
    let folder = Folder::new();
    folder.good_parts("parts", 300, 12);
    folder
}

#[test]
fn a_bare_board_learns_a_product_and_gets_better_by_answers() {
    let board = Board::on(good_parts(), "");
    // Nothing passes before there is a package.
    let part = board.service.part();
    assert_eq!((&part["verdict"], &part["fault"]), (&"fault".into(), &"inspection".into()), "{part}");
    assert!(part["reason"].as_str().unwrap().contains("teach a product on the web page"), "{part}");
    assert_eq!(board.code("/healthz"), 503);
    assert_eq!(board.get("/api/status")["problems"]["package"]["severity"], "error");

    board.ask("product", json!({"name": " Disc 7 "}));
    board.ask("settings", json!({"quality": "fast", "false_reject_percent": 2.0}));
    board.collect(9);
    let good = board.state()["product"]["good"].as_array().unwrap().clone();
    let first = good[0].as_str().unwrap();
    assert_eq!(board.code(&format!("/api/teach/good/{first}")), 200);
    board.ask("remove", json!({"answer": "good", "picture": first}));

    let candidate = board.enroll();
    assert_eq!(candidate["images"], good.len() - 1);
    assert_eq!(board.get("/api/status")["engine"]["package"], "", "enrolling alone changes nothing");
    let package = board.activate(None);
    let status = board.get("/api/status");
    assert_eq!((&status["state"], &status["engine"]["product"]), (&"Operational".into(), &"Disc 7".into()));
    board.latest("pass");

    // A dented part comes, and is rejected. A person confirms it, and calls another one good.
    for i in 0..12 {
        board.folder.picture(format!("parts/{i:02}.png"), &dented_part(700 + i));
    }
    let bad = board.latest("reject");
    board.ask("answer", json!({"id": bad, "answer": "bad"}));
    let other = board.latest("reject");
    board.ask("answer", json!({"id": other, "answer": "good"}));
    // People err: the last answer counts.
    board.ask("answer", json!({"id": other, "answer": "bad"}));
    let state = board.state();
    assert_eq!(state["product"]["bad"].as_array().unwrap().len(), 2);
    assert_eq!(state["product"]["good"].as_array().unwrap().len(), good.len() - 1);

    let candidate = board.enroll();
    assert_eq!(candidate["bad"].as_array().unwrap().len(), 2);
    let state = board.state();
    assert_eq!(state["product"]["changes"]["missed"], json!([]));
    assert_eq!(state["product"]["changes"]["newly_missed"], json!([]));

    // What is said to be bad after that must be inspected with it first.
    let third = board.latest("reject");
    board.ask("answer", json!({"id": third, "answer": "bad"}));
    board.refuses(
        "activate",
        json!({"package": candidate["package"]}),
        409,
        "1 known defects were not inspected with this package",
    );
    let candidate = board.enroll();

    // A threshold that passes a known defect needs a reason.
    let scores: Vec<f64> =
        candidate["bad"].as_array().unwrap().iter().map(|s| s["score"].as_f64().unwrap()).collect();
    board.activate(None);
    let highest = scores.iter().copied().fold(0.0, f64::max);
    let told = board.get(&format!("/api/teach/threshold?value={}", 1.01 * highest));
    assert_eq!((&told["caught"], told["per_1000"][0].as_f64()), (&0.into(), Some(0.0)), "{told}");
    board.ask("threshold", json!({"value": 1.01 * highest}));
    let wanted = board.state()["product"]["candidate"]["package"].clone();
    board.refuses(
        "activate",
        json!({"package": wanted}),
        409,
        "misses 3 known defects that the active one rejects",
    );
    let lenient = board.activate(Some("the customer accepts dents"));
    board.latest("pass");
    assert_ne!(lenient, package);

    // And back.
    board.ask("back", Value::Null);
    board.until_active(&board.state()["product"]["candidate"]["package"].as_str().map_or(
        String::new(),
        |_| {
            let show =
                weakrest!("package", "show", board.folder.path("product.weakrest"), "--json").exits(0).json();
            show["hash"].as_str().unwrap().to_owned()
        },
    ));
    board.latest("reject");

    // The package says where it comes from.
    let shown = weakrest!("package", "show", board.folder.path("product.weakrest")).exits(0);
    let shown = shown.prints(&["history", "local: product created", "good part collected", "said to be bad"]);
    assert!(!shown.out.contains("the customer accepts dents"), "{shown}");
    let history = board.state()["product"]["history"].to_string();
    assert!(history.contains("because: the customer accepts dents"), "{history}");
}

#[test]
fn each_product_becomes_a_recipe_and_replaces_no_other() {
    let folder = good_parts();
    let more = format!("[recipes]\nfolder = {:?}\n", folder.path("recipes"));
    let board = Board::on(folder, &more);
    let teach = |name: &str, recipe: u16, is_new: bool| {
        board.ask("product", json!({"name": name}));
        board.ask("settings", json!({"quality": "fast"}));
        if board.state()["product"]["good"].as_array().unwrap().is_empty() {
            board.collect(6);
        }
        board.enroll();
        let target = &board.state()["target"];
        assert_eq!(*target, json!({"recipe": recipe, "is_new": is_new, "replaces": null}), "{name}");
        let package = board.activate(None);
        let engine = board.get("/api/status")["engine"].clone();
        assert_eq!((&engine["product"], &engine["recipe"]), (&json!(name), &json!(recipe)));
        package
    };
    let hash = |path: &str| {
        let show = weakrest!("package", "show", board.folder.path(path), "--json").exits(0).json();
        show["hash"].as_str().unwrap().to_owned()
    };
    let disc = teach("disc", 0, false);
    let ring = teach("ring 0.5", 1, true);
    assert_eq!((hash("product.weakrest"), hash("recipes/1-ring 0.5.weakrest")), (disc.clone(), ring.clone()));
    // Again: each goes to where it was.
    teach("disc", 0, false);
    let ring = teach("ring 0.5", 1, false);
    assert_eq!(hash("recipes/1-ring 0.5.weakrest"), ring);
    assert_ne!(hash("product.weakrest"), disc);
    assert!(board.state()["product"]["history"].to_string().contains("activated as recipe 1"));
    assert_eq!(board.get("/api/recipes")["recipes"], json!([{"number": 1, "name": "ring 0.5"}]));
}

#[test]
fn without_recipes_the_page_says_which_product_is_replaced() {
    let board = Board::on(good_parts(), "");
    board.ask("product", json!({"name": "disc"}));
    board.ask("settings", json!({"quality": "fast"}));
    board.collect(6);
    board.enroll();
    board.activate(None);
    board.ask("product", json!({"name": "ring"}));
    assert_eq!(board.state()["target"], json!({"recipe": 0, "is_new": false, "replaces": "disc"}));
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let board = Board::bare("[teach]\nmax_megabytes = 16\n");
    board.refuses("collect", json!({"mode": "next"}), 409, "choose a product first");
    board.refuses("enroll", Value::Null, 409, "choose a product first");
    for name in ["", "  ", "a\nb", &"x".repeat(81)] {
        board.refuses("product", json!({"name": name}), 409, "1 to 80 characters");
    }
    board.refuses("product", json!({"product": "x"}), 400, "cannot be read");
    board.ask("product", json!({"name": "../../etc"}));
    assert!(board.folder.path("weakrest.toml.state/teach").is_dir());
    board.refuses("enroll", Value::Null, 409, "0 good pictures are too few");
    board.refuses("settings", json!({"quality": "perfect"}), 409, "fast, standard or best");
    board.refuses("settings", json!({"false_reject_percent": 99}), 409, "0.01 to 50 %");
    board.refuses("settings", json!({"ignore": [[[0.0, 0.0], [1.0, 1.0]]]}), 409, "3 to 200 corners");
    board.refuses(
        "settings",
        json!({"ignore": [[[0.0, 0.0], [1.5, 0.0], [0.0, 1.0]]]}),
        409,
        "shares of width",
    );
    board.refuses("collect", json!({"mode": "timed", "seconds": 0.0}), 409, "0.2 to 3600 s");
    for picture in ["../product.json", "/etc/passwd", "", "missing.png"] {
        board.refuses(
            "remove",
            json!({"answer": "good", "picture": picture}),
            409,
            "there is no good picture",
        );
    }
    board.refuses("answer", json!({"id": 99, "answer": "good"}), 409, "not among the latest");
    board.refuses("activate", json!({"package": "f00"}), 409, "has changed meanwhile");
    board.refuses("shadow", json!({"on": true}), 409, "there is no new package");
    board.refuses("back", Value::Null, 409, "there is no previous package");
    for kept in ["../../../etc/passwd", "20261128/../x", "20261128/20261128-1.2-ab/c-pass"] {
        board.refuses(
            "answer-kept",
            json!({"kept": kept, "product": "x", "answer": "good"}),
            409,
            "pictures.folder",
        );
    }
    assert_eq!(board.code("/api/teach/good/..%2fproduct.json"), 409);
    assert_eq!(board.code("/api/teach/recent/7"), 409);
    // The line is as it was.
    assert_eq!(board.service.part()["verdict"], "fault");
}

#[test]
fn a_package_from_elsewhere_is_not_replaced_by_one_of_a_few_answers() {
    let folder = good_parts();
    let many = folder.good_parts("many", 900, 12);
    enroll(&many, &folder.path("product.weakrest"), &["--product", "disc"]).exits(0);
    let board = Board::on(folder, "");
    for answer in ["good", "bad", "good"] {
        let id = board.latest("pass");
        board.ask("answer", json!({"id": id, "answer": answer}));
    }
    board.ask("product", json!({"name": "disc"}));
    assert_eq!(board.state()["product"]["good"].as_array().unwrap().len(), 2);
    board.refuses("enroll", Value::Null, 409, "enrolled with 12 good pictures, but only 2 are here");
    // Its threshold can be changed; the known defect is inspected with it.
    let threshold = board.get("/api/status")["engine"]["threshold"].as_f64().unwrap();
    let state = board.ask("threshold", json!({"value": 1.1 * threshold}));
    assert_eq!(state["product"]["candidate"]["bad"].as_array().unwrap().len(), 1);
    board.activate(None);
}

#[test]
fn a_candidate_that_changed_behind_the_page_is_not_activated() {
    let board = Board::on(good_parts(), "");
    board.ask("product", json!({"name": "disc"}));
    board.ask("settings", json!({"quality": "fast"}));
    board.collect(4);
    let candidate = board.enroll();
    let product =
        std::fs::read_dir(board.folder.path("weakrest.toml.state/teach")).unwrap().next().unwrap().unwrap();
    let bank = product.path().join("candidate.weakrest/bank-1.safetensors");
    let mut bytes = std::fs::read(&bank).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&bank, bytes).unwrap();
    board.refuses("activate", json!({"package": candidate["package"]}), 500, "bank-1.safetensors");
    assert!(!board.folder.path("product.weakrest").exists());
    assert_eq!(board.get("/api/status")["engine"]["package"], "");
}

#[test]
fn pictures_of_another_size_end_collecting() {
    let board = Board::on(good_parts(), "");
    board.ask("product", json!({"name": "disc"}));
    board.collect(2);
    for i in 0..12 {
        board.folder.picture(format!("parts/{i:02}.png"), &part_of_size(800 + i, 120, 80));
    }
    std::thread::sleep(Duration::from_secs(1));
    board.ask("collect", json!({"mode": "timed", "seconds": 0.2}));
    let state = board.until("refused", |state| state["collecting"]["mode"] == "off");
    let why = state["refused"].as_str().unwrap();
    assert!(why.contains("the camera gives 120×80 pixels, but the product's pictures have 96×80"), "{why}");
}

/// The process that enrolls for this board.
fn enrolling(board: &Board) -> Option<u32> {
    let folder = board.folder.path("").display().to_string();
    let is_it = |process: &u32| {
        let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("enroll") && line.contains(&folder)
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(is_it)
}

#[test]
fn enrolling_that_dies_is_told_and_the_line_goes_on() {
    let board = Board::on(good_parts(), "");
    board.ask("product", json!({"name": "disc"}));
    board.collect(4);
    let begin = || {
        board.ask("enroll", Value::Null);
        let limit = Instant::now() + PATIENCE;
        loop {
            if let Some(process) = enrolling(&board) {
                break process;
            }
            assert!(Instant::now() < limit);
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let ended = || board.until("ended", |state| state["job"]["running"] == false)["job"]["error"].clone();
    // As when memory runs out.
    let process = begin();
    assert!(Command::new("kill").args(["-9", &process.to_string()]).status().unwrap().success());
    assert_eq!(ended(), "weakrest was killed, maybe because memory ran out");
    begin();
    board.refuses("enroll", Value::Null, 409, "being enrolled already");
    board.refuses("product", json!({"name": "other"}), 409, "being enrolled");
    board.ask("stop", Value::Null);
    assert_eq!(ended(), "stopped");
    // A picture that is none.
    let teach = std::fs::read_dir(board.folder.path("weakrest.toml.state/teach")).unwrap();
    let product = teach.flatten().next().unwrap().path();
    std::fs::write(product.join("good/broken.png"), b"no picture").unwrap();
    board.ask("enroll", Value::Null);
    let why = ended();
    assert!(why.as_str().is_some_and(|why| why.contains("broken.png")), "{why}");
    assert_eq!(board.service.part()["verdict"], "fault");
    // A service that ends takes its helper with it.
    board.ask("remove", json!({"answer": "good", "picture": "broken.png"}));
    let process = begin();
    assert_eq!(board.service.terminate().0, Some(0));
    let limit = Instant::now() + Duration::from_secs(10);
    while Path::new(&format!("/proc/{process}/cmdline")).exists() {
        assert!(Instant::now() < limit, "the process that enrolled lives on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whatever the page has confirmed is there after a kill, and the package in use is whole. More kills with
/// `WEAKREST_KILLS=500`.
#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_confirmed() {
    let kills = std::env::var("WEAKREST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let mut board = Board::on(good_parts(), "");
    board.ask("product", json!({"name": "disc"}));
    board.ask("settings", json!({"quality": "fast"}));
    board.collect(4);
    board.enroll();
    board.activate(None);
    let mut random = Random(7);
    let mut bad = 0;
    for round in 0..kills {
        let id = board.latest("pass");
        let patience = Duration::from_millis(random.next() % 400);
        let killer = {
            let process = board.service.id();
            std::thread::spawn(move || {
                std::thread::sleep(patience);
                let _ = Command::new("kill").args(["-9", &process.to_string()]).status();
            })
        };
        // As much as comes through until the kill.
        let confirmed = |answer: Result<(u16, Value), ureq::Error>| answer.is_ok_and(|(code, _)| code == 200);
        let answered = confirmed(board.try_ask("answer", &json!({"id": id, "answer": "bad"})));
        bad += usize::from(answered);
        let threshold = 3.0 + f64::from(round % 5) / 10.0;
        if confirmed(board.try_ask("threshold", &json!({"value": threshold}))) {
            let wanted = board.try_ask("hold", &json!({"on": false})).ok();
            let package = wanted.map(|(_, state)| state["product"]["candidate"]["package"].clone());
            if let Some(package) = package {
                let _ = board.try_ask("activate", &json!({"package": package, "reason": "trial"}));
            }
        }
        killer.join().unwrap();
        board.kill();
        let kept = board.state()["product"]["bad"].as_array().unwrap().len();
        assert!(kept >= bad, "round {round}: {kept} of {bad} confirmed answers are kept");
        bad = kept;
        weakrest!("package", "verify", board.folder.path("product.weakrest")).exits(0);
    }
}

/// A recipe is added whole or not at all, and is never there twice.
#[test]
fn a_kill_while_a_recipe_is_added_leaves_whole_recipes_only() {
    let kills = std::env::var("WEAKREST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let folder = good_parts();
    let recipes = folder.path("recipes");
    let mut board = Board::on(folder, &format!("[recipes]\nfolder = {recipes:?}\n"));
    for name in ["disc", "ring"] {
        board.ask("product", json!({"name": name}));
        board.ask("settings", json!({"quality": "fast"}));
        board.collect(4);
        board.enroll();
        if name == "disc" {
            board.activate(None);
        }
    }
    let package = board.state()["product"]["candidate"]["package"].clone();
    let mut random = Random(11);
    for round in 0..kills {
        let patience = Duration::from_millis(random.next() % 2_000);
        let process = board.service.id();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(patience);
            let _ = Command::new("kill").args(["-9", &process.to_string()]).status();
        });
        let asked = board.try_ask("activate", &json!({"package": package}));
        let confirmed = asked.is_ok_and(|(code, _)| code == 200);
        killer.join().unwrap();
        board.kill();
        let list = board.get("/api/recipes")["recipes"].clone();
        let there = list == json!([{"number": 1, "name": "ring"}]);
        assert!(there || (list == json!([]) && !confirmed), "round {round}: {confirmed}, {list}");
        if there {
            weakrest!("package", "verify", recipes.join("1-ring.weakrest")).exits(0);
        }
        let target = board.state()["target"].clone();
        let is_used = board.get("/api/status")["engine"]["recipe"] == 1;
        assert_eq!(
            target,
            json!({"recipe": 1, "is_new": !there, "replaces": null}),
            "round {round}: {is_used}"
        );
        if there && !is_used {
            std::fs::remove_dir_all(&recipes).unwrap();
        } else if is_used {
            return;
        }
    }
}

/// The middle of the first element that a selector finds, after scrolling to it.
#[cfg(feature = "workshop")]
fn place(tab: &Tab, selector: &str) -> (f64, f64) {
    let script = format!(
        "(() => {{ const e = document.querySelector({}); e.scrollIntoView({{block: 'center'}});
         const b = e.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; }})()",
        json!(selector)
    );
    let at = tab.evaluate(&script);
    (at[0].as_f64().unwrap(), at[1].as_f64().unwrap())
}

/// Clicks what a selector finds, as a person does: with the mouse, where it is.
#[cfg(feature = "workshop")]
fn click(tab: &Tab, selector: &str) {
    // Pictures above it may still arrive and move it.
    let mut at = place(tab, selector);
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let now = place(tab, selector);
        if now == at {
            break tab.click(at);
        }
        at = now;
    }
}

/// Controls that something else covers, or that reach out of the window.
#[cfg(feature = "workshop")]
fn covered(tab: &Tab) -> Value {
    tab.evaluate(
        "(() => { const bad = [];
         for (const e of document.querySelectorAll('main button, main input, main select, header a')) {
           if (!e.checkVisibility()) continue;
           e.scrollIntoView({block: 'center'});
           const b = e.getBoundingClientRect();
           const top = document.elementFromPoint(b.left + b.width / 2, b.top + b.height / 2);
           const reached = top === e || e.contains(top) || e.closest('label')?.contains(top);
           if (!reached || b.left < 0 || b.right > innerWidth + 1) bad.push(e.id || e.textContent);
         }
         if (document.documentElement.scrollWidth > innerWidth) bad.push('the page is wider than the window');
         return bad; })()",
    )
}

#[cfg(feature = "workshop")]
#[test]
fn a_person_teaches_a_product_in_the_browser() {
    let Some(browser) = Browser::start() else { return };
    let board = Board::on(good_parts(), "");
    let tab = browser.open(&format!("http://{}/teach", board.address), 1280, 900);
    tab.until("document.querySelector('#chosen')?.textContent.includes('create one')");
    let begun = Instant::now();
    click(&tab, "#name");
    tab.write("disc");
    tab.key("Enter");
    tab.until("document.querySelector('#chosen').textContent === 'Chosen: disc'");

    // An ignored area, by the mouse.
    tab.until("!document.querySelector('#live').hidden");
    click(&tab, "#rectangle");
    let (x, y) = place(&tab, "#areas");
    tab.drag(&[(x - 20.0, y - 20.0), (x, y), (x + 40.0, y + 30.0)], "left");
    let state = board.until("an area", |state| state["product"]["ignore"].as_array().unwrap().len() == 1);
    let corner = &state["product"]["ignore"][0][0];
    assert!((0.4..0.5).contains(&corner[0].as_f64().unwrap()), "{corner}");
    tab.until("document.querySelector('#areas').dataset.count === '1'");
    click(&tab, "#undo");
    board.until("no area", |state| state["product"]["ignore"] == json!([]));
    // An answer that is older than an area must not take it away, or the next save would.
    tab.evaluate(
        "(() => { const ask = window.fetch;
           const held = window.held = [];
           const hold = (answer) => new Promise((done) => held.push(() => done(answer)));
           window.fetch = (path, how) => (path === '/api/teach' ? ask(path, how).then(hold) : ask(path, how));
           window.release = () => { window.fetch = ask; held.forEach((one) => one()); }; })()",
    );
    tab.until("window.held.length > 0");
    click(&tab, "#rectangle");
    let (x, y) = place(&tab, "#areas");
    tab.drag(&[(x - 60.0, y - 20.0), (x - 50.0, y), (x - 40.0, y + 10.0)], "left");
    board.until("an area", |state| state["product"]["ignore"].as_array().unwrap().len() == 1);
    click(&tab, "#rectangle");
    let (x, y) = place(&tab, "#areas");
    tab.evaluate("window.release()");
    std::thread::sleep(Duration::from_millis(100));
    tab.drag(&[(x + 20.0, y - 20.0), (x + 30.0, y), (x + 40.0, y + 10.0)], "left");
    board.until("two areas", |state| state["product"]["ignore"].as_array().unwrap().len() == 2);
    click(&tab, "#undo");
    click(&tab, "#undo");
    board.until("no area", |state| state["product"]["ignore"] == json!([]));
    // Everything but a rectangle.
    click(&tab, "#only");
    let (x, y) = place(&tab, "#areas");
    tab.drag(&[(x + 60.0, y + 50.0), (x, y), (x - 60.0, y - 50.0)], "left");
    board.until("an area", |state| state["product"]["ignore"][0].as_array().is_some_and(|a| a.len() == 10));
    tab.until("document.querySelector('#areas').dataset.count === '1'");
    let dark = "(() => { const { width, height } = document.querySelector('#areas');
         const pen = document.querySelector('#areas').getContext('2d');
         return [[0.5, 0.5], [0.02, 0.5], [0.5, 0.98]]
             .map(([x, y]) => pen.getImageData(x * width, y * height, 1, 1).data[3] > 0).join(); })()";
    assert_eq!(tab.evaluate(dark), "false,true,true");
    click(&tab, "#undo");
    board.until("no area", |state| state["product"]["ignore"] == json!([]));

    tab.evaluate(
        "document.querySelector('#seconds').value = 0.2; document.querySelector('#quality').value = 'fast'",
    );
    click(&tab, "#timed");
    tab.until("document.querySelectorAll('#good li').length >= 6");
    click(&tab, "#off");
    board.until("off", |state| state["collecting"]["mode"] == "off");
    let count = board.state()["product"]["good"].as_array().unwrap().len();
    click(&tab, "#good li .drop");
    tab.until(&format!("document.querySelectorAll('#good li').length === {}", count - 1));

    click(&tab, "#enroll");
    tab.until("!document.querySelector('#progress').hidden");
    let enrolled =
        "!document.querySelector('#resultsection').hidden && !document.querySelector('#activate').disabled";
    let limit = Instant::now() + PATIENCE;
    while tab.evaluate(enrolled) != true {
        assert!(Instant::now() < limit, "{}", tab.evaluate("document.body.innerText"));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(tab.evaluate("document.querySelectorAll('#forecast tr').length"), 4);
    assert_eq!(tab.text("#failed"), "");

    click(&tab, "#activate");
    tab.until("document.querySelector('#state').textContent === 'Operational: disc'");
    let taught = begun.elapsed();
    eprintln!("taught in {:.0} s", taught.as_secs_f64());

    // In shadow beside itself: it judges, and acts on nothing.
    click(&tab, "#shadow");
    let limit = Instant::now() + PATIENCE;
    while tab
        .evaluate("/^[1-9]\\d* parts judged by both/.test(document.querySelector('#shadowtext').textContent)")
        != true
    {
        assert!(Instant::now() < limit, "{}", board.state()["shadow"]);
        std::thread::sleep(Duration::from_millis(100));
    }
    click(&tab, "#shadow");
    board.until("ended", |state| state["shadow"]["running"] == false);
    assert_eq!(board.state()["shadow"]["error"], Value::Null);

    // Held parts stay until they are answered for.
    click(&tab, "#hold");
    board.until("held", |state| state["held"] == true);
    tab.until("document.querySelectorAll('#recent li').length > 0");
    click(&tab, "#recent li .pair button:last-child");
    tab.until("document.querySelectorAll('#bad li').length === 1");
    tab.until("document.querySelector('#recent [aria-pressed=true]')?.textContent === 'Bad'");
    click(&tab, "#hold");

    // The slider says what a threshold does, before it does anything.
    tab.evaluate(
        "{ const s = document.querySelector('#slider'); s.value = 20; s.dispatchEvent(new Event('input')); }",
    );
    tab.until("/^Threshold 0\\./.test(document.querySelector('#expected').textContent)");
    tab.until("!document.querySelector('#use').disabled");
    tab.evaluate("scrollTo(0, 0)");
    tab.picture("teach-1280");
    assert_eq!(covered(&tab), json!([]));

    let phone = browser.open(&format!("http://{}/teach", board.address), 390, 844);
    phone
        .until("document.querySelectorAll('#good li').length > 0 && !document.querySelector('#live').hidden");
    phone.picture("teach-390");
    assert_eq!(covered(&phone), json!([]));
    for (width, tab) in [(1280, &tab), (390, &phone)] {
        tab.focus();
        for language in LANGUAGES {
            speak(tab, Pages::Service, language);
            if language == Language::German {
                tab.until("document.querySelector('#enroll').textContent === 'Lernen'");
                tab.until("document.querySelector('#state').textContent === 'In Betrieb: disc'");
            }
            tab.until(
                "document.querySelectorAll('#good li').length > 0 && !document.querySelector('#live').hidden",
            );
            tab.until("document.querySelectorAll('#recent li').length > 0 && document.querySelector('#expected').textContent");
            let what = format!("teach-{width}-{language:?}").to_lowercase();
            assert_eq!(covered(tab), json!([]), "{what}");
            nothing_is_cut_off(tab, &what, "#summary, #events");
            if language == Language::Long {
                everything_is_translated(
                    tab,
                    "#obstacles, #chosen, #summary, #advice, #events, #failed, #collecting, #products",
                );
            }
            let height = tab.evaluate("document.documentElement.scrollHeight").as_f64().unwrap();
            for (i, share) in [0.0, 0.25, 0.5, 0.75, 1.0].into_iter().enumerate() {
                tab.evaluate(&format!("scrollTo(0, {})", share * height));
                tab.picture(&format!("{what}-{}", i + 1));
            }
        }
    }
    assert_eq!(browser.troubles(), Vec::<String>::new());
}
