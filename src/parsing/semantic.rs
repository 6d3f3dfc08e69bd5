//! The label map as the greatest of class values. This is `Mask2Former`'s semantic inference, `semantic_inference` in
//! the reference, and it is also what tiles are blended in.
//!
//! Class values are taken at working pixels, and the class maps are resampled from there to the photo's size. For
//! `semantic` a class value is Σ over queries of softmax · sigmoid, at the padded size, where the resized photo lies.
//!
//! Only the working rows under the running band are held. Where the four working pixels that a photo pixel lies between
//! have the same greatest class, that class is greatest at the photo pixel too, since both sides of every comparison
//! are the same convex sum. So only pixels near a border are computed.

use std::borrow::Borrow;

use multiversion::multiversion;
use rayon::prelude::*;

use super::label_map::{self, PASTED_ABOVE};
use super::pairs;
use super::sigmoid::sigmoid;
use super::upsample::{Step, bilinear_step};
use super::view::{Pair, Sizes};
use crate::engine::Queries;
use crate::geometry::{Region, Size};
use crate::manifest::Manifest;

/// The most that the terms left out of a class's sum may come to, together. A trained network gives most classes of a
/// query next to nothing, and such terms are left out. Differences this small decide no label that is promised: labels
/// are exact where the best two classes differ by 1e-5.
const NEGLIGIBLE: f32 = 4e-6;

/// Marks two working pixels, one above the other, whose classes differ. It is never a class itself, because manifests
/// have at most 255 classes, with ids up to 254.
const MIXED: u8 = u8::MAX;

/// A source of class values for working rows.
pub(super) trait ClassRows: Sync {
    /// Adds the class values of working row `row` to `sums`, `[classes, working width]`.
    fn add_row(&self, row: u32, scratch: &mut RowScratch, sums: &mut [f32]);
}

/// Paints the label map, band after band from the top.
pub(super) struct ClassPainter {
    /// The ids of the classes that compete.
    classes: Vec<u8>,
    working: Size,
    photo: Size,
    /// The working rows that each photo row lies between, and the working columns for each photo column.
    outer_rows: Vec<Step>,
    outer_columns: Vec<Step>,
    rows: WorkingRows,
}

/// What the network says of the classes at its working pixels: in one answer, or in two, whose values are added up. The
/// second is that to the mirrored image.
pub(super) struct ClassValues<Q> {
    answers: Vec<Answer<Q>>,
    /// The logits rows that each working row lies between.
    rows: Vec<Step>,
}

struct Answer<Q> {
    queries: Q,
    claims: Claims,
    /// The logits columns that each working column lies between.
    columns: Vec<Step>,
}

/// How an answer's queries become class values.
enum Claims {
    /// Σ softmax · sigmoid.
    Semantic(Vec<QueryTerms>),
    /// The mean of the pasted sigmoid · score. Where nothing is pasted, the background's value is [`PASTED_ABOVE`],
    /// which everything pasted exceeds, because a blend must not read "nothing" as no opinion.
    Paste {
        /// (index among the competing classes, pairs).
        pasted: Vec<(usize, Vec<Pair>)>,
        background: usize,
    },
}

struct QueryTerms {
    query: usize,
    /// (index among the competing classes, softmax).
    shares: Vec<(usize, f32)>,
}

/// The working rows that are held, in ascending order.
#[derive(Default)]
struct WorkingRows {
    index: Vec<u32>,
    /// `[rows, classes, working width]`.
    sums: Vec<f32>,
    /// `[rows, working width]`: the index of the greatest class.
    greatest: Vec<u8>,
}

impl WorkingRows {
    /// Reserves room for `rows` rows, so that the buffers never grow.
    fn with_capacity(rows: usize, plane: usize, width: usize) -> Self {
        Self { index: Vec::new(), sums: Vec::with_capacity(rows * plane), greatest: Vec::with_capacity(rows * width) }
    }
}

