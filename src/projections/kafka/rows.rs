//! Rows as JSON: keys that are always spelled the same, and values with the fields of the HTTP API.

use super::super::changeset::Changeset;
use super::Owner;
use super::state::{Printing, Sources};
use crate::http::wire::{UserId, rfc3339};
use desireline_dataflows::changes::{ContextRow, RowKey, ViewRow};
use desireline_records::fixed::sum_to_f64;
use desireline_records::time::{MINUTE, SECOND};
use desireline_records::{Event, Item, LogicalTime, Micros, Person, Product, SourceId};
use ecow::EcoString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Fields in the order in which they are printed; those that a view has not are left out.
#[derive(Default, Serialize)]
struct Key<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    source_id: Option<SourceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

/// Under what a row stands; none for what is no row of a topic.
pub(super) fn key(key: &RowKey) -> Option<Vec<u8>> {
    let of_source = |source: SourceId| Key { source_id: Some(source), ..Key::default() };
    let person;
    let key = match key {
        RowKey::Event(source, user, time, id) => {
            Key { user_id: Some(user), timestamp: Some(rfc3339(*time)), event_id: Some(id.to_string()), ..of_source(*source) }
        }
        RowKey::Session(source, user, start) => Key { user_id: Some(user), start: Some(rfc3339(*start)), ..of_source(*source) },
        RowKey::Journey(source, user) | RowKey::Context(source, user) => Key { user_id: Some(user), ..of_source(*source) },
        RowKey::Cluster(source, cluster) => Key { cluster_id: Some(*cluster), ..of_source(*source) },
        RowKey::Minute(source, minute, page, event_type) | RowKey::MinuteShift(source, minute, page, event_type) => {
            Key { window_start: Some(rfc3339(*minute)), page: Some(page), event_type: Some(event_type), ..of_source(*source) }
        }
        RowKey::Item(asin) => Key { kind: Some("item"), id: Some(asin), ..Key::default() },
        RowKey::Product(parent_asin) => Key { kind: Some("product"), id: Some(parent_asin), ..Key::default() },
        RowKey::Person(id) => {
            person = id.to_string();
            Key { kind: Some("user"), id: Some(&person), ..Key::default() }
        }
        RowKey::Source(_) | RowKey::Erased(..) | RowKey::Cell(_) | RowKey::CellShift(_) | RowKey::Space(_) => return None,
    };
    Some(json(&key))
}

/// Whose row a key names.
pub(super) fn owner(key: &[u8]) -> Option<Owner> {
    #[derive(Deserialize)]
    struct Owned {
        source_id: SourceId,
        user_id: EcoString,
    }
    let Owned { source_id, user_id } = serde_json::from_slice(key).ok()?;
    Some((source_id, user_id))
}

#[derive(Serialize)]
struct Value<T> {
    as_of: LogicalTime,
    #[serde(flatten)]
    row: T,
}

#[derive(Serialize)]
struct Session {
    source_id: SourceId,
    user_id: UserId,
    session_number: u32,
    start: String,
    end: String,
    event_count: u32,
    views: u32,
    carts: u32,
    transactions: u32,
    value: f64,
}

#[derive(Serialize)]
struct Journey {
    source_id: SourceId,
    user_id: UserId,
    state: [f64; 3],
    session_count: i64,
    features: [f64; 6],
    cluster_id: Option<u16>,
}

#[derive(Serialize)]
struct Cluster {
    source_id: SourceId,
    cluster_id: u16,
    centroid: [f64; 6],
}

#[derive(Serialize)]
struct Minute<'a> {
    source_id: SourceId,
    window_start: String,
    window_end: String,
    page: &'a str,
    event_type: &'a str,
    count: i64,
    revenue: f64,
}

#[derive(Serialize)]
struct Context<'a> {
    source_id: SourceId,
    user_id: UserId,
    recent_items: &'a [EcoString],
    recent_categories: BTreeMap<&'a str, u64>,
    /// Whole seconds since 1970.
    last_active: i64,
    expires_at: String,
}

#[derive(Serialize)]
struct EventValue<'a> {
    source_id: SourceId,
    user_id: UserId,
    event_id: EcoString,
    timestamp: String,
    event_type: &'a str,
    page: Option<&'a str>,
    item_id: Option<&'a str>,
    session_id: Option<&'a str>,
    client_id: Option<&'a str>,
    transaction_id: Option<&'a str>,
    value: f64,
    properties: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct ItemValue<'a> {
    kind: &'static str,
    asin: &'a str,
    parent_asin: &'a str,
    variant: Option<&'a str>,
    primary_image: Option<&'a str>,
    category: Option<&'a str>,
}

#[derive(Serialize)]
struct ProductValue<'a> {
    kind: &'static str,
    parent_asin: &'a str,
    title: &'a str,
    store: Option<&'a str>,
    main_category: Option<&'a str>,
    avg_rating: Option<f64>,
    rating_number: Option<u32>,
    primary_image: Option<&'a str>,
    raw_metadata: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct PersonValue<'a> {
    kind: &'static str,
    id: i64,
    username: Option<&'a str>,
}

