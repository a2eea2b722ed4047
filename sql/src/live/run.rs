//! Running a statement: plan, read, plan again, stream; on a thread of its own, within limits.

use super::classes::{self, Finding};
use super::keys::Keys;
use super::plan::{self, Planned, Rows};
use super::rewrite::{Rewritten, rewrite};
use super::{Limits, LiveError, LogicalTime, TableRequest, Tables};
use crate::SqlError;
use crate::statement::Checked;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use futures::stream::poll_fn;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Poll, ready};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Batches that wait for whoever reads the stream.
const WAITING_MAX: usize = 2;
/// Trees of expressions are walked by recursion.
const STACK_BYTES: usize = 64 << 20;

/// Batches, and nothing when there are no more: a stream that ends without that was broken off.
type Batches = mpsc::Sender<Result<Option<RecordBatch>, LiveError>>;

/// Answers a statement: the logical time at which the answer is true, its columns, and its rows. Errors of the stream are
/// [`DataFusionError::External`] with a [`LiveError`] in it; see [`LiveError::of`].
pub async fn query(
    tables: &Arc<dyn Tables>,
    statement: &Checked,
    keys: Option<ArrayRef>,
    limits: &Limits,
) -> Result<(LogicalTime, SchemaRef, SendableRecordBatchStream), SqlError> {
    let (to, mut batches) = mpsc::channel(WAITING_MAX);
    let (begun, begin) = oneshot::channel();
    let (tables, statement, limits) = (tables.clone(), statement.clone(), limits.clone());
    on_a_thread(move || async move {
        let deadline = Instant::now() + limits.deadline;
        let late = LiveError::Deadline { millis: u64::try_from(limits.deadline.as_millis()).unwrap_or(u64::MAX) };
        let work = async {
            let (as_of, schema, stream) = begin_query(&tables, &statement, keys, &limits).await?;
            if begun.send((as_of, schema)).is_err() {
                return Ok(());
            }
            pass_on(stream, &to, &limits).await
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout_at(deadline, work) => ended.unwrap_or(Err(late)),
            // Nobody wants the answer any more.
            () = to.closed() => Ok(()),
        };
        if let Err(error) = ended {
            drop(to.send(Err(error)).await);
        }
    })?;
    let (as_of, schema) = match begin.await {
        Ok(begin) => begin,
        // It did not begin: the reason is the only thing that was passed on.
        Err(_) => return Err(batches.recv().await.and_then(Result::err).unwrap_or_else(gave_up).into()),
    };
    let mut is_over = false;
    let stream = poll_fn(move |context| {
        if is_over {
            return Poll::Ready(None);
        }
        let next = ready!(batches.poll_recv(context)).unwrap_or_else(|| Err(gave_up()));
        is_over = !matches!(next, Ok(Some(_)));
        Poll::Ready(next.map_err(external).transpose())
    });
    Ok((as_of, schema.clone(), Box::pin(RecordBatchStreamAdapter::new(schema, stream))))
}

impl LiveError {
    /// What an error of a stream was.
    pub fn of(error: impl Borrow<DataFusionError>) -> Self {
        match error.borrow().find_root() {
            DataFusionError::External(inner) if inner.is::<Self>() => {
                inner.downcast_ref::<Self>().cloned().unwrap_or_else(|| Self::Failed(inner.to_string()))
            }
            root => Self::Failed(root.message().into_owned()),
        }
    }
}

fn external(error: LiveError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn gave_up() -> LiveError {
    LiveError::Failed("the engine gave up".to_owned())
}

/// Carries work out on a thread of its own, with a stack for deep trees; a panic ends the thread alone.
pub(super) fn on_a_thread<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) -> Result<(), LiveError> {
    let runtime = Handle::current();
    let thread = std::thread::Builder::new().name("live-sql".to_owned()).stack_size(STACK_BYTES);
    let started = thread.spawn(move || runtime.block_on(work()));
    started.map(drop).map_err(|error| LiveError::Unavailable { detail: format!("no thread for the query: {error}"), retryable: true })
}

