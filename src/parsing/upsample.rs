//! Resamples mask logits to the photo's size.
//!
//! The reference resamples twice, bilinearly, with `align_corners=false` and without antialiasing: from the network's
//! stride to the padded size, which is cropped to the working size, and from there to the photo's size. Both steps and
//! the crop are linear and separable, so they are composed here into one operator along each axis, in which every photo
//! row and every photo column is a weighted sum of at most three of the logits' rows or columns.

use std::ops::Range;

use multiversion::multiversion;

use crate::engine::Queries;
use crate::geometry::{Region, Size};

/// How many logits one photo column (or row) is a sum of.
pub(super) const TAPS: usize = 3;

/// Columns of a tile, which is what one job resamples at a time. They are a multiple of 64 for the sake of bit sets.
pub(super) const TILE_WIDTH: usize = 128;

/// One bilinear step along one axis: `(1 - lambda) · source[low] + lambda · source[high]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    pub low: u32,
    pub high: u32,
    pub lambda: f32,
}

/// `PyTorch`'s source index of output `index` (`aten/src/ATen/native/UpSample.h`, `align_corners=false`). It is
/// computed in f32 as there, because the rounding of the position is part of the result.
pub(super) fn bilinear_step(input: u32, output: u32, index: u32) -> Step {
    if input == output {
        return Step { low: index, high: index, lambda: 0.0 };
    }
    let scale = input as f32 / output as f32;
    let position = (scale * (index as f32 + 0.5) - 0.5).max(0.0);
    let low = (position as u32).min(input - 1);
    let high = (low + 1).min(input - 1);
    Step { low, high, lambda: (position - low as f32).clamp(0.0, 1.0) }
}

/// Where working pixels lie on a network's padded input, along one axis.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// How many working pixels the photo has.
    working: u32,
    /// The first of those that the network sees, and how many it sees.
    start: u32,
    length: u32,
    /// Where the first of them lies on the input.
    first: u32,
}

impl Seen {
    /// The place of a working pixel on the input. One that the network does not see is taken for the nearest that it
    /// sees.
    fn input(self, working: u32) -> u32 {
        self.first + working.clamp(self.start, self.start + self.length - 1) - self.start
    }
}

/// The composed operator along one axis.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// How many logits there are along the axis.
    logits: u32,
    /// The first logit for each photo index. `start + TAPS` passes the end only if there are fewer than `TAPS` logits.
    start: Vec<u32>,
    weight: Vec<[f32; TAPS]>,
}

impl Axis {
    /// Composes three steps: from `logits` to `padded`, the crop to the working pixels that `seen` tells, and from
    /// there to `photo`. `padded` must be a multiple of `logits`, which keeps two neighbouring working pixels within
    /// three logits.
    fn new(logits: u32, padded: u32, seen: Seen, photo: u32) -> Self {
        let mut axis = Self { logits, start: Vec::new(), weight: Vec::new() };
        axis.start.reserve_exact(photo as usize);
        axis.weight.reserve_exact(photo as usize);
        for index in 0..photo {
            let outer = bilinear_step(seen.working, photo, index);
            let lowest = bilinear_step(logits, padded, seen.input(outer.low));
            // The three taps end inside the source if it has three logits.
            let start = lowest.low.min(logits.saturating_sub(TAPS as u32));
            let mut weight = [0.0; TAPS];
            for (share, at) in [(1.0 - outer.lambda, outer.low), (outer.lambda, outer.high)] {
                let inner = bilinear_step(logits, padded, seen.input(at));
                weight[(inner.low - start) as usize] += share * (1.0 - inner.lambda);
                weight[(inner.high - start) as usize] += share * inner.lambda;
            }
            axis.start.push(start);
            axis.weight.push(weight);
        }
        axis
    }

    /// The operator for the photo's indices counted from the end, which is how the mirrored photo's logits are read.
    fn mirrored(mut self) -> Self {
        self.start.reverse();
        self.weight.reverse();
        self
    }

    /// The logits that the photo indices of `range` touch.
    fn logits_of(&self, range: Range<usize>) -> Range<usize> {
        // They ascend along the axis, or descend where it is mirrored.
        let (a, b) = (self.start[range.start] as usize, self.start[range.end - 1] as usize);
        a.min(b)..(a.max(b) + TAPS).min(self.logits as usize)
    }
}

/// The composed operator along both axes.
#[derive(Debug, Clone)]
pub(super) struct Upsampler {
    columns: Axis,
    rows: Axis,
}

impl Upsampler {
    pub(super) fn new(logits: Size, padded: Size, working: Region, photo: Size) -> Self {
        Self::of_part(logits, padded, working, working.size.into(), working.size, photo)
    }

