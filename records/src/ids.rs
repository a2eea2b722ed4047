//! Identity: which rows are the same row, and which key a user hashes to.
//!
//! An event's identity within (source, user) is 128 bits, made from what its transport offers: an explicit event id, the
//! position in a Kafka partition, or the normalised row of a file and its ordinal among equal rows. Hashes are xxh3, which
//! is fast and well mixed but not keyed: a client that forges a collision only marks its own events as duplicates, since
//! identity is scoped to one source and one user.

use serde::{Deserialize, Serialize};
use std::fmt;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

/// 128 bits that say which event this is, within its source and user. The order of two events with the same time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct EventId(pub [u64; 2]);

const EXPLICIT: u64 = 1;
const POSITION: u64 = 2;
const ROW: u64 = 3;
const STAY: u64 = 4;

/// The prefix with which an identity that no client gave is printed, so that it can be named in a deletion.
pub const DERIVED_PREFIX: char = '~';

impl EventId {
    fn of(bytes: &[u8], domain: u64) -> Self {
        let hash = xxh3_128_with_seed(bytes, domain);
        Self([(hash >> 64) as u64, hash as u64])
    }

    /// From an id that the client gave, or that the server gave and told the client.
    pub fn explicit(event_id: &str) -> Self {
        Self::of(event_id.as_bytes(), EXPLICIT)
    }

    /// From a position in a topic: the redelivery of a message is the same event.
    pub fn position(topic: &str, partition: i32, offset: i64) -> Self {
        let mut bytes = Vec::with_capacity(topic.len() + 12);
        bytes.extend_from_slice(&partition.to_le_bytes());
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes.extend_from_slice(topic.as_bytes());
        Self::of(&bytes, POSITION)
    }

    /// From a normalised row and its ordinal (0, 1, …) among the equal rows of its file.
    pub fn row(normalised: &[u8], ordinal: u32) -> Self {
        Self::of(normalised, ROW + (u64::from(ordinal) << 8))
    }

    /// Of a WiFi session: whose it is, where and when it began.
    pub fn stay(device: &str, space: i32, start: i64) -> Self {
        let mut bytes = Vec::with_capacity(12 + device.len());
        bytes.extend_from_slice(&space.to_le_bytes());
        bytes.extend_from_slice(&start.to_le_bytes());
        bytes.extend_from_slice(device.as_bytes());
        Self::of(&bytes, STAY)
    }

    /// What a user writes to name an event: an explicit id, or `~` and 32 hex digits for a derived one.
    pub fn from_reference(text: &str) -> Self {
        Self::parse_derived(text).unwrap_or_else(|| Self::explicit(text))
    }

    fn parse_derived(text: &str) -> Option<Self> {
        let hex = text.strip_prefix(DERIVED_PREFIX)?;
        if hex.len() != 32 || !hex.is_ascii() {
            return None;
        }
        let high = u64::from_str_radix(&hex[..16], 16).ok()?;
        let low = u64::from_str_radix(&hex[16..], 16).ok()?;
        Some(Self([high, low]))
    }

    pub fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.0[0]) << 64) | u128::from(self.0[1])).to_be_bytes()
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let all = u128::from_be_bytes(bytes);
        Self([(all >> 64) as u64, all as u64])
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DERIVED_PREFIX}{:016x}{:016x}", self.0[0], self.0[1])
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key hash of a user: routes it to a worker and orders listings and cold parts. Part of the storage format: never change it.
pub fn user_hash(source: u32, user: &str) -> u64 {
    xxh3_64_with_seed(user.as_bytes(), u64::from(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_identity_never_meet() {
        let ids = [EventId::explicit("a"), EventId::row(b"a", 0), EventId::row(b"a", 1), EventId::position("a", 0, 0)];
        for (i, a) in ids.iter().enumerate() {
            for b in &ids[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }

    #[test]
    fn a_derived_id_can_be_named() {
        let id = EventId::row(b"1,2,view", 3);
        assert_eq!(EventId::from_reference(&id.to_string()), id);
        assert_eq!(EventId::from_bytes(id.to_bytes()), id);
        assert_eq!(EventId::from_reference("~xyz"), EventId::explicit("~xyz"));
    }

    #[test]
    fn the_key_hash_is_part_of_the_format() {
        assert_eq!(user_hash(1, "42"), user_hash(1, "42"));
        assert_ne!(user_hash(1, "42"), user_hash(2, "42"));
    }
}
