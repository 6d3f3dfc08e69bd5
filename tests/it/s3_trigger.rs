//! Uploads and what they leave, against an S3 server that checks signatures (s3s-fs, in process).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use m2fp::error::{Error, Limit};
use m2fp::pipeline::Pipeline;
use m2fp::store::s3::S3Store;
use m2fp::store::{NewObject, ObjectRef, ObjectStore, Standing};
use serde_json::{Value, json};

use crate::support::events::{BUCKET, KEY, OUTPUT_BUCKET, event, invoke, photo};
use crate::support::http::pipeline;
use crate::support::s3_servers::{ACCESS_KEY, FileServer};

fn over(store: S3Store) -> Arc<Pipeline> {
    pipeline(&[("OUTPUT_BUCKET", OUTPUT_BUCKET)], Some(Arc::new(store)))
}

fn at(bucket: &str, key: &str) -> ObjectRef {
    ObjectRef { bucket: bucket.to_owned(), key: key.to_owned(), version_id: None, etag: None }
}

async fn upload(store: &S3Store, key: &str, body: Bytes) {
    let object = NewObject {
        bucket: BUCKET.to_owned(),
        key: key.to_owned(),
        body,
        content_type: "image/jpeg",
        metadata: BTreeMap::new(),
    };
    assert!(store.put(object, &Standing::Whatever).await.unwrap());
}

/// A notification of an upload as S3 words it, with the key as it stands in events.
fn notification(bucket: &str, key: &str) -> Value {
    let mut event = event("s3-put");
    event["Records"][0]["s3"]["bucket"]["name"] = json!(bucket);
    event["Records"][0]["s3"]["object"] = json!({"key": key, "size": 1});
    event
}

#[tokio::test]
async fn an_upload_leaves_its_masks_in_the_output_bucket() {
    let server = FileServer::start(&[BUCKET, OUTPUT_BUCKET]).await;
    let store = server.store();
    upload(&store, KEY, photo()).await;
    let pipeline = over(server.store());
    // The event as it is: key form-encoded, ETag and size those of the photo.
    let answer = invoke(&pipeline, &event("s3-put")).await.unwrap();
    assert_eq!(answer["records"][0]["result"], "stored");

    let mask = store.get(&at(OUTPUT_BUCKET, &format!("masks/{KEY}.mask.png")), 1 << 20).await.unwrap();
    assert!(mask.body.starts_with(b"\x89PNG"));
    let report = store.get(&at(OUTPUT_BUCKET, &format!("masks/{KEY}.json")), 1 << 20).await.unwrap();
    let report: Value = serde_json::from_slice(&report.body).unwrap();
    assert_eq!(report["source"]["key"], KEY);
    assert_eq!(
        report["source"]["etag"],
        format!("\"{}\"", event("s3-put")["Records"][0]["s3"]["object"]["eTag"].as_str().unwrap())
    );
    assert_eq!(report["outputs"][0]["bytes"], mask.body.len());

    let before = server.keys(OUTPUT_BUCKET);
    let again = invoke(&pipeline, &event("s3-put")).await.unwrap();
    assert_eq!(again["records"][0]["result"], "stored-before", "the stamp came back as it was written");
    assert_eq!(server.keys(OUTPUT_BUCKET), before);
}

#[tokio::test]
async fn outputs_in_the_photos_own_bucket_start_nothing() {
    let server = FileServer::start(&[BUCKET]).await;
    upload(&server.store(), "a b.jpg", photo()).await;
    let pipeline = pipeline(&[], Some(Arc::new(server.store())));
    let answer = invoke(&pipeline, &notification(BUCKET, "a+b.jpg")).await.unwrap();
    assert_eq!(answer["records"][0]["result"], "stored");
    for key in server.keys(BUCKET).iter().filter(|key| key.starts_with("masks/")) {
        let answer = invoke(&pipeline, &notification(BUCKET, &key.replace(' ', "+"))).await.unwrap();
        assert_eq!(answer["records"][0]["result"], "passed", "{key}");
    }
}

