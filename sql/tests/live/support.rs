//! Tables in memory, and answers as text.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array};
use arrow_cast::display::array_value_to_string;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use desireline_sql::SqlError;
use desireline_sql::live::{Class, Limits, LiveError, TableRequest, Tables, classify, query};
use desireline_sql::statement::{Checked, Dialect, check};
use futures::StreamExt;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

pub const STAYS: &str = "user_location_trajectory";
pub const SAME_STAYS: &str = "user_ap_trajectory";
pub const SPACES: &str = "space";
/// The logical time of every read: 2024-10-08 12:00.
pub const AS_OF: u64 = 1_728_388_800_000;

/// (device, space, start, end); times as text.
pub type Stay<'a> = (&'a str, i32, &'a str, Option<&'a str>);

#[derive(Debug)]
pub struct Memory {
    tables: BTreeMap<String, RecordBatch>,
    /// What was asked for, statement by statement.
    pub requests: Mutex<Vec<Vec<TableRequest>>>,
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

pub fn micros(text: &str) -> i64 {
    let text = if text.len() == 16 { format!("{text}:00") } else { text.to_owned() };
    text.replace(' ', "T").parse::<chrono::NaiveDateTime>().expect("a time").and_utc().timestamp_micros()
}

pub fn stays(rows: &[(String, i32, i64, Option<i64>)]) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![
        Field::new("mac_address", DataType::Utf8, false),
        Field::new("space_id", DataType::Int32, false),
        Field::new("start_time", timestamp(), false),
        Field::new("end_time", timestamp(), true),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.0))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.1))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.2))),
        Arc::new(TimestampMicrosecondArray::from(rows.iter().map(|row| row.3).collect::<Vec<_>>())),
    ];
    RecordBatch::try_new(schema, columns).expect("columns that fit")
}

/// (id, name, parent, capacity).
type Space<'a> = (i32, Option<&'a str>, Option<i32>, Option<i32>);

pub fn spaces(rows: &[Space<'_>]) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![
        Field::new("space_id", DataType::Int32, false),
        Field::new("space_name", DataType::Utf8, true),
        Field::new("parent_space_id", DataType::Int32, true),
        Field::new("capacity", DataType::Int32, true),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(StringArray::from(rows.iter().map(|row| row.1).collect::<Vec<_>>())),
        Arc::new(Int32Array::from(rows.iter().map(|row| row.2).collect::<Vec<_>>())),
        Arc::new(Int32Array::from(rows.iter().map(|row| row.3).collect::<Vec<_>>())),
    ];
    RecordBatch::try_new(schema, columns).expect("columns that fit")
}

impl Memory {
    pub fn of(rows: &[Stay<'_>]) -> Arc<Self> {
        let row = |(device, space, start, end): &Stay<'_>| (device.to_string(), *space, micros(start), end.map(micros));
        Self::new(stays(&rows.iter().map(row).collect::<Vec<_>>()))
    }

    pub fn new(stays: RecordBatch) -> Arc<Self> {
        let spaces = spaces(&[
            (1, Some("campus"), None, None),
            (10, Some("library"), Some(1), Some(200)),
            (11, Some("gym"), Some(1), Some(50)),
            (12, None, Some(1), None),
        ]);
        let tables = [(STAYS, stays.clone()), (SAME_STAYS, stays), (SPACES, spaces)];
        let tables = tables.into_iter().map(|(name, rows)| (name.to_owned(), rows)).collect();
        Arc::new(Self { tables, requests: Mutex::default() })
    }

    /// What was read for the last statement: table, and how many keys it was restricted to.
    pub fn last_read(&self) -> Vec<(String, Option<usize>)> {
        let requests = self.requests.lock().expect("no test panics while it holds this");
        let last = requests.last().expect("something was read");
        last.iter().map(|request| (request.table.clone(), request.keys.as_ref().map(|keys| keys.len()))).collect()
    }
}

#[async_trait]
impl Tables for Memory {
    fn schema(&self, table: &str) -> Option<SchemaRef> {
        self.tables.get(table).map(RecordBatch::schema)
    }

    fn names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    fn key_column(&self, table: &str) -> Option<&str> {
        [STAYS, SAME_STAYS].contains(&table).then_some("mac_address")
    }

    async fn read(&self, tables: &[TableRequest]) -> Result<(u64, Vec<Vec<RecordBatch>>), SqlError> {
        self.requests.lock().expect("no test panics while it holds this").push(tables.to_vec());
        let rows = |request: &TableRequest| -> Result<Vec<RecordBatch>, SqlError> {
            let all = &self.tables[&request.table];
            let rows = match &request.keys {
                None => all.clone(),
                Some(keys) => {
                    let keys: HashSet<&str> = keys.as_string::<i32>().iter().flatten().collect();
                    let devices = all.column(0).as_string::<i32>();
                    let wanted: BooleanArray = devices.iter().map(|device| device.map(|device| keys.contains(device))).collect();
                    filter_record_batch(all, &wanted).expect("a filter of its length")
                }
            };
            if rows.num_rows() > request.rows_max {
                return Err(LiveError::TooManyRowsRead { most: request.rows_max }.into());
            }
            // Small batches of their own, so that borders lie everywhere.
            let part = |at: usize| {
                let rows_of_part = UInt32Array::from_iter_values((at..rows.num_rows().min(at + 7)).map(|row| row as u32));
                take_record_batch(&rows, &rows_of_part).expect("rows that are there")
            };
            Ok((0..rows.num_rows()).step_by(7).map(part).collect())
        };
        Ok((AS_OF, tables.iter().map(rows).collect::<Result<_, _>>()?))
    }
}

pub fn checked(sql: &str) -> Checked {
    check(sql, Dialect::Live).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

pub async fn batch(memory: &Arc<Memory>, statement: &Checked, keys: Option<ArrayRef>, limits: &Limits) -> Result<RecordBatch, LiveError> {
    let tables: Arc<dyn Tables> = memory.clone();
    let (as_of, schema, mut stream) = query(&tables, statement, keys, limits).await.map_err(|error| match error {
        SqlError::Live(error) => error,
        other => panic!("{other}"),
    })?;
    assert_eq!(as_of, AS_OF);
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch.map_err(|error| LiveError::of(&error))?);
    }
    Ok(concat_batches(&schema, &batches).expect("batches of one schema"))
}

pub fn rows_of(batch: &RecordBatch) -> Vec<String> {
    let cell = |column: &ArrayRef, row: usize| {
        if column.is_null(row) { "-".to_owned() } else { array_value_to_string(column, row).expect("can be shown") }
    };
    (0..batch.num_rows()).map(|row| batch.columns().iter().map(|column| cell(column, row)).collect::<Vec<_>>().join(" | ")).collect()
}

/// The rows of an answer, cells joined by ` | `.
pub async fn answer(memory: &Arc<Memory>, sql: &str, keys: Option<ArrayRef>) -> Vec<String> {
    match batch(memory, &checked(sql), keys, &Limits::default()).await {
        Ok(batch) => rows_of(&batch),
        Err(error) => panic!("{sql}: {error}"),
    }
}

pub async fn failure(memory: &Arc<Memory>, sql: &str, keys: Option<ArrayRef>) -> LiveError {
    match batch(memory, &checked(sql), keys, &Limits::default()).await {
        Ok(batch) => panic!("{sql}: {:?}", rows_of(&batch)),
        Err(error) => error,
    }
}

pub async fn class(memory: &Arc<Memory>, sql: &str) -> Class {
    let tables: Arc<dyn Tables> = memory.clone();
    classify(&tables, &checked(sql)).await.expect("it can be classified").0
}
