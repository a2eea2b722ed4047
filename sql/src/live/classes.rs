//! Classes of statements: does what a key gets depend on the rows of that key alone?
//!
//! A plan is walked from its tables upwards. Of each node it is known whether its rows are *by key*: every one of them is made of rows of one
//! key, and says of which in some of its columns. Then the rows for some keys are the same whether all keys are there or only those, and
//! a change of one key changes the rows of that key alone. What keeps this:
//!
//! | node | keeps it when |
//! |---|---|
//! | table with a key column | always |
//! | filter, projection | always; a projection may lose the columns that say the key |
//! | aggregate, `DISTINCT` | the key is among what it groups by |
//! | window | each function partitions by the key, and does not hang on the order of equal rows |
//! | join of two such | the keys are equal; the outer side of an outer join keeps its own key |
//! | join with a side table | the side table is not the outer side |
//! | union | all of it is by the same key, in the same column |
//!
//! Everything else makes the statement global: `LIMIT`, aggregates over keys, recursion, functions that tell the time. So do functions whose
//! result depends on the order of rows that are equal in what they are ordered by. The walk knows nothing else and doubts what it does
//! not know: a statement that is called key-local is (a test evaluates random statements key by key and all at once).

use super::keys::asked;
use super::plan::{self, Planned};
use super::rewrite::rewrite;
use super::run::on_a_thread;
use super::{Limits, LiveError, Tables};
use crate::SqlError;
use crate::statement::Checked;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::logical_expr::logical_plan::{Aggregate, Distinct, Filter, Join, Projection, TableScan, Union, Window};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, WindowFrameUnits, WindowFunctionDefinition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::oneshot;

/// How a change of the tables reaches the answer of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// A change of a key changes the rows of that key alone. `key`: the key column of the tables; `column`: where the answer says the key;
    /// `tables`: the tables that change by key.
    KeyLocal { key: String, column: String, tables: Vec<String> },
    /// The same, and it reads tables without keys: a change there may change everything.
    SideTable { key: String, column: String, tables: Vec<String>, side: Vec<String> },
    /// Any change may change everything.
    Global { reason: String },
    /// There is no answer.
    Refused { reason: String },
}

/// Aggregates that do not depend on the order of rows.
const UNORDERED: [&str; 32] = [
    "count",
    "sum",
    "avg",
    "mean",
    "min",
    "max",
    "median",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "var",
    "var_pop",
    "var_samp",
    "var_sample",
    "var_population",
    "bool_and",
    "bool_or",
    "bit_and",
    "bit_or",
    "bit_xor",
    "corr",
    "covar",
    "covar_pop",
    "covar_samp",
    "regr_slope",
    "regr_intercept",
    "regr_count",
    "regr_r2",
    "regr_avgx",
    "regr_avgy",
    "percentile_cont",
    "grouping",
];
/// Window functions that give equal rows the same.
const RANKS: [&str; 4] = ["rank", "dense_rank", "percent_rank", "cume_dist"];

/// Finds the class of a statement, with the reason in words for its author.
pub async fn classify(tables: &Arc<dyn Tables>, statement: &Checked) -> Result<(Class, String), SqlError> {
    let (to, found) = oneshot::channel();
    let (tables, statement) = (tables.clone(), statement.clone());
    on_a_thread(move || async move { drop(to.send(class_of(&tables, &statement).await)) })?;
    let found = found.await.unwrap_or_else(|_| Err(LiveError::Refused("the engine cannot plan it".to_owned())));
    match found {
        Ok(finding) => Ok((finding.class, finding.reason)),
        Err(error @ LiveError::Unavailable { .. }) => Err(error.into()),
        Err(error) => {
            let reason = error.to_string();
            Ok((Class::Refused { reason: reason.clone() }, reason))
        }
    }
}

async fn class_of(tables: &Arc<dyn Tables>, statement: &Checked) -> Result<Finding, LiveError> {
    let planned = plan::plan(tables, &rewrite(statement)?, None, &Limits::default(), None).await?;
    let optimised = planned.state.optimize(&planned.plan).map_err(|error| plan::refused(&error))?;
    // What the engine cannot run shows when it makes the steps of the plan.
    if planned.now.is_none() && !statement.has_index_values() {
        planned.state.create_physical_plan(&planned.plan).await.map_err(|error| plan::refused(&error))?;
    }
    Ok(find(&optimised, &planned, tables.as_ref(), statement.has_index_values()))
}

/// What is known of a plan.
pub struct Finding {
    pub class: Class,
    pub reason: String,
    /// The tables that are read, and whether the rows of the keys are enough.
    pub scans: BTreeMap<String, bool>,
}

