//! SQS: messages whose bodies are S3 notifications or EventBridge's events of S3, or either inside an SNS notification.
//!
//! The answer lists the messages that failed (`batchItemFailures`); SQS delivers those again, and moves them to the
//! queue's dead-letter queue when they have failed as often as it allows. The event source mapping must ask for it
//! (`ReportBatchItemFailures`), or failed messages are taken for done.
//!
//! | message | then |
//! |---|---|
//! | everything it names is done, passed, overtaken or recorded as a bad image | done |
//! | `s3:TestEvent` | done: it asks for nothing |
//! | an object failed: storage, deadline, permission, … | failed: it comes again |
//! | the time left would not do for it | failed: it comes again |
//! | the body is no event of S3 | failed: trying again does not help, but the dead-letter queue keeps it for a person to see |
//!
//! Order does not matter, so a FIFO queue's messages after a failed one are handled as well.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::settle_each::settle_each;
use super::shape::{Shape, shape};
use super::{eventbridge, s3};
use crate::delivery::settle::Order;
use crate::error::{Error, Result};
use crate::pipeline::{Context, Pipeline};
use crate::store::ObjectRef;

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "Records")]
    records: Vec<Message>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    message_id: String,
    #[serde(default)]
    body: Body,
}

/// Text, or the JSON that EventBridge Pipes has read it as.
#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Text(String),
    Json(Value),
}

impl Default for Body {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Body {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => text.into(),
            Self::Json(json) => json.to_string().into(),
        }
    }
}

/// What SNS puts around a message, unless its subscription asks for raw delivery.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope {
    r#type: String,
    message: String,
}

/// Handles every message, whatever becomes of those before it; the answer names those that failed.
///
/// # Errors
/// `BadRequest` for an event without messages' ids: an answer could not name what failed, so all come again.
pub async fn handle(pipeline: &Pipeline, event: &str, context: &Context) -> Result<Value> {
    let event: Event =
        serde_json::from_str(event).map_err(|e| Error::bad_request(format!("not a well-formed SQS event: {e}")))?;
    handle_messages(pipeline, &event.records, context).await
}

/// As [`handle`], for messages without an event around them.
///
/// # Errors
/// As [`handle`].
pub(super) async fn handle_messages(pipeline: &Pipeline, messages: &[Message], context: &Context) -> Result<Value> {
    if messages.iter().any(|message| message.message_id.is_empty()) {
        return Err(Error::bad_request("an SQS message has no id"));
    }
    let order = Order::configured(&pipeline.config)?;
    let (mut failed, mut ids, mut named) = (BTreeSet::new(), Vec::new(), Vec::new());
    let mut fail = |message_id, error: &Error| {
        tracing::warn!(message_id, error = error.chain(), "message failed");
        failed.insert(message_id);
    };
    for Message { message_id, body } in messages {
        match objects(&body.text()) {
            Ok(objects) => {
                ids.resize(ids.len() + objects.len(), message_id);
                named.extend(objects);
            }
            Err(error) => fail(message_id, &error),
        }
    }
    for (message_id, done) in std::iter::zip(ids, settle_each(pipeline, named, &order, context).await) {
        if let Err(error) = done {
            fail(message_id, &error);
        }
    }
    let failed: Vec<_> = failed.into_iter().map(|id| json!({"itemIdentifier": id})).collect();
    Ok(json!({"batchItemFailures": failed}))
}

/// What a message's body asks for.
fn objects(body: &str) -> Result<Vec<Result<Option<ObjectRef>>>> {
    if let Some(objects) = objects_of_event(body)? {
        return Ok(objects);
    }
    if let Ok(envelope) = serde_json::from_str::<Envelope>(body)
        && envelope.r#type == "Notification"
        && let Some(objects) = objects_of_event(&envelope.message)?
    {
        return Ok(objects);
    }
    Err(no_event())
}

/// What a message that names no object is told.
pub(super) fn no_event() -> Error {
    Error::bad_request("the message is neither an S3 notification nor an EventBridge event of S3")
}

/// `None` for what is no event of S3.
pub(super) fn objects_of_event(text: &str) -> Result<Option<Vec<Result<Option<ObjectRef>>>>> {
    match shape(text) {
        Ok(Shape::S3) => s3::objects(text).map(Some),
        Ok(Shape::S3Test) => Ok(Some(Vec::new())),
        Ok(Shape::EventBridge) => Ok(Some(vec![eventbridge::object(text)])),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S3: &str = include_str!("../../events/s3-put.json");
    const TEST: &str = include_str!("../../events/s3-test-event.json");
    const EVENT_BRIDGE: &str = include_str!("../../events/eventbridge.json");

    fn wrapped(message: &str) -> String {
        json!({"Type": "Notification", "MessageId": "m", "TopicArn": "t", "Message": message}).to_string()
    }

    #[test]
    fn events_of_s3_are_found_bare_and_inside_sns() {
        for (body, count) in [(S3, 1), (TEST, 0), (EVENT_BRIDGE, 1)] {
            assert_eq!(objects(body).unwrap().len(), count);
            assert_eq!(objects(&wrapped(body)).unwrap().len(), count);
        }
    }

    #[test]
    fn anything_else_fails_its_message() {
        let twice = wrapped(&wrapped(S3));
        for body in ["", "null", "[]", "hello", "{}", r#"{"image": "x"}"#, r#"{"Records": []}"#, twice.as_str()] {
            assert!(matches!(objects(body), Err(Error::BadRequest { .. })), "{body}");
        }
    }
}
