//! Concepts themselves: what a data scientist wants to know of things.

use super::error::ConceptError;
use super::limits::{room, unused_name};
use super::record::{ClassifierJob, Concept, Feature, Id, Index, LabelingFunction, Rule, SnorkelJob, Value};
use super::removal::Leftovers;
use super::{Concepts, Draft, Shelved, now};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct NewConcept {
    pub name: String,
    pub description: Option<String>,
}

/// What is to be changed; the rest stays. The inner nothing is null.
#[derive(Clone, Debug, Default)]
pub struct ConceptChange {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
}

fn name_of(concept: &Concept) -> &str {
    &concept.name
}

fn ids<R: Shelved>(draft: &Draft, c_id: Id) -> Vec<Id> {
    draft.of_concept::<R>(c_id).map(|record| record.id()).collect()
}

impl Concepts {
    pub fn concepts(&self, skip: usize, rows_max: usize) -> Result<Vec<Arc<Concept>>, ConceptError> {
        Ok(self.book()?.read().all::<Concept>().skip(skip).take(rows_max).cloned().collect())
    }

    pub fn concept(&self, c_id: Id) -> Result<Arc<Concept>, ConceptError> {
        self.book()?.read().get::<Concept>(c_id).cloned()
    }

    pub async fn create_concept(&self, new: NewConcept) -> Result<Arc<Concept>, ConceptError> {
        let draft = move |draft: &mut Draft| {
            unused_name::<Concept>(draft, None, None, &new.name, name_of)?;
            room::<Concept>(draft, None)?;
            let c_id = draft.next_id::<Concept>();
            let now = draft.now;
            Ok(draft.put(Concept { c_id, name: new.name, description: new.description, created_at: now, updated_at: now }))
        };
        self.book()?.change(now(), draft).await
    }

    pub async fn change_concept(&self, c_id: Id, change: ConceptChange) -> Result<Arc<Concept>, ConceptError> {
        let draft = move |draft: &mut Draft| {
            let mut concept = Concept::clone(draft.get::<Concept>(c_id)?);
            if let Some(name) = change.name {
                unused_name::<Concept>(draft, None, Some(c_id), &name, name_of)?;
                concept.name = name;
            }
            concept.description = change.description.unwrap_or(concept.description);
            concept.updated_at = draft.now;
            Ok(draft.put(concept))
        };
        self.book()?.change(now(), draft).await
    }

    /// Everything that belongs to it goes, too; its runs are cancelled and its objects deleted in the background.
    pub async fn delete_concept(&self, c_id: Id) -> Result<(), ConceptError> {
        let draft = move |draft: &mut Draft| {
            draft.get::<Concept>(c_id)?;
            let mut leftovers = Leftovers::default();
            let jobs: Vec<Arc<ClassifierJob>> = draft.of_concept::<ClassifierJob>(c_id).cloned().collect();
            jobs.iter().for_each(|job| leftovers.remove_classifier_job(draft, job));
            let jobs: Vec<Arc<SnorkelJob>> = draft.of_concept::<SnorkelJob>(c_id).cloned().collect();
            jobs.iter().for_each(|job| leftovers.remove_snorkel_job(draft, job));
            fn remove_all<R: Shelved>(leftovers: &mut Leftovers, draft: &mut Draft, c_id: Id) {
                ids::<R>(draft, c_id).into_iter().for_each(|id| leftovers.remove::<R>(draft, id));
            }
            remove_all::<LabelingFunction>(&mut leftovers, draft, c_id);
            remove_all::<Feature>(&mut leftovers, draft, c_id);
            remove_all::<Rule>(&mut leftovers, draft, c_id);
            remove_all::<Index>(&mut leftovers, draft, c_id);
            remove_all::<Value>(&mut leftovers, draft, c_id);
            leftovers.remove::<Concept>(draft, c_id);
            Ok(leftovers)
        };
        let leftovers = self.book()?.change(now(), draft).await?;
        self.clear(leftovers);
        Ok(())
    }
}
