//! What the log has of concepts: one record per connection, concept, value, index, rule, feature, labelling function and job.
//!
//! Every record is a document of the log ([`crate::service::Document`]) under its kind and its number. Numbers begin with 1, count up per kind
//! and are never given twice, also after a deletion. Times are microseconds. A record written by an earlier release is read with the
//! defaults of the fields it lacks.

use desireline_records::{LogicalTime, Micros};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use std::fmt::Debug;

pub type Id = u64;

/// What stands in the book under a number.
pub trait Record: Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The kind of its documents.
    const KIND: Kind;
    /// How messages call it.
    const NAME: &'static str;
    fn id(&self) -> Id;
    /// The concept that it belongs to; a connection belongs to none.
    fn concept(&self) -> Option<Id>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Connection,
    Concept,
    Value,
    Index,
    Rule,
    Feature,
    LabelingFunction,
    SnorkelJob,
    ClassifierJob,
}

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::Connection,
        Self::Concept,
        Self::Value,
        Self::Index,
        Self::Rule,
        Self::Feature,
        Self::LabelingFunction,
        Self::SnorkelJob,
        Self::ClassifierJob,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Connection => "database_connection",
            Self::Concept => "concept",
            Self::Value => "concept_value",
            Self::Index => "concept_index",
            Self::Rule => "concept_rule",
            Self::Feature => "concept_feature",
            Self::LabelingFunction => "labeling_function",
            Self::SnorkelJob => "snorkel_job",
            Self::ClassifierJob => "classifier_job",
        }
    }
}

/// The connection that always exists: the views themselves.
pub const LIVE_CONNECTION: Id = 0;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    pub conn_id: Id,
    pub name: String,
    /// `postgresql` or `mysql`; anything else is kept, and cannot be connected to.
    pub connection_type: String,
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    /// Encrypted; see the vault.
    pub password: String,
    pub created_at: Micros,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Concept {
    pub c_id: Id,
    pub name: String,
    pub description: Option<String>,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// One of the classes that a thing can be of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    pub cv_id: Id,
    pub c_id: Id,
    pub name: String,
    pub description: Option<String>,
    pub display_order: Option<i64>,
    pub created_at: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionType {
    Time,
    IdRange,
    Categorical,
}

/// Where the rows of a query lie, once it has been asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Materialized {
    pub is_materialized: bool,
    pub materialized_at: Option<Micros>,
    pub row_count: Option<u64>,
    /// As it is shown: the address of the Parquet object.
    pub storage_path: Option<String>,
    pub column_stats: Option<Json>,
    /// When the run began whose rows these are: an older run that ends later changes nothing.
    pub run_started_at: Option<Micros>,
    /// Of the live connection: the logical time of the rows.
    pub as_of: Option<LogicalTime>,
}

/// How the text of a query is made, and kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sql {
    pub sql_query: String,
    pub query_template_params: Option<Map<String, Json>>,
    pub partition_type: Option<PartitionType>,
    pub partition_config: Option<Map<String, Json>>,
}

/// Which things are looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    pub index_id: Id,
    pub c_id: Id,
    pub conn_id: Id,
    pub name: String,
    #[serde(flatten)]
    pub sql: Sql,
    #[serde(flatten)]
    pub materialized: Materialized,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// What labelling functions see of the things of an index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub r_id: Id,
    pub c_id: Id,
    pub index_id: Id,
    pub name: String,
    #[serde(flatten)]
    pub sql: Sql,
    pub index_column: Option<String>,
    #[serde(flatten)]
    pub materialized: Materialized,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// What classifiers see of the things of an index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    pub feature_id: Id,
    pub c_id: Id,
    pub index_id: Id,
    pub name: String,
    pub description: Option<String>,
    #[serde(flatten)]
    pub sql: Sql,
    pub index_column: Option<String>,
    /// What the query is expected to give; not checked.
    pub columns: Option<Vec<String>>,
    pub level: Option<i64>,
    #[serde(flatten)]
    pub materialized: Materialized,
    pub created_at: Micros,
    pub updated_at: Micros,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LfConfig {
    pub code: String,
    pub allowed_imports: Vec<String>,
}

