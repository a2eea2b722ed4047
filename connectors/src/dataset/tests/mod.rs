//! Datasets against plain maps: crashes at every step, fences, damage, and the bytes themselves.

mod content;
mod crashes;
mod damage;

use super::*;
use crate::store::StoreLimits;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt};
use object_store::{PutMultipartOptions, PutOptions, PutPayload, PutResult};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Counters of a user's visits to a page on a day.
pub static VISITS: Table = Table {
    name: "visits",
    columns: &[
        Column::new("source_id", Kind::Int),
        Column::new("user_id", Kind::Text),
        Column::new("page", Kind::Text),
        Column::new("count", Kind::Int),
        Column::optional("note", Kind::Text),
        Column::new("tags", Kind::List(&Kind::Struct(&[Column::new("tag", Kind::Text), Column::new("at", Kind::Time)]))),
    ],
    key: 3,
};

pub static TABLES: [&Table; 1] = [&VISITS];

/// (source, user, page).
pub type Name = (i64, &'static str, String);

#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    Put(i64),
    Take,
    Add(i64),
}

/// What stands in each file: (file → key → count).
pub type Model = BTreeMap<String, BTreeMap<Name, i64>>;

pub fn key((source, user, page): &Name) -> Key {
    Key(vec![Value::Int(*source), Value::Text((*user).into()), Value::Text(page.as_str().into())])
}

pub fn row(name: &Name, count: i64) -> Row {
    let mut row = key(name).0;
    row.push(Value::Int(count));
    row.push(if count % 2 == 0 { Value::Null } else { Value::Text("odd".into()) });
    row.push(Value::List((0..count.rem_euclid(3)).map(|n| Value::List(vec![Value::Text("t".into()), Value::Time(n)])).collect()));
    row
}

pub fn resolve(erased: BTreeSet<Key>) -> Resolve<Edit> {
    Arc::new(move |_, key, known, edit| {
        let known = known.filter(|_| !erased.contains(&Key(key.0[..2].to_vec())));
        let count = |row: &Row| if let Value::Int(count) = row[3] { count } else { 0 };
        let name = |key: &Key| match key.0.as_slice() {
            [Value::Int(source), Value::Text(user), Value::Text(page)] => {
                (*source, USERS[user[1..].parse::<usize>().expect("a user")], page.to_string())
            }
            other => panic!("a key {other:?}"),
        };
        Ok(match edit {
            None => known,
            Some(Edit::Put(count)) => Some(row(&name(key), *count)),
            Some(Edit::Take) => None,
            Some(Edit::Add(more)) => Some(row(&name(key), known.as_ref().map_or(0, count) + more)),
        })
    })
}

pub const USERS: [&str; 4] = ["u0", "u1", "u2", "u3"];

/// Some changes: (file, row, edit), and the users of source 1 whose rows go first.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub erased: Vec<&'static str>,
    pub edits: Vec<(String, Name, Edit)>,
}

impl Changes {
    pub fn apply(&self, model: &mut Model) {
        for rows in model.values_mut() {
            rows.retain(|(source, user, _), _| *source != 1 || !self.erased.contains(user));
        }
        for (file, name, edit) in &self.edits {
            let rows = model.entry(file.clone()).or_default();
            match edit {
                Edit::Put(count) => drop(rows.insert(name.clone(), *count)),
                Edit::Take => drop(rows.remove(name)),
                Edit::Add(more) => *rows.entry(name.clone()).or_default() += more,
            }
        }
        model.retain(|_, rows| !rows.is_empty());
    }

    pub fn commit(&self, time: LogicalTime) -> Commit<Edit> {
        let mut files: BTreeMap<String, BTreeMap<Key, Edit>> = BTreeMap::new();
        for (file, name, edit) in &self.edits {
            files.entry(file.clone()).or_default().insert(key(name), edit.clone());
        }
        let erased: BTreeSet<Key> = self.erased.iter().map(|user| Key(vec![Value::Int(1), Value::Text((*user).into())])).collect();
        let touched = if erased.is_empty() { Vec::new() } else { vec![Touched { table: &VISITS, prefixes: erased.clone() }] };
        let files = files.into_iter().map(|(file, edits)| FileEdits { table: &VISITS, file, edits }).collect();
        Commit { time, notes: serde_json::json!(time), files, touched, resolve: resolve(erased) }
    }
}

