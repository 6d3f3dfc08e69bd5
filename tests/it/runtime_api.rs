//! The built `bootstrap` in front of a runtime API: what Lambda tells a function beside its events, and what the function
//! writes.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::support::events::{event, photo};
use crate::support::lambda_runtime_api::{Function, RuntimeApi};

/// Of each invocation.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of a whole run on a busy machine; only a function that hangs takes that long.
const PATIENCE: Duration = Duration::from_mins(2);
const MEMORY_MB: u64 = 1769;

const TRACE: &str = "1-5759e988-bd862e3fe1be46a994272793";
const HEADER: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";

/// An event, and its tracing header.
type Invocation = (Value, Option<&'static str>);

/// What a function answered and wrote.
struct Ran {
    answers: Vec<Value>,
    /// Standard output and error.
    log: String,
}

impl Ran {
    /// The lines of the log that are JSON.
    fn lines(&self) -> Vec<Value> {
        self.log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Starts `bootstrap` with these settings, and has it answer `invocations` one after the other.
async fn bootstrap(settings: &[(&str, &str)], invocations: impl IntoIterator<Item = Invocation>) -> Ran {
    let api = RuntimeApi::start(TIMEOUT).await;
    let function = Function::start_logged(&api, MEMORY_MB, settings);
    let mut answers = Vec::new();
    let answering = async {
        for (number, (event, trace)) in invocations.into_iter().enumerate() {
            answers.push(api.invoke_traced(&format!("r-{number}"), trace, event).await.json());
        }
        api.idle().await;
    };
    let ended = tokio::time::timeout(PATIENCE, answering).await;
    let log = function.log();
    assert!(ended.is_ok(), "the function does not ask for more: {log}");
    Ran { answers, log }
}

/// A photo, and an event of no known kind.
fn invocations(header: Option<&'static str>) -> [Invocation; 2] {
    let image = BASE64_STANDARD.encode(photo());
    [(json!({ "image": image }), header), (json!({"what": "is this"}), header)]
}

async fn run(settings: &[(&str, &str)]) -> Ran {
    let ran = bootstrap(settings, invocations(None)).await;
    assert!(ran.answers[0]["classes"].is_array(), "{:?}", ran.answers);
    assert_eq!(ran.answers[1]["errorType"], "bad_request");
    ran
}

fn metrics(ran: &Ran) -> Vec<Value> {
    ran.lines().into_iter().filter(|line| line.get("_aws").is_some()).collect()
}

/// Whether there is such a line of JSON.
fn has(ran: &Ran, message: &str) -> bool {
    ran.lines().iter().any(|line| line["message"] == message)
}

#[tokio::test]
async fn without_controls_lines_are_json_at_info() {
    let ran = run(&[]).await;
    assert!(has(&ran, "parsed") && has(&ran, "refused"), "{}", ran.log);
    assert_eq!(ran.log.lines().count(), ran.lines().len(), "{}", ran.log);
    assert!(metrics(&ran)[0].get("level").is_none());
}

#[tokio::test]
async fn metrics_pass_where_lambda_lets_warnings_pass() {
    let ran = run(&[("AWS_LAMBDA_LOG_FORMAT", "JSON"), ("AWS_LAMBDA_LOG_LEVEL", "WARN")]).await;
    assert!(ran.lines().iter().all(|line| line["level"] != "INFO"), "{}", ran.log);
    // Lambda takes a line for INFO, and drops it, that has no level beside a timestamp.
    let metrics = metrics(&ran);
    assert_eq!(metrics.len(), 1);
    assert!(metrics[0]["level"] == "WARN" && metrics[0]["timestamp"].is_string(), "{metrics:?}");
}

#[tokio::test]
async fn lambdas_text_is_text_and_metrics_stay_json() {
    let ran = run(&[("AWS_LAMBDA_LOG_FORMAT", "Text")]).await;
    assert!(!has(&ran, "parsed") && ran.log.contains(": parsed"), "{}", ran.log);
    assert_eq!(metrics(&ran).len(), 1);
}

#[tokio::test]
async fn our_own_settings_come_before_lambdas_controls() {
    let lambdas = [("AWS_LAMBDA_LOG_FORMAT", "Text"), ("AWS_LAMBDA_LOG_LEVEL", "ERROR")];
    let ours = [("M2FP_LOG_FORMAT", "json"), ("M2FP_LOG", "info")];
    let ran = run(&[lambdas, ours].concat()).await;
    assert!(has(&ran, "parsed") && has(&ran, "refused"), "{}", ran.log);
}

#[tokio::test]
async fn every_line_names_the_trace() {
    let ran = bootstrap(&[], invocations(Some(HEADER))).await;
    let lines = ran.lines();
    let lines: Vec<_> = lines.iter().filter(|line| line.get("_aws").is_none()).collect();
    for message in ["invoked", "planned", "model loaded", "parsed", "memory", "refused"] {
        assert!(lines.iter().any(|line| line["message"] == message), "no line `{message}`: {}", ran.log);
    }
    assert!(lines.iter().all(|line| line["span"]["xray_trace_id"] == TRACE), "{}", ran.log);
}

#[tokio::test]
async fn what_a_client_sends_as_a_trace_is_not_logged() {
    let ran = bootstrap(&[], invocations(Some("Root=1-me-too;Parent=secret"))).await;
    assert!(has(&ran, "parsed"));
    assert!(!ran.log.contains("me-too") && !ran.log.contains("secret"), "{}", ran.log);
}

/// In an image without certificates the SDK would trust no server, and say so in words that name no remedy.
#[tokio::test]
async fn missing_certificates_are_said_in_one_sentence() {
    let settings = [
        ("SSL_CERT_FILE", "/nonexistent/authorities.pem"),
        ("SSL_CERT_DIR", "/nonexistent"),
        ("M2FP_S3_ENDPOINT", "https://127.0.0.1:1"),
        ("M2FP_ALLOWED_BUCKETS", "photos"),
    ];
    let stored = (json!({"s3": {"bucket": "photos", "key": "a.jpg"}}), None);
    let [photo, _] = invocations(None);
    let ran = bootstrap(&settings, [stored, photo]).await;
    assert_eq!(ran.answers[0]["errorType"], "internal", "{:?}", ran.answers);
    // What needs no store is served.
    assert!(ran.answers[1]["classes"].is_array(), "{:?}", ran.answers);

    let lines = ran.lines();
    let about: Vec<_> = lines.iter().filter(|line| line.to_string().contains("certificate")).collect();
    assert_eq!(about.len(), 1, "{about:?}");
    assert_eq!((&about[0]["message"], &about[0]["level"]), (&json!("failed"), &json!("ERROR")));
    let sentence = about[0]["error"].as_str().unwrap();
    assert!(sentence.contains("ca-certificates") && sentence.contains("SSL_CERT_FILE"), "{sentence}");
    assert!(!has(&ran, "panic"), "{}", ran.log);
}

/// With an access point's ARN in the place of a bucket's name, the SDK addresses the access point.
#[tokio::test]
async fn a_bucket_may_be_an_access_point() {
    let settings = [("M2FP_UPLOAD_BUCKET", "arn:aws:s3:us-east-1:123456789012:accesspoint/photos")];
    let mut request = event("function-url");
    request["rawPath"] = "/uploads".into();
    request["rawQueryString"] = "".into();
    request["queryStringParameters"] = Value::Null;
    request["requestContext"]["http"]["path"] = "/uploads".into();
    request["headers"] = json!({"content-type": "application/json", "host": "abcdef1234.lambda-url.us-east-1.on.aws"});
    request["body"] = json!({"content_type": "image/jpeg", "bytes": 1000}).to_string().into();
    request["isBase64Encoded"] = false.into();
    let ran = bootstrap(&settings, [(request, None)]).await;
    let body = ran.answers[0]["body"].as_str().unwrap_or_else(|| panic!("{:?}", ran.answers));
    let answer: Value = serde_json::from_str(body).unwrap();
    let url = answer["upload"]["url"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(url.starts_with("https://photos-123456789012.s3-accesspoint.us-east-1.amazonaws.com/uploads/"), "{url}");
}
