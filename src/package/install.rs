//! Installing packages, and rolling back.
//!
//! A whole package lies at the installed name at any moment, even in a power cut. The previous one lies
//! beside it, at `NAME.previous`. A roll-back exchanges the two. An installation puts the new package there
//! first, then exchanges. The file `.NAME.installed` describes the installed package in case that gets
//! damaged.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use serde::{Deserialize, Serialize};

use super::signature::{PublicKeys, Signed};
use super::source::Source;
use super::{MANIFEST, MANIFEST_HASH, Manifest, Package, SIGNATURE, check_target, hash_line, verified};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::files;

/// Rules for an installation.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Trusted keys. Without keys, a package needs no signature.
    pub keys: PublicKeys,
    /// Accept another product.
    pub other_product: bool,
    /// Accept an older signature than the installed package's.
    pub older: bool,
}

/// Tolerance for a signer's clock ahead of this machine's.
const CLOCKS_APART: Duration = Duration::from_secs(3600);

/// The place of the package that was in use before the one at `path`.
pub fn previous(path: &Path) -> PathBuf {
    beside(path, "", ".previous")
}

/// A whole package in a locked waiting place. Dropping it changes nothing.
pub struct Candidate {
    current: PathBuf,
    previous: PathBuf,
    incoming: PathBuf,
    record: PathBuf,
    installed: Installed,
    is_new: bool,
    _lock: File,
}

impl Candidate {
    /// Fetches a package into the waiting place of `path` and verifies it. The result is `None` if it is
    /// installed already. The signature is verified first. Only files listed in the manifest are read.
    ///
    /// # Errors
    /// - As [`Package::open_signed`].
    /// - [`ErrorKind::Network`] if a server fails.
    /// - [`ErrorKind::Usage`] if the rules forbid it, its signature is from the future, `path` is not a
    ///   package, or another installation is running.
    pub fn fetch(mut source: Source, path: &Path, rules: &Rules) -> Result<Option<(Package, Self)>> {
        let mut candidate = Self::lock(path)?;
        check_target(&candidate.previous, true)?;
        source.begin();
        let manifest = source.small_file(MANIFEST)?;
        let signature = match rules.keys.is_empty() {
            true => None,
            false => Some(source.small_file(SIGNATURE)?),
        };
        let name = source.to_string();
        let within = |e: Error| e.within(&name);
        let signed =
            signature.as_ref().map(|s| rules.keys.verify(&manifest, s)).transpose().map_err(within)?;
        let hash = files::sha256(&manifest);
        let text = str::from_utf8(&manifest).map_err(|_| super::damaged(format!("{MANIFEST} is not text")));
        let parsed = Manifest::parse(text.map_err(within)?).map_err(within)?;
        if let Some(replaced) = Replaced::read(&candidate.current, &candidate.record, rules) {
            if replaced.hash == hash && Package::open_signed(&candidate.current, &rules.keys).is_ok() {
                return Ok(None);
            }
            replaced.check(&parsed, signed.as_ref(), rules).map_err(within)?;
        }
        if let Some(signed) = &signed {
            signed.check_date(SystemTime::now(), CLOCKS_APART).map_err(within)?;
        }
        candidate.installed = Installed::new(&parsed, signed.as_ref());

        remove(&candidate.incoming)?;
        let incoming = &candidate.incoming;
        files::create_folder(incoming).map_err(|e| Error::io("write", incoming, e))?;
        source.allow(parsed.files.values().map(|file| file.bytes).sum());
        for (name, info) in &parsed.files {
            verified::check_name(name).map_err(within)?;
            let file = incoming.join(name);
            let doing = |e| Error::io("write", &file, e);
            let mut out = files::create_new(&file).map_err(doing)?;
            source.file(name, info, &mut out, &file)?;
            out.sync_all().map_err(doing)?;
            sync(files::parent(&file))?;
        }
        let write = |name: &str, bytes: &[u8]| {
            let file = incoming.join(name);
            files::write_new(&file, bytes).map_err(|e| Error::io("write", &file, e))?;
            sync(incoming)
        };
        write(MANIFEST_HASH, hash_line(&hash).as_bytes())?;
        write(MANIFEST, &manifest)?;
        if let Some(signature) = signature {
            write(SIGNATURE, &signature)?;
        }
        let package = Package::open_signed(incoming, &rules.keys)?;
        Ok(Some((package, candidate)))
    }

    /// The package that was in use before the one at `path`.
    ///
    /// # Errors
    /// As [`Package::open_signed`], and [`ErrorKind::Usage`] if there is none, or an installation is running.
    pub fn previous(path: &Path, keys: &PublicKeys) -> Result<(Package, Self)> {
        let mut candidate = Self::lock(path)?;
        candidate.is_new = false;
        if !candidate.previous.exists() || !candidate.current.exists() {
            let text = format!("there is no previous package of {}", candidate.current.display());
            return Err(Error::new(ErrorKind::Usage, text));
        }
        let package = Package::open_signed(&candidate.previous, keys)?;
        candidate.installed = Installed::new(&package.manifest, package.signed.as_ref());
        Ok((package, candidate))
    }

