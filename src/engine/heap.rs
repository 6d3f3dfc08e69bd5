//! The memory of tensors: an allocator for ONNX Runtime that keeps little more memory than the living tensors take.
//!
//! The runtime's own arena grows by doubling regions between which nothing can move. With M2FP at 1138×640 it holds
//! 83 MB more than ever lives at once. Without an arena, every tensor is mapped, faulted in page by page and unmapped.
//!
//! Here all large blocks come from one range of addresses. A block takes the smallest hole that has room for it, and
//! neighbouring holes join. A hole keeps its pages for the next tensor, but only while blocks and kept pages together
//! exceed the most that has lived at once in this run by no more than [`SLACK`]. Beyond that, holes are given back to
//! the system, the one with the most pages first. After the run, holes keep pages only while these and the blocks that
//! still live come to no more than [`SLACK`].

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::{MmapOptions, MmapRaw, UncheckedAdvice};
use ort::AsPointer;
use ort::environment::Environment;
use ort::sys;

/// Blocks of at least this many bytes come from the range. Smaller ones, and those for which the range has no room,
/// come from the process's allocator.
const LARGE: usize = 64 << 10;

/// Blocks start at multiples of this, the largest page size of the supported machines, so that no two blocks share a
/// page.
const PAGE: usize = 64 << 10;

/// The most bytes of pages that holes keep beyond the peak. Of the page faults that kept pages save, only a tenth would
/// be saved beyond this.
const SLACK: usize = 8 << 20;

/// Lengths of the range to ask the system for, bytes. The first that it grants is taken. Addresses cost nothing until
/// they are written to.
const RANGES: [usize; 4] = [1 << 37, 1 << 35, 1 << 33, 1 << 31];

/// Alignment that kernels may assume of a block's address, bytes.
const ALIGNMENT: usize = 64;

/// Where blocks lie in the range and which holes hold pages. This is arithmetic only and touches no memory.
#[derive(Debug)]
struct Blocks {
    /// The holes by their offsets. No two of them touch.
    holes: BTreeMap<usize, Hole>,
    /// Length of each block by its offset.
    lengths: HashMap<usize, usize>,
    /// Sum of all blocks, bytes.
    live: usize,
    /// Sum of all holes' `touched`, bytes.
    touched: usize,
    /// The most that lived at once in this run, bytes.
    peak: usize,
}

#[derive(Debug, Clone, Copy)]
struct Hole {
    length: usize,
    /// Upper bound of its bytes that have pages.
    touched: usize,
}

impl Blocks {
    fn new(capacity: usize) -> Self {
        let holes = BTreeMap::from([(0, Hole { length: capacity, touched: 0 })]);
        Self { holes, lengths: HashMap::new(), live: 0, touched: 0, peak: 0 }
    }

    /// The offset of a new block, in the smallest hole that has room.
    fn allocate(&mut self, bytes: usize) -> Option<usize> {
        let length = bytes.checked_next_multiple_of(PAGE)?;
        let (&offset, &hole) =
            self.holes.iter().filter(|(_, hole)| hole.length >= length).min_by_key(|(_, hole)| hole.length)?;
        self.holes.remove(&offset);
        let rest = Hole { length: hole.length - length, touched: hole.touched.min(hole.length - length) };
        if rest.length > 0 {
            self.holes.insert(offset + length, rest);
        }
        self.touched -= hole.touched - rest.touched;
        self.lengths.insert(offset, length);
        self.live += length;
        self.peak = self.peak.max(self.live);
        Some(offset)
    }

    /// Makes a hole of the block at `offset`.
    fn free(&mut self, offset: usize) {
        let Some(length) = self.lengths.remove(&offset) else {
            debug_assert!(false, "no block starts at {offset}");
            return;
        };
        self.live -= length;
        self.touched += length;
        let mut hole = Hole { length, touched: length };
        let mut start = offset;
        if let Some(next) = self.holes.remove(&(offset + length)) {
            hole = Hole { length: hole.length + next.length, touched: hole.touched + next.touched };
        }
        if let Some((&before, &previous)) = self.holes.range(..offset).next_back()
            && before + previous.length == offset
        {
            start = before;
            hole = Hole { length: hole.length + previous.length, touched: hole.touched + previous.touched };
        }
        self.holes.insert(start, hole);
    }

    /// A hole to give back, where blocks and pages exceed what may be kept. From now on it counts as given back.
    fn surplus(&mut self) -> Option<Range<usize>> {
        if self.live + self.touched <= self.peak + SLACK {
            return None;
        }
        let (&offset, hole) =
            self.holes.iter_mut().max_by_key(|(_, hole)| hole.touched).filter(|(_, h)| h.touched > 0)?;
        self.touched -= std::mem::take(&mut hole.touched);
        Some(offset..offset + hole.length)
    }
}

/// The process's one heap of tensors, registered with the runtime's environment and shared by all sessions.
///
/// The first field is all that the runtime knows of it, so a pointer to this field is also a pointer to the heap.
#[repr(C)]
pub(crate) struct TensorHeap {
    interface: sys::OrtAllocator,
    info: *const sys::OrtMemoryInfo,
    range: MmapRaw,
    blocks: Mutex<Blocks>,
}

