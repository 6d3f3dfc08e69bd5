//! EventBridge Pipes: an array without anything around it. Its elements are the messages of a queue, as the pipe received
//! them, or, where its input template picks the bodies, the events of S3 themselves.
//!
//! Of messages the answer names those that failed, as it does for SQS; the pipe delivers those again. Elements that have
//! no id cannot be named, so a failure of one fails the invocation, and the pipe tries again what its source allows.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::s3;
use super::sqs::{self, Message};
use crate::error::{Error, Result};
use crate::pipeline::{Context, Pipeline};
use crate::store::ObjectRef;

/// What tells an element that stands alone from an event.
#[derive(Deserialize)]
struct RecordTells {
    #[serde(rename = "eventSource")]
    event_source: Option<String>,
}

/// Handles every element of the array.
///
/// # Errors
/// `BadRequest` for elements of other kinds; else as [`sqs::handle`] and [`s3::handle`].
pub async fn handle(pipeline: &Pipeline, event: &str, context: &Context) -> Result<Value> {
    let bad = |e: serde_json::Error| Error::bad_request(format!("not a well-formed event of EventBridge Pipes: {e}"));
    let elements: Vec<&RawValue> = serde_json::from_str(event).map_err(bad)?;
    if elements.iter().all(|element| source_of(element).as_deref() == Some("aws:sqs")) {
        let messages: Vec<Message> = serde_json::from_str(event).map_err(bad)?;
        return sqs::handle_messages(pipeline, &messages, context).await;
    }
    let mut named = Vec::new();
    for element in elements {
        match objects(element) {
            Ok(objects) => named.extend(objects),
            Err(error) => named.push(Err(error)),
        }
    }
    s3::handle_each(pipeline, named, context).await
}

fn source_of(element: &RawValue) -> Option<String> {
    serde_json::from_str::<RecordTells>(element.get()).ok()?.event_source
}

/// What an event of S3, or one record of it, asks for.
fn objects(element: &RawValue) -> Result<Vec<Result<Option<ObjectRef>>>> {
    if source_of(element).as_deref() == Some("aws:s3") {
        return s3::objects(&format!(r#"{{"Records": [{}]}}"#, element.get()));
    }
    sqs::objects_of_event(element.get())?.ok_or_else(sqs::no_event)
}
