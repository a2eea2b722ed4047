//! Disks that are full and folders that cannot be written, at the start and in the middle.
//!
//! Small file systems in memory stand for such disks; only root may mount them. The folder without the right to write is made with
//! `chmod`, which root would not notice. So one of the two ways is there for everybody; the other one says that it is left out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::model::{Model, Observed, Rule, counter};
use crate::support::server::Server;
use crate::support::services;
use crate::support::wait::{DEADLINE, eventually};
use crate::{clicks, ingest};

const CONFIG: &str = "[engine]\ntick_every = \"200ms\"\n[log]\ncompaction_every = \"1h\"\n";

/// A file system of a few megabytes. Unmounted at the end.
struct Disk {
    folder: TempDir,
}

impl Disk {
    /// `None` after saying so where it cannot be mounted.
    fn mount(size: &str) -> Option<Disk> {
        let folder = TempDir::with_prefix("desireline-disk-").expect("a temporary folder can be made");
        let disk = Disk { folder };
        if disk.command("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]) {
            return Some(disk);
        }
        services::note_skipped("the right to mount a file system in memory");
        None
    }

    fn command(&self, program: &str, arguments: &[&str]) -> bool {
        run(program, arguments, self.folder.path())
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    let output = Command::new(program).args(arguments).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}

/// A folder that cannot be written as long as this lives: a file system that is read-only lies over it.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn over(folder: PathBuf) -> Option<ReadOnly> {
        if run("mount", &["-t", "tmpfs", "-o", "ro,size=1m", "tmpfs"], &folder) {
            return Some(ReadOnly(folder));
        }
        services::note_skipped("the right to mount a file system in memory");
        None
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        run("umount", &["-l"], &self.0);
    }
}

fn noticed(server: &Server) -> Result<(), String> {
    let log = server.http.get_json("/api/status")["log"].clone();
    if log["writable"] == false { Ok(()) } else { Err(log.to_string()) }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.command("umount", &["-l"]);
    }
}

/// Ingest is refused with a clear error, queries go on, and the status and `/ready` say why.
#[track_caller]
fn refuses_ingest_only(server: &Server, model: &Model, word: &str) {
    let refused = ingest(&server.http, 1, &clicks("refused", 3)).expect_status(503);
    assert_eq!(refused.json()["code"], "unavailable");
    assert!(refused.text().contains(word) && !refused.header("retry-after").is_empty(), "{}", refused.text());
    let status = server.http.get_json("/api/status");
    assert_eq!(status["log"]["writable"], false);
    assert!(status["log"]["error"].as_str().is_some_and(|text| text.contains(word)), "{}", status["log"]);
    server.http.get("/ready").expect_status(503);
    server.http.get("/health").expect_status(200);
    Observed::of(&server.http, 1).must_equal(model, "while the log cannot be written");
}

/// Once the reason is gone the server writes again, by itself; a crash later everything acknowledged is there.
#[track_caller]
fn recovers(server: &mut Server, model: &mut Model) {
    eventually("the server to be ready again", DEADLINE, || {
        let reply = server.http.get("/ready");
        if reply.status == 200 { Ok(()) } else { Err(reply.text()) }
    });
    let more = clicks("recovered", 10);
    ingest(&server.http, 1, &more).expect_status(200);
    more.into_iter().for_each(|(id, click)| assert!(model.add(id, click)));
    Observed::of(&server.http, 1).must_equal(model, "after the repair");
    server.crash();
    Observed::of(&server.http, 1).must_equal(model, "after the repair and a crash");
    let status = server.http.get_json("/api/status");
    assert_eq!(counter(&status, 1, "received"), model.len());
}

#[test]
fn a_full_disk_refuses_ingest_and_nothing_else_until_there_is_space() {
    let Some(disk) = Disk::mount("2m") else { return };
    let mut server = Server::new().config(CONFIG).data(disk.path()).start();
    let mut model = Model::new(Rule::FromFirst);
    let mut number = 0;
    let refused = loop {
        number += 1;
        let rows = clicks(&format!("fill-{number}"), 500);
        let reply = ingest(&server.http, 1, &rows);
        if reply.status != 200 {
            break reply;
        }
        rows.into_iter().for_each(|(id, click)| assert!(model.add(id, click)));
        assert!(number < 1_000, "the disk is never full");
    };
    assert_eq!(refused.status, 503, "{}", refused.text());
    // What is left would still do for small segments.
    let filler = disk.folder.path().join("filler");
    let _ = fs::write(&filler, vec![1; 4 << 20]);
    eventually("the server to notice", DEADLINE, || noticed(&server));
    refuses_ingest_only(&server, &model, "no space");
    fs::remove_file(&filler).expect("there is a file");
    assert!(disk.command("mount", &["-o", "remount,size=64m"]), "the disk can be enlarged");
    recovers(&mut server, &mut model);
    assert!(leftovers(&disk.path().join("log/0")).is_empty(), "unfinished uploads are removed");
}

fn leftovers(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains('#'))
        .collect()
}

#[test]
fn a_folder_that_becomes_read_only_refuses_ingest_until_it_is_writable_again() {
    let mut server = Server::new().config(CONFIG).start();
    let mut model = Model::new(Rule::FromFirst);
    let rows = clicks("before", 50);
    ingest(&server.http, 1, &rows).expect_status(200);
    rows.into_iter().for_each(|(id, click)| assert!(model.add(id, click)));
    let Some(read_only) = ReadOnly::over(server.data().join("log/0")) else { return };
    eventually("the server to notice", DEADLINE, || noticed(&server));
    refuses_ingest_only(&server, &model, "cannot be written");
    drop(read_only);
    recovers(&mut server, &mut model);

    // Nor can one start on it.
    server.kill();
    let Some(read_only) = ReadOnly::over(server.data().to_owned()) else { return };
    server.spawn();
    let status = server.wait_exit();
    assert_eq!(status.code(), Some(5), "{}", server.logs());
    assert!(server.logs().contains("the folder must be writable by this user"), "{}", server.logs());
    drop(read_only);
    server.start_again();
    Observed::of(&server.http, 1).must_equal(&model, "once it is writable again");
}

#[test]
fn a_folder_without_the_right_to_write_is_refused_at_the_start() {
    let uid = Command::new("id").arg("-u").output().expect("id can be run");
    if uid.stdout.starts_with(b"0\n") {
        return services::note_skipped("a user who is not root; root may write everywhere");
    }
    let folder = TempDir::new().expect("a temporary folder can be made");
    let mut rights = fs::metadata(folder.path()).expect("it exists").permissions();
    rights.set_readonly(true);
    fs::set_permissions(folder.path(), rights).expect("its rights can be changed");
    let mut server = Server::new().data(folder.path()).build();
    server.spawn();
    assert_eq!(server.wait_exit().code(), Some(5), "{}", server.logs());
    assert!(server.logs().contains("the folder must be writable by this user"), "{}", server.logs());
}
