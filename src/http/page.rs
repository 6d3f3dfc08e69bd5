//! The web page: one file made of those in `page/`, no other host, no build. Its script and style are allowed by their
//! hashes alone, and requests to this server and the buckets that it sends clients to.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Response, Uri, header};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::pipeline::Pipeline;

/// The page with an empty `style` and an empty `script`.
const FRAME: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
/// One script in four files: words, masks, requests, and what is shown.
const SCRIPT: &str = concat!(
    include_str!("page/words.js"),
    include_str!("page/label_map.js"),
    include_str!("page/server.js"),
    include_str!("page/page.js"),
);

/// A photo to try, composed by `scripts/compose_scene.py` from a portrait in the public domain.
const SAMPLE: &[u8] = include_bytes!("page/sample.jpg");

/// The page and its policy, made once.
pub struct Page {
    html: Bytes,
    /// All but where the page may connect to.
    policy: String,
    /// ` https://…` for each bucket.
    storage: OnceCell<String>,
}

impl Page {
    #[must_use]
    pub fn new() -> Self {
        let html = filled(&filled(FRAME, "style", STYLE), "script", SCRIPT);
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; img-src blob: data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; connect-src 'self'",
            source_hash(SCRIPT),
            source_hash(STYLE),
        );
        Self { html: html.into(), policy, storage: OnceCell::new() }
    }

    /// The page. `answers_are_linked`: large answers are stored, and the client is sent to them.
    pub async fn response(&self, pipeline: &Pipeline, answers_are_linked: bool) -> Response<Bytes> {
        let storage = self.storage.get_or_try_init(|| storage_origins(pipeline, answers_are_linked)).await.map_or_else(
            |error| {
                tracing::warn!(
                    error = error.chain(),
                    "the page may not use the buckets: their addresses are not known"
                );
                ""
            },
            String::as_str,
        );
        let mut response = Response::new(self.html.clone());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_SECURITY_POLICY, super::headers::text(&format!("{}{storage}", self.policy)));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

/// Origins of the buckets that uploads go to and that large answers are read from, as links to them have it.
async fn storage_origins(pipeline: &Pipeline, answers_are_linked: bool) -> Result<String> {
    let config = &pipeline.config;
    let Some(store) = &pipeline.store else { return Ok(String::new()) };
    let answers = config.output_bucket.as_ref().filter(|_| answers_are_linked);
    let mut origins = BTreeSet::new();
    for bucket in config.upload_bucket.iter().chain(answers) {
        let link = store.presign_get(bucket, "any", Duration::from_secs(1)).await?;
        let link: Uri = link.expose().parse().map_err(Error::internal)?;
        let (Some(scheme), Some(authority)) = (link.scheme_str(), link.authority()) else {
            return Err(Error::internal("a link without an origin"));
        };
        origins.insert(format!(" {scheme}://{authority}"));
    }
    Ok(origins.into_iter().collect())
}

/// The photo to try.
#[must_use]
pub fn sample() -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(SAMPLE));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

impl Default for Page {
    fn default() -> Self {
        Self::new()
    }
}

/// `html` with `content` in its only element of this name, which is empty.
fn filled(html: &str, element: &str, content: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    html.replacen(&format!("{open}{close}"), &format!("{open}{content}{close}"), 1)
}

/// The hash source of an inline script or style (Content Security Policy Level 3, section 2.3.1).
fn source_hash(content: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_script_and_one_style_and_nothing_that_the_policy_forbids() {
        let html = String::from_utf8(Page::new().html.to_vec()).unwrap();
        for (element, content) in [("script", SCRIPT), ("style", STYLE)] {
            assert_eq!(html.matches(&format!("<{element}")).count(), 1, "{element}");
            assert!(html.contains(&format!("<{element}>{content}</{element}>")), "{element}");
        }
        for forbidden in [" style=", " onclick=", " onload=", " onchange=", "https://", "src=\"/", "href=\"/"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        // One name that is no address.
        assert_eq!(html.matches("http://").count(), html.matches("http://www.w3.org/2000/svg").count());
    }

    #[test]
    fn the_policy_names_the_hashes() {
        let policy = Page::new().policy;
        assert_eq!(policy.matches("'sha256-").count(), 2);
        assert!(!policy.contains("unsafe"));
    }
}
