//! Single values of tables: as keys that join, as numbers that are learned from, and as JSON that is shown.
//!
//! Tables come from databases of several kinds, which call the same thing an integer here and a decimal there. So keys are compared by what
//! they mean: whole numbers of every type are the same key, and so are times of every unit. A number and a text never are.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use chrono::{DateTime, SecondsFormat};
use desireline_records::Micros;
use serde_json::{Map, Number, Value as Json};

/// What joins rows of one table with those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key<'a> {
    Bool(bool),
    Int(i128),
    /// The bits of a number that is not whole.
    Float(u64),
    Time(Micros),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// Whole numbers up to here are exact as floats.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
const DAY_MICROS: Micros = 86_400_000_000;

/// Any value, by its meaning.
enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Time(Micros),
    Date(Micros),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Of a type that no table of ours has.
    Other,
}

fn cell(array: &dyn Array, row: usize) -> Cell<'_> {
    macro_rules! int {
        ($type:ty) => {
            Cell::Int(array.as_primitive::<$type>().value(row).into())
        };
    }
    macro_rules! time {
        ($type:ty, $micros:expr) => {{
            let micros: fn(i64) -> i64 = $micros;
            Cell::Time(micros(array.as_primitive::<$type>().value(row)))
        }};
    }
    if array.is_null(row) {
        return Cell::Null;
    }
    match array.data_type() {
        DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
        DataType::Int8 => int!(Int8Type),
        DataType::Int16 => int!(Int16Type),
        DataType::Int32 => int!(Int32Type),
        DataType::Int64 => int!(Int64Type),
        DataType::UInt8 => int!(UInt8Type),
        DataType::UInt16 => int!(UInt16Type),
        DataType::UInt32 => int!(UInt32Type),
        DataType::UInt64 => int!(UInt64Type),
        DataType::Float32 => Cell::Float(array.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => Cell::Float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(_, scale) => decimal(array.as_primitive::<Decimal128Type>().value(row), *scale),
        DataType::Timestamp(TimeUnit::Second, _) => time!(TimestampSecondType, |s| s.saturating_mul(1_000_000)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => time!(TimestampMillisecondType, |ms| ms.saturating_mul(1_000)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => time!(TimestampMicrosecondType, |us| us),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => time!(TimestampNanosecondType, |ns| ns.div_euclid(1_000)),
        DataType::Date32 => Cell::Date(i64::from(array.as_primitive::<Date32Type>().value(row)) * DAY_MICROS),
        DataType::Date64 => Cell::Date(array.as_primitive::<Date64Type>().value(row).saturating_mul(1_000)),
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Cell::Text(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Cell::Text(array.as_string_view().value(row)),
        DataType::Binary => Cell::Bytes(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => Cell::Bytes(array.as_binary::<i64>().value(row)),
        DataType::Null => Cell::Null,
        _ => Cell::Other,
    }
}

/// Whole decimals are integers, others the nearest float.
fn decimal(value: i128, scale: i8) -> Cell<'static> {
    let power = 10i128.checked_pow(scale.unsigned_abs().into()).unwrap_or(i128::MAX);
    if scale <= 0 {
        return value.checked_mul(power).map_or(Cell::Float(value as f64 * power as f64), Cell::Int);
    }
    if value % power == 0 { Cell::Int(value / power) } else { Cell::Float(value as f64 / power as f64) }
}

/// The key in a row; nothing where there is none.
pub fn key(array: &dyn Array, row: usize) -> Option<Key<'_>> {
    match cell(array, row) {
        Cell::Null | Cell::Other => None,
        Cell::Bool(value) => Some(Key::Bool(value)),
        Cell::Int(value) => Some(Key::Int(value)),
        Cell::Float(value) if value.is_nan() => None,
        Cell::Float(value) if value.fract() == 0.0 && value.abs() <= EXACT_MAX => Some(Key::Int(value as i128)),
        Cell::Float(value) => Some(Key::Float(value.to_bits())),
        Cell::Time(micros) | Cell::Date(micros) => Some(Key::Time(micros)),
        Cell::Text(text) => Some(Key::Text(text)),
        Cell::Bytes(bytes) => Some(Key::Bytes(bytes)),
    }
}

/// Whether a column of this type can be learned from.
pub fn is_numeric(data_type: &DataType) -> bool {
    use DataType as T;
    let is_time = matches!(data_type, T::Timestamp(..) | T::Date32 | T::Date64);
    is_time || data_type.is_integer() || matches!(data_type, T::Boolean | T::Float32 | T::Float64 | T::Decimal128(..))
}

/// The value as a number: times in seconds since 1970, truth as 1. Nothing where there is no number.
pub fn number(array: &dyn Array, row: usize) -> Option<f64> {
    let number = match cell(array, row) {
        Cell::Bool(value) => f64::from(u8::from(value)),
        Cell::Int(value) => value as f64,
        Cell::Float(value) => value,
        Cell::Time(micros) | Cell::Date(micros) => micros as f64 / 1e6,
        Cell::Null | Cell::Text(_) | Cell::Bytes(_) | Cell::Other => return None,
    };
    number.is_finite().then_some(number)
}

/// The values of a list of floats.
pub fn numbers(array: &dyn Array, row: usize) -> Option<Vec<f64>> {
    let list = array.as_list_opt::<i32>()?.value(row);
    list.as_primitive_opt::<Float64Type>().map(|numbers| numbers.values().to_vec())
}

/// The value as it is shown. Numbers that JSON does not know, and what no table of ours has, are `null`.
pub fn json(array: &dyn Array, row: usize) -> Json {
    match cell(array, row) {
        Cell::Null | Cell::Other => Json::Null,
        Cell::Bool(value) => Json::Bool(value),
        Cell::Int(value) => {
            let number = i64::try_from(value).map(Number::from).or_else(|_| u64::try_from(value).map(Number::from));
            number.map_or_else(|_| Json::String(value.to_string()), Json::Number)
        }
        Cell::Float(value) => Number::from_f64(value).map_or(Json::Null, Json::Number),
        Cell::Time(micros) => {
            let time = DateTime::from_timestamp_micros(micros);
            time.map_or(Json::Null, |time| Json::String(time.to_rfc3339_opts(SecondsFormat::AutoSi, true)))
        }
        Cell::Date(micros) => {
            let time = DateTime::from_timestamp_micros(micros);
            time.map_or(Json::Null, |time| Json::String(time.format("%Y-%m-%d").to_string()))
        }
        Cell::Text(text) => Json::String(text.to_owned()),
        Cell::Bytes(bytes) => Json::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}

/// A row with the names of its columns.
pub fn row_json(rows: &RecordBatch, row: usize) -> Map<String, Json> {
    let schema = rows.schema();
    let named = schema.fields().iter().zip(rows.columns());
    named.map(|(field, column)| (field.name().clone(), json(column, row))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
        TimestampSecondArray, UInt64Array,
    };
    use serde_json::json;
    use std::sync::Arc;

    fn decimals(values: Vec<i128>, scale: i8) -> Decimal128Array {
        Decimal128Array::from(values).with_precision_and_scale(20, scale).expect("a decimal type")
    }

    #[test]
    fn keys_of_different_types_join_when_they_mean_the_same() {
        let sevens: [ArrayRef; 5] = [
            Arc::new(Int32Array::from(vec![7])),
            Arc::new(Int64Array::from(vec![7])),
            Arc::new(UInt64Array::from(vec![7])),
            Arc::new(Float64Array::from(vec![7.0])),
            Arc::new(decimals(vec![700], 2)),
        ];
        for array in &sevens {
            assert_eq!(key(array, 0), Some(Key::Int(7)), "{:?}", array.data_type());
        }
        assert_eq!(key(&StringArray::from(vec!["7"]), 0), Some(Key::Text("7")));
        let (seconds, micros) = (TimestampSecondArray::from(vec![60]), TimestampMicrosecondArray::from(vec![60_000_000]));
        assert_eq!(key(&seconds, 0), key(&micros, 0));
        assert_eq!(key(&Float64Array::from(vec![f64::NAN]), 0), None);
        assert_eq!(key(&Float64Array::from(vec![None::<f64>]), 0), None);
        assert_ne!(key(&Float64Array::from(vec![7.5]), 0), key(&Float64Array::from(vec![7.25]), 0));
    }

    #[test]
    fn numbers_are_learned_from_and_texts_are_not() {
        assert_eq!(number(&BooleanArray::from(vec![true]), 0), Some(1.0));
        assert_eq!(number(&TimestampMicrosecondArray::from(vec![1_500_000]), 0), Some(1.5));
        assert_eq!(number(&Date32Array::from(vec![1]), 0), Some(86_400.0));
        assert_eq!(number(&decimals(vec![125], 2), 0), Some(1.25));
        assert_eq!(number(&Float64Array::from(vec![f64::INFINITY]), 0), None);
        assert_eq!(number(&StringArray::from(vec!["1"]), 0), None);
        assert!(is_numeric(&DataType::Date32) && is_numeric(&DataType::UInt8) && !is_numeric(&DataType::Utf8));
    }

    #[test]
    fn what_is_shown_is_always_json() {
        assert_eq!(json(&Float64Array::from(vec![f64::NAN]), 0), Json::Null);
        assert_eq!(json(&UInt64Array::from(vec![u64::MAX]), 0), json!(u64::MAX));
        assert_eq!(json(&decimals(vec![i128::from(u64::MAX) * 10], 0), 0), json!("184467440737095516150"));
        assert_eq!(json(&Date32Array::from(vec![19_997]), 0), json!("2024-10-01"));
        assert_eq!(json(&TimestampSecondArray::from(vec![0]), 0), json!("1970-01-01T00:00:00Z"));
        assert_eq!(json(&StringArray::from(vec![None::<&str>]), 0), Json::Null);
    }
}
