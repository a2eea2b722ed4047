//! The different values of a column.

use super::TableError;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, UInt64Array, new_empty_array};
use arrow_schema::{DataType, TimeUnit};
use arrow_select::concat::concat;
use arrow_select::take::take;
use hashbrown::HashSet;
use std::hash::Hash;

/// The rows at which a value is met for the first time. A NaN is no value.
fn first_met<T: Hash + Eq>(column: &dyn Array, value: impl Fn(usize) -> T) -> Vec<u64> {
    let mut met = HashSet::new();
    (0..column.len()).filter(|at| column.is_valid(*at) && met.insert(value(*at))).map(|at| at as u64).collect()
}

/// The values of a column that comes in parts: each once, without null and NaN, in the order in which they are first met.
pub fn distinct(data_type: &DataType, parts: &[ArrayRef]) -> Result<ArrayRef, TableError> {
    let failed = |error: &dyn std::fmt::Display| TableError::Encode(error.to_string());
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    if parts.is_empty() {
        return Ok(new_empty_array(data_type));
    }
    let all = concat(&parts).map_err(|error| failed(&error))?;
    macro_rules! numbers {
        ($type:ty) => {{
            let values = all.as_primitive::<$type>().values();
            first_met(&all, |at| values[at])
        }};
    }
    let rows = match data_type {
        DataType::Utf8 => first_met(&all, |at| all.as_string::<i32>().value(at)),
        DataType::LargeUtf8 => first_met(&all, |at| all.as_string::<i64>().value(at)),
        DataType::Utf8View => first_met(&all, |at| all.as_string_view().value(at)),
        DataType::Binary => first_met(&all, |at| all.as_binary::<i32>().value(at)),
        DataType::Boolean => first_met(&all, |at| all.as_boolean().value(at)),
        DataType::Int8 => numbers!(Int8Type),
        DataType::Int16 => numbers!(Int16Type),
        DataType::Int32 => numbers!(Int32Type),
        DataType::Int64 => numbers!(Int64Type),
        DataType::UInt8 => numbers!(UInt8Type),
        DataType::UInt16 => numbers!(UInt16Type),
        DataType::UInt32 => numbers!(UInt32Type),
        DataType::UInt64 => numbers!(UInt64Type),
        DataType::Date32 => numbers!(Date32Type),
        DataType::Time64(TimeUnit::Microsecond) => numbers!(Time64MicrosecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => numbers!(TimestampMicrosecondType),
        DataType::Float32 => floats(&all, |at| all.as_primitive::<Float32Type>().value(at).into()),
        DataType::Float64 => floats(&all, |at| all.as_primitive::<Float64Type>().value(at)),
        other => return Err(failed(&format!("values of the type {other} cannot be told apart"))),
    };
    take(&all, &UInt64Array::from(rows), None).map_err(|error| failed(&error))
}

fn floats(column: &dyn Array, value: impl Fn(usize) -> f64) -> Vec<u64> {
    // Zero has two signs.
    let mut rows = first_met(column, |at| if value(at) == 0.0 { 0 } else { value(at).to_bits() });
    rows.retain(|at| !value(*at as usize).is_nan());
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Float64Array, Int64Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn values_come_once_in_the_order_in_which_they_are_met() {
        let parts: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("b")])),
            Arc::new(StringArray::from(vec![Some("a"), Some(""), Some("c")])),
        ];
        let found = distinct(&DataType::Utf8, &parts).unwrap();
        assert_eq!(found.as_string::<i32>(), &StringArray::from(vec!["b", "a", "", "c"]));
        let parts: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![Some(3), Some(3), None, Some(-1)]))];
        assert_eq!(distinct(&DataType::Int64, &parts).unwrap().as_primitive::<Int64Type>().values(), &[3, -1]);
        let parts: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(vec![0.0, f64::NAN, -0.0, 1.5, f64::NAN]))];
        assert_eq!(distinct(&DataType::Float64, &parts).unwrap().as_primitive::<Float64Type>().values(), &[0.0, 1.5]);
        assert_eq!(distinct(&DataType::Utf8, &[]).unwrap().len(), 0);
        let lists = arrow_array::new_null_array(&DataType::new_list(DataType::Int64, true), 1);
        assert!(distinct(&lists.data_type().clone(), &[lists]).is_err());
    }
}