/// A row as it stands; none for what is no row of a topic, and for an event that is there already.
pub(super) fn value(row: &ViewRow, as_of: LogicalTime, sources: &Sources) -> Option<Vec<u8>> {
    let printing = |source: &SourceId| sources.get(source).copied().unwrap_or_default();
    let user_id = |source: &SourceId, user: &str| UserId::new(user, printing(source).user_id_type);
    Some(match row {
        ViewRow::Event { content, .. } => {
            let event = content.0.as_deref()?;
            json(&Value { as_of, row: event_value(event, printing(&event.source)) })
        }
        ViewRow::Session { source, user, .. } => json(&Value { as_of, row: session(row, user_id(source, user))? }),
        ViewRow::Journey { source, user, journey, cluster } => {
            let by_value = printing(source).transaction_value;
            let (state, features) = (journey.state(by_value), journey.features(by_value));
            let user_id = user_id(source, user);
            let row = Journey { source_id: *source, user_id, state, session_count: journey.sessions, features, cluster_id: *cluster };
            json(&Value { as_of, row })
        }
        ViewRow::Cluster { source, cluster, centroid } => {
            json(&Value { as_of, row: Cluster { source_id: *source, cluster_id: *cluster, centroid: centroid.values() } })
        }
        ViewRow::Minute { source, minute, page, event_type, count, revenue } => {
            json(&Value { as_of, row: minute_value(*source, *minute, page, event_type, *count, *revenue) })
        }
        ViewRow::Context(row) => json(&Value { as_of, row: context(row, user_id(&row.source, &row.user)) }),
        ViewRow::Item(item) => json(&Value { as_of, row: item_value(item) }),
        ViewRow::Product(product) => json(&Value { as_of, row: product_value(product) }),
        ViewRow::Person(person) => json(&Value { as_of, row: person_value(person) }),
        ViewRow::MinuteShift { .. }
        | ViewRow::Cell { .. }
        | ViewRow::CellShift { .. }
        | ViewRow::Space(_)
        | ViewRow::Source(_)
        | ViewRow::Erased { .. } => return None,
    })
}

fn session(row: &ViewRow, user_id: UserId) -> Option<Session> {
    let ViewRow::Session { source, number, start, end, events, views, carts, transactions, value, .. } = row else { return None };
    Some(Session {
        source_id: *source,
        user_id,
        session_number: *number,
        start: rfc3339(*start),
        end: rfc3339(*end),
        event_count: *events,
        views: *views,
        carts: *carts,
        transactions: *transactions,
        value: sum_to_f64(*value),
    })
}

fn minute_value<'a>(source_id: SourceId, minute: Micros, page: &'a str, event_type: &'a str, count: i64, revenue: i128) -> Minute<'a> {
    let (window_start, window_end) = (rfc3339(minute), rfc3339(minute + MINUTE));
    Minute { source_id, window_start, window_end, page, event_type, count, revenue: sum_to_f64(revenue) }
}

fn context(row: &ContextRow, user_id: UserId) -> Context<'_> {
    Context {
        source_id: row.source,
        user_id,
        recent_items: &row.recent_items,
        recent_categories: row.recent_categories.iter().map(|(category, count)| (category.as_str(), *count)).collect(),
        last_active: row.last_active.div_euclid(SECOND),
        expires_at: rfc3339(row.expires_at),
    }
}

fn event_value(event: &Event, printing: Printing) -> EventValue<'_> {
    let extra = event.extra.as_deref();
    EventValue {
        source_id: event.source,
        user_id: UserId::new(&event.user, printing.user_id_type),
        event_id: event.reference(),
        timestamp: rfc3339(event.time),
        event_type: &event.event_type,
        page: some(&event.page),
        item_id: some(&event.item),
        session_id: extra.and_then(|extra| some(&extra.session_id)),
        client_id: extra.and_then(|extra| some(&extra.client_id)),
        transaction_id: extra.and_then(|extra| some(&extra.transaction_id)),
        value: event.value.to_f64(),
        properties: extra.and_then(|extra| raw(&extra.properties)),
    }
}

fn item_value(item: &Item) -> ItemValue<'_> {
    let Item { asin, parent_asin, variant, primary_image, category } = item;
    let (variant, primary_image, category) = (variant.as_deref(), primary_image.as_deref(), category.as_deref());
    ItemValue { kind: "item", asin, parent_asin, variant, primary_image, category }
}

fn product_value(product: &Product) -> ProductValue<'_> {
    ProductValue {
        kind: "product",
        parent_asin: &product.parent_asin,
        title: &product.title,
        store: product.store.as_deref(),
        main_category: product.main_category.as_deref(),
        avg_rating: product.avg_rating.map(|hundredths| f64::from(hundredths) / 100.0),
        rating_number: product.rating_number,
        primary_image: product.primary_image.as_deref(),
        raw_metadata: product.raw_metadata.as_deref().and_then(raw),
    }
}

