//! `weakrest label` as its page uses it: the real program, asked over HTTP.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use image::{GenericImageView, ImageFormat};
use serde_json::{Value, json};

use crate::common::*;

/// A running labeler.
struct Labeler {
    process: Child,
    address: String,
}

/// What it answered.
#[derive(Debug)]
struct Answer {
    code: u16,
    body: Vec<u8>,
    kind: String,
    tag: Option<String>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The message of a refusal.
    #[track_caller]
    fn refused(&self, code: u16) -> String {
        assert_eq!(self.code, code, "{}", String::from_utf8_lossy(&self.body));
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

fn command(folder: &Folder) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["label", "--listen", "127.0.0.1:0", "--package"]).arg(package(folder));
    command.arg("--images").arg(folder.path("rejects")).arg("--labels").arg(folder.path("parts.jsonl"));
    command
}

fn package(folder: &Folder) -> PathBuf {
    let package = folder.path("disc.weakrest");
    if !package.exists() {
        folder.package("disc.weakrest");
    }
    package
}

impl Labeler {
    fn start(folder: &Folder) -> Labeler {
        Self::of(command(folder))
    }

    fn of(mut command: Command) -> Labeler {
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Some((_, address)) = line.trim().split_once("://") else {
            let mut said = String::new();
            process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("{line}{said}");
        };
        Labeler { process, address: address.trim_end_matches('/').to_owned() }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>, headers: &[(&str, &str)]) -> Answer {
        self.try_ask(method, path, body, headers).unwrap()
    }

