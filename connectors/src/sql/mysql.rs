//! Queries in MySQL and MariaDB: one prepared statement in a transaction that is read only.

use super::columns::{Column, Gatherer, Target as ColumnTarget};
use super::{QueryLimits, Rows, Sender, SqlError, Target, keys, stream};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use chrono::NaiveDate;
use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, Opts, OptsBuilder, Row, SslOpts, Statement, Value};
use std::time::Duration;

/// For the message that ends a statement.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);
/// The character set of bytes that are no text.
const BINARY: u16 = 63;

fn failed(error: Error) -> SqlError {
    let text = error.to_string();
    match error {
        Error::Server(server) => {
            let text = format!("{} ({})", server.message, server.code);
            match server.code {
                1969 | 3024 | 1317 => SqlError::TimedOut(text),
                1044 | 1045 | 1049 | 1142 | 1143 | 1227 | 1370 | 1698 => SqlError::Denied(text),
                1051 | 1054 | 1109 | 1146 | 1305 | 1356 => SqlError::Missing(text),
                1264 | 1265 | 1292 | 1365 | 1366 | 1406 | 1411 | 1441 | 1690 => SqlError::Data(text),
                1153 => SqlError::TooLarge(text),
                1021
                | 1037
                | 1038
                | 1040
                | 1041
                | 1053
                | 1129
                | 1152..=1161
                | 1184
                | 1203
                | 1205
                | 1206
                | 1213
                | 1226
                | 1290
                | 1836
                | 1927 => SqlError::Unavailable(text),
                _ => SqlError::Invalid(text),
            }
        }
        Error::Driver(DriverError::PacketTooLarge) => SqlError::TooLarge("the statement is larger than max_allowed_packet".to_owned()),
        Error::Driver(
            DriverError::UnknownAuthPlugin { .. } | DriverError::CleartextPluginDisabled | DriverError::MysqlOldPasswordDisabled,
        ) => SqlError::Denied(text),
        Error::Driver(DriverError::StmtParamsMismatch { .. }) => {
            SqlError::Invalid("the statement has parameters (`?`), which are not bound".to_owned())
        }
        // Of a row these would repeat values.
        Error::Driver(DriverError::FromValue { .. } | DriverError::FromRow { .. } | DriverError::UnexpectedPacket { .. }) => {
            SqlError::Unavailable("the answer of the database cannot be understood".to_owned())
        }
        Error::Driver(_) | Error::Io(_) => SqlError::Unavailable(text),
        Error::Other(_) | Error::Url(_) => SqlError::Invalid(text),
    }
}

/// A connection whose statement is killed when it is dropped before the end.
struct Session {
    conn: Conn,
    opts: Opts,
    is_at_rest: bool,
}

impl Session {
    async fn open(target: &Target, limits: &QueryLimits) -> Result<Self, SqlError> {
        // Fails where somebody else has chosen one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let builder = OptsBuilder::default()
            .ip_or_hostname(target.host.clone())
            .tcp_port(target.port)
            .user(Some(target.user.clone()))
            .pass(Some(target.password.clone()).filter(|password| !password.is_empty()))
            .db_name(Some(target.database.clone()))
            .prefer_socket(Some(false))
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .stmt_cache_size(Some(0));
        let certificates = limits.tls_ca.iter().map(|file| file.clone().into()).collect();
        let secure: Opts = builder.clone().ssl_opts(SslOpts::default().with_root_certs(certificates)).into();
        let connect = async {
            match Conn::new(secure.clone()).await {
                Err(Error::Driver(DriverError::NoClientSslFlagFromServer)) => {
                    let opts: Opts = builder.into();
                    Conn::new(opts.clone()).await.map(|conn| (conn, opts))
                }
                connected => connected.map(|conn| (conn, secure)),
            }
        };
        let connected = tokio::time::timeout(limits.connect_timeout, connect).await;
        let (conn, opts) = connected.map_err(|_| super::late(limits.connect_timeout))?.map_err(failed)?;
        Ok(Self { conn, opts, is_at_rest: true })
    }

