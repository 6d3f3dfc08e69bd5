//! TIFF: strips are decoded row by row, and tiles one row of tiles at a time. The codecs are those of libraries. What
//! lies around them is written here, because extra samples, separate planes and partial tiles have to be put right
//! before the predictor is undone or colours are converted.

mod chunk;
mod codec;

use self::chunk::Chunk;
use super::color::{Kind, ToRgb};
use super::row::{RGB, Row, RowSink, dissociate, undecodable};
use crate::error::Result;
use crate::image::header::Header;
use crate::image::header::tiff::{Coding, Compression, Directory, MAX_SAMPLES, Photometric};

/// Working bytes a column and fixed working bytes. A column's are, for each of up to 8 planes, a packed row of two
/// bytes a sample and its 8-bit copy, then libjpeg's rows, and samples, colours, alpha and RGB together. The fixed ones
/// are the decompressors of as many planes.
pub(crate) const WORKING_BYTES: (u64, u64) = (8 * 3 + 8 + 4 + 1 + 3 + 128, MAX_SAMPLES as u64 * (256 << 10));

pub fn rows(bytes: &[u8], header: &Header, sink: RowSink<'_>) -> Result<()> {
    let directory = Directory::read(bytes).ok_or_else(|| undecodable("its directory is damaged"))?;
    let coding = directory.coding()?;
    if directory.size()? != header.stored {
        return Err(undecodable("its headers contradict each other"));
    }
    let picture = Picture { bytes, directory: &directory, coding, header };
    let mut painter = Painter::new(&picture)?;
    if directory.tile.is_some() { tiles(&picture, &mut painter, sink) } else { strips(&picture, &mut painter, sink) }
}

struct Picture<'a> {
    bytes: &'a [u8],
    directory: &'a Directory<'a>,
    coding: Coding,
    header: &'a Header,
}

impl<'a> Picture<'a> {
    fn width(&self) -> usize {
        self.header.stored.width as usize
    }

    fn height(&self) -> usize {
        self.header.stored.height as usize
    }

    /// The number of a pixel's samples that one chunk holds.
    fn samples_together(&self) -> usize {
        if self.directory.planes_apart { 1 } else { self.coding.samples }
    }

    /// The planes that hold colours or alpha and, for each, the index of the chunk at (`column`, `row`). The chunks of
    /// one plane follow those of the one before.
    fn planes(&self, column: u32, row: u32) -> impl Iterator<Item = (usize, u64)> {
        let (size, chunk) = (self.header.stored, self.coding.chunk);
        let across = u64::from(size.width.div_ceil(chunk.width));
        let a_plane = across * u64::from(size.height.div_ceil(chunk.height));
        let index = u64::from(row) * across + u64::from(column);
        let (colors, alpha) = (self.coding.photometric.colors(), self.coding.alpha);
        let planes = if self.directory.planes_apart { self.coding.samples } else { 1 };
        (0..planes)
            .filter(move |&plane| plane < colors || alpha.is_some_and(|alpha| alpha.sample == plane))
            .map(move |plane| (plane, index + plane as u64 * a_plane))
    }

    fn chunk(&self, index: u64, height: usize) -> Result<Chunk<'a>> {
        let missing = || undecodable("it lists fewer strips or tiles than it needs");
        let offset = self.directory.offsets.and_then(|offsets| offsets.get(index)).ok_or_else(missing)?;
        let rest = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..));
        let rest = rest.ok_or_else(|| undecodable("it ends before its last row"))?;
        // Some writers leave out the lengths.
        let length = match self.directory.lengths {
            Some(lengths) => usize::try_from(lengths.get(index).ok_or_else(missing)?).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        Chunk::new(&rest[..length.min(rest.len())], self.directory, &self.coding, self.samples_together(), height)
    }
}

