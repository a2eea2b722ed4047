//! Where a writer stands: a record of the topic that its transactions also write.
//!
//! The topic has one partition and is compacted; the key is the target's name, the value
//!
//! ```json
//! {"definition":"views 1: sessions","epoch":7,"applied":1700000000000,"complete":true,
//!  "sources":{"1":{"user_id_type":"string","transaction_value":false}}}
//! ```
//!
//! No other writer writes to it, so that nobody's open transaction keeps it from being read. It is read twice: before the transactional
//! id is claimed, so that an old server leaves a newer one alone, and after, when nothing can change any more.

use super::super::changeset::Changeset;
use super::super::target::{Standing, TargetError};
use desireline_connectors::kafka::transactions::{Offsets, Record, Topic, Transactions, Visit, WriterConfig, WriterError};
use desireline_dataflows::changes::ViewRow;
use desireline_records::{LogicalTime, SourceId, UserIdType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What of a source's settings shows in its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Printing {
    pub user_id_type: UserIdType,
    pub transaction_value: bool,
}

pub(super) type Sources = BTreeMap<SourceId, Printing>;

/// Takes over the settings of sources that a changeset brings.
pub(super) fn note_sources(sources: &mut Sources, changes: &Changeset) {
    for row in changes.put() {
        if let ViewRow::Source(settings) = row {
            let printing = Printing { user_id_type: settings.user_id_type, transaction_value: settings.transaction_value };
            sources.insert(settings.source, printing);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub definition: String,
    pub epoch: u64,
    pub applied: LogicalTime,
    pub complete: bool,
    pub sources: Sources,
}

pub(super) struct LedgerConfig {
    /// The key of the state.
    pub name: &'static str,
    pub definition: String,
    pub writer: WriterConfig,
    pub state_topic: Arc<Topic>,
    pub topics: Vec<Arc<Topic>>,
    /// A topic that had to be created has lost its rows.
    pub rows_must_be_there: bool,
}

/// How far the topic of the state is read.
enum Reach {
    /// To its end.
    Whole,
    /// Up to the first transaction that is still open.
    Decided,
}

/// A writer with its state.
pub(super) struct Ledger {
    config: LedgerConfig,
    transactions: Transactions,
    epoch: u64,
    /// As it is recorded; there from a successful open to the first error.
    state: Option<State>,
}

impl Ledger {
    pub fn new(config: LedgerConfig) -> Result<Self, TargetError> {
        let transactions = Transactions::new(config.writer.clone()).map_err(of_writer)?;
        Ok(Self { config, transactions, epoch: 0, state: None })
    }

    pub fn sources(&self) -> Result<Sources, TargetError> {
        Ok(self.state.as_ref().ok_or_else(not_open)?.sources.clone())
    }

    pub async fn open(&mut self, epoch: u64) -> Result<Standing, TargetError> {
        (self.epoch, self.state) = (epoch, None);
        let created = self.transactions.create_missing(self.all_topics()).await.map_err(of_writer)?;
        // Whoever was stopped within a transaction has left it open; it says nothing new before it is decided.
        self.recorded(Reach::Decided).await?;
        self.transactions.claim().await.map_err(of_writer)?;
        let recorded = self.recorded(Reach::Whole).await?;
        let lost = self.config.rows_must_be_there && self.config.topics.iter().any(|topic| created.contains(&topic.name));
        let current = recorded.filter(|state| state.complete && !lost && state.definition == self.config.definition);
        let (standing, claimed) = match current {
            Some(state) => (Standing::At(state.applied), State { epoch, ..state }),
            None => {
                let definition = self.config.definition.clone();
                (Standing::Fresh, State { definition, epoch, applied: 0, complete: false, sources: Sources::new() })
            }
        };
        self.state = Some(claimed);
        self.commit(Vec::new(), |_| {}).await?;
        Ok(standing)
    }

    /// Sends records and the changed state in one transaction. Answers how many records were too large.
    pub async fn commit(&mut self, mut records: Vec<Record>, change: impl FnOnce(&mut State)) -> Result<u64, TargetError> {
        let mut state = self.state.take().ok_or_else(not_open)?;
        change(&mut state);
        let payload = serde_json::to_vec(&state).map_err(|error| TargetError::Refused(error.to_string()))?;
        let (topic, key) = (self.config.state_topic.clone(), self.config.name.as_bytes().to_vec());
        records.push(Record { topic, key, payload: Some(payload) });
        match self.transactions.commit(records).await {
            Ok(refused) => {
                self.state = Some(state);
                Ok(refused)
            }
            Err(WriterError::Fenced(text)) => Err(self.fenced(text).await),
            Err(error) => Err(of_writer(error)),
        }
    }

    pub async fn ends(&self, topic: &Arc<Topic>) -> Result<Offsets, TargetError> {
        self.transactions.ends(topic.clone()).await.map_err(of_writer)
    }

    pub async fn read(&self, topic: &Arc<Topic>, from: Offsets, visit: Visit) -> Result<(), TargetError> {
        self.transactions.read(topic.clone(), from, visit).await.map_err(of_writer)
    }

    /// Whether all topics are still there.
    pub async fn check(&mut self) -> Result<(), TargetError> {
        let missing = self.transactions.missing(self.all_topics()).await.map_err(of_writer)?;
        match missing.first() {
            None => Ok(()),
            Some(name) => Err(TargetError::Lost(format!("the topic {name} is gone"))),
        }
    }

    /// Who has shut this writer out: a newer server, or somebody who has no business here.
    async fn fenced(&self, text: String) -> TargetError {
        match self.recorded(Reach::Decided).await {
            Err(error @ TargetError::Fenced { .. }) => error,
            _ => TargetError::Unavailable(format!(
                "{text}; the transactional id {} is also in use elsewhere",
                self.config.writer.transactional_id
            )),
        }
    }

    fn all_topics(&self) -> Vec<Arc<Topic>> {
        self.config.topics.iter().chain([&self.config.state_topic]).cloned().collect()
    }

    /// The state of the topic, unless a newer server has written it.
    async fn recorded(&self, reach: Reach) -> Result<Option<State>, TargetError> {
        let last = Arc::new(Mutex::new(None::<Vec<u8>>));
        let (found, name) = (last.clone(), self.config.name);
        let visit: Visit = Box::new(move |key, payload| {
            if key == name.as_bytes() {
                *found.lock().unwrap_or_else(PoisonError::into_inner) = payload.map(<[u8]>::to_vec);
            }
        });
        let topic = self.config.state_topic.clone();
        let read = match reach {
            Reach::Whole => self.transactions.read(topic, Offsets::new(), visit).await,
            Reach::Decided => self.transactions.peek(topic, visit).await,
        };
        read.map_err(of_writer)?;
        let last = last.lock().unwrap_or_else(PoisonError::into_inner).take();
        // What cannot be read was written by another version: the rows are built anew.
        let state = last.and_then(|payload| serde_json::from_slice::<State>(&payload).ok());
        match state {
            Some(State { epoch: newer, .. }) if newer > self.epoch => Err(TargetError::Fenced { own: self.epoch, newer }),
            state => Ok(state),
        }
    }
}

fn not_open() -> TargetError {
    TargetError::Unavailable("the topics are not open".into())
}

fn of_writer(error: WriterError) -> TargetError {
    match error {
        WriterError::Unavailable(text) | WriterError::Fenced(text) => TargetError::Unavailable(text),
        WriterError::Refused(text) => TargetError::Refused(text),
        WriterError::Missing(text) => TargetError::Lost(text),
    }
}
