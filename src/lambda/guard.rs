//! Panics as errors, so that one photo's panic is not another's.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::error::{Error, Result};

/// Runs `work`; a panic in it is this function's own fault, and an error like any other.
pub(super) async fn guarded<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => Err(Error::internal(format!("panic: {}", panic_text(panic.as_ref())))),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_internal_errors() {
        let run = |work: fn()| async move {
            guarded(async move {
                work();
                Ok(())
            })
            .await
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(run(|| panic!("no such thing"))).unwrap_err();
        assert!(matches!(error, Error::Internal { .. }) && error.chain().contains("no such thing"));
    }
}
