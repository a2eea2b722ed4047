//! Files that are not as they were left.

use super::*;
use bytes::Bytes;

const FILE: &str = "visits/day=1/data.parquet";

async fn with_one_file() -> (Mortal, Datasets) {
    let mortal = Mortal::new();
    let mut datasets = fresh(mortal.store(), 1).await;
    datasets.commit(one(1).commit(2)).await.expect("commits");
    (mortal, datasets)
}

fn one(count: i64) -> Changes {
    let edits = vec![("day=1/data.parquet".to_owned(), (1, "u1", "/".to_owned()), Edit::Add(count))];
    Changes { edits, ..Changes::default() }
}

#[tokio::test]
async fn a_vanished_a_cut_and_a_foreign_file_are_noticed() {
    for case in ["vanished", "cut", "foreign"] {
        let (mortal, mut datasets) = with_one_file().await;
        let store = mortal.store();
        datasets.check().await.expect("all is well");
        let content = store.get(FILE).await.expect("reads");
        match case {
            "vanished" => store.delete(FILE).await.expect("deletes"),
            "cut" => drop(store.replace(FILE, content.slice(..content.len() - 9)).await.expect("writes")),
            _ => drop(store.replace("visits/day=2/data.parquet", content).await.expect("writes")),
        }
        assert_eq!(datasets.check().await.expect_err(case).code(), "dataset_damaged", "{case}");
        if case != "foreign" {
            assert_eq!(datasets.commit(one(2).commit(3)).await.expect_err(case).code(), "dataset_damaged", "{case}");
        }
        let (mut datasets, opened) = Datasets::open(store.clone(), &TABLES, "test", 1).await.expect("opens");
        assert_eq!(opened, Opened::Fresh, "{case}");
        datasets.begin_rebuild().await.expect("begins");
        datasets.commit(one(5).commit(3)).await.expect("commits");
        datasets.finish_rebuild(3, serde_json::json!(3)).await.expect("finishes");
        datasets.check().await.expect("all is well");
        assert_eq!(read(&store).await.len(), 1, "{case}: only the files of the rebuild are left");
    }
}

#[tokio::test]
async fn bytes_that_are_no_parquet_are_noticed_when_they_are_needed() {
    let (mortal, mut datasets) = with_one_file().await;
    let store = mortal.store();
    let bytes = store.info(FILE).await.expect("is there").bytes as usize;
    store.replace(FILE, Bytes::from(vec![b'x'; bytes])).await.expect("writes");
    assert_eq!(datasets.commit(one(2).commit(3)).await.expect_err("is damaged").code(), "dataset_damaged");
}

#[tokio::test]
async fn another_definition_a_lost_state_and_a_newer_format_are_not_gone_on_with() {
    let (mortal, datasets) = with_one_file().await;
    drop(datasets);
    let store = mortal.store();
    let (_, opened) = Datasets::open(store.clone(), &TABLES, "other rules", 1).await.expect("opens");
    assert_eq!(opened, Opened::Fresh);
    let (_, opened) = Datasets::open(store.clone(), &TABLES, "test", 1).await.expect("opens");
    assert!(matches!(opened, Opened::At(2, _)), "looking does no harm");
    store.replace(state::STATE, Bytes::from_static(b"{\"format\":99}")).await.expect("writes");
    let Err(error) = Datasets::open(store.clone(), &TABLES, "test", 1).await else { panic!("a newer format was taken") };
    assert_eq!(error.code(), "dataset_version");
    store.replace(state::STATE, Bytes::from_static(b"garbage")).await.expect("writes");
    let (_, opened) = Datasets::open(store.clone(), &TABLES, "test", 1).await.expect("opens");
    assert_eq!(opened, Opened::Fresh);
}

#[tokio::test]
async fn a_value_of_another_kind_is_refused() {
    let (_, mut datasets) = with_one_file().await;
    let mut commit = one(1).commit(3);
    commit.resolve = Arc::new(|_, key, _, _| {
        let mut row = key.0.clone();
        row.extend([Value::Text("five".into()), Value::Null, Value::List(Vec::new())]);
        Ok(Some(row))
    });
    let error = datasets.commit(commit).await.expect_err("a text is no count");
    assert!(error.code() == "dataset_encode" && error.to_string().contains("`count`"), "{error}");
}
