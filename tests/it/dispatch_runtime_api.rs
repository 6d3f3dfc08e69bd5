//! The Lambda binary under a Runtime API that hands out several invocations at once and takes streamed answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::future::join_all;
use m2fp::geometry::Size;
use m2fp::store::{NewObject, ObjectStore, Standing};
use serde_json::{Value, json};

use crate::support::events::{BUCKET, OUTPUT_BUCKET, event, photo};
use crate::support::http;
use crate::support::lambda_runtime_api::{Function, RuntimeApi};
use crate::support::s3_servers::{ACCESS_KEY, FileServer, SECRET_KEY};

/// Of an invocation; nothing here takes nearly as long.
const TIMEOUT: Duration = Duration::from_mins(5);
const MEMORY_MB: u64 = 1769;
const MIB: u64 = 1 << 20;

/// The tracing header of an invocation.
fn trace_id(id: &str) -> String {
    format!("Root=1-5759e988-bd862e3fe1be46a994272793;Parent={id};Sampled=1")
}

/// A request of a gateway with this photo.
fn request(name: &str, query: &str, photo: &[u8]) -> Value {
    let mut event = event(name);
    event["body"] = BASE64_STANDARD.encode(photo).into();
    event["headers"]["content-type"] = "application/octet-stream".into();
    event["rawQueryString"] = query.into();
    let parameters: BTreeMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    event["queryStringParameters"] = json!(parameters);
    if let Some(object) = event.as_object_mut() {
        object.remove("multiValueQueryStringParameters");
    }
    event
}

/// The astronaut at another size, grainy, so that its pixels do not compress.
fn grainy(side: u32) -> Vec<u8> {
    let png = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime/photos/astronaut.png"));
    let png = png.expect("`make runtime` fetches the photo");
    let header = m2fp::image::header::read(&png, u64::MAX).unwrap();
    let mut rgb = m2fp::image::decode::resized(&png.into(), &header, Size::new(side, side)).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    rgb.data.iter_mut().for_each(|value| *value = value.saturating_add(random.u8(0..64)));
    let mut jpeg = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    jpeg.set_size(side as usize, side as usize);
    jpeg.set_quality(85.0);
    let mut writer = jpeg.start_compress(Vec::new()).unwrap();
    writer.write_scanlines(&rgb.data).unwrap();
    writer.finish().unwrap()
}

#[tokio::test]
async fn several_invocations_at_once_keep_to_themselves() {
    let s3 = FileServer::start(&[BUCKET, OUTPUT_BUCKET]).await;
    let endpoint = s3.endpoint();
    let api = RuntimeApi::start(TIMEOUT).await;
    let settings = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("M2FP_S3_ENDPOINT", endpoint.as_str()),
        ("M2FP_OUTPUT_BUCKET", OUTPUT_BUCKET),
        ("M2FP_MAX_WAIT_MS", "300000"),
    ];
    let function = Function::start(&api, MEMORY_MB, Some(8), &settings);
    // Requests of different sizes, photos that S3 and a queue name, and one that fails.
    let mut events: BTreeMap<String, Value> = BTreeMap::new();
    for width in [100, 200, 300] {
        let photo = http::photo(width, 90);
        events.insert(format!("url-{width}"), request("function-url", "output=json", &photo));
        events.insert(format!("direct-{width}"), json!({"image": BASE64_STANDARD.encode(&photo)}));
    }
    for name in ["s3-put", "sqs-s3"] {
        for key in ["a", "b"] {
            let object = NewObject {
                bucket: BUCKET.to_owned(),
                key: format!("{name}-{key}.jpg"),
                body: photo(),
                content_type: "image/jpeg",
                metadata: BTreeMap::new(),
            };
            assert!(s3.store().put(object, &Standing::Whatever).await.unwrap());
            let mut notification = event("s3-put");
            notification["Records"][0]["s3"]["bucket"]["name"] = BUCKET.into();
            notification["Records"][0]["s3"]["object"] = json!({"key": format!("{name}-{key}.jpg"), "size": 1});
            if name == "sqs-s3" {
                let mut queued = event(name);
                queued["Records"].as_array_mut().unwrap().truncate(1);
                queued["Records"][0]["body"] = notification.to_string().into();
                notification = queued;
            }
            events.insert(format!("{name}-{key}"), notification);
        }
    }
    events.insert("direct-bad".to_owned(), json!({"image": BASE64_STANDARD.encode("no image")}));

    let traces: Vec<_> = events.keys().map(|id| trace_id(id)).collect();
    let traced = events.iter().zip(&traces);
    let answers = join_all(traced.map(|((id, event), trace)| api.invoke_traced(id, Some(trace), event))).await;
    for (id, answer) in events.keys().zip(&answers) {
        let json = answer.json();
        assert_eq!(answer.failed, id == "direct-bad", "{id}: {json}");
        let width = id.rsplit('-').next().and_then(|width| width.parse::<u64>().ok());
        if id.starts_with("url") {
            assert_eq!((&json["statusCode"], &json["headers"]["x-request-id"]), (&json!(200), &json!(id)));
            let report: Value = serde_json::from_str(json["body"].as_str().unwrap()).unwrap();
            assert_eq!(report["image"]["width"].as_u64(), width, "{id}");
        } else if let Some(width) = width {
            assert_eq!(json["image"]["width"], width, "{id}");
        } else if id.starts_with("s3-put") {
            assert_eq!(json["records"][0]["result"], "stored", "{id}: {json}");
        } else if id.starts_with("sqs") {
            assert_eq!(json["batchItemFailures"], json!([]), "{id}");
        }
    }
    assert_eq!(api.most_at_once(), 8);
    for id in events.keys().filter(|id| id.starts_with('s')) {
        assert!(s3.keys(OUTPUT_BUCKET).contains(&format!("masks/{id}.jpg.json")), "{id}");
        let traces: Vec<_> = s3.traces().into_iter().filter(|(path, _)| path.contains(id.as_str())).collect();
        assert!(traces.len() >= 3, "{id}: read, mask and report, {traces:?}");
        assert!(traces.iter().all(|(_, trace)| *trace == trace_id(id)), "{id}: {traces:?}");
    }
    assert!(function.peak_bytes() < MEMORY_MB * MIB);
}

