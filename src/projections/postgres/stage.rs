//! Changes as rows of staging tables, and those that no table can take.
//!
//! A changeset becomes *steps*: one row to put or take away, or one user whose paths are to be computed again. Steps stand in an order
//! in which every part of them can be applied by itself: what is referred to comes first, and events in the order of time, so
//! that the numbers which the database gives follow the clock. Each step is one row of one staging table, whose `kind` says what
//! is to be done with it.

use crate::projections::Changeset;
use desireline_connectors::postgres::CopyRows;
use desireline_dataflows::changes::{RowKey, ViewRow};
use desireline_records::{Event, LogicalTime, SourceId, SourceSettings, UserIdType};
use ecow::EcoString;
use std::collections::{BTreeMap, HashSet};

/// What the settings of a source mean for its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// User ids are integers.
    pub int: bool,
    /// It keeps contexts.
    pub context: bool,
    pub transaction_value: bool,
    /// They hold at least up to this time.
    pub since: LogicalTime,
}

impl Facts {
    pub fn of(settings: &SourceSettings, since: LogicalTime) -> Self {
        let int = settings.user_id_type == UserIdType::Int;
        Self { int, context: settings.context.is_some(), transaction_value: settings.transaction_value, since }
    }

    /// Whether its events are rows of `interaction_logs`.
    pub fn interactions(&self) -> bool {
        self.int && self.context
    }

    /// Whether its events are rows of `events`.
    pub fn events(&self) -> bool {
        self.int && !self.context
    }

    /// Whether rows of the one can stand where those of the other do.
    pub fn alike(&self, other: &Self) -> bool {
        (self.int, self.context) == (other.int, other.context)
    }
}

/// A source that has never been set.
pub const UNSET: Facts = Facts { int: false, context: false, transaction_value: false, since: 0 };

pub type Sources = BTreeMap<SourceId, Facts>;

pub fn facts(sources: &Sources, source: SourceId) -> Facts {
    sources.get(&source).copied().unwrap_or(UNSET)
}

pub enum Step<'a> {
    Put(&'a ViewRow),
    Gone(&'a RowKey),
    /// The sessions of this user changed, the sum of them did not.
    Paths(SourceId, &'a EcoString),
}

/// The user's number, if the id is one as it would be printed: `007` is another user than `7`.
pub fn number(user: &str) -> Option<i64> {
    let digits = user.strip_prefix('-').unwrap_or(user);
    let canonical = digits == "0" && user == "0" || digits.bytes().next().is_some_and(|first| (b'1'..=b'9').contains(&first));
    if canonical { user.parse().ok() } else { None }
}

/// What a changeset asks for, in an order in which any prefix can be applied. Settings of sources are not among the steps.
pub fn steps<'a>(changes: &'a Changeset, sources: &Sources) -> Vec<Step<'a>> {
    let mut steps: Vec<Step<'a>> = Vec::with_capacity(changes.rows.len());
    steps.extend(changes.put().filter(|row| !matches!(row, ViewRow::Source(_) | ViewRow::Erased { .. })).map(Step::Put));
    steps.extend(
        changes.taken().filter(|key| !matches!(key, RowKey::Source(_) | RowKey::Erased(..) | RowKey::MinuteShift(..))).map(Step::Gone),
    );
    let mut paths: HashSet<(SourceId, &'a EcoString)> = HashSet::new();
    for step in &steps {
        let (source, user) = match step {
            Step::Put(ViewRow::Session { source, user, .. }) | Step::Gone(RowKey::Session(source, user, _)) => (*source, user),
            _ => continue,
        };
        if facts(sources, source).int {
            paths.insert((source, user));
        }
    }
    for step in &steps {
        if let Step::Put(ViewRow::Journey { source, user, .. }) | Step::Gone(RowKey::Journey(source, user)) = step {
            paths.remove(&(*source, user));
        }
    }
    steps.extend(paths.into_iter().map(|(source, user)| Step::Paths(source, user)));
    steps.sort_by(|a, b| order(a).cmp(&order(b)));
    steps
}

fn order<'a>(step: &'a Step<'_>) -> (u8, i64, SourceId, &'a str, i64) {
    match step {
        Step::Put(row) => match row {
            ViewRow::Cluster { source, cluster, .. } => (0, i64::from(*cluster), *source, "", 0),
            ViewRow::Product(product) => (1, 0, 0, &product.parent_asin, 0),
            ViewRow::Item(item) => (2, 0, 0, &item.asin, 0),
            ViewRow::Person(person) => (3, person.id, 0, "", 0),
            ViewRow::Session { source, user, start, .. } => (4, 0, *source, user, *start),
            ViewRow::Journey { source, user, .. } => (5, 0, *source, user, 0),
            ViewRow::Event { source, user, time, .. } => (6, *time, *source, user, 0),
            ViewRow::Minute { source, minute, page, .. } => (7, *minute, *source, page, 0),
            ViewRow::MinuteShift { source, minute, page, .. } => (8, *minute, *source, page, 0),
            ViewRow::Cell { .. }
            | ViewRow::CellShift { .. }
            | ViewRow::Space(_)
            | ViewRow::Context(_)
            | ViewRow::Source(_)
            | ViewRow::Erased { .. } => (u8::MAX, 0, 0, "", 0),
        },
        Step::Gone(key) => match key {
            RowKey::Session(source, user, start) => (4, 0, *source, user, *start),
            RowKey::Journey(source, user) => (5, 0, *source, user, 0),
            RowKey::Event(source, user, time, _) => (6, *time, *source, user, 0),
            RowKey::Minute(source, minute, page, _) => (7, *minute, *source, page, 0),
            RowKey::Person(id) => (9, *id, 0, "", 0),
            RowKey::Item(asin) => (9, 0, 0, asin, 0),
            RowKey::Product(asin) => (9, 0, 0, asin, 0),
            RowKey::Cluster(source, cluster) => (9, i64::from(*cluster), *source, "", 0),
            RowKey::Cell(_)
            | RowKey::CellShift(_)
            | RowKey::Space(_)
            | RowKey::Context(..)
            | RowKey::Source(_)
            | RowKey::Erased(..)
            | RowKey::MinuteShift(..) => (u8::MAX, 0, 0, "", 0),
        },
        Step::Paths(source, user) => (5, 0, *source, user, 0),
    }
}

