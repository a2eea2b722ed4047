//! Names of the log's objects, and the manifest that says which numbers compaction has covered.
//!
//! ```text
//! log/<shard>/<seq, 20 digits>.seg             fences and segments: one sequence of numbers, 1, 2, 3, …
//! log/<shard>/manifest/<n, 20 digits>.json     numbered, created if absent, each based on the one before
//! log/<shard>/part/<n>-<first seq>-<nonce>.part    built for manifest n
//! ```
//! Only the manifest with the highest number counts; it covers the numbers `1..=covered_to` with its parts, in order. A
//! part whose manifest number is at most the highest one and which that manifest does not name can never be named by
//! any later one, which is why it is garbage. A manifest is one line of JSON and one line with its crc32c.

use super::error::LogError;
use super::object::{Counts, FORMAT_VERSION};
use crate::store::{ObjectInfo, Store, Tag};
use bytes::Bytes;
use desireline_records::{LogicalTime, Micros, ShardId};
use serde::{Deserialize, Serialize};

pub fn folder(shard: ShardId) -> String {
    format!("log/{shard}")
}

pub fn segment_name(shard: ShardId, seq: u64) -> String {
    format!("log/{shard}/{seq:020}.seg")
}

pub fn manifest_folder(shard: ShardId) -> String {
    format!("log/{shard}/manifest")
}

pub fn manifest_name(shard: ShardId, number: u64) -> String {
    format!("log/{shard}/manifest/{number:020}.json")
}

pub fn part_folder(shard: ShardId) -> String {
    format!("log/{shard}/part")
}

pub fn part_name(shard: ShardId, number: u64, seq_first: u64, nonce: u64) -> String {
    format!("log/{shard}/part/{number:020}-{seq_first:020}-{nonce:016x}.part")
}

/// The number of a segment or fence, when the name is one.
pub fn parse_segment(shard: ShardId, name: &str) -> Option<u64> {
    digits(name.strip_prefix(&format!("log/{shard}/"))?.strip_suffix(".seg")?)
}

pub fn parse_manifest(shard: ShardId, name: &str) -> Option<u64> {
    digits(name.strip_prefix(&format!("log/{shard}/manifest/"))?.strip_suffix(".json")?)
}

/// The number of the manifest for which a part was built.
pub fn parse_part(shard: ShardId, name: &str) -> Option<u64> {
    let rest = name.strip_prefix(&format!("log/{shard}/part/"))?.strip_suffix(".part")?;
    digits(rest.split_once('-')?.0)
}

