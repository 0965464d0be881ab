//! The kept parts as a list, newest first, and their files by name.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{SUFFIXES, is_number, run_and_part, stem, stem_of, with};
use crate::error::{Error, ErrorKind, Result};

/// No picture of a part is larger.
const MOST_BYTES: u64 = 256 << 20;

/// A kept part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The name of its files without their endings.
    pub name: String,
    pub run: String,
    pub part: u64,
    pub verdict: String,
    /// Whether the original and the overlay are there.
    pub picture: bool,
    pub overlay: bool,
}

/// A piece of the list.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub parts: Vec<Kept>,
    /// Where the next piece begins, if there may be more.
    pub next: Option<String>,
}

/// Which parts to list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// The day, as in the folder's name: `YYYYMMDD`, UTC. `None`: all.
    pub day: Option<String>,
    pub verdict: Option<String>,
    pub part: Option<u64>,
    /// Only parts after this one in the list.
    pub after: Option<String>,
}

/// Lists at most `count` parts that `fits` accepts. Asks it about at most `most` parts.
///
/// # Errors
/// [`ErrorKind::Io`] if the folder cannot be read.
pub(crate) fn list(
    folder: &Path,
    wanted: &Wanted,
    count: usize,
    most: usize,
    mut fits: impl FnMut(&Kept) -> bool,
) -> Result<Page> {
    let mut page = Page::default();
    let mut days: Vec<String> = fs::read_dir(folder)
        .map_err(|e| Error::io("read", folder, e))?
        .filter_map(|day| {
            let day = day.ok().filter(|day| day.file_type().is_ok_and(|t| t.is_dir()))?;
            day.file_name().into_string().ok()
        })
        .filter(|name| name.len() == 8 && is_number(name))
        .filter(|name| wanted.day.as_ref().is_none_or(|day| day == name))
        .filter(|name| wanted.after.as_ref().is_none_or(|after| after.as_str() >= name.as_str()))
        .collect();
    days.sort_unstable_by(|a, b| b.cmp(a));
    let mut asked = 0;
    for day in days {
        for part in of_day(&folder.join(&day)) {
            let fitting = wanted.after.as_ref().is_none_or(|after| part.name < *after)
                && wanted.verdict.as_ref().is_none_or(|verdict| *verdict == part.verdict)
                && wanted.part.is_none_or(|number| number == part.part);
            if !fitting {
                continue;
            }
            if page.parts.len() >= count || asked >= most {
                return Ok(page);
            }
            asked += 1;
            page.next = Some(part.name.clone());
            if fits(&part) {
                page.parts.push(part);
            }
        }
    }
    page.next = None;
    Ok(page)
}

/// The complete parts of a day, newest first. A folder that is being removed is empty.
fn of_day(folder: &Path) -> Vec<Kept> {
    let mut stems: BTreeMap<String, [bool; 3]> = BTreeMap::new();
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = file.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(stem) = stem_of(name).filter(|stem| is_safe(stem)) {
            let suffix = SUFFIXES
                .iter()
                .position(|suffix| name.len() == stem.len() + suffix.len() && name.ends_with(suffix));
            if let Some(suffix) = suffix {
                stems.entry(stem.to_owned()).or_default()[suffix] = true;
            }
        }
    }
    let kept = |(name, [picture, overlay, json]): (String, [bool; 3])| {
        let (run, part) = run_and_part(&name)?;
        let (run, verdict) = (run.to_owned(), name.rsplit('-').next()?.to_owned());
        json.then_some(Kept { run, part, verdict, picture, overlay, name })
    };
    stems.into_iter().rev().filter_map(kept).collect()
}

/// Whether a stem, which has the right form, is a plain file name.
fn is_safe(stem: &str) -> bool {
    stem.len() <= 128 && stem.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

/// Reads a file of a kept part by its name. Returns its bytes and media type.
///
/// # Errors
/// [`ErrorKind::Usage`] for another name; [`ErrorKind::Io`] if it is not kept, or cannot be read.
pub(crate) fn read(folder: &Path, name: &str) -> Result<(Vec<u8>, &'static str)> {
    let kinds = ["image/png", "image/jpeg", "application/json"];
    let found = stem_of(name).filter(|stem| is_safe(stem)).and_then(|stem| {
        let kind =
            SUFFIXES.iter().zip(kinds).find(|(suffix, _)| name.strip_suffix(**suffix) == Some(stem))?;
        Some((folder.join(&stem[..8]), kind.1))
    });
    let Some((day, kind)) = found else {
        return Err(Error::new(ErrorKind::Usage, "this is no name of a kept picture"));
    };
    // Neither a link nor a pipe: only what this program wrote.
    if !fs::symlink_metadata(&day).is_ok_and(|m| m.is_dir()) {
        return Err(gone(name));
    }
    Ok((read_plain(&day.join(name)).map_err(|e| e.unwrap_or_else(|| gone(name)))?, kind))
}

/// The bytes of a plain file. `Err(None)` if there is none.
fn read_plain(file: &Path) -> std::result::Result<Vec<u8>, Option<Error>> {
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let open = options.open(file).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => None,
        _ => Some(Error::io("read", file, e)),
    })?;
    if !open.metadata().is_ok_and(|m| m.is_file() && m.len() <= MOST_BYTES) {
        return Err(None);
    }
    let mut bytes = Vec::new();
    open.take(MOST_BYTES).read_to_end(&mut bytes).map_err(|e| Some(Error::io("read", file, e)))?;
    Ok(bytes)
}

