//! The one account of the function's memory.
//!
//! `limit` is the smallest of the function's memory size, the setting, the cgroup's limit and physical memory. What the
//! loaded model, the process itself and a safety margin leave of it is the budget that requests share. Each request
//! reserves its plan's predicted bytes before it allocates, and gives them back when it ends. Only the bytes of its
//! answers stay reserved until the last of them is dropped.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::units::{MIB, bytes_of_mb};

/// Bytes that are kept free for what no constant predicts: the allocator's slack, stacks and buffers of connections.
pub(crate) const MARGIN_BYTES: u64 = 16 * MIB;

/// What an invocation may hold outside its reservation, while its event is read and its answer is written: three times
/// what Lambda carries (6 MB), namely the event or answer as text, its copy on the way from or to the runtime, and what
/// that text is decoded from or encoded into. One invocation's is in the margin.
const INVOCATION_BYTES: u64 = 3 * 6 * MIB;

/// What the process holds at start is rounded up to this, so that every container predicts the same for the same photo.
const PROCESS_STEP_BYTES: u64 = 2 * MIB;

/// Granularity of the account, bytes.
const UNIT_BYTES: u64 = 64 * 1024;

/// The memory limit of this process, and how much of it requests may use.
#[derive(Debug, Clone)]
pub struct Budget {
    limit_bytes: u64,
    used_bytes: u64,
    /// What the process holds at most while the model is loaded, when it serves no request yet.
    load_peak_bytes: u64,
    total_bytes: u64,
    units: Arc<Semaphore>,
}

/// Bytes that are reserved for one request. Dropping it gives them back.
#[derive(Debug)]
pub struct Reservation {
    permit: OwnedSemaphorePermit,
}

impl Reservation {
    /// Gives back all but `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: u64) {
        let surplus = self.permit.num_permits().saturating_sub(units(bytes));
        drop(self.permit.split(surplus));
    }

    /// What is reserved.
    pub(crate) fn bytes(&self) -> u64 {
        self.permit.num_permits() as u64 * UNIT_BYTES
    }

    /// Takes over what another one reserved.
    pub(crate) fn merge(&mut self, other: Self) {
        self.permit.merge(other.permit);
    }

    /// Makes `bytes` keep this reservation for as long as any clone or part of them lives.
    #[must_use]
    pub fn keep(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Kept { bytes, _reservation: Arc::clone(self) })
    }
}

struct Kept {
    bytes: Vec<u8>,
    _reservation: Arc<Reservation>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Budget {
    /// A budget under `limit_bytes` for a process that already holds `process_bytes` of anonymous memory.
    #[must_use]
    pub fn new(limit_bytes: u64, process_bytes: u64, manifest: &Manifest) -> Self {
        let process_bytes = process_bytes.next_multiple_of(PROCESS_STEP_BYTES);
        let used_bytes = process_bytes + bytes_of_mb(manifest.memory.load_mb);
        let load_peak_bytes = process_bytes + bytes_of_mb(manifest.memory.load_peak_mb);
        let loads = load_peak_bytes <= limit_bytes;
        let total_bytes = if loads { limit_bytes.saturating_sub(used_bytes + MARGIN_BYTES) } else { 0 };
        let nothing = Arc::new(Semaphore::new(0));
        Self { limit_bytes, used_bytes, load_peak_bytes, total_bytes: 0, units: nothing }.with_total(total_bytes)
    }

    /// The function's memory limit.
    #[must_use]
    pub(crate) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// What one request may use when it is alone.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The most that the process holds until a request of `bytes` is answered, the model's loading included.
    #[must_use]
    pub(crate) fn peak_bytes(&self, bytes: u64) -> u64 {
        self.load_peak_bytes.max(self.used_bytes + bytes)
    }

    /// The limit that would let a request of `bytes` run.
    #[must_use]
    pub(crate) fn limit_for(&self, bytes: u64) -> u64 {
        self.load_peak_bytes.max(self.used_bytes + MARGIN_BYTES + bytes.next_multiple_of(UNIT_BYTES))
    }

    /// Sets aside what invocations that are served beside each other hold outside their reservations.
    #[must_use]
    pub(crate) fn for_concurrency(self, invocations: u32) -> Self {
        let more = u64::from(invocations.saturating_sub(1)) * INVOCATION_BYTES;
        let total_bytes = self.total_bytes.saturating_sub(more);
        Self { used_bytes: self.used_bytes + more, ..self }.with_total(total_bytes)
    }

    /// Whole units of `total_bytes`: what a plan may use can be reserved.
    fn with_total(self, total_bytes: u64) -> Self {
        let count = total_bytes / UNIT_BYTES;
        Self { total_bytes: count * UNIT_BYTES, units: Arc::new(Semaphore::new(permits(count))), ..self }
    }

    /// Reserves `bytes`, waiting at most `max_wait` for other requests to end.
    ///
    /// # Errors
    /// `Busy` when the wait is over. A request larger than the whole budget never gets here, because its plan was
    /// refused.
    pub async fn reserve(&self, bytes: u64, max_wait: Duration) -> Result<Reservation> {
        let wanted = u32::try_from(units(bytes)).unwrap_or(u32::MAX);
        let acquire = Arc::clone(&self.units).acquire_many_owned(wanted);
        match tokio::time::timeout(max_wait, acquire).await {
            Ok(Ok(permit)) => Ok(Reservation { permit }),
            Ok(Err(closed)) => Err(Error::internal(closed)),
            Err(_) => Err(Error::Busy { retry_after: max_wait.max(Duration::from_secs(1)) }),
        }
    }

    /// Reserves `bytes` that no request needs now, or nothing.
    #[must_use]
    pub fn spare(&self, bytes: u64) -> Option<Reservation> {
        let wanted = u32::try_from(units(bytes)).ok()?;
        let permit = Arc::clone(&self.units).try_acquire_many_owned(wanted).ok()?;
        Some(Reservation { permit })
    }
}

/// Units that hold `bytes`.
fn units(bytes: u64) -> usize {
    permits(bytes.div_ceil(UNIT_BYTES))
}

fn permits(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest::read(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("model/nano")).unwrap()
    }

