//! A click file with the proportions of the RetailRocket data set, for load tests: at full size 2,756,101 rows of 1.4 million
//! visitors on 235,061 items over four and a half months, 96.7 % views, 2.5 % additions to the cart, 0.8 % transactions.
//!
//! # What it promises
//! * The columns of the format `ampelios`; exactly the rows asked for, and exactly [`visitors`] different visitors.
//! * Shuffled as the original: the file is a sequence of blocks of 65,536 rows, each block of one stretch of time; the stretches
//!   stand in random order, and so do the rows within a block.
//! * Seven visitors in ten have a single row; the busiest one has a few thousand at full size.
//! * Memory: one block (about 4 MB), at any size. Above a million rows per second and core.
//!
//! Other sizes keep the proportions; the time is always the whole four and a half months.

use super::options::{GenerateError, GenerateOptions, Target};
use super::random::{Random, mix};
use super::{Progress, Report};
use desireline_records::Micros;
use desireline_records::time::HOUR;
use std::fs::File;
use std::io::{self, Write};

/// Rows of the original.
pub const EVENTS: u64 = 2_756_101;
const VISITORS: u64 = 1_407_580;
const ITEMS: u64 = 235_061;
/// 2015-05-03T03:00:00Z to 2015-09-18T03:00:00Z, in milliseconds.
const BEGIN_MS: u64 = 1_430_622_000_000;
const SPAN_MS: u64 = 138 * 24 * 3_600_000;
const BLOCK_ROWS: u64 = 65_536;
/// Chance that a visit has a second row, and that it goes on after that.
const SECOND_ROW: f64 = 0.24;
const NEXT_ROW: f64 = 0.57;
/// Rows per visit: `1 + SECOND_ROW / (1 - NEXT_ROW)`.
const VISIT_ROWS_MEAN: f64 = 1.0 + SECOND_ROW / (1.0 - NEXT_ROW);
const VISIT_ROWS_MAX: u32 = 200;
const CART_SHARE: f64 = 69_332.0 / EVENTS as f64;
const TRANSACTION_SHARE: f64 = 22_457.0 / EVENTS as f64;
/// Visits per hour of the day, relative to each other.
const RHYTHM: [u32; 24] = [9, 11, 12, 12, 10, 7, 4, 2, 2, 1, 1, 1, 2, 3, 5, 8, 10, 11, 11, 10, 10, 10, 10, 9];

/// How many different visitors a file of so many rows has.
pub fn visitors(events: u64) -> u64 {
    scaled(VISITORS, events).clamp(1, events.max(1))
}

fn scaled(of_full: u64, events: u64) -> u64 {
    (u128::from(of_full) * u128::from(events) / u128::from(EVENTS)) as u64
}

#[derive(Clone, Copy)]
struct Row {
    time_ms: u64,
    visitor: u32,
    item: u32,
    word: &'static str,
    /// 0 when it is no transaction.
    transaction: u32,
}

/// The file, block by block, as text without the header.
pub struct Blocks {
    random: Random,
    seed: u64,
    events: u64,
    visitors: u64,
    items: u64,
    /// The stretches of time, in the order in which they stand in the file.
    order: Vec<u32>,
    block: usize,
    newcomers: u64,
    transactions: u32,
    rows: Vec<Row>,
}

impl Blocks {
    pub fn new(seed: u64, events: u64) -> Self {
        let mut random = Random::new(seed, 0x4044);
        let blocks = events.div_ceil(BLOCK_ROWS) as u32;
        let mut order: Vec<u32> = (0..blocks).collect();
        shuffle(&mut order, &mut random);
        Self {
            random,
            seed,
            events,
            visitors: visitors(events),
            items: scaled(ITEMS, events).max(1),
            order,
            block: 0,
            newcomers: 0,
            transactions: 0,
            rows: Vec::new(),
        }
    }

