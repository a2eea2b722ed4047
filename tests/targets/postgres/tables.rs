//! A database's schemas for one test, and reading their tables as the model prints them.

use super::model::{NULL, Rows, Tables, canonical, vector};
use desireline::projections::postgres::{PostgresConfig, Schemas};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

pub const NAMES: [&str; 9] =
    ["sessions", "user_journey", "cluster", "aggregates_minute", "events", "interaction_logs", "items", "products", "users"];

/// What is read of each table. Columns that are compared in another form than text are marked.
const QUERIES: [(&str, &str); 9] = [
    (
        "sessions",
        "source_id, user_id, session_number, micros(start), micros(\"end\"), event_count, views, carts, transactions, value, \
         replace(first_event::text, '-', '')",
    ),
    ("user_journey", "source_id, user_id, state::text AS vector, paths::text AS paths, cluster_id"),
    ("cluster", "source_id, cluster_id, centroid::text AS vector"),
    ("aggregates_minute", "source_id, micros(window_start), micros(window_end), page, event_type, count, revenue"),
    (
        "events",
        "source_id, visitorid, micros(event_time), replace(event_id::text, '-', ''), \"timestamp\", event, itemid, transactionid, sessionnumber",
    ),
    (
        "interaction_logs",
        "source_id, user_id, micros(ts AT TIME ZONE 'UTC'), replace(event_id::text, '-', ''), asin, event_type, metadata AS json",
    ),
    ("items", "asin, parent_asin, variant, primary_image, category, known"),
    ("products", "parent_asin, title, store, main_category, avg_rating, rating_number, primary_image, raw_metadata AS json, brand, known"),
    ("users", "id, username, known"),
];

pub struct Site {
    pub url: String,
    pub schemas: Schemas,
    pub client: Client,
}

static SITES: AtomicU32 = AtomicU32::new(0);

impl Site {
    /// Schemas of one's own; nothing is in them.
    pub async fn new(url: &str) -> Self {
        let number = SITES.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let name = format!("t{:x}_{number}", now ^ u64::from(std::process::id()) << 40);
        let schemas = Schemas {
            ampelios: format!("{name}_a"),
            interactions: format!("{name}_i"),
            clickstream: format!("{name}_a"),
            desireline: format!("{name} \"d\""),
        };
        Self { url: url.to_owned(), schemas, client: connect(url).await }
    }

    pub fn config(&self) -> PostgresConfig {
        PostgresConfig {
            name: "postgres".to_owned(),
            url: self.url.clone(),
            tls_ca: None,
            schemas: self.schemas.clone(),
            pool_max: 2,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_millis(300),
            gather: Duration::ZERO,
            attempts_max: 3,
            rows_max: 50_000,
        }
    }

    pub fn table(&self, name: &str) -> String {
        let schema = match name {
            "events" | "user_journey" | "cluster" => &self.schemas.ampelios,
            "interaction_logs" | "items" | "products" | "users" => &self.schemas.interactions,
            "aggregates_minute" => &self.schemas.clickstream,
            _ => &self.schemas.desireline,
        };
        format!("\"{}\".{name}", schema.replace('"', "\"\""))
    }

    pub async fn run(&self, statements: &str) {
        self.client.batch_execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    pub async fn rows(&self, query: &str) -> Vec<Vec<String>> {
        let messages = self.client.simple_query(query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).unwrap_or(NULL).to_owned()).collect()),
            _ => None,
        };
        messages.iter().filter_map(row).collect()
    }

    pub async fn number(&self, query: &str) -> i64 {
        self.rows(query).await[0][0].parse().unwrap()
    }

    /// Every table, row by row.
    pub async fn tables(&self) -> Tables {
        let mut tables = Tables::new();
        for (name, columns) in QUERIES {
            let query = format!("SELECT {} FROM {}", micros(columns), self.table(name));
            let rows = self.client.simple_query(&query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
            let mut read = Rows::new();
            for message in &rows {
                let SimpleQueryMessage::Row(row) = message else { continue };
                let form = |at: usize| match (row.columns()[at].name(), row.get(at)) {
                    (_, None) => NULL.to_owned(),
                    ("vector", Some(text)) => vector(&floats(text)),
                    ("paths", Some(text)) => floats(text).chunks(3).map(vector).collect::<Vec<_>>().join(" "),
                    ("json", Some(text)) => canonical(&serde_json::from_str(text).unwrap()),
                    (_, Some(text)) => text.to_owned(),
                };
                assert!(read.insert((0..row.len()).map(form).collect()), "{name} has a row twice: {row:?}");
            }
            tables.insert(name, read);
        }
        tables
    }

    pub async fn drop_all(self) {
        for schema in [&self.schemas.ampelios, &self.schemas.interactions, &self.schemas.desireline] {
            self.run(&format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", schema.replace('"', "\"\""))).await;
        }
    }
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database answers");
    tokio::spawn(async move { drop(connection.await) });
    client.batch_execute("SET TimeZone = 'UTC'; SET client_min_messages = warning").await.unwrap();
    client
}

/// `micros(x)` is the time `x` in microseconds.
fn micros(columns: &str) -> String {
    let mut text = columns.to_owned();
    while let Some(at) = text.find("micros(") {
        let close = at + text[at..].find(')').unwrap();
        let inner = text[at + "micros(".len()..close].to_owned();
        text.replace_range(at..=close, &format!("(extract(epoch FROM {inner}) * 1000000)::bigint"));
    }
    text
}

/// The numbers in `{1,2}`, `{{1,2},{3,4}}`, `[1,2]` or `{"[1,2]"}`.
fn floats(text: &str) -> Vec<f64> {
    let numbers = text.split(|c: char| "{}[],\"".contains(c)).filter(|part| !part.is_empty());
    numbers.map(|number| f64::from(number.parse::<f32>().unwrap())).collect()
}

/// Fails with the rows that are too many or too few.
#[track_caller]
pub fn assert_same(found: &Tables, expected: &Tables, what: &str) {
    for name in NAMES {
        let (found, expected) = (&found[name], &expected[name]);
        let extra: Vec<_> = found.difference(expected).take(5).collect();
        let lacking: Vec<_> = expected.difference(found).take(5).collect();
        assert!(extra.is_empty() && lacking.is_empty(), "{what}: {name} has too much: {extra:#?}\nand lacks: {lacking:#?}");
    }
}
