//! Bodies of requests about concepts: fields that are required, and fields of which only those that are there change something.

use crate::concepts::limits::{OBJECT_BYTES_MAX, OBJECT_DEPTH_MAX, SQL_BYTES_MAX};
use crate::concepts::queries::SqlChange;
use crate::concepts::record::{Id, PartitionType, Record, Sql};
use crate::http::AppState;
use crate::http::datasets::skip;
use crate::http::error::{ApiError, FieldError};
use crate::http::fields::{Fields, unreadable};
use crate::http::params::Params;
use serde_json::{Map, Value as Json};

/// Reads the fields of a body, and answers all mistakes at once.
pub(super) fn read<T>(bytes: &[u8], read: impl FnOnce(&mut Fields<'_>) -> T) -> Result<T, ApiError> {
    let mut fields = Fields::read(bytes).map_err(|error| unreadable(&error))?;
    let value = read(&mut fields);
    let named = |(field, detail)| FieldError::new(field, detail);
    fields.finish().map_err(|mistakes| ApiError::invalid(mistakes.into_iter().map(named).collect()))?;
    Ok(value)
}

/// What is at hand besides mistakes: a body with a mistake is refused as a whole.
pub(super) fn required<T: Default>(fields: &mut Fields<'_>, name: &'static str, value: Option<T>) -> T {
    fields.require(name, value).unwrap_or_default()
}

/// A field that may be absent, but not null.
pub(super) fn not_null<T>(fields: &mut Fields<'_>, name: &'static str, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Option<T> {
    if fields.is_null(name) {
        fields.note(name, "must not be null");
        return None;
    }
    read(fields)
}

/// A field of a change that may be null: the outer nothing is absence, the inner one null.
pub(super) fn nullable<T>(
    fields: &mut Fields<'_>,
    name: &'static str,
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Option<Option<T>> {
    if fields.is_null(name) { Some(None) } else { read(fields).map(Some) }
}

/// A text that is there is not empty.
pub(super) fn filled(fields: &mut Fields<'_>, name: &'static str, bytes_max: usize) -> Option<String> {
    not_null(fields, name, |fields| {
        let text = fields.any_text(name, bytes_max)?;
        if text.is_empty() {
            fields.note(name, "must not be empty");
        }
        Some(text.into_owned())
    })
}

/// A text, also the empty one.
pub(super) fn text(fields: &mut Fields<'_>, name: &'static str, bytes_max: usize) -> Option<String> {
    fields.any_text(name, bytes_max).map(|text| text.into_owned())
}

/// The number of another record.
pub(super) fn id(fields: &mut Fields<'_>, name: &'static str) -> Option<Id> {
    not_null(fields, name, |fields| fields.integer(name, 0, i64::MAX)).and_then(|id| Id::try_from(id).ok())
}

fn depth(value: &Json) -> usize {
    match value {
        Json::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Json::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// An object within the limits of size and depth.
pub(super) fn object(fields: &mut Fields<'_>, name: &'static str) -> Option<Map<String, Json>> {
    let text = fields.raw(name)?.get();
    if text.len() > OBJECT_BYTES_MAX {
        fields.note(name, format!("is longer than {OBJECT_BYTES_MAX} bytes"));
        return None;
    }
    match serde_json::from_str(text) {
        Ok(Json::Object(object)) if object.values().map(depth).max().unwrap_or(0) < OBJECT_DEPTH_MAX => Some(object),
        Ok(Json::Object(_)) => {
            fields.note(name, format!("is nested deeper than {OBJECT_DEPTH_MAX} levels"));
            None
        }
        _ => {
            fields.note(name, "must be a JSON object");
            None
        }
    }
}

const PARTITION_WORDS: [(&str, PartitionType); 3] =
    [("time", PartitionType::Time), ("id_range", PartitionType::IdRange), ("categorical", PartitionType::Categorical)];

fn partition_type(fields: &mut Fields<'_>) -> Option<PartitionType> {
    let name = "partition_type";
    let word = fields.any_text(name, 64)?;
    let found = PARTITION_WORDS.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind);
    if found.is_none() {
        fields.note(name, "must be one of time, id_range, categorical");
    }
    found
}

/// The query of a new record.
pub(super) fn sql(fields: &mut Fields<'_>) -> Sql {
    let sql_query = filled(fields, "sql_query", SQL_BYTES_MAX);
    Sql {
        sql_query: required(fields, "sql_query", sql_query),
        query_template_params: object(fields, "query_template_params"),
        partition_type: partition_type(fields),
        partition_config: object(fields, "partition_config"),
    }
}

/// What is to be changed of a query.
pub(super) fn sql_change(fields: &mut Fields<'_>) -> SqlChange {
    let params = "query_template_params";
    SqlChange {
        sql_query: filled(fields, "sql_query", SQL_BYTES_MAX),
        query_template_params: nullable(fields, params, |fields| object(fields, params)),
        partition_type: nullable(fields, "partition_type", partition_type),
        partition_config: nullable(fields, "partition_config", |fields| object(fields, "partition_config")),
    }
}

/// The number of a record in a path; one that no record can have is not found.
pub(super) fn path_id<R: Record>(params: &mut Params, name: &'static str) -> Result<Id, ApiError> {
    let number = params.integer_segment(name);
    Id::try_from(number).map_err(|_| ApiError::not_found(format!("{} with ID {number} not found", R::NAME)))
}

/// Which page of a listing is asked for: so many are passed over, and at most so many are given.
pub(super) fn page(state: &AppState, params: &mut Params) -> (usize, usize) {
    (skip(params), params.limit(100, state.config.page_max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mistakes<T>(body: &Json, reader: impl FnOnce(&mut Fields<'_>) -> T) -> Vec<String> {
        let error = read(body.to_string().as_bytes(), reader).err().expect("mistakes");
        error.errors.into_iter().map(|e| format!("{}: {}", e.field, e.detail)).collect()
    }

    #[test]
    fn a_change_tells_what_is_absent_from_what_is_null() {
        let changed = |body: Json| read(body.to_string().as_bytes(), sql_change).expect("valid");
        assert!(!changed(json!({"partition_type": "time"})).resets());
        let change = changed(json!({"query_template_params": null, "partition_type": null, "partition_config": {"a": 1}}));
        assert_eq!((change.query_template_params.clone(), change.partition_type), (Some(None), Some(None)));
        assert!(change.resets() && change.sql_query.is_none() && change.partition_config.is_some_and(|config| config.is_some()));
        assert_eq!(mistakes(&json!({"sql_query": null}), sql_change), ["sql_query: must not be null"]);
        assert_eq!(mistakes(&json!({"sql_query": ""}), sql_change), ["sql_query: must not be empty"]);
    }

    #[test]
    fn every_mistake_of_a_query_is_told() {
        let body = json!({"query_template_params": [], "partition_type": "month", "partition_config": 7});
        let expected = [
            "sql_query: is required",
            "query_template_params: must be a JSON object",
            "partition_type: must be one of time, id_range, categorical",
            "partition_config: must be a JSON object",
        ];
        assert_eq!(mistakes(&body, sql), expected);
        let nested = (1..OBJECT_DEPTH_MAX).fold(json!({}), |inner, _| json!({"a": inner}));
        let body = |config: &Json| json!({"sql_query": "SELECT 1", "partition_config": config});
        assert_eq!(read(body(&nested).to_string().as_bytes(), sql).expect("deep enough").partition_config, nested.as_object().cloned());
        assert_eq!(mistakes(&body(&json!({"a": [nested]})), sql), ["partition_config: is nested deeper than 16 levels"]);
        assert_eq!(mistakes(&body(&json!({"a": "x".repeat(70_000)})), sql), ["partition_config: is longer than 65536 bytes"]);
        let long = json!({"sql_query": "x".repeat(SQL_BYTES_MAX + 1)});
        assert_eq!(mistakes(&long, sql), ["sql_query: is longer than 100000 bytes"]);
    }
}
