//! Concepts and everything that belongs to them, over HTTP; what they are stands in [`crate::concepts`]. One file per kind of record.

mod asked;
mod catalog;
mod classifiers;
mod concept;
mod connections;
mod features;
mod functions;
mod indexes;
mod labels;
mod materialize;
mod predict;
mod queries;
mod reading;
mod rules;
mod snorkel;
mod values;

use super::AppState;
use super::error::{ApiError, FieldError};
use crate::concepts::ConceptError;
use axum::http::StatusCode;
use axum::routing::{get, post};
use chrono::{DateTime, SecondsFormat};
use desireline_records::Micros;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

impl From<ConceptError> for ApiError {
    fn from(error: ConceptError) -> Self {
        let (code, detail) = (error.code(), error.to_string());
        match error {
            ConceptError::Invalid { field, .. } => {
                Self { errors: vec![FieldError::new(field, &*detail)], ..Self::new(StatusCode::BAD_REQUEST, code, detail) }
            }
            ConceptError::Refused(_) | ConceptError::InUse(_) => Self::new(StatusCode::BAD_REQUEST, code, detail),
            // The request is right; the server lacks a key.
            ConceptError::Vault(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry(60),
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
        .routes(routes!(connections::list))
        .routes(routes!(connections::get))
        .routes(routes!(concept::list))
        .routes(routes!(concept::get))
        .routes(routes!(values::list))
        .routes(routes!(values::get))
        .routes(routes!(indexes::list))
        .routes(routes!(indexes::get))
        .routes(routes!(rules::list))
        .routes(routes!(rules::get))
        .routes(routes!(features::list))
        .routes(routes!(features::get))
        .routes(routes!(catalog::all))
        .routes(routes!(catalog::materialized))
        .routes(routes!(catalog::stats))
        // Clients of the original were redirected from one spelling to the other.
        .route("/database-connections/", get(connections::list))
        .route("/concepts/", get(concept::list))
        .route("/concepts/{c_id}/values/", get(values::list))
        .route("/concepts/{c_id}/indexes/", get(indexes::list))
        .route("/concepts/{c_id}/rules/", get(rules::list))
        .route("/concepts/{c_id}/features/", get(features::list))
        .routes(routes!(functions::list))
        .routes(routes!(functions::template))
        .routes(routes!(functions::get))
        .routes(routes!(functions::metrics))
        .routes(routes!(functions::versions))
        .routes(routes!(snorkel::list))
        .routes(routes!(snorkel::get))
        .routes(routes!(snorkel::results))
        .routes(routes!(classifiers::list))
        .routes(routes!(classifiers::get))
        .routes(routes!(classifiers::results))
        .routes(routes!(predict::predict))
        .routes(routes!(labels::live))
}

/// Routes that change something.
pub(super) fn admin() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(connections::create))
        .routes(routes!(connections::patch))
        .routes(routes!(connections::delete))
        .routes(routes!(concept::create))
        .routes(routes!(concept::patch))
        .routes(routes!(concept::delete))
        .routes(routes!(values::create))
        .routes(routes!(values::patch))
        .routes(routes!(values::delete))
        .routes(routes!(indexes::create))
        .routes(routes!(indexes::patch))
        .routes(routes!(indexes::delete))
        .routes(routes!(rules::create))
        .routes(routes!(rules::patch))
        .routes(routes!(rules::delete))
        .routes(routes!(features::create))
        .routes(routes!(features::patch))
        .routes(routes!(features::delete))
        .route("/database-connections/", post(connections::create))
        .route("/concepts/", post(concept::create))
        .route("/concepts/{c_id}/values/", post(values::create))
        .route("/concepts/{c_id}/indexes/", post(indexes::create))
        .route("/concepts/{c_id}/rules/", post(rules::create))
        .route("/concepts/{c_id}/features/", post(features::create))
        .routes(routes!(materialize::index))
        .routes(routes!(materialize::rule))
        .routes(routes!(materialize::feature))
        .routes(routes!(materialize::test))
        .routes(routes!(functions::create))
        .routes(routes!(functions::test))
        .routes(routes!(functions::change))
        .routes(routes!(functions::delete))
        .routes(routes!(functions::approve))
        .routes(routes!(functions::toggle))
        .routes(routes!(functions::add_version))
        .routes(routes!(snorkel::run))
        .routes(routes!(snorkel::delete))
        .routes(routes!(snorkel::cancel))
        .routes(routes!(classifiers::run))
        .routes(routes!(classifiers::delete))
        .routes(routes!(classifiers::cancel))
}
