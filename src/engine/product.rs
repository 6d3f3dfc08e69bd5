//! Products of matrices with what follows them, in one pass over the result: the custom operators `m2fp::Conv1x1` and
//! `m2fp::Linear`, version 1 of each.
//!
//! `Conv1x1`, a 1×1 convolution of stride 1, which is a linear layer of columns, too:
//!
//! | | | |
//! |---|---|---|
//! | input `x` | float `[1, C, H, W]` or `[C, N]` | |
//! | input `weight` | float `[K, C]`, or as ONNX's `Conv` has it, `[K, C, 1, 1]` | |
//! | input `bias` | float, K values | optional |
//! | input `sum` | float, of the output's shape | optional: added to the result |
//! | attribute `relu` | int | 1: negative results become 0 |
//! | output | float `[1, K, H, W]` or `[K, N]` | |
//!
//! `Linear`, a linear layer of rows:
//!
//! | | | |
//! |---|---|---|
//! | input `x` | float `[N, C]` | |
//! | input `weight` | float `[C, M]` | |
//! | input `bias` | float, M values | optional |
//! | input `sum` | float `[N, M]` | optional: added to the result |
//! | attribute `relu` | int | 1: negative results become 0 |
//! | output | float `[N, M]` | |
//!
//! Both are a product of a left and a right matrix. Whichever of them is the weight is copied once, into memory of the
//! tensors' heap; the other one is copied in parts of [`PART_BYTES`] by the task that multiplies them. The left matrix is
//! copied into panels of [`ROWS`] rows and the right one into blocks of [`LANES`] columns, so that the processor reads
//! both in the order in which they lie. Weights that are mapped from a file need no other layout there, and stand in
//! memory once.
//!
//! Each value is summed up in one order, whatever the number of threads. Products are fused with their sums where the
//! processor can do that, so processors may differ in the last bits, as they do in the runtime's own operators.

use std::ops::Range;

use multiversion::multiversion;
use multiversion::target::target_cfg_f;
use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::heap::TensorHeap;
use super::kernel::{LANES, Lanes, Pool, add_products, fill_chunks, fill_each, input};

/// Number of the left matrix's rows in a panel. With [`LANES`] columns, their sums fit in the registers of AVX2.
const ROWS: usize = 6;
/// The most places along the sum that are multiplied before the next panel or block is. So much of a panel stays in the
/// first cache.
const DEPTH: usize = 256;
/// The most bytes of a matrix that a task copies at once, and of blocks that it multiplies by one panel before the next.
/// They stay in the second cache.
const PART_BYTES: usize = 64 << 10;
/// The number of tasks that there are about, where there are rows or columns enough.
const TASKS: usize = 16;

/// Number of places of blocks that fill [`PART_BYTES`].
const PART_BLOCKS: usize = PART_BYTES / size_of::<Lanes>();
/// Number of places of panels that fill [`PART_BYTES`].
const PART_PANELS: usize = PART_BYTES / size_of::<Rows>();

/// The same place along the sum of a panel's rows.
type Rows = [f32; ROWS];

/// The operator `Conv1x1`. It computes in memory of the heap.
pub struct Conv1x1(pub &'static TensorHeap);

/// The operator `Linear`. It computes in memory of the heap.
pub struct Linear(pub &'static TensorHeap);

impl Operator for Conv1x1 {
    type Kernel<'attr> = ProductKernel;

    fn name(&self) -> &'static str {
        "Conv1x1"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        inputs()
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel(&self, node: &KernelContext<'_>) -> ort::Result<ProductKernel> {
        ProductKernel::new(Form::Conv1x1, self.0, node)
    }
}

impl Operator for Linear {
    type Kernel<'attr> = ProductKernel;

    fn name(&self) -> &'static str {
        "Linear"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        inputs()
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel(&self, node: &KernelContext<'_>) -> ort::Result<ProductKernel> {
        ProductKernel::new(Form::Linear, self.0, node)
    }
}

fn inputs() -> [OperatorInput; 4] {
    let float = TensorElementType::Float32;
    let (required, optional) = (OperatorInput::required, OperatorInput::optional);
    [required(float), required(float), optional(float), optional(float)]
}

/// Which of the two operators a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Conv1x1,
    Linear,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Conv1x1 => "Conv1x1",
            Self::Linear => "Linear",
        }
    }
}

