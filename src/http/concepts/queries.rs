//! What indexes, rules and features have in common on the wire.

use super::time_text;
use crate::concepts::record::{Materialized, PartitionType, Sql};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// How the rows of a query may be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PartitionWord {
    Time,
    IdRange,
    Categorical,
}

impl From<PartitionType> for PartitionWord {
    fn from(kind: PartitionType) -> Self {
        match kind {
            PartitionType::Time => Self::Time,
            PartitionType::IdRange => Self::IdRange,
            PartitionType::Categorical => Self::Categorical,
        }
    }
}

/// The query of a record, as it is shown.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct QueryText {
    sql_query: String,
    #[schema(value_type = Option<Object>)]
    query_template_params: Option<Map<String, Value>>,
    partition_type: Option<PartitionWord>,
    #[schema(value_type = Option<Object>)]
    partition_config: Option<Map<String, Value>>,
}

impl From<Sql> for QueryText {
    fn from(sql: Sql) -> Self {
        let Sql { sql_query, query_template_params, partition_type, partition_config } = sql;
        Self { sql_query, query_template_params, partition_type: partition_type.map(PartitionWord::from), partition_config }
    }
}

/// What has been made of the query, as it is shown.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct MadeOfIt {
    /// Where the rows lie; null until they do.
    storage_path: Option<String>,
    is_materialized: bool,
    /// RFC 3339.
    materialized_at: Option<String>,
    row_count: Option<u64>,
    /// By column: `dtype`, `null_count`, and what else can be said of its values.
    #[schema(value_type = Option<Object>)]
    column_stats: Option<Value>,
}

impl From<Materialized> for MadeOfIt {
    fn from(made: Materialized) -> Self {
        let Materialized { is_materialized, materialized_at, row_count, storage_path, column_stats, run_started_at: _, as_of: _ } = made;
        Self { storage_path, is_materialized, materialized_at: materialized_at.map(time_text), row_count, column_stats }
    }
}
