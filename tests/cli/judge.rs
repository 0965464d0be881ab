//! `POST /api/inspect`: pictures that other programs send to the service.

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use image::{DynamicImage, ImageFormat};
use serde_json::{Value, json};

use crate::common::*;
use crate::openapi::{Asked, service};
use crate::run::{Service, config, http, parts};

const INSPECT: &str = "POST /api/inspect";

/// The verdict on a file.
#[track_caller]
fn judged(asked: &mut Asked, query: &str, file: &[u8]) -> Value {
    let (code, answer) = asked.post(INSPECT, query, file);
    assert_eq!(code, 200, "{answer}");
    answer
}

#[track_caller]
fn refuses(asked: &mut Asked, file: &[u8], code: u16, why: &str) {
    let (answered, answer) = asked.post(INSPECT, "", file);
    let text = answer["error"].as_str().unwrap_or_default();
    assert!(answered == code && text.contains(why), "{why}: {answered} {answer}");
}

fn status(asked: &Asked) -> Value {
    serde_json::from_slice(&asked.send("GET /api/status", "", &[]).2).unwrap()
}

/// Waits until the status fits.
#[track_caller]
fn until(asked: &Asked, what: &str, holds: impl Fn(&Value) -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !holds(&status(asked)) {
        assert!(Instant::now() < limit, "{what}: {}", status(asked));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The process that judges.
fn process(service: &Service) -> Option<String> {
    let children =
        Command::new("ps").args(["-o", "pid=,args=", "--ppid", &service.id().to_string()]).output();
    let list = String::from_utf8(children.unwrap().stdout).unwrap();
    list.lines()
        .find(|line| line.contains("judge"))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
}

fn signal(process: &str, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), process]).status().unwrap().success());
}

