//! Sessions and spaces of a PostgreSQL database that is only ever read.
//!
//! Every question is one round trip: a transaction that is READ ONLY and a statement in it, under the session's statement timeout. Bins are
//! aligned by arithmetic on the clipped session, so a session yields exactly the bins that it overlaps, and the predicates on
//! `start_time` and `end_time` are plain comparisons with constants, which indexes serve. Times without a zone are UTC.
//!
//! A session without an end is left out, as is one that ends before it begins: a chunk is counted once, and its numbers must not depend on
//! the moment. Such a session counts in chunks that are counted after it has been closed.
//!
//! Known limitations: tables are found by the `search_path` of the role or of the URL (`?options=-csearch_path%3Dcampus`). Without an index that
//! begins with `space_id`, each chunk reads what the indexes on the times leave.

use super::error::SessionsError;
use super::plan::Active;
use super::sessions::{Counted, Discovery, Range, Sessions, by_name};
use async_trait::async_trait;
use chrono::DateTime;
use desireline_connectors::postgres::{Database, Field, PostgresError, literal};
use desireline_dataflows::engine::Changes;
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::time::{DAY, SECOND};
use desireline_records::{Micros, Space, SpaceId, limits};
use std::time::Duration;

/// Spaces of one answer, at most; a larger subtree is refused.
const SPACES_MAX: usize = 100_000;

/// The columns of a space.
const COLUMNS: &str = "space_id, space_name, parent_space_id, building_room";

pub struct External {
    database: Database,
}

impl External {
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// The rows of one statement.
    async fn ask(&self, statement: &str, limit: Option<Duration>) -> Result<Vec<Vec<Field>>, SessionsError> {
        let timeout = limit.map_or(String::new(), |limit| format!("SET LOCAL statement_timeout = {};", limit.as_millis().max(1)));
        let statements = format!("BEGIN READ ONLY; {timeout} {statement}; COMMIT");
        let ask = async {
            let mut connection = self.database.connection().await?;
            match connection.rows(&statements).await {
                // It had died at rest, unnoticed. Nothing is changed by asking again.
                Err(PostgresError::Unavailable(_)) if connection.is_closed() => self.database.connection().await?.rows(&statements).await,
                answer => answer,
            }
        };
        let answer = match limit {
            None => ask.await,
            Some(limit) => match tokio::time::timeout(limit, ask).await {
                Ok(answer) => answer,
                Err(_) => return Err(SessionsError::Unavailable(format!("no answer within {} ms", limit.as_millis()))),
            },
        };
        answer.map_err(sessions_error)
    }

    async fn spaces(&self, condition: &str, limit: Option<Duration>) -> Result<Vec<Space>, SessionsError> {
        let statement = format!("SELECT {COLUMNS} FROM space {condition}");
        self.ask(&statement, limit).await?.iter().map(|row| space(row)).collect()
    }
}

fn sessions_error(error: PostgresError) -> SessionsError {
    match error {
        PostgresError::Unavailable(text) => SessionsError::Unavailable(text),
        PostgresError::Data(text) | PostgresError::Missing(text) | PostgresError::Denied(text) | PostgresError::Invalid(text) => {
            SessionsError::Refused(text)
        }
    }
}

fn unreadable(what: &str) -> SessionsError {
    SessionsError::Refused(format!("a value of `{what}` cannot be read"))
}

fn number<T: std::str::FromStr>(row: &[Field], at: usize, what: &str) -> Result<T, SessionsError> {
    row.get(at).and_then(Option::as_deref).and_then(|text| text.parse().ok()).ok_or_else(|| unreadable(what))
}

fn space(row: &[Field]) -> Result<Space, SessionsError> {
    let text = |at: usize| row.get(at).and_then(Option::as_deref).map(Into::into);
    let parent = row.get(2).and_then(Option::as_deref).map(|text| text.parse().map_err(|_| unreadable("parent_space_id")));
    Ok(Space {
        space_id: number(row, 0, "space_id")?,
        space_name: text(1),
        parent_space_id: parent.transpose()?,
        building_room: text(3),
        capacity: None,
    })
}

/// A time as a constant that takes the type of the column that it is compared with.
fn constant(time: Micros) -> String {
    let time = DateTime::from_timestamp_micros(time).unwrap_or_default();
    literal(&time.format("%Y-%m-%d %H:%M:%S%.6f").to_string())
}

/// `UNION` leaves out what was met before, so the walk ends where links go round.
fn walk(root: SpaceId) -> String {
    format!(
        "WITH RECURSIVE subtree AS (\
         SELECT space_id, parent_space_id FROM space WHERE space_id = {root} \
         UNION SELECT s.space_id, s.parent_space_id FROM space s JOIN subtree t ON s.parent_space_id = t.space_id)"
    )
}

/// What is no session, or not one yet.
const SOUND: &str = "t.end_time IS NOT NULL AND t.end_time >= t.start_time";

fn bounds_statement(root: SpaceId) -> String {
    let (low, high) = (constant(0), constant(limits::TIME_MAX));
    format!(
        "{} SELECT (extract(epoch FROM min(greatest(t.start_time, {low}))) * {SECOND})::bigint, \
         (extract(epoch FROM max(least(t.end_time, {high}))) * {SECOND})::bigint \
         FROM user_ap_trajectory t WHERE t.space_id IN (SELECT space_id FROM subtree) AND {SOUND}",
        walk(root)
    )
}

