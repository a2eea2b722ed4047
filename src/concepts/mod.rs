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

pub mod bank;
pub mod book;
mod catalog;
pub(crate) mod cells;
pub mod classifiers;
pub mod columns;
mod concept;
mod config;
mod connections;
mod error;
pub mod extraction;
mod features;
pub mod functions;
mod indexes;
mod jobs;
pub(crate) mod join;
pub(crate) mod label;
pub mod limits;
pub mod queries;
pub mod record;
mod removal;
mod results;
mod rules;
pub mod snorkel;
pub(crate) mod tables;
#[cfg(test)]
mod tests;
mod training;
pub mod trial;
mod values;
pub mod vault;
pub mod voting;

pub use book::{Book, Documents, Draft, Shelf, Shelved};
pub use catalog::{Asset, AssetCounts, Catalog};
pub use concept::{ConceptChange, NewConcept};
pub use config::ConceptsConfig;
pub use connections::{ConnectionChange, NewConnection, Rotated, connection};
pub use error::ConceptError;
pub use features::{FeatureChange, NewFeature};
pub use indexes::{IndexChange, NewIndex};
pub use removal::folder;
pub use rules::{NewRule, RuleChange};
pub use training::TrainingConfig;
pub use values::{NewValue, ValueChange};

use crate::runs::Runs;
use desireline_connectors::store::Store;
use desireline_records::Micros;
use desireline_records::time::now_micros;
use ecow::EcoString;
use serde_json::Value as Json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;
use vault::Vault;

/// A cheap handle to the concepts of a server.
#[derive(Clone)]
pub struct Concepts {
    inner: Arc<Inner>,
}

struct Inner {
    book: Arc<Book>,
    vault: Vault,
    store: Store,
    runs: Runs,
    has_begun: AtomicBool,
    /// Runs labelling functions.
    labelling: Arc<desireline_labelling::Runtime>,
    training: TrainingConfig,
    extraction: extraction::Extraction,
    /// Functions that are being tested.
    tests: Arc<Semaphore>,
    models: classifiers::Models,
}

impl Concepts {
    /// Makes its jobs known; before the runs are restored. Takes requests once [`Concepts::begin`] has been called.
    pub fn new(config: ConceptsConfig, store: Store, runs: Runs, documents: Arc<dyn Documents>) -> Self {
        let book = Arc::new(Book::new(documents));
        let vault = Vault::new(config.keys);
        let labelling = Arc::new(desireline_labelling::Runtime::new(config.training.runtime.clone()));
        let (has_begun, tests) = (AtomicBool::new(false), Arc::new(Semaphore::new(config.training.tests_at_once)));
        let extraction = extraction::Extraction::new(config.extraction);
        let (training, models) = (config.training, classifiers::Models::default());
        let inner = Arc::new(Inner { book, vault, store, runs, has_begun, labelling, training, extraction, tests, models });
        inner.register_jobs();
        extraction::register(&inner);
        Self { inner }
    }

    /// Takes up what the log has; `documents` gives those of a kind. Once the log has been read, before the runs are restored.
    pub fn begin(&self, documents: impl Fn(&str) -> Vec<(EcoString, Json)>) {
        self.inner.book.load(documents);
        self.report_passwords();
        self.inner.has_begun.store(true, Ordering::Release);
        jobs::keep(&self.inner);
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

    pub(crate) fn training(&self) -> &TrainingConfig {
        &self.inner.training
    }

    /// What runs labelling functions, for everybody who does.
    pub fn labelling(&self) -> &Arc<desireline_labelling::Runtime> {
        &self.inner.labelling
    }
}

pub(crate) fn now() -> Micros {
    now_micros()
}
