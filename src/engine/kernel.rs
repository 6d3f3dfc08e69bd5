//! Functions that the kernels of the project's own operators share.

use std::sync::{Mutex, PoisonError};

use ort::operator::ComputeContext;
use ort::value::ValueRef;

/// Number of values that are computed side by side. They fill two vectors of AVX2 or one of AVX-512.
pub(crate) const LANES: usize = 16;

/// The same value of each of [`LANES`] places.
pub(crate) type Lanes = [f32; LANES];

/// Adds to `sums` the products of a panel, whose places have `ROWS` rows' values, with blocks of as many places: of each
/// block and each row the sums of [`LANES`] columns. `FUSED` says whether the processor fuses a product with its sum.
///
/// A sum waits for the one before it, so a processor must have many on the way: eight vectors at least. One block gives
/// AVX2 enough, and leaves no register for a second one; AVX-512, to which a block is half as many vectors and which has
/// twice as many registers, wants several. In which order the loops are matters to the compiler alone, and much.
#[inline(always)]
#[allow(clippy::inline_always)]
pub(crate) fn add_products<const FUSED: bool, const ROWS: usize, const BLOCKS: usize>(
    panel: &[[f32; ROWS]],
    blocks: [&[Lanes]; BLOCKS],
    sums: &mut [[Lanes; ROWS]; BLOCKS],
) {
    // The compiler keeps these in registers, but not what lies behind a reference.
    let mut local = *sums;
    let blocks = blocks.map(|block| &block[..panel.len()]);
    for (place, left) in panel.iter().enumerate() {
        let right = blocks.map(|block| block[place]);
        for row in 0..ROWS {
            for block in 0..BLOCKS {
                for lane in 0..LANES {
                    let (a, b, sum) = (left[row], right[block][lane], local[block][row][lane]);
                    local[block][row][lane] = if FUSED { a.mul_add(b, sum) } else { a * b + sum };
                }
            }
        }
    }
    *sums = local;
}

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
