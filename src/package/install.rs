//! Installing packages, and going back to the one before.
//!
//! At each moment, of a power cut too, a whole package lies at the installed one's name. The one before lies beside it, at
//! `NAME.previous`: going back makes the two change places, and so does installing, after it put the new one there.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::signature::{PublicKeys, Signed};
use super::source::Source;
use super::{MANIFEST, MANIFEST_HASH, Manifest, Package, SIGNATURE, check_target, hash_line, verified};
use crate::error::{Error, ErrorKind, Result};
use crate::files;

/// What may be installed.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Who must have signed it. Without keys a package needs no signature.
    pub keys: PublicKeys,
    /// Whether it may be of another product than the one that it replaces.
    pub other_product: bool,
    /// Whether its signature may be older than that of the one that it replaces.
    pub older: bool,
}

/// Where the package is that was in use before the one at `path`.
pub fn previous(path: &Path) -> PathBuf {
    beside(path, "", ".previous")
}

/// A whole package in a waiting place, which others do not get at meanwhile. Dropping it changes nothing.
pub struct Candidate {
    current: PathBuf,
    previous: PathBuf,
    incoming: PathBuf,
    is_new: bool,
    _lock: File,
}

impl Candidate {
    /// Fetches a package into the waiting place of `path`, and verifies it. `None` if it is installed already.
    ///
    /// The signature is verified before anything else is read, and of everything else only what the manifest lists is.
    ///
    /// # Errors
    /// As [`Package::open_signed`]; [`ErrorKind::Network`] when a server does not give what it should;
    /// [`ErrorKind::Usage`] when the rules forbid it, `path` is something else than a package, or another installation is
    /// going on.
    pub fn fetch(source: &Source, path: &Path, rules: &Rules) -> Result<Option<(Package, Self)>> {
        let candidate = Self::lock(path)?;
        check_target(&candidate.previous, true)?;
        let manifest = source.small_file(MANIFEST)?;
        let signature = match rules.keys.is_empty() {
            true => None,
            false => Some(source.small_file(SIGNATURE)?),
        };
        let within = |e: Error| e.within(source);
        let signed =
            signature.as_ref().map(|s| rules.keys.verify(&manifest, s)).transpose().map_err(within)?;
        let hash = files::sha256(&manifest);
        let text = str::from_utf8(&manifest).map_err(|_| super::damaged(format!("{MANIFEST} is not text")));
        let parsed = Manifest::parse(text.map_err(within)?).map_err(within)?;
        if let Some(installed) = Installed::read(&candidate.current, rules) {
            if installed.hash == hash && Package::open_signed(&candidate.current, &rules.keys).is_ok() {
                return Ok(None);
            }
            installed.check(&parsed, signed.as_ref(), rules).map_err(within)?;
        }

        remove(&candidate.incoming)?;
        let incoming = &candidate.incoming;
        fs::create_dir(incoming).map_err(|e| Error::io("write", incoming, e))?;
        let write = |name: &str, bytes: &[u8]| {
            let file = incoming.join(name);
            files::write_new(&file, bytes).map_err(|e| Error::io("write", &file, e))?;
            sync(files::parent(&file))
        };
        for (name, info) in &parsed.files {
            verified::check_name(name).map_err(within)?;
            write(name, &source.file(name, info)?)?;
        }
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
    /// As [`Package::open_signed`]; [`ErrorKind::Usage`] when there is none, or an installation is going on.
    pub fn previous(path: &Path, keys: &PublicKeys) -> Result<(Package, Self)> {
        let mut candidate = Self::lock(path)?;
        candidate.is_new = false;
        if !candidate.previous.exists() || !candidate.current.exists() {
            let text = format!("there is no package before {}", candidate.current.display());
            return Err(Error::new(ErrorKind::Usage, text));
        }
        Ok((Package::open_signed(&candidate.previous, keys)?, candidate))
    }

    /// Puts the package in its place. What was there becomes the previous one.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when files cannot be renamed. The old package or the new one is in place in any case.
    pub fn install(mut self) -> Result<()> {
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

    /// Names the places, and keeps others from changing them.
    fn lock(path: &Path) -> Result<Self> {
        check_target(path, true)?;
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
        Ok(Candidate {
            current: path.to_path_buf(),
            previous: previous(path),
            incoming: beside(path, ".", ".incoming"),
            is_new: true,
            _lock: lock,
        })
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // What is left there now is what failed, or the package before the previous one.
        if let Err(e) = remove(&self.incoming) {
            log::warn!("{}", e.chain());
        }
    }
}

/// What is known of the package that is to be replaced. A damaged one may be replaced by anything.
struct Installed {
    hash: String,
    product: String,
    signed: Option<Signed>,
}

impl Installed {
    fn read(path: &Path, rules: &Rules) -> Option<Self> {
        let text = verified::read(path, MANIFEST, None).ok()?;
        let manifest = Manifest::parse(str::from_utf8(&text).ok()?).ok()?;
        let signature = verified::read(path, SIGNATURE, None).ok();
        let signed = signature.and_then(|signature| rules.keys.verify(&text, &signature).ok());
        Some(Installed { hash: files::sha256(&text), product: manifest.product, signed })
    }

    fn check(&self, new: &Manifest, signed: Option<&Signed>, rules: &Rules) -> Result<()> {
        let usage = |text: String| Err(Error::new(ErrorKind::Usage, text));
        if new.product != self.product && !rules.other_product {
            return usage(format!(
                "it is for {:?}, but {:?} is installed; add --other-product if that is meant",
                new.product, self.product
            ));
        }
        // Whoever can offer files could else offer an old package, whose signature is as good as ever.
        let time = |signed: Option<&Signed>| signed.and_then(|s| s.time);
        if time(signed) < time(self.signed.as_ref()) && !rules.older {
            return usage(
                "it was signed before the installed one was; add --older if that is meant, or roll back"
                    .into(),
            );
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

/// Waits until a folder's entries are on disk.
fn sync(folder: &Path) -> Result<()> {
    let synced = || -> io::Result<()> { File::open(folder)?.sync_all() };
    synced().map_err(|e| Error::io("write", folder, e))
}
