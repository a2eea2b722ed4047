//! Queries in PostgreSQL: one prepared statement in a transaction that is read only.

mod values;

use super::columns::{Gatherer, Target as ColumnTarget};
use super::{QueryLimits, Rows, Sender, SqlError, Target, keys, stream};
use crate::postgres::{PostgresError, tls};
use arrow_array::ArrayRef;
use arrow_schema::SchemaRef;
use bytes::{BufMut, BytesMut};
use futures::StreamExt;
use std::error::Error;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use tokio_postgres::{CancelToken, Client, Config, RowStream};
use tokio_postgres_rustls::MakeRustlsConnect;
use values::{Decoder, Raw};

/// For the message that ends a statement.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

fn failed(error: tokio_postgres::Error) -> SqlError {
    let own = error.as_db_error().and_then(|db| {
        let text = format!("{} ({})", db.message(), db.code().code());
        match db.code() {
            code if *code == SqlState::QUERY_CANCELED => Some(SqlError::TimedOut(text)),
            // The transaction is read only, and stays it.
            code if code.code().starts_with("25") && *code != SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => {
                Some(SqlError::Invalid(text))
            }
            _ => None,
        }
    });
    own.unwrap_or_else(|| PostgresError::of(error).into())
}

/// A connection whose statement is cancelled when it is dropped before the end.
struct Session {
    client: Client,
    token: CancelToken,
    tls: MakeRustlsConnect,
    connection: JoinHandle<()>,
    is_at_rest: bool,
}

impl Session {
    async fn open(target: &Target, limits: &QueryLimits) -> Result<Self, SqlError> {
        let mut config = Config::new();
        config.host(&target.host).port(target.port).dbname(&target.database).user(&target.user);
        config.application_name("desireline").connect_timeout(limits.connect_timeout).tcp_user_timeout(Duration::from_secs(60));
        config.keepalives(true).keepalives_idle(Duration::from_secs(30)).keepalives_interval(Duration::from_secs(10)).keepalives_retries(3);
        if !target.password.is_empty() {
            config.password(&target.password);
        }
        let tls = tls::connector(&config, limits.tls_ca.as_deref())?;
        let connected = tokio::time::timeout(limits.connect_timeout, config.connect(tls.clone())).await;
        let (client, connection) = connected.map_err(|_| super::late(limits.connect_timeout))?.map_err(failed)?;
        // Its errors reach whoever waits for an answer.
        let connection = tokio::spawn(async move { drop(connection.await) });
        let token = client.cancel_token();
        Ok(Self { client, token, tls, connection, is_at_rest: true })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_at_rest {
            return;
        }
        let (token, tls, connection) = (self.token.clone(), self.tls.clone(), self.connection.abort_handle());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if !matches!(tokio::time::timeout(CANCEL_TIMEOUT, token.cancel_query(tls)).await, Ok(Ok(()))) {
                    tracing::debug!("a statement could not be cancelled; its timeout ends it");
                }
                connection.abort();
            });
        }
    }
}

pub(super) async fn ping(target: &Target, limits: &QueryLimits) -> Result<(), SqlError> {
    let session = Session::open(target, limits).await?;
    session.client.simple_query("SELECT 1").await.map(drop).map_err(failed)
}

pub(super) async fn query(
    target: &Target,
    pieces: &[String],
    keys: Option<ArrayRef>,
    limits: &QueryLimits,
) -> Result<(SchemaRef, Rows), SqlError> {
    let mut session = Session::open(target, limits).await?;
    session.is_at_rest = false;
    let timeout = limits.statement_timeout.as_millis().max(1);
    let settings = format!(
        "SET statement_timeout = {timeout}; SET lock_timeout = {timeout}; SET idle_in_transaction_session_timeout = {timeout}; \
         SET client_min_messages = warning; SET TimeZone = 'UTC'; SET standard_conforming_strings = on; \
         SET default_transaction_read_only = on; BEGIN TRANSACTION READ ONLY"
    );
    session.client.batch_execute(&settings).await.map_err(failed)?;
    let (text, array) = match &keys {
        None => (pieces.concat(), String::new()),
        Some(keys) => (with_parameters(pieces, keys::postgres_type(keys)), keys::postgres_array(keys)?),
    };
    let statement = session.client.prepare(&text).await.map_err(failed)?;
    if statement.columns().is_empty() {
        return Err(SqlError::Invalid("the statement gives no columns".to_owned()));
    }
    let decoders = statement.columns().iter().map(|column| Decoder::of(column.name(), column.type_())).collect::<Result<Vec<_>, _>>()?;
    let targets: Vec<(&str, ColumnTarget)> =
        statement.columns().iter().map(tokio_postgres::Column::name).zip(decoders.iter().map(|decoder| decoder.target())).collect();
    let gatherer = Gatherer::new(targets, limits);
    let array = Array(&array);
    let parameters = vec![&array; pieces.len() - 1];
    let rows = session.client.query_raw(&statement, parameters).await.map_err(failed)?;
    let schema = gatherer.schema();
    Ok((schema, stream(|sender| read(session, rows, decoders, gatherer, sender))))
}

