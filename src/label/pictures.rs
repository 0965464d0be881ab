//! The pictures of a folder.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// Endings of files that the program reads.
const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff"];
/// What the service writes beside the pictures that it keeps.
const OVERLAY: &str = ".overlay.jpg";

/// A picture file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Path below the folder, with `/` between its parts.
    pub name: String,
    /// Absolute path, through the folder.
    pub path: PathBuf,
    /// The same with links followed.
    pub real: PathBuf,
}

/// The picture files below a folder, by name; hidden ones, masks and the service's overlays are left out. A file that is there
/// twice through links is one picture.
///
/// `root` is absolute; what lies in a folder of `beside`, or is one of its files, is no picture to label.
///
/// # Errors
/// [`ErrorKind::Usage`] when there is no such folder; [`ErrorKind::Io`] when one cannot be listed.
pub fn find(root: &Path, beside: &HashSet<PathBuf>) -> Result<Vec<Found>> {
    if !root.is_dir() {
        let text = format!("there is no folder {}", root.display());
        return Err(Error::new(ErrorKind::Usage, text));
    }
    let mut all = Vec::new();
    let mut folders = vec![(root.to_path_buf(), String::new())];
    let (mut seen_folders, mut seen) = (HashSet::new(), HashSet::new());
    while let Some((folder, prefix)) = folders.pop() {
        if !seen_folders.insert(fs::canonicalize(&folder).unwrap_or_else(|_| folder.clone())) {
            continue;
        }
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // Removed since it was listed.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && folder != root => continue,
            Err(e) => return Err(Error::io("list", &folder, e)),
        };
        for entry in entries {
            let path = entry.map_err(|e| Error::io("list", &folder, e))?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
                log::warn!("{} is left out: a label file cannot hold its name", path.display());
                continue;
            };
            if name.starts_with('.') || beside.contains(&path) {
                continue;
            }
            let below = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
            if path.is_dir() {
                folders.push((path, below));
            } else if ending.is_some_and(|e| ENDINGS.contains(&e.as_str())) && !name.ends_with(OVERLAY) {
                // A link to nothing is no picture.
                let Ok(real) = fs::canonicalize(&path) else { continue };
                if !beside.contains(&real) {
                    all.push(Found { name: below, path, real });
                }
            }
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all.retain(|found| seen.insert(found.real.clone()));
    Ok(all)
}
