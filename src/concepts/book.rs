//! The book of concepts: what the log has of them, and how it changes.
//!
//! A change is drafted against the book as it is, made durable in one commit, and only then entered: what is read here is in the log, and
//! whatever belongs together (a cascade, a new version with its deprecated parent) is there together or not at all. Changes go one after
//! another.
//!
//! # Known limitations
//! - A draft copies the tables of references that it changes (8 bytes and a number per record), so a change costs about a millisecond per
//!   100,000 records of those kinds.

use super::error::ConceptError;
use super::record::{ClassifierJob, Concept, Connection, Feature, Id, Index, Kind, LabelingFunction, Record, Rule, SnorkelJob, Value};
use crate::service::{Document, Service, ServiceError};
use async_trait::async_trait;
use desireline_records::Micros;
use ecow::EcoString;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// The numbers that are given next, per kind.
const NUMBERS: &str = "concept_numbers";

/// Where the book is made durable.
#[async_trait]
pub trait Documents: Send + Sync + 'static {
    /// All of them or none.
    async fn put(&self, documents: Vec<Document>) -> Result<(), ServiceError>;
}

#[async_trait]
impl Documents for Service {
    async fn put(&self, documents: Vec<Document>) -> Result<(), ServiceError> {
        self.put_documents(documents).await.map(drop)
    }
}

/// All records of a kind, by number.
pub type Table<R> = Arc<BTreeMap<Id, Arc<R>>>;

/// The book's pages. A clone is cheap, and stays as it is.
#[derive(Clone, Default)]
pub struct Shelf {
    connections: Table<Connection>,
    concepts: Table<Concept>,
    values: Table<Value>,
    indexes: Table<Index>,
    rules: Table<Rule>,
    features: Table<Feature>,
    functions: Table<LabelingFunction>,
    snorkel_jobs: Table<SnorkelJob>,
    classifier_jobs: Table<ClassifierJob>,
    /// The greatest number given so far.
    numbers: BTreeMap<Kind, Id>,
}

/// Records that have a page.
pub trait Shelved: Record {
    fn table(shelf: &Shelf) -> &Table<Self>;
    fn table_mut(shelf: &mut Shelf) -> &mut Table<Self>;
}

macro_rules! shelved {
    ($record:ident, $page:ident) => {
        impl Shelved for $record {
            fn table(shelf: &Shelf) -> &Table<Self> {
                &shelf.$page
            }

            fn table_mut(shelf: &mut Shelf) -> &mut Table<Self> {
                &mut shelf.$page
            }
        }
    };
}

shelved!(Connection, connections);
shelved!(Concept, concepts);
shelved!(Value, values);
shelved!(Index, indexes);
shelved!(Rule, rules);
shelved!(Feature, features);
shelved!(LabelingFunction, functions);
shelved!(SnorkelJob, snorkel_jobs);
shelved!(ClassifierJob, classifier_jobs);

impl Shelf {
    /// All records of a kind in the order of their numbers.
    pub fn all<R: Shelved>(&self) -> impl Iterator<Item = &Arc<R>> {
        R::table(self).values()
    }

    pub fn count<R: Shelved>(&self) -> usize {
        R::table(self).len()
    }

    /// Those of one concept, in the order of their numbers.
    pub fn of_concept<R: Shelved>(&self, c_id: Id) -> impl Iterator<Item = &Arc<R>> {
        self.all::<R>().filter(move |record| record.concept() == Some(c_id))
    }

    pub fn find<R: Shelved>(&self, id: Id) -> Option<&Arc<R>> {
        R::table(self).get(&id)
    }

    pub fn get<R: Shelved>(&self, id: Id) -> Result<&Arc<R>, ConceptError> {
        self.find(id).ok_or_else(|| ConceptError::not_found(R::NAME, id))
    }

    /// A record of a concept. The concept must exist, and the record must be its own; both are "not found" otherwise.
    pub fn get_in<R: Shelved>(&self, c_id: Id, id: Id) -> Result<&Arc<R>, ConceptError> {
        self.get::<Concept>(c_id)?;
        self.find::<R>(id).filter(|record| record.concept() == Some(c_id)).ok_or_else(|| ConceptError::not_found(R::NAME, id))
    }

