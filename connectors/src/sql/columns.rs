//! Rows gathered into Arrow batches.

use super::{BATCH_BYTES, BATCH_ROWS, QueryLimits, SqlError};
use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder, UInt64Builder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::collections::HashSet;
use std::sync::Arc;

/// The zone of times that have one.
const UTC: &str = "UTC";

/// What a column becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Bool,
    Int,
    UInt,
    Float,
    Text,
    Bytes,
    Date,
    Time,
    Timestamp,
    TimestampUtc,
}

impl Target {
    fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::UInt => DataType::UInt64,
            Self::Float => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampUtc => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        }
    }

    fn builder(self) -> Column {
        match self {
            Self::Bool => Column::Bool(BooleanBuilder::with_capacity(BATCH_ROWS)),
            Self::Int => Column::Int(Int64Builder::with_capacity(BATCH_ROWS)),
            Self::UInt => Column::UInt(UInt64Builder::with_capacity(BATCH_ROWS)),
            Self::Float => Column::Float(Float64Builder::with_capacity(BATCH_ROWS)),
            Self::Text => Column::Text(StringBuilder::with_capacity(BATCH_ROWS, 16 * BATCH_ROWS)),
            Self::Bytes => Column::Bytes(BinaryBuilder::with_capacity(BATCH_ROWS, 16 * BATCH_ROWS)),
            Self::Date => Column::Date(Date32Builder::with_capacity(BATCH_ROWS)),
            Self::Time => Column::Time(Time64MicrosecondBuilder::with_capacity(BATCH_ROWS)),
            Self::Timestamp => Column::Timestamp(TimestampMicrosecondBuilder::with_capacity(BATCH_ROWS)),
            Self::TimestampUtc => Column::Timestamp(TimestampMicrosecondBuilder::with_capacity(BATCH_ROWS).with_timezone(UTC)),
        }
    }
}

