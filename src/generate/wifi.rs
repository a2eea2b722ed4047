//! A synthetic campus: devices associate with access points, room by room.
//!
//! A row is one stay of a device in a room: `{mac_address, space_id, sensor_id, start_time, end_time}`, emitted when it ends, in
//! the order of the ends; a share of them ([`Campus::opening`]) is also told when it begins, with the end `null`. Every person carries a
//! phone (stays of 5 to 60 minutes, walks in between, there on weekdays from about 8 to 19 h); six in ten have a laptop (1 to 5 hours);
//! for every ten people there is one static device (a printer, a screen) that never leaves its room and reconnects every 1 to 12 hours.
//! Four phones in ten have made their address up.
//!
//! Where they stay: [`mod@super::spaces`]. Each room has two sensors. Times are UTC.
//!
//! A live campus ([`Campus::live`]) never sleeps, and its rows are due when they are told. It has so many people that they send the rows
//! asked for, or, where that are too few, people who move faster.

use super::disturb::Arriving;
use super::random::Random;
use super::spaces::{BUILDINGS, FLOORS, ROOMS};
use super::{Endpoint, Format, Generated};
use desireline_records::Micros;
use desireline_records::time::{DAY, HOUR, MINUTE, SECOND, format_rfc3339};
use reqwest::Method;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// One stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WifiSession {
    /// 48 bits; locally administered, when the device has made it up.
    pub mac: u64,
    pub space_id: u32,
    pub sensor: u8,
    pub start: Micros,
    /// Absent when this is the row of its begin.
    pub end: Option<Micros>,
    pub arrival: Micros,
    pub duplicate: bool,
}

fn mac_bytes(mac: u64) -> [u8; 6] {
    let [_, _, bytes @ ..] = mac.to_be_bytes();
    bytes
}

impl WifiSession {
    pub fn mac_address(&self) -> String {
        let [a, b, c, d, e, f] = mac_bytes(self.mac);
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }

    pub fn sensor_id(&self) -> String {
        format!("ap-{}-{}", self.space_id, self.sensor)
    }
}

impl Arriving for WifiSession {
    fn arrival(&self) -> Micros {
        self.arrival
    }

    fn set_arrival(&mut self, arrival: Micros) {
        self.arrival = arrival;
    }

    fn mark_duplicate(&mut self) {
        self.duplicate = true;
    }
}

impl Generated for WifiSession {
    const CSV_HEADER: &'static str = "mac_address,space_id,sensor_id,start_time,end_time";
    const ENDPOINT: Option<Endpoint> = Some(Endpoint { method: Method::POST, path: "/api/wifi-sessions", field: "sessions" });

    fn csv(&self, out: &mut String) {
        let (start, end) = (format_rfc3339(self.start), self.end.map(format_rfc3339).unwrap_or_default());
        out.push_str(&format!("{},{},{},{start},{end}\n", self.mac_address(), self.space_id, self.sensor_id()));
    }

    fn json(&self, _: Format, out: &mut String) {
        let text = format!(
            "{{\"mac_address\":\"{}\",\"space_id\":{},\"sensor_id\":\"{}\",\"start_time\":\"{}\",\"end_time\":{}}}",
            self.mac_address(),
            self.space_id,
            self.sensor_id(),
            format_rfc3339(self.start),
            self.end.map_or_else(|| "null".to_owned(), |end| format!("\"{}\"", format_rfc3339(end))),
        );
        out.push_str(&text);
    }

    fn key(&self) -> String {
        self.mac_address()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Static,
    Laptop,
    Phone,
}

/// A device in a room; ordered by when something is to be told of it.
#[derive(Debug, PartialEq, Eq)]
struct Stay {
    end: Micros,
    /// Its begin is to be told first.
    opens: bool,
    sensor: u8,
    mac: u64,
    start: Micros,
    room: u32,
    home: u32,
    device: Device,
}

impl PartialOrd for Stay {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Stay {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due(), self.mac).cmp(&(other.due(), other.mac))
    }
}

impl Stay {
    fn due(&self) -> Micros {
        if self.opens { self.start } else { self.end }
    }
}

