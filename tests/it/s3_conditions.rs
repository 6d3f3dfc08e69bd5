//! Conditions and versions, against a server that honours them (moto).

use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{BucketVersioningStatus, StorageClass, VersioningConfiguration};
use bytes::Bytes;
use m2fp::error::Error;
use m2fp::store::{NewObject, ObjectRef, ObjectStore, Standing};
use serde_json::{Value, json};

use crate::support::events::{BUCKET, KEY, OUTPUT_BUCKET, event, invoke, photo};
use crate::support::http::pipeline;
use crate::support::s3_servers::Moto;

/// What uploads and looks, beside the function.
struct User {
    client: Client,
}

impl User {
    async fn of(moto: &Moto) -> Self {
        let user = Self { client: moto.client() };
        for bucket in [BUCKET, OUTPUT_BUCKET] {
            user.client.create_bucket().bucket(bucket).send().await.unwrap();
        }
        user
    }

    async fn keep_versions(&self, bucket: &str) {
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        self.client.put_bucket_versioning().bucket(bucket).versioning_configuration(enabled).send().await.unwrap();
    }

    /// Uploads the events' photo, with bytes after its end that make it another; the object of S3's event.
    async fn upload(&self, tail: &str) -> Value {
        let body = Bytes::from([&photo()[..], tail.as_bytes()].concat());
        let put = self.client.put_object().bucket(BUCKET).key(KEY).body(body.into()).send().await.unwrap();
        let mut object = event("s3-put")["Records"][0]["s3"]["object"].take();
        object["eTag"] = json!(put.e_tag().unwrap().trim_matches('"'));
        if let Some(version) = put.version_id() {
            object["versionId"] = json!(version);
        }
        object
    }

    async fn report(&self) -> Option<Value> {
        let get = self.client.get_object().bucket(OUTPUT_BUCKET).key(format!("masks/{KEY}.json")).send().await.ok()?;
        Some(serde_json::from_slice(&get.body.collect().await.unwrap().into_bytes()).unwrap())
    }
}

fn notification(object: &Value) -> Value {
    let mut event = event("s3-put");
    event["Records"][0]["s3"]["object"] = object.clone();
    event
}

/// S3 says 403 for an archived object, too, but no permission would help.
#[tokio::test]
async fn an_object_in_glacier_is_archived() {
    let moto = Moto::start();
    let user = User::of(&moto).await;
    let mut event: Value = serde_json::from_str(include_str!("../data/cases/17-s3-glacier.json")).unwrap();
    for class in [StorageClass::Glacier, StorageClass::DeepArchive] {
        let put = user.client.put_object().bucket(BUCKET).key("cold.jpg").body(photo().into()).storage_class(class);
        put.send().await.unwrap();
        event["Records"][0]["s3"]["bucket"]["name"] = json!(BUCKET);
        let pipeline = pipeline(&[("OUTPUT_BUCKET", OUTPUT_BUCKET)], Some(Arc::new(moto.store())));
        let record = invoke(&pipeline, &event).await.unwrap()["records"][0].take();
        assert_eq!((&record["result"], &record["code"]), (&json!("refused"), &json!("archived")));
        assert!(record["detail"].as_str().unwrap().contains("restore it first"), "{record}");
    }
}

/// What becomes of the only record of a notification.
async fn deliver(moto: &Moto, object: &Value) -> Value {
    let pipeline = pipeline(&[("OUTPUT_BUCKET", OUTPUT_BUCKET)], Some(Arc::new(moto.store())));
    invoke(&pipeline, &notification(object)).await.unwrap()["records"][0]["result"].take()
}

#[tokio::test]
async fn an_event_that_was_overtaken_finds_the_new_photo() {
    let moto = Moto::start();
    let user = User::of(&moto).await;
    let old = user.upload("old").await;
    let new = user.upload("new").await;
    assert_eq!(deliver(&moto, &old).await, "stored");
    assert_eq!(deliver(&moto, &new).await, "stored-before");
    // Deliveries repeat and come out of order.
    assert_eq!(deliver(&moto, &old).await, "overtaken");
    assert_eq!(deliver(&moto, &new).await, "stored-before");
    let report = user.report().await.unwrap();
    assert_eq!(report["source"]["etag"], format!("\"{}\"", new["eTag"].as_str().unwrap()));
}

