//! Extraction: the queries of indexes, rules and features become tables on the object store.
//!
//! A run renders the template, checks that the text only reads, asks the database of the index's connection, and writes the rows while they
//! come; then the book learns of the table. The rows of rules and features are those of the index's keys: the different values of one of
//! its columns, in the order in which they are first met, without nulls.
//!
//! What it promises:
//! - **The last query counts.** A run enters what it wrote only while the query is the one that it had read: one that was begun before a
//!   change, and ends after it, changes nothing. Runs of one record go one after another, so the run that began last wins.
//! - **Old or new.** A table is replaced whole, at its end; a run that fails or is cancelled leaves the older one. A cancelled run cancels its
//!   statement in the database.
//! - **Outages are waited out**, with pauses; anything else is the run's error, in words for whoever wrote the query. Passwords are in no
//!   error and no log.
//! - **Nothing is asked for nothing.** Over an index without keys a query has no rows, and no database is asked. Its table then has the column
//!   of the keys alone.
//! - **Memory is flat** but for the keys, of which there are at most [`ExtractionConfig::keys_max`].
//!
//! # Known limitations
//! - A rule or feature stays materialised when its index is materialised again: it has the rows of the older keys until it is itself.
//! - Between the moment in which a table is replaced and the one in which the book knows, a crash leaves the new rows with the older counts.
//!   The run goes on after the restart and makes good for it.

use super::book::Shelved;
use super::connections::connection;
use super::queries::dialect;
use super::record::{Concept, Connection, Feature, Id, Index, LIVE_CONNECTION, Materialized, Rule, Sql};
use super::removal::folder;
use super::{ConceptError, Concepts, Inner, now};
use crate::config::Config;
use crate::runs::{Job, LogLevel, NewRun, RetryPolicy, RunContext, RunError, RunId};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Schema, SchemaRef};
use async_trait::async_trait;
use desireline_connectors::sql::{self, Kind as Database, QueryLimits, SqlError as DatabaseError, Target};
use desireline_connectors::table::{self, Scan, TableError, TableFacts, TableLimits, WriteError};
use desireline_records::Micros;
use desireline_sql::live::{self, LiveError, Tables};
use desireline_sql::statement::{self, Checked};
use desireline_sql::{SqlError, template};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Every setting, with its default.
#[derive(Clone, Debug)]
pub struct ExtractionConfig {
    /// What a query may take (10 s, 1 h, 100,000,000 rows, 64 GiB).
    pub limits: QueryLimits,
    /// Values of an index (2,000,000).
    pub keys_max: usize,
    /// How outages are waited out (6 times, after 1 s, 2 s, … 32 s).
    pub retries: RetryPolicy,
}

impl Default for ExtractionConfig {
    fn default() -> Self {
        let limits = QueryLimits { rows_max: 100_000_000, bytes_max: 64 << 30, ..QueryLimits::default() };
        let retries = RetryPolicy { retries: 6, delay: Duration::from_secs(1), jitter: 0.2, constant: false };
        Self { limits, keys_max: 2_000_000, retries }
    }
}

impl ExtractionConfig {
    pub fn of(config: &Config) -> Self {
        let own = &config.concepts;
        let limits = QueryLimits {
            connect_timeout: own.connect_timeout,
            statement_timeout: own.statement_timeout,
            rows_max: own.rows_max,
            bytes_max: own.bytes_max.0,
            tls_ca: own.tls_ca.clone(),
        };
        Self { limits, keys_max: own.keys_max, ..Self::default() }
    }
}

/// What extraction has of its own.
#[derive(Default)]
pub(super) struct Extraction {
    pub config: ExtractionConfig,
    /// The tables of the `live` connection.
    live: RwLock<Option<(Arc<dyn Tables>, live::Limits)>>,
}

impl Extraction {
    pub fn new(config: ExtractionConfig) -> Self {
        Self { config, live: RwLock::default() }
    }
}

