//! Datasets: tables of Parquet on an object store, corrected in place and always true at one time.
//!
//! A [`Table`] is a folder of files with the same columns. Rows are told apart by their key columns, lie in the order of the key within a
//! file, and which file a key belongs to is the owner's choice (a day, a hash). [`Datasets`] brings all files from one time to a later
//! one together, by [`Datasets::commit`].
//!
//! # What it promises
//! - *Exactly once.* New versions of all files of a commit are written aside under hidden names. Then one replacement of the state object
//!   `_desireline/state.json` makes the commit true: it names the time, and the moves that are to follow. Then files are moved into
//!   their places, each whole. After a crash before the replacement nothing has happened; after a crash behind it [`Datasets::open`]
//!   makes the moves that are missing. So a commit is never applied twice, also where it adds to what is there.
//! - *Fenced.* The state names the epoch of its writer and is replaced only while it is the object that the writer has read (remotely by
//!   `If-Match`). A writer of an older epoch gets [`DatasetError::Fenced`], and nothing that it wrote aside is ever seen.
//! - *Deterministic.* The same rows give the same bytes but for the footer's notes. Row groups have 65,536 rows.
//! - *Bounded.* A row group of the old version, one of the new, and 8 MiB on their way to the store are held per file, of 4 files at a
//!   time; and the edits of the commit itself.
//! - *Watched.* The state knows every file and its size. A file that is missing, of another size or unreadable is an error that says so
//!   ([`DatasetError::Damaged`]): the datasets are to be built again.
//!
//! Readers see a file's old version or its new one. Between the first move of a commit and its last, milliseconds locally, they may see
//! new versions of some files beside old ones of others.
//!
//! # Format
//! `<table>/<file>` with zstd, min and max of every column, sorted by the key. The footer's notes: `desireline.table`,
//! `desireline.definition`, `desireline.applied` (the logical time that this version is true at or after), `desireline.epoch`. Hidden
//! files lie flat in `_desireline/staged` and `_desireline/rebuild`; programs that read folders pass over names that begin with `_`.
//!
//! # Recovery
//! A rebuild writes beside the old files; they go in the one commit that ends it. A crash in the middle of a rebuild starts it over.
//!
//! # Known limitations
//! - A commit rewrites each file that it touches: a row of a day costs that day. The owner gathers changes before it commits.
//! - Remotely a move is a copy and a delete, at most 5 GiB per file.
//! - Locally the state is compared before it is replaced and not in one step: the server's lock on its data folder keeps a second one out.
//! - A writer that has lost its claim may still finish a move that it had begun. The bytes are those that its successor moved there.

mod columns;
mod error;
mod files;
mod merge;
mod state;
#[cfg(test)]
mod tests;
mod values;

pub use error::DatasetError;
pub use files::{Content, read_file};
pub use merge::Resolve;
pub use values::{Column, Key, Kind, Row, Table, Value};

use crate::store::{Store, StoreError};
use desireline_records::LogicalTime;
use files::{DatasetFile, Encoder};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use merge::Merge;
use state::{HIDDEN, Held, Moves, REBUILD, STAGED, State};
use std::collections::{BTreeMap, BTreeSet};

/// Files that are read and written together.
const FILES_AT_ONCE: usize = 4;
/// Files that are looked into together.
const LOOKS_AT_ONCE: usize = 8;

/// What happens to one file: what becomes of single rows.
pub struct FileEdits<E> {
    pub table: &'static Table,
    /// Its name below the table's folder.
    pub file: String,
    pub edits: BTreeMap<Key, E>,
}

/// Rows that are looked at in every file of a table: those that begin with one of some prefixes, all equally long.
pub struct Touched {
    pub table: &'static Table,
    pub prefixes: BTreeSet<Key>,
}

/// Everything of one commit.
pub struct Commit<E> {
    pub time: LogicalTime,
    pub notes: serde_json::Value,
    pub files: Vec<FileEdits<E>>,
    pub touched: Vec<Touched>,
    pub resolve: Resolve<E>,
}

/// Where datasets stand when they are opened.
#[derive(Clone, Debug, PartialEq)]
pub enum Opened {
    /// Everything up to this time, with the notes of that commit.
    At(LogicalTime, serde_json::Value),
    /// Nothing that can be gone on with.
    Fresh,
}