/// Looks at an optimised plan.
pub fn find(plan: &LogicalPlan, planned: &Planned, tables: &dyn Tables, has_values: bool) -> Finding {
    let mut scans = scans(plan, tables);
    let found = Walk { tables }.node(plan);
    if let Ok(Local::ByKey(by_key)) = &found
        && by_key.restricted
    {
        scans.iter_mut().filter(|(table, _)| tables.key_column(table).is_some()).for_each(|(_, by_key)| *by_key = true);
    }
    let class = judge(found, plan, planned, tables, has_values);
    let reason = words(&class);
    Finding { class, reason, scans }
}

fn judge(found: Result<Local, String>, plan: &LogicalPlan, planned: &Planned, tables: &dyn Tables, has_values: bool) -> Class {
    let global = |reason: String| Class::Global { reason };
    let by_key = match found {
        Err(reason) => return global(reason),
        Ok(Local::Fixed) => return global("it reads no table whose rows have keys".to_owned()),
        Ok(Local::ByKey(by_key)) => by_key,
    };
    if let Some(now) = &planned.now {
        return global(format!("`{now}()` changes the answer without any change of the tables"));
    }
    let Some(column) = by_key.columns.first().map(|at| plan.schema().field(*at).name().clone()) else {
        return global(format!("no column of the answer is the key `{}`", by_key.key));
    };
    if has_values && !by_key.restricted {
        return global(format!("not everything that it reads is restricted by `{} IN (:index_values)`", by_key.key));
    }
    let (keyed, side): (Vec<String>, Vec<String>) = planned.tables.iter().cloned().partition(|table| tables.key_column(table).is_some());
    let key = by_key.key;
    if side.is_empty() { Class::KeyLocal { key, column, tables: keyed } } else { Class::SideTable { key, column, tables: keyed, side } }
}

fn words(class: &Class) -> String {
    match class {
        Class::KeyLocal { key, .. } => {
            format!("key-local: the rows of a `{key}` are made of the rows of that `{key}` alone; only what changes is evaluated again")
        }
        Class::SideTable { key, side, .. } => format!(
            "key-local with side tables: only a `{key}` whose rows change is evaluated again, and everything when `{}` changes",
            side.join("`, `")
        ),
        Class::Global { reason } => format!("global: {reason}; every evaluation is of everything"),
        Class::Refused { reason } => reason.clone(),
    }
}

/// The tables that a plan reads, and whether every reading of one is restricted to the keys by its key column.
fn scans(plan: &LogicalPlan, tables: &dyn Tables) -> BTreeMap<String, bool> {
    let mut scans = BTreeMap::new();
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let name = scan.table_name.table();
            let restricted = tables.key_column(name).is_some_and(|key| is_restricted(scan, key));
            *scans.entry(name.to_owned()).or_insert(true) &= restricted;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the closure gives no errors");
    scans
}

fn is_restricted(scan: &TableScan, key: &str) -> bool {
    let mut parts = scan.filters.iter().flat_map(split_conjunction);
    parts.any(|part| matches!(asked(part), Some(Expr::Column(column)) if column.name == key))
}

/// What is known of the rows of a node.
#[derive(Clone, Debug)]
enum Local {
    /// They depend on no table that changes by key.
    Fixed,
    ByKey(ByKey),
}

#[derive(Clone, Debug)]
struct ByKey {
    /// The name of the key column in the tables.
    key: String,
    /// Columns that say the key, by their places.
    columns: BTreeSet<usize>,
    /// Only keys of `:index_values` are there.
    restricted: bool,
}

impl ByKey {
    fn says(&self, expr: &Expr, schema: &DFSchema) -> bool {
        column(expr).and_then(|column| schema.index_of_column(column).ok()).is_some_and(|at| self.columns.contains(&at))
    }
}

/// The column that an expression is, by whatever name.
fn column(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => column(&alias.expr),
        _ => None,
    }
}

struct Walk<'a> {
    tables: &'a dyn Tables,
}

