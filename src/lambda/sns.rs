//! SNS: notifications whose messages are S3 notifications or EventBridge's events of S3.
//!
//! Lambda gets these events asynchronously, so failures and their retries are those of S3 notifications: each message is
//! handled, and then the first failure fails the invocation. A message that is not an event of S3 is such a failure, so
//! that the dead-letter queue keeps it for a person to see.

use serde::Deserialize;
use serde_json::Value;

use super::{s3, sqs};
use crate::error::{Error, Result};
use crate::pipeline::{Context, Pipeline};
use crate::store::ObjectRef;

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "Sns")]
    sns: Notification,
}

#[derive(Deserialize)]
struct Notification {
    #[serde(rename = "Message")]
    message: String,
}

/// Handles every message; the answer is that of an S3 notification with the objects of all of them.
///
/// # Errors
/// `BadRequest` for an event that is not one of SNS; else as [`s3::handle`].
pub async fn handle(pipeline: &Pipeline, event: &str, context: &Context) -> Result<Value> {
    s3::handle_each(pipeline, objects(event)?, context).await
}

/// What the messages ask for, in their order.
fn objects(event: &str) -> Result<Vec<Result<Option<ObjectRef>>>> {
    let event: Event =
        serde_json::from_str(event).map_err(|e| Error::bad_request(format!("not a well-formed SNS event: {e}")))?;
    let mut objects = Vec::new();
    for record in &event.records {
        match sqs::objects_of_event(&record.sns.message) {
            Ok(Some(named)) => objects.extend(named),
            Ok(None) => objects.push(Err(sqs::no_event())),
            Err(error) => objects.push(Err(error)),
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(messages: &[&str]) -> String {
        let record =
            |message: &&str| json!({"EventSource": "aws:sns", "Sns": {"Type": "Notification", "Message": message}});
        json!({"Records": messages.iter().map(record).collect::<Vec<_>>()}).to_string()
    }

    #[test]
    fn objects_are_found_in_every_message() {
        let s3 = include_str!("../../events/s3-put.json");
        let test = include_str!("../../events/s3-test-event.json");
        let event_bridge = include_str!("../../events/eventbridge.json");
        let found = objects(&event(&[s3, test, event_bridge, "hello"])).unwrap();
        let keys: Vec<_> =
            found.iter().map(|object| object.as_ref().ok().map(|o| o.as_ref().unwrap().key.as_str())).collect();
        assert_eq!(keys, [Some("photos/Zoë + friends.jpg"), Some("photos/Zoë + friends.jpg"), None]);
        assert!(matches!(found[2], Err(Error::BadRequest { .. })));
        let case = objects(include_str!("../../tests/data/cases/14-sns-s3.json")).unwrap();
        assert_eq!(case[0].as_ref().unwrap().as_ref().unwrap().key, "photos/Zoë + friends.jpg");
    }

    #[test]
    fn an_event_of_sns_has_its_messages() {
        for event in [r#"{"Records": [{"EventSource": "aws:sns"}]}"#, r#"{"Records": [{"Sns": {"Message": 7}}]}"#] {
            assert!(matches!(objects(event), Err(Error::BadRequest { .. })), "{event}");
        }
    }
}
