//! The `live` connection: the views of this server as tables for SQL.
//!
//! | table | columns | key |
//! |---|---|---|
//! | `user_location_trajectory`, `user_ap_trajectory` | `mac_address`, `space_id`, `start_time`, `end_time` | `mac_address` |
//! | `sessions` | `source_id`, `user_id`, `number`, `start_time`, `end_time`, `events`, `views`, `carts`, `transactions`, `value` | `user_id` |
//! | `journeys` | `source_id`, `user_id`, `views`, `carts`, `transactions`, `sessions`, `value`, `cluster` | `user_id` |
//! | `events` | `source_id`, `user_id`, `event_id`, `event_type`, `page`, `value`, `time`, `session_number` | `user_id` |
//! | `space` | `space_id`, `space_name`, `parent_space_id`, `building_room`, `capacity` | none: a side table |
//!
//! The two trajectories have the same rows: WiFi sessions that count, in memory and sealed. `mac_address` is the name under which a device is
//! kept, a pseudonym as a rule; `end_time` is NULL while a session is open. Times are in UTC, values are in units of the currency.
//! Tables of one statement are read at one logical time ([`crate::service::tables`]); restricted to keys, they cost what those keys have.
//!
//! # Known limitations
//! - The views do not keep the sensor of a WiFi session nor the item of an event, so there are no such columns: a statement that
//!   names them is refused, rather than answered without them.
//! - `events` has the events of sessions that are not sealed; the value of an event is that of a transaction, 0 otherwise.
//! - A user id that is in several sources is one key.

mod rows;

use crate::config::schema;
use crate::service::tables::{RowsRequest, Wanted};
use crate::service::{Service, ServiceError};
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_schema::{DataType, SchemaRef};
use async_trait::async_trait;
use desireline_sql::SqlError;
use desireline_sql::live::{self, Class, Limits, LiveError, LogicalTime, SendableRecordBatchStream, TableRequest, Tables};
use desireline_sql::statement::Checked;
use ecow::EcoString;
use rows::Table;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The views of a service as tables.
pub struct LiveTables {
    service: Service,
}

impl LiveTables {
    pub fn new(service: Service) -> Self {
        Self { service }
    }
}

/// Asks statements of users of the live tables, within limits. A cheap handle.
#[derive(Clone)]
pub struct LiveConnection {
    tables: Arc<dyn Tables>,
    limits: Limits,
}

impl LiveConnection {
    pub fn new(service: Service, config: &schema::Live) -> Self {
        Self { tables: Arc::new(LiveTables::new(service)), limits: limits(config) }
    }

    pub fn tables(&self) -> &Arc<dyn Tables> {
        &self.tables
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Answers a statement, for some keys if it asks for `:index_values`; see [`live::query`].
    pub async fn query(
        &self,
        statement: &Checked,
        keys: Option<ArrayRef>,
    ) -> Result<(LogicalTime, SchemaRef, SendableRecordBatchStream), SqlError> {
        live::query(&self.tables, statement, keys, &self.limits).await
    }

    /// How changes reach the answer of a statement; see [`live::classify`].
    pub async fn classify(&self, statement: &Checked) -> Result<(Class, String), SqlError> {
        live::classify(&self.tables, statement).await
    }
}

fn limits(config: &schema::Live) -> Limits {
    Limits {
        rows_read_max: config.rows_read_max,
        rows_max: config.rows_max,
        memory_bytes_max: usize::try_from(config.memory_max.0).unwrap_or(usize::MAX),
        deadline: config.deadline,
    }
}

#[async_trait]
impl Tables for LiveTables {
    fn schema(&self, table: &str) -> Option<SchemaRef> {
        Table::named(table).map(Table::schema)
    }

    fn names(&self) -> Vec<String> {
        Table::ALL.iter().map(|table| table.name().to_owned()).collect()
    }

    fn key_column(&self, table: &str) -> Option<&str> {
        Table::named(table)?.key_column()
    }

