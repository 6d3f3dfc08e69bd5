//! Request bodies: what a client sent becomes a [`Source`], raw options and where to store.
//!
//! Three forms, told apart by `Content-Type` alone: `application/json` (or `…+json`), `multipart/form-data`, and
//! anything else, which is the image itself (its format is found by content later). Nothing here looks at pixels.
//!
//! The JSON form is also what a direct invocation of the function sends: [`parse_json`] and [`parse_invocation`] differ
//! only in which buckets the sender may name.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::encoding::{self, Unescaped};
use super::json;
use crate::config::Config;
use crate::delivery::access::Sender;
use crate::error::{Error, Limit, Result};
use crate::memory::blob::{Blob, BlobWriter, MEMORY_BYTES};
use crate::options::{Names, OutputKind, RawOptions};
use crate::pipeline::Source;
use crate::store::{ObjectRef, StoreTarget};

/// What a body asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The photo.
    pub source: Source,
    /// As they came.
    pub options: RawOptions,
    /// Where the outputs shall be written.
    pub target: Option<StoreTarget>,
    /// What of it is not heeded.
    pub warnings: Vec<String>,
}

impl Asked {
    /// A photo that came itself.
    fn of_bytes(bytes: Blob, options: RawOptions) -> Self {
        Self { source: Source::Bytes(bytes), options, target: None, warnings: Vec::new() }
    }
}

/// Longest text field of a multipart form, bytes.
const MAX_TEXT_FIELD_BYTES: u64 = 256;

/// Reads an HTTP body.
///
/// # Errors
/// `BadRequest` (empty, malformed), `TooLarge` with `Limit::Body`, `Unsupported` (another multipart type),
/// `Forbidden` (a bucket that is not allowed).
pub(crate) async fn parse(content_type: Option<&str>, body: Blob, config: &Config) -> Result<Asked> {
    check_length(body.len() as u64, config)?;
    match Form::of(content_type) {
        _ if body.is_empty() => Err(Error::bad_request(
            "the body is empty; send an image, a multipart form with a field `image`, or JSON with `image` or `s3`",
        )),
        Form::Json => parse_json(&body, config),
        Form::Multipart(boundary) => parse_multipart(&boundary?, &body, config).await,
        Form::Image => {
            encoding::check_plain("the body", &body)?;
            Ok(Asked::of_bytes(body, RawOptions::default()))
        }
    }
}

/// Refuses a body of `bytes` that exceeds the configured limit.
///
/// # Errors
/// `TooLarge` with `Limit::Body`.
pub(crate) fn check_length(bytes: u64, config: &Config) -> Result<()> {
    if bytes <= config.max_body_bytes {
        return Ok(());
    }
    Err(Error::TooLarge {
        limit: Limit::Body,
        detail: format!("the body is {bytes} bytes; at most {} are accepted", config.max_body_bytes),
    })
}

/// The forms of a body.
enum Form {
    Json,
    /// With its boundary, if it has one.
    Multipart(Result<String>),
    Image,
}

impl Form {
    fn of(content_type: Option<&str>) -> Self {
        let content_type = content_type.unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
            Self::Json
        } else if essence == "multipart/form-data" {
            Self::Multipart(multer::parse_boundary(content_type).map_err(|e| bad_multipart(&e)))
        } else if essence.starts_with("multipart/") {
            Self::Multipart(Err(Error::Unsupported {
                detail: "of the multipart types only multipart/form-data is served".to_owned(),
            }))
        } else {
            Self::Image
        }
    }
}

/// Reads the JSON form of an HTTP request: `{"image": base64 or data URL}` or `{"s3": {bucket, key, version_id?}}`, with
/// optional `"options"` and `"store"`.
///
/// Only buckets of `M2FP_ALLOWED_BUCKETS` and what `/uploads` gave out may be read; those buckets and the output bucket
/// may be written.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_json(body: &[u8], config: &Config) -> Result<Asked> {
    parse_json_from(Sender::Anyone, body, config)
}

/// As [`parse_json`] for a direct invocation: whoever may invoke the function is trusted with any bucket that the
/// function's role can reach, unless `M2FP_ALLOWED_BUCKETS` narrows it.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_invocation(body: &[u8], config: &Config) -> Result<Asked> {
    parse_json_from(Sender::Invoker, body, config)
}

/// The members of a JSON body: one of `image` and `s3`, or what clients of Hugging Face's inference API send.
const MEMBERS: [&str; 6] = ["image", "s3", "options", "store", "inputs", "parameters"];

