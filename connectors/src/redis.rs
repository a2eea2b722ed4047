//! Redis and Valkey: keys that one writer replaces as whole values.
//!
//! # What it promises
//! - **Whole values.** A key is replaced (type, elements and expiry together) by one script, so that no reader sees half of it, and
//!   writing the same again changes nothing. The keys of a [`Group`] are replaced together.
//! - **One writer.** Beside the keys stands a hash, the *state*: `definition`, `epoch`, `applied`, `complete`. Every script looks at it
//!   first: a newer epoch refuses the write ([`RedisError::Fenced`]); a state that is gone (FLUSHALL, a restart without persistence,
//!   eviction) or that records another time than this writer left (an old copy came back) refuses it, too ([`RedisError::Lost`]).
//! - **The time after the rows.** Up to [`GROUPS_PER_CALL`] groups are one script, in which the time is recorded with them. More are
//!   sent [`RedisConfig::pipeline_max`] groups at a time, and the time is recorded when all of them are there.
//! - **One round trip** for a small write, and nothing gathers or waits.
//! - **Bounded.** A connection and an answer have a time limit. A write that loses its connection is tried once more on a new one, if
//!   the state shows that nothing else has happened meanwhile; anything else is the caller's to repeat.
//!
//! Expiry is absolute. A key whose time has passed is not there after the write.
//!
//! Scripts are called by their hash; a server that has forgotten them (restart, `SCRIPT FLUSH`) is told them again.
//!
//! TLS (`rediss://`) trusts the certificates of the system. What is said about errors never contains the URL.
//!
//! # Known limitations
//! - No Redis Cluster: the keys of a script lie in different slots.
//! - Keys that a server evicts for want of memory are not missed, unless the state is among them.

mod error;

pub use error::RedisError;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, Pipeline, Script, cmd};
use std::time::Duration;

/// Groups that are replaced by one call of the script.
pub const GROUPS_PER_CALL: usize = 32;

/// Keys that one step of a scan looks at.
const SCAN_KEYS: usize = 1_000;

#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://` or, with TLS, `rediss://`. May contain a password.
    pub url: String,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
    /// Groups on their way at once.
    pub pipeline_max: usize,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The key is not there. So it is with an empty list or hash.
    Absent,
    Text(String),
    List(Vec<String>),
    Hash(Vec<(String, String)>),
}

/// A key as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: Value,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
}

impl Entry {
    pub fn absent(key: String) -> Self {
        Self { key, value: Value::Absent, expires_at_ms: 0 }
    }
}

/// Keys that are replaced together.
pub type Group = Vec<Entry>;

/// Where the keys stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Complete, up to this time.
    At(u64),
    /// Nothing that can be gone on with.
    Fresh,
}

/// The writer of some keys. It works from [`Writer::claim`] on, and after an error again from [`Writer::claim`] on.
pub struct Writer {
    client: Client,
    config: RedisConfig,
    state_key: String,
    claim: Script,
    write: Script,
    connection: Option<MultiplexedConnection>,
    claimed: Option<Claim>,
}

#[derive(Clone)]
struct Claim {
    definition: String,
    epoch: u64,
    /// As it is recorded.
    applied: u64,
    complete: bool,
}

impl Writer {
    /// Does not connect yet.
    pub fn new(config: RedisConfig, state_key: String) -> Result<Self, RedisError> {
        // What the client says of a URL it cannot read might repeat it.
        let client = Client::open(config.url.as_str()).map_err(|_| RedisError::Refused("the URL is not one of a Redis server".into()))?;
        if matches!(client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. }) {
            // The client takes the provider of the process. An error says that there is one already.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let claim = Script::new(include_str!("redis/claim.lua"));
        let write = Script::new(include_str!("redis/write.lua"));
        Ok(Self { client, config, state_key, claim, write, connection: None, claimed: None })
    }

    /// Connects anew and claims the keys for `epoch`.
    pub async fn claim(&mut self, definition: &str, epoch: u64) -> Result<Claimed, RedisError> {
        self.claimed = None;
        self.connection = None;
        self.connect().await?;
        let (word, value) = self.call_claim(definition, epoch).await?;
        let claimed = match word.as_str() {
            "at" => Claimed::At(error::number(&value)?),
            "fresh" => Claimed::Fresh,
            _ => return Err(RedisError::Fenced { newer: error::number(&value)? }),
        };
        let (applied, complete) = match claimed {
            Claimed::At(applied) => (applied, true),
            Claimed::Fresh => (0, false),
        };
        self.claimed = Some(Claim { definition: definition.to_owned(), epoch, applied, complete });
        Ok(claimed)
    }

