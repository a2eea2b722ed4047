//! The moving part: begins runs whose turn it is, watches over their attempts, and makes every change durable.

use super::config::RunsConfig;
use super::context::{Job, RunContext, timed_out};
use super::record::{LogLevel, LogLine, NewRun, RunId, RunRecord, RunStatus};
use super::table::{LOG_MESSAGE_BYTES_MAX, Table};
use super::{RunError, RunErrorDomain, RunStore, RunsError};
use desireline_records::time::now_micros;
use rand::Rng;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Runs recorded at the same time; each has at most one record under way, so the last one in the log is the newest.
const RECORDS_AT_ONCE: usize = 64;
const SETTLE_TRIES: u32 = 3;
pub(super) const DEPENDENCIES_MAX: usize = 100;

pub(super) struct Inner {
    pub config: RunsConfig,
    store: Arc<dyn RunStore>,
    jobs: RwLock<HashMap<String, Arc<dyn Job>>>,
    table: Mutex<Table>,
    /// Set once the runs of the log are known.
    pub restored: watch::Sender<bool>,
    /// Moves with every change of a status.
    pub changes: watch::Sender<u64>,
    recordings: watch::Sender<u64>,
    pub wake_recorder: Notify,
    /// Why the log refused the last record; empty while all is well.
    pub record_error: Mutex<Option<String>>,
    /// The server stops.
    pub closing: CancellationToken,
    /// Everything is recorded that will be.
    pub closed: CancellationToken,
}

/// How an attempt ended.
enum Ended {
    Done(Result<Value, RunError>),
    /// Cut off by the end of the server: the run stays as it is.
    Interrupted,
}

