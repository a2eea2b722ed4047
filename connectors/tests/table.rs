//! Tables on the object store: what was written is read, errors leave the older one, and columns are told as a plain fold tells them.
#![allow(clippy::unwrap_used, reason = "a failing helper fails the test that called it")]

use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema};
use desireline_connectors::store::Store;
use desireline_connectors::table::{Scan, Statistics, TableFacts, TableLimits, WriteError, read, write};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).unwrap();
    (folder, store)
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, array)| array).collect()).unwrap()
}

async fn put(store: &Store, object: &str, batches: Vec<RecordBatch>) -> TableFacts {
    let schema = batches[0].schema();
    let rows = futures::stream::iter(batches.into_iter().map(Ok::<_, Infallible>));
    write(store, object, schema, rows, TableLimits::default()).await.unwrap()
}

fn numbers(from: i64, to: i64) -> RecordBatch {
    let texts = (from..to).map(|at| format!("{:x}", at * 7_919));
    batch(vec![("a", Arc::new(Int64Array::from_iter_values(from..to))), ("b", Arc::new(StringArray::from_iter_values(texts)))])
}

#[tokio::test]
async fn what_was_written_is_read_with_all_columns_or_some() {
    let (_folder, store) = store();
    let batches: Vec<RecordBatch> = (0..40).map(|at| numbers(at * 8_192, (at + 1) * 8_192)).collect();
    let facts = put(&store, "rules/rule_1/data.parquet", batches.clone()).await;
    assert_eq!(facts.rows, 40 * 8_192);
    assert_eq!(facts.bytes, store.info("rules/rule_1/data.parquet").await.unwrap().bytes);
    let (schema, read_again) = read(&store, "rules/rule_1/data.parquet", None).await.unwrap();
    assert_eq!(schema.fields(), batches[0].schema().fields());
    assert_eq!(arrow_select::concat::concat_batches(&schema, &read_again).unwrap(), {
        arrow_select::concat::concat_batches(&schema, &batches).unwrap()
    });
    let (schema, some) = read(&store, "rules/rule_1/data.parquet", Some(&["b".to_owned()])).await.unwrap();
    assert_eq!((schema.fields().len(), some[0].num_columns(), schema.field(0).name().as_str()), (1, 1, "b"));
    let error = read(&store, "rules/rule_1/data.parquet", Some(&["c".to_owned()])).await.unwrap_err();
    assert!(error.code() == "no_column" && error.to_string().contains("`a`, `b`"), "{error}");
    let scan = Scan::open(&store, "rules/rule_1/data.parquet").await.unwrap();
    assert_eq!(scan.rows(), 40 * 8_192);
}

#[tokio::test]
async fn a_table_without_rows_has_columns() {
    let (_folder, store) = store();
    let facts = put(&store, "a", vec![numbers(0, 0)]).await;
    assert_eq!(facts.rows, 0);
    assert_eq!(facts.column_stats["a"], json!({"dtype": "int64", "null_count": 0, "min": null, "max": null, "mean": null, "std": null}));
    assert_eq!(facts.column_stats["b"], json!({"dtype": "object", "null_count": 0, "unique_count": 0, "top_values": {}}));
    let (schema, batches) = read(&store, "a", None).await.unwrap();
    assert_eq!((schema.fields().len(), batches.len()), (2, 0));
}

#[tokio::test]
async fn rows_that_end_with_an_error_leave_the_older_table() {
    let (_folder, store) = store();
    put(&store, "a", vec![numbers(0, 10)]).await;
    let many = (0..60).map(|at| Ok(numbers(at * 8_192, (at + 1) * 8_192))).chain([Err("the server went away")]);
    let schema = numbers(0, 0).schema();
    let error = write(&store, "a", schema.clone(), futures::stream::iter(many), TableLimits::default()).await.unwrap_err();
    assert!(matches!(error, WriteError::Rows("the server went away")), "{error}");
    let many = (0..60).map(|at| Ok::<_, Infallible>(numbers(at * 8_192, (at + 1) * 8_192)));
    let error = write(&store, "a", schema, futures::stream::iter(many), TableLimits { bytes_max: 10_000 }).await.unwrap_err();
    assert!(matches!(&error, WriteError::Table(error) if error.code() == "table_too_large"), "{error}");
    let (_, batches) = read(&store, "a", None).await.unwrap();
    assert_eq!(batches[0].num_rows(), 10);
    assert_eq!(store.list("", None).await.unwrap().len(), 1, "nothing else is left");
}

#[tokio::test]
async fn damage_is_named_and_an_absent_object_is_not_found() {
    let (_folder, store) = store();
    assert_eq!(read(&store, "a", None).await.unwrap_err().code(), "store_not_found");
    put(&store, "a", vec![numbers(0, 1_000)]).await;
    let bytes = store.get("a").await.unwrap();
    for cut in [0, 3, bytes.len() / 2, bytes.len() - 1] {
        store.replace("a", bytes.slice(..cut)).await.unwrap();
        let error = read(&store, "a", None).await.unwrap_err();
        assert!(error.code() == "table_damaged" && !error.is_retryable(), "{error}");
    }
}

#[tokio::test]
async fn the_same_rows_give_the_same_bytes() {
    let (_folder, store) = store();
    for object in ["a", "b"] {
        put(&store, object, vec![numbers(0, 8_192), numbers(8_192, 9_000)]).await;
    }
    assert_eq!(store.get("a").await.unwrap(), store.get("b").await.unwrap());
}

fn told(arrays: &[ArrayRef]) -> Value {
    let mut statistics = Statistics::new(arrays[0].data_type());
    arrays.iter().for_each(|array| statistics.add(array));
    statistics.to_json()
}