/// Waits for the end of a process.
#[track_caller]
fn has_ended(process: &str) {
    let limit = Instant::now() + Duration::from_secs(20);
    while std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z")) {
        assert!(Instant::now() < limit, "the process that judges goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kill(process: &str) {
    signal(process, "KILL");
    has_ended(process);
}

#[test]
fn a_picture_gets_the_verdict_of_the_command_and_the_line_does_not_know_of_it() {
    let (folder, service, mut asked) = service("");
    let before = status(&asked);
    assert_eq!(process(&service), None, "nothing runs that nobody needs");
    for (name, picture, format, verdict) in [
        ("good.png", part(40), ImageFormat::Png, "pass"),
        ("dented.png", dented_part(41), ImageFormat::Png, "reject"),
        ("dented.jpg", dented_part(42), ImageFormat::Jpeg, "reject"),
        ("good.bmp", part(43), ImageFormat::Bmp, "pass"),
        ("dented.tiff", dented_part(44), ImageFormat::Tiff, "reject"),
    ] {
        let file = encoded(&picture, format);
        let path = folder.file(name, &file);
        let mut offline =
            weakrest!("inspect", folder.path("disc.weakrest"), path, "--json", "--threads", "1").json();
        let mut answer = judged(&mut asked, "", &file);
        assert_eq!(answer["verdict"], verdict, "{name}: {answer}");
        assert!(answer["milliseconds"]["features"].as_f64().unwrap() > 0.0);
        let engine = &before["engine"];
        for key in ["product", "package", "recipe"] {
            assert_eq!(answer.as_object_mut().unwrap().remove(key).as_ref(), Some(&engine[key]), "{key}");
        }
        answer.as_object_mut().unwrap().remove("milliseconds");
        for key in ["milliseconds", "image"] {
            offline.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(answer, offline, "{name}");

        let url = format!("http://{}/api/inspect?overlay=1", asked.address);
        let mut answered = ureq::post(url).header("X-Weakrest", "1").send(&file).unwrap();
        assert_eq!(answered.headers()["x-verdict"], verdict);
        assert_eq!(answered.headers()["content-type"], "image/jpeg");
        let picture = answered.body_mut().read_to_vec().unwrap();
        let picture = image::load_from_memory(&picture).unwrap();
        assert_eq!((picture.width(), picture.height()), SIZE);
    }
    // Nobody halts this by halting the line.
    assert_eq!(asked.ask("POST /api/halt", "", None).0, 200);
    assert_eq!(judged(&mut asked, "?overlay=0", &encoded(&part(45), ImageFormat::Png))["verdict"], "pass");
    let after = status(&asked);
    for key in ["parts", "passes", "rejects", "faults", "picture", "dropped_frames"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    assert_eq!(files(&folder.path("")).iter().filter(|file| file.starts_with("kept")).count(), 0);
    assert_eq!(asked.ask("GET /api/numbers", "", None).1["total"]["parts"], 0);
    let record = asked.ask("GET /api/audit", "", None).1;
    let what: Vec<&Value> =
        record["entries"].as_array().unwrap().iter().map(|entry| &entry["what"]).collect();
    assert_eq!(what, ["start", "halt"]);
    asked.check();
    // It ends with the service.
    let judge = process(&service).unwrap();
    assert_eq!(service.terminate().0, Some(0));
    has_ended(&judge);
}

#[test]
fn what_cannot_be_judged_is_refused_in_words() {
    let (_folder, service, mut asked) = service("");
    for (name, bytes, why) in bad_pictures() {
        match bytes.is_empty() {
            true => refuses(&mut asked, &bytes, 400, "no body"),
            false => refuses(&mut asked, &bytes, 422, why),
        }
        assert_eq!(process(&service).is_some(), name != "empty.png");
    }
    let png = |picture: &DynamicImage| encoded(picture, ImageFormat::Png);
    refuses(
        &mut asked,
        &png(&part_of_size(1, 64, 64)),
        422,
        "is 64×64 pixels, but the good parts were enrolled",
    );
    refuses(&mut asked, &png(&DynamicImage::ImageLuma8(part(1).into_luma8())), 422, "is gray, but");
    // A body that is too large is refused before it is sent. The other requests have their own limit.
    for (request, length, why) in [
        (INSPECT, (64 << 20) + 1, "at most 64 MiB"),
        (INSPECT, 1 << 30, "at most 64 MiB"),
        ("POST /api/recipe", 300 << 10, "at most 256 KiB"),
    ] {
        let mut stream = std::net::TcpStream::connect(&asked.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!("Host: {}\r\nX-Weakrest: 1\r\nContent-Length: {length}", asked.address);
        write!(stream, "{request} HTTP/1.1\r\n{head}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains(why), "{answer}");
    }
    assert_eq!(judged(&mut asked, "", &png(&part(46)))["verdict"], "pass");
    asked.check();
}

#[test]
fn a_picture_is_framed_as_a_part_is() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let more = "[framing]\nregion = [10, 20, 96, 80]\nrotation = 180\n[web]\nlisten = \"127.0.0.1:0\"\n";
    let service = Service::start(&config(&folder, &package, more));
    let line = service.wait_for("web page on http://");
    let mut asked = Asked::of(line.split("http://").nth(1).unwrap().trim_end_matches('/'));
    let framed = dented_part(47);
    let mut whole = DynamicImage::new_rgb8(120, 110);
    image::imageops::replace(&mut whole, &framed.rotate180(), 10, 20);
    let offline =
        weakrest!("inspect", package, folder.picture("framed.png", &framed), "--json", "--threads", "1")
            .json();
    for (picture, query) in [(&whole, ""), (&framed, "?framed=1")] {
        let answer = judged(&mut asked, query, &encoded(picture, ImageFormat::Png));
        assert_eq!((&answer["score"], &answer["regions"]), (&offline["score"], &offline["regions"]));
    }
    refuses(&mut asked, &encoded(&framed, ImageFormat::Png), 422, "reaches beyond the frame of 96×80 pixels");
}

#[test]
fn the_package_in_use_judges_and_no_other() {
    let (folder, service, mut asked) = service("");
    let picture = encoded(&part(48), ImageFormat::Png);
    forge(&folder.path("recipes/1-ring.weakrest"), |text| text.replace("\"disc\"", "\"ring\""));
    for (recipe, product) in [(0, "disc"), (1, "ring"), (0, "disc")] {
        assert_eq!(asked.ask("POST /api/recipe", "", Some(json!({"recipe": recipe}))).0, 200);
        until(&asked, "the recipe", |status| status["engine"]["recipe"] == recipe);
        let answer = judged(&mut asked, "", &picture);
        assert_eq!((&answer["product"], &answer["recipe"]), (&json!(product), &json!(recipe)));
        assert_eq!(answer["package"], status(&asked)["engine"]["package"]);
    }
    // Another package lies on the disk. Until it is in use, the present one judges, or none.
    forge(&folder.path("disc.weakrest"), |text| text.replace("\"disc\"", "\"disc 2\""));
    assert_eq!(judged(&mut asked, "", &picture)["product"], "disc");
    kill(&process(&service).unwrap());
    refuses(&mut asked, &picture, 409, "the package on the disk is not the one in use");
    assert_eq!(asked.ask("POST /api/reload", "", None).0, 200);
    until(&asked, "the new package", |status| status["engine"]["product"] == "disc 2");
    assert_eq!(judged(&mut asked, "", &picture)["product"], "disc 2");
    // A damaged one.
    std::fs::remove_file(folder.path("disc.weakrest/bank-1.safetensors")).unwrap();
    kill(&process(&service).unwrap());
    let (code, answer) = asked.post(INSPECT, "", &picture);
    assert!(
        code == 500 && answer["error"].as_str().unwrap().contains("bank-1.safetensors"),
        "{code} {answer}"
    );
    assert_eq!(status(&asked)["state"], "Operational");
}

#[test]
fn a_board_without_a_package_says_so() {
    let folder = Folder::new();
    parts(&folder);
    let config = config(&folder, &folder.path("none.weakrest"), "[web]\nlisten = \"127.0.0.1:0\"\n");
    let service = Service::start(&config);
    let line = service.wait_for("web page on http://");
    let mut asked = Asked::of(line.split("http://").nth(1).unwrap().trim_end_matches('/'));
    refuses(&mut asked, &encoded(&part(1), ImageFormat::Png), 409, "there is no package yet");
}

#[test]
fn no_part_is_lost_while_pictures_are_judged_or_cannot_be() {
    let folder = Folder::new();
    let package = folder.package("disc.weakrest");
    parts(&folder);
    let more = "[line]\ntravel_ms = 9000\n[health]\nfrozen = 0\n[web]\nlisten = \"127.0.0.1:0\"\n";
    let config = config(&folder, &package, more);
    let text = std::fs::read_to_string(&config).unwrap().replace("rate = 20", "rate = 5");
    std::fs::write(&config, text).unwrap();
    let service = Service::start(&config);
    let line = service.wait_for("web page on http://");
    let address = line.split("http://").nth(1).unwrap().trim_end_matches('/').to_owned();
    let picture = encoded(&dented_part(49), ImageFormat::Png);
    let post = || {
        let asked = Asked::of(&address);
        let (code, _, body) = asked.send(INSPECT, "", &picture);
        (code, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let mut told = vec![service.part()];
    assert_eq!(post().0, 200);
    // Far more than there is time for. Each is judged or refused.
    std::thread::scope(|scope| {
        let posts: Vec<_> =
            (0..6).map(|_| scope.spawn(|| (0..10).map(|_| post()).collect::<Vec<_>>())).collect();
        told.extend((0..10).map(|_| service.part()));
        for (code, answer) in posts.into_iter().flat_map(|post| post.join().unwrap()) {
            assert!(code == 200 && answer["verdict"] == "reject", "{code} {answer}");
        }
    });
    // One that hangs: one picture is with it, eight wait, the others are refused at once.
    let judge = process(&service).unwrap();
    signal(&judge, "STOP");
    std::thread::scope(|scope| {
        let (answered, answers) = std::sync::mpsc::channel();
        for _ in 0..12 {
            let (answered, post) = (answered.clone(), &post);
            scope.spawn(move || answered.send(post()).unwrap());
        }
        for _ in 0..3 {
            let (code, answer) = answers.recv_timeout(Duration::from_secs(60)).unwrap();
            assert!(
                code == 503 && answer["error"].as_str().unwrap().contains("too many pictures"),
                "{answer}"
            );
        }
        told.extend((0..5).map(|_| service.part()));
        assert_eq!(http(&address, "GET /api/status").0, 200);
        signal(&judge, "CONT");
        let rest = (0..9).map(|_| answers.recv_timeout(Duration::from_secs(60)).unwrap().0);
        // A fourth is refused if all come before the first is with it.
        let judged = rest.filter(|code| *code == 200).count();
        assert!((8..=9).contains(&judged), "{judged}");
    });
    // One that is killed, as when memory runs out.
    signal(&judge, "STOP");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(post);
        told.extend((0..2).map(|_| service.part()));
        signal(&judge, "KILL");
        let (code, answer) = waiting.join().unwrap();
        assert_eq!(code, 200, "another process judges: {answer}");
    });
    assert_eq!(post().0, 200);
    told.extend((0..3).map(|_| service.part()));
    let numbers: Vec<u64> = told.iter().map(|part| part["part"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert!(told.iter().all(|part| part["fault"].is_null()), "{told:?}");
    let status = status(&Asked::of(&address));
    assert_eq!((&status["dropped_frames"], &status["state"]), (&json!(0), &json!("Operational")), "{status}");
}
