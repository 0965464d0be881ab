//! Recipes: packages with numbers, switched between two parts.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rumqttc::{Client, MqttOptions, QoS};
use serde_json::{Value, json};

use crate::common::*;
use crate::fleet::{Daemon, free_port, program};
use crate::run::{Service, config, parts};

/// A line with the package `disc` and the recipes 1 `ring` and 2 `plate`: the same package under other names.
struct Line {
    folder: Folder,
    config: PathBuf,
    address: String,
    service: Option<Service>,
}

impl Line {
    fn start(trigger: &str) -> Line {
        let folder = Folder::new();
        let package = folder.package("disc.weakrest");
        for (number, product) in [(1, "ring"), (2, "plate")] {
            let recipe = folder.package(&format!("recipes/{number}-{product}.weakrest"));
            forge(&recipe, |text| text.replace("product = \"disc\"", &format!("product = \"{product}\"")));
        }
        parts(&folder);
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let more = format!(
            "[recipes]\nfolder = {:?}\n[trigger]\nsource = \"{trigger}\"\n[line]\ntravel_ms = 9000\n[health]\nfrozen = 0\n\
             [web]\nlisten = \"{address}\"\n",
            folder.path("recipes")
        );
        let config = config(&folder, &package, &more);
        let mut line = Line { folder, config, address, service: None };
        line.restart();
        line
    }

    /// Starts the service again with another text in its configuration.
    fn reconfigure(&mut self, change: impl Fn(String) -> String) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        std::fs::write(&self.config, change(text)).unwrap();
        self.restart();
    }

    fn restart(&mut self) {
        self.service = None;
        let service = Service::start(&self.config);
        service.wait_for("ready");
        self.service = Some(service);
    }

    fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    fn ask(&self, path: &str, body: Option<Value>) -> (u16, Value) {
        ask(&self.address, path, body)
    }

    fn status(&self) -> Value {
        self.ask("status", None).1
    }

    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < limit, "{what}: {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn choose(&self, recipe: u16) {
        let (code, answer) = self.ask("recipe", Some(json!({"recipe": recipe})));
        assert_eq!(code, 200, "{answer}");
        self.until("the recipe", |status| status["engine"]["recipe"] == recipe);
    }

    #[track_caller]
    fn refuses(&self, recipe: Value, code: u16, why: &str) {
        let (answered, answer) = self.ask("recipe", Some(json!({"recipe": recipe})));
        let text = answer["error"].as_str().unwrap_or_default();
        assert!(answered == code && text.contains(why), "{answered} {answer}");
    }

    /// The next part's product.
    fn product(&self) -> Value {
        let (code, answer) = self.ask("trigger", Some(Value::Null));
        assert_eq!(code, 200, "{answer}");
        self.service().part()["product"].clone()
    }
}

fn ask(address: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into();
    let url = format!("http://{}/api/{path}", address);
    let mut answer = match body {
        Some(body) => agent.post(url).header("X-Weakrest", "1").send(body.to_string()).unwrap(),
        None => agent.get(url).call().unwrap(),
    };
    let text = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), serde_json::from_str(&text).unwrap())
}

#[test]
fn a_recipe_is_chosen_by_its_number_and_survives_a_restart() {
    let mut line = Line::start("software");
    assert_eq!(line.product(), "disc");
    let known = line.ask("recipes", None).1;
    let listed = json!([{"number": 1, "name": "ring"}, {"number": 2, "name": "plate"}]);
    assert_eq!((&known["recipe"], &known["recipes"]), (&json!(0), &listed));
    for (number, product) in [(2, "plate"), (1, "ring"), (0, "disc"), (1, "ring")] {
        line.choose(number);
        assert_eq!(line.product(), product);
    }
    // The line was never started again: its numbers go on.
    assert_eq!(line.status()["parts"], 5);
    line.restart();
    assert_eq!(line.product(), "ring");
    assert_eq!(line.status()["engine"]["recipe"], 1);
    // A reload stays with the recipe.
    assert_eq!(line.ask("reload", Some(Value::Null)).0, 200);
    line.until("a reload", |status| status["reloads"]["count"] == 1);
    assert_eq!(line.product(), "ring");
    weakrest!("check", "--config", line.config).exits(0).prints(&["recipes        2", "1 ring (in use)"]);
}

