//! Jobs: what label models and classifiers are made by. What both kinds have in common.
//!
//! A job is a record of the book, and a run (`crate::runs`) does its work. The two are kept in step:
//! - The record is entered first, then the run is submitted, then the record learns the run's id. Where a crash comes in between, the next
//!   start finds the run by its parameters, or closes the job.
//! - The work closes the record in the same commit that enters its results, and only while it is open: a cancelled job never changes again,
//!   and what it had written is removed.
//! - Cancelling the job cancels its run, and the other way round. A job whose run has ended in any other way than by its work is closed by
//!   the keeper, which looks whenever a run or the book changes, and as soon as the runs are known after a restart. Whoever asks before
//!   the keeper has looked is told the same.
//! - A run whose job is gone or closed stops.
//!
//! Known limitation: when a run is cancelled in the instant in which its work is being committed, the job stays COMPLETED.

use super::book::Shelved;
use super::classifiers::ClassifierPipeline;
use super::record::{ClassifierJob, Concept, Id, JobStatus, SnorkelJob};
use super::removal::{self, Leftovers};
use super::snorkel::SnorkelPipeline;
use super::{ConceptError, Concepts, Draft, Inner, limits, now};
use crate::runs::{NewRun, RetryPolicy, RunContext, RunError, RunId, RunRecord, RunStatus, Runs, RunsError};
use desireline_records::Micros;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Outages of the object store are waited out so: after 1 s, 2 s, … 16 s.
const RETRIES: RetryPolicy = RetryPolicy { retries: 5, delay: Duration::from_secs(1), jitter: 0.2, constant: false };

/// The parameters of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobParams {
    pub c_id: Id,
    pub job_id: Id,
}

/// A job's record.
pub trait JobRecord: Shelved {
    /// The name of its runs' job.
    const RUN: &'static str;
    fn status(&self) -> JobStatus;
    fn run_id(&self) -> Option<&str>;
    fn set_run_id(&mut self, run_id: String);
    /// Ends it.
    fn close(&mut self, status: JobStatus, error: Option<String>, at: Micros);
    /// Removes it with its objects and its run.
    fn remove(&self, draft: &mut Draft, leftovers: &mut Leftovers);
}

macro_rules! job_record {
    ($record:ident, $run:literal, $remove:ident) => {
        impl JobRecord for $record {
            const RUN: &'static str = $run;

            fn status(&self) -> JobStatus {
                self.status
            }

            fn run_id(&self) -> Option<&str> {
                self.dagster_run_id.as_deref()
            }

            fn set_run_id(&mut self, run_id: String) {
                self.dagster_run_id = Some(run_id);
            }

            fn close(&mut self, status: JobStatus, error: Option<String>, at: Micros) {
                (self.status, self.error_message, self.completed_at) = (status, error, Some(at));
            }

            fn remove(&self, draft: &mut Draft, leftovers: &mut Leftovers) {
                leftovers.$remove(draft, self);
            }
        }
    };
}

job_record!(SnorkelJob, "snorkel_training_pipeline", remove_snorkel_job);
job_record!(ClassifierJob, "classifier_training_pipeline", remove_classifier_job);

impl From<RunsError> for ConceptError {
    fn from(error: RunsError) -> Self {
        match error {
            RunsError::QueueFull { .. } => Self::Busy(error.to_string()),
            RunsError::NotReady(detail) => Self::NotReady(detail),
            RunsError::Store(error) => Self::Service(error),
            error => Self::Refused(error.to_string()),
        }
    }
}

