//! Which files of this machine a request may name.

use crate::runs::RunError;
use std::path::{Component, Path, PathBuf};

/// The file that `path` names, all links followed, when it lies inside one of the folders. A relative path starts at the
/// working directory. A file that does not exist is reported as such only when it would lie inside them: who may name paths
/// must not learn from the answer what exists elsewhere.
pub(super) fn allowed_file(path: &str, folders: &[PathBuf]) -> Result<PathBuf, RunError> {
    let outside = || RunError::user("path_not_allowed", format!("{path} does not lie in one of the allowed folders"));
    if path.is_empty() || path.contains('\0') {
        return Err(cannot_be_parsed(path));
    }
    let folders: Vec<PathBuf> = folders.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
    let inside = |file: &Path| folders.iter().any(|folder| file.starts_with(folder));
    match Path::new(path).canonicalize() {
        Ok(file) if !inside(&file) => Err(outside()),
        Ok(file) if !file.is_file() => Err(cannot_be_parsed(path)),
        Ok(file) => Ok(file),
        Err(_) => match existing_ancestor(Path::new(path)) {
            Some(ancestor) if inside(&ancestor) => Err(cannot_be_parsed(path)),
            _ => Err(outside()),
        },
    }
}

/// The nearest folder above a missing file, links followed. None when the rest of the path would lead upwards again.
fn existing_ancestor(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let mut ancestor = absolute.as_path();
    while let Some(parent) = ancestor.parent() {
        if matches!(ancestor.components().next_back(), Some(Component::ParentDir)) || ancestor.is_symlink() {
            return None;
        }
        ancestor = parent;
        if let Ok(found) = ancestor.canonicalize() {
            return Some(found);
        }
    }
    None
}

pub(super) fn cannot_be_parsed(path: &str) -> RunError {
    RunError::user("cannot_be_parsed", format!("{path} cannot be parsed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn code(path: &Path, folders: &[PathBuf]) -> String {
        match allowed_file(path.to_str().expect("text"), folders) {
            Ok(file) => file.file_name().expect("a file").to_string_lossy().into_owned(),
            Err(error) => error.code,
        }
    }

    #[test]
    fn only_files_inside_the_folders_whatever_the_path_looks_like() {
        let root = tempfile::tempdir().expect("a folder");
        let (open, closed) = (root.path().join("open"), root.path().join("closed"));
        fs::create_dir_all(open.join("deep")).expect("a folder");
        fs::create_dir_all(&closed).expect("a folder");
        fs::write(open.join("deep/a.csv"), "x").expect("a file");
        fs::write(closed.join("b.csv"), "x").expect("a file");
        fs::create_dir_all(root.path().join("open-not")).expect("a folder");
        fs::write(root.path().join("open-not/c.csv"), "x").expect("a file");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(closed.join("b.csv"), open.join("link.csv")).expect("a link");
            std::os::unix::fs::symlink(&closed, open.join("door")).expect("a link");
            std::os::unix::fs::symlink(closed.join("gone.csv"), open.join("dangling.csv")).expect("a link");
            std::os::unix::fs::symlink(open.join("deep/a.csv"), open.join("within.csv")).expect("a link");
        }
        let folders = [open.clone()];
        let cases = [
            (open.join("deep/a.csv"), "a.csv"),
            (open.join("within.csv"), "a.csv"),
            (open.join("deep/../deep/a.csv"), "a.csv"),
            (open.join("missing.csv"), "cannot_be_parsed"),
            (open.join("no/such/folder/a.csv"), "cannot_be_parsed"),
            (open.join("deep"), "cannot_be_parsed"),
            (closed.join("b.csv"), "path_not_allowed"),
            (closed.join("missing.csv"), "path_not_allowed"),
            (open.join("../closed/b.csv"), "path_not_allowed"),
            (open.join("../closed/missing.csv"), "path_not_allowed"),
            (open.join("missing/../../closed/b.csv"), "path_not_allowed"),
            (open.join("link.csv"), "path_not_allowed"),
            (open.join("dangling.csv"), "path_not_allowed"),
            (open.join("door/b.csv"), "path_not_allowed"),
            (open.join("door/missing.csv"), "path_not_allowed"),
            (root.path().join("open-not/c.csv"), "path_not_allowed"),
            (PathBuf::from("/etc/passwd"), "path_not_allowed"),
        ];
        for (path, expected) in cases {
            assert_eq!(code(&path, &folders), expected, "{}", path.display());
        }
        assert_eq!(code(&open.join("deep/a.csv"), &[]), "path_not_allowed");
        assert_eq!(allowed_file("", &folders).expect_err("empty").code, "cannot_be_parsed");
        assert_eq!(allowed_file("a\0b", &folders).expect_err("NUL").code, "cannot_be_parsed");
    }
}
