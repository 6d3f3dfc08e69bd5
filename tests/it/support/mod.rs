//! What the tests share.

pub mod alone;
pub mod counted;
pub mod drawn;
pub mod events;
pub mod fake_engine;
pub mod faults;
#[cfg(any(feature = "avif", feature = "heic"))]
#[cfg_attr(not(feature = "heic"), allow(dead_code, reason = "what HEIC's tests need"))]
pub mod heif;
pub mod http;
pub mod judge;
pub mod lambda_runtime_api;
pub mod memory_store;
pub mod metrics;
pub mod reference;
pub mod s3_servers;
pub mod scripted;
