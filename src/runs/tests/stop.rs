//! Cancels, timeouts and the end of the server.

use super::*;
use tokio::sync::Notify;

/// Works until it is told to stop, and then says that it has succeeded.
fn defiant(world: &World, name: &str) -> Arc<AtomicUsize> {
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&begun);
    world.resumable_job(name, move |ctx, _| {
        let begun = Arc::clone(&counted);
        async move {
            begun.fetch_add(1, Ordering::SeqCst);
            ctx.cancelled().cancelled().await;
            ctx.log(LogLevel::Info, "work", format!("{:?}", ctx.stop_reason()));
            ctx.progress(9, 9, "rows");
            match ctx.stop_reason() {
                Some(StopReason::Cancelled) => Ok(json!("all done")),
                _ => Err(RunError::stopped()),
            }
        }
    });
    begun
}

#[tokio::test]
async fn a_cancelled_run_stops_and_never_changes_again() {
    let world = World::new(config());
    let begun = defiant(&world, "defiant");
    let id = world.submit_with(named("defiant", Some("key"))).await;
    until("it works", || begun.load(Ordering::SeqCst) == 1).await;
    let cancelled = world.runs.cancel(&id).await.expect("cancelled");
    assert_eq!(cancelled.status, RunStatus::Cancelled);
    assert_eq!(world.store.status(&id).as_deref(), Some("CANCELLED"));
    until("the work has stopped", || world.runs.get(&id).expect("known").settled).await;
    let after = world.runs.get(&id).expect("known");
    assert_eq!(after, RunRecord { settled: true, ..cancelled });
    assert_eq!((after.result, after.progress, world.settled.load(Ordering::SeqCst)), (None, None, 1));
    assert!(world.log_of(&id).contains("Some(Cancelled)"), "{}", world.log_of(&id));

    let again = world.runs.cancel(&id).await.expect_err("finished");
    assert_eq!((again.code(), again.to_string().as_str()), ("run_not_cancellable", "Cannot cancel run with status CANCELLED"));
    until("that it has settled is recorded", || world.store.body(&id).is_some_and(|body| body["settled"] == true)).await;
}

#[tokio::test]
async fn only_what_waits_or_works_can_be_cancelled() {
    let world = World::new(config());
    world.job("good", |_, _| async { Ok(Value::Null) });
    world.job("bad", |_, _| async { Err(RunError::user("no", "no")) });
    for (job, status) in [("good", "SUCCESS"), ("bad", "FAILURE")] {
        let id = world.submit(job).await;
        let before = world.finished(&id).await;
        let error = world.runs.cancel(&id).await.expect_err("finished");
        assert_eq!(error.to_string(), format!("Cannot cancel run with status {status}"));
        assert_eq!(world.finished(&id).await.status, before.status);
    }
    let unknown = RunId::from("0123");
    assert_eq!(world.runs.cancel(&unknown).await.expect_err("unknown").code(), "run_not_found");
    assert_eq!(world.runs.get(&unknown).expect_err("unknown").code(), "run_not_found");
    assert_eq!(world.runs.logs(&unknown, 1).expect_err("unknown").code(), "run_not_found");
}

