//! A new version of a file: its old rows, and what became of some of them, in one pass through both.
//!
//! Rows that nothing happened to are copied by column, in runs; only the others are looked at one by one.

use super::columns::{self, KeyColumns};
use super::error::DatasetError;
use super::files::{CHUNK_ROWS, Encoder};
use super::values::{Key, Row, Table};
use arrow_array::RecordBatch;
use arrow_select::interleave::interleave_record_batch;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Says what stands under a key: given what stood there, and what happened to it (nothing for rows under a touched prefix).
pub type Resolve<E> = Arc<dyn Fn(&'static Table, &Key, Option<Row>, Option<&E>) -> Result<Option<Row>, String> + Send + Sync>;

pub struct Merge<E> {
    table: &'static Table,
    name: String,
    edits: VecDeque<(Key, E)>,
    touched: VecDeque<Key>,
    resolve: Resolve<E>,
    encoder: Encoder,
    /// Rows put, changed or taken away.
    pub changed: u64,
}

/// Where the rows of a merged batch come from: the old rows are number 0, the new ones number 1.
#[derive(Default)]
struct Picks {
    places: Vec<(usize, usize)>,
    fresh: Vec<Row>,
}

impl<E> Merge<E> {
    pub fn new(
        table: &'static Table,
        name: &str,
        edits: BTreeMap<Key, E>,
        touched: Vec<Key>,
        resolve: Resolve<E>,
        encoder: Encoder,
    ) -> Self {
        let (edits, touched) = (edits.into_iter().collect(), touched.into());
        Self { table, name: name.to_owned(), edits, touched, resolve, encoder, changed: 0 }
    }

    pub fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    fn damaged(&self, detail: String) -> DatasetError {
        DatasetError::Damaged { object: self.name.clone(), detail }
    }

    fn resolve(&mut self, key: &Key, known: Option<Row>, edit: Option<&E>, picks: &mut Picks) -> Result<(), DatasetError> {
        let row = (self.resolve)(self.table, key, known.clone(), edit).map_err(|detail| self.damaged(detail))?;
        self.changed += u64::from(row != known);
        if let Some(row) = row {
            picks.places.push((1, picks.fresh.len()));
            picks.fresh.push(row);
        }
        Ok(())
    }

    /// Takes the next rows of the old version.
    pub fn chunk(&mut self, old: &RecordBatch) -> Result<(), DatasetError> {
        let (keys, rows) = (KeyColumns::of(self.table, old), old.num_rows());
        let (mut picks, mut at) = (Picks::default(), 0);
        loop {
            let edit_at = self.edits.front().map_or(rows, |(key, _)| keys.lower_bound(at, rows, key));
            let touch_at = self.next_touched(&keys, at, rows);
            let stop = edit_at.min(touch_at);
            picks.places.extend((at..stop).map(|row| (0, row)));
            at = stop;
            if at == rows {
                break;
            }
            if edit_at > stop {
                self.resolve(&keys.key(at), Some(columns::row(self.table, old, at)), None, &mut picks)?;
                at += 1;
            } else if let Some((key, edit)) = self.edits.pop_front() {
                let known = keys.order(at, &key).is_eq().then(|| columns::row(self.table, old, at));
                at += usize::from(known.is_some());
                self.resolve(&key, known, Some(&edit), &mut picks)?;
            }
        }
        self.emit(Some(old), picks)
    }

    /// The first row from `at` on that begins with a touched prefix. Prefixes that lie before it are done with.
    fn next_touched(&mut self, keys: &KeyColumns<'_>, at: usize, rows: usize) -> usize {
        while let Some(prefix) = self.touched.front() {
            let found = keys.lower_bound(at, rows, prefix);
            if found == rows || keys.order(found, prefix).is_eq() {
                return found;
            }
            self.touched.pop_front();
        }
        rows
    }

    /// What is left to be done after the last old row. The encoder has the whole of the new version then.
    pub fn rest(&mut self) -> Result<(), DatasetError> {
        while !self.edits.is_empty() {
            let mut picks = Picks::default();
            while picks.fresh.len() < CHUNK_ROWS
                && let Some((key, edit)) = self.edits.pop_front()
            {
                self.resolve(&key, None, Some(&edit), &mut picks)?;
            }
            self.emit(None, picks)?;
        }
        Ok(())
    }

    fn emit(&mut self, old: Option<&RecordBatch>, picks: Picks) -> Result<(), DatasetError> {
        if picks.places.is_empty() {
            return Ok(());
        }
        if picks.fresh.is_empty()
            && let Some(old) = old
            && picks.places.len() == old.num_rows()
        {
            return self.encoder.push(old.clone());
        }
        let fresh = columns::to_batch(self.table, &picks.fresh).map_err(DatasetError::Encode)?;
        let merged = interleave_record_batch(&[old.unwrap_or(&fresh), &fresh], &picks.places);
        self.encoder.push(merged.map_err(|error| DatasetError::Encode(error.to_string()))?)
    }

    pub fn into_encoder(self) -> Encoder {
        self.encoder
    }
}
