//! What kind of event came, told by the event's shape.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Error, Result};

/// The events served, for the error about any other.
const ACCEPTED: &str = "API Gateway (REST, HTTP API), Application Load Balancer, Function URL, S3 notification, \
                        EventBridge event of S3, SQS messages with either, S3 Batch Operations, \
                        or the JSON body of /parse: {\"image\": …} or {\"s3\": …}";

/// Who sent an HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// API Gateway, payload format 1.0.
    Rest,
    /// API Gateway and Function URL, payload format 2.0.
    HttpApi,
    Alb,
}

impl Gateway {
    const fn name(self) -> &'static str {
        match self {
            Self::Rest => "apigw-rest",
            Self::HttpApi => "apigw-http",
            Self::Alb => "alb",
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
    /// Tasks of S3 Batch Operations.
    S3Batch,
    /// The JSON body of `/parse`.
    Direct,
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
            Self::S3Batch => "s3-batch",
            Self::Direct => "direct",
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
    detail_type: Option<IgnoredAny>,
    source: Option<String>,
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
}

#[derive(Deserialize)]
struct RecordTells {
    #[serde(rename = "eventSource")]
    event_source: Option<String>,
}

/// Tells an event by its shape.
///
/// # Errors
/// `BadRequest` that names what is accepted.
pub fn shape(event: &str) -> Result<Shape> {
    let unknown = || Error::bad_request(format!("this event is not served; accepted are {ACCEPTED}"));
    let tells: Tells = serde_json::from_str(event).map_err(|_| unknown())?;
    if let Some(context) = &tells.request_context {
        if context.http.is_some() {
            return Ok(Shape::Http(Gateway::HttpApi));
        }
        if tells.http_method.is_some() {
            let is_alb = context.elb.is_some();
            return Ok(Shape::Http(if is_alb { Gateway::Alb } else { Gateway::Rest }));
        }
    }
    if let Some(records) = &tells.records {
        let all_from = |source: &str| records.iter().all(|r| r.event_source.as_deref() == Some(source));
        return match records.first() {
            Some(_) if all_from("aws:s3") => Ok(Shape::S3),
            Some(_) if all_from("aws:sqs") => Ok(Shape::Sqs),
            _ => Err(unknown()),
        };
    }
    if tells.event.as_deref() == Some("s3:TestEvent") {
        return Ok(Shape::S3Test);
    }
    if tells.detail_type.is_some() && tells.source.as_deref() == Some("aws.s3") {
        return Ok(Shape::EventBridge);
    }
    if tells.invocation_schema_version.is_some() && tells.tasks.is_some() {
        return Ok(Shape::S3Batch);
    }
    if tells.image.is_some() || tells.s3.is_some() {
        return Ok(Shape::Direct);
    }
    Err(unknown())
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
            (include_str!("../../events/function-url.json"), http_api),
            (include_str!("../../events/alb.json"), Shape::Http(Gateway::Alb)),
            (include_str!("../../events/s3-put.json"), Shape::S3),
            (include_str!("../../events/s3-test-event.json"), Shape::S3Test),
            (include_str!("../../events/eventbridge.json"), Shape::EventBridge),
            (include_str!("../../events/sqs-s3.json"), Shape::Sqs),
            (include_str!("../../events/sqs-eventbridge.json"), Shape::Sqs),
            (include_str!("../../events/s3-batch-1.0.json"), Shape::S3Batch),
            (include_str!("../../events/s3-batch-2.0.json"), Shape::S3Batch),
            (include_str!("../../events/direct-invoke.json"), Shape::Direct),
            (include_str!("../../events/direct-invoke-s3.json"), Shape::Direct),
        ] {
            assert_eq!(shape(event).unwrap(), expected, "{event:.200}");
        }
    }

    #[test]
    fn anything_else_is_told_what_is_accepted() {
        for event in [
            "null",
            "[]",
            "7",
            "{}",
            r#"{"Records": []}"#,
            r#"{"Records": 1}"#,
            r#"{"Records": [{"eventSource": "aws:s3"}, {"eventSource": "aws:sqs"}]}"#,
            r#"{"Records": [{"EventSource": "aws:sns"}]}"#,
            r#"{"detail-type": "Object Created", "source": "com.example"}"#,
            r#"{"source": "aws.s3"}"#,
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
