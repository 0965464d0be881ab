//! Training a head from the labels: `weakrest train` in a process of its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Settings;
use super::refusal::Refusal;
use crate::error::{Error, ErrorKind};
use crate::files;
use crate::inspector::Options;
use crate::program::{Program, Stop};

/// A training, for the page.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Training {
    running: bool,
    /// What it does, and how much of it is done.
    step: String,
    done: u64,
    of: u64,
    error: Option<String>,
    /// What `weakrest train` said at its end: how the head compares.
    result: Option<Value>,
    /// The package with the head, if it is better.
    #[schema(value_type = Option<String>)]
    package: Option<PathBuf>,
}

/// Trains heads, one at a time. Dropping it ends the training.
pub struct Trainer {
    program: Program,
    package: PathBuf,
    good: Option<PathBuf>,
    labels: PathBuf,
    job: Mutex<Option<(Stop, Arc<Mutex<Training>>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Trainer {
    pub fn new(settings: &Settings, options: &Options) -> Trainer {
        let program = Program {
            // The file can have been replaced by an update; the kernel still has this one.
            file: "/proc/self/exe".into(),
            onnxruntime: options.onnxruntime.clone(),
            providers: options.execution.providers.clone(),
            no_graphs: !options.execution.graphs,
        };
        Trainer {
            program,
            package: settings.package.clone(),
            good: settings.good.clone(),
            labels: settings.labels.clone(),
            job: Mutex::new(None),
        }
    }

    /// The training that runs or ended last.
    pub fn training(&self) -> Option<Training> {
        lock(&self.job).as_ref().map(|(_, training)| lock(training).clone())
    }

    /// Starts a training, of so many steps or as many as are usual.
    ///
    /// # Errors
    /// [`Refusal::Wrong`] without a folder of good pictures, and while another one runs.
    pub fn start(&self, steps: Option<u32>) -> Result<(), Refusal> {
        let wrong = |text: &str| Err(Refusal::Wrong(text.into()));
        let Some(good) = &self.good else {
            return wrong("training needs the enrolled pictures: start the labeler with --good DIR");
        };
        let mut job = lock(&self.job);
        if job.as_ref().is_some_and(|(_, training)| lock(training).running) {
            return wrong("a head is being trained already: wait for its end, or stop it");
        }
        let output = self.free_output();
        let value = |name: &str, path: &std::path::Path| format!("--{name}={}", path.display());
        let mut arguments = vec!["train".to_owned(), "--progress".into(), value("images", good)];
        arguments.extend([value("labels", &self.labels), value("output", &output)]);
        arguments.extend(steps.map(|steps| format!("--steps={steps}")));
        let training = Arc::new(Mutex::new(Training { running: true, ..Training::default() }));
        let stop = Stop::default();
        let (program, package) = (self.program.clone(), self.package.clone());
        let (ends, shared) = (stop.clone(), Arc::clone(&training));
        let work = move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let end = program.run(&arguments, &[&package], &ends, |line| {
                let mut training = lock(&shared);
                match line["step"].as_str() {
                    Some(step) => {
                        training.step = step.to_owned();
                        training.done = line["done"].as_u64().unwrap_or(0);
                        training.of = line["of"].as_u64().unwrap_or(0);
                    }
                    None => training.result = Some(line),
                }
            });
            let mut training = lock(&shared);
            training.running = false;
            training.error = end.err().map(|e| e.chain());
            let written = training.result.as_ref().is_some_and(|result| result["written"] == true);
            training.package = (written && training.error.is_none()).then_some(output);
        };
        let thread = std::thread::Builder::new().name("label-train".into()).spawn(work);
        thread.map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))?;
        *job = Some((stop, training));
        Ok(())
    }

    /// Ends the training.
    pub fn stop(&self) {
        if let Some((stop, _)) = &*lock(&self.job) {
            stop.stop();
        }
    }

    /// A name beside the package that nothing has yet: what is there may be in use.
    fn free_output(&self) -> PathBuf {
        let stem = self.package.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = files::parent(&self.package);
        let names = (1..).map(|n| match n {
            1 => folder.join(format!("{stem}-head.weakrest")),
            n => folder.join(format!("{stem}-head-{n}.weakrest")),
        });
        let mut free = names.filter(|path| path.symlink_metadata().is_err());
        free.next().unwrap_or_else(|| self.package.clone())
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        self.stop();
    }
}
