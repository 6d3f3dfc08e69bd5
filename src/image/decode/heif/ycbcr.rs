//! Conversion of luma and chroma samples to RGB (ITU-T H.273, 8.3).

use crate::error::Result;
use crate::image::decode::row::RGB;
use crate::image::header::format::unsupported;
use crate::image::header::heif::Coding;

/// Values of the matrix coefficients, with their meaning in H.273.
const IDENTITY: u16 = 0;
const UNSPECIFIED: u16 = 2;
const YCGCO: u16 = 8;

/// A decoded picture.
pub struct Frame {
    /// The luma plane, then the chroma planes if there are any, each row by row.
    pub planes: [Vec<u16>; 3],
    /// The number of samples of a row in each plane.
    pub strides: [usize; 3],
    /// Where the picture begins in the luma plane.
    pub left: usize,
    pub top: usize,
    /// Luma samples for each chroma sample, across and down; `None` if the picture is grey.
    pub chroma: Option<(usize, usize)>,
    /// Bits of a luma sample and of a chroma sample.
    pub depths: [u8; 2],
    pub full_range: bool,
    pub matrix: u16,
    /// Whether a pixel's chroma is a blend of the samples around it. If not, pixels that share a chroma sample all take
    /// it unchanged.
    pub smooth: bool,
}

impl Frame {
    /// Luma samples of a row, from the picture's first column on.
    fn luma(&self, y: usize) -> &[u16] {
        &self.row(0, y + self.top)[self.left..]
    }

    fn row(&self, plane: usize, y: usize) -> &[u16] {
        &self.planes[plane][y * self.strides[plane]..][..self.strides[plane]]
    }

    /// The chroma samples of a plane that row `y` of the picture takes; each covers `across` × `down` luma samples.
    fn chroma(&self, plane: usize, y: usize, (across, down): (usize, usize)) -> Chroma<'_> {
        let rows = self.planes[plane].len() / self.strides[plane].max(1);
        let (near, far) = neighbours(y + self.top, down, rows, self.smooth);
        let (near, far) = (self.row(plane, near), self.row(plane, far));
        Chroma { near, far, across, smooth: self.smooth }
    }
}

/// The chroma samples of a row of pixels.
struct Chroma<'a> {
    /// The row of samples that the pixels lie in, and the one that is next to them. It is the same at an edge, and if
    /// nothing is to be blended.
    near: &'a [u16],
    far: &'a [u16],
    /// How many columns a sample covers.
    across: usize,
    smooth: bool,
}

impl Chroma<'_> {
    /// The sample of column `x`: three quarters of what is near and one of what is next to it, both ways.
    fn at(&self, x: usize) -> f32 {
        let (near, far) = neighbours(x, self.across, self.near.len(), self.smooth);
        let blended = |column: usize| 3 * u32::from(self.near[column]) + u32::from(self.far[column]);
        (3 * blended(near) + blended(far)) as f32 / 16.0
    }
}

/// The chroma sample that a luma sample lies in, along one axis, and the one that it is nearest to of those beside it.
/// One of `count` chroma samples covers one luma sample or two.
fn neighbours(luma: usize, covers: usize, count: usize, smooth: bool) -> (usize, usize) {
    let near = luma / covers;
    let far = match luma % 2 {
        _ if covers == 1 || !smooth => near,
        0 => near.saturating_sub(1),
        _ => (near + 1).min(count.saturating_sub(1)),
    };
    (near, far)
}

