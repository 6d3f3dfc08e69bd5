//! Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, equation 3) of an encoder over its own pixels,
//! as the custom operator `m2fp::DeformAttn`, version 1.
//!
//! With S = Σ Hₗ·Wₗ pixels in L levels, M heads of D channels, and P points in each level:
//!
//! | | | |
//! |---|---|---|
//! | input `value` | float `[1, S, M, D]` | one level after another, rows first |
//! | input `offsets` | float `[1, S, M, L, P, 2]` | (x, y) in pixels of level l |
//! | input `logits` | float `[1, S, M, L, P]` | |
//! | input `shapes` | int64 `[L, 2]` | (Hₗ, Wₗ) |
//! | output | float `[1, S, M·D]` | channel m·D + d is channel d of head m |
//!
//! For pixel s at row r, column c of level k, and head m:
//! ```text
//! weights = softmax over all L·P of logits[0, s, m]
//! x = (c + ½)·Wₗ/Wₖ + offsets[0, s, m, l, p, 0] − ½
//! y = (r + ½)·Hₗ/Hₖ + offsets[0, s, m, l, p, 1] − ½
//! output[0, s, m·D + d] = Σ over l, p of weights[l, p] · bilinear(value of level l at (y, x))[m, d]
//! ```
//! A pixel outside its level counts as zero. With standard operators, each layer writes every sample and every product
//! to memory: D values for each pixel, head, level and point. Here a sum is finished in registers, and only the output
//! is written.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::kernel::{fill_chunks, input};

/// Number of pixels that one task of the thread pool attends for. They are some tenths of a millisecond of work.
const BLOCK: usize = 128;

pub(crate) struct DeformAttn;

impl Operator for DeformAttn {
    type Kernel<'attr> = DeformAttnKernel;

    fn name(&self) -> &'static str {
        "DeformAttn"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        use TensorElementType::{Float32, Int64};
        [Float32, Float32, Float32, Int64].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel(&self, _: &KernelContext<'_>) -> ort::Result<DeformAttnKernel> {
        Ok(DeformAttnKernel)
    }
}

pub(crate) struct DeformAttnKernel;

impl Kernel for DeformAttnKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let input = |index| input(context, index);
        let (value, offsets, logits, shapes) = (input(0)?, input(1)?, input(2)?, input(3)?);
        let (value_shape, value) = value.try_extract_tensor::<f32>()?;
        let (offsets_shape, offsets) = offsets.try_extract_tensor::<f32>()?;
        let (logits_shape, logits) = logits.try_extract_tensor::<f32>()?;
        let (shapes_shape, shapes) = shapes.try_extract_tensor::<i64>()?;
        let attention = Attention::new(
            (value_shape, value),
            (offsets_shape, offsets),
            (logits_shape, logits),
            (shapes_shape, shapes),
        )
        .map_err(ort::Error::new)?;

        let width = attention.heads * attention.channels;
        let mut output = context
            .output(0, [1, attention.pixels(), width])?
            .ok_or_else(|| ort::Error::new("the output is missing"))?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        fill_chunks(context, output, BLOCK * width, |block, output| attention.attend(block * BLOCK, output))
    }
}

/// A level of the pyramid inside `value`.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// Index of its first pixel.
    start: usize,
    height: usize,
    width: usize,
}

/// The operator's inputs, checked against each other, so that no index taken from them can be out of bounds.
struct Attention<'a> {
    value: &'a [f32],
    offsets: &'a [f32],
    logits: &'a [f32],
    levels: Vec<Level>,
    /// Number of heads, M.
    heads: usize,
    /// Number of channels of a head, D.
    channels: usize,
    /// Number of points in a level, P.
    points: usize,
}

/// Shape and data of an input.
type Input<'s, 'a, T> = (&'s [i64], &'a [T]);

