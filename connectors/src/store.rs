//! The object store under the log and the cold parts: a local folder by default, S3 in production.
//!
//! What it promises:
//! - `put_if_absent` is atomic and durable: when it answers [`Put::Created`] the whole object lies on stable storage under
//!   its name. Locally that is a staged file, fsync, hard link, fsync of the directory (about 0.4 ms); remotely one PUT
//!   with `If-None-Match: *`.
//! - An object is never seen half written. A crash may leave a staged file behind (`name#1`); listings do not show those and
//!   [`Store::remove_unfinished`] deletes them.
//! - Reads are retried when the failure is transient, at most `attempts_max` times with doubling pauses. Writes are tried
//!   once: after [`StoreError::Unavailable`] nobody knows whether the object exists, and only the caller's protocol can tell.
//! - Every error has a stable [`StoreError::code`] and, where a person can do something about it, a hint.
//!
//! # Known limitations
//! - Locally there are no timeouts: a disk that hangs, hangs the caller.
//! - The lock of [`Store::lock`] is advisory (`flock`) and exists only locally; on S3 the fence of the log does its work.

mod replace;

pub use replace::{Replaced, Upload};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// What went wrong with an object.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("{object} does not exist")]
    NotFound { object: String },
    /// Transient or unknown: a write may or may not have happened.
    #[error("{object}: the store does not answer: {detail}")]
    Unavailable { object: String, detail: String },
    #[error("{object}: no space left: {detail}")]
    NoSpace { object: String, detail: String },
    #[error("{object}: cannot be written: {detail}")]
    ReadOnly { object: String, detail: String },
    #[error("{object}: access denied: {detail}")]
    Denied { object: String, detail: String },
    #[error("store `{url}`: {detail}")]
    Config { url: String, detail: String },
    #[error("{path} is locked by another process")]
    Locked { path: String },
}

impl StoreError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "store_not_found",
            Self::Unavailable { .. } => "store_unavailable",
            Self::NoSpace { .. } => "store_no_space",
            Self::ReadOnly { .. } => "store_read_only",
            Self::Denied { .. } => "store_denied",
            Self::Config { .. } => "store_config",
            Self::Locked { .. } => "store_locked",
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "the object was deleted, or the store is not the one the log was written to",
            Self::Unavailable { .. } => "check the network and the store's own health; the operation can be repeated",
            Self::NoSpace { .. } => "free some space or enlarge the volume; nothing that was acknowledged is lost",
            Self::ReadOnly { .. } => "make the folder writable for the server's user, or choose another data folder",
            Self::Denied { .. } => "check the keys and the rights of the bucket or folder",
            Self::Config { .. } => "check the store's url and options in the configuration",
            Self::Locked { .. } => "stop the other server first, or give this one a data folder of its own",
        }
    }

    /// Whether the same operation may succeed later without anybody's help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    fn of(object: &str, error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let (object, detail) = (object.to_owned(), error.to_string());
        match error {
            E::NotFound { .. } => return Self::NotFound { object },
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => return Self::Denied { object, detail },
            // Listings of a bucket that does not exist come as an unspecific error with S3's own code in it.
            E::Generic { .. } if detail.contains("<Code>NoSuchBucket</Code>") => {
                return Self::Config { url: object, detail: "the bucket does not exist".to_owned() };
            }
            _ => {}
        }
        match io_error(error) {
            Some(io) => Self::of_io(object, io),
            None => Self::Unavailable { object, detail },
        }
    }

    fn of_io(object: String, error: &io::Error) -> Self {
        let detail = error.to_string();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::NoSpace { object, detail },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly { object, detail },
            io::ErrorKind::NotFound => Self::NotFound { object },
            _ => Self::Unavailable { object, detail },
        }
    }
}

fn io_error(error: &object_store::Error) -> Option<&io::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return Some(io);
        }
        source = inner.source();
    }
    None
}

/// The answer of a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Created,
    /// Something, perhaps an earlier attempt of our own, has that name.
    Exists,
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    pub name: String,
    pub bytes: u64,
    pub tag: Tag,
}

/// Tells an object from another that had or will have the same name; empty where the store has no such thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tag(String);

impl Tag {
    fn of(meta: &ObjectMeta) -> Self {
        Self(meta.e_tag.as_deref().unwrap_or_default().trim_matches('"').to_owned())
    }

    /// Whether both may be the same object.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.is_empty() || other.0.is_empty() || self == other
    }
}