/// The [`MEMBERS`] of a JSON body as they stand there, or `None` for those that are null or missing. Nothing of them is
/// copied, however long they are.
#[derive(Default)]
struct JsonBody<'a>([Option<&'a RawValue>; MEMBERS.len()]);

impl<'de: 'a, 'a> Deserialize<'de> for JsonBody<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JsonBodyVisitor;
        impl<'de> Visitor<'de> for JsonBodyVisitor {
            type Value = JsonBody<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut body = JsonBody::default();
                while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    let name = text(name).unwrap_or_default();
                    let fault = |what: &str| A::Error::custom(format!("`{}` is {what}", printable(name)));
                    let is_it = |known: &&str| Unescaped(name.as_bytes()).eq(known.bytes());
                    let index = MEMBERS.iter().position(is_it);
                    let index = index.ok_or_else(|| fault(&format!("none of {}", MEMBERS.join(", "))))?;
                    if body.0[index].replace(value).is_some() {
                        return Err(fault("there twice"));
                    }
                }
                Ok(JsonBody(body.0.map(|value| value.filter(|value| value.get() != "null"))))
            }
        }
        deserializer.deserialize_map(JsonBodyVisitor)
    }
}

/// What stands between the quotes of a text, with its escapes.
fn text(value: &RawValue) -> Option<&str> {
    value.get().strip_prefix('"')?.strip_suffix('"')
}

/// The parameters that Hugging Face's inference API has for `image-segmentation`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Parameters {
    threshold: Option<f32>,
    subtask: Option<String>,
    mask_threshold: Option<IgnoredAny>,
    overlap_mask_area_threshold: Option<IgnoredAny>,
}

impl Parameters {
    fn warnings(&self) -> Vec<String> {
        let subtask = self.subtask.as_deref().filter(|subtask| *subtask != "semantic");
        let unheeded = [
            ("subtask", subtask.map(|_| "segments are those of the classes (semantic)")),
            ("mask_threshold", self.mask_threshold.map(|_| "each pixel has its best class")),
            ("overlap_mask_area_threshold", self.overlap_mask_area_threshold.map(|_| "segments do not overlap")),
        ];
        let warning = |(name, why): (&str, Option<&str>)| Some(format!("`{name}` is ignored: {}", why?));
        unheeded.into_iter().filter_map(warning).collect()
    }
}

fn parse_json_from(sender: Sender, body: &[u8], config: &Config) -> Result<Asked> {
    let JsonBody([image, object, options, target, inputs, parameters]) =
        serde_json::from_slice(encoding::without_mark(body)).map_err(|e| does_not_fit(&e))?;
    let target: Option<StoreTarget> = read("store", target)?;
    if let Some(target) = &target {
        sender.check_target(target, config)?;
    }
    let options: Option<RawOptions> = read("options", options)?;
    let parameters: Option<Parameters> = read("parameters", parameters)?;
    let object: Option<ObjectRef> = read("s3", object)?;
    if let Some(inputs) = inputs {
        if image.is_some() || object.is_some() || options.is_some() || target.is_some() {
            return Err(Error::bad_request("in the JSON body only `parameters` go with `inputs`"));
        }
        let parameters = parameters.unwrap_or_default();
        let output = Some(Names::One(OutputKind::Hf.name().to_owned()));
        let options = RawOptions { output, score: parameters.threshold, ..RawOptions::default() };
        let asked = Asked::of_bytes(decode_image("inputs", inputs, config)?, options);
        return Ok(Asked { warnings: parameters.warnings(), ..asked });
    }
    if parameters.is_some() {
        return Err(Error::bad_request(
            "in the JSON body `parameters` go with `inputs` only; `options` go with others",
        ));
    }
    let source = match (image, object) {
        (Some(image), None) => Source::Bytes(decode_image("image", image, config)?),
        (None, Some(object)) => {
            sender.check_source(&object, config)?;
            Source::Object(object)
        }
        _ => return Err(Error::bad_request("the JSON body needs one of `image` and `s3`")),
    };
    Ok(Asked { source, options: options.unwrap_or_default(), target, warnings: Vec::new() })
}

/// Reads the member `name` of a JSON body.
fn read<T: DeserializeOwned>(name: &str, value: Option<&RawValue>) -> Result<Option<T>> {
    let read = value.map(|value| json::read(value.get().as_bytes())).transpose();
    read.map_err(|fault| does_not_fit(&format!("`{name}`: {fault}")))
}

