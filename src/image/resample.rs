//! Pillow's antialiased bilinear resize. It is fed with stored rows and gives an upright image.
//!
//! The formula is that of Pillow's `src/libImaging/Resample.c` (`precompute_coeffs`, `normalize_coeffs_8bpc`,
//! `ImagingResampleHorizontal_8bpc`, `ImagingResampleVertical_8bpc`): a triangle filter as wide as the reduction,
//! weights as integers with `PRECISION_BITS` fraction bits, the horizontal pass first, and each pass rounded to 8 bits.
//! That order is the one of Pillow up to version 12, with which the models were trained. Version 13 takes the vertical
//! pass first where the height loses more than twice as many pixels as the width; samples then differ by at most one
//! grey level.
//!
//! Both passes are taken in the upright image's order, whatever the orientation. If the orientation transposes, the
//! upright horizontal pass runs across the stored rows, so rows are first combined and then resized along their length;
//! otherwise it is the other way round. Either way, only as many rows as one output needs are kept.

use crate::geometry::{Orientation, Size};
use crate::image::Rgb8;

/// Fraction bits of an integer weight: 32 bits, less 8 for the sample and 2 for sign and headroom.
const PRECISION_BITS: u32 = 32 - 8 - 2;
/// One half in fraction bits, which is added so that sums are rounded to the nearest.
const HALF: i32 = 1 << (PRECISION_BITS - 1);
/// Bytes of a pixel.
const RGB: usize = 3;

/// The window of input samples that make one output sample.
#[derive(Debug, Clone, Copy)]
struct Tap {
    /// Index of the first input sample.
    start: usize,
    /// The index in [`Axis::weights`] at which its weights begin.
    offset: usize,
    /// The number of weights.
    len: usize,
    /// Index of the output sample in the upright image.
    output: usize,
}

/// The weights of one axis, in *stored* order, in which the starts and ends of the windows never decrease.
#[derive(Debug)]
struct Axis {
    taps: Vec<Tap>,
    weights: Vec<i32>,
}

impl Axis {
    /// `flipped` says that the stored order runs against the upright one.
    fn new(input: u32, output: u32, flipped: bool) -> Self {
        let (length, count) = (input as usize, output as usize);
        let mut axis =
            Self { taps: Vec::with_capacity(count), weights: Vec::with_capacity(max_weights(input, output)) };
        let mut window = Vec::with_capacity(max_taps(input, output));
        for position in 0..count {
            // Weights are symmetric in exact arithmetic only, so they are always computed for the upright index.
            let upright = if flipped { count - 1 - position } else { position };
            let first = window_weights(input, output, upright, &mut window);
            let start = if flipped { length - first - window.len() } else { first };
            axis.taps.push(Tap { start, offset: axis.weights.len(), len: window.len(), output: upright });
            if flipped {
                axis.weights.extend(window.iter().rev());
            } else {
                axis.weights.extend(&window);
            }
        }
        axis
    }

    fn weights(&self, tap: &Tap) -> &[i32] {
        &self.weights[tap.offset..tap.offset + tap.len]
    }

    /// How many input samples have to be kept so that every window is whole when its last sample arrives.
    fn window(&self) -> usize {
        let mut end = 0;
        let mut window = 1;
        for tap in &self.taps {
            end = end.max(tap.start + tap.len);
            window = window.max(end - tap.start);
        }
        window
    }
}

/// The most input samples that make one output sample.
fn max_taps(input: u32, output: u32) -> usize {
    let scale = (f64::from(input) / f64::from(output)).max(1.0);
    (scale.ceil() as usize * 2 + 1).min(input as usize)
}

fn max_weights(input: u32, output: u32) -> usize {
    max_taps(input, output).saturating_mul(output as usize)
}

/// Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc` for one output sample. This returns the index of the first
/// input sample and writes the weights to `window`. Zeros at the end, which Pillow keeps, are left out.
fn window_weights(input: u32, output: u32, position: usize, window: &mut Vec<i32>) -> usize {
    let scale = f64::from(input) / f64::from(output);
    let filter_scale = scale.max(1.0);
    let support = filter_scale; // the triangle's support is 1
    let center = (position as f64 + 0.5) * scale;
    let inverse = 1.0 / filter_scale;
    let first = ((center - support + 0.5) as i64).max(0);
    let last = ((center + support + 0.5) as i64).min(i64::from(input));

    let triangle = |x: i64| (1.0 - ((x as f64 - center + 0.5) * inverse).abs()).max(0.0);
    let total: f64 = (first..last).map(triangle).sum();
    let integer = |weight: f64| (0.5 + weight / total * f64::from(1u32 << PRECISION_BITS)) as i32;
    window.clear();
    window.extend((first..last).map(|x| integer(triangle(x))));
    while window.len() > 1 && window.last() == Some(&0) {
        window.pop();
    }
    first as usize
}