/// A record with a query of which a table is made.
pub(super) trait Extracted: Shelved + Clone {
    /// The name of its runs' job.
    const RUN: &'static str;
    /// As messages call its kind, and many of them.
    const PLURAL: &'static str;
    fn sql(&self) -> &Sql;
    /// The index of whose keys its rows are; nothing for an index itself.
    fn index_id(&self) -> Option<Id>;
    /// The column of the keys; the first, where none is named.
    fn index_column(&self) -> Option<&str>;
    fn materialized(&self) -> &Materialized;
    fn set_materialized(&mut self, materialized: Materialized);
}

macro_rules! extracted {
    ($record:ident, $run:literal, $plural:literal, $index:expr, $column:expr) => {
        impl Extracted for $record {
            const RUN: &'static str = $run;
            const PLURAL: &'static str = $plural;

            fn sql(&self) -> &Sql {
                &self.sql
            }

            fn index_id(&self) -> Option<Id> {
                let of: fn(&Self) -> Option<Id> = $index;
                of(self)
            }

            fn index_column(&self) -> Option<&str> {
                let of: fn(&Self) -> Option<&str> = $column;
                of(self)
            }

            fn materialized(&self) -> &Materialized {
                &self.materialized
            }

            fn set_materialized(&mut self, materialized: Materialized) {
                self.materialized = materialized;
            }
        }
    };
}

extracted!(Index, "materialize_index_job", "indexes", |_| None, |_| None);
extracted!(Rule, "materialize_rule_job", "rules", |rule| Some(rule.index_id), |rule| rule.index_column.as_deref());
extracted!(Feature, "materialize_feature_job", "features", |feature| Some(feature.index_id), |feature| feature.index_column.as_deref());

/// The parameters of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractParams {
    pub c_id: Id,
    pub id: Id,
}

/// Where a record's table lies.
pub fn object<R: Shelved>(id: Id) -> String {
    format!("{}/data.parquet", folder(R::KIND, id).unwrap_or_default())
}

impl Concepts {
    /// The tables of the `live` connection, from now on; to be said before runs begin.
    pub fn set_live(&self, tables: Arc<dyn Tables>, limits: live::Limits) {
        *self.inner.extraction.live.write().unwrap_or_else(PoisonError::into_inner) = Some((tables, limits));
    }

    pub async fn materialize_index(&self, c_id: Id, index_id: Id) -> Result<RunId, ConceptError> {
        self.materialize::<Index>(c_id, index_id).await
    }

    /// The index must be materialised.
    pub async fn materialize_rule(&self, c_id: Id, r_id: Id) -> Result<RunId, ConceptError> {
        self.materialize::<Rule>(c_id, r_id).await
    }

    /// The index must be materialised.
    pub async fn materialize_feature(&self, c_id: Id, feature_id: Id) -> Result<RunId, ConceptError> {
        self.materialize::<Feature>(c_id, feature_id).await
    }

    async fn materialize<R: Extracted>(&self, c_id: Id, id: Id) -> Result<RunId, ConceptError> {
        let shelf = self.book()?.read();
        shelf.get::<Concept>(c_id)?;
        let record = shelf.get_in::<R>(c_id, id)?;
        if let Some(index_id) = record.index_id()
            && !shelf.get::<Index>(index_id)?.materialized.is_materialized
        {
            return Err(ConceptError::Refused(format!("Index with ID {index_id} must be materialized before materializing {}", R::PLURAL)));
        }
        let run = NewRun {
            job_name: R::RUN.to_owned(),
            params: json!(ExtractParams { c_id, id }),
            serial_key: folder(R::KIND, id),
            retries: self.inner.extraction.config.retries,
            ..NewRun::default()
        };
        Ok(self.runs().submit(run).await?)
    }

