//! Rows that could not be accepted: kept with their reason, listed, and replayable.

use crate::{Micros, SourceId};
use ecow::EcoString;
use serde::{Deserialize, Serialize};

/// Why a row is not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum DeadLetterKind {
    /// The bytes are not of the source's format.
    Malformed = 0,
    /// A field is missing, ill-typed, unknown or out of bounds.
    Invalid = 1,
    /// A valid event whose time lies too far in the future; it can be replayed once its time has come.
    Quarantined = 2,
    /// A valid event behind the horizon. Such events are ordinary rows of the log with `late` set; this kind only appears in listings.
    Late = 3,
}

impl DeadLetterKind {
    pub const ALL: [Self; 4] = [Self::Malformed, Self::Invalid, Self::Quarantined, Self::Late];

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Quarantined => "quarantined",
            Self::Late => "late",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub source: SourceId,
    pub kind: DeadLetterKind,
    /// When it was refused.
    pub at: Micros,
    /// The user it speaks of, when that could be read; empty otherwise. Erasure of a user removes its dead letters.
    pub user: EcoString,
    /// The field at fault; empty when the whole row is.
    pub field: EcoString,
    /// One sentence for people.
    pub detail: EcoString,
    /// Where it came from: `topic/partition/offset`, `file:line`, `http`.
    pub origin: EcoString,
    /// The format by which `payload` can be read again.
    pub format: EcoString,
    /// The row as it came, cut at [`crate::limits::DEAD_LETTER_PAYLOAD`] bytes, invalid UTF-8 replaced.
    pub payload: EcoString,
}
