//! `weakrest judge`: judges the pictures that the service sends on standard input. People use `weakrest inspect`.

use std::io::{BufRead, Read, Write};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::camera::Framing;
use crate::config::InspectionSettings;
use crate::http::Refusal;
use crate::inspector::{Inspection, Inspector};
use crate::judge::{Inspected, Judged, Outcome as Told, Question};
use crate::output::web::picture::encoded;
use crate::{Error, ErrorKind, Frame, Result};

use super::{Outcome, RuntimeArguments, inspector};

/// Arguments of `judge`.
#[derive(Debug, Args)]
pub struct Judge {
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// The first line: what to judge with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub inspection: InspectionSettings,
    pub framing: Framing,
    /// The hash of the package in use, and the recipe's number.
    pub package: String,
    pub recipe: u16,
}

/// Longest side of an overlay in pixels.
const SIDE: u32 = 2048;
/// Status codes.
const DONE: u16 = 200;
const OTHER_PACKAGE: u16 = 409;
const NO_PICTURE: u16 = 422;
const FAILED: u16 = 500;

impl Judge {
    pub fn run(self) -> Result<Outcome> {
        let mut input = std::io::stdin().lock();
        let Some(job) = line::<Job>(&mut input)? else { return Ok(Outcome::Pass) };
        let mut inspector = match self.load(&job) {
            Ok(inspector) => inspector,
            Err(e) => {
                tell(
                    if e.kind() == ErrorKind::Usage { OTHER_PACKAGE } else { FAILED },
                    &refusal(e.chain()),
                    None,
                )?;
                return Ok(Outcome::Fault);
            }
        };
        tell(DONE, b"", None)?;
        while let Some(question) = line::<Question>(&mut input)? {
            let mut bytes = vec![0; question.bytes];
            input.read_exact(&mut bytes).map_err(|e| unreadable().with_source(e))?;
            match judged(&mut inspector, &job, &question, &bytes) {
                Ok((bytes, verdict)) => tell(DONE, &bytes, verdict)?,
                Err(e) => {
                    let code = if e.kind() == ErrorKind::Image { NO_PICTURE } else { FAILED };
                    tell(code, &refusal(e.chain()), None)?;
                }
            }
        }
        Ok(Outcome::Pass)
    }

    fn load(&self, job: &Job) -> Result<Inspector> {
        let options = self.runtime.options_over(job.inspection.options());
        let package = job.inspection.open_package()?;
        if package.hash != job.package {
            let text = "the package on the disk is not the one in use; reload the configuration first";
            return Err(Error::new(ErrorKind::Usage, text));
        }
        inspector(&job.inspection.package, package, &options)
    }
}

/// The bytes of the answer, with the verdict if they are a picture.
fn judged(
    inspector: &mut Inspector,
    job: &Job,
    question: &Question,
    bytes: &[u8],
) -> Result<(Vec<u8>, Option<String>)> {
    let raw = Frame::decode(bytes)?;
    let frame = if question.framed || job.framing.is_identity() {
        raw
    } else {
        let mut frame = Frame::default();
        job.framing.apply(&raw, &mut frame)?;
        frame
    };
    let inspection: Inspection = inspector.inspect(&frame)?;
    if question.overlay {
        let picture = encoded(&frame, Some(&inspection), SIDE)?;
        return Ok((picture.into(), Some(inspection.verdict.to_string())));
    }
    let told = Inspected {
        verdict: &inspection.verdict,
        judged: Judged::new(&inspection, inspector.provider()),
        product: inspector.product(),
        package: inspector.package(),
        recipe: job.recipe,
    };
    Ok((json(&told)?, None))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|e| Error::new(ErrorKind::Io, "cannot be written as JSON").with_source(e))
}

fn refusal(error: String) -> Vec<u8> {
    // A text can always be written.
    json(&Refusal { error }).unwrap_or_default()
}

/// The next line; `None` at the end.
fn line<T: for<'a> Deserialize<'a>>(input: &mut impl BufRead) -> Result<Option<T>> {
    let mut text = String::new();
    if input.read_line(&mut text).map_err(|e| unreadable().with_source(e))? == 0 {
        return Ok(None);
    }
    serde_json::from_str(&text).map(Some).map_err(|e| unreadable().with_source(e))
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Usage, "standard input is not from the service; use weakrest inspect")
}

fn tell(code: u16, bytes: &[u8], picture: Option<String>) -> Result<()> {
    let line = json(&Told { code, bytes: bytes.len(), picture })?;
    let mut out = std::io::stdout().lock();
    let written =
        out.write_all(&line).and_then(|()| out.write_all(b"\n")).and_then(|()| out.write_all(bytes));
    written.and_then(|()| out.flush()).map_err(|e| Error::new(ErrorKind::Io, "cannot answer").with_source(e))
}
