//! Every setting: its name, type, documentation, default and bounds.
//!
//! `config/desireline.toml` and `docs/configuration.md` are written from these declarations, and a test compares them.

mod concepts;
mod labelling;
mod labels;
mod live;
mod projections;
mod wifi;

use super::reader::settings;
use super::values::{AccessScope, Level, LogFormat, Options, Size, SourceKind, ValidationStatus};
use desireline_connectors::formats::Format;
use desireline_connectors::kafka::Start;
use desireline_records::{Horizon, SessionRule, UserIdType};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use concepts::*;
pub use labelling::*;
pub use labels::*;
pub use live::*;
pub use projections::*;
pub use wifi::*;

settings! {
    /// Where the server listens, and whom it answers.
    Server {
        /// Address of the HTTP interface. Any address but a loopback one needs an access token (`[[access.token]]`) or
        /// `insecure = true`.
        listen: SocketAddr = default "127.0.0.1:8000";
        /// A second address that answers the same requests, for clients that expect another port.
        second_listen: Option<SocketAddr> = unset "127.0.0.1:1032";
        /// Answers everybody on a network address, without access tokens.
        insecure: bool = default "false";
        /// Names by which clients may call the server (the `Host` header), besides loopback names and addresses.
        hosts: Vec<String> = default "";
        /// PEM file with the certificate chain; with `tls_key`, the server speaks HTTPS.
        tls_cert: Option<PathBuf> = unset "/etc/desireline/tls.crt";
        /// PEM file with the private key.
        tls_key: Option<PathBuf> = unset "/etc/desireline/tls.key";
    }

    /// Limits and forms of requests and answers.
    Http {
        /// Web origins that may read answers in a browser, such as `https://shop.example`; `*` allows every one. Empty: only the
        /// server's own pages.
        cors_origins: Vec<String> = default "";
        /// Largest body of a request, as sent.
        body_max: Size = default "16MiB" in "1KiB"..="1GiB";
        /// Largest body of a request after decompression.
        decoded_body_max: Size = default "64MiB" in "1KiB"..="4GiB";
        /// Most events in one request of `POST /api/ingest-batch`.
        batch_events_max: usize = default "10000" in "1"..="1000000";
        /// Status of the answer to an ill-formed request: 400, or 422 for clients that expect that.
        validation_status: ValidationStatus = default "400";
        /// Most rows of one page of a listing; a larger `limit` is cut to this.
        max_page: usize = default "10000" in "1"..="100000";
        /// A request that takes longer is answered with 503.
        request_timeout: Duration = default "30s" in "100ms"..="1h";
        /// A connection whose request's head has not come by then is closed.
        header_timeout: Duration = default "30s" in "100ms"..="1h";
        /// Requests under way at once; a further one is answered with 429.
        requests_max: usize = default "512" in "1"..="100000";
        /// Open connections; a further one is closed at once.
        connections_max: usize = default "2048" in "1"..="1000000";
        /// How long a shutdown waits for requests under way.
        shutdown_grace: Duration = default "10s" in "0s"..="10m";
        /// Followers of the live stream (`GET /api/live`) at once.
        live_subscribers_max: usize = default "256" in "1"..="100000";
        /// How often the views are looked at while anybody follows.
        live_poll_every: Duration = default "250ms" in "10ms"..="1m";
        /// Frames that a slow follower may lag behind before it is sent everything anew.
        live_queue_frames: usize = default "64" in "1"..="65536";
        /// Cells in a snapshot of the minutes; the newest windows come first.
        live_cells_max: usize = default "20000" in "1"..="10000000";
    }

    /// A bearer token. `desireline token new` makes one and prints this block.
    AccessToken {
        /// Who uses it; appears in the access log.
        name: String = required "importer";
        /// SHA-256 of the secret in hexadecimal. The secret itself is stored nowhere.
        hash: String = required "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        /// What it may do: "ingest" writes events, "read" queries, "admin" does everything.
        scopes: Vec<AccessScope> = required "ingest, read";
    }

    /// Where log and cold parts are kept.
    Data {
        /// Folder of the log, the cold parts and the server's lock.
        dir: PathBuf = default "./desireline-data";
        /// An object store that keeps log and cold parts instead of `dir`.
        store_url: Option<String> = unset "s3://bucket/prefix";
        /// Options of the object store, by object_store's names: endpoint, region, keys. Better given by the environment:
        /// `DESIRELINE__DATA__STORE_OPTIONS__AWS_SECRET_ACCESS_KEY`. Never printed.
        store_options: Options = default "";
    }

    /// Workers, group commit, queues and queries.
    Engine {
        /// Worker threads of the dataflow.
        workers: usize = default "2" in "1"..="64";
        /// A segment of the log is closed when it holds this many rows …
        commit_rows_max: usize = default "50000" in "1"..="1000000";
        /// … or when its oldest row has waited this long. Acknowledgements follow the segment. With 0 a segment takes whatever has
        /// gathered while the one before was written: short waits, and many small segments on a disk; a remote store groups by itself.
        commit_age_max: Duration = default "0ms" in "0ms"..="10s";
        /// Rows that wait for the log or for the views. Above it HTTP answers 429 and connectors pause.
        queue_rows_max: usize = default "500000" in "1"..="100000000";
        /// How often the log records that time passes, which is how views learn of it.
        tick_every: Duration = default "5s" in "100ms"..="10m";
        /// A partition that has brought nothing for this long no longer holds its source's watermark back.
        idle_after: Duration = default "1m" in "1s"..="7d";
        /// Most rows that one query may touch.
        peek_rows_max: usize = default "1000000" in "1"..="1000000000";
        /// A query that has no answer by then is given up.
        peek_deadline: Duration = default "10s" in "10ms"..="10m";
        /// Open events of one user above which cutting its sessions again is counted as expensive.
        max_open_events: usize = default "100000" in "1"..="1000000000";
    }

    /// Compaction of the log.
    Log {
        /// How often segments are looked at.
        compaction_every: Duration = default "30s" in "100ms"..="1d";
        /// Small segments are merged when there are at least this many …
        compaction_segments_min: usize = default "64" in "2"..="100000";
        /// … into parts of at most this size.
        compaction_part_max: Size = default "32MiB" in "1MiB"..="16GiB";
    }

    /// What is accepted, from whatever input.
    Ingest {
        /// Folders in which `POST /trigger` may read files. The default is the working directory and the data folder.
        allowed_folders: Option<Vec<PathBuf>> = unset "/srv/imports";
        /// Rows of a file that are committed at once.
        file_chunk_rows: usize = default "50000" in "1"..="1000000";
        /// Most rows of one file. Reading remembers 16 bytes of each.
        file_rows_max: u64 = default "500000000" in "1"..="10000000000";
        /// An event further ahead of the server's clock is quarantined.
        max_future: Duration = default "5m" in "0s"..="365d";
        /// Event words that count as a view …
        words_view: Vec<String> = default "view, pageview, product_view";
        /// … as an addition to the cart …
        words_cart: Vec<String> = default "addtocart, add_to_cart";
        /// … and as a transaction. Any other word is an event of its session that moves no journey.
        words_transaction: Vec<String> = default "transaction, purchase";
    }

    /// What holds for every source that does not say otherwise. These settings change answers, so they are recorded in the log.
    Sources {
        /// "from_first": an event more than `session_limit` after its session's first event opens a new session.
        /// "gap": an event more than `session_limit` after the event before it does.
        session_rule: SessionRule = default "from_first";
        /// The limit of the session rule. Exactly the limit still belongs to the session.
        session_limit: Duration = default "20m" in "1ms"..="365d";
        /// How user ids are printed: "string", or "int" for JSON numbers.
        user_id_type: UserIdType = default "string";
        /// Number of clusters.
        clusters: u16 = default "5" in "1"..="256";
        /// Transactions move a journey by their value instead of by one.
        transaction_value: bool = default "false";
        /// Sessions that ended longer ago than this are sealed: they leave memory for the cold parts. "off" keeps all in memory.
        horizon: Horizon = default "off";
        /// With a horizon: a row further behind the watermark is late. Never more than the horizon.
        lateness: Duration = default "24h" in "0s"..="3650d";
    }

    /// A source with settings of its own. Sources without a block take the settings of `[sources]`.
    Source {
        /// Its name in the dashboard and in logs.
        name: String = required "shop";
        /// Its number, as clients give it; 0 to 2147483647.
        source_id: u32 = required "1" in "0"..="2147483647";
        /// "push": events come by HTTP or from files. "kafka": the server reads topics.
        kind: SourceKind = default "push";
        /// The form of its events: "ampelios", "clickstream" or "desireline"; "wifi" for WiFi sessions.
        format: Format = default "desireline";
        /// Kafka: `host:port` of one or more brokers.
        brokers: Vec<String> = default "";
        /// Kafka: the topics to read.
        topics: Vec<String> = default "";
        /// Kafka: the group to which offsets are committed for the usual lag tools. Progress itself lives in the log.
        group_id: String = default "desireline";
        /// Kafka: where a partition that was never read begins.
        start: Start = default "earliest";
        /// Kafka: a topic that also receives what could not be read.
        dead_letter_topic: Option<String> = unset "shop.dead";
        /// Kafka: rows are handed on when there are this many …
        batch_rows_max: usize = default "16384" in "1"..="1000000";
        /// … or this many bytes of payload …
        batch_max: Size = default "16MiB" in "1KiB"..="1GiB";
        /// … or when the first one has waited this long.
        batch_age_max: Duration = default "5ms" in "0ms"..="1m";
        /// Kafka: how often partitions, their bounds and the lag are looked at.
        refresh_every: Duration = default "5s" in "100ms"..="1h";
        /// Kafka: further options of librdkafka, such as `{ "client.id" = "desireline" }`. Never printed. In the environment `_`
        /// stands for `.`: `DESIRELINE__SOURCE__0__PROPERTIES__SASL_PASSWORD`.
        properties: Options = default "";
        /// As in `[sources]`.
        session_rule: Option<SessionRule> = unset "gap";
        /// As in `[sources]`.
        session_limit: Option<Duration> = unset "30m" in "1ms"..="365d";
        /// As in `[sources]`, but "int" for the format "ampelios".
        user_id_type: Option<UserIdType> = unset "int";
        /// As in `[sources]`.
        clusters: Option<u16> = unset "8" in "1"..="256";
        /// As in `[sources]`.
        transaction_value: Option<bool> = unset "true";
        /// As in `[sources]`.
        horizon: Option<Horizon> = unset "30d";
        /// As in `[sources]`.
        lateness: Option<Duration> = unset "12h" in "0s"..="3650d";
    }

    /// Training of the clusters.
    Clusters {
        /// Seed of the training: the same journeys and the same seed give the same centroids.
        seed: u64 = default "24";
        /// Journeys in a training sample, at most.
        sample_max: usize = default "10000" in "10"..="10000000";
        /// At least this long between two trainings of a source.
        min_interval: Duration = default "10s" in "0s"..="30d";
        /// Training waits until this share of the source's events is new since the last one.
        min_changed: f64 = default "0.1" in "0"..="1";
        /// No new model when no centroid moved further than this (Euclidean).
        min_shift: f64 = default "0.01" in "0"..="1000000";
    }

    /// Sealing of sessions behind the horizon.
    Sealing {
        /// How often sources with a horizon are looked at.
        every: Duration = default "30s" in "100ms"..="7d";
        /// Cold parts of a source are merged above this number.
        parts_max: usize = default "64" in "2"..="100000";
    }

    /// Erasure of users.
    Erasure {
        /// How long after an erasure its rows may still lie in log, cold parts and dead letters. No view shows them from the first moment on.
        deadline: Duration = default "24h" in "1s"..="30d";
    }

    /// The scheduler of runs, such as a file load.
    Runs {
        /// Runs that work at once.
        concurrency: usize = default "2" in "1"..="256";
        /// Runs that wait; a further one is refused.
        queue_max: usize = default "1000" in "1"..="1000000";
        /// Finished runs that are remembered, the newest ones.
        finished_max: usize = default "10000" in "1"..="1000000";
        /// Lines of log kept of a run that works, the newest ones.
        log_lines_max: usize = default "10000" in "1"..="1000000";
        /// Lines of log recorded with a run and kept once it has finished, the newest ones.
        log_lines_recorded_max: usize = default "200" in "0"..="10000";
        /// Lines of log kept of all finished runs together; the oldest runs lose theirs first.
        log_lines_finished_max: usize = default "200000" in "0"..="100000000";
        /// Parameters, result and checkpoint of a run, each as JSON.
        value_max: Size = default "64KiB" in "1KiB"..="16MiB";
        /// After a cancel, a timeout or at shutdown: how long work may take to stop by itself before it is dropped.
        stop_grace: Duration = default "10s" in "0s"..="10m";
        /// How long tidying up after a run may take, per try.
        settle_timeout: Duration = default "30s" in "100ms"..="1h";
        /// How long a reply waits for a change of a run to be durable.
        record_timeout: Duration = default "10s" in "100ms"..="1h";
        /// Pause after the log refused such a change.
        record_retry: Duration = default "1s" in "10ms"..="1h";
        /// A resumable run that restarts of the server have interrupted this often fails.
        interruptions_max: u32 = default "5" in "0"..="1000";
    }

    /// The server's own log, on standard error.
    Logging {
        /// "text" or "json", one object per line.
        format: LogFormat = default "text";
        /// Least severe level that is written. The variable RUST_LOG, where set, overrides it with filters per module.
        level: Level = default "info";
    }

    /// The synthetic shop of `desireline serve --demo`.
    Demo {
        /// The source it feeds.
        source_id: u32 = default "1" in "0"..="2147483647";
        /// Events per second.
        rate: f64 = default "50" in "0.1"..="100000";
        /// Its customers.
        users: u32 = default "2000" in "1"..="10000000";
        /// How far back its history reaches that is loaded at the first start.
        history: Duration = default "2h" in "0s"..="30d";
        /// Share of the events that come late.
        late: f64 = default "0.02" in "0"..="1";
        /// People of the campus beside it, each with a phone, most with a laptop. 0: there is no campus.
        people: u32 = default "300" in "0"..="100000";
        /// How far back the WiFi sessions of the campus reach that are loaded at the first start.
        campus_history: Duration = default "14d" in "0s"..="60d";
        /// Seed of its randomness.
        seed: u64 = default "7";
    }
}
