//! Who may do what: names, origins, tokens.
//!
//! Three checks stand before every handler, in this order:
//! 1. `Host` must be a name of ours. On a loopback address that is what keeps a web page whose name was re-pointed to
//!    127.0.0.1 (DNS rebinding) away from the API.
//! 2. A change (anything but GET, HEAD, OPTIONS) with an `Origin` must come from a page of ours or from an origin that the
//!    CORS setting names. Clients that are no browsers send none.
//! 3. When tokens are configured, the route's scope must be among those of the bearer token.
//!
//! Known limitation: without tokens every local user of the machine may do everything, as with any loopback service.

use super::AppState;
use super::config::{AccessConfig, HttpConfig, Scope};
use super::error::ApiError;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Checks 1 and 2.
pub(super) async fn check_names(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match check_host(&state.config, &request).and_then(|host| check_origin(&state.config, &request, &host)) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn is_loopback_name(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The authority by which the client called us.
fn check_host(config: &HttpConfig, request: &Request) -> Result<Authority, ApiError> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "host_missing", "the Host header is given twice"));
    }
    let named = match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => host.and_then(|value| value.to_str().ok()),
    };
    let Some(named) = named else {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "host_missing", "the Host header is missing"));
    };
    let authority: Authority =
        named.parse().map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "host_missing", "the Host header cannot be read"))?;
    let host = authority.host();
    let is_ours = is_loopback_name(host) || config.access.hosts.iter().any(|name| name.eq_ignore_ascii_case(host));
    let is_open = config.access.hosts.is_empty() && !listens_on_loopback_only(config);
    if is_ours || is_open {
        Ok(authority)
    } else {
        Err(ApiError::forbidden("host_refused", "this server does not answer under this name; see the setting of accepted hosts"))
    }
}

fn listens_on_loopback_only(config: &HttpConfig) -> bool {
    config.listen.ip().is_loopback() && config.second_listen.is_none_or(|address| address.ip().is_loopback())
}

fn check_origin(config: &HttpConfig, request: &Request, host: &Authority) -> Result<(), ApiError> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let is_own = origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host.as_str()));
    if is_own || config.cors.origins.iter().any(|allowed| allowed == "*" || allowed == origin) {
        return Ok(());
    }
    Err(ApiError::forbidden("origin_refused", "a page of another origin may not change anything here; see the CORS setting"))
}