/// A staging table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    Erased,
    Clusters,
    Products,
    Items,
    People,
    Sessions,
    Journeys,
    Events,
    Interactions,
    Minutes,
    Refused,
    Keys,
}

/// Their names and columns, in the order of [`Stage`].
pub const STAGES: [(&str, &str); 12] = [
    ("s_erased", "source_id integer, user_id text, number bigint, shown text"),
    (
        "s_clusters",
        "kind smallint, source_id integer, cluster_id integer, f1 float8, f2 float8, f3 float8, f4 float8, f5 float8, f6 float8",
    ),
    (
        "s_products",
        "kind smallint, parent_asin text, title text, store text, main_category text, avg_rating numeric, rating_number bigint, \
         primary_image text, raw_metadata jsonb, brand text",
    ),
    ("s_items", "kind smallint, asin text, parent_asin text, variant text, primary_image text, category text"),
    ("s_people", "kind smallint, id bigint, username text"),
    (
        "s_sessions",
        "kind smallint, source_id integer, user_id text, start timestamptz, session_number bigint, \"end\" timestamptz, \
         event_count bigint, views bigint, carts bigint, transactions bigint, value numeric, first_event uuid",
    ),
    (
        "s_journeys",
        "kind smallint, source_id integer, user_id bigint, views bigint, carts bigint, transactions bigint, value numeric, cluster_id integer",
    ),
    (
        "s_events",
        "kind smallint, source_id integer, visitorid bigint, event_time timestamptz, event_id uuid, sessionnumber integer, \
         \"timestamp\" bigint, event varchar, itemid bigint, transactionid bigint",
    ),
    (
        "s_interactions",
        "kind smallint, source_id integer, user_id bigint, ts timestamp, event_id uuid, asin text, event_type text, properties jsonb",
    ),
    ("s_minutes", "kind smallint, source_id integer, window_start timestamptz, page text, event_type text, count bigint, revenue numeric"),
    ("s_refused", "table_name text, key text, source_id integer, user_id text, row jsonb, error text"),
    ("s_keys", "key text"),
];

/// To be inserted or replaced.
const PUT: i16 = 0;
/// To be changed in one respect only.
const TOUCH: i16 = 1;
const GONE: i16 = 2;

/// The columns in which new events are copied straight into their table.
pub const DIRECT: &str =
    "{events} (source_id, visitorid, event_time, event_id, sessionnumber, \"timestamp\", event, itemid, transactionid)";

