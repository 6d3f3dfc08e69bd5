//! Buckets and keys that somebody names: well-formed, and theirs to name.
//!
//! The names come in requests, direct invocations and events; whether an object is there is the store's business.

use super::destination::Destination;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::object_names::{check_bucket, check_key};
use crate::store::{ObjectRef, StoreTarget};

/// Longest S3 version id, bytes.
const MAX_VERSION_BYTES: usize = 1024;

/// Who asks, and so which buckets may be named.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// Somebody with the token, or anybody where there is none.
    Anyone,
    /// Somebody whom IAM lets invoke the function.
    Invoker,
}

impl Sender {
    /// Checks a photo's names, and that it may be read.
    ///
    /// # Errors
    /// `BadRequest` that names the field; `Forbidden`.
    pub(crate) fn check_source(self, object: &ObjectRef, config: &Config) -> Result<()> {
        check_bucket("s3.bucket", &object.bucket)?;
        check_key("s3.key", &object.key)?;
        let is_id = |v: &str| (1..=MAX_VERSION_BYTES).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_graphic());
        if !object.version_id.as_deref().is_none_or(is_id) {
            return Err(Error::bad_request("`s3.version_id` is not a version id"));
        }
        self.check_read(object, config)
    }

    /// Checks where outputs shall be written, and that they may be.
    ///
    /// # Errors
    /// `BadRequest` that names the field; `Forbidden`.
    pub(crate) fn check_target(self, target: &StoreTarget, config: &Config) -> Result<()> {
        check_bucket("store.bucket", &target.bucket)?;
        check_key("store.key_prefix", &target.key_prefix)?;
        Destination::for_target(target)?;
        self.check_write(&target.bucket, config)
    }

    /// Checks the bucket that an event wants its outputs in, given in `field`.
    ///
    /// # Errors
    /// `BadRequest` that names the field; `Forbidden`.
    pub(crate) fn check_output_bucket(self, field: &str, bucket: &str, config: &Config) -> Result<()> {
        check_bucket(field, bucket)?;
        self.check_write(bucket, config)
    }

    fn check_read(self, object: &ObjectRef, config: &Config) -> Result<()> {
        let (bucket, allowed) = (&object.bucket, &config.allowed_buckets);
        if self.is_free(config) || config.is_upload(bucket, &object.key) || allowed.contains(bucket) {
            return Ok(());
        }
        Err(Error::Forbidden {
            detail: if allowed.is_empty() {
                "requests may read no bucket; M2FP_ALLOWED_BUCKETS names those they may".to_owned()
            } else {
                format!("requests may not read the bucket `{bucket}`; M2FP_ALLOWED_BUCKETS does not name it")
            },
        })
    }

    fn check_write(self, bucket: &str, config: &Config) -> Result<()> {
        let mut allowed = config.allowed_buckets.iter().chain(&config.output_bucket);
        if self.is_free(config) || allowed.any(|b| b == bucket) {
            return Ok(());
        }
        Err(Error::Forbidden {
            detail: format!(
                "requests may not write to the bucket `{bucket}`; M2FP_OUTPUT_BUCKET and M2FP_ALLOWED_BUCKETS name those \
                 they may"
            ),
        })
    }

    fn is_free(self, config: &Config) -> bool {
        self == Self::Invoker && config.allowed_buckets.is_empty()
    }
}

/// Checks the bucket and key that an event names. The bucket may be of those from before today's rules, with capitals,
/// underscores and up to 255 characters.
///
/// # Errors
/// `BadRequest`.
pub(crate) fn check_object(bucket: &str, key: &str) -> Result<()> {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if !(3..=255).contains(&bucket.len()) || !bucket.bytes().all(is_part) {
        return Err(Error::bad_request("the event names no bucket"));
    }
    check_key("key", key)
}

/// Checks that the function may read the bucket that an event names: any, unless the settings list those allowed.
///
/// # Errors
/// `Forbidden`.
pub(crate) fn check_event_bucket(bucket: &str, config: &Config) -> Result<()> {
    if config.allowed_buckets.is_empty() || config.allowed_buckets.iter().any(|b| b == bucket) {
        return Ok(());
    }
    Err(Error::Forbidden { detail: format!("M2FP_ALLOWED_BUCKETS does not name the bucket `{bucket}`") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_may_name_buckets_of_old_rules() {
        for bucket in ["photos", "My_Photos.2009", &"b".repeat(255)] {
            assert!(check_object(bucket, "a.jpg").is_ok(), "{bucket}");
        }
        for bucket in ["", "ab", "a/b", "arn:aws:s3:::b", "bü", "a b", &"b".repeat(256)] {
            assert!(check_object(bucket, "a.jpg").is_err(), "{bucket}");
        }
    }
}
