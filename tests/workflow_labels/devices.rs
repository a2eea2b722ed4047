//! The devices of these tests: 100 that stay where they are and connect now and then, 100 laptops of office hours, 100 phones.

use chrono::{NaiveDate, NaiveDateTime};

pub struct Session {
    pub mac: String,
    pub space: i32,
    pub start: NaiveDateTime,
    pub end: NaiveDateTime,
}

/// Devices of each kind.
pub const OF_KIND: usize = 100;
pub const DEVICES: usize = 3 * OF_KIND;
/// Static devices that were seen in 2023 only.
pub const OF_2023: usize = 20;

pub fn mac(kind: usize, number: usize) -> String {
    format!("00:1a:00:00:{kind:02x}:{number:02x}")
}

/// A stay from so many minutes after midnight, for so many minutes.
fn stay(mac: &str, space: i32, day: NaiveDate, from: i64, minutes: i64) -> Session {
    let start = day.and_hms_opt(0, 0, 0).unwrap() + chrono::Duration::minutes(from);
    Session { mac: mac.to_owned(), space, start, end: start + chrono::Duration::minutes(minutes) }
}

/// All sessions. In the terms of the rule: static devices have only short connections at one access point, laptops none but long ones at
/// two, phones only short ones at five.
pub fn sessions() -> Vec<Session> {
    let mut sessions = Vec::new();
    // A Monday.
    let begin = NaiveDate::from_ymd_opt(2024, 3, 4).unwrap();
    let day = |number: u64| begin + chrono::Days::new(number);
    for number in 0..OF_KIND {
        let mac = mac(0, number);
        let year_before = if number < OF_2023 { 364 } else { 0 };
        for (at, minutes) in [(0, 60), (3, 45), (4, 110), (9, 30), (11, 75), (15, 20)] {
            let day = day(at) - chrono::Days::new(year_before);
            sessions.push(stay(&mac, 1_000 + (number % 3) as i32, day, 540 + number as i64, minutes));
        }
    }
    for number in 0..OF_KIND {
        let mac = mac(1, number);
        let office_days = (0..14).filter(|day| day % 7 < 5);
        sessions.extend(office_days.map(|at| stay(&mac, 1_000 + (at % 2) as i32, day(at), 540, 500 + number as i64)));
    }
    for number in 0..OF_KIND {
        let mac = mac(2, number);
        for at in 0..14 {
            let spaces = [1_000, 1_001, 1_002, 1_010, 1_011];
            let short = |n: i64| stay(&mac, spaces[(at as usize + n as usize) % 5], day(at), 480 + 200 * n, 5 + number as i64 % 20);
            sessions.extend((0..3).map(short));
        }
    }
    sessions
}