/// How long to wait for a remote store and how often to ask again.
#[derive(Clone, Debug)]
pub struct StoreLimits {
    pub read_timeout: Duration,
    pub write_timeout: Duration,
    /// Attempts of one read, at least 1.
    pub attempts_max: u32,
    /// The first pause between attempts; doubles up to 64 times this.
    pub backoff: Duration,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(15),
            attempts_max: 5,
            backoff: Duration::from_millis(50),
        }
    }
}

/// A handle to one store; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    objects: Arc<dyn ObjectStore>,
    /// The folder, of a local store.
    root: Option<PathBuf>,
    name: String,
    limits: StoreLimits,
    /// Whether operations are subject to timeouts.
    remote: bool,
}

/// Held for as long as its owner writes; the operating system releases it when the process dies.
#[derive(Debug)]
pub struct StoreLock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Store {
    /// Opens a folder (created if absent), a `file://` url or `s3://bucket/prefix`. `options` are object_store's names
    /// (`aws_endpoint`, `aws_access_key_id`, …); without them the usual environment variables apply.
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self, StoreError> {
        if let Some(rest) = url.strip_prefix("s3://") {
            return Self::open_s3(url, rest, options);
        }
        let config = |detail: String| StoreError::Config { url: url.to_owned(), detail };
        let root = match url.strip_prefix("file://") {
            Some(_) => url::Url::parse(url)
                .map_err(|error| config(error.to_string()))?
                .to_file_path()
                .map_err(|()| config("is not a local path".to_owned()))?,
            None if url.contains("://") => return Err(config("unknown scheme; use a folder, file:// or s3://".to_owned())),
            None if url.is_empty() => return Err(config("is empty".to_owned())),
            None => PathBuf::from(url),
        };
        Self::open_folder(root)
    }

    fn open_folder(root: PathBuf) -> Result<Self, StoreError> {
        let name = root.display().to_string();
        let failed = |error: io::Error| match StoreError::of_io(name.clone(), &error) {
            StoreError::Unavailable { .. } | StoreError::NotFound { .. } => {
                StoreError::Config { url: name.clone(), detail: format!("cannot be created: {error}") }
            }
            other => other,
        };
        if !root.is_dir() {
            std::fs::create_dir_all(&root).map_err(failed)?;
            // The folder's own entry must survive a crash, too.
            let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(std::path::Path::new("."));
            File::open(parent).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        let root = root.canonicalize().map_err(failed)?;
        let objects = LocalFileSystem::new_with_prefix(&root).map_err(|error| StoreError::of(&name, &error))?.with_fsync(true);
        let inner = Inner { objects: Arc::new(objects), root: Some(root), name, limits: StoreLimits::default(), remote: false };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn open_s3(url: &str, rest: &str, options: &BTreeMap<String, String>) -> Result<Self, StoreError> {
        let config = |detail: String| StoreError::Config { url: url.to_owned(), detail };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(config("names no bucket".to_owned()));
        }
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        for (key, value) in options {
            let key = key.to_ascii_lowercase().parse().map_err(|_| config(format!("unknown option `{key}`")))?;
            builder = builder.with_config(key, value);
        }
        let s3 = builder.build().map_err(|error| config(error.to_string()))?;
        let prefix = prefix.trim_matches('/');
        let objects: Arc<dyn ObjectStore> = match prefix {
            "" => Arc::new(s3),
            _ => Arc::new(PrefixStore::new(s3, Path::from(prefix))),
        };
        let limits = StoreLimits::default();
        Ok(Self { inner: Arc::new(Inner { objects, root: None, name: url.to_owned(), limits, remote: true }) })
    }

    /// Any other store; `remote` turns timeouts on.
    pub fn from_objects(objects: Arc<dyn ObjectStore>, limits: StoreLimits, remote: bool) -> Self {
        let name = objects.to_string();
        Self { inner: Arc::new(Inner { objects, root: None, name, limits, remote }) }
    }

    /// The same store under other limits.
    pub fn with_limits(&self, limits: StoreLimits) -> Self {
        let Inner { objects, root, name, remote, .. } = self.inner.as_ref();
        let inner = Inner { objects: objects.clone(), root: root.clone(), name: name.clone(), limits, remote: *remote };
        Self { inner: Arc::new(inner) }
    }

    /// The folder or url, for messages.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// A local write that failed has not happened; a remote one may still land.
    pub fn is_local(&self) -> bool {
        self.inner.root.is_some()
    }

    pub fn limits(&self) -> &StoreLimits {
        &self.inner.limits
    }

    pub async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        Ok(self.get_tagged(name, None).await?.0)
    }

