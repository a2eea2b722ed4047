//! Who works when, and what happens when work fails.

use super::*;

/// A job that says when it begins and goes on when it is let.
fn gated(world: &World, name: &str) -> (Arc<Semaphore>, Arc<Mutex<Vec<u64>>>, Arc<AtomicUsize>) {
    let (gate, begun, working) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let parts = (Arc::clone(&gate), Arc::clone(&begun), Arc::clone(&working));
    world.job(name, move |_, params| {
        let (gate, begun, working) = (Arc::clone(&parts.0), Arc::clone(&parts.1), Arc::clone(&parts.2));
        async move {
            begun.lock().expect("no panic").push(params.as_u64().unwrap_or_default());
            working.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.expect("open").forget();
            working.fetch_sub(1, Ordering::SeqCst);
            Ok(json!({"number": params}))
        }
    });
    (gate, begun, working)
}

#[tokio::test]
async fn no_more_work_at_once_than_there_are_slots() {
    let world = World::new(RunsConfig { concurrency: 2, ..config() });
    let (gate, begun, working) = gated(&world, "gated");
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(world.submit_with(NewRun { params: json!(n), ..named("gated", None) }).await);
    }
    until("two work", || working.load(Ordering::SeqCst) == 2).await;
    assert_eq!(world.runs.load(), (3, 2));
    assert_eq!(world.runs.list(10, Some(RunStatus::Started)).len(), 2);
    for left in (0..5).rev() {
        gate.add_permits(1);
        until("the next one begins", || working.load(Ordering::SeqCst) == left.min(2)).await;
    }
    for (n, id) in ids.iter().enumerate() {
        let record = world.finished(id).await;
        assert_eq!((record.status, record.result, record.attempt), (RunStatus::Success, Some(json!({"number": n})), 1));
        assert!(record.start_time.is_some() && record.end_time >= record.start_time);
    }
    assert_eq!(*begun.lock().expect("no panic"), [0, 1, 2, 3, 4]);
    assert_eq!(world.runs.load(), (0, 0));
    let totals = world.runs.totals();
    assert!(totals.contains(&("gated".to_owned(), RunStatus::Success, 5)), "{totals:?}");
    assert!(totals.contains(&("gated".to_owned(), RunStatus::Pending, 5)), "{totals:?}");
}

#[tokio::test]
async fn runs_with_one_key_go_one_after_another_and_others_pass_by() {
    let world = World::new(RunsConfig { concurrency: 4, ..config() });
    let (gate, begun, working) = gated(&world, "gated");
    let mut ids = Vec::new();
    for (n, key) in [(0, "a"), (1, "a"), (2, "a"), (3, "b")] {
        ids.push(world.submit_with(NewRun { params: json!(n), ..named("gated", Some(key)) }).await);
    }
    until("one of each key works", || working.load(Ordering::SeqCst) == 2).await;
    assert_eq!((world.status(&ids[1]), world.status(&ids[3])), (RunStatus::Pending, RunStatus::Started));
    gate.add_permits(4);
    for id in &ids {
        assert_eq!(world.finished(id).await.status, RunStatus::Success);
    }
    assert_eq!(*begun.lock().expect("no panic"), [0, 3, 1, 2]);
}

#[tokio::test]
async fn a_run_waits_for_those_it_depends_on() {
    let world = World::new(config());
    let (gate, begun, _) = gated(&world, "gated");
    let first = world.submit_with(NewRun { params: json!(1), ..named("gated", None) }).await;
    let second = world.submit_with(NewRun { params: json!(2), depends_on: vec![first.clone()], ..named("gated", None) }).await;
    until("the first works", || begun.lock().expect("no panic").len() == 1).await;
    assert_eq!(world.status(&second), RunStatus::Pending);
    gate.add_permits(2);
    let (first, second) = (world.finished(&first).await, world.finished(&second).await);
    assert_eq!(second.status, RunStatus::Success);
    assert!(second.start_time >= first.end_time);
}