    /// Appends the next block to `out`; how many rows it has, 0 at the end.
    pub fn write(&mut self, out: &mut Vec<u8>) -> u64 {
        let Some(stretch) = self.order.get(self.block).copied() else { return 0 };
        let blocks = self.order.len() as u64;
        let at = self.block as u64;
        self.block += 1;
        // Exact shares: what should be done after this block, less what was done before it.
        let rows = self.events * (at + 1) / blocks - self.events * at / blocks;
        let newcomers = self.visitors * (at + 1) / blocks - self.newcomers;
        self.fill(u64::from(stretch), rows, newcomers);
        let mut order = std::mem::take(&mut self.rows);
        shuffle(&mut order, &mut self.random);
        for row in &order {
            print(row, out);
        }
        self.rows = order;
        rows
    }

    /// Visits of one stretch of time until it has its rows; every newcomer gets at least one.
    fn fill(&mut self, stretch: u64, rows: u64, newcomers: u64) {
        self.rows.clear();
        let blocks = self.order.len() as u64;
        let (begin, end) = (SPAN_MS * stretch / blocks, SPAN_MS * (stretch + 1) / blocks);
        let mut left = newcomers;
        let newcomer_share = newcomers as f64 * VISIT_ROWS_MEAN / rows as f64;
        while (self.rows.len() as u64) < rows {
            let room = rows - self.rows.len() as u64;
            let new = left > 0 && (room <= left || self.random.chance(newcomer_share));
            let visitor = if new {
                left -= 1;
                self.newcomers += 1;
                self.newcomers - 1
            } else {
                // Returning: few of them very often.
                let unit = self.random.unit();
                (unit * unit * unit * self.visitors as f64) as u64
            };
            let room = (room - left).max(1) as u32;
            let start = BEGIN_MS + self.moment(begin, end);
            self.visit(visitor, start, room.min(VISIT_ROWS_MAX));
        }
    }

    /// Within `[begin, end)`, by the rhythm of the day.
    fn moment(&mut self, begin: u64, end: u64) -> u64 {
        loop {
            let at = begin + self.random.below(end - begin);
            let hour = (at / (HOUR as u64 / 1_000) + 3) % 24;
            if self.random.below(12) < u64::from(RHYTHM[hour as usize]) {
                return at;
            }
        }
    }

    fn visit(&mut self, visitor: u64, start: u64, rows_max: u32) {
        // Numbers as the original has them: without order in time, and without gaps.
        let visitor = spread(visitor, self.visitors, self.seed) as u32;
        let mut time_ms = start;
        let mut item = self.item();
        let more = 1.0 - 1.0 / VISIT_ROWS_MEAN;
        for row in 0..rows_max {
            // All additions and transactions are second or later rows, about the item before.
            let (word, transaction) = match self.random.unit() * more {
                at if row > 0 && at < TRANSACTION_SHARE => {
                    self.transactions += 1;
                    ("transaction", self.transactions)
                }
                at if row > 0 && at < TRANSACTION_SHARE + CART_SHARE => ("addtocart", 0),
                _ => {
                    item = self.item();
                    ("view", 0)
                }
            };
            self.rows.push(Row { time_ms, visitor, item, word, transaction });
            if !self.random.chance(if row == 0 { SECOND_ROW } else { NEXT_ROW }) {
                return;
            }
            time_ms += 2_000 + self.random.below(300_000);
        }
    }

    fn item(&mut self) -> u32 {
        let unit = self.random.unit();
        let rank = (unit * unit * self.items as f64) as u64;
        spread(rank, self.items, self.seed ^ 1) as u32
    }
}

/// A permutation of `0..n`: a step that shares no factor with `n`, and an offset.
fn spread(index: u64, n: u64, seed: u64) -> u64 {
    // A prime above any n that fits 32 bits shares no factor with it.
    const PRIME: u128 = 4_294_967_311;
    ((u128::from(index) * PRIME + u128::from(mix(seed))) % u128::from(n)) as u64
}

fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last as u64 + 1) as usize);
    }
}

fn print(row: &Row, out: &mut Vec<u8>) {
    decimal(row.time_ms, out);
    out.push(b',');
    decimal(u64::from(row.visitor), out);
    out.push(b',');
    out.extend_from_slice(row.word.as_bytes());
    out.push(b',');
    decimal(u64::from(row.item), out);
    out.push(b',');
    if row.transaction > 0 {
        decimal(u64::from(row.transaction), out);
    }
    out.push(b'\n');
}

fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The last moment of a file, for a server that has to be told.
pub const LAST: Micros = (BEGIN_MS + SPAN_MS) as Micros * 1_000;

pub(super) async fn run(options: &GenerateOptions, progress: &mut (impl FnMut(Progress) + Send)) -> Result<Report, GenerateError> {
    let Target::File(path) = &options.to else {
        return Err(GenerateError::Option { option: "shape", detail: "`retailrocket` is a .csv file of clicks".into() });
    };
    let failed = |source: io::Error| GenerateError::Write { path: path.display().to_string(), source };
    let mut file = File::create(path).map_err(failed)?;
    let mut blocks = Blocks::new(options.seed, options.events);
    let mut report = Report::default();
    let mut buffer = format!("{}\n", super::shop::event::AMPELIOS_HEADER).into_bytes();
    loop {
        let rows = blocks.write(&mut buffer);
        file.write_all(&buffer).map_err(failed)?;
        report.bytes += buffer.len() as u64;
        report.rows += rows;
        buffer.clear();
        if rows == 0 {
            file.flush().map_err(failed)?;
            return Ok(report);
        }
        progress(Progress { rows: report.rows, rows_total: options.events });
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn file(seed: u64, events: u64) -> String {
        let mut out = Vec::new();
        let mut blocks = Blocks::new(seed, events);
        while blocks.write(&mut out) > 0 {}
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn proportions_are_those_of_the_original() {
        let events = 200_000;
        let text = file(24, events);
        let (mut words, mut users, mut items): (HashMap<&str, f64>, HashMap<&str, u32>, HashSet<&str>) = Default::default();
        let (mut first, mut last) = (u64::MAX, 0);
        for line in text.lines() {
            let [time, visitor, word, item, transaction] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let time: u64 = time.parse().expect("milliseconds");
            (first, last) = (first.min(time), last.max(time));
            *words.entry(word).or_default() += 100.0 / events as f64;
            *users.entry(visitor).or_default() += 1;
            items.insert(item);
            assert_eq!(transaction.is_empty(), word != "transaction", "{line}");
        }
        assert_eq!(text.lines().count() as u64, events);
        assert_eq!(users.len() as u64, visitors(events));
        assert!((words["view"] - 96.67).abs() < 0.3, "{words:?}");
        assert!((words["addtocart"] - 2.52).abs() < 0.2, "{words:?}");
        assert!((words["transaction"] - 0.81).abs() < 0.1, "{words:?}");
        let single = users.values().filter(|n| **n == 1).count() as f64 / users.len() as f64;
        assert!((0.6..0.8).contains(&single), "{single}");
        assert!(items.len() as f64 > 0.95 * scaled(ITEMS, events) as f64, "{}", items.len());
        assert!((last - first) as f64 > 0.99 * SPAN_MS as f64);
        assert!(first >= BEGIN_MS && (last as Micros) * 1_000 < LAST + HOUR);
    }

    #[test]
    fn blocks_are_shuffled_stretches_of_time() {
        let text = file(24, 4 * BLOCK_ROWS);
        let times: Vec<u64> = text.lines().map(|l| l[..13].parse().expect("milliseconds")).collect();
        for block in times.chunks(BLOCK_ROWS as usize) {
            let (first, last) = (block.iter().min().expect("rows"), block.iter().max().expect("rows"));
            assert!(last - first < SPAN_MS / 4 + 24 * 3_600_000, "a block is a quarter of the time");
            let falls = block.windows(2).filter(|w| w[0] > w[1]).count();
            assert!((28_000..38_000).contains(&falls), "{falls} of 65,535 neighbours fall");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_file_and_small_ones_work() {
        assert_eq!(file(1, 5_000), file(1, 5_000));
        assert_ne!(file(1, 5_000), file(2, 5_000));
        for events in [0, 1, 2, 7] {
            assert_eq!(file(1, events).lines().count() as u64, events);
        }
    }
}