fn digits(text: &str) -> Option<u64> {
    (text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartInfo {
    pub name: String,
    pub seq_first: u64,
    pub seq_last: u64,
    pub time_first: LogicalTime,
    pub time_last: LogicalTime,
    pub event_time: Option<(Micros, Micros)>,
    pub counts: Counts,
    /// Batches in it.
    pub frames: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub version: u16,
    pub shard: ShardId,
    /// 1, 2, …; based on the one before.
    pub number: u64,
    /// The parts hold every batch up to this number.
    pub covered_to: u64,
    /// Logical time and writer's epoch at `covered_to`.
    pub last_time: LogicalTime,
    pub epoch: u64,
    /// How often an erasure has removed rows.
    pub rewrites: u64,
    /// Covered numbers that are fences; their objects stay.
    pub fences: Vec<u64>,
    /// Rows that controls in the parts take out of every replay.
    pub skips: Vec<(LogicalTime, u32)>,
    pub parts: Vec<PartInfo>,
}

impl Manifest {
    /// What holds before the first compaction.
    pub fn empty(shard: ShardId) -> Self {
        Self { version: FORMAT_VERSION, shard, ..Self::default() }
    }

    pub fn encode(&self) -> Result<Bytes, LogError> {
        let mut text = serde_json::to_vec(self).map_err(|error| LogError::Task(format!("encoding a manifest: {error}")))?;
        let crc = crc32c::crc32c(&text);
        text.extend_from_slice(format!("\n{crc:08x}\n").as_bytes());
        Ok(text.into())
    }

    pub fn decode(object: &str, bytes: &[u8]) -> Result<Self, LogError> {
        let damaged = |offset: usize, detail: String| LogError::Damaged {
            object: object.to_owned(),
            section: "manifest",
            offset: offset as u64,
            detail,
        };
        // The last ten bytes are a newline, eight digits and a newline.
        let (body, tail) = bytes.split_at(bytes.len().saturating_sub(10));
        let stored = match tail {
            [b'\n', digits @ .., b'\n'] if tail.len() == 10 => std::str::from_utf8(digits).ok(),
            _ => None,
        };
        let stored = stored.ok_or_else(|| damaged(body.len(), "it has no checksum at its end".to_owned()))?;
        let computed = format!("{:08x}", crc32c::crc32c(body));
        if stored != computed {
            return Err(damaged(0, format!("checksum {computed} instead of {stored}")));
        }
        #[derive(Deserialize)]
        struct Version {
            version: u16,
        }
        let read = |error: serde_json::Error| damaged(error.column(), error.to_string());
        let Version { version } = serde_json::from_slice(body).map_err(read)?;
        if version != FORMAT_VERSION {
            return Err(LogError::Version { object: object.to_owned(), found: version, known: FORMAT_VERSION });
        }
        let manifest: Self = serde_json::from_slice(body).map_err(read)?;
        let mut next = 1;
        for part in &manifest.parts {
            if part.seq_first != next || part.seq_last < part.seq_first {
                return Err(damaged(0, format!("part {} does not begin at {next}", part.name)));
            }
            next = part.seq_last + 1;
        }
        if next != manifest.covered_to + 1 {
            return Err(damaged(0, format!("its parts end at {} instead of {}", next - 1, manifest.covered_to)));
        }
        Ok(manifest)
    }
}

/// A segment or fence that no manifest covers.
#[derive(Clone, Debug)]
pub struct Live {
    pub seq: u64,
    pub bytes: u64,
    /// Which object it was when it was listed. Once the number has been compacted away, a request that was on its way all the
    /// time may create another object under the same name; whoever works off an older listing must not take it for this one.
    pub tag: Tag,
}

/// What the log consists of at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub manifest: Manifest,
    /// Segments and fences after `covered_to`, without gaps.
    pub live: Vec<Live>,
}

impl Snapshot {
    pub fn last_seq(&self) -> u64 {
        self.live.last().map_or(self.manifest.covered_to, |live| live.seq)
    }

    /// Lists the log until manifest and segments fit together: compaction may switch manifests, and a writer may append,
    /// while the listing is under way.
    pub async fn load(store: &Store, shard: ShardId) -> Result<Self, LogError> {
        const ATTEMPTS_MAX: u32 = 100;
        let mut missing = 0;
        for _ in 0..ATTEMPTS_MAX {
            let number = newest_manifest(store, shard).await?;
            let manifest = match read_manifest(store, shard, number).await {
                Err(LogError::Store(error)) if error.is_not_found() => continue,
                other => other?,
            };
            let after = segment_name(shard, manifest.covered_to);
            let listed = store.list(&folder(shard), Some(&after)).await?;
            if newest_manifest(store, shard).await? != number {
                continue;
            }
            let live: Vec<Live> = listed
                .into_iter()
                .filter_map(|ObjectInfo { name, bytes, tag }| Some(Live { seq: parse_segment(shard, &name)?, bytes, tag }))
                .filter(|live| live.seq > manifest.covered_to)
                .collect();
            let expected = manifest.covered_to + 1..;
            match live.iter().zip(expected).find(|(live, expected)| live.seq != *expected) {
                None => return Ok(Self { manifest, live }),
                Some((_, expected)) => missing = expected,
            }
        }
        Err(LogError::Gap { shard, missing })
    }
}

/// The highest number of a manifest; 0 when there is none.
pub async fn newest_manifest(store: &Store, shard: ShardId) -> Result<u64, LogError> {
    let listed = store.list(&manifest_folder(shard), None).await?;
    Ok(listed.iter().filter_map(|info| parse_manifest(shard, &info.name)).max().unwrap_or(0))
}

pub async fn read_manifest(store: &Store, shard: ShardId, number: u64) -> Result<Manifest, LogError> {
    if number == 0 {
        return Ok(Manifest::empty(shard));
    }
    let name = manifest_name(shard, number);
    let manifest = Manifest::decode(&name, &store.get(&name).await?)?;
    if manifest.number != number || manifest.shard != shard {
        let detail = format!("it says that it is number {} of shard {}", manifest.number, manifest.shard);
        return Err(LogError::Damaged { object: name, section: "manifest", offset: 0, detail });
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        assert_eq!(parse_segment(3, &segment_name(3, 17)), Some(17));
        assert_eq!(parse_manifest(3, &manifest_name(3, 17)), Some(17));
        assert_eq!(parse_part(3, &part_name(3, 17, 5, 9)), Some(17));
        for name in ["log/3/1.seg", "log/30/00000000000000000017.seg", "log/3/manifest/00000000000000000017.json", "x"] {
            assert_eq!(parse_segment(3, name), None, "{name}");
        }
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_of_a_manifest_is_noticed() {
        let part = PartInfo {
            name: "p".to_owned(),
            seq_first: 1,
            seq_last: 4,
            time_first: 1,
            time_last: 9,
            event_time: Some((1, 2)),
            counts: Counts { events: 4, ..Counts::default() },
            frames: 3,
            bytes: 99,
        };
        let manifest = Manifest { number: 2, covered_to: 4, fences: vec![1], parts: vec![part], ..Manifest::empty(0) };
        let bytes = manifest.encode().expect("encodes").to_vec();
        assert_eq!(Manifest::decode("m", &bytes).expect("decodes"), manifest);
        for at in 0..bytes.len() {
            assert!(Manifest::decode("m", &bytes[..at]).is_err(), "truncated at {at}");
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(Manifest::decode("m", &flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}