async fn read(mut session: Session, rows: RowStream, decoders: Vec<Decoder>, mut gatherer: Gatherer, sender: Sender) {
    let mut rows = std::pin::pin!(rows);
    loop {
        let batch = match rows.next().await {
            Some(Ok(row)) => gather(&row, &decoders, &mut gatherer),
            Some(Err(error)) => Err(failed(error)),
            None => {
                session.is_at_rest = true;
                match gatherer.take() {
                    Ok(None) => return,
                    last => last,
                }
            }
        };
        let is_last = session.is_at_rest || batch.is_err();
        if let Some(batch) = batch.transpose()
            && (sender.send(batch).await.is_err() || is_last)
        {
            return;
        }
    }
}

fn gather(row: &tokio_postgres::Row, decoders: &[Decoder], gatherer: &mut Gatherer) -> Result<Option<arrow_array::RecordBatch>, SqlError> {
    let mut bytes = 0;
    for (at, decoder) in decoders.iter().enumerate() {
        let column = &mut gatherer.columns[at];
        match row.try_get::<_, Option<Raw<'_>>>(at).map_err(failed)? {
            None => column.push_null(),
            Some(Raw(value)) => {
                bytes += value.len();
                decoder.push(value, column).ok_or_else(|| SqlError::Data(format!("column {} cannot be read", at + 1)))?;
            }
        }
        bytes += 8;
    }
    gatherer.end_row(bytes)
}

/// The statement with a parameter between any two pieces: an array of keys.
///
/// `a IN (…)` becomes `a = ANY ($1)`: the parameter then takes the type of `a`, whatever that is, and the plan is made for the values.
/// `NOT IN` becomes `<> ALL`. Anywhere else the array is unfolded into rows of `type_name`.
fn with_parameters(pieces: &[String], type_name: &str) -> String {
    let (first, rest) = pieces.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut text = first.to_owned();
    for (at, piece) in rest.iter().enumerate() {
        let number = at + 1;
        let before = text.trim_end().strip_suffix('(').map_or("", str::trim_end);
        if let Some(tested) = without_word(before, "IN") {
            let (operand, operator) = without_word(tested, "NOT").map_or((tested, "= ANY"), |operand| (operand, "<> ALL"));
            text = format!("{operand} {operator} (${number}");
        } else if ["ANY", "ALL", "SOME"].iter().any(|word| without_word(before, word).is_some()) {
            text.push_str(&format!("${number}"));
        } else if without_word(before, "UNNEST").is_some() {
            text.push_str(&format!("${number}::{type_name}[]"));
        } else {
            text.push_str(&format!("SELECT unnest(${number}::{type_name}[])"));
        }
        text.push_str(piece);
    }
    text
}

/// The text before a word that it ends with.
fn without_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(word.len())?;
    let before = text.get(..at).filter(|_| text.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(word)))?;
    let is_apart = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$' || c == '"' && word != "IN" && word != "NOT");
    (is_apart && !before.is_empty()).then(|| before.trim_end())
}

/// An array in PostgreSQL's text form, of whatever type the statement wants.
#[derive(Debug)]
struct Array<'a>(&'a str);

impl ToSql for Array<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.to_sql(ty, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_parameters_of_the_type_that_they_are_compared_with() {
        for (pieces, expected) in [
            (&["SELECT a FROM t WHERE a IN (", ") AND b"][..], "SELECT a FROM t WHERE a = ANY ($1) AND b"),
            (&["SELECT a FROM t WHERE a not in ( ", " )"], "SELECT a FROM t WHERE a <> ALL ($1 )"),
            (&["SELECT a FROM t WHERE \"in\"IN(", ") OR c IN (", ")"], "SELECT a FROM t WHERE \"in\" = ANY ($1) OR c = ANY ($2)"),
            (&["SELECT a FROM t WHERE a = ANY(", ")"], "SELECT a FROM t WHERE a = ANY($1)"),
            (&["SELECT a FROM unnest(", ") k"], "SELECT a FROM unnest($1::int8[]) k"),
            (&["SELECT min(", ")"], "SELECT min(SELECT unnest($1::int8[]))"),
            (&["SELECT a FROM t JOIN (", ") k ON true"], "SELECT a FROM t JOIN (SELECT unnest($1::int8[])) k ON true"),
        ] {
            let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
            assert_eq!(with_parameters(&pieces, "int8"), expected);
        }
    }
}
