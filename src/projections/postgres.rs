//! PostgreSQL: sessions, events, journeys, clusters, minutes and interactions as tables for BI and other tools.
//!
//! Promises:
//! * **One transaction per changeset.** The rows of a changeset, the time up to which the tables are true and the epoch of the server that
//!   wrote them change together: nobody reads half of it, and a crash on either side leaves one time or the other. The first statement
//!   of the transaction moves the recorded time from the one this server knows to the new one, under its epoch; no row moves if
//!   another server has taken over (fenced) or if the tables stand elsewhere (opened again). So a changeset is applied once.
//! * **Bulk.** Changed rows are copied in binary into temporary staging tables, then one statement puts and one takes away per table.
//! * **Tables, not a database.** Tables may lie in any schemas, with other tables beside them. A table of the same name with other columns
//!   is refused, never written to. Views, indexes and rights that others add stay over rebuilds.
//! * **Rows that the database refuses** (a value, a constraint, a trigger of its owner) are found by halving the changeset, tried
//!   [`PostgresConfig::attempts_max`] times, and written to `refused_rows` in the same transaction; the others go on. An outage, a
//!   lock or a full disk never refuses a row.
//! * **Order never matters.** Category and brand of an interaction are those that the catalog has now, whichever came first. What
//!   nothing refers to is not there: stubs of items, products and users vanish with their last row. A table that grew by changes is the
//!   same as one built anew, but for the numbers that the database gives (`_id`, `id`) and the times at which it wrote rows.
//!
//! Which rows go where: `sessions`, `cluster` and `aggregates_minute` take every source; `user_journey` those whose user ids are integers;
//! `events` of these the ones without a context; `interaction_logs` the events of those with one. Item and transaction ids
//! of `events` that are no integers are null. When a source comes to belong elsewhere (its ids become integers, it gets a
//! context), the tables are built anew under the new settings; the settings are kept in `sources` and hold for replays up to the time
//! they were seen at, so that a history with changes of settings is not built once per change.
//!
//! Known limitations: `sessions` does not say whether a session is sealed. `real` and pgvector hold 24 bits of a number: values of
//! transactions above 16 million are rounded in `state` and `paths` (not in `sessions`). A changeset of which many rows are refused takes
//! some milliseconds for each of them. A trigger or a foreign key that somebody has added, and that refuses a row only when a rebuild
//! is merged into the tables, stops the rebuild until it is gone: its message says which. No migrations exist yet: there is one layout.

mod merge;
mod migrate;
mod rebuild;
mod refused;
mod schema;
mod stage;
mod writing;

pub use schema::Schemas;

use super::{Applied, Changeset, Standing, Target, TargetError};
use crate::config::schema as settings;
use async_trait::async_trait;
use desireline_connectors::postgres::{Connection, Database, Options, PostgresError, literal};
use desireline_dataflows::changes::{View, Views};
use desireline_records::LogicalTime;
use migrate::target_error;
use schema::{LAYOUT, MEANING, Names, Vectors};
use stage::{Facts, Sources};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone)]
pub struct PostgresConfig {
    /// The name under which the tables' state is kept.
    pub name: String,
    pub url: String,
    /// PEM file with certificates that are trusted besides the system's.
    pub tls_ca: Option<PathBuf>,
    pub schemas: Schemas,
    pub pool_max: usize,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    pub lock_timeout: Duration,
    pub gather: Duration,
    /// A row that the database refuses so often is a dead letter.
    pub attempts_max: u32,
    /// Rows of one transaction, about.
    pub rows_max: usize,
}

impl PostgresConfig {
    /// Nothing when no database is set.
    pub fn from_config(own: &settings::ProjectionPostgres, all: &settings::Projections) -> Option<Self> {
        Some(Self {
            name: "postgres".to_owned(),
            url: own.url.as_ref()?.0.clone(),
            tls_ca: own.tls_ca.clone(),
            schemas: Schemas {
                ampelios: own.schema_ampelios.clone(),
                interactions: own.schema_interactions.clone(),
                clickstream: own.schema_clickstream.clone(),
                desireline: own.schema_desireline.clone(),
            },
            pool_max: own.pool_max,
            connect_timeout: own.connect_timeout,
            statement_timeout: own.statement_timeout,
            lock_timeout: own.lock_timeout,
            gather: own.gather,
            attempts_max: own.attempts_max,
            rows_max: all.batch_rows_max,
        })
    }

    fn definition(&self) -> String {
        let [ampelios, interactions, clickstream, desireline] = self.schemas.all();
        format!("{MEANING} {ampelios} {interactions} {clickstream} {desireline}")
    }
}

/// How changes come into the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The tables are followed from the recorded time on.
    Follow,
    /// They were empty and are being filled.
    Fill,
    /// Shadows are being filled.
    Shadow,
}

pub struct PostgresTarget {
    config: PostgresConfig,
    database: Database,
    /// With its staging tables; absent after an error.
    connection: Option<Connection>,
    epoch: u64,
    mode: Mode,
    /// The time that is recorded: of what is applied, or of the rebuild under way.
    recorded: Option<LogicalTime>,
    names: Names,
    sources: Sources,
    /// Settings that hold during a rebuild up to the times they were seen at.
    pinned: Sources,
    dead: merge::Dead,
    /// Some row is refused: later changes may take it back.
    refused: bool,
}

