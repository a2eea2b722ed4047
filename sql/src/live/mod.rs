//! SQL over tables that live in this process: what the `live` connection answers.
//!
//! A statement is planned and run by DataFusion over [`Tables`], a handful of tables that are read at one logical time. What it promises:
//! - **One time.** All tables of a statement are read together, and `NOW()` is the logical time of that read, never the clock.
//! - **One answer.** One partition, rows in a fixed order: as the statement orders them, else by the columns of the answer from left to
//!   right. Functions that answer differently each time (`random()`, `uuid()`) are refused.
//! - **PostgreSQL's words.** Statements that were written for PostgreSQL run unchanged, as far as [`dialect`](self) goes: `EXTRACT` of
//!   timestamps, dates, and differences of timestamps; `DATE(x)`; `AT TIME ZONE`; `::type`, which rounds; a trailing semicolon. What would
//!   mean something else here is refused by name.
//! - **A list of any length.** `IN (:index_values)` looks each row up in a hash table, however many values there are. Where a table is
//!   restricted by its key column in this way, only the rows of those keys are read ([`TableRequest::keys`]).
//! - **Reading only.** There are the named tables and functions on values, nothing that touches a file or the network, or writes.
//! - **Limits.** Rows read, rows answered, memory and time have limits ([`Limits`]). Work happens on a thread of its own; it ends when
//!   the stream is dropped, and at the deadline.
//!
//! [`classify`] finds whether the rows of a key depend on the rows of that key alone: then a change of a key asks for that key's rows and
//! nothing else. See [`Class`], and `classes.rs` for the rules.
//!
//! # Known limitations
//! - Numbers: decimals that PostgreSQL would keep exactly are binary floats here where a function has no decimal form, and
//!   `EXTRACT` answers floats.
//! - A single step of the engine is not interrupted: the deadline takes effect between two batches of rows. A join without any equality
//!   that finds nothing among very many rows is one long step.
//! - Lengths of time are compared, added up and taken apart, but not divided or multiplied: take `EXTRACT(EPOCH FROM …)` for that.
//! - `:index_values` stands in `IN (…)` only.

mod classes;
mod error;
mod functions;
mod keys;
mod lengths;
mod plan;
mod rewrite;
mod run;
mod time;

pub use classes::{Class, classify};
/// The rows of an answer, as they come.
pub use datafusion::execution::SendableRecordBatchStream;
pub use error::LiveError;
pub use run::query;

use crate::SqlError;
use crate::statement::{self, Checked, Dialect};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use std::time::Duration;

/// The logical time of the log, in milliseconds since 1970.
pub type LogicalTime = u64;

/// Tables that can be read at one time.
#[async_trait::async_trait]
pub trait Tables: Send + Sync {
    /// The columns of a table; nothing if there is no such table.
    fn schema(&self, table: &str) -> Option<SchemaRef>;

    /// The names of all tables.
    fn names(&self) -> Vec<String>;

    /// The column whose values are the keys of a table: every row belongs to exactly one key, and what changes is said by key. A table
    /// without one is a side table: it changes slowly, and as a whole.
    fn key_column(&self, table: &str) -> Option<&str>;

    /// Some tables at one logical time, in the order of the requests. Rows come in an order that depends on them alone.
    async fn read(&self, tables: &[TableRequest]) -> Result<(LogicalTime, Vec<Vec<RecordBatch>>), SqlError>;
}

/// What is wanted of one table.
#[derive(Clone, Debug)]
pub struct TableRequest {
    pub table: String,
    /// Only rows whose key column is one of these. Others may come all the same.
    pub keys: Option<ArrayRef>,
    /// Where the rows of all tables of a request are more than this, the read fails with [`LiveError::TooManyRowsRead`].
    pub rows_max: usize,
}

/// What a statement may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of all tables together.
    pub rows_read_max: usize,
    /// Rows of the answer.
    pub rows_max: usize,
    /// Bytes that sorting, grouping and joining may take, beside the rows read.
    pub memory_bytes_max: usize,
    /// From the call to the last row.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows_read_max: 20_000_000, rows_max: 1_000_000, memory_bytes_max: 1 << 30, deadline: Duration::from_secs(300) }
    }
}

/// The same statement for some keys only: `column` of its answer, which must be the key (see [`Class`]), is one of `:index_values`.
/// For statements without `:index_values`; others are given back as they are.
pub fn restrict(statement: &Checked, column: &str) -> Result<Checked, SqlError> {
    if statement.has_index_values() {
        return Ok(statement.clone());
    }
    let text = statement.pieces().concat();
    // A comment at the end would swallow what follows it on its line.
    let text = text.trim_end().trim_end_matches(';');
    let column = column.replace('"', "\"\"");
    statement::check(&format!("SELECT * FROM (\n{text}\n) AS restricted WHERE restricted.\"{column}\" IN (:index_values)"), Dialect::Live)
}
