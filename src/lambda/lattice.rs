//! VPC Lattice: its requests (event structure version 2.0) in the words of a load balancer, and a load balancer's answer in
//! its own ("Lambda functions as targets in VPC Lattice", Amazon VPC Lattice user guide).

use std::collections::{BTreeMap, HashMap};

use aws_lambda_events::alb::AlbTargetGroupRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::error::{Error, Result};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    method: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    headers: HashMap<String, Values>,
    #[serde(default)]
    query_string_parameters: Option<HashMap<String, Values>>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: Option<bool>,
}

/// Lists, by the documentation; single texts, from some versions of the service.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

impl Values {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(value) => vec![value],
            Self::Many(values) => values,
        }
    }
}

/// The request as a load balancer would send it. A header that HTTP does not allow is left out.
///
/// # Errors
/// `BadRequest` for an event that does not fit.
pub(super) fn request(event: &str) -> Result<AlbTargetGroupRequest> {
    let bad = |e: &dyn std::fmt::Display| Error::bad_request(format!("not a well-formed HTTP event: {e}"));
    let event: Event = serde_json::from_str(event).map_err(|e| bad(&e))?;
    let mut request = AlbTargetGroupRequest::default();
    request.http_method = Method::from_bytes(event.method.as_bytes()).map_err(|e| bad(&e))?;
    let path = event.path.unwrap_or_default();
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    request.path = Some(path.to_owned());
    let mut parameters: HashMap<String, Vec<String>> =
        event.query_string_parameters.unwrap_or_default().into_iter().map(|(n, v)| (n, v.into_vec())).collect();
    if parameters.is_empty() {
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            parameters.entry(name.into_owned()).or_default().push(value.into_owned());
        }
    }
    request.multi_value_query_string_parameters = parameters.into();
    for (name, values) in event.headers {
        for value in values.into_vec() {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
                request.multi_value_headers.append(name, value);
            }
        }
    }
    request.is_base64_encoded = event.is_base64_encoded.unwrap_or_default();
    request.body = event.body;
    Ok(request)
}

/// An answer, with one value for each header.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    status_code: u16,
    #[serde(default)]
    status_description: Option<String>,
    #[serde(skip_deserializing)]
    headers: BTreeMap<String, String>,
    is_base64_encoded: bool,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
}

/// A load balancer's answer as VPC Lattice takes it. Several values of a header are one, separated by commas.
///
/// # Errors
/// `Internal`.
pub(super) fn answer(answer: &RawValue, headers: &HeaderMap) -> Result<Box<RawValue>> {
    let mut answer: Answer<'_> = serde_json::from_str(answer.get()).map_err(Error::internal)?;
    for name in headers.keys() {
        let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        answer.headers.insert(name.as_str().to_owned(), values.join(", "));
    }
    to_raw_value(&answer).map_err(Error::internal)
}
