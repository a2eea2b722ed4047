//! Functions that mean here what they mean in PostgreSQL: statements are rewritten to call them (`rewrite.rs`).

use super::time::{Length, Part};
use arrow_array::cast::AsArray;
use arrow_array::timezone::Tz;
use arrow_array::types::{
    DurationMicrosecondType, Float32Type, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, TimestampMicrosecondArray};
use arrow_cast::cast;
use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use chrono::{DateTime, Offset, TimeZone};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// What names of functions begin with that only the rewriting of statements calls.
pub const PREFIX: &str = "desireline_";
pub const EXTRACT: &str = "desireline_extract";
pub const AT_TIME_ZONE: &str = "desireline_at_time_zone";
pub const ROUNDED: &str = "desireline_rounded";
const LENGTH: &str = "desireline_length";

/// Functions whose meaning here differs from PostgreSQL's, or that tell of the server.
pub const NOT_OFFERED: [&str; 4] = ["to_char", "date_format", "to_local_time", "version"];

const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

pub fn all() -> Vec<Arc<ScalarUDF>> {
    vec![function(EXTRACT, 2, Kind::Extract), function(AT_TIME_ZONE, 2, Kind::AtTimeZone), function(ROUNDED, 1, Kind::Rounded)]
}

/// The microseconds of a length of time, a month being 30 days.
pub fn length() -> Arc<ScalarUDF> {
    function(LENGTH, 1, Kind::Length)
}

