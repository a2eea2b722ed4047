//! What is kept of datasets and chunks, and how it stands in the log.

use chrono::DateTime;
use desireline_records::time::{DAY, SECOND};
use desireline_records::{LogicalTime, Micros, SpaceId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How far a dataset or a chunk has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// A dataset: what it consists of is not known yet. A chunk: it is not counted yet.
    Pending,
    Running,
    Completed,
    Failed,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
        }
    }
}

/// Which chunk: the bins of one width of one space in one window. Ordered so that the chunks of a window lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkKey {
    pub interval_seconds: u32,
    pub start: Micros,
    pub end: Micros,
    pub space_id: SpaceId,
}

/// A chunk of time as it is written in names of objects.
struct Stamp(Micros);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::from_timestamp_micros(self.0).unwrap_or_default();
        write!(f, "{}", time.format("%Y%m%dT%H%M%S"))
    }
}

impl ChunkKey {
    /// The width of its bins.
    pub fn width(&self) -> Micros {
        i64::from(self.interval_seconds) * SECOND
    }

    pub fn of_space(self, space_id: SpaceId) -> Self {
        Self { space_id, ..self }
    }

    /// The name of its object.
    pub fn object(&self) -> String {
        let Self { space_id, interval_seconds, start, end } = *self;
        format!("{}chunk_{}_{}.parquet", folder(space_id, interval_seconds), Stamp(start), Stamp(end))
    }

    /// Its key in the log.
    pub fn document(&self) -> String {
        format!("{}/{}/{}_{}", self.space_id, self.interval_seconds, Stamp(self.start), Stamp(self.end))
    }
}

/// Where the objects of a space lie.
pub fn folder(space_id: SpaceId, interval_seconds: u32) -> String {
    format!("occupancy/spaces/{space_id}/{interval_seconds}/")
}

/// The windows of so many days that `[start, end)` touches, aligned to 1970-01-01.
pub fn windows(start: Micros, end: Micros, chunk_days: u32) -> impl Iterator<Item = (Micros, Micros)> + Clone {
    let width = i64::from(chunk_days.max(1)) * DAY;
    let (first, last) = (start.div_euclid(width), (end - 1).div_euclid(width));
    (first..=last).map(move |window| (window * width, (window + 1) * width))
}

/// What a chunk's numbers are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpaceType {
    #[serde(rename = "source")]
    Source,
    #[serde(rename = "derived")]
    Derived,
    #[serde(rename = "source+derived")]
    Both,
}

impl SpaceType {
    /// `own`: the space has sessions of its own.
    pub fn of(own: bool, children: bool) -> Self {
        match (own, children) {
            (true, true) => Self::Both,
            (false, true) => Self::Derived,
            (_, false) => Self::Source,
        }
    }

    pub fn has_own(self) -> bool {
        self != Self::Derived
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    pub chunk_id: u64,
    #[serde(flatten)]
    pub key: ChunkKey,
    pub space_type: SpaceType,
    /// The children that contribute, and the content of each that was added up; none of it before it is completed.
    pub children: BTreeMap<SpaceId, Option<u64>>,
    /// Never [`State::Running`] in the log: whether it is being counted is the scheduler's to know.
    pub state: State,
    /// How often it was opened: what a run has counted for an earlier opening does not count.
    pub opening: u32,
    pub opened_at: Micros,
    /// The last run that counted it.
    pub run_id: Option<String>,
    pub error: Option<String>,
    /// Tells its content from another.
    pub content: Option<u64>,
    /// Bins in its object.
    pub rows: u64,
    /// The logical time at which its numbers were true (live).
    pub as_of: Option<LogicalTime>,
    pub created_at: Micros,
    pub completed_at: Option<Micros>,
}

impl Chunk {
    pub fn is_completed(&self) -> bool {
        self.state == State::Completed
    }

    /// Has it counted (again).
    pub fn open(&mut self, now: Micros) {
        self.state = State::Pending;
        self.opening += 1;
        self.opened_at = now;
        self.error = None;
        self.children.values_mut().for_each(|content| *content = None);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    pub dataset_id: u64,
    pub name: String,
    pub description: Option<String>,
    pub root_space_id: SpaceId,
    /// Inclusive.
    pub start_time: Micros,
    /// Exclusive.
    pub end_time: Micros,
    /// The bounds as they were asked for; absent ones are found in the sessions.
    pub asked: (Option<Micros>, Option<Micros>),
    pub interval_seconds: u32,
    pub chunk_days: u32,
    pub force_overwrite: bool,
    pub state: State,
    /// It has windows: false while it is pending, and where there are no sessions to take absent bounds from.
    pub has_range: bool,
    pub storage_path: Option<String>,
    pub row_count: Option<u64>,
    pub column_stats: Option<serde_json::Value>,
    pub error: Option<String>,
    pub created_at: Micros,
    pub completed_at: Option<Micros>,
}

impl Dataset {
    pub fn windows(&self) -> impl Iterator<Item = (Micros, Micros)> + Clone + use<> {
        let range = if self.has_range { (self.start_time, self.end_time) } else { (0, 0) };
        windows(range.0, range.1, self.chunk_days)
    }

