//! Which files of a folder are pictures.
//!
//! The list of endings, `endings.txt`, is the same for every command and in Python. For a name without an
//! ending the content decides. Pictures that are not read are reported; files that systems leave in folders
//! are not.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use image::ImageFormat;

use crate::error::{Error, ErrorKind, Result};

/// What an entry of a folder is, in the search for pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A picture in a format that is read.
    Taken,
    /// A picture in another format.
    Refused,
    /// A picture by its content, but not by its name.
    Misnamed,
    /// A folder.
    Folder,
    /// Anything else, hidden files, and files that systems leave.
    Other,
}

/// Whether a line of the list contains a name.
fn lists(line: &str, name: &str) -> bool {
    let lines = include_str!("endings.txt").lines().filter(|l| !l.starts_with('#'));
    let mut lines = lines.filter_map(|l| l.split_once(' ')).filter(|(key, _)| *key == line);
    lines.any(|(_, names)| names.split('/').any(|n| n == name))
}

impl Kind {
    /// The kind of a file or folder. A file is opened only if its ending says nothing.
    pub fn of(path: &Path) -> Kind {
        let Some(name) = path.file_name().map(|n| n.to_string_lossy().to_lowercase()) else {
            return Kind::Other;
        };
        if name.starts_with('.') || lists("leftover", &name) {
            return Kind::Other;
        }
        if path.is_dir() {
            return Kind::Folder;
        }
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        if lists("taken", ending) {
            return Kind::Taken;
        }
        if lists("refused", ending) {
            return Kind::Refused;
        }
        // Opening a pipe may wait forever.
        if lists("beside", ending) || !path.is_file() {
            return Kind::Other;
        }
        match content(path) {
            None => Kind::Other,
            Some(_) if !ending.is_empty() => Kind::Misnamed,
            Some(true) => Kind::Taken,
            Some(false) => Kind::Refused,
        }
    }
}

/// Whether a file's format is read, by its first bytes; `None` if it is no picture.
fn content(path: &Path) -> Option<bool> {
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(16).read_to_end(&mut head)).ok()?;
    match image::guess_format(&head).ok()? {
        ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Tiff => Some(true),
        // Two letters prove nothing. Four unused bytes follow the size.
        ImageFormat::Bmp if head.get(6..10) == Some(&[0; 4]) => Some(true),
        ImageFormat::Gif | ImageFormat::WebP | ImageFormat::Avif => Some(false),
        _ => None,
    }
}

/// The content of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Picture files in formats that are read, by name.
    pub taken: Vec<PathBuf>,
    /// Picture files in other formats, by name.
    pub refused: Vec<PathBuf>,
    /// Pictures by their content, not by their names.
    pub misnamed: Vec<PathBuf>,
    /// Folders, by name.
    pub folders: Vec<PathBuf>,
}

impl Listing {
    /// The entries directly in a folder.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be listed.
    pub fn of(folder: &Path) -> Result<Listing> {
        let unreadable = |e| Error::io("list", folder, e);
        let mut listing = Listing::default();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            match Kind::of(&path) {
                Kind::Taken => listing.taken.push(path),
                Kind::Refused => listing.refused.push(path),
                Kind::Misnamed => listing.misnamed.push(path),
                Kind::Folder => listing.folders.push(path),
                Kind::Other => {}
            }
        }
        for list in [&mut listing.taken, &mut listing.refused, &mut listing.misnamed, &mut listing.folders] {
            list.sort();
        }
        Ok(listing)
    }

    /// Notes on everything that is not taken, one sentence per reason.
    #[cfg(feature = "workshop")]
    pub fn passed_over(&self) -> Vec<String> {
        let refused = "save them as PNG, JPEG, BMP or TIFF";
        let mut notes = Vec::new();
        notes.extend(told(&self.refused, "in formats that are not read", refused));
        notes.extend(self.misnamed_or_deeper());
        notes
    }

    /// The same without pictures in other formats, for callers that refuse those by name.
    pub fn misnamed_or_deeper(&self) -> Vec<String> {
        let rename = "rename them to .png, .jpg, .bmp or .tif";
        let mut notes = Vec::new();
        notes.extend(told(&self.misnamed, "without a picture's file name ending", rename));
        notes.extend(deeper(&self.folders));
        notes
    }
}

/// The picture files directly in a folder, by name, and notes on those that are not taken. Pictures in
/// formats that are not read are among the files, so that the caller refuses them by name.
///
/// # Errors
/// [`ErrorKind::Usage`] when the folder does not exist or has no pictures.
pub fn list_pictures(folder: &Path) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let usage = |m: String| Error::new(ErrorKind::Usage, m);
    if !folder.is_dir() {
        return Err(usage(format!("there is no folder {}", folder.display())));
    }
    let listing = Listing::of(folder)?;
    let notes = listing.misnamed_or_deeper();
    let mut pictures = [listing.taken, listing.refused].concat();
    pictures.sort();
    if pictures.is_empty() {
        let good = ["train/good", "good", "train"].iter().map(|p| folder.join(p)).find(|p| p.is_dir());
        let mut text = format!("there are no pictures in {}", folder.display());
        if let Some(good) = good {
            text.push_str(&format!("; did you mean {}?", good.display()));
        }
        notes.iter().for_each(|note| text.push_str(&format!("\n  {note}")));
        return Err(usage(text));
    }
    Ok((pictures, notes))
}

/// As [`list_pictures`], without the notes.
///
/// # Errors
/// As [`list_pictures`].
pub fn find_pictures(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(list_pictures(folder)?.0)
}

/// A message names this many files or folders, and counts the rest.
const NAMED: usize = 5;

/// The first paths for a message.
pub fn named(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths.iter().take(NAMED).map(|p| p.display().to_string()).collect();
    let more = if paths.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}

fn told(pictures: &[PathBuf], what: &str, advice: &str) -> Option<String> {
    let count = match pictures.len() {
        0 => return None,
        1 => "1 picture".to_owned(),
        n => format!("{n} pictures"),
    };
    Some(format!("not taken: {count} {what} ({}): {advice}", named(pictures)))
}

/// Notes on folders with pictures.
fn deeper(folders: &[PathBuf]) -> Vec<String> {
    let full: Vec<(&PathBuf, String)> = folders
        .iter()
        .filter_map(|folder| {
            let count = match count_below(folder) {
                (0, _) => return None,
                (1, true) => "1 picture".to_owned(),
                (n, true) => format!("{n} pictures"),
                (n, false) => format!("at least {n} pictures"),
            };
            Some((folder, count))
        })
        .collect();
    let mut notes: Vec<String> = full
        .iter()
        .take(NAMED)
        .map(|(folder, count)| format!("not taken: the folder {} with {count}", folder.display()))
        .collect();
    if full.len() > NAMED {
        notes.push(format!("not taken: {} more folders with pictures", full.len() - NAMED));
    }
    notes
}

/// The number of pictures in a folder and its subfolders, and whether that is all of them. Links to parent
/// folders are not followed.
fn count_below(folder: &Path) -> (usize, bool) {
    const MOST_ENTRIES: usize = 20_000;
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let above = real(folder.parent().unwrap_or(folder));
    let (mut count, mut entries) = (0, 0);
    let (mut seen, mut left) = (HashSet::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = left.pop() {
        let own = real(&folder);
        if above.starts_with(&own) || !seen.insert(own) {
            continue;
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            entries += 1;
            if entries > MOST_ENTRIES {
                return (count, false);
            }
            match Kind::of(&entry.path()) {
                Kind::Folder => left.push(entry.path()),
                Kind::Other => {}
                _ => count += 1,
            }
        }
    }
    (count, true)
}