impl PostgresTarget {
    /// Reads the URL and the certificates; connects to nothing.
    pub fn new(config: PostgresConfig) -> Result<Self, PostgresError> {
        let database = Database::new(&Options {
            url: config.url.clone(),
            tls_ca: config.tls_ca.clone(),
            application_name: "desireline".to_owned(),
            pool_max: config.pool_max,
            connect_timeout: config.connect_timeout,
            statement_timeout: config.statement_timeout,
            lock_timeout: config.lock_timeout,
        })?;
        let names = Names::new(config.schemas.clone(), Vectors::default());
        Ok(Self {
            config,
            database,
            connection: None,
            epoch: 0,
            mode: Mode::Follow,
            recorded: None,
            names,
            sources: Sources::new(),
            pinned: Sources::new(),
            dead: merge::Dead::default(),
            refused: false,
        })
    }

    /// The connection that writes, taken out: it comes back when all went well, and is closed otherwise.
    async fn take(&mut self) -> Result<Connection, TargetError> {
        match self.connection.take() {
            Some(connection) if !connection.is_closed() => Ok(connection),
            _ => {
                let mut connection = self.database.connection().await.map_err(target_error)?;
                connection.run(&merge::create_stages()).await.map_err(target_error)?;
                Ok(connection)
            }
        }
    }

    fn name(&self) -> String {
        literal(&self.config.name)
    }

    /// Claims the target within the transaction of [`migrate::tables`].
    async fn claim(&mut self, connection: &mut Connection, made: bool) -> Result<Standing, TargetError> {
        let (name, definition, epoch) = (self.name(), literal(&self.config.definition()), self.epoch);
        let insert = format!(
            "INSERT INTO {{projection}} (name, definition, layout, epoch) VALUES ({name}, {definition}, {LAYOUT}, {epoch}) ON CONFLICT DO NOTHING"
        );
        connection.run(&self.names.fill(&insert)).await.map_err(target_error)?;
        let select = format!(
            "SELECT epoch, layout, definition = {definition}, applied, rebuilding FROM {{projection}} WHERE name = {name} FOR UPDATE"
        );
        let rows = connection.rows(&self.names.fill(&select)).await.map_err(target_error)?;
        let Some([Some(recorded), Some(layout), Some(same), applied, Some(rebuilding)]) = rows.first().map(Vec::as_slice) else {
            return Err(TargetError::Unavailable("the state of the projection cannot be read".to_owned()));
        };
        let newer = number(recorded)?;
        if newer > epoch {
            return Err(TargetError::Fenced { own: epoch, newer });
        }
        migrate::layout(number(layout)?)?;
        let applied = applied.as_deref().map(number::<LogicalTime>).transpose()?;
        let standing = match applied {
            Some(time) if same == "t" && rebuilding == "f" && !made => Standing::At(time),
            _ => Standing::Fresh,
        };
        // What is not there is said to be missing until it has been built again, also to the next server.
        let kept = if standing == Standing::Fresh { "NULL" } else { "applied" };
        let update = format!(
            "UPDATE {{projection}} SET epoch = {epoch}, definition = {definition}, applied = {kept}, updated_at = now() WHERE name = {name}"
        );
        connection.run(&self.names.fill(&update)).await.map_err(target_error)?;
        Ok(standing)
    }

    /// The settings of sources as the live tables know them.
    async fn read_sources(&self, connection: &mut Connection) -> Result<Sources, TargetError> {
        let query = "SELECT source_id, user_id_type, context, transaction_value, since FROM {sources}";
        let rows = connection.rows(&self.names.live().fill(query)).await.map_err(target_error)?;
        let mut sources = Sources::new();
        for row in rows {
            if let [Some(source), Some(kind), Some(context), Some(value), Some(since)] = row.as_slice() {
                let facts = Facts { int: kind == "int", context: context == "t", transaction_value: value == "t", since: number(since)? };
                sources.insert(number(source)?, facts);
            }
        }
        Ok(sources)
    }

    async fn any_refused(&self, connection: &mut Connection) -> Result<bool, TargetError> {
        let rows = connection.rows(&self.names.fill("SELECT 1 FROM {refused_rows} LIMIT 1")).await.map_err(target_error)?;
        Ok(!rows.is_empty())
    }

    async fn open_on(&mut self, connection: &mut Connection) -> Result<Standing, TargetError> {
        connection.begin("").await.map_err(target_error)?;
        let found = migrate::tables(connection, &self.config.schemas).await?;
        self.names = Names::new(self.config.schemas.clone(), found.vectors);
        let standing = self.claim(connection, found.made).await?;
        let sources = self.read_sources(connection).await?;
        let refused = self.any_refused(connection).await?;
        connection.commit().await.map_err(target_error)?;
        self.mode = Mode::Follow;
        self.recorded = if let Standing::At(time) = standing { Some(time) } else { None };
        self.sources = sources;
        self.pinned.clear();
        self.refused = refused;
        Ok(standing)
    }

