//! `:index_values`: a set of keys of any length, and the function that asks whether a value is one of them.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray};
use arrow_cast::cast;
use arrow_schema::DataType;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The name of the function. Statements of users cannot call it.
pub const IS_KEY: &str = "desireline_is_key";

/// Keys as they came, and as hash tables.
#[derive(Debug)]
pub struct Keys {
    pub values: ArrayRef,
    texts: HashSet<Box<str>>,
    /// Of keys that are whole numbers.
    numbers: HashSet<i64>,
}

impl Keys {
    /// Values that are not there (NULL) are no keys.
    pub fn of(values: ArrayRef) -> Result<Self> {
        let texts = cast(&values, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>().iter().flatten().map(Box::from).collect();
        let numbers = match values.data_type() {
            kind if kind.is_integer() => cast(&values, &DataType::Int64)?.as_primitive::<Int64Type>().iter().flatten().collect(),
            _ => HashSet::new(),
        };
        Ok(Self { values, texts, numbers })
    }

    /// For each value whether it is a key. A number is looked for among numbers, anything else by how it is written.
    fn has(&self, values: &ArrayRef) -> Result<BooleanArray> {
        let kind = values.data_type();
        if kind.is_integer() && self.values.data_type().is_integer() {
            let values = cast(values, &DataType::Int64)?;
            let values = values.as_primitive::<Int64Type>();
            return Ok(values.iter().map(|value| Some(self.numbers.contains(&value?))).collect());
        }
        let values = cast(values, &DataType::Utf8)?;
        Ok(values.as_string::<i32>().iter().map(|value| Some(self.texts.contains(value?))).collect())
    }
}

/// The function over a set of keys; over none when a statement is planned only.
#[derive(Debug)]
struct IsKey {
    keys: Option<Arc<Keys>>,
    signature: Signature,
}

pub fn function(keys: Option<Arc<Keys>>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(IsKey { keys, signature: Signature::any(1, Volatility::Immutable) }))
}

/// What an expression asks, if it asks whether something is a key.
pub fn asked(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == IS_KEY => call.args.first(),
        _ => None,
    }
}

impl PartialEq for IsKey {
    fn eq(&self, other: &Self) -> bool {
        match (&self.keys, &other.keys) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        }
    }
}

impl Eq for IsKey {}

impl Hash for IsKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        IS_KEY.hash(state);
    }
}

impl ScalarUDFImpl for IsKey {
    fn name(&self) -> &str {
        IS_KEY
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let keys = self.keys.as_ref().ok_or_else(|| DataFusionError::Execution("there are no keys".to_owned()))?;
        let values = args.args[0].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(Arc::new(keys.has(&values)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int32Array, Int64Array, StringArray};

    fn has(keys: ArrayRef, values: ArrayRef) -> Vec<Option<bool>> {
        Keys::of(keys).expect("keys").has(&values).expect("compares").iter().collect()
    }

    #[test]
    fn a_value_is_a_key_whatever_its_width() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("7")]));
        assert_eq!(has(texts.clone(), texts.clone()), [Some(true), None, Some(true)]);
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(9), None]));
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![7, 8]));
        assert_eq!(has(numbers.clone(), narrow.clone()), [Some(true), Some(false)]);
        assert_eq!(has(texts, narrow), [Some(true), Some(false)]);
        assert_eq!(has(numbers, Arc::new(StringArray::from(vec!["9", "07"]))), [Some(true), Some(false)]);
    }
}
