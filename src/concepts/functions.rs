//! Labelling functions: their texts, their approval and their versions.
//!
//! What it promises:
//! - **Judged when it is saved.** Code is compiled before its record is written; what is refused says its line, and nothing is kept of it. The
//!   record says whether it runs compiled or interpreted, and why.
//! - **Approved before it counts.** A function votes only while it is active, and becomes active only once it has been approved. Other code
//!   is another function: when the code of one that is approved is changed, it is inactive and asks for approval again, and what a label
//!   model has said of it is forgotten. `labelling.lenient_toggle` gives all of that up, for clients that activate by themselves.
//! - **A chain of versions.** A new version is entered together with the deprecation of its parent. A function may have several children; the
//!   chain of any of them is everything that descends from the same root.
//!
//! # Names in code
//! A concept's values are bound to their numbers under their names in upper case, whatever the code assigns to these names, so that code
//! written for another database works. Values of the concept that a function may not vote for are bound, too: their votes are
//! recognised as undeclared, and do not pass as others.

use super::book::Shelf;
use super::record::{Concept, Id, LabelingFunction, LfConfig, LfRuntime, Rule, SnorkelJob, Value};
use super::{ConceptError, Concepts, Draft, limits, now, removal};
use desireline_labelling::{Function, Module, Refusal, Source, Tier, template};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Longest code, in bytes; what is compiled may be limited further.
pub const CODE_BYTES_MAX: usize = 100_000;
/// Most values that one function votes for: as many as a label model has classes.
pub const APPLICABLE_MAX: usize = desireline_votes::CLASSES_MAX;

/// Code as it is handed in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewCode {
    pub code: String,
    pub allowed_imports: Vec<String>,
}

/// A function as it is asked for; without code it gets a template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewFunction {
    pub name: String,
    pub rule_id: Id,
    pub applicable_cv_ids: Vec<Id>,
    pub code: Option<String>,
    pub allowed_imports: Vec<String>,
    pub parent_lf_id: Option<Id>,
}

/// What is to change; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FunctionChange {
    pub name: Option<String>,
    pub is_active: Option<bool>,
    pub lf_config: Option<NewCode>,
}

impl Concepts {
    pub async fn create_function(&self, c_id: Id, new: NewFunction) -> Result<Arc<LabelingFunction>, ConceptError> {
        let book = self.book()?;
        let shelf = book.read();
        check_new(&shelf, c_id, &new)?;
        let code = match &new.code {
            Some(code) => code.clone(),
            None => template(&named(&shelf, &new.applicable_cv_ids)),
        };
        let code = NewCode { code, allowed_imports: new.allowed_imports.clone() };
        let (lf_config, runtime) = self.compile(&shelf, c_id, &new.applicable_cv_ids, code).await?;
        let enter = move |draft: &mut Draft| {
            check_new(draft, c_id, &new)?;
            let parent = new.parent_lf_id.and_then(|parent| draft.find::<LabelingFunction>(parent));
            let version = parent.map_or(1, |parent| parent.version.saturating_add(1));
            let lf_id = draft.next_id::<LabelingFunction>();
            Ok(draft.put(LabelingFunction {
                lf_id,
                c_id,
                rule_id: new.rule_id,
                applicable_cv_ids: new.applicable_cv_ids,
                name: new.name,
                version,
                parent_lf_id: new.parent_lf_id,
                lf_config,
                runtime,
                is_active: false,
                requires_approval: true,
                deprecated_at: None,
                deprecated_by_lf_id: None,
                estimated_accuracy: None,
                coverage: None,
                conflicts: None,
                created_at: draft.now,
                updated_at: draft.now,
            }))
        };
        book.change(now(), enter).await
    }

    /// The code that a function for these values starts with.
    pub fn function_template(&self, c_id: Id, applicable_cv_ids: &[Id]) -> Result<String, ConceptError> {
        let shelf = self.book()?.read();
        check_values(&shelf, c_id, applicable_cv_ids)?;
        Ok(template(&named(&shelf, applicable_cv_ids)))
    }

    /// In the order of their numbers.
    pub fn functions(&self, c_id: Id, skip: usize, limit: usize, active_only: bool) -> Result<Vec<Arc<LabelingFunction>>, ConceptError> {
        let shelf = self.book()?.read();
        shelf.get::<Concept>(c_id)?;
        let functions = shelf.of_concept::<LabelingFunction>(c_id).filter(|lf| lf.is_active || !active_only);
        Ok(functions.skip(skip).take(limit).cloned().collect())
    }

