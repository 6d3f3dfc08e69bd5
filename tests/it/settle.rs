//! What becomes of an object that an event names, over a store in memory: every row of the table in `delivery/settle`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use m2fp::delivery::destination::Destination;
use m2fp::delivery::look::{DestinationState, look};
use m2fp::delivery::record::{Set, Written};
use m2fp::delivery::settle::{Done, Order, process};
use m2fp::delivery::work::WorkId;
use m2fp::error::{Error, Result};
use m2fp::pipeline::{Pipeline, Source};
use m2fp::store::{ObjectRef, ObjectStore};
use m2fp::units::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::counted::{Counted, Requests};
use crate::support::events::{invoke, photo};
use crate::support::http as support;
use crate::support::memory_store::{Failing, Kept, MemoryStore};

const KEY: &str = "a/b.jpg";

/// Operations of a first upload up to its last write: GET, HEAD, two PUT. What others do before them, its look finds.
const WRITTEN: usize = 4;

/// A pipeline whose network is made up, over a store in memory.
fn pipeline(settings: &[(&str, &str)]) -> (Arc<Pipeline>, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::with_versions());
    (over(&store, settings), store)
}

fn over(store: &Arc<MemoryStore>, settings: &[(&str, &str)]) -> Arc<Pipeline> {
    support::pipeline(settings, Some(Arc::clone(store) as Arc<dyn ObjectStore>))
}

fn to_out(more: &[(&'static str, &'static str)]) -> (Arc<Pipeline>, Arc<MemoryStore>) {
    let mut settings = vec![("OUTPUT_BUCKET", "out")];
    settings.extend_from_slice(more);
    pipeline(&settings)
}

async fn run(pipeline: &Arc<Pipeline>, at: &ObjectRef) -> Result<Done> {
    let order = Order::configured(&pipeline.config)?;
    process(&pipeline.begin(&support::context()), at, &order).await
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
            let sum = hex(&Sha256::digest(&objects[&key].body));
            assert_eq!(output["sha256"], sum, "{key}");
        }
    }
    objects.keys().filter_map(|name| name.strip_prefix(&stem).map(str::to_owned)).collect()
}

fn set(suffixes: &[&str]) -> BTreeSet<String> {
    suffixes.iter().map(|s| (*s).to_owned()).collect()
}

/// The word by which the function knows what it wrote.
fn marked() -> BTreeMap<String, String> {
    BTreeMap::from([("m2fp".to_owned(), "1".to_owned())])
}

fn bodies(objects: &BTreeMap<String, Kept>) -> BTreeMap<String, Bytes> {
    objects.iter().map(|(name, kept)| (name.clone(), kept.body.clone())).collect()
}

#[tokio::test]
async fn what_is_not_a_photo_for_us_is_passed() {
    // An object that is looked for is gone, since there is none.
    let is_passed = async |settings: &[(&str, &str)], bucket: &str, key: &str| {
        let at = ObjectRef { bucket: bucket.to_owned(), key: key.to_owned(), version_id: None, etag: None };
        match run(&pipeline(settings).0, &at).await.unwrap() {
            Done::Passed => true,
            Done::Gone => false,
            other => panic!("{other:?}"),
        }
    };
    let (own, apart) = (&[][..], &[("OUTPUT_BUCKET", "out")][..]);
    assert!(is_passed(own, "photos", "masks/a.jpg").await, "under the prefix of the event's own bucket");
    assert!(!is_passed(apart, "photos", "masks/a.jpg").await, "the prefix is the other bucket's");
    assert!(is_passed(apart, "out", "masks/a.jpg").await);
    for settings in [own, apart] {
        assert!(is_passed(settings, "photos", "a.jpg.mask.png").await);
        assert!(is_passed(settings, "photos", "a.jpg.error.json").await);
        assert!(is_passed(settings, "photos", "folder/").await);
        assert!(!is_passed(settings, "photos", "a.jpg").await);
    }
}

#[tokio::test]
async fn an_upload_leaves_mask_and_report_and_is_done_once() {
    let (pipeline, store) = to_out(&[]);
    let at = store.add("photos", KEY, photo());
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

    assert_eq!(run(&pipeline, &at).await.unwrap(), Done::StoredBefore);
    assert_eq!(store.objects(), before);
    // A lost output is made again.
    store.change(|objects| objects.remove("out", "masks/a/b.jpg.mask.png"));
    assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Stored);
    assert_eq!(bodies(&store.objects()), bodies(&before));
}