/// How a labelling function runs, and why not faster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LfRuntime {
    /// `compiled` or `interpreted`.
    pub runtime: String,
    /// The construct that keeps it from being compiled, and its line.
    pub reason: Option<String>,
    pub line: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelingFunction {
    pub lf_id: Id,
    pub c_id: Id,
    pub rule_id: Id,
    pub applicable_cv_ids: Vec<Id>,
    pub name: String,
    pub version: u32,
    pub parent_lf_id: Option<Id>,
    pub lf_config: LfConfig,
    pub runtime: LfRuntime,
    pub is_active: bool,
    pub requires_approval: bool,
    pub deprecated_at: Option<Micros>,
    pub deprecated_by_lf_id: Option<Id>,
    pub estimated_accuracy: Option<f64>,
    pub coverage: Option<f64>,
    /// On how many rows it votes and disagrees with another one.
    pub conflicts: Option<u64>,
    pub created_at: Micros,
    pub updated_at: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobStatus {
    Pending,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl JobStatus {
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Neither completed, failed nor cancelled.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    Softmax,
    HardLabels,
}

/// What is given as the class balance of a label model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    Estimate,
    Given(Vec<f64>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnorkelConfig {
    pub epochs: u32,
    pub lr: f64,
    pub sample_size: Option<u64>,
    /// Uniform when absent.
    pub class_balance: Option<Balance>,
    /// 123 when absent.
    pub seed: Option<u32>,
    pub l2: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnorkelJob {
    pub job_id: Id,
    pub c_id: Id,
    pub index_id: Id,
    pub rule_ids: Vec<Id>,
    pub lf_ids: Vec<Id>,
    pub config: SnorkelConfig,
    pub output_type: OutputType,
    pub dagster_run_id: Option<String>,
    pub status: JobStatus,
    pub result_path: Option<String>,
    pub error_message: Option<String>,
    /// What the results say besides the predictions, once completed.
    pub results: Option<Json>,
    pub created_at: Micros,
    pub completed_at: Option<Micros>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifierJob {
    pub job_id: Id,
    pub c_id: Id,
    pub snorkel_job_id: Id,
    pub feature_ids: Vec<Id>,
    /// As it was asked for, with the defaults filled in.
    pub config: Json,
    pub dagster_run_id: Option<String>,
    pub status: JobStatus,
    pub result_path: Option<String>,
    pub error_message: Option<String>,
    /// What the results say, once completed.
    pub results: Option<Json>,
    pub created_at: Micros,
    pub completed_at: Option<Micros>,
}

macro_rules! record {
    ($record:ident, $name:literal, $id:ident, $concept:expr) => {
        impl Record for $record {
            const KIND: Kind = Kind::$record;
            const NAME: &'static str = $name;

            fn id(&self) -> Id {
                self.$id
            }

            fn concept(&self) -> Option<Id> {
                let concept: fn(&Self) -> Option<Id> = $concept;
                concept(self)
            }
        }
    };
}

record!(Connection, "Database connection", conn_id, |_| None);
record!(Concept, "Concept", c_id, |concept| Some(concept.c_id));
record!(Value, "Concept value", cv_id, |value| Some(value.c_id));
record!(Index, "Index", index_id, |index| Some(index.c_id));
record!(Rule, "Rule", r_id, |rule| Some(rule.c_id));
record!(Feature, "Feature", feature_id, |feature| Some(feature.c_id));
record!(LabelingFunction, "Labeling function", lf_id, |lf| Some(lf.c_id));
record!(SnorkelJob, "Snorkel job", job_id, |job| Some(job.c_id));
record!(ClassifierJob, "Classifier job", job_id, |job| Some(job.c_id));
