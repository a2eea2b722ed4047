//! Batches to the operation that takes such rows. Every row carries its identity, so a batch whose reply was lost can be sent again.
//!
//! 429, 500, 502, 503, 504 and broken connections are tried again after the server's `Retry-After`, else after 100 ms, doubled
//! each time; anything else ends the run.

use super::{Endpoint, Format, GenerateError, GenerateOptions, Generated, Report};
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde::Deserialize;
use std::time::Duration;
use tokio::task::JoinSet;

const RETRY_WAIT_MIN: Duration = Duration::from_millis(100);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Http {
    request: Request,
    under_way: JoinSet<Result<Report, GenerateError>>,
    requests_max: usize,
    /// How a body begins.
    head: String,
    body: String,
    rows: u64,
    report: Report,
}

/// What every request needs.
#[derive(Clone)]
struct Request {
    client: reqwest::Client,
    method: reqwest::Method,
    url: String,
    token: Option<String>,
    retries_max: u32,
    retry_wait_max: Duration,
}

/// The part of the reply that is counted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reply {
    #[serde(alias = "accepted")]
    inserted: u64,
    duplicates: u64,
    rejected: Vec<serde::de::IgnoredAny>,
}

impl Http {
    pub fn new(base: &str, endpoint: Endpoint, options: &GenerateOptions) -> Result<Self, GenerateError> {
        let client = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build();
        let client = client.map_err(|e| GenerateError::Option { option: "to", detail: e.to_string() })?;
        Ok(Self {
            request: Request {
                client,
                method: endpoint.method,
                url: format!("{base}{}", endpoint.path),
                token: options.token.clone(),
                retries_max: options.retries_max,
                retry_wait_max: options.retry_wait_max,
            },
            under_way: JoinSet::new(),
            requests_max: options.requests_max,
            head: format!("{{\"{}\":[", endpoint.field),
            body: String::new(),
            rows: 0,
            report: Report::default(),
        })
    }

    pub fn push<E: Generated>(&mut self, row: &E) {
        self.body.push_str(if self.body.is_empty() { &self.head } else { "," });
        row.json(Format::Desireline, &mut self.body);
        self.rows += 1;
    }

    /// Hands the batch over; waits only while too many requests are under way.
    pub async fn flush(&mut self) -> Result<(), GenerateError> {
        if self.rows == 0 {
            return Ok(());
        }
        while self.under_way.len() >= self.requests_max {
            self.settle().await?;
        }
        let mut body = std::mem::take(&mut self.body);
        body.push_str("]}");
        let rows = std::mem::take(&mut self.rows);
        let request = self.request.clone();
        self.under_way.spawn(async move { request.deliver(Bytes::from(body), rows).await });
        // What is done already is counted, and a failure ends the run at once.
        while let Some(done) = self.under_way.try_join_next() {
            self.count(done)?;
        }
        Ok(())
    }

    pub async fn finish(mut self) -> Result<Report, GenerateError> {
        self.flush().await?;
        while !self.under_way.is_empty() {
            self.settle().await?;
        }
        Ok(self.report)
    }

    async fn settle(&mut self) -> Result<(), GenerateError> {
        match self.under_way.join_next().await {
            Some(done) => self.count(done),
            None => Ok(()),
        }
    }

    fn count(&mut self, done: Result<Result<Report, GenerateError>, tokio::task::JoinError>) -> Result<(), GenerateError> {
        let one = done.unwrap_or_else(|e| Err(GenerateError::Unreachable { attempts: 1, last: e.to_string() }))?;
        self.report.rows += one.rows;
        self.report.bytes += one.bytes;
        self.report.retries += one.retries;
        self.report.inserted += one.inserted;
        self.report.duplicates += one.duplicates;
        self.report.rejected += one.rejected;
        Ok(())
    }
}

impl Request {
    async fn deliver(&self, body: Bytes, rows: u64) -> Result<Report, GenerateError> {
        let mut retries = 0;
        loop {
            let (wait, last) = match self.send(body.clone()).await {
                Ok(response) if response.status().is_success() => match response.bytes().await {
                    Ok(text) => return Ok(report(&text, rows, body.len() as u64, u64::from(retries))),
                    // Taken or not: the event ids make a second time harmless.
                    Err(error) => (None, error.to_string()),
                },
                Ok(response) => {
                    let status = response.status().as_u16();
                    let wait = retry_after(response.headers());
                    let text = response.text().await.unwrap_or_default();
                    if !matches!(status, 429 | 500 | 502 | 503 | 504) {
                        return Err(GenerateError::Refused { status, body: text.chars().take(500).collect() });
                    }
                    (wait, format!("status {status}"))
                }
                Err(error) => (None, error.to_string()),
            };
            if retries == self.retries_max {
                return Err(GenerateError::Unreachable { attempts: retries + 1, last });
            }
            let doubled = RETRY_WAIT_MIN.saturating_mul(1u32.checked_shl(retries).unwrap_or(u32::MAX));
            tokio::time::sleep(wait.unwrap_or(doubled).min(self.retry_wait_max)).await;
            retries += 1;
        }
    }

    async fn send(&self, body: Bytes) -> Result<reqwest::Response, reqwest::Error> {
        let mut request = self.client.request(self.method.clone(), &self.url).header(CONTENT_TYPE, "application/json").body(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request.send().await
    }
}

fn report(text: &[u8], rows: u64, bytes: u64, retries: u64) -> Report {
    let reply: Reply = serde_json::from_slice(text).unwrap_or_default();
    Report { rows, bytes, retries, inserted: reply.inserted, duplicates: reply.duplicates, rejected: reply.rejected.len() as u64 }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
