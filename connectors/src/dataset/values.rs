//! What a table's columns are, and the values in them.

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use desireline_records::Micros;
use ecow::EcoString;
use std::cmp::Ordering;
use std::sync::Arc;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 64 bits, signed.
    Int,
    Float,
    Text,
    /// Microseconds, UTC.
    Time,
    /// Ten-thousandths, at most 38 digits.
    Decimal,
    /// Never null, nor are its elements.
    List(&'static Kind),
    /// Fields in order; never null.
    Struct(&'static [Column]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    pub optional: bool,
    /// Its values hardly repeat: a dictionary would gain nothing.
    pub distinct: bool,
}

impl Column {
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, optional: false, distinct: matches!(kind, Kind::Time | Kind::Decimal) }
    }

    pub const fn optional(name: &'static str, kind: Kind) -> Self {
        Self { optional: true, ..Self::new(name, kind) }
    }

    pub const fn distinct(name: &'static str, kind: Kind) -> Self {
        Self { distinct: true, ..Self::new(name, kind) }
    }

    fn field(&self) -> Field {
        Field::new(self.name, self.kind.data_type(), self.optional)
    }
}

impl Kind {
    pub fn data_type(self) -> DataType {
        match self {
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Decimal => DataType::Decimal128(38, 4),
            Self::List(element) => DataType::List(Arc::new(Self::element(*element))),
            Self::Struct(columns) => DataType::Struct(Self::fields(columns)),
        }
    }

    pub fn element(element: Self) -> Field {
        Field::new("element", element.data_type(), false)
    }

    pub fn fields(columns: &[Column]) -> Fields {
        columns.iter().map(Column::field).collect()
    }
}

/// A kind of file: its columns, of which the first `key` tell rows apart and give their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Also the folder.
    pub name: &'static str,
    pub columns: &'static [Column],
    /// Integers, texts and times, never null.
    pub key: usize,
}

impl Table {
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(Kind::fields(self.columns)))
    }

    /// The place of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// A value of a column. Elements of a list and fields of a struct are both a [`Value::List`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Int(i64),
    Float(f64),
    Text(EcoString),
    Time(Micros),
    Decimal(i128),
    List(Vec<Value>),
}

pub type Row = Vec<Value>;

impl Value {
    /// The text, or nothing where it is empty.
    pub fn text_or_null(text: &EcoString) -> Self {
        if text.is_empty() { Self::Null } else { Self::Text(text.clone()) }
    }

    pub fn maybe_text(text: Option<&EcoString>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(text.clone()))
    }

    pub fn floats(values: &[f64]) -> Self {
        Self::List(values.iter().copied().map(Self::Float).collect())
    }

    /// The order within a key column.
    pub fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) | (Self::Time(a), Self::Time(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Int(_) => 1,
            Self::Float(_) => 2,
            Self::Text(_) => 3,
            Self::Time(_) => 4,
            Self::Decimal(_) => 5,
            Self::List(_) => 6,
        }
    }
}

/// The leading values of a row: all of its key, or, as a *prefix*, some of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Key(pub Vec<Value>);

impl Eq for Key {}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let columns = self.0.iter().zip(&other.0).map(|(a, b)| a.order(b));
        columns.fold(Ordering::Equal, Ordering::then).then(self.0.len().cmp(&other.0.len()))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
