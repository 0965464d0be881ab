//! Who may make packages: signatures of manifests by [minisign](https://jedisct1.github.io/minisign/)'s keys.
//!
//! `package.toml` holds the SHA-256 of every other file, so its signature, `package.toml.minisig` beside it, vouches for
//! all of them. `minisign -S -m bottle.weakrest/package.toml` makes it.

use minisign_verify::{Error as Refusal, PublicKey, Signature};

use super::damaged;
use crate::error::{Error, ErrorKind, Result};
use crate::files;

/// The keys whose signatures are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicKeys(Vec<PublicKey>);

/// What a signature that holds says of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The signer's words; minisign's own name the time and the file.
    pub comment: String,
    /// When it was signed, in seconds since 1970, if the comment says so as minisign's does.
    pub time: Option<u64>,
}

impl PublicKeys {
    /// Reads keys, each either the file that `minisign -G` wrote (`NAME.pub`) or the line in it that begins with `RW`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file cannot be read, [`ErrorKind::Usage`] when it holds no public key.
    pub fn read(keys: &[String]) -> Result<Self> {
        let read = |key: &String| {
            if let Ok(key) = PublicKey::from_base64(key) {
                return Ok(key);
            }
            // Somebody has put the secret key there.
            let text = files::read_secret(key.as_ref())?;
            let no_key = |e| {
                let text = "holds no public key; it must be what minisign -G wrote into NAME.pub";
                Error::new(ErrorKind::Usage, text).with_source(e).within(key)
            };
            PublicKey::decode(&text).map_err(no_key)
        };
        keys.iter().map(read).collect::<Result<_>>().map(PublicKeys)
    }

    /// Whether there are none: nothing needs a signature then.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks the signature of a manifest.
    ///
    /// # Errors
    /// [`ErrorKind::Package`] when it is not one of these keys', or of something else.
    pub(super) fn verify(&self, manifest: &[u8], signature: &[u8]) -> Result<Signed> {
        let decoded = std::str::from_utf8(signature).ok().map(Signature::decode);
        let Some(Ok(signature)) = decoded else {
            return Err(damaged(
                "the signature is not one that minisign makes; sign the package again".into(),
            ));
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
                "its signature is of minisign's old kind; sign it with minisign 0.10 or newer".into()
            }
            _ => "the signature is not this package's: the manifest was changed, or the signature was copied"
                .into(),
        }))
    }
}

impl Signed {
    fn new(comment: &str) -> Self {
        let time = comment.split_whitespace().find_map(|word| word.strip_prefix("timestamp:")?.parse().ok());
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        Signed { comment: comment.chars().map(printable).collect(), time }
    }
}
