//! A bucket that tells a queue, a queue with a redrive policy, and what Lambda does between the queue and the function,
//! against a server that has both (moto).
//!
//! moto's notification is S3's but for what it leaves out: `userIdentity` and `requestParameters`, which S3 always sends
//! and the event's type asks for ([`as_s3_words_it`]), `responseElements`, and the object's `sequencer` and `versionId`.
//! Its test event has no `RequestId` and `HostId`. The function reads `versionId` alone of all these, which
//! `tests/it/s3_conditions.rs` is for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{Event, NotificationConfiguration, QueueConfiguration};
use bytes::Bytes;
use m2fp::pipeline::Pipeline;
use serde_json::{Value, json};

use crate::support::events::{BUCKET, KEY, event, invoke, photo};
use crate::support::faults::{Fault, Faulty, until_crash};
use crate::support::http::pipeline;
use crate::support::s3_servers::{ACCESS_KEY, Moto};

/// Fails at its first delivery.
const LATE: &str = "photos/late.jpg";
/// Fails at every delivery.
const UNLUCKY: &str = "photos/unlucky.jpg";
const NO_PHOTO: &str = "photos/notes.txt.jpg";
const MAX_RECEIVES: usize = 3;
/// A batch's, and so the most that one receives.
const BATCH: usize = 10;

/// A queue of moto's, by SQS's JSON protocol.
struct Queue {
    server: String,
    url: String,
    arn: String,
}

impl Queue {
    fn create(moto: &Moto, name: &str, attributes: &Value) -> Self {
        let server = moto.endpoint();
        let created = call(&server, "CreateQueue", &json!({"QueueName": name, "Attributes": attributes}));
        let url = created["QueueUrl"].as_str().unwrap().to_owned();
        let attributes = call(&server, "GetQueueAttributes", &json!({"QueueUrl": url, "AttributeNames": ["QueueArn"]}));
        let arn = attributes["Attributes"]["QueueArn"].as_str().unwrap().to_owned();
        Self { server, url, arn }
    }

    fn call(&self, action: &str, mut body: Value) -> Value {
        body["QueueUrl"] = json!(self.url);
        call(&self.server, action, &body)
    }

    fn receive(&self) -> Vec<Value> {
        let wanted =
            json!({"MaxNumberOfMessages": BATCH, "WaitTimeSeconds": 0, "MessageSystemAttributeNames": ["All"]});
        // No messages is no list.
        match self.call("ReceiveMessage", wanted)["Messages"].take() {
            Value::Array(messages) => messages,
            _ => Vec::new(),
        }
    }

    /// The event that Lambda makes of messages (AWS Lambda developer guide, "Using Lambda with Amazon SQS").
    fn event(&self, messages: &[Value]) -> Value {
        let record = |message: &Value| {
            json!({
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": as_s3_words_it(message).to_string(),
                "attributes": message["Attributes"],
                "messageAttributes": {},
                "md5OfBody": message["MD5OfBody"],
                "eventSource": "aws:sqs",
                "eventSourceARN": self.arn,
                "awsRegion": "us-east-1",
            })
        };
        json!({"Records": messages.iter().map(record).collect::<Vec<_>>()})
    }

    /// What Lambda does with one batch: it deletes the messages that the answer does not name. Those it names come again
    /// when their time of invisibility is over, which here is at once.
    async fn deliver(&self, pipeline: &Arc<Pipeline>, messages: &[Value], meets_faults: bool) {
        let answer = until_crash(meets_faults, invoke(pipeline, &self.event(messages))).await.unwrap().unwrap();
        let failures = answer["batchItemFailures"].as_array().unwrap();
        let failed: BTreeSet<_> = failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap()).collect();
        let ids: BTreeSet<_> = messages.iter().map(|message| message["MessageId"].as_str().unwrap()).collect();
        assert!(failed.is_subset(&ids), "{answer}");
        for message in messages {
            let receipt = &message["ReceiptHandle"];
            if failed.contains(message["MessageId"].as_str().unwrap()) {
                self.call("ChangeMessageVisibility", json!({"ReceiptHandle": receipt, "VisibilityTimeout": 0}));
            } else {
                self.call("DeleteMessage", json!({"ReceiptHandle": receipt}));
            }
        }
    }

    /// Messages that wait and messages that are being handled.
    fn left(&self) -> (Value, Value) {
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let left = self.call("GetQueueAttributes", json!({"AttributeNames": names}));
        (left["Attributes"][names[0]].clone(), left["Attributes"][names[1]].clone())
    }
}

fn call(server: &str, action: &str, body: &Value) -> Value {
    // By its scope moto tells whose request it is; it checks no signature.
    let authorization = format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20250101/us-east-1/sqs/aws4_request");
    let answer = ureq::post(server)
        .header("Content-Type", "application/x-amz-json-1.0")
        .header("X-Amz-Target", &format!("AmazonSQS.{action}"))
        .header("Authorization", &authorization)
        .send(body.to_string());
    let answer = answer.unwrap_or_else(|e| panic!("{action}: {e}")).body_mut().read_to_string().unwrap();
    // Some actions answer nothing.
    if answer.is_empty() { Value::Null } else { serde_json::from_str(&answer).unwrap() }
}

