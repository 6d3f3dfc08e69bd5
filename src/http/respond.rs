//! An outcome as an answer: sent, linked where it is too large to send, or stored where the request asked for it.
//!
//! An answer that Lambda could not carry is written to the output bucket, and the client is sent there with
//! `303 See Other` to a presigned link: `curl -L`, `fetch` and the usual libraries follow it by themselves and drop the
//! bearer token on the way (S3 would refuse a second authorisation). A client that does not follow finds the same link
//! in the JSON body, and cannot mistake that for a picture, as it could with 200.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::app::{App, Room};
use super::{headers, json};
use crate::delivery::look;
use crate::error::{Error, Limit, Result};
use crate::options::OutputKind;
use crate::pipeline::{Outcome, Prepared};
use crate::plan::Plan;
use crate::render::report::Report;
use crate::store::{NewObject, Standing};

/// How long the link to a stored answer works; less where the function's own credentials end sooner.
const LINK_EXPIRES: Duration = Duration::from_hours(1);

/// Where under the output prefix answers too large to send are kept: apart from what events write.
const ANSWERS_PREFIX: &str = "answers/";

/// The client has this answer already: nothing was run.
#[must_use]
pub(crate) fn not_modified(kind: OutputKind, prepared: &Prepared) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    describe(&mut response, kind, &prepared.etag, &prepared.decision.plan);
    response
}

/// Sends the one output asked for, or the way to it.
///
/// # Errors
/// `TooLarge` with `Limit::Answer` where it fits no answer and no output bucket is configured; those of the store.
pub(super) async fn one(app: &App, room: Room, kind: OutputKind, mut outcome: Outcome) -> Result<Response<Bytes>> {
    let body = if kind == OutputKind::Json {
        outcome.json(&outcome.report)?
    } else {
        let at = outcome.outputs.iter().position(|output| output.kind == kind);
        let at = at.ok_or_else(|| Error::internal(format!("the pipeline made no {}", kind.name())))?;
        outcome.outputs.swap_remove(at).bytes
    };
    let fits = match room {
        Room::Any => true,
        Room::Encoded(most) => carried_bytes(kind, &body) <= most,
        Room::Plain(most) => body.len() as u64 <= most,
    };
    let mut response = if fits { sent(kind, body) } else { linked(app, room, kind, &outcome.etag, body).await? };
    describe(&mut response, kind, &outcome.etag, &outcome.plan);
    add_timings(&mut response, &outcome);
    Ok(response)
}

/// The report of outputs that are stored.
///
/// # Errors
/// `Internal`.
pub fn stored(outcome: &Outcome, report: &Report) -> Result<Response<Bytes>> {
    let mut response = sent(OutputKind::Json, outcome.json(report)?);
    describe(&mut response, OutputKind::Json, &outcome.etag, &outcome.plan);
    add_timings(&mut response, outcome);
    Ok(response)
}

fn sent(kind: OutputKind, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind.content_type()));
    response
}