impl<'a> Attention<'a> {
    fn new(
        (value_shape, value): Input<'_, 'a, f32>,
        (offsets_shape, offsets): Input<'_, 'a, f32>,
        (logits_shape, logits): Input<'_, 'a, f32>,
        (shapes_shape, shapes): Input<'_, '_, i64>,
    ) -> Result<Self, String> {
        let refuse = |what: &str| Err(format!("DeformAttn: {what}"));
        let [1, pixels, heads, channels] = value_shape[..] else {
            return refuse("`value` is not [1, S, M, D]");
        };
        let [1, _, _, _, points] = logits_shape[..] else {
            return refuse("`logits` is not [1, S, M, L, P]");
        };
        let &[count, 2] = shapes_shape else { return refuse("`shapes` is not [L, 2]") };
        if logits_shape[..] != [1, pixels, heads, count, points] {
            return refuse("`logits` does not fit `value` and `shapes`");
        }
        if offsets_shape[..] != [1, pixels, heads, count, points, 2] {
            return refuse("`offsets` does not fit `logits`");
        }
        if [heads, channels, points].contains(&0) {
            return refuse("there are no heads, channels or points");
        }
        let mut levels = Vec::with_capacity(shapes.len() / 2);
        let mut start = 0_usize;
        for sides in shapes.chunks_exact(2) {
            let side = |side: i64| usize::try_from(side).ok().filter(|&side| side > 0 && side <= 1 << 20);
            let (Some(height), Some(width)) = (side(sides[0]), side(sides[1])) else {
                return refuse("a level's side is not in 1..=2^20");
            };
            levels.push(Level { start, height, width });
            start += height * width;
        }
        if i64::try_from(start) != Ok(pixels) || u32::try_from(start).is_err() {
            return refuse("`shapes` does not add up to the pixels of `value`");
        }
        Ok(Self {
            value,
            offsets,
            logits,
            levels,
            heads: heads as usize,
            channels: channels as usize,
            points: points as usize,
        })
    }

    fn pixels(&self) -> usize {
        self.levels.iter().map(|level| level.height * level.width).sum()
    }

    /// Attends for as many pixels as `output` has room for, from `first` on.
    fn attend(&self, first: usize, output: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                // SAFETY: the processor has both features.
                #[allow(unsafe_code)]
                return unsafe { self.attend_avx2(first, output) };
            }
        }
        self.attend_any(first, output);
    }

    /// AVX-512 is no faster: values are awaited from the cache.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn attend_avx2(&self, first: usize, output: &mut [f32]) {
        self.attend_any(first, output);
    }

    /// This is compiled for the instruction set above, and for what every processor has.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn attend_any(&self, first: usize, output: &mut [f32]) {
        // A head of M2FP has 32 channels. As a constant, this number lets the sum stay in registers.
        if self.channels == 32 { self.attend_in::<32>(first, output) } else { self.attend_in::<1>(first, output) }
    }

    /// Sums `LANES` channels at a time. `LANES` divides the number of channels.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn attend_in<const LANES: usize>(&self, first: usize, output: &mut [f32]) {
        let samples = self.levels.len() * self.points;
        let places = self.places();
        let mut centres = vec![Centres::default(); places.len()];
        let mut weights = vec![[0.0; GROUP]; places.len()];
        let mut taps = vec![Taps::default(); places.len()];
        let mut pixel = Pixel::at(first, &self.levels);
        for (s, output) in (first..).zip(output.chunks_exact_mut(self.heads * self.channels)) {
            for (centres, places) in centres.iter_mut().zip(&places) {
                *centres = pixel.centres_in(&self.levels, places);
            }
            for (m, output) in output.chunks_exact_mut(self.channels).enumerate() {
                let at = (s * self.heads + m) * samples;
                softmax(&self.logits[at..at + samples], &mut weights);
                let offsets = self.offsets[2 * at..2 * (at + samples)].chunks(2 * GROUP);
                for ((taps, weights), ((places, centres), offsets)) in
                    taps.iter_mut().zip(&weights).zip(places.iter().zip(&centres).zip(offsets))
                {
                    *taps = Taps::new(places, centres, offsets, weights);
                }
                for (chunk, output) in output.chunks_exact_mut(LANES).enumerate() {
                    let sum = self.gather::<LANES>(&taps, samples, m * self.channels + chunk * LANES);
                    output.copy_from_slice(&sum);
                }
            }
            pixel.advance(&self.levels);
        }
    }

    /// The levels of all samples, in groups. The last group is filled up with a level of one pixel.
    fn places(&self) -> Vec<Places> {
        let levels: Vec<_> = self.levels.iter().flat_map(|level| std::iter::repeat_n(*level, self.points)).collect();
        let group = |levels: &[Level]| {
            let ones = [1.0; GROUP];
            let mut places = Places { start: [0; GROUP], stride: [1; GROUP], width: ones, height: ones };
            for (sample, level) in levels.iter().enumerate() {
                (places.start[sample], places.stride[sample]) = (level.start as u32, level.width as u32);
                (places.width[sample], places.height[sample]) = (level.width as f32, level.height as f32);
            }
            places
        };
        levels.chunks(GROUP).map(group).collect()
    }

    /// Computes Σ share · value over the taps of all `samples` for the `LANES` channels from `channel` on.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn gather<const LANES: usize>(&self, taps: &[Taps], samples: usize, channel: usize) -> [f32; LANES] {
        let stride = self.heads * self.channels;
        let mut sum = [0.0; LANES];
        for sample in 0..samples {
            let taps = &taps[sample / GROUP];
            let sample = sample % GROUP;
            let value = |tap: usize| {
                let at = taps.pixels[tap][sample] as usize * stride + channel;
                &self.value[at..at + LANES]
            };
            let (a, b, c, d) = (value(0), value(1), value(2), value(3));
            let share = |tap: usize| taps.shares[tap][sample];
            let (of_a, of_b, of_c, of_d) = (share(0), share(1), share(2), share(3));
            // Not one addition after another: each would wait for the one before.
            for (lane, sum) in sum.iter_mut().enumerate() {
                *sum += (of_a * a[lane] + of_b * b[lane]) + (of_c * c[lane] + of_d * d[lane]);
            }
        }
        sum
    }
}

