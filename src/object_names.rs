//! The rules for names in an object store: buckets, keys and prefixes.

use crate::error::{Error, Result};

/// The longest key that S3 allows, bytes of UTF-8.
pub(crate) const MAX_KEY_BYTES: usize = 1024;

/// Checks a bucket's name, given in `field`, by S3's rules for general purpose buckets: 3–63 characters of a–z, 0–9,
/// `.` and `-`, of which the first and the last are a letter or digit, and no `..`.
///
/// # Errors
/// `BadRequest` that names the field.
pub(crate) fn check_bucket(field: &str, bucket: &str) -> Result<()> {
    let is_end = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = bucket.as_bytes();
    let fits = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|b| is_end(b) || matches!(b, b'.' | b'-'))
        && bytes.first().is_some_and(is_end)
        && bytes.last().is_some_and(is_end)
        && !bucket.contains("..");
    if fits { Ok(()) } else { Err(Error::bad_request(format!("`{field}` is not a bucket's name"))) }
}

/// Checks a key, given in `field`. To S3 a key is only bytes, but in a URL it is read as path segments, so `.` and `..`
/// are refused, and so are control characters.
///
/// # Errors
/// `BadRequest` that names the field.
pub(crate) fn check_key(field: &str, key: &str) -> Result<()> {
    let fault = if key.is_empty() {
        "is empty".to_owned()
    } else if key.len() > MAX_KEY_BYTES {
        format!("is longer than {MAX_KEY_BYTES} bytes")
    } else if key.chars().any(char::is_control) {
        "holds control characters".to_owned()
    } else if key.split('/').any(|segment| matches!(segment, "." | "..")) {
        "holds a path segment `.` or `..`".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::bad_request(format!("`{field}` {fault}")))
}

/// What keeps a text from being the prefix of written keys; `None` if nothing does.
#[must_use]
pub(crate) fn prefix_fault(prefix: &str) -> Option<&'static str> {
    let is_bad = prefix.starts_with('/') || prefix.len() > 512 || prefix.chars().any(char::is_control);
    is_bad.then_some("must not start with `/`, hold control characters or exceed 512 bytes")
}