/// What one delivery of the photo asks of the buckets, and how many bodies it reads.
async fn cost_of_delivery(store: &Arc<MemoryStore>, outputs: &str) -> (Requests, usize) {
    let counted = Arc::new(Counted::new(Arc::clone(store)));
    let settings = [("OUTPUT_BUCKET", "out"), ("OUTPUTS", outputs)];
    let pipeline = support::pipeline(&settings, Some(Arc::clone(&counted) as Arc<dyn ObjectStore>));
    let event = ObjectRef { bucket: "photos".into(), key: KEY.into(), version_id: None, etag: None };
    let before = store.reads();
    run(&pipeline, &event).await.unwrap();
    (counted.take(), store.reads() - before)
}

/// The figures of ARCHITECTURE.md (Deliveries); those of the first upload are also what `scripts/scale.py` counts with.
#[tokio::test]
async fn requests_and_trips_are_counted() {
    let (good, other, bad) = (photo(), other_photo(), Bytes::from_static(b"no image"));
    let default = "mask,json";
    let rows: [(&str, &[&Bytes], &str, [usize; 5]); 8] = [
        // What stood, then what is uploaded; GET and HEAD, PUT, DELETE, trips, bodies read.
        ("a first upload", &[&good], default, [8, 2, 0, 4, 1]),
        ("a first upload, every output", &[&good], "mask,overlay,instances,cutout,json", [8, 5, 0, 4, 1]),
        ("a first upload, the mask in grey", &[&good], "index,json", [8, 2, 0, 4, 1]),
        ("no image", &[&bad], default, [8, 1, 0, 3, 1]),
        ("no image, replaced by none", &[&bad, &bad], default, [17, 2, 0, 7, 1]),
        ("a photo replaced", &[&good, &other], default, [15, 2, 1, 7, 1]),
        ("no image any more", &[&good, &bad], default, [15, 1, 2, 7, 1]),
        ("a photo at last", &[&bad, &good], default, [22, 2, 1, 8, 1]),
    ];
    for (scene, uploads, outputs, expected) in rows {
        let store = Arc::new(MemoryStore::default());
        let mut cost = (Requests::default(), 0);
        for (number, body) in uploads.iter().enumerate() {
            // An error record names the photo, and a bad one may be replaced by another.
            let tail = if scene.ends_with("by none") { number.to_string() } else { String::new() };
            store.add("photos", KEY, [&body[..], tail.as_bytes()].concat().into());
            cost = cost_of_delivery(&store, outputs).await;
        }
        let (asked, reads) = cost;
        let counted = [asked.of(&["GET", "HEAD"]), asked.of(&["PUT"]), asked.of(&["DELETE"]), asked.trips, reads];
        assert_eq!(counted, expected, "{scene}: {asked:?}");
        let (again, reads) = cost_of_delivery(&store, outputs).await;
        if uploads.last() != Some(&&bad) {
            assert_eq!((again.of(&["GET", "HEAD"]), again.trips, reads), (7, 2, 0), "{scene}, delivered again");
            assert_eq!(again.of(&["PUT", "DELETE"]), 0, "{scene}, delivered again");
        }
    }
    // A photo that is gone, and left nothing.
    let (asked, reads) = cost_of_delivery(&Arc::new(MemoryStore::default()), default).await;
    assert_eq!((asked.of(&["GET", "HEAD", "PUT", "DELETE"]), asked.trips, reads), (2, 1, 0));
}

/// A direct invocation for a photo, which says itself that the outputs go where an event's would.
fn storing(mut photo: Value) -> Value {
    photo["store"] = json!({"bucket": "out", "key_prefix": format!("masks/{KEY}")});
    photo
}

fn in_s3() -> Value {
    json!({"s3": {"bucket": "photos", "key": KEY}})
}

/// What is allowed to a request that stores.
const STORING: [(&str, &str); 2] = [("OUTPUT_BUCKET", "out"), ("ALLOWED_BUCKETS", "photos,out")];

