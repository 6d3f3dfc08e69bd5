//! What the HTTP door keeps between requests.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;

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

/// How an answer is streamed; a request's extension, set by a door that does so. Where there is none, [`App`] says what
/// an answer carries.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Greatest body.
    pub most_bytes: u64,
    /// What is sent as fast as the client takes it.
    pub unthrottled_bytes: u64,
    /// What is sent of the rest.
    pub bytes_per_second: u64,
}

/// The greatest body, as it is carried, of a request's door that carries less than [`App`] says, and of its answer; a
/// request's extension.
#[derive(Debug, Clone, Copy)]
pub struct MostCarried(pub u64);

impl Stream {
    /// The greatest body that is sent within `left`; `None`: no limit.
    #[must_use]
    pub(super) fn most_within(self, left: Option<Duration>) -> u64 {
        let throttled = |left: Duration| (left.as_secs_f64() * self.bytes_per_second as f64) as u64;
        left.map_or(self.most_bytes, |left| self.most_bytes.min(self.unthrottled_bytes + throttled(left)))
    }
}

/// How much an answer may carry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Room {
    /// As much as there is: over a connection of our own.
    Any,
    /// So many bytes in Lambda's JSON, as base64 or escaped text.
    Encoded(u64),
    /// So many bytes, as they are.
    Plain(u64),
}

impl Room {
    /// The greatest image that is sent, bytes: base64 makes four of three. `None`: any.
    pub(super) fn max_image_bytes(self) -> Option<u64> {
        match self {
            Self::Any => None,
            Self::Encoded(carried) => Some(carried / 4 * 3),
            Self::Plain(bytes) => Some(bytes),
        }
    }
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

    /// Room for a body within the JSON that a request comes in, and its answer goes out in.
    pub(super) fn encoded_room(&self, request: &Parts) -> Room {
        let door = request.extensions.get::<MostCarried>().map(|most| most.0);
        door.into_iter().chain(self.max_answer_bytes).min().map_or(Room::Any, Room::Encoded)
    }

    /// Room for the answer to a request, `left` before its deadline.
    pub(super) fn room(&self, request: &Parts, left: Option<Duration>) -> Room {
        let stream = request.extensions.get::<Stream>();
        stream.map_or_else(|| self.encoded_room(request), |stream| Room::Plain(stream.most_within(left)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_carries_what_the_time_left_does() {
        let stream = Stream { most_bytes: 200, unthrottled_bytes: 60, bytes_per_second: 20 };
        let within = |ms| stream.most_within(Some(Duration::from_millis(ms)));
        assert_eq!([within(0), within(500), within(2000), within(7000), within(8000)], [60, 70, 100, 200, 200]);
        assert_eq!(stream.most_within(None), 200);
    }
}
