//! What the log brings back.

use super::*;

/// A world on the log of another, whose work is cut off as if by a kill: nothing more of it is recorded.
async fn after_kill(before: World, jobs: impl FnOnce(&World)) -> (World, Restored) {
    let recorded = before.store.all();
    before.store.refuses.store(true, Ordering::SeqCst);
    let world = World::closed(config(), Arc::default());
    world.store.last.lock().expect("no panic").extend(recorded.clone());
    jobs(&world);
    let found = world.runs.restore(recorded);
    (world, found)
}

/// Makes a note and then works for ever.
async fn noted(ctx: RunContext) -> Result<Value, RunError> {
    ctx.checkpoint(json!({"rows": 50})).await?;
    ctx.log(LogLevel::Info, "work", "halfway");
    std::future::pending().await
}

#[tokio::test]
async fn a_resumable_run_goes_on_from_its_checkpoint_and_a_waiting_one_waits_again() {
    let before = World::new(RunsConfig { concurrency: 1, ..config() });
    before.resumable_job("long", |ctx, _| noted(ctx));
    let working = before.submit_with(NewRun { params: json!({"n": 1}), ..named("long", Some("k")) }).await;
    let waiting = before.submit_with(NewRun { params: json!({"n": 2}), ..named("long", Some("k")) }).await;
    until("it is noted", || before.store.body(&working).is_some_and(|body| body["checkpoint"]["rows"] == 50)).await;

    let (world, found) = after_kill(before, |world| {
        world.resumable_job("long", |ctx, params| async move { Ok(json!([ctx.attempt(), ctx.last_checkpoint(), params["n"]])) });
    })
    .await;
    assert_eq!(found, Restored { waiting: 1, resumed: 1, ..Restored::default() });
    let record = world.finished(&working).await;
    assert_eq!((record.status, &record.result), (RunStatus::Success, &Some(json!([2, {"rows": 50}, 1]))));
    assert_eq!((record.interruptions, record.failures), (1, 0));
    assert!(world.log_of(&working).contains("goes on after a restart"), "{}", world.log_of(&working));
    let other = world.finished(&waiting).await;
    assert_eq!(other.result, Some(json!([1, null, 2])));
    assert!(other.start_time >= record.end_time, "the order of submission is kept");
    let newer = world.submit("long").await;
    assert_eq!(world.runs.list(1, None)[0].run_id, newer, "numbers go on");
    until("the end is recorded", || world.store.status(&working).as_deref() == Some("SUCCESS")).await;
}

#[tokio::test]
async fn a_run_that_cannot_go_on_is_a_failure() {
    let before = World::new(config());
    before.job("once", |ctx, _| noted(ctx));
    let id = before.submit("once").await;
    until("it works", || before.store.body(&id).is_some_and(|body| body["checkpoint"]["rows"] == 50)).await;
    let (world, found) = after_kill(before, |world| world.job("once", |_, _| async { Ok(Value::Null) })).await;
    assert_eq!(found, Restored { interrupted: 1, ..Restored::default() });
    let record = world.finished(&id).await;
    assert_eq!((record.status, record.error_message()), (RunStatus::Failure, Some("interrupted by a restart")));
    until("it is tidied up and recorded", || world.store.body(&id).is_some_and(|body| body["settled"] == true)).await;
    assert_eq!(world.store.status(&id).as_deref(), Some("FAILURE"));
    assert_eq!((world.settled.load(Ordering::SeqCst), world.runs.load()), (1, (0, 0)));
}

#[tokio::test]
async fn a_run_that_keeps_killing_the_server_fails_in_the_end() {
    let before = World::new(config());
    before.resumable_job("long", |ctx, _| noted(ctx));
    let id = before.submit("long").await;
    until("it works", || before.store.status(&id).as_deref() == Some("STARTED")).await;
    let mut world = before;
    for restart in 1..=config().interruptions_max + 1 {
        let found;
        (world, found) = after_kill(world, |world| world.resumable_job("long", |ctx, _| noted(ctx))).await;
        let gives_up = restart > config().interruptions_max;
        assert_eq!((found.resumed, found.interrupted), if gives_up { (0, 1) } else { (1, 0) }, "restart {restart}");
        let status = if gives_up { "FAILURE" } else { "STARTED" };
        let recorded = || world.store.body(&id).is_some_and(|body| body["status"] == status && body["interruptions"] == restart);
        until("it is recorded", recorded).await;
    }
}

#[tokio::test]
async fn finished_runs_are_as_they_were_and_what_was_not_tidied_up_is() {
    let before = World::new(RunsConfig { stop_grace: Duration::from_secs(3_600), ..config() });
    before.job("good", |ctx, _| async move {
        ctx.log(LogLevel::Info, "work", "hello");
        Ok(json!({"count": 7}))
    });
    before.job("stubborn", |_, _| std::future::pending());
    let good = before.submit("good").await;
    let stubborn = before.submit("stubborn").await;
    let was = before.finished(&good).await;
    until("it is recorded", || before.store.status(&good).as_deref() == Some("SUCCESS")).await;
    until("it works", || before.status(&stubborn) == RunStatus::Started).await;
    before.runs.cancel(&stubborn).await.expect("cancelled");
    assert_eq!(before.store.body(&stubborn).expect("recorded")["settled"], false);

    let (world, found) = after_kill(before, |world| world.job("stubborn", |_, _| std::future::pending())).await;
    assert_eq!(found, Restored { finished: 2, ..Restored::default() });
    assert_eq!(world.runs.get(&good).expect("known"), RunRecord { settled: true, ..was });
    assert_eq!(world.runs.logs(&good, 10).expect("known")[0].message, "hello");
    until("it is tidied up", || world.runs.get(&stubborn).expect("known").settled).await;
    assert_eq!((world.status(&stubborn), world.settled.load(Ordering::SeqCst)), (RunStatus::Cancelled, 1));
}

#[tokio::test]
async fn unreadable_records_and_unknown_jobs_harm_nothing() {
    let before = World::new(RunsConfig { concurrency: 1, ..config() });
    before.job("gone", |_, _| std::future::pending());
    let (working, waiting) = (before.submit("gone").await, before.submit("gone").await);
    until("it works", || before.store.status(&working).as_deref() == Some("STARTED")).await;
    for (id, body) in [("x", json!({"format": 1})), ("y", json!(null)), ("z", json!("text"))] {
        before.store.last.lock().expect("no panic").insert(id.to_owned(), body);
    }
    let mut newer = before.store.body(&waiting).expect("recorded");
    newer["format"] = json!(2);
    before.store.last.lock().expect("no panic").insert("w".to_owned(), newer);
    let (world, found) = after_kill(before, |_| {}).await;
    assert_eq!(found, Restored { interrupted: 1, waiting: 1, unreadable: 4, ..Restored::default() });
    let record = world.finished(&waiting).await;
    assert_eq!(record.error_message(), Some("this release has no such job"));
    assert_eq!(world.finished(&working).await.status, RunStatus::Failure);
    until("all is settled", || world.runs.list(9, None).iter().all(|run| run.settled)).await;
}