/// The files as readers see them.
pub async fn read(store: &Store) -> Model {
    let mut model = Model::new();
    for object in store.list("visits", None).await.expect("lists") {
        let content = read_file(store, &VISITS, &object.name).await.expect("reads");
        let mut rows = BTreeMap::new();
        let mut keys = Vec::new();
        for found in content.rows {
            let [Value::Int(source), Value::Text(user), Value::Text(page), Value::Int(count), ..] = found.as_slice() else {
                panic!("{found:?}")
            };
            let user = USERS.into_iter().find(|known| known == user).expect("a known user");
            let name = (*source, user, page.to_string());
            assert_eq!(found, row(&name, *count));
            keys.push(key(&name));
            assert!(rows.insert(name, *count).is_none(), "a row twice");
        }
        assert!(keys.is_sorted(), "{} is not sorted", object.name);
        model.insert(object.name.trim_start_matches("visits/").to_owned(), rows);
    }
    model
}

/// A store that dies: `left` more writing steps work, then the next one fails before or after its effect, and then nothing works.
#[derive(Clone, Debug)]
pub struct Mortal {
    objects: Arc<InMemory>,
    left: Arc<AtomicI64>,
    after_effect: bool,
    written: Arc<Mutex<Vec<String>>>,
}

impl std::fmt::Display for Mortal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mortal")
    }
}

fn dead() -> object_store::Error {
    object_store::Error::Generic { store: "mortal", source: "no answer".into() }
}

impl Mortal {
    pub fn new() -> Self {
        let left = Arc::new(AtomicI64::new(i64::MAX));
        Self { objects: Arc::new(InMemory::new()), left, after_effect: false, written: Arc::default() }
    }

    /// The same objects, for a process that lives for so many steps.
    pub fn living(&self, steps: i64, after_effect: bool) -> Self {
        Self { left: Arc::new(AtomicI64::new(steps)), after_effect, ..self.clone() }
    }

    pub fn store(&self) -> Store {
        let limits = StoreLimits { attempts_max: 1, backoff: Duration::ZERO, ..StoreLimits::default() };
        Store::from_objects(Arc::new(self.clone()), limits, true)
    }

    /// What was written since the last call.
    pub fn written(&self) -> Vec<String> {
        std::mem::take(&mut self.written.lock().expect("no panic"))
    }

    async fn step<T>(&self, path: &Path, effect: impl Future<Output = object_store::Result<T>>) -> object_store::Result<T> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            1.. => {
                let done = effect.await;
                self.written.lock().expect("no panic").push(path.to_string());
                done
            }
            0 if self.after_effect => {
                let _ = effect.await;
                Err(dead())
            }
            _ => Err(dead()),
        }
    }

    fn is_dead(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }
}

#[async_trait::async_trait]
impl ObjectStore for Mortal {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.step(path, self.objects.put_opts(path, payload, options)).await
    }
    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.step(path, self.objects.put_multipart_opts(path, options)).await
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        if self.is_dead() { Err(dead()) } else { self.objects.get_opts(path, options).await }
    }
    fn delete_stream(&self, paths: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        let mortal = self.clone();
        let delete = move |path: object_store::Result<Path>| {
            let mortal = mortal.clone();
            async move {
                let path = path?;
                mortal.step(&path, mortal.objects.delete(&path)).await?;
                Ok(path)
            }
        };
        paths.then(delete).boxed()
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        if self.is_dead() { futures::stream::once(async { Err(dead()) }.boxed()).boxed() } else { self.objects.list(prefix) }
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.step(to, self.objects.copy_opts(from, to, options)).await
    }
}

/// splitmix64.
pub struct Random(pub AtomicU64);

impl Random {
    pub fn below(&self, n: u64) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

pub fn random_changes(random: &Random) -> Changes {
    let mut changes = Changes::default();
    if random.below(5) == 0 {
        changes.erased.push(USERS[random.below(4) as usize]);
    }
    let mut seen = BTreeSet::new();
    for _ in 0..random.below(12) {
        let file = format!("day={}/data.parquet", random.below(4));
        let name = (1 + random.below(2) as i64, USERS[random.below(4) as usize], format!("/{}", random.below(3)));
        let edit = match random.below(4) {
            0 => Edit::Put(random.below(100) as i64),
            1 => Edit::Take,
            _ => Edit::Add(1 + random.below(9) as i64),
        };
        if seen.insert((file.clone(), name.clone())) {
            changes.edits.push((file, name, edit));
        }
    }
    changes
}

/// An open set of datasets that stands at a first, empty time.
pub async fn fresh(store: Store, epoch: u64) -> Datasets {
    let (mut datasets, opened) = Datasets::open(store, &TABLES, "test", epoch).await.expect("opens");
    assert_eq!(opened, Opened::Fresh);
    datasets.begin_rebuild().await.expect("begins");
    datasets.finish_rebuild(1, serde_json::json!(1)).await.expect("finishes");
    datasets
}
