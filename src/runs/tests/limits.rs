//! Everything that can grow is bounded, and a log that refuses is survived.

use super::*;

#[tokio::test]
async fn nothing_is_taken_before_the_log_is_read_or_beyond_the_limits() {
    let world = World::closed(RunsConfig { queue_max: 1, value_bytes_max: 64, concurrency: 1, ..config() }, Arc::default());
    world.job("long", |_, _| std::future::pending());
    let error = world.runs.submit(named("long", None)).await.expect_err("too early");
    assert_eq!((error.code(), error.retry_after_s()), ("not_ready", Some(1)));
    world.runs.restore(Vec::<(String, Value)>::new());

    let first = world.submit("long").await;
    until("it works", || world.status(&first) == RunStatus::Started).await;
    world.submit("long").await;
    let full = world.runs.submit(named("long", None)).await.expect_err("full");
    assert!(full.code() == "run_queue_full" && full.retry_after_s().is_some(), "{full}");
    let cases = [
        ("unknown_job", named("nobody", None)),
        ("unknown_dependency", NewRun { depends_on: vec!["x".into()], ..named("long", None) }),
        ("too_many_dependencies", NewRun { depends_on: vec!["x".into(); 101], ..named("long", None) }),
        ("too_large", NewRun { params: json!("x".repeat(64)), ..named("long", None) }),
    ];
    for (code, new) in cases {
        let error = world.runs.submit(new).await.expect_err(code);
        assert_eq!((error.code(), error.retry_after_s()), (code, None), "{error}");
    }
    assert_eq!(world.runs.list(99, None).len(), 2);
}

#[tokio::test]
async fn a_result_or_checkpoint_that_is_too_large_is_an_error() {
    let world = World::new(RunsConfig { value_bytes_max: 64, ..config() });
    world.job("result", |_, _| async { Ok(json!("x".repeat(64))) });
    world.job("checkpoint", |ctx, _| async move {
        ctx.checkpoint(json!("x".repeat(64))).await?;
        Ok(Value::Null)
    });
    for job in ["result", "checkpoint"] {
        let record = world.finished(&world.submit(job).await).await;
        assert_eq!((record.status, record.error_message()), (RunStatus::Failure, Some(&*format!("the {job} is larger than 64 bytes"))));
    }
}

#[tokio::test]
async fn only_the_newest_lines_and_runs_are_kept() {
    let limits =
        RunsConfig { log_lines_max: 5, log_lines_recorded_max: 3, log_lines_finished_max: 4, finished_max: 3, concurrency: 1, ..config() };
    let world = World::new(limits);
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    world.job("chatty", move |ctx, _| {
        let gate = Arc::clone(&gate);
        async move {
            for n in 0..9 {
                ctx.log(LogLevel::Info, "talk", format!("{n} {}", "x".repeat(5_000)));
            }
            gate.acquire().await.expect("open").forget();
            Ok(Value::Null)
        }
    });
    let mut ids = Vec::new();
    for _ in 0..4 {
        let id = world.submit("chatty").await;
        until("it has talked", || world.runs.logs(&id, 99).expect("known").len() == 5).await;
        let lines = world.runs.logs(&id, 2).expect("known");
        assert!(lines[0].message.starts_with("7 ") && lines[1].message.starts_with("8 "), "the newest, oldest first");
        assert!(lines[0].message.len() < 2_100 && lines[0].message.ends_with('…'));
        go.add_permits(1);
        world.finished(&id).await;
        until("it is recorded", || world.store.status(&id).as_deref() == Some("SUCCESS")).await;
        assert_eq!(world.store.body(&id).expect("recorded")["logs"].as_array().map(Vec::len), Some(3));
        ids.push(id);
    }
    world.job("quick", |_, _| async { Ok(Value::Null) });
    world.finished(&world.submit("quick").await).await;
    until("the oldest are forgotten", || world.runs.list(99, None).len() == 3).await;
    assert_eq!(world.runs.get(&ids[0]).expect_err("forgotten").code(), "run_not_found");
    let kept: Vec<usize> = ids[2..].iter().map(|id| world.runs.logs(id, 99).expect("known").len()).collect();
    assert_eq!(kept, [1, 3], "four lines in all, the newest run's first");
}

#[tokio::test]
async fn a_finished_run_that_others_wait_for_is_not_forgotten() {
    let world = World::new(RunsConfig { finished_max: 1, ..config() });
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    world.job("gated", move |_, _| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.expect("open").forget();
            Ok(Value::Null)
        }
    });
    world.job("quick", |_, _| async { Ok(Value::Null) });
    let first = world.submit("quick").await;
    world.finished(&first).await;
    let gated = world.submit("gated").await;
    let after_both = world.submit_with(NewRun { depends_on: vec![first.clone(), gated.clone()], ..named("quick", None) }).await;
    for _ in 0..4 {
        let quick = world.submit("quick").await;
        world.finished(&quick).await;
        until("it is recorded", || world.store.status(&quick).as_deref() == Some("SUCCESS")).await;
    }
    until("others are forgotten", || world.runs.list(99, Some(RunStatus::Success)).len() <= 3).await;
    assert_eq!(world.status(&first), RunStatus::Success);
    go.add_permits(1);
    assert_eq!(world.finished(&after_both).await.status, RunStatus::Success);
}

