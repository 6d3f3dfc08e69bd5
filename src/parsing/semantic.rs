//! The label map `semantic`: `Mask2Former`'s semantic inference, `semantic_inference` of the reference.
//!
//! Σ over queries of softmax · sigmoid is taken at the padded size, where the resized photo lies, and the class maps are
//! resampled to the photo's.
//! Only the working rows under the running band are held. Where the four working pixels that a photo pixel lies between
//! have the same greatest class, that class is greatest at the photo pixel too (both sides of every comparison are the
//! same convex sum), so only pixels near a border are computed.

use multiversion::multiversion;
use rayon::prelude::*;

use super::sigmoid::sigmoid;
use super::upsample::{Step, bilinear_step};
use super::{Sizes, View, pairs};
use crate::geometry::{Region, Size};
use crate::manifest::Manifest;

/// Terms left out of a class's sum are, together, at most this: a trained network gives most classes of a query next
/// to nothing, and below this no answer is promised (labels are exact where the best two differ by 1e-5).
const NEGLIGIBLE: f32 = 4e-6;

/// No class: working pixels one above the other that differ. Manifests have at most 255 classes, ids up to 254.
const MIXED: u8 = u8::MAX;

/// Paints the label map, band after band from the top.
pub(super) struct SemanticPainter {
    /// Ids of the classes that compete, ascending: all but the person's, whose queries cover the parts.
    classes: Vec<u8>,
    /// Terms of the class sums, by query.
    terms: Vec<QueryTerms>,
    /// Working row to logits rows, working column to logits columns.
    inner_rows: Vec<Step>,
    inner_columns: Vec<Step>,
    /// Photo row to working rows, photo column to working columns.
    outer_rows: Vec<Step>,
    outer_columns: Vec<Step>,
    rows: WorkingRows,
}

struct QueryTerms {
    query: usize,
    /// (index in `classes`, softmax).
    shares: Vec<(usize, f32)>,
}

/// The working rows held, ascending.
#[derive(Default)]
struct WorkingRows {
    index: Vec<u32>,
    /// `[rows, classes, working width]`.
    sums: Vec<f32>,
    /// `[rows, working width]`: index of the greatest class.
    greatest: Vec<u8>,
}

impl WorkingRows {
    /// Room for `rows` rows, so that it never grows.
    fn with_capacity(rows: usize, plane: usize, width: usize) -> Self {
        Self { index: Vec::new(), sums: Vec::with_capacity(rows * plane), greatest: Vec::with_capacity(rows * width) }
    }
}

/// The most working rows that lie under `band_rows` photo rows.
fn most_rows(working: Size, photo: Size, band_rows: u32) -> u64 {
    let (working, photo, band_rows) = (u64::from(working.height), u64::from(photo.height), u64::from(band_rows));
    // Those between the first and the last photo row's, or two for each photo row, whichever is less.
    (working * band_rows).div_ceil(photo).saturating_add(2).min(2 * band_rows).min(working)
}

impl SemanticPainter {
    pub(super) fn new(view: &View<'_>, manifest: &Manifest, band_rows: u32) -> Self {
        let classes: Vec<u8> =
            manifest.classes.iter().map(|class| class.id).filter(|&id| Some(id) != manifest.person_id).collect();
        let steps =
            |input, output, first, count| (first..first + count).map(|i| bilinear_step(input, output, i)).collect();
        let (mask, padded, photo) = (view.queries.mask_size, view.padded, view.photo);
        let Region { left, top, size: working } = view.working;
        let plane = working.width as usize * classes.len();
        Self {
            terms: terms(view, &classes),
            classes,
            inner_rows: steps(mask.height, padded.height, top, working.height),
            inner_columns: steps(mask.width, padded.width, left, working.width),
            outer_rows: steps(working.height, photo.height, 0, photo.height),
            outer_columns: steps(working.width, photo.width, 0, photo.width),
            rows: WorkingRows::with_capacity(
                most_rows(working, photo, band_rows) as usize,
                plane,
                working.width as usize,
            ),
        }
    }

