//! Seeded random histories of a shop: events, interactions, a catalog, corrections.

pub use crate::support::random::Random;
use desireline_dataflows::reference::Reference;
use desireline_records::time::{MINUTE, SECOND};
use desireline_records::{
    Batch, CatalogEntry, ClusterModel, ContextSettings, Control, EraseUser, Event, EventExtra, EventId, Fixed4, Item, Micros, MinuteCount,
    Movement, Person, Product, Seal, SessionRule, SourceId, SourceSettings, UserIdType,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Integer ids, no context.
pub const CLICKS: SourceId = 1;
/// Ids of any kind.
pub const NAMES: SourceId = 2;
/// Integer ids and a context.
pub const SHOP: SourceId = 1000;

pub fn settings(source: SourceId) -> SourceSettings {
    let user_id_type = if source == NAMES { UserIdType::String } else { UserIdType::Int };
    let context = (source == SHOP).then(ContextSettings::default);
    SourceSettings { user_id_type, context, clusters: 3, ..SourceSettings::defaults(source) }
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
        item: "1".into(),
        extra: None,
        stay: None,
    }
}

pub fn first_batch() -> Batch {
    let controls = [CLICKS, NAMES, SHOP].map(|source| Control::Settings(settings(source))).to_vec();
    Batch { time: 1, controls, ..Batch::default() }
}

/// About `batches` batches over some hours.
pub fn random(seed: u64, batches: u64) -> Vec<Batch> {
    let mut maker = Maker {
        random: Random(seed),
        now: 1_700_000_000 * SECOND,
        boundary: BTreeMap::new(),
        sent: Vec::new(),
        versions: BTreeMap::new(),
        ids: 0,
    };
    let mut all = vec![first_batch()];
    let mut reference = Reference::default();
    reference.apply(&all[0]);
    for at in 0..batches {
        let mut batch = Batch { time: 2 + at * 3, ..Batch::default() };
        let rows = if maker.random.chance(10) { 0 } else { 1 + maker.random.below(40) };
        batch.events = (0..rows).map(|_| maker.row()).collect();
        maker.now += (maker.random.below(12) * 60) as i64 * SECOND;
        if maker.random.chance(70) {
            batch.controls = maker.controls();
        }
        for control in &mut batch.controls {
            if let Control::Erase(erase) = control {
                erase.sealed_minutes = minutes_of(&reference.sealed_events(erase.source, &erase.user));
            }
        }
        reference.apply(&batch);
        all.push(batch);
    }
    all
}

/// What an erasure has to take back of the minutes.
fn minutes_of(events: &[Event]) -> Vec<MinuteCount> {
    let of_event = |event: &Event| MinuteCount {
        minute: event.time.div_euclid(MINUTE) * MINUTE,
        page: event.page.clone(),
        event_type: event.event_type.clone(),
        count: 1,
        revenue: if event.movement == Movement::Transaction { event.value.0.into() } else { 0 },
    };
    events.iter().map(of_event).collect()
}

struct Maker {
    random: Random,
    now: Micros,
    boundary: BTreeMap<SourceId, Micros>,
    sent: Vec<Event>,
    versions: BTreeMap<SourceId, u64>,
    ids: u64,
}

const CLICK_WORDS: [(&str, Movement); 4] =
    [("view", Movement::View), ("addtocart", Movement::Cart), ("transaction", Movement::Transaction), ("search", Movement::None)];
const SHOP_WORDS: [(&str, Movement); 5] = [
    ("view", Movement::View),
    ("click", Movement::View),
    ("add_to_cart", Movement::Cart),
    ("purchase", Movement::Transaction),
    ("rate", Movement::None),
];
const PROPERTIES: [&str; 6] = [
    "",
    "{}",
    r#"{"position":3}"#,
    r#"{"category":"mine","q":"ä\"b"}"#,
    r#"{"brand":7,"category":null}"#,
    r#"{"brand":{"a":[1,2.5]},"x":null}"#,
];

impl Maker {
    fn source(&mut self) -> SourceId {
        self.random.pick(&[CLICKS, CLICKS, NAMES, SHOP, SHOP])
    }

    fn user(&mut self, source: SourceId) -> String {
        let number = if self.random.chance(50) { self.random.below(3) } else { self.random.below(25) };
        if source == NAMES { format!("ü'{number}") } else { (number as i64 - 3).to_string() }
    }