/// The figures of ARCHITECTURE.md (Deliveries) for requests that say themselves where their outputs go.
#[tokio::test]
async fn requests_and_trips_of_stored_answers_are_counted() {
    let inline = || json!({"image": BASE64_STANDARD.encode(photo())});
    let stray = "masks/a/b.jpg.overlay.jpg";
    for (source, reads) in [(in_s3(), 1), (inline(), 0)] {
        // What stands: outputs of a photo, and something else; HEAD, PUT, DELETE, trips.
        let rows = [
            ("nothing", None, None, [6, 2, 0, 4]),
            ("its own outputs", Some(photo()), None, [6, 0, 0, 2]),
            ("those of another photo", Some(other_photo()), None, [12, 2, 1, 6]),
            ("what a run left that was cut short", None, Some(stray), [18, 2, 1, 7]),
        ];
        for (scene, before, left, [looks, puts, deletes, trips]) in rows {
            let store = Arc::new(MemoryStore::default());
            let counted = Arc::new(Counted::new(Arc::clone(&store)));
            // One for all of them: what it predicts, which is in the report, depends on what the process holds.
            let pipeline = support::pipeline(&STORING, Some(Arc::clone(&counted) as Arc<dyn ObjectStore>));
            if let Some(body) = before {
                store.add("photos", KEY, body.clone());
                let first = if reads == 0 { json!({"image": BASE64_STANDARD.encode(body)}) } else { in_s3() };
                invoke(&pipeline, &storing(first)).await.unwrap();
            }
            if let Some(key) = left {
                store.change(|objects| objects.put("out", key, Bytes::from_static(b"cut short"), marked()));
            }
            store.add("photos", KEY, photo());
            counted.take();
            let answer = invoke(&pipeline, &storing(source.clone())).await.unwrap();
            let asked = counted.take();
            let cost = [asked.of(&["GET", "HEAD"]), asked.of(&["PUT"]), asked.of(&["DELETE"]), asked.trips];
            assert_eq!(cost, [looks + reads, puts, deletes, trips], "{scene}: {asked:?}");
            assert_eq!(outputs(&store), set(&[".mask.png", ".json"]), "{scene}");
            let mask = store.body("out", "masks/a/b.jpg.mask.png").unwrap();
            assert_eq!(answer["outputs"][0]["sha256"], hex(&Sha256::digest(mask)), "{scene}");
        }
    }
}

/// Somebody keeps a cut-out and notes of their own under the names that outputs would have.
#[tokio::test]
async fn what_the_function_did_not_write_is_not_deleted() {
    let (pipeline, store) = pipeline(&STORING);
    store.add("photos", KEY, photo());
    let theirs = [".cutout.png", ".error.json"].map(|suffix| format!("masks/{KEY}{suffix}"));
    for key in &theirs {
        store.add("out", key, Bytes::from_static(b"made by hand"));
    }
    for body in [photo(), other_photo()] {
        store.add("photos", KEY, body);
        invoke(&pipeline, &storing(in_s3())).await.unwrap();
        for key in &theirs {
            assert_eq!(store.body("out", key), Some(Bytes::from_static(b"made by hand")), "{key}");
        }
        assert_eq!(outputs(&store), set(&[".mask.png", ".json", ".cutout.png", ".error.json"]));
    }
    let writes = store.written().len();
    invoke(&pipeline, &storing(in_s3())).await.unwrap();
    assert_eq!(store.written().len(), writes, "what is done is not done again");

    // A report by hand where one was asked for is overwritten, as a file is.
    store.add("out", &format!("masks/{KEY}.json"), Bytes::from_static(b"made by hand"));
    let answer = invoke(&pipeline, &storing(in_s3())).await.unwrap();
    let report = store.body("out", &format!("masks/{KEY}.json")).unwrap();
    assert_eq!(answer["outputs"][1]["sha256"], hex(&Sha256::digest(report)));
}

/// `p/anna.cutout.png` stored at `p/anna`.
#[tokio::test]
async fn no_output_takes_the_key_of_the_photo_itself() {
    let (pipeline, store) = pipeline(&STORING);
    store.add("photos", "p/anna.cutout.png", photo());
    let request = json!({
        "s3": {"bucket": "photos", "key": "p/anna.cutout.png"},
        "store": {"bucket": "photos", "key_prefix": "p/anna"},
    });
    let error = invoke(&pipeline, &request).await.unwrap_err().sentence;
    assert!(error.contains("the key of the photo itself, `p/anna.cutout.png`"), "{error}");
    assert_eq!(store.body("photos", "p/anna.cutout.png"), Some(photo()));
    assert_eq!(store.objects().len(), 1);
}

