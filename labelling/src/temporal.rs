//! Moments, dates and spans of whole columns.

use crate::ir::{BinaryOp, Scalar, TimeField};
use crate::kernels::{Computed, Side, each, floats, ints};
use crate::mask::Mask;
use crate::python::{self, DAYS, DELTA_DAYS_MAX, MICROS, MICROS_PER_DAY, Trouble};
use crate::vector::Vector;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Datetime { aware: bool },
    Date,
    Delta,
}

pub fn kind(vector: &Vector<'_>) -> Option<Kind> {
    Some(match vector {
        Vector::Datetime { aware, .. } | Vector::Const(Scalar::Datetime { aware, .. }) => Kind::Datetime { aware: *aware },
        Vector::Date(_) | Vector::Const(Scalar::Date(_)) => Kind::Date,
        Vector::Delta(_) | Vector::Const(Scalar::Delta(_)) => Kind::Delta,
        _ => return None,
    })
}

pub fn side<'a>(vector: &Vector<'a>, len: usize) -> Side<'a, i64> {
    match vector {
        Vector::Const(Scalar::Datetime { micros: value, .. } | Scalar::Date(value) | Scalar::Delta(value)) => Side::One(*value),
        other => Side::Each(other.integers(len)),
    }
}

/// A field, or `None` where values of that type have no such one.
pub fn field<'a>(field: TimeField, vector: &Vector<'a>, rows: &Mask, len: usize) -> Option<Computed<'a>> {
    let kind = kind(vector)?;
    let side = side(vector, len);
    let number = |compute: &dyn Fn(i64) -> i64| Some(each(rows, len, |row| Ok(compute(side.at(row))), ints));
    match kind {
        Kind::Delta => match field {
            TimeField::Days => number(&|micros| micros.div_euclid(MICROS_PER_DAY)),
            TimeField::Seconds => number(&|micros| micros.rem_euclid(MICROS_PER_DAY) / 1_000_000),
            TimeField::Microseconds => number(&|micros| micros.rem_euclid(1_000_000)),
            TimeField::TotalSeconds => {
                let seconds = |row| match side.at(row) {
                    micros if micros.unsigned_abs() <= python::EXACT => Ok(micros as f64 / 1e6),
                    _ => Err(Trouble::Elsewhere),
                };
                Some(each(rows, len, seconds, floats))
            }
            _ => None,
        },
        Kind::Date | Kind::Datetime { .. } => {
            let per_day = if kind == Kind::Date { 1 } else { MICROS_PER_DAY };
            let day = move |value: i64| value.div_euclid(per_day);
            let of_day = |value: i64| value.rem_euclid(MICROS_PER_DAY);
            let moment = kind != Kind::Date;
            match field {
                TimeField::Year => number(&|value| python::civil(day(value)).0),
                TimeField::Month => number(&|value| python::civil(day(value)).1),
                TimeField::Day => number(&|value| python::civil(day(value)).2),
                // 1970-01-01 was a Thursday.
                TimeField::Weekday => number(&|value| (day(value) + 3).rem_euclid(7)),
                TimeField::IsoWeekday => number(&|value| (day(value) + 3).rem_euclid(7) + 1),
                TimeField::Hour if moment => number(&|value| of_day(value) / 3_600_000_000),
                TimeField::Minute if moment => number(&|value| of_day(value) / 60_000_000 % 60),
                TimeField::Second if moment => number(&|value| of_day(value) / 1_000_000 % 60),
                TimeField::Microsecond if moment => number(&|value| of_day(value) % 1_000_000),
                TimeField::Date if moment => Some(each(rows, len, |row| Ok(day(side.at(row))), |days| Vector::Date(days.into()))),
                _ => None,
            }
        }
    }
}

/// Sums and differences; `None` where Python has no such operation of these types, or the other tier has to do it.
pub fn arithmetic<'a>(op: BinaryOp, left: &Vector<'a>, right: &Vector<'a>, rows: &Mask, len: usize) -> Option<Computed<'a>> {
    let (from, by) = (kind(left)?, kind(right)?);
    let (left, right) = (side(left, len), side(right, len));
    let compute = |value: &dyn Fn(i64, i64) -> Option<i64>, message: &'static str, vector: fn(Vec<i64>) -> Vector<'a>| {
        let of_row = |row| value(left.at(row), right.at(row)).ok_or_else(|| Trouble::raises(message));
        Some(each(rows, len, of_row, vector))
    };
    let moments = |aware: bool| if aware { aware_moments } else { naive_moments };
    let within = |micros: i64| MICROS.contains(&micros).then_some(micros);
    let range = "OverflowError: date value out of range";
    let signed = |right: i64| if op == BinaryOp::Sub { right.checked_neg() } else { Some(right) };
    match (op, from, by) {
        (BinaryOp::Sub, Kind::Datetime { aware: left }, Kind::Datetime { aware: right }) if left == right => {
            compute(&|left, right| left.checked_sub(right), range, spans)
        }
        (BinaryOp::Add | BinaryOp::Sub, Kind::Datetime { aware }, Kind::Delta) => {
            compute(&|left, right| within(left.checked_add(signed(right)?)?), range, moments(aware))
        }
        (BinaryOp::Add, Kind::Delta, Kind::Datetime { aware }) => {
            compute(&|left, right| within(left.checked_add(right)?), range, moments(aware))
        }
        (BinaryOp::Sub, Kind::Date, Kind::Date) => compute(&|left, right| (left - right).checked_mul(MICROS_PER_DAY), range, spans),
        // Only the whole days of a span count.
        (BinaryOp::Add | BinaryOp::Sub, Kind::Date, Kind::Delta) => {
            let days = |left: i64, right: i64| {
                let days = left.checked_add(signed(right.div_euclid(MICROS_PER_DAY))?)?;
                DAYS.contains(&days).then_some(days)
            };
            compute(&days, range, |days| Vector::Date(days.into()))
        }
        (BinaryOp::Add | BinaryOp::Sub, Kind::Delta, Kind::Delta) => {
            let sum = |left: i64, right: i64| {
                let micros = left.checked_add(signed(right)?)?;
                (micros.div_euclid(MICROS_PER_DAY).abs() <= DELTA_DAYS_MAX).then_some(micros)
            };
            compute(&sum, "OverflowError: days out of range; must have magnitude <= 999999999", spans)
        }
        _ => None,
    }
}

fn spans(micros: Vec<i64>) -> Vector<'static> {
    Vector::Delta(micros.into())
}

fn naive_moments(micros: Vec<i64>) -> Vector<'static> {
    Vector::Datetime { micros: micros.into(), aware: false }
}

fn aware_moments(micros: Vec<i64>) -> Vector<'static> {
    Vector::Datetime { micros: micros.into(), aware: true }
}
