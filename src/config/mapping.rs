//! From the configuration to what each part of the server takes.

use super::Config;
use super::schema::Source;
use super::values::{AccessScope, PseudonymPolicy, RandomizedPolicy, RerankProfile, UnknownPolicy, micros};
use crate::http::config::{AccessConfig, AccessToken, CorsConfig, HttpConfig, InteractionsConfig, LiveConfig, Scope, TlsFiles};
use crate::projections::FollowerConfig;
use crate::rerank::{Overrides, Profile, RerankConfig};
use crate::runs::RunsConfig;
use crate::service::{
    ClusterConfig, CommitConfig, CompactionConfig, OccupancyConfig, Privacy, SealingConfig, ServiceConfig, WifiIngestConfig,
    WifiSealingConfig,
};
use crate::trigger::TriggerConfig;
use desireline_connectors::formats::Format;
use desireline_connectors::kafka::KafkaConfig;
use desireline_records::words::Words;
use desireline_records::{ContextSettings, SourceId, SourceSettings, UserIdType, WifiSettings};
use std::path::PathBuf;
use std::time::Duration;

/// The settings of a source without a block of its own.
pub fn source_defaults(config: &Config, source: SourceId) -> SourceSettings {
    let defaults = &config.sources;
    let wifi = wifi(config, source);
    SourceSettings {
        source,
        session_rule: defaults.session_rule,
        session_limit: micros(defaults.session_limit),
        user_id_type: if source == config.interactions.source_id { UserIdType::Int } else { defaults.user_id_type },
        clusters: defaults.clusters,
        transaction_value: defaults.transaction_value,
        horizon: if wifi.is_some() { config.wifi.horizon } else { defaults.horizon },
        lateness: micros(defaults.lateness),
        context: context(config, source),
        wifi,
    }
}

/// The source of interactions keeps contexts, and its users are numbers.
fn context(config: &Config, source: SourceId) -> Option<ContextSettings> {
    let interactions = &config.interactions;
    (source == interactions.source_id).then(|| ContextSettings {
        ttl: micros(interactions.context_ttl),
        items: interactions.context_items,
        renew_all: interactions.context_renew_all,
    })
}

fn wifi_ingest(config: &Config) -> WifiIngestConfig {
    let wifi = &config.wifi;
    WifiIngestConfig {
        source: wifi.source_id,
        max_session: micros(wifi.max_session),
        strict_mac: wifi.strict_mac,
        key_file: (wifi.pseudonyms == PseudonymPolicy::Keyed).then(|| key_file(config)),
        required: wifi.key_file.is_some() || config.source.iter().any(|source| source.format == Format::Wifi),
    }
}

/// The keys of pseudonyms of devices.
pub fn key_file(config: &Config) -> PathBuf {
    config.wifi.key_file.clone().unwrap_or_else(|| config.data.dir.join("mac.keys"))
}

fn wifi(config: &Config, source: SourceId) -> Option<WifiSettings> {
    let wifi = &config.wifi;
    let mut intervals = wifi.intervals.clone();
    intervals.sort_unstable();
    intervals.dedup();
    (source == wifi.source_id).then(|| WifiSettings {
        max_open: micros(wifi.max_open),
        intervals,
        visit_gap: micros(wifi.visit_gap),
        move_gap: micros(wifi.move_gap),
    })
}

/// The settings of a source with a block of its own.
pub fn source_settings(config: &Config, source: &Source) -> SourceSettings {
    let defaults = source_defaults(config, source.source_id);
    let by_format = match source.format {
        Format::Ampelios => UserIdType::Int,
        _ => defaults.user_id_type,
    };
    SourceSettings {
        source: source.source_id,
        session_rule: source.session_rule.unwrap_or(defaults.session_rule),
        session_limit: source.session_limit.map_or(defaults.session_limit, micros),
        user_id_type: source.user_id_type.unwrap_or(by_format),
        clusters: source.clusters.unwrap_or(defaults.clusters),
        transaction_value: source.transaction_value.unwrap_or(defaults.transaction_value),
        horizon: source.horizon.unwrap_or(defaults.horizon),
        lateness: source.lateness.map_or(defaults.lateness, micros),
        context: defaults.context,
        wifi: defaults.wifi.clone(),
    }
}

