//! The dashboard: one page of hand-written ES modules and SVG, served from the binary at `/dashboard`.
//!
//! # What it promises
//!
//! * Nothing is fetched from anywhere but this server: a strict Content-Security-Policy allows only its own scripts,
//!   styles, images and connections, and no frame may hold the page.
//! * All files together stay under 120 kB as they are served, before any compression ([`ASSETS_BYTES_MAX`]). There is no build step:
//!   what is embedded is what runs, without its comments and the white space that means nothing (`compact`), which are taken out
//!   once, before the first file is served.
//! * Data never becomes markup: the modules make elements one by one and set text; a test refuses every call that
//!   would parse a string.
//! * Every file carries a strong ETag (the SHA-256 of the bytes served) and `Cache-Control: no-cache`: a browser asks each
//!   time and gets 304 until the binary changes, so a page never mixes modules of two versions for long.
//!
//! # How it works
//!
//! `GET /dashboard` is the page, `GET /dashboard/{file}` its files. They need no token: they hold no data. The page
//! reads the stream `GET /api/live` by `fetch` (so that it can send a token) and asks the query API for what the stream
//! does not carry. All addresses are relative, so a proxy may serve the server below a prefix. `docs/dashboard.md`
//! describes the modules.
//!
//! # Known limitations
//!
//! Throughput, latency and the other live charts start when the page is opened: the server keeps no history of its own
//! status.

use crate::http::ApiError;
use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

mod compact;

/// What the page may load and do. Applied to every file of the dashboard.
pub const CONTENT_SECURITY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The bound on the size of all files together as they are served, in bytes.
pub const ASSETS_BYTES_MAX: usize = 120_000;

#[derive(RustEmbed)]
#[folder = "src/dashboard/assets/"]
struct Assets;

/// A file as it is served.
struct Served {
    bytes: Bytes,
    /// A strong validator: the digest of the bytes.
    tag: String,
}

/// Every file of the page by its name.
static SERVED: LazyLock<BTreeMap<String, Served>> = LazyLock::new(|| {
    let served = |name: &str| {
        let source = Assets::get(name)?.data;
        let text = std::str::from_utf8(&source).ok()?;
        let bytes = Bytes::from(match name.rsplit('.').next() {
            Some("js") => compact::script(text),
            Some("css") => compact::style(text),
            Some("html" | "svg") => compact::markup(text),
            _ => text.to_owned(),
        });
        let tag = etag(&bytes);
        Some((name.to_owned(), Served { bytes, tag }))
    };
    Assets::iter().filter_map(|name| served(&name)).collect()
});

/// The routes of the dashboard, for any state: it needs none.
pub fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    Router::new()
        .route("/dashboard", get(|headers: HeaderMap| async move { serve("index.html", &headers) }))
        // The page's addresses are relative to `/dashboard`; relative, so that a prefix of a proxy is kept.
        .route("/dashboard/", get(|| async { (StatusCode::PERMANENT_REDIRECT, [(LOCATION, "../dashboard")]) }))
        .route("/dashboard/{*file}", get(|Path(file): Path<String>, headers: HeaderMap| async move { serve(&file, &headers) }))
}

fn serve(name: &str, headers: &HeaderMap) -> Response {
    let Some(file) = SERVED.get(name) else {
        return ApiError::not_found("there is no such file of the dashboard").into_response();
    };
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).is_some_and(|value| matches(value, &file.tag));
    let common = [
        (ETAG, file.tag.clone()),
        (CACHE_CONTROL, "no-cache".to_owned()),
        (CONTENT_SECURITY_POLICY, CONTENT_SECURITY.to_owned()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(CONTENT_TYPE, content_type(name))], file.bytes.clone()).into_response()
}

fn etag(bytes: &[u8]) -> String {
    let mut tag = String::with_capacity(34);
    tag.push('"');
    for byte in &Sha256::digest(bytes)[..16] {
        // Writing to a String cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}

/// `If-None-Match` compares weakly: `W/"x"` (as a compressing proxy writes it) matches `"x"`.
fn matches(header: &str, tag: &str) -> bool {
    header.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests;