    /// Whether a connection works; else why not, in the words of a database driver.
    pub async fn test_connection(&self, conn_id: Id) -> Result<Result<(), String>, ConceptError> {
        let connection = self.connection(conn_id)?;
        if connection.conn_id == LIVE_CONNECTION {
            return Ok(Ok(()));
        }
        let target = match self.inner.target(&connection) {
            Ok(target) => target,
            Err(error) if error.code == UNKNOWN_TYPE => return Ok(Err(format!("ValueError: {error}"))),
            Err(error) => return Ok(Err(format!("InternalError: {error}"))),
        };
        let tested = sql::ping(&target, &self.inner.extraction.config.limits).await;
        Ok(tested.map_err(|error| format!("{}: {error}", error.class())))
    }
}

const UNKNOWN_TYPE: &str = "unknown_connection_type";

/// Makes the jobs known.
pub(super) fn register(inner: &Arc<Inner>) {
    fn job<R: Extracted>(inner: &Arc<Inner>) {
        inner.runs.register(R::RUN, Arc::new(ExtractJob::<R>(Arc::downgrade(inner), PhantomData)));
    }
    job::<Index>(inner);
    job::<Rule>(inner);
    job::<Feature>(inner);
}

struct ExtractJob<R>(Weak<Inner>, PhantomData<fn() -> R>);

#[async_trait]
impl<R: Extracted> Job for ExtractJob<R> {
    async fn run(&self, ctx: RunContext, params: &Json) -> Result<Json, RunError> {
        let unreadable = |error| RunError::user("params", format!("the parameters cannot be read: {error}"));
        let params = ExtractParams::deserialize(params).map_err(unreadable)?;
        let inner = self.0.upgrade().ok_or_else(RunError::stopped)?;
        let extracted = inner.extract::<R>(&ctx, params).await;
        if ctx.cancelled().is_cancelled() { Err(RunError::stopped()) } else { extracted }
    }

    fn resumable(&self) -> bool {
        true
    }
}

/// Why rows end.
enum RowsError {
    Stopped,
    Database(DatabaseError),
    Live(LiveError),
}

type Rows = BoxStream<'static, Result<RecordBatch, RowsError>>;

/// What a query gave: at which logical time, if it has one, its columns and rows.
struct Answer {
    as_of: Option<u64>,
    schema: SchemaRef,
    rows: Rows,
}

impl Inner {
    async fn extract<R: Extracted>(&self, ctx: &RunContext, params: ExtractParams) -> Result<Json, RunError> {
        // Before the record is read: whatever changes it from here on is newer.
        let begun = now();
        let shelf = self.book.read();
        let found = shelf.get_in::<R>(params.c_id, params.id).map_err(|error| user(&error))?;
        let index_id = found.index_id().unwrap_or(params.id);
        let index = shelf.get::<Index>(index_id).map_err(|error| user(&error))?;
        let connection = connection(&shelf, index.conn_id).map_err(|error| user(&error))?;
        let statement = self.statement(connection, found.sql()).await?;
        let mut keys = None;
        if found.index_id().is_some() {
            let (name, values) = self.keys(index, found.index_column()).await?;
            ctx.log(LogLevel::Info, "keys", format!("{} different values of `{name}`", values.len()));
            keys = Some((name, values));
        }
        let answer = self.ask(ctx, connection, statement, keys).await?;
        let as_of = answer.as_of;
        let object = object::<R>(params.id);
        let rows = until(answer.rows, ctx.cancelled().clone());
        let limits = TableLimits { bytes_max: self.extraction.config.limits.bytes_max };
        let facts = table::write(&self.store, &object, answer.schema, rows, limits).await.map_err(write_failed)?;
        ctx.log(LogLevel::Info, "table", format!("{} rows, {} bytes written to {object}", facts.rows, facts.bytes));
        let result = json!({"rows": facts.rows, "bytes": facts.bytes, "object": object, "as_of": as_of});
        let entered = self.enter::<R>(params, begun, &object, facts, as_of).await?;
        if !entered {
            ctx.log(LogLevel::Warning, "", "the query was changed meanwhile: what was made of the older one does not count");
        }
        Ok(result)
    }