impl Concepts {
    /// Enters a job and has it begun.
    pub(super) async fn start_job<J: JobRecord>(
        &self,
        make: impl FnOnce(&mut Draft) -> Result<J, ConceptError>,
    ) -> Result<Arc<J>, ConceptError> {
        let book = self.book()?;
        let entered = book.change(now(), |draft| {
            let job = make(draft)?;
            limits::room::<J>(draft, job.concept())?;
            Ok(draft.put(job))
        });
        let entered = entered.await?;
        let (job_id, c_id) = (entered.id(), entered.concept().unwrap_or_default());
        let run = NewRun {
            job_name: J::RUN.to_owned(),
            params: json!(JobParams { c_id, job_id }),
            serial_key: removal::folder(J::KIND, job_id),
            retries: RETRIES,
            ..NewRun::default()
        };
        let run_id = match self.runs().submit(run).await {
            Ok(run_id) => run_id.to_string(),
            Err(error) => {
                let taken_back = book.change(now(), move |draft| {
                    draft.remove::<J>(job_id);
                    Ok(())
                });
                taken_back.await?;
                return Err(error.into());
            }
        };
        let mut begun = J::clone(&entered);
        begun.set_run_id(run_id.clone());
        let know = move |draft: &mut Draft| {
            if let Some(job) = draft.find::<J>(job_id).filter(|job| job.run_id().is_none()) {
                let mut job = J::clone(job);
                job.set_run_id(run_id);
                draft.put(job);
            }
            Ok(())
        };
        book.change(now(), know).await?;
        Ok(Arc::new(begun))
    }

    pub(super) fn job<J: JobRecord>(&self, c_id: Id, job_id: Id) -> Result<Arc<J>, ConceptError> {
        let shelf = self.book()?.read();
        Ok(shown(self.runs(), shelf.get_in::<J>(c_id, job_id)?))
    }

    /// The newest first.
    pub(super) fn jobs<J: JobRecord>(&self, c_id: Id, skip: usize, limit: usize) -> Result<Vec<Arc<J>>, ConceptError> {
        let shelf = self.book()?.read();
        shelf.get::<Concept>(c_id)?;
        let mut jobs: Vec<&Arc<J>> = shelf.of_concept::<J>(c_id).collect();
        jobs.reverse();
        Ok(jobs.into_iter().skip(skip).take(limit).map(|job| shown(self.runs(), job)).collect())
    }

    pub(super) async fn cancel_job<J: JobRecord>(&self, c_id: Id, job_id: Id) -> Result<Arc<J>, ConceptError> {
        let runs = self.runs().clone();
        let close = move |draft: &mut Draft| {
            let job = shown(&runs, draft.get_in::<J>(c_id, job_id)?);
            if !job.status().is_open() {
                return Err(ConceptError::Refused(format!("Cannot cancel job with status {}", job.status().word())));
            }
            let mut job = J::clone(&job);
            job.close(JobStatus::Cancelled, None, draft.now);
            Ok(draft.put(job))
        };
        let job = self.book()?.change(now(), close).await?;
        self.cancel_run(job.run_id()).await;
        Ok(job)
    }

    /// Removes the record; what works for it and its objects go in the background. `check` says who stands in the way.
    pub(super) async fn delete_job<J: JobRecord>(
        &self,
        c_id: Id,
        job_id: Id,
        check: impl FnOnce(&Draft) -> Result<(), ConceptError>,
    ) -> Result<(), ConceptError> {
        let remove = |draft: &mut Draft| {
            let job = Arc::clone(draft.get_in::<J>(c_id, job_id)?);
            check(draft)?;
            let mut leftovers = Leftovers::default();
            job.remove(draft, &mut leftovers);
            Ok(leftovers)
        };
        let leftovers = self.book()?.change(now(), remove).await?;
        self.clear(leftovers);
        Ok(())
    }

    async fn cancel_run(&self, run_id: Option<&str>) {
        let Some(run_id) = run_id else { return };
        match self.runs().cancel(&RunId::from(run_id)).await {
            Ok(_) | Err(RunsError::NotCancellable { .. } | RunsError::NotFound(_)) => {}
            // The run finds its job closed and stops by itself.
            Err(error) => tracing::warn!(run_id, %error, "the run of a cancelled job could not be cancelled"),
        }
    }
}