/// Another run writes at any moment beside a request that says where its outputs go, or has written before: the request
/// ends with its own outputs alone, and its answer is of what stands.
#[tokio::test]
async fn a_stored_answer_is_of_what_stands() {
    for suffix in [".mask.png", ".json", ".overlay.jpg", ".error.json"] {
        for at_operation in 0.. {
            let (pipeline, store) = pipeline(&STORING);
            store.add("photos", KEY, photo());
            store.interrupt(at_operation, move |objects| {
                let theirs = Bytes::from_static(br#"{"outputs": []}"#);
                objects.put("out", &format!("masks/{KEY}{suffix}"), theirs, marked());
            });
            let answer = invoke(&pipeline, &storing(in_s3())).await.unwrap();
            if at_operation < WRITTEN || store.operations() <= at_operation {
                assert_eq!(outputs(&store), set(&[".mask.png", ".json"]), "{suffix}, before operation {at_operation}");
                for (number, suffix) in [".mask.png", ".json"].into_iter().enumerate() {
                    let body = store.body("out", &format!("masks/{KEY}{suffix}")).unwrap();
                    assert_eq!(answer["outputs"][number]["sha256"], hex(&Sha256::digest(body)), "{suffix}");
                }
            }
            if store.operations() <= at_operation {
                break;
            }
        }
    }
}

/// Another run of the same work has left outputs of other bytes, as another kind of processor may: what a client is
/// told is what stands.
#[tokio::test]
async fn a_twins_outputs_are_not_taken_for_a_stored_answers_own() {
    let (pipeline, store) = pipeline(&STORING);
    store.add("photos", KEY, photo());
    invoke(&pipeline, &storing(in_s3())).await.unwrap();
    store.change(|objects| {
        for suffix in [".mask.png", ".json"] {
            objects.rewrite("out", &format!("masks/{KEY}{suffix}"), b" ", "m2fp-set", "the twin's");
        }
    });
    let answer = invoke(&pipeline, &storing(in_s3())).await.unwrap();
    let mask = store.body("out", "masks/a/b.jpg.mask.png").unwrap();
    assert_eq!(answer["outputs"][0]["sha256"], hex(&Sha256::digest(mask)));
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
        let event = |key: &str| ObjectRef { bucket: "photos".into(), key: key.into(), version_id: None, etag: None };
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
    let (pipeline, store) = to_out(&[("MAX_OBJECT_BYTES", "1000")]);
    let at = store.add("photos", KEY, photo());
    assert_eq!(refused(run(&pipeline, &at).await), "body_too_large");
    assert_eq!(outputs(&store), set(&[".error.json"]));
    assert_eq!(store.reads(), 0);
}

#[tokio::test]
async fn other_options_replace_the_outputs_consistently() {
    let (first, store) = to_out(&[("OUTPUTS", "mask,overlay")]);
    let at = store.add("photos", KEY, photo());
    assert_eq!(run(&first, &at).await.unwrap(), Done::Stored);
    assert_eq!(outputs(&store), set(&[".mask.png", ".overlay.jpg", ".json"]));
    let second = second(&store);
    assert_eq!(run(&second, &at).await.unwrap(), Done::Stored);
    assert_eq!(outputs(&store), set(&[".instances.png", ".json"]));
}

/// Both forms of the mask stand at one key: the report says which one it is, and the other takes its place.
#[tokio::test]
async fn the_masks_other_form_takes_its_place() {
    let (colored, store) = to_out(&[("OUTPUTS", "mask")]);
    let grey = over(&store, &[("OUTPUT_BUCKET", "out"), ("OUTPUTS", "index")]);
    let at = store.add("photos", KEY, photo());
    let mut masks = BTreeSet::new();
    for (pipeline, kind) in [(&colored, "mask"), (&grey, "index"), (&colored, "mask")] {
        assert_eq!(run(pipeline, &at).await.unwrap(), Done::Stored, "{kind}");
        assert_eq!(run(pipeline, &at).await.unwrap(), Done::StoredBefore, "{kind}");
        assert_eq!(outputs(&store), set(&[".mask.png", ".json"]), "{kind}");
        let objects = store.objects();
        let report: Value = serde_json::from_slice(&objects["out/masks/a/b.jpg.json"].body).unwrap();
        assert_eq!(
            (&report["outputs"][0]["kind"], &report["options"]),
            (&json!(kind), &json!(format!("output={kind},json")))
        );
        masks.insert(objects["out/masks/a/b.jpg.mask.png"].body.clone());
    }
    assert_eq!(masks.len(), 2);
}

/// Another function over the same store that makes other outputs.
fn second(store: &Arc<MemoryStore>) -> Arc<Pipeline> {
    over(store, &[("OUTPUT_BUCKET", "out"), ("OUTPUTS", "instances,json")])
}

/// Every operation in turn is the last one before a crash, or fails: what stands then is never a report that names
/// another run's outputs, and trying again leaves exactly what a run without a failure leaves.
#[tokio::test]
async fn a_crash_anywhere_is_mended_by_the_retry() {
    for failing in [Failing::Before, Failing::After] {
        for at_operation in 0.. {
            let (first, store) = to_out(&[("OUTPUTS", "mask,overlay")]);
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
    assert_eq!(run(&pipeline, &by(&new, false, false)).await.unwrap(), Done::StoredBefore);
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
        if at_operation <= WRITTEN {
            // The first operation of the look afterwards is at the photo.
            assert_ne!(source_of_report(&store)["etag"], old.etag.clone().unwrap(), "before operation {at_operation}");
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
                objects.put("out", &format!("masks/{KEY}{suffix}"), theirs, marked());
            });
            let done = run(&pipeline, &at).await.unwrap();
            if store.operations() <= at_operation {
                assert_eq!(done, Done::Stored);
                break;
            }
            assert_eq!(done, Done::Stored);
            if at_operation < WRITTEN {
                assert_eq!(outputs(&store), set(&[".mask.png", ".json"]), "{suffix}, before operation {at_operation}");
            }
            // After our last look it is for whoever wrote to look, and for a later delivery to mend.
            run(&pipeline, &at).await.unwrap();
            assert_eq!(outputs(&store), set(&[".mask.png", ".json"]), "{suffix}, operation {at_operation}");
        }
    }
}

