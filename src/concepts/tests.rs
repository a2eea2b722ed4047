//! The catalog over a log in memory: what a restart finds, keys that are right, wrong, lost and new, and what goes with a concept.

use super::record::*;
use super::vault::KeySource;
use super::*;
use crate::config::values::Secret;
use crate::runs::{Job, NewRun, RunContext, RunError, RunStatus, RunStore, RunsConfig};
use crate::service::{Document, ServiceError};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

/// A log in memory; refuses everything while it is broken.
#[derive(Default)]
struct Log {
    kept: Mutex<BTreeMap<(EcoString, EcoString), Json>>,
    is_broken: AtomicBool,
}

#[async_trait]
impl Documents for Log {
    async fn put(&self, documents: Vec<Document>) -> Result<(), ServiceError> {
        if self.is_broken.load(Ordering::SeqCst) {
            return Err(ServiceError::Unavailable("told to".to_owned()));
        }
        let mut kept = self.kept.lock().expect("no test panics with it");
        documents.into_iter().for_each(|document| drop(kept.insert((document.kind, document.key), document.body)));
        Ok(())
    }
}

impl Log {
    fn of(&self, kind: &str) -> Vec<(EcoString, Json)> {
        let kept = self.kept.lock().expect("no test panics with it");
        let of_kind = kept.iter().filter(|((of, _), body)| of == kind && !body.is_null());
        of_kind.map(|((_, key), body)| (key.clone(), body.clone())).collect()
    }

    fn text(&self) -> String {
        format!("{:?}", self.kept.lock().expect("no test panics with it"))
    }
}

struct Unrecorded;

#[async_trait]
impl RunStore for Unrecorded {
    async fn record(&self, _: &str, _: Json) -> Result<(), ServiceError> {
        Ok(())
    }
}

/// Concepts with these keys, which have read the log.
fn concepts(log: &Arc<Log>, keys: KeySource) -> Concepts {
    let store = Store::open(&std::env::temp_dir().display().to_string(), &BTreeMap::new()).expect("a folder");
    with_store(log, keys, store)
}

fn with_store(log: &Arc<Log>, keys: KeySource, store: Store) -> Concepts {
    let runs = Runs::new(RunsConfig::default(), Arc::new(Unrecorded));
    let concepts = Concepts::new(ConceptsConfig { keys, ..ConceptsConfig::default() }, store, runs, Arc::clone(log) as Arc<dyn Documents>);
    concepts.begin(|kind| log.of(kind));
    let none: [(&str, Json); 0] = [];
    concepts.runs().restore(none);
    concepts
}

fn key(digit: char) -> KeySource {
    KeySource::Given(Secret(digit.to_string().repeat(64)))
}

fn file(path: &Path) -> KeySource {
    KeySource::File(path.to_owned())
}

const PASSWORD: &str = "correct horse";

fn connection(name: &str) -> NewConnection {
    let [connection_type, host, database, user] = ["mysql", "h", "d", "u"].map(str::to_owned);
    NewConnection { name: name.to_owned(), connection_type, host, port: 3306, database, user, password: Secret(PASSWORD.to_owned()) }
}

fn sql(text: &str) -> Sql {
    Sql { sql_query: text.to_owned(), query_template_params: None, partition_type: None, partition_config: None }
}

fn open(concepts: &Concepts, id: Id) -> Result<String, ConceptError> {
    let connection = concepts.connection(id)?;
    concepts.password(&connection).map(|password| password.0)
}

