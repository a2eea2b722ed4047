//! Replacing, moving and uploading objects: for what is not a log.
//!
//! [`Store::replace`] writes an object whole and durably, whatever was there before. [`Store::replace_tagged`] does so only while the
//! object is still the one that the caller has read: remotely one PUT with `If-Match`, locally a look at the tag before the write, which
//! suffices where a lock keeps other processes out. [`Store::upload`] takes an object in pieces: up to [`PART_BYTES`] are held in
//! memory, and nothing is to be seen under the name before [`Upload::finish`].
//!
//! All of these are tried once. After [`StoreError::Unavailable`] nobody knows whether they have happened.

use super::{Inner, ObjectInfo, Put, Store, StoreError, Tag};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use std::time::Duration;

/// Bytes of one piece of an upload; object stores demand at least 5 MiB of all but the last.
pub const PART_BYTES: usize = 8 << 20;

/// A remote store copies some hundred megabytes in a second, and answers at the end.
const RENAME_TIMEOUT: Duration = Duration::from_secs(300);

/// What became of [`Store::replace_tagged`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    Done(Tag),
    /// The object is another one by now.
    Changed,
}

impl Store {
    /// Writes the object, over an older one of its name.
    pub async fn replace(&self, name: &str, content: Bytes) -> Result<Tag, StoreError> {
        let path = Path::from(name);
        let put = self.inner.objects.put(&path, PutPayload::from(content));
        let put = self.timed(name, self.inner.limits.write_timeout, put).await?.map_err(|error| StoreError::of(name, &error))?;
        Ok(Tag::of_put(put.e_tag.as_deref()))
    }

    /// Writes the object if it is still the one with this tag; with no tag, if there is none.
    pub async fn replace_tagged(&self, name: &str, content: Bytes, tag: Option<&Tag>) -> Result<Replaced, StoreError> {
        let Some(tag) = tag else {
            return match self.put_if_absent(name, vec![content]).await? {
                Put::Created => Ok(Replaced::Done(self.info(name).await?.tag)),
                Put::Exists => Ok(Replaced::Changed),
            };
        };
        if !self.inner.remote {
            let same = match self.info(name).await {
                Ok(found) => found.tag == *tag,
                Err(error) if error.is_not_found() => false,
                Err(error) => return Err(error),
            };
            return if same { Ok(Replaced::Done(self.replace(name, content).await?)) } else { Ok(Replaced::Changed) };
        }
        let version = UpdateVersion { e_tag: Some(format!("\"{}\"", tag.0)), version: None };
        let options = PutOptions { mode: PutMode::Update(version), ..PutOptions::default() };
        let path = Path::from(name);
        let put = self.inner.objects.put_opts(&path, PutPayload::from(content), options);
        match self.timed(name, self.inner.limits.write_timeout, put).await? {
            Ok(put) => Ok(Replaced::Done(Tag::of_put(put.e_tag.as_deref()))),
            Err(object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. }) => Ok(Replaced::Changed),
            Err(error) => Err(StoreError::of(name, &error)),
        }
    }

    /// Name, size and tag of one object.
    pub async fn info(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        let path = Path::from(name);
        let meta = self.read(name, || Box::pin(self.inner.objects.head(&path))).await?;
        Ok(ObjectInfo { name: name.to_owned(), bytes: meta.size, tag: Tag::of(&meta) })
    }

    /// Gives an object another name, over an older object of that name. Locally one durable step; remotely a copy, then a delete.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let (source, target) = (Path::from(from), Path::from(to));
        let renamed = self.inner.objects.rename(&source, &target);
        self.timed(from, RENAME_TIMEOUT, renamed).await?.map_err(|error| StoreError::of(from, &error))
    }

    /// Begins an upload. Dropped before its end it leaves nothing under the name.
    pub fn upload(&self, name: &str) -> Upload {
        Upload { store: self.clone(), name: name.to_owned(), buffer: Vec::new(), parts: None, bytes: 0 }
    }
}

impl Tag {
    fn of_put(e_tag: Option<&str>) -> Self {
        Self(e_tag.unwrap_or_default().trim_matches('"').to_owned())
    }
}

