//! Features: queries that say what classifiers see of the things of an index.

use super::error::ConceptError;
use super::limits::{room, unused_name};
use super::queries::{SqlChange, dialect_of, index_of};
use super::record::{ClassifierJob, Concept, Feature, Id, Materialized, Sql};
use super::removal::{Leftovers, in_use, nameless};
use super::{Concepts, Draft, now};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct NewFeature {
    pub name: String,
    pub index_id: Id,
    pub description: Option<String>,
    pub sql: Sql,
    /// The column of the index whose values are put in; the first one when absent.
    pub index_column: Option<String>,
    pub columns: Option<Vec<String>>,
    pub level: Option<i64>,
}

/// What is to be changed; the rest stays, the index too. The inner nothing is null.
#[derive(Clone, Debug, Default)]
pub struct FeatureChange {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    pub sql: SqlChange,
    pub index_column: Option<Option<String>>,
    pub columns: Option<Option<Vec<String>>>,
    pub level: Option<Option<i64>>,
}

fn name_of(feature: &Feature) -> &str {
    &feature.name
}

impl Concepts {
    pub fn features(&self, c_id: Id, skip: usize, rows_max: usize) -> Result<Vec<Arc<Feature>>, ConceptError> {
        let shelf = self.book()?.read();
        shelf.get::<Concept>(c_id)?;
        Ok(shelf.of_concept::<Feature>(c_id).skip(skip).take(rows_max).cloned().collect())
    }

    pub fn feature(&self, c_id: Id, feature_id: Id) -> Result<Arc<Feature>, ConceptError> {
        self.book()?.read().get_in::<Feature>(c_id, feature_id).cloned()
    }

    /// The index need not be materialised yet.
    pub async fn create_feature(&self, c_id: Id, new: NewFeature) -> Result<Arc<Feature>, ConceptError> {
        let shelf = self.book()?.read();
        shelf.get::<Concept>(c_id)?;
        let dialect = index_of(&shelf, c_id, new.index_id).ok().and_then(|index| dialect_of(&shelf, index));
        self.check_sql(new.sql.sql_query.clone(), dialect).await?;
        let draft = move |draft: &mut Draft| {
            draft.get::<Concept>(c_id)?;
            unused_name::<Feature>(draft, Some(c_id), None, &new.name, name_of)?;
            index_of(draft, c_id, new.index_id)?;
            room::<Feature>(draft, Some(c_id))?;
            let feature_id = draft.next_id::<Feature>();
            let NewFeature { name, index_id, description, sql, index_column, columns, level } = new;
            Ok(draft.put(Feature {
                feature_id,
                c_id,
                index_id,
                name,
                description,
                sql,
                index_column,
                columns,
                level,
                materialized: Materialized::default(),
                created_at: draft.now,
                updated_at: draft.now,
            }))
        };
        self.book()?.change(now(), draft).await
    }

    pub async fn change_feature(&self, c_id: Id, feature_id: Id, change: FeatureChange) -> Result<Arc<Feature>, ConceptError> {
        let shelf = self.book()?.read();
        let before = shelf.get_in::<Feature>(c_id, feature_id)?;
        if let Some(query) = &change.sql.sql_query {
            let dialect = index_of(&shelf, c_id, before.index_id).ok().and_then(|index| dialect_of(&shelf, index));
            self.check_sql(query.clone(), dialect).await?;
        }
        let draft = move |draft: &mut Draft| {
            let mut feature = Feature::clone(draft.get_in::<Feature>(c_id, feature_id)?);
            if let Some(name) = change.name {
                unused_name::<Feature>(draft, Some(c_id), Some(feature_id), &name, name_of)?;
                feature.name = name;
            }
            feature.description = change.description.unwrap_or(feature.description);
            feature.index_column = change.index_column.unwrap_or(feature.index_column);
            feature.columns = change.columns.unwrap_or(feature.columns);
            feature.level = change.level.unwrap_or(feature.level);
            change.sql.apply(&mut feature.sql, &mut feature.materialized, draft.now);
            feature.updated_at = draft.now;
            Ok(draft.put(feature))
        };
        self.book()?.change(now(), draft).await
    }

    /// Refused while classifiers are being trained on it.
    pub async fn delete_feature(&self, c_id: Id, feature_id: Id) -> Result<(), ConceptError> {
        let draft = move |draft: &mut Draft| {
            let feature = draft.get_in::<Feature>(c_id, feature_id)?;
            let jobs = draft.of_concept::<ClassifierJob>(c_id).filter(|job| job.status.is_open() && job.feature_ids.contains(&feature_id));
            in_use(&format!("Feature '{}'", feature.name), jobs.map(|job| nameless(&**job)))?;
            let mut leftovers = Leftovers::default();
            leftovers.remove::<Feature>(draft, feature_id);
            Ok(leftovers)
        };
        let leftovers = self.book()?.change(now(), draft).await?;
        self.clear(leftovers);
        Ok(())
    }
}
