//! How fast this container is, compared with what the model's manifest predicts.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Weight of the newest measurement in the average.
const NEWEST: f32 = 0.5;

/// The greatest ratio that one measurement may have, and the inverse of the least. Ratios beyond it have other causes,
/// such as a page that had to be read or a sandbox that was paused.
const MAX_RATIO: f32 = 4.0;

/// Measured time divided by predicted time, averaged over the requests so far. It is 1 before the first.
#[derive(Debug)]
pub(crate) struct Pace(AtomicU32);

impl Default for Pace {
    fn default() -> Self {
        Self(AtomicU32::new(1.0_f32.to_bits()))
    }
}

impl Pace {
    /// Measured time divided by predicted time.
    #[must_use]
    pub fn ratio(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// How long work will take in this container that is predicted to take `predicted`.
    #[must_use]
    pub fn expect(&self, predicted: Duration) -> Duration {
        predicted.mul_f32(self.ratio())
    }

    /// Learns from work that has ended.
    pub(crate) fn observe(&self, predicted: Duration, measured: Duration) {
        if predicted.is_zero() {
            return;
        }
        let ratio = (measured.as_secs_f32() / predicted.as_secs_f32()).clamp(1.0 / MAX_RATIO, MAX_RATIO);
        // Where two requests end at once, one measurement may be lost, which does not matter.
        self.0.store((self.ratio() * (1.0 - NEWEST) + ratio * NEWEST).to_bits(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_was_measured() {
        let pace = Pace::default();
        let second = Duration::from_secs(1);
        assert_eq!(pace.expect(second), second);
        for _ in 0..20 {
            pace.observe(second, 3 * second);
        }
        assert!((pace.ratio() - 3.0).abs() < 1e-3);
        pace.observe(second, 1000 * second);
        assert!(pace.ratio() <= MAX_RATIO);
        pace.observe(Duration::ZERO, second);
        assert!(pace.ratio().is_finite());
        for _ in 0..20 {
            pace.observe(second, second / 2);
        }
        assert!((pace.ratio() - 0.5).abs() < 1e-3);
    }
}