    async fn begin(&mut self, limits: &QueryLimits) -> Result<(), SqlError> {
        let version: Option<String> = self.conn.query_first("SELECT VERSION()").await.map_err(failed)?;
        let timeout = if version.is_some_and(|version| version.contains("MariaDB")) {
            format!("SET SESSION max_statement_time = {}", limits.statement_timeout.as_secs_f64().max(0.001))
        } else {
            format!("SET SESSION max_execution_time = {}", limits.statement_timeout.as_millis().max(1))
        };
        // A backslash in a text means what the check of the statement takes it for.
        let settings = [
            timeout.as_str(),
            "SET SESSION time_zone = '+00:00'",
            "SET SESSION sql_mode = REPLACE(@@SESSION.sql_mode, 'NO_BACKSLASH_ESCAPES', '')",
            "SET SESSION TRANSACTION READ ONLY",
            "START TRANSACTION READ ONLY",
        ];
        for setting in settings {
            self.conn.query_drop(setting).await.map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_at_rest {
            return;
        }
        let (opts, id) = (self.opts.clone(), self.conn.id());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let kill = async { Conn::new(opts).await?.query_drop(format!("KILL QUERY {id}")).await };
                if !matches!(tokio::time::timeout(CANCEL_TIMEOUT, kill).await, Ok(Ok(()))) {
                    tracing::debug!("a statement could not be cancelled; its timeout ends it");
                }
            });
        }
    }
}

pub(super) async fn ping(target: &Target, limits: &QueryLimits) -> Result<(), SqlError> {
    let mut session = Session::open(target, limits).await?;
    session.conn.query_drop("SELECT 1").await.map_err(failed)
}

pub(super) async fn query(
    target: &Target,
    pieces: &[String],
    keys: Option<ArrayRef>,
    limits: &QueryLimits,
) -> Result<(SchemaRef, Rows), SqlError> {
    let text = match &keys {
        None => pieces.concat(),
        Some(keys) => pieces.join(&keys::mysql_list(keys)?),
    };
    drop(keys);
    let mut session = Session::open(target, limits).await?;
    session.is_at_rest = false;
    session.begin(limits).await?;
    let statement = session.conn.prep(text).await.map_err(failed)?;
    if statement.num_params() > 0 {
        return Err(failed(Error::Driver(DriverError::StmtParamsMismatch { required: statement.num_params(), supplied: 0 })));
    }
    let mut targets = Vec::new();
    for column in statement.columns().iter() {
        targets.push((column.name_str().into_owned(), target_of(column)?));
    }
    if targets.is_empty() {
        return Err(SqlError::Invalid("the statement gives no columns".to_owned()));
    }
    let gatherer = Gatherer::new(targets.iter().map(|(name, target)| (name.as_str(), *target)), limits);
    let (schema, limit) = (gatherer.schema(), limits.statement_timeout + super::GRACE);
    let targets = targets.into_iter().map(|(_, target)| target).collect();
    Ok((schema, stream(move |sender| read(session, statement, targets, gatherer, sender, limit))))
}

fn target_of(column: &mysql_async::Column) -> Result<ColumnTarget, SqlError> {
    let is_binary = column.character_set() == BINARY;
    Ok(match column.column_type() {
        ColumnType::MYSQL_TYPE_LONGLONG if column.flags().contains(ColumnFlags::UNSIGNED_FLAG) => ColumnTarget::UInt,
        ColumnType::MYSQL_TYPE_TINY
        | ColumnType::MYSQL_TYPE_SHORT
        | ColumnType::MYSQL_TYPE_INT24
        | ColumnType::MYSQL_TYPE_LONG
        | ColumnType::MYSQL_TYPE_LONGLONG
        | ColumnType::MYSQL_TYPE_YEAR => ColumnTarget::Int,
        ColumnType::MYSQL_TYPE_BIT => ColumnTarget::UInt,
        ColumnType::MYSQL_TYPE_FLOAT
        | ColumnType::MYSQL_TYPE_DOUBLE
        | ColumnType::MYSQL_TYPE_DECIMAL
        | ColumnType::MYSQL_TYPE_NEWDECIMAL
        | ColumnType::MYSQL_TYPE_TIME => ColumnTarget::Float,
        ColumnType::MYSQL_TYPE_DATE => ColumnTarget::Date,
        ColumnType::MYSQL_TYPE_DATETIME => ColumnTarget::Timestamp,
        ColumnType::MYSQL_TYPE_TIMESTAMP => ColumnTarget::TimestampUtc,
        ColumnType::MYSQL_TYPE_JSON | ColumnType::MYSQL_TYPE_NULL => ColumnTarget::Text,
        ColumnType::MYSQL_TYPE_GEOMETRY => {
            return Err(SqlError::Unsupported { column: column.name_str().into_owned(), type_name: "geometry".to_owned() });
        }
        _ if is_binary => ColumnTarget::Bytes,
        _ => ColumnTarget::Text,
    })
}

