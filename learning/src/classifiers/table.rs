//! Rows of numbers with named columns.

use super::ModelError;

/// Larger magnitudes are refused: the fourth power of this, summed over all rows, is finite, and no fit needs more.
pub const VALUE_MAX: f64 = 1e60;

/// Whether a model can take the value.
pub(super) fn is_value(value: f64) -> bool {
    value.abs() <= VALUE_MAX
}

/// Rows by columns, row by row in memory. Missing values are not numbers (NaN): [`super::prepare::Preparation`] fills them, and a fit
/// refuses them.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    names: Vec<String>,
    rows: usize,
    values: Vec<f64>,
}

impl Table {
    /// `values` row by row: as many as there are rows times names.
    pub fn new(names: Vec<String>, rows: usize, values: Vec<f64>) -> Result<Self, ModelError> {
        if rows.checked_mul(names.len()) != Some(values.len()) {
            return Err(ModelError::Shape { rows, columns: names.len(), values: values.len() });
        }
        Ok(Self { names, rows, values })
    }

    /// From columns, each a name and a value per row.
    pub fn from_columns(columns: Vec<(String, Vec<f64>)>) -> Result<Self, ModelError> {
        let rows = columns.first().map_or(0, |(_, values)| values.len());
        let shape = |values: usize| ModelError::Shape { rows, columns: columns.len(), values };
        if let Some((_, odd)) = columns.iter().find(|(_, values)| values.len() != rows) {
            return Err(shape(odd.len()));
        }
        let mut values = Vec::with_capacity(rows * columns.len());
        for row in 0..rows {
            values.extend(columns.iter().map(|(_, column)| column[row]));
        }
        Ok(Self { rows, values, names: columns.into_iter().map(|(name, _)| name).collect() })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.names.len()
    }

    /// The columns' names, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// # Panics
    /// When there is no such row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.names.len()..(row + 1) * self.names.len()]
    }

    /// The rows named, in that order; a row may be named more than once.
    ///
    /// # Panics
    /// When one of them does not exist.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let mut values = Vec::with_capacity(rows.len() * self.columns());
        for row in rows {
            values.extend_from_slice(self.row(*row));
        }
        Self { names: self.names.clone(), rows: rows.len(), values }
    }

    pub(super) fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// Refuses a table without rows or columns and values that are no numbers up to [`VALUE_MAX`], naming the first column with one.
    pub(super) fn check(&self) -> Result<(), ModelError> {
        if self.names.is_empty() {
            return Err(ModelError::Empty("columns"));
        }
        if self.rows == 0 {
            return Err(ModelError::Empty("rows"));
        }
        self.check_values(is_value)
    }

    pub(super) fn check_values(&self, sound: impl Fn(f64) -> bool) -> Result<(), ModelError> {
        match self.values.iter().position(|value| !sound(*value)) {
            Some(at) => Err(ModelError::NotFinite { column: self.names[at % self.columns()].clone(), row: at / self.columns() }),
            None => Ok(()),
        }
    }
}
