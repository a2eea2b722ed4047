//! The services that `scripts/services` starts, as the environment names them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

/// An S3-compatible object store with an existing bucket.
#[derive(Clone, Debug)]
pub struct S3 {
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
    pub bucket: &'static str,
}

/// Whether a missing service fails a test (`required`) or lets it be skipped.
pub fn required() -> bool {
    std::env::var("DESIRELINE_TEST_SERVICES").is_ok_and(|value| value == "required")
}

/// Say that a test does nothing for want of `what`, or fail when services are required.
#[track_caller]
pub fn skip(what: &str) {
    assert!(!required(), "{what} is missing, and services are required here");
    note_skipped(what);
}

/// Say that a part of a test is left out, also where services are required.
pub fn note_skipped(what: &str) {
    // Not `eprintln!`, whose output the test harness hides when the test passes.
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped: {name}, for want of {what}");
}

#[track_caller]
fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        skip(name);
    }
    value
}

/// The brokers of a real Kafka.
#[track_caller]
pub fn kafka() -> Option<String> {
    variable("KAFKA_BROKERS")
}

/// The URL of a real PostgreSQL database, with the right to create schemas and databases.
#[track_caller]
pub fn postgres() -> Option<String> {
    variable("DATABASE_URL")
}

/// The URL of a real Redis.
#[track_caller]
pub fn redis() -> Option<String> {
    variable("REDIS_URL")
}

/// The URL of a real MariaDB database.
#[track_caller]
pub fn mariadb() -> Option<String> {
    variable("MARIADB_URL")
}

/// A real object store.
#[track_caller]
pub fn s3() -> Option<S3> {
    Some(S3 {
        endpoint: variable("DESIRELINE_TEST_S3_ENDPOINT")?,
        access_key: variable("DESIRELINE_TEST_S3_ACCESS_KEY")?,
        secret_key: variable("DESIRELINE_TEST_S3_SECRET_KEY")?,
        bucket: "desireline-test",
    })
}

/// Run `scripts/services ACTION NAME` (restart, kill, start, pause, resume) on the services of this run.
///
/// False, with the test reported as skipped, when the service is somebody else's: named by the environment, not started here. A
/// test that does this to a service stands in a test binary of its own: cargo runs binaries one after another.
#[track_caller]
pub fn control(action: &str, name: &str) -> bool {
    if !ours(name) {
        note_skipped(&format!("a {name} that was started by scripts/services"));
        return false;
    }
    let output = script(&[action, name]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/services {action} {name}: {}", error.trim());
    true
}

/// Whether `scripts/services` has started a service for this run, whether or not it is up at the moment.
pub fn ours(name: &str) -> bool {
    let status = String::from_utf8_lossy(&script(&["status"]).stdout).into_owned();
    status.lines().any(|line| {
        let (service, state) = line.split_once(": ").unwrap_or_default();
        service == name && state != "absent"
    })
}

fn script(arguments: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services");
    Command::new(program).args(arguments).output().expect("scripts/services can be run")
}