/// Interactions and WiFi sessions are sources without blocks of their own, unless they have one.
fn implied(config: &Config) -> Vec<SourceSettings> {
    let own = |source: &SourceId| config.source.iter().any(|block| block.source_id == *source);
    let sources = [config.interactions.source_id, config.wifi.source_id].into_iter().filter(|source| !own(source));
    sources.map(|source| source_defaults(config, source)).collect()
}

pub fn service(config: &Config) -> ServiceConfig {
    let engine = &config.engine;
    ServiceConfig {
        store_url: store_url(config),
        store_options: config.data.store_options.0.clone(),
        workers: engine.workers,
        commit: CommitConfig {
            rows_max: engine.commit_rows_max,
            age_max: engine.commit_age_max,
            queue_rows_max: engine.queue_rows_max,
            tick_every: engine.tick_every,
            idle_after: engine.idle_after,
        },
        source_defaults: source_defaults(config, 0),
        sources: config.source.iter().map(|source| (source.name.clone(), source_settings(config, source))).collect(),
        implied: implied(config),
        words: words(config),
        max_future: micros(config.ingest.max_future),
        wifi_ingest: wifi_ingest(config),
        clusters: ClusterConfig {
            seed: config.clusters.seed,
            sample_max: config.clusters.sample_max,
            min_interval: config.clusters.min_interval,
            min_changed: config.clusters.min_changed,
            min_shift: config.clusters.min_shift,
        },
        sealing: SealingConfig { every: config.sealing.every, parts_max: config.sealing.parts_max },
        compaction: CompactionConfig {
            every: config.log.compaction_every,
            segments_min: config.log.compaction_segments_min,
            part_bytes_max: config.log.compaction_part_max.0,
        },
        erasure_deadline: config.erasure.deadline,
        peek_rows_max: engine.peek_rows_max,
        peek_deadline: engine.peek_deadline,
        max_open_events: engine.max_open_events,
        occupancy: occupancy(config),
    }
}

fn occupancy(config: &Config) -> OccupancyConfig {
    let wifi = &config.wifi;
    let mut alert_percent = wifi.alert_percent.clone();
    alert_percent.sort_unstable();
    alert_percent.dedup();
    OccupancyConfig {
        privacy: Privacy { exclude_randomized: wifi.randomized == RandomizedPolicy::Exclude, k: wifi.k_anonymity },
        spaces_max: wifi.spaces_max,
        cell_cache_bytes: wifi.cell_cache.bytes(),
        alert_percent,
        sealing: WifiSealingConfig {
            reopen_every: wifi.reopen_every,
            reopen_devices_max: wifi.reopen_devices_max,
            retention: wifi.retention.map(micros),
        },
    }
}

/// A URL, or the data folder as it was written.
pub fn store_url(config: &Config) -> String {
    config.data.store_url.clone().unwrap_or_else(|| config.data.dir.display().to_string())
}

pub fn words(config: &Config) -> Words {
    Words::new(&config.ingest.words_view, &config.ingest.words_cart, &config.ingest.words_transaction)
}

/// The folders in which files may be read on behalf of a request.
pub fn allowed_folders(config: &Config) -> Vec<PathBuf> {
    let default = || vec![PathBuf::from("."), config.data.dir.clone()];
    config.ingest.allowed_folders.clone().unwrap_or_else(default)
}

pub fn http(config: &Config) -> HttpConfig {
    let (server, http) = (&config.server, &config.http);
    HttpConfig {
        listen: server.listen,
        second_listen: server.second_listen,
        tls: server.tls_cert.clone().zip(server.tls_key.clone()).map(|(cert, key)| TlsFiles { cert, key }),
        access: AccessConfig { tokens: config.access.iter().filter_map(token).collect(), hosts: server.hosts.clone() },
        cors: CorsConfig { origins: http.cors_origins.clone() },
        body_bytes_max: http.body_max.bytes(),
        decoded_body_bytes_max: http.decoded_body_max.bytes(),
        batch_events_max: http.batch_events_max,
        batch_sessions_max: config.wifi.batch_sessions_max,
        page_max: http.max_page,
        validation_status: http.validation_status.0,
        request_timeout: http.request_timeout,
        header_timeout: http.header_timeout,
        requests_max: http.requests_max,
        connections_max: http.connections_max,
        shutdown_grace: http.shutdown_grace,
        live: LiveConfig {
            subscribers_max: http.live_subscribers_max,
            poll_every: http.live_poll_every,
            queue_frames: http.live_queue_frames,
            cells_max: http.live_cells_max,
        },
        interactions: interactions(config),
        rerank: rerank(config),
    }
}