    /// Puts the package in its place. The package there becomes the previous one.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if files cannot be renamed. Either the old or the new package is in place then.
    pub fn install(mut self) -> Result<()> {
        self.installed.write(&self.record)?;
        let (current, folder) = (&self.current, files::parent(&self.current));
        if self.is_new {
            if !exists(current) {
                rename(&self.incoming, current, RenameFlags::NOREPLACE)?;
                self.is_new = false;
                return sync(folder);
            }
            let flags = if exists(&self.previous) { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
            rename(&self.incoming, &self.previous, flags)?;
            sync(folder)?;
        }
        rename(&self.previous, current, RenameFlags::EXCHANGE)?;
        sync(folder)
    }

    /// Locks the places.
    fn lock(path: &Path) -> Result<Self> {
        let record = beside(path, ".", ".installed");
        // A known package may have lost even its manifest.
        if !(path.is_dir() && record.is_file()) {
            check_target(path, true)?;
        }
        let folder = files::parent(path);
        let lock = File::open(folder).map_err(|e| Error::io("open", folder, e))?;
        lock.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => {
                let text =
                    format!("another package is being installed in {}; try again later", folder.display());
                Error::new(ErrorKind::Usage, text)
            }
            TryLockError::Error(e) => Error::io("lock", folder, e),
        })?;
        files::sweep(folder);
        Ok(Candidate {
            current: path.to_path_buf(),
            previous: previous(path),
            incoming: beside(path, ".", ".incoming"),
            record,
            installed: Installed::default(),
            is_new: true,
            _lock: lock,
        })
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // It holds a failed package, or the one before the previous.
        if let Err(e) = remove(&self.incoming) {
            log::warn!("{}", e.chain());
        }
    }
}

/// The record of the installed package, beside it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Installed {
    product: String,
    /// Time of signing, in seconds since 1970.
    signed: Option<u64>,
}

impl Installed {
    fn new(manifest: &Manifest, signed: Option<&Signed>) -> Self {
        Installed { product: manifest.product.clone(), signed: signed.and_then(|s| s.time) }
    }

    fn read(record: &Path) -> Option<Self> {
        let (folder, name) = (files::parent(record), record.file_name()?.to_str()?);
        serde_json::from_slice(&verified::read(folder, name, None).ok()?).ok()
    }

    fn write(&self, record: &Path) -> Result<()> {
        let doing = |e| Error::io("write", record, e);
        let fresh = beside(record, "", ".new");
        let bytes = serde_json::to_vec(self).map_err(|e| doing(e.into()))?;
        files::write_new(&fresh, &bytes).and_then(|()| fs::rename(&fresh, record)).map_err(doing)?;
        sync(files::parent(record))
    }
}

/// The package to replace, as far as known: from its manifest if that is whole, else from the record, else
/// from what is still readable.
struct Replaced {
    hash: String,
    /// `None` if unknown.
    product: Option<String>,
    signed: Option<u64>,
}

impl Replaced {
    /// `None` if there is no package.
    fn read(path: &Path, record: &Path, rules: &Rules) -> Option<Self> {
        if !exists(path) {
            return None;
        }
        let text = verified::read(path, MANIFEST, None).unwrap_or_default();
        let hash = files::sha256(&text);
        let whole =
            verified::read(path, MANIFEST_HASH, None).is_ok_and(|line| line == hash_line(&hash).as_bytes());
        let told = str::from_utf8(&text).ok().and_then(|text| Manifest::parse(text).ok()).map(|m| m.product);
        let remembered = Installed::read(record);
        let product = match &remembered {
            Some(installed) if !whole || told.is_none() => Some(installed.product.clone()),
            _ => told,
        };
        let signature = verified::read(path, SIGNATURE, None).unwrap_or_default();
        let signed = match rules.keys.verify(&text, &signature) {
            Ok(signed) => signed.time,
            // Without keys, ages are not compared.
            Err(_) if rules.keys.is_empty() => None,
            // Unverified, but a damaged package is not younger than it claims.
            Err(_) => remembered.map_or_else(|| Signed::claimed(&signature).time, |i| i.signed),
        };
        Some(Replaced { hash, product, signed })
    }

    fn check(&self, new: &Manifest, signed: Option<&Signed>, rules: &Rules) -> Result<()> {
        match &self.product {
            _ if rules.other_product => {}
            Some(product) if *product == new.product => {}
            Some(product) => {
                let text = format!("it is for {:?}, but {product:?} is installed", new.product);
                return Err(Error::new(ErrorKind::Usage, text).with_hint(Hint::OtherProduct));
            }
            None => {
                let text = format!(
                    "it is for {:?}, and the installed one is damaged, so its product is unknown",
                    new.product
                );
                return Err(Error::new(ErrorKind::Usage, text).with_hint(Hint::OtherProduct));
            }
        }
        // An attacker could offer an old package, whose signature stays valid.
        if signed.and_then(|s| s.time) < self.signed && !rules.older {
            let text = "it was signed before the installed one was";
            return Err(Error::new(ErrorKind::Usage, text).with_hint(Hint::Older));
        }
        Ok(())
    }
}

fn beside(path: &Path, before: &str, after: &str) -> PathBuf {
    let mut name = OsString::from(before);
    name.push(path.file_name().unwrap_or_default());
    name.push(after);
    files::parent(path).join(name)
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", folder, e)),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<()> {
    renameat_with(CWD, from, CWD, to, flags).map_err(|e| match e {
        rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP => {
            let text = "this file system cannot exchange two folders in one step; \
                        install on ext4, XFS, Btrfs, F2FS or tmpfs";
            Error::new(ErrorKind::Io, text).with_source(io::Error::from(e)).within(to.display())
        }
        e => Error::io("replace", to, e.into()),
    })
}

/// Flushes a folder's entries to disk.
fn sync(folder: &Path) -> Result<()> {
    let synced = || -> io::Result<()> { File::open(folder)?.sync_all() };
    synced().map_err(|e| Error::io("write", folder, e))
}