    /// The bytes in `range`; fewer when the object ends before the range does.
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        Ok(self.get_tagged(name, Some(range)).await?.0)
    }

    /// The object, or a range of it, and which object it is.
    pub async fn get_tagged(&self, name: &str, range: Option<Range<u64>>) -> Result<(Bytes, Tag), StoreError> {
        let path = Path::from(name);
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let get = || {
            async {
                let found = self.inner.objects.get_opts(&path, options.clone()).await?;
                let tag = Tag::of(&found.meta);
                Ok((found.bytes().await?, tag))
            }
            .boxed()
        };
        self.read(name, get).await
    }

    /// Several ranges of one object, in as few requests as is sensible.
    pub async fn get_ranges(&self, name: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        let path = Path::from(name);
        self.read(name, || self.inner.objects.get_ranges(&path, ranges)).await
    }

    /// Creates the object; one attempt. See the module's promises.
    pub async fn put_if_absent(&self, name: &str, payload: Vec<Bytes>) -> Result<Put, StoreError> {
        let path = Path::from(name);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let payload = PutPayload::from_iter(payload);
        let limit = self.inner.limits.write_timeout;
        match self.timed(name, limit, self.inner.objects.put_opts(&path, payload, options)).await? {
            Ok(_) => Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(Put::Exists),
            Err(error) => Err(StoreError::of(name, &error)),
        }
    }

    /// All objects below the folder `prefix`, by name; only names after `after` when it is given.
    pub async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>, StoreError> {
        let prefix = Path::from(prefix);
        let after = after.map(Path::from);
        let mut all = self
            .read(prefix.as_ref(), || {
                let stream = match &after {
                    Some(after) => self.inner.objects.list_with_offset(Some(&prefix), after),
                    None => self.inner.objects.list(Some(&prefix)),
                };
                stream
                    .map_ok(|meta| ObjectInfo { name: meta.location.to_string(), bytes: meta.size, tag: Tag::of(&meta) })
                    .try_collect::<Vec<_>>()
                    .boxed()
            })
            .await?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Deletes the object; that it does not exist is no error.
    pub async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = Path::from(name);
        match self.read(name, || self.inner.objects.delete(&path).boxed()).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes creations and deletions in `folder` survive a power failure; nothing to do remotely.
    pub async fn sync_folder(&self, folder: &str) -> Result<(), StoreError> {
        let Some(root) = &self.inner.root else { return Ok(()) };
        let path = root.join(folder);
        let synced = tokio::task::spawn_blocking(move || match File::open(&path) {
            Ok(folder) => folder.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        })
        .await;
        let detail = |detail: String| StoreError::Unavailable { object: folder.to_owned(), detail };
        synced.map_err(|error| detail(error.to_string()))?.map_err(|error| StoreError::of_io(folder.to_owned(), &error))
    }

    /// Takes the lock of `folder`, so that a second process refuses to start. `None` where there is no such thing.
    pub fn lock(&self, folder: &str) -> Result<Option<StoreLock>, StoreError> {
        let Some(root) = &self.inner.root else { return Ok(None) };
        let folder = root.join(folder);
        let path = folder.join(".lock");
        let name = path.display().to_string();
        let failed = |error: io::Error| StoreError::of_io(name.clone(), &error);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(StoreLock(file))),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: name }),
            // A file system without locks: the fence alone protects the log.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Deletes what crashed uploads left in `folder`. Only for whoever holds its lock.
    pub fn remove_unfinished(&self, folder: &str) -> Result<u64, StoreError> {
        let Some(root) = &self.inner.root else { return Ok(0) };
        let mut removed = 0;
        let mut folders = vec![root.join(folder)];
        while let Some(folder) = folders.pop() {
            let failed = |error: io::Error| StoreError::of_io(folder.display().to_string(), &error);
            let entries = match std::fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(failed)?,
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                if entry.file_type().map_err(failed)?.is_dir() {
                    folders.push(entry.path());
                } else if is_unfinished(&entry.file_name().to_string_lossy()) {
                    std::fs::remove_file(entry.path()).map_err(failed)?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    async fn timed<T>(
        &self,
        name: &str,
        limit: Duration,
        operation: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<Result<T, object_store::Error>, StoreError> {
        if !self.inner.remote {
            return Ok(operation.await);
        }
        let late = |_| StoreError::Unavailable { object: name.to_owned(), detail: format!("no answer within {} ms", limit.as_millis()) };
        tokio::time::timeout(limit, operation).await.map_err(late)
    }

    async fn read<'a, T>(
        &self,
        name: &str,
        operation: impl Fn() -> BoxFuture<'a, Result<T, object_store::Error>>,
    ) -> Result<T, StoreError> {
        let mut attempt = 1;
        loop {
            let result = match self.timed(name, self.inner.limits.read_timeout, operation()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => StoreError::of(name, &error),
                Err(error) => error,
            };
            if !result.is_retryable() || attempt >= self.inner.limits.attempts_max {
                return Err(result);
            }
            self.pause(attempt).await;
            attempt += 1;
        }
    }

    /// The pause after the given failed attempt (1, 2, …).
    pub async fn pause(&self, attempt: u32) {
        let backoff = self.inner.limits.backoff;
        if !backoff.is_zero() {
            tokio::time::sleep(backoff * (1 << attempt.clamp(1, 7).saturating_sub(1))).await;
        }
    }
}

/// The staged name of an upload: `#` and a number at the end.
fn is_unfinished(name: &str) -> bool {
    matches!(name.rsplit_once('#'), Some((_, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&folder.path().join("a/b").display().to_string(), &BTreeMap::new()).expect("opens");
        (folder, store)
    }

    #[tokio::test]
    async fn creates_once_and_reads_back() {
        let (_folder, store) = store();
        let payload = || vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        assert_eq!(store.put_if_absent("x/1", payload()).await.expect("put"), Put::Created);
        assert_eq!(store.put_if_absent("x/1", vec![Bytes::from_static(b"other")]).await.expect("put"), Put::Exists);
        assert_eq!(store.get("x/1").await.expect("get"), "onetwo");
        assert_eq!(store.get_range("x/1", 2..100).await.expect("get"), "etwo");
        store.put_if_absent("x/2", payload()).await.expect("put");
        let names = |all: Vec<ObjectInfo>| all.into_iter().map(|o| o.name).collect::<Vec<_>>();
        assert_eq!(names(store.list("x", None).await.expect("list")), ["x/1", "x/2"]);
        assert_eq!(names(store.list("x", Some("x/1")).await.expect("list")), ["x/2"]);
        assert!(store.list("y", None).await.expect("list").is_empty());
        store.delete("x/1").await.expect("delete");
        store.delete("x/1").await.expect("deleting twice is no error");
        assert!(store.get("x/1").await.expect_err("gone").is_not_found());
        store.sync_folder("x").await.expect("sync");
    }

    #[tokio::test]
    async fn unfinished_uploads_are_invisible_and_removed() {
        let (folder, store) = store();
        store.put_if_absent("x/1", vec![Bytes::from_static(b"one")]).await.expect("put");
        std::fs::write(folder.path().join("a/b/x/2#1"), b"half").expect("write");
        assert_eq!(store.list("x", None).await.expect("list").len(), 1);
        assert_eq!(store.put_if_absent("x/2", vec![Bytes::from_static(b"two")]).await.expect("put"), Put::Created);
        assert_eq!(store.remove_unfinished("x").expect("removes"), 1);
        assert_eq!(store.get("x/2").await.expect("get"), "two");
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let (_folder, store) = store();
        let lock = store.lock("log/0").expect("locks");
        assert_eq!(store.lock("log/0").expect_err("refused").code(), "store_locked");
        drop(lock);
        assert!(store.lock("log/0").expect("free again").is_some());
    }

    #[test]
    fn a_bad_url_is_a_configuration_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        std::fs::write(&file, b"").expect("write");
        for url in ["", "ftp://x", "s3://", &file.join("below").display().to_string()] {
            assert_eq!(Store::open(url, &BTreeMap::new()).expect_err(url).code(), "store_config", "{url}");
        }
        let options = BTreeMap::from([("no_such_option".to_owned(), "1".to_owned())]);
        assert_eq!(Store::open("s3://bucket", &options).expect_err("option").code(), "store_config");
    }

    #[test]
    fn failures_of_the_disk_have_their_own_codes() {
        let code = |kind: io::ErrorKind| {
            let source = Box::new(io::Error::from(kind));
            StoreError::of("x", &object_store::Error::Generic { store: "local", source }).code()
        };
        assert_eq!(code(io::ErrorKind::StorageFull), "store_no_space");
        assert_eq!(code(io::ErrorKind::ReadOnlyFilesystem), "store_read_only");
        assert_eq!(code(io::ErrorKind::PermissionDenied), "store_read_only");
        assert_eq!(code(io::ErrorKind::Other), "store_unavailable");
    }
}
