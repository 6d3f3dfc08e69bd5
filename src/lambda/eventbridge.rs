//! EventBridge's events of S3 (`"source": "aws.s3"`): as S3 notifications, in other words.
//!
//! "Object Created" names the object as it is: its key is not encoded. Every other detail type is passed. Lambda gets
//! these events asynchronously, so failures and their retries are those of S3 notifications.

use serde::Deserialize;
use serde_json::Value;

use super::s3::{self, quoted};
use crate::error::{Error, Result};
use crate::pipeline::{Context, Pipeline};
use crate::store::ObjectRef;

/// The detail type of an upload.
const CREATED: &str = "Object Created";

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "detail-type")]
    detail_type: String,
    #[serde(default)]
    detail: Value,
}

/// What "Object Created" says (Amazon S3 user guide, "EventBridge event message structure"), as far as it is read.
#[derive(Deserialize)]
struct Detail {
    bucket: Bucket,
    object: Object,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
struct Object {
    key: String,
    #[serde(default)]
    etag: Option<String>,
    #[serde(rename = "version-id", default)]
    version_id: Option<String>,
}

/// Handles the event; the answer is that of an S3 notification with one record.
///
/// # Errors
/// As [`s3::handle`].
pub async fn handle(pipeline: &Pipeline, event: &str, context: &Context) -> Result<Value> {
    s3::handle_each(pipeline, vec![object(event)], context).await
}

/// The object that was created, pinned to what the event names; `None` for another detail type.
///
/// # Errors
/// `BadRequest` for an event that is none.
pub(super) fn object(event: &str) -> Result<Option<ObjectRef>> {
    let bad = |e: serde_json::Error| Error::bad_request(format!("not a well-formed EventBridge event of S3: {e}"));
    let event: Event = serde_json::from_str(event).map_err(bad)?;
    if event.detail_type != CREATED {
        return Ok(None);
    }
    let Detail { bucket, object } = serde_json::from_value(event.detail).map_err(bad)?;
    Ok(Some(ObjectRef {
        bucket: bucket.name,
        key: object.key,
        version_id: object.version_id.filter(|v| !v.is_empty()),
        etag: object.etag.filter(|e| !e.is_empty()).map(|e| quoted(&e)),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(detail_type: &str, detail: &Value) -> String {
        json!({"source": "aws.s3", "detail-type": detail_type, "detail": detail}).to_string()
    }

    #[test]
    fn the_key_is_taken_as_it_is() {
        let detail = json!({"bucket": {"name": "photos"},
            "object": {"key": "1+1 %41.jpg", "etag": "0123", "version-id": "v1", "sequencer": "0"}});
        let at = object(&event(CREATED, &detail)).unwrap().unwrap();
        assert_eq!((at.bucket.as_str(), at.key.as_str()), ("photos", "1+1 %41.jpg"));
        assert_eq!((at.etag.as_deref(), at.version_id.as_deref()), (Some("\"0123\""), Some("v1")));
    }

    #[test]
    fn what_is_no_upload_is_passed() {
        for detail_type in ["Object Deleted", "Object Tags Added", "Object Restore Completed"] {
            assert!(object(&event(detail_type, &json!(7))).unwrap().is_none());
        }
    }

    #[test]
    fn an_upload_names_its_object() {
        for detail in [json!(null), json!({}), json!({"bucket": {"name": "b"}}), json!({"bucket": "b", "object": {}})] {
            assert!(matches!(object(&event(CREATED, &detail)), Err(Error::BadRequest { .. })), "{detail}");
        }
    }
}
