//! The settings of a source that change answers. They are records of the log, so that a replay gives the same answers.

use crate::time::{HOUR, MINUTE};
use crate::{Micros, SourceId, WifiSettings};
use serde::{Deserialize, Serialize};

/// When a new session begins. Both comparisons are strict: exactly the limit still belongs to the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionRule {
    /// An event more than the limit after the session's first event opens a new session.
    #[default]
    FromFirst,
    /// An event more than the limit after the event before it opens a new session.
    Gap,
}

/// How user ids are printed. Inside they are always text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserIdType {
    /// Ids that are canonical decimal integers are printed as JSON numbers.
    Int,
    #[default]
    String,
}

/// How long ended sessions stay open to correction, measured from the source's watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Horizon {
    /// Nothing is ever sealed and no row is ever late. Memory grows with the history.
    #[default]
    Off,
    /// Sessions that ended longer ago are sealed into cold parts.
    After(Micros),
}

/// The short-term context of a source's users: what they looked at lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContextSettings {
    /// A context ends when its user has done nothing for so long; the next event begins a new one.
    pub ttl: Micros,
    /// Items that are kept, the newest ones.
    pub items: u32,
    /// Every event renews the categories; otherwise only one of a known category does.
    pub renew_all: bool,
}

impl Default for ContextSettings {
    fn default() -> Self {
        Self { ttl: 15 * MINUTE, items: 20, renew_all: true }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceSettings {
    pub source: SourceId,
    pub session_rule: SessionRule,
    /// The limit of the session rule.
    pub session_limit: Micros,
    pub user_id_type: UserIdType,
    /// The number of clusters, at least 1.
    pub clusters: u16,
    /// Transactions move a journey by their value instead of by one.
    pub transaction_value: bool,
    pub horizon: Horizon,
    /// With a horizon: a row further behind the watermark than this is late. Never more than the horizon.
    pub lateness: Micros,
    /// Keeps the context of each user.
    #[serde(default)]
    pub context: Option<ContextSettings>,
    /// Its rows are WiFi sessions.
    #[serde(default)]
    pub wifi: Option<WifiSettings>,
}

impl SourceSettings {
    pub fn defaults(source: SourceId) -> Self {
        Self {
            source,
            session_rule: SessionRule::FromFirst,
            session_limit: 20 * MINUTE,
            user_id_type: UserIdType::String,
            clusters: 5,
            transaction_value: false,
            horizon: Horizon::Off,
            lateness: 24 * HOUR,
            context: None,
            wifi: None,
        }
    }
}