#[tokio::test]
async fn a_bad_image_leaves_its_reason() {
    let server = FileServer::start(&[BUCKET, OUTPUT_BUCKET]).await;
    let store = server.store();
    upload(&store, "a.jpg", Bytes::from_static(b"no image")).await;
    let pipeline = over(server.store());
    let answer = invoke(&pipeline, &notification(BUCKET, "a.jpg")).await.unwrap();
    assert_eq!(
        (&answer["records"][0]["result"], &answer["records"][0]["code"]),
        (&json!("refused"), &json!("unsupported"))
    );
    assert!(store.head(&at(OUTPUT_BUCKET, "masks/a.jpg.error.json")).await.is_ok());
    upload(&store, "a.jpg", photo()).await;
    invoke(&pipeline, &notification(BUCKET, "a.jpg")).await.unwrap();
    let gone = store.head(&at(OUTPUT_BUCKET, "masks/a.jpg.error.json")).await;
    assert!(matches!(gone, Err(Error::NoObject { .. })));
}

#[tokio::test]
async fn what_is_gone_ends_quietly() {
    let server = FileServer::start(&[BUCKET]).await;
    for (bucket, key) in [(BUCKET, "gone.jpg"), ("no-such-bucket", "a.jpg")] {
        let answer = invoke(&over(server.store()), &notification(bucket, key)).await.unwrap();
        assert_eq!(answer["records"][0]["result"], "gone");
    }
}

#[tokio::test]
async fn no_permission_fails_the_invocation_and_leaks_nothing() {
    let server = FileServer::start(&[BUCKET, OUTPUT_BUCKET]).await;
    upload(&server.store(), "a.jpg", photo()).await;
    let wrong = S3Store::with_keys(&server.endpoint(), ACCESS_KEY, "not-the-secret");
    let failure = invoke(&over(wrong), &notification(BUCKET, "a.jpg")).await.unwrap_err();
    assert_eq!(failure.name, "forbidden");
    assert!(!failure.sentence.contains("secret") && !failure.sentence.contains(ACCESS_KEY));
    assert!(server.keys(OUTPUT_BUCKET).is_empty());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_worth_another_try() {
    // Bound and not accepted from, then closed: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let store = S3Store::with_keys(&format!("http://127.0.0.1:{port}"), ACCESS_KEY, "x");
    let failure = invoke(&over(store), &notification(BUCKET, "a.jpg")).await.unwrap_err();
    assert_eq!(failure.name, "storage");
}

#[tokio::test]
async fn the_adapter_keeps_the_ports_promises() {
    let server = FileServer::start(&[BUCKET]).await;
    let store = server.store();
    upload(&store, KEY, Bytes::from_static(b"12345")).await;
    let here = at(BUCKET, KEY);
    assert_eq!(&*store.get(&here, 5).await.unwrap().body, b"12345");
    assert!(matches!(store.get(&here, 4).await, Err(Error::TooLarge { limit: Limit::Body, .. })));
    // What is large goes through a temporary file.
    let large: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    upload(&store, "large", large.clone().into()).await;
    assert!(*store.get(&at(BUCKET, "large"), 4_000_000).await.unwrap().body == *large);
    // This server ignores `If-Match`: the ETag that comes back is compared.
    let other = ObjectRef { etag: Some("\"0123\"".to_owned()), ..here.clone() };
    assert!(matches!(store.get(&other, 5).await, Err(Error::Overtaken)));
    assert!(matches!(store.head(&other).await, Err(Error::Overtaken)));
    assert!(matches!(store.get(&at("no-such-bucket", "k"), 5).await, Err(Error::NoObject { .. })));
    let link = store.presign_get(BUCKET, KEY, Duration::from_mins(1)).await.unwrap();
    let read = tokio::task::spawn_blocking(move || {
        ureq::get(link.expose()).call().unwrap().body_mut().read_to_string().unwrap()
    });
    assert_eq!(read.await.unwrap(), "12345");
    assert!(store.delete(BUCKET, KEY, &Standing::Whatever).await.unwrap());
    assert!(store.delete(BUCKET, KEY, &Standing::Whatever).await.unwrap());
    assert!(matches!(store.head(&here).await, Err(Error::NoObject { .. })));
}
