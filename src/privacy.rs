//! Pseudonyms of devices: what the log knows them by instead of their MAC addresses.
//!
//! # What it promises
//! - A pseudonym is `p` and 32 hexadecimal digits: the first 128 bits of the HMAC-SHA-256 of the id's normal form. Without the key nobody
//!   can tell which of the 2^48 addresses it stands for; with it, the same id always has the same one. Two of a billion devices share
//!   one with a chance of about 10^-21.
//! - The secret is only in the key file: neither in the log, nor in the store, nor in any output. What the log has of a key is its
//!   *fingerprint* (64 bits, made with the key itself), by which a lost or swapped file is noticed.
//! - The key in force makes every new pseudonym. Retired ones only serve to find what was written under them, when a device is erased.
//!
//! # The key file
//! One key per line, 64 hexadecimal digits, the one in force first; blank lines and those that begin with `#` are skipped. It is made at
//! the first start, readable by its owner alone. A file that everybody can read, or that others can write, is refused. At most
//! [`KEYS_MAX`] keys.
//!
//! # Recovery
//! The file is replaced as a whole (written beside, synchronised, renamed), so a crash leaves the old or the new one. A lost file cannot
//! be made again: keep a copy apart from those of the data, which are worth more to a thief with it.
//!
//! # Known limitations
//! - A key that is put in front makes every device a new one from then on. Nothing joins the two.
//! - The file is read at the start only.

use aws_lc_rs::hmac;
use desireline_records::validate::Pseudonyms;
use ecow::{EcoString, eco_format};
use rand::TryRngCore;
use rand::rngs::OsRng;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Keys in a file, at most: an erasure looks under each.
pub const KEYS_MAX: usize = 64;
const KEY_BYTES: usize = 32;
/// A larger file is no key file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a pseudonym.
const PSEUDONYM_BYTES: usize = 16;
const FINGERPRINT_BYTES: usize = 8;

/// Why there are no keys.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error("the key file {} cannot be {what}: {source}", path.display())]
    Io { path: PathBuf, what: &'static str, source: io::Error },
    #[error("line {line} of the key file {} is not a key of {} hexadecimal digits", path.display(), KEY_BYTES * 2)]
    Malformed { path: PathBuf, line: usize },
    #[error("the key file {} {detail}", path.display())]
    Unfit { path: PathBuf, detail: String },
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
}

impl KeyError {
    /// There is no file, and none could be made.
    pub fn is_unwritable(&self) -> bool {
        matches!(self, Self::Io { what: "written", .. })
    }

    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "key_file_io",
            Self::Malformed { .. } => "key_file_malformed",
            Self::Unfit { .. } => "key_file_unfit",
            Self::Random(_) => "key_random",
        }
    }
}

/// The keys of a file; never empty.
#[derive(Debug)]
pub struct Keys {
    in_force: Key,
    retired: Vec<Key>,
}

struct Key {
    hmac: hmac::Key,
    fingerprint: EcoString,
}

/// What an HMAC is made of begins with one of these, so that no id has the fingerprint for its pseudonym.
const OF_KEY: u8 = 0;
const OF_ID: u8 = 1;

impl Key {
    fn new(secret: &[u8]) -> Self {
        let mut key = Self { hmac: hmac::Key::new(hmac::HMAC_SHA256, secret), fingerprint: EcoString::new() };
        key.fingerprint = hex(&key.hash(OF_KEY, b"")[..FINGERPRINT_BYTES]);
        key
    }

    fn hash(&self, kind: u8, text: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.hmac);
        context.update(&[kind]);
        context.update(text);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.sign().as_ref());
        hash
    }

    fn pseudonym(&self, id: &str) -> EcoString {
        eco_format!("p{}", hex(&self.hash(OF_ID, id.as_bytes())[..PSEUDONYM_BYTES]))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.fingerprint)
    }
}

impl Pseudonyms for Keys {
    fn pseudonym(&self, id: &str) -> EcoString {
        self.in_force.pseudonym(id)
    }
}

