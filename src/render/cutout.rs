//! The people cut out of the photo: its pixels, with everything but the people transparent.

use super::label_png::{self, LabelPng};
use super::png_rows::{Coding, PngRows, encoder_bytes};
use crate::error::{Error, Result};
use crate::geometry::Size;
use crate::image::decode::Row;
use crate::parsing::Band;

/// Which pixels are people, in one bit for each pixel.
#[derive(Debug)]
pub struct Foreground {
    size: Size,
    background: u8,
    /// `[rows so far, words]`. Pixel x is bit x % 64 of word x / 64.
    bits: Vec<u64>,
}

impl Foreground {
    #[must_use]
    pub fn new(photo: Size, background: u8) -> Self {
        let words = (photo.width as usize).div_ceil(64);
        Self { size: photo, background, bits: Vec::with_capacity(words * photo.height as usize) }
    }

    /// Takes the next band.
    pub fn push(&mut self, band: &Band<'_>) {
        for row in 0..band.rows as usize {
            let words = band.label_row(row).chunks(64).map(|labels| {
                let bit = |(x, &label): (usize, &u8)| u64::from(label != self.background) << x;
                labels.iter().enumerate().map(bit).fold(0, |word, bit| word | bit)
            });
            self.bits.extend(words);
        }
    }

    fn row(&self, y: usize) -> &[u64] {
        let words = (self.size.width as usize).div_ceil(64);
        &self.bits[y * words..][..words]
    }
}

/// An RGBA PNG at the photo's size, written while the photo is decoded a second time.
pub struct Cutout {
    foreground: Foreground,
    rows: PngRows,
    rgba: Vec<u8>,
    next: u32,
}

impl Cutout {
    /// Starts the PNG. `foreground` must have taken every band.
    ///
    /// # Errors
    /// `Internal` when bands are missing.
    pub fn new(foreground: Foreground) -> Result<Self> {
        let size = foreground.size;
        if foreground.bits.len() != (size.width as usize).div_ceil(64) * size.height as usize {
            return Err(Error::internal("a cut-out without all of its bands"));
        }
        let coding = Coding {
            color: png::ColorType::Rgba,
            palette: Vec::new(),
            compression: png::DeflateCompression::FdeflateUltraFast,
            filter: png::Filter::Paeth,
        };
        let rows = PngRows::new(size, coding, file_bytes(size))?;
        Ok(Self { foreground, rows, rgba: vec![0; size.width as usize * 4], next: 0 })
    }

    /// Takes row `y` of the photo. Rows come in order. What is transparent in the photo stays so.
    ///
    /// # Errors
    /// `Internal` for a row out of order or of another width, `TooLarge` with `Limit::Memory` when the file would pass
    /// the size that was planned for it.
    pub fn push(&mut self, y: u32, row: Row<'_>) -> Result<()> {
        let rgb = row.rgb;
        let size = self.foreground.size;
        if y != self.next || y >= size.height || rgb.len() != size.width as usize * 3 {
            return Err(Error::internal(format!("row {y} of {} bytes in a cut-out of {size}", rgb.len())));
        }
        let bits = self.foreground.row(y as usize);
        for (x, (rgba, rgb)) in self.rgba.chunks_exact_mut(4).zip(rgb.chunks_exact(3)).enumerate() {
            // Transparent pixels are black, so that they compress to almost nothing and hide no part of the photo.
            let opacity = row.alpha.map_or(u8::MAX, |alpha| alpha[x]);
            let alpha = if bits[x / 64] >> (x % 64) & 1 == 1 { opacity } else { 0 };
            let mask = if alpha == 0 { 0 } else { u8::MAX };
            rgba.copy_from_slice(&[rgb[0] & mask, rgb[1] & mask, rgb[2] & mask, alpha]);
        }
        self.next += 1;
        self.rows.push(&self.rgba)
    }

    /// Ends the file after the last row and returns it.
    ///
    /// # Errors
    /// `Internal` when rows are missing, `TooLarge` as [`Self::push`].
    pub fn finish(self) -> Result<Vec<u8>> {
        self.rows.finish()
    }
}

/// The mask of a cut-out alone: a grey PNG, 255 where people are and 0 elsewhere.
pub(crate) struct PeoplePng {
    png: LabelPng,
    background: u8,
    row: Vec<u8>,
}

impl PeoplePng {
    /// # Errors
    /// `Internal` when the encoder does not start.
    pub(crate) fn new(photo: Size, background: u8) -> Result<Self> {
        Ok(Self { png: LabelPng::grey(photo)?, background, row: Vec::with_capacity(photo.width as usize) })
    }

    /// Takes the next band.
    ///
    /// # Errors
    /// As [`LabelPng::push`].
    pub(crate) fn push(&mut self, band: &Band<'_>) -> Result<()> {
        for row in 0..band.rows as usize {
            let level = |label: &u8| if *label == self.background { 0 } else { u8::MAX };
            self.row.clear();
            self.row.extend(band.label_row(row).iter().map(level));
            self.png.push(&self.row)?;
        }
        Ok(())
    }

    /// Ends the file after the last row and returns it.
    ///
    /// # Errors
    /// As [`LabelPng::finish`].
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        self.png.finish()
    }
}

/// The most bytes that a [`PeoplePng`] holds, its file included.
#[must_use]
pub(crate) fn people_bytes(photo: Size) -> u64 {
    label_png::label_png_bytes(photo) + u64::from(photo.width)
}

/// The most bytes that a file may take. It is what noise from edge to edge would take; a person who fills half a
/// photograph takes 1 byte for each pixel or less.
#[must_use]
pub(crate) fn file_bytes(photo: Size) -> u64 {
    photo.area() * 3 + 64 * 1024
}

/// Bytes that a [`Foreground`] holds while bands come.
#[must_use]
pub(crate) fn foreground_bytes(photo: Size) -> u64 {
    u64::from(photo.width.div_ceil(64)) * 8 * u64::from(photo.height)
}

/// The most bytes that a [`Cutout`] holds, foreground and file included.
#[must_use]
pub(crate) fn cutout_bytes(photo: Size) -> u64 {
    let row = u64::from(photo.width) * 4;
    foreground_bytes(photo) + file_bytes(photo) + encoder_bytes(row) + row
}
