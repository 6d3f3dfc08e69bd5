//! HTTP through API Gateway (REST and HTTP API), Application Load Balancer, VPC Lattice and Function URL: gateway event to
//! HTTP request, HTTP response to gateway answer. The types and the answer's encoding are `lambda_http`'s.
//!
//! `lambda_http` panics on some of what a stranger can send: base64 that is none, a `Host` that is no host, a path that
//! is no path, a query parameter with an empty list of values. Those are taken out of the event first: the body is
//! decoded here, once; the host plays no part; the path and the query are made well-formed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{self, Poll};

use aws_lambda_events::alb::AlbTargetGroupRequest;
use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayV2httpRequest};
use aws_lambda_events::query_map::QueryMap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::Full;
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, LambdaEvent, Service, service_fn};
use lambda_runtime::{MetadataPrelude, StreamResponse};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::guard::guarded;
use super::shape::Gateway;
use super::{lattice, payload};
use crate::error::{Error, Result};
use crate::http::app::{App, MostCarried, Stream};
use crate::http::problem;
use crate::http::routes::{self, BasePath};
use crate::pipeline::Context;

/// Greatest JSON that an Application Load Balancer takes of a Lambda function, bytes, and greatest body that it hands over
/// ("Lambda functions as targets", "Limits": 1 MB each).
const ALB_BYTES: u64 = 1_000_000;

/// What may not stand in a query as it is; `%` may, it is an escape already.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'\\').add(b'`');

/// A gateway's event with the body taken out and decoded.
struct Opened {
    event: LambdaRequest,
    body: Bytes,
    /// `/Prod` where the gateway has a named stage.
    base: Option<BasePath>,
}

/// Answers an HTTP event. Whatever the request holds, this is an HTTP answer.
///
/// # Errors
/// `Internal` when the answer cannot be encoded.
pub async fn answer(app: &App, gateway: Gateway, event: Box<RawValue>, context: &Context) -> Result<Box<RawValue>> {
    encode(gateway, respond(app, gateway, event, context, None).await).await
}

/// As [`answer`], for a gateway that is set to stream: the body travels as it is, and may be far larger.
pub(super) async fn stream(
    app: &App,
    gateway: Gateway,
    event: Box<RawValue>,
    context: &Context,
) -> StreamResponse<Pieces> {
    streamed(respond(app, gateway, event, context, Some(payload::STREAM)).await)
}

async fn respond(
    app: &App,
    gateway: Gateway,
    event: Box<RawValue>,
    context: &Context,
    stream: Option<Stream>,
) -> Response<Bytes> {
    let opened = open(gateway, event.get());
    // The event's text is as large as the photo.
    drop(event);
    let handled = async {
        let mut request = request(opened?);
        if let Some(stream) = stream {
            request.extensions_mut().insert(stream);
        }
        if gateway == Gateway::Alb {
            request.extensions_mut().insert(MostCarried(ALB_BYTES - payload::ENVELOPE_BYTES));
        }
        Ok(routes::handle(app, request, context.clone()).await)
    };
    guarded(handled).await.unwrap_or_else(|error| problem::response(&error, &context.request_id))
}

fn open(gateway: Gateway, event: &str) -> Result<Opened> {
    match gateway {
        Gateway::Rest => {
            let mut event: ApiGatewayProxyRequest = read(event)?;
            let body = take_body(&mut event.body, event.is_base64_encoded)?;
            forget_host(&mut event.headers);
            forget_host(&mut event.multi_value_headers);
            event.request_context.domain_name = None;
            make_path(&mut event.path);
            forget_valueless(&mut event.query_string_parameters)?;
            forget_valueless(&mut event.multi_value_query_string_parameters)?;
            let base = base_of(&mut event.request_context.stage);
            Ok(Opened { event: LambdaRequest::ApiGatewayV1(event), body, base })
        }
        Gateway::HttpApi | Gateway::FunctionUrl => {
            let mut event: ApiGatewayV2httpRequest = read(event)?;
            let body = take_body(&mut event.body, event.is_base64_encoded)?;
            forget_host(&mut event.headers);
            event.request_context.domain_name = None;
            make_path(&mut event.raw_path);
            if let Some(query) = &mut event.raw_query_string {
                *query = utf8_percent_encode(query, QUERY).to_string();
            }
            let base = base_of(&mut event.request_context.stage);
            Ok(Opened { event: LambdaRequest::ApiGatewayV2(event), body, base })
        }
        Gateway::Alb | Gateway::Lattice => {
            let mut event: AlbTargetGroupRequest =
                if gateway == Gateway::Lattice { lattice::request(event)? } else { read(event)? };
            let body = take_body(&mut event.body, event.is_base64_encoded)?;
            forget_host(&mut event.headers);
            forget_host(&mut event.multi_value_headers);
            make_path(&mut event.path);
            forget_valueless(&mut event.query_string_parameters)?;
            forget_valueless(&mut event.multi_value_query_string_parameters)?;
            Ok(Opened { event: LambdaRequest::Alb(event), body, base: None })
        }
    }
}

