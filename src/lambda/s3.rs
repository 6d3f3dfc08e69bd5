//! S3 notifications: every uploaded photo gets its masks and a report ([`crate::delivery::settle`]).
//!
//! Each record is handled, whatever becomes of those before it; then the first failure fails the invocation, so that
//! Lambda tries the event again and keeps it in the dead-letter queue in the end. Handled records are known as done when
//! it is tried again.

use std::borrow::Cow;

use aws_lambda_events::s3::{S3Event, S3EventRecord};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::settle_each::{name, settle_each};
use crate::delivery::settle::{Done, Order};
use crate::error::{Error, Result};
use crate::pipeline::{Context, Pipeline};
use crate::store::ObjectRef;

/// Handles every record of a notification; the answer lists what became of each.
///
/// # Errors
/// `BadRequest` for an event that is not one of S3; else the first record's error that a retry or an operator must mend.
pub async fn handle(pipeline: &Pipeline, event: &str, context: &Context) -> Result<Value> {
    handle_each(pipeline, objects(event)?, context).await
}

/// What the records of a notification ask for, in their order: an object to parse; `None` for what is no upload.
///
/// # Errors
/// `BadRequest` for an event that is not one of S3. A record that names no object is an error of its own.
pub(super) fn objects(event: &str) -> Result<Vec<Result<Option<ObjectRef>>>> {
    let event: S3Event =
        serde_json::from_str(event).map_err(|e| Error::bad_request(format!("not a well-formed S3 event: {e}")))?;
    Ok(event.records.iter().map(object_of).collect())
}

/// Makes of each object what the settings say, whatever becomes of the others; the answer lists what became of each.
///
/// # Errors
/// The first failure, after all were handled.
pub(super) async fn handle_each(
    pipeline: &Pipeline,
    objects: Vec<Result<Option<ObjectRef>>>,
    context: &Context,
) -> Result<Value> {
    let order = Order::configured(&pipeline.config)?;
    let names: Vec<_> = objects.iter().map(|object| name(object).unwrap_or_default()).collect();
    let done = settle_each(pipeline, objects, &order, context).await;
    let answers =
        std::iter::zip(names, done).map(|((bucket, key), done)| done.map(|done| answer(&bucket, &key, &done)));
    Ok(json!({"records": answers.collect::<Result<Vec<_>>>()?}))
}

fn answer(bucket: &str, key: &str, done: &Done) -> Value {
    let mut answer = json!({"bucket": bucket, "key": key, "result": done.name()});
    if let Done::Refused { code, detail, .. } = done {
        answer["code"] = json!(code);
        answer["detail"] = json!(detail);
    }
    answer
}

/// The object of a record, pinned to what the event names; `None` if none was created.
fn object_of(record: &S3EventRecord) -> Result<Option<ObjectRef>> {
    // The event's names carry no `s3:`, those of the configuration do.
    let name = record.event_name.as_deref().unwrap_or_default();
    if !name.trim_start_matches("s3:").starts_with("ObjectCreated:") {
        return Ok(None);
    }
    let missing = |name: &str| Error::bad_request(format!("an S3 record without {name}"));
    let object = &record.s3.object;
    let bucket = record.s3.bucket.name.clone().filter(|b| !b.is_empty()).ok_or_else(|| missing("a bucket"))?;
    let key = object.key.as_deref().filter(|k| !k.is_empty()).ok_or_else(|| missing("a key"))?;
    Ok(Some(ObjectRef {
        bucket,
        key: decode_key(key)?,
        version_id: object.version_id.clone().filter(|v| !v.is_empty()),
        etag: object.e_tag.as_deref().filter(|e| !e.is_empty()).map(quoted),
    }))
}

/// An event's ETag as headers have it.
pub(super) fn quoted(etag: &str) -> String {
    if etag.starts_with('"') { etag.to_owned() } else { format!("\"{etag}\"") }
}

/// A key as events write it: form-encoded, `+` is a space, `%XX` a byte of UTF-8.
///
/// # Errors
/// `BadRequest` for escapes that are none and bytes that are not UTF-8.
pub fn decode_key(encoded: &str) -> Result<String> {
    let bad = || Error::bad_request(format!("the key `{encoded}` is not form-encoded"));
    let bytes = encoded.as_bytes();
    let is_escape = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|xx| xx.iter().all(u8::is_ascii_hexdigit));
    if bytes.iter().enumerate().any(|(at, byte)| *byte == b'%' && !is_escape(at)) {
        return Err(bad());
    }
    let spaced = encoded.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_form_decoded() {
        for (encoded, key) in [
            ("a/b.jpg", "a/b.jpg"),
            ("Happy+Face.jpg", "Happy Face.jpg"),
            ("Happy%20Face.jpg", "Happy Face.jpg"),
            ("1%2B1.jpg", "1+1.jpg"),
            ("Zo%C3%AB.jpg", "Zoë.jpg"),
            ("100%25.jpg", "100%.jpg"),
            ("%e4%bd%a0.jpg", "你.jpg"),
        ] {
            assert_eq!(decode_key(encoded).unwrap(), key);
        }
        for bad in ["100%.jpg", "%", "%2", "%zz", "%+1", "%ff", "%C3.jpg"] {
            assert!(matches!(decode_key(bad), Err(Error::BadRequest { .. })), "{bad}");
        }
    }
}
