//! Functions that the kernels of the project's own operators share.

use std::sync::{Mutex, PoisonError};

use ort::operator::ComputeContext;
use ort::value::ValueRef;

/// An input that is required.
pub fn input(context: &ComputeContext, index: usize) -> ort::Result<ValueRef<'_>> {
    context.input(index)?.ok_or_else(|| ort::Error::new("an input is missing"))
}

/// Calls `fill` with each chunk of `length` and its index, on the runtime's own threads.
pub(crate) fn fill_chunks(
    context: &ComputeContext,
    output: &mut [f32],
    length: usize,
    fill: impl Fn(usize, &mut [f32]) + Sync + Send,
) -> ort::Result<()> {
    // Each chunk is one task's alone, so its lock is always free.
    let chunks: Vec<Mutex<&mut [f32]>> = output.chunks_mut(length).map(Mutex::new).collect();
    context.par_for(chunks.len(), 0, |index| {
        fill(index, &mut chunks[index].lock().unwrap_or_else(PoisonError::into_inner));
    })
}
