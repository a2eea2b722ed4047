//! Stopped partitions: a command that says where reading goes on.
//!
//! A Kafka partition whose position lies outside of what the broker holds (retention, or a topic that was created anew) stops
//! and says so in `/api/status`. The command is a record of the log; the reader finds the new position by itself.

use super::AppState;
use super::body::JsonBody;
use super::error::{ApiError, ErrorBody, FieldError};
use axum::Json;
use axum::extract::State;
use desireline_records::{SourceId, limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Longest name of a partition: a topic's name has at most 249 characters.
const PARTITION_BYTES_MAX: usize = 512;

/// Where a partition goes on.
#[derive(Deserialize, ToSchema)]
#[schema(as = PartitionReset)]
#[allow(dead_code)]
pub(super) struct ResetBody {
    #[schema(minimum = 0, maximum = 2147483647)]
    source_id: i64,
    /// As `/api/status` names it, such as `kafka:clicks/0`.
    #[schema(min_length = 1, max_length = 512)]
    partition: String,
    /// The next position to read.
    #[schema(minimum = 0)]
    position: i64,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct ResetReply {
    /// `reset`.
    detail: String,
    /// For `at_least` in queries.
    token: String,
}

/// Says where a stopped Kafka partition goes on.
#[utoipa::path(post, path = "/api/partitions/reset", tag = "operations", operation_id = "reset_partition", request_body = ResetBody,
    responses((status = 200, description = "durable; reading goes on there", body = ResetReply),
        (status = 404, description = "the source has no such partition", body = ErrorBody)))]
pub(super) async fn reset(State(state): State<AppState>, JsonBody(bytes): JsonBody) -> Result<Json<ResetReply>, ApiError> {
    let (source, partition, position) = read(&bytes)?;
    let token = state.backend.reset_partition(source, &partition, position).await?;
    Ok(Json(ResetReply { detail: "reset".to_owned(), token: token.to_string() }))
}

fn read(bytes: &[u8]) -> Result<(SourceId, String, i64), ApiError> {
    let body: Value = serde_json::from_slice(bytes).map_err(|e| ApiError::malformed(format!("the body is not JSON: {e}")))?;
    let Value::Object(fields) = body else {
        return Err(ApiError::malformed("the body is not a JSON object"));
    };
    let source = fields.get("source_id").and_then(Value::as_i64).filter(|id| (0..=limits::SOURCE_MAX).contains(id));
    let source = source.and_then(|id| SourceId::try_from(id).ok());
    let partition = fields.get("partition").and_then(Value::as_str).filter(|name| (1..=PARTITION_BYTES_MAX).contains(&name.len()));
    let position = fields.get("position").and_then(Value::as_i64).filter(|position| *position >= 0);
    match (source, partition, position) {
        (Some(source), Some(partition), Some(position)) => Ok((source, partition.to_owned(), position)),
        _ => {
            let mistakes = [
                ("source_id", source.is_none(), format!("must be an integer between 0 and {}", limits::SOURCE_MAX)),
                ("partition", partition.is_none(), format!("must be a string of 1 to {PARTITION_BYTES_MAX} bytes")),
                ("position", position.is_none(), "must be an integer, not negative".to_owned()),
            ];
            let wrong = mistakes.into_iter().filter(|(_, wrong, _)| *wrong);
            Err(ApiError::invalid(wrong.map(|(field, _, detail)| FieldError::new(field, detail)).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_told_at_once() {
        let error = read(br#"{"source_id":-1,"position":1.5}"#).expect_err("mistakes");
        let fields: Vec<&str> = error.errors.iter().map(|e| e.field.as_ref()).collect();
        assert_eq!(fields, ["source_id", "partition", "position"]);
        for body in ["", "[]", "7", "{"] {
            assert_eq!(read(body.as_bytes()).expect_err(body).code, "malformed");
        }
        let read = read(br#"{"source_id":1,"partition":"kafka:t/0","position":0}"#).expect("valid");
        assert_eq!(read, (1, "kafka:t/0".to_owned(), 0));
    }
}