    fn row(&mut self) -> Event {
        if !self.sent.is_empty() && self.random.chance(12) {
            return self.repeat();
        }
        let source = self.source();
        let user = self.user(source);
        let delay = match self.random.below(10) {
            0..=5 => self.random.below(3),
            6..=8 => self.random.below(40),
            _ => self.random.below(240),
        } as i64;
        let jitter = if self.random.chance(60) { 0 } else { (self.random.below(60_000_000)) as i64 };
        self.ids += 1;
        let mut event = event(source, &user, &format!("e{}", self.ids), self.now - delay * MINUTE + jitter);
        let word = if source == SHOP { self.random.pick(&SHOP_WORDS) } else { self.random.pick(&CLICK_WORDS) };
        (event.event_type, event.movement) = (word.0.into(), word.1);
        event.page = self.random.pick(&["/", "/a", "/b", ""]).into();
        event.item = match source {
            // Some items are seen once: their stubs go with the event.
            SHOP if self.random.chance(25) => format!("R{}", self.ids).into(),
            SHOP => format!("A{}", self.random.below(8)).into(),
            _ => self.random.pick(&["17", "", "no number", "-4"]).into(),
        };
        event.value = Fixed4(self.random.below(1_000_000) as i64 - 100_000);
        if self.random.chance(70) {
            let transaction_id = self.random.pick(&["", "99", "t9"]).into();
            let properties = self.random.pick(&PROPERTIES).into();
            event.extra = Some(Box::new(EventExtra { properties, transaction_id, ..EventExtra::default() }));
        }
        event.late = self.boundary.get(&source).is_some_and(|boundary| event.time < *boundary);
        self.sent.push(event.clone());
        event
    }

    fn repeat(&mut self) -> Event {
        let at = self.random.below(self.sent.len() as u64) as usize;
        let mut event = self.sent[at].clone();
        if self.random.chance(30) {
            event.time = (event.time + MINUTE).min(self.now);
        }
        event.late = self.boundary.get(&event.source).is_some_and(|boundary| event.time < *boundary);
        event
    }

    fn controls(&mut self) -> Vec<Control> {
        let source = self.source();
        match self.random.below(12) {
            0 | 1 => (0..3).filter_map(|_| self.deletion()).collect(),
            2 => {
                let user = self.user(source).into();
                vec![Control::Erase(EraseUser { source, user, requested_at: self.now, sealed_minutes: Vec::new(), purged: None })]
            }
            3 => {
                let session_rule = self.random.pick(&[SessionRule::Gap, SessionRule::FromFirst]);
                let transaction_value = self.random.chance(50);
                vec![Control::Settings(SourceSettings { session_rule, transaction_value, ..settings(source) })]
            }
            4 => {
                let last = self.boundary.get(&source).copied().unwrap_or(0);
                let boundary = (self.now - (60 + self.random.below(120)) as i64 * MINUTE).max(last);
                self.boundary.insert(source, boundary);
                vec![Control::Seal(Seal { source, boundary, parts: Vec::new() })]
            }
            5 | 6 => vec![self.model(source)],
            _ => (0..1 + self.random.below(4)).map(|_| Control::Catalog(self.entry())).collect(),
        }
    }

    fn deletion(&mut self) -> Option<Control> {
        let at = self.random.below(self.sent.len().max(1) as u64) as usize;
        let event = self.sent.get(at)?;
        Some(Control::DeleteEvent { source: event.source, id: event.id })
    }

    fn model(&mut self, source: SourceId) -> Control {
        let version = self.versions.entry(source).or_default();
        *version += 1;
        let version = *version;
        let centroids = (0..3).map(|_| std::array::from_fn(|_| self.random.below(80) as f64 / 8.0)).collect();
        Control::Model(ClusterModel { source, clusters: 3, version, centroids, weights: vec![1.0; 3], trained_on: 1, trained_at: self.now })
    }

    fn entry(&mut self) -> CatalogEntry {
        let number = self.random.below(8);
        let mut maybe = |text: &str| self.random.chance(60).then(|| text.into());
        match number % 3 {
            0 => {
                let (variant, primary_image, category) = (maybe("red"), maybe("http://i"), maybe("own"));
                let parent_asin = self.random.pick(&["P0", "P1", "A1"]).into();
                let asin = format!("A{}", self.random.below(8)).into();
                CatalogEntry::Item(Arc::new(Item { asin, parent_asin, variant, primary_image, category }))
            }
            1 => {
                let (store, main_category, primary_image) = (maybe("store"), maybe("books"), maybe("http://p"));
                let metadata = [r#"{"brand":"B"}"#, r#"{"Brand":8,"a":{"b":[1]}}"#, r#"{"brand":null}"#];
                let raw_metadata = self.random.chance(70).then(|| self.random.pick(&metadata).into());
                let avg_rating = self.random.chance(50).then(|| self.random.below(501) as u16);
                let rating_number = self.random.chance(50).then_some(4_000_000_000);
                let parent_asin = self.random.pick(&["P0", "P1", "A1"]).into();
                let title = format!("title {}", self.random.below(3)).into();
                let product = Product { parent_asin, title, store, main_category, avg_rating, rating_number, primary_image, raw_metadata };
                CatalogEntry::Product(Arc::new(product))
            }
            _ => {
                let username = maybe("Ada");
                CatalogEntry::Person(Arc::new(Person { id: self.random.below(12) as i64 - 3, username }))
            }
        }
    }
}
