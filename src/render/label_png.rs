//! PNG files of small numbers: class ids with the classes' colours as a palette or as grey levels, and person numbers
//! with a different colour each.

use super::png_rows::{Coding, PngRows, encoder_bytes};
use crate::error::{Error, Result};
use crate::geometry::Size;

/// A PNG of 8-bit labels that is written row by row.
pub struct LabelPng {
    rows: PngRows,
}

impl LabelPng {
    /// Starts a palette PNG of `size`, whose indices are the labels. `palette` must have a colour for every label that
    /// occurs, and at most 256.
    ///
    /// # Errors
    /// `Internal` for an empty palette or one of more than 256 colours.
    pub fn new(size: Size, palette: &[[u8; 3]]) -> Result<Self> {
        if palette.is_empty() || palette.len() > 256 {
            return Err(Error::internal(format!("a palette of {} colours", palette.len())));
        }
        Self::start(size, png::ColorType::Indexed, palette.concat(), file_bytes(size))
    }

    /// Starts a grey PNG of `size`, whose levels are the labels.
    ///
    /// # Errors
    /// `Internal` when the encoder does not start.
    pub fn grey(size: Size) -> Result<Self> {
        Self::grey_within(size, file_bytes(size))
    }

    /// As [`Self::grey`], with a file of at most `most_bytes`.
    pub(super) fn grey_within(size: Size, most_bytes: u64) -> Result<Self> {
        Self::start(size, png::ColorType::Grayscale, Vec::new(), most_bytes)
    }

    fn start(size: Size, color: png::ColorType, palette: Vec<u8>, most_bytes: u64) -> Result<Self> {
        let coding = Coding {
            color,
            palette,
            // Measured on drawn 1080p label maps, clean and ragged, this level needs half the bytes of level 1 or of
            // the fast encoder, in 3 to 6 ms instead of 1 to 2. Level 6 takes twice as long for 5 % fewer bytes.
            // Filters do not make runs of one class shorter, but they make the files larger.
            compression: png::DeflateCompression::Level(4),
            filter: png::Filter::NoFilter,
        };
        Ok(Self { rows: PngRows::new(size, coding, most_bytes)? })
    }

    /// Takes the next rows of labels, row-major. They must be whole ones.
    ///
    /// # Errors
    /// `TooLarge` with `Limit::Memory` when the file would pass the size that was planned for it, `Internal` when the
    /// encoder fails otherwise.
    pub fn push(&mut self, labels: &[u8]) -> Result<()> {
        self.rows.push(labels)
    }

    /// Ends the file after the last row and returns it.
    ///
    /// # Errors
    /// `Internal` when rows are missing, `TooLarge` as [`Self::push`].
    pub fn finish(self) -> Result<Vec<u8>> {
        self.rows.finish()
    }
}

/// The most bytes that a file may take. Label maps are far below it: a 1080p crowd takes 30 kB. A map is upsampled from
/// a few hundred rows of logits, so it has few edges, however large the photo.
#[must_use]
pub(crate) fn file_bytes(size: Size) -> u64 {
    const MOST: u64 = 8 << 20;
    (size.area() / 2).min(MOST) + 64 * 1024
}

/// The most bytes that a [`LabelPng`] holds, its file included.
#[must_use]
pub fn label_png_bytes(size: Size) -> u64 {
    file_bytes(size) + encoder_bytes(size.width.into())
}

/// Colour number `index` of the PASCAL VOC colour map (`VOClabelcolormap.m` of the VOC development kit). Bits 0, 1 and
/// 2 of the index become the top bits of red, green and blue, the next three bits become the bits below, and so on.
/// Colour 0 is black.
#[must_use]
pub(crate) fn voc_color(index: u8) -> [u8; 3] {
    let mut color = [0; 3];
    for position in 0..3 {
        for (channel, value) in color.iter_mut().enumerate() {
            let bit = index.checked_shr(3 * position + channel as u32).unwrap_or(0) & 1;
            *value |= bit << (7 - position);
        }
    }
    color
}

/// The palette for person numbers from 0 (nobody, black) to `persons`.
#[must_use]
pub fn instance_palette(persons: usize) -> Vec<[u8; 3]> {
    (0..=persons.min(255)).map(|number| voc_color(number as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voc_colors_are_those_of_the_development_kit() {
        assert_eq!(voc_color(0), [0, 0, 0]);
        assert_eq!(voc_color(1), [128, 0, 0]);
        assert_eq!(voc_color(2), [0, 128, 0]);
        assert_eq!(voc_color(3), [128, 128, 0]);
        assert_eq!(voc_color(7), [128, 128, 128]);
        assert_eq!(voc_color(8), [64, 0, 0]);
        assert_eq!(voc_color(15), [192, 128, 128]);
        assert_eq!(voc_color(20), [0, 64, 128]);
        assert_eq!(voc_color(255), [224, 224, 192]);
        let mut all: Vec<_> = instance_palette(255);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 256);
    }

    #[test]
    fn labels_come_back() {
        let size = Size::new(37, 19);
        let labels: Vec<u8> = (0..size.area()).map(|i| (i * i % 5) as u8).collect();
        let palette = instance_palette(4);
        let (colored, grey) = (LabelPng::new(size, &palette).unwrap(), LabelPng::grey(size).unwrap());
        for (mut png, expected) in [(colored, Some(palette.concat())), (grey, None)] {
            for rows in labels.chunks(37 * 4) {
                png.push(rows).unwrap();
            }
            let file = png.finish().unwrap();
            let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
            decoder.set_transformations(png::Transformations::IDENTITY);
            let mut reader = decoder.read_info().unwrap();
            assert_eq!(reader.info().palette.as_deref(), expected.as_deref());
            let mut out = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut out).unwrap();
            assert_eq!(out, labels);
        }
    }

    #[test]
    fn missing_rows_are_an_error() {
        let mut png = LabelPng::new(Size::new(4, 4), &instance_palette(1)).unwrap();
        png.push(&[0; 8]).unwrap();
        assert!(png.finish().is_err());
        assert!(LabelPng::new(Size::new(4, 4), &[]).is_err());
    }
}
