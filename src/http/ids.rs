//! Ids made by the server: 24 hex digits, cheap, unique without coordination.
//!
//! Four bytes of seconds, five random bytes of this process and a counter of three bytes that starts at random: the form
//! that clients of document stores know. Two processes collide with probability 2^-40 per shared second.

use desireline_records::time;
use ecow::EcoString;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug)]
pub struct IdMaker {
    process: [u8; 5],
    counter: AtomicU32,
}

impl Default for IdMaker {
    fn default() -> Self {
        Self { process: rand::random(), counter: AtomicU32::new(rand::random()) }
    }
}

impl IdMaker {
    /// The next id, at a wall clock given in microseconds.
    pub fn make(&self, now: desireline_records::Micros) -> EcoString {
        let seconds = (now / time::SECOND) as u32;
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut id = [0u8; 12];
        id[..4].copy_from_slice(&seconds.to_be_bytes());
        id[4..9].copy_from_slice(&self.process);
        id[9..].copy_from_slice(&count.to_be_bytes()[1..]);
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 24];
        for (pair, byte) in text.chunks_exact_mut(2).zip(id) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        EcoString::from(std::str::from_utf8(&text).expect("hex digits are ASCII"))
    }
}

/// A random UUID (version 4), for a visit that names nobody.
pub fn random_uuid() -> String {
    let bits: u128 = rand::random();
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_24_hex_digits_and_differ() {
        let maker = IdMaker::default();
        let ids: HashSet<EcoString> = (0..10_000).map(|_| maker.make(1_700_000_000_000_000)).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 24 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))));
        assert!(ids.iter().all(|id| id.starts_with("6553f100")));
    }

    #[test]
    fn a_uuid_has_its_version_and_variant() {
        let uuid = random_uuid();
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
        assert_ne!(uuid, random_uuid());
    }
}
