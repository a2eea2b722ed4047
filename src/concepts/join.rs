//! The things of an index, and the rows of other tables that are about them.
//!
//! What it promises:
//! - The things are the distinct values of one column of the index that are not null, in the order in which each comes first.
//! - Of every other table a thing has one row or none. Where a table has several for one key, it is the first of them in canonical order
//!   (column by column, null before anything else), so the order in which a database gave them does not matter. How often that
//!   happened is counted.
//! - Tables are joined by what keys mean, not by their types (see `cells`).
//!
//! Known limitation: a table is held in memory whole while it is joined and read from.

use super::cells::{self, Key};
use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use thiserror::Error;

#[derive(Debug, Error, PartialEq, Eq)]
#[error("{table} has no column '{column}'; it has: {}", columns.join(", "))]
pub struct NoColumn {
    table: String,
    column: String,
    columns: Vec<String>,
}

/// A table as it was read, with its name for messages.
#[derive(Clone, Debug)]
pub struct Rows {
    pub name: String,
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

/// A row: its batch, and its place in there.
pub type At = (u32, u32);

impl Rows {
    pub fn count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    pub fn column(&self, name: &str) -> Result<usize, NoColumn> {
        let found = self.schema.fields().iter().position(|field| field.name() == name);
        found.ok_or_else(|| NoColumn {
            table: self.name.clone(),
            column: name.to_owned(),
            columns: self.schema.fields().iter().map(|field| field.name().clone()).collect(),
        })
    }

    /// Where every row lies.
    pub fn places(&self) -> impl Iterator<Item = At> + '_ {
        (0u32..).zip(&self.batches).flat_map(|(batch, rows)| (0u32..).take(rows.num_rows()).map(move |row| (batch, row)))
    }

    pub fn array(&self, (batch, _): At, column: usize) -> &dyn Array {
        self.batches[batch as usize].column(column)
    }

    pub fn key(&self, at: At, column: usize) -> Option<Key<'_>> {
        cells::key(self.array(at, column), at.1 as usize)
    }

    /// The canonical order of two rows.
    fn compare(&self, one: At, other: At) -> Ordering {
        let columns = 0..self.schema.fields().len();
        columns.map(|column| self.key(one, column).cmp(&self.key(other, column))).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

/// The things of an index.
#[derive(Clone, Debug)]
pub struct Entities {
    pub index: Rows,
    /// The column whose values they are.
    pub column: usize,
    /// The first row of each.
    pub rows: Vec<At>,
}

impl Entities {
    pub fn new(index: Rows, column: &str) -> Result<Self, NoColumn> {
        let column = index.column(column)?;
        let mut seen = HashSet::new();
        let rows = index.places().filter(|at| index.key(*at, column).is_some_and(|key| seen.insert(key))).collect();
        Ok(Self { rows, index, column })
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// What each of them has in a column.
    pub fn keys(&self, column: &str) -> Result<Vec<Option<Key<'_>>>, NoColumn> {
        let column = self.index.column(column)?;
        Ok(self.rows.iter().map(|at| self.index.key(*at, column)).collect())
    }

    /// The row of a table that is about each of them: those whose `table_column` is what the index has in `index_column`.
    pub fn join(&self, table: &Rows, index_column: &str, table_column: &str) -> Result<Joined, NoColumn> {
        join(&self.keys(index_column)?, table, table_column)
    }
}

/// The row of a table for each of some keys; nothing for what has no key.
pub fn join(keys: &[Option<Key<'_>>], table: &Rows, column: &str) -> Result<Joined, NoColumn> {
    let column = table.column(column)?;
    let mut first: HashMap<Key<'_>, Option<At>> = keys.iter().flatten().map(|key| (*key, None)).collect();
    let mut repeated = 0;
    for at in table.places() {
        let Some(slot) = table.key(at, column).and_then(|key| first.get_mut(&key)) else { continue };
        match slot {
            None => *slot = Some(at),
            Some(best) => {
                repeated += 1;
                if table.compare(at, *best).is_lt() {
                    *best = at;
                }
            }
        }
    }
    Ok(Joined { rows: keys.iter().map(|key| key.and_then(|key| first[&key])).collect(), repeated })
}

/// Which row of a table is about each thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub rows: Vec<Option<At>>,
    /// Rows that are left out because another one has the same key.
    pub repeated: u64,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use std::sync::Arc;

    pub fn rows(name: &str, columns: Vec<(&str, ArrayRef)>) -> Rows {
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).expect("a batch");
        // In pieces, as tables are read.
        let middle = batch.num_rows() / 2;
        let batches = vec![batch.slice(0, middle), batch.slice(middle, batch.num_rows() - middle)];
        Rows { name: name.to_owned(), schema: batch.schema(), batches }
    }

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn things_are_distinct_values_in_the_order_of_their_first_row() {
        let index = rows("index 'i'", vec![("mac", texts(&[Some("b"), None, Some("a"), Some("b"), Some("c"), None]))]);
        let entities = Entities::new(index.clone(), "mac").expect("a column");
        let keys: Vec<_> = entities.rows.iter().map(|at| entities.index.key(*at, 0)).collect();
        assert_eq!(keys, ["b", "a", "c"].map(|key| Some(Key::Text(key))));
        let error = Entities::new(index, "user").expect_err("no such column");
        assert_eq!(error.to_string(), "index 'i' has no column 'user'; it has: mac");
    }

    #[test]
    fn of_several_rows_the_canonical_one_is_taken_whatever_their_order() {
        let index = rows("index 'i'", vec![("id", Arc::new(Int64Array::from(vec![1, 2, 3])))]);
        let entities = Entities::new(index, "id").expect("a column");
        let ids = [Some(2.0), Some(1.0), Some(1.0), None, Some(9.0)];
        let shown = |order: &[usize]| {
            let key = Float64Array::from_iter(order.iter().map(|at| ids[*at]));
            let value = Float64Array::from_iter(order.iter().map(|at| [Some(5.0), Some(4.0), None, Some(0.0), Some(0.0)][*at]));
            let table = rows("rule 'r'", vec![("id", Arc::new(key)), ("x", Arc::new(value))]);
            let joined = entities.join(&table, "id", "id").expect("columns");
            let value = |at: &Option<At>| at.map(|at| cells::json(table.array(at, 1), at.1 as usize).to_string());
            (joined.repeated, joined.rows.iter().map(value).collect::<Vec<_>>())
        };
        let expected = (1, vec![Some("null".to_owned()), Some("5.0".to_owned()), None]);
        assert_eq!(shown(&[0, 1, 2, 3, 4]), expected);
        assert_eq!(shown(&[4, 2, 3, 1, 0]), expected);
    }

    #[test]
    fn another_column_of_the_index_joins_too() {
        let index =
            rows("index 'i'", vec![("mac", texts(&[Some("a"), Some("b"), Some("c")])), ("room", texts(&[Some("r"), Some("r"), None]))]);
        let entities = Entities::new(index, "mac").expect("a column");
        let table = rows("rule 'r'", vec![("space", texts(&[Some("q"), Some("r")]))]);
        let joined = entities.join(&table, "room", "space").expect("columns");
        assert_eq!((joined.rows, joined.repeated), (vec![Some((1, 0)), Some((1, 0)), None], 0));
    }
}
