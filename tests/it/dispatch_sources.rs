//! The doors whose events name objects: S3 notifications, EventBridge, SQS, S3 Batch Operations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use m2fp::pipeline::Pipeline;
use serde_json::{Value, json};

use crate::support::events::{BUCKET, KEY, OUTPUT_BUCKET, event, invoke, invoke_until, photo};
use crate::support::http::{MemoryStore, pipeline};
use crate::support::memory_store::Failing;
use crate::support::metrics::{Lines, counted};

/// A bucket with the events' photo, a second one, and one that is no image.
fn bucket() -> (Arc<Pipeline>, Arc<MemoryStore>) {
    let store = MemoryStore::with(BUCKET, KEY, photo());
    store.add(BUCKET, "b.jpg", photo());
    store.add(BUCKET, "text.jpg", Bytes::from_static(b"no image"));
    (pipeline(&[("OUTPUT_BUCKET", OUTPUT_BUCKET)], Some(store.clone())), store)
}

fn stored(store: &MemoryStore, stem: &str) -> [bool; 3] {
    [".mask.png", ".json", ".error.json"].map(|end| store.body(OUTPUT_BUCKET, &format!("{stem}{end}")).is_some())
}

/// Of a photo that was parsed; of one that was refused; of neither.
const PARSED: [bool; 3] = [true, true, false];
const REFUSED: [bool; 3] = [false, false, true];
const NOTHING: [bool; 3] = [false, false, false];

/// An S3 notification with these keys, as they stand in events.
fn notification(keys: &[&str]) -> Value {
    let template = event("s3-put")["Records"][0].take();
    let record = |key: &&str| {
        let mut record = template.clone();
        record["s3"]["object"] = json!({"key": key, "size": 1});
        record
    };
    json!({"Records": keys.iter().map(record).collect::<Vec<_>>()})
}

fn event_bridge(key: &str) -> Value {
    let mut event = event("eventbridge");
    event["detail"]["object"] = json!({"key": key, "size": 1});
    event
}

/// Messages by their ids.
fn messages(bodies: &[(&str, String)]) -> Value {
    let template = event("sqs-s3")["Records"][0].take();
    let message = |(id, body): &(&str, String)| {
        let mut message = template.clone();
        message["messageId"] = json!(id);
        message["body"] = json!(body);
        message
    };
    json!({"Records": bodies.iter().map(message).collect::<Vec<_>>()})
}

fn failed(answer: &Value) -> Vec<&str> {
    let items = answer["batchItemFailures"].as_array().unwrap();
    items.iter().map(|item| item["itemIdentifier"].as_str().unwrap()).collect()
}

/// A Batch Operations invocation with one task for each key, as it stands in manifests.
fn tasks(keys: &[&str], arguments: &Value) -> Value {
    let mut event = event("s3-batch-2.0");
    event["job"]["userArguments"] = arguments.clone();
    let task = |(number, key): (usize, &&str)| json!({"taskId": number.to_string(), "s3Key": key, "s3Bucket": BUCKET});
    event["tasks"] = keys.iter().enumerate().map(task).collect::<Vec<_>>().into();
    event
}

