//! What teaching keeps on disk.
//!
//! Each product has a folder. A picture is in it or not: there is no list that could disagree.
//!
//! | file | what |
//! |---|---|
//! | `product.json` | name and settings |
//! | `good/`, `bad/` | pictures of good parts, and of known defects; a picture in both counts as bad |
//! | `events.jsonl` | who did what, when: a line is on disk before the page says so |
//! | `candidate.weakrest/`, `candidate.json` | the latest enrolled package, and what was measured |
//! | `active.json` | the same of the package that was activated last |

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind, Result};
use crate::files::{TEMPORARY, parent, sha256, write_file};
use crate::imaging::{Color, Frame, Polygon};
use crate::output::pictures::{Room, png_of};
use crate::record::part::civil;
use crate::settings::range;

/// Limits of teaching: `[teach]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether the web page can teach. Default: true.
    pub enabled: bool,
    /// Size limit of all collected pictures and packages, in MiB, at least 16. Default 4096.
    pub max_megabytes: u64,
    /// Free space to leave on the disk, in MiB. 0: none. Default 1024.
    pub min_free_megabytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { enabled: true, max_megabytes: 4096, min_free_megabytes: 1024 }
    }
}

impl Settings {
    /// Checks the values.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        range("teach.max_megabytes", self.max_megabytes, 16..=1 << 40)?;
        range("teach.min_free_megabytes", self.min_free_megabytes, 0..=1 << 40)
    }
}

/// What a person said of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The part is good.
    Good,
    /// The part is bad.
    Bad,
}

impl Answer {
    /// The folder of its pictures, and its word for people.
    pub fn name(self) -> &'static str {
        match self {
            Answer::Good => "good",
            Answer::Bad => "bad",
        }
    }

    fn other(self) -> Answer {
        match self {
            Answer::Good => Answer::Bad,
            Answer::Bad => Answer::Good,
        }
    }
}

/// A product's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Product {
    /// Its name, as in the package.
    pub name: String,
    /// The level of quality: `fast`, `standard` or `best`.
    pub quality: String,
    /// Accepted share of false rejects, in percent.
    pub false_reject_percent: f64,
    /// Areas that are never inspected: corners in shares of the picture's width and height, 0 to 1.
    #[serde(default)]
    #[schema(value_type = Vec<Vec<[f64; 2]>>)]
    pub ignore: Vec<Polygon>,
}

impl Product {
    fn new(name: &str) -> Product {
        Product {
            name: name.to_owned(),
            quality: "standard".into(),
            false_reject_percent: 1.0,
            ignore: Vec::new(),
        }
    }
}

/// Something that happened to a product.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// When (UTC).
    pub at: String,
    /// Who asked for it.
    pub who: String,
    /// What happened.
    pub what: String,
}

/// The folder of all products.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    settings: Settings,
}

/// Most pictures of good parts, and of defects, of one product.
const MOST_PICTURES: usize = 2_000;
/// Longest name of a product, in bytes.
const LONGEST_NAME: usize = 80;

impl Store {
    pub fn new(folder: PathBuf, settings: Settings) -> Store {
        Store { folder, settings }
    }

