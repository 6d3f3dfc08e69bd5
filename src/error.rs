//! What can go wrong, and whose fault it is.
//!
//! Every failure of the library is an [`Error`]. Its `Display` is one public sentence that says nothing about the
//! inside of the function; what only the log may see is kept in `source()`. The error itself says its HTTP status, its
//! stable code, and whether it is about the photo, so that every door only has to ask it.

use std::error::Error as StdError;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

/// The source of an upstream or internal failure, for the log.
pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

/// The result type of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who has to change something for the request to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request itself. Sending it again will fail again.
    Client,
    /// The room or time that the function has. The same request may succeed later or in a larger function.
    Capacity,
    /// A service this function depends on.
    Upstream,
    /// This function.
    Internal,
}

/// What was too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of a request body or source object.
    Body,
    /// Pixels of the source image.
    Pixels,
    /// Bytes of the function's memory.
    Memory,
    /// Bytes of an answer (Lambda's response limit, with base64 counted).
    Answer,
}

/// A failure. See the module's documentation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A parameter, JSON, base64 or multipart body that does not fit its type.
    #[error("{detail}")]
    BadRequest { detail: String },
    /// No bearer token, or not the right one.
    #[error("a valid bearer token is required")]
    Unauthorized,
    /// A bucket or object that this function may not use.
    #[error("{detail}")]
    Forbidden { detail: String },
    /// There is no such route.
    #[error("there is nothing at {path}")]
    NoRoute { path: String },
    /// `POST /uploads` where no bucket is configured for uploads.
    #[error("uploads are not served here: M2FP_UPLOAD_BUCKET names no bucket for them")]
    NoUploads,
    /// There is no such object or version.
    #[error("{detail}")]
    NoObject { detail: String },
    /// An object in an archive, whose bytes cannot be read before somebody restores it.
    #[error("{detail}")]
    Archived { detail: String },
    /// The object's ETag is not the one that the event named, so a newer version has overtaken it.
    #[error("the object has been replaced since this event was sent")]
    Overtaken,
    /// A route that exists but does not accept the request's method.
    #[error("this route accepts {allowed} only{hint}")]
    Method {
        allowed: &'static str,
        /// The end of the sentence; empty, or what to do instead.
        hint: &'static str,
    },
    /// Something is larger than a limit. `detail` names the limit and what would fit.
    #[error("{detail}")]
    TooLarge { limit: Limit, detail: String },
    /// The image's type, or its variant of one, is not served.
    #[error("{detail}")]
    Unsupported { detail: String },
    /// An image that cannot be decoded.
    #[error("the image cannot be decoded: {detail}")]
    Undecodable { detail: String },
    /// There is no room at the moment.
    #[error("the function is busy; try again in {} s", retry_after.as_secs().max(1))]
    Busy { retry_after: Duration },
    /// The folder for temporary files is full, missing or cannot be written to. Sources that are small need none.
    #[error("{detail}")]
    TemporaryFolder { detail: String, source: Option<Cause> },
    /// The work would not end, or did not end, before the deadline.
    #[error("{detail}")]
    Deadline { detail: String },
    /// The storage service failed; trying again may help.
    #[error("the storage service failed: {detail}")]
    Storage { detail: String, source: Option<Cause> },
    /// Anything that is this function's own fault: its model, its runtime, a defect.
    #[error("internal error")]
    Internal { source: Cause },
}

/// The members of an `application/problem+json` body (RFC 9457, section 3.1) that the error alone decides.
///
/// `code` is an extension member; `type` stays `about:blank`, because the status and the sentence say everything.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    pub r#type: &'static str,
    pub title: &'static str,
    pub status: u16,
    pub code: &'static str,
    /// The public sentence. It is absent from an internal error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Greatest detail of a bad request, bytes; it may quote what the client sent.
const MAX_DETAIL_BYTES: usize = 2000;

/// `detail`, or as much of it as fits, which ends in an ellipsis.
fn cut(mut detail: String) -> String {
    if detail.len() > MAX_DETAIL_BYTES {
        detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES));
        detail.push('…');
        detail.shrink_to_fit();
    }
    detail
}