    async fn begin_on(&mut self, connection: &mut Connection) -> Result<(), TargetError> {
        let live = self.names.live();
        let (name, epoch) = (self.name(), self.epoch);
        let state = format!(
            "UPDATE {{projection}} SET rebuilding = true, rebuilt = NULL, updated_at = now() WHERE name = {name} AND epoch = {epoch}"
        );
        let touched = connection.begin(&live.fill(&state)).await.map_err(target_error)?;
        if touched.first() != Some(&1) {
            return Err(self.displaced(connection).await);
        }
        let fill = rebuild::all_empty(connection, &live).await?;
        let shadows = if fill { rebuild::drop_shadows(&live) } else { rebuild::make_shadows(&live) };
        connection.run(&shadows).await.map_err(target_error)?;
        let pinned = self.read_sources(connection).await?;
        connection.commit().await.map_err(target_error)?;
        self.mode = if fill { Mode::Fill } else { Mode::Shadow };
        self.names = if fill { live } else { live.shadows() };
        self.recorded = None;
        self.sources = pinned.clone();
        self.pinned = pinned;
        self.refused = false;
        Ok(())
    }

    async fn finish_on(&mut self, connection: &mut Connection, time: LogicalTime) -> Result<(), TargetError> {
        let live = self.names.live();
        let (name, epoch) = (self.name(), self.epoch);
        let state = format!(
            "UPDATE {{projection}} SET rebuilding = false, rebuilt = NULL, applied = {time}, updated_at = now() \
             WHERE name = {name} AND epoch = {epoch} AND rebuilding"
        );
        let touched = connection.begin(&live.fill(&state)).await.map_err(target_error)?;
        if touched.first() != Some(&1) {
            return Err(self.displaced(connection).await);
        }
        if self.mode == Mode::Shadow {
            connection.run(&rebuild::merge(&live)).await.map_err(target_error)?;
            connection.run(&rebuild::drop_shadows(&live)).await.map_err(target_error)?;
        }
        connection.commit().await.map_err(target_error)?;
        self.mode = Mode::Follow;
        self.names = live;
        self.recorded = Some(time);
        self.pinned.clear();
        Ok(())
    }

    /// Why no state could be moved: somebody newer, or a state that is not the one this server left.
    async fn displaced(&self, connection: &mut Connection) -> TargetError {
        let select = format!("SELECT epoch FROM {{projection}} WHERE name = {}", self.name());
        let rows = match connection.rows(&self.names.fill(&select)).await {
            Ok(rows) => rows,
            Err(error) => return target_error(error),
        };
        match rows.into_iter().flatten().flatten().next().map(|epoch| number::<u64>(&epoch)) {
            Some(Ok(newer)) if newer > self.epoch => TargetError::Fenced { own: self.epoch, newer },
            Some(Ok(_)) => TargetError::Unavailable("the tables stand at another time than was believed".to_owned()),
            Some(Err(error)) => error,
            None => TargetError::Lost("the state of the projection is gone".to_owned()),
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, TargetError> {
    text.parse().map_err(|_| TargetError::Refused(format!("`{text}` in the state of the projection is no valid number")))
}

#[async_trait]
impl Target for PostgresTarget {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn views(&self) -> Views {
        [View::Events, View::Sessions, View::Journeys, View::Clusters, View::Minutes, View::Catalog].into_iter().collect()
    }

    fn gather(&self) -> Duration {
        self.config.gather
    }

    fn rows_max(&self) -> usize {
        self.config.rows_max
    }

    async fn open(&mut self, epoch: u64) -> Result<Standing, TargetError> {
        self.epoch = epoch;
        self.connection = None;
        let mut connection = self.take().await?;
        let standing = self.open_on(&mut connection).await?;
        self.connection = Some(connection);
        Ok(standing)
    }

    async fn begin_rebuild(&mut self) -> Result<(), TargetError> {
        let mut connection = self.take().await?;
        self.begin_on(&mut connection).await?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn apply(&mut self, changes: &Changeset) -> Result<Applied, TargetError> {
        let mut connection = self.take().await?;
        let applied = self.write(&mut connection, changes).await?;
        self.connection = Some(connection);
        Ok(applied)
    }

    async fn finish_rebuild(&mut self, time: LogicalTime) -> Result<(), TargetError> {
        let mut connection = self.take().await?;
        self.finish_on(&mut connection, time).await?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn check(&mut self) -> Result<(), TargetError> {
        let mut connection = self.take().await?;
        let live = self.names.live();
        let mut missing = migrate::missing(&mut connection, &live).await.map_err(target_error)?;
        if missing.is_empty() && self.mode == Mode::Shadow {
            missing = migrate::missing(&mut connection, &self.names).await.map_err(target_error)?;
        }
        self.connection = Some(connection);
        match missing.as_slice() {
            [] => Ok(()),
            tables => Err(TargetError::Lost(format!("tables are missing: {}", tables.join(", ")))),
        }
    }
}