#[tokio::test]
async fn what_an_earlier_attempt_says_is_dropped() {
    let world = World::new(config());
    let leaked: Arc<Mutex<Option<RunContext>>> = Arc::default();
    let leak = Arc::clone(&leaked);
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    world.job("leaky", move |ctx, _| {
        let (leak, gate) = (Arc::clone(&leak), Arc::clone(&gate));
        async move {
            if ctx.attempt() == 1 {
                *leak.lock().expect("no panic") = Some(ctx);
                return Err(RunError::external("net", "down"));
            }
            ctx.progress(2, 2, "rows");
            gate.acquire().await.expect("open").forget();
            Ok(Value::Null)
        }
    });
    let id = world.submit_with(NewRun { retries: soon(1), ..named("leaky", None) }).await;
    until("the second attempt works", || world.runs.get(&id).expect("known").progress.is_some()).await;
    let old = leaked.lock().expect("no panic").take().expect("the first attempt's");
    old.progress(1, 2, "rows");
    assert_eq!(old.checkpoint(json!("stale")).await, Err(RunError::stopped()));
    go.add_permits(1);
    let record = world.finished(&id).await;
    assert_eq!((record.progress.map(|progress| progress.done), record.checkpoint), (Some(2), None));
}

#[tokio::test]
async fn a_run_that_cannot_be_recorded_is_not_taken() {
    let world = World::new(config());
    world.job("good", |_, _| async { Ok(Value::Null) });
    world.store.refuses.store(true, Ordering::SeqCst);
    let error = world.runs.submit(named("good", None)).await.expect_err("refused");
    assert_eq!((error.code(), error.retry_after_s()), ("run_not_recorded", Some(5)));
    assert_eq!((world.runs.list(9, None), world.runs.load()), (vec![], (0, 0)));
}

#[tokio::test]
async fn a_log_that_refuses_for_a_while_gets_the_last_state_in_the_end() {
    let world = World::new(config());
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    world.job("gated", move |_, _| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.expect("open").forget();
            Ok(Value::Null)
        }
    });
    let id = world.submit("gated").await;
    until("the start is recorded", || world.store.status(&id).as_deref() == Some("STARTED")).await;
    assert_eq!(world.runs.health("localhost", 8000).status, "healthy");
    world.store.refuses.store(true, Ordering::SeqCst);
    go.add_permits(1);
    assert_eq!(world.finished(&id).await.status, RunStatus::Success);
    until("it is noticed", || world.runs.health("localhost", 8000).status == "unhealthy").await;
    let health = serde_json::to_value(world.runs.health("localhost", 8000)).expect("json");
    assert_eq!((&health["dagster_host"], &health["dagster_port"]), (&json!("localhost"), &json!("8000")));
    assert!(health["error"].as_str().is_some_and(|error| error.contains("disk full")), "{health}");
    world.store.refuses.store(false, Ordering::SeqCst);
    until("the end is recorded", || world.store.status(&id).as_deref() == Some("SUCCESS")).await;
    until("all is well", || world.runs.health("localhost", 8000).status == "healthy").await;
}

#[tokio::test]
async fn a_cancel_that_is_not_durable_is_not_confirmed() {
    let world = World::new(RunsConfig { record_timeout: Duration::from_millis(30), ..config() });
    world.job("long", |ctx, _| async move {
        ctx.cancelled().cancelled().await;
        Err(RunError::stopped())
    });
    let id = world.submit("long").await;
    until("the start is recorded", || world.store.status(&id).as_deref() == Some("STARTED")).await;
    world.store.refuses.store(true, Ordering::SeqCst);
    assert_eq!(world.runs.cancel(&id).await.expect_err("not durable").code(), "run_not_recorded");
    assert_eq!(world.status(&id), RunStatus::Cancelled, "it stops nevertheless");
    world.store.refuses.store(false, Ordering::SeqCst);
    until("it is recorded later", || world.store.status(&id).as_deref() == Some("CANCELLED")).await;
}

#[test]
fn views_are_assets_of_each_source() {
    let assets: Vec<Asset> = assets::assets_of(3, [true, true, true, false, true], 1_700_000_000_000).collect();
    let keys: Vec<&str> = assets.iter().map(|asset| asset.asset_key.as_str()).collect();
    assert_eq!(keys, ["3/events", "3/sessions", "3/journeys", "3/clusters", "3/minutes"]);
    assert_eq!(assets[0].last_materialization.as_deref(), Some("2023-11-14T22:13:20.000Z"));
    assert_eq!(assets[3], Asset { asset_key: "3/clusters".to_owned(), last_materialization: None, is_materialized: false });
}