    /// Like [`Self::new`], but the network sees only the part `part` of the photo at the size `whole`. That part lies in
    /// the region `shown` of its padded input. Beyond its edges, the logits at the edges go on.
    pub(super) fn of_part(logits: Size, padded: Size, shown: Region, part: Region, whole: Size, photo: Size) -> Self {
        let Size { width, height } = part.size;
        let columns = Seen { working: whole.width, start: part.left, length: width, first: shown.left };
        let rows = Seen { working: whole.height, start: part.top, length: height, first: shown.top };
        Self {
            columns: Axis::new(logits.width, padded.width, columns, photo.width),
            rows: Axis::new(logits.height, padded.height, rows, photo.height),
        }
    }

    /// The operator that reads the logits of the mirrored photo.
    pub(super) fn mirrored(self) -> Self {
        Self { columns: self.columns.mirrored(), ..self }
    }

    /// Bytes that an operator holds for a photo of this size.
    pub(super) fn bytes(photo: Size) -> u64 {
        (u64::from(photo.width) + u64::from(photo.height)) * (4 + 4 * TAPS as u64)
    }

    /// The most logits rows that any `band_rows` consecutive photo rows touch.
    pub(super) fn most_rows(logits_height: u32, working: Size, photo: Size, band_rows: u32) -> u64 {
        let scale = (working.height as f32 / photo.height as f32).max(f32::MIN_POSITIVE);
        // This is the bound at stride 1, where a working row is a logits row. It holds for every stride.
        let touched = (f64::from(scale) * f64::from(band_rows)).ceil() as u64 + 1 + TAPS as u64;
        touched.min(u64::from(logits_height))
    }
}

/// A rectangle of the photo: at most `TILE_WIDTH` columns of the rows of one band.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    /// The first column.
    pub x: usize,
    pub width: usize,
    /// The first row.
    pub y: usize,
    pub rows: usize,
}

/// A tile and what it is painted from.
#[derive(Clone, Copy)]
pub(super) struct Window<'a> {
    pub queries: &'a Queries,
    pub operator: &'a Upsampler,
    pub tile: Tile,
}

/// How many tiles cover a row of the photo.
pub(super) fn tiles_across(photo: Size) -> usize {
    (photo.width as usize).div_ceil(TILE_WIDTH)
}

/// Tile number `index` of the band of `rows` rows from row `y` on.
pub(super) fn tile(photo: Size, index: usize, y: usize, rows: usize) -> Tile {
    let x = index * TILE_WIDTH;
    Tile { x, width: TILE_WIDTH.min(photo.width as usize - x), y, rows }
}

/// One query's logits over one tile. The query's logits rows are resampled to the tile's columns once and then combined
/// for every photo row.
#[derive(Debug, Default)]
pub(super) struct TileLogits {
    /// `[logits rows, TILE_WIDTH]`.
    resampled: Vec<[f32; TILE_WIDTH]>,
    /// For each row of `resampled`, whether any of the logits that it was made from is positive.
    positive: Vec<bool>,
    /// The logits row that `resampled[0]` was made from.
    first: usize,
    /// The combined row.
    row: Box<Row>,
}

/// One row of a tile. Columns past the tile's width are 0.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Row(pub [f32; TILE_WIDTH]);

impl Default for Row {
    fn default() -> Self {
        Self([0.0; TILE_WIDTH])
    }
}

impl TileLogits {
    /// Bytes held for tiles that touch at most `logits_rows` logits rows.
    pub(super) fn bytes(logits_rows: u64) -> u64 {
        // A growing vector may hold twice what it needs.
        2 * logits_rows * (4 * TILE_WIDTH as u64 + 1) + 4 * TILE_WIDTH as u64
    }

    /// Takes up the mask of `query` over the window's tile. It computes nothing and returns `false` when no logit under
    /// the tile is positive: resampled values are convex sums of these, so no pixel is inside the mask.
    pub(super) fn load(&mut self, window: &Window<'_>, query: u32) -> bool {
        let Window { operator, tile, .. } = *window;
        let mask = window.queries.mask(query as usize);
        let width = operator.columns.logits as usize;
        let columns = operator.columns.logits_of(tile.x..tile.x + tile.width);
        let rows = operator.rows.logits_of(tile.y..tile.y + tile.rows);
        self.first = rows.start;
        let source = |row: usize| &mask[row * width..][columns.clone()];
        if !rows.clone().any(|row| any_positive(source(row))) {
            return false;
        }
        self.resampled.resize(rows.len(), [0.0; TILE_WIDTH]);
        self.positive.clear();
        for (row, out) in rows.zip(&mut self.resampled) {
            let source = source(row);
            let positive = any_positive(source);
            self.positive.push(positive);
            resample(&operator.columns, source, columns.start, tile, out);
        }
        true
    }