#[tokio::test]
async fn without_the_variable_invocations_come_one_after_the_other() {
    let api = RuntimeApi::start(TIMEOUT).await;
    let _function = Function::start(&api, MEMORY_MB, None, &[]);
    let event = json!({"image": BASE64_STANDARD.encode(photo())});
    let answers = join_all(["1", "2", "3"].map(|id| api.invoke(id, &event))).await;
    assert!(answers.iter().all(|answer| !answer.failed && answer.json()["image"]["width"].is_u64()));
    assert_eq!(api.most_at_once(), 1);
}

/// The largest events that Lambda carries, more at once than would fit if only their photos were counted.
#[tokio::test]
async fn large_events_at_once_stay_within_the_memory() {
    const MEMORY_MB: u64 = 512;
    const EVENTS: u32 = 8;
    let api = RuntimeApi::start(TIMEOUT).await;
    let function = Function::start(&api, MEMORY_MB, Some(EVENTS), &[("M2FP_MAX_WAIT_MS", "300000")]);
    // Whatever follows a PNG's end is not read, but carried.
    let mut photo = http::photo(640, 480).to_vec();
    photo.resize(4_500_000, 0);
    let event = request("apigw-http", "output=mask", &photo).to_string();
    assert!(event.len() > 6_000_000);
    let ids: Vec<_> = (0..EVENTS).map(|n| n.to_string()).collect();
    let answers = join_all(ids.iter().map(|id| api.invoke(id, &event))).await;
    assert!(answers.iter().all(|answer| answer.json()["statusCode"] == 200), "{answers:?}");
    assert_eq!(api.most_at_once(), EVENTS as usize);
    let peak = function.peak_bytes();
    assert!(peak < MEMORY_MB * MIB, "{} MB", peak / MIB);
}

#[tokio::test]
async fn answers_over_6_mb_are_streamed_where_the_door_does() {
    let api = RuntimeApi::start(TIMEOUT).await;
    let function = Function::start(&api, MEMORY_MB, None, &[("M2FP_RESPONSE_STREAM", "on")]);
    let photo = grainy(3000);
    let cutout = |name: &str| request(name, "output=cutout", &photo);

    let answer = api.invoke("1", cutout("function-url")).await;
    let (head, body) = answer.stream();
    assert_eq!((&head["statusCode"], &head["headers"]["content-type"]), (&json!(200), &json!("image/png")));
    assert_eq!(head["headers"]["x-request-id"], "1");
    assert!(body.len() > 6_291_556 && answer.pieces > 50, "{} bytes in {} pieces", body.len(), answer.pieces);
    let png = png::Decoder::new(std::io::Cursor::new(&body)).read_info().unwrap();
    assert_eq!((png.info().width, png.info().height), (3000, 3000));
    let rest: (Value, Bytes) = api.invoke("2", cutout("apigw-rest")).await.stream();
    assert!(rest.1 == body, "a REST API's is the same");

    // A failure of HTTP is streamed as well, and what has no body.
    let (head, body) = api.invoke("3", request("function-url", "output=nothing", &photo)).await.stream();
    assert_eq!(
        (&head["statusCode"], &head["headers"]["content-type"]),
        (&json!(400), &json!("application/problem+json"))
    );
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["status"], 400);
    let mut head_request = event("apigw-rest-page");
    head_request["httpMethod"] = "HEAD".into();
    let (head, body) = api.invoke("4", head_request).await.stream();
    assert_eq!((&head["statusCode"], body.len()), (&json!(200), 0));

    // These doors take no streams: their answers have 6 MB.
    for name in ["alb", "apigw-http", "lattice"] {
        assert_eq!(api.invoke(name, cutout(name)).await.json()["statusCode"], 413, "{name}");
    }
    let report = api.invoke("5", event("direct-invoke")).await.json();
    assert!(report["image"]["width"].is_u64());
    assert!(function.peak_bytes() < MEMORY_MB * MIB);
}

#[tokio::test]
async fn without_the_setting_no_answer_is_streamed() {
    let api = RuntimeApi::start(TIMEOUT).await;
    let _function = Function::start(&api, MEMORY_MB, None, &[]);
    let answer = api.invoke("1", event("function-url")).await;
    assert_eq!((answer.streamed, &answer.json()["statusCode"]), (false, &json!(200)));
}