pub struct ProductKernel {
    form: Form,
    heap: &'static TensorHeap,
    relu: bool,
}

impl ProductKernel {
    fn new(form: Form, heap: &'static TensorHeap, node: &KernelContext<'_>) -> ort::Result<Self> {
        let relu = node.get::<i64>("relu");
        let relu = relu.ok_or_else(|| ort::Error::new(format!("{}: the attribute `relu` is missing", form.name())))?;
        Ok(Self { form, heap, relu: relu != 0 })
    }
}

impl Kernel for ProductKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (x, weight) = (input(context, 0)?, input(context, 1)?);
        let (bias, sum) = (context.input(2)?, context.input(3)?);
        let (x, weight) = (x.try_extract_tensor::<f32>()?, weight.try_extract_tensor::<f32>()?);
        let bias = bias.as_ref().map(|bias| bias.try_extract_tensor::<f32>()).transpose()?.map(|(_, bias)| bias);
        let sum = sum.as_ref().map(|sum| sum.try_extract_tensor::<f32>()).transpose()?.map(|(_, sum)| sum);
        let (product, shape) = Product::new(self.form, (x.0, x.1), (weight.0, weight.1), bias, sum, self.relu)
            .map_err(|fault| ort::Error::new(format!("{}: {fault}", self.form.name())))?;
        let mut output = context.output(0, shape)?.ok_or_else(|| ort::Error::new("the output is missing"))?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        let scratch = self.heap.scratch(product.scratch_len());
        let mut scratch =
            scratch.ok_or_else(|| ort::Error::new(format!("{}: no memory is left to compute in", self.form.name())))?;
        product.run(context, output, &mut scratch)
    }
}

/// What is added to every value of a row or of a column of the result.
#[derive(Debug, Clone, Copy)]
enum Bias<'a> {
    None,
    OfRows(&'a [f32]),
    OfColumns(&'a [f32]),
}

/// Left · right + bias + sum, and its Relu: the operator's inputs, checked against each other, and its attribute.
#[derive(Debug)]
struct Product<'a> {
    form: Form,
    /// `[rows, depth]`.
    left: &'a [f32],
    /// `[depth, columns]`.
    right: &'a [f32],
    bias: Bias<'a>,
    /// `[rows, columns]`.
    sum: Option<&'a [f32]>,
    relu: bool,
    rows: usize,
    depth: usize,
    columns: usize,
}

