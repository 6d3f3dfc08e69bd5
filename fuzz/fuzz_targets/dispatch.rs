//! Any bytes as an event: an answer or a named failure, never a panic, never this function's own fault.
//!
//! Works on stable: `cargo fuzz run --sanitizer none dispatch fuzz/corpus/dispatch events -- -max_total_time=30`.

#![no_main]

#[path = "../../tests/it/support/fake_engine.rs"]
#[allow(dead_code, reason = "the tests' double can do more")]
mod fake_engine;
#[path = "../../tests/it/support/memory_store.rs"]
#[allow(dead_code, reason = "the tests' double can do more")]
mod memory_store;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use m2fp::config::Config;
use fake_engine::FakeEngine;
use m2fp::http::App;
use m2fp::lambda::dispatch::dispatch;
use m2fp::manifest::Manifest;
use m2fp::pipeline::{Context, Pipeline};
use memory_store::MemoryStore;
use serde_json::value::RawValue;
use tokio::runtime::Runtime;

static APP: LazyLock<App> = LazyLock::new(|| {
    let manifest = Manifest::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/nano")).expect("a sound model");
    let engine = Arc::new(FakeEngine::new(manifest.clone()));
    let config = Config::from_vars([]).expect("defaults are sound");
    let store = Arc::new(MemoryStore::default());
    m2fp::lambda::app(Arc::new(Pipeline::with_engine(config, manifest, Some(store), engine)))
});

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));

fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = serde_json::from_slice::<Box<RawValue>>(bytes) else { return };
    let context = Context { request_id: "fuzz".to_owned(), deadline: None };
    match RUNTIME.block_on(dispatch(&APP, event, context)) {
        Ok(answer) => assert!(!answer.get().contains("\"statusCode\":500"), "{answer}"),
        Err(failure) => assert_ne!(failure.name, "internal", "{failure}"),
    }
});
