//! A disk that is full, and then larger.

use super::{Site, Story, built, services};
use desireline::projections::{Standing, Target};
use desireline_dataflows::changes::View;
use std::path::Path;
use std::process::{Command, Stdio};

/// A small file system in memory, which only root may mount. Unmounted at the end.
struct Disk(tempfile::TempDir);

fn run(program: &str, arguments: &[&str], folder: &Path) -> bool {
    let ended = Command::new(program).args(arguments).arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    ended.is_ok_and(|status| status.success())
}

impl Disk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], folder.path()) {
            return Some(Self(folder));
        }
        services::note_skipped("the right to mount a file system in memory");
        None
    }

    fn enlarge(&self, size: &str) {
        assert!(run("mount", &["-o", &format!("remount,size={size}")], self.0.path()), "the disk can be enlarged");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l"], self.0.path());
    }
}

#[tokio::test]
async fn a_full_disk_leaves_the_files_as_they_were_until_there_is_space() {
    let Some(disk) = Disk::mount("300k") else { return };
    let story = Story::random(2);
    let site = Site::folder(disk.0.path());
    let mut target = built(&site, &story, 5, &View::ALL).await;
    let mut at = 5;
    let error = loop {
        assert!(at < story.last(), "the disk is never full");
        match target.apply(&story.changeset(at, at + 3)).await {
            Ok(_) => at += 3,
            Err(error) => break error,
        }
    };
    assert!(error.code() == "refused" && error.to_string().contains("free some space"), "{error}");
    site.compare(&story, at, &View::ALL, "while the disk is full").await;
    // It is tried again, in vain.
    assert_eq!(target.open(1).await.unwrap(), Standing::At(at));
    let hidden = site.store().list("_desireline", None).await.unwrap();
    assert_eq!(hidden.len(), 1, "what was written in vain takes no space: {hidden:?}");
    assert_eq!(target.apply(&story.changeset(at, at + 3)).await.unwrap_err().code(), "refused");
    disk.enlarge("64m");
    assert_eq!(target.open(1).await.unwrap(), Standing::At(at));
    target.apply(&story.changeset(at, story.last())).await.unwrap();
    site.compare(&story, story.last(), &View::ALL, "with space again").await;
}
