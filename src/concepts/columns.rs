//! Columns that can be learned from: of the index, and of every feature.
//!
//! Columns that are numbers are features, times as seconds since 1970 and truth as 0 or 1. Others are left out, and so are keys. Names that
//! another table has, too, get a suffix.

use super::cells;
use super::join::{Joined, Rows};
use super::record::Id;
use arrow_schema::DataType;
use desireline_learning::classifiers::{ModelError, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A table that features come from: the index, or that of a feature.
pub struct Source {
    /// Nothing for the index.
    pub feature_id: Option<Id>,
    pub rows: Rows,
    pub joined: Joined,
    /// Its column of keys, which is no feature.
    pub key: String,
}

/// How a feature is written in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureType {
    Number,
    Time,
    Flag,
}

/// A column that is learned from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Unique in the bank.
    pub name: String,
    pub feature_id: Option<Id>,
    /// Its name in its table.
    pub column: String,
    pub feature_type: FeatureType,
}

/// The columns that can be learned from, and the names of those that cannot.
pub fn columns(sources: &[Source]) -> (Vec<Column>, Vec<String>) {
    let (mut found, mut dropped, mut names): (Vec<Column>, Vec<String>, BTreeSet<String>) = Default::default();
    for source in sources {
        for field in source.rows.schema.fields().iter().filter(|field| *field.name() != source.key) {
            let feature_type = match field.data_type() {
                DataType::Boolean => FeatureType::Flag,
                DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => FeatureType::Time,
                data_type if cells::is_numeric(data_type) => FeatureType::Number,
                _ => {
                    dropped.push(field.name().clone());
                    continue;
                }
            };
            let suffix = source.feature_id.map_or_else(|| "_index".to_owned(), |id| format!("_feat{id}"));
            let mut name = field.name().clone();
            while !names.insert(name.clone()) {
                name.push_str(&suffix);
            }
            found.push(Column { name, feature_id: source.feature_id, column: field.name().clone(), feature_type });
        }
    }
    (found, dropped)
}

/// What the rows have in the columns; what is missing is not a number.
pub fn values(sources: &[Source], columns: &[Column], rows: &[usize]) -> Vec<(String, Vec<f64>)> {
    let of = |column: &Column| {
        let source = sources.iter().find(|source| source.feature_id == column.feature_id)?;
        let place = source.rows.column(&column.column).ok()?;
        let value = |row: &usize| {
            let at = source.joined.rows[*row]?;
            cells::number(source.rows.array(at, place), at.1 as usize)
        };
        Some(rows.iter().map(|row| value(row).unwrap_or(f64::NAN)).collect())
    };
    let missing = || vec![f64::NAN; rows.len()];
    columns.iter().map(|column| (column.name.clone(), of(column).unwrap_or_else(missing))).collect()
}

/// The rows as a table that can be predicted.
pub fn table(sources: &[Source], columns: &[Column], rows: &[usize]) -> Result<Table, ModelError> {
    Table::from_columns(values(sources, columns, rows))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    pub fn source(feature_id: Option<Id>, columns: Vec<(&str, ArrayRef)>) -> Source {
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).expect("a batch");
        let joined = Joined { rows: (0..batch.num_rows() as u32).map(|row| Some((0, row))).collect(), repeated: 0 };
        Source {
            feature_id,
            joined,
            key: "mac".into(),
            rows: Rows { name: "a table".into(), schema: batch.schema(), batches: vec![batch] },
        }
    }

    pub fn macs(count: usize) -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..count).map(|at| at.to_string())))
    }

    pub fn floats(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
        Arc::new(Float64Array::from_iter(values))
    }

    #[test]
    fn what_can_be_learned_from_becomes_numbers_under_names_of_their_own() {
        let index = source(None, vec![("mac", macs(2)), ("x", Arc::new(Int64Array::from(vec![1, 2])))]);
        let times = Arc::new(TimestampMicrosecondArray::from(vec![Some(2_000_000), None]));
        let feature = vec![("mac", macs(2)), ("x", floats([None, Some(5.0)].into_iter())), ("at", times as ArrayRef), ("t", macs(2))];
        let flags = Arc::new(BooleanArray::from(vec![true, false]));
        let sources = [index, source(Some(7), feature), source(Some(8), vec![("mac", macs(2)), ("x", flags)])];
        let (columns, dropped) = columns(&sources);
        let names: Vec<(&str, FeatureType)> = columns.iter().map(|column| (column.name.as_str(), column.feature_type)).collect();
        let (number, time, flag) = (FeatureType::Number, FeatureType::Time, FeatureType::Flag);
        assert_eq!(names, [("x", number), ("x_feat7", number), ("at", time), ("x_feat8", flag)]);
        assert_eq!(dropped, ["t"]);
        let values = values(&sources, &columns, &[0, 1]);
        let shown: Vec<Vec<Option<f64>>> =
            values.iter().map(|(_, own)| own.iter().map(|v| (!v.is_nan()).then_some(*v)).collect()).collect();
        assert_eq!(shown, [[Some(1.0), Some(2.0)], [None, Some(5.0)], [Some(2.0), None], [Some(1.0), Some(0.0)]]);
    }
}
