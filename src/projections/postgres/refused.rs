//! Rows that the database cannot take: how they are written down.
//!
//! They stand in `refused_rows` with the table they were meant for, their key, themselves as JSON and the reason, under the same time as
//! everything else. A later change of the same row that goes well, or an erasure of its user, takes them away again.

use super::stage::{Step, shown};
use desireline_connectors::postgres::CopyRows;
use desireline_dataflows::changes::{RowKey, ViewRow};
use desireline_records::SourceId;
use desireline_records::fixed::sum_to_f64;
use desireline_records::time::format_rfc3339;
use serde_json::{Value, json};

/// A row of the table of refused rows, without characters that the database refuses.
#[derive(Debug)]
pub struct Dead {
    pub table: &'static str,
    pub key: String,
    pub user: Option<(SourceId, String)>,
    pub row: String,
    pub error: String,
}

impl Dead {
    pub fn new(step: &Step<'_>, error: &str) -> Self {
        let key = match step {
            Step::Put(row) => row.key(),
            Step::Gone(key) => (*key).clone(),
            Step::Paths(source, user) => RowKey::Journey(*source, (*user).clone()),
        };
        let row = match step {
            Step::Put(row) => json(row),
            Step::Gone(_) => json!({ "gone": true }),
            Step::Paths(..) => json!({ "paths": true }),
        };
        let user = key.user().map(|(source, user)| (source, shown(user)));
        // As the text of JSON a NUL character is the escape `\u0000`.
        let row = row.to_string().replace("\\u0000", "\\ufffd");
        Self { table: table(&key), key: key_text(&key), user, row, error: shown(error) }
    }
}

fn table(key: &RowKey) -> &'static str {
    match key {
        RowKey::Event(..) => "events",
        RowKey::Session(..) => "sessions",
        RowKey::Journey(..) => "user_journey",
        RowKey::Cluster(..) => "cluster",
        RowKey::Minute(..) | RowKey::MinuteShift(..) => "aggregates_minute",
        RowKey::Item(_) => "items",
        RowKey::Product(_) => "products",
        RowKey::Person(_) => "users",
        RowKey::Context(..) => "context",
        RowKey::Source(_) => "sources",
        RowKey::Erased(..) => "erased",
        RowKey::Cell(_) | RowKey::CellShift(_) => "occupancy",
        RowKey::Space(_) => "spaces",
    }
}

/// The key of a row as text; the same for every change of it.
pub fn key_text(key: &RowKey) -> String {
    let text = match key {
        RowKey::Event(source, user, time, id) => format!("event/{source}/{user}/{time}/{id}"),
        RowKey::Session(source, user, start) => format!("session/{source}/{user}/{start}"),
        RowKey::Journey(source, user) => format!("journey/{source}/{user}"),
        RowKey::Cluster(source, cluster) => format!("cluster/{source}/{cluster}"),
        RowKey::Minute(source, minute, page, event_type) | RowKey::MinuteShift(source, minute, page, event_type) => {
            format!("minute/{source}/{minute}/{event_type}/{page}")
        }
        RowKey::Context(source, user) => format!("context/{source}/{user}"),
        RowKey::Item(asin) => format!("item/{asin}"),
        RowKey::Product(asin) => format!("product/{asin}"),
        RowKey::Person(id) => format!("user/{id}"),
        RowKey::Source(source) => format!("source/{source}"),
        RowKey::Erased(source, user) => format!("erased/{source}/{user}"),
        RowKey::Cell(key) | RowKey::CellShift(key) => {
            format!("cell/{}/{}/{}/{}", key.space, key.measure.code(), key.time, key.other)
        }
        RowKey::Space(space) => format!("space/{space}"),
    };
    shown(&text)
}

fn json(row: &ViewRow) -> Value {
    match row {
        ViewRow::Event { source, user, id, time, session, content } => {
            let mut value = json!({ "source_id": source, "user_id": user.as_str(), "event_id": id.to_string(),
                "time": format_rfc3339(*time), "session_number": session });
            if let (Some(event), Some(fields)) = (&content.0, value.as_object_mut()) {
                fields.insert("event_type".to_owned(), event.event_type.as_str().into());
                fields.insert("page".to_owned(), event.page.as_str().into());
                fields.insert("item".to_owned(), event.item.as_str().into());
                fields.insert("value".to_owned(), event.value.to_f64().into());
                if let Some(extra) = &event.extra {
                    fields.insert("transaction_id".to_owned(), extra.transaction_id.as_str().into());
                    fields.insert("properties".to_owned(), extra.properties.as_str().into());
                }
            }
            value
        }
        ViewRow::Session { source, user, number, start, end, events, views, carts, transactions, value, .. } => {
            json!({ "source_id": source, "user_id": user.as_str(), "session_number": number, "start": format_rfc3339(*start),
                "end": format_rfc3339(*end), "event_count": events, "views": views, "carts": carts, "transactions": transactions,
                "value": sum_to_f64(*value) })
        }
        ViewRow::Journey { source, user, journey, cluster } => {
            json!({ "source_id": source, "user_id": user.as_str(), "views": journey.views, "carts": journey.carts,
                "transactions": journey.transactions, "value": sum_to_f64(journey.value()), "cluster_id": cluster })
        }
        ViewRow::Cluster { source, cluster, centroid } => {
            let centroid: Vec<String> = centroid.values().iter().map(ToString::to_string).collect();
            json!({ "source_id": source, "cluster_id": cluster, "centroid": centroid })
        }
        ViewRow::Minute { source, minute, page, event_type, count, revenue }
        | ViewRow::MinuteShift { source, minute, page, event_type, count, revenue } => {
            json!({ "source_id": source, "window_start": format_rfc3339(*minute), "page": page.as_str(),
                "event_type": event_type.as_str(), "count": count, "revenue": sum_to_f64(*revenue),
                "shift": matches!(row, ViewRow::MinuteShift { .. }) })
        }
        ViewRow::Item(item) => serde_json::to_value(item).unwrap_or_default(),
        ViewRow::Product(product) => serde_json::to_value(product).unwrap_or_default(),
        ViewRow::Person(person) => serde_json::to_value(person).unwrap_or_default(),
        ViewRow::Cell { .. }
        | ViewRow::CellShift { .. }
        | ViewRow::Space(_)
        | ViewRow::Context(_)
        | ViewRow::Source(_)
        | ViewRow::Erased { .. } => Value::Null,
    }
}

/// The keys of rows that change, for the refused rows among them.
pub fn keys(steps: &[Step<'_>]) -> CopyRows {
    let mut keys = CopyRows::default();
    for step in steps {
        match step {
            Step::Put(row) => keys.row(1).text(&key_text(&row.key())),
            Step::Gone(key) => keys.row(1).text(&key_text(key)),
            Step::Paths(..) => continue,
        };
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_row_holds_nothing_that_would_be_refused_again() {
        let row = ViewRow::Minute { source: 1, minute: 0, page: "a\0b".into(), event_type: "view".into(), count: 1, revenue: 0 };
        let dead = Dead::new(&Step::Put(&row), "bad \0");
        for text in [&dead.key, &dead.row, &dead.error] {
            assert!(!text.contains('\0') && !text.contains("\\u0000"), "{text}");
        }
        assert_eq!((dead.table, dead.key.as_str()), ("aggregates_minute", "minute/1/0/view/a\u{fffd}b"));
    }
}