/// The most working rows that lie under `band_rows` photo rows.
fn most_rows(working: Size, photo: Size, band_rows: u32) -> u64 {
    let (working, photo, band_rows) = (u64::from(working.height), u64::from(photo.height), u64::from(band_rows));
    // They are those between the first and the last photo row's, or two for each photo row, whichever is less.
    (working * band_rows).div_ceil(photo).saturating_add(2).min(2 * band_rows).min(working)
}

/// The ids of the classes that compete, in ascending order. The person's class is left out, since its queries cover the
/// parts.
pub(super) fn competing(manifest: &Manifest) -> Vec<u8> {
    manifest.classes.iter().map(|class| class.id).filter(|&id| Some(id) != manifest.person_id).collect()
}

impl<Q: Borrow<Queries> + Sync> ClassValues<Q> {
    /// Class values of the label map `semantic`. `padded` and `working` are those of [`super::View`].
    pub(super) fn semantic(queries: Q, padded: Size, working: Region, classes: &[u8]) -> Self {
        let claims = Claims::Semantic(terms(queries.borrow(), classes));
        Self::new(queries, padded, working, claims)
    }

    /// Like [`Self::semantic`], but of the label map `paste`.
    pub(super) fn paste(
        queries: Q,
        padded: Size,
        working: Region,
        classes: &[u8],
        pasted: &[Pair],
        background: u8,
    ) -> Self {
        let index = |id: u8| classes.iter().position(|&class| class == id).expect("a class that competes");
        let groups = label_map::by_class(pasted, &[]).into_iter();
        let pasted = groups.map(|group| (index(group.class), group.pairs)).collect();
        Self::new(queries, padded, working, Claims::Paste { pasted, background: index(background) })
    }

    fn new(queries: Q, padded: Size, working: Region, claims: Claims) -> Self {
        let steps =
            |input, output, first, count| (first..first + count).map(|i| bilinear_step(input, output, i)).collect();
        let mask = queries.borrow().mask_size;
        let columns = steps(mask.width, padded.width, working.left, working.size.width);
        Self {
            answers: vec![Answer { queries, claims, columns }],
            rows: steps(mask.height, padded.height, working.top, working.size.height),
        }
    }

    /// The answer to the image as it is.
    pub(super) fn queries(&self) -> &Queries {
        self.answers[0].queries.borrow()
    }

    /// These values, with those of the answer to the mirrored image where there is one.
    pub(super) fn with_mirrored(mut self, mirrored: Option<Self>) -> Self {
        for mut answer in mirrored.into_iter().flat_map(|values| values.answers) {
            answer.columns.reverse();
            self.answers.push(answer);
        }
        self
    }
}

impl<Q: Borrow<Queries> + Sync> ClassRows for ClassValues<Q> {
    fn add_row(&self, row: u32, scratch: &mut RowScratch, sums: &mut [f32]) {
        for answer in &self.answers {
            answer.add_row(self.rows[row as usize], scratch, sums);
        }
    }
}

impl<Q: Borrow<Queries>> Answer<Q> {
    fn add_row(&self, step: Step, scratch: &mut RowScratch, sums: &mut [f32]) {
        let (width, queries) = (self.columns.len(), self.queries.borrow());
        match &self.claims {
            Claims::Semantic(terms) => {
                for QueryTerms { query, shares } in terms {
                    scratch.take_sigmoids(queries, *query, step, &self.columns);
                    for &(class, share) in shares {
                        add_share(&mut sums[class * width..][..width], &scratch.sigmoids, share);
                    }
                }
            }
            Claims::Paste { pasted, background } => {
                scratch.claimed.clear();
                scratch.claimed.resize(width, 0.0);
                for (class, pairs) in pasted {
                    for buffer in [&mut scratch.pasted, &mut scratch.times] {
                        buffer.clear();
                        buffer.resize(width, 0.0);
                    }
                    for pair in pairs {
                        scratch.take_sigmoids(queries, pair.query as usize, step, &self.columns);
                        paste(&mut scratch.pasted, &mut scratch.times, &scratch.sigmoids, pair.score);
                    }
                    let sum = &mut sums[class * width..][..width];
                    add_mean(sum, &scratch.pasted, &scratch.times, &mut scratch.claimed);
                }
                let sum = &mut sums[background * width..][..width];
                for (sum, &claimed) in sum.iter_mut().zip(&scratch.claimed) {
                    *sum += if claimed > 0.0 { 0.0 } else { PASTED_ABOVE };
                }
            }
        }
    }
}