/// Number of samples that are placed and weighed side by side, in one register of any processor. M2FP's four points in a
/// level are one group.
const GROUP: usize = 4;

/// The levels that a group of samples lies in.
#[derive(Debug, Clone, Copy)]
struct Places {
    /// Index of the level's first pixel.
    start: [u32; GROUP],
    /// How many pixels a row has: the width, once more.
    stride: [u32; GROUP],
    width: [f32; GROUP],
    height: [f32; GROUP],
}

/// Where the attending pixel's centre lies in the levels of a group of samples, in coordinates in which the centres of
/// pixels are whole numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Centres {
    x: [f32; GROUP],
    y: [f32; GROUP],
}

/// The four pixels around each sampling point of a group, and how much each of them counts. One outside its level counts
/// nothing.
#[derive(Clone, Copy, Default)]
struct Taps {
    /// Indices into all levels' pixels.
    pixels: [[u32; GROUP]; 4],
    shares: [[f32; GROUP]; 4],
}

impl Taps {
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn new(places: &Places, centres: &Centres, offsets: &[f32], weights: &[f32; GROUP]) -> Self {
        let offset = filled::<{ 2 * GROUP }>(offsets, 0.0);
        let mut taps = Self::default();
        for sample in 0..GROUP {
            let (x, y) = (centres.x[sample] + offset[2 * sample], centres.y[sample] + offset[2 * sample + 1]);
            let (left, top) = (x.floor(), y.floor());
            let (right_share, bottom_share) = (x - left, y - top);
            let (width, height) = (places.width[sample], places.height[sample]);
            let columns = [left, left + 1.0].map(|column| Self::inside(column, width));
            let rows = [top, top + 1.0].map(|row| Self::inside(row, height));
            let column_shares = [(1.0 - right_share) * columns[0].1, right_share * columns[1].1];
            let weight = weights[sample];
            let row_shares = [(1.0 - bottom_share) * rows[0].1 * weight, bottom_share * rows[1].1 * weight];
            for tap in 0..4 {
                let (row, column) = (tap / 2, tap % 2);
                let in_level = rows[row].0.wrapping_mul(places.stride[sample]).wrapping_add(columns[column].0);
                taps.pixels[tap][sample] = places.start[sample].wrapping_add(in_level);
                taps.shares[tap][sample] = row_shares[row] * column_shares[column];
            }
        }
        taps
    }

    /// The index in 0..`side` that is nearest to `coordinate`; both are whole numbers. With it comes 1 where the index is
    /// `coordinate` itself, and 0 otherwise.
    #[inline(always)]
    // Whole numbers are compared.
    #[allow(clippy::inline_always, clippy::float_cmp)]
    fn inside(coordinate: f32, side: f32) -> (u32, f32) {
        // What is no number becomes 0.
        let index = coordinate.max(0.0).min(side - 1.0);
        // Sides have 20 bits, so the index is what this sum has in its 23 lowest. `as` would be computed one by one.
        let bits = (index + (1 << 23) as f32).to_bits() & ((1 << 23) - 1);
        (bits, if index == coordinate { 1.0 } else { 0.0 })
    }
}

