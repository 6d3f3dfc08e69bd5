//! Direct invocations: the JSON body of `/parse` in, the JSON report out (Step Functions, SDKs, `aws lambda invoke`).
//!
//! Images do not travel in the answer: a Step Functions state carries 256 KB at most. They are stored where `store` says
//! and named in the report's `outputs`; asking for images without `store` is refused.
//! Failures are function errors whose type is the problem's code, so that a state machine can catch and retry by it.

use serde_json::value::RawValue;

use super::payload::payload;
use crate::delivery::destination::Destination;
use crate::delivery::record;
use crate::error::{Error, Result};
use crate::http::body::{self, Asked};
use crate::options::{self, Options, OutputKind};
use crate::pipeline::{Attempt, Context, Pipeline};
use crate::render::report::Report;
use crate::telemetry::emf::Ended;

/// Runs the request and returns the report; with `store`, after its outputs and the report are stored.
///
/// # Errors
/// Those of the request, the pipeline and the store.
pub async fn handle(pipeline: &Pipeline, event: Box<RawValue>, context: &Context) -> Result<Box<RawValue>> {
    let attempt = pipeline.begin(context);
    let answer = context.in_time(Box::pin(report(&attempt, event))).await.and_then(|report| payload(&report));
    attempt.count(Ended::of(&answer));
    answer
}

async fn report(attempt: &Attempt<'_>, event: Box<RawValue>) -> Result<Report> {
    let config = &attempt.pipeline.config;
    let Asked { source, options: raw, target, .. } = body::parse_invocation(event.get().as_bytes(), config)?;
    // The event's text is as large as the photo.
    drop(event);
    let destination = target.as_ref().map(Destination::for_target).transpose()?;
    let default_outputs = if destination.is_some() { config.outputs.as_slice() } else { &[OutputKind::Json] };
    let raw = raw.or(config.default_options());
    if let Some(destination) = destination {
        let options = Options::check_stored(&raw, default_outputs)?;
        let (_, report) = record::parse_and_store(attempt, source, options, &destination).await?;
        return Ok(report);
    }
    let options = Options::check(&raw, default_outputs)?;
    refuse_images(&options)?;
    let prepared = attempt.prepare(source, options).await?;
    Ok(attempt.run(prepared).await?.report)
}

fn refuse_images(options: &Options) -> Result<()> {
    if let Some(fault) = options::not_stored(&options.outputs) {
        return Err(Error::bad_request(format!("`output`: {fault}")));
    }
    let images: Vec<_> = options.outputs.iter().filter(|k| **k != OutputKind::Json).map(|k| k.name()).collect();
    if images.is_empty() {
        return Ok(());
    }
    Err(Error::bad_request(format!(
        "`output` names {}: images of a direct invocation are stored, so `store` must say where",
        images.join(", ")
    )))
}
