//! A client of a running server, for commands that talk to one.

use super::failure::{Exit, Failure};
use clap::Args;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use std::time::Duration;

/// Flags of every command that talks to a server.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// Access token, for servers that want one
    #[arg(long, env = "DESIRELINE_TOKEN", hide_env_values = true, value_name = "SECRET")]
    pub token: Option<String>,
}

pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Tries of a request that the server is too busy for, or that does not reach it.
const TRIES: u32 = 30;
/// The longest pause between two of them.
const PAUSE_MAX: Duration = Duration::from_secs(10);

impl Client {
    pub fn new(args: &ServerArgs) -> Result<Self, Failure> {
        let url = url::Url::parse(&args.url).ok().filter(|url| url.scheme() == "http" && url.has_host());
        let Some(url) = url else {
            return Err(Failure::new(Exit::Failed, format!("`{}` is not the address of a server", args.url))
                .hint("write http://HOST:PORT; a server that speaks HTTPS is reached through a local proxy"));
        };
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT).build();
        let http = http.map_err(|error| Failure::new(Exit::Failed, "no HTTP client could be made").detail(error))?;
        Ok(Self { http, base: url.as_str().trim_end_matches('/').to_owned(), token: args.token.clone() })
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether the server runs on this machine, as far as its address tells.
    pub fn is_local(&self) -> bool {
        let host = url::Url::parse(&self.base).ok().and_then(|url| url.host_str().map(str::to_owned));
        host.is_some_and(|host| host == "localhost" || host == "[::1]" || host.starts_with("127."))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        let response = self.send(|| self.request(Method::GET, path)).await?;
        self.json(response).await
    }

    /// The answer and the header `header` of the response.
    pub async fn post(&self, path: &str, body: &Value, header: &str) -> Result<(Value, Option<String>), Failure> {
        let response = self.send(|| self.request(Method::POST, path).json(body)).await?;
        let found = response.headers().get(header).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((self.json(response).await?, found))
    }

    /// One JSON value per line. A batch of which nothing was acceptable is an answer, too.
    pub async fn post_lines(&self, path: &str, body: bytes::Bytes) -> Result<Value, Failure> {
        let build = || self.request(Method::POST, path).header("content-type", "application/x-ndjson").body(body.clone());
        let response = self.send(build).await?;
        if response.status() == StatusCode::BAD_REQUEST {
            let value: Value = response.json().await.unwrap_or_default();
            return match value.get("rejected") {
                Some(_) => Ok(value),
                None => Err(self.refused(StatusCode::BAD_REQUEST, &value)),
            };
        }
        self.json(response).await
    }

    /// Tries again for as long as the server is busy or starting, or the connection fails.
    async fn send(&self, build: impl Fn() -> RequestBuilder) -> Result<Response, Failure> {
        let mut pause = Duration::from_millis(100);
        for attempt in 1.. {
            let outcome = build().send().await;
            let wait = match &outcome {
                Ok(response) if matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => {
                    let asked = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                    Some(asked.map_or(pause, Duration::from_secs).min(PAUSE_MAX))
                }
                Ok(_) => None,
                // Nobody has ever listened there, most likely.
                Err(error) if error.is_connect() && attempt >= 3 => None,
                Err(_) => Some(pause),
            };
            match (wait, outcome) {
                (Some(wait), _) if attempt < TRIES => tokio::time::sleep(wait).await,
                (_, Ok(response)) => return Ok(response),
                (_, Err(error)) => return Err(self.unreachable(&error)),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
        unreachable!("the loop returns at the last try")
    }

    async fn json(&self, response: Response) -> Result<Value, Failure> {
        let status = response.status();
        let value: Value = response.json().await.unwrap_or_default();
        if status.is_success() { Ok(value) } else { Err(self.refused(status, &value)) }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        Failure::new(Exit::Unavailable, format!("no server answers at {}", self.base))
            .detail(error)
            .hint("start one with `desireline serve`, name another with --url, or work offline on its folder with --data DIR")
    }

    fn refused(&self, status: StatusCode, body: &Value) -> Failure {
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let exit = if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS { Exit::Unavailable } else { Exit::Failed };
        let mut failure = Failure::new(exit, format!("the server answered {}", status.as_u16()));
        let lines = [text("detail"), text("code"), text("request_id")];
        for (label, line) in ["", "code: ", "request: "].iter().zip(lines).filter(|(_, line)| !line.is_empty()) {
            failure = failure.detail(format!("{label}{line}"));
        }
        match status {
            StatusCode::UNAUTHORIZED => failure.hint("give a token with --token or DESIRELINE_TOKEN"),
            StatusCode::FORBIDDEN => failure.hint("the token lacks a scope"),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Json;
    use axum::extract::State;
    use axum::response::IntoResponse;
    use axum::routing::get;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn args(url: &str) -> ServerArgs {
        ServerArgs { url: url.to_owned(), token: Some("t".into()) }
    }

    #[test]
    fn addresses() {
        for url in ["", "https://a", "ftp://a", "a:8000", "http://"] {
            assert_eq!(Client::new(&args(url)).err().map(|failure| failure.exit), Some(Exit::Failed), "{url}");
        }
        for (url, local) in [("http://127.0.0.1:8000/", true), ("http://localhost", true), ("http://[::1]:1", true), ("http://a.b", false)]
        {
            assert_eq!(Client::new(&args(url)).map(|client| client.is_local()).ok(), Some(local), "{url}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_unavailable() {
        // Port 9 of the loopback is the discard service, which nobody runs.
        let client = Client::new(&args("http://127.0.0.1:9")).expect("an address");
        let failure = client.get("/health").await.expect_err("nobody");
        assert_eq!(failure.exit, Exit::Unavailable);
    }

    #[tokio::test]
    async fn a_busy_server_is_asked_again_and_a_refusal_is_told() {
        let calls = Arc::new(AtomicU32::new(0));
        let busy = |State(calls): State<Arc<AtomicU32>>| async move {
            match calls.fetch_add(1, Ordering::Relaxed) {
                0 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")], "{}").into_response(),
                _ => Json(serde_json::json!({"ok": true})).into_response(),
            }
        };
        let denied = || async { (StatusCode::UNAUTHORIZED, Json(serde_json::json!({"detail": "who?", "code": "unauthenticated"}))) };
        let app = axum::Router::new().route("/busy", get(busy)).route("/denied", get(denied)).with_state(calls.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let client = Client::new(&args(&format!("http://{address}"))).expect("an address");
        assert_eq!(client.get("/busy").await.expect("the second time")["ok"], true);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        let failure = client.get("/denied").await.expect_err("denied");
        assert!(failure.primary.contains("401") && failure.detail[0] == "who?", "{failure:?}");
        assert!(failure.hint.is_some_and(|hint| hint.contains("--token")));
        server.abort();
    }
}
