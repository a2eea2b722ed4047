//! From the configuration to targets. Nothing is connected to yet.

use super::kafka::forward::{KafkaForward, KafkaForwardConfig};
use super::kafka::{KafkaTarget, KafkaTargetConfig};
use super::parquet::{ParquetTarget, ParquetTargetConfig};
use super::postgres::{PostgresConfig, PostgresTarget};
use super::redis::{RedisTarget, RedisTargetConfig};
use super::target::Target;
use crate::config::Config;
use desireline_connectors::kafka::transactions::WriterConfig;
use desireline_connectors::redis::RedisConfig;
use thiserror::Error;

/// A target that cannot be made from its settings.
#[derive(Debug, Error)]
#[error("{setting}: {detail}")]
pub struct ConfiguredError {
    /// The table of the configuration.
    pub setting: &'static str,
    pub detail: String,
}

impl ConfiguredError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        "config"
    }
}

fn refuse(setting: &'static str) -> impl Fn(String) -> ConfiguredError {
    move |detail| ConfiguredError { setting, detail }
}

/// The targets that a configuration names.
pub fn configured(config: &Config) -> Result<Vec<Box<dyn Target>>, ConfiguredError> {
    let mut targets: Vec<Box<dyn Target>> = Vec::new();
    if let Some(postgres) = PostgresConfig::from_config(&config.projection.postgres, &config.projections) {
        let target = PostgresTarget::new(postgres).map_err(|error| refuse("projection.postgres")(error.to_string()))?;
        targets.push(Box::new(target));
    }
    if let Some(target) = redis(config)? {
        targets.push(Box::new(target));
    }
    let kafka = &config.projection.kafka;
    if !kafka.brokers.is_empty() && !kafka.views.is_empty() {
        targets.push(Box::new(kafka_views(config)?));
    }
    if let (false, Some(source)) = (kafka.brokers.is_empty(), kafka.forward_source) {
        let forward = KafkaForwardConfig {
            writer: writer(config, "-forward"),
            source,
            topic: kafka.forward_topic.clone(),
            topic_prefix: kafka.topic_prefix.clone(),
            partitions: kafka.partitions,
            replication: kafka.replication,
            gather: kafka.gather,
        };
        let target = KafkaForward::new(forward).map_err(|error| refuse("projection.kafka")(error.to_string()))?;
        targets.push(Box::new(target));
    }
    let parquet = &config.projection.parquet;
    if let (Some(url), false) = (&parquet.url, parquet.views.is_empty()) {
        targets.push(Box::new(ParquetTarget::new(ParquetTargetConfig {
            url: url.0.clone(),
            store_options: parquet.store_options.0.clone(),
            views: parquet.views.iter().copied().collect(),
            gather: parquet.gather,
        })));
    }
    Ok(targets)
}

fn redis(config: &Config) -> Result<Option<RedisTarget>, ConfiguredError> {
    let own = &config.projection.redis;
    let Some(url) = &own.url else { return Ok(None) };
    let target = RedisTarget::new(RedisTargetConfig {
        redis: RedisConfig {
            url: url.0.clone(),
            connect_timeout: own.connect_timeout,
            response_timeout: own.response_timeout,
            pipeline_max: own.pipeline_max,
        },
        key_prefix: own.key_prefix.clone().unwrap_or_default(),
        source: config.interactions.source_id,
    });
    target.map(Some).map_err(|error| refuse("projection.redis")(error.to_string()))
}

fn writer(config: &Config, suffix: &str) -> WriterConfig {
    let kafka = &config.projection.kafka;
    WriterConfig {
        brokers: kafka.brokers.join(","),
        transactional_id: format!("{}{suffix}", kafka.transactional_id),
        properties: kafka.properties.0.clone(),
    }
}

fn kafka_views(config: &Config) -> Result<KafkaTarget, ConfiguredError> {
    let kafka = &config.projection.kafka;
    let target = KafkaTarget::new(KafkaTargetConfig {
        writer: writer(config, ""),
        views: kafka.views.iter().copied().collect(),
        topic_prefix: kafka.topic_prefix.clone(),
        partitions: kafka.partitions,
        replication: kafka.replication,
        gather: kafka.gather,
    });
    target.map_err(|error| refuse("projection.kafka")(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, load};

    fn of(env: &[(&str, &str)]) -> Result<Vec<String>, ConfiguredError> {
        let env = env.iter().map(|(name, value)| (format!("DESIRELINE__PROJECTION__{name}"), (*value).to_owned())).collect();
        let config = load(&Inputs { env, ..Inputs::default() }).expect("valid");
        Ok(configured(&config)?.iter().map(|target| target.name().to_owned()).collect())
    }

    #[test]
    fn a_target_is_made_of_what_is_set_and_of_nothing_else() {
        assert_eq!(of(&[]).expect("nothing"), Vec::<String>::new());
        let all = [
            ("POSTGRES__URL", "postgres://u:secret@localhost/d"),
            ("REDIS__URL", "redis://:secret@localhost/0"),
            ("KAFKA__BROKERS", "localhost:9092"),
            ("KAFKA__FORWARD_SOURCE", "0"),
            ("PARQUET__URL", "/tmp/datasets"),
        ];
        assert_eq!(of(&all).expect("targets"), ["postgres", "redis", "kafka", "kafka-forward", "parquet"]);
        assert_eq!(of(&[("KAFKA__BROKERS", "localhost:9092"), ("KAFKA__VIEWS", "")]).expect("nothing"), Vec::<String>::new());
    }

    #[test]
    fn a_bad_url_names_its_setting_and_not_its_password() {
        for (name, url, setting) in [
            ("POSTGRES__URL", "postgres://u:secret@host:notaport/d", "projection.postgres"),
            ("REDIS__URL", "rodis://:secret@localhost", "projection.redis"),
        ] {
            let error = of(&[(name, url)]).expect_err("a mistake").to_string();
            assert!(error.starts_with(setting) && !error.contains("secret"), "{error}");
        }
    }
}
