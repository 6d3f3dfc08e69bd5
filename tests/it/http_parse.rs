//! Photos through the public HTTP door, with the fake engine.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use m2fp::http::app::Stream;
use m2fp::http::{App, handle};
use m2fp::store::ObjectStore;
use serde_json::{Value, json};

use crate::support::http::{
    MemoryStore, app, context, header, json_of, manifest, photo, pipeline, pipeline_of, request, send,
};
use crate::support::memory_store::Failing;
use crate::support::metrics::{Lines, counted};

const JSON: (&str, &str) = ("content-type", "application/json");

fn lambda(settings: &[(&str, &str)], store: Option<Arc<MemoryStore>>, max_answer_bytes: u64) -> App {
    let store = store.map(|store| store as Arc<dyn ObjectStore>);
    App::new(pipeline(settings, store), Some(max_answer_bytes))
}

#[tokio::test]
async fn a_photo_comes_back_as_what_was_asked_for() {
    let app = app(&[]);
    for (line, accept, content_type) in [
        ("POST /parse", "*/*", "image/png"),
        ("POST /", "image/jpeg", "image/jpeg"),
        ("POST /parse/", "application/json", "application/json"),
        ("POST /Prod/parse?output=instances", "application/json", "image/png"),
        ("POST /parse?output=cutout", "image/jpeg", "image/png"),
        ("POST /parse?output=index", "application/json", "image/png"),
    ] {
        let response = send(&app, line, &[("accept", accept)], photo(90, 60)).await;
        assert_eq!(response.status(), StatusCode::OK, "{line}: {:?}", response.body());
        assert_eq!(header(&response, "content-type"), Some(content_type), "{line}");
        assert!(header(&response, "x-m2fp-plan").unwrap().contains("photo=90x60"), "{line}");
        assert!(header(&response, "server-timing").unwrap().contains("total;dur="), "{line}");
        assert_eq!(header(&response, "etag").unwrap().starts_with("W/"), content_type == "application/json");
    }
}

/// The pixels of a PNG of one byte for each, as they are in the file, and what the file takes them for.
fn png_bytes(file: &[u8]) -> (png::ColorType, Vec<u8>) {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    assert_eq!(reader.info().bit_depth, png::BitDepth::Eight);
    (reader.info().color_type, pixels)
}

#[tokio::test]
async fn the_mask_has_two_forms_with_the_same_numbers() {
    let app = app(&[]);
    let send = async |query: &str| send(&app, &format!("POST /parse?{query}"), &[], photo(90, 60)).await;
    let (mask, index) = (send("output=mask").await, send("output=index").await);
    let ((palette, indices), (grey, levels)) = (png_bytes(mask.body()), png_bytes(index.body()));
    assert_eq!((palette, grey), (png::ColorType::Indexed, png::ColorType::Grayscale));
    assert!(indices.iter().any(|id| *id > 0));
    assert_eq!(indices, levels);
    assert_ne!(header(&mask, "etag"), header(&index, "etag"));
}

#[tokio::test]
async fn every_form_of_a_body_gives_the_same_mask() {
    let app = app(&[]);
    let photo = photo(80, 50);
    let raw = send(&app, "POST /parse", &[("content-type", "image/png")], photo.clone()).await;
    let text = json!({"image": format!("data:image/png;base64,{}", STANDARD.encode(&photo))}).to_string();
    let encoded = send(&app, "POST /parse", &[JSON], text).await;
    let mut form = b"--B\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n".to_vec();
    form.extend_from_slice(&photo);
    form.extend_from_slice(b"\r\n--B--\r\n");
    let form = send(&app, "POST /parse", &[("content-type", "multipart/form-data; boundary=B")], form).await;
    assert_eq!(raw.status(), StatusCode::OK);
    assert_eq!(encoded.body(), raw.body());
    assert_eq!(form.body(), raw.body());
    assert_eq!(header(&encoded, "etag"), header(&raw, "etag"));
}

