//! The pixels of a photograph, turned upright, and streamed where the format allows it.
//!
//! Every decoder gives the rows as RGB in the order in which they are stored, and this file and `resample` turn them
//! upright. Colours are converted to sRGB where the photo has a colour profile. Alpha is given apart and is not
//! composited. Samples of 16 bits are reduced to their high byte, as Pillow's `convert("RGB")` does, except that Pillow
//! clips 16-bit grey at 255, which leaves it nearly white.

mod color;
mod frame;
mod gif;
mod guard;
#[cfg(any(feature = "avif", feature = "heic"))]
mod heif;
mod jpeg;
mod png;
mod row;
mod tiff;

pub use self::row::Row;
use self::row::{RGB, RowSink, too_few_rows};
use crate::error::Result;
use crate::geometry::Size;
use crate::image::Rgb8;
use crate::image::header::{Format, Header};
use crate::image::resample::Resampler;
use crate::memory::blob::{Blob, RESIDENT_BYTES};

/// Bytes of the source that are in memory while it is decoded, as an upper bound.
#[must_use]
pub(crate) fn source_bytes(source: &Blob, header: &Header) -> u64 {
    // A decoder that holds nothing gives rows while it reads, so pages that it has read can be let go.
    source.resident_bytes(header.held_bytes == 0)
}

/// Time that decoding and resizing take on one processor, in nanoseconds per pixel of the photo. The figures were
/// measured by `make bench`; PNG's is that of a file with 16 bits a sample.
#[must_use]
pub fn ns_per_pixel(header: &Header) -> f64 {
    match header.format {
        Format::Jpeg if header.held_bytes == 0 => 9.0,
        Format::Jpeg => 17.0,
        Format::Png | Format::WebP | Format::Bmp | Format::Gif | Format::Tiff => 21.0,
        #[cfg(feature = "avif")]
        Format::Avif => 90.0,
        #[cfg(feature = "heic")]
        Format::Heic => 50.0,
    }
}

/// Bytes that [`resized`] holds at its peak, with its result and without the source's bytes, as an upper bound.
#[must_use]
pub fn resized_bytes(header: &Header, target: Size) -> u64 {
    decoder_bytes(header) + Resampler::bytes(header.stored, header.orientation, target)
}

/// Decodes `source`, turns it upright and resizes it to `target` with Pillow's antialiased bilinear filter.
///
/// # Errors
/// `Undecodable`, also for a decoder's panic, which is caught. `Unsupported` for a variant that only the decoder
/// recognises.
pub fn resized(source: &Blob, header: &Header, target: Size) -> Result<Rgb8> {
    let mut resampler = Resampler::new(header.stored, header.orientation, target);
    stored_rows(source, header, &mut |row| {
        resampler.push(row.rgb);
        Ok(())
    })?;
    resampler.finish().ok_or_else(too_few_rows)
}

/// Bytes that [`rows`] holds at its peak, without the source's bytes, as an upper bound.
#[must_use]
pub(crate) fn rows_bytes(header: &Header) -> u64 {
    let turned = if rows_stream(header) { u64::from(header.stored.width) } else { header.stored.area() };
    decoder_bytes(header) + turned * (RGB as u64 + u64::from(header.alpha))
}

