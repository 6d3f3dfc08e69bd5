//! What the process holds while a request runs.
//!
//! The kernel's own high-water mark misses nothing, but there is only one for the whole process, and a request that
//! starts meanwhile resets it. Samples that are taken all along make up for that, and they say what the cgroup holds,
//! too.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::sys;
use crate::units::whole_mb;

/// Time between two samples.
const PERIOD: Duration = Duration::from_millis(50);

/// Above this share of the limit, in percent, a request's peak is worth a warning.
const HIGH_PERCENT: u64 = 85;

/// The most that was held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peak {
    /// Resident set of the process, bytes.
    pub rss_bytes: u64,
    /// What the process's cgroup held and could not drop, bytes. `None` where there is no such figure.
    pub cgroup_bytes: Option<u64>,
}

impl Peak {
    fn now() -> Self {
        Self { rss_bytes: sys::resident_bytes(), cgroup_bytes: sys::cgroup_used_bytes() }
    }

    fn max(self, other: Self) -> Self {
        Self { rss_bytes: self.rss_bytes.max(other.rss_bytes), cgroup_bytes: self.cgroup_bytes.max(other.cgroup_bytes) }
    }

    /// Whether the resident set came near `limit_bytes`.
    #[must_use]
    pub(crate) fn is_high(&self, limit_bytes: u64) -> bool {
        self.rss_bytes > limit_bytes / 100 * HIGH_PERCENT
    }

    /// Logs what a request took. The line is a warning where the limit was near.
    pub fn log(&self, request_id: &str, predicted_bytes: u64, limit_bytes: u64) {
        let (peak_mb, predicted_mb, limit_mb) =
            (whole_mb(self.rss_bytes), whole_mb(predicted_bytes), whole_mb(limit_bytes));
        let (cgroup_mb, now_mb) = (self.cgroup_bytes.map(whole_mb), whole_mb(sys::resident_bytes()));
        if self.is_high(limit_bytes) {
            tracing::warn!(request_id, peak_mb, predicted_mb, limit_mb, cgroup_mb, now_mb, "memory high");
        } else {
            tracing::info!(request_id, peak_mb, predicted_mb, limit_mb, cgroup_mb, now_mb, "memory");
        }
    }
}

/// Takes samples from its start to its end.
pub(crate) struct Watch {
    end: Sender<()>,
    sampler: Option<JoinHandle<Peak>>,
}

impl Watch {
    #[must_use]
    pub fn start() -> Self {
        sys::reset_peak();
        let (end, ended) = mpsc::channel();
        let sample = move || {
            let mut peak = Peak::now();
            while ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                peak = peak.max(Peak::now());
            }
            peak
        };
        let sampler = std::thread::Builder::new().name("watch".to_owned()).spawn(sample);
        if let Err(error) = &sampler {
            tracing::debug!(%error, "no samples are taken");
        }
        Self { end, sampler: sampler.ok() }
    }

    /// Ends the sampling and returns the greatest of the samples and of the kernel's mark.
    #[must_use]
    pub fn end(self) -> Peak {
        drop(self.end);
        let sampled = self.sampler.and_then(|sampler| sampler.join().ok()).unwrap_or_default();
        let marked = Peak { rss_bytes: sys::peak_rss_bytes(), cgroup_bytes: sys::cgroup_used_bytes() };
        sampled.max(marked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MIB;

    #[test]
    fn what_was_held_meanwhile_is_seen() {
        let watch = Watch::start();
        let block = std::hint::black_box(vec![1_u8; 64 * MIB as usize]);
        drop(block);
        assert!(watch.end().rss_bytes >= 64 * MIB);
    }

    #[test]
    fn high_is_more_than_85_percent() {
        let peak = |mb| Peak { rss_bytes: mb * MIB, cgroup_bytes: None };
        assert!(!peak(84).is_high(100 * MIB));
        assert!(peak(86).is_high(100 * MIB));
    }
}
