//! Settings of the projections and of the shop behind `POST /api/event`.

use super::super::reader::settings;
use super::super::values::{Options, RerankProfile, Secret, UnknownPolicy};
use desireline_dataflows::changes::View;
use std::path::PathBuf;
use std::time::Duration;

settings! {
    /// Interactions: what the users of a shop do with its items (`POST /api/event`), and the context kept of each user.
    Interactions {
        /// The source that interactions are events of. A `[[source]]` block of this number sets its session rule and the like.
        source_id: u32 = default "1000" in "0"..="2147483647";
        /// An event of an item or a user that the catalog does not know. "stub": it is kept, and category and brand follow when the
        /// item is known. "reject": it becomes a dead letter.
        unknown: UnknownPolicy = default "stub";
        /// The time of an event is its `metadata.timestamp` where that is valid, instead of the time of its arrival.
        event_time: bool = default "false";
        /// A context ends when its user has done nothing for so long.
        context_ttl: Duration = default "15m" in "1s"..="30d";
        /// Items of a context, the newest ones.
        context_items: u32 = default "20" in "1"..="1000";
        /// Every event renews the categories of a context; otherwise only one whose category is known does.
        context_renew_all: bool = default "true";
        /// Most entries in one request of `PUT /api/items`, `PUT /api/products` or `PUT /api/users`.
        catalog_entries_max: usize = default "100000" in "1"..="10000000";
    }

    /// Re-ranking by the context (`POST /api/rerank`). A profile gives every constant; a constant that is set here wins over it.
    Rerank {
        /// "code", "readme" or "system_doc".
        profile: RerankProfile = default "code";
        /// Items of an answer.
        top_n: usize = default "20" in "1"..="10000";
        /// Most candidates of one request.
        candidates_max: usize = default "10000" in "1"..="1000000";
        /// Boost of an item whose category is recent, for each event of that category …
        boost_per_event: Option<f64> = unset "0.08" in "0"..="100";
        /// … and at most.
        boost_max: Option<f64> = unset "0.4" in "0"..="100";
        /// Factor of an item among the 5 most recent ones …
        recent_top5: Option<f64> = unset "0.2" in "0"..="100";
        /// … among the 10 most recent ones …
        recent_top10: Option<f64> = unset "0.4" in "0"..="100";
        /// … and further back.
        recent_rest: Option<f64> = unset "0.6" in "0"..="100";
        /// A category with more than this share of the leading items …
        diversity_share: Option<f64> = unset "0.25" in "0"..="1";
        /// … gets this factor.
        diversity_factor: Option<f64> = unset "0.7" in "0"..="100";
        /// A category with more than this many of the leading items …
        category_max: Option<u32> = unset "4" in "1"..="100000";
        /// … gets this factor, too.
        category_factor: Option<f64> = unset "0.5" in "0"..="100";
        /// Times that diversity is looked at.
        diversity_rounds: Option<u32> = unset "3" in "0"..="100";
        /// Penalties of diversity add up over the rounds; otherwise each rule meets an item once.
        cumulative: Option<bool> = unset "true";
        /// An item with fewer ratings than this …
        popularity_floor: Option<u32> = unset "5" in "0"..="1000000000";
        /// … gets this factor.
        popularity_factor: Option<f64> = unset "0.9" in "0"..="100";
    }

    /// What holds for every projection: Postgres, Redis, Kafka and Parquet follow the views, each at its own pace.
    Projections {
        /// Changes that wait in memory for a target. A target that is further behind reads what it has missed from the log.
        queue_rows_max: usize = default "200000" in "1"..="100000000";
        /// Rows of one transaction of a target, about.
        batch_rows_max: usize = default "50000" in "1"..="10000000";
        /// Pause after a target has failed; it doubles with every failure …
        retry_min: Duration = default "250ms" in "1ms"..="1h";
        /// … up to this, and varies at random.
        retry_max: Duration = default "30s" in "1ms"..="1d";
        /// How often a target that has nothing to do is asked whether it still has its rows.
        check_every: Duration = default "5s" in "100ms"..="1d";
    }

    /// Tables in PostgreSQL for BI and other tools, created and migrated by the server.
    ProjectionPostgres {
        /// The database. Unset: no projection. `sslmode=require` demands TLS. Better given by the environment:
        /// `DESIRELINE__PROJECTION__POSTGRES__URL`. Never printed.
        url: Option<Secret> = unset "postgres://desireline@db.example/desireline";
        /// PEM file with certificates that are trusted besides the system's.
        tls_ca: Option<PathBuf> = unset "/etc/desireline/postgres-ca.pem";
        /// Schema of `events`, `user_journey` and `cluster`.
        schema_ampelios: String = default "ampelios";
        /// Schema of `interaction_logs`, `users`, `items` and `products`.
        schema_interactions: String = default "interactions";
        /// Schema of `aggregates_minute`.
        schema_clickstream: String = default "clickstream";
        /// Schema of `sessions` and of the server's own tables.
        schema_desireline: String = default "desireline";
        /// Connections.
        pool_max: usize = default "4" in "1"..="1000";
        /// A connection that is not there by then has failed.
        connect_timeout: Duration = default "5s" in "10ms"..="10m";
        /// A statement that takes longer is cancelled by the server of the database.
        statement_timeout: Duration = default "5m" in "100ms"..="1d";
        /// Waiting for a lock takes no longer; the transaction is tried again.
        lock_timeout: Duration = default "5s" in "10ms"..="1h";
        /// Changes gather so long before they are applied.
        gather: Duration = default "100ms" in "0ms"..="1h";
        /// A row that the database refuses so often goes to the table of dead letters.
        attempts_max: u32 = default "3" in "1"..="100";
    }

    /// Contexts in Redis: `user:{id}:recent_items`, `user:{id}:recent_categories` and `user:{id}:last_active`.
    ProjectionRedis {
        /// The server. Unset: no projection. `rediss://` is TLS. Never printed.
        url: Option<Secret> = unset "redis://cache.example:6379/0";
        /// Written in front of every key.
        key_prefix: Option<String> = unset "shop:";
        /// How many milliseconds an answer of `POST /api/event` waits for Redis to have the event.
        wait_ms: u64 = default "5" in "0"..="10000";
        /// A connection that is not there by then has failed.
        connect_timeout: Duration = default "2s" in "10ms"..="10m";
        /// An answer that is not there by then has failed.
        response_timeout: Duration = default "2s" in "10ms"..="10m";
        /// Users written at once.
        pipeline_max: usize = default "500" in "1"..="100000";
    }

    /// Views as compacted topics of JSON, and events passed on to a topic.
    ProjectionKafka {
        /// `host:port` of one or more brokers. None: no projection.
        brokers: Vec<String> = default "";
        /// Views that become a topic each: "sessions", "journeys", "clusters", "minutes", "context", "catalog", "events".
        views: Vec<View> = default "sessions, journeys, clusters, minutes, context";
        /// Written in front of a view's name, as the name of its topic.
        topic_prefix: String = default "desireline.";
        /// Events of this source are passed on to `forward_topic`.
        forward_source: Option<u32> = unset "0" in "0"..="2147483647";
        /// The topic that events are passed on to.
        forward_topic: String = default "clickstream.events";
        /// Names the writer among the producers of the brokers. Two deployments on one cluster need two names.
        transactional_id: String = default "desireline";
        /// Partitions of topics that the server creates.
        partitions: u32 = default "3" in "1"..="10000";
        /// Replicas of topics that the server creates.
        replication: u32 = default "1" in "1"..="100";
        /// Changes gather so long before they are sent in one transaction.
        gather: Duration = default "100ms" in "0ms"..="1h";
        /// Further options of librdkafka. Never printed. In the environment `_` stands for `.`.
        properties: Options = default "";
    }

    /// Views as datasets of Parquet, a file per day, for DuckDB, pandas and the like.
    ProjectionParquet {
        /// A folder or an object store. Unset: no projection.
        url: Option<Secret> = unset "s3://bucket/datasets";
        /// Options of the object store, by object_store's names. Never printed.
        store_options: Options = default "";
        /// Views that become a dataset each: "events", "sessions", "journeys", "clusters", "minutes", "context", "catalog".
        views: Vec<View> = default "events, sessions, journeys, minutes";
        /// Changes gather so long before files are rewritten.
        gather: Duration = default "1m" in "10ms"..="1d";
    }
}
