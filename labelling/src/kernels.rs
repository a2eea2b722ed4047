//! Numbers of whole columns: comparisons and arithmetic as Python does them.
//!
//! Integers are exact or not done here: what does not fit 64 bits is given to the other tier row by row. An integer is compared with a
//! float by their exact values.

use crate::ir::{BinaryOp, CompareOp, Scalar};
use crate::mask::{BATCH_ROWS, Mask};
use crate::python::{self, Trouble};
use crate::vector::{Slice, Vector};
use std::cmp::Ordering;

/// One operand: a value, or one for each row.
#[derive(Clone, Debug)]
pub enum Side<'a, T> {
    One(T),
    Each(Slice<'a, T>),
}

impl<T: Copy> Side<'_, T> {
    pub fn at(&self, row: usize) -> T {
        match self {
            Self::One(value) => *value,
            Self::Each(values) => values[row],
        }
    }
}

pub enum Number<'a> {
    Int(Side<'a, i64>),
    Float(Side<'a, f64>),
}

impl<'a> Number<'a> {
    /// Integers, floats and booleans are numbers.
    pub fn of(vector: &Vector<'a>, len: usize) -> Option<Self> {
        Some(match vector {
            Vector::Int(values) => Self::Int(Side::Each(values.clone())),
            Vector::Float(values) => Self::Float(Side::Each(values.clone())),
            Vector::Bool(_) => Self::Int(Side::Each(vector.integers(len))),
            Vector::Const(Scalar::Int(value)) => Self::Int(Side::One(*value)),
            Vector::Const(Scalar::Bool(value)) => Self::Int(Side::One(i64::from(*value))),
            Vector::Const(Scalar::Float(value)) => Self::Float(Side::One(*value)),
            _ => return None,
        })
    }

    pub fn floats(self) -> Side<'a, f64> {
        match self {
            Self::Float(side) => side,
            Self::Int(Side::One(value)) => Side::One(value as f64),
            Self::Int(Side::Each(values)) => Side::Each(values.iter().map(|&value| value as f64).collect::<Vec<_>>().into()),
        }
    }
}

/// 64 bytes of 0 and 1 as bits: eight at a time are brought together by one multiplication.
fn pack(bytes: &[u8; 64]) -> u64 {
    let mut word = 0;
    for (index, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
        let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        word |= bits << (8 * index);
    }
    word
}

#[inline(always)]
pub fn bits<T: Copy>(values: &[T], test: impl Fn(T) -> bool) -> Mask {
    let mut mask = Mask::EMPTY;
    for (word, chunk) in mask.words.iter_mut().zip(values.chunks(64)) {
        let mut bytes = [0u8; 64];
        for (byte, value) in bytes.iter_mut().zip(chunk) {
            *byte = u8::from(test(*value));
        }
        *word = pack(&bytes);
    }
    mask
}

#[inline(always)]
fn bits_of_two<A: Copy, B: Copy>(left: &[A], right: &[B], test: impl Fn(A, B) -> bool) -> Mask {
    let mut mask = Mask::EMPTY;
    for (word, (left, right)) in mask.words.iter_mut().zip(left.chunks(64).zip(right.chunks(64))) {
        let mut bytes = [0u8; 64];
        for (byte, (left, right)) in bytes.iter_mut().zip(left.iter().zip(right)) {
            *byte = u8::from(test(*left, *right));
        }
        *word = pack(&bytes);
    }
    mask
}

#[inline(always)]
fn test_sides<A: Copy, B: Copy>(left: &Side<'_, A>, right: &Side<'_, B>, test: impl Fn(A, B) -> bool) -> Mask {
    match (left, right) {
        (Side::Each(left), Side::One(right)) => bits(left, |left| test(left, *right)),
        (Side::One(left), Side::Each(right)) => bits(right, |right| test(*left, right)),
        (Side::Each(left), Side::Each(right)) => bits_of_two(left, right, test),
        (Side::One(left), Side::One(right)) => {
            if test(*left, *right) {
                Mask::first(BATCH_ROWS)
            } else {
                Mask::EMPTY
            }
        }
    }
}

