//! The values of an index, as a database reads them.

use super::SqlError;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use chrono::DateTime;
use std::fmt::Write;

/// One value.
pub enum Key<'a> {
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// A date or a time; digits, signs and spaces.
    Moment(String),
}

/// Calls `visit` with every value that is not null.
pub fn for_each(keys: &ArrayRef, mut visit: impl FnMut(Key<'_>)) -> Result<(), SqlError> {
    let valid = |at: &usize| keys.is_valid(*at);
    macro_rules! ints {
        ($type:ty) => {{
            let array = keys.as_primitive::<$type>();
            (0..array.len()).filter(valid).for_each(|at| visit(Key::Int(array.value(at).into())));
        }};
    }
    let rows = 0..keys.len();
    match keys.data_type() {
        DataType::Boolean => rows.filter(valid).for_each(|at| visit(Key::Bool(keys.as_boolean().value(at)))),
        DataType::Int8 => ints!(Int8Type),
        DataType::Int16 => ints!(Int16Type),
        DataType::Int32 => ints!(Int32Type),
        DataType::Int64 => ints!(Int64Type),
        DataType::UInt8 => ints!(UInt8Type),
        DataType::UInt16 => ints!(UInt16Type),
        DataType::UInt32 => ints!(UInt32Type),
        DataType::UInt64 => ints!(UInt64Type),
        DataType::Float32 => rows.filter(valid).for_each(|at| visit(Key::Float(keys.as_primitive::<Float32Type>().value(at).into()))),
        DataType::Float64 => rows.filter(valid).for_each(|at| visit(Key::Float(keys.as_primitive::<Float64Type>().value(at)))),
        DataType::Utf8 => rows.filter(valid).for_each(|at| visit(Key::Text(keys.as_string::<i32>().value(at)))),
        DataType::LargeUtf8 => rows.filter(valid).for_each(|at| visit(Key::Text(keys.as_string::<i64>().value(at)))),
        DataType::Utf8View => rows.filter(valid).for_each(|at| visit(Key::Text(keys.as_string_view().value(at)))),
        DataType::Binary => rows.filter(valid).for_each(|at| visit(Key::Bytes(keys.as_binary::<i32>().value(at)))),
        DataType::Date32 => rows.filter(valid).for_each(|at| visit(Key::Moment(date(keys.as_primitive::<Date32Type>().value(at))))),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let zone = if zone.is_some() { "+00" } else { "" };
            let array = keys.as_primitive::<TimestampMicrosecondType>();
            rows.filter(valid).for_each(|at| visit(Key::Moment(moment(array.value(at)) + zone)));
        }
        other => return Err(SqlError::Unsupported { column: "the index column".to_owned(), type_name: other.to_string() }),
    }
    Ok(())
}

fn date(days: i32) -> String {
    DateTime::from_timestamp(i64::from(days) * 86_400, 0).unwrap_or_default().format("%Y-%m-%d").to_string()
}

fn moment(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros).unwrap_or_default().format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

/// A float as the shortest text that means it; one that is a whole number as a whole number.
fn float(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        _ if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        _ if value.fract() == 0.0 && value.abs() < 1e15 => format!("{value:.0}"),
        _ => format!("{value:e}"),
    }
}

fn hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn written(result: std::fmt::Result) {
    result.expect("a text takes what is written to it");
}

/// PostgreSQL's text form of an array.
pub fn postgres_array(keys: &ArrayRef) -> Result<String, SqlError> {
    let mut text = String::with_capacity(2 + 20 * keys.len());
    text.push('{');
    for_each(keys, |key| {
        if text.len() > 1 {
            text.push(',');
        }
        match key {
            Key::Bool(value) => text.push(if value { 't' } else { 'f' }),
            Key::Int(value) => written(write!(text, "{value}")),
            Key::Float(value) => text.push_str(&float(value)),
            Key::Moment(value) => written(write!(text, "\"{value}\"")),
            Key::Bytes(bytes) => {
                text.push_str("\"\\\\x");
                hex(&mut text, bytes);
                text.push('"');
            }
            Key::Text(value) => {
                text.push('"');
                for part in value.split_inclusive(['"', '\\']) {
                    let (plain, last) = part.split_at(part.len() - usize::from(part.ends_with(['"', '\\'])));
                    text.push_str(plain);
                    if !last.is_empty() {
                        text.push('\\');
                        text.push_str(last);
                    }
                }
                text.push('"');
            }
        }
    })?;
    text.push('}');
    Ok(text)
}