fn strips(picture: &Picture<'_>, painter: &mut Painter, sink: RowSink<'_>) -> Result<()> {
    let (width, together) = (picture.width(), picture.samples_together());
    let strip_height = picture.coding.chunk.height as usize;
    let mut pixels = vec![0; width * picture.coding.samples];
    let mut row = vec![0; width * together];
    for strip in 0..picture.height().div_ceil(strip_height) {
        let height = strip_height.min(picture.height() - strip * strip_height);
        let mut chunks = picture
            .planes(0, strip as u32)
            .map(|(plane, index)| Ok((plane, picture.chunk(index, height)?)))
            .collect::<Result<Vec<_>>>()?;
        for _ in 0..height {
            for (plane, chunk) in &mut chunks {
                chunk.next_row(&mut row)?;
                put(&row, *plane, together, &mut pixels, picture.coding.samples);
            }
            painter.paint(&pixels, sink)?;
        }
    }
    Ok(())
}

fn tiles(picture: &Picture<'_>, painter: &mut Painter, sink: RowSink<'_>) -> Result<()> {
    let (width, together, samples) = (picture.width(), picture.samples_together(), picture.coding.samples);
    let tile = picture.coding.chunk;
    let (tile_width, tile_height) = (tile.width as usize, tile.height as usize);
    let stride = width * samples;
    let mut band = vec![0; stride * tile_height.min(picture.height())];
    let mut row = vec![0; tile_width * together];
    for down in 0..picture.height().div_ceil(tile_height) {
        let height = tile_height.min(picture.height() - down * tile_height);
        for across in 0..width.div_ceil(tile_width) {
            let left = across * tile_width;
            let seen = tile_width.min(width - left);
            for (plane, index) in picture.planes(across as u32, down as u32) {
                let mut chunk = picture.chunk(index, height)?;
                for pixels in band.chunks_exact_mut(stride).take(height) {
                    chunk.next_row(&mut row)?;
                    put(&row[..seen * together], plane, together, &mut pixels[left * samples..], samples);
                }
            }
        }
        band.chunks_exact(stride).take(height).try_for_each(|pixels| painter.paint(pixels, sink))?;
    }
    Ok(())
}

/// Puts each pixel's `together` samples in their places, the first of which is `plane`.
fn put(row: &[u8], plane: usize, together: usize, pixels: &mut [u8], samples: usize) {
    if together == samples {
        pixels[..row.len()].copy_from_slice(row);
        return;
    }
    for (pixel, from) in pixels.chunks_exact_mut(samples).zip(row.chunks_exact(together)) {
        pixel[plane..plane + together].copy_from_slice(from);
    }
}

/// Turns pixels of any number of samples into rows of RGB and alpha.
struct Painter {
    coding: Coding,
    /// The level that each value of a grey sample stands for.
    greys: [u8; 256],
    palette: Vec<[u8; RGB]>,
    colors: Vec<u8>,
    alpha: Vec<u8>,
    to_rgb: ToRgb,
}

impl Painter {
    fn new(picture: &Picture<'_>) -> Result<Self> {
        let Picture { bytes, directory, coding, header } = *picture;
        let kind = match coding.photometric {
            Photometric::WhiteIsZero | Photometric::BlackIsZero => Kind::Grey,
            Photometric::Rgb | Photometric::Palette | Photometric::YCbCr | Photometric::Lab => Kind::Rgb,
            Photometric::Cmyk => Kind::Cmyk,
        };
        let most = (1u16 << directory.bits.min(8)) - 1;
        let mut greys = [0; 256];
        for (level, grey) in (0..=most).zip(&mut greys) {
            let level = if coding.photometric == Photometric::WhiteIsZero { most - level } else { level };
            *grey = (level * (255 / most)) as u8;
        }
        let width = picture.width();
        let colors = if kind == Kind::Cmyk { 4 } else { RGB };
        Ok(Self {
            coding,
            greys,
            palette: palette(directory)?,
            colors: vec![0; width * colors],
            alpha: vec![0; if coding.alpha.is_some() { width } else { 0 }],
            to_rgb: ToRgb::new(bytes, header, kind),
        })
    }