/// The bucket, with a queue that is told of every upload, and the queue's dead letters.
async fn bucket_with_queue(moto: &Moto) -> (Client, Queue, Queue) {
    let dead_letters = Queue::create(moto, "dead-letters", &json!({}));
    let redrive = json!({"deadLetterTargetArn": dead_letters.arn, "maxReceiveCount": MAX_RECEIVES.to_string()});
    let attributes = json!({"VisibilityTimeout": "600", "RedrivePolicy": redrive.to_string()});
    let queue = Queue::create(moto, "photos", &attributes);
    let client = moto.client();
    client.create_bucket().bucket(BUCKET).send().await.unwrap();
    let told = QueueConfiguration::builder().queue_arn(&queue.arn).events(Event::from("s3:ObjectCreated:*"));
    let told = NotificationConfiguration::builder().queue_configurations(told.build().unwrap()).build();
    let put = client.put_bucket_notification_configuration().bucket(BUCKET).notification_configuration(told);
    put.send().await.unwrap();
    (client, queue, dead_letters)
}

/// A message's body, with what S3 says and moto does not.
fn as_s3_words_it(message: &Value) -> Value {
    let mut body: Value = serde_json::from_str(message["Body"].as_str().unwrap()).unwrap();
    let template = event("s3-put");
    for record in body["Records"].as_array_mut().into_iter().flatten() {
        for field in ["userIdentity", "requestParameters"] {
            assert!(record[field].is_null(), "moto says it by now: {record}");
            record[field] = template["Records"][0][field].clone();
        }
    }
    body
}

/// The key that a message names, or the event that names none.
fn told_by(message: &Value) -> String {
    let body: Value = serde_json::from_str(message["Body"].as_str().unwrap()).unwrap();
    if let Some(event) = body["Event"].as_str() {
        return event.to_owned();
    }
    let encoded = body["Records"][0]["s3"]["object"]["key"].as_str().unwrap().to_owned();
    form_urlencoded::parse(format!("key={encoded}").as_bytes()).next().unwrap().1.into_owned()
}

async fn keys(client: &Client) -> BTreeSet<String> {
    let list = client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    list.contents().iter().map(|object| object.key().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn messages_end_deleted_or_as_dead_letters_and_photos_with_what_belongs_to_them() {
    let moto = Moto::start();
    let (client, queue, dead_letters) = bucket_with_queue(&moto).await;
    for (key, body) in
        [(KEY, photo()), (LATE, photo()), (UNLUCKY, photo()), (NO_PHOTO, Bytes::from_static(b"no image"))]
    {
        client.put_object().bucket(BUCKET).key(key).body(body.into()).send().await.unwrap();
    }
    let mut was_late = false;
    let faulty = Faulty::new(Arc::new(moto.store()), move |key| {
        let fails = key.contains(UNLUCKY) || (key.contains(LATE) && !was_late);
        was_late |= key.contains(LATE);
        fails.then_some(Fault::SlowDown)
    });
    // Outputs go to the photos' own bucket, so the queue is told of them as well.
    let pipeline = pipeline(&[], Some(Arc::new(faulty)));

    let mut deliveries: BTreeMap<String, usize> = BTreeMap::new();
    loop {
        let messages = queue.receive();
        if messages.is_empty() {
            break;
        }
        for message in &messages {
            let count = deliveries.entry(told_by(message)).or_default();
            *count += 1;
            assert!(*count <= MAX_RECEIVES, "{message}");
            assert_eq!(message["Attributes"]["ApproximateReceiveCount"], count.to_string(), "{message}");
        }
        queue.deliver(&pipeline, &messages, true).await;
    }
    let mask = |key: &str| format!("masks/{key}.mask.png");
    let report = |key: &str| format!("masks/{key}.json");
    let refusal = format!("masks/{NO_PHOTO}.error.json");
    let outputs = [mask(KEY), report(KEY), mask(LATE), report(LATE), refusal.clone()];
    let counts = [("s3:TestEvent", 1), (KEY, 1), (LATE, 2), (UNLUCKY, MAX_RECEIVES), (NO_PHOTO, 1)];
    let expected = counts.map(|(key, count)| (key.to_owned(), count)).into_iter();
    assert_eq!(deliveries, expected.chain(outputs.iter().map(|key| (key.clone(), 1))).collect());
    let photos = [KEY, LATE, UNLUCKY, NO_PHOTO].map(str::to_owned);
    assert_eq!(keys(&client).await, photos.into_iter().chain(outputs).collect());
    assert_eq!(queue.left(), (json!("0"), json!("0")));

    let record = client.get_object().bucket(BUCKET).key(&refusal).send().await.unwrap();
    let record: Value = serde_json::from_slice(&record.body.collect().await.unwrap().into_bytes()).unwrap();
    assert_eq!(record["code"], "unsupported");
    assert_eq!(record["source"]["key"], NO_PHOTO);

    // Somebody sends the dead letters again, once storage is well.
    let dead = dead_letters.receive();
    assert_eq!(dead.iter().map(told_by).collect::<Vec<_>>(), [UNLUCKY]);
    dead_letters.deliver(&pipeline, &dead, false).await;
    assert_eq!(dead_letters.left(), (json!("0"), json!("0")));
    let keys = keys(&client).await;
    assert!(keys.contains(&mask(UNLUCKY)) && keys.contains(&report(UNLUCKY)), "{keys:?}");
}
