//! `POST /uploads`: the way for photos that no request can carry (Lambda's ends at 6 MB, base64 counted).
//!
//! The client says what it will send and gets a request that S3 takes from whoever holds it: signed for one key that
//! nobody can guess, one media type, one length, until it expires. It sends the photo to S3 itself, and then the answer's
//! `parse` to `/parse`. Nothing is remembered here; what is never parsed, the bucket's lifecycle rule removes.

use bytes::Bytes;
use http::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::json;
use crate::config::Config;
use crate::error::{Error, Limit, Result};
use crate::image::header::Format;
use crate::pipeline::Pipeline;
use crate::store::{SignedRequest, UploadTerms};
use crate::units::hex;

/// Largest object that one PUT writes, bytes (Amazon S3 user guide, "Uploading objects").
const MAX_PUT_BYTES: u64 = 5 << 30;

/// Random bytes in a key: as many as a key of AES.
const KEY_BYTES: usize = 16;

/// What a client will send.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UploadRequest {
    content_type: String,
    #[serde(deserialize_with = "crate::units::whole")]
    bytes: u64,
}

/// How to send it, and what to send to `/parse` afterwards.
#[derive(Serialize)]
struct UploadAnswer<'a> {
    upload: Signed<'a>,
    parse: Value,
}

#[derive(Serialize)]
struct Signed<'a> {
    method: &'static str,
    url: &'a str,
    headers: &'a std::collections::BTreeMap<String, String>,
    expires_s: u64,
}

/// Greatest photo that is signed for, bytes.
#[must_use]
pub fn max_bytes(config: &Config) -> u64 {
    config.max_object_bytes.min(MAX_PUT_BYTES)
}

/// Answers `POST /uploads`.
///
/// # Errors
/// `NoUploads`; `BadRequest`, `Unsupported` (another type than the images served), `TooLarge` with `Limit::Body` about
/// what is to be sent; those of the store.
pub(crate) async fn sign(pipeline: &Pipeline, body: &[u8]) -> Result<Response<Bytes>> {
    let config = &pipeline.config;
    let (Some(bucket), Some(store)) = (&config.upload_bucket, &pipeline.store) else { return Err(Error::NoUploads) };
    let (content_type, bytes) = check(body, config)?;
    let key = new_key(config)?;
    let upload = UploadTerms { bucket, key: &key, content_type, bytes };
    let SignedRequest { method, url, headers } = store.presign_put(upload, config.upload_expires).await?;
    json::response(&UploadAnswer {
        upload: Signed { method, url: url.expose(), headers: &headers, expires_s: config.upload_expires.as_secs() },
        parse: json!({"s3": {"bucket": bucket, "key": key}}),
    })
}

fn check(body: &[u8], config: &Config) -> Result<(&'static str, u64)> {
    let request: UploadRequest = json::read(body).map_err(|fault| {
        Error::bad_request(format!("the JSON body must be {{\"content_type\": …, \"bytes\": …}} of the photo: {fault}"))
    })?;
    let content_type =
        Format::ALL.map(Format::media_type).into_iter().find(|one| *one == request.content_type).ok_or_else(|| {
            Error::Unsupported {
                detail: format!("`content_type` must be one of {}", Format::ALL.map(Format::media_type).join(", ")),
            }
        })?;
    let most = max_bytes(config);
    match request.bytes {
        0 => Err(Error::bad_request("`bytes` is 0: there is nothing to upload")),
        bytes if bytes > most => Err(Error::TooLarge {
            limit: Limit::Body,
            detail: format!("the photo has {bytes} bytes; at most {most} may be uploaded"),
        }),
        bytes => Ok((content_type, bytes)),
    }
}

fn new_key(config: &Config) -> Result<String> {
    let mut random = [0; KEY_BYTES];
    getrandom::fill(&mut random).map_err(Error::internal)?;
    Ok(format!("{}{}", config.upload_prefix, hex(&random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::from_vars([("M2FP_MAX_OBJECT_BYTES".to_owned(), "15000000".to_owned())]).unwrap()
    }

    #[test]
    fn photos_of_the_types_and_sizes_served_are_signed_for() {
        for content_type in Format::ALL.map(Format::media_type) {
            let body = json!({"content_type": content_type, "bytes": 15_000_000}).to_string();
            assert_eq!(check(body.as_bytes(), &config()).unwrap(), (content_type, 15_000_000));
            let body = json!({"content_type": content_type, "bytes": 15e6}).to_string();
            assert_eq!(check(body.as_bytes(), &config()).unwrap(), (content_type, 15_000_000));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for (body, code) in [
            ("", "bad_request"),
            ("[]", "bad_request"),
            (r#"["image/jpeg", 1]"#, "bad_request"),
            (r#"{"content_type": "image/jpeg"}"#, "bad_request"),
            (r#"{"content_type": "image/jpeg", "bytes": 0}"#, "bad_request"),
            (r#"{"content_type": "image/jpeg", "bytes": -1}"#, "bad_request"),
            (r#"{"content_type": "image/jpeg", "bytes": 1.5}"#, "bad_request"),
            (r#"{"content_type": "image/jpeg", "bytes": 1, "key": "../a"}"#, "bad_request"),
            (r#"{"content_type": "image/jxl", "bytes": 1}"#, "unsupported"),
            (r#"{"content_type": "text/html", "bytes": 1}"#, "unsupported"),
            (r#"{"content_type": "image/jpeg\r\nx: y", "bytes": 1}"#, "unsupported"),
            (r#"{"content_type": "image/jpeg", "bytes": 15000001}"#, "body_too_large"),
            (r#"{"content_type": "image/jpeg", "bytes": 18446744073709551615}"#, "body_too_large"),
        ] {
            let error = check(body.as_bytes(), &config()).unwrap_err();
            assert_eq!(error.code(), code, "{body}: {error}");
        }
    }

    #[test]
    fn keys_are_unlike_each_other_and_under_the_prefix() {
        let [a, b] = [new_key(&config()).unwrap(), new_key(&config()).unwrap()];
        assert_ne!(a, b);
        for key in [a, b] {
            let random = key.strip_prefix("uploads/").unwrap();
            assert_eq!(random.len(), 2 * KEY_BYTES);
            assert!(random.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
}
