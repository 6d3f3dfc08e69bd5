//! Group normalisation (arXiv 1803.08494) of a map, as the custom operator `m2fp::GroupNorm`, version 1.
//!
//! | | | |
//! |---|---|---|
//! | input `x` | float or uint8 `[1, C, H, W]` | |
//! | input `scale` | float, C values | |
//! | input `bias` | float, C values | |
//! | attribute `groups` | int | it divides C |
//! | attribute `epsilon` | float | |
//! | attribute `relu` | int | 1: negative results become 0 |
//! | output | float `[1, C, H, W]` | |
//!
//! With the mean and the variance over all pixels of a group of C / `groups` channels, the output for its channel c is
//! ```text
//! output = (x − mean) / √(variance + epsilon) · scale[c] + bias[c]
//! ```
//! The bytes of a quantised tensor differ from its real values only in unit and origin. Normalisation removes both, and
//! only epsilon has to be given in the square of the unit. With standard operators the map is written four times; here
//! it is written once and read twice.

use multiversion::multiversion;
use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::kernel::{fill_chunks, input};

/// Number of values that are added up in single precision at a time. So many fit into the first-level cache.
const BLOCK: usize = 1024;

/// The operator for one type of `x`.
pub(crate) struct GroupNorm(pub TensorElementType);

impl Operator for GroupNorm {
    type Kernel<'attr> = GroupNormKernel;

    fn name(&self) -> &'static str {
        "GroupNorm"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [self.0, TensorElementType::Float32, TensorElementType::Float32].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel(&self, node: &KernelContext<'_>) -> ort::Result<GroupNormKernel> {
        let missing = |what: &str| ort::Error::new(format!("GroupNorm: the attribute `{what}` is missing"));
        let groups = node.get::<i64>("groups").ok_or_else(|| missing("groups"))?;
        Ok(GroupNormKernel {
            groups: usize::try_from(groups).map_err(|_| ort::Error::new("GroupNorm: `groups` is negative"))?,
            epsilon: node.get("epsilon").ok_or_else(|| missing("epsilon"))?,
            relu: node.get::<i64>("relu").ok_or_else(|| missing("relu"))? != 0,
        })
    }
}

pub(crate) struct GroupNormKernel {
    groups: usize,
    epsilon: f32,
    relu: bool,
}

impl Kernel for GroupNormKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (x, scale, bias) = (input(context, 0)?, input(context, 1)?, input(context, 2)?);
        let (scale, bias) = (scale.try_extract_tensor::<f32>()?.1, bias.try_extract_tensor::<f32>()?.1);
        if let Ok((shape, x)) = x.try_extract_tensor::<u8>() {
            return self.run(context, shape, x, scale, bias);
        }
        let (shape, x) = x.try_extract_tensor::<f32>()?;
        self.run(context, shape, x, scale, bias)
    }
}

impl GroupNormKernel {
    fn run<T: Value>(
        &self,
        context: &ComputeContext,
        shape: &[i64],
        x: &[T],
        scale: &[f32],
        bias: &[f32],
    ) -> ort::Result<()> {
        let norm = self.norm(shape, x, scale, bias).map_err(ort::Error::new)?;
        let mut output = context.output(0, shape.to_vec())?.ok_or_else(|| ort::Error::new("the output is missing"))?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        fill_chunks(context, output, norm.group_len(), |group, output| norm.fill(group, output))
    }

    fn norm<'a, T: Value>(
        &self,
        shape: &[i64],
        x: &'a [T],
        scale: &'a [f32],
        bias: &'a [f32],
    ) -> Result<Norm<'a, T>, String> {
        let Self { groups, epsilon, relu } = *self;
        let &[1, channels, _, _] = shape else {
            return Err("GroupNorm: `x` is not [1, C, H, W]".to_owned());
        };
        let channels = channels as usize;
        if x.is_empty() || groups == 0 || !channels.is_multiple_of(groups) {
            return Err(format!("GroupNorm: `x` is {shape:?}, which has no {groups} equal groups"));
        }
        if scale.len() != channels || bias.len() != channels {
            return Err("GroupNorm: `scale` or `bias` is not one value a channel".to_owned());
        }
        Ok(Norm { x, scale, bias, groups, epsilon, relu })
    }
}

