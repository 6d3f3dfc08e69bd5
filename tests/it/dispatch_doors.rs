//! Every event of `events/` through the dispatcher: each door answers in its own form.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use m2fp::pipeline::Pipeline;
use serde_json::{Value, json};

use crate::support::events::{BUCKET, KEY, OUTPUT_BUCKET, event, invoke, photo};
use crate::support::http::{MemoryStore, pipeline};

fn without_store() -> Arc<Pipeline> {
    pipeline(&[], None)
}

fn over(store: &Arc<MemoryStore>) -> Arc<Pipeline> {
    pipeline(&[("OUTPUT_BUCKET", OUTPUT_BUCKET)], Some(store.clone()))
}

/// The header of a gateway's answer; REST answers have them as lists.
fn header<'a>(answer: &'a Value, name: &str) -> Option<&'a str> {
    answer["headers"][name].as_str().or_else(|| answer["multiValueHeaders"][name][0].as_str())
}

#[tokio::test]
async fn every_gateway_gives_the_same_mask() {
    let mut masks = Vec::new();
    for name in ["apigw-rest", "apigw-http", "function-url", "alb", "lattice"] {
        let answer = invoke(&without_store(), &event(name)).await.unwrap();
        assert_eq!((&answer["statusCode"], &answer["isBase64Encoded"]), (&json!(200), &json!(true)), "{name}");
        assert_eq!(header(&answer, "content-type"), Some("image/png"), "{name}");
        assert!(header(&answer, "x-m2fp-plan").unwrap().contains("photo=256x256"), "{name}");
        masks.push(BASE64_STANDARD.decode(answer["body"].as_str().unwrap()).unwrap());
    }
    assert!(masks[0].starts_with(b"\x89PNG"));
    assert!(masks.iter().all(|mask| *mask == masks[0]));
}

#[tokio::test]
async fn load_balancers_are_told_a_status_line() {
    let answer = invoke(&without_store(), &event("alb")).await.unwrap();
    assert_eq!(answer["statusDescription"], "200 OK");
}

/// A load balancer would answer 502 in the function's place.
#[tokio::test]
async fn a_load_balancer_carries_one_megabyte() {
    let limits = async |name: &str| {
        let mut event = event(name);
        (event["httpMethod"], event["path"], event["body"]) = (json!("GET"), json!("/info"), json!(""));
        let answer = invoke(&without_store(), &event).await.unwrap();
        let info: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        ["max_answer_bytes", "max_body_bytes"].map(|limit| info["limits"][limit].as_u64().unwrap())
    };
    assert_eq!(limits("alb").await, [(1_000_000 - 16 * 1024) / 4 * 3; 2]);
    assert_eq!(limits("apigw-rest").await, [(6_291_556 - 16 * 1024) / 4 * 3; 2]);
}

#[tokio::test]
async fn the_page_is_text_behind_its_stage() {
    let answer = invoke(&without_store(), &event("apigw-rest-page")).await.unwrap();
    assert_eq!((&answer["statusCode"], &answer["isBase64Encoded"]), (&json!(200), &json!(false)));
    assert!(header(&answer, "content-type").unwrap().starts_with("text/html"));
    assert!(answer["body"].as_str().unwrap().starts_with("<!"));
}

