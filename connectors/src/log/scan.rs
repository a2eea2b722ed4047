//! Reads the objects of the log in order while compaction goes on beside it.
//!
//! A scan works off a snapshot. When an object of it is gone, compaction has replaced it: the scan takes a new snapshot
//! and goes on with the first number that it has not handed out. When an erasure has rewritten the log in between, what
//! was handed out and what would follow do not belong together, and the scan ends with [`LogError::Rewritten`].
//!
//! A number that has been compacted away can appear once more: a create that was on its way when its sender gave up finds
//! the name free. Such an object is covered, so every new snapshot passes over it; a scan on an older snapshot recognises
//! it by its tag, which differs from the listed one, and treats it as gone.

use super::error::LogError;
use super::manifest::{Live, PartInfo, Snapshot, segment_name};
use super::object::{Head, Header, Object, parse_head};
use crate::store::{ObjectInfo, Store, StoreError, Tag};
use desireline_records::{LogicalTime, ShardId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

/// Headers kept in memory, at most.
const HEADERS_MAX: usize = 65_536;
/// Bytes read to get at a header; segments' headers are far smaller.
const HEAD_BYTES: u64 = 16 << 10;

/// What all readers and the writer of one shard share.
#[derive(Debug)]
pub struct Shared {
    pub store: Store,
    pub shard: ShardId,
    /// Of segments and fences, which never change.
    headers: Mutex<HashMap<u64, Arc<Header>>>,
}

impl Shared {
    pub fn new(store: Store, shard: ShardId) -> Arc<Self> {
        Arc::new(Self { store, shard, headers: Mutex::default() })
    }

    pub async fn snapshot(&self) -> Result<Snapshot, LogError> {
        Snapshot::load(&self.store, self.shard).await
    }

    pub fn remember(&self, header: Header) {
        let mut headers = self.headers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if headers.len() >= HEADERS_MAX {
            headers.clear();
        }
        headers.insert(header.seq_first, Arc::new(header));
    }

    /// Forgets what compaction has covered.
    pub fn forget(&self, covered_to: u64) {
        self.headers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).retain(|seq, _| *seq > covered_to);
    }

    /// The header of a segment or fence, read at most once.
    pub async fn header(&self, live: &Live) -> Result<Arc<Header>, LogError> {
        let known = self.headers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&live.seq).cloned();
        if let Some(header) = known {
            return Ok(header);
        }
        let name = segment_name(self.shard, live.seq);
        let (header, tag) = self.header_of(&name).await?;
        check_tag(&name, live, &tag)?;
        check_segment(&name, &header, self.shard, live.seq)?;
        self.remember(header.clone());
        Ok(Arc::new(header))
    }

    /// The header of an object as it is in the store now.
    pub async fn header_of(&self, name: &str) -> Result<(Header, Tag), LogError> {
        let mut want = HEAD_BYTES;
        loop {
            let (bytes, tag) = self.store.get_tagged(name, Some(0..want)).await?;
            let complete = (bytes.len() as u64) < want;
            match parse_head(name, &bytes, complete)? {
                Head::Complete { header, .. } => return Ok((*header, tag)),
                Head::Needs(end) => want = end,
            }
        }
    }

    /// A whole segment or fence.
    pub async fn segment(&self, live: &Live) -> Result<Object, LogError> {
        let name = segment_name(self.shard, live.seq);
        let (bytes, tag) = self.store.get_tagged(&name, None).await?;
        check_tag(&name, live, &tag)?;
        let object = Object::parse(&name, bytes)?;
        check_segment(&name, &object.header, self.shard, live.seq)?;
        Ok(object)
    }

    pub async fn part(&self, info: &PartInfo) -> Result<Object, LogError> {
        let object = Object::parse(&info.name, self.store.get(&info.name).await?)?;
        let header = &object.header;
        if header.shard != self.shard || (header.seq_first, header.seq_last) != (info.seq_first, info.seq_last) {
            let detail = format!("it holds {}..={} of shard {}", header.seq_first, header.seq_last, header.shard);
            return Err(LogError::Damaged { object: info.name.clone(), section: "header", offset: 0, detail });
        }
        Ok(object)
    }
}

/// Another object of the same name means that the one that was listed is gone.
fn check_tag(name: &str, live: &Live, tag: &Tag) -> Result<(), LogError> {
    match live.tag.matches(tag) {
        true => Ok(()),
        false => Err(StoreError::NotFound { object: name.to_owned() }.into()),
    }
}

