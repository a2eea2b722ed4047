//! Live labels: label matrices over the live connection that follow the log by themselves.
//!
//! For every index on the live connection whose rules have active labelling functions there is one *matrix*: a row for each thing of the
//! index, a column for each function. When rows come for a user or a device, that key is *dirty*: it is looked up whether the index has
//! it, the rules' queries are asked for it alone, the functions vote again, and what has changed enters the log. The sufficient statistic
//! of the label model is kept by the dataflow (`dataflows/src/views/labels`), and when it has moved enough, a model is fitted and
//! logged; labels follow it at one logical time.
//!
//! What it promises:
//! - **Nothing is missed.** What waits is a fold of the log ([`crate::service::Touched`]): a restart goes on exactly where the log ends.
//! - **Nothing is mixed.** Other SQL, other code, other values of the concept: another *generation*, evaluated from the beginning. Rows of
//!   an old one change nothing.
//! - **In proportion.** A change costs what it touches, when all queries are key-local ([`desireline_sql::live::Class`]). What also reads the
//!   space tree is evaluated again as a whole when that changes; global queries at most every [`LabelsConfig::full_every`].
//! - **Told.** [`LiveLabels::answer`] says the class of each query with its reason, whether anything waits, and what keeps it from working.
//!
//! # How it works
//! `wanted` reads from the book which matrices there should be; `evaluate` asks queries and functions about keys; `keeper` is the task that
//! begins, follows and ends matrices; `jobs` are the runs (`evaluate_label_matrix_job`, `label_model_refit_job`); `fitted` is a model as it
//! is logged; `answers` is what is read.
//!
//! # Known limitations
//! - One matrix per index; rules that name another column of the index than the first of them does take no part.
//! - The rows that queries gave are logged with changed votes, and not kept in memory: a feature that changes without changing a vote leaves
//!   no record.
//! - A function that does not end within its time (see the documentation of labelling functions) is deactivated.

mod answers;
pub mod config;
mod evaluate;
mod fitted;
mod jobs;
mod keeper;
mod wanted;

pub use answers::{Asked, Function, LabelRow, LiveAnswer, ModelFacts, PlanFacts, Totals};
pub use config::LabelsConfig;
pub use fitted::{Fitted, Posterior};
pub use jobs::{EVALUATE_JOB, REFIT_JOB};

use crate::concepts::Concepts;
use crate::runs::Runs;
use crate::service::Service;
use desireline_records::{LogicalTime, MatrixId};
use desireline_sql::live::Tables;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wanted::Wanted;

struct Inner {
    config: LabelsConfig,
    service: Service,
    concepts: Concepts,
    runs: Runs,
    tables: Arc<dyn Tables>,
    matrices: Mutex<BTreeMap<MatrixId, Live>>,
    /// A run has ended, or begun.
    moved: Notify,
    /// Why there is no matrix of an index.
    refused: Mutex<BTreeMap<MatrixId, String>>,
}

/// What the server knows of a matrix beside the log.
struct Live {
    wanted: Arc<Wanted>,
    generation: u64,
    /// A whole evaluation of this generation is under way, or is wanted because of what has changed by then.
    evaluating: bool,
    whole_wanted: bool,
    whole_at: Option<std::time::Instant>,
    refitting: bool,
    refit_at: Option<std::time::Instant>,
    /// Votes have changed since the counts were last looked at.
    refit_wanted: bool,
    /// Keys have come of which only a whole evaluation can say whether the index has them.
    late_things: bool,
    /// When it fails, the next attempt is not before.
    pause: Pause,
    /// Evaluated so far.
    through: LogicalTime,
}

/// Longer and longer pauses after failures.
#[derive(Clone, Debug, Default)]
struct Pause {
    failures: u32,
    until: Option<std::time::Instant>,
    reason: Option<String>,
}

/// A cheap handle to the live labels of a server.
#[derive(Clone)]
pub struct LiveLabels {
    inner: Arc<Inner>,
    stop: CancellationToken,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl LiveLabels {
    /// Makes its jobs known; before the runs are restored.
    pub fn new(config: LabelsConfig, service: Service, concepts: Concepts, runs: Runs, tables: &Arc<dyn Tables>) -> Self {
        let tables = Arc::clone(tables);
        let (matrices, moved, refused) = (Mutex::default(), Notify::new(), Mutex::default());
        let inner = Arc::new(Inner { config, service, concepts, runs, tables, matrices, moved, refused });
        jobs::register(&inner);
        Self { inner, stop: CancellationToken::new(), tasks: Arc::default() }
    }

    /// Begins to follow; once the log has been read and the runs have been restored.
    pub fn begin(&self) {
        let task = tokio::spawn(keeper::keep(Arc::clone(&self.inner), self.stop.clone()));
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Follows nothing any more; before the runs stop.
    pub async fn stop(&self) {
        self.stop.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("the task of live labels ended by a panic");
            }
        }
    }
}

impl Inner {
    fn matrices(&self) -> MutexGuard<'_, BTreeMap<MatrixId, Live>> {
        self.matrices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of a matrix, if it is still of this generation.
    fn with<T>(&self, matrix: MatrixId, generation: u64, change: impl FnOnce(&mut Live) -> T) -> Option<T> {
        self.matrices().get_mut(&matrix).filter(|live| live.generation == generation).map(change)
    }
}
