//! An object that an event names, and what becomes of it, whichever door the event came through:
//!
//! | what happens | then |
//! |---|---|
//! | the photo was parsed | outputs and, last, the report are stored ([`crate::record`]) |
//! | the same work is stored already | nothing is done |
//! | the photo was replaced or removed since | nothing is done: its own event follows, or came before |
//! | it is one of our own outputs, a folder's marker, or an upload for `/parse` | nothing is done |
//! | the photo cannot be served (no image, too large, …) | `….error.json` says why |
//! | storage, deadline, memory held by others, internal | an error: trying again may help |
//! | permission is lacking, the bucket is not allowed, the key is no key | an error: trying again does not help, and the door sees to it that the event is not lost |
//!
//! The function needs `s3:ListBucket` on both buckets: without it S3 says 403 for an object that is gone.

use std::sync::Arc;

use crate::config::Config;
use crate::error::{Error, Limit, Result};
use crate::http::{body, problem};
use crate::options::{Options, RawOptions};
use crate::pipeline::{Context, Outcome, Pipeline, Source};
use crate::record::{self, Destination, Work};
use crate::store::{ObjectMeta, ObjectRef, ObjectStore};

/// How often one event follows a photo that is replaced while it is being parsed.
const MOST_RUNS: usize = 3;

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    Stored,
    /// The same work was stored before.
    Before,
    /// Replaced since the event.
    Overtaken,
    /// Removed since the event.
    Gone,
    /// Not a photo for us to parse.
    Passed,
    /// A photo that cannot be served; the error record says the same.
    Refused {
        code: &'static str,
        detail: String,
    },
}

impl Done {
    /// The name in answers and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Before => "stored-before",
            Self::Overtaken => "overtaken",
            Self::Gone => "gone",
            Self::Passed => "passed",
            Self::Refused { .. } => "refused",
        }
    }
}

/// What is made of objects, and where it goes.
#[derive(Debug, Clone)]
pub struct Order {
    pub options: Options,
    /// `None`: the object's own bucket.
    pub bucket: Option<String>,
    pub prefix: String,
}

impl Order {
    /// What the settings say.
    ///
    /// # Errors
    /// None that checked settings have.
    pub fn configured(config: &Config) -> Result<Self> {
        Ok(Self {
            options: Options::check(&RawOptions::default(), &config.outputs)?,
            bucket: config.output_bucket.clone(),
            prefix: config.output_prefix.clone(),
        })
    }

    /// Whether a key lies where this order's outputs are written.
    fn writes_to(&self, object: &ObjectRef) -> bool {
        let is_output_bucket = self.bucket.as_ref().is_none_or(|bucket| *bucket == object.bucket);
        is_output_bucket && !self.prefix.is_empty() && object.key.starts_with(&self.prefix)
    }
}

/// Parses one uploaded object as `order` says and stores what comes of it. `event` is pinned to the version the event
/// names.
///
/// # Errors
/// Those that a retry or an operator must mend; see the module.
pub async fn process(pipeline: &Arc<Pipeline>, event: &ObjectRef, order: &Order, context: &Context) -> Result<Done> {
    let config = &pipeline.config;
    body::check_object(&event.bucket, &event.key)?;
    check_allowed(&event.bucket, config)?;
    if is_passed(event, order, config)? {
        return Ok(Done::Passed);
    }
    let store = pipeline.store.as_ref().ok_or_else(|| Error::internal("no object store is configured"))?;
    let bucket = order.bucket.as_ref().unwrap_or(&event.bucket);
    let destination = Destination::for_source(bucket, &order.prefix, &event.key)?;
    let upload = Upload { pipeline, store: store.as_ref(), destination, options: &order.options, context };
    upload.settle(event.clone()).await
}

fn check_allowed(bucket: &str, config: &Config) -> Result<()> {
    if config.allowed_buckets.is_empty() || config.allowed_buckets.iter().any(|b| b == bucket) {
        return Ok(());
    }
    Err(Error::Forbidden { detail: format!("M2FP_ALLOWED_BUCKETS does not name the bucket `{bucket}`") })
}

/// Whether a key says that it is not a photo for us: a folder's marker, an upload that its owner sends to `/parse`, one of
/// our outputs by its name, or anything under the output prefix of a bucket that is written to. Without this an output would be taken for an upload, its
/// output again, and so on.
fn is_passed(object: &ObjectRef, order: &Order, config: &Config) -> Result<bool> {
    let is_written_to = order.writes_to(object) || Order::configured(config)?.writes_to(object);
    let is_sent_to_parse = config.is_upload(&object.bucket, &object.key);
    Ok(object.key.ends_with('/') || is_sent_to_parse || record::is_output_key(&object.key) || is_written_to)
}

/// One uploaded object on its way to its outputs.
struct Upload<'a> {
    pipeline: &'a Arc<Pipeline>,
    store: &'a dyn ObjectStore,
    destination: Destination,
    options: &'a Options,
    context: &'a Context,
}