/// Of values of one type, with Python's meaning of the six comparisons.
pub fn compare_sides<T: Copy + PartialOrd>(op: CompareOp, left: &Side<'_, T>, right: &Side<'_, T>) -> Mask {
    match op {
        CompareOp::Eq => test_sides(left, right, |left, right| left == right),
        CompareOp::NotEq => test_sides(left, right, |left, right| left != right),
        CompareOp::Lt => test_sides(left, right, |left, right| left < right),
        CompareOp::LtE => test_sides(left, right, |left, right| left <= right),
        CompareOp::Gt => test_sides(left, right, |left, right| left > right),
        CompareOp::GtE => test_sides(left, right, |left, right| left >= right),
        CompareOp::In | CompareOp::NotIn | CompareOp::Is | CompareOp::IsNot => Mask::EMPTY,
    }
}

pub fn holds(op: CompareOp, order: Option<Ordering>) -> bool {
    match op {
        CompareOp::Eq => order == Some(Ordering::Equal),
        CompareOp::NotEq => order != Some(Ordering::Equal),
        CompareOp::Lt => order == Some(Ordering::Less),
        CompareOp::LtE => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        CompareOp::Gt => order == Some(Ordering::Greater),
        CompareOp::GtE => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        CompareOp::In | CompareOp::NotIn | CompareOp::Is | CompareOp::IsNot => false,
    }
}

/// By exact value.
pub fn order(left: i64, right: f64) -> Option<Ordering> {
    if left.unsigned_abs() <= python::EXACT {
        return (left as f64).partial_cmp(&right);
    }
    if right.is_nan() {
        return None;
    }
    // 2^63 itself is a float.
    if right >= 9_223_372_036_854_775_808.0 {
        return Some(Ordering::Less);
    }
    if right < -9_223_372_036_854_775_808.0 {
        return Some(Ordering::Greater);
    }
    let whole = right.trunc();
    Some(left.cmp(&(whole as i64)).then(0.0f64.partial_cmp(&(right - whole)).unwrap_or(Ordering::Equal)))
}

fn turned(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Lt => CompareOp::Gt,
        CompareOp::LtE => CompareOp::GtE,
        CompareOp::Gt => CompareOp::Lt,
        CompareOp::GtE => CompareOp::LtE,
        other => other,
    }
}

pub fn compare_numbers(op: CompareOp, left: &Number<'_>, right: &Number<'_>) -> Mask {
    match (left, right) {
        (Number::Int(left), Number::Int(right)) => compare_sides(op, left, right),
        (Number::Float(left), Number::Float(right)) => compare_sides(op, left, right),
        // A float for every row and a small integer: both exact as floats.
        (Number::Float(left), Number::Int(Side::One(right))) if right.unsigned_abs() <= python::EXACT => {
            compare_sides(op, left, &Side::One(*right as f64))
        }
        (Number::Int(left), Number::Float(right)) => test_sides(left, right, |left, right| holds(op, order(left, right))),
        (Number::Float(left), Number::Int(right)) => {
            let op = turned(op);
            test_sides(right, left, |right, left| holds(op, order(right, left)))
        }
    }
}

/// What arithmetic gives: values, and the rows that have none.
pub struct Computed<'a> {
    pub vector: Vector<'a>,
    pub elsewhere: Mask,
    /// Rows with what they raise.
    pub raised: Vec<(Mask, String)>,
}

impl<'a> Computed<'a> {
    pub fn of(vector: Vector<'a>) -> Self {
        Self { vector, elsewhere: Mask::EMPTY, raised: Vec::new() }
    }