    fn paint(&mut self, pixels: &[u8], sink: RowSink<'_>) -> Result<()> {
        let Coding { samples, photometric, compression, .. } = self.coding;
        let pixels = || pixels.chunks_exact(samples);
        let colors = match photometric {
            Photometric::WhiteIsZero | Photometric::BlackIsZero => {
                let greys = self.colors.iter_mut().zip(pixels());
                greys.for_each(|(grey, pixel)| *grey = self.greys[usize::from(pixel[0])]);
                1
            }
            Photometric::Palette => {
                let colors = self.colors.as_chunks_mut::<RGB>().0.iter_mut().zip(pixels());
                colors.for_each(|(color, pixel)| *color = self.palette[usize::from(pixel[0])]);
                RGB
            }
            // With JPEG compression, libjpeg has already converted it to RGB.
            Photometric::YCbCr if compression != Compression::Jpeg => {
                let colors = self.colors.as_chunks_mut::<RGB>().0.iter_mut().zip(pixels());
                colors.for_each(|(color, pixel)| *color = rgb_of_ycbcr(pixel[0], pixel[1], pixel[2]));
                RGB
            }
            Photometric::Lab => {
                let colors = self.colors.as_chunks_mut::<RGB>().0.iter_mut().zip(pixels());
                colors.for_each(|(color, pixel)| *color = rgb_of_lab(pixel[0], pixel[1], pixel[2]));
                RGB
            }
            Photometric::Rgb | Photometric::YCbCr | Photometric::Cmyk => {
                let count = photometric.colors();
                let colors = self.colors.chunks_exact_mut(count).zip(pixels());
                colors.for_each(|(color, pixel)| color.copy_from_slice(&pixel[..count]));
                count
            }
        };
        let row = &mut self.colors[..pixels().len() * colors];
        if let Some(alpha) = self.coding.alpha {
            self.alpha.iter_mut().zip(pixels()).for_each(|(to, pixel)| *to = pixel[alpha.sample]);
            if alpha.associated {
                dissociate(row, &self.alpha, colors);
            }
        }
        let alpha = self.coding.alpha.map(|_| &self.alpha[..]);
        sink(Row { rgb: self.to_rgb.row(row)?, alpha })
    }
}

/// Converts YCbCr to RGB as JFIF defines it.
fn rgb_of_ycbcr(y: u8, cb: u8, cr: u8) -> [u8; RGB] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|value| value.round() as u8)
}

/// Converts CIELAB at D50 to sRGB. TIFF stores the colour axes as signed numbers.
fn rgb_of_lab(l: u8, a: u8, b: u8) -> [u8; RGB] {
    /// The white point D50, and the inverse of sRGB's colorants adapted to it.
    const WHITE: [f32; 3] = [0.9642, 1.0, 0.8249];
    const TO_LINEAR: [[f32; 3]; 3] =
        [[3.134_136, -1.617_386, -0.490_662], [-0.978_795, 1.916_254, 0.033_443], [0.071_955, -0.228_977, 1.405_386]];
    let y = (f32::from(l) * (100.0 / 255.0) + 16.0) / 116.0;
    let (x, z) = (y + f32::from(a.cast_signed()) / 500.0, y - f32::from(b.cast_signed()) / 200.0);
    let ratio = |f: f32| if f > 6.0 / 29.0 { f.powi(3) } else { (f - 4.0 / 29.0) * (3.0 * 36.0 / 841.0) };
    let xyz = [ratio(x) * WHITE[0], ratio(y) * WHITE[1], ratio(z) * WHITE[2]];
    TO_LINEAR.map(|row| {
        let linear: f32 = row.iter().zip(xyz).map(|(weight, value)| weight * value).sum();
        let level = if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
        (level * 255.0).round() as u8
    })
}

/// The colours of the palette, which is stored with 16 bits a sample, all reds first. It is empty if there is none.
fn palette(directory: &Directory<'_>) -> Result<Vec<[u8; RGB]>> {
    let Some(values) = directory.palette else { return Ok(Vec::new()) };
    let count = 1u64 << directory.bits.min(8);
    let color = |index: u64| {
        let sample = |plane: u64| values.get(plane * count + index).map(|value| (value >> 8) as u8);
        Some([sample(0)?, sample(1)?, sample(2)?])
    };
    (0..count).map(color).collect::<Option<_>>().ok_or_else(|| undecodable("its palette is cut short"))
}
