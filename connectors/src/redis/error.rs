//! What went wrong, told apart by what helps.

use redis::{ErrorKind, RedisError as ClientError};
use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RedisError {
    /// The same again may work.
    #[error("{0}")]
    Unavailable(String),
    /// Somebody has to change something: a password, rights, the server's memory or disk.
    #[error("{0}")]
    Refused(String),
    #[error("a writer of a newer epoch ({newer}) has claimed the keys")]
    Fenced { newer: u64 },
    /// The keys are not as this writer left them.
    #[error("{0}")]
    Lost(String),
    /// The server has forgotten the scripts.
    #[error("the server does not know the scripts")]
    NoScript,
}

impl RedisError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "redis_unavailable",
            Self::Refused(_) => "redis_refused",
            Self::Fenced { .. } => "redis_fenced",
            Self::Lost(_) => "redis_lost",
            Self::NoScript => "redis_no_script",
        }
    }

    pub fn retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::NoScript)
    }
}

impl From<ClientError> for RedisError {
    fn from(error: ClientError) -> Self {
        match error.kind() {
            ErrorKind::Io | ErrorKind::Parse => Self::Unavailable(format!("Redis does not answer: {error}")),
            ErrorKind::AuthenticationFailed => Self::Refused("Redis refuses the user name or the password".into()),
            ErrorKind::InvalidClientConfig | ErrorKind::Client => Self::Refused(format!("Redis cannot be connected to: {error}")),
            ErrorKind::UnexpectedReturnType => Self::Refused(format!("the answer is not one of Redis: {error}")),
            _ => match error.clone().into_server_errors().as_deref() {
                Some([(_, first), ..]) => of_server(first.code(), first.details().unwrap_or_default()),
                _ => Self::Unavailable(format!("Redis has failed: {error}")),
            },
        }
    }
}

/// By the code with which an answer begins. Before version 7 an error inside of a script has the code in its text.
fn of_server(code: &str, detail: &str) -> RedisError {
    const PASSING: [&str; 8] = ["LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "BUSY", "NOREPLICAS", "UNKILLABLE"];
    const LASTING: [&str; 6] = ["OOM", "MISCONF", "NOAUTH", "WRONGPASS", "NOPERM", "CROSSSLOT"];
    let names = |candidate: &&&str| code == **candidate || detail.contains(&format!("-{candidate} "));
    if code == "NOSCRIPT" {
        return RedisError::NoScript;
    }
    let text = |code: &str| format!("Redis answers {code}: {detail}");
    match (PASSING.iter().find(names), LASTING.iter().find(names)) {
        (Some(code), _) => RedisError::Unavailable(text(code)),
        (None, Some(code)) => RedisError::Refused(text(code)),
        (None, None) => RedisError::Refused(text(code)),
    }
}

/// A number of the state.
pub(super) fn number(text: &str) -> Result<u64, RedisError> {
    text.parse().map_err(|_| RedisError::Lost(format!("the state in Redis says `{text}` where a number belongs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_what_helps() {
        for code in ["LOADING", "READONLY", "MASTERDOWN", "BUSY"] {
            assert_eq!(of_server(code, "x").code(), "redis_unavailable", "{code}");
        }
        for code in ["OOM", "MISCONF", "NOAUTH", "WRONGPASS", "NOPERM", "ERR", "CROSSSLOT"] {
            assert_eq!(of_server(code, "x").code(), "redis_refused", "{code}");
        }
        assert_eq!(of_server("NOSCRIPT", "No matching script."), RedisError::NoScript);
        let inside = "Error running script (call to f_1): @user_script:5: -READONLY You can't write against a read only replica.";
        assert!(of_server("ERR", inside).retryable());
        let inside = "Error running script (call to f_1): @user_script:5: -OOM command not allowed when used memory > 'maxmemory'.";
        assert_eq!(of_server("ERR", inside).code(), "redis_refused");
    }
}
