//! WiFi sessions, spaces, and what is counted of them.
//!
//! A *WiFi session* is the association of one device with an access point in one space, over `[start, end)`. In the log it is an
//! [`Event`] with a [`Stay`]: `user` is the device (a pseudonym of its MAC address, unless the deployment keeps addresses), `time` the
//! start, `item` the sensor. Its identity is (device, space, start): a later row of the same identity closes or corrects it.
//!
//! What views count of sessions are *cells*: a measure of one space at one time, with numbers that add up. So every change is a sum of
//! differences, wherever the sums lie: in memory, or in cold parts.

use crate::time::{DAY, HOUR, MINUTE, SECOND};
use crate::{ColdPart, Event, EventId, Fixed4, Micros, Movement, SourceId};
use ecow::EcoString;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The number of a space: a campus, a building, a floor, a room.
pub type SpaceId = i32;

/// The widths of bins that can be asked for, in seconds. Each divides a day, so bins are aligned to the epoch and to days in UTC.
pub const INTERVALS: [u32; 7] = [900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400];

/// Views learn the time in steps of this: the narrowest bin. An open session lasts to the end of the step under way.
pub const CLOCK_STEP: Micros = 15 * MINUTE;

/// The event type of WiFi sessions in listings.
pub const EVENT_TYPE: &str = "wifi_session";

/// What makes an event a WiFi session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stay {
    /// Absent while the session is open.
    pub end: Option<Micros>,
    pub space: SpaceId,
    /// The device's address was made up by it (the locally administered bit): it may be a known device under another name.
    pub randomized: bool,
}

/// The parts of a WiFi session, checked, on their way to become an event.
#[derive(Clone, Debug, PartialEq)]
pub struct WifiSession {
    pub source: SourceId,
    pub device: EcoString,
    pub sensor: EcoString,
    pub start: Micros,
    pub stay: Stay,
}

impl WifiSession {
    pub fn into_event(self) -> Event {
        Event {
            source: self.source,
            movement: Movement::None,
            late: false,
            time: self.start,
            id: EventId::stay(&self.device, self.stay.space, self.start),
            value: Fixed4(0),
            user: self.device,
            event_type: EVENT_TYPE.into(),
            page: EcoString::new(),
            item: self.sensor,
            extra: None,
            stay: Some(self.stay),
        }
    }
}

/// A node of the space tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Space {
    pub space_id: SpaceId,
    pub space_name: Option<EcoString>,
    /// Absent for a root. A parent that is not known (yet) makes the space an orphan: it counts as a root meanwhile.
    pub parent_space_id: Option<SpaceId>,
    pub building_room: Option<EcoString>,
    /// Devices it is made for; crossing it is worth an alert.
    pub capacity: Option<u32>,
}

/// The settings of a source of WiFi sessions that change answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WifiSettings {
    /// An open session is taken to last at most so long.
    pub max_open: Micros,
    /// The bins that are kept, in seconds; ascending, of [`INTERVALS`].
    pub intervals: Vec<u32>,
    /// Sessions of a device in a space that follow one another within this time are one visit.
    pub visit_gap: Micros,
    /// A device that appears in another space within this time has moved there.
    pub move_gap: Micros,
}

impl Default for WifiSettings {
    fn default() -> Self {
        Self { max_open: 12 * HOUR, intervals: vec![900, 3_600, 86_400], visit_gap: 10 * MINUTE, move_gap: HOUR }
    }
}

impl WifiSettings {
    /// The narrowest bins that are kept, in seconds.
    pub fn narrowest(&self) -> u32 {
        self.intervals.first().copied().unwrap_or(INTERVALS[0])
    }

    pub fn keeps(&self, interval: u32) -> bool {
        self.intervals.contains(&interval)
    }
}

/// What a cell counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Measure {
    /// Distinct devices in a bin of so many seconds. `time` is the bin's begin.
    Devices(u32),
    /// Visits on a day (UTC); a visit over midnight counts on both. `micros` adds up how long they were.
    Visits,
    /// Visits on a day whose length falls into the bucket `other` (see [`DWELL_BUCKETS`]).
    Dwell,
    /// Devices that moved from `space` to the space `other`, by the hour in which they arrived.
    Moves,
}

/// Upper ends of the buckets of [`Measure::Dwell`], inclusive; the last bucket is open.
pub const DWELL_BUCKETS: [Micros; 11] =
    [MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 16 * HOUR];

/// The bucket of a visit of this length.
pub fn dwell_bucket(length: Micros) -> i32 {
    DWELL_BUCKETS.partition_point(|end| *end < length) as i32
}

