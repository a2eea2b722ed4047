//! PostgreSQL: connections from a URL, statements, bulk copies, and what an error means.
//!
//! [`Database`] is a pool; [`Connection`] is one connection out of it. Statements go by the simple protocol, so several of them,
//! separated by `;`, cost one round trip and are planned for the data that is there now. Rows go in by binary `COPY`
//! ([`copy::CopyRows`]).
//!
//! Promises:
//! * A connection that is dropped within a transaction is closed, never given to somebody else: whatever ends a future in the middle,
//!   the database rolls back.
//! * Every session has a statement timeout and a lock timeout, and is ended by the database when it stays idle within a transaction
//!   for as long as a statement may take: a client that vanished holds locks no longer than that.
//! * Connecting is bounded as a whole (name look-up, TCP, TLS, authentication) by [`Options::connect_timeout`]. A peer that vanished is
//!   noticed by keepalives (30 s idle, 3 probes 10 s apart) and, with data under way, after 60 s.
//! * Neither the URL nor a part of it stands in an error.
//!
//! TLS: `sslmode=disable` never, `prefer` (the default) where the server offers it, `require` always. A certificate is always verified,
//! against the system's roots and those of [`Options::tls_ca`].
//!
//! Known limitations: no client certificates, no channel binding by choice; temporary tables and time limits of a session do not go
//! through a pooler that shares connections per transaction.

pub mod copy;
mod error;
pub(crate) mod tls;

pub use copy::CopyRows;
pub use error::PostgresError;

use bytes::Bytes;
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures::{SinkExt, pin_mut};
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::{Config, SimpleQueryMessage};

/// Bytes of one message of a copy, about.
const COPY_CHUNK_BYTES: usize = 256 << 10;

#[derive(Clone)]
pub struct Options {
    /// `postgres://user:password@host/database?sslmode=require` or libpq's `key=value` form.
    pub url: String,
    /// PEM file with certificates that are trusted besides the system's.
    pub tls_ca: Option<PathBuf>,
    pub application_name: String,
    /// Connections, at least 1.
    pub pool_max: usize,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    pub lock_timeout: Duration,
}

/// A pool of connections. Connects when it is asked for a connection.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
}

impl Database {
    /// Reads the URL and the certificates; connects to nothing.
    pub fn new(options: &Options) -> Result<Self, PostgresError> {
        let mut config: Config =
            options.url.parse().map_err(|_| PostgresError::Invalid("the URL of the database cannot be read".to_owned()))?;
        config.application_name(&options.application_name).connect_timeout(options.connect_timeout);
        config.keepalives(true).keepalives_idle(Duration::from_secs(30)).keepalives_interval(Duration::from_secs(10)).keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(60));
        let tls = tls::connector(&config, options.tls_ca.as_deref())?;
        let manager = Manager::from_config(config, tls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let session = session_settings(options);
        let hook = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
            let session = session.clone();
            Box::pin(async move { client.batch_execute(&session).await.map_err(HookError::Backend) })
        });
        let pool = Pool::builder(manager)
            .max_size(options.pool_max.max(1))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(options.connect_timeout))
            .create_timeout(Some(options.connect_timeout))
            .recycle_timeout(Some(options.connect_timeout))
            .post_create(hook)
            .build()
            .map_err(|e| PostgresError::Invalid(e.to_string()))?;
        Ok(Self { pool })
    }

    /// A connection: one that is at rest, or a new one.
    pub async fn connection(&self) -> Result<Connection, PostgresError> {
        let object = self.pool.get().await.map_err(PostgresError::of_pool)?;
        Ok(Connection { object: Some(object), busy: false })
    }
}

fn session_settings(options: &Options) -> String {
    let statement = options.statement_timeout.as_millis();
    let lock = options.lock_timeout.as_millis();
    format!(
        "SET statement_timeout = {statement}; SET lock_timeout = {lock}; SET idle_in_transaction_session_timeout = {statement}; \
         SET client_min_messages = warning; SET TimeZone = 'UTC'; SET standard_conforming_strings = on"
    )
}

const HELD: &str = "the connection is held until it is dropped";

/// One connection. Goes back to its pool when it is dropped between two transactions, and is closed otherwise.
pub struct Connection {
    object: Option<Object>,
    /// Within a transaction, or waiting for an answer.
    busy: bool,
}

