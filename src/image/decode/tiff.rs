//! TIFF by bands: one row of strips or tiles at a time.

use std::io::Cursor;

use tiff::ColorType;
use tiff::TiffError;
use tiff::decoder::{ChunkType, Decoder, DecodingResult, Limits};

use super::row::{RGB, RowSink, rgb_of, rgb_of_cmyk, rgb_of_grey, undecodable};
use crate::error::{Error, Result};
use crate::image::header::Header;

/// A decoded row and its 8-bit copy (at most 8 samples of 2 bytes); decompressors and their buffers, tags.
pub(crate) const WORKING_BYTES: (u64, u64) = (16 + 8, 512 << 10);

type Source<'a> = Decoder<Cursor<&'a [u8]>>;

/// How chunks tile the picture.
struct Grid {
    /// Chunks in a row.
    across: u32,
    /// Rows of chunks.
    down: u32,
    /// Width of a whole chunk in pixels.
    chunk_width: usize,
    /// Height of a whole chunk in pixels.
    chunk_height: usize,
}

pub fn rows(bytes: &[u8], header: &Header, sink: RowSink<'_>) -> Result<()> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = usize::try_from(header.held_bytes).unwrap_or(usize::MAX);
    limits.intermediate_buffer_size = bytes.len();
    limits.ifd_value_size = bytes.len();
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(|error| damaged(&error))?.with_limits(limits);
    let size = decoder.dimensions().map_err(|error| damaged(&error))?;
    if size != (header.stored.width, header.stored.height) {
        return Err(undecodable("its headers contradict each other"));
    }
    let color = decoder.colortype().map_err(|error| damaged(&error))?;
    let grid = grid(&decoder, header);
    let stride = header.stored.width as usize * RGB;
    let mut band = vec![0; stride * grid.chunk_height];
    for row in 0..grid.down {
        let top = row as usize * grid.chunk_height;
        let height = grid.chunk_height.min(header.stored.height as usize - top);
        let band = &mut band[..height * stride];
        for column in 0..grid.across {
            let (chunk, left) = (row * grid.across + column, column as usize * grid.chunk_width * RGB);
            read_chunk(&mut decoder, color, &grid, chunk, &mut band[left..], stride)?;
        }
        band.chunks_exact(stride).try_for_each(&mut *sink)?;
    }
    Ok(())
}

fn grid(decoder: &Source<'_>, header: &Header) -> Grid {
    let (width, height) = decoder.chunk_dimensions();
    let (width, height) = match decoder.get_chunk_type() {
        ChunkType::Strip => (header.stored.width, height.min(header.stored.height)),
        ChunkType::Tile => (width, height),
    };
    Grid {
        across: header.stored.width.div_ceil(width),
        down: header.stored.height.div_ceil(height),
        chunk_width: width as usize,
        chunk_height: height.min(header.stored.height) as usize,
    }
}

