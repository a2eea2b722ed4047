//! Queries in other people's databases: PostgreSQL, and MySQL or MariaDB.
//!
//! [`query`] runs one statement in a transaction that is read only and gives its rows as Arrow batches while they arrive.
//!
//! What it promises:
//! - One statement: it goes by the protocol of prepared statements, where there is no second one. It runs READ ONLY, under
//!   [`QueryLimits::statement_timeout`], which the database enforces and, should it not answer, so do we.
//! - The values of an index are data. PostgreSQL gets them as one parameter for each place; MySQL as numbers and as texts in hexadecimal
//!   (`_utf8mb4 X'61'`), which no character can leave: its parameters end at 65,535, and a temporary table takes rights that a role
//!   for reading does not have.
//! - Memory is flat: [`BATCH_ROWS`] rows or [`BATCH_BYTES`] are gathered into a batch, and three batches are under way. The database
//!   is read no faster than the batches are taken.
//! - A stream that is dropped cancels its statement in the database.
//! - No error has the password in it.
//!
//! # Types
//! | database | Arrow |
//! |---|---|
//! | integers, MySQL's `YEAR`, `BIT` | `Int64`; unsigned `BIGINT` and `BIT`: `UInt64` |
//! | floats, `numeric`, `decimal` | `Float64`: 15 digits are exact |
//! | PostgreSQL's `boolean` | `Boolean` (MySQL's is a number) |
//! | texts, `uuid`, `json`, enumerations, `inet`, `macaddr` | `Utf8` |
//! | `bytea`, `blob`, `binary` | `Binary` |
//! | `date` | `Date32` |
//! | `timestamptz`, MySQL's `timestamp` | `Timestamp` in microseconds, UTC |
//! | `timestamp`, `datetime` | `Timestamp` in microseconds without a zone |
//! | PostgreSQL's `time` | `Time64` in microseconds |
//! | `interval`, MySQL's `time` | `Float64` in seconds; a month has 30 days, twelve have 365.25 |
//!
//! `infinity` among dates and MySQL's zero dates are nulls. Of columns with the same name the second is called `name_2`. A column of any
//! other type is an error that names it. Sessions are set to UTC.
//!
//! Known limitations:
//! - With 1,000,000 values the statement for MySQL has about 50 MB: `max_allowed_packet` must allow that.
//! - TLS is used where the server offers it, and then its certificate must be valid; MySQL's is checked against the web's roots.

mod columns;
mod error;
mod keys;
mod mysql;
mod postgres;

pub use error::SqlError;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use futures::stream::{BoxStream, StreamExt};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Rows of a batch, at most.
pub const BATCH_ROWS: usize = 8_192;
/// Bytes of values after which a batch is closed.
pub const BATCH_BYTES: usize = 8 << 20;
/// What the database gets beyond the statement's time before it is given up.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    MySql,
}

/// Where to ask, and as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub kind: Kind,
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: String,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}@{}:{}/{}", self.kind, self.user, self.host, self.port, self.database)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct QueryLimits {
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    pub rows_max: u64,
    /// Of the values as they come.
    pub bytes_max: u64,
    /// PEM file with certificates that are trusted besides the usual ones.
    pub tls_ca: Option<PathBuf>,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(3_600),
            rows_max: 100_000_000,
            bytes_max: 100 << 30,
            tls_ca: None,
        }
    }
}

/// The rows of a query. Dropping it ends the query.
pub type Rows = BoxStream<'static, Result<RecordBatch, SqlError>>;

/// Connects, asks for 1, and goes.
pub async fn ping(target: &Target, limits: &QueryLimits) -> Result<(), SqlError> {
    let asked = async {
        match target.kind {
            Kind::Postgres => postgres::ping(target, limits).await,
            Kind::MySql => mysql::ping(target, limits).await,
        }
    };
    let limit = limits.connect_timeout;
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(late(limit)))
}

/// Runs one statement, given in pieces with the keys between them, and gives its columns and the stream of its rows.
///
/// Each end of a piece opens a parenthesis that the next piece closes, as in `a IN (` and `)`.
pub async fn query(
    target: &Target,
    pieces: &[String],
    keys: Option<ArrayRef>,
    limits: &QueryLimits,
) -> Result<(SchemaRef, Rows), SqlError> {
    if pieces.is_empty() || (pieces.len() > 1) != keys.is_some() {
        return Err(SqlError::Invalid("the statement has a place for values and gets none, or gets values without a place".to_owned()));
    }
    let limit = limits.connect_timeout + limits.statement_timeout + GRACE;
    let asked = async {
        match target.kind {
            Kind::Postgres => postgres::query(target, pieces, keys, limits).await,
            Kind::MySql => mysql::query(target, pieces, keys, limits).await,
        }
    };
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(late(limit)))
}

fn late(limit: Duration) -> SqlError {
    SqlError::Unavailable(format!("no answer within {} s", limit.as_secs_f64()))
}

/// A task that reads rows, and is ended with the stream of its batches.
struct Reader(JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Batches on their way from the task that reads rows.
type Sender = mpsc::Sender<Result<RecordBatch, SqlError>>;

/// The stream of what a task sends.
fn stream<F: Future<Output = ()> + Send + 'static>(read: impl FnOnce(Sender) -> F) -> Rows {
    let (sender, batches) = mpsc::channel(1);
    let reader = Reader(tokio::spawn(read(sender)));
    let next = |(mut batches, reader): (mpsc::Receiver<_>, Reader)| async move {
        let batch = batches.recv().await?;
        Some((batch, (batches, reader)))
    };
    futures::stream::unfold((batches, reader), next).fuse().boxed()
}
