//! A session of the engine for one statement: the tables, the functions, and the plan.
//!
//! A statement is planned twice. The first time over tables without rows, to know which tables it reads and whether by key; `NOW()` has no
//! value then. The second time over the rows that were read, at their time.

use super::keys::{self, Keys};
use super::rewrite::{self, Rewritten};
use super::{Limits, LiveError, LogicalTime, Tables, functions, lengths};
use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError};
use datafusion::datasource::MemTable;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, SortExpr, TableProviderFilterPushDown, TableType, Volatility, cast,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Functions that tell the time: the time of the read.
const NOW: [&str; 5] = ["now", "current_timestamp", "current_date", "current_time", "today"];

/// What was read.
pub struct Rows {
    pub as_of: LogicalTime,
    pub tables: HashMap<String, Vec<RecordBatch>>,
}

/// A planned statement.
pub struct Planned {
    pub state: SessionState,
    /// As it was planned, before anything was optimised.
    pub plan: LogicalPlan,
    /// Tables that it names.
    pub tables: BTreeSet<String>,
    /// A function in it that tells the time.
    pub now: Option<String>,
}

/// A table, with its rows or without. Whatever restricts it is said to it, and done by the engine all the same.
#[derive(Debug)]
struct LiveTable(MemTable);

#[async_trait]
impl TableProvider for LiveTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> datafusion::common::Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        self.0.scan(session, projection, &[], None).await
    }
}

/// Plans a statement; over no rows, unless some are given.
pub async fn plan(
    tables: &Arc<dyn Tables>,
    statement: &Rewritten,
    keys: Option<Arc<Keys>>,
    limits: &Limits,
    rows: Option<Rows>,
) -> Result<Planned, LiveError> {
    let (as_of, mut rows) = rows.map_or((None, HashMap::new()), |rows| (Some(rows.as_of), rows.tables));
    let state = session(keys, limits, as_of).map_err(|error| refused(&error))?;
    for name in tables.names() {
        let Some(schema) = tables.schema(&name) else { continue };
        let batches = rows.remove(&name).unwrap_or_default();
        let table = MemTable::try_new(schema, vec![batches]).map_err(|error| refused(&error))?;
        let registered = state.schema_for_ref(name.as_str()).and_then(|schema| schema.register_table(name, Arc::new(LiveTable(table))));
        registered.map_err(|error| refused(&error))?;
    }
    let parsed = Statement::Statement(Box::new(statement.statement.clone()));
    let plan = state.statement_to_plan(parsed).await.and_then(lengths::compared).map_err(|error| refused(&error))?;
    let (tables, now) = look_through(&plan)?;
    let plan = presented(plan, statement.is_ordered).map_err(|error| refused(&error))?;
    Ok(Planned { state, plan, tables, now })
}

fn session(keys: Option<Arc<Keys>>, limits: &Limits, as_of: Option<LogicalTime>) -> datafusion::common::Result<SessionState> {
    let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    // Set aside for merging what was written to disk, which nothing is.
    options.execution.sort_spill_reservation_bytes = 0;
    let no_files = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(limits.memory_bytes_max)))
        .with_disk_manager_builder(no_files)
        .build_arc()?;
    let offered = |function: &Arc<ScalarUDF>| !functions::NOT_OFFERED.contains(&function.name());
    let mut scalars: Vec<Arc<ScalarUDF>> = SessionStateDefaults::default_scalar_functions().into_iter().filter(offered).collect();
    scalars.extend(functions::all());
    scalars.push(keys::function(keys));
    let mut props = ExecutionProps::new();
    props.query_execution_start_time =
        as_of.and_then(|time| chrono::DateTime::from_timestamp_millis(i64::try_from(time).unwrap_or(i64::MAX)));
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_execution_props(props)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(scalars)
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions());
    Ok(state.build())
}

/// The tables that a plan reads, and a function in it that tells the time. What answers differently each time is refused.
fn look_through(plan: &LogicalPlan) -> Result<(BTreeSet<String>, Option<String>), LiveError> {
    let (mut tables, mut now, mut wrong) = (BTreeSet::new(), None, None);
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.insert(scan.table_name.table().to_owned());
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::ScalarFunction(call) if NOW.contains(&call.func.name()) => now = Some(call.func.name().to_owned()),
                    Expr::ScalarFunction(call) if call.func.signature().volatility == Volatility::Volatile => {
                        let name = call.func.name();
                        let detail = format!("`{name}` answers differently each time; the live connection does not offer it");
                        wrong = Some(LiveError::Refused(detail));
                    }
                    Expr::Placeholder(held) if rewrite::is_placeholder(&held.id) => wrong = Some(rewrite::misplaced()),
                    Expr::Placeholder(held) => wrong = Some(LiveError::Refused(format!("`{}` has no value", held.id))),
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    walked.map_err(|error| refused(&error))?;
    match wrong {
        Some(error) => Err(error),
        None => Ok((tables, now)),
    }
}

/// The rows of a plan in an order of their own, unless the statement has one, and texts as plain texts.
fn presented(plan: LogicalPlan, is_ordered: bool) -> datafusion::common::Result<LogicalPlan> {
    let columns: Vec<(Column, DataType)> =
        plan.schema().columns().into_iter().zip(plan.schema().fields().iter().map(|field| field.data_type().clone())).collect();
    let mut builder = LogicalPlanBuilder::from(plan);
    if !is_ordered {
        let sortable = columns.iter().filter(|(_, kind)| !kind.is_nested());
        let by: Vec<SortExpr> = sortable.map(|(column, _)| Expr::Column(column.clone()).sort(true, false)).collect();
        if !by.is_empty() {
            builder = builder.sort(by)?;
        }
    }
    if columns.iter().any(|(_, kind)| plain(kind).is_some()) {
        let shown = columns.into_iter().map(|(column, kind)| match plain(&kind) {
            Some(plain) => cast(Expr::Column(column.clone()), plain).alias(column.name),
            None => Expr::Column(column),
        });
        builder = builder.project(shown)?;
    }
    builder.build()
}

/// The plain form of a type that is stored in a special one.
fn plain(kind: &DataType) -> Option<DataType> {
    match kind {
        DataType::Utf8View | DataType::LargeUtf8 => Some(DataType::Utf8),
        DataType::BinaryView | DataType::LargeBinary => Some(DataType::Binary),
        DataType::Dictionary(_, value) => Some(plain(value).unwrap_or_else(|| value.as_ref().clone())),
        _ => None,
    }
}

/// What is wrong with a statement.
pub fn refused(error: &DataFusionError) -> LiveError {
    match error.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<LiveError>() {
            Some(error) => error.clone(),
            None => LiveError::Refused(inner.to_string()),
        },
        root => LiveError::Refused(root.message().into_owned()),
    }
}
