//! Objects behind a port: what this crate needs of S3, and no more.
//! The adapter that speaks to S3 is [`s3`].

pub mod s3;
mod trace;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::error::{Error, Limit, Result};
use crate::memory::blob::Blob;

pub use trace::traced;

/// Where an object is. `version_id` and `etag` pin a read to one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectRef {
    pub bucket: String,
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// With quotes, as S3 gives it in headers (events give it without; the parser of events adds them).
    #[serde(skip)]
    pub etag: Option<String>,
}

/// Where a request wants its outputs written: `{bucket}/{key_prefix}` followed by each output's suffix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreTarget {
    pub bucket: String,
    pub key_prefix: String,
}

/// What is known of an object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    pub bytes: u64,
    /// With quotes.
    pub etag: Option<String>,
    pub version_id: Option<String>,
    /// User metadata, names in lower case without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
}

/// An object read whole.
#[derive(Debug, Clone)]
pub struct Object {
    pub meta: ObjectMeta,
    pub body: Blob,
}

/// An object whose bytes are on their way: they are read when they are asked for, or not at all.
pub struct OpenObject {
    pub meta: ObjectMeta,
    /// Reads all bytes, and fails as [`ObjectStore::get`] does where they are not as many as `meta` says.
    pub body: BoxFuture<'static, Result<Blob>>,
}

impl OpenObject {
    /// Reads an object whose size does not exceed `max_bytes`. The size is checked before the body is read.
    ///
    /// # Errors
    /// `TooLarge` with `Limit::Body`; those of the store.
    pub async fn read(self, max_bytes: u64) -> Result<Object> {
        let Self { meta, body } = self;
        if meta.bytes > max_bytes {
            let detail = format!("the object has {} bytes; at most {max_bytes} are read", meta.bytes);
            return Err(Error::TooLarge { limit: Limit::Body, detail });
        }
        Ok(Object { meta, body: body.await? })
    }
}

/// An object to write.
#[derive(Debug, Clone)]
pub struct NewObject {
    pub bucket: String,
    pub key: String,
    pub body: Bytes,
    pub content_type: &'static str,
    pub metadata: BTreeMap<String, String>,
}

/// An object that somebody without credentials shall write, and nothing but this one.
#[derive(Debug, Clone, Copy)]
pub struct UploadTerms<'a> {
    pub bucket: &'a str,
    pub key: &'a str,
    pub content_type: &'a str,
    /// Its exact length.
    pub bytes: u64,
}

/// A request that whoever holds it may send, without credentials, until it expires.
#[derive(Debug)]
pub struct SignedRequest {
    pub method: &'static str,
    /// Carries the signature, so it is as good as a password.
    pub url: Secret,
    /// What must be sent with it, names in lower case; `host` is the URL's and not among them.
    pub headers: BTreeMap<String, String>,
}

/// What must stand at a key for a write to take place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Anything, or nothing.
    Whatever,
    Nothing,
    /// An object with this ETag, with quotes.
    ETag(String),
}

/// The object store.
///
/// Errors of every method: `NoObject` (no such bucket, key or version), `Forbidden` (permission), `Overtaken` (the ETag
/// asked for is gone), `Archived` (of [`ObjectStore::open`]: its bytes must be restored first), `Storage` (anything
/// that may succeed when tried again).
#[async_trait]
pub trait ObjectStore: Send + Sync {
    /// Metadata of an object. Fails with `Overtaken` if `at.etag` is set and differs.
    async fn head(&self, at: &ObjectRef) -> Result<ObjectMeta>;

    /// Begins to read an object: one request, whose answer tells the metadata before any of the bytes is taken. Fails
    /// with `Overtaken` if `at.etag` is set and differs.
    async fn open(&self, at: &ObjectRef) -> Result<OpenObject>;

    /// Reads an object whose size does not exceed `max_bytes`; the size is checked before the body is read, and the
    /// read never keeps more. Larger is `TooLarge` with `Limit::Body`.
    async fn get(&self, at: &ObjectRef, max_bytes: u64) -> Result<Object> {
        self.open(at).await?.read(max_bytes).await
    }

    /// Writes an object whole, with an integrity checksum, if what stands is `over`. False: something else stands, and
    /// nothing was written; or it was written, and the store's answer to the first of several tries was lost.
    async fn put(&self, object: NewObject, over: &Standing) -> Result<bool>;

    /// Removes an object if it is `standing`; removing what is not there succeeds. False: something else stands.
    async fn delete(&self, bucket: &str, key: &str, standing: &Standing) -> Result<bool>;

    /// A link that reads the object without credentials for `expires`.
    async fn presign_get(&self, bucket: &str, key: &str, expires: Duration) -> Result<Secret>;

    /// A request that writes `upload` without credentials when it begins within `expires`; another type, length, key or
    /// method is not what was signed. The store is not asked: whether the bucket exists shows when it is sent.
    async fn presign_put(&self, upload: UploadTerms<'_>, expires: Duration) -> Result<SignedRequest>;
}