#[tokio::test]
async fn an_answer_at_hand_is_not_made_again() {
    let app = app(&[]);
    let first = send(&app, "POST /parse", &[], photo(80, 50)).await;
    let etag = header(&first, "etag").unwrap();
    let again = send(&app, "POST /parse", &[("if-none-match", etag)], photo(80, 50)).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert!(again.body().is_empty());
    assert_eq!(header(&again, "etag"), Some(etag));
    let other_options = send(&app, "POST /parse?output=overlay", &[("if-none-match", etag)], photo(80, 50)).await;
    assert_eq!(other_options.status(), StatusCode::OK);
    let other_photo = send(&app, "POST /parse", &[("if-none-match", etag)], photo(80, 51)).await;
    assert_eq!(other_photo.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_plan_is_told_without_running() {
    let response = send(&app(&[]), "POST /plan", &[], photo(90, 60)).await;
    let mut plan = json_of(&response);
    plan["plan"]["predicted_peak_mb"] = "[depends on the process]".into();
    plan["plan"]["predicted_ms"] = "[depends on calibration]".into();
    insta::assert_json_snapshot!(plan);
}

#[tokio::test]
async fn refusals_are_findings_of_a_plan_and_failures_of_a_run() {
    let app = app(&[("MAX_SOURCE_PIXELS", "1000")]);
    for (body, status, code) in
        [(photo(90, 60), 413, "too_many_pixels"), (bytes::Bytes::from_static(b"no image"), 415, "unsupported")]
    {
        let plan = send(&app, "POST /plan", &[], body.clone()).await;
        assert_eq!(plan.status(), StatusCode::OK);
        let plan = json_of(&plan);
        assert_eq!((&plan["admitted"], &plan["refused"]["status"]), (&json!(false), &json!(status)));
        let run = send(&app, "POST /parse", &[], body).await;
        assert_eq!(run.status().as_u16(), status);
        assert_eq!(json_of(&run)["code"], code);
        assert_eq!(json_of(&run)["detail"], plan["refused"]["detail"]);
    }
}

#[tokio::test]
async fn a_photo_that_memory_refuses_is_planned_and_not_run() {
    let mut hungry = manifest();
    hungry.memory.base_mb = 4096.0;
    let app = App::local(pipeline_of(hungry, &[], None));
    let plan = json_of(&send(&app, "POST /plan", &[], photo(90, 60)).await);
    let run = send(&app, "POST /parse", &[], photo(90, 60)).await;
    assert_eq!(plan["admitted"], false, "{plan}");
    assert_eq!(plan["refused"]["code"], "too_little_memory");
    assert!(plan["plan"]["working_width"].is_u64());
    assert_eq!(run.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(json_of(&run)["detail"], plan["refused"]["detail"]);
}

#[tokio::test]
async fn each_parse_is_counted_once_and_nothing_else_is() {
    let lines = Lines::default();
    let app = App::local(counted(pipeline(&[], None), &lines));
    let parsed = send(&app, "POST /parse", &[], photo(90, 60)).await;
    let [line]: [Value; 1] = lines.take().try_into().unwrap();
    assert_eq!((&line["Parsed"], &line["request_id"]), (&json!(1.0), &json!("test-1")));
    assert!(line["PeakMemory"].as_f64().unwrap() > 1.0 && line["InferenceTime"].is_f64());

    let etag = header(&parsed, "etag").unwrap();
    assert_eq!(send(&app, "POST /parse", &[("if-none-match", etag)], photo(90, 60)).await.status(), 304);
    assert_eq!(lines.ends(), ["Skipped"]);
    for line in ["POST /plan", "POST /plan?output=cutout"] {
        assert_eq!(send(&app, line, &[], photo(90, 60)).await.status(), StatusCode::OK);
        assert_eq!(send(&app, line, &[], "no image").await.status(), StatusCode::OK);
    }
    assert_eq!(lines.take(), [Value::Null; 0]);

    send(&app, "POST /parse", &[], "no image").await;
    let [line]: [Value; 1] = lines.take().try_into().unwrap();
    assert_eq!((&line["ClientFaults"], &line["Parses"]), (&json!(1.0), &json!(1.0)));
    assert!(line.get("WorkingPixels").is_none());

    let mut hungry = manifest();
    hungry.memory.base_mb = 4096.0;
    let app = App::local(counted(pipeline_of(hungry, &[], None), &lines));
    send(&app, "POST /parse", &[], photo(90, 60)).await;
    let [line]: [Value; 1] = lines.take().try_into().unwrap();
    assert_eq!(line["TooLittleMemory"], 1.0);
    assert!(line["PredictedMemory"].as_f64().unwrap() > 4096.0 && line.get("PeakMemory").is_none());
}

/// Whichever operation of the store is the one that fails: what could not be stored was not parsed.
#[tokio::test]
async fn an_answer_that_storage_fails_is_not_counted_as_parsed() {
    let stored = json!({
        "s3": {"bucket": "masks", "key": "photo.png"},
        "store": {"bucket": "masks", "key_prefix": "x"},
    });
    // The second one is too large to send, and stored and linked.
    let linked = json!({"s3": {"bucket": "masks", "key": "photo.png"}, "options": {"output": "cutout"}});
    for body in [stored, linked] {
        for at_operation in 0.. {
            let store = MemoryStore::with("masks", "photo.png", photo(200, 200));
            store.fail(Some((at_operation, Failing::Before)));
            let (lines, allowed) = (Lines::default(), [("OUTPUT_BUCKET", "masks"), ("ALLOWED_BUCKETS", "masks")]);
            let app = App::new(counted(pipeline(&allowed, Some(store.clone())), &lines), Some(1000));
            let status = send(&app, "POST /parse", &[JSON], body.to_string()).await.status();
            if store.operations() <= at_operation {
                assert!(at_operation > 0 && !status.is_server_error(), "{status}");
                assert_eq!(lines.ends(), ["Parsed"]);
                break;
            }
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "operation {at_operation}");
            assert_eq!(lines.ends(), ["StorageFaults"], "operation {at_operation}");
        }
    }
}

#[tokio::test]
async fn objects_of_allowed_buckets_are_read() {
    let store = MemoryStore::with("photos", "a b.png", photo(80, 50));
    let app = lambda(&[("ALLOWED_BUCKETS", "photos")], Some(store), 1 << 20);
    let body = |key: &str| json!({"s3": {"bucket": "photos", "key": key}}).to_string();
    assert_eq!(send(&app, "POST /parse", &[JSON], body("a b.png")).await.status(), StatusCode::OK);
    assert_eq!(send(&app, "POST /parse", &[JSON], body("other.png")).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(send(&app, "POST /plan", &[JSON], body("other.png")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn stored_outputs_are_written_before_the_report() {
    let store = Arc::new(MemoryStore::default());
    let app = lambda(&[("OUTPUT_BUCKET", "masks")], Some(Arc::clone(&store)), 1 << 20);
    let body = json!({
        "image": STANDARD.encode(photo(80, 50)),
        "options": {"output": ["instances", "mask"]},
        "store": {"bucket": "masks", "key_prefix": "x/y.png"},
    });
    let response = send(&app, "POST /parse", &[JSON], body.to_string()).await;
    assert_eq!(response.status(), StatusCode::OK, "{:?}", response.body());
    let written = store.written();
    assert_eq!(written, ["x/y.png.instances.png", "x/y.png.mask.png", "x/y.png.json"]);
    let report = json_of(&response);
    assert_eq!(report["outputs"][1]["s3"], json!({"bucket": "masks", "key": "x/y.png.mask.png"}));
    let record: serde_json::Value =
        serde_json::from_slice(&store.body("masks", "x/y.png.json").unwrap()).expect("a report");
    assert!(record.get("timings_ms").is_none() && record.get("memory").is_none());
    let default_kinds =
        json!({"image": STANDARD.encode(photo(80, 50)), "store": {"bucket": "masks", "key_prefix": "z"}});
    let response = send(&app, "POST /parse", &[JSON, ("accept", "image/jpeg")], default_kinds.to_string()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(store.body("masks", "z.mask.png").is_some() && store.body("masks", "z.overlay.jpg").is_none());
}

#[tokio::test]
async fn an_answer_too_large_is_linked_or_refused() {
    let store = Arc::new(MemoryStore::default());
    let linking = lambda(&[("OUTPUT_BUCKET", "masks")], Some(Arc::clone(&store)), 100);
    let response = send(&linking, "POST /parse", &[], photo(200, 200)).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER, "{:?}", response.body());
    let output = &json_of(&response)["outputs"][0];
    assert_eq!(header(&response, "location"), output["s3"]["url"].as_str());
    let key = output["s3"]["key"].as_str().unwrap();
    assert!(key.starts_with("masks/answers/") && key.ends_with(".mask.png"), "{key}");
    let whole = send(&app(&[]), "POST /parse", &[], photo(200, 200)).await;
    assert_eq!(store.body("masks", key).as_ref(), Some(whole.body()));
    assert!(m2fp::delivery::look::is_output(&store.metadata("masks", key).unwrap()));

    let refusing = lambda(&[], None, 100);
    let response = send(&refusing, "POST /parse?output=cutout", &[], photo(200, 200)).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(json_of(&response)["code"], "answer_too_large");
    assert!(json_of(&response)["detail"].as_str().unwrap().contains("`mask`"));
}

#[tokio::test]
async fn a_streamed_answer_has_the_streams_room_and_a_larger_one_is_linked() {
    let store = Arc::new(MemoryStore::default());
    // In Lambda's JSON no image would fit.
    let app = lambda(&[("OUTPUT_BUCKET", "masks")], Some(Arc::clone(&store)), 4);
    for (most_bytes, status) in [(1 << 20, StatusCode::OK), (10, StatusCode::SEE_OTHER)] {
        let mut request = request("POST /parse?output=mask", &[], photo(90, 60));
        request.extensions_mut().insert(Stream { most_bytes, unthrottled_bytes: 1 << 20, bytes_per_second: 1 });
        let response = handle(&app, request, context()).await;
        assert_eq!(response.status(), status, "{most_bytes}");
    }
    let mut request = request("GET /info", &[], "");
    request.extensions_mut().insert(Stream { most_bytes: 77, unthrottled_bytes: 7, bytes_per_second: 1 });
    let info = json_of(&handle(&app, request, context()).await);
    assert_eq!((&info["limits"]["max_answer_bytes"], &info["limits"]["max_body_bytes"]), (&json!(77), &json!(3)));
}