    /// Fills `labels` (`[rows, photo width]`, class ids) from photo row `y` on.
    pub(super) fn paint(&mut self, view: &View<'_>, y: usize, labels: &mut [u8]) {
        let width = view.photo.width as usize;
        let bands = &self.outer_rows[y..y + labels.len() / width];
        let mut needed: Vec<u32> = bands.iter().flat_map(|step| [step.low, step.high]).collect();
        needed.sort_unstable();
        needed.dedup();
        self.advance(view, needed);
        let columns = view.working.size.width as usize;
        labels.par_chunks_mut(width).enumerate().for_each_init(
            || vec![0; columns],
            |agreed, (row, labels)| self.paint_row(self.outer_rows[y + row], agreed, labels),
        );
    }

    /// Makes the rows held those of `needed`; rows held already are kept.
    fn advance(&mut self, view: &View<'_>, needed: Vec<u32>) {
        let width = view.working.size.width as usize;
        let plane = width * self.classes.len();
        let mut rows = std::mem::take(&mut self.rows);
        // Bands go down the photo: what is kept is the end of the old rows and the beginning of the new ones.
        let first = needed.first().copied().unwrap_or(0);
        let dropped = rows.index.partition_point(|&row| row < first);
        let kept = rows.index.len() - dropped;
        debug_assert_eq!(rows.index[dropped..], needed[..kept]);
        debug_assert!(needed.len() * plane <= rows.sums.capacity(), "the plan counts on it");
        rows.sums.copy_within(dropped * plane.., 0);
        rows.greatest.copy_within(dropped * width.., 0);
        rows.sums.resize(needed.len() * plane, 0.0);
        rows.greatest.resize(needed.len() * width, 0);
        let fresh = rows.sums[kept * plane..].par_chunks_mut(plane);
        let fresh = fresh.zip(rows.greatest[kept * width..].par_chunks_mut(width)).zip(&needed[kept..]);
        fresh.for_each_init(
            || RowScratch::new(view),
            |scratch, ((sums, greatest), &row)| self.compute_row(view, row as usize, scratch, sums, greatest),
        );
        rows.index = needed;
        self.rows = rows;
    }

    /// Class sums of one working row, `[classes, width]`, and the greatest of them.
    fn compute_row(
        &self,
        view: &View<'_>,
        row: usize,
        scratch: &mut RowScratch,
        sums: &mut [f32],
        greatest: &mut [u8],
    ) {
        let width = greatest.len();
        sums.fill(0.0);
        for QueryTerms { query, shares } in &self.terms {
            scratch.take_sigmoids(view.queries.mask(*query), self.inner_rows[row], &self.inner_columns);
            for &(class, share) in shares {
                add_share(&mut sums[class * width..][..width], &scratch.sigmoids, share);
            }
        }
        scratch.best.copy_from_slice(&sums[..width]);
        scratch.label.fill(0.0);
        for (class, sums) in sums.chunks_exact(width).enumerate().skip(1) {
            keep_greatest(&mut scratch.best, &mut scratch.label, sums, class as f32);
        }
        for (greatest, &label) in greatest.iter_mut().zip(&scratch.label) {
            *greatest = label as u8;
        }
    }

    fn paint_row(&self, step: Step, agreed: &mut [u8], labels: &mut [u8]) {
        let width = agreed.len();
        let held = |row: u32| self.rows.index.binary_search(&row).expect("the band's rows are held");
        let (low, high) = (held(step.low), held(step.high));
        let greatest = |row: usize| &self.rows.greatest[row * width..][..width];
        for ((agreed, &a), &b) in agreed.iter_mut().zip(greatest(low)).zip(greatest(high)) {
            *agreed = if a == b { a } else { MIXED };
        }
        let plane = width * self.classes.len();
        let sums = |row: usize| &self.rows.sums[row * plane..][..plane];
        let (low, high) = (sums(low), sums(high));
        for (label, column) in labels.iter_mut().zip(&self.outer_columns) {
            let (left, right) = (column.low as usize, column.high as usize);
            let (a, b) = (agreed[left], agreed[right]);
            let class = if a == b && a != MIXED {
                usize::from(a)
            } else {
                greatest_between(low, high, width, left, right, column.lambda, step.lambda)
            };
            *label = self.classes[class];
        }
    }
}

