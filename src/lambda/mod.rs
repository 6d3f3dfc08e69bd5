//! The doors of AWS: the only folder that knows the formats of events.
//!
//! `dispatch` tells an event by its shape and hands it to its door: `gateway` (HTTP), `s3` (notifications),
//! `eventbridge`, `sqs`, `sns` and `pipe` (the same in other words and envelopes), `batch` (S3 Batch Operations), `direct`
//! (invocations by Step Functions, SDKs, the AWS CLI), `warm` (pings that only want the model loaded). `lattice` is VPC
//! Lattice's requests in the words of a load balancer. Doors that name objects share [`crate::delivery::settle`], which says
//! what becomes of one, `settle_each`, which works on two at once, and `time_share`, which divides an invocation's time.
//! `trace_id` is what the log calls X-Ray's trace.

pub mod batch;
pub mod direct;
pub mod dispatch;
pub mod eventbridge;
pub mod failure;
pub mod gateway;
mod guard;
mod lattice;
mod payload;
pub mod pipe;
pub mod s3;
mod settle_each;
mod shape;
pub mod sns;
pub mod sqs;
mod time_share;
mod trace_id;
pub mod warm;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;

use crate::http::app::App;
use crate::pipeline::{Context, Pipeline};
use crate::store::traced;

/// Kept of Lambda's deadline for encoding and sending the answer.
const RESERVE: Duration = Duration::from_millis(500);

/// The pipeline as it is served over HTTP on Lambda: answers that would not fit its payload are stored, or refused.
#[must_use]
pub fn app(pipeline: Arc<Pipeline>) -> App {
    App::new(pipeline, Some(payload::MAX_PAYLOAD_BYTES as u64 - payload::ENVELOPE_BYTES))
}

/// Serves invocations until the container is shut down: one after the other, or as many at once as Lambda says that it
/// hands over (`AWS_LAMBDA_MAX_CONCURRENCY`, on Lambda Managed Instances).
///
/// # Errors
/// When the runtime API cannot be reached.
pub async fn serve(app: App) -> Result<(), lambda_runtime::Error> {
    let app = Arc::new(app);
    let handler = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let app = Arc::clone(&app);
        async move {
            let context = context_of(&event.context);
            let header = event.context.xray_trace_id;
            let trace_id = header.as_deref().and_then(trace_id::trace_id);
            traced(header.clone(), dispatch::dispatch_traced(&app, event.payload, context, trace_id)).await
        }
    });
    lambda_runtime::run_concurrent(handler).await
}

fn context_of(context: &lambda_runtime::Context) -> Context {
    Context { request_id: context.request_id.clone(), deadline: deadline_of(context.deadline, SystemTime::now()) }
}

/// Lambda's deadline, milliseconds since 1970, less the reserve. A deadline that is over is now; 0 is none.
fn deadline_of(epoch_ms: u64, now: SystemTime) -> Option<Instant> {
    if epoch_ms == 0 {
        return None;
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant::now().checked_add(Duration::from_millis(epoch_ms).saturating_sub(now + RESERVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_lambdas_less_the_reserve() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let left = |ms| deadline_of(ms, now).map(|d| d.saturating_duration_since(Instant::now()));
        let ten_seconds = left(1_000_010_000).unwrap();
        assert!(ten_seconds <= Duration::from_millis(9500) && ten_seconds > Duration::from_secs(9));
        assert_eq!(left(999_999_999), Some(Duration::ZERO));
        assert_eq!(left(0), None);
        deadline_of(u64::MAX, now);
    }
}
