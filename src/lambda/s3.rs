//! S3 notifications: every uploaded photo gets its masks and a report.
//!
//! | what happens to a record | then |
//! |---|---|
//! | the photo was parsed | outputs and, last, the report are stored ([`crate::record`]) |
//! | the same work is stored already | nothing is done |
//! | the photo was replaced or removed since | nothing is done: its own event follows, or came before |
//! | it is one of our own outputs, a folder's marker, or no `ObjectCreated` | nothing is done |
//! | the photo cannot be served (no image, too large, …) | `….error.json` says why |
//! | storage, deadline, memory held by others, internal | the invocation fails, so that Lambda tries again |
//! | permission is lacking, the bucket is not allowed, the key is no key | the invocation fails too: trying again does not help, but after it the event is in the dead-letter queue and not lost |
//!
//! Each record is handled, whatever becomes of those before it; then the first failure fails the invocation. Handled
//! records are known as done when it is tried again.
//!
//! The function needs `s3:ListBucket` on both buckets: without it S3 says 403 for an object that is gone.

use std::borrow::Cow;
use std::sync::Arc;

use aws_lambda_events::s3::{S3Event, S3EventRecord};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Error, Limit, Result};
use crate::http::problem;
use crate::options::{Options, RawOptions};
use crate::pipeline::{Context, Outcome, Pipeline, Source};
use crate::record::{self, Destination, Work};
use crate::store::{ObjectMeta, ObjectRef, ObjectStore};

/// How often one event follows a photo that is replaced while it is being parsed.
const MOST_RUNS: usize = 3;

/// What became of an uploaded object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Stored,
    /// The same work was stored before.
    Before,
    /// Replaced or removed since the event.
    Overtaken,
    /// Not a photo for us to parse.
    Passed,
    /// A photo that cannot be served; the error record's code says why.
    Refused(&'static str),
}

impl Done {
    const fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Before => "stored-before",
            Self::Overtaken => "overtaken",
            Self::Passed => "passed",
            Self::Refused(_) => "refused",
        }
    }
}

/// Handles every record of a notification; the answer lists what became of each.
///
/// # Errors
/// `BadRequest` for an event that is none; else the first record's error that a retry or an operator must mend.
pub async fn handle(pipeline: &Arc<Pipeline>, event: &str, context: &Context) -> Result<Value> {
    let event: S3Event =
        serde_json::from_str(event).map_err(|e| Error::bad_request(format!("not a well-formed S3 event: {e}")))?;
    let (mut answers, mut failure) = (Vec::new(), None);
    for record in &event.records {
        match handle_record(pipeline, record, context).await {
            Ok(done) => {
                let key = record.s3.object.key.as_deref().unwrap_or_default();
                tracing::info!(bucket = record.s3.bucket.name, key, done = done.name(), "S3 record");
                answers.push(answer(record, done));
            }
            Err(error) => {
                tracing::warn!(bucket = record.s3.bucket.name, error = error.chain(), "S3 record failed");
                failure.get_or_insert(error);
            }
        }
    }
    failure.map_or(Ok(json!({"records": answers})), Err)
}

fn answer(record: &S3EventRecord, done: Done) -> Value {
    let mut answer = json!({
        "bucket": record.s3.bucket.name,
        "key": record.s3.object.key,
        "result": done.name(),
    });
    if let Done::Refused(code) = done {
        answer["code"] = json!(code);
    }
    answer
}

async fn handle_record(pipeline: &Arc<Pipeline>, record: &S3EventRecord, context: &Context) -> Result<Done> {
    // The event's names carry no `s3:`, those of the configuration do.
    let name = record.event_name.as_deref().unwrap_or_default();
    if !name.trim_start_matches("s3:").starts_with("ObjectCreated:") {
        return Ok(Done::Passed);
    }
    process(pipeline, &object_of(record)?, context).await
}