/// The pixel that attends.
struct Pixel {
    level: usize,
    row: usize,
    column: usize,
}

impl Pixel {
    fn at(index: usize, levels: &[Level]) -> Self {
        let level = levels.iter().rposition(|level| level.start <= index).unwrap_or(0);
        let inside = index - levels[level].start;
        Self { level, row: inside / levels[level].width, column: inside % levels[level].width }
    }

    fn advance(&mut self, levels: &[Level]) {
        self.column += 1;
        if self.column == levels[self.level].width {
            (self.column, self.row) = (0, self.row + 1);
            if self.row == levels[self.level].height && self.level + 1 < levels.len() {
                (self.row, self.level) = (0, self.level + 1);
            }
        }
    }

    /// Its centre in the levels of a group of samples.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn centres_in(&self, levels: &[Level], places: &Places) -> Centres {
        let own = levels[self.level];
        let centre = |index: usize, own: usize| (index as f32 + 0.5, own as f32);
        let ((column, own_width), (row, own_height)) = (centre(self.column, own.width), centre(self.row, own.height));
        Centres {
            x: places.width.map(|width| column * width / own_width - 0.5),
            y: places.height.map(|height| row * height / own_height - 0.5),
        }
    }
}

/// The weights of the samples that `logits` has. What a group has beyond them is as good as nothing.
#[inline(always)]
#[allow(clippy::inline_always)]
fn softmax(logits: &[f32], weights: &mut [[f32; GROUP]]) {
    let mut greatest = [f32::NEG_INFINITY; GROUP];
    for (weights, logits) in weights.iter_mut().zip(logits.chunks(GROUP)) {
        *weights = filled(logits, f32::NEG_INFINITY);
        for (greatest, weight) in greatest.iter_mut().zip(*weights) {
            *greatest = greatest.max(weight);
        }
    }
    let greatest = folded(greatest, f32::max);
    let mut sum = [0.0; GROUP];
    for weights in &mut *weights {
        for (weight, sum) in weights.iter_mut().zip(&mut sum) {
            *weight = exp(*weight - greatest);
            *sum += *weight;
        }
    }
    let sum = folded(sum, |a, b| a + b);
    for weights in weights {
        *weights = weights.map(|weight| weight / sum);
    }
}

/// `values`, and `rest` where there are fewer than `N`.
#[inline(always)]
#[allow(clippy::inline_always)]
fn filled<const N: usize>(values: &[f32], rest: f32) -> [f32; N] {
    values.first_chunk().copied().unwrap_or_else(|| std::array::from_fn(|at| values.get(at).copied().unwrap_or(rest)))
}

/// All of `values` in one, by halves.
#[inline(always)]
#[allow(clippy::inline_always)]
fn folded(mut values: [f32; GROUP], fold: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = GROUP / 2;
    while half > 0 {
        for lane in 0..half {
            values[lane] = fold(values[lane], values[lane + half]);
        }
        half /= 2;
    }
    values[0]
}