    fn try_ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, ureq::Error> {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = match body {
            Some(body) => agent.run(request.body(body.to_string()).unwrap())?,
            None => agent.run(request.body(()).unwrap())?,
        };
        let header = |name: &str| answer.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        let (kind, tag) = (header("content-type").unwrap_or_default(), header("etag"));
        let code = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(64 << 20).read_to_vec()?;
        Ok(Answer { code, body, kind, tag })
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None, &[])
    }

    fn put(&self, id: u64, label: &Value) -> Answer {
        self.ask("PUT", &format!("/api/pictures/{id}/label"), Some(label), &[("X-Weakrest", "1")])
    }

    fn click(&self, id: u64, body: &Value) -> Answer {
        self.ask("POST", &format!("/api/pictures/{id}/click"), Some(body), &[("X-Weakrest", "1")])
    }

    fn state(&self) -> Value {
        let answer = self.get("/api/state");
        assert_eq!(answer.code, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// Waits until every picture is scored.
    fn scored(&self) -> Value {
        self.until(|state| state["preparing"] == 0)
    }

    fn until(&self, done: impl Fn(&Value) -> bool) -> Value {
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            let state = self.state();
            if done(&state) {
                return state;
            }
            assert!(Instant::now() < limit, "{state}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn id(&self, name: &str) -> u64 {
        let state = self.state();
        let picture = state["pictures"].as_array().unwrap().iter().find(|p| p["name"] == name);
        picture.unwrap_or_else(|| panic!("{state}"))["id"].as_u64().unwrap()
    }

    fn detail(&self, id: u64) -> Value {
        let answer = self.get(&format!("/api/pictures/{id}"));
        assert_eq!(answer.code, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// The label of a picture as it is to be sent back, with some of it changed.
    fn label(&self, id: u64, changes: Value) -> Value {
        let mut label = self.detail(id)["label"].clone();
        for (key, value) in changes.as_object().unwrap() {
            label[key] = value.clone();
        }
        label
    }

    fn save(&self, id: u64, changes: Value) -> Value {
        let answer = self.put(id, &self.label(id, changes));
        assert_eq!(answer.code, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Labeler {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Two dented parts and two good ones.
fn rejects(folder: &Folder) {
    for i in 0..2 {
        folder.picture(format!("rejects/dent/{i:03}.png"), &dented_part(300 + i));
        folder.picture(format!("rejects/ok/{i:03}.png"), &part(400 + i));
    }
}

pub fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs of a mask with one rectangle.
fn rectangle(left: u64, top: u64, width: u64, height: u64) -> Value {
    let (w, h) = (u64::from(SIZE.0), u64::from(SIZE.1));
    let mut counts = vec![top * w + left];
    for _ in 1..height {
        counts.extend([width, w - width]);
    }
    counts.extend([width, (h - top - height + 1) * w - left - width]);
    json!({"size": [h, w], "counts": counts})
}

#[test]
fn what_is_saved_is_in_the_file_and_there_again_after_a_restart() {
    let folder = Folder::new();
    rejects(&folder);
    let mut labeler = Labeler::start(&folder);
    let state = labeler.scored();
    assert_eq!(state["product"], "disc");
    assert_eq!(
        (&state["adclick"]["name"], &state["nearest"], &state["text"]),
        (&"adclick".into(), &false.into(), &false.into())
    );
    assert_eq!(state["pictures"].as_array().unwrap().len(), 4);
    assert!(!folder.path("parts.jsonl").exists());

    let boxed = labeler.id("dent/000.png");
    labeler.save(
        boxed,
        json!({"tag": "defective", "shapes": [{"box": [10, 20.5, 30, 40], "type": "dent"}], "seconds": 5.25}),
    );
    let masked = labeler.id("dent/001.png");
    let everything = json!({
        "tag": "defective", "seconds": 12,
        "shapes": [
            {"box": [1.0, 2.0, 3.0, 4.0], "type": null},
            {"rotated": [[9.0, 20.0], [50.0, 12.0], [52.0, 24.0], [11.0, 32.0]], "type": null},
            {"mask": rectangle(5, 6, 7, 8), "type": null},
        ],
    });
    labeler.save(masked, everything.clone());
    labeler.save(labeler.id("ok/000.png"), json!({"tag": "good", "seconds": 1}));
    labeler.save(labeler.id("ok/001.png"), json!({"tag": "defective"}));
    let text = std::fs::read_to_string(folder.path("parts.jsonl")).unwrap();
    assert_eq!(
        text,
        r#"{"image": "rejects/dent/000.png", "defects": [{"box": [10, 20.5, 30, 40]}], "type": "dent", "seconds": 5.25}
{"image": "rejects/dent/001.png", "defects": [{"box": [1, 2, 3, 4]}, {"rotated": [[9, 20], [50, 12], [52, 24], [11, 32]]}, {"mask": "parts.masks/dent/001.png"}], "seconds": 12}
{"image": "rejects/ok/000.png", "tag": "good", "seconds": 1}
{"image": "rejects/ok/001.png", "tag": "defective", "seconds": 0}
"#
    );
    let mask = image::open(folder.path("parts.masks/dent/001.png")).unwrap();
    assert_eq!((mask.dimensions(), mask.color()), (SIZE, image::ColorType::L8));
    assert_eq!(mask.as_luma8().unwrap().pixels().filter(|p| p.0 == [255]).count(), 7 * 8);
    assert_eq!(mask.as_luma8().unwrap().get_pixel(5, 6).0, [255]);
    python_reads(&folder);

    labeler.kill();
    let labeler = Labeler::start(&folder);
    let state = labeler.scored();
    let pictures = state["pictures"].as_array().unwrap();
    assert!(pictures.iter().all(|p| p["done"] == true && p["missing"] == false), "{state}");
    assert_eq!(state["types"], json!(["dent"]));
    let label = labeler.detail(labeler.id("dent/001.png"))["label"].clone();
    for key in ["tag", "shapes"] {
        assert_eq!(label[key], everything[key]);
    }
    assert_eq!(label["seconds"], 12.0);

    // A corrected mask takes the place of the old one, and nothing of it is left when its label is removed.
    let id = labeler.id("dent/001.png");
    labeler.save(id, json!({"shapes": [{"mask": rectangle(0, 0, 2, 2)}]}));
    let masks = |folder: &Folder| files(&folder.path("parts.masks")).len();
    assert_eq!(masks(&folder), 1);
    assert_eq!(labeler.detail(id)["label"]["shapes"], json!([{"mask": rectangle(0, 0, 2, 2), "type": null}]));
    // One that cannot be read is told of, and can be removed.
    let masks_folder = folder.path("parts.masks");
    std::fs::remove_file(masks_folder.join(&files(&masks_folder)[0])).unwrap();
    let label = labeler.detail(id)["label"].clone();
    assert_eq!((&label["tag"], &label["shapes"]), (&"defective".into(), &json!([])));
    assert!(label["lost"].as_str().unwrap().contains("001"), "{label}");
    let mut again = labeler.label(id, json!({"shapes": [{"mask": rectangle(0, 0, 2, 2)}]}));
    again.as_object_mut().unwrap().remove("lost");
    assert_eq!(labeler.put(id, &again).code, 200);
    labeler.save(id, json!({"tag": null, "shapes": []}));
    assert_eq!((masks(&folder), lines(&folder.path("parts.jsonl")).len()), (0, 3));
}

#[test]
fn each_shape_has_a_type_of_its_own() {
    let folder = Folder::new();
    rejects(&folder);
    // As it was written before shapes had types.
    let old = r#"{"image": "rejects/ok/000.png", "defects": [{"box": [1, 2, 3, 4]}, {"box": [5, 6, 7, 8]}], "type": "dent"}"#;
    folder.file("parts.jsonl", format!("{old}\n").as_bytes());
    let mut labeler = Labeler::start(&folder);
    labeler.scored();
    let shapes = labeler.detail(labeler.id("ok/000.png"))["label"]["shapes"].clone();
    assert_eq!([&shapes[0]["type"], &shapes[1]["type"]], ["dent"; 2], "{shapes}");

    let triangle = json!([[10.0, 10.0], [30.0, 10.5], [10.0, 30.0]]);
    let drawn = json!([
        {"polygon": triangle, "type": "crack"}, {"mask": rectangle(5, 6, 7, 8), "type": "dent"},
        {"box": [1.0, 2.0, 3.0, 4.0], "type": null}, {"mask": rectangle(50, 50, 3, 3), "type": "crack"},
    ]);
    let id = labeler.id("dent/000.png");
    labeler.save(id, json!({"tag": "defective", "shapes": drawn}));
    let found = lines(&folder.path("parts.jsonl"));
    assert_eq!(found[1]["defects"][0], json!({"polygon": [[10, 10], [30, 10.5], [10, 30]], "type": "crack"}));
    assert_eq!((&found[1]["defects"][2], &found[1]["type"]), (&json!({"box": [1, 2, 3, 4]}), &Value::Null));
    assert_eq!(files(&folder.path("parts.masks")).len(), 2);
    python_reads(&folder);
    labeler.kill();
    let labeler = Labeler::start(&folder);
    labeler.scored();
    assert_eq!(labeler.detail(id)["label"]["shapes"], drawn);
    assert_eq!(labeler.state()["types"], json!(["crack", "dent"]));
    // A shape of one type more: its mask has the same file as before.
    let masks = files(&folder.path("parts.masks"));
    labeler.save(id, json!({"shapes": drawn.as_array().unwrap()[..2]}));
    assert!(masks.iter().any(|mask| *mask == files(&folder.path("parts.masks"))[0]));

    // Other tools keep the types, and the corners.
    labeler.save(id, json!({"shapes": drawn}));
    drop(labeler);
    let run = |labels: &str, more: [&str; 2]| {
        let mut command = Command::new(PROGRAM);
        command.args(["label", "--images"]).arg(folder.path("rejects"));
        Ran::of(command.arg("--labels").arg(folder.path(labels)).args(more)).exits(0)
    };
    for kind in ["coco", "label-studio"] {
        let place = format!("{kind}:{}", folder.path(kind).display());
        run("parts.jsonl", ["--export", &place]);
        run(&format!("{kind}.jsonl"), ["--import", &place]);
        let back = lines(&folder.path(format!("{kind}.jsonl")));
        let told = |line: &Value| {
            let shapes = line["defects"].as_array().unwrap();
            shapes.iter().map(|s| (s.get("polygon").cloned(), s.get("type").cloned())).collect::<Vec<_>>()
        };
        let back = back.iter().find(|line| line["image"] == "rejects/dent/000.png").unwrap();
        assert_eq!(told(back), told(&found[1]), "{kind}");
    }
    let place = format!("masks:{}", folder.path("truth").display());
    run("parts.jsonl", ["--export", &place]);
    let mut written = files(&folder.path("truth"));
    written.sort();
    let expected =
        ["crack/000_mask.png", "defect/dent-000_mask.png", "dent/000_mask.png", "dent/ok-000_mask.png"];
    assert_eq!(written.len(), 4, "{written:?} for {expected:?}");
    run("masks.jsonl", ["--import", &place]);
    let back = lines(&folder.path("masks.jsonl"));
    let back = back.iter().find(|line| line["image"] == "rejects/dent/000.png").unwrap();
    assert_eq!(back["defects"].as_array().unwrap().len(), 3, "{back}");
}

#[test]
fn the_page_imports_and_exports_as_the_command_does() {
    let folder = Folder::new();
    rejects(&folder);
    let labeler = Labeler::start(&folder);
    labeler.scored();
    let text = labeler.get("/api/export/coco").refused(422);
    assert!(text.contains("has no labels of pictures below"), "{text}");
    let id = labeler.id("dent/000.png");
    labeler.save(id, json!({"tag": "defective", "shapes": [{"box": [1, 2, 30, 40], "type": "dent"}]}));
    let exported = labeler.get("/api/export/label-studio").json();
    assert_eq!((&exported["pictures"], &exported["notes"]), (&1.into(), &json!([])));
    let mut command = Command::new(PROGRAM);
    command.args(["label", "--images"]).arg(folder.path("rejects"));
    command.arg("--labels").arg(folder.path("parts.jsonl"));
    let place = format!("label-studio:{}", folder.path("studio.json").display());
    Ran::of(command.args(["--export", &place])).exits(0);
    let written = std::fs::read_to_string(folder.path("studio.json")).unwrap();
    assert_eq!(exported["text"], written.as_str());
    for format in ["masks", "cvat"] {
        labeler.get(&format!("/api/export/{format}")).refused(422);
    }
    labeler.get("/api/export/moon").refused(404);

    let import = |query: &str, body: &Value| {
        labeler.ask("POST", &format!("/api/import{query}"), Some(body), &[("X-Weakrest", "1")])
    };
    let before = folder.contents();
    let mut studio: Value = serde_json::from_str(&written).unwrap();
    let text = import("", &studio).refused(422);
    assert!(text.contains("dent/000.png has a label already"), "{text}");
    let other = json!({"id": 9, "data": {"image": "nowhere.png"}, "annotations": []});
    studio.as_array_mut().unwrap().push(other);
    let text = import("?overwrite=true", &studio).refused(422);
    assert!(text.contains("there is no picture nowhere.png"), "{text}");
    for wrong in ["?overwrite=perhaps", "?more=1"] {
        import(wrong, &studio).refused(400);
    }
    import("", &json!({"images": []})).refused(422);
    assert_eq!(labeler.ask("POST", "/api/import", Some(&studio), &[]).code, 403);
    assert_eq!(folder.contents(), before, "nothing that is refused changes anything");
    let imported = import("?overwrite=true&skip_bad=true", &studio).json();
    assert_eq!(imported["pictures"], 1, "{imported}");
    assert!(imported["notes"][0].as_str().unwrap().contains("nowhere.png"), "{imported}");
    assert_eq!(labeler.detail(id)["label"]["shapes"][0]["type"], "dent");
}

/// The process that trains for this folder.
fn training(folder: &Folder) -> Option<String> {
    let folder = folder.path("").display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let name = processes.map(|entry| entry.file_name().to_string_lossy().into_owned());
    name.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).find(|process| {
        let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("\0train\0") && line.contains(&folder)
    })
}

#[test]
fn training_from_the_page_is_a_process_that_ends_with_it() {
    let folder = Folder::new();
    rejects(&folder);
    for i in 2..5 {
        folder.picture(format!("rejects/dent/{i:03}.png"), &dented_part(300 + i));
    }
    let lines = (0..5).map(|i| {
        let line =
            json!({"image": format!("rejects/dent/{i:03}.png"), "defects": [{"box": [48, 27, 67, 45]}]});
        format!("{line}\n")
    });
    folder.file("parts.jsonl", lines.collect::<String>().as_bytes());
    let post = |labeler: &Labeler, path: &str| {
        labeler.ask("POST", path, Some(&json!({"steps": 100_000})), &[("X-Weakrest", "1")])
    };
    let labeler = Labeler::start(&folder);
    let text = post(&labeler, "/api/train").refused(422);
    assert!(text.contains("--good DIR"), "{text}");
    assert_eq!(labeler.get("/api/train").json(), Value::Null);
    drop(labeler);

    let mut command = command(&folder);
    command.arg("--good").arg(ready_package().parent().unwrap().join("good"));
    let mut labeler = Labeler::of(command);
    let limit = Instant::now() + Duration::from_secs(60);
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(Instant::now() < limit, "never {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    labeler.ask("POST", "/api/train", Some(&json!({"more": 1})), &[("X-Weakrest", "1")]).refused(422);
    assert_eq!(labeler.ask("POST", "/api/train", Some(&json!({})), &[]).code, 403);
    assert_eq!(post(&labeler, "/api/train").json()["running"], true);
    until("trained", &|| training(&folder).is_some());
    let text = post(&labeler, "/api/train").refused(422);
    assert!(text.contains("trained already"), "{text}");
    // Stopped; and killed, as when memory runs out.
    post(&labeler, "/api/train/stop");
    until("stopped", &|| labeler.get("/api/train").json()["running"] == false);
    assert_eq!(labeler.get("/api/train").json()["error"], "stopped");
    post(&labeler, "/api/train");
    until("trained again", &|| training(&folder).is_some());
    let process = training(&folder).unwrap();
    assert!(Command::new("kill").args(["-9", &process]).status().unwrap().success());
    until("told", &|| labeler.get("/api/train").json()["running"] == false);
    let told = labeler.get("/api/train").json();
    assert!(told["error"].as_str().unwrap().contains("was killed"), "{told}");
    // It ends with the labeler, however that ends.
    post(&labeler, "/api/train");
    until("trained at last", &|| training(&folder).is_some());
    labeler.kill();
    until("ended", &|| training(&folder).is_none());
    assert!(!folder.path("disc-head.weakrest").exists());
}

/// Training's own reader takes what was written, and writes the same.
fn python_reads(folder: &Folder) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/venv/bin/python");
    if !python.exists() {
        return skip("without target/venv (make python) training does not read the label file");
    }
    let program = "import sys, pathlib\n\
                   from weakrest_export import labels\n\
                   path = pathlib.Path(sys.argv[1])\n\
                   found = labels.read(path)\n\
                   [labels.read_mask(d, l.size) for l in found for d in l.defects if isinstance(d, labels.Mask)]\n\
                   labels.write(path, found, overwrite=True)";
    let file = folder.path("parts.jsonl");
    let before = std::fs::read_to_string(&file).unwrap();
    let mut command = Command::new(python);
    command.env("PYTHONPATH", root.join("export/src")).args(["-c", program]).arg(&file);
    Ran::of(&mut command).exits(0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}

#[test]
fn the_least_certain_come_first_and_new_pictures_by_themselves() {
    let folder = Folder::new();
    rejects(&folder);
    let labeler = Labeler::start(&folder);
    let state = labeler.scored();
    let threshold = state["threshold"].as_f64().unwrap();
    let unsure = |p: &Value| (p["score"].as_f64().unwrap() / threshold).ln().abs();
    let pictures = state["pictures"].as_array().unwrap();
    assert!(pictures.is_sorted_by_key(unsure), "{state}");
    assert!(pictures.iter().all(|p| p["width"] == SIZE.0 && p["height"] == SIZE.1));
    let first = pictures[0]["id"].as_u64().unwrap();
    labeler.save(first, json!({"tag": "good"}));
    assert_eq!(labeler.state()["pictures"][3]["id"], first);

    folder.picture("rejects/new/000.png", &dented_part(7));
    folder.file("rejects/.weakrest-1.png", b"half a picture");
    let state =
        labeler.until(|state| state["pictures"].as_array().unwrap().len() == 5 && state["preparing"] == 0);
    assert!(state["pictures"].as_array().unwrap().iter().any(|p| p["name"] == "new/000.png"));
}

#[test]
fn a_rejected_part_comes_with_a_suggestion_and_pictures_to_look_at() {
    let folder = Folder::new();
    rejects(&folder);
    let mut command = command(&folder);
    let good = ready_package().parent().unwrap().join("good");
    command.arg("--good").arg(&good);
    let labeler = Labeler::of(command);
    let state = labeler.scored();
    assert_eq!(state["nearest"], true);
    let id = labeler.id("dent/000.png");
    let detail = labeler.detail(id);
    assert_eq!((&detail["width"], &detail["height"]), (&SIZE.0.into(), &SIZE.1.into()));
    assert_eq!(detail["suggestion"]["sure"], true, "{detail}");
    let counts: Vec<usize> = serde_json::from_value(detail["suggestion"]["mask"]["counts"].clone()).unwrap();
    assert_eq!(counts.iter().sum::<usize>(), (SIZE.0 * SIZE.1) as usize);
    let truth = dent_mask().into_luma8();
    let (mut at, mut marked, mut hit) = (0, 0, 0);
    for (i, n) in counts.iter().enumerate() {
        for pixel in at..at + n {
            if i % 2 == 1 {
                marked += 1;
                hit += usize::from(truth.as_raw()[pixel] == 255);
            }
        }
        at += n;
    }
    let all = truth.pixels().filter(|p| p.0 == [255]).count();
    assert!(hit * 2 > all && marked < 6 * all, "{hit} of {all} pixels of the dent are among {marked}");
    assert_eq!(labeler.detail(labeler.id("ok/000.png"))["suggestion"], Value::Null);

    let picture = labeler.get(&format!("/api/pictures/{id}/image"));
    assert_eq!((picture.code, picture.kind.as_str()), (200, "image/png"));
    assert_eq!(picture.body, std::fs::read(folder.path("rejects/dent/000.png")).unwrap());
    let tag = picture.tag.unwrap();
    let again = labeler.ask("GET", &format!("/api/pictures/{id}/image"), None, &[("If-None-Match", &tag)]);
    assert_eq!((again.code, again.body.len()), (304, 0));
    let map = labeler.get(&format!("/api/pictures/{id}/map.png"));
    let map = image::load_from_memory_with_format(&map.body, ImageFormat::Png).unwrap().into_rgba8();
    let alpha = |x: f32, y: f32| {
        map.get_pixel((x * map.width() as f32) as u32, (y * map.height() as f32) as u32).0[3]
    };
    let (dent, corner) = (alpha(0.6, 0.45), alpha(0.1, 0.1));
    assert!(dent > 100 && dent > 3 * corner, "{dent} {corner}");

    // What the part should look like is closer to it without its dent than it is itself.
    let nearest = labeler.get(&format!("/api/pictures/{id}/nearest.png"));
    assert_eq!(nearest.code, 200, "{}", String::from_utf8_lossy(&nearest.body));
    let nearest = image::load_from_memory_with_format(&nearest.body, ImageFormat::Png).unwrap();
    assert_eq!(nearest.dimensions(), SIZE);
    let (sound, dented) = (part(300).into_rgb8(), dented_part(300).into_rgb8());
    let nearest = nearest.into_rgb8();
    let far = |other: &image::RgbImage| -> f64 {
        let dent = nearest.enumerate_pixels().filter(|(x, y, _)| truth.get_pixel(*x, *y).0 == [255]);
        let differences: Vec<f64> = dent
            .flat_map(|(x, y, p)| {
                let o = other.get_pixel(x, y);
                (0..3).map(|c| f64::from(p[c].abs_diff(o[c]))).collect::<Vec<_>>()
            })
            .collect();
        differences.iter().sum::<f64>() / differences.len() as f64
    };
    assert!(far(&sound) < 30.0 && far(&sound) * 3.0 < far(&dented), "{} {}", far(&sound), far(&dented));
}

#[test]
fn without_the_good_pictures_or_a_network_that_is_said() {
    let folder = Folder::new();
    rejects(&folder);
    let cells = include_bytes!("../data/onnx/cells.onnx");
    let manifest = format!(
        "format = 3\nkind = \"backbone\"\nname = \"cells\"\nsource = \"none\"\nlicense = \"CC0-1.0\"\nsha256 = \"{}\"\n\
         color = \"rgb\"\nmean = [0.5, 0.5, 0.5]\nstd = [0.25, 0.25, 0.25]\nstride = 8\nmultiple = 8\n\
         [[scales]]\nchannels = 4\n[[scales.taps]]\nstride = 8\nchannels = 4\nweight = 1.0\n",
        sha256(cells)
    );
    folder.file("cells.toml", manifest.as_bytes());
    let network = folder.file("cells.onnx", cells);
    let good = folder.good_parts("good", 0, 4);
    enroll(&good, &folder.path("disc.weakrest"), &["--backbone", network.to_str().unwrap()]).exits(0);
    let labeler = Labeler::start(&folder);
    let id = labeler.id("dent/000.png");
    let text = labeler.get(&format!("/api/pictures/{id}/nearest.png")).refused(404);
    assert!(text.contains("enrolled pictures"), "{text}");
    let text = labeler.click(id, &json!({"clicks": [{"x": 5, "y": 5, "positive": true}]})).refused(501);
    assert!(text.contains("boxes"), "{text}");
    drop(labeler);

    let mut command = command(&folder);
    command.arg("--good").arg(folder.path("rejects/dent"));
    let labeler = Labeler::of(command);
    labeler.until(|state| state["nearest"] == false);
}

#[test]
fn clicks_and_words_make_a_mask() {
    let folder = Folder::new();
    rejects(&folder);
    let labeler = Labeler::start(&folder);
    let state = labeler.scored();
    assert!(state["prompts"]["scratch"].as_array().unwrap().contains(&"a thin scratch".into()));
    let id = labeler.id("dent/000.png");
    let clicks = |prompt: Value| json!({"clicks": [{"x": 57, "y": 36, "positive": true}], "prompt": prompt});
    let silent = labeler.click(id, &clicks(Value::Null)).json();
    assert_eq!(silent["mask"]["size"], json!([80, 96]));
    let marked: u64 = silent["mask"]["counts"]
        .as_array()
        .unwrap()
        .iter()
        .skip(1)
        .step_by(2)
        .filter_map(Value::as_u64)
        .sum();
    assert!((20..80 * 96 / 4).contains(&marked), "{marked} pixels");
    assert_eq!(silent["unknown_words"], false);
    assert_eq!(labeler.click(id, &clicks("A dent ".into())).json()["unknown_words"], false);
    let unknown = labeler.click(id, &clicks("as if a dog had bitten".into())).json();
    assert_eq!(unknown["unknown_words"], true);
    assert_eq!(unknown["mask"], silent["mask"], "words that nobody knows change nothing");
    // A type need not be a word: it is no prompt then.
    let numbered = json!({"clicks": [{"x": 57, "y": 36, "positive": true}], "type": "17"});
    let numbered = labeler.click(id, &numbered).json();
    assert_eq!((&numbered["mask"], &numbered["unknown_words"]), (&silent["mask"], &false.into()));
}

#[test]
fn bad_requests_are_refused_and_change_nothing() {
    let folder = Folder::new();
    rejects(&folder);
    let labeler = Labeler::start(&folder);
    let id = labeler.id("dent/000.png");
    labeler.save(id, json!({"tag": "defective", "shapes": [{"box": [1, 2, 3, 4]}]}));
    let before = folder.contents();

    let click = json!([{"x": 5.5, "y": 5, "positive": true}]);
    for (body, code, told) in [
        (
            json!({"clicks": [{"x": 97, "y": 5, "positive": true}]}),
            422,
            "outside of the picture, which is 96×80",
        ),
        (json!({"clicks": [{"x": 5, "y": -0.1, "positive": false}]}), 422, "outside of the picture"),
        (json!({"clicks": []}), 422, "1 to 1000 clicks"),
        (json!({"clicks": [{"x": "5", "y": 5, "positive": true}]}), 422, "invalid type"),
        (json!({"clicks": click, "prompt": "x".repeat(100_000)}), 422, "100000 characters"),
        (json!({"clicks": click, "prompt": "12 ?! 3"}), 422, "no letters"),
        (json!({"clicks": click, "prompt": ""}), 422, "no letters"),
        (json!({"clicks": click, "type": "a\nb"}), 422, "type of a defect"),
        (json!({"clicks": click, "previous": {"size": [2, 2], "counts": [4]}}), 422, "2×2 pixels"),
    ] {
        let text = labeler.click(id, &body).refused(code);
        assert!(text.contains(told), "{text}");
    }
    for (changes, told) in [
        (json!({"shapes": [{"box": [0, 0, 200, 20]}]}), "outside of the picture"),
        (json!({"shapes": [{"box": [30, 0, 20, 20]}]}), "left < right"),
        (json!({"shapes": [{"rotated": [[0, 0], [2, 2], [2, 0], [0, 2]]}]}), "twisted"),
        (json!({"shapes": [{"mask": {"size": [80, 96], "counts": [7]}}]}), "do not make"),
        (
            json!({"shapes": [{"mask": {"size": [4_000_000_000u32, 4_000_000_000u32], "counts": [7]}}]}),
            "its picture 96×80",
        ),
        (json!({"shapes": [{"polygon": [[0, 0], [5, 5]]}]}), "3 to 1000 corners"),
        (
            json!({"shapes": [{"polygon": [[0, 0], [50, 5], [98, 9]]}]}),
            "outside of the picture, which is 96×80",
        ),
        (json!({"shapes": [{"polygon": [[1, 1], [1.2, 1], [1, 1.2]]}]}), "covers no pixel"),
        (
            json!({"shapes": [{"box": [1, 2, 3, 4], "polygon": [[0, 0], [5, 5], [0, 5]]}]}),
            "one of box, rotated",
        ),
        (json!({"shapes": [{"type": "dent"}]}), "one of box, rotated, polygon or mask"),
        (json!({"shapes": [{"box": [1, 2, 3, 4], "type": "a\nb"}]}), "type of a defect"),
        (json!({"tag": "good"}), "good picture has no defects"),
        (json!({"tag": "odd"}), "unknown variant"),
        (json!({"type": "good"}), "it is a tag"),
        (json!({"type": "x".repeat(101)}), "1 to 100 characters"),
        (json!({"seconds": -1}), "not negative"),
        (json!({"more": 1}), "unknown field"),
    ] {
        let text = labeler.put(id, &labeler.label(id, changes)).refused(422);
        assert!(text.contains(told), "{text}");
    }
    let label = labeler.label(id, json!({}));
    let path = format!("/api/pictures/{id}/label");
    let text = labeler.ask("PUT", &path, Some(&label), &[]).refused(403);
    assert!(text.contains("X-Weakrest"), "{text}");
    let named = [("X-Weakrest", "1"), ("Host", "evil.example")];
    assert_eq!(labeler.ask("PUT", &path, Some(&label), &named).code, 403);
    labeler.ask("PUT", "/api/pictures/99/label", Some(&label), &[("X-Weakrest", "1")]).refused(404);
    labeler.get("/api/pictures/x").refused(404);
    labeler.get("/api/pictures/99/image").refused(404);
    labeler.get("/api/../Cargo.toml").refused(404);
    let huge = Value::from("x".repeat(33 << 20));
    // The answer may come before all of it is sent, and the connection then ends.
    if let Ok(answer) = labeler.try_ask("PUT", &path, Some(&huge), &[("X-Weakrest", "1")]) {
        answer.refused(413);
    }
    assert_eq!(folder.contents(), before);
}

#[test]
fn two_tabs_do_not_overwrite_each_other() {
    let folder = Folder::new();
    rejects(&folder);
    let labeler = Labeler::start(&folder);
    let id = labeler.id("dent/000.png");
    let (one, two) =
        (labeler.label(id, json!({"tag": "good"})), labeler.label(id, json!({"tag": "defective"})));
    let first = labeler.put(id, &one);
    assert_eq!(first.code, 200);
    let refusal = labeler.put(id, &two);
    assert!(refusal.refused(409).contains("another tab"));
    let now = refusal.json()["label"].clone();
    assert_eq!((&now["tag"], &now["revision"]), (&"good".into(), &first.json()["revision"]));
    assert_eq!(lines(&folder.path("parts.jsonl"))[0]["tag"], "good");
    // Whoever has seen it may change it.
    let mut again = two;
    again["revision"] = now["revision"].clone();
    assert_eq!(labeler.put(id, &again).code, 200);
    assert_eq!(lines(&folder.path("parts.jsonl"))[0]["tag"], "defective");

    // Another program that writes the file is another tab.
    let line = json!({"image": "rejects/dent/000.png", "tag": "good"});
    folder.file("parts.jsonl", format!("{line}\n").as_bytes());
    again["revision"] = labeler.put(id, &again).json()["label"]["revision"].clone();
    assert_eq!(labeler.put(id, &again).code, 200);
    // And one that breaks it is told of, not overwritten.
    folder.file("parts.jsonl", b"not a label\n");
    again["tag"] = "good".into();
    let text = labeler.put(id, &again).refused(422);
    assert!(text.contains("parts.jsonl:1"), "{text}");
    assert_eq!(std::fs::read(folder.path("parts.jsonl")).unwrap(), b"not a label\n");
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_file_with_the_last_answered_save() {
    let folder = Folder::new();
    rejects(&folder);
    for round in 0..5u64 {
        let mut labeler = Labeler::start(&folder);
        let id = labeler.id("dent/000.png");
        let mut label = labeler.label(id, json!({"tag": "defective"}));
        let killed = AtomicBool::new(false);
        let pid = labeler.process.id().to_string();
        let last = std::thread::scope(|scope| {
            let (answered, first) = mpsc::channel::<Duration>();
            let killed = &killed;
            scope.spawn(move || {
                // In another part of a save each time, however long this machine takes for one.
                let Ok(save) = first.recv() else { return };
                std::thread::sleep(save.mul_f64(1.0 + 1.2 * round as f64));
                killed.store(true, Relaxed);
                assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
            });
            let mut last = 0;
            for n in 1.. {
                label["shapes"] = json!([{"mask": rectangle(n % 40, 3, 10 + n % 40, 20)}]);
                label["seconds"] = n.into();
                let path = format!("/api/pictures/{id}/label");
                let asked = Instant::now();
                match labeler.try_ask("PUT", &path, Some(&label), &[("X-Weakrest", "1")]) {
                    Ok(answer) => {
                        assert_eq!(answer.code, 200, "{}", String::from_utf8_lossy(&answer.body));
                        label["revision"] = answer.json()["revision"].clone();
                        last = n;
                        let _ = answered.send(asked.elapsed());
                    }
                    Err(_) => break,
                }
            }
            last
        });
        assert!(killed.load(Relaxed) && last > 0);
        labeler.kill();
        let found = lines(&folder.path("parts.jsonl"));
        assert_eq!(found.len(), 1);
        // The save that was not answered may be there, too.
        let n = found[0]["seconds"].as_u64().unwrap();
        assert!(n == last || n == last + 1, "{n} after {last}");
        // What is killed locks nothing, and mask and line are of one save.
        let labeler = Labeler::start(&folder);
        let mask = labeler.detail(labeler.id("dent/000.png"))["label"]["shapes"][0]["mask"].clone();
        assert_eq!(mask, rectangle(n % 40, 3, 10 + n % 40, 20));
    }
}

#[test]
fn a_second_process_on_the_label_file_is_refused() {
    let folder = Folder::new();
    rejects(&folder);
    let mut first = Labeler::start(&folder);
    let pid = first.process.id().to_string();
    Ran::of(&mut command(&folder)).exits(2).says(&["another weakrest label", &pid, "parts.jsonl"]);
    folder.picture("truth/dent/000_mask.png", &dent_mask());
    let import = format!("masks:{}", folder.path("truth").display());
    Ran::of(command(&folder).args(["--import", &import])).exits(2).says(&["another weakrest label", &pid]);
    first.kill();
    Labeler::start(&folder);
}

#[test]
fn pictures_that_change_or_go_while_they_are_open_are_told_of() {
    let folder = Folder::new();
    rejects(&folder);
    let labeler = Labeler::start(&folder);
    let (changed, gone) = (labeler.id("dent/000.png"), labeler.id("dent/001.png"));
    let labels = [changed, gone].map(|id| labeler.label(id, json!({"tag": "good"})));
    folder.picture("rejects/dent/000.png", &dented_part(999));
    std::fs::remove_file(folder.path("rejects/dent/001.png")).unwrap();

    let refusal = labeler.put(changed, &labels[0]);
    assert!(refusal.refused(409).contains("changed on disk"));
    assert_eq!(refusal.json().get("label"), None);
    let click = json!({"clicks": [{"x": 5, "y": 5, "positive": true}]});
    assert!(labeler.click(changed, &click).refused(409).contains("changed on disk"));
    assert!(labeler.put(gone, &labels[1]).refused(410).contains("not there any more"));
    assert!(labeler.click(gone, &click).refused(410).contains("not there any more"));
    assert_eq!(labeler.get(&format!("/api/pictures/{gone}/image")).code, 410);
    assert!(!folder.path("parts.jsonl").exists());
    let state = labeler.until(|state| state["pictures"][3]["missing"] == true);
    assert_eq!(state["pictures"][3]["id"], gone);

    // Who looks again may go on; a file that was only touched is the same picture.
    labeler.save(changed, json!({"tag": "good"}));
    let label = labeler.label(changed, json!({"tag": "defective"}));
    let bytes = std::fs::read(folder.path("rejects/dent/000.png")).unwrap();
    folder.file("rejects/dent/000.png", &bytes);
    assert_eq!(labeler.put(changed, &label).code, 200);
    folder.picture("rejects/dent/001.png", &dented_part(301));
    labeler.until(|state| state["pictures"].as_array().unwrap().iter().all(|p| p["missing"] == false));
    labeler.save(gone, json!({"tag": "good"}));
}

#[test]
fn what_cannot_be_labeled_is_said_at_the_start() {
    let folder = Folder::new();
    rejects(&folder);
    folder.folder("empty");
    let line = |image: &str| format!("{}\n", json!({"image": image, "tag": "good"}));
    let label = |labels: &str| {
        folder.file("parts.jsonl", labels.as_bytes());
        Ran::of(&mut command(&folder))
    };
    let foreign = [folder.path("other/1.png").display().to_string(), "elsewhere/2.png".into()];
    label(&(line(&foreign[0]) + &line(&foreign[1]))).exits(2).says(&[
        "parts.jsonl",
        "another folder",
        "none of its 2",
        "another label file",
    ]);
    label("{\"image\": \"a\"\n").exits(2).says(&["parts.jsonl:1", "not a label"]);
    label(&(line("rejects/ok/000.png") + &line("rejects/./ok/000.png")))
        .exits(2)
        .says(&["parts.jsonl:2", "earlier line"]);
    label("{\"image\": \"a\", \"tag\": \"good\", \"x\": 1}").exits(2).says(&["unknown field"]);

    let run = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(["label", "--package"]).arg(package(&folder));
        command.arg("--labels").arg(folder.path("new.jsonl")).args(arguments);
        Ran::of(&mut command)
    };
    let path = |name: &str| folder.path(name).display().to_string();
    run(&["--images", &path("nowhere")]).exits(2).says(&["--images", "nowhere"]);
    run(&["--images", &path("empty")]).exits(2).says(&["no pictures", "empty"]);
    folder.file("foreign/1.webp", b"RIFF");
    run(&["--images", &path("foreign")]).exits(2).says(&["no pictures", "1 picture in formats", "1.webp"]);
    let rejects = path("rejects");
    run(&["--images", &rejects, "--good", &path("nowhere")]).exits(2).says(&["--good"]);
    run(&["--images", &rejects, "--listen", "0.0.0.0:0"]).exits(2).says(&["--token-file"]);
    run(&["--images", &rejects, "--listen", "here"]).exits(2).says(&["--listen", "127.0.0.1:8080"]);
    for (prompts, told) in [
        (json!({"crack": ["a thin crack", "???"]}), "no letters"),
        (json!({"crack": "x".repeat(100_000)}), "100000 characters"),
        (json!(["crack"]), r#"{"crack": ["a thin crack"]}"#),
    ] {
        folder.file("prompts.json", prompts.to_string().as_bytes());
        run(&["--images", &rejects, "--prompts", &path("prompts.json")])
            .exits(2)
            .says(&["prompts.json", told]);
    }
    assert!(!folder.path("new.jsonl").exists());

    // A file that is also about pictures elsewhere keeps what it says of them.
    let both = line(&foreign[0]) + &line("rejects/ok/000.png");
    folder.file("parts.jsonl", both.as_bytes());
    folder.file("prompts.json", br#"{"crack": "a thin crack", "dent": ["a dent"]}"#);
    let mut command = command(&folder);
    command.arg("--prompts").arg(folder.path("prompts.json"));
    let labeler = Labeler::of(command);
    let state = labeler.state();
    // Own phrases take the place of the network's, and others stay.
    assert_eq!(state["prompts"]["crack"], json!(["a thin crack"]));
    assert_eq!(state["prompts"]["dent"], json!(["a dent"]));
    assert!(state["prompts"]["scratch"].as_array().unwrap().len() > 1);
    assert_eq!(state["types"], json!(["crack", "dent"]));
    labeler.save(labeler.id("dent/000.png"), json!({"tag": "defective"}));
    let text = std::fs::read_to_string(folder.path("parts.jsonl")).unwrap();
    assert!(text.starts_with(&both), "{text}");
}

#[test]
fn a_token_lets_others_in() {
    let folder = Folder::new();
    rejects(&folder);
    let token = "0123456789abcdef0123456789abcdef";
    folder.file("token", token.as_bytes());
    let mut command = command(&folder);
    command.arg("--token-file").arg(folder.path("token"));
    let labeler = Labeler::of(command);
    let bearer = format!("Bearer {token}");
    let headers = [("X-Weakrest", "1"), ("Authorization", bearer.as_str())];
    assert_eq!(labeler.get("/").code, 200);
    for path in ["/api/state", "/api/pictures/0", "/api/pictures/0/image"] {
        let text = labeler.get(path).refused(401);
        assert!(text.contains("token file"), "{text}");
        assert_eq!(labeler.ask("GET", path, None, &headers).code, 200);
    }
    let mut label = labeler.ask("GET", "/api/pictures/0", None, &headers).json()["label"].clone();
    label["tag"] = "good".into();
    labeler.put(0, &label).refused(401);
    assert_eq!(labeler.ask("PUT", "/api/pictures/0/label", Some(&label), &headers).code, 200);
}

#[test]
fn the_page_can_be_encrypted() {
    let folder = Folder::new();
    rejects(&folder);
    let own = crate::install::Certificate::new(&folder, "localhost");
    let mut encrypted = command(&folder);
    encrypted.arg("--certificate").arg(&own.chain).arg("--key").arg(&own.key);
    let labeler = Labeler::of(encrypted);
    let port = labeler.address.rsplit(':').next().unwrap();
    // A client that shares no code with the labeler, and trusts only this authority.
    let script = "import ssl, sys, urllib.request as request\n\
                  context = ssl.create_default_context(cafile=sys.argv[2])\n\
                  print(request.urlopen(sys.argv[1], context=context).read().decode())";
    let ask = |authority: &std::path::Path| {
        let url = format!("https://localhost:{port}/api/state");
        Command::new("python3").args(["-c", script, &url]).arg(authority).output().unwrap()
    };
    let answer = ask(&own.authority);
    let text = String::from_utf8_lossy(&answer.stdout);
    assert!(text.contains("\"pictures\""), "{text}{}", String::from_utf8_lossy(&answer.stderr));
    let other = crate::install::Certificate::new(&folder, "other");
    assert!(!ask(&other.authority).status.success());
    drop(labeler);
    // Half of it, and a file that is no certificate.
    let mut half = command(&folder);
    Ran::of(half.arg("--certificate").arg(&own.chain)).exits(2).says(&["--key"]);
    let mut wrong = command(&folder);
    let wrong =
        wrong.arg("--certificate").arg(folder.file("none.pem", b"no certificate")).arg("--key").arg(&own.key);
    Ran::of(wrong).exits(2).says(&["--certificate"]);
}

#[test]
fn pictures_of_other_kinds_can_be_labeled_too() {
    let folder = Folder::new();
    rejects(&folder);
    // Not of the enrolled size, not of a browser's format, and no picture at all.
    folder.picture("rejects/large.png", &part_of_size(1, 200, 100));
    folder.picture("rejects/old.bmp", &dented_part(5));
    folder.file("rejects/broken.png", b"not a picture");
    let labeler = Labeler::start(&folder);
    let state = labeler.scored();
    let of = |name: &str| {
        state["pictures"].as_array().unwrap().iter().find(|p| p["name"] == name).unwrap().clone()
    };
    assert_eq!((&of("large.png")["score"], &of("large.png")["width"]), (&Value::Null, &200.into()));
    assert!(of("broken.png")["error"].as_str().unwrap().contains("not a PNG"));
    assert_eq!(state["pictures"].as_array().unwrap().last().unwrap()["name"], "broken.png");
    labeler.get(&format!("/api/pictures/{}", of("broken.png")["id"])).refused(422);
    let id = of("large.png")["id"].as_u64().unwrap();
    assert!(labeler.detail(id)["problem"].as_str().unwrap().contains("200×100"));
    labeler.save(id, json!({"tag": "defective", "shapes": [{"box": [150, 10, 199, 99]}]}));
    labeler.get(&format!("/api/pictures/{id}/map.png")).refused(404);
    let bmp = labeler.get(&format!("/api/pictures/{}/image", of("old.bmp")["id"]));
    assert_eq!(bmp.kind, "image/png");
    let shown = image::load_from_memory(&bmp.body).unwrap();
    assert_eq!(shown.into_rgb8(), dented_part(5).into_rgb8());
    python_reads(&folder);
}

#[test]
fn a_full_disk_loses_nothing() {
    let folder = Folder::new();
    rejects(&folder);
    let disk = folder.folder("disk");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return skip("a small disk can only be made by root");
    }
    struct Mount<'a>(&'a Path);
    impl Drop for Mount<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0).status();
        }
    }
    let _mount = Mount(&disk);
    let labels = disk.join("parts.jsonl");
    let mut command = Command::new(PROGRAM);
    command.args(["label", "--listen", "127.0.0.1:0", "--package"]).arg(package(&folder));
    command.arg("--images").arg(folder.path("rejects")).arg("--labels").arg(&labels);
    let labeler = Labeler::of(command);
    let id = labeler.id("dent/000.png");
    labeler.save(id, json!({"tag": "defective", "shapes": [{"mask": rectangle(1, 1, 5, 5)}]}));
    let before = contents(&disk);
    let text = std::fs::read(&labels).unwrap();
    // Full to the last block.
    let mut filler = std::fs::File::create(disk.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[1; 4096]).is_ok() {}
    let other = labeler.id("dent/001.png");
    let changes = [
        (id, json!({"shapes": [{"mask": rectangle(9, 9, 20, 20)}]})),
        (other, json!({"tag": "defective", "shapes": [{"mask": rectangle(2, 2, 3, 3)}]})),
        (labeler.id("ok/000.png"), json!({"tag": "good"})),
    ];
    for (id, changes) in &changes {
        let text = labeler.put(*id, &labeler.label(*id, changes.clone())).refused(507);
        assert!(text.contains("disk is full") && text.contains("still there"), "{text}");
    }
    assert_eq!(std::fs::read(&labels).unwrap(), text);
    drop(filler);
    std::fs::remove_file(disk.join("filler")).unwrap();
    let mut after = contents(&disk);
    // Folders for masks may have been made.
    after.retain(|path, what| before.contains_key(path) || what != "folder");
    assert_eq!(after, before);
    for (id, changes) in changes {
        labeler.save(id, changes);
    }
    assert_eq!(lines(&labels).len(), 3);
}

#[test]
fn labels_go_to_other_tools_and_back() {
    let folder = Folder::new();
    rejects(&folder);
    folder.picture("rejects/other/000.jpg", &dented_part(8));
    folder.picture("parts.masks/dent.png", &dent_mask());
    let all = [
        json!({"image": "rejects/dent/000.png", "defects": [{"box": [10, 20.125, 30, 40]}], "type": "dent", "seconds": 5.5}),
        json!({"image": "rejects/dent/001.png", "defects": [
            {"box": [1, 2, 3, 4]}, {"rotated": [[9, 20], [50.5, 12], [52, 24], [11, 32]]}, {"mask": "parts.masks/dent.png"},
        ], "type": "dent & ä"}),
        json!({"image": "rejects/ok/000.png", "tag": "good", "seconds": 1.25}),
        json!({"image": "rejects/ok/001.png", "tag": "defective"}),
        json!({"image": "rejects/other/000.jpg", "defects": [{"mask": "parts.masks/dent.png"}]}),
    ];
    let text: String = all.iter().map(|line| format!("{line}\n")).collect();
    folder.file("parts.jsonl", text.as_bytes());
    let run = |labels: &str, more: &[String]| {
        let mut command = Command::new(PROGRAM);
        command.args(["label", "--images"]).arg(folder.path("rejects"));
        Ran::of(command.arg("--labels").arg(folder.path(labels)).args(more))
    };
    let place = |kind: &str, name: &str| format!("{kind}:{}", folder.path(name).display());

    for (kind, name) in [("coco", "coco.json"), ("label-studio", "studio.json")] {
        let there = ["--export".to_owned(), place(kind, name)];
        run("parts.jsonl", &there).exits(0).prints(&["5 pictures written"]);
        run("parts.jsonl", &there).exits(2).says(&[name, "--overwrite"]);
        let back = format!("{kind}.jsonl");
        let from = ["--import".to_owned(), place(kind, name)];
        run(&back, &from).exits(0).prints(&["5 pictures read"]);
        run(&back, &from).exits(2).says(&["has a label already", "--overwrite"]);
        let found = lines(&folder.path(&back));
        for (found, expected) in found.iter().zip(&all) {
            let mut expected = expected.clone();
            let shapes = expected.get_mut("defects").and_then(Value::as_array_mut).into_iter().flatten();
            for (found, expected) in found["defects"].as_array().into_iter().flatten().zip(shapes) {
                // Masks have other names, and the same pixels.
                if let (Some(mine), Some(theirs)) = (found["mask"].as_str(), expected["mask"].as_str()) {
                    let open = |path: &str| image::open(folder.path(path)).unwrap().into_luma8();
                    assert_eq!(open(mine), open(theirs));
                    expected["mask"] = mine.into();
                }
            }
            assert_eq!(*found, expected, "{kind}");
        }
        assert_eq!(found.len(), all.len());
    }

    run("parts.jsonl", &["--export".to_owned(), place("masks", "truth")])
        .exits(0)
        .says(&["1 defective pictures without a shape"]);
    let mut written = files(&folder.path("truth"));
    written.sort();
    let expected = ["defect/other-000_mask.png", "dent/000_mask.png", "dent & ä/dent-001_mask.png"];
    assert_eq!(written, expected.map(PathBuf::from));
    run("masks.jsonl", &["--import".to_owned(), place("masks", "truth")])
        .exits(0)
        .prints(&["3 pictures read"]);
    let found = lines(&folder.path("masks.jsonl"));
    let kinds: Vec<_> =
        found.iter().map(|l| (l["image"].as_str().unwrap(), l.get("type").cloned())).collect();
    let wanted = [
        ("rejects/other/000.jpg", None),
        ("rejects/dent/001.png", Some("dent & ä".into())),
        ("rejects/dent/000.png", Some("dent".into())),
    ];
    assert_eq!(kinds, wanted);
    let boxed = image::open(folder.path("truth/dent/000_mask.png")).unwrap().into_luma8();
    assert_eq!(boxed.pixels().filter(|p| p.0 == [255]).count(), 20 * 20);

    run("parts.jsonl", &[]).exits(2).says(&["--package"]);
    run("parts.jsonl", &["--export".into(), "xml:x".into()]).exits(2).says(&["coco:FILE"]);
    for (name, text, told) in [
        ("bad.json", "[", "is not JSON"),
        ("bad.json", "{}", "categories must be a list"),
        (
            "bad.json",
            r#"{"categories": [], "images": [{"id": 1, "file_name": "x.png", "width": 1, "height": 1}], "annotations": []}"#,
            "no picture x.png",
        ),
        (
            "bad.json",
            r#"{"categories": [], "images": [{"id": 1, "file_name": "old/dent/000.png", "width": 1, "height": 1}], "annotations": []}"#,
            "labeled with 1×1 pixels",
        ),
    ] {
        folder.file(name, text.as_bytes());
        run("new.jsonl", &["--import".into(), place("coco", name)]).exits(2).says(&[name, told]);
    }
    assert!(!folder.path("new.jsonl").exists());
}

#[test]
fn nothing_outside_of_the_folder_of_masks_is_touched() {
    let folder = Folder::new();
    rejects(&folder);
    let victims = ["victim.png", "elsewhere/victim.png"].map(|name| folder.picture(name, &dent_mask()));
    folder.picture("parts.masks/own.png", &dent_mask());
    std::os::unix::fs::symlink(folder.path("elsewhere"), folder.path("parts.masks/link")).unwrap();
    let masks = ["parts.masks/../victim.png", "parts.masks/link/victim.png", "parts.masks/own.png"];
    let lines: String = ["dent/000.png", "dent/001.png", "ok/000.png"]
        .iter()
        .zip(masks)
        .map(|(image, mask)| {
            format!("{}\n", json!({"image": format!("rejects/{image}"), "defects": [{"mask": mask}]}))
        })
        .collect();
    folder.file("parts.jsonl", lines.as_bytes());
    let labeler = Labeler::start(&folder);
    for image in ["dent/000.png", "dent/001.png", "ok/000.png"] {
        labeler.save(labeler.id(image), json!({"shapes": [{"mask": rectangle(1, 1, 5, 5)}]}));
        labeler.save(labeler.id(image), json!({"shapes": [], "tag": "good"}));
    }
    for victim in victims {
        assert!(victim.exists(), "{}", victim.display());
    }
    assert!(!folder.path("parts.masks/own.png").exists(), "its own masks do not pile up");

    // Nor is anything written there.
    let id = labeler.id("ok/001.png");
    std::fs::remove_dir_all(folder.path("parts.masks")).unwrap();
    std::os::unix::fs::symlink(folder.path("elsewhere"), folder.path("parts.masks")).unwrap();
    let label = labeler.label(id, json!({"tag": "defective", "shapes": [{"mask": rectangle(1, 1, 5, 5)}]}));
    let text = labeler.put(id, &label).refused(422);
    assert!(text.contains("parts.masks") && text.contains("link"), "{text}");
    assert_eq!(files(&folder.path("elsewhere")), [PathBuf::from("victim.png")]);
}

#[test]
fn a_lock_that_is_something_else_is_left_alone() {
    let folder = Folder::new();
    rejects(&folder);
    let victim = folder.file("victim", b"1");
    let lock = folder.path("parts.jsonl.lock");
    let import = |folder: &Folder| {
        folder.picture("truth/dent/000_mask.png", &dent_mask());
        Ran::of(command(folder).arg("--import").arg(format!("masks:{}", folder.path("truth").display())))
    };
    for link in [std::os::unix::fs::symlink::<&Path, &Path>, std::fs::hard_link] {
        link(&victim, &lock).unwrap();
        import(&folder).exits(2).says(&["parts.jsonl.lock", "move it away"]);
        assert_eq!(std::fs::read(&victim).unwrap(), b"1");
        std::fs::remove_file(&lock).unwrap();
    }
    folder.file("parts.jsonl.lock", b"somebody's own notes, not the number of a process");
    import(&folder).exits(2).says(&["move it away"]);
    std::fs::remove_file(&lock).unwrap();
    // What a killed labeler left.
    folder.file("parts.jsonl.lock", b"4711");
    import(&folder).exits(0);
}

#[test]
fn many_large_requests_do_not_take_all_memory() {
    use std::io::Write;
    let folder = Folder::new();
    rejects(&folder);
    let labeler = Labeler::start(&folder);
    let id = labeler.id("ok/000.png");
    let (body, block) = (32 << 20, vec![b' '; 1 << 20]);
    let head = format!(
        "PUT /api/pictures/{id}/label HTTP/1.1\r\nHost: {}\r\nX-Weakrest: 1\r\nContent-Length: {body}\r\n\r\n",
        labeler.address
    );
    let peak = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..30)
            .map(|_| {
                scope.spawn(|| {
                    let mut stream = std::net::TcpStream::connect(&labeler.address).unwrap();
                    stream.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
                    // Never the last of it.
                    let _ = stream.write_all(head.as_bytes());
                    (0..31).all(|_| stream.write_all(&block).is_ok())
                })
            })
            .collect();
        let mut peak = 0;
        while senders.iter().any(|sender| !sender.is_finished()) {
            let status = std::fs::read_to_string(format!("/proc/{}/status", labeler.process.id())).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
            peak = peak.max(line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        peak
    });
    assert!(peak < 600 << 10, "{peak} KiB");
    labeler.save(id, json!({"tag": "good"}));
}
