//! Rows as columns of Arrow, and back.

use super::values::{Column, Key, Kind, Row, Table, Value};
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, Decimal128Array, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_buffer::OffsetBuffer;
use std::cmp::Ordering;
use std::sync::Arc;

/// The rows of a batch. Says which column has a value of another kind.
pub fn to_batch(table: &Table, rows: &[Row]) -> Result<RecordBatch, String> {
    let column = |(index, column): (usize, &Column)| {
        let values: Vec<&Value> = rows.iter().map(|row| row.get(index).unwrap_or(&Value::Null)).collect();
        array(column, &values)
    };
    let columns: Vec<ArrayRef> = table.columns.iter().enumerate().map(column).collect::<Result<_, _>>()?;
    RecordBatch::try_new(table.schema(), columns).map_err(|error| error.to_string())
}

fn array(column: &Column, values: &[&Value]) -> Result<ArrayRef, String> {
    let wrong = |value: &Value| format!("column `{}` of {} cannot hold {value:?}", column.name, column.kind.data_type());
    macro_rules! scalars {
        ($array:ident, $variant:ident) => {{
            let scalar = |value: &&Value| match *value {
                Value::$variant(value) => Ok(Some(value.clone())),
                Value::Null if column.optional => Ok(None),
                other => Err(wrong(other)),
            };
            $array::from_iter(values.iter().map(scalar).collect::<Result<Vec<_>, _>>()?)
        }};
    }
    Ok(match column.kind {
        Kind::Int => Arc::new(scalars!(Int64Array, Int)),
        Kind::Float => Arc::new(scalars!(Float64Array, Float)),
        Kind::Text => Arc::new(scalars!(StringArray, Text)),
        Kind::Time => Arc::new(scalars!(TimestampMicrosecondArray, Time).with_timezone("UTC")),
        Kind::Decimal => {
            let decimals = scalars!(Decimal128Array, Decimal).with_precision_and_scale(38, 4);
            Arc::new(decimals.map_err(|error| error.to_string())?)
        }
        Kind::List(element) => {
            let lists = lists(values, wrong)?;
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.len()));
            let elements: Vec<&Value> = lists.iter().copied().flatten().collect();
            let child = array(&Column::new(column.name, *element), &elements)?;
            let field = Arc::new(Kind::element(*element));
            Arc::new(ListArray::try_new(field, offsets, child, None).map_err(|error| error.to_string())?)
        }
        Kind::Struct(fields) => {
            let structs = lists(values, wrong)?;
            let field = |(index, field): (usize, &Column)| {
                let values: Vec<&Value> = structs.iter().map(|fields| fields.get(index).unwrap_or(&Value::Null)).collect();
                array(field, &values)
            };
            let children: Vec<ArrayRef> = fields.iter().enumerate().map(field).collect::<Result<_, _>>()?;
            let array = StructArray::try_new_with_length(Kind::fields(fields), children, None, structs.len());
            Arc::new(array.map_err(|error| error.to_string())?)
        }
    })
}

fn lists<'a>(values: &[&'a Value], wrong: impl Fn(&Value) -> String) -> Result<Vec<&'a Vec<Value>>, String> {
    let list = |value: &&'a Value| match *value {
        Value::List(values) => Ok(values),
        other => Err(wrong(other)),
    };
    values.iter().map(list).collect()
}

/// Whether a batch has the columns of a table.
pub fn matches(table: &Table, batch: &RecordBatch) -> Result<(), String> {
    let (found, wanted) = (batch.schema(), table.schema());
    let same = found.fields().len() == wanted.fields().len()
        && found.fields().iter().zip(wanted.fields()).all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
    if same { Ok(()) } else { Err(format!("its columns are {:?}", found.fields())) }
}

/// One row of a batch that has the columns of its table.
pub fn row(table: &Table, batch: &RecordBatch, at: usize) -> Row {
    table.columns.iter().zip(batch.columns()).map(|(column, array)| value(column.kind, array, at)).collect()
}

fn value(kind: Kind, array: &ArrayRef, at: usize) -> Value {
    if array.is_null(at) {
        return Value::Null;
    }
    match kind {
        Kind::Int => Value::Int(array.as_primitive::<Int64Type>().value(at)),
        Kind::Float => Value::Float(array.as_primitive::<Float64Type>().value(at)),
        Kind::Text => Value::Text(array.as_string::<i32>().value(at).into()),
        Kind::Time => Value::Time(array.as_primitive::<TimestampMicrosecondType>().value(at)),
        Kind::Decimal => Value::Decimal(array.as_primitive::<Decimal128Type>().value(at)),
        Kind::List(element) => {
            let elements = array.as_list::<i32>().value(at);
            Value::List((0..elements.len()).map(|index| value(*element, &elements, index)).collect())
        }
        Kind::Struct(fields) => {
            let children = array.as_struct().columns();
            Value::List(fields.iter().zip(children).map(|(field, child)| value(field.kind, child, at)).collect())
        }
    }
}

/// The key columns of a batch, or the first of them, ready to be compared.
pub struct KeyColumns<'a>(Vec<KeyColumn<'a>>);

enum KeyColumn<'a> {
    Int(&'a Int64Array),
    Text(&'a StringArray),
    Time(&'a TimestampMicrosecondArray),
}

impl KeyColumn<'_> {
    fn order(&self, at: usize, value: &Value) -> Ordering {
        match (self, value) {
            (Self::Int(array), Value::Int(value)) => array.value(at).cmp(value),
            (Self::Time(array), Value::Time(value)) => array.value(at).cmp(value),
            (Self::Text(array), Value::Text(value)) => array.value(at).cmp(value.as_str()),
            _ => self.value(at).order(value),
        }
    }

    fn value(&self, at: usize) -> Value {
        match self {
            Self::Int(array) => Value::Int(array.value(at)),
            Self::Text(array) => Value::Text(array.value(at).into()),
            Self::Time(array) => Value::Time(array.value(at)),
        }
    }
}

impl<'a> KeyColumns<'a> {
    pub fn of(table: &Table, batch: &'a RecordBatch) -> Self {
        let column = |(column, array): (&Column, &'a ArrayRef)| match column.kind {
            Kind::Time => KeyColumn::Time(array.as_primitive()),
            Kind::Text => KeyColumn::Text(array.as_string()),
            _ => KeyColumn::Int(array.as_primitive()),
        };
        Self(table.columns[..table.key].iter().zip(batch.columns()).map(column).collect())
    }

    /// The order of a row and a key or prefix: equal where it begins with it.
    pub fn order(&self, at: usize, key: &Key) -> Ordering {
        self.0.iter().zip(&key.0).fold(Ordering::Equal, |order, (column, value)| order.then_with(|| column.order(at, value)))
    }

    /// The first row from `from` on that is not before the key or prefix.
    pub fn lower_bound(&self, from: usize, rows: usize, key: &Key) -> usize {
        let (mut low, mut high) = (from, rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.order(middle, key).is_lt() { low = middle + 1 } else { high = middle }
        }
        low
    }

    pub fn key(&self, at: usize) -> Key {
        Key(self.0.iter().map(|column| column.value(at)).collect())
    }
}
