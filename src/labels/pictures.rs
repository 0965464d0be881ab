//! The pictures below a folder.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Kind, Listing};

/// End of the names of the service's overlays.
const OVERLAY: &str = ".overlay.jpg";

/// A picture file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Path below the folder, with `/` between its parts.
    pub name: String,
    /// Absolute path.
    pub path: PathBuf,
    /// The same with links followed.
    pub real: PathBuf,
}

/// The picture files below a folder, by name, and notes on files that were left out. Hidden files, masks and
/// the service's overlays are not listed. A file with several names through links is one picture.
///
/// `root` is absolute. Files and folders in `beside` are skipped.
///
/// # Errors
/// [`ErrorKind::Usage`] when there is no such folder; [`ErrorKind::Io`] when one cannot be listed.
pub fn find(root: &Path, beside: &HashSet<PathBuf>) -> Result<(Vec<Found>, Vec<String>)> {
    if !root.is_dir() {
        let text = format!("there is no folder {}", root.display());
        return Err(Error::new(ErrorKind::Usage, text));
    }
    let (mut all, mut rest) = (Vec::new(), Listing::default());
    let mut folders = vec![(root.to_path_buf(), String::new())];
    let (mut seen_folders, mut seen) = (HashSet::new(), HashSet::new());
    while let Some((folder, prefix)) = folders.pop() {
        if !seen_folders.insert(fs::canonicalize(&folder).unwrap_or_else(|_| folder.clone())) {
            continue;
        }
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // Removed after its parent was listed.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && folder != root => continue,
            Err(e) => return Err(Error::io("list", &folder, e)),
        };
        for entry in entries {
            let path = entry.map_err(|e| Error::io("list", &folder, e))?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
                log::warn!("{} is left out: its name is not valid Unicode", path.display());
                continue;
            };
            if name.starts_with('.') || beside.contains(&path) {
                continue;
            }
            let below = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            match Kind::of(&path) {
                Kind::Folder => folders.push((path, below)),
                Kind::Taken if !name.ends_with(OVERLAY) => {
                    // A broken link.
                    let Ok(real) = fs::canonicalize(&path) else { continue };
                    if !beside.contains(&real) {
                        all.push(Found { name: below, path, real });
                    }
                }
                Kind::Refused => rest.refused.push(path),
                Kind::Misnamed => rest.misnamed.push(path),
                Kind::Taken | Kind::Other => {}
            }
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all.retain(|found| seen.insert(found.real.clone()));
    rest.refused.sort();
    rest.misnamed.sort();
    Ok((all, rest.passed_over()))
}