/// The stays of all devices, without end. Memory: 60 bytes per device.
pub struct Campus {
    random: Random,
    stays: BinaryHeap<Reverse<Stay>>,
    open: f64,
    pace: Pace,
}

/// How people live.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// They go home.
    rhythm: bool,
    /// What stays and walks are shortened by.
    scale: f64,
}

impl Pace {
    fn scaled(self, length: Micros) -> Micros {
        (length as f64 * self.scale) as Micros
    }
}

/// Sessions per second and person, by day: a phone has one in 2,430 s, a laptop in 13,650 s, a static device in 23,430 s.
const NATURAL_RATE: f64 = 1.0 / 2_430.0 + 0.6 / 13_650.0 + 0.1 / 23_430.0;
/// Nobody moves faster: stays of three seconds.
const SCALE_MIN: f64 = 0.01;

/// How many people send so many rows a second, of which each session has `rows`, and how much faster they have to live.
fn crowd(people: u32, rate: f64, rows: f64) -> (u32, f64) {
    let each = NATURAL_RATE * rows;
    let people = f64::from(people).min((rate / each).ceil()).max(1.0);
    (people as u32, (people * each / rate).min(1.0))
}

/// The highest rate of a live campus.
pub fn live_rate_max(people: u32, open: f64, duplicates: f64) -> f64 {
    f64::from(people.max(1)) * NATURAL_RATE * (1.0 + open) * (1.0 + duplicates) / SCALE_MIN
}

impl Campus {
    pub fn new(seed: u64, people: u32, start: Micros) -> Self {
        Self::with_pace(seed, people, start, Pace { rhythm: true, scale: 1.0 })
    }

    /// A campus in full swing at `now`, whose rows are due from then on: `rate` of them a second, copies included.
    pub fn live(seed: u64, people: u32, now: Micros, rate: f64, open: f64, duplicates: f64) -> Self {
        let (people, scale) = crowd(people, rate, (1.0 + open) * (1.0 + duplicates));
        let pace = Pace { rhythm: false, scale };
        // Half a day later, when people have scattered.
        let mut campus = Self::with_pace(seed, people, now - pace.scaled(12 * HOUR), pace).opening(open);
        while campus.stays.peek().is_some_and(|Reverse(stay)| stay.due() < now) {
            campus.next();
        }
        campus
    }

    fn with_pace(seed: u64, people: u32, start: Micros, pace: Pace) -> Self {
        let mut random = Random::new(seed, 0x31F1);
        let mut stays = BinaryHeap::new();
        let mut number = 0;
        for person in 0..people.max(1) {
            let home = room(&mut random);
            let mut devices = vec![Device::Phone];
            if random.chance(0.6) {
                devices.push(Device::Laptop);
            }
            if person % 10 == 0 {
                devices.push(Device::Static);
            }
            for device in devices {
                number += 1;
                // Locally administered: the second lowest bit of the first byte; the number keeps addresses apart.
                let made_up = device == Device::Phone && person % 5 < 2;
                let mac = if made_up { 0x0200_0000_0000 } else { 0 } | (number << 8) | random.below(256);
                let from = start + pace.scaled(random.between(0, HOUR / SECOND) * SECOND);
                let stay = Stay { end: 0, opens: false, sensor: 1, mac, start: from, room: home, home, device };
                stays.push(Reverse(settle(stay, from, pace, &mut random)));
            }
        }
        Self { random, stays, open: 0.0, pace }
    }

    /// This share of the sessions is also told when it begins.
    pub fn opening(mut self, share: f64) -> Self {
        self.open = share;
        let stays = std::mem::take(&mut self.stays).into_sorted_vec();
        self.stays = stays.into_iter().map(|Reverse(stay)| Reverse(Stay { opens: self.random.chance(share), ..stay })).collect();
        self
    }
}

impl Iterator for Campus {
    type Item = WifiSession;