fn does_not_fit(fault: &dyn fmt::Display) -> Error {
    Error::bad_request(format!("the JSON body does not fit: {fault}"))
}

/// Decodes base64 or a base64 data URL, which came in `field`. Line breaks and blanks, which `base64` prints, are passed
/// over.
///
/// It is read where the body is: escapes, as which PHP's and .NET's libraries write `/` and `+`, are undone on the way.
fn decode_image(field: &str, value: &RawValue, config: &Config) -> Result<Blob> {
    let text = text(value).ok_or_else(|| does_not_fit(&format!("`{field}` is neither base64 nor a data URL")))?;
    let mut text = encoding::unbroken(Unescaped(text.as_bytes()));
    if text.clone().take(5).map(|byte| byte.to_ascii_lowercase()).eq(*b"data:") {
        pass_data_url_head(field, &mut text)?;
    }
    let length = text.clone().filter(|byte| *byte != b'=').count();
    if length == 0 {
        return Err(Error::bad_request(format!("`{field}` is empty")));
    }
    check_length(length as u64 * 3 / 4, config)?;
    let bad = |error: io::Error| Error::bad_request(format!("`{field}` is not valid base64: {error}"));
    encoding::from_base64(text, bad)
}

/// Goes past what is before the data of a data URL (RFC 2397: `data:[<mediatype>][;base64],<data>`). The media type is
/// not believed: the format is found by content.
fn pass_data_url_head(field: &str, url: &mut (impl Iterator<Item = u8> + Clone)) -> Result<()> {
    const BASE64: &[u8] = b";base64";
    let without_comma = || Error::bad_request(format!("`{field}` is a data URL without a comma"));
    let comma = url.clone().position(|byte| byte == b',').ok_or_else(without_comma)?;
    let end = url.by_ref().take(comma).skip(comma.saturating_sub(BASE64.len()));
    if end.map(|byte| byte.to_ascii_lowercase()).eq(BASE64.iter().copied()) {
        // The comma.
        url.next();
        Ok(())
    } else {
        Err(Error::bad_request(format!("`{field}` is a data URL that is not base64")))
    }
}

async fn parse_multipart(boundary: &str, body: &Blob, config: &Config) -> Result<Asked> {
    let known = |name: &str| RawOptions::NAMES.contains(&name);
    let form = read_form(boundary, body, config, "image", &RawOptions::NAMES).await?;
    if let Some((name, _)) = form.fields.iter().find(|(name, _)| !known(name)) {
        return Err(Error::bad_request(format!(
            "unknown multipart field `{}`; known are image, {}",
            printable(name),
            RawOptions::NAMES.join(", ")
        )));
    }
    Ok(Asked::of_bytes(form.image, form_options(form.fields)?))
}

/// A multipart form of a photo and text fields.
pub(super) struct PhotoForm {
    pub image: Blob,
    /// The other fields, in the order in which they came. Of those whose names are not known the text is left out.
    pub fields: Vec<(String, Blob)>,
}

/// Most fields of a form: more than any has that means something.
const MAX_FIELDS: usize = 100;

/// Reads the form of a request that must be one, with the photo in the field `image_field`.
///
/// # Errors
/// As [`parse`]; `BadRequest`, too, for a body that is no form.
pub(super) async fn photo_form(
    content_type: Option<&str>,
    body: &Blob,
    config: &Config,
    (image_field, text_fields): (&str, &[&str]),
) -> Result<PhotoForm> {
    check_length(body.len() as u64, config)?;
    match Form::of(content_type) {
        Form::Multipart(boundary) => read_form(&boundary?, body, config, image_field, text_fields).await,
        Form::Json | Form::Image => {
            Err(Error::bad_request(format!("send a multipart form with the photo in the field `{image_field}`")))
        }
    }
}

