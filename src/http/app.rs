//! What the HTTP door keeps between requests.

use std::sync::Arc;

use super::auth::Token;
use super::page::Page;
use crate::pipeline::Pipeline;

/// The pipeline as it is served over HTTP.
pub struct App {
    pub pipeline: Arc<Pipeline>,
    pub(super) max_answer_bytes: Option<u64>,
    pub(super) token: Option<Token>,
    pub(super) page: Page,
}

impl App {
    /// For a server of our own: answers may have any size.
    #[must_use]
    pub fn local(pipeline: Arc<Pipeline>) -> Self {
        Self::new(pipeline, None)
    }

    /// `max_answer_bytes`: the greatest body, as it is carried (base64 or escaped text).
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>, max_answer_bytes: Option<u64>) -> Self {
        let token = pipeline.config.bearer_token.as_ref().map(Token::new);
        Self { pipeline, max_answer_bytes, token, page: Page::new() }
    }

    /// The greatest image that is sent, bytes: base64 makes four of three.
    pub(super) fn max_image_bytes(&self) -> Option<u64> {
        self.max_answer_bytes.map(|carried| carried / 4 * 3)
    }
}
