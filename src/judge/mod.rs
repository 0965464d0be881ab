//! Pictures that other programs send: each is judged with the package in use, as a part on the line is.
//!
//! A process of its own judges them, one after the other, at the lowest priority: see [`crate::program`]. It starts
//! with the first picture and ends when none has come for a while. The line, its counters and outputs do not know of
//! it. If it hangs or runs out of memory, the line goes on.
//!
//! The service and the process talk in lines of JSON, each followed by bytes: a [`Task`], then [`Question`]s, each with
//! an [`Outcome`].

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;
use utoipa::{IntoParams, ToSchema};

use crate::error::{Error, ErrorKind, Result};
use crate::http::{About, Api, problem};
use crate::inspector::{Inspection, Provider, Region, Verdict};
use crate::output::web::{Additions, INSPECT};
use crate::program::{Program, complaints, failed, why};

/// Pictures that wait. Their bytes are limited by the web server.
const WAITING: usize = 8;
/// The process ends when no picture has come for this time.
const IDLE: Duration = Duration::from_secs(60);
/// The longest time for a picture.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes of a line and of an answer.
const MOST_LINE: u64 = 64 << 10;
const MOST_ANSWER: u64 = 64 << 20;
/// Kinds of pictures.
const KINDS: [&str; 4] = ["image/png", "image/jpeg", "image/bmp", "image/tiff"];

/// What the process judges with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Task {
    pub program: Program,
    /// Whether there is a package.
    pub has_package: bool,
    /// What `weakrest judge` reads first.
    pub job: Value,
    /// The time limit for loading.
    pub limit: Duration,
}

/// What comes before the bytes of a picture.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    pub bytes: usize,
    /// The picture is framed already, such as a kept one.
    pub framed: bool,
    /// The answer is the picture with its anomaly map.
    pub overlay: bool,
}

/// What comes before the bytes of an answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The status code.
    pub code: u16,
    pub bytes: usize,
    /// The bytes are a JPEG of a part with this verdict.
    pub picture: Option<String>,
}

/// The times of the stages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Milliseconds {
    features: f64,
    residuals: f64,
    classify: f64,
}

/// What an inspection found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Judged<'a> {
    score: f32,
    /// Scores above it are rejected.
    threshold: f32,
    /// In the pixels of the picture as it was inspected, the highest peak first.
    regions: &'a [Region],
    provider: Provider,
    milliseconds: Milliseconds,
}

impl<'a> Judged<'a> {
    pub fn new(inspection: &'a Inspection, provider: Provider) -> Self {
        let ms = |time: Duration| time.as_micros() as f64 / 1e3;
        Judged {
            score: inspection.score,
            threshold: inspection.threshold,
            regions: &inspection.regions,
            provider,
            milliseconds: Milliseconds {
                features: ms(inspection.times.features),
                residuals: ms(inspection.times.residuals),
                classify: ms(inspection.times.classify),
            },
        }
    }
}

/// The verdict on a picture.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Inspected<'a> {
    #[serde(flatten)]
    pub verdict: &'a Verdict,
    #[serde(flatten)]
    pub judged: Judged<'a>,
    pub product: &'a str,
    /// The package that judged: SHA-256 of its manifest.
    pub package: &'a str,
    /// The recipe's number; 0 is the configuration's package.
    pub recipe: u16,
}

/// Judges pictures. It outlives lines.
pub(crate) struct Judge {
    pictures: Sender<Asked>,
    task: Arc<Mutex<Option<Task>>>,
}

/// A picture, and where its answer goes.
struct Asked {
    /// Held by the request: a picture of somebody who has gone away takes no memory.
    bytes: Weak<Bytes>,
    question: Question,
    answer: oneshot::Sender<Result<Answer>>,
}

type Answer = (Outcome, Vec<u8>);

impl Judge {
    /// Starts the thread that waits for pictures.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if that is impossible.
    pub fn start() -> Result<Arc<Judge>> {
        let (pictures, waiting) = bounded(WAITING);
        let task = Arc::<Mutex<Option<Task>>>::default();
        let theirs = Arc::clone(&task);
        std::thread::Builder::new()
            .name("judge".into())
            .spawn(move || serve(&waiting, &theirs))
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))?;
        Ok(Arc::new(Judge { pictures, task }))
    }

    /// Judges the next pictures with another package.
    pub fn set(&self, task: Task) {
        *lock(&self.task) = Some(task);
    }

    /// The routes, for the web page.
    pub fn routes(self: &Arc<Self>) -> Additions {
        let about = About::new(
            "Judges a picture with the package in use. Counters, gate, journal and the other outputs do not know of it",
        );
        let about = about
            .query::<Wanted>()
            .takes_file(&KINDS)
            .gives::<Inspected>()
            .gives_file("image/jpeg")
            .refuses(
                StatusCode::CONFLICT,
                "There is no package, or the one on the disk is not the one in use",
            )
            .refuses(StatusCode::UNPROCESSABLE_ENTITY, "The picture cannot be inspected; the text says why")
            .refuses(StatusCode::SERVICE_UNAVAILABLE, "Too many pictures wait, or it took too long");
        let operate = Api::new().post(INSPECT, inspect, about);
        // The web server itself limits bodies.
        let operate = operate.routed(|router| router.layer(DefaultBodyLimit::disable()));
        Additions { operate: operate.with_state(Arc::clone(self)), ..Additions::default() }
    }
}

