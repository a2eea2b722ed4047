//! Concepts and everything that belongs to them, over HTTP; what they are stands in [`crate::concepts`]. One file per kind of record.

use super::AppState;
use super::error::ApiError;
use crate::concepts::ConceptError;
use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat};
use desireline_records::Micros;
use utoipa_axum::router::OpenApiRouter;

impl From<ConceptError> for ApiError {
    fn from(error: ConceptError) -> Self {
        let (code, detail) = (error.code(), error.to_string());
        match error {
            ConceptError::Invalid { field, detail } => Self::invalid_field(field, detail),
            ConceptError::Refused(_) => Self::new(StatusCode::BAD_REQUEST, code, detail),
            ConceptError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, code, detail),
            ConceptError::Objects(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry(5),
            ConceptError::NotReady(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry(1),
            ConceptError::Busy(_) => Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail).retry(1),
            ConceptError::Service(error) => error.into(),
        }
    }
}

/// Times as all these answers print them: RFC 3339, UTC with `Z`.
pub(super) fn time_text(time: Micros) -> String {
    DateTime::from_timestamp_micros(time).unwrap_or_default().to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Routes that change nothing.
pub(super) fn read() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
}

/// Routes that change something.
pub(super) fn admin() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
}
