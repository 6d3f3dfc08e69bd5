//! What kind of event came, told by the event's shape.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// The events served, for the error about any other.
const ACCEPTED: &str = "API Gateway (REST, HTTP API), Application Load Balancer, VPC Lattice, Function URL, \
                        S3 notification, EventBridge event of S3, SNS, SQS or EventBridge Pipes with either, \
                        S3 Batch Operations, a warm-up ping, \
                        or the JSON body of /parse: {\"image\": …} or {\"s3\": …}";

/// Who sent an HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// API Gateway, payload format 1.0.
    Rest,
    /// API Gateway, payload format 2.0.
    HttpApi,
    /// A Function URL, which speaks payload format 2.0, too.
    FunctionUrl,
    Alb,
    /// VPC Lattice, event structure version 2.0.
    Lattice,
}

impl Gateway {
    /// Whether it hands on an answer that Lambda streams. It does so only where it is set to, which no event says.
    #[must_use]
    pub const fn can_stream(self) -> bool {
        match self {
            Self::Rest | Self::FunctionUrl => true,
            Self::HttpApi | Self::Alb | Self::Lattice => false,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Rest => "apigw-rest",
            Self::HttpApi => "apigw-http",
            Self::FunctionUrl => "function-url",
            Self::Alb => "alb",
            Self::Lattice => "lattice",
        }
    }
}

/// What kind of event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Http(Gateway),
    /// Records of an S3 notification.
    S3,
    /// What S3 sends when a notification is configured.
    S3Test,
    /// An event of S3 by EventBridge.
    EventBridge,
    /// Messages of a queue.
    Sqs,
    /// Notifications of a topic.
    Sns,
    /// An array of EventBridge Pipes.
    Pipe,
    /// Tasks of S3 Batch Operations.
    S3Batch,
    /// The JSON body of `/parse`.
    Direct,
    /// A schedule, or a plugin, that keeps the function warm.
    WarmUp,
}

impl Shape {
    /// The name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http(gateway) => gateway.name(),
            Self::S3 => "s3",
            Self::S3Test => "s3-test",
            Self::EventBridge => "eventbridge",
            Self::Sqs => "sqs",
            Self::Sns => "sns",
            Self::Pipe => "pipe",
            Self::S3Batch => "s3-batch",
            Self::Direct => "direct",
            Self::WarmUp => "warm-up",
        }
    }
}

