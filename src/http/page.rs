//! The web page: one file made of those in `page/`, no other host, no build. Its script and style are allowed by their
//! hashes alone, and requests to this server and the buckets that it sends clients to.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, Uri, header};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::negotiate;
use crate::error::{Error, Result};
use crate::pipeline::Pipeline;

/// The page with an empty `style` and an empty `script`.
const FRAME: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
/// One script, a file for each purpose: later ones use earlier ones.
const SCRIPT: &str = concat!(
    include_str!("page/words.js"),
    include_str!("page/label_map.js"),
    include_str!("page/server.js"),
    include_str!("page/zip.js"),
    include_str!("page/code.js"),
    include_str!("page/edit.js"),
    include_str!("page/stage.js"),
    include_str!("page/album.js"),
    include_str!("page/tools.js"),
    include_str!("page/downloads.js"),
    include_str!("page/page.js"),
);

/// A photo to try, made by `scripts/make_samples.py` of pictures that are in the public domain or under CC0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// Five people.
    Scene,
    Portrait,
    Photographer,
}

impl Sample {
    const ALL: [Self; 3] = [Self::Scene, Self::Portrait, Self::Photographer];

    const fn photo(self) -> &'static [u8] {
        match self {
            Self::Scene => include_bytes!("page/sample.jpg"),
            Self::Portrait => include_bytes!("page/sample-portrait.jpg"),
            Self::Photographer => include_bytes!("page/sample-photographer.jpg"),
        }
    }

    /// A small picture of it, part of the page itself.
    const fn thumbnail(self) -> &'static [u8] {
        match self {
            Self::Scene => include_bytes!("page/sample.webp"),
            Self::Portrait => include_bytes!("page/sample-portrait.webp"),
            Self::Photographer => include_bytes!("page/sample-photographer.webp"),
        }
    }

    /// The photo.
    #[must_use]
    pub fn response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from_static(self.photo()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

/// The page and its policy, made once.
pub struct Page {
    html: Bytes,
    /// The same in gzip, a third of it; made when it is first asked for.
    gzip: OnceLock<Bytes>,
    /// All but where the page may connect to.
    policy: String,
    /// ` https://…` for each bucket.
    storage: OnceCell<String>,
}

impl Page {
    #[must_use]
    pub fn new() -> Self {
        let frame = Sample::ALL.into_iter().fold(FRAME.to_string(), |html, sample| with_thumbnail(&html, sample));
        let html = filled(&filled(&frame, "style", STYLE), "script", SCRIPT);
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; img-src blob: data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; connect-src 'self'",
            source_hash(SCRIPT),
            source_hash(STYLE),
        );
        Self { html: html.into(), gzip: OnceLock::new(), policy, storage: OnceCell::new() }
    }

    fn gzip(&self) -> Bytes {
        let made = || {
            let mut made = Vec::new();
            // Neither reading bytes nor growing a vector fails.
            GzEncoder::new(self.html.as_ref(), Compression::best()).read_to_end(&mut made).map(|_| made.into())
        };
        self.gzip.get_or_init(|| made().unwrap_or_default()).clone()
    }

    /// The page for a request with these headers. `answers_are_linked`: large answers are stored, and the client is sent
    /// to them.
    pub async fn response(
        &self,
        pipeline: &Pipeline,
        answers_are_linked: bool,
        request: &HeaderMap,
    ) -> Response<Bytes> {
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
        let is_gzip = negotiate::accepts_gzip(request);
        let mut response = Response::new(if is_gzip { self.gzip() } else { self.html.clone() });
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        if is_gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
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

/// `html` with the sample's small picture in the first `img` that still waits for one.
fn with_thumbnail(html: &str, sample: Sample) -> String {
    html.replacen("data:image/webp,", &format!("data:image/webp;base64,{}", STANDARD.encode(sample.thumbnail())), 1)
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
