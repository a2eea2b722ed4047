//! Which matrices there should be, by the book.

use super::keeper::Plans;
use crate::concepts::record::{Id, Index, LIVE_CONNECTION, LabelingFunction, LfConfig, Rule, Sql, Value};
use crate::concepts::voting::Classes;
use crate::concepts::{Shelf, functions};
use desireline_labelling::Function;
use desireline_records::MatrixId;
use desireline_sql::statement::{Checked, Dialect, check};
use desireline_sql::{SqlError, template};
use ecow::EcoString;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A labelling function of a matrix: its column.
pub struct Column {
    pub lf_id: Id,
    pub name: String,
    /// The place of its rule.
    pub rule: usize,
    pub function: Function,
}

/// A query about the things.
pub struct WantedRule {
    pub r_id: Id,
    pub name: String,
    pub statement: Checked,
}

/// A matrix as it should be.
pub struct Wanted {
    pub matrix: MatrixId,
    pub concept: Id,
    pub index: Arc<Index>,
    pub statement: Checked,
    /// The column of the index whose values are the things; its first one when no rule says.
    pub index_column: Option<String>,
    pub rules: Vec<WantedRule>,
    pub columns: Vec<Column>,
    pub classes: Classes,
    /// What rows and votes are a function of besides the data.
    pub definition: EcoString,
    /// How its queries go by keys, once they have been classified.
    pub plans: Option<Plans>,
}

impl Wanted {
    pub fn plans(&self) -> &Plans {
        self.plans.as_ref().expect("a matrix is followed only once its queries have been classified")
    }
}

/// What a matrix is made of, before anything is compiled: cheap to compare.
#[derive(Clone, Debug, PartialEq)]
pub struct Sketch {
    pub matrix: MatrixId,
    pub definition: EcoString,
    functions: Vec<Arc<LabelingFunction>>,
    rules: Vec<Arc<Rule>>,
    index: Arc<Index>,
}

/// A matrix for every index on the live connection that active functions vote on.
pub fn sketches(shelf: &Shelf) -> Vec<Sketch> {
    let mut of_index: BTreeMap<Id, Vec<Arc<LabelingFunction>>> = BTreeMap::new();
    for lf in shelf.all::<LabelingFunction>().filter(|lf| lf.is_active) {
        if let Some(rule) = shelf.find::<Rule>(lf.rule_id) {
            of_index.entry(rule.index_id).or_default().push(Arc::clone(lf));
        }
    }
    let live = |index: &&Arc<Index>| index.conn_id == LIVE_CONNECTION;
    let sketch = |(index_id, functions)| Some(sketch(shelf, shelf.find::<Index>(index_id).filter(live)?, functions));
    of_index.into_iter().filter_map(sketch).collect()
}

fn sketch(shelf: &Shelf, index: &Arc<Index>, mut functions: Vec<Arc<LabelingFunction>>) -> Sketch {
    let rule = |lf: &Arc<LabelingFunction>| shelf.find::<Rule>(lf.rule_id).cloned();
    let column = functions.first().and_then(rule).and_then(|rule| rule.index_column.clone());
    // One matrix, one kind of things.
    functions.retain(|lf| rule(lf).is_some_and(|rule| rule.index_column == column));
    let mut rules: Vec<Arc<Rule>> = functions.iter().filter_map(rule).collect();
    rules.sort_by_key(|rule| rule.r_id);
    rules.dedup_by_key(|rule| rule.r_id);
    let query = |sql: &Sql| json!([sql.sql_query, sql.query_template_params]);
    let values: Vec<_> = shelf.of_concept::<Value>(index.c_id).map(|value| json!([value.cv_id, value.name])).collect();
    let of_rules: Vec<_> = rules.iter().map(|rule| json!([rule.r_id, query(&rule.sql)])).collect();
    let of_functions: Vec<_> = functions
        .iter()
        .map(|lf| json!([lf.lf_id, lf.rule_id, lf.applicable_cv_ids, lf.lf_config.code, lf.lf_config.allowed_imports]))
        .collect();
    let all = json!(["1", index.index_id, query(&index.sql), column, of_rules, of_functions, values]);
    let digest = Sha256::digest(all.to_string().as_bytes());
    let definition = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>().into();
    Sketch { matrix: index.index_id, definition, functions, rules, index: Arc::clone(index) }
}

fn statement(sql: &Sql) -> Result<Checked, SqlError> {
    let rendered = template::render(&sql.sql_query, &sql.query_template_params.clone().unwrap_or_default())?;
    check(&rendered, Dialect::Live)
}

/// Renders the queries and compiles the functions; may take a while. Says what keeps the matrix from being.
pub fn make(shelf: &Shelf, sketch: &Sketch) -> Result<Wanted, String> {
    let index = &sketch.index;
    let index_statement = statement(&index.sql).map_err(|error| format!("index '{}': {error}", index.name))?;
    let mut rules = Vec::with_capacity(sketch.rules.len());
    for rule in &sketch.rules {
        let made = statement(&rule.sql).map_err(|error| format!("rule '{}': {error}", rule.name))?;
        rules.push(WantedRule { r_id: rule.r_id, name: rule.name.clone(), statement: made });
    }
    let mut columns = Vec::with_capacity(sketch.functions.len());
    for lf in &sketch.functions {
        let LfConfig { code, allowed_imports } = &lf.lf_config;
        let source = functions::source(shelf, lf.c_id, &lf.applicable_cv_ids, code, allowed_imports);
        let source = source.map_err(|error| format!("labeling function '{}': {error}", lf.name))?;
        let function = Function::new(source).map_err(|refusal| format!("labeling function '{}': {}", lf.name, refusal.message))?;
        let rule = rules.iter().position(|rule| rule.r_id == lf.rule_id).ok_or("a rule is gone")?;
        columns.push(Column { lf_id: lf.lf_id, name: lf.name.clone(), rule, function });
    }
    let classes = Classes::new(sketch.functions.iter().flat_map(|lf| lf.applicable_cv_ids.iter().copied()));
    desireline_votes::Statistic::new(columns.len(), classes.len()).map_err(|error| error.to_string())?;
    Ok(Wanted {
        matrix: sketch.matrix,
        concept: index.c_id,
        index: Arc::clone(index),
        statement: index_statement,
        index_column: sketch.rules.first().and_then(|rule| rule.index_column.clone()),
        rules,
        columns,
        classes,
        definition: sketch.definition.clone(),
        plans: None,
    })
}
