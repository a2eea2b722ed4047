//! The tables: their columns, and rows of the views as batches of them.

use crate::service::tables::{Rows, SessionFact, UserFacts};
use arrow_array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use desireline_dataflows::query::HeldEvent;
use desireline_dataflows::views::journeys::Journey;
use desireline_records::Micros;
use std::sync::{Arc, LazyLock};

/// Rows of a batch, at most.
const BATCH_ROWS: usize = 8_192;

const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Locations,
    AccessPoints,
    Space,
    Sessions,
    Journeys,
    Events,
}

static TRAJECTORY: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("mac_address", DataType::Utf8, false),
        ("space_id", DataType::Int32, false),
        ("start_time", TIME, false),
        ("end_time", TIME, true),
    ])
});

static SPACE: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("space_id", DataType::Int32, false),
        ("space_name", DataType::Utf8, true),
        ("parent_space_id", DataType::Int32, true),
        ("building_room", DataType::Utf8, true),
        ("capacity", DataType::Int64, true),
    ])
});

static SESSIONS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("source_id", DataType::Int64, false),
        ("user_id", DataType::Utf8, false),
        ("number", DataType::Int64, false),
        ("start_time", TIME, false),
        ("end_time", TIME, false),
        ("events", DataType::Int64, false),
        ("views", DataType::Int64, false),
        ("carts", DataType::Int64, false),
        ("transactions", DataType::Int64, false),
        ("value", DataType::Float64, false),
    ])
});

static JOURNEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("source_id", DataType::Int64, false),
        ("user_id", DataType::Utf8, false),
        ("views", DataType::Int64, false),
        ("carts", DataType::Int64, false),
        ("transactions", DataType::Int64, false),
        ("sessions", DataType::Int64, false),
        ("value", DataType::Float64, false),
        ("cluster", DataType::Int64, true),
    ])
});

static EVENTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("source_id", DataType::Int64, false),
        ("user_id", DataType::Utf8, false),
        ("event_id", DataType::Utf8, false),
        ("event_type", DataType::Utf8, false),
        ("page", DataType::Utf8, true),
        ("value", DataType::Float64, false),
        ("time", TIME, false),
        ("session_number", DataType::Int64, false),
    ])
});