fn read<'a, T: Deserialize<'a>>(event: &'a str) -> Result<T> {
    serde_json::from_str(event).map_err(|e| Error::bad_request(format!("not a well-formed HTTP event: {e}")))
}

fn take_body(body: &mut Option<String>, is_base64: bool) -> Result<Bytes> {
    let Some(text) = body.take() else { return Ok(Bytes::new()) };
    if !is_base64 {
        return Ok(text.into());
    }
    let decoded =
        BASE64_STANDARD.decode(text).map_err(|e| Error::bad_request(format!("the body is not base64: {e}")))?;
    Ok(decoded.into())
}

fn forget_host(headers: &mut HeaderMap) {
    headers.remove(header::HOST);
}

/// A path that starts with `/`, whatever came.
fn make_path(path: &mut Option<String>) {
    let path = path.get_or_insert_with(String::new);
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
}

/// Drops the parameters that have no value at all: iterating over them panics.
fn forget_valueless(query: &mut QueryMap) -> Result<()> {
    let given = serde_json::to_value(&*query).map_err(Error::internal)?;
    let mut given: HashMap<String, Vec<String>> = serde_json::from_value(given).map_err(Error::internal)?;
    given.retain(|_, values| !values.is_empty());
    *query = given.into();
    Ok(())
}

/// The stage's path, which `lambda_http` puts in front. A stage is one plain segment (API Gateway allows letters, digits,
/// `_` and `-`); anything else came from elsewhere and is dropped.
fn base_of(stage: &mut Option<String>) -> Option<BasePath> {
    let is_plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    *stage = stage.take().filter(|s| is_plain(s));
    stage.as_ref().map(|s| BasePath(format!("/{s}")))
}

fn request(opened: Opened) -> Request<Bytes> {
    let request: lambda_http::Request = opened.event.into();
    let mut request = request.map(|_| opened.body);
    if let Some(base) = opened.base {
        request.extensions_mut().insert(base);
    }
    request
}

/// The answer in the gateway's own form: text as it is, anything else as base64.
async fn encode(gateway: Gateway, response: Response<Bytes>) -> Result<Box<RawValue>> {
    // The adapter takes the answer's form from the event it is called with, and nothing else.
    let event = match gateway {
        Gateway::Rest => LambdaRequest::ApiGatewayV1(ApiGatewayProxyRequest::default()),
        Gateway::HttpApi | Gateway::FunctionUrl => LambdaRequest::ApiGatewayV2(ApiGatewayV2httpRequest::default()),
        Gateway::Alb | Gateway::Lattice => LambdaRequest::Alb(AlbTargetGroupRequest::default()),
    };
    let headers = (gateway == Gateway::Lattice).then(|| response.headers().clone());
    let response = response.map(Full::new);
    let mut adapter = Adapter::from(service_fn(move |_| {
        let response = response.clone();
        async move { Ok::<_, Infallible>(response) }
    }));
    match adapter.call(LambdaEvent::new(event, lambda_http::Context::default())).await {
        Ok(answer) => {
            let answer = to_raw_value(&answer).map_err(Error::internal)?;
            match headers {
                None => Ok(answer),
                Some(headers) => lattice::answer(&answer, &headers),
            }
        }
        Err(never) => match never {},
    }
}

