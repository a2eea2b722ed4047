//! Values of the rows of a batch, a Python type at a time.
//!
//! An expression may have values of several types: a column with nulls is numbers in some rows and `None` in others. A [`Value`] is
//! therefore a list of pieces, each with its rows and values of one type there. Kernels see one type at a time and never a null; an
//! operation of two values is done for each pair of pieces with rows in common. What a piece holds in rows that are not its own is
//! arbitrary and never looked at.

use crate::ir::{Scalar, SequenceKind};
use crate::mask::Mask;
use std::borrow::Cow;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

/// Values in the column's memory or of the batch's making.
#[derive(Clone, Debug)]
pub enum Slice<'a, T> {
    Borrowed(&'a [T]),
    Shared(Rc<Vec<T>>),
}

impl<T> Deref for Slice<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Borrowed(values) => values,
            Self::Shared(values) => values,
        }
    }
}

impl<T> From<Vec<T>> for Slice<'_, T> {
    fn from(values: Vec<T>) -> Self {
        Self::Shared(Rc::new(values))
    }
}

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a mask is half a kilobyte for thousands of rows; a box would be allocated for each")]
pub enum Vector<'a> {
    /// The same in every row.
    Const(Scalar),
    Bool(Mask),
    Int(Slice<'a, i64>),
    Float(Slice<'a, f64>),
    Str(Rc<[Cow<'a, str>]>),
    Datetime {
        micros: Slice<'a, i64>,
        aware: bool,
    },
    Date(Slice<'a, i64>),
    Delta(Slice<'a, i64>),
    /// A match of a regular expression; only that it is one is known.
    Match,
}

pub const NONE: Vector<'static> = Vector::Const(Scalar::None);

impl Vector<'_> {
    /// As Python names the type in errors.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Const(scalar) => scalar.type_name(),
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Datetime { .. } => "datetime.datetime",
            Self::Date(_) => "datetime.date",
            Self::Delta(_) => "datetime.timedelta",
            Self::Match => "re.Match",
        }
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Self::Const(Scalar::None))
    }
}

impl Scalar {
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Datetime { .. } => "datetime.datetime",
            Self::Date(_) => "datetime.date",
            Self::Delta(_) => "datetime.timedelta",
            Self::Sequence(SequenceKind::Tuple, _) => "tuple",
            Self::Sequence(SequenceKind::List, _) => "list",
            Self::Sequence(SequenceKind::Set, _) => "set",
        }
    }

    pub fn truth(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) | Self::Delta(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(value) => !value.is_empty(),
            Self::Datetime { .. } | Self::Date(_) => true,
            Self::Sequence(_, values) => !values.is_empty(),
        }
    }
}

/// Pieces of one value before those of one type are joined: joining costs more than a few pieces do.
const PIECES_MAX: usize = 8;

/// Length of a constant text that is repeated to join pieces.
const REPEATED_BYTES_MAX: usize = 64;

/// Texts of rows, a constant only once.
#[derive(Clone, Debug)]
pub enum Texts<'a> {
    One(Arc<str>),
    Each(Rc<[Cow<'a, str>]>),
}

impl<'a> Texts<'a> {
    pub fn at(&self, row: usize) -> &str {
        match self {
            Self::One(text) => text,
            Self::Each(texts) => &texts[row],
        }
    }

    pub fn to_cow(&self, row: usize) -> Cow<'a, str> {
        match self {
            Self::One(text) => Cow::Owned(text.to_string()),
            Self::Each(texts) => texts[row].clone(),
        }
    }
}

/// Pieces with disjoint rows.
#[derive(Clone, Debug, Default)]
pub struct Value<'a> {
    pub pieces: Vec<(Mask, Vector<'a>)>,
}

impl<'a> Value<'a> {
    pub fn one(rows: Mask, vector: Vector<'a>) -> Self {
        Self { pieces: vec![(rows, vector)] }
    }

    pub fn constant(rows: Mask, scalar: Scalar) -> Self {
        Self::one(rows, Vector::Const(scalar))
    }

    /// Rows that have a value.
    pub fn rows(&self) -> Mask {
        self.pieces.iter().fold(Mask::EMPTY, |rows, (piece, _)| rows.or(piece))
    }

    pub fn push(&mut self, rows: Mask, vector: Vector<'a>) {
        if !rows.is_empty() {
            self.pieces.push((rows, vector));
        }
    }

    pub fn extend(&mut self, other: Value<'a>) {
        for (rows, vector) in other.pieces {
            self.push(rows, vector);
        }
    }