/// A run that stood still while a newer one did everything, whether it had looked at what stood before or not: it may
/// not touch what that one wrote.
#[tokio::test]
async fn a_run_that_was_overtaken_writes_nothing_over_the_newer_ones() {
    for has_looked in [true, false] {
        let (pipeline, store) = to_out(&[("OUTPUTS", "mask,overlay")]);
        let old = store.add("photos", KEY, photo());
        let order = Order::configured(&pipeline.config).unwrap();
        let destination = Destination::for_source("out", "masks/", KEY).unwrap();
        let context = support::context();
        let looked = look(store.as_ref(), &destination).await.unwrap();
        let seen = if has_looked { looked } else { DestinationState::nothing() };
        let work = WorkId::of_pinned(&old, &order.options, &pipeline.manifest);
        let prepared = pipeline.begin(&context).prepare(Source::Object(old.clone()), order.options).await.unwrap();
        let outcome = pipeline.begin(&context).run(prepared).await.unwrap();

        let new = store.add("photos", KEY, other_photo());
        assert_eq!(run(&second(&store), &new).await.unwrap(), Done::Stored);
        let before = store.objects();
        // Where the newer one's options leave nothing, the old one can still write, but its report it cannot.
        let late = Set::of_outcome(&destination, &work, &outcome).unwrap();
        assert_eq!(late.write(store.as_ref(), &destination, &seen).await.unwrap(), Written::Conflict);
        let refusal = Set::of_error(&work, &Error::Undecodable { detail: "late".to_owned() }).unwrap();
        let refused = refusal.write(store.as_ref(), &destination, &seen).await.unwrap();
        for (name, kept) in before {
            assert_eq!(store.objects()[&name], kept, "{name}");
        }
        // The error record had nothing in its way; whoever wrote it looks again, as every run does.
        assert_eq!(refused, Written::Yes);
        assert!(!refusal.is_left(&look(store.as_ref(), &destination).await.unwrap()));
        assert_eq!(run(&second(&store), &old).await.unwrap(), Done::Stored);
        assert_eq!(outputs(&store), set(&[".instances.png", ".json"]));
    }
}