// SAFETY: `interface`, `info` and `range` are written once, before the heap is shared; `blocks` is behind the mutex.
#[allow(unsafe_code)]
unsafe impl Send for TensorHeap {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for TensorHeap {}

impl TensorHeap {
    /// Makes the heap and registers it as `environment`'s allocator for tensors on the CPU. The heap lives as long as
    /// the process, because tensors may outlive sessions.
    ///
    /// # Errors
    /// When no range of addresses is granted or the runtime refuses the allocator.
    pub(crate) fn register(environment: &Environment) -> Result<&'static Self, String> {
        let range = RANGES
            .iter()
            .find_map(|&length| MmapOptions::new().len(length).no_reserve_swap().map_anon().ok())
            .ok_or("no range of addresses for tensors")?;
        let range = MmapRaw::from(range);
        let blocks = Mutex::new(Blocks::new(range.len()));
        // SAFETY: the runtime fills `info` or returns a status; the allocator's functions are those below, and the heap
        // they are called with is never freed nor moved.
        #[allow(unsafe_code)]
        unsafe {
            let api = ort::api();
            let mut info = std::ptr::null_mut();
            let kind = sys::OrtAllocatorType::OrtDeviceAllocator;
            check((api.CreateCpuMemoryInfo)(kind, sys::OrtMemType::OrtMemTypeDefault, &raw mut info))?;
            let interface = sys::OrtAllocator {
                Alloc: Some(allocate),
                Free: Some(free),
                Info: Some(describe),
                Reserve: Some(reserve),
                ..sys::OrtAllocator::default()
            };
            let heap: &'static mut Self = Box::leak(Box::new(Self { interface, info, range, blocks }));
            check((api.RegisterAllocator)(environment.ptr().cast_mut(), (&raw mut *heap).cast()))?;
            Ok(heap)
        }
    }

    /// Starts a run. From now on, pages are kept up to the most that this run needs at once.
    pub(crate) fn start_run(&self) {
        let mut blocks = self.blocks();
        blocks.peak = blocks.live;
    }

    /// Ends a run and gives back the pages of holes, but for what [`SLACK`] allows beside the blocks that still live.
    /// Returns the most bytes that lived at once during the run.
    pub(crate) fn end_run(&self) -> usize {
        let mut blocks = self.blocks();
        let peak = std::mem::take(&mut blocks.peak);
        self.trim(&mut blocks);
        peak
    }

    /// Memory to compute in. Until it is dropped, it lies among the tensors and is counted like them. It holds whatever
    /// was left there by others. `None` where there is no room.
    pub fn scratch(&self, len: usize) -> Option<Scratch<'_>> {
        let mut blocks = self.blocks();
        let offset = blocks.allocate(len.checked_mul(size_of::<f32>())?.max(1))?;
        self.trim(&mut blocks);
        Some(Scratch { heap: self, offset, len })
    }

    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trim(&self, blocks: &mut Blocks) {
        while let Some(hole) = blocks.surplus() {
            // SAFETY: no block lies in a hole, so nobody reads what is lost with its pages.
            #[allow(unsafe_code)]
            let given_back =
                unsafe { self.range.unchecked_advise_range(UncheckedAdvice::DontNeed, hole.start, hole.len()) };
            if let Err(error) = given_back {
                tracing::warn!(%error, "pages of tensors cannot be given back");
            }
        }
    }

    fn allocate(&self, bytes: usize) -> *mut std::ffi::c_void {
        if bytes >= LARGE {
            let mut blocks = self.blocks();
            if let Some(offset) = blocks.allocate(bytes) {
                self.trim(&mut blocks);
                return self.range.as_mut_ptr().wrapping_add(offset).cast();
            }
        }
        let mut block = std::ptr::null_mut();
        // SAFETY: `block` takes the address; the alignment is a power of two and a multiple of a pointer's size.
        #[allow(unsafe_code)]
        let status = unsafe { libc::posix_memalign(&raw mut block, ALIGNMENT, bytes.max(1)) };
        if status == 0 { block } else { std::ptr::null_mut() }
    }

    /// # Safety
    /// `block` came from [`Self::allocate`] and is not used any more.
    #[allow(unsafe_code)]
    unsafe fn free(&self, block: *mut std::ffi::c_void) {
        let offset = (block as usize).wrapping_sub(self.range.as_ptr() as usize);
        if offset < self.range.len() {
            let mut blocks = self.blocks();
            blocks.free(offset);
            self.trim(&mut blocks);
        } else {
            // SAFETY: outside the range it came from `posix_memalign`, or is null.
            unsafe { libc::free(block) }
        }
    }
}

/// A block of the range that belongs to one operator alone.
pub struct Scratch<'a> {
    heap: &'a TensorHeap,
    offset: usize,
    len: usize,
}