impl Upload<'_> {
    /// Runs until what is stored is of the version that stands. A newer version's run may end before ours does, and ours
    /// would then overwrite it: whoever sees the photo replaced after storing its outputs runs the new one as well.
    async fn settle(&self, event: ObjectRef) -> Result<Done> {
        let mut wanted = event;
        for _ in 0..MOST_RUNS {
            let meta = match self.current(&wanted).await? {
                Ok(meta) => meta,
                Err(done) => return Ok(done),
            };
            if record::is_output(&meta) {
                return Ok(Done::Passed);
            }
            let pinned = ObjectRef { etag: meta.etag, version_id: meta.version_id, ..wanted };
            let done = self.run(&pinned, meta.bytes).await?;
            let has_written = matches!(done, Done::Stored | Done::Refused { .. });
            if !has_written || self.current(&pinned).await?.is_ok() {
                return Ok(done);
            }
            tracing::info!("replaced while it was being parsed");
            wanted = ObjectRef { etag: None, version_id: None, ..pinned };
        }
        Err(Error::Storage { detail: "the photo is being replaced over and over".to_owned(), source: None })
    }

    /// The object as it stands; what became of it if that is not the one wanted. A version id reads old versions too, so it is the
    /// newest version that is looked at, and compared.
    async fn current(&self, wanted: &ObjectRef) -> Result<Result<ObjectMeta, Done>> {
        let newest = ObjectRef { version_id: None, ..wanted.clone() };
        match self.store.head(&newest).await {
            Ok(meta) if wanted.version_id.is_some() && meta.version_id != wanted.version_id => Ok(Err(Done::Overtaken)),
            Ok(meta) => Ok(Ok(meta)),
            Err(Error::Overtaken) => Ok(Err(Done::Overtaken)),
            Err(Error::NoObject { .. }) => Ok(Err(Done::Gone)),
            Err(error) => Err(error),
        }
    }

    async fn run(&self, pinned: &ObjectRef, bytes: u64) -> Result<Done> {
        let work = Work::of_pinned(pinned, self.options, &self.pipeline.manifest);
        if record::is_done(self.store, &self.destination, &work).await? {
            return Ok(Done::Before);
        }
        let parsed = self.parse(pinned, bytes).await;
        if let Err(done) = self.current(pinned).await? {
            return Ok(done);
        }
        match parsed {
            Ok(outcome) => {
                record::write(self.store, &self.destination, &work, &outcome).await?;
                Ok(Done::Stored)
            }
            Err(error) if is_about_the_photo(&error) => {
                tracing::info!(error = error.chain(), "the photo cannot be served");
                record::write_error(self.store, &self.destination, &work, &error).await?;
                Ok(Done::Refused { code: problem::row(&error).1, detail: error.to_string() })
            }
            // It came and went: a retry sees what stands.
            Err(Error::Overtaken | Error::NoObject { .. }) => Ok(Done::Overtaken),
            Err(error) => Err(error),
        }
    }

    async fn parse(&self, pinned: &ObjectRef, bytes: u64) -> Result<Outcome> {
        let most = self.pipeline.config.max_object_bytes;
        if bytes > most {
            let detail = format!("the object has {bytes} bytes; at most {most} are read");
            return Err(Error::TooLarge { limit: Limit::Body, detail });
        }
        let prepared =
            self.pipeline.prepare(Source::Object(pinned.clone()), self.options.clone(), self.context).await?;
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
    use serde_json::{Value, json};
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
        let order = Order::configured(&pipeline.config)?;
        process(pipeline, at, &order, &Context { request_id: "test".to_owned(), deadline: None }).await
    }

    #[track_caller]
    fn refused(done: Result<Done>) -> &'static str {
        match done.unwrap() {
            Done::Refused { code, .. } => code,
            done => panic!("{done:?}"),
        }
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
    fn what_is_not_a_photo_for_us_is_passed() {
        let config = |vars: &[(&str, &str)]| {
            Config::from_vars(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))).unwrap()
        };
        let own = config(&[]);
        let apart = config(&[("M2FP_OUTPUT_BUCKET", "out")]);
        let no_prefix = Config { output_prefix: String::new(), ..config(&[]) };
        let passed = |config: &Config, bucket: &str, key: &str| {
            let at = ObjectRef { bucket: bucket.to_owned(), key: key.to_owned(), version_id: None, etag: None };
            is_passed(&at, &Order::configured(config).unwrap(), config).unwrap()
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
        let at = store.put_photo("photos", KEY, photo());
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
        let at = store.put_photo("photos", KEY, photo());
        assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Stored);
        for (name, kept) in store.objects() {
            let key = name.strip_prefix("photos/").unwrap();
            if key == KEY {
                continue;
            }
            let event =
                |key: &str| ObjectRef { bucket: "photos".into(), key: key.into(), version_id: None, etag: None };
            assert_eq!(run(&pipeline, &event(key)).await.unwrap(), Done::Passed, "{key}");
            // Copied elsewhere under another name, the mark still tells.
            store.interrupt(0, move |objects| objects.put("photos", "copy.png", kept.body, kept.metadata));
            assert_eq!(run(&pipeline, &event("copy.png")).await.unwrap(), Done::Passed, "{key}");
        }
    }

    #[tokio::test]
    async fn a_bad_image_leaves_its_reason_and_a_later_success_removes_it() {
        let (pipeline, store) = to_out(&[]);
        let good = store.put_photo("photos", KEY, photo());
        assert_eq!(run(&pipeline, &good).await.unwrap(), Done::Stored);
        let bad = store.put_photo("photos", KEY, Bytes::from_static(b"no image"));
        assert_eq!(refused(run(&pipeline, &bad).await), "unsupported");
        assert_eq!(outputs(&store), set(&[".error.json"]));
        let record: Value = serde_json::from_slice(&store.objects()["out/masks/a/b.jpg.error.json"].body).unwrap();
        assert_eq!((&record["status"], &record["code"]), (&json!(415), &json!("unsupported")));
        assert_eq!(record["source"]["etag"], bad.etag.unwrap());
        let mended = store.put_photo("photos", KEY, photo());
        assert_eq!(run(&pipeline, &mended).await.unwrap(), Done::Stored);
        assert_eq!(outputs(&store), set(&[".mask.png", ".json"]));
    }

    #[tokio::test]
    async fn too_large_is_known_before_the_body_is_read() {
        let (pipeline, store) = to_out(&[("M2FP_MAX_OBJECT_BYTES", "1000")]);
        let at = store.put_photo("photos", KEY, photo());
        assert_eq!(refused(run(&pipeline, &at).await), "body_too_large");
        assert_eq!(outputs(&store), set(&[".error.json"]));
    }

    #[tokio::test]
    async fn other_options_replace_the_outputs_consistently() {
        let (first, store) = to_out(&[("M2FP_OUTPUTS", "mask,overlay")]);
        let at = store.put_photo("photos", KEY, photo());
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
                let at = store.put_photo("photos", KEY, photo());
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
            let good = store.put_photo("photos", KEY, photo());
            run(&pipeline, &good).await.unwrap();
            let bad = store.put_photo("photos", KEY, Bytes::from_static(b"no image"));
            store.fail(Some((at_operation, Failing::After)));
            let result = run(&pipeline, &bad).await;
            outputs(&store);
            if store.operations() <= at_operation {
                break;
            }
            assert!(result.unwrap_err().retryable());
            store.fail(None);
            assert_eq!(refused(run(&pipeline, &bad).await), "unsupported");
            assert_eq!(outputs(&store), set(&[".error.json"]), "operation {at_operation}");
        }
    }

    #[tokio::test]
    async fn an_overtaken_event_ends_quietly() {
        let (pipeline, store) = to_out(&[]);
        let old = store.put_photo("photos", KEY, photo());
        let new = store.put_photo("photos", KEY, photo());
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
        assert_eq!(run(&pipeline, &gone).await.unwrap(), Done::Gone);
    }

    /// Somebody uploads a new version just before each operation in turn. Its own event comes later; until then what
    /// stands is of the old version or of the new, whole; after it, of the new.
    #[tokio::test]
    async fn a_photo_replaced_at_any_moment_ends_with_the_new_ones_outputs() {
        for at_operation in 0.. {
            let (pipeline, store) = to_out(&[]);
            let old = store.put_photo("photos", KEY, photo());
            let new = photo();
            store.interrupt(at_operation, move |objects| objects.put("photos", KEY, new, BTreeMap::new()));
            let result = run(&pipeline, &old).await.unwrap();
            outputs(&store);
            if store.operations() <= at_operation {
                assert_eq!(result, Done::Stored);
                break;
            }
            assert!(matches!(result, Done::Stored | Done::Overtaken));
            let event =
                ObjectRef { version_id: None, etag: Some(store.objects()["photos/a/b.jpg"].etag.clone()), ..old };
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
            let at = store.put_photo("photos", KEY, photo());
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
        let at = store.put_photo("photos", KEY, photo());
        store.forbid("out");
        assert!(matches!(run(&pipeline, &at).await, Err(Error::Forbidden { .. })));
        store.forbid("photos");
        assert!(matches!(run(&pipeline, &at).await, Err(Error::Forbidden { .. })));

        let (pipeline, store) = to_out(&[("M2FP_ALLOWED_BUCKETS", "other")]);
        let at = store.put_photo("photos", KEY, photo());
        assert!(matches!(run(&pipeline, &at).await, Err(Error::Forbidden { .. })));
        assert_eq!(store.operations(), 0);
    }
}
