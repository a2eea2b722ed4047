//! One server per data folder.
//!
//! The log fences writers by itself; the lock makes the refusal of a second server on the same machine immediate and clear,
//! before it has touched anything. The operating system releases it when the process ends, however it ends.

use super::failure::{Exit, Failure};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

const NAME: &str = "server.lock";

/// Held as long as it lives.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Makes the folder when it is absent.
    pub fn acquire(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(NAME);
        std::fs::create_dir_all(folder).map_err(|error| unusable(folder, &error))?;
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|error| unusable(folder, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(folder, &mut file)),
            // A file system without locks: the log's fence alone must do.
            Err(TryLockError::Error(error)) => tracing::warn!(path = %path.display(), %error, "the data folder cannot be locked"),
        }
        // Only for people who read it; the lock itself does not depend on it.
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|error| unusable(folder, &error))?;
        Ok(Self { _file: file })
    }
}

fn held(folder: &Path, file: &mut File) -> Failure {
    let mut text = String::new();
    // Without its number the message is still right.
    let _ = file.read_to_string(&mut text);
    let by = text.trim().parse::<u32>().map(|pid| format!(" (process {pid})")).unwrap_or_default();
    Failure::new(Exit::Unavailable, format!("another server{by} is using the data folder {}", folder.display()))
        .detail("a log has one writer; a second one would fence the first")
        .hint("stop that server, or give this one a folder of its own with --data DIR")
}

fn unusable(folder: &Path, error: &std::io::Error) -> Failure {
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => "the folder must be writable by this user",
        std::io::ErrorKind::StorageFull => "free some space on that disk",
        _ => "name another folder with --data DIR",
    };
    Failure::new(Exit::Unavailable, format!("the data folder {} cannot be used", folder.display())).detail(error).hint(hint)
}

/// The local folder that a store's URL names; `None` for a remote store.
pub fn local_folder(store_url: &str) -> Option<PathBuf> {
    match url::Url::parse(store_url) {
        Ok(url) if url.scheme() == "file" => url.to_file_path().ok(),
        // A single letter is a drive, not a scheme.
        Ok(url) if url.scheme().len() > 1 => None,
        _ => Some(PathBuf::from(store_url)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("new").join("data");
        let first = DataLock::acquire(&data).expect("free");
        let failure = DataLock::acquire(&data).expect_err("held");
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.primary.contains(&std::process::id().to_string()), "{failure:?}");
        drop(first);
        DataLock::acquire(&data).expect("free again");
    }

    #[test]
    fn a_folder_that_is_a_file_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let failure = DataLock::acquire(file.path()).expect_err("a file");
        assert!(failure.primary.contains(&file.path().display().to_string()));
    }

    #[test]
    fn remote_stores_have_no_folder() {
        assert_eq!(local_folder("./data"), Some("./data".into()));
        assert_eq!(local_folder("/data"), Some("/data".into()));
        assert_eq!(local_folder("file:///data/x"), Some("/data/x".into()));
        assert_eq!(local_folder("s3://bucket/prefix"), None);
    }
}
