//! Uploads of photos that no request can carry, on real S3 servers: s3s-fs checks signatures (moto does not), moto is
//! reached as `m2fp serve` with `M2FP_S3_ENDPOINT` reaches it.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use m2fp::delivery::settle::{self, Done, Order};
use m2fp::http::App;
use m2fp::pipeline::Pipeline;
use m2fp::store::s3::S3Store;
use m2fp::store::{NewObject, ObjectRef, ObjectStore, Standing};
use serde_json::{Value, json};

use crate::support::http as http_support;
use crate::support::http::{MemoryStore, config, context, json_of, photo, pipeline, send};
use crate::support::s3_servers::{FileServer, Moto};

const BUCKET: &str = "m2fp-uploads";
const JSON: (&str, &str) = ("content-type", "application/json");

fn app(store: Arc<dyn ObjectStore>) -> App {
    App::local(pipeline(&[("UPLOAD_BUCKET", BUCKET)], Some(store)))
}

async fn ask(app: &App, content_type: &str, bytes: usize) -> Value {
    let wish = json!({"content_type": content_type, "bytes": bytes}).to_string();
    let response = send(app, "POST /uploads", &[JSON], wish).await;
    assert_eq!(response.status(), StatusCode::OK, "{response:?}");
    assert_eq!(http_support::header(&response, "cache-control"), Some("private, no-store"));
    json_of(&response)
}

/// Sends the signed request as any client would; the status.
async fn put(url: &str, content_type: &str, body: Bytes) -> u16 {
    request("PUT", url, content_type, body).await
}

async fn request(method: &'static str, url: &str, content_type: &str, body: Bytes) -> u16 {
    let request = http::Request::builder().method(method).uri(url).header("content-type", content_type);
    let request = request.body(body.to_vec()).unwrap();
    let send = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        agent.run(request).unwrap().status().as_u16()
    };
    tokio::task::spawn_blocking(send).await.unwrap()
}

/// The upload and what comes of it.
async fn upload_and_parse(app: &App) {
    let photo = photo(80, 50);
    let answer = ask(app, "image/png", photo.len()).await;
    let upload = &answer["upload"];
    assert_eq!((&upload["method"], &upload["expires_s"]), (&json!("PUT"), &json!(900)));
    let headers = json!({"content-type": "image/png", "content-length": photo.len().to_string()});
    assert_eq!(upload["headers"], headers);
    assert_eq!(put(upload["url"].as_str().unwrap(), "image/png", photo).await, 200);
    let parsed = send(app, "POST /parse", &[JSON], answer["parse"].to_string()).await;
    assert_eq!(parsed.status(), StatusCode::OK);
    assert!(parsed.body().starts_with(b"\x89PNG"));
}

#[tokio::test]
async fn a_photo_is_uploaded_and_parsed() {
    let server = FileServer::start(&[BUCKET]).await;
    upload_and_parse(&app(Arc::new(server.store()))).await;
    let keys = server.keys(BUCKET);
    assert!(keys.iter().any(|key| key.starts_with("uploads/")), "{keys:?}");

    let moto = Moto::start();
    let store = moto.store();
    // A bucket is made by putting nothing at its name.
    assert_eq!(put(&format!("{}/{BUCKET}", moto.endpoint()), "text/plain", Bytes::new()).await, 200);
    upload_and_parse(&app(Arc::new(store))).await;
}

#[tokio::test]
async fn what_was_not_signed_is_refused() {
    let server = FileServer::start(&[BUCKET]).await;
    let app = app(Arc::new(server.store()));
    let photo = photo(80, 50);
    let answer = ask(&app, "image/png", photo.len()).await;
    let url = answer["upload"]["url"].as_str().unwrap();
    assert!(url.contains("X-Amz-Expires=900"), "{url}");
    assert!(url.contains("X-Amz-SignedHeaders=content-length%3Bcontent-type%3Bhost"), "{url}");

    let longer = Bytes::from([&photo[..], b"x"].concat());
    assert_eq!(put(url, "image/png", longer).await, 403);
    assert_eq!(put(url, "image/png", photo.slice(1..)).await, 403);
    assert_eq!(put(url, "text/html", photo.clone()).await, 403);
    let key = answer["parse"]["s3"]["key"].as_str().unwrap();
    for changed in [
        url.replace(key, "uploads/another"),
        url.replace(key, "masks/a.jpg.json"),
        url.replace("X-Amz-Expires=900", "X-Amz-Expires=90000"),
    ] {
        assert_ne!(changed, url);
        assert_eq!(put(&changed, "image/png", photo.clone()).await, 403, "{changed}");
    }
    assert_eq!(request("GET", url, "image/png", Bytes::new()).await, 403);
    assert_eq!(request("DELETE", url, "image/png", Bytes::new()).await, 403);
    assert_eq!(server.keys(BUCKET), [""; 0]);
    // And it was the changes that were refused.
    assert_eq!(put(url, "image/png", photo).await, 200);
}