    /// Whether the book took it: the query may be another one by now.
    async fn enter<R: Extracted>(
        &self,
        params: ExtractParams,
        begun: Micros,
        object: &str,
        facts: TableFacts,
        as_of: Option<u64>,
    ) -> Result<bool, RunError> {
        let storage_path = format!("{}/{object}", self.store.name().trim_end_matches('/'));
        let draft = move |draft: &mut super::Draft| {
            let mut record = R::clone(draft.get_in::<R>(params.c_id, params.id)?);
            if record.materialized().run_started_at.is_some_and(|newer| newer > begun) {
                return Ok(false);
            }
            record.set_materialized(Materialized {
                is_materialized: true,
                materialized_at: Some(draft.now),
                row_count: Some(facts.rows),
                storage_path: Some(storage_path),
                column_stats: Some(facts.column_stats),
                run_started_at: Some(begun),
                as_of,
            });
            draft.put(record);
            Ok(true)
        };
        self.book.change(now(), draft).await.map_err(|error| match error {
            ConceptError::NotFound(_) => user(&error),
            error => RunError::external(error.code(), error.to_string()),
        })
    }

    /// The text of a query, rendered and checked.
    async fn statement(&self, connection: &Connection, sql: &Sql) -> Result<Checked, RunError> {
        let dialect = dialect(connection).ok_or_else(|| unknown_type(connection))?;
        let (query, params) = (sql.sql_query.clone(), sql.query_template_params.clone().unwrap_or_default());
        let made = move || statement::check(&template::render(&query, &params)?, dialect);
        let made = tokio::task::spawn_blocking(made).await.map_err(|_| RunError::stopped())?;
        made.map_err(|error| RunError::user(error.code(), error.to_string()))
    }

    /// The keys of an index, and the name of their column.
    async fn keys(&self, index: &Index, column: Option<&str>) -> Result<(String, ArrayRef), RunError> {
        if !index.materialized.is_materialized {
            return Err(RunError::user("not_materialized", format!("Index with ID {} is not materialized", index.index_id)));
        }
        let scan = Scan::open(&self.store, &object::<Index>(index.index_id)).await.map_err(|error| table_failed(&error))?;
        let fields = scan.schema().fields();
        let field = match column {
            None => fields.first(),
            Some(column) => fields.iter().find(|field| field.name() == column),
        };
        let Some(field) = field.cloned() else {
            let available = fields.iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
            let message = format!("Column '{}' not found in index. Available columns: {available}", column.unwrap_or_default());
            return Err(RunError::user("unknown_column", message));
        };
        let wanted = [field.name().clone()];
        let (_, batches) = scan.batches(Some(&wanted)).map_err(|error| table_failed(&error))?;
        let parts = batches.map_ok(|batch| batch.column(0).clone()).try_collect::<Vec<ArrayRef>>().await;
        let parts = parts.map_err(|error| table_failed(&error))?;
        let data_type = field.data_type().clone();
        let values = tokio::task::spawn_blocking(move || table::distinct(&data_type, &parts)).await;
        let values = values.map_err(|_| RunError::stopped())?.map_err(|error| table_failed(&error))?;
        let most = self.extraction.config.keys_max;
        if values.len() > most {
            let message = format!("the index has {} different values of `{}`; {most} are the most", values.len(), field.name());
            return Err(RunError::user("too_many_keys", message));
        }
        let [name] = wanted;
        Ok((name, values))
    }

    async fn ask(
        &self,
        ctx: &RunContext,
        connection: &Connection,
        statement: Checked,
        keys: Option<(String, ArrayRef)>,
    ) -> Result<Answer, RunError> {
        if keys.is_none() && statement.has_index_values() {
            return Err(RunError::user("index_values", "the query of an index has no index to take :index_values from"));
        }
        if let Some((name, values)) = &keys
            && values.is_empty()
        {
            ctx.log(LogLevel::Info, "query", "the index has no values: nothing is asked");
            let field = arrow_schema::Field::new(name, values.data_type().clone(), true);
            let (schema, rows) = (Arc::new(Schema::new(vec![field])), futures::stream::empty().boxed());
            return Ok(Answer { as_of: None, schema, rows });
        }
        let keys = keys.map(|(_, values)| values).filter(|_| statement.has_index_values());
        let asked = async {
            if connection.conn_id == LIVE_CONNECTION {
                self.ask_live(statement, keys).await
            } else {
                self.ask_database(connection, statement, keys).await
            }
        };
        tokio::select! {
            biased;
            () = ctx.cancelled().cancelled() => Err(RunError::stopped()),
            answer = asked => answer,
        }
    }

