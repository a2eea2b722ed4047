//! Bodies: their content type, their size before and after decompression, and nothing about their meaning.
//!
//! A change that a web page could ask for without the browser asking us first (a "simple" request) must not be possible, so
//! every body has to be declared as JSON or NDJSON; forms and plain text are refused.

use super::AppState;
use super::error::ApiError;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use futures::StreamExt;
use std::io::Read;

/// How the events of a body are set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    Json,
    Ndjson,
}

/// A whole JSON (or NDJSON) body within the limits, decompressed.
#[derive(Debug)]
pub struct DataBody {
    pub kind: BodyKind,
    pub bytes: Bytes,
}

/// Likewise, but JSON only.
#[derive(Debug)]
pub struct JsonBody(pub Bytes);

impl FromRequest<AppState> for DataBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let kind = content_kind(request.headers())?;
        let gzip = is_gzip(request.headers())?;
        let bytes = collect(request, state.config.body_bytes_max).await?;
        let bytes = if gzip { gunzip(bytes, state.config.decoded_body_bytes_max).await? } else { bytes };
        Ok(Self { kind, bytes })
    }
}

impl FromRequest<AppState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let body = DataBody::from_request(request, state).await?;
        match body.kind {
            BodyKind::Json => Ok(Self(body.bytes)),
            BodyKind::Ndjson => Err(ApiError::unsupported("only application/json is taken here")),
        }
    }
}

/// Bodies up to this size are read on the thread that received them.
const INLINE_BYTES_MAX: usize = 32 << 10;

/// Reads a body of so many bytes; a large one on a blocking thread, so that it delays nobody's query.
pub(super) async fn reading<T: Send + 'static>(bytes: usize, read: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    if bytes <= INLINE_BYTES_MAX {
        return Ok(read());
    }
    tokio::task::spawn_blocking(read).await.map_err(ApiError::internal)
}

/// For operations that need no body: whatever is sent must at least not be a form.
#[derive(Debug)]
pub struct NoBody;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            content_kind(request.headers())?;
        }
        Ok(Self)
    }
}

fn content_kind(headers: &HeaderMap) -> Result<BodyKind, ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Err(ApiError::unsupported("the content type is missing; application/json is expected"));
    };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Ok(BodyKind::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(BodyKind::Ndjson),
        subtype if subtype.starts_with("application/") && subtype.ends_with("+json") => Ok(BodyKind::Json),
        _ => Err(ApiError::unsupported("application/json is expected")),
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, ApiError> {
    match headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or_default().trim().to_ascii_lowercase()) {
        None => Ok(false),
        Some(encoding) if encoding == "identity" || encoding.is_empty() => Ok(false),
        Some(encoding) if encoding == "gzip" || encoding == "x-gzip" => Ok(true),
        Some(_) => Err(ApiError::unsupported("the only content encoding taken is gzip")),
    }
}

async fn collect(request: Request, bytes_max: usize) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::too_large(format!("a body may have at most {bytes_max} bytes"));
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|bytes| bytes > bytes_max) {
        return Err(too_large());
    }
    let mut stream = Body::into_data_stream(request.into_body());
    let mut whole: Option<BytesMut> = None;
    let mut first = Bytes::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| ApiError::malformed("the body ended early"))?;
        let sofar = whole.as_ref().map_or(first.len(), BytesMut::len);
        if sofar + chunk.len() > bytes_max {
            return Err(too_large());
        }
        if first.is_empty() && whole.is_none() {
            first = chunk;
            continue;
        }
        let capacity = declared.unwrap_or(sofar + chunk.len());
        let buffer = whole.get_or_insert_with(|| {
            let mut buffer = BytesMut::with_capacity(capacity);
            buffer.extend_from_slice(&first);
            buffer
        });
        buffer.extend_from_slice(&chunk);
    }
    Ok(whole.map_or(first, BytesMut::freeze))
}

async fn gunzip(bytes: Bytes, bytes_max: usize) -> Result<Bytes, ApiError> {
    let decode = move || {
        let mut decoded = Vec::with_capacity(bytes.len().saturating_mul(4).min(bytes_max));
        let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        MultiGzDecoder::new(bytes.as_ref())
            .take(limit)
            .read_to_end(&mut decoded)
            .map_err(|_| ApiError::malformed("the body is not gzip"))?;
        if decoded.len() > bytes_max {
            return Err(ApiError::too_large(format!("a body may have at most {bytes_max} bytes after decompression")));
        }
        Ok(Bytes::from(decoded))
    };
    tokio::task::spawn_blocking(decode).await.map_err(ApiError::internal)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().expect("a header value"))])
    }

    #[test]
    fn only_json_types_are_bodies() {
        let kind = |value: &str| content_kind(&headers(header::CONTENT_TYPE, value)).map_err(|e| e.status.as_u16());
        assert_eq!(kind("application/json"), Ok(BodyKind::Json));
        assert_eq!(kind("Application/JSON; charset=utf-8"), Ok(BodyKind::Json));
        assert_eq!(kind("application/cloudevents+json"), Ok(BodyKind::Json));
        assert_eq!(kind("application/x-ndjson"), Ok(BodyKind::Ndjson));
        for refused in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json+json", ""] {
            assert_eq!(kind(refused), Err(415), "{refused}");
        }
        assert!(content_kind(&HeaderMap::new()).is_err());
    }

    #[test]
    fn only_gzip_is_an_encoding() {
        assert_eq!(is_gzip(&headers(header::CONTENT_ENCODING, "gzip")), Ok(true));
        assert_eq!(is_gzip(&HeaderMap::new()), Ok(false));
        assert_eq!(is_gzip(&headers(header::CONTENT_ENCODING, "br")).map_err(|e| e.status.as_u16()), Err(415));
    }

    #[tokio::test]
    async fn a_bomb_is_stopped_at_the_limit() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![b' '; 1 << 20]).expect("memory");
        let bomb = Bytes::from(encoder.finish().expect("memory"));
        assert!(bomb.len() < 4_096);
        let error = gunzip(bomb.clone(), (1 << 20) - 1).await.expect_err("too large");
        assert_eq!(error.status, 413);
        assert_eq!(gunzip(bomb, 1 << 20).await.expect("fits").len(), 1 << 20);
        assert_eq!(gunzip(Bytes::from_static(b"plain"), 100).await.expect_err("not gzip").status, 400);
    }

    #[tokio::test]
    async fn bodies_in_pieces_are_joined_and_limited() {
        let pieces = || {
            let chunks: Vec<Result<Bytes, std::io::Error>> = vec![Ok("ab".into()), Ok("cd".into()), Ok("e".into())];
            Request::new(Body::from_stream(futures::stream::iter(chunks)))
        };
        assert_eq!(collect(pieces(), 5).await.expect("fits"), "abcde");
        assert_eq!(collect(pieces(), 4).await.expect_err("too large").status, 413);
        let mut lying = Request::new(Body::empty());
        lying.headers_mut().insert(header::CONTENT_LENGTH, "1000000".parse().expect("a number"));
        assert_eq!(collect(lying, 5).await.expect_err("declared too large").status, 413);
    }
}
