//! The headers around every answer: request id, caching, CORS; and text made fit to be a header.

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response};

use crate::config::Config;

pub(crate) const PLAN: HeaderName = HeaderName::from_static("x-m2fp-plan");
pub(crate) const WARNINGS: HeaderName = HeaderName::from_static("x-m2fp-warnings");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What scripts of other origins may read besides the few headers they always may.
const EXPOSED: &str =
    "ETag, Location, Retry-After, Server-Timing, WWW-Authenticate, X-M2FP-Plan, X-M2FP-Warnings, X-Request-Id";

/// What scripts of other origins may send besides the few headers they always may.
const ALLOWED: &str = "Accept, Authorization, Content-Encoding, Content-Type, If-None-Match";

/// Seconds a browser may keep a preflight's answer.
const PREFLIGHT_MAX_AGE_S: u64 = 600;

/// Longest header value made of text that others wrote, bytes.
const MAX_TEXT_BYTES: usize = 1024;

/// Adds what every answer carries. Photos of people and what is made of them are nobody else's to keep: answers that
/// say nothing else of caching are not stored. `origin` is what the request names as its page's.
pub(crate) fn surround(
    response: &mut Response<Bytes>,
    config: &Config,
    origin: Option<&HeaderValue>,
    request_id: &str,
) {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REQUEST_ID, text(request_id));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-store"));
    let allowed = &config.cors_origins;
    if !allowed.is_empty() && !allows_any(config) {
        // Whatever this answer says of origins, it does not hold for another one's page.
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(origin) = allowed_origin(config, origin) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}

/// Adds what a browser asks for before it sends a request of another origin.
pub(crate) fn allow_cross_origin(headers: &mut HeaderMap, config: &Config, methods: &'static str) {
    if !config.cors_origins.is_empty() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE_S.into());
    }
}

fn allows_any(config: &Config) -> bool {
    config.cors_origins.iter().any(|origin| origin == "*")
}

/// The origin that an answer names as allowed: of one that is configured that one, whoever asks; of several the one that
/// asks.
fn allowed_origin(config: &Config, asking: Option<&HeaderValue>) -> Option<HeaderValue> {
    match config.cors_origins.as_slice() {
        [one] => HeaderValue::from_str(one).ok(),
        several => asking.filter(|asking| several.iter().any(|origin| *asking == origin.as_str())).cloned(),
    }
}

/// Any text as a header's value: printable ASCII, one line, at most `MAX_TEXT_BYTES`. Nothing can be injected.
#[must_use]
pub fn text(value: &str) -> HeaderValue {
    let line: String = value
        .chars()
        .map(|c| match c {
            ' '..='~' => c,
            '×' => 'x',
            '–' | '—' => '-',
            _ => '?',
        })
        .take(MAX_TEXT_BYTES)
        .collect();
    HeaderValue::try_from(line.trim().to_owned()).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn warnings_stay_readable() {
        assert_eq!(text("downscaled from 683×384 to 500×281"), "downscaled from 683x384 to 500x281");
        assert_eq!(text("a\r\nSet-Cookie: b"), "a??Set-Cookie: b");
    }

    proptest! {
        #[test]
        fn no_text_leaves_its_header(value in any::<String>()) {
            let header = text(&value);
            let line = header.to_str().unwrap();
            prop_assert!(line.len() <= MAX_TEXT_BYTES && line.bytes().all(|b| (0x20..0x7f).contains(&b)));
            prop_assert!(!value.is_empty() || line.is_empty());
        }
    }
}
