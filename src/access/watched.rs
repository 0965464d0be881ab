//! Files that are read again when they change. What was read last stays in use while they are broken.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::Result;

/// What `stat` says of a file. `None` if there is none.
type Stamp = Option<[i64; 8]>;

type Reader<T> = Box<dyn Fn() -> Result<T> + Send + Sync>;

/// Content of files, and the files that it is from.
pub(crate) struct Watched<T> {
    files: Vec<PathBuf>,
    read: Reader<T>,
    known: Mutex<Known<T>>,
}

struct Known<T> {
    content: Arc<T>,
    /// The files when they were last read, and when they were last looked at.
    read: Vec<Stamp>,
    seen: Vec<Stamp>,
    problem: Option<String>,
}

impl<T> Watched<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn open(files: Vec<PathBuf>, read: impl Fn() -> Result<T> + Send + Sync + 'static) -> Result<Self> {
        // A change while they are read is a change after it.
        let stamps = stamps(&files);
        let content = Arc::new(read()?);
        let known = Known { content, read: stamps.clone(), seen: stamps, problem: None };
        Ok(Watched { files, read: Box::new(read), known: Mutex::new(known) })
    }

    /// The files.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The last content that could be read.
    pub fn content(&self) -> Arc<T> {
        Arc::clone(&self.lock().content)
    }

    /// Why the files as they are now cannot be used.
    pub fn problem(&self) -> Option<String> {
        self.lock().problem.clone()
    }

    /// Looks at the files, about once a second, and reads changed ones again. Returns the contents before and
    /// after a change.
    pub fn look(&self) -> Option<(Arc<T>, Arc<T>)> {
        let stamps = stamps(&self.files);
        {
            let mut known = self.lock();
            // Whoever writes may not be done: wait until nothing changes from one look to the next.
            let is_settled = std::mem::replace(&mut known.seen, stamps.clone()) == stamps;
            if known.read == stamps || !is_settled {
                return None;
            }
        }
        // Not locked: a disk may hang.
        let content = (self.read)();
        let mut known = self.lock();
        known.read = stamps;
        match content {
            Ok(content) => {
                known.problem = None;
                let new = Arc::new(content);
                let old = std::mem::replace(&mut known.content, Arc::clone(&new));
                Some((old, new))
            }
            Err(e) => {
                known.problem = Some(e.chain());
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known<T>> {
        self.known.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let of = std::fs::metadata(file).ok()?;
        let number = |n: u64| n.cast_signed();
        Some([
            number(of.dev()),
            number(of.ino()),
            number(of.size()),
            i64::from(of.mode()),
            of.mtime(),
            of.mtime_nsec(),
            of.ctime(),
            of.ctime_nsec(),
        ])
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    #[test]
    fn a_change_is_read_once_it_is_whole_and_a_broken_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        let read = {
            let path = path.clone();
            move || {
                let text = files::read_text(&path)?;
                text.parse::<u32>().map_err(|e| crate::Error::new(crate::ErrorKind::Usage, e.to_string()))
            }
        };
        std::fs::write(&path, "1").unwrap();
        let watched = Watched::open(vec![path.clone()], read).unwrap();
        assert!(watched.look().is_none());
        std::fs::write(&path, "22").unwrap();
        assert!(watched.look().is_none(), "somebody may still be writing");
        std::fs::write(&path, "223").unwrap();
        assert!(watched.look().is_none());
        assert_eq!(watched.look().map(|(old, new)| (*old, *new)), Some((1, 223)));
        assert!(watched.look().is_none());
        for broken in [Some("x"), None] {
            match broken {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            assert!(watched.look().is_none() && watched.look().is_none());
            assert!(watched.problem().is_some());
            assert_eq!(*watched.content(), 223);
        }
        std::fs::write(&path, "223").unwrap();
        assert!(watched.look().is_none() && watched.look().is_some());
        assert_eq!(watched.problem(), None);
    }
}
