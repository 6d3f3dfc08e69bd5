//! What the HTTP tests share: a small model that does not change with the packaged one, an app around the fake engine,
//! and photos.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use m2fp::config::Config;
use m2fp::http::{App, handle};
use m2fp::manifest::Manifest;
use m2fp::pipeline::{Context, Pipeline};
use m2fp::store::ObjectStore;
use serde_json::{Value, json};

use super::fake_engine::FakeEngine;
pub use super::memory_store::MemoryStore;

pub fn manifest() -> Manifest {
    serde_json::from_value(json!({
        "schema": 1,
        "name": "fake",
        "version": "1.2.3",
        "description": "Two people side by side, in every photo.",
        "licence": "Apache-2.0",
        "files": [{"path": "model.onnx", "sha256": "00".repeat(32), "bytes": 1}],
        "input": {"name": "image", "dtype": "uint8",
            "size": {"min_side": 64, "max_side": 128, "divisor": 32, "smallest_side": 32}},
        "outputs": {"class_logits": "pred_logits", "mask_logits": "pred_masks", "queries": 8, "stride": 4},
        "classes": [
            {"id": 0, "name": "Background", "color": [0, 0, 0]},
            {"id": 1, "name": "Hair", "color": [0, 128, 0]},
            {"id": 2, "name": "Coat", "color": [128, 128, 128]},
            {"id": 3, "name": "Human", "color": [0, 64, 128]},
        ],
        "background_id": 0,
        "person_id": 3,
        "label_map": "semantic",
        "thresholds": {"top_k": 20, "part_score": 0.1, "person_score": 0.1, "paste_score": 0.5, "nms_iou": 0.7},
        "memory": {"load_mb": 1.0, "base_mb": 1.0, "bytes_per_pixel": 100.0},
        "time": {"base_ms": 1.0, "ns_per_pixel": 100.0, "threads": 1},
        "provenance": {"trained_on": "nothing"},
        "accuracy": {},
    }))
    .expect("the test manifest fits its type")
}

pub fn config(settings: &[(&str, &str)]) -> Config {
    let vars = settings.iter().map(|(name, value)| (format!("M2FP_{name}"), (*value).to_owned()));
    let fixed = [("M2FP_MEMORY_MB".to_owned(), "512".to_owned()), ("M2FP_THREADS".to_owned(), "1".to_owned())];
    Config::from_vars(fixed.into_iter().chain(vars)).expect("the test's settings are sound")
}

pub fn pipeline(settings: &[(&str, &str)], store: Option<Arc<dyn ObjectStore>>) -> Arc<Pipeline> {
    pipeline_of(manifest(), settings, store)
}

pub fn pipeline_of(
    manifest: Manifest,
    settings: &[(&str, &str)],
    store: Option<Arc<dyn ObjectStore>>,
) -> Arc<Pipeline> {
    let engine = Arc::new(FakeEngine::new(manifest.clone()));
    Arc::new(Pipeline::with_engine(config(settings), manifest, store, engine))
}

pub fn app(settings: &[(&str, &str)]) -> App {
    App::local(pipeline(settings, None))
}

pub fn context() -> Context {
    Context { request_id: "test-1".to_owned(), deadline: None }
}

/// A request: method and path in one word, then headers.
pub fn request(line: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Bytes> {
    let (method, path) = line.split_once(' ').expect("METHOD PATH");
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body.into()).expect("the test's request is sound")
}

pub async fn send(app: &App, line: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Bytes> {
    handle(app, request(line, headers, body), context()).await
}

#[track_caller]
pub fn json_of(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).expect("the body is JSON")
}

pub fn header<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().expect("the header is ASCII"))
}

/// A photo of this size: a PNG of gradients.
pub fn photo(width: u32, height: u32) -> Bytes {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().expect("a header");
    let pixels: Vec<u8> = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 128])).collect();
    writer.write_image_data(&pixels).expect("pixels");
    writer.finish().expect("an end");
    bytes.into()
}