#[test]
fn a_column_is_told_in_the_words_of_pandas() {
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(4)]));
    assert_eq!(told(&[ints]), json!({"dtype": "int64", "null_count": 1, "min": 1, "max": 4, "mean": 2.5, "std": 2.1213}));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN), None, Some(0.2)]));
    assert_eq!(told(&[floats]), json!({"dtype": "float64", "null_count": 2, "min": 0.1, "max": 0.2, "mean": 0.15, "std": 0.0707}));
    let endless: ArrayRef = Arc::new(Float64Array::from(vec![f64::INFINITY, 1.0]));
    assert_eq!(told(&[endless]), json!({"dtype": "float64", "null_count": 0, "min": 1.0, "max": null, "mean": null, "std": null}));
    let one: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
    assert_eq!(told(&[one])["std"], Value::Null);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("b"), Some("a")]));
    assert_eq!(told(&[texts]), json!({"dtype": "object", "null_count": 1, "unique_count": 2, "top_values": {"a": 2, "b": 1}}));
    let truths: ArrayRef = Arc::new(BooleanArray::from(vec![true, true, false]));
    assert_eq!(told(&[truths]), json!({"dtype": "bool", "null_count": 0, "unique_count": 2, "top_values": {"true": 2, "false": 1}}));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_704_067_200_500_000]).with_timezone("UTC"));
    assert_eq!(told(&[times]), {
        json!({"dtype": "datetime64[us, UTC]", "null_count": 0, "unique_count": 1, "top_values": {"2024-01-01T00:00:00.500Z": 1}})
    });
    let long: ArrayRef = Arc::new(StringArray::from(vec!["é".repeat(200)]));
    assert_eq!(told(&[long])["top_values"].as_object().unwrap().keys().next().unwrap().chars().count(), 101);
}

#[test]
fn many_different_values_are_estimated_and_the_frequent_ones_stay() {
    let rows = 300_000;
    let texts: Vec<String> = (0..rows).map(|at| if at % 3 == 0 { format!("often {}", at % 9) } else { format!("once {at}") }).collect();
    let arrays: Vec<ArrayRef> = texts.chunks(8_192).map(|some| Arc::new(StringArray::from_iter_values(some)) as ArrayRef).collect();
    let told = told(&arrays);
    let unique = told["unique_count"].as_f64().unwrap();
    assert!((unique - 200_003.0).abs() < 0.05 * 200_003.0, "{unique}");
    assert_eq!(told["approximate"], true);
    let top = told["top_values"].as_object().unwrap();
    for (often, count) in [("often 0", 33_334), ("often 3", 33_333), ("often 6", 33_333)] {
        assert_eq!(top[often], count, "{told}");
    }
    assert_eq!(top.len(), 5);
}

proptest! {
    #[test]
    fn numbers_are_told_as_a_plain_fold_tells_them(
        batches in proptest::collection::vec(proptest::collection::vec(proptest::option::weighted(0.9, -1e6..1e6_f64), 0..40), 1..6),
    ) {
        let arrays: Vec<ArrayRef> = batches.iter().map(|values| Arc::new(Float64Array::from(values.clone())) as ArrayRef).collect();
        let told = told(&arrays);
        let all: Vec<f64> = batches.iter().flatten().flatten().copied().collect();
        let nulls = batches.iter().flatten().filter(|value| value.is_none()).count();
        prop_assert_eq!(&told["null_count"], &json!(nulls));
        let least = all.iter().copied().min_by(f64::total_cmp);
        let greatest = all.iter().copied().max_by(f64::total_cmp);
        prop_assert_eq!((&told["min"], &told["max"]), (&json!(least), &json!(greatest)));
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let squares: f64 = all.iter().map(|value| (value - mean) * (value - mean)).sum();
        let near = |found: &Value, expected: f64| found.as_f64().is_some_and(|found| (found - expected).abs() < 1e-3);
        prop_assert!(if all.is_empty() { told["mean"].is_null() } else { near(&told["mean"], mean) }, "{}", told);
        let std = (squares / (all.len() as f64 - 1.0)).sqrt();
        prop_assert!(if all.len() < 2 { told["std"].is_null() } else { near(&told["std"], std) }, "{}", told);
    }

    #[test]
    fn values_are_told_as_a_plain_fold_tells_them(
        batches in proptest::collection::vec(proptest::collection::vec(proptest::option::weighted(0.9, "[a-c]{0,2}"), 0..40), 1..6),
    ) {
        let arrays: Vec<ArrayRef> = batches.iter().map(|values| Arc::new(StringArray::from(values.clone())) as ArrayRef).collect();
        let told = told(&arrays);
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        batches.iter().flatten().flatten().for_each(|value| *counts.entry(value).or_default() += 1);
        prop_assert_eq!(&told["unique_count"], &json!(counts.len()));
        let mut ranks: Vec<(u64, &str)> = counts.iter().map(|(value, count)| (*count, *value)).collect();
        ranks.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        let top: BTreeMap<&str, u64> = ranks.into_iter().take(5).map(|(count, value)| (value, count)).collect();
        prop_assert_eq!(&told["top_values"], &json!(top));
    }
}

#[test]
fn every_type_of_a_query_is_told() {
    for data_type in [DataType::Date32, DataType::Binary, DataType::UInt64, DataType::Int8, DataType::Float32, DataType::Utf8View] {
        let told = told(&[arrow_array::new_null_array(&data_type, 3)]);
        assert_eq!(told["null_count"], 3, "{data_type}");
    }
}
