//! What Lambda carries as the answer of an invocation, and how much of it.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::error::{Error, Limit, Result};
use crate::http::app::Stream;

/// Greatest answer of a Lambda function, bytes of its JSON (6 MB; the service's own error names this number).
pub(crate) const MAX_PAYLOAD_BYTES: usize = 6_291_556;

/// Kept free of an answer for the status, the headers and the JSON around an HTTP body, bytes.
pub(super) const ENVELOPE_BYTES: u64 = 16 * 1024;

/// What Lambda streams ("Lambda response streaming", "Bandwidth limits"): 200 MB at most, the first 6 MB at any speed and
/// the rest at 2 MB/s.
pub(super) const STREAM: Stream =
    Stream { most_bytes: 200_000_000, unthrottled_bytes: 6_000_000, bytes_per_second: 2_000_000 };

/// An answer as Lambda carries it.
///
/// # Errors
/// `TooLarge` when Lambda would refuse to carry it.
pub(super) fn payload(answer: &impl Serialize) -> Result<Box<RawValue>> {
    let answer = to_raw_value(answer).map_err(Error::internal)?;
    if answer.get().len() > MAX_PAYLOAD_BYTES {
        return Err(Error::TooLarge {
            limit: Limit::Answer,
            detail: format!("the answer exceeds Lambda's {MAX_PAYLOAD_BYTES} bytes; leave `rle` off, or use `store`"),
        });
    }
    Ok(answer)
}
