//! What requests about functions and jobs have in common: numbers of records, lists, pages.

use super::asked;
use crate::concepts::record::Id;
use crate::http::datasets::skip;
use crate::http::error::ApiError;
use crate::http::fields::Fields;
use crate::http::params::Params;
use serde::de::DeserializeOwned;

/// Reads a body; all its mistakes at once.
pub(super) fn body<T>(bytes: &[u8], read: impl FnOnce(&mut Fields<'_>) -> T) -> Result<T, ApiError> {
    asked::read(bytes, read)
}

/// A number in a path; one that no record can have is nobody's.
pub(super) fn id(params: &mut Params, name: &'static str) -> Id {
    Id::try_from(params.integer_segment(name)).unwrap_or_default()
}

/// The number of a record in a body.
pub(super) fn number(fields: &mut Fields<'_>, name: &'static str) -> Option<Id> {
    fields.integer(name, 0, i64::MAX).and_then(|id| Id::try_from(id).ok())
}

fn items<T: DeserializeOwned>(fields: &mut Fields<'_>, name: &'static str, count_max: usize, expected: &str) -> Option<Vec<T>> {
    let list = fields.list(name)?;
    if list.len() > count_max {
        fields.note(name, format!("has more than {count_max} entries"));
        return None;
    }
    let items: Option<Vec<T>> = list.iter().map(|item| serde_json::from_str(item.get()).ok()).collect();
    if items.is_none() {
        fields.note(name, format!("must be a list of {expected}"));
    }
    items
}

/// Numbers of records.
pub(super) fn numbers(fields: &mut Fields<'_>, name: &'static str, count_max: usize) -> Option<Vec<Id>> {
    items(fields, name, count_max, "integers that are not negative")
}

pub(super) fn floats(fields: &mut Fields<'_>, name: &'static str, count_max: usize) -> Option<Vec<f64>> {
    items(fields, name, count_max, "numbers")
}

pub(super) fn texts(fields: &mut Fields<'_>, name: &'static str, count_max: usize, bytes_max: usize) -> Option<Vec<String>> {
    let texts: Vec<String> = items(fields, name, count_max, "texts")?;
    if texts.iter().any(|text| text.len() > bytes_max) {
        fields.note(name, format!("has a text that is longer than {bytes_max} bytes"));
        return None;
    }
    Some(texts)
}

/// Which page of a listing is asked for: so many are passed over, and at most so many are given.
pub(super) fn page(params: &mut Params, rows_max: usize) -> (usize, usize) {
    (skip(params), params.limit(100, rows_max))
}
