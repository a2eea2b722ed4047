//! What other programs see in Redis and in PostgreSQL.

use crate::support::services;
use redis::Commands;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio_postgres::NoTls;

/// A room of a test's own in both services: a prefix of keys, and schemas. Emptied at its end.
pub struct Stores {
    redis_url: String,
    postgres_url: String,
    name: String,
    runtime: tokio::runtime::Runtime,
}

/// The keys of a user.
#[derive(Debug, PartialEq)]
pub struct Context {
    pub recent_items: Vec<String>,
    pub recent_categories: BTreeMap<String, u64>,
    pub last_active: Option<i64>,
}

/// A row of `interaction_logs`.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    pub user: i64,
    pub asin: String,
    pub event_type: String,
    pub metadata: Value,
}

impl Stores {
    /// Nothing, and the test reported as skipped, when one of the services is missing.
    pub fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (redis_url, postgres_url) = (services::redis()?, services::postgres()?);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("w3_{}_{number}_{}", std::process::id(), chrono::Utc::now().timestamp_millis());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Some(Self { redis_url, postgres_url, name, runtime })
    }

    pub fn schema(&self) -> String {
        format!("{}_interactions", self.name)
    }

    fn schemas(&self) -> [String; 4] {
        ["ampelios", "interactions", "clickstream", "desireline"].map(|system| format!("{}_{system}", self.name))
    }

    /// The settings of a server that writes here.
    pub fn config(&self) -> String {
        let [ampelios, interactions, clickstream, desireline] = self.schemas();
        format!(
            "[projections]\nretry_min = \"20ms\"\nretry_max = \"300ms\"\ncheck_every = \"200ms\"\n\
             [projection.redis]\nurl = \"{}\"\nkey_prefix = \"{}\"\nwait_ms = 10000\n\
             [projection.postgres]\nurl = \"{}\"\nschema_ampelios = \"{ampelios}\"\nschema_interactions = \"{interactions}\"\n\
             schema_clickstream = \"{clickstream}\"\nschema_desireline = \"{desireline}\"\n",
            self.redis_url,
            self.prefix(),
            self.postgres_url,
        )
    }

    fn prefix(&self) -> String {
        format!("{}:", self.name)
    }

    fn key(&self, user: i64, what: &str) -> String {
        format!("{}user:{user}:{what}", self.prefix())
    }

    fn redis(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(self.redis_url.as_str())?.get_connection_with_timeout(std::time::Duration::from_secs(5))
    }

    pub fn try_context(&self, user: i64) -> redis::RedisResult<Context> {
        let mut redis = self.redis()?;
        Ok(Context {
            recent_items: redis.lrange(self.key(user, "recent_items"), 0, -1)?,
            recent_categories: redis.hgetall(self.key(user, "recent_categories"))?,
            last_active: redis.get(self.key(user, "last_active"))?,
        })
    }

    #[track_caller]
    pub fn context(&self, user: i64) -> Context {
        self.try_context(user).unwrap()
    }

    /// Milliseconds that the keys of a user will live: items, categories, last active. Negative without a key or an end.
    #[track_caller]
    pub fn lives_ms(&self, user: i64) -> [i64; 3] {
        let mut redis = self.redis().unwrap();
        ["recent_items", "recent_categories", "last_active"].map(|what| redis.pttl(self.key(user, what)).unwrap())
    }

    /// Takes a user's keys away behind the server's back.
    #[track_caller]
    pub fn forget(&self, user: i64) {
        let keys = ["recent_items", "recent_categories", "last_active"].map(|what| self.key(user, what));
        let _: u64 = self.redis().unwrap().del(&keys[..]).unwrap();
    }

    /// Runs statements; `SELECT`s give their rows as text.
    pub fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.postgres_url, NoTls).await?;
            let connection = tokio::spawn(connection);
            let messages = client.simple_query(sql).await?;
            let mut rows = Vec::new();
            for message in messages {
                if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                    rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
                }
            }
            drop(client);
            let _ = connection.await;
            Ok(rows)
        })
    }

    /// The interactions in the order of their time; none while the tables are not there.
    pub fn logged(&self) -> Vec<Logged> {
        let sql = format!("SELECT user_id, asin, event_type, metadata FROM {}.interaction_logs ORDER BY ts, event_id", self.schema());
        let Ok(rows) = self.query(&sql) else { return Vec::new() };
        let text = |cell: &Option<String>| cell.clone().unwrap_or_default();
        rows.iter()
            .map(|row| Logged {
                user: text(&row[0]).parse().unwrap(),
                asin: text(&row[1]),
                event_type: text(&row[2]),
                metadata: row[3].as_deref().map_or(Value::Null, |json| serde_json::from_str(json).unwrap()),
            })
            .collect()
    }

    /// As [`Stores::logged`], without what the rows say: (user, asin, event type), sorted.
    pub fn logged_keys(&self) -> Vec<(i64, String, String)> {
        let mut rows: Vec<_> = self.logged().into_iter().map(|row| (row.user, row.asin, row.event_type)).collect();
        rows.sort();
        rows
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        for schema in self.schemas() {
            let _ = self.query(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE"));
        }
        if let Ok(mut redis) = self.redis() {
            let keys: Vec<String> =
                redis.scan_match(format!("{}*", self.prefix())).map(|keys| keys.flatten().collect()).unwrap_or_default();
            for key in keys {
                let _: redis::RedisResult<()> = redis.del(key);
            }
        }
    }
}
