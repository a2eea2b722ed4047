//! A small blocking HTTP client for tests, over the same `reqwest` that the server has among its dependencies.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// A client of one server. May be shared between threads.
pub struct Http {
    base: String,
    token: Option<String>,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

/// A complete answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Http {
    /// A client whose paths are relative to `base`, for example `http://127.0.0.1:8000`.
    pub fn new(base: impl Into<String>) -> Http {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build();
        Http {
            base: base.into(),
            token: None,
            client: client.expect("the client's settings are valid"),
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be built"),
        }
    }

    /// Send a bearer token with every request.
    pub fn with_token(mut self, token: impl Into<String>) -> Http {
        self.token = Some(token.into());
        self
    }

    /// The full address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Send a request; `Err` when there is no complete answer (refused, reset, timed out).
    pub fn try_send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Reply, reqwest::Error> {
        let mut request = self.client.request(method, self.url(path)).body(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            request = request.header(name, HeaderValue::from_str(value).expect("a header value"));
        }
        self.runtime.block_on(async {
            let answer = request.send().await?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            Ok(Reply { status, headers, body: answer.bytes().await?.to_vec() })
        })
    }

    /// Send a request and demand an answer of any status.
    #[track_caller]
    pub fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
        let text = format!("{method} {path}");
        self.try_send(method, path, headers, body).unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], Vec::new())
    }

    /// `GET`, demand 200 and a JSON body.
    #[track_caller]
    pub fn get_json(&self, path: &str) -> Value {
        self.get(path).expect_status(200).json()
    }

    #[track_caller]
    pub fn post_json(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, &[("content-type", "application/json")], body.to_string().into_bytes())
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, &[], Vec::new())
    }

    /// Post NDJSON: one JSON value per line.
    #[track_caller]
    pub fn post_ndjson<'a>(&self, path: &str, rows: impl IntoIterator<Item = &'a Value>) -> Reply {
        let mut body = String::new();
        for row in rows {
            body.push_str(&row.to_string());
            body.push('\n');
        }
        self.send(Method::POST, path, &[("content-type", "application/x-ndjson")], body.into_bytes())
    }
}

impl Reply {
    /// Demand a status; a failure shows the body.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "unexpected status; the body is {}", self.text());
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    /// A header's value, empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}