impl<'a> Product<'a> {
    /// The product, and the shape of its result.
    fn new(
        form: Form,
        (x_shape, x): (&[i64], &'a [f32]),
        (weight_shape, weight): (&[i64], &'a [f32]),
        bias: Option<&'a [f32]>,
        sum: Option<&'a [f32]>,
        relu: bool,
    ) -> Result<(Self, Vec<usize>), String> {
        let side = |side: i64| side as usize;
        let misfit = || Err(format!("a weight {weight_shape:?} does not fit {x_shape:?}"));
        if x.is_empty() || weight.is_empty() {
            return misfit();
        }
        let (left, right, rows, depth, shape) = match (form, x_shape, weight_shape) {
            (Form::Conv1x1, &[1, channels, height, width], &[filters, of_weight] | &[filters, of_weight, 1, 1])
                if channels == of_weight =>
            {
                (weight, x, side(filters), side(channels), vec![1, side(filters), side(height), side(width)])
            }
            (Form::Conv1x1, &[channels, count], &[filters, of_weight] | &[filters, of_weight, 1, 1])
                if channels == of_weight =>
            {
                (weight, x, side(filters), side(channels), vec![side(filters), side(count)])
            }
            (Form::Linear, &[count, channels], &[of_weight, outputs]) if channels == of_weight => {
                (x, weight, side(count), side(channels), vec![side(count), side(outputs)])
            }
            _ => return misfit(),
        };
        let columns = right.len() / depth;
        let biased = if form == Form::Linear { columns } else { rows };
        if bias.is_some_and(|bias| bias.len() != biased) {
            return Err(format!("`bias` does not have {biased} values"));
        }
        if sum.is_some_and(|sum| sum.len() != rows * columns) {
            return Err(format!("`sum` is not {shape:?}"));
        }
        let bias = match bias {
            None => Bias::None,
            Some(bias) if form == Form::Linear => Bias::OfColumns(bias),
            Some(bias) => Bias::OfRows(bias),
        };
        Ok((Self { form, left, right, bias, sum, relu, rows, depth, columns }, shape))
    }

    /// Number of values of the weight's copy.
    fn scratch_len(&self) -> usize {
        match self.form {
            Form::Conv1x1 => self.rows.div_ceil(ROWS) * ROWS * self.depth,
            Form::Linear => self.columns.div_ceil(LANES) * LANES * self.depth,
        }
    }

    fn run(&self, pool: &impl Pool, output: &mut [f32], scratch: &mut [f32]) -> ort::Result<()> {
        match self.form {
            Form::Conv1x1 => self.run_by_columns(pool, output, scratch),
            Form::Linear => self.run_by_rows(pool, output, scratch),
        }
    }

    /// Copies the left matrix whole. Each task has some of the columns.
    fn run_by_columns(&self, pool: &impl Pool, output: &mut [f32], scratch: &mut [f32]) -> ort::Result<()> {
        let Self { depth, columns, .. } = *self;
        let copied = self.rows.div_ceil(ROWS * TASKS) * ROWS;
        fill_chunks(pool, scratch, copied * depth, |task, panels| {
            copy_panels(self.left, depth, task * copied, 0..depth, panels.as_chunks_mut().0);
        })?;
        let panels = scratch.as_chunks().0;
        let width = columns.div_ceil(TASKS).next_multiple_of(self.part_columns());
        let mut tasks: Vec<_> = (0..columns.div_ceil(width)).map(|_| Vec::with_capacity(self.rows)).collect();
        for row in output.chunks_exact_mut(columns) {
            for (task, values) in tasks.iter_mut().zip(row.chunks_mut(width)) {
                task.push(values);
            }
        }
        fill_each(pool, tasks.into_iter(), |task, output| multiply_columns(self, panels, task * width, output))
    }

    /// Copies the right matrix whole. Each task has some of the rows.
    fn run_by_rows(&self, pool: &impl Pool, output: &mut [f32], scratch: &mut [f32]) -> ort::Result<()> {
        let Self { depth, columns, .. } = *self;
        let copied = columns.div_ceil(LANES * TASKS) * LANES;
        fill_chunks(pool, scratch, copied * depth, |task, blocks| {
            copy_blocks(self.right, columns, task * copied, 0..depth, blocks.as_chunks_mut().0);
        })?;
        let blocks = scratch.as_chunks().0;
        let height = self.rows.div_ceil(TASKS).next_multiple_of(ROWS).min(self.part_rows());
        fill_chunks(pool, output, height * columns, |task, output| {
            let mut output: Vec<_> = output.chunks_exact_mut(columns).collect();
            multiply_rows(self, blocks, task * height, &mut output);
        })
    }

    /// The places along the sum, in the parts in which they are multiplied.
    fn parts(&self) -> impl Iterator<Item = Range<usize>> {
        let depth = self.depth;
        (0..depth).step_by(DEPTH).map(move |start| start..depth.min(start + DEPTH))
    }

    /// Number of columns whose blocks of one part fill [`PART_BYTES`].
    fn part_columns(&self) -> usize {
        PART_BLOCKS / self.depth.min(DEPTH) * LANES
    }

    /// Number of rows whose panels of one part fill [`PART_BYTES`].
    fn part_rows(&self) -> usize {
        PART_PANELS / self.depth.min(DEPTH) * ROWS
    }
}

/// Multiplies all rows, copied into `panels`, by the columns from `first` on that `output` has.
#[multiversion(targets = "simd")]
#[allow(clippy::large_stack_arrays, reason = "the part is of a size that every thread has room for")]
fn multiply_columns(product: &Product<'_>, panels: &[Rows], first: usize, output: &mut [&mut [f32]]) {
    let mut blocks = [[0.0; LANES]; PART_BLOCKS];
    let width = output[0].len();
    for start in (0..width).step_by(product.part_columns()) {
        let columns = start..width.min(start + product.part_columns());
        for places in product.parts() {
            let blocks = &mut blocks[..columns.len().div_ceil(LANES) * places.len()];
            copy_blocks_in(product.right, product.columns, first + start, places.clone(), blocks);
            let tile = Tile {
                panels: &panels[places.start..],
                panel_step: product.depth,
                blocks,
                block_step: places.len(),
                places,
                first_row: 0,
                first_column: first,
                columns: columns.clone(),
            };
            let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
            match (fused, target_cfg_f!(target_feature = "avx512f")) {
                (true, true) => multiply::<true, 2>(product, &tile, output),
                (true, false) => multiply::<true, 1>(product, &tile, output),
                (false, _) => multiply::<false, 1>(product, &tile, output),
            }
        }
    }
}

/// Multiplies the rows from `first` on that `output` has by all columns, copied into `blocks`.
#[multiversion(targets = "simd")]
#[allow(clippy::large_stack_arrays, reason = "the part is of a size that every thread has room for")]
fn multiply_rows(product: &Product<'_>, blocks: &[Lanes], first: usize, output: &mut [&mut [f32]]) {
    let mut panels = [[0.0; ROWS]; PART_PANELS];
    for places in product.parts() {
        let panels = &mut panels[..output.len().div_ceil(ROWS) * places.len()];
        copy_panels_in(product.left, product.depth, first, places.clone(), panels);
        let tile = Tile {
            panels,
            panel_step: places.len(),
            blocks: &blocks[places.start..],
            block_step: product.depth,
            places,
            first_row: first,
            first_column: 0,
            columns: 0..product.columns,
        };
        let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
        match (fused, target_cfg_f!(target_feature = "avx512f")) {
            (true, true) => multiply::<true, 2>(product, &tile, output),
            (true, false) => multiply::<true, 1>(product, &tile, output),
            (false, _) => multiply::<false, 1>(product, &tile, output),
        }
    }
}

/// Copies `places` of the rows of `left` from `first` on into panels. A row that is missing is the last one once more.
#[multiversion(targets = "simd")]
fn copy_panels(left: &[f32], depth: usize, first: usize, places: Range<usize>, panels: &mut [Rows]) {
    copy_panels_in(left, depth, first, places, panels);
}

/// Copies `places` of the columns of `right` from `first` on into blocks. Columns that are missing count as 0.
#[multiversion(targets = "simd")]
fn copy_blocks(right: &[f32], columns: usize, first: usize, places: Range<usize>, blocks: &mut [Lanes]) {
    copy_blocks_in(right, columns, first, places, blocks);
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn copy_panels_in(left: &[f32], depth: usize, first: usize, places: Range<usize>, panels: &mut [Rows]) {
    let last = left.len() / depth - 1;
    for (index, panel) in panels.chunks_exact_mut(places.len()).enumerate() {
        let rows: [&[f32]; ROWS] = std::array::from_fn(|row| {
            let row = last.min(first + index * ROWS + row);
            &left[row * depth..][places.clone()][..panel.len()]
        });
        for (place, values) in panel.iter_mut().enumerate() {
            *values = rows.map(|row| row[place]);
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn copy_blocks_in(right: &[f32], columns: usize, first: usize, places: Range<usize>, blocks: &mut [Lanes]) {
    let count = places.len();
    let rows = right[places.start * columns..].chunks_exact(columns);
    for (place, row) in rows.take(count).enumerate() {
        for (values, block) in row[first..].chunks(LANES).zip(blocks.chunks_exact_mut(count)) {
            block[place] = lanes(values);
        }
    }
}

/// A part of the left matrix and one of the right, laid out to be multiplied.
struct Tile<'a> {
    panels: &'a [Rows],
    /// Number of places from one panel to the next.
    panel_step: usize,
    blocks: &'a [Lanes],
    /// Number of places from one block to the next.
    block_step: usize,
    /// Which places along the sum they have.
    places: Range<usize>,
    /// The first row that the panels have, counted in the whole matrix.
    first_row: usize,
    /// The column that the output's rows begin with, counted in the whole matrix.
    first_column: usize,
    /// The columns that the blocks have, counted in the output.
    columns: Range<usize>,
}

/// Adds the tile's products to the rows of `output`, which its first part begins anew and its last one finishes. `FUSED`
/// says whether the processor fuses a product with its sum, and `BLOCKS` how many blocks are multiplied side by side.
#[inline(always)]
#[allow(clippy::inline_always)]
fn multiply<const FUSED: bool, const BLOCKS: usize>(product: &Product<'_>, tile: &Tile<'_>, output: &mut [&mut [f32]]) {
    let blocks = tile.columns.len().div_ceil(LANES);
    let at_once = PART_BLOCKS / tile.places.len();
    for first in (0..blocks).step_by(at_once) {
        let end = blocks.min(first + at_once);
        let whole = end - (end - first) % BLOCKS;
        for (panel, output) in output.chunks_mut(ROWS).enumerate() {
            for block in (first..whole).step_by(BLOCKS) {
                multiply_blocks::<FUSED, BLOCKS>(product, tile, panel, block, output);
            }
            for block in whole..end {
                multiply_blocks::<FUSED, 1>(product, tile, panel, block, output);
            }
        }
    }
}

/// Does so for one panel, whose rows `output` has, and for `BLOCKS` blocks from `block` on.
#[inline(always)]
#[allow(clippy::inline_always)]
fn multiply_blocks<const FUSED: bool, const BLOCKS: usize>(
    product: &Product<'_>,
    tile: &Tile<'_>,
    panel: usize,
    block: usize,
    output: &mut [&mut [f32]],
) {
    let count = tile.places.len();
    let left = &tile.panels[panel * tile.panel_step..][..count];
    let right = std::array::from_fn(|next| &tile.blocks[(block + next) * tile.block_step..][..count]);
    let columns = |next: usize| {
        let column = tile.columns.start + (block + next) * LANES;
        column..tile.columns.end.min(column + LANES)
    };
    let mut sums = [[[0.0; LANES]; ROWS]; BLOCKS];
    if tile.places.start > 0 {
        for (next, sums) in sums.iter_mut().enumerate() {
            for (sums, output) in sums.iter_mut().zip(&*output) {
                *sums = lanes(&output[columns(next)]);
            }
        }
    }
    add_products::<FUSED, ROWS, BLOCKS>(left, right, &mut sums);
    for (next, sums) in sums.iter_mut().enumerate() {
        let columns = columns(next);
        if tile.places.end == product.depth {
            let row = tile.first_row + panel * ROWS;
            product.finish(row, tile.first_column + columns.start, columns.len(), &mut sums[..output.len()]);
        }
        for (sums, output) in sums.iter().zip(output.iter_mut()) {
            let output = &mut output[columns.clone()];
            match output.first_chunk_mut() {
                Some(whole) => *whole = *sums,
                None => output.copy_from_slice(&sums[..output.len()]),
            }
        }
    }
}

/// Up to [`LANES`] values, and 0 for those that are missing.
#[inline(always)]
#[allow(clippy::inline_always)]
fn lanes(values: &[f32]) -> Lanes {
    values.first_chunk().copied().unwrap_or_else(|| {
        let mut lanes = [0.0; LANES];
        lanes[..values.len()].copy_from_slice(values);
        lanes
    })
}

impl Product<'_> {
    /// Adds bias and sum to values of rows from `row` on and of `width` columns from `column` on, and rectifies them if
    /// that is asked.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn finish(&self, row: usize, column: usize, width: usize, values: &mut [Lanes]) {
        let of_columns = match self.bias {
            Bias::OfColumns(bias) => lanes(&bias[column..column + width]),
            Bias::None | Bias::OfRows(_) => [0.0; LANES],
        };
        let least = if self.relu { 0.0 } else { f32::NEG_INFINITY };
        for (row, values) in (row..).zip(values) {
            let of_row = match self.bias {
                Bias::OfRows(bias) => bias[row],
                Bias::None | Bias::OfColumns(_) => 0.0,
            };
            let sum = self.sum.map_or([0.0; LANES], |sum| lanes(&sum[row * self.columns + column..][..width]));
            for lane in 0..LANES {
                let value = values[lane] + (of_row + of_columns[lane]) + sum[lane];
                values[lane] = if value < least { least } else { value };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::kernel::pools::{Backwards, Threads};

    #[derive(Debug, Clone, Copy)]
    struct Case {
        form: Form,
        rows: usize,
        depth: usize,
        columns: usize,
        relu: bool,
        bias: bool,
        sum: bool,
        seed: u64,
    }

    impl Case {
        /// Left, right, bias and sum, of values from -1 to 1.
        fn values(&self) -> [Vec<f32>; 4] {
            let mut chance = fastrand::Rng::with_seed(self.seed);
            let biased = if self.form == Form::Linear { self.columns } else { self.rows };
            let counts = [self.rows * self.depth, self.depth * self.columns, biased, self.rows * self.columns];
            counts.map(|count| (0..count).map(|_| chance.f32() * 2.0 - 1.0).collect())
        }

        /// Runs the operator on `pool`, in memory that is full of NaN at first.
        fn run(&self, pool: &impl Pool) -> Vec<f32> {
            let [left, right, bias, sum] = self.values();
            let [rows, depth, columns] = [self.rows, self.depth, self.columns].map(|side| side as i64);
            let (left, right) = ((&[rows, depth][..], &left[..]), (&[depth, columns][..], &right[..]));
            let (x, weight) = if self.form == Form::Linear { (left, right) } else { (right, left) };
            let (bias, sum) = (self.bias.then_some(&bias[..]), self.sum.then_some(&sum[..]));
            let (product, shape) = Product::new(self.form, x, weight, bias, sum, self.relu).unwrap();
            assert_eq!(shape, [self.rows, self.columns]);
            let mut output = vec![f32::NAN; self.rows * self.columns];
            product.run(pool, &mut output, &mut vec![f32::NAN; product.scratch_len()]).unwrap();
            output
        }

        /// Computes the definition in double precision.
        fn defined(&self) -> Vec<f64> {
            let [left, right, bias, sum] = self.values();
            let mut output = Vec::new();
            for (row, column) in (0..self.rows).flat_map(|row| (0..self.columns).map(move |column| (row, column))) {
                let products = (0..self.depth).map(|place| {
                    f64::from(left[row * self.depth + place]) * f64::from(right[place * self.columns + column])
                });
                let mut value: f64 = products.sum();
                if self.bias {
                    value += f64::from(bias[if self.form == Form::Linear { column } else { row }]);
                }
                if self.sum {
                    value += f64::from(sum[row * self.columns + column]);
                }
                output.push(if self.relu { value.max(0.0) } else { value });
            }
            output
        }

        fn check(&self) {
            let ours = self.run(&Backwards);
            let scale = (self.depth as f64).sqrt();
            for (index, (ours, right)) in ours.iter().zip(self.defined()).enumerate() {
                assert!((f64::from(*ours) - right).abs() < 1e-5 * scale, "{self:?}: {ours} at {index} is not {right}");
            }
            assert_eq!(ours, self.run(&Threads), "{self:?}");
        }
    }

    prop_compose! {
        fn cases()(
            form in prop_oneof![Just(Form::Conv1x1), Just(Form::Linear)],
            (rows, depth, columns) in (1_usize..90, 1_usize..70, 1_usize..120),
            (relu, bias, sum, seed) in any::<(bool, bool, bool, u64)>(),
        ) -> Case {
            Case { form, rows, depth, columns, relu, bias, sum, seed }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_the_definition_whatever_the_order_of_tasks(case in cases()) {
            case.check();
        }
    }

    #[test]
    fn parts_join_without_a_seam() {
        // The sum has two parts, the second of another length, and there are more rows and columns than fit one part.
        let case = Case {
            form: Form::Linear,
            rows: 131,
            depth: 300,
            columns: 133,
            relu: true,
            bias: true,
            sum: true,
            seed: 1,
        };
        for form in [Form::Linear, Form::Conv1x1] {
            Case { form, ..case }.check();
        }
    }

    #[test]
    fn a_map_and_a_weight_of_a_convolution_are_taken() {
        let (x, weight) = ([1.0, 2.0, 3.0, 4.0], [10.0, 1.0, 0.5, -1.0]);
        let run = |form, x_shape: &[i64], weight_shape: &[i64]| {
            let (product, shape) =
                Product::new(form, (x_shape, &x), (weight_shape, &weight), None, None, false).unwrap();
            let mut output = vec![0.0; product.rows * product.columns];
            product.run(&Backwards, &mut output, &mut vec![0.0; product.scratch_len()]).unwrap();
            (shape, output)
        };
        let expected = [13.0, 24.0, -2.5, -3.0];
        assert_eq!(run(Form::Conv1x1, &[1, 2, 1, 2], &[2, 2, 1, 1]), (vec![1, 2, 1, 2], expected.to_vec()));
        assert_eq!(run(Form::Conv1x1, &[2, 2], &[2, 2]), (vec![2, 2], expected.to_vec()));
        assert_eq!(run(Form::Linear, &[2, 2], &[2, 2]), (vec![2, 2], vec![11.0, -1.0, 32.0, -1.0]));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let refused = |form, x: &[i64], weight: &[i64], bias: usize, sum: usize| {
            let [x_values, weight_values] = [x, weight].map(|shape| vec![0.0; shape.iter().product::<i64>() as usize]);
            let [bias, sum] = [bias, sum].map(|count| (count > 0).then(|| vec![0.0; count]));
            let (x, weight) = ((x, &x_values[..]), (weight, &weight_values[..]));
            Product::new(form, x, weight, bias.as_deref(), sum.as_deref(), true).err().unwrap()
        };
        assert!(refused(Form::Conv1x1, &[1, 2, 4, 4], &[3, 5], 0, 0).contains("does not fit"));
        assert!(refused(Form::Conv1x1, &[2, 2, 4, 4], &[3, 2], 0, 0).contains("does not fit"));
        assert!(refused(Form::Conv1x1, &[1, 2, 4, 4], &[3, 2, 3, 3], 0, 0).contains("does not fit"));
        assert!(refused(Form::Conv1x1, &[1, 2, 0, 4], &[3, 2], 0, 0).contains("does not fit"));
        assert!(refused(Form::Linear, &[7, 2], &[3, 2], 0, 0).contains("does not fit"));
        assert!(refused(Form::Linear, &[7, 2], &[2, 3], 7, 0).contains("3 values"));
        assert!(refused(Form::Conv1x1, &[1, 2, 4, 4], &[3, 2], 2, 0).contains("3 values"));
        assert!(refused(Form::Conv1x1, &[1, 2, 4, 4], &[3, 2], 3, 16).contains("`sum`"));
    }
}
