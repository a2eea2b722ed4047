//! Rules: queries that say what labelling functions see of the things of an index.

use super::error::ConceptError;
use super::limits::{room, unused_name};
use super::queries::{SqlChange, dialect_of, index_of};
use super::record::{Concept, Id, LabelingFunction, Materialized, Rule, SnorkelJob, Sql};
use super::removal::{Leftovers, in_use, nameless, user};
use super::{Concepts, Draft, now};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct NewRule {
    pub name: String,
    pub index_id: Id,
    pub sql: Sql,
    /// The column of the index whose values are put in; the first one when absent.
    pub index_column: Option<String>,
}

/// What is to be changed; the rest stays. The inner nothing is null.
#[derive(Clone, Debug, Default)]
pub struct RuleChange {
    pub name: Option<String>,
    pub index_id: Option<Id>,
    pub sql: SqlChange,
    pub index_column: Option<Option<String>>,
}

fn name_of(rule: &Rule) -> &str {
    &rule.name
}

impl Concepts {
    pub fn rules(&self, c_id: Id, skip: usize, rows_max: usize) -> Result<Vec<Arc<Rule>>, ConceptError> {
        let shelf = self.book()?.read();
        shelf.get::<Concept>(c_id)?;
        Ok(shelf.of_concept::<Rule>(c_id).skip(skip).take(rows_max).cloned().collect())
    }

    pub fn rule(&self, c_id: Id, r_id: Id) -> Result<Arc<Rule>, ConceptError> {
        self.book()?.read().get_in::<Rule>(c_id, r_id).cloned()
    }

    /// The index must be materialised.
    pub async fn create_rule(&self, c_id: Id, new: NewRule) -> Result<Arc<Rule>, ConceptError> {
        let shelf = self.book()?.read();
        shelf.get::<Concept>(c_id)?;
        let dialect = index_of(&shelf, c_id, new.index_id).ok().and_then(|index| dialect_of(&shelf, index));
        self.check_sql(new.sql.sql_query.clone(), dialect).await?;
        let draft = move |draft: &mut Draft| {
            draft.get::<Concept>(c_id)?;
            unused_name::<Rule>(draft, Some(c_id), None, &new.name, name_of)?;
            if !index_of(draft, c_id, new.index_id)?.materialized.is_materialized {
                let detail = format!("Index with ID {} must be materialized before creating rules", new.index_id);
                return Err(ConceptError::Refused(detail));
            }
            room::<Rule>(draft, Some(c_id))?;
            let r_id = draft.next_id::<Rule>();
            let NewRule { name, index_id, sql, index_column } = new;
            let (materialized, now) = (Materialized::default(), draft.now);
            Ok(draft.put(Rule { r_id, c_id, index_id, name, sql, index_column, materialized, created_at: now, updated_at: now }))
        };
        self.book()?.change(now(), draft).await
    }

    pub async fn change_rule(&self, c_id: Id, r_id: Id, change: RuleChange) -> Result<Arc<Rule>, ConceptError> {
        let shelf = self.book()?.read();
        let before = shelf.get_in::<Rule>(c_id, r_id)?;
        if change.sql.sql_query.is_some() || change.index_id.is_some() {
            let index = index_of(&shelf, c_id, change.index_id.unwrap_or(before.index_id))?;
            let query = change.sql.sql_query.as_ref().unwrap_or(&before.sql.sql_query);
            self.check_sql(query.clone(), dialect_of(&shelf, index)).await?;
        }
        let draft = move |draft: &mut Draft| {
            let mut rule = Rule::clone(draft.get_in::<Rule>(c_id, r_id)?);
            if let Some(name) = change.name {
                unused_name::<Rule>(draft, Some(c_id), Some(r_id), &name, name_of)?;
                rule.name = name;
            }
            if let Some(index_id) = change.index_id {
                index_of(draft, c_id, index_id)?;
                rule.index_id = index_id;
            }
            rule.index_column = change.index_column.unwrap_or(rule.index_column);
            change.sql.apply(&mut rule.sql, &mut rule.materialized, draft.now);
            rule.updated_at = draft.now;
            Ok(draft.put(rule))
        };
        self.book()?.change(now(), draft).await
    }

    /// Refused while a labelling function reads it, or a label model is being made of it.
    pub async fn delete_rule(&self, c_id: Id, r_id: Id) -> Result<(), ConceptError> {
        let draft = move |draft: &mut Draft| {
            let rule = draft.get_in::<Rule>(c_id, r_id)?;
            let functions = draft.of_concept::<LabelingFunction>(c_id).filter(|lf| lf.rule_id == r_id).map(|lf| user(&**lf, &lf.name));
            let jobs = draft.of_concept::<SnorkelJob>(c_id).filter(|job| job.status.is_open() && job.rule_ids.contains(&r_id));
            in_use(&format!("Rule '{}'", rule.name), functions.chain(jobs.map(|job| nameless(&**job))))?;
            let mut leftovers = Leftovers::default();
            leftovers.remove::<Rule>(draft, r_id);
            Ok(leftovers)
        };
        let leftovers = self.book()?.change(now(), draft).await?;
        self.clear(leftovers);
        Ok(())
    }
}
