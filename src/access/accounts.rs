//! The file of accounts: a line each with name, role and password hash. `#` begins a comment.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use rustix::fs::{Gid, Uid, fchown};
use sha2::{Digest, Sha256};

use super::Role;
use crate::error::{Error, ErrorKind, Result};
use crate::files;

/// The shortest password, in characters. Wrong ones cost time, so this need not stand against a computer that
/// tries millions.
const SHORTEST: usize = 10;
/// The longest password, in bytes.
pub(crate) const LONGEST: usize = 256;
/// The longest name, in characters.
const LONGEST_NAME: usize = 32;
/// Cost of a hash from elsewhere: more would take the inspection's memory and time. In KiB, passes and lanes.
const MOST_COST: (u32, u32, u32) = (128 << 10, 10, 4);

/// One account.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// What the person signs in with.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Argon2id, as a PHC string.
    hash: String,
}

impl Account {
    /// Stands for name and password. A session ends with it.
    pub fn credential(&self) -> [u8; 32] {
        Sha256::digest(format!("{} {}", self.name, self.hash)).into()
    }
}

/// All accounts of a file.
pub(crate) struct Accounts(Vec<Account>);

impl Accounts {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with file and line for a wrong line, for a file without accounts, and for one that
    /// everybody may read; [`ErrorKind::Io`].
    pub fn read(path: &Path) -> Result<Accounts> {
        let mode = fs::metadata(path).map_err(|e| Error::io("read", path, e))?.mode();
        if mode & 0o007 != 0 {
            let text = format!(
                "everybody on this machine may read it (mode {:03o}); run: chmod o= {}",
                mode & 0o777,
                path.display()
            );
            return Err(Error::new(ErrorKind::Usage, text).within(path.display()));
        }
        let accounts = Accounts::parse(&files::read_text(path)?, path)?;
        if accounts.0.is_empty() {
            let text = "holds no account; add one with weakrest account add";
            return Err(Error::new(ErrorKind::Usage, text).within(path.display()));
        }
        Ok(accounts)
    }

    fn parse(text: &str, path: &Path) -> Result<Accounts> {
        let mut accounts = Accounts(Vec::new());
        for (i, line) in text.lines().enumerate() {
            let at = |e: Error| e.within(format!("{}:{}", path.display(), i + 1));
            let Some(account) = account(line).map_err(at)? else { continue };
            if accounts.named(&account.name).is_some() {
                let text = "has the name of an account above; remove one of them";
                return Err(at(Error::new(ErrorKind::Usage, text)));
            }
            accounts.0.push(account);
        }
        Ok(accounts)
    }

    /// The account with this name.
    pub fn named(&self, name: &str) -> Option<&Account> {
        self.0.iter().find(|account| account.name == name)
    }

    /// All accounts, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.0.iter()
    }

    /// The account with this name and password. Takes as long for a name that does not exist.
    pub fn signed_in(&self, name: &str, password: &str) -> Option<&Account> {
        let account = self.named(name);
        // Somebody's hash, for the time that it takes.
        let hash = &account.or(self.0.first())?.hash;
        let is_right = PasswordHash::new(hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
        account.filter(|_| is_right)
    }
}

/// The account of a line. `None` for a comment.
fn account(line: &str) -> Result<Option<Account>> {
    let wrong = |text: String| Err(Error::new(ErrorKind::Usage, text));
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, role, hash] = words[..] else {
        return wrong("must be NAME ROLE HASH; weakrest account add writes it".into());
    };
    check_name(name)?;
    let Some(role) = Role::from_name(role) else {
        return wrong(format!("{name} has no role; write {}", Role::ALL.map(Role::name).join(", ")));
    };
    if let Err(why) = check_hash(hash) {
        let text = format!("{name}: {why}; set the password with weakrest account add {name} --role {role}");
        return wrong(text);
    }
    Ok(Some(Account { name: name.into(), role, hash: hash.into() }))
}

fn check_hash(hash: &str) -> Result<(), &'static str> {
    let hash = PasswordHash::new(hash).map_err(|_| "its hash is damaged")?;
    let is_argon2id = Algorithm::new(hash.algorithm).is_ok_and(|kind| kind == Algorithm::Argon2id);
    let params = Params::try_from(&hash).map_err(|_| "its hash is damaged")?;
    if !is_argon2id || hash.hash.is_none() || hash.salt.is_none() {
        return Err("its hash is not argon2id");
    }
    let (memory, passes, lanes) = MOST_COST;
    if params.m_cost() > memory || params.t_cost() > passes || params.p_cost() > lanes {
        return Err("its hash takes too much memory or time");
    }
    Ok(())
}

/// Refuses what is no name of an account.
///
/// # Errors
/// [`ErrorKind::Usage`].
pub(crate) fn check_name(name: &str) -> Result<()> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    match (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(is_good) {
        true => Ok(()),
        false => {
            let text = format!("a name has 1 to {LONGEST_NAME} letters, digits and . _ - @, without accents");
            Err(Error::new(ErrorKind::Usage, text))
        }
    }
}

/// Refuses a password that is too short or too long.
///
/// # Errors
/// [`ErrorKind::Usage`].
pub(crate) fn check_password(password: &str) -> Result<()> {
    if password.chars().count() < SHORTEST || password.len() > LONGEST {
        let text = format!("a password has at least {SHORTEST} characters, and at most {LONGEST} bytes");
        return Err(Error::new(ErrorKind::Usage, text));
    }
    Ok(())
}