#[tokio::test]
async fn an_old_version_can_be_read_and_is_not_parsed() {
    let moto = Moto::start();
    let user = User::of(&moto).await;
    user.keep_versions(BUCKET).await;
    user.keep_versions(OUTPUT_BUCKET).await;
    let old = user.upload("").await;
    assert_eq!(deliver(&moto, &old).await, "stored");
    // The same bytes, so the same ETag: the version alone tells.
    let new = user.upload("").await;
    assert_eq!(old["eTag"], new["eTag"]);
    assert_eq!(deliver(&moto, &old).await, "stored");
    assert_eq!(deliver(&moto, &old).await, "overtaken");
    assert_eq!(deliver(&moto, &new).await, "stored-before");
    assert_eq!(user.report().await.unwrap()["source"]["version_id"], new["versionId"]);
    user.client.delete_object().bucket(BUCKET).key(KEY).send().await.unwrap();
    assert_eq!(deliver(&moto, &new).await, "gone");

    let versions = user.client.list_object_versions().bucket(OUTPUT_BUCKET).send().await.unwrap();
    let marked: Vec<_> = versions.delete_markers().iter().filter_map(|marker| marker.key()).collect();
    assert_eq!(marked, [format!("masks/{KEY}.json")], "the withdrawn report is all that was ever deleted");
}

/// What [`m2fp::delivery::record`] rests on: a write takes place over what was seen, and over nothing else.
#[tokio::test]
async fn writes_and_deletes_are_conditional() {
    let moto = Moto::start();
    User::of(&moto).await;
    let store = moto.store();
    let at = ObjectRef { bucket: OUTPUT_BUCKET.to_owned(), key: "a b.png".to_owned(), version_id: None, etag: None };
    let put = async |body: &'static str, over: Standing| {
        let object = NewObject {
            bucket: at.bucket.clone(),
            key: at.key.clone(),
            body: Bytes::from_static(body.as_bytes()),
            content_type: "image/png",
            metadata: [("m2fp".to_owned(), body.to_owned())].into(),
        };
        store.put(object, &over).await.unwrap()
    };
    let etag = async || Standing::ETag(store.head(&at).await.unwrap().etag.unwrap());
    let none = Standing::ETag("\"0123\"".to_owned());
    assert!(!put("one", none.clone()).await, "nothing stands");
    assert!(put("one", Standing::Nothing).await);
    let one = etag().await;
    assert!(!put("two", Standing::Nothing).await && !put("two", none.clone()).await);
    assert!(put("two", one.clone()).await);
    assert!(!put("three", one.clone()).await, "it was replaced");
    assert!(put("three", Standing::Whatever).await);
    assert_eq!(&*store.get(&at, 100).await.unwrap().body, b"three");
    assert_eq!(store.head(&at).await.unwrap().metadata["m2fp"], "three");

    let delete = async |standing: &Standing| store.delete(&at.bucket, &at.key, standing).await.unwrap();
    assert!(!delete(&one).await && !delete(&none).await);
    assert!(store.head(&at).await.is_ok());
    assert!(delete(&etag().await).await);
    assert!(delete(&one).await, "what is not there is removed");
    assert!(matches!(store.head(&at).await, Err(Error::NoObject { .. })));
}

#[tokio::test]
async fn no_output_bucket_fails_the_invocation() {
    let moto = Moto::start();
    let user = User::of(&moto).await;
    let object = user.upload("").await;
    user.client.delete_bucket().bucket(OUTPUT_BUCKET).send().await.unwrap();
    let pipeline = pipeline(&[("OUTPUT_BUCKET", OUTPUT_BUCKET)], Some(Arc::new(moto.store())));
    let failure = invoke(&pipeline, &notification(&object)).await.unwrap_err();
    assert_eq!(failure.name, "no_object", "{failure}");
}

#[tokio::test]
async fn the_adapter_tells_conditions_and_versions() {
    let moto = Moto::start();
    let user = User::of(&moto).await;
    user.keep_versions(BUCKET).await;
    let old = user.upload("old").await;
    let new = user.upload("new").await;
    let store = moto.store();
    let at = |version: Option<&Value>, etag: Option<&Value>| ObjectRef {
        bucket: BUCKET.to_owned(),
        key: KEY.to_owned(),
        version_id: version.map(|v| v.as_str().unwrap().to_owned()),
        etag: etag.map(|e| format!("\"{}\"", e.as_str().unwrap())),
    };
    assert!(matches!(store.head(&at(None, Some(&old["eTag"]))).await, Err(Error::Overtaken)));
    assert!(matches!(store.get(&at(None, Some(&old["eTag"])), 1 << 20).await, Err(Error::Overtaken)));
    let pinned = at(Some(&old["versionId"]), Some(&old["eTag"]));
    assert!(store.get(&pinned, 1 << 20).await.unwrap().body.ends_with(b"old"));
    assert!(store.get(&at(None, Some(&new["eTag"])), 1 << 20).await.unwrap().body.ends_with(b"new"));
    let no_version = at(Some(&json!("00000000-0000-0000-0000-000000000000")), None);
    for gone in [at(Some(&json!("no-version")), None), no_version] {
        let read = store.get(&gone, 1 << 20).await;
        assert!(matches!(read, Err(Error::NoObject { .. })), "{read:?}");
        assert!(matches!(store.head(&gone).await, Err(Error::NoObject { .. })));
    }
}
