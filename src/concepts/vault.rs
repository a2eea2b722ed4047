//! The vault: passwords of connections, encrypted before they reach the log.
//!
//! # What it promises
//! - A password leaves the vault only to connect. It stands neither in the log nor in an answer, a message or a debug print.
//! - What the log has of it is AES-256-GCM with a random nonce of 96 bits; the number of the connection and the format are bound to it, so
//!   a ciphertext that was moved to another connection is not decrypted.
//! - Each ciphertext names the *fingerprint* of its key (64 bits, made with the key itself). So it is known at the start, and for each
//!   connection, whether the key at hand is the right one, and a wrong or lost key is said to be one instead of making nonsense.
//! - A key file is made only while nothing has been encrypted: a lost one is never replaced in silence.
//!
//! # Format
//! `v1.{fingerprint, 16 hexadecimal digits}.{nonce, ciphertext and tag in hexadecimal digits}`.
//!
//! # Keys
//! A key is 32 bytes: in Base64, of either alphabet, with or without padding (as Fernet keys are), or as 64 hexadecimal digits. The first of
//! several encrypts, all decrypt. They are given by `concepts.encryption_key` (the variable ENCRYPTION_KEY), separated by commas, or stand in
//! a file, one per line, as [`crate::privacy`] describes key files.
//!
//! # Rotation and recovery
//! A new key is put in front, everything is encrypted by it in one commit, and only then the older keys are taken away
//! ([`super::Concepts::rotate_key`]). After a crash at any point all keys that the log needs are still there, and the rotation can be begun
//! again. With a wrong key the server runs, and says so as an error of its log; connections encrypted by another key cannot be used until that
//! key is back or their passwords are set again.
//!
//! # Known limitations
//! - Segments of the log that compaction has not reached yet keep ciphertexts of retired keys.
//! - The length of a password can be told from its ciphertext.

use super::record::Id;
use crate::config::Config;
use crate::config::values::Secret;
use crate::privacy::{self, KEYS_MAX, KeyError};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use ecow::EcoString;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

const KEY_BYTES: usize = 32;
const FINGERPRINT_BYTES: usize = 8;
const FORMAT: &str = "v1";

/// Why a password cannot be kept, or cannot be had.
#[derive(Debug, Error)]
pub enum VaultError {
    #[error("there is no key to encrypt passwords by: set the variable ENCRYPTION_KEY, or name a file by concepts.key_file")]
    Missing,
    /// There are passwords that no key at hand decrypts.
    #[error(
        "the password of connection {conn_id} was encrypted by the key with the fingerprint {fingerprint}, which is not at hand: give it back \
         ({at}), or set the password again"
    )]
    Other { conn_id: Id, fingerprint: EcoString, at: String },
    #[error("the password of connection {0} in the log is damaged: set it again")]
    Damaged(Id),
    #[error("{0} is not a key: a key is 32 bytes, in Base64 or as 64 hexadecimal digits")]
    Malformed(String),
    #[error(transparent)]
    File(#[from] KeyError),
    #[error("the password could not be encrypted")]
    Refused,
}

impl VaultError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "encryption_key_missing",
            Self::Other { .. } => "encryption_key_wrong",
            Self::Damaged(_) => "password_damaged",
            Self::Malformed(_) => "encryption_key_malformed",
            Self::File(error) => error.code(),
            Self::Refused => "encryption_refused",
        }
    }
}

/// Where keys come from.
#[derive(Clone, Debug, Default)]
pub enum KeySource {
    /// Set by the configuration or the environment.
    Given(Secret),
    File(PathBuf),
    /// A remote store, and nothing set: passwords cannot be kept.
    #[default]
    None,
}

impl KeySource {
    pub fn of(config: &Config) -> Self {
        let own = &config.concepts;
        match (&own.encryption_key, &own.key_file) {
            (Some(keys), _) => Self::Given(keys.clone()),
            (None, Some(path)) => Self::File(path.clone()),
            (None, None) if config.data.store_url.is_none() => Self::File(config.data.dir.join("concepts.key")),
            (None, None) => Self::None,
        }
    }
}

struct Key {
    aead: RandomizedNonceKey,
    fingerprint: EcoString,
}

impl Key {
    fn new(secret: &[u8; KEY_BYTES]) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"desireline connections");
        let aead = RandomizedNonceKey::new(&AES_256_GCM, secret).expect("a key of AES-256 has 32 bytes");
        Self { aead, fingerprint: privacy::hex(&tag.as_ref()[..FINGERPRINT_BYTES]) }
    }
}