/// The fields that tell events apart; everything else is passed over.
#[derive(Deserialize)]
struct Tells {
    #[serde(rename = "httpMethod")]
    http_method: Option<IgnoredAny>,
    #[serde(rename = "requestContext")]
    request_context: Option<ContextTells>,
    #[serde(rename = "Records")]
    records: Option<Vec<RecordTells>>,
    #[serde(rename = "Event")]
    event: Option<String>,
    #[serde(rename = "detail-type")]
    detail_type: Option<String>,
    source: Option<String>,
    method: Option<IgnoredAny>,
    warmer: Option<IgnoredAny>,
    warmup: Option<IgnoredAny>,
    #[serde(rename = "invocationSchemaVersion")]
    invocation_schema_version: Option<IgnoredAny>,
    tasks: Option<IgnoredAny>,
    image: Option<IgnoredAny>,
    s3: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ContextTells {
    elb: Option<IgnoredAny>,
    http: Option<IgnoredAny>,
    #[serde(rename = "domainName")]
    domain_name: Option<Value>,
    #[serde(rename = "serviceArn")]
    service_arn: Option<IgnoredAny>,
    #[serde(rename = "serviceNetworkArn")]
    service_network_arn: Option<IgnoredAny>,
}

impl ContextTells {
    /// `ID.lambda-url.REGION.on.aws` is a Function URL's host, and no API's.
    fn is_of_function_url(&self) -> bool {
        let host = self.domain_name.as_ref().and_then(Value::as_str).unwrap_or_default();
        host.split('.').nth(1) == Some("lambda-url")
    }
}

#[derive(Deserialize)]
struct RecordTells {
    #[serde(rename = "eventSource")]
    event_source: Option<String>,
    /// SNS writes it so.
    #[serde(rename = "EventSource")]
    sns_event_source: Option<String>,
}

/// Tells an event by its shape.
///
/// # Errors
/// `BadRequest` that names what is accepted.
pub fn shape(event: &str) -> Result<Shape> {
    let unknown = || Error::bad_request(format!("this event is not served; accepted are {ACCEPTED}"));
    if event.trim_start().starts_with('[') {
        let elements: Vec<&RawValue> = serde_json::from_str(event).map_err(|_| unknown())?;
        let is_piped = !elements.is_empty() && elements.iter().all(|element| is_piped(element.get()));
        return if is_piped { Ok(Shape::Pipe) } else { Err(unknown()) };
    }
    shape_of_object(event).ok_or_else(unknown)
}

/// Whether an element of an array is what EventBridge Pipes carries to us: a message of a queue, an event of S3, or one
/// record of it.
fn is_piped(element: &str) -> bool {
    let is_record = serde_json::from_str::<RecordTells>(element)
        .is_ok_and(|tells| matches!(tells.event_source.as_deref(), Some("aws:sqs" | "aws:s3")));
    is_record || matches!(shape_of_object(element), Some(Shape::S3 | Shape::S3Test | Shape::EventBridge))
}

fn shape_of_object(event: &str) -> Option<Shape> {
    let tells: Tells = serde_json::from_str(event).ok()?;
    if let Some(context) = &tells.request_context {
        if context.http.is_some() {
            let is_url = context.is_of_function_url();
            return Some(Shape::Http(if is_url { Gateway::FunctionUrl } else { Gateway::HttpApi }));
        }
        if tells.http_method.is_some() {
            let is_alb = context.elb.is_some();
            return Some(Shape::Http(if is_alb { Gateway::Alb } else { Gateway::Rest }));
        }
        if tells.method.is_some() && (context.service_arn.is_some() || context.service_network_arn.is_some()) {
            return Some(Shape::Http(Gateway::Lattice));
        }
    }
    if let Some(records) = &tells.records {
        let all_from = |source: &str| records.iter().all(|r| r.event_source.as_deref() == Some(source));
        return match records.first() {
            Some(_) if all_from("aws:s3") => Some(Shape::S3),
            Some(_) if all_from("aws:sqs") => Some(Shape::Sqs),
            Some(_) if records.iter().all(|r| r.sns_event_source.as_deref() == Some("aws:sns")) => Some(Shape::Sns),
            _ => None,
        };
    }
    if tells.event.as_deref() == Some("s3:TestEvent") {
        return Some(Shape::S3Test);
    }
    if tells.detail_type.is_some() && tells.source.as_deref() == Some("aws.s3") {
        return Some(Shape::EventBridge);
    }
    if tells.invocation_schema_version.is_some() && tells.tasks.is_some() {
        return Some(Shape::S3Batch);
    }
    if tells.image.is_some() || tells.s3.is_some() {
        return Some(Shape::Direct);
    }
    is_warm_up(&tells, event).then_some(Shape::WarmUp)
}

/// Whether an event asks for nothing but that the function is there: a schedule of EventBridge, `serverless-plugin-warmup`,
/// `{"warmer": true}` as libraries that warm functions send it, or nothing at all.
fn is_warm_up(tells: &Tells, event: &str) -> bool {
    let is_scheduled = matches!(
        (tells.detail_type.as_deref(), tells.source.as_deref()),
        (Some("Scheduled Event"), Some("aws.events" | "aws.scheduler"))
    );
    let is_of_plugin = tells.source.as_deref() == Some("serverless-plugin-warmup");
    let is_ping = tells.warmer.is_some() || tells.warmup.is_some();
    let is_empty = || serde_json::from_str::<HashMap<String, &RawValue>>(event).is_ok_and(|fields| fields.is_empty());
    is_scheduled || is_of_plugin || is_ping || is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_of_the_folder_has_its_shape() {
        let rest = Shape::Http(Gateway::Rest);
        let http_api = Shape::Http(Gateway::HttpApi);
        for (event, expected) in [
            (include_str!("../../events/apigw-rest.json"), rest),
            (include_str!("../../events/apigw-rest-page.json"), rest),
            (include_str!("../../events/apigw-http.json"), http_api),
            (include_str!("../../events/apigw-http-multipart.json"), http_api),
            (include_str!("../../events/function-url.json"), Shape::Http(Gateway::FunctionUrl)),
            (include_str!("../../events/alb.json"), Shape::Http(Gateway::Alb)),
            (include_str!("../../events/s3-put.json"), Shape::S3),
            (include_str!("../../events/s3-test-event.json"), Shape::S3Test),
            (include_str!("../../events/eventbridge.json"), Shape::EventBridge),
            (include_str!("../../events/sqs-s3.json"), Shape::Sqs),
            (include_str!("../../events/sqs-eventbridge.json"), Shape::Sqs),
            (include_str!("../../events/sqs-sns.json"), Shape::Sqs),
            (include_str!("../../events/sns-s3.json"), Shape::Sns),
            (include_str!("../../events/sns-eventbridge.json"), Shape::Sns),
            (include_str!("../../tests/data/cases/14-sns-s3.json"), Shape::Sns),
            (include_str!("../../events/pipes-sqs.json"), Shape::Pipe),
            (include_str!("../../events/lattice.json"), Shape::Http(Gateway::Lattice)),
            (include_str!("../../events/scheduled.json"), Shape::WarmUp),
            (include_str!("../../tests/data/cases/13-warm-plugin.json"), Shape::WarmUp),
            (include_str!("../../events/s3-batch-1.0.json"), Shape::S3Batch),
            (include_str!("../../events/s3-batch-2.0.json"), Shape::S3Batch),
            (include_str!("../../events/direct-invoke.json"), Shape::Direct),
            (include_str!("../../events/direct-invoke-s3.json"), Shape::Direct),
        ] {
            assert_eq!(shape(event).unwrap(), expected, "{event:.200}");
        }
    }

    #[test]
    fn pings_are_told_from_events() {
        for ping in [
            "{}",
            " {\n} ",
            r#"{"warmer": true, "concurrency": 3}"#,
            r#"{"warmup": true}"#,
            r#"{"source": "serverless-plugin-warmup"}"#,
            r#"{"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}"#,
            r#"{"source": "aws.scheduler", "detail-type": "Scheduled Event", "detail": "{}"}"#,
        ] {
            assert_eq!(shape(ping).unwrap(), Shape::WarmUp, "{ping}");
        }
        assert_eq!(shape(r#"{"warmer": true, "image": "AAAA"}"#).unwrap(), Shape::Direct);
        let records = r#"[{"eventSource": "aws:s3"}]"#;
        assert_eq!(shape(records).unwrap(), Shape::Pipe);
        // Deeper than any stack.
        assert!(shape(&"[".repeat(1 << 20)).is_err());
    }

    #[test]
    fn anything_else_is_told_what_is_accepted() {
        for event in [
            "null",
            "[]",
            "7",
            "[[]]",
            "[{}]",
            r#"[{"warmer": true}]"#,
            r#"[{"eventSource": "aws:sqs"}, {"eventSource": "aws:kinesis"}]"#,
            r#"{"Records": []}"#,
            r#"{"Records": 1}"#,
            r#"{"Records": [{"eventSource": "aws:s3"}, {"eventSource": "aws:sqs"}]}"#,
            r#"{"Records": [{"EventSource": "aws:ses"}]}"#,
            r#"{"Records": [{"EventSource": "aws:sns"}, {"eventSource": "aws:s3"}]}"#,
            r#"{"method": "GET", "requestContext": {}}"#,
            r#"{"warmer": null}"#,
            r#"{"what": "is this"}"#,
            r#"{"detail-type": "Object Created", "source": "com.example"}"#,
            r#"{"source": "aws.s3"}"#,
            r#"{"detail-type": "Scheduled Event", "source": "com.example"}"#,
            r#"{"invocationSchemaVersion": "2.0"}"#,
            r#"{"httpMethod": "GET"}"#,
            r#"{"requestContext": {}}"#,
            r#"{"image": null}"#,
        ] {
            let error = shape(event).unwrap_err().to_string();
            assert!(error.contains("S3 notification") && error.contains("/parse"), "{event}: {error}");
        }
    }
}
