//! DuckDB and pandas read the same rows as we do.

use super::histories::{self, Options};
use super::{Site, Story, built, services, stretch};
use desireline_connectors::dataset::{Row, Value};
use desireline_dataflows::changes::View;
use desireline_records::{Batch, CatalogEntry, ClusterModel, Control, Fixed4, Item, Movement, Person, Product};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Whether the programs may be asked for: `scripts/test --fast` and plain `cargo test` install nothing.
fn is_wanted() -> bool {
    let services = std::env::var("DESIRELINE_TEST_SERVICES").unwrap_or_default();
    let wanted = !matches!(services.as_str(), "" | "off");
    if !wanted {
        services::skip("duckdb and pandas");
    }
    wanted
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Int(number) | Value::Time(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Text(text) => json!(text.as_str()),
        Value::Decimal(units) => {
            let (whole, rest) = (units.unsigned_abs() / 10_000, units.unsigned_abs() % 10_000);
            json!(format!("{}{whole}.{rest:04}", if *units < 0 { "-" } else { "" }))
        }
        Value::List(values) => values.iter().map(plain).collect(),
    }
}

/// Rows by dataset, with the day of their file at their end, in no particular order.
fn by_dataset(files: BTreeMap<String, Vec<Row>>) -> BTreeMap<String, Vec<String>> {
    let mut datasets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, rows) in files {
        let (dataset, file) = name.split_once('/').expect("a folder");
        let day = file.strip_prefix("day=").map(|rest| &rest[..10]);
        let row = |row: &Row| {
            let mut row: Vec<Json> = row.iter().map(plain).collect();
            row.extend(day.map(|day| json!(day)));
            canonical(&Json::Array(row))
        };
        datasets.entry(dataset.to_owned()).or_default().extend(rows.iter().map(row));
    }
    datasets.values_mut().for_each(|rows| rows.sort());
    datasets
}

/// Whole numbers are one number, whether a column holds integers or, for want of some of them, floats.
fn canonical(value: &Json) -> String {
    match value {
        Json::Array(values) => format!("[{}]", values.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Json::Number(number) => number.as_f64().map_or_else(String::new, |number| format!("{number:?}")),
        other => other.to_string(),
    }
}

/// A random history and, at its end, something for every dataset and every kind of column.
fn story() -> Story {
    let mut batches = histories::random(4, &Options::from_seed(4)).batches;
    batches.iter_mut().for_each(|batch| stretch(batch, 20));
    let mut last = Batch { time: batches.last().map_or(0, |batch| batch.time) + 1, ..Batch::default() };
    let mut odd = histories::event(9, "Ünï \"çode\" 🦀,\n", "odd", 1_709_290_000_123_457);
    (odd.value, odd.page, odd.movement) = (Fixed4(-9_007_199_254_740_993), "".into(), Movement::Transaction);
    last.events.push(odd);
    let item = Item { asin: "B1".into(), parent_asin: "P1".into(), variant: Some("red".into()), primary_image: None, category: None };
    let product = Product {
        parent_asin: "P1".into(),
        title: "A thing".into(),
        store: Some("S".into()),
        main_category: Some("Beauty".into()),
        avg_rating: Some(437),
        rating_number: Some(12),
        primary_image: None,
        raw_metadata: Some("{\"brand\":\"X\"}".into()),
    };
    let (centroids, weights) = (vec![[0.1, 0.2, 0.3, 1e-9, 1e9, 7.0]; 5], vec![1.0; 5]);
    let model = ClusterModel { source: 9, clusters: 5, version: 1, centroids, weights, trained_on: 1, trained_at: 1 };
    last.controls = vec![
        Control::Catalog(CatalogEntry::Item(Arc::new(item))),
        Control::Catalog(CatalogEntry::Product(Arc::new(product))),
        Control::Catalog(CatalogEntry::Person(Arc::new(Person { id: -5, username: Some("ann".into()) }))),
        Control::Model(model),
    ];
    Story::of(batches.into_iter().chain([last]))
}

#[tokio::test]
async fn duckdb_and_pandas_read_every_row() {
    if !is_wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let site = Site::folder(folder.path());
    let story = story();
    let half = story.last() / 2;
    let mut target = built(&site, &story, half, &View::ALL).await;
    desireline::projections::Target::apply(&mut target, &story.changeset(half, story.last())).await.unwrap();
    let expected = by_dataset(story.expected(story.last(), &View::ALL));
    assert_eq!(expected.len(), 9, "every dataset has rows: {:?}", expected.keys());

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/pydata");
    let output = Command::new(script).arg(folder.path()).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Json = serde_json::from_slice(&output.stdout).unwrap();
    for reader in ["duckdb", "pandas"] {
        for (dataset, rows) in &expected {
            let found = read[reader][dataset]["rows"].as_array().unwrap_or_else(|| panic!("{reader} finds no {dataset}"));
            let mut found: Vec<String> = found.iter().map(canonical).collect();
            found.sort();
            assert_eq!(&found, rows, "{dataset} as {reader} reads it");
        }
    }
    let types = &read["duckdb"]["events"]["columns"];
    assert_eq!(
        (&types["timestamp"], &types["value"], &types["day"]),
        (&json!("TIMESTAMP WITH TIME ZONE"), &json!("DECIMAL(38,4)"), &json!("DATE"))
    );
    assert_eq!(read["duckdb"]["clusters"]["columns"]["centroid"], json!("DOUBLE[]"));
}