impl Inner {
    pub fn new(config: RunsConfig, store: Arc<dyn RunStore>) -> Arc<Self> {
        let inner = Arc::new(Self {
            config,
            store,
            jobs: RwLock::default(),
            table: Mutex::default(),
            restored: watch::Sender::new(false),
            changes: watch::Sender::new(0),
            recordings: watch::Sender::new(0),
            wake_recorder: Notify::new(),
            record_error: Mutex::default(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
        });
        tokio::spawn(Arc::clone(&inner).keep_recording());
        inner
    }

    pub fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn register(&self, name: &str, job: Arc<dyn Job>) {
        self.jobs.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), job);
    }

    pub fn job(&self, name: &str) -> Option<Arc<dyn Job>> {
        self.jobs.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub fn log(&self, id: &RunId, level: LogLevel, step_key: &str, message: &str) {
        let step_key = (!step_key.is_empty()).then(|| cut(step_key));
        let line = LogLine { timestamp: now_micros(), level, message: cut(message), step_key };
        self.lock().log(id, line, &self.config);
    }

    pub fn check_size(&self, what: &'static str, value: &Value) -> Result<(), RunsError> {
        let limit_bytes = self.config.value_bytes_max;
        if value.to_string().len() > limit_bytes { Err(RunsError::TooLarge { what, limit_bytes }) } else { Ok(()) }
    }

    /// Records the run as waiting and only then lets it wait.
    pub async fn submit(self: Arc<Self>, new: NewRun) -> Result<RunId, RunsError> {
        if !*self.restored.borrow() {
            return Err(RunsError::NotReady("the runs of the log have not been read yet"));
        }
        if self.closing.is_cancelled() {
            return Err(RunsError::NotReady("the server is stopping"));
        }
        if self.job(&new.job_name).is_none() {
            return Err(RunsError::UnknownJob(new.job_name));
        }
        if new.depends_on.len() > DEPENDENCIES_MAX {
            return Err(RunsError::TooManyDependencies(DEPENDENCIES_MAX));
        }
        self.check_size("the parameters", &new.params)?;
        let number = self.lock().reserve(&new.depends_on, &self.config)?;
        let record = waiting(new, number);
        let id = record.run_id.clone();
        let body = {
            let mut alone = Table::default();
            alone.insert(record.clone(), VecDeque::new(), CancellationToken::new());
            alone.get(&id).map(|entry| entry.body(&self.config)).unwrap_or_default()
        };
        let recorded = self.record(&id, body).await;
        {
            let mut table = self.lock();
            table.unreserve();
            recorded?;
            table.insert(record, VecDeque::new(), self.closing.child_token());
            table.count(&id);
        }
        self.begin_ready();
        Ok(id)
    }

    async fn record(&self, id: &RunId, body: Value) -> Result<(), RunsError> {
        match tokio::time::timeout(self.config.record_timeout, self.store.record(id.as_str(), body)).await {
            Ok(recorded) => recorded.map_err(RunsError::Store),
            Err(_) => Err(RunsError::Store(crate::service::ServiceError::Unavailable("the log does not answer".to_owned()))),
        }
    }

    /// Begins what can begin now.
    pub fn begin_ready(self: &Arc<Self>) {
        if !self.closing.is_cancelled() && *self.restored.borrow() {
            let (begun, failed) = self.lock().begin_ready(self.config.concurrency, now_micros());
            for id in &failed {
                self.announce(id);
            }
            for id in begun {
                self.announce(&id);
                tokio::spawn(Arc::clone(self).supervise(id));
            }
        }
        self.lock().trim(&self.config);
        self.wake_recorder.notify_one();
        self.changes.send_modify(|count| *count += 1);
    }

    /// One typed event per change of status: the log line that goes with the counters of [`Table::totals`].
    fn announce(&self, id: &RunId) {
        let table = self.lock();
        let Some(entry) = table.get(id) else { return };
        let RunRecord { job_name, status, attempt, error, .. } = &entry.record;
        match error {
            Some(error) => tracing::warn!(run_id = %id, job = %job_name, %status, attempt, code = %error.code, %error, "run"),
            None => tracing::info!(run_id = %id, job = %job_name, %status, attempt, "run"),
        }
    }

    async fn supervise(self: Arc<Self>, id: RunId) {
        let Some((job, params)) = self.work_of(&id) else {
            self.conclude(&id, Err(no_such_job()));
            self.finish_settling(&id, true);
            return;
        };
        match self.attempts(&id, &job, &params).await {
            Ended::Interrupted => {
                self.log(&id, LogLevel::Warning, "", "interrupted: the server stops");
                self.lock().interrupted(&id, job.resumable());
                self.begin_ready();
            }
            Ended::Done(outcome) => {
                let settled = self.settle(&id, &job, &params).await;
                self.conclude(&id, outcome);
                if settled {
                    self.finish_settling(&id, true);
                } else {
                    self.lock().release(&id);
                    self.begin_ready();
                }
            }
        }
    }

    pub fn work_of(&self, id: &RunId) -> Option<(Arc<dyn Job>, Value)> {
        let (name, params) = {
            let table = self.lock();
            let record = &table.get(id)?.record;
            (record.job_name.clone(), record.params.clone())
        };
        Some((self.job(&name)?, params))
    }

    /// Attempt after attempt, as the run's policy allows.
    async fn attempts(self: &Arc<Self>, id: &RunId, job: &Arc<dyn Job>, params: &Value) -> Ended {
        loop {
            let Some((record, token)) = self.lock().get(id).map(|entry| (entry.record.clone(), entry.token.clone())) else {
                return Ended::Done(Err(RunError::internal("lost", "the run is not known any more")));
            };
            let outcome = self.attempt(&record, &token, job, params).await;
            let error = match outcome {
                Ok(value) => return Ended::Done(self.check_result(value)),
                Err(error) => error,
            };
            let cancelled = self.lock().get(id).is_none_or(|entry| entry.record.status.finished());
            let stopped = error.domain == RunErrorDomain::Stopped;
            if self.closing.is_cancelled() && !cancelled && (stopped || error.retryable()) {
                return Ended::Interrupted;
            }
            if cancelled || !error.retryable() || record.failures >= record.retries.retries {
                return Ended::Done(Err(error));
            }
            let failures = record.failures + 1;
            let pause = record.retries.pause(failures, rand::rng().random());
            let seconds = pause.as_secs_f64();
            let message = format!("attempt {} failed ({}): {error}; the next in {seconds:.1} s", record.attempt, error.code);
            self.log(id, LogLevel::Warning, "", &message);
            self.note_failure(id, failures);
            tokio::select! {
                () = token.cancelled() => {
                    let cancelled = self.lock().get(id).is_none_or(|entry| entry.record.status.finished());
                    return if cancelled { Ended::Done(Err(RunError::stopped())) } else { Ended::Interrupted };
                }
                () = tokio::time::sleep(pause) => self.note_attempt(id),
            }
        }
    }

    fn check_result(&self, value: Value) -> Result<Value, RunError> {
        self.check_size("the result", &value).map_err(|error| RunError::internal(error.code(), error.to_string()))?;
        Ok(value)
    }

    fn note_failure(&self, id: &RunId, failures: u32) {
        let mut table = self.lock();
        if let Some(entry) = table.get_mut(id) {
            entry.record.failures = failures;
        }
        table.touch(id);
        drop(table);
        self.wake_recorder.notify_one();
    }

    fn note_attempt(&self, id: &RunId) {
        let mut table = self.lock();
        if let Some(entry) = table.get_mut(id) {
            entry.record.attempt += 1;
        }
        table.touch(id);
        drop(table);
        self.wake_recorder.notify_one();
    }

    /// One attempt, in a task of its own: a panic ends the attempt and nothing else.
    async fn attempt(
        self: &Arc<Self>,
        record: &RunRecord,
        token: &CancellationToken,
        job: &Arc<dyn Job>,
        params: &Value,
    ) -> Result<Value, RunError> {
        let token = token.child_token();
        let ctx = self.context(record, token.clone());
        let (job, params) = (Arc::clone(job), params.clone());
        let mut work = tokio::spawn(async move { job.run(ctx, &params).await });
        let late = async {
            match record.timeout {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = &mut work => flat(done),
            () = token.cancelled() => self.wind_down(work).await,
            () = late => {
                token.cancel();
                match self.wind_down(work).await {
                    Ok(value) => Ok(value),
                    Err(error) if error.domain == RunErrorDomain::Stopped => Err(timed_out(record.timeout.unwrap_or_default())),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Work that has been told to stop gets a while to do so, then it is dropped.
    async fn wind_down(&self, mut work: JoinHandle<Result<Value, RunError>>) -> Result<Value, RunError> {
        if let Ok(done) = tokio::time::timeout(self.config.stop_grace, &mut work).await {
            return flat(done);
        }
        work.abort();
        flat(work.await)
    }

    fn context(self: &Arc<Self>, record: &RunRecord, token: CancellationToken) -> RunContext {
        RunContext { inner: Arc::clone(self), run_id: record.run_id.clone(), attempt: record.attempt, token }
    }

    /// Lets the job tidy up. False: it did not succeed, a restart will try again.
    pub async fn settle(self: &Arc<Self>, id: &RunId, job: &Arc<dyn Job>, params: &Value) -> bool {
        for attempt in 1..=SETTLE_TRIES {
            let Some(record) = self.lock().get(id).map(|entry| entry.record.clone()) else { return false };
            let ctx = self.context(&record, CancellationToken::new());
            let (job, params) = (Arc::clone(job), params.clone());
            let work = tokio::spawn(async move { job.settle(ctx, &params).await });
            let abort = work.abort_handle();
            let error = match tokio::time::timeout(self.config.settle_timeout, work).await {
                Ok(done) => match flat(done) {
                    Ok(()) => return true,
                    Err(error) => error,
                },
                Err(_) => {
                    abort.abort();
                    timed_out(self.config.settle_timeout)
                }
            };
            let message = format!("tidying up failed ({}): {error}; try {attempt} of {SETTLE_TRIES}", error.code);
            self.log(id, LogLevel::Error, "", &message);
            if attempt < SETTLE_TRIES {
                tokio::time::sleep(self.config.record_retry).await;
            }
        }
        tracing::error!(run_id = %id, "a run could not be tidied up after; the next start tries again");
        false
    }

    pub fn conclude(&self, id: &RunId, outcome: Result<Value, RunError>) {
        let status = if outcome.is_ok() { RunStatus::Success } else { RunStatus::Failure };
        let outcome = outcome.map_err(|error| RunError { message: cut(&error.message), ..error });
        let outcome = outcome.map(|result| (!result.is_null()).then_some(result));
        if self.lock().finish(id, status, outcome, now_micros()) {
            self.announce(id);
        }
    }

    /// Ends runs that still wait, because the work of another run has done theirs. One that has begun goes on and finds nothing to do.
    pub fn finish_waiting(self: &Arc<Self>, done: Vec<(RunId, String, Value)>) {
        let now = now_micros();
        let mut ended = Vec::with_capacity(done.len());
        {
            let mut table = self.lock();
            for (id, message, result) in done {
                let line = LogLine { timestamp: now, level: LogLevel::Info, message: cut(&message), step_key: None };
                if table.finish_waiting(&id, line, result, now, &self.config) {
                    ended.push(id);
                }
            }
        }
        if !ended.is_empty() {
            tracing::info!(runs = ended.len(), "runs ended with the work of another");
        }
        self.begin_ready();
    }

    pub fn finish_settling(self: &Arc<Self>, id: &RunId, worked: bool) {
        self.lock().settled(id, worked);
        self.begin_ready();
    }

    /// A run that waits or works never changes again; its work stops soon.
    pub async fn cancel(self: Arc<Self>, id: RunId) -> Result<RunRecord, RunsError> {
        let (record, version) = {
            let mut table = self.lock();
            let Some(entry) = table.get(&id) else { return Err(RunsError::NotFound(id)) };
            let (status, token) = (entry.record.status, entry.token.clone());
            if !table.finish(&id, RunStatus::Cancelled, Ok(None), now_micros()) {
                return Err(RunsError::NotCancellable { status });
            }
            if status == RunStatus::Pending {
                table.settled(&id, false);
            }
            token.cancel();
            let line = LogLine { timestamp: now_micros(), level: LogLevel::Warning, message: "cancelled".to_owned(), step_key: None };
            table.log(&id, line, &self.config);
            let version = table.touch(&id);
            (table.get(&id).map(|entry| entry.record.clone()), version)
        };
        self.announce(&id);
        self.begin_ready();
        self.wait_recorded(&id, version).await?;
        record.ok_or(RunsError::NotFound(id))
    }

    /// Waits until this change of the run, or a later one, is durable.
    pub async fn wait_recorded(&self, id: &RunId, version: u64) -> Result<(), RunsError> {
        let mut recordings = self.recordings.subscribe();
        let reached = recordings.wait_for(|_| self.lock().get(id).is_none_or(|entry| entry.recorded >= version));
        match tokio::time::timeout(self.config.record_timeout, reached).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let reason = self.record_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let reason = reason.unwrap_or_else(|| "the log does not answer".to_owned());
                Err(RunsError::Store(crate::service::ServiceError::Unavailable(reason)))
            }
        }
    }

    /// Waves of records, until the end. What the log refuses is tried again with the state that the run then has.
    async fn keep_recording(self: Arc<Self>) {
        loop {
            let wave = self.lock().take_dirty(RECORDS_AT_ONCE, &self.config);
            if wave.is_empty() {
                tokio::select! {
                    biased;
                    () = self.wake_recorder.notified() => continue,
                    () = self.closed.cancelled() => return,
                }
            }
            let store = &self.store;
            let records = wave.into_iter().map(|(id, version, body)| async move {
                let recorded = store.record(id.as_str(), body).await;
                (id, version, recorded)
            });
            let mut refused = None;
            for (id, version, recorded) in futures::future::join_all(records).await {
                let mut table = self.lock();
                match recorded {
                    Ok(()) => table.mark_recorded(&id, version),
                    Err(error) => {
                        table.mark_dirty(&id);
                        refused = Some(error.to_string());
                    }
                }
            }
            *self.record_error.lock().unwrap_or_else(PoisonError::into_inner) = refused.clone();
            self.recordings.send_modify(|count| *count += 1);
            if let Some(error) = refused {
                tracing::error!(%error, "the state of a run could not be recorded; it is tried again");
                tokio::select! {
                    () = tokio::time::sleep(self.config.record_retry) => {}
                    () = self.closed.cancelled() => return,
                }
            }
        }
    }

    /// Stops the work, lets it be recorded, and ends the recorder.
    pub async fn stop(&self) {
        self.closing.cancel();
        let rest = self.config.stop_grace + self.config.settle_timeout + Duration::from_secs(1);
        let mut changes = self.changes.subscribe();
        let idle = changes.wait_for(|_| self.lock().working() == 0);
        if tokio::time::timeout(rest, idle).await.is_err() {
            tracing::warn!("runs were still at work when the server stopped");
        }
        let mut recordings = self.recordings.subscribe();
        self.wake_recorder.notify_one();
        let recorded = recordings.wait_for(|_| self.lock().clean());
        if tokio::time::timeout(self.config.record_timeout, recorded).await.is_err() {
            tracing::error!("the last states of some runs are not recorded");
        }
        self.closed.cancel();
    }
}

fn waiting(new: NewRun, number: u64) -> RunRecord {
    RunRecord {
        run_id: RunId::random(),
        number,
        job_name: new.job_name,
        params: new.params,
        serial_key: new.serial_key,
        depends_on: new.depends_on,
        retries: new.retries,
        timeout: new.timeout,
        status: RunStatus::Pending,
        attempt: 0,
        failures: 0,
        interruptions: 0,
        created_at: now_micros(),
        start_time: None,
        end_time: None,
        error: None,
        result: None,
        progress: None,
        checkpoint: None,
        settled: false,
    }
}

pub(super) fn no_such_job() -> RunError {
    RunError::user("unknown_job", "this release has no such job")
}

/// The result of a task; a panic is an error of this program.
fn flat<T>(done: Result<Result<T, RunError>, tokio::task::JoinError>) -> Result<T, RunError> {
    let error = match done {
        Ok(outcome) => return outcome,
        Err(error) => error,
    };
    if !error.is_panic() {
        return Err(RunError::stopped());
    }
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    Err(RunError::internal("panicked", format!("the job panicked: {}", cut(text.unwrap_or("without a message")))))
}

/// At most [`LOG_MESSAGE_BYTES_MAX`] bytes of the text.
fn cut(text: &str) -> String {
    let mut end = text.len().min(LOG_MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if end < text.len() { format!("{}…", &text[..end]) } else { text.to_owned() }
}