    /// From here on the keys count as incomplete, until [`Writer::complete`].
    pub async fn begin(&mut self) -> Result<(), RedisError> {
        self.settled(&[], Some(0), Some(false)).await
    }

    /// Replaces keys, in order; then they are at `time`, if one is given.
    pub async fn write(&mut self, groups: &[Group], time: Option<u64>) -> Result<(), RedisError> {
        self.settled(groups, time, None).await
    }

    /// The keys are complete at `time`.
    pub async fn complete(&mut self, time: u64) -> Result<(), RedisError> {
        self.settled(&[], Some(time), Some(true)).await
    }

    /// Whether the state is as this writer left it.
    pub async fn check(&mut self) -> Result<(), RedisError> {
        self.settled(&[], None, None).await
    }

    /// One step through all keys that match a pattern: they, and where to go on; 0 begins, and is the answer at the end.
    pub async fn scan(&mut self, pattern: &str, cursor: u64) -> Result<(u64, Vec<Vec<u8>>), RedisError> {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_KEYS);
        Ok(scan.query_async(&mut self.connect().await?).await?)
    }

    /// Writes; a connection that breaks is replaced once.
    async fn settled(&mut self, groups: &[Group], time: Option<u64>, complete: Option<bool>) -> Result<(), RedisError> {
        let before = self.claimed.take().ok_or_else(|| RedisError::Unavailable("the keys are not claimed".into()))?;
        let mut outcome = self.send(&before, groups, time, complete).await;
        if matches!(outcome, Err(RedisError::Unavailable(_))) && self.resumed(&before).await? {
            outcome = self.send(&before, groups, time, complete).await;
        }
        outcome?;
        let (applied, complete) = (time.unwrap_or(before.applied), complete.unwrap_or(before.complete));
        self.claimed = Some(Claim { applied, complete, ..before });
        Ok(())
    }

    /// Connects anew, and looks whether the state is as it was. If not, the write that failed may have come through after all: then the
    /// keys are to be claimed again.
    async fn resumed(&mut self, before: &Claim) -> Result<bool, RedisError> {
        self.connection = None;
        let mut connection = self.connect().await?;
        let fields = ["definition", "epoch", "applied", "complete"];
        let recorded: Vec<Option<String>> = cmd("HMGET").arg(&self.state_key).arg(&fields).query_async(&mut connection).await?;
        let Claim { definition, epoch, applied, complete } = before;
        let left = [definition.clone(), epoch.to_string(), applied.to_string(), u8::from(*complete).to_string()];
        Ok(recorded == left.map(Some))
    }

    async fn send(&mut self, claim: &Claim, groups: &[Group], time: Option<u64>, complete: Option<bool>) -> Result<(), RedisError> {
        if groups.len() <= GROUPS_PER_CALL {
            return self.calls(claim, vec![self.write_call(claim, groups, time, complete)]).await;
        }
        for chunk in groups.chunks(self.config.pipeline_max.max(1)) {
            let calls = chunk.chunks(GROUPS_PER_CALL).map(|groups| self.write_call(claim, groups, None, None)).collect();
            self.calls(claim, calls).await?;
        }
        self.calls(claim, vec![self.write_call(claim, &[], time, complete)]).await
    }

    fn write_call(&self, claim: &Claim, groups: &[Group], time: Option<u64>, complete: Option<bool>) -> Cmd {
        let entries = || groups.iter().flatten();
        let mut call = cmd("EVALSHA");
        call.arg(self.write.get_hash()).arg(1 + entries().count()).arg(&self.state_key);
        for entry in entries() {
            call.arg(&entry.key);
        }
        call.arg(claim.epoch).arg(claim.applied);
        call.arg(time.map(|time| time.to_string()).unwrap_or_default());
        call.arg(complete.map(|complete| u8::from(complete).to_string()).unwrap_or_default());
        for entry in entries() {
            add_value(&mut call, entry);
        }
        call
    }

    /// Sends calls of the write script together. All of them must succeed.
    async fn calls(&mut self, claim: &Claim, calls: Vec<Cmd>) -> Result<(), RedisError> {
        let mut pipeline = Pipeline::with_capacity(calls.len());
        for call in calls {
            pipeline.add_command(call);
        }
        let mut answers: Result<Vec<(String, String)>, RedisError> = self.query(&pipeline).await;
        if matches!(answers, Err(RedisError::NoScript)) {
            self.load().await?;
            answers = self.query(&pipeline).await;
        }
        for (word, value) in answers? {
            match word.as_str() {
                "ok" => {}
                "fenced" => return Err(RedisError::Fenced { newer: error::number(&value)? }),
                _ if value.is_empty() => return Err(RedisError::Lost("Redis has lost its keys: the state is not there".into())),
                _ => {
                    let applied = claim.applied;
                    return Err(RedisError::Lost(format!("Redis stands at {value} instead of {applied}: an older copy has come back")));
                }
            }
        }
        Ok(())
    }

    async fn query<T: FromRedisValue>(&mut self, pipeline: &Pipeline) -> Result<T, RedisError> {
        Ok(pipeline.query_async(&mut self.connect().await?).await?)
    }

    async fn call_claim(&mut self, definition: &str, epoch: u64) -> Result<(String, String), RedisError> {
        self.load().await?;
        let mut connection = self.connect().await?;
        Ok(self.claim.key(&self.state_key).arg(definition).arg(epoch).invoke_async(&mut connection).await?)
    }

    async fn load(&mut self) -> Result<(), RedisError> {
        let mut connection = self.connect().await?;
        for script in [&self.claim, &self.write] {
            script.load_async(&mut connection).await?;
        }
        Ok(())
    }

    /// The connection there is, or a new one.
    async fn connect(&mut self) -> Result<MultiplexedConnection, RedisError> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.connect_timeout))
            .set_response_timeout(Some(self.config.response_timeout));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(self.connection.insert(connection).clone())
    }
}

