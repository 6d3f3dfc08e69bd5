//! A 3×3 convolution of stride 1, padded by one, with its bias and Relu, as the custom operator `m2fp::Conv3x3`,
//! version 1.
//!
//! | | | |
//! |---|---|---|
//! | input `x` | float `[1, C, H, W]` | |
//! | input `weight` | float `[K, C, 3, 3]` | as ONNX's `Conv` has it |
//! | input `bias` | float `[K]` | optional |
//! | attribute `relu` | int | 1: negative results become 0 |
//! | output | float `[1, K, H, W]` | |
//!
//! It computes by Winograd's F(4×4, 3×3) (Lavin and Gray, arXiv 1509.09308), in which a tile of 4×4 results takes 36
//! products for each pair of channels instead of 144. With the transforms below, a tile of results is
//! ```text
//! Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A        d: 6×6 of x, g: the weight's 3×3
//! ```
//! For each of the 36 places in a transformed tile, the sum of the elementwise products over C is a product of two
//! matrices: `[K, C]` of transformed weights and `[C, tiles]` of transformed tiles.
//!
//! Weights are transformed at every run, which takes a fortieth of the convolution's time. If they were transformed in
//! the file, they would be four times as large: a ResNet-101 would have 230 MB more to hold and to verify at start.
//! The transforms write the panels that the product reads, which are [`ROWS`] channels of weights and [`LANES`] tiles,
//! so nothing has to be packed.
//!
//! The memory to compute in comes from the tensors' heap, so it is counted like tensors and its pages are kept from one
//! layer to the next. To bound it, the operator works on a band of tiles at a time, and only on some of the K channels
//! where the transformed weights of all would be too many.
//!
//! Each value is summed up in one order, whatever the number of threads. Products are fused with their sums where the
//! processor can do that, so processors may differ in the last bits, as they do in the runtime's own convolutions.

use multiversion::multiversion;
use multiversion::target::target_cfg_f;
use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::heap::TensorHeap;
use super::kernel::{LANES, Lanes, Pool, add_products, fill_chunks, fill_each, input};

/// Number of places in a transformed tile.
const PLACES: usize = 36;
/// Number of results along a side of a tile.
const SIDE: usize = 4;
/// Number of the result's channels that a product computes at once. With [`LANES`] tiles, their sums fit in registers.
const ROWS: usize = 4;
/// Number of panels of [`ROWS`] channels that make one task. Where there are few panels in all, a task has few of them,
/// so that the threads are evenly loaded.
const GROUP: usize = 4;
/// The same where there are many panels: a task has more of them, so that a tile is fetched less often.
const LARGE_GROUP: usize = 8;
/// The most bytes of transformed weights that are held at once, unless a single group takes more.
const WEIGHT_BYTES: usize = 10 << 20;
/// The most bytes of transformed tiles and their products that are held at once, unless a single block takes more.
const BAND_BYTES: usize = 6 << 20;

/// The operator. It computes in memory of the heap.
pub struct Conv3x3(pub &'static TensorHeap);

impl Operator for Conv3x3 {
    type Kernel<'attr> = Conv3x3Kernel;

    fn name(&self) -> &'static str {
        "Conv3x3"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let float = TensorElementType::Float32;
        [OperatorInput::required(float), OperatorInput::required(float), OperatorInput::optional(float)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel(&self, node: &KernelContext<'_>) -> ort::Result<Conv3x3Kernel> {
        let relu =
            node.get::<i64>("relu").ok_or_else(|| ort::Error::new("Conv3x3: the attribute `relu` is missing"))?;
        Ok(Conv3x3Kernel { heap: self.0, relu: relu != 0 })
    }
}

pub struct Conv3x3Kernel {
    heap: &'static TensorHeap,
    relu: bool,
}

impl Kernel for Conv3x3Kernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (x, weight, bias) = (input(context, 0)?, input(context, 1)?, context.input(2)?);
        let (x_shape, x) = x.try_extract_tensor::<f32>()?;
        let (weight_shape, weight) = weight.try_extract_tensor::<f32>()?;
        let bias = bias.as_ref().map(|bias| bias.try_extract_tensor::<f32>()).transpose()?.map(|(_, bias)| bias);
        let convolution =
            Convolution::new((x_shape, x), (weight_shape, weight), bias, self.relu).map_err(ort::Error::new)?;
        let shape = [1, convolution.filters, convolution.height, convolution.width];
        let mut output = context.output(0, shape)?.ok_or_else(|| ort::Error::new("the output is missing"))?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        let scratch = self.heap.scratch(convolution.scratch_len());
        let mut scratch = scratch.ok_or_else(|| ort::Error::new("Conv3x3: no memory is left to compute in"))?;
        convolution.run(context, output, &mut scratch)
    }
}