fn interactions(config: &Config) -> InteractionsConfig {
    let interactions = &config.interactions;
    let redis = &config.projection.redis;
    InteractionsConfig {
        source: interactions.source_id,
        reject_unknown: interactions.unknown == UnknownPolicy::Reject,
        event_time: interactions.event_time,
        redis_wait: redis.url.as_ref().filter(|_| redis.wait_ms > 0).map(|_| Duration::from_millis(redis.wait_ms)),
        catalog_entries_max: interactions.catalog_entries_max,
    }
}

fn rerank(config: &Config) -> RerankConfig {
    let set = &config.rerank;
    RerankConfig {
        profile: match set.profile {
            RerankProfile::Code => Profile::Code,
            RerankProfile::Readme => Profile::Readme,
            RerankProfile::SystemDoc => Profile::SystemDoc,
        },
        top_n: set.top_n,
        candidates_max: set.candidates_max,
        overrides: Overrides {
            boost_per_event: set.boost_per_event,
            boost_max: set.boost_max,
            recent_top5: set.recent_top5,
            recent_top10: set.recent_top10,
            recent_rest: set.recent_rest,
            diversity_share: set.diversity_share,
            diversity_factor: set.diversity_factor,
            category_max: set.category_max,
            category_factor: set.category_factor,
            diversity_rounds: set.diversity_rounds,
            cumulative: set.cumulative,
            popularity_floor: set.popularity_floor,
            popularity_factor: set.popularity_factor,
        },
    }
}

/// `None` for a hash that is not one, which the checks have refused before.
fn token(token: &super::schema::AccessToken) -> Option<AccessToken> {
    let scope = |scope: &AccessScope| match scope {
        AccessScope::Ingest => Scope::Ingest,
        AccessScope::Read => Scope::Read,
        AccessScope::Admin => Scope::Admin,
    };
    let hash = AccessToken::parse_hash(&token.hash)?;
    Some(AccessToken { name: token.name.clone(), hash, scopes: token.scopes.iter().map(scope).collect() })
}

pub fn runs(config: &Config) -> RunsConfig {
    let runs = &config.runs;
    RunsConfig {
        concurrency: runs.concurrency,
        queue_max: runs.queue_max,
        finished_max: runs.finished_max,
        log_lines_max: runs.log_lines_max,
        log_lines_recorded_max: runs.log_lines_recorded_max,
        log_lines_finished_max: runs.log_lines_finished_max,
        value_bytes_max: runs.value_max.bytes(),
        stop_grace: runs.stop_grace,
        settle_timeout: runs.settle_timeout,
        record_timeout: runs.record_timeout,
        record_retry: runs.record_retry,
        interruptions_max: runs.interruptions_max,
    }
}

/// How projections follow the views.
pub fn followers(config: &Config) -> FollowerConfig {
    let all = &config.projections;
    FollowerConfig {
        queue_rows_max: all.queue_rows_max,
        batch_rows_max: all.batch_rows_max,
        retry_min: all.retry_min,
        retry_max: all.retry_max.max(all.retry_min),
        check_every: all.check_every,
    }
}

/// How files are loaded.
pub fn trigger(config: &Config) -> TriggerConfig {
    TriggerConfig {
        allowed_folders: allowed_folders(config),
        chunk_rows: config.ingest.file_chunk_rows,
        rows_max: config.ingest.file_rows_max,
        ..TriggerConfig::default()
    }
}

/// What is read from Kafka: one reader for each topic of each source.
pub fn kafka(config: &Config) -> Vec<KafkaConfig> {
    config.source.iter().flat_map(kafka_source).collect()
}