impl Scratch<'_> {
    fn as_ptr(&self) -> *mut f32 {
        self.heap.range.as_mut_ptr().wrapping_add(self.offset).cast()
    }
}

impl Deref for Scratch<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the block has room for `len` values, starts at a page, is mapped as long as the heap is there, and no
        // other block overlaps it until it is freed in `drop`. Pages hold zeros or what was written, and any bytes are
        // valid floats.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.as_ptr(), self.len)
        }
    }
}

impl DerefMut for Scratch<'_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`; `self` is borrowed alone.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.as_ptr(), self.len)
        }
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        let mut blocks = self.heap.blocks();
        blocks.free(self.offset);
        self.heap.trim(&mut blocks);
    }
}

/// # Safety
/// `status` is a status of the runtime's that is not freed yet.
#[allow(unsafe_code)]
unsafe fn check(status: sys::OrtStatusPtr) -> Result<(), String> {
    // SAFETY: this function's caller guarantees the same.
    unsafe { ort::Error::result_from_status(status) }.map_err(|error| error.to_string())
}

#[allow(unsafe_code)]
unsafe extern "system" fn allocate(this: *mut sys::OrtAllocator, bytes: usize) -> *mut std::ffi::c_void {
    // SAFETY: the runtime passes the allocator it was given, a heap's first field, and that heap is never freed.
    unsafe { &*this.cast::<TensorHeap>() }.allocate(bytes)
}

#[allow(unsafe_code)]
unsafe extern "system" fn reserve(this: *const sys::OrtAllocator, bytes: usize) -> *mut std::ffi::c_void {
    // SAFETY: as in `allocate`.
    unsafe { &*this.cast::<TensorHeap>() }.allocate(bytes)
}

#[allow(unsafe_code)]
unsafe extern "system" fn free(this: *mut sys::OrtAllocator, block: *mut std::ffi::c_void) {
    // SAFETY: as in `allocate`; the runtime frees only what it was given, and only once.
    unsafe { (*this.cast::<TensorHeap>()).free(block) }
}

#[allow(unsafe_code)]
unsafe extern "system" fn describe(this: *const sys::OrtAllocator) -> *const sys::OrtMemoryInfo {
    // SAFETY: as in `allocate`.
    unsafe { (*this.cast::<TensorHeap>()).info }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Allocate(usize),
        Free(prop::sample::Index),
        EndRun,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => (1..40_usize << 20).prop_map(Step::Allocate),
            4 => any::<prop::sample::Index>().prop_map(Step::Free),
            1 => Just(Step::EndRun),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A page counts as resident from the time its block is made until its hole is given back.
        #[test]
        fn blocks_never_overlap_and_kept_pages_are_bounded(steps in steps()) {
            const CAPACITY: usize = 1 << 30;
            let mut blocks = Blocks::new(CAPACITY);
            let mut resident = vec![false; CAPACITY / PAGE];
            let mut held: Vec<(usize, usize)> = Vec::new();
            let mut peak = 0;
            for step in steps {
                match step {
                    Step::Allocate(bytes) => {
                        let Some(offset) = blocks.allocate(bytes) else { continue };
                        let length = bytes.next_multiple_of(PAGE);
                        prop_assert!(offset + length <= CAPACITY);
                        prop_assert!(held.iter().all(|&(o, l)| offset + length <= o || o + l <= offset));
                        held.push((offset, length));
                        resident[offset / PAGE..(offset + length) / PAGE].fill(true);
                    }
                    Step::Free(index) if !held.is_empty() => {
                        blocks.free(held.swap_remove(index.index(held.len())).0);
                    }
                    Step::Free(_) => {}
                    Step::EndRun => {
                        blocks.peak = 0;
                        peak = 0;
                    }
                }
                while let Some(hole) = blocks.surplus() {
                    prop_assert!(held.iter().all(|&(o, l)| hole.end <= o || o + l <= hole.start));
                    resident[hole.start / PAGE..hole.end / PAGE].fill(false);
                }
                let live: usize = held.iter().map(|&(_, length)| length).sum();
                peak = peak.max(live);
                prop_assert_eq!(blocks.live, live);
                let resident = resident.iter().filter(|&&page| page).count() * PAGE;
                prop_assert!(resident <= live.max(peak + SLACK), "{} over {}", resident, peak);
            }
            for (offset, _) in held {
                blocks.free(offset);
            }
            prop_assert_eq!(blocks.holes.len(), 1);
        }
    }

    #[test]
    fn the_smallest_hole_that_fits_is_taken() {
        let mut blocks = Blocks::new(1 << 30);
        let [a, _, b, _] = [5, 1, 3, 1].map(|pages| blocks.allocate(pages * PAGE).unwrap());
        blocks.free(a);
        blocks.free(b);
        assert_eq!(blocks.allocate(2 * PAGE), Some(b));
        assert_eq!(blocks.allocate(4 * PAGE), Some(a));
        assert_eq!(blocks.allocate((1 << 30) + 1), None);
        assert_eq!(blocks.allocate(usize::MAX), None);
    }
}
