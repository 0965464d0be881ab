//! A small package, made once, and ways to tamper with copies of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::enroll::{Enrollment, Settings, enroll};
use crate::inspector::{Inspector, Options};
use crate::package::BackboneFile;
use crate::{Error, Package};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Writes pictures of one product: stripes with a little noise, each its own.
pub fn draw_pictures(folder: &Path, count: u32) -> Vec<PathBuf> {
    fs::create_dir_all(folder).unwrap();
    (0..count)
        .map(|n| {
            let path = folder.join(format!("{n}.png"));
            let picture = image::RgbImage::from_fn(96, 64, |x, y| {
                let noise = (x.wrapping_mul(31) ^ y.wrapping_mul(17) ^ n).wrapping_mul(2_654_435_761) >> 28;
                let stripe = if (x / 8 + y / 16) % 2 == 0 { 90 } else { 160 };
                image::Rgb([(stripe + noise) as u8, (120 + noise) as u8, (200 - stripe + noise) as u8])
            });
            picture.save(&path).unwrap();
            path
        })
        .collect()
}

pub fn settings() -> Settings {
    Settings { product: "stripes".into(), longest_side: Some(64), coreset_floor: 100, ..Settings::default() }
}

pub fn enrolled(pictures: &[PathBuf], settings: &Settings) -> Enrollment {
    let backbone = BackboneFile::built_in().unwrap();
    enroll(pictures, &backbone, settings, &Options::default(), &mut |_, _, _| true).unwrap().unwrap()
}

/// The pictures, and the package `stripes.weakrest` beside them.
fn made_once() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let folder = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let pictures = draw_pictures(&folder.path().join("good"), 8);
        let mut made = enrolled(&pictures, &settings());
        made.package.write(folder.path().join("stripes.weakrest"), false).unwrap();
        folder
    });
    folder.path()
}

/// Pictures that the package was made of.
pub fn pictures() -> Vec<PathBuf> {
    (0..8).map(|n| made_once().join("good").join(format!("{n}.png"))).collect()
}

/// A copy of the package that a test may spoil.
pub struct Copy {
    folder: TempDir,
}

impl Copy {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let copy = Copy { folder };
        for (name, bytes) in contents(&made_once().join("stripes.weakrest")) {
            copy.put(&name, &bytes);
        }
        copy
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("stripes.weakrest")
    }

    /// A place beside the package.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        let file = self.file(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    pub fn manifest(&self) -> String {
        String::from_utf8(self.get("package.toml")).unwrap()
    }

    /// Puts a changed manifest in place as someone would who knows how hashes are made.
    pub fn put_manifest(&self, text: &str) {
        self.put("package.toml", text.as_bytes());
        self.put("package.sha256", format!("{}  package.toml\n", sha256(text.as_bytes())).as_bytes());
    }

    /// Replaces a file and its hash.
    pub fn put_signed(&self, name: &str, bytes: &[u8]) {
        self.put(name, bytes);
        let mut manifest: toml::Table = self.manifest().parse().unwrap();
        let info = manifest["files"][name].as_table_mut().unwrap();
        info.insert("sha256".into(), sha256(bytes).into());
        info.insert("bytes".into(), (bytes.len() as i64).into());
        self.put_manifest(&manifest.to_string());
    }

    /// Changes a manifest, keeping its hash right.
    pub fn edit(&self, change: impl FnOnce(&mut toml::Table)) {
        let mut manifest: toml::Table = self.manifest().parse().unwrap();
        change(&mut manifest);
        self.put_manifest(&manifest.to_string());
    }

    /// Why it is not opened.
    pub fn refusal(&self) -> Error {
        self.opened().err().expect("this package must be refused")
    }

    pub fn opened(&self) -> Result<Package, Error> {
        Package::open(self.path())
    }

    pub fn inspector(&self) -> Result<Inspector, Error> {
        Inspector::open(self.path())
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Every file below a folder, by its name from there.
pub fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            files
                .extend(contents(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
}

/// What lies directly in a folder, hidden or not.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
