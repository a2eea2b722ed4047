//! Rows of a batch as the interpreter's dictionaries.

use crate::columns::{Column, Data};
use arrow_array::RecordBatch;
use chrono::{Datelike, NaiveDate, TimeDelta};
use monty_types::{MontyDate, MontyDateTime, MontyObject};

pub struct Rows<'a> {
    names: Vec<String>,
    columns: Vec<Column<'a>>,
}

impl<'a> Rows<'a> {
    pub fn of(batch: &'a RecordBatch) -> Self {
        let names = batch.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
        Self { names, columns: batch.columns().iter().map(Column::of).collect() }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The columns as lists, then the number of rows; `None` when a value among them cannot be given to a function.
    pub fn columns(&self, range: std::ops::Range<usize>) -> Option<Vec<MontyObject>> {
        let list = |column: &Column<'_>| range.clone().map(|row| cell(column, row)).collect::<Option<_>>().map(MontyObject::List);
        let mut columns = self.columns.iter().map(list).collect::<Option<Vec<_>>>()?;
        columns.push(MontyObject::Int(range.len() as i64));
        Some(columns)
    }

    /// The row as a dictionary, or the column that Python has no value for.
    pub fn row(&self, row: usize) -> Result<MontyObject, String> {
        let pairs = self.names.iter().zip(&self.columns).map(|(name, column)| {
            let value = cell(column, row).ok_or_else(|| unreadable(name, column))?;
            Ok((MontyObject::String(name.clone()), value))
        });
        let pairs = pairs.collect::<Result<Vec<_>, String>>()?;
        Ok(MontyObject::dict(pairs))
    }
}

/// What is said of a column whose value cannot be given to a function.
pub fn unreadable(name: &str, column: &Column<'_>) -> String {
    match &column.data {
        Data::Unsupported(kind) => format!("column '{name}' has the type {kind}, which labelling functions cannot read"),
        _ => format!("column '{name}' has a date outside of the years 1 to 9999"),
    }
}

fn cell(column: &Column<'_>, row: usize) -> Option<MontyObject> {
    if column.is_null(row) {
        return Some(MontyObject::None);
    }
    if column.out_of_range(row) {
        return None;
    }
    Some(match &column.data {
        Data::None => MontyObject::None,
        Data::Bool(values) => MontyObject::Bool(values[row]),
        Data::Int(values) => MontyObject::Int(values[row]),
        Data::Unsigned(values) => match i64::try_from(values[row]) {
            Ok(value) => MontyObject::Int(value),
            Err(_) => MontyObject::BigInt(values[row].into()),
        },
        Data::Float(values) => MontyObject::Float(values[row]),
        Data::Str(values) => MontyObject::String(values[row].clone().into_owned()),
        Data::Datetime { micros, aware } => moment(micros[row], *aware)?,
        Data::Date(days) => {
            let date = day(days[row])?;
            MontyObject::Date(MontyDate { year: date.year(), month: date.month() as u8, day: date.day() as u8 })
        }
        Data::Unsupported(_) => return None,
    })
}

fn day(days: i64) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(1970, 1, 1)?.checked_add_signed(TimeDelta::try_days(days)?)
}

fn moment(micros: i64, aware: bool) -> Option<MontyObject> {
    let date = day(micros.div_euclid(86_400_000_000))?;
    let of_day = micros.rem_euclid(86_400_000_000);
    let seconds = of_day / 1_000_000;
    Some(MontyObject::DateTime(MontyDateTime {
        year: date.year(),
        month: date.month() as u8,
        day: date.day() as u8,
        hour: (seconds / 3600) as u8,
        minute: (seconds / 60 % 60) as u8,
        second: (seconds % 60) as u8,
        microsecond: (of_day % 1_000_000) as u32,
        offset_seconds: aware.then_some(0),
        timezone_name: None,
    }))
}