/// Stores `body` under its ETag, so that the same answer is stored once, and sends the client there.
async fn linked(app: &App, room: Room, kind: OutputKind, etag: &str, body: Bytes) -> Result<Response<Bytes>> {
    let config = &app.pipeline.config;
    let (Some(bucket), Ok(store)) = (&config.output_bucket, app.pipeline.object_store()) else {
        return Err(too_large(kind, &body, room.max_image_bytes().unwrap_or_default()));
    };
    let bytes = body.len();
    let key = format!("{}{ANSWERS_PREFIX}{}{}", config.output_prefix, etag.trim_matches('"'), kind.suffix());
    let metadata = BTreeMap::from([(look::MARK.to_owned(), "1".to_owned())]);
    let object =
        NewObject { bucket: bucket.clone(), key: key.clone(), body, content_type: kind.content_type(), metadata };
    store.put(object, &Standing::Whatever).await?;
    let url = store.presign_get(bucket, &key, LINK_EXPIRES).await?;
    let location = HeaderValue::try_from(url.expose()).map_err(Error::internal)?;
    let mut response = sent(
        OutputKind::Json,
        json::bytes(&json!({"outputs": [{
            "kind": kind.name(),
            "content_type": kind.content_type(),
            "bytes": bytes,
            "s3": {"bucket": bucket, "key": key, "url": url.expose()},
        }]}))?,
    );
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

fn too_large(kind: OutputKind, body: &Bytes, most: u64) -> Error {
    let smaller = match kind {
        OutputKind::Cutout => "`overlay`, `mask` and `json` are smaller",
        OutputKind::Mask | OutputKind::Index | OutputKind::Instances => "`overlay` and `json` are smaller",
        OutputKind::Overlay => "`json` is smaller",
        OutputKind::Json => "without `rle`, or as `mask`, it is smaller",
        OutputKind::Coco | OutputKind::Hf => "`mask` is smaller",
    };
    Error::TooLarge {
        limit: Limit::Answer,
        detail: format!(
            "this {} has {} bytes and an answer carries at most {most}; {smaller}, and with M2FP_OUTPUT_BUCKET set it would be \
             stored and linked",
            kind.name(),
            body.len(),
        ),
    }
}

/// What a body costs inside Lambda's JSON, bytes: base64, or escaped text, whichever is more.
fn carried_bytes(kind: OutputKind, body: &[u8]) -> u64 {
    let base64 = body.len().div_ceil(3) * 4;
    let escaped = match kind {
        OutputKind::Json | OutputKind::Coco | OutputKind::Hf => {
            body.len() + body.iter().filter(|b| matches!(b, b'"' | b'\\' | b'\n')).count()
        }
        _ => 0,
    };
    base64.max(escaped) as u64
}

/// Adds the ETag, the plan and its warnings. The report holds timings, so its bytes differ from run to run: weak.
fn describe(response: &mut Response<Bytes>, kind: OutputKind, etag: &str, plan: &Plan) {
    let headers = response.headers_mut();
    let weak = if kind == OutputKind::Json { "W/" } else { "" };
    headers.insert(header::ETAG, headers::text(&format!("{weak}{etag}")));
    headers.insert(headers::PLAN, headers::text(&plan.header_line()));
    if !plan.warnings.is_empty() {
        headers.insert(headers::WARNINGS, headers::text(&plan.warnings.join("; ")));
    }
}

/// `Server-Timing`: milliseconds of each stage.
fn add_timings(response: &mut Response<Bytes>, outcome: &Outcome) {
    let Some(ms) = outcome.report.timings_ms else { return };
    let line = format!(
        "decode;dur={:.1}, preprocess;dur={:.1}, inference;dur={:.1}, postprocess;dur={:.1}, encode;dur={:.1}, \
         total;dur={:.1}",
        ms.decode, ms.preprocess, ms.inference, ms.postprocess, ms.encode, ms.total,
    );
    response.headers_mut().insert(headers::SERVER_TIMING, headers::text(&line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_costs_what_lambda_carries() {
        assert_eq!(carried_bytes(OutputKind::Mask, &[0; 3]), 4);
        assert_eq!(carried_bytes(OutputKind::Mask, &[0; 4]), 8);
        assert_eq!(carried_bytes(OutputKind::Json, br#""""""""#), 12);
        assert_eq!(carried_bytes(OutputKind::Json, b"000000"), 8);
    }

    #[test]
    fn a_refusal_names_smaller_outputs_but_not_itself() {
        for kind in OutputKind::ALL {
            let text = too_large(kind, &Bytes::from_static(b"xxx"), 3000).to_string();
            assert!(text.contains("3 bytes") && text.contains("at most 3000"), "{text}");
            assert!(!text.contains(&format!("`{}`", kind.name())), "{text}");
        }
    }
}
