//! The photo with the parts' colours laid over it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Result};
use crate::geometry::Size;
use crate::image::Rgb8;
use crate::parsing::Band;

/// The greatest long side of an overlay, in pixels.
pub(crate) const MAX_SIDE: u32 = 2048;

/// The JPEG quality, out of 100.
const QUALITY: f32 = 90.0;

/// The overlay's size for a photo.
#[must_use]
pub fn overlay_size(photo: Size) -> Size {
    photo.fit_within(MAX_SIDE)
}

/// The label map at the overlay's size. Each overlay pixel has the label of the photo pixel under its centre.
#[derive(Debug)]
pub struct OverlayLabels {
    photo: Size,
    size: Size,
    /// The photo column for each overlay column.
    columns: Vec<u32>,
    /// The overlay rows taken so far.
    labels: Vec<u8>,
    next: u32,
}

impl OverlayLabels {
    #[must_use]
    pub fn new(photo: Size) -> Self {
        let size = overlay_size(photo);
        Self {
            photo,
            size,
            columns: (0..size.width).map(|x| under_centre(x, size.width, photo.width)).collect(),
            labels: Vec::with_capacity(size.area() as usize),
            next: 0,
        }
    }

    /// Takes the next band.
    pub fn push(&mut self, band: &Band<'_>) {
        while self.next < self.size.height {
            let y = under_centre(self.next, self.size.height, self.photo.height);
            if y >= band.y + band.rows {
                break;
            }
            let row = band.label_row((y - band.y) as usize);
            self.labels.extend(self.columns.iter().map(|&x| row[x as usize]));
            self.next += 1;
        }
    }

    /// Blends the classes' colours into `photo`, which must have the overlay's size, and encodes it as a JPEG. Pixels
    /// of `background` stay as they are; elsewhere the colour has the opacity `alpha`, 0–1.
    ///
    /// # Errors
    /// `Internal` when the sizes differ, bands are missing or the encoder fails.
    pub fn encode(&self, photo: &Rgb8, palette: &[[u8; 3]], background: u8, alpha: f32) -> Result<Vec<u8>> {
        let width = self.size.width as usize;
        if photo.size != self.size || self.next != self.size.height {
            return Err(Error::internal(format!("an overlay of {} over a photo of {}", self.size, photo.size)));
        }
        let blend = Blend::new(palette, background, alpha);
        // mozjpeg reports its errors by unwinding.
        let encoded = catch_unwind(AssertUnwindSafe(|| -> std::io::Result<Vec<u8>> {
            let mut jpeg = start(self.size)?;
            let mut row = vec![0; width * 3];
            for (pixels, labels) in photo.data.chunks_exact(width * 3).zip(self.labels.chunks_exact(width)) {
                blend.row(pixels, labels, &mut row);
                jpeg.write_scanlines(&row)?;
            }
            jpeg.finish()
        }));
        match encoded {
            Ok(Ok(file)) => Ok(file),
            Ok(Err(error)) => Err(Error::internal(error)),
            Err(_) => Err(Error::internal("the JPEG encoder failed")),
        }
    }
}

/// Starts a baseline encoder, because progressive or optimised coding would hold every coefficient, 3 bytes for each
/// pixel.
fn start(size: Size) -> std::io::Result<mozjpeg::compress::CompressStarted<Vec<u8>>> {
    let mut jpeg = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    jpeg.set_fastest_defaults();
    jpeg.set_size(size.width as usize, size.height as usize);
    jpeg.set_optimize_coding(false);
    jpeg.set_quality(QUALITY);
    jpeg.start_compress(Vec::new())
}

/// The photo's coordinate under the centre of the overlay's coordinate `at`.
fn under_centre(at: u32, overlay: u32, photo: u32) -> u32 {
    ((2 * u64::from(at) + 1) * u64::from(photo) / (2 * u64::from(overlay))) as u32
}

/// For each class `add` and `keep`, in units of 1/256: a blended value is `photo · keep + add`.
struct Blend {
    terms: Vec<([u16; 3], u16)>,
}

impl Blend {
    fn new(palette: &[[u8; 3]], background: u8, alpha: f32) -> Self {
        let opacity = (alpha.clamp(0.0, 1.0) * 256.0).round() as u16;
        let term = |(id, color): (usize, &[u8; 3])| {
            if id == usize::from(background) {
                ([128; 3], 256)
            } else {
                (color.map(|c| u16::from(c) * opacity + (128 - opacity / 2)), 256 - opacity)
            }
        };
        Self { terms: palette.iter().enumerate().map(term).collect() }
    }

    fn row(&self, photo: &[u8], labels: &[u8], out: &mut [u8]) {
        for ((out, pixel), &label) in out.chunks_exact_mut(3).zip(photo.chunks_exact(3)).zip(labels) {
            let (add, keep) = self.terms[usize::from(label)];
            for ((out, &pixel), add) in out.iter_mut().zip(pixel).zip(add) {
                *out = ((u32::from(pixel) * u32::from(keep) + u32::from(add)) >> 8).min(255) as u8;
            }
        }
    }
}

/// Bytes that an [`OverlayLabels`] and its encoding hold, with the file but without the photo: the labels, the
/// encoder's rows, and a file of at most 2 bytes for each pixel, whose buffer may have grown to twice that. A
/// photograph takes about 0.5 at this quality.
#[must_use]
pub(crate) fn overlay_bytes(photo: Size) -> u64 {
    let size = overlay_size(photo);
    size.area() * (1 + 2 * 2) + u64::from(size.width) * (4 + 3 + 3 * 64) + 64 * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centres_lie_inside_and_cover_evenly() {
        assert_eq!((0..4).map(|x| under_centre(x, 4, 4)).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!((0..2).map(|x| under_centre(x, 2, 6)).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(under_centre(2047, 2048, 20_000), 19_995);
    }

    #[test]
    fn background_stays_and_alpha_runs_from_photo_to_colour() {
        let palette = [[9, 9, 9], [200, 0, 255]];
        let blend = |alpha| {
            let mut out = [0; 6];
            Blend::new(&palette, 0, alpha).row(&[10, 20, 255, 10, 20, 255], &[0, 1], &mut out);
            out
        };
        assert_eq!(blend(0.0), [10, 20, 255, 10, 20, 255]);
        assert_eq!(blend(1.0), [10, 20, 255, 200, 0, 255]);
        assert_eq!(blend(0.5), [10, 20, 255, 105, 10, 255]);
    }
}