/// A value of a row as text; nothing for null.
pub type Field = Option<String>;

impl Connection {
    fn client(&self) -> &Object {
        self.object.as_ref().expect(HELD)
    }

    pub fn is_closed(&self) -> bool {
        self.client().is_closed()
    }

    /// Runs statements and returns how many rows each of them touched.
    pub async fn run(&mut self, statements: &str) -> Result<Vec<u64>, PostgresError> {
        let was_busy = std::mem::replace(&mut self.busy, true);
        let messages = self.client().simple_query(statements).await.map_err(PostgresError::of)?;
        self.busy = was_busy;
        Ok(messages
            .iter()
            .filter_map(|message| if let SimpleQueryMessage::CommandComplete(rows) = message { Some(*rows) } else { None })
            .collect())
    }

    /// The rows of a query, as text.
    pub async fn rows(&mut self, query: &str) -> Result<Vec<Vec<Field>>, PostgresError> {
        let was_busy = std::mem::replace(&mut self.busy, true);
        let messages = self.client().simple_query(query).await.map_err(PostgresError::of)?;
        self.busy = was_busy;
        let row = |message: SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// Begins a transaction and runs statements in it, in one round trip. Returns the rows that each statement touched.
    pub async fn begin(&mut self, statements: &str) -> Result<Vec<u64>, PostgresError> {
        self.busy = true;
        let mut touched = self.run(&format!("BEGIN; {statements}")).await?;
        touched.remove(0);
        Ok(touched)
    }

    /// Ends the transaction. After an error its outcome is unknown: a look at the database tells.
    pub async fn commit(&mut self) -> Result<(), PostgresError> {
        self.run("COMMIT").await?;
        self.busy = false;
        Ok(())
    }

    pub async fn rollback(&mut self) -> Result<(), PostgresError> {
        self.run("ROLLBACK").await?;
        self.busy = false;
        Ok(())
    }

    /// Copies rows into `target`: a table, or a table with its columns in parentheses, as SQL. Returns how many.
    pub async fn copy(&mut self, target: &str, rows: CopyRows) -> Result<u64, PostgresError> {
        let was_busy = std::mem::replace(&mut self.busy, true);
        let statement = format!("COPY {target} FROM STDIN (FORMAT binary)");
        let statement = self.client().prepare_cached(&statement).await.map_err(PostgresError::of)?;
        let sink = self.client().copy_in::<_, Bytes>(&statement).await.map_err(PostgresError::of)?;
        pin_mut!(sink);
        let mut bytes = rows.finish();
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(COPY_CHUNK_BYTES));
            sink.send(chunk).await.map_err(PostgresError::of)?;
        }
        let copied = sink.finish().await.map_err(PostgresError::of)?;
        self.busy = was_busy;
        Ok(copied)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.busy
            && let Some(object) = self.object.take()
        {
            drop(Object::take(object));
        }
    }
}

/// An identifier in quotes.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text constant in quotes.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn options(url: &str) -> Options {
        Options {
            url: url.to_owned(),
            tls_ca: None,
            application_name: "test".to_owned(),
            pool_max: 2,
            connect_timeout: Duration::from_millis(500),
            statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("a'b\\"), "'a''b\\'");
    }

    #[test]
    fn a_url_that_cannot_be_read_is_not_repeated() {
        for url in ["postgres://u@host/db?nonsense=secret", "postgres://u:secret@host:port/db", "password=secret nonsense=1"] {
            let error = Database::new(&options(url)).err().expect("the URL is wrong");
            assert_eq!(error.code(), "invalid");
            let text = format!("{error} {error:?}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_an_outage_without_the_password() {
        let database = Database::new(&options("postgres://u:secret@127.0.0.1:1/db")).unwrap();
        let error = database.connection().await.err().expect("nobody listens");
        assert_eq!(error.code(), "unavailable");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://u@127.0.0.1:{}/db", listener.local_addr().unwrap().port());
        let begin = std::time::Instant::now();
        let error = Database::new(&options(&url)).unwrap().connection().await.err().expect("nobody answers");
        assert_eq!(error.code(), "unavailable", "{error}");
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