#[tokio::test]
async fn a_form_is_answered_with_its_report_as_text() {
    let answer = invoke(&without_store(), &event("apigw-http-multipart")).await.unwrap();
    assert_eq!(answer["isBase64Encoded"], false);
    let report: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!(report["image"]["width"], 256, "{report}");
    assert_eq!(report["persons"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn http_failures_are_answers() {
    let mut bad_base64 = event("apigw-http");
    bad_base64["body"] = json!("not base64!");
    let mut no_image = event("apigw-rest");
    no_image["body"] = json!("aGVsbG8=");
    let mut no_route = event("alb");
    no_route["path"] = json!("/nowhere");
    let mut no_event = event("apigw-http");
    no_event["headers"] = json!(7);
    for (event, status) in [(bad_base64, 400), (no_image, 415), (no_route, 404), (no_event, 400)] {
        let answer = invoke(&without_store(), &event).await.unwrap();
        assert_eq!(answer["statusCode"], status);
        assert_eq!(header(&answer, "content-type"), Some("application/problem+json"));
        let problem: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(problem["status"], status);
    }
}

/// API Gateway without binary media types reads an image as text, and what was no UTF-8 is lost.
#[tokio::test]
async fn an_image_that_a_gateway_read_as_text_is_told_what_is_missing() {
    let event: Value = serde_json::from_str(include_str!("../data/cases/15-rest-mangled.json")).unwrap();
    let answer = invoke(&without_store(), &event).await.unwrap();
    assert_eq!(answer["statusCode"], 415);
    assert!(answer["body"].as_str().unwrap().contains("binary media types"), "{answer}");
}

#[tokio::test]
async fn a_direct_invocation_is_answered_with_the_report() {
    let report = invoke(&without_store(), &event("direct-invoke")).await.unwrap();
    assert_eq!(report["image"], json!({"width": 256, "height": 256, "orientation": 1}));
    assert_eq!(report["outputs"], json!([]));
    assert!(report["timings_ms"].is_object() && report["memory"].is_object());
}

#[tokio::test]
async fn a_direct_invocation_stores_where_it_says() {
    let store = MemoryStore::with(BUCKET, KEY, photo());
    let report = invoke(&over(&store), &event("direct-invoke-s3")).await.unwrap();
    let outputs = report["outputs"].as_array().unwrap();
    let listed: Vec<_> =
        outputs.iter().map(|o| (o["kind"].as_str().unwrap(), o["s3"]["key"].as_str().unwrap())).collect();
    assert_eq!(
        listed,
        [("mask", "jobs/42/Zoë.mask.png"), ("overlay", "jobs/42/Zoë.overlay.jpg"), ("json", "jobs/42/Zoë.json")]
    );
    assert_eq!(store.written(), ["jobs/42/Zoë.mask.png", "jobs/42/Zoë.overlay.jpg", "jobs/42/Zoë.json"]);
    let stored: Value = serde_json::from_slice(&store.body(OUTPUT_BUCKET, "jobs/42/Zoë.json").unwrap()).unwrap();
    assert_eq!((&stored["source"]["bucket"], &stored["source"]["key"]), (&json!(BUCKET), &json!(KEY)));
    assert!(stored["source"]["sha256"].is_string(), "no version was named, so the bytes are");
    assert!(stored.get("timings_ms").is_none() && stored.get("memory").is_none());
}

/// The names that a state machine's `Catch` and `Retry` match, and sentences that say what to change.
#[tokio::test]
async fn direct_failures_have_the_problems_names() {
    let image = event("direct-invoke")["image"].take();
    let store = json!({"bucket": OUTPUT_BUCKET, "key_prefix": "a"});
    for (event, name, word) in [
        (json!({"image": "aGVsbG8="}), "unsupported", "image"),
        (json!({"image": "not base64!"}), "bad_request", "base64"),
        (json!({"image": image, "options": {"output": "mask"}}), "bad_request", "`store`"),
        (json!({"image": image, "options": {"outptu": "mask"}}), "bad_request", "outptu"),
        (json!({"image": image, "store": {"bucket": OUTPUT_BUCKET, "key_prefix": "a/"}}), "bad_request", "key_prefix"),
        (json!({"s3": {"bucket": BUCKET, "key": "gone.jpg"}, "store": store}), "no_object", "gone.jpg"),
        (json!({"picture": "x"}), "bad_request", "S3 notification"),
    ] {
        let failure = invoke(&over(&MemoryStore::with(BUCKET, KEY, photo())), &event).await.unwrap_err();
        assert_eq!(failure.name, name, "{failure}");
        assert!(failure.sentence.contains(word), "{failure}");
    }
}

#[tokio::test]
async fn a_test_event_is_nothing_to_do() {
    let answer = invoke(&without_store(), &event("s3-test-event")).await.unwrap();
    assert_eq!(answer, json!({"records": []}));
}

/// `m2fp invoke` and the function are the same dispatcher: an event in a file goes the same way.
#[tokio::test]
async fn an_event_file_is_invoked_without_lambda() {
    let events = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("events");
    m2fp::cli::invoke::invoke(without_store(), &events.join("direct-invoke.json")).await.unwrap();
    assert!(m2fp::cli::invoke::invoke(without_store(), &events.join("none.json")).await.is_err());
}