fn check_segment(name: &str, header: &Header, shard: ShardId, seq: u64) -> Result<(), LogError> {
    if header.shard == shard && header.seq_first == seq && header.seq_last == seq {
        return Ok(());
    }
    let detail = format!("it says that it is {}..={} of shard {}", header.seq_first, header.seq_last, header.shard);
    Err(LogError::Damaged { object: name.to_owned(), section: "header", offset: 0, detail })
}

/// One piece of a snapshot.
#[derive(Clone, Debug)]
pub enum Piece {
    Part(PartInfo),
    Segment(Live),
}

impl Piece {
    pub fn seq_last(&self) -> u64 {
        match self {
            Self::Part(info) => info.seq_last,
            Self::Segment(live) => live.seq,
        }
    }
}

pub fn pieces(snapshot: &Snapshot) -> impl DoubleEndedIterator<Item = Piece> + '_ {
    let parts = snapshot.manifest.parts.iter().cloned().map(Piece::Part);
    parts.chain(snapshot.live.iter().cloned().map(Piece::Segment))
}

/// An object and the first number in it that has not been handed out before.
#[derive(Debug)]
pub struct Scanned {
    pub object: Object,
    pub seq_from: u64,
}

#[derive(Debug)]
pub struct Scan {
    shared: Arc<Shared>,
    queue: VecDeque<Piece>,
    next_seq: u64,
    manifest: u64,
    rewrites: u64,
    /// Whether something has been handed out.
    begun: bool,
}

impl Scan {
    /// From the first batch after the logical time `after`; that batch's object may hold earlier ones, too.
    pub async fn of(shared: Arc<Shared>, snapshot: &Snapshot, after: LogicalTime) -> Result<Self, LogError> {
        let mut queue: VecDeque<Piece> = pieces(snapshot).collect();
        if after > 0 {
            queue.retain(|piece| !matches!(piece, Piece::Part(info) if info.time_last <= after));
            let (mut low, mut high) = (0, snapshot.live.len());
            while low < high {
                let middle = (low + high) / 2;
                match shared.header(&snapshot.live[middle]).await?.time_last <= after {
                    true => low = middle + 1,
                    false => high = middle,
                }
            }
            let first = snapshot.live.get(low).map_or(u64::MAX, |live| live.seq);
            queue.retain(|piece| !matches!(piece, Piece::Segment(live) if live.seq < first));
        }
        let manifest = &snapshot.manifest;
        let (manifest, rewrites) = (manifest.number, manifest.rewrites);
        Ok(Self { shared, queue, next_seq: 0, manifest, rewrites, begun: false })
    }

    /// The next object; `None` at the end of the snapshot.
    pub async fn next(&mut self) -> Result<Option<Scanned>, LogError> {
        loop {
            let Some(piece) = self.queue.front() else { return Ok(None) };
            let read = match piece {
                Piece::Part(info) => self.shared.part(info).await,
                Piece::Segment(live) => self.shared.segment(live).await,
            };
            match read {
                Ok(object) => {
                    let seq_from = self.next_seq;
                    self.next_seq = piece.seq_last() + 1;
                    self.begun = true;
                    self.queue.pop_front();
                    return Ok(Some(Scanned { object, seq_from }));
                }
                Err(LogError::Store(error)) if error.is_not_found() => self.renew(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    async fn renew(&mut self, error: StoreError) -> Result<(), LogError> {
        let end = self.queue.back().map_or(0, Piece::seq_last);
        let snapshot = self.shared.snapshot().await?;
        if snapshot.manifest.number == self.manifest {
            return Err(error.into());
        }
        if snapshot.manifest.rewrites != self.rewrites && self.begun {
            return Err(LogError::Rewritten);
        }
        (self.manifest, self.rewrites) = (snapshot.manifest.number, snapshot.manifest.rewrites);
        let first = self.next_seq.max(self.queue.front().map_or(0, Piece::seq_first));
        let wanted = |piece: &Piece| piece.seq_last() >= first && piece.seq_first() <= end;
        self.queue = pieces(&snapshot).filter(wanted).collect();
        self.next_seq = first;
        Ok(())
    }
}

impl Piece {
    pub fn seq_first(&self) -> u64 {
        match self {
            Self::Part(info) => info.seq_first,
            Self::Segment(live) => live.seq,
        }
    }
}

/// Count and bytes of everything in the listing of a shard.
pub fn total(listed: &[ObjectInfo]) -> (u64, u64) {
    listed.iter().fold((0, 0), |(count, bytes), info| (count + 1, bytes + info.bytes))
}
