//! The bytes of files, and which of them are written.

use super::*;

fn put(file: &str, rows: impl IntoIterator<Item = (usize, i64)>) -> Changes {
    let name = |row: usize| (1 + (row % 2) as i64, USERS[row / 2 % 4], format!("/{:06}", row / 8));
    let edits = rows.into_iter().map(|(row, count)| (file.to_owned(), name(row), Edit::Put(count))).collect();
    Changes { edits, ..Changes::default() }
}

/// 150,000 rows, more than two row groups, come to the same bytes in one commit and in many.
#[tokio::test]
async fn the_same_rows_are_the_same_bytes() {
    const FILE: &str = "day=1/data.parquet";
    const ROWS: usize = 150_000;
    let mut bytes = Vec::new();
    for step in [ROWS, 40_000, 29_999] {
        let mortal = Mortal::new();
        let mut datasets = fresh(mortal.store(), 1).await;
        let mut model = Model::new();
        let rows: Vec<usize> = (0..ROWS).map(|row| row * 77_773 % ROWS).collect();
        for (number, chunk) in rows.chunks(step).enumerate() {
            let first = put(FILE, chunk.iter().map(|row| (*row, *row as i64 % 91 + 1)));
            first.apply(&mut model);
            datasets.commit(first.commit(2 + number as u64)).await.expect("commits");
        }
        let last = put(FILE, [(5, 7)]);
        last.apply(&mut model);
        assert_eq!(datasets.commit(last.commit(100)).await.expect("commits"), 1, "one row is different");
        assert_eq!(read(&mortal.store()).await, model);
        let (name, size) = datasets.files(&VISITS).next().expect("a file");
        let content = mortal.store().get(name).await.expect("reads");
        assert_eq!(content.len() as u64, size);
        bytes.push(content);
    }
    assert!(
        bytes.windows(2).all(|pair| pair[0] == pair[1]),
        "files of {:?} bytes",
        bytes.iter().map(|bytes| bytes.len()).collect::<Vec<_>>()
    );
}

/// Only the files that a commit concerns are written; of an erased user, those that have rows of that user.
#[tokio::test]
async fn nothing_else_is_written() {
    let mortal = Mortal::new();
    let mut datasets = fresh(mortal.store(), 1).await;
    let name = |user| (1, user, "/".to_owned());
    let day = |day: u32| format!("day={day}/data.parquet");
    let edits = vec![
        (day(1), name("u0"), Edit::Put(1)),
        (day(1), name("u2"), Edit::Put(1)),
        (day(2), name("u1"), Edit::Put(1)),
        (day(3), name("u1"), Edit::Put(1)),
        (day(3), name("u2"), Edit::Put(1)),
    ];
    datasets.commit(Changes { edits, ..Changes::default() }.commit(2)).await.expect("commits");
    let files = |written: Vec<String>| written.into_iter().filter(|name| name.starts_with("visits/")).collect::<Vec<_>>();
    mortal.written();
    let late = Changes { edits: vec![(day(2), name("u3"), Edit::Add(4))], ..Changes::default() };
    assert_eq!(datasets.commit(late.commit(3)).await.expect("commits"), 1);
    assert_eq!(files(mortal.written()), ["visits/day=2/data.parquet"]);
    // Day 1 begins with u0 and ends with u2: its statistics leave room for u1, its rows do not.
    let erased = Changes { erased: vec!["u1"], ..Changes::default() };
    assert_eq!(datasets.commit(erased.commit(4)).await.expect("commits"), 2);
    assert_eq!(files(mortal.written()), ["visits/day=2/data.parquet", "visits/day=3/data.parquet"]);
    let last = Changes { edits: vec![(day(2), name("u3"), Edit::Take)], ..Changes::default() };
    datasets.commit(last.commit(5)).await.expect("commits");
    let left: Vec<String> = read(&mortal.store()).await.into_keys().collect();
    assert_eq!(left, [day(1), day(3)], "a file without rows is deleted");
    datasets.commit(Changes::default().commit(6)).await.expect("commits");
    let content = read_file(&mortal.store(), &VISITS, "visits/day=3/data.parquet").await.expect("reads");
    assert_eq!((content.notes["desireline.applied"].as_str(), content.notes["desireline.epoch"].as_str()), ("4", "1"));
    let (_, opened) = Datasets::open(mortal.store(), &TABLES, "test", 1).await.expect("opens");
    assert_eq!(opened, Opened::At(6, serde_json::json!(6)), "an empty commit records its time");
}

/// Files larger than one piece of an upload, on a real file system.
#[tokio::test]
async fn large_files_go_in_pieces() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).expect("opens");
    let mut datasets = fresh(store.clone(), 1).await;
    let random = Random(AtomicU64::new(7));
    let noise = |_| (0..40).map(|_| char::from(b'!' + random.below(90) as u8)).collect::<String>();
    let edits: Vec<_> =
        (0..300_000).map(|row| ("part-0.parquet".to_owned(), (1, USERS[row % 4], noise(row)), Edit::Put(row as i64))).collect();
    let changes = Changes { edits, ..Changes::default() };
    let mut model = Model::new();
    changes.apply(&mut model);
    datasets.commit(changes.commit(2)).await.expect("commits");
    let bytes = datasets.files(&VISITS).map(|(_, bytes)| bytes).sum::<u64>();
    assert!(bytes > 9 << 20, "{bytes} bytes are one piece");
    assert!(read(&store).await == model);
    datasets.check().await.expect("all is well");
}
