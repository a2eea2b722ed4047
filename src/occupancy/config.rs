//! The limits of datasets, and how their parts are made from the configuration.

use super::external::External;
use super::sessions::Sessions;
use crate::config::Config;
use crate::config::values::OccupancySource;
use crate::projections::ConfiguredError;
use crate::runs::RetryPolicy;
use desireline_connectors::postgres::{Database, Options};
use desireline_connectors::store::Store;
use std::sync::Arc;
use std::time::Duration;

/// Every limit, with its default.
#[derive(Clone, Debug)]
pub struct OccupancyConfig {
    /// How long a request may ask the database before it goes on in the background (700 ms).
    pub answer_within: Duration,
    /// How long a request that browses spaces may take (10 s).
    pub browse_within: Duration,
    /// Most chunks of one dataset (100,000).
    pub chunks_max: usize,
    /// Runs of chunks that wait or work at the same time (128).
    pub runs_max: usize,
    /// Rows of one answer (500).
    pub rows_max: usize,
    /// How failed runs of chunks are tried again (6 times, after 1 s, 2 s, … 32 s).
    pub retries: RetryPolicy,
    /// The pause before what failed in the background is tried again (1 s).
    pub pause: Duration,
    /// How often chunks whose sessions have changed are counted again (live, 10 s).
    pub refresh_every: Duration,
}

impl Default for OccupancyConfig {
    fn default() -> Self {
        Self {
            answer_within: Duration::from_millis(700),
            browse_within: Duration::from_secs(10),
            chunks_max: 100_000,
            runs_max: 512,
            rows_max: 500,
            retries: RetryPolicy { retries: 6, delay: Duration::from_secs(1), jitter: 0.2, constant: false },
            pause: Duration::from_secs(1),
            refresh_every: Duration::from_secs(10),
        }
    }
}

fn refuse(detail: impl std::fmt::Display) -> ConfiguredError {
    ConfiguredError { setting: "occupancy", detail: detail.to_string() }
}

pub fn limits(config: &Config) -> OccupancyConfig {
    let own = &config.occupancy;
    OccupancyConfig { chunks_max: own.chunks_max, refresh_every: own.refresh_every, ..OccupancyConfig::default() }
}

/// Where datasets and `/spaces` come from.
pub fn source(config: &Config) -> OccupancySource {
    let own = &config.occupancy;
    own.source.unwrap_or(if own.database_url.is_some() { OccupancySource::External } else { OccupancySource::Live })
}

/// The same, for people.
pub fn source_word(config: &Config) -> &'static str {
    match source(config) {
        OccupancySource::Live => "the log's sessions",
        OccupancySource::External => "the external database's sessions",
    }
}

/// The external database, where that is the source. Connects to nothing.
pub fn external(config: &Config) -> Result<Option<Arc<dyn Sessions>>, ConfiguredError> {
    if source(config) == OccupancySource::Live {
        return Ok(None);
    }
    let own = &config.occupancy;
    let url = own.database_url.as_ref().ok_or_else(|| refuse("source = \"external\" needs database_url or the variable TIPPERS_DB_URL"))?;
    let database = Database::new(&Options {
        url: plain_scheme(&url.0),
        tls_ca: own.database_tls_ca.clone(),
        application_name: "desireline-occupancy".to_owned(),
        pool_max: own.pool_max,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: own.statement_timeout,
        lock_timeout: own.statement_timeout.min(Duration::from_secs(10)),
    });
    Ok(Some(Arc::new(External::new(database.map_err(refuse)?))))
}

/// Other programs name their driver in the scheme: `postgresql+psycopg2://`.
fn plain_scheme(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) if scheme.starts_with("postgres") && scheme.contains('+') => format!("postgresql://{rest}"),
        _ => url.to_owned(),
    }
}

/// The folder or URL under which objects lie: beside the log, unless they have a place of their own.
pub fn store_url(config: &Config) -> String {
    let beside = || match &config.data.store_url {
        Some(url) => format!("{}/datasets", url.trim_end_matches('/')),
        None => config.data.dir.join("datasets").display().to_string(),
    };
    config.occupancy.store_url.clone().unwrap_or_else(beside)
}

pub fn store(config: &Config) -> Result<Store, ConfiguredError> {
    let own = config.occupancy.store_url.is_some();
    let options = if own { &config.occupancy.store_options } else { &config.data.store_options };
    Store::open(&store_url(config), &options.0).map_err(|error| refuse(format!("store_url: {error} ({})", error.hint())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, load};

    fn config(env: &[(&str, &str)]) -> Config {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        load(&Inputs { env, ..Inputs::default() }).expect("valid")
    }

    const URL: &str = "postgres://reader@db.example/tippers";

    #[test]
    fn the_variable_of_old_makes_the_source_external_unless_it_is_told_otherwise() {
        assert_eq!(source(&config(&[])), OccupancySource::Live);
        assert_eq!(source(&config(&[("TIPPERS_DB_URL", "")])), OccupancySource::Live);
        let set = config(&[("TIPPERS_DB_URL", URL)]);
        assert_eq!((source(&set), set.occupancy.database_url.as_ref().map(|url| url.0.as_str())), (OccupancySource::External, Some(URL)));
        let own = config(&[("TIPPERS_DB_URL", URL), ("DESIRELINE__OCCUPANCY__DATABASE_URL", "postgres://other@h/d")]);
        assert_eq!(own.occupancy.database_url.as_ref().map(|url| url.0.as_str()), Some("postgres://other@h/d"));
        let live = config(&[("TIPPERS_DB_URL", URL), ("DESIRELINE__OCCUPANCY__SOURCE", "live")]);
        assert_eq!(source(&live), OccupancySource::Live);
        assert!(external(&live).expect("valid").is_none() && external(&set).expect("valid").is_some());
    }

    #[test]
    fn an_external_source_needs_a_database_that_can_be_named() {
        let error = |env: &[(&str, &str)]| external(&config(env)).err().expect("a mistake").to_string();
        assert!(error(&[("DESIRELINE__OCCUPANCY__SOURCE", "external")]).contains("TIPPERS_DB_URL"));
        let text = error(&[("TIPPERS_DB_URL", "postgres://u:secret@host:port/db")]);
        assert!(text.starts_with("occupancy: ") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn objects_lie_beside_the_log_unless_they_have_a_place_of_their_own() {
        assert_eq!(store_url(&config(&[("DESIRELINE__DATA__DIR", "/srv/d")])), "/srv/d/datasets");
        let remote = ("DESIRELINE__DATA__STORE_URL", "s3://bucket/log/");
        assert_eq!(store_url(&config(&[remote])), "s3://bucket/log/datasets");
        assert_eq!(store_url(&config(&[remote, ("DESIRELINE__OCCUPANCY__STORE_URL", "/else")])), "/else");
    }

    #[test]
    fn schemes_with_a_driver_are_understood() {
        assert_eq!(plain_scheme("postgresql+psycopg2://u@h/d"), "postgresql://u@h/d");
        assert_eq!(plain_scheme(URL), URL);
        assert_eq!(plain_scheme("host=a user=b"), "host=a user=b");
    }
}