fn function(name: &'static str, arguments: usize, kind: Kind) -> Arc<ScalarUDF> {
    let signature = Signature::any(arguments, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Function { name, signature, kind }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    name: &'static str,
    signature: Signature,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Kind {
    Extract,
    AtTimeZone,
    Rounded,
    Length,
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match self.kind {
            Kind::Extract => extractable(&types[1]),
            Kind::AtTimeZone => zoned_type(&types[0]),
            Kind::Rounded => Ok(types[0].clone()),
            Kind::Length => Ok(DataType::Int64),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let value = |at: usize| args.args[at].to_array(args.number_rows);
        let array = match self.kind {
            Kind::Extract => extract(&word(&args.args[0])?, &value(1)?)?,
            Kind::AtTimeZone => at_time_zone(&value(0)?, &word(&args.args[1])?)?,
            Kind::Rounded => rounded(value(0)?),
            Kind::Length => length_micros(&value(0)?)?,
        };
        // One value for all rows stays one value.
        let all_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        if all_scalar && !array.is_empty() {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

fn word(value: &ColumnarValue) -> Result<String> {
    match value {
        ColumnarValue::Scalar(ScalarValue::Utf8(Some(word)) | ScalarValue::Utf8View(Some(word)) | ScalarValue::LargeUtf8(Some(word))) => {
            Ok(word.clone())
        }
        _ => exec_err!("a constant text is needed here"),
    }
}

pub fn is_length(kind: &DataType) -> bool {
    matches!(kind, DataType::Duration(_) | DataType::Interval(_))
}

fn extractable(kind: &DataType) -> Result<DataType> {
    match kind {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) | DataType::Null => {}
        kind if is_length(kind) => {}
        other => return plan_err!("EXTRACT needs a date, a time or an interval, not {other}"),
    }
    Ok(DataType::Float64)
}

/// A part of each value.
fn extract(word: &str, values: &ArrayRef) -> Result<ArrayRef> {
    let part = Part::parse(word).ok_or_else(|| DataFusionError::Plan(format!("EXTRACT knows no `{word}`")))?;
    if is_length(values.data_type()) && !part.is_of_lengths() {
        return exec_err!("an interval has no `{word}`");
    }
    let parts: Float64Array = match values.data_type() {
        DataType::Null => Float64Array::new_null(values.len()),
        kind if is_length(kind) => lengths(values)?.into_iter().map(|length| part.of_length(length?)).collect(),
        DataType::Time32(_) | DataType::Time64(_) => {
            let values = cast(&cast(values, &DataType::Time64(TimeUnit::Microsecond))?, &DataType::Int64)?;
            values.as_primitive::<Int64Type>().iter().map(|micros| part.of_time(micros?)).collect()
        }
        _ => {
            let values = micros_of(values)?;
            values.as_primitive::<TimestampMicrosecondType>().iter().map(|micros| part.of_time(micros?)).collect()
        }
    };
    Ok(Arc::new(parts))
}

fn lengths(values: &ArrayRef) -> Result<Vec<Option<Length>>> {
    if let DataType::Duration(_) = values.data_type() {
        let values = cast(values, &DataType::Duration(TimeUnit::Microsecond))?;
        return Ok(values.as_primitive::<DurationMicrosecondType>().iter().map(|micros| micros.map(Length::between)).collect());
    }
    let values = cast(values, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let length = |nano: IntervalMonthDayNano| Length { months: nano.months, days: i64::from(nano.days), micros: nano.nanoseconds / 1_000 };
    Ok(values.as_primitive::<IntervalMonthDayNanoType>().iter().map(|nano| nano.map(length)).collect())
}

fn length_micros(values: &ArrayRef) -> Result<ArrayRef> {
    let micros: Int64Array = lengths(values)?.into_iter().map(|length| length.and_then(Length::all_micros)).collect();
    Ok(Arc::new(micros))
}

/// Times as microseconds, in UTC, whatever their zone.
fn micros_of(values: &ArrayRef) -> Result<ArrayRef> {
    if let DataType::Timestamp(_, Some(zone)) = values.data_type() {
        let zoned = cast(values, &DataType::Timestamp(TimeUnit::Microsecond, Some(zone.clone())))?;
        return Ok(Arc::new(zoned.as_primitive::<TimestampMicrosecondType>().clone().with_timezone_opt(None::<Arc<str>>)));
    }
    Ok(cast(values, &MICROS)?)
}

/// Without a zone it becomes one with, and the other way round.
fn zoned_type(kind: &DataType) -> Result<DataType> {
    match kind {
        DataType::Timestamp(_, None) | DataType::Null => Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))),
        DataType::Timestamp(_, Some(_)) | DataType::Date32 | DataType::Date64 => Ok(MICROS),
        other => plan_err!("AT TIME ZONE needs a timestamp, not {other}"),
    }
}

fn at_time_zone(values: &ArrayRef, zone: &str) -> Result<ArrayRef> {
    let unknown = |_| DataFusionError::Execution(format!("there is no time zone `{zone}`"));
    let name = if zone.eq_ignore_ascii_case("utc") || zone.eq_ignore_ascii_case("gmt") { "+00:00" } else { zone };
    let tz: Tz = name.parse().map_err(unknown)?;
    let has_no_zone = matches!(values.data_type(), DataType::Timestamp(_, None) | DataType::Null);
    let values = micros_of(values)?;
    let values = values.as_primitive::<TimestampMicrosecondType>();
    let moved: TimestampMicrosecondArray = if has_no_zone {
        values.iter().map(|local| instant(local?, &tz)).collect()
    } else {
        values
            .iter()
            .map(|instant| Some(DateTime::from_timestamp_micros(instant?)?.with_timezone(&tz).naive_local().and_utc().timestamp_micros()))
            .collect()
    };
    Ok(if has_no_zone { Arc::new(moved.with_timezone("+00:00")) } else { Arc::new(moved) })
}

/// When a clock in the zone shows this time. A time that is there twice is taken as the later one, one that is not there as if the clock
/// had not been put forward.
fn instant(local: i64, tz: &Tz) -> Option<i64> {
    let naive = DateTime::from_timestamp_micros(local)?.naive_utc();
    match tz.from_local_datetime(&naive).latest() {
        Some(found) => Some(found.timestamp_micros()),
        None => {
            let before = tz.offset_from_utc_datetime(&(naive - chrono::Duration::days(1))).fix();
            Some(local - i64::from(before.local_minus_utc()) * 1_000_000)
        }
    }
}

/// Whole numbers next to floats, halves away from zero: what a cast to an integer gives. Other types stay as they are.
fn rounded(values: ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::Float64 => Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round)),
        DataType::Float32 => Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(f32::round)),
        _ => values,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        text.parse::<chrono::NaiveDateTime>().expect("a time").and_utc().timestamp_micros()
    }

    fn moved(values: ArrayRef, zone: &str) -> i64 {
        at_time_zone(&values, zone).expect("moves").as_primitive::<TimestampMicrosecondType>().value(0)
    }

    #[test]
    fn zones_are_put_on_and_taken_off() {
        let local = |text| Arc::new(TimestampMicrosecondArray::from(vec![micros(text)])) as ArrayRef;
        let zoned = |text| Arc::new(TimestampMicrosecondArray::from(vec![micros(text)]).with_timezone("+00:00")) as ArrayRef;
        assert_eq!(moved(local("2024-07-01T12:00:00"), "UTC"), micros("2024-07-01T12:00:00"));
        assert_eq!(moved(local("2024-07-01T12:00:00"), "America/Los_Angeles"), micros("2024-07-01T19:00:00"));
        assert_eq!(moved(zoned("2024-07-01T19:00:00"), "America/Los_Angeles"), micros("2024-07-01T12:00:00"));
        assert_eq!(moved(local("2024-11-03T01:30:00"), "America/Los_Angeles"), micros("2024-11-03T09:30:00"), "twice");
        assert_eq!(moved(local("2024-03-10T02:30:00"), "America/Los_Angeles"), micros("2024-03-10T10:30:00"), "not at all");
        assert!(at_time_zone(&local("2024-07-01T12:00:00"), "Mars/Olympus").is_err());
    }
}
