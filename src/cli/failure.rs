//! How a command ends when it does not succeed: an exit code, and what it prints.

use crate::config::ConfigError;
use crate::projections::ConfiguredError;
use crate::service::ServiceError;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// The documented exit codes. Success is 0; a misused command line is 2, by clap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The work could not be done.
    Failed = 1,
    /// The configuration has mistakes.
    Config = 3,
    /// The work was done and found damage, differences or rejected rows.
    Found = 4,
    /// Somebody else is needed first: a server that does not answer, a data folder in use, a log that cannot be written.
    Unavailable = 5,
    /// Interrupted by a signal.
    Interrupted = 130,
}

/// What went wrong, why, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub primary: String,
    pub detail: Vec<String>,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, primary: impl Into<String>) -> Self {
        Self { exit, primary: primary.into(), detail: Vec::new(), hint: None }
    }

    pub fn detail(mut self, detail: impl ToString) -> Self {
        self.detail.extend(detail.to_string().lines().map(str::to_owned));
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints to standard error; with colour on a terminal only.
    pub fn report(&self) -> ExitCode {
        let stderr = std::io::stderr();
        let text = self.render(stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none());
        // Nobody is left to tell when standard error is gone.
        let _ = stderr.lock().write_all(text.as_bytes());
        ExitCode::from(self.exit as u8)
    }

    fn render(&self, colour: bool) -> String {
        let paint = |code: &str, word: &str| if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
        let mut text = format!("{} {}\n", paint("1;31", "error:"), self.primary);
        for line in &self.detail {
            text.push_str(&format!("  {line}\n"));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("{} {hint}\n", paint("1;36", "hint:")));
        }
        text
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let text = error.to_string();
        let mut lines = text.lines();
        let mut failure = Self::new(Exit::Config, lines.next().unwrap_or_default());
        failure.detail = lines.map(|line| line.trim_start().to_owned()).collect();
        failure.hint("config/desireline.toml documents every setting; `desireline check --print-defaults` prints it")
    }
}

impl From<ConfiguredError> for Failure {
    fn from(error: ConfiguredError) -> Self {
        Self::new(Exit::Config, "the configuration has 1 mistake").detail(error)
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        let exit = match error {
            ServiceError::Busy { .. } | ServiceError::NotReady(_) | ServiceError::Unavailable(_) => Exit::Unavailable,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primary_detail_and_hint_in_this_order() {
        let failure = Failure::new(Exit::Failed, "no").detail("because\nof that").hint("do this");
        assert_eq!(failure.render(false), "error: no\n  because\n  of that\nhint: do this\n");
        assert!(failure.render(true).starts_with("\x1b[1;31merror:"));
    }

    #[test]
    fn mistakes_become_details() {
        let inputs = crate::config::Inputs { env: vec![("DESIRELINE__ENGINE__WORKERS".into(), "0".into())], ..Default::default() };
        let failure = Failure::from(crate::config::load(&inputs).expect_err("a mistake"));
        assert_eq!((failure.exit, failure.detail.len()), (Exit::Config, 1));
        assert!(failure.detail[0].starts_with("engine.workers = \"0\": must be"), "{failure:?}");
    }
}
