//! The X-Ray trace that a request belongs to, on its way to whom it asks. Lambda finds a function that calls itself in a
//! circle by it.
//!
//! The runtime tells the SDK by an environment variable, which is one for the whole process. So it says nothing where
//! the process serves several requests at once, and each request says its own here.

use tokio::task_local;

task_local! {
    static TRACE_ID: Option<String>;
}

/// Runs `work`; what it asks of a store belongs to this trace. What `work` spawns does not know it.
pub async fn traced<T>(trace_id: Option<String>, work: impl Future<Output = T>) -> T {
    TRACE_ID.scope(trace_id, work).await
}

/// The trace of the work that this is called by.
pub(super) fn trace_id() -> Option<String> {
    TRACE_ID.try_with(Clone::clone).ok().flatten()
}