/// An object on its way.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    name: String,
    buffer: Vec<u8>,
    parts: Option<Box<dyn MultipartUpload>>,
    bytes: u64,
}

impl Upload {
    pub async fn write(&mut self, content: &[u8]) -> Result<(), StoreError> {
        self.bytes += content.len() as u64;
        self.buffer.extend_from_slice(content);
        if self.buffer.len() >= PART_BYTES { self.send_part().await } else { Ok(()) }
    }

    async fn send_part(&mut self) -> Result<(), StoreError> {
        let Inner { objects, limits, .. } = self.store.inner.as_ref();
        let failed = |error: object_store::Error| StoreError::of(&self.name, &error);
        if self.parts.is_none() {
            let path = Path::from(self.name.as_str());
            let begun = self.store.timed(&self.name, limits.write_timeout, objects.put_multipart(&path)).await?;
            self.parts = Some(begun.map_err(failed)?);
        }
        if let Some(parts) = &mut self.parts {
            let part = parts.put_part(PutPayload::from(std::mem::take(&mut self.buffer)));
            self.store.timed(&self.name, limits.write_timeout, part).await?.map_err(failed)?;
        }
        Ok(())
    }

    /// The object is there, whole, from here on. Gives its size.
    pub async fn finish(mut self) -> Result<u64, StoreError> {
        if self.parts.is_none() {
            self.store.replace(&self.name, Bytes::from(std::mem::take(&mut self.buffer))).await?;
            return Ok(self.bytes);
        }
        if !self.buffer.is_empty() {
            self.send_part().await?;
        }
        if let Some(mut parts) = self.parts.take() {
            let complete = self.store.timed(&self.name, self.store.inner.limits.write_timeout, parts.complete()).await?;
            complete.map_err(|error| StoreError::of(&self.name, &error))?;
        }
        Ok(self.bytes)
    }

    /// Gives up, and has the store forget the pieces it has.
    pub async fn abandon(mut self) {
        if let Some(mut parts) = self.parts.take()
            && let Err(error) = parts.abort().await
        {
            tracing::debug!(object = self.name.as_str(), %error, "an unfinished upload could not be taken back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).expect("opens");
        (folder, store)
    }

    #[tokio::test]
    async fn an_object_is_replaced_only_while_it_is_the_one_that_was_read() {
        let (_folder, store) = store();
        let put = |content: &'static str, tag: Option<Tag>| {
            let store = store.clone();
            async move { store.replace_tagged("a/state", Bytes::from_static(content.as_bytes()), tag.as_ref()).await.expect("answers") }
        };
        let Replaced::Done(first) = put("one", None).await else { panic!("there was none") };
        assert_eq!(put("two", None).await, Replaced::Changed);
        let Replaced::Done(second) = put("second", Some(first.clone())).await else { panic!("nobody else wrote") };
        assert_eq!(put("third", Some(first)).await, Replaced::Changed);
        assert_eq!(store.get("a/state").await.expect("reads"), "second");
        store.delete("a/state").await.expect("deletes");
        assert_eq!(put("fourth", Some(second)).await, Replaced::Changed);
    }

    #[tokio::test]
    async fn an_upload_is_there_at_its_end_and_not_before() {
        let (_folder, store) = store();
        for bytes in [3usize, PART_BYTES, 2 * PART_BYTES + 5] {
            let content: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
            let mut upload = store.upload("x/big");
            for piece in content.chunks(1 << 20) {
                upload.write(piece).await.expect("writes");
            }
            assert!(store.get("x/big").await.expect_err("not yet").is_not_found());
            assert_eq!(upload.finish().await.expect("finishes"), bytes as u64);
            assert_eq!(store.get("x/big").await.expect("reads"), content);
            store.rename("x/big", "x/y/moved").await.expect("moves");
            assert!(store.get("x/big").await.expect_err("moved").is_not_found());
            assert_eq!(store.info("x/y/moved").await.expect("is there").bytes, bytes as u64);
        }
        let mut upload = store.upload("x/none");
        upload.write(&vec![0; PART_BYTES + 1]).await.expect("writes");
        upload.abandon().await;
        assert_eq!(store.list("x", None).await.expect("lists").len(), 1);
    }
}
