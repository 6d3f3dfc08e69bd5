//! Stored rows on their way from a decoder: the sink that takes them, and other layouts of pixels as RGB.

use crate::error::{Error, Result};

/// Takes the next stored row: RGB, width × 3 bytes.
pub(super) type RowSink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// Bytes of a pixel.
pub(super) const RGB: usize = 3;

pub(super) fn too_few_rows() -> Error {
    undecodable("it ends before its last row")
}

pub(super) fn undecodable(detail: impl Into<String>) -> Error {
    Error::Undecodable { detail: detail.into() }
}

/// Pixels of `stride` bytes whose first three are red, green and blue.
pub(super) fn rgb_of(pixels: &[u8], stride: usize, out: &mut [u8]) {
    for (pixel, out) in pixels.chunks_exact(stride).zip(out.chunks_exact_mut(RGB)) {
        out.copy_from_slice(&pixel[..RGB]);
    }
}

/// Pixels of `stride` bytes whose first is grey.
pub(super) fn rgb_of_grey(pixels: &[u8], stride: usize, out: &mut [u8]) {
    for (pixel, out) in pixels.chunks_exact(stride).zip(out.chunks_exact_mut(RGB)) {
        out.fill(pixel[0]);
    }
}

/// Pillow's `cmyk2rgb` (`src/libImaging/Convert.c`) for 0 = no ink.
pub(super) fn rgb_of_cmyk(pixels: &[u8], out: &mut [u8]) {
    for (pixel, out) in pixels.chunks_exact(4).zip(out.chunks_exact_mut(RGB)) {
        let light = 255 - u32::from(pixel[3]);
        for (ink, out) in pixel.iter().zip(out) {
            let product = u32::from(*ink) * light + 128;
            *out = (light - (((product >> 8) + product) >> 8)) as u8;
        }
    }
}