    /// Takes up a document of the log. Says why it cannot.
    fn load(&mut self, kind: Kind, body: Json) -> Result<(), serde_json::Error> {
        match kind {
            Kind::Connection => self.load_one::<Connection>(body),
            Kind::Concept => self.load_one::<Concept>(body),
            Kind::Value => self.load_one::<Value>(body),
            Kind::Index => self.load_one::<Index>(body),
            Kind::Rule => self.load_one::<Rule>(body),
            Kind::Feature => self.load_one::<Feature>(body),
            Kind::LabelingFunction => self.load_one::<LabelingFunction>(body),
            Kind::SnorkelJob => self.load_one::<SnorkelJob>(body),
            Kind::ClassifierJob => self.load_one::<ClassifierJob>(body),
        }
    }

    fn load_one<R: Shelved>(&mut self, body: Json) -> Result<(), serde_json::Error> {
        let record: R = serde_json::from_value(body)?;
        self.enter(record);
        Ok(())
    }

    fn enter<R: Shelved>(&mut self, record: R) {
        let number = self.numbers.entry(R::KIND).or_default();
        *number = (*number).max(record.id());
        Arc::make_mut(R::table_mut(self)).insert(record.id(), Arc::new(record));
    }

    fn load_numbers(&mut self, numbers: &Json) {
        for kind in Kind::ALL {
            let given = numbers.get(kind.word()).and_then(Json::as_u64).unwrap_or_default();
            let number = self.numbers.entry(kind).or_default();
            *number = (*number).max(given);
        }
    }
}

/// A change in the making: the book as it will be.
pub struct Draft {
    shelf: Shelf,
    documents: BTreeMap<(Kind, Id), Json>,
    has_new_numbers: bool,
    pub now: Micros,
}

impl std::ops::Deref for Draft {
    type Target = Shelf;

    fn deref(&self) -> &Shelf {
        &self.shelf
    }
}

impl Draft {
    /// The number of a new record.
    pub fn next_id<R: Shelved>(&mut self) -> Id {
        self.has_new_numbers = true;
        let number = self.shelf.numbers.entry(R::KIND).or_default();
        *number += 1;
        *number
    }

    /// Enters a record, or another state of one.
    pub fn put<R: Shelved>(&mut self, record: R) -> Arc<R> {
        let id = record.id();
        // A record is plain data with text as keys.
        self.documents.insert((R::KIND, id), serde_json::to_value(&record).expect("a record is always JSON"));
        self.shelf.enter(record);
        Arc::clone(&R::table(&self.shelf)[&id])
    }

    pub fn remove<R: Shelved>(&mut self, id: Id) {
        self.documents.insert((R::KIND, id), Json::Null);
        Arc::make_mut(R::table_mut(&mut self.shelf)).remove(&id);
    }

    fn documents(&self) -> Vec<Document> {
        let key = |id: Id| EcoString::from(id.to_string());
        let mut documents: Vec<Document> = self
            .documents
            .iter()
            .map(|((kind, id), body)| Document { kind: kind.word().into(), key: key(*id), body: body.clone() })
            .collect();
        if self.has_new_numbers {
            let numbers: BTreeMap<&str, Id> = self.shelf.numbers.iter().map(|(kind, number)| (kind.word(), *number)).collect();
            documents.push(Document { kind: NUMBERS.into(), key: "all".into(), body: json!(numbers) });
        }
        documents
    }
}

/// The book of a server.
pub struct Book {
    documents: Arc<dyn Documents>,
    shelf: RwLock<Shelf>,
    writing: Arc<tokio::sync::Mutex<()>>,
    changes: watch::Sender<u64>,
}

impl Book {
    pub fn new(documents: Arc<dyn Documents>) -> Self {
        Self { documents, shelf: RwLock::default(), writing: Arc::default(), changes: watch::Sender::new(0) }
    }