impl Keys {
    /// Reads a key file; the first start makes it.
    pub fn open_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::open(path) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                write(path, &format!("{}\n", fresh()?))?;
                tracing::info!(path = %path.display(), "a key for pseudonyms of devices has been made; keep a copy of it in a safe place");
                Self::open(path)
            }
            outcome => outcome,
        }
    }

    /// Reads a key file.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let text = read(path)?;
        let mut keys = Vec::new();
        let mut seen = BTreeSet::new();
        for (line, text) in text.lines().map(str::trim).enumerate() {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let secret = unhex(text).ok_or_else(|| KeyError::Malformed { path: path.to_owned(), line: line + 1 })?;
            if seen.insert(secret) {
                keys.push(Key::new(&secret));
            }
        }
        if keys.len() > KEYS_MAX {
            return Err(unfit(path, format!("has more than {KEYS_MAX} keys")));
        }
        let mut keys = keys.into_iter();
        let in_force = keys.next().ok_or_else(|| unfit(path, "has no key"))?;
        Ok(Self { in_force, retired: keys.collect() })
    }

    /// Puts a new key in front of those of a file, and answers its fingerprint.
    pub fn rotate(path: &Path) -> Result<EcoString, KeyError> {
        let keys = Self::open(path)?;
        if keys.retired.len() + 1 >= KEYS_MAX {
            return Err(unfit(path, format!("has {KEYS_MAX} keys already, which is the limit")));
        }
        write(path, &format!("{}\n{}", fresh()?, read(path)?))?;
        Ok(Self::open(path)?.in_force.fingerprint)
    }

    /// Of the key in force.
    pub fn fingerprint(&self) -> &EcoString {
        &self.in_force.fingerprint
    }

    /// Of every key.
    pub fn fingerprints(&self) -> impl Iterator<Item = &EcoString> {
        self.all().map(|key| &key.fingerprint)
    }

    /// What an id, in its normal form, is and was known by.
    pub fn pseudonyms(&self, id: &str) -> impl Iterator<Item = EcoString> {
        self.all().map(move |key| key.pseudonym(id))
    }

    fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.in_force).chain(&self.retired)
    }
}

fn unfit(path: &Path, detail: impl Into<String>) -> KeyError {
    KeyError::Unfit { path: path.to_owned(), detail: detail.into() }
}

pub(crate) fn read(path: &Path) -> Result<String, KeyError> {
    let fail = |source| KeyError::Io { path: path.to_owned(), what: "read", source };
    let metadata = fs::metadata(path).map_err(fail)?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(unfit(path, "is no file of keys"));
    }
    let mode = metadata.permissions().mode();
    if mode & 0o027 != 0 {
        return Err(unfit(path, format!("is open to others (its mode is {:03o}); make it 600", mode & 0o777)));
    }
    fs::read_to_string(path).map_err(fail)
}

/// Replaces the file as a whole.
#[expect(clippy::disallowed_methods, reason = "the file is synchronised before it, and its folder after it")]
pub(crate) fn write(path: &Path, text: &str) -> Result<(), KeyError> {
    let fail = |source| KeyError::Io { path: path.to_owned(), what: "written", source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(fail)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // What an interrupted attempt has left.
    drop(fs::remove_file(&beside));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(fail)?;
    // Whoever replaces a key, the server can still read it.
    let mode = match fs::metadata(path) {
        Ok(before) => {
            fchown(&file, Some(before.uid()), Some(before.gid())).map_err(fail)?;
            before.permissions().mode() & 0o777
        }
        Err(_) => 0o600,
    };
    let written = file.set_permissions(Permissions::from_mode(mode)).and_then(|()| file.write_all(text.as_bytes()));
    written.and_then(|()| file.sync_all()).map_err(fail)?;
    fs::rename(&beside, path).map_err(fail)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)
}

pub(crate) fn fresh() -> Result<EcoString, KeyError> {
    let mut secret = [0; KEY_BYTES];
    OsRng.try_fill_bytes(&mut secret).map_err(|error| KeyError::Random(error.to_string()))?;
    Ok(hex(&secret))
}