    /// The products' names, in their order.
    pub fn products(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| Error::io("read", &self.folder, e))?,
        };
        let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let product = |folder: PathBuf| read::<Product>(&folder.join(PRODUCT)).ok().flatten();
        let mut names: Vec<String> = folders.filter_map(product).map(|product| product.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The folder of a product.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a name that cannot be one.
    pub fn product(&self, name: &str) -> Result<ProductFolder> {
        let name = name.trim();
        if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            let text = format!("a product's name has 1 to {LONGEST_NAME} characters, in one line");
            return Err(Error::new(ErrorKind::Usage, text));
        }
        let plain: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        let short: String = plain.chars().take(40).collect();
        let folder = self.folder.join(format!("{short}-{}", &sha256(name.as_bytes())[..8]));
        Ok(ProductFolder { folder, name: name.to_owned(), store: self.clone() })
    }

    /// Checks that there is room for `bytes` more.
    fn check_room(&self, bytes: u64) -> Result<()> {
        let full = |why: String| Err(Error::new(ErrorKind::StorageFull, why).within(self.folder.display()));
        if size_of(&self.folder).saturating_add(bytes) > self.settings.max_megabytes << 20 {
            return full(format!(
                "teaching already uses the {} MiB of teach.max_megabytes; remove pictures or products",
                self.settings.max_megabytes
            ));
        }
        if Room::of(&self.folder)?.free < (self.settings.min_free_megabytes << 20).saturating_add(bytes) {
            return full(format!(
                "less than the {} MiB of teach.min_free_megabytes would be free on the disk; free some space",
                self.settings.min_free_megabytes
            ));
        }
        Ok(())
    }
}

const PRODUCT: &str = "product.json";
const EVENTS: &str = "events.jsonl";
/// The latest enrolled package.
pub const CANDIDATE: &str = "candidate.weakrest";

/// The folder of one product.
#[derive(Debug, Clone)]
pub struct ProductFolder {
    folder: PathBuf,
    name: String,
    store: Store,
}

impl ProductFolder {
    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The settings. `None` if there is no such product.
    pub fn settings(&self) -> Result<Option<Product>> {
        read(&self.file(PRODUCT))
    }

    /// The settings of a product that exists.
    pub fn known(&self) -> Result<Product> {
        let missing = || Error::new(ErrorKind::Usage, format!("there is no product {:?}", self.name));
        self.settings()?.ok_or_else(missing)
    }

    /// Creates the product, unless it exists.
    pub fn create(&self, who: &str) -> Result<Product> {
        if let Some(product) = self.settings()? {
            return Ok(product);
        }
        let create = |folder: &Path| fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e));
        create(&self.folder)?;
        self.store.check_room(0)?;
        for answer in [Answer::Good, Answer::Bad] {
            create(&self.file(answer.name()))?;
        }
        let product = Product::new(&self.name);
        self.note(who, "product created")?;
        self.write(PRODUCT, &product)?;
        Ok(product)
    }

    /// Changes the settings.
    pub fn change(&self, product: &Product) -> Result<()> {
        self.write(PRODUCT, product)
    }

    /// Reads one of the product's JSON files. `None` if it does not exist.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        read(&self.file(name))
    }

    /// Writes one of the product's JSON files, whole or not at all.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let path = self.file(name);
        let text = serde_json::to_vec_pretty(value)
            .map_err(|e| Error::new(ErrorKind::Io, "cannot be written as JSON").with_source(e))?;
        write_file(&path, &text)
    }

    /// Names of the pictures, in their order.
    pub fn pictures(&self, answer: Answer) -> Result<Vec<String>> {
        let mut names = names(&self.file(answer.name()))?;
        if answer == Answer::Good {
            let bad = self::names(&self.file(Answer::Bad.name()))?;
            names.retain(|name| !bad.contains(name));
        }
        Ok(names)
    }

    /// Path of a picture.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if there is none with this name.
    pub fn picture(&self, answer: Answer, name: &str) -> Result<PathBuf> {
        match self.pictures(answer)?.iter().any(|known| known == name) {
            true => Ok(self.file(answer.name()).join(name)),
            false => {
                let text = format!("there is no {} picture {name:?}", answer.name());
                Err(Error::new(ErrorKind::Usage, text))
            }
        }
    }

    /// Keeps a picture with a person's answer. An earlier answer is replaced. Returns false for a good
    /// picture that is there already: the same picture twice teaches nothing.
    pub fn keep(&self, answer: Answer, name: &str, frame: &Frame) -> Result<bool> {
        let failed =
            |e: image::ImageError| Error::new(ErrorKind::Image, "cannot encode a picture").with_source(e);
        let png = png_of(&as_seen(frame)?).map_err(failed)?;
        self.store.check_room(png.len() as u64)?;
        let folder = self.file(answer.name());
        let known = names(&folder)?;
        let same = |known: &String| {
            let path = folder.join(known);
            fs::metadata(&path).is_ok_and(|m| m.len() == png.len() as u64)
                && fs::read(&path).is_ok_and(|b| b == png)
        };
        let other = self.file(answer.other().name()).join(name);
        if answer == Answer::Good && known.iter().any(same) {
            return remove(&other).map(|()| false);
        }
        if known.len() >= MOST_PICTURES {
            let text = format!("{MOST_PICTURES} {} pictures are enough; remove some", answer.name());
            return Err(Error::new(ErrorKind::Usage, text));
        }
        write_file(&folder.join(name), &png)?;
        sync(&folder);
        remove(&other).map(|()| true)
    }

    /// Removes a picture.
    pub fn remove(&self, answer: Answer, name: &str) -> Result<()> {
        let path = self.picture(answer, name)?;
        remove(&path)
    }

    /// Adds a line to the events. It is on disk when this returns.
    pub fn note(&self, who: &str, what: &str) -> Result<()> {
        let path = self.file(EVENTS);
        let doing = |e: std::io::Error| Error::io("write", &path, e);
        let event = Event { at: utc(SystemTime::now()), who: who.to_owned(), what: what.to_owned() };
        let mut line = serde_json::to_vec(&event)
            .map_err(|e| Error::new(ErrorKind::Io, "cannot be written as JSON").with_source(e))?;
        line.push(b'\n');
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(doing)?;
        // A power cut can leave half a line.
        let mut last = [b'\n'];
        if file.seek(SeekFrom::End(-1)).is_ok() {
            file.read_exact(&mut last).map_err(doing)?;
        }
        if last != [b'\n'] {
            line.insert(0, b'\n');
        }
        file.write_all(&line).and_then(|()| file.sync_all()).map_err(doing)
    }

    /// The events, oldest first. Half a line of a power cut is left out.
    pub fn events(&self) -> Result<Vec<Event>> {
        let path = self.file(EVENTS);
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text.map_err(|e| Error::io("read", &path, e))?,
        };
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