/// The job as its run has left it, where the book does not say so yet.
pub(super) fn shown<J: JobRecord>(runs: &Runs, job: &Arc<J>) -> Arc<J> {
    let run = job.run_id().filter(|_| job.status().is_open()).map(|run_id| runs.get(&RunId::from(run_id)));
    let Some(Ok(run)) = run else { return Arc::clone(job) };
    match ending(&run) {
        Some((status, error)) if run.status != RunStatus::Success => {
            let mut job = J::clone(job);
            job.close(status, error, run.end_time.unwrap_or_else(now));
            Arc::new(job)
        }
        _ => Arc::clone(job),
    }
}

/// What becomes of a job that its run has left open.
fn ending(run: &RunRecord) -> Option<(JobStatus, Option<String>)> {
    match run.status {
        RunStatus::Pending | RunStatus::Started => None,
        RunStatus::Cancelled => Some((JobStatus::Cancelled, None)),
        RunStatus::Failure => Some((JobStatus::Failed, Some(run.error_message().unwrap_or("the run failed").to_owned()))),
        RunStatus::Success => Some((JobStatus::Failed, Some("the run ended without a result".to_owned()))),
    }
}

/// Closes jobs whose runs have ended, from now on until the server stops. To be called once the log's jobs are in the book.
pub(super) fn keep(inner: &Arc<Inner>) -> JoinHandle<()> {
    let shelf = inner.book.read();
    let mut unsubmitted = Unsubmitted { snorkel: without_run::<SnorkelJob>(&shelf), classifier: without_run::<ClassifierJob>(&shelf) };
    let (mut runs, mut book) = (inner.runs.watch(), inner.book.watch());
    let inner: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            let Some(alive) = inner.upgrade() else { return };
            if alive.runs.restored() {
                match alive.close_all(&unsubmitted).await {
                    Ok(()) => unsubmitted = Unsubmitted::default(),
                    Err(error) => {
                        tracing::warn!(%error, "jobs whose runs have ended could not be closed; the next change tries again");
                    }
                }
            }
            drop(alive);
            let changed = tokio::select! {
                changed = runs.changed() => changed,
                changed = book.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    })
}

/// Jobs that were open when the log was read and know no run.
#[derive(Default)]
struct Unsubmitted {
    snorkel: Vec<Id>,
    classifier: Vec<Id>,
}

fn without_run<J: JobRecord>(shelf: &super::Shelf) -> Vec<Id> {
    shelf.all::<J>().filter(|job| job.status().is_open() && job.run_id().is_none()).map(|job| job.id()).collect()
}

impl Inner {
    /// Before the runs are restored.
    pub(super) fn register_jobs(self: &Arc<Self>) {
        self.runs.register(SnorkelJob::RUN, Arc::new(SnorkelPipeline(Arc::downgrade(self))));
        self.runs.register(ClassifierJob::RUN, Arc::new(ClassifierPipeline(Arc::downgrade(self))));
    }

    async fn close_all(&self, unsubmitted: &Unsubmitted) -> Result<(), ConceptError> {
        self.close_ended::<SnorkelJob>(&unsubmitted.snorkel).await?;
        self.close_ended::<ClassifierJob>(&unsubmitted.classifier).await
    }

    async fn close_ended<J: JobRecord>(&self, unsubmitted: &[Id]) -> Result<(), ConceptError> {
        let found = self.runs_of::<J>(unsubmitted);
        let mut ended: BTreeMap<Id, (JobStatus, Option<String>)> = BTreeMap::new();
        for job in self.book.read().all::<J>().filter(|job| job.status().is_open()) {
            let run_id = job.run_id().map(RunId::from).or_else(|| found.get(&job.id()).cloned());
            let outcome = match run_id.map(|run_id| self.runs.get(&run_id)) {
                Some(Ok(run)) => ending(&run),
                Some(Err(_)) => Some((JobStatus::Failed, Some("its run is not known any more".to_owned()))),
                None if unsubmitted.contains(&job.id()) => {
                    Some((JobStatus::Failed, Some("the server stopped before its run had begun".to_owned())))
                }
                None => None,
            };
            ended.extend(outcome.map(|outcome| (job.id(), outcome)));
        }
        if ended.is_empty() && found.is_empty() {
            return Ok(());
        }
        let close = move |draft: &mut Draft| {
            for (job_id, run_id) in found {
                if let Some(mut job) = open_job::<J>(draft, job_id) {
                    job.set_run_id(run_id.to_string());
                    draft.put(job);
                }
            }
            for (job_id, (status, error)) in ended {
                if let Some(mut job) = open_job::<J>(draft, job_id) {
                    job.close(status, error, draft.now);
                    draft.put(job);
                }
            }
            Ok(())
        };
        self.book.change(now(), close).await
    }