/// Rows on their way into staging tables.
#[derive(Default)]
pub struct Staged {
    rows: [CopyRows; STAGES.len()],
    /// New events on the straight way; absent where they are staged, too.
    direct: Option<CopyRows>,
}

pub type Refusal = &'static str;

impl Staged {
    /// New events are not staged: an event that is there already is an error of the copy.
    pub fn with_direct_events() -> Self {
        Self { direct: Some(CopyRows::default()), ..Self::default() }
    }

    pub fn take_direct(&mut self) -> Option<CopyRows> {
        self.direct.take().filter(|rows| !rows.is_empty())
    }

    pub fn has(&self, stage: Stage) -> bool {
        !self.rows[stage as usize].is_empty()
    }

    fn to(&mut self, stage: Stage) -> &mut CopyRows {
        &mut self.rows[stage as usize]
    }

    /// The staging tables that get rows, and how many.
    pub fn used(&self) -> Vec<(&'static str, u64)> {
        let used = STAGES.iter().zip(&self.rows).filter(|(_, rows)| !rows.is_empty());
        used.map(|((name, _), rows)| (*name, rows.len())).collect()
    }

    pub fn take(&mut self) -> impl Iterator<Item = (&'static str, CopyRows)> {
        let rows = std::mem::take(&mut self.rows);
        STAGES.iter().zip(rows).filter(|(_, rows)| !rows.is_empty()).map(|((name, _), rows)| (*name, rows))
    }

    pub fn erased(&mut self, source: SourceId, user: &str) {
        let rows = self.to(Stage::Erased).row(4);
        rows.int4(source as i32);
        if has_nul(user) {
            rows.null().null();
        } else {
            rows.text(user).int8_or_null(number(user));
        }
        rows.text(&shown(user));
    }

    /// Keys of refused rows that may be gone now.
    pub fn keys(&mut self, keys: CopyRows) {
        *self.to(Stage::Keys) = keys;
    }

    pub fn refused(&mut self, dead: &super::refused::Dead) {
        let rows = self.to(Stage::Refused).row(6).text(dead.table).text(&dead.key);
        match &dead.user {
            Some((source, user)) => rows.int4(*source as i32).text(user),
            None => rows.null().null(),
        };
        rows.jsonb(&dead.row).text(&dead.error);
    }

    /// Takes a step up, or says why no table can hold it. A step that no table is meant for is nothing.
    pub fn step(&mut self, step: &Step<'_>, sources: &Sources) -> Result<(), Refusal> {
        match step {
            Step::Put(row) => self.put(row, sources),
            Step::Gone(key) => {
                self.gone(key, sources);
                Ok(())
            }
            Step::Paths(source, user) => {
                if let Some(user) = number(user) {
                    let rows = self.to(Stage::Journeys).row(8).int2(TOUCH).int4(*source as i32).int8(user);
                    nulls(rows, 5);
                }
                Ok(())
            }
        }
    }

    fn put(&mut self, row: &ViewRow, sources: &Sources) -> Result<(), Refusal> {
        match row {
            ViewRow::Event { .. } => self.event(row, sources),
            ViewRow::Session { source, user, number, first_event, start, end, events, views, carts, transactions, value } => {
                clean(&[user])?;
                let rows = self.to(Stage::Sessions).row(12).int2(PUT).int4(*source as i32).text(user).timestamp(*start);
                rows.int8(i64::from(*number)).timestamp(*end).int8(i64::from(*events)).int8(i64::from(*views)).int8(i64::from(*carts));
                rows.int8(i64::from(*transactions)).numeric4(*value).uuid(first_event.to_bytes());
                Ok(())
            }
            ViewRow::Journey { source, user, journey, cluster } => {
                if !facts(sources, *source).int {
                    return Ok(());
                }
                let user = number(user).ok_or(NO_NUMBER)?;
                let rows = self.to(Stage::Journeys).row(8).int2(PUT).int4(*source as i32).int8(user);
                rows.int8(journey.views).int8(journey.carts).int8(journey.transactions).numeric4(journey.value());
                match cluster {
                    Some(cluster) => rows.int4(i32::from(*cluster)),
                    None => rows.null(),
                };
                Ok(())
            }
            ViewRow::Cluster { source, cluster, centroid } => {
                let rows = self.to(Stage::Clusters).row(9).int2(PUT).int4(*source as i32).int4(i32::from(*cluster));
                for value in centroid.values() {
                    rows.float8(value);
                }
                Ok(())
            }
            ViewRow::Minute { source, minute, page, event_type, count, revenue } => {
                self.minute(PUT, (*source, *minute, page, event_type), *count, *revenue)
            }
            ViewRow::MinuteShift { source, minute, page, event_type, count, revenue } => {
                self.minute(TOUCH, (*source, *minute, page, event_type), *count, *revenue)
            }
            ViewRow::Item(_) | ViewRow::Product(_) | ViewRow::Person(_) => self.entry(row),
            ViewRow::Cell { .. }
            | ViewRow::CellShift { .. }
            | ViewRow::Space(_)
            | ViewRow::Context(_)
            | ViewRow::Source(_)
            | ViewRow::Erased { .. } => Ok(()),
        }
    }

