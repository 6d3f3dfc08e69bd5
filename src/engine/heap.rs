//! The memory of tensors: an allocator for ONNX Runtime that keeps little more memory than the living tensors take.
//!
//! The runtime's own arena grows by doubling regions between which nothing can move. With M2FP at 1138×640 it holds
//! 83 MB more than ever lives at once. Without an arena, every tensor is mapped, faulted in page by page and unmapped.
//!
//! Here all large blocks come from one range of addresses. A block takes the smallest hole that has room for it, and
//! neighbouring holes join. A hole keeps its pages for the next tensor, but only while blocks and kept pages together
//! come to no more than [`KEPT_OF_PEAK`] of the most that has lived at once in this run. Beyond that, holes are given
//! back to the system, the one with the most pages first. After the run, holes keep no pages.
//!
//! A third of a small network's time would be page faults. So in runs up to [`SMALL_RUN`] holes keep pages up to
//! [`KEPT_OF_PLAN`] of what was planned, too, or more where there is memory to spare, and the system is asked for huge
//! pages. The first touch of a stretch of [`HUGE`] bytes then brings pages to all of it, blocks and holes alike, and
//! they are counted so.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use ort::AsPointer;
use ort::environment::Environment;
use ort::sys;

/// Blocks of at least this many bytes come from the range. Smaller ones, and those for which the range has no room,
/// come from the process's allocator.
const LARGE: usize = 64 << 10;

/// Blocks start at multiples of this, the largest page size of the supported machines, so that no two blocks share a
/// page.
const PAGE: usize = 64 << 10;

/// The share of a run's peak up to which holes keep pages. Parts of blocks are never written, so the whole peak would
/// be more than the blocks ever take: M2FP at 1138×640 would hold 10 MB more, and take no less time.
const KEPT_OF_PEAK: f64 = 0.98;

/// The most bytes that a run may be planned with to get huge pages. Larger networks compute more for each page: M2FP at
/// 1138×640 would take 2 % less time, and 13 MB more for parts of blocks that are never written.
pub(crate) const SMALL_RUN: u64 = 64 << 20;

/// The share of what was planned for a small run that is held from its start, whatever has lived by then. It is no more
/// than the run comes to anyway, plans being predictions.
const KEPT_OF_PLAN: f64 = 0.75;

/// Length of a huge page, bytes: that of `x86_64` and of arm64, where a page has 4 KiB ([`PAGE_OF_HUGE`]).
const HUGE: usize = 2 << 20;

/// Length of a page on systems whose huge page has [`HUGE`] bytes. Elsewhere huge pages have 32 MB or more, and none
/// are asked for.
const PAGE_OF_HUGE: usize = 4 << 10;

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
    /// What may be held in this run in any case, bytes.
    kept: usize,
    /// Whether the multiple of [`PAGE`] at this index may have pages, in blocks and holes, as far as any ever had.
    resident: Vec<bool>,
    /// The offset that huge pages are counted from, while the system gives them.
    huge: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Hole {
    length: usize,
    /// Upper bound of its bytes that have pages.
    touched: usize,
}

impl Blocks {
    /// The part of a range of `capacity` bytes that begins at `first`.
    fn new(first: usize, capacity: usize) -> Self {
        let holes = BTreeMap::from([(first, Hole { length: capacity - first, touched: 0 })]);
        let (lengths, resident) = (HashMap::new(), Vec::new());
        Self { holes, lengths, live: 0, touched: 0, peak: 0, kept: 0, resident, huge: None }
    }

    /// The offset of a new block, in the smallest hole that has room.
    fn allocate(&mut self, bytes: usize) -> Option<usize> {
        let length = bytes.checked_next_multiple_of(PAGE)?;
        let (&offset, &hole) =
            self.holes.iter().filter(|(_, hole)| hole.length >= length).min_by_key(|(_, hole)| hole.length)?;
        self.holes.remove(&offset);
        let block = offset..offset + length;
        let had = self.pages(block.clone()).iter().filter(|&&resident| resident).count() * PAGE;
        if hole.length > length {
            self.holes.insert(block.end, Hole { length: hole.length - length, touched: hole.touched - had });
        }
        self.touched -= had;
        self.touch(block);
        self.lengths.insert(offset, length);
        self.live += length;
        self.peak = self.peak.max(self.live);
        Some(offset)
    }

