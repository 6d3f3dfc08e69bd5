//! Answers that run nothing: health, what is served, and plans.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde::Serialize;
use serde_json::{Value, json};

use super::app::{App, Room};
use super::{headers, json, uploads};
use crate::error::{Error, Result};
use crate::image::header::Format;
use crate::manifest::{Class, LabelMap, Quantization, SizeRule, Thresholds};
use crate::options::OutputKind;
use crate::pipeline::{Pipeline, Prepared};
use crate::plan::PlanAnswer;
use crate::units::whole_mb;

/// The `OpenAPI` document, served as it is.
pub(crate) const OPEN_API: &str = include_str!("openapi.json");

/// That the function answers, and whether the next photo would wait for the model.
pub fn health(pipeline: &Pipeline) -> Result<Response<Bytes>> {
    json::response(&json!({"status": "ok", "model_loaded": pipeline.is_loaded()}))
}

/// `GET /info`.
#[derive(Serialize)]
struct Info<'a> {
    /// Of this function.
    version: &'static str,
    model: Model<'a>,
    classes: &'a [Class],
    background_id: u8,
    person_id: Option<u8>,
    /// Null: `flip` is refused.
    flip_pairs: Option<&'a [[u8; 2]]>,
    outputs: [Output; OutputKind::ALL.len()],
    image_types: [&'static str; Format::ALL.len()],
    limits: Limits,
    /// Null: `POST /uploads` is not served.
    uploads: Option<Uploads>,
}

#[derive(Serialize)]
struct Uploads {
    /// Of a photo.
    max_bytes: u64,
    /// How long an upload may be begun, seconds.
    expires_s: u64,
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    version: &'a str,
    description: &'a str,
    licence: &'a str,
    /// Of the graph's file.
    sha256: &'a str,
    label_map: LabelMap,
    size: SizeRule,
    thresholds: Thresholds,
    provenance: &'a Value,
    accuracy: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantization: Option<&'a Quantization>,
}

#[derive(Serialize)]
struct Output {
    kind: &'static str,
    content_type: &'static str,
}

#[derive(Serialize)]
struct Limits {
    memory_mb: u64,
    max_body_bytes: u64,
    max_object_bytes: u64,
    max_source_pixels: u64,
    /// Of an image; null: any.
    max_answer_bytes: Option<u64>,
}

/// The model, its classes and colours, its licence, and the limits in force.
pub(super) fn info(app: &App, request_room: Room, answer_room: Room) -> Result<Response<Bytes>> {
    let Pipeline { config, manifest, budget, .. } = &*app.pipeline;
    json::response(&Info {
        version: env!("CARGO_PKG_VERSION"),
        model: Model {
            name: &manifest.name,
            version: &manifest.version,
            description: &manifest.description,
            licence: &manifest.licence,
            sha256: manifest.digest(),
            label_map: manifest.label_map,
            size: manifest.input.size,
            thresholds: manifest.thresholds,
            provenance: &manifest.provenance,
            accuracy: &manifest.accuracy,
            quantization: manifest.quantization.as_ref(),
        },
        classes: &manifest.classes,
        background_id: manifest.background_id,
        person_id: manifest.person_id,
        flip_pairs: manifest.flip_pairs.as_deref(),
        outputs: OutputKind::ALL.map(|kind| Output { kind: kind.name(), content_type: kind.content_type() }),
        image_types: Format::ALL.map(Format::media_type),
        limits: Limits {
            memory_mb: whole_mb(budget.limit_bytes()),
            max_body_bytes: request_room
                .max_image_bytes()
                .map_or(config.max_body_bytes, |most| most.min(config.max_body_bytes)),
            max_object_bytes: config.max_object_bytes,
            max_source_pixels: config.max_source_pixels,
            max_answer_bytes: answer_room.max_image_bytes(),
        },
        uploads: config
            .upload_bucket
            .as_ref()
            .map(|_| Uploads { max_bytes: uploads::max_bytes(config), expires_s: config.upload_expires.as_secs() }),
    })
}

#[must_use]
pub(crate) fn open_api() -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(OPEN_API.as_bytes()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// What would be done with a photo.
pub fn plan(prepared: &Prepared) -> Result<Response<Bytes>> {
    let mut response = json::response(&prepared.decision.answer(prepared.header.orientation))?;
    response.headers_mut().insert(headers::PLAN, headers::text(&prepared.decision.plan.header_line()));
    Ok(response)
}

/// What would be answered to a body that cannot even be planned.
pub fn refused(error: &Error) -> Result<Response<Bytes>> {
    json::response(&PlanAnswer::refused(error))
}