pub fn kafka_source(source: &Source) -> Vec<KafkaConfig> {
    let topic = |topic: &String| KafkaConfig {
        group_id: Some(source.group_id.clone()),
        start: source.start,
        batch_rows_max: source.batch_rows_max,
        batch_bytes_max: source.batch_max.bytes(),
        batch_age_max: source.batch_age_max,
        refresh_every: source.refresh_every,
        properties: source.properties.0.clone(),
        dead_letter_topic: source.dead_letter_topic.clone(),
        ..KafkaConfig::new(source.brokers.join(","), topic, source.source_id, source.format)
    };
    source.topics.iter().map(topic).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Inputs, load};
    use super::*;

    fn http_of(env: &[(&str, &str)]) -> HttpConfig {
        let env = env.iter().map(|(name, value)| (format!("DESIRELINE__{name}"), (*value).to_owned())).collect();
        http(&load(&Inputs { env, ..Inputs::default() }).expect("valid"))
    }

    #[test]
    fn answers_wait_for_redis_only_where_there_is_one() {
        let url = ("PROJECTION__REDIS__URL", "redis://localhost:6379/0");
        assert_eq!(http_of(&[]).interactions.redis_wait, None);
        assert_eq!(http_of(&[url]).interactions.redis_wait, Some(Duration::from_millis(5)));
        assert_eq!(http_of(&[url, ("PROJECTION__REDIS__WAIT_MS", "0")]).interactions.redis_wait, None);
    }

    #[test]
    fn interactions_and_re_ranking_are_as_set() {
        let defaults = http_of(&[]);
        assert_eq!(
            (defaults.interactions.source, defaults.interactions.reject_unknown, defaults.interactions.event_time),
            (1_000, false, false)
        );
        assert_eq!((defaults.rerank.profile, defaults.rerank.top_n, defaults.rerank.overrides), (Profile::Code, 20, Overrides::default()));
        let set = http_of(&[
            ("INTERACTIONS__SOURCE_ID", "7"),
            ("INTERACTIONS__UNKNOWN", "reject"),
            ("INTERACTIONS__EVENT_TIME", "true"),
            ("INTERACTIONS__CATALOG_ENTRIES_MAX", "9"),
            ("RERANK__PROFILE", "system_doc"),
            ("RERANK__TOP_N", "3"),
            ("RERANK__CANDIDATES_MAX", "8"),
            ("RERANK__BOOST_PER_EVENT", "0.01"),
            ("RERANK__BOOST_MAX", "0.02"),
            ("RERANK__RECENT_TOP5", "0.03"),
            ("RERANK__RECENT_TOP10", "0.04"),
            ("RERANK__RECENT_REST", "0.05"),
            ("RERANK__DIVERSITY_SHARE", "0.06"),
            ("RERANK__DIVERSITY_FACTOR", "0.07"),
            ("RERANK__CATEGORY_MAX", "8"),
            ("RERANK__CATEGORY_FACTOR", "0.09"),
            ("RERANK__DIVERSITY_ROUNDS", "10"),
            ("RERANK__CUMULATIVE", "true"),
            ("RERANK__POPULARITY_FLOOR", "11"),
            ("RERANK__POPULARITY_FACTOR", "0.12"),
        ]);
        let interactions = &set.interactions;
        assert!(interactions.reject_unknown && interactions.event_time);
        assert_eq!((interactions.source, interactions.catalog_entries_max), (7, 9));
        assert_eq!((set.rerank.profile, set.rerank.top_n, set.rerank.candidates_max), (Profile::SystemDoc, 3, 8));
        let overrides = Overrides {
            boost_per_event: Some(0.01),
            boost_max: Some(0.02),
            recent_top5: Some(0.03),
            recent_top10: Some(0.04),
            recent_rest: Some(0.05),
            diversity_share: Some(0.06),
            diversity_factor: Some(0.07),
            category_max: Some(8),
            category_factor: Some(0.09),
            diversity_rounds: Some(10),
            cumulative: Some(true),
            popularity_floor: Some(11),
            popularity_factor: Some(0.12),
        };
        assert_eq!(set.rerank.overrides, overrides);
    }
}