fn gone(name: &str) -> Error {
    Error::new(ErrorKind::Io, format!("{name} is not kept any more"))
}

/// The overlay of a reject, if it is kept.
pub(crate) fn overlay(folder: &Path, run: &str, part: u64, triggered: SystemTime) -> Option<PathBuf> {
    let file = with(&stem(folder, run, part, triggered, "reject"), SUFFIXES[1]);
    let name = file.file_name()?.to_str()?;
    let ours = stem_of(name).is_some_and(is_safe);
    (ours && fs::symlink_metadata(&file).is_ok_and(|m| m.is_file())).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = [
        "20260304-050607.089-0123456789abcdef-000001-pass",
        "20260304-050608.089-0123456789abcdef-000002-reject",
        "20260305-050608.089-0123456789abcdef-000003-reject",
        "20260305-060608.089-fedcba9876543210-000001-fault",
    ];

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in NAMES {
            let day = folder.path().join(&name[..8]);
            fs::create_dir_all(&day).unwrap();
            for suffix in SUFFIXES {
                if !(name.ends_with("fault") && suffix != ".json") {
                    fs::write(day.join(format!("{name}{suffix}")), suffix).unwrap();
                }
            }
        }
        folder
    }

    #[test]
    fn parts_are_listed_from_the_newest_in_pieces() {
        let folder = folder();
        let day = folder.path().join("20260305");
        fs::write(day.join("20260305-070000.000-0123456789abcdef-000009-pass.png"), "unfinished").unwrap();
        fs::write(day.join("notes.txt"), "").unwrap();
        let names = |page: &Page| page.parts.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
        let all = list(folder.path(), &Wanted::default(), 10, 10, |_| true).unwrap();
        assert_eq!(names(&all), [NAMES[3], NAMES[2], NAMES[1], NAMES[0]]);
        assert_eq!(all.next, None);
        assert!(!all.parts[0].picture && all.parts[1].picture && all.parts[1].overlay);
        let rejects = Wanted { verdict: Some("reject".into()), ..Wanted::default() };
        let first = list(folder.path(), &rejects, 1, 10, |_| true).unwrap();
        assert_eq!((names(&first), first.next.as_deref()), (vec![NAMES[2].into()], Some(NAMES[2])));
        let second = list(folder.path(), &Wanted { after: first.next, ..rejects }, 1, 10, |_| true).unwrap();
        assert_eq!((names(&second), second.next), (vec![NAMES[1].into()], None));
        // Nothing fits, and not everything is looked at.
        let none = list(folder.path(), &Wanted::default(), 5, 2, |_| false).unwrap();
        assert_eq!((none.parts.len(), none.next.as_deref()), (0, Some(NAMES[2])));
        let day = Wanted { day: Some("20260304".into()), part: Some(2), ..Wanted::default() };
        assert_eq!(names(&list(folder.path(), &day, 5, 9, |_| true).unwrap()), [NAMES[1]]);
        assert!(list(&folder.path().join("none"), &Wanted::default(), 5, 9, |_| true).is_err());
    }

    #[test]
    fn only_files_of_kept_parts_are_read() {
        let folder = folder();
        assert_eq!(
            read(folder.path(), &format!("{}.png", NAMES[0])).unwrap(),
            (b".png".to_vec(), "image/png")
        );
        let gone = read(folder.path(), &format!("{}.png", NAMES[3])).unwrap_err();
        assert_eq!((gone.kind(), gone.reason().contains("is not kept any more")), (ErrorKind::Io, true));
        for name in [
            "runs.txt",
            "../secret.png",
            "20260304-050607.089-../../../x-000001-pass.png",
            "20260304-050607.089-..-000001-pass.png/../../x.png",
            "20260304-050607.089-0123456789abcdef-000001-pass",
            "20260304-050607.089-0123456789abcdef-000001-pass.txt",
        ] {
            assert_eq!(read(folder.path(), name).unwrap_err().kind(), ErrorKind::Usage, "{name}");
        }
        // Links lead elsewhere.
        let secret = folder.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let name = "20260304-090000.000-0123456789abcdef-000007-pass.png";
        std::os::unix::fs::symlink(&secret, folder.path().join("20260304").join(name)).unwrap();
        assert!(read(folder.path(), name).is_err());
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let name = "20260306-090000.000-0123456789abcdef-000007-pass.png";
        fs::write(elsewhere.join(name), "secret").unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.path().join("20260306")).unwrap();
        assert!(read(folder.path(), name).is_err());
    }
}