/// Codes and sentences of the results.
fn results(answer: &Value) -> Vec<(&str, &str)> {
    let results = answer["results"].as_array().unwrap();
    results.iter().map(|r| (r["resultCode"].as_str().unwrap(), r["resultString"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn every_source_of_the_folder_leaves_masks_and_a_report() {
    for (name, stem) in [
        ("s3-put", "masks"),
        ("eventbridge", "masks"),
        ("sqs-s3", "masks"),
        ("sqs-eventbridge", "masks"),
        ("sqs-sns", "masks"),
        ("sns-s3", "masks"),
        ("sns-eventbridge", "masks"),
        ("pipes-sqs", "masks"),
        ("s3-batch-1.0", "masks"),
        ("s3-batch-2.0", "jobs/7"),
    ] {
        let (pipeline, store) = bucket();
        let answer = invoke(&pipeline, &event(name)).await.unwrap();
        assert_eq!(stored(&store, &format!("{stem}/{KEY}")), PARSED, "{name}: {answer}");
        assert!(store.body(OUTPUT_BUCKET, &format!("{stem}/{KEY}.overlay.jpg")).is_some() == (name == "s3-batch-2.0"));
        // Delivered again, it is nothing to do.
        let written = store.written().len();
        invoke(&pipeline, &event(name)).await.unwrap();
        assert_eq!(store.written().len(), written, "{name}");
    }
}

/// What is published to a topic beside S3's events is not lost: it fails, after the others were handled.
#[tokio::test]
async fn a_topic_brings_what_s3_says_and_nothing_else() {
    let (pipeline, store) = bucket();
    let template = event("sns-s3")["Records"][0].take();
    let record = |message: &Value| {
        let mut record = template.clone();
        record["Sns"]["Message"] = json!(message.to_string());
        record
    };
    let test = json!({"Records": [record(&event("s3-test-event"))]});
    assert_eq!(invoke(&pipeline, &test).await.unwrap(), json!({"records": []}));
    let both = json!({"Records": [record(&json!({"alarm": 7})), record(&notification(&["b.jpg", "text.jpg"]))]});
    let failure = invoke(&pipeline, &both).await.unwrap_err();
    assert_eq!(failure.name, "bad_request");
    assert_eq!((stored(&store, "masks/b.jpg"), stored(&store, "masks/text.jpg")), (PARSED, REFUSED));
}

/// A pipe's elements: messages, whose failures are named; records, and events that its template picked out of messages.
#[tokio::test]
async fn a_pipe_brings_messages_or_events() {
    let (pipeline, store) = bucket();
    let mut messages =
        messages(&[("good", notification(&["b.jpg"]).to_string()), ("bad", "hello".to_owned())])["Records"].take();
    assert_eq!(failed(&invoke(&pipeline, &messages).await.unwrap()), ["bad"]);
    assert_eq!(stored(&store, "masks/b.jpg"), PARSED);
    // The body as JSON, as a pipe's template may leave it.
    messages[1]["body"] = notification(&["text.jpg"]);
    assert!(failed(&invoke(&pipeline, &messages).await.unwrap()).is_empty());
    assert_eq!(stored(&store, "masks/text.jpg"), REFUSED);

    let (pipeline, store) = bucket();
    let record = notification(&["b.jpg"])["Records"][0].take();
    let piped = json!([event("eventbridge"), record, notification(&["text.jpg"]), event("s3-test-event")]);
    let answer = invoke(&pipeline, &piped).await.unwrap();
    let results: Vec<_> = answer["records"].as_array().unwrap().iter().map(|r| r["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["stored", "stored", "refused"]);
    assert_eq!(stored(&store, "masks/b.jpg"), PARSED);
}

/// Of the sources, each in its own way; of requests, as 409.
#[tokio::test]
async fn an_archived_object_is_named_and_never_a_matter_of_permission() {
    let (pipeline, store) = bucket();
    store.archive(BUCKET, "b.jpg");
    let answer = invoke(&pipeline, &notification(&["b.jpg"])).await.unwrap();
    assert_eq!(
        (&answer["records"][0]["result"], &answer["records"][0]["code"]),
        (&json!("refused"), &json!("archived"))
    );
    assert_eq!(stored(&store, "masks/b.jpg"), REFUSED);
    let answer = invoke(&pipeline, &tasks(&["b.jpg"], &json!(null))).await.unwrap();
    let [(code, sentence)] = results(&answer)[..] else { panic!("{answer}") };
    assert_eq!(code, "PermanentFailure");
    assert!(sentence.starts_with("archived: ") && sentence.contains("restore it first"), "{sentence}");
    let failure = invoke(&pipeline, &json!({"s3": {"bucket": BUCKET, "key": "b.jpg"}})).await.unwrap_err();
    assert_eq!(failure.name, "archived");

    let pipeline = pipeline_with(&store);
    let mut request = event("apigw-http");
    request["headers"]["content-type"] = json!("application/json");
    request["body"] = json!(json!({"s3": {"bucket": BUCKET, "key": "b.jpg"}}).to_string());
    request["isBase64Encoded"] = json!(false);
    assert_eq!(invoke(&pipeline, &request).await.unwrap()["statusCode"], 409);
}

/// A pipeline whose HTTP door may read the events' bucket.
fn pipeline_with(store: &Arc<MemoryStore>) -> Arc<Pipeline> {
    pipeline(&[("OUTPUT_BUCKET", OUTPUT_BUCKET), ("ALLOWED_BUCKETS", BUCKET)], Some(store.clone()))
}

/// The model is loaded and nothing else is done: no object is read, no line of metrics is written.
#[tokio::test]
async fn a_ping_warms_and_is_not_counted() {
    let plugin: Value = serde_json::from_str(include_str!("../data/cases/13-warm-plugin.json")).unwrap();
    for ping in [event("scheduled"), plugin, json!({"warmer": true}), json!({})] {
        let (pipeline, store) = bucket();
        let lines = Lines::default();
        let pipeline = counted(pipeline, &lines);
        assert_eq!(invoke(&pipeline, &ping).await.unwrap(), json!({"warm": true}), "{ping}");
        assert!(lines.ends().is_empty() && store.written().is_empty());
    }
}

/// Whichever operation of the store is the one that fails, from the first look at the photo to the last at the outputs.
#[tokio::test]
async fn each_object_is_counted_once_by_how_it_ended() {
    for name in [
        "s3-put",
        "eventbridge",
        "sqs-s3",
        "sqs-eventbridge",
        "sns-s3",
        "pipes-sqs",
        "s3-batch-1.0",
        "s3-batch-2.0",
        "direct-invoke-s3",
    ] {
        for at_operation in 0.. {
            let (pipeline, store) = bucket();
            let lines = Lines::default();
            let pipeline = counted(pipeline, &lines);
            store.fail(Some((at_operation, Failing::Before)));
            let answer = invoke(&pipeline, &event(name)).await;
            if store.operations() <= at_operation {
                assert!(at_operation > 0 && answer.is_ok(), "{answer:?}");
                assert_eq!(lines.ends(), ["Parsed"], "{name}");
                break;
            }
            assert_eq!(lines.ends(), ["StorageFaults"], "{name}, operation {at_operation}");
        }
    }
}

#[tokio::test]
async fn objects_that_are_not_parsed_are_counted_too() {
    let (pipeline, _) = bucket();
    let lines = Lines::default();
    let pipeline = counted(pipeline, &lines);
    let keys = ["%zz", "b.jpg", "b.jpg", "text.jpg", "gone.jpg", "b.jpg.mask.png"];
    let ends = ["ClientFaults", "Parsed", "Skipped", "ClientFaults", "Overtaken", "Skipped"];
    invoke(&pipeline, &notification(&keys)).await.unwrap_err();
    assert_eq!(lines.ends(), ends);
    invoke(&pipeline, &tasks(&keys, &json!({"output": "instances"}))).await.unwrap();
    assert_eq!(lines.ends(), ends);
    // Arguments that do not fit fail every task.
    invoke(&pipeline, &tasks(&keys, &json!({"score": "much"}))).await.unwrap();
    assert_eq!(lines.ends(), ["ClientFaults"; 6]);
    // Not begun, for lack of time.
    let queued = messages(&[("1", notification(&["b.jpg"]).to_string()), ("2", event_bridge("b.jpg").to_string())]);
    invoke_until(&pipeline, &queued, Instant::now()).await.unwrap();
    assert_eq!(lines.ends(), ["Deadlines"; 2]);
}

#[tokio::test]
async fn records_are_handled_whatever_becomes_of_the_others() {
    let (pipeline, store) = bucket();
    let mut mixed = notification(&["%zz", "b.jpg", "photos/Zo%C3%AB+%2B+friends.jpg", "text.jpg"]);
    mixed["Records"][2]["eventName"] = json!("ObjectRemoved:Delete");
    let failure = invoke(&pipeline, &mixed).await.unwrap_err();
    assert_eq!(failure.name, "bad_request", "{failure}");
    assert_eq!(stored(&store, "masks/b.jpg"), PARSED);
    assert_eq!(stored(&store, "masks/text.jpg"), REFUSED);
    assert_eq!(stored(&store, &format!("masks/{KEY}")), NOTHING);
    let answer = invoke(&pipeline, &notification(&["b.jpg", "text.jpg", "gone.jpg"])).await.unwrap();
    let results: Vec<_> = answer["records"].as_array().unwrap().iter().map(|r| r["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["stored-before", "refused", "gone"]);
    assert_eq!(answer["records"][1]["code"], "unsupported");
}

#[tokio::test]
async fn event_bridge_names_keys_as_they_are() {
    let (pipeline, store) = bucket();
    store.add(BUCKET, "100% a+b.jpg", photo());
    let answer = invoke(&pipeline, &event_bridge("100% a+b.jpg")).await.unwrap();
    assert_eq!(answer["records"][0]["result"], "stored");
    assert_eq!(stored(&store, "masks/100% a+b.jpg"), PARSED);
    let mut deleted = event_bridge("b.jpg");
    deleted["detail-type"] = json!("Object Deleted");
    assert_eq!(invoke(&pipeline, &deleted).await.unwrap()["records"][0]["result"], "passed");
    assert_eq!(stored(&store, "masks/b.jpg"), NOTHING);
}

#[tokio::test]
async fn messages_that_fail_come_again_and_no_others() {
    let (pipeline, store) = bucket();
    let sns = json!({"Type": "Notification", "Message": event_bridge(KEY).to_string()}).to_string();
    let answer = invoke(
        &pipeline,
        &messages(&[
            ("good", notification(&["b.jpg"]).to_string()),
            ("no event", "hello".to_owned()),
            ("empty", String::new()),
            ("an event of another door", event("direct-invoke").to_string()),
            ("bad image", event_bridge("text.jpg").to_string()),
            ("bad key", notification(&["%zz", "text.jpg"]).to_string()),
            ("test", event("s3-test-event").to_string()),
            ("sns", sns),
            ("gone", event_bridge("gone.jpg").to_string()),
        ]),
    )
    .await
    .unwrap();
    assert_eq!(failed(&answer), ["an event of another door", "bad key", "empty", "no event"]);
    assert_eq!(stored(&store, "masks/b.jpg"), PARSED);
    assert_eq!(stored(&store, "masks/text.jpg"), REFUSED);
    assert_eq!(stored(&store, &format!("masks/{KEY}")), PARSED);
}

#[tokio::test]
async fn a_message_delivered_twice_in_a_batch_is_named_once() {
    let (pipeline, _) = bucket();
    let twice = messages(&[("m", "hello".to_owned()), ("m", "hello".to_owned())]);
    assert_eq!(failed(&invoke(&pipeline, &twice).await.unwrap()), ["m"]);
    // A name that stands for a good and a bad message comes again.
    let both = messages(&[("m", "hello".to_owned()), ("m", event("s3-test-event").to_string())]);
    assert_eq!(failed(&invoke(&pipeline, &both).await.unwrap()), ["m"]);
}

/// An answer could not name them, and Lambda would take an empty name for a failure of all.
#[tokio::test]
async fn messages_without_ids_fail_the_batch() {
    let (pipeline, store) = bucket();
    for id in [json!(""), json!(null), json!(7)] {
        let mut batch = messages(&[("a", notification(&["b.jpg"]).to_string())]);
        batch["Records"][0]["messageId"] = id;
        assert_eq!(invoke(&pipeline, &batch).await.unwrap_err().name, "bad_request");
    }
    assert_eq!(stored(&store, "masks/b.jpg"), NOTHING);
}

#[tokio::test]
async fn what_the_time_does_not_do_for_comes_again() {
    let (pipeline, store) = bucket();
    let batch = messages(&[("a", notification(&["b.jpg"]).to_string()), ("b", event_bridge(KEY).to_string())]);
    let over = Instant::now();
    assert_eq!(failed(&invoke_until(&pipeline, &batch, over).await.unwrap()), ["a", "b"]);
    assert!(store.written().is_empty(), "nothing was begun");
    let failure = invoke_until(&pipeline, &event("s3-put"), over).await.unwrap_err();
    assert_eq!(failure.name, "deadline");
    let answer = invoke_until(&pipeline, &event("s3-batch-1.0"), over).await.unwrap();
    assert_eq!(results(&answer)[0].0, "TemporaryFailure");
    let answer = invoke_until(&pipeline, &batch, over + Duration::from_mins(10)).await.unwrap();
    assert!(failed(&answer).is_empty());
}

#[tokio::test]
async fn tasks_have_results_of_their_own() {
    let (pipeline, store) = bucket();
    let keys = [
        "b.jpg",
        "b.jpg",
        "text.jpg",
        "gone.jpg",
        "%zz",
        "a/",
        "masks/x.jpg.mask.png",
        "photos/Zo%C3%AB+%2B+friends.jpg",
    ];
    let invocation = tasks(&keys, &json!(null));
    let answer = invoke(&pipeline, &invocation).await.unwrap();
    assert_eq!(answer["invocationSchemaVersion"], "2.0");
    assert_eq!(answer["invocationId"], invocation["invocationId"]);
    assert_eq!(answer["treatMissingKeysAs"], "PermanentFailure");
    let ids: Vec<_> = answer["results"].as_array().unwrap().iter().map(|r| r["taskId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    let results = results(&answer);
    assert_eq!(results[0], ("Succeeded", "stored"));
    assert_eq!(results[1], ("Succeeded", "stored-before"));
    assert_eq!(results[2].0, "PermanentFailure");
    assert!(results[2].1.starts_with("unsupported: "), "{results:?}");
    assert_eq!(results[3].0, "PermanentFailure");
    assert!(results[3].1.starts_with("gone: "), "{results:?}");
    assert!(results[4].0 == "PermanentFailure" && results[4].1.contains("form-encoded"), "{results:?}");
    assert_eq!((results[5], results[6]), (("Succeeded", "passed"), ("Succeeded", "passed")));
    assert_eq!(results[7], ("Succeeded", "stored"));
    assert_eq!(stored(&store, "masks/text.jpg"), REFUSED);
}

#[tokio::test]
async fn arguments_select_what_is_made_and_where() {
    let (pipeline, store) = bucket();
    let arguments = json!({"output": "instances", "output_bucket": "other-masks", "output_prefix": "x/"});
    let answer = invoke(&pipeline, &tasks(&["b.jpg"], &arguments)).await.unwrap();
    assert_eq!(results(&answer), [("Succeeded", "stored")]);
    assert!(store.body("other-masks", "x/b.jpg.instances.png").is_some());
    let report: Value = serde_json::from_slice(&store.body("other-masks", "x/b.jpg.json").unwrap()).unwrap();
    assert_eq!(report["options"], "output=instances");
    assert_eq!(stored(&store, "masks/b.jpg"), NOTHING);
}

#[tokio::test]
async fn bad_arguments_fail_every_task_before_it_begins() {
    let (pipeline, store) = bucket();
    for arguments in [
        json!({"outputs": "mask"}),
        json!({"output": "face"}),
        json!({"max_side": "many"}),
        json!({"score": "2"}),
        json!({"mode": "fast", "rle": "perhaps"}),
        json!({"output_bucket": "../x"}),
        json!({"output_prefix": "a\nb"}),
    ] {
        let answer = invoke(&pipeline, &tasks(&["b.jpg", KEY], &arguments)).await.unwrap();
        for (code, sentence) in results(&answer) {
            assert_eq!(code, "PermanentFailure", "{arguments}");
            assert!(sentence.starts_with("bad_request: user arguments: ") && !sentence.contains('\n'), "{sentence}");
        }
    }
    assert!(store.written().is_empty());
}

#[tokio::test]
async fn invocations_that_cannot_be_answered_fail() {
    let (pipeline, _) = bucket();
    let with = |place: &str, value: Value| {
        let mut event = tasks(&["b.jpg"], &json!(null));
        *event.pointer_mut(place).unwrap() = value;
        event
    };
    for event in [
        with("/invocationSchemaVersion", json!("3.0")),
        with("/invocationId", json!(null)),
        with("/tasks", json!({})),
        with("/tasks/0/taskId", json!(null)),
        with("/job", json!(7)),
    ] {
        assert_eq!(invoke(&pipeline, &event).await.unwrap_err().name, "bad_request", "{event}");
    }
    assert!(results(&invoke(&pipeline, &with("/tasks", json!([]))).await.unwrap()).is_empty());
    // A bucket is named by its schema, and by one that is a bucket's.
    for bucket in
        [json!({}), json!({"s3BucketArn": "arn:aws:s3:us-east-1:123456789012:accesspoint/a"}), json!({"s3Bucket": ""})]
    {
        let mut task = json!({"taskId": "t", "s3Key": "b.jpg"});
        task.as_object_mut().unwrap().extend(bucket.as_object().unwrap().clone());
        let answer = invoke(&pipeline, &with("/tasks", json!([task]))).await.unwrap();
        assert_eq!(results(&answer)[0].0, "PermanentFailure", "{bucket}");
    }
}

/// Keys that are S3's to allow: each is served, or refused without a word to the store.
#[tokio::test]
async fn strange_keys_are_served_or_refused() {
    let (pipeline, store) = bucket();
    let served = ["a b.jpg", "a+b.jpg", "100%.jpg", "%41.jpg", "你好 🙂.jpg", "-.jpg", "a//b.jpg", "...jpg", "?#&.jpg"];
    let refused = ["../a.jpg", "a/../b.jpg", "./a.jpg", "a\nb.jpg", "a\u{0}b.jpg", "\u{7f}.jpg", "", &"k".repeat(1025)];
    for key in served {
        store.add(BUCKET, key, photo());
        let answer = invoke(&pipeline, &event_bridge(key)).await.unwrap();
        assert_eq!(answer["records"][0]["result"], "stored", "{key}");
        assert_eq!(stored(&store, &format!("masks/{key}")), PARSED, "{key}");
        let encoded: String = form_urlencoded::byte_serialize(key.as_bytes()).collect();
        let answer = invoke(&pipeline, &notification(&[&encoded])).await.unwrap();
        assert_eq!(answer["records"][0]["result"], "stored-before", "{key}");
        let answer = invoke(&pipeline, &tasks(&[&encoded], &json!(null))).await.unwrap();
        assert_eq!(results(&answer), [("Succeeded", "stored-before")], "{key}");
    }
    let written = store.written().len();
    for key in refused {
        assert_eq!(invoke(&pipeline, &event_bridge(key)).await.unwrap_err().name, "bad_request", "{key:?}");
        let encoded: String = form_urlencoded::byte_serialize(key.as_bytes()).collect();
        let answer = invoke(&pipeline, &tasks(&[&encoded], &json!(null))).await.unwrap();
        assert_eq!(results(&answer)[0].0, "PermanentFailure", "{key:?}");
        let answer = invoke(&pipeline, &messages(&[("m", event_bridge(key).to_string())])).await.unwrap();
        assert_eq!(failed(&answer), ["m"], "{key:?}");
    }
    assert_eq!(store.written().len(), written);
}

#[tokio::test]
async fn thousands_of_records_are_one_event() {
    let (pipeline, store) = bucket();
    let keys: Vec<String> = (0..5000).map(|n| format!("gone/{n}.jpg")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).chain(["b.jpg"]).collect();
    let answer = invoke(&pipeline, &notification(&keys)).await.unwrap();
    assert_eq!(answer["records"].as_array().unwrap().len(), keys.len());
    let bodies: Vec<_> = (0..2000).map(|n| (format!("m{n}"), "nested ".repeat(50))).collect();
    let bodies: Vec<_> = bodies.iter().map(|(id, body)| (id.as_str(), body.clone())).collect();
    assert_eq!(failed(&invoke(&pipeline, &messages(&bodies)).await.unwrap()).len(), bodies.len());
    assert_eq!(stored(&store, "masks/b.jpg"), PARSED);
}

#[tokio::test]
async fn nested_garbage_is_a_message_that_fails() {
    let (pipeline, _) = bucket();
    let deep = "[".repeat(10_000);
    let mut inside = event("s3-put").to_string();
    for _ in 0..4 {
        inside = json!({"Type": "Notification", "Message": inside}).to_string();
    }
    let queue = event("sqs-s3").to_string();
    let answer =
        invoke(&pipeline, &messages(&[("deep", deep), ("wrapped", inside), ("queue in queue", queue)])).await.unwrap();
    assert_eq!(failed(&answer), ["deep", "queue in queue", "wrapped"]);
}
