//! What can go wrong, and whose fault it is.
//!
//! Every failure of the library is an [`Error`]. Its `Display` is one public sentence that names no
//! inside of the function; what only the log may see is kept in `source()`.
//! The status each one gets over HTTP is in `http/problem.rs`, in one table.

use std::error::Error as StdError;
use std::time::Duration;

/// The source of an upstream or internal failure, for the log.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Short for results of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who has to change something for the request to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request itself: sending it again will fail again.
    Client,
    /// Room or time: the same request may succeed later or in a larger function.
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
    /// Bytes of an answer (Lambda's response limit, base64 counted).
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
    /// A bucket or object this function may not use.
    #[error("{detail}")]
    Forbidden { detail: String },
    /// No such route.
    #[error("there is nothing at {path}")]
    NoRoute { path: String },
    /// `POST /uploads` where no bucket takes them.
    #[error("uploads are not served here: M2FP_UPLOAD_BUCKET names no bucket for them")]
    NoUploads,
    /// No such object or version (also: replaced since the event was sent).
    #[error("{detail}")]
    NoObject { detail: String },
    /// An object in an archive, whose bytes cannot be read before somebody restores it.
    #[error("{detail}")]
    Archived { detail: String },
    /// The object's ETag is not the one the event named: a newer version has overtaken it.
    #[error("the object has been replaced since this event was sent")]
    Overtaken,
    /// A route that exists, asked with another method.
    #[error("this route accepts {allowed} only")]
    Method { allowed: &'static str },
    /// Larger than a limit; `detail` names the limit and what would fit.
    #[error("{detail}")]
    TooLarge { limit: Limit, detail: String },
    /// Not an image type served.
    #[error("{detail}")]
    Unsupported { detail: String },
    /// An image that cannot be decoded.
    #[error("the image cannot be decoded: {detail}")]
    Undecodable { detail: String },
    /// No room at the moment.
    #[error("the function is busy; try again in {} s", retry_after.as_secs().max(1))]
    Busy { retry_after: Duration },
    /// The folder for temporary files is full, missing or cannot be written to. What is small needs none.
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

impl Error {
    /// A bad parameter, JSON, base64 or multipart body.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::BadRequest { detail: detail.into() }
    }

    /// A failure of this function, with what the log should say.
    pub fn internal(source: impl Into<Cause>) -> Self {
        Self::Internal { source: source.into() }
    }

    /// No room; a moment later there may be.
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