    fn event(&mut self, row: &ViewRow, sources: &Sources) -> Result<(), Refusal> {
        let ViewRow::Event { source, user, id, time, session, content } = row else { return Ok(()) };
        let facts = facts(sources, *source);
        if facts.interactions() {
            return match &content.0 {
                Some(event) => self.interaction(event),
                None => Ok(()),
            };
        }
        if !facts.events() {
            return Ok(());
        }
        let user = number(user).ok_or(NO_NUMBER)?;
        let session = i32::try_from(*session).map_err(|_| "the number of the session is out of range")?;
        let Some(event) = &content.0 else {
            let rows = self.to(Stage::Events).row(10).int2(TOUCH).int4(*source as i32).int8(user).timestamp(*time);
            rows.uuid(id.to_bytes()).int4(session).null().null().null().null();
            return Ok(());
        };
        clean(&[&event.event_type])?;
        let transaction = event.extra.as_ref().and_then(|extra| extra.transaction_id.parse().ok());
        let rows = match &mut self.direct {
            Some(direct) => direct.row(9),
            None => self.to(Stage::Events).row(10).int2(PUT),
        };
        let rows = rows.int4(*source as i32).int8(user).timestamp(*time);
        rows.uuid(id.to_bytes()).int4(session).int8(time.div_euclid(1_000)).text(&event.event_type);
        rows.int8_or_null(event.item.parse().ok()).int8_or_null(transaction);
        Ok(())
    }

    fn interaction(&mut self, event: &Event) -> Result<(), Refusal> {
        let user = number(&event.user).ok_or(NO_NUMBER)?;
        if !["view", "click", "add_to_cart", "purchase", "rate"].contains(&event.event_type.as_str()) {
            return Err("the type of the event is none of view, click, add_to_cart, purchase, rate");
        }
        if event.item.is_empty() {
            return Err("the event names no item");
        }
        clean(&[&event.item])?;
        let properties = event.extra.as_ref().map_or("", |extra| extra.properties.as_str());
        clean(&[properties])?;
        let rows = self.to(Stage::Interactions).row(8).int2(PUT).int4(event.source as i32).int8(user).timestamp(event.time);
        rows.uuid(event.id.to_bytes()).text(&event.item).text(&event.event_type);
        rows.jsonb(if properties.is_empty() { "{}" } else { properties });
        Ok(())
    }

    fn minute(&mut self, kind: i16, key: (SourceId, i64, &str, &str), count: i64, revenue: i128) -> Result<(), Refusal> {
        let (source, minute, page, event_type) = key;
        clean(&[page, event_type])?;
        let rows = self.to(Stage::Minutes).row(7).int2(kind).int4(source as i32).timestamp(minute).text(page).text(event_type);
        rows.int8(count).numeric4(revenue);
        Ok(())
    }