/// The answer as Lambda streams it: status and headers first, then the body. Several values of a header are one,
/// separated by commas, since there is one for each name.
fn streamed(response: Response<Bytes>) -> StreamResponse<Pieces> {
    let (parts, body) = response.into_parts();
    let mut headers = HeaderMap::new();
    for name in parts.headers.keys() {
        let values: Vec<_> = parts.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        // Values that are sound are so with commas between them.
        headers.extend(HeaderValue::from_bytes(&values.join(&b", "[..])).map(|value| (name.clone(), value)));
    }
    let metadata_prelude = MetadataPrelude { status_code: parts.status, headers, cookies: Vec::new() };
    StreamResponse { metadata_prelude, stream: Pieces { body } }
}

/// A body that is handed over piece by piece, so that no second copy of it is made. Its bytes hold their part of the
/// account of memory until the last piece is sent.
pub(super) struct Pieces {
    body: Bytes,
}

impl Pieces {
    /// Greatest piece, bytes.
    const MAX_BYTES: usize = 64 * 1024;
}

impl futures_util::Stream for Pieces {
    type Item = std::result::Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let most = self.body.len().min(Self::MAX_BYTES);
        Poll::Ready((most > 0).then(|| Ok(self.body.split_to(most))))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use http::Method;
    use serde_json::{Value, json};

    use super::*;

    fn opened(gateway: Gateway, event: &Value) -> Result<Request<Bytes>> {
        open(gateway, &event.to_string()).map(request)
    }

