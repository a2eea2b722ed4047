//! Indexes: queries that say which things are looked at.

use super::connections::connection;
use super::error::ConceptError;
use super::limits::{room, unused_name};
use super::queries::{SqlChange, dialect, of_index};
use super::record::{Concept, Id, Index, Materialized, SnorkelJob, Sql};
use super::removal::{Leftovers, in_use, nameless};
use super::{Concepts, Draft, now};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct NewIndex {
    pub name: String,
    pub conn_id: Id,
    pub sql: Sql,
}

/// What is to be changed; the rest stays.
#[derive(Clone, Debug, Default)]
pub struct IndexChange {
    pub name: Option<String>,
    pub conn_id: Option<Id>,
    pub sql: SqlChange,
}

fn name_of(index: &Index) -> &str {
    &index.name
}

impl Concepts {
    pub fn indexes(&self, c_id: Id, skip: usize, rows_max: usize) -> Result<Vec<Arc<Index>>, ConceptError> {
        let shelf = self.book()?.read();
        shelf.get::<Concept>(c_id)?;
        Ok(shelf.of_concept::<Index>(c_id).skip(skip).take(rows_max).cloned().collect())
    }

    pub fn index(&self, c_id: Id, index_id: Id) -> Result<Arc<Index>, ConceptError> {
        self.book()?.read().get_in::<Index>(c_id, index_id).cloned()
    }

    pub async fn create_index(&self, c_id: Id, new: NewIndex) -> Result<Arc<Index>, ConceptError> {
        let shelf = self.book()?.read();
        shelf.get::<Concept>(c_id)?;
        let dialect = connection(&shelf, new.conn_id).ok().and_then(|connection| dialect(connection));
        self.check_sql(new.sql.sql_query.clone(), dialect).await?;
        let draft = move |draft: &mut Draft| {
            draft.get::<Concept>(c_id)?;
            unused_name::<Index>(draft, Some(c_id), None, &new.name, name_of)?;
            connection(draft, new.conn_id)?;
            room::<Index>(draft, Some(c_id))?;
            let index_id = draft.next_id::<Index>();
            let NewIndex { name, conn_id, sql } = new;
            let (materialized, now) = (Materialized::default(), draft.now);
            Ok(draft.put(Index { index_id, c_id, conn_id, name, sql, materialized, created_at: now, updated_at: now }))
        };
        self.book()?.change(now(), draft).await
    }

    pub async fn change_index(&self, c_id: Id, index_id: Id, change: IndexChange) -> Result<Arc<Index>, ConceptError> {
        let shelf = self.book()?.read();
        let before = shelf.get_in::<Index>(c_id, index_id)?;
        if change.sql.sql_query.is_some() || change.conn_id.is_some() {
            let connection = connection(&shelf, change.conn_id.unwrap_or(before.conn_id))?;
            let query = change.sql.sql_query.as_ref().unwrap_or(&before.sql.sql_query);
            self.check_sql(query.clone(), dialect(connection)).await?;
        }
        let draft = move |draft: &mut Draft| {
            let mut index = Index::clone(draft.get_in::<Index>(c_id, index_id)?);
            if let Some(name) = change.name {
                unused_name::<Index>(draft, Some(c_id), Some(index_id), &name, name_of)?;
                index.name = name;
            }
            if let Some(conn_id) = change.conn_id {
                connection(draft, conn_id)?;
                index.conn_id = conn_id;
            }
            change.sql.apply(&mut index.sql, &mut index.materialized, draft.now);
            index.updated_at = draft.now;
            Ok(draft.put(index))
        };
        self.book()?.change(now(), draft).await
    }

    /// Refused while rules, features or label models are made of it.
    pub async fn delete_index(&self, c_id: Id, index_id: Id) -> Result<(), ConceptError> {
        let draft = move |draft: &mut Draft| {
            let index = draft.get_in::<Index>(c_id, index_id)?;
            let jobs = draft.of_concept::<SnorkelJob>(c_id).filter(|job| job.index_id == index_id).map(|job| nameless(&**job));
            in_use(&format!("Index '{}'", index.name), of_index(draft, index).into_iter().chain(jobs))?;
            let mut leftovers = Leftovers::default();
            leftovers.remove::<Index>(draft, index_id);
            Ok(leftovers)
        };
        let leftovers = self.book()?.change(now(), draft).await?;
        self.clear(leftovers);
        Ok(())
    }
}