/// Adds an account to the file, or gives it another role and password. Returns true if it is new. Other lines
/// stay as they are.
///
/// # Errors
/// As [`Accounts::read`], [`check_name`] and [`check_password`]; [`ErrorKind::Io`].
pub(crate) fn add(path: &Path, name: &str, role: Role, password: &str) -> Result<bool> {
    check_name(name)?;
    check_password(password)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default());
    let hash = argon2.hash_password(password.as_bytes()).map_err(|e| {
        Error::new(ErrorKind::Io, format!("cannot hash the password: {e}; is there no source of randomness?"))
    })?;
    let line = format!("{name} {role} {hash}");
    let text = match path.try_exists() {
        Ok(false) => {
            "# Accounts of the web page: name, role, password hash. See `weakrest account --help`.\n".into()
        }
        _ => files::read_text(path)?,
    };
    let known = Accounts::parse(&text, path)?.named(name).is_some();
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter_mut().find(|line| is_of(line, name)) {
        Some(old) => *old = &line,
        None => lines.push(&line),
    }
    write(path, &lines)?;
    Ok(!known)
}

/// Removes an account from the file.
///
/// # Errors
/// [`ErrorKind::Usage`] if there is none with this name, or no other; as [`Accounts::read`].
pub(crate) fn remove(path: &Path, name: &str) -> Result<()> {
    let text = files::read_text(path)?;
    let accounts = Accounts::parse(&text, path)?;
    let wrong = |text: String| Err(Error::new(ErrorKind::Usage, text).within(path.display()));
    if accounts.named(name).is_none() {
        return wrong(format!("no account is called {name}"));
    }
    if accounts.0.len() == 1 {
        return wrong(format!(
            "{name} is the last account; remove web.accounts_file from the configuration to do without"
        ));
    }
    let lines: Vec<&str> = text.lines().filter(|line| !is_of(line, name)).collect();
    write(path, &lines)
}

fn is_of(line: &str, name: &str) -> bool {
    line.split_whitespace().next() == Some(name)
}

/// Writes the lines, whole or not at all. Owner, group and mode stay, so that the service can still read them.
fn write(path: &Path, lines: &[&str]) -> Result<()> {
    let doing = |e: std::io::Error| Error::io("write", path, e);
    let old = match fs::metadata(path) {
        Ok(old) => Some(old),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(doing(e)),
    };
    let folder = files::parent(path);
    let mut file = tempfile::Builder::new().prefix(files::TEMPORARY).tempfile_in(folder).map_err(doing)?;
    if let Some(old) = &old {
        let made = file.as_file().metadata().map_err(doing)?;
        if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
            fchown(file.as_file(), Some(Uid::from_raw(old.uid())), Some(Gid::from_raw(old.gid())))
                .map_err(|e| doing(e.into()))?;
        }
    }
    let mode = old.map_or(0o640, |old| old.mode() & 0o770);
    file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(doing)?;
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(doing)?;
    file.persist(path).map_err(|e| doing(e.error))?;
    // The new name is on disk only after its folder is.
    if let Ok(folder) = fs::File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_added_changed_and_removed_and_other_lines_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts");
        assert!(add(&path, "anna", Role::Operate, "correct horse").unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("horse") && text.contains("anna operate $argon2id$v=19$"), "{text}");
        fs::write(&path, format!("{text}# Night shift\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(add(&path, "ben", Role::View, "battery staple").unwrap());
        assert!(!add(&path, "anna", Role::Engineer, "correct horses").unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let accounts = Accounts::read(&path).unwrap();
        let all: Vec<_> = accounts.iter().map(|a| (a.name.as_str(), a.role)).collect();
        assert_eq!(all, [("anna", Role::Engineer), ("ben", Role::View)]);
        assert!(accounts.signed_in("anna", "correct horses").is_some());
        for (name, password) in
            [("anna", "correct horse"), ("anna", ""), ("ben", "correct horses"), ("", ""), ("eve", "x")]
        {
            assert!(accounts.signed_in(name, password).is_none(), "{name} {password}");
        }
        remove(&path, "anna").unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("# Night shift"));
        assert!(remove(&path, "anna").unwrap_err().chain().contains("no account is called anna"));
        assert!(remove(&path, "ben").unwrap_err().chain().contains("last account"));
        for (name, password) in
            [("a b", "correct horse"), ("", "correct horse"), ("#a", "correct horse"), ("a", "short")]
        {
            assert_eq!(add(&path, name, Role::View, password).unwrap_err().kind(), ErrorKind::Usage);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_line_and_never_the_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts");
        add(&path, "anna", Role::Operate, "correct horse").unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let hash = good.split_whitespace().last().unwrap();
        let weak = "$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21l$RdescudvJCsgt3ub+b27+g";
        for (line, told) in [
            ("ben view".to_owned(), "must be NAME ROLE HASH"),
            (format!("ben boss {hash}"), "ben has no role; write view, operate, engineer"),
            (format!("anna view {hash}"), "has the name of an account above"),
            (format!("b/n view {hash}"), "a name has 1 to 32 letters"),
            ("ben view secret-in-the-wrong-place".to_owned(), "ben: its hash is damaged"),
            (format!("ben view {weak}"), "ben: its hash is not argon2id"),
            (format!("ben view {}", hash.replace("m=19456", "m=4194304")), "too much memory"),
        ] {
            fs::write(&path, format!("{good}{line}\n")).unwrap();
            let error = Accounts::read(&path).err().unwrap();
            let text = error.chain();
            assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
            assert!(text.starts_with(&format!("{}:3: ", path.display())) && text.contains(told), "{text}");
            assert!(!text.contains("$argon2") && !text.contains("secret"), "{text}");
        }
        fs::write(&path, "# none\n").unwrap();
        assert!(Accounts::read(&path).err().unwrap().chain().contains("holds no account"));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(Accounts::read(&path).err().unwrap().chain().contains("mode 644); run: chmod o="));
    }
}