pub(crate) fn hex(bytes: &[u8]) -> EcoString {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

pub(crate) fn unhex(text: &str) -> Option<[u8; KEY_BYTES]> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or(0)).collect();
    (digits.len() == KEY_BYTES * 2).then_some(bytes)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("mac.keys");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("permitted");
        (folder, path)
    }

    #[test]
    fn a_pseudonym_is_the_hmac_of_the_id() {
        let (_folder, path) = file(A, 0o600);
        let keys = Keys::open(&path).expect("a key");
        // Of the byte 1 and the id: printf '\x01da:a1:19:00:ff:01' | openssl dgst -sha256 -mac HMAC -macopt hexkey:…
        assert_eq!(keys.pseudonym("da:a1:19:00:ff:01"), "pe5a242504b8c2ba97ce7bd6b70d5d977");
        assert_eq!(keys.fingerprint(), "e711546e3faad4c7");
        assert!(!format!("{keys:?}").contains("0102"), "no output holds the secret");
    }

    #[test]
    fn the_first_start_makes_a_key_that_only_its_owner_reads() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("data").join("mac.keys");
        let made = Keys::open_or_create(&path).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let read = Keys::open_or_create(&path).expect("read");
        assert_eq!(made.pseudonym("x"), read.pseudonym("x"), "the same key at the next start");
        let other = Keys::open_or_create(&folder.path().join("other.keys")).expect("made");
        assert_ne!(made.pseudonym("x"), other.pseudonym("x"), "keys are random");
        let left: Vec<_> = fs::read_dir(folder.path().join("data")).expect("a folder").collect();
        assert_eq!(left.len(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_rotated_key_makes_new_names_and_the_old_ones_are_found() {
        let (_folder, path) = file(&format!("# of this year\n{A}\n\n"), 0o600);
        let before = Keys::open(&path).expect("a key");
        let fingerprint = Keys::rotate(&path).expect("rotated");
        let after = Keys::open(&path).expect("two keys");
        assert_eq!(after.fingerprint(), &fingerprint);
        assert_ne!(after.pseudonym("x"), before.pseudonym("x"));
        let known: Vec<_> = after.pseudonyms("x").collect();
        assert_eq!(known, [after.pseudonym("x"), before.pseudonym("x")]);
        assert_eq!(after.fingerprints().nth(1), Some(before.fingerprint()));
        assert!(fs::read_to_string(&path).expect("readable").contains("# of this year"));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_key_file_is_refused_with_its_reason() {
        let many: String = (0..=KEYS_MAX).map(|n| format!("{n:064x}\n")).collect();
        for (text, mode, code, told) in [
            ("", 0o600, "key_file_unfit", "has no key"),
            ("# nothing\n", 0o600, "key_file_unfit", "has no key"),
            ("00ff\n", 0o600, "key_file_malformed", "line 1"),
            (&format!("{A}\n\n{}\n", A.replace('0', "g")), 0o600, "key_file_malformed", "line 3"),
            (&format!("{A}ab\n"), 0o600, "key_file_malformed", "line 1"),
            (&format!("é{}\n", &A[2..]), 0o600, "key_file_malformed", "line 1"),
            (A, 0o644, "key_file_unfit", "644"),
            (A, 0o620, "key_file_unfit", "620"),
            (&many, 0o600, "key_file_unfit", "64 keys"),
        ] {
            let (_folder, path) = file(text, mode);
            let error = Keys::open_or_create(&path).expect_err(told);
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(told) && error.to_string().contains("mac.keys"), "{error}");
            assert!(!error.to_string().contains(&A[..8]), "no error shows a key");
            assert_eq!(fs::read_to_string(&path).expect("readable"), text, "it is left as it is");
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(Keys::open(folder.path()).expect_err("a folder").code(), "key_file_unfit");
        assert_eq!(Keys::rotate(&folder.path().join("none")).expect_err("none").code(), "key_file_io");
        let (_folder, path) = file(A, 0o640);
        Keys::rotate(&path).expect("a group may read it");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o640, "and still may");
    }

    #[test]
    fn a_full_file_takes_no_further_key() {
        let full: String = (0..KEYS_MAX).map(|n| format!("{n:064x}\n")).collect();
        let (_folder, path) = file(&full, 0o600);
        assert_eq!(Keys::open(&path).expect("full").fingerprints().count(), KEYS_MAX);
        assert_eq!(Keys::rotate(&path).expect_err("full").code(), "key_file_unfit");
    }
}