impl Error {
    /// A bad parameter, JSON, base64 or multipart body.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::BadRequest { detail: cut(detail.into()) }
    }

    /// A failure of this function, with what the log should say.
    pub fn internal(source: impl Into<Cause>) -> Self {
        Self::Internal { source: source.into() }
    }

    /// There is no room, but there may be a moment later.
    #[must_use]
    pub fn busy() -> Self {
        Self::Busy { retry_after: Duration::from_secs(1) }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::BadRequest { .. }
            | Self::Unauthorized
            | Self::Forbidden { .. }
            | Self::NoRoute { .. }
            | Self::NoUploads
            | Self::NoObject { .. }
            | Self::Archived { .. }
            | Self::Overtaken
            | Self::Method { .. }
            | Self::TooLarge { limit: Limit::Body | Limit::Pixels | Limit::Answer, .. }
            | Self::Unsupported { .. }
            | Self::Undecodable { .. } => Fault::Client,
            Self::TooLarge { limit: Limit::Memory, .. }
            | Self::Busy { .. }
            | Self::TemporaryFolder { .. }
            | Self::Deadline { .. } => Fault::Capacity,
            Self::Storage { .. } => Fault::Upstream,
            Self::Internal { .. } => Fault::Internal,
        }
    }

    /// Whether the same request, sent again to the same function, may succeed.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Self::Busy { .. }
                | Self::TemporaryFolder { .. }
                | Self::Deadline { .. }
                | Self::Storage { .. }
                | Self::Internal { .. }
        )
    }

    /// The HTTP status, from the table that [`Self::code`] shares.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.row().0
    }

    /// The stable code that programs switch on. It appears in problems over HTTP, in error records, and as the error
    /// type of a failed invocation.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.row().1
    }

    /// The table of every error's status and code.
    ///
    /// A storage failure is 503 and not 502: it is transient by definition, since [`crate::store::ObjectStore`] gives
    /// permanent failures other variants, and clients retry a 503 by its `Retry-After`.
    const fn row(&self) -> (StatusCode, &'static str) {
        match self {
            Self::BadRequest { .. } => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Forbidden { .. } => (StatusCode::FORBIDDEN, "forbidden"),
            Self::NoRoute { .. } => (StatusCode::NOT_FOUND, "no_route"),
            Self::NoUploads => (StatusCode::NOT_FOUND, "no_uploads"),
            Self::NoObject { .. } => (StatusCode::NOT_FOUND, "no_object"),
            Self::Archived { .. } => (StatusCode::CONFLICT, "archived"),
            Self::Overtaken => (StatusCode::NOT_FOUND, "overtaken"),
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method"),
            Self::TooLarge { limit: Limit::Body, .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::TooLarge { limit: Limit::Pixels, .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_many_pixels"),
            Self::TooLarge { limit: Limit::Memory, .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_little_memory"),
            Self::TooLarge { limit: Limit::Answer, .. } => (StatusCode::PAYLOAD_TOO_LARGE, "answer_too_large"),
            Self::Unsupported { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported"),
            Self::Undecodable { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "undecodable"),
            Self::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Self::TemporaryFolder { .. } => (StatusCode::INSUFFICIENT_STORAGE, "temporary_folder"),
            Self::Storage { .. } => (StatusCode::SERVICE_UNAVAILABLE, "storage"),
            Self::Deadline { .. } => (StatusCode::GATEWAY_TIMEOUT, "deadline"),
            Self::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// Whether the same photo, as it is kept, would be refused every time. An event's photo is then recorded as
    /// refused, and nobody tries again.
    #[must_use]
    pub(crate) const fn is_about_the_photo(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. } | Self::Unsupported { .. } | Self::Undecodable { .. } | Self::Archived { .. }
        )
    }

    /// The failure as RFC 9457 has it. An internal one has no `detail`.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let status = self.status();
        Problem {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code: self.code(),
            detail: (self.fault() != Fault::Internal).then(|| self.to_string()),
        }
    }

    /// Writes the failure with its causes to the log, at a level that says whose fault it is.
    pub fn log(&self, request_id: &str) {
        let error = self.chain();
        match self.fault() {
            Fault::Client => tracing::info!(request_id, error, "refused"),
            Fault::Capacity | Fault::Upstream => tracing::warn!(request_id, error, "failed"),
            Fault::Internal => tracing::error!(request_id, error, "failed"),
        }
    }

    /// The public sentence followed by every cause, for the log.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