    /// Gives pages to a new block, and to the holes beside it as far as huge pages do.
    fn touch(&mut self, block: Range<usize>) {
        if let Some(first) = self.huge {
            let start = block.start - (block.start - first) % HUGE;
            for huge in (start..block.end).step_by(HUGE).map(|at| at..at + HUGE) {
                // Where there are pages already, the system adds small ones.
                if !self.pages(huge.clone()).contains(&true) {
                    self.touch_holes(huge.start..block.start);
                    self.touch_holes(block.end..huge.end);
                }
            }
        }
        self.pages(block).fill(true);
    }

    /// Gives pages to what has none in `range`, which is part of holes.
    fn touch_holes(&mut self, range: Range<usize>) {
        for at in range.step_by(PAGE) {
            let hole = self.holes.range_mut(..=at).next_back();
            if let Some((_, hole)) = hole.filter(|(start, hole)| at < *start + hole.length) {
                hole.touched += PAGE;
                self.touched += PAGE;
                self.pages(at..at + PAGE).fill(true);
            }
        }
    }

    /// Which pages of `range` are there.
    fn pages(&mut self, range: Range<usize>) -> &mut [bool] {
        let pages = range.start / PAGE..range.end / PAGE;
        if self.resident.len() < pages.end {
            self.resident.resize(pages.end, false);
        }
        &mut self.resident[pages]
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
        if self.live + self.touched <= self.kept.max((self.peak as f64 * KEPT_OF_PEAK) as usize) {
            return None;
        }
        let (&offset, hole) =
            self.holes.iter_mut().max_by_key(|(_, hole)| hole.touched).filter(|(_, h)| h.touched > 0)?;
        self.touched -= std::mem::take(&mut hole.touched);
        let end = offset + hole.length;
        let known = end.min(self.resident.len() * PAGE);
        self.pages(offset..known).fill(false);
        Some(offset..end)
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
    /// Offset of the first huge page that may be asked for. `None` where none may.
    huge: Option<usize>,
    blocks: Mutex<Blocks>,
}

// SAFETY: `interface`, `info`, `range` and `huge` are written once, before the heap is shared; `blocks` is behind the
// mutex.
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
        let huge = (crate::sys::page_bytes() == PAGE_OF_HUGE).then(|| range.as_ptr().align_offset(HUGE));
        let blocks = Mutex::new(Blocks::new(huge.unwrap_or(0), range.len()));
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
            let heap: &'static mut Self = Box::leak(Box::new(Self { interface, info, range, huge, blocks }));
            check((api.RegisterAllocator)(environment.ptr().cast_mut(), (&raw mut *heap).cast()))?;
            Ok(heap)
        }
    }

    /// Starts a run for which `planned` bytes are set aside, and which may hold `spare` bytes more. From now on, pages
    /// are kept up to the most that this run needs at once, and in a small run up to a share of the planned bytes, or
    /// to all of them and the spare ones. Returns the bytes that live already: weights are tensors, too.
    pub(crate) fn start_run(&self, planned: u64, spare: u64) -> usize {
        let mut blocks = self.blocks();
        blocks.peak = blocks.live;
        let small = planned <= SMALL_RUN;
        let kept = if spare > 0 { planned + spare } else { (planned as f64 * KEPT_OF_PLAN) as u64 };
        blocks.kept = if small { blocks.live + kept as usize } else { 0 };
        let huge = self.huge.filter(|_| small);
        if huge != blocks.huge {
            let advice = if huge.is_some() { Advice::HugePage } else { Advice::NoHugePage };
            // A kernel without huge pages refuses either.
            blocks.huge = huge.filter(|_| self.range.advise(advice).is_ok());
        }
        blocks.live
    }

    /// Ends a run and gives back the pages of holes. Returns the most bytes that lived at once during the run.
    pub(crate) fn end_run(&self) -> usize {
        let mut blocks = self.blocks();
        let peak = std::mem::take(&mut blocks.peak);
        blocks.kept = 0;
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
        StartRun(usize),
        EndRun,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => (1..40_usize << 20).prop_map(Step::Allocate),
            4 => any::<prop::sample::Index>().prop_map(Step::Free),
            1 => (0..200_usize << 20).prop_map(Step::StartRun),
            1 => Just(Step::EndRun),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A page is resident from the time that its block is made, or another one in the same huge page that had none,
        /// until its hole is given back.
        #[test]
        fn blocks_never_overlap_and_resident_pages_are_known_and_bounded(
            steps in steps(),
            huge in prop::option::of((0..HUGE / PAGE).prop_map(|pages| pages * PAGE)),
        ) {
            const CAPACITY: usize = 1 << 30;
            let mut blocks = Blocks::new(huge.unwrap_or(0), CAPACITY);
            blocks.huge = huge;
            let mut resident = vec![false; CAPACITY / PAGE];
            let mut held: Vec<(usize, usize)> = Vec::new();
            let (mut peak, mut kept) = (0, 0);
            for step in steps {
                match step {
                    Step::Allocate(bytes) => {
                        let Some(offset) = blocks.allocate(bytes) else { continue };
                        let length = bytes.next_multiple_of(PAGE);
                        prop_assert!(offset + length <= CAPACITY);
                        prop_assert!(held.iter().all(|&(o, l)| offset + length <= o || o + l <= offset));
                        held.push((offset, length));
                        for page in offset / PAGE..(offset + length) / PAGE {
                            if let Some(first) = huge {
                                let start = page - (page - first / PAGE) % (HUGE / PAGE);
                                let end = resident.len().min(start + HUGE / PAGE);
                                if !resident[start..end].contains(&true) {
                                    resident[start..end].fill(true);
                                }
                            }
                            resident[page] = true;
                        }
                    }
                    Step::Free(index) if !held.is_empty() => {
                        blocks.free(held.swap_remove(index.index(held.len())).0);
                    }
                    Step::Free(_) => {}
                    Step::StartRun(bytes) => {
                        (blocks.peak, blocks.kept) = (blocks.live, blocks.live + bytes);
                        (peak, kept) = (blocks.live, blocks.live + bytes);
                    }
                    Step::EndRun => {
                        (blocks.peak, blocks.kept) = (0, 0);
                        (peak, kept) = (0, 0);
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
                prop_assert_eq!(blocks.live + blocks.touched, resident);
                let bound = live.max(peak).max(kept);
                prop_assert!(resident <= bound, "{} over {}", resident, bound);
            }
            for (offset, _) in held {
                blocks.free(offset);
            }
            prop_assert_eq!(blocks.holes.len(), 1);
        }
    }

    #[test]
    fn a_huge_page_brings_pages_to_the_holes_in_it() {
        let mut blocks = Blocks { huge: Some(0), ..Blocks::new(0, 1 << 30) };
        let [a, b, c] = [1, 1, 40].map(|pages| blocks.allocate(pages * PAGE).unwrap());
        assert_eq!((blocks.live, blocks.touched), (42 * PAGE, 22 * PAGE));
        blocks.free(b);
        assert_eq!(blocks.touched, 23 * PAGE);
        for offset in [a, c] {
            blocks.free(offset);
        }
        assert_eq!((blocks.live, blocks.touched), (0, 64 * PAGE));
    }

    #[test]
    fn the_smallest_hole_that_fits_is_taken() {
        let mut blocks = Blocks::new(0, 1 << 30);
        let [a, _, b, _] = [5, 1, 3, 1].map(|pages| blocks.allocate(pages * PAGE).unwrap());
        blocks.free(a);
        blocks.free(b);
        assert_eq!(blocks.allocate(2 * PAGE), Some(b));
        assert_eq!(blocks.allocate(4 * PAGE), Some(a));
        assert_eq!(blocks.allocate((1 << 30) + 1), None);
        assert_eq!(blocks.allocate(usize::MAX), None);
    }
}