    pub fn chunk_of(&self, space_id: SpaceId, window: (Micros, Micros)) -> ChunkKey {
        ChunkKey { interval_seconds: self.interval_seconds, start: window.0, end: window.1, space_id }
    }

    /// Whether one of its windows is that of the chunk.
    pub fn has_window_of(&self, key: &ChunkKey) -> bool {
        self.has_range
            && key.interval_seconds == self.interval_seconds
            && key.end - key.start == i64::from(self.chunk_days) * DAY
            && key.start < self.end_time
            && key.end > self.start_time
    }

    /// Whether a bin belongs to what was asked for: it overlaps the range.
    pub fn has_bin(&self, begin: Micros) -> bool {
        begin < self.end_time && begin + i64::from(self.interval_seconds) * SECOND > self.start_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::time::parse_time;

    fn time(text: &str) -> Micros {
        parse_time(text).expect("a time")
    }

    #[test]
    fn windows_are_aligned_to_the_epoch() {
        let stamps = |from: &str, to: &str| -> Vec<String> {
            windows(time(from), time(to), 30).map(|(start, end)| format!("{}-{}", Stamp(start), Stamp(end))).collect()
        };
        assert_eq!(stamps("2024-10-01", "2024-11-01"), ["20240914T000000-20241014T000000", "20241014T000000-20241113T000000"]);
        assert_eq!(stamps("2024-09-14", "2024-10-14").len(), 1, "an end on the edge opens no window");
        assert_eq!(windows(5, 5, 30).count(), 1);
        assert_eq!(windows(0, 0, 30).count(), 0, "nothing asked for, no window");
        assert_eq!(windows(-1, 1, 1).collect::<Vec<_>>(), [(-DAY, 0), (0, DAY)]);
    }

    #[test]
    fn objects_lie_where_clients_look_for_them() {
        let (start, end) = (time("2024-09-14"), time("2024-10-14"));
        let key = ChunkKey { interval_seconds: 3_600, start, end, space_id: 1_000 };
        assert_eq!(key.object(), "occupancy/spaces/1000/3600/chunk_20240914T000000_20241014T000000.parquet");
        assert_eq!(key.of_space(-3).document(), "-3/3600/20240914T000000_20241014T000000");
    }

    #[test]
    fn a_bin_belongs_to_a_dataset_when_it_overlaps_its_range() {
        let dataset = Dataset { start_time: time("2024-10-01T00:30:00Z"), end_time: time("2024-10-01T03:00:00Z"), ..empty() };
        let has = |text: &str| dataset.has_bin(time(text));
        assert_eq!(
            ["2024-09-30T23:00:00Z", "2024-10-01T00:00:00Z", "2024-10-01T02:00:00Z", "2024-10-01T03:00:00Z"].map(has),
            [false, true, true, false]
        );
    }

    fn empty() -> Dataset {
        Dataset {
            dataset_id: 1,
            name: "d".into(),
            description: None,
            root_space_id: 1,
            start_time: 0,
            end_time: 0,
            asked: (None, None),
            interval_seconds: 3_600,
            chunk_days: 30,
            force_overwrite: false,
            state: State::Running,
            has_range: true,
            storage_path: None,
            row_count: None,
            column_stats: None,
            error: None,
            created_at: 0,
            completed_at: None,
        }
    }

    #[test]
    fn a_chunk_reads_back_as_it_was_recorded() {
        let key = ChunkKey { interval_seconds: 900, start: 0, end: DAY, space_id: 7 };
        let mut chunk = Chunk {
            chunk_id: 3,
            key,
            space_type: SpaceType::Both,
            children: BTreeMap::from([(8, Some(u64::MAX)), (9, None)]),
            state: State::Completed,
            opening: 2,
            opened_at: 5,
            run_id: Some("r".into()),
            error: None,
            content: Some(u64::MAX - 1),
            rows: 4,
            as_of: Some(6),
            created_at: 1,
            completed_at: Some(2),
        };
        let json = serde_json::to_value(&chunk).expect("json");
        assert_eq!((json["space_type"].as_str(), json["state"].as_str()), (Some("source+derived"), Some("COMPLETED")));
        assert_eq!(serde_json::from_value::<Chunk>(json).expect("a chunk"), chunk);
        chunk.open(9);
        assert_eq!((chunk.state, chunk.opening, chunk.opened_at, chunk.children[&8]), (State::Pending, 3, 9, None));
    }
}