    fn fixture(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn every_gateway_gives_the_same_request() {
        for (gateway, event, base) in [
            (Gateway::Rest, include_str!("../../events/apigw-rest.json"), Some("/Prod")),
            (Gateway::HttpApi, include_str!("../../events/apigw-http.json"), None),
            (Gateway::FunctionUrl, include_str!("../../events/function-url.json"), None),
            (Gateway::Alb, include_str!("../../events/alb.json"), None),
            (Gateway::Lattice, include_str!("../../events/lattice.json"), None),
        ] {
            let request = opened(gateway, &fixture(event)).unwrap();
            assert_eq!(request.method(), Method::POST);
            assert_eq!(request.uri().path(), format!("{}/parse", base.unwrap_or_default()));
            assert_eq!(request.uri().query(), Some("output=mask"), "{gateway:?}");
            assert_eq!(request.extensions().get::<BasePath>().map(|b| b.0.as_str()), base);
            assert_eq!(request.headers()[header::CONTENT_TYPE], "image/jpeg");
            assert!(request.body().starts_with(&[0xff, 0xd8]), "{gateway:?}");
        }
    }

    #[test]
    fn a_query_in_lattices_path_is_the_query() {
        let mut event = fixture(include_str!("../../events/lattice.json"));
        event["path"] = json!("/parse?output=mask");
        event["queryStringParameters"].take();
        event["headers"] = json!({"content-type": "image/jpeg"});
        let request = opened(Gateway::Lattice, &event).unwrap();
        assert_eq!((request.uri().path(), request.uri().query()), ("/parse", Some("output=mask")));
        assert_eq!(request.headers()[header::CONTENT_TYPE], "image/jpeg");
    }

    #[tokio::test]
    async fn lattice_is_given_one_value_for_each_header() {
        let builder = Response::builder().header("vary", "Accept").header("vary", "Origin");
        let answer = encode(Gateway::Lattice, builder.body(Bytes::from_static(b"x")).unwrap()).await.unwrap();
        let answer = fixture(answer.get());
        assert_eq!(answer["headers"], json!({"vary": "Accept, Origin"}));
        assert_eq!((&answer["statusCode"], &answer["statusDescription"]), (&json!(200), &json!("200 OK")));
        assert!(answer.get("multiValueHeaders").is_none());
    }

    #[test]
    fn bad_base64_is_the_senders_fault() {
        let mut event = fixture(include_str!("../../events/apigw-rest.json"));
        event["body"] = json!("not base64!");
        assert!(matches!(opened(Gateway::Rest, &event), Err(Error::BadRequest { .. })));
    }

    #[test]
    fn nothing_a_stranger_sends_breaks_the_request() {
        let hostile = ["", " ", "\u{0}", "a b", "@:99999", "//", "http://[", "%", "%zz", "é?#", "\\\\x", "a\r\nb: c"];
        for text in hostile {
            let mut rest = fixture(include_str!("../../events/apigw-rest.json"));
            for (name, value) in [("path", json!(text)), ("resource", json!(text))] {
                rest[name] = value;
            }
            rest["headers"] = json!({"Host": "a b", "X-Forwarded-Proto": "no scheme"});
            rest["multiValueHeaders"] = json!({"host": [":99999"]});
            rest["queryStringParameters"] = json!({text: text});
            rest["multiValueQueryStringParameters"] = json!({text: [text, text]});
            rest["requestContext"]["stage"] = json!(text);
            rest["requestContext"]["domainName"] = json!(text);
            opened(Gateway::Rest, &rest).unwrap();

            let mut http_api = fixture(include_str!("../../events/apigw-http.json"));
            http_api["rawPath"] = json!(text);
            http_api["rawQueryString"] = json!(text);
            http_api["cookies"] = json!([text]);
            http_api["requestContext"]["stage"] = json!(text);
            http_api["requestContext"]["domainName"] = json!(text);
            opened(Gateway::HttpApi, &http_api).unwrap();

            let mut alb = fixture(include_str!("../../events/alb.json"));
            alb["path"] = json!(text);
            alb["queryStringParameters"] = json!({text: text});
            opened(Gateway::Alb, &alb).unwrap();

            let mut lattice = fixture(include_str!("../../events/lattice.json"));
            lattice["path"] = json!(text);
            lattice["headers"] = json!({text: text, "host": [text, text]});
            lattice["queryStringParameters"] = json!({text: [text], "none": []});
            opened(Gateway::Lattice, &lattice).unwrap();
        }
    }

    #[test]
    fn a_parameter_without_values_is_no_parameter() {
        for (gateway, event) in [
            (Gateway::Rest, include_str!("../../events/apigw-rest.json")),
            (Gateway::Alb, include_str!("../../events/alb.json")),
        ] {
            let mut event = fixture(event);
            for field in ["queryStringParameters", "multiValueQueryStringParameters"] {
                event[field] = json!({"output": [], "mode": ["whole"]});
            }
            assert_eq!(opened(gateway, &event).unwrap().uri().query(), Some("mode=whole"), "{gateway:?}");
        }
    }

    #[tokio::test]
    async fn images_are_base64_and_json_is_text() {
        let answer = |gateway, content_type: &'static str, body: &'static [u8]| async move {
            let response =
                Response::builder().header(header::CONTENT_TYPE, content_type).body(Bytes::from_static(body)).unwrap();
            fixture(encode(gateway, response).await.unwrap().get())
        };
        for gateway in [Gateway::Rest, Gateway::HttpApi, Gateway::FunctionUrl, Gateway::Alb, Gateway::Lattice] {
            let image = answer(gateway, "image/png", b"\x89PNG").await;
            assert_eq!((&image["statusCode"], &image["isBase64Encoded"]), (&json!(200), &json!(true)));
            assert_eq!(image["body"], "iVBORw==");
            let problem = answer(gateway, problem::CONTENT_TYPE, b"{}").await;
            assert_eq!((&problem["isBase64Encoded"], &problem["body"]), (&json!(false), &json!("{}")));
        }
    }

    #[tokio::test]
    async fn a_streamed_answer_is_its_head_and_its_pieces() {
        let body = Bytes::from(vec![7; 2 * Pieces::MAX_BYTES + 1]);
        let builder = Response::builder().status(422).header("vary", "Accept").header("vary", "Origin");
        let answer = streamed(builder.header("etag", "x").body(body.clone()).unwrap());
        let head = serde_json::to_value(&answer.metadata_prelude).unwrap();
        assert_eq!(head, json!({"statusCode": 422, "headers": {"vary": "Accept, Origin", "etag": "x"}, "cookies": []}));
        let pieces: Vec<Bytes> = answer.stream.map(std::result::Result::unwrap).collect().await;
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [Pieces::MAX_BYTES, Pieces::MAX_BYTES, 1]);
        assert_eq!(pieces.concat(), body);
    }
}
