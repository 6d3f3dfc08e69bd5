//! Buckets in memory, for tests of everything around the real ones: they honour conditions as S3 does, and fail where a
//! test wants them to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use m2fp::config::Secret;
use m2fp::error::{Error, Result};
use m2fp::store::{NewObject, ObjectMeta, ObjectRef, ObjectStore, OpenObject, SignedRequest, Standing, UploadTerms};
use m2fp::units::hex;
use sha2::{Digest, Sha256};

/// How the chosen operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// It does nothing and says so.
    Before,
    /// It does its work, and the answer is lost.
    After,
}

/// An object as it is kept. Its ETag is of its bytes, so the same bytes have the same one, as in S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub body: Bytes,
    /// With quotes.
    pub etag: String,
    /// Counts the writes of a store that gives version ids. Only the newest can be read.
    pub version_id: Option<String>,
    pub metadata: BTreeMap<String, String>,
}

type Interruption = Box<dyn FnOnce(&mut Objects) + Send>;

/// Objects by `bucket/key`.
#[derive(Default)]
pub struct Objects {
    kept: BTreeMap<String, Kept>,
    archived: BTreeSet<String>,
    gives_versions: bool,
    ignores_conditions: bool,
    writes: usize,
}

impl Objects {
    pub fn put(&mut self, bucket: &str, key: &str, body: Bytes, metadata: BTreeMap<String, String>) {
        self.writes += 1;
        let etag = format!("\"{}\"", hex(&Sha256::digest(&body)[..16]));
        let version_id = self.gives_versions.then(|| format!("v{}", self.writes));
        self.archived.remove(&name(bucket, key));
        self.kept.insert(name(bucket, key), Kept { body, etag, version_id, metadata });
    }

    /// Appends bytes to an object, and changes a word of its metadata.
    pub fn rewrite(&mut self, bucket: &str, key: &str, more: &[u8], word: &str, value: &str) {
        let Kept { body, mut metadata, .. } = self.kept[&name(bucket, key)].clone();
        metadata.insert(word.to_owned(), value.to_owned());
        self.put(bucket, key, [&body[..], more].concat().into(), metadata);
    }

    pub fn remove(&mut self, bucket: &str, key: &str) {
        self.kept.remove(&name(bucket, key));
    }

    /// Whether what stands at a key is `standing`.
    fn is(&self, bucket: &str, key: &str, standing: &Standing) -> bool {
        let kept = self.kept.get(&name(bucket, key));
        match standing {
            _ if self.ignores_conditions => true,
            Standing::Whatever => true,
            Standing::Nothing => kept.is_none(),
            Standing::ETag(etag) => kept.is_some_and(|kept| kept.etag == *etag),
        }
    }
}

#[derive(Default)]
struct State {
    objects: Objects,
    written: Vec<String>,
    operations: usize,
    failing: Option<(usize, Failing)>,
    interruption: Option<(usize, Interruption)>,
    forbidden: Option<String>,
}

/// See the module.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    reads: Arc<AtomicUsize>,
}

fn name(bucket: &str, key: &str) -> String {
    format!("{bucket}/{key}")
}

impl MemoryStore {
    /// A store whose objects have version ids.
    #[must_use]
    pub fn with_versions() -> Self {
        let objects = Objects { gives_versions: true, ..Objects::default() };
        Self { state: Mutex::new(State { objects, ..State::default() }), ..Self::default() }
    }

    /// A store that writes whatever stands, as some servers do.
    #[must_use]
    pub fn ignoring_conditions() -> Self {
        let objects = Objects { ignores_conditions: true, ..Objects::default() };
        Self { state: Mutex::new(State { objects, ..State::default() }), ..Self::default() }
    }

    /// A store with one object.
    #[must_use]
    pub fn with(bucket: &str, key: &str, body: Bytes) -> Arc<Self> {
        let store = Self::default();
        store.add(bucket, key, body);
        Arc::new(store)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody's upload; what an event of it names.
    pub fn add(&self, bucket: &str, key: &str, body: Bytes) -> ObjectRef {
        let mut state = self.state();
        state.objects.put(bucket, key, body, BTreeMap::new());
        let kept = &state.objects.kept[&name(bucket, key)];
        ObjectRef {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version_id: kept.version_id.clone(),
            etag: Some(kept.etag.clone()),
        }
    }

    /// Changes objects at once: somebody else's doing.
    pub fn change<T>(&self, change: impl FnOnce(&mut Objects) -> T) -> T {
        change(&mut self.state().objects)
    }

    /// Everything there is, by `bucket/key`.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<String, Kept> {
        self.state().objects.kept.clone()
    }

    #[must_use]
    pub fn kept(&self, bucket: &str, key: &str) -> Option<Kept> {
        self.state().objects.kept.get(&name(bucket, key)).cloned()
    }

    #[must_use]
    pub fn body(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.kept(bucket, key).map(|kept| kept.body)
    }

