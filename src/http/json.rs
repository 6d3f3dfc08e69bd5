//! Answers in JSON.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde::Serialize;

use crate::error::{Error, Result};

/// `value` as an answer of 200.
///
/// # Errors
/// `Internal` for a value that JSON cannot hold.
pub fn response(value: &impl Serialize) -> Result<Response<Bytes>> {
    let mut response = Response::new(bytes(value)?);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// `value` as the bytes of a body.
///
/// # Errors
/// `Internal` for a value that JSON cannot hold.
pub fn bytes(value: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(value).map(Bytes::from).map_err(Error::internal)
}