    /// The value in some of its rows.
    pub fn only(&self, rows: &Mask) -> Value<'a> {
        let mut value = Value::default();
        for (piece, vector) in &self.pieces {
            value.push(piece.and(rows), vector.clone());
        }
        value
    }

    /// Joins pieces of one type, so that values that were put together of many branches do not grow.
    pub fn compact(mut self, len: usize) -> Value<'a> {
        if self.pieces.len() <= PIECES_MAX {
            return self;
        }
        let mut joined: Vec<(Mask, Vector<'a>)> = Vec::new();
        for (rows, vector) in self.pieces.drain(..) {
            let same = joined.iter_mut().find(|(_, other)| joinable(other, &vector));
            match same {
                Some((into_rows, into)) => {
                    *into = join(into, into_rows, &vector, &rows, len);
                    *into_rows = into_rows.or(&rows);
                }
                None => joined.push((rows, vector)),
            }
        }
        Value { pieces: joined }
    }
}

fn joinable(left: &Vector<'_>, right: &Vector<'_>) -> bool {
    match (left, right) {
        // Joining repeats a constant in every row.
        (Vector::Const(Scalar::Str(text)), _) | (_, Vector::Const(Scalar::Str(text))) if text.len() > REPEATED_BYTES_MAX => false,
        (Vector::Const(Scalar::Sequence(..)), _) | (_, Vector::Const(Scalar::Sequence(..))) => false,
        (Vector::Datetime { aware: left, .. }, Vector::Datetime { aware: right, .. }) => left == right,
        (Vector::Datetime { .. }, _) | (_, Vector::Datetime { .. }) => false,
        (Vector::Const(Scalar::Datetime { .. }), _) | (_, Vector::Const(Scalar::Datetime { .. })) => false,
        _ => left.type_name() == right.type_name(),
    }
}

fn blend<T: Clone>(left: impl Fn(usize) -> T, right: impl Fn(usize) -> T, right_rows: &Mask, len: usize) -> Vec<T> {
    (0..len).map(|row| if right_rows.has(row) { right(row) } else { left(row) }).collect()
}

fn join<'a>(left: &Vector<'a>, left_rows: &Mask, right: &Vector<'a>, right_rows: &Mask, len: usize) -> Vector<'a> {
    match (left, right) {
        (Vector::Datetime { micros: left, aware }, Vector::Datetime { micros: right, .. }) => {
            Vector::Datetime { micros: blend(|row| left[row], |row| right[row], right_rows, len).into(), aware: *aware }
        }
        _ if matches!(left.type_name(), "NoneType" | "re.Match") => left.clone(),
        _ => match left.type_name() {
            "bool" => {
                let (left, right) = (left.bools(len), right.bools(len));
                Vector::Bool(left.without(right_rows).or(&right.and(right_rows)))
            }
            "float" => {
                let (left, right) = (left.floats(len), right.floats(len));
                Vector::Float(blend(|row| left[row], |row| right[row], right_rows, len).into())
            }
            "str" => {
                let mut joined = vec![Cow::Borrowed(""); len];
                for (rows, texts) in [(left_rows, left.texts()), (right_rows, right.texts())] {
                    let Some(texts) = texts else { continue };
                    rows.rows().for_each(|row| joined[row] = texts.to_cow(row));
                }
                Vector::Str(joined.into())
            }
            name => {
                let (left, right) = (left.integers(len), right.integers(len));
                let values = blend(|row| left[row], |row| right[row], right_rows, len).into();
                match name {
                    "datetime.date" => Vector::Date(values),
                    "datetime.timedelta" => Vector::Delta(values),
                    _ => Vector::Int(values),
                }
            }
        },
    }
}

/// Values in every row, constants repeated. Each is asked of a vector of its type, or of booleans as numbers.
impl<'a> Vector<'a> {
    pub fn bools(&self, len: usize) -> Mask {
        match self {
            Self::Const(Scalar::Bool(true)) => Mask::first(len),
            Self::Bool(mask) => *mask,
            _ => Mask::EMPTY,
        }
    }

    pub fn integers(&self, len: usize) -> Slice<'a, i64> {
        match self {
            Self::Int(values) | Self::Date(values) | Self::Delta(values) | Self::Datetime { micros: values, .. } => values.clone(),
            Self::Const(Scalar::Int(value) | Scalar::Date(value) | Scalar::Delta(value)) => vec![*value; len].into(),
            Self::Const(Scalar::Datetime { micros, .. }) => vec![*micros; len].into(),
            Self::Const(Scalar::Bool(value)) => vec![i64::from(*value); len].into(),
            Self::Bool(mask) => (0..len).map(|row| i64::from(mask.has(row))).collect::<Vec<_>>().into(),
            _ => vec![0; len].into(),
        }
    }

    pub fn floats(&self, len: usize) -> Slice<'a, f64> {
        match self {
            Self::Float(values) => values.clone(),
            Self::Const(Scalar::Float(value)) => vec![*value; len].into(),
            _ => self.integers(len).iter().map(|&value| value as f64).collect::<Vec<_>>().into(),
        }
    }

    /// Texts, if it is of texts.
    pub fn texts(&self) -> Option<Texts<'a>> {
        match self {
            Self::Str(values) => Some(Texts::Each(Rc::clone(values))),
            Self::Const(Scalar::Str(value)) => Some(Texts::One(Arc::clone(value))),
            _ => None,
        }
    }
}