/// Converts row `y` of the frame to RGB, as many pixels as `rgb` takes. What the file says about colours takes
/// precedence over what the coded picture says.
pub fn rgb(frame: &Frame, coding: Option<Coding>, y: usize, rgb: &mut [u8]) -> Result<()> {
    let (matrix, full_range) = coding.map_or((frame.matrix, frame.full_range), |said| (said.matrix, said.full_range));
    let luma = Scale::luma(frame.depths[0], full_range);
    let pixels = rgb.as_chunks_mut::<RGB>().0.iter_mut().zip(frame.luma(y));
    let Some(subsampled) = frame.chroma else {
        pixels.for_each(|(rgb, &grey)| rgb.fill(byte(luma.of(f32::from(grey)))));
        return Ok(());
    };
    let (first, second) = (frame.chroma(1, y, subsampled), frame.chroma(2, y, subsampled));
    let pixels = pixels.zip(frame.left..).map(|((rgb, &y), x)| (rgb, f32::from(y), first.at(x), second.at(x)));
    if matrix == IDENTITY {
        // The planes are green, blue and red, in this order.
        let other = Scale::luma(frame.depths[1], full_range);
        pixels.for_each(|(rgb, y, cb, cr)| *rgb = [other.of(cr), luma.of(y), other.of(cb)].map(byte));
        return Ok(());
    }
    let chroma = Scale::chroma(frame.depths[1], full_range);
    if matrix == YCGCO {
        pixels.for_each(|(rgb, y, cg, co)| {
            let (y, cg, co) = (luma.of(y), chroma.of(cg), chroma.of(co));
            *rgb = [y - cg + co, y + cg, y - cg - co].map(byte);
        });
        return Ok(());
    }
    let (red, blue) = weights(matrix)?;
    let green = 1.0 - red - blue;
    let (r_cr, b_cb) = (2.0 * (1.0 - red), 2.0 * (1.0 - blue));
    let (g_cr, g_cb) = (red * r_cr / green, blue * b_cb / green);
    pixels.for_each(|(rgb, y, cb, cr)| {
        let (y, cb, cr) = (luma.of(y), chroma.of(cb), chroma.of(cr));
        *rgb = [y + r_cr * cr, y - g_cb * cb - g_cr * cr, y + b_cb * cb].map(byte);
    });
    Ok(())
}

/// Converts row `y` of the frame to alpha, which always has full range.
pub fn alpha(frame: &Frame, y: usize, alpha: &mut [u8]) {
    let scale = Scale::luma(frame.depths[0], true);
    alpha.iter_mut().zip(frame.luma(y)).for_each(|(alpha, &sample)| *alpha = byte(scale.of(f32::from(sample))));
}

/// The scale that maps luma samples to 0–1 and chroma samples to ±½.
#[derive(Debug, Clone, Copy)]
struct Scale {
    zero: f32,
    factor: f32,
}

impl Scale {
    fn luma(depth: u8, full_range: bool) -> Self {
        let (zero, span) = if full_range { (0.0, most(depth)) } else { (16.0 * step(depth), 219.0 * step(depth)) };
        Self { zero, factor: 1.0 / span }
    }

    fn chroma(depth: u8, full_range: bool) -> Self {
        let span = if full_range { most(depth) } else { 224.0 * step(depth) };
        Self { zero: 128.0 * step(depth), factor: 1.0 / span }
    }

    fn of(self, sample: f32) -> f32 {
        (sample - self.zero) * self.factor
    }
}

/// The largest sample of this depth.
fn most(depth: u8) -> f32 {
    256.0 * step(depth) - 1.0
}

/// How many levels of this depth make one level of 8 bits. No depth is below 8.
fn step(depth: u8) -> f32 {
    f32::from(1u16 << (depth - 8))
}

fn byte(value: f32) -> u8 {
    (value * 255.0 + 0.5) as u8
}

