//! The web page: one file, no other host, no build. Its script and style are allowed by their hashes alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use sha2::{Digest, Sha256};

const HTML: &str = include_str!("page/index.html");

/// The page and its policy, made once.
pub struct Page {
    policy: HeaderValue,
}

impl Page {
    #[must_use]
    pub fn new() -> Self {
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; img-src blob: data:; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            source_hash("script"),
            source_hash("style"),
        );
        Self { policy: super::headers::text(&policy) }
    }

    #[must_use]
    pub fn response(&self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from_static(HTML.as_bytes()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::new()
    }
}

/// The hash source (Content Security Policy Level 3, section 2.3.1) of the page's only element of this name.
fn source_hash(element: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content(HTML, element))))
}

fn content<'a>(html: &'a str, element: &str) -> &'a str {
    let (_, after) = html.split_once(&format!("<{element}>")).unwrap_or_default();
    after.split_once(&format!("</{element}>")).unwrap_or_default().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_script_and_one_style_and_nothing_that_the_policy_forbids() {
        for element in ["script", "style"] {
            assert_eq!(HTML.matches(&format!("<{element}")).count(), 1);
            assert!(content(HTML, element).len() > 100);
        }
        for forbidden in
            [" style=", " onclick=", " onload=", " onchange=", "http://", "https://", "src=\"/", "href=\"/"]
        {
            assert!(!HTML.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn the_policy_names_the_hashes() {
        let response = Page::new().response();
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert_eq!(policy.matches("'sha256-").count(), 2);
        assert!(!policy.contains("unsafe"));
    }
}
