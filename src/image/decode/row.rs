//! The rows that a decoder gives: the sink that takes them, and the conversion of other layouts of pixels to RGB.

use crate::error::{Error, Result};

/// A row of pixels.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// RGB, width × 3 bytes.
    pub rgb: &'a [u8],
    /// How opaque each pixel is, width bytes, if the photo has alpha.
    pub alpha: Option<&'a [u8]>,
}

/// Takes the next stored row.
pub(super) type RowSink<'a> = &'a mut dyn FnMut(Row<'_>) -> Result<()>;

/// Bytes of a pixel.
pub(super) const RGB: usize = 3;

pub(super) fn too_few_rows() -> Error {
    undecodable("it ends before its last row")
}

pub(super) fn undecodable(detail: impl Into<String>) -> Error {
    Error::Undecodable { detail: detail.into() }
}

/// Separates pixels of `N` samples, the last of which is alpha, into colours and alpha.
pub(super) fn apart<const N: usize>(pixels: &[u8], colors: &mut [u8], alpha: &mut [u8]) {
    let pixels = pixels.as_chunks::<N>().0.iter();
    for ((pixel, colors), alpha) in pixels.zip(colors.chunks_exact_mut(N - 1)).zip(alpha) {
        colors.copy_from_slice(&pixel[..N - 1]);
        *alpha = pixel[N - 1];
    }
}

/// Divides colours by the alpha that they were multiplied with, as Pillow does (`src/libImaging/Unpack.c`).
pub(super) fn dissociate(colors: &mut [u8], alpha: &[u8], samples: usize) {
    for (color, &alpha) in colors.chunks_exact_mut(samples).zip(alpha) {
        for sample in color {
            *sample = match alpha {
                0 => 0,
                _ => (u32::from(*sample) * 255 / u32::from(alpha)).min(255) as u8,
            };
        }
    }
}

/// Pillow's `cmyk2rgb` (`src/libImaging/Convert.c`), for samples whose 0 means no ink.
pub(super) fn rgb_of_cmyk(pixels: &[u8], out: &mut [u8]) {
    for (pixel, out) in pixels.chunks_exact(4).zip(out.chunks_exact_mut(RGB)) {
        let light = 255 - u32::from(pixel[3]);
        for (ink, out) in pixel.iter().zip(out) {
            let product = u32::from(*ink) * light + 128;
            *out = (light - (((product >> 8) + product) >> 8)) as u8;
        }
    }
}