#[test]
fn no_part_is_lost_between_two_recipes_and_going_back_loads_nothing() {
    let line = Line::start("free");
    let mut told = vec![line.service().part()];
    for recipe in [1, 2, 1, 2, 1] {
        line.choose(recipe);
        told.extend((0..4).map(|_| line.service().part()));
    }
    // The first parts of a recipe may be on their way while it is chosen, but in order.
    let numbers: Vec<u64> = told.iter().map(|part| part["part"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert!(told.iter().all(|part| part["fault"].is_null()), "{told:?}");
    let mut products: Vec<&Value> = told.iter().map(|part| &part["product"]).collect();
    products.dedup();
    assert_eq!(products, ["disc", "ring", "plate", "ring", "plate", "ring"][..products.len()]);
    assert_eq!(line.status()["swaps"], 5);
    // Each was loaded once; the first one at the start.
    let Line { service, .. } = line;
    let said = service.unwrap().said_until_end();
    assert_eq!(said.iter().filter(|line| line.contains("networks run on")).count(), 2, "{said:?}");
}

#[test]
fn a_recipe_that_cannot_be_used_leaves_the_present_one_in_use() {
    let line = Line::start("software");
    line.choose(1);
    line.refuses(json!(7), 409, "no package has the number 7");
    line.refuses(json!(7), 409, "1-ring.weakrest, 2-plate.weakrest");
    line.refuses(json!(65535), 409, "no package has the number 65535");
    line.refuses(json!(65536), 400, "0 to 65534");
    line.refuses(json!("ring"), 400, "0 to 65534");

    // Two with one number.
    std::fs::rename(
        line.folder.path("recipes/2-plate.weakrest"),
        line.folder.path("recipes/1-plate.weakrest"),
    )
    .unwrap();
    line.refuses(json!(1), 409, "1-plate.weakrest and 1-ring.weakrest both have the number 1");
    std::fs::rename(
        line.folder.path("recipes/1-plate.weakrest"),
        line.folder.path("recipes/2-plate.weakrest"),
    )
    .unwrap();

    // A damaged one.
    let bank = line.folder.path("recipes/2-plate.weakrest/bank-1.safetensors");
    let whole = std::fs::read(&bank).unwrap();
    std::fs::write(&bank, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(line.ask("recipe", Some(json!({"recipe": 2}))).0, 200);
    let status = line.until("a refusal", |status| !status["reloads"]["refused"].is_null());
    let refused = status["reloads"]["refused"].as_str().unwrap();
    assert!(refused.contains("2-plate.weakrest") && refused.contains("stays in use"), "{refused}");
    assert_eq!(line.product(), "ring");
    std::fs::write(&bank, whole).unwrap();
    line.choose(2);
    line.choose(1);

    // One that is changed while it waits in memory is read again.
    forge(&line.folder.path("recipes/2-plate.weakrest"), |text| text.replace("\"plate\"", "\"plate 2\""));
    line.choose(2);
    assert_eq!(line.product(), "plate 2");
}

#[test]
fn the_last_of_many_requests_is_carried_out_and_one_that_cannot_be_kept_is_refused() {
    let mut line = Line::start("software");
    for last in [2, 1, 0] {
        std::thread::scope(|scope| {
            for of in 0..3 {
                let address = &line.address;
                scope.spawn(move || {
                    for i in 0..6 {
                        let recipe = [0, 1, 2][(of + i) % 3];
                        assert_eq!(ask(address, "recipe", Some(json!({"recipe": recipe}))).0, 200);
                        assert_eq!(ask(address, "reload", Some(Value::Null)).0, 200);
                    }
                });
            }
        });
        line.choose(last);
        line.until("the end of loading", |status| status["engine"]["recipe"] == last);
        assert_eq!(line.product(), ["disc", "ring", "plate"][last as usize]);
    }
    // A folder in the file's place takes nothing, like a full disk.
    let file = line.folder.path("weakrest.toml.state/recipe.json");
    let _ = std::fs::remove_file(&file);
    std::fs::create_dir(&file).unwrap();
    let asked = line.status()["reloads"]["count"].clone();
    assert_eq!(line.ask("recipe", Some(json!({"recipe": 2}))).0, 200);
    let status = line.until("a refusal", |status| {
        status["reloads"]["count"] != asked && !status["reloads"]["refused"].is_null()
    });
    assert!(status["reloads"]["refused"].as_str().unwrap().contains("recipe.json"), "{status}");
    assert_eq!(line.product(), "disc");
    std::fs::remove_dir(&file).unwrap();
    line.choose(2);
    line.restart();
    assert_eq!(line.product(), "plate");
}

/// The service must not inspect with another recipe than the one that was chosen.
#[test]
fn a_recipe_that_is_gone_makes_every_part_a_fault_after_a_restart() {
    let mut line = Line::start("software");
    line.choose(1);
    std::fs::remove_dir_all(line.folder.path("recipes/1-ring.weakrest")).unwrap();
    assert_eq!(line.product(), "ring");
    assert_eq!(line.ask("reload", Some(Value::Null)).0, 200);
    let status = line.until("a refusal", |status| !status["reloads"]["refused"].is_null());
    assert!(
        status["reloads"]["refused"].as_str().unwrap().contains("no package has the number 1"),
        "{status}"
    );
    assert_eq!(line.product(), "ring");
    line.service = None;
    let run = weakrest!("run", "--config", line.config, "--seconds", "1").exits(2);
    assert!(run.err.contains("no package has the number 1"), "{}", run.err);
    // Without recipes in the configuration, too.
    let text = std::fs::read_to_string(&line.config).unwrap();
    let from = text.find("[recipes]").unwrap();
    let to = text.find("[trigger]").unwrap();
    std::fs::write(&line.config, format!("{}{}", &text[..from], &text[to..])).unwrap();
    let run = weakrest!("run", "--config", line.config, "--seconds", "1").exits(2);
    assert!(run.err.contains("recipes.folder") && run.err.contains("recipe.json"), "{}", run.err);
}

#[test]
fn a_plc_chooses_a_recipe_by_its_register() {
    use std::io::{Read, Write};
    let mut line = Line::start("software");
    let port = free_port();
    line.reconfigure(|text| format!("{text}[modbus]\nlisten = \"127.0.0.1:{port}\"\nallow_write = true\n"));
    let ask = |function: u8, address: u16, value: u16| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let words = [address.to_be_bytes(), value.to_be_bytes()].concat();
        stream.write_all(&[&[0, 1, 0, 0, 0, 6, 1, function], &words[..]].concat()).unwrap();
        let mut answer = [0; 11];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[7], function);
        u16::from_be_bytes([answer[9], answer[10]])
    };
    let (read, write) = (3, 6);
    for (recipe, product) in [(2, "plate"), (0, "disc"), (1, "ring")] {
        ask(write, 58, recipe);
        line.until("the recipe", |status| status["engine"]["recipe"] == recipe);
        assert_eq!(ask(read, 6, 1), recipe);
        assert_eq!(line.product(), product);
    }
    // One that does not exist: the present one stays, and the bit "problem" is set.
    ask(write, 58, 9);
    line.until("a refusal", |status| !status["reloads"]["refused"].is_null());
    assert_eq!((ask(read, 6, 1), line.product()), (1, json!("ring")));
    let limit = Instant::now() + Duration::from_secs(20);
    while ask(read, 5, 1) & 1 << 9 == 0 {
        assert!(Instant::now() < limit, "the problem is not told");
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = line.ask("audit", None).1.to_string();
    assert!(log.contains("\"recipe\"") && log.contains("plc"), "{log}");
}

#[test]
fn a_message_of_the_broker_chooses_a_recipe() {
    let Some(mosquitto) = program("mosquitto") else {
        skip("no mosquitto (Debian: apt install mosquitto): recipes over MQTT are not tested");
        return;
    };
    let port = free_port();
    let _broker = Daemon::start(&mosquitto, &["-p", &port.to_string()], port);
    let (client, mut events) = Client::new(MqttOptions::new("mes", "127.0.0.1", port), 4096);
    std::thread::spawn(move || events.iter().take_while(Result::is_ok).count());
    let send = |text: &str, retain| {
        client.publish("plant/inspector/recipe/set", QoS::AtLeastOnce, retain, text).unwrap();
    };
    // The broker repeats it to the inspector with each connection: nobody asked now.
    send("2", true);
    let mut line = Line::start("software");
    line.reconfigure(|text| {
        format!("{text}[mqtt]\nprefix = \"plant/inspector\"\nport = {port}\nselect_recipe = true\n")
    });
    for (recipe, product) in [(1, "ring"), (2, "plate"), (0, "disc")] {
        // Nobody hears what is sent before the inspector is connected.
        line.until("the recipe", |status| {
            let chosen = status["engine"]["recipe"] == recipe;
            (!chosen).then(|| send(&recipe.to_string(), false));
            chosen
        });
        assert_eq!(line.product(), product);
    }
    send("ring", false);
    line.service().wait_for("plant/inspector/recipe/set: no number of a recipe; send 0 to 65534 as text");
    send("9", false);
    let status = line.until("a refusal", |status| !status["reloads"]["refused"].is_null());
    assert!(
        status["reloads"]["refused"].as_str().unwrap().contains("no package has the number 9"),
        "{status}"
    );
    assert_eq!(line.product(), "disc");
    // A flood: the last one counts, and the log does not swell.
    for i in 0..2000 {
        send(if i % 2 == 0 { "2" } else { "1" }, false);
    }
    line.until("the last recipe", |status| status["engine"]["recipe"] == 1);
    let log = line.ask("audit", None).1.to_string();
    let count = log.matches("\"broker\"").count();
    assert!((5..200).contains(&count), "{count}");
}

#[test]
fn a_recipe_has_its_own_times_at_the_gate() {
    let mut line = Line::start("software");
    let edges = line.folder.path("edges");
    // Every part is a fault, so it is rejected.
    line.reconfigure(|text| {
        let text = text.replace("frozen = 0", "frozen = 0\nblack = 254.0");
        let gate = format!("travel_ms = 700\npulse_ms = 100\nrecord = {edges:?}");
        let own = "[recipes.line.1]\ntravel_ms = 900\npulse_ms = 600\n";
        format!("{}{own}", text.replace("travel_ms = 9000", &gate))
    });
    let pulse = || {
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            let text = std::fs::read_to_string(&edges).unwrap();
            let at = |line: &str| Some(line.split_once(" reject ")?.0.parse::<u64>().unwrap() / 1_000_000);
            if let [begin, end] = text.lines().filter_map(at).collect::<Vec<_>>()[..] {
                return end - begin;
            }
            assert!(Instant::now() < limit, "{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // The service was killed before: parts of any recipe can be on their way.
    let took = pulse();
    assert!((1_450..1_750).contains(&took), "{took} ms");
    for (recipe, length) in [(0, 100), (1, 600), (2, 100)] {
        line.choose(recipe);
        std::fs::write(&edges, "").unwrap();
        line.product();
        let took = pulse();
        assert!((length - 50..length + 250).contains(&took), "recipe {recipe}: {took} ms");
    }
    // The line was not started again for it.
    assert_eq!(line.status()["parts"], 3);
}

#[test]
fn times_and_lines_of_recipes_that_do_not_fit_are_told_with_their_key() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    for (more, told) in [
        ("[recipes.line.07]\ntravel_ms = 900\n", "recipes.line.07: is no number of a recipe; set 1 to 65534"),
        ("[recipes.line.0]\ntravel_ms = 900\n", "recipes.line.0: is no number of a recipe"),
        ("[recipes.line.4]\nspeed = 9\n", "recipes.line.4.speed"),
        (
            "[recipes.line.4]\ntravel_ms = 100\n[line]\ndeadline_ms = 200\n",
            "recipes.line.4: line.deadline_ms: is later",
        ),
        (
            "[recipes.line.4]\npulse_ms = 4\n[line]\ntolerance_ms = 5\n",
            "recipes.line.4: line.tolerance_ms: lets a pulse",
        ),
        (
            "[recipes.bits]\nchip = \"/dev/gpiochip9\"\nlines = []\n",
            "recipes.bits.lines: has the wrong length",
        ),
        (
            "[recipes.bits]\nchip = \"/dev/gpiochip9\"\nlines = [3, 3]\n",
            "recipes.bits.lines: has a line twice",
        ),
    ] {
        let text = format!("[recipes]\nfolder = {:?}\n{more}", folder.path(""));
        let config = config(&folder, &package, &text);
        let run = weakrest!("run", "--config", config, "--seconds", "1").exits(2);
        assert!(run.err.contains(told), "{more}: {}", run.err);
    }
}

#[test]
fn lines_that_are_missing_are_told_and_choose_nothing() {
    let mut line = Line::start("software");
    line.reconfigure(|text| format!("{text}[recipes.bits]\nchip = \"/dev/gpiochip-none\"\nlines = [4, 5]\n"));
    let status = line.until("a warning", |status| !status["problems"]["recipe lines"].is_null());
    let told = status["problems"]["recipe lines"].to_string();
    assert!(told.contains("cannot use line 4 and 5 of /dev/gpiochip-none"), "{told}");
    assert_eq!(line.product(), "disc");
}

#[cfg(feature = "workshop")]
#[test]
fn a_person_chooses_a_recipe_on_the_page() {
    let Some(browser) = crate::chromium::Browser::start() else { return };
    let line = Line::start("software");
    for (width, height) in [(1280, 900), (390, 844)] {
        let tab = browser.open(&format!("http://{}/", line.address), width, height);
        tab.until("document.querySelectorAll('#recipe option').length === 3");
        let number = if width == 1280 { 2 } else { 1 };
        tab.evaluate(&format!(
            "window.confirm = () => true; const list = document.querySelector('#recipe'); list.value = '{number}'; \
             list.dispatchEvent(new Event('change'))"
        ));
        line.until("the recipe", |status| status["engine"]["recipe"] == number);
        tab.until("document.querySelector('#answer').textContent === 'The new configuration is in use.'");
        tab.until(&format!("document.querySelector('#recipe').value === '{number}'"));
        crate::web_page::is_usable(&tab, &format!("recipes at {width}"));
        tab.picture(&format!("service-recipe-{width}"));
    }
    assert_eq!(browser.troubles(), Vec::<String>::new());
}