/// A photo in Glacier, Deep Archive or an archive of Intelligent-Tiering: no permission would help, so it is recorded
/// as refused, and parsed once it is restored and named again.
#[tokio::test]
async fn an_archived_photo_is_recorded_and_parsed_once_it_is_restored() {
    let (pipeline, store) = to_out(&[]);
    let at = store.add("photos", KEY, photo());
    store.archive("photos", KEY);
    assert_eq!(refused(run(&pipeline, &at).await), "archived");
    assert_eq!(outputs(&store), set(&[".error.json"]));
    let record: Value = serde_json::from_slice(&store.objects()[&format!("out/masks/{KEY}.error.json")].body).unwrap();
    assert_eq!((&record["status"], &record["code"]), (&json!(409), &json!("archived")));
    assert!(record["detail"].as_str().unwrap().contains("restore it first"), "{record}");
    store.restore("photos", KEY);
    assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Stored);
    assert_eq!(outputs(&store), set(&[".mask.png", ".json"]));
}

/// The new photo is not taken for the archived one, whenever it comes.
#[tokio::test]
async fn an_archived_photo_may_be_replaced_at_any_moment() {
    for at_operation in 0.. {
        let (pipeline, store) = to_out(&[]);
        let old = store.add("photos", KEY, photo());
        store.archive("photos", KEY);
        store.interrupt(at_operation, |objects| objects.put("photos", KEY, other_photo(), BTreeMap::new()));
        let result = run(&pipeline, &old).await;
        if store.operations() <= at_operation {
            assert_eq!(refused(result), "archived");
            assert_eq!(outputs(&store), set(&[".error.json"]));
            break;
        }
        match result {
            Ok(done) if outputs(&store) == set(&[".mask.png", ".json"]) => assert_eq!(done, Done::Stored),
            // Its look at the photo was before; or it was between the two.
            Ok(done) => assert_eq!((refused(Ok(done)), at_operation > WRITTEN), ("archived", true)),
            Err(error) => assert!(error.retryable() && at_operation == 2, "{error} before operation {at_operation}"),
        }
    }
}

#[tokio::test]
async fn a_torn_report_of_a_photo_that_is_gone_is_withdrawn() {
    let (pipeline, store) = to_out(&[]);
    let at = store.add("photos", KEY, photo());
    run(&pipeline, &at).await.unwrap();
    store.change(|objects| objects.remove("photos", KEY));
    assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Gone);
    assert_eq!(outputs(&store), set(&[".mask.png", ".json"]), "whole outputs stay");
    let whole = store.objects();
    store.change(|objects| {
        objects.put("out", "masks/a/b.jpg.mask.png", Bytes::from_static(b"theirs"), marked());
    });
    assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Gone);
    assert_eq!(outputs(&store), set(&[".mask.png"]));
    // Or an output is lost.
    let report = whole["out/masks/a/b.jpg.json"].clone();
    store.change(|objects| {
        objects.put("out", "masks/a/b.jpg.json", report.body, report.metadata);
        objects.remove("out", "masks/a/b.jpg.mask.png");
    });
    assert_eq!(run(&pipeline, &at).await.unwrap(), Done::Gone);
    assert_eq!(outputs(&store), set(&[]));
}

#[tokio::test]
async fn what_an_operator_must_mend_fails_the_invocation() {
    let (pipeline, store) = to_out(&[]);
    let at = store.add("photos", KEY, photo());
    store.forbid("out");
    assert!(matches!(run(&pipeline, &at).await, Err(Error::Forbidden { .. })));
    store.forbid("photos");
    assert!(matches!(run(&pipeline, &at).await, Err(Error::Forbidden { .. })));

    let (pipeline, store) = to_out(&[("ALLOWED_BUCKETS", "other")]);
    let at = store.add("photos", KEY, photo());
    assert!(matches!(run(&pipeline, &at).await, Err(Error::Forbidden { .. })));
    assert_eq!(store.operations(), 0);
}