impl Walk<'_> {
    fn node(&self, plan: &LogicalPlan) -> Result<Local, String> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input),
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
                self.row_by_row(plan)?;
                Ok(Local::Fixed)
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
                self.row_by_row(plan)?;
                self.node(&sort.input)
            }
            LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => Err("`LIMIT` chooses among the rows of all keys".to_owned()),
            LogicalPlan::Distinct(Distinct::All(input)) => match self.node(input)? {
                Local::ByKey(by_key) if by_key.columns.is_empty() => Err(format!("`DISTINCT` without the key `{}`", by_key.key)),
                local => Ok(local),
            },
            LogicalPlan::Distinct(Distinct::On(_)) => Err("`DISTINCT ON` chooses among rows".to_owned()),
            LogicalPlan::RecursiveQuery(_) => Err("it is recursive".to_owned()),
            other => Err(format!(
                "it has a step that is not looked into ({})",
                other.display().to_string().split([':', ' ']).next().unwrap_or("")
            )),
        }
    }

    fn scan(&self, scan: &TableScan) -> Result<Local, String> {
        if scan.fetch.is_some() {
            return Err("`LIMIT` chooses among the rows of all keys".to_owned());
        }
        let Some(key) = self.tables.key_column(scan.table_name.table()) else {
            scan.filters.iter().try_for_each(|filter| self.expression(filter))?;
            return Ok(Local::Fixed);
        };
        let columns = scan.projected_schema.fields().iter().enumerate().filter(|(_, field)| field.name() == key).map(|(at, _)| at);
        let restricted = is_restricted(scan, key);
        let by_key = ByKey { key: key.to_owned(), columns: columns.collect(), restricted };
        for part in scan.filters.iter().flat_map(split_conjunction) {
            if !matches!(asked(part), Some(Expr::Column(column)) if column.name == key) {
                self.expression(part)?;
            }
        }
        Ok(Local::ByKey(by_key))
    }

    fn filter(&self, filter: &Filter) -> Result<Local, String> {
        let mut local = self.node(&filter.input)?;
        for part in split_conjunction(&filter.predicate) {
            match (&mut local, asked(part)) {
                (Local::ByKey(by_key), Some(asked)) if by_key.says(asked, filter.input.schema()) => by_key.restricted = true,
                _ => self.expression(part)?,
            }
        }
        Ok(local)
    }

    fn projection(&self, projection: &Projection) -> Result<Local, String> {
        projection.expr.iter().try_for_each(|expr| self.expression(expr))?;
        Ok(match self.node(&projection.input)? {
            Local::Fixed => Local::Fixed,
            Local::ByKey(by_key) => {
                let says = |(_, expr): &(usize, &Expr)| by_key.says(expr, projection.input.schema());
                let columns = projection.expr.iter().enumerate().filter(says).map(|(at, _)| at).collect();
                Local::ByKey(ByKey { columns, ..by_key })
            }
        })
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Result<Local, String> {
        let expressions = aggregate.group_expr.iter().chain(&aggregate.aggr_expr);
        expressions.clone().try_for_each(|expr| self.expression(expr))?;
        let by_key = match self.node(&aggregate.input)? {
            Local::Fixed => return Ok(Local::Fixed),
            Local::ByKey(by_key) => by_key,
        };
        if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
            return Err("grouping sets add the rows of all keys up".to_owned());
        }
        let says = |(_, expr): &(usize, &Expr)| by_key.says(expr, aggregate.input.schema());
        let columns: BTreeSet<usize> = aggregate.group_expr.iter().enumerate().filter(says).map(|(at, _)| at).collect();
        if columns.is_empty() {
            return Err(format!("an aggregate is not grouped by the key `{}`", by_key.key));
        }
        for expr in expressions {
            let ordered = named(expr, |expr| match expr {
                Expr::AggregateFunction(call) => Some(call.func.name().to_owned()).filter(|name| !UNORDERED.contains(&name.as_str())),
                _ => None,
            });
            if let Some(name) = ordered {
                return Err(format!("`{name}` depends on the order of rows"));
            }
        }
        Ok(Local::ByKey(ByKey { columns, ..by_key }))
    }

    fn window(&self, window: &Window) -> Result<Local, String> {
        window.window_expr.iter().try_for_each(|expr| self.expression(expr))?;
        let local = self.node(&window.input)?;
        let Local::ByKey(by_key) = &local else { return Ok(local) };
        for expr in &window.window_expr {
            let mut inner = expr;
            while let Expr::Alias(alias) = inner {
                inner = &alias.expr;
            }
            let Expr::WindowFunction(call) = inner else { return Err("a window function is hidden in an expression".to_owned()) };
            let (params, name) = (&call.params, call.fun.name());
            if !params.partition_by.iter().any(|expr| by_key.says(expr, window.input.schema())) {
                return Err(format!("the window of `{name}` is not partitioned by the key `{}`", by_key.key));
            }
            let is_known = match &call.fun {
                WindowFunctionDefinition::AggregateUDF(_) => {
                    UNORDERED.contains(&name) && params.window_frame.units != WindowFrameUnits::Rows
                }
                WindowFunctionDefinition::WindowUDF(_) => RANKS.contains(&name),
            };
            if !is_known {
                return Err(format!("`{name}` may depend on the order of rows that are equal in its `ORDER BY`"));
            }
        }
        Ok(local)
    }

    fn join(&self, join: &Join) -> Result<Local, String> {
        let sides = join.on.iter().flat_map(|(left, right)| [left, right]);
        sides.chain(&join.filter).try_for_each(|expr| self.expression(expr))?;
        let (left, right) = (self.node(&join.left)?, self.node(&join.right)?);
        let shift = join.left.schema().fields().len();
        let moved = |by_key: &ByKey| by_key.columns.iter().map(|at| at + shift).collect::<BTreeSet<usize>>();
        use JoinType::{Full, Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
        match (left, right) {
            (Local::Fixed, Local::Fixed) => Ok(Local::Fixed),
            (Local::ByKey(left), Local::Fixed) => match join.join_type {
                Inner | Left | LeftSemi | LeftAnti | LeftMark => Ok(Local::ByKey(left)),
                _ => Err("a table without keys is the outer side of a join".to_owned()),
            },
            (Local::Fixed, Local::ByKey(right)) => match join.join_type {
                Inner | Right => Ok(Local::ByKey(ByKey { columns: moved(&right), ..right })),
                RightSemi | RightAnti | RightMark => Ok(Local::ByKey(right)),
                _ => Err("a table without keys is the outer side of a join".to_owned()),
            },
            (Local::ByKey(left), Local::ByKey(right)) => {
                let equal = |(a, b): &(Expr, Expr)| left.says(a, join.left.schema()) && right.says(b, join.right.schema());
                if left.key != right.key || !join.on.iter().any(equal) {
                    return Err(format!("a join brings rows of different keys together (`{}`, `{}`)", left.key, right.key));
                }
                if join.null_aware {
                    return Err("`NOT IN` a query looks at the rows of all keys".to_owned());
                }
                let both = left.restricted || right.restricted;
                match join.join_type {
                    Inner => {
                        let columns = left.columns.iter().copied().chain(moved(&right)).collect();
                        Ok(Local::ByKey(ByKey { columns, restricted: both, ..left }))
                    }
                    LeftSemi => Ok(Local::ByKey(ByKey { restricted: both, ..left })),
                    RightSemi => Ok(Local::ByKey(ByKey { restricted: both, ..right })),
                    Left | LeftAnti | LeftMark => Ok(Local::ByKey(left)),
                    Right => Ok(Local::ByKey(ByKey { columns: moved(&right), ..right })),
                    RightAnti | RightMark => Ok(Local::ByKey(right)),
                    Full => Err("a full join has rows whose key is on either side".to_owned()),
                }
            }
        }
    }

    fn union(&self, union: &Union) -> Result<Local, String> {
        let mut all: Option<Local> = None;
        for input in &union.inputs {
            all = Some(match (all, self.node(input)?) {
                (None, local) => local,
                (Some(Local::Fixed), Local::Fixed) => Local::Fixed,
                (Some(Local::ByKey(a)), Local::ByKey(b)) if a.key == b.key => {
                    let columns = a.columns.intersection(&b.columns).copied().collect();
                    Local::ByKey(ByKey { columns, restricted: a.restricted && b.restricted, key: a.key })
                }
                _ => return Err("a union of rows with keys and others".to_owned()),
            });
        }
        Ok(all.unwrap_or(Local::Fixed))
    }

    fn row_by_row(&self, plan: &LogicalPlan) -> Result<(), String> {
        let mut wrong = None;
        let walked = plan.apply_expressions(|expr| {
            wrong = wrong.take().or(self.expression(expr).err());
            Ok(TreeNodeRecursion::Continue)
        });
        debug_assert!(walked.is_ok(), "the closure gives no errors");
        wrong.map_or(Ok(()), Err)
    }

    /// An expression looks at nothing but its row, and at queries over tables without keys.
    fn expression(&self, expr: &Expr) -> Result<(), String> {
        let mut wrong = None;
        let walked = expr.apply(|expr| {
            let query = match expr {
                Expr::ScalarSubquery(query) => Some(query),
                Expr::InSubquery(within) => Some(&within.subquery),
                Expr::Exists(exists) => Some(&exists.subquery),
                Expr::SetComparison(comparison) => Some(&comparison.subquery),
                _ => None,
            };
            if asked(expr).is_some() {
                wrong = Some("`:index_values` restricts something else than the key".to_owned());
            } else if matches!(expr, Expr::OuterReferenceColumn(..)) {
                wrong = Some("a query within it depends on the rows around it".to_owned());
            } else if let Some(query) = query {
                match self.node(&query.subquery) {
                    Ok(Local::Fixed) if query.outer_ref_columns.is_empty() => {}
                    Ok(_) => wrong = Some("a query within it looks at the rows of all keys".to_owned()),
                    Err(reason) => wrong = Some(reason),
                }
            }
            Ok(TreeNodeRecursion::Continue)
        });
        debug_assert!(walked.is_ok(), "the closure gives no errors");
        wrong.map_or(Ok(()), Err)
    }
}

/// The first name that a look at the parts of an expression gives.
fn named(expr: &Expr, look: impl Fn(&Expr) -> Option<String>) -> Option<String> {
    let mut found = None;
    let walked = expr.apply(|expr| {
        found = found.take().or_else(|| look(expr));
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    debug_assert!(walked.is_ok(), "the closure gives no errors");
    found
}
