//! The streams of events that the experiments are made of. Deterministic, endless, and made in pieces, so that their own
//! memory stays small.

use desireline_records::time::{DAY, HOUR, MINUTE, SECOND};
use desireline_records::{Batch, Control, Event, EventId, Fixed4, Horizon, Micros, Movement, SourceSettings};
use ecow::{EcoString, eco_format};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// 2020-01-01.
const BEGIN: Micros = 1_577_836_800 * SECOND;

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
    }
}

/// An event before it has its strings: what waits for its arrival.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Click {
    arrival: Micros,
    id: u64,
    time: Micros,
    user: u32,
    page: u16,
    kind: u8,
}

/// Visits to a shop: 71,000 events a day of 82,000 users, the busiest of which has two in a hundred; 5 % of the events arrive up
/// to two hours late, 1 % arrive twice. 2 M events are four weeks.
pub struct Shop {
    random: Random,
    users: Vec<EcoString>,
    /// Cumulative shares: a user's is proportional to rank^-0.8.
    shares: Vec<f64>,
    pages: Vec<EcoString>,
    words: [(EcoString, Movement); 4],
    now: Micros,
    ids: u64,
    arriving: BinaryHeap<Reverse<Click>>,
}

pub const SHOP_USERS: usize = 83_000;
const SHOP_PAGES: u64 = 400;
const VISIT_EVENTS_MEAN: f64 = 4.0;
const EVENTS_PER_DAY: f64 = 71_000.0;

impl Shop {
    pub fn new(seed: u64) -> Self {
        let mut sum = 0.0;
        let shares = (1..=SHOP_USERS)
            .map(|rank| {
                sum += (rank as f64).powf(-0.8);
                sum
            })
            .collect();
        let word = |word: &str, movement| (EcoString::from(word), movement);
        Self {
            random: Random(seed),
            users: (0..SHOP_USERS).map(|user| eco_format!("u{user:08}")).collect(),
            shares,
            pages: (0..SHOP_PAGES).map(|page| eco_format!("/item/{page}")).collect(),
            words: [
                word("page_view", Movement::View),
                word("search", Movement::None),
                word("addtocart", Movement::Cart),
                word("transaction", Movement::Transaction),
            ],
            now: BEGIN,
            ids: 0,
            arriving: BinaryHeap::new(),
        }
    }

    /// The front of event time.
    pub fn now(&self) -> Micros {
        self.now
    }

    fn user(&mut self) -> u32 {
        let at = self.random.unit() * self.shares[SHOP_USERS - 1];
        self.shares.partition_point(|share| *share < at).min(SHOP_USERS - 1) as u32
    }

    fn click(&mut self, user: u32, time: Micros) -> Click {
        self.ids += 1;
        let page = (self.random.unit().powi(2) * SHOP_PAGES as f64) as u16;
        let kind = match self.random.below(100) {
            0..85 => 0,
            85..90 => 1,
            90..97 => 2,
            _ => 3,
        };
        Click { arrival: time, id: self.ids, time, user, page, kind }
    }

    fn visit(&mut self) {
        let mean = DAY as f64 / (EVENTS_PER_DAY / VISIT_EVENTS_MEAN);
        self.now += self.random.exponential(mean) as Micros + 1;
        let (user, mut time) = (self.user(), self.now);
        loop {
            let mut click = self.click(user, time);
            if self.random.below(100) < 5 {
                click.arrival += self.random.below(2 * HOUR as u64) as Micros;
            }
            self.arriving.push(Reverse(click));
            if self.random.below(100) < 1 {
                let arrival = click.arrival + self.random.below(HOUR as u64) as Micros;
                self.arriving.push(Reverse(Click { arrival, ..click }));
            }
            if self.random.unit() < 1.0 / VISIT_EVENTS_MEAN {
                return;
            }
            time += self.random.exponential(1.5 * MINUTE as f64) as Micros + SECOND;
        }
    }

    fn event(&self, click: Click) -> Event {
        let (word, movement) = &self.words[usize::from(click.kind)];
        Event {
            source: 1,
            movement: *movement,
            late: false,
            time: click.time,
            id: EventId([click.id.wrapping_mul(0x9e37_79b9_7f4a_7c15), click.id]),
            value: Fixed4(if click.kind == 3 { 10_000 + click.id as i64 % 900_000 } else { 0 }),
            user: self.users[click.user as usize].clone(),
            event_type: word.clone(),
            page: self.pages[usize::from(click.page)].clone(),
            item: EcoString::new(),
            extra: None,
            stay: None,
        }
    }