    #[must_use]
    pub fn metadata(&self, bucket: &str, key: &str) -> Option<ObjectMeta> {
        self.kept(bucket, key).as_ref().map(meta)
    }

    /// Keys in the order they were written through the port.
    #[must_use]
    pub fn written(&self) -> Vec<String> {
        self.state().written.clone()
    }

    /// As [`Self::written`], without the first `count`.
    #[must_use]
    pub fn written_after(&self, count: usize) -> Vec<String> {
        self.state().written[count..].to_vec()
    }

    /// How many operations were begun since the last [`Self::fail`] or [`Self::interrupt`].
    #[must_use]
    pub fn operations(&self) -> usize {
        self.state().operations
    }

    /// How many bodies were read, of those that were opened.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// Lets the operation after `operations` others fail; `None`: none.
    pub fn fail(&self, failing: Option<(usize, Failing)>) {
        let mut state = self.state();
        state.operations = 0;
        state.failing = failing;
    }

    /// Runs `interruption` before the operation that follows `operations` others: somebody else's doing.
    pub fn interrupt(&self, operations: usize, interruption: impl FnOnce(&mut Objects) + Send + 'static) {
        let mut state = self.state();
        state.operations = 0;
        state.interruption = Some((operations, Box::new(interruption)));
    }

    /// Denies everything in a bucket.
    pub fn forbid(&self, bucket: &str) {
        self.state().forbidden = Some(bucket.to_owned());
    }

    /// Moves an object into an archive: it is there, and cannot be read.
    pub fn archive(&self, bucket: &str, key: &str) {
        self.state().objects.archived.insert(name(bucket, key));
    }

    /// Brings an object back from its archive.
    pub fn restore(&self, bucket: &str, key: &str) {
        self.state().objects.archived.remove(&name(bucket, key));
    }

    fn operate<T>(&self, bucket: &str, operation: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.state();
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
            None => operation(&mut state),
            Some(Failing::Before) => Err(broken()),
            Some(Failing::After) => {
                let _lost = operation(&mut state);
                Err(broken())
            }
        }
    }
}

fn find(objects: &Objects, at: &ObjectRef) -> Result<Kept> {
    let missing = || Error::NoObject { detail: format!("there is no {}/{}", at.bucket, at.key) };
    let kept = objects.kept.get(&name(&at.bucket, &at.key)).ok_or_else(missing)?;
    if at.version_id.is_some() && at.version_id != kept.version_id {
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
        version_id: kept.version_id.clone(),
        metadata: kept.metadata.clone(),
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn head(&self, at: &ObjectRef) -> Result<ObjectMeta> {
        self.operate(&at.bucket, |state| Ok(meta(&find(&state.objects, at)?)))
    }

    async fn open(&self, at: &ObjectRef) -> Result<OpenObject> {
        self.operate(&at.bucket, |state| {
            let kept = find(&state.objects, at)?;
            if state.objects.archived.contains(&name(&at.bucket, &at.key)) {
                let detail = format!("s3://{}/{} is archived: restore it first", at.bucket, at.key);
                return Err(Error::Archived { detail });
            }
            let (meta, reads) = (meta(&kept), Arc::clone(&self.reads));
            let body = async move {
                reads.fetch_add(1, Ordering::Relaxed);
                Ok(kept.body.into())
            };
            Ok(OpenObject { meta, body: body.boxed() })
        })
    }

    async fn put(&self, object: NewObject, over: &Standing) -> Result<bool> {
        let bucket = object.bucket.clone();
        self.operate(&bucket, |state| {
            let is_met = state.objects.is(&object.bucket, &object.key, over);
            if is_met {
                state.written.push(object.key.clone());
                state.objects.put(&object.bucket, &object.key, object.body, object.metadata);
            }
            Ok(is_met)
        })
    }

    async fn delete(&self, bucket: &str, key: &str, standing: &Standing) -> Result<bool> {
        self.operate(bucket, |state| {
            let is_met = state.objects.is(bucket, key, standing) || state.objects.is(bucket, key, &Standing::Nothing);
            if is_met {
                state.objects.remove(bucket, key);
            }
            Ok(is_met)
        })
    }

    async fn presign_get(&self, bucket: &str, key: &str, expires: Duration) -> Result<Secret> {
        Ok(Secret::new(format!("https://{bucket}.example/{key}?expires={}", expires.as_secs())))
    }

    async fn presign_put(&self, upload: UploadTerms<'_>, expires: Duration) -> Result<SignedRequest> {
        let headers = [("content-type", upload.content_type.to_owned()), ("content-length", upload.bytes.to_string())];
        let url = format!("https://{}.example/{}?expires={}", upload.bucket, upload.key, expires.as_secs());
        let headers = headers.map(|(name, value)| (name.to_owned(), value)).into();
        Ok(SignedRequest { method: "PUT", url: Secret::new(url), headers })
    }
}