/// The datasets of one folder or prefix. One writer at a time.
pub struct Datasets {
    store: Store,
    tables: Vec<&'static Table>,
    definition: String,
    held: Held,
    /// The files of the rebuild under way: where they lie, and how large they are.
    rebuild: Option<BTreeMap<String, (String, u64)>>,
}

impl Datasets {
    /// Claims the folder for a writer of this epoch, and finishes what an earlier one has begun.
    pub async fn open(store: Store, tables: &[&'static Table], salt: &str, epoch: u64) -> Result<(Self, Opened), DatasetError> {
        let definition = definition(tables, salt);
        let held = Held::claim(&store, &definition, epoch).await?;
        let datasets = Self { store, tables: tables.to_vec(), definition, held, rebuild: None };
        let state = &datasets.held.state;
        let (true, false, Some(applied)) = (state.definition == datasets.definition, state.rebuilding, state.applied) else {
            return Ok((datasets, Opened::Fresh));
        };
        datasets.make_moves(true).await?;
        datasets.clear().await?;
        let opened = match datasets.verify_files().await {
            Ok(()) => Opened::At(applied, state.notes.clone()),
            Err(DatasetError::Damaged { object, detail }) => {
                tracing::warn!(object, detail, "a dataset is not as it was left; it is to be built again");
                Opened::Fresh
            }
            Err(error) => return Err(error),
        };
        Ok((datasets, opened))
    }

    /// From here on commits make a new set of files beside the old one.
    pub async fn begin_rebuild(&mut self) -> Result<(), DatasetError> {
        self.rebuild = None;
        let state = State { rebuilding: true, rebuilds: self.held.state.rebuilds + 1, ..self.held.state.clone() };
        self.held.replace(&self.store, state).await?;
        self.clear().await?;
        self.rebuild = Some(BTreeMap::new());
        Ok(())
    }

    /// The files of the rebuild take the place of the old ones.
    pub async fn finish_rebuild(&mut self, time: LogicalTime, notes: serde_json::Value) -> Result<(), DatasetError> {
        let Some(rebuilt) = self.rebuild.take() else {
            return Err(DatasetError::Damaged { object: REBUILD.to_owned(), detail: "no rebuild has begun".to_owned() });
        };
        let old = self.list_files().await?;
        let delete = old.into_keys().filter(|name| !rebuilt.contains_key(name)).collect();
        let moves = Moves { put: rebuilt.iter().map(|(name, (hidden, _))| (hidden.clone(), name.clone())).collect(), delete };
        let files = rebuilt.into_iter().map(|(name, (_, bytes))| (name, bytes)).collect();
        let (definition, applied) = (self.definition.clone(), Some(time));
        let state = State { definition, applied, rebuilding: false, notes, moves, files, ..self.held.state.clone() };
        self.held.replace(&self.store, state).await?;
        self.make_moves(false).await
    }

    /// Brings all files to `commit.time`, or none. Gives how many rows are different.
    pub async fn commit<E: Send + 'static>(&mut self, commit: Commit<E>) -> Result<u64, DatasetError> {
        let Commit { time, notes, files, touched, resolve } = commit;
        let stamp = format!("{}-{time}", self.held.state.epoch);
        let mut changed = 0;
        let mut work: BTreeMap<String, (&'static Table, BTreeMap<Key, E>)> =
            files.into_iter().map(|file| (format!("{}/{}", file.table.name, file.file), (file.table, file.edits))).collect();
        for touch in &touched {
            for name in self.holding(touch).await? {
                work.entry(name).or_insert_with(|| (touch.table, BTreeMap::new()));
            }
        }
        let mut versions: Vec<BoxFuture<'_, Result<Written, DatasetError>>> = Vec::new();
        for (name, (table, edits)) in work {
            let prefixes = touched.iter().filter(|touch| touch.table == table).flat_map(|touch| touch.prefixes.iter().cloned()).collect();
            versions.push(self.rewrite(Version { table, name, edits, prefixes, stamp: &stamp, time }, &resolve).boxed());
        }
        let versions: Vec<Written> = futures::stream::iter(versions).buffered(FILES_AT_ONCE).try_collect().await?;
        let mut written = Vec::new();
        for (name, file, rows) in versions {
            changed += rows;
            written.push((name, file));
        }
        if let Some(rebuilt) = &mut self.rebuild {
            for (name, file) in written {
                let now = file.as_ref().map(|(hidden, _)| hidden.clone());
                let before = match file {
                    Some(file) => rebuilt.insert(name, file),
                    None => rebuilt.remove(&name),
                };
                if let Some((before, _)) = before.filter(|(before, _)| now.as_ref() != Some(before)) {
                    self.store.delete(&before).await?;
                }
            }
            return Ok(changed);
        }
        let mut state = State { applied: Some(time), notes, moves: Moves::default(), ..self.held.state.clone() };
        for (name, file) in written {
            if let Some((hidden, bytes)) = file {
                state.moves.put.insert(hidden, name.clone());
                state.files.insert(name, bytes);
            } else if state.files.remove(&name).is_some() {
                state.moves.delete.push(name);
            }
        }
        self.held.replace(&self.store, state).await?;
        self.make_moves(false).await?;
        Ok(changed)
    }

    /// Whether the files are still there and the state is still ours.
    pub async fn check(&self) -> Result<(), DatasetError> {
        self.held.verify(&self.store).await?;
        if self.rebuild.is_some() { Ok(()) } else { self.verify_files().await }
    }

    /// The names of a table's files and their sizes.
    pub fn files(&self, table: &Table) -> impl Iterator<Item = (&str, u64)> {
        let folder = format!("{}/", table.name);
        self.held.state.files.iter().filter(move |(name, _)| name.starts_with(&folder)).map(|(name, bytes)| (name.as_str(), *bytes))
    }

    /// Where a file is read from, and its size.
    fn place(&self, name: &str) -> Option<(String, u64)> {
        match &self.rebuild {
            Some(rebuilt) => rebuilt.get(name).cloned(),
            None => self.held.state.files.get(name).map(|bytes| (name.to_owned(), *bytes)),
        }
    }

    /// The files with rows that begin with one of the prefixes.
    async fn holding(&self, touch: &Touched) -> Result<Vec<String>, DatasetError> {
        let folder = format!("{}/", touch.table.name);
        let names: Vec<String> = match &self.rebuild {
            Some(rebuilt) => rebuilt.keys().filter(|name| name.starts_with(&folder)).cloned().collect(),
            None => self.files(touch.table).map(|(name, _)| name.to_owned()).collect(),
        };
        let prefixes: Vec<Key> = touch.prefixes.iter().cloned().collect();
        let mut looks: Vec<BoxFuture<'_, Result<Option<String>, DatasetError>>> = Vec::new();
        for name in names {
            looks.push(self.look(touch.table, name, &prefixes).boxed());
        }
        let found: Vec<Option<String>> = futures::stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The name of the file, if it has a row that begins with one of the prefixes.
    async fn look(&self, table: &'static Table, name: String, prefixes: &[Key]) -> Result<Option<String>, DatasetError> {
        let has = match self.file(table, &name).await? {
            Some(file) => file.has_any(prefixes).await?,
            None => false,
        };
        Ok(has.then_some(name))
    }

    async fn file(&self, table: &'static Table, name: &str) -> Result<Option<DatasetFile>, DatasetError> {
        let Some((place, bytes)) = self.place(name) else { return Ok(None) };
        match DatasetFile::open(&self.store, table, &place, bytes).await {
            Err(DatasetError::Store(StoreError::NotFound { object })) => {
                Err(DatasetError::Damaged { object, detail: "it has vanished".to_owned() })
            }
            other => Ok(Some(other?)),
        }
    }

    /// Writes the new version of a file aside. No place comes back when no row is left.
    async fn rewrite<E: Send + 'static>(&self, version: Version<'_, E>, resolve: &Resolve<E>) -> Result<Written, DatasetError> {
        let Version { table, name, edits, prefixes, stamp, time } = version;
        let folder = if self.rebuild.is_some() { REBUILD } else { STAGED };
        let hidden = format!("{folder}/{stamp}.{}.{}", self.held.state.rebuilds, name.replace('/', "."));
        let encoder = Encoder::new(table, &self.footer(table, time))?;
        let mut merge = Merge::new(table, &name, edits, prefixes, resolve.clone(), encoder);
        let mut upload = self.store.upload(&hidden);
        if let Some(old) = self.file(table, &name).await? {
            let mut chunks = old.chunks()?;
            while let Some(chunk) = chunks.next().await? {
                merge = blocking(move || merge.chunk(&chunk).map(|()| merge)).await?;
                files::send(merge.encoder(), &mut upload).await?;
            }
        }
        merge = blocking(move || merge.rest().map(|()| merge)).await?;
        files::send(merge.encoder(), &mut upload).await?;
        let changed = merge.changed;
        let encoder = merge.into_encoder();
        if encoder.rows() == 0 {
            upload.abandon().await;
            return Ok((name, None, changed));
        }
        upload.write(&blocking(move || encoder.finish()).await?).await?;
        let bytes = upload.finish().await?;
        Ok((name, Some((hidden, bytes)), changed))
    }

    fn footer(&self, table: &Table, time: LogicalTime) -> BTreeMap<String, String> {
        let note = |key: &str, value: String| (format!("desireline.{key}"), value);
        BTreeMap::from([
            note("table", table.name.to_owned()),
            note("definition", self.definition.clone()),
            note("applied", time.to_string()),
            note("epoch", self.held.state.epoch.to_string()),
        ])
    }

    /// Takes the steps that the state names. With `again`, some may have been taken already.
    async fn make_moves(&self, again: bool) -> Result<(), DatasetError> {
        let Moves { put, delete } = &self.held.state.moves;
        let mut waiting = BTreeSet::new();
        if again && !put.is_empty() {
            for folder in [STAGED, REBUILD] {
                waiting.extend(self.store.list(folder, None).await?.into_iter().map(|object| object.name));
            }
        }
        let mut moves: Vec<BoxFuture<'_, Result<(), StoreError>>> = Vec::new();
        for (hidden, name) in put {
            if !again || waiting.contains(hidden) {
                moves.push(self.store.rename(hidden, name).boxed());
            }
        }
        for name in delete {
            moves.push(self.store.delete(name).boxed());
        }
        futures::stream::iter(moves).buffered(FILES_AT_ONCE).try_collect::<()>().await?;
        let folders: BTreeSet<&str> = delete.iter().filter_map(|name| name.rsplit_once('/')).map(|(folder, _)| folder).collect();
        for folder in folders {
            self.store.sync_folder(folder).await?;
        }
        Ok(())
    }

    /// Deletes what was written aside and is of no use any more.
    async fn clear(&self) -> Result<(), DatasetError> {
        for folder in [STAGED, REBUILD] {
            for object in self.store.list(folder, None).await? {
                self.store.delete(&object.name).await?;
            }
        }
        self.store.remove_unfinished(HIDDEN)?;
        Ok(())
    }

    /// The files in their places, of our tables and those that the state knows.
    async fn list_files(&self) -> Result<BTreeMap<String, u64>, DatasetError> {
        let known = self.held.state.files.keys().filter_map(|name| name.split_once('/')).map(|(folder, _)| folder);
        let folders: BTreeSet<&str> = self.tables.iter().map(|table| table.name).chain(known).collect();
        let mut files = BTreeMap::new();
        for folder in folders {
            let found = self.store.list(folder, None).await?;
            files.extend(found.into_iter().filter(|object| object.name.ends_with(".parquet")).map(|object| (object.name, object.bytes)));
        }
        Ok(files)
    }

    async fn verify_files(&self) -> Result<(), DatasetError> {
        let found = self.list_files().await?;
        let files = &self.held.state.files;
        let wrong = |name: &String, detail: String| DatasetError::Damaged { object: name.clone(), detail };
        for (name, bytes) in files {
            match found.get(name) {
                None => return Err(wrong(name, "it has vanished".to_owned())),
                Some(now) if now != bytes => return Err(wrong(name, format!("it has {now} bytes instead of {bytes}"))),
                Some(_) => {}
            }
        }
        match found.keys().find(|name| !files.contains_key(*name)) {
            Some(name) => Err(wrong(name, "nobody knows where it comes from".to_owned())),
            None => Ok(()),
        }
    }
}

/// What a new version of a file is made of.
struct Version<'a, E> {
    table: &'static Table,
    name: String,
    edits: BTreeMap<Key, E>,
    prefixes: Vec<Key>,
    stamp: &'a str,
    time: LogicalTime,
}

/// A file's name, where its new version lies and how large it is, and how many rows are different.
type Written = (String, Option<(String, u64)>, u64);

/// Tells datasets with other tables, or made by other rules, apart.
fn definition(tables: &[&'static Table], salt: &str) -> String {
    let tables: Vec<String> = tables.iter().map(|table| files::describe(table)).collect();
    let text = format!("{salt}\n{}", tables.join("\n"));
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
}

/// CPU work away from the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, DatasetError> + Send + 'static) -> Result<T, DatasetError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| DatasetError::Encode(error.to_string()))?
}
