//! What surrounds a request: its name, and its time.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// What surrounds a request.
#[derive(Debug, Clone)]
pub struct Context {
    /// Names the request in logs and in answers to internal errors.
    pub request_id: String,
    /// When the answer must be given; `None`: no limit.
    pub deadline: Option<Instant>,
}

impl Context {
    /// Time left until the deadline; `None`: no limit.
    #[must_use]
    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Does `work`, or as much of it as is done by the deadline.
    ///
    /// # Errors
    /// `Deadline`, and those of `work`.
    pub(crate) async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.remaining() {
            None => work.await,
            Some(left) => tokio::time::timeout(left, work).await.unwrap_or_else(|_| Err(past_deadline())),
        }
    }

    /// Ends work whose deadline is over: nobody waits for it any more.
    pub(super) fn on_time(&self) -> Result<()> {
        if self.remaining() == Some(Duration::ZERO) { Err(past_deadline()) } else { Ok(()) }
    }

    /// Refuses work that would not end before the deadline.
    pub(super) fn require(&self, predicted: Duration) -> Result<()> {
        match self.remaining() {
            Some(left) if left < predicted => Err(Error::Deadline {
                detail: format!(
                    "this photo needs about {} ms and {} ms are left before the deadline",
                    predicted.as_millis(),
                    left.as_millis()
                ),
            }),
            _ => Ok(()),
        }
    }
}

fn past_deadline() -> Error {
    Error::Deadline { detail: "the work did not end before the deadline".to_owned() }
}