    pub fn function(&self, c_id: Id, lf_id: Id) -> Result<Arc<LabelingFunction>, ConceptError> {
        self.book()?.read().get_in::<LabelingFunction>(c_id, lf_id).cloned()
    }

    pub async fn change_function(&self, c_id: Id, lf_id: Id, change: FunctionChange) -> Result<Arc<LabelingFunction>, ConceptError> {
        let book = self.book()?;
        let shelf = book.read();
        let lf = shelf.get_in::<LabelingFunction>(c_id, lf_id)?;
        check_name(&shelf, c_id, change.name.as_deref(), Some(lf_id))?;
        let compiled = match change.lf_config {
            Some(code) => Some(self.compile(&shelf, c_id, &lf.applicable_cv_ids, code).await?),
            None => None,
        };
        let is_lenient = self.training().is_toggle_lenient;
        let enter = move |draft: &mut Draft| {
            let mut lf = LabelingFunction::clone(draft.get_in::<LabelingFunction>(c_id, lf_id)?);
            check_name(draft, c_id, change.name.as_deref(), Some(lf_id))?;
            lf.name = change.name.unwrap_or(lf.name);
            if let Some((lf_config, runtime)) = compiled {
                if lf_config != lf.lf_config {
                    (lf.estimated_accuracy, lf.coverage, lf.conflicts) = (None, None, None);
                    lf.requires_approval |= !is_lenient;
                    lf.is_active &= is_lenient;
                }
                (lf.lf_config, lf.runtime) = (lf_config, runtime);
            }
            if let Some(is_active) = change.is_active {
                activate(&mut lf, is_active, is_lenient)?;
            }
            lf.updated_at = draft.now;
            Ok(draft.put(lf))
        };
        book.change(now(), enter).await
    }

    /// Refused while there are versions of it or a job is at work with it.
    pub async fn delete_function(&self, c_id: Id, lf_id: Id) -> Result<(), ConceptError> {
        let remove = move |draft: &mut Draft| {
            draft.get_in::<LabelingFunction>(c_id, lf_id)?;
            let children = draft.of_concept::<LabelingFunction>(c_id).filter(|lf| lf.parent_lf_id == Some(lf_id));
            let children = children.map(|lf| removal::user(lf.as_ref(), &lf.name));
            let jobs = draft.of_concept::<SnorkelJob>(c_id).filter(|job| job.status.is_open() && job.lf_ids.contains(&lf_id));
            let jobs = jobs.map(|job| removal::nameless(job.as_ref()));
            removal::in_use(&format!("Labeling function with ID {lf_id}"), children.chain(jobs))?;
            let pointing = draft.of_concept::<LabelingFunction>(c_id).filter(|lf| lf.deprecated_by_lf_id == Some(lf_id));
            let pointing: Vec<_> =
                pointing.map(|lf| LabelingFunction { deprecated_by_lf_id: None, ..LabelingFunction::clone(lf) }).collect();
            for lf in pointing {
                draft.put(lf);
            }
            draft.remove::<LabelingFunction>(lf_id);
            Ok(())
        };
        self.book()?.change(now(), remove).await
    }

    /// Lets it vote.
    pub async fn approve_function(&self, c_id: Id, lf_id: Id) -> Result<Arc<LabelingFunction>, ConceptError> {
        let enter = move |draft: &mut Draft| {
            let mut lf = LabelingFunction::clone(draft.get_in::<LabelingFunction>(c_id, lf_id)?);
            if !lf.requires_approval {
                return Err(ConceptError::Refused("This labeling function does not require approval".to_owned()));
            }
            (lf.requires_approval, lf.is_active, lf.updated_at) = (false, true, draft.now);
            Ok(draft.put(lf))
        };
        self.book()?.change(now(), enter).await
    }

    /// Makes an active one inactive, and the other way round.
    pub async fn toggle_function(&self, c_id: Id, lf_id: Id) -> Result<Arc<LabelingFunction>, ConceptError> {
        let is_lenient = self.training().is_toggle_lenient;
        let enter = move |draft: &mut Draft| {
            let mut lf = LabelingFunction::clone(draft.get_in::<LabelingFunction>(c_id, lf_id)?);
            let is_active = !lf.is_active;
            activate(&mut lf, is_active, is_lenient)?;
            lf.updated_at = draft.now;
            Ok(draft.put(lf))
        };
        self.book()?.change(now(), enter).await
    }