/// A value of `x`.
trait Value: Copy + Into<f32> + Sync {}

impl<T: Copy + Into<f32> + Sync> Value for T {}

/// The operator's inputs, checked against each other, and its attributes.
struct Norm<'a, T> {
    x: &'a [T],
    scale: &'a [f32],
    bias: &'a [f32],
    groups: usize,
    epsilon: f32,
    relu: bool,
}

impl<T: Value> Norm<'_, T> {
    /// Number of values in a group.
    fn group_len(&self) -> usize {
        self.x.len() / self.groups
    }

    /// Writes the group with the index `group` to `output`.
    fn fill(&self, group: usize, output: &mut [f32]) {
        let x = &self.x[group * output.len()..][..output.len()];
        let Moments { count, mean, squares } = Moments::of(x);
        let spread = (squares / count + f64::from(self.epsilon)).sqrt();
        // The mean is subtracted first. Otherwise two large products would cancel where it is far from 0.
        let near = mean as f32;
        let rest = mean - f64::from(near);
        let least = if self.relu { 0.0 } else { f32::NEG_INFINITY };
        let channels = self.scale.len() / self.groups;
        let plane = output.len() / channels;
        let affine = self.scale.iter().zip(self.bias).skip(group * channels);
        for ((x, output), (&scale, &bias)) in x.chunks_exact(plane).zip(output.chunks_exact_mut(plane)).zip(affine) {
            let factor = f64::from(scale) / spread;
            scale_and_shift(x, output, near, factor as f32, (f64::from(bias) - rest * factor) as f32, least);
        }
    }
}

/// Count and mean of some values, and the sum of their squared distances from it.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn of<T: Value>(values: &[T]) -> Self {
        values.chunks(BLOCK).map(Self::of_block).fold(Self::default(), Self::plus)
    }

    fn of_block<T: Value>(values: &[T]) -> Self {
        let count = values.len() as f64;
        // `near` is almost the mean. Squares of distances from it lose nothing, however far the mean is from 0.
        let near = (distances(values, 0.0).0 / count) as f32;
        let (sum, squares) = distances(values, near);
        Self { count, mean: f64::from(near) + sum / count, squares: squares - sum * sum / count }
    }

    /// The moments of both sets of values together (Chan and others, 1979).
    fn plus(self, other: Self) -> Self {
        let count = self.count + other.count;
        let (distance, share) = (other.mean - self.mean, other.count / count);
        Self {
            count,
            mean: self.mean + distance * share,
            squares: self.squares + other.squares + distance * distance * self.count * share,
        }
    }
}

/// The sum of the values' distances from `from`, and the sum of the squares of these distances.
#[multiversion(targets = "simd")]
fn distances<T: Value>(values: &[T], from: f32) -> (f64, f64) {
    const LANES: usize = 32;
    let (mut sums, mut squares) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let mut add = |values: &[T]| {
        for ((sum, square), &value) in sums.iter_mut().zip(&mut squares).zip(values) {
            let distance = value.into() - from;
            *sum += distance;
            *square += distance * distance;
        }
    };
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        add(chunk);
    }
    add(rest);
    let total = |lanes: [f32; LANES]| lanes.iter().map(|&lane| f64::from(lane)).sum();
    (total(sums), total(squares))
}