/// Keys, the one in force first.
type Ring = Arc<Vec<Key>>;

/// The keys of a list; there is at least one.
fn ring<'a>(texts: impl Iterator<Item = (String, &'a str)>) -> Result<Ring, VaultError> {
    let mut seen = BTreeSet::new();
    let mut keys = Vec::new();
    for (place, text) in texts.filter(|(_, text)| !text.is_empty()) {
        let secret = secret(text).ok_or(VaultError::Malformed(place))?;
        if seen.insert(secret) {
            keys.push(Key::new(&secret));
        }
    }
    if keys.is_empty() || keys.len() > KEYS_MAX {
        return Err(VaultError::Malformed(format!("a list of {} keys", keys.len())));
    }
    Ok(Arc::new(keys))
}

fn secret(text: &str) -> Option<[u8; KEY_BYTES]> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let base64 = |alphabet| GeneralPurpose::new(alphabet, lenient).decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    privacy::unhex(text).or_else(|| base64(&base64::alphabet::STANDARD)).or_else(|| base64(&base64::alphabet::URL_SAFE))
}

fn given(text: &str) -> Result<Ring, VaultError> {
    ring(text.split(',').enumerate().map(|(n, key)| (format!("the {}. part of the encryption key", n + 1), key.trim())))
}

fn read(path: &Path) -> Result<Ring, VaultError> {
    let text = privacy::read(path)?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.starts_with('#'));
    ring(lines.map(|(n, line)| (format!("line {} of the key file {}", n + 1, path.display()), line)))
}

/// Whether a text is what `concepts.encryption_key` takes.
pub fn check_given(text: &str) -> Result<(), VaultError> {
    given(text).map(drop)
}

/// Encrypts and decrypts the passwords of a server's connections.
pub struct Vault {
    source: KeySource,
    /// Nothing until it has been read.
    ring: Mutex<Option<Ring>>,
}