    async fn read(&self, requests: &[TableRequest]) -> Result<(LogicalTime, Vec<Vec<RecordBatch>>), SqlError> {
        let known = |request: &TableRequest| {
            Table::named(&request.table).ok_or_else(|| LiveError::Refused(format!("there is no table `{}`", request.table)))
        };
        let tables: Vec<Table> = requests.iter().map(known).collect::<Result<_, _>>()?;
        let request = together(&tables, requests)?;
        let found = self.service.rows(&request).await.map_err(unavailable)?;
        let Some(rows) = found.value else { return Err(LiveError::TooManyRowsRead { most: request.rows_max }.into()) };
        let unfit = |error: arrow_schema::ArrowError| LiveError::Unavailable { detail: error.to_string(), retryable: false };
        let batches = tables.iter().map(|table| table.batches(&rows)).collect::<Result<Vec<_>, _>>().map_err(unfit)?;
        Ok((found.as_of, batches))
    }
}

/// One request for the rows of all tables. Where a table is wanted whole, another one of the same rows is read whole, too.
fn together(tables: &[Table], requests: &[TableRequest]) -> Result<RowsRequest, LiveError> {
    let mut request =
        RowsRequest { rows_max: requests.iter().map(|request| request.rows_max).min().unwrap_or(0), ..RowsRequest::default() };
    for (table, wanted) in tables.iter().zip(requests) {
        let rows = match table {
            Table::Space => {
                request.spaces = true;
                continue;
            }
            Table::Locations | Table::AccessPoints => &mut request.stays,
            Table::Sessions | Table::Journeys => &mut request.users,
            Table::Events => {
                request.events = true;
                &mut request.users
            }
        };
        let keys = wanted.keys.as_ref().map(names).transpose()?;
        *rows = Some(match rows.take() {
            None => keys,
            Some(before) => both(before, keys),
        });
    }
    Ok(request)
}

fn both(a: Wanted, b: Wanted) -> Wanted {
    let (a, b) = (a?, b?);
    let all: BTreeSet<EcoString> = a.iter().chain(b.iter()).cloned().collect();
    Some(all.into_iter().collect())
}

/// Keys as names, each once.
fn names(keys: &ArrayRef) -> Result<Arc<[EcoString]>, LiveError> {
    let unfit = |error: arrow_schema::ArrowError| LiveError::Refused(format!("the values of the index: {error}"));
    let texts = cast(keys, &DataType::Utf8).map_err(unfit)?;
    let texts = texts.as_string::<i32>();
    let names: BTreeSet<EcoString> = texts.iter().flatten().map(EcoString::from).collect();
    Ok(names.into_iter().collect())
}

fn unavailable(error: ServiceError) -> SqlError {
    let retryable = matches!(error, ServiceError::Busy { .. } | ServiceError::NotReady(_) | ServiceError::Unavailable(_));
    LiveError::Unavailable { detail: error.to_string(), retryable }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, StringArray};

    fn request(table: &str, keys: Option<ArrayRef>) -> TableRequest {
        TableRequest { table: table.to_owned(), keys, rows_max: 10 }
    }

    #[test]
    fn tables_of_the_same_rows_are_read_together() {
        let texts = |texts: &[&str]| Some(Arc::new(StringArray::from(texts.to_vec())) as ArrayRef);
        let numbers = Some(Arc::new(Int64Array::from(vec![Some(7), None])) as ArrayRef);
        let requests = [
            request("user_location_trajectory", texts(&["b", "a", "b"])),
            request("user_ap_trajectory", texts(&["c"])),
            request("sessions", numbers),
            request("space", None),
        ];
        let tables: Vec<Table> = requests.iter().map(|request| Table::named(&request.table).expect("a table")).collect();
        let read = together(&tables, &requests).expect("one request");
        let names = |wanted: &Option<Wanted>| wanted.clone().flatten().map(|names| names.to_vec());
        assert_eq!(names(&read.stays), Some(vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(names(&read.users), Some(vec!["7".into()]));
        assert!(read.spaces && !read.events && read.rows_max == 10);
        let whole = together(&tables[..2], &[requests[0].clone(), request("user_ap_trajectory", None)]).expect("one request");
        assert_eq!((whole.stays, whole.users, whole.spaces), (Some(None), None, false));
    }
}