/// The object of a record, pinned to what the event names.
fn object_of(record: &S3EventRecord) -> Result<ObjectRef> {
    let missing = |name: &str| Error::bad_request(format!("an S3 record without {name}"));
    let object = &record.s3.object;
    let bucket = record.s3.bucket.name.clone().filter(|b| !b.is_empty()).ok_or_else(|| missing("a bucket"))?;
    let key = object.key.as_deref().filter(|k| !k.is_empty()).ok_or_else(|| missing("a key"))?;
    Ok(ObjectRef {
        bucket,
        key: decode_key(key)?,
        version_id: object.version_id.clone().filter(|v| !v.is_empty()),
        etag: object.e_tag.as_deref().filter(|e| !e.is_empty()).map(quoted),
    })
}

/// An event's ETag as headers have it.
fn quoted(etag: &str) -> String {
    if etag.starts_with('"') { etag.to_owned() } else { format!("\"{etag}\"") }
}

/// A key as events write it: form-encoded, `+` is a space, `%XX` a byte of UTF-8.
///
/// # Errors
/// `BadRequest` for escapes that are none and bytes that are not UTF-8.
pub fn decode_key(encoded: &str) -> Result<String> {
    let bad = || Error::bad_request(format!("the key `{encoded}` is not form-encoded"));
    let bytes = encoded.as_bytes();
    let is_escape = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|xx| xx.iter().all(u8::is_ascii_hexdigit));
    if bytes.iter().enumerate().any(|(at, byte)| *byte == b'%' && !is_escape(at)) {
        return Err(bad());
    }
    let spaced = encoded.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned).map_err(|_| bad())
}

/// Parses one uploaded object and stores what comes of it. `event` is pinned to the version the event names.
///
/// # Errors
/// Those that a retry or an operator must mend; see the module.
pub async fn process(pipeline: &Arc<Pipeline>, event: &ObjectRef, context: &Context) -> Result<Done> {
    let config = &pipeline.config;
    check_allowed(&event.bucket, config)?;
    if is_passed(event, config) {
        return Ok(Done::Passed);
    }
    let store = pipeline.store.as_ref().ok_or_else(|| Error::internal("no object store is configured"))?;
    let bucket = config.output_bucket.as_ref().unwrap_or(&event.bucket);
    let destination = Destination::for_source(bucket, &config.output_prefix, &event.key)?;
    let upload = Upload { pipeline, store: store.as_ref(), destination, context };
    upload.settle(event.clone()).await
}

fn check_allowed(bucket: &str, config: &Config) -> Result<()> {
    if config.allowed_buckets.is_empty() || config.allowed_buckets.iter().any(|b| b == bucket) {
        return Ok(());
    }
    Err(Error::Forbidden { detail: format!("M2FP_ALLOWED_BUCKETS does not name the bucket `{bucket}`") })
}

/// Whether a key says that it is not a photo for us: a folder's marker, an upload that its owner sends to `/parse`
/// himself, one of our outputs by its name, or anything under the output prefix of the bucket that we write to. Without this an output would be taken for an upload, its
/// output again, and so on.
fn is_passed(object: &ObjectRef, config: &Config) -> bool {
    let is_output_bucket = config.output_bucket.as_ref().is_none_or(|bucket| *bucket == object.bucket);
    let prefix = config.output_prefix.as_str();
    let is_under_prefix = is_output_bucket && !prefix.is_empty() && object.key.starts_with(prefix);
    let is_upload = config.is_upload(&object.bucket, &object.key);
    object.key.ends_with('/') || is_upload || record::is_output_key(&object.key) || is_under_prefix
}

/// One uploaded object on its way to its outputs.
struct Upload<'a> {
    pipeline: &'a Arc<Pipeline>,
    store: &'a dyn ObjectStore,
    destination: Destination,
    context: &'a Context,
}

