//! Errors as answers: RFC 9457 `application/problem+json`.
//!
//! A problem's `detail` is the error's public sentence; causes go to the log alone.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde::Serialize;

use crate::error::{Error, Fault, Problem};

/// Media type of every error's body.
pub(crate) const CONTENT_TYPE: &str = "application/problem+json";

/// Seconds after which a failed storage service is worth another try.
const STORAGE_RETRY_AFTER_S: u64 = 1;

/// A problem as it is answered: an internal error names the request, by which the log has it.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    problem: Problem,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

/// The answer to a request that failed, and its line in the log.
#[must_use]
pub fn response(error: &Error, request_id: &str) -> Response<Bytes> {
    error.log(request_id);
    let body = Body { problem: error.problem(), request_id: (error.fault() == Fault::Internal).then_some(request_id) };
    let mut response = Response::new(Bytes::from(serde_json::to_vec(&body).unwrap_or_default()));
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    match error {
        Error::Busy { retry_after } => {
            headers.insert(header::RETRY_AFTER, retry_after.as_secs().max(1).into());
        }
        Error::Storage { .. } => {
            headers.insert(header::RETRY_AFTER, STORAGE_RETRY_AFTER_S.into());
        }
        Error::Unauthorized => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"m2fp\""));
        }
        Error::Method { allowed, .. } => {
            headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        _ => {}
    }
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Limit;

    fn too_large(limit: Limit) -> Error {
        Error::TooLarge { limit, detail: "what would fit".to_owned() }
    }

    /// One row for each status and each reason it is given for; the statuses are those of the documentation.
    #[test]
    fn every_error_has_its_row() {
        let text = || "the sentence".to_owned();
        let cause = || Some("disk on fire".into());
        let rows: [(u16, &str, Error); 20] = [
            (400, "bad_request", Error::BadRequest { detail: text() }),
            (401, "unauthorized", Error::Unauthorized),
            (403, "forbidden", Error::Forbidden { detail: text() }),
            (404, "no_route", Error::NoRoute { path: "/x".to_owned() }),
            (404, "no_uploads", Error::NoUploads),
            (404, "no_object", Error::NoObject { detail: text() }),
            (409, "archived", Error::Archived { detail: text() }),
            (404, "overtaken", Error::Overtaken),
            (405, "method", Error::Method { allowed: "POST, OPTIONS", hint: "" }),
            (413, "body_too_large", too_large(Limit::Body)),
            (413, "too_many_pixels", too_large(Limit::Pixels)),
            (413, "too_little_memory", too_large(Limit::Memory)),
            (413, "answer_too_large", too_large(Limit::Answer)),
            (415, "unsupported", Error::Unsupported { detail: text() }),
            (422, "undecodable", Error::Undecodable { detail: text() }),
            (503, "busy", Error::Busy { retry_after: Duration::from_secs(3) }),
            (507, "temporary_folder", Error::TemporaryFolder { detail: text(), source: cause() }),
            (503, "storage", Error::Storage { detail: text(), source: cause() }),
            (504, "deadline", Error::Deadline { detail: text() }),
            (500, "internal", Error::internal("disk on fire")),
        ];
        for (status, code, error) in rows {
            let response = response(&error, "r-1");
            assert_eq!(response.status().as_u16(), status, "{error:?}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], CONTENT_TYPE);
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(body["status"], status);
            assert_eq!(body["code"], code);
            assert_eq!(body["title"], response.status().canonical_reason().unwrap());
            assert!(!response.body().windows(4).any(|w| w == b"fire"), "a cause leaked: {body}");
            if status == 500 {
                assert_eq!(body["request_id"], "r-1");
                assert!(body.get("detail").is_none());
            } else {
                assert_eq!(body["detail"], error.to_string());
                assert!(body.get("request_id").is_none());
            }
        }
    }

    #[test]
    fn statuses_that_promise_a_header_carry_it() {
        let header = |error: &Error, name| response(error, "r").headers().get(name).cloned();
        let busy = |ms| Error::Busy { retry_after: Duration::from_millis(ms) };
        assert_eq!(header(&busy(3000), header::RETRY_AFTER).unwrap(), "3");
        assert_eq!(header(&busy(10), header::RETRY_AFTER).unwrap(), "1");
        let storage = Error::Storage { detail: "slow down".to_owned(), source: None };
        assert_eq!(header(&storage, header::RETRY_AFTER).unwrap(), "1");
        assert_eq!(header(&Error::Unauthorized, header::WWW_AUTHENTICATE).unwrap(), "Bearer realm=\"m2fp\"");
        assert_eq!(header(&Error::Method { allowed: "GET, HEAD", hint: "" }, header::ALLOW).unwrap(), "GET, HEAD");
    }
}
