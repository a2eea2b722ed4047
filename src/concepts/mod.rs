//! Concepts: what a data scientist wants to know of things, how it is told from data, and what was learned.
//!
//! A *concept* has *values*, the classes. An *index* is a query that says which things are looked at; *rules* and *features* are queries that
//! say what is known of them. *Labelling functions* vote on a value by a rule's rows, a *label model* weighs the votes, and *classifiers* learn
//! from its labels and the features.
//!
//! What it promises:
//! - **Durable.** Every record is a document of the log; a reply follows the log. Numbers are never given twice.
//! - **Whole.** What belongs together is one commit: a concept goes with everything that belongs to it.
//! - **Asked for, not waited for.** Whatever takes time is a run (`crate::runs`): its job is named in the reply.
//!
//! # How it works
//! `record` has the records, `book` keeps and changes them; one file for each kind says what may be asked of it.

pub mod book;
mod error;
pub mod record;

pub use book::{Book, Documents, Draft, Shelf, Shelved};
pub use error::ConceptError;

use crate::runs::Runs;
use desireline_connectors::store::Store;
use desireline_records::Micros;
use desireline_records::time::now_micros;
use ecow::EcoString;
use serde_json::Value as Json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A cheap handle to the concepts of a server.
#[derive(Clone)]
pub struct Concepts {
    inner: Arc<Inner>,
}

struct Inner {
    book: Arc<Book>,
    store: Store,
    runs: Runs,
    has_begun: AtomicBool,
}

impl Concepts {
    /// Makes its jobs known; before the runs are restored. Takes requests once [`Concepts::begin`] has been called.
    pub fn new(store: Store, runs: Runs, documents: Arc<dyn Documents>) -> Self {
        let book = Arc::new(Book::new(documents));
        Self { inner: Arc::new(Inner { book, store, runs, has_begun: AtomicBool::new(false) }) }
    }

    /// Takes up what the log has; `documents` gives those of a kind. Once the log has been read, before the runs are restored.
    pub fn begin(&self, documents: impl Fn(&str) -> Vec<(EcoString, Json)>) {
        self.inner.book.load(documents);
        self.inner.has_begun.store(true, Ordering::Release);
    }

    /// The book, once it has been read.
    pub fn book(&self) -> Result<&Arc<Book>, ConceptError> {
        let has_begun = self.inner.has_begun.load(Ordering::Acquire);
        if has_begun { Ok(&self.inner.book) } else { Err(ConceptError::NotReady("the concepts of the log have not been read yet")) }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn runs(&self) -> &Runs {
        &self.inner.runs
    }
}

pub(crate) fn now() -> Micros {
    now_micros()
}