impl Measure {
    /// Its number in cold parts. Never change it.
    pub fn code(self) -> u32 {
        match self {
            Self::Visits => 1,
            Self::Dwell => 2,
            Self::Moves => 3,
            Self::Devices(seconds) => seconds,
        }
    }

    pub fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Visits),
            2 => Some(Self::Dwell),
            3 => Some(Self::Moves),
            seconds => INTERVALS.contains(&seconds).then_some(Self::Devices(seconds)),
        }
    }

    /// How far apart its times are.
    pub fn width(self) -> Micros {
        match self {
            Self::Devices(seconds) => i64::from(seconds) * SECOND,
            Self::Visits | Self::Dwell => DAY,
            Self::Moves => HOUR,
        }
    }
}

/// Which cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CellKey {
    pub space: SpaceId,
    pub measure: Measure,
    pub time: Micros,
    /// Where a move led, or a bucket; 0 otherwise.
    pub other: i32,
}

/// The numbers of a cell, or a difference of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cell {
    pub count: i64,
    /// Of `count`, those of devices with randomised addresses.
    pub randomized: i64,
    pub micros: i64,
}

impl Cell {
    pub const ZERO: Self = Self { count: 0, randomized: 0, micros: 0 };

    /// One device, or visit, or move.
    pub fn one(randomized: bool) -> Self {
        Self { count: 1, randomized: i64::from(randomized), micros: 0 }
    }

    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    pub fn add(&mut self, other: Self) {
        self.count += other.count;
        self.randomized += other.randomized;
        self.micros += other.micros;
    }

    pub fn negated(self) -> Self {
        Self { count: -self.count, randomized: -self.randomized, micros: -self.micros }
    }
}

/// A session as it leaves memory, or comes back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SealedStay {
    pub start: Micros,
    pub end: Micros,
    pub space: SpaceId,
    /// Whether it was never closed: `end` is then as far as it was taken to last.
    pub open: bool,
    /// It was taken back: whatever earlier parts say of it does not count.
    pub deleted: bool,
}

/// From here on, sessions that begin before `boundary` are late. Sealing follows; see [`SealStays`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealFrom {
    pub source: SourceId,
    /// The begin of a day (UTC). Never moves back.
    pub boundary: Micros,
}

/// Sessions that ended by `boundary`, and cells before it, leave memory: they lie in parts that were written before this record.
///
/// Numbers in cells of several parts add up, and with what memory has of the same cell: what changes a sealed cell later is a difference.
/// Of several parts with the same session, the one exported last says what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SealStays {
    pub source: SourceId,
    pub boundary: Micros,
    pub stays: Vec<ColdPart>,
    pub cells: Vec<ColdPart>,
    /// The bins that were kept at the time: others have to be counted from the sessions.
    pub intervals: Vec<u32>,
}

/// Parts of sealed sessions and cells are replaced by others that say the same, or, after an erasure or by retention, less.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplaceStays {
    pub source: SourceId,
    pub removed: Vec<EcoString>,
    pub stays: Vec<ColdPart>,
    pub cells: Vec<ColdPart>,
    /// Sessions that ended before this are gone, by retention. Never moves back.
    pub retained_from: Option<Micros>,
}

impl ReplaceStays {
    /// Puts the new parts in the place of the old ones.
    pub fn apply(&self, stays: &mut Vec<ColdPart>, cells: &mut Vec<ColdPart>) {
        for (parts, added) in [(stays, &self.stays), (cells, &self.cells)] {
            parts.retain(|part| !self.removed.contains(&part.name));
            parts.extend(added.iter().cloned());
        }
    }
}

/// Sealed sessions of some devices come back into memory, and the devices' pending rows are applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reopen {
    pub source: SourceId,
    pub devices: Vec<ReopenedDevice>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReopenedDevice {
    /// Empty once the device has been erased.
    pub device: EcoString,
    pub randomized: bool,
    /// Every sealed session of the device, also those that were taken back. What memory has of a session counts more.
    pub stays: Vec<SealedStay>,
}

/// The begins of the bins of `width` that `[start, end)` touches. Half open on both sides: a session that ends as a bin begins is not in
/// it, and one without length is only in a bin around it.
pub fn bins(start: Micros, end: Micros, width: Micros) -> Range<i64> {
    let first = start.div_euclid(width);
    let after = if start == end { first + i64::from(start.rem_euclid(width) != 0) } else { (end - 1).div_euclid(width) + 1 };
    first..after.max(first)
}