fn add_value(call: &mut Cmd, entry: &Entry) {
    // The server takes a time before 1970 for a mistake in some versions, and 1 for long ago in all.
    let expires = entry.expires_at_ms.max(1);
    match &entry.value {
        Value::Absent => call.arg("DEL").arg(expires).arg(0),
        Value::Text(text) => call.arg("SET").arg(expires).arg(1).arg(text),
        Value::List(items) => items.iter().fold(call.arg("RPUSH").arg(expires).arg(items.len()), |call, item| call.arg(item)),
        Value::Hash(fields) => {
            fields.iter().fold(call.arg("HSET").arg(expires).arg(2 * fields.len()), |call, (field, value)| call.arg(field).arg(value))
        }
    };
}

/// A text as part of a pattern of [`Writer::scan`] that matches nothing but itself.
pub fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(url: &str) -> Result<Writer, RedisError> {
        let second = Duration::from_secs(1);
        let config = RedisConfig { url: url.into(), connect_timeout: second, response_timeout: second, pipeline_max: 10 };
        Writer::new(config, "state".into())
    }

    #[test]
    fn a_call_carries_keys_then_values() {
        let writer = writer("redis://localhost").expect("a URL");
        let claim = Claim { definition: "d".into(), epoch: 2, applied: 3, complete: true };
        let hash = Value::Hash(vec![("f".into(), "1".into())]);
        let group = vec![Entry { key: "k".into(), value: hash, expires_at_ms: -5 }, Entry::absent("l".into())];
        let call = writer.write_call(&claim, &[group], Some(4), None);
        let text = String::from_utf8(call.get_packed_command()).expect("text");
        let words: Vec<&str> = text.split("\r\n").filter(|word| !word.starts_with(['$', '*'])).collect();
        let hash = writer.write.get_hash();
        let expected = ["EVALSHA", hash, "3", "state", "k", "l", "2", "3", "4", "", "HSET", "1", "2", "f", "1", "DEL", "1", "0", ""];
        assert_eq!(words, expected);
    }

    #[test]
    fn nothing_that_is_said_names_the_password() {
        let refused = writer("redis://:pass-word@[::host").err().expect("no URL").to_string();
        assert!(!refused.contains("pass-word"), "{refused}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unavailable() {
        let mut writer = writer("redis://:pass-word@127.0.0.1:1").expect("a URL");
        let error = writer.claim("d", 1).await.expect_err("nobody listens");
        assert!(matches!(error, RedisError::Unavailable(_)) && !error.to_string().contains("pass-word"), "{error}");
        let error = writer.write(&[], Some(1)).await.expect_err("not claimed");
        assert_eq!(error.code(), "redis_unavailable");
    }

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(literal("a*[b]?^-\\c:"), "a\\*\\[b\\]\\?\\^\\-\\\\c:");
    }
}
