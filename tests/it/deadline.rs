//! Work that would not end in time is refused, and work that did not is answered all the same.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use m2fp::error::{Error, Result};
use m2fp::manifest::Manifest;
use m2fp::options::Options;
use m2fp::pipeline::{Context, Outcome, Pipeline, Source};

use serde_json::json;

use crate::support::events;
use crate::support::fake_engine::GatedEngine;
use crate::support::faults::{Fault, Faulty, until_crash};
use crate::support::http as support;
use crate::support::memory_store::MemoryStore;

fn gated(manifest: &Manifest) -> (Pipeline, mpsc::Sender<()>) {
    let (engine, _, open) = GatedEngine::new(manifest.clone());
    (Pipeline::with_engine(support::config(&[]), manifest.clone(), None, Arc::new(engine)), open)
}

async fn parse(pipeline: &Pipeline, left: Option<Duration>) -> Result<Outcome> {
    let context = Context { deadline: left.map(|left| Instant::now() + left), ..support::context() };
    let source = Source::Bytes(support::photo(80, 50).into());
    let options = Options::check(&m2fp::options::RawOptions::default(), &[m2fp::options::OutputKind::Mask])?;
    let prepared = pipeline.begin(&context).prepare(source, options).await?;
    pipeline.begin(&context).run(prepared).await
}

#[tokio::test]
async fn a_plan_that_would_not_end_in_time_is_refused() {
    let mut manifest = support::manifest();
    manifest.time.base_ms = 100_000.0;
    manifest.other_times.clear();
    let (pipeline, open) = gated(&manifest);
    let Err(Error::Deadline { detail }) = parse(&pipeline, Some(Duration::from_secs(50))).await else {
        panic!("it was run")
    };
    assert!(detail.starts_with("this photo needs about 100"), "{detail}");
    open.send(()).unwrap();
    parse(&pipeline, Some(Duration::from_secs(500))).await.unwrap();
}

#[tokio::test]
async fn a_run_that_passes_its_deadline_is_answered_and_gives_everything_back() {
    let (pipeline, open) = gated(&support::manifest());
    // Far more than the plan says, which the engine does not keep to.
    let late = parse(&pipeline, Some(Duration::from_millis(300))).await;
    assert!(matches!(late, Err(Error::Deadline { .. })));
    // The late run ends; the next one finds the account and the engine free.
    open.send(()).unwrap();
    open.send(()).unwrap();
    parse(&pipeline, None).await.unwrap();
    pipeline.budget.reserve(pipeline.budget.total_bytes(), Duration::from_mins(1)).await.unwrap();
}

/// A container that is slower than the manifest says, says so after its first run.
#[tokio::test]
async fn a_slow_container_corrects_what_it_promises() {
    let mut manifest = support::manifest();
    manifest.time.base_ms = 20.0;
    manifest.other_times.clear();
    let (pipeline, open) = gated(&manifest);
    let slow = parse(&pipeline, None);
    let opening = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        open.send(()).unwrap();
    };
    tokio::join!(slow, opening).0.unwrap();
    let Err(Error::Deadline { detail }) = parse(&pipeline, Some(Duration::from_millis(40))).await else {
        panic!("it was run")
    };
    assert!(detail.contains("needs about"), "{detail}");
}

/// At any operation of a request that stores, directly and over HTTP.
#[tokio::test]
async fn a_store_that_does_not_answer_ends_a_request_at_its_deadline() {
    let request = json!({
        "s3": {"bucket": "photos", "key": "a.jpg"}, "store": {"bucket": "out", "key_prefix": "a"}, "options": {"output": "mask"}
    });
    for at_operation in 0.. {
        let hanging = || {
            let mut operation = 0;
            let faulty = Faulty::new(MemoryStore::with("photos", "a.jpg", events::photo()), move |_| {
                operation += 1;
                (operation > at_operation).then_some(Fault::Hang)
            });
            support::pipeline(&[("ALLOWED_BUCKETS", "photos,out")], Some(Arc::new(faulty)))
        };
        let deadline = || Some(Instant::now() + Duration::from_millis(300));

        let pipeline = hanging();
        let direct = events::invoke_within(&pipeline, &request, deadline());
        let direct = until_crash(true, direct).await.unwrap();

        let app = m2fp::lambda::app(hanging());
        let context = Context { deadline: deadline(), ..support::context() };
        let http = support::request("POST /parse", &[("content-type", "application/json")], request.to_string());
        let http = until_crash(true, m2fp::http::routes::handle(&app, http, context)).await.unwrap();

        match direct {
            Ok(_) => {
                assert!(at_operation >= 6 && http.status() == 200, "{at_operation}: {http:?}");
                break;
            }
            Err(failure) => {
                assert!(failure.sentence.contains("deadline"), "{at_operation}: {}", failure.sentence);
                assert_eq!(support::json_of(&http)["code"], "deadline", "{at_operation}");
            }
        }
    }
}