impl Upload<'_> {
    /// Runs until what is stored is of the version that stands. A newer version's run may end before ours does, and ours
    /// would then overwrite it: whoever sees the photo replaced after storing its outputs runs the new one as well.
    async fn settle(&self, event: ObjectRef) -> Result<Done> {
        let mut wanted = event;
        for _ in 0..MOST_RUNS {
            let Some(meta) = self.current(&wanted).await? else { return Ok(Done::Overtaken) };
            if record::is_output(&meta) {
                return Ok(Done::Passed);
            }
            let pinned = ObjectRef { etag: meta.etag, version_id: meta.version_id, ..wanted };
            let done = self.run(&pinned, meta.bytes).await?;
            let has_written = matches!(done, Done::Stored | Done::Refused(_));
            if !has_written || self.current(&pinned).await?.is_some() {
                return Ok(done);
            }
            tracing::info!("replaced while it was being parsed");
            wanted = ObjectRef { etag: None, version_id: None, ..pinned };
        }
        Err(Error::Storage { detail: "the photo is being replaced over and over".to_owned(), source: None })
    }

    /// The object as it stands; `None` if that is not the one wanted. A version id reads old versions too, so it is the
    /// newest version that is looked at, and compared.
    async fn current(&self, wanted: &ObjectRef) -> Result<Option<ObjectMeta>> {
        let newest = ObjectRef { version_id: None, ..wanted.clone() };
        match self.store.head(&newest).await {
            Ok(meta) if wanted.version_id.is_some() && meta.version_id != wanted.version_id => Ok(None),
            Ok(meta) => Ok(Some(meta)),
            Err(Error::Overtaken | Error::NoObject { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn run(&self, pinned: &ObjectRef, bytes: u64) -> Result<Done> {
        let config = &self.pipeline.config;
        let options = Options::check(&RawOptions::default(), &config.outputs)?;
        let work = Work::of_pinned(pinned, &options, &self.pipeline.manifest);
        if record::is_done(self.store, &self.destination, &work).await? {
            return Ok(Done::Before);
        }
        let parsed = self.parse(pinned, bytes, options).await;
        if matches!(parsed, Err(Error::Overtaken | Error::NoObject { .. })) || self.current(pinned).await?.is_none() {
            return Ok(Done::Overtaken);
        }
        match parsed {
            Ok(outcome) => {
                record::write(self.store, &self.destination, &work, &outcome).await?;
                Ok(Done::Stored)
            }
            Err(error) if is_about_the_photo(&error) => {
                tracing::info!(error = error.chain(), "the photo cannot be served");
                record::write_error(self.store, &self.destination, &work, &error).await?;
                Ok(Done::Refused(problem::row(&error).1))
            }
            Err(error) => Err(error),
        }
    }

    async fn parse(&self, pinned: &ObjectRef, bytes: u64, options: Options) -> Result<Outcome> {
        let most = self.pipeline.config.max_object_bytes;
        if bytes > most {
            let detail = format!("the object has {bytes} bytes; at most {most} are read");
            return Err(Error::TooLarge { limit: Limit::Body, detail });
        }
        let prepared = self.pipeline.prepare(Source::Object(pinned.clone()), options, self.context).await?;
        self.pipeline.run(prepared, self.context).await
    }
}

/// Whether the same photo would be refused every time: it is recorded, and nobody tries again.
fn is_about_the_photo(error: &Error) -> bool {
    matches!(error, Error::TooLarge { .. } | Error::Unsupported { .. } | Error::Undecodable { .. })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use bytes::Bytes;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::engine::fake::FakeEngine;
    use crate::manifest::Manifest;
    use crate::store::memory::{Failing, Kept, MemoryStore};

    const KEY: &str = "a/b.jpg";

    fn photo() -> Bytes {
        let event: Value = serde_json::from_str(include_str!("../../events/direct-invoke.json")).unwrap();
        BASE64_STANDARD.decode(event["image"].as_str().unwrap()).unwrap().into()
    }

    /// A pipeline whose network is made up, over a store in memory.
    fn pipeline(vars: &[(&str, &str)]) -> (Arc<Pipeline>, Arc<MemoryStore>) {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = Config::from_vars(vars).unwrap();
        let manifest = Manifest::read(&config.model_dir).unwrap();
        let store = Arc::new(MemoryStore::default());
        let engine = Arc::new(FakeEngine::new(manifest.clone()));
        (Arc::new(Pipeline::with_engine(config, manifest, Some(store.clone()), engine)), store)
    }

    fn to_out(more: &[(&'static str, &'static str)]) -> (Arc<Pipeline>, Arc<MemoryStore>) {
        let mut vars = vec![("M2FP_OUTPUT_BUCKET", "out")];
        vars.extend_from_slice(more);
        pipeline(&vars)
    }

    async fn run(pipeline: &Arc<Pipeline>, at: &ObjectRef) -> Result<Done> {
        process(pipeline, at, &Context { request_id: "test".to_owned(), deadline: None }).await
    }

    /// Suffixes of what stands for the photo in the output bucket. On the way: a report that stands names what stands,
    /// with its checksum.
    fn outputs(store: &MemoryStore) -> BTreeSet<String> {
        let objects = store.objects();
        let stem = format!("out/masks/{KEY}");
        if let Some(report) = objects.get(&format!("{stem}.json")) {
            let report: Value = serde_json::from_slice(&report.body).unwrap();
            for output in report["outputs"].as_array().unwrap() {
                let key = format!("out/{}", output["s3"]["key"].as_str().unwrap());
                let sum = format!("{:x}", Sha256::digest(&objects[&key].body));
                assert_eq!(output["sha256"], sum, "{key}");
            }
        }
        objects.keys().filter_map(|name| name.strip_prefix(&stem).map(str::to_owned)).collect()
    }

    fn set(suffixes: &[&str]) -> BTreeSet<String> {
        suffixes.iter().map(|s| (*s).to_owned()).collect()
    }

    fn bodies(objects: &BTreeMap<String, Kept>) -> BTreeMap<String, Bytes> {
        objects.iter().map(|(name, kept)| (name.clone(), kept.body.clone())).collect()
    }

    #[test]
    fn keys_are_form_decoded() {
        for (encoded, key) in [
            ("a/b.jpg", "a/b.jpg"),
            ("Happy+Face.jpg", "Happy Face.jpg"),
            ("Happy%20Face.jpg", "Happy Face.jpg"),
            ("1%2B1.jpg", "1+1.jpg"),
            ("Zo%C3%AB.jpg", "Zoë.jpg"),
            ("100%25.jpg", "100%.jpg"),
            ("%e4%bd%a0.jpg", "你.jpg"),
        ] {
            assert_eq!(decode_key(encoded).unwrap(), key);
        }
        for bad in ["100%.jpg", "%", "%2", "%zz", "%+1", "%ff", "%C3.jpg"] {
            assert!(matches!(decode_key(bad), Err(Error::BadRequest { .. })), "{bad}");
        }
    }

    #[test]
    fn what_is_not_a_photo_for_us_is_passed() {
        let config = |vars: &[(&str, &str)]| {
            Config::from_vars(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))).unwrap()
        };
        let own = config(&[]);
        let apart = config(&[("M2FP_OUTPUT_BUCKET", "out")]);
        let no_prefix = Config { output_prefix: String::new(), ..config(&[]) };
        let passed = |config: &Config, bucket: &str, key: &str| {
            let at = ObjectRef { bucket: bucket.to_owned(), key: key.to_owned(), version_id: None, etag: None };
            is_passed(&at, config)
        };
        assert!(passed(&own, "photos", "masks/a.jpg"), "under the prefix of the event's own bucket");
        assert!(!passed(&apart, "photos", "masks/a.jpg"), "the prefix is the other bucket's");
        assert!(passed(&apart, "out", "masks/a.jpg"));
        for config in [&own, &apart, &no_prefix] {
            assert!(passed(config, "photos", "a.jpg.mask.png"));
            assert!(passed(config, "photos", "a.jpg.error.json"));
            assert!(passed(config, "photos", "folder/"));
            assert!(!passed(config, "photos", "a.jpg"));
        }
    }

    #[tokio::test]
    async fn an_upload_leaves_mask_and_report_and_is_done_once() {
        let (pipeline, store) = to_out(&[]);
        let at = store.put_photo("in", KEY, photo());
        assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Stored);
        assert_eq!(outputs(&store), set(&[".mask.png", ".json"]));
        let before = store.objects();
        let report: Value = serde_json::from_slice(&before["out/masks/a/b.jpg.json"].body).unwrap();
        assert_eq!(report["source"]["key"], KEY);
        assert_eq!(report["source"]["etag"], at.etag.clone().unwrap());
        assert_eq!(report["source"]["version_id"], at.version_id.clone().unwrap());
        assert_eq!(report["model"]["sha256"], pipeline.manifest.digest());
        assert_eq!(report["options"], "output=mask,json");
        assert!(report.get("timings_ms").is_none() && report.get("memory").is_none());

        assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Before);
        assert_eq!(store.objects(), before);
        // A lost output is made again.
        store.interrupt(0, |objects| objects.remove("out", "masks/a/b.jpg.mask.png"));
        assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Stored);
        assert_eq!(bodies(&store.objects()), bodies(&before));
    }

    #[tokio::test]
    async fn the_same_bucket_serves_both_and_outputs_are_no_photos() {
        let (pipeline, store) = pipeline(&[]);
        let at = store.put_photo("in", KEY, photo());
        assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Stored);
        for (name, kept) in store.objects() {
            let key = name.strip_prefix("in/").unwrap();
            if key == KEY {
                continue;
            }
            let event = |key: &str| ObjectRef { bucket: "in".into(), key: key.into(), version_id: None, etag: None };
            assert_eq!(run(&pipeline, &event(key)).await.unwrap(), Done::Passed, "{key}");
            // Copied elsewhere under another name, the mark still tells.
            store.interrupt(0, move |objects| objects.put("in", "copy.png", kept.body, kept.metadata));
            assert_eq!(run(&pipeline, &event("copy.png")).await.unwrap(), Done::Passed, "{key}");
        }
    }

    #[tokio::test]
    async fn a_bad_image_leaves_its_reason_and_a_later_success_removes_it() {
        let (pipeline, store) = to_out(&[]);
        let good = store.put_photo("in", KEY, photo());
        assert_eq!(run(&pipeline, &good).await.unwrap(), Done::Stored);
        let bad = store.put_photo("in", KEY, Bytes::from_static(b"no image"));
        assert_eq!(run(&pipeline, &bad).await.unwrap(), Done::Refused("unsupported"));
        assert_eq!(outputs(&store), set(&[".error.json"]));
        let record: Value = serde_json::from_slice(&store.objects()["out/masks/a/b.jpg.error.json"].body).unwrap();
        assert_eq!((&record["status"], &record["code"]), (&json!(415), &json!("unsupported")));
        assert_eq!(record["source"]["etag"], bad.etag.unwrap());
        let mended = store.put_photo("in", KEY, photo());
        assert_eq!(run(&pipeline, &mended).await.unwrap(), Done::Stored);
        assert_eq!(outputs(&store), set(&[".mask.png", ".json"]));
    }

    #[tokio::test]
    async fn too_large_is_known_before_the_body_is_read() {
        let (pipeline, store) = to_out(&[("M2FP_MAX_OBJECT_BYTES", "1000")]);
        let at = store.put_photo("in", KEY, photo());
        assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Refused("body_too_large"));
        assert_eq!(outputs(&store), set(&[".error.json"]));
    }

    #[tokio::test]
    async fn other_options_replace_the_outputs_consistently() {
        let (first, store) = to_out(&[("M2FP_OUTPUTS", "mask,overlay")]);
        let at = store.put_photo("in", KEY, photo());
        assert_eq!(run(&first, &at).await.unwrap(), Done::Stored);
        assert_eq!(outputs(&store), set(&[".mask.png", ".overlay.jpg", ".json"]));
        let second = second(&store);
        assert_eq!(run(&second, &at).await.unwrap(), Done::Stored);
        assert_eq!(outputs(&store), set(&[".instances.png", ".json"]));
    }

    /// Another function over the same store that makes other outputs.
    fn second(store: &Arc<MemoryStore>) -> Arc<Pipeline> {
        let vars = [("M2FP_OUTPUT_BUCKET", "out"), ("M2FP_OUTPUTS", "instances,json")];
        let config = Config::from_vars(vars.map(|(k, v)| (k.to_owned(), v.to_owned()))).unwrap();
        let manifest = Manifest::read(&config.model_dir).unwrap();
        let engine = Arc::new(FakeEngine::new(manifest.clone()));
        Arc::new(Pipeline::with_engine(config, manifest, Some(store.clone()), engine))
    }

    /// Every operation in turn is the last one before a crash, or fails: what stands then is never a report that names
    /// another run's outputs, and trying again leaves exactly what a run without a failure leaves.
    #[tokio::test]
    async fn a_crash_anywhere_is_mended_by_the_retry() {
        for failing in [Failing::Before, Failing::After] {
            for at_operation in 0.. {
                let (first, store) = to_out(&[("M2FP_OUTPUTS", "mask,overlay")]);
                let at = store.put_photo("in", KEY, photo());
                run(&first, &at).await.unwrap();
                let second = second(&store);
                store.fail(Some((at_operation, failing)));
                let result = run(&second, &at).await;
                outputs(&store);
                if store.operations() <= at_operation {
                    assert_eq!(result.unwrap(), Done::Stored);
                    assert!(at_operation > 10, "operations were counted");
                    break;
                }
                assert!(result.unwrap_err().retryable(), "operation {at_operation}");
                store.fail(None);
                run(&second, &at).await.unwrap();
                assert_eq!(outputs(&store), set(&[".instances.png", ".json"]), "operation {at_operation} {failing:?}");
                let report: Value = serde_json::from_slice(&store.objects()["out/masks/a/b.jpg.json"].body).unwrap();
                assert_eq!(report["options"], "output=instances,json");
            }
        }
    }

    #[tokio::test]
    async fn a_crash_while_refusing_is_mended_by_the_retry() {
        for at_operation in 0.. {
            let (pipeline, store) = to_out(&[]);
            let good = store.put_photo("in", KEY, photo());
            run(&pipeline, &good).await.unwrap();
            let bad = store.put_photo("in", KEY, Bytes::from_static(b"no image"));
            store.fail(Some((at_operation, Failing::After)));
            let result = run(&pipeline, &bad).await;
            outputs(&store);
            if store.operations() <= at_operation {
                break;
            }
            assert!(result.unwrap_err().retryable());
            store.fail(None);
            assert_eq!(run(&pipeline, &bad).await.unwrap(), Done::Refused("unsupported"));
            assert_eq!(outputs(&store), set(&[".error.json"]), "operation {at_operation}");
        }
    }

    #[tokio::test]
    async fn an_overtaken_event_ends_quietly() {
        let (pipeline, store) = to_out(&[]);
        let old = store.put_photo("in", KEY, photo());
        let new = store.put_photo("in", KEY, photo());
        assert_eq!(run(&pipeline, &old).await.unwrap(), Done::Overtaken);
        assert_eq!(outputs(&store), set(&[]));
        // Buckets without versions have the ETag alone, those with them may be asked by version alone.
        let by = |at: &ObjectRef, etag, version| ObjectRef {
            etag: at.etag.clone().filter(|_| etag),
            version_id: at.version_id.clone().filter(|_| version),
            ..at.clone()
        };
        assert_eq!(run(&pipeline, &by(&old, true, false)).await.unwrap(), Done::Overtaken);
        assert_eq!(run(&pipeline, &by(&old, false, true)).await.unwrap(), Done::Overtaken);
        assert_eq!(run(&pipeline, &by(&new, false, false)).await.unwrap(), Done::Stored);
        let gone = ObjectRef { key: "gone.jpg".into(), ..new };
        assert_eq!(run(&pipeline, &gone).await.unwrap(), Done::Overtaken);
    }

    /// Somebody uploads a new version just before each operation in turn. Its own event comes later; until then what
    /// stands is of the old version or of the new, whole; after it, of the new.
    #[tokio::test]
    async fn a_photo_replaced_at_any_moment_ends_with_the_new_ones_outputs() {
        for at_operation in 0.. {
            let (pipeline, store) = to_out(&[]);
            let old = store.put_photo("in", KEY, photo());
            let new = photo();
            store.interrupt(at_operation, move |objects| objects.put("in", KEY, new, BTreeMap::new()));
            let result = run(&pipeline, &old).await.unwrap();
            outputs(&store);
            if store.operations() <= at_operation {
                assert_eq!(result, Done::Stored);
                break;
            }
            assert!(matches!(result, Done::Stored | Done::Overtaken));
            let event = ObjectRef { version_id: None, etag: Some(store.objects()["in/a/b.jpg"].etag.clone()), ..old };
            run(&pipeline, &event).await.unwrap();
            let report: Value = serde_json::from_slice(&store.objects()["out/masks/a/b.jpg.json"].body).unwrap();
            assert_eq!(report["source"]["etag"], event.etag.unwrap(), "operation {at_operation}");
        }
    }

    /// Another run's output lands beside ours at any moment: either ours is committed whole, or the run is tried again.
    #[tokio::test]
    async fn mixed_outputs_are_not_committed() {
        let mut refused = 0;
        for at_operation in 0.. {
            let (pipeline, store) = to_out(&[]);
            let at = store.put_photo("in", KEY, photo());
            store.interrupt(at_operation, |objects| {
                objects.put("out", "masks/a/b.jpg.mask.png", Bytes::from_static(b"theirs"), BTreeMap::new());
            });
            let result = run(&pipeline, &at).await;
            if store.operations() <= at_operation {
                break;
            }
            match result {
                // After the last look at the output, whoever wrote it is the one to find the other's report.
                Ok(_) => {}
                Err(error) => {
                    assert!(error.retryable());
                    assert!(!outputs(&store).contains(".json"));
                    refused += 1;
                }
            }
        }
        assert!(refused > 0);
    }

    #[tokio::test]
    async fn what_an_operator_must_mend_fails_the_invocation() {
        let (pipeline, store) = to_out(&[]);
        let at = store.put_photo("in", KEY, photo());
        store.forbid("out");
        assert!(matches!(run(&pipeline, &at).await, Err(Error::Forbidden { .. })));
        store.forbid("in");
        assert!(matches!(run(&pipeline, &at).await, Err(Error::Forbidden { .. })));

        let (pipeline, store) = to_out(&[("M2FP_ALLOWED_BUCKETS", "other")]);
        let at = store.put_photo("in", KEY, photo());
        assert!(matches!(run(&pipeline, &at).await, Err(Error::Forbidden { .. })));
        assert_eq!(store.operations(), 0);
    }

    fn event(records: &[(&str, &str)]) -> String {
        let mut event: Value = serde_json::from_str(include_str!("../../events/s3-put.json")).unwrap();
        let template = event["Records"][0].take();
        let records = records.iter().map(|(name, key)| {
            let mut record = template.clone();
            record["eventName"] = json!(name);
            record["s3"]["bucket"]["name"] = json!("in");
            record["s3"]["object"] = json!({"key": key, "size": 1});
            record
        });
        json!({"Records": records.collect::<Vec<_>>()}).to_string()
    }

    #[tokio::test]
    async fn each_record_is_handled_whatever_becomes_of_the_others() {
        let (pipeline, store) = to_out(&[]);
        store.put_photo("in", "1 1.jpg", photo());
        store.put_photo("in", "2.jpg", Bytes::from_static(b"no image"));
        store.put_photo("in", "3.jpg", photo());
        let context = Context { request_id: "test".to_owned(), deadline: None };
        let mixed = event(&[
            ("ObjectCreated:Put", "%zz"),
            ("ObjectCreated:Put", "1+1.jpg"),
            ("ObjectRemoved:Delete", "3.jpg"),
            ("ObjectCreated:CompleteMultipartUpload", "2.jpg"),
        ]);
        assert!(matches!(handle(&pipeline, &mixed, &context).await, Err(Error::BadRequest { .. })));
        let again =
            event(&[("ObjectCreated:Put", "1+1.jpg"), ("ObjectCreated:Copy", "2.jpg"), ("ObjectCreated:Put", "3.jpg")]);
        let answer = handle(&pipeline, &again, &context).await.unwrap();
        let results: Vec<_> = answer["records"].as_array().unwrap().iter().map(|r| r["result"].as_str()).collect();
        assert_eq!(results, [Some("stored-before"), Some("refused"), Some("stored")]);
        assert_eq!(answer["records"][1]["code"], "unsupported");
    }
}
