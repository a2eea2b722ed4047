//! The settings of the HTTP interface, validated and complete. The file format and its defaults live in `crate::config`.
//!
//! Every number here is a limit on something that can grow; a request that meets one is answered with a documented status,
//! never dropped in silence.

use crate::rerank::RerankConfig;
use desireline_records::SourceId;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// Everything about listening, limits and access.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    pub listen: SocketAddr,
    /// A second address that serves the same paths, for clients that expect another port.
    pub second_listen: Option<SocketAddr>,
    pub tls: Option<TlsFiles>,
    pub access: AccessConfig,
    pub cors: CorsConfig,
    /// Largest body as sent, in bytes.
    pub body_bytes_max: usize,
    /// Largest body after decompression, in bytes.
    pub decoded_body_bytes_max: usize,
    /// Most events in one `POST /api/ingest-batch`.
    pub batch_events_max: usize,
    /// Most sessions in one `POST /api/wifi-sessions`.
    pub batch_sessions_max: usize,
    /// Above this, the `limit` of a listing is lowered to it.
    pub page_max: usize,
    /// The status of an ill-formed or invalid request: 400, or 422 for clients of services that answered so.
    pub validation_status: u16,
    /// From the first byte of the head to the answer; above it 503.
    pub request_timeout: Duration,
    /// From the connection's first byte to the end of the request's head.
    pub header_timeout: Duration,
    /// Requests under way at once; above it 429.
    pub requests_max: usize,
    /// Open connections; further ones are closed at once.
    pub connections_max: usize,
    /// How long a shutdown waits for requests under way.
    pub shutdown_grace: Duration,
    pub live: LiveConfig,
    pub interactions: InteractionsConfig,
    pub rerank: RerankConfig,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            second_listen: None,
            tls: None,
            access: AccessConfig::default(),
            cors: CorsConfig::default(),
            body_bytes_max: 16 << 20,
            decoded_body_bytes_max: 64 << 20,
            batch_events_max: 10_000,
            batch_sessions_max: 10_000,
            page_max: 10_000,
            validation_status: 400,
            request_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(30),
            requests_max: 512,
            connections_max: 2_048,
            shutdown_grace: Duration::from_secs(10),
            live: LiveConfig::default(),
            interactions: InteractionsConfig::default(),
            rerank: RerankConfig::default(),
        }
    }
}

/// PEM files: the certificate chain and its private key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Which other web pages may read answers.
#[derive(Clone, Debug, Default)]
pub struct CorsConfig {
    /// Origins like `https://shop.example`; `*` allows every one (without credentials). Empty: none.
    pub origins: Vec<String>,
}

/// Limits of `GET /api/live`.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    pub subscribers_max: usize,
    /// How often the views are looked at while anybody watches.
    pub poll_every: Duration,
    /// Frames a slow subscriber may lag behind before it is resynchronised.
    pub queue_frames: usize,
    /// Cells in a snapshot of the minutes, the newest windows first to be kept.
    pub cells_max: usize,
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self { subscribers_max: 256, poll_every: Duration::from_millis(250), queue_frames: 64, cells_max: 20_000 }
    }
}

/// What a shop's users do, and the shop's catalog.
#[derive(Clone, Debug)]
pub struct InteractionsConfig {
    /// The source that interactions are events of.
    pub source: SourceId,
    /// An event of an item or a user that the catalog does not know becomes a dead letter.
    pub reject_unknown: bool,
    /// The time of an event is its `metadata.timestamp` where that is valid.
    pub event_time: bool,
    /// How long an answer waits for Redis to have the event; absent where nothing is kept in Redis.
    pub redis_wait: Option<Duration>,
    /// Most entries in one request that changes the catalog.
    pub catalog_entries_max: usize,
}

impl Default for InteractionsConfig {
    fn default() -> Self {
        Self { source: 1_000, reject_unknown: false, event_time: false, redis_wait: None, catalog_entries_max: 100_000 }
    }
}

/// What a token permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Send events.
    Ingest,
    /// Query, watch, scrape.
    Read,
    /// Everything.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Ingest, Self::Read, Self::Admin];

    pub fn word(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.word() == word)
    }
}

/// One access token: only its SHA-256 is kept.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// Stands in logs; never the secret.
    pub name: String,
    pub hash: [u8; 32],
    pub scopes: Vec<Scope>,
}

impl AccessToken {
    /// The SHA-256 that stands in the configuration for a secret.
    pub fn hash_of(secret: &str) -> [u8; 32] {
        Sha256::digest(secret.as_bytes()).into()
    }

    /// Reads 64 hex digits.
    pub fn parse_hash(text: &str) -> Option<[u8; 32]> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(hash)
    }

    pub fn permits(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

/// Who may do what, and under which names the server is reached.
#[derive(Clone, Debug, Default)]
pub struct AccessConfig {
    /// Without any, everybody who can connect may do everything; `crate::config` allows that on loopback, or by `--insecure`.
    pub tokens: Vec<AccessToken>,
    /// Names (without port) in `Host` that are ours besides the loopback ones. On a loopback address no other name is accepted;
    /// elsewhere every name is, unless some are given here.
    pub hosts: Vec<String>,
}

impl AccessConfig {
    /// The token with this secret. Every configured token is compared, each in constant time.
    pub fn find(&self, secret: &str) -> Option<&AccessToken> {
        let hash = AccessToken::hash_of(secret);
        let mut found = None;
        for token in &self.tokens {
            if bool::from(token.hash.ct_eq(&hash)) {
                found = Some(token);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_secret_alone() {
        let token = |name: &str, secret| AccessToken { name: name.into(), hash: AccessToken::hash_of(secret), scopes: vec![Scope::Read] };
        let access = AccessConfig { tokens: vec![token("a", "one"), token("b", "two")], hosts: vec![] };
        assert_eq!(access.find("two").map(|t| t.name.as_str()), Some("b"));
        assert!(access.find("three").is_none());
        assert!(access.find("").is_none());
    }

    #[test]
    fn a_hash_is_64_hex_digits() {
        let hash = AccessToken::hash_of("desire");
        let text: String = hash.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(AccessToken::parse_hash(&text), Some(hash));
        assert_eq!(AccessToken::parse_hash(&text[1..]), None);
        assert_eq!(AccessToken::parse_hash(&text.replace('a', "+")), if text.contains('a') { None } else { Some(hash) });
        assert_eq!(AccessToken::parse_hash(&"é".repeat(32)), None);
    }

    #[test]
    fn admin_contains_the_other_scopes() {
        let token = |scopes: &[Scope]| AccessToken { name: String::new(), hash: [0; 32], scopes: scopes.to_vec() };
        for scope in Scope::ALL {
            assert!(token(&[Scope::Admin]).permits(scope));
            assert_eq!(Scope::from_word(scope.word()), Some(scope));
        }
        assert!(!token(&[Scope::Ingest]).permits(Scope::Read));
        assert!(!token(&[Scope::Read, Scope::Ingest]).permits(Scope::Admin));
        assert_eq!(Scope::from_word("root"), None);
    }
}