async fn read_form(
    boundary: &str,
    body: &Blob,
    config: &Config,
    image_field: &str,
    text_fields: &[&str],
) -> Result<PhotoForm> {
    let limits = text_fields.iter().fold(multer::SizeLimit::new().per_field(config.max_body_bytes), |limit, name| {
        limit.for_field(*name, MAX_TEXT_FIELD_BYTES)
    });
    // The parser copies what it has not yet passed on, and takes whatever is ready: each piece but the first is ready
    // only when it asks again.
    let pieces = (0..body.len()).step_by(MEMORY_BYTES);
    // How often, since it last gave something.
    let asked = AtomicUsize::new(0);
    let stream = futures_util::stream::iter(pieces).enumerate().then(async |(index, start)| {
        if index > 0 {
            tokio::task::yield_now().await;
        }
        if asked.fetch_add(1, Ordering::Relaxed) < HEAD_PIECES {
            Ok(body.part(start..body.len().min(start + MEMORY_BYTES)))
        } else {
            Err(LongHead)
        }
    });
    let mut form = multer::Multipart::with_constraints(stream, boundary, multer::Constraints::new().size_limit(limits));
    let mut image = None;
    let mut fields: Vec<(String, Blob)> = Vec::new();
    loop {
        asked.store(0, Ordering::Relaxed);
        let Some(mut field) = form.next_field().await.map_err(|e| bad_multipart(&e))? else { break };
        let name = field.name().unwrap_or_default().to_owned();
        let transfer = field.headers().get("content-transfer-encoding").map(|value| value.to_str().unwrap_or("?"));
        let transfer = transfer.map(str::to_owned);
        if name == image_field {
            let bytes = encoding::part_decoded(transfer.as_deref(), read_field(&mut field, &asked).await?)?;
            encoding::check_plain(&format!("the multipart field `{image_field}`"), &bytes)?;
            if image.replace(bytes).is_some() {
                return Err(Error::bad_request(format!("the multipart body has more than one field `{image_field}`")));
            }
        } else if fields.len() == MAX_FIELDS {
            return Err(Error::bad_request(format!("the multipart body has more than {MAX_FIELDS} fields")));
        } else if text_fields.contains(&name.as_str()) {
            let bytes = encoding::part_decoded(transfer.as_deref(), read_field(&mut field, &asked).await?)?;
            fields.push((name, bytes));
        } else {
            while chunk(&mut field, &asked).await?.is_some() {}
            fields.push((name, Blob::from(Bytes::new())));
        }
    }
    match image {
        None => Err(Error::bad_request(format!("the multipart body has no field `{image_field}`"))),
        Some(image) if image.is_empty() => {
            Err(Error::bad_request(format!("the multipart field `{image_field}` is empty")))
        }
        Some(image) => Ok(PhotoForm { image, fields }),
    }
}

/// Text fields mean what the query's parameters of the same names mean.
fn form_options(fields: Vec<(String, Blob)>) -> Result<RawOptions> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, bytes) in fields {
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| Error::bad_request(format!("the multipart field `{name}` is not UTF-8")))?;
        query.append_pair(&name, text);
    }
    RawOptions::from_query(&query.finish())
}

async fn read_field(field: &mut multer::Field<'_>, asked: &AtomicUsize) -> Result<Blob> {
    let mut whole = BlobWriter::default();
    while let Some(next) = chunk(field, asked).await? {
        whole.push(&next)?;
    }
    whole.finish()
}

async fn chunk(field: &mut multer::Field<'_>, asked: &AtomicUsize) -> Result<Option<Bytes>> {
    asked.store(0, Ordering::Relaxed);
    field.chunk().await.map_err(|e| bad_multipart(&e))
}

/// Most pieces of a form, of [`MEMORY_BYTES`] each, that are read before the parser gives something: the head of a field,
/// which is held whole, several times, and has a few hundred bytes, may begin anywhere in the first.
const HEAD_PIECES: usize = 2;

/// More pieces were read than the head of a field takes.
#[derive(Debug, thiserror::Error)]
#[error("the head of a field is longer than {MEMORY_BYTES} bytes")]
struct LongHead;

fn bad_multipart(error: &multer::Error) -> Error {
    match error {
        multer::Error::FieldSizeExceeded { limit, field_name } => Error::TooLarge {
            limit: Limit::Body,
            detail: format!(
                "the multipart field `{}` exceeds {limit} bytes",
                printable(field_name.as_deref().unwrap_or_default())
            ),
        },
        multer::Error::StreamReadFailed(fault) => Error::bad_request(format!("in the multipart body {fault}")),
        multer::Error::NoBoundary => Error::bad_request("the multipart content type names no boundary"),
        other => Error::bad_request(format!("the multipart body is malformed: {}", printable(&other.to_string()))),
    }
}

