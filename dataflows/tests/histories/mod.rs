//! Seeded random histories of the log.

use super::random::Random;
use desireline_records::time::{MINUTE, SECOND};
use desireline_records::{
    Batch, CatalogEntry, ClusterModel, ContextSettings, Control, DeadLetter, DeadLetterKind, EraseUser, Event, EventExtra, EventId, Fixed4,
    Item, Micros, Movement, Person, Product, Seal, SessionRule, SourceId, SourceSettings,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a history may contain.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub rule: SessionRule,
    pub seals: bool,
    pub erasures: bool,
    pub settings_changes: bool,
    /// Of the second source.
    pub context: ContextSettings,
}

impl Options {
    pub fn from_seed(seed: u64) -> Self {
        Self {
            rule: if seed.is_multiple_of(2) { SessionRule::FromFirst } else { SessionRule::Gap },
            seals: !seed.is_multiple_of(3),
            erasures: seed % 5 < 3,
            settings_changes: seed % 7 < 3,
            context: ContextSettings { ttl: 15 * MINUTE, items: 2 + (seed % 5) as u32, renew_all: seed % 4 < 2 },
        }
    }
}

pub struct History {
    pub batches: Vec<Batch>,
}

pub fn event(source: SourceId, user: &str, id: &str, time: Micros) -> Event {
    Event {
        source,
        movement: Movement::View,
        late: false,
        time,
        id: EventId::explicit(id),
        value: Fixed4(0),
        user: user.into(),
        event_type: "view".into(),
        page: "/".into(),
        item: "".into(),
        extra: None,
        stay: None,
    }
}

const WORDS: [(&str, Movement); 4] =
    [("view", Movement::View), ("addtocart", Movement::Cart), ("transaction", Movement::Transaction), ("search", Movement::None)];

/// A history of about 40 batches over a few hours of event time and two sources.
pub fn random(seed: u64, options: &Options) -> History {
    let mut maker =
        Maker { random: Random(seed), options: *options, now: 10 * MINUTE, boundary: BTreeMap::new(), sent: Vec::new(), ids: 0 };
    let mut batches =
        vec![Batch { time: 1, controls: vec![maker.settings(1, options.rule), maker.settings(2, options.rule)], ..Batch::default() }];
    let count = 20 + maker.random.below(30);
    let mut versions = BTreeMap::new();
    for at in 0..count {
        let mut batch = Batch { time: 2 + at * 3, ..Batch::default() };
        let rows = if maker.random.chance(10) { 0 } else { 1 + maker.random.below(40) };
        batch.events = (0..rows).map(|_| maker.row()).collect();
        maker.now += (maker.random.below(12) * 60) as i64 * SECOND;
        if maker.random.chance(15) {
            batch.dead_letters.push(maker.dead_letter());
        }
        if maker.random.chance(45) {
            let control = maker.control(&mut versions);
            batch.controls.extend(control);
        }
        batches.push(batch);
    }
    History { batches }
}

struct Maker {
    random: Random,
    options: Options,
    /// The front of event time.
    now: Micros,
    boundary: BTreeMap<SourceId, Micros>,
    sent: Vec<Event>,
    ids: u64,
}

impl Maker {
    fn source(&mut self) -> SourceId {
        if self.random.chance(75) { 1 } else { 2 }
    }

    fn row(&mut self) -> Event {
        if !self.sent.is_empty() && self.random.chance(12) {
            return self.repeat();
        }
        let source = self.source();
        // A few hot users, many cold ones.
        let user = if self.random.chance(50) { self.random.below(3) } else { self.random.below(25) };
        let delay = match self.random.below(10) {
            0..=5 => self.random.below(3),
            6..=8 => self.random.below(40),
            _ => self.random.below(240),
        } as i64;
        // Minutes on the dot make equal timestamps; seconds around the limit test strictness.
        let jitter = if self.random.chance(60) { 0 } else { (self.random.below(60) as i64) * SECOND };
        let time = (self.now - delay * MINUTE + jitter).max(0);
        let word = WORDS[self.random.below(4) as usize];
        self.ids += 1;
        // Users are numbers in one source, as the people of the catalog are.
        let user = if source == 2 { user.to_string() } else { format!("u{user}") };
        let mut event = event(source, &user, &format!("e{}", self.ids), time);
        event.item = format!("i{}", self.random.below(12)).into();
        event.event_type = word.0.into();
        event.movement = word.1;
        event.page = ["/", "/a", "/b", ""][self.random.below(4) as usize].into();
        event.value = Fixed4(self.random.below(1_000_000) as i64 - 100_000);
        if self.random.chance(20) {
            event.extra = Some(Box::new(EventExtra { properties: "{\"a\":1}".into(), ..EventExtra::default() }));
        }
        event.late = self.boundary.get(&source).is_some_and(|boundary| time < *boundary);
        self.sent.push(event.clone());
        event
    }

    /// A duplicate, sometimes with another payload, even another time.
    fn repeat(&mut self) -> Event {
        let at = self.random.below(self.sent.len() as u64) as usize;
        let mut event = self.sent[at].clone();
        match self.random.below(6) {
            0 => event.page = "/other".into(),
            1 => event.time = (event.time + MINUTE).min(self.now),
            2 => event.value = Fixed4(event.value.0 + 1),
            _ => {}
        }
        event.late = self.boundary.get(&event.source).is_some_and(|boundary| event.time < *boundary);
        event
    }