/// Check 3, for one scope.
pub(super) async fn require(State((state, scope)): State<(AppState, Scope)>, request: Request, next: Next) -> Response {
    match check_token(&state.config.access, request.headers(), scope) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check_token(access: &AccessConfig, headers: &HeaderMap, scope: Scope) -> Result<(), ApiError> {
    if access.tokens.is_empty() {
        return Ok(());
    }
    let unauthenticated = |detail| Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail));
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return unauthenticated("a bearer token is needed");
    };
    let text = value.to_str().unwrap_or_default();
    let Some(secret) = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, secret)| secret.trim())
    else {
        return unauthenticated("a bearer token is needed");
    };
    match access.find(secret) {
        None => unauthenticated("the token is not known"),
        Some(token) if token.permits(scope) => Ok(()),
        Some(_) => Err(ApiError::forbidden("forbidden", format!("the token lacks the scope `{}`", scope.word()))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{AccessToken, CorsConfig};
    use super::*;
    use axum::body::Body;
    use std::net::SocketAddr;

    fn request(method: Method, host: &str, origin: Option<&str>) -> Request {
        let mut builder = Request::builder().method(method).uri("/api/status").header(header::HOST, host);
        if let Some(origin) = origin {
            builder = builder.header(header::ORIGIN, origin);
        }
        builder.body(Body::empty()).expect("a request")
    }

    fn host_code(config: &HttpConfig, host: &str) -> Result<(), &'static str> {
        check_host(config, &request(Method::GET, host, None)).map(drop).map_err(|e| e.code)
    }

    #[test]
    fn a_loopback_server_answers_to_loopback_names_only() {
        let config = HttpConfig::default();
        for host in ["localhost", "localhost:8000", "LOCALHOST:1", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000", "[::1]"] {
            assert_eq!(host_code(&config, host), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "user@evil.example"]
        {
            assert_eq!(host_code(&config, host), Err("host_refused"), "{host}");
        }
        assert_eq!(host_code(&config, "a b"), Err("host_missing"));
        let bare = Request::builder().uri("/").body(Body::empty()).expect("a request");
        assert_eq!(check_host(&config, &bare).map(drop).map_err(|e| e.code), Err("host_missing"));
        let mut twice = request(Method::GET, "localhost", None);
        twice.headers_mut().append(header::HOST, header::HeaderValue::from_static("localhost"));
        assert_eq!(check_host(&config, &twice).map(drop).map_err(|e| e.code), Err("host_missing"), "which one is meant?");
    }

    #[test]
    fn configured_hosts_are_ours_and_elsewhere_any_name_is_when_none_are_given() {
        let mut config = HttpConfig::default();
        config.access.hosts = vec!["shop.example".into()];
        assert_eq!(host_code(&config, "Shop.Example:443"), Ok(()));
        let mut open = HttpConfig { listen: SocketAddr::from(([0, 0, 0, 0], 8000)), ..HttpConfig::default() };
        assert_eq!(host_code(&open, "anything.example"), Ok(()));
        open.access.hosts = vec!["shop.example".into()];
        assert_eq!(host_code(&open, "anything.example"), Err("host_refused"));
        assert_eq!(host_code(&open, "shop.example"), Ok(()));
    }

    #[test]
    fn a_foreign_page_cannot_change_anything() {
        let mut config = HttpConfig::default();
        let check = |config: &HttpConfig, method: Method, origin: Option<&str>| {
            let request = request(method, "localhost:8000", origin);
            let host = check_host(config, &request).expect("ours");
            check_origin(config, &request, &host).map_err(|e| e.code)
        };
        assert_eq!(check(&config, Method::POST, None), Ok(()));
        assert_eq!(check(&config, Method::POST, Some("http://localhost:8000")), Ok(()));
        for origin in ["http://evil.example", "null", "http://localhost:9999", "localhost:8000", ""] {
            assert_eq!(check(&config, Method::POST, Some(origin)), Err("origin_refused"), "{origin}");
            assert_eq!(check(&config, Method::DELETE, Some(origin)), Err("origin_refused"), "{origin}");
        }
        assert_eq!(check(&config, Method::GET, Some("http://evil.example")), Ok(()), "reading is the browser's business");
        config.cors = CorsConfig { origins: vec!["https://shop.example".into()] };
        assert_eq!(check(&config, Method::POST, Some("https://shop.example")), Ok(()));
        assert_eq!(check(&config, Method::POST, Some("https://shop.example.evil")), Err("origin_refused"));
    }

    #[test]
    fn tokens_are_demanded_once_there_are_any() {
        let open = AccessConfig::default();
        assert!(check_token(&open, &HeaderMap::new(), Scope::Admin).is_ok());
        let token = AccessToken { name: "tracker".into(), hash: AccessToken::hash_of("s3cret"), scopes: vec![Scope::Ingest] };
        let access = AccessConfig { tokens: vec![token], hosts: vec![] };
        let with = |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().expect("a header value"))]);
        let code = |headers: &HeaderMap, scope| check_token(&access, headers, scope).map_err(|e| (e.status.as_u16(), e.code));
        assert_eq!(code(&with("Bearer s3cret"), Scope::Ingest), Ok(()));
        assert_eq!(code(&with("bearer  s3cret"), Scope::Ingest), Ok(()));
        assert_eq!(code(&with("Bearer s3cret"), Scope::Read), Err((403, "forbidden")));
        for headers in [HeaderMap::new(), with("Bearer wrong"), with("Bearer"), with("Basic s3cret"), with("s3cret"), with("Bearer ")] {
            assert_eq!(code(&headers, Scope::Ingest), Err((401, "unauthenticated")), "{headers:?}");
        }
    }
}