/// Reduces an accumulator, which began at [`HALF`], to 8 bits, as Pillow's `clip8`.
fn clip8(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Shortens or lengthens one row of RGB pixels. `put` is given the upright index and the pixel.
fn along_row(axis: &Axis, row: &[u8], mut put: impl FnMut(usize, [u8; RGB])) {
    for tap in &axis.taps {
        let window = &row[tap.start * RGB..(tap.start + tap.len) * RGB];
        let (mut r, mut g, mut b) = (HALF, HALF, HALF);
        for (pixel, weight) in window.chunks_exact(RGB).zip(axis.weights(tap)) {
            r += i32::from(pixel[0]) * weight;
            g += i32::from(pixel[1]) * weight;
            b += i32::from(pixel[2]) * weight;
        }
        put(tap.output, [clip8(r), clip8(g), clip8(b)]);
    }
}

/// The last rows that arrived, which are addressed by their index.
#[derive(Debug)]
struct Ring {
    data: Vec<u8>,
    row_bytes: usize,
    capacity: usize,
    /// The number of rows that have arrived.
    arrived: usize,
}

impl Ring {
    fn new(capacity: usize, row_bytes: usize) -> Self {
        Self { data: vec![0; capacity * row_bytes], row_bytes, capacity, arrived: 0 }
    }

    /// Counts the next row as arrived and gives the place that it is written to.
    fn next(&mut self) -> &mut [u8] {
        let start = self.arrived % self.capacity * self.row_bytes;
        self.arrived += 1;
        &mut self.data[start..start + self.row_bytes]
    }

    fn row(&self, index: usize) -> &[u8] {
        let start = index % self.capacity * self.row_bytes;
        &self.data[start..start + self.row_bytes]
    }

    /// Combines the rows of one window into `out`.
    fn combine(&self, tap: &Tap, weights: &[i32], out: &mut [u8]) {
        // The sums of this many samples stay in the first-level cache while the rows pass.
        const BLOCK: usize = 512;
        let mut sums = [0i32; BLOCK];
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let sums = &mut sums[..out.len()];
            sums.fill(HALF);
            for (i, &weight) in weights.iter().enumerate() {
                let row = &self.row(tap.start + i)[block * BLOCK..][..sums.len()];
                for (sum, &sample) in sums.iter_mut().zip(row) {
                    *sum += i32::from(sample) * weight;
                }
            }
            for (out, &sum) in out.iter_mut().zip(sums.iter()) {
                *out = clip8(sum);
            }
        }
    }
}

/// Takes stored rows in order and gives the upright image at the target size.
#[derive(Debug)]
pub struct Resampler {
    orientation: Orientation,
    /// The weights along a stored row.
    columns: Axis,
    /// The weights across stored rows.
    rows: Axis,
    ring: Ring,
    /// The number of outputs of `rows` that were made.
    made: usize,
    /// One combined row, if the orientation transposes.
    combined: Vec<u8>,
    image: Rgb8,
}

impl Resampler {
    /// `stored` is the size of the rows to come, and `target` the upright size.
    #[must_use]
    pub fn new(stored: Size, orientation: Orientation, target: Size) -> Self {
        let across = target_in_stored_axes(orientation, target);
        let columns = Axis::new(stored.width, across.width, orientation.flips_stored_columns());
        let rows = Axis::new(stored.height, across.height, orientation.flips_stored_rows());
        let row_bytes = RGB * if orientation.transposes() { stored.width } else { target.width } as usize;
        Self {
            orientation,
            ring: Ring::new(rows.window(), row_bytes),
            combined: vec![0; if orientation.transposes() { row_bytes } else { 0 }],
            columns,
            rows,
            made: 0,
            image: Rgb8 { size: target, data: vec![0; target.area() as usize * RGB] },
        }
    }

    /// Bytes held from [`Self::new`] to the end, with the finished image, as an upper bound.
    #[must_use]
    pub fn bytes(stored: Size, orientation: Orientation, target: Size) -> u64 {
        let across = target_in_stored_axes(orientation, target);
        let axis = |input, output| {
            let weights = (max_weights(input, output) + max_taps(input, output)) as u64 * 4;
            weights + u64::from(output) * size_of::<Tap>() as u64
        };
        let ring_rows = max_taps(stored.height, across.height) as u64 + 1;
        let row_bytes = RGB as u64 * u64::from(if orientation.transposes() { stored.width } else { target.width });
        axis(stored.width, across.width)
            + axis(stored.height, across.height)
            + (ring_rows + 1) * row_bytes
            + target.area() * RGB as u64
    }

