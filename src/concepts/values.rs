//! Values of a concept: the classes that things can be of.

use super::error::ConceptError;
use super::limits::{room, unused_name};
use super::record::{Concept, Id, LabelingFunction, Value};
use super::removal::{in_use, user};
use super::{Concepts, Draft, now};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct NewValue {
    pub name: String,
    pub description: Option<String>,
    pub display_order: Option<i64>,
}

/// What is to be changed; the rest stays. The inner nothing is null.
#[derive(Clone, Debug, Default)]
pub struct ValueChange {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    pub display_order: Option<Option<i64>>,
}

fn name_of(value: &Value) -> &str {
    &value.name
}

impl Concepts {
    /// By display order, those without one last, then by number.
    pub fn values(&self, c_id: Id) -> Result<Vec<Arc<Value>>, ConceptError> {
        let shelf = self.book()?.read();
        shelf.get::<Concept>(c_id)?;
        let mut values: Vec<Arc<Value>> = shelf.of_concept::<Value>(c_id).cloned().collect();
        values.sort_by_key(|value| (value.display_order.is_none(), value.display_order, value.cv_id));
        Ok(values)
    }

    pub fn value(&self, c_id: Id, cv_id: Id) -> Result<Arc<Value>, ConceptError> {
        self.book()?.read().get_in::<Value>(c_id, cv_id).cloned()
    }

    pub async fn create_value(&self, c_id: Id, new: NewValue) -> Result<Arc<Value>, ConceptError> {
        let draft = move |draft: &mut Draft| {
            draft.get::<Concept>(c_id)?;
            unused_name::<Value>(draft, Some(c_id), None, &new.name, name_of)?;
            room::<Value>(draft, Some(c_id))?;
            let cv_id = draft.next_id::<Value>();
            let NewValue { name, description, display_order } = new;
            let created_at = draft.now;
            Ok(draft.put(Value { cv_id, c_id, name, description, display_order, created_at }))
        };
        self.book()?.change(now(), draft).await
    }

    pub async fn change_value(&self, c_id: Id, cv_id: Id, change: ValueChange) -> Result<Arc<Value>, ConceptError> {
        let draft = move |draft: &mut Draft| {
            let mut value = Value::clone(draft.get_in::<Value>(c_id, cv_id)?);
            if let Some(name) = change.name {
                unused_name::<Value>(draft, Some(c_id), Some(cv_id), &name, name_of)?;
                value.name = name;
            }
            value.description = change.description.unwrap_or(value.description);
            value.display_order = change.display_order.unwrap_or(value.display_order);
            Ok(draft.put(value))
        };
        self.book()?.change(now(), draft).await
    }

    /// Refused while a labelling function may vote for it.
    pub async fn delete_value(&self, c_id: Id, cv_id: Id) -> Result<(), ConceptError> {
        let draft = move |draft: &mut Draft| {
            let value = draft.get_in::<Value>(c_id, cv_id)?;
            let users = draft.of_concept::<LabelingFunction>(c_id).filter(|lf| lf.applicable_cv_ids.contains(&cv_id));
            in_use(&format!("Concept value '{}'", value.name), users.map(|lf| user(&**lf, &lf.name)))?;
            draft.remove::<Value>(cv_id);
            Ok(())
        };
        self.book()?.change(now(), draft).await
    }
}