/// Writes (`x` − `centre`) · `factor` + `shift` to `output`, but `least` where the result would be less than that.
#[multiversion(targets = "simd")]
fn scale_and_shift<T: Value>(x: &[T], output: &mut [f32], centre: f32, factor: f32, shift: f32, least: f32) {
    for (output, &x) in output.iter_mut().zip(x) {
        let value = (x.into() - centre) * factor + shift;
        *output = if value < least { least } else { value };
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Normalises `x` as the operator does, group by group.
    fn norm<T: Value>(kernel: &GroupNormKernel, shape: &[i64], x: &[T], scale: &[f32], bias: &[f32]) -> Vec<f32> {
        let norm = kernel.norm(shape, x, scale, bias).unwrap();
        let mut output = vec![f32::NAN; x.len()];
        for (group, output) in output.chunks_mut(norm.group_len()).enumerate() {
            norm.fill(group, output);
        }
        output
    }

    /// Computes the definition, word for word, in double precision.
    fn defined<T: Value>(kernel: &GroupNormKernel, x: &[T], scale: &[f32], bias: &[f32]) -> Vec<f64> {
        let x: Vec<f64> = x.iter().map(|&x| f64::from(x.into())).collect();
        let (plane, group) = (x.len() / scale.len(), x.len() / kernel.groups);
        let one = |i: usize| {
            let values = &x[i / group * group..][..group];
            let mean = values.iter().sum::<f64>() / group as f64;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / group as f64;
            let [scale, bias] = [scale, bias].map(|values| f64::from(values[i / plane]));
            let value = (x[i] - mean) / (variance + f64::from(kernel.epsilon)).sqrt() * scale + bias;
            if kernel.relu { value.max(0.0) } else { value }
        };
        (0..x.len()).map(one).collect()
    }

    fn error(ours: &[f32], theirs: &[f64]) -> f64 {
        let distance: f64 = ours.iter().zip(theirs).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum();
        let length: f64 = theirs.iter().map(|b| b * b).sum();
        (distance / length.max(1e-30)).sqrt()
    }

    proptest! {
        #[test]
        fn it_is_the_definition(
            (groups, of_group, height, width) in (1_usize..4, 1_usize..4, 1_usize..40, 1_usize..40),
            (centre, spread) in (-50.0_f32..50.0, 0.1_f32..10.0),
            relu: bool,
            bytes in vec(any::<u8>(), 3 * 3 * 39 * 39),
            (scale, bias) in (vec(-2.0_f32..2.0, 9), vec(-2.0_f32..2.0, 9)),
        ) {
            let channels = groups * of_group;
            let (scale, bias) = (&scale[..channels], &bias[..channels]);
            let bytes = &bytes[..channels * height * width];
            let shape = [1, channels as i64, height as i64, width as i64];
            let kernel = GroupNormKernel { groups, epsilon: 1e-5, relu };
            let floats: Vec<f32> = bytes.iter().map(|&byte| centre + spread * (f32::from(byte) / 128.0 - 1.0)).collect();
            // In a group of one pixel or of almost equal ones, rounding errors are divided by √epsilon. Networks have
            // no such groups.
            prop_assume!(bytes.chunks(of_group * height * width).all(|group| group.iter().any(|&b| b.abs_diff(group[0]) > 8)));
            let found = error(&norm(&kernel, &shape, &floats, scale, bias), &defined(&kernel, &floats, scale, bias));
            prop_assert!(found < 1e-5, "floats: {found}");
            let found = error(&norm(&kernel, &shape, bytes, scale, bias), &defined(&kernel, bytes, scale, bias));
            prop_assert!(found < 1e-5, "bytes: {found}");
        }
    }

    #[test]
    fn a_mean_far_from_zero_leaves_the_variance() {
        let values: Vec<f32> = (0..50_000_u16).map(|i| 1000.0 + f32::from(i % 100) / 64.0).collect();
        let Moments { count, mean, squares } = Moments::of(&values);
        let exact = (100.0 * 100.0 - 1.0) / 12.0 / 64.0 / 64.0;
        assert!((squares / count / exact - 1.0).abs() < 1e-6, "{}", squares / count / exact);
        assert!((mean - 1000.0 - 49.5 / 64.0).abs() < 1e-6, "{mean}");
    }

    #[test]
    fn equal_values_become_the_bias_and_shapes_that_do_not_fit_are_refused() {
        let kernel = GroupNormKernel { groups: 2, epsilon: 1e-5, relu: false };
        assert_eq!(norm(&kernel, &[1, 2, 1, 2], &[7_u8, 7, 9, 9], &[1.0, 2.0], &[3.0, -4.0]), [3.0, 3.0, -4.0, -4.0]);
        let refused = |shape: &[i64], x: &[f32], scale: &[f32]| kernel.norm(shape, x, scale, &[0.0; 2]).err().unwrap();
        assert!(refused(&[2, 2], &[0.0; 4], &[1.0; 2]).contains("[1, C, H, W]"));
        assert!(refused(&[1, 3, 1, 1], &[0.0; 3], &[1.0; 3]).contains("2 equal groups"));
        assert!(refused(&[1, 2, 1, 1], &[0.0; 2], &[1.0; 3]).contains("one value a channel"));
    }
}
