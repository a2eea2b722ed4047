//! Finding the tables, or making them.
//!
//! Nothing is created or altered when everything is there, so a role without the right to create can write into tables that somebody
//! else has made. What is missing is made under an advisory lock: of servers that start at once one makes it, the others find it.

use super::schema::{ENUM, LAYOUT, Names, PROJECTION, Schemas, TABLES, Vectors};
use crate::projections::TargetError;
use desireline_connectors::postgres::{Connection, PostgresError, identifier, literal};

/// Any number, the same in every server.
const LOCK: i64 = 0x6465_7369_7265;

/// What was found.
pub struct Found {
    pub vectors: Vectors,
    /// A table had to be made: what was in it before is not there.
    pub made: bool,
}

/// Brings all tables about, within the caller's transaction.
pub async fn tables(connection: &mut Connection, schemas: &Schemas) -> Result<Found, TargetError> {
    connection.run(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await.map_err(target_error)?;
    let plain = Names::new(schemas.clone(), Vectors::default());
    let missing = missing(connection, &plain).await.map_err(target_error)?;
    if missing.is_empty() {
        let vectors = vectors_in_use(connection, &plain).await.map_err(target_error)?;
        columns(connection, schemas).await?;
        return Ok(Found { vectors, made: false });
    }
    for schema in schemas.all() {
        if connection
            .rows(&format!("SELECT 1 FROM pg_namespace WHERE nspname = {}", literal(schema)))
            .await
            .map_err(target_error)?
            .is_empty()
        {
            connection.run(&format!("CREATE SCHEMA IF NOT EXISTS {}", identifier(schema))).await.map_err(target_error)?;
        }
    }
    // Tables that are there already decide, so that all of them are alike.
    let vectors = match missing.contains(&"user_journey") && missing.contains(&"cluster") {
        true => vectors_at_hand(connection).await.map_err(target_error)?,
        false => vectors_in_use(connection, &plain).await.map_err(target_error)?,
    };
    let names = Names::new(schemas.clone(), vectors.clone());
    let mut statements = vec![names.fill(ENUM), names.fill(PROJECTION)];
    for table in TABLES.iter().filter(|table| missing.contains(&table.name)) {
        statements.push(names.fill(&format!("CREATE TABLE IF NOT EXISTS {} ({})", names.table(table), table.definition)));
        statements.extend(table.more.iter().map(|more| names.fill(more)));
    }
    connection.run(&statements.join("; ")).await.map_err(target_error)?;
    columns(connection, schemas).await?;
    Ok(Found { vectors, made: true })
}

/// The tables that are not there; `projection` for the one with the state.
pub async fn missing(connection: &mut Connection, names: &Names) -> Result<Vec<&'static str>, PostgresError> {
    let wanted = TABLES.iter().map(|table| (table.name, names.table(table)));
    let wanted: Vec<(&str, String)> = wanted.chain([("projection", names.fill("{projection}"))]).collect();
    let looks: Vec<String> = wanted.iter().map(|(_, table)| format!("to_regclass({}) IS NULL", literal(table))).collect();
    let rows = connection.rows(&format!("SELECT {}", looks.join(", "))).await?;
    let absent = rows.into_iter().flatten().map(|field| field.as_deref() == Some("t"));
    Ok(wanted.iter().zip(absent).filter(|(_, absent)| *absent).map(|((name, _), _)| *name).collect())
}

/// The type of the vectors in the tables that are there.
async fn vectors_in_use(connection: &mut Connection, names: &Names) -> Result<Vectors, PostgresError> {
    let table = |name: &str| TABLES.iter().find(|table| table.name == name).map(|table| literal(&names.table(table))).unwrap_or_default();
    let query = format!(
        "SELECT n.nspname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace \
         WHERE t.typname = 'vector' AND ((a.attrelid = to_regclass({}) AND a.attname = 'centroid') \
         OR (a.attrelid = to_regclass({}) AND a.attname = 'state'))",
        table("cluster"),
        table("user_journey")
    );
    let rows = connection.rows(&query).await?;
    Ok(Vectors(rows.into_iter().flatten().flatten().next().map(|schema| format!("{}.vector", identifier(&schema)))))
}

/// The extension's type, if it is installed or can be.
async fn vectors_at_hand(connection: &mut Connection) -> Result<Vectors, PostgresError> {
    let installed = "SELECT n.nspname FROM pg_extension e JOIN pg_depend d ON d.refobjid = e.oid AND d.deptype = 'e' \
        JOIN pg_type t ON t.oid = d.objid JOIN pg_namespace n ON n.oid = t.typnamespace WHERE e.extname = 'vector' AND t.typname = 'vector'";
    let available = "SELECT 1 FROM pg_available_extensions WHERE name = 'vector'";
    if connection.rows(installed).await?.is_empty() && !connection.rows(available).await?.is_empty() {
        connection.run("SAVEPOINT extension").await?;
        match connection.run("CREATE EXTENSION IF NOT EXISTS vector").await {
            Ok(_) => connection.run("RELEASE SAVEPOINT extension").await?,
            Err(PostgresError::Unavailable(text)) => return Err(PostgresError::Unavailable(text)),
            Err(error) => {
                tracing::info!(%error, "pgvector is there but cannot be installed: vectors are kept as real[]");
                connection.run("ROLLBACK TO SAVEPOINT extension").await?
            }
        };
    }
    let rows = connection.rows(installed).await?;
    Ok(Vectors(rows.into_iter().flatten().flatten().next().map(|schema| format!("{}.vector", identifier(&schema)))))
}

/// Refuses tables of the same names that are somebody else's.
async fn columns(connection: &mut Connection, schemas: &Schemas) -> Result<(), TargetError> {
    let names = Names::new(schemas.clone(), Vectors::default());
    let mut wanted = Vec::new();
    for table in &TABLES {
        for column in table.key.iter().chain(table.values).chain(&table.serial) {
            let (table, column) = (literal(&names.table(table)), literal(column.trim_matches('"')));
            wanted.push(format!("({table}, {column})"));
        }
    }
    let query = format!(
        "SELECT w.t, w.c FROM (VALUES {}) w (t, c) WHERE NOT EXISTS \
         (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass(w.t) AND a.attname = w.c AND NOT a.attisdropped) LIMIT 1",
        wanted.join(", ")
    );
    let rows = connection.rows(&query).await.map_err(target_error)?;
    match rows.into_iter().next().as_deref() {
        Some([Some(table), Some(column)]) => Err(TargetError::Refused(format!(
            "the table {table} has no column \"{column}\": it is not one of this server's; give its schema another name"
        ))),
        _ => Ok(()),
    }
}

/// The layout of the tables, checked against ours.
pub fn layout(recorded: i32) -> Result<(), TargetError> {
    if recorded == LAYOUT {
        return Ok(());
    }
    Err(TargetError::Refused(format!("the tables have layout {recorded}, this release writes layout {LAYOUT}")))
}

/// What an error of the database means for the follower.
pub fn target_error(error: PostgresError) -> TargetError {
    match error {
        PostgresError::Unavailable(_) => TargetError::Unavailable(error.to_string()),
        PostgresError::Missing(_) => TargetError::Lost(error.to_string()),
        PostgresError::Data(_) | PostgresError::Denied(_) | PostgresError::Invalid(_) => TargetError::Refused(error.to_string()),
    }
}