/// The values of one column of the batch that is being gathered.
pub enum Column {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    UInt(UInt64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl Column {
    pub fn push_null(&mut self) {
        match self {
            Self::Bool(builder) => builder.append_null(),
            Self::Int(builder) => builder.append_null(),
            Self::UInt(builder) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Bytes(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
        }
    }

    /// A whole number, for any column that counts something.
    pub fn push_int(&mut self, value: i64) {
        match self {
            Self::Int(builder) => builder.append_value(value),
            Self::Time(builder) => builder.append_value(value),
            Self::Timestamp(builder) => builder.append_value(value),
            Self::Date(builder) => builder.append_option(i32::try_from(value).ok()),
            Self::UInt(builder) => builder.append_option(u64::try_from(value).ok()),
            Self::Bool(builder) => builder.append_value(value != 0),
            #[expect(clippy::cast_precision_loss, reason = "a column of floats holds what floats hold")]
            Self::Float(builder) => builder.append_value(value as f64),
            Self::Text(_) | Self::Bytes(_) => self.push_null(),
        }
    }

    pub fn push_float(&mut self, value: f64) {
        match self {
            Self::Float(builder) => builder.append_value(value),
            _ => self.push_null(),
        }
    }

    pub fn push_text(&mut self, value: &str) {
        match self {
            Self::Text(builder) => builder.append_value(value),
            _ => self.push_null(),
        }
    }

    pub fn push_bytes(&mut self, value: &[u8]) {
        match self {
            Self::Bytes(builder) => builder.append_value(value),
            _ => self.push_null(),
        }
    }

    pub fn push_unsigned(&mut self, value: u64) {
        match self {
            Self::UInt(builder) => builder.append_value(value),
            _ => match i64::try_from(value) {
                Ok(value) => self.push_int(value),
                Err(_) => self.push_null(),
            },
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Int(builder) => Arc::new(builder.finish()),
            Self::UInt(builder) => Arc::new(builder.finish()),
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Bytes(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
        }
    }
}

/// The columns of a query and the batch that is being gathered.
pub struct Gatherer {
    pub columns: Vec<Column>,
    schema: SchemaRef,
    rows: usize,
    bytes: usize,
    rows_all: u64,
    bytes_all: u64,
    rows_max: u64,
    bytes_max: u64,
}

impl Gatherer {
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Target)>, limits: &QueryLimits) -> Self {
        let (names, targets): (Vec<&str>, Vec<Target>) = columns.into_iter().unzip();
        let fields = distinct(&names).into_iter().zip(&targets).map(|(name, target)| Field::new(name, target.data_type(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let columns = targets.into_iter().map(Target::builder).collect();
        let (rows_max, bytes_max) = (limits.rows_max, limits.bytes_max);
        Self { columns, schema, rows: 0, bytes: 0, rows_all: 0, bytes_all: 0, rows_max, bytes_max }
    }

    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// A row of so many bytes is in the columns. Gives the batch, when it is full.
    pub fn end_row(&mut self, bytes: usize) -> Result<Option<RecordBatch>, SqlError> {
        self.rows += 1;
        self.bytes += bytes;
        self.rows_all += 1;
        self.bytes_all += bytes as u64;
        if self.rows_all > self.rows_max {
            return Err(SqlError::TooLarge(format!("the query gives more than {} rows, which is the limit", self.rows_max)));
        }
        if self.bytes_all > self.bytes_max {
            return Err(SqlError::TooLarge(format!("the query gives more than {} bytes, which is the limit", self.bytes_max)));
        }
        if self.rows < BATCH_ROWS && self.bytes < BATCH_BYTES { Ok(None) } else { self.take() }
    }

    /// What has been gathered; nothing, where nothing has.
    pub fn take(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        if self.rows == 0 {
            return Ok(None);
        }
        let arrays = self.columns.iter_mut().map(Column::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options);
        batch.map(Some).map_err(|error| SqlError::Data(error.to_string()))
    }
}

/// The names, with a number behind those that have been there.
fn distinct(names: &[&str]) -> Vec<String> {
    let mut taken: HashSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut seen = HashSet::new();
    let mut name_of = |name: &str| {
        if seen.insert(name.to_owned()) {
            return name.to_owned();
        }
        let free = (2..).map(|number| format!("{name}_{number}")).find(|free| !taken.contains(free));
        let free = free.expect("numbers do not end before columns do");
        taken.insert(free.clone());
        free
    };
    names.iter().map(|name| name_of(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert_eq!(distinct(&["a", "b", "a", "a_2", "a"]), ["a", "b", "a_3", "a_2", "a_4"]);
        assert_eq!(distinct(&["?column?", "?column?"]), ["?column?", "?column?_2"]);
    }

    #[test]
    fn a_batch_is_closed_by_rows_or_bytes_and_limits_hold() {
        let limits = QueryLimits { rows_max: 20_000, bytes_max: 1 << 40, ..QueryLimits::default() };
        let mut gatherer = Gatherer::new([("a", Target::Int)], &limits);
        let mut push = |bytes| {
            gatherer.columns[0].push_int(1);
            gatherer.end_row(bytes)
        };
        assert_eq!(push(BATCH_BYTES).unwrap().map(|batch| batch.num_rows()), Some(1));
        let full: Vec<usize> = (0..19_999).filter_map(|_| push(8).unwrap()).map(|batch| batch.num_rows()).collect();
        assert_eq!(full, [BATCH_ROWS, BATCH_ROWS]);
        assert_eq!(push(8).unwrap_err().code(), "result_too_large");
        let limits = QueryLimits { bytes_max: 10, ..QueryLimits::default() };
        let mut gatherer = Gatherer::new([("a", Target::Text)], &limits);
        gatherer.columns[0].push_text("x");
        assert_eq!(gatherer.end_row(10).unwrap(), None);
        assert_eq!(gatherer.end_row(1).unwrap_err().code(), "result_too_large");
    }
}
