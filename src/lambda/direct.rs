//! Direct invocations: the JSON body of `/parse` in, the JSON report out (Step Functions, SDKs, `aws lambda invoke`).
//!
//! Images do not travel in the answer: a Step Functions state carries 256 KB at most. They are stored where `store` says
//! and named in the report's `outputs`; asking for images without `store` is refused.
//! Failures are function errors whose type is the problem's code, so that a state machine can catch and retry by it.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::dispatch::carried;
use crate::error::{Error, Result};
use crate::http::body;
use crate::options::{Options, OutputKind};
use crate::pipeline::{Context, Pipeline};
use crate::record::{self, Destination, Work};
use crate::render::report::Report;
use crate::telemetry::emf::{Ended, Parse};

/// Runs the request and returns the report; with `store`, after its outputs and the report are stored.
///
/// # Errors
/// Those of the request, the pipeline and the store.
pub async fn handle(pipeline: &Arc<Pipeline>, event: Box<RawValue>, context: &Context) -> Result<Box<RawValue>> {
    let mut parse = Parse::default();
    let report = report(pipeline, event, context, &mut parse).await;
    let answer = report.and_then(|report| carried(&report));
    pipeline.count(context, &parse, Ended::of(&answer));
    answer
}

async fn report(
    pipeline: &Arc<Pipeline>,
    event: Box<RawValue>,
    context: &Context,
    parse: &mut Parse,
) -> Result<Report> {
    let config = &pipeline.config;
    let (source, raw, target) = body::parse_invocation(event.get().as_bytes(), config)?;
    // The event's text is as large as the photo.
    drop(event);
    let destination = target.as_ref().map(Destination::for_target).transpose()?;
    let default_outputs = if destination.is_some() { config.outputs.as_slice() } else { &[OutputKind::Json] };
    let options = Options::check(&raw, default_outputs)?;
    let Some(destination) = destination else {
        refuse_images(&options)?;
        let prepared = pipeline.prepare(source, options, context).await?;
        return Ok(pipeline.run(prepared, context, parse).await?.report);
    };
    let store = pipeline.store.as_ref().ok_or_else(|| Error::internal("no object store is configured"))?;
    let prepared = pipeline.prepare(source.clone(), options, context).await?;
    let work = Work::of(&source, &prepared, &pipeline.manifest);
    // The photo's bytes are the pipeline's alone from here.
    drop(source);
    let outcome = pipeline.run(prepared, context, parse).await?;
    let stored = record::store(store.as_ref(), &destination, &work, &outcome).await?;
    Ok(record::answer(&outcome, &stored))
}

fn refuse_images(options: &Options) -> Result<()> {
    let images: Vec<_> = options.outputs.iter().filter(|k| **k != OutputKind::Json).map(|k| k.name()).collect();
    if images.is_empty() {
        return Ok(());
    }
    Err(Error::bad_request(format!(
        "`output` names {}: images of a direct invocation are stored, so `store` must say where",
        images.join(", ")
    )))
}