/// Spaces and the numbers of the windows in which they have sessions.
fn active_statement(root: SpaceId, window_seconds: i64, (from, to): (Micros, Micros)) -> String {
    let (low, high) = (constant(from), constant(to));
    format!(
        "{} SELECT DISTINCT t.space_id, generate_series(\
         floor(extract(epoch FROM greatest(t.start_time, {low})) / {window_seconds})::bigint, \
         ceil(extract(epoch FROM least(t.end_time, {high})) / {window_seconds})::bigint - 1) \
         FROM user_ap_trajectory t WHERE t.space_id IN (SELECT space_id FROM subtree) \
         AND t.start_time < {high} AND t.end_time > {low} AND {SOUND}",
        walk(root)
    )
}

/// Distinct devices by the number of the bin: of every bin that a session, clipped to the window, overlaps.
fn count_statement(space: SpaceId, seconds: u32, (from, to): (Micros, Micros)) -> String {
    let (low, high) = (constant(from), constant(to));
    format!(
        "SELECT bin, count(DISTINCT mac_address) FROM (SELECT t.mac_address, generate_series(\
         floor(extract(epoch FROM greatest(t.start_time, {low})) / {seconds})::bigint, \
         ceil(extract(epoch FROM least(t.end_time, {high})) / {seconds})::bigint - 1) AS bin \
         FROM user_ap_trajectory t WHERE t.space_id = {space} \
         AND t.start_time < {high} AND t.end_time > {low} AND {SOUND}) AS bins \
         GROUP BY bin HAVING count(DISTINCT mac_address) > 0 ORDER BY bin"
    )
}

#[async_trait]
impl Sessions for External {
    fn is_live(&self) -> bool {
        false
    }

    async fn space(&self, id: SpaceId, limit: Duration) -> Result<Option<Space>, SessionsError> {
        Ok(self.spaces(&format!("WHERE space_id = {id} LIMIT 1"), Some(limit)).await?.pop())
    }

    async fn search(&self, text: Option<&str>, skip: usize, rows_max: usize, limit: Duration) -> Result<Vec<Space>, SessionsError> {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let condition = text.map_or(String::new(), |text| format!("WHERE space_name ILIKE {}", literal(&format!("%{}%", escaped(text)))));
        let order = format!("{condition} ORDER BY space_name COLLATE \"C\" NULLS LAST, space_id OFFSET {skip} LIMIT {rows_max}");
        self.spaces(&order, Some(limit)).await
    }

    async fn roots(&self, limit: Duration) -> Result<Vec<Space>, SessionsError> {
        let mut spaces = self.spaces(&format!("WHERE parent_space_id IS NULL LIMIT {SPACES_MAX}"), Some(limit)).await?;
        by_name(&mut spaces);
        Ok(spaces)
    }

    async fn children(&self, id: SpaceId, limit: Duration) -> Result<Vec<Space>, SessionsError> {
        let mut spaces = self.spaces(&format!("WHERE parent_space_id = {id} LIMIT {SPACES_MAX}"), Some(limit)).await?;
        by_name(&mut spaces);
        Ok(spaces)
    }

    async fn subtree(&self, id: SpaceId, limit: Option<Duration>) -> Result<Vec<Space>, SessionsError> {
        let statement =
            format!("{} SELECT {COLUMNS} FROM space WHERE space_id IN (SELECT space_id FROM subtree) LIMIT {}", walk(id), SPACES_MAX + 1);
        let rows = self.ask(&statement, limit).await?;
        if rows.len() > SPACES_MAX {
            return Err(SessionsError::Refused(format!("more than {SPACES_MAX} spaces lie below space {id}")));
        }
        rows.iter().map(|row| space(row)).collect()
    }

    async fn discover(&self, root: SpaceId, range: Range, limit: Option<Duration>) -> Result<Discovery, SessionsError> {
        let mut bounds = None;
        if range.start.is_none() || range.end.is_none() {
            let rows = self.ask(&bounds_statement(root), limit).await?;
            let row = rows.first().filter(|row| row.iter().all(Option::is_some));
            bounds = row.map(|row| Ok((number(row, 0, "start_time")?, number(row, 1, "end_time")?))).transpose()?;
        }
        let Some((start, end)) = range.settle(bounds) else { return Ok(Discovery { bounds, active: Active::new() }) };
        let width = i64::from(range.chunk_days) * DAY;
        let whole = (start.div_euclid(width) * width, ((end - 1).div_euclid(width) + 1) * width);
        let mut active = Active::new();
        for row in self.ask(&active_statement(root, width / SECOND, whole), limit).await? {
            let (space, window): (SpaceId, i64) = (number(&row, 0, "space_id")?, number(&row, 1, "start_time")?);
            active.entry((window * width, (window + 1) * width)).or_default().insert(space);
        }
        Ok(Discovery { bounds, active })
    }

    async fn own(&self, space: SpaceId, interval_seconds: u32, window: (Micros, Micros)) -> Result<Counted, SessionsError> {
        let width = i64::from(interval_seconds) * SECOND;
        let rows = self.ask(&count_statement(space, interval_seconds, window), None).await?;
        let bin = |row: &Vec<Field>| Ok((number::<i64>(row, 0, "start_time")? * width, number(row, 1, "mac_address")?));
        Ok(Counted { bins: rows.iter().map(bin).collect::<Result<_, SessionsError>>()?, as_of: None })
    }

    async fn wholes(&self, _: &[SpaceId], _: u32, _: (Micros, Micros)) -> Result<Option<Vec<Counted>>, SessionsError> {
        Ok(None)
    }

    fn tree(&self) -> Result<Option<Tree>, SessionsError> {
        Ok(None)
    }

    fn follow(&self, _: usize) -> Result<Option<Changes>, SessionsError> {
        Ok(None)
    }
}
