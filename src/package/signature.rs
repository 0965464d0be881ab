//! Signatures of packages, made with [minisign](https://jedisct1.github.io/minisign/).
//!
//! `package.toml` holds the SHA-256 of every other file, so its signature `package.toml.minisig` covers all
//! of them. `minisign -S -m bottle.weakrest/package.toml` makes it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use minisign_verify::{Error as Refusal, PublicKey, Signature};

use super::damaged;
use crate::error::{Error, ErrorKind, Result};
use crate::files;

/// Trusted public keys.
///
/// ```
/// use weakrest::package::PublicKeys;
///
/// let keys = PublicKeys::read(&["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".into()])?;
/// assert!(!keys.is_empty());
/// # Ok::<(), weakrest::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicKeys(Vec<PublicKey>);

/// A valid signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The signer's comment. By default it has the time and the file's name.
    pub comment: String,
    /// Time of signing in seconds since 1970, if the comment has it in minisign's form.
    pub time: Option<u64>,
}

impl PublicKeys {
    /// Reads keys. Each is a file written by `minisign -G` (`NAME.pub`), or its line that begins with `RW`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if a file cannot be read, [`ErrorKind::Usage`] if it holds no public key.
    pub fn read(keys: &[String]) -> Result<Self> {
        let read = |key: &String| {
            if let Ok(key) = PublicKey::from_base64(key) {
                return Ok(key);
            }
            // People name the secret key by mistake: the error must not show it.
            let text = files::read_secret(key.as_ref())?;
            let no_key = |e| {
                let text = "holds no public key; name the file NAME.pub that minisign -G wrote";
                Error::new(ErrorKind::Usage, text).with_source(e).within(key)
            };
            PublicKey::decode(&text).map_err(no_key)
        };
        keys.iter().map(read).collect::<Result<_>>().map(PublicKeys)
    }

    /// Whether there are no keys. Then packages need no signature.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies the signature of a manifest.
    ///
    /// # Errors
    /// [`ErrorKind::Package`] if none of the keys has made it, or for another manifest.
    pub(super) fn verify(&self, manifest: &[u8], signature: &[u8]) -> Result<Signed> {
        let decoded = std::str::from_utf8(signature).ok().map(Signature::decode);
        let Some(Ok(signature)) = decoded else {
            return Err(damaged("the signature is not in minisign's form; sign the package again".into()));
        };
        let mut refusal = Refusal::UnexpectedKeyId;
        for key in &self.0 {
            match key.verify(manifest, &signature, false) {
                Ok(()) => return Ok(Signed::new(signature.trusted_comment())),
                Err(Refusal::UnexpectedKeyId) => {}
                Err(e) => refusal = e,
            }
        }
        Err(damaged(match refusal {
            Refusal::UnexpectedKeyId => "it was signed with a key that is not trusted here".into(),
            Refusal::UnexpectedAlgorithm => {
                "its signature has minisign's old form; sign it with minisign 0.10 or newer".into()
            }
            _ => {
                "the signature is not of this package: the manifest was changed, or the signature was copied"
                    .into()
            }
        }))
    }
}

impl Signed {
    /// An unverified signature's claims.
    pub(super) fn claimed(signature: &[u8]) -> Self {
        let text = String::from_utf8_lossy(signature);
        let comment = text.lines().find_map(|line| line.strip_prefix("trusted comment:"));
        Signed::new(comment.unwrap_or_default())
    }

    /// Refuses a signature from the future: no later package could replace it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if it is later than `now`, this machine's time, by more than `apart`.
    pub(super) fn check_date(&self, now: SystemTime, apart: Duration) -> Result<()> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let ahead = self.time.unwrap_or_default().saturating_sub(now);
        if ahead <= apart.as_secs() {
            return Ok(());
        }
        let ahead = match ahead / 3600 {
            hours @ ..48 => format!("{hours} hours"),
            hours => format!("{} days", hours / 24),
        };
        // The Gregorian calendar's mean year.
        let year = 1970 + now / 31_556_952;
        Err(Error::new(
            ErrorKind::Usage,
            format!(
                "its signature is dated {ahead} ahead of this machine's clock, which shows the year {year}; set this clock \
                 (timedatectl), or sign again if the signer's clock was wrong"
            ),
        ))
    }

    fn new(comment: &str) -> Self {
        let time = comment.split_whitespace().find_map(|word| word.strip_prefix("timestamp:")?.parse().ok());
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        Signed { comment: comment.chars().map(printable).collect(), time }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dated_in_the_future_is_refused() {
        let hour = Duration::from_secs(3600);
        let check = |comment: &str, now: u64| {
            Signed::new(comment)
                .check_date(UNIX_EPOCH + Duration::from_secs(now), hour)
                .map_err(|e| e.chain())
        };
        let now = 1_800_000_000;
        for ahead in [0, 60, 3600] {
            check(&format!("timestamp:{}\tfile:package.toml", now + ahead), now).unwrap();
        }
        check("timestamp:1", now).unwrap();
        check("no time at all", now).unwrap();
        let told = check(&format!("timestamp:{}", now + 3601), now).unwrap_err();
        assert!(told.contains("1 hours ahead") && told.contains("2027"), "{told}");
        // A board without a battery.
        let told = check(&format!("timestamp:{now}"), 7).unwrap_err();
        assert!(told.contains("20833 days ahead") && told.contains("1970"), "{told}");
        check(&format!("timestamp:{}", u64::MAX), now).unwrap_err();
    }
}