/// The operator's inputs, checked against each other, and its attribute.
struct Convolution<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    relu: bool,
    /// Number of the input's channels, C.
    channels: usize,
    /// Number of the output's channels, K.
    filters: usize,
    height: usize,
    width: usize,
}

/// Those of a block's [`LANES`] tiles that lie side by side in one row of tiles.
#[derive(Debug, Clone, Copy)]
struct Segment {
    /// Lane of the first tile.
    lane: usize,
    count: usize,
    /// Row of tiles that they lie in.
    row: usize,
    /// Column of the first tile, counted in tiles.
    column: usize,
}

impl<'a> Convolution<'a> {
    fn new(
        (x_shape, x): (&[i64], &'a [f32]),
        (weight_shape, weight): (&[i64], &'a [f32]),
        bias: Option<&'a [f32]>,
        relu: bool,
    ) -> Result<Self, String> {
        let &[1, channels, height, width] = x_shape else {
            return Err("Conv3x3: `x` is not [1, C, H, W]".to_owned());
        };
        let &[filters, of_weight, 3, 3] = weight_shape else {
            return Err("Conv3x3: `weight` is not [K, C, 3, 3]".to_owned());
        };
        if channels != of_weight || x.is_empty() || weight.is_empty() {
            return Err(format!("Conv3x3: a weight {weight_shape:?} does not fit {x_shape:?}"));
        }
        let [channels, filters, height, width] = [channels, filters, height, width].map(|side| side as usize);
        if bias.is_some_and(|bias| bias.len() != filters) {
            return Err("Conv3x3: `bias` is not one value a channel".to_owned());
        }
        Ok(Self { x, weight, bias, relu, channels, filters, height, width })
    }

    /// Number of tiles in a row of tiles.
    fn columns(&self) -> usize {
        self.width.div_ceil(SIDE)
    }

    fn tiles(&self) -> usize {
        self.columns() * self.height.div_ceil(SIDE)
    }

    fn blocks(&self) -> usize {
        self.tiles().div_ceil(LANES)
    }

    fn panels(&self) -> usize {
        self.filters.div_ceil(ROWS)
    }

    /// Number of panels that make one task.
    fn group(&self) -> usize {
        if self.panels() >= 8 * GROUP { LARGE_GROUP } else { GROUP }
    }

    /// Number of values in a panel of transformed weights.
    fn panel_len(&self) -> usize {
        PLACES * self.channels * ROWS
    }

    /// Number of values in a block of transformed tiles.
    fn block_len(&self) -> usize {
        PLACES * self.channels * LANES
    }

    /// Number of panels whose transformed weights are held at once. They are whole groups.
    fn pass(&self) -> usize {
        let groups = WEIGHT_BYTES / size_of::<f32>() / self.panel_len() / self.group();
        self.panels().next_multiple_of(self.group()).min(groups.max(1) * self.group())
    }

    /// Number of blocks that are held at once. There are as few bands as [`BAND_BYTES`] allows, all of about one size.
    fn band(&self) -> usize {
        let bytes = size_of::<f32>() * (self.block_len() + self.products_len(1));
        let most = (BAND_BYTES / bytes).max(1);
        self.blocks().div_ceil(self.blocks().div_ceil(most))
    }

    /// Number of products of a pass with so many blocks.
    fn products_len(&self, blocks: usize) -> usize {
        self.pass() * ROWS * blocks * PLACES * LANES
    }

    fn scratch_len(&self) -> usize {
        self.pass() * self.panel_len() + self.band() * self.block_len() + self.products_len(self.band())
    }

    fn segments(&self, block: usize) -> Vec<Segment> {
        let (first, columns) = (block * LANES, self.columns());
        let end = (first + LANES).min(self.tiles());
        let mut segments = Vec::new();
        let mut tile = first;
        while tile < end {
            let (row, column) = (tile / columns, tile % columns);
            let count = (columns - column).min(end - tile);
            segments.push(Segment { lane: tile - first, count, row, column });
            tile += count;
        }
        segments
    }

    fn run(&self, pool: &impl Pool, output: &mut [f32], scratch: &mut [f32]) -> ort::Result<()> {
        let Self { channels, height, width, .. } = *self;
        let plane = height * width;
        let (pass, band, group) = (self.pass(), self.band(), self.group());
        let (weights, rest) = scratch.split_at_mut(pass * self.panel_len());
        let (tiles, products) = rest.split_at_mut(band * self.block_len());
        for first_panel in (0..self.panels()).step_by(pass) {
            let panels = pass.min(self.panels() - first_panel);
            let filters = first_panel * ROWS..((first_panel + panels) * ROWS).min(self.filters);
            let own = &self.weight[filters.start * channels * 9..filters.end * channels * 9];
            let weights = &mut weights[..panels * self.panel_len()];
            fill_chunks(pool, weights, self.panel_len(), |panel, output| {
                let from = panel * ROWS * channels * 9;
                let to = own.len().min(from + ROWS * channels * 9);
                transform_weights(&own[from..to], channels, output);
            })?;
            let weights = &*weights;
            let bias = self.bias.map(|bias| &bias[filters.clone()]);
            let output = &mut output[filters.start * plane..filters.end * plane];
            for first_block in (0..self.blocks()).step_by(band) {
                let blocks = first_block..(first_block + band).min(self.blocks());
                let segments: Vec<_> = blocks.map(|block| self.segments(block)).collect();
                let tiles = &mut tiles[..segments.len() * self.block_len()];
                fill_chunks(pool, tiles, self.block_len(), |block, output| {
                    transform_tiles(self.x, height, width, &segments[block], output);
                })?;
                let tiles = &*tiles;
                let products = products.chunks_mut(group * ROWS * segments.len() * PLACES * LANES);
                let outputs = output.chunks_mut(group * ROWS * plane);
                fill_each(pool, products.zip(outputs), |task, (products, output)| {
                    let own = weights.chunks(group * self.panel_len()).nth(task).unwrap_or_default();
                    multiply(own, tiles, channels, segments.len(), products);
                    let bias = bias.and_then(|bias| bias.chunks(group * ROWS).nth(task));
                    let least = if self.relu { 0.0 } else { f32::NEG_INFINITY };
                    transform_products(products, &segments, bias, least, height, width, output);
                })?;
            }
        }
        Ok(())
    }
}

/// Transforms up to [`ROWS`] filters `[C, 3, 3]` into a panel `[PLACES, C, ROWS]`. Filters that are missing count as 0.
#[multiversion(targets = "simd")]
fn transform_weights(filters: &[f32], channels: usize, output: &mut [f32]) {
    const AT_ONCE: usize = LANES / ROWS;
    for first in (0..channels).step_by(AT_ONCE) {
        let count = AT_ONCE.min(channels - first);
        let mut weight = [[[0.0; LANES]; 3]; 3];
        for (row, filter) in filters.chunks_exact(channels * 9).enumerate() {
            for (channel, taps) in filter[first * 9..][..count * 9].as_chunks::<9>().0.iter().enumerate() {
                for (place, tap) in taps.iter().enumerate() {
                    weight[place / 3][place % 3][channel * ROWS + row] = *tap;
                }
            }
        }
        let across = weight.map(|row| spread(&row));
        for column in 0..6 {
            let [top, middle, bottom] = &across;
            for (row, lanes) in spread(&[top[column], middle[column], bottom[column]]).iter().enumerate() {
                let at = ((row * 6 + column) * channels + first) * ROWS;
                output[at..at + count * ROWS].copy_from_slice(&lanes[..count * ROWS]);
            }
        }
    }
}

/// Computes G · `taps`.
#[inline(always)]
#[allow(clippy::inline_always)]
fn spread(taps: &[Lanes; 3]) -> [Lanes; 6] {
    let mut result = [[0.0; LANES]; 6];
    for lane in 0..LANES {
        let [a, b, c] = [taps[0][lane], taps[1][lane], taps[2][lane]];
        let (outer, inner) = ((a + c) * (-1.0 / 6.0), b * (1.0 / 6.0));
        let (wide, half) = (a * (1.0 / 24.0) + c * (1.0 / 6.0), b * (1.0 / 12.0));
        result[0][lane] = a * 0.25;
        result[1][lane] = outer - inner;
        result[2][lane] = outer + inner;
        result[3][lane] = wide + half;
        result[4][lane] = wide - half;
        result[5][lane] = c;
    }
    result
}

/// Transforms the tiles of a block, in every channel, into `[PLACES, C, LANES]`.
#[multiversion(targets = "simd")]
fn transform_tiles(x: &[f32], height: usize, width: usize, segments: &[Segment], output: &mut [f32]) {
    let (output, _) = output.as_chunks_mut::<LANES>();
    let channels = output.len() / PLACES;
    let mut tile = [[[0.0; LANES]; 6]; 6];
    for (channel, plane) in x.chunks_exact(height * width).enumerate() {
        for (row, places) in tile.iter_mut().enumerate() {
            gather(plane, height, width, row, segments, places);
        }
        let mut down = [[[0.0; LANES]; 6]; 6];
        for column in 0..6 {
            let lanes = differences(&tile.map(|row| row[column]));
            for (row, lanes) in lanes.iter().enumerate() {
                down[row][column] = *lanes;
            }
        }
        for (row, places) in down.iter().enumerate() {
            for (column, lanes) in differences(places).iter().enumerate() {
                output[(row * 6 + column) * channels + channel] = *lanes;
            }
        }
    }
}

/// Reads row `row` of each tile into `places`: its six values, or 0 where they lie outside the plane.
#[inline(always)]
#[allow(clippy::inline_always)]
fn gather(plane: &[f32], height: usize, width: usize, row: usize, segments: &[Segment], places: &mut [Lanes; 6]) {
    // `line` has the first four values of each tile, one tile after another. The other two are the first two of the
    // next tile; for the last tile of a segment they are in `beyond`.
    let mut line = [0.0; LANES * SIDE];
    let mut beyond = [[0.0; 2]; LANES];
    for segment in segments {
        let Some(y) = (segment.row * SIDE + row).checked_sub(1).filter(|&y| y < height) else { continue };
        let values = &plane[y * width..][..width];
        // A tile's first value lies one pixel to the left of its results.
        let start = segment.column * SIDE;
        let line = &mut line[segment.lane * SIDE..][..segment.count * SIDE];
        let from = start.saturating_sub(1);
        let shift = usize::from(start == 0);
        let count = (line.len() - shift).min(width - from);
        line[shift..shift + count].copy_from_slice(&values[from..from + count]);
        let end = start + segment.count * SIDE - 1;
        for (value, x) in beyond[segment.lane + segment.count - 1].iter_mut().zip(end..) {
            *value = values.get(x).copied().unwrap_or(0.0);
        }
    }
    for lane in 0..LANES {
        for place in 0..SIDE {
            places[place][lane] = line[lane * SIDE + place];
        }
    }
    for lane in 0..LANES - 1 {
        places[4][lane] = places[0][lane + 1];
        places[5][lane] = places[1][lane + 1];
    }
    for segment in segments {
        let last = segment.lane + segment.count - 1;
        [places[4][last], places[5][last]] = beyond[last];
    }
}

/// Computes Bᵀ · `values`.
#[inline(always)]
#[allow(clippy::inline_always)]
fn differences(values: &[Lanes; 6]) -> [Lanes; 6] {
    let mut result = [[0.0; LANES]; 6];
    for lane in 0..LANES {
        let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(|place| values[place][lane]);
        let (even, odd) = (e - 4.0 * c, d - 4.0 * b);
        let (near, far) = (e - c, 2.0 * (d - b));
        result[0][lane] = 4.0 * a - 5.0 * c + e;
        result[1][lane] = even + odd;
        result[2][lane] = even - odd;
        result[3][lane] = near + far;
        result[4][lane] = near - far;
        result[5][lane] = 4.0 * b - 5.0 * d + f;
    }
    result
}

/// Multiplies weights `[panels, PLACES, C, ROWS]` by tiles `[blocks, PLACES, C, LANES]` and sums over C. The products
/// are `[panels · ROWS, blocks, PLACES, LANES]`.
#[multiversion(targets = "simd")]
fn multiply(weights: &[f32], tiles: &[f32], channels: usize, blocks: usize, products: &mut [f32]) {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    match (fused, target_cfg_f!(target_feature = "avx512f")) {
        (true, true) => multiply_in::<true, 4>(weights, tiles, channels, blocks, products),
        (true, false) => multiply_in::<true, 1>(weights, tiles, channels, blocks, products),
        (false, _) => multiply_in::<false, 1>(weights, tiles, channels, blocks, products),
    }
}

/// `FUSED` says whether the processor fuses a product with its sum, and `BLOCKS` how many blocks are multiplied side by
/// side.
#[inline(always)]
#[allow(clippy::inline_always)]
fn multiply_in<const FUSED: bool, const BLOCKS: usize>(
    weights: &[f32],
    tiles: &[f32],
    channels: usize,
    blocks: usize,
    products: &mut [f32],
) {
    let whole = blocks - blocks % BLOCKS;
    for place in 0..PLACES {
        for block in (0..whole).step_by(BLOCKS) {
            multiply_blocks::<FUSED, BLOCKS>(weights, tiles, channels, (place, block, blocks), products);
        }
        for block in whole..blocks {
            multiply_blocks::<FUSED, 1>(weights, tiles, channels, (place, block, blocks), products);
        }
    }
}

/// Does so in one place, for `BLOCKS` blocks from `block` on of `blocks`.
#[inline(always)]
#[allow(clippy::inline_always)]
fn multiply_blocks<const FUSED: bool, const BLOCKS: usize>(
    weights: &[f32],
    tiles: &[f32],
    channels: usize,
    (place, block, blocks): (usize, usize, usize),
    products: &mut [f32],
) {
    let (weights, _) = weights.as_chunks::<ROWS>();
    let (tiles, _) = tiles.as_chunks::<LANES>();
    let (products, _) = products.as_chunks_mut::<LANES>();
    let right = std::array::from_fn(|next| &tiles[((block + next) * PLACES + place) * channels..][..channels]);
    for (panel, weights) in weights.chunks_exact(PLACES * channels).enumerate() {
        let mut sums = [[[0.0; LANES]; ROWS]; BLOCKS];
        add_products::<FUSED, ROWS, BLOCKS>(&weights[place * channels..][..channels], right, &mut sums);
        for (next, sums) in sums.iter().enumerate() {
            for (row, sums) in sums.iter().enumerate() {
                products[((panel * ROWS + row) * blocks + block + next) * PLACES + place] = *sums;
            }
        }
    }
}

/// Transforms products `[K, blocks, PLACES, LANES]` into the results of their tiles, with `bias` added and nothing
/// below `least`, and writes them into the planes of `output`.
#[multiversion(targets = "simd")]
fn transform_products(
    products: &[f32],
    segments: &[Vec<Segment>],
    bias: Option<&[f32]>,
    least: f32,
    height: usize,
    width: usize,
    output: &mut [f32],
) {
    let (products, _) = products.as_chunks::<LANES>();
    let planes = output.chunks_exact_mut(height * width);
    for (filter, (plane, products)) in planes.zip(products.chunks_exact(segments.len() * PLACES)).enumerate() {
        let bias = bias.map_or(0.0, |bias| bias[filter]);
        for (segments, products) in segments.iter().zip(products.as_chunks::<PLACES>().0) {
            let mut down = [[[0.0; LANES]; 6]; SIDE];
            for column in 0..6 {
                let lanes = sums(&[0, 1, 2, 3, 4, 5].map(|row| products[row * 6 + column]));
                for (row, lanes) in lanes.iter().enumerate() {
                    down[row][column] = *lanes;
                }
            }
            for (row, places) in down.iter().enumerate() {
                let results = sums(places);
                let mut line = [0.0; LANES * SIDE];
                for lane in 0..LANES {
                    for place in 0..SIDE {
                        let value = results[place][lane] + bias;
                        line[lane * SIDE + place] = if value < least { least } else { value };
                    }
                }
                for segment in segments {
                    let (y, x) = (segment.row * SIDE + row, segment.column * SIDE);
                    if y < height {
                        let count = (segment.count * SIDE).min(width - x);
                        let line = &line[segment.lane * SIDE..][..count];
                        plane[y * width + x..][..count].copy_from_slice(line);
                    }
                }
            }
        }
    }
}

/// Computes Aᵀ · `values`.
#[inline(always)]
#[allow(clippy::inline_always)]
fn sums(values: &[Lanes; 6]) -> [Lanes; SIDE] {
    let mut result = [[0.0; LANES]; SIDE];
    for lane in 0..LANES {
        let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(|place| values[place][lane]);
        let (near, near_odd) = (b + c, b - c);
        let (far, far_odd) = (d + e, d - e);
        result[0][lane] = a + near + far;
        result[1][lane] = near_odd + 2.0 * far_odd;
        result[2][lane] = near + 4.0 * far;
        result[3][lane] = near_odd + 8.0 * far_odd + f;
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::kernel::pools::{Backwards, Threads};

    #[derive(Debug, Clone)]
    struct Case {
        channels: usize,
        filters: usize,
        height: usize,
        width: usize,
        relu: bool,
        bias: bool,
        seed: u64,
    }

    struct Values {
        x: Vec<f32>,
        weight: Vec<f32>,
        bias: Option<Vec<f32>>,
    }

    impl Case {
        fn values(&self) -> Values {
            let mut chance = fastrand::Rng::with_seed(self.seed);
            let mut draw = |count: usize| (0..count).map(|_| chance.f32() * 2.0 - 1.0).collect::<Vec<_>>();
            Values {
                x: draw(self.channels * self.height * self.width),
                weight: draw(self.filters * self.channels * 9),
                bias: self.bias.then(|| draw(self.filters)),
            }
        }

        fn convolution<'a>(&self, values: &'a Values) -> Convolution<'a> {
            let [channels, filters, height, width] =
                [self.channels, self.filters, self.height, self.width].map(|side| side as i64);
            let (x, weight) = (&[1, channels, height, width], &[filters, channels, 3, 3]);
            let bias = values.bias.as_deref();
            Convolution::new((x, &values.x), (weight, &values.weight), bias, self.relu).unwrap()
        }

        /// Runs the convolution on `pool`, in memory that is full of NaN at first.
        fn run(&self, pool: &impl Pool) -> Vec<f32> {
            let values = self.values();
            let convolution = self.convolution(&values);
            let mut output = vec![f32::NAN; self.filters * self.height * self.width];
            convolution.run(pool, &mut output, &mut vec![f32::NAN; convolution.scratch_len()]).unwrap();
            output
        }

        /// Computes the definition, word for word, in double precision.
        fn defined(&self) -> Vec<f64> {
            let Values { x, weight, bias } = self.values();
            let at = |channel: usize, y: usize, x_at: usize| {
                let inside = (1..=self.height).contains(&y) && (1..=self.width).contains(&x_at);
                if inside { f64::from(x[(channel * self.height + y - 1) * self.width + x_at - 1]) } else { 0.0 }
            };
            let mut output = Vec::new();
            for filter in 0..self.filters {
                for (y, x) in (0..self.height).flat_map(|y| (0..self.width).map(move |x| (y, x))) {
                    let mut sum = bias.as_ref().map_or(0.0, |bias| f64::from(bias[filter]));
                    for channel in 0..self.channels {
                        for tap in 0..9 {
                            let weight = weight[(filter * self.channels + channel) * 9 + tap];
                            sum += f64::from(weight) * at(channel, y + tap / 3, x + tap % 3);
                        }
                    }
                    output.push(if self.relu { sum.max(0.0) } else { sum });
                }
            }
            output
        }
    }

    /// The error relative to what a sum of so many products usually comes to. It is not relative to these very sums,
    /// because large products may cancel in them.
    fn error(case: &Case, ours: &[f32]) -> f64 {
        let theirs = case.defined();
        assert_eq!(ours.len(), theirs.len());
        let distance: f64 = ours.iter().zip(&theirs).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum();
        // Values from -1 to 1 have a mean square of 1/3, and their products one of 1/9.
        let square = case.channels as f64 * 9.0 * (1.0 / 9.0);
        (distance / (square * theirs.len() as f64)).sqrt()
    }

    prop_compose! {
        fn cases()(
            (channels, filters) in (1_usize..20, 1_usize..40),
            (height, width) in (1_usize..30, 1_usize..90),
            (relu, bias, seed) in any::<(bool, bool, u64)>(),
        ) -> Case {
            Case { channels, filters, height, width, relu, bias, seed }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_the_definition_whatever_the_order_of_tasks(case in cases()) {
            let ours = case.run(&Backwards);
            let found = error(&case, &ours);
            prop_assert!(found < 1e-5, "{found}");
            prop_assert_eq!(ours, case.run(&Threads));
        }
    }

    #[test]
    fn bands_and_passes_join_without_a_seam() {
        // There are so many channels that neither all tiles nor all weights are held at once.
        let case = Case { channels: 600, filters: 130, height: 25, width: 29, relu: false, bias: true, seed: 1 };
        let values = case.values();
        let convolution = case.convolution(&values);
        assert!(convolution.pass() < convolution.panels(), "{}", convolution.pass());
        assert!(convolution.band() < convolution.blocks(), "{}", convolution.band());
        assert!(convolution.scratch_len() * size_of::<f32>() <= WEIGHT_BYTES + BAND_BYTES);
        let found = error(&case, &case.run(&Threads));
        assert!(found < 1e-5, "{found}");
    }

    #[test]
    fn a_value_that_is_no_number_reaches_only_its_own_tiles() {
        let case = Case { channels: 2, filters: 1, height: 12, width: 12, relu: true, bias: false, seed: 3 };
        let mut values = case.values();
        values.x[0] = f32::NAN;
        let convolution = case.convolution(&values);
        let mut output = vec![0.0; 144];
        convolution.run(&Backwards, &mut output, &mut vec![0.0; convolution.scratch_len()]).unwrap();
        assert!(output[0].is_nan());
        let beyond = |(index, _): &(usize, &f32)| index / 12 >= 4 || index % 12 >= 4;
        assert!(output.iter().enumerate().filter(beyond).all(|(_, value)| value.is_finite()));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let refused = |x: &[i64], weight: &[i64], bias: Option<&[f32]>| {
            let sizes = [x, weight].map(|shape| shape.iter().product::<i64>() as usize);
            let [x_values, weight_values] = sizes.map(|size| vec![0.0; size]);
            Convolution::new((x, &x_values), (weight, &weight_values), bias, true).err().unwrap()
        };
        assert!(refused(&[2, 2, 4, 4], &[3, 2, 3, 3], None).contains("[1, C, H, W]"));
        assert!(refused(&[1, 2, 4, 4], &[3, 2, 1, 1], None).contains("[K, C, 3, 3]"));
        assert!(refused(&[1, 2, 4, 4], &[3, 5, 3, 3], None).contains("does not fit"));
        assert!(refused(&[1, 2, 0, 4], &[3, 2, 3, 3], None).contains("does not fit"));
        assert!(refused(&[1, 2, 4, 4], &[3, 2, 3, 3], Some(&[0.0; 2])).contains("one value a channel"));
    }
}