/// Calls `sink(y, row)` for every row of the upright photo at its own size, from top to bottom.
///
/// # Errors
/// `Undecodable`, or what `sink` returns.
pub fn rows(source: &Blob, header: &Header, sink: &mut dyn FnMut(u32, Row<'_>) -> Result<()>) -> Result<()> {
    if rows_stream(header) { streamed_rows(source, header, sink) } else { turned_rows(source, header, sink) }
}

/// Whether the upright rows come in the order in which they are stored.
fn rows_stream(header: &Header) -> bool {
    !header.orientation.transposes() && !header.orientation.flips_stored_rows()
}

fn streamed_rows(source: &Blob, header: &Header, sink: &mut dyn FnMut(u32, Row<'_>) -> Result<()>) -> Result<()> {
    let (mut mirrored, mut mirrored_alpha) = (Vec::new(), Vec::new());
    let mut y = 0;
    stored_rows(source, header, &mut |row| {
        let upright = if header.orientation.flips_stored_columns() {
            mirrored.clear();
            mirrored.extend(row.rgb.rchunks_exact(RGB).flatten());
            mirrored_alpha.clear();
            mirrored_alpha.extend(row.alpha.into_iter().flatten().rev());
            Row { rgb: &mirrored, alpha: row.alpha.map(|_| &mirrored_alpha[..]) }
        } else {
            row
        };
        sink(y, upright)?;
        y += 1;
        Ok(())
    })?;
    if y == header.stored.height { Ok(()) } else { Err(too_few_rows()) }
}

fn turned_rows(source: &Blob, header: &Header, sink: &mut dyn FnMut(u32, Row<'_>) -> Result<()>) -> Result<()> {
    let (stored, orientation, upright) = (header.stored, header.orientation, header.upright());
    let stride = upright.width as usize * RGB;
    let mut frame = vec![0; stride * upright.height as usize];
    let mut alpha = vec![0; if header.alpha { frame.len() / RGB } else { 0 }];
    let mut has_alpha = false;
    let place = |index: usize, length: u32, flipped: bool| if flipped { length as usize - 1 - index } else { index };
    let mut stored_y = 0;
    stored_rows(source, header, &mut |row| {
        let across = place(stored_y, stored.height, orientation.flips_stored_rows());
        has_alpha |= header.alpha && row.alpha.is_some();
        for (stored_x, pixel) in row.rgb.chunks_exact(RGB).enumerate() {
            let along = place(stored_x, stored.width, orientation.flips_stored_columns());
            let (x, y) = if orientation.transposes() { (across, along) } else { (along, across) };
            frame[y * stride + x * RGB..][..RGB].copy_from_slice(pixel);
            if has_alpha {
                alpha[y * upright.width as usize + x] = row.alpha.map_or(u8::MAX, |alpha| alpha[stored_x]);
            }
        }
        stored_y += 1;
        Ok(())
    })?;
    if stored_y != stored.height as usize {
        return Err(too_few_rows());
    }
    let mut alpha = alpha.chunks_exact(upright.width as usize).filter(|_| has_alpha);
    (0..).zip(frame.chunks_exact(stride)).try_for_each(|(y, rgb)| sink(y, Row { rgb, alpha: alpha.next() }))
}

/// Decodes the source and gives its stored rows in order. On success, there were exactly `stored.height` of them.
fn stored_rows(source: &Blob, header: &Header, sink: RowSink<'_>) -> Result<()> {
    let rows_a_release = u64::from(header.stored.height) * (RESIDENT_BYTES / 2) / source.len().max(1) as u64;
    let mut rows = 0;
    let mut released = |row: Row<'_>| {
        rows += 1;
        if rows % rows_a_release.max(1) == 0 {
            source.release();
        }
        sink(row)
    };
    let bytes: &[u8] = source;
    let decoded = guard::decoder(&mut released, |sink| match header.format {
        Format::Jpeg => jpeg::rows(bytes, header, sink),
        Format::Png => png::rows(bytes, header, sink),
        Format::Gif => gif::rows(bytes, header, sink),
        Format::Tiff => tiff::rows(bytes, header, sink),
        Format::WebP => frame::webp_rows(bytes, header, sink),
        Format::Bmp => frame::bmp_rows(bytes, header, sink),
        #[cfg(feature = "avif")]
        Format::Avif => heif::rows(bytes, header, sink),
        #[cfg(feature = "heic")]
        Format::Heic => heif::rows(bytes, header, sink),
    });
    source.release();
    decoded
}

/// Bytes that the decoder takes: what it holds of the picture, its rows and its fixed buffers.
fn decoder_bytes(header: &Header) -> u64 {
    let (a_column, fixed) = match header.format {
        Format::Jpeg => jpeg::WORKING_BYTES,
        Format::Png => png::WORKING_BYTES,
        Format::Gif => gif::WORKING_BYTES,
        Format::Tiff => tiff::WORKING_BYTES,
        Format::WebP | Format::Bmp => frame::WORKING_BYTES,
        #[cfg(feature = "avif")]
        Format::Avif => heif::WORKING_BYTES,
        #[cfg(feature = "heic")]
        Format::Heic => heif::WORKING_BYTES,
    };
    // This charges for the row as sRGB, or as it was before it was mirrored, and for its alpha.
    let width = u64::from(header.stored.width);
    header.held_bytes + width * (a_column + 2 * (RGB as u64 + 1)) + fixed + color::profile_bytes(header)
}
