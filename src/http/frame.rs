//! What surrounds every request: its id, its log line, its metrics, its deadline, the form of its errors, and a net for panics.
//!
//! The log line names the route's template and never the raw path or query: user ids stand in paths, and a log must not
//! outlive an erasure.

use super::AppState;
use super::error::ApiError;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use desireline_records::time;
use ecow::EcoString;
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};
use tracing::Instrument;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const AS_OF: HeaderName = HeaderName::from_static("x-desireline-as-of");

/// The outermost layer.
pub(super) async fn frame(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = sane_id(request.headers()).unwrap_or_else(|| state.ids.make(time::now_micros()));
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let span = tracing::info_span!("request", request_id = %id);
    state.metrics.request_began();
    let response = guarded(&state, &route, request, next).instrument(span.clone()).await;
    let response = span.in_scope(|| finish(&state, response, &method, &id));
    let (status, took) = (response.status(), began.elapsed());
    state.metrics.request_ended(method_word(&method), &route, status.as_u16(), took);
    let took_ms = took.as_secs_f64() * 1e3;
    tracing::info!(target: "desireline::access", request_id = %id, method = method_word(&method), route, status = status.as_u16(), took_ms, "answered");
    response
}

/// Methods are labels of metrics: a client must not be able to invent them.
fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

fn sane_id(headers: &HeaderMap) -> Option<EcoString> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    let is_sane = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    is_sane.then(|| text.into())
}

/// The number of requests, their time and their panics are bounded here.
async fn guarded(state: &AppState, route: &str, request: Request, next: Next) -> Response {
    // Probes must get through a server that is busy.
    let is_probe = matches!(route, "/health" | "/ready" | "/api/health" | "/metrics");
    let permit = state.permits.clone().try_acquire_owned().ok();
    if permit.is_none() && !is_probe {
        state.metrics.refused();
        return ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "too many requests are under way")
            .retry(1)
            .into_response();
    }
    let deadline = state.config.request_timeout;
    match tokio::time::timeout(deadline, AssertUnwindSafe(next.run(request)).catch_unwind()).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            state.metrics.panicked();
            let what = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
            ApiError::internal(format!("a handler panicked: {}", what.unwrap_or_default())).into_response()
        }
        Err(_) => {
            state.metrics.timed_out();
            timeout_error(deadline).into_response()
        }
    }
}

pub(super) fn timeout_error(deadline: Duration) -> ApiError {
    let detail = format!("no answer within {} s", deadline.as_secs_f64());
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", detail).retry(1)
}

/// Brings errors into their form and sets the headers that every answer has.
fn finish(state: &AppState, mut response: Response, method: &Method, id: &str) -> Response {
    let error = response.extensions_mut().remove::<ApiError>();
    let is_foreign = error.is_none() && (response.status().is_client_error() || response.status().is_server_error()) && !is_json(&response);
    if let Some(error) = error.or_else(|| is_foreign.then(|| ApiError::of_status(response.status()))) {
        let mut rendered = error.render(id, state.config.validation_status);
        for (name, value) in response.headers() {
            if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE {
                rendered.headers_mut().insert(name.clone(), value.clone());
            }
        }
        if method == Method::HEAD {
            *rendered.body_mut() = axum::body::Body::empty();
        }
        response = rendered;
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
    let defaults = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in defaults {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn is_json(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|text| text.starts_with("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sane_request_ids_are_taken_over() {
        let id = |text: &str| sane_id(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_bytes(text.as_bytes()).expect("a value"))]));
        assert_eq!(id("abc-1_2.3:4").as_deref(), Some("abc-1_2.3:4"));
        for refused in ["", "a b", "ä", "a\"b", &"x".repeat(65)] {
            assert_eq!(id(refused), None, "{refused}");
        }
        assert_eq!(sane_id(&HeaderMap::new()), None);
    }

    #[test]
    fn invented_methods_are_one_label() {
        assert_eq!(method_word(&Method::from_bytes(b"BREW").expect("a token")), "OTHER");
        assert_eq!(method_word(&Method::DELETE), "DELETE");
    }
}