    fn raise(&mut self, row: usize, message: String) {
        if let Some((rows, _)) = self.raised.iter_mut().find(|(_, known)| *known == message) {
            rows.insert(row);
        } else {
            let mut rows = Mask::EMPTY;
            rows.insert(row);
            self.raised.push((rows, message));
        }
    }
}

#[inline(always)]
fn map_sides<A: Copy, B: Copy, T>(left: &Side<'_, A>, right: &Side<'_, B>, len: usize, map: impl Fn(A, B) -> T) -> Vec<T> {
    match (left, right) {
        (Side::Each(left), Side::One(right)) => left.iter().map(|left| map(*left, *right)).collect(),
        (Side::One(left), Side::Each(right)) => right.iter().map(|right| map(*left, *right)).collect(),
        (Side::Each(left), Side::Each(right)) => left.iter().zip(right.iter()).map(|(left, right)| map(*left, *right)).collect(),
        (Side::One(left), Side::One(right)) => (0..len).map(|_| map(*left, *right)).collect(),
    }
}

/// Row by row, only where rows are asked for: what may fail.
pub fn each<'a, T: Clone + Default>(
    rows: &Mask,
    len: usize,
    mut compute: impl FnMut(usize) -> Result<T, Trouble>,
    vector: impl FnOnce(Vec<T>) -> Vector<'a>,
) -> Computed<'a> {
    let mut values = vec![T::default(); len];
    let mut computed = Computed::of(crate::vector::NONE);
    for row in rows.rows() {
        match compute(row) {
            Ok(value) => values[row] = value,
            Err(Trouble::Elsewhere) => computed.elsewhere.insert(row),
            Err(Trouble::Raises(message)) => computed.raise(row, message),
        }
    }
    computed.vector = vector(values);
    computed
}

pub fn ints(values: Vec<i64>) -> Vector<'static> {
    Vector::Int(values.into())
}

pub fn floats(values: Vec<f64>) -> Vector<'static> {
    Vector::Float(values.into())
}

/// Addition and its like: a value for every row, and which of them do not fit.
fn wrapping<'a>(left: &Side<'_, i64>, right: &Side<'_, i64>, len: usize, op: impl Fn(i64, i64) -> (i64, bool)) -> Computed<'a> {
    let mut any = false;
    let values = match (left, right) {
        (Side::Each(left), Side::One(right)) => collect_wrapping(left.iter().map(|left| op(*left, *right)), &mut any),
        (Side::One(left), Side::Each(right)) => collect_wrapping(right.iter().map(|right| op(*left, *right)), &mut any),
        (Side::Each(left), Side::Each(right)) => {
            collect_wrapping(left.iter().zip(right.iter()).map(|(left, right)| op(*left, *right)), &mut any)
        }
        (Side::One(left), Side::One(right)) => collect_wrapping((0..len).map(|_| op(*left, *right)), &mut any),
    };
    let mut computed = Computed::of(ints(values));
    if any {
        computed.elsewhere = test_sides(left, right, |left, right| op(left, right).1);
    }
    computed
}

fn collect_wrapping(pairs: impl Iterator<Item = (i64, bool)>, any: &mut bool) -> Vec<i64> {
    pairs
        .map(|(value, over)| {
            *any |= over;
            value
        })
        .collect()
}