    /// Takes up what the log has; `documents` gives those of a kind. A record that cannot be read is told and left alone.
    pub fn load(&self, documents: impl Fn(&str) -> Vec<(EcoString, Json)>) {
        let mut shelf = Shelf::default();
        for kind in Kind::ALL {
            for (key, body) in documents(kind.word()) {
                if let Err(error) = shelf.load(kind, body) {
                    tracing::warn!(kind = kind.word(), key = key.as_str(), %error, "a record of concepts cannot be read and is left alone");
                    // Its number stays taken.
                    let number = shelf.numbers.entry(kind).or_default();
                    *number = (*number).max(key.parse().unwrap_or_default());
                }
            }
        }
        documents(NUMBERS).iter().for_each(|(_, numbers)| shelf.load_numbers(numbers));
        *self.shelf.write().unwrap_or_else(PoisonError::into_inner) = shelf;
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// The book as it is now.
    pub fn read(&self) -> Shelf {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Moves with every change.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Drafts a change, makes it durable and enters it. What was begun is finished, also when the caller goes away.
    pub async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        now: Micros,
        draft: impl FnOnce(&mut Draft) -> Result<T, ConceptError>,
    ) -> Result<T, ConceptError> {
        let writing = Arc::clone(&self.writing).lock_owned().await;
        let mut drafted = Draft { shelf: self.read(), documents: BTreeMap::new(), has_new_numbers: false, now };
        let value = draft(&mut drafted)?;
        let documents = drafted.documents();
        if documents.is_empty() {
            return Ok(value);
        }
        let book = Arc::clone(self);
        let entered = tokio::spawn(async move {
            book.documents.put(documents).await?;
            *book.shelf.write().unwrap_or_else(PoisonError::into_inner) = drafted.shelf;
            drop(writing);
            book.changes.send_modify(|changes| *changes += 1);
            Ok::<(), ServiceError>(())
        });
        entered.await.map_err(|_| ConceptError::NotReady("the server is stopping"))??;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Kept(Mutex<BTreeMap<(EcoString, EcoString), Json>>);

    #[async_trait]
    impl Documents for Kept {
        async fn put(&self, documents: Vec<Document>) -> Result<(), ServiceError> {
            let mut kept = self.0.lock().expect("no test panics with it");
            for document in documents {
                kept.insert((document.kind, document.key), document.body);
            }
            Ok(())
        }
    }

    impl Kept {
        fn of(&self, kind: &str) -> Vec<(EcoString, Json)> {
            let kept = self.0.lock().expect("no test panics with it");
            let of_kind = kept.iter().filter(|((of, _), body)| of == kind && !body.is_null());
            of_kind.map(|((_, key), body)| (key.clone(), body.clone())).collect()
        }
    }

    fn concept(c_id: Id, name: &str) -> Concept {
        Concept { c_id, name: name.to_owned(), description: None, created_at: 1, updated_at: 1 }
    }

    #[tokio::test]
    async fn what_is_read_again_is_what_was_written_and_numbers_are_given_once() {
        let kept = Arc::new(Kept::default());
        let book = Arc::new(Book::new(kept.clone()));
        for name in ["a", "b"] {
            let made = book.change(5, |draft| {
                let c_id = draft.next_id::<Concept>();
                Ok(draft.put(concept(c_id, name)).c_id)
            });
            made.await.expect("it is kept");
        }
        book.change(6, |draft| {
            draft.remove::<Concept>(2);
            Ok(())
        })
        .await
        .expect("it is kept");
        let again = Arc::new(Book::new(kept.clone()));
        again.load(|kind| kept.of(kind));
        let names: Vec<String> = again.read().all::<Concept>().map(|concept| concept.name.clone()).collect();
        assert_eq!(names, ["a"]);
        let next = again.change(7, |draft| Ok(draft.next_id::<Concept>())).await.expect("it is kept");
        assert_eq!(next, 3, "the number of a removed concept is not given again");
    }

    #[tokio::test]
    async fn a_refused_draft_changes_nothing() {
        let kept = Arc::new(Kept::default());
        let book = Arc::new(Book::new(kept.clone()));
        let refused = book.change(5, |draft| {
            draft.put(concept(1, "a"));
            Err::<(), _>(ConceptError::Refused("no".to_owned()))
        });
        assert_eq!(refused.await.expect_err("it is refused").code(), "refused");
        assert_eq!((book.read().count::<Concept>(), kept.of("concept").len()), (0, 0));
    }

    #[test]
    fn a_record_belongs_to_its_concept_only() {
        let mut shelf = Shelf::default();
        shelf.enter(concept(1, "a"));
        shelf.enter(concept(2, "b"));
        shelf.enter(Value { cv_id: 7, c_id: 1, name: "X".into(), description: None, display_order: None, created_at: 1 });
        assert!(shelf.get_in::<Value>(1, 7).is_ok());
        for (c_id, text) in [(2, "Concept value with ID 7 not found"), (3, "Concept with ID 3 not found")] {
            assert_eq!(shelf.get_in::<Value>(c_id, 7).expect_err("it is not there").to_string(), text);
        }
    }
}