/// Gives the begin of every bin that one of these sessions of one device in one space touches, once. `spans` in order of their starts.
pub fn distinct_bins(spans: impl IntoIterator<Item = (Micros, Micros)>, width: Micros, mut each: impl FnMut(Micros)) {
    let mut next = i64::MIN;
    for (start, end) in spans {
        let bins = bins(start, end, width);
        for bin in bins.start.max(next)..bins.end {
            each(bin * width);
        }
        next = next.max(bins.end);
    }
}

/// The time to which open sessions are taken to last when the log's clock shows `now`.
pub fn clock_at(now: Micros) -> Micros {
    now.div_euclid(CLOCK_STEP).saturating_add(i64::from(now.rem_euclid(CLOCK_STEP) != 0)) * CLOCK_STEP
}

/// Until when a session is taken to last.
pub fn effective_end(start: Micros, end: Option<Micros>, clock: Micros, max_open: Micros) -> Micros {
    end.unwrap_or_else(|| clock.min(start.saturating_add(max_open)).max(start))
}

/// Whether an address was made up by its device: the locally administered bit, without the one that marks groups.
pub fn is_randomized(mac: [u8; 6]) -> bool {
    mac[0] & 0b11 == 0b10
}

/// Reads a MAC address: six pairs of hexadecimal digits, joined by `:` or `-`, in groups of four joined by `.`, or not joined at all.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let digits: Vec<u8> = match text.len() {
        17 => {
            let joined = |at: usize| matches!(text.as_bytes()[at], b':' | b'-') && text.as_bytes()[at] == text.as_bytes()[2];
            if !(2..17).step_by(3).all(joined) {
                return None;
            }
            text.bytes().enumerate().filter(|(at, _)| at % 3 != 2).map(|(_, b)| b).collect()
        }
        14 if text.as_bytes()[4] == b'.' && text.as_bytes()[9] == b'.' => text.bytes().filter(|b| *b != b'.').collect(),
        12 => text.bytes().collect(),
        _ => return None,
    };
    if digits.len() != 12 {
        return None;
    }
    let mut mac = [0; 6];
    for (byte, pair) in mac.iter_mut().zip(digits.chunks(2)) {
        let digit = |b: u8| char::from(b).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_half_open_on_both_sides() {
        let bins = |start, end| bins(start, end, 10).collect::<Vec<_>>();
        assert_eq!(bins(9, 21), [0, 1, 2]);
        assert_eq!(bins(10, 20), [1]);
        assert_eq!(bins(0, 1), [0]);
        assert_eq!(bins(5, 5), [0], "without length, inside");
        assert_eq!(bins(10, 10), [0i64; 0], "without length, on an edge");
        assert_eq!(bins(19, 20), [1]);
    }

    #[test]
    fn every_interval_divides_a_day() {
        assert!(INTERVALS.iter().all(|seconds| DAY % (i64::from(*seconds) * SECOND) == 0));
        assert!(INTERVALS.is_sorted());
        assert!(INTERVALS.iter().all(|seconds| Measure::from_code(Measure::Devices(*seconds).code()) == Some(Measure::Devices(*seconds))));
    }

    #[test]
    fn an_open_session_lasts_to_the_end_of_the_step() {
        let start = 10 * HOUR + MINUTE;
        assert_eq!(effective_end(start, None, clock_at(start + MINUTE), 12 * HOUR), 10 * HOUR + 15 * MINUTE);
        assert_eq!(effective_end(start, None, clock_at(0), 12 * HOUR), start);
        assert_eq!(effective_end(start, None, clock_at(start + DAY), 12 * HOUR), start + 12 * HOUR);
        assert_eq!(effective_end(start, Some(start + 1), clock_at(start + DAY), 12 * HOUR), start + 1);
        assert_eq!(clock_at(10 * HOUR), 10 * HOUR, "on the edge a new bin has not begun");
    }

    #[test]
    fn addresses_are_read_in_their_usual_forms() {
        let mac = [0xda, 0xa1, 0x19, 0x00, 0xff, 0x01];
        for text in ["da:a1:19:00:ff:01", "DA-A1-19-00-FF-01", "daa1.1900.ff01", "daa11900ff01"] {
            assert_eq!(parse_mac(text), Some(mac), "{text}");
        }
        for text in ["aa", "", "da:a1:19:00:ff:0g", "da:a1-19:00:ff:01", "daa1:1900:ff01", "é2345678901"] {
            assert_eq!(parse_mac(text), None, "{text}");
        }
        assert!(is_randomized(mac));
        assert!(!is_randomized([0x00, 0, 0, 0, 0, 0]) && !is_randomized([0x03, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn lengths_fall_into_buckets() {
        assert_eq!([dwell_bucket(0), dwell_bucket(MINUTE), dwell_bucket(MINUTE + 1), dwell_bucket(DAY)], [0, 0, 1, 11]);
    }
}
