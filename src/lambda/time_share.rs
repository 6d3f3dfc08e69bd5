//! The time of one invocation, shared among the photos that its event names.
//!
//! A photo that the remaining time would not do is not begun: it comes back with the event that is tried again, and
//! Lambda does not end the function in the middle of the others' answer.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::guard::guarded;
use crate::error::{Error, Result};
use crate::pipeline::Context;

/// See the module.
pub(super) struct TimeShare<'a> {
    context: &'a Context,
    /// The longest that one photo of this invocation took so far, waiting for others' memory included.
    longest: Mutex<Duration>,
}

impl<'a> TimeShare<'a> {
    pub(super) fn of(context: &'a Context) -> Self {
        Self { context, longest: Mutex::default() }
    }

    /// Runs `work`, unless less time is left than the longest before it took, and ends it at the deadline. A panic in it
    /// is its own error, not the others'. (Whether a photo's own prediction fits is the pipeline's to say.)
    ///
    /// # Errors
    /// `Deadline`, and those of `work`.
    pub(super) async fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let start = Instant::now();
        let done = match self.context.remaining() {
            None => guarded(Box::pin(work)).await,
            Some(left) if left.is_zero() || left < self.longest() => return Err(out_of_time()),
            Some(left) => {
                tokio::time::timeout(left, guarded(Box::pin(work))).await.unwrap_or_else(|_| Err(out_of_time()))
            }
        };
        self.took(start.elapsed());
        done
    }

    fn longest(&self) -> Duration {
        *self.longest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn took(&self, time: Duration) {
        let mut longest = self.longest.lock().unwrap_or_else(PoisonError::into_inner);
        *longest = time.max(*longest);
    }
}

fn out_of_time() -> Error {
    Error::Deadline { detail: "the invocation's time does not do for all of its photos".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(left: Option<Duration>) -> Context {
        Context { request_id: "test".to_owned(), deadline: left.map(|left| Instant::now() + left) }
    }

    #[tokio::test]
    async fn nothing_is_begun_that_the_time_would_not_do() {
        let context = context(Some(Duration::from_mins(1)));
        let share = TimeShare::of(&context);
        assert_eq!(share.run(async { Ok(1) }).await.unwrap(), 1);
        share.took(Duration::from_secs(61));
        let begun = share.run(async { panic!("begun") as Result<()> }).await;
        assert!(matches!(begun, Err(Error::Deadline { .. })));
    }

    #[tokio::test]
    async fn what_does_not_end_is_ended_at_the_deadline() {
        let context = context(Some(Duration::from_millis(1)));
        let endless = TimeShare::of(&context).run(std::future::pending::<Result<()>>()).await;
        assert!(matches!(endless, Err(Error::Deadline { .. })));
    }

    #[tokio::test]
    async fn a_panic_is_that_photos_own_error() {
        let context = context(None);
        let share = TimeShare::of(&context);
        let panicked = share.run(async { panic!("bang") as Result<()> }).await;
        assert!(matches!(panicked, Err(Error::Internal { .. })));
        assert!(share.run(async { Ok(()) }).await.is_ok());
    }
}