fn schema(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    let field = |(name, kind, nullable): &(&str, DataType, bool)| Field::new(*name, kind.clone(), *nullable);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

impl Table {
    pub const ALL: [Self; 6] = [Self::Locations, Self::AccessPoints, Self::Space, Self::Sessions, Self::Journeys, Self::Events];

    pub fn name(self) -> &'static str {
        match self {
            Self::Locations => "user_location_trajectory",
            Self::AccessPoints => "user_ap_trajectory",
            Self::Space => "space",
            Self::Sessions => "sessions",
            Self::Journeys => "journeys",
            Self::Events => "events",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    pub fn key_column(self) -> Option<&'static str> {
        match self {
            Self::Locations | Self::AccessPoints => Some("mac_address"),
            Self::Sessions | Self::Journeys | Self::Events => Some("user_id"),
            Self::Space => None,
        }
    }

    pub fn schema(self) -> SchemaRef {
        match self {
            Self::Locations | Self::AccessPoints => TRAJECTORY.clone(),
            Self::Space => SPACE.clone(),
            Self::Sessions => SESSIONS.clone(),
            Self::Journeys => JOURNEYS.clone(),
            Self::Events => EVENTS.clone(),
        }
    }

    /// The rows of the table, in order of their keys.
    pub fn batches(self, rows: &Rows) -> Result<Vec<RecordBatch>, ArrowError> {
        let schema = self.schema();
        match self {
            Self::Locations | Self::AccessPoints => batches(&schema, &rows.stays, |stays| {
                vec![
                    texts(stays.iter().map(|fact| Some(fact.device.as_str()))),
                    Arc::new(Int32Array::from_iter_values(stays.iter().map(|fact| fact.stay.space))),
                    times(stays.iter().map(|fact| Some(fact.stay.start))),
                    times(stays.iter().map(|fact| (!fact.stay.open).then_some(fact.stay.end))),
                ]
            }),
            Self::Space => batches(&schema, &rows.spaces, |spaces| {
                vec![
                    Arc::new(Int32Array::from_iter_values(spaces.iter().map(|space| space.space_id))),
                    texts(spaces.iter().map(|space| space.space_name.as_deref())),
                    Arc::new(Int32Array::from_iter(spaces.iter().map(|space| space.parent_space_id))),
                    texts(spaces.iter().map(|space| space.building_room.as_deref())),
                    numbers(spaces.iter().map(|space| space.capacity.map(i64::from))),
                ]
            }),
            Self::Sessions => {
                let of_user = |user| -> Vec<(&UserFacts, &SessionFact)> { with(user, |user| &user.sessions) };
                let sessions: Vec<(&UserFacts, &SessionFact)> = rows.users.iter().flat_map(of_user).collect();
                batches(&schema, &sessions, |sessions| {
                    let path = |of: fn(&Journey) -> i64| numbers(sessions.iter().map(move |(_, session)| Some(of(&session.path))));
                    vec![
                        numbers(sessions.iter().map(|(user, _)| Some(user.source.into()))),
                        texts(sessions.iter().map(|(user, _)| Some(user.user.as_str()))),
                        numbers(sessions.iter().map(|(_, session)| Some(session.number as i64))),
                        times(sessions.iter().map(|(_, session)| Some(session.start))),
                        times(sessions.iter().map(|(_, session)| Some(session.end))),
                        numbers(sessions.iter().map(|(_, session)| Some(session.events as i64))),
                        path(|path| path.views),
                        path(|path| path.carts),
                        path(|path| path.transactions),
                        values(sessions.iter().map(|(_, session)| session.path.value())),
                    ]
                })
            }
            Self::Journeys => batches(&schema, &rows.users, |users| {
                let journey = |of: fn(&Journey) -> i64| numbers(users.iter().map(move |user| Some(of(&user.journey))));
                vec![
                    numbers(users.iter().map(|user| Some(user.source.into()))),
                    texts(users.iter().map(|user| Some(user.user.as_str()))),
                    journey(|journey| journey.views),
                    journey(|journey| journey.carts),
                    journey(|journey| journey.transactions),
                    journey(|journey| journey.sessions),
                    values(users.iter().map(|user| user.journey.value())),
                    numbers(users.iter().map(|user| user.cluster.map(i64::from))),
                ]
            }),
            Self::Events => {
                let of_user = |user| -> Vec<(&UserFacts, &HeldEvent)> { with(user, |user| &user.events) };
                let events: Vec<(&UserFacts, &HeldEvent)> = rows.users.iter().flat_map(of_user).collect();
                batches(&schema, &events, |events| {
                    let ids: Vec<String> = events.iter().map(|(_, event)| event.id.to_string()).collect();
                    vec![
                        numbers(events.iter().map(|(user, _)| Some(user.source.into()))),
                        texts(events.iter().map(|(user, _)| Some(user.user.as_str()))),
                        texts(ids.iter().map(|id| Some(id.as_str()))),
                        texts(events.iter().map(|(_, event)| Some(event.event_type.as_str()))),
                        texts(events.iter().map(|(_, event)| Some(event.page.as_str()).filter(|page| !page.is_empty()))),
                        values(events.iter().map(|(_, event)| event.value.into())),
                        times(events.iter().map(|(_, event)| Some(event.time))),
                        numbers(events.iter().map(|(_, event)| Some(event.session as i64))),
                    ]
                })
            }
        }
    }
}

fn with<'a, T>(user: &'a UserFacts, of: impl Fn(&'a UserFacts) -> &'a [T]) -> Vec<(&'a UserFacts, &'a T)> {
    of(user).iter().map(|one| (user, one)).collect()
}

fn batches<T>(schema: &SchemaRef, rows: &[T], columns: impl Fn(&[T]) -> Vec<ArrayRef>) -> Result<Vec<RecordBatch>, ArrowError> {
    rows.chunks(BATCH_ROWS).map(|rows| RecordBatch::try_new(schema.clone(), columns(rows))).collect()
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn numbers(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

fn times(values: impl Iterator<Item = Option<Micros>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMicrosecondArray>())
}

/// Ten-thousandths as units.
fn values(values: impl Iterator<Item = i128>) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values.map(|value| value as f64 / 10_000.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::tables::StayFact;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use desireline_records::SealedStay;

    #[test]
    fn every_table_has_batches_of_its_columns() {
        let stay = |open| StayFact { device: "d".into(), stay: SealedStay { start: 1, end: 5, space: 7, open, deleted: false } };
        let rows = Rows { stays: vec![stay(false), stay(true)], ..Rows::default() };
        for table in Table::ALL {
            assert_eq!(Table::named(table.name()), Some(table));
            assert!(table.key_column().is_none_or(|key| table.schema().column_with_name(key).is_some()));
            let batches = table.batches(&rows).expect("columns that fit");
            assert!(batches.iter().all(|batch| batch.schema() == table.schema()));
        }
        let batches = Table::Locations.batches(&rows).expect("columns that fit");
        assert_eq!(batches[0].column(0).as_string::<i32>().value(1), "d");
        let ends = batches[0].column(3);
        assert!(ends.is_valid(0) && ends.is_null(1), "an open session has no end");
    }
}
