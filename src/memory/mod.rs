//! What the process holds: the account that requests reserve from, the bytes of a source, and the watch on the peak.

pub mod blob;
pub mod budget;
pub(crate) mod watch;
