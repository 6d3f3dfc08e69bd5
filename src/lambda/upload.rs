//! An object that an event names, and what becomes of it, whichever door the event came through:
//!
//! | what happens | then |
//! |---|---|
//! | the photo was parsed | outputs and, last, the report are stored ([`crate::record`]) |
//! | the same work is stored already | nothing is done |
//! | the photo was replaced since | the newer one is parsed, unless its own event had that done already |
//! | the photo was removed since | nothing is done |
//! | it is one of our own outputs, a folder's marker, or an upload for `/parse` | nothing is done |
//! | the photo cannot be served (no image, too large, archived, …) | `….error.json` says why |
//! | storage, deadline, memory held by others, internal | an error: trying again may help |
//! | permission is lacking, the bucket is not allowed, the key is no key | an error: trying again does not help, and the door sees to it that the event is not lost |
//!
//! The function needs `s3:ListBucket` on both buckets: without it S3 says 403 for an object that is gone.

use std::sync::Arc;

use crate::access;
use crate::config::Config;
use crate::error::{Error, Limit, Result};
use crate::http::problem;
use crate::options::{Options, RawOptions};
use crate::pipeline::{Context, Outcome, Pipeline, Source};
use crate::record::{self, Destination, Seen, Work, Written};
use crate::store::{ObjectMeta, ObjectRef, ObjectStore};
use crate::telemetry::emf::{Ended, Parse};

/// How often one delivery begins again because the photo was replaced, or others wrote, meanwhile.
const MOST_RUNS: usize = 3;

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    Stored,
    /// The same work was stored before.
    Before,
    /// Replaced since the event; the newer photo's outputs were stored before.
    Overtaken,
    /// Removed since the event.
    Gone,
    /// Not a photo for us to parse.
    Passed,
    /// A photo that cannot be served; the error record says the same.
    Refused {
        code: &'static str,
        detail: String,
        ended: Ended,
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

    /// How it is counted.
    #[must_use]
    pub const fn ended(&self) -> Ended {
        match self {
            Self::Stored => Ended::Ok,
            Self::Before | Self::Passed => Ended::Skipped,
            Self::Overtaken | Self::Gone => Ended::Overtaken,
            Self::Refused { ended, .. } => *ended,
        }
    }
}