    fn next(&mut self) -> Option<WifiSession> {
        let Reverse(stay) = self.stays.pop()?;
        let session = WifiSession {
            mac: stay.mac,
            space_id: stay.room,
            sensor: stay.sensor,
            start: stay.start,
            end: (!stay.opens).then_some(stay.end),
            arrival: stay.due(),
            duplicate: false,
        };
        if stay.opens {
            self.stays.push(Reverse(Stay { opens: false, ..stay }));
            return Some(session);
        }
        let pause = match stay.device {
            Device::Static => self.random.between(0, 60) * SECOND,
            Device::Laptop => self.random.between(5, 90) * MINUTE,
            Device::Phone => self.random.between(1, 15) * MINUTE,
        };
        let from = stay.end + self.pace.scaled(pause);
        let next = settle(stay, from, self.pace, &mut self.random);
        let opens = self.open > 0.0 && self.random.chance(self.open);
        self.stays.push(Reverse(Stay { opens, ..next }));
        Some(session)
    }
}

/// The device's next stay, at `from` or when its owner is next there.
fn settle(stay: Stay, from: Micros, pace: Pace, random: &mut Random) -> Stay {
    let present = |random: &mut Random| if pace.rhythm { present(from, random) } else { from };
    let (start, room, length) = match stay.device {
        Device::Static => (from, stay.home, random.between(60, 720) * MINUTE),
        Device::Laptop => (present(random), near(stay.home, random, 0.7), random.between(60, 300) * MINUTE),
        Device::Phone => (present(random), near(stay.home, random, 0.4), random.between(300, 3_600) * SECOND),
    };
    Stay { start, end: start + pace.scaled(length).max(SECOND), room, sensor: 1 + random.below(2) as u8, ..stay }
}

/// `from`, or a moment of the next weekday morning when it lies in the night or on a weekend.
fn present(from: Micros, random: &mut Random) -> Micros {
    let mut day = from.div_euclid(DAY);
    let hour = from.rem_euclid(DAY) / HOUR;
    if is_workday(day) && (8..19).contains(&hour) {
        return from;
    }
    if is_workday(day) && hour < 8 {
        return day * DAY + 8 * HOUR + random.between(0, 5_400) * SECOND;
    }
    day += 1;
    while !is_workday(day) {
        day += 1;
    }
    day * DAY + 8 * HOUR + random.between(0, 5_400) * SECOND
}

/// 1970-01-01 was a Thursday.
fn is_workday(day: i64) -> bool {
    (day + 3).rem_euclid(7) < 5
}

fn room(random: &mut Random) -> u32 {
    let (b, f, r) = (random.below(u64::from(BUILDINGS)), random.below(u64::from(FLOORS)), random.below(u64::from(ROOMS)));
    1_000 * (b as u32 + 1) + 100 * (f as u32 + 1) + r as u32 + 1
}