pub fn arithmetic<'a>(op: BinaryOp, left: Number<'a>, right: Number<'a>, rows: &Mask, len: usize) -> Computed<'a> {
    match (left, right) {
        (Number::Int(left), Number::Int(right)) => integers(op, &left, &right, rows, len),
        (left, right) => {
            let (left, right) = (left.floats(), right.floats());
            let dense = |map: fn(f64, f64) -> f64| Computed::of(floats(map_sides(&left, &right, len, map)));
            let nonzero = |message: &'static str, map: fn(f64, f64) -> f64| {
                let compute = |row| match right.at(row) {
                    0.0 => Err(Trouble::raises(message)),
                    divisor => Ok(map(left.at(row), divisor)),
                };
                each(rows, len, compute, floats)
            };
            match op {
                BinaryOp::Add => dense(|left, right| left + right),
                BinaryOp::Sub => dense(|left, right| left - right),
                BinaryOp::Mul => dense(|left, right| left * right),
                BinaryOp::Div => nonzero("ZeroDivisionError: float division by zero", |left, right| left / right),
                BinaryOp::FloorDiv => {
                    nonzero("ZeroDivisionError: float floor division by zero", |left, right| python::float_div_mod(left, right).0)
                }
                BinaryOp::Mod => nonzero("ZeroDivisionError: float modulo", |left, right| python::float_div_mod(left, right).1),
                BinaryOp::Pow => each(rows, len, |row| python::float_pow(left.at(row), right.at(row)), floats),
            }
        }
    }
}

fn integers<'a>(op: BinaryOp, left: &Side<'_, i64>, right: &Side<'_, i64>, rows: &Mask, len: usize) -> Computed<'a> {
    let nonzero = |message: &'static str, map: fn(i64, i64) -> i64| {
        let compute = |row| match (left.at(row), right.at(row)) {
            (_, 0) => Err(Trouble::raises(message)),
            (i64::MIN, -1) => Err(Trouble::Elsewhere),
            (left, right) => Ok(map(left, right)),
        };
        each(rows, len, compute, ints)
    };
    match op {
        BinaryOp::Add => wrapping(left, right, len, i64::overflowing_add),
        BinaryOp::Sub => wrapping(left, right, len, i64::overflowing_sub),
        BinaryOp::Mul => wrapping(left, right, len, i64::overflowing_mul),
        BinaryOp::FloorDiv => nonzero("ZeroDivisionError: integer division or modulo by zero", python::floor_div),
        BinaryOp::Mod => nonzero("ZeroDivisionError: integer modulo by zero", python::floor_mod),
        BinaryOp::Div => {
            let compute = |row| match (left.at(row), right.at(row)) {
                (_, 0) => Err(Trouble::raises("ZeroDivisionError: division by zero")),
                (left, right) => Ok(python::quotient(left, right)),
            };
            each(rows, len, compute, floats)
        }
        BinaryOp::Pow => powers(left, right, rows, len),
    }
}

/// A negative exponent gives a float.
fn powers<'a>(left: &Side<'_, i64>, right: &Side<'_, i64>, rows: &Mask, len: usize) -> Computed<'a> {
    let negative = rows.and(&test_sides(left, right, |_, right| right < 0));
    if negative.is_empty() {
        return each(rows, len, |row| python::int_pow(left.at(row), right.at(row)), ints);
    }
    if negative == *rows {
        return each(rows, len, |row| python::float_pow(left.at(row) as f64, right.at(row) as f64), floats);
    }
    // Two types in one column: rare enough for the other tier.
    Computed { vector: ints(vec![0; len]), elsewhere: *rows, raised: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_floats_compare_by_exact_value() {
        let big = 1i64 << 53;
        assert_eq!(order(big + 1, big as f64), Some(Ordering::Greater));
        assert_eq!(order(i64::MAX, 9_223_372_036_854_775_808.0), Some(Ordering::Less));
        assert_eq!(order(i64::MIN, -9_223_372_036_854_775_808.0), Some(Ordering::Equal));
        assert_eq!(order(-(big + 3), -(big as f64) - 4.0), Some(Ordering::Greater));
        assert_eq!(order(3, 3.5), Some(Ordering::Less));
        assert_eq!(order(i64::MAX, f64::NAN), None);
    }

    #[test]
    fn bits_are_packed_in_order() {
        let values: Vec<i64> = (0..200).collect();
        let odd = bits(&values, |value| value % 3 == 1);
        assert_eq!(odd.rows().collect::<Vec<_>>(), (0..200).filter(|row| row % 3 == 1).collect::<Vec<_>>());
    }
}