#[tokio::test]
async fn a_cancelled_run_that_waits_never_begins() {
    let world = World::new(RunsConfig { concurrency: 1, ..config() });
    let begun = defiant(&world, "defiant");
    let first = world.submit("defiant").await;
    until("it works", || begun.load(Ordering::SeqCst) == 1).await;
    let second = world.submit("defiant").await;
    let record = world.runs.cancel(&second).await.expect("cancelled");
    assert_eq!((record.status, record.start_time, record.settled), (RunStatus::Cancelled, None, true));
    world.runs.cancel(&first).await.expect("cancelled");
    until("the slot is free", || world.runs.load() == (0, 0)).await;
    assert_eq!((begun.load(Ordering::SeqCst), world.settled.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn a_run_between_two_attempts_can_be_cancelled() {
    let world = World::new(config());
    world.job("down", |_, _| async { Err(RunError::external("net", "no reply")) });
    let retries = RetryPolicy::every(1, Duration::from_secs(3_600), 0.0);
    let id = world.submit_with(NewRun { retries, ..named("down", None) }).await;
    until("it pauses", || world.runs.get(&id).expect("known").failures == 1).await;
    world.runs.cancel(&id).await.expect("cancelled");
    until("the slot is free", || world.runs.load() == (0, 0)).await;
    assert_eq!(world.status(&id), RunStatus::Cancelled);
}

#[tokio::test]
async fn work_that_does_not_stop_is_dropped_and_keeps_its_key_until_then() {
    let world = World::new(RunsConfig { stop_grace: Duration::from_secs(1), ..config() });
    let go = Arc::new(Notify::new());
    let stubborn = Arc::clone(&go);
    world.job("stubborn", move |_, _| {
        let go = Arc::clone(&stubborn);
        async move {
            go.notified().await;
            Ok(Value::Null)
        }
    });
    let first = world.submit_with(named("stubborn", Some("key"))).await;
    until("it works", || world.status(&first) == RunStatus::Started).await;
    let second = world.submit_with(named("stubborn", Some("key"))).await;
    world.runs.cancel(&first).await.expect("cancelled");
    assert_eq!((world.runs.load(), world.status(&second)), ((1, 1), RunStatus::Pending));
    until("it is dropped and the other begins", || world.status(&second) == RunStatus::Started).await;
    go.notify_one();
    assert_eq!(world.finished(&second).await.status, RunStatus::Success);
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_ends() {
    let world = World::new(config());
    let begun = defiant(&world, "slow");
    let timeout = Some(Duration::from_millis(10));
    let id = world.submit_with(NewRun { retries: soon(1), timeout, ..named("slow", None) }).await;
    let record = world.finished(&id).await;
    assert_eq!((record.status, record.attempt), (RunStatus::Failure, 2));
    assert_eq!(record.error.as_ref().map(|error| error.code.as_str()), Some("timed_out"));
    assert_eq!(begun.load(Ordering::SeqCst), 2);
    assert!(world.log_of(&id).contains("Some(TimedOut)"), "{}", world.log_of(&id));
}

#[tokio::test]
async fn the_end_of_the_server_leaves_runs_to_be_taken_up_again() {
    let world = World::new(RunsConfig { concurrency: 1, ..config() });
    let begun = defiant(&world, "defiant");
    let (working, waiting) = (world.submit("defiant").await, world.submit("defiant").await);
    until("it works", || begun.load(Ordering::SeqCst) == 1).await;
    tokio::time::timeout(DEADLINE, world.runs.stop()).await.expect("in time");
    assert_eq!(world.store.status(&working).as_deref(), Some("PENDING"), "it can go on");
    assert_eq!(world.store.status(&waiting).as_deref(), Some("PENDING"));
    assert_eq!((begun.load(Ordering::SeqCst), world.settled.load(Ordering::SeqCst)), (1, 0));
    let body = world.store.body(&working).expect("recorded").to_string();
    assert!(body.contains("Some(Shutdown)") && body.contains("the server stops"), "{body}");
    assert_eq!(world.runs.submit(named("defiant", None)).await.expect_err("stopped").code(), "not_ready");
}

#[tokio::test]
async fn a_run_that_cannot_go_on_stays_started_at_the_end_of_the_server() {
    let world = World::new(config());
    world.job("once", |_, _| std::future::pending());
    let id = world.submit("once").await;
    until("it works", || world.status(&id) == RunStatus::Started).await;
    tokio::time::timeout(DEADLINE, world.runs.stop()).await.expect("in time");
    assert_eq!(world.store.status(&id).as_deref(), Some("STARTED"), "the next start makes it a failure");
}

#[tokio::test]
async fn a_step_stops_at_its_next_await() {
    let world = World::new(RunsConfig { stop_grace: Duration::from_secs(3_600), ..config() });
    world.job("steps", |ctx, _| async move {
        let policy = StepPolicy { retries: RetryPolicy::NEVER, timeout: None };
        ctx.step("load", &policy, std::future::pending).await
    });
    let id = world.submit("steps").await;
    until("it works", || world.status(&id) == RunStatus::Started).await;
    world.runs.cancel(&id).await.expect("cancelled");
    until("the slot is free", || world.runs.load() == (0, 0)).await;
}