    /// Another version of it, which takes over its rule and its values; the one that it is made from is deprecated.
    pub async fn add_version(
        &self,
        c_id: Id,
        lf_id: Id,
        code: NewCode,
        name: Option<String>,
    ) -> Result<Arc<LabelingFunction>, ConceptError> {
        let book = self.book()?;
        let shelf = book.read();
        let parent = shelf.get_in::<LabelingFunction>(c_id, lf_id)?;
        check_name(&shelf, c_id, Some(&version_name(parent, name.as_deref())), None)?;
        let (lf_config, runtime) = self.compile(&shelf, c_id, &parent.applicable_cv_ids, code).await?;
        let enter = move |draft: &mut Draft| {
            let parent = LabelingFunction::clone(draft.get_in::<LabelingFunction>(c_id, lf_id)?);
            let name = version_name(&parent, name.as_deref());
            check_name(draft, c_id, Some(&name), None)?;
            limits::room::<LabelingFunction>(draft, Some(c_id))?;
            let new_id = draft.next_id::<LabelingFunction>();
            let now = draft.now;
            draft.put(LabelingFunction {
                is_active: false,
                deprecated_at: Some(now),
                deprecated_by_lf_id: Some(new_id),
                updated_at: now,
                ..parent.clone()
            });
            Ok(draft.put(LabelingFunction {
                lf_id: new_id,
                name,
                version: parent.version.saturating_add(1),
                parent_lf_id: Some(lf_id),
                lf_config,
                runtime,
                is_active: false,
                requires_approval: true,
                deprecated_at: None,
                deprecated_by_lf_id: None,
                estimated_accuracy: None,
                coverage: None,
                conflicts: None,
                created_at: now,
                updated_at: now,
                ..parent
            }))
        };
        book.change(now(), enter).await
    }

    /// Everything that descends from the same root, by version and number.
    pub fn versions(&self, c_id: Id, lf_id: Id) -> Result<Vec<Arc<LabelingFunction>>, ConceptError> {
        let shelf = self.book()?.read();
        shelf.get_in::<LabelingFunction>(c_id, lf_id)?;
        Ok(chain(&shelf, c_id, lf_id))
    }

    /// What is kept of code that is accepted.
    async fn compile(&self, shelf: &Shelf, c_id: Id, applicable: &[Id], code: NewCode) -> Result<(LfConfig, LfRuntime), ConceptError> {
        let (_, runtime) = self.function_of(shelf, c_id, applicable, &code).await?;
        Ok((LfConfig { code: code.code, allowed_imports: code.allowed_imports }, runtime))
    }

    /// Compiles on a thread that may take its time.
    pub(super) async fn function_of(
        &self,
        shelf: &Shelf,
        c_id: Id,
        applicable: &[Id],
        code: &NewCode,
    ) -> Result<(Function, LfRuntime), ConceptError> {
        let source = source(shelf, c_id, applicable, &code.code, &code.allowed_imports)?;
        let compiled = tokio::task::spawn_blocking(move || Function::new(source)).await;
        let compiled = compiled.map_err(|_| ConceptError::NotReady("the server is stopping"))?;
        let function = compiled.map_err(|refusal| refused(&refusal))?;
        let runtime = runtime(function.tier());
        Ok((function, runtime))
    }
}

fn check_new(shelf: &Shelf, c_id: Id, new: &NewFunction) -> Result<(), ConceptError> {
    shelf.get_in::<Rule>(c_id, new.rule_id)?;
    check_values(shelf, c_id, &new.applicable_cv_ids)?;
    check_name(shelf, c_id, Some(&new.name), None)?;
    if let Some(parent) = new.parent_lf_id {
        let parent = shelf.get_in::<LabelingFunction>(c_id, parent);
        parent.map_err(|_| ConceptError::not_found("Parent labeling function", new.parent_lf_id.unwrap_or_default()))?;
    }
    limits::room::<LabelingFunction>(shelf, Some(c_id))
}

/// Every one of them must be a value of the concept, which must exist.
pub(crate) fn check_values(shelf: &Shelf, c_id: Id, cv_ids: &[Id]) -> Result<(), ConceptError> {
    shelf.get::<Concept>(c_id)?;
    let is_missing = |cv_id: &&Id| shelf.find::<Value>(**cv_id).is_none_or(|value| value.c_id != c_id);
    let missing: BTreeSet<Id> = cv_ids.iter().filter(is_missing).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.iter().map(Id::to_string).collect::<Vec<_>>().join(", ");
    Err(ConceptError::NotFound(format!("Concept value IDs [{missing}] not found for concept {c_id}")))
}