    #[tokio::test]
    async fn what_nobody_needs_can_be_spared_for_a_while() {
        let budget = Budget::new(256 * MIB, 0, &manifest());
        let total = budget.total_bytes();
        let request = budget.reserve(total - 8 * MIB, Duration::ZERO).await.unwrap();
        let spare = budget.spare(8 * MIB).unwrap();
        assert_eq!(spare.bytes(), 8 * MIB);
        assert!(budget.spare(1).is_none());
        drop(spare);
        assert!(budget.spare(8 * MIB + 1).is_none());
        drop(request);
        assert!(budget.reserve(total, Duration::ZERO).await.is_ok());
    }

    /// Limits are not always whole units: a cgroup's may be 300 MB of 10^6 bytes.
    #[tokio::test]
    async fn all_that_a_plan_may_use_can_be_reserved() {
        for more in [0, 1, UNIT_BYTES / 2, UNIT_BYTES - 1] {
            let limit = 512 * MIB + more;
            for budget in [Budget::new(limit, 0, &manifest()), Budget::new(limit, 0, &manifest()).for_concurrency(2)] {
                let all = budget.reserve(budget.total_bytes(), Duration::ZERO).await.unwrap();
                assert!(budget.reserve(1, Duration::ZERO).await.is_err());
                drop(all);
                let wanted = budget.limit_for(budget.total_bytes() - 1);
                assert!(wanted <= limit && limit - wanted < UNIT_BYTES, "{wanted} of {limit}");
            }
        }
    }

    #[tokio::test]
    async fn answers_hold_their_share_until_they_are_gone() {
        let budget = Budget::new(512 * MIB, 0, &manifest());
        let free = || budget.units.available_permits();
        let all = free();
        let mut reservation = budget.reserve(100 * MIB, Duration::ZERO).await.unwrap();
        assert_eq!(free(), all - units(100 * MIB));
        reservation.shrink_to(3 * MIB);
        assert_eq!(free(), all - units(3 * MIB));
        let reservation = Arc::new(reservation);
        let (first, second) = (reservation.keep(vec![1; 10]), reservation.keep(vec![2; 20]));
        drop(reservation);
        let part = second.slice(5..6);
        drop((first, second));
        assert_eq!(free(), all - units(3 * MIB));
        drop(part);
        assert_eq!(free(), all);
    }

    #[test]
    fn what_stands_beside_a_reservation_is_counted_for_each_further_invocation() {
        let alone = Budget::new(512 * MIB, 0, &manifest());
        let four = alone.clone().for_concurrency(4);
        assert_eq!(four.total_bytes(), alone.total_bytes() - 3 * INVOCATION_BYTES);
        assert_eq!(four.limit_for(100 * MIB), alone.limit_for(100 * MIB) + 3 * INVOCATION_BYTES);
        assert_eq!(four.units.available_permits(), units(four.total_bytes()));
        assert_eq!(alone.clone().for_concurrency(1).total_bytes(), alone.total_bytes());
    }

    #[test]
    fn loading_needs_its_peak_once_and_not_beside_a_request() {
        let mut manifest = manifest();
        (manifest.memory.load_mb, manifest.memory.load_peak_mb) = (80.0, 120.0);
        let budget = |limit_mb: u64| Budget::new(limit_mb * MIB, 5 * MIB, &manifest);
        // 6 MB of the process and 120 MB: there is no margin beside the peak.
        assert_eq!(budget(125).total_bytes(), 0);
        assert_eq!(budget(126).total_bytes(), (126 - 6 - 80) * MIB - MARGIN_BYTES);
        for (request_mb, peak_mb, limit_mb) in [(1, 126, 126), (24, 126, 126), (30, 126, 132), (50, 136, 152)] {
            let bytes = request_mb * MIB;
            assert_eq!(budget(125).peak_bytes(bytes), peak_mb * MIB, "{request_mb}");
            assert_eq!(budget(125).limit_for(bytes), limit_mb * MIB, "{request_mb}");
            assert!(budget(limit_mb).total_bytes() >= bytes, "{request_mb}");
        }
        manifest.memory.load_peak_mb = 0.0;
        assert_eq!(Budget::new(104 * MIB, 5 * MIB, &manifest).total_bytes(), 2 * MIB);
    }

    #[tokio::test]
    async fn what_does_not_fit_in_time_is_busy() {
        let budget = Budget::new(512 * MIB, 0, &manifest());
        let most = budget.total_bytes();
        let held = budget.reserve(most, Duration::ZERO).await.unwrap();
        assert!(matches!(budget.reserve(1, Duration::ZERO).await, Err(Error::Busy { .. })));
        drop(held);
        budget.reserve(most, Duration::ZERO).await.unwrap();
    }
}
