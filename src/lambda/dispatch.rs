//! One binary, every event: told by its shape, handed to its door.

use std::sync::atomic::{AtomicBool, Ordering};

use lambda_runtime::FunctionResponse;
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

/// An invocation's answer: JSON, or an HTTP response that is streamed.
pub(super) type Answer = FunctionResponse<Box<RawValue>, gateway::Pieces>;

/// As [`dispatch`], but an answer to HTTP is streamed where the gateway can and the settings say that it is set to, and
/// every line of the log has the id of X-Ray's trace.
///
/// # Errors
/// As [`dispatch`].
pub(super) async fn dispatch_traced(
    app: &App,
    event: Box<RawValue>,
    context: Context,
    trace_id: Option<&str>,
) -> Result<Answer, Failure> {
    match shape(event.get()) {
        Ok(Shape::Http(gateway)) if gateway.can_stream() && app.pipeline.config.response_stream => {
            let answer = async { Ok(gateway::stream(app, gateway, event, &context).await) };
            let shape = Some(Shape::Http(gateway));
            invocation(shape, &context, trace_id, answer).await.map(FunctionResponse::StreamingResponse)
        }
        _ => buffered(app, event, &context, trace_id).await.map(FunctionResponse::BufferedResponse),
    }
}

/// Answers one invocation. HTTP failures are answers; other doors' failures are function errors.
///
/// # Errors
/// The failure's name and public sentence; causes are in the log.
pub async fn dispatch(app: &App, event: Box<RawValue>, context: Context) -> Result<Box<RawValue>, Failure> {
    buffered(app, event, &context, None).await
}

async fn buffered(
    app: &App,
    event: Box<RawValue>,
    context: &Context,
    trace_id: Option<&str>,
) -> Result<Box<RawValue>, Failure> {
    let shape = shape(event.get());
    let known = shape.as_ref().ok().copied();
    invocation(known, context, trace_id, async { answer(app, shape?, event, context).await }).await
}

/// Runs an invocation's work: its lines in the log are the invocation's, and a panic is its own failure. `shape` is
/// `None` for an event that has none of ours.
async fn invocation<T>(
    shape: Option<Shape>,
    context: &Context,
    trace_id: Option<&str>,
    work: impl Future<Output = Result<T>>,
) -> Result<T, Failure> {
    let (request_id, event) = (context.request_id.as_str(), shape.map(Shape::name));
    let span = tracing::info_span!("invocation", request_id, xray_trace_id = trace_id, event);
    let answer = async {
        if shape.is_some() {
            tracing::info!(cold_start = is_cold_start(), "invoked");
        }
        // On the heap: every door's state together is large, and the callers' futures would all hold it.
        let answer = guarded(Box::pin(work)).await;
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