/// eˣ of x ≤ 0, to within some 1e-7 of it, without a branch, so that many are computed at once. Below −87 it stays
/// e⁻⁸⁷, which is 1.6e-38.
///
/// With n = ⌊x / ln 2⌉ it is 2ⁿ · eʳ, where |r| ≤ ln 2 / 2; of Taylor's series of eʳ, eight terms count.
#[inline(always)]
#[allow(clippy::inline_always)]
fn exp(x: f32) -> f32 {
    /// Added to a small number, it rounds it to a whole one, which is then in the lowest bits.
    const ROUND: f32 = 1.5 * (1 << 23) as f32;
    /// ln 2 in two numbers: n times the first one is exact.
    const LN_2: [f32; 2] = [355.0 / 512.0, -2.121_944_4e-4];
    /// 1/k! from k = 7 down to 0.
    const TAYLOR: [f32; 8] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    // Not by `max`, because what is no number shall stay so.
    let x = if x < -87.0 { -87.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let series = TAYLOR.iter().fold(0.0, |sum, term| sum * r + term);
    // 2ⁿ, by its exponent.
    series * f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0_f32.to_bits()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::strategy::ValueTree;

    use super::*;

    /// The operator's inputs, shapes and data.
    #[derive(Debug, Clone)]
    struct Case {
        levels: Vec<(usize, usize)>,
        heads: usize,
        channels: usize,
        points: usize,
        value: Vec<f32>,
        offsets: Vec<f32>,
        logits: Vec<f32>,
    }

    impl Case {
        fn pixels(&self) -> usize {
            self.levels.iter().map(|(height, width)| height * width).sum()
        }

        fn attention(&self) -> Result<Vec<f32>, String> {
            let [pixels, heads, channels, count, points] =
                [self.pixels(), self.heads, self.channels, self.levels.len(), self.points].map(|n| n as i64);
            let shapes: Vec<i64> = self.levels.iter().flat_map(|&(h, w)| [h as i64, w as i64]).collect();
            let attention = Attention::new(
                (&[1, pixels, heads, channels], &self.value),
                (&[1, pixels, heads, count, points, 2], &self.offsets),
                (&[1, pixels, heads, count, points], &self.logits),
                (&[count, 2], &shapes),
            )?;
            let mut output = vec![f32::NAN; self.pixels() * self.heads * self.channels];
            for (block, output) in output.chunks_mut(5 * self.heads * self.channels).enumerate() {
                attention.attend(block * 5, output);
            }
            Ok(output)
        }

        /// Computes the definition, word for word, in double precision.
        fn defined(&self) -> Vec<f64> {
            let (m_count, d_count, p_count) = (self.heads, self.channels, self.points);
            let samples = self.levels.len() * p_count;
            let starts: Vec<usize> = self
                .levels
                .iter()
                .scan(0, |next, (h, w)| {
                    *next += h * w;
                    Some(*next - h * w)
                })
                .collect();
            let mut output = Vec::new();
            for (k, &(own_height, own_width)) in self.levels.iter().enumerate() {
                for own in 0..own_height * own_width {
                    let (s, r, c) = (starts[k] + own, own / own_width, own % own_width);
                    for m in 0..m_count {
                        let at = (s * m_count + m) * samples;
                        let exponentials: Vec<f64> =
                            self.logits[at..at + samples].iter().map(|&logit| f64::from(logit).exp()).collect();
                        let total: f64 = exponentials.iter().sum();
                        let mut sums = vec![0.0; d_count];
                        for (sample, exponential) in exponentials.iter().enumerate() {
                            let l = sample / p_count;
                            let (height, width) = self.levels[l];
                            let offset = |axis: usize| f64::from(self.offsets[2 * (at + sample) + axis]);
                            let x = (c as f64 + 0.5) * width as f64 / own_width as f64 + offset(0) - 0.5;
                            let y = (r as f64 + 0.5) * height as f64 / own_height as f64 + offset(1) - 0.5;
                            for row in 0..height {
                                for column in 0..width {
                                    let share = (1.0 - (y - row as f64).abs()).max(0.0)
                                        * (1.0 - (x - column as f64).abs()).max(0.0);
                                    let pixel = starts[l] + row * width + column;
                                    for (d, sum) in sums.iter_mut().enumerate() {
                                        let value = self.value[(pixel * m_count + m) * d_count + d];
                                        *sum += exponential / total * share * f64::from(value);
                                    }
                                }
                            }
                        }
                        output.extend(sums);
                    }
                }
            }
            output
        }
    }

    fn cases() -> impl Strategy<Value = Case> {
        let levels = prop::collection::vec((1..6_usize, 1..7_usize), 1..4);
        (levels, 1..4_usize, select(vec![1, 3, 32]), 1..5_usize).prop_flat_map(|(levels, heads, channels, points)| {
            let pixels: usize = levels.iter().map(|(height, width)| height * width).sum();
            let samples = pixels * heads * levels.len() * points;
            // Most points fall near or inside their level; some lie on its pixels, some far outside.
            let offset = prop_oneof![
                8 => -4.0..4.0_f32,
                1 => (-4..4_i8).prop_map(f32::from),
                1 => select(vec![-1e9_f32, 1e9, 1e30, -1e30]),
            ];
            (
                prop::collection::vec(-2.0..2.0_f32, pixels * heads * channels),
                prop::collection::vec(offset, 2 * samples),
                prop::collection::vec(-8.0..8.0_f32, samples),
            )
                .prop_map(move |(value, offsets, logits)| Case {
                    levels: levels.clone(),
                    heads,
                    channels,
                    points,
                    value,
                    offsets,
                    logits,
                })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_shape_and_offset_is_attended_as_defined(case in cases()) {
            let output = case.attention().unwrap();
            for (found, defined) in output.iter().zip(case.defined()) {
                // Positions are in single precision, so a point may lie off by a few millionths of a pixel.
                prop_assert!((f64::from(*found) - defined).abs() < 2e-5, "{found} is not {defined}");
            }
        }

        #[test]
        fn what_is_no_number_breaks_nothing(
            mut case in cases(),
            at in any::<prop::sample::Index>(),
            bad in select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY]),
        ) {
            let index = at.index(case.offsets.len());
            case.offsets[index] = bad;
            case.logits[index / 2] = bad;
            prop_assert_eq!(case.attention().unwrap().len(), case.pixels() * case.heads * case.channels);
        }
    }

    #[test]
    fn exponentials_are_those_of_double_precision() {
        for step in 0..87_000 {
            let x = -(step as f32) / 1000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() < 2e-7 * exact, "e to the {x}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(f32::NAN).is_nan());
    }

    #[test]
    fn every_instruction_set_gives_the_same() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let case = cases().prop_filter("M2FP's width", |case| case.channels == 32);
        let case = case.new_tree(&mut runner).unwrap().current();
        let shapes: Vec<i64> = case.levels.iter().flat_map(|&(h, w)| [h as i64, w as i64]).collect();
        let [pixels, heads, count, points] =
            [case.pixels(), case.heads, case.levels.len(), case.points].map(|n| n as i64);
        let attention = Attention::new(
            (&[1, pixels, heads, 32], &case.value),
            (&[1, pixels, heads, count, points, 2], &case.offsets),
            (&[1, pixels, heads, count, points], &case.logits),
            (&[count, 2], &shapes),
        )
        .unwrap();
        let mut plain = vec![0.0; case.value.len()];
        attention.attend_any(0, &mut plain);
        let mut chosen = vec![0.0; case.value.len()];
        attention.attend(0, &mut chosen);
        assert_eq!(plain, chosen);
    }

    #[test]
    fn inputs_that_do_not_fit_each_other_are_refused() {
        let data = vec![0.0; 4096];
        let new = |value: &[i64], offsets: &[i64], logits: &[i64], shapes: (&[i64], &[i64])| {
            let attention = Attention::new((value, &data), (offsets, &data), (logits, &data), shapes);
            attention.map(drop)
        };
        let shapes: (&[i64], &[i64]) = (&[2, 2], &[1, 2, 3, 4]);
        let (value, offsets, logits) = ([1, 14, 2, 4], [1, 14, 2, 2, 3, 2], [1, 14, 2, 2, 3]);
        assert_eq!(new(&value, &offsets, &logits, shapes), Ok(()));
        let refused = [
            new(&[14, 2, 4], &offsets, &logits, shapes),
            new(&value, &[1, 14, 2, 2, 3, 1], &logits, shapes),
            new(&value, &offsets, &[1, 14, 2, 3], shapes),
            new(&value, &offsets, &[1, 13, 2, 2, 3], shapes),
            new(&[1, 14, 0, 4], &[1, 14, 0, 2, 3, 2], &[1, 14, 0, 2, 3], shapes),
            new(&value, &[1, 14, 2, 2, 0, 2], &[1, 14, 2, 2, 0], shapes),
            new(&value, &offsets, &logits, (&[4], &[1, 2, 3, 4])),
            new(&value, &offsets, &logits, (&[2, 2], &[1, 2, 3, 5])),
            new(&value, &offsets, &logits, (&[2, 2], &[-1, -2, 3, 4])),
            new(&value, &offsets, &logits, (&[2, 2], &[i64::MAX, i64::MAX, 3, 4])),
        ];
        for refused in refused {
            assert!(refused.unwrap_err().starts_with("DeformAttn: "));
        }
    }
}
