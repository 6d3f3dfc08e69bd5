//! Several photos in one event: two are on their way at once, and none is in another's way.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use m2fp::engine::{Engine, Queries};
use m2fp::error::{Error, Result};
use m2fp::image::Planar8;
use m2fp::options::{Options, RawOptions};
use m2fp::pipeline::{Pipeline, Source};
use m2fp::store::ObjectStore;
use serde_json::{Value, json};

use crate::support::events::{BUCKET, OUTPUT_BUCKET, event, invoke, invoke_until};
use crate::support::fake_engine::FakeEngine;
use crate::support::faults::{Faulty, until_crash};
use crate::support::http::{MemoryStore, config, context, manifest, photo};

/// Of a whole test on a busy machine; only one that fails takes that long.
const PATIENCE: Duration = Duration::from_mins(1);

/// A message for each key.
fn messages(keys: &[&str]) -> Value {
    let message = |(number, key): (usize, &&str)| {
        let mut message = event("sqs-s3")["Records"][0].take();
        let mut notification = event("s3-put");
        let record = &mut notification["Records"][0];
        record["s3"]["bucket"]["name"] = json!(BUCKET);
        record["s3"]["object"] = json!({"key": key, "size": 1});
        message["messageId"] = json!(format!("m{number}"));
        message["body"] = json!(notification.to_string());
        message
    };
    json!({"Records": keys.iter().enumerate().map(message).collect::<Vec<_>>()})
}

/// A bucket with a photo at each key, each of another size.
fn bucket(keys: &[&str]) -> Arc<MemoryStore> {
    let store = MemoryStore::default();
    for (number, key) in (0..).zip(keys.iter().collect::<BTreeSet<_>>()) {
        store.add(BUCKET, key, photo(64 + number, 48));
    }
    Arc::new(store)
}

fn function(store: Arc<dyn ObjectStore>, engine: impl Engine + 'static) -> Arc<Pipeline> {
    let settings = [("OUTPUT_BUCKET", OUTPUT_BUCKET), ("MAX_WAIT_MS", "0")];
    Arc::new(Pipeline::with_engine(config(&settings), manifest(), Some(store), Arc::new(engine)))
}

fn reports(store: &MemoryStore) -> usize {
    store.objects().keys().filter(|name| name.starts_with(OUTPUT_BUCKET) && name.ends_with(".png.json")).count()
}

/// A network that counts the photos that it sees, and those that it sees at once.
struct Counting {
    inner: FakeEngine,
    seen: Arc<AtomicUsize>,
    now: AtomicUsize,
    most_at_once: Arc<AtomicUsize>,
}

impl Counting {
    fn new() -> Self {
        let (seen, most_at_once) = Default::default();
        Self { inner: FakeEngine::new(manifest()), seen, now: AtomicUsize::new(0), most_at_once }
    }
}

impl Engine for Counting {
    fn infer(&self, image: &Planar8) -> Result<Queries> {
        self.seen.fetch_add(1, Ordering::SeqCst);
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        let answer = self.inner.infer(image);
        self.now.fetch_sub(1, Ordering::SeqCst);
        answer
    }
}

/// The photos that were asked for so far, and a bell for each further one.
type Asked = Arc<(Mutex<BTreeSet<String>>, Condvar)>;

/// A network that answers once two photos were asked for.
struct Waiting {
    inner: FakeEngine,
    asked: Asked,
}

impl Engine for Waiting {
    fn infer(&self, image: &Planar8) -> Result<Queries> {
        let (asked, bell) = &*self.asked;
        let waited = bell.wait_timeout_while(asked.lock().unwrap(), PATIENCE, |asked| asked.len() < 2).unwrap();
        if waited.1.timed_out() {
            return Err(Error::internal("no second photo was asked for"));
        }
        self.inner.infer(image)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_photo_is_read_while_the_network_sees_another() {
    let keys = ["a.png", "b.png"];
    let store = bucket(&keys);
    let asked = Asked::default();
    let engine = Waiting { inner: FakeEngine::new(manifest()), asked: Arc::clone(&asked) };
    let watched = Faulty::new(Arc::clone(&store), move |key| {
        if keys.contains(&key) {
            asked.0.lock().unwrap().insert(key.to_owned());
            asked.1.notify_all();
        }
        None
    });
    let function = function(Arc::new(watched), engine);
    let answer = until_crash(true, invoke(&function, &messages(&keys))).await.unwrap().unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(reports(&store), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_that_do_not_fit_beside_each_other_take_turns() {
    let keys = ["a.png", "b.png", "c.png", "d.png", "e.png"];
    let store = bucket(&keys);
    let engine = Counting::new();
    let (seen, most_at_once) = (Arc::clone(&engine.seen), Arc::clone(&engine.most_at_once));
    let function = function(store.clone(), engine);

    let options = Options::check_stored(&RawOptions::default(), &function.config.outputs).unwrap();
    let context = context();
    let prepared = function.begin(&context).prepare(Source::Bytes(photo(64, 48).into()), options).await.unwrap();
    let one = prepared.decision.plan.request_bytes;
    let _others = function.budget.reserve(function.budget.total_bytes() - one * 3 / 2, Duration::ZERO).await.unwrap();

    let answer = invoke_until(&function, &messages(&keys), Instant::now() + PATIENCE).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!((reports(&store), seen.load(Ordering::SeqCst)), (5, 5));
    assert_eq!(most_at_once.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_named_twice_is_parsed_once() {
    let keys = ["a.png", "a.png", "b.png", "a.png"];
    let store = bucket(&keys);
    let engine = Counting::new();
    let seen = Arc::clone(&engine.seen);
    let answer = invoke(&function(store.clone(), engine), &messages(&keys)).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!((reports(&store), seen.load(Ordering::SeqCst)), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_the_order_of_the_event_whatever_fails() {
    let keys = ["a.png", "nothing-here.png", "b.png"];
    let store = bucket(&["a.png", "b.png"]);
    let mut records = Vec::new();
    for message in messages(&keys)["Records"].as_array().unwrap() {
        let notification: Value = serde_json::from_str(message["body"].as_str().unwrap()).unwrap();
        records.push(notification["Records"][0].clone());
    }
    let answer = invoke(&function(store, Counting::new()), &json!({"Records": records})).await.unwrap();
    let told: Vec<_> = answer["records"].as_array().unwrap().iter().map(|r| (&r["key"], &r["result"])).collect();
    let expected = [("a.png", "stored"), ("nothing-here.png", "gone"), ("b.png", "stored")];
    for ((key, result), expected) in told.into_iter().zip(expected) {
        assert_eq!((key, result), (&json!(expected.0), &json!(expected.1)));
    }
}