    /// The logits of the tile's row `row`, or `None` when none of them can be positive.
    pub(super) fn row(&mut self, window: &Window<'_>, row: usize) -> Option<&Row> {
        let (rows, y) = (&window.operator.rows, window.tile.y + row);
        let start = rows.start[y] as usize - self.first;
        let last = self.positive.len() - 1;
        let taps = [start, (start + 1).min(last), (start + 2).min(last)];
        if !taps.iter().any(|&tap| self.positive[tap]) {
            return None;
        }
        combine(&mut self.row, taps.map(|tap| &self.resampled[tap]), rows.weight[y]);
        Some(&self.row)
    }
}

/// The weighted sum of three resampled rows.
#[multiversion(targets = "simd")]
fn combine(out: &mut Row, [a, b, c]: [&[f32; TILE_WIDTH]; TAPS], [wa, wb, wc]: [f32; TAPS]) {
    for (((out, a), b), c) in out.0.iter_mut().zip(a).zip(b).zip(c) {
        *out = a * wa + b * wb + c * wc;
    }
}

#[multiversion(targets = "simd")]
fn any_positive(values: &[f32]) -> bool {
    values.iter().fold(f32::NEG_INFINITY, |greatest, &v| if v > greatest { v } else { greatest }) > 0.0
}

/// Resamples one logits row to the tile's columns. `source` is the part of it from column `first` on.
#[multiversion(targets = "simd")]
fn resample(axis: &Axis, source: &[f32], first: usize, tile: Tile, out: &mut [f32; TILE_WIDTH]) {
    let columns = tile.x..tile.x + tile.width;
    let taps = axis.start[columns.clone()].iter().zip(&axis.weight[columns]);
    // A tile before this one may have been wider.
    out[tile.width..].fill(0.0);
    if source.len() < TAPS {
        for (out, (&start, weight)) in out.iter_mut().zip(taps) {
            let values = &source[start as usize - first..];
            *out = values.iter().zip(weight).map(|(v, w)| v * w).sum();
        }
        return;
    }
    for (out, (&start, weight)) in out.iter_mut().zip(taps) {
        let values = &source[start as usize - first..][..TAPS];
        *out = values[0] * weight[0] + values[1] * weight[1] + values[2] * weight[2];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `PyTorch` 2.8: `F.interpolate(torch.arange(5.).view(1, 1, 5), size=n, mode="linear")`.
    #[test]
    fn step_follows_pytorch() {
        let resize = |output: u32| -> Vec<f32> {
            let value = |i| {
                let step = bilinear_step(5, output, i);
                step.low as f32 * (1.0 - step.lambda) + step.high as f32 * step.lambda
            };
            (0..output).map(value).collect()
        };
        let close = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(&resize(3), &[1.0 / 3.0, 2.0, 11.0 / 3.0]), "{:?}", resize(3));
        assert!(close(&resize(8), &[0.0, 0.4375, 1.0625, 1.6875, 2.3125, 2.9375, 3.5625, 4.0]), "{:?}", resize(8));
        assert!(close(&resize(5), &[0.0, 1.0, 2.0, 3.0, 4.0]));
    }

    proptest! {
        #[test]
        fn weights_are_convex_and_inside(
            logits in 1u32..40, stride in 1u32..5, first in 0u32..8, crop in 0u32..8, photo in 1u32..300,
        ) {
            let padded = logits * stride;
            let first = first.min(padded - 1);
            let working = (padded - first).saturating_sub(crop).max(1);
            let axis = Axis::new(logits, padded, Seen { working, start: 0, length: working, first }, photo);
            for (&start, weight) in axis.start.iter().zip(&axis.weight) {
                prop_assert!(weight.iter().all(|w| *w >= 0.0));
                prop_assert!((weight.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                for (tap, w) in weight.iter().enumerate() {
                    prop_assert!(*w == 0.0 || start as usize + tap < logits as usize);
                }
            }
            prop_assert!(axis.start.is_sorted());
        }

        #[test]
        fn row_bound_holds(
            logits in 1u32..40, stride in 1u32..5, first in 0u32..8, crop in 0u32..8, photo in 1u32..300,
            band in 1u32..40,
        ) {
            let padded = logits * stride;
            let first = first.min(padded - 1);
            let working = (padded - first).saturating_sub(crop).max(1);
            let axis = Axis::new(logits, padded, Seen { working, start: 0, length: working, first }, photo);
            let bound = Upsampler::most_rows(logits, Size::new(1, working), Size::new(1, photo), band);
            for y in (0..photo).step_by(band as usize) {
                let end = (y + band).min(photo);
                prop_assert!(axis.logits_of(y as usize..end as usize).len() as u64 <= bound);
            }
        }
    }
}
