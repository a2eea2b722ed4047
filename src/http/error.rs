//! One form for every error: `{"detail", "code", "errors"?, "request_id"}`.
//!
//! A handler returns [`ApiError`]; its response carries the error as an extension, and the outermost layer
//! (`super::frame`) prints it, since only there the request's id and the configured validation status are known. Responses
//! of the router itself (404, 405) and of libraries are brought into the same form there.

use crate::service::ServiceError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use utoipa::ToSchema;

/// A mistake in one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// The name of the field, parameter or path segment.
    pub field: Cow<'static, str>,
    pub detail: String,
}

impl FieldError {
    pub fn new(field: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// The body of every error.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// For people.
    pub detail: String,
    /// Stable and machine readable.
    pub code: Cow<'static, str>,
    /// The fields at fault, all of them at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldError>,
    /// The rejected entries of a batch of which nothing was accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub rejected: Vec<super::ingest::RejectedEvent>,
    /// Finds the request in the server's log.
    pub request_id: String,
}

/// An error on its way to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub status: StatusCode,
    pub code: &'static str,
    pub detail: String,
    pub errors: Vec<FieldError>,
    pub rejected: Vec<super::ingest::RejectedEvent>,
    pub retry_after_s: Option<u64>,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: Vec::new(), rejected: Vec::new(), retry_after_s: None }
    }

    /// Fields at fault. There is at least one.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = errors.iter().map(|e| format!("{}: {}", e.field, e.detail)).collect::<Vec<_>>().join("; ");
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, "invalid", detail) }
    }

    pub fn invalid_field(field: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(field, detail)])
    }

    /// Not readable at all.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    pub fn unsupported(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    pub fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// The detail goes to the log; the client gets the request id only.
    pub fn internal(detail: impl std::fmt::Display) -> Self {
        tracing::error!(%detail, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "an internal error; the request id finds it in the log")
    }

    pub fn retry(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// What a response without an error of ours means.
    pub(super) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::not_found("there is nothing here"),
            StatusCode::METHOD_NOT_ALLOWED => Self::new(status, "method_not_allowed", "this path does not take this method"),
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large("the body is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::unsupported("this content type is not taken here"),
            status if status.is_server_error() => Self::new(status, "internal", "an internal error"),
            status => Self::new(status, "malformed", "the request cannot be understood"),
        }
    }

    pub(super) fn body(&self, request_id: &str) -> ErrorBody {
        ErrorBody {
            detail: self.detail.clone(),
            code: Cow::Borrowed(self.code),
            errors: self.errors.clone(),
            rejected: self.rejected.clone(),
            request_id: request_id.to_owned(),
        }
    }

    /// Prints the error. Validation errors get the configured status.
    pub(super) fn render(&self, request_id: &str, validation_status: u16) -> Response {
        let status = match self.status {
            StatusCode::BAD_REQUEST => StatusCode::from_u16(validation_status).unwrap_or(StatusCode::BAD_REQUEST),
            other => other,
        };
        let mut response = (status, axum::Json(self.body(request_id))).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let (code, detail) = (error.code(), error.to_string());
        match error {
            ServiceError::Invalid { field, detail } => Self::invalid_field(field, detail),
            ServiceError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, code, detail),
            ServiceError::Conflict(_) => Self::new(StatusCode::CONFLICT, code, detail),
            ServiceError::Busy { retry_after_s } => Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail).retry(retry_after_s.max(1)),
            ServiceError::NotReady(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry(1),
            ServiceError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry(5),
            ServiceError::Internal(_) => Self::internal(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_the_service_has_its_status_and_keeps_its_code() {
        let text = String::from("x");
        let cases = [
            (ServiceError::Invalid { field: "cursor", detail: text.clone() }, 400, None),
            (ServiceError::NotFound(text.clone()), 404, None),
            (ServiceError::Conflict(text.clone()), 409, None),
            (ServiceError::Busy { retry_after_s: 0 }, 429, Some(1)),
            (ServiceError::NotReady(text.clone()), 503, Some(1)),
            (ServiceError::Unavailable(text.clone()), 503, Some(5)),
            (ServiceError::Internal(text), 500, None),
        ];
        for (error, status, retry) in cases {
            let code = error.code();
            let api = ApiError::from(error);
            assert_eq!((api.status.as_u16(), api.code, api.retry_after_s), (status, code, retry));
        }
    }

    #[test]
    fn an_internal_error_tells_the_client_nothing() {
        let api = ApiError::from(ServiceError::Internal("/secret/path is broken".into()));
        assert!(!api.detail.contains("secret"));
    }

    #[test]
    fn the_validation_status_is_a_setting_and_nothing_else_moves() {
        let invalid = ApiError::invalid_field("limit", "must be an integer");
        assert_eq!(invalid.render("r", 400).status(), 400);
        assert_eq!(invalid.render("r", 422).status(), 422);
        assert_eq!(ApiError::not_found("x").render("r", 422).status(), 404);
        let busy = ApiError::from(ServiceError::Busy { retry_after_s: 7 }).render("r", 400);
        assert_eq!(busy.headers()[header::RETRY_AFTER], "7");
    }
}
