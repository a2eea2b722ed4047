//! A synthetic shop: visitors come by the rhythm of the day, look around, fill carts, buy.
//!
//! # What it promises
//! * The events of a seed, a start and the other settings are the same on every machine, for ever within a release.
//! * Events come in the order of their arrival. Without late events and duplicates that is the order in which they happened.
//! * The mean rate over a day is the one asked for; with `rhythm`, nights have a fifth of it and evenings 1.7 times as much.
//! * Activity is Zipf-like: of 100,000 users the busiest one makes 2 % of the events (40,000 of 2 million).
//! * Memory: 100 bytes per open visit (at most a quarter of the users) and per event held back
//!   ([`PENDING_MAX`](super::disturb::PENDING_MAX) at most), 8 bytes per user.
//!
//! # How visitors behave
//! Every user is of one persona for good. A visit has 4 to 10 events (browsers one less, buyers one more), begins at `/home` with
//! a referrer, and goes on every 15 to 240 seconds with a category or a search, a product, an addition to the cart (only of a
//! product seen in this visit), or, with something in the cart, the purchase of all of it. If more visits would be open than a
//! quarter of the users, the pauses are shortened instead, so that any rate can be had from any number of users.
//!
//! # Known limitations
//! No user is anonymous, none logs in midway, and a busy user may have several visits open at once.

pub mod catalog;
pub mod event;

pub use catalog::Product;
pub use event::{Action, GeneratedEvent};

use super::disturb::Disturb;
use super::random::{Random, Zipf, mix};
use desireline_records::time::{HOUR, SECOND};
use desireline_records::{Micros, SourceId};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Visits per hour of the day (UTC), relative to each other.
const RHYTHM: [u32; 24] = [4, 3, 2, 2, 2, 3, 6, 10, 16, 18, 18, 17, 13, 16, 17, 16, 12, 11, 13, 17, 19, 17, 10, 6];
/// Events of a visit, before the persona's share.
const EVENTS: (i64, i64) = (4, 10);
/// Between two events of a visit.
const PAUSE: (Micros, Micros) = (15 * SECOND, 240 * SECOND);
/// Mean events of a visit over the personas: 7 - 0.45 + 0.15.
const EVENTS_MEAN: f64 = 6.7;
/// Products of a visit that can still be put into the cart.
const SEEN_MAX: usize = 8;

/// What kind of visitor a user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Persona {
    /// In percent of the users.
    share: u32,
    more_events: i64,
    /// Category or search, product, add to cart, purchase.
    steps: [u32; 4],
}

const PERSONAS: [Persona; 4] = [
    // Browser, shopper, buyer, returning customer.
    Persona { share: 45, more_events: -1, steps: [45, 43, 10, 2] },
    Persona { share: 30, more_events: 0, steps: [35, 35, 18, 12] },
    Persona { share: 15, more_events: 1, steps: [25, 35, 22, 18] },
    Persona { share: 10, more_events: 0, steps: [30, 35, 20, 15] },
];

#[derive(Clone, Debug, PartialEq)]
pub struct ShopSettings {
    pub seed: u64,
    pub users: u32,
    pub start: Micros,
    pub source: SourceId,
    /// Events per second of the shop's own time, over a day.
    pub rate: f64,
    /// Share of the events that arrive up to two hours late.
    pub late: f64,
    /// Share of the events that arrive a second time, within a minute.
    pub duplicates: f64,
    /// Days and nights; without it the rate is steady.
    pub rhythm: bool,
}

impl ShopSettings {
    /// 50 events per second, 1 % late, 0.2 % twice.
    pub fn new(seed: u64, users: u32, start: Micros) -> Self {
        Self { seed, users, start, source: 0, rate: 50.0, late: 0.01, duplicates: 0.002, rhythm: true }
    }
}

/// The events of the shop, by arrival, without end.
pub struct Shop {
    events: Disturb<Visits>,
}

impl Shop {
    /// A live shop as a demonstration wants it: the defaults of [`ShopSettings::new`].
    pub fn new(seed: u64, users: u32, start: Micros) -> Self {
        Self::open(ShopSettings::new(seed, users, start))
    }

    pub fn open(settings: ShopSettings) -> Self {
        let (seed, late, duplicates) = (settings.seed, settings.late, settings.duplicates);
        Self { events: Disturb::new(Visits::new(settings), seed, late, duplicates) }
    }

    /// When the next event arrives.
    pub fn next_event_at(&mut self) -> Micros {
        self.events.next_arrival().unwrap_or(Micros::MAX)
    }

    /// The events that arrive up to `now` and have not been given yet, at most `events_max` of them: call again while that many come.
    pub fn advance(&mut self, now: Micros, events_max: usize) -> Vec<GeneratedEvent> {
        let mut events = Vec::new();
        while events.len() < events_max && self.next_event_at() <= now {
            events.extend(self.events.next());
        }
        events
    }
}

impl Iterator for Shop {
    type Item = GeneratedEvent;

    fn next(&mut self) -> Option<GeneratedEvent> {
        self.events.next()
    }
}

/// One visit under way.
struct Visit {
    next: Micros,
    number: u32,
    user: u32,
    events_left: u32,
    first: bool,
    seen: Vec<Product>,
    cart: Vec<(Product, u8)>,
}

impl PartialEq for Visit {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Visit {}

impl PartialOrd for Visit {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Visit {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.next, self.number).cmp(&(other.next, other.number))
    }
}

/// The undisturbed stream, in the order in which things happen.
struct Visits {
    settings: ShopSettings,
    random: Random,
    zipf: Zipf,
    open: BinaryHeap<Reverse<Visit>>,
    next_visit: f64,
    /// By which pauses are multiplied.
    haste: f64,
    stream: u32,
    visits: u32,
    orders: u32,
    number: u64,
}