/// The shares of red and blue in luma.
fn weights(matrix: u16) -> Result<(f32, f32)> {
    match matrix {
        1 => Ok((0.2126, 0.0722)),
        4 => Ok((0.30, 0.11)),
        // If the file does not say, it is BT.601, as in libheif.
        UNSPECIFIED | 5 | 6 => Ok((0.299, 0.114)),
        7 => Ok((0.212, 0.087)),
        9 => Ok((0.2627, 0.0593)),
        _ => Err(unsupported("HEIF with colours of an unusual matrix is not served; send a JPEG")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Converts one pixel of 8-bit samples.
    fn pixel(samples: [u16; 3], matrix: u16, full_range: bool) -> [u8; RGB] {
        let frame = Frame {
            planes: samples.map(|sample| vec![sample]),
            strides: [1; 3],
            left: 0,
            top: 0,
            chroma: Some((1, 1)),
            depths: [8; 2],
            full_range,
            matrix,
            smooth: true,
        };
        let mut pixel = [0; RGB];
        rgb(&frame, None, 0, &mut pixel).unwrap();
        pixel
    }

    /// The expected values come from the formulas of H.273 in exact arithmetic.
    #[test]
    fn matrices_and_ranges() {
        assert_eq!(pixel([100, 120, 200], 6, true), [201, 51, 86]);
        assert_eq!(pixel([100, 120, 200], 2, true), [201, 51, 86]);
        assert_eq!(pixel([100, 120, 200], 1, true), [213, 68, 85]);
        assert_eq!(pixel([100, 120, 200], 9, true), [206, 60, 85]);
        assert_eq!(pixel([100, 120, 200], 6, false), [213, 42, 82]);
        assert_eq!(pixel([100, 120, 200], 1, false), [227, 61, 81]);
        assert_eq!(pixel([100, 120, 200], 0, true), [200, 100, 120]);
        assert_eq!(pixel([100, 120, 200], 8, true), [180, 92, 36]);
        assert_eq!(pixel([235, 128, 128], 1, false), [255; 3]);
        assert_eq!(pixel([16, 128, 128], 1, false), [0; 3]);
        assert_eq!(pixel([255, 255, 255], 1, true), [255, 172, 255]);
    }

    #[test]
    fn deeper_samples_are_rounded() {
        let mut frame = Frame {
            planes: [vec![0, 2, 512, 1023], vec![], vec![]],
            strides: [4, 0, 0],
            left: 0,
            top: 0,
            chroma: None,
            depths: [10; 2],
            full_range: true,
            matrix: 2,
            smooth: false,
        };
        let mut grey = [0; 12];
        rgb(&frame, None, 0, &mut grey).unwrap();
        assert_eq!(grey, [0, 0, 0, 0, 0, 0, 128, 128, 128, 255, 255, 255]);
        frame.depths = [12; 2];
        let mut opacity = [0; 4];
        alpha(&frame, 0, &mut opacity);
        assert_eq!(opacity, [0, 0, 32, 64]);
    }

    /// A grey ramp of luma, and chroma of 4:2:0 whose first plane has one sample that is not neutral.
    fn ramp(smooth: bool) -> Frame {
        Frame {
            planes: [vec![100; 24], vec![128, 144, 128, 128, 128, 128], vec![128; 6]],
            strides: [6, 3, 3],
            left: 0,
            top: 0,
            chroma: Some((2, 2)),
            depths: [8; 2],
            full_range: true,
            matrix: 6,
            smooth,
        }
    }

    /// The weights of libavif: 9, 3, 3 and 1 of 16, with the edges' own samples beyond them.
    #[test]
    fn chroma_is_blended_or_shared() {
        let blue = |smooth: bool, y: usize| {
            let mut row = [0; 18];
            rgb(&ramp(smooth), None, y, &mut row).unwrap();
            row.as_chunks::<RGB>().0.iter().map(|pixel| pixel[2]).collect::<Vec<_>>()
        };
        // Blue is luma and 1.772 times what its chroma is more than 128.
        assert_eq!(blue(false, 1), [100, 100, 128, 128, 100, 100]);
        assert_eq!(blue(false, 2), [100; 6]);
        assert_eq!(blue(true, 0), [100, 107, 121, 121, 107, 100]);
        assert_eq!(blue(true, 1), [100, 105, 116, 116, 105, 100]);
        assert_eq!(blue(true, 2), [100, 102, 105, 105, 102, 100]);
        assert_eq!(blue(true, 3), [100; 6]);
    }

    #[test]
    fn an_unknown_matrix_is_unsupported() {
        let frame = Frame {
            planes: [vec![0], vec![0], vec![0]],
            strides: [1; 3],
            left: 0,
            top: 0,
            chroma: Some((1, 1)),
            depths: [8; 2],
            full_range: true,
            matrix: 11,
            smooth: false,
        };
        assert!(matches!(rgb(&frame, None, 0, &mut [0; 3]), Err(crate::error::Error::Unsupported { .. })));
    }
}