/// Text of a client as our sentences may quote it: short, and without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use proptest::prelude::*;

    fn config(vars: &[(&str, &str)]) -> Config {
        Config::from_vars(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))).unwrap()
    }

    fn read(content_type: Option<&str>, body: &[u8], config: &Config) -> Result<Asked> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(parse(content_type, body.into(), config))
    }

    fn json(body: &str) -> Result<Asked> {
        parse_json(body.as_bytes(), &config(&[("M2FP_ALLOWED_BUCKETS", "photos"), ("M2FP_OUTPUT_BUCKET", "masks")]))
    }

    #[track_caller]
    fn bytes_of(asked: Result<Asked>) -> Vec<u8> {
        match asked.unwrap().source {
            Source::Bytes(bytes) => bytes.to_vec(),
            Source::Object(object) => panic!("an object: {object:?}"),
        }
    }

    #[track_caller]
    fn refuses(asked: Result<Asked>, words: &str) {
        let error = asked.expect_err("accepted");
        assert!(matches!(error, Error::BadRequest { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }

    fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in parts {
            body.extend_from_slice(
                format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"x\"\r\n\r\n").as_bytes(),
            );
            body.extend_from_slice(value);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--B--\r\n");
        body
    }

    const FORM: Option<&str> = Some("multipart/form-data; boundary=B");

    #[test]
    fn any_other_content_type_is_the_image_itself() {
        let config = config(&[]);
        for content_type in [None, Some("image/jpeg"), Some("application/x-www-form-urlencoded"), Some("nonsense")] {
            assert_eq!(bytes_of(read(content_type, b"\xff\xd8", &config)), b"\xff\xd8");
        }
    }

    #[test]
    fn an_empty_body_is_a_bad_request_in_every_form() {
        let config = config(&[]);
        for content_type in [None, Some("application/json"), FORM] {
            refuses(read(content_type, b"", &config), "the body is empty");
        }
        refuses(read(FORM, &form(&[("image", b"")]), &config), "`image` is empty");
        refuses(json(r#"{"image": ""}"#), "`image` is empty");
    }

    #[test]
    fn the_limit_counts_decoded_bytes_too() {
        let config = config(&[("M2FP_MAX_BODY_BYTES", "40")]);
        let too_large = |asked: Result<Asked>| matches!(asked, Err(Error::TooLarge { limit: Limit::Body, .. }));
        assert!(too_large(read(None, &[0; 41], &config)));
        assert!(too_large(parse_json(format!(r#"{{"image":"{}"}}"#, "A".repeat(56)).as_bytes(), &config)));
        assert!(!too_large(parse_json(format!(r#"{{"image":"{}"}}"#, "A".repeat(52)).as_bytes(), &config)));
        assert!(!too_large(read(None, &[0; 40], &config)));
    }

    #[test]
    fn base64_comes_plain_as_data_url_wrapped_and_unpadded() {
        for text in [
            "/9j/AA==",
            "/9j/AA",
            r"\/9j\/AA==",
            r"\u002f9j\u002FAA\u003d\u003D",
            r"/9j/\nAA==\r\n\t ",
            "data:image/jpeg;base64,/9j/AA==",
            r"data:image\/jpeg;base64,\/9j\/AA==",
            "DATA:;BASE64,/9j/AA==",
        ] {
            assert_eq!(bytes_of(json(&format!(r#"{{"image": "{text}"}}"#))), [0xff, 0xd8, 0xff, 0x00], "{text}");
            assert_eq!(bytes_of(json(&format!(r#"{{"im\u0061ge": "{text}", "s3": null}}"#))).len(), 4);
        }
        refuses(json(r#"{"image": "data:image/png,abc"}"#), "not base64");
        refuses(json(r#"{"image": "data:,AAAA"}"#), "not base64");
        refuses(json(r#"{"image": "data:image/png;base64"}"#), "without a comma");
        refuses(json(r#"{"image": "data:image/png;base64,"}"#), "`image` is empty");
        for bad in ["ab$d", r"ab\u2f4dd", r"ab\\d", r#"ab\"d"#, r"ab\bd", "A=AA"] {
            refuses(json(&format!(r#"{{"image": "{bad}"}}"#)), "not valid base64");
        }
        refuses(json(r#"{"image": "\x41"}"#), "does not fit");
    }

    #[test]
    fn unknown_json_fields_are_named() {
        refuses(json(r#"{"image": "AAAA", "ouput": "mask"}"#), "`ouput`");
        refuses(json(r#"{"image": "AAAA", "options": {"ouput": "mask"}}"#), "`ouput`");
        refuses(json(r#"{"s3": {"bucket": "photos", "key": "a", "etag": "x"}}"#), "`etag`");
        refuses(json(r#"{"image": 5}"#), "`image` is neither base64 nor a data URL");
        for body in ["{}", r#"{"image": "AAAA", "s3": {"bucket": "photos", "key": "a"}}"#] {
            refuses(json(body), "one of `image` and `s3`");
        }
        refuses(json(r#"{"image": "AAAA", "image": "AAAA"}"#), "`image` is there twice");
        refuses(json("[1"), "does not fit");
    }

    #[test]
    fn hugging_faces_requests_are_read() {
        let asked = json(r#"{"inputs": "AAEC", "parameters": {"threshold": 0.25, "subtask": "semantic"}}"#).unwrap();
        assert_eq!(asked.options.score, Some(0.25));
        assert!(asked.warnings.is_empty());
        let options = Options::check(&asked.options, &[OutputKind::Mask]).unwrap();
        assert_eq!(options.outputs, [OutputKind::Hf]);
        assert_eq!(bytes_of(Ok(asked)), [0, 1, 2]);
        let asked = json(
            r#"{"inputs": "AAEC", "parameters": {"mask_threshold": 0.5, "overlap_mask_area_threshold": null,
                "subtask": "panoptic", "threshold": null}}"#,
        )
        .unwrap();
        assert_eq!(asked.warnings.len(), 2);
        assert!(asked.warnings[0].starts_with("`subtask` is ignored: "), "{:?}", asked.warnings);
        assert!(asked.warnings[1].starts_with("`mask_threshold` is ignored: "), "{:?}", asked.warnings);
        refuses(json(r#"{"inputs": ""}"#), "`inputs` is empty");
        refuses(json(r#"{"inputs": "ab$d"}"#), "`inputs` is not valid base64");
        refuses(json(r#"{"inputs": "AAEC", "image": "AAEC"}"#), "only `parameters` go with `inputs`");
        refuses(json(r#"{"inputs": "AAEC", "options": {}}"#), "only `parameters` go with `inputs`");
        refuses(json(r#"{"image": "AAEC", "parameters": {}}"#), "with `inputs` only");
        refuses(json(r#"{"inputs": "AAEC", "parameters": {"unknown_one": 1}}"#), "`unknown_one`");
    }

    #[test]
    fn an_array_is_no_object() {
        for body in [
            r#"["AAEC"]"#,
            r#"{"image": "AAEC", "options": []}"#,
            r#"{"image": "AAEC", "store": ["masks", "x/y"]}"#,
            r#"{"s3": ["photos", "a.jpg"]}"#,
            r#"{"inputs": "AAEC", "parameters": []}"#,
        ] {
            refuses(json(body), "expected an object");
        }
    }

    #[test]
    fn options_and_store_are_read() {
        let Asked { options, target: store, .. } = json(
            r#"{"s3": {"bucket": "photos", "key": "a b.jpg", "version_id": "v1"},
                "options": {"output": ["mask", "json"], "rle": true}, "store": {"bucket": "masks", "key_prefix": "x/y"}}"#,
        )
        .unwrap();
        assert_eq!(options.rle, Some(true));
        assert_eq!(store, Some(StoreTarget { bucket: "masks".into(), key_prefix: "x/y".into() }));
    }

    #[test]
    fn hostile_names_are_refused() {
        let object =
            |bucket: &str, key: &str| json(&serde_json::json!({"s3": {"bucket": bucket, "key": key}}).to_string());
        for bucket in ["", "ab", "Photos", "a..b", "-ab", "ab-", "a/b", "photos\n", &"a".repeat(64)] {
            refuses(object(bucket, "a.jpg"), "not a bucket's name");
        }
        for prefix in ["", "/a", "a/", "a/../b"] {
            let store = serde_json::json!({"image": "AAAA", "store": {"bucket": "masks", "key_prefix": prefix}});
            refuses(json(&store.to_string()), "`store.key_prefix`");
        }
        for key in ["", "a\nb", "a\u{0}", "../a", "a/../b", "a/.", &"k".repeat(1025)] {
            refuses(object("photos", key), "`s3.key`");
        }
        let store = serde_json::json!({"image": "AAAA", "store": {"bucket": "masks", "key_prefix": "k".repeat(1020)}});
        refuses(json(&store.to_string()), "keys would exceed 1024 bytes");
        let version = serde_json::json!({"s3": {"bucket": "photos", "key": "a", "version_id": "a b"}});
        refuses(json(&version.to_string()), "`s3.version_id`");
        assert!(object("photos", &"k".repeat(1024)).is_ok());
        assert!(object("photos", "Ünïcode/日本.jpg").is_ok());
    }

    #[test]
    fn requests_reach_allowed_buckets_only() {
        let read = r#"{"s3": {"bucket": "photos", "key": "a"}}"#;
        let write = r#"{"image": "AAAA", "store": {"bucket": "masks", "key_prefix": "a"}}"#;
        let forbidden = |asked: Result<Asked>| matches!(asked, Err(Error::Forbidden { .. }));
        let none = config(&[]);
        assert!(forbidden(parse_json(read.as_bytes(), &none)));
        assert!(forbidden(parse_json(write.as_bytes(), &none)));
        let output = config(&[("M2FP_OUTPUT_BUCKET", "masks")]);
        assert!(forbidden(parse_json(read.as_bytes(), &output)));
        assert!(parse_json(write.as_bytes(), &output).is_ok());
        let allowed = config(&[("M2FP_ALLOWED_BUCKETS", "photos,masks")]);
        assert!(parse_json(read.as_bytes(), &allowed).is_ok());
        assert!(parse_json(write.as_bytes(), &allowed).is_ok());
    }

    #[test]
    fn of_the_upload_bucket_only_uploads_are_read() {
        let config = config(&[("M2FP_UPLOAD_BUCKET", "photos"), ("M2FP_ALLOWED_BUCKETS", "others")]);
        let read = |key: &str| format!(r#"{{"s3": {{"bucket": "photos", "key": "{key}"}}}}"#).into_bytes();
        let write = br#"{"image": "AAAA", "store": {"bucket": "photos", "key_prefix": "uploads/a"}}"#;
        assert!(parse_json(&read("uploads/a"), &config).is_ok());
        assert!(parse_invocation(&read("uploads/a"), &config).is_ok());
        for refused in
            [parse_json(&read("a"), &config), parse_invocation(&read("a"), &config), parse_json(write, &config)]
        {
            assert!(matches!(refused, Err(Error::Forbidden { .. })));
        }
    }

    #[test]
    fn an_invoker_reaches_what_iam_lets_it_unless_narrowed() {
        let read = br#"{"s3": {"bucket": "anything", "key": "a"}}"#;
        assert!(parse_invocation(read, &config(&[])).is_ok());
        let narrowed = config(&[("M2FP_ALLOWED_BUCKETS", "photos")]);
        assert!(matches!(parse_invocation(read, &narrowed), Err(Error::Forbidden { .. })));
    }

    /// A client's 20 MB are not copied, and no more of them comes back than one reads.
    #[test]
    fn nothing_of_a_long_body_is_copied() {
        let long = "é".repeat(1 << 20);
        let members = format!(r#"{{"image": "{long}", "options": "\/{long}"}}"#);
        let JsonBody([image, _, options, ..]) = serde_json::from_str(&members).unwrap();
        for value in [image, options] {
            assert!(members.as_bytes().as_ptr_range().contains(&value.unwrap().get().as_ptr()));
        }
        for (body, words) in [
            (format!(r#"{{"{long}": 1}}"#), "the JSON body does not fit: `éé"),
            (format!(r#"{{"\/{long}": 1}}"#), r"the JSON body does not fit: `\/é"),
            (format!(r#"{{"image": "AAAA", "options": {{"{long}": 1}}}}"#), "`options`: it has 209"),
            (format!(r#"{{"image": "AAAA", "store": {{"bucket": "{long}"}}}}"#), "`store`: it has 209"),
        ] {
            let error = json(&body).unwrap_err().to_string();
            assert!(error.contains(words) && error.len() < 300, "{error}");
        }
    }

    #[test]
    fn a_long_form_is_read_piece_by_piece() {
        let config = config(&[]);
        for length in [MEMORY_BYTES - 300, MEMORY_BYTES, 5 * MEMORY_BYTES + 7] {
            let photo: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let body = form(&[("output", b"overlay"), ("image", &photo), ("alpha", b"0.5")]);
            assert_eq!(bytes_of(read(FORM, &body, &config)), photo, "{length}");
        }
    }

    #[test]
    fn a_form_carries_image_and_options() {
        let config = config(&[]);
        let body = form(&[("output", b"overlay"), ("image", b"\xff\xd8&=+"), ("alpha", b"0.5")]);
        let asked = read(FORM, &body, &config);
        assert_eq!(asked.as_ref().unwrap().options.alpha, Some(0.5));
        assert_eq!(bytes_of(asked), b"\xff\xd8&=+");
    }

    #[test]
    fn a_part_may_be_in_base64() {
        let config = config(&[]);
        let body = include_bytes!("../../tests/data/cases/18-form-base64.bin");
        assert!(bytes_of(read(FORM, body, &config)).starts_with(b"\xff\xd8\xff\xe0"));
        let part = |encoding: &str, value: &str| {
            let head = "Content-Disposition: form-data; name=\"image\"\r\nContent-Transfer-Encoding";
            read(FORM, format!("--B\r\n{head}: {encoding}\r\n\r\n{value}\r\n--B--\r\n").as_bytes(), &config)
        };
        assert_eq!(bytes_of(part("BASE64", "AAEC\r\nAw==")), [0, 1, 2, 3]);
        assert_eq!(bytes_of(part("8bit", "abc")), b"abc");
        refuses(part("base64", "a$"), "not base64");
        let other = part("quoted-printable", "=FF");
        assert!(matches!(&other, Err(Error::Unsupported { detail }) if detail.contains("`quoted-printable`")));
        let mangled = read(FORM, &form(&[("image", "\u{fffd}\u{fffd}JFIF".as_bytes())]), &config);
        assert!(matches!(&mangled, Err(Error::Unsupported { detail }) if detail.contains("binary media types")));
    }

    #[test]
    fn a_byte_order_mark_before_json_does_not_count() {
        assert_eq!(bytes_of(json("\u{feff}{\"image\": \"AAEC\"}")), [0, 1, 2]);
    }

    #[test]
    fn a_form_that_does_not_fit_says_why() {
        let config = config(&[]);
        refuses(read(FORM, &form(&[("output", b"mask")]), &config), "no field `image`");
        refuses(read(FORM, &form(&[("image", b"a"), ("image", b"b")]), &config), "more than one");
        refuses(read(FORM, &form(&[("image", b"a"), ("file", b"b")]), &config), "`file`");
        refuses(read(FORM, &form(&[("image", b"a"), ("rle", b"maybe")]), &config), "`rle`");
        refuses(read(FORM, &form(&[("image", b"a"), ("rle", b"true"), ("rle", b"true")]), &config), "twice");
        refuses(read(FORM, &form(&[("image", b"a"), ("mode", b"\xff")]), &config), "not UTF-8");
        refuses(read(FORM, b"--B\r\nContent-", &config), "malformed");
        refuses(read(Some("multipart/form-data"), b"x", &config), "boundary");
        let long = vec![b'a'; 1 << 18];
        let fields = form(&[("score", b"0.5"), ("other", &long), ("image", &long)]);
        let fields = fields.strip_suffix(b"--B--\r\n").unwrap();
        for name in ["image", "other"] {
            let head = format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"; x=\"{}\"", "k".repeat(1 << 20));
            for body in [head.as_bytes(), &[fields, head.as_bytes()].concat(), &long] {
                refuses(read(FORM, body, &config), "the head of a field is longer than 65536 bytes");
            }
        }
        let long = read(FORM, &form(&[("mode", &[b'a'; 300])]), &config);
        assert!(matches!(long, Err(Error::TooLarge { limit: Limit::Body, .. })), "{long:?}");
        let mixed = read(Some("multipart/mixed; boundary=B"), b"x", &config);
        assert!(matches!(mixed, Err(Error::Unsupported { .. })), "{mixed:?}");
    }

    proptest! {
        /// Whatever arrives, the answer is one of the documented client errors or a source: no panic, nothing internal.
        #[test]
        fn hostile_bodies_are_the_clients_fault(
            kind in 0usize..3,
            body in prop::collection::vec(any::<u8>(), 1..300),
            text in r#"[\[\]{}",:a-z0-9=\\-]{0,60}"#,
        ) {
            let content_type = [None, Some("application/json"), FORM][kind];
            let config = config(&[]);
            let framed = format!("--B\r\nContent-Disposition: form-data; name=\"image\"\r\n{text}\r\n--B--\r\n");
            let json = format!(r#"{{"image":{text}}}"#);
            for body in [&body[..], framed.as_bytes(), json.as_bytes()] {
                if let Err(error) = read(content_type, body, &config) {
                    prop_assert_eq!(error.fault(), crate::error::Fault::Client);
                }
            }
        }
    }
}