async fn begin_query(
    tables: &Arc<dyn Tables>,
    statement: &Checked,
    keys: Option<ArrayRef>,
    limits: &Limits,
) -> Result<(LogicalTime, SchemaRef, SendableRecordBatchStream), LiveError> {
    if statement.has_index_values() && keys.is_none() {
        return Err(LiveError::NoKeys);
    }
    let keys = keys.map(Keys::of).transpose().map_err(|error| plan::refused(&error))?.map(Arc::new);
    let rewritten = rewrite(statement)?;
    let rows = read(tables, &rewritten, keys.clone(), limits).await?;
    let as_of = rows.as_of;
    let Planned { state, plan, .. } = plan::plan(tables, &rewritten, keys, limits, Some(rows)).await?;
    let physical = state.create_physical_plan(&plan).await.and_then(interruptible).map_err(|error| failed(error, limits))?;
    let stream = execute_stream(physical, state.task_ctx()).map_err(|error| failed(error, limits))?;
    Ok((as_of, stream.schema(), stream))
}

/// Joins make many rows of few: between their batches, too, it is looked whether the deadline has come.
fn interruptible(plan: Arc<dyn ExecutionPlan>) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|node| {
        if node.name().contains("Join") {
            return Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>));
        }
        Ok(Transformed::no(node))
    })?;
    Ok(wrapped.data)
}

/// Reads the tables of a statement, restricted to the keys where the statement is.
async fn read(tables: &Arc<dyn Tables>, statement: &Rewritten, keys: Option<Arc<Keys>>, limits: &Limits) -> Result<Rows, LiveError> {
    let planned = plan::plan(tables, statement, keys.clone(), limits, None).await?;
    let optimised = planned.state.optimize(&planned.plan).map_err(|error| plan::refused(&error))?;
    let Finding { scans, .. } = classes::find(&optimised, &planned, tables.as_ref(), keys.is_some());
    let request = |(table, by_key): (&String, &bool)| TableRequest {
        table: table.clone(),
        keys: keys.as_ref().filter(|_| *by_key).map(|keys| keys.values.clone()),
        rows_max: limits.rows_read_max,
    };
    let requests: Vec<TableRequest> = scans.iter().map(request).collect();
    let (as_of, found) = tables.read(&requests).await.map_err(|error| match error {
        SqlError::Live(error) => error,
        error => LiveError::Unavailable { detail: error.to_string(), retryable: false },
    })?;
    let read: usize = found.iter().flatten().map(RecordBatch::num_rows).sum();
    if read > limits.rows_read_max {
        return Err(LiveError::TooManyRowsRead { most: limits.rows_read_max });
    }
    Ok(Rows { as_of, tables: requests.into_iter().map(|request| request.table).zip(found).collect::<HashMap<_, _>>() })
}

async fn pass_on(mut stream: SendableRecordBatchStream, to: &Batches, limits: &Limits) -> Result<(), LiveError> {
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|error| failed(error, limits))?;
        rows += batch.num_rows();
        if rows > limits.rows_max {
            return Err(LiveError::TooManyRows { most: limits.rows_max });
        }
        if batch.num_rows() > 0 && to.send(Ok(Some(batch))).await.is_err() {
            return Ok(());
        }
    }
    drop(to.send(Ok(None)).await);
    Ok(())
}

/// What went wrong while rows were worked on.
fn failed(error: DataFusionError, limits: &Limits) -> LiveError {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(detail) => LiveError::Memory { bytes: limits.memory_bytes_max, detail: detail.clone() },
        DataFusionError::Plan(_) | DataFusionError::NotImplemented(_) | DataFusionError::SchemaError(..) => plan::refused(&error),
        _ => LiveError::of(&error),
    }
}
