//! A bucket that counts what is asked of it: requests by method, and trips, which are requests that wait for each
//! other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use m2fp::config::Secret;
use m2fp::error::Result;
use m2fp::store::{NewObject, ObjectMeta, ObjectRef, ObjectStore, OpenObject, SignedRequest, Standing, UploadTerms};

/// What was asked of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    pub by_method: BTreeMap<&'static str, usize>,
    /// The most requests of which each began after the one before had been answered.
    pub trips: usize,
}

impl Requests {
    /// How many requests there were of these methods.
    #[must_use]
    pub fn of(&self, methods: &[&str]) -> usize {
        methods.iter().filter_map(|method| self.by_method.get(method)).sum()
    }
}

/// A store around another.
pub struct Counted<S> {
    inner: Arc<S>,
    requests: Mutex<Requests>,
}

impl<S: ObjectStore> Counted<S> {
    #[must_use]
    pub fn new(inner: Arc<S>) -> Self {
        Self { inner, requests: Mutex::default() }
    }

    /// What was asked since the last call.
    pub fn take(&self) -> Requests {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    async fn operate<T>(&self, method: &'static str, operation: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let trip = {
            let mut requests = self.requests.lock().unwrap();
            *requests.by_method.entry(method).or_default() += 1;
            requests.trips + 1
        };
        // Whatever is sent at once is sent before any of it is answered.
        tokio::task::yield_now().await;
        let done = operation.await;
        let mut requests = self.requests.lock().unwrap();
        requests.trips = requests.trips.max(trip);
        done
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Counted<S> {
    async fn head(&self, at: &ObjectRef) -> Result<ObjectMeta> {
        self.operate("HEAD", self.inner.head(at)).await
    }

    async fn open(&self, at: &ObjectRef) -> Result<OpenObject> {
        self.operate("GET", self.inner.open(at)).await
    }

    async fn put(&self, object: NewObject, over: &Standing) -> Result<bool> {
        self.operate("PUT", self.inner.put(object, over)).await
    }

    async fn delete(&self, bucket: &str, key: &str, standing: &Standing) -> Result<bool> {
        self.operate("DELETE", self.inner.delete(bucket, key, standing)).await
    }

    async fn presign_get(&self, bucket: &str, key: &str, expires: Duration) -> Result<Secret> {
        self.inner.presign_get(bucket, key, expires).await
    }

    async fn presign_put(&self, upload: UploadTerms<'_>, expires: Duration) -> Result<SignedRequest> {
        self.inner.presign_put(upload, expires).await
    }
}
