//! When to kill: after a random time, or in the middle of something.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use desireline::generate::random::Random;

use crate::SEALED;
use crate::support::wait::Stop;

/// An aim that does not come into sight is given up.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Waits for the moment, and says which it is.
pub fn wait(random: &mut Random, data: &Path, stop: &Stop) -> &'static str {
    // A while of ordinary work first.
    stop.stopped_within(Duration::from_millis(random.below(300) + 100));
    let (aim, folder) = match random.below(8) {
        0 => ("a part of the log is new", data.join("log/0/part")),
        1 => ("a manifest is new", data.join("log/0/manifest")),
        2 => ("a cold part is new", data.join(format!("cold/sessions/{SEALED}"))),
        3 => ("a segment is new", data.join("log/0")),
        _ => {
            stop.stopped_within(Duration::from_millis(random.below(1_000)));
            return "any time";
        }
    };
    let (begin, before) = (Instant::now(), names(&folder));
    while names(&folder).is_subset(&before) {
        if begin.elapsed() > PATIENCE || stop.stopped_within(Duration::from_millis(1)) {
            return "any time";
        }
    }
    // Up to a few milliseconds later: before or after what follows.
    stop.stopped_within(Duration::from_micros(random.below(4_000)));
    aim
}

/// The files of a folder, unfinished ones included.
fn names(folder: &Path) -> BTreeSet<OsString> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}
