//! Photos a second with several invocations at once, against one at a time: `bootstrap` under a Runtime API, two
//! threads, a function for each concurrency, their rounds in turn. `cargo bench --bench concurrency`.

mod figures;
#[path = "../tests/it/support/lambda_runtime_api.rs"]
mod lambda_runtime_api;
mod photo;

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::StreamExt as _;
use lambda_runtime_api::{Function, RuntimeApi};
use m2fp::geometry::Size;
use serde_json::json;

/// Of the function: two vCPUs' worth, as Managed Instances give at least.
const MEMORY_MB: u64 = 3538;
const CONCURRENCIES: [u32; 3] = [1, 2, 4];
const ROUNDS: usize = 7;
/// In each round of each function.
const PHOTOS: usize = 12;
const PHOTO_SIZES: [Size; 2] = [Size::new(1920, 1080), Size::new(4000, 3000)];

/// Photos a second, `at_once` of them asked for at a time.
async fn rate(api: &RuntimeApi, event: &str, at_once: usize) -> f64 {
    let start = Instant::now();
    let answers = futures_util::stream::iter(0..PHOTOS)
        .map(|n| async move { api.invoke(&n.to_string(), event).await })
        .buffer_unordered(at_once);
    answers.for_each(|answer| async move { assert!(!answer.failed, "{answer:?}") }).await;
    PHOTOS as f64 / start.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() {
    println!("{:<12} {:>8} {:>10} {:>14} {:>10}", "photo", "at once", "photos/s", "of 1 at once", "peak MB");
    for size in PHOTO_SIZES {
        let event = json!({"image": BASE64_STANDARD.encode(photo::astronaut(size))}).to_string();
        let mut functions = Vec::new();
        for at_once in CONCURRENCIES {
            let api = RuntimeApi::start(Duration::from_mins(5)).await;
            let settings = [("M2FP_THREADS", "2"), ("M2FP_MAX_WAIT_MS", "300000")];
            let function = Function::start(&api, MEMORY_MB, Some(at_once), &settings);
            // The first one loads the model.
            rate(&api, &event, at_once as usize).await;
            functions.push((at_once, api, function, Vec::new(), Vec::new()));
        }
        for _ in 0..ROUNDS {
            let mut alone = None;
            for (at_once, api, _, rates, ratios) in &mut functions {
                let rate = rate(api, &event, *at_once as usize).await;
                rates.push(rate);
                ratios.push(rate / *alone.get_or_insert(rate));
            }
        }
        for (at_once, _, function, rates, ratios) in &mut functions {
            let peak = function.peak_bytes() / (1 << 20);
            println!(
                "{:<12} {at_once:>8} {:>10.2} {:>14.2} {peak:>10}",
                size.to_string(),
                figures::median(rates),
                figures::median(ratios)
            );
        }
    }
}