fn lock(task: &Mutex<Option<Task>>) -> MutexGuard<'_, Option<Task>> {
    task.lock().unwrap_or_else(|e| e.into_inner())
}

/// How to judge a picture.
#[derive(Deserialize, IntoParams)]
struct Wanted {
    /// `1`: the picture is cropped and rotated already, as those of kept parts are.
    framed: Option<String>,
    /// `1`: the answer is the picture with its anomaly map as JPEG; the header X-Verdict is the verdict.
    overlay: Option<String>,
}

async fn inspect(State(judge): State<Arc<Judge>>, uri: Uri, bytes: Bytes) -> Response {
    let Ok(Query(wanted)) = Query::<Wanted>::try_from_uri(&uri) else {
        return problem(StatusCode::BAD_REQUEST, "invalid query; use /api/inspect or /api/inspect?overlay=1");
    };
    if bytes.is_empty() {
        return problem(
            StatusCode::BAD_REQUEST,
            "the request has no body: send a PNG, JPEG, BMP or TIFF file",
        );
    }
    let is_set = |given: Option<String>| given.is_some_and(|given| given != "0");
    let question =
        Question { bytes: bytes.len(), framed: is_set(wanted.framed), overlay: is_set(wanted.overlay) };
    let bytes = Arc::new(bytes);
    let (answer, answered) = oneshot::channel();
    if judge.pictures.try_send(Asked { bytes: Arc::downgrade(&bytes), question, answer }).is_err() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "too many pictures wait to be judged: try again");
    }
    let answered = answered.await;
    drop(bytes);
    let (Outcome { code, picture, .. }, bytes) = match answered {
        Ok(Ok(answer)) => answer,
        Ok(Err(e)) => {
            let code = match e.kind() {
                ErrorKind::Usage => StatusCode::CONFLICT,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            return problem(code, e.chain());
        }
        Err(_) => return problem(StatusCode::INTERNAL_SERVER_ERROR, "request failed; see the service's log"),
    };
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match picture {
        Some(verdict) => {
            let headers = [
                (header::CONTENT_TYPE, "image/jpeg".into()),
                (HeaderName::from_static("x-verdict"), verdict),
            ];
            (code, headers, bytes).into_response()
        }
        None => (code, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
    }
}

/// Judges pictures, one after the other.
fn serve(pictures: &Receiver<Asked>, task: &Mutex<Option<Task>>) {
    let mut worker: Option<Worker> = None;
    loop {
        let next = match &worker {
            Some(_) => pictures.recv_timeout(IDLE),
            None => pictures.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let Asked { bytes, question, answer } = match next {
            Ok(asked) => asked,
            Err(RecvTimeoutError::Timeout) => {
                worker = None;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(bytes) = bytes.upgrade() else { continue };
        let task = lock(task).clone();
        let judged = judged(&mut worker, task, question, Bytes::clone(&bytes));
        // A process that failed once is not asked again.
        if judged.is_err() {
            worker = None;
        }
        let _ = answer.send(judged);
    }
}

/// Judges a picture, with a new process if the present one has another task.
fn judged(
    worker: &mut Option<Worker>,
    task: Option<Task>,
    question: Question,
    bytes: Bytes,
) -> Result<Answer> {
    let none =
        || Error::new(ErrorKind::Usage, "there is no package yet: teach a product, or install a package");
    let late = || {
        let text = format!("no verdict came within {} s: try again", PATIENCE.as_secs());
        Error::new(ErrorKind::Runtime, text)
    };
    let task = task.filter(|task| task.has_package).ok_or_else(none)?;
    // One that has ended meanwhile does not cost the picture.
    if let Some(present) = worker.as_mut().filter(|present| present.task == task)
        && let Ok(answer) = present.ask(&question, bytes.clone(), PATIENCE)
    {
        return answer.ok_or_else(late);
    }
    // The old one ends first, so that there is memory for one only.
    drop(worker.take());
    let (mut new, (outcome, text)) = Worker::start(task)?;
    if outcome.code != StatusCode::OK.as_u16() {
        new.end();
        return Ok((outcome, text));
    }
    worker.insert(new).ask(&question, bytes, PATIENCE)?.ok_or_else(late)
}

/// The process that judges.
struct Worker {
    task: Task,
    child: Child,
    questions: Option<Sender<(Vec<u8>, Bytes)>>,
    answers: Receiver<std::io::Result<Answer>>,
    complaints: Option<JoinHandle<String>>,
}

impl Worker {
    /// Starts it, and waits until it has loaded its package or says why it cannot.
    fn start(task: Task) -> Result<(Worker, Answer)> {
        // More threads would take more of the caches and of the memory's speed from the line.
        let mut command = task.program.command(&["judge", "--threads", "1"]);
        let mut child = command.stdin(Stdio::piped()).spawn().map_err(failed)?;
        let (input, output, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (questions, asked) = bounded::<(Vec<u8>, Bytes)>(1);
        let (answered, answers) = bounded(1);
        // Its pipes can block for as long as it hangs; killing it ends that.
        let talk = move || {
            let (Some(mut input), Some(output)) = (input, output) else { return };
            let mut output = BufReader::new(output);
            for (line, bytes) in asked {
                let sent = input
                    .write_all(&line)
                    .and_then(|()| input.write_all(&bytes))
                    .and_then(|()| input.flush());
                let read = sent.and_then(|()| read_answer(&mut output));
                let is_over = read.is_err();
                if answered.send(read).is_err() || is_over {
                    return;
                }
            }
        };
        let started = std::thread::Builder::new().name("judge-pipe".into()).spawn(talk);
        let complaints =
            started.and_then(|_| std::thread::Builder::new().spawn(move || complaints(err))).map_err(failed);
        let mut worker = Worker { task, child, questions: Some(questions), answers, complaints: None };
        worker.complaints = Some(complaints?);
        let (job, limit) = (worker.task.job.clone(), worker.task.limit);
        match worker.ask(&job, Bytes::new(), limit)? {
            Some(ready) => Ok((worker, ready)),
            None => {
                let text = format!("the package was not loaded within {} s: try again", limit.as_secs());
                Err(Error::new(ErrorKind::Runtime, text))
            }
        }
    }

    /// The answer; `None` if none comes within the limit.
    fn ask(&mut self, question: &impl Serialize, bytes: Bytes, limit: Duration) -> Result<Option<Answer>> {
        let mut line = serde_json::to_vec(question)
            .map_err(|e| Error::new(ErrorKind::Io, "cannot be written as JSON").with_source(e))?;
        line.push(b'\n');
        let sent = self.questions.as_ref().is_some_and(|questions| questions.send((line, bytes)).is_ok());
        match self.answers.recv_timeout(limit) {
            Ok(Ok(answer)) if sent => Ok(Some(answer)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            _ => Err(self.end()),
        }
    }

    /// Ends it. Gives the reason if it has ended by itself.
    fn end(&mut self) -> Error {
        self.questions = None;
        // Fails only if it has ended.
        let _ = self.child.kill();
        let status = self.child.wait();
        let said = self.complaints.take().and_then(|said| said.join().ok()).unwrap_or_default();
        why(&said, status.ok().and_then(|status| status.code()))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

fn read_answer(output: &mut impl BufRead) -> std::io::Result<Answer> {
    let mut line = Vec::new();
    output.by_ref().take(MOST_LINE).read_until(b'\n', &mut line)?;
    let outcome: Outcome = serde_json::from_slice(&line)?;
    if outcome.bytes as u64 > MOST_ANSWER {
        return Err(std::io::Error::other("the answer is too long"));
    }
    let mut bytes = vec![0; outcome.bytes];
    output.read_exact(&mut bytes)?;
    Ok((outcome, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a program that does this instead of judging.
    fn told(script: &str, limit: Duration) -> String {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weakrest");
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        let program = Program { file, ..Program::default() };
        let task = Task { program, has_package: true, job: Value::Null, limit };
        let question = Question { bytes: 3, framed: false, overlay: false };
        match judged(&mut None, Some(task), question, Bytes::from_static(b"abc")) {
            Ok((outcome, bytes)) => format!("{} {}", outcome.code, String::from_utf8_lossy(&bytes)),
            Err(e) => e.chain(),
        }
    }

    #[test]
    fn a_process_that_fails_in_any_way_is_told() {
        let long = Duration::from_secs(60);
        const READY: &str = "read job; echo '{\"code\":200,\"bytes\":0}'; ";
        for (script, expected) in [
            ("read job; echo 'error: no room' >&2; exit 3", "no room"),
            ("exit 7", "weakrest ended with exit code 7"),
            ("kill -KILL $$", "maybe because memory ran out"),
            ("read job; echo nonsense; exec sleep 60", "maybe because memory ran out"),
            (
                "read job; echo '{\"code\":200,\"bytes\":99999999999}'; exec sleep 60",
                "maybe because memory ran out",
            ),
            ("read job; echo '{\"code\":409,\"bytes\":5}'; echo wrong; exec sleep 60", "409 wrong"),
            (&format!("{READY} read question; echo 'error: a bug' >&2; exit 101"), "a bug"),
            (
                &format!(
                    "{READY} read question; echo '{{\"code\":422,\"bytes\":4}}'; echo none; exec sleep 60"
                ),
                "422 none",
            ),
        ] {
            let found = told(script, long);
            assert!(found.contains(expected), "{script}: {found}");
        }
        // It hangs while it loads.
        let found = told("exec sleep 60", Duration::from_millis(50));
        assert!(found.contains("the package was not loaded within 0 s"), "{found}");
    }
}