#[tokio::test]
async fn a_failure_fails_all_that_depend_on_it() {
    let world = World::new(config());
    world.job("bad", |_, _| async { Err(RunError::user("no", "it cannot be")) });
    let bad = world.submit("bad").await;
    let after = world.submit_with(NewRun { depends_on: vec![bad.clone()], ..named("bad", None) }).await;
    let after_that = world.submit_with(NewRun { depends_on: vec![after.clone()], ..named("bad", None) }).await;
    for (id, cause) in [(&after, &bad), (&after_that, &after)] {
        let record = world.finished(id).await;
        assert_eq!((record.status, record.attempt, record.settled), (RunStatus::Failure, 0, true));
        let message = record.error_message().expect("an error").to_owned();
        assert!(message.contains(cause.as_str()) && message.ends_with("ended as FAILURE"), "{message}");
    }
}

#[tokio::test]
async fn a_cancelled_run_fails_what_depends_on_it() {
    let world = World::new(RunsConfig { concurrency: 1, ..config() });
    let (gate, begun, _) = gated(&world, "gated");
    let busy = world.submit("gated").await;
    until("the slot is taken", || !begun.lock().expect("no panic").is_empty()).await;
    let waiting = world.submit("gated").await;
    let after = world.submit_with(NewRun { depends_on: vec![waiting.clone()], ..named("gated", None) }).await;
    world.runs.cancel(&waiting).await.expect("cancelled");
    let record = world.finished(&after).await;
    assert!(record.error_message().expect("an error").ends_with("ended as CANCELLED"), "{record:?}");
    gate.add_permits(1);
    assert_eq!(world.finished(&busy).await.status, RunStatus::Success);
}

/// Fails so many times, then succeeds with the number of its attempt.
fn failing(world: &World, name: &str, times: u32, error: fn() -> RunError) {
    world.job(name, move |ctx, _| async move { if ctx.attempt() <= times { Err(error()) } else { Ok(json!(ctx.attempt())) } });
}

