//! An object store in memory that fails where a test wants it to.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{NewObject, Object, ObjectMeta, ObjectRef, ObjectStore, SignedRequest, Upload};
use crate::config::Secret;
use crate::error::{Error, Limit, Result};

/// How the chosen operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// It does nothing and says so.
    Before,
    /// It does its work, and the answer is lost.
    After,
}

/// An object as it is kept. Its ETag and version id count the writes of the whole store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub body: Bytes,
    pub etag: String,
    pub version_id: String,
    pub metadata: BTreeMap<String, String>,
}

type Interruption = Box<dyn FnOnce(&mut Objects) + Send>;

/// Objects by `bucket/key`.
#[derive(Default)]
pub struct Objects {
    kept: BTreeMap<String, Kept>,
    writes: usize,
}

impl Objects {
    pub fn put(&mut self, bucket: &str, key: &str, body: Bytes, metadata: BTreeMap<String, String>) {
        self.writes += 1;
        let (etag, version_id) = (format!("\"e{}\"", self.writes), format!("v{}", self.writes));
        self.kept.insert(name(bucket, key), Kept { body, etag, version_id, metadata });
    }

    pub fn remove(&mut self, bucket: &str, key: &str) {
        self.kept.remove(&name(bucket, key));
    }
}

#[derive(Default)]
struct State {
    objects: Objects,
    operations: usize,
    failing: Option<(usize, Failing)>,
    interruption: Option<(usize, Interruption)>,
    forbidden: Option<String>,
}

/// See the module.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

fn name(bucket: &str, key: &str) -> String {
    format!("{bucket}/{key}")
}

#[allow(clippy::missing_panics_doc)] // Only a poisoned lock, in a test.
impl MemoryStore {
    pub fn put_photo(&self, bucket: &str, key: &str, body: Bytes) -> ObjectRef {
        let mut state = self.state.lock().unwrap();
        state.objects.put(bucket, key, body, BTreeMap::new());
        let kept = &state.objects.kept[&name(bucket, key)];
        ObjectRef {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version_id: Some(kept.version_id.clone()),
            etag: Some(kept.etag.clone()),
        }
    }

    /// Everything there is, by `bucket/key`.
    pub fn objects(&self) -> BTreeMap<String, Kept> {
        self.state.lock().unwrap().objects.kept.clone()
    }

    /// How many operations were begun since the last [`Self::fail`] or [`Self::interrupt`].
    pub fn operations(&self) -> usize {
        self.state.lock().unwrap().operations
    }

    /// Lets the operation after `operations` others fail; `None`: none.
    pub fn fail(&self, failing: Option<(usize, Failing)>) {
        let mut state = self.state.lock().unwrap();
        state.operations = 0;
        state.failing = failing;
    }

    /// Runs `interruption` before the operation that follows `operations` others: somebody else's doing.
    pub fn interrupt(&self, operations: usize, interruption: impl FnOnce(&mut Objects) + Send + 'static) {
        let mut state = self.state.lock().unwrap();
        state.operations = 0;
        state.interruption = Some((operations, Box::new(interruption)));
    }

    /// Denies everything in a bucket.
    pub fn forbid(&self, bucket: &str) {
        self.state.lock().unwrap().forbidden = Some(bucket.to_owned());
    }

    fn operate<T>(&self, bucket: &str, operation: impl FnOnce(&mut Objects) -> Result<T>) -> Result<T> {
        let mut state = self.state.lock().unwrap();
        let number = state.operations;
        state.operations += 1;
        if let Some((_, interruption)) = state.interruption.take_if(|(at, _)| *at == number) {
            interruption(&mut state.objects);
        }
        if state.forbidden.as_deref() == Some(bucket) {
            return Err(Error::Forbidden { detail: format!("no permission in {bucket}") });
        }
        let failing = state.failing.filter(|(at, _)| *at == number).map(|(_, how)| how);
        let broken = || Error::Storage { detail: "500".to_owned(), source: None };
        match failing {
            None => operation(&mut state.objects),
            Some(Failing::Before) => Err(broken()),
            Some(Failing::After) => {
                let _lost = operation(&mut state.objects);
                Err(broken())
            }
        }
    }
}

fn find(objects: &Objects, at: &ObjectRef) -> Result<Kept> {
    let missing = || Error::NoObject { detail: format!("there is no {}/{}", at.bucket, at.key) };
    let kept = objects.kept.get(&name(&at.bucket, &at.key)).ok_or_else(missing)?;
    if at.version_id.as_ref().is_some_and(|v| *v != kept.version_id) {
        return Err(missing());
    }
    if at.etag.as_ref().is_some_and(|e| *e != kept.etag) {
        return Err(Error::Overtaken);
    }
    Ok(kept.clone())
}

fn meta(kept: &Kept) -> ObjectMeta {
    ObjectMeta {
        bytes: kept.body.len() as u64,
        etag: Some(kept.etag.clone()),
        version_id: Some(kept.version_id.clone()),
        metadata: kept.metadata.clone(),
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn head(&self, at: &ObjectRef) -> Result<ObjectMeta> {
        self.operate(&at.bucket, |objects| Ok(meta(&find(objects, at)?)))
    }

    async fn get(&self, at: &ObjectRef, max_bytes: u64) -> Result<Object> {
        self.operate(&at.bucket, |objects| {
            let kept = find(objects, at)?;
            if kept.body.len() as u64 > max_bytes {
                return Err(Error::TooLarge { limit: Limit::Body, detail: "too large".to_owned() });
            }
            Ok(Object { meta: meta(&kept), body: kept.body.into() })
        })
    }

    async fn put(&self, object: NewObject) -> Result<()> {
        let bucket = object.bucket.clone();
        self.operate(&bucket, |objects| {
            objects.put(&object.bucket, &object.key, object.body, object.metadata);
            Ok(())
        })
    }

    async fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        self.operate(bucket, |objects| {
            objects.remove(bucket, key);
            Ok(())
        })
    }

    async fn presign_get(&self, bucket: &str, key: &str, _: Duration) -> Result<String> {
        Ok(format!("memory://{bucket}/{key}"))
    }

    async fn presign_put(&self, upload: Upload<'_>, _: Duration) -> Result<SignedRequest> {
        let url = Secret::new(format!("memory://{}/{}", upload.bucket, upload.key));
        Ok(SignedRequest { method: "PUT", url, headers: BTreeMap::new() })
    }
}