impl Vault {
    pub fn new(source: KeySource) -> Self {
        Self { source, ring: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Ring>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys, read once; nothing when there are none yet.
    fn keys(&self) -> Result<Option<Ring>, VaultError> {
        let mut ring = self.lock();
        if ring.is_none() {
            *ring = match &self.source {
                KeySource::None => None,
                KeySource::Given(keys) => Some(given(&keys.0)?),
                KeySource::File(path) => match read(path) {
                    Err(VaultError::File(KeyError::Io { source, .. })) if source.kind() == io::ErrorKind::NotFound => None,
                    outcome => Some(outcome?),
                },
            };
        }
        Ok(ring.clone())
    }

    /// Sees to it that there is a key to encrypt by; a file is made when `may_make` says that nothing has been encrypted yet. Blocks.
    pub fn prepare(&self, may_make: bool) -> Result<(), VaultError> {
        if self.keys()?.is_some() {
            return Ok(());
        }
        let KeySource::File(path) = &self.source else { return Err(VaultError::Missing) };
        if !may_make {
            // Whoever needs it is told which key is missing.
            return Ok(());
        }
        let mut ring = self.lock();
        if ring.is_none() {
            privacy::write(path, &format!("{}\n", privacy::fresh()?))?;
            tracing::info!(path = %path.display(), "a key for passwords of connections has been made; keep a copy of it in a safe place");
            *ring = Some(read(path)?);
        }
        Ok(())
    }

    /// How messages say where keys are expected.
    fn place(&self) -> String {
        match &self.source {
            KeySource::File(path) => format!("the key file {}", path.display()),
            _ => "ENCRYPTION_KEY".to_owned(),
        }
    }

    fn other(&self, conn_id: Id, fingerprint: &str) -> VaultError {
        VaultError::Other { conn_id, fingerprint: fingerprint.into(), at: self.place() }
    }

    /// Whether there is the key for what was sealed; does not decrypt.
    pub fn check(&self, conn_id: Id, sealed: &str) -> Result<(), VaultError> {
        let (fingerprint, _) = parts(sealed).ok_or(VaultError::Damaged(conn_id))?;
        let keys = self.keys()?;
        let has_key = keys.is_some_and(|keys| keys.iter().any(|key| key.fingerprint == fingerprint));
        if has_key { Ok(()) } else { Err(self.other(conn_id, fingerprint)) }
    }

    /// Encrypts a password by the key in force; after [`Vault::prepare`].
    pub fn seal(&self, conn_id: Id, password: &Secret) -> Result<String, VaultError> {
        let keys = self.keys()?.ok_or(VaultError::Missing)?;
        let mut text = password.0.clone().into_bytes();
        let nonce = keys[0].aead.seal_in_place_append_tag(bound(conn_id), &mut text).map_err(|_| VaultError::Refused)?;
        let bytes = [nonce.as_ref().as_slice(), &text].concat();
        Ok(format!("{FORMAT}.{}.{}", keys[0].fingerprint, privacy::hex(&bytes)))
    }

    pub fn open(&self, conn_id: Id, sealed: &str) -> Result<Secret, VaultError> {
        let damaged = || VaultError::Damaged(conn_id);
        let (fingerprint, bytes) = parts(sealed).ok_or_else(damaged)?;
        let keys = self.keys()?.unwrap_or_default();
        let key = keys.iter().find(|key| key.fingerprint == fingerprint).ok_or_else(|| self.other(conn_id, fingerprint))?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut text = text.to_vec();
        let text = key.aead.open_in_place(nonce, bound(conn_id), &mut text).map_err(|_| damaged())?;
        String::from_utf8(text.to_vec()).map(Secret).map_err(|_| damaged())
    }

    /// Whether a password is encrypted by the key in force.
    pub fn is_current(&self, sealed: &str) -> Result<bool, VaultError> {
        let keys = self.keys()?;
        Ok(keys.zip(parts(sealed)).is_some_and(|(keys, (fingerprint, _))| keys[0].fingerprint == fingerprint))
    }

    /// The first step of a rotation: a new key in front of those of the file. Given keys stay as they are: the first is the new one. Blocks.
    pub fn add_key(&self) -> Result<(), VaultError> {
        let keys = self.keys()?.ok_or(VaultError::Missing)?;
        let KeySource::File(path) = &self.source else { return Ok(()) };
        if keys.len() >= KEYS_MAX {
            return Err(VaultError::Malformed(format!("a list of more than {KEYS_MAX} keys")));
        }
        privacy::write(path, &format!("{}\n{}", privacy::fresh()?, privacy::read(path)?))?;
        *self.lock() = Some(read(path)?);
        Ok(())
    }

    /// The last step: only the key in force stays in the file. Once nothing needs the others. Blocks.
    pub fn drop_retired(&self) -> Result<(), VaultError> {
        let KeySource::File(path) = &self.source else { return Ok(()) };
        let text = privacy::read(path)?;
        let is_key = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        let first = text.lines().find(is_key).ok_or(VaultError::Missing)?;
        privacy::write(path, &format!("{}\n", first.trim()))?;
        *self.lock() = Some(read(path)?);
        Ok(())
    }

    /// Of the key in force.
    pub fn fingerprint(&self) -> Result<EcoString, VaultError> {
        Ok(self.keys()?.ok_or(VaultError::Missing)?[0].fingerprint.clone())
    }

    /// Of what is made by the keys given, rather than by a file.
    pub fn is_given(&self) -> bool {
        matches!(self.source, KeySource::Given(_))
    }
}

/// What a ciphertext is bound to.
fn bound(conn_id: Id) -> Aad<String> {
    Aad::from(format!("desireline connection {FORMAT} {conn_id}"))
}

/// The fingerprint, and nonce, ciphertext and tag.
fn parts(sealed: &str) -> Option<(&str, Vec<u8>)> {
    let (fingerprint, digits) = sealed.strip_prefix(FORMAT)?.strip_prefix('.')?.split_once('.')?;
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect();
    Some((fingerprint, bytes.filter(|_| digits.len().is_multiple_of(2))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    /// The same bytes.
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const OTHER: &str = "-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_8";

    fn vault(keys: &str) -> Vault {
        Vault::new(KeySource::Given(Secret(keys.to_owned())))
    }

    fn password() -> Secret {
        Secret("s3cret-päss".to_owned())
    }

    #[test]
    fn what_is_sealed_is_opened_for_its_own_connection_alone() {
        let vault = vault(HEX);
        let sealed = vault.seal(7, &password()).expect("sealed");
        assert!(!sealed.contains("s3cret") && !sealed.contains(&privacy::hex(b"s3cret").to_string()), "{sealed}");
        assert_ne!(sealed, vault.seal(7, &password()).expect("sealed"), "nonces are random");
        assert_eq!(vault.open(7, &sealed).expect("opened"), password());
        assert_eq!(vault.open(8, &sealed).expect_err("moved").code(), "password_damaged");
        let empty = Secret(String::new());
        assert_eq!(vault.open(1, &vault.seal(1, &empty).expect("sealed")).expect("opened"), empty);
        assert!(!format!("{:?} {:?}", KeySource::Given(Secret(HEX.to_owned())), password()).contains("0102"));
    }

    #[test]
    fn whatever_is_changed_is_noticed() {
        let vault = vault(HEX);
        let sealed = vault.seal(7, &password()).expect("sealed");
        for place in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(vault.open(7, &changed).is_err(), "{place}: {changed}");
            assert!(vault.open(7, &sealed[..place]).is_err(), "{place}");
        }
        for text in ["", "v1", "v1.", "v1..", "v2.a.b", "v1.0011.0", "v1.é.é", "plain"] {
            assert!(vault.open(7, text).is_err() && vault.check(7, text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_have_several_spellings_and_one_length() {
        let sealed = vault(HEX).seal(1, &password()).expect("sealed");
        for same in [BASE64, BASE64.trim_end_matches('='), &HEX.to_uppercase(), &format!(" {OTHER} , {BASE64},")] {
            assert_eq!(vault(same).open(1, &sealed).expect(same), password());
        }
        for wrong in ["", ",", "short", &HEX[2..], &format!("{HEX}00"), "AAECAwQFBgcICQoLDA0ODw==", &format!("{HEX},x"), &"é".repeat(32)] {
            let error = check_given(wrong).expect_err(wrong);
            assert_eq!(error.code(), "encryption_key_malformed", "{error}");
            assert!(!error.to_string().contains("0102"), "no error shows a key");
        }
    }

    #[test]
    fn a_wrong_key_is_told_by_its_fingerprint() {
        let sealed = vault(HEX).seal(3, &password()).expect("sealed");
        let wrong = vault(OTHER);
        for error in [wrong.open(3, &sealed).expect_err("wrong"), wrong.check(3, &sealed).expect_err("wrong")] {
            let fingerprint = vault(HEX).fingerprint().expect("a key");
            assert_eq!(error.code(), "encryption_key_wrong");
            assert!(error.to_string().contains(fingerprint.as_str()) && error.to_string().contains("ENCRYPTION_KEY"), "{error}");
        }
        let both = vault(&format!("{OTHER},{HEX}"));
        assert!(both.check(3, &sealed).is_ok() && !both.is_current(&sealed).expect("keys"));
        assert!(both.is_current(&both.seal(3, &password()).expect("sealed")).expect("keys"));
        let none = Vault::new(KeySource::None);
        let error = none.prepare(true).expect_err("no key");
        assert!(error.code() == "encryption_key_missing" && error.to_string().contains("ENCRYPTION_KEY"), "{error}");
    }

    #[test]
    fn a_file_is_made_on_first_need_and_never_in_place_of_a_lost_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data").join("concepts.key");
        let open = || Vault::new(KeySource::File(path.clone()));
        let vault = open();
        assert!(vault.check(1, "v1.00.00").is_err() && !path.exists(), "looking makes none");
        vault.prepare(true).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let sealed = vault.seal(1, &password()).expect("sealed");
        assert_eq!(open().open(1, &sealed).expect("the next start reads it"), password());

        fs::remove_file(&path).expect("lost");
        let again = open();
        again.prepare(false).expect("nothing is made");
        assert!(!path.exists());
        let error = again.open(1, &sealed).expect_err("lost");
        assert!(error.code() == "encryption_key_wrong" && error.to_string().contains("concepts.key"), "{error}");
        assert_eq!(again.seal(2, &password()).expect_err("lost").code(), "encryption_key_missing");

        fs::write(&path, HEX).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("permitted");
        assert_eq!(open().prepare(true).expect_err("open to everybody").code(), "key_file_unfit");
    }

    #[test]
    fn a_rotation_keeps_older_keys_until_its_last_step() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("concepts.key");
        let vault = Vault::new(KeySource::File(path.clone()));
        vault.prepare(true).expect("made");
        let before = vault.seal(1, &password()).expect("sealed");
        vault.add_key().expect("a second key");
        assert!(!vault.is_current(&before).expect("keys"));
        // A crash here: both keys are in the file.
        let restarted = Vault::new(KeySource::File(path.clone()));
        assert_eq!(restarted.open(1, &before).expect("the old key is there"), password());
        let after = restarted.seal(1, &password()).expect("sealed");
        restarted.drop_retired().expect("dropped");
        let last = Vault::new(KeySource::File(path.clone()));
        assert_eq!(last.open(1, &after).expect("opened"), password());
        assert_eq!(last.open(1, &before).expect_err("retired").code(), "encryption_key_wrong");
        assert_eq!(fs::read_to_string(&path).expect("readable").lines().count(), 1);
    }
}