impl ClassPainter {
    pub(super) fn new(working: Size, photo: Size, classes: Vec<u8>, band_rows: u32) -> Self {
        let steps = |input, output| (0..output).map(|i| bilinear_step(input, output, i)).collect();
        let width = working.width as usize;
        let rows = most_rows(working, photo, band_rows) as usize;
        Self {
            working,
            photo,
            outer_rows: steps(working.height, photo.height),
            outer_columns: steps(working.width, photo.width),
            rows: WorkingRows::with_capacity(rows, width * classes.len(), width),
            classes,
        }
    }

    /// The working rows under `rows` photo rows from `y` on, in ascending order.
    pub(super) fn working_rows(&self, y: usize, rows: usize) -> Vec<u32> {
        let steps = &self.outer_rows[y..y + rows];
        let mut needed: Vec<u32> = steps.iter().flat_map(|step| [step.low, step.high]).collect();
        needed.sort_unstable();
        needed.dedup();
        needed
    }

    /// Fills `labels` (`[rows, photo width]`, class ids) from photo row `y` on.
    pub(super) fn paint(&mut self, source: &impl ClassRows, y: usize, labels: &mut [u8]) {
        let width = self.photo.width as usize;
        self.advance(source, self.working_rows(y, labels.len() / width));
        let columns = self.working.width as usize;
        labels.par_chunks_mut(width).enumerate().for_each_init(
            || vec![0; columns],
            |agreed, (row, labels)| self.paint_row(self.outer_rows[y + row], agreed, labels),
        );
    }

