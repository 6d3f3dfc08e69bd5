//! A bucket that fails: faults at the port [`ObjectStore`], drawn from a seed or told one by one.

#![allow(dead_code, reason = "each test file uses its part")]

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use m2fp::config::Secret;
use m2fp::error::{Error, Result};
use m2fp::store::{NewObject, ObjectMeta, ObjectRef, ObjectStore, OpenObject, SignedRequest, Standing, UploadTerms};
use tokio::sync::Notify;

/// What an operation may come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// 500, or the adapter's own timeout: nothing was done.
    Before,
    /// 503 `SlowDown`.
    SlowDown,
    /// The work was done, the answer was lost.
    After,
    /// 403, for once.
    Denied,
    /// The function ends before the operation.
    CrashBefore,
    /// The operation takes place, and the function ends before it learns so.
    CrashAfter,
    /// No answer ever comes: the invocation's deadline ends it.
    Hang,
}

impl Fault {
    pub const ALL: [Self; 7] =
        [Self::Before, Self::SlowDown, Self::After, Self::Denied, Self::CrashBefore, Self::CrashAfter, Self::Hang];
}

/// Whether, and how, an operation on a key fails.
type Draw = Box<dyn FnMut(&str) -> Option<Fault> + Send>;

/// A delivery under way.
struct Delivery {
    meets_faults: bool,
    /// Told when it is to end at once.
    crash: Notify,
}

tokio::task_local! {
    static DELIVERY: Arc<Delivery>;
}

/// A store around another.
pub struct Faulty<S> {
    pub inner: Arc<S>,
    draw: Mutex<Draw>,
}

impl<S: ObjectStore> Faulty<S> {
    pub fn new(inner: Arc<S>, draw: impl FnMut(&str) -> Option<Fault> + Send + 'static) -> Self {
        Self { inner, draw: Mutex::new(Box::new(draw)) }
    }

    async fn operate<T>(&self, key: &str, operation: impl Future<Output = Result<T>> + Send) -> Result<T> {
        // Somebody else's turn, before and after.
        tokio::task::yield_now().await;
        // Panics where a task of its own calls the store: it would meet no fault, and nobody would see that.
        let meets_faults = DELIVERY.with(|delivery| delivery.meets_faults);
        let fault = if meets_faults { (self.draw.lock().unwrap())(key) } else { None };
        let storage = |detail: &str| Error::Storage { detail: detail.to_owned(), source: None };
        match fault {
            None => {
                let done = operation.await;
                tokio::task::yield_now().await;
                done
            }
            Some(Fault::Before) => Err(storage("500")),
            Some(Fault::SlowDown) => Err(storage("it could not be reached (SlowDown)")),
            Some(Fault::Denied) => Err(Error::Forbidden { detail: "no permission for once".to_owned() }),
            Some(Fault::CrashBefore) => crash().await,
            Some(Fault::Hang) => pending().await,
            Some(Fault::After) => {
                drop(operation.await);
                Err(storage("the answer was lost"))
            }
            Some(Fault::CrashAfter) => {
                drop(operation.await);
                crash().await
            }
        }
    }
}

async fn crash() -> ! {
    DELIVERY.with(|delivery| delivery.crash.notify_one());
    pending().await
}

/// Runs `delivery` until it ends or a fault ends it, which is `None`. Every use of a [`Faulty`] is inside one.
pub async fn until_crash<T>(meets_faults: bool, delivery: impl Future<Output = T>) -> Option<T> {
    let this = Arc::new(Delivery { meets_faults, crash: Notify::new() });
    tokio::select! {
        done = DELIVERY.scope(Arc::clone(&this), delivery) => Some(done),
        () = this.crash.notified() => None,
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Faulty<S> {
    async fn head(&self, at: &ObjectRef) -> Result<ObjectMeta> {
        self.operate(&at.key, self.inner.head(at)).await
    }

    async fn open(&self, at: &ObjectRef) -> Result<OpenObject> {
        self.operate(&at.key, self.inner.open(at)).await
    }

    async fn put(&self, object: NewObject, over: &Standing) -> Result<bool> {
        let key = object.key.clone();
        self.operate(&key, self.inner.put(object, over)).await
    }

    async fn delete(&self, bucket: &str, key: &str, standing: &Standing) -> Result<bool> {
        self.operate(key, self.inner.delete(bucket, key, standing)).await
    }

    async fn presign_get(&self, bucket: &str, key: &str, expires: Duration) -> Result<Secret> {
        self.operate(key, self.inner.presign_get(bucket, key, expires)).await
    }

    async fn presign_put(&self, upload: UploadTerms<'_>, expires: Duration) -> Result<SignedRequest> {
        self.operate(upload.key, self.inner.presign_put(upload, expires)).await
    }
}
