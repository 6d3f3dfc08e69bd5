//! A step of a feature pyramid, as the custom operator `m2fp::AddResized`, version 1. It resizes a coarse map to the
//! size of a fine one and adds it to that, without ever holding the resized map. At M2FP's finest level that map would
//! take 47 MB.
//!
//! | | | |
//! |---|---|---|
//! | input `fine` | float `[1, C, H, W]` | |
//! | input `coarse` | float `[1, C, h, w]` | |
//! | output | float `[1, C, H, W]` | `fine` + `coarse` resized |
//!
//! The map is resized as ONNX's `Resize` does it with `mode=linear` and `half_pixel`: a pixel's centre lies at
//! `(index + ½) · coarse side / fine side − ½` of the coarse map, clamped to the inside of it.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::kernel::{fill_chunks, input};

pub(crate) struct AddResized;

impl Operator for AddResized {
    type Kernel<'attr> = AddResizedKernel;

    fn name(&self) -> &'static str {
        "AddResized"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [TensorElementType::Float32; 2].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel(&self, _: &KernelContext<'_>) -> ort::Result<AddResizedKernel> {
        Ok(AddResizedKernel)
    }
}

pub(crate) struct AddResizedKernel;

impl Kernel for AddResizedKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (fine, coarse) = (input(context, 0)?, input(context, 1)?);
        let (fine_shape, fine) = fine.try_extract_tensor::<f32>()?;
        let (coarse_shape, coarse) = coarse.try_extract_tensor::<f32>()?;
        let (&[1, channels, height, width], &[1, coarse_channels, coarse_height, coarse_width]) =
            (&fine_shape[..], &coarse_shape[..])
        else {
            return Err(ort::Error::new("AddResized: an input is not [1, C, H, W]"));
        };
        if channels != coarse_channels || fine.is_empty() || coarse.is_empty() {
            return Err(ort::Error::new("AddResized: the maps do not fit each other"));
        }
        let rows = taps(height as usize, coarse_height as usize);
        let columns = taps(width as usize, coarse_width as usize);
        let mut output =
            context.output(0, fine_shape.to_vec())?.ok_or_else(|| ort::Error::new("the output is missing"))?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        let [plane, coarse_plane] = [height * width, coarse_height * coarse_width].map(|area| area as usize);
        fill_chunks(context, output, plane, |channel, output| {
            let fine = &fine[channel * plane..][..plane];
            let coarse = &coarse[channel * coarse_plane..][..coarse_plane];
            add_plane(output, fine, coarse, coarse_width as usize, &rows, &columns);
        })
    }
}

/// The two coarse indices that a fine one lies between, and the share of the second.
#[derive(Debug, Clone, Copy)]
struct Tap {
    first: usize,
    second: usize,
    share: f32,
}

fn taps(fine: usize, coarse: usize) -> Vec<Tap> {
    let last = (coarse - 1) as f32;
    (0..fine)
        .map(|index| {
            let place = ((index as f32 + 0.5) * coarse as f32 / fine as f32 - 0.5).clamp(0.0, last);
            let first = place as usize;
            Tap { first, second: (first + 1).min(coarse - 1), share: place - first as f32 }
        })
        .collect()
}

fn add_plane(output: &mut [f32], fine: &[f32], coarse: &[f32], coarse_width: usize, rows: &[Tap], columns: &[Tap]) {
    let mut row = vec![0.0; coarse_width];
    let lines = output.chunks_exact_mut(columns.len()).zip(fine.chunks_exact(columns.len()));
    for (tap, (output, fine)) in rows.iter().zip(lines) {
        let above = &coarse[tap.first * coarse_width..][..coarse_width];
        let below = &coarse[tap.second * coarse_width..][..coarse_width];
        for ((mixed, above), below) in row.iter_mut().zip(above).zip(below) {
            *mixed = above + (below - above) * tap.share;
        }
        for ((output, fine), tap) in output.iter_mut().zip(fine).zip(columns) {
            *output = fine + row[tap.first] + (row[tap.second] - row[tap.first]) * tap.share;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubling_weighs_neighbours_by_quarters() {
        let mut output = vec![0.0; 4];
        add_plane(&mut output, &[10.0; 4], &[0.0, 4.0], 2, &taps(1, 1), &taps(4, 2));
        assert_eq!(output, [10.0, 11.0, 13.0, 14.0]);
    }

    #[test]
    fn a_side_of_one_is_repeated_and_the_same_side_is_copied() {
        let mut output = vec![0.0; 6];
        add_plane(&mut output, &[1.0; 6], &[5.0, 7.0], 2, &taps(3, 1), &taps(2, 2));
        assert_eq!(output, [6.0, 8.0, 6.0, 8.0, 6.0, 8.0]);
    }
}