    /// Holds the rows of `needed` and no others. Those that are held already are kept.
    fn advance(&mut self, source: &impl ClassRows, needed: Vec<u32>) {
        let width = self.working.width as usize;
        let plane = width * self.classes.len();
        let rows = &mut self.rows;
        // Bands go down the photo, so what is kept is the end of the old rows and the beginning of the new ones.
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
        fresh.for_each_init(RowScratch::default, |scratch, ((sums, greatest), &row)| {
            sums.fill(0.0);
            source.add_row(row, scratch, sums);
            scratch.take_greatest(sums, greatest);
        });
        rows.index = needed;
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

/// The index of the greatest class at one photo pixel, or the lowest index among equal ones. `low` and `high` are
/// `[classes, width]`.
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

/// The scratch memory of a thread for one working row. Every buffer grows only when it is used.
#[derive(Default)]
pub(super) struct RowScratch {
    /// One row of logits, interpolated between two of the mask's.
    logits: Vec<f32>,
    sigmoids: Vec<f32>,
    best: Vec<f32>,
    label: Vec<f32>,
    /// What was pasted of the running class at each pixel, how often it was, and how often any class was.
    pasted: Vec<f32>,
    times: Vec<f32>,
    claimed: Vec<f32>,
    /// One tile's class values, `[classes, tile width]`.
    pub values: Vec<f32>,
}

impl RowScratch {
    /// Computes the sigmoids of one working row of a query's mask.
    fn take_sigmoids(&mut self, queries: &Queries, query: usize, row: Step, columns: &[Step]) {
        let (mask, width) = (queries.mask(query), queries.mask_size.width as usize);
        self.logits.resize(width, 0.0);
        self.sigmoids.resize(columns.len(), 0.0);
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

    /// Writes the index of each pixel's greatest class. `sums` is `[classes, width]`.
    fn take_greatest(&mut self, sums: &[f32], greatest: &mut [u8]) {
        let width = greatest.len();
        self.label.clear();
        self.label.resize(width, 0.0);
        self.best.clear();
        self.best.extend_from_slice(&sums[..width]);
        for (class, sums) in sums.chunks_exact(width).enumerate().skip(1) {
            keep_greatest(&mut self.best, &mut self.label, sums, class as f32);
        }
        for (greatest, &label) in greatest.iter_mut().zip(&self.label) {
            *greatest = label as u8;
        }
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

/// Adds `values`, each multiplied by its own weight and by `weight`.
#[multiversion(targets = "simd")]
pub(super) fn add_weighted(sums: &mut [f32], values: &[f32], weights: &[f32], weight: f32) {
    for ((sum, value), own) in sums.iter_mut().zip(values).zip(weights) {
        *sum += value * own * weight;
    }
}

/// Pastes one pair's row. Values that exceed [`PASTED_ABOVE`] are added and counted.
#[multiversion(targets = "simd")]
fn paste(sum: &mut [f32], times: &mut [f32], sigmoids: &[f32], score: f32) {
    for ((sum, times), sigmoid) in sum.iter_mut().zip(times).zip(sigmoids) {
        let value = sigmoid * score;
        let pasted = value > PASTED_ABOVE;
        *sum += if pasted { value } else { 0.0 };
        *times += if pasted { 1.0 } else { 0.0 };
    }
}

/// Adds the mean of what was pasted of a class to its value, and its count of pastes to that of all classes.
#[multiversion(targets = "simd")]
fn add_mean(value: &mut [f32], pasted: &[f32], times: &[f32], claimed: &mut [f32]) {
    for (((value, pasted), &times), claimed) in value.iter_mut().zip(pasted).zip(times).zip(claimed) {
        *value += pasted / if times > 1.0 { times } else { 1.0 };
        *claimed += times;
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

/// The terms that are not negligible, grouped by query.
fn terms(queries: &Queries, classes: &[u8]) -> Vec<QueryTerms> {
    let probabilities = pairs::probabilities(queries);
    let share = |query: usize, class: usize| probabilities[query * queries.classes + usize::from(classes[class])];
    let count = queries.count;
    let mut terms: Vec<_> = (0..count).map(|query| QueryTerms { query, shares: Vec::new() }).collect();
    for class in 0..classes.len() {
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_unstable_by(|&a, &b| share(a, class).total_cmp(&share(b, class)));
        let mut left_out = 0.0;
        for query in order {
            left_out += share(query, class);
            // A sigmoid is at most 1, so a term is at most its share. A NaN is kept as a term, and sorts last.
            if left_out > NEGLIGIBLE || left_out.is_nan() {
                terms[query].shares.push((class, share(query, class)));
            }
        }
    }
    terms.retain(|term| !term.shares.is_empty());
    terms
}

/// Bytes that a [`ClassPainter`] holds for a photo of this working size, every thread's scratch memory included.
pub(super) fn painter_bytes(sizes: &Sizes, working: Size) -> u64 {
    let width = u64::from(working.width);
    let rows = most_rows(working, sizes.photo, sizes.band_rows as u32);
    let held = rows * width * (4 * sizes.classes + 1);
    let steps = (u64::from(sizes.photo.width) + u64::from(sizes.photo.height)) * size_of::<Step>() as u64;
    held + steps + sizes.threads * width * 32
}

/// Bytes that a [`ClassValues`] holds beside its queries.
pub(super) fn answer_bytes(sizes: &Sizes, working: Size) -> u64 {
    let steps = (u64::from(working.width) + u64::from(working.height)) * size_of::<Step>() as u64;
    let terms = sizes.queries * (sizes.classes * 4 * size_of::<(usize, f32)>() as u64 + 64);
    // There are at most 255 pairs.
    steps + terms + 255 * 2 * size_of::<Pair>() as u64
}