async fn read(
    mut session: Session,
    statement: Statement,
    targets: Vec<ColumnTarget>,
    mut gatherer: Gatherer,
    sender: Sender,
    limit: Duration,
) {
    let mut rows = match tokio::time::timeout(limit, session.conn.exec_iter(statement, ())).await {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => return drop(sender.send(Err(failed(error))).await),
        Err(_) => return drop(sender.send(Err(super::late(limit))).await),
    };
    let mut is_at_end = false;
    while !is_at_end {
        let batch = match rows.next().await {
            Ok(Some(row)) => gather(&row, &targets, &mut gatherer),
            Ok(None) => {
                is_at_end = true;
                gatherer.take()
            }
            Err(error) => Err(failed(error)),
        };
        let is_failed = batch.is_err();
        if let Some(batch) = batch.transpose()
            && (sender.send(batch).await.is_err() || is_failed)
        {
            break;
        }
    }
    drop(rows);
    session.is_at_rest = is_at_end;
}

fn gather(row: &Row, targets: &[ColumnTarget], gatherer: &mut Gatherer) -> Result<Option<RecordBatch>, SqlError> {
    let mut bytes = 0;
    for (at, target) in targets.iter().enumerate() {
        let column = &mut gatherer.columns[at];
        let unreadable = || SqlError::Data(format!("column {} cannot be read", at + 1));
        bytes += 8;
        match row.as_ref(at) {
            None | Some(Value::NULL) => column.push_null(),
            Some(Value::Bytes(value)) => {
                bytes += value.len();
                push_bytes(*target, value, column).ok_or_else(unreadable)?;
            }
            Some(value) => push(*target, value, column).ok_or_else(unreadable)?,
        }
    }
    gatherer.end_row(bytes)
}

fn push_bytes(target: ColumnTarget, value: &[u8], column: &mut Column) -> Option<()> {
    match target {
        ColumnTarget::Bytes => column.push_bytes(value),
        ColumnTarget::Text => column.push_text(&String::from_utf8_lossy(value)),
        // A decimal.
        ColumnTarget::Float => column.push_float(std::str::from_utf8(value).ok()?.parse().ok()?),
        // Bits.
        ColumnTarget::UInt if value.len() <= 8 => column.push_unsigned(value.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))),
        _ => return None,
    }
    Some(())
}

fn push(target: ColumnTarget, value: &Value, column: &mut Column) -> Option<()> {
    match value {
        Value::Int(value) => column.push_int(*value),
        Value::UInt(value) => column.push_unsigned(*value),
        Value::Float(value) => column.push_float(value.to_string().parse().unwrap_or(f64::from(*value))),
        Value::Double(value) => column.push_float(*value),
        Value::Date(year, month, day, hour, minute, second, micros) => {
            let date = NaiveDate::from_ymd_opt((*year).into(), (*month).into(), (*day).into());
            let time = date.and_then(|date| date.and_hms_micro_opt((*hour).into(), (*minute).into(), (*second).into(), *micros));
            match time {
                None => column.push_null(),
                Some(time) if target == ColumnTarget::Date => column.push_int(time.and_utc().timestamp().div_euclid(86_400)),
                Some(time) => column.push_int(time.and_utc().timestamp_micros()),
            }
        }
        Value::Time(is_negative, days, hours, minutes, seconds, micros) => {
            let whole = f64::from(*days) * 86_400.0 + f64::from(*hours) * 3_600.0 + f64::from(*minutes) * 60.0 + f64::from(*seconds);
            let all = whole + f64::from(*micros) / 1e6;
            column.push_float(if *is_negative { -all } else { all });
        }
        Value::NULL | Value::Bytes(_) => return None,
    }
    Some(())
}