/// Names are unique within a concept.
fn check_name(shelf: &Shelf, c_id: Id, name: Option<&str>, own: Option<Id>) -> Result<(), ConceptError> {
    let Some(name) = name else { return Ok(()) };
    let is_taken = shelf.of_concept::<LabelingFunction>(c_id).any(|lf| lf.name == name && Some(lf.lf_id) != own);
    if name.len() > limits::NAME_BYTES_MAX {
        return Err(ConceptError::invalid("name", format!("is longer than {} bytes", limits::NAME_BYTES_MAX)));
    }
    if is_taken {
        return Err(ConceptError::invalid("name", format!("Labeling function with name '{name}' already exists in this concept")));
    }
    Ok(())
}

fn version_name(parent: &LabelingFunction, name: Option<&str>) -> String {
    name.map_or_else(|| format!("{}_v{}", parent.name, parent.version.saturating_add(1)), str::to_owned)
}

fn activate(lf: &mut LabelingFunction, is_active: bool, is_lenient: bool) -> Result<(), ConceptError> {
    if is_active && lf.requires_approval && !is_lenient {
        return Err(ConceptError::Refused("This labeling function requires approval before it can be activated".to_owned()));
    }
    lf.is_active = is_active;
    Ok(())
}

/// The chain of a function: from the root, by version and number. Links that lead in a circle end it.
fn chain(shelf: &Shelf, c_id: Id, lf_id: Id) -> Vec<Arc<LabelingFunction>> {
    let mut children: BTreeMap<Id, Vec<&Arc<LabelingFunction>>> = BTreeMap::new();
    for lf in shelf.of_concept::<LabelingFunction>(c_id) {
        children.entry(lf.parent_lf_id.unwrap_or_default()).or_default().push(lf);
    }
    let own = |id: Id| shelf.find::<LabelingFunction>(id).filter(|lf| lf.c_id == c_id);
    let mut seen = BTreeSet::from([lf_id]);
    let mut root = lf_id;
    while let Some(parent) = own(root).and_then(|lf| lf.parent_lf_id).and_then(own)
        && seen.insert(parent.lf_id)
    {
        root = parent.lf_id;
    }
    let mut found: BTreeMap<Id, Arc<LabelingFunction>> = BTreeMap::new();
    let mut next: Vec<&Arc<LabelingFunction>> = own(root).into_iter().collect();
    while let Some(lf) = next.pop() {
        if found.insert(lf.lf_id, Arc::clone(lf)).is_none() {
            next.extend(children.get(&lf.lf_id).into_iter().flatten());
        }
    }
    let mut chain: Vec<_> = found.into_values().collect();
    chain.sort_by_key(|lf| (lf.version, lf.lf_id));
    chain
}

/// The names of values and their numbers, in the order in which they are given.
fn named(shelf: &Shelf, cv_ids: &[Id]) -> Vec<(String, i64)> {
    let value = |cv_id: &Id| shelf.find::<Value>(*cv_id).map(|value| (value.name.clone(), number(value.cv_id)));
    cv_ids.iter().filter_map(value).collect()
}

/// Numbers of records count up from 1.
pub(crate) fn number(id: Id) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// What is compiled: the code with the names and numbers of the concept's values as they are now.
pub(crate) fn source(shelf: &Shelf, c_id: Id, applicable: &[Id], code: &str, imports: &[String]) -> Result<Source, ConceptError> {
    let modules = Module::ALL.map(Module::name).join(", ");
    let module = |name: &String| {
        let unknown = || ConceptError::invalid("allowed_imports", format!("'{name}' is not one of {modules}"));
        Module::parse(name).ok_or_else(unknown)
    };
    Ok(Source {
        code: code.to_owned(),
        allowed_imports: imports.iter().map(module).collect::<Result<_, _>>()?,
        constants: shelf.of_concept::<Value>(c_id).map(|value| (value.name.clone(), number(value.cv_id))).collect(),
        applicable: applicable.iter().copied().map(number).collect(),
    })
}

/// As it is shown to whoever wrote the code.
pub(crate) fn refused(refusal: &Refusal) -> ConceptError {
    let line = refusal.line.map(|line| format!("line {line}: ")).unwrap_or_default();
    ConceptError::invalid("code", format!("{line}{}", refusal.message))
}

pub(crate) fn runtime(tier: &Tier) -> LfRuntime {
    match tier {
        Tier::Compiled => LfRuntime { runtime: "compiled".to_owned(), reason: None, line: None },
        Tier::Interpreted { construct, line } => {
            LfRuntime { runtime: "interpreted".to_owned(), reason: Some(construct.clone()), line: Some(*line) }
        }
    }
}