    /// Takes the next stored row, RGB in `stored.width × 3` bytes. Rows beyond the stored height are ignored.
    pub fn push(&mut self, row: &[u8]) {
        if self.made == self.rows.taps.len() {
            return;
        }
        let place = self.ring.next();
        if self.orientation.transposes() {
            place.copy_from_slice(row);
        } else {
            along_row(&self.columns, row, |x, pixel| place[x * RGB..][..RGB].copy_from_slice(&pixel));
        }
        self.make_ready_outputs();
    }

    fn make_ready_outputs(&mut self) {
        while let Some(tap) = self.rows.taps.get(self.made) {
            if tap.start + tap.len > self.ring.arrived {
                return;
            }
            let weights = self.rows.weights(tap);
            let width = self.image.size.width as usize;
            if self.orientation.transposes() {
                self.ring.combine(tap, weights, &mut self.combined);
                let (x, data) = (tap.output, &mut self.image.data);
                along_row(&self.columns, &self.combined, |y, pixel| {
                    data[(y * width + x) * RGB..][..RGB].copy_from_slice(&pixel);
                });
            } else {
                let out = &mut self.image.data[tap.output * width * RGB..][..width * RGB];
                self.ring.combine(tap, weights, out);
            }
            self.made += 1;
        }
    }

    /// The upright image, or `None` if rows are missing.
    #[must_use]
    pub fn finish(self) -> Option<Rgb8> {
        (self.made == self.rows.taps.len()).then_some(self.image)
    }
}

