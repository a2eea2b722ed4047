//! Records of interfaces that keep their own: a body of JSON under a kind and a key, in the log.

use super::{NO_PANIC, Service, ServiceError};
use desireline_records::{Control, Progress, Token};
use ecow::EcoString;
use serde_json::Value;

/// What is to stand under a kind and a key; `null` removes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub kind: EcoString,
    pub key: EcoString,
    pub body: Value,
}

impl Service {
    /// Makes documents durable in one batch: all of them or none.
    pub async fn put_documents(&self, documents: Vec<Document>) -> Result<Token, ServiceError> {
        self.inner.must_be_ready()?;
        let control = |Document { kind, key, body }| Control::Document { kind, key, body };
        let controls = documents.into_iter().map(control).collect();
        self.inner.commit(Progress { controls, ..Progress::default() }).await
    }

    /// All documents of a kind as the log has them, by key; complete once the service is ready.
    pub fn documents(&self, kind: &str) -> Vec<(EcoString, Value)> {
        let fold = self.inner.fold.read().expect(NO_PANIC);
        fold.documents.get(kind).into_iter().flatten().map(|(key, body)| (key.clone(), body.clone())).collect()
    }
}
