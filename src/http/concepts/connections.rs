//! `/database-connections`: databases of others, and the built-in `live`. Passwords come in and never go out.

use super::asked::{filled, not_null, page, path_id, read, required, text};
use super::time_text;
use crate::concepts::limits::{NAME_BYTES_MAX, PASSWORD_BYTES_MAX};
use crate::concepts::record::Connection;
use crate::concepts::{ConnectionChange, NewConnection};
use crate::config::values::Secret;
use crate::http::AppState;
use crate::http::body::{JsonBody, NoBody};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::fields::Fields;
use crate::http::params::Params;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
#[schema(as = NewDatabaseConnection)]
#[allow(dead_code)]
pub(super) struct ConnectionBody {
    /// No other connection has it.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// `postgresql` or `mysql`. Others are kept, and cannot be connected to.
    #[schema(min_length = 1, max_length = 255)]
    connection_type: String,
    #[schema(min_length = 1, max_length = 255)]
    host: String,
    #[schema(minimum = 1, maximum = 65535)]
    port: u16,
    #[schema(min_length = 1, max_length = 255)]
    database: String,
    #[schema(min_length = 1, max_length = 255)]
    user: String,
    /// Encrypted before it is kept; no answer shows it.
    #[schema(max_length = 1024, format = Password)]
    password: String,
}

/// Fields that are absent stay as they are.
#[derive(Deserialize, ToSchema)]
#[schema(as = DatabaseConnectionChange)]
#[allow(dead_code)]
pub(super) struct ChangeBody {
    #[schema(required = false, value_type = String, min_length = 1, max_length = 255)]
    name: Option<String>,
    #[schema(required = false, value_type = String, min_length = 1, max_length = 255)]
    connection_type: Option<String>,
    #[schema(required = false, value_type = String, min_length = 1, max_length = 255)]
    host: Option<String>,
    #[schema(required = false, value_type = u16, minimum = 1, maximum = 65535)]
    port: Option<u16>,
    #[schema(required = false, value_type = String, min_length = 1, max_length = 255)]
    database: Option<String>,
    #[schema(required = false, value_type = String, min_length = 1, max_length = 255)]
    user: Option<String>,
    #[schema(required = false, value_type = String, max_length = 1024, format = Password)]
    password: Option<String>,
}

fn port(fields: &mut Fields<'_>) -> Option<u16> {
    not_null(fields, "port", |fields| fields.integer("port", 1, u16::MAX.into())).and_then(|port| u16::try_from(port).ok())
}

fn change(fields: &mut Fields<'_>) -> ConnectionChange {
    let mut filled = |name| filled(fields, name, NAME_BYTES_MAX);
    let [name, connection_type, host, database, user] = ["name", "connection_type", "host", "database", "user"].map(&mut filled);
    let password = not_null(fields, "password", |fields| text(fields, "password", PASSWORD_BYTES_MAX)).map(Secret);
    ConnectionChange { name, connection_type, host, port: port(fields), database, user, password }
}

fn new(fields: &mut Fields<'_>) -> NewConnection {
    let ConnectionChange { name, connection_type, host, port, database, user, password } = change(fields);
    NewConnection {
        name: required(fields, "name", name),
        connection_type: required(fields, "connection_type", connection_type),
        host: required(fields, "host", host),
        port: required(fields, "port", port),
        database: required(fields, "database", database),
        user: required(fields, "user", user),
        password: fields.require("password", password).unwrap_or_else(|| Secret(String::new())),
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct DatabaseConnection {
    /// 0 is the built-in `live`.
    conn_id: u64,
    name: String,
    connection_type: String,
    host: String,
    port: u16,
    database: String,
    user: String,
    /// RFC 3339.
    created_at: String,
}

impl From<&Connection> for DatabaseConnection {
    fn from(connection: &Connection) -> Self {
        let Connection { conn_id, name, connection_type, host, port, database, user, password: _, created_at } = connection.clone();
        Self { conn_id, name, connection_type, host, port, database, user, created_at: time_text(created_at) }
    }
}

/// Keeps a connection to a database; nothing connects to it yet.
#[utoipa::path(post, path = "/database-connections", tag = "concepts", operation_id = "create_database_connection",
    request_body = ConnectionBody,
    responses((status = 201, description = "kept", body = DatabaseConnection),
        (status = 503, description = "there is no key to encrypt the password by, or the wrong one", body = ErrorBody)))]
pub(super) async fn create(
    State(state): State<AppState>,
    JsonBody(bytes): JsonBody,
) -> Result<(StatusCode, Json<DatabaseConnection>), ApiError> {
    let connection = state.concepts()?.create_connection(read(&bytes, new)?).await?;
    Ok((StatusCode::CREATED, Json((&*connection).into())))
}

/// The connections, `live` first.
#[utoipa::path(get, path = "/database-connections", tag = "concepts", operation_id = "database_connections",
    params(("skip" = Option<u64>, Query, description = "so many are passed over"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "100 when absent; above the largest page it is lowered to it")),
    responses((status = 200, description = "by number", body = Vec<DatabaseConnection>)))]
pub(super) async fn list(State(state): State<AppState>, mut params: Params) -> Result<Json<Vec<DatabaseConnection>>, ApiError> {
    let (skip, limit) = page(&state, &mut params);
    params.finish()?;
    Ok(Json(state.concepts()?.connections(skip, limit)?.iter().map(|connection| (&**connection).into()).collect()))
}

/// One connection.
#[utoipa::path(get, path = "/database-connections/{conn_id}", tag = "concepts", operation_id = "database_connection",
    params(("conn_id" = i64, Path)),
    responses((status = 200, description = "without its password", body = DatabaseConnection)))]
pub(super) async fn get(State(state): State<AppState>, mut params: Params) -> Result<Json<DatabaseConnection>, ApiError> {
    let id = path_id::<Connection>(&mut params, "conn_id")?;
    params.finish()?;
    Ok(Json((&*state.concepts()?.connection(id)?).into()))
}

/// Changes the fields that are given. What was made with the connection stays.
#[utoipa::path(patch, path = "/database-connections/{conn_id}", tag = "concepts", operation_id = "change_database_connection",
    params(("conn_id" = i64, Path)), request_body = ChangeBody,
    responses((status = 200, description = "as it now is", body = DatabaseConnection)))]
pub(super) async fn patch(
    State(state): State<AppState>,
    mut params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<Json<DatabaseConnection>, ApiError> {
    let id = path_id::<Connection>(&mut params, "conn_id")?;
    params.finish()?;
    Ok(Json((&*state.concepts()?.change_connection(id, read(&bytes, change)?).await?).into()))
}

/// Removes a connection that no index uses.
#[utoipa::path(delete, path = "/database-connections/{conn_id}", tag = "concepts", operation_id = "delete_database_connection",
    params(("conn_id" = i64, Path)),
    responses((status = 204, description = "it is gone")))]
pub(super) async fn delete(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<StatusCode, ApiError> {
    let id = path_id::<Connection>(&mut params, "conn_id")?;
    params.finish()?;
    state.concepts()?.delete_connection(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