/// The target's sides along and across stored rows.
fn target_in_stored_axes(orientation: Orientation, target: Size) -> Size {
    orientation.upright(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A plain resize of one axis of a whole image, as Pillow's C code does it, with `f64` weights and without
    /// trimming.
    fn plain_axis(input: usize, output: usize, mut at: impl FnMut(usize) -> u8) -> Vec<u8> {
        if input == output {
            return (0..input).map(at).collect();
        }
        let scale = input as f64 / output as f64;
        let filter_scale = if scale < 1.0 { 1.0 } else { scale };
        let mut out = Vec::new();
        for xx in 0..output {
            let center = (xx as f64 + 0.5) * scale;
            let xmin = ((center - filter_scale + 0.5) as i32).max(0);
            let xmax = ((center + filter_scale + 0.5) as i32).min(input as i32);
            let mut weights = Vec::new();
            let mut sum = 0.0;
            for x in xmin..xmax {
                let distance = ((f64::from(x) - center + 0.5) * (1.0 / filter_scale)).abs();
                let weight = if distance < 1.0 { 1.0 - distance } else { 0.0 };
                weights.push(weight);
                sum += weight;
            }
            let mut total = 1i32 << 21;
            for (x, weight) in (xmin..xmax).zip(weights) {
                let integer = (0.5 + weight / sum * f64::from(1 << 22)) as i32;
                total += i32::from(at(x as usize)) * integer;
            }
            out.push((total >> 22).clamp(0, 255) as u8);
        }
        out
    }

    fn plain_resize(image: &Rgb8, target: Size) -> Rgb8 {
        let (w, h) = (image.size.width as usize, image.size.height as usize);
        let (tw, th) = (target.width as usize, target.height as usize);
        let mut wide = vec![0; tw * h * 3];
        for y in 0..h {
            for c in 0..3 {
                let row = plain_axis(w, tw, |x| image.data[(y * w + x) * 3 + c]);
                row.iter().enumerate().for_each(|(x, &v)| wide[(y * tw + x) * 3 + c] = v);
            }
        }
        let mut data = vec![0; tw * th * 3];
        for x in 0..tw {
            for c in 0..3 {
                let column = plain_axis(h, th, |y| wide[(y * tw + x) * 3 + c]);
                column.iter().enumerate().for_each(|(y, &v)| data[(y * tw + x) * 3 + c] = v);
            }
        }
        Rgb8 { size: target, data }
    }

    /// Where an upright pixel is stored, according to the EXIF standard's description of each value.
    fn stored_place(orientation: Orientation, stored: Size, x: u32, y: u32) -> (u32, u32) {
        let (right, bottom) = (stored.width - 1, stored.height - 1);
        match orientation {
            Orientation::Upright => (x, y),
            Orientation::MirrorHorizontal => (right - x, y),
            Orientation::Rotate180 => (right - x, bottom - y),
            Orientation::MirrorVertical => (x, bottom - y),
            Orientation::Transpose => (y, x),
            Orientation::Rotate90 => (y, bottom - x),
            Orientation::Transverse => (right - y, bottom - x),
            Orientation::Rotate270 => (right - y, x),
        }
    }

    fn plain_upright(stored: &Rgb8, orientation: Orientation) -> Rgb8 {
        let size = orientation.upright(stored.size);
        let mut data = Vec::new();
        for y in 0..size.height {
            for x in 0..size.width {
                let (sx, sy) = stored_place(orientation, stored.size, x, y);
                data.extend(&stored.data[((sy * stored.size.width + sx) * 3) as usize..][..3]);
            }
        }
        Rgb8 { size, data }
    }

    fn noise(size: Size, seed: u32) -> Rgb8 {
        let mut state = seed | 1;
        let data = (0..size.area() * 3).map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            // About a quarter of the samples are 255, because rounding and clipping differ at the extremes.
            if state & 0x300 == 0 { 255 } else { (state >> 16) as u8 }
        });
        Rgb8 { size, data: data.collect() }
    }

    fn streamed(stored: &Rgb8, orientation: Orientation, target: Size) -> Rgb8 {
        let mut resampler = Resampler::new(stored.size, orientation, target);
        for row in stored.data.chunks_exact(stored.size.width as usize * 3) {
            resampler.push(row);
        }
        resampler.finish().expect("every row was pushed")
    }

    fn held(resampler: &Resampler) -> usize {
        let axis = |axis: &Axis| axis.weights.capacity() * 4 + axis.taps.capacity() * size_of::<Tap>();
        axis(&resampler.columns)
            + axis(&resampler.rows)
            + resampler.ring.data.capacity()
            + resampler.combined.capacity()
            + resampler.image.data.capacity()
    }

    fn sides() -> impl Strategy<Value = u32> {
        prop_oneof![1u32..4, 1u32..40, 40u32..160]
    }

    proptest! {
        #[test]
        fn streaming_equals_whole(
            (w, h, tw, th) in (sides(), sides(), sides(), sides()), exif in 1u16..=8, seed: u32,
        ) {
            let (stored, orientation, target) =
                (noise(Size::new(w, h), seed), Orientation::from_exif(exif), Size::new(tw, th));
            let whole = plain_resize(&plain_upright(&stored, orientation), target);
            prop_assert!(streamed(&stored, orientation, target) == whole);
        }

        #[test]
        fn bytes_is_an_upper_bound(
            (w, h) in (1u32..3000, 1u32..3000), (tw, th) in (1u32..1400, 1u32..1400), exif in 1u16..=8,
        ) {
            let (stored, orientation, target) = (Size::new(w, h), Orientation::from_exif(exif), Size::new(tw, th));
            let resampler = Resampler::new(stored, orientation, target);
            let bytes = Resampler::bytes(stored, orientation, target);
            prop_assert!(held(&resampler) as u64 <= bytes, "{} > {bytes}", held(&resampler));
        }
    }

    #[test]
    fn the_same_size_is_a_copy() {
        let stored = noise(Size::new(37, 23), 5);
        assert_eq!(streamed(&stored, Orientation::Upright, stored.size), stored);
    }

    #[test]
    fn extreme_aspects() {
        for (stored, target) in [((9000, 1), (1333, 1)), ((1, 9000), (1, 1333)), ((5000, 2), (3, 700))] {
            let (stored, target) = (noise(Size::new(stored.0, stored.1), 9), Size::new(target.0, target.1));
            for exif in 1..=8 {
                let orientation = Orientation::from_exif(exif);
                let whole = plain_resize(&plain_upright(&stored, orientation), target);
                assert!(streamed(&stored, orientation, target) == whole, "{} to {target}, {exif}", stored.size);
            }
        }
    }

    #[test]
    fn missing_rows_give_no_image() {
        let mut resampler = Resampler::new(Size::new(4, 4), Orientation::Upright, Size::new(2, 2));
        resampler.push(&[0; 12]);
        assert!(resampler.finish().is_none());
    }

    #[test]
    fn a_photo_is_not_held_whole() {
        let (stored, target) = (Size::new(4000, 3000), Size::new(853, 640));
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif);
            let target = orientation.upright(target);
            let beside_the_result = Resampler::bytes(stored, orientation, target) - target.area() * 3;
            assert!(beside_the_result < 300_000, "{beside_the_result} bytes at orientation {exif}");
        }
    }
}