/// Decodes one chunk, of every plane, into the band; `out` begins at its first pixel.
fn read_chunk(
    decoder: &mut Source<'_>,
    color: ColorType,
    grid: &Grid,
    chunk: u32,
    out: &mut [u8],
    stride: usize,
) -> Result<()> {
    let (width, height) = decoder.chunk_data_dimensions(chunk);
    let (width, height) = (width as usize, height as usize);
    let samples = usize::from(color.num_samples());
    let mut decoded = decoder.read_chunk(chunk).map_err(|error| damaged(&error))?;
    let interleaved = match color {
        ColorType::Gray(bits) if bits < 8 => (width * usize::from(bits)).div_ceil(8),
        _ => width * samples,
    };
    if sample_count(&decoded)? == interleaved * height {
        return each_row(&decoded, interleaved, out, stride, |row, rgb| to_rgb(row, color, &mut rgb[..width * RGB]));
    }
    // Planes apart: one sample a pixel in each chunk, the planes' chunks one after the other.
    if !matches!(color, ColorType::RGB(_) | ColorType::RGBA(_)) {
        return Err(unsupported("TIFF with separate planes is served for RGB only"));
    }
    for plane in 0..RGB {
        if plane > 0 {
            let index = chunk + plane as u32 * grid.across * grid.down;
            decoded = decoder.read_chunk(index).map_err(|error| damaged(&error))?;
        }
        if sample_count(&decoded)? != width * height {
            return Err(undecodable("its planes are inconsistent"));
        }
        each_row(&decoded, width, out, stride, |row, rgb| {
            for (pixel, &sample) in rgb.chunks_exact_mut(RGB).zip(row) {
                pixel[plane] = sample;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn sample_count(decoded: &DecodingResult) -> Result<usize> {
    match decoded {
        DecodingResult::U8(samples) => Ok(samples.len()),
        DecodingResult::U16(samples) => Ok(samples.len()),
        _ => Err(unsupported("TIFF is served with unsigned samples of up to 16 bits only")),
    }
}

/// Gives every row of `length` samples, as 8 bits, and its place in the band.
fn each_row(
    decoded: &DecodingResult,
    length: usize,
    out: &mut [u8],
    stride: usize,
    mut convert: impl FnMut(&[u8], &mut [u8]) -> Result<()>,
) -> Result<()> {
    match decoded {
        DecodingResult::U8(samples) => {
            samples.chunks_exact(length).zip(out.chunks_mut(stride)).try_for_each(|(row, rgb)| convert(row, rgb))
        }
        DecodingResult::U16(samples) => {
            let mut bytes = vec![0; length];
            samples.chunks_exact(length).zip(out.chunks_mut(stride)).try_for_each(|(row, rgb)| {
                for (byte, sample) in bytes.iter_mut().zip(row) {
                    *byte = (sample >> 8) as u8;
                }
                convert(&bytes, rgb)
            })
        }
        _ => Err(unsupported("TIFF is served with unsigned samples of up to 16 bits only")),
    }
}

fn to_rgb(row: &[u8], color: ColorType, rgb: &mut [u8]) -> Result<()> {
    match color {
        ColorType::Gray(bits @ (1 | 2 | 4)) => grey_of_bits(row, bits, rgb),
        ColorType::Gray(8 | 16) => rgb_of_grey(row, 1, rgb),
        ColorType::GrayA(8 | 16) | ColorType::Multiband { bit_depth: 8 | 16, num_samples: 2 } => {
            rgb_of_grey(row, 2, rgb);
        }
        ColorType::RGB(8 | 16) => rgb_of(row, 3, rgb),
        ColorType::RGBA(8 | 16) => rgb_of(row, 4, rgb),
        ColorType::CMYK(8 | 16) => rgb_of_cmyk(row, rgb),
        _ => return Err(unsupported("TIFF is served in grey, RGB and CMYK only")),
    }
    Ok(())
}

/// Packed grey samples, the first in the highest bits.
fn grey_of_bits(row: &[u8], bits: u8, rgb: &mut [u8]) {
    let most = (1u8 << bits) - 1;
    let in_a_byte = usize::from(8 / bits);
    for (x, out) in rgb.chunks_exact_mut(RGB).enumerate() {
        let shift = 8 - bits * (x % in_a_byte + 1) as u8;
        out.fill((row[x / in_a_byte] >> shift & most) * (255 / most));
    }
}

fn unsupported(detail: &str) -> Error {
    Error::Unsupported { detail: detail.into() }
}

fn damaged(error: &TiffError) -> Error {
    match error {
        TiffError::UnsupportedError(_) => unsupported("this variant of TIFF is not served; send 8-bit RGB"),
        TiffError::IoError(_) => undecodable("it ends before its last row"),
        TiffError::LimitsExceeded => undecodable("its data contradicts its header"),
        _ => undecodable("its data is damaged"),
    }
}