impl Visits {
    fn new(settings: ShopSettings) -> Self {
        let mut random = Random::new(settings.seed, 0x5409);
        let rate = settings.rate.clamp(1e-3, 1e7);
        let pause_mean_s = (PAUSE.0 + PAUSE.1) as f64 / 2.0 / SECOND as f64;
        let open_wanted = rate / EVENTS_MEAN * (EVENTS_MEAN - 1.0) * pause_mean_s;
        let open_max = f64::from(settings.users.max(4)) / 4.0;
        let haste = (open_max / open_wanted).min(1.0);
        let mut visits = Self {
            zipf: Zipf::new(settings.users),
            open: BinaryHeap::new(),
            next_visit: settings.start as f64,
            haste,
            stream: (mix(settings.seed ^ mix(settings.start as u64)) >> 32) as u32,
            visits: 0,
            orders: 0,
            number: 0,
            random: random.clone(),
            settings: ShopSettings { rate, ..settings },
        };
        // The doors were open before: some visits are under way.
        let under_way = (open_wanted * haste * visits.rhythm_at(visits.settings.start)) as u64;
        for _ in 0..under_way {
            let mut visit = visits.begin(visits.settings.start);
            visit.first = false;
            visit.events_left = 1 + random.below(u64::from(visit.events_left.max(2)) - 1) as u32;
            let pause = visits.pause();
            visit.next = visits.settings.start + (random.unit() * pause as f64) as Micros / 1_000 * 1_000;
            visits.open.push(Reverse(visit));
        }
        visits
    }

    fn rhythm_at(&self, time: Micros) -> f64 {
        if !self.settings.rhythm {
            return 1.0;
        }
        let hour = time.div_euclid(HOUR).rem_euclid(24) as usize;
        f64::from(RHYTHM[hour]) * RHYTHM.len() as f64 / f64::from(RHYTHM.iter().sum::<u32>())
    }

    fn pause(&mut self) -> Micros {
        (self.random.between(PAUSE.0, PAUSE.1) as f64 * self.haste) as Micros / 1_000 * 1_000
    }

    fn begin(&mut self, next: Micros) -> Visit {
        let user = self.zipf.draw(&mut self.random);
        self.visits = self.visits.wrapping_add(1);
        let events = self.random.between(EVENTS.0, EVENTS.1) + persona(self.settings.seed, user).more_events;
        Visit { next, number: self.visits, user, events_left: events.max(1) as u32, first: true, seen: Vec::new(), cart: Vec::new() }
    }

    /// Opens the visits that begin before anything else happens.
    fn let_in(&mut self) {
        while self.open.peek().is_none_or(|visit| self.next_visit <= visit.0.next as f64) {
            let at = self.next_visit as Micros;
            let visit = self.begin(at / 1_000 * 1_000);
            self.open.push(Reverse(visit));
            let pause_mean = SECOND as f64 * EVENTS_MEAN / (self.settings.rate * self.rhythm_at(at));
            // Uniform between nothing and twice the mean.
            self.next_visit += 2.0 * pause_mean * self.random.unit();
        }
    }

    fn act(&mut self, visit: &mut Visit) -> Action {
        let random = &mut self.random;
        if std::mem::take(&mut visit.first) {
            return Action::Home { referrer: random.weighted(&[40, 30, 12, 10, 8]) as u8 };
        }
        match random.weighted(&persona(self.settings.seed, visit.user).steps) {
            0 if random.chance(0.6) => Action::Category(catalog::draw_category(random)),
            0 => Action::Search(catalog::draw_category(random)),
            2 if !visit.seen.is_empty() => {
                let product = *random.pick(&visit.seen);
                let quantity = 1 + random.weighted(&[80, 15, 5]) as u8;
                visit.cart.push((product, quantity));
                Action::AddToCart(product, quantity)
            }
            3 if !visit.cart.is_empty() => {
                if random.chance(0.65) {
                    self.orders = self.orders.wrapping_add(1);
                    Action::Purchase { order: self.orders, lines: std::mem::take(&mut visit.cart).into() }
                } else {
                    Action::Cart { units: visit.cart.iter().map(|(_, n)| u32::from(*n)).sum() }
                }
            }
            _ => {
                let product = Product::draw(random);
                if visit.seen.len() == SEEN_MAX {
                    visit.seen.remove(0);
                }
                visit.seen.push(product);
                Action::View(product)
            }
        }
    }
}

impl Iterator for Visits {
    type Item = GeneratedEvent;

    fn next(&mut self) -> Option<GeneratedEvent> {
        self.let_in();
        let Reverse(mut visit) = self.open.pop()?;
        let time = visit.next;
        let action = self.act(&mut visit);
        self.number += 1;
        let event = GeneratedEvent {
            source: self.settings.source,
            time,
            arrival: time,
            stream: self.stream,
            number: self.number,
            // User ids begin at 1; the smallest are the busiest.
            user: visit.user + 1,
            visit: visit.number,
            action,
            duplicate: false,
        };
        visit.events_left -= 1;
        if visit.events_left > 0 {
            visit.next += self.pause();
            self.open.push(Reverse(visit));
        }
        Some(event)
    }
}

/// A user's persona never changes.
fn persona(seed: u64, user: u32) -> Persona {
    let mut percent = (mix(seed ^ mix(u64::from(user))) % 100) as u32;
    for persona in PERSONAS {
        if percent < persona.share {
            return persona;
        }
        percent -= persona.share;
    }
    PERSONAS[0]
}

#[cfg(test)]
mod tests;