    fn entry(&mut self, row: &ViewRow) -> Result<(), Refusal> {
        match row {
            ViewRow::Item(item) => {
                let optional = [&item.variant, &item.primary_image, &item.category].map(|text| text.as_deref());
                clean(&[&item.asin, &item.parent_asin])?;
                clean(&optional.map(Option::unwrap_or_default))?;
                let rows = self.to(Stage::Items).row(6).int2(PUT).text(&item.asin).text(&item.parent_asin);
                for text in optional {
                    rows.text_or_null(text);
                }
            }
            ViewRow::Product(product) => {
                let brand = product.brand();
                let [store, category, image, metadata] =
                    [&product.store, &product.main_category, &product.primary_image, &product.raw_metadata].map(|text| text.as_deref());
                clean(&[&product.parent_asin, &product.title, brand.as_deref().unwrap_or_default()])?;
                clean(&[store, category, image, metadata].map(Option::unwrap_or_default))?;
                let rows = self.to(Stage::Products).row(10).int2(PUT).text(&product.parent_asin).text(&product.title);
                rows.text_or_null(store).text_or_null(category);
                match product.avg_rating {
                    Some(hundredths) => rows.numeric4(i128::from(hundredths) * 100),
                    None => rows.null(),
                };
                rows.int8_or_null(product.rating_number.map(i64::from)).text_or_null(image);
                match metadata {
                    Some(metadata) => rows.jsonb(metadata),
                    None => rows.null(),
                };
                rows.text_or_null(brand.as_deref());
            }
            ViewRow::Person(person) => {
                clean(&[person.username.as_deref().unwrap_or_default()])?;
                self.to(Stage::People).row(3).int2(PUT).int8(person.id).text_or_null(person.username.as_deref());
            }
            _ => {}
        }
        Ok(())
    }

    /// Rows that no table could hold are not there to be taken away.
    fn gone(&mut self, key: &RowKey, sources: &Sources) {
        match key {
            RowKey::Event(source, user, time, id) => {
                let (facts, Some(user)) = (facts(sources, *source), number(user)) else { return };
                if facts.interactions() {
                    let rows = self.to(Stage::Interactions).row(8).int2(GONE).int4(*source as i32).int8(user).timestamp(*time);
                    rows.uuid(id.to_bytes()).null().null().null();
                } else if facts.events() {
                    let rows = self.to(Stage::Events).row(10).int2(GONE).int4(*source as i32).int8(user).timestamp(*time);
                    rows.uuid(id.to_bytes());
                    nulls(rows, 5);
                }
            }
            RowKey::Session(source, user, start) if !has_nul(user) => {
                let rows = self.to(Stage::Sessions).row(12).int2(GONE).int4(*source as i32).text(user).timestamp(*start);
                nulls(rows, 8);
            }
            RowKey::Journey(source, user) => {
                if let (true, Some(user)) = (facts(sources, *source).int, number(user)) {
                    let rows = self.to(Stage::Journeys).row(8).int2(GONE).int4(*source as i32).int8(user);
                    nulls(rows, 5);
                }
            }
            RowKey::Cluster(source, cluster) => {
                let rows = self.to(Stage::Clusters).row(9).int2(GONE).int4(*source as i32).int4(i32::from(*cluster));
                nulls(rows, 6);
            }
            RowKey::Minute(source, minute, page, event_type) if !has_nul(page) && !has_nul(event_type) => {
                let rows = self.to(Stage::Minutes).row(7).int2(GONE).int4(*source as i32).timestamp(*minute);
                rows.text(page).text(event_type).null().null();
            }
            RowKey::Item(asin) if !has_nul(asin) => {
                self.to(Stage::Items).row(6).int2(GONE).text(asin).null().null().null().null();
            }
            RowKey::Product(asin) if !has_nul(asin) => {
                let rows = self.to(Stage::Products).row(10).int2(GONE).text(asin);
                nulls(rows, 8);
            }
            RowKey::Person(id) => {
                self.to(Stage::People).row(3).int2(GONE).int8(*id).null();
            }
            _ => {}
        }
    }
}

fn nulls(rows: &mut CopyRows, count: usize) {
    for _ in 0..count {
        rows.null();
    }
}

const NO_NUMBER: Refusal = "the user's id is no integer of 64 bits";

fn has_nul(text: &str) -> bool {
    text.as_bytes().contains(&0)
}

/// The text as a column can hold it.
pub fn shown(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn clean(texts: &[&str]) -> Result<(), Refusal> {
    if texts.iter().any(|text| has_nul(text)) { Err("a text holds a NUL character") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_integers_are_numbers() {
        for (text, expected) in
            [("0", Some(0)), ("-5", Some(-5)), ("9223372036854775807", Some(i64::MAX)), ("-9223372036854775808", Some(i64::MIN))]
        {
            assert_eq!(number(text), expected, "{text}");
        }
        for text in ["", "-", "-0", "007", "+7", "7 ", "1.0", "9223372036854775808", "u1"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