    async fn ask_database(&self, connection: &Connection, statement: Checked, keys: Option<ArrayRef>) -> Result<Answer, RunError> {
        let target = self.target(connection)?;
        let asked = sql::query(&target, statement.pieces(), keys, &self.extraction.config.limits).await;
        let (schema, rows) = asked.map_err(|error| database_failed(&error))?;
        Ok(Answer { as_of: None, schema, rows: rows.map_err(RowsError::Database).boxed() })
    }

    async fn ask_live(&self, statement: Checked, keys: Option<ArrayRef>) -> Result<Answer, RunError> {
        let live = self.extraction.live.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((tables, limits)) = live else {
            return Err(RunError::external("live_unavailable", "this server has no live tables"));
        };
        let (as_of, schema, rows) = live::query(&tables, &statement, keys, &limits).await.map_err(|error| live_failed(&error))?;
        Ok(Answer { as_of: Some(as_of), schema, rows: rows.map_err(|error| RowsError::Live(LiveError::of(&error))).boxed() })
    }

    /// Where a connection leads, with its password.
    fn target(&self, connection: &Connection) -> Result<Target, RunError> {
        let kind = match dialect(connection) {
            Some(statement::Dialect::Postgres) => Database::Postgres,
            Some(statement::Dialect::MySql) => Database::MySql,
            Some(statement::Dialect::Live) | None => return Err(unknown_type(connection)),
        };
        let password = self.vault.open(connection.conn_id, &connection.password);
        let password = password.map_err(|error| RunError::user(error.code(), error.to_string()))?.0;
        let Connection { host, port, database, user, .. } = connection.clone();
        Ok(Target { kind, host, port, database, user, password })
    }
}

fn unknown_type(connection: &Connection) -> RunError {
    RunError::user(UNKNOWN_TYPE, format!("Unsupported connection type: {}", connection.connection_type))
}

/// The rows, until the run has to stop.
fn until(rows: Rows, stop: CancellationToken) -> Rows {
    let next = |(mut rows, stop): (Rows, CancellationToken)| async move {
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => Some(Err(RowsError::Stopped)),
            next = rows.next() => next,
        };
        next.map(|next| (next, (rows, stop)))
    };
    futures::stream::unfold((rows, stop), next).boxed()
}

fn user(error: &ConceptError) -> RunError {
    RunError::user(error.code(), error.to_string())
}

fn database_failed(error: &DatabaseError) -> RunError {
    let message = format!("SQL execution failed: {error}");
    if error.is_retryable() { RunError::external(error.code(), message) } else { RunError::user(error.code(), message) }
}

fn live_failed(error: &SqlError) -> RunError {
    let message = format!("SQL execution failed: {error}");
    match error {
        SqlError::Live(live) if live.is_retryable() => RunError::external(error.code(), message),
        _ => RunError::user(error.code(), message),
    }
}

fn table_failed(error: &TableError) -> RunError {
    let message = format!("Table object failed: {error}");
    if error.is_retryable() { RunError::external(error.code(), message) } else { RunError::user(error.code(), message) }
}

fn write_failed(error: WriteError<RowsError>) -> RunError {
    match error {
        WriteError::Table(error) => table_failed(&error),
        WriteError::Rows(RowsError::Stopped) => RunError::stopped(),
        WriteError::Rows(RowsError::Database(error)) => database_failed(&error),
        WriteError::Rows(RowsError::Live(error)) => live_failed(&SqlError::Live(error)),
    }
}
