//! The files of the audit log.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::chain::{DAMAGE, Entry, Head, TORN, parse, torn_note, walk};
use super::entry_of;
use crate::access::Who;
use crate::error::{Error, Result};
use crate::files::sha256;

/// The file that is written.
const FILE: &str = "audit.jsonl";
/// Full files: `audit-FIRST.jsonl`.
const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// Sizes of the log: by default 8 files of 2 MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// A file of this size, in bytes, is full.
    pub file: u64,
    /// Number of full files that are kept.
    pub files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { file: 2 << 20, files: 7 }
    }
}

/// The open log.
pub(super) struct Log {
    folder: PathBuf,
    limits: Limits,
    file: Option<File>,
    length: u64,
    /// The number of the file's first line.
    first: u64,
    head: Head,
}

impl Log {
    /// Opens the log and finds its end. Tells in the log itself what a power cut tore, or somebody changed.
    /// Returns what is wrong with its lines, too.
    pub fn open(folder: &Path, limits: Limits) -> Result<(Log, Option<String>)> {
        let path = folder.join(FILE);
        fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        let mut log =
            Log { folder: folder.into(), limits, file: None, length: 0, first: 1, head: Head::default() };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                // A full file has been renamed, and the service ended before the next line.
                if let Some((_, full)) = full_files(folder)?.last() {
                    let bytes = fs::read(full).map_err(|e| Error::io("read", full, e))?;
                    log.head = walk(&bytes).head;
                    log.first = log.head.n + 1;
                }
                return Ok((log, None));
            }
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        let walked = walk(&bytes);
        let file = OpenOptions::new().append(true).open(&path).map_err(|e| Error::io("write", &path, e))?;
        log.length = bytes.len() as u64;
        log.file = Some(file);
        log.first = walked.begins.as_ref().map_or(1, |begins| begins.n + 1);
        log.head = walked.head;
        if walked.count == 0 && !bytes.is_empty() {
            // Nothing proves itself: go on from all that is there.
            log.head = Head { n: log.head.n, hash: sha256(&bytes) };
        }
        if !walked.rest.is_empty() {
            log.write(b"\n")?;
            let note = match parse(&walked.rest) {
                // Only its line break was missing.
                Some((last, hash)) if last.n == log.head.n + 1 && last.previous == log.head.hash => {
                    log.head = Head { n: last.n, hash };
                    entry_of(&Who::service(), "last line completed", json!({"n": last.n}), Value::Null)
                }
                _ => entry_of(&Who::service(), TORN, torn_note(&walked.rest), Value::Null),
            };
            log.append(note)?;
            log::warn!("audit log: its last line was torn by a power cut; that change was not confirmed");
        }
        let damage = walked.fault.map(|fault| format!("{}: {fault}", path.display()));
        if let (Some(damage), false) = (&damage, walked.is_told) {
            log.append(entry_of(&Who::service(), DAMAGE, json!(damage), Value::Null))?;
        }
        Ok((log, damage))
    }

    /// Appends a line. It is on disk on success.
    pub fn append(&mut self, entry: Entry) -> Result<u64> {
        if self.length >= self.limits.file {
            self.turn()?;
        }
        let (line, head) = self.head.next(entry);
        self.write(line.as_bytes())?;
        self.head = head;
        Ok(self.head.n)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(FILE);
        let doing = |e: std::io::Error| Error::io("write", &path, e);
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let new =
                    OpenOptions::new().create(true).append(true).mode(0o640).open(&path).map_err(doing)?;
                // The new name is on disk only after its folder is.
                File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(doing)?;
                none.insert(new)
            }
        };
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        if let Err(e) = written {
            // A part of a line would look like the trace of a power cut.
            let _ = file.set_len(self.length).and_then(|()| file.sync_data());
            return Err(doing(e));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Puts the full file aside and begins the next.
    fn turn(&mut self) -> Result<()> {
        let (path, full) = (self.folder.join(FILE), self.folder.join(full_name(self.first)));
        fs::rename(&path, &full).map_err(|e| Error::io("rename", &path, e))?;
        (self.file, self.length, self.first) = (None, 0, self.head.n + 1);
        let full = full_files(&self.folder)?;
        let surplus = full.len().saturating_sub(self.limits.files);
        for (_, oldest) in &full[..surplus] {
            // Its end stays known, so that a copy of it can be proved.
            let last =
                fs::read(oldest).map(|bytes| walk(&bytes).head).map_err(|e| Error::io("read", oldest, e))?;
            let name = oldest.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let what = json!({"file": name, "last": last.n, "hash": last.hash});
            let (line, head) =
                self.head.next(entry_of(&Who::service(), "oldest file removed", what, Value::Null));
            self.write(line.as_bytes())?;
            self.head = head;
            fs::remove_file(oldest).map_err(|e| Error::io("remove", oldest, e))?;
        }
        Ok(())
    }
}

fn full_name(first: u64) -> String {
    format!("{PREFIX}{first:012}{SUFFIX}")
}

/// Full files with the numbers of their first lines, the oldest first.
fn full_files(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", folder, e)),
    };
    let first = |path: &Path| -> Option<u64> {
        path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut all: Vec<_> = paths.filter_map(|path| Some((first(&path)?, path))).collect();
    all.sort();
    Ok(all)
}

/// Lines after a number, from all files.
pub(super) fn lines(folder: &Path, after: u64, most: usize) -> Result<Vec<String>> {
    let mut files = full_files(folder)?;
    files.push((u64::MAX, folder.join(FILE)));
    // A file whose successor begins at or before the next line has nothing to give.
    let begin = files.iter().rposition(|(first, _)| *first <= after.saturating_add(1)).unwrap_or(0);
    let mut found = Vec::new();
    for (_, path) in &files[begin..] {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            // The file was just put aside or removed, or there is none yet.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("read", path, e)),
        };
        for line in bytes.split(|b| *b == b'\n') {
            if found.len() >= most {
                return Ok(found);
            }
            if let Some((entry, _)) = parse(line)
                && entry.n > after
            {
                found.push(String::from_utf8_lossy(line).into_owned());
            }
        }
    }
    Ok(found)
}