#[tokio::test]
async fn an_error_from_outside_is_tried_again_and_its_reason_logged() {
    let world = World::new(config());
    failing(&world, "flaky", 2, || RunError::external("net", "the cable is out"));
    let id = world.submit_with(NewRun { retries: soon(3), ..named("flaky", None) }).await;
    let record = world.finished(&id).await;
    assert_eq!((record.status, record.attempt, record.failures), (RunStatus::Success, 3, 2));
    assert_eq!((record.result, record.error), (Some(json!(3)), None));
    let log = world.log_of(&id);
    assert!(log.contains("Warning attempt 1 failed (net): the cable is out; the next in"), "{log}");
    assert!(log.contains("attempt 2 failed"), "{log}");
    assert_eq!(world.settled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn retries_end_and_other_errors_are_not_tried_again() {
    let world = World::new(config());
    failing(&world, "down", 99, || RunError::external("net", "the cable is out"));
    failing(&world, "wrong", 99, || RunError::user("no", "no such file"));
    failing(&world, "broken", 99, || RunError::internal("bug", "a bug"));
    world.job("panics", |_, _| async { panic!("seven is not {}", 8) });
    for (job, attempts, message, domain) in [
        ("down", 3, "the cable is out", RunErrorDomain::External),
        ("wrong", 1, "no such file", RunErrorDomain::User),
        ("broken", 1, "a bug", RunErrorDomain::Internal),
        ("panics", 1, "the job panicked: seven is not 8", RunErrorDomain::Internal),
    ] {
        let id = world.submit_with(NewRun { retries: soon(2), ..named(job, None) }).await;
        let record = world.finished(&id).await;
        assert_eq!((record.status, record.attempt), (RunStatus::Failure, attempts), "{job}");
        assert_eq!((record.error_message(), record.error.as_ref().map(|e| e.domain)), (Some(message), Some(domain)));
        assert!(world.log_of(&id).contains(&format!("Error FAILURE: {message}")), "{}", world.log_of(&id));
    }
}

#[tokio::test]
async fn a_step_is_tried_again_by_itself() {
    let world = World::new(config());
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    world.job("steps", move |ctx, _| {
        let tries = Arc::clone(&counted);
        async move {
            let policy = StepPolicy { retries: soon(3), timeout: Some(Duration::from_millis(20)) };
            let work = || async {
                match tries.fetch_add(1, Ordering::SeqCst) {
                    0 => Err(RunError::external("net", "no reply")),
                    1 => std::future::pending().await,
                    n => Ok(json!(n)),
                }
            };
            ctx.step("load", &policy, work).await
        }
    });
    let id = world.submit("steps").await;
    let record = world.finished(&id).await;
    assert_eq!((record.status, record.attempt, record.result), (RunStatus::Success, 1, Some(json!(2))));
    let lines = world.runs.logs(&id, 100).expect("known");
    assert!(lines.iter().all(|line| line.step_key.as_deref() == Some("load")), "{lines:?}");
    assert!(lines[0].message.starts_with("failed (net): no reply; tries left: 3, the next in"), "{lines:?}");
    assert!(lines[1].message.starts_with("failed (timed_out)"), "{lines:?}");
}

#[tokio::test]
async fn the_newest_come_first() {
    let world = World::new(config());
    world.job("good", |_, _| async { Ok(Value::Null) });
    world.job("bad", |_, _| async { Err(RunError::user("no", "no")) });
    let mut ids = Vec::new();
    for job in ["good", "bad", "good"] {
        ids.push(world.submit(job).await);
        world.finished(&ids[ids.len() - 1]).await;
    }
    let listed = |limit, status| world.runs.list(limit, status).into_iter().map(|run| run.run_id).collect::<Vec<_>>();
    assert_eq!(listed(10, None), [ids[2].clone(), ids[1].clone(), ids[0].clone()]);
    assert_eq!(listed(1, None), [ids[2].clone()]);
    assert_eq!(listed(10, Some(RunStatus::Failure)), [ids[1].clone()]);
    assert_eq!(listed(10, Some(RunStatus::Cancelled)), []);
}

#[tokio::test]
async fn a_later_run_with_the_same_key_does_not_pass_one_that_waits_for_others() {
    let world = World::new(RunsConfig { concurrency: 4, ..config() });
    let (gate, begun, _) = gated(&world, "gated");
    world.job("quick", |_, _| async { Ok(Value::Null) });
    let first = world.submit("gated").await;
    let second = world.submit_with(NewRun { depends_on: vec![first], ..named("quick", Some("key")) }).await;
    let third = world.submit_with(named("quick", Some("key"))).await;
    until("the first works", || begun.lock().expect("no panic").len() == 1).await;
    let other = world.submit_with(named("quick", Some("other key"))).await;
    world.finished(&other).await;
    assert_eq!(world.status(&third), RunStatus::Pending);
    gate.add_permits(1);
    let (second, third) = (world.finished(&second).await, world.finished(&third).await);
    assert!(third.start_time >= second.end_time);
}

#[tokio::test]
async fn a_run_that_waits_can_be_done_by_another() {
    let world = World::new(RunsConfig { concurrency: 1, ..config() });
    let (gate, begun, working) = gated(&world, "gated");
    let first = world.submit_with(NewRun { params: json!(1), ..named("gated", None) }).await;
    let second = world.submit_with(NewRun { params: json!(2), ..named("gated", None) }).await;
    until("the first works", || working.load(Ordering::SeqCst) == 1).await;
    let done = |id: &RunId| vec![(id.clone(), "done by another".to_owned(), json!({ "rows": 2 }))];
    world.runs.finish_waiting(done(&second));
    let record = world.finished(&second).await;
    assert_eq!((record.status, record.result, record.attempt), (RunStatus::Success, Some(json!({ "rows": 2 })), 1));
    assert!(record.start_time.is_some() && record.end_time >= record.start_time);
    assert_eq!(world.runs.logs(&second, 10).expect("known")[0].message, "done by another");
    until("that is recorded", || world.store.status(&second).as_deref() == Some("SUCCESS")).await;
    // One that works goes its own way.
    world.runs.finish_waiting(done(&first));
    assert_eq!(world.status(&first), RunStatus::Started);
    gate.add_permits(2);
    assert_eq!(world.finished(&first).await.result, Some(json!({ "number": 1 })));
    assert_eq!(*begun.lock().expect("no panic"), [1], "the second never worked");
}