/// The own room, else mostly one of the same building.
fn near(home: u32, random: &mut Random, stays: f64) -> u32 {
    if random.chance(stays) {
        return home;
    }
    let other = room(random);
    if random.chance(0.8) { home / 1_000 * 1_000 + other % 1_000 } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::START_DEFAULT;
    use crate::generate::spaces::spaces;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn the_tree_holds_every_room_that_is_stayed_in() {
        let tree = spaces();
        let ids: HashSet<u32> = tree.iter().map(|s| s.space_id).collect();
        let inner: HashSet<u32> = tree.iter().filter_map(|s| s.parent_space_id).collect();
        assert!(inner.is_subset(&ids));
        for session in Campus::new(1, 200, START_DEFAULT).take(5_000) {
            assert!(ids.contains(&session.space_id) && !inner.contains(&session.space_id), "{session:?}");
        }
    }

    #[test]
    fn a_device_is_in_one_place_at_a_time() {
        let mut last: HashMap<u64, Micros> = HashMap::new();
        let mut previous_end = 0;
        for session in Campus::new(2, 300, START_DEFAULT).take(20_000) {
            let end = session.end.expect("each is told when it ends");
            assert!(session.start < end && end >= previous_end);
            let before = last.insert(session.mac, end).unwrap_or(0);
            assert!(session.start >= before, "{session:?}");
            previous_end = end;
        }
        // 300 phones, about 180 laptops, 30 static devices.
        assert!((470..550).contains(&last.len()), "{}", last.len());
    }

    #[test]
    fn people_are_there_on_workdays_and_machines_always() {
        let mut rooms: HashMap<u64, HashSet<u32>> = HashMap::new();
        let mut night = HashSet::new();
        for session in Campus::new(3, 100, START_DEFAULT).take(40_000) {
            rooms.entry(session.mac).or_default().insert(session.space_id);
            let hour = session.start.rem_euclid(DAY) / HOUR;
            if hour < 8 || !is_workday(session.start.div_euclid(DAY)) {
                night.insert(session.mac);
            }
        }
        let still: HashSet<u64> = rooms.iter().filter(|(_, r)| r.len() == 1).map(|(mac, _)| *mac).collect();
        assert_eq!(still.len(), 10);
        assert_eq!(night, still);
    }

    #[test]
    fn open_sessions_are_closed_later() {
        let mut open: HashMap<(u64, u32, Micros), Micros> = HashMap::new();
        let (mut opened, mut closed, mut last) = (0, 0, 0);
        for session in Campus::new(4, 200, START_DEFAULT).opening(0.5).take(20_000) {
            assert!(session.arrival >= last, "in the order of arrival");
            last = session.arrival;
            let key = (session.mac, session.space_id, session.start);
            match session.end {
                None => {
                    opened += 1;
                    assert_eq!(session.arrival, session.start);
                    assert!(open.insert(key, session.start).is_none(), "told once");
                }
                Some(end) => {
                    closed += 1;
                    assert_eq!(session.arrival, end);
                    open.remove(&key);
                }
            }
        }
        let share = f64::from(opened) / f64::from(closed);
        assert!((0.45..0.6).contains(&share), "{share}");
        assert!(open.len() <= 400, "only those under way are open: {}", open.len());
    }

    #[test]
    fn a_live_campus_sends_what_is_asked_for_from_now_on() {
        const NOW: Micros = 1_736_640_000_000_000; // A Sunday's midnight.
        for (people, rate) in [(300, 2.0), (100_000, 5.0)] {
            let rows: Vec<WifiSession> = Campus::live(7, people, NOW, rate, 0.5, 0.0).take(6_000).collect();
            assert!(rows.is_sorted_by_key(|row| row.arrival) && rows[0].arrival >= NOW);
            assert!(rows.iter().all(|row| row.start <= row.arrival && row.end.is_none_or(|end| end == row.arrival && end > row.start)));
            let seconds = (rows[5_999].arrival - NOW) as f64 / SECOND as f64;
            let seen = 6_000.0 / seconds;
            assert!((0.8 * rate..1.25 * rate).contains(&seen), "{seen} rows a second instead of {rate}");
        }
        assert!((25.0..50.0).contains(&(live_rate_max(1_000, 0.0, 0.0))), "{}", live_rate_max(1_000, 0.0, 0.0));
    }

    #[test]
    fn some_phones_make_their_addresses_up() {
        let macs: HashSet<u64> = Campus::new(5, 1_000, START_DEFAULT).take(20_000).map(|session| session.mac).collect();
        let made_up = macs.iter().filter(|mac| desireline_records::wifi::is_randomized(mac_bytes(**mac))).count();
        assert_eq!(made_up, 400, "of {}", macs.len());
    }

    #[test]
    fn rows_are_printed() {
        let mut text = String::new();
        let session = WifiSession {
            mac: 0x0200_0000_01ff,
            space_id: 2_305,
            sensor: 2,
            start: 0,
            end: Some(MINUTE),
            arrival: MINUTE,
            duplicate: false,
        };
        session.csv(&mut text);
        assert_eq!(text, "02:00:00:00:01:ff,2305,ap-2305-2,1970-01-01T00:00:00.000Z,1970-01-01T00:01:00.000Z\n");
        text.clear();
        session.json(Format::Desireline, &mut text);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["sensor_id"], "ap-2305-2");
        assert_eq!(value["end_time"], "1970-01-01T00:01:00.000Z");
        let open = WifiSession { end: None, ..session };
        text.clear();
        open.json(Format::Desireline, &mut text);
        assert!(text.ends_with("\"end_time\":null}"), "{text}");
        text.clear();
        open.csv(&mut text);
        assert!(text.ends_with(".000Z,\n"), "{text}");
    }
}