#[tokio::test]
async fn without_a_bucket_uploads_are_not_served() {
    let app = http_support::app(&[]);
    let wish = r#"{"content_type": "image/png", "bytes": 1}"#;
    let response = send(&app, "POST /uploads", &[JSON], wish).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(json_of(&response)["code"], "no_uploads");
    assert_eq!(json_of(&send(&app, "GET /info", &[], "").await)["uploads"], Value::Null);
}

#[tokio::test]
async fn info_says_how_large_uploads_may_be() {
    let settings = [("UPLOAD_BUCKET", BUCKET), ("MAX_OBJECT_BYTES", "15000000"), ("UPLOAD_EXPIRES_S", "60")];
    let pipeline = pipeline(&settings, Some(Arc::new(MemoryStore::default())));
    let info = json_of(&send(&m2fp::lambda::app(Arc::clone(&pipeline)), "GET /info", &[], "").await);
    assert_eq!(info["uploads"], json!({"max_bytes": 15_000_000, "expires_s": 60}));
    // What a request of Lambda carries, so that a page knows when to upload.
    let carried = info["limits"]["max_body_bytes"].as_u64().unwrap();
    assert!((4_500_000..4_718_667).contains(&carried), "{carried}");
    let wish = r#"{"content_type": "image/png", "bytes": 15000001}"#;
    let refused = send(&m2fp::lambda::app(pipeline), "POST /uploads", &[JSON], wish).await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn an_upload_that_never_came_is_not_found() {
    let server = FileServer::start(&[BUCKET]).await;
    let app = app(Arc::new(server.store()));
    let answer = ask(&app, "image/png", 1).await;
    let parsed = send(&app, "POST /parse", &[JSON], answer["parse"].to_string()).await;
    assert_eq!((parsed.status(), &json_of(&parsed)["code"]), (StatusCode::NOT_FOUND, &json!("no_object")));
}

/// Where uploads share the bucket that the S3 trigger watches, they are parsed once: by `/parse`.
#[tokio::test]
async fn s3_events_pass_over_uploads() {
    let store = Arc::new(MemoryStore::default());
    let settings = [("UPLOAD_BUCKET", BUCKET), ("OUTPUT_BUCKET", "m2fp-masks")];
    let pipeline: Arc<Pipeline> = pipeline(&settings, Some(Arc::clone(&store) as Arc<dyn ObjectStore>));
    for (key, expected) in [("uploads/0123", Done::Passed), ("photos/0123", Done::Stored)] {
        let object = NewObject {
            bucket: BUCKET.to_owned(),
            key: key.to_owned(),
            body: photo(80, 50),
            content_type: "image/png",
            metadata: std::collections::BTreeMap::new(),
        };
        store.put(object, &Standing::Whatever).await.unwrap();
        let at = ObjectRef { bucket: BUCKET.to_owned(), key: key.to_owned(), version_id: None, etag: None };
        let order = Order::configured(&pipeline.config).unwrap();
        assert_eq!(settle::process(&pipeline.begin(&context()), &at, &order).await.unwrap(), expected, "{key}");
    }
}

/// The client behind the port is made by the first request that needs it: a function without a reachable store signs all
/// the same.
#[tokio::test]
async fn signing_asks_nobody() {
    let app = app(Arc::new(S3Store::with_keys("http://127.0.0.1:1", "key", "secret")));
    let answer = ask(&app, "image/jpeg", 12_345_678).await;
    assert!(answer["upload"]["url"].as_str().unwrap().starts_with("http://127.0.0.1:1/m2fp-uploads/uploads/"));
}

#[test]
fn a_signed_request_does_not_show_its_url() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = S3Store::with_keys("http://127.0.0.1:1", "key", "secret");
    let upload = m2fp::store::UploadTerms { bucket: BUCKET, key: "uploads/a", content_type: "image/png", bytes: 1 };
    let signed = runtime.block_on(store.presign_put(upload, config(&[]).upload_expires)).unwrap();
    assert!(signed.url.expose().contains("X-Amz-Signature="));
    assert!(!format!("{signed:?}").contains("Signature"));
}
