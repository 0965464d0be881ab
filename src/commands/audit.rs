//! `weakrest audit`: whether the audit log is as it was written.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::access::audit::chain::{Head, Walk, walk};
use crate::{Error, ErrorKind, Result};

use super::Outcome;

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check that every line proves the one before it, and name the first that does not
    Verify {
        /// The log's files, in any order: audit*.jsonl of the state folder, or an export
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

impl Arguments {
    pub fn run(self) -> Result<Outcome> {
        let Command::Verify { files } = self.command;
        let mut read = Vec::new();
        for path in files {
            let bytes = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
            read.push((path, walk(&bytes)));
        }
        read.sort_by_key(|(_, walked)| walked.begins.as_ref().map(|begins| begins.n));
        let mut last: Option<Head> = None;
        for (path, walked) in &read {
            verify(walked, last.as_ref()).map_err(|e| e.within(path.display()))?;
            for line in &walked.torn {
                say!("{}:{line}: torn by a power cut, as the next line says", path.display())?;
            }
            if !walked.rest.is_empty() {
                say!("{}: its last line is not whole; the service will tell of it", path.display())?;
            }
            last = Some(walked.head.clone());
        }
        let count: usize = read.iter().map(|(_, walked)| walked.count).sum();
        let first = read.first().and_then(|(_, walked)| walked.begins.as_ref()).filter(|begins| begins.n > 0);
        if let Some(begins) = first {
            say!("begins after line {} with hash {}", begins.n, begins.hash)?;
        }
        if let Some(last) = last {
            say!("{count} lines are as they were written; the last is {} with hash {}", last.n, last.hash)?;
        }
        Ok(Outcome::Pass)
    }
}

fn verify(walked: &Walk, before: Option<&Head>) -> Result<()> {
    let wrong = |text: String| Err(Error::new(ErrorKind::Io, text));
    if let Some(fault) = &walked.fault {
        return wrong(fault.to_string());
    }
    let Some(begins) = &walked.begins else {
        return wrong("line 1 is no line of an audit log".into());
    };
    if begins.n == 0 && *begins != Head::default() {
        return wrong("line 1 was changed: it follows another line than none".into());
    }
    match before {
        Some(before) if before != begins => {
            wrong(format!("line 1 does not follow line {} of the file before; a file is missing", before.n))
        }
        _ => Ok(()),
    }
}