#[tokio::test]
async fn a_restart_finds_everything_as_it_was() {
    let log = Arc::new(Log::default());
    let before = concepts(&log, key('a'));
    before.create_connection(connection("db")).await.expect("made");
    before.create_concept(NewConcept { name: "c".into(), description: Some("d".into()) }).await.expect("made");
    before.create_value(1, NewValue { name: "V".into(), description: None, display_order: Some(3) }).await.expect("made");
    let mut query = sql("SELECT {{ a }}");
    query.query_template_params = serde_json::from_str(r#"{"a": [1, {"b": null}]}"#).expect("an object");
    query.partition_type = Some(PartitionType::IdRange);
    before.create_index(1, NewIndex { name: "i".into(), conn_id: 1, sql: query }).await.expect("made");
    let feature = NewFeature {
        name: "f".into(),
        index_id: 1,
        description: None,
        sql: sql("SELECT 1"),
        index_column: Some("a".into()),
        columns: Some(vec!["x".into()]),
        level: Some(-1),
    };
    before.create_feature(1, feature).await.expect("made");
    before.create_concept(NewConcept { name: "gone".into(), description: None }).await.expect("made");
    before.delete_concept(2).await.expect("gone");

    let after = concepts(&log, key('a'));
    let all = |concepts: &Concepts| {
        let page = (0, 100);
        format!(
            "{:?} {:?} {:?} {:?} {:?}",
            concepts.connections(page.0, page.1).expect("read"),
            concepts.concepts(page.0, page.1).expect("read"),
            concepts.values(1).expect("read"),
            concepts.indexes(1, page.0, page.1).expect("read"),
            concepts.features(1, page.0, page.1).expect("read"),
        )
    };
    assert_eq!(all(&before), all(&after));
    assert_eq!(open(&after, 1).expect("the key is the same"), PASSWORD);
    let next = after.create_concept(NewConcept { name: "next".into(), description: None }).await.expect("made");
    assert_eq!(next.c_id, 3, "the number of a removed concept is not given again");
    assert!(!log.text().contains(PASSWORD), "{}", log.text());
}

#[tokio::test]
async fn nothing_is_answered_before_the_log_was_read() {
    let store = Store::open(&std::env::temp_dir().display().to_string(), &BTreeMap::new()).expect("a folder");
    let runs = Runs::new(RunsConfig::default(), Arc::new(Unrecorded));
    let early = Concepts::new(ConceptsConfig::default(), store, runs, Arc::new(Log::default()));
    assert_eq!(early.concepts(0, 1).expect_err("too early").code(), "not_ready");
    assert_eq!(early.create_connection(connection("db")).await.expect_err("too early").code(), "not_ready");
}

#[tokio::test]
async fn with_a_wrong_key_everything_works_but_the_connections_of_the_other() {
    let log = Arc::new(Log::default());
    let right = concepts(&log, key('a'));
    right.create_connection(connection("db")).await.expect("made");
    right.create_concept(NewConcept { name: "c".into(), description: None }).await.expect("made");

    let wrong = concepts(&log, key('b'));
    assert_eq!(open(&wrong, 1).expect_err("another key").code(), "encryption_key_wrong");
    let refused = wrong.create_connection(connection("other")).await.expect_err("another key");
    assert!(refused.code() == "encryption_key_wrong" && refused.to_string().contains("ENCRYPTION_KEY"), "{refused}");
    assert_eq!(wrong.rotate_key().await.expect_err("nothing may be lost").code(), "encryption_key_wrong");
    wrong.create_value(1, NewValue { name: "V".into(), description: None, display_order: None }).await.expect("it needs no key");
    let renamed = ConnectionChange { name: Some("renamed".into()), ..ConnectionChange::default() };
    wrong.change_connection(1, renamed).await.expect("it needs no key");
    assert_eq!(open(&concepts(&log, key('a')), 1).expect("nothing was lost"), PASSWORD);

    let again = ConnectionChange { password: Some(Secret("new".into())), ..ConnectionChange::default() };
    wrong.change_connection(1, again).await.expect("the old one is given up");
    assert_eq!(open(&wrong, 1).expect("its own key"), "new");
    wrong.create_connection(connection("other")).await.expect("all is well again");

    let none = concepts(&log, KeySource::None);
    let refused = none.create_connection(connection("third")).await.expect_err("no key");
    assert!(refused.code() == "encryption_key_missing" && refused.to_string().contains("ENCRYPTION_KEY"), "{refused}");
}

#[tokio::test]
async fn a_key_file_is_made_when_it_is_first_needed_and_a_lost_one_is_missed() {
    let (log, folder) = (Arc::new(Log::default()), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("concepts.key");
    let first = concepts(&log, file(&path));
    first.create_concept(NewConcept { name: "c".into(), description: None }).await.expect("made");
    assert!(!path.exists(), "nothing needs it yet");
    let (a, b) = tokio::join!(first.create_connection(connection("a")), first.create_connection(connection("b")));
    assert!(a.is_ok() && b.is_ok() && path.exists());
    assert_eq!((open(&first, 1).expect("kept"), open(&first, 2).expect("kept")), (PASSWORD.to_owned(), PASSWORD.to_owned()));

    let away = folder.path().join("elsewhere");
    std::fs::copy(&path, &away).expect("kept");
    std::fs::remove_file(&path).expect("gone");
    let lost = concepts(&log, file(&path));
    let refused = lost.create_connection(connection("c")).await.expect_err("lost");
    assert!(refused.to_string().contains("concepts.key") && !path.exists(), "{refused}");
    std::fs::copy(&away, &path).expect("there again");
    assert_eq!(open(&lost, 1).expect("it is found without a restart"), PASSWORD);
}

#[tokio::test]
async fn a_rotation_encrypts_everything_anew_and_can_be_broken_off() {
    let (log, folder) = (Arc::new(Log::default()), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("concepts.key");
    let keys = || std::fs::read_to_string(&path).expect("readable").lines().count();
    let before = concepts(&log, file(&path));
    for name in ["a", "b", "c"] {
        before.create_connection(connection(name)).await.expect("made");
    }
    let old = std::fs::read_to_string(&path).expect("readable");
    let sealed = log.of("database_connection");

    log.is_broken.store(true, Ordering::SeqCst);
    before.rotate_key().await.expect_err("the log refuses");
    assert_eq!((keys(), log.of("database_connection")), (2, sealed.clone()), "the old key is still there, as the log needs it");
    log.is_broken.store(false, Ordering::SeqCst);
    let restarted = concepts(&log, file(&path));
    assert_eq!(open(&restarted, 2).expect("nothing was lost"), PASSWORD);
    let rotated = restarted.rotate_key().await.expect("rotated");
    assert_eq!((rotated.passwords, keys()), (3, 1));
    let after = log.of("database_connection");
    assert!(after.iter().zip(&sealed).all(|(new, old)| new.1["password"] != old.1["password"] && new.1["name"] == old.1["name"]));
    assert!(after.iter().all(|(_, body)| body["password"].as_str().is_some_and(|text| text.contains(rotated.fingerprint.as_str()))));
    let with_new = concepts(&log, file(&path));
    assert_eq!(open(&with_new, 3).expect("the new key"), PASSWORD);
    std::fs::write(&path, old).expect("written");
    assert_eq!(open(&concepts(&log, file(&path)), 3).expect_err("the old key is of no use").code(), "encryption_key_wrong");
}

#[tokio::test]
async fn given_keys_rotate_to_the_first_of_them() {
    let log = Arc::new(Log::default());
    concepts(&log, key('a')).create_connection(connection("a")).await.expect("made");
    let both = concepts(&log, KeySource::Given(Secret(format!("{},{}", "b".repeat(64), "a".repeat(64)))));
    assert_eq!(open(&both, 1).expect("the second key"), PASSWORD);
    assert_eq!(both.rotate_key().await.expect("rotated").passwords, 1);
    assert_eq!(both.rotate_key().await.expect("nothing to do").passwords, 0);
    assert_eq!(open(&concepts(&log, key('b')), 1).expect("the first key alone"), PASSWORD);
}

struct Endless;

#[async_trait]
impl Job for Endless {
    async fn run(&self, _: RunContext, _: &Json) -> Result<Json, RunError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn the_runs_of_a_removed_concept_are_cancelled_and_no_others() {
    let (log, folder) = (Arc::new(Log::default()), tempfile::tempdir().expect("a folder"));
    let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).expect("a folder");
    let concepts = with_store(&log, key('a'), store.clone());
    concepts.runs().register("endless", Arc::new(Endless));
    for name in ["c", "d"] {
        concepts.create_concept(NewConcept { name: name.into(), description: None }).await.expect("made");
    }
    for c_id in [1, 2] {
        let index = NewIndex { name: "i".into(), conn_id: 0, sql: sql("SELECT mac_address FROM user_location_trajectory") };
        concepts.create_index(c_id, index).await.expect("made");
    }
    let submit = async |serial_key: Option<String>| {
        let run = NewRun { job_name: "endless".into(), params: Json::Null, serial_key, ..NewRun::default() };
        concepts.runs().submit(run).await.expect("submitted")
    };
    let (of_index, of_other) = (submit(folder_of(1)).await, submit(folder_of(2)).await);
    let of_job = submit(None).await;
    store.replace("classifier_results/job_1/models.bin", "m".into()).await.expect("written");
    let run_id = of_job.to_string();
    let draft = move |draft: &mut Draft| {
        draft.put(SnorkelJob {
            job_id: 1,
            c_id: 1,
            index_id: 1,
            rule_ids: vec![],
            lf_ids: vec![],
            config: SnorkelConfig { epochs: 1, lr: 0.1, sample_size: None, class_balance: None, seed: None, l2: None },
            output_type: OutputType::Softmax,
            dagster_run_id: Some(run_id),
            status: JobStatus::Running,
            result_path: None,
            error_message: None,
            results: None,
            created_at: 1,
            completed_at: None,
        });
        draft.put(ClassifierJob {
            job_id: 1,
            c_id: 1,
            snorkel_job_id: 1,
            feature_ids: vec![],
            config: Json::Null,
            dagster_run_id: None,
            status: JobStatus::Completed,
            result_path: None,
            error_message: None,
            results: None,
            created_at: 1,
            completed_at: None,
        });
        Ok(())
    };
    concepts.book().expect("begun").change(1, draft).await.expect("entered");
    let in_use = concepts.delete_index(1, 1).await.expect_err("a label model is made of it");
    assert_eq!((in_use.code(), in_use.to_string().as_str()), ("in_use", "Index 'i' is in use by snorkel job 1"));
    concepts.delete_concept(1).await.expect("gone");
    for run in [&of_index, &of_job] {
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), concepts.runs().wait(run)).await;
        assert_eq!(ended.expect("in time").expect("known").status, RunStatus::Cancelled);
    }
    assert!(!concepts.runs().get(&of_other).expect("known").status.finished());
    let shelf = concepts.book().expect("begun").read();
    assert_eq!((shelf.count::<SnorkelJob>(), shelf.count::<ClassifierJob>(), shelf.count::<Index>()), (0, 0, 1));
    let begun = std::time::Instant::now();
    while !store.list("classifier_results", None).await.expect("a list").is_empty() {
        assert!(begun.elapsed().as_secs() < 20, "the objects of the job stay");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn folder_of(index_id: Id) -> Option<String> {
    folder(Kind::Index, index_id)
}

#[tokio::test]
async fn there_is_room_for_so_many_and_no_more() {
    let log = Arc::new(Log::default());
    let concepts = concepts(&log, key('a'));
    concepts.create_concept(NewConcept { name: "c".into(), description: None }).await.expect("made");
    let draft = |draft: &mut Draft| {
        for _ in 1..limits::OF_CONCEPT_MAX {
            let cv_id = draft.next_id::<Value>();
            draft.put(Value { cv_id, c_id: 1, name: format!("V{cv_id}"), description: None, display_order: None, created_at: 1 });
        }
        Ok(())
    };
    concepts.book().expect("begun").change(1, draft).await.expect("entered");
    let value = |name: &str| NewValue { name: name.to_owned(), description: None, display_order: None };
    concepts.create_value(1, value("last")).await.expect("there is room for one");
    let refused = concepts.create_value(1, value("too many")).await.expect_err("full");
    assert_eq!(refused.to_string(), "there may be at most 1000 records of the kind concept value in a concept");
    concepts.delete_value(1, 1).await.expect("gone");
    concepts.create_value(1, value("in its place")).await.expect("there is room again");
}