    /// The runs of jobs that do not know theirs.
    fn runs_of<J: JobRecord>(&self, jobs: &[Id]) -> BTreeMap<Id, RunId> {
        if jobs.is_empty() {
            return BTreeMap::new();
        }
        let run = |run: RunRecord| {
            let params = JobParams::deserialize(&run.params).ok().filter(|_| run.job_name == J::RUN)?;
            jobs.contains(&params.job_id).then_some((params.job_id, run.run_id))
        };
        self.runs.list(usize::MAX, None).into_iter().filter_map(run).collect()
    }

    /// The job of a run. A run whose job is closed or gone has nothing to do.
    pub(super) fn open_job<J: JobRecord>(&self, params: &Json) -> Result<Arc<J>, RunError> {
        let unreadable = |error| RunError::user("params", format!("the parameters cannot be read: {error}"));
        let params = JobParams::deserialize(params).map_err(unreadable)?;
        let shelf = self.book.read();
        let job = shelf.find::<J>(params.job_id).filter(|job| job.status().is_open());
        job.cloned().ok_or_else(|| RunError::user("job_closed", format!("{} {} is closed", J::NAME, params.job_id)))
    }

    /// Does the work of a run until it is done, told to stop, or not wanted any more.
    pub(super) async fn work<J: JobRecord>(
        &self,
        ctx: &RunContext,
        job_id: Id,
        work: impl Future<Output = Result<Json, RunError>>,
    ) -> Result<Json, RunError> {
        let mut changes = self.book.watch();
        // The work itself completes the job.
        let is_wanted = |job: &Arc<J>| job.status().is_open() || job.status() == JobStatus::Completed;
        let unwanted = async {
            while self.book.read().find::<J>(job_id).is_some_and(is_wanted) {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            biased;
            () = ctx.cancelled().cancelled() => Err(RunError::stopped()),
            done = work => done,
            () = unwanted => Err(RunError::user("job_closed", format!("{} {job_id} was closed", J::NAME))),
        }
    }

    /// Enters the end of a job together with whatever `enter` adds. A job that is not open any more stays as it is, and its objects go.
    pub(super) async fn complete<J: JobRecord>(
        &self,
        ctx: &RunContext,
        job_id: Id,
        enter: impl FnOnce(&mut Draft, &mut J) + Send + 'static,
    ) -> Result<(), RunError> {
        let run_id = ctx.run_id().to_string();
        let token = ctx.cancelled().clone();
        let end = move |draft: &mut Draft| {
            let Some(mut job) = open_job::<J>(draft, job_id).filter(|_| !token.is_cancelled()) else { return Ok(false) };
            job.set_run_id(run_id);
            job.close(JobStatus::Completed, None, draft.now);
            enter(draft, &mut job);
            draft.put(job);
            Ok(true)
        };
        let ended = self.book.change(now(), end).await;
        match ended.map_err(|error| RunError::external(error.code(), error.to_string()))? {
            true => Ok(()),
            false => Err(RunError::user("job_closed", format!("{} {job_id} was closed", J::NAME))),
        }
    }
}

fn open_job<J: JobRecord>(draft: &Draft, job_id: Id) -> Option<J> {
    draft.find::<J>(job_id).filter(|job| job.status().is_open()).map(|job| J::clone(job))
}

/// Tells work on another thread to stop once nobody waits for it any more.
#[derive(Default)]
pub(super) struct StopOnDrop(Arc<AtomicBool>);

impl StopOnDrop {
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
