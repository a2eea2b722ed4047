//! A process that may die at any step of its writing, and the one after it.

use super::*;

const HISTORIES: u64 = 60;
const COMMITS: u64 = 12;
const REBUILDS: u64 = 16;

/// Opens with a process that has all the time in the world, and compares what is there with the model of the time at which it stands.
async fn reopened(mortal: &Mortal, models: &BTreeMap<LogicalTime, Model>, epoch: u64, context: &str) -> (Datasets, LogicalTime) {
    let (datasets, opened) = Datasets::open(mortal.living(i64::MAX, false).store(), &TABLES, "test", epoch).await.expect("opens");
    let Opened::At(time, notes) = opened else { panic!("{context}: nothing is left") };
    assert_eq!(notes, serde_json::json!(time), "{context}");
    assert_eq!(read(&mortal.store()).await, models[&time], "{context}: the files at {time}");
    let hidden = mortal.store().list(state::HIDDEN, None).await.expect("lists");
    assert_eq!(hidden.len(), 1, "{context}: only the state is left of {hidden:?}");
    (datasets, time)
}

/// After a crash at any step, before or behind its effect, the files are those of the time before or of the time after, and a retry
/// with more changes ends right, also where changes add.
#[tokio::test]
async fn a_commit_happens_once_or_not_at_all() {
    let (mut crashes, mut before, mut after) = (0, 0, 0);
    for seed in 0..HISTORIES {
        let random = Random(AtomicU64::new(seed));
        let mortal = Mortal::new();
        drop(fresh(mortal.store(), 1).await);
        let (mut models, mut time, mut epoch) = (BTreeMap::from([(1, Model::new())]), 1, 1);
        for number in 0..COMMITS {
            let context = format!("seed {seed}, commit {number}");
            let changes = random_changes(&random);
            let mut model = models[&time].clone();
            changes.apply(&mut model);
            models.insert(time + 1, model);
            epoch += random.below(2);
            let steps = if random.below(3) == 0 { i64::MAX } else { random.below(14) as i64 };
            let process = mortal.living(steps, random.below(2) == 0);
            let committed = match Datasets::open(process.store(), &TABLES, "test", epoch).await {
                Ok((mut datasets, opened)) => {
                    assert_eq!(opened, Opened::At(time, serde_json::json!(time)), "{context}");
                    datasets.commit(changes.commit(time + 1)).await.map(drop)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = &committed {
                assert!(error.is_retryable(), "{context}: {error}");
                crashes += 1;
            }
            let (mut datasets, now) = reopened(&mortal, &models, epoch, &context).await;
            assert!(now == time + 1 || committed.is_err(), "{context}: a commit is forgotten");
            if now == time {
                before += 1;
                datasets.commit(changes.commit(time + 1)).await.expect("commits");
            } else if committed.is_err() {
                after += 1;
            }
            time += 1;
            assert_eq!(read(&mortal.store()).await, models[&time], "{context}");
            datasets.check().await.expect("all is well");
        }
    }
    assert!(crashes > 150 && before > 50 && after > 50, "{crashes} crashes: {before} before the commit, {after} after it");
}

/// A rebuild that dies leaves the old files to readers, and is started over.
#[tokio::test]
async fn a_rebuild_replaces_everything_at_once() {
    for seed in 0..REBUILDS {
        let random = Random(AtomicU64::new(seed));
        let mortal = Mortal::new();
        let mut datasets = fresh(mortal.store(), 1).await;
        let mut old = Model::new();
        for time in 2..6 {
            let changes = random_changes(&random);
            changes.apply(&mut old);
            datasets.commit(changes.commit(time)).await.expect("commits");
        }
        let rebuilt: Vec<Changes> = (0..3).map(|_| random_changes(&random)).collect();
        let mut new = Model::new();
        rebuilt.iter().for_each(|changes| changes.apply(&mut new));
        for steps in 0.. {
            let process = mortal.living(steps, seed % 2 == 0);
            let done = rebuild(process.store(), &rebuilt).await;
            let (_, opened) = Datasets::open(mortal.store(), &TABLES, "test", 3).await.expect("opens");
            let seen = read(&mortal.store()).await;
            let context = format!("seed {seed}, {steps} steps");
            match opened {
                Opened::Fresh => assert!(done.is_err() && seen == old, "{context}: readers see a rebuild that is not finished"),
                Opened::At(9, _) => {
                    assert_eq!(seen, new, "{context}");
                    break;
                }
                other => assert!(done.is_err() && seen == old, "{context}: {other:?}"),
            }
        }
    }
}

async fn rebuild(store: Store, changes: &[Changes]) -> Result<(), DatasetError> {
    let (mut datasets, _) = Datasets::open(store, &TABLES, "test", 3).await?;
    datasets.begin_rebuild().await?;
    for (time, changes) in changes.iter().enumerate() {
        datasets.commit(changes.commit(time as LogicalTime + 6)).await?;
    }
    datasets.finish_rebuild(9, serde_json::json!(9)).await
}

/// Two servers at once: whoever has the smaller epoch changes nothing that a reader can see.
#[tokio::test]
async fn an_older_writer_is_fenced() {
    let mortal = Mortal::new();
    let mut old = fresh(mortal.store(), 1).await;
    let put = |count| Changes {
        edits: vec![("day=1/data.parquet".to_owned(), (1, "u1", "/".to_owned()), Edit::Put(count))],
        ..Changes::default()
    };
    old.commit(put(1).commit(2)).await.expect("commits");
    let (mut new, opened) = Datasets::open(mortal.store(), &TABLES, "test", 2).await.expect("opens");
    assert_eq!(opened, Opened::At(2, serde_json::json!(2)));
    let refused = old.commit(put(7).commit(3)).await.expect_err("there is a newer writer");
    assert!(matches!(refused, DatasetError::Fenced { own: 1, newer: 2 }), "{refused}");
    assert_eq!(old.check().await.expect_err("there is a newer writer").code(), "dataset_fenced");
    assert!(old.begin_rebuild().await.is_err_and(|error| error.code() == "dataset_fenced"));
    new.commit(put(3).commit(3)).await.expect("commits");
    assert_eq!(read(&mortal.store()).await["day=1/data.parquet"][&(1, "u1", "/".to_owned())], 3);
    let Err(refused) = Datasets::open(mortal.store(), &TABLES, "test", 1).await else { panic!("an older epoch was let in") };
    assert!(matches!(refused, DatasetError::Fenced { own: 1, newer: 2 }), "{refused}");
}
