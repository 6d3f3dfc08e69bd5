//! One binary, every event: told by its shape, handed to its door.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::value::RawValue;
use tracing::Instrument;

use super::failure::Failure;
use super::guard::guarded;
use super::payload::payload;
use super::shape::{Shape, shape};
use super::{batch, direct, eventbridge, gateway, pipe, s3, sns, sqs, warm};
use crate::error::Result;
use crate::http::app::App;
use crate::pipeline::Context;

/// Answers one invocation. HTTP failures are answers; other doors' failures are function errors.
///
/// # Errors
/// The failure's name and public sentence; causes are in the log.
pub async fn dispatch(app: &App, event: Box<RawValue>, context: Context) -> Result<Box<RawValue>, Failure> {
    dispatch_traced(app, event, context, None).await
}

/// The same, with the id of X-Ray's trace in every line of the log.
///
/// # Errors
/// As [`dispatch`].
pub async fn dispatch_traced(
    app: &App,
    event: Box<RawValue>,
    context: Context,
    trace_id: Option<&str>,
) -> Result<Box<RawValue>, Failure> {
    let shape = shape(event.get());
    let name = shape.as_ref().ok().copied().map(Shape::name);
    let request_id = context.request_id.as_str();
    let span = tracing::info_span!("invocation", request_id, xray_trace_id = trace_id, event = name);
    let answer = async {
        let answer = match shape {
            Ok(shape) => {
                tracing::info!(cold_start = is_cold_start(), "invoked");
                // On the heap: every door's state together is large, and the callers' futures would all hold it.
                guarded(Box::pin(answer(app, shape, event, &context))).await
            }
            Err(error) => Err(error),
        };
        answer.map_err(|error| Failure::new(&error, &context.request_id))
    };
    answer.instrument(span).await
}

async fn answer(app: &App, shape: Shape, event: Box<RawValue>, context: &Context) -> Result<Box<RawValue>> {
    match shape {
        Shape::Http(gateway) => gateway::answer(app, gateway, event, context).await,
        Shape::S3 => payload(&s3::handle(&app.pipeline, event.get(), context).await?),
        Shape::S3Test => payload(&serde_json::json!({"records": []})),
        Shape::EventBridge => payload(&eventbridge::handle(&app.pipeline, event.get(), context).await?),
        Shape::Sqs => payload(&sqs::handle(&app.pipeline, event.get(), context).await?),
        Shape::Sns => payload(&sns::handle(&app.pipeline, event.get(), context).await?),
        Shape::Pipe => payload(&pipe::handle(&app.pipeline, event.get(), context).await?),
        Shape::S3Batch => payload(&batch::handle(&app.pipeline, event.get(), context).await?),
        Shape::Direct => direct::handle(&app.pipeline, event, context).await,
        Shape::WarmUp => payload(&warm::handle(&app.pipeline, context).await?),
    }
}

/// Whether this is the process's first invocation.
fn is_cold_start() -> bool {
    static IS_WARM: AtomicBool = AtomicBool::new(false);
    !IS_WARM.swap(true, Ordering::Relaxed)
}
