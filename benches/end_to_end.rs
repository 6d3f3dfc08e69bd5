//! A 1920×1080 JPEG through the whole pipeline with the packaged model: medians of the stages the report times, and each
//! stage's ratio to inference in the same run. `cargo bench --bench end_to_end`.

mod figures;
mod photo;

use std::path::Path;

use bytes::Bytes;
use m2fp::config::Config;
use m2fp::geometry::Size;
use m2fp::options::{Options, OutputKind, RawOptions};
use m2fp::pipeline::{Context, Pipeline, Source};
use m2fp::render::report::TimingsSection;

const RUNS: usize = 15;

/// A stage and where the report keeps its time.
type Stage = (&'static str, fn(&TimingsSection) -> f64);

const STAGES: [Stage; 6] = [
    ("decode and resize", |t| t.decode),
    ("preprocess", |t| t.preprocess),
    ("inference", |t| t.inference),
    ("post-processing", |t| t.postprocess),
    ("encode", |t| t.encode),
    ("total", |t| t.total),
];

fn main() {
    m2fp::sys::prepare_process();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = Config::from_vars([]).unwrap();
    config.model_dir = root.join("model/nano");
    let pipeline = Pipeline::new(config, None).unwrap();
    let options = Options::check(&RawOptions::default(), &[OutputKind::Mask]).unwrap();
    let context = Context { request_id: "bench".into(), deadline: None };
    let photo = Bytes::from(photo::astronaut(Size::new(1920, 1080)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut reports: Vec<_> = (0..=RUNS)
        .map(|_| {
            runtime.block_on(async {
                let prepared = pipeline
                    .begin(&context)
                    .prepare(Source::Bytes(photo.clone().into()), options.clone())
                    .await
                    .unwrap();
                pipeline.begin(&context).run(prepared).await.unwrap().report
            })
        })
        .collect();
    // The first run loads the model.
    reports.remove(0);
    let median = |stage: fn(&TimingsSection) -> f64| {
        let mut times: Vec<f64> = reports.iter().filter_map(|r| r.timings_ms.as_ref()).map(stage).collect();
        figures::median(&mut times)
    };
    let inference = median(|t| t.inference);
    println!("1920×1080 JPEG to palette mask, {} threads, {RUNS} runs", pipeline.config.threads);
    println!("{:<20} {:>10} {:>14}", "stage", "median ms", "of inference");
    for (name, stage) in STAGES {
        println!("{name:<20} {:>10.1} {:>14.2}", median(stage), median(stage) / inference);
    }
    let peak = reports.iter().filter_map(|r| r.memory).map(|m| m.peak_rss_mb).max().unwrap_or_default();
    println!("{:<20} {peak:>7} MB", "peak resident set");
}