fn person_value(person: &Person) -> PersonValue<'_> {
    PersonValue { kind: "user", id: person.id, username: person.username.as_deref() }
}

/// Nothing instead of an empty text.
pub(super) fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// A JSON text as it is.
pub(super) fn raw(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text).ok()
}

/// Count and revenue of a minute, from its value.
pub(super) fn minute_cell(payload: &[u8]) -> Option<(i64, i128)> {
    #[derive(Deserialize)]
    struct Cell {
        count: i64,
        revenue: f64,
    }
    let Cell { count, revenue } = serde_json::from_slice(payload).ok()?;
    Some((count, (revenue * 10_000.0).round() as i128))
}

/// What a changeset itself says of the minute that it also shifts: outer nothing if it says nothing.
pub(super) fn minute_before(changes: &Changeset, shift: &ViewRow) -> Option<Option<(i64, i128)>> {
    let ViewRow::MinuteShift { source, minute, page, event_type, .. } = shift else { return None };
    let row = changes.rows.get(&RowKey::Minute(*source, *minute, page.clone(), event_type.clone()))?;
    Some(match row {
        Some(ViewRow::Minute { count, revenue, .. }) => Some((*count, *revenue)),
        _ => None,
    })
}

/// A minute after its correction; nothing when nothing is left of it.
pub(super) fn shifted_minute(shift: &ViewRow, before: (i64, i128), as_of: LogicalTime) -> Option<Vec<u8>> {
    let ViewRow::MinuteShift { source, minute, page, event_type, count, revenue } = shift else { return None };
    let (count, revenue) = (before.0 + count, before.1 + revenue);
    let row = minute_value(*source, *minute, page, event_type, count, revenue);
    ((count, revenue) != (0, 0)).then(|| json(&Value { as_of, row }))
}

pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structures with text keys can be printed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::EventId;

    fn printed(row_key: RowKey) -> String {
        String::from_utf8(key(&row_key).expect("a row of a topic")).expect("text")
    }

    #[test]
    fn keys_are_spelled_one_way() {
        let start = 1_700_000_000_000_000;
        assert_eq!(
            printed(RowKey::Session(1, "u\"1".into(), start)),
            r#"{"source_id":1,"user_id":"u\"1","start":"2023-11-14T22:13:20.000Z"}"#
        );
        assert_eq!(printed(RowKey::Journey(1, "7".into())), r#"{"source_id":1,"user_id":"7"}"#);
        assert_eq!(printed(RowKey::Cluster(1, 4)), r#"{"source_id":1,"cluster_id":4}"#);
        let minute = r#"{"source_id":1,"window_start":"2023-11-14T22:13:20.000Z","page":"/","event_type":"view"}"#;
        assert_eq!(printed(RowKey::Minute(1, start, "/".into(), "view".into())), minute);
        assert_eq!(printed(RowKey::MinuteShift(1, start, "/".into(), "view".into())), minute);
        assert_eq!(printed(RowKey::Person(-7)), r#"{"kind":"user","id":"-7"}"#);
        let event = printed(RowKey::Event(1, "u".into(), start, EventId([1, 2])));
        assert_eq!(
            event,
            r#"{"source_id":1,"user_id":"u","timestamp":"2023-11-14T22:13:20.000Z","event_id":"~00000000000000010000000000000002"}"#
        );
        assert!(key(&RowKey::Source(1)).is_none() && key(&RowKey::Erased(1, "u".into())).is_none());
    }

    #[test]
    fn a_key_names_its_owner() {
        let key = |row_key| key(&row_key).expect("a row of a topic");
        assert_eq!(owner(&key(RowKey::Session(1, "a\"b".into(), 5))), Some((1, "a\"b".into())));
        assert_eq!(owner(&key(RowKey::Cluster(1, 0))), None);
        assert_eq!(owner(b"not JSON"), None);
    }

    #[test]
    fn a_correction_adds_to_what_is_there() {
        let shift =
            |count, revenue| ViewRow::MinuteShift { source: 1, minute: 0, page: "/".into(), event_type: "buy".into(), count, revenue };
        let before = shifted_minute(&shift(3, 125_001), (0, 0), 9).expect("a row");
        assert_eq!(
            String::from_utf8(before.clone()).expect("text"),
            r#"{"as_of":9,"source_id":1,"window_start":"1970-01-01T00:00:00.000Z","window_end":"1970-01-01T00:01:00.000Z","page":"/","event_type":"buy","count":3,"revenue":12.5001}"#
        );
        assert_eq!(minute_cell(&before), Some((3, 125_001)));
        assert_eq!(shifted_minute(&shift(-3, -125_001), (3, 125_001), 9), None);
    }
}