    fn dead_letter(&mut self) -> DeadLetter {
        let kind = DeadLetterKind::ALL[self.random.below(3) as usize];
        let text = || "x".into();
        DeadLetter {
            source: self.source(),
            kind,
            at: self.now,
            user: text(),
            field: text(),
            detail: text(),
            origin: text(),
            format: text(),
            payload: text(),
        }
    }

    fn settings(&mut self, source: SourceId, session_rule: SessionRule) -> Control {
        let clusters = 2 + self.random.below(2) as u16;
        let transaction_value = self.random.chance(30);
        let context = (source == 2).then_some(self.options.context);
        Control::Settings(SourceSettings { session_rule, clusters, transaction_value, context, ..SourceSettings::defaults(source) })
    }

    fn control(&mut self, versions: &mut BTreeMap<(SourceId, u16), u64>) -> Vec<Control> {
        let source = self.source();
        match self.random.below(14) {
            10..=13 => {
                let wanted = 1 + self.random.below(4);
                (0..wanted).map(|_| self.entry()).collect()
            }
            0..=2 => {
                let wanted = 1 + self.random.below(3);
                (0..wanted).filter_map(|_| self.deletion()).collect()
            }
            3 if self.options.erasures => vec![self.erasure()],
            4 if self.options.settings_changes => {
                let rule = if self.random.chance(50) { SessionRule::Gap } else { SessionRule::FromFirst };
                vec![self.settings(source, rule)]
            }
            5 | 6 if self.options.seals => vec![self.seal(source)],
            _ => vec![self.model(source, versions)],
        }
    }

    fn deletion(&mut self) -> Option<Control> {
        let at = self.random.below(self.sent.len().max(1) as u64) as usize;
        let event = self.sent.get(at)?;
        Some(Control::DeleteEvent { source: event.source, id: event.id })
    }

    fn erasure(&mut self) -> Control {
        Control::Erase(EraseUser {
            source: self.source(),
            user: if self.random.chance(75) { format!("u{}", self.random.below(12)) } else { self.random.below(12).to_string() }.into(),
            requested_at: self.now,
            sealed_minutes: Vec::new(),
            purged: None,
        })
    }

    fn entry(&mut self) -> Control {
        let category = |random: &mut Random| random.chance(60).then(|| format!("c{}", random.below(4)).into());
        let parent_asin = format!("p{}", self.random.below(4)).into();
        Control::Catalog(match self.random.below(3) {
            0 => {
                let asin = format!("i{}", self.random.below(12)).into();
                let category = category(&mut self.random);
                CatalogEntry::Item(Arc::new(Item { asin, parent_asin, variant: None, primary_image: None, category }))
            }
            1 => CatalogEntry::Product(Arc::new(Product {
                parent_asin,
                title: format!("t{}", self.random.below(100)).into(),
                store: None,
                main_category: category(&mut self.random),
                avg_rating: None,
                rating_number: None,
                primary_image: None,
                raw_metadata: None,
            })),
            _ => CatalogEntry::Person(Arc::new(Person { id: self.random.below(12) as i64, username: category(&mut self.random) })),
        })
    }

    fn seal(&mut self, source: SourceId) -> Control {
        let behind = (30 + self.random.below(120)) as i64 * MINUTE;
        let last = self.boundary.get(&source).copied().unwrap_or(0);
        let boundary = (self.now - behind).max(last);
        self.boundary.insert(source, boundary);
        Control::Seal(Seal { source, boundary, parts: Vec::new() })
    }

    fn model(&mut self, source: SourceId, versions: &mut BTreeMap<(SourceId, u16), u64>) -> Control {
        let clusters = 2 + self.random.below(2) as u16;
        let version = versions.entry((source, clusters)).or_default();
        // Sometimes a stale or a skipped version, which must be ignored.
        let given = match self.random.below(6) {
            0 => *version,
            1 => *version + 2,
            _ => {
                *version += 1;
                *version
            }
        };
        let centroids = (0..clusters).map(|_| std::array::from_fn(|_| self.random.below(80) as f64 / 8.0)).collect();
        let weights = vec![1.0; usize::from(clusters)];
        Control::Model(ClusterModel { source, clusters, version: given, centroids, weights, trained_on: 1, trained_at: self.now })
    }
}

/// The same rows and controls in batches of other sizes. Rows never pass a control.
pub fn rebatch(history: &History, rows: usize) -> History {
    let mut batches: Vec<Batch> = Vec::new();
    let mut open = Batch::default();
    let close = |open: &mut Batch, batches: &mut Vec<Batch>| {
        open.time = batches.len() as u64 + 1;
        batches.push(std::mem::take(open));
    };
    for batch in &history.batches {
        for event in &batch.events {
            open.events.push(event.clone());
            if open.events.len() >= rows {
                close(&mut open, &mut batches);
            }
        }
        open.dead_letters.extend(batch.dead_letters.iter().cloned());
        if !batch.controls.is_empty() {
            open.controls = batch.controls.clone();
            close(&mut open, &mut batches);
        }
    }
    close(&mut open, &mut batches);
    History { batches }
}
