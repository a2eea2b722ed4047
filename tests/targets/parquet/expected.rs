//! What the datasets must hold, from the slow reference and by the documentation of the columns.

use chrono::DateTime;
use desireline_connectors::dataset::{Row, Value};
use desireline_dataflows::changes::View;
use desireline_dataflows::reference::Reference;
use desireline_records::{CatalogEntry, Event, EventId, Micros, SourceId};
use ecow::EcoString;
use std::collections::BTreeMap;

/// Rows by file; all parts of a dataset without days together, as `journeys/*`.
pub type Files = BTreeMap<String, Vec<Row>>;

fn day(dataset: &str, time: Micros) -> String {
    let time = DateTime::from_timestamp_micros(time).expect("a time of our era");
    format!("{dataset}/day={}/data.parquet", time.format("%Y-%m-%d"))
}

fn int(number: impl TryInto<i64, Error: std::fmt::Debug>) -> Value {
    Value::Int(number.try_into().expect("fits"))
}

fn text(text: impl Into<EcoString>) -> Value {
    Value::Text(text.into())
}

fn maybe(text: &Option<EcoString>) -> Value {
    text.clone().map_or(Value::Null, Value::Text)
}

fn filled(text: &EcoString) -> Value {
    if text.is_empty() { Value::Null } else { Value::Text(text.clone()) }
}

fn id(id: EventId) -> Value {
    let hex: String = id.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    text(format!("~{hex}"))
}

fn floats(values: &[f64]) -> Value {
    Value::List(values.iter().map(|value| Value::Float(*value)).collect())
}

/// All rows of some views, in the order of their keys.
pub fn files(reference: &Reference, views: &[View]) -> Files {
    let mut files = Files::new();
    for view in views {
        match view {
            View::Events => events(reference, &mut files),
            View::Sessions => sessions(reference, &mut files),
            View::Journeys => journeys(reference, &mut files),
            View::Clusters => clusters(reference, &mut files),
            View::Minutes => minutes(reference, &mut files),
            View::Context => contexts(reference, &mut files),
            View::Catalog => catalog(reference, &mut files),
            View::Occupancy | View::Spaces => {}
        }
    }
    for (name, rows) in &mut files {
        let dataset = name.split('/').next().expect("a folder");
        let key = match dataset {
            "events" | "minutes" => 4,
            "sessions" => 3,
            "items" | "products" | "users" => 1,
            _ => 2,
        };
        rows.sort_by(|a, b| (0..key).map(|column| order(&a[column], &b[column])).find(|order| order.is_ne()).expect("keys differ"));
    }
    files
}

fn order(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) | (Value::Time(a), Value::Time(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        other => panic!("no keys: {other:?}"),
    }
}

fn put(files: &mut Files, name: String, row: Row) {
    files.entry(name).or_default().push(row);
}

fn events(reference: &Reference, files: &mut Files) {
    for (event, session) in reference.events() {
        let Event { source, time, id: key, value, user, event_type, page, item, extra, .. } = event;
        let extra = extra.unwrap_or_default();
        let event_id = if extra.event_id.is_empty() { id(key) } else { text(extra.event_id.clone()) };
        let row = vec![
            int(source),
            text(user),
            Value::Time(time),
            id(key),
            int(session),
            event_id,
            text(event_type),
            filled(&page),
            filled(&item),
            Value::Decimal(value.0.into()),
            filled(&extra.client_id),
            filled(&extra.session_id),
            filled(&extra.transaction_id),
            filled(&extra.properties),
        ];
        put(files, day("events", time), row);
    }
}

fn sessions(reference: &Reference, files: &mut Files) {
    for ((source, user), sessions) in reference.sessions() {
        for (number, s) in sessions.iter().enumerate() {
            let row = vec![
                int(source),
                text(user.clone()),
                Value::Time(s.start),
                int(number + 1),
                Value::Time(s.end),
                int(s.events),
                int(s.views),
                int(s.carts),
                int(s.transactions),
                Value::Decimal(s.value),
                id(s.first_event),
            ];
            put(files, day("sessions", s.start), row);
        }
    }
}

fn journeys(reference: &Reference, files: &mut Files) {
    let sessions = reference.sessions();
    let labels = reference.labels();
    let by_value: BTreeMap<SourceId, bool> = reference.sources().map(|(id, settings, _)| (id, settings.transaction_value)).collect();
    for (key, journey) in reference.journeys() {
        let paths = sessions[&key]
            .iter()
            .map(|s| Value::List(vec![Value::Time(s.start), int(s.views), int(s.carts), int(s.transactions), Value::Decimal(s.value)]));
        let row = vec![
            int(key.0),
            text(key.1.clone()),
            floats(&journey.state(by_value[&key.0])),
            Value::List(paths.collect()),
            int(journey.sessions),
            floats(&journey.features(by_value[&key.0])),
            labels.get(&key).map_or(Value::Null, |label| int(*label)),
            int(journey.views),
            int(journey.carts),
            int(journey.transactions),
            Value::Decimal(journey.value()),
        ];
        put(files, "journeys/*".to_owned(), row);
    }
}

fn clusters(reference: &Reference, files: &mut Files) {
    for (source, centroids) in reference.centroids() {
        for (cluster, centroid) in centroids.iter().enumerate() {
            put(files, "clusters/*".to_owned(), vec![int(source), int(cluster), floats(centroid)]);
        }
    }
}

fn minutes(reference: &Reference, files: &mut Files) {
    for ((source, minute, page, event_type), (count, revenue)) in reference.minutes() {
        let end = Value::Time(minute + 60_000_000);
        let row = vec![int(source), Value::Time(minute), text(page), text(event_type), end, int(count), Value::Decimal(revenue)];
        put(files, day("minutes", minute), row);
    }
}

fn contexts(reference: &Reference, files: &mut Files) {
    for context in reference.contexts() {
        let categories = context.recent_categories.iter().map(|(name, events)| Value::List(vec![text(name.clone()), int(*events)]));
        let row = vec![
            int(context.source),
            text(context.user),
            Value::List(context.recent_items.into_iter().map(text).collect()),
            Value::List(categories.collect()),
            Value::Time(context.last_active),
            Value::Time(context.expires_at),
            Value::Time(context.categories_expire_at),
        ];
        put(files, "context/*".to_owned(), row);
    }
}

fn catalog(reference: &Reference, files: &mut Files) {
    for entry in reference.catalog() {
        match entry {
            CatalogEntry::Item(item) => {
                let row = vec![
                    text(item.asin.clone()),
                    text(item.parent_asin.clone()),
                    maybe(&item.variant),
                    maybe(&item.primary_image),
                    maybe(&item.category),
                ];
                put(files, "items/*".to_owned(), row);
            }
            CatalogEntry::Product(product) => {
                let row = vec![
                    text(product.parent_asin.clone()),
                    text(product.title.clone()),
                    maybe(&product.store),
                    maybe(&product.main_category),
                    product.brand().map_or(Value::Null, text),
                    product.avg_rating.map_or(Value::Null, |rating| Value::Float(f64::from(rating) / 100.0)),
                    product.rating_number.map_or(Value::Null, int),
                    maybe(&product.primary_image),
                    maybe(&product.raw_metadata),
                ];
                put(files, "products/*".to_owned(), row);
            }
            CatalogEntry::Person(person) => put(files, "users/*".to_owned(), vec![int(person.id), maybe(&person.username)]),
        }
    }
}