    /// New events of busy and quiet users alike, each up to `span` older than the newest one.
    pub fn late(&mut self, count: usize, span: Micros) -> Vec<Event> {
        (0..count)
            .map(|_| {
                let (user, back) = (self.user(), self.random.below(span as u64) as Micros);
                let click = self.click(user, self.now - back);
                self.event(click)
            })
            .collect()
    }
}

impl Iterator for Shop {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        while self.arriving.peek().is_none_or(|first| first.0.arrival > self.now) {
            self.visit();
        }
        let Reverse(click) = self.arriving.pop()?;
        Some(self.event(click))
    }
}

/// The RetailRocket data set's proportions: half as many visitors as rows, seven in ten of them with a single row, in blocks of
/// 65,536 rows of one stretch of time each, the stretches in random order.
pub struct RetailRocket {
    random: Random,
    events: u64,
    blocks: Vec<u64>,
    at: u64,
    words: [(EcoString, Movement); 3],
    items: Vec<EcoString>,
}

pub const RETAILROCKET_EVENTS: u64 = 2_756_101;
const RETAILROCKET_VISITORS: u64 = 1_407_580;
const BLOCK_ROWS: u64 = 65_536;
const SPAN: Micros = 138 * DAY;

impl RetailRocket {
    pub fn new(seed: u64, events: u64) -> Self {
        let mut random = Random(seed);
        let mut blocks: Vec<u64> = (0..events.div_ceil(BLOCK_ROWS)).collect();
        for at in (1..blocks.len()).rev() {
            blocks.swap(at, random.below(at as u64 + 1) as usize);
        }
        let words = [("view", Movement::View), ("addtocart", Movement::Cart), ("transaction", Movement::Transaction)];
        let words = words.map(|(word, movement)| (EcoString::from(word), movement));
        Self { random, events, blocks, at: 0, words, items: (0..10_000).map(|item| eco_format!("{}", item * 47)).collect() }
    }
}

impl Iterator for RetailRocket {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.at == self.events {
            return None;
        }
        let row = self.at;
        self.at += 1;
        let visitors = RETAILROCKET_VISITORS * self.events / RETAILROCKET_EVENTS;
        // Every visitor once, in scattered order; the other rows by a skewed choice among a third of them.
        let user = if row.is_multiple_of(2) && row / 2 < visitors {
            row / 2
        } else {
            (self.random.unit().powi(3) * visitors as f64 / 3.0) as u64 * 3 % visitors
        };
        let block = self.blocks[(row / BLOCK_ROWS) as usize];
        let width = SPAN / self.blocks.len() as Micros;
        let time = BEGIN + block as Micros * width + self.random.below(width as u64 / 1_000) as Micros * 1_000;
        let kind = match self.random.below(1_000) {
            0..8 => 2,
            8..33 => 1,
            _ => 0,
        };
        let (word, movement) = &self.words[kind];
        let id = row + 1;
        Some(Event {
            source: 1,
            movement: *movement,
            late: false,
            time,
            id: EventId([id.wrapping_mul(0x9e37_79b9_7f4a_7c15), id]),
            value: Fixed4(0),
            user: eco_format!("{}", user * 1_000_003 % 1_407_581),
            event_type: word.clone(),
            page: EcoString::new(),
            item: self.items[self.random.below(10_000) as usize].clone(),
            extra: None,
            stay: None,
        })
    }
}

/// The source's settings, as the first batch.
pub fn settings(horizon: Horizon) -> Arc<Batch> {
    let lateness = if let Horizon::After(horizon) = horizon { horizon } else { 24 * HOUR };
    let settings = SourceSettings { horizon, lateness, ..SourceSettings::defaults(1) };
    Arc::new(Batch { time: 1, controls: vec![Control::Settings(settings)], ..Batch::default() })
}

/// Events in batches, at times from 2 on.
pub fn batches(events: impl Iterator<Item = Event>, rows: usize) -> impl Iterator<Item = Arc<Batch>> {
    let mut events = events.peekable();
    (2..).map_while(move |time| {
        events.peek()?;
        let events = events.by_ref().take(rows).collect();
        Some(Arc::new(Batch { time, events, ..Batch::default() }))
    })
}