/// A frame as it is stored: a gray one if its colors are all gray, as of a gray camera that is read in color.
fn as_seen(frame: &Frame) -> Result<Frame> {
    let gray =
        frame.color() == Color::Rgb && frame.pixels().chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]);
    if !gray {
        return Ok(frame.clone());
    }
    let pixels = frame.pixels().iter().step_by(3).copied().collect();
    Frame::new(frame.width(), frame.height(), Color::Gray, pixels)
}

/// The name of a part's picture.
pub fn picture_name(triggered: SystemTime, part: u64) -> String {
    let [year, month, day, hour, minute, second, millis] = civil(triggered);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}.{millis:03}-{part:06}.png")
}

/// A moment in UTC, to the second.
pub fn utc(time: SystemTime) -> String {
    let [year, month, day, hour, minute, second, _] = civil(time);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|e| Error::io("read", path, e))?,
    };
    let damaged = |e| Error::new(ErrorKind::Io, "the file is damaged; remove it").with_source(e);
    serde_json::from_slice(&bytes).map(Some).map_err(|e| damaged(e).within(path.display()))
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| Error::io("read", folder, e))?,
    };
    let name = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    let is_picture = |name: &String| name.ends_with(".png") && !name.starts_with(TEMPORARY);
    let mut names: Vec<String> = entries.filter_map(name).filter(is_picture).collect();
    names.sort_unstable();
    Ok(names)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => {
            sync(parent(path));
            Ok(())
        }
    }
}

/// Some file systems cannot sync a folder; its files are on disk by then.
fn sync(folder: &Path) {
    if let Ok(folder) = fs::File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// Bytes of all files in a folder.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size_of(&entry.path()),
            _ => entry.metadata().map_or(0, |m| m.len()),
        })
        .sum()
}
