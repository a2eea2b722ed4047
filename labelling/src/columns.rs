//! Columns of Arrow as the types that Python's code meets.
//!
//! | Arrow | Python |
//! |---|---|
//! | null, of any type | `None` |
//! | integers of any width | `int` |
//! | floats of any width, decimals | `float`, the nearest |
//! | booleans | `bool` |
//! | texts of any kind, dictionaries of them | `str` |
//! | timestamps without a time zone | `datetime`, naive, cut to microseconds |
//! | timestamps with a time zone | `datetime` of UTC |
//! | dates | `date` |
//!
//! A column of another type, and a moment outside of the years 1 to 9999, is a fault of the rows that read it.

use crate::vector::Slice;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit};
use std::borrow::Cow;

/// Microseconds of 0001-01-01 and of 10000-01-01.
const MICROS_RANGE: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;
/// Days of the same.
pub const DAYS_RANGE: std::ops::Range<i64> = -719_162..2_932_897;

#[derive(Clone, Debug)]
pub enum Data<'a> {
    /// Nulls only.
    None,
    Bool(Vec<bool>),
    Int(Slice<'a, i64>),
    Unsigned(&'a [u64]),
    Float(Slice<'a, f64>),
    Str(Vec<Cow<'a, str>>),
    Datetime {
        micros: Slice<'a, i64>,
        aware: bool,
    },
    Date(Slice<'a, i64>),
    /// The type as Arrow names it.
    Unsupported(String),
}

#[derive(Clone, Debug)]
pub struct Column<'a> {
    pub data: Data<'a>,
    /// A dictionary's are those of its keys and of its values.
    nulls: Option<NullBuffer>,
}

impl<'a> Column<'a> {
    pub fn of(array: &'a ArrayRef) -> Self {
        Self { data: data(array), nulls: array.logical_nulls().filter(|nulls| nulls.null_count() > 0) }
    }

    pub fn has_nulls(&self) -> bool {
        self.nulls.is_some()
    }

    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// A moment or a date that Python has no value for.
    pub fn out_of_range(&self, row: usize) -> bool {
        match &self.data {
            Data::Datetime { micros, .. } => !MICROS_RANGE.contains(&micros[row]),
            Data::Date(days) => !DAYS_RANGE.contains(&days[row]),
            _ => false,
        }
    }

    pub fn may_be_out_of_range(&self) -> bool {
        matches!(self.data, Data::Datetime { .. } | Data::Date(_))
    }
}

fn data(array: &ArrayRef) -> Data<'_> {
    macro_rules! integers {
        ($kind:ty) => {
            Data::Int(array.as_primitive::<$kind>().values().iter().map(|&value| i64::from(value)).collect::<Vec<_>>().into())
        };
    }
    match array.data_type() {
        DataType::Null => Data::None,
        DataType::Boolean => {
            let values = array.as_boolean().values();
            Data::Bool(values.iter().collect())
        }
        DataType::Int8 => integers!(Int8Type),
        DataType::Int16 => integers!(Int16Type),
        DataType::Int32 => integers!(Int32Type),
        DataType::Int64 => Data::Int(Slice::Borrowed(array.as_primitive::<Int64Type>().values())),
        DataType::UInt8 => integers!(UInt8Type),
        DataType::UInt16 => integers!(UInt16Type),
        DataType::UInt32 => integers!(UInt32Type),
        DataType::UInt64 => Data::Unsigned(array.as_primitive::<UInt64Type>().values()),
        DataType::Float32 => {
            Data::Float(array.as_primitive::<Float32Type>().values().iter().map(|&value| f64::from(value)).collect::<Vec<_>>().into())
        }
        DataType::Float64 => Data::Float(Slice::Borrowed(array.as_primitive::<Float64Type>().values())),
        DataType::Decimal128(_, scale) => decimals(array, *scale),
        DataType::Utf8 => Data::Str(array.as_string::<i32>().iter().map(text).collect()),
        DataType::LargeUtf8 => Data::Str(array.as_string::<i64>().iter().map(text).collect()),
        DataType::Utf8View => Data::Str(array.as_string_view().iter().map(text).collect()),
        DataType::Dictionary(_, _) => dictionary(array),
        DataType::Timestamp(unit, zone) => Data::Datetime { micros: micros(array, *unit), aware: zone.is_some() },
        DataType::Date32 => {
            Data::Date(array.as_primitive::<Date32Type>().values().iter().map(|&days| i64::from(days)).collect::<Vec<_>>().into())
        }
        DataType::Date64 => {
            let days = array.as_primitive::<Date64Type>().values().iter().map(|&millis| millis.div_euclid(86_400_000));
            Data::Date(days.collect::<Vec<_>>().into())
        }
        other => Data::Unsupported(other.to_string()),
    }
}

fn text(value: Option<&str>) -> Cow<'_, str> {
    Cow::Borrowed(value.unwrap_or_default())
}

fn dictionary(array: &ArrayRef) -> Data<'_> {
    let dictionary = array.as_any_dictionary();
    let values = dictionary.values();
    match data(values) {
        Data::Str(words) => {
            let keys = dictionary.normalized_keys();
            Data::Str(keys.into_iter().map(|key| words.get(key).cloned().unwrap_or_default()).collect())
        }
        _ => Data::Unsupported(array.data_type().to_string()),
    }
}

fn micros(array: &ArrayRef, unit: TimeUnit) -> Slice<'_, i64> {
    // What does not fit is far outside of Python's years, and so is what it saturates to.
    let times = |values: &[i64], factor: i64| values.iter().map(|&value| value.saturating_mul(factor)).collect::<Vec<_>>().into();
    match unit {
        TimeUnit::Second => times(array.as_primitive::<TimestampSecondType>().values(), 1_000_000),
        TimeUnit::Millisecond => times(array.as_primitive::<TimestampMillisecondType>().values(), 1_000),
        TimeUnit::Microsecond => Slice::Borrowed(array.as_primitive::<TimestampMicrosecondType>().values()),
        TimeUnit::Nanosecond => {
            let values = array.as_primitive::<TimestampNanosecondType>().values();
            values.iter().map(|&value| value.div_euclid(1_000)).collect::<Vec<_>>().into()
        }
    }
}

/// The nearest float: a quotient of two exact ones where they are, the decimal text otherwise.
fn decimals(array: &ArrayRef, scale: i8) -> Data<'_> {
    let decimals = array.as_primitive::<Decimal128Type>();
    let power = u32::try_from(scale).ok().filter(|&scale| scale <= 22).map(|scale| 10f64.powi(scale.cast_signed()));
    let value = |row: usize| {
        let unscaled = decimals.value(row);
        match power {
            Some(power) if unscaled.unsigned_abs() <= 1 << 53 => unscaled as f64 / power,
            _ => decimals.value_as_string(row).parse().unwrap_or(f64::NAN),
        }
    };
    let values: Vec<f64> = (0..decimals.len()).map(|row| if decimals.is_null(row) { 0.0 } else { value(row) }).collect();
    Data::Float(values.into())
}