/// Writes the line of metrics of an object that a door is done with, and has it back.
pub(super) fn counted(pipeline: &Pipeline, context: &Context, parse: &Parse, done: Result<Done>) -> Result<Done> {
    pipeline.count(context, parse, done.as_ref().map_or_else(Ended::of_error, Done::ended));
    done
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

/// Parses an object as `order` says and stores what comes of it. `event` names the object and, if it says so, a version;
/// what is made is always of the newest. What that took is noted in `parse`; the door counts it.
///
/// # Errors
/// Those that a retry or an operator must mend; see the module.
pub async fn process(
    pipeline: &Arc<Pipeline>,
    event: &ObjectRef,
    order: &Order,
    context: &Context,
    parse: &mut Parse,
) -> Result<Done> {
    let config = &pipeline.config;
    access::check_object(&event.bucket, &event.key)?;
    check_allowed(&event.bucket, config)?;
    if is_passed(event, order, config)? {
        return Ok(Done::Passed);
    }
    let store = pipeline.store.as_ref().ok_or_else(|| Error::internal("no object store is configured"))?;
    let bucket = order.bucket.as_ref().unwrap_or(&event.bucket);
    let destination = Destination::for_source(bucket, &order.prefix, &event.key)?;
    let upload = Upload { pipeline, store: store.as_ref(), destination, options: &order.options, context };
    upload.settle(event, parse).await
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
    /// Makes what belongs to the object as it stands, whatever version the event names: an event says that a key
    /// changed, and every delivery leaves the destination as the newest version wants it. Only another look, after
    /// whatever was written, ends it; so whoever writes last has seen that all is right.
    async fn settle(&self, event: &ObjectRef, parse: &mut Parse) -> Result<Done> {
        let mut made: Option<(ObjectRef, Done)> = None;
        for run in 0.. {
            let Some(meta) = self.newest(event).await? else {
                record::withdraw_mixed(self.store, &self.destination).await?;
                return Ok(Done::Gone);
            };
            if record::is_output(&meta) {
                return Ok(Done::Passed);
            }
            let at = ObjectRef { etag: meta.etag, version_id: meta.version_id, ..event.clone() };
            let work = Work::of_pinned(&at, self.options, &self.pipeline.manifest);
            let seen = record::look(self.store, &self.destination).await?;
            let is_whole = seen.is_whole(&work);
            match &made {
                Some((of, done @ Done::Refused { .. })) if *of == at && seen.is_refusal(&work) => {
                    return Ok(done.clone());
                }
                Some((of, done)) if *of == at && is_whole => return Ok(done.clone()),
                _ if is_whole && is_about(event, &at) => return Ok(Done::Before),
                _ if is_whole => return Ok(Done::Overtaken),
                _ if run == MOST_RUNS => break,
                _ => made = self.make(&at, meta.bytes, &work, &seen, parse).await?.map(|done| (at, done)),
            }
        }
        Err(record::contended())
    }

    /// The object as it stands now; `None` if there is none.
    async fn newest(&self, at: &ObjectRef) -> Result<Option<ObjectMeta>> {
        let newest = ObjectRef { version_id: None, etag: None, ..at.clone() };
        match self.store.head(&newest).await {
            Ok(meta) => Ok(Some(meta)),
            Err(Error::NoObject { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Parses one version and writes what comes of it over what was seen; `None` when the photo, or what was seen,
    /// is another by now.
    async fn make(
        &self,
        at: &ObjectRef,
        bytes: u64,
        work: &Work,
        seen: &Seen,
        parse: &mut Parse,
    ) -> Result<Option<Done>> {
        let parsed = self.parse(at, bytes, parse).await;
        let newest = self.newest(at).await?;
        if newest.is_none_or(|meta| meta.etag != at.etag || meta.version_id != at.version_id) {
            return Ok(None);
        }
        let (written, done) = match parsed {
            Ok(outcome) => (record::write(self.store, &self.destination, work, seen, &outcome).await?, Done::Stored),
            Err(error) if is_about_the_photo(&error) => {
                tracing::info!(error = error.chain(), "the photo cannot be served");
                let written = record::write_error(self.store, &self.destination, work, seen, &error).await?;
                let (code, ended) = (problem::row(&error).1, Ended::of_error(&error));
                (written, Done::Refused { code, detail: error.to_string(), ended })
            }
            // It was another when it was read.
            Err(Error::Overtaken | Error::NoObject { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok((written == Written::Yes).then_some(done))
    }

    async fn parse(&self, at: &ObjectRef, bytes: u64, parse: &mut Parse) -> Result<Outcome> {
        let most = self.pipeline.config.max_object_bytes;
        if bytes > most {
            let detail = format!("the object has {bytes} bytes; at most {most} are read");
            return Err(Error::TooLarge { limit: Limit::Body, detail });
        }
        let prepared = self.pipeline.prepare(Source::Object(at.clone()), self.options.clone(), self.context).await?;
        self.pipeline.run(prepared, self.context, parse).await
    }
}

/// Whether an event is about this version, as far as it says.
fn is_about(event: &ObjectRef, at: &ObjectRef) -> bool {
    let fits = |said: &Option<String>, is: &Option<String>| said.is_none() || said == is;
    fits(&event.etag, &at.etag) && fits(&event.version_id, &at.version_id)
}

/// Whether the same photo, as it is kept, would be refused every time: it is recorded, and nobody tries again.
fn is_about_the_photo(error: &Error) -> bool {
    matches!(
        error,
        Error::TooLarge { .. } | Error::Unsupported { .. } | Error::Undecodable { .. } | Error::Archived { .. }
    )
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
        let store = Arc::new(MemoryStore::with_versions());
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
        let context = Context { request_id: "test".to_owned(), deadline: None };
        process(pipeline, at, &order, &context, &mut Parse::default()).await
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
        let at = store.add("photos", KEY, photo());
        assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Stored);
        assert_eq!(outputs(&store), set(&[".mask.png", ".json"]));
        assert_eq!(store.operations(), 18, "scripts/scale.py counts them: 15 HEAD, 1 GET, 2 PUT");
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
        store.change(|objects| objects.remove("out", "masks/a/b.jpg.mask.png"));
        assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Stored);
        assert_eq!(bodies(&store.objects()), bodies(&before));
    }

    #[tokio::test]
    async fn the_same_bucket_serves_both_and_outputs_are_no_photos() {
        let (pipeline, store) = pipeline(&[]);
        let at = store.add("photos", KEY, photo());
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
            store.change(|objects| objects.put("photos", "copy.png", kept.body, kept.metadata));
            assert_eq!(run(&pipeline, &event("copy.png")).await.unwrap(), Done::Passed, "{key}");
        }
    }

    #[tokio::test]
    async fn a_bad_image_leaves_its_reason_and_a_later_success_removes_it() {
        let (pipeline, store) = to_out(&[]);
        let good = store.add("photos", KEY, photo());
        assert_eq!(run(&pipeline, &good).await.unwrap(), Done::Stored);
        let bad = store.add("photos", KEY, Bytes::from_static(b"no image"));
        assert_eq!(refused(run(&pipeline, &bad).await), "unsupported");
        assert_eq!(outputs(&store), set(&[".error.json"]));
        let record: Value = serde_json::from_slice(&store.objects()["out/masks/a/b.jpg.error.json"].body).unwrap();
        assert_eq!((&record["status"], &record["code"]), (&json!(415), &json!("unsupported")));
        assert_eq!(record["source"]["etag"], bad.etag.unwrap());
        let mended = store.add("photos", KEY, photo());
        assert_eq!(run(&pipeline, &mended).await.unwrap(), Done::Stored);
        assert_eq!(outputs(&store), set(&[".mask.png", ".json"]));
    }

    #[tokio::test]
    async fn too_large_is_known_before_the_body_is_read() {
        let (pipeline, store) = to_out(&[("M2FP_MAX_OBJECT_BYTES", "1000")]);
        let at = store.add("photos", KEY, photo());
        assert_eq!(refused(run(&pipeline, &at).await), "body_too_large");
        assert_eq!(outputs(&store), set(&[".error.json"]));
    }

    #[tokio::test]
    async fn other_options_replace_the_outputs_consistently() {
        let (first, store) = to_out(&[("M2FP_OUTPUTS", "mask,overlay")]);
        let at = store.add("photos", KEY, photo());
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
                let at = store.add("photos", KEY, photo());
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
            let good = store.add("photos", KEY, photo());
            run(&pipeline, &good).await.unwrap();
            let bad = store.add("photos", KEY, Bytes::from_static(b"no image"));
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

    /// The events' photo with bytes after its end that make it another.
    fn other_photo() -> Bytes {
        [&photo()[..], b"other"].concat().into()
    }

    #[tokio::test]
    async fn an_overtaken_event_leaves_the_newer_photos_outputs() {
        let (pipeline, store) = to_out(&[]);
        let old = store.add("photos", KEY, photo());
        let new = store.add("photos", KEY, other_photo());
        // Whoever comes first sees to it that what stands is of the photo that stands.
        assert_eq!(run(&pipeline, &old).await.unwrap(), Done::Stored);
        assert_eq!(outputs(&store), set(&[".mask.png", ".json"]));
        assert_eq!(source_of_report(&store)["version_id"], new.version_id.clone().unwrap());
        // Buckets without versions have the ETag alone, those with them may be asked by version alone.
        let by = |at: &ObjectRef, etag, version| ObjectRef {
            etag: at.etag.clone().filter(|_| etag),
            version_id: at.version_id.clone().filter(|_| version),
            ..at.clone()
        };
        assert_eq!(run(&pipeline, &by(&old, true, false)).await.unwrap(), Done::Overtaken);
        assert_eq!(run(&pipeline, &by(&old, false, true)).await.unwrap(), Done::Overtaken);
        assert_eq!(run(&pipeline, &by(&new, false, false)).await.unwrap(), Done::Before);
        let gone = ObjectRef { key: "gone.jpg".into(), ..new };
        assert_eq!(run(&pipeline, &gone).await.unwrap(), Done::Gone);
    }

    fn source_of_report(store: &MemoryStore) -> Value {
        let report: Value = serde_json::from_slice(&store.objects()["out/masks/a/b.jpg.json"].body).unwrap();
        report["source"].clone()
    }

    /// Somebody uploads a new version just before each operation in turn: the delivery that is under way leaves the new
    /// one's outputs, or the new one's own delivery does; in between a report that stands names what stands.
    #[tokio::test]
    async fn a_photo_replaced_at_any_moment_ends_with_the_new_ones_outputs() {
        for at_operation in 0.. {
            let (pipeline, store) = to_out(&[]);
            let old = store.add("photos", KEY, photo());
            store.interrupt(at_operation, |objects| objects.put("photos", KEY, other_photo(), BTreeMap::new()));
            let result = run(&pipeline, &old).await.unwrap();
            outputs(&store);
            if store.operations() <= at_operation {
                assert_eq!(result, Done::Stored);
                break;
            }
            let new = &store.objects()["photos/a/b.jpg"];
            let event = ObjectRef { version_id: None, etag: Some(new.etag.clone()), ..old };
            run(&pipeline, &event).await.unwrap();
            assert_eq!(source_of_report(&store)["etag"], new.etag, "operation {at_operation}");
            assert_eq!(outputs(&store), set(&[".mask.png", ".json"]));
        }
    }

    /// Another run writes beside ours at any moment, an output or a report: ours starts over, or never wrote.
    #[tokio::test]
    async fn what_others_write_meanwhile_is_not_left_mixed() {
        for suffix in [".mask.png", ".json", ".overlay.jpg", ".error.json"] {
            for at_operation in 0.. {
                let (pipeline, store) = to_out(&[]);
                let at = store.add("photos", KEY, photo());
                store.interrupt(at_operation, move |objects| {
                    let theirs = Bytes::from_static(br#"{"outputs": []}"#);
                    objects.put("out", &format!("masks/{KEY}{suffix}"), theirs, BTreeMap::new());
                });
                let done = run(&pipeline, &at).await.unwrap();
                if store.operations() <= at_operation {
                    assert_eq!(done, Done::Stored);
                    break;
                }
                assert_eq!(done, Done::Stored);
                // After our last look it is for whoever wrote to look, and for a later delivery to mend.
                run(&pipeline, &at).await.unwrap();
                assert_eq!(outputs(&store), set(&[".mask.png", ".json"]), "{suffix}, operation {at_operation}");
            }
        }
    }

    /// A run that stood still while a newer one did everything: it may not touch what that one wrote.
    #[tokio::test]
    async fn a_run_that_was_overtaken_writes_nothing_over_the_newer_ones() {
        let (pipeline, store) = to_out(&[("M2FP_OUTPUTS", "mask,overlay")]);
        let old = store.add("photos", KEY, photo());
        let order = Order::configured(&pipeline.config).unwrap();
        let destination = Destination::for_source("out", "masks/", KEY).unwrap();
        let context = Context { request_id: "test".to_owned(), deadline: None };
        let seen = record::look(store.as_ref(), &destination).await.unwrap();
        let work = Work::of_pinned(&old, &order.options, &pipeline.manifest);
        let prepared = pipeline.prepare(Source::Object(old.clone()), order.options, &context).await.unwrap();
        let outcome = pipeline.run(prepared, &context, &mut Parse::default()).await.unwrap();

        let new = store.add("photos", KEY, other_photo());
        assert_eq!(run(&second(&store), &new).await.unwrap(), Done::Stored);
        let before = store.objects();
        // Where the newer one's options leave nothing, the old one can still write, but its report it cannot.
        let written = record::write(store.as_ref(), &destination, &work, &seen, &outcome).await.unwrap();
        assert_eq!(written, Written::NotOver);
        let error = Error::Undecodable { detail: "late".to_owned() };
        let refused = record::write_error(store.as_ref(), &destination, &work, &seen, &error).await.unwrap();
        for (name, kept) in before {
            assert_eq!(store.objects()[&name], kept, "{name}");
        }
        // The error record had nothing in its way; whoever wrote it looks again, as every run does.
        assert_eq!(refused, Written::Yes);
        assert_eq!(run(&second(&store), &old).await.unwrap(), Done::Stored);
        assert_eq!(outputs(&store), set(&[".instances.png", ".json"]));
    }

    #[tokio::test]
    async fn a_mixed_report_of_a_photo_that_is_gone_is_withdrawn() {
        let (pipeline, store) = to_out(&[]);
        let at = store.add("photos", KEY, photo());
        run(&pipeline, &at).await.unwrap();
        store.change(|objects| objects.remove("photos", KEY));
        assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Gone);
        assert_eq!(outputs(&store), set(&[".mask.png", ".json"]), "whole outputs stay");
        store.change(|objects| {
            objects.put("out", "masks/a/b.jpg.mask.png", Bytes::from_static(b"theirs"), BTreeMap::new());
        });
        assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Gone);
        assert_eq!(outputs(&store), set(&[".mask.png"]));
    }

    #[tokio::test]
    async fn what_an_operator_must_mend_fails_the_invocation() {
        let (pipeline, store) = to_out(&[]);
        let at = store.add("photos", KEY, photo());
        store.forbid("out");
        assert!(matches!(run(&pipeline, &at).await, Err(Error::Forbidden { .. })));
        store.forbid("photos");
        assert!(matches!(run(&pipeline, &at).await, Err(Error::Forbidden { .. })));

        let (pipeline, store) = to_out(&[("M2FP_ALLOWED_BUCKETS", "other")]);
        let at = store.add("photos", KEY, photo());
        assert!(matches!(run(&pipeline, &at).await, Err(Error::Forbidden { .. })));
        assert_eq!(store.operations(), 0);
    }
}