/// The element type that PostgreSQL takes for such values where nothing else says what they are.
pub fn postgres_type(keys: &ArrayRef) -> &'static str {
    match keys.data_type() {
        DataType::Boolean => "bool",
        data_type if data_type.is_integer() => "int8",
        data_type if data_type.is_floating() => "float8",
        DataType::Binary => "bytea",
        DataType::Date32 => "date",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        DataType::Timestamp(_, None) => "timestamp",
        _ => "text",
    }
}

/// A list of constants for MySQL and MariaDB. Texts are hexadecimal; a comparison with a column is by the column's collation.
pub fn mysql_list(keys: &ArrayRef) -> Result<String, SqlError> {
    let mut text = String::with_capacity(48 * keys.len());
    for_each(keys, |key| {
        if !text.is_empty() {
            text.push(',');
        }
        match key {
            Key::Bool(value) => text.push(if value { '1' } else { '0' }),
            Key::Int(value) => written(write!(text, "{value}")),
            Key::Float(value) if value.is_finite() => text.push_str(&float(value)),
            Key::Float(_) => text.push_str("NULL"),
            // The zone is that of the session.
            Key::Moment(value) => written(write!(text, "'{}'", value.trim_end_matches("+00"))),
            Key::Bytes(bytes) => {
                text.push_str("X'");
                hex(&mut text, bytes);
                text.push('\'');
            }
            Key::Text(value) => {
                text.push_str("_utf8mb4 X'");
                hex(&mut text, value.as_bytes());
                text.push('\'');
            }
        }
    })?;
    if text.is_empty() {
        text.push_str("SELECT NULL FROM DUAL WHERE FALSE");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    #[test]
    fn texts_cannot_leave_their_place() {
        let keys: ArrayRef = Arc::new(StringArray::from(vec![Some("a'b\"c\\"), None, Some("{{ x }}; --"), Some(""), Some("é")]));
        assert_eq!(postgres_array(&keys).unwrap(), r#"{"a'b\"c\\","{{ x }}; --","","é"}"#);
        let list = "_utf8mb4 X'61276222635c',_utf8mb4 X'7b7b2078207d7d3b202d2d',_utf8mb4 X'',_utf8mb4 X'c3a9'";
        assert_eq!(mysql_list(&keys).unwrap(), list);
    }

    #[test]
    fn every_type_is_written_so_that_it_is_read_again() {
        let keys: [(ArrayRef, &str, &str, &str); 7] = [
            (Arc::new(Int64Array::from(vec![i64::MIN, 7])), "{-9223372036854775808,7}", "-9223372036854775808,7", "int8"),
            (Arc::new(Float64Array::from(vec![5.0, 0.1, f64::NAN])), "{5,1e-1,NaN}", "5,1e-1,NULL", "float8"),
            (Arc::new(BooleanArray::from(vec![true, false])), "{t,f}", "1,0", "bool"),
            (Arc::new(Date32Array::from(vec![-1, 19_723])), r#"{"1969-12-31","2024-01-01"}"#, "'1969-12-31','2024-01-01'", "date"),
            (
                Arc::new(TimestampMicrosecondArray::from(vec![1_704_067_200_000_001]).with_timezone("UTC")),
                r#"{"2024-01-01 00:00:00.000001+00"}"#,
                "'2024-01-01 00:00:00.000001'",
                "timestamptz",
            ),
            (Arc::new(BinaryArray::from(vec![&[0_u8, 255][..]])), r#"{"\\x00ff"}"#, "X'00ff'", "bytea"),
            (Arc::new(Int64Array::from(Vec::<i64>::new())), "{}", "SELECT NULL FROM DUAL WHERE FALSE", "int8"),
        ];
        for (keys, postgres, mysql, type_name) in keys {
            assert_eq!(postgres_array(&keys).unwrap(), postgres);
            assert_eq!(mysql_list(&keys).unwrap(), mysql);
            assert_eq!(postgres_type(&keys), type_name);
        }
    }
}
