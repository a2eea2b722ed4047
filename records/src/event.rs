//! One thing that one user did: the row from which sessions, journeys, clusters and minutes are made.

use crate::{EventId, Fixed4, Micros, SourceId, Stay, ids};
use ecow::EcoString;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// The direction in which an event moves its user's journey.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Movement {
    /// Part of its session, but moves nothing.
    #[default]
    None = 0,
    View = 1,
    Cart = 2,
    Transaction = 3,
}

impl Movement {
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::None, Self::View, Self::Cart, Self::Transaction].get(usize::from(code)).copied()
    }
}

/// A validated event. Short strings (up to 15 bytes) are stored inline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub source: SourceId,
    pub movement: Movement,
    /// Set by the committer: the event lay behind its source's horizon when it was committed. Recorded, never recomputed.
    pub late: bool,
    pub time: Micros,
    pub id: EventId,
    /// Counts towards revenue when `movement` is [`Movement::Transaction`].
    pub value: Fixed4,
    /// Never empty: the user id, else the session id, else the client id.
    pub user: EcoString,
    pub event_type: EcoString,
    /// Empty when there is none.
    pub page: EcoString,
    /// Empty when there is none.
    pub item: EcoString,
    /// What few events carry and no view of the engine reads.
    pub extra: Option<Box<EventExtra>>,
    /// What makes the event a WiFi session: it is then no part of sessions and journeys.
    pub stay: Option<Stay>,
}

/// The rare fields of an event; empty strings stand for absent values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventExtra {
    /// The id that a client gave or was given; empty when the identity is derived.
    pub event_id: EcoString,
    pub client_id: EcoString,
    pub session_id: EcoString,
    pub transaction_id: EcoString,
    /// A JSON object as text.
    pub properties: EcoString,
}

impl Event {
    /// The key hash of the event's user.
    pub fn user_hash(&self) -> u64 {
        ids::user_hash(self.source, &self.user)
    }

    /// The id under which the event is shown and can be deleted.
    pub fn reference(&self) -> EcoString {
        match &self.extra {
            Some(extra) if !extra.event_id.is_empty() => extra.event_id.clone(),
            _ => ecow::eco_format!("{}", self.id),
        }
    }

    /// Differs for two events of the same identity when one of them says something else: a `conflict`.
    pub fn payload_hash(&self) -> u32 {
        if self.page.is_empty() && self.extra.is_none() && self.event_type.len() + self.item.len() <= 48 {
            // The common case, a file row, in one short buffer.
            let mut buffer = [0u8; 72];
            buffer[..8].copy_from_slice(&self.time.to_le_bytes());
            buffer[8..16].copy_from_slice(&self.value.0.to_le_bytes());
            let (a, b) = (self.event_type.len(), self.item.len());
            buffer[16] = a as u8;
            buffer[17..17 + a].copy_from_slice(self.event_type.as_bytes());
            buffer[17 + a..17 + a + b].copy_from_slice(self.item.as_bytes());
            return xxhash_rust::xxh3::xxh3_64(&buffer[..17 + a + b]) as u32;
        }
        let none = EventExtra::default();
        let extra = self.extra.as_deref().unwrap_or(&none);
        let texts = [&self.event_type, &self.page, &self.item, &extra.session_id, &extra.transaction_id, &extra.properties];
        if texts.iter().map(|text| text.len()).sum::<usize>() <= 192 {
            // Most rows; the same hash, but of one piece of memory, which is several times faster.
            let mut buffer = [0u8; 16 + 6 * 4 + 192];
            let mut end = 0;
            let mut put = |bytes: &[u8]| {
                buffer[end..end + bytes.len()].copy_from_slice(bytes);
                end += bytes.len();
            };
            put(&self.time.to_le_bytes());
            put(&self.value.0.to_le_bytes());
            for text in texts {
                put(&(text.len() as u32).to_le_bytes());
                put(text.as_bytes());
            }
            return xxhash_rust::xxh3::xxh3_64(&buffer[..end]) as u32;
        }
        let mut hash = Xxh3::new();
        hash.update(&self.time.to_le_bytes());
        hash.update(&self.value.0.to_le_bytes());
        for text in texts {
            hash.update(&(text.len() as u32).to_le_bytes());
            hash.update(text.as_bytes());
        }
        hash.digest() as u32
    }
}
