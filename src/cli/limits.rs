//! Limits of the operating system that a server outgrows.

/// Open files that a busy server needs: connections, segments under compaction, brokers.
const FILES_WANTED: u64 = 16_384;

/// Raises the soft limit of open files towards what is wanted, as far as the hard limit lets it. Answers the limit in force.
pub fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current?;
    let wanted = limit.maximum.map_or(FILES_WANTED, |hard| hard.min(FILES_WANTED));
    if current >= wanted {
        return Some(current);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
        Ok(()) => Some(wanted),
        Err(error) => {
            tracing::warn!(current, wanted, %error, "the limit of open files stays low");
            Some(current)
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn raising_never_lowers() {
        let first = super::raise_open_files();
        let second = super::raise_open_files();
        assert_eq!(first, second);
        assert!(first.is_none_or(|files| files > 0));
    }
}