/// Index of the greatest class at one photo pixel, the lowest of equal ones; `low` and `high` are `[classes, width]`.
fn greatest_between(low: &[f32], high: &[f32], width: usize, left: usize, right: usize, x: f32, y: f32) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (class, (low, high)) in low.chunks_exact(width).zip(high.chunks_exact(width)).enumerate() {
        let above = low[left] * (1.0 - x) + low[right] * x;
        let below = high[left] * (1.0 - x) + high[right] * x;
        let value = above * (1.0 - y) + below * y;
        if value > best.1 {
            best = (class, value);
        }
    }
    best.0
}

struct RowScratch {
    /// One logits row, between two.
    logits: Vec<f32>,
    sigmoids: Vec<f32>,
    best: Vec<f32>,
    label: Vec<f32>,
}

impl RowScratch {
    fn new(view: &View<'_>) -> Self {
        let row = || vec![0.0; view.working.size.width as usize];
        Self { logits: vec![0.0; view.queries.mask_size.width as usize], sigmoids: row(), best: row(), label: row() }
    }

    /// Sigmoids of one working row of `mask` (`[h, w]` logits).
    fn take_sigmoids(&mut self, mask: &[f32], row: Step, columns: &[Step]) {
        let width = self.logits.len();
        let (low, high) = (&mask[row.low as usize * width..][..width], &mask[row.high as usize * width..][..width]);
        for ((out, low), high) in self.logits.iter_mut().zip(low).zip(high) {
            *out = low * (1.0 - row.lambda) + high * row.lambda;
        }
        for (out, column) in self.sigmoids.iter_mut().zip(columns) {
            let (low, high) = (self.logits[column.low as usize], self.logits[column.high as usize]);
            *out = low * (1.0 - column.lambda) + high * column.lambda;
        }
        sigmoids(&mut self.sigmoids);
    }
}

#[multiversion(targets = "simd")]
fn sigmoids(values: &mut [f32]) {
    for value in values {
        *value = sigmoid(*value);
    }
}

#[multiversion(targets = "simd")]
fn add_share(sums: &mut [f32], sigmoids: &[f32], share: f32) {
    for (sum, sigmoid) in sums.iter_mut().zip(sigmoids) {
        *sum += share * sigmoid;
    }
}

#[multiversion(targets = "simd")]
fn keep_greatest(best: &mut [f32], label: &mut [f32], sums: &[f32], class: f32) {
    for ((best, label), &sum) in best.iter_mut().zip(label).zip(sums) {
        let wins = sum > *best;
        *label = if wins { class } else { *label };
        *best = if wins { sum } else { *best };
    }
}

/// The terms that are not negligible, by query.
fn terms(view: &View<'_>, classes: &[u8]) -> Vec<QueryTerms> {
    let probabilities = pairs::probabilities(view.queries);
    let share = |query: usize, class: usize| probabilities[query * view.queries.classes + usize::from(classes[class])];
    let count = view.queries.count;
    let mut terms: Vec<_> = (0..count).map(|query| QueryTerms { query, shares: Vec::new() }).collect();
    for class in 0..classes.len() {
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_unstable_by(|&a, &b| share(a, class).total_cmp(&share(b, class)));
        let mut left_out = 0.0;
        for query in order {
            left_out += share(query, class);
            // A sigmoid is at most 1. NaN is a term, and sorts last.
            if left_out > NEGLIGIBLE || left_out.is_nan() {
                terms[query].shares.push((class, share(query, class)));
            }
        }
    }
    terms.retain(|term| !term.shares.is_empty());
    terms
}

/// Working rows of a band, the steps of all axes, the terms and every thread's scratch.
pub(super) fn bytes(sizes: &Sizes) -> u64 {
    let width = u64::from(sizes.working.width);
    let rows = most_rows(sizes.working, sizes.photo, sizes.band_rows as u32);
    let held = rows * width * (4 * sizes.classes + 1);
    let sides = |size: Size| u64::from(size.width) + u64::from(size.height);
    let steps = (sides(sizes.photo) + sides(sizes.working)) * size_of::<Step>() as u64;
    let terms = sizes.queries * (sizes.classes * 4 * size_of::<(usize, f32)>() as u64 + 64);
    held + steps + terms + sizes.threads * width * 20
}
