//! What the unit tests of several modules share.

use std::ffi::OsStr;
use std::process::Command;

/// Runs a script with Node and demands that it succeeds. Without Node nothing is tested, which is said, and a failure where services
/// are required.
#[track_caller]
pub fn node<S: AsRef<OsStr>>(arguments: &[S]) {
    match Command::new("node").args(arguments).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => {
            let required = std::env::var("DESIRELINE_TEST_SERVICES").is_ok_and(|value| value == "required");
            assert!(!required, "node could not be started ({error}), and it is required here");
            eprintln!("skipped: node could not be started ({error})");
        }
    }
}
