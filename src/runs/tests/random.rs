//! Random plans of runs with keys, dependencies, failures, cancels and a restart in the middle, checked against the promises.
//!
//! It catches overlaps, forgotten wake-ups, runs that never end and states that differ between memory and log. It cannot
//! catch a wrong order among runs that may go in any order.

use super::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::HashMap;

const SLOTS: usize = 3;

/// What has been seen of the work.
#[derive(Default)]
struct Seen {
    working: Vec<(RunId, Option<String>)>,
    mistakes: Vec<String>,
}

#[derive(Clone)]
struct Plan {
    key: Option<String>,
    depends_on: Vec<usize>,
    /// Fails so many times from outside, or for good.
    failures: u32,
    bad: bool,
    pauses: u32,
    cancel: bool,
}

fn plans(rng: &mut StdRng) -> Vec<Plan> {
    (0..24)
        .map(|n| Plan {
            key: rng.random_bool(0.5).then(|| format!("key-{}", rng.random_range(0..3))),
            depends_on: (0..n).filter(|_| rng.random_bool(0.06)).collect(),
            failures: if rng.random_bool(0.2) { rng.random_range(1..3) } else { 0 },
            bad: rng.random_bool(0.1),
            pauses: rng.random_range(0..20),
            cancel: rng.random_bool(0.15),
        })
        .collect()
}

fn work(world: &World, seen: &Arc<Mutex<Seen>>) {
    let seen = Arc::clone(seen);
    world.resumable_job("work", move |ctx, params| {
        let seen = Arc::clone(&seen);
        async move {
            let key = params["key"].as_str().map(str::to_owned);
            let me = (ctx.run_id().clone(), key.clone());
            {
                let mut seen = seen.lock().expect("no panic");
                if seen.working.len() >= SLOTS {
                    seen.mistakes.push("more work than slots".to_owned());
                }
                if key.is_some() && seen.working.iter().any(|(_, other)| *other == key) {
                    seen.mistakes.push(format!("two at work with {key:?}"));
                }
                seen.working.push(me.clone());
            }
            let _gone = Gone(Arc::clone(&seen), me);
            for _ in 0..params["pauses"].as_u64().unwrap_or_default() {
                ctx.check()?;
                tokio::task::yield_now().await;
            }
            match () {
                () if params["bad"] == true => Err(RunError::user("bad", "bad")),
                () if u64::from(ctx.attempt()) <= params["failures"].as_u64().unwrap_or_default() => Err(RunError::external("net", "down")),
                () => Ok(Value::Null),
            }
        }
    });
}

struct Gone(Arc<Mutex<Seen>>, (RunId, Option<String>));

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.lock().expect("no panic").working.retain(|one| *one != self.1);
    }
}

fn check(world: &World, plans: &[Plan], ids: &[RunId]) {
    let at: HashMap<&RunId, RunRecord> = ids.iter().map(|id| (id, world.runs.get(id).expect("known"))).collect();
    for (plan, id) in plans.iter().zip(ids) {
        let run = &at[id];
        let dependencies: Vec<&RunRecord> = plan.depends_on.iter().map(|n| &at[&ids[*n]]).collect();
        let all_well = dependencies.iter().all(|other| other.status == RunStatus::Success);
        match run.status {
            RunStatus::Success => {
                assert!(all_well && !plan.bad, "{run:?}");
                assert!(dependencies.iter().all(|other| other.end_time <= run.start_time), "{run:?}");
            }
            RunStatus::Failure => assert!(plan.bad || !all_well, "{run:?}"),
            RunStatus::Cancelled => assert!(plan.cancel, "{run:?}"),
            status => panic!("{id} is still {status}"),
        }
        assert_eq!(run.interruptions, 0, "an orderly stop is none");
        if !all_well {
            assert!(run.start_time.is_none(), "it never began: {run:?}");
        }
    }
}

async fn history(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let plans = plans(&mut rng);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let limits = RunsConfig { concurrency: SLOTS, stop_grace: Duration::from_secs(5), ..config() };
    let mut world = World::new(limits.clone());
    work(&world, &seen);
    let restart_after = rng.random_range(0..48);
    let mut ids: Vec<RunId> = Vec::new();
    for (n, plan) in plans.iter().enumerate() {
        if n == restart_after {
            world.runs.stop().await;
            let store = Arc::clone(&world.store);
            let recorded = store.all();
            world = World::closed(limits.clone(), store);
            work(&world, &seen);
            world.runs.restore(recorded);
        }
        let params = json!({"key": plan.key, "failures": plan.failures, "bad": plan.bad, "pauses": plan.pauses});
        let depends_on = plan.depends_on.iter().map(|n| ids[*n].clone()).collect();
        let retries = RetryPolicy::every(9, Duration::from_millis(1), 0.5);
        let new = NewRun { params, serial_key: plan.key.clone(), depends_on, retries, ..named("work", None) };
        ids.push(world.submit_with(new).await);
        if plan.cancel {
            let victim = rng.random_range(0..=n);
            if plans[victim].cancel {
                // It may have finished before.
                let _ = world.runs.cancel(&ids[victim]).await;
            }
        }
    }
    for id in &ids {
        world.finished(id).await;
    }
    until("all has settled", || world.runs.list(99, None).iter().all(|run| run.settled)).await;
    until("no slot is taken", || world.runs.load() == (0, 0)).await;
    check(&world, &plans, &ids);
    assert_eq!(seen.lock().expect("no panic").mistakes, Vec::<String>::new());
    world.runs.stop().await;
    for id in &ids {
        let recorded: RecordedRun = serde_json::from_value(world.store.body(id).expect("recorded")).expect("a run");
        assert_eq!(recorded.record, world.runs.get(id).expect("known"), "the log has the last state");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn random_plans_keep_the_promises() {
    for seed in 0..300 {
        let done = tokio::time::timeout(2 * DEADLINE, tokio::spawn(history(seed))).await;
        assert!(matches!(done, Ok(Ok(()))), "seed {seed}: {done:?}");
    }
}
