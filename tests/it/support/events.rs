//! The events of `events/`, and the dispatcher they go through.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use m2fp::lambda::dispatch::dispatch;
use m2fp::lambda::failure::Failure;
use m2fp::pipeline::{Context, Pipeline};
use serde_json::Value;
use serde_json::value::to_raw_value;

/// Every event, by its file's name without `.json`.
pub const ALL: [&str; 21] = [
    "alb",
    "apigw-http",
    "apigw-http-multipart",
    "apigw-rest",
    "apigw-rest-page",
    "direct-invoke",
    "direct-invoke-s3",
    "eventbridge",
    "function-url",
    "lattice",
    "pipes-sqs",
    "s3-batch-1.0",
    "s3-batch-2.0",
    "s3-put",
    "s3-test-event",
    "scheduled",
    "sns-eventbridge",
    "sns-s3",
    "sqs-eventbridge",
    "sqs-s3",
    "sqs-sns",
];

/// The bucket and key that the events name.
pub const BUCKET: &str = "m2fp-photos";
pub const KEY: &str = "photos/Zoë + friends.jpg";
pub const OUTPUT_BUCKET: &str = "m2fp-masks";

#[track_caller]
pub fn event(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("events").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("the event is JSON")
}

/// The photo of the events.
pub fn photo() -> Bytes {
    let base64 = event("direct-invoke")["image"].take();
    BASE64_STANDARD.decode(base64.as_str().expect("text")).expect("base64").into()
}

/// What the function answers to an event.
pub async fn invoke(pipeline: &Arc<Pipeline>, event: &Value) -> Result<Value, Failure> {
    invoke_within(pipeline, event, None).await
}

/// As [`invoke`], with an answer that must be given by `deadline`.
pub async fn invoke_until(pipeline: &Arc<Pipeline>, event: &Value, deadline: Instant) -> Result<Value, Failure> {
    invoke_within(pipeline, event, Some(deadline)).await
}

/// As [`invoke_until`], if there is a deadline.
pub async fn invoke_within(
    pipeline: &Arc<Pipeline>,
    event: &Value,
    deadline: Option<Instant>,
) -> Result<Value, Failure> {
    let app = m2fp::lambda::app(Arc::clone(pipeline));
    let context = Context { request_id: "test-1".to_owned(), deadline };
    let answer = dispatch(&app, to_raw_value(event).expect("JSON"), context).await?;
    Ok(serde_json::from_str(answer.get()).expect("the answer is JSON"))
}
