//! Functions that the kernels of the project's own operators share.

use std::sync::{Mutex, PoisonError};

use ort::operator::ComputeContext;
use ort::value::ValueRef;

/// Number of values that are computed side by side. They fill two vectors of AVX2 or one of AVX-512.
pub(crate) const LANES: usize = 16;

/// The same value of each of [`LANES`] places.
pub(crate) type Lanes = [f32; LANES];

/// Returns the input at `index`, and fails where there is none.
pub fn input(context: &ComputeContext, index: usize) -> ort::Result<ValueRef<'_>> {
    context.input(index)?.ok_or_else(|| ort::Error::new("an input is missing"))
}

/// Where tasks run: the runtime's own threads, or a test's.
pub(crate) trait Pool {
    /// Calls `task` with each index below `count`, in any order and possibly several at once.
    fn each(&self, count: usize, task: &(dyn Fn(usize) + Send + Sync)) -> ort::Result<()>;
}

impl Pool for ComputeContext {
    fn each(&self, count: usize, task: &(dyn Fn(usize) + Send + Sync)) -> ort::Result<()> {
        self.par_for(count, 0, task)
    }
}

/// Calls `fill` with each chunk of `length` values of `output` and the chunk's index.
pub(crate) fn fill_chunks(
    pool: &impl Pool,
    output: &mut [f32],
    length: usize,
    fill: impl Fn(usize, &mut [f32]) + Sync + Send,
) -> ort::Result<()> {
    fill_each(pool, output.chunks_mut(length), |index, chunk| fill(index, chunk))
}

/// Calls `fill` with each of `parts` and its index.
pub fn fill_each<T: Send>(
    pool: &impl Pool,
    parts: impl Iterator<Item = T>,
    fill: impl Fn(usize, &mut T) + Sync + Send,
) -> ort::Result<()> {
    // Each part belongs to one task alone, so its lock is always free.
    let parts: Vec<Mutex<T>> = parts.map(Mutex::new).collect();
    pool.each(parts.len(), &|index| fill(index, &mut parts[index].lock().unwrap_or_else(PoisonError::into_inner)))
}

/// Where tests run tasks: what is computed must not depend on it.
#[cfg(test)]
pub(crate) mod pools {
    use rayon::prelude::*;

    use super::Pool;

    /// Runs one task after another, the last one first.
    pub(crate) struct Backwards;

    impl Pool for Backwards {
        fn each(&self, count: usize, task: &(dyn Fn(usize) + Send + Sync)) -> ort::Result<()> {
            (0..count).rev().for_each(task);
            Ok(())
        }
    }

    /// Runs tasks at once, on several threads.
    pub(crate) struct Threads;

    impl Pool for Threads {
        fn each(&self, count: usize, task: &(dyn Fn(usize) + Send + Sync)) -> ort::Result<()> {
            (0..count).into_par_iter().for_each(task);
            Ok(())
        }
    }
}
