//! The scheduler against a log in memory. Nothing sleeps: tests wait for conditions, with a deadline.

mod limits;
mod random;
mod restart;
mod schedule;
mod stop;

use super::*;
use futures::future::BoxFuture;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

const DEADLINE: Duration = Duration::from_secs(20);

/// Keeps what is recorded, and can refuse.
#[derive(Default)]
struct Memory {
    last: Mutex<BTreeMap<String, Value>>,
    refuses: AtomicBool,
}

impl Memory {
    fn body(&self, id: &RunId) -> Option<Value> {
        self.last.lock().expect("no panic").get(id.as_str()).cloned()
    }

    fn all(&self) -> Vec<(String, Value)> {
        self.last.lock().expect("no panic").clone().into_iter().collect()
    }

    fn status(&self, id: &RunId) -> Option<String> {
        self.body(id).map(|body| body["status"].as_str().unwrap_or_default().to_owned())
    }
}

#[async_trait]
impl RunStore for Memory {
    async fn record(&self, run_id: &str, body: Value) -> Result<(), ServiceError> {
        tokio::task::yield_now().await;
        if self.refuses.load(Ordering::SeqCst) {
            return Err(ServiceError::Unavailable("disk full".to_owned()));
        }
        self.last.lock().expect("no panic").insert(run_id.to_owned(), body);
        Ok(())
    }
}

type Work = Box<dyn Fn(RunContext, Value) -> BoxFuture<'static, Result<Value, RunError>> + Send + Sync>;

/// A job made of a closure.
struct Scripted {
    work: Work,
    resumable: bool,
    settled: Arc<AtomicUsize>,
}

#[async_trait]
impl Job for Scripted {
    async fn run(&self, ctx: RunContext, params: &Value) -> Result<Value, RunError> {
        (self.work)(ctx, params.clone()).await
    }

    fn resumable(&self) -> bool {
        self.resumable
    }

    async fn settle(&self, _ctx: RunContext, _params: &Value) -> Result<(), RunError> {
        self.settled.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

struct World {
    runs: Runs,
    store: Arc<Memory>,
    /// How often jobs have tidied up.
    settled: Arc<AtomicUsize>,
}

impl World {
    /// Not yet restored.
    fn closed(config: RunsConfig, store: Arc<Memory>) -> Self {
        let runs = Runs::new(config, Arc::clone(&store) as Arc<dyn RunStore>);
        Self { runs, store, settled: Arc::default() }
    }

    fn new(config: RunsConfig) -> Self {
        let world = Self::closed(config, Arc::default());
        world.runs.restore(Vec::<(String, Value)>::new());
        world
    }

    fn job<F, W>(&self, name: &str, work: W)
    where
        W: Fn(RunContext, Value) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Value, RunError>> + Send + 'static,
    {
        self.add(name, false, work);
    }

    fn resumable_job<F, W>(&self, name: &str, work: W)
    where
        W: Fn(RunContext, Value) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Value, RunError>> + Send + 'static,
    {
        self.add(name, true, work);
    }

    fn add<F, W>(&self, name: &str, resumable: bool, work: W)
    where
        W: Fn(RunContext, Value) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Value, RunError>> + Send + 'static,
    {
        let work: Work = Box::new(move |ctx, params| Box::pin(work(ctx, params)));
        self.runs.register(name, Arc::new(Scripted { work, resumable, settled: Arc::clone(&self.settled) }));
    }

    async fn submit(&self, job_name: &str) -> RunId {
        self.submit_with(NewRun { job_name: job_name.to_owned(), ..NewRun::default() }).await
    }

    async fn submit_with(&self, new: NewRun) -> RunId {
        self.runs.submit(new).await.expect("accepted")
    }

    async fn finished(&self, id: &RunId) -> RunRecord {
        tokio::time::timeout(DEADLINE, self.runs.wait(id)).await.expect("in time").expect("known")
    }

    fn status(&self, id: &RunId) -> RunStatus {
        self.runs.get(id).expect("known").status
    }

    fn log_of(&self, id: &RunId) -> String {
        let lines = self.runs.logs(id, usize::MAX).expect("known");
        lines.iter().map(|line| format!("{:?} {}\n", line.level, line.message)).collect()
    }
}

/// Waits until the condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let mut often = tokio::time::interval(Duration::from_millis(2));
    let holds = async {
        while !condition() {
            often.tick().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, holds).await.is_ok(), "not in time: {what}");
}

fn config() -> RunsConfig {
    let short = Duration::from_millis(20);
    RunsConfig { record_retry: Duration::from_millis(5), stop_grace: short, ..RunsConfig::default() }
}

fn named(job_name: &str, key: Option<&str>) -> NewRun {
    NewRun { job_name: job_name.to_owned(), serial_key: key.map(str::to_owned), ..NewRun::default() }
}

fn soon(retries: u32) -> RetryPolicy {
    RetryPolicy::every(retries, Duration::from_millis(3), 0.2)
}
